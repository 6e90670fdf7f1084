"""Asset checks: is a day's history one that can be trusted, and is all of it there?

Those of a day are partitioned like it. Those of the history are not: they are evaluated by the
clock, because a run that never started cannot report itself. None of them blocks: a day with a
gap is still worth having, as long as it says so.

What is missing is an ERROR: somebody has to act. What is doubtful is a WARN.
"""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from clarity_pipeline.domain import day_checks
from clarity_pipeline.domain.day_checks import DayCheck, DayFacts
from clarity_pipeline.operations import day_report, history
from clarity_pipeline.operations.notices import (
    record_check_notice,
    record_latest_day_notice,
    record_missing_days_notice,
)
from clarity_pipeline.orchestration.daily_metrics import clarity_daily_metrics
from clarity_pipeline.orchestration.partitions import (
    accepting_interfaces_that_may_move,
    day_of,
    days,
)
from clarity_pipeline.orchestration.raw_exports import clarity_raw_exports
from clarity_pipeline.orchestration.resources import ClockResource, StoreResource

Judge = Callable[[StoreResource, date], DayCheck]


def _of_facts(check: Callable[[DayFacts], DayCheck]) -> Judge:
    def judge(store: StoreResource, day: date) -> DayCheck:
        return check(
            day_report.gather_day_facts(
                store.database, day, overview_default=store.settings.overview
            )
        )

    judge.__name__, judge.__doc__ = check.__name__, check.__doc__
    return judge


def slices_agree(store: StoreResource, day: date) -> DayCheck:
    """The events of a business-day add up to the same whichever way they are split."""
    return day_report.judge_slices(store.database, day)


_OF_A_DAY: tuple[tuple[dg.AssetsDefinition, Judge, dg.AssetCheckSeverity], ...] = (
    (
        clarity_raw_exports,
        _of_facts(day_checks.every_enabled_business_landed),
        dg.AssetCheckSeverity.ERROR,
    ),
    (clarity_raw_exports, _of_facts(day_checks.window_alignment), dg.AssetCheckSeverity.WARN),
    (clarity_daily_metrics, _of_facts(day_checks.no_slice_truncated), dg.AssetCheckSeverity.WARN),
    (clarity_daily_metrics, _of_facts(day_checks.no_unknown_blocks), dg.AssetCheckSeverity.WARN),
    (clarity_daily_metrics, slices_agree, dg.AssetCheckSeverity.WARN),
)


def build_asset_checks() -> Sequence[dg.AssetChecksDefinition]:
    """The checks of a day, one per partition, and those of the history, which look at today."""
    with accepting_interfaces_that_may_move():
        of_a_day = [_build(asset, judge, severity) for asset, judge, severity in _OF_A_DAY]
    return [*of_a_day, no_day_is_missing, latest_day_has_arrived]


@dg.asset_check(asset=clarity_raw_exports, description=day_checks.no_day_is_missing.__doc__)
def no_day_is_missing(store: StoreResource, clock: ClockResource) -> dg.AssetCheckResult:
    now = clock.now()
    found = history.judge_recent_days(store.database, now=now, recovery=store.settings.recovery)
    record_missing_days_notice(
        store.database, name=day_checks.no_day_is_missing.__name__, found=found, now=now
    )
    return _result(found)


@dg.asset_check(asset=clarity_raw_exports, description=day_checks.latest_day_has_arrived.__doc__)
def latest_day_has_arrived(store: StoreResource, clock: ClockResource) -> dg.AssetCheckResult:
    # Instead of a FreshnessPolicy: that one looks at when any partition was last materialized, so
    # replaying a day of last spring would make it green while yesterday is missing.
    now = clock.now()
    found = history.judge_latest_day(store.database, now=now, recovery=store.settings.recovery)
    record_latest_day_notice(
        store.database,
        name=day_checks.latest_day_has_arrived.__name__,
        found=found,
        overview_default=store.settings.overview,
        now=now,
    )
    return _result(found)


def _result(found: DayCheck) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=found.passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=found.sentence,
        metadata=_metadata(found),
    )


def _metadata(found: DayCheck) -> dict[str, Any]:
    return {**found.numbers, "findings": dg.MetadataValue.md(found.markdown)}


def _build(
    asset: dg.AssetsDefinition, judge: Judge, severity: dg.AssetCheckSeverity
) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset, name=judge.__name__, description=judge.__doc__, partitions_def=days
    )
    def evaluate(
        context: dg.AssetCheckExecutionContext, store: StoreResource, clock: ClockResource
    ) -> Any:
        # An AssetCheckResult of a run over a range would belong to no partition at all.
        for partition_key in context.partition_keys:
            day = day_of(partition_key)
            found = judge(store, day)
            record_check_notice(
                store.database,
                name=judge.__name__,
                found=found,
                is_error=severity is dg.AssetCheckSeverity.ERROR,
                day=day,
                now=clock.now(),
            )
            yield dg.AssetCheckEvaluation(
                asset_key=asset.key,
                check_name=judge.__name__,
                passed=found.passed,
                metadata=_metadata(found),
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
