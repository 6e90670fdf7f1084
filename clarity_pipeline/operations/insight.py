"""What a panel shows of one business's data, gathered from the store.

What is stored is shown whether or not the business is connected now: history stays after a
disconnect. Every function here raises UnknownBusiness, and InvalidDay for a window that reaches
into a day that is not over.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from clarity_pipeline.domain import insight
from clarity_pipeline.domain.day_history import DayHistory
from clarity_pipeline.domain.dimensions import URL_DEVICE
from clarity_pipeline.domain.insight import (
    Breakdown,
    BreakdownBy,
    BusinessSeries,
    CalendarDay,
    PageEvent,
    PageRanking,
    PastSync,
    PastSyncs,
    Window,
    WorstPages,
)
from clarity_pipeline.domain.sync_jobs import JobStatus
from clarity_pipeline.operations.history import iter_histories
from clarity_pipeline.store import sync_jobs, window_sums
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.sync_jobs import SyncJob

USUAL_PAGES: Final = 20
USUAL_GROUPS: Final = 10
USUAL_SYNCS: Final = 50


def business_series(
    database: Database, business_id: str, *, window: Window, now: datetime, recovery: bool
) -> BusinessSeries:
    """The ten values of every day of a window, of the whole, and of the window before.

    `recovery` is the setting, on which it depends whether a missing day is lost yet.
    """
    window.check_is_over(now=now)
    both = Window(window.before().start, window.end)
    return insight.business_series(
        window_sums.read_business_days(database, business_id=business_id, window=both),
        window=window,
        histories=_histories(database, business_id, window=window, now=now, recovery=recovery),
    )


def day_calendar(
    database: Database, business_id: str, *, window: Window, now: datetime, recovery: bool
) -> list[CalendarDay]:
    """Every day of a window in a word, oldest first."""
    window.check_is_over(now=now)
    return insight.calendar(
        window, _histories(database, business_id, window=window, now=now, recovery=recovery)
    )


def worst_pages(
    database: Database,
    business_id: str,
    *,
    window: Window,
    by: PageEvent,
    now: datetime,
    ranking: PageRanking = PageRanking.EVENTS,
    min_sessions: int = 0,
    limit: int = USUAL_PAGES,
) -> WorstPages:
    """The pages of a window that have most of an event, or the highest rate of it.

    Raises InvalidRequest for a limit below 1.
    """
    window.check_is_over(now=now)
    events = window_sums.sum_page_events(database, business_id=business_id, window=window, by=by)
    coverage = window_sums.slice_coverage(
        database, business_id=business_id, dimension_set=URL_DEVICE.dimension_set, window=window
    )
    pages = window_sums.read_pages(
        database,
        business_id=business_id,
        window=window,
        url_hashes=insight.contenders(
            events, ranking=ranking, min_sessions=min_sessions, limit=limit
        ),
    )
    return WorstPages(
        window=window,
        by=by,
        ranking=ranking,
        pages=insight.rank_pages(
            pages, by=by, ranking=ranking, min_sessions=min_sessions, limit=limit
        ),
        pages_with_events=len(events),
        days_with_data=coverage.days_with_data,
        truncated=coverage.truncated,
    )


def breakdown(
    database: Database,
    business_id: str,
    *,
    window: Window,
    by: BreakdownBy,
    now: datetime,
    limit: int = USUAL_GROUPS,
) -> Breakdown:
    """A window by device, source, country, campaign or channel, from the slice that knows it.

    Raises InvalidRequest for a limit below 1.
    """
    window.check_is_over(now=now)
    return insight.breakdown(
        window_sums.sum_by_dimension(database, business_id=business_id, window=window, by=by),
        window=window,
        by=by,
        limit=limit,
        coverage=window_sums.slice_coverage(
            database,
            business_id=business_id,
            dimension_set=by.combo.dimension_set,
            window=window,
        ),
    )


def past_syncs(
    database: Database,
    business_id: str,
    *,
    status: JobStatus | None = None,
    before_id: int | None = None,
    limit: int = USUAL_SYNCS,
) -> PastSyncs:
    """The sync jobs of a business, newest first, from the one before `before_id` on.

    Raises UnknownBusiness, or InvalidRequest for a limit below 1.
    """
    insight.check_limit(limit)
    jobs = sync_jobs.jobs_before(
        database, business_id=business_id, status=status, before_id=before_id, limit=limit + 1
    )
    shown = jobs[:limit]
    return PastSyncs(
        syncs=tuple(_past_sync(job) for job in shown),
        next_before_id=shown[-1].id if len(jobs) > limit else None,
    )


def _past_sync(job: SyncJob) -> PastSync:
    return PastSync(
        id=job.id,
        day=job.day,
        trigger=job.trigger,
        status=job.status,
        started_at=job.started_at,
        finished_at=job.finished_at,
        duration_seconds=(
            (job.finished_at - job.started_at).total_seconds() if job.finished_at else None
        ),
        calls_used=job.calls_used,
        rows_written=job.rows_written,
        error_code=job.error_code,
        error_message=job.error_message,
    )


def _histories(
    database: Database, business_id: str, *, window: Window, now: datetime, recovery: bool
) -> Sequence[DayHistory]:
    (history,) = iter_histories(
        database,
        start=window.start,
        end=window.end,
        now=now,
        recovery=recovery,
        business_ids=[business_id],
    )
    return history.days
