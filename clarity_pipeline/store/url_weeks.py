"""What every page adds up to per week, beside its days, for windows of many of them.

A week has sums once it is over. They are made in the transaction that writes a day of it, so they
are never of other days than are stored; a week without them is read day by day.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Final

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from clarity_pipeline.domain.days import day_collected_at, days_of_week, week_of
from clarity_pipeline.store.schema import url_aggregates, url_week_aggregates

_SUMS: Final = (
    *("rage_clicks", "rage_click_sessions", "dead_clicks", "dead_click_sessions"),
    *("quick_backs", "quick_back_sessions"),
)


def sum_up_week(connection: Connection, *, business_id: str, day: date, now: datetime) -> None:
    """Make the sums of the week of a day anew, if it is over.

    The business must be locked against other writers.
    """
    monday = week_of(day)
    days = days_of_week(monday)
    weeks = url_week_aggregates.c
    connection.execute(
        delete(url_week_aggregates).where(weeks.business_id == business_id, weeks.week == monday)
    )
    if days[-1] <= day_collected_at(now):
        connection.execute(
            _SUM_UP, {"of_business": business_id, "monday": monday, "sunday": days[-1]}
        )


def summed_weeks(connection: Connection, *, business_id: str, first: date, last: date) -> set[date]:
    """Which weeks from one Monday to another, both included, have sums."""
    table = url_week_aggregates.c
    # From one week that has sums to the next, by a look into the index: a week has a row a page.
    weeks = (
        select(func.min(table.week).label("week"))
        .where(table.business_id == business_id, table.week.between(first, last))
        .cte("weeks", recursive=True)
    )
    of_step = url_week_aggregates.alias().c
    next_week = (
        select(func.min(of_step.week))
        .where(
            of_step.business_id == business_id,
            of_step.week > weeks.c.week,
            of_step.week <= last,
        )
        .scalar_subquery()
    )
    weeks = weeks.union_all(select(next_week).where(weeks.c.week.is_not(None)))
    return set(connection.scalars(select(weeks.c.week).where(weeks.c.week.is_not(None))))


# Made once: putting it together takes longer than a usual week's sums.
_MONDAY: Final = bindparam("monday", type_=url_week_aggregates.c.week.type)
_SUM_UP: Final = insert(url_week_aggregates).from_select(
    ["business_id", "week", "url_hash", *_SUMS],
    select(
        url_aggregates.c.business_id,
        _MONDAY.label("week"),
        url_aggregates.c.url_hash,
        *(func.sum(url_aggregates.c[name]) for name in _SUMS),
    )
    .where(
        url_aggregates.c.business_id == bindparam("of_business"),
        url_aggregates.c.date.between(_MONDAY, bindparam("sunday")),
    )
    .group_by(url_aggregates.c.business_id, url_aggregates.c.url_hash),
)
