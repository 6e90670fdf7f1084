"""The rules engine as somebody would write it who has one entity and all the time in the world."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any

from clarity_pipeline.domain.rules.decisions import Reason, Truth
from clarity_pipeline.domain.rules.history import Entity, Source
from clarity_pipeline.domain.rules.metrics import Metric, Origin
from clarity_pipeline.domain.rules.model import CONFIDENCE_Z, AllOf, Condition, Node, NotOf, Rule
from clarity_pipeline_tests.domain.rules.histories import Days

Answer = tuple[Truth, Reason | None, float | None, float | None]
"""Truth, why it is unknown, what was measured, the window's value."""


def evaluate_naively(
    rule: Rule,
    entity: Entity,
    history: Mapping[Source, Days],
    *,
    as_of: date,
    was_true: Mapping[str, bool],
) -> tuple[Truth, str, dict[str, Answer]]:
    answers: dict[str, Answer] = {}
    truth, path = _tree(
        rule.conditions, "conditions", rule, entity, history, as_of, was_true, answers
    )
    return truth, path, answers


def _tree(
    node: Node, path: str, rule: Rule, entity: Entity, history: Any, as_of: date, was_true: Any,
    answers: dict[str, Answer],
) -> tuple[Truth, str]:  # fmt: skip
    rest = (rule, entity, history, as_of, was_true, answers)
    if isinstance(node, Condition):
        answers[path] = _condition(node, path, rule, entity, history, as_of, was_true.get(path))
        return answers[path][0], path
    if isinstance(node, NotOf):
        truth, by = _tree(node.node, f"{path}.not", *rest)
        return {0: Truth.TRUE, 1: Truth.FALSE, 2: Truth.UNKNOWN}[truth], by
    word = "all" if isinstance(node, AllOf) else "any"
    found = [_tree(each, f"{path}.{word}[{i}]", *rest) for i, each in enumerate(node.nodes)]
    order = [Truth.FALSE, Truth.UNKNOWN, Truth.TRUE]
    for truth in order if word == "all" else reversed(order):
        for its_truth, by in found:
            if its_truth == truth:
                return truth, by
    raise AssertionError("a group has children")


def _condition(
    c: Condition, path: str, rule: Rule, e: Entity, history: Any, as_of: date, held: bool | None
) -> Answer:
    for override in rule.overrides:
        if override.business == e.business_id and override.condition == c.key:
            c = c.with_values(override)
    answers: list[Answer] = []
    for days_back in range(c.consecutive_days):
        answers.append(_one_day(c, rule, e, history, as_of - timedelta(days=days_back), bool(held)))
        if held and c.leave is not None:
            break
    truth, reason = answers[0][:2]
    for its_truth, its_reason, *_ in answers[1:]:
        if Truth.FALSE in (truth, its_truth):
            truth, reason = Truth.FALSE, None
        elif truth == Truth.TRUE:
            truth, reason = its_truth, its_reason
    return truth, reason, *answers[0][2:]


def _one_day(c: Condition, rule: Rule, e: Entity, history: Any, as_of: date, held: bool) -> Answer:
    measured = value = None
    try:
        days, source = _gate_and_window(c, rule, e, history, as_of)
        value = _value(c, source, days)
        measured = _measured(c, source, days, value)
        if measured is None or not math.isfinite(measured):
            return Truth.UNKNOWN, Reason.NOT_FINITE, None, value
    except _Unknown as unknown:
        return Truth.UNKNOWN, unknown.reason, None, value
    to = c.to if c.to is not None else math.nan
    threshold = c.leave if held and c.leave is not None else c.value
    is_met = {
        ">": measured > threshold,
        ">=": measured >= threshold,
        "<": measured < threshold,
        "<=": measured <= threshold,
        "=": measured == threshold,
        "!=": measured != threshold,
        "between": threshold <= measured <= to,
        "not_between": not threshold <= measured <= to,
    }[c.operator]
    return Truth(is_met), None, measured, value


class _Unknown(Exception):
    def __init__(self, reason: Reason) -> None:
        self.reason = reason


def _gate_and_window(
    c: Condition, rule: Rule, e: Entity, history: Any, as_of: date
) -> tuple[list[date], Days]:
    source = Source.ADS
    if c.of.origin is Origin.CLARITY:
        where = c.measured_on or ("landing_page" if rule.level == "landing_page" else "business")
        source = Source(str(where))
    is_clarity, is_page = source != Source.ADS, source == Source.LANDING_PAGE
    for is_so, reason in (
        (not e.business_id, Reason.NO_BUSINESS),
        (is_clarity and not e.is_connected, Reason.NOT_CONNECTED),
        (is_clarity and not e.is_enabled, Reason.DISABLED),
        (is_page and not e.landing_page, Reason.NO_LANDING_PAGE),
    ):
        if is_so:
            raise _Unknown(reason)
    return _window(c.window, e, as_of), history[source]


