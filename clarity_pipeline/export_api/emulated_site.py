"""What happened on an invented web site: visits, page views and clicks, one UTC day at a time.

A day is a pure function of the site's parameters and the day, made with integer arithmetic only:
the same numbers on any machine, Python and NumPy version (NumPy promises stable bit streams, not
stable distributions). Columns instead of objects, because a busy site has ten thousand page views.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from clarity_pipeline.domain.metrics import CLICK_BLOCK_COLUMNS

Integers = NDArray[np.int64]
_Draws = NDArray[np.uint64]

MAX_PAGES: Final = 1 << 14
_DAY_MS: Final = 86_400_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class SessionKind(IntEnum):
    """Traffic counts the first two apart; the third has no field of its own (FACTS section 4)."""

    HUMAN = 0
    BOT = 1
    UNLABELLED = 2


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a page view's visit came from, as Clarity labels it. `share` is out of 1,000."""

    source: str
    channel: str
    medium: str
    referrer: str | None
    share: int
    click_id: str | None = None
    tagged: bool = False
    """Whether the advertiser adds utm_* parameters and names campaigns."""


OWN_HOST: Final = "{own host}"
"""Stands in `ORIGINS` for the site's own host name."""

ORIGINS: Final[tuple[Origin, ...]] = (
    Origin("google", "OrganicSearch", "organic", "https://www.google.com/", 240),
    Origin("google", "PaidSearch", "cpc", "https://www.google.com/", 150, "gclid", tagged=True),
    Origin("adwords", "PaidSearch", "cpc", "https://www.google.com/", 30, "gbraid"),
    Origin("bing", "OrganicSearch", "organic", "https://www.bing.com/search?q=best+offer", 50),
    Origin("bing", "PaidSearch", "cpc", "https://www.bing.com/", 30, "msclkid", tagged=True),
    Origin("yahoo", "OrganicSearch", "organic", "https://search.yahoo.co.jp/", 15),
    Origin("facebook", "Social", "social", "https://m.facebook.com/", 90, "fbclid"),
    Origin(
        "instagram", "Social", "paid_social", "https://l.instagram.com/", 90, "fbclid", tagged=True
    ),
    Origin("chatgpt.com", "AiPlatform", "", "https://chatgpt.com/", 25),
    Origin("chatgpt.com", "Other", "referral", "https://chatgpt.com/", 8, tagged=True),
    Origin(OWN_HOST, "Direct", "", None, 150),
    Origin("", "Other", "", None, 40),
    Origin("newsletter", "Email", "email", None, 32, tagged=True),
    Origin(
        "org.telegram.messenger", "Referral", "referral", "android-app://org.telegram.messenger/", 8
    ),
    Origin("partner.example", "Referral", "referral", "https://partner.example/blog?id=7", 30),
    Origin("criteo", "Display", "display", "https://ads.criteo.example/frame?c=1", 12, tagged=True),
)
OWN_HOST_ORIGIN: Final = next(
    index for index, origin in enumerate(ORIGINS) if origin.source == OWN_HOST
)

CAMPAIGNS: Final = ("", "brand", "spring_sale", "retargeting 2026", "Rückruf", "秋のセール")

Visitor = tuple[str, str, str, int]
"""Device, operating system, browser, and a share."""

DEVICES: Final = ("Mobile", "Tablet", "PC", "Email", "Other")
"""Rows come in this order when Device is the dimension (FACTS section 7)."""

