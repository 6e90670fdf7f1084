"""What a rule may say, and the sentence with which the impossible is refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from clarity_pipeline.domain.errors import InvalidRule
from clarity_pipeline.domain.rules.documents import canonical_json, parse_rule, rule_json_schema
from clarity_pipeline.domain.rules.metrics import METRICS
from clarity_pipeline.domain.rules.model import MAX_CONDITIONS, MAX_DEPTH, conditions_of
from clarity_pipeline_tests.domain.rules.histories import condition, document, last_days, rule
from clarity_pipeline_tests.domain.rules.worlds import World

RATE = "clarity_rage_click_rate"
PREVIOUS = "previous_window"

FULL = document(
    {
        "all": [
            condition(RATE, ">", 0.3, key="rage", leave=0.2, min_sessions=100, confidence=0.95),
            {"not": {"any": [condition("ad.carts", "between", 1, to=5)]}},
            condition(
                "clarity_dead_clicks",
                value=50,
                window={"kind": "since_change"},
                comparison={"against": "baseline", "days": 14, "measure": "percent"},
            ),
        ]
    },
    scope={"kind": "some", "businesses": ["acme", "bolt"]},
    overrides=[{"business": "acme", "condition": "rage", "value": 0.5}],
    level="ad_set",
    filters={"statuses": ["active"], "name_contains": "Spring", "ids": ["1", "2"]},
    actions=[
        {"kind": "pause"},
        {"kind": "adjust_budget", "percent": -20, "at_least": 5, "at_most": 100},
        {"kind": "alert", "message": "Look at this"},
        {"kind": "webhook", "url": "https://hooks.example/x"},
    ],
    schedule={"kind": "cron", "cron": "30 6 * * 1-5"},
    status="shadow",
    shadow_until="2026-12-01",
    priority=5,
)


def sentence(rule_document: Any) -> str:
    with pytest.raises(InvalidRule) as refused:
        parse_rule(rule_document)
    said = str(refused.value)
    assert "\n" not in said
    assert said.endswith(".")
    return said


# Documents


def test_a_rule_with_everything_in_it_is_the_same_after_a_round_trip() -> None:
    full = parse_rule(FULL)
    text = canonical_json(full)
    assert parse_rule(text) == full
    assert parse_rule(text.encode()) == full
    assert canonical_json(parse_rule(text)) == text
    assert [path for path, _ in conditions_of(full.conditions)] == [
        "conditions.all[0]",
        "conditions.all[1].not.any[0]",
        "conditions.all[2]",
    ]


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_every_rule_is_the_same_after_a_round_trip(seed: int) -> None:
    for each in World(seed).rules:
        text = canonical_json(each)
        assert parse_rule(text) == each
        assert canonical_json(parse_rule(text)) == text


def test_the_same_rule_has_one_text_however_it_was_written() -> None:
    change = {"against": PREVIOUS, "measure": "absolute"}
    whole = document(condition(value=0, comparison=change))
    fraction = document(condition(value=-0.0, comparison=change, leave=None))
    reversed_document = dict(reversed(fraction.items()))
    assert canonical_json(parse_rule(whole)) == canonical_json(parse_rule(reversed_document))


def test_a_rule_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        rule().name = "Another"  # pyright: ignore[reportAttributeAccessIssue]
    assert hash(parse_rule(FULL)) == hash(parse_rule(FULL))


def test_the_schema_names_every_metric_with_its_unit() -> None:
    schema = rule_json_schema()
    assert json.loads(json.dumps(schema)) == schema
    choices = schema["$defs"]["Condition"]["properties"]["metric"]["anyOf"]
    assert [choice["const"] for choice in choices if "const" in choice] == list(METRICS)
    assert all(choice["description"] for choice in choices)
    assert {"all", "any", "not"} <= {
        name for each in schema["$defs"].values() for name in each.get("properties", {})
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON (line 1, column 1: "),
        ("{'name': 1}", "is not JSON (line 1, column 2: "),
        (b"\xff\xfe\xfd", "it is not UTF-8"),
        ('{"priority": ' + "9" * 5000 + "}", "thousands of digits"),
        ("[]", "not an object"),
        ("null", "not an object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"name": "a", "name": "b"}', "'name' twice"),
        (" " * 2_000_001, "longer than 2,000,000 characters"),
        ('{"name": NaN}', "name: nan should be a valid string"),
    ],
)
def test_what_is_no_document_is_refused(text: str | bytes, words: str) -> None:
    assert words in sentence(text)


# Refusals


def nested(depth: int) -> Any:
    return condition() if depth == 1 else {"not": nested(depth - 1)}


def endless() -> Any:
    tree: dict[str, Any] = {}
    tree["not"] = {"all": [condition(), tree]}
    return tree


def test_a_tree_of_the_largest_depth_and_size_is_a_rule() -> None:
    assert rule(nested(MAX_DEPTH))
    assert rule({"all": [condition()] * MAX_CONDITIONS})


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (nested(MAX_DEPTH + 1), "conditions: it is nested more than 8 deep"),
        (nested(900), "conditions: it is nested more than 8 deep"),
        (endless(), "conditions: it is nested more than 8 deep"),
        (
            {"all": [{"any": [condition()] * 26}, {"any": [condition()] * 25}]},
            "conditions: it has more than 50 of them",
        ),
        ({"all": []}, "conditions.all: it needs at least 1"),
        ({"all": [condition()], "any": [condition()]}, "conditions.any: there is no such field"),
        ({"all": [{"not": [condition()]}]}, "conditions.all[0].not: should be a valid dictionary"),
        ({"all": condition()}, "conditions.all: should be a valid tuple"),
        ({}, "conditions.metric: it is missing"),
        (3, "conditions: 3 should be"),
        ({"any": [condition(), condition(window=None)]}, "conditions.any[1].window: None"),
    ],
)
def test_a_tree_that_is_none_is_refused(tree: Any, words: str) -> None:
    assert words in sentence(document(tree))


SINCE = {"kind": "since_change"}
PERCENT = {"against": PREVIOUS, "measure": "percent"}
Z_SCORE = {"against": PREVIOUS, "measure": "z_score"}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (condition("clarity_rage"), "[0].metric: there is no metric 'clarity_rage'"),
        (condition(value=float("nan")), "[0].value: nan should be a finite number"),
        (condition(value=float("inf")), "[0].value: inf should be a finite number"),
        (condition(value=10**400), "[0].value: should be a valid number"),
        (condition(value="10"), "[0].value: '10' should be a valid number"),
        (condition(value=True), "[0].value: True should be a valid number"),
        (condition(value=None), "[0].value: None should be a valid number"),
        (condition(operator="=>"), "[0].operator: '=>' should be '>', '>='"),
        (condition(colour="red"), "[0].colour: there is no such field"),
        (condition(operator="between"), "[0].to: `to` is the upper end"),
        (condition(to=3), "[0].to: `to` is the upper end"),
        (condition(operator="between", value=5, to=3), "the range is from 5 to 3; swap the two"),
        # Windows
        (condition(window={"kind": "today"}), "[0].window: its `kind` is one of 'yesterday'"),
        (condition(window={}), "[0].window: its `kind` is missing"),
        (condition(window=last_days(401)), "[0].window.days: 401 should be less than or equal"),
        (condition(window=last_days(0)), "[0].window.days: 0 should be greater than or equal"),
        (condition(window={"kind": "last_days"}), "[0].window.days: it is missing"),
        (condition(window={"kind": "yesterday", "days": 2}), "[0].window.days: there is no such"),
        (
            condition(window={"kind": "fixed", "start": "2026-03-02", "end": "2026-03-01"}),
            "[0].window: it ends on 2026-03-01, before it starts on 2026-03-02; swap the two",
        ),
        (
            condition(window={"kind": "fixed", "start": "2025-01-01", "end": "2026-02-05"}),
            "[0].window: it has 401 days and a window has at most 400",
        ),
        (
            condition(window={"kind": "fixed", "start": "2025-02-29", "end": "2025-03-01"}),
            "[0].window.start: '2025-02-29' should be a valid date",
        ),
        (
            condition(
                window={"kind": "fixed", "start": "2026-03-01", "end": "2026-03-02"},
                consecutive_days=2,
            ),
            "[0].consecutive_days: `consecutive_days` needs a window that moves",
        ),
        # Guards
        (condition(consecutive_days=0), "[0].consecutive_days: 0 should be greater"),
        (condition(consecutive_days=32), "[0].consecutive_days: 32 should be less"),
        (
            condition(min_sessions=10),
            "[0].min_sessions: `min_sessions` counts sessions of Clarity and spend",
        ),
        (
            condition(measured_on="business"),
            "[0].measured_on: `measured_on` is for metrics of Clarity",
        ),
        (condition(RATE, min_coverage=1.1), "[0].min_coverage: 1.1 should be less"),
        (condition(RATE, min_coverage=0), "[0].min_coverage: 0 should be greater"),
        (condition(max_age_days=-1), "[0].max_age_days: -1 should be greater"),
        # Hysteresis
        (condition(value=10, leave=11), "`leave` is 11 and must be below `value`, 10"),
        (condition(value=10, leave=10), "`leave` is 10 and must be below `value`, 10"),
        (condition(operator="<", leave=9), "`leave` is 9 and must be above `value`, 10"),
        (condition(operator="=", leave=9), "`leave` needs an operator with one side"),
        # Confidence
        (condition("clarity_sessions", confidence=0.95), "`confidence` is for rates and clarity_"),
        (condition("cpc", confidence=0.95), "`confidence` is for rates and cpc is a ratio"),
        (condition(RATE, value=0.1, confidence=0.94), "[0].confidence: the confidence is one of"),
        (condition(RATE, "=", 0.1, confidence=0.9), "`confidence` bounds one side"),
        (condition(RATE, value=1, confidence=0.9), "clarity_rage_click_rate > 1 is never true"),
        (
            condition(RATE, value=0.1, confidence=0.9, comparison=PERCENT),
            "`confidence` bounds a rate, not its difference",
        ),
        # Comparisons
        (
            condition(comparison={"against": "baseline", "measure": "percent"}),
            "[0].comparison.days: `days` says how long a baseline is",
        ),
        (
            condition(comparison={**PERCENT, "days": 3}),
            "[0].comparison.days: `days` says how long a baseline is",
        ),
        (
            condition(comparison={"against": "baseline", "days": 2, "measure": "z_score"}),
            "[0].comparison: a z-score needs at least 3 days",
        ),
        (condition(comparison=Z_SCORE), "[0]: a z-score needs at least 3 days"),
        (condition(window=last_days(2), comparison=Z_SCORE), "a z-score needs at least 3 days"),
        # Thresholds
        (condition(operator=">", value=-1), "spend > -1 is always true"),
        (condition(operator=">=", value=0), "spend >= 0 is always true"),
        (condition(operator="<", value=0), "spend < 0 is never true"),
        (condition(operator="=", value=-5), "spend = -5 is never true"),
        (condition(operator="!=", value=-5), "spend != -5 is always true"),
        (condition(operator="between", value=-5, to=-1), "spend between -5 is never true"),
        (condition("clarity_scroll_depth", value=100), "clarity_scroll_depth > 100 is never true"),
        (condition("clarity_scroll_depth", "<=", 100), "clarity_scroll_depth <= 100 is always"),
        (condition(value=10, leave=-1), "spend > -1 is always true"),
        (
            condition(operator="<", value=-100, comparison=PERCENT),
            "spend < -100 is never true",
        ),
    ],
)
def test_an_impossible_condition_is_refused_with_its_path(asked: Any, words: str) -> None:
    said = sentence(document({"all": [asked]}))
    assert said.startswith("The rule cannot be used: conditions.all[0]")
    assert words in said


@pytest.mark.parametrize(
    "asked",
    [
        condition(operator=">", value=0),
        condition(operator="<=", value=0),
        condition("revenue", "<", 0),
        condition("ad.carts", "<", -3),
        condition("clarity_scroll_depth", ">=", 100),
        condition("clarity_scroll_depth", "<", 100),
        condition(operator="<", value=-5, comparison={**PERCENT, "measure": "absolute"}),
        condition(operator="<=", value=-100, comparison=PERCENT),
        condition(RATE, value=3),
        condition(window=SINCE, comparison=Z_SCORE),
        condition(window=last_days(400), comparison=PERCENT, consecutive_days=31),
        condition(window={"kind": "fixed", "start": "2024-02-29", "end": "2024-02-29"}),
    ],
)
def test_what_can_be_true_and_can_be_false_is_a_condition(asked: Any) -> None:
    assert rule(asked)


KEYED = condition(RATE, ">", 0.3, key="rage", leave=0.2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": ""}, "name: it is empty"),
        ({"name": "a" * 81}, "at most 80 characters"),
        ({"name": " a"}, "name: it begins or ends with a space"),
        ({"name": "a\u202eb"}, "characters that cannot be printed"),
        ({"name": "\ud800"}, "should be a valid string, unable"),
        ({"level": "account"}, "level: 'account' should be 'campaign'"),
        ({"scope": {"kind": "one"}}, "scope.business: it is missing"),
        ({"scope": {"kind": "some", "businesses": []}}, "scope.businesses: it needs at least 1"),
        ({"scope": {"kind": "one", "business": "A!"}}, "scope.business: 'A!' is not a business id"),
        ({"scope": {"kind": "some", "businesses": ["a", "a"]}}, "scope.businesses: it names"),
        ({"filters": {"statuses": ["deleted"]}}, "filters.statuses[0]: 'deleted' should be"),
        ({"filters": {"ids": {3}}}, "filters.ids[0]: 3 should be a valid string"),
        ({"filters": {"name_contains": ""}}, "filters.name_contains: it is empty"),
        ({"status": "shadow"}, "`shadow_until` is the day on which a shadow ends"),
        ({"status": "armed", "shadow_until": "2026-12-01"}, "`shadow_until` is the day"),
        ({"status": "live"}, "status: 'live' should be 'draft', 'shadow', 'armed' or 'off'"),
        ({"priority": 1001}, "priority: 1001 should be less"),
        ({"schedule": {"kind": "cron", "cron": "@daily"}}, "schedule.cron: a cron text has five"),
        ({"schedule": {"kind": "cron", "cron": "60 * * * *"}}, "schedule.cron: "),
        ({"schedule": {"kind": "cron", "cron": "5-1 * * * *"}}, "schedule.cron: "),
        ({"schedule": {"kind": "cron", "cron": "*/0 * * * *"}}, "schedule.cron: "),
        ({"schedule": {"kind": "cron", "cron": "5/2 * * * *"}}, "schedule.cron: "),
        ({"schedule": {"kind": "cron", "cron": "* * * *"}}, "schedule.cron: "),
        ({"schedule": {"kind": "cron", "cron": "\u0661 * * * *"}}, "schedule.cron: "),
        # Actions
        ({"actions": []}, "actions: it needs at least 1"),
        ({"actions": [{"kind": "delete"}]}, "actions[0]: its `kind` is one of 'pause'"),
        ({"actions": [{"kind": "pause"}, {"kind": "pause"}]}, "the same action twice"),
        ({"actions": [{"kind": "resume"}]}, "actions: it has resume without the pause"),
        (
            {"actions": [{"kind": "pause"}], "level": "business"},
            "actions[0]: it is pause, which a b",
        ),
        (
            {"actions": [{"kind": "pause"}], "level": "landing_page"},
            "pause, which a landing_page does not know",
        ),
        ({"actions": [{"kind": "alert", "message": "a\nb"}]}, "actions[0].message: it begins"),
        ({"actions": [{"kind": "webhook", "url": "http://a.example"}]}, "has an https address"),
        ({"actions": [{"kind": "webhook", "url": "https://"}]}, "has an https address"),
        ({"actions": [{"kind": "webhook", "url": "https://a.example:99999"}]}, "an https address"),
        ({"actions": [{"kind": "webhook", "url": "https://a b"}]}, "has an https address"),
        # Overrides
        (
            {"overrides": [{"business": "acme", "condition": "nope", "value": 1}]},
            "overrides[0]: no condition has the key 'nope'",
        ),
        ({"overrides": [{"business": "acme", "condition": "rage"}]}, "it changes nothing"),
        (
            {"overrides": [{"business": "acme", "condition": "rage", "value": 0.1}]},
            "overrides[0].leave: `leave` is 0.2 and must be below `value`, 0.1",
        ),
        (
            {"overrides": [{"business": "acme", "condition": "rage", "value": 1}] * 2},
            "overrides[1]: the same condition of the same business comes twice",
        ),
        (
            {
                "scope": {"kind": "one", "business": "bolt"},
                "overrides": [{"business": "acme", "condition": "rage", "value": 1}],
            },
            "overrides[0]: the rule is not about business 'acme'",
        ),
        ({"conditions": {"all": [KEYED, KEYED]}}, "conditions.all[1].key: 'rage' names another"),
        (
            {
                "level": "business",
                "conditions": condition(RATE, measured_on="landing_page"),
            },
            "conditions.measured_on: a business has more than one landing page",
        ),
    ],
)
def test_an_impossible_rule_is_refused_with_its_path(change: dict[str, Any], words: str) -> None:
    assert words in sentence(document(KEYED) | change)


@pytest.mark.parametrize(
    "budget",
    [
        {"percent": 0, "at_least": 1, "at_most": 2},
        {"percent": -91, "at_least": 1, "at_most": 2},
        {"percent": 101, "at_least": 1, "at_most": 2},
        {"percent": 10, "at_least": 3, "at_most": 2},
        {"percent": 10, "at_least": 0, "at_most": 2},
        {"percent": 10, "at_least": 1},
    ],
)
def test_a_budget_moves_within_bounds_only(budget: dict[str, Any]) -> None:
    adjust = {"kind": "adjust_budget", **budget}
    assert "actions[0]" in sentence(document(level="campaign", actions=[adjust]))


def test_an_ad_has_no_budget() -> None:
    adjust = {"kind": "adjust_budget", "percent": 10, "at_least": 1, "at_most": 2}
    assert "an ad has no budget" in sentence(document(level="ad", actions=[adjust]))
    assert rule(level="ad_set", actions=[adjust])


def test_the_secret_in_an_address_is_not_repeated() -> None:
    for url in ("https://me:hunter2@hooks.example/hunter2", "http://hooks.example/hunter2"):
        said = sentence(document(actions=[{"kind": "webhook", "url": url}]))
        assert "hunter2" not in said
    long_url = "https://hooks.example/hunter2" + "x" * 2000
    assert "hunter2" not in sentence(document(actions=[{"kind": "webhook", "url": long_url}]))


def test_all_that_is_wrong_is_listed_by_path() -> None:
    with pytest.raises(InvalidRule) as refused:
        parse_rule(document({"all": [condition(value="a"), condition(operator="a")]}, level=3))
    assert [field.path for field in refused.value.bad_fields] == [
        "level",
        "conditions.all[0].value",
        "conditions.all[1].operator",
    ]
    assert "(and 2 more)" in str(refused.value)


@pytest.mark.parametrize(
    "cron", ["* * * * *", "0 0 1 1 0", "*/15 6-20/2 1,15 * 1-5", "59 23 31 12 7"]
)
def test_a_cron_text_is_kept_as_it_is(cron: str) -> None:
    made = rule(schedule={"kind": "cron", "cron": cron})
    assert json.loads(canonical_json(made))["schedule"] == {"kind": "cron", "cron": cron}


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(),
    lambda children: (
        st.lists(children, max_size=3)
        | st.sets(st.integers(), max_size=2)
        | st.dictionaries(
            st.sampled_from(["all", "any", "not", "kind", "metric", "days", "window", "x"]),
            children,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=200)
@given(data=st.data())
def test_junk_anywhere_is_refused_or_a_rule_and_never_an_accident(data: st.DataObject) -> None:
    where: list[Callable[[dict[str, Any]], Any]] = [
        lambda made: made,
        lambda made: made["conditions"],
        lambda made: made["conditions"]["all"][0],
        lambda made: made["conditions"]["all"][0]["window"],
        lambda made: made["actions"][1],
        lambda made: made["scope"],
    ]
    made = json.loads(json.dumps(FULL))
    place = data.draw(st.sampled_from(where))(made)
    place[data.draw(st.sampled_from([*place, "x"]))] = data.draw(JUNK)
    with contextlib.suppress(InvalidRule):
        again = parse_rule(made)
        assert parse_rule(canonical_json(again)) == again


# The schema as a form reads it


def models_of_schema() -> dict[str, dict[str, Any]]:
    schema = rule_json_schema()
    models = {"Rule": schema, **schema["$defs"]}
    return {name: model for name, model in models.items() if "properties" in model}


def test_when_a_field_makes_sense_is_said_of_fields_and_values_that_there_are() -> None:
    asked = 0
    for name, model in models_of_schema().items():
        for field, schema in model["properties"].items():
            for fellow, wanted in schema.get("x-when", {}).items():
                asked += 1
                of_fellow = model["properties"][fellow]
                if isinstance(wanted, dict):
                    chosen = cast("dict[str, Any]", wanted)
                    assert any(chosen.items() <= each.items() for each in of_fellow["anyOf"]), field
                    continue
                if "$ref" in of_fellow:
                    of_fellow = rule_json_schema()["$defs"][of_fellow["$ref"].split("/")[-1]]
                assert wanted == [None] or set(wanted) <= set(of_fellow["enum"]), (name, field)
    assert asked >= 9


def test_a_field_that_the_schema_calls_senseless_is_refused() -> None:
    for asked in (
        condition("spend", min_sessions=3),
        condition("spend", measured_on="business"),
        condition("spend", confidence=0.9),
        condition(RATE, "=", 3, leave=2),
        condition(RATE, ">", 3, to=5),
        condition(RATE, ">", 3, comparison={"against": PREVIOUS, "days": 3, "measure": "percent"}),
    ):
        sentence(document({"all": [asked]}))


def test_the_schema_has_words_for_people_in_its_titles() -> None:
    titles = {name: model["title"] for name, model in models_of_schema().items()}
    assert titles["LastDays"] == "Last days"
    fields = models_of_schema()["Condition"]["properties"]
    assert fields["min_sessions"]["title"] == "Min sessions"
    assert fields["min_sessions"]["description"].startswith("With fewer sessions")
