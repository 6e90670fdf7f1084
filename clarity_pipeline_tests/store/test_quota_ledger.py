"""Ten calls per project and UTC day, whoever asks and however many ask at once."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Collection
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from clarity_pipeline.domain.dimensions import DEFAULT_COMBOS, OVERVIEW, URL_COUNTRY, URL_DEVICE
from clarity_pipeline.domain.errors import QuotaRefused, UnknownBusiness
from clarity_pipeline.domain.exports import Verdict
from clarity_pipeline.domain.quota import (
    CALL_LEASE,
    AlreadyLanded,
    CallOutcome,
    InFlight,
    Purpose,
)
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.store import businesses, connections, exports, quota_ledger, sync_jobs
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.quota_ledger import Reservation
from clarity_pipeline.store.schema import api_calls
from clarity_pipeline.store.vault import TokenVault
from clarity_pipeline_tests.domain.replies import Visits
from clarity_pipeline_tests.factories import DAY, NOW, connect_business, land_export, make_export
from clarity_pipeline_tests.store.races import all_at_once

PROJECT = "abc123xyz0"
TODAY = NOW.date()


@pytest.fixture
def connected(database: Database, vault: TokenVault) -> Database:
    """A database with one business, connected to PROJECT."""
    connect_business(database, vault, project_id=PROJECT)
    return database


_NUMBERS = itertools.count()


def ask(
    database: Database,
    *,
    dimension_set: str | None = None,
    business_id: str = "acme",
    purpose: Purpose = Purpose.SCHEDULE,
    project_id: str = PROJECT,
    day: date = DAY,
    num_of_days: int = 1,
    later: timedelta = timedelta(0),
    unreadable: Collection[int] = (),
    answered_since: datetime | None = None,
) -> Reservation | AlreadyLanded | InFlight:
    """Ask for a slot; for a call that nobody else asks for, unless told otherwise."""
    return quota_ledger.reserve(
        database,
        project_id=project_id,
        business_id=business_id,
        purpose=purpose,
        day=day,
        dimension_set=f"Set{next(_NUMBERS)}" if dimension_set is None else dimension_set,
        num_of_days=num_of_days,
        token_fingerprint="f1",
        may_use_share=purpose is Purpose.SCHEDULE,
        unreadable=unreadable,
        answered_since=answered_since,
        now=NOW + later,
    )


def take(
    database: Database,
    *,
    dimension_set: str | None = None,
    business_id: str = "acme",
    purpose: Purpose = Purpose.SCHEDULE,
    project_id: str = PROJECT,
    num_of_days: int = 1,
    later: timedelta = timedelta(0),
) -> Reservation:
    taken = ask(
        database,
        dimension_set=dimension_set,
        business_id=business_id,
        purpose=purpose,
        project_id=project_id,
        num_of_days=num_of_days,
        later=later,
    )
    assert isinstance(taken, Reservation)
    return taken


def take_test(database: Database, dimension_set: str = "OS") -> Reservation:
    return take(database, purpose=Purpose.TEST, dimension_set=dimension_set)


def kept(database: Database, *, overview_default: bool = False) -> int:
    return quota_ledger.quota_state(
        database, project_id=PROJECT, now=NOW, overview_default=overview_default
    ).kept


def finish_schedule(database: Database, business_id: str = "acme") -> None:
    job_id = start(database, Trigger.SCHEDULE, business_id)
    sync_jobs.settle_job(
        database,
        job_id=job_id,
        status=JobStatus.FAILED,
        calls_used=0,
        combos={},
        error_code=None,
        error_message=None,
        now=NOW,
    )


def start(database: Database, trigger: Trigger, business_id: str = "acme") -> int:
    return sync_jobs.start_jobs(
        database,
        business_ids=[business_id],
        day=DAY,
        trigger=trigger,
        dagster_run_id=f"{trigger}-{business_id}",
        now=NOW,
    )[business_id]


def test_slots_are_numbered_one_to_ten_and_the_eleventh_is_refused(connected: Database) -> None:
    assert [take(connected).slot for _ in range(10)] == list(range(1, 11))
    with pytest.raises(QuotaRefused, match=r"All 10 .* used; they come back at 2026-11-03 00:00"):
        take(connected)


def test_a_refusal_says_when_the_calls_come_back(connected: Database) -> None:
    for _ in range(10):
        take(connected)
    with pytest.raises(QuotaRefused) as caught:
        take(connected)
    assert caught.value.resets_at.isoformat() == "2026-11-03T00:00:00+00:00"


def test_the_database_itself_knows_no_eleventh_slot(connected: Database) -> None:
    for slot in (0, 11):
        with pytest.raises(IntegrityError), connected.transaction() as connection:
            connection.execute(
                insert(api_calls).values(
                    project_id=PROJECT,
                    utc_day=TODAY,
                    slot=slot,
                    business_id="acme",
                    purpose="manual",
                    dimension_set="",
                    reserved_at=NOW,
                )
            )


def test_a_new_utc_day_and_another_project_have_ten_of_their_own(connected: Database) -> None:
    for _ in range(10):
        take(connected)
    assert take(connected, later=timedelta(days=1)).slot == 1
    assert take(connected, project_id="other12345").slot == 1


def test_the_day_of_a_call_is_the_utc_day(connected: Database) -> None:
    just_before = take(connected, later=-timedelta(minutes=16))
    assert just_before.utc_day == DAY
    assert take(connected).utc_day == TODAY


def test_a_slot_is_never_given_back_whatever_became_of_it(connected: Database) -> None:
    for outcome in CallOutcome:
        if outcome is CallOutcome.RATE_LIMITED:
            continue
        reservation = take(connected)
        quota_ledger.settle(connected, reservation, outcome=outcome, now=NOW)
    state = quota_ledger.quota_state(connected, project_id=PROJECT, now=NOW)
    assert state.used == len(CallOutcome) - 1


def test_a_rate_limited_call_pins_the_day_as_spent(connected: Database) -> None:
    reservation = take(connected)
    quota_ledger.settle(connected, reservation, outcome=CallOutcome.RATE_LIMITED, now=NOW)
    with pytest.raises(QuotaRefused, match=r"Clarity says .* used up"):
        take(connected)
    state = quota_ledger.quota_state(connected, project_id=PROJECT, now=NOW)
    assert (state.used, state.rate_limited, state.free) == (1, True, 0)
    assert take(connected, later=timedelta(days=1)).slot == 1


def test_the_first_outcome_of_a_call_stands(connected: Database) -> None:
    reservation = take(connected)
    quota_ledger.settle(connected, reservation, outcome=CallOutcome.TIMED_OUT, now=NOW)
    later = NOW + timedelta(hours=1)
    quota_ledger.settle(connected, reservation, outcome=CallOutcome.LANDED, now=later)
    (call,) = quota_ledger.list_calls(connected, project_id=PROJECT, utc_day=TODAY)
    assert (call.outcome, call.settled_at) == (CallOutcome.TIMED_OUT, NOW)


def test_the_ledger_says_who_took_which_slot_for_what(connected: Database) -> None:
    take_test(connected)
    (call,) = quota_ledger.list_calls(connected, project_id=PROJECT, utc_day=TODAY)
    assert call == quota_ledger.CallRecord(
        slot=1,
        business_id="acme",
        purpose=Purpose.TEST,
        dimension_set="OS",
        num_of_days=1,
        token_fingerprint="f1",
        reserved_at=NOW,
        settled_at=None,
        outcome=None,
    )


def test_an_unknown_business_takes_no_slot(connected: Database) -> None:
    with pytest.raises(UnknownBusiness):
        take(connected, business_id="nobody")
    assert quota_ledger.quota_state(connected, project_id=PROJECT, now=NOW).used == 0


def test_tests_leave_the_schedule_its_share_until_its_run_has_settled(connected: Database) -> None:
    for _ in range(6):
        take_test(connected)
    with pytest.raises(QuotaRefused, match=r"6 of 10 .* kept for the daily sync \(4\)"):
        take_test(connected)
    for combo in DEFAULT_COMBOS[:2]:
        take(connected, dimension_set=combo.dimension_set)
    with pytest.raises(QuotaRefused):
        take_test(connected)
    finish_schedule(connected)
    assert take_test(connected).slot == 9


def test_a_manual_sync_of_the_very_calls_that_are_owed_is_not_held_back(
    connected: Database,
) -> None:
    for _ in range(6):
        take_test(connected)
    for slot, combo in enumerate(DEFAULT_COMBOS, start=7):
        reservation = take(connected, purpose=Purpose.MANUAL, dimension_set=combo.dimension_set)
        assert reservation.slot == slot


def test_a_running_schedule_still_owes_its_calls(connected: Database) -> None:
    start(connected, Trigger.SCHEDULE)
    assert kept(connected) == 4


def test_only_the_settled_run_of_the_schedule_releases_its_share(connected: Database) -> None:
    job_id = start(connected, Trigger.MANUAL)
    sync_jobs.settle_job(
        connected,
        job_id=job_id,
        status=JobStatus.FAILED,
        calls_used=0,
        combos={},
        error_code=None,
        error_message=None,
        now=NOW,
    )
    assert kept(connected) == 4
    finish_schedule(connected)
    assert kept(connected) == 0


def test_what_has_landed_is_not_owed_whatever_it_turned_out_to_be(connected: Database) -> None:
    export_id = land_export(connected, make_export(Visits(("https://a/", "PC"))), judged=False)
    assert kept(connected) == 3
    exports.judge(
        connected,
        export_id=export_id,
        verdict=Verdict.REPLY_UNREADABLE,
        summary=None,
        detail="cut off",
    )
    assert kept(connected) == 3


def test_a_longer_window_and_another_day_pay_nothing_off(connected: Database) -> None:
    land_export(connected, make_export(num_of_days=3))
    land_export(connected, make_export(), day=DAY - timedelta(days=1))
    assert kept(connected) == 4


def test_a_call_in_flight_is_not_owed_a_second_time(connected: Database) -> None:
    reservation = take(connected, dimension_set=URL_DEVICE.dimension_set)
    assert kept(connected) == 3
    quota_ledger.settle(connected, reservation, outcome=CallOutcome.TIMED_OUT, now=NOW)
    assert kept(connected) == 4


def test_each_business_of_a_project_owes_its_own_calls(
    connected: Database, vault: TokenVault
) -> None:
    connect_business(connected, vault, business_id="second", project_id=PROJECT)
    assert kept(connected) == 8
    finish_schedule(connected)
    assert kept(connected) == 4


@pytest.mark.parametrize("leave", ["pause", "disconnect"])
def test_a_business_that_is_not_synced_owes_nothing(connected: Database, leave: str) -> None:
    if leave == "pause":
        connections.set_enabled(connected, business_id="acme", enabled=False, now=NOW)
    else:
        connections.disconnect(connected, business_id="acme", now=NOW)
    assert kept(connected) == 0


def test_the_overview_is_owed_where_the_setting_or_the_business_wants_it(
    connected: Database,
) -> None:
    assert kept(connected, overview_default=True) == 5
    connections.set_overview(connected, business_id="acme", overview=False, now=NOW)
    assert kept(connected, overview_default=True) == 4
    connections.set_overview(connected, business_id="acme", overview=True, now=NOW)
    assert kept(connected) == 5
    take(connected, dimension_set=OVERVIEW.dimension_set)
    assert kept(connected) == 4


def test_no_more_is_kept_than_there_is_left(connected: Database, vault: TokenVault) -> None:
    for number in range(3):
        connect_business(connected, vault, business_id=f"more{number}", project_id=PROJECT)
    for business_id in ("acme", "more0"):
        take(connected, dimension_set=URL_COUNTRY.dimension_set, business_id=business_id)
    state = quota_ledger.quota_state(connected, project_id=PROJECT, now=NOW)
    assert (state.used, state.kept, state.free) == (2, 8, 0)


def test_sixty_threads_get_ten_distinct_slots(connected: Database) -> None:
    def race(_: int) -> int | None:
        try:
            return take(connected).slot
        except QuotaRefused:
            return None

    answers = all_at_once(race, range(60))
    assert sorted(slot for slot in answers if slot is not None) == list(range(1, 11))


# Eight threads ask three times each; an error in any of them ends the process with a failure.
RACE_IN_A_PROCESS = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from clarity_pipeline.domain.errors import QuotaRefused
from clarity_pipeline.domain.quota import Purpose
from clarity_pipeline.store import quota_ledger
from clarity_pipeline.store.database import Database

url, now = sys.argv[1], datetime.fromisoformat(sys.argv[2])

def race(_):
    try:
        return [quota_ledger.reserve(
            database, project_id="abc123xyz0", business_id="acme", purpose=Purpose.TEST,
            day=now.date(), dimension_set="Device,URL", may_use_share=True, now=now).slot]
    except QuotaRefused:
        return []

with Database.open(url) as database, ThreadPoolExecutor(8) as threads:
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(sum(threads.map(race, range(24)), [])))
"""


