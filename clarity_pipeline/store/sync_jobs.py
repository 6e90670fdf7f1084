"""One row per business and day that a run has worked on: how it stands and what it cost."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from clarity_pipeline.domain.errors import RebuildFailed
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.store.businesses import check_businesses_exist
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import sync_jobs


@dataclass(frozen=True, slots=True)
class SyncJob:
    """A job; `combos` holds an entry per dimension set, None until the job has settled.

    `worker` is the process that works on it (operations.workers).
    """

    id: int
    business_id: str
    day: date
    trigger: Trigger
    status: JobStatus
    dagster_run_id: str | None
    worker: str | None
    started_at: datetime
    finished_at: datetime | None
    calls_used: int
    rows_written: int
    combos: Mapping[str, Mapping[str, object]] | None
    error_code: str | None
    error_message: str | None


def start_jobs(
    database: Database,
    *,
    business_ids: Collection[str],
    day: date,
    trigger: Trigger,
    dagster_run_id: str | None,
    now: datetime,
    worker: str | None = None,
) -> dict[str, int]:
    """Open a running job per business; returns their ids by business. Raises UnknownBusiness.

    `worker` is the process that will settle them, if that is known. A step that is executed again
    within its run opens the job it had again.
    """
    wanted = sorted(set(business_ids))
    if not wanted:
        return {}
    rows = [
        {
            "business_id": business_id,
            "date": day,
            "trigger": trigger.value,
            "status": JobStatus.RUNNING.value,
            "dagster_run_id": dagster_run_id,
            "worker": worker,
            "started_at": now,
        }
        for business_id in wanted
    ]
    upsert = sqlite.insert if database.dialect_name == "sqlite" else postgresql.insert
    statement = upsert(sync_jobs).on_conflict_do_update(
        index_elements=["dagster_run_id", "business_id", "date"],
        set_={"status": JobStatus.RUNNING.value, "finished_at": None, "worker": worker},
    )
    with database.transaction() as connection:
        check_businesses_exist(connection, wanted)
        ids = connection.execute(statement.returning(sync_jobs.c.business_id, sync_jobs.c.id), rows)
        return {row.business_id: row.id for row in ids}


def settle_job(
    database: Database,
    *,
    job_id: int,
    status: JobStatus,
    calls_used: int,
    combos: Mapping[str, Mapping[str, object]],
    error_code: str | None,
    error_message: str | None,
    now: datetime,
    rows_written: int | None = None,
) -> None:
    """Close a job with what came of it; `rows_written` None leaves that to the rebuild."""
    values = _outcome(
        status=status,
        calls_used=calls_used,
        combos=combos,
        error_code=error_code,
        error_message=error_message,
        now=now,
    )
    if rows_written is not None:
        values["rows_written"] = rows_written
    with database.transaction() as connection:
        connection.execute(update(sync_jobs).where(sync_jobs.c.id == job_id).values(values))


def settle_interrupted_job(
    database: Database,
    job: SyncJob,
    *,
    status: JobStatus,
    calls_used: int,
    combos: Mapping[str, Mapping[str, object]],
    error_code: str,
    error_message: str,
    now: datetime,
) -> bool:
    """Close a job in the place of its worker; False when that has done so, or another took over."""
    values = _outcome(
        status=status,
        calls_used=calls_used,
        combos=combos,
        error_code=error_code,
        error_message=error_message,
        now=now,
    )
    with database.transaction() as connection:
        settled = connection.execute(
            update(sync_jobs)
            .where(
                sync_jobs.c.id == job.id,
                sync_jobs.c.status == JobStatus.RUNNING.value,
                sync_jobs.c.worker.is_not_distinct_from(job.worker),
            )
            .values(values)
        )
        return settled.rowcount == 1


def record_rows_written(
    database: Database, *, dagster_run_id: str, business_id: str, day: date, rows_written: int
) -> None:
    """Add what a run wrote for a business-day to its job; a run without such a job is no error."""
    _update_job_of_run(database, dagster_run_id, business_id, day, {"rows_written": rows_written})


def record_rebuild_failure(
    database: Database, *, dagster_run_id: str, business_id: str, day: date, message: str
) -> None:
    """Fail the job of a run whose replies have landed and could not be made into rows or sums."""
    failed = {
        "status": JobStatus.FAILED.value,
        "error_code": RebuildFailed.code,
        "error_message": message,
    }
    _update_job_of_run(database, dagster_run_id, business_id, day, failed)


def _update_job_of_run(
    database: Database,
    dagster_run_id: str,
    business_id: str,
    day: date,
    values: Mapping[str, object],
) -> None:
    with database.transaction() as connection:
        connection.execute(
            update(sync_jobs)
            .where(
                sync_jobs.c.dagster_run_id == dagster_run_id,
                sync_jobs.c.business_id == business_id,
                sync_jobs.c.date == day,
            )
            .values(values)
        )


def list_jobs(
    database: Database,
    *,
    business_id: str | None = None,
    day: date | None = None,
    limit: int | None = 100,
) -> list[SyncJob]:
    """Jobs, newest first, of one business or all, of one day or all; `limit` None is no limit."""
    statement = select(sync_jobs).order_by(sync_jobs.c.id.desc()).limit(limit)
    if business_id is not None:
        statement = statement.where(sync_jobs.c.business_id == business_id)
    if day is not None:
        statement = statement.where(sync_jobs.c.date == day)
    return _jobs(database, statement)


def latest_statuses(database: Database, *, day: date) -> dict[str, JobStatus]:
    """How the newest job of each business about a day stands; a running one is never overlooked."""
    statement = (
        select(sync_jobs.c.business_id, sync_jobs.c.status)
        .where(sync_jobs.c.date == day)
        .order_by(sync_jobs.c.status == JobStatus.RUNNING.value, sync_jobs.c.id)
    )
    with database.reading() as connection:
        return {row.business_id: JobStatus(row.status) for row in connection.execute(statement)}


def find_job(
    database: Database, *, dagster_run_id: str, business_id: str, day: date
) -> SyncJob | None:
    """The job of a run for a business-day; None while, or because, it has opened none."""
    statement = select(sync_jobs).where(
        sync_jobs.c.dagster_run_id == dagster_run_id,
        sync_jobs.c.business_id == business_id,
        sync_jobs.c.date == day,
    )
    return next(iter(_jobs(database, statement)), None)


def jobs_before(
    database: Database,
    *,
    business_id: str,
    status: JobStatus | None,
    before_id: int | None,
    limit: int,
) -> list[SyncJob]:
    """The jobs of a business that are older than one, newest first; without it from the newest on.

    Raises UnknownBusiness.
    """
    jobs = sync_jobs.c
    statement = (
        select(sync_jobs)
        .where(jobs.business_id == business_id)
        .order_by(jobs.id.desc())
        .limit(limit)
    )
    if status is not None:
        statement = statement.where(jobs.status == status.value)
    if before_id is not None:
        statement = statement.where(jobs.id < before_id)
    with database.reading() as connection:
        check_businesses_exist(connection, [business_id])
        return [_job(row) for row in connection.execute(statement)]


def running_jobs(
    database: Database, *, day: date | None = None, worker: str | None = None
) -> list[SyncJob]:
    """The jobs that are called running, oldest first, of one day or all, of one worker or all."""
    statement = (
        select(sync_jobs)
        .where(sync_jobs.c.status == JobStatus.RUNNING.value)
        .order_by(sync_jobs.c.id)
    )
    if day is not None:
        statement = statement.where(sync_jobs.c.date == day)
    if worker is not None:
        statement = statement.where(sync_jobs.c.worker == worker)
    return _jobs(database, statement)


def latest_jobs(database: Database, *, business_ids: Collection[str]) -> dict[str, SyncJob]:
    """The newest job of each of these businesses; one that never had a job is left out."""
    return _newest(database, business_ids)


def latest_attempts(database: Database, *, business_ids: Collection[str]) -> dict[str, SyncJob]:
    """The newest job of each business that made calls, or could have made some.

    Left out are replays, days that Clarity no longer answered for, and backfills of days that had
    all landed.
    """
    jobs = sync_jobs.c
    return _newest(
        database,
        business_ids,
        jobs.trigger != Trigger.REPLAY.value,
        jobs.status != JobStatus.SKIPPED.value,
        or_(jobs.trigger != Trigger.BACKFILL.value, jobs.calls_used > 0),
    )


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """How a job stands, and since when (UTC): it ended then, or has been running since."""

    trigger: Trigger
    status: JobStatus
    error_code: str | None
    at: datetime


def outcomes_of_day(
    database: Database, *, day: date, business_ids: Collection[str] | None = None
) -> dict[str, list[JobOutcome]]:
    """How the jobs about this day stand, by business, newest first.

    Of all businesses, or those named; one without any is left out.
    """
    jobs = sync_jobs.c
    statement = (
        select(
            jobs.business_id,
            jobs.trigger,
            jobs.status,
            jobs.error_code,
            func.coalesce(jobs.finished_at, jobs.started_at),
        )
        .where(jobs.date == day)
        .order_by(jobs.id.desc())
    )
    if business_ids is not None:
        statement = statement.where(jobs.business_id.in_(set(business_ids)))
    outcomes: dict[str, list[JobOutcome]] = {}
    with database.reading() as connection:
        for business_id, trigger, status, error_code, at in connection.execute(statement).all():
            outcomes.setdefault(business_id, []).append(
                JobOutcome(Trigger(trigger), JobStatus(status), error_code, at)
            )
    return outcomes


def latest_errors(database: Database, *, business_ids: Collection[str]) -> dict[str, SyncJob]:
    """The newest job of each business that has an error to tell of."""
    return _newest(database, business_ids, sync_jobs.c.error_message.is_not(None))


def _newest(
    database: Database, business_ids: Collection[str], *which: ColumnElement[bool]
) -> dict[str, SyncJob]:
    newest = _newest_ids(business_ids, *which)
    jobs = _jobs(database, select(sync_jobs).where(sync_jobs.c.id.in_(newest)))
    return {job.business_id: job for job in jobs}


def _newest_ids(business_ids: Collection[str], *which: ColumnElement[bool]) -> Select[int]:
    return (
        select(func.max(sync_jobs.c.id))
        .where(sync_jobs.c.business_id.in_(set(business_ids)), *which)
        .group_by(sync_jobs.c.business_id)
    )


def _outcome(
    *,
    status: JobStatus,
    calls_used: int,
    combos: Mapping[str, Mapping[str, object]],
    error_code: str | None,
    error_message: str | None,
    now: datetime,
) -> dict[str, object]:
    return {
        "status": status.value,
        "finished_at": now,
        "calls_used": calls_used,
        "combos": {name: dict(combo) for name, combo in combos.items()},
        "error_code": error_code,
        "error_message": error_message,
    }


def _jobs(database: Database, statement: Select[Any]) -> list[SyncJob]:
    with database.reading() as connection:
        return [_job(row) for row in connection.execute(statement)]


def _job(row: Row[Any]) -> SyncJob:
    return SyncJob(
        id=row.id,
        business_id=row.business_id,
        day=row.date,
        trigger=Trigger(row.trigger),
        status=JobStatus(row.status),
        dagster_run_id=row.dagster_run_id,
        worker=row.worker,
        started_at=row.started_at,
        finished_at=row.finished_at,
        calls_used=row.calls_used,
        rows_written=row.rows_written,
        combos=row.combos,
        error_code=row.error_code,
        error_message=row.error_message,
    )
