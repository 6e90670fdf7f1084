"""The vectorised evaluator against a naive one, over wild rules and histories."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from clarity_pipeline.domain.errors import InvalidRule
from clarity_pipeline.domain.rules.decisions import Reason, Truth
from clarity_pipeline.domain.rules.documents import canonical_json, parse_rule
from clarity_pipeline.domain.rules.evaluate import Evaluation, evaluate
from clarity_pipeline.domain.rules.history import DailySeries, Entities, Entity, Source
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
from clarity_pipeline_tests.domain.rules.naive import evaluate_naively

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
        return {
            back(37 - row): dict(zip(SERIES, day, strict=True))
            for row, day in enumerate(sums.tolist())
            if not self._maybe(gaps)
        }


def same(number: Any, naive: float | None) -> bool:
    if naive is None or not np.isfinite(naive):
        return bool(np.isnan(number))
    return bool(number == naive)


@settings(max_examples=250)
@given(seed=st.integers(min_value=0, max_value=2**32))
def test_every_entity_gets_the_answer_of_the_naive_evaluator(seed: int) -> None:
    """2,000 rules and 3,000 histories."""
    world = World(seed)
    for rule in world.rules:
        evaluation = world.evaluate(rule, [0, 1, 2, 3], world.series)
        assert [world.entities[row] for row in evaluation.rows] == [
            entity
            for entity in world.entities
            if entity.level == rule.level and entity.status is not EntityStatus.DELETED
        ]
        for index in range(len(evaluation.rows)):
            assert_is_as_naive(world, evaluation, index)


def assert_is_as_naive(world: World, evaluation: Evaluation, index: int) -> None:
    said = f"{json.loads(canonical_json(evaluation.rule))}"
    row = int(evaluation.rows[index])
    entity = world.entities[row]
    truth, decided_by, answers = evaluate_naively(
        evaluation.rule,
        entity,
        {source: world.history[entity.id, source] for source in Source},
        as_of=AS_OF,
        was_true={path: values[row] for path, values in world.was_true.items()},
    )
    decision = evaluation.decision(index)
    for finding, each in zip(decision.findings, evaluation.evidence, strict=True):
        its_truth, its_reason, measured, value = answers[finding.path]
        assert (finding.truth, finding.reason) == (its_truth, its_reason), said
        assert same(each.measured[index], measured), said
        if measured is not None:
            assert same(each.value[index], value), said
    assert (decision.truth, decision.decided_by) == (truth, decided_by), said
    assert decision.fires == (truth is Truth.TRUE)


@settings(max_examples=12)
@given(seed=st.integers(min_value=0, max_value=2**32))
def test_an_answer_has_the_same_bits_whatever_is_evaluated_beside_it(seed: int) -> None:
    world = World(seed)
    in_rows = world.series_in([0, 1, 2, 3], memory="C")
    alone = [world.series_in([number]) for number in range(4)]
    for rule in world.rules:
        together = world.evaluate(rule, [0, 1, 2, 3], world.series)
        again = world.evaluate(rule, [0, 1, 2, 3], in_rows)
        assert as_bytes(together, slice(None)) == as_bytes(again, slice(None))
        for index, row in enumerate(together.rows):
            of_one = world.evaluate(rule, [int(row)], alone[int(row)])
            assert as_bytes(of_one, slice(0, 1)) == as_bytes(together, slice(index, index + 1))


def as_bytes(evaluation: Evaluation, part: slice) -> list[bytes]:
    columns = [evaluation.truth, evaluation.decided_by]
    for each in evaluation.evidence:
        columns += [
            getattr(each, name)
            for name in each.__slots__
            if isinstance(getattr(each, name), np.ndarray)
        ]
    return [column[part].tobytes() for column in columns]


def test_the_worlds_are_wild_enough_to_see_every_answer() -> None:
    """A generator that never makes a stale day tests nothing about stale days."""
    seen: set[Reason | None] = set()
    truths = dict.fromkeys(Truth, 0)
    for seed in range(40):
        world = World(seed)
        for rule in world.rules:
            for decision in world.evaluate(rule, [0, 1, 2, 3], world.series).decisions():
                truths[decision.truth] += 1
                seen.update(finding.reason for finding in decision.findings)
    assert seen == {None, *Reason}
    assert min(truths.values()) > 50
