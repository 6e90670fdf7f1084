"""What evaluations call for, and every limit that keeps them from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarity_pipeline.domain.rules.actions import (
    ON_ADS,
    ActionKind,
    ActionStatus,
    Judged,
    Mode,
    Plan,
    PlannedAction,
    RecentAction,
    Subject,
    budget_after,
    idempotency_key,
    plan_actions,
)
from clarity_pipeline.domain.rules.decisions import Truth
from clarity_pipeline.domain.rules.documents import parse_rule
from clarity_pipeline.domain.rules.model import AdjustBudget, EntityStatus, Rule

DAY = date(2026, 11, 1)
NOW = datetime(2026, 11, 2, 0, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)

PAUSE = {"kind": "pause"}
RESUME = {"kind": "resume"}
ALERT = {"kind": "alert"}
WEBHOOK = {"kind": "webhook", "url": "https://hooks.example.com/a"}
RAISE = {"kind": "adjust_budget", "percent": 20, "at_least": 10, "at_most": 1000}

FREE = {
    "cool_down_hours": 0,
    "actions_per_day": 1000,
    "actions_per_account_per_day": 1000,
    "breaker_min_entities": 1000,
}
"""Limits that are never reached here."""


def rule(*actions: Mapping[str, Any], **changes: Any) -> Rule:
    return parse_rule(
        {
            "name": "rule",
            "scope": {"kind": "all"},
            "level": "campaign",
            "conditions": {
                "metric": "clarity_rage_clicks",
                "operator": ">",
                "value": 5,
                "window": {"kind": "yesterday"},
            },
            "actions": list(actions),
            "status": "armed",
            "limits": FREE,
            **changes,
        }
    )


def subject(number: int, truth: Truth = Truth.TRUE, **changes: Any) -> Subject:
    return replace(
        Subject(position=number, entity_id=f"meta:{number}", truth=truth, account_id="meta:act"),
        **changes,
    )


def judged(asked: Rule, subjects: Sequence[Subject], *, rule_id: int = 1, **changes: Any) -> Judged:
    made = Judged(
        rule_id=rule_id,
        version=3,
        rule=asked,
        business_id="acme",
        day=DAY,
        mode=Mode.ACTING,
        looked_at=1000,
        subjects=subjects,
    )
    return replace(made, **changes)


def plan(*evaluations: Judged, now: datetime = NOW, **more: Any) -> Plan:
    return plan_actions(evaluations, now=now, **more)


def happened(kind: str, entity_id: str | None = "meta:1", **changes: Any) -> RecentAction:
    made = RecentAction(
        id=7,
        rule_id=1,
        version=3,
        day=DAY - timedelta(days=1),
        kind=ActionKind(kind),
        status=ActionStatus.DONE,
        account_id="meta:act",
        entity_ids=() if entity_id is None else (entity_id,),
        attempts=1,
        at=NOW - 24 * HOUR,
    )
    return replace(made, **changes)


def shown(actions: Sequence[PlannedAction]) -> list[tuple[str, str | None, str]]:
    return [(each.kind.value, each.entity_id, each.status.value) for each in actions]


def reasons(found: Plan) -> list[str | None]:
    return [each.reason for each in found.actions]


def test_what_a_rule_is_true_for_is_paused_and_told_of_once_for_all() -> None:
    found = plan(
        judged(
            rule(PAUSE, ALERT, WEBHOOK),
            [subject(1), subject(2, Truth.FALSE), subject(3, Truth.UNKNOWN), subject(4)],
        )
    )
    assert shown(found.actions) == [
        ("pause", "meta:1", "pending"),
        ("pause", "meta:4", "pending"),
        ("alert", None, "pending"),
        ("webhook", None, "pending"),
    ]
    pause, _, alert, webhook = found.actions
    assert pause.detail == {"positions": [1], "entity_ids": ["meta:1"]}
    assert alert.detail == {"positions": [1, 4], "entity_ids": ["meta:1", "meta:4"]}
    assert [each.idempotency_key for each in (pause, alert, webhook)] == [
        "rule:1:2026-11-01:pause:meta:1",
        "rule:1:2026-11-01:alert:acme",
        "rule:1:2026-11-01:webhook:0:acme",
    ]
    assert (pause.version, pause.business_id, pause.account_id) == (3, "acme", "meta:act")
    assert found.of_evaluation(rule_id=1, business_id="acme") == list(found.actions)
    assert found.of_evaluation(rule_id=2, business_id="acme") == ()


@pytest.mark.parametrize("mode", [Mode.SHADOW, Mode.LATE])
def test_a_shadow_and_a_day_long_over_call_for_nothing_at_all(mode: Mode) -> None:
    assert plan(judged(rule(PAUSE, ALERT, WEBHOOK), [subject(1)], mode=mode)).actions == ()


def test_a_rule_that_is_not_armed_calls_for_nothing_in_whatever_mode() -> None:
    assert plan(judged(rule(PAUSE, ALERT, status="draft"), [subject(1)])).actions == ()


def test_only_what_a_rule_does_to_ads_waits_for_a_person() -> None:
    found = plan(judged(rule(PAUSE, ALERT, WEBHOOK, needs_approval=True), [subject(1)]))
    assert [status for _, _, status in shown(found.actions)] == ["waiting", "pending", "pending"]


def test_an_entity_that_is_paused_already_is_nothing_to_tell_of() -> None:
    paused = subject(1, status=EntityStatus.PAUSED)
    assert plan(judged(rule(PAUSE), [paused])).actions == ()


def test_an_entity_in_no_account_is_skipped_and_the_log_says_why() -> None:
    found = plan(judged(rule(PAUSE), [replace(subject(1), account_id=None)]))
    assert reasons(found) == ["It is in no ad account that is known."]
    assert found.actions[0].status is ActionStatus.SKIPPED


# Cool-down.


def test_an_entity_is_left_alone_after_an_action_of_any_rule() -> None:
    careful = rule(PAUSE, limits={**FREE, "cool_down_hours": 48})
    for at, is_left_alone in ((47, False), (46, True), (1, True), (48, False)):
        recent = [happened("adjust_budget", rule_id=9, at=NOW - at * HOUR)]
        found = plan(judged(careful, [subject(1), subject(2)]), recent=recent)
        assert found.actions[1].reason is None
        assert ("left alone for 48 hours" in str(found.actions[0].reason)) is is_left_alone, at


def test_a_cool_down_of_a_day_does_not_become_one_of_two_by_some_minutes() -> None:
    daily = rule(RAISE, limits={**FREE, "cool_down_hours": 24})
    recent = [happened("adjust_budget", at=NOW - 24 * HOUR + timedelta(minutes=20))]
    found = plan(judged(daily, [subject(1, daily_budget=100.0)]), recent=recent)
    assert shown(found.actions) == [("adjust_budget", "meta:1", "pending")]


@pytest.mark.parametrize("status", ["skipped", "rejected", "expired"])
def test_what_never_happened_keeps_nothing_from_happening(status: str) -> None:
    careful = rule(PAUSE, limits={**FREE, "cool_down_hours": 48, "actions_per_day": 1})
    recent = [happened("pause", status=ActionStatus(status), day=DAY, at=NOW - HOUR)]
    assert reasons(plan(judged(careful, [subject(1)]), recent=recent)) == [None]


@pytest.mark.parametrize("status", ["waiting", "pending", "done", "failed"])
def test_what_has_happened_or_may_yet_does(status: str) -> None:
    careful = rule(PAUSE, limits={**FREE, "cool_down_hours": 48})
    recent = [happened("pause", status=ActionStatus(status), at=NOW - HOUR)]
    assert reasons(plan(judged(careful, [subject(1)]), recent=recent)) != [None]


@pytest.mark.parametrize("status", ["waiting", "pending"])
def test_what_nobody_agreed_to_in_time_does_not_stand_in_the_way_of_the_next_day(
    status: str,
) -> None:
    careful = rule(PAUSE, limits={**FREE, "cool_down_hours": 48})
    waiting = happened("pause", status=ActionStatus(status), attempts=0)
    assert reasons(plan(judged(careful, [subject(1)]), recent=[waiting])) == [None]
    tried = replace(waiting, attempts=1)
    assert reasons(plan(judged(careful, [subject(1)]), recent=[tried])) != [None]


def test_an_alert_leaves_out_what_it_told_of_within_the_cool_down() -> None:
    careful = rule(ALERT, limits={**FREE, "cool_down_hours": 48})
    told = happened("alert", "meta:1", account_id=None)
    found = plan(judged(careful, [subject(1), subject(2)]), recent=[told])
    assert [each.detail["entity_ids"] for each in found.actions] == [["meta:2"]]
    assert plan(judged(careful, [subject(1)]), recent=[told]).actions == ()
    of_another = replace(told, rule_id=2)
    assert len(plan(judged(careful, [subject(1)]), recent=[of_another]).actions) == 1


# One rule a day for each entity.


def test_of_two_rules_on_one_entity_that_of_the_higher_priority_acts() -> None:
    low = judged(rule(RAISE, name="low"), [subject(1, daily_budget=100.0)], rule_id=1)
    high = judged(rule(PAUSE, name="high", priority=200), [subject(1)], rule_id=2)
    for evaluations in ((low, high), (high, low)):
        found = plan(*evaluations)
        assert shown(found.actions) == [
            ("pause", "meta:1", "pending"),
            ("adjust_budget", "meta:1", "skipped"),
        ]
        assert found.actions[1].reason == "Rule 'high' acts on it."


def test_a_rule_that_may_not_act_leaves_the_entity_to_the_next() -> None:
    low = judged(rule(RAISE, name="low"), [subject(1, daily_budget=100.0)], rule_id=1)
    capped = rule(PAUSE, name="high", priority=200, limits={**FREE, "actions_per_day": 1})
    spent = happened("pause", "meta:9", rule_id=2, day=DAY)
    found = plan(low, judged(capped, [subject(1)], rule_id=2), recent=[spent])
    assert shown(found.actions) == [
        ("pause", "meta:1", "skipped"),
        ("adjust_budget", "meta:1", "pending"),
    ]


def test_one_that_comes_later_the_same_day_finds_the_entity_taken() -> None:
    done = happened("pause", rule_id=2, day=DAY, at=NOW - 5 * HOUR)
    found = plan(judged(rule(RAISE), [subject(1, daily_budget=100.0)]), recent=[done])
    assert reasons(found) == ["Another rule has acted on it for 2026-11-01."]


def test_a_rule_that_is_evaluated_again_does_nothing_more_to_what_it_has_acted_on() -> None:
    done = happened("resume", day=DAY, at=NOW - HOUR)
    assert plan(judged(rule(PAUSE, RESUME), [subject(1)]), recent=[done]).actions == ()


def test_a_rule_may_pause_and_change_the_budget_at_once() -> None:
    found = plan(judged(rule(PAUSE, RAISE), [subject(1, daily_budget=100.0)]))
    assert shown(found.actions) == [
        ("pause", "meta:1", "pending"),
        ("adjust_budget", "meta:1", "pending"),
    ]


# Caps.


def test_a_rule_does_one_kind_of_thing_so_often_a_day_and_so_often_in_an_account() -> None:
    capped = rule(PAUSE, limits={**FREE, "actions_per_day": 4, "actions_per_account_per_day": 2})
    subjects = [
        *(subject(number) for number in range(3)),
        *(replace(subject(number), account_id="meta:other") for number in range(3, 6)),
    ]
    earlier = happened("pause", "meta:9", day=DAY)
    found = plan(judged(capped, subjects), recent=[earlier])
    assert [status for _, _, status in shown(found.actions)] == [
        "pending",
        "skipped",
        "skipped",
        "pending",
        "pending",
        "skipped",
    ]
    assert "in one ad account" in str(found.actions[1].reason)
    yesterday = replace(earlier, day=DAY - timedelta(days=1))
    assert Counter(reasons(plan(judged(capped, subjects), recent=[yesterday])))[None] == 4


def test_a_thousand_businesses_are_not_a_thousand_alerts() -> None:
    loud = rule(ALERT, limits={**FREE, "actions_per_day": 2})
    found = plan(*(judged(loud, [subject(1)], business_id=name) for name in "abcd"))
    assert [each.status.value for each in found.actions] == [
        "pending",
        "pending",
        "skipped",
        "skipped",
    ]


# The circuit breaker.


def breaker(*actions: Mapping[str, Any], **limits: Any) -> Rule:
    return rule(
        *actions, limits={**FREE, "breaker_share": 0.5, "breaker_min_entities": 3, **limits}
    )


def test_a_rule_that_would_act_on_more_than_its_share_is_switched_off_and_does_nothing() -> None:
    found = plan(
        judged(breaker(PAUSE, ALERT), [subject(number) for number in range(3)], looked_at=5)
    )
    assert found.disarm == {
        1: "It would have acted on 3 of the 5 entities of business acme that it looked at, and may "
        "on 50% of them."
    }
    assert {each.status for each in found.actions} == {ActionStatus.SKIPPED}
    assert all(str(reason).startswith("The rule was switched off: It") for reason in reasons(found))


@pytest.mark.parametrize(("acted", "looked_at"), [(3, 6), (2, 2)])
def test_up_to_the_share_or_on_very_few_it_goes_on(acted: int, looked_at: int) -> None:
    subjects = [subject(number) for number in range(acted)]
    assert plan(judged(breaker(PAUSE), subjects, looked_at=looked_at)).disarm == {}


def test_few_in_each_of_many_businesses_are_many() -> None:
    one_each = [
        judged(breaker(PAUSE), [subject(number)], looked_at=1, business_id=f"b{number}")
        for number in range(3)
    ]
    assert list(plan(*one_each).disarm) == [1]
    assert plan(*one_each[:2]).disarm == {}


def test_what_would_make_no_difference_does_not_break_the_circuit() -> None:
    paused = [subject(number, status=EntityStatus.PAUSED) for number in range(5)]
    assert plan(judged(breaker(PAUSE), paused, looked_at=5)).disarm == {}


def test_an_alert_about_everything_is_what_alerts_are_for() -> None:
    found = plan(judged(breaker(ALERT), [subject(number) for number in range(5)], looked_at=5))
    assert (found.disarm, len(found.actions)) == ({}, 1)


def test_one_rule_that_is_switched_off_does_not_stop_another() -> None:
    subjects = [subject(number) for number in range(5)]
    wild = judged(breaker(PAUSE), subjects, looked_at=5, rule_id=1)
    calm = judged(rule(PAUSE, name="second"), subjects, looked_at=5, rule_id=2)
    found = plan(wild, calm)
    assert list(found.disarm) == [1]
    assert [each.status.value for each in found.actions if each.rule_id == 2] == ["pending"] * 5


def test_failures_of_the_same_version_and_day_switch_a_rule_off() -> None:
    failures = [
        happened("pause", f"meta:{number}", day=DAY, status=ActionStatus.FAILED)
        for number in range(10, 12)
    ]
    asked = judged(breaker(PAUSE, breaker_errors=2), [subject(1)])
    assert plan(asked, recent=failures).disarm == {
        1: "2 of its actions failed in a day, where 2 are enough."
    }
    assert plan(asked, recent=failures[:1]).disarm == {}
    chat_is_down = [replace(each, kind=ActionKind.ALERT) for each in failures]
    assert plan(asked, recent=chat_is_down).disarm == {}
    armed_again = replace(asked, version=4)
    assert plan(armed_again, recent=failures).disarm == {}


# Resume.


def resumed(
    last: RecentAction | None, *others: Judged, truth: Truth = Truth.FALSE, **changes: Any
) -> Plan:
    paused = subject(1, truth, status=EntityStatus.PAUSED)
    return plan(
        judged(rule(PAUSE, RESUME, **changes), [paused]),
        *others,
        last={} if last is None else {"meta:1": last},
    )


def test_a_rule_takes_back_its_own_pause_once_it_is_known_not_to_hold() -> None:
    found = resumed(happened("pause"))
    assert shown(found.actions) == [("resume", "meta:1", "pending")]
    assert found.actions[0].detail["of_action"] == 7


@pytest.mark.parametrize("truth", [Truth.UNKNOWN, Truth.TRUE])
def test_it_does_not_while_that_is_unknown_or_it_holds(truth: Truth) -> None:
    assert resumed(happened("pause"), truth=truth).actions == ()


@pytest.mark.parametrize(
    "last",
    [
        None,
        happened("pause", rule_id=2),
        happened("resume"),
        happened("adjust_budget"),
        happened("pause", status=ActionStatus.FAILED),
        happened("pause", status=ActionStatus.PENDING),
        happened("pause", status=ActionStatus.WAITING),
    ],
)
def test_it_takes_back_nothing_else(last: RecentAction | None) -> None:
    assert resumed(last).actions == ()


def test_it_does_not_while_another_rule_wants_it_paused() -> None:
    paused = subject(1, status=EntityStatus.PAUSED)
    other = judged(rule(PAUSE, name="other", priority=1), [paused], rule_id=2)
    assert reasons(resumed(happened("pause"), other)) == ["Rule 'other' wants it paused."]


def test_what_runs_already_is_not_resumed() -> None:
    running = subject(1, Truth.FALSE)
    found = plan(judged(rule(PAUSE, RESUME), [running]), last={"meta:1": happened("pause")})
    assert found.actions == ()


# Budgets.


@pytest.mark.parametrize(
    ("percent", "before", "after"),
    [
        (20, 100, 120),
        (-20, 100, 80),
        (20, 950, 1000),
        (-90, 50, 10),
        (10, 100.1, 110.11),
        (-10, 100.15, 90.14),
    ],
)
def test_a_budget_changes_by_so_many_percent_within_the_bounds(
    percent: float, before: float, after: float
) -> None:
    action = AdjustBudget(kind="adjust_budget", percent=percent, at_least=10, at_most=1000)
    assert budget_after(action, before=before) == after


def test_a_currency_without_cents_gets_none() -> None:
    action = AdjustBudget(kind="adjust_budget", percent=15, at_least=10, at_most=1000)
    assert budget_after(action, before=101, step=1) == 116


@pytest.mark.parametrize(("percent", "before"), [(20, 1200), (20, 5), (-20, 5), (-20, 1200)])
def test_a_budget_beyond_the_bounds_is_left_to_whoever_set_it(
    percent: float, before: float
) -> None:
    found = plan(
        judged(rule({**RAISE, "percent": percent}), [subject(1, daily_budget=float(before))])
    )
    assert "beyond the rule's bounds" in str(reasons(found))


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"daily_budget": None}, "It has no daily budget of its own."),
        ({"daily_budget": 1000.0}, "changes nothing"),
        (
            {"daily_budget": 100.0, "status": EntityStatus.PAUSED},
            "It is paused, so its budget is left alone.",
        ),
    ],
)
def test_a_budget_that_cannot_be_changed_is_skipped_and_the_log_says_why(
    facts: Mapping[str, Any], reason: str
) -> None:
    found = plan(judged(rule(RAISE), [subject(1, **facts)]))
    assert reason in str(reasons(found))
    assert found.actions[0].status is ActionStatus.SKIPPED


@given(
    percent=st.floats(-90, 100).filter(bool),
    before=st.floats(0.01, 1e6),
    at_least=st.floats(0.01, 1e5),
    width=st.floats(0, 1e5),
    step=st.sampled_from([0.01, 1.0]),
)
def test_a_budget_never_changes_by_more_than_it_may_nor_leaves_the_bounds(
    percent: float, before: float, at_least: float, width: float, step: float
) -> None:
    action = AdjustBudget(
        kind="adjust_budget", percent=percent, at_least=at_least, at_most=at_least + width
    )
    after = budget_after(action, before=before, step=step)
    if isinstance(after, float):
        assert at_least - 1e-5 <= after <= at_least + width + 1e-5
        assert abs(after - before) <= abs(before * percent / 100) + 1e-5
        assert (after > before) == (percent > 0)


def test_a_key_too_long_for_its_column_gives_way_to_a_digest() -> None:
    keys = {
        idempotency_key(rule_id=1, day=DAY, kind=ActionKind.PAUSE, about="x" * 199 + end)
        for end in "ab"
    }
    assert len(keys) == 2
    assert all(len(key) <= 200 for key in keys)


# Whatever comes.

LIMITS = st.fixed_dictionaries(
    {
        "cool_down_hours": st.sampled_from([0, 24, 48]),
        "actions_per_day": st.integers(1, 4),
        "actions_per_account_per_day": st.integers(1, 3),
        "breaker_share": st.sampled_from([0.2, 0.5, 1.0]),
        "breaker_min_entities": st.integers(1, 5),
        "breaker_errors": st.integers(1, 3),
    }
)
ACTIONS: Sequence[tuple[Mapping[str, Any], ...]] = (
    (PAUSE,),
    (PAUSE, RESUME),
    (RAISE,),
    (PAUSE, RAISE),
    (ALERT,),
    (PAUSE, ALERT, WEBHOOK),
)


@st.composite
def any_subject(draw: st.DrawFn) -> Subject:
    number = draw(st.integers(0, 7))
    return Subject(
        position=number,
        entity_id=f"meta:{number}",
        truth=draw(st.sampled_from(Truth)),
        status=draw(st.sampled_from([EntityStatus.ACTIVE, EntityStatus.PAUSED])),
        account_id=draw(st.sampled_from([None, "meta:a", "meta:b"])),
        daily_budget=draw(st.sampled_from([None, 100.0, 2000.0])),
    )


@st.composite
def any_rule(draw: st.DrawFn, rule_id: int) -> Rule:
    return rule(
        *draw(st.sampled_from(ACTIONS)),
        name=f"rule {rule_id}",
        limits=draw(LIMITS),
        priority=draw(st.integers(0, 3)),
        needs_approval=draw(st.booleans()),
    )


@st.composite
def any_recent(draw: st.DrawFn) -> RecentAction:
    return RecentAction(
        id=draw(st.integers(1, 99)),
        rule_id=draw(st.integers(1, 4)),
        version=draw(st.sampled_from([2, 3])),
        day=DAY - timedelta(days=draw(st.integers(0, 3))),
        kind=draw(st.sampled_from(ActionKind)),
        status=draw(st.sampled_from(ActionStatus)),
        account_id="meta:a",
        entity_ids=(f"meta:{draw(st.integers(0, 7))}",),
        attempts=1,
        at=NOW - draw(st.integers(0, 80)) * HOUR,
    )


GOES = {ActionStatus.PENDING, ActionStatus.WAITING}


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Judged], list[RecentAction]]:
    evaluations: list[Judged] = []
    for rule_id in range(1, draw(st.integers(1, 4)) + 1):
        made = draw(any_rule(rule_id))
        for business_id in ("acme", "bolt"):
            found = draw(st.lists(any_subject(), max_size=8, unique_by=lambda each: each.entity_id))
            mine = [each for each in found if (each.position % 2 == 0) == (business_id == "acme")]
            evaluations.append(
                judged(made, mine, rule_id=rule_id, business_id=business_id, looked_at=len(mine))
            )
    return evaluations, draw(st.lists(any_recent(), max_size=8))


@given(worlds())
def test_no_limit_is_ever_passed(world: tuple[list[Judged], list[RecentAction]]) -> None:
    evaluations, recent = world
    last = {each.entity_ids[0]: each for each in recent}
    found = plan_actions(evaluations, recent=recent, last=last, now=NOW)
    again = plan_actions(list(reversed(evaluations)), recent=recent, last=last, now=NOW)
    assert sorted(map(repr, found.actions)) == sorted(map(repr, again.actions))
    keys = [each.idempotency_key for each in found.actions]
    assert len(set(keys)) == len(keys)
    goes = [each for each in found.actions if each.status in GOES]
    by_id = {each.rule_id: each.rule for each in evaluations}
    truths = {
        (each.rule_id, one.entity_id): one.truth for each in evaluations for one in each.subjects
    }
    counting = [each for each in recent if each.counts(now=NOW)]
    per_kind = Counter((each.rule_id, each.day, each.kind) for each in counting)
    per_account = Counter((each.rule_id, each.day, each.kind, each.account_id) for each in counting)
    of_entity: dict[str, set[int]] = {}
    for each in goes:
        asked = by_id[each.rule_id]
        assert each.rule_id not in found.disarm
        per_kind[each.rule_id, each.day, each.kind] += 1
        assert per_kind[each.rule_id, each.day, each.kind] <= asked.limits.actions_per_day
        for entity_id in each.detail["entity_ids"]:
            wanted = Truth.FALSE if each.kind is ActionKind.RESUME else Truth.TRUE
            assert truths[each.rule_id, entity_id] is wanted
        if each.kind not in ON_ADS:
            assert each.status is ActionStatus.PENDING
            continue
        assert each.status is (
            ActionStatus.WAITING if asked.needs_approval else ActionStatus.PENDING
        )
        assert each.account_id is not None
        key = (each.rule_id, each.day, each.kind, each.account_id)
        per_account[key] += 1
        assert per_account[key] <= asked.limits.actions_per_account_per_day
        assert each.entity_id is not None
        of_entity.setdefault(each.entity_id, set()).add(each.rule_id)
        for other in counting:
            if other.kind in ON_ADS and each.entity_id in other.entity_ids:
                assert other.day != DAY
                rest = timedelta(hours=asked.limits.cool_down_hours)
                assert NOW - other.at >= rest - min(rest / 24, HOUR)
    assert all(len(rule_ids) == 1 for rule_ids in of_entity.values())
    for rule_id in found.disarm:
        assert all(each.rule_id != rule_id for each in goes)
