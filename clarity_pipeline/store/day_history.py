"""What the store knows of many days at once: one query each, however many days and businesses."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    DateTime,
    case,
    exists,
    func,
    or_,
    select,
)
from sqlalchemy import cast as sql_cast

from clarity_pipeline.domain.exports import Verdict
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import daily_slices, raw_exports, sync_jobs

BusinessDay = tuple[str, date]
"""(business id, day)"""


@dataclass(frozen=True, slots=True)
class LandedSlice:
    """An accepted reply of a day, without its body; instants are UTC."""

    id: int
    business_id: str
    day: date
    dimension_set: str
    num_of_days: int
    verdict: Verdict
    requested_at: datetime
    window_end: datetime
    truncated: bool


@dataclass(frozen=True, slots=True)
class BuiltSlice:
    """A slice in `clarity_daily_metrics`, as far as its history is concerned."""

    business_id: str
    day: date
    dimension_set: str
    window_end: datetime
    truncated: bool
    is_derived: bool


@dataclass(frozen=True, slots=True)
class LateSlice:
    """A slice, and when the last of the replies that it is made of was there (UTC)."""

    business_id: str
    day: date
    dimension_set: str
    landed_at: datetime


@dataclass(frozen=True, slots=True)
class PastJob:
    """The most telling sync job of a business-day."""

    status: JobStatus
    dimension_sets: frozenset[str]
    error_code: str | None
    error_message: str | None


def unbuilt_replies(
    database: Database, *, start: date, end: date, business_ids: Collection[str]
) -> list[LandedSlice]:
    """The accepted replies of which there is no slice, of the days from `start` to `end`.

    Both days are included. Nearly all replies have one, so few of two years are left.
    """
    table, slices = raw_exports.c, daily_slices.c
    is_built = exists().where(
        slices.business_id == table.business_id,
        slices.date == table.date,
        slices.dimension_set == table.dimension_set,
    )
    statement = select(
        table.id,
        table.business_id,
        table.date,
        table.dimension_set,
        table.num_of_days,
        table.requested_at,
        table.window_end,
        table.truncated,
    ).where(
        table.date.between(start, end),
        table.business_id.in_(set(business_ids)),
        table.verdict == Verdict.ACCEPTED.value,
        ~is_built,
    )
    with database.reading() as connection:
        return [
            LandedSlice(
                id=row.id,
                business_id=row.business_id,
                day=row.date,
                dimension_set=row.dimension_set,
                num_of_days=row.num_of_days,
                verdict=Verdict.ACCEPTED,
                requested_at=row.requested_at,
                window_end=row.window_end,
                truncated=bool(row.truncated),
            )
            for row in connection.execute(statement).all()
        ]


def built_slices(
    database: Database, *, start: date, end: date, business_ids: Collection[str]
) -> list[BuiltSlice]:
    """The slices that are in `clarity_daily_metrics`, of the same days."""
    table = daily_slices.c
    statement = select(
        table.business_id,
        table.date,
        table.dimension_set,
        table.window_end,
        table.truncated,
        table.subtracted_export_id,
    ).where(table.date.between(start, end), table.business_id.in_(set(business_ids)))
    with database.reading() as connection:
        return [
            BuiltSlice(
                business_id, day, dimension_set, window_end, truncated, subtracted is not None
            )
            for (
                business_id,
                day,
                dimension_set,
                window_end,
                truncated,
                subtracted,
            ) in connection.execute(statement).all()
        ]


def late_slices(
    database: Database,
    *,
    start: date,
    end: date,
    business_ids: Collection[str],
    dimension_sets: Collection[str],
) -> list[LateSlice]:
    """The slices of these days that landed after the day that follows theirs (UTC).

    A derived one landed with the later of its two replies. That retention has removed a body does
    not matter: when it came stays on record.
    """
    table, subtracted = daily_slices.c, raw_exports.alias()
    with database.reading() as connection:
        too_late = _midnight(connection, table.date, days_later=2)
        statement = (
            select(
                table.business_id,
                table.date,
                table.dimension_set,
                raw_exports.c.received_at,
                subtracted.c.received_at.label("subtracted_received_at"),
            )
            .join(raw_exports, raw_exports.c.id == table.raw_export_id)
            .outerjoin(subtracted, subtracted.c.id == table.subtracted_export_id)
            .where(
                table.date.between(start, end),
                table.business_id.in_(set(business_ids)),
                table.dimension_set.in_(set(dimension_sets)),
                or_(raw_exports.c.received_at >= too_late, subtracted.c.received_at >= too_late),
            )
        )
        return [
            LateSlice(
                business_id=row.business_id,
                day=row.date,
                dimension_set=row.dimension_set,
                landed_at=max(row.received_at, row.subtracted_received_at or row.received_at),
            )
            for row in connection.execute(statement).all()
        ]


def _midnight(
    connection: Connection, day: ColumnElement[date], *, days_later: int
) -> ColumnElement[Any]:
    """The beginning of a UTC day that many days later, to compare instants with."""
    if connection.dialect.name == "sqlite":
        # A day is the beginning of the text of each of its instants.
        return func.date(day, f"+{days_later} days")
    return func.timezone("UTC", sql_cast(day + days_later, DateTime))


def telling_jobs(
    database: Database, *, start: date, end: date, business_ids: Collection[str]
) -> dict[BusinessDay, PastJob]:
    """The newest job of each business-day that is no replay.

    One that was skipped counts only where there is no other: it came too late to ask Clarity,
    and would hide why the one before it had failed.
    """
    table = sync_jobs.c
    asked = case((table.status != JobStatus.SKIPPED.value, table.id))
    newest = (
        select(func.coalesce(func.max(asked), func.max(table.id)))
        .where(
            table.date.between(start, end),
            table.business_id.in_(set(business_ids)),
            table.trigger != Trigger.REPLAY.value,
        )
        .group_by(table.business_id, table.date)
    )
    statement = select(
        table.business_id,
        table.date,
        table.status,
        table.combos,
        table.error_code,
        table.error_message,
    ).where(table.id.in_(newest))
    with database.reading() as connection:
        return {
            (row.business_id, row.date): PastJob(
                status=JobStatus(row.status),
                dimension_sets=frozenset(row.combos or ()),
                error_code=row.error_code,
                error_message=row.error_message,
            )
            for row in connection.execute(statement).all()
        }


def scheduled_days(database: Database, *, start: date, end: date) -> set[date]:
    """The days that the schedule has collected for anybody."""
    table = sync_jobs.c
    # From one day that has jobs to the next, by a look into the index: a thousand businesses have
    # a thousand jobs of each.
    days = (
        select(func.min(table.date).label("day"))
        .where(table.date.between(start, end))
        .cte("days", recursive=True)
    )
    of_step = sync_jobs.alias()
    next_day = (
        select(func.min(of_step.c.date))
        .where(of_step.c.date > days.c.day, of_step.c.date <= end)
        .scalar_subquery()
    )
    days = days.union_all(select(next_day).where(days.c.day.is_not(None)))
    was_scheduled = exists().where(
        table.date == days.c.day, table.trigger == Trigger.SCHEDULE.value
    )
    with database.reading() as connection:
        return set(connection.scalars(select(days.c.day).where(was_scheduled)))
