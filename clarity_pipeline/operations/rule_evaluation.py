"""Evaluating rules on stored history: for the record, and for a look at what a rule would say.

Businesses are worked on in batches of so much history as memory should hold. While one is evaluated
the next is read and the one before is written, so that the database works meanwhile. A rule that
breaks is reported and stops no other one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clarity_pipeline.domain.day_checks import markdown_table
from clarity_pipeline.domain.day_history import is_obtainable
from clarity_pipeline.domain.days import check_day_is_over, day_collected_at
from clarity_pipeline.domain.errors import InvalidRule, StoreError, UnknownRule
from clarity_pipeline.domain.notices import rule_notice
from clarity_pipeline.domain.rules.actions import (
    ON_ADS,
    ActionKind,
    Judged,
    Mode,
    Plan,
    Subject,
    cool_down,
    plan_actions,
)
from clarity_pipeline.domain.rules.decisions import Decision, Reason, Truth
from clarity_pipeline.domain.rules.due import BusinessDay, RuleTrigger, mode_of
from clarity_pipeline.domain.rules.evaluate import (
    REASONS,
    Evaluation,
    evaluate,
    history_wanted,
)
from clarity_pipeline.domain.rules.history import Booleans, Entities
from clarity_pipeline.domain.rules.inputs import RuleInputs
from clarity_pipeline.domain.rules.model import (
    Condition,
    EntityStatus,
    Resume,
    Rule,
    conditions_of,
)
from clarity_pipeline.domain.rules.records import Record, pack, truths_before
from clarity_pipeline.operations.day_report import DayReport
from clarity_pipeline.operations.rule_actions import disarm_rule
from clarity_pipeline.store import (
    aggregates,
    connections,
    notices,
    rule_actions,
    rule_evaluations,
    rule_inputs,
    rules,
    sync_jobs,
)
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.rule_evaluations import (
    DecisionsToLog,
    LastEvaluation,
    PreparedEvaluation,
    RuleAndBusiness,
    Written,
)
from clarity_pipeline.store.rules import StoredRule

logger = logging.getLogger(__name__)

MOST_CELLS: Final = 4_000_000
"""Numbers of history that are held at a time, of 8 bytes each."""

MOST_BUSINESSES: Final = 200
"""In one transaction: others wait for its businesses."""

_PAGES_OF_A_BUSINESS: Final = 50
"""What a batch allows for the pages and the business itself, whose number is not looked up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedDay:
    """What came of evaluating rules as of a day.

    `businesses` were evaluated, `waiting` are those whose day is still to come. Counts of entities
    are of all evaluations that were made, written or not. `broken` says by name what is wrong with
    rules that could not be evaluated, `disarmed` why the circuit breaker has switched rules off.
    """

    day: date
    rules: int
    businesses: int = 0
    waiting: int = 0
    entities: int = 0
    fired: int = 0
    not_fired: int = 0
    unknown: int = 0
    written: Written = field(default_factory=Written)
    broken: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())
    disarmed: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a rule would say now: counts of all entities, and some of the decisions, those that
    fire first."""

    as_of: date
    entities: int
    fired: int
    not_fired: int
    unknown: int
    reasons: Mapping[Reason, int]
    decisions: tuple[Decision, ...]


def evaluate_day(
    database: Database,
    *,
    day: date,
    now: datetime,
    run_id: str | None,
    business_ids: Collection[str] | None = None,
    rule_ids: Collection[int] | None = None,
    trigger: RuleTrigger = RuleTrigger.ON_DATA,
    recovery: bool = True,
) -> EvaluatedDay:
    """Evaluate the rules in force as of a day, and store what they decide and call for.

    Rules that follow the data are evaluated for every business whose day is there, or will not come
    any more; the others at their times for all. Raises InvalidDay for a day that is not over, or
    UnknownBusiness.
    """
    check_day_is_over(day, now=now)
    in_force = rules.rules_in_force(database)
    due = [
        _DueRule(stored, mode)
        for stored in in_force.rules
        if stored.rule.schedule.kind == trigger
        and (rule_ids is None or stored.id in rule_ids)
        and (mode := mode_of(stored.rule, day=day, now=now)) is not None
    ]
    broken = dict(in_force.broken)
    if not due:
        _tell_which_rules_are_broken(database, broken, due, day=day, now=now)
        return EvaluatedDay(day=day, rules=0, broken=broken)
    ready, waiting = _businesses(
        database,
        [each.stored.rule for each in due],
        day=day,
        now=now,
        business_ids=business_ids,
        waits_for_data=trigger == RuleTrigger.ON_DATA,
        recovery=recovery,
    )
    work = _DayWork(database, day=day, now=now, run_id=run_id, due=due, broken=broken)
    work.work_through(
        batches(
            database,
            [each.stored.rule for each in due],
            ready,
            as_of=day,
            with_nobodys=business_ids is None,
        )
    )
    _tell_which_rules_are_broken(database, work.broken, due, day=day, now=now)
    logger.info(
        "day %s: %d rules evaluated for %d businesses, %d evaluations written, %d businesses to "
        "come",
        day,
        len(due),
        len(ready),
        work.written.evaluations,
        len(waiting),
    )
    return EvaluatedDay(
        day=day,
        rules=len(due),
        businesses=len(ready),
        waiting=len(waiting),
        entities=work.entities,
        fired=work.fired,
        not_fired=work.not_fired,
        unknown=work.unknown,
        written=work.written,
        broken=work.broken,
        disarmed=work.disarmed,
    )


def _tell_which_rules_are_broken(
    database: Database,
    broken: Mapping[str, str],
    due: Collection[_DueRule],
    *,
    day: date,
    now: datetime,
) -> None:
    # A backfill of days of which some break a rule would say so, and take it back, day by day.
    is_latest = day >= day_collected_at(now)
    well = {each.stored.rule.name for each in due if is_latest} - broken.keys()
    told = [rule_notice(name, trouble) for name, trouble in sorted(broken.items())]
    told += [rule_notice(name, None) for name in sorted(well)]
    if told:
        notices.record(database, told, now=now)


def preview(
    database: Database,
    rule: Rule,
    *,
    as_of: date,
    business_ids: Collection[str] | None = None,
    limit: int = 50,
) -> Preview:
    """What a rule says as of a day, whatever its status; nothing is stored. Raises UnknownBusiness.

    A condition with a `leave` is taken for one that was not true before.
    """
    known = [record.business_id for record in connections.list_connections(database, business_ids)]
    in_scope = _in_scope([rule], known)
    counts = dict.fromkeys(Truth, 0)
    reasons: dict[Reason, int] = {}
    shown: dict[Truth, list[Decision]] = {truth: [] for truth in Truth}
    for batch in batches(
        database, [rule], in_scope, as_of=as_of, with_nobodys=business_ids is None
    ):
        inputs = read_batch(database, [rule], batch, as_of=as_of)
        evaluation = evaluate(rule, entities=inputs.entities, series=inputs.series, as_of=as_of)
        for truth in Truth:
            places = np.flatnonzero(evaluation.truth == truth)
            counts[truth] += len(places)
            room = limit - len(shown[truth])
            shown[truth] += [evaluation.decision(int(place)) for place in places[:room]]
        for record in pack(evaluation):
            for reason, count in record.reasons.items():
                reasons[reason] = reasons.get(reason, 0) + count
    ordered = [*shown[Truth.TRUE], *shown[Truth.UNKNOWN], *shown[Truth.FALSE]]
    return Preview(
        as_of=as_of,
        entities=sum(counts.values()),
        fired=counts[Truth.TRUE],
        not_fired=counts[Truth.FALSE],
        unknown=counts[Truth.UNKNOWN],
        reasons=reasons,
        decisions=tuple(ordered[:limit]),
    )


def report(database: Database, evaluated: EvaluatedDay) -> DayReport:
    """The day's evaluations as they stand in the store, whichever run made them."""
    broken, written = evaluated.broken, evaluated.written
    numbers = {
        "rules": evaluated.rules,
        "rules_broken": len(broken),
        "rules_disarmed": len(evaluated.disarmed),
        "businesses_evaluated": evaluated.businesses,
        "businesses_waited_for": evaluated.waiting,
        "evaluations_written": written.evaluations,
        "evaluations_unchanged": written.unchanged,
        "decisions_logged": written.logged,
        "actions_written": written.actions,
    }
    if not evaluated.rules and not broken:
        return DayReport(numbers, table="")
    totals = rule_evaluations.totals_of_day(database, day=evaluated.day)
    numbers |= {
        name: sum(getattr(each, name) for each in totals)
        for name in ("entities", "fired", "not_fired", "unknown")
    }
    rows: list[tuple[object, ...]] = [
        (
            each.rule_name,
            each.businesses,
            each.entities,
            each.fired,
            each.not_fired,
            each.unknown,
            "",
        )
        for each in totals
    ]
    rows += [(name, "", "", "", "", "", f"broken: {why}") for name, why in sorted(broken.items())]
    rows += [
        (name, "", "", "", "", "", f"switched off: {why}")
        for name, why in sorted(evaluated.disarmed.items())
    ]
    header = ("rule", "businesses", "entities", "fires", "does not", "unknown", "")
    return DayReport(numbers, markdown_table(header, rows))


