"""Sums by dimension value: exactly those of the rows, however the rows change, and old days too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select

from clarity_pipeline.domain.aggregates import DailySums, aggregate_business_day
from clarity_pipeline.domain.dimensions import (
    DEFAULT_COMBOS,
    URL_CAMPAIGN_CHANNEL,
    URL_SOURCE,
)
from clarity_pipeline.domain.insight import BreakdownBy, Window
from clarity_pipeline.domain.metrics import COUNT_COLUMNS, METRIC_COLUMNS
from clarity_pipeline.domain.normalise import MAX_COUNT
from clarity_pipeline.operations.rebuild_day import rebuild_business_aggregates
from clarity_pipeline.store import businesses, daily_metrics, window_sums
from clarity_pipeline.store.aggregates import replace_dimension_values
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.dimension_aggregates import SliceToRollUp
from clarity_pipeline.store.partitions import ensure_partitions
from clarity_pipeline.store.schema import daily_metrics as metrics_table
from clarity_pipeline.store.schema import dimension_aggregates
from clarity_pipeline_tests.domain.replies import Visits
from clarity_pipeline_tests.factories import DAY, NOW, make_slice

LATER = NOW + timedelta(hours=1)

Row = Mapping[str, Any]

values = st.none() | st.sampled_from(["", " ", "google", "Google", "ä", "日本", "x" * 5000])
counts = st.none() | st.integers(0, 1000) | st.just(MAX_COUNT)
ratios = st.none() | st.floats(0, 1000) | st.just(0.0)
rows_of_a_slice = st.lists(
    st.fixed_dictionaries(
        {
            **dict.fromkeys(("campaign", "channel"), values),
            **{name: counts if name in COUNT_COLUMNS else ratios for name in METRIC_COLUMNS},
        }
    ),
    max_size=12,
)


@pytest.fixture
def acme(database: Database) -> Database:
    businesses.add_business(database, business_id="acme", name="Acme", now=NOW)
    ensure_partitions(database, metrics_table, days={DAY})
    return database


def put_rows(database: Database, rows: Sequence[Row]) -> None:
    """These in place of the Campaign,Channel,URL slice of the day, each of a page of its own."""
    with database.transaction() as connection:
        connection.execute(delete(metrics_table))
        for number, row in enumerate(rows):
            connection.execute(
                insert(metrics_table).values(
                    business_id="acme",
                    date=DAY,
                    dimension_hash=f"{number:032d}",
                    dimension_set=URL_CAMPAIGN_CHANNEL.dimension_set,
                    url=f"https://a/{number}",
                    raw_payload=[],
                    window_start=NOW - timedelta(days=1),
                    window_end=NOW,
                    raw_export_id=1,
                    updated_at=NOW,
                    **row,
                )
            )


def roll_up(database: Database, *, built_from: str) -> None:
    replace_dimension_values(
        database,
        business_id="acme",
        slices=[
            SliceToRollUp(
                business_id="acme",
                day=DAY,
                dimension_set=URL_CAMPAIGN_CHANNEL.dimension_set,
                built_from=built_from,
            )
        ],
        now=NOW,
    )


def sums_by(database: Database, by: BreakdownBy) -> dict[str | None, DailySums]:
    window = Window(DAY - timedelta(days=6), DAY)
    found = window_sums.sum_by_dimension(database, business_id="acme", window=window, by=by)
    assert len({each.group for each in found}) == len(found)
    return {each.group: each.sums for each in found}


def sums_of_rows(database: Database, by: BreakdownBy) -> dict[str | None, DailySums]:
    """What domain.aggregates makes of the rows of each value."""
    frame = daily_metrics.read_metrics(
        database,
        business_id="acme",
        day=DAY,
        dimension_set=URL_CAMPAIGN_CHANNEL.dimension_set,
    )
    column = frame[by.dimension.column].tolist()
    sums: dict[str | None, DailySums] = {}
    for value in dict.fromkeys(column):
        of_value = frame[[each == value for each in column]]
        business_day = aggregate_business_day(
            business_id="acme",
            day=DAY,
            url_device=of_value,
            overview=None,
            url_device_truncated=False,
            overview_truncated=False,
            built_from="reply",
        )
        assert business_day is not None
        sums[value] = business_day.sums
    return sums


def stored(database: Database) -> list[Any]:
    with database.reading() as connection:
        return list(
            connection.execute(
                select(dimension_aggregates).order_by(*dimension_aggregates.primary_key)
            )
        )


def seen(sessions: int, **knowing: float) -> Row:
    unknown = dict.fromkeys(("campaign", "channel", *METRIC_COLUMNS))
    return unknown | {"sessions": sessions} | knowing


@example(rows=[seen(MAX_COUNT, engagement_time_ms=73.0), *[seen(7, engagement_time_ms=1.0)] * 3])
@example(rows=[seen(1, scroll_depth=1e-200, pages_per_session=1e-200), seen(1, scroll_depth=50.0)])
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rows=rows_of_a_slice)
def test_values_add_up_to_what_their_rows_do_whatever_stood_there_before(
    acme: Database, rows: Sequence[Row]
) -> None:
    """Each example finds what the one before has left.

    Beyond 2**53 a sum of doubles depends on the order in which the database meets the rows, by a
    few of its last places.
    """
    put_rows(acme, rows)
    roll_up(acme, built_from="reply")
    for by in (BreakdownBy.CAMPAIGN, BreakdownBy.CHANNEL):
        expected = sums_of_rows(acme, by)
        found = sums_by(acme, by)
        assert found.keys() == expected.keys()
        for value, sums in expected.items():
            for name in sums.__slots__:
                wanted = getattr(sums, name)
                if isinstance(wanted, float) or (wanted or 0) > 2**53:
                    wanted = pytest.approx(wanted, rel=1e-12)
                assert getattr(found[value], name) == wanted, name


def test_a_value_that_has_not_changed_is_not_written_again(acme: Database) -> None:
    row: dict[str, Any] = {"campaign": "spring", "channel": "Direct", "sessions": 3}
    put_rows(acme, [row, {**row, "campaign": "summer"}])
    slices = [
        SliceToRollUp(
            business_id="acme",
            day=DAY,
            dimension_set=URL_CAMPAIGN_CHANNEL.dimension_set,
            built_from="reply",
        )
    ]
    replace_dimension_values(acme, business_id="acme", slices=slices, now=NOW)
    put_rows(acme, [row, {**row, "campaign": "summer", "sessions": 4}])
    replace_dimension_values(acme, business_id="acme", slices=slices, now=LATER)
    assert [(each.value, each.sessions, each.updated_at) for each in stored(acme)] == [
        ("spring", 3, NOW),
        ("summer", 4, LATER),
        ("Direct", 7, LATER),
    ]


def store_all_slices(database: Database, *, without: object = None) -> None:
    daily_metrics.replace_slices(
        database,
        [
            make_slice(
                database,
                Visits(("https://a/", "x", "y")[: len(combo.dimensions)], sessions=2),
                combo=combo,
            )
            for combo in DEFAULT_COMBOS
            if combo is not without
        ],
        now=NOW,
    )


def test_a_day_is_rolled_up_once_and_again_where_a_slice_has_changed(acme: Database) -> None:
    store_all_slices(acme, without=URL_SOURCE)
    rolled_up = rebuild_business_aggregates(acme, day=DAY, now=NOW)
    assert set(rolled_up.written) == {"acme"}
    assert {row.dimension for row in stored(acme)} == {"device", "country", "campaign", "channel"}
    assert rebuild_business_aggregates(acme, day=DAY, now=LATER).unchanged == ("acme",)

    daily_metrics.replace_slices(
        acme, [make_slice(acme, Visits(("https://a/", "x")), combo=URL_SOURCE)], now=NOW
    )
    again = rebuild_business_aggregates(acme, day=DAY, now=LATER)
    assert again.rows_written == 0  # of the business-day, which does not depend on that slice
    assert {row.dimension for row in stored(acme) if row.updated_at == LATER} == {"source"}
    assert rebuild_business_aggregates(acme, day=DAY, now=LATER).unchanged == ("acme",)

    before = stored(acme)
    forced = rebuild_business_aggregates(acme, day=DAY, now=LATER + timedelta(hours=1), force=True)
    assert (set(forced.written), forced.rows_written) == ({"acme"}, 0)
    assert stored(acme) == before


def test_values_do_not_need_the_slice_that_the_business_day_is_made_of(acme: Database) -> None:
    daily_metrics.replace_slices(
        acme,
        [make_slice(acme, Visits(("https://a/", "google"), sessions=2), combo=URL_SOURCE)],
        now=NOW,
    )
    rebuild_business_aggregates(acme, day=DAY, now=NOW)
    assert [(row.value, row.sessions) for row in stored(acme)] == [("google", 2)]
    assert rebuild_business_aggregates(acme, day=DAY, now=NOW).unchanged == ("acme",)


def test_a_slice_without_visits_leaves_no_value_and_is_not_stale_for_ever(acme: Database) -> None:
    store_all_slices(acme)
    rebuild_business_aggregates(acme, day=DAY, now=NOW)
    daily_metrics.replace_slices(
        acme, [make_slice(acme, combo=combo) for combo in DEFAULT_COMBOS], now=NOW
    )
    assert set(rebuild_business_aggregates(acme, day=DAY, now=NOW).written) == {"acme"}
    assert stored(acme) == []
    assert rebuild_business_aggregates(acme, day=DAY, now=NOW).unchanged == ("acme",)
