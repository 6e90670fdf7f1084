"""Whether the four slices of a business-day tell the same story.

Every event happened on one URL, one device, in one country...: however a day is split, its events
add up to the same total. Sessions and users do not, they are counted once per tuple.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from clarity_pipeline.domain.day_checks import DayCheck, SliceKey, check_of
from clarity_pipeline.domain.dimensions import COMBO_BY_DIMENSION_SET

SAME_WINDOW_WITHIN: Final = timedelta(minutes=5)
"""Slices whose windows end further apart than this are about different hours."""

TOLERATED_SHARE: Final = 0.01
"""How far totals of different moments may be apart, and one event always: sessions that end late
come in between two calls. Totals of one and the same moment must be equal."""


@dataclass(frozen=True, slots=True)
class SliceTotals:
    """A slice's events by column of `clarity_daily_metrics`; None where it says nothing of them.

    `why_not` says in a few words why its totals are not those of the day, if they are not.
    """

    window_end: datetime
    events: Mapping[str, int | None]
    why_not: str | None


def slices_agree(day: date, totals: Mapping[SliceKey, SliceTotals]) -> DayCheck:
    """The events of a business-day add up to the same whichever way they are split.

    Slices that were cut, derived or read in part are left out, and a business whose windows are
    minutes apart; a block that is missing is unknown and disagrees with nothing.
    """
    by_business: dict[str, dict[str, SliceTotals]] = {}
    for (business_id, dimension_set), slice_totals in sorted(totals.items()):
        by_business.setdefault(business_id, {})[dimension_set] = slice_totals
    findings: list[tuple[str, ...]] = []
    left_out: list[str] = []
    compared = largest = 0
    for business_id, slices in by_business.items():
        fit = {name: item for name, item in slices.items() if item.why_not is None}
        why_not = _why_incomparable(slices, fit)
        if why_not is not None:
            left_out.append(f"{business_id}: {why_not}")
            continue
        compared += 1
        difference, found = _compare(business_id, fit)
        largest = max(largest, difference)
        findings += found
    disagreeing = len({business_id for business_id, *_ in findings})
    aside = f" Not compared: {'; '.join(left_out[:3])}." if left_out else ""
    if len(left_out) > 3:
        aside = f" {len(left_out)} businesses were not compared, the first: {left_out[0]}."
    return check_of(
        header=("business", "events", "totals"),
        findings=findings,
        fine=f"The slices of {compared} businesses agree on the events of {day}.{aside}",
        bad=(
            f"The slices of {disagreeing} of {compared} businesses disagree on the events of "
            f"{day}, by up to {largest:,}: one of them is not complete.{aside}"
        ),
        numbers={
            "businesses_compared": compared,
            "businesses_not_compared": len(left_out),
            "businesses_disagreeing": disagreeing,
            "largest_difference": largest,
        },
    )


def _why_incomparable(
    slices: Mapping[str, SliceTotals], fit: Mapping[str, SliceTotals]
) -> str | None:
    if len(fit) < 2:
        reasons = sorted({item.why_not for item in slices.values() if item.why_not is not None})
        return ", ".join(reasons) or "only one slice is there"
    ends = [item.window_end for item in fit.values()]
    if max(ends) - min(ends) > SAME_WINDOW_WITHIN:
        return f"windows end {max(ends) - min(ends)} apart"
    return None


def _compare(
    business_id: str, slices: Mapping[str, SliceTotals]
) -> tuple[int, Sequence[tuple[str, ...]]]:
    """The largest difference there is, and those that are more than calls seconds apart explain."""
    is_one_moment = len({item.window_end for item in slices.values()}) == 1
    largest = 0
    found: list[tuple[str, ...]] = []
    for column in next(iter(slices.values())).events:
        known = {
            name: total
            for name, item in slices.items()
            if (total := item.events[column]) is not None
        }
        if len(known) < 2:
            continue
        most = max(known.values())
        difference = most - min(known.values())
        largest = max(largest, difference)
        tolerated = 0 if is_one_moment else max(1, int(most * TOLERATED_SHARE))
        if difference > tolerated:
            totals = ", ".join(
                f"{COMBO_BY_DIMENSION_SET[name].label} {total:,}" for name, total in known.items()
            )
            found.append((business_id, column, totals))
    return largest, found
