"""Wild rules, and wild histories for them, out of a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from clarity_pipeline.domain.errors import InvalidRule
from clarity_pipeline.domain.rules.documents import parse_rule
from clarity_pipeline.domain.rules.evaluate import Evaluation, evaluate
from clarity_pipeline.domain.rules.history import Basis, DailySeries, Entities, Entity, Source
from clarity_pipeline.domain.rules.metrics import METRICS
from clarity_pipeline.domain.rules.model import (
    CONFIDENCE_Z,
    Condition,
    EntityStatus,
    Level,
    Rule,
    conditions_of,
)
from clarity_pipeline_tests.domain.rules.histories import AS_OF, Days, back, document, series_of

BUSINESSES = ("acme", "bolt", "cove")


SERIES = sorted({name for metric in METRICS.values() for name in metric.series} | {"ad.carts"})
RULES_PER_WORLD = 8


class World:
    """Entities, their histories, and rules about them that can be used."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.entities = [self._entity(number) for number in range(4)]
        self.history = {
            (entity.id, source): self._days() for entity in self.entities for source in Source
        }
        self.series = self.series_in([0, 1, 2, 3])
        self.rules = [self._rule() for _ in range(RULES_PER_WORLD)]
        self.was_true = {
            path: [self._maybe() for _ in self.entities]
            for rule in self.rules
            for path, _ in conditions_of(rule.conditions)
            if self._maybe(0.7)
        }

    def series_in(self, order: list[int], *, memory: str = "F") -> dict[Source, DailySeries]:
        return {
            source: series_of(
                [self.history[self.entities[index].id, source] for index in order], order=memory
            )
            for source in Source
        }

    def evaluate(
        self, rule: Rule, order: list[int], series: dict[Source, DailySeries]
    ) -> Evaluation:
        return evaluate(
            rule,
            entities=Entities.of([self.entities[index] for index in order]),
            series=series,
            as_of=AS_OF,
            was_true={
                path: np.array([values[index] for index in order], np.bool_)
                for path, values in self.was_true.items()
            },
        )

    def _maybe(self, share: float = 0.5) -> bool:
        return self.random.random() < share

    def _rule(self) -> Rule:
        while True:
            more: dict[str, Any] = {"level": self.random.choice(["ad", "landing_page"])}
            conditions = self._tree(self.random.choice([1, 1, 2, 3]))
            if self._maybe(0.3):
                override = self._values()
                more["overrides"] = [
                    {"business": self.random.choice(BUSINESSES), "condition": "a", **override}
                ]
            try:
                return parse_rule(document(conditions, **more))
            except InvalidRule:
                continue

    def _tree(self, depth: int) -> Any:
        if depth == 1:
            return self._condition()
        if self._maybe(0.2):
            return {"not": self._tree(depth - 1)}
        children = [self._tree(depth - 1) for _ in range(self.random.randint(1, 3))]
        return {self.random.choice(["all", "any"]): children}

    def _values(self) -> dict[str, Any]:
        value = self.random.choice([0, 0.5, 1, 2, 5, 20, 50, -1, 0.1, 3])
        found: dict[str, Any] = {"value": value}
        if self._maybe(0.3):
            found["leave"] = value + self.random.choice([-0.5, -0.05, 0.5])
        return found

    def _condition(self) -> dict[str, Any]:
        pick, often = self.random.choice, self._maybe
        options: list[tuple[float, str, Callable[[], Any]]] = [
            (0.2, "key", lambda: pick(["a", "a", "b"])),
            (0.2, "measured_on", lambda: pick(["business", "landing_page"])),
            (0.3, "consecutive_days", lambda: pick([2, 3, 5])),
            (0.3, "min_sessions", lambda: pick([1, 4, 12])),
            (0.3, "min_coverage", lambda: pick([0.3, 0.5, 0.75, 1.0])),
            (0.6, "max_age_days", lambda: pick([None, 0, 1, 4])),
            (0.2, "confidence", lambda: pick(list(CONFIDENCE_Z))),
            (0.4, "comparison", self._comparison),
        ]
        while True:
            operator = pick([">", ">=", "<", "<=", "=", "!=", "between", "not_between"])
            made: dict[str, Any] = {
                "metric": pick([*METRICS, "ad.carts"]),
                "operator": operator,
                "window": self._window(),
                **self._values(),
                **{name: make() for share, name, make in options if often(share)},
            }
            if "between" in operator:
                made["to"] = made["value"] + pick([0, 1, 4])
            try:
                Condition.model_validate(made)
            except ValueError:
                continue
            return made

    def _comparison(self) -> dict[str, Any]:
        measure = self.random.choice(["absolute", "percent", "z_score"])
        if self._maybe():
            return {"against": "previous_window", "measure": measure}
        days = self.random.choice([1, 3, 7, 14])
        return {"against": "baseline", "days": days, "measure": measure}

    def _window(self) -> dict[str, Any]:
        start, end = sorted([self.random.randint(-1, 12), self.random.randint(-1, 12)])
        return self.random.choice(
            [
                {"kind": "yesterday"},
                {"kind": "last_days", "days": self.random.choice([1, 2, 3, 7, 30])},
                {"kind": "fixed", "start": str(back(end)), "end": str(back(start))},
                {"kind": "since_change", "within_days": self.random.choice([1, 5, 14])},
            ]
        )

    def _entity(self, number: int) -> Entity:
        return Entity(
            id=f"entity-{number}",
            level=self.random.choice([Level.AD, Level.LANDING_PAGE]),
            business_id=self.random.choice(BUSINESSES) if self._maybe(0.9) else None,
            status=EntityStatus.DELETED if self._maybe(0.1) else EntityStatus.ACTIVE,
            landing_page="https://acme.example/" if self._maybe(0.9) else None,
            is_connected=self._maybe(0.9),
            is_enabled=self._maybe(0.9),
            changed_on=back(self.random.randint(-2, 16)) if self._maybe(0.8) else None,
        )

    def _days(self) -> Days:
        numbers = np.random.default_rng(self.random.getrandbits(32))
        highest = self.random.choice([1, 3, 10])
        sums = numbers.integers(0, highest + 1, (40, len(SERIES))).astype(np.float64)
        if self._maybe(0.2):
            sums[:] = sums[0]
        sums[:, [SERIES.index(name) for name in ("spend", "revenue", "scroll_depth_sum")]] *= 1.1
        for wild in (np.nan, np.inf, -np.inf):
            sums[numbers.random(sums.shape) < 0.01] = wild
        sums[numbers.random(40) < 0.08, SERIES.index("spend")] = 1.7e308
        gaps = self.random.choice([0.0, 0.0, 0.2, 0.6])
        # Since an overview call is made, sessions of the project are counted; or none ever was.
        overview_since = self.random.choice([0, 0, 40, 40, self.random.randint(1, 39)])
        return {
            back(37 - row): {
                **dict(zip(SERIES, day, strict=True)),
                "basis": Basis.PAGE_SESSIONS if row < overview_since else Basis.SESSIONS,
            }
            for row, day in enumerate(sums.tolist())
            if not self._maybe(gaps)
        }
