"""Backfills as a deployment runs them: webserver, daemon and run queue, each the real one.

Asked for over GraphQL as the user interface does, in processes that read `workspace.yaml` and the
instance's `dagster.yaml`. Their clock is the real one, so the days are counted back from today.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import dagster as dg
import pytest
from sqlalchemy import Table, delete, func, select

from clarity_pipeline.domain.days import days_between
from clarity_pipeline.orchestration.raw_exports import CLARITY_API_POOL
from clarity_pipeline.store.schema import (
    business_aggregates,
    daily_metrics,
    daily_slices,
    url_aggregates,
    url_week_aggregates,
)
from clarity_pipeline_tests.agency import Agency
from clarity_pipeline_tests.faults.invariants import Rows, content
from clarity_pipeline_tests.faults.worker import sync
from clarity_pipeline_tests.landing import fetched_at

ASSETS: Final = (
    "clarity_raw_exports",
    "clarity_daily_metrics",
    "clarity_business_aggregates",
    "clarity_url_aggregates",
    "clarity_rule_evaluations",
)
TABLES: Final[tuple[Table, ...]] = (
    daily_metrics,
    daily_slices,
    business_aggregates,
    url_aggregates,
)
WORKSPACE: Final = Path(__file__).parents[2] / "workspace.yaml"
PATIENCE_SECONDS: Final = 150
"""The daemon looks every 30 seconds; the rest is for machines that are slow to start Python."""

LAUNCH: Final = """
mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}"""


@contextmanager
def running(*command: str, log: Path) -> Generator[subprocess.Popen[bytes]]:
    """A command in a process group of its own, all of which is ended afterwards."""
    program = str(Path(sys.executable).with_name(command[0]))
    with log.open("ab") as output:
        process = subprocess.Popen(
            [program, *command[1:], "--workspace", str(WORKSPACE)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(
    what: str, is_there: Callable[[], bool], *, by: subprocess.Popen[bytes], log: Path
) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_there():
        is_hopeless = by.poll() is not None or time.monotonic() > deadline
        assert not is_hopeless, f"no {what}; Dagster said: {log.read_text()[-5000:]}"
        time.sleep(0.3)


@contextmanager
def webserver(log: Path) -> Generator[str]:
    """The address of its GraphQL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def answers() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    command = ("dagster-webserver", "--host", "127.0.0.1", "--port", str(port))
    with running(*command, log=log) as process:
        wait_for("webserver", answers, by=process, log=log)
        yield f"http://127.0.0.1:{port}/graphql"


def launch_backfill(url: str, days: Sequence[date]) -> str:
    """The id of a backfill of these days, asked for as the user interface does."""
    params: Mapping[str, Any] = {
        "assetSelection": [{"path": [asset]} for asset in ASSETS],
        "partitionNames": [day.isoformat() for day in days],
    }
    request = urllib.request.Request(
        url,
        json.dumps({"query": LAUNCH, "variables": {"params": params}}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)
    launched = answer["data"]["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", answer
    return str(launched["backfillId"])


def last_written_at(agency: Agency) -> datetime:
    with agency.database.reading() as connection:
        return max(
            connection.execute(select(func.max(table.c.updated_at))).scalar_one()
            for table in TABLES
        )


def without_weeks(tables: Mapping[str, Rows]) -> dict[str, Rows]:
    return {name: rows for name, rows in tables.items() if name != url_week_aggregates.name}


@pytest.mark.long
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_range_is_one_run_without_a_call_and_a_second_one_writes_nothing(
    agency: Agency, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(agency.settings.dagster_home))
    log = tmp_path / "dagster.log"
    today = datetime.now(UTC).date()
    days = days_between(today - timedelta(days=12), today - timedelta(days=8))
    keys = {day.isoformat() for day in days}
    agency.move_to(fetched_at(days[0]))
    agency.connect("acme", sessions_per_day=10, pages=4)
    agency.connect("bistro", sessions_per_day=5, pages=2)
    for day in days:
        agency.move_to(fetched_at(day))
        sync(agency)
    collected = content(agency.database)
    assert {row[1] for row in collected["clarity_daily_slices"]} == set(days)
    with agency.database.transaction() as connection:
        for table in TABLES:
            connection.execute(delete(table).where(table.c.date.in_(days[1:])))
    calls = len(agency.calls())

    with agency.instance() as instance:

        def runs_of(backfill: str) -> list[dg.RunRecord]:
            return list(
                instance.get_run_records(dg.RunsFilter(tags={"dagster/backfill": backfill}))
            )

        def have_ended(*backfills: str) -> bool:
            found = [runs_of(each) for each in backfills]
            return all(runs and runs[0].dagster_run.is_finished for runs in found)

        # As after the first run that the queue has seen: before that it knows no limit, and two
        # that it finds together start together.
        instance.event_log_storage.initialize_concurrency_limit_to_default(CLARITY_API_POOL)
        with webserver(log) as url:
            # Both at once: of the pool that spends quota, the queue lets one run in at a time.
            first, second = launch_backfill(url, days), launch_backfill(url, days)
            with running("dagster-daemon", "run", log=log) as daemon:
                wait_for(
                    "run of each backfill",
                    lambda: have_ended(first, second),
                    by=daemon,
                    log=log,
                )

        runs = [record for backfill in (first, second) for record in runs_of(backfill)]
        assert [record.dagster_run.status for record in runs] == [dg.DagsterRunStatus.SUCCESS] * 2
        for asset in ASSETS:
            assert instance.get_materialized_partitions(dg.AssetKey(asset)) == keys

    one, other = sorted(runs, key=lambda record: record.start_time or 0)
    assert one.end_time is not None
    assert other.start_time is not None
    assert one.end_time <= other.start_time
    # A week that was not over when its days came is added up when they come again.
    assert without_weeks(content(agency.database)) == without_weeks(collected)
    assert one.start_time is not None
    assert one.start_time < last_written_at(agency).timestamp() < other.start_time
    assert len(agency.calls()) == calls
    for record in runs:
        assert record.dagster_run.tags["dagster/asset_partition_range_start"] == min(keys)
        assert record.dagster_run.tags["dagster/asset_partition_range_end"] == max(keys)
