"""What rows make of the ads that there are, and which rows cannot be."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarity_pipeline.domain.ad_changes import EntityChanges, change_entities
from clarity_pipeline.domain.ad_rows import LEVELS, RowDefaults, gather_rows
from clarity_pipeline.domain.ads import AdEntity
from clarity_pipeline.domain.rules.model import EntityStatus, Level

TODAY = date(2026, 11, 2)

CAMPAIGN = AdEntity(
    id="meta:1", platform="meta", platform_id="1", level=Level.CAMPAIGN, business_id="acme"
)
AD_SET = AdEntity(
    id="meta:2",
    platform="meta",
    platform_id="2",
    level=Level.AD_SET,
    business_id="acme",
    parent_id="meta:1",
)
AD = AdEntity(
    id="meta:3",
    platform="meta",
    platform_id="3",
    level=Level.AD,
    business_id="acme",
    parent_id="meta:2",
    name="Blue",
    landing_url="https://acme.example/a",
    landing_page="https://acme.example/a",
    daily_budget=10.0,
    currency="EUR",
    changed_on=date(2026, 10, 1),
)
TREE = (CAMPAIGN, AD_SET, AD)


def change(*rows: dict[str, Any], standing: tuple[AdEntity, ...] = TREE) -> EntityChanges:
    gathered = gather_rows(
        enumerate(rows, start=1), defaults=RowDefaults(platform="meta"), today=TODAY
    )
    return change_entities(
        gathered,
        standing={each.id: each for each in standing},
        businesses={"acme", "bolt"},
        today=TODAY,
    )


def changed(row: dict[str, Any], standing: tuple[AdEntity, ...] = TREE) -> AdEntity:
    changes = change(row, standing=standing)
    assert changes.refused == {}
    [entity] = changes.entities
    return entity


def test_a_new_entity_has_its_id_for_a_name_and_is_active() -> None:
    row = {"level": "campaign", "id": "9"}
    assert changed(row) == AdEntity(
        id="meta:9",
        platform="meta",
        platform_id="9",
        level=Level.CAMPAIGN,
        name="9",
        status=EntityStatus.ACTIVE,
    )


def test_what_a_row_does_not_say_stays_as_it_is() -> None:
    assert changed({"id": "3", "status": "paused"}) == replace(AD, status=EntityStatus.PAUSED)
    assert changed({"id": "3", "name": "", "landing_url": "", "daily_budget": ""}) == AD


def test_null_takes_away_what_there_was() -> None:
    row = dict.fromkeys(("landing_url", "daily_budget", "currency", "changed_on", "parent_id"))
    assert changed({"id": "3", **row}) == replace(
        AD,
        landing_url=None,
        landing_page=None,
        daily_budget=None,
        currency=None,
        changed_on=None,
        parent_id=None,
    )


def test_the_landing_page_is_in_the_spelling_of_the_pages_that_clarity_saw() -> None:
    url = "HTTPS://Acme.Example:443/b/?utm_source=meta&b=2&a=1#top"
    entity = changed({"id": "3", "landing_url": url})
    assert (entity.landing_url, entity.landing_page) == (url, "https://acme.example/b?a=1&b=2")


def test_another_landing_page_makes_today_the_day_of_the_change() -> None:
    assert changed({"id": "3", "landing_url": "https://acme.example/b"}).changed_on == TODAY


@pytest.mark.parametrize(
    "url", ["https://acme.example/a", "https://acme.example/a?fbclid=1", "https://ACME.example/a/"]
)
def test_the_same_page_in_another_spelling_has_not_changed(url: str) -> None:
    assert changed({"id": "3", "landing_url": url}).changed_on == date(2026, 10, 1)


def test_the_day_that_a_row_names_goes_before_the_day_of_the_import() -> None:
    row = {"id": "3", "landing_url": "https://acme.example/b", "changed_on": "2026-10-31"}
    assert changed(row).changed_on == date(2026, 10, 31)
    assert changed({"id": "3", "changed_on": "2026-10-30"}).changed_on == date(2026, 10, 30)


def test_a_landing_page_that_was_not_known_before_has_not_changed() -> None:
    address = {"landing_url": "https://acme.example/b"}
    assert changed({"id": "2", **address}).changed_on is None
    assert changed({"level": "ad", "id": "9", **address}).changed_on is None


def test_children_may_come_before_their_parents() -> None:
    changes = change(
        {"level": "ad", "id": "30", "parent_id": "20"},
        {"level": "ad_set", "id": "20", "parent_id": "10"},
        {"level": "campaign", "id": "10", "business_id": "bolt"},
        standing=(),
    )
    assert changes.refused == {}
    assert [each.id for each in changes.entities] == ["meta:10", "meta:20", "meta:30"]
    assert {each.business_id for each in changes.entities} == {"bolt"}


def test_what_hangs_below_an_entity_belongs_to_its_business() -> None:
    assert changed({"level": "ad", "id": "9", "parent_id": "2"}).business_id == "acme"
    moved = change({"id": "1", "business_id": "bolt"}, {"id": "2", "name": "Wide"})
    assert moved.refused == {}
    assert [each.business_id for each in moved.entities] == ["bolt", "bolt"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"id": "9", "name": "New"}, "no meta:9 yet, and its level is not said"),
        ({"id": "3", "level": "campaign"}, "known as an ad, and not as a campaign"),
        ({"id": "1", "level": "ad_set"}, "known as a campaign, and not as an ad set"),
        ({"id": "3", "parent_id": "8"}, "parent meta:8 is not there"),
        ({"id": "3", "parent_id": "3"}, "its own parent"),
        ({"id": "2", "parent_id": "3"}, "meta:3 is an ad, which an ad set cannot be below"),
        ({"id": "1", "parent_id": "2"}, "meta:2 is an ad set, which a campaign cannot be below"),
        ({"level": "ad", "id": "9", "parent_id": "3"}, "meta:3 is an ad, which an ad"),
        ({"id": "1", "business_id": "nobody"}, "no business 'nobody'"),
        ({"id": "3", "business_id": "bolt"}, "business 'bolt', and its parent belongs to 'acme'"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(row: dict[str, Any], reason: str) -> None:
    changes = change({"id": "1", "name": "Spring"}, row)
    if row["id"] != "1":
        assert [each.name for each in changes.entities] == ["Spring"]
    assert reason in changes.refused[2]


def test_entities_in_a_circle_are_refused() -> None:
    changes = change(
        {"level": "ad_set", "id": "5", "parent_id": "6"},
        {"level": "ad_set", "id": "6", "parent_id": "5"},
        {"level": "ad", "id": "7", "parent_id": "6"},
    )
    assert (changes.entities, sorted(changes.refused)) == ((), [1, 2, 3])


def test_who_needs_what_was_refused_is_refused_with_it() -> None:
    changes = change(
        {"level": "ad", "id": "30", "parent_id": "20"},
        {"level": "ad_set", "id": "20", "parent_id": "10"},
        {"level": "campaign", "id": "10", "business_id": "nobody"},
        {"level": "ad", "id": "31", "parent_id": "2"},
    )
    assert [each.id for each in changes.entities] == ["meta:31"]
    assert sorted(changes.refused) == [1, 2, 3]


def test_a_row_with_a_path_is_taken_whole_or_not_at_all() -> None:
    """The ad is known as a campaign, so neither the campaign of its row nor its ad set is made."""
    row = {"campaign_id": "10", "ad_set_id": "20", "ad_id": "1", "ad_name": "Blue"}
    changes = change(row)
    assert (changes.entities, sorted(changes.refused)) == ((), [1])
    other = change(row, {**row, "ad_id": "30"})
    assert [each.id for each in other.entities] == ["meta:10", "meta:20", "meta:30"]
    assert sorted(other.refused) == [1]


def test_every_row_that_says_something_impossible_is_refused() -> None:
    row = {"campaign_id": "10", "business_id": "nobody", "ad_id": "30"}
    changes = change(row, {**row, "ad_id": "31"}, {"id": "3", "name": "Green"})
    assert sorted(changes.refused) == [1, 2]
    assert [each.name for each in changes.entities] == ["Green"]


IDS = st.sampled_from(["1", "2", "3", "4", "5"])
ROWS = st.lists(
    st.fixed_dictionaries(
        {"id": IDS},
        optional={
            "level": st.sampled_from([str(level) for level in LEVELS]),
            "parent_id": st.one_of(st.none(), IDS),
            "business_id": st.sampled_from(["acme", "bolt", "nobody"]),
        },
    ),
    max_size=8,
)


@given(rows=ROWS)
def test_whatever_is_said_what_stands_is_a_forest_within_businesses(
    rows: list[dict[str, Any]],
) -> None:
    changes = change(*rows)
    stands = {each.id: each for each in (*TREE, *changes.entities)}
    changed_ids = {each.id for each in changes.entities}
    assert len(changed_ids) == len(changes.entities)
    for entity in changes.entities:
        if entity.parent_id is not None:
            parent = stands[entity.parent_id]
            assert LEVELS.index(parent.level) < LEVELS.index(entity.level)
            assert parent.business_id in {None, entity.business_id}
    again = change_entities(
        gather_rows(
            ((line, row) for line, row in enumerate(rows, start=1) if line not in changes.refused),
            defaults=RowDefaults(platform="meta"),
            today=TODAY,
        ),
        standing=stands,
        businesses={"acme", "bolt"},
        today=TODAY,
    )
    assert again.refused == {}
    assert {each.id: each for each in again.entities} == {
        identity: stands[identity] for identity in changed_ids
    }
