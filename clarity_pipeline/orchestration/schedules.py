"""When the daily sync runs."""

import dagster as dg

from clarity_pipeline.domain.days import day_collected_at
from clarity_pipeline.orchestration.jobs import clarity_daily_sync, clarity_history_check


def build_scheduler(
    default_status: dg.DefaultScheduleStatus = dg.DefaultScheduleStatus.STOPPED,
) -> dg.ScheduleDefinition:
    """`clarity_scheduler`; it ships stopped, and only a demo, with no quota to spend, starts it.

    00:15 UTC: the 24 h window is then the UTC day that just ended, and late sessions are in.
    """

    @dg.schedule(
        name="clarity_scheduler",
        job=clarity_daily_sync,
        cron_schedule="15 0 * * *",
        execution_timezone="UTC",
        description="Collects yesterday at 00:15 UTC.",
        default_status=default_status,
    )
    def request_yesterday(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return dg.RunRequest(
            partition_key=day_collected_at(context.scheduled_execution_time).isoformat()
        )

    return request_yesterday


clarity_history_schedule = dg.ScheduleDefinition(
    name="clarity_history_schedule",
    job=clarity_history_check,
    cron_schedule="5 1 * * *",
    execution_timezone="UTC",
    description="Looks at 01:05 UTC whether yesterday has arrived; it is due at 01:00.",
    # It makes no call, and a scheduler that nobody has started is what it has to report.
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