_HUMAN_VISITORS: Final[tuple[Visitor, ...]] = (
    ("Mobile", "IOS", "MobileSafari", 230),
    ("Mobile", "Android", "ChromeMobile", 210),
    ("Mobile", "IOS", "InstagramApp", 70),
    ("Mobile", "Android", "FacebookApp", 50),
    ("Mobile", "Android", "SamsungInternet", 40),
    ("Mobile", "Android", "FirefoxMobile", 8),
    ("Mobile", "IOS", "GoogleApp", 12),
    ("Tablet", "IOS", "MobileSafari", 20),
    ("Tablet", "Android", "ChromeMobile", 12),
    ("PC", "Windows", "Chrome", 170),
    ("PC", "Windows", "Edge", 70),
    ("PC", "MacOSX", "Safari", 45),
    ("PC", "MacOSX", "Chrome", 30),
    ("PC", "Linux", "Firefox", 8),
    ("PC", "Ubuntu", "Firefox", 4),
    ("PC", "ChromeOS", "Chrome", 6),
    ("PC", "Windows", "Opera", 8),
    ("Email", "Windows", "Other", 3),
)
_BOT_VISITORS: Final[tuple[Visitor, ...]] = (
    ("PC", "Linux", "Chrome", 60),
    ("Mobile", "Android", "ChromeMobile", 25),
    ("Tablet", "Android", "ChromeMobile", 5),
    ("Other", "Other", "Other", 10),
)
_UNLABELLED_VISITORS: Final[tuple[Visitor, ...]] = (
    ("Other", "Other", "Other", 60),
    ("PC", "Windows", "Chrome", 25),
    ("Mobile", "Android", "ChromeMobile", 15),
)
VISITORS: Final[tuple[Visitor, ...]] = (*_HUMAN_VISITORS, *_BOT_VISITORS, *_UNLABELLED_VISITORS)

COUNTRIES: Final = (
    "Australia",
    "Austria",
    "Brazil",
    "Canada",
    "Czech Republic",
    "France",
    "Germany",
    "India",
    "Ireland",
    "Italy",
    "Japan",
    "Korea, Republic of",
    "Mexico",
    "Netherlands",
    "Poland",
    "Spain",
    "Sweden",
    "Switzerland",
    "United Kingdom",
    "United States",
)

_HOURLY_SHARES: Final = (
    *(2, 1, 1, 1, 1, 2, 3, 5, 6, 7, 8, 8),
    *(8, 8, 7, 7, 7, 7, 8, 9, 9, 8, 6, 4),
)
_PAGE_VIEW_SHARES: Final[Mapping[SessionKind, tuple[int, ...]]] = {
    SessionKind.HUMAN: (58, 18, 9, 6, 4, 2, 1, 1, 1),
    SessionKind.BOT: (90, 7, 3),
    SessionKind.UNLABELLED: (93, 7),
}
_EVENT_COUNT_SHARES: Final = (58, 22, 10, 5, 3, 2)
_EVENTS_PER_TEN_THOUSAND: Final[Mapping[str, int]] = {
    "DeadClickCount": 220,
    "ExcessiveScroll": 15,
    "RageClickCount": 45,
    "QuickbackClick": 250,
    "ScriptErrorCount": 320,
    "ErrorClickCount": 30,
}
"""On a page without particular trouble; troubled pages have up to five times as many."""
_ONCE_PER_PAGE_VIEW: Final = frozenset({"QuickbackClick", "ExcessiveScroll"})
"""For these `pagesViews` equals `subTotal` in every real reply (FACTS section 3)."""

NO_PAGE: Final = -1
"""The URL code of a session without a page: a null `Url` in Traffic."""
NOT_MEASURED: Final = -1
"""A page view without a scroll depth."""

_QUERY_NONE, _QUERY_TAGS, _QUERY_CLICK_ID, _QUERY_TAGS_AND_CLICK_ID, _QUERY_PAGING = range(5)


@dataclass(frozen=True, slots=True)
class Site:
    """The parameters a site is generated from; equal parameters are equal sites.

    `sessions_per_day` is the human average; a day has 75 to 125 percent of it, fewer at weekends.
    """

    seed: int
    sessions_per_day: int
    pages: int
    bot_sessions_percent: int = 10
    unlabelled_sessions_percent: int = 2
    tagged_entries_percent: int = 60
    """Of visits from advertising: entry addresses with click ids or utm_* parameters."""
    unsettled_sessions_per_thousand: int = 0
    """Human sessions that Traffic does not count as such (FACTS section 3: 188 beside 187)."""
    unmeasured_scroll_per_thousand: int = 0

    @property
    def host(self) -> str:
        return f"shop{self.seed}.example"

    def render_url(self, code: int) -> str | None:
        """The address behind a URL code, as a visitor's browser sent it; None for NO_PAGE."""
        return None if code == NO_PAGE else _render_url(self, code, with_query=True)

    def render_page(self, code: int) -> str | None:
        """The same address with its query string and fragment cut off."""
        return None if code == NO_PAGE else _render_url(self, code, with_query=False)

    def title_of(self, code: int) -> str:
        """The page title; several addresses share one."""
        page = code >> _PAGE_SHIFT
        name = _page_path(self.seed, page).strip("/").replace("/", " · ") or "Start"
        return f"{name} | Shop {self.seed}"

    def source_of(self, origin: int) -> str:
        source = ORIGINS[origin].source
        return self.host if source == OWN_HOST else source


