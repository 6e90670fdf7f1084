"""Rules against history, for many entities at once.

Nothing here acts, and nothing here knows today: `as_of` is the latest day that is over, and no day
after it is looked at, so that yesterday's decision can be made again in a year. An entity's
answer does not depend on which others are evaluated beside it, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from clarity_pipeline.domain.rules.decisions import Decision, Finding, Reason, Truth
from clarity_pipeline.domain.rules.history import (
    Booleans,
    DailySeries,
    Entities,
    Floats,
    Integers,
    Source,
)
from clarity_pipeline.domain.rules.metrics import Metric
from clarity_pipeline.domain.rules.model import (
    COMPARATORS,
    CONFIDENCE_Z,
    MIN_BASELINE_VALUES,
    RISING,
    AllOf,
    Comparison,
    Condition,
    EntityStatus,
    FixedRange,
    LastDays,
    Measure,
    Node,
    NotOf,
    Rule,
    SinceChange,
    Yesterday,
    conditions_of,
)
from clarity_pipeline.domain.rules.windows import (
    Reading,
    Span,
    read_spread,
    read_window,
    wilson_bound,
)

Truths = NDArray[np.int8]
"""Values of Truth."""

REASONS: Final[tuple[Reason | None, ...]] = (None, *Reason)
"""Reasons by their code in Evidence."""

_CODE: Final[Mapping[Reason, int]] = {
    reason: code for code, reason in enumerate(REASONS) if reason is not None
}

_NO_HISTORY: Final = DailySeries(
    first_day=date(2000, 1, 1),
    has_data=np.zeros((0, 0), np.bool_),
    values={},
    row_of_entity=np.zeros(0, np.int64),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A condition's answers and numbers, a column each and an element per evaluated entity.

    `reason` has codes, 0 for none; days are ordinals, 0 for none; other fields as in Finding, NaN
    for what is not there.
    """

    path: str
    condition: Condition
    truth: Truths
    reason: NDArray[np.uint8]
    measured: Floats
    value: Floats
    numerator: Floats
    denominator: Floats
    sessions: Floats
    days_with_data: Integers
    days_in_window: Integers
    window_start: Integers
    window_end: Integers
    last_day: Integers
    threshold: Floats
    comparison_value: Floats
    spread: Floats
    is_held: Booleans
    consecutive_days: Integers

    def finding(self, index: int, *, condition: Condition) -> Finding:
        """The evidence about one entity; `condition` is the one with its business's thresholds."""
        has_days = bool(self.days_in_window[index])
        sessions = _number(self.sessions[index])
        threshold = _number(self.threshold[index])
        assert threshold is not None, "thresholds are finite"
        return Finding(
            path=self.path,
            condition=condition,
            truth=Truth(int(self.truth[index])),
            reason=REASONS[int(self.reason[index])],
            measured=_number(self.measured[index]),
            value=_number(self.value[index]),
            numerator=_number(self.numerator[index]),
            denominator=_number(self.denominator[index]),
            sessions=None if sessions is None else round(sessions),
            days_with_data=int(self.days_with_data[index]),
            days_in_window=int(self.days_in_window[index]),
            window_start=_day(self.window_start[index]) if has_days else None,
            window_end=_day(self.window_end[index]) if has_days else None,
            last_day=_day(self.last_day[index]),
            threshold=threshold,
            comparison_value=_number(self.comparison_value[index]),
            spread=_number(self.spread[index]),
            is_held=bool(self.is_held[index]),
            consecutive_days=int(self.consecutive_days[index]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A rule's answers about the entities that it is about.

    `rows` are their places among `entities`; all other arrays have an element for each of them.
    `decided_by` is the number of a condition in `evidence`.
    """

    rule: Rule
    as_of: date
    entities: Entities
    rows: NDArray[np.intp]
    truth: Truths
    decided_by: NDArray[np.int16]
    evidence: tuple[Evidence, ...]

    @property
    def fires(self) -> Booleans:
        return self.truth == Truth.TRUE

    @property
    def deciding_reasons(self) -> NDArray[np.uint8]:
        """Codes of why the condition that settled it is unknown, 0 where it is known."""
        reasons = np.stack([each.reason for each in self.evidence])
        return reasons[self.decided_by, np.arange(len(self.rows))]

    def true_when_last_known(
        self, before: Mapping[str, Booleans] | None = None
    ) -> dict[str, Booleans]:
        """What the next evaluation of the same entities takes for `was_true`.

        A condition that is unknown today stays as it was; so does one of an entity that the rule
        is not about today.
        """
        known: dict[str, Booleans] = {}
        for each in self.evidence:
            column = np.array((before or {}).get(each.path, np.zeros(len(self.entities), np.bool_)))
            is_known = each.truth != Truth.UNKNOWN
            column[self.rows[is_known]] = each.truth[is_known] == Truth.TRUE
            known[each.path] = column
        return known

    def decision(self, index: int) -> Decision:
        """The decision about the entity at `rows[index]`, with all its evidence."""
        row = int(self.rows[index])
        return Decision(
            rule_name=self.rule.name,
            entity_id=self.entities.ids[row],
            entity_name=self.entities.names[row],
            business_id=str(self.entities.business_ids[row]) or None,
            level=self.rule.level,
            as_of=self.as_of,
            truth=Truth(int(self.truth[index])),
            decided_by=self.evidence[int(self.decided_by[index])].path,
            findings=findings(
                self.rule,
                self.evidence,
                index,
                business_id=str(self.entities.business_ids[row]),
            ),
        )

    def decisions(self) -> Iterator[Decision]:
        """All of them, in the order of the entities."""
        return (self.decision(index) for index in range(len(self.rows)))


@dataclass(frozen=True, slots=True)
class HistoryWanted:
    """What has to be read of one source: these series, from this day to the day of evaluation."""

    first_day: date
    series: frozenset[str]


def history_wanted(rules: Sequence[Rule], *, as_of: date) -> Mapping[Source, HistoryWanted]:
    """What has to be read for these rules, by source; a source that is absent is not needed."""
    wanted: dict[Source, HistoryWanted] = {}
    for rule in rules:
        for _, condition in conditions_of(rule.conditions):
            source = source_of(rule, condition)
            before = wanted.get(source, HistoryWanted(as_of, frozenset()))
            wanted[source] = HistoryWanted(
                min(before.first_day, _first_day_read(condition, as_of)),
                before.series | set(condition.of.series),
            )
    return wanted


def source_of(rule: Rule, condition: Condition) -> Source:
    """Whose days a condition of this rule reads."""
    measured_on = rule.measured_on(condition)
    return Source.ADS if measured_on is None else Source(measured_on.value)


def condition_of(rule: Rule, condition: Condition, *, business_id: str) -> Condition:
    """The condition with the thresholds that the rule has for this business."""
    override = rule.override_of(condition, business_id=business_id)
    return condition if override is None else condition.with_values(override)


def findings(
    rule: Rule, evidence: Sequence[Evidence], index: int, *, business_id: str
) -> tuple[Finding, ...]:
    """What every condition of a rule found about one entity; no business is ""."""
    return tuple(
        each.finding(index, condition=condition_of(rule, each.condition, business_id=business_id))
        for each in evidence
    )


def select(rule: Rule, entities: Entities) -> NDArray[np.intp]:
    """The places of the entities that a rule is about. Deleted ones never are."""
    chosen = (entities.levels == rule.level.value) & np.isin(
        entities.statuses, [EntityStatus(status).value for status in rule.filters.statuses]
    )
    if rule.businesses is not None:
        chosen &= np.isin(entities.business_ids, rule.businesses)
    rows = np.flatnonzero(chosen)
    filters = rule.filters
    if filters.ids is not None:
        ids = set(filters.ids)
        rows = _keep(rows, entities.ids, lambda id_: id_ in ids)
    for text, values, is_wanted in (
        (filters.name_contains, entities.names, True),
        (filters.name_lacks, entities.names, False),
        (filters.landing_page_contains, entities.landing_pages, True),
    ):
        if text is not None:
            rows = _keep(rows, values, _contains(text, is_wanted=is_wanted))
    return rows


def evaluate(
    rule: Rule,
    *,
    entities: Entities,
    series: Mapping[Source, DailySeries],
    as_of: date,
    was_true: Mapping[str, Booleans] | None = None,
) -> Evaluation:
    """What the rule says about every entity that it is about, as of a day.

    `was_true` says by path of a condition, with an element for each of `entities`, where it was
    true when it was last known; conditions with a `leave` need it. A source that is absent from
    `series` has no data.
    """
    rows = select(rule, entities)
    evidence: list[Evidence] = []
    for path, condition in conditions_of(rule.conditions):
        source = source_of(rule, condition)
        held = (was_true or {}).get(path)
        evaluated = _ConditionEvaluation(
            rule=rule,
            condition=condition,
            source=source,
            entities=entities,
            rows=rows,
            series=series.get(source, _NO_HISTORY),
            as_of=as_of.toordinal(),
            is_held=np.zeros(len(rows), np.bool_) if held is None else held[rows],
        )
        evidence.append(evaluated.evidence(path))
    truth, decided_by = _combine(rule.conditions, iter(range(len(evidence))), evidence)
    return Evaluation(
        rule=rule,
        as_of=as_of,
        entities=entities,
        rows=rows,
        truth=truth,
        decided_by=decided_by,
        evidence=tuple(evidence),
    )


def _combine(
    node: Node, numbers: Iterator[int], evidence: Sequence[Evidence]
) -> tuple[Truths, NDArray[np.int16]]:
    """A tree's answers, and the number of the condition that settled each of them."""
    if isinstance(node, Condition):
        number = next(numbers)
        truth = evidence[number].truth
        return truth, np.full(len(truth), number, np.int16)
    if isinstance(node, NotOf):
        truth, decided_by = _combine(node.node, numbers, evidence)
        return _OPPOSITE[truth], decided_by
    children = [_combine(child, numbers, evidence) for child in node.nodes]
    combined = _all_of if isinstance(node, AllOf) else _any_of
    truth = combined([child for child, _ in children])
    decided_by = children[-1][1]
    for child, decided in reversed(children):
        decided_by = np.where(child == truth, decided, decided_by)
    return truth, decided_by


_OPPOSITE: Final[Truths] = np.array([Truth.TRUE, Truth.FALSE, Truth.UNKNOWN], np.int8)


def _all_of(truths: Sequence[Truths]) -> Truths:
    is_false = np.any([truth == Truth.FALSE for truth in truths], axis=0)
    is_unknown = np.any([truth == Truth.UNKNOWN for truth in truths], axis=0)
    settled = np.where(is_unknown, np.int8(Truth.UNKNOWN), np.int8(Truth.TRUE))
    return np.where(is_false, np.int8(Truth.FALSE), settled)


def _any_of(truths: Sequence[Truths]) -> Truths:
    return _OPPOSITE[_all_of([_OPPOSITE[truth] for truth in truths])]


class _Reasons:
    """Why entities are unknown; the first reason that is found stays."""

    def __init__(self, count: int) -> None:
        self.codes = np.zeros(count, np.uint8)

    def add(self, reason: Reason, where: Booleans | np.bool_) -> None:
        self.codes = np.where(self.none & where, np.uint8(_CODE[reason]), self.codes)

    def copy(self) -> _Reasons:
        same = _Reasons(0)
        same.codes = self.codes
        return same

    @property
    def none(self) -> Booleans:
        return self.codes == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measurement:
    """A condition's number as of one day, and how it came about."""

    span: Span
    reading: Reading
    measured: Floats
    comparison_value: Floats
    spread: Floats
    reasons: _Reasons


@dataclass(frozen=True, slots=True, kw_only=True)
class _ConditionEvaluation:
    rule: Rule
    condition: Condition
    source: Source
    entities: Entities
    rows: NDArray[np.intp]
    series: DailySeries
    as_of: int
    is_held: Booleans

    def evidence(self, path: str) -> Evidence:
        condition, count = self.condition, len(self.rows)
        gates = self._gates()
        latest = self._measure(self.as_of, gates)
        values, tos, leaves = self._thresholds()
        is_held = self.is_held & ~np.isnan(leaves)
        threshold = np.where(is_held, leaves, values)
        truth = self._truth(latest, threshold, tos)
        reason = latest.reasons.codes
        run = (truth == Truth.TRUE).astype(np.int64)
        for back in range(1, condition.consecutive_days):
            # What holds ends with its latest day, whatever the days before it were.
            is_open = ~is_held & (truth != Truth.FALSE)
            if not is_open.any():
                break
            earlier = self._measure(self.as_of - back, gates)
            its_truth = self._truth(earlier, values, tos)
            run += is_open & (its_truth == Truth.TRUE) & (run == back)
            reason = np.where(is_open & (reason == 0), earlier.reasons.codes, reason)
            truth = np.where(is_open, _all_of([truth, its_truth]), truth)
        reason = np.where(truth == Truth.UNKNOWN, reason, 0).astype(np.uint8)
        reading = latest.reading
        return Evidence(
            path=path,
            condition=condition,
            truth=truth,
            reason=reason,
            measured=_shown(latest.measured, latest),
            value=_finite(reading.value),
            numerator=_finite(reading.numerator),
            denominator=_finite(reading.denominator),
            sessions=_finite(reading.sessions)
            if condition.of.sample is not None
            else np.full(count, np.nan),
            days_with_data=reading.days_with_data,
            days_in_window=_spread_out(latest.span.days, count),
            window_start=_spread_out(latest.span.start, count),
            window_end=_spread_out(latest.span.end, count),
            last_day=reading.last_day,
            threshold=threshold,
            comparison_value=_shown(latest.comparison_value, latest),
            spread=_shown(latest.spread, latest),
            is_held=is_held,
            consecutive_days=run,
        )

    def _gates(self) -> _Reasons:
        """What makes a condition unknown whatever the numbers are."""
        reasons = _Reasons(len(self.rows))
        entities, rows = self.entities, self.rows
        reasons.add(Reason.NO_BUSINESS, entities.business_ids[rows] == "")
        if self.source is not Source.ADS:
            reasons.add(Reason.NOT_CONNECTED, ~entities.is_connected[rows])
            reasons.add(Reason.DISABLED, ~entities.is_enabled[rows])
        if self.source is Source.LANDING_PAGE:
            reasons.add(Reason.NO_LANDING_PAGE, ~entities.has_landing_page[rows])
        return reasons

    def _thresholds(self) -> tuple[Floats, Floats, Floats]:
        """`value`, `to` and `leave` for every entity, NaN for what the condition does not have."""
        businesses, place = np.unique(self.entities.business_ids[self.rows], return_inverse=True)
        conditions = [
            condition_of(self.rule, self.condition, business_id=str(business))
            for business in businesses
        ]

        def column(numbers: list[float | None]) -> Floats:
            filled = [np.nan if number is None else number for number in numbers]
            return np.array(filled, np.float64)[place]

        return (
            column([each.value for each in conditions]),
            column([each.to for each in conditions]),
            column([each.leave for each in conditions]),
        )

    def _truth(self, measurement: _Measurement, threshold: Floats, to: Floats) -> Truths:
        is_met = COMPARATORS[self.condition.operator](measurement.measured, threshold, to)
        return np.where(measurement.reasons.none, is_met, Truth.UNKNOWN).astype(np.int8)

    def _measure(self, as_of: int, gates: _Reasons) -> _Measurement:
        condition, reasons = self.condition, gates.copy()
        span = self._span(as_of, reasons)
        reading = self._read(span)
        self._judge(reading, span, reasons)
        nothing = np.full(len(self.rows), np.nan)
        measured, comparison_value, spread = reading.value, nothing, nothing
        if condition.confidence is not None:
            measured = wilson_bound(
                reading.numerator,
                reading.denominator,
                z=CONFIDENCE_Z[condition.confidence],
                is_upper=condition.operator not in RISING,
            )
        if condition.comparison is not None:
            measured, comparison_value, spread = self._compare(
                condition.comparison, reading, span, reasons
            )
        reasons.add(Reason.NOT_FINITE, ~np.isfinite(measured))
        return _Measurement(
            span=span,
            reading=reading,
            measured=measured,
            comparison_value=comparison_value,
            spread=spread,
            reasons=reasons,
        )

    def _span(self, as_of: int, reasons: _Reasons) -> Span:
        window = self.condition.window
        if isinstance(window, FixedRange):
            start, end = window.start.toordinal(), window.end.toordinal()
            reasons.add(Reason.WINDOW_NOT_OVER, np.bool_(end > as_of))
            # What is known of it by now is shown all the same, and nothing that came later.
            return Span(start, min(end, as_of))
        if isinstance(window, SinceChange):
            changed_on = self.entities.changed_on[self.rows]
            reasons.add(Reason.NO_CHANGE, changed_on == 0)
            reasons.add(Reason.CHANGE_TOO_RECENT, changed_on >= as_of)
            is_long_ago = as_of - changed_on > window.within_days
            reasons.add(Reason.CHANGE_TOO_LONG_AGO, is_long_ago)
            # No days where the window is not one: they are not to be read.
            start = np.where(is_long_ago, as_of, changed_on) + 1
            return Span(start, np.full(len(self.rows), as_of))
        days = window.days if isinstance(window, LastDays) else 1
        return Span(as_of - days + 1, as_of)

    def _read(self, span: Span) -> Reading:
        return read_window(self.series, self.condition.of, rows=self._series_rows(), span=span)

    def _series_rows(self) -> Integers:
        if not len(self.series.row_of_entity):
            return np.full(len(self.rows), -1, np.int64)
        return self.series.row_of_entity[self.rows]

    def _judge(self, reading: Reading, span: Span, reasons: _Reasons) -> None:
        condition = self.condition
        reasons.add(Reason.NO_DATA, reading.days_with_data == 0)
        if condition.max_age_days is not None:
            reasons.add(Reason.STALE, span.end - reading.last_day > condition.max_age_days)
        reasons.add(Reason.LOW_COVERAGE, self._is_thin(reading, span))
        self._judge_bases(reasons, reading)
        reasons.add(Reason.TOO_FEW_SESSIONS, self._is_small(reading))
        if condition.of.denominator is not None:
            reasons.add(Reason.DIVISION_BY_ZERO, ~(reading.denominator > 0))

    def _judge_bases(
        self, reasons: _Reasons, reading: Reading, earlier: Reading | None = None
    ) -> None:
        if self.source is not Source.ADS:
            reasons.add(Reason.MIXED_BASIS, reading.is_mixed(earlier))
        elif self.condition.of.is_money:
            reasons.add(Reason.MIXED_CURRENCIES, reading.is_mixed(earlier))

    def _is_thin(self, reading: Reading, span: Span) -> Booleans:
        if self.condition.min_coverage is None:
            return np.zeros(len(self.rows), np.bool_)
        days = np.maximum(span.days, 1)
        return reading.days_with_data / days < self.condition.min_coverage

    def _is_small(self, reading: Reading) -> Booleans:
        if self.condition.min_sessions is None:
            return np.zeros(len(self.rows), np.bool_)
        return reading.sessions < self.condition.min_sessions

    def _compare(
        self, comparison: Comparison, reading: Reading, span: Span, reasons: _Reasons
    ) -> tuple[Floats, Floats, Floats]:
        """The number that is held against the threshold, what it was compared with, the spread."""
        metric, before = self.condition.of, self._span_before(comparison, span)
        earlier = self._read(before)
        self._judge_bases(reasons, reading, earlier)
        reasons.add(
            Reason.NO_BASELINE,
            (earlier.days_with_data == 0)
            | self._is_thin(earlier, before)
            | self._is_small(earlier)
            | ((metric.denominator is not None) & ~(earlier.denominator > 0)),
        )
        with np.errstate(all="ignore"):
            if comparison.measure is Measure.Z_SCORE:
                spread = read_spread(self.series, metric, rows=self._series_rows(), span=before)
                reasons.add(Reason.NO_BASELINE, spread.days < MIN_BASELINE_VALUES)
                reasons.add(Reason.NO_VARIATION, spread.is_constant)
                per_day = reading.days_with_data if metric.denominator is None else 1
                score = (reading.value / per_day - spread.mean) / spread.deviation
                return score, spread.mean, spread.deviation
            expected = _expected(metric, reading, earlier)
            difference = reading.value - expected
            if comparison.measure is Measure.PERCENT:
                reasons.add(Reason.DIVISION_BY_ZERO, expected == 0)
                difference = difference / np.abs(expected) * 100
            return difference, expected, np.full(len(self.rows), np.nan)

    def _span_before(self, comparison: Comparison, span: Span) -> Span:
        # The day of a change belongs neither to what was before it nor to what came after.
        skipped = 1 if isinstance(self.condition.window, SinceChange) else 0
        end = span.start - 1 - skipped
        days = span.days if comparison.days is None else comparison.days
        return Span(end - days + 1, end)


def _expected(metric: Metric, reading: Reading, earlier: Reading) -> Floats:
    """What the window would have been had it been as before."""
    if metric.denominator is not None:
        return earlier.value
    is_alike = reading.days_with_data == earlier.days_with_data
    scaled = earlier.value / earlier.days_with_data * reading.days_with_data
    # Days for days, the sum itself: 3 / 7 * 7 need not be 3.
    return np.where(is_alike, earlier.value, scaled)


def _first_day_read(condition: Condition, as_of: date) -> date:
    window, comparison = condition.window, condition.comparison
    last = as_of.toordinal() - condition.consecutive_days + 1
    match window:
        case FixedRange():
            days, last = window.days, window.end.toordinal()
        case SinceChange():
            # The day of the change is skipped.
            days = window.within_days + 1
        case LastDays():
            days = window.days
        case Yesterday():
            days = 1
    first = last - days + 1
    if comparison is not None:
        first -= days if comparison.days is None else comparison.days
    return date.fromordinal(max(min(first, as_of.toordinal()), 1))


def _keep(
    rows: NDArray[np.intp], values: Sequence[str], is_wanted: Callable[[str], bool]
) -> NDArray[np.intp]:
    return np.array([row for row in rows if is_wanted(values[int(row)])], np.intp)


def _contains(text: str, *, is_wanted: bool) -> Callable[[str], bool]:
    folded = text.casefold()
    return lambda value: (folded in value.casefold()) == is_wanted


def _spread_out(values: int | Integers, count: int) -> Integers:
    return np.broadcast_to(np.asarray(values, np.int64), (count,))


def _finite(values: Floats) -> Floats:
    # NaNs have a sign, which differs from one operation to the next and means nothing.
    return np.where(np.isfinite(values), values, np.nan)


def _shown(values: Floats, measurement: _Measurement) -> Floats:
    """What was held against the threshold, and nothing where nothing was."""
    return _finite(np.where(measurement.reasons.none, values, np.nan))


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _day(ordinal: Any) -> date | None:
    return date.fromordinal(int(ordinal)) if ordinal > 0 else None
