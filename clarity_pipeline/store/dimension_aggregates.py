"""Sums per business-day and value of a dimension, rolled up by the database.

A slice has hundreds of rows, which add up to some ten values: Python need not see the rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Double,
    Select,
    bindparam,
    case,
    delete,
    func,
    select,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects import postgresql, sqlite

from clarity_pipeline.domain.aggregates import DAILY_SUM_COLUMNS
from clarity_pipeline.domain.insight import BreakdownBy
from clarity_pipeline.store.bulk import updating_where_different
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import daily_metrics, dimension_aggregates

_INT64_MAX: Final = 2**63 - 1

_NEXT_TO_NOTHING: Final = 1e-100
"""PostgreSQL refuses to multiply what would come out too small for a number, and does not say 0."""

_DIMENSIONS_OF: Final[Mapping[str, Sequence[BreakdownBy]]] = {
    by.combo.dimension_set: [each for each in BreakdownBy if each.combo == by.combo]
    for by in BreakdownBy
}
"""Dimension set -> what a slice of it is rolled up by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceToRollUp:
    """A slice of `clarity_daily_metrics`, and what its roll-up is to say it was built from."""

    business_id: str
    day: date
    dimension_set: str
    built_from: str


def is_rolled_up(dimension_set: str) -> bool:
    """Whether a slice has a dimension beside the page; the overview has none."""
    return dimension_set in _DIMENSIONS_OF


def dimension_states(
    database: Database, *, day: date, business_ids: Collection[str]
) -> dict[tuple[str, str], str]:
    """What each slice's values of a day were built from, by business and dimension set.

    A slice without rows has no values, and is not in it.
    """
    table = dimension_aggregates.c
    set_of = {dimensions[0].value: name for name, dimensions in _DIMENSIONS_OF.items()}
    statement = select(table.business_id, table.dimension, table.built_from).where(
        table.business_id.in_(set(business_ids)),
        table.date == day,
        # One row of each slice, found by the whole key: there are hundreds a business.
        table.dimension.in_(list(set_of)),
        table.number == 1,
    )
    with database.reading() as connection:
        return {
            (business_id, set_of[dimension]): built_from
            for business_id, dimension, built_from in connection.execute(statement)
        }


def roll_up(connection: Connection, slices: Sequence[SliceToRollUp], *, now: datetime) -> int:
    """Put the sums of slices of one business-day by dimension value in place of what is stored.

    Returns how many rows were written or removed; one that stands there already is not written.
    The business must be locked against other writers.
    """
    if not slices:
        return 0
    of_day = {"of_business": slices[0].business_id, "of_day": slices[0].day, "updated_at": now}
    standing = set(connection.scalars(_STANDING, of_day))
    touched = 0
    for item in slices:
        parameters = {**of_day, "of_set": item.dimension_set, "built_from": item.built_from}
        for by in _DIMENSIONS_OF[item.dimension_set]:
            # SQLAlchemy forgets how many rows an INSERT wrote unless it is told to keep it.
            touched += connection.execute(
                _UPSERTS[connection.dialect.name][by],
                parameters,
                execution_options={"preserve_rowcount": True},
            ).rowcount
            if by.value in standing:
                touched += connection.execute(_REMOVALS[by], parameters).rowcount
    return touched


def _sums_by(by: BreakdownBy) -> Select[*tuple[Any, ...]]:
    """The rows of a slice added up by the values of a dimension.

    Sums and weights are those of domain.aggregates.aggregate_business_day.
    """
    table = daily_metrics.c
    value = table[by.dimension.column]
    sessions = func.coalesce(table.sessions, 0)
    page_views = sessions * case((table.pages_per_session > 0, table.pages_per_session), else_=1.0)
    is_measurable = (table.scroll_depth > _NEXT_TO_NOTHING) & (page_views > _NEXT_TO_NOTHING)
    # Not as integers, of which the product may be too large for one.
    milliseconds = func.sum(
        func.coalesce(table.engagement_time_ms * sql_cast(sessions, Double), 0.0)
    )

    def sessions_knowing(name: str) -> ColumnElement[Any]:
        return func.sum(case((table[name].is_not(None), sessions), else_=0))

    return (
        select(
            table.business_id,
            table.date,
            sql_cast(by.value, dimension_aggregates.c.dimension.type),
            func.row_number().over(order_by=value),
            value,
            func.sum(table.sessions),
            func.sum(table.rage_clicks),
            sessions_knowing("rage_clicks"),
            func.sum(table.dead_clicks),
            sessions_knowing("dead_clicks"),
            func.sum(table.excessive_scroll),
            func.sum(table.quick_backs),
            sessions_knowing("quick_backs"),
            func.sum(case((is_measurable, table.scroll_depth * page_views), else_=0.0)),
            func.sum(case((table.scroll_depth.is_not(None), page_views), else_=0.0)),
            case(
                (milliseconds < float(_INT64_MAX), sql_cast(milliseconds, BigInteger)),
                else_=_INT64_MAX,
            ),
            sessions_knowing("engagement_time_ms"),
            bindparam("built_from", type_=dimension_aggregates.c.built_from.type),
            bindparam("updated_at", type_=dimension_aggregates.c.updated_at.type),
        )
        .where(*_of_slice())
        .group_by(table.business_id, table.date, value)
    )


def _of_slice() -> Sequence[ColumnElement[bool]]:
    table = daily_metrics.c
    return (
        table.business_id == bindparam("of_business"),
        table.dimension_set == bindparam("of_set"),
        table.date == bindparam("of_day"),
    )


def _upsert(by: BreakdownBy, dialect_name: str) -> Any:
    names = [
        *("business_id", "date", "dimension", "number", "value"),
        *DAILY_SUM_COLUMNS,
        *("built_from", "updated_at"),
    ]
    insert = sqlite.insert if dialect_name == "sqlite" else postgresql.insert
    summed = insert(dimension_aggregates).from_select(names, _sums_by(by))
    return updating_where_different(summed, dimension_aggregates)


def _removal(by: BreakdownBy) -> Any:
    """Of the numbers after the last, where there were more values before."""
    table = dimension_aggregates.c
    values = select(daily_metrics.c[by.dimension.column]).where(*_of_slice()).distinct().subquery()
    return delete(dimension_aggregates).where(
        table.business_id == bindparam("of_business"),
        table.date == bindparam("of_day"),
        table.dimension == by.value,
        table.number > select(func.count()).select_from(values).scalar_subquery(),
    )


# Made once: SQLAlchemy would spend longer on putting them together than the database on them.
_STANDING: Final = select(dimension_aggregates.c.dimension).where(
    dimension_aggregates.c.business_id == bindparam("of_business"),
    dimension_aggregates.c.date == bindparam("of_day"),
    dimension_aggregates.c.dimension.in_([by.value for by in BreakdownBy]),
    dimension_aggregates.c.number == 1,
)
_UPSERTS: Final = {
    dialect_name: {by: _upsert(by, dialect_name) for by in BreakdownBy}
    for dialect_name in ("sqlite", "postgresql")
}
_REMOVALS: Final = {by: _removal(by) for by in BreakdownBy}
