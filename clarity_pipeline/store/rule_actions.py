"""The outbox of actions: written with the evaluation that calls for them, claimed, and sent.

An action is claimed in a committed transaction before anything is sent, and settled after. Whoever
holds the claim is known by the number of the attempt: one that was taken over by somebody else
settles nothing any more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    case,
    func,
    literal,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from clarity_pipeline.domain.errors import ActionNotWaiting, UnknownAction
from clarity_pipeline.domain.rules.actions import (
    COUNTS,
    ON_ADS,
    ActionKind,
    ActionStatus,
    PlannedAction,
    RecentAction,
    expires_at,
)
from clarity_pipeline.domain.rules.delivery import CLAIM_LASTS, OutboxAction
from clarity_pipeline.store.bulk import among
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import rule_actions, rule_switch

_CANDIDATES: Final = 20
"""Of so many that are due the first is taken that nobody else takes at the same moment."""

_TRIED_WITHIN: Final = timedelta(days=2)
"""How long after it was made an action may still be tried."""

_COUNTS: Final = tuple(status.value for status in COUNTS)
_ON_ADS: Final = tuple(kind.value for kind in ON_ADS)


def insert_actions(
    connection: Connection,
    *,
    evaluation_id: int,
    actions: Sequence[PlannedAction],
    now: datetime,
) -> int:
    """Write what an evaluation calls for, in its transaction; how many of them were new.

    One that is there already, by its idempotency key, stays as it is.
    """
    return insert_all_actions(connection, {evaluation_id: actions}, now=now)


def insert_all_actions(
    connection: Connection, by_evaluation: Mapping[int, Sequence[PlannedAction]], *, now: datetime
) -> int:
    """The same for the evaluations of a batch, by their ids."""
    rows = [
        {
            "evaluation_id": evaluation_id,
            "rule_id": each.rule_id,
            "version": each.version,
            "business_id": each.business_id,
            "date": each.day,
            "entity_id": each.entity_id,
            "account_id": each.account_id,
            "kind": each.kind.value,
            "action": dict(each.action),
            "detail": dict(each.detail),
            "idempotency_key": each.idempotency_key,
            "status": each.status.value,
            "reason": each.reason,
            "created_at": now,
            "attempts": 0,
        }
        for evaluation_id, actions in by_evaluation.items()
        for each in actions
    ]
    if not rows:
        return 0
    upsert = postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert
    statement = upsert(rule_actions).on_conflict_do_nothing(index_elements=["idempotency_key"])
    evaluation_ids = {id_ for id_, actions in by_evaluation.items() if actions}
    stood = _count_of(connection, evaluation_ids)
    connection.execute(statement, rows)
    return _count_of(connection, evaluation_ids) - stood


def recent_actions(
    database: Database,
    *,
    rule_ids: Collection[int],
    entity_ids: Collection[str],
    day: date,
    since: datetime,
) -> list[RecentAction]:
    """What plan_actions wants to know: all of these rules for the day, and all since (UTC) that
    were on one of the entities, or an alert of one of the rules. Only what counts (`COUNTS`)."""
    made_since = rule_actions.c.created_at >= since - _TRIED_WITHIN
    found: dict[int, RecentAction] = {}
    with database.reading() as connection:
        of_rules = _counting().where(
            rule_actions.c.rule_id.in_(set(rule_ids)),
            or_(
                rule_actions.c.date == day,
                (rule_actions.c.kind == ActionKind.ALERT.value) & made_since,
            ),
        )
        on_entities = _counting().where(
            among(connection, rule_actions.c.entity_id, entity_ids), made_since
        )
        for statement in (of_rules, on_entities):
            found |= {row.id: _recent(row) for row in connection.execute(statement)}
    return [found[action_id] for action_id in sorted(found)]


def last_actions(database: Database, entity_ids: Collection[str]) -> dict[str, RecentAction]:
    """The latest action on each of these entities that counts, however long ago."""
    with database.reading() as connection:
        latest = (
            select(func.max(rule_actions.c.id))
            .where(
                among(connection, rule_actions.c.entity_id, entity_ids),
                rule_actions.c.kind.in_(_ON_ADS),
                rule_actions.c.status.in_(_COUNTS),
            )
            .group_by(rule_actions.c.entity_id)
        )
        rows = connection.execute(select(rule_actions).where(rule_actions.c.id.in_(latest)))
        return {row.entity_id: _recent(row) for row in rows}


def get_action(database: Database, action_id: int) -> OutboxAction:
    """Raises UnknownAction."""
    with database.reading() as connection:
        row = connection.execute(select(rule_actions).where(_is(action_id))).first()
    if row is None:
        raise UnknownAction(action_id)
    return _stored(row)


def list_actions(
    database: Database,
    *,
    rule_id: int | None = None,
    business_id: str | None = None,
    entity_id: str | None = None,
    status: ActionStatus | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[OutboxAction]:
    """Actions, newest first; `before` is the id after which a longer list goes on."""
    statement = select(rule_actions).order_by(rule_actions.c.id.desc()).limit(limit)
    for column, value in (
        (rule_actions.c.rule_id, rule_id),
        (rule_actions.c.business_id, business_id),
        (rule_actions.c.entity_id, entity_id),
        (rule_actions.c.status, None if status is None else status.value),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if before is not None:
        statement = statement.where(rule_actions.c.id < before)
    with database.reading() as connection:
        return [_stored(row) for row in connection.execute(statement)]


def actions_of_decision(
    database: Database, *, evaluation_id: int, position: int
) -> list[OutboxAction]:
    """The actions that a decision called for, the oldest first."""
    statement = (
        select(rule_actions)
        .where(rule_actions.c.evaluation_id == evaluation_id)
        .order_by(rule_actions.c.id)
    )
    with database.reading() as connection:
        actions = [_stored(row) for row in connection.execute(statement)]
    return [each for each in actions if position in each.positions]


def waiting_counts(database: Database) -> dict[int, int]:
    """How many actions of each rule wait for a person to agree; rules without any are left out."""
    counting = (
        select(rule_actions.c.rule_id, func.count().label("waiting"))
        .where(rule_actions.c.status == ActionStatus.WAITING.value)
        .group_by(rule_actions.c.rule_id)
    )
    with database.reading() as connection:
        return {row.rule_id: row.waiting for row in connection.execute(counting)}


def has_open_actions(database: Database) -> bool:
    """Whether anything waits, for a person or to be sent."""
    is_open = rule_actions.c.status.in_([ActionStatus.WAITING.value, ActionStatus.PENDING.value])
    with database.reading() as connection:
        return connection.execute(select(select(1).where(is_open).exists())).scalar_one()


def claim_next(database: Database, *, now: datetime) -> OutboxAction | None:
    """The oldest action that is due, which is now this caller's to send; None when there is none.

    The attempt is counted and committed before anything is sent, so that nobody else sends it
    meanwhile, and whoever dies over it leaves it to be tried again. Nothing is given out while the
    switch pauses all rules.
    """
    due = (
        select(rule_actions.c.id, rule_actions.c.attempts)
        .where(
            rule_actions.c.status == ActionStatus.PENDING.value,
            or_(rule_actions.c.next_attempt_at.is_(None), rule_actions.c.next_attempt_at <= now),
        )
        .order_by(rule_actions.c.id)
        .limit(_CANDIDATES)
    )
    with database.reading() as connection:
        candidates = connection.execute(due).all()
    for candidate in candidates:
        with database.transaction() as connection:
            claimed = connection.execute(
                update(rule_actions)
                .where(
                    _is_held(candidate.id, attempt=candidate.attempts),
                    # Asked here and not before: once it is switched, no more is given out.
                    not_(_is_paused()),
                )
                .values(
                    attempts=candidate.attempts + 1,
                    last_attempt_at=now,
                    next_attempt_at=now + CLAIM_LASTS,
                )
                .returning(*rule_actions.c)
            ).first()
        if claimed is not None:
            return _stored(claimed)
    return None


def keep_detail(database: Database, action: OutboxAction, detail: Mapping[str, Any]) -> bool:
    """Keep what is about to be done, before it is; False when somebody else has the claim by now,
    and nothing may be sent."""
    with database.transaction() as connection:
        kept = connection.execute(
            update(rule_actions)
            .where(_is_held(action.id, attempt=action.attempts))
            .values(detail=dict(detail))
        )
    return kept.rowcount == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How an attempt ended; `next_attempt_at` is of one that is to be tried again, still pending.

    `detail` None leaves it as it is.
    """

    status: ActionStatus
    reason: str | None = None
    error: str | None = None
    detail: Mapping[str, Any] | None = None
    next_attempt_at: datetime | None = None


