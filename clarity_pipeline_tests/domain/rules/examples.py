"""The rules in examples/rules/, each with a history that makes it fire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import yaml

import clarity_pipeline
from clarity_pipeline.domain.rules.history import Entity
from clarity_pipeline.domain.rules.model import Level, Rule
from clarity_pipeline.domain.rules.yaml_documents import read_rules
from clarity_pipeline_tests.domain.rules.histories import back

ROOT: Final = Path(clarity_pipeline.__file__).parent.parent
DIRECTORY: Final = ROOT / "examples" / "rules"
FILES: Final = sorted(path.name for path in DIRECTORY.glob("*.yaml"))

Sums = Mapping[str, float]

PAGE: Final = "https://acme.example/sale"

AD: Final = Entity(
    id="meta:1", name="Spring sale", level=Level.AD, business_id="acme", landing_page=PAGE
)
AD_SET: Final = Entity(
    id="meta:2", name="Sneakers", level=Level.AD_SET, business_id="acme", landing_page=PAGE
)
LANDING_PAGE: Final = Entity(
    id="page:acme:1",
    name=PAGE,
    level=Level.LANDING_PAGE,
    business_id="acme",
    landing_page=PAGE,
    changed_on=back(4),
)
BUSINESS: Final = Entity(id="acme", name="Acme", level=Level.BUSINESS, business_id="acme")

CALM: Final[Sums] = {
    "sessions": 100,
    "rage_clicks": 3,
    "rage_click_sessions": 100,
    "dead_clicks": 10,
    "dead_click_sessions": 100,
    "excessive_scroll": 1,
    "quick_backs": 5,
    "quick_back_sessions": 100,
    "scroll_depth_sum": 9_000,
    "scroll_depth_page_views": 150,
    "engagement_time_ms_sum": 4_000_000,
    "engagement_sessions": 100,
    "spend": 100,
    "impressions": 10_000,
    "clicks": 120,
    "conversions": 4,
    "revenue": 200,
}
"""A day of a page and its ads on which nothing is wrong and nothing is very good."""

OF_ADS: Final = frozenset({"spend", "impressions", "clicks", "conversions", "revenue"})


@dataclass(frozen=True)
class Example:
    """A rule's file, what it is about, and what made it fire as of AS_OF.

    `changed` has by a number of latest days which sums were others on each of them.
    """

    file: str
    entity: Entity
    changed: Mapping[int, Sums]

    @property
    def rule(self) -> Rule:
        return read_example(self.file)

    @property
    def days(self) -> dict[date, dict[str, float | None]]:
        """Five weeks; engagement swings a little, as it does."""
        return {
            back(number): {
                **CALM,
                "engagement_time_ms_sum": CALM["engagement_time_ms_sum"] + number % 3 * 100_000,
                **{
                    name: value
                    for length, sums in self.changed.items()
                    if number < length
                    for name, value in sums.items()
                },
            }
            for number in range(35)
        }


def read_example(file: str) -> Rule:
    """As `clarity rules apply` reads it."""
    (document,) = read_rules((DIRECTORY / file).read_bytes(), source=file)
    assert document.rule is not None, document.error
    return document.rule


def read_document(file: str) -> dict[str, Any]:
    """As an editor reads it, which knows nothing of rules."""
    return yaml.safe_load((DIRECTORY / file).read_text(encoding="utf-8"))


EXAMPLES: Final = (
    Example("pause-on-rage-clicks.yaml", AD, {7: {"rage_clicks": 50}}),
    Example("alert-dead-clicks-after-change.yaml", LANDING_PAGE, {4: {"dead_clicks": 40}}),
    Example(
        "pause-quick-backs-while-cpa-rises.yaml",
        AD_SET,
        {7: {"quick_backs": 40, "conversions": 2}},
    ),
    Example("alert-engagement-drop.yaml", BUSINESS, {1: {"engagement_time_ms_sum": 1_000_000}}),
    Example(
        "lower-budget-on-dead-clicks.yaml", AD_SET, {7: {"dead_clicks": 60}, 14: {"revenue": 50}}
    ),
    Example("raise-budget-on-healthy-page.yaml", AD_SET, {20: {"revenue": 500}}),
    Example(
        "alert-spend-without-sessions.yaml",
        BUSINESS,
        {1: {name: 0 for name in CALM if name not in OF_ADS}},
    ),
)
