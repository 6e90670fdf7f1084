"""The vocabulary of replies and of the stored columns."""

from __future__ import annotations

import json

import pytest

from clarity_pipeline.domain.metrics import (
    AGGREGATE_METRICS,
    BLOCK_FIELDS,
    BREAKDOWN_BLOCKS,
    CLICK_BLOCK_COLUMNS,
    COUNT_COLUMNS,
    METRIC_COLUMNS,
    RATIO_COLUMNS,
    TUPLE_BLOCKS,
    canonical_block_name,
    canonical_field_name,
)
from clarity_pipeline_tests.domain.replies import CAPTURED, COMBO_OF_CAPTURED_REPLY


@pytest.mark.parametrize("name", sorted(COMBO_OF_CAPTURED_REPLY))
def test_the_vocabulary_is_that_of_the_captured_replies(name: str) -> None:
    keys = [dimension.row_key for dimension in COMBO_OF_CAPTURED_REPLY[name].dimensions]
    for block in json.loads((CAPTURED / name).read_bytes()):
        assert canonical_block_name(block["metricName"]) == block["metricName"]
        for row in block["information"]:
            assert list(row) == [*BLOCK_FIELDS[block["metricName"]], *keys]


def test_a_whole_reply_has_the_blocks_in_this_order() -> None:
    document = json.loads((CAPTURED / "no_dimension_3d_numbers.json").read_bytes())
    assert [block["metricName"] for block in document] == [*TUPLE_BLOCKS, *BREAKDOWN_BLOCKS]


@pytest.mark.parametrize(
    ("documented", "name"),
    [
        ("Dead Click Count", "DeadClickCount"),
        ("Excessive Scroll", "ExcessiveScroll"),
        ("Rage Click Count", "RageClickCount"),
        ("Quickback Click", "QuickbackClick"),
        ("Script Error Count", "ScriptErrorCount"),
        ("Error Click Count", "ErrorClickCount"),
        ("Scroll Depth", "ScrollDepth"),
        ("Engagement Time", "EngagementTime"),
        ("Popular Pages", "PopularPages"),
        ("Page Title", "PageTitle"),
        ("Referrer URL", "ReferrerUrl"),
        ("Country/Region", "Country"),
        ("traffic", "Traffic"),
    ],
)
def test_blocks_are_known_by_their_documented_names(documented: str, name: str) -> None:
    assert canonical_block_name(documented) == name


@pytest.mark.parametrize(
    ("documented", "name"),
    [
        ("distantUserCount", "distinctUserCount"),
        ("PagesPerSessionPercentage", "pagesPerSessionPercentage"),
        ("subTotal", "subTotal"),
    ],
)
def test_fields_are_known_by_their_documented_names(documented: str, name: str) -> None:
    assert canonical_field_name(documented) == name


@pytest.mark.parametrize("name", ["", " ", "SmartEvents", "Traffic2", "Straße"])
def test_what_is_not_in_the_vocabulary_is_unknown(name: str) -> None:
    assert canonical_block_name(name) is None
    assert canonical_field_name(name) is None


def test_every_metric_column_is_a_count_or_a_ratio() -> None:
    assert sorted(METRIC_COLUMNS) == sorted((*COUNT_COLUMNS, *RATIO_COLUMNS))
    assert set(CLICK_BLOCK_COLUMNS.values()) <= set(COUNT_COLUMNS)


def test_the_ten_values_of_the_rules_engine_are_named_as_agreed() -> None:
    assert AGGREGATE_METRICS == (
        "clarity_sessions",
        "clarity_rage_clicks",
        "clarity_dead_clicks",
        "clarity_excessive_scroll",
        "clarity_quick_backs",
        "clarity_rage_click_rate",
        "clarity_dead_click_rate",
        "clarity_quick_back_rate",
        "clarity_scroll_depth",
        "clarity_engagement_time_ms",
    )
