"""From rows to the sums of a day, and from days to what the rules engine reads."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarity_pipeline.domain.aggregates import (
    DAILY_SUM_COLUMNS,
    NO_VISITS,
    AggregateDay,
    BusinessDay,
    DailySums,
    SessionBasis,
    aggregate_business_day,
    aggregate_url_days,
    window_aggregates,
)
from clarity_pipeline.domain.dimensions import OVERVIEW
from clarity_pipeline.domain.errors import InvalidDay
from clarity_pipeline.domain.metrics import AGGREGATE_METRICS, RATIO_COLUMNS
from clarity_pipeline.domain.normalise import normalise_export
from clarity_pipeline_tests.domain.replies import (
    DEVICE_ONLY,
    Visits,
    captured,
    landed,
    reply,
)

DAY = date(2026, 11, 1)

NOTHING = DailySums(
    sessions=None,
    rage_clicks=None,
    rage_click_sessions=0,
    dead_clicks=None,
    dead_click_sessions=0,
    excessive_scroll=None,
    quick_backs=None,
    quick_back_sessions=0,
    scroll_depth_sum=0.0,
    scroll_depth_page_views=0.0,
    engagement_time_ms_sum=0,
    engagement_sessions=0,
)


def metrics_frame(*rows: Mapping[str, Any]) -> pd.DataFrame:
    """Daily-metrics rows as the store gives them; what a row does not name is NULL."""
    counts = (
        "sessions",
        "rage_clicks",
        "dead_clicks",
        "excessive_scroll",
        "quick_backs",
        "engagement_time_ms",
    )
    columns: dict[str, Any] = {"url": pd.Series([row.get("url") for row in rows], dtype=object)}
    for name in counts:
        columns[name] = pd.array([row.get(name) for row in rows], dtype="Int64")
    for name in RATIO_COLUMNS:
        columns[name] = pd.array([row.get(name) for row in rows], dtype="Float64")
    return pd.DataFrame(columns)


def business_day(
    url_device: pd.DataFrame | None,
    overview: pd.DataFrame | None = None,
    *,
    url_device_truncated: bool = False,
    overview_truncated: bool = False,
) -> BusinessDay | None:
    return aggregate_business_day(
        business_id="acme",
        day=DAY,
        url_device=url_device,
        overview=overview,
        url_device_truncated=url_device_truncated,
        overview_truncated=overview_truncated,
        built_from="reply:1",
    )


def sums_of(frame: pd.DataFrame) -> DailySums:
    day = business_day(frame)
    assert day is not None
    return day.sums


def on(
    day: date,
    sums: DailySums,
    *,
    basis: SessionBasis = "page_sessions",
    truncated: bool = False,
) -> AggregateDay:
    return AggregateDay(day=day, session_basis=basis, truncated=truncated, sums=sums)


def one_day(sums: DailySums) -> dict[str, int | float | None]:
    return window_aggregates([on(DAY, sums)], start=DAY, end=DAY).metrics()


# A business-day


def test_a_day_without_any_landed_slice_is_no_day() -> None:
    assert business_day(None) is None


def test_a_landed_slice_without_rows_is_a_day_without_visits() -> None:
    day = business_day(metrics_frame())
    assert day is not None
    assert day.sums == NO_VISITS
    assert day.session_basis == "page_sessions"


def test_events_and_sessions_are_added_over_rows() -> None:
    sums = sums_of(
        metrics_frame(
            {"sessions": 3, "rage_clicks": 1, "dead_clicks": 0, "quick_backs": 7},
            {"sessions": 4, "rage_clicks": 2, "dead_clicks": 5, "excessive_scroll": 6},
        )
    )
    assert (sums.sessions, sums.rage_clicks, sums.dead_clicks) == (7, 3, 5)
    assert (sums.excessive_scroll, sums.quick_backs) == (6, 7)


def test_only_sessions_of_rows_that_know_the_events_are_a_denominator() -> None:
    sums = sums_of(
        metrics_frame(
            {"sessions": 3, "rage_clicks": 1, "dead_clicks": 2},
            {"sessions": 40, "rage_clicks": None, "dead_clicks": 0},
            {"sessions": None, "rage_clicks": 1},
        )
    )
    assert (sums.sessions, sums.rage_clicks) == (43, 2)
    assert (sums.rage_click_sessions, sums.dead_click_sessions) == (3, 43)
    assert sums.quick_back_sessions == 0


def test_a_column_that_is_null_everywhere_stays_null() -> None:
    sums = sums_of(metrics_frame({"sessions": 3}, {"sessions": 1}))
    assert sums.rage_clicks is sums.dead_clicks is sums.quick_backs is None
    assert sums.sessions == 4
    assert sums_of(metrics_frame({}, {})) == NOTHING


def test_depth_weighs_page_views_and_engagement_weighs_sessions() -> None:
    sums = sums_of(
        metrics_frame(
            {
                "sessions": 24,
                "pages_per_session": 43 / 24,
                "scroll_depth": 40.53,
                "engagement_time_ms": 36_000,
            },
            {
                "sessions": 2,
                "pages_per_session": 1.0,
                "scroll_depth": 53.0,
                "engagement_time_ms": 10_000,
            },
            {"sessions": 5, "pages_per_session": 2.0},
        )
    )
    assert sums.scroll_depth_page_views == pytest.approx(45)
    assert sums.scroll_depth_sum == pytest.approx(40.53 * 43 + 53 * 2)
    assert sums.engagement_sessions == 26
    assert sums.engagement_time_ms_sum == 24 * 36_000 + 2 * 10_000
    metrics = one_day(sums)
    # FACTS section 5: the project's own values are 41.09 and 34 s.
    assert metrics["clarity_scroll_depth"] == pytest.approx(41.09, abs=0.01)
    assert metrics["clarity_engagement_time_ms"] == pytest.approx(34_000, abs=1000)


def test_sessions_without_pages_per_session_count_one_page_each() -> None:
    sums = sums_of(
        metrics_frame(
            {"sessions": 3, "pages_per_session": None, "scroll_depth": 10.0},
            {"sessions": 2, "pages_per_session": 0.0, "scroll_depth": 20.0},
        )
    )
    assert sums.scroll_depth_page_views == 5
    assert sums.scroll_depth_sum == 70


def test_junk_of_any_size_fits_a_64_bit_column() -> None:
    sums = sums_of(metrics_frame({"sessions": 10**15, "engagement_time_ms": 10**18}))
    assert sums.engagement_time_ms_sum == 2**63 - 1


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "url": st.sampled_from([None, "a", "b"]),
                "sessions": st.one_of(st.none(), st.integers(0, 10**6)),
                "rage_clicks": st.one_of(st.none(), st.integers(0, 10**6)),
                "pages_per_session": st.one_of(st.none(), st.floats(0, 100)),
                "scroll_depth": st.one_of(st.none(), st.floats(0, 100)),
                "engagement_time_ms": st.one_of(st.none(), st.integers(0, 10**6)),
            }
        ),
        min_size=1,
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)
def test_sums_do_not_depend_on_the_order_of_rows(
    rows: list[dict[str, Any]], shuffle: random.Random
) -> None:
    """No database keeps it; a sum that moved in its last digit would be written again."""
    day, urls = sums_of(metrics_frame(*rows)), aggregate_url_days(metrics_frame(*rows))
    shuffle.shuffle(rows)
    assert sums_of(metrics_frame(*rows)) == day
    assert aggregate_url_days(metrics_frame(*rows)) == urls


def test_stored_values_are_plain_python_numbers() -> None:
    """A driver does not know numpy's."""
    frame = metrics_frame({"url": "a", "sessions": 3, "rage_clicks": 1, "scroll_depth": 5.0})
    for sums in (sums_of(frame), aggregate_url_days(frame)[0].sums):
        for field in fields(sums):
            value = getattr(sums, field.name)
            expected = float if field.name.startswith("scroll_depth") else int
            assert value is None or type(value) is expected, field.name


