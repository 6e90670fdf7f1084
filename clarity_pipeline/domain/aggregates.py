"""From daily-metrics rows to the sums of a day, and from the sums of days to a window's values.

Only sums and weights are kept per day. Rates and means are divided once, over the whole window:
an average of averages is never taken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from datetime import date
from typing import Any, Final, Literal, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clarity_pipeline.domain.errors import InvalidDay
from clarity_pipeline.domain.metrics import AGGREGATE_METRICS
from clarity_pipeline.domain.normalise import estimated_page_views

AGGREGATES_VERSION: Final = 1
"""Raised when the same daily metrics are to give other sums; it makes stored roll-ups stale."""

SessionBasis = Literal["sessions", "page_sessions"]
"""What was counted: sessions of the project, or sessions per page, where a session that visits
three pages counts three times."""

WindowBasis = Literal["sessions", "page_sessions", "mixed"]


@dataclass(frozen=True, slots=True)
class DailySums:
    """What one day (of a business, or of one of its pages) adds to any window.

    Counts are None where no row of the day knows them. `*_click_sessions` and
    `quick_back_sessions` are the sessions of the rows that know the events above them: the
    denominators of the rates. `scroll_depth_sum` is percent of page height x page views,
    `engagement_time_ms_sum` is milliseconds per session x sessions (exact up to 2**53), each with
    the weight of the rows that have a value.
    """

    sessions: int | None
    rage_clicks: int | None
    rage_click_sessions: int
    dead_clicks: int | None
    dead_click_sessions: int
    excessive_scroll: int | None
    quick_backs: int | None
    quick_back_sessions: int
    scroll_depth_sum: float
    scroll_depth_page_views: float
    engagement_time_ms_sum: int
    engagement_sessions: int

    @property
    def says_something(self) -> bool:
        """False for a reply of which no block could be used."""
        return any(getattr(self, name) is not None for name in _COUNTED) or bool(
            self.scroll_depth_page_views or self.engagement_sessions
        )


DAILY_SUM_COLUMNS: Final[tuple[str, ...]] = tuple(field.name for field in fields(DailySums))

NO_VISITS: Final = DailySums(
    sessions=0,
    rage_clicks=0,
    rage_click_sessions=0,
    dead_clicks=0,
    dead_click_sessions=0,
    excessive_scroll=0,
    quick_backs=0,
    quick_back_sessions=0,
    scroll_depth_sum=0.0,
    scroll_depth_page_views=0.0,
    engagement_time_ms_sum=0,
    engagement_sessions=0,
)
"""The sums of a landed slice without rows: nobody came, which is data."""

SUMMED_COLUMNS: Final = (
    "url",
    "sessions",
    "pages_per_session",
    "scroll_depth",
    "engagement_time_ms",
    "dead_clicks",
    "rage_clicks",
    "excessive_scroll",
    "quick_backs",
)
"""The columns of daily-metrics rows that sums are made of."""

_COUNTED: Final = ("sessions", "rage_clicks", "dead_clicks", "excessive_scroll", "quick_backs")
_RATES: Final = {
    "rage_click_sessions": "rage_clicks",
    "dead_click_sessions": "dead_clicks",
    "quick_back_sessions": "quick_backs",
}
_INT64_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class BusinessDay:
    """One row of `clarity_business_aggregates`; `day` is UTC."""

    business_id: str
    day: date
    session_basis: SessionBasis
    truncated: bool
    built_from: str
    sums: DailySums


@dataclass(frozen=True, slots=True)
class UrlDay:
    """One page's part of a business-day."""

    url: str
    sums: DailySums


@dataclass(frozen=True, slots=True)
class AggregateDay:
    """One day of a window, of a business or of a page: what `window_aggregates` needs."""

    day: date
    session_basis: SessionBasis
    truncated: bool
    sums: DailySums


