"""Running the daily sync from outside Dagster's own processes, on the same instance."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from shutil import copyfile
from typing import Any, Final

import dagster as dg

from clarity_pipeline.domain.collection import TRIGGER_TAG
from clarity_pipeline.domain.interrupted_jobs import WORKER_TAG
from clarity_pipeline.domain.sync_jobs import Trigger
from clarity_pipeline.operations.workers import this_worker
from clarity_pipeline.orchestration.run_errors import first_error

_INTERRUPTED: Final = dg.DagsterExecutionInterruptedError.__name__

INSTANCE_SETTINGS = Path(__file__).parents[2] / "dagster.yaml"


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A finished Dagster run: its id, whether it succeeded, and what went wrong in one sentence."""

    run_id: str
    succeeded: bool
    error: str | None


def prepare_dagster_home(directory: Path) -> Path:
    """Make a directory that can be `DAGSTER_HOME`, with the project's instance settings in it."""
    directory.mkdir(parents=True, exist_ok=True)
    settings = directory / "dagster.yaml"
    if not settings.exists():
        copyfile(INSTANCE_SETTINGS, settings)
    return directory


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
    """The instance of this home, without capturing what the process prints.

    Capturing turns standard error into a file followed by a process of its own, which would cost
    half a second a run and garble any progress display.
    """
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        ref = instance.get_ref()
    compute_logs = ref.compute_logs_data._replace(
        module_name="dagster._core.storage.noop_compute_log_manager",
        class_name="NoOpComputeLogManager",
        config_yaml="{}",
    )
    return dg.DagsterInstance.from_ref(ref._replace(compute_logs_data=compute_logs))


def _was_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    for event in result.all_events:
        if event.event_type is dg.DagsterEventType.RUN_FAILURE:
            error = event.job_failure_data.error
            return error is not None and error.cls_name == _INTERRUPTED
    return False
