"""The validator itself: real replies pass, and each broken rule is noticed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from clarity_pipeline.domain.dimensions import Dimension
from clarity_pipeline_tests.reply_contract import (
    CAPTURED_REPLIES,
    check_additivity,
    check_reply,
)

Blocks = list[dict[str, Any]]


@pytest.mark.parametrize("name", CAPTURED_REPLIES)
def test_a_captured_reply_keeps_the_contract(name: str) -> None:
    reply = CAPTURED_REPLIES[name]

    assert check_reply(reply.blocks(), reply.dimensions, complete=reply.complete) == []


@pytest.mark.parametrize("split", ["country_3d_strings", "url_3d_strings"])
def test_captured_splits_of_one_window_add_up(split: str) -> None:
    """FACTS section 3: device, country and URL replies of one project, same minute."""
    whole = CAPTURED_REPLIES["device_3d_strings"].blocks()
    reply = CAPTURED_REPLIES[split]

    assert check_additivity(whole=whole, split=reply.blocks(), split_by=reply.dimensions) == []


def test_sessions_of_a_url_split_are_known_not_to_add_up() -> None:
    """30 page sessions for 25 sessions: the same split fails when it is taken for a device one."""
    violations = check_additivity(
        whole=CAPTURED_REPLIES["device_3d_strings"].blocks(),
        split=CAPTURED_REPLIES["url_3d_strings"].blocks(),
        split_by=[Dimension.DEVICE],
    )

    assert any("sessionsCount is 30 over the split, 25 in all" in each for each in violations)


def _row(blocks: Blocks, name: str, position: int = 0) -> dict[str, Any]:
    rows = next(block["information"] for block in blocks if block["metricName"] == name)
    return rows[position]


def _swap_blocks(blocks: Blocks) -> None:
    blocks[0], blocks[1] = blocks[1], blocks[0]


def _swap_fields(blocks: Blocks) -> None:
    row = _row(blocks, "RageClickCount")
    row["sessionsCount"] = row.pop("sessionsCount")


def _drop_traffic_tuple(blocks: Blocks) -> None:
    del blocks[7]["information"][0]


def _double_a_row(blocks: Blocks) -> None:
    for block in blocks:
        block["information"].append(dict(block["information"][0]))


def _setting(block: str, /, **values: object) -> Callable[[Blocks], None]:
    def mutate(blocks: Blocks) -> None:
        _row(blocks, block).update(values)

    return mutate


DEVICE_MUTATIONS: list[tuple[Callable[[Blocks], object], str]] = [
    (_swap_blocks, "the blocks are"),
    (lambda blocks: blocks.pop(), "the blocks are"),
    (_swap_fields, "a row has the keys"),
    (lambda blocks: _row(blocks, "Traffic").pop("Device"), "a row has the keys"),
    (_drop_traffic_tuple, "tuples that Traffic lacks"),
    (lambda blocks: blocks[6]["information"].pop(), "its tuples differ"),
    (_double_a_row, "occurs twice"),
    (_setting("RageClickCount", Device=None), "Device is None"),
    (_setting("RageClickCount", sessionsCount="8.0"), "sessionsCount is '8.0'"),
    (_setting("RageClickCount", sessionsCount=8), "strings and numbers"),
    (_setting("RageClickCount", subTotal=None), "subTotal is None"),
    (_setting("RageClickCount", sessionsWithMetricPercentage=0.0), "Percentage is 0.0"),
    (_setting("RageClickCount", sessionsCount="9"), "another sessionsCount"),
    (
        _setting(
            "RageClickCount",
            sessionsWithMetricPercentage=12.4,
            sessionsWithoutMetricPercentage=87.6,
        ),
        "no whole number",
    ),
    (
        _setting(
            "RageClickCount",
            sessionsWithMetricPercentage=25,
            sessionsWithoutMetricPercentage=75,
            pagesViews="1",
            subTotal="5",
        ),
        "2 sessions, 1 page views",
    ),
    (_setting("RageClickCount", pagesViews="3", subTotal="2"), "3 page views, 2 events"),
    (_setting("RageClickCount", pagesViews="1", subTotal="1"), "0 % with 1 page views"),
    (_setting("RageClickCount", sessionsWithoutMetricPercentage=99), "each other's rest"),
    (
        _setting(
            "QuickbackClick",
            sessionsWithMetricPercentage=12.5,
            sessionsWithoutMetricPercentage=87.5,
            pagesViews="1",
            subTotal="2",
        ),
        "1 page views, 2 events",
    ),
    (_setting("ScrollDepth", averageScrollDepth=100.5), "ScrollDepth: 100.5"),
    (_setting("ScrollDepth", averageScrollDepth=42.755), "ScrollDepth: 42.755"),
    (_setting("Traffic", pagesPerSessionPercentage=0.5), "0.5 pages per session"),
    (_setting("EngagementTime", activeTime="3"), "3 s active of 2 s"),
    (_setting("EngagementTime", activeTime=None), "one of the times is null"),
]


@pytest.mark.parametrize(("mutate", "complaint"), DEVICE_MUTATIONS)
def test_a_reply_with_one_thing_wrong_is_noticed(
    mutate: Callable[[Blocks], object], complaint: str
) -> None:
    blocks = copy.deepcopy(CAPTURED_REPLIES["device_3d_strings"].blocks())
    mutate(blocks)

    violations = check_reply(blocks, [Dimension.DEVICE])

    assert any(complaint in violation for violation in violations), violations


OVERVIEW_MUTATIONS: list[tuple[Callable[[Blocks], object], str]] = [
    (lambda blocks: blocks[9]["information"].reverse(), "not sorted"),
    (lambda blocks: blocks[9]["information"].append(blocks[9]["information"][-1]), "twice"),
    (_setting("Browser", name=None), "the label None"),
    (lambda blocks: blocks[0]["information"].clear(), "0 rows without dimensions"),
    (_setting("PopularPages", visitsCount=0), "without sessions"),
    (
        lambda blocks: blocks[12]["information"].extend(
            {"name": f"Country {number}", "sessionsCount": 1} for number in range(10)
        ),
        "11 rows",
    ),
]


@pytest.mark.parametrize(("mutate", "complaint"), OVERVIEW_MUTATIONS)
def test_a_reply_without_dimensions_with_one_thing_wrong_is_noticed(
    mutate: Callable[[Blocks], object], complaint: str
) -> None:
    blocks = copy.deepcopy(CAPTURED_REPLIES["no_dimension_3d_numbers"].blocks())
    mutate(blocks)

    violations = check_reply(blocks, [])

    assert any(complaint in violation for violation in violations), violations


def test_events_that_are_lost_in_a_split_are_noticed() -> None:
    whole = CAPTURED_REPLIES["device_3d_strings"].blocks()
    split = copy.deepcopy(CAPTURED_REPLIES["country_3d_strings"].blocks())
    _row(split, "QuickbackClick", 2)["subTotal"] = "2"

    violations = check_additivity(whole=whole, split=split, split_by=[Dimension.COUNTRY])

    assert violations == ["QuickbackClick: 2 events over the split, 3 in all"]


def test_time_that_is_lost_in_a_split_is_noticed() -> None:
    whole = CAPTURED_REPLIES["device_3d_strings"].blocks()
    split = copy.deepcopy(CAPTURED_REPLIES["country_3d_strings"].blocks())
    _row(split, "EngagementTime", 2)["totalTime"] = "5"

    violations = check_additivity(whole=whole, split=split, split_by=[Dimension.COUNTRY])

    assert any("totalTime" in violation for violation in violations)
