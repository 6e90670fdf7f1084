"""Dagster's own sensor daemon, one tick per process, killed where it is told to be.

Run as `python -m ... HOME INSTANT POINT...`: INSTANT is what the pipeline takes for now, each POINT
one of Dagster's debug crash points, or `nowhere`. Prints how each tick's process ended.
"""

import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import create_test_daemon_workspace_context, freeze_time
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.load_target import WorkspaceLoadTarget
from dagster._daemon.sensor import (
    execute_sensor_iteration,  # pyright: ignore[reportUnknownVariableType]
)

from clarity_pipeline.definitions import build_defs
from clarity_pipeline.orchestration.resources import ClockResource

SENSOR = "clarity_sync_request_sensor"
BETWEEN_TICKS = timedelta(seconds=10)
"""More than the least interval of this sensor, less than that of all others."""


@dg.definitions
def defs() -> dg.Definitions:
    return build_defs(clock=ClockResource(fixed_at=sys.argv[2]))


class ThisFile(WorkspaceLoadTarget):
    """The definitions above, loaded in the daemon's own process."""

    def create_origins(self) -> Sequence[InProcessCodeLocationOrigin]:
        target = LoadableTargetOrigin(
            executable_path=sys.executable, python_file=__file__, attribute="defs"
        )
        return [InProcessCodeLocationOrigin(target, location_name="clarity")]


def tick_once(*, home: Path, dies_at: str, at: datetime) -> None:
    with (
        dg.DagsterInstance.from_config(str(home)) as instance,
        create_test_daemon_workspace_context(ThisFile(), instance) as workspace,
        freeze_time(at),
    ):
        for error in execute_sensor_iteration(
            workspace,
            logging.getLogger("daemon"),
            threadpool_executor=None,
            submit_threadpool_executor=None,
            debug_crash_flags={SENSOR: {dies_at: signal.SIGKILL}},
        ):
            if error is not None:
                raise RuntimeError(str(error))


def tick_in_a_fork(*, home: Path, dies_at: str, at: datetime) -> int:
    """Returns how the process ended, as `waitstatus_to_exitcode` says it."""
    child = os.fork()
    if child == 0:
        try:
            tick_once(home=home, dies_at=dies_at, at=at)
        except BaseException:  # noqa: BLE001 - a fork must never go on as its parent
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    started_at = datetime.now(UTC)
    for number, point in enumerate(sys.argv[3:]):
        at = started_at + number * BETWEEN_TICKS
        ended = tick_in_a_fork(home=Path(sys.argv[1]), dies_at=point, at=at)
        sys.stdout.write(f"{point} {ended}\n")
