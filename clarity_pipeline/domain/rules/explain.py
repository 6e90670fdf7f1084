"""Decisions in words: one sentence, and a table with a row per condition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from clarity_pipeline.domain.rules.decisions import Decision, Finding, Reason, Truth
from clarity_pipeline.domain.rules.model import (
    RISING,
    Comparison,
    Condition,
    FixedRange,
    LastDays,
    Measure,
    SinceChange,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationRow:
    """One condition in words; what there is nothing to say about is empty."""

    condition: str
    answer: str
    value: str
    compared_with: str
    threshold: str
    days_with_data: str
    sessions: str
    why: str
    is_deciding: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    sentence: str
    rows: tuple[ExplanationRow, ...]


_ANSWERS: Final[Mapping[Truth, str]] = {
    Truth.TRUE: "yes",
    Truth.FALSE: "no",
    Truth.UNKNOWN: "unknown",
}

_OPERATORS: Final[Mapping[str, str]] = {
    ">": "above {}",
    ">=": "at least {}",
    "<": "below {}",
    "<=": "at most {}",
    "=": "exactly {}",
    "!=": "other than {}",
    "between": "between {} and {}",
    "not_between": "outside {} to {}",
}

REASONS: Final[Mapping[Reason, str]] = {
    Reason.NO_BUSINESS: "it belongs to no business",
    Reason.NOT_CONNECTED: "Clarity is not connected",
    Reason.DISABLED: "Clarity's sync is switched off",
    Reason.NO_LANDING_PAGE: "it has no landing page",
    Reason.WINDOW_NOT_OVER: "the window is not over",
    Reason.NO_CHANGE: "no change of it is known",
    Reason.CHANGE_TOO_RECENT: "no whole day has passed since its change",
    Reason.CHANGE_TOO_LONG_AGO: "its last change is too long ago",
    Reason.NO_DATA: "there are no data",
    Reason.STALE: "the latest data are too old",
    Reason.LOW_COVERAGE: "too few days have data",
    Reason.MIXED_BASIS: "some days count sessions and others sessions per page",
    Reason.MIXED_CURRENCIES: "its ads are paid for in several currencies",
    Reason.TOO_FEW_SESSIONS: "there are too few sessions",
    Reason.DIVISION_BY_ZERO: "there is nothing to divide by",
    Reason.NO_BASELINE: "the days before give too little to compare with",
    Reason.NO_VARIATION: "the days before are all alike",
    Reason.NOT_FINITE: "the numbers are too large to reckon with",
}


def explain(decision: Decision) -> Explanation:
    """Why a rule fires, does not fire, or cannot say."""
    entity = decision.entity_name or decision.entity_id
    about = f"{decision.level.replace('_', ' ')} {entity!r} as of {decision.as_of}"
    does = {
        Truth.TRUE: f"fires for {about}",
        Truth.FALSE: f"does not fire for {about}",
        Truth.UNKNOWN: f"cannot decide about {about}, so nothing is done",
    }[decision.truth]
    return Explanation(
        f"{decision.rule_name!r} {does}: {_found(decision.deciding)}.",
        tuple(
            _row(finding, is_deciding=finding.path == decision.decided_by)
            for finding in decision.findings
        ),
    )


def describe(condition: Condition) -> str:
    """What a condition asks, without an answer."""
    asked = f"{condition.of.title} {_window(condition)}"
    if condition.comparison is not None:
        asked += f", as {_MEASURES[condition.comparison.measure]} {_before(condition.comparison)}"
    if condition.confidence is not None:
        asked += f", with {condition.confidence:.0%} confidence"
    asked += f": {_threshold(condition, condition.value)}"
    if condition.consecutive_days > 1:
        asked += f", {condition.consecutive_days} days in a row"
    if condition.leave is not None:
        asked += f", until it is no longer {_threshold(condition, condition.leave)}"
    return asked


_MEASURES: Final[Mapping[Measure, str]] = {
    Measure.ABSOLUTE: "difference from",
    Measure.PERCENT: "change in percent from",
    Measure.Z_SCORE: "standard deviations from the days of",
}


def _before(comparison: Comparison) -> str:
    return "the window before" if comparison.days is None else f"the {comparison.days} days before"


def _window(condition: Condition) -> str:
    match condition.window:
        case LastDays(days=days):
            return f"in the last {days} days" if days > 1 else "yesterday"
        case FixedRange(start=start, end=end):
            return f"from {start} to {end}"
        case SinceChange(within_days=days):
            return f"in the days since a change, {days} at most"
        case _:
            return "yesterday"


def _found(finding: Finding) -> str:
    what = f"{finding.condition.of.title.lower()} {_window_found(finding)}"
    if finding.truth is Truth.UNKNOWN:
        return f"{what} is unknown because {_why(finding)}"
    if finding.measured is None:
        # The latest day is unknown, and an earlier one has said no already.
        return f"{what} was not {_threshold_met(finding)} on each day that was asked about"
    return f"{what} was {_value(finding)}{_measured(finding)}, {_verdict(finding)}"


def _window_found(finding: Finding) -> str:
    start, end = finding.window_start, finding.window_end
    if start is None or end is None:
        return _window(finding.condition)
    return f"on {end}" if start == end else f"from {start} to {end}"


def _value(finding: Finding) -> str:
    if finding.value is None:
        return ""
    shown = _number(finding.value)
    if finding.denominator is None or finding.numerator is None:
        return shown
    return f"{shown} ({_number(finding.numerator)} / {_number(finding.denominator)})"


def _measured(finding: Finding) -> str:
    condition, measured = finding.condition, finding.measured
    assert measured is not None
    if condition.confidence is not None:
        side = "at least" if condition.operator in RISING else "at most"
        return f", with {condition.confidence:.0%} confidence {side} {_number(measured)}"
    if condition.comparison is None or finding.comparison_value is None:
        return ""
    before = _before(condition.comparison)
    than = _number(finding.comparison_value)
    match condition.comparison.measure:
        case Measure.ABSOLUTE:
            return f", {_signed(measured)} against {than} in {before}"
        case Measure.PERCENT:
            return f", {_signed(measured)}% against {than} in {before}"
        case Measure.Z_SCORE:
            return f", {_signed(measured)} standard deviations from a daily {than} in {before}"


def _verdict(finding: Finding) -> str:
    asked, run = finding.condition.consecutive_days, finding.consecutive_days
    is_met = run > 0
    verdict = f"{'' if is_met else 'not '}{_threshold_met(finding)}"
    if finding.is_held:
        return f"{verdict}, where what has begun ends"
    if asked == 1 or not is_met:
        return verdict
    days = f"{run} {'day' if run == 1 else 'days'} in a row"
    return f"{verdict} on {days}" if run >= asked else f"{verdict}, but only on {days} of {asked}"


def _threshold_met(finding: Finding) -> str:
    return _threshold(finding.condition, finding.threshold)


def _threshold(condition: Condition, threshold: float) -> str:
    measure = None if condition.comparison is None else condition.comparison.measure
    ends = [threshold] if condition.to is None else [threshold, condition.to]
    unit = {Measure.PERCENT: "%"}.get(measure, "") if measure is not None else ""
    return _OPERATORS[condition.operator].format(*(f"{_number(end)}{unit}" for end in ends))


def _why(finding: Finding) -> str:
    assert finding.reason is not None
    words = REASONS[finding.reason]
    if finding.consecutive_days > 0:
        # The numbers at hand are those of the latest day, which was fine.
        return f"on an earlier day {words}"
    condition = finding.condition
    match finding.reason:
        case Reason.STALE:
            return f"the latest data are of {finding.last_day}"
        case Reason.LOW_COVERAGE:
            return f"only {finding.days_with_data} of {finding.days_in_window} days have data"
        case Reason.TOO_FEW_SESSIONS:
            return f"there are {finding.sessions} sessions and {condition.min_sessions} are needed"
        case _:
            return words


def _row(finding: Finding, *, is_deciding: bool) -> ExplanationRow:
    compared = finding.comparison_value
    return ExplanationRow(
        condition=describe(finding.condition),
        answer=_ANSWERS[finding.truth],
        value=_value(finding),
        compared_with="" if compared is None else _number(compared),
        threshold=_threshold_met(finding),
        days_with_data=f"{finding.days_with_data} of {finding.days_in_window}",
        sessions="" if finding.sessions is None else _number(finding.sessions),
        why="" if finding.reason is None else _why(finding),
        is_deciding=is_deciding,
    )


def _signed(number: float) -> str:
    return f"{'+' if number > 0 else ''}{_number(number)}"


def _number(number: float) -> str:
    """Six digits that count; of larger numbers all before the point and two behind it."""
    if number == round(number):
        return f"{number:,.0f}"
    return f"{number:,.2f}" if abs(number) >= 10_000 else f"{number:,.6g}"
