"""Asset checks, each per partition: is this day's history one that can be trusted?

None of them blocks: a day with a gap is still worth having, as long as it says so.
"""

import warnings
from collections.abc import Callable, Sequence

import dagster as dg

from clarity_pipeline.domain import day_checks
from clarity_pipeline.domain.day_checks import DayCheck, DayFacts
from clarity_pipeline.operations.day_report import gather_day_facts
from clarity_pipeline.operations.notices import record_check_notice
from clarity_pipeline.orchestration.daily_metrics import clarity_daily_metrics
from clarity_pipeline.orchestration.partitions import day_of, days
from clarity_pipeline.orchestration.raw_exports import clarity_raw_exports
from clarity_pipeline.orchestration.resources import ClockResource, StoreResource

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
    with warnings.catch_warnings():
        # Partitioned checks are a preview in Dagster 1.13. Without them a replay of an old day
        # would turn today's light green, which is worse than an interface that may still move.
        warnings.filterwarnings("ignore", message="Specifying a partitions_def on an AssetCheck")
        return [_build(asset, check, severity) for asset, check, severity in _CHECKS]


def _build(
    asset: dg.AssetsDefinition,
    check: Callable[[DayFacts], DayCheck],
    severity: dg.AssetCheckSeverity,
) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset, name=check.__name__, description=check.__doc__, partitions_def=days
    )
    def evaluate(
        context: dg.AssetCheckExecutionContext, store: StoreResource, clock: ClockResource
    ) -> dg.AssetCheckResult:
        day = day_of(context.partition_key)
        found = check(
            gather_day_facts(store.database, day, overview_default=store.settings.overview)
        )
        record_check_notice(
            store.database,
            name=check.__name__,
            found=found,
            is_error=severity is dg.AssetCheckSeverity.ERROR,
            day=day,
            now=clock.now(),
        )
        return dg.AssetCheckResult(
            passed=found.passed,
            severity=severity,
            description=found.sentence,
            metadata={**found.numbers, "findings": dg.MetadataValue.md(found.markdown)},
        )

    return evaluate