def test_processes_full_of_threads_get_ten_distinct_slots_between_them(
    database_url: str, vault: TokenVault
) -> None:
    with Database.open(database_url) as database:
        connect_business(database, vault, project_id=PROJECT)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RACE_IN_A_PROCESS, database_url, NOW.isoformat()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(5)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    slots = [slot for process in processes for slot in json.loads(process.communicate()[0])]
    assert [process.returncode for process in processes] == [0] * 5
    assert sorted(slots) == list(range(1, 11))


def test_the_share_holds_while_tests_and_the_schedule_race(connected: Database) -> None:
    """Twenty tests against the schedule's four calls: the schedule gets all of its own."""

    def race(call: tuple[Purpose, str]) -> Purpose | None:
        purpose, dimension_set = call
        try:
            return take(connected, purpose=purpose, dimension_set=dimension_set).purpose
        except QuotaRefused:
            return None

    wanted = [(Purpose.TEST, "OS")] * 20
    wanted += [(Purpose.SCHEDULE, combo.dimension_set) for combo in DEFAULT_COMBOS]
    granted = all_at_once(race, wanted)
    assert granted.count(Purpose.SCHEDULE) == 4
    assert granted.count(Purpose.TEST) == 6


def test_a_business_added_but_not_connected_owes_nothing(database: Database) -> None:
    businesses.add_business(database, business_id="acme", name="Acme", now=NOW)
    assert kept(database) == 0


