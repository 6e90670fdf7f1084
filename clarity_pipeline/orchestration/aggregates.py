"""The two roll-ups that rules and reports read; rebuilt from `clarity_daily_metrics`."""

from typing import Any

import dagster as dg

from clarity_pipeline.operations import day_report, rebuild_day
from clarity_pipeline.orchestration.automation import WHEN_UPSTREAM_HAS_CHANGED
from clarity_pipeline.orchestration.daily_metrics import clarity_daily_metrics
from clarity_pipeline.orchestration.partitions import day_of, days
from clarity_pipeline.orchestration.resources import ClockResource, StoreResource


@dg.asset(
    description="Per business and day the sums and weights from which any window is computed.",
    deps=[clarity_daily_metrics],
    partitions_def=days,
    group_name="clarity",
    kinds={"pandas", "table"},
    automation_condition=WHEN_UPSTREAM_HAS_CHANGED,
)
def clarity_business_aggregates(
    context: dg.AssetExecutionContext, store: StoreResource, clock: ClockResource
) -> dg.MaterializeResult[Any]:
    day = day_of(context.partition_key)
    rebuilt = rebuild_day.rebuild_business_aggregates(store.database, day=day, now=clock.now())
    rebuild_day.raise_if_nothing_worked(rebuilt)
    return dg.MaterializeResult(
        metadata=day_report.report_aggregates_day(store.database, day, rebuilt).metadata(
            dg.MetadataValue.md
        )
    )


@dg.asset(
    description="The same sums per landing page: business, day and canonical URL.",
    deps=[clarity_daily_metrics],
    partitions_def=days,
    group_name="clarity",
    kinds={"pandas", "table"},
    automation_condition=WHEN_UPSTREAM_HAS_CHANGED,
)
def clarity_url_aggregates(
    context: dg.AssetExecutionContext, store: StoreResource, clock: ClockResource
) -> dg.MaterializeResult[Any]:
    day = day_of(context.partition_key)
    rebuilt = rebuild_day.rebuild_url_aggregates(store.database, day=day, now=clock.now())
    rebuild_day.raise_if_nothing_worked(rebuilt)
    return dg.MaterializeResult(metadata=day_report.write_numbers(rebuilt))
