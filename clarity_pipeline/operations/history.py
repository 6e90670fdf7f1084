"""The history of businesses, day by day, gathered from the store in bulk."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from clarity_pipeline.domain.collection import exports_of_record
from clarity_pipeline.domain.day_checks import (
    DayCheck,
    latest_day_has_arrived,
    no_day_is_missing,
)
from clarity_pipeline.domain.day_history import (
    BusinessFacts,
    DayAttempt,
    DayHistory,
    StandingSlice,
    judge_day,
)
from clarity_pipeline.domain.days import day_collected_at, days_between, due_at
from clarity_pipeline.domain.errors import NoLongerCollectable
from clarity_pipeline.operations.collect_day import first_day_of
from clarity_pipeline.store import connections, day_history
from clarity_pipeline.store.connections import ConnectionRecord
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.day_history import BusinessDay, LandedSlice, PastJob

WATCHED_DAYS: Final = 30
"""How far back a missing day is worth a red light; `clarity gaps` looks as far as it is asked."""

BUSINESSES_AT_ONCE: Final = 25
"""Per round of queries: a year of 25 businesses is 36,500 slices, which fit into memory."""


@dataclass(frozen=True, slots=True)
class BusinessHistory:
    """Every day of a window in which the business was known, oldest first."""

    business_id: str
    name: str
    is_enabled: bool
    days: tuple[DayHistory, ...]


def iter_histories(
    database: Database,
    *,
    start: date | None,
    end: date,
    now: datetime,
    recovery: bool,
    business_ids: Collection[str] | None = None,
) -> Iterator[BusinessHistory]:
    """The histories of all businesses, or those named, by id, up to `end`.

    They begin at `start` or with the business's first day, whichever is later; without a `start`
    with the first day of the business. Raises UnknownBusiness, or InvalidDay when `start` is after
    `end`.
    """
    if start is not None:
        days_between(start, end)
    records = connections.list_connections(database, business_ids)
    for first in range(0, len(records), BUSINESSES_AT_ONCE):
        yield from _histories(
            database,
            records[first : first + BUSINESSES_AT_ONCE],
            start=start,
            end=end,
            now=now,
            recovery=recovery,
        )


def judge_recent_days(database: Database, *, now: datetime, recovery: bool) -> DayCheck:
    """Whether any enabled business lacks one of the latest days, or a part of one."""
    yesterday = day_collected_at(now)
    histories = iter_histories(
        database,
        start=yesterday - timedelta(days=WATCHED_DAYS - 1),
        end=yesterday,
        now=now,
        recovery=recovery,
    )
    return no_day_is_missing(
        {history.business_id: history.days for history in histories if history.is_enabled},
        days=WATCHED_DAYS,
    )


def judge_latest_day(database: Database, *, now: datetime, recovery: bool) -> DayCheck:
    """Whether the latest day that is due has arrived, for every enabled business."""
    yesterday = day_collected_at(now)
    day = yesterday if now >= due_at(yesterday) else yesterday - timedelta(days=1)
    histories = iter_histories(database, start=day, end=day, now=now, recovery=recovery)
    return latest_day_has_arrived(
        {
            history.business_id: history.days[0]
            for history in histories
            if history.is_enabled and history.days
        },
        day=day,
    )


def _histories(
    database: Database,
    records: Sequence[ConnectionRecord],
    *,
    start: date | None,
    end: date,
    now: datetime,
    recovery: bool,
) -> Iterator[BusinessHistory]:
    first = start or min(first_day_of(record) for record in records)
    ids = [record.business_id for record in records]
    standing = _standing_slices(database, start=first, end=end, business_ids=ids)
    jobs = day_history.telling_jobs(database, start=first, end=end, business_ids=ids)
    scheduled = day_history.scheduled_days(database, start=first, end=end)
    for record in records:
        facts = _facts(record)
        known_from = max(first, facts.first_day)
        days = days_between(known_from, end) if known_from <= end else []
        yield BusinessHistory(
            business_id=record.business_id,
            name=record.name,
            is_enabled=record.is_enabled,
            days=tuple(
                judge_day(
                    day,
                    business=facts,
                    standing=standing.get((record.business_id, day), ()),
                    attempt=_attempt(jobs.get((record.business_id, day))),
                    left_out=day in scheduled,
                    now=now,
                    recovery=recovery,
                )
                for day in days
            ),
        )


def _standing_slices(
    database: Database, *, start: date, end: date, business_ids: Collection[str]
) -> dict[BusinessDay, list[StandingSlice]]:
    replies: dict[date, list[LandedSlice]] = {}
    for reply in day_history.unbuilt_replies(
        database, start=start, end=end, business_ids=business_ids
    ):
        replies.setdefault(reply.day, []).append(reply)
    standing: dict[BusinessDay, list[StandingSlice]] = {}
    for day, landed in replies.items():
        for (business_id, dimension_set), reply in exports_of_record(landed).items():
            standing.setdefault((business_id, day), []).append(
                StandingSlice(
                    dimension_set=dimension_set,
                    window_end=reply.window_end,
                    truncated=reply.truncated,
                    is_derived=False,
                    is_built=False,
                )
            )
    for item in day_history.built_slices(database, start=start, end=end, business_ids=business_ids):
        standing.setdefault((item.business_id, item.day), []).append(
            StandingSlice(
                dimension_set=item.dimension_set,
                window_end=item.window_end,
                truncated=item.truncated,
                is_derived=item.is_derived,
                is_built=True,
            )
        )
    return standing


def _facts(record: ConnectionRecord) -> BusinessFacts:
    return BusinessFacts(
        is_connected=record.is_connected,
        connected_at=record.created_at,
        first_day=first_day_of(record),
        off_since=record.disabled_at if record.is_connected else None,
        off_reason=record.disabled_reason,
    )


def _attempt(job: PastJob | None) -> DayAttempt | None:
    if job is None:
        return None
    # "Clarity no longer answers for it" is said of a day again by the word for it.
    came_too_late = job.error_code == NoLongerCollectable.code
    return DayAttempt(
        status=job.status,
        dimension_sets=job.dimension_sets,
        message=None if came_too_late else job.error_message,
    )
