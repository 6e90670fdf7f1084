"""The only place where Dagster objects are put together.

`defs` is what `dg`, the webserver and the daemon load; tests and the command line call
`build_defs` with resources of their own. Loading needs no network, database or environment.
"""

import dagster as dg

from clarity_pipeline.orchestration.aggregates import (
    clarity_business_aggregates,
    clarity_url_aggregates,
)
from clarity_pipeline.orchestration.automation import automation_sensor
from clarity_pipeline.orchestration.checks import build_asset_checks
from clarity_pipeline.orchestration.daily_metrics import clarity_daily_metrics
from clarity_pipeline.orchestration.jobs import clarity_daily_sync, clarity_history_check
from clarity_pipeline.orchestration.notice_sensors import (
    clarity_notice_sensor,
    clarity_run_failure_sensor,
)
from clarity_pipeline.orchestration.raw_exports import clarity_raw_exports
from clarity_pipeline.orchestration.resources import (
    ClockResource,
    ExportApiResource,
    StoreResource,
)
from clarity_pipeline.orchestration.retention import clarity_retention, retention_schedule
from clarity_pipeline.orchestration.rule_actions import clarity_rule_action_sensor
from clarity_pipeline.orchestration.rule_evaluations import (
    clarity_rule_evaluation,
    clarity_rule_evaluations,
    clarity_rule_schedule_sensor,
)
from clarity_pipeline.orchestration.schedules import build_scheduler, clarity_history_schedule
from clarity_pipeline.orchestration.sensors import (
    clarity_auth_failure_sensor,
    clarity_watchdog_sensor,
)
from clarity_pipeline.orchestration.sync_requests import clarity_sync_request_sensor


def build_defs(
    *,
    store: StoreResource | None = None,
    export_api: ExportApiResource | None = None,
    clock: ClockResource | None = None,
    executor: dg.ExecutorDefinition = dg.in_process_executor,
    schedule_status: dg.DefaultScheduleStatus = dg.DefaultScheduleStatus.STOPPED,
) -> dg.Definitions:
    """The whole graph; each argument replaces one edge of it.

    In process by default: a step costs about 40 ms there and one to three seconds in a process of
    its own, while the calls overlap either way.
    """
    return dg.Definitions(
        assets=[
            clarity_raw_exports,
            clarity_daily_metrics,
            clarity_business_aggregates,
            clarity_url_aggregates,
            clarity_rule_evaluations,
        ],
        asset_checks=build_asset_checks(),
        jobs=[
            clarity_daily_sync,
            clarity_rule_evaluation,
            clarity_history_check,
            clarity_retention,
        ],
        schedules=[
            build_scheduler(schedule_status),
            clarity_history_schedule,
            retention_schedule,
        ],
        sensors=[
            automation_sensor,
            clarity_auth_failure_sensor,
            clarity_watchdog_sensor,
            clarity_notice_sensor,
            clarity_run_failure_sensor,
            clarity_sync_request_sensor,
            clarity_rule_action_sensor,
            clarity_rule_schedule_sensor,
        ],
        resources={
            "store": store or StoreResource(),
            "export_api": export_api or ExportApiResource(),
            "clock": clock or ClockResource(),
        },
        executor=executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    return build_defs()
