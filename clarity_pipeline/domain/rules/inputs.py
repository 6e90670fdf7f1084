"""From stored history to what rules are evaluated on: entities of every level, and their days.

Campaigns and ad sets take from what hangs below them what they do not have themselves: a landing
page that all of it shares, and sums of days. A business and a landing page have no days of ads of
their own, so theirs are added up. What is added up of ads of several currencies says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clarity_pipeline.domain.rules.history import (
    Bases,
    Basis,
    Booleans,
    DailySeries,
    Entities,
    Floats,
    Integers,
    Source,
)
from clarity_pipeline.domain.rules.model import EntityStatus, Level

SESSION_BASES: Final[Mapping[str, Basis]] = {
    "sessions": Basis.SESSIONS,
    "page_sessions": Basis.PAGE_SESSIONS,
}
"""Values of `session_basis` in clarity_business_aggregates."""

_RANK: Final = {Level.AD.value: 0, Level.AD_SET.value: 1, Level.CAMPAIGN.value: 2}
"""What hangs below what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayFrame:
    """The stored days of one source from `first_day` to `last_day`, both included (UTC).

    Columns of `frame`: `row`, the place of what it is about in the frame of such things; `day`,
    counted from `first_day`; `basis`, a Basis, where days can differ in it; and a column of floats
    per series, NaN where it is not known. A day that is not in it has no data.
    """

    first_day: date
    last_day: date
    frame: pd.DataFrame

    @property
    def days(self) -> int:
        return (self.last_day - self.first_day).days + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """What is stored of some businesses.

    `businesses`: id, is_connected, is_enabled. `ads`, by id: id, level, parent_id, business_id,
    name, status, landing_page (canonical), account_id, currency, changed_on (an ordinal, 0 where
    nobody knows); None where there is none. `pages`: business_id, url_hash, url, and is_entity for
    those that rules of level landing_page are about. A source that is absent from `days` is not
    needed.
    """

    businesses: pd.DataFrame
    ads: pd.DataFrame
    pages: pd.DataFrame
    days: Mapping[Source, DayFrame]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleInputs:
    """What `evaluate` wants. The entities of a business are together, by id."""

    entities: Entities
    series: Mapping[Source, DailySeries]


def page_entity_id(*, business_id: str, url_hash: str) -> str:
    """The id of a landing page as an entity of rules."""
    return f"page:{business_id}:{url_hash}"


def landing_pages(ads: pd.DataFrame) -> list[str | None]:
    """The landing page of each ad entity of Frames.ads, inherited ones among them."""
    return _AdTree(ads).landing_pages


def build_inputs(frames: Frames, *, levels: Collection[Level]) -> RuleInputs:
    """Entities of these levels, and their series."""
    tree, pages = _AdTree(frames.ads), _Pages(frames.pages)
    page_of_ad = pages.places(tree.business_ids, tree.landing_pages)
    found = _Found(frames.businesses["id"].tolist())
    if Level.BUSINESS in levels:
        found.add_businesses(ads=len(tree.ids))
    found.add_ads(tree, page_of_ad, levels=levels)
    if Level.LANDING_PAGE in levels:
        is_entity = frames.pages["is_entity"].to_numpy(np.bool_)
        found.add_pages(
            pages, is_entity, ads=len(tree.ids), changed_on=_changes(tree, page_of_ad, len(pages))
        )
    order = found.order()
    series: dict[Source, DailySeries] = {}
    for source, rows in (
        (Source.BUSINESS, found.business_rows),
        (Source.LANDING_PAGE, found.page_rows),
        (Source.ADS, found.ad_rows),
    ):
        if source not in frames.days:
            continue
        of_days = frames.days[source]
        if source is Source.ADS:
            table = _ad_table(of_days, frames, tree, page_of_ad, levels=levels)
        else:
            is_of_businesses = source is Source.BUSINESS
            of_what = frames.businesses if is_of_businesses else frames.pages
            table = _Table(of_days, height=len(of_what))
        series[source] = table.series(np.array(rows, np.int64)[order])
    return RuleInputs(entities=found.entities(frames.businesses, order), series=series)