@dataclass(frozen=True, slots=True)
class _DueRule:
    stored: StoredRule
    mode: Mode


@dataclass(frozen=True, slots=True)
class Batch:
    """Businesses whose history is read together; or, without any, what belongs to nobody."""

    business_ids: Sequence[str]
    is_nobodys: bool = False


def _businesses(
    database: Database,
    of_rules: Sequence[Rule],
    *,
    day: date,
    now: datetime,
    business_ids: Collection[str] | None,
    waits_for_data: bool,
    recovery: bool,
) -> tuple[list[str], list[str]]:
    """Those to evaluate now, and those whose day is still to come."""
    records = connections.list_connections(database, business_ids)
    in_scope = set(_in_scope(of_rules, [record.business_id for record in records]))
    records = [record for record in records if record.business_id in in_scope]
    if not waits_for_data:
        return [record.business_id for record in records], []
    arrived = aggregates.aggregate_states(database, day=day)
    statuses = sync_jobs.latest_statuses(database, day=day)
    obtainable = is_obtainable(day, now=now, recovery=recovery)
    ready: list[str] = []
    waiting: list[str] = []
    for record in records:
        business_day = BusinessDay(
            is_on=record.is_enabled,
            has_arrived=record.business_id in arrived,
            last_sync=statuses.get(record.business_id),
            is_obtainable=obtainable,
        )
        (waiting if business_day.is_awaited else ready).append(record.business_id)
    return ready, waiting


