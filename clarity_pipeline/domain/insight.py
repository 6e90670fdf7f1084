"""The shapes behind the charts and tables of a business's data, and how they come about.

Every row type is flat: scalars only, so that it is a row of a table, of a CSV file and of JSON.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from heapq import nsmallest
from typing import Final

from clarity_pipeline.domain.aggregates import (
    BehavioralAggregates,
    BehavioralValues,
    DailySums,
    DayOfWindow,
    SessionBasis,
    ten_values,
    window_aggregates,
)
from clarity_pipeline.domain.day_history import DayHistory, DayWord
from clarity_pipeline.domain.days import (
    check_day_is_over,
    day_collected_at,
    days_between,
    days_of_week,
    week_of,
)
from clarity_pipeline.domain.dimensions import (
    URL_CAMPAIGN_CHANNEL,
    URL_COUNTRY,
    URL_DEVICE,
    URL_SOURCE,
    Dimension,
    DimensionCombo,
)
from clarity_pipeline.domain.errors import InvalidRequest
from clarity_pipeline.domain.metrics import AGGREGATE_METRICS
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger

WINDOW_LENGTHS: Final = (7, 30, 90)
"""Days of the windows that people choose from."""

_NEEDS_THE_SAME_BASIS: Final = frozenset(
    {
        "clarity_sessions",
        "clarity_rage_click_rate",
        "clarity_dead_click_rate",
        "clarity_quick_back_rate",
        "clarity_engagement_time_ms",
    }
)
"""What is counted in sessions, or divided by them. Events add up over any split (FACTS section 3)
and depth is a mean over page views (section 5), so those do not mind."""

_COUNTED: Final[Mapping[str, str]] = {
    "clarity_sessions": "sessions",
    "clarity_rage_clicks": "rage_clicks",
    "clarity_dead_clicks": "dead_clicks",
    "clarity_excessive_scroll": "excessive_scroll",
    "clarity_quick_backs": "quick_backs",
}
"""Value of a window -> what it is the sum of."""


@dataclass(frozen=True, slots=True)
class Window:
    """The UTC days from `start` to `end`, both included. Raises InvalidDay when swapped."""

    start: date
    end: date

    def __post_init__(self) -> None:
        days_between(self.start, self.end)

    @property
    def length(self) -> int:
        """How many days it has."""
        return (self.end - self.start).days + 1

    def days(self) -> list[date]:
        """Every day of it, oldest first."""
        return days_between(self.start, self.end)

    def before(self) -> Window:
        """The window of the same length that ends the day before this one starts."""
        return Window(self.start - timedelta(days=self.length), self.start - timedelta(days=1))

    def in_weeks(self, summed: Collection[date]) -> WindowInWeeks:
        """How it is added up with the fewest days, given the weeks that have sums."""
        weeks: list[date] = []
        added: list[date] = []
        taken_away: list[date] = []
        for monday in dict.fromkeys(map(week_of, self.days())):
            days = days_of_week(monday)
            inside = [day for day in days if self.start <= day <= self.end]
            if monday in summed and len(inside) > len(days) / 2:
                weeks.append(monday)
                taken_away += [day for day in days if day not in inside]
            else:
                added += inside
        return WindowInWeeks(tuple(weeks), tuple(added), tuple(taken_away))

    def check_is_over(self, *, now: datetime) -> None:
        """Raises InvalidDay where the window reaches into today or the future."""
        check_day_is_over(self.end, now=now)


@dataclass(frozen=True, slots=True)
class WindowInWeeks:
    """A window as whole weeks, by their Mondays, further days, and days of the weeks less."""

    weeks: tuple[date, ...]
    added: tuple[date, ...]
    taken_away: tuple[date, ...]


def latest_window(now: datetime, *, length: int) -> Window:
    """So many days, of which the last is the latest that is over."""
    end = day_collected_at(now)
    return Window(end - timedelta(days=length - 1), end)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesDay(BehavioralValues):
    """One day of a chart; all values None where there are none.

    `is_truncated` is about the day's own values, `word` and the other flags about all slices of
    the day (domain.day_history). `reason` is None for a complete day.
    """

    day: date
    has_data: bool
    word: DayWord
    reason: str | None
    is_truncated: bool
    is_derived: bool
    is_shifted: bool
    is_partial: bool
    session_basis: SessionBasis | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BusinessSeries:
    """A window day by day, its values and those of the window before.

    `changes` are percent by name of value (12.0: 12 % more than before); see `change_percent`.
    """

    window: Window
    days: tuple[SeriesDay, ...]
    values: BehavioralAggregates
    before: BehavioralAggregates
    changes: Mapping[str, float | None]


def business_series(
    days: Collection[DayOfWindow], *, window: Window, histories: Sequence[DayHistory]
) -> BusinessSeries:
    """Put together a window out of the stored days of it and of the window before.

    `histories` has the days of the window in which the business was known; the others were
    before it.
    """
    with_data = {day.day: day for day in days if day.sums.says_something}
    judged = {history.day: history for history in histories}
    before = window.before()
    values = window_aggregates(days, start=window.start, end=window.end)
    values_before = window_aggregates(days, start=before.start, end=before.end)
    sums = [day.sums for day in with_data.values() if day.day >= window.start]
    sums_before = [day.sums for day in with_data.values() if day.day <= before.end]
    return BusinessSeries(
        window=window,
        days=tuple(
            _series_day(day, stored=with_data.get(day), history=judged.get(day))
            for day in window.days()
        ),
        values=values,
        before=values_before,
        changes={
            name: change_percent(
                name, values, values_before, days_known=sums, days_known_before=sums_before
            )
            for name in AGGREGATE_METRICS
        },
    )


def change_percent(
    name: str,
    values: BehavioralAggregates,
    before: BehavioralAggregates,
    *,
    days_known: Collection[DailySums],
    days_known_before: Collection[DailySums],
) -> float | None:
    """By how many percent a value has changed.

    Counts are compared per day that knows them, or a missing day would look like a fall. None
    where a value is unknown, where it was 0 before, and for what depends on sessions where the
    two windows count them differently.
    """
    now, then = getattr(values, name), getattr(before, name)
    if now is None or not then:
        return None
    if name in _NEEDS_THE_SAME_BASIS and (
        values.session_basis != before.session_basis or values.session_basis == "mixed"
    ):
        return None
    if name in _COUNTED:
        now /= _known(days_known, _COUNTED[name])
        then /= _known(days_known_before, _COUNTED[name])
    return (now - then) / then * 100


def _known(sums: Collection[DailySums], column: str) -> int:
    return sum(getattr(each, column) is not None for each in sums)


def _series_day(day: date, *, stored: DayOfWindow | None, history: DayHistory | None) -> SeriesDay:
    calendar_day = _calendar_day(day, history)
    flags = frozenset[DayWord]() if history is None else history.flags
    return SeriesDay(
        **ten_values([] if stored is None else [stored.sums]),
        day=day,
        has_data=stored is not None,
        word=calendar_day.word,
        reason=calendar_day.reason,
        is_truncated=stored is not None and stored.truncated,
        is_derived=DayWord.DERIVED in flags,
        is_shifted=DayWord.SHIFTED in flags,
        is_partial=DayWord.PARTIAL in flags,
        session_basis=None if stored is None else stored.session_basis,
    )


@dataclass(frozen=True, slots=True)
class CalendarDay:
    """A day in one word; `reason` is a sentence, None for a complete day."""

    day: date
    word: DayWord
    reason: str | None


def calendar(window: Window, histories: Iterable[DayHistory]) -> list[CalendarDay]:
    """Every day of the window; those before the business was known are not expected."""
    judged = {history.day: history for history in histories}
    return [_calendar_day(day, judged.get(day)) for day in window.days()]


def _calendar_day(day: date, history: DayHistory | None) -> CalendarDay:
    if history is None:
        return CalendarDay(day, DayWord.NOT_EXPECTED, "It was before the business was connected.")
    return CalendarDay(day, history.word, history.reason)


class PageEvent(StrEnum):
    """What makes a page a bad one."""

    RAGE = "rage"
    DEAD = "dead"
    QUICK_BACKS = "quick_backs"

    @property
    def column(self) -> str:
        """The sum that counts these events."""
        return _EVENT_COLUMNS[self][0]

    @property
    def sessions_column(self) -> str:
        """The sum of the sessions that the events are divided by."""
        return _EVENT_COLUMNS[self][1]


_EVENT_COLUMNS: Final[Mapping[PageEvent, tuple[str, str]]] = {
    PageEvent.RAGE: ("rage_clicks", "rage_click_sessions"),
    PageEvent.DEAD: ("dead_clicks", "dead_click_sessions"),
    PageEvent.QUICK_BACKS: ("quick_backs", "quick_back_sessions"),
}


class PageRanking(StrEnum):
    """By what pages are ranked: how often it happened, or how likely it is."""

    EVENTS = "events"
    RATE = "rate"


@dataclass(frozen=True, slots=True)
class PageSums:
    """What a page adds up to over a window; `truncated` if any of its days was."""

    url: str
    sums: DailySums
    days_with_data: int
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PageValues(BehavioralValues):
    """A page of a window. A session that visits three pages counts for each of them."""

    url: str
    days_with_data: int
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstPages:
    """The pages with the most events, or the highest rate of them, worst first.

    `pages_with_events` is how many pages of the window have such events. `days_with_data` and
    `truncated` are of the whole window: a page that was cut off is in none of the numbers.
    """

    window: Window
    by: PageEvent
    ranking: PageRanking
    pages: tuple[PageValues, ...]
    pages_with_events: int
    days_with_data: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class EventSums:
    """How often something happened on a page of a window, and in how many sessions it could."""

    events: int
    sessions: int

    def badness(self, ranking: PageRanking) -> tuple[float, float]:
        """What sorts pages, worst first: by number of events, then rate, or the other way."""
        rate = self.events / self.sessions if self.sessions else 0.0
        if ranking is PageRanking.EVENTS:
            return (-self.events, -rate)
        return (-rate, -self.events)


def contenders(
    pages: Mapping[str, EventSums], *, ranking: PageRanking, min_sessions: int, limit: int
) -> set[str]:
    """The pages that may be among the worst `limit` of those that have `min_sessions`.

    These are the first ones and all that are level with the last of them. Raises InvalidRequest.
    """
    check_limit(limit)
    badness = {
        page: sums.badness(ranking) for page, sums in pages.items() if sums.sessions >= min_sessions
    }
    if len(badness) <= limit:
        return set(badness)
    last = nsmallest(limit, badness.values())[-1]
    return {page for page, bad in badness.items() if bad <= last}


def rank_pages(
    pages: Iterable[PageSums],
    *,
    by: PageEvent,
    ranking: PageRanking,
    min_sessions: int,
    limit: int,
) -> tuple[PageValues, ...]:
    """The worst `limit` pages, by EventSums.badness, then by URL.

    A page counts from `min_sessions` sessions on: one angry visitor is a rate of 100 %.
    """

    def sums_of(page: PageSums) -> EventSums:
        return EventSums(getattr(page.sums, by.column), getattr(page.sums, by.sessions_column))

    ranked = sorted(
        (page for page in pages if sums_of(page).sessions >= min_sessions),
        key=lambda page: (sums_of(page).badness(ranking), page.url),
    )
    return tuple(_page_values(page) for page in ranked[:limit])


def _page_values(page: PageSums) -> PageValues:
    """The ten values of a page: its sums, divided once."""
    return PageValues(
        **ten_values([page.sums]),
        url=page.url,
        days_with_data=page.days_with_data,
        truncated=page.truncated,
    )


class BreakdownBy(StrEnum):
    """What visitors can be told apart by."""

    DEVICE = "device"
    SOURCE = "source"
    COUNTRY = "country"
    CAMPAIGN = "campaign"
    CHANNEL = "channel"

    @property
    def dimension(self) -> Dimension:
        return Dimension.parse(self.value)

    @property
    def combo(self) -> DimensionCombo:
        """The slice of a day that knows this dimension."""
        return next(combo for combo in _BREAKDOWN_COMBOS if self.dimension in combo.dimensions)


_BREAKDOWN_COMBOS: Final = (URL_DEVICE, URL_SOURCE, URL_COUNTRY, URL_CAMPAIGN_CHANNEL)


@dataclass(frozen=True, slots=True)
class GroupSums:
    """What the rows with one value of a dimension add up to; None where Clarity sent none."""

    group: str | None
    sums: DailySums


@dataclass(frozen=True, slots=True)
class SliceCoverage:
    """How many days of a window have a slice, and whether any of them is cut or derived."""

    days_with_data: int
    truncated: bool
    is_derived: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupValues(BehavioralValues):
    """One value of a dimension, or all that are not shown one by one (`group` None as well)."""

    group: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """A window by the values of a dimension, most sessions first.

    Sessions are page sessions: the slices are by page, and a session that visits three pages
    counts three times. A rate is events by the sessions of the very rows that know them.
    `others` are the `others_count` values after the first ones, None where there are none.
    """

    window: Window
    by: BreakdownBy
    groups: tuple[GroupValues, ...]
    others: GroupValues | None
    others_count: int
    days_in_window: int
    days_with_data: int
    truncated: bool
    is_derived: bool


def breakdown(
    sums: Collection[GroupSums],
    *,
    window: Window,
    by: BreakdownBy,
    limit: int,
    coverage: SliceCoverage,
) -> Breakdown:
    """The first `limit` values by sessions; all others together. Raises InvalidRequest."""
    check_limit(limit)
    ranked = sorted(
        sums, key=lambda item: (-(item.sums.sessions or 0), item.group is None, item.group or "")
    )
    rest = ranked[limit:]
    return Breakdown(
        window=window,
        by=by,
        groups=tuple(_group_values(item.group, [item.sums]) for item in ranked[:limit]),
        others=_group_values(None, [item.sums for item in rest]) if rest else None,
        others_count=len(rest),
        days_in_window=window.length,
        days_with_data=coverage.days_with_data,
        truncated=coverage.truncated,
        is_derived=coverage.is_derived,
    )


def check_limit(limit: int) -> None:
    """Raises InvalidRequest for a number of rows that is none."""
    if limit < 1:
        raise InvalidRequest(f"{limit} is no number of rows; ask for 1 or more.")


def _group_values(group: str | None, sums: Sequence[DailySums]) -> GroupValues:
    return GroupValues(**ten_values(sums), group=group)


@dataclass(frozen=True, slots=True)
class PastSync:
    """A sync job; instants are UTC. It has no duration while it runs."""

    id: int
    day: date
    trigger: Trigger
    status: JobStatus
    started_at: datetime
    finished_at: datetime | None
    duration_seconds: float | None
    calls_used: int
    rows_written: int
    error_code: str | None
    error_message: str | None


@dataclass(frozen=True, slots=True)
class PastSyncs:
    """Some sync jobs, newest first; older ones are asked for with `next_before_id`."""

    syncs: tuple[PastSync, ...]
    next_before_id: int | None
