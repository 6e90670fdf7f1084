"""When a rule is evaluated, for which businesses, and what may come of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from clarity_pipeline.domain.days import day_collected_at
from clarity_pipeline.domain.rules.actions import Mode
from clarity_pipeline.domain.rules.model import Rule, RuleStatus
from clarity_pipeline.domain.sync_jobs import JobStatus


class RuleTrigger(StrEnum):
    """Which rules are asked for, by the kind of their schedule."""

    ON_DATA = "on_data"
    CRON = "cron"


def mode_of(rule: Rule, *, day: date, now: datetime) -> Mode | None:
    """How a rule is evaluated as of a day that is over; None where it is not evaluated at all."""
    if rule.status is RuleStatus.SHADOW:
        assert rule.shadow_until is not None, "a shadow has an end"
        if day > rule.shadow_until:
            return None
    elif rule.status is not RuleStatus.ARMED:
        return None
    if day < day_collected_at(now):
        return Mode.LATE
    return Mode.SHADOW if rule.status is RuleStatus.SHADOW else Mode.ACTING


@dataclass(frozen=True, slots=True, kw_only=True)
class BusinessDay:
    """How the Clarity day of a business stands.

    `has_arrived` says that it is rolled up. `last_sync` is the status of the newest sync of that
    day, None without one. `is_obtainable` says that Clarity still answers for it.
    """

    is_on: bool
    has_arrived: bool
    last_sync: JobStatus | None
    is_obtainable: bool

    @property
    def is_awaited(self) -> bool:
        """Whether the day is still to come, so that rules wait for it.

        A sync that has ended without it is not repeated by itself. Rules on other metrics go on
        without the day then, and are evaluated again if somebody fetches it after all.
        """
        if not self.is_on or self.has_arrived:
            return False
        if self.last_sync is JobStatus.RUNNING:
            return True
        return self.last_sync is None and self.is_obtainable
