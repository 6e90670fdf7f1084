"""A day on which a fifth of the businesses misbehave: what it costs, and whether all is as it must.

The sync is a process of its own, so that peak memory is that of one sync; the emulator is another.
Every sync job and the number of calls of every business are checked; complaints end it with 1.

    python -m benchmarks.faulty_day                    200 businesses, SQLite
    python -m benchmarks.faulty_day --businesses 50 --database postgresql
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.daily_sync import AT, DAY, Measured, empty_database, measure
from clarity_pipeline.definitions import build_defs
from clarity_pipeline.domain.sync_jobs import Trigger
from clarity_pipeline.export_api.emulator import EmulatorServer
from clarity_pipeline.orchestration.launch import run_daily_sync
from clarity_pipeline.orchestration.resources import ClockResource, ExportApiResource
from clarity_pipeline.settings import load_settings
from clarity_pipeline.store import sync_jobs
from clarity_pipeline_tests.agency import open_agency
from clarity_pipeline_tests.faults.invariants import check_nothing_is_lost_or_counted_short
from clarity_pipeline_tests.faults.misbehaviour import MISBEHAVIOURS, complaints, fault_of

MISBEHAVING_SHARE = 5
"""One business in so many."""

CALL_TIMEOUT_SECONDS = 20.0
SILENCE_TIMEOUT_SECONDS = 10.0
"""Short, so that the measurement is not one of waiting; long enough for 64 MiB."""


def run_once() -> None:
    """Sync DAY with the settings of the environment and print a Measured as JSON."""
    logging.disable(logging.WARNING)
    settings = load_settings()
    definitions = build_defs(
        clock=ClockResource(fixed_at=AT.isoformat()),
        export_api=ExportApiResource(
            retry_after_seconds=1,
            silence_timeout_seconds=SILENCE_TIMEOUT_SECONDS,
            call_timeout_seconds=CALL_TIMEOUT_SECONDS,
        ),
    )

    def sync() -> None:
        run = run_daily_sync(
            definitions,
            dagster_home=settings.dagster_home,
            day=DAY,
            business_ids=[],
            trigger=Trigger.SCHEDULE,
        )
        if not run.succeeded:
            sys.exit(f"The sync failed: {run.error}")

    print(json.dumps(asdict(measure(sync, count_rows=lambda: 0, calls=0))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--businesses", type=int, default=200)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.once:
        run_once()
        return
    kinds = sorted(MISBEHAVIOURS)
    with (
        EmulatorServer(separate_process=True) as server,
        empty_database(chosen.database) as url,
        tempfile.TemporaryDirectory() as directory,
        pytest.MonkeyPatch.context() as environment,
        open_agency(
            database_url=url, emulator=server, home=Path(directory, "home"), environment=environment
        ) as agency,
    ):
        misbehaving: dict[str, str] = {}
        for number in range(chosen.businesses):
            business_id = f"business-{number:05d}"
            project = agency.connect(
                business_id, project_id=f"project{number:05d}", seed=number % 10
            )
            if number % MISBEHAVING_SHARE == MISBEHAVING_SHARE - 1:
                misbehaving[business_id] = kinds[len(misbehaving) % len(kinds)]
                server.control.add_fault(
                    fault_of(misbehaving[business_id], project_id=project.project_id)
                )
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.faulty_day", "--once"],
            check=False,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )
        if done.returncode:
            sys.exit(done.returncode)
        measured = Measured(**json.loads(done.stdout.splitlines()[-1]))
        calls = server.control.calls()
        found = complaints(
            jobs=sync_jobs.latest_jobs(agency.database, business_ids=agency.projects),
            project_ids={name: project.project_id for name, project in agency.projects.items()},
            misbehaving=misbehaving,
            calls=calls,
        )
        check_nothing_is_lost_or_counted_short(agency)
    console = Console()
    console.print(
        f"{chosen.businesses} businesses on {chosen.database}, {len(misbehaving)} of them "
        f"misbehaving: {measured.wall_seconds:.1f} s, {measured.cpu_seconds:.1f} s CPU, "
        f"{measured.peak_mib:.0f} MiB at most, {len(calls)} calls, {len(found)} complaints"
    )
    for line in found:
        console.print(line)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