class _AdTree:
    """Which ad entities hang below which. A parent of another business, or of no higher level, is
    none, so that nothing hangs below itself."""

    def __init__(self, ads: pd.DataFrame) -> None:
        self.ids: list[str] = ads["id"].tolist()
        self.levels: list[str] = ads["level"].tolist()
        self.business_ids: list[str | None] = ads["business_id"].tolist()
        self.own_pages: list[str | None] = ads["landing_page"].tolist()
        self.names: list[str] = ads["name"].tolist()
        self.statuses: list[str] = ads["status"].tolist()
        self.changed_on: list[int] = ads["changed_on"].tolist()
        self.account_ids: list[str | None] = ads["account_id"].tolist()
        self.own_currencies: list[str | None] = ads["currency"].tolist()
        self.rank = np.array([_RANK[level] for level in self.levels], np.int64)
        self.parents = self._parents(ads["parent_id"].tolist())

    def _parents(self, parent_ids: Sequence[str | None]) -> Integers:
        place = {id_: index for index, id_ in enumerate(self.ids)}
        found = np.full(len(self.ids), -1, np.int64)
        for index, parent_id in enumerate(parent_ids):
            parent = -1 if parent_id is None else place.get(parent_id, -1)
            if (
                parent >= 0
                and self.rank[parent] > self.rank[index]
                and self.business_ids[parent] == self.business_ids[index]
            ):
                found[index] = parent
        return found

    @cached_property
    def landing_pages(self) -> list[str | None]:
        """Its own, or else the one that everything below it leads to that is not deleted."""
        below: list[set[str | None]] = [set() for _ in self.ids]
        # From the lowest level up, so that whatever hangs below is complete.
        upwards: list[int] = np.argsort(self.rank, kind="stable").tolist()
        for index in upwards:
            parent, own = int(self.parents[index]), self.own_pages[index]
            if parent < 0 or self.is_deleted(index):
                continue
            below[parent] |= below[index]
            if own is not None or self.levels[index] == Level.AD.value:
                below[parent].add(own)
        return [
            own if own is not None or len(pages) != 1 else next(iter(pages))
            for own, pages in zip(self.own_pages, below, strict=True)
        ]

    @cached_property
    def currencies(self) -> list[str | None]:
        """Its own, or else the first that anything of its account says."""
        # Of its business's account: what is not of the business may not be here another time.
        accounts = list(zip(self.business_ids, self.account_ids, strict=True))
        of_account: dict[tuple[str | None, str | None], str] = {}
        for account, own in zip(accounts, self.own_currencies, strict=True):
            if own is not None and account[1] is not None:
                of_account.setdefault(account, own)
        return [
            own or of_account.get(account)
            for account, own in zip(accounts, self.own_currencies, strict=True)
        ]

    @cached_property
    def currency_bits(self) -> Bases:
        """A bit for each currency of its business, 0 for none; from the eighth on they share it."""
        bits = np.zeros(len(self.ids), np.uint8)
        number_of = defaultdict[str | None, dict[str, int]](dict)
        for index, (business_id, currency) in enumerate(
            zip(self.business_ids, self.currencies, strict=True)
        ):
            if currency is not None:
                numbers = number_of[business_id]
                bits[index] = 1 << min(numbers.setdefault(currency, len(numbers)), 7)
        return bits

    def is_deleted(self, index: int) -> bool:
        return self.statuses[index] == EntityStatus.DELETED.value


class _Pages:
    """The pages that there are, by business and address."""

    def __init__(self, pages: pd.DataFrame) -> None:
        self.business_ids: list[str] = pages["business_id"].tolist()
        self.hashes: list[str] = pages["url_hash"].tolist()
        self.urls: list[str] = pages["url"].tolist()

    def __len__(self) -> int:
        return len(self.urls)

    def places(self, business_ids: Sequence[str | None], urls: Sequence[str | None]) -> Integers:
        """The places of these pages, -1 for one that is none."""
        known: dict[tuple[str | None, str | None], int] = {
            key: place for place, key in enumerate(zip(self.business_ids, self.urls, strict=True))
        }
        keys = zip(business_ids, urls, strict=True)
        return np.array([known.get(key, -1) for key in keys], np.int64)


