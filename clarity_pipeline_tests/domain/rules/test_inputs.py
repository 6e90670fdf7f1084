"""Entities and their series out of stored frames, against somebody who walks the tree by hand."""

from __future__ import annotations

import random
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from clarity_pipeline.domain.rules.history import Source
from clarity_pipeline.domain.rules.inputs import (
    DayFrame,
    Frames,
    RuleInputs,
    build_inputs,
    landing_pages,
)
from clarity_pipeline.domain.rules.model import Level

FIRST, LAST = date(2028, 2, 28), date(2028, 3, 1)
ABOVE = {"ad": ("ad_set", "campaign"), "ad_set": ("campaign",), "campaign": ()}
PAGES = ("https://a.example/", "https://b.example/")
BUSINESSES = ("acme", "bolt")


class Account:
    """Ads at random: trees with holes, deleted parts, parents that are none, and days."""

    def __init__(self, seed: int) -> None:
        pick = random.Random(seed)
        self.ads: dict[str, dict[str, Any]] = {}
        for number in range(pick.randint(1, 12)):
            level = pick.choice(["ad", "ad", "ad_set", "campaign"])
            self.ads[f"meta:{number:02d}"] = {
                "level": level,
                "parent_id": pick.choice([None, "gone", *(f"meta:{n:02d}" for n in range(12))]),
                "business_id": pick.choice([*BUSINESSES, BUSINESSES[0], None]),
                "name": f"Entity {number}",
                "status": pick.choice(["active", "active", "paused", "deleted"]),
                "landing_page": pick.choice([None, None, *PAGES]),
                "account_id": pick.choice([None, "1", "2"]),
                "currency": pick.choice([None, None, "EUR", "USD"]),
                "changed_on": pick.choice([0, FIRST.toordinal(), LAST.toordinal()]),
            }
        self.days = {
            (id_, day): pick.choice([0.1, 0.2, 3.0, 7.7, None])
            for id_ in self.ads
            for day in range(3)
            if pick.random() < 0.5
        }

    def inputs(self) -> RuleInputs:
        ids = sorted(self.ads)
        ads = pd.DataFrame([{"id": id_, **self.ads[id_]} for id_ in ids]).astype(object)
        for name in ("parent_id", "business_id", "landing_page", "account_id", "currency"):
            ads[name] = pd.Series([self.ads[id_][name] for id_ in ids], dtype=object)
        pages = [(b, url) for b in BUSINESSES for url in PAGES]
        frame = pd.DataFrame(
            {
                "row": [float(ids.index(id_)) for id_, _ in self.days],
                "day": [float(day) for _, day in self.days],
                "spend": [np.nan if s is None else s for s in self.days.values()],
            },
            dtype=float,
        )
        frames = Frames(
            businesses=pd.DataFrame(
                {"id": BUSINESSES, "is_connected": [True, False], "is_enabled": [True, True]}
            ),
            ads=ads,
            pages=pd.DataFrame(
                {
                    "business_id": [b for b, _ in pages],
                    "url_hash": [f"hash of {url}" for _, url in pages],
                    "url": [url for _, url in pages],
                    "is_entity": [True] * len(pages),
                }
            ),
            days={Source.ADS: DayFrame(first_day=FIRST, last_day=LAST, frame=frame)},
        )
        assert landing_pages(ads) == [self.page(id_) for id_ in ids]
        return build_inputs(frames, levels=set(Level))

    def children(self, id_: str) -> list[str]:
        return [child for child in sorted(self.ads) if self.parent(child) == id_]

    def parent(self, id_: str) -> str | None:
        own = self.ads[id_]
        parent = self.ads.get(own["parent_id"])
        if parent is None or parent["level"] not in ABOVE[own["level"]]:
            return None
        return own["parent_id"] if parent["business_id"] == own["business_id"] else None

    def below(self, id_: str) -> list[str]:
        """Everything that hangs below and is not deleted, nor below what is."""
        alive = [child for child in self.children(id_) if self.ads[child]["status"] != "deleted"]
        return [each for child in alive for each in (child, *self.below(child))]

    def page(self, id_: str) -> str | None:
        if self.ads[id_]["landing_page"] is not None:
            return self.ads[id_]["landing_page"]
        told = {
            self.ads[each]["landing_page"]
            for each in self.below(id_)
            if self.ads[each]["level"] == "ad" or self.ads[each]["landing_page"] is not None
        }
        return next(iter(told)) if len(told) == 1 else None

    def currency(self, id_: str) -> str | None:
        """Its own, or that of the first of its account."""
        own = self.ads[id_]
        of_account = [
            each["currency"]
            for _, each in sorted(self.ads.items())
            if each["account_id"] is not None
            and each["account_id"] == own["account_id"]
            and each["business_id"] == own["business_id"]
            and each["currency"] is not None
        ]
        return own["currency"] or next(iter(of_account), None)

    def currencies(self, id_: str, day: int) -> set[str]:
        if (id_, day) in self.days:
            return {self.currency(id_) or ""} - {""}
        return set[str]().union(*(self.currencies(child, day) for child in self.children(id_)))

    def spend(self, id_: str, day: int) -> float | str | None:
        """None is unknown, "nothing" is no day."""
        if (id_, day) in self.days:
            return self.days[id_, day]
        return added(self.spend(child, day) for child in self.children(id_))


