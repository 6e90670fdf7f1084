"""Replacing a slice: all of it or none, only what changed, whatever the strings look like."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import ExitStack
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pandas as pd
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from sqlalchemy import inspect, select, text

from clarity_pipeline.domain.dimensions import URL_DEVICE, URL_SOURCE
from clarity_pipeline.domain.errors import UnknownBusiness
from clarity_pipeline.domain.normalise import FRAME_COLUMNS, NormalisedSlice
from clarity_pipeline.store import businesses, daily_metrics
from clarity_pipeline.store.daily_metrics import SliceState, WriteCounts
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.partitions import ensure_partitions
from clarity_pipeline.store.schema import daily_metrics as metrics_table
from clarity_pipeline.store.storable import storable_json, storable_text
from clarity_pipeline_tests.domain.replies import Visits
from clarity_pipeline_tests.factories import DAY, NOW, make_slice
from clarity_pipeline_tests.store.races import all_at_once

LATER = NOW + timedelta(hours=1)
A, B, C = (Visits((f"https://example.com/{page}", "PC"), sessions=2) for page in "abc")


@pytest.fixture
def with_business(database: Database) -> Database:
    businesses.add_business(database, business_id="acme", name="Acme", now=NOW)
    return database


def write(database: Database, *slices: NormalisedSlice, now: Any = NOW) -> WriteCounts:
    return daily_metrics.replace_slices(database, slices, now=now)


def read(database: Database, *, day: date = DAY, dimension_set: str = "Device,URL") -> pd.DataFrame:
    return daily_metrics.read_metrics(
        database, business_id="acme", day=day, dimension_set=dimension_set
    )


def urls(database: Database) -> list[str]:
    return sorted(read(database)["url"])


def stored_rows(database: Database) -> list[Any]:
    statement = select(metrics_table).order_by(metrics_table.c.dimension_hash)
    with database.reading() as connection:
        return list(connection.execute(statement))


def with_values(item: NormalisedSlice, **columns: list[Any]) -> NormalisedSlice:
    """The slice with some columns replaced, keeping their types."""
    frame = item.frame.copy()
    for name, values in columns.items():
        frame[name] = pd.Series(values, dtype=frame[name].dtype, index=frame.index)
    return replace(item, frame=frame)


def test_a_new_slice_is_inserted_and_reads_back_as_it_was_written(
    with_business: Database,
) -> None:
    written = make_slice(with_business, A, B, replace(C, sessions=None, depth=44.5))
    assert write(with_business, written) == WriteCounts(inserted=3)
    expected = written.frame[[name for name in FRAME_COLUMNS if name != "raw_payload"]]
    assert_frame_equal(read(with_business), expected)


def test_every_row_says_where_it_came_from(with_business: Database) -> None:
    written = make_slice(with_business, A)
    write(with_business, written)
    (row,) = stored_rows(with_business)
    assert (row.business_id, row.date, row.dimension_set) == ("acme", DAY, "Device,URL")
    assert row.raw_export_id == written.raw_export_id
    assert (row.window_start, row.window_end) == (NOW - timedelta(days=1), NOW)
    assert row.updated_at == NOW
    assert row.raw_payload == json.loads(written.frame["raw_payload"][0])


def test_an_unchanged_slice_is_not_written_again(with_business: Database) -> None:
    item = make_slice(with_business, A, B)
    write(with_business, item)
    before = stored_rows(with_business)
    assert write(with_business, item, now=LATER) == WriteCounts(unchanged=2)
    assert stored_rows(with_business) == before
    (state,) = daily_metrics.list_slices(with_business, start=DAY, end=DAY)
    assert state.updated_at == NOW


def test_only_the_rows_that_changed_are_written(with_business: Database) -> None:
    item = make_slice(with_business, A, B, C)
    write(with_business, item)
    sessions = item.frame["sessions"].tolist()
    changed = with_values(item, sessions=[sessions[0] + 1, *sessions[1:]])
    assert write(with_business, changed, now=LATER) == WriteCounts(updated=1, unchanged=2)
    assert [row.updated_at for row in stored_rows(with_business)] == [LATER, NOW, NOW]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("url", [None]),
        ("url", [""]),
        ("source", ["google"]),
        ("rage_clicks", [pd.NA]),
        ("rage_clicks", [77]),
        ("scroll_depth", [12.5]),
        ("pages_per_session", [pd.NA]),
        ("raw_payload", ['[{"blocks": {}}]']),
    ],
)
def test_a_change_in_any_column_is_noticed_in_both_directions(
    with_business: Database, column: str, values: list[Any]
) -> None:
    item = make_slice(with_business, A)
    changed = with_values(item, **{column: values})
    write(with_business, item)
    assert write(with_business, changed) == WriteCounts(updated=1)
    assert write(with_business, changed) == WriteCounts(unchanged=1)
    assert write(with_business, item) == WriteCounts(updated=1)


def test_another_export_or_window_with_the_same_values_is_a_change(
    with_business: Database,
) -> None:
    first, second = (make_slice(with_business, A) for _ in range(2))
    assert first.raw_export_id != second.raw_export_id
    write(with_business, first)
    assert write(with_business, second) == WriteCounts(updated=1)
    moved = replace(second, window_end=LATER)
    assert write(with_business, moved) == WriteCounts(updated=1)


def test_rows_that_are_gone_are_removed(with_business: Database) -> None:
    write(with_business, make_slice(with_business, A, B))
    item = make_slice(with_business, B, C)
    counts = write(with_business, item)
    assert counts == WriteCounts(inserted=1, updated=1, deleted=1)
    assert urls(with_business) == ["https://example.com/b", "https://example.com/c"]


def test_a_slice_without_rows_removes_all_and_still_is_data(with_business: Database) -> None:
    write(with_business, make_slice(with_business, A, B))
    empty = make_slice(with_business)
    assert write(with_business, empty) == WriteCounts(deleted=2)
    assert write(with_business, empty) == WriteCounts()
    (state,) = daily_metrics.list_slices(with_business, start=DAY, end=DAY)
    assert (state.rows, state.raw_export_id) == (0, empty.raw_export_id)
    assert read(with_business).empty


def test_other_slices_days_and_businesses_are_left_alone(with_business: Database) -> None:
    businesses.add_business(with_business, business_id="b", name="B", now=NOW)
    other_set = make_slice(with_business, A, combo=URL_SOURCE)
    other_day = make_slice(with_business, A, day=DAY - timedelta(days=1))
    other_business = make_slice(with_business, A, business_id="b")
    write(with_business, make_slice(with_business, A), other_set, other_day, other_business)
    assert write(with_business, make_slice(with_business)) == WriteCounts(deleted=1)
    assert len(stored_rows(with_business)) == 3


def test_several_slices_are_replaced_together_new_ones_beside_standing_ones(
    with_business: Database,
) -> None:
    standing = make_slice(with_business, A, B)
    write(with_business, standing)
    fresh = make_slice(with_business, A, B, C, combo=URL_SOURCE)
    counts = write(with_business, fresh, standing)
    assert counts == WriteCounts(inserted=3, unchanged=2)


def test_if_one_slice_cannot_be_written_none_is(with_business: Database) -> None:
    good = make_slice(with_business, A)
    bad = make_slice(with_business, A, B, combo=URL_SOURCE)
    doubled = with_values(bad, dimension_hash=["0" * 32, "0" * 32])
    # COPY speaks to psycopg directly, so the error is psycopg's own there.
    with pytest.raises((sqlite3.IntegrityError, psycopg.IntegrityError)):
        write(with_business, good, doubled)
    assert stored_rows(with_business) == []
    assert daily_metrics.list_slices(with_business, start=DAY, end=DAY) == []


def test_no_slices_is_nothing_to_do(database: Database) -> None:
    assert write(database) == WriteCounts()


def test_a_slice_of_an_unknown_business_is_refused(with_business: Database) -> None:
    item = replace(make_slice(with_business, A), business_id="nobody")
    with pytest.raises(UnknownBusiness):
        write(with_business, item)


def test_the_state_of_a_slice_is_what_its_report_says(with_business: Database) -> None:
    item = make_slice(with_business, A, B)
    report = replace(
        item.report,
        truncated=True,
        unknown_blocks=("New Block",),
        unknown_fields=("Traffic.newField",),
        missing_blocks=("ScrollDepth",),
        merged_tuples=3,
        unreadable_values=4,
        negative_differences=5,
    )
    write(with_business, replace(item, report=report, subtracted_export_id=8))
    assert daily_metrics.list_slices(with_business, start=DAY, end=DAY) == [
        SliceState(
            business_id="acme",
            day=DAY,
            dimension_set="Device,URL",
            raw_export_id=item.raw_export_id,
            subtracted_export_id=8,
            built_from=item.built_from,
            rows=2,
            raw_rows=report.raw_rows,
            truncated=True,
            window_start=item.window_start,
            window_end=item.window_end,
            row_counts=dict(report.row_counts),
            unknown_blocks=("New Block",),
            unknown_fields=("Traffic.newField",),
            missing_blocks=("ScrollDepth",),
            merged_tuples=3,
            unreadable_values=4,
            negative_differences=5,
            updated_at=NOW,
        )
    ]


def test_slices_are_listed_by_window_and_business(with_business: Database) -> None:
    businesses.add_business(with_business, business_id="b", name="B", now=NOW)
    for offset in range(3):
        write(with_business, make_slice(with_business, day=DAY + timedelta(days=offset)))
    write(with_business, make_slice(with_business, business_id="b"))
    end = DAY + timedelta(days=1)
    listed = daily_metrics.list_slices(with_business, start=DAY, end=end)
    assert [(state.business_id, state.day) for state in listed] == [
        ("acme", DAY),
        ("acme", end),
        ("b", DAY),
    ]
    only_b = daily_metrics.list_slices(with_business, start=DAY, end=end, business_ids=["b"])
    assert [state.business_id for state in only_b] == ["b"]
    assert daily_metrics.list_slices(with_business, start=DAY, end=end, business_ids=[]) == []


def test_more_rows_than_one_statement_takes_are_replaced_as_one(
    with_business: Database,
) -> None:
    visits = [Visits((f"https://example.com/{number}", "PC")) for number in range(2500)]
    item = make_slice(with_business, *visits)
    assert write(with_business, item) == WriteCounts(inserted=2500)
    assert write(with_business, item) == WriteCounts(unchanged=2500)
    assert write(with_business, make_slice(with_business)) == WriteCounts(deleted=2500)


# Everything that a text format, an encoding or a database could trip over.
WILD = st.text(
    alphabet=st.one_of(
        st.sampled_from("\x00\t\n\r\\\"'NnfFtT{},.:;\x01\x0b\x7f\u2028\ufeff\ud800\udfffä漢😀"),
        st.characters(exclude_categories=()),
    ),
    max_size=12,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    values=st.lists(
        st.tuples(st.none() | WILD, st.none() | WILD, st.dictionaries(WILD, WILD, max_size=2)),
        min_size=1,
        max_size=8,
    ),
    dump=st.sampled_from([True, False]),
)
def test_any_text_comes_back_as_it_was_with_only_what_cannot_be_stored_replaced(
    with_business: Database,
    values: list[tuple[str | None, str | None, dict[str, str]]],
    dump: bool,
) -> None:
    """Written fresh, then merged: the two ways into the table must agree on every string."""
    template = make_slice(
        with_business, *[replace(A, values=(f"/{n}", "PC")) for n, _ in enumerate(values)]
    )
    item = with_values(
        template,
        url=[url for url, _, _ in values],
        campaign=[campaign for _, campaign, _ in values],
        # With and without escapes: both are valid JSON of the same value.
        raw_payload=[json.dumps(payload, ensure_ascii=dump) for _, _, payload in values],
    )
    write(with_business, make_slice(with_business))
    assert write(with_business, item) == WriteCounts(inserted=len(values))
    assert write(with_business, item) == WriteCounts(unchanged=len(values))
    rows = stored_rows(with_business)
    for row, (url, campaign, _), payload in zip(
        rows, values, item.frame["raw_payload"], strict=True
    ):
        assert row.url == (None if url is None else storable_text(url))
        assert row.campaign == (None if campaign is None else storable_text(campaign))
        assert row.raw_payload == json.loads(storable_json(payload))


@pytest.mark.parametrize(
    ("given_text", "stored"),
    [
        ("plain", "plain"),
        ("tab\tnewline\nback\\slash", "tab\tnewline\nback\\slash"),
        ("\\N", "\\N"),
        ("nul\x00", "nul\ufffd"),
        ("half \ud83d", "half \ufffd"),
        ("whole \U0001f600", "whole \U0001f600"),
        ("", ""),
    ],
)
def test_text_is_made_storable(given_text: str, stored: str) -> None:
    assert storable_text(given_text) == stored
    payload = json.dumps({given_text: [given_text, 1, None, True]})
    assert json.loads(storable_json(payload)) == {stored: [stored, 1, None, True]}


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    payload = json.dumps({"url": "\\u0000"})
    assert json.loads(storable_json(payload)) == {"url": "\\u0000"}


def test_writers_of_the_same_slice_leave_one_of_their_versions_whole(
    with_business: Database,
) -> None:
    versions = [
        make_slice(
            with_business,
            *[replace(visit, sessions=number + 10) for visit in (A, B, C)],
        )
        for number in range(8)
    ]
    all_at_once(lambda item: write(with_business, item), versions)
    (state,) = daily_metrics.list_slices(with_business, start=DAY, end=DAY)
    rows = stored_rows(with_business)
    assert len(rows) == 3
    assert {row.raw_export_id for row in rows} == {state.raw_export_id}


def test_each_month_has_a_partition_made_on_demand(postgresql_url: str) -> None:
    days = [date(2026, 11, 30), date(2026, 12, 1), date(2026, 12, 31), date(2027, 1, 1)]
    with Database.open(postgresql_url) as database:
        businesses.add_business(database, business_id="acme", name="Acme", now=NOW)
        write(database, *(make_slice(database, A, day=day) for day in days))
        with database.reading() as connection:
            tables = inspect(connection).get_table_names()
            counts = {
                table: connection.scalar(text(f"SELECT count(*) FROM {table}"))
                for table in tables
                if table.startswith("clarity_daily_metrics_")
            }
    assert counts == {
        "clarity_daily_metrics_2026_11": 1,
        "clarity_daily_metrics_2026_12": 2,
        "clarity_daily_metrics_2027_01": 1,
    }


def test_many_who_need_a_new_partition_at_once_all_get_it(postgresql_url: str) -> None:
    with ExitStack() as opened:
        # A Database for each, as processes have: none knows what the others have made.
        databases = [opened.enter_context(Database.open(postgresql_url)) for _ in range(12)]
        for year in range(2001, 2011):
            all_at_once(
                lambda database, day=date(year, 2, 28): ensure_partitions(
                    database, metrics_table, days=[day]
                ),
                databases,
            )
        with databases[0].reading() as connection:
            tables = inspect(connection).get_table_names()
    assert len([name for name in tables if name.startswith("clarity_daily_metrics_")]) == 10


def test_postgresql_has_proper_types(postgresql_url: str) -> None:
    with psycopg.connect(postgresql_url) as connection:
        types = dict(
            connection.execute(
                "SELECT column_name, udt_name FROM information_schema.columns "
                "WHERE table_name = 'clarity_daily_metrics'"
            ).fetchall()
        )
    wanted = {
        "date": "date",
        "raw_payload": "jsonb",
        "updated_at": "timestamptz",
        "sessions": "int8",
        "scroll_depth": "float8",
    }
    assert wanted.items() <= types.items()


def test_reading_a_slice_uses_an_index(postgresql_url: str) -> None:
    with psycopg.connect(postgresql_url) as connection:
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute(
            "EXPLAIN SELECT * FROM clarity_daily_metrics WHERE business_id = 'acme' "
            "AND date = '2026-11-01' AND dimension_set = 'Device,URL'"
        ).fetchall()
    assert "Seq Scan" not in str(plan)


def test_the_four_slices_of_a_day_are_one_transaction(with_business: Database) -> None:
    """A reader sees the day before the write, or after it, and nothing in between."""
    write(
        with_business, make_slice(with_business, A), make_slice(with_business, A, combo=URL_SOURCE)
    )
    seen: set[tuple[int, ...]] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            states = daily_metrics.list_slices(with_business, start=DAY, end=DAY)
            seen.add(tuple(state.rows for state in states))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for visits in [(A, B), (A,), (A, B, C), (A,)] * 3:
        write(
            with_business,
            *(
                make_slice(with_business, *visits, combo=combo)
                for combo in (URL_DEVICE, URL_SOURCE)
            ),
        )
    stop.set()
    watcher.join()
    assert seen <= {(1, 1), (2, 2), (3, 3)}


def test_events_are_added_up_per_slice_and_what_nobody_mentions_is_unknown(
    with_business: Database,
) -> None:
    businesses.add_business(with_business, business_id="b", name="B", now=NOW)
    write(with_business, make_slice(with_business, A, B))
    unspoken = make_slice(with_business, A, business_id="b")
    unspoken.frame["rage_clicks"] = None
    write(with_business, unspoken)
    sums = daily_metrics.sum_events(with_business, day=DAY, business_ids=["acme", "b"])
    assert sums["acme", "Device,URL"]["dead_clicks"] == sum(int(v.dead) for v in (A, B))
    assert sums["b", "Device,URL"]["rage_clicks"] is None
    assert sums["b", "Device,URL"]["dead_clicks"] == int(A.dead)
    assert daily_metrics.sum_events(with_business, day=DAY, business_ids=["b"]).keys() == {
        ("b", "Device,URL")
    }