def settle(
    database: Database, action: OutboxAction, settlement: Settlement, *, now: datetime
) -> bool:
    """Write down how a claimed action ended; False when somebody else has the claim by now."""
    is_done = settlement.status is ActionStatus.DONE
    values: dict[str, Any] = {
        "status": settlement.status.value,
        "reason": settlement.reason,
        "last_error": settlement.error,
        "next_attempt_at": settlement.next_attempt_at,
        "done_at": now if is_done else None,
    }
    if settlement.detail is not None:
        values["detail"] = dict(settlement.detail)
    with database.transaction() as connection:
        settled = connection.execute(
            update(rule_actions).where(_is_held(action.id, attempt=action.attempts)).values(values)
        )
    return settled.rowcount == 1


def rest_account(database: Database, account_id: str, *, until: datetime) -> None:
    """Try no pending action of an ad account before an instant: its platform asks for patience."""
    with database.transaction() as connection:
        connection.execute(
            update(rule_actions)
            .where(
                rule_actions.c.account_id == account_id,
                rule_actions.c.status == ActionStatus.PENDING.value,
                or_(
                    rule_actions.c.next_attempt_at.is_(None),
                    rule_actions.c.next_attempt_at < until,
                ),
            )
            .values(next_attempt_at=until)
        )


def expire_actions(database: Database, *, now: datetime) -> int:
    """End what has waited until its day was too long over; how many there were.

    One that somebody may be sending at this moment is left to them.
    """
    last_good_day = now.date() - timedelta(days=1)
    with database.transaction() as connection:
        expired = connection.execute(
            update(rule_actions)
            .where(
                rule_actions.c.date < last_good_day,
                or_(
                    rule_actions.c.status == ActionStatus.WAITING.value,
                    (rule_actions.c.status == ActionStatus.PENDING.value)
                    & or_(
                        rule_actions.c.last_attempt_at.is_(None),
                        rule_actions.c.last_attempt_at <= now - CLAIM_LASTS,
                    ),
                ),
            )
            .values(
                status=ActionStatus.EXPIRED.value,
                reason=case(
                    (rule_actions.c.attempts == 0, "Its day was over before it was sent."),
                    else_="Its day was over before it was known to have arrived.",
                ),
                next_attempt_at=None,
            )
        )
    return expired.rowcount


