"""A row of values as a small line with gaps, for an inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

_EDGE: Final = 3.0
"""Space around the line, so that its ends and peaks are not cut."""


@dataclass(frozen=True, slots=True)
class Sparkline:
    """What to draw, in units of the picture.

    `paths` are the stretches with values, as `points` of polylines; a day alone between gaps is a
    dot. `gaps` are the stretches without: left edge and width.
    """

    width: int
    height: int
    paths: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]
    gaps: tuple[tuple[float, float], ...]


def sparkline(
    values: Sequence[float | None], *, width: int = 104, height: int = 28
) -> Sparkline | None:
    """From 0 at the bottom to the largest value at the top; None where there is no value at all.

    A gap is no line: a line through it would say that there had been values.
    """
    known = [value for value in values if value is not None]
    if not known:
        return None
    top = max(known) or 1.0
    step = (width - 2 * _EDGE) / max(1, len(values) - 1)

    def point(index: int, value: float) -> tuple[float, float]:
        y = height - _EDGE - (height - 2 * _EDGE) * value / top
        return round(_EDGE + index * step, 1), round(y, 1)

    paths: list[str] = []
    dots: list[tuple[float, float]] = []
    gaps: list[tuple[float, float]] = []
    for is_gap, stretch in groupby(enumerate(values), key=lambda item: item[1] is None):
        items = list(stretch)
        first, last = items[0][0], items[-1][0]
        if is_gap:
            left = max(0.0, _EDGE + (first - 0.5) * step)
            right = min(float(width), _EDGE + (last + 0.5) * step)
            gaps.append((round(left, 1), round(right - left, 1)))
            continue
        points = [point(index, value) for index, value in items if value is not None]
        if len(points) == 1:
            dots.append(points[0])
        else:
            paths.append(" ".join(f"{x},{y}" for x, y in points))
    return Sparkline(width, height, tuple(paths), tuple(dots), tuple(gaps))
