"""The sync of a business that is under way, whoever began it, for somebody who looks on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from clarity_pipeline.domain.errors import UnknownSyncRequest
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.domain.sync_requests import (
    RequestState,
    finished_sentence,
    running_sentence,
)
from clarity_pipeline.operations.sync_requests import (
    ComboProgress,
    RequestProgress,
    combos_in,
    combos_of,
    progress_of,
)
from clarity_pipeline.store import sync_jobs, sync_requests
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.sync_jobs import SyncJob

ROWS_FOLLOW_WITHIN: Final = timedelta(minutes=1)
"""How long after its job has settled the rows of a day may still be on their way."""

_LATEST: Final = 5
"""A business has one run at a time; a few more for a job whose process died unnoticed."""


@dataclass(frozen=True, slots=True)
class SyncWatch:
    """How far a sync is.

    `key` is what it is followed with: "request 3" or, of a run that nobody asked for here, "job 7".
    `rows_are_due` says that the job has settled with new data whose rows are not counted yet, and
    `is_overlooked` that nobody has picked the request up in time.
    """

    key: str
    day: date
    state: RequestState
    job: SyncJob | None
    combos: tuple[ComboProgress, ...]
    sentence: str
    is_overlooked: bool
    requested_by: str | None
    rows_are_due: bool

    @property
    def is_over(self) -> bool:
        """Whether nothing about it changes any more."""
        finished = self.state in {RequestState.FINISHED, RequestState.REFUSED}
        return finished and not self.rows_are_due


def watch_sync(
    database: Database,
    business_id: str,
    *,
    followed: str | None,
    overview_default: bool,
    now: datetime,
) -> SyncWatch | None:
    """What is under way now; else the sync that was followed until now, if that is one of this
    business; else None.
    """
    for request in sync_requests.open_requests(database, now=now, business_ids=[business_id]):
        progress = progress_of(database, request, overview_default=overview_default, now=now)
        return _of_request(progress, now=now)
    jobs = sync_jobs.list_jobs(database, business_id=business_id, limit=_LATEST)
    for job in jobs:
        if job.status is JobStatus.RUNNING and job.trigger is not Trigger.REPLAY:
            return _of_job(database, job, overview_default=overview_default, now=now)
    kind, _, number = (followed or "").partition(" ")
    if not (number.isascii() and number.isdecimal()):
        return None
    if kind == "request":
        return _finished_request(
            database, business_id, int(number), overview_default=overview_default, now=now
        )
    for job in jobs:
        if kind == "job" and job.id == int(number):
            return _of_job(database, job, overview_default=overview_default, now=now)
    return None


def _finished_request(
    database: Database, business_id: str, request_id: int, *, overview_default: bool, now: datetime
) -> SyncWatch | None:
    try:
        request = sync_requests.get_request(
            database, request_id=request_id, business_id=business_id
        )
    except UnknownSyncRequest:
        return None
    progress = progress_of(database, request, overview_default=overview_default, now=now)
    return _of_request(progress, now=now)


def _of_request(progress: RequestProgress, *, now: datetime) -> SyncWatch:
    request = progress.request
    return SyncWatch(
        key=f"request {request.id}",
        day=request.day,
        state=progress.state,
        job=progress.job,
        combos=progress.combos,
        sentence=progress.sentence,
        is_overlooked=progress.is_overlooked,
        requested_by=request.requested_by,
        rows_are_due=progress.job is not None and _rows_are_due(progress.job, now=now),
    )


def _of_job(
    database: Database, job: SyncJob, *, overview_default: bool, now: datetime
) -> SyncWatch:
    combos = combos_of(database, job, overview_default=overview_default)
    is_running = job.status is JobStatus.RUNNING
    if is_running:
        sentence = running_sentence(job.day, combos_in=combos_in(combos), combos=len(combos))
    else:
        sentence = finished_sentence(
            job.day,
            status=job.status,
            calls_used=job.calls_used,
            error_message=job.error_message,
        )
    return SyncWatch(
        key=f"job {job.id}",
        day=job.day,
        state=RequestState.RUNNING if is_running else RequestState.FINISHED,
        job=job,
        combos=combos,
        sentence=sentence,
        is_overlooked=False,
        requested_by=None,
        rows_are_due=_rows_are_due(job, now=now),
    )


def _rows_are_due(job: SyncJob, *, now: datetime) -> bool:
    return (
        job.status in {JobStatus.SUCCEEDED, JobStatus.PARTIAL}
        and job.calls_used > 0
        and job.rows_written == 0
        and job.finished_at is not None
        and now - job.finished_at < ROWS_FOLLOW_WITHIN
    )
