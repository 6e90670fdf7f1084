"""Ads and their days in the database: written in bulk, once, and read as rules need them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from sqlalchemy import select

from clarity_pipeline.domain.ads import AdDay, AdEntity
from clarity_pipeline.domain.errors import UnknownBusiness
from clarity_pipeline.domain.rules.model import EntityStatus, Level
from clarity_pipeline.store import ad_entities, businesses
from clarity_pipeline.store.bulk import WriteCounts
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import ad_entities as entity_table
from clarity_pipeline.store.schema import ad_entity_metrics as metric_table
from clarity_pipeline_tests.factories import DAY, NOW
from clarity_pipeline_tests.store.races import all_at_once

LATER = NOW + timedelta(hours=1)


@pytest.fixture(autouse=True)
def two_businesses(database: Database) -> None:
    for business_id in ("acme", "bolt"):
        businesses.add_business(database, business_id=business_id, name="B", now=NOW)


def entity(number: int, level: Level = Level.AD, *, parent: int | None = None) -> AdEntity:
    return AdEntity(
        id=f"meta:{number}",
        platform="meta",
        platform_id=str(number),
        level=level,
        parent_id=None if parent is None else f"meta:{parent}",
        business_id="acme",
        name=f"Ad {number} \t\\N\n'ü'",
    )


WHOLE = AdEntity(
    id="meta:7",
    platform="meta",
    platform_id="7",
    level=Level.AD,
    parent_id="meta:6",
    account_id="meta:act_1",
    business_id="acme",
    name="Whole",
    status=EntityStatus.PAUSED,
    landing_url="https://Acme.example/a?utm_source=x",
    landing_page="https://acme.example/a",
    daily_budget=12.5,
    currency="EUR",
    changed_on=date(2024, 2, 29),
)


def store(database: Database, *entities: AdEntity) -> None:
    ad_entities.upsert_entities(database, entities, now=NOW)


def stored_days(database: Database) -> list[tuple[object, ...]]:
    with database.reading() as connection:
        statement = select(metric_table).order_by(metric_table.c.entity_id, metric_table.c.date)
        return [tuple(row) for row in connection.execute(statement)]


def test_an_entity_is_read_as_it_was_written(database: Database) -> None:
    counts = ad_entities.upsert_entities(database, [WHOLE, entity(1)], now=NOW)
    assert counts == WriteCounts(inserted=2)
    assert ad_entities.list_entities(database, business_ids=None) == [entity(1), WHOLE]


def test_the_same_entities_again_are_not_written(database: Database) -> None:
    store(database, WHOLE, entity(1))
    counts = ad_entities.upsert_entities(database, [entity(1), WHOLE], now=LATER)
    assert counts == WriteCounts(unchanged=2)
    with database.reading() as connection:
        assert set(connection.scalars(select(entity_table.c.updated_at))) == {NOW}


def test_what_changed_is_written_and_what_is_not_named_stays(database: Database) -> None:
    store(database, WHOLE, entity(1), entity(2))
    changed = replace(WHOLE, status=EntityStatus.DELETED, landing_url=None, changed_on=DAY)
    counts = ad_entities.upsert_entities(database, [changed, entity(1), entity(3)], now=LATER)
    assert counts == WriteCounts(inserted=1, updated=1, unchanged=1)
    listed = ad_entities.list_entities(database, business_ids=None)
    assert listed == [entity(1), entity(2), entity(3), changed]
    with database.reading() as connection:
        statement = select(entity_table.c.created_at, entity_table.c.updated_at)
        of_changed = connection.execute(statement.where(entity_table.c.id == "meta:7")).one()
    assert tuple(of_changed) == (NOW, LATER)


def test_an_entity_of_no_business_there_is_leaves_all_unwritten(database: Database) -> None:
    with pytest.raises(UnknownBusiness, match="nobody"):
        store(database, entity(1), replace(entity(2), business_id="nobody"))
    assert ad_entities.list_entities(database, business_ids=None) == []


def test_entities_are_listed_by_business_and_in_pages(database: Database) -> None:
    store(
        database,
        *(entity(number) for number in range(5)),
        replace(WHOLE, business_id="bolt"),
        replace(entity(9), business_id=None),
    )

    def page(business_id: str | None, after: str | None) -> list[str]:
        found = ad_entities.page_of_entities(
            database, business_id=business_id, after=after, limit=3
        )
        return [each.platform_id for each in found]

    of_bolt = ad_entities.list_entities(database, business_ids=["bolt"])
    assert [each.id for each in of_bolt] == ["meta:7"]
    assert ad_entities.list_entities(database, business_ids=[]) == []
    assert (page("acme", None), page("acme", "meta:2")) == (["0", "1", "2"], ["3", "4"])
    assert page(None, "meta:4") == ["7", "9"]


def test_a_change_sees_what_there_is_what_that_hangs_from_and_nothing_else(
    database: Database,
) -> None:
    campaign = entity(9, Level.CAMPAIGN)
    store(database, campaign, entity(1, parent=9), entity(2, parent=9))
    seen: list[Mapping[str, AdEntity]] = []

    def change(before: Mapping[str, AdEntity]) -> Sequence[AdEntity]:
        seen.append(before)
        return [replace(before["meta:1"], name="Another"), entity(3)]

    counts = ad_entities.change_entities(
        database, entity_ids=["meta:1", "meta:3"], change=change, now=LATER
    )
    assert seen == [{"meta:1": entity(1, parent=9), "meta:9": campaign}]
    assert counts == WriteCounts(inserted=1, updated=1)


def test_what_hangs_below_an_entity_follows_it_to_another_business(database: Database) -> None:
    campaign = entity(1, Level.CAMPAIGN)
    store(
        database,
        campaign,
        entity(2, Level.AD_SET, parent=1),
        entity(3, Level.AD, parent=2),
        entity(4, Level.CAMPAIGN),
        entity(5, Level.AD, parent=4),
    )
    moved = replace(campaign, business_id="bolt")
    counts = ad_entities.change_entities(
        database, entity_ids=[campaign.id], change=lambda _: [moved], now=LATER
    )
    assert counts == WriteCounts(updated=3)
    by_business = {
        business_id: [
            each.platform_id
            for each in ad_entities.list_entities(database, business_ids=[business_id])
        ]
        for business_id in ("acme", "bolt")
    }
    assert by_business == {"acme": ["4", "5"], "bolt": ["1", "2", "3"]}


def test_known_ids_are_those_that_there_is_an_entity_of(database: Database) -> None:
    store(database, entity(1), entity(2))
    assert ad_entities.known_entity_ids(database, {"meta:2", "meta:3"}) == {"meta:2"}


def test_an_action_changes_the_state_of_an_entity_and_nothing_else(database: Database) -> None:
    store(database, WHOLE, entity(1))
    ad_entities.set_entity_state(
        database, entity_id="meta:7", status=EntityStatus.ACTIVE, now=LATER
    )
    ad_entities.set_entity_state(database, entity_id="meta:7", daily_budget=15.0, now=LATER)
    ad_entities.set_entity_state(database, entity_id="meta:7", now=LATER)
    ad_entities.set_entity_state(database, entity_id="meta:9", daily_budget=15.0, now=LATER)
    assert ad_entities.list_entities(database, business_ids=None) == [
        entity(1),
        replace(WHOLE, status=EntityStatus.ACTIVE, daily_budget=15.0),
    ]


def test_days_are_written_once_and_again_only_where_they_differ(database: Database) -> None:
    store(database, entity(1), entity(2))
    days = [
        AdDay(entity_id="meta:1", day=DAY, spend=1.25, revenue=-3.0, further={"leads": 2.0}),
        AdDay(entity_id="meta:2", day=DAY, clicks=4.0),
    ]
    assert ad_entities.upsert_metrics(database, days, now=NOW) == WriteCounts(inserted=2)
    first = stored_days(database)
    assert ad_entities.upsert_metrics(database, days, now=LATER) == WriteCounts(unchanged=2)
    assert stored_days(database) == first
    restated = [replace(days[0], spend=1.5), days[1], replace(days[1], day=DAY - timedelta(1))]
    counts = ad_entities.upsert_metrics(database, restated, now=LATER)
    assert counts == WriteCounts(inserted=1, updated=1, unchanged=1)
    assert stored_days(database)[0][2:] == (1.5, None, None, None, -3.0, {"leads": 2.0}, LATER)


def test_a_day_of_which_something_else_is_told_keeps_what_was_known(database: Database) -> None:
    store(database, entity(1))
    of_meta = AdDay(entity_id="meta:1", day=DAY, spend=9.0, further={"leads": 2.0, "calls": 1.0})
    of_shop = AdDay(entity_id="meta:1", day=DAY, revenue=30.0, further={"calls": 5.0, "orders": 1})
    ad_entities.upsert_metrics(database, [of_meta], now=NOW)
    ad_entities.upsert_metrics(database, [of_shop], now=LATER)
    assert stored_days(database)[0][2:7] == (9.0, None, None, None, 30.0)
    assert stored_days(database)[0][7] == {"leads": 2.0, "calls": 5.0, "orders": 1}
    before = AdDay(entity_id="meta:1", day=DAY - timedelta(1), spend=1.0)
    for bare in (before, replace(before, further={"leads": 1.0})):
        ad_entities.upsert_metrics(database, [bare], now=NOW)
    assert stored_days(database)[0][7] == {"leads": 1.0}
    for again in (of_shop, AdDay(entity_id="meta:1", day=DAY)):
        counts = ad_entities.upsert_metrics(database, [again], now=LATER)
        assert counts == WriteCounts(unchanged=1)


def test_a_deleted_entity_keeps_its_days(database: Database) -> None:
    store(database, entity(1))
    ad_entities.upsert_metrics(database, [AdDay(entity_id="meta:1", day=DAY, spend=1)], now=NOW)
    store(database, replace(entity(1), status=EntityStatus.DELETED))
    frame = ad_entities.read_metric_frame(
        database, entity_ids=["meta:1"], start=DAY, end=DAY, series=["spend"]
    )
    assert frame["spend"].tolist() == [1.0]


def test_two_who_import_the_same_do_it_one_after_the_other(database: Database) -> None:
    """The second of them is there before the first is done, and waits for it."""
    counts: list[WriteCounts] = []

    def import_too() -> None:
        counts.append(ad_entities.upsert_entities(database, [entity(1)], now=NOW))

    second = threading.Thread(target=import_too)

    def change(before: Mapping[str, AdEntity]) -> Sequence[AdEntity]:
        assert before == {}
        second.start()
        second.join(0.5)
        assert second.is_alive()
        return [entity(1)]

    first = ad_entities.change_entities(database, entity_ids=["meta:1"], change=change, now=NOW)
    second.join()
    assert (first, counts) == (WriteCounts(inserted=1), [WriteCounts(unchanged=1)])


def test_an_action_meanwhile_is_neither_lost_nor_waited_for_in_vain(database: Database) -> None:
    store(database, *(entity(number) for number in range(20)))

    def pause_or_import(number: int) -> None:
        if number % 2:
            ad_entities.set_entity_state(
                database, entity_id=f"meta:{number}", status=EntityStatus.PAUSED, now=LATER
            )
            return
        ad_entities.change_entities(
            database,
            entity_ids=[f"meta:{each}" for each in range(20)],
            change=lambda before: [replace(each, name="New") for each in before.values()],
            now=LATER,
        )

    all_at_once(pause_or_import, range(10))
    entities = ad_entities.list_entities(database, business_ids=None)
    assert {each.name for each in entities} == {"New"}
    paused = [each.platform_id for each in entities if each.status is EntityStatus.PAUSED]
    assert paused == ["1", "3", "5", "7", "9"]


def test_nothing_to_write_is_nothing_written(database: Database) -> None:
    assert ad_entities.upsert_entities(database, [], now=NOW) == WriteCounts()
    assert ad_entities.upsert_metrics(database, [], now=NOW) == WriteCounts()


def test_the_frame_has_the_days_asked_for_and_a_column_per_series(database: Database) -> None:
    store(database, entity(1), entity(2), replace(WHOLE, business_id="bolt"))
    days = [DAY + timedelta(offset) for offset in range(-2, 2)]
    ad_entities.upsert_metrics(
        database,
        [
            AdDay(entity_id=each, day=day, spend=float(day.day), further={"leads": 2.5})
            for each in ("meta:7", "meta:2", "meta:1")
            for day in days
        ]
        + [AdDay(entity_id="meta:1", day=DAY - timedelta(9), clicks=1)],
        now=NOW,
    )
    frame = ad_entities.read_metric_frame(
        database,
        business_ids=["acme"],
        start=days[1],
        end=days[2],
        series=["spend", "ad.leads", "clicks", "ad.calls"],
    )
    assert list(frame.columns) == ["entity_id", "date", "spend", "ad.leads", "clicks", "ad.calls"]
    assert frame["entity_id"].tolist() == ["meta:1", "meta:1", "meta:2", "meta:2"]
    assert frame["date"].dtype == np.dtype("datetime64[s]")
    assert [day.date() for day in frame["date"]] == [days[1], days[2]] * 2
    assert frame["spend"].tolist() == [31.0, 1.0] * 2
    assert frame["ad.leads"].tolist() == [2.5] * 4
    assert frame[["clicks", "ad.calls"]].isna().all(axis=None)
    assert all(frame[name].dtype == np.float64 for name in frame.columns[2:])


def test_the_frame_of_nothing_has_its_columns(database: Database) -> None:
    for chosen in ({"entity_ids": ["meta:1"]}, {"business_ids": ["acme"]}, {}):
        frame = ad_entities.read_metric_frame(
            database, start=DAY, end=DAY, series=["spend", "ad.leads"], **chosen
        )
        assert list(frame.columns) == ["entity_id", "date", "spend", "ad.leads"]
        assert len(frame) == 0
        assert frame["date"].dtype == np.dtype("datetime64[s]")
        assert frame["ad.leads"].dtype == np.float64


def test_a_series_that_ads_do_not_have_is_a_mistake_of_the_program(database: Database) -> None:
    with pytest.raises(ValueError, match="sessions"):
        ad_entities.read_metric_frame(database, start=DAY, end=DAY, series=["sessions"])
