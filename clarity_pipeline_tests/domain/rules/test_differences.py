"""What two rules say differently, as a person who looks at a change wants to read it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clarity_pipeline.domain.rules.differences import differences
from clarity_pipeline.domain.rules.documents import canonical_json, parse_rule
from clarity_pipeline_tests.domain.rules.histories import condition, rule
from clarity_pipeline_tests.domain.rules.test_documents import FULL
from clarity_pipeline_tests.domain.rules.worlds import World

SPEND, CLICKS = condition("spend"), condition("clicks")
SECRET = "https://hooks.example/secret"


def lines(before: Any, after: Any) -> list[str]:
    return [str(each) for each in differences(before, after)]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            rule({"all": [condition("ctr", value=0.05), SPEND]}),
            rule({"all": [condition("ctr", value=0.08), SPEND]}),
            ["conditions.all[0].value: 0.05 -> 0.08"],
        ),
        (
            rule(condition(leave=5)),
            rule(condition()),
            ["conditions.leave: 5 -> nothing"],
        ),
        (
            rule(condition(max_age_days=None)),
            rule(condition(max_age_days=2)),
            ["conditions.max_age_days: nothing -> 2"],
        ),
        (
            rule(condition(window={"kind": "last_days", "days": 7})),
            rule(condition(window={"kind": "yesterday"})),
            [
                'conditions.window.kind: "last_days" -> "yesterday"',
                "conditions.window.days: 7 -> nothing",
            ],
        ),
        (
            rule(status="shadow", shadow_until="2026-12-01"),
            rule(status="armed"),
            ['status: "shadow" -> "armed"', 'shadow_until: "2026-12-01" -> nothing'],
        ),
        (
            rule(scope={"kind": "some", "businesses": ["acme", "bolt"]}),
            rule(scope={"kind": "some", "businesses": ["bolt", "cove"]}),
            ['scope.businesses: "acme" -> nothing', 'scope.businesses: nothing -> "cove"'],
        ),
        (
            rule(scope={"kind": "some", "businesses": ["acme", "bolt"]}),
            rule(scope={"kind": "some", "businesses": ["bolt", "acme"]}),
            ['scope.businesses: ["acme", "bolt"] -> the same in another order'],
        ),
    ],
)
def test_a_change_is_told_with_its_path(before: Any, after: Any, said: list[str]) -> None:
    assert lines(before, after) == said


def test_a_condition_that_is_put_in_front_changes_none_behind_it() -> None:
    before, after = rule({"all": [SPEND, CLICKS]}), rule({"all": [condition("cpc"), SPEND, CLICKS]})
    (added,) = differences(before, after)
    assert (added.path, added.before) == ("conditions.all[0]", None)
    assert added.after is not None
    assert '"metric": "cpc"' in added.after
    (gone,) = differences(after, before)
    assert (gone.path, gone.after) == ("conditions.all[0]", None)


def test_overrides_are_told_by_business_and_condition() -> None:
    def overrides(**values: float) -> Any:
        return rule(
            condition(key="cost"),
            overrides=[
                {"business": business, "condition": "cost", "value": value}
                for business, value in values.items()
            ],
        )

    assert lines(overrides(acme=1, bolt=2), overrides(bolt=3, cove=4)) == [
        'overrides[acme, cost]: {"business": "acme", "condition": "cost", "value": 1} -> nothing',
        "overrides[bolt, cost].value: 2 -> 3",
        'overrides[cove, cost]: nothing -> {"business": "cove", "condition": "cost", "value": 4}',
    ]
    assert lines(overrides(acme=1, bolt=2), overrides(bolt=2, acme=1)) == [
        'overrides: ["[acme, cost]", "[bolt, cost]"] -> the same in another order'
    ]


def test_the_address_of_a_webhook_is_not_told() -> None:
    alert, hook = {"kind": "alert"}, {"kind": "webhook", "url": SECRET}
    other = {"kind": "webhook", "url": f"{SECRET}/2"}
    for before, after in (
        ([alert], [alert, hook]),
        ([alert, hook], [alert, other]),
        ([hook], [alert]),
    ):
        found = lines(rule(actions=before), rule(actions=after))
        assert found
        assert "hooks.example" not in "".join(found)
    assert lines(rule(actions=[hook]), rule(actions=[other])) == [
        "actions[0].url: (an address) -> (another one)"
    ]


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_rules_have_differences_exactly_when_they_are_different(seed: int) -> None:
    known = [*World(seed).rules, parse_rule(FULL)]
    for before in known:
        for after in known:
            is_same = canonical_json(before) == canonical_json(after)
            assert (differences(before, after) == ()) == is_same
