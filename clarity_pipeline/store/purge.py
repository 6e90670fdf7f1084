"""Deleting what was collected of one business and decided on it, a bounded batch per transaction.

The quota ledger, the business, its settings and the audit log are not history of its pages, and
nothing here touches them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from sqlalchemy import Connection, Table, delete, func, null, select

from clarity_pipeline.domain.days import week_of
from clarity_pipeline.domain.errors import PurgeRefused
from clarity_pipeline.domain.sync_jobs import JobStatus
from clarity_pipeline.store.businesses import check_businesses_exist, lock_businesses
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import (
    business_aggregates,
    business_config,
    daily_metrics,
    daily_slices,
    dimension_aggregates,
    raw_exports,
    rule_actions,
    rule_decisions,
    rule_evaluations,
    sync_jobs,
    sync_requests,
    url_aggregates,
    url_week_aggregates,
)

# A slice points at the export it was built from, so it goes first; and what a rule decided and
# called for points at its evaluation.
TABLES_OF_DAYS: Final = (
    rule_decisions,
    rule_actions,
    rule_evaluations,
    daily_metrics,
    url_aggregates,
    dimension_aggregates,
    business_aggregates,
    daily_slices,
    raw_exports,
)
TABLES_OF_WEEKS: Final = (url_week_aggregates,)
TABLES_OF_WORK: Final = (sync_requests, sync_jobs)

MOST_ROWS_PER_BATCH: Final = 1000
"""Of requests and jobs. A day of a business is a batch of its own: some thousands of rows."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a business has in one table: how many rows, of which days."""

    rows: int
    first_day: date | None
    last_day: date | None


def held_rows(database: Database, business_id: str) -> dict[str, Held]:
    """What there is of a business in each table, by the table's name. Raises UnknownBusiness."""
    with database.reading() as connection:
        check_businesses_exist(connection, [business_id])
        return {
            table.name: Held(*_counted(connection, table, business_id))
            for table in (*TABLES_OF_DAYS, *TABLES_OF_WEEKS, *TABLES_OF_WORK)
        }


def days_held(database: Database, business_id: str) -> list[date]:
    """The days that anything was collected, built or decided of, oldest first."""
    days: set[date] = set()
    with database.reading() as connection:
        for table in TABLES_OF_DAYS:
            days.update(
                connection.scalars(
                    select(table.c.date).where(table.c.business_id == business_id).distinct()
                )
            )
    return sorted(days)


def check_can_purge(database: Database, business_id: str) -> None:
    """Raises PurgeRefused while the business is connected or works on a day, or UnknownBusiness."""
    with database.reading() as connection:
        check_businesses_exist(connection, [business_id])
        _check_is_at_rest(connection, business_id)


def delete_day(database: Database, *, business_id: str, day: date) -> Mapping[str, int]:
    """Delete all of one business's day, or nothing; returns the rows by table.

    What its week adds up to goes with it: the sums would be of a day that is gone. Raises
    PurgeRefused, or UnknownBusiness.
    """
    with database.transaction() as connection:
        lock_businesses(connection, [business_id])
        _check_is_at_rest(connection, business_id)
        of_day = {table: table.c.date == day for table in TABLES_OF_DAYS} | {
            table: table.c.week == week_of(day) for table in TABLES_OF_WEEKS
        }
        return {
            table.name: connection.execute(
                delete(table).where(table.c.business_id == business_id, is_of_day)
            ).rowcount
            for table, is_of_day in of_day.items()
        }


def delete_work(database: Database, *, business_id: str, table: Table) -> int:
    """Delete a batch of a business's requests or jobs, the oldest; returns how many there were.

    Raises PurgeRefused, or UnknownBusiness.
    """
    oldest = (
        select(table.c.id)
        .where(table.c.business_id == business_id)
        .order_by(table.c.id)
        .limit(MOST_ROWS_PER_BATCH)
    )
    with database.transaction() as connection:
        lock_businesses(connection, [business_id])
        _check_is_at_rest(connection, business_id)
        ids: Collection[int] = connection.scalars(oldest).all()
        if ids:
            connection.execute(delete(table).where(table.c.id.in_(ids)))
        return len(ids)


def _check_is_at_rest(connection: Connection, business_id: str) -> None:
    project_id = connection.scalar(
        select(business_config.c.project_id).where(business_config.c.business_id == business_id)
    )
    if project_id is not None:
        raise PurgeRefused(
            f"Business {business_id!r} is connected to Clarity; disconnect it with `clarity "
            f"disconnect {business_id}` before its history is deleted."
        )
    running = connection.scalar(
        select(func.min(sync_jobs.c.date)).where(
            sync_jobs.c.business_id == business_id,
            sync_jobs.c.status == JobStatus.RUNNING.value,
        )
    )
    if running is not None:
        raise PurgeRefused(
            f"A job of business {business_id!r} about {running} is still running; delete its "
            "history when that has ended."
        )


def _counted(
    connection: Connection, table: Table, business_id: str
) -> tuple[int, date | None, date | None]:
    # A week begins with a Monday, of which there need be nothing.
    day = null() if table in TABLES_OF_WEEKS else table.c.date
    rows, first, last = connection.execute(
        select(func.count(), func.min(day), func.max(day)).where(table.c.business_id == business_id)
    ).one()
    return rows, first, last
