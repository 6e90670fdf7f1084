"""The catalogue of metrics, and that a rule sees what a chart sees."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clarity_pipeline.domain.aggregates import (
    DAILY_SUM_COLUMNS,
    AggregateDay,
    DailySums,
    window_aggregates,
)
from clarity_pipeline.domain.metrics import AGGREGATE_METRICS
from clarity_pipeline.domain.rules.metrics import (
    CLARITY_METRICS,
    METRICS,
    MetricKind,
    Origin,
    find_metric,
)
from clarity_pipeline_tests.domain.rules.histories import AS_OF, back, condition, find, last_days


def test_the_ten_values_of_clarity_are_in_the_catalogue_and_no_other_of_clarity() -> None:
    assert set(CLARITY_METRICS) == set(AGGREGATE_METRICS)
    assert [name for name in METRICS if name.startswith("clarity_")] == list(CLARITY_METRICS)


def test_metrics_of_clarity_are_made_of_the_sums_that_are_stored() -> None:
    for metric in METRICS.values():
        if metric.origin is Origin.CLARITY:
            assert set(metric.series) <= set(DAILY_SUM_COLUMNS)
            assert metric.sample is not None


def test_only_counts_are_not_divided() -> None:
    for metric in METRICS.values():
        assert (metric.denominator is None) == (metric.kind is MetricKind.COUNT)
        assert metric.description
        assert metric.unit


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("clarity_sessions", 1234, "1,234"),
        ("clarity_rage_click_rate", 0.5, "50.0 per 100 sessions"),
        ("clarity_scroll_depth", 49.96, "50.0 % of the page"),
        ("clarity_engagement_time_ms", 29_600, "30 s per session"),
        ("clarity_engagement_time_ms", 3_725_000, "62 min 5 s per session"),
        ("spend", 1234.5, "1,234.50"),
        ("ctr", 0.01234, "1.23 %"),
        ("roas", 2.5, "2.50"),
        ("ad.add_to_cart", 0.25, "0.25"),
    ],
)
def test_a_value_is_shown_in_a_unit_that_people_read(name: str, value: float, words: str) -> None:
    metric = find_metric(name)
    assert metric is not None
    assert metric.shown_with_unit(value) == words
    assert words.startswith(metric.shown(value))


@pytest.mark.parametrize("name", ["ad.add_to_cart", "ad.x", "ad." + "a" * 40])
def test_a_further_sum_of_ads_is_a_metric(name: str) -> None:
    metric = find_metric(name)
    assert metric is not None
    assert metric.series == (name,)


@pytest.mark.parametrize(
    "name", ["", "add_to_cart", "ad.", "ad.A", "ad.1", "ad.a b", "ad.a\n", "ad." + "a" * 41, "CTR"]
)
def test_any_other_name_is_unknown(name: str) -> None:
    assert find_metric(name) is None


counts = st.integers(0, 10**6)
known_counts = counts | st.none()


@st.composite
def daily_sums(draw: st.DrawFn) -> DailySums:
    """A day as domain.aggregates makes it: no sessions behind events that are not known."""
    events = {name: draw(known_counts) for name in ("rage_clicks", "dead_clicks", "quick_backs")}
    behind = {name: 0 if value is None else draw(counts) for name, value in events.items()}
    return DailySums(
        sessions=draw(known_counts),
        excessive_scroll=draw(known_counts),
        **events,
        rage_click_sessions=behind["rage_clicks"],
        dead_click_sessions=behind["dead_clicks"],
        quick_back_sessions=behind["quick_backs"],
        scroll_depth_sum=draw(st.floats(0, 1e9)),
        scroll_depth_page_views=draw(st.just(0.0) | st.floats(0.5, 1e7)),
        engagement_time_ms_sum=draw(st.integers(0, 2**50)),
        engagement_sessions=draw(counts),
    )


@settings(max_examples=40)
@given(days=st.lists(daily_sums() | st.none(), min_size=1, max_size=9))
def test_a_rule_sees_the_value_that_a_chart_of_the_window_shows(
    days: list[DailySums | None],
) -> None:
    stored = [
        AggregateDay(
            day=back(index),
            session_basis="sessions",
            truncated=False,
            sums=sums,
        )
        for index, sums in enumerate(days)
        if sums is not None and sums.says_something
    ]
    start = AS_OF - timedelta(days=6)
    charted = window_aggregates(stored, start=start, end=AS_OF).metrics()
    history = {
        each.day: {name: getattr(each.sums, name) for name in DAILY_SUM_COLUMNS} for each in stored
    }
    for name in AGGREGATE_METRICS:
        asked = condition(name, ">", 1, window=last_days(7), max_age_days=None)
        finding = find(asked, history)
        assert (finding.value is None) == (finding.reason is not None) == (charted[name] is None)
        if finding.value is not None:
            assert finding.value == pytest.approx(charted[name], rel=1e-12), name
