"""The daily job in a worker process that can be killed, and in the test's own process.

A worker is forked off a server process that has imported everything, so that it starts at once.
Dagster keeps its records in memory where a test does not look at them: writing them to a disk
takes longer than a small sync.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date, datetime
from multiprocessing.process import BaseProcess

import dagster as dg

from clarity_pipeline.definitions import build_defs
from clarity_pipeline.domain.collection import TRIGGER_TAG
from clarity_pipeline.domain.days import day_collected_at
from clarity_pipeline.domain.sync_jobs import Trigger
from clarity_pipeline.orchestration.launch import run_daily_sync
from clarity_pipeline.orchestration.resources import ClockResource, ExportApiResource
from clarity_pipeline.settings import load_settings
from clarity_pipeline_tests.agency import Agency
from clarity_pipeline_tests.faults.interruptions import Moment, interrupted

WORKER_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Errand:
    """What a worker is sent to do: sync a day, and die at a moment if one is named."""

    environment: dict[str, str]
    now: datetime
    day: date
    killed_at: Moment | None
    keeps_records: bool


def start_worker(
    agency: Agency, *, killed_at: Moment | None = None, keeps_records: bool = False
) -> BaseProcess:
    """A process of its own that runs the daily job of an agency's yesterday.

    `keeps_records` is for a Dagster instance on disk, which remembers the run afterwards.
    """
    errand = Errand(
        environment={
            name: value for name, value in os.environ.items() if name.startswith("CLARITY_")
        },
        now=agency.now,
        day=day_collected_at(agency.now),
        killed_at=killed_at,
        keeps_records=keeps_records,
    )
    return start_process(run_errand, errand)


def start_process(target: Callable[..., None], *args: object) -> BaseProcess:
    """A process that calls a function of a module."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=target, args=args)
    process.start()
    return process


def was_killed(process: BaseProcess) -> bool:
    """Wait for a worker's end; False when it came to the end of its errand alive."""
    process.join(WORKER_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"The worker had not ended after {WORKER_SECONDS} s.")
    if process.exitcode not in {0, -signal.SIGKILL}:
        raise RuntimeError(f"The worker ended with {process.exitcode}.")
    return process.exitcode == -signal.SIGKILL


def run_errand(errand: Errand) -> None:
    """The worker's side."""
    os.environ.update(errand.environment)
    definitions = build_defs(
        clock=ClockResource(fixed_at=errand.now.isoformat()),
        export_api=ExportApiResource(retry_after_seconds=0),
    )
    with interrupted(errand.killed_at, die) if errand.killed_at else nullcontext():
        if errand.keeps_records:
            run_daily_sync(
                definitions,
                dagster_home=load_settings().dagster_home,
                day=errand.day,
                business_ids=(),
                trigger=Trigger.SCHEDULE,
            )
        else:
            run_off_the_record(definitions, day=errand.day)


def sync(agency: Agency, instance: dg.DagsterInstance | None = None) -> dg.ExecuteInProcessResult:
    """The daily job of an agency's yesterday in this process, as the schedule asks for it.

    On `instance`, or one of its own that is forgotten afterwards.
    """
    definitions, day = agency.definitions(), day_collected_at(agency.now)
    if instance is None:
        return run_off_the_record(definitions, day=day)
    return _run(definitions, instance, day=day)


def run_off_the_record(definitions: dg.Definitions, *, day: date) -> dg.ExecuteInProcessResult:
    """`run_daily_sync` on an instance in memory; a step's error is in the result."""
    with instance_in_memory() as instance:
        return _run(definitions, instance, day=day)


def instance_in_memory() -> dg.DagsterInstance:
    """A Dagster instance that remembers its runs until it is closed."""
    return dg.DagsterInstance.ephemeral()  # pyright: ignore[reportUnknownMemberType]


def _run(
    definitions: dg.Definitions, instance: dg.DagsterInstance, *, day: date
) -> dg.ExecuteInProcessResult:
    return definitions.resolve_job_def("clarity_daily_sync").execute_in_process(
        instance=instance,
        partition_key=day.isoformat(),
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        tags={TRIGGER_TAG: Trigger.SCHEDULE.value},
        raise_on_error=False,
    )


def error_of(result: dg.ExecuteInProcessResult) -> str:
    """What went wrong first in a run, all of its causes in one text; empty if nothing did."""
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.error is not None:
            return event.step_failure_data.error.to_string()
    return ""


def die() -> None:
    """As the kernel's out-of-memory killer ends a process: nothing of it runs any more."""
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()
