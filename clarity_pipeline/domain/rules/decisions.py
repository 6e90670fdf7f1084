"""What a rule decided about an entity, and the numbers that it decided on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import IntEnum, StrEnum

from clarity_pipeline.domain.rules.model import Condition, Level


class Truth(IntEnum):
    """Three values, combined as Kleene did: what is unknown stays so unless it does not matter."""

    FALSE = 0
    TRUE = 1
    UNKNOWN = 2


class Reason(StrEnum):
    """Why a condition is unknown; where several hold, the first of them is given."""

    NO_BUSINESS = "no_business"
    NOT_CONNECTED = "not_connected"
    DISABLED = "disabled"
    NO_LANDING_PAGE = "no_landing_page"
    WINDOW_NOT_OVER = "window_not_over"
    NO_CHANGE = "no_change"
    CHANGE_TOO_RECENT = "change_too_recent"
    CHANGE_TOO_LONG_AGO = "change_too_long_ago"
    NO_DATA = "no_data"
    STALE = "stale"
    LOW_COVERAGE = "low_coverage"
    MIXED_BASIS = "mixed_basis"
    MIXED_CURRENCIES = "mixed_currencies"
    TOO_FEW_SESSIONS = "too_few_sessions"
    DIVISION_BY_ZERO = "division_by_zero"
    NO_BASELINE = "no_baseline"
    NO_VARIATION = "no_variation"
    NOT_FINITE = "not_finite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One condition of a decision: its answer and its evidence.

    `condition` has the thresholds of the entity's business. `measured` is the number that was held
    against `threshold`: the value, its difference from `comparison_value`, or its confidence bound;
    None where there is none. Days are UTC; the window's are None where the window has no days.
    `spread` is the standard deviation of a z-score. `is_held` says that the condition was true
    before, so that `threshold` is its `leave`. `consecutive_days` are the latest days in a row on
    which it was true, as far as the rule asks.
    """

    path: str
    condition: Condition
    truth: Truth
    reason: Reason | None
    measured: float | None
    value: float | None
    numerator: float | None
    denominator: float | None
    sessions: int | None
    days_with_data: int
    days_in_window: int
    window_start: date | None
    window_end: date | None
    last_day: date | None
    threshold: float
    comparison_value: float | None
    spread: float | None
    is_held: bool
    consecutive_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a rule says about one entity as of a day, the latest that is over.

    `decided_by` is the path of the condition that settled it: the first whose answer is the
    rule's. Only Truth.TRUE leads to an action.
    """

    rule_name: str
    entity_id: str
    entity_name: str
    business_id: str | None
    level: Level
    as_of: date
    truth: Truth
    decided_by: str
    findings: tuple[Finding, ...]

    @property
    def fires(self) -> bool:
        """Whether the rule's actions are called for."""
        return self.truth is Truth.TRUE

    @property
    def deciding(self) -> Finding:
        """The condition that settled it."""
        return next(finding for finding in self.findings if finding.path == self.decided_by)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why conditions are unknown, each reason once, in the order of the rule."""
        reasons = (finding.reason for finding in self.findings)
        return tuple(dict.fromkeys(reason for reason in reasons if reason is not None))