def _in_scope(of_rules: Sequence[Rule], business_ids: Iterable[str]) -> list[str]:
    if any(rule.businesses is None for rule in of_rules):
        return list(business_ids)
    scope = {business_id for rule in of_rules for business_id in rule.businesses or ()}
    return [business_id for business_id in business_ids if business_id in scope]


def batches(
    database: Database,
    of_rules: Sequence[Rule],
    business_ids: Sequence[str],
    *,
    as_of: date,
    first_day: date | None = None,
    with_nobodys: bool,
) -> Iterator[Batch]:
    """Businesses in order, as many at a time as memory has room for their history.

    With `first_day` it is the history to evaluate them as of every day from that one on.
    """
    counts = rule_inputs.count_entities(database)
    cells = sum(
        ((as_of - wanted.first_day).days + 1) * (len(wanted.series) + 1)
        for wanted in history_wanted(of_rules, as_of=first_day or as_of).values()
    )
    batch: list[str] = []
    held = 0
    for business_id in business_ids:
        its = (counts.get(business_id, 0) + _PAGES_OF_A_BUSINESS) * cells
        if batch and (held + its > MOST_CELLS or len(batch) == MOST_BUSINESSES):
            yield Batch(batch)
            batch, held = [], 0
        batch.append(business_id)
        held += its
    if batch:
        yield Batch(batch)
    if with_nobodys and counts.get(None) and any(rule.businesses is None for rule in of_rules):
        yield Batch([], is_nobodys=True)


