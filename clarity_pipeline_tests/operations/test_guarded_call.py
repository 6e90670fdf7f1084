"""One call: what it spends, what it leaves behind, and that its errors stay values."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from clarity_pipeline.domain.collection import ComboOutcome, ComboStatus, PlannedCall
from clarity_pipeline.domain.dimensions import (
    DEFAULT_COMBOS,
    URL_DEVICE,
    URL_SOURCE,
    DimensionCombo,
)
from clarity_pipeline.domain.errors import DatabaseBusy
from clarity_pipeline.domain.quota import CALL_LEASE, CallOutcome, Purpose
from clarity_pipeline.export_api.client import ExportApiClient, FetchedExport, Timeouts
from clarity_pipeline.export_api.emulator import Fault
from clarity_pipeline.operations.guarded_call import GuardedCaller
from clarity_pipeline.store import connections, exports, quota_ledger
from clarity_pipeline.store.quota_ledger import CallRecord, Reservation
from clarity_pipeline.store.vault import TokenVault
from clarity_pipeline_tests.agency import DAY, Agency
from clarity_pipeline_tests.domain.replies import Visits
from clarity_pipeline_tests.factories import land_export, make_export
from clarity_pipeline_tests.faults.interruptions import STORE, before, interrupted


def caller_of(
    agency: Agency,
    *,
    vault: TokenVault | None = None,
    client: ExportApiClient | None = None,
    most_at_once: int = 16,
) -> GuardedCaller:
    return GuardedCaller(
        database=agency.database,
        vault=vault or agency.vault,
        client=client
        or ExportApiClient(base_url=agency.emulator.base_url, timeouts=Timeouts(read_seconds=1.5)),
        clock=lambda: agency.now,
        overview_default=False,
        retry_after_seconds=0,
        most_at_once=most_at_once,
    )


def planned(
    agency: Agency,
    business_id: str = "acme",
    *,
    combo: DimensionCombo = URL_DEVICE,
    purpose: Purpose = Purpose.SCHEDULE,
) -> PlannedCall:
    project_id = agency.projects[business_id].project_id
    return PlannedCall(business_id, project_id, DAY, combo, purpose)


def make(caller: GuardedCaller, *calls: PlannedCall) -> list[ComboOutcome]:
    async def one_after_the_other() -> list[ComboOutcome]:
        async with caller.client:
            return [await caller.make(call) for call in calls]

    return asyncio.run(one_after_the_other())


def ledger(agency: Agency) -> list[CallRecord]:
    return quota_ledger.list_calls(
        agency.database,
        project_id=agency.projects["acme"].project_id,
        utc_day=agency.now.date(),
    )


def test_a_call_leaves_a_settled_slot_and_an_accepted_reply(agency: Agency) -> None:
    agency.connect("acme")
    (outcome,) = make(caller_of(agency), planned(agency))
    assert (outcome.status, outcome.calls) == (ComboStatus.LANDED, 1)
    (slot,) = ledger(agency)
    assert (slot.slot, slot.outcome, slot.purpose) == (1, CallOutcome.LANDED, Purpose.SCHEDULE)
    (reply,) = exports.list_exports(agency.database, day=DAY)
    assert reply.verdict == "accepted"
    assert reply.requested_at == agency.now


@pytest.mark.parametrize(
    ("fault", "status", "slots"),
    [
        (Fault(status=401), ComboStatus.AUTH_FAILED, [CallOutcome.AUTH_FAILED]),
        (Fault(status=403), ComboStatus.AUTH_FAILED, [CallOutcome.AUTH_FAILED]),
        (Fault(status=429), ComboStatus.RATE_LIMITED, [CallOutcome.RATE_LIMITED]),
        (Fault(status=400), ComboStatus.REFUSED, [CallOutcome.REQUEST_REJECTED]),
        (Fault(status=302), ComboStatus.REFUSED, [CallOutcome.REQUEST_REJECTED]),
        (Fault(body="<html>"), ComboStatus.REFUSED, [CallOutcome.REPLY_UNREADABLE]),
        (Fault(body=""), ComboStatus.REFUSED, [CallOutcome.REPLY_UNREADABLE]),
        (
            Fault(status=500, times=None),
            ComboStatus.UNAVAILABLE,
            [CallOutcome.SERVICE_UNAVAILABLE] * 2,
        ),
        (
            Fault(drop=True, times=None),
            ComboStatus.UNAVAILABLE,
            [CallOutcome.CONNECTION_BROKEN] * 2,
        ),
        (
            Fault(delay_seconds=2, times=None),
            ComboStatus.UNAVAILABLE,
            [CallOutcome.TIMED_OUT] * 2,
        ),
        (
            Fault(truncate_at_bytes=100, times=1),
            ComboStatus.LANDED,
            [CallOutcome.CONNECTION_BROKEN, CallOutcome.LANDED],
        ),
    ],
)
def test_each_way_to_fail_spends_what_it_must_and_says_so_in_the_ledger(
    agency: Agency, fault: Fault, status: ComboStatus, slots: list[CallOutcome]
) -> None:
    agency.connect("acme")
    agency.emulator.control.add_fault(fault)
    (outcome,) = make(caller_of(agency), planned(agency))
    assert (outcome.status, outcome.calls) == (status, len(slots))
    assert [slot.outcome for slot in ledger(agency)] == slots
    assert len(agency.calls("acme")) == len(slots)


def test_a_test_of_the_connection_is_never_repeated(agency: Agency) -> None:
    agency.connect("acme")
    agency.emulator.control.add_fault(Fault(status=500, times=1))
    (outcome,) = make(caller_of(agency), planned(agency, purpose=Purpose.TEST))
    assert (outcome.status, outcome.calls) == (ComboStatus.UNAVAILABLE, 1)


def test_a_retry_takes_no_slot_that_the_schedule_still_needs(agency: Agency) -> None:
    project = agency.connect("acme")
    for number in range(6):
        quota_ledger.reserve(
            agency.database,
            project_id=project.project_id,
            business_id="acme",
            purpose=Purpose.MANUAL,
            day=DAY,
            dimension_set=f"Browser{number}",
            may_use_share=False,
            now=agency.now,
        )
    agency.emulator.control.add_fault(Fault(dimension_set="Device,URL", status=500, times=None))
    (outcome,) = make(caller_of(agency), planned(agency))
    assert (outcome.status, outcome.calls) == (ComboStatus.UNAVAILABLE, 1)
    assert outcome.error_code == "service_unavailable"


def test_a_token_that_was_just_refused_is_not_sent_a_second_time(agency: Agency) -> None:
    agency.connect("acme")
    agency.emulator.control.revoke_token(agency.projects["acme"].project_id)
    first, second = make(caller_of(agency), planned(agency), planned(agency, combo=URL_SOURCE))
    assert (first.status, first.calls) == (ComboStatus.AUTH_FAILED, 1)
    assert (second.status, second.calls) == (ComboStatus.AUTH_FAILED, 0)
    assert len(agency.calls()) == 1


def test_a_wrong_key_is_our_own_fault_and_spends_nothing(agency: Agency) -> None:
    agency.connect("acme")
    stranger = TokenVault([SecretStr("A" * 43 + "=")])
    (outcome,) = make(caller_of(agency, vault=stranger), planned(agency))
    assert (outcome.status, outcome.error_code, outcome.calls) == (
        ComboStatus.OWN_FAULT,
        "secret_key",
        0,
    )
    assert ledger(agency) == []


def test_a_reply_that_cannot_be_landed_is_our_own_fault_and_its_slot_stays_spent(
    agency: Agency,
) -> None:
    agency.connect("acme")
    with agency.database.transaction() as connection:
        connection.execute(
            text("ALTER TABLE clarity_raw_exports RENAME COLUMN body_zstd TO hidden")
        )
    (outcome,) = make(caller_of(agency), planned(agency))
    assert outcome.status is ComboStatus.OWN_FAULT
    assert outcome.calls == 1
    assert [slot.outcome for slot in ledger(agency)] == [CallOutcome.ABANDONED]


def fail_once() -> None:
    raise DatabaseBusy("The database is locked by somebody else.")


def test_a_429_counts_for_the_day_though_writing_it_down_failed_at_first(agency: Agency) -> None:
    agency.connect("acme")
    agency.emulator.control.add_fault(Fault(status=429))
    with interrupted(before(f"{STORE}.quota_ledger:settle"), fail_once) as came:
        (outcome, again) = make(caller_of(agency), planned(agency), planned(agency))
    assert came
    assert (outcome.status, outcome.calls) == (ComboStatus.OWN_FAULT, 1)
    assert again.status is ComboStatus.QUOTA_REFUSED
    assert [slot.outcome for slot in ledger(agency)] == [CallOutcome.RATE_LIMITED]


def test_a_reply_whose_verdict_could_not_be_written_is_judged_later_without_a_call(
    agency: Agency,
) -> None:
    agency.connect("acme")
    agency.emulator.control.add_fault(Fault(status=400))
    with interrupted(before(f"{STORE}.exports:judge"), fail_once) as came:
        (outcome, again) = make(caller_of(agency), planned(agency), planned(agency))
    assert came
    assert (outcome.status, outcome.calls) == (ComboStatus.OWN_FAULT, 1)
    assert (again.status, again.calls) == (ComboStatus.REFUSED, 0)
    assert [slot.outcome for slot in ledger(agency)] == [CallOutcome.REQUEST_REJECTED]
    (reply,) = exports.list_exports(agency.database, day=DAY)
    assert reply.verdict == "request_rejected"


def test_a_call_that_crosses_midnight_is_counted_on_the_day_it_was_reserved(
    agency: Agency,
) -> None:
    agency.connect("acme")
    agency.move_to(datetime(2026, 11, 2, 23, 59, 59, tzinfo=UTC))
    make(caller_of(agency), planned(agency))
    assert [slot.slot for slot in ledger(agency)] == [1]


def test_a_call_that_was_planned_before_midnight_is_not_made_after_it(agency: Agency) -> None:
    """Its answer would be about the next day, and would be stored under this one."""
    agency.connect("acme")
    agency.move_to(datetime(2026, 11, 3, 0, 0, 1, tzinfo=UTC))
    (outcome,) = make(caller_of(agency), planned(agency))
    assert (outcome.status, outcome.calls) == (ComboStatus.GAP, 0)
    assert agency.calls() == []


def make_together(caller: GuardedCaller, *calls: PlannedCall) -> list[ComboOutcome]:
    async def together() -> list[ComboOutcome]:
        async with caller.client:
            return await asyncio.gather(*(caller.make(call) for call in calls))

    return asyncio.run(together())


def made_by_somebody_else(agency: Agency, *, reserved_ago: timedelta = timedelta(0)) -> Reservation:
    """The slot of another process that is making `planned(agency)`."""
    _, fingerprint = connections.read_token(agency.database, agency.vault, "acme")
    taken = quota_ledger.reserve(
        agency.database,
        project_id=agency.projects["acme"].project_id,
        business_id="acme",
        purpose=Purpose.SCHEDULE,
        day=DAY,
        dimension_set=URL_DEVICE.dimension_set,
        token_fingerprint=fingerprint,
        may_use_share=True,
        now=agency.now - reserved_ago,
    )
    assert isinstance(taken, Reservation)
    return taken


def land_for_somebody_else(agency: Agency, *, judged: bool = True) -> int:
    return land_export(
        agency.database,
        make_export(Visits(("https://a.example/", "PC"))),
        project_id=agency.projects["acme"].project_id,
        judged=judged,
    )


def make_while(
    caller: GuardedCaller, call: PlannedCall, happens: Callable[[], object]
) -> ComboOutcome:
    """Make a call, and let something happen once it has been under way for a moment."""

    async def both() -> ComboOutcome:
        async with caller.client:
            making = asyncio.create_task(caller.make(call))
            await asyncio.sleep(0.1)
            assert not making.done()
            await asyncio.to_thread(happens)
            return await making

    return asyncio.run(both())


def test_a_call_that_somebody_else_makes_is_waited_for_and_not_made(agency: Agency) -> None:
    agency.connect("acme")
    theirs = made_by_somebody_else(agency)

    def they_finish() -> None:
        land_for_somebody_else(agency)
        quota_ledger.settle(agency.database, theirs, outcome=CallOutcome.LANDED, now=agency.now)

    outcome = make_while(caller_of(agency), planned(agency), they_finish)
    assert (outcome.status, outcome.calls) == (ComboStatus.ALREADY_LANDED, 0)
    assert agency.calls() == []
    assert len(ledger(agency)) == 1


def test_a_call_that_failed_for_somebody_else_is_made(agency: Agency) -> None:
    agency.connect("acme")
    theirs = made_by_somebody_else(agency)
    outcome = make_while(
        caller_of(agency),
        planned(agency),
        lambda: quota_ledger.settle(
            agency.database, theirs, outcome=CallOutcome.TIMED_OUT, now=agency.now
        ),
    )
    assert (outcome.status, outcome.calls) == (ComboStatus.LANDED, 1)
    assert [slot.reserved_at for slot in ledger(agency)] == [agency.now] * 2


def test_a_token_that_was_refused_to_somebody_else_meanwhile_is_not_sent(agency: Agency) -> None:
    agency.connect("acme")
    theirs = made_by_somebody_else(agency)
    outcome = make_while(
        caller_of(agency),
        planned(agency),
        lambda: quota_ledger.settle(
            agency.database, theirs, outcome=CallOutcome.AUTH_FAILED, now=agency.now
        ),
    )
    assert (outcome.status, outcome.calls) == (ComboStatus.AUTH_FAILED, 0)
    assert agency.calls() == []


def test_the_claim_of_a_process_that_died_ends_with_its_lease(agency: Agency) -> None:
    agency.connect("acme")
    made_by_somebody_else(agency, reserved_ago=CALL_LEASE)
    (outcome,) = make(caller_of(agency), planned(agency))
    assert (outcome.status, outcome.calls) == (ComboStatus.LANDED, 1)
    assert [slot.outcome for slot in ledger(agency)] == [None, CallOutcome.LANDED]


def test_a_lease_that_ends_while_it_is_waited_for_sets_the_call_free(agency: Agency) -> None:
    agency.connect("acme")
    made_by_somebody_else(agency)
    outcome = make_while(
        caller_of(agency), planned(agency), lambda: agency.move_to(agency.now + CALL_LEASE)
    )
    assert (outcome.status, outcome.calls) == (ComboStatus.LANDED, 1)


def test_nobody_waits_longer_than_a_lease_in_real_time_where_the_clock_stands(
    agency: Agency,
) -> None:
    agency.connect("acme")
    made_by_somebody_else(agency, reserved_ago=CALL_LEASE - timedelta(milliseconds=200))
    (outcome,) = make(caller_of(agency), planned(agency))
    assert (outcome.status, outcome.calls) == (ComboStatus.LANDED, 1)


def test_who_waits_for_somebody_else_holds_no_place(agency: Agency) -> None:
    agency.connect("acme")
    agency.connect("globex")
    theirs = made_by_somebody_else(agency)
    caller = caller_of(agency, most_at_once=1)

    async def globex_goes_first() -> ComboOutcome:
        async with caller.client, asyncio.timeout(60):
            waiting = asyncio.create_task(caller.make(planned(agency)))
            await asyncio.sleep(0.1)
            other = await caller.make(planned(agency, "globex"))
            assert not waiting.done()
            quota_ledger.settle(
                agency.database, theirs, outcome=CallOutcome.TIMED_OUT, now=agency.now
            )
            await waiting
            return other

    assert asyncio.run(globex_goes_first()).status is ComboStatus.LANDED


def test_a_landed_reply_that_nobody_judged_is_judged_and_not_asked_for_again(
    agency: Agency,
) -> None:
    agency.connect("acme")
    land_for_somebody_else(agency, judged=False)
    (outcome,) = make(caller_of(agency), planned(agency))
    assert (outcome.status, outcome.calls) == (ComboStatus.ALREADY_LANDED, 0)
    (reply,) = exports.list_exports(agency.database, day=DAY)
    assert reply.verdict == "accepted"
    assert ledger(agency) == agency.calls() == []


def test_a_landed_reply_that_was_refused_stays_refused_without_a_call(agency: Agency) -> None:
    agency.connect("acme")
    body = make_export(body=b"<html>")
    project_id = agency.projects["acme"].project_id
    land_export(agency.database, body, project_id=project_id, judged=False)
    (outcome,) = make(caller_of(agency), planned(agency))
    assert (outcome.status, outcome.error_code) == (ComboStatus.REFUSED, "reply_unreadable")
    assert agency.calls() == []


def test_a_landed_reply_that_cannot_be_read_back_is_asked_for_again(agency: Agency) -> None:
    agency.connect("acme")
    land_for_somebody_else(agency, judged=False)
    with agency.database.transaction() as connection:
        connection.execute(text("UPDATE clarity_raw_exports SET sha256 = 'wrong'"))
    (outcome,) = make(caller_of(agency), planned(agency))
    assert (outcome.status, outcome.calls) == (ComboStatus.LANDED, 1)


def test_a_test_of_the_connection_asks_though_the_call_is_answered_and_in_flight(
    agency: Agency,
) -> None:
    agency.connect("acme")
    made_by_somebody_else(agency)
    land_for_somebody_else(agency)
    (outcome,) = make(caller_of(agency), planned(agency, purpose=Purpose.TEST))
    assert (outcome.status, outcome.calls) == (ComboStatus.LANDED, 1)


def four_combos(agency: Agency, business_id: str = "acme") -> list[PlannedCall]:
    return [planned(agency, business_id, combo=combo) for combo in DEFAULT_COMBOS]


def test_an_expired_token_costs_one_call_of_a_project_though_all_are_asked_for_at_once(
    agency: Agency,
) -> None:
    agency.connect("acme")
    agency.emulator.control.revoke_token(agency.projects["acme"].project_id)
    outcomes = make_together(caller_of(agency), *four_combos(agency))
    assert {outcome.status for outcome in outcomes} == {ComboStatus.AUTH_FAILED}
    assert sum(outcome.calls for outcome in outcomes) == len(agency.calls()) == 1


def test_a_call_that_failed_says_nothing_of_the_token_so_the_next_goes_alone_too(
    agency: Agency,
) -> None:
    agency.connect("acme")
    agency.emulator.control.add_fault(Fault(status=500, times=1))
    agency.emulator.control.add_fault(Fault(status=401, times=None))
    outcomes = make_together(caller_of(agency), *four_combos(agency))
    assert len(agency.calls()) == 2
    assert ComboStatus.AUTH_FAILED in {outcome.status for outcome in outcomes}


class CountingClient(ExportApiClient):
    """The real client; says how many calls are out, and holds back until `together` of them are."""

    def __init__(self, base_url: str, *, together: int, alone_first: int) -> None:
        super().__init__(base_url=base_url)
        self._together, self._alone_first = together, alone_first
        self._all_out = asyncio.Event()
        self.out = self.calls = 0
        self.most_out: list[int] = []

    async def fetch(self, *args: Any, **kwargs: Any) -> FetchedExport:
        self.out += 1
        self.calls += 1
        self.most_out.append(self.out)
        if self.calls > self._alone_first:
            if self.out == self._together:
                self._all_out.set()
            async with asyncio.timeout(60):
                await self._all_out.wait()
        try:
            return await super().fetch(*args, **kwargs)
        finally:
            self.out -= 1


def test_the_first_call_of_a_project_goes_alone_and_then_the_others_together(
    agency: Agency,
) -> None:
    agency.connect("acme")
    client = CountingClient(agency.emulator.base_url, together=3, alone_first=1)
    outcomes = make_together(caller_of(agency, client=client), *four_combos(agency))
    assert {outcome.status for outcome in outcomes} == {ComboStatus.LANDED}
    assert client.most_out == [1, 1, 2, 3]


def test_the_first_calls_of_different_projects_overlap(agency: Agency) -> None:
    for business_id in ("acme", "globex", "initech"):
        agency.connect(business_id)
    client = CountingClient(agency.emulator.base_url, together=3, alone_first=0)
    calls = [planned(agency, business_id) for business_id in agency.projects]
    make_together(caller_of(agency, client=client), *calls)
    assert client.most_out == [1, 2, 3]


def test_no_more_calls_than_allowed_are_out_at_once(agency: Agency) -> None:
    for number in range(4):
        agency.connect(f"b{number}")
    client = CountingClient(agency.emulator.base_url, together=2, alone_first=0)
    calls = [planned(agency, business_id) for business_id in agency.projects]
    make_together(caller_of(agency, client=client, most_at_once=2), *calls)
    assert max(client.most_out) == 2


def test_when_nobody_gets_a_connection_the_rest_is_not_sent_and_is_our_own_fault(
    agency: Agency,
) -> None:
    names = [f"b{number}" for number in range(5)]
    for name in names:
        agency.connect(name)
    agency.emulator.control.add_fault(Fault(drop=True, times=None))
    outcomes = make(caller_of(agency), *[planned(agency, name) for name in names])
    assert [(outcome.error_code, outcome.calls) for outcome in outcomes] == [
        ("connection_broken", 2),
        ("connection_broken", 2),
        ("network", 1),
        ("network", 0),
        ("network", 0),
    ]
    assert {outcome.status for outcome in outcomes[2:]} == {ComboStatus.OWN_FAULT}
    assert len(agency.calls()) == 5


def test_a_single_business_without_a_connection_is_not_the_network(agency: Agency) -> None:
    agency.connect("acme")
    agency.emulator.control.add_fault(Fault(drop=True, times=None))
    outcomes = make(caller_of(agency), *four_combos(agency))
    assert {outcome.error_code for outcome in outcomes} == {"connection_broken"}


def test_a_429_before_our_ledger_reached_ten_says_that_somebody_else_uses_the_project(
    agency: Agency,
) -> None:
    project = agency.connect("acme")
    agency.emulator.control.set_quota_used(project.project_id, used=8)
    outcomes = make(caller_of(agency), *four_combos(agency))
    assert [outcome.status for outcome in outcomes] == [
        ComboStatus.LANDED,
        ComboStatus.LANDED,
        ComboStatus.RATE_LIMITED,
        ComboStatus.QUOTA_REFUSED,
    ]
    for outcome in outcomes[2:]:
        assert outcome.message is not None
        assert "only 3 of its 10 calls were ours: another tool uses this project" in outcome.message


def test_a_call_that_is_given_up_leaves_its_slot_abandoned_and_no_claim(agency: Agency) -> None:
    agency.connect("acme")
    client = CountingClient(agency.emulator.base_url, together=2, alone_first=0)
    caller = caller_of(agency, client=client)

    async def given_up() -> None:
        async with caller.client:
            making = asyncio.create_task(caller.make(planned(agency)))
            while client.out == 0:
                await asyncio.sleep(0.01)
            making.cancel()
            await asyncio.gather(making, return_exceptions=True)

    asyncio.run(given_up())
    assert [slot.outcome for slot in ledger(agency)] == [CallOutcome.ABANDONED]
    (outcome,) = make(caller_of(agency), planned(agency))
    assert outcome.status is ComboStatus.LANDED
