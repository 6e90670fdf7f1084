"""`clarity_raw_exports`: the one asset that spends quota, a graph that fans out over businesses.

`plan_day` emits a bounded number of batches, each of which is mapped over one op per combo. The
ops return outcomes as values and raise only on bugs: one raised error in a mapped op would leave
the day unmaterialised for every business.
"""

from collections.abc import Iterator
from datetime import date
from typing import Any, Final

import dagster as dg

from clarity_pipeline.domain.collection import (
    PlannedCall,
    plan_batches,
    trigger_of_run,
)
from clarity_pipeline.domain.dimensions import (
    OVERVIEW,
    URL_CAMPAIGN_CHANNEL,
    URL_COUNTRY,
    URL_DEVICE,
    URL_SOURCE,
    DimensionCombo,
)
from clarity_pipeline.operations import collect_day, day_ranges, day_report
from clarity_pipeline.operations.collect_day import DayPlan, StepOutcomes
from clarity_pipeline.operations.day_report import DayReport
from clarity_pipeline.orchestration.dead_work import sweep_dead_work
from clarity_pipeline.orchestration.partitions import (
    ONE_RUN_FOR_A_RANGE,
    days,
    days_of,
    work_through_days,
)
from clarity_pipeline.orchestration.resources import (
    ClockResource,
    ExportApiResource,
    StoreResource,
)

CLARITY_API_POOL: Final = "clarity_api"

Batch = list[PlannedCall]


class DaySelection(dg.Config):
    """Which businesses to collect; none named means every enabled one."""

    business_ids: list[str] = []


@dg.op(
    name="plan_day",
    out={
        "plan": dg.Out(description="The day's plan and its sync jobs."),
        "batches": dg.DynamicOut(description="At most 16 batches of businesses."),
        "overview_batches": dg.DynamicOut(description="Those that want the fifth call."),
    },
    pool=CLARITY_API_POOL,
)
def plan_day(
    context: dg.OpExecutionContext,
    config: DaySelection,
    store: StoreResource,
    export_api: ExportApiResource,
    clock: ClockResource,
) -> Iterator[dg.Output[DayPlan] | dg.DynamicOutput[Batch]]:
    """Which businesses, which combos are missing, who gets a sync job."""
    sweep_dead_work(
        context.instance,
        store.database,
        overview_default=store.settings.overview,
        now=clock.now(),
    )
    plan = day_ranges.plan_days(
        store.database,
        days=days_of(context.partition_keys),
        business_ids=config.business_ids,
        trigger=trigger_of_run(
            context.run.tags, schedule_tag="dagster/schedule_name", backfill_tag="dagster/backfill"
        ),
        overview_default=store.settings.overview,
        recovery=store.settings.recovery,
        run_id=context.run_id,
        now=clock.now(),
    )
    export_api.call_runner(store, clock).announce(plan.calls)
    context.log.info(
        "day %s: %d businesses, %d calls", plan.day, len(plan.businesses), len(plan.calls)
    )
    yield dg.Output(plan, "plan")
    combos = [call for call in plan.calls if call.combo != OVERVIEW]
    for position, batch in enumerate(plan_batches(combos)):
        yield dg.DynamicOutput(batch, mapping_key=f"batch_{position:02d}", output_name="batches")
    overviews = [call for call in plan.calls if call.combo == OVERVIEW]
    for position, batch in enumerate(plan_batches(overviews)):
        yield dg.DynamicOutput(
            batch, mapping_key=f"batch_{position:02d}", output_name="overview_batches"
        )


def _build_fetch_op(combo: DimensionCombo) -> dg.OpDefinition:
    @dg.op(
        name=f"fetch_{combo.slug}",
        description=f"Fetch {combo.label} for a batch of businesses, all calls at once.",
        pool=CLARITY_API_POOL,
    )
    def fetch(
        context: dg.OpExecutionContext,
        batch: Batch,
        store: StoreResource,
        export_api: ExportApiResource,
        clock: ClockResource,
    ) -> StepOutcomes:
        calls = [call for call in batch if call.combo == combo]
        outcomes = export_api.call_runner(store, clock).outcomes(calls)
        return StepOutcomes(context.run_id, tuple(outcomes))

    return fetch


fetch_url_device = _build_fetch_op(URL_DEVICE)
fetch_url_source = _build_fetch_op(URL_SOURCE)
fetch_url_country = _build_fetch_op(URL_COUNTRY)
fetch_url_campaign_channel = _build_fetch_op(URL_CAMPAIGN_CHANNEL)
fetch_overview = _build_fetch_op(OVERVIEW)


@dg.op(name="collect_outcomes", out=dg.Out(dg.Nothing), pool=CLARITY_API_POOL)
def collect_outcomes(
    context: dg.AssetExecutionContext,
    plan: DayPlan,
    url_device: list[StepOutcomes],
    url_source: list[StepOutcomes],
    url_country: list[StepOutcomes],
    url_campaign_channel: list[StepOutcomes],
    overview: list[StepOutcomes],
    store: StoreResource,
    export_api: ExportApiResource,
    clock: ClockResource,
) -> Iterator[dg.AssetMaterialization | dg.Output[None]]:
    """Settle the sync jobs; a day fails only when every single business failed.

    In the pool: executed again in another run, it is the step that makes the missing calls.
    """
    plan, outcomes = collect_day.collect_in_run(
        store.database,
        plan,
        [*url_device, *url_source, *url_country, *url_campaign_channel, *overview],
        run_id=context.run.run_id,
        make_calls=lambda calls: export_api.call_runner(store, clock).outcomes(calls),
        overview_default=store.settings.overview,
        recovery=store.settings.recovery,
        now=clock.now(),
    )
    settled = collect_day.settle_day(
        store.database,
        plan,
        outcomes,
        auth_failures_before_disable=store.settings.auth_failures_before_disable,
        now=clock.now(),
    )

    def report(day: date) -> DayReport:
        return day_report.report_collected_day(
            store.database, day, settled=settled if day == plan.day else ()
        )

    return work_through_days(context, report)


def _narrow_to_businesses(config: dict[str, Any]) -> dict[str, Any]:
    return {"plan_day": {"config": {"business_ids": config["business_ids"]}}}


@dg.graph_asset(
    name="clarity_raw_exports",
    description=(
        "Verbatim replies of Clarity's Export API with their envelopes. The only asset that spends "
        "quota: a day that has landed costs no call, a day that Clarity no longer answers for is "
        "reported as a gap. Config `business_ids` narrows a run to some businesses."
    ),
    partitions_def=days,
    backfill_policy=ONE_RUN_FOR_A_RANGE,
    group_name="clarity",
    kinds={"python", "json"},
    config=dg.ConfigMapping(
        config_schema={
            "business_ids": dg.Field(
                [str],
                default_value=[],
                is_required=False,
                description="Only these businesses; every enabled one when empty.",
            )
        },
        config_fn=_narrow_to_businesses,
    ),
)
def clarity_raw_exports() -> Any:
    planned: Any = plan_day()
    batches: Any = planned.batches
    overview_batches: Any = planned.overview_batches
    return collect_outcomes(
        planned.plan,
        batches.map(fetch_url_device).collect(),
        batches.map(fetch_url_source).collect(),
        batches.map(fetch_url_country).collect(),
        batches.map(fetch_url_campaign_channel).collect(),
        overview_batches.map(fetch_overview).collect(),
    )
