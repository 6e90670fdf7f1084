"""When the daily sync runs, and for which days."""

import dagster as dg

from clarity_pipeline.domain.days import SCHEDULED_AT, day_collected_at
from clarity_pipeline.domain.errors import ClarityError
from clarity_pipeline.operations.scheduled_days import days_to_recover
from clarity_pipeline.orchestration.jobs import clarity_daily_sync, clarity_history_check
from clarity_pipeline.orchestration.resources import StoreResource

_AFTER_YESTERDAY = {"dagster/priority": "-1"}
"""One run fetches at a time, and this one waits: a reply about yesterday, made just before, is half
of what recovers the day before it, and yesterday comes first when there are few calls."""


def build_scheduler(
    default_status: dg.DefaultScheduleStatus = dg.DefaultScheduleStatus.STOPPED,
) -> dg.ScheduleDefinition:
    """`clarity_scheduler`; it ships stopped, and only a demo, with no quota to spend, starts it."""

    @dg.schedule(
        name="clarity_scheduler",
        job=clarity_daily_sync,
        cron_schedule=f"{SCHEDULED_AT.minute} {SCHEDULED_AT.hour} * * *",
        execution_timezone="UTC",
        description=(
            "Collects yesterday at 00:15 UTC and, with CLARITY_RECOVERY on, what was missed of the "
            "two days before it."
        ),
        default_status=default_status,
    )
    def request_days(
        context: dg.ScheduleEvaluationContext, store: StoreResource
    ) -> list[dg.RunRequest]:
        now = context.scheduled_execution_time
        yesterday = day_collected_at(now).isoformat()
        requests = [dg.RunRequest(run_key=yesterday, partition_key=yesterday)]
        try:
            if store.settings.recovery:
                missed = days_to_recover(
                    store.database, overview_default=store.settings.overview, now=now
                )
                requests += [
                    dg.RunRequest(
                        run_key=f"recover {day}",
                        partition_key=day.isoformat(),
                        tags=_AFTER_YESTERDAY,
                    )
                    for day in missed
                ]
        except ClarityError as error:
            # Yesterday can be had today only; the run says itself what is wrong with the store.
            context.log.warning("Missed days were not looked for: %s", error)
        return requests

    return request_days


clarity_history_schedule = dg.ScheduleDefinition(
    name="clarity_history_schedule",
    job=clarity_history_check,
    cron_schedule="5 1 * * *",
    execution_timezone="UTC",
    description="Looks at 01:05 UTC whether yesterday has arrived; it is due at 01:00.",
    # It makes no call, and a scheduler that nobody has started is what it has to report.
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
