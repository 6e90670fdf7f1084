"""A rule over stored history, day by day, with Clarity's days as they were known then.

Nothing is looked at before it could have been: a day of Clarity counts from the evaluation on that
its reply had landed for, and a change of a page from the day of the change on. The numbers of ads,
what entities are, and whether Clarity is connected have no such history, and are taken as they are
stored now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from clarity_pipeline.domain.days import days_between
from clarity_pipeline.domain.rules.actions import ON_ADS, cool_down
from clarity_pipeline.domain.rules.decisions import Reason, Truth
from clarity_pipeline.domain.rules.evaluate import (
    REASONS,
    Evaluation,
    Truths,
    evaluate,
    history_wanted,
    select,
)
from clarity_pipeline.domain.rules.history import (
    Booleans,
    DailySeries,
    Entities,
    Integers,
    Source,
)
from clarity_pipeline.domain.rules.model import Level, Pause, Rule, conditions_of

QUICK_CHANGE_DAYS: Final = 3
"""An answer that turns again within so many days flaps: nobody acts on an ad that fast by hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LateDay:
    """A business's day of Clarity that landed later than on the day after it.

    `known_as_of` is the first day as of which a rule could count on it.
    """

    business_id: str
    day: date
    known_as_of: date


def known_as_of(landed_at: datetime) -> date:
    """The first day as of which a reply counts: that before it landed (UTC).

    Rules are evaluated as of a day on the day after it, and again whenever more has landed.
    """
    return landed_at.astimezone(UTC).date() - timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a rule would have answered, of every day and entity.

    `truth` has a row per day from `start` on and an element per entity in it. `reasons` counts for
    every day why answers were unknown. `history_begins` has, by source that the rule reads, the
    first day of which anything is stored; None where nothing is.
    """

    rule: Rule
    start: date
    entity_ids: Sequence[str]
    entity_names: Sequence[str]
    business_ids: Sequence[str]
    truth: Truths
    reasons: tuple[Mapping[Reason, int], ...]
    history_begins: Mapping[Source, date | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestDay:
    """How many entities a rule would have fired for as of a day, and why not for others.

    `actions` are the entities that it would have acted on, or told of where it does nothing else,
    but for those in their cool-down and those that it has paused and that were not known to be fine
    since. `trips_breaker` says that a rule about ads would have been switched off for acting on so
    many. Without `has_history` nothing that the rule reads is stored of that day or an earlier one.
    """

    day: date
    fired: int
    not_fired: int
    unknown: int
    reasons: Mapping[Reason, int]
    actions: int
    trips_breaker: bool
    has_history: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """Days on which a rule fired for an entity, until it was known not to.

    Unknown days in between do not end it, and are not among `days_fired`. One that is not over
    lasted to the end of the backtest, as far as is known.
    """

    first_day: date
    last_day: date
    days_fired: int
    is_over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestEntity:
    """An entity that a rule would have fired for.

    `changes` counts the days on which the known answer was not the one known before, and
    `quick_changes` those of them that came at most QUICK_CHANGE_DAYS after the one before.
    """

    entity_id: str
    entity_name: str
    business_id: str | None
    days_fired: int
    days_unknown: int
    episodes: tuple[Episode, ...]
    changes: int
    quick_changes: int
    actions: int

    @property
    def flaps(self) -> bool:
        return self.quick_changes > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """What a rule would have done from `start` to `end`, both included (UTC).

    `entities` is how many it looked at; `fired` are those that it fired for, on most days first.
    `notes` are sentences that whoever reads the numbers has to know.
    """

    rule_name: str
    level: Level
    start: date
    end: date
    entities: int
    days: tuple[BacktestDay, ...]
    fired: tuple[BacktestEntity, ...]
    history_begins: Mapping[Source, date | None]
    notes: tuple[str, ...]

    @property
    def days_fired(self) -> int:
        """How many days it fired on, for whatever entity."""
        return sum(each.fired > 0 for each in self.days)

    @property
    def actions(self) -> int:
        return sum(each.actions for each in self.days)

    @property
    def flapping(self) -> int:
        """How many entities its answer came and went for within days."""
        return sum(each.flaps for each in self.fired)

    @property
    def reasons(self) -> Mapping[Reason, int]:
        """Why answers were unknown, over all days and entities, the most frequent first."""
        return _summed(each.reasons for each in self.days)

    def chart(self) -> dict[str, list[date] | list[int]]:
        """A list per line of a chart, with an element per day."""
        return {
            "days": [each.day for each in self.days],
            "fired": [each.fired for each in self.days],
            "not_fired": [each.not_fired for each in self.days],
            "unknown": [each.unknown for each in self.days],
            "actions": [each.actions for each in self.days],
        }


def history_to_read(rule: Rule, *, start: date) -> date:
    """The first day that has to be read to evaluate a rule as of `start`, or any day after it."""
    return min(each.first_day for each in history_wanted([rule], as_of=start).values())


def replay(
    rule: Rule,
    *,
    entities: Entities,
    series: Mapping[Source, DailySeries],
    start: date,
    end: date,
    late_days: Mapping[Source, Collection[LateDay]],
) -> Replay:
    """Evaluate a rule as of every day from `start` to `end`, each as it was known then.

    What a condition with a `leave` was before is carried from day to day, and nothing was true
    before `start`. `series` reach from `history_to_read` to `end`. Raises InvalidDay when `start`
    is after `end`.
    """
    days = days_between(start, end)
    rows = select(rule, entities)
    chosen = entities.take(rows)
    history = {
        source: _HistoryInTime(
            _take_series(series[source], rows),
            business_ids=chosen.business_ids,
            late_days=late_days.get(source, ()),
        )
        for source in history_wanted([rule], as_of=end)
        if source in series
    }
    truth = np.empty((len(days), len(rows)), np.int8)
    reasons: list[Mapping[Reason, int]] = []
    was_true: Mapping[str, Booleans] = {}
    for number, day in enumerate(days):
        evaluation = evaluate(
            rule,
            entities=_known_then(chosen, day),
            series={source: each.known_then(day) for source, each in history.items()},
            as_of=day,
            was_true=was_true,
        )
        truth[number] = evaluation.truth
        reasons.append(_reasons(evaluation))
        was_true = evaluation.true_when_last_known(was_true)
    return Replay(
        rule=rule,
        start=start,
        entity_ids=chosen.ids,
        entity_names=chosen.names,
        business_ids=[str(business_id) for business_id in chosen.business_ids],
        truth=truth,
        reasons=tuple(reasons),
        history_begins={
            source: history[source].begins if source in history else None
            for source in history_wanted([rule], as_of=end)
        },
    )


def joined(replays: Sequence[Replay]) -> Replay:
    """Replays of one rule over the same days, of other entities each, as one."""
    first = replays[0]
    return replace(
        first,
        entity_ids=[id_ for each in replays for id_ in each.entity_ids],
        entity_names=[name for each in replays for name in each.entity_names],
        business_ids=[business for each in replays for business in each.business_ids],
        truth=np.concatenate([each.truth for each in replays], axis=1),
        reasons=tuple(
            _summed(of_day) for of_day in zip(*(each.reasons for each in replays), strict=True)
        ),
        history_begins={
            source: min(
                (day for each in replays if (day := each.history_begins[source]) is not None),
                default=None,
            )
            for source in first.history_begins
        },
    )


def summarise(replayed: Replay) -> Backtest:
    """The numbers and episodes of a replay."""
    rule, truth = replayed.rule, replayed.truth
    count, entities = truth.shape
    days = [replayed.start + timedelta(days=number) for number in range(count)]
    acts = _acts(rule, truth)
    trips = _trips_breaker(rule, acts, business_ids=replayed.business_ids)
    begins = [day for day in replayed.history_begins.values() if day is not None]
    per_day = [
        BacktestDay(
            day=day,
            fired=int((truth[number] == Truth.TRUE).sum()),
            not_fired=int((truth[number] == Truth.FALSE).sum()),
            unknown=int((truth[number] == Truth.UNKNOWN).sum()),
            reasons=replayed.reasons[number],
            actions=int(acts[number].sum()),
            trips_breaker=bool(trips[number]),
            has_history=any(begin <= day for begin in begins),
        )
        for number, day in enumerate(days)
    ]
    fired = [
        _entity(replayed, int(place), days=days, actions=int(acts[:, place].sum()))
        for place in np.flatnonzero((truth == Truth.TRUE).any(axis=0))
    ]
    return Backtest(
        rule_name=rule.name,
        level=rule.level,
        start=days[0],
        end=days[-1],
        entities=entities,
        days=tuple(per_day),
        fired=tuple(sorted(fired, key=lambda each: (-each.days_fired, each.entity_id))),
        history_begins=replayed.history_begins,
        notes=tuple(_notes(replayed, days)),
    )


def _reasons(evaluation: Evaluation) -> dict[Reason, int]:
    of_unknown = evaluation.deciding_reasons[evaluation.truth == Truth.UNKNOWN]
    counts = np.bincount(of_unknown, minlength=len(REASONS)).tolist()
    return {
        reason: count
        for reason, count in zip(REASONS, counts, strict=True)
        if reason is not None and count
    }


def _summed(counts: Iterable[Mapping[Reason, int]]) -> Mapping[Reason, int]:
    total = Counter[Reason]()
    for each in counts:
        total.update(each)
    return dict(total.most_common())


class _HistoryInTime:
    """Daily series in which late days appear when they were known."""

    def __init__(
        self,
        series: DailySeries,
        *,
        business_ids: NDArray[np.str_],
        late_days: Collection[LateDay],
    ) -> None:
        is_stored = series.has_data.any(axis=0)
        self.begins = (
            series.first_day + timedelta(days=int(is_stored.argmax())) if is_stored.any() else None
        )
        has_data = series.has_data.copy(order="K")
        self._series = replace(series, has_data=has_data)
        self._appearing: list[tuple[date, Integers, int]] = []
        rows_of = _rows_by_business(series, business_ids)
        # The last first: of several replies that a day is made of, the last to land counts.
        for late in sorted(late_days, key=lambda late: late.known_as_of, reverse=True):
            rows, column = rows_of.get(late.business_id), (late.day - series.first_day).days
            if rows is None or not 0 <= column < has_data.shape[1]:
                continue
            # What is not there cannot appear.
            rows = rows[has_data[rows, column]]
            has_data[rows, column] = False
            self._appearing.append((late.known_as_of, rows, column))

    def known_then(self, as_of: date) -> DailySeries:
        """What was known as of a day; days are asked for in order. Valid until the next is."""
        while self._appearing and self._appearing[-1][0] <= as_of:
            _, rows, column = self._appearing.pop()
            self._series.has_data[rows, column] = True
        return self._series


def _rows_by_business(
    series: DailySeries, business_ids: NDArray[np.str_]
) -> Mapping[str, Integers]:
    rows: dict[str, set[int]] = {}
    for business_id, row in zip(business_ids.tolist(), series.row_of_entity.tolist(), strict=False):
        if row >= 0:
            rows.setdefault(business_id, set()).add(row)
    return {business: np.array(sorted(found), np.int64) for business, found in rows.items()}


def _known_then(entities: Entities, as_of: date) -> Entities:
    is_known = entities.changed_on <= as_of.toordinal()
    return replace(entities, changed_on=np.where(is_known, entities.changed_on, 0))


def _take_series(series: DailySeries, rows: NDArray[np.intp]) -> DailySeries:
    if not len(series.row_of_entity):
        return series
    return replace(series, row_of_entity=series.row_of_entity[rows])


def _acts(rule: Rule, truth: Truths) -> Booleans:
    """Where an entity would have been acted on, in the same shape."""
    days_apart = max(-(-cool_down(rule.limits) // timedelta(days=1)), 1)
    pauses = any(isinstance(action, Pause) for action in rule.actions)
    acts = np.zeros(truth.shape, np.bool_)
    free_from = np.zeros(truth.shape[1], np.int64)
    is_paused = np.zeros(truth.shape[1], np.bool_)
    for number, answers in enumerate(truth):
        is_paused &= answers != Truth.FALSE
        acts[number] = (answers == Truth.TRUE) & (free_from <= number) & ~is_paused
        free_from[acts[number]] = number + days_apart
        is_paused |= acts[number] & pauses
    return acts


def _trips_breaker(rule: Rule, acts: Booleans, *, business_ids: Sequence[str]) -> Booleans:
    """The days on which too many entities of a business, or of all, would have been acted on."""
    if not any(action.kind in ON_ADS for action in rule.actions):
        return np.zeros(len(acts), np.bool_)
    _, business = np.unique(np.array(business_ids, np.str_), return_inverse=True)
    looked_at = np.bincount(business)

    def is_too_many(acted: Any, of: Any) -> Any:
        limits = rule.limits
        return (acted >= limits.breaker_min_entities) & (acted > limits.breaker_share * of)

    return np.array(
        [
            is_too_many(np.bincount(business[each], minlength=len(looked_at)), looked_at).any()
            or is_too_many(each.sum(), looked_at.sum())
            for each in acts
        ],
        np.bool_,
    )


def _entity(replayed: Replay, place: int, *, days: Sequence[date], actions: int) -> BacktestEntity:
    answers = replayed.truth[:, place]
    known = np.flatnonzero(answers != Truth.UNKNOWN)
    is_true = answers[known] == Truth.TRUE
    changes = np.flatnonzero(is_true[1:] != is_true[:-1]) + 1
    return BacktestEntity(
        entity_id=replayed.entity_ids[place],
        entity_name=replayed.entity_names[place],
        business_id=replayed.business_ids[place] or None,
        days_fired=int(is_true.sum()),
        days_unknown=len(answers) - len(known),
        episodes=tuple(_episodes(known, is_true, changes, days)),
        changes=len(changes),
        quick_changes=int((np.diff(known[changes]) <= QUICK_CHANGE_DAYS).sum()),
        actions=actions,
    )


def _episodes(
    known: NDArray[np.intp], is_true: Booleans, changes: NDArray[np.intp], days: Sequence[date]
) -> Iterator[Episode]:
    edges = [0, *changes.tolist(), len(known)]
    for first, after in pairwise(edges):
        if is_true[first]:
            yield Episode(
                first_day=days[int(known[first])],
                last_day=days[int(known[after - 1])],
                days_fired=after - first,
                is_over=after < len(known),
            )


_SOURCES: Final[Mapping[Source, str]] = {
    Source.BUSINESS: "Clarity's days of businesses",
    Source.LANDING_PAGE: "Clarity's days of landing pages",
    Source.ADS: "the numbers of ads",
}


def _notes(replayed: Replay, days: Sequence[date]) -> Iterator[str]:
    for source, begins in replayed.history_begins.items():
        what = _SOURCES[source]
        if begins is None:
            yield f"Of {what} nothing is stored, so whatever stands on them is unknown."
            continue
        before = [day for day in days if day < begins]
        if before:
            yield (
                f"{what[0].upper()}{what[1:]} begin on {begins}; of "
                f"{before[0]} to {before[-1]} there is no history."
            )
        short = [
            day
            for day in days
            if begins <= day
            and history_wanted([replayed.rule], as_of=day)[source].first_day < begins
        ]
        if short:
            yield (
                f"As of {short[0]} to {short[-1]} the rule looks back further than {what}, which "
                f"begin on {begins}."
            )
    yield (
        "A day of Clarity counts from when its reply had landed; numbers of ads, entities and "
        "connections are taken as they are stored now."
    )
    rule = replayed.rule
    if any(rule.has_leave(condition) for _, condition in conditions_of(rule.conditions)):
        yield "Before the first day nothing was held, as with a rule that is armed on that day."
