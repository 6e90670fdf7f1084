"""From the sessions of a window to the bytes of a reply, in the shapes of FACTS sections 2 to 7.

Every figure is a count or sum over the same sessions, so what must add up does so by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from clarity_pipeline.domain.dimensions import Dimension
from clarity_pipeline.domain.metrics import CLICK_BLOCK_COLUMNS, TRUNCATION_ROWS
from clarity_pipeline.export_api.emulated_site import (
    CAMPAIGNS,
    COUNTRIES,
    DEVICES,
    NO_PAGE,
    NOT_MEASURED,
    ORIGINS,
    VISITORS,
    Integers,
    SessionKind,
    Site,
    Visits,
    scramble,
    text_key,
)

_Mask = NDArray[np.bool_]
_Row = dict[str, Any]
TOP_ROWS: Final = 10


class NumberStyle(StrEnum):
    """How counts are written: the three periods of FACTS section 2."""

    STRINGS = "strings"
    MIXED = "mixed"
    NUMBERS = "numbers"


class DenominatorStyle(StrEnum):
    """Whose sessions and users Traffic's ratio and user count are about (FACTS section 4)."""

    ALL_SESSIONS = "all_sessions"
    HUMAN_ONLY = "human_only"


class ReferrerStyle(StrEnum):
    """Full addresses and a null row, or bare host names and none (FACTS section 6)."""

    FULL = "full"
    HOST = "host"


class TruncationStyle(StrEnum):
    """Whether the rows that survive the cap are the same in all blocks: FACTS section 9 does not
    know, so both can be served."""

    SHARED = "shared"
    PER_BLOCK = "per_block"


@dataclass(frozen=True, slots=True)
class ReplyStyle:
    numbers: NumberStyle = NumberStyle.NUMBERS
    denominator: DenominatorStyle = DenominatorStyle.ALL_SESSIONS
    referrers: ReferrerStyle = ReferrerStyle.HOST
    truncation: TruncationStyle = TruncationStyle.SHARED
    row_cap: int = TRUNCATION_ROWS


def build_reply(
    site: Site, visits: Visits, *, dimensions: Sequence[Dimension], style: ReplyStyle, salt: str
) -> bytes:
    """The body of a 200 reply about these visits.

    `salt` names the call; it decides what is arbitrary in real replies: the order of rows, which
    of them survive the cap, and which blocks write strings in the mixed style.
    """
    groups = _group(site, visits, dimensions, salt=salt)
    figures = _Figures.of(visits, groups.of_view, count=len(groups.labels), style=style)
    counts = _count_writers(style.numbers, salt)
    kept = _surviving_rows(groups, figures, style=style, salt=salt)
    blocks: list[tuple[str, list[_Row]]] = [
        (
            name,
            _labelled(
                groups,
                kept(name),
                _click_rows(figures, row, kept(name), write=counts(name)),
            ),
        )
        for row, name in enumerate(CLICK_BLOCK_COLUMNS)
    ]
    for name, rows_of in (
        ("ScrollDepth", _scroll_rows),
        ("Traffic", _traffic_rows),
        ("EngagementTime", _engagement_rows),
    ):
        rows = rows_of(figures, kept(name), write=counts(name))
        blocks.append((name, _labelled(groups, kept(name), rows)))
    if not dimensions:
        blocks += _breakdowns(site, visits, style=style, counts=counts, salt=salt)
    return orjson.dumps([{"metricName": name, "information": rows} for name, rows in blocks])


@dataclass(frozen=True, slots=True)
class _Groups:
    """The tuples of dimension values that occur, in the order their rows come in."""

    labels: list[dict[str, str | None]]
    of_view: Integers
    is_sorted: bool
    """Whether the order means something, as it does for Device and Country."""


