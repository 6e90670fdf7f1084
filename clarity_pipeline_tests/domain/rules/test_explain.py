"""Decisions in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from clarity_pipeline.domain.rules.decisions import Reason
from clarity_pipeline.domain.rules.explain import describe, explain
from clarity_pipeline.domain.rules.history import Entity
from clarity_pipeline.domain.rules.model import Level
from clarity_pipeline_tests.domain.rules.histories import (
    AN_AD,
    back,
    condition,
    daily,
    decide,
    last_days,
    ratio_days,
    rule,
)
from clarity_pipeline_tests.domain.rules.worlds import World

RAGE = condition("clarity_rage_click_rate", ">", 0.25, window=last_days(7))
RAGED = ratio_days("rage_clicks", "rage_click_sessions", *[(30, 100)] * 7)


def sentence(what: Any, days: Any, **more: Any) -> str:
    return explain(decide(what, days, **more)).sentence


def test_a_rule_that_fires_says_on_what_numbers() -> None:
    assert sentence(RAGE, RAGED) == (
        "'A rule' fires for ad 'Spring sale' as of 2026-11-01: rage click rate from "
        "2026-10-26 to 2026-11-01 was 0.3 (210 / 700), above 0.25."
    )


def test_a_rule_that_does_not_fire_says_what_was_not_reached() -> None:
    assert sentence(condition(value=10), daily("spend", 8.5)) == (
        "'A rule' does not fire for ad 'Spring sale' as of 2026-11-01: spend on 2026-11-01 was "
        "8.5, not above 10."
    )


def test_a_rule_that_cannot_decide_says_why_and_that_nothing_is_done() -> None:
    unconnected = replace(AN_AD, is_connected=False, name="")
    assert sentence(RAGE, RAGED, entity=unconnected) == (
        "'A rule' cannot decide about ad 'ad-1' as of 2026-11-01, so nothing is done: rage click "
        "rate from 2026-10-26 to 2026-11-01 is unknown because Clarity is not connected."
    )


@pytest.mark.parametrize(
    ("what", "days", "words"),
    [
        (
            condition(value=5, comparison={"against": "previous_window", "measure": "absolute"}),
            daily("spend", 20, 32),
            "was 32, +12 against 20 in the window before, above 5.",
        ),
        (
            condition(
                value=50, comparison={"against": "baseline", "days": 2, "measure": "percent"}
            ),
            daily("spend", 20, 20, 32),
            "was 32, +60% against 20 in the 2 days before, above 50%.",
        ),
        (
            condition(value=2, comparison={"against": "baseline", "days": 3, "measure": "z_score"}),
            daily("spend", 10, 20, 30, 50),
            "was 50, +3 standard deviations from a daily 20 in the 3 days before, above 2.",
        ),
        (
            condition("ctr", value=0.01, confidence=0.95),
            ratio_days("clicks", "impressions", (5, 100)),
            "was 0.05 (5 / 100), with 95% confidence at least 0.0215437, above 0.01.",
        ),
        (
            condition(value=10, consecutive_days=3),
            daily("spend", 5, 11, 12),
            "was 12, above 10, but only on 2 days in a row of 3.",
        ),
        (
            condition(value=10, consecutive_days=2),
            daily("spend", 11, 12),
            "was 12, above 10 on 2 days in a row.",
        ),
        (
            condition(value=10, consecutive_days=2),
            {back(1): {"spend": 1.0}},
            "was not above 10 on each day that was asked about.",
        ),
        (
            condition(value=10, consecutive_days=2),
            daily("spend", 12),
            "is unknown because on an earlier day there are no data.",
        ),
        (
            condition(operator="not_between", value=10, to=12345.678),
            daily("spend", 1234567.891),
            "was 1,234,567.89, outside 10 to 12,345.68.",
        ),
        (
            condition(window=last_days(7), min_coverage=0.5),
            daily("spend", 20),
            "is unknown because only 1 of 7 days have data.",
        ),
        (
            condition("clarity_sessions", value=1, min_sessions=100),
            daily("sessions", 3),
            "is unknown because there are 3 sessions and 100 are needed.",
        ),
        (
            condition(window=last_days(7), max_age_days=1),
            daily("spend", 20, None, None),
            "is unknown because the latest data are of 2026-10-30.",
        ),
        (
            condition(window={"kind": "since_change"}),
            daily("spend", 20),
            "spend in the days since a change, 14 at most is unknown because no change of it is "
            "known.",
        ),
    ],
)
def test_every_kind_of_condition_has_its_words(what: Any, days: Any, words: str) -> None:
    said = sentence(what, days)
    assert said.endswith(words)


def test_what_is_held_says_where_it_ends() -> None:
    said = sentence(condition(value=10, leave=5), daily("spend", 7), was_true=True)
    assert said.endswith("was 7, above 5, where what has begun ends.")


def test_the_table_has_a_row_per_condition_and_marks_the_one_that_decided() -> None:
    decision = decide({"any": [condition(value=100), RAGE]}, {**daily("spend", 20), **RAGED})
    first, second = explain(decision).rows
    assert (first.condition, first.answer, first.why) == (
        "Spend yesterday: above 100",
        "unknown",
        "there are no data",
    )
    assert (second.answer, second.value, second.threshold, second.is_deciding) == (
        "yes",
        "0.3 (210 / 700)",
        "above 0.25",
        True,
    )
    assert (second.days_with_data, second.sessions, first.is_deciding) == ("7 of 7", "700", False)


def test_a_condition_is_described_in_full() -> None:
    asked = condition(
        "clarity_dead_clicks",
        value=50,
        leave=20,
        consecutive_days=2,
        window={"kind": "since_change", "within_days": 5},
        comparison={"against": "baseline", "days": 14, "measure": "percent"},
    )
    (finding,) = decide(rule(asked), {}).findings
    assert describe(finding.condition) == (
        "Dead clicks in the days since a change, 5 at most, as change in percent from the 14 days "
        "before: above 50%, 2 days in a row, until it is no longer above 20%"
    )


def test_every_decision_and_reason_can_be_put_into_words() -> None:
    seen: set[Reason | None] = set()
    for seed in range(40):
        world = World(seed)
        for each in world.rules:
            for decision in world.evaluate(each, [0, 1, 2, 3], world.series).decisions():
                explanation = explain(decision)
                assert explanation.sentence.endswith(".")
                assert "None" not in explanation.sentence
                assert [row.is_deciding for row in explanation.rows].count(True) == 1
                seen.update(decision.reasons)
    assert len(seen) > 10


def test_levels_are_words() -> None:
    page = Entity(id="https://acme.example/", level=Level.LANDING_PAGE, business_id="acme")
    assert "landing page 'https://acme.example/'" in sentence(
        condition(), daily("spend", 20), entity=page, level="landing_page"
    )
