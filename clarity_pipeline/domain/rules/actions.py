"""What evaluations call for: which actions are to be sent, and why others are not.

Nothing is sent here. What comes out is written into the outbox together with the evaluation that
calls for it, and looked at once more before it is sent (delivery.py).
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cached_property
from math import ceil, floor
from typing import Any, Final

from clarity_pipeline.domain.rules.decisions import Truth
from clarity_pipeline.domain.rules.model import (
    Action,
    AdjustBudget,
    Alert,
    EntityStatus,
    Limits,
    Pause,
    Resume,
    Rule,
    RuleStatus,
    Webhook,
)

MOST_KEY_CHARACTERS: Final = 200

MOST_GRACE: Final = timedelta(hours=1)
"""Two daily evaluations are not a day apart to the minute: a cool-down may end this much early, or
by a twenty-fourth of itself, so that one of 24 hours does not become one of two days."""


class Mode(StrEnum):
    """What an evaluation may lead to."""

    ACTING = "acting"
    SHADOW = "shadow"
    LATE = "late"
    """Of a day so long over that nothing may be done about it any more."""


class ActionKind(StrEnum):
    """What is done; the first three to one entity of an ad platform."""

    PAUSE = "pause"
    RESUME = "resume"
    ADJUST_BUDGET = "adjust_budget"
    ALERT = "alert"
    WEBHOOK = "webhook"


ON_ADS: Final = frozenset({ActionKind.PAUSE, ActionKind.RESUME, ActionKind.ADJUST_BUDGET})


class ActionStatus(StrEnum):
    """How an action stands; all but the first two are the end of it."""

    WAITING = "waiting"
    """For a person to agree."""
    PENDING = "pending"
    DONE = "done"
    SKIPPED = "skipped"
    """Nothing was sent, for a reason that is kept."""
    FAILED = "failed"
    REJECTED = "rejected"
    EXPIRED = "expired"


COUNTS: Final = frozenset(
    {ActionStatus.WAITING, ActionStatus.PENDING, ActionStatus.DONE, ActionStatus.FAILED}
)
"""What has happened to an entity, may have, or may yet: a call that failed can have arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An entity that a rule has an answer about, and how our own tables know it.

    `position` is its place in the evaluation's evidence. `daily_budget` is in units of its
    account's currency, None for an entity without a budget of its own.
    """

    position: int
    entity_id: str
    truth: Truth
    status: EntityStatus = EntityStatus.ACTIVE
    account_id: str | None = None
    daily_budget: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One rule's answers about one business as of a day.

    `looked_at` counts all entities that it was evaluated for. `subjects` need only be those that
    it is true for and, where it has a resume, those paused ones that it is false for.
    """

    rule_id: int
    version: int
    rule: Rule
    business_id: str | None
    day: date
    mode: Mode
    looked_at: int
    subjects: Sequence[Subject]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentAction:
    """An action that stands in the outbox, as far as later ones depend on it.

    `entity_ids` are all that it is about. `at` is when it was last tried, else when it was made.
    """

    id: int
    rule_id: int
    version: int
    day: date
    kind: ActionKind
    status: ActionStatus
    account_id: str | None
    entity_ids: tuple[str, ...]
    attempts: int
    at: datetime

    def counts(self, *, now: datetime) -> bool:
        """Whether it has happened, may have, or may yet."""
        is_over = self.attempts == 0 and now >= expires_at(self.day)
        is_open = self.status in {ActionStatus.WAITING, ActionStatus.PENDING}
        return self.status in COUNTS and not (is_open and is_over)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedAction:
    """A row of the outbox to be. `entity_id` is None for what tells of several entities at once.

    `action` is the action of the rule's document. `detail` has the `positions` in the evidence and
    the `entity_ids` that it is about and, of a budget, what is to become of it as far as our own
    tables know it. `reason` is a sentence, of a skipped one only.
    """

    kind: ActionKind
    rule_id: int
    version: int
    business_id: str | None
    day: date
    entity_id: str | None
    account_id: str | None
    action: Mapping[str, Any]
    detail: Mapping[str, Any]
    idempotency_key: str
    status: ActionStatus
    reason: str | None


