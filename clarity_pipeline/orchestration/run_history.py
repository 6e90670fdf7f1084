"""Dagster's own history: finished runs and their events, removed once they are older than kept.

Open-source Dagster purges ticks (`retention:` in dagster.yaml) but never runs. Deleting a run takes
all its events along, and with them the only record that a partition was materialised: the UI
would call a year of history missing. So the newest materialisation of each partition is first
handed over to no run at all. The event itself stays: reporting it anew would give it a new id and
time, which automation takes for an update and a freshness policy for fresh data.
"""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.instance import RUNLESS_RUN_ID
from dagster._core.storage.dagster_run import FINISHED_STATUSES, NOT_FINISHED_STATUSES
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage
from dagster_shared.serdes import deserialize_value, serialize_value

from clarity_pipeline.domain.errors import ConfigurationError
from clarity_pipeline.domain.retention import (
    Kept,
    Removal,
    RetentionLimits,
    first_day_kept,
    removable_runs,
)

OUR_NAMES: Final = "clarity_"
"""Jobs and assets of the project begin with it; other people's runs on the instance are theirs."""

_RUNS_PER_PAGE: Final = 100
_UNFINISHED_BACKFILLS: Final = [
    BulkActionStatus.REQUESTED,
    BulkActionStatus.CANCELING,
    BulkActionStatus.FAILING,
]


@dataclass(frozen=True, slots=True)
class OldRun:
    """A finished run of the project; when it ended in UTC, and the backfill it belongs to."""

    run_id: str
    ended_at: datetime
    backfill_id: str | None


def remove_runs(
    instance: dg.DagsterInstance,
    limits: RetentionLimits,
    *,
    now: datetime,
    dry_run: bool = False,
) -> Removal:
    """Delete finished runs of the project that are too old, one after the other, oldest first.

    Partitions stay as materialised as they were, with their metadata, and nothing is triggered.
    Check results stay too. Raises ConfigurationError for an event log that is no SQL database.
    """
    cutoff = first_day_kept(now=now, days=limits.runs_days)
    removal = Removal(Kept.RUNS, cutoff)
    if cutoff is None:
        return removal
    storage = _event_log_of(instance)
    runs = removable_runs(
        list(_finished_runs(instance, created_before=cutoff)),
        cutoff=cutoff,
        needed_run_ids=_needed_run_ids(instance),
        needed_backfill_ids=_needed_backfill_ids(instance),
    )
    for run in runs:
        stored_bytes = sum(path.stat().st_size for path in _event_files(storage, run.run_id))
        if not dry_run:
            _delete(instance, storage, run.run_id)
        removal = removal.with_batch(day=run.ended_at.date(), rows=1, stored_bytes=stored_bytes)
    return removal


def _event_log_of(instance: dg.DagsterInstance) -> SqlEventLogStorage:
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise ConfigurationError(
            f"Runs cannot be removed from an event log of type {type(storage).__name__}; unset "
            "CLARITY_KEEP_RUNS_DAYS and use what that storage offers."
        )
    return storage


def _finished_runs(instance: dg.DagsterInstance, *, created_before: date) -> Iterator[OldRun]:
    filters = dg.RunsFilter(
        statuses=FINISHED_STATUSES,
        created_before=datetime.combine(created_before, datetime.min.time(), UTC),
    )
    cursor: str | None = None
    while page := instance.get_run_records(
        filters, limit=_RUNS_PER_PAGE, ascending=True, cursor=cursor
    ):
        for record in page:
            run = record.dagster_run
            if _is_ours(run):
                ended_at = (
                    record.update_timestamp.replace(tzinfo=UTC)
                    if record.end_time is None
                    else datetime.fromtimestamp(record.end_time, UTC)
                )
                yield OldRun(run.run_id, ended_at, run.tags.get("dagster/backfill"))
        cursor = page[-1].dagster_run.run_id


def _is_ours(run: dg.DagsterRun) -> bool:
    selected = run.asset_selection or ()
    return run.job_name.startswith(OUR_NAMES) or (
        bool(selected) and all(key.path[-1].startswith(OUR_NAMES) for key in selected)
    )


def _needed_run_ids(instance: dg.DagsterInstance) -> frozenset[str]:
    """The runs that unfinished ones re-execute, from whose events they go on."""
    unfinished = instance.get_run_records(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))
    return frozenset(
        run_id
        for record in unfinished
        for run_id in (record.dagster_run.parent_run_id, record.dagster_run.root_run_id)
        if run_id is not None
    )


def _needed_backfill_ids(instance: dg.DagsterInstance) -> frozenset[str]:
    unfinished = instance.get_backfills(BulkActionsFilter(statuses=_UNFINISHED_BACKFILLS))
    return frozenset(backfill.backfill_id for backfill in unfinished)


def _delete(instance: dg.DagsterInstance, storage: SqlEventLogStorage, run_id: str) -> None:
    """Events first and the run last: whoever is stopped in between finds the run again."""
    _hand_over_newest_materializations(storage, run_id)
    storage.delete_events(run_id)
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    # What ops handed to each other through the file system; it may be where the logs are.
    shutil.rmtree(Path(instance.storage_directory()) / run_id, ignore_errors=True)
    instance.delete_run(run_id)
    for path in _event_files(storage, run_id):
        path.unlink(missing_ok=True)


def _hand_over_newest_materializations(storage: SqlEventLogStorage, run_id: str) -> None:
    events = SqlEventLogStorageTable.c
    materialized = dg.DagsterEventType.ASSET_MATERIALIZATION
    with storage.index_connection() as connection:
        rows = connection.execute(
            SqlEventLogStorageTable.select().where(
                events.run_id == run_id, events.dagster_event_type == materialized.value
            )
        ).fetchall()
    newest_of: dict[str, Mapping[str, int]] = {}
    for asset in {row.asset_key for row in rows}:
        key = dg.AssetKey.from_db_string(asset)
        assert key is not None
        partitions = {row.partition for row in rows if row.asset_key == asset}
        newest_of[asset] = storage.get_latest_storage_id_by_partition(key, materialized, partitions)
    with storage.index_connection() as connection:
        for row in rows:
            if newest_of[row.asset_key].get(row.partition) != row.id:
                continue
            entry = deserialize_value(row.event, dg.EventLogEntry)
            connection.execute(
                SqlEventLogStorageTable.update()
                .where(events.id == row.id)
                .values(
                    run_id=RUNLESS_RUN_ID,
                    event=serialize_value(entry._replace(run_id=RUNLESS_RUN_ID)),
                )
            )


def _event_files(storage: SqlEventLogStorage, run_id: str) -> list[Path]:
    """The files that SQLite keeps a run's events in: one database per run, empty or not."""
    if not isinstance(storage, SqliteEventLogStorage):
        return []
    database = Path(storage.path_for_shard(run_id))
    return [path for path in database.parent.glob(f"{database.name}*") if path.is_file()]
