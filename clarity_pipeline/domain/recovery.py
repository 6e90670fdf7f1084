"""Recovering a missed day: which pairs of replies give it back, and which calls are worth making.

The API answers the last 24, 48 and 72 hours (FACTS section 8). On D+2 a reply over 48 hours less
one over 24, made at the same instant, is day D; on D+3 one over 72 hours less one over 48 is. A
reply is stored under the oldest day it reaches back to, so the longer reply of a pair lies under
the missed day and the shorter one under the day after it, and a reply over 48 hours serves as the
longer one of its own day and as the shorter one of the day before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Final, Generic, Protocol, TypeVar

from clarity_pipeline.domain.collection import (
    BusinessPlan,
    ComboOutcome,
    JudgedReply,
    PlannedCall,
    exports_of_record,
)
from clarity_pipeline.domain.days import window_shift_hours
from clarity_pipeline.domain.dimensions import COMBO_BY_DIMENSION_SET, DimensionCombo
from clarity_pipeline.domain.errors import NoLongerCollectable, QuotaRefused
from clarity_pipeline.domain.exports import MAX_DAYS, Verdict
from clarity_pipeline.domain.failures import ComboStatus
from clarity_pipeline.domain.quota import Purpose, resets_at, utc_day_of

PAIR_WITHIN: Final = timedelta(minutes=10)
"""How far apart the two requests of a pair may be. The sessions of the minutes between them are in
one reply only and go to the missed day, or are taken from it: ten minutes are 0.7% of a day, and at
a quarter past midnight, when few visit, less. It is far longer than the calls of a run take."""

SENT_WITHIN: Final = timedelta(minutes=2)
"""How long after it was planned a call may be sent. A reply that has landed is counted on as one
half of a pair only while the other one, planned now, will be asked for within PAIR_WITHIN of it."""


class ReplyOfDay(JudgedReply, Protocol):
    """What choosing a pair needs to know of a landed reply; `day` is the one it is stored under."""

    @property
    def day(self) -> date: ...
    @property
    def truncated(self) -> bool | None: ...
    @property
    def detail(self) -> str | None: ...


Reply = TypeVar("Reply", bound=ReplyOfDay)


@dataclass(frozen=True, slots=True)
class DerivablePair(Generic[Reply]):
    """Two replies of which the longer, `minuend`, less the other is the missed day."""

    minuend: Reply
    subtrahend: Reply

    @property
    def apart(self) -> timedelta:
        return abs(self.minuend.requested_at - self.subtrahend.requested_at)

    @property
    def window_end(self) -> datetime:
        """Where the hours that only the minuend covers end: the start of the subtrahend's."""
        return self.subtrahend.requested_at - timedelta(days=self.subtrahend.num_of_days)


@dataclass(frozen=True, slots=True)
class MissedCombo:
    """A combo of a business-day of which no reply over 24 hours was accepted."""

    business_id: str
    project_id: str
    day: date
    combo: DimensionCombo


@dataclass(frozen=True, slots=True)
class RecoveredCombo:
    """A missed combo and the calls, one or two, that complete its pair of replies."""

    missed: MissedCombo
    calls: tuple[PlannedCall, ...]


@dataclass(frozen=True, slots=True)
class RecoveryPlan:
    """What is worth a call now, most valuable first, and what no free call is left for.

    Two days of one combo share a call: it is in both of theirs.
    """

    recovered: tuple[RecoveredCombo, ...]
    unaffordable: tuple[MissedCombo, ...]


@dataclass(frozen=True, slots=True)
class Standing(Generic[Reply]):
    """How the combos of a day that was missed stand: recovered already, refused, or missed.

    What Clarity has refused for the day, or today for half of its pair, is not asked for again.
    """

    derivable: frozenset[tuple[str, str]]
    refused: Mapping[tuple[str, str], Reply]
    missed: tuple[MissedCombo, ...]


@dataclass(frozen=True, slots=True)
class DayRecovery:
    """What becomes of the gaps of one day, by (business, dimension set): calls, or an outcome."""

    calls: Mapping[tuple[str, str], tuple[PlannedCall, ...]]
    settled: Mapping[tuple[str, str], ComboOutcome]


def recoverable_days(now: datetime) -> list[date]:
    """The days that a pair of replies made now can give back, oldest first."""
    return [utc_day_of(now) - timedelta(days=back) for back in range(MAX_DAYS, 1, -1)]