@dataclass(frozen=True)
class Plan:
    """`disarm` has the rules that are to be switched off, and why, in a sentence."""

    actions: tuple[PlannedAction, ...]
    disarm: Mapping[int, str]

    def of_evaluation(self, *, rule_id: int, business_id: str | None) -> Sequence[PlannedAction]:
        """What goes into the outbox with the evaluation of this rule and business."""
        return self._by_evaluation.get((rule_id, business_id), ())

    @cached_property
    def _by_evaluation(self) -> Mapping[tuple[int, str | None], list[PlannedAction]]:
        found: dict[tuple[int, str | None], list[PlannedAction]] = defaultdict(list)
        for action in self.actions:
            found[action.rule_id, action.business_id].append(action)
        return found


def plan_actions(
    judged: Sequence[Judged],
    *,
    recent: Sequence[RecentAction] = (),
    last: Mapping[str, RecentAction] | None = None,
    now: datetime,
) -> Plan:
    """What evaluations call for, with all limits of their rules kept.

    `recent` has the actions of these rules and on these entities, back to the longest cool-down of
    the rules and to the day; `last`, by entity, the latest action on each that counts (`COUNTS`),
    however old. Evaluations of a shadow, or of a day long over, call for nothing.

    Each entity is left to one rule a day, that of the highest priority. The circuit breaker is
    about what a rule does to ads: an alert about most of a client's pages is what alerts are for.
    It looks at every business by itself and at all of this call together, and whatever a rule that
    it stops would have done is skipped.
    """
    acting = sorted(
        (
            each
            for each in judged
            if each.mode is Mode.ACTING and each.rule.status is RuleStatus.ARMED
        ),
        key=lambda each: (
            -each.rule.priority,
            each.rule.name,
            each.rule_id,
            each.business_id or "",
        ),
    )
    world = _World(acting, recent=recent, last=last or {}, now=now)
    by_rule: dict[int, list[Judged]] = defaultdict(list)
    for each in acting:
        by_rule[each.rule_id].append(each)
    actions: list[PlannedAction] = []
    disarm: dict[int, str] = {}
    for rule_id, evaluations in by_rule.items():
        planned, stop = _plan_rule(evaluations, world)
        actions += planned
        if stop is not None:
            disarm[rule_id] = stop
    return Plan(tuple(actions), disarm)


def expires_at(day: date) -> datetime:
    """Until when something may be done about a day: to the end of the one after it."""
    return datetime.combine(day + timedelta(days=2), time.min, tzinfo=UTC)


def too_many_failures(limits: Limits, *, failed: int) -> str | None:
    """Why a rule is to be switched off after so many failures of one version, on ads, in a day.

    A chat that is down is no reason to stop pausing ads.
    """
    if failed < limits.breaker_errors:
        return None
    return f"{failed} of its actions failed in a day, where {limits.breaker_errors} are enough."


def cool_down(limits: Limits) -> timedelta:
    """How long after an action an entity is left alone."""
    whole = timedelta(hours=limits.cool_down_hours)
    return whole - min(MOST_GRACE, whole / 24)


def budget_after(action: AdjustBudget, *, before: float, step: float = 0.01) -> float | str:
    """The budget that an action makes of another, to the currency's `step`; or why it is let be.

    It changes by no more than the percentage, and ends within the bounds. A budget that somebody
    has set beyond them is left to them.
    """
    if before < action.at_least or before > action.at_most:
        return (
            f"Its daily budget is {before:g}, beyond the rule's bounds of {action.at_least:g} and "
            f"{action.at_most:g}."
        )
    wanted = before * (1 + action.percent / 100)
    if action.percent > 0:
        after = floor(_steps(min(wanted, action.at_most), step)) * step
        has_changed = after > before + step / 2
    else:
        after = ceil(_steps(max(wanted, action.at_least), step)) * step
        has_changed = after < before - step / 2
    if has_changed:
        return round(after, 6)
    return (
        f"Its daily budget is {before:g}, and {action.percent:+g}% within the rule's bounds "
        "changes nothing."
    )