def test_daily_sum_columns_are_the_fields_in_order() -> None:
    assert DAILY_SUM_COLUMNS[0] == "sessions"
    assert len(DAILY_SUM_COLUMNS) == len(set(DAILY_SUM_COLUMNS)) == 12


# With the overview


def test_the_overview_replaces_the_totals_of_the_url_slice() -> None:
    url_device = metrics_frame({"sessions": 43, "rage_clicks": 2, "scroll_depth": 30.0})
    overview = metrics_frame({"sessions": 26, "rage_clicks": 2, "scroll_depth": 41.09})
    day = business_day(url_device, overview, url_device_truncated=True)
    assert day is not None
    assert day.session_basis == "sessions"
    assert day.truncated is False
    assert day.sums == sums_of(overview)
    assert day.sums.sessions == 26


def test_without_the_overview_the_cut_of_the_url_slice_is_carried_on() -> None:
    day = business_day(metrics_frame({"sessions": 1}), url_device_truncated=True)
    assert day is not None
    assert day.truncated is True
    assert day.session_basis == "page_sessions"


def test_a_cut_overview_is_truncated() -> None:
    day = business_day(None, metrics_frame({"sessions": 1}), overview_truncated=True)
    assert day is not None
    assert (day.truncated, day.session_basis) == (True, "sessions")


