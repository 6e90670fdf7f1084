"""From one landed reply to rows: joining, counting, merging, and what is kept of everything."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from clarity_pipeline.domain.dimensions import (
    OVERVIEW,
    URL_CAMPAIGN_CHANNEL,
    URL_DEVICE,
    URL_SOURCE,
    Dimension,
    dimension_hash,
)
from clarity_pipeline.domain.errors import DimensionIgnored, ReplyUnreadable
from clarity_pipeline.domain.metrics import (
    BREAKDOWN_BLOCKS,
    CLICK_BLOCK_COLUMNS,
    COUNT_COLUMNS,
    METRIC_COLUMNS,
    RATIO_COLUMNS,
    TUPLE_BLOCKS,
)
from clarity_pipeline.domain.normalise import (
    FRAME_COLUMNS,
    MAX_COUNT,
    MAX_RATIO,
    NORMALISER_VERSION,
    NormalisedSlice,
    built_from,
    normalise_export,
)
from clarity_pipeline_tests.domain.replies import (
    COMBO_OF_CAPTURED_REPLY,
    DAY,
    DEVICE_ONLY,
    REQUESTED_AT,
    URL_ONLY,
    Row,
    Visits,
    body,
    captured,
    landed,
    nine_blocks,
    reply,
)

PAGE = "https://example.com/page"


def rows_of(slice_: NormalisedSlice) -> list[dict[str, Any]]:
    """The frame as dicts with None for NULL."""
    frame = slice_.frame.astype(object)
    return frame.where(frame.notna(), None).to_dict("records")  # pyright: ignore[reportReturnType]


def only_row(reply_body: bytes, **kwargs: Any) -> dict[str, Any]:
    (row,) = rows_of(normalise_export(landed(reply_body, **kwargs)))
    return row


def row_at(slice_: NormalisedSlice, **dimensions: str | None) -> dict[str, Any]:
    (row,) = [
        row
        for row in rows_of(slice_)
        if all(row[column] == value for column, value in dimensions.items())
    ]
    return row


def raw_rows_of(raw_payload: str) -> dict[str, list[Row]]:
    """The raw rows as they came, by block, put together again from a payload."""
    kept: dict[str, list[Row]] = {}
    for entry in json.loads(raw_payload, parse_constant=_refuse):
        blocks: dict[str, Any] = entry.pop("blocks")
        for block, found in blocks.items():
            rows: list[Row] = [found] if block in TUPLE_BLOCKS else found
            for row in rows:
                missing = {key: value for key, value in entry.items() if key not in row}
                kept.setdefault(block, []).append({**row, **missing})
    return kept


# The envelope and the frame


def test_a_slice_says_what_it_was_made_of() -> None:
    export = landed(reply(Visits((PAGE, "PC"))))
    slice_ = normalise_export(export)
    assert (slice_.business_id, slice_.day, slice_.raw_export_id) == ("acme", DAY, 7)
    assert slice_.dimension_set == "Device,URL"
    assert slice_.built_from == built_from(export.export.sha256)
    assert slice_.built_from.endswith(f":{NORMALISER_VERSION}")
    assert slice_.window_end == REQUESTED_AT
    assert slice_.window_start == REQUESTED_AT - timedelta(days=1)


@pytest.mark.parametrize("name", sorted(COMBO_OF_CAPTURED_REPLY))
def test_the_frame_of_every_captured_reply_keeps_the_contract(name: str) -> None:
    slice_ = normalise_export(captured(name))
    assert_contract(slice_)
    assert slice_.report.unknown_blocks == ()
    assert slice_.report.unknown_fields == ()
    assert slice_.report.unreadable_values == 0
    assert slice_.report.merged_tuples == 0


def test_a_reply_without_rows_is_a_slice_without_rows() -> None:
    slice_ = normalise_export(landed(body({name: [] for name in TUPLE_BLOCKS})))
    assert_contract(slice_)
    assert slice_.report.rows == slice_.report.raw_rows == 0
    assert slice_.report.missing_blocks == ()


def test_an_empty_array_is_a_slice_without_rows_that_misses_every_block() -> None:
    for combo, expected in (
        (URL_DEVICE, TUPLE_BLOCKS),
        (OVERVIEW, (*TUPLE_BLOCKS, *BREAKDOWN_BLOCKS)),
    ):
        slice_ = normalise_export(landed(b"[]", combo=combo))
        assert_contract(slice_)
        assert slice_.report.rows == 0
        assert slice_.report.missing_blocks == expected


def test_rows_carry_the_hash_of_their_stored_dimensions() -> None:
    row = only_row(reply(Visits(("https://EXAMPLE.com/page/?utm_source=x", "PC"))))
    values = {Dimension.URL: PAGE, Dimension.DEVICE: "PC"}
    assert row["dimension_hash"] == dimension_hash("Device,URL", values)


def test_a_reply_that_ignored_a_dimension_is_refused() -> None:
    with pytest.raises(DimensionIgnored):
        normalise_export(landed(reply(Visits((PAGE,)), combo=URL_ONLY), combo=URL_DEVICE))


def test_a_reply_that_is_no_array_of_blocks_is_refused() -> None:
    with pytest.raises(ReplyUnreadable):
        normalise_export(landed(b'{"error": "try later"}'))


# Counts


def test_every_field_lands_in_its_column() -> None:
    visits = Visits(
        (PAGE, "PC"),
        sessions=11,
        bots=2,
        users=9,
        pages_per_session=1.5,
        depth=41.09,
        active_seconds=34,
        dead=1,
        rage=3,
        excessive=4,
        quick_backs=5,
        script_errors=6,
        error_clicks=7,
    )
    row = only_row(reply(visits))
    assert {name: row[name] for name in METRIC_COLUMNS} == {
        "sessions": 11,
        "bot_sessions": 2,
        "distinct_users": 9,
        "pages_per_session": 1.5,
        "scroll_depth": 41.09,
        "engagement_time_ms": 34_000,
        "dead_clicks": 1,
        "rage_clicks": 3,
        "excessive_scroll": 4,
        "quick_backs": 5,
        "script_errors": 6,
        "error_clicks": 7,
    }
    assert row["url"] == PAGE
    assert row["device"] == "PC"
    assert {row[name] for name in ("country", "source", "campaign", "channel", "os")} == {None}


@pytest.mark.parametrize("missing", TUPLE_BLOCKS)
def test_a_missing_block_gives_null_not_zero(missing: str) -> None:
    visits = Visits((PAGE, "PC"), sessions=3, bots=1, depth=50, active_seconds=4, rage=1)
    blocks = nine_blocks([visits])
    whole = only_row(body(blocks))
    del blocks[missing]
    slice_ = normalise_export(landed(body(blocks)))
    (row,) = rows_of(slice_)
    columns = {
        "ScrollDepth": {"scroll_depth"},
        "EngagementTime": {"engagement_time_ms"},
        "Traffic": {"bot_sessions", "distinct_users", "pages_per_session"},
    }.get(missing) or {CLICK_BLOCK_COLUMNS[missing]}
    for column in METRIC_COLUMNS:
        assert row[column] == (None if column in columns else whole[column]), column
    assert slice_.report.missing_blocks == (missing,)


def test_a_tuple_that_a_block_leaves_out_gives_null_in_that_column_alone() -> None:
    blocks = nine_blocks([Visits((PAGE, "PC"), rage=1), Visits((PAGE, "Mobile"), rage=2)])
    del blocks["RageClickCount"][0]
    slice_ = normalise_export(landed(body(blocks)))
    assert row_at(slice_, device="PC")["rage_clicks"] is None
    assert row_at(slice_, device="PC")["dead_clicks"] == 0
    assert row_at(slice_, device="Mobile")["rage_clicks"] == 2


def test_a_tuple_without_human_sessions_keeps_its_traffic_fields_and_null_elsewhere() -> None:
    row = only_row(reply(Visits((PAGE, "PC"), bots=39, users=40, only_bots=True)))
    assert (row["sessions"], row["bot_sessions"], row["distinct_users"]) == (0, 39, 40)
    assert row["pages_per_session"] == 1
    for column in (*CLICK_BLOCK_COLUMNS.values(), "scroll_depth", "engagement_time_ms"):
        assert row[column] is None


def test_sessions_come_from_the_click_blocks_where_traffic_counts_otherwise() -> None:
    """FACTS section 3: 187/188, 103,976/103,520; never assert equality."""
    blocks = nine_blocks([Visits((PAGE, "PC"), sessions=187)])
    blocks["Traffic"][0]["totalSessionCount"] = 188
    assert only_row(body(blocks))["sessions"] == 187


def test_the_largest_of_six_session_counts_is_taken_and_null_ones_do_not_matter() -> None:
    blocks = nine_blocks([Visits((PAGE, "PC"), sessions=None)])
    blocks["Traffic"][0]["totalSessionCount"] = 99
    blocks["RageClickCount"][0]["sessionsCount"] = 4
    blocks["ErrorClickCount"][0]["sessionsCount"] = 5
    assert only_row(body(blocks))["sessions"] == 5


def test_an_absent_field_is_null_and_not_unreadable() -> None:
    blocks = nine_blocks([Visits((PAGE, "PC")), Visits((PAGE, "Mobile"), rage=2)])
    del blocks["RageClickCount"][0]["subTotal"]
    slice_ = normalise_export(landed(body(blocks)))
    assert row_at(slice_, device="PC")["rage_clicks"] is None
    assert row_at(slice_, device="Mobile")["rage_clicks"] == 2
    assert slice_.report.unreadable_values == 0


def in_style(blocks: Mapping[str, Sequence[Mapping[str, Any]]], style: str) -> bytes:
    """Counts as text, as numbers, or changing from block to block (FACTS section 2)."""
    styled: dict[str, list[Mapping[str, Any]]] = {}
    for position, (name, rows) in enumerate(blocks.items()):
        as_text = style == "strings" or (style == "mixed" and position % 2 == 0)
        styled[name] = [
            {
                key: str(value) if as_text and isinstance(value, int) else value
                for key, value in row.items()
            }
            for row in rows
        ]
    return body(styled)


@pytest.mark.parametrize("style", ["strings", "mixed"])
def test_all_number_styles_give_the_same_numbers(style: str) -> None:
    visits = [
        Visits((f"{PAGE}/{i}", "PC"), sessions=i, users=i, depth=i, active_seconds=i, rage=i)
        for i in range(1, 30)
    ]
    blocks = nine_blocks(visits)
    numbers = normalise_export(landed(body(blocks)))
    styled = normalise_export(landed(in_style(blocks, style)))
    assert styled.report.unreadable_values == 0
    assert_frame_equal(
        styled.frame.drop(columns="raw_payload"), numbers.frame.drop(columns="raw_payload")
    )


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (26, 26),
        (0, 0),
        (26.0, 26),
        ("26", 26),
        (" 26 ", 26),
        ("026", 26),
        ("26.0", 26),
        (MAX_COUNT, MAX_COUNT),
        (str(MAX_COUNT), MAX_COUNT),
    ],
)
def test_a_count_is_read_in_any_style(value: object, count: int) -> None:
    visits = Visits((PAGE, "PC"), rage=value)
    slice_ = normalise_export(landed(reply(visits)))
    assert rows_of(slice_)[0]["rage_clicks"] == count
    assert slice_.report.unreadable_values == 0


@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        -1,
        "-1",
        2.5,
        "2.5",
        "",
        " ",
        "many",
        "1e3",
        "1_000",
        "+1",
        "٣",
        "0x1",
        MAX_COUNT + 1,
        2**63,
        10**30,
        str(10**30),
        "9" * 5000,
        1e300,
        float("nan"),
        float("inf"),
        [1],
        {"n": 1},
    ],
)
@pytest.mark.parametrize("beside", [1, "1", None])
def test_an_unreadable_count_is_null_and_counted(value: object, beside: object) -> None:
    visits = [Visits((PAGE, "PC"), rage=value), Visits((PAGE, "Mobile"), rage=beside)]
    slice_ = normalise_export(landed(reply(*visits)))
    assert row_at(slice_, device="PC")["rage_clicks"] is None
    assert row_at(slice_, device="Mobile")["rage_clicks"] == (None if beside is None else 1)
    assert slice_.report.unreadable_values == 1


@pytest.mark.parametrize("value", [40.53, "40.53", " 40.53 ", 53, "53", "4.053e1"])
def test_a_ratio_is_read_in_any_style(value: object) -> None:
    row = only_row(reply(Visits((PAGE, "PC"), depth=value)))
    assert row["scroll_depth"] == pytest.approx(float(str(value)))


@pytest.mark.parametrize(
    "value",
    [True, -0.1, "-1", "", "deep", "nan", "inf", "1_0", MAX_RATIO * 2, 10**400, float("inf"), []],
)
@pytest.mark.parametrize("beside", [1, 2.5, None])
def test_an_unreadable_ratio_is_null_and_counted(value: object, beside: object) -> None:
    visits = [Visits((PAGE, "PC"), depth=value), Visits((PAGE, "Mobile"), depth=beside)]
    slice_ = normalise_export(landed(reply(*visits)))
    assert row_at(slice_, device="PC")["scroll_depth"] is None
    assert row_at(slice_, device="Mobile")["scroll_depth"] == beside
    assert slice_.report.unreadable_values == 1


def test_null_is_null_and_not_counted_as_unreadable() -> None:
    visits = Visits((PAGE, "PC"), sessions=0, pages_per_session=None)
    slice_ = normalise_export(landed(reply(visits)))
    (row,) = rows_of(slice_)
    assert row["pages_per_session"] is row["scroll_depth"] is row["engagement_time_ms"] is None
    assert slice_.report.unreadable_values == 0


def test_documented_spellings_are_read_like_the_real_ones() -> None:
    """FACTS section 12: clients that copied Microsoft's page read zeros."""
    spelling = {
        "distinctUserCount": "distantUserCount",
        "pagesPerSessionPercentage": "PagesPerSessionPercentage",
        "averageScrollDepth": "Average Scroll Depth",
    }
    names = {"DeadClickCount": "Dead Click Count", "EngagementTime": "Engagement Time"}
    visits = Visits((PAGE, "PC"), users=3, pages_per_session=2.5, depth=7, active_seconds=2, dead=9)
    blocks = nine_blocks([visits])
    documented = {
        names.get(name, name): [
            {spelling.get(key, key): value for key, value in row.items()} for row in rows
        ]
        for name, rows in blocks.items()
    }
    slice_ = normalise_export(landed(body(documented)))
    expected = normalise_export(landed(body(blocks)))
    assert_frame_equal(
        slice_.frame.drop(columns="raw_payload"), expected.frame.drop(columns="raw_payload")
    )
    assert slice_.report.unknown_blocks == slice_.report.unknown_fields == ()
    assert slice_.report.missing_blocks == ()


