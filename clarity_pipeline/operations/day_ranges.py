"""Working through a range of days: one at a time, and what goes wrong with one stays with it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from clarity_pipeline.domain.days import is_collectable
from clarity_pipeline.domain.errors import (
    ClarityError,
    DatabaseFull,
    DatabaseReadOnly,
    DatabaseUnreachable,
)
from clarity_pipeline.domain.sync_jobs import Trigger
from clarity_pipeline.operations.collect_day import DayPlan, plan_day
from clarity_pipeline.operations.day_report import DayReport
from clarity_pipeline.operations.scheduled_days import days_to_recover
from clarity_pipeline.store.database import Database

logger = logging.getLogger(__name__)

MOST_DAYS_NAMED: Final = 10
"""Failed days that a complaint names with their reasons; the rest are counted."""

_ENDS_THE_RANGE: Final = (DatabaseUnreachable, DatabaseReadOnly, DatabaseFull)
"""What concerns every day alike; going on would only wait for the same again, day by day."""


@dataclass(frozen=True, slots=True)
class WorkedDay:
    """A day that was worked on: its report, and the error it was left with, if any."""

    day: date
    report: DayReport | None
    error: str | None

    @property
    def is_done(self) -> bool:
        return self.error is None

    @property
    def sentence(self) -> str:
        """For a line of the log."""
        if self.report is None or self.error is not None:
            return f"{self.day}: failed, {self.error}"
        numbers = (f"{name} {value}" for name, value in self.report.numbers.items() if value)
        return f"{self.day}: {', '.join(numbers) or 'nothing to do'}"


def work_through(days: Sequence[date], work: Callable[[date], DayReport]) -> Iterator[WorkedDay]:
    """Do the work for each day in turn; the reports of a range come without their tables.

    An error that is ours fails its day only, unless it concerns our database as a whole: then no
    further day is tried.
    """
    for day in days:
        try:
            report = work(day)
        except ClarityError as error:
            logger.warning("day %s is left as it was: %s", day, error)
            yield WorkedDay(day, None, str(error))
            if isinstance(error, _ENDS_THE_RANGE):
                return
        else:
            kept = report if len(days) == 1 else report.without_table()
            yield WorkedDay(day, kept, report.failure)


def complaint(worked: Sequence[WorkedDay], wanted: Sequence[date]) -> str | None:
    """One sentence that names the failed days and says why; None when there are none."""
    failed = [f"{done.day} ({done.error})" for done in worked if done.error is not None]
    if not failed:
        return None
    if len(wanted) == 1:
        return worked[0].error
    named = ", ".join(failed[:MOST_DAYS_NAMED])
    more = f" and {len(failed) - MOST_DAYS_NAMED} more" if len(failed) > MOST_DAYS_NAMED else ""
    untried = len(wanted) - len(worked)
    rest = f"; the last {untried} days were not tried" if untried else ""
    return f"{len(failed)} of {len(wanted)} days failed: {named}{more}{rest}."


def plan_days(
    database: Database,
    *,
    days: Sequence[date],
    business_ids: Collection[str],
    trigger: Trigger,
    overview_default: bool,
    run_id: str,
    now: datetime,
    recovery: bool = False,
) -> DayPlan:
    """Plan the collection of a run's days, of which one at most is asked for.

    A single day is planned whatever it is, so that a gap leaves a sync job that says so. Of a
    range only the day that can be collected is planned, or else with `recovery` the oldest that
    can be recovered, and nothing is written for the others: a year of gaps would be a year of jobs
    that say nothing new. Raises as `plan_day`.
    """
    collectable = [day for day in days if is_collectable(day, now=now)]
    if recovery and len(days) > 1 and not collectable:
        missed = days_to_recover(database, overview_default=overview_default, now=now)
        collectable = [day for day in missed if day in days]
    if len(days) > 1 and not collectable:
        return DayPlan(
            run_id=run_id,
            day=days[-1],
            trigger=trigger,
            asked_for=tuple(business_ids),
            businesses=(),
            job_ids={},
        )
    return plan_day(
        database,
        day=collectable[0] if collectable else days[0],
        business_ids=business_ids,
        trigger=trigger,
        overview_default=overview_default,
        recovery=recovery,
        run_id=run_id,
        now=now,
    )
