"""A missed day as a longer reply less a shorter one: what is exact, what is unknown, and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clarity_pipeline.domain.derive import (
    DERIVE_VERSION,
    MOST_ENGAGEMENT_ERROR_SECONDS,
    MOST_SCROLL_ERROR_PERCENT,
    derive_slice,
    derived_from,
)
from clarity_pipeline.domain.dimensions import OVERVIEW, URL_DEVICE, DimensionCombo
from clarity_pipeline.domain.exports import Export, ExportRequest, LandedExport
from clarity_pipeline.domain.metrics import (
    CLICK_BLOCK_COLUMNS,
    METRIC_COLUMNS,
    TUPLE_BLOCKS,
)
from clarity_pipeline.domain.normalise import NORMALISER_VERSION, NormalisedSlice, normalise_export
from clarity_pipeline_tests.domain.replies import DAY, REQUESTED_AT, Visits, body, nine_blocks
from clarity_pipeline_tests.domain.test_normalise import assert_contract, rows_of

PAGE = "https://example.com/page"
AT = REQUESTED_AT + timedelta(days=1)
"""When both replies of a pair are asked for: a day after DAY should have been fetched."""

EVENTS = tuple(CLICK_BLOCK_COLUMNS.values())
ADDITIVE = ("sessions", "bot_sessions", *EVENTS)


def slice_of(
    reply_body: bytes,
    *,
    num_of_days: int,
    combo: DimensionCombo = URL_DEVICE,
    at: datetime = AT,
) -> NormalisedSlice:
    export = Export(
        request=ExportRequest(combo, num_of_days),
        http_status=200,
        requested_at=at,
        received_at=at,
        body=reply_body,
    )
    day = DAY + timedelta(days=2 - num_of_days)
    return normalise_export(LandedExport(num_of_days, "acme", "abc123", day, export))


def derived(
    longer: Sequence[Visits] | bytes,
    shorter: Sequence[Visits] | bytes,
    *,
    combo: DimensionCombo = URL_DEVICE,
    shorter_at: datetime = AT,
) -> NormalisedSlice:
    bodies = [
        each if isinstance(each, bytes) else body(nine_blocks(each, combo=combo))
        for each in (longer, shorter)
    ]
    minuend = slice_of(bodies[0], num_of_days=2, combo=combo)
    subtrahend = slice_of(bodies[1], num_of_days=1, combo=combo, at=shorter_at)
    found = derive_slice(day=DAY, minuend=minuend, subtrahend=subtrahend, built_from="both")
    assert_contract(found)
    return found


def only(slice_: NormalisedSlice) -> dict[str, Any]:
    (row,) = rows_of(slice_)
    return row


def visits(**figures: Any) -> Visits:
    return Visits((PAGE, "PC"), **figures)


def without(block: str, *each: Visits) -> bytes:
    return body({name: rows for name, rows in nine_blocks(each).items() if name != block})


# The envelope


def test_a_derived_slice_says_which_replies_and_which_hours_it_is_made_of() -> None:
    later = AT + timedelta(minutes=4)
    found = derived([visits(sessions=3)], [visits(sessions=1)], shorter_at=later)
    assert (found.business_id, found.day, found.dimension_set) == ("acme", DAY, "Device,URL")
    assert (found.raw_export_id, found.subtracted_export_id) == (2, 1)
    assert found.window_start == AT - timedelta(days=2)
    assert found.window_end == later - timedelta(days=1)
    assert found.built_from == "both"


def test_what_it_is_built_from_changes_with_either_reply_and_fits_its_column() -> None:
    one, other = "a" * 64, "b" * 64
    made = derived_from(minuend_sha256=one, subtrahend_sha256=other)
    assert made != derived_from(minuend_sha256=other, subtrahend_sha256=one)
    assert made != derived_from(minuend_sha256=one, subtrahend_sha256=one)
    assert made.endswith(f":{NORMALISER_VERSION}:{DERIVE_VERSION}")
    assert len(made) <= 96


def test_a_row_keeps_the_raw_rows_of_both_replies() -> None:
    new = Visits((f"{PAGE}/new", "PC"))
    found = derived([visits(sessions=3), new], [visits(sessions=1)])
    payloads = {row["url"]: json.loads(row["raw_payload"]) for row in rows_of(found)}
    assert payloads[PAGE]["minuend"][0]["blocks"]["DeadClickCount"]["sessionsCount"] == 3
    assert payloads[PAGE]["subtrahend"][0]["blocks"]["DeadClickCount"]["sessionsCount"] == 1
    assert payloads[f"{PAGE}/new"]["subtrahend"] is None


# What adds up


def test_events_and_sessions_are_subtracted_and_users_are_unknown() -> None:
    more = visits(
        sessions=9, bots=5, users=8, dead=7, rage=6, excessive=5, quick_backs=4, script_errors=3
    )
    less = visits(sessions=4, bots=3, users=4, dead=2, rage=6, excessive=4, quick_backs=1)
    row = only(derived([more], [less]))
    assert {name: row[name] for name in ADDITIVE} == {
        "sessions": 5,
        "bot_sessions": 2,
        "dead_clicks": 5,
        "rage_clicks": 0,
        "excessive_scroll": 1,
        "quick_backs": 3,
        "script_errors": 3,
        "error_clicks": 0,
    }
    assert row["distinct_users"] is None


def test_a_tuple_that_only_the_longer_reply_has_is_taken_as_it_is() -> None:
    more = visits(
        sessions=9, bots=5, users=8, pages_per_session=1.25, depth=40.53, active_seconds=7, rage=2
    )
    expected = only(slice_of(body(nine_blocks([more])), num_of_days=2))
    row = only(derived([more], [Visits((f"{PAGE}/other", "PC"), sessions=0, users=0)]))
    assert {name: row[name] for name in METRIC_COLUMNS} == {
        name: expected[name] for name in METRIC_COLUMNS
    }


def test_a_tuple_that_did_not_come_on_the_missed_day_is_left_out() -> None:
    same = visits(sessions=4, bots=2, dead=3)
    assert rows_of(derived([same], [same])) == []
    bots = visits(only_bots=True, bots=3)
    assert rows_of(derived([bots], [bots])) == []


def test_a_tuple_that_only_bots_saw_until_now_had_no_events_then() -> None:
    """The shorter reply lists it in Traffic alone: that is no sessions and no events, not NULL."""
    row = only(derived([visits(sessions=2, bots=3, rage=4)], [visits(only_bots=True, bots=3)]))
    assert (row["sessions"], row["bot_sessions"], row["rage_clicks"]) == (2, 0, 4)


def test_a_tuple_that_only_bots_saw_keeps_null_for_everything_else() -> None:
    row = only(derived([visits(only_bots=True, bots=7)], [visits(only_bots=True, bots=3)]))
    assert (row["sessions"], row["bot_sessions"], row["rage_clicks"]) == (0, 4, None)


def test_the_overview_is_one_row_also_when_nobody_came() -> None:
    total = Visits((), sessions=4, dead=2)
    row = only(derived([total], [total], combo=OVERVIEW))
    assert (row["sessions"], row["dead_clicks"]) == (0, 0)


def test_a_tuple_with_sessions_of_two_kinds_of_count_has_no_known_difference() -> None:
    """Traffic counts a little otherwise than the click blocks (FACTS section 3)."""
    blocks = nine_blocks([visits(sessions=100, bots=1)])
    blocks["Traffic"][0]["totalSessionCount"] = 101
    only_traffic = body({"Traffic": blocks["Traffic"]})
    row = only(derived([visits(sessions=300, bots=4)], only_traffic))
    assert (row["sessions"], row["bot_sessions"], row["rage_clicks"]) == (None, 3, None)


# What is unknown


@pytest.mark.parametrize("missing", TUPLE_BLOCKS)
@pytest.mark.parametrize("from_longer", [True, False])
def test_a_missing_block_gives_null_not_zero(missing: str, *, from_longer: bool) -> None:
    more = visits(sessions=9, users=5, depth=50, active_seconds=8, rage=3, dead=3)
    less = visits(sessions=4, users=2, depth=50, active_seconds=8, rage=1, dead=1)
    row = only(
        derived(without(missing, more), [less])
        if from_longer
        else derived([more], without(missing, less))
    )
    column = {
        "ScrollDepth": "scroll_depth",
        "EngagementTime": "engagement_time_ms",
        "Traffic": "bot_sessions",
    } | dict(CLICK_BLOCK_COLUMNS)
    assert row[column[missing]] is None
    known = set(ADDITIVE) - {column[missing]}
    assert all(row[name] is not None for name in known)


def test_an_empty_shorter_reply_says_nothing_about_anything() -> None:
    row = only(derived([visits(sessions=9, users=5, rage=3, active_seconds=4)], b"[]"))
    assert all(row[name] is None for name in set(METRIC_COLUMNS) - set(EVENTS))
    assert all(row[name] is None for name in EVENTS)


def test_a_missing_block_is_missing_whichever_reply_lacks_it() -> None:
    found = derived(without("ScrollDepth", visits()), without("Traffic", visits()))
    assert found.report.missing_blocks == ("ScrollDepth", "Traffic")


def test_a_negative_difference_is_null_and_counted_and_the_rest_stands() -> None:
    found = derived(
        [visits(sessions=9, rage=1, dead=1, quick_backs=5)],
        [visits(sessions=4, rage=3, dead=2, quick_backs=1)],
    )
    row = only(found)
    assert (row["rage_clicks"], row["dead_clicks"]) == (None, None)
    assert (row["sessions"], row["quick_backs"]) == (5, 4)
    assert found.report.negative_differences == 2


def test_a_negative_difference_keeps_a_tuple_that_nobody_came_to() -> None:
    found = derived([visits(sessions=4, rage=1)], [visits(sessions=4, rage=3)])
    assert (only(found)["sessions"], only(found)["rage_clicks"]) == (0, None)
    assert found.report.negative_differences == 1


def test_a_tuple_that_only_the_shorter_reply_has_is_unknown_and_counted() -> None:
    found = derived([], [visits(sessions=2, rage=3)])
    row = only(found)
    assert (row["url"], row["sessions"], row["rage_clicks"]) == (PAGE, None, None)
    assert found.report.negative_differences == 2
    assert json.loads(row["raw_payload"])["minuend"] is None


def test_fewer_sessions_than_before_leave_no_average() -> None:
    row = only(
        derived(
            [visits(sessions=3, depth=50, active_seconds=8)],
            [visits(sessions=4, depth=50, active_seconds=8)],
        )
    )
    assert row["sessions"] is None
    assert (row["scroll_depth"], row["engagement_time_ms"], row["pages_per_session"]) == (
        None,
        None,
        None,
    )


def test_events_without_new_sessions_are_kept_and_have_no_average() -> None:
    row = only(
        derived(
            [visits(sessions=4, rage=3, active_seconds=8)],
            [visits(sessions=4, rage=1, active_seconds=8)],
        )
    )
    assert (row["sessions"], row["rage_clicks"], row["engagement_time_ms"]) == (0, 2, None)


# Averages


def test_engagement_is_recovered_through_its_sessions() -> None:
    row = only(
        derived([visits(sessions=10, active_seconds=30)], [visits(sessions=4, active_seconds=15)])
    )
    assert row["engagement_time_ms"] == 40_000


def test_engagement_below_zero_is_zero() -> None:
    """Whole seconds are cut off, so ten sessions of 0.9 s and none of it on the day look so."""
    row = only(
        derived([visits(sessions=10, active_seconds=0)], [visits(sessions=4, active_seconds=1)])
    )
    assert row["engagement_time_ms"] == 0


@pytest.mark.parametrize(("before", "known"), [(8, True), (9, False)])
def test_engagement_is_unknown_where_the_cut_off_seconds_weigh_too_much(
    before: int, *, known: bool
) -> None:
    assert MOST_ENGAGEMENT_ERROR_SECONDS == 5
    row = only(
        derived(
            [visits(sessions=before + 2, active_seconds=30)],
            [visits(sessions=before, active_seconds=30)],
        )
    )
    assert (row["engagement_time_ms"] is not None) is known


@settings(max_examples=40, deadline=None)
@given(
    before=st.lists(st.integers(0, 5000), min_size=1, max_size=9),
    on_the_day=st.lists(st.integers(0, 5000), min_size=1, max_size=9),
)
def test_recovered_engagement_is_as_near_as_promised(
    before: list[int], on_the_day: list[int]
) -> None:
    """Seconds of each session; the day's own reply would have cut its average off too."""
    every = before + on_the_day
    row = only(
        derived(
            [visits(sessions=len(every), active_seconds=sum(every) // len(every))],
            [visits(sessions=len(before), active_seconds=sum(before) // len(before))],
        )
    )
    weight = len(every) / len(on_the_day)
    if weight > MOST_ENGAGEMENT_ERROR_SECONDS:
        assert row["engagement_time_ms"] is None
        return
    own_reply = sum(on_the_day) // len(on_the_day)
    assert abs(row["engagement_time_ms"] / 1000 - own_reply) <= weight + 0.001


def test_depth_is_recovered_through_page_views_and_pages_through_sessions() -> None:
    more = visits(sessions=10, pages_per_session=2.0, depth=40)
    less = visits(sessions=4, pages_per_session=1.25, depth=20)
    row = only(derived([more], [less]))
    assert row["scroll_depth"] == pytest.approx((20 * 40 - 5 * 20) / 15)
    assert row["pages_per_session"] == pytest.approx(15 / 6)


@pytest.mark.parametrize("bots", [(1, 0), (1, 1), (None, 0)])
def test_where_bots_may_be_in_the_ratio_neither_depth_nor_pages_are_known(
    bots: tuple[int | None, int],
) -> None:
    row = only(
        derived(
            [visits(sessions=10, bots=bots[0], pages_per_session=2, depth=40)],
            [visits(sessions=4, bots=bots[1], pages_per_session=2, depth=40)],
        )
    )
    assert (row["scroll_depth"], row["pages_per_session"]) == (None, None)


def test_a_number_of_page_views_that_is_not_whole_gives_unlabelled_sessions_away() -> None:
    row = only(
        derived(
            [visits(sessions=10, pages_per_session=25 / 11, depth=40)],
            [visits(sessions=4, pages_per_session=2, depth=40)],
        )
    )
    assert (row["scroll_depth"], row["pages_per_session"]) == (None, None)


@pytest.mark.parametrize("depth", [(70.0, 20.0), (20.0, 60.0)])
def test_a_depth_outside_of_a_page_is_unknown(depth: tuple[float, float]) -> None:
    row = only(derived([visits(sessions=10, depth=depth[0])], [visits(sessions=4, depth=depth[1])]))
    assert row["scroll_depth"] is None


@pytest.mark.parametrize(("before", "known"), [(19, True), (21, False)])
def test_depth_is_unknown_where_rounding_weighs_too_much(before: int, *, known: bool) -> None:
    assert MOST_SCROLL_ERROR_PERCENT == 0.1
    row = only(
        derived(
            [visits(sessions=before + 2, depth=40)],
            [visits(sessions=before, depth=40)],
        )
    )
    assert (row["scroll_depth"] is not None) is known


def test_averages_of_a_tuple_that_only_bots_saw_until_now_are_those_of_the_longer_reply() -> None:
    more = visits(sessions=3, bots=2, users=4, pages_per_session=1.6, depth=33, active_seconds=5)
    row = only(derived([more], [visits(only_bots=True, bots=2)]))
    assert (row["scroll_depth"], row["engagement_time_ms"]) == (33, 5000)
    assert (row["pages_per_session"], row["distinct_users"]) == (None, None)


# Truncated replies


def cut(count: int, *each: Visits) -> list[Visits]:
    """A reply at the cap of 1,000 rows, with these tuples in it."""
    return [*each, *(Visits((f"{PAGE}/filler/{n}", "PC")) for n in range(count - len(each)))]


def test_of_a_truncated_pair_only_what_both_replies_list_is_kept() -> None:
    both, new, gone = (Visits((f"{PAGE}/{name}", "PC"), sessions=5, rage=4) for name in "abc")
    found = derived(
        cut(1000, both, new),
        [
            replace(both, sessions=2, rage=1),
            replace(gone, sessions=1),
            *(Visits((f"{PAGE}/filler/{n}", "PC")) for n in range(998)),
        ],
    )
    assert found.report.truncated
    assert [(row["url"], row["sessions"], row["rage_clicks"]) for row in rows_of(found)] == [
        (f"{PAGE}/a", 3, 3)
    ]
    assert found.report.negative_differences == 0


def test_what_a_complete_shorter_reply_lacks_is_known_also_of_a_truncated_longer_one() -> None:
    new = Visits((f"{PAGE}/new", "PC"), sessions=5, rage=4, users=3)
    gone = Visits((f"{PAGE}/gone", "PC"), sessions=5)
    found = derived(cut(1000, new), [gone, visits(sessions=1)])
    rows = {row["url"]: row for row in rows_of(found)}
    assert found.report.truncated
    assert rows[f"{PAGE}/new"]["rage_clicks"] == 4
    assert rows[f"{PAGE}/new"]["distinct_users"] == 3
    assert not {f"{PAGE}/gone", PAGE} & rows.keys()


def test_a_page_of_which_one_address_may_have_been_cut_is_unknown() -> None:
    """Two addresses are one page; the shorter reply lists one, and may have cut the other."""
    first, second = (Visits((f"{PAGE}/a?gclid={n}", "PC"), sessions=5, rage=n) for n in (1, 2))
    found = derived(cut(1000, first, second), cut(1000, replace(first, sessions=1)))
    assert f"{PAGE}/a" not in {row["url"] for row in rows_of(found)}


def test_a_tuple_that_a_single_block_may_have_cut_is_unknown() -> None:
    longer, shorter = cut(1000, visits(sessions=5, rage=4)), cut(1000, visits(sessions=2))
    blocks = nine_blocks(shorter)
    blocks["RageClickCount"] = [row for row in blocks["RageClickCount"] if row["Url"] != PAGE]
    found = derived(longer, body(blocks))
    assert PAGE not in {row["url"] for row in rows_of(found)}


# Any input

_PAGES = [
    (f"{PAGE}{path}", device)
    for path in ("/a", "/a?gclid=1", "/a/", "/b", "/c?utm_source=x")
    for device in ("PC", "Mobile")
]
_DAY = st.dictionaries(
    st.sampled_from(_PAGES),
    st.fixed_dictionaries(
        {name: st.integers(0, 20) for name in ("sessions", "bots", "dead", "rage", "quick_backs")}
    ),
)


def _reply_of(days: Sequence[Mapping[tuple[str, str], Mapping[str, int]]]) -> bytes:
    """What a reply over these days says: everything of a tuple added up."""
    sums: dict[tuple[str, str], Counter[str]] = {}
    for day in days:
        for values, figures in day.items():
            human = figures if figures["sessions"] else {"bots": figures["bots"]}
            sums.setdefault(values, Counter()).update(human)
    return body(
        nine_blocks(
            [
                Visits(
                    values,
                    sessions=total["sessions"],
                    bots=total["bots"],
                    dead=total["dead"],
                    rage=total["rage"],
                    quick_backs=total["quick_backs"],
                    only_bots=not total["sessions"],
                )
                for values, total in sums.items()
            ]
        )
    )


@settings(max_examples=40, deadline=None)
@given(missed=_DAY, later=_DAY)
def test_a_longer_reply_less_a_shorter_one_is_the_day_itself(
    missed: dict[tuple[str, str], dict[str, int]], later: dict[tuple[str, str], dict[str, int]]
) -> None:
    found = derived(_reply_of([missed, later]), _reply_of([later]))
    itself = slice_of(_reply_of([missed]), num_of_days=1)

    def additive(slice_: NormalisedSlice) -> dict[str, dict[str, int]]:
        """Rows with anything in them; a tuple of bots alone has NULL events or none."""
        return {
            row["dimension_hash"]: {name: row[name] or 0 for name in ADDITIVE}
            for row in rows_of(slice_)
            if any(row[name] for name in ADDITIVE)
        }

    assert additive(found) == additive(itself)
    assert found.report.negative_differences == 0
    assert all(row["sessions"] is not None for row in rows_of(found))


_COUNT = st.one_of(st.none(), st.integers(0, 9), st.integers(0, 10**15))
_WILD_SIDE = st.tuples(
    st.lists(
        st.builds(
            Visits,
            values=st.sampled_from(_PAGES),
            sessions=_COUNT,
            bots=_COUNT,
            users=_COUNT,
            pages_per_session=st.one_of(st.none(), st.sampled_from([0, 1, 2.5, 1e12])),
            depth=st.one_of(st.none(), st.floats(0, 200)),
            active_seconds=_COUNT,
            rage=_COUNT,
            only_bots=st.booleans(),
        ),
        max_size=5,
    ),
    st.sets(st.sampled_from(TUPLE_BLOCKS)),
    st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(longer=_WILD_SIDE, shorter=_WILD_SIDE)
def test_whatever_the_two_replies_say_a_derived_frame_keeps_the_contract(
    longer: tuple[list[Visits], set[str], bool], shorter: tuple[list[Visits], set[str], bool]
) -> None:
    sides: list[NormalisedSlice] = []
    for num_of_days, (each, missing, truncated) in ((2, longer), (1, shorter)):
        blocks = {name: rows for name, rows in nine_blocks(each).items() if name not in missing}
        side = slice_of(body(blocks), num_of_days=num_of_days)
        sides.append(replace(side, report=replace(side.report, truncated=truncated)))
    found = derive_slice(day=DAY, minuend=sides[0], subtrahend=sides[1], built_from="both")
    assert_contract(found)
    for row in rows_of(found):
        assert set(json.loads(row["raw_payload"])) == {"minuend", "subtrahend"}
        assert row["scroll_depth"] is None or row["scroll_depth"] <= 200
