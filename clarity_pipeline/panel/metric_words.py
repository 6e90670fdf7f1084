"""The ten values as people read them: names, units, and which way is the good one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from clarity_pipeline.domain.metrics import AGGREGATE_METRICS
from clarity_pipeline.panel.templating import UNKNOWN, number


class Unit(Enum):
    """How a value is shown: the factor, the digits, and the words for more and less of it."""

    COUNT = (1, 0, "", "more", "fewer")
    RATE = (100, 1, "per 100 sessions", "higher", "lower")
    PERCENT = (1, 1, "% of the page", "deeper", "less deep")
    TIME = (0.001, 0, "per session", "longer", "shorter")

    def __init__(self, factor: float, digits: int, words: str, more: str, less: str) -> None:
        self.factor = factor
        self.digits = digits
        self.words = words
        self.more = more
        self.less = less


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricWords:
    """One of the ten: `more_is` is "worse" or "better", empty where neither is meant."""

    name: str
    label: str
    unit: Unit
    meaning: str
    more_is: str


_RATE: Final = "by the sessions they happened in or could have; one session can have several."

METRICS: Final[Mapping[str, MetricWords]] = {
    words.name: words
    for words in (
        MetricWords(
            name="clarity_sessions",
            label="Sessions",
            unit=Unit.COUNT,
            meaning="Visits that Clarity saw, bots left out.",
            more_is="",
        ),
        MetricWords(
            name="clarity_rage_clicks",
            label="Rage clicks",
            unit=Unit.COUNT,
            meaning="Somebody clicked or tapped the same place again and again, fast.",
            more_is="worse",
        ),
        MetricWords(
            name="clarity_rage_click_rate",
            label="Rage click rate",
            unit=Unit.RATE,
            meaning=f"Rage clicks divided {_RATE}",
            more_is="worse",
        ),
        MetricWords(
            name="clarity_dead_clicks",
            label="Dead clicks",
            unit=Unit.COUNT,
            meaning="Somebody clicked or tapped, and nothing happened.",
            more_is="worse",
        ),
        MetricWords(
            name="clarity_dead_click_rate",
            label="Dead click rate",
            unit=Unit.RATE,
            meaning=f"Dead clicks divided {_RATE}",
            more_is="worse",
        ),
        MetricWords(
            name="clarity_quick_backs",
            label="Quick backs",
            unit=Unit.COUNT,
            meaning="Somebody went to a page and came straight back.",
            more_is="worse",
        ),
        MetricWords(
            name="clarity_quick_back_rate",
            label="Quick back rate",
            unit=Unit.RATE,
            meaning=f"Quick backs divided {_RATE}",
            more_is="worse",
        ),
        MetricWords(
            name="clarity_excessive_scroll",
            label="Excessive scrolling",
            unit=Unit.COUNT,
            meaning="Somebody scrolled up and down a page more than it takes to read it.",
            more_is="worse",
        ),
        MetricWords(
            name="clarity_scroll_depth",
            label="Scroll depth",
            unit=Unit.PERCENT,
            meaning="How far down a page people get on average.",
            more_is="better",
        ),
        MetricWords(
            name="clarity_engagement_time_ms",
            label="Engagement",
            unit=Unit.TIME,
            meaning="How long somebody is active on average in a session.",
            more_is="better",
        ),
    )
}
"""In the order in which they are shown; all of AGGREGATE_METRICS."""

assert set(METRICS) == set(AGGREGATE_METRICS)


def shown(name: str, value: float | None) -> str:
    """A value without the words of its unit: "1,234", "12.3", "1 min 4 s"; a dash if unknown."""
    unit = METRICS[name].unit
    if value is None:
        return UNKNOWN
    if unit is Unit.TIME:
        seconds = round(value * unit.factor)
        minutes, rest = divmod(seconds, 60)
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return number(value * unit.factor, digits=unit.digits)


def shown_with_unit(name: str, value: float | None) -> str:
    """As `shown`, with the words of the unit behind it."""
    words = METRICS[name].unit.words
    return shown(name, value) if value is None or not words else f"{shown(name, value)} {words}"