def _changes(tree: _AdTree, page_of_ad: Integers, count: int) -> list[int]:
    """When each page was last changed, as far as what leads to it knows."""
    latest = [0] * count
    pages: list[int] = page_of_ad.tolist()
    for index, page in enumerate(pages):
        if page >= 0 and not tree.is_deleted(index):
            latest[page] = max(latest[page], tree.changed_on[index])
    return latest


class _Found:
    """Entities as they are found, a list per fact, and the row of each in every source.

    The rows of ads are those of ad entities, then of businesses, then of pages.
    """

    def __init__(self, business_ids: Sequence[str]) -> None:
        self.known_businesses = business_ids
        self.business_place = {id_: place for place, id_ in enumerate(business_ids)}
        self.ids: list[str] = []
        self.names: list[str] = []
        self.levels: list[str] = []
        self.statuses: list[str] = []
        self.business_ids: list[str] = []
        self.landing_pages: list[str] = []
        self.changed_on: list[int] = []
        self.business_rows: list[int] = []
        self.page_rows: list[int] = []
        self.ad_rows: list[int] = []

    def add_businesses(self, *, ads: int) -> None:
        for place, business_id in enumerate(self.known_businesses):
            self._add(business_id, business_id, Level.BUSINESS.value, business_id)
            self._place(page=-1, ad=ads + place)

    def add_ads(self, tree: _AdTree, page_of_ad: Integers, *, levels: Collection[Level]) -> None:
        wanted = {level.value for level in levels}
        pages = page_of_ad.tolist()
        for index, level in enumerate(tree.levels):
            if level not in wanted or tree.is_deleted(index):
                continue
            self._add(
                tree.ids[index],
                tree.names[index],
                level,
                tree.business_ids[index] or "",
                status=tree.statuses[index],
                landing_page=tree.landing_pages[index] or "",
                changed_on=tree.changed_on[index],
            )
            self._place(page=pages[index], ad=index)

    def add_pages(
        self, pages: _Pages, is_entity: Booleans, *, ads: int, changed_on: Sequence[int]
    ) -> None:
        first = ads + len(self.known_businesses)
        for place in np.flatnonzero(is_entity).tolist():
            business_id, url = pages.business_ids[place], pages.urls[place]
            self._add(
                page_entity_id(business_id=business_id, url_hash=pages.hashes[place]),
                url,
                Level.LANDING_PAGE.value,
                business_id,
                landing_page=url,
                changed_on=changed_on[place],
            )
            self._place(page=place, ad=first + place)

    def _add(
        self,
        id_: str,
        name: str,
        level: str,
        business_id: str,
        *,
        status: str = EntityStatus.ACTIVE.value,
        landing_page: str = "",
        changed_on: int = 0,
    ) -> None:
        self.ids.append(id_)
        self.names.append(name)
        self.levels.append(level)
        self.business_ids.append(business_id)
        self.statuses.append(status)
        self.landing_pages.append(landing_page)
        self.changed_on.append(changed_on)

    def _place(self, *, page: int, ad: int) -> None:
        self.business_rows.append(self.business_place.get(self.business_ids[-1], -1))
        self.page_rows.append(page)
        self.ad_rows.append(ad)

    def order(self) -> list[int]:
        """By business and id."""
        keys = list(zip(self.business_ids, self.ids, strict=True))
        return sorted(range(len(keys)), key=keys.__getitem__)

    def entities(self, businesses: pd.DataFrame, order: Sequence[int]) -> Entities:
        rows = np.array(self.business_rows, np.int64)[list(order)]
        pages = [self.landing_pages[place] for place in order]

        def of_business(column: str) -> Booleans:
            # What belongs to nobody reads the row behind the last one.
            return np.append(businesses[column].to_numpy(np.bool_), np.False_)[rows]

        def texts(values: Sequence[str]) -> NDArray[np.str_]:
            return np.array([values[place] for place in order], np.str_)

        return Entities(
            ids=[self.ids[place] for place in order],
            names=[self.names[place] for place in order],
            landing_pages=pages,
            levels=texts(self.levels),
            statuses=texts(self.statuses),
            business_ids=texts(self.business_ids),
            has_landing_page=np.array([page != "" for page in pages], np.bool_),
            is_connected=of_business("is_connected"),
            is_enabled=of_business("is_enabled"),
            changed_on=np.array([self.changed_on[place] for place in order], np.int64),
        )