def _window(w: Any, e: Entity, as_of: date) -> list[date]:
    start = end = as_of
    if w.kind == "fixed":
        if w.end > as_of:
            raise _Unknown(Reason.WINDOW_NOT_OVER)
        start, end = w.start, w.end
    elif w.kind == "since_change":
        if e.changed_on is None:
            raise _Unknown(Reason.NO_CHANGE)
        if e.changed_on >= as_of:
            raise _Unknown(Reason.CHANGE_TOO_RECENT)
        if (as_of - e.changed_on).days > w.within_days:
            raise _Unknown(Reason.CHANGE_TOO_LONG_AGO)
        start = e.changed_on + timedelta(days=1)
    elif w.kind == "last_days":
        start = end - timedelta(days=w.days - 1)
    return [start + timedelta(days=n) for n in range((end - start).days + 1)]


def _known(metric: Metric, source: Days, days: list[date]) -> Iterator[date]:
    for day in days:
        sums = [source.get(day, {}).get(n) for n in (metric.numerator, metric.denominator) if n]
        if all(each is not None and math.isfinite(each) for each in sums):
            yield day


def _sum(source: Days, days: list[date], name: str | None) -> float:
    total = 0.0
    for day in days:
        each = source[day].get(name or "")
        total += each if each is not None and math.isfinite(each) else 0.0
    return total


def _quotient(metric: Metric, source: Days, days: list[date]) -> float | None:
    if metric.denominator is None:
        return _sum(source, days, metric.numerator) if days else None
    under = _sum(source, days, metric.denominator)
    if not under > 0:
        return None
    value = _sum(source, days, metric.numerator) / under
    return float(round(value)) if metric.is_whole else value


def _value(c: Condition, source: Days, days: list[date]) -> float | None:
    known = list(_known(c.of, source, days))
    if not known:
        raise _Unknown(Reason.NO_DATA)
    if c.max_age_days is not None and (days[-1] - known[-1]).days > c.max_age_days:
        raise _Unknown(Reason.STALE)
    if c.min_coverage is not None and len(known) / len(days) < c.min_coverage:
        raise _Unknown(Reason.LOW_COVERAGE)
    _check_bases(c, source, known)
    if c.min_sessions is not None and _sum(source, known, c.of.sample) < c.min_sessions:
        raise _Unknown(Reason.TOO_FEW_SESSIONS)
    value = _quotient(c.of, source, known)
    if value is None:
        raise _Unknown(Reason.DIVISION_BY_ZERO)
    return value


def _check_bases(c: Condition, source: Days, known: list[date]) -> None:
    if len({source[day].get("basis") for day in known}) < 2:
        return
    if c.of.origin is Origin.CLARITY:
        raise _Unknown(Reason.MIXED_BASIS)
    if {"spend", "revenue"} & {c.of.numerator, c.of.denominator}:
        raise _Unknown(Reason.MIXED_CURRENCIES)


def _measured(c: Condition, source: Days, days: list[date], value: Any) -> float | None:
    if c.confidence is not None:
        return _bound(c, source, list(_known(c.of, source, days)))
    return value if c.comparison is None else _compared(c, source, days, value)


def _bound(c: Condition, source: Days, known: list[date]) -> float:
    assert c.confidence is not None
    n = _sum(source, known, c.of.denominator)
    p = min(max(_sum(source, known, c.of.numerator) / n, 0.0), 1.0)
    z = CONFIDENCE_Z[c.confidence]
    half = z * math.sqrt((p * (1 - p) + z * z / n / 4) / n)
    end = p + z * z / n / 2 - half if c.operator in {">", ">="} else p + z * z / n / 2 + half
    return min(max(end / (1 + z * z / n), 0.0), 1.0)


def _compared(c: Condition, source: Days, days: list[date], value: float) -> float:
    assert c.comparison is not None
    length = c.comparison.days or len(days)
    skipped = 1 if c.window.kind == "since_change" else 0
    before = [days[0] - timedelta(days=n + skipped) for n in range(length, 0, -1)]
    known, known_before = (list(_known(c.of, source, each)) for each in (days, before))
    _check_bases(c, source, known + known_before)
    is_thin = c.min_coverage is not None and len(known_before) / length < c.min_coverage
    is_small = c.min_sessions and _sum(source, known_before, c.of.sample) < c.min_sessions
    base = _quotient(c.of, source, known_before)
    if is_thin or is_small or base is None:
        raise _Unknown(Reason.NO_BASELINE)
    is_count = c.of.denominator is None
    if c.comparison.measure == "z_score":
        value = value / len(known) if is_count else value
        singles = [_quotient(c.of, source, [day]) for day in known_before]
        return _z_score(value, [each for each in singles if each is not None])
    if is_count and len(known) != len(known_before):
        base = base / len(known_before) * len(known)
    if c.comparison.measure == "absolute":
        return value - base
    if base == 0:
        raise _Unknown(Reason.DIVISION_BY_ZERO)
    return (value - base) / abs(base) * 100


def _z_score(value: float, singles: list[float]) -> float:
    if len(singles) < 3:
        raise _Unknown(Reason.NO_BASELINE)
    if len(set(singles)) == 1:
        raise _Unknown(Reason.NO_VARIATION)
    total = squares = 0.0
    for each in singles:
        total += each
    mean = total / len(singles)
    for each in singles:
        squares += (each - mean) * (each - mean)
    deviation = math.sqrt(squares / (len(singles) - 1))
    if deviation == 0:
        raise _Unknown(Reason.NO_VARIATION)
    return (value - mean) / deviation
