"""How connections stand: what people see in `clarity status`, gathered from the store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
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
from clarity_pipeline.domain.quota import QuotaState, utc_day_of
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.operations.collect_day import wants_overview
from clarity_pipeline.operations.replay_day import REPLAY_FAILED
from clarity_pipeline.store import connections, exports, quota_ledger, sync_jobs
from clarity_pipeline.store.connections import ConnectionRecord
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
    yesterday = day_collected_at(now)
    landed = exports.landed_combos(database, day=yesterday, business_ids=ids)
    last_jobs = sync_jobs.latest_jobs(database, business_ids=ids)
    attempts = sync_jobs.latest_attempts(database, business_ids=ids)
    errors = sync_jobs.latest_errors(database, business_ids=ids)
    yesterdays_jobs = sync_jobs.outcomes_of_day(database, day=yesterday, business_ids=ids)
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
    records: Collection[ConnectionRecord],
    *,
    now: datetime,
    overview_default: bool,
) -> dict[str, ConnectionState]:
    """The states of these businesses alone: what a list of all is sorted and filtered by.

    The same as in `connection_statuses`, for a tenth of the time.
    """
    ids = [record.business_id for record in records]
    yesterday = day_collected_at(now)
    landed = exports.landed_combos(database, day=yesterday, business_ids=ids)
    outcomes = sync_jobs.outcomes_of_day(database, day=yesterday, business_ids=ids)
    usage = quota_ledger.quota_usage(
        database,
        project_ids={record.project_id for record in records if record.project_id},
        now=now,
    )
    return {
        record.business_id: connection_state(
            _facts(
                record,
                now=now,
                overview_default=overview_default,
                landed=landed.get(record.business_id, 0),
                yesterdays_jobs=outcomes.get(record.business_id, []),
                is_rate_limited=record.project_id is not None
                and record.project_id in usage
                and usage[record.project_id].is_spent,
            )
        )
        for record in records
    }


def _facts(
    record: ConnectionRecord,
    *,
    now: datetime,
    overview_default: bool,
    landed: int,
    yesterdays_jobs: Sequence[JobOutcome],
    is_rate_limited: bool,
) -> ConnectionFacts:
    sync = next((job for job in yesterdays_jobs if job.trigger is not Trigger.REPLAY), None)
    midnight = datetime.combine(utc_day_of(now), time.min, tzinfo=UTC)
    return ConnectionFacts(
        is_connected=record.is_connected,
        disabled_by=record.disabled_by,
        is_rate_limited_today=is_rate_limited,
        last_tested_at=record.last_tested_at,
        last_test_result=record.last_test_result,
        last_synced_at=record.last_synced_at,
        yesterdays_job=sync.status if sync else None,
        yesterdays_job_at=sync.at if sync else None,
        yesterdays_rebuild_failed=_has_failed_to_rebuild(yesterdays_jobs),
        yesterday_is_complete=landed >= _due(record, overview_default),
        is_expected=now >= due_at(day_collected_at(now)) and record.created_at < midnight,
    )


def _due(record: ConnectionRecord, overview_default: bool) -> int:  # noqa: FBT001
    return len(combos_of_a_day(overview=wants_overview(record, overview_default)))


def _status(
    record: ConnectionRecord,
    *,
    now: datetime,
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
        now=now,
        overview_default=overview_default,
        landed=landed,
        yesterdays_jobs=yesterdays_jobs,
        is_rate_limited=quota is not None and quota.usage.is_spent,
    )
    return ConnectionStatus(
        record=record,
        state=connection_state(facts),
        token_needs_renewal=token_needs_renewal(record.token_expires_at, now=now),
        token_has_expired=token_has_expired(record.token_expires_at, now=now),
        yesterday=day_collected_at(now),
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
    return any(
        job.status is JobStatus.FAILED and job.error_code in _NOT_REBUILT
        for job in newest_first[:1]
    )


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