def test_the_real_spelling_wins_where_a_row_has_both() -> None:
    blocks = nine_blocks([Visits((PAGE, "PC")), Visits((PAGE, "Mobile"))])
    for row in blocks["Traffic"]:
        row["distantUserCount"] = 99
    del blocks["Traffic"][1]["distinctUserCount"]
    slice_ = normalise_export(landed(body(blocks)))
    assert row_at(slice_, device="PC")["distinct_users"] == 1
    assert row_at(slice_, device="Mobile")["distinct_users"] == 99


def test_unknown_blocks_and_fields_are_kept_and_reported() -> None:
    blocks = nine_blocks([Visits((PAGE, "PC"))])
    blocks["RageClickCount"][0]["affectedUsers"] = 4
    blocks["Traffic"][0]["subTotal"] = 5
    blocks["SmartEvents"] = [{"Url": PAGE, "Device": "PC", "name": "Buy"}] * 2
    slice_ = normalise_export(landed(body(blocks)))
    assert slice_.report.unknown_blocks == ("SmartEvents",)
    assert slice_.report.unknown_fields == ("RageClickCount.affectedUsers", "Traffic.subTotal")
    assert slice_.report.merged_tuples == 0
    (row,) = rows_of(slice_)
    kept = raw_rows_of(row["raw_payload"])
    assert kept["SmartEvents"] == blocks["SmartEvents"]
    assert kept["RageClickCount"][0]["affectedUsers"] == 4


