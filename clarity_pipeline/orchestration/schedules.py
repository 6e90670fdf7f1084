"""When the daily sync runs."""

from typing import Final

import dagster as dg

from clarity_pipeline.orchestration.jobs import clarity_daily_sync

MINUTE_AFTER_MIDNIGHT: Final = 15
"""00:15 UTC: the 24 h window is then the UTC day that just ended, and late sessions are in."""

clarity_scheduler = dg.build_schedule_from_partitioned_job(
    clarity_daily_sync,
    name="clarity_scheduler",
    hour_of_day=0,
    minute_of_hour=MINUTE_AFTER_MIDNIGHT,
    description="Collects yesterday at 00:15 UTC. Ships stopped; switch it on in the UI.",
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