def derivable_pairs(
    day: date, replies: Iterable[Reply]
) -> dict[tuple[str, str], DerivablePair[Reply]]:
    """The pair that stands for each (business, dimension set) of a day without a reply of its own.

    `replies` are those stored under the day and under the day after it. Of several pairs one that
    was not cut goes first, then the one whose window lies closest to the day itself.
    """
    replies = list(replies)
    of_day = [reply for reply in replies if reply.day == day]
    record = exports_of_record(of_day)
    shorter: dict[tuple[str, str, int], list[Reply]] = {}
    for reply in replies:
        if reply.day == day + timedelta(days=1) and reply.verdict is Verdict.ACCEPTED:
            key = (reply.business_id, reply.dimension_set, reply.num_of_days)
            shorter.setdefault(key, []).append(reply)
    pairs: dict[tuple[str, str], DerivablePair[Reply]] = {}
    for minuend in of_day:
        key = (minuend.business_id, minuend.dimension_set)
        if minuend.verdict is not Verdict.ACCEPTED or key in record:
            continue
        found = [
            DerivablePair(minuend, subtrahend)
            for subtrahend in shorter.get((*key, minuend.num_of_days - 1), ())
        ]
        if key in pairs:
            found.append(pairs[key])
        close = [pair for pair in found if pair.apart <= PAIR_WITHIN]
        if close:
            pairs[key] = min(close, key=lambda pair: _rank(day, pair))
    return pairs


def plan_recovery(
    *,
    missed: Collection[MissedCombo],
    replies: Iterable[ReplyOfDay],
    free_calls: Mapping[str, int],
    now: datetime,
) -> RecoveryPlan:
    """Decide which missed combos are recovered with the calls that are free, by project.

    The most valuable combo of every business goes first, and of one combo the oldest day, which
    can be had for the last time. A combo is planned with all calls that its pair still lacks or not
    at all: half a pair is a call for nothing. `replies` are those of the missed days and of the
    days after; whatever of them was asked for just now is half a pair already.
    """
    landed = {
        (reply.business_id, reply.dimension_set, reply.day, reply.num_of_days)
        for reply in replies
        if reply.verdict is Verdict.ACCEPTED and _is_fresh(reply, now=now)
    }
    planned: set[PlannedCall] = set()
    left = dict(free_calls)
    recovered: list[RecoveredCombo] = []
    unaffordable: list[MissedCombo] = []
    for combo in sorted(missed, key=_value):
        lacking = [
            call
            for call in _pair_of_calls(combo, now=now)
            if (call.business_id, call.combo.dimension_set, call.day, call.num_of_days)
            not in landed
        ]
        cost = len(set(lacking) - planned)
        if cost > left.get(combo.project_id, 0):
            unaffordable.append(combo)
            continue
        left[combo.project_id] = left.get(combo.project_id, 0) - cost
        planned.update(lacking)
        recovered.append(RecoveredCombo(combo, tuple(lacking)))
    return RecoveryPlan(tuple(recovered), tuple(unaffordable))


def standing_of(
    day: date, *, wanted: Iterable[MissedCombo], replies: Iterable[Reply], now: datetime
) -> Standing[Reply]:
    """Which of the combos that a day should have are missed, and what has become of the others.

    `replies` are those stored under the day and under the day after it. A combo of which a reply
    over 24 hours was accepted is in none of the three.
    """
    replies = list(replies)
    record = exports_of_record(reply for reply in replies if reply.day == day)
    derivable = frozenset(derivable_pairs(day, replies))
    refused: dict[tuple[str, str], Reply] = {}
    for reply in replies:
        is_of_use = reply.day == day or utc_day_of(reply.requested_at) == utc_day_of(now)
        if reply.verdict not in {None, Verdict.ACCEPTED} and is_of_use:
            refused.setdefault((reply.business_id, reply.dimension_set), reply)
    missed: list[MissedCombo] = []
    for combo in wanted:
        key = (combo.business_id, combo.combo.dimension_set)
        if not (key in record or key in derivable or key in refused):
            missed.append(combo)
    return Standing(derivable, refused, tuple(missed))


def recovery_of(
    day: date, *, standing: Standing[Reply], plan: RecoveryPlan, now: datetime
) -> DayRecovery:
    """What a plan and what stands already mean for the gaps of one day."""
    settled: dict[tuple[str, str], ComboOutcome] = {
        key: ComboOutcome(*key, ComboStatus.RECOVERED) for key in standing.derivable
    }
    for key, reply in standing.refused.items():
        settled.setdefault(
            key,
            ComboOutcome(
                *key, ComboStatus.REFUSED, error_code=str(reply.verdict), message=reply.detail
            ),
        )
    for combo in plan.unaffordable:
        if combo.day == day:
            key = (combo.business_id, combo.combo.dimension_set)
            settled[key] = _too_dear(combo, now=now)
    calls = {
        (combo.missed.business_id, combo.missed.combo.dimension_set): combo.calls
        for combo in plan.recovered
        if combo.missed.day == day
    }
    return DayRecovery(calls=calls, settled=settled)


