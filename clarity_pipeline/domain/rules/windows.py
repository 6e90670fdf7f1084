"""From daily sums to the numbers of a window, for many entities at once.

Sums are added day by day, oldest first, and divided once. That order is part of the result: it
gives the same bits on every machine, for one entity or for a million, which numpy's own sums
along an axis do not promise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clarity_pipeline.domain.rules.history import (
    Bases,
    Booleans,
    DailySeries,
    Floats,
    Integers,
)
from clarity_pipeline.domain.rules.metrics import Metric


@dataclass(frozen=True, slots=True)
class Span:
    """The days from `start` to `end`, both included, as ordinals: one pair for all entities, or a
    pair for each. A span that ends before it starts has no days."""

    start: int | Integers
    end: int | Integers

    @property
    def is_shared(self) -> bool:
        return isinstance(self.start, int) and isinstance(self.end, int)

    @property
    def days(self) -> int | Integers:
        return np.maximum(self.end - self.start + 1, 0) if not self.is_shared else self._days()

    def _days(self) -> int:
        assert isinstance(self.start, int)
        assert isinstance(self.end, int)
        return max(self.end - self.start + 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A metric over a span, an element per entity.

    Only days on which both sums are known count. `value` is NaN without such a day, and for
    everything that is divided without a positive denominator. `denominator` is NaN for a count.
    `last_day` is an ordinal, 0 where no day counts. `bases` are those of the days that count.
    """

    value: Floats
    numerator: Floats
    denominator: Floats
    sessions: Floats
    days_with_data: Integers
    last_day: Integers
    bases: Bases

    def take(self, rows: NDArray[np.intp]) -> Reading:
        return Reading(
            value=self.value[rows],
            numerator=self.numerator[rows],
            denominator=self.denominator[rows],
            sessions=self.sessions[rows],
            days_with_data=self.days_with_data[rows],
            last_day=self.last_day[rows],
            bases=self.bases[rows],
        )

    def is_mixed(self, earlier: Reading | None = None) -> Booleans:
        """Whether its days, and those of an earlier one, are counted in more than one thing."""
        bases = self.bases if earlier is None else self.bases | earlier.bases
        return bases & (bases - 1) != 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How a metric's values of single days lie; a day without a value is left out."""

    days: Integers
    mean: Floats
    deviation: Floats
    is_constant: Booleans


def read_window(series: DailySeries, metric: Metric, *, rows: Integers, span: Span) -> Reading:
    """The metric over the span, for each of these rows of the series (-1: no row)."""
    if span.is_shared and len(series.has_data) < len(rows):
        # Entities share rows: what they share is added up once.
        distinct, place = np.unique(rows, return_inverse=True)
        return _read(series, metric, distinct, span).take(place)
    return _read(series, metric, rows, span)


def read_spread(series: DailySeries, metric: Metric, *, rows: Integers, span: Span) -> Spread:
    """How the values of the span's single days lie around their mean."""
    count = np.zeros(len(rows), np.int64)
    total, squares = np.zeros(len(rows)), np.zeros(len(rows))
    lowest, highest = np.full(len(rows), np.inf), np.full(len(rows), -np.inf)
    with np.errstate(all="ignore"):
        for value, has_value in _daily_values(series, metric, rows, span):
            count += has_value
            total += np.where(has_value, value, 0.0)
            lowest = np.where(has_value, np.minimum(lowest, value), lowest)
            highest = np.where(has_value, np.maximum(highest, value), highest)
        mean = total / count
        for value, has_value in _daily_values(series, metric, rows, span):
            off = value - mean
            squares += np.where(has_value, off * off, 0.0)
        deviation = np.sqrt(squares / (count - 1))
    return Spread(
        days=count,
        mean=mean,
        deviation=deviation,
        # The mean of equal numbers can be off by a bit, and the deviation then is not quite 0; the
        # squares of the tiniest differences are.
        is_constant=(lowest >= highest) | (deviation == 0),
    )


@dataclass(frozen=True, slots=True)
class _Day:
    ordinal: int
    numerator: Floats
    denominator: Floats | None
    sessions: Floats | None
    basis: Bases | None
    counts: Booleans