class _Table:
    """The days of one source as arrays, days x rows: a day of all rows lies together in memory."""

    def __init__(self, of: DayFrame, *, height: int) -> None:
        self.first_day = of.first_day
        shape = (of.days, height)
        days, rows = of.frame["day"].to_numpy(np.int64), of.frame["row"].to_numpy(np.int64)
        self.has_data: Booleans = np.zeros(shape, np.bool_)
        self.has_data[days, rows] = True
        self.basis: Bases | None = None
        if "basis" in of.frame:
            self.basis = np.zeros(shape, np.uint8)
            self.basis[days, rows] = of.frame["basis"].to_numpy(np.uint8)
        self.values: dict[str, Floats] = {}
        for name in of.frame.columns:
            if name not in {"day", "row", "basis"}:
                values = self.values[name] = np.full(shape, np.nan)
                values[days, rows] = of.frame[name].to_numpy(np.float64)

    def count_in(self, bits: Bases) -> None:
        """Say in what the days of the first rows are counted."""
        self.basis = np.zeros(self.has_data.shape, np.uint8)
        self.basis[:, : len(bits)] = self.has_data[:, : len(bits)] * bits

    def add_up(self, of: Integers, *, into: Integers) -> None:
        """Add rows to others, where these have no day of their own.

        A sum of which one part is unknown is unknown, and a sum is counted in all that its parts
        are. Parts are added in their order, which makes the same bits every time.
        """
        if not len(of):
            return
        targets, place = np.unique(into, return_inverse=True)
        shape = (len(self.has_data), len(targets))
        counts = self.has_data[:, of]
        cells = (np.arange(shape[0])[:, None] * shape[1] + place)[counts]
        size = shape[0] * shape[1]
        has_part = np.bincount(cells, minlength=size).reshape(shape) > 0
        is_filled = has_part & ~self.has_data[:, targets]
        for values in self.values.values():
            total = np.bincount(cells, values[:, of][counts], minlength=size).reshape(shape)
            values[:, targets] = np.where(is_filled, total, values[:, targets])
        if self.basis is not None:
            together = np.zeros(size, np.uint8)
            np.bitwise_or.at(together, cells, self.basis[:, of][counts])
            basis = self.basis[:, targets]
            self.basis[:, targets] = np.where(is_filled, together.reshape(shape), basis)
        self.has_data[:, targets] |= has_part

    def series(self, row_of_entity: Integers) -> DailySeries:
        return DailySeries(
            first_day=self.first_day,
            has_data=self.has_data.T,
            values={name: values.T for name, values in self.values.items()},
            row_of_entity=row_of_entity,
            basis=None if self.basis is None else self.basis.T,
        )


def _ad_table(
    of: DayFrame,
    frames: Frames,
    tree: _AdTree,
    page_of_ad: Integers,
    *,
    levels: Collection[Level],
) -> _Table:
    """The days of ad entities, and the sums of those for what stands above them."""
    ads, businesses = len(tree.ids), len(frames.businesses)
    table = _Table(of, height=ads + businesses + len(frames.pages))
    if (tree.currency_bits > 1).any():
        table.count_in(tree.currency_bits)
    if not set(levels) <= {Level.AD, Level.LANDING_PAGE}:
        rank_above = np.where(tree.parents >= 0, tree.rank[tree.parents], -1)
        for level in (Level.AD_SET, Level.CAMPAIGN):
            below = np.flatnonzero(rank_above == _RANK[level.value])
            table.add_up(below, into=tree.parents[below])
    if Level.BUSINESS in levels:
        place = {id_: index for index, id_ in enumerate(frames.businesses["id"].tolist())}
        of_business = np.array([place.get(id_ or "", -1) for id_ in tree.business_ids], np.int64)
        top = np.flatnonzero((tree.parents < 0) & (of_business >= 0))
        table.add_up(top, into=ads + of_business[top])
    if Level.LANDING_PAGE in levels:
        leading = np.flatnonzero((tree.rank == _RANK[Level.AD.value]) & (page_of_ad >= 0))
        table.add_up(leading, into=ads + businesses + page_of_ad[leading])
    return table
