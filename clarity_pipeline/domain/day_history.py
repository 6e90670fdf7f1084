"""What became of every day of a business: complete, less than that, or gone, and why.

Every day from the business's first to yesterday has a word, and every word but `complete` has a
reason: a day that is merely absent would be taken for a day without visitors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from clarity_pipeline.domain.collection import is_aligned
from clarity_pipeline.domain.days import due_at, is_collectable, window_shift_hours
from clarity_pipeline.domain.dimensions import COMBO_BY_DIMENSION_SET, DEFAULT_COMBOS
from clarity_pipeline.domain.metrics import TRUNCATION_ROWS
from clarity_pipeline.domain.recovery import recoverable_days
from clarity_pipeline.domain.sync_jobs import JobStatus

_ALWAYS_WANTED: Final = frozenset(combo.dimension_set for combo in DEFAULT_COMBOS)

_WHAT_CAME_OF_IT: Final = {
    JobStatus.RUNNING: "Its sync never came to an end.",
    JobStatus.SKIPPED: "It was asked for when Clarity no longer answered for it.",
    JobStatus.SUCCEEDED: "It was collected, but what landed is gone.",
}
"""Why there is nothing of a day, after a sync that left no message."""


class DayWord(StrEnum):
    """How a business-day stands; see `judge_day` for which word goes before which."""

    COMPLETE = "complete"
    SHIFTED = "shifted"
    TRUNCATED = "truncated"
    DERIVED = "derived"
    PARTIAL = "partial"
    PENDING = "pending"
    LOST = "lost"
    PAUSED = "paused"
    NOT_EXPECTED = "not_expected"


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingSlice:
    """A slice of a day that is there. `window_end` is UTC; a derived one was never fetched itself.

    One that is not built has landed, but is not in `clarity_daily_metrics`.
    """

    dimension_set: str
    window_end: datetime
    truncated: bool
    is_derived: bool
    is_built: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DayAttempt:
    """The most telling sync of a day: the newest that could still have asked Clarity.

    `dimension_sets` are those it was about. `message` is None where nothing was wrong.
    """

    status: JobStatus
    dimension_sets: frozenset[str]
    message: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BusinessFacts:
    """What is known of the connection; instants are UTC.

    `first_day` is the first there can be data of, None for a business that was never connected;
    `off_since` is None unless the sync is off now, `off_reason` says why.
    """

    is_connected: bool
    connected_at: datetime
    first_day: date
    off_since: datetime | None
    off_reason: str | None


@dataclass(frozen=True, slots=True)
class DayHistory:
    """One business-day: its word, every word that applies to it, and the reason.

    `missing` are the dimension sets that are not there; `reason` is None for a complete day.
    """

    day: date
    word: DayWord
    flags: frozenset[DayWord]
    missing: tuple[str, ...]
    reason: str | None


def is_obtainable(day: date, *, now: datetime, recovery: bool) -> bool:
    """Whether Clarity can still be asked for a day: as itself, or out of longer replies."""
    return is_collectable(day, now=now) or (recovery and day in recoverable_days(now))


def judge_day(
    day: date,
    *,
    business: BusinessFacts,
    standing: Collection[StandingSlice],
    attempt: DayAttempt | None,
    left_out: bool,
    now: datetime,
    recovery: bool,
) -> DayHistory:
    """The word for a day that is over.

    `left_out` says that the schedule collected this day for others. What is missing goes before
    what is doubtful, and the most doubtful first: derived, truncated, shifted.
    """
    # The overview is wanted of the days of which it was asked for: the setting may be newer.
    wanted = _ALWAYS_WANTED if attempt is None else _ALWAYS_WANTED | attempt.dimension_sets
    absent = wanted.difference(item.dimension_set for item in standing if item.is_built)
    missing = tuple(name for name in COMBO_BY_DIMENSION_SET if name in absent)
    # What has been tried may be tried again: a token that was refused is off until a new one comes.
    is_wanted = business.off_since is None or (attempt is not None and attempt.message is not None)
    obtainable = is_obtainable(day, now=now, recovery=recovery) and is_wanted
    if not standing:
        word, reason = _word_of_nothing(
            day,
            business=business,
            attempt=attempt,
            left_out=left_out,
            obtainable=obtainable and business.is_connected,
        )
        return DayHistory(day, word, frozenset({word}), missing, reason)
    doubts = _doubts(day, standing)
    if missing:
        doubts = {DayWord.PARTIAL: _why_partial(missing, standing, attempt), **doubts}
    if not doubts:
        return DayHistory(day, DayWord.COMPLETE, frozenset({DayWord.COMPLETE}), (), None)
    flags = frozenset([*doubts, DayWord.PENDING] if missing and obtainable else doubts)
    return DayHistory(day, next(iter(doubts)), flags, missing, " ".join(doubts.values()))


def _word_of_nothing(
    day: date,
    *,
    business: BusinessFacts,
    attempt: DayAttempt | None,
    left_out: bool,
    obtainable: bool,
) -> tuple[DayWord, str]:
    message = attempt.message if attempt else None
    if day < business.first_day:
        return DayWord.NOT_EXPECTED, "It was before the business was connected."
    if obtainable:
        return DayWord.PENDING, message or "It has not been collected yet."
    if message is not None:
        return DayWord.LOST, message
    if business.off_since is not None and business.off_since < due_at(day):
        why = f" ({business.off_reason})" if business.off_reason else ""
        return DayWord.PAUSED, f"The sync was off{why}."
    if not business.is_connected:
        return DayWord.NOT_EXPECTED, "The business is not connected."
    if attempt is not None:
        return DayWord.LOST, _WHAT_CAME_OF_IT.get(attempt.status, "Its sync brought nothing.")
    if business.connected_at > due_at(day):
        return DayWord.NOT_EXPECTED, "The business was connected after the day's sync."
    if left_out:
        return DayWord.PAUSED, "The schedule collected the day without it: its sync was off."
    return DayWord.LOST, "No run was made while Clarity still answered for it."


def _doubts(day: date, standing: Collection[StandingSlice]) -> dict[DayWord, str]:
    doubts: dict[DayWord, str] = {}
    derived = [item for item in standing if item.is_derived]
    if derived:
        doubts[DayWord.DERIVED] = f"Worked out from longer replies: {_labels(derived)}."
    cut = [item for item in standing if item.truncated]
    if cut:
        doubts[DayWord.TRUNCATED] = f"Cut at {TRUNCATION_ROWS:,} rows: {_labels(cut)}."
    shifts = [
        window_shift_hours(day, window_end=item.window_end)
        for item in standing
        if not is_aligned(day, window_end=item.window_end)
    ]
    if shifts:
        doubts[DayWord.SHIFTED] = f"Its 24 hours are off by {max(shifts, key=abs):+.1f} h."
    return doubts


def _why_partial(
    missing: Sequence[str], standing: Collection[StandingSlice], attempt: DayAttempt | None
) -> str:
    unbuilt = {item.dimension_set for item in standing if not item.is_built}
    sentences: list[str] = []
    absent = [name for name in missing if name not in unbuilt]
    if absent:
        message = attempt.message if attempt else None
        sentences.append(f"Missing: {_names(absent)}. {message or 'No run asked for it.'}")
    if unbuilt:
        sentences.append(f"Landed but not normalised, so replay the day: {_names(unbuilt)}.")
    return " ".join(sentences)


def _labels(items: Collection[StandingSlice]) -> str:
    return _names({item.dimension_set for item in items})


def _names(dimension_sets: Collection[str]) -> str:
    return ", ".join(
        combo.label for name, combo in COMBO_BY_DIMENSION_SET.items() if name in dimension_sets
    )


class DayInAWord(Protocol):
    """A day and how it stands."""

    @property
    def day(self) -> date: ...
    @property
    def word(self) -> DayWord: ...
    @property
    def reason(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class DaySpan:
    """Days in a row that have the same word for the same reason."""

    start: date
    end: date
    word: DayWord
    reason: str | None


def spans(days: Sequence[DayInAWord]) -> list[DaySpan]:
    """The days, oldest first, put together where nothing changes."""
    found: list[DaySpan] = []
    for item in days:
        continues = found and found[-1].end + timedelta(days=1) == item.day
        if continues and (found[-1].word, found[-1].reason) == (item.word, item.reason):
            found[-1] = DaySpan(found[-1].start, item.day, item.word, item.reason)
        else:
            found.append(DaySpan(item.day, item.day, item.word, item.reason))
    return found


def count_words(days: Sequence[DayInAWord]) -> Mapping[DayWord, int]:
    """How many days have each word, in the order of DayWord; words without a day are left out."""
    counts = Counter(item.word for item in days)
    return {word: counts[word] for word in DayWord if counts[word]}
