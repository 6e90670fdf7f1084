"""What was decided comes out of its packed bytes as it went in."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clarity_pipeline.domain.rules.decisions import Decision, Reason, Truth
from clarity_pipeline.domain.rules.evaluate import Evaluation, evaluate
from clarity_pipeline.domain.rules.history import Entities, Source
from clarity_pipeline.domain.rules.model import Rule
from clarity_pipeline.domain.rules.records import (
    PackedEvaluation,
    Record,
    evidence_hash,
    new_compressor,
    pack,
    payload_of,
    truths_before,
    unpack,
)
from clarity_pipeline_tests.domain.rules.histories import (
    AN_AD,
    AS_OF,
    condition,
    daily,
    rule,
    series_of,
)
from clarity_pipeline_tests.domain.rules.worlds import World


def by_business(world: World, of: Rule) -> Evaluation:
    order = sorted(range(4), key=lambda number: world.entities[number].business_id or "")
    return world.evaluate(of, order, world.series_in(order))


def read_again(record: Record, of: Rule) -> PackedEvaluation:
    return unpack(payload_of(record.evidence(new_compressor())), of, AS_OF)


@settings(max_examples=40)
@given(seed=st.integers(min_value=0, max_value=2**32))
def test_every_decision_is_read_again_as_it_was_made(seed: int) -> None:
    world = World(seed)
    for of in world.rules:
        evaluation = by_business(world, of)
        again: list[Decision] = []
        for record in pack(evaluation):
            packed = read_again(record, of)
            assert len(packed) == record.entities == record.end - record.start
            again += [packed.decision(position) for position in range(len(packed))]
        assert again == list(evaluation.decisions())


@settings(max_examples=20)
@given(seed=st.integers(min_value=0, max_value=2**32))
def test_a_record_counts_what_it_holds(seed: int) -> None:
    world = World(seed)
    for of in world.rules:
        evaluation = by_business(world, of)
        made = list(evaluation.decisions())
        for record in pack(evaluation):
            its = made[record.start : record.end]
            assert {each.business_id for each in its} == {record.business_id}
            truths = [each.truth for each in its]
            counts = (record.not_fired, record.fired, record.unknown)
            assert counts == tuple(truths.count(truth) for truth in Truth)
            reasons = [each.deciding.reason for each in its if each.truth is Truth.UNKNOWN]
            assert record.reasons == {reason: reasons.count(reason) for reason in {*reasons}}
            assert truths_before(record, record.payload).tolist() == truths


def test_the_same_decisions_have_the_same_bytes_and_others_have_not() -> None:
    days, of = daily("spend", 12), rule()
    (record,) = records(of, days)
    (same,) = records(of, days)
    (other,) = records(of, daily("spend", 12.000001))
    assert same.payload == record.payload
    assert other.payload != record.payload
    assert evidence_hash(record.payload, {}) == evidence_hash(same.payload, {})
    assert evidence_hash(record.payload, {}) != evidence_hash(other.payload, {})
    assert evidence_hash(record.payload, {}) != evidence_hash(record.payload, {"conditions": ["a"]})


def records(of: Rule, days: dict[date, dict[str, float | None]]) -> list[Record]:
    evaluation = evaluate(
        of,
        entities=Entities.of([AN_AD]),
        series={Source.ADS: series_of([days])},
        as_of=AS_OF,
    )
    return list(pack(evaluation))


def test_bytes_of_format_1_stay_readable() -> None:
    """Written by the program that first stored evidence; what it decided must not be lost."""
    stored = bytes.fromhex(FORMAT_1)
    decision = unpack(payload_of(stored), rule(), AS_OF).decision(0)
    (finding,) = decision.findings
    assert (decision.entity_id, decision.truth, finding.value) == ("ad-1", Truth.TRUE, 12)
    assert payload_of(stored) == next(iter(records(rule(), daily("spend", 12)))).payload


FORMAT_1 = (
    "0128b52ffd207b5d02005403210000005b2261636d65222c5b2261642d31225d2c5b22537072696e"
    "672073616c65225d5d010001000001514a0b284000f87f244008003b3700030632ae6000777003ec"
    "6a2c412903"
)


def test_what_was_said_before_is_found_by_entity() -> None:
    def record_of(*said: tuple[str, float]) -> Record:
        evaluation = evaluate(
            rule(),
            entities=Entities.of([replace(AN_AD, id=entity_id) for entity_id, _ in said]),
            series={Source.ADS: series_of([daily("spend", value) for _, value in said])},
            as_of=AS_OF,
        )
        (record,) = pack(evaluation)
        return record

    earlier = record_of(("a", 5), ("b", 12), ("c", 12))
    later = record_of(("b", 5), ("new", 12), ("a", 12))
    assert truths_before(later, earlier.payload).tolist() == [Truth.TRUE, -1, Truth.FALSE]
    assert truths_before(later, None).tolist() == [-1, -1, -1]


def test_entities_of_a_business_have_to_be_together() -> None:
    businesses = ("acme", "bolt", "acme")
    entities = Entities.of(
        [replace(AN_AD, id=f"{n}", business_id=b) for n, b in enumerate(businesses)]
    )
    evaluation = evaluate(rule(), entities=entities, series={}, as_of=AS_OF)
    with pytest.raises(ValueError, match="not together"):
        list(pack(evaluation))


def test_a_rule_about_nothing_has_no_record() -> None:
    evaluation = evaluate(
        rule(level="campaign"), entities=Entities.of([AN_AD]), series={}, as_of=AS_OF
    )
    assert list(pack(evaluation)) == []


@pytest.mark.parametrize("damaged", [b"", b"\x02abc", b"\x01abc"])
def test_bytes_that_are_none_of_ours_are_refused(damaged: bytes) -> None:
    with pytest.raises(ValueError, match="evidence"):
        payload_of(damaged)


def test_evidence_of_another_rule_is_refused() -> None:
    (record,) = records(rule(), daily("spend", 12))
    with pytest.raises(ValueError, match="another rule"):
        unpack(record.payload, rule({"all": [condition(), condition("clicks")]}), AS_OF)


@pytest.mark.parametrize("position", [-1, 1])
def test_there_is_no_decision_outside_of_a_record(position: int) -> None:
    (record,) = records(rule(), daily("spend", 12))
    with pytest.raises(IndexError):
        read_again(record, rule()).decision(position)


def test_every_reason_can_be_packed() -> None:
    seen: set[Reason | None] = set()
    for seed in range(300):
        world = World(seed)
        for of in world.rules:
            for record in pack(by_business(world, of)):
                packed = read_again(record, of)
                seen.update(
                    finding.reason
                    for position in range(len(packed))
                    for finding in packed.decision(position).findings
                )
        if seen == {None, *Reason}:
            return
    raise AssertionError({*Reason} - seen)


def test_numbers_are_as_they_were_to_the_last_bit() -> None:
    value = np.nextafter(12.0, 13.0)
    (record,) = records(rule(), daily("spend", float(value)))
    (finding,) = read_again(record, rule()).decision(0).findings
    assert finding.value == value