DEVICE = URL_DEVICE.dimension_set


def settle(database: Database, reservation: Reservation, outcome: CallOutcome) -> None:
    quota_ledger.settle(database, reservation, outcome=outcome, now=NOW)


def slots_used(database: Database) -> int:
    return quota_ledger.quota_state(database, project_id=PROJECT, now=NOW).used


def outcomes_in_ledger(database: Database) -> list[CallOutcome | None]:
    calls = quota_ledger.list_calls(database, project_id=PROJECT, utc_day=TODAY)
    return [call.outcome for call in calls]


def settle_left_behind(database: Database, *, later: timedelta = timedelta(0)) -> int:
    return quota_ledger.settle_left_behind(
        database, project_ids=[PROJECT], utc_days=[DAY, TODAY], now=NOW + later
    )


@pytest.mark.parametrize("purpose", [p for p in Purpose if p is not Purpose.TEST])
def test_a_call_in_flight_gets_no_second_slot_until_its_lease_is_over(
    connected: Database, purpose: Purpose
) -> None:
    take(connected, dimension_set=DEVICE)
    just_before = CALL_LEASE - timedelta(microseconds=1)
    for later in (timedelta(0), just_before):
        found = ask(connected, dimension_set=DEVICE, purpose=purpose, later=later)
        assert found == InFlight(
            utc_day=TODAY, slot=1, until=NOW + CALL_LEASE, token_fingerprint="f1"
        )
    assert slots_used(connected) == 1
    assert take(connected, dimension_set=DEVICE, purpose=purpose, later=CALL_LEASE).slot == 2


