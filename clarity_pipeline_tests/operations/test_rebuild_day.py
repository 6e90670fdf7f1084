"""Rebuilding a day: what is left alone, what is written, and whose fault is whose."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from datetime import timedelta
from typing import Any

import psutil
import pytest
from sqlalchemy import Row, text

from clarity_pipeline.domain.connections import ConnectionState
from clarity_pipeline.domain.errors import RebuildFailed
from clarity_pipeline.domain.normalise import NormalisedSlice
from clarity_pipeline.domain.sync_jobs import JobStatus
from clarity_pipeline.operations.connection_status import ConnectionStatus, connection_statuses
from clarity_pipeline.operations.notices import record_connection_notices
from clarity_pipeline.operations.rebuild_day import (
    Rebuilt,
    raise_if_nothing_worked,
    rebuild,
    rebuild_metrics,
    record_in_jobs,
)
from clarity_pipeline.operations.replay_day import replay_day
from clarity_pipeline.store.database import Database
from clarity_pipeline_tests.agency import DAY, Agency


def synced(agency: Agency) -> Agency:
    agency.connect("acme")
    agency.connect("globex")
    agency.sync()
    return agency


def test_a_rebuilt_day_that_has_not_changed_writes_nothing_even_when_forced(
    agency: Agency,
) -> None:
    synced(agency)
    left_alone = rebuild(agency.database, day=DAY, now=agency.now)
    assert set(left_alone.unchanged) == {"acme", "globex"}
    forced = rebuild(agency.database, day=DAY, now=agency.now, force=True)
    assert set(forced.written) == {"acme", "globex"}
    assert forced.rows_written == 0
    assert gc.isenabled()


def test_what_nobody_collects_while_a_day_is_rebuilt_is_next_to_nothing(agency: Agency) -> None:
    synced(agency)
    left: list[int] = []
    for _ in range(2):  # statements are made the first time
        gc.collect()
        gc.disable()
        try:
            rebuild(agency.database, day=DAY, now=agency.now, force=True)
            left.append(gc.collect())
        finally:
            gc.enable()
    assert left[1] < 150


def test_a_business_that_fails_leaves_none_of_its_rows_in_memory(agency: Agency) -> None:
    synced(agency)
    with agency.database.transaction() as connection:
        connection.execute(
            text("UPDATE clarity_raw_exports SET sha256 = 'wrong' WHERE slot = 2"),
        )
    gc.collect()
    gc.disable()
    try:
        rebuilt = rebuild_metrics(agency.database, day=DAY, now=agency.now, force=True)
        kept = sum(isinstance(each, NormalisedSlice) for each in gc.get_objects())
    finally:
        gc.enable()
    assert set(rebuilt.failures) == {"acme", "globex"}
    assert kept == 0


def test_a_corrupt_landed_body_fails_its_business_and_its_other_slices_are_written(
    agency: Agency,
) -> None:
    synced(agency)
    with agency.database.transaction() as connection:
        connection.execute(
            text(
                "UPDATE clarity_raw_exports SET sha256 = :wrong "
                "WHERE business_id = 'acme' AND dimension_set = 'Device,URL'"
            ),
            {"wrong": "0" * 64},
        )
        connection.execute(text("DELETE FROM clarity_daily_metrics"))
        connection.execute(text("DELETE FROM clarity_daily_slices"))
    rebuilt = rebuild(agency.database, day=DAY, now=agency.now)

    assert set(rebuilt.failures) == {"acme"}
    assert set(rebuilt.written) == {"globex"}
    with agency.database.reading() as connection:
        slices = connection.execute(
            text("SELECT business_id, dimension_set FROM clarity_daily_slices")
        ).all()
    assert {row.dimension_set for row in slices if row.business_id == "acme"} == {
        "Source,URL",
        "Country,URL",
        "Campaign,Channel,URL",
    }
    raise_if_nothing_worked(rebuilt)
    run_id = agency.latest_job("acme").dagster_run_id
    assert run_id is not None
    record_in_jobs(agency.database, rebuilt, day=DAY, run_id=run_id)
    failed = agency.latest_job("acme")
    assert (failed.status, failed.error_code) == (JobStatus.FAILED, "rebuild_failed")
    assert failed.error_message is not None
    assert "clarity replay" in failed.error_message
    assert agency.latest_job("globex").status is JobStatus.SUCCEEDED


def test_when_no_business_could_be_rebuilt_it_is_nobodys_own_fault(agency: Agency) -> None:
    synced(agency)
    with agency.database.transaction() as connection:
        connection.execute(text("UPDATE clarity_raw_exports SET sha256 = 'wrong'"))
    rebuilt = rebuild(agency.database, day=DAY, now=agency.now, force=True)
    with pytest.raises(RebuildFailed, match="None of 2 businesses could be rebuilt"):
        raise_if_nothing_worked(rebuilt)


METRICS = (
    "SELECT business_id, dimension_hash, url, sessions, raw_payload FROM clarity_daily_metrics"
)


def forget_metrics(agency: Agency) -> None:
    with agency.database.transaction() as connection:
        connection.execute(text("DELETE FROM clarity_daily_metrics"))
        connection.execute(text("DELETE FROM clarity_daily_slices"))


def metrics_rebuilt_by_two_processes(agency: Agency) -> Rebuilt:
    """As on a day of large replies, from nothing."""
    forget_metrics(agency)
    return rebuild_metrics(agency.database, day=DAY, now=agency.now, shared_from_bytes=0)


def stored_metrics(agency: Agency) -> list[Row[Any]]:
    with agency.database.reading() as connection:
        return list(connection.execute(text(f"{METRICS} ORDER BY business_id, dimension_hash")))


def test_two_processes_write_what_one_does(
    agency: Agency, caplog: pytest.LogCaptureFixture
) -> None:
    agency.connect("initech")
    synced(agency)
    by_one = stored_metrics(agency)
    rebuilt = metrics_rebuilt_by_two_processes(agency)
    assert set(rebuilt.written) == {"acme", "globex", "initech"}
    assert rebuilt.rows_written == len(by_one)
    assert stored_metrics(agency) == by_one
    again = rebuild_metrics(agency.database, day=DAY, now=agency.now, shared_from_bytes=0)
    assert again.unchanged == ("acme", "globex", "initech")
    assert caplog.messages == []


def test_what_a_second_process_does_not_do_is_done_without_it(
    agency: Agency, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    synced(agency)
    by_one = stored_metrics(agency)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    rebuilt = metrics_rebuilt_by_two_processes(agency)
    assert set(rebuilt.written) == {"acme", "globex"}
    assert stored_metrics(agency) == by_one
    # On SQLite there is none: it has one writer at a time.
    told = ["The second process ended with exit code 1. Its businesses are rebuilt in this one."]
    assert caplog.messages == (told if agency.database.dialect_name == "postgresql" else [])


@pytest.mark.parametrize("damaged", ["acme", "globex"])
def test_a_failure_stays_with_its_business_in_either_process(agency: Agency, damaged: str) -> None:
    synced(agency)
    with agency.database.transaction() as connection:
        connection.execute(
            text("UPDATE clarity_raw_exports SET sha256 = 'wrong' WHERE business_id = :damaged"),
            {"damaged": damaged},
        )
    rebuilt = metrics_rebuilt_by_two_processes(agency)
    assert set(rebuilt.failures) == {damaged}
    assert set(rebuilt.written) == {"acme", "globex"} - {damaged}


REBUILD_IT = """
import sys
from datetime import date, datetime
from clarity_pipeline.operations.rebuild_day import rebuild_metrics
from clarity_pipeline.store.database import Database
day, now = date.fromisoformat(sys.argv[1]), datetime.fromisoformat(sys.argv[2])
with Database.open(sys.stdin.readline()) as database:
    print("started", flush=True)
    rebuild_metrics(database, day=day, now=now, shared_from_bytes=0)
