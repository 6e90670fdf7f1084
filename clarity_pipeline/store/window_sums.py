"""What the days of a window add up to, added by the database: by page, by dimension, by business.

Everything stored is read, whether the business is connected now or not: a panel shows history.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from sqlalchemy import ColumnElement, Integer, case, func, literal_column, or_, select
from sqlalchemy import cast as sql_cast

from clarity_pipeline.domain.aggregates import DAILY_SUM_COLUMNS, AggregateDay, DailySums
from clarity_pipeline.domain.insight import (
    BreakdownBy,
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
    daily_metrics,
    daily_slices,
    url_aggregates,
)

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


def count_page_events(
    database: Database, *, business_id: str, window: Window, by: PageEvent
) -> dict[str, int]:
    """How many such events each page of a window has, by `url_hash`; pages without are left out.

    Days without an event add nothing, so only the others are read, from an index of their own: a
    site of 900 pages has 81,000 page-days in a quarter.
    """
    table = url_aggregates.c
    events = table[by.column]
    statement = (
        select(table.url_hash, func.sum(events))
        .where(
            table.business_id == business_id,
            table.date.between(window.start, window.end),
            # Not a parameter: the database must see that its index of such days will do.
            events > literal_column("0"),
        )
        .group_by(table.url_hash)
    )
    with database.reading() as connection:
        check_businesses_exist(connection, [business_id])
        return {hash_: int(total) for hash_, total in connection.execute(statement)}


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
    """What each value of a dimension adds up to over a window, of the slice that knows it.

    Sums and weights are those of domain.aggregates.aggregate_business_day.
    """
    table = daily_metrics.c
    group = table[by.dimension.column]
    page_views = table.sessions * case(
        (table.pages_per_session > 0, table.pages_per_session), else_=1.0
    )
    statement = (
        select(
            group,
            func.sum(table.sessions),
            *_events_and_sessions("rage_clicks"),
            *_events_and_sessions("dead_clicks"),
            func.sum(table.excessive_scroll),
            *_events_and_sessions("quick_backs"),
            func.sum(table.scroll_depth * page_views),
            func.sum(case((table.scroll_depth.is_not(None), page_views))),
            func.sum(table.engagement_time_ms * table.sessions),
            func.sum(case((table.engagement_time_ms.is_not(None), table.sessions))),
        )
        .where(
            table.business_id == business_id,
            table.dimension_set == by.combo.dimension_set,
            table.date.between(window.start, window.end),
        )
        .group_by(group)
    )
    with database.reading() as connection:
        check_businesses_exist(connection, [business_id])
        return [
            GroupSums(group=row[0], sums=_sums(row[1:])) for row in connection.execute(statement)
        ]


def _events_and_sessions(name: str) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """The events, and the sessions of the rows that know them."""
    table = daily_metrics.c
    return func.sum(table[name]), func.sum(case((table[name].is_not(None), table.sessions)))


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
    table = business_aggregates.c
    statement = (
        select(table.business_id, func.sum(table.sessions))
        .where(table.date.between(window.start, window.end))
        .group_by(table.business_id)
    )
    with database.reading() as connection:
        return {
            business_id: None if total is None else int(total)
            for business_id, total in connection.execute(statement).all()
        }


def sum_rage_clicks(database: Database, *, window: Window) -> dict[str, tuple[int | None, int]]:
    """Rage clicks of every business that has data in a window, and the sessions they are of."""
    table = business_aggregates.c
    statement = (
        select(table.business_id, func.sum(table.rage_clicks), func.sum(table.rage_click_sessions))
        .where(table.date.between(window.start, window.end))
        .group_by(table.business_id)
    )
    with database.reading() as connection:
        return {
            business_id: (None if events is None else int(events), int(sessions))
            for business_id, events, sessions in connection.execute(statement).all()
        }


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