def recover_gaps(plan: BusinessPlan, recovery: DayRecovery) -> BusinessPlan:
    """A business-day in which what can be recovered, or has been, is a gap no more."""
    to_fetch, settled = list(plan.to_fetch), list[ComboOutcome]()
    for outcome in plan.settled:
        key = (outcome.business_id, outcome.dimension_set)
        if outcome.status is not ComboStatus.GAP:
            settled.append(outcome)
        elif key in recovery.calls:
            to_fetch.extend(recovery.calls[key])
        else:
            settled.append(recovery.settled.get(key, outcome))
    return BusinessPlan(plan.business_id, tuple(to_fetch), tuple(settled))


def outcome_of_pair(
    missed: tuple[str, str], outcomes: Sequence[ComboOutcome], *, stands: bool
) -> ComboOutcome:
    """One outcome for a (business, dimension set) out of those of the calls for its pair.

    `stands` says whether the two replies, with what had landed before, are a pair now.
    """
    spent = sum(outcome.calls for outcome in outcomes)
    if stands:
        return ComboOutcome(*missed, ComboStatus.RECOVERED, calls=spent)
    for outcome in outcomes:
        if not outcome.status.has_data:
            return replace(outcome, calls=spent)
    return ComboOutcome(
        *missed,
        ComboStatus.GAP,
        calls=spent,
        error_code=NoLongerCollectable.code,
        message=(
            "The day could not be recovered: its two replies were not asked for within "
            f"{PAIR_WITHIN // timedelta(minutes=1)} minutes of each other. Sync it again."
        ),
    )


def _too_dear(combo: MissedCombo, *, now: datetime) -> ComboOutcome:
    today = utc_day_of(now)
    is_last_chance = combo.day == recoverable_days(now)[0]
    until_when = (
        "when it will be too late" if is_last_chance else "when it can be tried for the last time"
    )
    refusal = QuotaRefused(
        f"{combo.day} was missed and can be recovered, but project {combo.project_id} has too few "
        f"free calls left for it; they come back at {resets_at(today):%Y-%m-%d %H:%M} UTC, "
        f"{until_when}.",
        resets_at=resets_at(today),
    )
    return ComboOutcome(
        combo.business_id,
        combo.combo.dimension_set,
        ComboStatus.QUOTA_REFUSED,
        error_code=refusal.code,
        message=str(refusal),
    )


def _pair_of_calls(missed: MissedCombo, *, now: datetime) -> tuple[PlannedCall, PlannedCall]:
    days_back = (utc_day_of(now) - missed.day).days
    assert 2 <= days_back <= MAX_DAYS
    longer, shorter = (
        PlannedCall(
            business_id=missed.business_id,
            project_id=missed.project_id,
            day=missed.day + timedelta(days=days_back - num_of_days),
            combo=missed.combo,
            purpose=Purpose.RECOVERY,
            num_of_days=num_of_days,
            answered_since=_fresh_since(now),
        )
        for num_of_days in (days_back, days_back - 1)
    )
    return longer, shorter


def _is_fresh(reply: ReplyOfDay, *, now: datetime) -> bool:
    return _fresh_since(now) <= reply.requested_at <= now


def _fresh_since(now: datetime) -> datetime:
    """A reply asked for since then can be half of a pair whose other half is planned now."""
    return now - (PAIR_WITHIN - SENT_WITHIN)


_VALUE_OF_COMBO: Final = {combo: rank for rank, combo in enumerate(COMBO_BY_DIMENSION_SET.values())}


def _value(missed: MissedCombo) -> tuple[int, date, str]:
    return _VALUE_OF_COMBO[missed.combo], missed.day, missed.business_id


def _rank(day: date, pair: DerivablePair[Reply]) -> tuple[bool, float, timedelta, int, int]:
    return (
        bool(pair.minuend.truncated or pair.subtrahend.truncated),
        abs(window_shift_hours(day, window_end=pair.window_end)),
        pair.apart,
        pair.minuend.id,
        pair.subtrahend.id,
    )