def test_a_call_that_failed_is_nobodys_claim(connected: Database) -> None:
    settle(connected, take(connected, dimension_set=DEVICE), CallOutcome.TIMED_OUT)
    assert take(connected, dimension_set=DEVICE).slot == 2


def test_another_combo_window_or_business_is_another_call(
    connected: Database, vault: TokenVault
) -> None:
    connect_business(connected, vault, business_id="second", project_id=PROJECT)
    take(connected, dimension_set=DEVICE)
    take(connected, dimension_set=DEVICE, num_of_days=2)
    take(connected, dimension_set=DEVICE, business_id="second")
    take(connected, dimension_set=URL_COUNTRY.dimension_set)


def test_an_answered_call_gets_no_slot_and_says_what_the_answer_was(connected: Database) -> None:
    export_id = land_export(connected, make_export(Visits(("https://a/", "PC"))), judged=False)
    assert ask(connected, dimension_set=DEVICE) == AlreadyLanded(export_id, None, None)
    exports.judge(
        connected,
        export_id=export_id,
        verdict=Verdict.REPLY_UNREADABLE,
        summary=None,
        detail="cut off",
    )
    assert ask(connected, dimension_set=DEVICE) == AlreadyLanded(
        export_id, Verdict.REPLY_UNREADABLE, "cut off"
    )
    accepted = land_export(connected, make_export(Visits(("https://a/", "PC"))))
    assert ask(connected, dimension_set=DEVICE) == AlreadyLanded(accepted, Verdict.ACCEPTED, None)
    assert slots_used(connected) == 0


def test_the_answer_to_another_day_or_window_is_no_answer(connected: Database) -> None:
    land_export(connected, make_export(num_of_days=2))
    land_export(connected, make_export(), day=DAY - timedelta(days=1))
    assert take(connected, dimension_set=DEVICE).slot == 1


def test_a_reply_that_was_asked_for_too_early_is_no_answer(connected: Database) -> None:
    """A pair of replies must be of one instant: another of hours ago is no half of it."""
    export_id = land_export(connected, make_export(Visits(("https://a/", "PC"))))

    def found(answered_since: datetime) -> Reservation | AlreadyLanded | InFlight:
        return ask(connected, dimension_set=DEVICE, answered_since=answered_since)

    assert found(NOW) == AlreadyLanded(export_id, Verdict.ACCEPTED, None)
    assert isinstance(found(NOW + timedelta(seconds=1)), Reservation)


