"""The two roll-ups that rules and reports read; rebuilt from `clarity_daily_metrics`."""

from collections.abc import Iterator
from datetime import date

import dagster as dg

from clarity_pipeline.operations import day_report, rebuild_day
from clarity_pipeline.operations.day_report import DayReport
from clarity_pipeline.orchestration.daily_metrics import clarity_daily_metrics, rebuilt_asset
from clarity_pipeline.orchestration.partitions import work_through_days
from clarity_pipeline.orchestration.resources import ClockResource, StoreResource


@rebuilt_asset(
    description="Per business and day the sums and weights from which any window is computed.",
    deps=[clarity_daily_metrics],
)
def clarity_business_aggregates(
    context: dg.AssetExecutionContext, store: StoreResource, clock: ClockResource
) -> Iterator[dg.AssetMaterialization | dg.Output[None]]:
    def rebuild(day: date) -> DayReport:
        rebuilt = rebuild_day.rebuild_business_aggregates(store.database, day=day, now=clock.now())
        rebuild_day.record_roll_up_in_jobs(
            store.database, rebuilt, day=day, run_id=context.run.run_id
        )
        rebuild_day.raise_if_nothing_worked(rebuilt)
        return day_report.report_aggregates_day(store.database, day, rebuilt)

    return work_through_days(context, rebuild)


@rebuilt_asset(
    description="The same sums per landing page: business, day and canonical URL.",
    deps=[clarity_daily_metrics],
)
def clarity_url_aggregates(
    context: dg.AssetExecutionContext, store: StoreResource, clock: ClockResource
) -> Iterator[dg.AssetMaterialization | dg.Output[None]]:
    def rebuild(day: date) -> DayReport:
        rebuilt = rebuild_day.rebuild_url_aggregates(store.database, day=day, now=clock.now())
        rebuild_day.record_roll_up_in_jobs(
            store.database, rebuilt, day=day, run_id=context.run.run_id
        )
        rebuild_day.raise_if_nothing_worked(rebuilt)
        return day_report.report_written(rebuilt)

    return work_through_days(context, rebuild)
