"""The next step of an action, by what an earlier attempt and other people have done."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from clarity_pipeline.domain.rules.actions import ActionKind, ActionStatus
from clarity_pipeline.domain.rules.delivery import (
    AlreadyDone,
    GiveUp,
    OutboxAction,
    PlatformState,
    Send,
    Skip,
    Standing,
    Step,
    TryAgain,
    after_failure,
    next_step,
    reason_to_skip,
    webhook_headers,
)
from clarity_pipeline.domain.rules.model import EntityStatus, Limits

NOW = datetime(2026, 11, 2, 0, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CHANGED = NOW - timedelta(days=3)

RUNNING = PlatformState(
    status=EntityStatus.ACTIVE, daily_budget=10_000, units=100, changed_at=CHANGED
)
PAUSED = replace(RUNNING, status=EntityStatus.PAUSED)
DELETED = replace(RUNNING, status=EntityStatus.DELETED)


def action(kind: str = "pause", **changes: Any) -> OutboxAction:
    document: dict[str, Any] = {"kind": kind}
    if kind == "adjust_budget":
        document |= {"percent": 20, "at_least": 10, "at_most": 1000}
    made = OutboxAction(
        id=8,
        evaluation_id=1,
        rule_id=1,
        version=1,
        business_id="acme",
        day=date(2026, 11, 1),
        entity_id="meta:1",
        account_id="meta:act",
        kind=ActionKind(kind),
        action=document,
        detail={"positions": [0], "entity_ids": ["meta:1"]},
        idempotency_key="rule:1:2026-11-01:pause:meta:1",
        status=ActionStatus.PENDING,
        reason=None,
        created_at=NOW,
        judged_by=None,
        judged_at=None,
        attempts=1,
        last_attempt_at=NOW,
        next_attempt_at=None,
        done_at=None,
        last_error=None,
    )
    return replace(made, **changes)


def step(
    asked: OutboxAction,
    state: PlatformState,
    *,
    pause: OutboxAction | None = None,
    now: datetime = NOW,
) -> Step:
    return next_step(asked, state, pause=pause, now=now)


def tried(asked: OutboxAction, state: PlatformState, **more: Any) -> OutboxAction:
    """The action after an attempt of which no answer has come."""
    sent = step(asked, state, **more)
    assert isinstance(sent, Send)
    return replace(asked, detail=sent.detail, attempts=2)


def done(asked: OutboxAction, after: PlatformState) -> OutboxAction:
    return replace(
        asked, id=7, detail={**asked.detail, "after": after.document()}, status=ActionStatus.DONE
    )


def test_what_runs_is_paused_and_how_it_stood_is_kept_before() -> None:
    sent = step(action(), RUNNING)
    assert isinstance(sent, Send)
    assert sent.detail == {
        "positions": [0],
        "entity_ids": ["meta:1"],
        "before": {
            "status": "active",
            "daily_budget": 10_000,
            "units": 100,
            "changed_at": CHANGED.isoformat(),
        },
        "sent_at": NOW.isoformat(),
    }


def test_what_somebody_else_has_paused_is_not_taken_for_ours() -> None:
    assert step(action(), PAUSED) == Skip("It is paused already.")


@pytest.mark.parametrize("kind", ["pause", "resume", "adjust_budget"])
def test_what_is_deleted_is_left(kind: str) -> None:
    assert step(action(kind), DELETED) == Skip("It has been deleted on the platform.")


def test_an_attempt_that_arrived_without_an_answer_is_not_made_again() -> None:
    after = replace(PAUSED, changed_at=NOW + timedelta(seconds=20))
    assert step(tried(action(), RUNNING), after, now=NOW + 10 * MINUTE) == AlreadyDone(
        is_certain=True
    )


def test_a_pause_long_after_the_attempt_may_be_somebody_elses() -> None:
    after = replace(PAUSED, changed_at=NOW + 5 * MINUTE)
    assert step(tried(action(), RUNNING), after) == AlreadyDone(is_certain=False)
    unknown = replace(PAUSED, changed_at=None)
    assert step(tried(action(), RUNNING), unknown) == AlreadyDone(is_certain=False)


def test_an_attempt_that_did_not_arrive_is_made_again_and_keeps_how_it_stood_first() -> None:
    again = step(tried(action(), RUNNING), RUNNING, now=NOW + 3 * MINUTE)
    assert isinstance(again, Send)
    assert again.detail["before"] == RUNNING.document()
    assert again.detail["sent_at"] == (NOW + 3 * MINUTE).isoformat()


@pytest.mark.parametrize(
    "touched",
    [replace(RUNNING, changed_at=NOW + MINUTE), replace(RUNNING, daily_budget=20_000)],
)
def test_what_somebody_has_touched_since_the_first_attempt_is_left(touched: PlatformState) -> None:
    assert step(tried(action(), RUNNING), touched) == Skip("Somebody has changed it meanwhile.")


# Resume.

AFTER_PAUSE = replace(PAUSED, changed_at=NOW - timedelta(days=1))


def test_an_untouched_pause_is_taken_back() -> None:
    sent = step(action("resume"), AFTER_PAUSE, pause=done(action(), AFTER_PAUSE))
    assert isinstance(sent, Send)


@pytest.mark.parametrize(
    "state",
    [
        replace(AFTER_PAUSE, changed_at=NOW),
        replace(AFTER_PAUSE, daily_budget=5),
        replace(AFTER_PAUSE, changed_at=None),
    ],
)
def test_a_pause_that_somebody_has_touched_is_theirs(state: PlatformState) -> None:
    found = step(action("resume"), state, pause=done(action(), AFTER_PAUSE))
    assert found == Skip("Somebody has changed it since this rule paused it.")


def test_what_somebody_has_resumed_runs() -> None:
    found = step(action("resume"), RUNNING, pause=done(action(), AFTER_PAUSE))
    assert found == Skip("It is running already.")


@pytest.mark.parametrize(
    "pause", [None, action(), done(action(), replace(AFTER_PAUSE, changed_at=None))]
)
def test_a_pause_that_may_be_somebody_elses_is_not_taken_back(pause: OutboxAction | None) -> None:
    found = step(action("resume"), AFTER_PAUSE, pause=pause)
    assert found == Skip("It is not certain that this rule has paused it.")


def test_a_resume_that_arrived_without_an_answer_is_not_made_again() -> None:
    first = tried(action("resume"), AFTER_PAUSE, pause=done(action(), AFTER_PAUSE))
    arrived = replace(RUNNING, changed_at=NOW)
    assert step(first, arrived) == AlreadyDone(is_certain=True)
    assert isinstance(step(first, AFTER_PAUSE), Send)
    touched = replace(AFTER_PAUSE, changed_at=NOW)
    assert step(first, touched) == Skip("Somebody has changed it meanwhile.")


# Budgets.


def test_a_budget_has_its_target_fixed_before_the_first_attempt() -> None:
    first = step(action("adjust_budget"), RUNNING)
    assert isinstance(first, Send)
    assert (first.daily_budget, first.detail["target"]) == (12_000, 12_000)


def test_a_budget_that_was_raised_without_an_answer_is_not_raised_again() -> None:
    first = tried(action("adjust_budget"), RUNNING)
    raised = replace(RUNNING, daily_budget=12_000)
    assert step(first, raised) == AlreadyDone(is_certain=False)
    # A name may have changed meanwhile; how it stood before the first attempt is kept.
    again = step(first, replace(RUNNING, changed_at=NOW))
    assert isinstance(again, Send)
    assert (again.daily_budget, again.detail["before"]) == (12_000, RUNNING.document())
    other = replace(RUNNING, daily_budget=11_000)
    assert step(first, other) == Skip("Somebody has changed it meanwhile.")
    assert step(first, PAUSED) == Skip("Somebody has changed it meanwhile.")


def test_a_budget_in_yen_has_no_smaller_unit() -> None:
    yen = replace(RUNNING, daily_budget=501, units=1)
    sent = step(action("adjust_budget"), yen)
    assert isinstance(sent, Send)
    assert sent.daily_budget == 601


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (
            replace(RUNNING, daily_budget=None),
            "It has no daily budget of its own on the platform.",
        ),
        (PAUSED, "It is paused, so its budget is left alone."),
        (
            replace(RUNNING, daily_budget=200_000),
            "Its daily budget is 2000, beyond the rule's bounds of 10 and 1000.",
        ),
    ],
)
def test_a_budget_that_cannot_be_changed_is_left(state: PlatformState, reason: str) -> None:
    assert step(action("adjust_budget"), state) == Skip(reason)


def test_what_a_person_agreed_to_is_what_is_done_or_nothing() -> None:
    detail = {"positions": [0], "entity_ids": ["meta:1"], "budget_known": 100.0}
    agreed = action("adjust_budget", detail=detail, judged_by="ada")
    assert isinstance(step(agreed, RUNNING), Send)
    changed = replace(RUNNING, daily_budget=15_000)
    assert step(agreed, changed) == Skip("Its daily budget is 150 by now, and 100 was agreed to.")
    assert isinstance(step(replace(agreed, judged_by=None), changed), Send)


# What has become of things since.

STANDING = Standing(
    is_armed=True,
    limits=Limits(actions_per_day=5, actions_per_account_per_day=3),
    before_in_rule=4,
    before_in_account=2,
    has_other_of_day=False,
    has_later_than_pause=False,
)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"is_armed": False}, "no longer armed"),
        ({"before_in_rule": 5}, "5 times a day."),
        ({"before_in_account": 3}, "in one ad account"),
        ({"has_other_of_day": True}, "Another rule has acted on it for 2026-11-01."),
        ({"has_later_than_pause": True}, "Something else has been done to it"),
    ],
)
def test_what_two_evaluations_side_by_side_did_not_know_of_is_seen_before_sending(
    change: dict[str, Any], words: str
) -> None:
    assert reason_to_skip(action(), STANDING) is None
    assert words in str(reason_to_skip(action(), replace(STANDING, **change)))


def test_an_alert_is_in_no_account() -> None:
    full = replace(STANDING, before_in_account=9, has_other_of_day=True)
    assert reason_to_skip(action("alert"), full) is None


# Trying again.


def waits(attempts: int, *, jitter: float = 0.0, **more: Any) -> timedelta:
    found = after_failure(action(attempts=attempts), now=NOW, jitter=jitter, **more)
    assert isinstance(found, TryAgain)
    return found.at - NOW


def test_it_waits_twice_as_long_each_time_up_to_an_hour() -> None:
    assert [waits(attempts) / MINUTE for attempts in range(1, 10)] == [
        0.5, 1, 2, 4, 8, 16, 30, 30, 30,
    ]  # fmt: skip
    assert waits(1, jitter=0.5) == MINUTE * 0.75


def test_a_platform_that_asks_for_patience_is_given_it() -> None:
    assert waits(1, retry_after=20 * MINUTE) == 20 * MINUTE
    assert waits(1, retry_after=20 * MINUTE, jitter=0.5) == 21 * MINUTE
    assert waits(1, retry_after=timedelta(seconds=1)) == MINUTE / 2


def test_it_gives_up_after_ten_attempts_of_which_something_may_have_come() -> None:
    found = after_failure(action(attempts=10), now=NOW, jitter=0)
    assert found == GiveUp(status=ActionStatus.FAILED, reason="It has failed 10 times.")
    assert waits(40, may_have_arrived=False) == 30 * MINUTE


def test_it_gives_up_when_its_day_is_over() -> None:
    late = datetime(2026, 11, 2, 23, 59, 45, tzinfo=UTC)
    assert after_failure(action(), now=late, jitter=0) == GiveUp(
        status=ActionStatus.EXPIRED, reason="Its day was over before it worked."
    )


# Webhooks.


def test_a_receiver_can_tell_who_sent_a_webhook_when_and_whether_it_came_before() -> None:
    body = b'{"a": 1}'
    headers = webhook_headers(body, secrets=[b"new", b"old"], idempotency_key="key", now=NOW)
    timestamp = headers["Clarity-Timestamp"]
    assert timestamp == str(int(NOW.timestamp()))
    signatures = [
        hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        for secret in (b"new", b"old")
    ]
    assert headers["Clarity-Signature"] == f"v1={signatures[0]},v1={signatures[1]}"
    assert headers["Idempotency-Key"] == "key"