def _steps(amount: float, step: float) -> float:
    """How many steps an amount is; 110.00000000000001 of them are 110."""
    return round(amount / step, 6)


@dataclass
class _World:
    """What has happened to entities, and what this call has decided so far."""

    acting: Sequence[Judged]
    recent: Sequence[RecentAction]
    last: Mapping[str, RecentAction]
    now: datetime
    taken: dict[str, str] = field(default_factory=lambda: dict[str, str]())
    """By entity, the name of the rule that acts on it in this call."""

    def __post_init__(self) -> None:
        self.touched: dict[str, list[RecentAction]] = defaultdict(list)
        self.told: dict[tuple[int, str], datetime] = {}
        self.used: Counter[tuple[int, date, ActionKind]] = Counter()
        self.used_in: Counter[tuple[int, date, ActionKind, str]] = Counter()
        self.failed: Counter[tuple[int, int, date]] = Counter()
        for each in self.recent:
            if each.counts(now=self.now):
                self._take_in(each)
        self.wanted_paused: dict[str, str] = {}
        for each in self.acting:
            if any(isinstance(action, Pause) for action in each.rule.actions):
                for subject in each.subjects:
                    if subject.truth is Truth.TRUE:
                        self.wanted_paused[subject.entity_id] = each.rule.name

    def _take_in(self, action: RecentAction) -> None:
        self.used[action.rule_id, action.day, action.kind] += 1
        if action.account_id is not None:
            self.used_in[action.rule_id, action.day, action.kind, action.account_id] += 1
        if action.status is ActionStatus.FAILED and action.kind in ON_ADS:
            self.failed[action.rule_id, action.version, action.day] += 1
        for entity_id in action.entity_ids:
            if action.kind in ON_ADS:
                self.touched[entity_id].append(action)
            elif action.kind is ActionKind.ALERT:
                key = (action.rule_id, entity_id)
                self.told[key] = max(action.at, self.told.get(key, action.at))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An action on an entity before caps; `reason` is why it cannot be."""

    judged: Judged
    subject: Subject
    action: Action
    detail: Mapping[str, Any]
    reason: str | None


def _plan_rule(
    evaluations: Sequence[Judged], world: _World
) -> tuple[list[PlannedAction], str | None]:
    wanted = {id(each): list(_wanted_on_ads(each, world)) for each in evaluations}
    stop = _stop(evaluations, wanted, world)
    planned: list[PlannedAction] = []
    for each in evaluations:
        planned += [_settled(want, world, stop=stop) for want in wanted[id(each)]]
        planned += _telling(each, world, stop=stop)
    return planned, stop


def _stop(
    evaluations: Sequence[Judged], wanted: Mapping[int, Sequence[_Wanted]], world: _World
) -> str | None:
    """Why the circuit breaker switches the rule off."""
    first = evaluations[0]
    limits = first.rule.limits
    failed = world.failed[first.rule_id, first.version, first.day]
    counts = [
        (_entities_acted_on(wanted[id(each)]), each.looked_at, each.business_id)
        for each in evaluations
    ]
    if len(evaluations) > 1:
        together = (sum(count[0] for count in counts), sum(count[1] for count in counts), None)
        counts.append(together)
    for acted, looked_at, business_id in counts:
        if acted >= limits.breaker_min_entities and acted > limits.breaker_share * looked_at:
            of = f" of business {business_id}" if business_id else ""
            return (
                f"It would have acted on {acted} of the {looked_at} entities{of} that it looked "
                f"at, and may on {limits.breaker_share:.0%} of them."
            )
    return too_many_failures(limits, failed=failed)


def _entities_acted_on(wanted: Sequence[_Wanted]) -> int:
    return len({want.subject.entity_id for want in wanted if want.reason is None})


def _wanted_on_ads(judged: Judged, world: _World) -> Iterator[_Wanted]:
    for subject in judged.subjects:
        mine = [
            (action, detail, reason)
            for action in judged.rule.actions
            for detail, reason in _wants(action, subject, judged, world)
        ]
        # Whether something may be done does not matter where it makes no difference.
        if not mine or _has_acted(judged, subject, world):
            continue
        forbidden = _left_alone(judged, subject, world)
        for action, detail, reason in mine:
            yield _Wanted(judged, subject, action, detail, reason or forbidden)


def _wants(
    action: Action, subject: Subject, judged: Judged, world: _World
) -> Iterator[tuple[Mapping[str, Any], str | None]]:
    """The action's details and why it cannot be, if the entity's answer calls for it at all.

    An entity that is paused already is nothing to tell of: it would be told every day.
    """
    is_paused = subject.status is EntityStatus.PAUSED
    match action:
        case Pause() if subject.truth is Truth.TRUE and not is_paused:
            yield {}, _without_account(subject)
        case Resume() if subject.truth is Truth.FALSE and is_paused:
            pause = world.last.get(subject.entity_id)
            if _is_own_pause(pause, judged) and pause is not None:
                by = world.wanted_paused.get(subject.entity_id)
                reason = None if by is None else f"Rule {by!r} wants it paused."
                yield {"of_action": pause.id}, reason or _without_account(subject)
        case AdjustBudget() if subject.truth is Truth.TRUE:
            yield _budget(action, subject)
        case _:
            return


def _budget(action: AdjustBudget, subject: Subject) -> tuple[Mapping[str, Any], str | None]:
    if subject.status is EntityStatus.PAUSED:
        return {}, "It is paused, so its budget is left alone."
    if subject.daily_budget is None:
        return {}, "It has no daily budget of its own."
    after = budget_after(action, before=subject.daily_budget)
    if isinstance(after, str):
        return {"budget_known": subject.daily_budget}, after
    detail = {"budget_known": subject.daily_budget, "budget_wanted": after}
    return detail, _without_account(subject)


def _without_account(subject: Subject) -> str | None:
    return None if subject.account_id else "It is in no ad account that is known."


def _is_own_pause(pause: RecentAction | None, judged: Judged) -> bool:
    return (
        pause is not None
        and pause.kind is ActionKind.PAUSE
        and pause.status is ActionStatus.DONE
        and pause.rule_id == judged.rule_id
    )


def _has_acted(judged: Judged, subject: Subject, world: _World) -> bool:
    """Whether the rule has acted on the entity for this day, in an evaluation before this one."""
    return any(
        action.rule_id == judged.rule_id and action.day == judged.day
        for action in world.touched.get(subject.entity_id, ())
    )


def _left_alone(judged: Judged, subject: Subject, world: _World) -> str | None:
    """Why an entity is left alone: it has been acted on, by another rule or not long ago."""
    other = world.taken.get(subject.entity_id)
    if other is not None and other != judged.rule.name:
        return f"Rule {other!r} acts on it."
    rest = cool_down(judged.rule.limits)
    for action in world.touched.get(subject.entity_id, ()):
        if action.day == judged.day:
            return f"Another rule has acted on it for {judged.day}."
        if world.now - action.at < rest:
            return (
                f"It was acted on at {action.at:%Y-%m-%d %H:%M} UTC, and it is left "
                f"alone for {judged.rule.limits.cool_down_hours} hours after one."
            )
    return None


def _settled(want: _Wanted, world: _World, *, stop: str | None) -> PlannedAction:
    judged, subject = want.judged, want.subject
    kind = ActionKind(want.action.kind)
    reason = want.reason
    if reason is None and stop is not None:
        reason = f"The rule was switched off: {stop}"
    # Rules come one after the other, so that of the higher priority has had its turn.
    reason = reason or _over_a_cap(judged, kind, subject.account_id, world)
    if reason is None:
        world.taken[subject.entity_id] = judged.rule.name
    return _row(
        judged,
        want.action,
        entity_id=subject.entity_id,
        account_id=subject.account_id,
        detail={
            "positions": [subject.position],
            "entity_ids": [subject.entity_id],
            **want.detail,
        },
        reason=reason,
        waits=judged.rule.needs_approval,
    )


def _over_a_cap(
    judged: Judged, kind: ActionKind, account_id: str | None, world: _World
) -> str | None:
    """Why one more action of this kind would be too many; None when it has been counted in."""
    limits = judged.rule.limits
    per_rule = (judged.rule_id, judged.day, kind)
    if world.used[per_rule] >= limits.actions_per_day:
        return (
            f"The rule may do {kind.value} {limits.actions_per_day} times a day, and has for "
            f"{judged.day}."
        )
    if account_id is not None:
        per_account = (*per_rule, account_id)
        if world.used_in[per_account] >= limits.actions_per_account_per_day:
            return (
                f"The rule may do {kind.value} {limits.actions_per_account_per_day} times a day "
                f"in one ad account, and has for {judged.day}."
            )
        world.used_in[per_account] += 1
    world.used[per_rule] += 1
    return None


def _telling(judged: Judged, world: _World, *, stop: str | None) -> Iterator[PlannedAction]:
    """Alerts and webhooks: one of each for all entities that the rule is true for."""
    true = [subject for subject in judged.subjects if subject.truth is Truth.TRUE]
    if not true:
        return
    webhooks = 0
    for action in judged.rule.actions:
        about = true
        index: int | None = None
        match action:
            case Alert():
                rest = cool_down(judged.rule.limits)
                about = [each for each in true if not _was_told(each, judged, world, rest=rest)]
            case Webhook():
                index, webhooks = webhooks, webhooks + 1
            case _:
                continue
        if not about:
            continue
        reason = None if stop is None else f"The rule was switched off: {stop}"
        reason = reason or _over_a_cap(judged, ActionKind(action.kind), None, world)
        yield _row(
            judged,
            action,
            entity_id=None,
            account_id=None,
            detail={
                "positions": [each.position for each in about],
                "entity_ids": [each.entity_id for each in about],
            },
            reason=reason,
            index=index,
        )


def _was_told(subject: Subject, judged: Judged, world: _World, *, rest: timedelta) -> bool:
    told_at = world.told.get((judged.rule_id, subject.entity_id))
    return told_at is not None and world.now - told_at < rest


def _row(
    judged: Judged,
    action: Action,
    *,
    entity_id: str | None,
    account_id: str | None,
    detail: Mapping[str, Any],
    reason: str | None,
    waits: bool = False,
    index: int | None = None,
) -> PlannedAction:
    status = ActionStatus.WAITING if waits else ActionStatus.PENDING
    return PlannedAction(
        kind=ActionKind(action.kind),
        rule_id=judged.rule_id,
        version=judged.version,
        business_id=judged.business_id,
        day=judged.day,
        entity_id=entity_id,
        account_id=account_id,
        action=action.model_dump(mode="json"),
        detail=detail,
        idempotency_key=idempotency_key(
            rule_id=judged.rule_id,
            day=judged.day,
            kind=ActionKind(action.kind),
            index=index,
            about=entity_id if entity_id is not None else judged.business_id or "",
        ),
        status=status if reason is None else ActionStatus.SKIPPED,
        reason=reason,
    )


def idempotency_key(
    *, rule_id: int, day: date, kind: ActionKind, about: str, index: int | None = None
) -> str:
    """By what an action is known to be the same, however often its decision is made again.

    `about` is the entity, or the business; one too long for the column gives way to its digest.
    """
    start = f"rule:{rule_id}:{day}:{kind.value}" + ("" if index is None else f":{index}")
    key = f"{start}:{about}"
    if len(key) <= MOST_KEY_CHARACTERS:
        return key
    return f"{start}:sha256={hashlib.sha256(about.encode()).hexdigest()}"
