"""Monthly partitions of `clarity_daily_metrics` on PostgreSQL, made before a month's first write.

SQLite has no partitions; there it is one table.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import Final

from sqlalchemy import Table, text

from clarity_pipeline.store.database import Database

_PARTITION_LOCK: Final = 0x636C617269747932
"""Any number that nobody else locks on: "clarity2" in ASCII."""


def partition_name(table_name: str, month: date) -> str:
    """The partition that holds the rows of a month: `clarity_daily_metrics_2026_11`."""
    return f"{table_name}_{month:%Y_%m}"


def ensure_partitions(database: Database, partitioned: Table, *, days: Collection[date]) -> None:
    """Make the partitions of these days' months where they are missing.

    In a transaction of its own, because making one locks the whole table for a moment; under a
    lock, because `IF NOT EXISTS` alone is no protection against somebody doing the same.
    """
    if database.dialect_name != "postgresql":
        return
    months = {day.replace(day=1) for day in days} - database.months_with_partition
    if not months:
        return
    with database.transaction() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _PARTITION_LOCK})
        for month in sorted(months):
            name = partition_name(partitioned.name, month)
            connection.exec_driver_sql(
                f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {partitioned.name} "
                f"FOR VALUES FROM ('{month}') TO ('{_next_month(month)}')"
            )
    database.months_with_partition.update(months)


def _next_month(month: date) -> date:
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
