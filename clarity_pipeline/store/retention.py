"""Emptying what is older than it is kept, a bounded batch per transaction.

Rows stay where they are: a removed payload is the empty JSON object, a removed body no bytes at
all. Neither can be had otherwise: a row is made of at least one raw row, and no frame of zstd is
empty. `updated_at` stays too, for no value of the row has changed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, LargeBinary, Text, cast, func, select, update

from clarity_pipeline.store.businesses import lock_businesses
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import daily_metrics, daily_slices, raw_exports


@dataclass(frozen=True, slots=True)
class Emptied:
    """Rows that were emptied, and the bytes that what was in them took up where it was stored."""

    rows: int
    stored_bytes: int


def days_with_slices(database: Database, *, before: date) -> list[date]:
    """The days before this one that have any slice, oldest first."""
    statement = (
        select(daily_slices.c.date)
        .where(daily_slices.c.date < before)
        .distinct()
        .order_by(daily_slices.c.date)
    )
    with database.reading() as connection:
        return list(connection.scalars(statement))


def slices_with_payload(database: Database, day: date) -> dict[str, list[str]]:
    """The dimension sets, by business, whose rows of a day have their raw payload.

    One row speaks for its slice, since slices are written and emptied as a whole; looking at all
    rows would read the table from end to end each night.
    """
    payload_of_any_row = (
        select(cast(daily_metrics.c.raw_payload, Text))
        .where(
            daily_metrics.c.business_id == daily_slices.c.business_id,
            daily_metrics.c.date == day,
            daily_metrics.c.dimension_set == daily_slices.c.dimension_set,
        )
        .limit(1)
        .scalar_subquery()
    )
    statement = (
        select(daily_slices.c.business_id, daily_slices.c.dimension_set)
        .where(daily_slices.c.date == day, payload_of_any_row != "[]")
        .order_by(daily_slices.c.business_id, daily_slices.c.dimension_set)
    )
    found: dict[str, list[str]] = {}
    with database.reading() as connection:
        for row in connection.execute(statement):
            found.setdefault(row.business_id, []).append(row.dimension_set)
    return found


def measure_payloads(
    database: Database, *, business_id: str, day: date, dimension_sets: Collection[str]
) -> Emptied:
    """What `empty_payloads` would empty."""
    with database.reading() as connection:
        return _measured(
            connection.execute(
                _payload_sizes(database, _rows_of(business_id, day, dimension_sets))
            ).one()
        )


def empty_payloads(
    database: Database, *, business_id: str, day: date, dimension_sets: Collection[str]
) -> Emptied:
    """Empty the raw payload of these slices, in one transaction. Raises UnknownBusiness."""
    rows = _rows_of(business_id, day, dimension_sets)
    with database.transaction() as connection:
        # A slice that is replaced at this moment would otherwise end up half emptied.
        lock_businesses(connection, [business_id])
        emptied = _measured(connection.execute(_payload_sizes(database, rows)).one())
        connection.execute(update(daily_metrics).where(*rows).values(raw_payload=[]))
    return emptied


def days_with_bodies(database: Database, *, before: date) -> list[date]:
    """The days before this one for which a judged reply still has its body, oldest first."""
    statement = (
        select(raw_exports.c.date)
        .where(
            raw_exports.c.date < before,
            raw_exports.c.stored_bytes > 0,
            raw_exports.c.verdict.is_not(None),
        )
        .distinct()
        .order_by(raw_exports.c.date)
    )
    with database.reading() as connection:
        return list(connection.scalars(statement))


def exports_built_from(database: Database, day: date) -> Mapping[tuple[str, str], int]:
    """Which export each (business, dimension set) of a day was built from."""
    statement = select(
        daily_slices.c.business_id, daily_slices.c.dimension_set, daily_slices.c.raw_export_id
    ).where(daily_slices.c.date == day)
    with database.reading() as connection:
        return {
            (row.business_id, row.dimension_set): row.raw_export_id
            for row in connection.execute(statement)
        }


def empty_bodies(database: Database, export_ids: Collection[int]) -> None:
    """Empty the bodies of these replies, in one transaction; all else of them stays."""
    with database.transaction() as connection:
        connection.execute(
            update(raw_exports)
            .where(raw_exports.c.id.in_(export_ids))
            .values(body_zstd=b"", stored_bytes=0)
        )


def _rows_of(
    business_id: str, day: date, dimension_sets: Collection[str]
) -> tuple[ColumnElement[bool], ...]:
    return (
        daily_metrics.c.business_id == business_id,
        daily_metrics.c.date == day,
        daily_metrics.c.dimension_set.in_(dimension_sets),
    )


def _payload_sizes(database: Database, rows: tuple[ColumnElement[bool], ...]) -> Any:
    # Compressed and out of line on PostgreSQL; measuring must not read it all.
    size = (
        func.pg_column_size(daily_metrics.c.raw_payload)
        if database.dialect_name == "postgresql"
        else func.length(cast(daily_metrics.c.raw_payload, LargeBinary))
    )
    return select(func.count(), func.coalesce(func.sum(size), 0)).where(*rows)


def _measured(row: Any) -> Emptied:
    rows, stored_bytes = row
    return Emptied(rows=rows, stored_bytes=int(stored_bytes))
