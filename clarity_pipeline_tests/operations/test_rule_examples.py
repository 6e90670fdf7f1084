"""The rules in examples/rules/ on a store: what they decide, what they call for, and when not."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from clarity_pipeline.domain.rules.actions import ActionStatus
from clarity_pipeline.domain.rules.decisions import Reason, Truth
from clarity_pipeline.domain.rules.explain import explain
from clarity_pipeline.domain.rules.model import RuleStatus
from clarity_pipeline.operations.rule_backtest import backtest_rule
from clarity_pipeline.operations.rule_evaluation import EvaluatedDay, evaluate_day
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.rule_actions import list_actions
from clarity_pipeline.store.rule_evaluations import list_decisions, read_decision
from clarity_pipeline.store.rules import save_rule
from clarity_pipeline.store.vault import TokenVault
from clarity_pipeline_tests.domain.rules.examples import EXAMPLES, OF_ADS, Example
from clarity_pipeline_tests.domain.rules.histories import AS_OF, back
from clarity_pipeline_tests.factories import DAY, NOW, connect_business
from clarity_pipeline_tests.operations.example_worlds import (
    Days,
    fail_sync,
    store_ads,
    store_example,
)

each_example = pytest.mark.parametrize("example", EXAMPLES, ids=[each.file for each in EXAMPLES])

CALLED_FOR: Mapping[str, set[tuple[str, ActionStatus]]] = {
    "pause-on-rage-clicks.yaml": {
        ("pause", ActionStatus.PENDING),
        ("alert", ActionStatus.PENDING),
    },
    "alert-dead-clicks-after-change.yaml": {("alert", ActionStatus.PENDING)},
    "pause-quick-backs-while-cpa-rises.yaml": {
        ("pause", ActionStatus.WAITING),
        ("alert", ActionStatus.PENDING),
    },
    "alert-engagement-drop.yaml": {("alert", ActionStatus.PENDING)},
    "lower-budget-on-dead-clicks.yaml": {
        ("adjust_budget", ActionStatus.PENDING),
        ("alert", ActionStatus.PENDING),
    },
    "raise-budget-on-healthy-page.yaml": {
        ("adjust_budget", ActionStatus.WAITING),
        ("alert", ActionStatus.PENDING),
    },
    "alert-spend-without-sessions.yaml": {("alert", ActionStatus.PENDING)},
}

assert AS_OF == DAY


@pytest.fixture
def acme(database: Database, vault: TokenVault) -> Database:
    connect_business(database, vault)
    return database


def arm(database: Database, example: Example) -> int:
    armed = example.rule.model_copy(update={"status": RuleStatus.ARMED})
    return save_rule(database, armed, made_by="a test", now=NOW).id


def evaluated(database: Database) -> EvaluatedDay:
    return evaluate_day(database, day=DAY, now=NOW, run_id=None)


def without_latest_days_of_clarity(days: Days) -> Days:
    return {
        day: {name: value for name, value in sums.items() if day <= back(3) or name in OF_ADS}
        for day, sums in days.items()
    }


@each_example
def test_an_armed_example_decides_on_a_store_and_calls_for_its_actions(
    acme: Database, example: Example
) -> None:
    entity_id = store_example(acme, example, example.days)
    rule_id = arm(acme, example)
    assert evaluated(acme).fired == 1

    (logged,) = list_decisions(acme, rule_id=rule_id)
    assert (logged.entity_id, logged.truth, logged.version) == (entity_id, Truth.TRUE, 1)
    decision = read_decision(acme, logged.address).decision
    assert decision.fires
    assert explain(decision).sentence.startswith(f"'{example.rule.name}' fires for")
    actions = list_actions(acme, rule_id=rule_id)
    assert {(each.kind.value, each.status) for each in actions} == CALLED_FOR[example.file]

    replayed = backtest_rule(acme, example.rule, start=back(6), end=DAY, now=NOW)
    assert [each.entity_id for each in replayed.fired] == [entity_id]
    assert replayed.days[-1].fired == 1


@each_example
def test_an_armed_example_is_silent_where_clarity_did_not_answer(
    acme: Database, example: Example
) -> None:
    store_example(acme, example, without_latest_days_of_clarity(example.days))
    fail_sync(acme, DAY)
    rule_id = arm(acme, example)

    day = evaluated(acme)
    assert (day.fired, day.not_fired, day.unknown) == (0, 0, 1)
    assert list_actions(acme, rule_id=rule_id) == []
    decision = read_decision(acme, "1-0").decision
    assert decision.truth is Truth.UNKNOWN
    assert set(decision.reasons) <= {Reason.STALE, Reason.NO_DATA}
    assert "so nothing is done" in explain(decision).sentence


def test_an_ad_whose_page_clarity_never_saw_is_not_paused(acme: Database) -> None:
    (example,) = (each for each in EXAMPLES if each.file == "pause-on-rage-clicks.yaml")
    store_ads(acme, example, example.days)
    fail_sync(acme, DAY)
    rule_id = arm(acme, example)
    assert evaluated(acme).unknown == 1
    assert read_decision(acme, "1-0").decision.reasons == (Reason.NO_DATA,)
    assert list_actions(acme, rule_id=rule_id) == []