@dataclass(frozen=True, slots=True)
class Visits:
    """Sessions and their page views as columns; `view_*` refer to sessions by position.

    `started_ms` is milliseconds since 1970 UTC. `visitor` indexes VISITORS, `country` COUNTRIES,
    `origin` and `view_origin` ORIGINS, `view_campaign` CAMPAIGNS. `unsettled` is 0 or 1 and means
    something for humans only. `view_events` has one row per click block in the order of
    CLICK_BLOCK_COLUMNS, and events of humans only.
    """

    started_ms: Integers
    kind: Integers
    user: Integers
    visitor: Integers
    country: Integers
    origin: Integers
    unsettled: Integers
    view_session: Integers
    view_url: Integers
    view_origin: Integers
    view_campaign: Integers
    view_scroll_depth: Integers
    view_active_seconds: Integers
    view_total_seconds: Integers
    view_events: Integers

    @property
    def size_bytes(self) -> int:
        return sum(getattr(self, column.name).nbytes for column in fields(self))

    def between(self, start_ms: int, end_ms: int) -> Visits:
        """Only the sessions that started in [start, end), whole."""
        wanted = (self.started_ms >= start_ms) & (self.started_ms < end_ms)
        if wanted.all():
            return self
        position = np.cumsum(wanted) - 1
        views = wanted[self.view_session]
        columns: dict[str, Any] = {}
        for column in fields(self):
            values: Integers = getattr(self, column.name)
            columns[column.name] = (
                values[..., views] if column.name.startswith("view_") else values[wanted]
            )
        columns["view_session"] = position[columns["view_session"]]
        return Visits(**columns)


@dataclass(frozen=True, slots=True)
class PageView:
    """One page view of the ground truth; `events` has the blocks with at least one event."""

    url: str | None
    source: str
    channel: str
    medium: str
    campaign: str
    scroll_depth_percent: int | None
    active_seconds: int
    total_seconds: int
    events: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Session:
    """One session of the ground truth."""

    started_at: datetime
    kind: SessionKind
    user: int
    device: str
    os: str
    browser: str
    country: str
    page_views: tuple[PageView, ...]


def join_visits(parts: Sequence[Visits]) -> Visits:
    """Several days one after the other."""
    if len(parts) == 1:
        return parts[0]
    columns: dict[str, Any] = {
        column.name: np.concatenate([getattr(part, column.name) for part in parts], axis=-1)
        for column in fields(Visits)
    }
    offsets = np.cumsum([0, *(len(part.started_ms) for part in parts[:-1])])
    columns["view_session"] = np.concatenate(
        [part.view_session + offset for part, offset in zip(parts, offsets, strict=True)]
    )
    return Visits(**columns)


