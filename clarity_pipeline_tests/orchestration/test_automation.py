"""What is rebuilt without being asked: everything that is free, for every day, and once."""

from __future__ import annotations

from typing import Any

import dagster as dg

from clarity_pipeline.definitions import build_defs

A_PAST_DAY = "2026-03-04"
ASSETS = (
    "clarity_raw_exports",
    "clarity_daily_metrics",
    "clarity_business_aggregates",
    "clarity_url_aggregates",
    "clarity_rule_evaluations",
)


def report(instance: dg.DagsterInstance, asset: str) -> None:
    instance.report_runless_asset_event(
        dg.AssetMaterialization(asset_key=asset, partition=A_PAST_DAY)
    )


def evaluate(
    instance: dg.DagsterInstance, cursor: Any = None
) -> dg.EvaluateAutomationConditionsResult:
    return dg.evaluate_automation_conditions(
        build_defs(), instance, asset_selection=dg.AssetSelection.groups("clarity"), cursor=cursor
    )


def requested(result: dg.EvaluateAutomationConditionsResult) -> dict[str, set[str]]:
    found = {
        asset: {str(key) for key in result.get_requested_partitions(dg.AssetKey(asset))}
        for asset in ASSETS
    }
    return {asset: keys for asset, keys in found.items() if keys}


def test_a_past_day_whose_exports_have_changed_is_rebuilt_at_once_and_only_once() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        first = evaluate(instance)
        assert requested(first) == {}

        report(instance, ASSETS[0])
        second = evaluate(instance, first.cursor)
        assert requested(second) == {asset: {A_PAST_DAY} for asset in ASSETS[1:]}

        for asset in ASSETS[1:]:
            report(instance, asset)
        assert requested(evaluate(instance, second.cursor)) == {}


def test_new_metrics_alone_ask_for_the_roll_ups_and_what_rules_say_of_them() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        for asset in ASSETS:
            report(instance, asset)
        first = evaluate(instance)
        report(instance, "clarity_daily_metrics")
        assert requested(evaluate(instance, first.cursor)) == {
            "clarity_business_aggregates": {A_PAST_DAY},
            "clarity_url_aggregates": {A_PAST_DAY},
            "clarity_rule_evaluations": {A_PAST_DAY},
        }


def test_a_sync_that_has_rebuilt_everything_itself_leaves_nothing_to_do() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        first = evaluate(instance)
        for asset in ASSETS:
            report(instance, asset)
        second = evaluate(instance, first.cursor)
        assert requested(second) == {}