def test_a_tuple_that_only_an_unknown_block_has_is_kept() -> None:
    unknown = [{"Url": PAGE, "Device": "TV", "n": 1}]
    slice_ = normalise_export(landed(body({"SmartEvents": unknown})))
    (row,) = rows_of(slice_)
    assert (row["device"], row["sessions"]) == ("TV", None)
    assert json.loads(row["raw_payload"]) == [
        {"Url": PAGE, "Device": "TV", "blocks": {"SmartEvents": [{"n": 1}]}}
    ]


def test_a_payload_reads_the_same_whatever_else_is_in_the_reply() -> None:
    """Text that no database takes, anywhere in a reply, has all its payloads made another way."""
    urls = [PAGE, f"{PAGE}?gclid=1", PAGE + '?a="},{",",b\\', f"{PAGE}?价=é", "", None]
    blocks = nine_blocks([Visits((url, "PC"), depth=33.25) for url in urls])
    blocks["ScrollDepth"][1]["averageScrollDepth"] = None
    blocks["SmartEvents"] = [{"Url": PAGE, "Device": "PC", "n": n} for n in (1, 2.5)]
    odd = {"Url": "about:odd", "Device": "PC"}
    texts = {
        more: dict(zip(found["dimension_hash"], found["raw_payload"], strict=True))
        for more in ("plain", "\0", "\ud800")
        for found in [
            normalise_export(landed(body({**blocks, "New": [{**odd, "text": more}]}))).frame.query(
                "url != 'about:odd'"
            )
        ]
    }
    assert len(texts["plain"]) == 5
    assert texts["plain"] == texts["\0"] == texts["\ud800"]