@pytest.mark.parametrize("overview", [metrics_frame(), metrics_frame({"rage_clicks": 1})])
def test_an_overview_that_knows_no_sessions_does_not_hide_the_url_slice(
    overview: pd.DataFrame,
) -> None:
    day = business_day(metrics_frame({"sessions": 43}), overview)
    assert day is not None
    assert (day.session_basis, day.sums.sessions) == ("page_sessions", 43)


# Pages


def test_devices_of_a_page_are_added_and_pages_are_sorted() -> None:
    days = aggregate_url_days(
        metrics_frame(
            {"url": "b", "sessions": 1, "rage_clicks": 1},
            {"url": "a", "sessions": 2, "rage_clicks": None},
            {"url": "b", "sessions": 3, "rage_clicks": 2},
        )
    )
    assert [day.url for day in days] == ["a", "b"]
    assert (days[1].sums.sessions, days[1].sums.rage_clicks) == (4, 3)
    assert (days[0].sums.sessions, days[0].sums.rage_clicks) == (2, None)


def test_rows_without_a_url_count_for_the_business_and_for_no_page() -> None:
    frame = metrics_frame({"url": None, "sessions": 5}, {"url": "", "sessions": 1})
    assert [day.url for day in aggregate_url_days(frame)] == [""]
    assert sums_of(frame).sessions == 6


def test_a_page_that_only_bots_saw_is_kept_with_its_zero_sessions() -> None:
    (day,) = aggregate_url_days(metrics_frame({"url": "a", "sessions": 0}))
    assert (day.sums.sessions, day.sums.rage_clicks) == (0, None)


def test_no_rows_are_no_pages() -> None:
    assert aggregate_url_days(metrics_frame()) == []
    assert aggregate_url_days(metrics_frame({"url": None})) == []


def test_pages_add_up_to_the_business() -> None:
    generator = np.random.default_rng(5)
    rows = [
        {
            "url": f"https://example.com/{generator.integers(40)}",
            "sessions": int(generator.integers(50)),
            "rage_clicks": int(generator.integers(5)),
            "pages_per_session": float(generator.random()) * 4,
            "scroll_depth": float(generator.random()) * 100,
            "engagement_time_ms": int(generator.integers(100_000)),
        }
        for _ in range(300)
    ]
    frame = metrics_frame(*rows)
    whole, pages = sums_of(frame), [day.sums for day in aggregate_url_days(frame)]
    for name in DAILY_SUM_COLUMNS:
        parts = [getattr(each, name) for each in pages]
        if getattr(whole, name) is None:
            assert set(parts) == {None}
        else:
            assert sum(parts) == pytest.approx(getattr(whole, name))


# Windows


def test_numerators_and_denominators_are_added_before_they_are_divided() -> None:
    """An average of the two daily rates would be 0.505."""
    busy = replace(NOTHING, sessions=1000, rage_clicks=10, rage_click_sessions=1000)
    quiet = replace(NOTHING, sessions=1, rage_clicks=1, rage_click_sessions=1)
    window = window_aggregates(
        [on(DAY, busy), on(DAY + timedelta(days=1), quiet)],
        start=DAY,
        end=DAY + timedelta(days=1),
    )
    assert window.clarity_rage_click_rate == 11 / 1001
    assert (window.clarity_sessions, window.clarity_rage_clicks) == (1001, 11)


def test_all_ten_values_of_a_day() -> None:
    sums = DailySums(
        sessions=10,
        rage_clicks=1,
        rage_click_sessions=10,
        dead_clicks=2,
        dead_click_sessions=8,
        excessive_scroll=3,
        quick_backs=4,
        quick_back_sessions=5,
        scroll_depth_sum=450.0,
        scroll_depth_page_views=9.0,
        engagement_time_ms_sum=70_001,
        engagement_sessions=7,
    )
    assert one_day(sums) == {
        "clarity_sessions": 10,
        "clarity_rage_clicks": 1,
        "clarity_dead_clicks": 2,
        "clarity_excessive_scroll": 3,
        "clarity_quick_backs": 4,
        "clarity_rage_click_rate": 0.1,
        "clarity_dead_click_rate": 0.25,
        "clarity_quick_back_rate": 0.8,
        "clarity_scroll_depth": 50.0,
        "clarity_engagement_time_ms": 10_000,
    }
    assert tuple(one_day(sums)) == AGGREGATE_METRICS


