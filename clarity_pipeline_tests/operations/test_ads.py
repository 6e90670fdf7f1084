"""Importing ads: the good rows are stored and the bad ones named, once and again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from sqlalchemy import func, select

from clarity_pipeline.domain.ad_kinds import AdRowKind
from clarity_pipeline.domain.ad_rows import RowDefaults
from clarity_pipeline.domain.errors import BadRow, InvalidAdAccount, InvalidAdRows, UnknownBusiness
from clarity_pipeline.domain.rules.model import EntityStatus, Level
from clarity_pipeline.operations.ads import ImportedAds, import_file, import_rows
from clarity_pipeline.store import ad_entities, businesses
from clarity_pipeline.store.bulk import WriteCounts
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import ad_entity_metrics
from clarity_pipeline_tests.factories import DAY, NOW

REPORT = """\
Reporting starts,Reporting ends,Campaign ID,Campaign name,Ad set ID,Ad set name,Ad ID,Ad name,\
Amount spent (EUR),Impressions,Link clicks,Reach,Website URL
2026-10-31,2026-10-31,1,Spring,2,Wide,3,Blue,10.5,1000,30,900,https://acme.example/a?utm_source=x
2026-11-01,2026-11-01,1,Spring,2,Wide,3,Blue,11,1100,31,990,https://acme.example/a?utm_source=x
2026-11-01,2026-11-01,1,Spring,2,Wide,4,Green,0,0,0,0,https://acme.example/b
2026-11-01,2026-11-01,,,,,,,21.5,2100,61,1890,
2026-11-01,2026-11-01,1,Spring,2,Wide,5,Red,"1,000",5,1,4,https://acme.example/b
"""
ACME = RowDefaults(business_id="acme")


@pytest.fixture(autouse=True)
def acme(database: Database) -> None:
    businesses.add_business(database, business_id="acme", name="Acme", now=NOW)


def spend_of(database: Database, entity_id: str) -> list[float]:
    frame = ad_entities.read_metric_frame(
        database,
        entity_ids=[entity_id],
        start=date(2026, 1, 1),
        end=DAY,
        series=["spend", "ad.link_clicks"],
    )
    return frame["spend"].tolist()


def count_days(database: Database) -> int:
    with database.reading() as connection:
        return connection.scalar(select(func.count()).select_from(ad_entity_metrics)) or 0


def test_a_report_with_a_row_per_ad_and_day_brings_the_tree_and_its_numbers(
    database: Database,
) -> None:
    imported = import_file(database, REPORT.encode(), now=NOW, defaults=ACME)
    assert imported == ImportedAds(
        rows=5,
        refused=(
            BadRow(5, "The id is missing."),
            BadRow(
                6,
                "The spend '1,000' can be read in two ways; write it without thousands separators "
                "and with a decimal point.",
            ),
        ),
        entities=WriteCounts(inserted=4),
        metrics=WriteCounts(inserted=3),
        passed_over=("Reach",),
    )
    entities = ad_entities.list_entities(database, business_ids=["acme"])
    assert [(each.id, each.level, each.parent_id, each.name) for each in entities] == [
        ("meta:1", Level.CAMPAIGN, None, "Spring"),
        ("meta:2", Level.AD_SET, "meta:1", "Wide"),
        ("meta:3", Level.AD, "meta:2", "Blue"),
        ("meta:4", Level.AD, "meta:2", "Green"),
    ]
    assert entities[2].landing_page == "https://acme.example/a"
    assert {each.currency for each in entities} == {"EUR"}
    assert spend_of(database, "meta:3") == [10.5, 11.0]


def test_the_same_file_again_changes_nothing(database: Database) -> None:
    import_file(database, REPORT.encode(), now=NOW, defaults=ACME)
    again = import_file(database, REPORT.encode(), now=NOW, defaults=ACME)
    assert (again.entities, again.metrics) == (WriteCounts(unchanged=4), WriteCounts(unchanged=3))
    assert again.counts == {
        "rows": 5,
        "rows_refused": 2,
        "entities_inserted": 0,
        "entities_updated": 0,
        "entities_unchanged": 4,
        "days_inserted": 0,
        "days_updated": 0,
        "days_unchanged": 3,
    }


def test_numbers_of_an_entity_that_is_not_there_are_refused(database: Database) -> None:
    import_file(database, REPORT.encode(), now=NOW, defaults=ACME)
    rows = [{"platform": "meta", "id": each, "date": str(DAY), "revenue": 5} for each in ("3", "9")]
    imported = import_rows(database, rows, now=NOW)
    assert imported.refused == (BadRow(2, "There is no entity meta:9; import it first."),)
    assert imported.metrics == WriteCounts(updated=1)
    assert spend_of(database, "meta:3") == [10.5, 11.0]


def test_numbers_whose_row_was_refused_for_its_entity_are_not_stored(database: Database) -> None:
    import_file(database, REPORT.encode(), now=NOW, defaults=ACME)
    row: dict[str, Any] = {"platform": "meta", "level": "campaign", "id": "3", "name": "Blue"}
    imported = import_rows(database, [{**row, "date": "2026-10-01", "spend": 5}], now=NOW)
    assert [bad.line for bad in imported.refused] == [1]
    assert count_days(database) == 3


def test_a_deleted_entity_keeps_its_numbers_and_gets_late_ones(database: Database) -> None:
    import_file(database, REPORT.encode(), now=NOW, defaults=ACME)
    rows: list[dict[str, Any]] = [
        {"id": "3", "status": "ARCHIVED"},
        {"id": "3", "date": "2026-10-30", "spend": 9},
    ]
    imported = import_rows(database, rows, now=NOW, defaults=RowDefaults(platform="meta"))
    assert imported.refused == ()
    assert spend_of(database, "meta:3") == [9.0, 10.5, 11.0]
    entities = ad_entities.list_entities(database, business_ids=None)
    assert [each.status for each in entities if each.id == "meta:3"] == [EntityStatus.DELETED]


def test_metrics_alone_can_be_taken_out_of_a_report(database: Database) -> None:
    import_file(database, REPORT.encode(), now=NOW, defaults=ACME)
    renamed = REPORT.replace("Blue", "Azure")
    defaults = RowDefaults(business_id="acme", kind=AdRowKind.METRICS)
    imported = import_file(database, renamed.encode(), now=NOW, defaults=defaults)
    assert (imported.entities, imported.metrics.unchanged) == (WriteCounts(), 3)


def test_what_only_the_database_knows_is_reckoned_with(database: Database) -> None:
    import_file(database, REPORT.encode(), now=NOW, defaults=ACME)
    businesses.add_business(database, business_id="bolt", name="Bolt", now=NOW)
    meta = RowDefaults(platform="meta")
    below = {"level": "ad", "id": "8", "parent_id": "2"}
    imported = import_rows(database, [below], now=NOW, defaults=meta)
    assert (imported.refused, imported.entities) == ((), WriteCounts(inserted=1))
    elsewhere = {"id": "3", "business_id": "bolt"}
    imported = import_rows(database, [elsewhere], now=NOW, defaults=meta)
    assert "its parent belongs to 'acme'" in imported.refused[0].reason


def test_what_holds_for_all_rows_is_checked_before_any_is_read(database: Database) -> None:
    def rows() -> Iterator[object]:
        raise AssertionError
        yield

    for defaults, error in (
        (RowDefaults(business_id="nobody"), UnknownBusiness),
        (RowDefaults(platform="Meta Ads"), InvalidAdAccount),
        (RowDefaults(platform="meta", account="a b"), InvalidAdAccount),
    ):
        with pytest.raises(error):
            import_rows(database, rows(), now=NOW, defaults=defaults)


def test_a_file_that_breaks_off_is_not_stored_at_all(database: Database) -> None:
    content = REPORT + '2026-11-01,2026-11-01,1,"Spri'
    with pytest.raises(InvalidAdRows, match="Line 7"):
        import_file(database, content.encode(), now=NOW, defaults=ACME)
    assert ad_entities.list_entities(database, business_ids=None) == []


def test_no_rows_are_no_change(database: Database) -> None:
    imported = import_rows(database, [], now=NOW)
    assert imported.counts == dict.fromkeys(imported.counts, 0)


def test_text_that_no_database_holds_is_stored_once_and_for_all(database: Database) -> None:
    row = {"level": "ad", "id": "1", "platform": "meta", "name": "a\x00b\ud800c"}
    assert import_rows(database, [row], now=NOW).entities == WriteCounts(inserted=1)
    assert import_rows(database, [row], now=NOW).entities == WriteCounts(unchanged=1)


def test_thousands_of_rows_are_taken_in_bulk(database: Database) -> None:
    rows = [
        {
            "platform": "meta",
            "level": "ad",
            "id": str(ad),
            "name": f"Ad {ad}",
            "date": f"2026-10-{day:02d}",
            "spend": ad + day / 4,
        }
        for ad in range(1, 101)
        for day in range(1, 32)
    ]
    imported = import_rows(database, rows, now=NOW, defaults=ACME)
    assert (imported.entities, imported.metrics) == (
        WriteCounts(inserted=100),
        WriteCounts(inserted=3100),
    )
    assert spend_of(database, "meta:7") == [7 + day / 4 for day in range(1, 32)]
    rows[40]["spend"] = 1
    again = import_rows(database, rows, now=NOW, defaults=ACME)
    assert again.metrics == WriteCounts(updated=1, unchanged=3099)
