"""Replaying a day: everything right of raw landing made anew, with a sync job to show for it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Final

from clarity_pipeline.domain.collection import ComboOutcome, ComboStatus
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.operations.collect_day import first_day_of
from clarity_pipeline.operations.rebuild_day import Rebuilt, rebuild, rows_written, slice_sources
from clarity_pipeline.operations.workers import this_worker
from clarity_pipeline.store import connections, sync_jobs
from clarity_pipeline.store.database import Database

REPLAY_FAILED: Final = "replay_failed"
"""The error code of a replay's job."""


class ReplayStatus(StrEnum):
    """What replaying one business-day came to; a gap is a day of which nothing has landed."""

    REBUILT = "rebuilt"
    GAP = "gap"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ReplayedDay:
    """One business-day after its replay: slices it has replies for, and rows that changed.

    `bodies_removed` of the slices stay as they are, since the body of their reply is no longer
    kept.
    """

    business_id: str
    day: date
    status: ReplayStatus
    slices: int
    bodies_removed: int
    rows_written: int
    error_message: str | None


def replay_day(
    database: Database,
    *,
    day: date,
    business_ids: Collection[str] | None,
    clock: Callable[[], datetime],
    keep_payload_days: int | None = None,
) -> list[ReplayedDay]:
    """Rebuild a day from its landed replies, unchanged slices too; never makes a call.

    A slice whose reply's body is no longer kept stays as it is; `keep_payload_days` is as in
    `rebuild_metrics`. Concerns the businesses named, or else all that should have the day or have
    some of it. Raises UnknownBusiness, and StoreErrors that concern every business.
    """
    records = connections.list_connections(database, business_ids)
    landed = _landed_sets(database, day, [record.business_id for record in records])
    jobs = sync_jobs.start_jobs(
        database,
        business_ids=landed.keys(),
        day=day,
        trigger=Trigger.REPLAY,
        dagster_run_id=None,
        worker=this_worker(),
        now=clock(),
    )
    rebuilt = Rebuilt(failures=dict.fromkeys(landed, "The replay was stopped before its end."))
    try:
        rebuilt = rebuild(
            database,
            day=day,
            now=clock(),
            business_ids=landed.keys(),
            force=True,
            keep_payload_days=keep_payload_days,
        )
    finally:
        for business_id, job_id in jobs.items():
            _settle(database, job_id, landed[business_id], business_id, rebuilt, now=clock())
    concerned = [
        record.business_id
        for record in records
        if business_ids is not None
        or record.business_id in landed
        or (record.is_connected and day >= first_day_of(record))
    ]
    return [_result(business_id, day, landed, rebuilt) for business_id in concerned]


def _landed_sets(database: Database, day: date, business_ids: list[str]) -> dict[str, list[str]]:
    landed: dict[str, list[str]] = {}
    for business_id, dimension_set in slice_sources(database, day=day, business_ids=business_ids):
        landed.setdefault(business_id, []).append(dimension_set)
    return landed


def _settle(
    database: Database,
    job_id: int,
    dimension_sets: list[str],
    business_id: str,
    rebuilt: Rebuilt,
    *,
    now: datetime,
) -> None:
    error = rebuilt.failures.get(business_id)
    combos = [
        ComboOutcome(business_id, dimension_set, ComboStatus.ALREADY_LANDED)
        for dimension_set in dimension_sets
    ]
    sync_jobs.settle_job(
        database,
        job_id=job_id,
        status=JobStatus.FAILED if error else JobStatus.SUCCEEDED,
        calls_used=0,
        combos={outcome.dimension_set: outcome.as_json() for outcome in combos},
        error_code=REPLAY_FAILED if error else None,
        error_message=error,
        rows_written=_rows(business_id, rebuilt),
        now=now,
    )


def _result(
    business_id: str, day: date, landed: dict[str, list[str]], rebuilt: Rebuilt
) -> ReplayedDay:
    error = rebuilt.failures.get(business_id)
    status = ReplayStatus.REBUILT if business_id in landed else ReplayStatus.GAP
    return ReplayedDay(
        business_id=business_id,
        day=day,
        status=ReplayStatus.FAILED if error else status,
        slices=len(landed.get(business_id, ())),
        bodies_removed=rebuilt.bodies_removed.get(business_id, 0),
        rows_written=_rows(business_id, rebuilt),
        error_message=error,
    )


def _rows(business_id: str, rebuilt: Rebuilt) -> int:
    counts = rebuilt.written.get(business_id)
    return rows_written(counts) if counts else 0
