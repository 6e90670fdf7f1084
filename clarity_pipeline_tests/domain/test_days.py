from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from clarity_pipeline.domain.days import (
    check_day_is_over,
    day_collected_at,
    days_between,
    is_collectable,
    next_scheduled_at,
    parse_day,
    window_shift_hours,
)
from clarity_pipeline.domain.errors import InvalidDay

DAY = date(2026, 11, 22)


@pytest.mark.parametrize(
    ("now", "collectable"),
    [
        (datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC), False),
        (datetime(2026, 11, 23, 0, 0, tzinfo=UTC), True),
        (datetime(2026, 11, 23, 23, 59, 59, tzinfo=UTC), True),
        (datetime(2026, 11, 24, 0, 0, tzinfo=UTC), False),
        (datetime(2026, 11, 24, 1, 0, tzinfo=timezone(timedelta(hours=2))), True),
    ],
)
def test_a_day_can_be_fetched_on_the_utc_day_after_it_and_no_other(
    now: datetime, collectable: bool
) -> None:
    assert is_collectable(DAY, now=now) is collectable


def test_a_call_is_about_the_utc_day_that_has_just_ended() -> None:
    assert day_collected_at(datetime(2026, 3, 1, 0, 15, tzinfo=UTC)) == date(2026, 2, 28)


def test_today_and_the_future_are_refused_and_the_latest_possible_day_is_named() -> None:
    now = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    check_day_is_over(DAY, now=now)
    with pytest.raises(InvalidDay, match="the latest day there can be is 2026-11-22"):
        check_day_is_over(date(2026, 11, 23), now=now)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "22.11.2026", "2026-11-22T00:00"])
def test_what_is_no_day_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(InvalidDay, match="YYYY-MM-DD"):
        parse_day(text)


def test_a_window_holds_both_its_ends() -> None:
    assert days_between(DAY, DAY) == [DAY]
    assert len(days_between(date(2026, 2, 27), date(2026, 3, 1))) == 3


def test_a_window_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(InvalidDay, match="swap"):
        days_between(DAY, DAY - timedelta(days=1))


def test_the_shift_of_a_window_is_counted_from_the_midnight_that_ends_its_day() -> None:
    at = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)
    assert window_shift_hours(DAY, window_end=at) == 12.5
    assert window_shift_hours(DAY, window_end=at - timedelta(hours=13)) == -0.5


@pytest.mark.parametrize(
    ("now", "next_run"),
    [
        (datetime(2026, 11, 2, 0, 14, 59, tzinfo=UTC), datetime(2026, 11, 2, 0, 15, tzinfo=UTC)),
        (datetime(2026, 11, 2, 0, 15, tzinfo=UTC), datetime(2026, 11, 3, 0, 15, tzinfo=UTC)),
        (datetime(2026, 12, 31, 23, 59, tzinfo=UTC), datetime(2027, 1, 1, 0, 15, tzinfo=UTC)),
        (
            datetime(2026, 11, 2, 2, 0, tzinfo=timezone(timedelta(hours=2))),
            datetime(2026, 11, 2, 0, 15, tzinfo=UTC),
        ),
    ],
)
def test_the_next_run_is_the_next_quarter_past_midnight_utc(
    now: datetime, next_run: datetime
) -> None:
    assert next_scheduled_at(now) == next_run
