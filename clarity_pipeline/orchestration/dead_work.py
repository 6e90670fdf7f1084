"""Runs and sync jobs whose process has died, brought to the end they could not reach themselves.

Dagster notices that only after the longest time a run may take. Until then the dead run would keep
its place in the pool, and no other run that spends quota could start.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

import dagster as dg

from clarity_pipeline.domain.interrupted_jobs import WORKER_TAG, RunState, WorkerState
from clarity_pipeline.operations.abandoned_jobs import settle_abandoned
from clarity_pipeline.operations.workers import worker_state
from clarity_pipeline.store import sync_jobs
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.sync_jobs import SyncJob

UNFINISHED: Final = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
"""A run in one of these has, or is about to have, a process; one that is queued has none yet."""


@dataclass(frozen=True, slots=True)
class SweptWork:
    """The runs that were reported as failed, and the jobs that were closed."""

    failed_run_ids: tuple[str, ...]
    closed_jobs: tuple[SyncJob, ...]


def sweep_dead_work(
    instance: dg.DagsterInstance,
    database: Database,
    *,
    overview_default: bool,
    now: datetime,
    day: date | None = None,
) -> SweptWork:
    """Fail the runs whose process is gone and close the jobs, of one day or all, left behind."""
    failed = _fail_dead_runs(instance, sync_jobs.running_jobs(database))
    closed = settle_abandoned(
        database,
        run_states=lambda run_ids: _run_states(instance, run_ids),
        overview_default=overview_default,
        now=now,
        day=day,
    )
    return SweptWork(tuple(failed), tuple(closed))


def _fail_dead_runs(instance: dg.DagsterInstance, jobs: Iterable[SyncJob]) -> list[str]:
    worker_of_job = {job.dagster_run_id: job.worker for job in jobs}
    failed: list[str] = []
    for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
        worker = run.tags.get(WORKER_TAG)
        if worker is None and not _has_workers_per_step(instance, run.run_id):
            worker = worker_of_job.get(run.run_id)
        if worker_state(worker) is not WorkerState.GONE:
            continue
        current = instance.get_run_by_id(run.run_id)
        if current is not None and not current.is_finished:
            instance.report_run_failed(
                current,
                "The process of this run died before the run was over. What had landed is kept: "
                "run the partition again to fetch the rest.",
            )
            failed.append(run.run_id)
    return failed


def _has_workers_per_step(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether steps run in processes of their own, which end before the run does."""
    started = dg.DagsterEventType.STEP_WORKER_STARTED
    return bool(instance.get_records_for_run(run_id, of_type=started, limit=1).records)


def _run_states(instance: dg.DagsterInstance, run_ids: Collection[str]) -> Mapping[str, RunState]:
    if not run_ids:
        return {}
    runs = instance.get_runs(dg.RunsFilter(run_ids=sorted(run_ids)))
    return {run.run_id: RunState.OVER if run.is_finished else RunState.IN_PROGRESS for run in runs}
