"""`clarity_rule_evaluations`: what rules decide on a day, and the sensor for rules by the clock."""

from collections.abc import Iterator
from datetime import date

import dagster as dg

from clarity_pipeline.domain.rules.due import RuleTrigger
from clarity_pipeline.operations import rule_evaluation
from clarity_pipeline.operations.day_report import DayReport
from clarity_pipeline.operations.rule_schedule import RulesDue, look_for_due_rules
from clarity_pipeline.orchestration.aggregates import (
    clarity_business_aggregates,
    clarity_url_aggregates,
)
from clarity_pipeline.orchestration.daily_metrics import rebuilt_asset
from clarity_pipeline.orchestration.partitions import work_through_days
from clarity_pipeline.orchestration.resources import ClockResource, StoreResource


class RulesAskedFor(dg.Config):
    """Which rules a run evaluates: without a word, all that follow the data."""

    trigger: RuleTrigger = RuleTrigger.ON_DATA
    rule_ids: list[int] | None = None


@rebuilt_asset(
    description=(
        "What every rule in force decides about the day: an evaluation per rule and business, with "
        "its evidence, and the actions that it calls for. A business is evaluated once its day is "
        "there, or will not come; on the same data nothing is written again."
    ),
    deps=[clarity_business_aggregates, clarity_url_aggregates],
)
def clarity_rule_evaluations(
    context: dg.AssetExecutionContext,
    config: RulesAskedFor,
    store: StoreResource,
    clock: ClockResource,
) -> Iterator[dg.AssetMaterialization | dg.Output[None]]:
    def evaluate(day: date) -> DayReport:
        evaluated = rule_evaluation.evaluate_day(
            store.database,
            day=day,
            now=clock.now(),
            run_id=context.run.run_id,
            rule_ids=config.rule_ids,
            trigger=config.trigger,
            recovery=store.settings.recovery,
        )
        return rule_evaluation.report(store.database, evaluated)

    return work_through_days(context, evaluate)


clarity_rule_evaluation = dg.define_asset_job(
    name="clarity_rule_evaluation",
    selection=[clarity_rule_evaluations],
    description="Evaluate rules on a day that is stored; nothing is fetched and nothing sent.",
)


@dg.sensor(
    name="clarity_rule_schedule_sensor",
    job=clarity_rule_evaluation,
    minimum_interval_seconds=60,
    description=(
        "Evaluates rules with times of their own when these come, and rules that follow the data "
        "once a day is late of which they have said nothing."
    ),
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def clarity_rule_schedule_sensor(
    context: dg.SensorEvaluationContext, store: StoreResource, clock: ClockResource
) -> dg.SensorResult:
    looked = look_for_due_rules(store.database, cursor=context.cursor, now=clock.now())
    if not looked.due:
        return dg.SensorResult(skip_reason="No rule is due by the clock.", cursor=looked.cursor)
    return dg.SensorResult(
        run_requests=[_run_request(due) for due in looked.due], cursor=looked.cursor
    )


def _run_request(due: RulesDue) -> dg.RunRequest:
    config = RulesAskedFor(trigger=due.trigger, rule_ids=list(due.rule_ids))
    return dg.RunRequest(
        run_key=due.run_key,
        partition_key=due.day.isoformat(),
        run_config=dg.RunConfig(ops={clarity_rule_evaluations.key.to_python_identifier(): config}),
    )