def test_a_reply_that_cannot_be_read_back_does_not_count(connected: Database) -> None:
    damaged = land_export(connected, make_export(), judged=False)
    assert isinstance(ask(connected, dimension_set=DEVICE, unreadable=[damaged]), Reservation)


def test_a_test_asks_whatever_has_landed_and_whoever_is_asking(connected: Database) -> None:
    land_export(connected, make_export(Visits(("https://a/", "PC"))))
    assert take(connected, dimension_set=DEVICE, purpose=Purpose.TEST).slot == 1
    assert take(connected, dimension_set=DEVICE, purpose=Purpose.TEST).slot == 2


def test_twenty_threads_that_want_the_same_call_get_one_slot(connected: Database) -> None:
    answers = all_at_once(lambda _: ask(connected, dimension_set=DEVICE), range(20))
    assert sum(isinstance(answer, Reservation) for answer in answers) == 1
    assert slots_used(connected) == 1


def test_a_call_of_a_dead_process_is_owed_again_and_a_longer_window_never_paid_it_off(
    connected: Database,
) -> None:
    take(connected, dimension_set=DEVICE, num_of_days=2)
    assert kept(connected) == 4
    take(connected, dimension_set=DEVICE)
    assert kept(connected) == 3
    state = quota_ledger.quota_state(connected, project_id=PROJECT, now=NOW + CALL_LEASE)
    assert state.kept == 4


def test_a_longer_window_takes_no_slot_that_is_owed_to_the_day_itself(connected: Database) -> None:
    for _ in range(6):
        take_test(connected)
    with pytest.raises(QuotaRefused, match="kept for the daily sync"):
        take(connected, dimension_set=DEVICE, num_of_days=2, purpose=Purpose.RECOVERY)


def test_a_slot_left_behind_without_a_reply_is_abandoned_once_its_lease_is_over(
    connected: Database,
) -> None:
    take(connected, dimension_set=DEVICE)
    assert settle_left_behind(connected, later=CALL_LEASE - timedelta(seconds=1)) == 0
    assert outcomes_in_ledger(connected) == [None]
    assert settle_left_behind(connected, later=CALL_LEASE) == 1
    assert outcomes_in_ledger(connected) == [CallOutcome.ABANDONED]
    assert settle_left_behind(connected, later=CALL_LEASE) == 0
    assert slots_used(connected) == 1


@pytest.mark.parametrize("verdict", [None, *Verdict])
def test_a_slot_left_behind_whose_reply_landed_is_what_the_reply_was(
    connected: Database, verdict: Verdict | None
) -> None:
    take(connected, dimension_set=DEVICE)
    export_id = land_export(connected, make_export(), judged=False)
    if verdict is not None:
        exports.judge(
            connected, export_id=export_id, verdict=verdict, summary=None, detail="as it was"
        )
    assert settle_left_behind(connected) == 1
    expected = "landed" if verdict in {None, Verdict.ACCEPTED} else verdict
    assert outcomes_in_ledger(connected) == [expected]


@pytest.mark.parametrize(
    "other",
    [
        {"slot": 2},
        {"project_id": "other12345"},
        {"export": make_export(combo=URL_COUNTRY)},
        {"export": make_export(num_of_days=2)},
        {"export": make_export(requested_at=NOW - timedelta(days=1))},
        {"export": make_export(requested_at=NOW + timedelta(days=1))},
    ],
)
def test_the_reply_of_another_slot_settles_nothing(
    connected: Database, other: dict[str, Any]
) -> None:
    take(connected, dimension_set=DEVICE)
    values: dict[str, Any] = {"export": make_export(), **other}
    land_export(connected, **values, judged=False)
    assert settle_left_behind(connected) == 0


def test_only_the_project_days_asked_for_are_settled_and_a_settled_slot_stays_as_it_is(
    connected: Database,
) -> None:
    settle(connected, take(connected), CallOutcome.TIMED_OUT)
    take(connected)
    take(connected, project_id="other12345")
    long_ago = quota_ledger.settle_left_behind(
        connected, project_ids=[PROJECT], utc_days=[DAY], now=NOW + timedelta(days=1)
    )
    assert long_ago == 0
    assert settle_left_behind(connected, later=timedelta(days=1)) == 1
    assert outcomes_in_ledger(connected) == [CallOutcome.TIMED_OUT, CallOutcome.ABANDONED]
    (other,) = quota_ledger.list_calls(connected, project_id="other12345", utc_day=TODAY)
    assert other.outcome is None
