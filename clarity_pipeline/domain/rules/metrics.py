"""The catalogue of what is measured: the ten values of Clarity, and the numbers of ads.

The panel, the rules, their JSON Schema and the command line take names, units and words from here.

Every metric is a sum of days, or a ratio of two such sums that is divided once per window. The
sums of Clarity are those of domain.aggregates, so that a rule and a chart of the same window see
the same value. Thresholds and stored values are in `unit`; people are shown them as `display` says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, Literal

MONEY_SUMS: Final = frozenset({"spend", "revenue"})
"""The sums of ads that are in the currency of the account."""


class MetricKind(StrEnum):
    """How a metric behaves: what it is divided by, and what can be asked of it."""

    COUNT = "count"
    """A sum; it grows with the window."""
    RATE = "rate"
    """Events per chance that they had; the only kind with a confidence bound."""
    MEAN = "mean"
    """A weighted mean, such as depth per page view."""
    RATIO = "ratio"
    """One sum over another of a different nature, such as spend over clicks."""


class Origin(StrEnum):
    """Who measured it."""

    CLARITY = "clarity"
    ADS = "ads"


class Display(Enum):
    """How a value is shown: the factor, the digits, and the words for more and less of it."""

    COUNT = (1, 0, "", "more", "fewer")
    RATE = (100, 1, "per 100 sessions", "higher", "lower")
    PERCENT = (1, 1, "% of the page", "deeper", "less deep")
    TIME = (0.001, 0, "per session", "longer", "shorter")
    AMOUNT = (1, 2, "", "more", "less")
    SHARE = (100, 2, "%", "higher", "lower")
    MULTIPLE = (1, 2, "", "higher", "lower")

    def __init__(self, factor: float, digits: int, words: str, more: str, less: str) -> None:
        self.factor = factor
        self.digits = digits
        self.words = words
        self.more = more
        self.less = less


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric of the catalogue.

    `more_is` is "worse" or "better", empty where neither is meant.

    `numerator`, `denominator` and `sample` are names of daily series; `sample` is the number of
    Clarity sessions that the metric stands on. `lowest` and `highest` are the bounds of what its
    value can be, None where there is none. A whole metric is rounded after it was divided.
    """

    name: str
    title: str
    description: str
    unit: str
    display: Display
    more_is: Literal["worse", "better", ""] = ""
    kind: MetricKind
    origin: Origin
    numerator: str
    denominator: str | None = None
    sample: str | None = None
    lowest: float | None = 0.0
    highest: float | None = None
    is_whole: bool = False

    @property
    def series(self) -> tuple[str, ...]:
        """The daily series it needs, each once."""
        names = (self.numerator, self.denominator, self.sample)
        return tuple(dict.fromkeys(name for name in names if name is not None))

    @property
    def is_money(self) -> bool:
        """Whether amounts of several currencies would be added up in it."""
        return not MONEY_SUMS.isdisjoint(self.series)

    def shown(self, value: float) -> str:
        """A value without the words of its unit: "1,234", "12.3", "1 min 4 s"."""
        display = self.display
        if display is Display.TIME:
            minutes, seconds = divmod(round(value * display.factor), 60)
            return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
        return f"{value * display.factor:,.{display.digits}f}"

    def shown_with_unit(self, value: float) -> str:
        """As `shown`, with the words of the unit behind it."""
        return f"{self.shown(value)} {self.display.words}".rstrip()


def _clarity_count(
    name: str, *, title: str, description: str, more_is: Literal["worse", ""] = "worse"
) -> Metric:
    return Metric(
        name=f"clarity_{name}",
        title=title,
        description=description,
        unit="sessions" if name == "sessions" else "events",
        display=Display.COUNT,
        more_is=more_is,
        kind=MetricKind.COUNT,
        origin=Origin.CLARITY,
        numerator=name,
        sample="sessions",
    )


def _clarity_rate(name: str, *, title: str, events: str, sessions: str) -> Metric:
    what = events.replace("_", " ").capitalize()
    return Metric(
        name=f"clarity_{name}",
        title=title,
        description=(
            f"{what} divided by the sessions they happened in or could have; one session can have "
            "several."
        ),
        unit="events per session",
        display=Display.RATE,
        more_is="worse",
        kind=MetricKind.RATE,
        origin=Origin.CLARITY,
        numerator=events,
        denominator=sessions,
        sample=sessions,
    )


def _ad_count(
    name: str, *, title: str, description: str, unit: str, display: Display = Display.COUNT
) -> Metric:
    return Metric(
        name=name,
        title=title,
        description=description,
        unit=unit,
        display=display,
        kind=MetricKind.COUNT,
        origin=Origin.ADS,
        numerator=name,
        # Refunds can outweigh what was sold.
        lowest=None if name == "revenue" else 0.0,
    )


def _ad_ratio(
    name: str,
    *,
    title: str,
    of: tuple[str, str],
    unit: str,
    display: Display,
    more_is: Literal["worse", "better"],
) -> Metric:
    numerator, denominator = of
    return Metric(
        name=name,
        title=title,
        description=f"{title}: {numerator} divided by {denominator}, over the whole window.",
        unit=unit,
        display=display,
        more_is=more_is,
        kind=MetricKind.RATE if display is Display.SHARE else MetricKind.RATIO,
        origin=Origin.ADS,
        numerator=numerator,
        denominator=denominator,
        lowest=None if numerator == "revenue" else 0.0,
    )