class SiteHistory:
    """Generated days, kept while there is room; makes every other day again when asked.

    Threads may share one: whoever compares replies with the ground truth runs beside the server.
    """

    def __init__(self, *, max_bytes: int = 256 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._days: OrderedDict[tuple[Site, int], Visits] = OrderedDict()
        self._lock = threading.Lock()

    def visits(self, site: Site, *, start: datetime, end: datetime) -> Visits:
        """Sessions that started in [start, end)."""
        start_ms, end_ms = milliseconds(start), milliseconds(end)
        last_day = max(end_ms - 1, start_ms) // _DAY_MS
        return join_visits(
            [
                self._day(site, day).between(start_ms, end_ms)
                for day in range(start_ms // _DAY_MS, last_day + 1)
            ]
        )

    def sessions(self, site: Site, *, start: datetime, end: datetime) -> list[Session]:
        """The ground truth of [start, end), for whoever checks a reply against it."""
        return _as_sessions(site, self.visits(site, start=start, end=end))

    def _day(self, site: Site, day: int) -> Visits:
        key = (site, day)
        with self._lock:
            visits = self._days.get(key)
            if visits is not None:
                self._days.move_to_end(key)
                return visits
            visits = generate_day(site, date(1970, 1, 1) + timedelta(days=day))
            self._days[key] = visits
            self._bytes += visits.size_bytes
            while self._bytes > self._max_bytes and len(self._days) > 1:
                _, dropped = self._days.popitem(last=False)
                self._bytes -= dropped.size_bytes
            return visits


def milliseconds(instant: datetime) -> int:
    """Milliseconds since 1970 UTC."""
    return (instant - _EPOCH) // timedelta(milliseconds=1)


def generate_day(site: Site, day: date) -> Visits:
    """All sessions that start on one UTC day."""
    stream = _Stream(site.seed, (day - date(1970, 1, 1)).days)
    counts = _session_counts(site, stream, is_weekend=day.weekday() >= 5)
    total = sum(counts.values())
    kind = np.repeat(np.array(list(counts), np.int64), list(counts.values()))
    visitor = _visitors(stream, kind)
    origin = stream.pick("origin", [origin.share for origin in ORIGINS], total)
    views_per_session = _views_per_session(stream, kind)
    view_session = np.repeat(np.arange(total, dtype=np.int64), views_per_session)
    first_view = np.cumsum(views_per_session) - views_per_session
    is_entry = np.zeros(len(view_session), np.bool_)
    is_entry[first_view] = True
    view_origin, view_campaign = _view_origins(stream, origin, view_session, is_entry=is_entry)
    human_view = kind[view_session] == SessionKind.HUMAN
    view_page = stream.pick("page", _page_shares(site.pages), len(view_session))
    active, total_seconds = _times(stream, len(view_session))
    return Visits(
        started_ms=_starts(stream, total) + stream.day * _DAY_MS,
        kind=kind,
        user=_users(site, stream, total),
        visitor=visitor,
        country=_countries(site, stream, total),
        origin=origin,
        unsettled=(
            stream.below("unsettled", 1000, total) < site.unsettled_sessions_per_thousand
        ).astype(np.int64),
        view_session=view_session,
        view_url=_url_codes(
            site,
            stream,
            kind=kind,
            view_session=view_session,
            view_page=view_page,
            view_origin=view_origin,
            view_campaign=view_campaign,
            is_entry=is_entry,
        ),
        view_origin=view_origin,
        view_campaign=view_campaign,
        view_scroll_depth=_scroll_depths(site, stream, len(view_session)),
        view_active_seconds=active,
        view_total_seconds=total_seconds,
        view_events=_events(stream, view_page, human_view=human_view),
    )


_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)


def scramble(values: Integers | _Draws) -> _Draws:
    """SplitMix64's finaliser: 64 bits that depend on every bit of the input."""
    mixed = values.astype(np.uint64) + _GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def text_key(text: str) -> int:
    """63 bits that depend on the whole text and on nothing else."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


class _Stream:
    """Independent sequences of draws for one site and day, one per purpose."""

    def __init__(self, seed: int, day: int) -> None:
        self.seed = seed
        self.day = day

    def bits(self, purpose: str, count: int) -> _Draws:
        key = text_key(f"{self.seed}/{self.day}/{purpose}")
        counter = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
        return scramble(counter + np.array([key], np.uint64))

    def below(self, purpose: str, bound: int, count: int) -> Integers:
        """Whole numbers in [0, bound), for bounds below 2**31."""
        high = self.bits(purpose, count) >> np.uint64(32)
        return ((high * np.uint64(bound)) >> np.uint64(32)).astype(np.int64)

    def pick(self, purpose: str, shares: Sequence[int], count: int) -> Integers:
        """Positions in `shares`, each as often as its share says."""
        edges = np.cumsum(np.array(shares, np.int64))
        return np.searchsorted(
            edges, self.below(purpose, int(edges[-1]), count), side="right"
        ).astype(np.int64)


def _session_counts(site: Site, stream: _Stream, *, is_weekend: bool) -> dict[SessionKind, int]:
    percent = 75 + int(stream.below("busyness", 51, 1)[0])
    percent = percent * 7 // 10 if is_weekend else percent
    rounding = stream.below("rounding", 100, 3).tolist()
    human = (site.sessions_per_day * percent + rounding[0]) // 100
    share = site.sessions_per_day
    return {
        SessionKind.HUMAN: human,
        SessionKind.BOT: (share * site.bot_sessions_percent + rounding[1]) // 100 if share else 0,
        SessionKind.UNLABELLED: (
            (share * site.unlabelled_sessions_percent + rounding[2]) // 100 if share else 0
        ),
    }


def _visitors(stream: _Stream, kind: Integers) -> Integers:
    visitor = np.zeros(len(kind), np.int64)
    offset = 0
    for session_kind, choices in (
        (SessionKind.HUMAN, _HUMAN_VISITORS),
        (SessionKind.BOT, _BOT_VISITORS),
        (SessionKind.UNLABELLED, _UNLABELLED_VISITORS),
    ):
        of_kind = kind == session_kind
        picked = stream.pick(
            f"visitor/{session_kind.name}", [choice[3] for choice in choices], int(of_kind.sum())
        )
        visitor[of_kind] = picked + offset
        offset += len(choices)
    return visitor


def _views_per_session(stream: _Stream, kind: Integers) -> Integers:
    views = np.ones(len(kind), np.int64)
    for session_kind, shares in _PAGE_VIEW_SHARES.items():
        of_kind = kind == session_kind
        views[of_kind] += stream.pick(f"views/{session_kind.name}", shares, int(of_kind.sum()))
    return views


def _starts(stream: _Stream, count: int) -> Integers:
    hour = stream.pick("hour", _HOURLY_SHARES, count)
    return hour * 3_600_000 + stream.below("within the hour", 3_600_000, count)


def _users(site: Site, stream: _Stream, count: int) -> Integers:
    """One session in six is by one of the site's regular visitors, who come back on other days."""
    regulars = 1 + site.sessions_per_day // 2
    new = (1 << 40) + (stream.day << 24) + np.arange(count, dtype=np.int64)
    returning = stream.below("returning", 6, count) == 0
    return np.where(returning, stream.below("regular", regulars, count), new)


def _countries(site: Site, stream: _Stream, count: int) -> Integers:
    home = scramble(np.array([site.seed], np.int64)) % np.uint64(len(COUNTRIES))
    anywhere = stream.below("country", len(COUNTRIES), count)
    at_home = stream.below("at home", 100, count) < 72
    return np.where(at_home, home.astype(np.int64), anywhere)


def _view_origins(
    stream: _Stream, origin: Integers, view_session: Integers, *, is_entry: NDArray[np.bool_]
) -> tuple[Integers, Integers]:
    """Origin and campaign per page view: a few later views count as coming from the site itself,
    which is why sessions do not add up over Source (FACTS section 3)."""
    count = len(view_session)
    own = ~is_entry & (stream.below("internal", 100, count) < 5)
    view_origin = np.where(own, OWN_HOST_ORIGIN, origin[view_session])
    is_tagged = np.array([origin.tagged for origin in ORIGINS])
    session_campaign = 1 + stream.below("campaign", len(CAMPAIGNS) - 1, len(origin))
    campaign = np.where(is_tagged[view_origin], session_campaign[view_session], 0)
    return view_origin, campaign


def _times(stream: _Stream, count: int) -> tuple[Integers, Integers]:
    """Active and total seconds per page view: mostly short, now and then a forgotten tab."""
    active = stream.below("active", 90, count) * stream.below("attention", 90, count) // 90
    idle = stream.below("idle", 25, count)
    forgotten = stream.below("forgotten", 100, count) < 3
    return active, active + np.where(forgotten, stream.below("away", 900, count), idle)


def _scroll_depths(site: Site, stream: _Stream, count: int) -> Integers:
    depth = 7 + stream.below("depth", 94, count)
    depth = np.where(stream.below("to the end", 100, count) < 12, 100, depth)
    unmeasured = stream.below("unmeasured", 1000, count) < site.unmeasured_scroll_per_thousand
    return np.where(unmeasured, NOT_MEASURED, depth)


def _events(stream: _Stream, view_page: Integers, *, human_view: NDArray[np.bool_]) -> Integers:
    count = len(view_page)
    trouble = 1 + (scramble(view_page + stream.seed) % np.uint64(5)).astype(np.int64)
    events = np.zeros((len(CLICK_BLOCK_COLUMNS), count), np.int64)
    for row, block in enumerate(CLICK_BLOCK_COLUMNS):
        happened = (
            stream.below(f"{block} happened", 10_000, count)
            < trouble * _EVENTS_PER_TEN_THOUSAND[block]
        )
        if block in _ONCE_PER_PAGE_VIEW:
            number = np.ones(count, np.int64)
        else:
            number = 1 + stream.pick(f"{block} number", _EVENT_COUNT_SHARES, count)
        events[row] = np.where(happened & human_view, number, 0)
    return events


# A URL code holds everything that tells one address from another, so that equal codes are equal
# addresses: page (14 bits), host (2), trailing slash, fragment, percent-encoding (1 each), kind of
# query string (3), and its origin (5), campaign (5) and click id (28).
_DETAIL_BITS: Final = 38
_QUERY_SHIFT: Final = _DETAIL_BITS
_ENCODING_SHIFT: Final = _QUERY_SHIFT + 3
_FRAGMENT_SHIFT: Final = _ENCODING_SHIFT + 1
_SLASH_SHIFT: Final = _FRAGMENT_SHIFT + 1
_HOST_SHIFT: Final = _SLASH_SHIFT + 1
_PAGE_SHIFT: Final = _HOST_SHIFT + 2


def _url_codes(
    site: Site,
    stream: _Stream,
    *,
    kind: Integers,
    view_session: Integers,
    view_page: Integers,
    view_origin: Integers,
    view_campaign: Integers,
    is_entry: NDArray[np.bool_],
) -> Integers:
    count = len(view_session)
    host = stream.pick("host", (880, 100, 10, 10), len(kind))[view_session]
    slash = (stream.below("slash", 100, count) < 8) & (view_page > 0)
    fragment = stream.below("fragment", 100, count) < 2
    encoded = (stream.below("encoded", 2, count) == 1) & _has_wide_path(site)[view_page]
    has_click_id = np.array([origin.click_id is not None for origin in ORIGINS])[view_origin]
    is_tagged = np.array([origin.tagged for origin in ORIGINS])[view_origin]
    decorated = is_entry & (stream.below("tagged", 100, count) < site.tagged_entries_percent)
    query = np.where(
        decorated,
        np.where(
            has_click_id,
            np.where(is_tagged, _QUERY_TAGS_AND_CLICK_ID, _QUERY_CLICK_ID),
            np.where(is_tagged, _QUERY_TAGS, _QUERY_NONE),
        ),
        np.where(~is_entry & (stream.below("paging", 100, count) < 4), _QUERY_PAGING, _QUERY_NONE),
    )
    names_origin = (query == _QUERY_TAGS) | (query == _QUERY_TAGS_AND_CLICK_ID)
    names_click = (query == _QUERY_CLICK_ID) | (query == _QUERY_TAGS_AND_CLICK_ID)
    detail = np.where(names_origin | names_click, view_origin << 33, 0)
    detail += np.where(names_origin, view_campaign << 28, 0)
    detail += np.where(names_click, stream.below("click id", 1 << 28, count), 0)
    detail += np.where(query == _QUERY_PAGING, 2 + stream.below("paging to", 3, count), 0)
    code = (
        (view_page << _PAGE_SHIFT)
        + (host << _HOST_SHIFT)
        + (slash.astype(np.int64) << _SLASH_SHIFT)
        + (fragment.astype(np.int64) << _FRAGMENT_SHIFT)
        + (encoded.astype(np.int64) << _ENCODING_SHIFT)
        + (query << _QUERY_SHIFT)
        + detail
    )
    pageless = (kind == SessionKind.UNLABELLED)[view_session] & (
        stream.below("pageless", 4, count) == 0
    )
    return np.where(pageless, NO_PAGE, code)


_SECTIONS: Final = ("blog", "products", "services", "best", "guides", "über-uns", "商品", "faq")


@lru_cache(maxsize=65_536)
def _page_path(seed: int, page: int) -> str:
    if page == 0:
        return "/"
    section = _SECTIONS[(page + seed) % len(_SECTIONS)]
    return f"/{section}/" if page <= len(_SECTIONS) else f"/{section}/item-{page}/"


@lru_cache(maxsize=1_024)
def _has_wide_path(site: Site) -> NDArray[np.bool_]:
    return np.array([not _page_path(site.seed, page).isascii() for page in range(site.pages)])


@lru_cache(maxsize=64)
def _page_shares(pages: int) -> tuple[int, ...]:
    return tuple(1_000_000 // (rank + 2) for rank in range(pages))


def _render_url(site: Site, code: int, *, with_query: bool) -> str:
    page = code >> _PAGE_SHIFT
    host = (
        f"https://{site.host}",
        f"https://www.{site.host}",
        "http://localhost:3000",
        f"https://staging.{site.host}",
    )[code >> _HOST_SHIFT & 3]
    path = _page_path(site.seed, page)
    if page and not code >> _SLASH_SHIFT & 1:
        path = path.removesuffix("/")
    if code >> _ENCODING_SHIFT & 1:
        path = quote(path)
    if not with_query:
        return host + path
    query = _render_query(code)
    fragment = "#contact" if code >> _FRAGMENT_SHIFT & 1 else ""
    return f"{host}{path}{'?' if query else ''}{query}{fragment}"


def _render_query(code: int) -> str:
    query = code >> _QUERY_SHIFT & 7
    if query == _QUERY_NONE:
        return ""
    if query == _QUERY_PAGING:
        return f"page={code & 0xFFFFFFF}"
    origin = ORIGINS[code >> 33 & 31]
    tags = (
        f"utm_source={quote(origin.source)}&utm_medium={quote(origin.medium)}"
        f"&utm_campaign={quote(CAMPAIGNS[code >> 28 & 31])}"
    )
    click_id = f"{origin.click_id}=Ej{code & 0xFFFFFFF:07x}KCQ"
    if query == _QUERY_TAGS:
        return tags
    return click_id if query == _QUERY_CLICK_ID else f"{tags}&{click_id}"


def _as_sessions(site: Site, visits: Visits) -> list[Session]:
    views: list[list[PageView]] = [[] for _ in range(len(visits.started_ms))]
    for index, session in enumerate(visits.view_session.tolist()):
        views[int(session)].append(_as_page_view(site, visits, index))
    sessions: list[Session] = []
    for index, page_views in enumerate(views):
        device, os, browser, _ = VISITORS[int(visits.visitor[index])]
        sessions.append(
            Session(
                started_at=_EPOCH + timedelta(milliseconds=int(visits.started_ms[index])),
                kind=SessionKind(int(visits.kind[index])),
                user=int(visits.user[index]),
                device=device,
                os=os,
                browser=browser,
                country=COUNTRIES[int(visits.country[index])],
                page_views=tuple(page_views),
            )
        )
    return sessions


def _as_page_view(site: Site, visits: Visits, index: int) -> PageView:
    origin = int(visits.view_origin[index])
    depth = int(visits.view_scroll_depth[index])
    events = visits.view_events[:, index].tolist()
    return PageView(
        url=site.render_url(int(visits.view_url[index])),
        source=site.source_of(origin),
        channel=ORIGINS[origin].channel,
        medium=ORIGINS[origin].medium,
        campaign=CAMPAIGNS[int(visits.view_campaign[index])],
        scroll_depth_percent=None if depth == NOT_MEASURED else depth,
        active_seconds=int(visits.view_active_seconds[index]),
        total_seconds=int(visits.view_total_seconds[index]),
        events={
            block: count for block, count in zip(CLICK_BLOCK_COLUMNS, events, strict=True) if count
        },
    )