def test_a_window_without_days_knows_nothing_and_says_so() -> None:
    window = window_aggregates([], start=DAY, end=DAY + timedelta(days=6))
    assert set(window.metrics().values()) == {None}
    assert window.coverage.days_in_window == 7
    assert window.coverage.days_with_data == 0
    assert window.coverage.last_date is None
    assert window.coverage.session_basis is None
    assert window.coverage.truncated is False


def test_days_without_visits_give_zero_events_and_no_rate() -> None:
    metrics = one_day(NO_VISITS)
    assert metrics["clarity_sessions"] == metrics["clarity_rage_clicks"] == 0
    for name in (*(name for name in AGGREGATE_METRICS if name.endswith("_rate")),):
        assert metrics[name] is None
    assert metrics["clarity_scroll_depth"] is metrics["clarity_engagement_time_ms"] is None


def test_a_day_of_which_nothing_could_be_used_is_no_day_with_data() -> None:
    window = window_aggregates([on(DAY, NOTHING, truncated=True)], start=DAY, end=DAY)
    assert window.days_with_data == 0
    assert window.truncated is False


def test_events_are_null_only_if_every_day_misses_them() -> None:
    known = replace(NOTHING, sessions=4, dead_clicks=3, dead_click_sessions=4)
    unknown = replace(NOTHING, sessions=6)
    window = window_aggregates(
        [on(DAY, known), on(DAY + timedelta(days=1), unknown)],
        start=DAY,
        end=DAY + timedelta(days=1),
    )
    assert window.clarity_sessions == 10
    assert window.clarity_dead_clicks == 3
    assert window.clarity_dead_click_rate == 3 / 4
    assert window.clarity_rage_clicks is window.clarity_rage_click_rate is None


def test_coverage_counts_the_days_inside_the_window_and_names_the_last() -> None:
    days = [on(DAY + timedelta(days=offset), NO_VISITS) for offset in (-1, 0, 3, 7)]
    window = window_aggregates(reversed(days), start=DAY, end=DAY + timedelta(days=6))
    assert (window.days_in_window, window.days_with_data) == (7, 2)
    assert window.last_date == DAY + timedelta(days=3)


def test_one_truncated_day_makes_the_window_truncated() -> None:
    days = [on(DAY, NO_VISITS), on(DAY + timedelta(days=1), NO_VISITS, truncated=True)]
    assert window_aggregates(days, start=DAY, end=DAY + timedelta(days=1)).truncated is True
    assert window_aggregates(days, start=DAY, end=DAY).truncated is False


@pytest.mark.parametrize(
    ("bases", "basis"),
    [
        (("sessions", "sessions"), "sessions"),
        (("page_sessions", "page_sessions"), "page_sessions"),
        (("sessions", "page_sessions"), "mixed"),
    ],
)
def test_a_window_says_what_its_sessions_are(bases: Sequence[SessionBasis], basis: str) -> None:
    days = [on(DAY + timedelta(days=i), NO_VISITS, basis=each) for i, each in enumerate(bases)]
    window = window_aggregates(days, start=DAY, end=DAY + timedelta(days=1))
    assert window.session_basis == basis


def test_a_window_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(InvalidDay, match="before it starts"):
        window_aggregates([], start=DAY, end=DAY - timedelta(days=1))


def test_engagement_is_rounded_once_to_whole_milliseconds() -> None:
    sums = replace(NOTHING, engagement_time_ms_sum=5, engagement_sessions=2)
    assert one_day(sums)["clarity_engagement_time_ms"] == 2
    sums = replace(NOTHING, engagement_time_ms_sum=7, engagement_sessions=2)
    assert one_day(sums)["clarity_engagement_time_ms"] == 4


_DAYS = st.lists(
    st.builds(
        AggregateDay,
        day=st.dates(DAY, DAY + timedelta(days=9)),
        session_basis=st.sampled_from(["sessions", "page_sessions"]),
        truncated=st.booleans(),
        sums=st.builds(
            DailySums,
            sessions=st.one_of(st.none(), st.integers(0, 999)),
            rage_clicks=st.one_of(st.none(), st.integers(0, 999)),
            rage_click_sessions=st.integers(0, 999),
            dead_clicks=st.none(),
            dead_click_sessions=st.just(0),
            excessive_scroll=st.none(),
            quick_backs=st.none(),
            quick_back_sessions=st.just(0),
            scroll_depth_sum=st.just(0.0),
            scroll_depth_page_views=st.just(0.0),
            engagement_time_ms_sum=st.just(0),
            engagement_sessions=st.just(0),
        ),
    ),
    unique_by=lambda day: day.day,
    max_size=10,
)


