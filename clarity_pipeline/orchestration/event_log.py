"""Dagster's SQLite storage for a process that writes the events of one run.

Dagster's own makes a new engine for every event, which asks the file anew what it is: a third of
the CPU time that storing an event takes.
"""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dagster._core.storage.event_log.sqlite.sqlite_event_log import (
    INDEX_SHARD_NAME,
    SqliteEventLogStorage,
)
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData


class OneRunEventLog(SqliteEventLogStorage):
    """The same files, each with one engine. Connections last no longer than Dagster's own."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: dict[str, Any] = {}
        super().__init__(base_dir, inst_data)

    @contextmanager
    def _connect(self, shard: str) -> Generator[Any]:
        if shard not in self._engines:
            with super()._connect(shard) as connection:
                self._engines[shard] = connection.engine
        with self._db_lock, self._engines[shard].begin() as connection:
            yield connection


class OneRunStorage(DagsterSqliteStorage):
    """Dagster's storage in SQLite files, with such an event log."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        index = Path(self._event_log_storage.path_for_shard(INDEX_SHARD_NAME))
        self._event_log_storage = OneRunEventLog(str(index.parent))
