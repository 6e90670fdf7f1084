"""The vectorised evaluator against a naive one, over wild rules and histories."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from clarity_pipeline.domain.rules.decisions import Reason, Truth
from clarity_pipeline.domain.rules.documents import canonical_json
from clarity_pipeline.domain.rules.evaluate import Evaluation
from clarity_pipeline.domain.rules.history import Source
from clarity_pipeline.domain.rules.model import (
    EntityStatus,
)
from clarity_pipeline_tests.domain.rules.histories import AS_OF
from clarity_pipeline_tests.domain.rules.naive import evaluate_naively
from clarity_pipeline_tests.domain.rules.worlds import World


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