@given(_DAYS, st.randoms(use_true_random=False))
def test_a_window_is_the_same_whatever_the_order_of_its_days(
    days: list[AggregateDay], shuffle: random.Random
) -> None:
    end = DAY + timedelta(days=9)
    window = window_aggregates(days, start=DAY, end=end)
    assert 0 <= window.days_with_data <= window.days_in_window == 10
    assert (window.session_basis is None) == (window.days_with_data == 0)
    shuffle.shuffle(days)
    assert window_aggregates(days, start=DAY, end=end) == window


# Captured replies: three splits of one project, asked in one minute

_SPLITS = ("url_3d_strings.json", "device_3d_strings.json", "country_3d_strings.json")


def captured_sums(name: str) -> DailySums:
    return sums_of(normalise_export(captured(name)).frame)


def test_events_of_a_captured_project_add_up_exactly_over_every_split() -> None:
    """FACTS section 3: 3 quickbacks by URL, device and country."""
    for name in _SPLITS:
        sums = captured_sums(name)
        events = (sums.quick_backs, sums.rage_clicks, sums.dead_clicks, sums.excessive_scroll)
        assert events == (3, 0, 0, 0), name


def test_sessions_of_a_captured_project_add_up_except_over_urls() -> None:
    """A session that visits three pages counts three times in a URL slice."""
    assert [captured_sums(name).sessions for name in _SPLITS] == [30, 25, 25]


def test_engagement_of_a_captured_project_adds_up_within_rounding() -> None:
    """Whole seconds per session (FACTS section 5): each session is off by less than one second."""
    for name in _SPLITS:
        sums = captured_sums(name)
        seconds = sums.engagement_time_ms_sum / 1000
        assert seconds == pytest.approx(110, abs=sums.engagement_sessions), name


def test_depth_of_a_captured_project_is_the_same_by_url_and_by_country() -> None:
    """By device it is not: pages per session of that month counts the 39 bots of PC too."""
    by_url, _, by_country = [
        one_day(captured_sums(name))["clarity_scroll_depth"] for name in _SPLITS
    ]
    assert by_url == pytest.approx(by_country, abs=0.05)
    assert by_url == pytest.approx(60.45, abs=0.05)


def test_page_view_weighting_reproduces_a_projects_own_scroll_depth() -> None:
    """FACTS section 5: 40.53 over 43 views and 53 over 2 views were reported as 41.09."""
    devices = [
        Visits(("Mobile",), sessions=24, pages_per_session=43 / 24, depth=40.53, active_seconds=36),
        Visits(("PC",), sessions=2, pages_per_session=1, depth=53, active_seconds=10),
    ]
    whole = Visits((), sessions=26, pages_per_session=45 / 26, depth=41.09, active_seconds=34)
    by_device = normalise_export(landed(reply(*devices, combo=DEVICE_ONLY), combo=DEVICE_ONLY))
    overview = normalise_export(landed(reply(whole, combo=OVERVIEW), combo=OVERVIEW))
    ours, own = one_day(sums_of(by_device.frame)), one_day(sums_of(overview.frame))
    assert ours["clarity_scroll_depth"] == pytest.approx(own["clarity_scroll_depth"], abs=0.05)
    assert ours["clarity_engagement_time_ms"] == own["clarity_engagement_time_ms"] == 34_000
    assert ours["clarity_sessions"] == own["clarity_sessions"] == 26


def test_merging_pages_first_does_not_move_the_projects_depth() -> None:
    spellings = ["https://example.com/a", "https://example.com/a/", "https://example.com/b"]
    numbers = [(24, 43 / 24, 40.53, 36), (2, 1.0, 53.0, 10), (7, 3.5, 12.25, 80)]

    def frame_of(urls: Sequence[str]) -> pd.DataFrame:
        visits = [
            Visits(
                (url, "PC"),
                sessions=sessions,
                pages_per_session=pages,
                depth=depth,
                active_seconds=seconds,
            )
            for url, (sessions, pages, depth, seconds) in zip(urls, numbers, strict=True)
        ]
        return normalise_export(landed(reply(*visits))).frame

    merged, apart = frame_of(spellings), frame_of([f"https://example.com/{i}" for i in range(3)])
    assert (len(merged), len(apart)) == (2, 3)
    assert sums_of(merged).scroll_depth_sum == pytest.approx(sums_of(apart).scroll_depth_sum)
    assert sums_of(merged).scroll_depth_page_views == pytest.approx(
        sums_of(apart).scroll_depth_page_views
    )
    assert sums_of(merged).engagement_time_ms_sum == pytest.approx(
        sums_of(apart).engagement_time_ms_sum, abs=26
    )