def added(parts: Any) -> float | str | None:
    known = [part for part in parts if part != "nothing"]
    if not known:
        return "nothing"
    total = 0.0
    for part in known:
        if part is None:
            return None
        total += part
    return total


@settings(max_examples=120)
@given(seed=st.integers(min_value=0, max_value=2**32))
def test_every_entity_has_the_sums_of_what_hangs_below_it(seed: int) -> None:
    account = Account(seed)
    inputs = account.inputs()
    entities, series = inputs.entities, inputs.series[Source.ADS]
    keys = list(zip(entities.business_ids.tolist(), entities.ids, strict=True))
    assert keys == sorted(keys)
    alive = {id_ for id_, ad in account.ads.items() if ad["status"] != "deleted"}
    whole = {f"page:{b}:hash of {url}" for b in BUSINESSES for url in PAGES} | {*BUSINESSES}
    assert set(entities.ids) == alive | whole
    for place, id_ in enumerate(entities.ids):
        row = int(series.row_of_entity[place])
        for day in range(3):
            expected = expected_spend(account, id_, day)
            assert series.has_data[row, day] == (expected != "nothing")
            value = series.values["spend"][row, day]
            if expected in (None, "nothing"):
                assert np.isnan(value)
            else:
                assert value == expected


@settings(max_examples=120)
@given(seed=st.integers(min_value=0, max_value=2**32))
def test_a_sum_of_ads_of_several_currencies_says_so(seed: int) -> None:
    account = Account(seed)
    series = account.inputs().series[Source.ADS]
    for place, id_ in enumerate(account.inputs().entities.ids):
        row = int(series.row_of_entity[place])
        for day in range(3):
            parts = parts_of(account, id_)
            currencies = set[str]().union(*(account.currencies(part, day) for part in parts))
            bits = 0 if series.basis is None else int(series.basis[row, day])
            assert (bits.bit_count() > 1) is (len(currencies) > 1)
            assert series.basis is None or bits.bit_count() == len(currencies)


def test_more_currencies_than_bits_are_still_several() -> None:
    account = Account(0)
    an_ad = {"level": "ad", "parent_id": None, "business_id": "acme", "name": "", "changed_on": 0}
    an_ad |= {"status": "active", "landing_page": None, "account_id": None}
    account.ads = {f"meta:{n}": {**an_ad, "currency": f"AA{n}"} for n in range(9)}
    account.days.clear()
    account.days |= dict.fromkeys([(id_, 0) for id_ in account.ads], 1.0)
    inputs = account.inputs()
    series = inputs.series[Source.ADS]
    assert series.basis is not None
    of_acme = int(series.row_of_entity[inputs.entities.ids.index("acme")])
    assert int(series.basis[of_acme, 0]).bit_count() == 8


def expected_spend(account: Account, id_: str, day: int) -> float | str | None:
    if id_ in account.ads:
        return account.spend(id_, day)
    return added(account.spend(part, day) for part in parts_of(account, id_))


def parts_of(account: Account, id_: str) -> list[str]:
    """The ads, ad sets and campaigns that an entity's days of ads are added up of."""
    ads = sorted(account.ads)
    if id_ in account.ads:
        return [id_]
    if id_ in BUSINESSES:
        return [
            ad for ad in ads if account.ads[ad]["business_id"] == id_ and account.parent(ad) is None
        ]
    _, business_id, hash_ = id_.split(":", 2)
    return [
        ad
        for ad in ads
        if account.ads[ad]["level"] == "ad"
        and account.ads[ad]["business_id"] == business_id
        and f"hash of {account.page(ad)}" == hash_
    ]


@settings(max_examples=60)
@given(seed=st.integers(min_value=0, max_value=2**32))
def test_facts_of_an_entity_are_its_own_and_those_of_its_business(seed: int) -> None:
    account = Account(seed)
    entities = account.inputs().entities
    for place, id_ in enumerate(entities.ids):
        business_id = str(entities.business_ids[place])
        assert bool(entities.is_connected[place]) is (business_id == "acme")
        assert bool(entities.is_enabled[place]) is (business_id != "")
        if id_ in account.ads:
            ad = account.ads[id_]
            assert business_id == (ad["business_id"] or "")
            assert entities.landing_pages[place] == (account.page(id_) or "")
            assert entities.changed_on[place] == ad["changed_on"]
            assert (str(entities.levels[place]), str(entities.statuses[place])) == (
                ad["level"],
                ad["status"],
            )


def test_a_landing_page_was_changed_when_what_leads_to_it_last_was() -> None:
    account = Account(0)
    account.ads = {
        f"meta:{n}": {
            "level": "ad",
            "parent_id": None,
            "business_id": "acme",
            "name": "",
            "status": status,
            "landing_page": PAGES[0],
            "account_id": None,
            "currency": None,
            "changed_on": day.toordinal(),
        }
        for n, (status, day) in enumerate(
            [("active", FIRST), ("paused", date(2028, 2, 29)), ("deleted", LAST)]
        )
    }
    account.days = {}
    entities = account.inputs().entities
    changed = dict(zip(entities.ids, entities.changed_on.tolist(), strict=True))
    assert changed[f"page:acme:hash of {PAGES[0]}"] == date(2028, 2, 29).toordinal()
    assert changed[f"page:acme:hash of {PAGES[1]}"] == 0