def _read(series: DailySeries, metric: Metric, rows: Integers, span: Span) -> Reading:
    count = len(rows)
    numerator, denominator, sessions = np.zeros(count), np.zeros(count), np.zeros(count)
    days_with_data, last_day = np.zeros(count, np.int64), np.zeros(count, np.int64)
    bases = np.zeros(count, np.uint8)
    with np.errstate(all="ignore"):
        for day in _days(series, metric, rows, span):
            days_with_data += day.counts
            last_day[day.counts] = day.ordinal
            if day.basis is not None:
                bases |= np.where(day.counts, day.basis, np.uint8(0))
            numerator += np.where(day.counts, day.numerator, 0.0)
            if day.denominator is not None:
                denominator += np.where(day.counts, day.denominator, 0.0)
            if day.sessions is not None:
                is_known = day.counts & np.isfinite(day.sessions)
                sessions += np.where(is_known, day.sessions, 0.0)
    reading = Reading(
        value=numerator,
        numerator=numerator,
        denominator=denominator,
        sessions=sessions,
        days_with_data=days_with_data,
        last_day=last_day,
        bases=bases,
    )
    if metric.denominator is None:
        return replace(
            reading,
            value=np.where(days_with_data > 0, numerator, np.nan),
            denominator=np.full(count, np.nan),
        )
    return replace(reading, value=_divided(metric, numerator, denominator))


def _divided(metric: Metric, numerator: Floats, denominator: Floats) -> Floats:
    with np.errstate(all="ignore"):
        value = np.where(denominator > 0, numerator / denominator, np.nan)
    return np.rint(value) if metric.is_whole else value


def _daily_values(
    series: DailySeries, metric: Metric, rows: Integers, span: Span
) -> Iterator[tuple[Floats, Booleans]]:
    for day in _days(series, metric, rows, span):
        value = (
            day.numerator
            if day.denominator is None
            else _divided(metric, day.numerator, day.denominator)
        )
        yield value, day.counts & np.isfinite(value)


def _days(series: DailySeries, metric: Metric, rows: Integers, span: Span) -> Iterator[_Day]:
    """Every day of the span that the series has, oldest first."""
    numerators = series.values.get(metric.numerator)
    denominators = series.values.get(metric.denominator) if metric.denominator else None
    samples = series.values.get(metric.sample) if metric.sample else None
    is_lacking = numerators is None or (metric.denominator is not None and denominators is None)
    if is_lacking or not series.has_data.size or not len(rows):
        return
    assert numerators is not None
    has_row = rows >= 0
    first = max(int(np.min(span.start)), series.first_ordinal)
    last = min(int(np.max(span.end)), series.last_ordinal)
    for ordinal in range(first, last + 1):
        column = ordinal - series.first_ordinal
        counts = has_row & series.has_data[:, column][rows]
        if not span.is_shared:
            counts = counts & (span.start <= ordinal) & (ordinal <= span.end)
        numerator = numerators[:, column][rows]
        counts = counts & np.isfinite(numerator)
        denominator = sessions = None
        if denominators is not None:
            denominator = denominators[:, column][rows]
            counts = counts & np.isfinite(denominator)
        if samples is not None:
            sessions = samples[:, column][rows]
        basis = None if series.basis is None else series.basis[:, column][rows]
        yield _Day(ordinal, numerator, denominator, sessions, basis, counts)


def wilson_bound(numerator: Floats, denominator: Floats, *, z: float, is_upper: bool) -> Floats:
    """One end of Wilson's score interval of a proportion.

    Events can outnumber their chances (three rage clicks in one session). The proportion is then
    taken for 1, which makes a rate look lower than it is and never higher.
    """
    with np.errstate(all="ignore"):
        share = np.clip(numerator / denominator, 0.0, 1.0)
        z_square = z * z / denominator
        middle = share + z_square / 2
        half = z * np.sqrt((share * (1 - share) + z_square / 4) / denominator)
        bound: NDArray[Any] = (middle + half if is_upper else middle - half) / (1 + z_square)
    return np.clip(bound, 0.0, 1.0)
