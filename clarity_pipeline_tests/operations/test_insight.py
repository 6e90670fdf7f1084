"""What a panel shows of a business, on both databases, against values worked out by hand."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from clarity_pipeline.domain.aggregates import (
    NO_VISITS,
    aggregate_business_day,
    behavioral_values,
)
from clarity_pipeline.domain.day_history import DayWord
from clarity_pipeline.domain.dimensions import (
    DEFAULT_COMBOS,
    URL_CAMPAIGN_CHANNEL,
    URL_DEVICE,
)
from clarity_pipeline.domain.errors import InvalidDay, InvalidRequest, UnknownBusiness
from clarity_pipeline.domain.insight import (
    BreakdownBy,
    PageEvent,
    PageRanking,
    Window,
    latest_window,
)
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.operations.insight import (
    breakdown,
    business_series,
    day_calendar,
    past_syncs,
    worst_pages,
)
from clarity_pipeline.operations.rebuild_day import rebuild_business_aggregates
from clarity_pipeline.store import connections, daily_metrics, sync_jobs
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import daily_metrics as metrics_table
from clarity_pipeline.store.vault import TokenVault
from clarity_pipeline_tests.domain.replies import Visits
from clarity_pipeline_tests.factories import DAY, NOW, connect_business, make_slice
from clarity_pipeline_tests.stored_days import store_day, store_pages, sums

WEEK = Window(DAY - timedelta(days=6), DAY)


def roll_up(database: Database) -> None:
    """What the pipeline does once the rows of a day are there."""
    rebuild_business_aggregates(database, day=DAY, now=NOW)


@pytest.fixture
def acme(database: Database, vault: TokenVault) -> Database:
    """A store with one business that has been connected for a year."""
    connect_business(database, vault, now=NOW - timedelta(days=365))
    return database


# Day by day


def test_a_series_has_every_day_and_none_where_there_is_no_data(acme: Database) -> None:
    store_day(acme, DAY, sums())
    store_day(acme, DAY - timedelta(days=2), NO_VISITS, truncated=True)
    series = business_series(acme, "acme", window=WEEK, now=NOW, recovery=False)

    assert [day.day for day in series.days] == WEEK.days()
    assert [day.has_data for day in series.days] == [False] * 4 + [True, False, True]
    gap, last = series.days[-2], series.days[-1]
    assert set(gap.metrics().values()) == {None}
    assert gap.session_basis is None
    assert last.metrics() == {
        "clarity_sessions": 10,
        "clarity_rage_clicks": 5,
        "clarity_dead_clicks": None,
        "clarity_excessive_scroll": 0,
        "clarity_quick_backs": 2,
        "clarity_rage_click_rate": 0.5,
        "clarity_dead_click_rate": None,
        "clarity_quick_back_rate": 0.25,
        "clarity_scroll_depth": 50.0,
        "clarity_engagement_time_ms": 30_000,
    }
    assert [day.is_truncated for day in series.days] == [False] * 4 + [True, False, False]
    assert (series.values.days_with_data, series.values.truncated) == (2, True)


def test_a_count_is_compared_per_day_so_that_a_gap_is_no_fall(acme: Database) -> None:
    for back in range(7):
        store_day(acme, WEEK.before().end - timedelta(days=back), sums())
    store_day(acme, DAY, sums(sessions=11, rage_clicks=10))
    series = business_series(acme, "acme", window=WEEK, now=NOW, recovery=False)

    assert series.before.clarity_sessions == 70
    assert series.changes["clarity_sessions"] == pytest.approx(10.0)
    assert series.changes["clarity_rage_clicks"] == pytest.approx(100.0)
    assert series.changes["clarity_scroll_depth"] == pytest.approx(0.0)
    assert series.changes["clarity_dead_clicks"] is None
    assert series.changes["clarity_excessive_scroll"] is None


def test_sessions_are_not_compared_with_page_sessions_but_events_are(acme: Database) -> None:
    store_day(acme, WEEK.before().end, sums())
    store_day(acme, DAY, sums(rage_clicks=6), session_basis="sessions")
    changes = business_series(acme, "acme", window=WEEK, now=NOW, recovery=False).changes

    assert changes["clarity_rage_clicks"] == pytest.approx(20.0)
    assert changes["clarity_sessions"] is None
    assert changes["clarity_rage_click_rate"] is None


def test_the_words_of_days_are_those_of_the_history(acme: Database) -> None:
    daily_metrics.replace_slices(
        acme,
        [
            make_slice(acme, Visits(("https://a/", "x", "y")[: len(combo.dimensions)]), combo=combo)
            for combo in DEFAULT_COMBOS
        ],
        now=NOW,
    )
    daily_metrics.replace_slices(
        acme,
        [make_slice(acme, Visits(("https://a/", "PC")), day=DAY - timedelta(days=1))],
        now=NOW,
    )
    days = day_calendar(acme, "acme", window=WEEK, now=NOW, recovery=False)
    assert [day.day for day in days] == WEEK.days()
    assert [day.word for day in days] == [DayWord.LOST] * 5 + [DayWord.PARTIAL, DayWord.COMPLETE]
    assert "Missing" in str(days[-2].reason)
    assert days[-1].reason is None

    series = business_series(acme, "acme", window=WEEK, now=NOW, recovery=False)
    assert [day.word for day in series.days] == [day.word for day in days]
    assert [day.is_partial for day in series.days] == [False] * 5 + [True, False]
    assert [day.is_shifted for day in series.days] == [False] * 5 + [True, False]


def test_days_before_the_business_was_known_are_not_expected(
    database: Database, vault: TokenVault
) -> None:
    connect_business(database, vault)
    days = day_calendar(database, "acme", window=WEEK, now=NOW, recovery=False)
    assert [day.word for day in days] == [DayWord.NOT_EXPECTED] * 6 + [DayWord.PENDING]


def test_history_is_still_shown_after_a_disconnect(acme: Database) -> None:
    store_day(acme, DAY, sums())
    connections.disconnect(acme, business_id="acme", now=NOW)
    series = business_series(acme, "acme", window=WEEK, now=NOW, recovery=False)
    assert series.values.clarity_sessions == 10


def test_the_latest_window_ends_with_the_latest_day_that_is_over() -> None:
    window = latest_window(NOW, length=30)
    assert (window.end, window.length, len(window.days())) == (DAY, 30, 30)
    assert window.before() == Window(DAY - timedelta(days=59), DAY - timedelta(days=30))


# Pages


def test_pages_are_ranked_by_number_of_events_then_by_rate(acme: Database) -> None:
    store_pages(
        acme,
        DAY,
        {
            "https://a/often": sums(rage_clicks=4, rage_click_sessions=100),
            "https://a/level": sums(rage_clicks=3, rage_click_sessions=30),
            "https://a/level-and-likely": sums(rage_clicks=3, rage_click_sessions=6),
            "https://a/never": sums(rage_clicks=0),
            "https://a/unknown": sums(rage_clicks=None, rage_click_sessions=0),
        },
    )
    store_pages(
        acme,
        DAY - timedelta(days=1),
        {"https://a/often": sums(rage_clicks=0, rage_click_sessions=60, sessions=60)},
    )
    store_pages(acme, WEEK.before().end, {"https://a/never": sums(rage_clicks=99)})
    found = worst_pages(acme, "acme", window=WEEK, by=PageEvent.RAGE, now=NOW, limit=2)

    assert [page.url for page in found.pages] == ["https://a/often", "https://a/level-and-likely"]
    assert found.pages_with_events == 3
    often = found.pages[0]
    assert (often.clarity_rage_clicks, often.clarity_rage_click_rate) == (4, 4 / 160)
    assert (often.clarity_sessions, often.days_with_data) == (70, 2)


def test_pages_are_ranked_by_rate_among_those_with_enough_sessions(acme: Database) -> None:
    store_pages(
        acme,
        DAY,
        {
            "https://a/one-visitor": sums(dead_clicks=5, dead_click_sessions=1),
            "https://a/many": sums(dead_clicks=50, dead_click_sessions=100),
            "https://a/more": sums(dead_clicks=60, dead_click_sessions=200),
        },
    )

    def urls(min_sessions: int) -> list[str]:
        found = worst_pages(
            acme,
            "acme",
            window=WEEK,
            by=PageEvent.DEAD,
            ranking=PageRanking.RATE,
            min_sessions=min_sessions,
            now=NOW,
            limit=2,
        )
        return [page.url for page in found.pages]

    assert urls(0) == ["https://a/one-visitor", "https://a/many"]
    assert urls(2) == ["https://a/many", "https://a/more"]


def test_a_page_with_too_few_sessions_takes_no_place_among_those_with_most_events(
    acme: Database,
) -> None:
    store_pages(
        acme,
        DAY,
        {
            "https://a/one-visitor": sums(rage_clicks=9, rage_click_sessions=1),
            "https://a/busy": sums(rage_clicks=3, rage_click_sessions=50),
        },
    )
    found = worst_pages(
        acme, "acme", window=WEEK, by=PageEvent.RAGE, min_sessions=2, now=NOW, limit=1
    )
    assert [page.url for page in found.pages] == ["https://a/busy"]
    assert found.pages_with_events == 2


# Groups


def test_groups_are_the_sums_of_their_rows_divided_once(acme: Database) -> None:
    daily_metrics.replace_slices(
        acme,
        [
            make_slice(
                acme,
                Visits(("https://a/", "PC"), sessions=3, rage=1),
                Visits(("https://b/", "PC"), sessions=5, rage=3),
                Visits(("https://a/", "Mobile"), sessions=20),
                Visits(("https://a/", "Tablet"), sessions=2, dead=4),
                Visits(("https://a/", "Other"), sessions=1),
            )
        ],
        now=NOW,
    )
    roll_up(acme)
    found = breakdown(acme, "acme", window=WEEK, by=BreakdownBy.DEVICE, now=NOW, limit=2)

    assert [(group.group, group.clarity_sessions) for group in found.groups] == [
        ("Mobile", 20),
        ("PC", 8),
    ]
    assert found.groups[1].clarity_rage_click_rate == 0.5
    assert found.others is not None
    assert (found.others.clarity_sessions, found.others.clarity_dead_clicks) == (3, 4)
    assert found.others.clarity_dead_click_rate == pytest.approx(4 / 3)
    assert (found.others_count, found.days_with_data, found.days_in_window) == (2, 1, 7)
    assert not found.truncated


def test_a_group_is_what_the_aggregates_of_its_rows_are(acme: Database) -> None:
    """The database adds with the weights of domain.aggregates, NULLs and odd ratios included."""
    daily_metrics.replace_slices(
        acme,
        [make_slice(acme, *(Visits((f"https://{page}/", "PC")) for page in range(5)))],
        now=NOW,
    )
    wild: list[dict[str, Any]] = [
        {"sessions": 7, "pages_per_session": 1.5, "scroll_depth": 40.0, "rage_clicks": None},
        {"sessions": 3, "pages_per_session": None, "scroll_depth": 80.0, "rage_clicks": 2},
        {"sessions": 4, "pages_per_session": 0.0, "scroll_depth": None, "quick_backs": None},
        {"sessions": None, "pages_per_session": 2.0, "scroll_depth": 10.0, "dead_clicks": 1},
        {"sessions": 9, "engagement_time_ms": None, "excessive_scroll": 5},
    ]
    with acme.transaction() as connection:
        hashes = connection.scalars(select(metrics_table.c.dimension_hash)).all()
        for hash_, values in zip(hashes, wild, strict=True):
            connection.execute(
                metrics_table.update().where(metrics_table.c.dimension_hash == hash_).values(values)
            )
    roll_up(acme)
    frame = daily_metrics.read_metrics(
        acme, business_id="acme", day=DAY, dimension_set=URL_DEVICE.dimension_set
    )
    stored = aggregate_business_day(
        business_id="acme",
        day=DAY,
        url_device=frame,
        overview=None,
        url_device_truncated=False,
        overview_truncated=False,
        built_from="reply:1",
    )
    assert stored is not None
    (group,) = breakdown(acme, "acme", window=WEEK, by=BreakdownBy.DEVICE, now=NOW).groups
    assert group.group == "PC"
    assert group.metrics() == pytest.approx(behavioral_values([stored.sums]).metrics())


def test_what_clarity_sent_no_value_for_is_a_group_of_its_own(acme: Database) -> None:
    daily_metrics.replace_slices(
        acme,
        [
            make_slice(
                acme,
                Visits(("https://a/", "", "Direct"), sessions=2),
                Visits(("https://a/", "spring", "PaidSearch"), sessions=5),
                combo=URL_CAMPAIGN_CHANNEL,
            )
        ],
        now=NOW,
    )
    with acme.transaction() as connection:
        connection.execute(
            metrics_table.update().where(metrics_table.c.campaign == "").values(campaign=None)
        )
    roll_up(acme)

    def groups(by: BreakdownBy) -> list[tuple[str | None, int | None]]:
        found = breakdown(acme, "acme", window=WEEK, by=by, now=NOW)
        return [(group.group, group.clarity_sessions) for group in found.groups]

    assert groups(BreakdownBy.CAMPAIGN) == [("spring", 5), (None, 2)]
    assert groups(BreakdownBy.CHANNEL) == [("PaidSearch", 5), ("Direct", 2)]
    assert groups(BreakdownBy.SOURCE) == []


# Sync jobs


def test_past_syncs_come_newest_first_and_page_by_page(acme: Database) -> None:
    ids: list[int] = []
    for back in range(5):
        (job_id,) = sync_jobs.start_jobs(
            acme,
            business_ids=["acme"],
            day=DAY - timedelta(days=back),
            trigger=Trigger.SCHEDULE,
            dagster_run_id=f"run {back}",
            now=NOW,
        ).values()
        ids.append(job_id)
    for job_id in ids[:4]:
        sync_jobs.settle_job(
            acme,
            job_id=job_id,
            status=JobStatus.FAILED if job_id == ids[1] else JobStatus.SUCCEEDED,
            calls_used=4,
            combos={},
            error_code=None,
            error_message=None,
            now=NOW + timedelta(seconds=90),
        )
    first = past_syncs(acme, "acme", limit=2)
    assert [sync.id for sync in first.syncs] == [ids[4], ids[3]]
    assert [sync.duration_seconds for sync in first.syncs] == [None, 90.0]
    assert first.next_before_id == ids[3]
    second = past_syncs(acme, "acme", limit=3, before_id=first.next_before_id)
    assert [sync.id for sync in second.syncs] == [ids[2], ids[1], ids[0]]
    assert second.next_before_id is None
    failed = past_syncs(acme, "acme", status=JobStatus.FAILED)
    assert [sync.id for sync in failed.syncs] == [ids[1]]


# What is refused


def test_a_window_that_is_not_over_a_limit_of_nothing_and_a_stranger_are_refused(
    acme: Database,
) -> None:
    tomorrow = Window(DAY, DAY + timedelta(days=1))
    with pytest.raises(InvalidDay):
        business_series(acme, "acme", window=tomorrow, now=NOW, recovery=False)
    with pytest.raises(InvalidDay):
        worst_pages(acme, "acme", window=tomorrow, by=PageEvent.RAGE, now=NOW)
    with pytest.raises(InvalidDay):
        Window(DAY, DAY - timedelta(days=1))
    with pytest.raises(InvalidRequest):
        breakdown(acme, "acme", window=WEEK, by=BreakdownBy.DEVICE, now=NOW, limit=0)
    with pytest.raises(InvalidRequest):
        past_syncs(acme, "acme", limit=0)
    with pytest.raises(UnknownBusiness):
        past_syncs(acme, "nobody")
    with pytest.raises(UnknownBusiness):
        worst_pages(acme, "nobody", window=WEEK, by=PageEvent.RAGE, now=NOW)
    with pytest.raises(UnknownBusiness):
        breakdown(acme, "nobody", window=WEEK, by=BreakdownBy.SOURCE, now=NOW)
    with pytest.raises(UnknownBusiness):
        business_series(acme, "nobody", window=WEEK, now=NOW, recovery=False)
