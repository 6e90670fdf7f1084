"""The list of all businesses, sorted and cut by the server.

Of all businesses only their state and what they are sorted by is gathered; the rest of a row only
for those that are shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

from clarity_pipeline.domain.agency_overview import (
    SERIES_LENGTH,
    SESSIONS_LENGTH,
    AgencyOverview,
    OverviewRow,
    OverviewSort,
    is_searched,
    ranked,
    state_rank,
)
from clarity_pipeline.domain.connections import ConnectionState
from clarity_pipeline.domain.errors import InvalidRequest
from clarity_pipeline.domain.insight import Window, check_limit, latest_window
from clarity_pipeline.domain.quota import QuotaState, QuotaUsage
from clarity_pipeline.operations.connection_status import connection_states
from clarity_pipeline.store import connections, quota_ledger, window_sums
from clarity_pipeline.store.connections import ConnectionOutline
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.window_sums import RageClickDay

USUAL_ROWS: Final = 50


def agency_overview(
    database: Database,
    *,
    now: datetime,
    overview_default: bool,
    search: str = "",
    states: Collection[ConnectionState] = (),
    sort: OverviewSort = OverviewSort.STATE,
    descending: bool = False,
    offset: int = 0,
    limit: int = USUAL_ROWS,
) -> AgencyOverview:
    """A page of the businesses that the search leaves and that are in one of the states, if any.

    `overview_default` is the setting that businesses without an override follow. Businesses for
    which the sort key is unknown come last either way. Raises InvalidRequest for a limit below 1
    or an offset below 0.
    """
    check_limit(limit)
    if offset < 0:
        raise InvalidRequest(f"{offset} is no offset; ask for 0 or more.")
    everybody = connections.list_outlines(database)
    usage = quota_ledger.quota_usage(database, now=now)
    searched = [record for record in everybody if is_searched(record, search)]
    state_of = connection_states(
        database, searched, usage=usage, now=now, overview_default=overview_default
    )
    found = [
        record for record in searched if not states or state_of[record.business_id] in set(states)
    ]
    keys = _sort_keys(database, sort, found, state_of=state_of, usage=usage, now=now)
    shown = ranked(found, keys, descending=descending)[offset : offset + limit]
    counts = Counter(state_of.values())
    return AgencyOverview(
        rows=_rows(database, shown, state_of=state_of, now=now, overview_default=overview_default),
        total=len(everybody),
        matching=len(found),
        state_counts={state: counts[state] for state in ConnectionState if counts[state]},
        series_window=latest_window(now, length=SERIES_LENGTH),
        sessions_window=latest_window(now, length=SESSIONS_LENGTH),
    )


def _sort_keys(
    database: Database,
    sort: OverviewSort,
    found: Sequence[ConnectionOutline],
    *,
    state_of: Mapping[str, ConnectionState],
    usage: Mapping[str, QuotaUsage],
    now: datetime,
) -> Mapping[str, Any]:
    """What each business is sorted by, by id; None or absent where it is unknown."""
    match sort:
        case OverviewSort.NAME:
            return {record.business_id: record.name.casefold() for record in found}
        case OverviewSort.STATE:
            return {
                record.business_id: state_rank(state_of[record.business_id]) for record in found
            }
        case OverviewSort.LAST_SYNCED:
            return {record.business_id: record.last_synced_at for record in found}
        case OverviewSort.FRESHNESS:
            ids = [record.business_id for record in found]
            return window_sums.latest_days(database, business_ids=ids)
        case OverviewSort.QUOTA:
            return {
                record.business_id: usage[record.project_id].used
                if record.project_id in usage
                else 0
                for record in found
                if record.project_id is not None
            }
        case OverviewSort.RAGE_CLICK_RATE:
            window = latest_window(now, length=SERIES_LENGTH)
            sums = window_sums.sum_rage_clicks(database, window=window)
            return {business_id: _rate(*of_business) for business_id, of_business in sums.items()}
        case OverviewSort.SESSIONS:
            window = latest_window(now, length=SESSIONS_LENGTH)
            return window_sums.sum_sessions(database, window=window)


def _rows(
    database: Database,
    shown: Sequence[ConnectionOutline],
    *,
    state_of: Mapping[str, ConnectionState],
    now: datetime,
    overview_default: bool,
) -> tuple[OverviewRow, ...]:
    ids = [record.business_id for record in shown]
    quotas = quota_ledger.quota_states(
        database,
        project_ids={record.project_id for record in shown if record.project_id},
        now=now,
        overview_default=overview_default,
    )
    latest_days = window_sums.latest_days(database, business_ids=ids)
    series = latest_window(now, length=SERIES_LENGTH)
    days: dict[str, list[RageClickDay]] = {business_id: [] for business_id in ids}
    for day in window_sums.read_rage_click_days(database, business_ids=ids, window=series):
        days[day.business_id].append(day)
    series_days = series.days()
    recent = latest_window(now, length=SESSIONS_LENGTH)
    return tuple(
        _row(
            record,
            state=state_of[record.business_id],
            quota=quotas[record.project_id] if record.project_id else None,
            latest_day=latest_days.get(record.business_id),
            days=days[record.business_id],
            series_days=series_days,
            recent=recent,
        )
        for record in shown
    )


def _row(
    record: ConnectionOutline,
    *,
    state: ConnectionState,
    quota: QuotaState | None,
    latest_day: date | None,
    days: Sequence[RageClickDay],
    series_days: Sequence[date],
    recent: Window,
) -> OverviewRow:
    rate_of_day = {day.day: _rate(day.rage_clicks, day.rage_click_sessions) for day in days}
    return OverviewRow(
        business_id=record.business_id,
        name=record.name,
        state=state,
        is_connected=record.is_connected,
        last_synced_at=record.last_synced_at,
        latest_day=latest_day,
        quota_used=quota and quota.used,
        quota_kept=quota and quota.kept,
        quota_free=quota and quota.free,
        rate_limited=quota is not None and quota.rate_limited,
        rage_click_rate=_rate(
            _total(day.rage_clicks for day in days), sum(day.rage_click_sessions for day in days)
        ),
        rage_click_rates=tuple(rate_of_day.get(day) for day in series_days),
        sessions=_total(day.sessions for day in days if day.day >= recent.start),
    )


def _total(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _rate(events: int | None, sessions: int) -> float | None:
    return None if events is None or not sessions else events / sessions
