"""The sums of days, and the windows the rules engine reads: values with their coverage."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest

from clarity_pipeline.domain.aggregates import (
    NO_VISITS,
    BehavioralAggregates,
    BusinessDay,
    DailySums,
    UrlDay,
)
from clarity_pipeline.domain.errors import InvalidDay, UnknownBusiness
from clarity_pipeline.store import aggregates, businesses, connections
from clarity_pipeline.store.daily_metrics import WriteCounts
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.vault import TokenVault
from clarity_pipeline_tests.factories import DAY, NOW, connect_business
from clarity_pipeline_tests.store.races import all_at_once

SUMS = DailySums(
    sessions=10,
    rage_clicks=5,
    rage_click_sessions=10,
    dead_clicks=None,
    dead_click_sessions=0,
    excessive_scroll=0,
    quick_backs=2,
    quick_back_sessions=8,
    scroll_depth_sum=600.0,
    scroll_depth_page_views=12.5,
    engagement_time_ms_sum=300_000,
    engagement_sessions=10,
)
LATER = NOW + timedelta(hours=1)


@pytest.fixture
def connected(database: Database, vault: TokenVault) -> Database:
    connect_business(database, vault)
    return database


def business_day(day: date = DAY, sums: DailySums = SUMS) -> BusinessDay:
    return BusinessDay(
        business_id="acme",
        day=day,
        session_basis="page_sessions",
        truncated=False,
        built_from="sha:1",
        sums=sums,
    )


def store(database: Database, *days: BusinessDay) -> list[WriteCounts]:
    return [aggregates.replace_business_day(database, business_day=day, now=NOW) for day in days]


def store_urls(
    database: Database,
    *pages: str,
    day: date = DAY,
    truncated: bool = False,
    sums: DailySums = SUMS,
    built_from: str = "sha:1",
) -> WriteCounts:
    return aggregates.replace_url_days(
        database,
        business_id="acme",
        day=day,
        url_days=[UrlDay(url=page, sums=sums) for page in pages],
        truncated=truncated,
        built_from=built_from,
        now=NOW,
    )


def window(database: Database, start: date = DAY, end: date = DAY) -> BehavioralAggregates:
    return aggregates.get_business_behavioral_aggregates("acme", start, end, database=database)


def url_window(
    database: Database, start: date = DAY, end: date = DAY
) -> dict[str, BehavioralAggregates]:
    return aggregates.get_url_behavioral_aggregates("acme", start, end, database=database)


def test_a_day_is_stored_once_and_then_only_when_it_changed(connected: Database) -> None:
    assert store(connected, business_day()) == [WriteCounts(inserted=1)]
    assert store(connected, business_day()) == [WriteCounts(unchanged=1)]
    for changed in (
        business_day(sums=replace(SUMS, sessions=11)),
        business_day(sums=replace(SUMS, sessions=None)),
        replace(business_day(), truncated=True),
        replace(business_day(), session_basis="sessions"),
        replace(business_day(), built_from="sha:2"),
    ):
        assert store(connected, changed) == [WriteCounts(updated=1)]


def test_what_the_stored_days_were_built_from_is_known(
    connected: Database, vault: TokenVault
) -> None:
    connect_business(connected, vault, business_id="b")
    store(connected, business_day(), replace(business_day(), business_id="b", built_from="x"))
    assert aggregates.aggregate_states(connected, day=DAY) == {"acme": "sha:1", "b": "x"}
    assert aggregates.aggregate_states(connected, day=DAY, business_ids=["b"]) == {"b": "x"}
    assert aggregates.aggregate_states(connected, day=DAY - timedelta(days=1)) == {}
    store_urls(connected, "/a", "/b", built_from="y")
    assert aggregates.url_aggregate_states(connected, day=DAY) == {"acme": "y"}


def test_the_ten_values_of_a_window_and_their_coverage(connected: Database) -> None:
    day_after = DAY + timedelta(days=1)
    store(connected, business_day(), business_day(day_after))
    assert window(connected, DAY, DAY + timedelta(days=6)) == BehavioralAggregates(
        clarity_sessions=20,
        clarity_rage_clicks=10,
        clarity_dead_clicks=None,
        clarity_excessive_scroll=0,
        clarity_quick_backs=4,
        clarity_rage_click_rate=0.5,
        clarity_dead_click_rate=None,
        clarity_quick_back_rate=0.25,
        clarity_scroll_depth=48.0,
        clarity_engagement_time_ms=30_000,
        days_in_window=7,
        days_with_data=2,
        last_date=day_after,
        truncated=False,
        session_basis="page_sessions",
    )


def test_both_ends_belong_to_the_window_and_what_is_outside_does_not(
    connected: Database,
) -> None:
    store(connected, *(business_day(DAY + timedelta(days=offset)) for offset in range(-1, 4)))
    covered = window(connected, DAY, DAY + timedelta(days=2))
    assert (covered.days_in_window, covered.days_with_data) == (3, 3)
    assert covered.clarity_sessions == 30
    assert covered.last_date == DAY + timedelta(days=2)


def test_a_truncated_day_marks_the_windows_it_is_in(connected: Database) -> None:
    store(connected, replace(business_day(), truncated=True), business_day(DAY + timedelta(1)))
    assert window(connected, DAY, DAY + timedelta(days=1)).truncated
    assert not window(connected, DAY + timedelta(days=1), DAY + timedelta(days=1)).truncated


def test_a_window_over_days_of_both_bases_says_so(connected: Database) -> None:
    other = replace(business_day(DAY + timedelta(days=1)), session_basis="sessions")
    store(connected, business_day(), other)
    assert window(connected, DAY, DAY + timedelta(days=1)).session_basis == "mixed"
    assert window(connected).session_basis == "page_sessions"


def test_a_day_without_visits_is_data(connected: Database) -> None:
    store(connected, business_day(sums=NO_VISITS))
    covered = window(connected)
    assert (covered.clarity_sessions, covered.clarity_rage_click_rate) == (0, None)
    assert covered.days_with_data == 1


def test_a_window_without_data_is_unknown_and_never_zero(connected: Database) -> None:
    nothing = window(connected)
    assert set(nothing.metrics().values()) == {None}
    assert (nothing.days_in_window, nothing.days_with_data, nothing.last_date) == (1, 0, None)
    assert url_window(connected) == {}


def test_a_paused_or_disconnected_business_has_no_values_but_keeps_its_data(
    connected: Database, vault: TokenVault
) -> None:
    store(connected, business_day())
    store_urls(connected, "/a")
    connections.set_enabled(connected, business_id="acme", enabled=False, now=NOW)
    assert set(window(connected).metrics().values()) == {None}
    assert url_window(connected) == {}
    connections.set_enabled(connected, business_id="acme", enabled=True, now=NOW)
    assert window(connected).clarity_sessions == 10
    connections.disconnect(connected, business_id="acme", now=NOW)
    assert set(window(connected).metrics().values()) == {None}
    assert url_window(connected) == {}
    connect_business(connected, vault)
    assert window(connected).clarity_sessions == 10
    assert set(url_window(connected)) == {"/a"}


def test_a_business_that_was_never_connected_has_no_values(database: Database) -> None:
    businesses.add_business(database, business_id="acme", name="Acme", now=NOW)
    assert window(database).days_with_data == 0


def test_an_unknown_business_is_refused(database: Database) -> None:
    for attempt in (
        lambda: window(database),
        lambda: url_window(database),
        lambda: store(database, business_day()),
        lambda: store_urls(database, "/a"),
    ):
        with pytest.raises(UnknownBusiness, match="acme"):
            attempt()


def test_a_window_that_ends_before_it_starts_is_refused(connected: Database) -> None:
    for attempt in (window, url_window):
        with pytest.raises(InvalidDay):
            attempt(connected, DAY, DAY - timedelta(days=1))


def test_pages_are_replaced_as_one_and_only_where_they_changed(connected: Database) -> None:
    assert store_urls(connected, "/a", "/b") == WriteCounts(inserted=2)
    assert store_urls(connected, "/b", "/a") == WriteCounts(unchanged=2)
    assert store_urls(connected, "/b", "/c") == WriteCounts(inserted=1, deleted=1, unchanged=1)
    assert store_urls(connected, "/b", "/c", sums=replace(SUMS, sessions=None)) == WriteCounts(
        updated=2
    )
    assert store_urls(connected) == WriteCounts(deleted=2)


def test_each_page_has_its_own_values_and_coverage(connected: Database) -> None:
    second = DAY + timedelta(days=1)
    store_urls(connected, "/a", "/b")
    store_urls(connected, "/a", day=second, truncated=True, sums=replace(SUMS, sessions=3))
    by_url = url_window(connected, DAY, DAY + timedelta(days=2))
    assert list(by_url) == ["/a", "/b"]
    a, b = by_url["/a"], by_url["/b"]
    assert (a.clarity_sessions, a.days_with_data, a.last_date, a.truncated) == (13, 2, second, True)
    assert (b.clarity_sessions, b.days_with_data, b.last_date, b.truncated) == (10, 1, DAY, False)
    assert {a.days_in_window, b.days_in_window} == {3}
    assert {a.session_basis, b.session_basis} == {"page_sessions"}


def test_addresses_longer_than_an_index_entry_are_kept_apart(connected: Database) -> None:
    long = "https://example.com/?q=" + "x" * 20_000
    store_urls(connected, long + "1", long + "2", "", "tab\t\\N\n\x00")
    assert set(url_window(connected)) == {long + "1", long + "2", "", "tab\t\\N\n\ufffd"}


def test_other_days_and_businesses_are_left_alone(connected: Database, vault: TokenVault) -> None:
    connect_business(connected, vault, business_id="b")
    store_urls(connected, "/a", day=DAY - timedelta(days=1))
    aggregates.replace_url_days(
        connected,
        business_id="b",
        day=DAY,
        url_days=[UrlDay("/a", SUMS)],
        truncated=False,
        built_from="x",
        now=NOW,
    )
    store_urls(connected, "/a")
    assert store_urls(connected) == WriteCounts(deleted=1)
    assert set(url_window(connected, DAY - timedelta(days=1), DAY)) == {"/a"}
    assert aggregates.get_url_behavioral_aggregates("b", DAY, DAY, database=connected)


def test_writers_of_the_same_day_leave_one_of_their_versions_whole(connected: Database) -> None:
    def race(number: int) -> None:
        pages = [f"/{page}" for page in range(number)]
        store_urls(connected, *pages, sums=replace(SUMS, sessions=number))
        store(connected, business_day(sums=replace(SUMS, sessions=number)))

    all_at_once(race, range(1, 9))
    sessions = {values.clarity_sessions for values in url_window(connected).values()}
    assert sessions == {len(url_window(connected))}


def test_without_a_database_the_one_of_the_settings_is_read(
    database_url: str, vault: TokenVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Database.open(database_url) as database:
        connect_business(database, vault)
        store(database, business_day())
        store_urls(database, "/a")
    monkeypatch.setenv("CLARITY_DATABASE_URL", database_url)
    values = aggregates.get_business_behavioral_aggregates("acme", DAY, DAY)
    assert values.clarity_sessions == 10
    assert set(aggregates.get_url_behavioral_aggregates("acme", DAY, DAY)) == {"/a"}
