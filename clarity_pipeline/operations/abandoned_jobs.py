"""Closing sync jobs that nobody works on any more, with what they left behind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, datetime

from clarity_pipeline.domain.collection import ComboOutcome, ComboStatus, purpose_of
from clarity_pipeline.domain.dimensions import combos_of_a_day
from clarity_pipeline.domain.interrupted_jobs import (
    INTERRUPTED,
    Interruption,
    RunState,
    interrupted_message,
    interrupted_outcome,
    interrupted_status,
    is_abandoned,
)
from clarity_pipeline.domain.sync_jobs import Trigger
from clarity_pipeline.operations.collect_day import landed_replies, wants_overview
from clarity_pipeline.operations.workers import this_worker, worker_state
from clarity_pipeline.store import call_history, connections, sync_jobs
from clarity_pipeline.store.call_history import SpentCall
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.sync_jobs import SyncJob

logger = logging.getLogger(__name__)

RunStates = Callable[[Collection[str]], Mapping[str, RunState]]
"""Looks up runs on the orchestrator's instance; one it does not know is left out."""


def settle_abandoned(
    database: Database,
    *,
    run_states: RunStates,
    overview_default: bool,
    now: datetime,
    day: date | None = None,
) -> list[SyncJob]:
    """Close every job, of one day or all, that is called running and is not; returns those."""
    jobs = sync_jobs.running_jobs(database, day=day)
    # Asked after the jobs were read: a run that ends in between has settled its jobs itself.
    states = run_states({job.dagster_run_id for job in jobs if job.dagster_run_id})
    abandoned = [
        job
        for job in jobs
        if is_abandoned(
            run=states.get(job.dagster_run_id or "", RunState.UNKNOWN),
            worker=worker_state(job.worker),
            age=now - job.started_at,
        )
    ]
    return _settle(
        database, abandoned, Interruption.DIED, overview_default=overview_default, now=now
    )


def settle_stopped(database: Database, *, overview_default: bool, now: datetime) -> list[SyncJob]:
    """Close the jobs that this very process had under way when it was told to stop."""
    jobs = sync_jobs.running_jobs(database, worker=this_worker())
    return _settle(database, jobs, Interruption.STOPPED, overview_default=overview_default, now=now)


def _settle(
    database: Database,
    jobs: Sequence[SyncJob],
    interruption: Interruption,
    *,
    overview_default: bool,
    now: datetime,
) -> list[SyncJob]:
    return [
        job
        for job in jobs
        if _settle_job(database, job, interruption, overview_default=overview_default, now=now)
    ]


def _settle_job(
    database: Database,
    job: SyncJob,
    interruption: Interruption,
    *,
    overview_default: bool,
    now: datetime,
) -> bool:
    calls = [] if job.trigger is Trigger.REPLAY else _calls_of(database, job)
    outcomes = _outcomes(database, job, calls, interruption, overview_default=overview_default)
    status = interrupted_status(job.trigger, outcomes)
    was_running = sync_jobs.settle_interrupted_job(
        database,
        job,
        status=status,
        calls_used=len(calls),
        combos={outcome.dimension_set: outcome.as_json() for outcome in outcomes},
        error_code=INTERRUPTED,
        error_message=interrupted_message(
            interruption, trigger=job.trigger, status=status, day=job.day, now=now
        ),
        now=now,
    )
    if not was_running:
        return False
    arrived = {
        outcome.dimension_set for outcome in outcomes if outcome.status is ComboStatus.LANDED
    }
    stored_at = [c.reserved_at for c in calls if c.dimension_set in arrived]
    if stored_at:
        connections.record_synced(database, business_id=job.business_id, at=max(stored_at))
    logger.warning(
        "business %s day %s: %s, its job is closed as %s with %d calls",
        job.business_id,
        job.day,
        interruption.name.lower(),
        status.value,
        len(calls),
    )
    return True


def _outcomes(
    database: Database,
    job: SyncJob,
    calls: Sequence[SpentCall],
    interruption: Interruption,
    *,
    overview_default: bool,
) -> list[ComboOutcome]:
    record = connections.get_connection(database, job.business_id)
    landed = landed_replies(database, day=job.day, business_ids=[job.business_id])
    return [
        interrupted_outcome(
            business_id=job.business_id,
            combo=combo,
            landed=landed.get(job.business_id, ()),
            calls=[call.outcome for call in calls if call.dimension_set == combo.dimension_set],
            interruption=interruption,
        )
        for combo in combos_of_a_day(overview=wants_overview(record, overview_default))
    ]


def _calls_of(database: Database, job: SyncJob) -> list[SpentCall]:
    """The ledger does not say which job a call was made for; its span and its purpose do."""
    later = [
        other.started_at
        for other in sync_jobs.list_jobs(
            database, business_id=job.business_id, day=job.day, limit=None
        )
        if other.id > job.id and other.trigger is not Trigger.REPLAY
    ]
    return call_history.calls_of_business(
        database,
        business_id=job.business_id,
        purpose=purpose_of(job.trigger),
        since=job.started_at,
        before=min(later, default=None),
    )
