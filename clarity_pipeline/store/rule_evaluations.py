"""What rules decided: an evaluation per rule version, business and day, and the log of decisions.

An evaluation holds the packed inputs and answers of all its entities, so that each of them can be
looked up by its address, `EVALUATION-POSITION`. The log has a row only for what people look for:
decisions that fired, and those that changed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final

import numpy as np
import zstandard
from sqlalchemy import (
    Connection,
    Row,
    Select,
    and_,
    case,
    func,
    insert,
    literal_column,
    or_,
    select,
    tuple_,
)

from clarity_pipeline.domain.errors import EvidenceCorrupt, UnknownDecision
from clarity_pipeline.domain.rules.decisions import Decision, Reason, Truth
from clarity_pipeline.domain.rules.documents import parse_rule
from clarity_pipeline.domain.rules.due import Mode
from clarity_pipeline.domain.rules.model import Level
from clarity_pipeline.domain.rules.records import (
    PackedEvaluation,
    Record,
    evidence_hash,
    new_compressor,
    payload_of,
    unpack,
)
from clarity_pipeline.store.bulk import Rows, among, insert_rows
from clarity_pipeline.store.businesses import lock_businesses
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import rule_decisions, rule_evaluations, rule_versions

FIRES_COUNTED_DAYS: Final = 30

_ADDRESS: Final = re.compile(r"(\d{1,18})-(\d{1,9})", re.ASCII)

RuleAndBusiness = tuple[int, str | None]
"""A rule, and a business that it is evaluated for; None for what belongs to nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvaluation:
    """An evaluation of a rule version, for a business and as of a day; instants are UTC.

    `reasons` counts entities that are unknown by why they are. Of several for one rule, business
    and day the newest counts: the data have changed since the others.
    """

    id: int
    rule_id: int
    version: int
    business_id: str | None
    day: date
    mode: Mode
    entities: int
    fired: int
    not_fired: int
    unknown: int
    reasons: Mapping[Reason, int]
    evaluated_at: datetime
    dagster_run_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedDecision:
    """A decision that fired or changed.

    `rule_name` and `level` are those of the version that made it. `previous_truth` is what the rule
    said as of the last day before on which it said anything of the entity, None where it did not.
    `reason` says why it is unknown, None where it is known. `decided_by` is a condition's path.
    """

    evaluation_id: int
    position: int
    rule_id: int
    rule_name: str
    version: int
    business_id: str | None
    day: date
    mode: Mode
    entity_id: str
    entity_name: str
    level: Level
    truth: Truth
    previous_truth: Truth | None
    reason: Reason | None
    decided_by: str
    evaluated_at: datetime

    @property
    def address(self) -> str:
        return f"{self.evaluation_id}-{self.position}"


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """A decision out of its evidence, and the evaluation that it is of."""

    decision: Decision
    evaluation: StoredEvaluation
    position: int

    @property
    def address(self) -> str:
        return f"{self.evaluation.id}-{self.position}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSummary:
    """How a rule came out as of the latest day of which it has evaluations, over all businesses.

    `evaluated_at` (UTC) is when the newest of them was made. `recent_fires` counts decisions that
    fired as of that day and the 29 before it.
    """

    rule_id: int
    day: date
    evaluated_at: datetime
    businesses: int
    entities: int
    fired: int
    not_fired: int
    unknown: int
    reasons: Mapping[Reason, int]
    recent_fires: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LastEvaluation:
    """The newest evaluation of a rule and business before a day, as the next one needs it.

    `held` has, by condition, the entities for which it was true when last known.
    """

    rule_id: int
    version: int
    held: Mapping[str, Sequence[str]]
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionsToLog:
    """Decisions of an evaluation for the log, an element each. `previous_truths` has None for an
    entity that the rule said nothing of before."""

    positions: Sequence[int] = ()
    entity_ids: Sequence[str] = ()
    entity_names: Sequence[str] = ()
    truths: Sequence[int] = ()
    previous_truths: Sequence[int | None] = ()
    decided_by: Sequence[str] = ()
    reasons: Sequence[str | None] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedEvaluation:
    """An evaluation to be stored."""

    rule_id: int
    version: int
    day: date
    mode: Mode
    record: Record
    held: Mapping[str, Sequence[str]]
    log: DecisionsToLog

    @property
    def key(self) -> RuleAndBusiness:
        return self.rule_id, self.record.business_id


@dataclass(frozen=True, slots=True)
class Written:
    """What was written of a batch of evaluations."""

    evaluations: int = 0
    unchanged: int = 0
    logged: int = 0

    def __add__(self, other: Written) -> Written:
        return Written(
            self.evaluations + other.evaluations,
            self.unchanged + other.unchanged,
            self.logged + other.logged,
        )


def write_evaluations(
    database: Database,
    prepared: Sequence[PreparedEvaluation],
    *,
    run_id: str | None,
    now: datetime,
) -> Written:
    """Store evaluations as of one day, all or none, with what belongs into the log.

    One that says what the newest one of its rule, business and day says already is not written:
    whoever decides again on the same data has decided nothing. Raises UnknownBusiness.
    """
    if not prepared:
        return Written()
    (day,) = {each.day for each in prepared}
    with database.transaction() as connection:
        lock_businesses(connection, {each.key[1] for each in prepared} - {None})  # pyright: ignore[reportArgumentType]
        standing = _standing(connection, prepared, day=day)
        hashes = [evidence_hash(each.record.payload, each.held) for each in prepared]
        fresh = [
            (each, its_hash)
            for each, its_hash in zip(prepared, hashes, strict=True)
            if not _stands(each, its_hash, standing.get(each.key))
        ]
        logged = 0
        if fresh:
            ids = _insert_evaluations(connection, fresh, run_id=run_id, now=now)
            logged = _insert_log(connection, ids, [each for each, _ in fresh], day=day)
    return Written(len(fresh), len(prepared) - len(fresh), logged)


def last_evaluations(
    database: Database, *, rule_ids: Collection[int], business_ids: Collection[str], before: date
) -> dict[RuleAndBusiness, LastEvaluation]:
    """The newest evaluation of each rule and business as of the latest day before one.

    What belongs to nobody is among them. A pair that has none is left out.
    """
    ...


def list_decisions(
    database: Database,
    *,
    rule_id: int | None = None,
    business_id: str | None = None,
    entity_id: str | None = None,
    truth: Truth | None = None,
    since: date | None = None,
    until: date | None = None,
    before: str | None = None,
    limit: int = 50,
) -> list[LoggedDecision]:
    """Decisions out of the log, the latest evaluation first.

    `since` and `until` are days that were decided on, both included. `before` is the address of the
    last one of the page before. Raises UnknownDecision for an address that is none.
    """
    ...


def read_decision(database: Database, address: str) -> StoredDecision:
    """The decision of that address, logged or not, out of the evidence of its evaluation.

    Raises UnknownDecision, EvidenceCorrupt, or InvalidRule where this program cannot use the
    version any more that made it.
    """
    ...


def latest_evaluations(database: Database, *, rule_ids: Collection[int]) -> dict[int, RuleSummary]:
    """How each of these rules came out when it was last evaluated; one that never was is left out."""
    ...
