"""Looking on at a sync, on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest

from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.domain.sync_requests import RequestState
from clarity_pipeline.operations.sync_watch import ROWS_FOLLOW_WITHIN, SyncWatch, watch_sync
from clarity_pipeline.store import businesses, sync_jobs, sync_requests
from clarity_pipeline.store.database import Database
from clarity_pipeline_tests.factories import DAY, NOW


@pytest.fixture(autouse=True)
def two_businesses(database: Database) -> None:
    for business_id in ("acme", "globex"):
        businesses.add_business(database, business_id=business_id, name=business_id, now=NOW)


def watch(
    database: Database, followed: str | None = None, *, later: timedelta = timedelta()
) -> SyncWatch | None:
    return watch_sync(database, "acme", followed=followed, overview_default=False, now=NOW + later)


def start(database: Database, *, trigger: Trigger = Trigger.SCHEDULE, run: str = "run") -> int:
    (job_id,) = sync_jobs.start_jobs(
        database,
        business_ids=["acme"],
        day=DAY,
        trigger=trigger,
        dagster_run_id=run,
        now=NOW,
    ).values()
    return job_id


def settle(
    database: Database,
    job_id: int,
    *,
    status: JobStatus = JobStatus.SUCCEEDED,
    calls: int = 4,
    rows: int | None = None,
) -> None:
    sync_jobs.settle_job(
        database,
        job_id=job_id,
        status=status,
        calls_used=calls,
        combos={"Device,URL": {"status": "landed"}},
        error_code=None,
        error_message=None,
        rows_written=rows,
        now=NOW,
    )


def ask(database: Database) -> int:
    return sync_requests.open_request(
        database, business_id="acme", day=DAY, requested_by="ann", now=NOW
    ).id


def test_nothing_under_way_is_nothing_to_see(database: Database) -> None:
    assert watch(database) is None


def test_what_was_asked_for_is_seen_before_any_run_has_come_to_it(database: Database) -> None:
    request_id = ask(database)
    seen = watch(database)
    assert seen is not None
    assert (seen.key, seen.state, seen.requested_by) == (
        f"request {request_id}",
        RequestState.WAITING,
        "ann",
    )
    assert not seen.is_over


def test_a_run_that_nobody_asked_for_here_is_seen_too_but_no_replay(database: Database) -> None:
    start(database, trigger=Trigger.REPLAY, run="replay")
    assert watch(database) is None
    job_id = start(database)
    seen = watch(database)
    assert seen is not None
    assert (seen.key, seen.state, seen.requested_by) == (
        f"job {job_id}",
        RequestState.RUNNING,
        None,
    )
    assert len(seen.combos) == 4


def test_what_was_followed_is_shown_to_its_end_and_not_to_others(database: Database) -> None:
    job_id = start(database)
    settle(database, job_id, rows=12)
    assert watch(database) is None
    seen = watch(database, f"job {job_id}")
    assert seen is not None
    assert (seen.state, seen.is_over) == (RequestState.FINISHED, True)
    assert seen.sentence == "2026-11-01 is in; this spent 4 calls."


def test_a_request_is_followed_to_its_end(database: Database) -> None:
    request_id = ask(database)
    sync_requests.pick_up(database, request_ids=[request_id], dagster_run_id="run", now=NOW)
    settle(database, start(database, trigger=Trigger.PANEL), rows=12)
    assert watch(database) is None
    seen = watch(database, f"request {request_id}")
    assert seen is not None
    assert seen.is_over


def test_it_is_not_over_until_the_rows_are_counted_or_a_minute_has_passed(
    database: Database,
) -> None:
    job_id = start(database)
    settle(database, job_id)
    followed = f"job {job_id}"
    due = watch(database, followed)
    assert due is not None
    assert (due.rows_are_due, due.is_over) == (True, False)
    late = watch(database, followed, later=ROWS_FOLLOW_WITHIN)
    assert late is not None
    assert late.is_over
    sync_jobs.record_rows_written(
        database, dagster_run_id="run", business_id="acme", day=DAY, rows_written=12
    )
    counted = watch(database, followed)
    assert counted is not None
    assert counted.is_over


@pytest.mark.parametrize(("status", "calls"), [(JobStatus.FAILED, 4), (JobStatus.SUCCEEDED, 0)])
def test_no_rows_are_waited_for_where_nothing_new_has_landed(
    database: Database, status: JobStatus, calls: int
) -> None:
    job_id = start(database)
    settle(database, job_id, status=status, calls=calls)
    seen = watch(database, f"job {job_id}")
    assert seen is not None
    assert seen.is_over


@pytest.mark.parametrize("followed", ["", "job", "job x", "job ²", "request 99", "job 99", "odd 1"])
def test_what_cannot_be_followed_is_nothing_to_see(database: Database, followed: str) -> None:
    settle(database, start(database), rows=1)
    assert watch(database, followed) is None


def test_the_request_of_another_business_is_nothing_to_see(database: Database) -> None:
    other = sync_requests.open_request(
        database, business_id="globex", day=DAY, requested_by="ann", now=NOW
    )
    assert watch(database, f"request {other.id}") is None