def _group(site: Site, visits: Visits, dimensions: Sequence[Dimension], *, salt: str) -> _Groups:
    views = len(visits.view_session)
    if not dimensions:
        return _Groups([{}], np.zeros(views, np.int64), is_sorted=True)
    columns = [_dimension_column(site, visits, dimension) for dimension in dimensions]
    key = np.zeros(views, np.int64)
    for codes, labels in columns:
        key = key * len(labels) + codes
    keys, of_view = np.unique(key, return_inverse=True)
    is_sorted = not {Dimension.URL, Dimension.SOURCE} & set(dimensions)
    if not is_sorted:
        texts = [_rank(labels, salt) for _, labels in columns]
        order = np.argsort(_hash_of_keys(keys, texts), kind="stable")
        keys = keys[order]
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order), dtype=np.int64)
        of_view = place[of_view]
    rows: list[dict[str, str | None]] = [{} for _ in range(len(keys))]
    rest = keys
    named: list[tuple[str, list[str | None]]] = []
    for dimension, (_, labels) in zip(reversed(dimensions), reversed(columns), strict=True):
        rest, codes = np.divmod(rest, len(labels))
        named.append((dimension.row_key, [labels[code] for code in codes.tolist()]))
    for name, values in reversed(named):
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return _Groups(rows, of_view.astype(np.int64), is_sorted=is_sorted)


def _rank(labels: Sequence[str | None], salt: str) -> NDArray[np.uint64]:
    """A number per label that depends on its text only, not on what else is in the window."""
    return np.array([text_key(f"{salt}/{label!r}") for label in labels], np.uint64)