@pytest.mark.parametrize("inner", [[{}, {}], ["},{"], {"a": [{"b": 1}, {"c": 2}]}, "},{"])
def test_rows_that_look_like_the_end_of_a_row_stay_whole(inner: object) -> None:
    blocks = nine_blocks([Visits((PAGE, device)) for device in ("PC", "Mobile")])
    blocks["Traffic"][0]["inner"] = inner
    kept = normalise_export(landed(body(blocks)))
    assert raw_rows_of(row_at(kept, device="PC")["raw_payload"])["Traffic"][0]["inner"] == inner
    assert "inner" not in row_at(kept, device="Mobile")["raw_payload"]


# Tuples


@given(st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_blocks_are_joined_by_tuple_and_never_by_position(shuffle: random.Random) -> None:
    export = captured("url_3d_strings.json")
    blocks = json.loads(export.export.body)
    shuffle.shuffle(blocks)
    for block in blocks:
        shuffle.shuffle(block["information"])
    shuffled = replace(export, export=replace(export.export, body=orjson.dumps(blocks)))
    assert_frame_equal(
        normalise_export(shuffled).frame.drop(columns="raw_payload"),
        normalise_export(export).frame.drop(columns="raw_payload"),
    )


def test_null_and_the_empty_string_are_two_values() -> None:
    visits = [Visits((PAGE, None), rage=1), Visits((PAGE, ""), rage=2)]
    slice_ = normalise_export(landed(reply(*visits, combo=URL_SOURCE), combo=URL_SOURCE))
    assert row_at(slice_, source=None)["rage_clicks"] == 1
    assert row_at(slice_, source="")["rage_clicks"] == 2


def test_a_null_url_is_a_row_of_its_own() -> None:
    slice_ = normalise_export(captured("url_3d_strings.json"))
    row = row_at(slice_, url=None)
    assert (row["sessions"], row["bot_sessions"], row["rage_clicks"]) == (0, 0, None)


@pytest.mark.parametrize(
    "text", [" google ", "Google", "日本語", "org.telegram.messenger", "(not set)"]
)
def test_other_dimensions_are_kept_as_they_came(text: str) -> None:
    visits = Visits((PAGE, text))
    assert only_row(reply(visits, combo=URL_SOURCE), combo=URL_SOURCE)["source"] == text


@pytest.mark.parametrize(
    ("value", "text"), [(7, "7"), (7.5, "7.5"), (True, "true"), ([1, "a"], '[1,"a"]'), ({}, "{}")]
)
def test_a_dimension_that_is_no_text_becomes_text(value: object, text: str) -> None:
    visits = [Visits((PAGE, value)), Visits((PAGE, "beside"))]
    slice_ = normalise_export(landed(reply(*visits, combo=URL_SOURCE), combo=URL_SOURCE))
    assert sorted(slice_.frame["source"]) == sorted([text, "beside"])


def test_one_and_true_are_two_dimension_values() -> None:
    """They are equal and hash alike in Python."""
    visits = [Visits((PAGE, value)) for value in (1, True, 1.0)]
    slice_ = normalise_export(landed(reply(*visits, combo=URL_SOURCE), combo=URL_SOURCE))
    assert sorted(slice_.frame["source"]) == ["1", "1.0", "true"]


def test_three_dimensions_make_one_tuple() -> None:
    values = [(PAGE, "spring", "Email"), (PAGE, "Email", "spring"), (PAGE, "spring", "Social")]
    visits = [Visits(each, rage=i) for i, each in enumerate(values)]
    combo = URL_CAMPAIGN_CHANNEL
    slice_ = normalise_export(landed(reply(*visits, combo=combo), combo=combo))
    assert slice_.dimension_set == "Campaign,Channel,URL"
    for i, (url, campaign, channel) in enumerate(values):
        assert row_at(slice_, url=url, campaign=campaign, channel=channel)["rage_clicks"] == i


def test_characters_that_no_database_stores_are_replaced() -> None:
    visits = Visits((PAGE, "a\0b\ud800c"))
    row = only_row(reply(visits, combo=URL_SOURCE), combo=URL_SOURCE)
    assert row["source"] == "a\ufffdb\ufffdc"
    assert "\\u0000" not in row["raw_payload"]
    assert row["raw_payload"].encode()
    (entry,) = json.loads(row["raw_payload"])
    assert entry["Source"] == "a\ufffdb\ufffdc"


# Merging


def test_urls_that_differ_in_tracking_only_become_one_row() -> None:
    visits = [
        Visits(
            (f"{PAGE}?gclid=1", "PC"),
            sessions=3,
            bots=1,
            users=3,
            pages_per_session=2.0,
            depth=20.0,
            active_seconds=10,
            rage=1,
        ),
        Visits(
            (f"{PAGE}/?utm_source=x", "PC"),
            sessions=1,
            bots=0,
            users=2,
            pages_per_session=4.0,
            depth=70.0,
            active_seconds=30,
            rage=2,
        ),
    ]
    slice_ = normalise_export(landed(reply(*visits)))
    (row,) = rows_of(slice_)
    assert row["url"] == PAGE
    assert (row["sessions"], row["bot_sessions"], row["rage_clicks"]) == (4, 1, 3)
    assert row["distinct_users"] == 3
    assert row["pages_per_session"] == pytest.approx((3 * 2 + 1 * 4) / 4)
    assert row["scroll_depth"] == pytest.approx((20 * 6 + 70 * 4) / 10)
    assert row["engagement_time_ms"] == (3 * 10_000 + 1 * 30_000) / 4
    assert slice_.report.merged_tuples == 1
    assert (slice_.report.rows, slice_.report.raw_rows) == (1, 18)


def test_null_is_left_out_of_a_merge_and_all_null_stays_null() -> None:
    blocks = nine_blocks(
        [Visits((PAGE, "PC"), sessions=2, rage=1, depth=10), Visits((f"{PAGE}/", "PC"), sessions=6)]
    )
    blocks["RageClickCount"][1]["subTotal"] = None
    for row in blocks["DeadClickCount"]:
        row["subTotal"] = None
    row = only_row(body(blocks))
    assert row["rage_clicks"] == 1
    assert row["dead_clicks"] is None
    assert row["scroll_depth"] == 10
    assert row["engagement_time_ms"] is None
    assert row["sessions"] == 8


def test_depth_is_weighted_by_sessions_where_pages_are_unknown_or_zero() -> None:
    visits = [
        Visits((PAGE, "PC"), sessions=3, pages_per_session=None, depth=10),
        Visits((f"{PAGE}/", "PC"), sessions=1, pages_per_session=0, depth=50),
    ]
    assert only_row(reply(*visits))["scroll_depth"] == pytest.approx((3 * 10 + 1 * 50) / 4)


def test_values_without_any_weight_are_not_averaged() -> None:
    visits = [
        Visits((PAGE, "PC"), sessions=0, depth=10),
        Visits((f"{PAGE}/", "PC"), sessions=0, depth=50),
    ]
    assert only_row(reply(*visits))["scroll_depth"] is None


def test_one_value_without_weight_is_kept() -> None:
    visits = [Visits((PAGE, "PC"), sessions=0, depth=10.1), Visits((f"{PAGE}/", "PC"), sessions=0)]
    assert only_row(reply(*visits))["scroll_depth"] == 10.1


@pytest.mark.parametrize(("seconds", "milliseconds"), [((0, 1), 500), ((1, 2), 1500)])
def test_merged_engagement_is_in_whole_milliseconds(
    seconds: tuple[int, int], milliseconds: int
) -> None:
    visits = [
        Visits((PAGE, "PC"), active_seconds=seconds[0]),
        Visits((f"{PAGE}/", "PC"), active_seconds=seconds[1]),
    ]
    assert only_row(reply(*visits))["engagement_time_ms"] == milliseconds


@pytest.mark.parametrize(("numerator", "expected"), [(1, 0), (3, 2), (5, 2), (7, 4)])
def test_merged_engagement_is_rounded_half_to_even(numerator: int, expected: int) -> None:
    """numerator sessions of 1 s among 2,000: numerator / 2 milliseconds."""
    visits = [
        Visits((PAGE, "PC"), sessions=numerator, active_seconds=1),
        Visits((f"{PAGE}/", "PC"), sessions=2000 - numerator, active_seconds=0),
    ]
    assert only_row(reply(*visits))["engagement_time_ms"] == expected


def test_only_the_merged_rows_change_when_one_pair_collides() -> None:
    visits = [
        Visits((f"{PAGE}/{i}", "PC"), sessions=i, pages_per_session=1.1 * i, depth=0.1 * i)
        for i in range(1, 50)
    ]
    alone = normalise_export(landed(reply(*visits))).frame
    twin = Visits((f"{PAGE}/1/", "PC"), depth=3)
    merged = normalise_export(landed(reply(*visits, twin))).frame
    others = merged["url"] != f"{PAGE}/1"
    assert len(merged) == len(alone)
    assert_frame_equal(merged[others], alone[others])


_SMALL = st.one_of(st.none(), st.integers(0, 1000))
_COLLIDING = st.lists(
    st.builds(
        Visits,
        values=st.tuples(
            st.tuples(
                st.just("https://example.com/"),
                st.sampled_from("ab"),
                st.sampled_from(["", "/", "?gclid=1", "?utm_source=x", "#f", "?", "/?fbclid="]),
            ).map("".join),
            st.sampled_from(["PC", "Mobile"]),
        ),
        sessions=_SMALL,
        bots=_SMALL,
        users=_SMALL,
        pages_per_session=st.one_of(st.none(), st.floats(0, 50)),
        depth=st.one_of(st.none(), st.floats(0, 100)),
        active_seconds=_SMALL,
        rage=_SMALL,
        only_bots=st.booleans(),
    ),
    max_size=14,
    unique_by=lambda visits: visits.values,
)


@given(_COLLIDING, st.randoms(use_true_random=False))
def test_merging_does_not_depend_on_the_order_of_rows(
    visits: list[Visits], shuffle: random.Random
) -> None:
    blocks = nine_blocks(visits)
    expected = normalise_export(landed(body(blocks))).frame.drop(columns="raw_payload")
    for rows in blocks.values():
        shuffle.shuffle(rows)
    again = normalise_export(landed(body(blocks))).frame.drop(columns="raw_payload")
    assert_frame_equal(again, expected, check_exact=True)


@given(_COLLIDING)
def test_a_mean_lies_between_its_values_and_sums_add_up(visits: list[Visits]) -> None:
    unmerged = normalise_export(
        landed(
            reply(
                *(
                    replace(each, values=(f"https://example.com/{i}", each.values[1]))
                    for i, each in enumerate(visits)
                )
            )
        )
    )
    slice_ = normalise_export(landed(reply(*visits)))
    assert slice_.report.merged_tuples == len(visits) - len(slice_.frame)
    for column in ("sessions", "bot_sessions", "rage_clicks", "dead_clicks"):
        assert slice_.frame[column].sum() == unmerged.frame[column].sum()
    for row in rows_of(slice_):
        parts = [
            each
            for each in visits
            if each.values[0].startswith(row["url"]) and each.values[1] == row["device"]
        ]
        for column, values in {
            "scroll_depth": [each.depth for each in parts if not each.only_bots],
            "pages_per_session": [each.pages_per_session for each in parts],
            "engagement_time_ms": [
                each.active_seconds * 1000
                for each in parts
                if not each.only_bots and each.active_seconds is not None
            ],
        }.items():
            known = [value for value in values if value is not None]
            if row[column] is not None:
                assert min(known) <= row[column] <= max(known)
            if len(set(known)) == 1:
                assert row[column] == known[0]


def test_a_tuple_doubled_inside_a_block_is_merged_like_any_other() -> None:
    blocks = nine_blocks([Visits((PAGE, "PC"), sessions=2, rage=1, depth=10, users=4)])
    for rows in blocks.values():
        rows.append(dict(rows[0]))
    blocks["ScrollDepth"][1]["averageScrollDepth"] = 30
    slice_ = normalise_export(landed(body(blocks)))
    (row,) = rows_of(slice_)
    assert (row["sessions"], row["rage_clicks"], row["distinct_users"]) == (4, 2, 4)
    assert row["scroll_depth"] == 20
    assert slice_.report.merged_tuples == 1


def test_two_blocks_of_one_name_are_one_block() -> None:
    blocks = nine_blocks([Visits((PAGE, "PC"), rage=1), Visits((PAGE, "Mobile"), rage=2)])
    document = json.loads(body(blocks))
    rage = next(block for block in document if block["metricName"] == "RageClickCount")
    document.append(rage | {"information": [rage["information"].pop()]})
    slice_ = normalise_export(landed(json.dumps(document).encode()))
    assert_frame_equal(slice_.frame, normalise_export(landed(body(blocks))).frame)
    assert slice_.report.merged_tuples == 0


# The overview


def test_the_overview_is_one_row_without_dimensions() -> None:
    slice_ = normalise_export(captured("no_dimension_3d_numbers.json"))
    (row,) = rows_of(slice_)
    assert slice_.dimension_set == ""
    assert {row[dimension.column] for dimension in Dimension} == {None}
    assert (row["sessions"], row["bot_sessions"], row["distinct_users"]) == (304, 19, 268)
    assert row["pages_per_session"] == pytest.approx(397 / 304)
    (entry,) = json.loads(row["raw_payload"])
    assert list(entry) == ["blocks"]
    assert list(entry["blocks"]) == [*TUPLE_BLOCKS, *BREAKDOWN_BLOCKS]
    assert len(entry["blocks"]["PopularPages"]) == 10
    assert slice_.report.merged_tuples == 0


def test_the_overview_of_a_project_without_traffic_has_zeros_and_nulls() -> None:
    (row,) = rows_of(normalise_export(captured("no_dimension_3d_zero_traffic.json")))
    assert (row["sessions"], row["rage_clicks"], row["bot_sessions"]) == (0, 0, 0)
    assert row["scroll_depth"] is row["engagement_time_ms"] is row["pages_per_session"] is None


def test_an_overview_of_empty_blocks_is_still_one_row() -> None:
    blocks: dict[str, list[Row]] = {name: [] for name in TUPLE_BLOCKS}
    row = only_row(body(blocks), combo=OVERVIEW)
    assert {row[column] for column in METRIC_COLUMNS} == {None}


# Truncation


@pytest.mark.parametrize(("rows", "truncated"), [(999, False), (1000, True), (1001, False)])
def test_a_slice_is_truncated_where_a_block_has_exactly_the_cap(
    *, rows: int, truncated: bool
) -> None:
    traffic = nine_blocks(
        [Visits((f"{PAGE}/{i}",), only_bots=True) for i in range(rows)], combo=URL_ONLY
    )
    report = normalise_export(landed(body(traffic), combo=URL_ONLY)).report
    assert report.truncated is truncated
    assert report.row_counts["Traffic"] == rows
    assert report.row_counts["ScrollDepth"] == 0


# Raw payload


@pytest.mark.parametrize("name", sorted(COMBO_OF_CAPTURED_REPLY))
def test_every_raw_row_is_kept_verbatim_in_exactly_one_payload(name: str) -> None:
    export = captured(name)
    slice_ = normalise_export(export)
    kept: dict[str, list[str]] = {}
    for payload in slice_.frame["raw_payload"]:
        for block, rows in raw_rows_of(payload).items():
            kept.setdefault(block, []).extend(map(json.dumps, rows))
    came = {
        block["metricName"]: sorted(map(json.dumps, block["information"]))
        for block in json.loads(export.export.body)
        if block["information"]
    }
    assert {block: sorted(rows) for block, rows in kept.items()} == came
    assert slice_.report.raw_rows == sum(map(len, came.values()))


def test_a_payload_has_one_entry_per_raw_tuple_that_became_the_row() -> None:
    ads = (f"{PAGE}?gclid=1", f"{PAGE}?gclid=2")
    blocks = nine_blocks([Visits((url, "PC"), rage=3) for url in ads])
    blocks["Traffic"].append({"totalSessionCount": 1, "Url": ads[0], "Device": "PC"})
    (row,) = rows_of(normalise_export(landed(body(blocks))))
    first, second, repeated = json.loads(row["raw_payload"])
    assert [(each["Url"], each["Device"]) for each in (first, second)] == [
        (url, "PC") for url in ads
    ]
    for each, rows in zip((first, second), zip(*blocks.values(), strict=False), strict=True):
        names = dict(zip(blocks, rows, strict=True))
        assert each["blocks"] == {
            block: {key: value for key, value in row.items() if key not in {"Url", "Device"}}
            for block, row in names.items()
        }
    assert repeated == {
        "Url": ads[0],
        "Device": "PC",
        "blocks": {"Traffic": {"totalSessionCount": 1}},
    }


def test_a_dimension_value_that_is_no_text_stays_in_its_raw_row_as_it_came() -> None:
    blocks: dict[str, list[Row]] = {
        "Traffic": [{"totalSessionCount": 4, "Url": PAGE, "Device": 5}],
        "ScrollDepth": [{"averageScrollDepth": 50, "Url": PAGE, "Device": "5"}],
    }
    row = only_row(body(blocks))
    assert json.loads(row["raw_payload"]) == [
        {
            "Url": PAGE,
            "Device": "5",
            "blocks": {
                "Traffic": {"totalSessionCount": 4, "Device": 5},
                "ScrollDepth": {"averageScrollDepth": 50},
            },
        }
    ]
    assert raw_rows_of(row["raw_payload"]) == blocks


@pytest.mark.parametrize(
    "digits", ["88.46000000000001", "1.0458452722063036", "100", "100.0", '"26"', "null"]
)
def test_json_types_and_digits_survive_in_the_payload(digits: str) -> None:
    text = f'[{{"metricName":"Traffic","information":[{{"x":{digits},"Url":"u","Device":"d"}}]}}]'
    row = only_row(text.encode())
    assert f'{{"x":{digits}}}' in row["raw_payload"]


def test_json_that_no_database_takes_is_made_storable() -> None:
    text = (
        rb'[{"metricName":"Traffic","information":[{"x\u0000":[NaN,"\ud800\\u0000"],"Url":"u"}]}]'
    )
    row = only_row(text, combo=URL_ONLY)
    assert json.loads(row["raw_payload"], parse_constant=_refuse) == [
        {"Url": "u", "blocks": {"Traffic": {"x\ufffd": ["nan", "\ufffd\\u0000"]}}}
    ]


@pytest.mark.parametrize("depth", [10, 250, 300, 900, 1020, 100_000])
def test_a_value_nested_without_end_is_kept_or_refused_but_never_breaks_anything(
    depth: int,
) -> None:
    """How deep is too deep depends on the Python version; what happens then does not."""
    nested = "[" * depth + "]" * depth
    text = f'[{{"metricName":"Traffic","information":[{{"x":{nested},"Url":"u"}}]}}]'
    try:
        found = normalise_export(landed(text.encode(), combo=URL_ONLY))
    except ReplyUnreadable:
        assert depth > 10
    else:
        assert nested in found.frame["raw_payload"][0]


# Wild input

_JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters(codec=None), max_size=6),
        st.sampled_from(["5", PAGE, f"{PAGE}/", "PC", 5]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)
