"""The outbox: one row per change whoever records it, and one sender per row."""

from __future__ import annotations

from datetime import timedelta

from clarity_pipeline.domain.notices import GIVE_UP_AFTER, OK, STALE_AFTER, Notice, Severity
from clarity_pipeline.store import notices
from clarity_pipeline.store.database import Database
from clarity_pipeline_tests.factories import NOW
from clarity_pipeline_tests.store.races import all_at_once

MINUTE = timedelta(minutes=1)


def trouble(subject: str = "connection:acme", state: str = "failing") -> Notice:
    return Notice(
        subject=subject, state=state, severity=Severity.ERROR, title=f"{subject} {state}", body="b"
    )


def well(subject: str = "connection:acme") -> Notice:
    return Notice(subject=subject, state=OK, severity=Severity.RECOVERY, title="well", body="b")


def states(database: Database) -> list[str]:
    found = notices.list_notices(database, with_silent=True, limit=None)
    return [notice.state for notice in reversed(found)]


def test_each_change_is_written_once_and_the_first_good_state_not_at_all(
    database: Database,
) -> None:
    for notice in (well(), trouble(), trouble(), well(), well(), trouble(), trouble(state="late")):
        notices.record(database, [notice], now=NOW)
    assert states(database) == ["failing", OK, "failing", "late"]


def test_many_processes_that_record_one_change_at_once_write_one_row(
    database_url: str, database: Database
) -> None:
    openers = [Database.open(database_url) for _ in range(8)]
    try:
        news = all_at_once(
            lambda opened: notices.record(opened, [trouble(), trouble("run:x")], now=NOW), openers
        )
    finally:
        for opened in openers:
            opened.close()
    assert states(database) == ["failing", "failing"]
    assert sum(len(each) for each in news) == 2


def test_a_row_is_claimed_by_one_of_many_senders(database_url: str, database: Database) -> None:
    notices.record(database, [trouble(f"run:{number}") for number in range(5)], now=NOW)
    openers = [Database.open(database_url) for _ in range(8)]
    try:
        claims = all_at_once(lambda opened: notices.claim_next(opened, now=NOW), openers)
    finally:
        for opened in openers:
            opened.close()
    claimed = [claim.id for claim in claims if claim is not None]
    assert len(claimed) == len(set(claimed)) == 5


def test_a_claim_whose_process_died_is_given_out_again_later(database: Database) -> None:
    notices.record(database, [trouble()], now=NOW)
    first = notices.claim_next(database, now=NOW)
    assert first is not None
    assert notices.claim_next(database, now=NOW + MINUTE) is None
    again = notices.claim_next(database, now=NOW + 5 * MINUTE)
    assert again is not None
    assert (again.id, again.attempts) == (first.id, 1)


def test_a_recovery_waits_for_the_trouble_before_it(database: Database) -> None:
    notices.record(database, [trouble()], now=NOW)
    notices.record(database, [well()], now=NOW + MINUTE)
    first = notices.claim_next(database, now=NOW + MINUTE)
    assert first is not None
    assert first.state == "failing"
    assert notices.claim_next(database, now=NOW + MINUTE) is None
    notices.settle(database, first.id, sent_at=NOW, error=None)
    second = notices.claim_next(database, now=NOW + MINUTE)
    assert second is not None
    assert second.state == OK
    notices.settle(database, second.id, sent_at=NOW, error=None)
    assert notices.claim_next(database, now=NOW + 10 * MINUTE) is None


def test_an_old_notice_is_news_no_more_and_a_refused_one_is_given_up(database: Database) -> None:
    notices.record(database, [trouble("run:a"), trouble("run:b")], now=NOW)
    tried = notices.claim_next(database, now=NOW)
    assert tried is not None
    later = NOW + STALE_AFTER + MINUTE
    again = notices.claim_next(database, now=later)
    assert again is not None
    assert again.id == tried.id
    assert notices.claim_next(database, now=later) is None
    assert notices.claim_next(database, now=NOW + GIVE_UP_AFTER + MINUTE) is None
    assert len(states(database)) == 2


def test_a_silent_state_is_kept_and_never_sent(database: Database) -> None:
    paused = Notice(
        subject="connection:acme", state="paused", severity=Severity.SILENT, title="", body=""
    )
    notices.record(database, [paused], now=NOW)
    assert states(database) == []
    notices.record(database, [trouble()], now=NOW)
    notices.record(database, [paused], now=NOW)
    assert states(database) == ["failing", "paused"]
    assert [notice.state for notice in notices.list_notices(database)] == ["failing"]
    claimed = notices.claim_next(database, now=NOW)
    assert claimed is not None
    notices.settle(database, claimed.id, sent_at=NOW, error=None)
    assert notices.claim_next(database, now=NOW) is None


def test_clocks_that_differ_do_not_repeat_a_notice(database: Database) -> None:
    ahead = Notice(
        subject="connection:acme",
        state="disabled_auth",
        severity=Severity.ERROR,
        title="t",
        body="b",
        since=NOW + MINUTE,
    )
    for _ in range(3):
        notices.record(database, [ahead], now=NOW)
    assert states(database) == ["disabled_auth"]
