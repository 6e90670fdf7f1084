"""The word for a business-day: what is missing first, then what is doubtful, never nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarity_pipeline.domain.day_checks import latest_day_has_arrived, no_day_is_missing
from clarity_pipeline.domain.day_history import (
    BusinessFacts,
    DayAttempt,
    DayHistory,
    DayWord,
    StandingSlice,
    count_words,
    is_obtainable,
    judge_day,
    spans,
)
from clarity_pipeline.domain.days import due_at
from clarity_pipeline.domain.dimensions import DEFAULT_COMBOS
from clarity_pipeline.domain.sync_jobs import JobStatus

DAY = date(2026, 11, 1)
ON_TIME = datetime(2026, 11, 2, 0, 15, tzinfo=UTC)
MUCH_LATER = ON_TIME + timedelta(days=20)
ACME = BusinessFacts(
    is_connected=True,
    connected_at=datetime(2026, 10, 1, 12, tzinfo=UTC),
    first_day=date(2026, 9, 30),
    off_since=None,
    off_reason=None,
)
NAMES = [combo.dimension_set for combo in DEFAULT_COMBOS]


def standing(*names: str, **changes: Any) -> list[StandingSlice]:
    whole = StandingSlice(
        dimension_set="", window_end=ON_TIME, truncated=False, is_derived=False, is_built=True
    )
    return [replace(whole, dimension_set=name, **changes) for name in names]


def attempt(
    status: JobStatus, message: str | None = None, *, also: tuple[str, ...] = ()
) -> DayAttempt:
    return DayAttempt(status=status, dimension_sets=frozenset({*NAMES, *also}), message=message)


def judge(
    slices: list[StandingSlice] | None = None,
    *,
    business: BusinessFacts = ACME,
    tried: DayAttempt | None = None,
    left_out: bool = False,
    now: datetime = MUCH_LATER,
    recovery: bool = False,
) -> DayHistory:
    return judge_day(
        DAY,
        business=business,
        standing=slices or [],
        attempt=tried,
        left_out=left_out,
        now=now,
        recovery=recovery,
    )


def test_four_good_slices_are_a_complete_day_which_needs_no_reason() -> None:
    found = judge(standing(*NAMES))
    assert (found.word, found.missing, found.reason) == (DayWord.COMPLETE, (), None)


def test_a_day_with_some_slices_is_partial_and_says_which_are_missing_and_why() -> None:
    found = judge(
        standing(*NAMES[:3]), tried=attempt(JobStatus.PARTIAL, "Clarity was not available (503).")
    )
    assert found.word is DayWord.PARTIAL
    assert found.missing == ("Campaign,Channel,URL",)
    assert found.reason == "Missing: URL + Campaign + Channel. Clarity was not available (503)."


def test_a_slice_that_landed_but_is_not_in_the_metrics_wants_a_replay() -> None:
    found = judge([*standing(*NAMES[:3]), *standing(NAMES[3], is_built=False)])
    assert found.word is DayWord.PARTIAL
    assert found.reason == "Landed but not normalised, so replay the day: URL + Campaign + Channel."


def test_the_overview_is_missing_only_from_days_of_which_it_was_asked_for() -> None:
    assert judge(standing(*NAMES), tried=attempt(JobStatus.SUCCEEDED)).word is DayWord.COMPLETE
    found = judge(standing(*NAMES), tried=attempt(JobStatus.PARTIAL, "No slot.", also=("",)))
    assert (found.word, found.missing) == (DayWord.PARTIAL, ("",))


def test_a_day_may_be_doubtful_in_several_ways_and_the_worst_is_its_word() -> None:
    late = ON_TIME + timedelta(hours=12)
    found = judge(
        [
            *standing(*NAMES[:2], window_end=late, truncated=True),
            *standing(*NAMES[2:], window_end=late),
        ]
    )
    assert found.word is DayWord.TRUNCATED
    assert found.flags == {DayWord.TRUNCATED, DayWord.SHIFTED}
    assert found.reason == (
        "Cut at 1,000 rows: URL + Device, URL + Source. Its 24 hours are off by +12.2 h."
    )
    derived = judge(standing(*NAMES, is_derived=True))
    assert derived.word is DayWord.DERIVED
    partial = judge(standing(*NAMES[:2], window_end=late))
    assert partial.word is DayWord.PARTIAL
    assert partial.flags == {DayWord.PARTIAL, DayWord.SHIFTED}


def test_a_delay_of_the_schedule_is_no_shift_and_more_than_an_hour_is() -> None:
    at = datetime(2026, 11, 2, 1, 0, tzinfo=UTC)
    assert judge(standing(*NAMES, window_end=at)).word is DayWord.COMPLETE
    late = judge(standing(*NAMES, window_end=at + timedelta(minutes=1)))
    assert late.word is DayWord.SHIFTED


def test_an_absent_day_is_pending_as_long_as_clarity_answers_for_it_and_lost_after() -> None:
    assert judge(now=ON_TIME).word is DayWord.PENDING
    assert judge(now=datetime(2026, 11, 2, 23, 59, tzinfo=UTC)).word is DayWord.PENDING
    lost = judge(now=datetime(2026, 11, 3, tzinfo=UTC))
    assert lost.word is DayWord.LOST
    assert lost.reason == "No run was made while Clarity still answered for it."


def test_recovery_keeps_a_day_within_reach_for_two_more_days() -> None:
    for later, expected in ((1, True), (2, True), (3, False)):
        now = ON_TIME + timedelta(days=later)
        assert is_obtainable(DAY, now=now, recovery=True) is expected
        assert not is_obtainable(DAY, now=now, recovery=False)
        word = judge(now=now, recovery=True).word
        assert word is (DayWord.PENDING if expected else DayWord.LOST)


def test_a_lost_day_says_what_its_sync_came_upon() -> None:
    refused = "Clarity refused the token (401)."
    found = judge(tried=attempt(JobStatus.AUTH_FAILED, refused))
    assert (found.word, found.reason) == (DayWord.LOST, refused)
    silent = judge(tried=attempt(JobStatus.RUNNING))
    assert silent.reason == "Its sync never came to an end."


def test_a_day_on_which_the_sync_was_off_is_explained_by_that() -> None:
    off = replace(ACME, off_since=datetime(2026, 10, 20, tzinfo=UTC), off_reason="by a user")
    found = judge(business=off)
    assert (found.word, found.reason) == (DayWord.PAUSED, "The sync was off (by a user).")
    assert judge(business=off, now=ON_TIME).word is DayWord.PAUSED
    later = replace(off, off_since=due_at(DAY))
    assert judge(business=later).word is DayWord.LOST
    failed_first = judge(business=off, tried=attempt(JobStatus.AUTH_FAILED, "401"))
    assert failed_first.word is DayWord.LOST


def test_a_day_whose_token_was_refused_is_not_lost_while_a_new_one_can_still_fetch_it() -> None:
    off = replace(ACME, off_since=ON_TIME, off_reason="refused")
    found = judge(business=off, tried=attempt(JobStatus.AUTH_FAILED, "401"), now=ON_TIME)
    assert (found.word, found.reason) == (DayWord.PENDING, "401")


def test_a_day_that_the_schedule_collected_for_others_was_left_out_on_purpose() -> None:
    found = judge(left_out=True)
    assert found.word is DayWord.PAUSED
    assert "its sync was off" in str(found.reason)


def test_days_before_the_connection_are_not_expected() -> None:
    new = replace(ACME, connected_at=ON_TIME + timedelta(days=3), first_day=date(2026, 11, 4))
    assert judge(business=new).word is DayWord.NOT_EXPECTED
    same_day = replace(ACME, connected_at=ON_TIME + timedelta(hours=8), first_day=DAY)
    assert judge(business=same_day, left_out=True).word is DayWord.NOT_EXPECTED
    assert judge(business=same_day, now=same_day.connected_at).word is DayWord.PENDING
    gone = replace(ACME, is_connected=False)
    assert judge(business=gone).word is DayWord.NOT_EXPECTED


@given(
    slices=st.lists(
        st.builds(
            StandingSlice,
            dimension_set=st.sampled_from([*NAMES, ""]),
            window_end=st.integers(-30, 70).map(lambda hours: ON_TIME + timedelta(hours=hours)),
            truncated=st.booleans(),
            is_derived=st.booleans(),
            is_built=st.booleans(),
        ),
        max_size=5,
        unique_by=lambda item: item.dimension_set,
    ),
    tried=st.none()
    | st.builds(
        DayAttempt,
        status=st.sampled_from(JobStatus),
        dimension_sets=st.frozensets(st.sampled_from([*NAMES, ""])),
        message=st.none() | st.just("why"),
    ),
    business=st.builds(
        BusinessFacts,
        is_connected=st.booleans(),
        connected_at=st.sampled_from([ON_TIME, ON_TIME + timedelta(days=9)]),
        first_day=st.dates(min_value=date(2026, 10, 1), max_value=date(2026, 11, 9)),
        off_since=st.none() | st.just(ON_TIME) | st.just(ON_TIME - timedelta(days=9)),
        off_reason=st.none() | st.just("off"),
    ),
    left_out=st.booleans(),
    recovery=st.booleans(),
    later=st.integers(0, 6),
)
def test_every_day_has_a_word_and_every_word_but_complete_a_reason(
    slices: list[StandingSlice],
    tried: DayAttempt | None,
    business: BusinessFacts,
    left_out: bool,
    recovery: bool,
    later: int,
) -> None:
    found = judge(
        slices,
        business=business,
        tried=tried,
        left_out=left_out,
        recovery=recovery,
        now=ON_TIME + timedelta(days=later),
    )
    assert found.word in found.flags
    assert (found.word is DayWord.COMPLETE) is (found.reason is None)
    assert found.word is not DayWord.COMPLETE or not found.missing
    if slices:
        assert found.word not in {DayWord.LOST, DayWord.PENDING, DayWord.NOT_EXPECTED}


def day(offset: int, word: DayWord, reason: str | None = None) -> DayHistory:
    return DayHistory(DAY + timedelta(days=offset), word, frozenset({word}), (), reason)


def test_days_in_a_row_with_one_word_and_reason_are_one_span() -> None:
    days = [
        day(0, DayWord.LOST, "a"),
        day(1, DayWord.LOST, "a"),
        day(2, DayWord.LOST, "b"),
        day(4, DayWord.LOST, "b"),
    ]
    assert [(span.start.day, span.end.day, span.reason) for span in spans(days)] == [
        (1, 2, "a"),
        (3, 3, "b"),
        (5, 5, "b"),
    ]
    assert count_words(days) == {DayWord.LOST: 4}


def test_the_standing_signal_counts_exactly_and_shows_a_sample() -> None:
    histories = {
        f"business-{number:03d}": [day(0, DayWord.LOST, "x"), day(1, DayWord.COMPLETE)]
        for number in range(60)
    } | {"part": [day(1, DayWord.PARTIAL, "y")], "fine": [day(1, DayWord.PAUSED, "z")]}
    found = no_day_is_missing(histories, days=30)
    assert not found.passed
    assert found.numbers == {"businesses_incomplete": 61, "days_lost": 60, "days_partial": 1}
    assert found.markdown.count("business-") == 50
    assert "and 11 more" in found.markdown
    assert "clarity gaps" in found.sentence
    assert no_day_is_missing({"fine": histories["fine"]}, days=30).passed


@pytest.mark.parametrize(
    ("word", "arrived"),
    [
        (DayWord.COMPLETE, True),
        (DayWord.PARTIAL, True),
        (DayWord.SHIFTED, True),
        (DayWord.PENDING, False),
        (DayWord.LOST, False),
    ],
)
def test_yesterday_has_arrived_when_anything_of_it_is_there(word: DayWord, arrived: bool) -> None:
    found = latest_day_has_arrived({"acme": day(0, word, "r")}, day=DAY)
    assert found.passed is arrived