_ALL: Final[tuple[Metric, ...]] = (
    _clarity_count(
        "sessions",
        title="Sessions",
        description="Visits that Clarity saw, bots left out.",
        more_is="",
    ),
    _clarity_count(
        "rage_clicks",
        title="Rage clicks",
        description="Somebody clicked or tapped the same place again and again, fast.",
    ),
    _clarity_rate(
        "rage_click_rate",
        title="Rage click rate",
        events="rage_clicks",
        sessions="rage_click_sessions",
    ),
    _clarity_count(
        "dead_clicks",
        title="Dead clicks",
        description="Somebody clicked or tapped, and nothing happened.",
    ),
    _clarity_rate(
        "dead_click_rate",
        title="Dead click rate",
        events="dead_clicks",
        sessions="dead_click_sessions",
    ),
    _clarity_count(
        "quick_backs",
        title="Quick backs",
        description="Somebody went to a page and came straight back.",
    ),
    _clarity_rate(
        "quick_back_rate",
        title="Quick back rate",
        events="quick_backs",
        sessions="quick_back_sessions",
    ),
    _clarity_count(
        "excessive_scroll",
        title="Excessive scrolling",
        description="Somebody scrolled up and down a page more than it takes to read it.",
    ),
    Metric(
        name="clarity_scroll_depth",
        title="Scroll depth",
        description="How far down a page people get on average.",
        unit="percent of page height",
        display=Display.PERCENT,
        more_is="better",
        kind=MetricKind.MEAN,
        origin=Origin.CLARITY,
        numerator="scroll_depth_sum",
        denominator="scroll_depth_page_views",
        sample="sessions",
        highest=100.0,
    ),
    Metric(
        name="clarity_engagement_time_ms",
        title="Engagement",
        description="How long somebody is active on average in a session.",
        unit="milliseconds per session",
        display=Display.TIME,
        more_is="better",
        kind=MetricKind.MEAN,
        origin=Origin.CLARITY,
        numerator="engagement_time_ms_sum",
        denominator="engagement_sessions",
        sample="engagement_sessions",
        is_whole=True,
    ),
    _ad_count(
        "spend",
        title="Spend",
        description="What the ads cost, in the account's currency.",
        unit="currency",
        display=Display.AMOUNT,
    ),
    _ad_count(
        "impressions",
        title="Impressions",
        description="How often the ads were shown.",
        unit="impressions",
    ),
    _ad_count(
        "clicks",
        title="Clicks",
        description="Clicks on the ads, as the ad platform counts them.",
        unit="clicks",
    ),
    # Platforms share one conversion out between several ads, so it need not be whole.
    _ad_count(
        "conversions",
        title="Conversions",
        description="What the ad platform counts as a success.",
        unit="conversions",
        display=Display.AMOUNT,
    ),
    _ad_count(
        "revenue",
        title="Revenue",
        description="What conversions were worth, in the account's currency.",
        unit="currency",
        display=Display.AMOUNT,
    ),
    _ad_ratio(
        "ctr",
        title="Click-through rate",
        of=("clicks", "impressions"),
        unit="clicks per impression",
        display=Display.SHARE,
        more_is="better",
    ),
    _ad_ratio(
        "cpc",
        title="Cost per click",
        of=("spend", "clicks"),
        unit="currency per click",
        display=Display.AMOUNT,
        more_is="worse",
    ),
    _ad_ratio(
        "cpa",
        title="Cost per conversion",
        of=("spend", "conversions"),
        unit="currency per conversion",
        display=Display.AMOUNT,
        more_is="worse",
    ),
    _ad_ratio(
        "roas",
        title="Return on ad spend",
        of=("revenue", "spend"),
        unit="revenue per unit of spend",
        display=Display.MULTIPLE,
        more_is="better",
    ),
    _ad_ratio(
        "conversion_rate",
        title="Conversion rate",
        of=("conversions", "clicks"),
        unit="conversions per click",
        display=Display.SHARE,
        more_is="better",
    ),
)

METRICS: Final[Mapping[str, Metric]] = {metric.name: metric for metric in _ALL}
"""The catalogue by name, in the order in which people are shown it."""

CLARITY_METRICS: Final[Mapping[str, Metric]] = {
    metric.name: metric for metric in _ALL if metric.origin is Origin.CLARITY
}
"""The ten of AGGREGATE_METRICS, in the same order as METRICS."""

FURTHER_SUM_PATTERN: Final = r"^ad\.[a-z][a-z0-9_]{0,39}$"
"""A sum of ads that the catalogue does not know, such as `ad.add_to_cart`. The prefix tells it from
a name that was mistyped."""

FURTHER_SUM_PREFIX: Final = "ad."

_FURTHER_SUM: Final = re.compile(FURTHER_SUM_PATTERN, re.ASCII)


def is_further_sum(name: str) -> bool:
    """Whether it names a sum of ads that the catalogue does not know."""
    return _FURTHER_SUM.fullmatch(name) is not None


def find_metric(name: str) -> Metric | None:
    """The metric of that name, a further sum of ads among them; None for an unknown one."""
    if name in METRICS:
        return METRICS[name]
    if not is_further_sum(name):
        return None
    plain_name = name.removeprefix(FURTHER_SUM_PREFIX)
    return Metric(
        name=name,
        title=plain_name.replace("_", " ").capitalize(),
        description=f"The sum of what the ads report as {plain_name}.",
        unit="units",
        display=Display.AMOUNT,
        kind=MetricKind.COUNT,
        origin=Origin.ADS,
        numerator=name,
        lowest=None,
    )
