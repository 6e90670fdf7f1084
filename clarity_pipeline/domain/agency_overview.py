"""All businesses of the agency in one list: what a row says, and how the list is cut and sorted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final, Protocol, TypeVar

from clarity_pipeline.domain.connections import ConnectionState
from clarity_pipeline.domain.insight import Window

SERIES_LENGTH: Final = 30
"""Days of the small chart of a row, and of the rate beside it."""

SESSIONS_LENGTH: Final = 7
"""Days of the sessions of a row."""

_MOST_PRESSING_FIRST: Final = (
    ConnectionState.DISABLED_AUTH,
    ConnectionState.FAILING,
    ConnectionState.LATE,
    ConnectionState.PARTIAL,
    ConnectionState.RATE_LIMITED_TODAY,
    ConnectionState.NEVER_TESTED,
    ConnectionState.NOT_CONNECTED,
    ConnectionState.PAUSED,
    ConnectionState.CONNECTED,
)


class OverviewSort(StrEnum):
    """What the list is sorted by; STATE puts first what somebody must act on."""

    NAME = "name"
    STATE = "state"
    LAST_SYNCED = "last_synced"
    FRESHNESS = "freshness"
    QUOTA = "quota"
    RAGE_CLICK_RATE = "rage_click_rate"
    SESSIONS = "sessions"


@dataclass(frozen=True, slots=True, kw_only=True)
class OverviewRow:
    """One business; instants are UTC.

    `latest_day` is the latest with data. The quota is None for a business that is not connected;
    `rage_click_rate` is of the last 30 days, events per session, `rage_click_rates` the same day
    by day (oldest first, None where there is none), `sessions` of the last 7.
    """

    business_id: str
    name: str
    state: ConnectionState
    is_connected: bool
    last_synced_at: datetime | None
    latest_day: date | None
    quota_used: int | None
    quota_kept: int | None
    quota_free: int | None
    rate_limited: bool
    rage_click_rate: float | None
    rage_click_rates: tuple[float | None, ...]
    sessions: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgencyOverview:
    """A page of the list.

    `total` is how many businesses there are, `matching` how many the search and the states leave,
    `state_counts` how many of those that the search leaves are in each state.
    """

    rows: tuple[OverviewRow, ...]
    total: int
    matching: int
    state_counts: Mapping[ConnectionState, int]
    series_window: Window
    sessions_window: Window


class Named(Protocol):
    """What a business is searched by and told apart by."""

    @property
    def business_id(self) -> str: ...
    @property
    def name(self) -> str: ...


Business = TypeVar("Business", bound=Named)


def is_searched(business: Named, search: str) -> bool:
    """Whether the name or the id has the text in it, in whatever case."""
    wanted = search.strip().casefold()
    return wanted in business.name.casefold() or wanted in business.business_id


def state_rank(state: ConnectionState) -> int:
    """Where a state stands among all: what is most pressing first."""
    return _MOST_PRESSING_FIRST.index(state)


def ranked(
    found: Collection[Business], keys: Mapping[str, Any], *, descending: bool
) -> Sequence[Business]:
    """The businesses by their keys, then by name; those without a key come last either way."""
    by_name = sorted(found, key=lambda item: (item.name.casefold(), item.business_id))
    known = [item for item in by_name if keys.get(item.business_id) is not None]
    unknown = [item for item in by_name if keys.get(item.business_id) is None]
    return [*sorted(known, key=lambda item: keys[item.business_id], reverse=descending), *unknown]
