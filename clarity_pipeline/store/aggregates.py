"""Sums per business-day and page-day, and the windows that the rules engine reads from them."""

from __future__ import annotations

import atexit
import functools
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import date, datetime
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Connection, Row, Table, func, select

from clarity_pipeline.domain.aggregates import (
    DAILY_SUM_COLUMNS,
    AggregateDay,
    BehavioralAggregates,
    BusinessDay,
    DailySums,
    UrlDay,
    window_aggregates,
)
from clarity_pipeline.domain.days import days_between
from clarity_pipeline.settings import load_settings
from clarity_pipeline.store.bulk import Replacement, WriteCounts, replace_rows, upsert_into
from clarity_pipeline.store.businesses import check_businesses_exist, lock_businesses
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.dimension_aggregates import SliceToRollUp, roll_up
from clarity_pipeline.store.schema import business_aggregates, business_config, url_aggregates
from clarity_pipeline.store.url_weeks import sum_up_week


def aggregate_states(
    database: Database, *, day: date, business_ids: Collection[str] | None = None
) -> dict[str, str]:
    """What the stored business-days were built from, by business."""
    return _states(database, business_aggregates, day=day, business_ids=business_ids)


def url_aggregate_states(
    database: Database, *, day: date, business_ids: Collection[str] | None = None
) -> dict[str, str]:
    """What the stored page-days were built from, by business; one without pages is not in it."""
    return _states(database, url_aggregates, day=day, business_ids=business_ids)


def replace_business_day(
    database: Database,
    *,
    business_day: BusinessDay,
    now: datetime,
    slices: Sequence[SliceToRollUp] = (),
) -> WriteCounts:
    """Store a business-day, and the sums of these slices of it by dimension value, or nothing.

    What stands there already is not written; the counts are of the business-day alone. Raises
    UnknownBusiness.
    """
    with database.transaction() as connection:
        lock_businesses(connection, [business_day.business_id])
        roll_up(connection, slices, now=now)
        return _write_business_day(connection, business_day, now=now)


def replace_dimension_values(
    database: Database, *, business_id: str, slices: Sequence[SliceToRollUp], now: datetime
) -> None:
    """Store the sums of slices of a business by dimension value, without a business-day.

    Raises UnknownBusiness.
    """
    with database.transaction() as connection:
        lock_businesses(connection, [business_id])
        roll_up(connection, slices, now=now)


def replace_url_days(
    database: Database,
    *,
    business_id: str,
    day: date,
    url_days: Sequence[UrlDay],
    truncated: bool,
    built_from: str,
    now: datetime,
) -> WriteCounts:
    """Put these pages in place of all that is stored of a business-day, or leave all as it was.

    `truncated` is the slice's, so every page of it may have lost sessions. Raises
    UnknownBusiness.
    """
    replacement = Replacement(
        scope={"business_id": business_id, "date": day},
        key="url_hash",
        constants={"truncated": truncated, "built_from": built_from, "updated_at": now},
        columns={
            "url_hash": [url_hash(url_day.url) for url_day in url_days],
            "url": [url_day.url for url_day in url_days],
            **{
                name: [getattr(url_day.sums, name) for url_day in url_days]
                for name in DAILY_SUM_COLUMNS
            },
        },
    )
    with database.transaction() as connection:
        lock_businesses(connection, [business_id])
        counts = replace_rows(connection, url_aggregates, [replacement])
        sum_up_week(connection, business_id=business_id, day=day, now=now)
        return counts


def get_business_behavioral_aggregates(
    business_id: str, start: date, end: date, *, database: Database | None = None
) -> BehavioralAggregates:
    """The ten `clarity_*` values of a business from `start` to `end` (UTC days, both included).

    All None when Clarity is not connected, its sync is disabled, or the window has no data; the
    coverage beside them says how many of the days have data. Without a `database` it is the one
    that the settings name. Raises UnknownBusiness, or InvalidDay when `start` is after `end`.
    """
    days_between(start, end)
    with (database or _configured_database()).reading() as connection:
        rows = _days_in_force(connection, business_aggregates, business_id, start, end)
    return window_aggregates([_aggregate_day(row) for row in rows], start=start, end=end)


def get_url_behavioral_aggregates(
    business_id: str, start: date, end: date, *, database: Database | None = None
) -> dict[str, BehavioralAggregates]:
    """The same by page: canonical URL -> its values, with the coverage of that page alone.

    Empty when Clarity is not connected, its sync is disabled, or the window has no data. A
    session that visits three pages counts for each of them. Raises as the function above.
    """
    days_between(start, end)
    with (database or _configured_database()).reading() as connection:
        rows = _days_in_force(connection, url_aggregates, business_id, start, end)
    days_by_url: dict[str, list[AggregateDay]] = {}
    for row in rows:
        days_by_url.setdefault(row.url, []).append(_aggregate_day(row))
    return {
        url: window_aggregates(days, start=start, end=end)
        for url, days in sorted(days_by_url.items())
    }


def url_hash(url: str) -> str:
    """Identity of a page within its business and day: 32 hex digits. Stable for ever."""
    return hashlib.blake2b(url.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _write_business_day(
    connection: Connection, business_day: BusinessDay, *, now: datetime
) -> WriteCounts:
    values = {
        "business_id": business_day.business_id,
        "date": business_day.day,
        **asdict(business_day.sums),
        "session_basis": business_day.session_basis,
        "truncated": business_day.truncated,
        "built_from": business_day.built_from,
        "updated_at": now,
    }
    stood = connection.scalar(
        select(func.count())
        .select_from(business_aggregates)
        .where(
            business_aggregates.c.business_id == business_day.business_id,
            business_aggregates.c.date == business_day.day,
        )
    )
    # SQLAlchemy forgets how many rows an INSERT wrote unless it is told to keep it.
    written = connection.execute(
        upsert_into(business_aggregates, connection.dialect.name),
        values,
        execution_options={"preserve_rowcount": True},
    ).rowcount
    if not stood:
        return WriteCounts(inserted=1)
    return WriteCounts(updated=written, unchanged=1 - written)


def _states(
    database: Database, table: Table, *, day: date, business_ids: Collection[str] | None
) -> dict[str, str]:
    statement = (
        select(table.c.business_id, table.c.built_from).where(table.c.date == day).distinct()
    )
    if business_ids is not None:
        statement = statement.where(table.c.business_id.in_(set(business_ids)))
    with database.reading() as connection:
        return {row.business_id: row.built_from for row in connection.execute(statement)}


def _days_in_force(
    connection: Connection, table: Table, business_id: str, start: date, end: date
) -> Sequence[Row[Any]]:
    """The stored days of the window; none unless the business is connected and enabled."""
    check_businesses_exist(connection, [business_id])
    config = business_config.c
    return connection.execute(
        select(table)
        .join(business_config, config.business_id == table.c.business_id)
        .where(
            table.c.business_id == business_id,
            table.c.date.between(start, end),
            config.project_id.is_not(None),
            config.sync_enabled,
        )
        .order_by(table.c.date)
    ).all()


def _aggregate_day(row: Row[Any]) -> AggregateDay:
    return AggregateDay(
        day=row.date,
        # A page knows no other sessions than those that saw it.
        session_basis=getattr(row, "session_basis", "page_sessions"),
        truncated=row.truncated,
        sums=DailySums(**{name: getattr(row, name) for name in DAILY_SUM_COLUMNS}),
    )


def _configured_database() -> Database:
    return _database_at(load_settings().database_url_or_default)


@functools.cache
def _database_at(url: SecretStr) -> Database:
    database = Database.open(url)
    atexit.register(database.close)
    return database