def read_batch(
    database: Database,
    of_rules: Sequence[Rule],
    batch: Batch,
    *,
    as_of: date,
    first_day: date | None = None,
) -> RuleInputs:
    """What these rules are evaluated on as of a day, or as of every day from `first_day` on."""
    return rule_inputs.read_inputs(
        database,
        rules=of_rules,
        business_ids=batch.business_ids,
        as_of=as_of,
        first_day=first_day,
        with_nobodys=batch.is_nobodys,
    )


class _DayWork:
    """One day's evaluation, and what has come of it so far."""

    def __init__(
        self,
        database: Database,
        *,
        day: date,
        now: datetime,
        run_id: str | None,
        due: Sequence[_DueRule],
        broken: dict[str, str],
    ) -> None:
        self.database, self.day, self.now, self.run_id = database, day, now, run_id
        self.due = {each.stored.id: each for each in due}
        # Another thread reads for all of them, whichever are dropped meanwhile.
        self._wanted = tuple(each.stored for each in due)
        self.broken = broken
        self.disarmed: dict[str, str] = {}
        self.written = Written()
        self.entities = self.fired = self.not_fired = self.unknown = 0
        self._versions: dict[tuple[int, int], Rule | None] = {}

    def work_through(self, batches: Iterable[Batch]) -> None:
        """Evaluate every rule for these businesses; of a batch all is stored, or nothing."""
        with ThreadPoolExecutor(max_workers=2) as threads:
            writing: Future[None] | None = None
            for ground in _read_ahead(threads, self._read, batches):
                prepared = self._evaluate(ground)
                # What is called for depends on what was called for before.
                if writing is not None:
                    writing.result()
                writing = threads.submit(self._write, *self._decide(prepared))
            if writing is not None:
                writing.result()

    def _read(self, batch: Batch) -> _Ground:
        inputs = read_batch(
            self.database, [each.rule for each in self._wanted], batch, as_of=self.day
        )
        last = rule_evaluations.last_evaluations(
            self.database,
            rule_ids=[each.id for each in self._wanted],
            business_ids=batch.business_ids,
            before=self.day,
        )
        return _Ground(inputs, last)

    def _evaluate(self, ground: _Ground) -> list[_Prepared]:
        prepared: list[_Prepared] = []
        for each in list(self.due.values()):
            try:
                prepared += self._of_rule(each, ground)
            except StoreError:
                raise
            except Exception as error:
                logger.exception("rule %s version %s broke", each.stored.id, each.stored.version)
                self._drop(each, f"{type(error).__name__} while it was evaluated")
        for each in prepared:
            record = each.evaluation.record
            self.entities += record.entities
            self.fired += record.fired
            self.not_fired += record.not_fired
            self.unknown += record.unknown
        return prepared

    def _decide(
        self, prepared: Sequence[_Prepared]
    ) -> tuple[Sequence[PreparedEvaluation], Written]:
        """What is to be written, with the actions that it calls for, and what stands already."""
        fresh = rule_evaluations.without_standing(
            self.database, [each.evaluation for each in prepared]
        )
        news = {evaluation.key for evaluation in fresh}
        plan = self._plan([each for each in prepared if each.evaluation.key in news])
        self._disarm(plan)
        with_actions = [
            replace(
                evaluation,
                actions=plan.of_evaluation(
                    rule_id=evaluation.rule_id, business_id=evaluation.record.business_id
                ),
            )
            for evaluation in fresh
        ]
        return with_actions, Written(unchanged=len(prepared) - len(fresh))

    def _write(self, evaluations: Sequence[PreparedEvaluation], standing: Written) -> None:
        self.written += standing + rule_evaluations.write_evaluations(
            self.database, evaluations, run_id=self.run_id, now=self.now
        )

    def _of_rule(self, due: _DueRule, ground: _Ground) -> list[_Prepared]:
        rule, rule_id = due.stored.rule, due.stored.id
        before = self._was_true(due.stored, ground)
        evaluation = evaluate(
            rule,
            entities=ground.inputs.entities,
            series=ground.inputs.series,
            as_of=self.day,
            was_true=before,
        )
        held = {
            path: known
            for path, known in evaluation.true_when_last_known(before).items()
            if path in before
        }
        found: list[_Prepared] = []
        reasons = evaluation.deciding_reasons
        for record in pack(evaluation):
            last = ground.last.get((rule_id, record.business_id))
            found.append(
                _Prepared(
                    PreparedEvaluation(
                        rule_id=rule_id,
                        version=due.stored.version,
                        day=self.day,
                        mode=due.mode,
                        record=record,
                        held={
                            path: ground.ids_of(record.business_id, known)
                            for path, known in held.items()
                        },
                        log=_to_log(evaluation, record, reasons, last),
                    ),
                    evaluation,
                )
            )
        return found

    def _was_true(self, stored: StoredRule, ground: _Ground) -> dict[str, Booleans]:
        """By path of each condition with a `leave`, where it was true when last known."""
        conditions = dict(_with_leave(stored.rule))
        found = {path: np.zeros(len(ground.inputs.entities), np.bool_) for path in conditions}
        if not found:
            return found
        for (rule_id, _), last in ground.last.items():
            if rule_id != stored.id or not last.held:
                continue
            earlier = self._conditions_of(stored, last.version)
            for path, ids in last.held.items():
                # Another condition was true there, if it is not the same.
                if path in found and conditions[path] == earlier.get(path):
                    places = [ground.places[id_] for id_ in ids if id_ in ground.places]
                    found[path][places] = True
        return found

    def _conditions_of(self, stored: StoredRule, version: int) -> Mapping[str, Condition]:
        if version == stored.version:
            return dict(_with_leave(stored.rule))
        key = (stored.id, version)
        if key not in self._versions:
            try:
                self._versions[key] = rules.rule_version(
                    self.database, rule_id=stored.id, version=version
                ).rule
            except (InvalidRule, UnknownRule):
                self._versions[key] = None
        earlier = self._versions[key]
        return {} if earlier is None else dict(_with_leave(earlier))

    def _plan(self, prepared: Sequence[_Prepared]) -> Plan:
        """What the evaluations call for, with what has been done lately in mind."""
        acting = [each for each in prepared if each.evaluation.mode is Mode.ACTING]
        subjects = {each.evaluation.key: self._subjects(each) for each in acting}
        on_ads = {
            subject.entity_id
            for each in acting
            if _acts_on_ads(each.of.rule)
            for subject in subjects[each.evaluation.key]
        }
        if not any(subjects.values()):
            return Plan((), {})
        facts = rule_inputs.read_ad_facts(self.database, on_ads)
        armed = [self.due[each.evaluation.rule_id].stored for each in acting]
        longest = max(cool_down(stored.rule.limits) for stored in armed)
        judged = [
            Judged(
                rule_id=stored.id,
                version=stored.version,
                rule=stored.rule,
                business_id=each.evaluation.record.business_id,
                day=self.day,
                mode=Mode.ACTING,
                looked_at=each.evaluation.record.entities,
                subjects=[
                    _with_facts(subject, facts.get(subject.entity_id))
                    for subject in subjects[each.evaluation.key]
                ],
            )
            for stored, each in zip(armed, acting, strict=True)
        ]
        return plan_actions(
            judged,
            recent=rule_actions.recent_actions(
                self.database,
                rule_ids={stored.id for stored in armed},
                entity_ids=on_ads,
                day=self.day,
                since=self.now - longest,
            ),
            last=rule_actions.last_actions(self.database, on_ads),
            now=self.now,
        )

    def _subjects(self, prepared: _Prepared) -> list[Subject]:
        """What the rule is true for, and what it may take its pause back of."""
        record, evaluation = prepared.evaluation.record, prepared.of
        truth = evaluation.truth[record.start : record.end]
        rows = evaluation.rows[record.start : record.end]
        concerned = truth == Truth.TRUE
        if any(isinstance(action, Resume) for action in evaluation.rule.actions):
            statuses = evaluation.entities.statuses[rows]
            concerned |= (truth == Truth.FALSE) & (statuses == EntityStatus.PAUSED.value)
        return [
            Subject(
                position=position,
                entity_id=evaluation.entities.ids[int(rows[position])],
                truth=Truth(int(truth[position])),
            )
            for position in _places(concerned)
        ]

    def _disarm(self, plan: Plan) -> None:
        """Switch off what the circuit breaker has stopped, before anything else is written: whoever
        dies in between has decided nothing, and decides again."""
        for rule_id, why in plan.disarm.items():
            stored = self.due.pop(rule_id).stored
            if not disarm_rule(
                self.database, rule_id, version=stored.version, reason=why, now=self.now
            ):
                logger.warning("rule %s was changed while it was to be switched off", rule_id)
            logger.warning("rule %s is switched off: %s", rule_id, why)
            self.disarmed[stored.rule.name] = why

    def _drop(self, each: _DueRule, why: str) -> None:
        self.broken[each.stored.rule.name] = why
        del self.due[each.stored.id]