class DayOfWindow(Protocol):
    """An AggregateDay, a BusinessDay, or anything else that knows these four."""

    @property
    def day(self) -> date: ...
    @property
    def session_basis(self) -> SessionBasis: ...
    @property
    def truncated(self) -> bool: ...
    @property
    def sums(self) -> DailySums: ...


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a window the values stand on; `last_date` is the last UTC day with data."""

    days_in_window: int
    days_with_data: int
    last_date: date | None
    truncated: bool
    session_basis: WindowBasis | None


@dataclass(frozen=True, slots=True)
class BehavioralValues:
    """The ten values that rules and charts are about, of whatever the sums are of.

    Rates are events per session, depth is percent of page height (0-100), engagement is whole
    milliseconds of active time per session. None means unknown, never zero: no data, or for a
    rate or mean nothing to divide by.
    """

    clarity_sessions: int | None
    clarity_rage_clicks: int | None
    clarity_dead_clicks: int | None
    clarity_excessive_scroll: int | None
    clarity_quick_backs: int | None
    clarity_rage_click_rate: float | None
    clarity_dead_click_rate: float | None
    clarity_quick_back_rate: float | None
    clarity_scroll_depth: float | None
    clarity_engagement_time_ms: int | None

    def metrics(self) -> dict[str, int | float | None]:
        """The ten by name."""
        return {name: getattr(self, name) for name in AGGREGATE_METRICS}


@dataclass(frozen=True, slots=True)
class BehavioralAggregates(BehavioralValues):
    """The ten values of a window, and their coverage."""

    days_in_window: int
    days_with_data: int
    last_date: date | None
    truncated: bool
    session_basis: WindowBasis | None

    @property
    def coverage(self) -> Coverage:
        return Coverage(
            days_in_window=self.days_in_window,
            days_with_data=self.days_with_data,
            last_date=self.last_date,
            truncated=self.truncated,
            session_basis=self.session_basis,
        )


def aggregate_business_day(
    *,
    business_id: str,
    day: date,
    url_device: pd.DataFrame | None,
    overview: pd.DataFrame | None,
    url_device_truncated: bool,
    overview_truncated: bool,
    built_from: str,
) -> BusinessDay | None:
    """The sums of a business-day; None without a landed slice.

    `url_device` and `overview` are frames of daily-metrics rows (SUMMED_COLUMNS), None where
    that slice did not land. A landed frame without rows is a day without visits. The overview's
    true totals replace those of the URL + Device slice unless they do not even say how many
    sessions there were.
    """
    totals = None if overview is None else _sums_of(overview)
    if totals is not None and (url_device is None or _knows_sessions(overview)):
        return BusinessDay(
            business_id=business_id,
            day=day,
            session_basis="sessions",
            truncated=overview_truncated,
            built_from=built_from,
            sums=totals,
        )
    if url_device is None:
        return None
    return BusinessDay(
        business_id=business_id,
        day=day,
        session_basis="page_sessions",
        truncated=url_device_truncated,
        built_from=built_from,
        sums=_sums_of(url_device),
    )


def aggregate_url_days(url_device: pd.DataFrame) -> list[UrlDay]:
    """The sums of every page of a URL + Device frame (SUMMED_COLUMNS), sorted by URL.

    Devices of a page are added up. Rows without a URL count for the business alone. Pages that
    only bots saw are kept, with the sessions that Traffic gives them (0).
    """
    of_pages = url_device[url_device["url"].notna()]
    page, urls = pd.factorize(of_pages["url"], sort=True)
    return [
        UrlDay(url=str(url), sums=sums)
        for url, sums in zip(urls, _sums_by_group(of_pages, page, len(urls)), strict=True)
    ]


def window_aggregates(
    days: Iterable[DayOfWindow], *, start: date, end: date
) -> BehavioralAggregates:
    """The ten values of the days `start` to `end`, both included, and their coverage.

    Each day comes once; those outside the window are left out. Events and sessions are None only
    if no day knows them. Raises InvalidDay for a window that ends before it starts.
    """
    if end < start:
        raise InvalidDay(f"The window ends on {end}, before it starts on {start}; swap the two.")
    covered = [day for day in days if start <= day.day <= end and day.sums.says_something]
    bases: set[WindowBasis] = {day.session_basis for day in covered}
    return BehavioralAggregates(
        **ten_values([day.sums for day in covered]),
        days_in_window=(end - start).days + 1,
        days_with_data=len(covered),
        last_date=max((day.day for day in covered), default=None),
        truncated=any(day.truncated for day in covered),
        session_basis="mixed" if len(bases) > 1 else next(iter(bases), None),
    )


def behavioral_values(sums: Collection[DailySums]) -> BehavioralValues:
    """The ten values of these sums together. Events and sessions are None if none knows them."""
    rate = {
        events: _ratio(_total(sums, events), sum(getattr(each, sessions) for each in sums))
        for sessions, events in _RATES.items()
    }
    engagement_sessions = sum(each.engagement_sessions for each in sums)
    return BehavioralValues(
        clarity_sessions=_total(sums, "sessions"),
        clarity_rage_clicks=_total(sums, "rage_clicks"),
        clarity_dead_clicks=_total(sums, "dead_clicks"),
        clarity_excessive_scroll=_total(sums, "excessive_scroll"),
        clarity_quick_backs=_total(sums, "quick_backs"),
        clarity_rage_click_rate=rate["rage_clicks"],
        clarity_dead_click_rate=rate["dead_clicks"],
        clarity_quick_back_rate=rate["quick_backs"],
        clarity_scroll_depth=_ratio(
            sum(each.scroll_depth_sum for each in sums),
            sum(each.scroll_depth_page_views for each in sums),
        ),
        clarity_engagement_time_ms=(
            round(sum(each.engagement_time_ms_sum for each in sums) / engagement_sessions)
            if engagement_sessions
            else None
        ),
    )


def ten_values(sums: Collection[DailySums]) -> dict[str, Any]:
    """`behavioral_values` by name, for what has more fields beside these."""
    return dict(behavioral_values(sums).metrics())


def _knows_sessions(frame: pd.DataFrame | None) -> bool:
    return frame is not None and bool(frame["sessions"].notna().any())


def _total(sums: Collection[DailySums], name: str) -> int | None:
    known = [value for each in sums if (value := getattr(each, name)) is not None]
    return sum(known) if known else None


def _ratio(numerator: float | None, denominator: float) -> float | None:
    return None if numerator is None or not denominator else numerator / denominator


def _sums_of(frame: pd.DataFrame) -> DailySums:
    if frame.empty:
        return NO_VISITS
    return _sums_by_group(frame, np.zeros(len(frame), dtype=np.int64), 1)[0]


def _sums_by_group(
    frame: pd.DataFrame, group: NDArray[np.int64], group_count: int
) -> list[DailySums]:
    """DailySums of the rows of every group 0 .. group_count - 1."""
    # Arrays, not a groupby of nullable columns: half the time, and as exact.
    sessions = _integers(frame["sessions"])
    known = {
        name: frame[name].notna().to_numpy()
        for name in (*_COUNTED, "scroll_depth", "engagement_time_ms")
    }
    columns: dict[str, list[Any]] = {}
    for name in _COUNTED:
        totals = _count_up(_integers(frame[name]), group, group_count)
        is_known = np.bincount(group, known[name], minlength=group_count) > 0
        columns[name] = [
            total if in_any_row else None
            for total, in_any_row in zip(totals, is_known.tolist(), strict=True)
        ]
    for name, of in {**_RATES, "engagement_sessions": "engagement_time_ms"}.items():
        columns[name] = _count_up(np.where(known[of], sessions, 0), group, group_count)
    depth, engagement = _floats(frame["scroll_depth"]), _floats(frame["engagement_time_ms"])
    weight = sessions.astype(np.float64)
    page_views = estimated_page_views(weight, _floats(frame["pages_per_session"]))
    page_views_with_depth = page_views * known["scroll_depth"]
    columns["scroll_depth_sum"] = _add_up(depth * page_views, group, group_count)
    columns["scroll_depth_page_views"] = _add_up(page_views_with_depth, group, group_count)
    milliseconds = _add_up(engagement * weight, group, group_count)
    columns["engagement_time_ms_sum"] = [min(int(total), _INT64_MAX) for total in milliseconds]
    return [
        DailySums(**dict(zip(columns, values, strict=True)))
        for values in zip(*columns.values(), strict=True)
    ]


def _integers(values: pd.Series[Any]) -> NDArray[np.int64]:
    return values.fillna(0).to_numpy(dtype=np.int64)


def _floats(values: pd.Series[Any]) -> NDArray[np.float64]:
    return values.fillna(0).to_numpy(dtype=np.float64)


def _count_up(values: NDArray[np.int64], group: NDArray[np.int64], group_count: int) -> list[int]:
    totals = np.zeros(group_count, dtype=np.int64)
    np.add.at(totals, group, values)
    return totals.tolist()


def _add_up(values: NDArray[np.float64], group: NDArray[np.int64], group_count: int) -> list[float]:
    """Sums by group that do not depend on the order of the rows: no database keeps it."""
    values = np.asarray(values, dtype=np.float64)
    order = np.lexsort((values, group))
    return np.bincount(group[order], values[order], minlength=group_count).tolist()