_WILD_ROW: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "Url": st.one_of(_JSON, st.sampled_from([PAGE, f"{PAGE}?gclid=1", f"{PAGE}/"])),
        "Device": st.one_of(_JSON, st.just("PC")),
    },
    optional=dict.fromkeys(
        (
            *("sessionsCount", "subTotal", "averageScrollDepth", "activeTime"),
            *("distantUserCount", "pagesPerSessionPercentage", "new"),
        ),
        _JSON,
    ),
)
_WILD_REPLY: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.fixed_dictionaries(
        {
            "metricName": st.sampled_from(
                [*TUPLE_BLOCKS, *BREAKDOWN_BLOCKS, "dead click count", "New"]
            ),
            "information": st.lists(_WILD_ROW, max_size=6),
        }
    ),
    max_size=12,
)


@given(_WILD_REPLY, st.sampled_from([URL_DEVICE, DEVICE_ONLY, OVERVIEW]))
def test_whatever_stands_in_the_fields_the_frame_keeps_the_contract(
    document: list[dict[str, Any]], combo: Any
) -> None:
    slice_ = normalise_export(landed(json.dumps(document).encode(), combo=combo))
    assert_contract(slice_)
    kept = [raw_rows_of(payload) for payload in slice_.frame["raw_payload"]]
    assert sum(len(rows) for each in kept for rows in each.values()) == slice_.report.raw_rows


def _refuse(constant: str) -> None:
    raise AssertionError(constant)


def assert_contract(slice_: NormalisedSlice) -> None:
    frame = slice_.frame
    assert tuple(frame.columns) == FRAME_COLUMNS
    assert list(frame.index) == list(range(len(frame)))
    assert slice_.report.rows == len(frame)
    for column in COUNT_COLUMNS:
        assert frame[column].dtype == pd.Int64Dtype(), column
        assert (frame[column].dropna() >= 0).all()
    for column in RATIO_COLUMNS:
        assert frame[column].dtype == pd.Float64Dtype(), column
    for column in ("dimension_hash", *(dimension.column for dimension in Dimension), "raw_payload"):
        assert frame[column].dtype == object, column
        assert {type(value) for value in frame[column]} <= {str, type(None)}
        for value in frame[column]:
            assert value is None or "\0" not in value.encode().decode()
    assert frame["dimension_hash"].is_unique
    assert frame["dimension_hash"].is_monotonic_increasing
    assert sum(slice_.report.row_counts.values()) == slice_.report.raw_rows
