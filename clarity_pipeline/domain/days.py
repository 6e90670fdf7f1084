"""What a day is: partition `D` is the UTC day the data are about, and it is fetched on `D+1`.

The API answers "the last 24 hours from now" (FACTS section 8), so a day can be fetched on
exactly one UTC day; before that it is not over, after that the answer is another day's.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from clarity_pipeline.domain.errors import InvalidDay, NoLongerCollectable

SCHEDULED_AT: Final = time(0, 15, tzinfo=UTC)
"""When the schedule collects yesterday: the 24 h window is then the UTC day that just ended, and
late sessions are in."""

DUE_AFTER_MIDNIGHT: Final = timedelta(hours=1)
"""The schedule runs at 00:15 UTC; a day that is not in by 01:00 is late."""


def day_collected_at(now: datetime) -> date:
    """The day that a call at this instant is about: yesterday, in UTC."""
    return now.astimezone(UTC).date() - timedelta(days=1)


def next_scheduled_at(now: datetime) -> datetime:
    """When the schedule runs next (UTC); a run that is due at this very moment is not the next."""
    today = datetime.combine(now.astimezone(UTC).date(), SCHEDULED_AT)
    return today if now < today else today + timedelta(days=1)


def is_collectable(day: date, *, now: datetime, num_of_days: int = 1) -> bool:
    """Whether a call made now would be stored under this day: the oldest that it reaches."""
    return day == day_collected_at(now) - timedelta(days=num_of_days - 1)


def due_at(day: date) -> datetime:
    """When a day that has not arrived is late (UTC)."""
    return datetime.combine(day + timedelta(days=1), time.min, tzinfo=UTC) + DUE_AFTER_MIDNIGHT


def check_is_collectable(day: date, *, now: datetime, num_of_days: int = 1) -> None:
    """Raises NoLongerCollectable where a call made now would be about another day.

    Asked again just before every call: a run that was planned before midnight may still be at it.
    """
    if not is_collectable(day, now=now, num_of_days=num_of_days):
        raise NoLongerCollectable(day)


def parse_day(text: str) -> date:
    """Read `YYYY-MM-DD`. Raises InvalidDay."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidDay(f"{text!r} is not a day; write it as YYYY-MM-DD.") from None


def check_day_is_over(day: date, *, now: datetime) -> None:
    """Raises InvalidDay for today and the future, of which there can be no data yet."""
    latest = day_collected_at(now)
    if day > latest:
        raise InvalidDay(f"{day} is not over yet (UTC); the latest day there can be is {latest}.")


def days_between(start: date, end: date) -> list[date]:
    """Every day from start to end, both included. Raises InvalidDay when start is after end."""
    if start > end:
        raise InvalidDay(f"The window starts on {start}, after its end on {end}; swap them.")
    return [start + timedelta(days=offset) for offset in range((end - start).days + 1)]


def week_of(day: date) -> date:
    """The Monday with which the week of a day begins."""
    return day - timedelta(days=day.weekday())


def days_of_week(monday: date) -> list[date]:
    """The seven days of the week that begins with this Monday."""
    return days_between(monday, monday + timedelta(days=6))


def end_of(day: date) -> datetime:
    """The instant at which a UTC day is over."""
    return datetime.combine(day + timedelta(days=1), time.min, tzinfo=UTC)


def window_shift_hours(day: date, *, window_end: datetime) -> float:
    """By how many hours a 24 h window ends after its day did; negative when it ended before."""
    return (window_end - end_of(day)) / timedelta(hours=1)