def approve(database: Database, action_id: int, *, judged_by: str, now: datetime) -> OutboxAction:
    """Let a waiting action be sent. Raises UnknownAction, or ActionNotWaiting."""
    return _judge(database, action_id, ActionStatus.PENDING, judged_by=judged_by, now=now)


def reject(database: Database, action_id: int, *, judged_by: str, now: datetime) -> OutboxAction:
    """End a waiting action for good. Raises UnknownAction, or ActionNotWaiting."""
    return _judge(database, action_id, ActionStatus.REJECTED, judged_by=judged_by, now=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class OlderActions:
    """What stands in the outbox before an action, as Standing wants to know."""

    in_rule: int
    in_account: int
    has_other_of_day: bool
    has_later_than_pause: bool


def older_actions(database: Database, action: OutboxAction) -> OlderActions:
    """What counts among the actions that are older than this one."""
    older = rule_actions.c.id < action.id
    alike = (
        (rule_actions.c.rule_id == action.rule_id)
        & (rule_actions.c.kind == action.kind.value)
        & (rule_actions.c.date == action.day)
    )
    on_entity = (rule_actions.c.entity_id == action.entity_id) & rule_actions.c.kind.in_(_ON_ADS)
    pause_id = action.detail.get("of_action")
    with database.reading() as connection:

        def count(*conditions: ColumnElement[bool]) -> int:
            counting = select(func.count()).where(
                older, rule_actions.c.status.in_(_COUNTS), *conditions
            )
            return connection.execute(counting).scalar_one()

        return OlderActions(
            in_rule=count(alike),
            in_account=count(alike, rule_actions.c.account_id == action.account_id),
            has_other_of_day=bool(
                count(
                    on_entity,
                    rule_actions.c.date == action.day,
                    rule_actions.c.rule_id != action.rule_id,
                )
            ),
            has_later_than_pause=pause_id is not None
            and bool(count(on_entity, rule_actions.c.id > pause_id)),
        )


def failed_actions(database: Database, *, rule_id: int, version: int, day: date) -> int:
    """How many actions on ads of one version of a rule have failed for a day."""
    counting = select(func.count()).where(
        rule_actions.c.rule_id == rule_id,
        rule_actions.c.version == version,
        rule_actions.c.date == day,
        rule_actions.c.kind.in_(_ON_ADS),
        rule_actions.c.status == ActionStatus.FAILED.value,
    )
    with database.reading() as connection:
        return connection.execute(counting).scalar_one()


def _judge(
    database: Database, action_id: int, status: ActionStatus, *, judged_by: str, now: datetime
) -> OutboxAction:
    """A row can be judged once: of two people at the same moment, one is told that it was."""
    with database.transaction() as connection:
        row = connection.execute(
            select(rule_actions).where(_is(action_id)).with_for_update()
        ).first()
        if row is None:
            raise UnknownAction(action_id)
        if row.status != ActionStatus.WAITING.value:
            raise ActionNotWaiting(action_id, status=row.status)
        if now >= expires_at(row.date):
            raise ActionNotWaiting(action_id, status=ActionStatus.EXPIRED.value)
        judged = connection.execute(
            update(rule_actions)
            .where(_is(action_id))
            .values(status=status.value, judged_by=judged_by, judged_at=now)
            .returning(*rule_actions.c)
        ).one()
    return _stored(judged)


def _count_of(connection: Connection, evaluation_ids: Collection[int]) -> int:
    counted = select(func.count()).where(rule_actions.c.evaluation_id.in_(evaluation_ids))
    return connection.scalar(counted) or 0


def _counting() -> Select[Any]:
    return select(rule_actions).where(rule_actions.c.status.in_(_COUNTS))


def _is(action_id: int) -> ColumnElement[bool]:
    return rule_actions.c.id == action_id


def _is_held(action_id: int, *, attempt: int) -> ColumnElement[bool]:
    """Whether nobody has claimed the action since that attempt."""
    return (
        _is(action_id)
        & (rule_actions.c.attempts == attempt)
        & (rule_actions.c.status == ActionStatus.PENDING.value)
    )


def _is_paused() -> ColumnElement[bool]:
    return select(literal(1)).where(rule_switch.c.is_paused).exists()


def _recent(row: Row[Any]) -> RecentAction:
    return RecentAction(
        id=row.id,
        rule_id=row.rule_id,
        version=row.version,
        day=row.date,
        kind=ActionKind(row.kind),
        status=ActionStatus(row.status),
        account_id=row.account_id,
        entity_ids=tuple(row.detail["entity_ids"]),
        attempts=row.attempts,
        at=row.last_attempt_at or row.created_at,
    )


def _stored(row: Row[Any]) -> OutboxAction:
    return OutboxAction(
        id=row.id,
        evaluation_id=row.evaluation_id,
        rule_id=row.rule_id,
        version=row.version,
        business_id=row.business_id,
        day=row.date,
        entity_id=row.entity_id,
        account_id=row.account_id,
        kind=ActionKind(row.kind),
        action=row.action,
        detail=row.detail,
        idempotency_key=row.idempotency_key,
        status=ActionStatus(row.status),
        reason=row.reason,
        created_at=row.created_at,
        judged_by=row.judged_by,
        judged_at=row.judged_at,
        attempts=row.attempts,
        last_attempt_at=row.last_attempt_at,
        next_attempt_at=row.next_attempt_at,
        done_at=row.done_at,
        last_error=row.last_error,
    )