def _hash_of_keys(keys: Integers, ranks: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    mixed = np.zeros(len(keys), np.uint64)
    rest = keys
    for rank in reversed(ranks):
        rest, codes = np.divmod(rest, len(rank))
        mixed = scramble(mixed + rank[codes])
    return mixed


def _dimension_column(
    site: Site, visits: Visits, dimension: Dimension
) -> tuple[Integers, list[str | None]]:
    """A dimension's value per page view, as positions in a list of distinct labels."""
    if dimension is Dimension.URL:
        codes, positions = np.unique(visits.view_url, return_inverse=True)
        return positions.astype(np.int64), [site.render_url(code) for code in codes.tolist()]
    if dimension is Dimension.COUNTRY:
        return visits.country[visits.view_session], list(COUNTRIES)
    if dimension is Dimension.CAMPAIGN:
        return visits.view_campaign, list(CAMPAIGNS)
    if dimension in _VISITOR_LABELS:
        values = _VISITOR_LABELS[dimension]
        labels = list(DEVICES) if dimension is Dimension.DEVICE else sorted(set(values))
        return _relabelled(values, labels)[visits.visitor[visits.view_session]], [*labels]
    values = [_origin_label(site, dimension, origin) for origin in range(len(ORIGINS))]
    labels = sorted(set(values))
    return _relabelled(values, labels)[visits.view_origin], [*labels]


_VISITOR_LABELS: Final[Mapping[Dimension, Sequence[str]]] = {
    Dimension.BROWSER: [browser for _, _, browser, _ in VISITORS],
    Dimension.DEVICE: [device for device, _, _, _ in VISITORS],
    Dimension.OS: [os for _, os, _, _ in VISITORS],
}


def _origin_label(site: Site, dimension: Dimension, origin: int) -> str:
    if dimension is Dimension.SOURCE:
        return site.source_of(origin)
    return ORIGINS[origin].channel if dimension is Dimension.CHANNEL else ORIGINS[origin].medium


def _relabelled(values: Sequence[str], labels: Sequence[str]) -> Integers:
    return np.array([labels.index(value) for value in values], np.int64)


@dataclass(frozen=True, slots=True)
class _Figures:
    """Whole numbers per tuple; two-dimensional ones have a row per click block."""

    sessions: list[int]
    affected_sessions: list[list[int]]
    affected_views: list[list[int]]
    events: list[list[int]]
    measured_views: list[int]
    depth_sum: list[int]
    total_seconds: list[int]
    active_seconds: list[int]
    human_sessions: list[int]
    bot_sessions: list[int]
    users: list[int]
    ratio_views: list[int]
    ratio_sessions: list[int]

    @classmethod
    def of(cls, visits: Visits, of_view: Integers, *, count: int, style: ReplyStyle) -> _Figures:
        session = visits.view_session
        kind = visits.kind[session]
        human = kind == SessionKind.HUMAN
        settled = human & (visits.unsettled[session] == 0)
        counted = (
            settled
            if style.denominator is DenominatorStyle.HUMAN_ONLY
            else np.ones(len(session), np.bool_)
        )
        measured = human & (visits.view_scroll_depth != NOT_MEASURED)

        def distinct(of_what: Integers, where: _Mask) -> list[int]:
            pairs = np.unique(np.stack((of_view[where], of_what[where])), axis=1)
            return np.bincount(pairs[0], minlength=count).tolist()

        def views(where: _Mask) -> list[int]:
            return np.bincount(of_view[where], minlength=count).tolist()

        def total(values: Integers, where: _Mask) -> list[int]:
            sums = np.zeros(count, np.int64)
            np.add.at(sums, of_view[where], values[where])
            return sums.tolist()

        return cls(
            sessions=distinct(session, human),
            affected_sessions=[distinct(session, events > 0) for events in visits.view_events],
            affected_views=[views(events > 0) for events in visits.view_events],
            events=[total(events, events > 0) for events in visits.view_events],
            measured_views=views(measured),
            depth_sum=total(visits.view_scroll_depth, measured),
            total_seconds=total(visits.view_total_seconds, human),
            active_seconds=total(visits.view_active_seconds, human),
            human_sessions=distinct(session, settled),
            bot_sessions=distinct(session, kind == SessionKind.BOT),
            users=distinct(visits.user[session], counted),
            ratio_views=views(counted),
            ratio_sessions=distinct(session, counted),
        )


_Positions = Sequence[int]
_WriteCount = Callable[[int], int | str]


def _count_writers(style: NumberStyle, salt: str) -> Callable[[str], _WriteCount]:
    def writer(block: str) -> _WriteCount:
        if style is NumberStyle.MIXED:
            return str if text_key(f"{salt}/{block}") & 1 else int
        return str if style is NumberStyle.STRINGS else int

    return writer


def _surviving_rows(
    groups: _Groups, figures: _Figures, *, style: ReplyStyle, salt: str
) -> Callable[[str], _Positions]:
    """The tuples that a block lists, in its order: at most `row_cap`, and not the largest."""
    everybody = range(len(groups.labels))
    if groups.labels == [{}]:
        return lambda _: everybody
    human = [position for position in everybody if figures.sessions[position]]
    traffic: _Positions = everybody
    if style.truncation is TruncationStyle.SHARED:
        human = human[: style.row_cap]
        room = style.row_cap - len(human)
        others = [position for position in everybody if not figures.sessions[position]][:room]
        traffic = sorted({*human, *others})

    def rows(block: str) -> _Positions:
        rows = traffic if block == "Traffic" else human
        cut_by_block = style.truncation is TruncationStyle.PER_BLOCK and len(rows) > style.row_cap
        # Real EngagementTime blocks came in another order than the rest (FACTS section 7).
        if cut_by_block or (block == "EngagementTime" and not groups.is_sorted):
            rows = sorted(rows, key=_scattered(f"{salt}/{block}"))
        return rows[: style.row_cap]

    return rows


def _scattered(salt: str) -> Callable[[int], int]:
    key = text_key(salt) | 1
    return lambda position: (position + 1) * key & 0xFFFFFFFFFFFF


def _labelled(groups: _Groups, positions: _Positions, rows: Iterable[_Row]) -> list[_Row]:
    return [row | groups.labels[position] for position, row in zip(positions, rows, strict=True)]


def _click_rows(
    figures: _Figures, block: int, positions: _Positions, *, write: _WriteCount
) -> Iterable[_Row]:
    affected, views = figures.affected_sessions[block], figures.affected_views[block]
    events = figures.events[block]
    for position in positions:
        sessions = figures.sessions[position]
        percent = round(100 * affected[position] / sessions, 2) if sessions else 0.0
        yield {
            "sessionsCount": write(sessions),
            "sessionsWithMetricPercentage": _plain(percent),
            "sessionsWithoutMetricPercentage": _plain(100 - percent),
            "pagesViews": write(views[position]),
            "subTotal": write(events[position]),
        }


def _scroll_rows(
    figures: _Figures,
    positions: _Positions,
    *,
    write: _WriteCount,  # noqa: ARG001
) -> Iterable[_Row]:
    for position in positions:
        views = figures.measured_views[position]
        depth = _plain(round(figures.depth_sum[position] / views, 2)) if views else None
        yield {"averageScrollDepth": depth}


def _traffic_rows(
    figures: _Figures, positions: _Positions, *, write: _WriteCount
) -> Iterable[_Row]:
    for position in positions:
        sessions = figures.ratio_sessions[position]
        ratio = _plain(figures.ratio_views[position] / sessions) if sessions else None
        yield {
            "totalSessionCount": write(figures.human_sessions[position]),
            "totalBotSessionCount": write(figures.bot_sessions[position]),
            "distinctUserCount": write(figures.users[position]),
            "pagesPerSessionPercentage": ratio,
        }


def _engagement_rows(
    figures: _Figures, positions: _Positions, *, write: _WriteCount
) -> Iterable[_Row]:
    for position in positions:
        sessions = figures.sessions[position]
        yield {
            "totalTime": write(figures.total_seconds[position] // sessions) if sessions else None,
            "activeTime": write(figures.active_seconds[position] // sessions) if sessions else None,
        }


def _plain(value: float) -> int | float:
    """Whole values come without a fraction (FACTS section 2)."""
    return int(value) if value == int(value) else value


def _breakdowns(
    site: Site,
    visits: Visits,
    *,
    style: ReplyStyle,
    counts: Callable[[str], _WriteCount],
    salt: str,
) -> list[tuple[str, list[_Row]]]:
    """The seven top-ten blocks, about human sessions."""
    human = visits.kind == SessionKind.HUMAN
    human_view = human[visits.view_session] & (visits.view_url != NO_PAGE)
    tallies: list[tuple[str, dict[str | None, int]]] = [
        (dimension.value, _tally(visits.visitor[human], labels))
        for dimension, labels in _VISITOR_LABELS.items()
    ]
    tallies.append(("Country", _tally(visits.country[human], COUNTRIES)))
    tallies.append(("PageTitle", _tally_titles(site, visits, human_view)))
    tallies.append(("ReferrerUrl", _tally_referrers(visits.origin[human], style.referrers)))
    tallies.append(("PopularPages", _tally_pages(site, visits.view_url[human_view])))
    blocks: list[tuple[str, list[_Row]]] = []
    for name, tally in tallies:
        write = counts(name)
        label, value = (
            ("url", "visitsCount") if name == "PopularPages" else ("name", "sessionsCount")
        )
        blocks.append(
            (
                name,
                [
                    {label: text, value: write(count)}
                    for text, count in _top(tally, f"{salt}/{name}")
                ],
            )
        )
    return blocks


def _top(tally: Mapping[str | None, int], salt: str) -> list[tuple[str | None, int]]:
    """Largest first; the order of ties is arbitrary."""
    ranked = sorted(tally.items(), key=lambda item: (-item[1], text_key(f"{salt}/{item[0]!r}")))
    return ranked[:TOP_ROWS]


def _tally(codes: Integers, labels: Sequence[str | None]) -> dict[str | None, int]:
    tally: dict[str | None, int] = {}
    for label, count in zip(
        labels, np.bincount(codes, minlength=len(labels)).tolist(), strict=True
    ):
        if count:
            tally[label] = tally.get(label, 0) + count
    return tally


def _tally_titles(site: Site, visits: Visits, human_view: _Mask) -> dict[str | None, int]:
    """Sessions per title, once each however often a session saw it."""
    codes, positions = np.unique(visits.view_url[human_view], return_inverse=True)
    titles = [site.title_of(code) for code in codes.tolist()]
    labels = sorted(set(titles))
    place = {title: number for number, title in enumerate(labels)}
    title = np.array([place[title] for title in titles], np.int64)[positions]
    pairs = np.unique(np.stack((title, visits.view_session[human_view])), axis=1)
    return _tally(pairs[0], labels)


def _tally_pages(site: Site, url_codes: Integers) -> dict[str | None, int]:
    codes, views = np.unique(url_codes, return_counts=True)
    tally: dict[str | None, int] = {}
    for code, count in zip(codes.tolist(), views.tolist(), strict=True):
        page = site.render_page(code)
        tally[page] = tally.get(page, 0) + count
    return tally


def _tally_referrers(origins: Integers, style: ReferrerStyle) -> dict[str | None, int]:
    if style is ReferrerStyle.FULL:
        return _tally(origins, [origin.referrer for origin in ORIGINS])
    hosts = [
        None if origin.referrer is None else origin.referrer.split("/")[2] for origin in ORIGINS
    ]
    tally = _tally(origins, hosts)
    tally.pop(None, None)
    return tally
