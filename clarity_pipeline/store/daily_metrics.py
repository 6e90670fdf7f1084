"""The normalised rows of a day, and the state of each slice of it.

A slice (business, day, dimension set) is replaced as a whole, together with its row in
`clarity_daily_slices`, which says that there is data even where there are no rows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
from sqlalchemy import Connection, Row, func, select

from clarity_pipeline.domain.dimensions import DEFAULT_COMBOS, DIMENSION_COLUMNS
from clarity_pipeline.domain.metrics import CLICK_BLOCK_COLUMNS, COUNT_COLUMNS, METRIC_COLUMNS
from clarity_pipeline.store.bulk import Replacement, WriteCounts, replace_rows, upsert_into
from clarity_pipeline.store.businesses import lock_businesses
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.partitions import ensure_partitions
from clarity_pipeline.store.schema import daily_metrics, daily_slices

if TYPE_CHECKING:
    from clarity_pipeline.domain.normalise import NormalisedSlice

__all__ = [
    "COLUMNS_BESIDE_PAYLOAD",
    "SliceState",
    "WriteCounts",
    "list_slices",
    "read_metrics",
    "replace_slices",
    "sum_events",
]


@dataclass(frozen=True, slots=True)
class SliceState:
    """What is stored of a slice, and what its normalisation reported; instants are UTC."""

    business_id: str
    day: date
    dimension_set: str
    raw_export_id: int
    subtracted_export_id: int | None
    built_from: str
    rows: int
    raw_rows: int
    truncated: bool
    window_start: datetime
    window_end: datetime
    row_counts: dict[str, int]
    unknown_blocks: tuple[str, ...]
    unknown_fields: tuple[str, ...]
    missing_blocks: tuple[str, ...]
    merged_tuples: int
    unreadable_values: int
    negative_differences: int
    updated_at: datetime

    @property
    def is_derived(self) -> bool:
        """Whether the day was missed and recovered as a longer reply less a shorter one."""
        return self.subtracted_export_id is not None


def replace_slices(
    database: Database, slices: Sequence[NormalisedSlice], *, now: datetime
) -> WriteCounts:
    """Put these slices in place of what is stored, all of them or none.

    Rows that are gone are removed, and a row is written only if a value of it changed; the raw
    payload, the window and the export it came from are such values. Raises UnknownBusiness.
    """
    if not slices:
        return WriteCounts()
    ensure_partitions(database, daily_metrics, days={item.day for item in slices})
    with database.transaction() as connection:
        lock_businesses(connection, {item.business_id for item in slices})
        _save_states(connection, slices, now=now)
        return replace_rows(
            connection, daily_metrics, [_replacement(item, now=now) for item in slices]
        )


def list_slices(
    database: Database,
    *,
    start: date,
    end: date,
    business_ids: Collection[str] | None = None,
) -> list[SliceState]:
    """The slices of the days from `start` to `end`, both included."""
    statement = (
        select(daily_slices)
        .where(daily_slices.c.date.between(start, end))
        .order_by(daily_slices.c.business_id, daily_slices.c.date, daily_slices.c.dimension_set)
    )
    if business_ids is not None:
        statement = statement.where(daily_slices.c.business_id.in_(set(business_ids)))
    with database.reading() as connection:
        return [_state(row) for row in connection.execute(statement)]


COLUMNS_BESIDE_PAYLOAD: Final = ("dimension_hash", *DIMENSION_COLUMNS, *METRIC_COLUMNS)


def read_metrics(
    database: Database,
    *,
    business_id: str,
    day: date,
    dimension_set: str,
    columns: Sequence[str] = COLUMNS_BESIDE_PAYLOAD,
) -> pd.DataFrame:
    """The rows of a slice by `dimension_hash`: dimensions and metrics, or those of `columns`.

    Dimensions are text or None, counts Int64, ratios Float64, as in NormalisedSlice.frame.
    """
    statement = (
        select(*(daily_metrics.c[name] for name in columns))
        .where(
            daily_metrics.c.business_id == business_id,
            daily_metrics.c.date == day,
            daily_metrics.c.dimension_set == dimension_set,
        )
        .order_by(daily_metrics.c.dimension_hash)
    )
    with database.reading() as connection:
        rows = connection.execute(statement).all()
    of_columns = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    return pd.DataFrame(
        {
            name: _frame_column(name, list(values))
            for name, values in zip(columns, of_columns, strict=True)
        },
        index=pd.RangeIndex(len(rows)),
    )


def sum_events(
    database: Database, *, day: date, business_ids: Collection[str]
) -> dict[tuple[str, str], dict[str, int | None]]:
    """The number of events of each slice of a day, by business and dimension set, then by column.

    None where no row of the slice says anything of such an event. The businesses are needed to
    find the rows: without them the index is of no use.
    """
    table = daily_metrics.c
    statement = (
        select(
            table.business_id,
            table.dimension_set,
            *(func.sum(table[name]).label(name) for name in CLICK_BLOCK_COLUMNS.values()),
        )
        .where(
            table.business_id.in_(set(business_ids)),
            table.dimension_set.in_([combo.dimension_set for combo in DEFAULT_COMBOS]),
            table.date == day,
        )
        .group_by(table.business_id, table.dimension_set)
    )
    with database.reading() as connection:
        return {
            (row.business_id, row.dimension_set): {
                name: _whole(getattr(row, name)) for name in CLICK_BLOCK_COLUMNS.values()
            }
            for row in connection.execute(statement)
        }


def _whole(total: Any) -> int | None:
    """PostgreSQL adds bigints up to a numeric, which arrives as a Decimal."""
    return None if total is None else int(total)


def _frame_column(name: str, values: list[Any]) -> object:
    if name in METRIC_COLUMNS:
        return pd.array(values, dtype="Int64" if name in COUNT_COLUMNS else "Float64")
    # Of a plain array or list pandas would make its own text type, which has no None.
    return pd.Index(values, dtype=object)


def _save_states(
    connection: Connection, slices: Sequence[NormalisedSlice], *, now: datetime
) -> None:
    connection.execute(
        upsert_into(daily_slices, connection.dialect.name),
        [_state_values(item, now=now) for item in slices],
    )


def _state_values(item: NormalisedSlice, *, now: datetime) -> dict[str, object]:
    report = item.report
    return {
        "business_id": item.business_id,
        "date": item.day,
        "dimension_set": item.dimension_set,
        "raw_export_id": item.raw_export_id,
        "subtracted_export_id": item.subtracted_export_id,
        "built_from": item.built_from,
        "rows": report.rows,
        "raw_rows": report.raw_rows,
        "truncated": report.truncated,
        "window_start": item.window_start,
        "window_end": item.window_end,
        "row_counts": dict(report.row_counts),
        "unknown_blocks": list(report.unknown_blocks),
        "unknown_fields": list(report.unknown_fields),
        "missing_blocks": list(report.missing_blocks),
        "merged_tuples": report.merged_tuples,
        "unreadable_values": report.unreadable_values,
        "negative_differences": report.negative_differences,
        "updated_at": now,
    }


def _replacement(item: NormalisedSlice, *, now: datetime) -> Replacement:
    frame = item.frame
    return Replacement(
        scope={
            "business_id": item.business_id,
            "date": item.day,
            "dimension_set": item.dimension_set,
        },
        key="dimension_hash",
        constants={
            "window_start": item.window_start,
            "window_end": item.window_end,
            "raw_export_id": item.raw_export_id,
            "updated_at": now,
        },
        columns={
            str(name): _plain_values(frame[name])
            for name in ("dimension_hash", *DIMENSION_COLUMNS, *METRIC_COLUMNS, "raw_payload")
        },
    )


def _plain_values(series: pd.Series[Any]) -> list[Any]:
    """Python values with None for everything that pandas regards as missing."""
    if series.dtype == object:
        return series.tolist()
    column: Any = series  # the type stubs of pandas do not allow None here
    return column.to_numpy(dtype=object, na_value=None).tolist()


def _state(row: Row[Any]) -> SliceState:
    return SliceState(
        business_id=row.business_id,
        day=row.date,
        dimension_set=row.dimension_set,
        raw_export_id=row.raw_export_id,
        subtracted_export_id=row.subtracted_export_id,
        built_from=row.built_from,
        rows=row.rows,
        raw_rows=row.raw_rows,
        truncated=row.truncated,
        window_start=row.window_start,
        window_end=row.window_end,
        row_counts=row.row_counts,
        unknown_blocks=tuple(row.unknown_blocks),
        unknown_fields=tuple(row.unknown_fields),
        missing_blocks=tuple(row.missing_blocks),
        merged_tuples=row.merged_tuples,
        unreadable_values=row.unreadable_values,
        negative_differences=row.negative_differences,
        updated_at=row.updated_at,
    )
