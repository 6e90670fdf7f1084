"""What is known of many days at once: which slices landed late."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from clarity_pipeline.domain.dimensions import URL_COUNTRY, URL_DEVICE, DimensionCombo
from clarity_pipeline.domain.normalise import normalise_export
from clarity_pipeline.store import daily_metrics, exports
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.day_history import LateSlice, late_slices
from clarity_pipeline.store.vault import TokenVault
from clarity_pipeline_tests.domain.replies import Visits
from clarity_pipeline_tests.factories import (
    DAY,
    NOW,
    connect_business,
    land_export,
    make_export,
)

A_SECOND = timedelta(seconds=1)


@pytest.fixture
def acme(database: Database, vault: TokenVault) -> Database:
    connect_business(database, vault)
    return database


def land_slice(
    database: Database,
    received_at: datetime,
    *,
    day: date = DAY,
    combo: DimensionCombo = URL_DEVICE,
) -> None:
    visits = Visits(("https://acme.example/", "x"))
    export = make_export(visits, combo=combo, requested_at=received_at - A_SECOND)
    export_id = land_export(database, export, day=day)
    built = normalise_export(exports.read_export(database, export_id))
    daily_metrics.replace_slices(database, [replace(built, raw_export_id=export_id)], now=NOW)


def late(database: Database, *, start: date = DAY, end: date = DAY) -> list[LateSlice]:
    return late_slices(
        database,
        start=start,
        end=end,
        business_ids=["acme"],
        dimension_sets=[URL_DEVICE.dimension_set],
    )


@pytest.mark.parametrize(
    ("day", "midnight"),
    [
        (date(2026, 11, 1), datetime(2026, 11, 3, tzinfo=UTC)),
        (date(2026, 12, 31), datetime(2027, 1, 2, tzinfo=UTC)),
        (date(2028, 2, 28), datetime(2028, 3, 1, tzinfo=UTC)),
    ],
)
def test_a_slice_is_late_once_the_day_after_its_own_is_over(
    acme: Database, day: date, midnight: datetime
) -> None:
    land_slice(acme, midnight - timedelta(microseconds=1), day=day)
    assert late(acme, start=day, end=day) == []
    with acme.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM clarity_daily_slices")
    land_slice(acme, midnight, day=day)
    assert late(acme, start=day, end=day) == [
        LateSlice("acme", day, URL_DEVICE.dimension_set, landed_at=midnight)
    ]


def test_a_derived_slice_landed_with_the_later_of_its_replies(acme: Database) -> None:
    """The two are asked for within minutes, and midnight can be between them."""
    midnight = datetime(2026, 11, 3, tzinfo=UTC)
    land_slice(acme, midnight - A_SECOND)
    visits = Visits(("https://acme.example/", "x"))
    later = make_export(visits, requested_at=midnight)
    export_id = land_export(acme, later, day=DAY + timedelta(days=1))
    with acme.transaction() as connection:
        connection.exec_driver_sql(
            f"UPDATE clarity_daily_slices SET subtracted_export_id = {export_id}"
        )
    assert [each.landed_at for each in late(acme)] == [midnight + A_SECOND]


def test_only_slices_of_these_days_and_dimensions_are_looked_at(acme: Database) -> None:
    at = NOW + timedelta(days=3)
    land_slice(acme, at)
    land_slice(acme, at, combo=URL_COUNTRY)
    land_slice(acme, at, day=DAY - timedelta(days=1))
    assert [(each.day, each.dimension_set) for each in late(acme)] == [
        (DAY, URL_DEVICE.dimension_set)
    ]
