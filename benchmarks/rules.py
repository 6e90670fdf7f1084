"""What evaluating rules costs: seconds and memory for an agency, and whether it grows in line.

    python -m benchmarks.rules --businesses 1000 --rules 20 --entities 100

Businesses are evaluated in batches, as whoever reads their history from a database would do it.
Rules are of one condition each, of every kind that there is; a condition is evaluated once for
every entity. Making up the history is not timed, making decisions fit for storing is told apart.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from clarity_pipeline.domain.aggregates import DAILY_SUM_COLUMNS
from clarity_pipeline.domain.rules.documents import parse_rule
from clarity_pipeline.domain.rules.evaluate import evaluate, history_wanted
from clarity_pipeline.domain.rules.explain import explain
from clarity_pipeline.domain.rules.history import DailySeries, Entities, Entity, Source
from clarity_pipeline.domain.rules.model import Level, Rule

AS_OF: Final = date(2026, 11, 1)
BATCH: Final = 100
"""Businesses of which history is held in memory at a time."""

EXPLAINED: Final = 2000
"""Decisions that are put into words, to know what one costs."""


@dataclass(slots=True)
class Cost:
    """What was evaluated, and the seconds it took."""

    evaluations: int = 0
    fired: int = 0
    seconds: float = 0.0
    decisions: int = 0
    decision_seconds: float = 0.0


def documents() -> Iterator[dict[str, Any]]:
    """Conditions of every kind; each is cheap in words and dear in days."""
    week, month = {"kind": "last_days", "days": 7}, {"kind": "last_days", "days": 30}
    before = {"against": "previous_window", "measure": "percent"}
    spike = {"against": "baseline", "days": 14, "measure": "z_score"}
    page = {"measured_on": "landing_page"}
    rage, dead = "clarity_rage_click_rate", "clarity_dead_clicks"
    yield {"metric": rage, "value": 0.4, "window": week, "min_sessions": 100}
    yield {"metric": rage, "value": 0.3, "window": week, "confidence": 0.95, **page}
    yield {"metric": dead, "value": 50, "window": week, "comparison": before, **page}
    yield {"metric": dead, "value": 2, "window": {"kind": "yesterday"}, "comparison": spike}
    yield {"metric": dead, "value": 2, "window": {"kind": "since_change"}, "comparison": spike}
    yield {"metric": "clarity_scroll_depth", "operator": "<", "value": 30, "window": month, **page}
    yield {"metric": "cpa", "value": 30, "window": week, "consecutive_days": 3}
    yield {"metric": "roas", "operator": "<", "value": 1, "window": month, "min_coverage": 0.8}
    yield {"metric": "ctr", "operator": "<", "value": 0.01, "window": week, "confidence": 0.9}
    yield {"metric": "spend", "value": 100, "leave": 80, "window": {"kind": "yesterday"}}


def rules(count: int) -> list[Rule]:
    """So many rules, the ten kinds over and over."""
    conditions = list(documents())
    return [
        parse_rule(
            {
                "name": f"Rule {number}",
                "scope": {"kind": "all"},
                "level": "ad",
                "conditions": {"operator": ">", **conditions[number % len(conditions)]},
                "actions": [{"kind": "alert"}],
            }
        )
        for number in range(count)
    ]


def batch(
    first: int, businesses: int, *, entities: int, days: int
) -> tuple[Entities, dict[Source, DailySeries]]:
    """The entities of some businesses and their history, made up but the same every time."""
    numbers = np.random.default_rng(first)
    count = businesses * entities
    found = Entities.of(
        [
            Entity(
                id=f"ad-{first + index // entities}-{index % entities}",
                level=Level.AD,
                business_id=f"business-{first + index // entities}",
                landing_page="https://shop.example/",
                changed_on=date.fromordinal(AS_OF.toordinal() - index % 20),
            )
            for index in range(count)
        ]
    )
    clarity = list(DAILY_SUM_COLUMNS)
    ads = ["spend", "impressions", "clicks", "conversions", "revenue"]
    each = np.arange(count)
    rows = {Source.BUSINESS: (businesses, each // entities, clarity)}
    rows[Source.LANDING_PAGE] = (count, each, clarity)
    rows[Source.ADS] = (count, each, ads)
    return found, {
        source: DailySeries(
            first_day=date.fromordinal(AS_OF.toordinal() - days + 1),
            has_data=np.asfortranarray(numbers.random((height, days)) < 0.97),
            values={
                name: np.asfortranarray(numbers.integers(0, 100, (height, days)), np.float64)
                for name in names
            },
            row_of_entity=row_of_entity,
        )
        for source, (height, row_of_entity, names) in rows.items()
    }


def measure(*, businesses: int, rule_count: int, entities: int) -> Cost:
    """Evaluate every rule for every entity of every business."""
    cost, all_rules = Cost(), rules(rule_count)
    first_day = min(wanted.first_day for wanted in history_wanted(all_rules, as_of=AS_OF).values())
    days = (AS_OF - first_day).days + 1
    for first in range(0, businesses, BATCH):
        found, series = batch(first, min(BATCH, businesses - first), entities=entities, days=days)
        for rule in all_rules:
            started = time.perf_counter()
            evaluation = evaluate(rule, entities=found, series=series, as_of=AS_OF)
            cost.seconds += time.perf_counter() - started
            cost.evaluations += sum(len(each.truth) for each in evaluation.evidence)
            cost.fired += int(evaluation.fires.sum())
            if cost.decisions < EXPLAINED:
                started = time.perf_counter()
                for index in range(min(EXPLAINED // rule_count, len(evaluation.rows))):
                    explain(evaluation.decision(index))
                    cost.decisions += 1
                cost.decision_seconds += time.perf_counter() - started
    return cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--businesses", type=int, default=1000)
    parser.add_argument("--rules", type=int, default=20)
    parser.add_argument("--entities", type=int, default=100)
    asked = parser.parse_args()
    table = Table(
        *("businesses", "evaluations", "fired", "seconds", "s per 100k", "peak MiB"),
        *("ms per decision in words",),
    )
    for businesses in (asked.businesses // 10, asked.businesses // 2, asked.businesses):
        cost = measure(businesses=businesses, rule_count=asked.rules, entities=asked.entities)
        table.add_row(
            f"{businesses:,}",
            f"{cost.evaluations:,}",
            f"{cost.fired:,}",
            f"{cost.seconds:.2f}",
            f"{cost.seconds / cost.evaluations * 100_000:.3f}",
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}",
            f"{cost.decision_seconds / cost.decisions * 1000:.3f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