def _read_ahead(
    threads: Executor, read: Callable[[Batch], _Ground], batches: Iterable[Batch]
) -> Iterator[_Ground]:
    """What is read of each batch, while the next is being read."""
    coming: Future[_Ground] | None = None
    for batch in batches:
        following = threads.submit(read, batch)
        if coming is not None:
            yield coming.result()
        coming = following
    if coming is not None:
        yield coming.result()


@dataclass(frozen=True, slots=True)
class _Prepared:
    evaluation: PreparedEvaluation
    of: Evaluation


class _Ground:
    """What all rules of a batch stand on."""

    def __init__(self, inputs: RuleInputs, last: Mapping[RuleAndBusiness, LastEvaluation]) -> None:
        self.inputs, self.last = inputs, last
        self.places: Mapping[str, int] = {
            id_: place for place, id_ in enumerate(inputs.entities.ids)
        }
        self._range_of = _ranges(inputs.entities)

    def ids_of(self, business_id: str | None, is_wanted: Booleans) -> list[str]:
        """The ids of those entities of a business."""
        start, end = self._range_of[business_id or ""]
        ids = self.inputs.entities.ids
        return [ids[start + place] for place in _places(is_wanted[start:end])]


def _ranges(entities: Entities) -> dict[str, tuple[int, int]]:
    """Where the entities of each business begin and end: they are together."""
    names, starts, counts = np.unique(entities.business_ids, return_index=True, return_counts=True)
    return {
        str(name): (int(start), int(start + count))
        for name, start, count in zip(names, starts, counts, strict=True)
    }


