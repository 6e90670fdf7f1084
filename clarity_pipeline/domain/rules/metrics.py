"""What a rule can measure: the ten values of Clarity, and the numbers of ads.

Every metric is a sum of days, or a ratio of two such sums that is divided once per window. The
sums of Clarity are those of domain.aggregates, so that a rule and a chart of the same window see
the same value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric of the catalogue.

    `numerator`, `denominator` and `sample` are names of daily series; `sample` is the number of
    Clarity sessions that the metric stands on. `lowest` and `highest` are the bounds of what its
    value can be, None where there is none. A whole metric is rounded after it was divided.
    """

    name: str
    title: str
    description: str
    unit: str
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


def _clarity_count(name: str, *, title: str, description: str) -> Metric:
    return Metric(
        name=f"clarity_{name}",
        title=title,
        description=description,
        unit="sessions" if name == "sessions" else "events",
        kind=MetricKind.COUNT,
        origin=Origin.CLARITY,
        numerator=name,
        sample="sessions",
    )


def _clarity_rate(events: str, *, sessions: str, name: str, title: str) -> Metric:
    return Metric(
        name=name,
        title=title,
        description=f"{title}: events divided by the sessions that Clarity looked at for them.",
        unit="events per session",
        kind=MetricKind.RATE,
        origin=Origin.CLARITY,
        numerator=events,
        denominator=sessions,
        sample=sessions,
    )


def _ad_count(name: str, *, title: str, description: str, unit: str) -> Metric:
    return Metric(
        name=name,
        title=title,
        description=description,
        unit=unit,
        kind=MetricKind.COUNT,
        origin=Origin.ADS,
        numerator=name,
        # Refunds can outweigh what was sold.
        lowest=None if name == "revenue" else 0.0,
    )


def _ad_ratio(
    name: str, *, title: str, of: tuple[str, str], unit: str, kind: MetricKind = MetricKind.RATIO
) -> Metric:
    numerator, denominator = of
    return Metric(
        name=name,
        title=title,
        description=f"{title}: {numerator} divided by {denominator}, over the whole window.",
        unit=unit,
        kind=kind,
        origin=Origin.ADS,
        numerator=numerator,
        denominator=denominator,
        lowest=None if numerator == "revenue" else 0.0,
    )


_ALL: Final[tuple[Metric, ...]] = (
    _clarity_count(
        "sessions",
        title="Sessions",
        description="Sessions of visitors; per page where the business has no overview call.",
    ),
    _clarity_count(
        "rage_clicks",
        title="Rage clicks",
        description="Bursts of clicks in one place by somebody who got no answer.",
    ),
    _clarity_count(
        "dead_clicks",
        title="Dead clicks",
        description="Clicks after which nothing happened.",
    ),
    _clarity_count(
        "excessive_scroll",
        title="Excessive scrolls",
        description="Times somebody scrolled on and on without finding what they wanted.",
    ),
    _clarity_count(
        "quick_backs",
        title="Quick backs",
        description="Times somebody went to a page and came straight back.",
    ),
    _clarity_rate(
        "rage_clicks",
        sessions="rage_click_sessions",
        name="clarity_rage_click_rate",
        title="Rage clicks per session",
    ),
    _clarity_rate(
        "dead_clicks",
        sessions="dead_click_sessions",
        name="clarity_dead_click_rate",
        title="Dead clicks per session",
    ),
    _clarity_rate(
        "quick_backs",
        sessions="quick_back_sessions",
        name="clarity_quick_back_rate",
        title="Quick backs per session",
    ),
    Metric(
        name="clarity_scroll_depth",
        title="Scroll depth",
        description="How far down the page visitors came, on average over page views.",
        unit="percent of page height",
        kind=MetricKind.MEAN,
        origin=Origin.CLARITY,
        numerator="scroll_depth_sum",
        denominator="scroll_depth_page_views",
        sample="sessions",
        highest=100.0,
    ),
    Metric(
        name="clarity_engagement_time_ms",
        title="Engagement time",
        description="Active time per session, in whole milliseconds.",
        unit="milliseconds per session",
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
    _ad_count(
        "conversions",
        title="Conversions",
        description="What the ad platform counts as a success.",
        unit="conversions",
    ),
    _ad_count(
        "revenue",
        title="Revenue",
        description="What conversions were worth, in the account's currency.",
        unit="currency",
    ),
    _ad_ratio(
        "ctr",
        title="Click-through rate",
        of=("clicks", "impressions"),
        unit="clicks per impression",
        kind=MetricKind.RATE,
    ),
    _ad_ratio("cpc", title="Cost per click", of=("spend", "clicks"), unit="currency per click"),
    _ad_ratio(
        "cpa",
        title="Cost per conversion",
        of=("spend", "conversions"),
        unit="currency per conversion",
    ),
    _ad_ratio(
        "roas",
        title="Return on ad spend",
        of=("revenue", "spend"),
        unit="revenue per unit of spend",
    ),
    _ad_ratio(
        "conversion_rate",
        title="Conversion rate",
        of=("conversions", "clicks"),
        unit="conversions per click",
        kind=MetricKind.RATE,
    ),
)

METRICS: Final[Mapping[str, Metric]] = {metric.name: metric for metric in _ALL}
"""The catalogue by name, in the order in which people are shown it."""

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
        kind=MetricKind.COUNT,
        origin=Origin.ADS,
        numerator=name,
        lowest=None,
    )
