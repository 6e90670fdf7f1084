"""Requests, the envelope, and the judgement over a whole reply."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarity_pipeline.domain.dimensions import (
    OVERVIEW,
    URL_CAMPAIGN_CHANNEL,
    URL_COUNTRY,
    URL_DEVICE,
)
from clarity_pipeline.domain.errors import (
    DimensionIgnored,
    InvalidRequest,
    ReplyUnreadable,
    RequestRejected,
)
from clarity_pipeline.domain.exports import (
    Export,
    ExportRequest,
    count_rows,
    parse_blocks,
    verify,
    verify_reply,
)
from clarity_pipeline.domain.metrics import TUPLE_BLOCKS
from clarity_pipeline_tests.domain.replies import (
    COMBO_OF_CAPTURED_REPLY,
    REQUESTED_AT,
    URL_ONLY,
    Row,
    Visits,
    body,
    captured,
    export_of,
    nine_blocks,
    reply,
)

PAGE = "https://example.com/"


def test_dimensions_are_sent_in_the_order_of_the_combo() -> None:
    assert list(ExportRequest(URL_CAMPAIGN_CHANNEL, num_of_days=2).query().items()) == [
        ("numOfDays", "2"),
        ("dimension1", "URL"),
        ("dimension2", "Campaign"),
        ("dimension3", "Channel"),
    ]
    assert ExportRequest(OVERVIEW).query() == {"numOfDays": "1"}
    assert ExportRequest(URL_COUNTRY).query()["dimension2"] == "Country"


@pytest.mark.parametrize("num_of_days", [-1, 0, 4, 30])
def test_other_than_one_to_three_days_is_refused_before_it_costs_a_call(num_of_days: int) -> None:
    with pytest.raises(InvalidRequest, match="1 to 3 days"):
        ExportRequest(OVERVIEW, num_of_days=num_of_days)


@pytest.mark.parametrize("num_of_days", [1, 2, 3])
def test_the_window_is_the_hours_before_the_call(num_of_days: int) -> None:
    export = Export(
        request=ExportRequest(OVERVIEW, num_of_days=num_of_days),
        http_status=200,
        requested_at=REQUESTED_AT,
        received_at=REQUESTED_AT + timedelta(seconds=3),
        body=b"[]",
    )
    assert export.window_end == REQUESTED_AT
    assert export.window_end - export.window_start == timedelta(hours=24 * num_of_days)


def test_an_export_is_identified_by_its_bytes_and_does_not_print_them() -> None:
    export = export_of(b"[ ]")
    assert export.sha256 == hashlib.sha256(b"[ ]").hexdigest()
    assert "[ ]" not in repr(export)


@pytest.mark.parametrize("name", sorted(COMBO_OF_CAPTURED_REPLY))
def test_captured_replies_are_accepted(name: str) -> None:
    export = captured(name).export
    summary = verify(export)
    assert summary.unknown_blocks == ()
    assert summary.truncated is False
    document = json.loads(export.body)
    assert summary.row_counts == {
        block["metricName"]: len(block["information"]) for block in document
    }


@pytest.mark.parametrize(
    "reply_body",
    [
        b"",
        b" \n",
        b"\xef\xbb\xbf",
        b"<html>Service unavailable</html>",
        b'[{"metricName": "Traffic", "information": [',
        b'"Exceeded daily limit"',
        b"null",
        b"true",
        b"17",
        b'{"error": {"code": 500}}',
        b"[1]",
        b'["Traffic"]',
        b"[null]",
        b"[{}]",
        b'[{"metricName": "Traffic"}]',
        b'[{"information": []}]',
        b'[{"metricName": null, "information": []}]',
        b'[{"metricName": "Traffic", "information": null}]',
        b'[{"metricName": "Traffic", "information": {}}]',
        b'[{"metricName": "Traffic", "information": [1]}]',
        b'[{"metricName": "Traffic", "information": [null]}]',
        b"\xff\xfe[\x00]\x00\x00",
        b"\x80",
        b"[" * 100_000,
    ],
)
def test_what_is_no_array_of_blocks_is_unreadable(reply_body: bytes) -> None:
    with pytest.raises(ReplyUnreadable) as caught:
        verify(export_of(reply_body))
    assert str(caught.value).endswith(".")


def test_a_byte_order_mark_does_no_harm() -> None:
    assert parse_blocks(b"\xef\xbb\xbf[]") == []


def test_numbers_and_characters_outside_the_standard_are_read() -> None:
    text = rb'[{"metricName":"New","information":[{"a":NaN,"b":"\ud800","c":1e999}]}]'
    (block,) = parse_blocks(text)
    assert block.rows[0]["b"] == "\ud800"
    assert block.rows[0]["c"] == float("inf")


def test_documented_block_names_are_made_canonical_and_unknown_ones_kept() -> None:
    blocks = parse_blocks(body({"Dead Click Count": [], "Smart Events": []}))
    assert [block.name for block in blocks] == ["DeadClickCount", "Smart Events"]
    assert count_rows(blocks).unknown_blocks == ("Smart Events",)


def test_unknown_blocks_are_named_once_each_and_sorted() -> None:
    summary = verify(export_of(body({"Zeta": [], "Alpha": [], "Traffic": []}), combo=OVERVIEW))
    assert summary.unknown_blocks == ("Alpha", "Zeta")


def test_missing_and_reordered_blocks_are_accepted() -> None:
    blocks = nine_blocks([Visits((PAGE, "PC"))])
    del blocks["Traffic"]
    turned = dict(reversed(blocks.items()))
    assert verify(export_of(body(turned))).row_counts == dict.fromkeys(turned, 1)


def test_a_reply_that_answers_another_question_is_refused() -> None:
    """A dropped dimension comes back as an ordinary 200 (FACTS section 1)."""
    with pytest.raises(DimensionIgnored, match="Device"):
        verify(export_of(reply(Visits((PAGE,)), combo=URL_ONLY), combo=URL_DEVICE))
    with pytest.raises(DimensionIgnored, match="Url"):
        verify(export_of(reply(Visits(()), combo=OVERVIEW), combo=URL_DEVICE))


def test_one_row_without_a_requested_key_is_enough_to_refuse() -> None:
    blocks = nine_blocks([Visits((PAGE, "PC")), Visits((PAGE, "Mobile"))])
    del blocks["EngagementTime"][1]["Device"]
    with pytest.raises(DimensionIgnored, match="Device"):
        verify(export_of(body(blocks)))


def test_a_null_dimension_is_an_answer() -> None:
    assert verify(export_of(reply(Visits((None, "PC")))))


def test_empty_blocks_answer_every_question() -> None:
    assert verify(export_of(body({name: [] for name in TUPLE_BLOCKS}))).truncated is False


@pytest.mark.parametrize(
    ("rows", "truncated"), [(0, False), (999, False), (1000, True), (1001, False)]
)
def test_exactly_a_thousand_rows_in_any_block_is_a_cut(*, rows: int, truncated: bool) -> None:
    blocks: dict[str, list[Row]] = {"ScrollDepth": [{}], "PopularPages": [{}] * rows}
    assert verify(export_of(body(blocks), combo=OVERVIEW)).truncated is truncated


def test_a_reply_with_another_status_is_rejected_whatever_its_body() -> None:
    export = Export(
        request=ExportRequest(OVERVIEW),
        http_status=400,
        requested_at=REQUESTED_AT,
        received_at=REQUESTED_AT,
        body=b"[]",
    )
    with pytest.raises(RequestRejected) as caught:
        verify_reply(export)
    assert caught.value.http_status == 400
    assert verify_reply(export_of(b"[]")) == verify(export_of(b"[]"))


_JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters(codec=None), max_size=5),
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["metricName", "information", "Url", "Device", "x"]), inner
        )
    ),
    max_leaves=20,
)
_BLOCK_LIKE = st.fixed_dictionaries(
    {},
    optional={
        "metricName": st.one_of(st.sampled_from(TUPLE_BLOCKS), _JSON),
        "information": st.one_of(
            st.lists(st.dictionaries(st.sampled_from(["Url", "Device"]), _JSON), max_size=3), _JSON
        ),
    },
)


@given(st.one_of(st.lists(_BLOCK_LIKE, max_size=4), _JSON))
def test_any_json_is_accepted_or_refused_with_our_errors(document: Any) -> None:
    judge(json.dumps(document).encode())


@given(st.binary(max_size=60))
def test_any_bytes_are_accepted_or_refused_with_our_errors(reply_body: bytes) -> None:
    judge(reply_body)


@given(st.data())
def test_a_damaged_reply_is_accepted_only_where_all_of_it_can_be_read(data: st.DataObject) -> None:
    whole = reply(Visits((PAGE, "PC")), combo=URL_DEVICE)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(start + 5, len(whole))))
    junk = st.binary(max_size=3) | st.sampled_from([b"\xff", b"\xed\xa0\x80", rb"\ud800", rb"\x"])
    judge(whole[:start] + data.draw(junk) + whole[end:])


@pytest.mark.parametrize("junk", [b"\xff", b"\xc0\x80", rb"\x", b"\n", b"\x00"])
def test_junk_in_a_value_that_nobody_asked_for_is_unreadable(junk: bytes) -> None:
    whole = body({"Traffic": [{"Url": PAGE, "Device": "PC", "other": "JUNK"}]})
    assert verify(export_of(whole)).row_counts == {"Traffic": 1}
    with pytest.raises(ReplyUnreadable):
        verify(export_of(whole.replace(b"JUNK", junk)))


def judge(reply_body: bytes) -> None:
    """What is accepted can be read, and is what was said of it."""
    try:
        summary = verify(export_of(reply_body))
    except (ReplyUnreadable, DimensionIgnored):
        return
    assert summary == count_rows(parse_blocks(reply_body))
