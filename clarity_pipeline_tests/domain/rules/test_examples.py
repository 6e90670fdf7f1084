"""The rules in examples/rules/: each fires when it should, and is silent when data are missing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any

import jsonschema
import pytest

from clarity_pipeline.domain.rules.decisions import Reason, Truth
from clarity_pipeline.domain.rules.documents import rule_json_schema
from clarity_pipeline.domain.rules.explain import explain
from clarity_pipeline.domain.rules.model import Rule, RuleStatus
from clarity_pipeline_tests.domain.rules.examples import (
    CALM,
    DIRECTORY,
    EXAMPLES,
    FILES,
    OF_ADS,
    ROOT,
    Example,
    read_document,
    read_example,
)
from clarity_pipeline_tests.domain.rules.histories import AS_OF, back, decide

SCHEMA = ROOT / "schemas" / "rule.schema.json"

each_example = pytest.mark.parametrize("example", EXAMPLES, ids=[each.file for each in EXAMPLES])

Days = dict[date, dict[str, float | None]]


def the(file: str) -> Example:
    return next(each for each in EXAMPLES if each.file == f"{file}.yaml")


def answer(example: Example, days: Days, **facts: Any) -> tuple[Truth, tuple[Reason, ...]]:
    decision = decide(example.rule, days, entity=replace(example.entity, **facts))
    return decision.truth, decision.reasons


def without_clarity(days: Days, *latest: int) -> Days:
    """The same days, of which these, or all, are unknown to Clarity."""
    gone = {back(number) for number in latest} or set(days)
    return {
        day: {name: value for name, value in sums.items() if day not in gone or name in OF_ADS}
        for day, sums in days.items()
    }


def changed(example: Example, **sums: Any) -> Days:
    """The days that make it fire, but for these sums of each."""
    return {day: {**of_day, **sums} for day, of_day in example.days.items()}


# All of them


def test_every_example_is_tested() -> None:
    assert sorted(each.file for each in EXAMPLES) == FILES
    assert len(FILES) == 7


@each_example
def test_an_example_fires_on_what_it_is_for_and_says_why(example: Example) -> None:
    decision = decide(example.rule, example.days, entity=example.entity)
    assert decision.truth is Truth.TRUE
    assert explain(decision).sentence.startswith(f"'{example.rule.name}' fires for")


@each_example
def test_an_example_does_not_fire_on_a_calm_month(example: Example) -> None:
    calm = Example(example.file, example.entity, {})
    assert answer(calm, calm.days)[0] is Truth.FALSE


@each_example
@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"is_connected": False}, Reason.NOT_CONNECTED),
        ({"is_enabled": False}, Reason.DISABLED),
    ],
)
def test_an_example_is_silent_where_clarity_is_not_connected_or_switched_off(
    example: Example, facts: Mapping[str, Any], reason: Reason
) -> None:
    assert answer(example, example.days, **facts) == (Truth.UNKNOWN, (reason,))


@each_example
def test_an_example_is_silent_without_a_day_of_clarity(example: Example) -> None:
    truth, reasons = answer(example, without_clarity(example.days))
    assert (truth, reasons) == (Truth.UNKNOWN, (Reason.NO_DATA,))


@each_example
def test_an_example_is_silent_where_clarity_broke_days_ago(example: Example) -> None:
    truth, reasons = answer(example, without_clarity(example.days, 0, 1, 2))
    assert truth is Truth.UNKNOWN
    assert set(reasons) <= {Reason.STALE, Reason.NO_DATA}


@pytest.mark.parametrize("example", [each for each in EXAMPLES if each.entity.landing_page])
def test_an_example_about_a_page_is_silent_where_none_is_known(example: Example) -> None:
    truth, reasons = answer(example, example.days, landing_page=None)
    assert (truth, reasons) == (Truth.UNKNOWN, (Reason.NO_LANDING_PAGE,))


@pytest.mark.parametrize("file", FILES)
def test_an_example_does_nothing_until_somebody_arms_it(file: str) -> None:
    assert read_example(file).status is RuleStatus.DRAFT


@pytest.mark.parametrize("file", FILES)
def test_an_example_begins_with_what_it_is_for(file: str) -> None:
    text = (DIRECTORY / file).read_text(encoding="utf-8")
    first = "# yaml-language-server: $schema=../../schemas/rule.schema.json\n#\n"
    assert re.match(re.escape(first) + r"# \w.+\.\n#\n", text)
    assert all(len(line) <= 100 for line in text.splitlines())


# One by one


def test_rage_clicks_in_a_week_of_few_visits_pause_nothing() -> None:
    few = {"rage_clicks": 14, "rage_click_sessions": 28, "sessions": 28}
    assert answer(the("pause-on-rage-clicks"), changed(the("pause-on-rage-clicks"), **few)) == (
        Truth.UNKNOWN,
        (Reason.TOO_FEW_SESSIONS,),
    )


def test_rage_clicks_of_three_days_out_of_seven_pause_nothing() -> None:
    example = the("pause-on-rage-clicks")
    days = without_clarity(example.days, 6, 5, 4, 3)
    assert answer(example, days) == (Truth.UNKNOWN, (Reason.LOW_COVERAGE,))
    assert answer(example, without_clarity(example.days, 6, 5))[0] is Truth.TRUE


def test_a_rage_click_rate_above_the_threshold_by_chance_pauses_nothing() -> None:
    example = the("pause-on-rage-clicks")
    by_chance = changed(example, rage_clicks=11, rage_click_sessions=35, sessions=35)
    finding = decide(example.rule, by_chance, entity=example.entity).deciding
    assert finding.truth is Truth.FALSE
    assert finding.value is not None
    assert finding.value > example.rule.conditions.value  # type: ignore[union-attr]


def test_ads_come_back_once_the_rate_is_known_to_be_well_below() -> None:
    example = the("pause-on-rage-clicks")

    def held(rage_clicks: int) -> Truth:
        days = changed(example, rage_clicks=rage_clicks)
        return decide(example.rule, days, entity=example.entity, was_true=True).truth

    assert [held(28), held(25), held(20)] == [Truth.TRUE, Truth.TRUE, Truth.FALSE]


def test_a_page_that_was_changed_today_or_long_ago_alerts_nobody() -> None:
    example = the("alert-dead-clicks-after-change")
    for changed_on, reason in (
        (AS_OF, Reason.CHANGE_TOO_RECENT),
        (back(8), Reason.CHANGE_TOO_LONG_AGO),
        (None, Reason.NO_CHANGE),
    ):
        assert answer(example, example.days, changed_on=changed_on) == (Truth.UNKNOWN, (reason,))


def test_a_page_that_was_new_before_its_change_has_nothing_to_compare_with() -> None:
    example = the("alert-dead-clicks-after-change")
    assert answer(example, without_clarity(example.days, *range(5, 35))) == (
        Truth.UNKNOWN,
        (Reason.NO_BASELINE,),
    )


def test_twice_the_visits_and_twice_the_dead_clicks_are_no_spike() -> None:
    example = the("alert-dead-clicks-after-change")
    busier = Example(
        example.file,
        example.entity,
        {4: {name: value * 3 for name, value in CALM.items() if name not in OF_ADS}},
    )
    assert answer(busier, busier.days)[0] is Truth.FALSE


def test_a_week_without_conversions_has_no_cpa_and_pauses_nothing() -> None:
    example = the("pause-quick-backs-while-cpa-rises")
    none = Example(example.file, example.entity, {7: {"quick_backs": 40, "conversions": 0}})
    decision = decide(example.rule, none.days, entity=none.entity)
    assert Reason.DIVISION_BY_ZERO in decision.reasons
    assert decision.truth is not Truth.TRUE


def test_engagement_of_a_site_that_is_alike_every_day_has_no_spread_to_be_off_by() -> None:
    example = the("alert-engagement-drop")
    alike = {
        day: {**sums, "engagement_time_ms_sum": 4_000_000 if day < AS_OF else 1_000_000}
        for day, sums in example.days.items()
    }
    assert answer(example, alike) == (Truth.UNKNOWN, (Reason.NO_VARIATION,))


def test_engagement_of_a_young_site_is_compared_with_nothing() -> None:
    example = the("alert-engagement-drop")
    assert answer(example, without_clarity(example.days, *range(15, 35))) == (
        Truth.UNKNOWN,
        (Reason.NO_BASELINE,),
    )


@pytest.mark.parametrize("metric", ["rage_clicks", "dead_clicks", "scroll_depth_sum"])
def test_a_budget_is_not_raised_while_any_sign_of_the_page_is_unknown(metric: str) -> None:
    example = the("raise-budget-on-healthy-page")
    assert answer(example, changed(example, **{metric: None})) == (
        Truth.UNKNOWN,
        (Reason.NO_DATA,),
    )


def test_a_budget_is_not_raised_on_a_page_that_annoys_people() -> None:
    example = the("raise-budget-on-healthy-page")
    assert answer(example, changed(example, rage_clicks=30))[0] is Truth.FALSE


def test_a_budget_is_lowered_only_where_spend_and_revenue_are_known() -> None:
    example = the("lower-budget-on-dead-clicks")
    assert answer(example, changed(example, revenue=None))[0] is Truth.UNKNOWN
    assert answer(example, changed(example, spend=None))[0] is Truth.UNKNOWN


def test_a_day_without_sessions_and_a_day_without_an_answer_are_two_things() -> None:
    example = the("alert-spend-without-sessions")
    assert example.days[AS_OF]["sessions"] == 0
    assert answer(example, example.days)[0] is Truth.TRUE
    assert answer(example, without_clarity(example.days, 0))[0] is Truth.UNKNOWN
    # The day before was there; yesterday was not asked for, or did not answer.
    gone = {day: sums for day, sums in example.days.items() if day != AS_OF}
    assert answer(example, gone)[0] is Truth.UNKNOWN


def test_without_a_single_session_no_history_is_needed() -> None:
    example = the("alert-spend-without-sessions")
    assert answer(example, {AS_OF: example.days[AS_OF]})[0] is Truth.TRUE


# The schema that editors and the rule builder go by


def test_the_published_schema_is_that_of_the_rules_that_are_read() -> None:
    """After a change of what a rule can say: clarity rules schema > schemas/rule.schema.json"""
    written = json.dumps(rule_json_schema(), indent=2, ensure_ascii=False)
    assert SCHEMA.read_text(encoding="utf-8") == f"{written}\n"


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("file", FILES)
def test_an_example_satisfies_the_schema(validator: Any, file: str) -> None:
    assert [error.message for error in validator.iter_errors(read_document(file))] == []


@pytest.mark.parametrize(
    "mistake",
    [
        {"level": "keyword"},
        {"conditions": {"metric": "clarity_anger", "operator": ">", "value": 1}},
        {"conditions": {"all": []}},
        {"actions": []},
        {"actions": [{"kind": "delete"}]},
        {"status": "on"},
        {"colour": "red"},
    ],
)
def test_the_schema_refuses_what_is_no_rule(validator: Any, mistake: dict[str, Any]) -> None:
    document = {**read_document("pause-on-rage-clicks.yaml"), **mistake}
    assert not validator.is_valid(document)


def test_what_the_schema_accepts_of_the_examples_is_read_back_unchanged() -> None:
    for file in FILES:
        rule = read_example(file)
        assert Rule.model_validate_json(rule.model_dump_json(by_alias=True)) == rule
