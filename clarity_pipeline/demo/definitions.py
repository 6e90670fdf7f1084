"""What `clarity dev` serves: the whole graph, with its schedule on and quick second tries."""

from __future__ import annotations

import dagster as dg

from clarity_pipeline.definitions import build_defs
from clarity_pipeline.orchestration.resources import ExportApiResource

defs = build_defs(
    export_api=ExportApiResource(retry_after_seconds=1.0),
    schedule_status=dg.DefaultScheduleStatus.RUNNING,
)
