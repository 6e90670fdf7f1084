"""Two runs of one partition at the same moment, as of a daemon and a command line: four calls."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from datetime import date, datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path

from clarity_pipeline.definitions import build_defs
from clarity_pipeline.domain.dimensions import DEFAULT_COMBOS
from clarity_pipeline.domain.quota import CallOutcome
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.orchestration.launch import run_daily_sync
from clarity_pipeline.orchestration.resources import ClockResource, ExportApiResource
from clarity_pipeline.store import quota_ledger, sync_jobs
from clarity_pipeline_tests.agency import DAY, Agency

_barrier: list[Barrier] = []


def join(barrier: Barrier) -> None:
    _barrier.append(barrier)


def sync_in_a_process(dagster_home: Path, day: date, now: datetime, trigger: Trigger) -> bool:
    """A complete run; it begins when the other process is as far."""
    definitions = build_defs(
        clock=ClockResource(fixed_at=now.isoformat()),
        export_api=ExportApiResource(retry_after_seconds=0),
    )
    definitions.resolve_job_def("clarity_daily_sync")
    _barrier[0].wait()
    return run_daily_sync(
        definitions, dagster_home=dagster_home, day=day, business_ids=[], trigger=trigger
    ).succeeded


def sync_twice_at_once(agency: Agency) -> list[bool]:
    # Two processes that are the first to use a Dagster home are in each other's way.
    with agency.instance() as instance:
        instance.get_run_records(limit=1)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        2, mp_context=context, initializer=join, initargs=(context.Barrier(2),)
    ) as processes:
        runs = [
            processes.submit(
                sync_in_a_process, agency.settings.dagster_home, DAY, agency.now, trigger
            )
            for trigger in (Trigger.SCHEDULE, Trigger.MANUAL)
        ]
        return [run.result() for run in runs]


def test_two_runs_at_the_same_moment_make_four_calls_between_them(agency: Agency) -> None:
    agency.connect("acme")
    agency.emulator.control.set_latency(seconds=0.3)
    assert sync_twice_at_once(agency) == [True, True]

    assert Counter(call.dimension_set for call in agency.calls()) == Counter(
        combo.dimension_set for combo in DEFAULT_COMBOS
    )
    jobs = sync_jobs.list_jobs(agency.database, business_id="acme")
    assert [job.status for job in jobs] == [JobStatus.SUCCEEDED] * 2
    assert sum(job.calls_used for job in jobs) == 4
    slots = quota_ledger.list_calls(
        agency.database,
        project_id=agency.projects["acme"].project_id,
        utc_day=agency.now.date(),
    )
    assert [slot.outcome for slot in slots] == [CallOutcome.LANDED] * 4
