"""Asset checks, each per partition: is this day's history one that can be trusted?

None of them blocks: a day with a gap is still worth having, as long as it says so.
"""

from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from clarity_pipeline.domain import day_checks
from clarity_pipeline.domain.day_checks import DayCheck, DayFacts
from clarity_pipeline.operations.day_report import gather_day_facts
from clarity_pipeline.orchestration.daily_metrics import clarity_daily_metrics
from clarity_pipeline.orchestration.partitions import (
    accepting_interfaces_that_may_move,
    day_of,
    days,
)
from clarity_pipeline.orchestration.raw_exports import clarity_raw_exports
from clarity_pipeline.orchestration.resources import StoreResource

_CHECKS: tuple[
    tuple[dg.AssetsDefinition, Callable[[DayFacts], DayCheck], dg.AssetCheckSeverity], ...
] = (
    (
        clarity_raw_exports,
        day_checks.every_enabled_business_landed,
        dg.AssetCheckSeverity.ERROR,
    ),
    (clarity_raw_exports, day_checks.window_alignment, dg.AssetCheckSeverity.WARN),
    (clarity_daily_metrics, day_checks.no_slice_truncated, dg.AssetCheckSeverity.WARN),
    (clarity_daily_metrics, day_checks.no_unknown_blocks, dg.AssetCheckSeverity.WARN),
)


def build_asset_checks() -> Sequence[dg.AssetChecksDefinition]:
    """One Dagster check per day check; the names are those of the functions."""
    with accepting_interfaces_that_may_move():
        return [_build(asset, check, severity) for asset, check, severity in _CHECKS]


def _build(
    asset: dg.AssetsDefinition,
    check: Callable[[DayFacts], DayCheck],
    severity: dg.AssetCheckSeverity,
) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset, name=check.__name__, description=check.__doc__, partitions_def=days
    )
    def evaluate(context: dg.AssetCheckExecutionContext, store: StoreResource) -> Any:
        # An AssetCheckResult of a run over a range would belong to no partition at all.
        for partition_key in context.partition_keys:
            found = check(
                gather_day_facts(
                    store.database,
                    day_of(partition_key),
                    overview_default=store.settings.overview,
                )
            )
            yield dg.AssetCheckEvaluation(
                asset_key=asset.key,
                check_name=check.__name__,
                passed=found.passed,
                metadata={**found.numbers, "findings": dg.MetadataValue.md(found.markdown)},
                target_materialization_data=_checked_materialization(context, asset, partition_key),
                severity=severity,
                description=found.sentence,
                blocking=False,
                partition=partition_key,
            )
        (output,) = context.op_execution_context.op_def.output_defs
        yield dg.Output(None, output_name=output.name)

    return evaluate


def _checked_materialization(
    context: dg.AssetCheckExecutionContext, asset: dg.AssetsDefinition, partition_key: str
) -> AssetCheckEvaluationTargetMaterializationData | None:
    """The materialization that the verdict is about: a later one makes the verdict an old one."""
    latest = context.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=asset.key, asset_partitions=[partition_key]), limit=1
    ).records
    if not latest:
        return None
    return AssetCheckEvaluationTargetMaterializationData(
        run_id=latest[0].event_log_entry.run_id,
        storage_id=latest[0].storage_id,
        timestamp=latest[0].timestamp,
    )
