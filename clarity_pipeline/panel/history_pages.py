"""What became of every day of a business, and of every sync."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from clarity_pipeline.domain.day_history import DayWord, count_words, spans
from clarity_pipeline.domain.days import day_collected_at
from clarity_pipeline.domain.insight import CalendarDay, Window
from clarity_pipeline.domain.sync_jobs import JobStatus
from clarity_pipeline.operations.insight import day_calendar, past_syncs
from clarity_pipeline.panel.guard import CurrentBusiness, Services
from clarity_pipeline.panel.templating import page
from clarity_pipeline.panel.wording import DAY_SIGNS, DAYS, STATUSES, TRIGGERS

router = APIRouter(include_in_schema=False)

MONTHS_SHOWN: Final = 6
LONGEST_SHOWN: Final = 24
MOST_SPANS: Final = 50
_WITHOUT_A_REASON: Final = frozenset({DayWord.COMPLETE, DayWord.NOT_EXPECTED})


@dataclass(frozen=True, slots=True)
class Month:
    """The days of one month that are shown; `blanks` are the weekdays before the first, from
    Monday on.
    """

    first: date
    blanks: int
    days: tuple[CalendarDay, ...]


@router.get("/history")
def show_history(
    request: Request,
    services: Services,
    business: CurrentBusiness,
    status: Annotated[JobStatus | None, Query()] = None,
    before: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    months: Annotated[int, Query(ge=1, le=LONGEST_SHOWN)] = MONTHS_SHOWN,
) -> Response:
    """The calendar of the last months, and a page of syncs, the newest first."""
    now = services.clock()
    latest = day_collected_at(now)
    days = day_calendar(
        services.database,
        business.id,
        window=Window(months_back(latest, count=months), latest),
        now=now,
        recovery=services.settings.recovery,
    )
    shown = since_first_expected(days)
    telling = [span for span in spans(shown) if span.word not in _WITHOUT_A_REASON]
    syncs = past_syncs(services.database, business.id, status=status, before_id=before)
    return page(
        request,
        "history.html",
        tab="history",
        months=by_month(shown),
        months_asked=months,
        longest=LONGEST_SHOWN,
        counts=count_words(shown),
        telling=telling[: -MOST_SPANS - 1 : -1],
        day_words=DAYS,
        day_signs=DAY_SIGNS,
        syncs=syncs.syncs,
        next_before=syncs.next_before_id,
        before=before,
        status=status,
        statuses=STATUSES,
        triggers=TRIGGERS,
    )


def months_back(day: date, *, count: int) -> date:
    """The first day of the month with which the last `count` months begin, that of `day` included.

    For years after 2: nobody has older history.
    """
    months = day.year * 12 + day.month - count
    return date(months // 12, months % 12 + 1, 1)


def since_first_expected(days: Sequence[CalendarDay]) -> list[CalendarDay]:
    """Without the months at the beginning in which nothing was expected at all."""
    first = next((item.day for item in days if item.word is not DayWord.NOT_EXPECTED), None)
    if first is None:
        return []
    return [item for item in days if item.day >= first.replace(day=1)]


def by_month(days: Sequence[CalendarDay]) -> list[Month]:
    """The newest month first, as people look for what is recent."""
    months = [
        tuple(items) for _, items in groupby(days, key=lambda item: (item.day.year, item.day.month))
    ]
    return [Month(items[0].day, items[0].day.weekday(), items) for items in reversed(months)]
