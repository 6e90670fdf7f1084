"""What rules decided: an evaluation per rule version, business and day, and the log of decisions.

An evaluation holds the packed inputs and answers of all its entities, so that each of them can be
looked up by its address, `EVALUATION-POSITION`. The log has a row only for what people look for:
decisions that fired, and those that changed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, func, or_, select, true, tuple_

from clarity_pipeline.domain.errors import EvidenceCorrupt, UnknownDecision
from clarity_pipeline.domain.rules.actions import Mode, PlannedAction
from clarity_pipeline.domain.rules.decisions import Decision, Reason, Truth
from clarity_pipeline.domain.rules.documents import parse_rule
from clarity_pipeline.domain.rules.model import Level
from clarity_pipeline.domain.rules.records import (
    Record,
    evidence_hash,
    new_compressor,
    payload_of,
    unpack,
)
from clarity_pipeline.store.bulk import Rows, insert_rows, new_ids
from clarity_pipeline.store.businesses import lock_businesses
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.rule_actions import insert_all_actions
from clarity_pipeline.store.schema import (
    businesses,
    rule_decisions,
    rule_evaluations,
    rule_versions,
    rules,
)
from clarity_pipeline.store.storable import dump_json

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
class RuleTotals:
    """What a rule's newest evaluations as of a day come to, over all businesses."""

    rule_name: str
    businesses: int
    entities: int
    fired: int
    not_fired: int
    unknown: int


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


@dataclass(frozen=True, kw_only=True)
class PreparedEvaluation:
    """An evaluation to be stored."""

    rule_id: int
    version: int
    day: date
    mode: Mode
    record: Record
    held: Mapping[str, Sequence[str]]
    log: DecisionsToLog
    actions: Sequence[PlannedAction] = ()

    @property
    def key(self) -> RuleAndBusiness:
        return self.rule_id, self.record.business_id

    @cached_property
    def evidence_hash(self) -> str:
        return evidence_hash(self.record.payload, self.held)


