"""`clarity_daily_metrics`: landed exports, normalised. Costs no quota; rebuilt at any time."""

from typing import Any

import dagster as dg

from clarity_pipeline.operations import day_report, rebuild_day
from clarity_pipeline.orchestration.automation import WHEN_UPSTREAM_HAS_CHANGED
from clarity_pipeline.orchestration.partitions import day_of, days
from clarity_pipeline.orchestration.raw_exports import clarity_raw_exports
from clarity_pipeline.orchestration.resources import ClockResource, StoreResource


@dg.asset(
    description=(
        "One row per business, day and tuple of dimension values. Slices whose export and "
        "normaliser have not changed are left alone; rows whose values have not changed are not "
        "written."
    ),
    deps=[clarity_raw_exports],
    partitions_def=days,
    group_name="clarity",
    kinds={"pandas", "table"},
    automation_condition=WHEN_UPSTREAM_HAS_CHANGED,
)
def clarity_daily_metrics(
    context: dg.AssetExecutionContext, store: StoreResource, clock: ClockResource
) -> dg.MaterializeResult[Any]:
    day = day_of(context.partition_key)
    rebuilt = rebuild_day.rebuild_metrics(
        store.database,
        day=day,
        now=clock.now(),
        keep_payload_days=store.settings.keep_payload_days,
    )
    rebuild_day.record_rows_written(store.database, rebuilt, day=day, run_id=context.run.run_id)
    rebuild_day.raise_if_nothing_worked(rebuilt)
    return dg.MaterializeResult(
        metadata=day_report.report_metrics_day(store.database, day, rebuilt).metadata(
            dg.MetadataValue.md
        )
    )
