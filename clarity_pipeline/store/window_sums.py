"""What the days of a window add up to, added by the database: by page, by dimension, by business.

Everything stored is read, whether the business is connected now or not: a panel shows history.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from sqlalchemy import ColumnElement, Integer, Select, func, or_, select, union_all
from sqlalchemy import cast as sql_cast

from clarity_pipeline.domain.aggregates import DAILY_SUM_COLUMNS, AggregateDay, DailySums
from clarity_pipeline.domain.days import week_of
from clarity_pipeline.domain.insight import (
    BreakdownBy,
    EventSums,
    GroupSums,
    PageEvent,
    PageSums,
    SliceCoverage,
    Window,
)
from clarity_pipeline.store.businesses import check_businesses_exist
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import (
    business_aggregates,
    businesses,
    daily_slices,
    dimension_aggregates,
    url_aggregates,
    url_week_aggregates,
)
from clarity_pipeline.store.url_weeks import summed_weeks

_MAYBE_UNKNOWN: Final = frozenset(
    {"sessions", "rage_clicks", "dead_clicks", "excessive_scroll", "quick_backs"}
)
"""The sums that are None where no row knows them."""

_FLOATS: Final = frozenset({"scroll_depth_sum", "scroll_depth_page_views"})

_SAYS_SOMETHING: Final = or_(
    *(business_aggregates.c[name].is_not(None) for name in sorted(_MAYBE_UNKNOWN)),
    business_aggregates.c.scroll_depth_page_views != 0,
    business_aggregates.c.engagement_sessions != 0,
)
"""DailySums.says_something, for the database."""


def read_business_days(
    database: Database, *, business_id: str, window: Window
) -> list[AggregateDay]:
    """The stored days of a window, oldest first. Raises UnknownBusiness."""
    table = business_aggregates.c
    statement = (
        select(
            table.date,
            table.session_basis,
            table.truncated,
            *(table[name] for name in DAILY_SUM_COLUMNS),
        )
        .where(table.business_id == business_id, table.date.between(window.start, window.end))
        .order_by(table.date)
    )
    with database.reading() as connection:
        check_businesses_exist(connection, [business_id])
        return [
            AggregateDay(
                day=row.date,
                session_basis=row.session_basis,
                truncated=row.truncated,
                sums=_sums(row[3:]),
            )
            for row in connection.execute(statement)
        ]


def slice_coverage(
    database: Database, *, business_id: str, dimension_set: str, window: Window
) -> SliceCoverage:
    """How many days of a window have this slice. Raises UnknownBusiness."""
    table = daily_slices.c
    statement = select(
        func.count(),
        func.max(sql_cast(table.truncated, Integer)),
        func.count(table.subtracted_export_id),
    ).where(
        table.business_id == business_id,
        table.date.between(window.start, window.end),
        table.dimension_set == dimension_set,
    )
    with database.reading() as connection:
        check_businesses_exist(connection, [business_id])
        days, truncated, derived = connection.execute(statement).one()
    return SliceCoverage(days_with_data=days, truncated=bool(truncated), is_derived=derived > 0)


def sum_page_events(
    database: Database, *, business_id: str, window: Window, by: PageEvent
) -> dict[str, EventSums]:
    """Such events of each page of a window that has any, by `url_hash`.

    A week that has been summed up is read as one, less the days of it that are not of the window:
    a site of 900 pages has 81,000 page-days in a quarter.
    """
    days, weeks = url_aggregates.c, url_week_aggregates.c

    def of_days(which: Sequence[date], *, sign: int) -> Select[*tuple[Any, ...]]:
        return select(days.url_hash, sign * days[by.column], sign * days[by.sessions_column]).where(
            days.business_id == business_id, days.date.in_(which)
        )

    with database.reading() as connection:
        check_businesses_exist(connection, [business_id])
        first, last = week_of(window.start), week_of(window.end)
        summed = summed_weeks(connection, business_id=business_id, first=first, last=last)
        parts = window.in_weeks(summed)
        rows = union_all(
            select(
                weeks.url_hash,
                weeks[by.column].label("events"),
                weeks[by.sessions_column].label("sessions"),
            ).where(weeks.business_id == business_id, weeks.week.in_(parts.weeks)),
            of_days(parts.added, sign=1),
            of_days(parts.taken_away, sign=-1),
        ).subquery()
        events = func.sum(rows.c.events)
        statement = (
            select(rows.c.url_hash, events, func.sum(rows.c.sessions))
            .group_by(rows.c.url_hash)
            .having(events > 0)
        )
        return {
            hash_: EventSums(int(count), int(of_sessions))
            for hash_, count, of_sessions in connection.execute(statement).all()
        }


def read_pages(
    database: Database, *, business_id: str, window: Window, url_hashes: Collection[str]
) -> list[PageSums]:
    """What these pages add up to over a window."""
    table = url_aggregates.c
    statement = (
        select(
            func.max(table.url).label("url"),
            func.count().label("days"),
            func.max(sql_cast(table.truncated, Integer)).label("truncated"),
            *(func.sum(table[name]) for name in DAILY_SUM_COLUMNS),
        )
        .where(
            table.business_id == business_id,
            # Every day by name, not a range: each page-day is then one look into the index.
            table.date.in_(window.days()),
            table.url_hash.in_(set(url_hashes)),
        )
        .group_by(table.url_hash)
    )
    with database.reading() as connection:
        return [
            PageSums(
                url=row.url,
                days_with_data=row.days,
                truncated=bool(row.truncated),
                sums=_sums(row[3:]),
            )
            for row in connection.execute(statement)
        ]


def sum_by_dimension(
    database: Database, *, business_id: str, window: Window, by: BreakdownBy
) -> list[GroupSums]:
    """What each value of a dimension adds up to over a window, of the slice that knows it."""
    table = dimension_aggregates.c
    statement = (
        select(table.value, *(func.sum(table[name]) for name in DAILY_SUM_COLUMNS))
        .where(
            table.business_id == business_id,
            table.date.between(window.start, window.end),
            table.dimension == by.value,
        )
        .group_by(table.value)
    )
    with database.reading() as connection:
        check_businesses_exist(connection, [business_id])
        return [
            GroupSums(group=row[0], sums=_sums(row[1:]))
            for row in connection.execute(statement).all()
        ]


def _sums(values: Sequence[Any]) -> DailySums:
    """Sums in the order of DAILY_SUM_COLUMNS. PostgreSQL adds bigints up to a numeric, and of
    nothing but NULL the sum is NULL, which for a weight means 0."""
    numbers: dict[str, Any] = dict(zip(DAILY_SUM_COLUMNS, values, strict=True))
    for name, value in numbers.items():
        if value is None:
            numbers[name] = None if name in _MAYBE_UNKNOWN else 0
        elif name not in _FLOATS:
            numbers[name] = int(value)
    return DailySums(**numbers)


@dataclass(frozen=True, slots=True)
class RageClickDay:
    """What a list of businesses shows of a business-day; counts are None where unknown."""

    business_id: str
    day: date
    sessions: int | None
    rage_clicks: int | None
    rage_click_sessions: int


def read_rage_click_days(
    database: Database, *, business_ids: Collection[str], window: Window
) -> list[RageClickDay]:
    """The days of many businesses, oldest first."""
    table = business_aggregates.c
    statement = (
        select(
            table.business_id,
            table.date,
            table.sessions,
            table.rage_clicks,
            table.rage_click_sessions,
        )
        .where(
            table.business_id.in_(set(business_ids)),
            table.date.between(window.start, window.end),
        )
        .order_by(table.date)
    )
    with database.reading() as connection:
        return [RageClickDay(*row) for row in connection.execute(statement).all()]


def sum_sessions(database: Database, *, window: Window) -> dict[str, int | None]:
    """The sessions of every business that has data in a window; None where no day knows them."""
    statement = _by_business(window, func.sum(business_aggregates.c.sessions))
    with database.reading() as connection:
        return {
            business_id: None if total is None else int(total)
            for business_id, total in connection.execute(statement).all()
        }


def sum_rage_clicks(database: Database, *, window: Window) -> dict[str, tuple[int | None, int]]:
    """Rage clicks of every business that has data in a window, and the sessions they are of."""
    table = business_aggregates.c
    statement = _by_business(
        window, func.sum(table.rage_clicks), func.sum(table.rage_click_sessions)
    )
    with database.reading() as connection:
        return {
            business_id: (None if events is None else int(events), int(sessions))
            for business_id, events, sessions in connection.execute(statement).all()
        }


def _by_business(window: Window, *sums: ColumnElement[Any]) -> Select[*tuple[Any, ...]]:
    table = business_aggregates.c
    return (
        select(table.business_id, *sums)
        .where(
            table.date.between(window.start, window.end),
            # All there are. It makes SQLite go through the index of each business's days, where
            # by the days alone it would have to sort the rows of all businesses.
            table.business_id.in_(select(businesses.c.id)),
        )
        .group_by(table.business_id)
    )


def latest_days(database: Database, *, business_ids: Collection[str]) -> dict[str, date]:
    """The latest day with data of each of these businesses; one without any is left out."""
    table = business_aggregates.c
    # One look into the index per business, where a maximum by group would read every day.
    latest = (
        select(table.date)
        .where(table.business_id == businesses.c.id, _SAYS_SOMETHING)
        .order_by(table.date.desc())
        .limit(1)
        .scalar_subquery()
    )
    statement = select(businesses.c.id, latest).where(businesses.c.id.in_(set(business_ids)))
    with database.reading() as connection:
        return {
            business_id: day
            for business_id, day in connection.execute(statement)
            if day is not None
        }
