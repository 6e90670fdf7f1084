"""`clarity_daily_metrics`: landed exports, normalised. Costs no quota; rebuilt at any time."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any

import dagster as dg

from clarity_pipeline.operations import day_report, rebuild_day
from clarity_pipeline.operations.day_report import DayReport
from clarity_pipeline.orchestration.automation import WHEN_UPSTREAM_HAS_CHANGED
from clarity_pipeline.orchestration.partitions import (
    ONE_RUN_FOR_A_RANGE,
    accepting_interfaces_that_may_move,
    days,
    work_through_days,
)
from clarity_pipeline.orchestration.raw_exports import clarity_raw_exports
from clarity_pipeline.orchestration.resources import ClockResource, StoreResource


def rebuilt_asset(
    *, description: str, deps: Sequence[dg.AssetsDefinition]
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """An asset right of raw landing: free, so rebuilt unasked, and for any range in one run."""
    with accepting_interfaces_that_may_move():
        return dg.asset(
            description=description,
            deps=deps,
            partitions_def=days,
            backfill_policy=ONE_RUN_FOR_A_RANGE,
            group_name="clarity",
            kinds={"pandas", "table"},
            automation_condition=WHEN_UPSTREAM_HAS_CHANGED,
            # No value is handed on; an IO manager would refuse one that is of several partitions.
            dagster_type=dg.Nothing,  # pyright: ignore[reportArgumentType]
        )


@rebuilt_asset(
    description=(
        "One row per business, day and tuple of dimension values. Slices whose export and "
        "normaliser have not changed are left alone; rows whose values have not changed are not "
        "written."
    ),
    deps=[clarity_raw_exports],
)
def clarity_daily_metrics(
    context: dg.AssetExecutionContext, store: StoreResource, clock: ClockResource
) -> Iterator[dg.AssetMaterialization | dg.Output[None]]:
    def rebuild(day: date) -> DayReport:
        rebuilt = rebuild_day.rebuild_metrics(
            store.database,
            day=day,
            now=clock.now(),
            keep_payload_days=store.settings.keep_payload_days,
        )
        rebuild_day.record_in_jobs(store.database, rebuilt, day=day, run_id=context.run.run_id)
        rebuild_day.raise_if_nothing_worked(rebuilt)
        return day_report.report_metrics_day(store.database, day, rebuilt)

    return work_through_days(context, rebuild)
