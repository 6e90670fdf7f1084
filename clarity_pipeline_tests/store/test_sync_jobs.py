"""Jobs: one per business and day of a run, opened, settled and found again."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from clarity_pipeline.domain.errors import UnknownBusiness
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.store import businesses, sync_jobs
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.sync_jobs import SyncJob
from clarity_pipeline_tests.factories import DAY, NOW

LATER = NOW + timedelta(minutes=1)


@pytest.fixture
def with_businesses(database: Database) -> Database:
    for business_id in ("a", "b"):
        businesses.add_business(database, business_id=business_id, name=business_id, now=NOW)
    return database


def start(
    database: Database, *business_ids: str, run: str | None = "run-1", day: date = DAY
) -> dict[str, int]:
    return sync_jobs.start_jobs(
        database,
        business_ids=business_ids,
        day=day,
        trigger=Trigger.SCHEDULE,
        dagster_run_id=run,
        worker="host:1:start",
        now=NOW,
    )


def settle(database: Database, job_id: int) -> None:
    sync_jobs.settle_job(
        database,
        job_id=job_id,
        status=JobStatus.PARTIAL,
        calls_used=3,
        combos={"Device,URL": {"status": "landed", "calls": 1}},
        error_code="timed_out",
        error_message="No answer in time.",
        now=LATER,
    )


def test_a_started_job_is_running(with_businesses: Database) -> None:
    job_ids = start(with_businesses, "a")
    assert sync_jobs.list_jobs(with_businesses) == [
        SyncJob(
            id=job_ids["a"],
            business_id="a",
            day=DAY,
            trigger=Trigger.SCHEDULE,
            status=JobStatus.RUNNING,
            dagster_run_id="run-1",
            worker="host:1:start",
            started_at=NOW,
            finished_at=None,
            calls_used=0,
            rows_written=0,
            combos=None,
            error_code=None,
            error_message=None,
        )
    ]


def test_a_settled_job_tells_what_came_of_it(with_businesses: Database) -> None:
    job_id = start(with_businesses, "a")["a"]
    settle(with_businesses, job_id)
    sync_jobs.record_rows_written(
        with_businesses, dagster_run_id="run-1", business_id="a", day=DAY, rows_written=42
    )
    (job,) = sync_jobs.list_jobs(with_businesses)
    assert (job.status, job.finished_at, job.calls_used) == (JobStatus.PARTIAL, LATER, 3)
    assert job.combos == {"Device,URL": {"status": "landed", "calls": 1}}
    assert (job.error_code, job.error_message) == ("timed_out", "No answer in time.")
    assert job.rows_written == 42


def test_rows_of_another_run_business_or_day_are_not_counted(with_businesses: Database) -> None:
    start(with_businesses, "a")
    for run, business_id, day in (
        ("run-2", "a", DAY),
        ("run-1", "b", DAY),
        ("run-1", "a", DAY + timedelta(days=1)),
    ):
        sync_jobs.record_rows_written(
            with_businesses, dagster_run_id=run, business_id=business_id, day=day, rows_written=1
        )
    assert sync_jobs.list_jobs(with_businesses)[0].rows_written == 0


def test_a_step_executed_again_in_its_run_continues_its_jobs(with_businesses: Database) -> None:
    first = start(with_businesses, "a")
    settle(with_businesses, first["a"])
    again = start(with_businesses, "a", "b")
    assert again["a"] == first["a"]
    assert again["b"] != again["a"]
    job = sync_jobs.latest_jobs(with_businesses, business_ids=["a"])["a"]
    assert (job.status, job.finished_at) == (JobStatus.RUNNING, None)


def test_another_run_another_day_and_no_run_have_jobs_of_their_own(
    with_businesses: Database,
) -> None:
    ids = [
        start(with_businesses, "a")["a"],
        start(with_businesses, "a", run="run-2")["a"],
        start(with_businesses, "a", day=DAY + timedelta(days=1))["a"],
        start(with_businesses, "a", run=None)["a"],
        start(with_businesses, "a", run=None)["a"],
    ]
    assert len(set(ids)) == 5
    assert [job.id for job in sync_jobs.list_jobs(with_businesses)] == ids[::-1]


def test_an_unknown_business_starts_no_job_at_all(with_businesses: Database) -> None:
    with pytest.raises(UnknownBusiness, match="nobody"):
        start(with_businesses, "a", "nobody")
    assert sync_jobs.list_jobs(with_businesses) == []


def test_no_business_is_no_job(with_businesses: Database) -> None:
    assert start(with_businesses) == {}


def test_jobs_are_narrowed_by_business_day_and_number(with_businesses: Database) -> None:
    start(with_businesses, "a", "b")
    start(with_businesses, "a", run="run-2", day=DAY + timedelta(days=1))
    assert len(sync_jobs.list_jobs(with_businesses, business_id="a")) == 2
    assert len(sync_jobs.list_jobs(with_businesses, day=DAY)) == 2
    assert len(sync_jobs.list_jobs(with_businesses, business_id="a", day=DAY)) == 1
    assert len(sync_jobs.list_jobs(with_businesses, limit=2)) == 2
    assert sync_jobs.list_jobs(with_businesses, business_id="nobody") == []


def test_the_latest_job_of_each_business_is_its_newest(with_businesses: Database) -> None:
    start(with_businesses, "a", "b")
    newest = start(with_businesses, "a", run="run-2")["a"]
    latest = sync_jobs.latest_jobs(with_businesses, business_ids=["a", "b", "nobody"])
    assert set(latest) == {"a", "b"}
    assert latest["a"].id == newest


def test_a_message_with_junk_characters_does_not_lose_the_job(with_businesses: Database) -> None:
    job_id = start(with_businesses, "a")["a"]
    sync_jobs.settle_job(
        with_businesses,
        job_id=job_id,
        status=JobStatus.FAILED,
        calls_used=1,
        combos={"Device,URL": {"message": "bad\x00\ud800", "calls": 10**30}},
        error_code="x",
        error_message="bad\x00\ud800",
        now=LATER,
    )
    (job,) = sync_jobs.list_jobs(with_businesses)
    assert job.error_message == "bad\ufffd\ufffd"
    assert job.combos is not None
    assert job.combos["Device,URL"]["message"] == "bad\ufffd\ufffd"


def interrupt(database: Database, job: SyncJob) -> bool:
    return sync_jobs.settle_interrupted_job(
        database,
        job,
        status=JobStatus.FAILED,
        calls_used=0,
        combos={},
        error_code="interrupted",
        error_message="Somebody died.",
        now=LATER,
    )


def test_a_job_is_closed_in_the_place_of_its_worker_only_while_that_still_has_it(
    with_businesses: Database,
) -> None:
    start(with_businesses, "a")
    (job,) = sync_jobs.running_jobs(with_businesses)
    # The step was executed again, by another process.
    sync_jobs.start_jobs(
        with_businesses,
        business_ids=["a"],
        day=DAY,
        trigger=Trigger.SCHEDULE,
        dagster_run_id="run-1",
        worker=None,
        now=LATER,
    )
    assert not interrupt(with_businesses, job)
    (taken_over,) = sync_jobs.running_jobs(with_businesses)
    assert interrupt(with_businesses, taken_over)
    assert not interrupt(with_businesses, taken_over)
    assert sync_jobs.running_jobs(with_businesses) == []


def test_a_job_that_has_settled_is_not_interrupted(with_businesses: Database) -> None:
    job_id = start(with_businesses, "a")["a"]
    (job,) = sync_jobs.running_jobs(with_businesses)
    settle(with_businesses, job_id)
    assert not interrupt(with_businesses, job)
    assert sync_jobs.list_jobs(with_businesses)[0].status is JobStatus.PARTIAL


def test_running_jobs_are_narrowed_by_day_and_worker(with_businesses: Database) -> None:
    start(with_businesses, "a")
    assert len(sync_jobs.running_jobs(with_businesses, day=DAY, worker="host:1:start")) == 1
    assert sync_jobs.running_jobs(with_businesses, day=DAY + timedelta(days=1)) == []
    assert sync_jobs.running_jobs(with_businesses, worker="host:2:start") == []


def finish(
    database: Database, trigger: Trigger, status: JobStatus, *, calls: int = 0, error: str | None
) -> int:
    job_id = sync_jobs.start_jobs(
        database,
        business_ids=["a"],
        day=DAY,
        trigger=trigger,
        dagster_run_id=None,
        now=NOW,
    )["a"]
    sync_jobs.settle_job(
        database,
        job_id=job_id,
        status=status,
        calls_used=calls,
        combos={},
        error_code=error,
        error_message=error,
        now=LATER,
    )
    return job_id


def test_an_attempt_made_calls_or_could_have_and_an_error_is_any_jobs(
    with_businesses: Database,
) -> None:
    attempt = finish(with_businesses, Trigger.BACKFILL, JobStatus.SUCCEEDED, calls=4, error=None)
    finish(with_businesses, Trigger.BACKFILL, JobStatus.SUCCEEDED, error=None)
    finish(with_businesses, Trigger.MANUAL, JobStatus.SKIPPED, error="gap")
    error = finish(with_businesses, Trigger.REPLAY, JobStatus.FAILED, error="damaged")
    finish(with_businesses, Trigger.REPLAY, JobStatus.SUCCEEDED, error=None)
    ids = ["a", "b"]
    attempts = sync_jobs.latest_attempts(with_businesses, business_ids=ids)
    errors = sync_jobs.latest_errors(with_businesses, business_ids=ids)
    assert {business_id: job.id for business_id, job in attempts.items()} == {"a": attempt}
    assert {business_id: job.id for business_id, job in errors.items()} == {"a": error}
    refused = finish(with_businesses, Trigger.MANUAL, JobStatus.RATE_LIMITED, error="spent")
    assert sync_jobs.latest_attempts(with_businesses, business_ids=ids)["a"].id == refused
