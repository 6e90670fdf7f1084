"""How connections stand: what people see in `clarity status`, gathered from the store."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Final

from clarity_pipeline.domain.connections import (
    ConnectionFacts,
    ConnectionState,
    connection_state,
    token_has_expired,
    token_needs_renewal,
)
from clarity_pipeline.domain.days import day_collected_at, due_at
from clarity_pipeline.domain.dimensions import combos_of_a_day
from clarity_pipeline.domain.errors import RebuildFailed
from clarity_pipeline.domain.quota import QuotaState, QuotaUsage, utc_day_of
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.operations.collect_day import wants_overview
from clarity_pipeline.operations.replay_day import REPLAY_FAILED
from clarity_pipeline.store import connections, exports, quota_ledger, sync_jobs
from clarity_pipeline.store.connections import ConnectionOutline, ConnectionRecord
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.sync_jobs import JobOutcome, SyncJob

_NOT_REBUILT: Final = frozenset({RebuildFailed.code, REPLAY_FAILED})


@dataclass(frozen=True, slots=True)
class LastAttempt:
    """The newest sync that made calls or could have made some; replays never do."""

    at: datetime
    day: date
    trigger: Trigger
    status: JobStatus


@dataclass(frozen=True, slots=True)
class LastError:
    """The newest sync, of whatever kind, that has an error to tell of; it may be mended since."""

    at: datetime
    day: date
    code: str | None
    message: str


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """One business's connection; `yesterday` is the UTC day that `landed` of `due` combos are of.

    `is_expected` says whether the schedule owed us that day by now, `last_success` when data were
    last stored. It, `last_attempt`, `last_error` and `last_job` are None where there was none yet,
    `quota` for a business that is not connected.
    """

    record: ConnectionRecord
    state: ConnectionState
    token_needs_renewal: bool
    token_has_expired: bool
    yesterday: date
    landed: int
    due: int
    is_expected: bool
    last_success: datetime | None
    last_attempt: LastAttempt | None
    last_error: LastError | None
    last_job: SyncJob | None
    quota: QuotaState | None


def connection_statuses(
    database: Database,
    *,
    now: datetime,
    overview_default: bool,
    business_ids: Collection[str] | None = None,
) -> list[ConnectionStatus]:
    """Every business, or those named, by id; the queries are as many for one as for a thousand.

    Raises UnknownBusiness.
    """
    records = connections.list_connections(database, business_ids)
    ids = [record.business_id for record in records]
    yesterday = _Yesterday.before(now)
    landed = exports.landed_combos(database, day=yesterday.day, business_ids=ids)
    last_jobs = sync_jobs.latest_jobs(database, business_ids=ids)
    attempts = sync_jobs.latest_attempts(database, business_ids=ids)
    errors = sync_jobs.latest_errors(database, business_ids=ids)
    yesterdays_jobs = sync_jobs.outcomes_of_day(database, day=yesterday.day, business_ids=ids)
    quotas = quota_ledger.quota_states(
        database,
        project_ids={record.project_id for record in records if record.project_id},
        now=now,
        overview_default=overview_default,
    )
    return [
        _status(
            record,
            now=now,
            yesterday=yesterday,
            overview_default=overview_default,
            landed=landed.get(record.business_id, 0),
            yesterdays_jobs=yesterdays_jobs.get(record.business_id, []),
            last_attempt=_last_attempt(attempts.get(record.business_id)),
            last_error=_last_error(errors.get(record.business_id)),
            last_job=last_jobs.get(record.business_id),
            quota=quotas[record.project_id] if record.project_id else None,
        )
        for record in records
    ]


def connection_states(
    database: Database,
    outlines: Collection[ConnectionOutline],
    *,
    usage: Mapping[str, QuotaUsage],
    now: datetime,
    overview_default: bool,
) -> dict[str, ConnectionState]:
    """The states of these businesses alone: what a list of all is sorted and filtered by.

    The same as in `connection_statuses`, for a tenth of the time. `usage` is that of all projects.
    """
    yesterday = _Yesterday.before(now)
    landed = exports.landed_combos(database, day=yesterday.day)
    outcomes = sync_jobs.outcomes_of_day(database, day=yesterday.day)
    spent = {project_id for project_id, of_project in usage.items() if of_project.is_spent}
    return {
        outline.business_id: connection_state(
            _facts(
                outline,
                yesterday=yesterday,
                due=_due(outline, overview_default),
                landed=landed.get(outline.business_id, 0),
                jobs=outcomes.get(outline.business_id, ()),
                is_rate_limited=outline.project_id in spent,
            )
        )
        for outline in outlines
    }


@dataclass(frozen=True, slots=True)
class _Yesterday:
    """The latest UTC day that is over: whether the schedule owes it by now, and its end."""

    day: date
    is_due: bool
    end: datetime

    @classmethod
    def before(cls, now: datetime) -> _Yesterday:
        day = day_collected_at(now)
        return cls(
            day=day,
            is_due=now >= due_at(day),
            end=datetime.combine(utc_day_of(now), time.min, tzinfo=UTC),
        )


def _facts(
    outline: ConnectionOutline,
    *,
    yesterday: _Yesterday,
    due: int,
    landed: int,
    jobs: Sequence[JobOutcome],
    is_rate_limited: bool,
) -> ConnectionFacts:
    """`jobs` are those of yesterday, newest first."""
    sync = next((job for job in jobs if job.trigger is not Trigger.REPLAY), None)
    return ConnectionFacts(
        is_connected=outline.is_connected,
        disabled_by=outline.disabled_by,
        is_rate_limited_today=is_rate_limited,
        last_tested_at=outline.last_tested_at,
        last_test_result=outline.last_test_result,
        last_synced_at=outline.last_synced_at,
        yesterdays_job=sync.status if sync else None,
        yesterdays_job_at=sync.at if sync else None,
        yesterdays_rebuild_failed=_has_failed_to_rebuild(jobs),
        yesterday_is_complete=landed >= due,
        is_expected=yesterday.is_due and outline.created_at < yesterday.end,
    )


_DUE: Final = {overview: len(combos_of_a_day(overview=overview)) for overview in (False, True)}


def _due(outline: ConnectionOutline, overview_default: bool) -> int:  # noqa: FBT001
    return _DUE[wants_overview(outline, overview_default)]


def _status(
    record: ConnectionRecord,
    *,
    now: datetime,
    yesterday: _Yesterday,
    overview_default: bool,
    landed: int,
    yesterdays_jobs: Sequence[JobOutcome],
    last_attempt: LastAttempt | None,
    last_error: LastError | None,
    last_job: SyncJob | None,
    quota: QuotaState | None,
) -> ConnectionStatus:
    facts = _facts(
        record,
        yesterday=yesterday,
        due=_due(record, overview_default),
        landed=landed,
        jobs=yesterdays_jobs,
        is_rate_limited=quota is not None and quota.usage.is_spent,
    )
    return ConnectionStatus(
        record=record,
        state=connection_state(facts),
        token_needs_renewal=token_needs_renewal(record.token_expires_at, now=now),
        token_has_expired=token_has_expired(record.token_expires_at, now=now),
        yesterday=yesterday.day,
        landed=landed,
        due=_due(record, overview_default),
        is_expected=facts.is_expected,
        last_success=record.last_synced_at,
        last_attempt=last_attempt,
        last_error=last_error,
        last_job=last_job,
        quota=quota,
    )


def _has_failed_to_rebuild(newest_first: Sequence[JobOutcome]) -> bool:
    """Whether the newest job, a replay as well as a sync, has left what had landed unmade."""
    if not newest_first:
        return False
    newest = newest_first[0]
    return newest.status is JobStatus.FAILED and newest.error_code in _NOT_REBUILT


def _last_attempt(job: SyncJob | None) -> LastAttempt | None:
    return job and LastAttempt(
        at=job.finished_at or job.started_at, day=job.day, trigger=job.trigger, status=job.status
    )


def _last_error(job: SyncJob | None) -> LastError | None:
    if job is None or job.error_message is None:
        return None
    return LastError(
        at=job.finished_at or job.started_at,
        day=job.day,
        code=job.error_code,
        message=job.error_message,
    )
