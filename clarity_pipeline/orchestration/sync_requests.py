"""`clarity_sync_request_sensor`: launches the daily sync for what people have asked for."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import dagster as dg

from clarity_pipeline.domain.collection import TRIGGER_TAG
from clarity_pipeline.domain.sync_jobs import Trigger
from clarity_pipeline.domain.sync_requests import (
    REQUESTS_TAG,
    LaunchedRun,
    RunEnd,
    WantedRun,
    parse_requests_tag,
)
from clarity_pipeline.operations.sync_requests import pick_up_requests
from clarity_pipeline.orchestration.jobs import clarity_daily_sync
from clarity_pipeline.orchestration.launch import run_config
from clarity_pipeline.orchestration.resources import ClockResource, StoreResource
from clarity_pipeline.orchestration.run_errors import presentable_error

NEWEST_RUNS: Final = 100
"""A tick asks for ten at most; the rest is room for runs that people have executed again."""


class _RunsOnInstance:
    """The runs of requests as a Dagster instance has them."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance

    def newest(self) -> Sequence[LaunchedRun]:
        asked_for = dg.RunsFilter(tags={TRIGGER_TAG: Trigger.PANEL.value})
        runs = self._instance.get_runs(asked_for, limit=NEWEST_RUNS)
        return [_launched_run(run) for run in runs if _was_launched(run)]

    def with_ids(self, run_ids: Collection[str]) -> Mapping[str, LaunchedRun]:
        if not run_ids:
            return {}
        runs = self._instance.get_runs(dg.RunsFilter(run_ids=sorted(run_ids)))
        return {run.run_id: _launched_run(run) for run in runs}

    def why_it_ended(self, run_id: str) -> str:
        failures = self._instance.all_logs(run_id, of_type={dg.DagsterEventType.STEP_FAILURE})
        return presentable_error(log.dagster_event for log in failures if log.dagster_event)


@dg.sensor(
    name="clarity_sync_request_sensor",
    job=clarity_daily_sync,
    # Somebody looks at the panel and waits; an idle look is two short queries.
    minimum_interval_seconds=5,
    description=(
        'Launches the daily sync for businesses whose "Sync now" was clicked, and closes requests '
        "that can no longer be done."
    ),
    # It spends quota only where a person has just asked for it, and never the schedule's share.
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def clarity_sync_request_sensor(
    context: dg.SensorEvaluationContext, store: StoreResource, clock: ClockResource
) -> dg.SensorResult:
    looked = pick_up_requests(store.database, _RunsOnInstance(context.instance), now=clock.now())
    said = f"{looked.picked_up} requests picked up, {looked.refused} refused."
    if not looked.wanted:
        return dg.SensorResult(skip_reason=said)
    return dg.SensorResult(run_requests=[_run_request(wanted) for wanted in looked.wanted])


def _run_request(wanted: WantedRun) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=wanted.run_key,
        partition_key=wanted.day.isoformat(),
        run_config=run_config(wanted.business_ids),
        tags={TRIGGER_TAG: Trigger.PANEL.value, REQUESTS_TAG: wanted.requests_tag},
    )


def _was_launched(run: dg.DagsterRun) -> bool:
    return run.status is not dg.DagsterRunStatus.NOT_STARTED


def _launched_run(run: dg.DagsterRun) -> LaunchedRun:
    end = None
    if run.is_finished:
        is_cancelled = run.status is dg.DagsterRunStatus.CANCELED
        end = RunEnd.CANCELLED if is_cancelled else RunEnd.ENDED
    return LaunchedRun(run.run_id, parse_requests_tag(run.tags.get(REQUESTS_TAG, "")), end)