def _acts_on_ads(rule: Rule) -> bool:
    return any(ActionKind(action.kind) in ON_ADS for action in rule.actions)


def _with_leave(rule: Rule) -> Iterator[tuple[str, Condition]]:
    for path, condition in conditions_of(rule.conditions):
        if rule.has_leave(condition):
            yield path, condition


def _with_facts(subject: Subject, facts: rule_inputs.AdFacts | None) -> Subject:
    if facts is None:
        return subject
    return replace(
        subject,
        status=facts.status,
        account_id=facts.account_id,
        daily_budget=facts.daily_budget,
    )


def _to_log(
    evaluation: Evaluation,
    record: Record,
    reasons: NDArray[np.uint8],
    last: LastEvaluation | None,
) -> DecisionsToLog:
    """What fired, and what is not as it was."""
    truth = evaluation.truth[record.start : record.end]
    before = truths_before(record, None if last is None else last.payload)
    positions = _places((truth == Truth.TRUE) | ((before >= 0) & (before != truth)))
    if not positions:
        return DecisionsToLog()
    paths = [each.path for each in evaluation.evidence]
    chosen = np.array(positions) + record.start
    rows: list[int] = evaluation.rows[chosen].tolist()
    decided_by: list[int] = evaluation.decided_by[chosen].tolist()
    codes: list[int] = reasons[chosen].tolist()
    earlier: list[int] = before[positions].tolist()
    return DecisionsToLog(
        positions=positions,
        entity_ids=[evaluation.entities.ids[row] for row in rows],
        entity_names=[evaluation.entities.names[row] for row in rows],
        truths=truth[positions].tolist(),
        previous_truths=[None if each < 0 else each for each in earlier],
        decided_by=[paths[number] for number in decided_by],
        reasons=[None if (reason := REASONS[code]) is None else reason.value for code in codes],
    )


def _places(where: Booleans) -> list[int]:
    found: list[int] = np.flatnonzero(where).tolist()
    return found