@dataclass(frozen=True, slots=True)
class Written:
    """What was written of a batch of evaluations."""

    evaluations: int = 0
    unchanged: int = 0
    logged: int = 0
    actions: int = 0

    def __add__(self, other: Written) -> Written:
        return Written(
            self.evaluations + other.evaluations,
            self.unchanged + other.unchanged,
            self.logged + other.logged,
            self.actions + other.actions,
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """What the newest evaluation of a rule, business and day says, in short."""

    version: int
    mode: Mode
    evidence_hash: str

    def says(self, prepared: PreparedEvaluation) -> bool:
        """Whether there is nothing new in another one. Decided again too late to act, the same is
        no news."""
        return (
            self.version == prepared.version
            and prepared.mode in {self.mode, Mode.LATE}
            and self.evidence_hash == prepared.evidence_hash
        )


def write_evaluations(
    database: Database,
    prepared: Sequence[PreparedEvaluation],
    *,
    run_id: str | None,
    now: datetime,
) -> Written:
    """Store evaluations as of one day, all or none, with what belongs into the log and the outbox.

    One that says what the newest one of its rule, business and day says already is not written, nor
    what it calls for: whoever decides again on the same data has decided nothing. Raises
    UnknownBusiness.
    """
    if not prepared:
        return Written()
    (day,) = {each.day for each in prepared}
    keys = {each.key for each in prepared}
    with database.transaction() as connection:
        # Of two runs that evaluate a day, the second finds what the first has written.
        lock_businesses(connection, [business_id for _, business_id in keys if business_id])
        standing = _standing(connection, keys, day=day)
        fresh = [each for each in prepared if not _stands(each, standing)]
        if not fresh:
            return Written(unchanged=len(prepared))
        ids = _insert_evaluations(connection, fresh, run_id=run_id, now=now)
        return Written(
            evaluations=len(fresh),
            unchanged=len(prepared) - len(fresh),
            logged=_insert_log(connection, ids, fresh, day=day),
            actions=insert_all_actions(
                connection,
                {id_: each.actions for id_, each in zip(ids, fresh, strict=True)},
                now=now,
            ),
        )


def without_standing(
    database: Database, prepared: Sequence[PreparedEvaluation]
) -> list[PreparedEvaluation]:
    """Those that say something new, as far as it is known before they are written."""
    if not prepared:
        return []
    (day,) = {each.day for each in prepared}
    with database.reading() as connection:
        standing = _standing(connection, {each.key for each in prepared}, day=day)
    return [each for each in prepared if not _stands(each, standing)]


def last_evaluations(
    database: Database, *, rule_ids: Collection[int], business_ids: Collection[str], before: date
) -> dict[RuleAndBusiness, LastEvaluation]:
    """The newest evaluation of each rule and business as of the latest day before one.

    What belongs to nobody is among them. A pair that has none is left out. Raises EvidenceCorrupt.
    """
    evaluation = rule_evaluations.c
    newest = (
        select(evaluation.id)
        .where(evaluation.rule_id == rules.c.id, evaluation.date < before)
        .order_by(evaluation.date.desc(), evaluation.id.desc())
        .limit(1)
    )
    of_businesses = newest.where(evaluation.business_id == businesses.c.id).scalar_subquery()
    of_nobody = newest.where(evaluation.business_id.is_(None)).scalar_subquery()
    found: dict[RuleAndBusiness, LastEvaluation] = {}
    with database.reading() as connection:
        # A look into the index for each pair; a maximum by group would read every day there is.
        for ids in (
            select(of_businesses)
            .select_from(rules.join(businesses, true()))
            .where(rules.c.id.in_(set(rule_ids)), businesses.c.id.in_(set(business_ids))),
            select(of_nobody).select_from(rules).where(rules.c.id.in_(set(rule_ids))),
        ):
            statement = select(
                evaluation.id,
                evaluation.rule_id,
                evaluation.business_id,
                evaluation.version,
                evaluation.held,
                evaluation.evidence,
            ).where(evaluation.id.in_(ids))
            for row in connection.execute(statement):
                found[row.rule_id, row.business_id] = LastEvaluation(
                    rule_id=row.rule_id,
                    version=row.version,
                    held=row.held,
                    payload=_payload(row.id, row.evidence),
                )
    return found


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
    """Decisions out of the log, those of the latest evaluation first.

    `since` and `until` are days that were decided on, both included. `before` is the address of the
    last one of the page before. Raises UnknownDecision for an address that is none.
    """
    log, evaluation, version = rule_decisions.c, rule_evaluations.c, rule_versions.c
    statement = (
        select(
            rule_decisions,
            evaluation.version,
            evaluation.mode,
            evaluation.evaluated_at,
            version.document["name"].as_string().label("rule_name"),
            version.document["level"].as_string().label("level"),
        )
        .join(rule_evaluations, evaluation.id == log.evaluation_id)
        .join(
            rule_versions,
            and_(version.rule_id == log.rule_id, version.version == evaluation.version),
        )
        .order_by(log.evaluation_id.desc(), log.position)
        .limit(limit)
    )
    for column, value in (
        (log.rule_id, rule_id),
        (log.business_id, business_id),
        (log.entity_id, entity_id),
        (log.truth, None if truth is None else int(truth)),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if since is not None:
        statement = statement.where(log.date >= since)
    if until is not None:
        statement = statement.where(log.date <= until)
    if before is not None:
        evaluation_id, position = _parse_address(before)
        statement = statement.where(
            or_(
                log.evaluation_id < evaluation_id,
                and_(log.evaluation_id == evaluation_id, log.position > position),
            )
        )
    with database.reading() as connection:
        return [_logged(row) for row in connection.execute(statement)]


def names_in_log(
    database: Database, decisions: Collection[tuple[int, int]]
) -> dict[tuple[int, int], str]:
    """How the entities of decisions are called, by evaluation and position, as far as logged."""
    log = rule_decisions.c
    statement = select(log.evaluation_id, log.position, log.entity_name).where(
        tuple_(log.evaluation_id, log.position).in_(decisions)
    )
    with database.reading() as connection:
        return {
            (row.evaluation_id, row.position): row.entity_name
            for row in connection.execute(statement)
            if row.entity_name
        }


def read_decision(database: Database, address: str) -> StoredDecision:
    """The decision of that address, logged or not, out of the evidence of its evaluation.

    Raises UnknownDecision, EvidenceCorrupt, or InvalidRule where this program cannot use the
    version any more that made it.
    """
    evaluation_id, position = _parse_address(address)
    statement = (
        select(rule_evaluations, rule_versions.c.document)
        .join(
            rule_versions,
            and_(
                rule_versions.c.rule_id == rule_evaluations.c.rule_id,
                rule_versions.c.version == rule_evaluations.c.version,
            ),
        )
        .where(rule_evaluations.c.id == evaluation_id)
    )
    with database.reading() as connection:
        row = connection.execute(statement).first()
    if row is None or position >= row.entities:
        raise UnknownDecision(address)
    payload = _payload(row.id, row.evidence)
    if evidence_hash(payload, row.held) != row.evidence_hash:
        raise _corrupt(row.id)
    try:
        packed = unpack(payload, parse_rule(row.document), row.date)
    except ValueError:
        raise _corrupt(row.id) from None
    return StoredDecision(packed.decision(position), _evaluation(row), position)


def latest_evaluations(database: Database, *, rule_ids: Collection[int]) -> dict[int, RuleSummary]:
    """How each of these rules came out when last evaluated; one that never was is left out."""
    evaluation = rule_evaluations.c
    latest_day = (
        select(evaluation.date)
        .where(evaluation.rule_id == rules.c.id)
        .order_by(evaluation.date.desc())
        .limit(1)
        .scalar_subquery()
    )
    days = select(rules.c.id, latest_day).where(rules.c.id.in_(set(rule_ids)))
    found: dict[int, RuleSummary] = {}
    with database.reading() as connection:
        for rule_id, day in connection.execute(days).all():
            if day is not None:
                found[rule_id] = _summary(connection, rule_id, day)
    return found


def rules_evaluated(database: Database, *, day: date) -> set[int]:
    """The rules that have said anything as of a day."""
    statement = select(rule_evaluations.c.rule_id).where(rule_evaluations.c.date == day).distinct()
    with database.reading() as connection:
        return set(connection.scalars(statement))


def totals_of_day(database: Database, *, day: date) -> list[RuleTotals]:
    """What each rule said as of a day, by its name of now."""
    evaluation = rule_evaluations.c
    newest = (
        select(func.max(evaluation.id))
        .where(evaluation.date == day)
        .group_by(evaluation.rule_id, evaluation.business_id)
    )
    sums = ("entities", "fired", "not_fired", "unknown")
    statement = (
        select(
            rules.c.name.label("rule_name"),
            func.count().label("businesses"),
            *(func.sum(evaluation[name]).label(name) for name in sums),
        )
        .join(rules, rules.c.id == evaluation.rule_id)
        .where(evaluation.id.in_(newest))
        .group_by(rules.c.id, rules.c.name)
        .order_by(rules.c.name, rules.c.id)
    )
    with database.reading() as connection:
        return [
            RuleTotals(
                rule_name=row["rule_name"],
                businesses=row["businesses"],
                **{name: int(row[name]) for name in sums},
            )
            for row in connection.execute(statement).mappings()
        ]


def _standing(
    connection: Connection, keys: Collection[RuleAndBusiness], *, day: date
) -> dict[RuleAndBusiness, Standing]:
    evaluation = rule_evaluations.c
    statement = (
        select(
            evaluation.rule_id,
            evaluation.business_id,
            evaluation.version,
            evaluation.mode,
            evaluation.evidence_hash,
        )
        .where(
            evaluation.date == day,
            evaluation.rule_id.in_({rule_id for rule_id, _ in keys}),
            or_(
                evaluation.business_id.is_(None),
                evaluation.business_id.in_({business_id for _, business_id in keys if business_id}),
            ),
        )
        # The newest last, so that it is the one that stays.
        .order_by(evaluation.id)
    )
    return {
        (row.rule_id, row.business_id): Standing(row.version, Mode(row.mode), row.evidence_hash)
        for row in connection.execute(statement)
    }


def _stands(prepared: PreparedEvaluation, standing: Mapping[RuleAndBusiness, Standing]) -> bool:
    there = standing.get(prepared.key)
    return there is not None and there.says(prepared)


def _insert_evaluations(
    connection: Connection,
    fresh: Sequence[PreparedEvaluation],
    *,
    run_id: str | None,
    now: datetime,
) -> list[int]:
    compressor = new_compressor()
    records = [each.record for each in fresh]
    ids = new_ids(connection, rule_evaluations, len(fresh))
    columns: dict[str, list[Any]] = {
        "id": ids,
        "rule_id": [each.rule_id for each in fresh],
        "version": [each.version for each in fresh],
        "business_id": [record.business_id for record in records],
        "mode": [each.mode.value for each in fresh],
        "entities": [record.entities for record in records],
        "fired": [record.fired for record in records],
        "not_fired": [record.not_fired for record in records],
        "unknown": [record.unknown for record in records],
        "reasons": [dump_json(record.reasons) for record in records],
        "evidence": [record.evidence(compressor) for record in records],
        "evidence_hash": [each.evidence_hash for each in fresh],
        "held": [dump_json(each.held) for each in fresh],
    }
    constants = {"date": fresh[0].day, "evaluated_at": now, "dagster_run_id": run_id}
    insert_rows(connection, rule_evaluations, Rows(constants=constants, columns=columns))
    return ids


def _insert_log(
    connection: Connection, ids: Sequence[int], fresh: Sequence[PreparedEvaluation], *, day: date
) -> int:
    columns: dict[str, list[Any]] = {
        name: []
        for name in (
            *("evaluation_id", "rule_id", "business_id", "position", "entity_id", "entity_name"),
            *("truth", "previous_truth", "decided_by", "reason"),
        )
    }
    for id_, each in zip(ids, fresh, strict=True):
        log, count = each.log, len(each.log.positions)
        columns["evaluation_id"] += [id_] * count
        columns["rule_id"] += [each.rule_id] * count
        columns["business_id"] += [each.record.business_id] * count
        columns["position"] += log.positions
        columns["entity_id"] += log.entity_ids
        columns["entity_name"] += log.entity_names
        columns["truth"] += log.truths
        columns["previous_truth"] += log.previous_truths
        columns["decided_by"] += log.decided_by
        columns["reason"] += log.reasons
    return insert_rows(connection, rule_decisions, Rows(constants={"date": day}, columns=columns))


def _summary(connection: Connection, rule_id: int, day: date) -> RuleSummary:
    evaluation = rule_evaluations.c
    newest = (
        select(func.max(evaluation.id))
        .where(
            evaluation.rule_id == rule_id,
            evaluation.date.between(day - timedelta(days=FIRES_COUNTED_DAYS - 1), day),
        )
        .group_by(evaluation.business_id, evaluation.date)
    )
    fires = connection.scalar(select(func.sum(evaluation.fired)).where(evaluation.id.in_(newest)))
    of_the_day = connection.execute(
        select(
            evaluation.evaluated_at,
            evaluation.entities,
            evaluation.fired,
            evaluation.not_fired,
            evaluation.unknown,
            evaluation.reasons,
        ).where(
            evaluation.id.in_(newest.where(evaluation.date == day)),
        )
    ).all()
    reasons: Counter[Reason] = Counter()
    for row in of_the_day:
        reasons.update({Reason(name): count for name, count in row.reasons.items()})
    return RuleSummary(
        rule_id=rule_id,
        day=day,
        evaluated_at=max(row.evaluated_at for row in of_the_day),
        businesses=len(of_the_day),
        entities=sum(row.entities for row in of_the_day),
        fired=sum(row.fired for row in of_the_day),
        not_fired=sum(row.not_fired for row in of_the_day),
        unknown=sum(row.unknown for row in of_the_day),
        reasons=dict(reasons),
        recent_fires=int(fires or 0),
    )


def _parse_address(address: str) -> tuple[int, int]:
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise UnknownDecision(address)
    return int(found[1]), int(found[2])


def _payload(evaluation_id: int, evidence: bytes) -> bytes:
    try:
        return payload_of(evidence)
    except ValueError:
        raise _corrupt(evaluation_id) from None


def _corrupt(evaluation_id: int) -> EvidenceCorrupt:
    return EvidenceCorrupt(
        f"The evidence of rule evaluation {evaluation_id} is not what was stored; restore it from "
        "a backup of the database."
    )


def _evaluation(row: Row[Any]) -> StoredEvaluation:
    return StoredEvaluation(
        id=row.id,
        rule_id=row.rule_id,
        version=row.version,
        business_id=row.business_id,
        day=row.date,
        mode=Mode(row.mode),
        entities=row.entities,
        fired=row.fired,
        not_fired=row.not_fired,
        unknown=row.unknown,
        reasons={Reason(name): count for name, count in row.reasons.items()},
        evaluated_at=row.evaluated_at,
        dagster_run_id=row.dagster_run_id,
    )


def _logged(row: Row[Any]) -> LoggedDecision:
    return LoggedDecision(
        evaluation_id=row.evaluation_id,
        position=row.position,
        rule_id=row.rule_id,
        rule_name=row.rule_name,
        version=row.version,
        business_id=row.business_id,
        day=row.date,
        mode=Mode(row.mode),
        entity_id=row.entity_id,
        entity_name=row.entity_name,
        level=Level(row.level),
        truth=Truth(row.truth),
        previous_truth=None if row.previous_truth is None else Truth(row.previous_truth),
        reason=None if row.reason is None else Reason(row.reason),
        decided_by=row.decided_by,
        evaluated_at=row.evaluated_at,
    )
