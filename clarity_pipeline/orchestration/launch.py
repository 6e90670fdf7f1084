"""Running the daily sync from outside Dagster's own processes, on the same instance."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from shutil import copyfile
from typing import Any, Final

import dagster as dg
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

from clarity_pipeline.domain.collection import TRIGGER_TAG
from clarity_pipeline.domain.interrupted_jobs import WORKER_TAG
from clarity_pipeline.domain.sync_jobs import Trigger
from clarity_pipeline.operations.workers import this_worker
from clarity_pipeline.orchestration.event_log import OneRunStorage
from clarity_pipeline.orchestration.run_errors import first_error
from clarity_pipeline.settings import Settings

_INTERRUPTED: Final = dg.DagsterExecutionInterruptedError.__name__

_REPOSITORY: Final = Path(__file__).parents[2]
SQLITE_INSTANCE: Final = _REPOSITORY / "dagster.yaml"
POSTGRESQL_INSTANCE: Final = _REPOSITORY / "dagster.postgresql.yaml"


class HomeState(StrEnum):
    """How the settings of the instance came to be in a Dagster home."""

    MADE = "made"
    UP_TO_DATE = "up_to_date"
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class DagsterHome:
    """A directory that can be `DAGSTER_HOME`; `wanted` are the settings meant to be in it.

    Where it `differs`, somebody has changed them, or they are those of another version or storage.
    """

    directory: Path
    wanted: Path
    state: HomeState


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A finished Dagster run: its id, whether it succeeded, and what went wrong in one sentence."""

    run_id: str
    succeeded: bool
    error: str | None


def prepare_dagster_home(settings: Settings) -> DagsterHome:
    """Make a directory that can be `DAGSTER_HOME`, with the project's instance settings in it.

    Those for PostgreSQL where DAGSTER_POSTGRES_URL is set. Settings that are there already are
    never overwritten: they may be somebody's own, and another storage has another history.
    """
    directory = settings.dagster_home
    wanted = POSTGRESQL_INSTANCE if settings.dagster_on_postgresql else SQLITE_INSTANCE
    directory.mkdir(parents=True, exist_ok=True)
    standing = directory / "dagster.yaml"
    if not standing.exists():
        copyfile(wanted, standing)
        return DagsterHome(directory, wanted, HomeState.MADE)
    # A directory in its place is for Dagster to complain about.
    same = standing.is_file() and standing.read_bytes() == wanted.read_bytes()
    return DagsterHome(directory, wanted, HomeState.UP_TO_DATE if same else HomeState.DIFFERS)


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """The Dagster instance of the settings, its home made where it is missing."""
    return dg.DagsterInstance.from_config(str(prepare_dagster_home(settings).directory))


def run_daily_sync(
    definitions: dg.Definitions,
    *,
    dagster_home: Path,
    day: date,
    business_ids: Collection[str],
    trigger: Trigger,
) -> FinishedRun:
    """Run `clarity_daily_sync` for one day in this process and wait for it, saying nothing.

    Everything is in the run's event log; standard output and error belong to the caller. A Ctrl-C
    fails the run and is raised again as KeyboardInterrupt, which Dagster would keep to itself.
    """
    with _quiet_instance(dagster_home) as instance:
        result = definitions.resolve_job_def("clarity_daily_sync").execute_in_process(
            instance=instance,
            partition_key=day.isoformat(),
            run_config={
                **run_config(business_ids),
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            tags={TRIGGER_TAG: trigger.value, WORKER_TAG: this_worker()},
            raise_on_error=False,
        )
        if _was_interrupted(result):
            raise KeyboardInterrupt
        return FinishedRun(
            run_id=result.run_id, succeeded=result.success, error=first_error(result.all_events)
        )


def run_config(business_ids: Collection[str]) -> Mapping[str, Any]:
    """The run config that narrows a run to some businesses; none named means all."""
    if not business_ids:
        return {}
    return {"ops": {"clarity_raw_exports": {"config": {"business_ids": sorted(business_ids)}}}}


def _quiet_instance(dagster_home: Path) -> dg.DagsterInstance:
    """The instance of this home, for one run, without capturing what the process prints.

    Capturing turns standard error into a file followed by a process of its own, which would cost
    half a second a run and garble any progress display.
    """
    ref = InstanceRef.from_dir(str(dagster_home))
    compute_logs = ref.compute_logs_data._replace(
        module_name="dagster._core.storage.noop_compute_log_manager",
        class_name="NoOpComputeLogManager",
        config_yaml="{}",
    )
    storage = ref.storage_data
    if storage is not None and storage.class_name == DagsterSqliteStorage.__name__:
        storage = storage._replace(
            module_name=OneRunStorage.__module__, class_name=OneRunStorage.__name__
        )
    return dg.DagsterInstance.from_ref(
        ref._replace(compute_logs_data=compute_logs, storage_data=storage)
    )


def _was_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    for event in result.all_events:
        if event.event_type is dg.DagsterEventType.RUN_FAILURE:
            error = event.job_failure_data.error
            return error is not None and error.cls_name == _INTERRUPTED
    return False
