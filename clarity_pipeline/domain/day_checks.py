"""Whether a day's history can be trusted: each check states a truth and says where it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from clarity_pipeline.domain.collection import is_aligned
from clarity_pipeline.domain.days import window_shift_hours
from clarity_pipeline.domain.dimensions import COMBO_BY_DIMENSION_SET

SliceKey = tuple[str, str]
"""(business id, dimension set)"""


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
    """The verdict of one check on one day; `markdown` lists the findings."""

    passed: bool
    sentence: str
    numbers: Mapping[str, int | float]
    markdown: str


def every_enabled_business_landed(facts: DayFacts) -> DayCheck:
    """Every business that is enabled, and was connected by then, has all its combos of the day."""
    missing = sorted(facts.expected - facts.window_ends.keys())
    businesses = {business_id for business_id, _ in facts.expected}
    incomplete = {business_id for business_id, _ in missing}
    return _check(
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
    return _check(
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
    return _check(
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
    return _check(
        header=("business", "slice", "unknown"),
        findings=found,
        fine="Clarity sent nothing that is not understood.",
        bad=f"Clarity sent something new: {', '.join(names)}; it is kept in raw_payload.",
        numbers={"unknown_names": len(names)},
    )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A markdown table; a pipe or a line break in a cell does not break it."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def _check(
    *,
    header: Sequence[str],
    findings: Sequence[Sequence[object]],
    fine: str,
    bad: str,
    numbers: Mapping[str, int | float],
) -> DayCheck:
    return DayCheck(
        passed=not findings,
        sentence=bad if findings else fine,
        numbers=numbers,
        markdown=markdown_table(header, findings) if findings else "none",
    )


def _label(dimension_set: str) -> str:
    return COMBO_BY_DIMENSION_SET[dimension_set].label


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
