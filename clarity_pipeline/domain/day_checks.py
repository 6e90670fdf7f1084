"""Whether a day's history can be trusted: each check states a truth and says where it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from clarity_pipeline.domain.collection import is_aligned
from clarity_pipeline.domain.day_history import DayHistory, DayWord, spans
from clarity_pipeline.domain.days import window_shift_hours
from clarity_pipeline.domain.dimensions import COMBO_BY_DIMENSION_SET

SliceKey = tuple[str, str]
"""(business id, dimension set)"""

MOST_FINDINGS: Final = 50
"""Rows of a table of findings; the numbers beside it are exact however many there are."""

_MISSING: Final = frozenset({DayWord.LOST, DayWord.PARTIAL})

_ABSENT: Final = frozenset({DayWord.LOST, DayWord.PENDING})


@dataclass(frozen=True, slots=True)
class DayFacts:
    """What the store knows of a day.

    `expected` are the slices that enabled businesses should have, `window_ends` those that have
    landed with the end of their 24 hours (UTC), `truncated` those that were cut, and `unknown`
    the blocks and fields per slice that the normaliser does not know.
    """

    day: date
    expected: frozenset[SliceKey]
    window_ends: Mapping[SliceKey, datetime]
    slices: int
    truncated: Mapping[SliceKey, int]
    unknown: Mapping[SliceKey, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class DayCheck:
    """The verdict of one check on one day, or on the history; `markdown` lists the findings.

    `business_ids` are those that fail it.
    """

    passed: bool
    business_ids: frozenset[str]
    sentence: str
    numbers: Mapping[str, int | float]
    markdown: str


def every_enabled_business_landed(facts: DayFacts) -> DayCheck:
    """Every business that is enabled, and was connected by then, has all its combos of the day."""
    missing = sorted(facts.expected - facts.window_ends.keys())
    businesses = {business_id for business_id, _ in facts.expected}
    incomplete = {business_id for business_id, _ in missing}
    return check_of(
        header=("business", "missing"),
        findings=[(business_id, _label(name)) for business_id, name in missing],
        fine=f"All {len(businesses)} enabled businesses have landed {facts.day}.",
        bad=f"{len(incomplete)} of {len(businesses)} enabled businesses lack parts of {facts.day}.",
        numbers={"businesses_incomplete": len(incomplete), "combos_missing": len(missing)},
    )


def window_alignment(facts: DayFacts) -> DayCheck:
    """The 24 hours behind every export of the day are the day itself, within an hour."""
    shifts = {
        key: window_shift_hours(facts.day, window_end=end) for key, end in facts.window_ends.items()
    }
    shifted = [
        (business_id, _label(name), f"{shifts[business_id, name]:+.1f} h")
        for (business_id, name), end in sorted(facts.window_ends.items())
        if not is_aligned(facts.day, window_end=end)
    ]
    most = max((abs(shift) for shift in shifts.values()), default=0.0)
    return check_of(
        header=("business", "combo", "window off by"),
        findings=shifted,
        fine=f"All {len(shifts)} windows end within an hour of the end of {facts.day}.",
        bad=f"{len(shifted)} of {len(shifts)} windows are off by up to {most:.1f} h.",
        numbers={"windows_shifted": len(shifted), "hours_off_at_most": round(most, 2)},
    )


def no_slice_truncated(facts: DayFacts) -> DayCheck:
    """No block of any slice has exactly 1,000 rows, which is where the API cuts."""
    cut = [
        (business_id, _label(name), rows)
        for (business_id, name), rows in sorted(facts.truncated.items())
    ]
    return check_of(
        header=("business", "slice", "rows"),
        findings=cut,
        fine=f"None of {facts.slices} slices was cut at 1,000 rows.",
        bad=f"{len(cut)} of {facts.slices} slices were cut at 1,000 rows: their sums are too low.",
        numbers={"slices_truncated": len(cut)},
    )


def no_unknown_blocks(facts: DayFacts) -> DayCheck:
    """Every block and field of the day's replies is one that the normaliser knows."""
    found = [
        (business_id, _label(slice_name), name)
        for (business_id, slice_name), names in sorted(facts.unknown.items())
        for name in names
    ]
    names = sorted({name for _, _, name in found})
    return check_of(
        header=("business", "slice", "unknown"),
        findings=found,
        fine="Clarity sent nothing that is not understood.",
        bad=f"Clarity sent something new: {', '.join(names)}; it is kept in raw_payload.",
        numbers={"unknown_names": len(names)},
    )


def no_day_is_missing(histories: Mapping[str, Sequence[DayHistory]], *, days: int) -> DayCheck:
    """No enabled business has lost one of its last 30 days, or a part of one."""
    found = [
        (business_id, span)
        for business_id, history in sorted(histories.items())
        for span in spans([item for item in history if item.word in _MISSING])
    ]
    missing = [
        item.word for history in histories.values() for item in history if item.word in _MISSING
    ]
    lost, partial = missing.count(DayWord.LOST), missing.count(DayWord.PARTIAL)
    affected = len({business_id for business_id, _ in found})
    return check_of(
        header=("business", "from", "to", "", "why"),
        findings=[
            (business_id, span.start, span.end, span.word.value, span.reason or "")
            for business_id, span in found
        ],
        fine=f"None of {len(histories)} enabled businesses lacks one of its last {days} days.",
        bad=(
            f"{affected} of {len(histories)} enabled businesses lack {lost} days and parts of "
            f"{partial} of the last {days}. `clarity gaps` shows them; what Clarity still answers "
            "for is fetched by `clarity sync --day`, the rest is gone."
        ),
        numbers={
            "businesses_incomplete": affected,
            "days_lost": lost,
            "days_partial": partial,
        },
    )


def latest_day_has_arrived(histories: Mapping[str, DayHistory], *, day: date) -> DayCheck:
    """Yesterday is there for every enabled business; due at 01:00 UTC."""
    absent = [
        (business_id, item.word.value, item.reason or "")
        for business_id, item in sorted(histories.items())
        if item.word in _ABSENT
    ]
    return check_of(
        header=("business", "", "why"),
        findings=absent,
        fine=f"{day} has arrived for all {len(histories)} enabled businesses.",
        bad=(
            f"{day} has not arrived for {len(absent)} of {len(histories)} enabled businesses. Run "
            f"`clarity sync --day {day}` before Clarity forgets it."
        ),
        numbers={"businesses_absent": len(absent)},
    )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A markdown table; a pipe or a line break in a cell does not break it."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def check_of(
    *,
    header: Sequence[str],
    findings: Sequence[Sequence[object]],
    fine: str,
    bad: str,
    numbers: Mapping[str, int | float],
) -> DayCheck:
    """The verdict of a check that fails for any finding; the table shows the first of them.

    A finding begins with the id of its business.
    """
    shown = markdown_table(header, findings[:MOST_FINDINGS]) if findings else "none"
    if len(findings) > MOST_FINDINGS:
        shown += f"\n\nand {len(findings) - MOST_FINDINGS} more"
    return DayCheck(
        passed=not findings,
        business_ids=frozenset(str(business_id) for business_id, *_ in findings),
        sentence=bad if findings else fine,
        numbers=numbers,
        markdown=shown,
    )


def _label(dimension_set: str) -> str:
    return COMBO_BY_DIMENSION_SET[dimension_set].label


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
