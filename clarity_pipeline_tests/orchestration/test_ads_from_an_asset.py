"""A Dagster asset of somebody's own brings ads, as operations/ads.py shows it."""

from __future__ import annotations

from datetime import date
from typing import Any

import dagster as dg

from clarity_pipeline.domain.ad_rows import RowDefaults
from clarity_pipeline.operations.ads import import_rows
from clarity_pipeline.orchestration.resources import ClockResource, StoreResource
from clarity_pipeline.store.ad_entities import list_entities, read_metric_frame
from clarity_pipeline_tests.agency import Agency

ROWS: list[dict[str, Any]] = [
    {"level": "ad", "id": "17", "name": "Blue", "date": "2026-11-01", "spend": 12.5, "ad.leads": 2},
    {"level": "ad", "id": "18", "name": "Green", "date": "2026-11-01", "spend": float("nan")},
]


@dg.asset
def ads_of_my_platform(store: StoreResource, clock: ClockResource) -> dg.MaterializeResult[Any]:
    defaults = RowDefaults(platform="my_platform", business_id="acme")
    imported = import_rows(store.database, ROWS, now=clock.now(), defaults=defaults)
    return dg.MaterializeResult(metadata=imported.counts)


def materialize(agency: Agency) -> dict[str, Any]:
    with agency.instance() as instance:
        result = dg.materialize(
            [ads_of_my_platform],
            instance=instance,
            resources={
                "store": StoreResource(),
                "clock": ClockResource(fixed_at=agency.now.isoformat()),
            },
        )
    [event] = result.asset_materializations_for_node("ads_of_my_platform")
    return {name: value.value for name, value in event.metadata.items()}


def test_an_asset_brings_rows_through_the_store_and_shows_the_counts(agency: Agency) -> None:
    agency.connect("acme")
    first = materialize(agency)
    assert (first["rows"], first["rows_refused"]) == (2, 1)
    assert (first["entities_inserted"], first["days_inserted"]) == (1, 1)
    again = materialize(agency)
    assert (again["entities_unchanged"], again["days_unchanged"]) == (1, 1)
    entities = list_entities(agency.database, business_ids=["acme"])
    assert [each.id for each in entities] == ["my_platform:17"]
    day = date(2026, 11, 1)
    frame = read_metric_frame(agency.database, start=day, end=day, series=["spend", "ad.leads"])
    assert frame[["spend", "ad.leads"]].to_numpy().tolist() == [[12.5, 2.0]]
