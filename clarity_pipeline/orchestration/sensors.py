"""Sensors that look after what a dying process left undone; neither of them makes a call."""

import dagster as dg

from clarity_pipeline.operations.token_refusals import sweep_refusals
from clarity_pipeline.orchestration.dead_work import sweep_dead_work
from clarity_pipeline.orchestration.resources import ClockResource, StoreResource


@dg.sensor(
    name="clarity_auth_failure_sensor",
    description=(
        "Switches off the sync of a business whose token Clarity has refused, where the process "
        "that was refused died before it could. The job itself does not wait for this."
    ),
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def clarity_auth_failure_sensor(
    context: dg.SensorEvaluationContext, store: StoreResource, clock: ClockResource
) -> dg.SensorResult:
    swept = sweep_refusals(
        store.database,
        cursor=context.cursor,
        auth_failures_before_disable=store.settings.auth_failures_before_disable,
        now=clock.now(),
    )
    switched_off = ", ".join(swept.switched_off)
    said = f"Switched off: {switched_off}." if switched_off else "No token was refused unnoticed."
    return dg.SensorResult(skip_reason=said, cursor=swept.cursor)


@dg.sensor(
    name="clarity_watchdog_sensor",
    description=(
        "Fails runs whose process has died, so that they do not block the next one for two hours, "
        "and closes the sync jobs that they left running."
    ),
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def clarity_watchdog_sensor(
    context: dg.SensorEvaluationContext, store: StoreResource, clock: ClockResource
) -> dg.SkipReason:
    swept = sweep_dead_work(
        context.instance,
        store.database,
        overview_default=store.settings.overview,
        now=clock.now(),
    )
    return dg.SkipReason(
        f"Failed {len(swept.failed_run_ids)} dead runs, closed {len(swept.closed_jobs)} jobs."
    )
