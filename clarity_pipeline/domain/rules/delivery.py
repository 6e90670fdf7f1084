"""Sending what stands in the outbox: the next step, and when to try again.

An action can be tried by a process that dies over it, or arrive although its answer does not. So
how the entity stands on its platform is read before every attempt, and kept before the first: what
an earlier attempt has done is not done twice, and what somebody else has done meanwhile is left.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from clarity_pipeline.domain.rules.actions import (
    ON_ADS,
    ActionKind,
    ActionStatus,
    budget_after,
    expires_at,
)
from clarity_pipeline.domain.rules.model import AdjustBudget, EntityStatus, Limits

CLAIM_LASTS: Final = timedelta(minutes=10)
"""Longer than any attempt takes: an older claim belongs to a process that has died."""

FIRST_RETRY_AFTER: Final = timedelta(minutes=1)
LONGEST_RETRY_AFTER: Final = timedelta(hours=1)

MOST_ATTEMPTS: Final = 10

OWN_CHANGE_WITHIN: Final = timedelta(minutes=2)
"""A change this soon after an attempt without an answer was made by it: calls take less, and clocks
of two machines differ by less."""

TIMESTAMP_HEADER: Final = "Clarity-Timestamp"
SIGNATURE_HEADER: Final = "Clarity-Signature"
IDEMPOTENCY_HEADER: Final = "Idempotency-Key"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxAction:
    """An action as it stands in the outbox; instants are UTC.

    `attempts` counts claims: one whose process died is counted as well. `detail` has what the plan
    gave it (PlannedAction) and, once it has been tried, how the entity stood before and after.
    """

    id: int
    evaluation_id: int
    rule_id: int
    version: int
    business_id: str | None
    day: date
    entity_id: str | None
    account_id: str | None
    kind: ActionKind
    action: Mapping[str, Any]
    detail: Mapping[str, Any]
    idempotency_key: str
    status: ActionStatus
    reason: str | None
    created_at: datetime
    judged_by: str | None
    judged_at: datetime | None
    attempts: int
    last_attempt_at: datetime | None
    next_attempt_at: datetime | None
    done_at: datetime | None
    last_error: str | None

    @property
    def positions(self) -> Sequence[int]:
        """Places in the evaluation's evidence that it is about."""
        return self.detail.get("positions", ())

    @property
    def expires_at(self) -> datetime:
        return expires_at(self.day)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformState:
    """How an entity stands on its platform.

    `daily_budget` is in the smallest unit of the account's currency, None without a budget of its
    own; `units` of them are one unit of the currency. `changed_at` is when the platform says that
    it was last changed; not every platform says so of a budget.
    """

    status: EntityStatus
    daily_budget: int | None
    units: int
    changed_at: datetime | None

    def document(self) -> dict[str, Any]:
        """What is kept in an action's detail."""
        return {
            "status": self.status.value,
            "daily_budget": self.daily_budget,
            "units": self.units,
            "changed_at": None if self.changed_at is None else self.changed_at.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class Send:
    """Keep `detail`, and then make the change; `daily_budget` is the target of a budget's."""

    detail: Mapping[str, Any]
    daily_budget: int | None = None


@dataclass(frozen=True, slots=True)
class AlreadyDone:
    """An earlier attempt has arrived. `is_certain` says that nobody else can have done it."""

    is_certain: bool


@dataclass(frozen=True, slots=True)
class Skip:
    """Send nothing, and for what reason."""

    reason: str


Step = Send | AlreadyDone | Skip


def next_step(
    action: OutboxAction,
    state: PlatformState,
    *,
    pause: OutboxAction | None = None,
    now: datetime,
) -> Step:
    """What to do about an action on an ad, by how the entity stands on its platform right now.

    `pause` is the action that a resume takes back. What is sent bears `now` as `sent_at`, and as
    `before` how the entity stood at the first attempt.
    """
    if state.status is EntityStatus.DELETED:
        return Skip("It has been deleted on the platform.")
    step = _step(action, state, pause)
    if not isinstance(step, Send):
        return step
    sent = {"before": state.document(), **step.detail, "sent_at": now.isoformat()}
    return Send(sent, step.daily_budget)


def _step(action: OutboxAction, state: PlatformState, pause: OutboxAction | None) -> Step:
    if "before" in action.detail:
        return _another_attempt(action, state)
    match action.kind:
        case ActionKind.PAUSE:
            return _first_pause(action, state)
        case ActionKind.RESUME:
            return _first_resume(action, state, pause)
        case ActionKind.ADJUST_BUDGET:
            return _first_budget(action, state)
        case _:
            raise ValueError(f"{action.kind} is not about an ad")


def _first_pause(action: OutboxAction, state: PlatformState) -> Step:
    if state.status is EntityStatus.PAUSED:
        return Skip("It is paused already.")
    return Send(action.detail)


def _first_resume(action: OutboxAction, state: PlatformState, pause: OutboxAction | None) -> Step:
    if state.status is EntityStatus.ACTIVE:
        return Skip("It is running already.")
    after = pause.detail.get("after") if pause is not None else None
    if after is None or after["changed_at"] is None:
        return Skip("It is not certain that this rule has paused it.")
    if after != state.document():
        return Skip("Somebody has changed it since this rule paused it.")
    return Send(action.detail)


def _first_budget(action: OutboxAction, state: PlatformState) -> Step:
    if state.daily_budget is None:
        return Skip("It has no daily budget of its own on the platform.")
    if state.status is EntityStatus.PAUSED:
        return Skip("It is paused, so its budget is left alone.")
    before = state.daily_budget / state.units
    known = action.detail.get("budget_known")
    if (
        action.judged_by is not None
        and known is not None
        and round(known * state.units) != (state.daily_budget)
    ):
        return Skip(f"Its daily budget is {before:g} by now, and {known:g} was agreed to.")
    after = budget_after(
        AdjustBudget.model_validate(action.action), before=before, step=1 / state.units
    )
    if isinstance(after, str):
        return Skip(after)
    target = round(after * state.units)
    return Send({**action.detail, "target": target}, target)


def _another_attempt(action: OutboxAction, state: PlatformState) -> Step:
    """After an attempt of which nobody knows how it ended."""
    before = action.detail["before"]
    if action.kind is ActionKind.ADJUST_BUDGET:
        target = int(action.detail["target"])
        if state.daily_budget == target:
            return AlreadyDone(is_certain=False)
        if state.daily_budget == before["daily_budget"] and state.status.value == before["status"]:
            return Send(action.detail, target)
        return Skip("Somebody has changed it meanwhile.")
    if state.document() == before:
        return Send(action.detail)
    wanted = EntityStatus.PAUSED if action.kind is ActionKind.PAUSE else EntityStatus.ACTIVE
    if state.status is wanted:
        return AlreadyDone(is_certain=_is_own_change(action, state))
    return Skip("Somebody has changed it meanwhile.")


def _is_own_change(action: OutboxAction, state: PlatformState) -> bool:
    sent_at = action.detail.get("sent_at")
    if sent_at is None or state.changed_at is None:
        return False
    return abs(state.changed_at - datetime.fromisoformat(sent_at)) <= OWN_CHANGE_WITHIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What has become of things since an action was planned.

    `before_in_rule` and `before_in_account` are how many older actions of the same rule, kind and
    day count (`COUNTS`). `has_other_of_day` is whether an older one of another rule on the same
    entity and day does, `has_later_than_pause` whether anything on the entity has come between a
    resume and the pause that it takes back.
    """

    is_armed: bool
    limits: Limits
    before_in_rule: int
    before_in_account: int
    has_other_of_day: bool
    has_later_than_pause: bool


def reason_to_skip(action: OutboxAction, standing: Standing) -> str | None:
    """Why an action is not sent any more, whatever the platform says.

    Two evaluations that ran side by side did not know of each other; the older action goes first.
    """
    limits = standing.limits
    if not standing.is_armed:
        return "The rule is no longer armed."
    if standing.before_in_rule >= limits.actions_per_day:
        return f"The rule may do {action.kind.value} {limits.actions_per_day} times a day."
    if action.kind not in ON_ADS:
        return None
    if standing.before_in_account >= limits.actions_per_account_per_day:
        return (
            f"The rule may do {action.kind.value} {limits.actions_per_account_per_day} times a "
            "day in one ad account."
        )
    if standing.has_other_of_day:
        return f"Another rule has acted on it for {action.day}."
    if standing.has_later_than_pause:
        return "Something else has been done to it since this rule paused it."
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class TryAgain:
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """For good: `status` is failed, or expired when there is no time left for another attempt."""

    status: ActionStatus
    reason: str


def after_failure(
    action: OutboxAction,
    *,
    now: datetime,
    jitter: float,
    retry_after: timedelta | None = None,
    may_have_arrived: bool = True,
) -> TryAgain | GiveUp:
    """When to try again what may work later. `action.attempts` counts the one that failed.

    `jitter` is of [0, 1) and spreads what failed together. A platform that asks for patience is
    given it, and an attempt of which certainly nothing came is never the last.
    """
    if action.attempts >= MOST_ATTEMPTS and may_have_arrived:
        return GiveUp(status=ActionStatus.FAILED, reason=f"It has failed {action.attempts} times.")
    doubled = FIRST_RETRY_AFTER * 2 ** min(action.attempts - 1, 10)
    wait = min(doubled, LONGEST_RETRY_AFTER) * (1 + jitter) / 2
    at = now + max(wait, (retry_after or timedelta()) * (1 + jitter / 10))
    if at >= action.expires_at:
        return GiveUp(status=ActionStatus.EXPIRED, reason="Its day was over before it worked.")
    return TryAgain(at=at)


def webhook_headers(
    body: bytes, *, secrets: Sequence[bytes], idempotency_key: str, now: datetime
) -> dict[str, str]:
    """What lets the receiver of a webhook know who sent it, when, and whether it came before.

    `Clarity-Timestamp` has Unix seconds. `Clarity-Signature` has `v1=` and the HMAC-SHA256, in
    hexadecimal, of the timestamp, a full stop and the body as it was sent, once for each secret,
    joined by commas; one that fits is enough. `Idempotency-Key` is the same at every attempt.
    """
    timestamp = str(int(now.timestamp()))
    signed = timestamp.encode() + b"." + body
    signatures = (hmac.new(secret, signed, hashlib.sha256).hexdigest() for secret in secrets)
    return {
        TIMESTAMP_HEADER: timestamp,
        SIGNATURE_HEADER: ",".join(f"v1={signature}" for signature in signatures),
        IDEMPOTENCY_HEADER: idempotency_key,
    }