"""


@pytest.mark.parametrize("after_seconds", [0.3, 0.6, 0.9])
def test_after_a_kill_the_other_process_does_no_harm(agency: Agency, after_seconds: float) -> None:
    """It may still be writing what is rebuilt here at the same time."""
    synced(agency)
    by_one = stored_metrics(agency)
    forget_metrics(agency)
    arguments = [sys.executable, "-c", REBUILD_IT, DAY.isoformat(), agency.now.isoformat()]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdin is not None
        assert killed.stdout is not None
        killed.stdin.write(agency.database.url.get_secret_value())
        killed.stdin.close()
        assert killed.stdout.readline() == "started\n"
        time.sleep(after_seconds)
        others = psutil.Process(killed.pid).children()
        killed.kill()
    rebuild_metrics(agency.database, day=DAY, now=agency.now)
    assert stored_metrics(agency) == by_one
    _, still_there = psutil.wait_procs(others, timeout=10)
    assert still_there == []
    assert stored_metrics(agency) == by_one


def refuse_sums_of_acme(database: Database, table: str) -> None:
    """The database fails whatever is written into a table of aggregates for one business."""
    if database.dialect_name == "sqlite":
        statements = [
            f"CREATE TRIGGER refuse BEFORE INSERT ON {table} WHEN NEW.business_id = 'acme' "
            "BEGIN SELECT abs(-9223372036854775808); END"
        ]
    else:
        statements = [
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'refused'; END $$",
            f"CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW "
            "WHEN (NEW.business_id = 'acme') EXECUTE FUNCTION refuse()",
        ]
    with database.transaction() as connection:
        for statement in statements:
            connection.execute(text(statement))


def allow_sums_again(database: Database, table: str) -> None:
    on_table = "" if database.dialect_name == "sqlite" else f" ON {table}"
    with database.transaction() as connection:
        connection.execute(text(f"DROP TRIGGER refuse{on_table}"))


def status_of(agency: Agency, business_id: str) -> ConnectionStatus:
    (status,) = connection_statuses(
        agency.database, now=agency.now, overview_default=False, business_ids=[business_id]
    )
    return status


def news(agency: Agency) -> list[tuple[str, str]]:
    found = record_connection_notices(agency.database, overview_default=False, now=agency.now)
    return [(notice.subject, notice.state) for notice in found]


@pytest.mark.parametrize("table", ["clarity_business_aggregates", "clarity_url_aggregates"])
def test_a_failed_roll_up_of_one_business_is_said_by_its_job_its_status_and_a_notice(
    agency: Agency, table: str
) -> None:
    agency.connect("acme")
    agency.connect("globex")
    refuse_sums_of_acme(agency.database, table)
    assert agency.sync().succeeded

    job = agency.latest_job("acme")
    assert (job.status, job.error_code) == (JobStatus.FAILED, "rebuild_failed")
    assert job.rows_written > 0
    assert job.error_message is not None
    assert "could not be rolled up" in job.error_message
    assert f"clarity replay --from {DAY} --to {DAY}" in job.error_message
    assert agency.latest_job("globex").status is JobStatus.SUCCEEDED
    status = status_of(agency, "acme")
    assert (status.state, status.landed) == (ConnectionState.FAILING, 4)
    assert status_of(agency, "globex").state is ConnectionState.CONNECTED
    assert news(agency) == [("connection:acme", "failing")]
    assert news(agency) == []

    allow_sums_again(agency.database, table)
    replay_day(agency.database, day=DAY, business_ids=["acme"], clock=lambda: agency.now)
    assert status_of(agency, "acme").state is ConnectionState.CONNECTED
    agency.move_to(agency.now + timedelta(hours=1))
    assert agency.sync().succeeded
    assert news(agency) == [("connection:acme", "ok")]
    assert len(agency.calls("acme")) == 4


def test_what_cannot_be_rebuilt_for_anybody_is_told_once_and_not_per_business(
    agency: Agency,
) -> None:
    synced(agency)
    with agency.database.transaction() as connection:
        connection.execute(text("UPDATE clarity_raw_exports SET sha256 = 'wrong'"))
    replay_day(agency.database, day=DAY, business_ids=None, clock=lambda: agency.now)
    assert status_of(agency, "acme").state is ConnectionState.FAILING
    assert news(agency) == [("clarity:reachable", "not_rebuilt")]
