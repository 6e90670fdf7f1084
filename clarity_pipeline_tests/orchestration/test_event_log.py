"""The event log of a sync that runs in the process of whoever asked for it."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

from clarity_pipeline.orchestration.event_log import OneRunEventLog, OneRunStorage


def entry(run_id: str, message: str) -> dg.EventLogEntry:
    return dg.EventLogEntry(
        error_info=None,
        level="info",
        user_message=message,
        run_id=run_id,
        timestamp=datetime(2026, 11, 2, tzinfo=UTC).timestamp(),
    )


def test_a_file_has_one_engine_however_many_events_a_run_has(tmp_path: Path) -> None:
    storage = OneRunStorage(str(tmp_path))
    log = storage.event_log_storage
    assert isinstance(log, OneRunEventLog)
    engines: set[object] = set()
    for number in range(5):
        log.store_event(entry("run_1", f"event {number}"))
        with log.run_connection("run_1") as connection:
            engines.add(connection.engine)
    assert len(engines) == 1
    storage.dispose()


def test_what_is_written_is_where_dagster_looks_for_it_at_once(tmp_path: Path) -> None:
    """The panel and Dagster's own processes follow a run while it is under way."""
    ours, theirs = OneRunStorage(str(tmp_path)), DagsterSqliteStorage(str(tmp_path))
    for number in range(3):
        ours.event_log_storage.store_event(entry("run_1", f"event {number}"))
        seen = theirs.event_log_storage.get_logs_for_run("run_1")
        assert [log.user_message for log in seen] == [f"event {n}" for n in range(number + 1)]
    ours.dispose()
    theirs.dispose()


def test_an_event_that_cannot_be_written_leaves_the_log_usable(tmp_path: Path) -> None:
    storage = OneRunStorage(str(tmp_path))
    log = storage.event_log_storage
    log.store_event(entry("run_1", "before"))
    file = next(tmp_path.rglob("run_1.db"))
    with closing(sqlite3.connect(file)) as other:
        other.execute("ALTER TABLE event_logs RENAME TO elsewhere")
    with pytest.raises(Exception, match="event_logs"):
        log.store_event(entry("run_1", "lost"))
    with closing(sqlite3.connect(file)) as other:
        other.execute("ALTER TABLE elsewhere RENAME TO event_logs")
    log.store_event(entry("run_1", "after"))
    assert [found.user_message for found in log.get_logs_for_run("run_1")] == ["before", "after"]
    storage.dispose()
