"""When people are told something, when they are left in peace, and in what words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarity_pipeline.domain.connections import ConnectionState
from clarity_pipeline.domain.notices import (
    LONGEST_RETRY_AFTER,
    OK,
    ConnectionStanding,
    FinishedRun,
    Notice,
    Severity,
    check_notice,
    connection_notices,
    connections_have_told,
    first_sentence,
    history_check_notice,
    is_news,
    refused_by,
    retry_after,
    run_notices,
)
from clarity_pipeline.domain.sync_jobs import JobStatus
from clarity_pipeline_tests.factories import DAY, NOW

HOUR = timedelta(hours=1)

FINE = ConnectionStanding(
    business_id="acme",
    name="Acme",
    project_id="abc123xyz0",
    state=ConnectionState.CONNECTED,
    is_enabled=True,
    is_expected=True,
    disabled_at=None,
    day=DAY,
    landed=4,
    due=4,
    job=JobStatus.SUCCEEDED,
    job_day=DAY,
    error_code=None,
    reason=None,
    attempted_at=NOW,
    worked_at=NOW,
    test_failed_at=None,
    token_expires_at=None,
    calls_come_back_at=NOW + 24 * HOUR,
)


def failing(business_id: str, code: str = "timed_out") -> ConnectionStanding:
    return replace(
        FINE,
        business_id=business_id,
        name=business_id.title(),
        state=ConnectionState.FAILING,
        landed=0,
        job=JobStatus.FAILED,
        error_code=code,
        reason="Clarity did not answer in time. Nothing is lost.",
    )


def late(business_id: str) -> ConnectionStanding:
    return replace(
        FINE,
        business_id=business_id,
        state=ConnectionState.LATE,
        landed=0,
        job_day=DAY - timedelta(days=2),
        attempted_at=NOW - 48 * HOUR,
    )


def about(subject: str, *standings: ConnectionStanding) -> Notice | None:
    found = connection_notices(standings, now=NOW)
    return next((notice for notice in found if notice.subject == subject), None)


def troubles(*standings: ConnectionStanding) -> dict[str, str]:
    return {
        notice.subject: notice.state
        for notice in connection_notices(standings, now=NOW)
        if notice.state != OK and notice.severity is not Severity.SILENT
    }


@dataclass
class Told:
    state: str
    severity: Severity = Severity.ERROR
    created_at: datetime = NOW


WELL = Notice(subject="s", state=OK, severity=Severity.RECOVERY, title="", body="")
BAD = Notice(subject="s", state="bad", severity=Severity.ERROR, title="", body="")
PAUSED = Notice(subject="s", state="paused", severity=Severity.SILENT, title="", body="")
WAS_WELL, WAS_BAD = Told(OK, Severity.RECOVERY), Told("bad")
WAS_PAUSED = Told("paused", Severity.SILENT)


@pytest.mark.parametrize(
    ("notice", "latest", "news"),
    [
        (BAD, None, True),
        (BAD, WAS_WELL, True),
        (BAD, WAS_BAD, False),
        (BAD, Told("worse"), True),
        (BAD, WAS_PAUSED, True),
        (WELL, None, False),
        (WELL, WAS_WELL, False),
        (WELL, WAS_BAD, True),
        (WELL, WAS_PAUSED, False),
        (PAUSED, None, False),
        (PAUSED, WAS_BAD, True),
        (PAUSED, WAS_WELL, False),
        (replace(BAD, since=NOW - HOUR), WAS_BAD, False),
        (replace(BAD, since=NOW), WAS_BAD, False),
        (replace(BAD, since=NOW + HOUR), WAS_BAD, True),
        (replace(WELL, since=NOW - HOUR), WAS_BAD, False),
        (replace(WELL, since=NOW + HOUR), WAS_BAD, True),
    ],
)
def test_only_a_change_is_news(*, notice: Notice, latest: Told | None, news: bool) -> None:
    assert is_news(notice, latest) is news


@pytest.mark.parametrize(
    ("state", "severity", "words"),
    [
        (ConnectionState.DISABLED_AUTH, Severity.ERROR, "Clarity refused the token"),
        (ConnectionState.FAILING, Severity.ERROR, f"the sync of {DAY} failed"),
        (ConnectionState.PARTIAL, Severity.WARNING, "only partly there"),
        (ConnectionState.RATE_LIMITED_TODAY, Severity.INFO, "no Clarity calls are left"),
        (ConnectionState.LATE, Severity.WARNING, f"{DAY} is missing"),
    ],
)
def test_each_trouble_has_its_words(state: ConnectionState, severity: Severity, words: str) -> None:
    notice = about("connection:acme", replace(FINE, state=state, reason="Why. And more."))
    assert notice is not None
    assert (notice.state, notice.severity) == (state.value, severity)
    assert notice.title == f"Acme: {words}" or words in notice.title
    assert "\n" not in notice.title + notice.body
    assert "  " not in notice.body
    assert "And more" not in notice.body


@pytest.mark.parametrize("state", [ConnectionState.PAUSED, ConnectionState.NOT_CONNECTED])
def test_what_a_person_did_by_hand_is_silent(state: ConnectionState) -> None:
    notice = about("connection:acme", replace(FINE, state=state, is_enabled=False))
    assert notice is not None
    assert notice.severity is Severity.SILENT


def test_midnight_alone_is_no_recovery() -> None:
    """Before its hour the new day is not late, and the business looks connected again."""
    waiting = replace(FINE, landed=0, worked_at=NOW - HOUR)
    notice = about("connection:acme", waiting)
    assert notice is not None
    assert not is_news(notice, WAS_BAD)
    assert about("connection:acme", replace(waiting, worked_at=None)) is None
    whole = about("connection:acme", replace(waiting, landed=4))
    assert whole is not None
    assert is_news(whole, WAS_BAD)


def test_a_token_that_was_refused_again_after_it_was_replaced_is_told_again() -> None:
    refused = replace(FINE, state=ConnectionState.DISABLED_AUTH, disabled_at=NOW + HOUR)
    notice = about("connection:acme", refused)
    assert notice is not None
    assert is_news(notice, Told("disabled_auth", created_at=NOW))
    assert not is_news(notice, Told("disabled_auth", created_at=NOW + 2 * HOUR))


@pytest.mark.parametrize(
    ("code", "state"),
    [
        ("timed_out", "unreachable"),
        ("database_full", "database"),
        ("request_rejected", "refused"),
    ],
)
def test_a_reason_that_all_share_is_told_once(code: str, state: str) -> None:
    assert troubles(failing("acme", code), failing("bolt", code), failing("coop", code)) == {
        "clarity:reachable": state
    }


def test_a_reason_that_not_all_share_is_each_ones_own() -> None:
    assert set(troubles(failing("acme"), failing("bolt", "database_full"))) == {
        "connection:acme",
        "connection:bolt",
    }
    assert set(troubles(failing("acme"), failing("bolt"), replace(FINE, business_id="coop"))) == {
        "connection:acme",
        "connection:bolt",
    }
    assert set(troubles(failing("acme"))) == {"connection:acme"}
    assert set(troubles(failing("acme", "auth_failed"), failing("bolt", "auth_failed"))) == {
        "connection:acme",
        "connection:bolt",
    }


def test_one_business_with_data_shows_that_clarity_answers() -> None:
    found = about("clarity:reachable", failing("acme"), replace(FINE, business_id="bolt"))
    assert found is not None
    assert found.state == OK
    assert about("clarity:reachable", late("acme"), late("bolt")) is None


def test_a_schedule_that_did_not_run_is_told_once_and_one_late_business_by_name() -> None:
    assert troubles(late("acme"), late("bolt")) == {"clarity:attempted": "not_attempted"}
    assert troubles(late("acme"), replace(FINE, business_id="bolt")) == {"connection:acme": "late"}
    notice = about("connection:acme", late("acme"))
    assert notice is not None
    assert "last tried at 2026-10-31 00:15 UTC" in notice.body


def test_a_business_that_was_never_tried_is_late_once_it_is_owed_a_day() -> None:
    never = replace(late("acme"), state=ConnectionState.NEVER_TESTED, attempted_at=None)
    assert troubles(never) == {"connection:acme": "late"}
    assert troubles(replace(never, is_expected=False)) == {}


def test_no_notice_is_empty() -> None:
    """Apprise takes a notice without a body for a mistake, and sends nothing."""
    for standing in (FINE, failing("acme"), late("acme"), replace(FINE, token_expires_at=NOW)):
        for notice in connection_notices([standing], now=NOW):
            assert notice.severity is Severity.SILENT or (notice.title and notice.body)


def test_a_token_is_told_of_a_week_before_it_ends_and_when_it_has() -> None:
    def state(expires_at: datetime | None, *, is_enabled: bool = True) -> str:
        standing = replace(FINE, token_expires_at=expires_at, is_enabled=is_enabled)
        notice = about("token:acme", standing)
        assert notice is not None
        return notice.state

    assert state(None) == state(NOW + timedelta(days=8)) == OK
    assert state(NOW + timedelta(days=6)) == "expires_soon"
    assert state(NOW) == "expired"
    assert state(NOW, is_enabled=False) == "not_in_use"


def run(
    partition: date | None, *, succeeded: bool, ended: int = 0, spans_days: bool = False
) -> FinishedRun:
    return FinishedRun(
        run_id=f"run{ended}-{partition}",
        partition=partition,
        spans_days=spans_days,
        created_at=NOW,
        ended_at=NOW + timedelta(minutes=ended),
        succeeded=succeeded,
    )


def run_states(*runs: FinishedRun) -> dict[str, str]:
    found = run_notices("sync", runs, explain=lambda run_id: f"{run_id} broke. Secret detail.")
    return {notice.subject: notice.state for notice in found}


def test_the_newest_daily_run_decides_about_its_job() -> None:
    assert run_states(run(DAY, succeeded=False)) == {"run:sync": "failed"}
    assert run_states(run(DAY, succeeded=False), run(DAY, succeeded=True, ended=1)) == {
        "run:sync": OK
    }
    assert run_states(run(None, succeeded=False, ended=1), run(None, succeeded=True)) == {
        "run:sync": "failed"
    }
    assert run_states() == {}


def test_a_replay_of_a_past_day_neither_mends_nor_breaks_today() -> None:
    past = DAY - timedelta(days=9)
    assert run_states(run(DAY, succeeded=False), run(past, succeeded=True, ended=5)) == {
        "run:sync": "failed",
        "run:sync:past_days": OK,
    }
    assert run_states(run(DAY, succeeded=True), run(past, succeeded=False, ended=5)) == {
        "run:sync": OK,
        "run:sync:past_days": "failed",
    }
    assert set(run_states(run(DAY, succeeded=True, spans_days=True))) == {"run:sync:past_days"}


def test_a_backfill_is_well_again_only_when_each_of_its_days_is() -> None:
    first, second = DAY - timedelta(days=9), DAY - timedelta(days=8)
    runs = [run(first, succeeded=False), run(second, succeeded=True, ended=1)]
    assert run_states(*runs) == {"run:sync:past_days": "failed"}
    assert run_states(*runs, run(first, succeeded=True, ended=2)) == {"run:sync:past_days": OK}


def test_a_failed_run_is_explained_in_one_sentence() -> None:
    [notice] = run_notices(
        "sync", [run(DAY, succeeded=False)], explain=lambda _: "It broke. Secret detail."
    )
    assert notice.title == f"The run of sync failed for {DAY}"
    assert notice.body.startswith("It broke. Dagster has the details")


def test_a_check_of_a_past_day_says_nothing_about_today() -> None:
    def judged(day: date, *, passed: bool) -> Notice | None:
        return check_notice(
            "no_slice_truncated", passed=passed, is_error=False, sentence="S.", day=day, now=NOW
        )

    assert judged(DAY - timedelta(days=1), passed=False) is None
    assert judged(DAY - timedelta(days=1), passed=True) is None
    failed, passed = judged(DAY, passed=False), judged(DAY, passed=True)
    assert failed is not None
    assert (failed.state, failed.severity) == ("failed", Severity.WARNING)
    assert passed is not None
    assert passed.state == OK


def test_a_failed_check_of_the_history_is_told_unless_connections_have_said_it() -> None:
    def told(latest: dict[str, Told], *business_ids: str) -> bool:
        return connections_have_told(business_ids, latest)

    acme = {"connection:acme": Told("late")}
    assert told(acme, "acme")
    assert not told(acme, "acme", "bolt")
    assert not told({}, "acme")
    assert not told({"connection:acme": WAS_WELL}, "acme")
    assert not told({"connection:acme": WAS_PAUSED}, "acme")
    assert told({"clarity:attempted": Told("not_attempted")}, "acme", "bolt")
    assert told({"clarity:reachable": Told("unreachable")}, "acme", "bolt")
    assert not told({"clarity:attempted": WAS_WELL}, "acme")

    failed = history_check_notice("latest_day_has_arrived", passed=False, sentence="Gone.")
    assert (failed.state, failed.severity) == ("failed", Severity.ERROR)
    assert failed.title == "Check failed: latest day has arrived"
    known = history_check_notice("x", passed=False, sentence="Gone.", has_been_told=True)
    assert not is_news(known, None)
    passed = history_check_notice("x", passed=True, sentence="There.")
    assert is_news(passed, Told("failed"))
    assert not is_news(passed, Told(known.state, known.severity))


def test_attempts_are_further_and_further_apart() -> None:
    waits = [retry_after(attempts) for attempts in range(1, 2000)]
    assert waits[:3] == [timedelta(minutes=5), timedelta(minutes=10), timedelta(minutes=20)]
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_RETRY_AFTER


def test_addresses_are_named_by_position_only() -> None:
    assert refused_by(frozenset(), addresses=2) is None
    assert refused_by({2}, addresses=2) == ("It was not accepted by 1 of 2 addresses (number 2).")


@given(st.text())
def test_a_title_is_one_printable_line_whatever_the_name(name: str) -> None:
    notice = about("connection:acme", replace(failing("acme"), name=name))
    assert notice is not None
    assert notice.title.isprintable()


@given(st.text(), st.text())
def test_a_first_sentence_is_one_line_of_bounded_length(one: str, two: str) -> None:
    sentence = first_sentence(f"{one}. {two}")
    assert "\n" not in sentence
    assert len(sentence) <= 400
