"""The ten calls a project has per UTC day, given out one slot at a time.

A slot is reserved in a committed transaction of its own before the request leaves, and is never
given back. The primary key and a CHECK make an eleventh call impossible whatever runs beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    Column,
    Connection,
    Row,
    bindparam,
    case,
    exists,
    func,
    insert,
    select,
    text,
    update,
)

from clarity_pipeline.domain.dimensions import combos_of_a_day
from clarity_pipeline.domain.errors import QuotaRefused
from clarity_pipeline.domain.exports import MAX_DAYS, Verdict
from clarity_pipeline.domain.quota import (
    DAILY_CALL_LIMIT,
    AlreadyLanded,
    CallOutcome,
    InFlight,
    OwedCall,
    Purpose,
    QuotaState,
    QuotaUsage,
    RefusalReason,
    SlotGranted,
    SlotRefused,
    decide_slot,
    lease_ends_at,
    outcome_left_behind,
    refusal_message,
    resets_at,
    utc_day_of,
)
from clarity_pipeline.domain.sync_jobs import Trigger
from clarity_pipeline.store.businesses import of_a_known_business
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import api_calls, business_config, raw_exports, sync_jobs


@dataclass(frozen=True, slots=True)
class Reservation:
    """One slot that is ours: the right to make one call of a project on one UTC day."""

    project_id: str
    utc_day: date
    slot: int
    business_id: str
    purpose: Purpose
    dimension_set: str


@dataclass(frozen=True, slots=True)
class _VeryCall:
    """What makes two calls the same call: one reply would do for both."""

    business_id: str
    day: date
    dimension_set: str
    num_of_days: int


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A slot as it stands in the ledger; without an outcome it is in flight, or was abandoned."""

    slot: int
    business_id: str
    purpose: Purpose
    dimension_set: str
    num_of_days: int
    token_fingerprint: str | None
    reserved_at: datetime
    settled_at: datetime | None
    outcome: CallOutcome | None


def reserve(
    database: Database,
    *,
    project_id: str,
    business_id: str,
    purpose: Purpose,
    day: date,
    dimension_set: str,
    may_use_share: bool,
    now: datetime,
    overview_default: bool = False,
    num_of_days: int = 1,
    token_fingerprint: str | None = None,
    unreadable: Collection[int] = (),
    answered_since: datetime | None = None,
) -> Reservation | AlreadyLanded | InFlight:
    """Take the next slot of the project's UTC day, committed when this returns.

    No slot is taken for a call that has been answered or that somebody is making: what comes back
    then says so (domain.quota.decide_slot). `day` is the day that the reply is to be stored under;
    `may_use_share` is for the schedule's first attempts; `overview_default` is the setting that
    businesses without an override follow; `unreadable` are landed exports that were found damaged
    and do not count, nor does one that was asked for before `answered_since`. Raises QuotaRefused,
    or UnknownBusiness.
    """
    utc_day = utc_day_of(now)
    wanted = _VeryCall(business_id, day, dimension_set, num_of_days)
    with of_a_known_business(business_id), database.transaction() as connection:
        _lock_project_day(connection, project_id, utc_day)
        # The ledger is read before the replies, and whoever makes a call lands before he settles:
        # between the two reads a call can at worst still look in flight, never as if nobody had
        # made it.
        calls = _calls(connection, project_id, utc_day)
        landed = _landed(connection, wanted, since=answered_since)
        used = max((call.slot for call in calls), default=0)
        rate_limited = _is_rate_limited(calls)
        owed: set[OwedCall] = set()
        if not may_use_share and used < DAILY_CALL_LIMIT and not rate_limited:
            owed = _owed(
                connection,
                {project_id: calls},
                utc_day=utc_day,
                overview_default=overview_default,
                now=now,
            )[project_id]
        decision = decide_slot(
            purpose=purpose,
            landed=[reply for reply in landed if reply.export_id not in unreadable],
            in_flight=_in_flight(calls, wanted),
            used=used,
            rate_limited=rate_limited,
            owed=owed,
            pays_off=(business_id, dimension_set) if num_of_days == 1 else None,
            may_use_share=may_use_share,
            now=now,
        )
        if isinstance(decision, SlotRefused):
            raise _refused(
                decision.reason, project_id=project_id, utc_day=utc_day, used=used, owed=owed
            )
        if not isinstance(decision, SlotGranted):
            return decision
        reservation = Reservation(
            project_id=project_id,
            utc_day=utc_day,
            slot=used + 1,
            business_id=business_id,
            purpose=purpose,
            dimension_set=dimension_set,
        )
        connection.execute(
            insert(api_calls).values(
                project_id=project_id,
                utc_day=utc_day,
                slot=reservation.slot,
                business_id=business_id,
                purpose=purpose.value,
                dimension_set=dimension_set,
                num_of_days=num_of_days,
                token_fingerprint=token_fingerprint,
                reserved_at=now,
            )
        )
    return reservation


def settle(
    database: Database, reservation: Reservation, *, outcome: CallOutcome, now: datetime
) -> None:
    """Write down what became of the call. The first outcome stands; the slot stays used."""
    with database.transaction() as connection:
        connection.execute(
            update(api_calls)
            .where(
                api_calls.c.project_id == reservation.project_id,
                api_calls.c.utc_day == reservation.utc_day,
                api_calls.c.slot == reservation.slot,
                api_calls.c.outcome.is_(None),
            )
            .values(outcome=outcome.value, settled_at=now)
        )


def outcome_of_slot(
    database: Database, *, project_id: str, utc_day: date, slot: int
) -> CallOutcome | None:
    """What became of one call so far; None while it is in flight."""
    statement = select(api_calls.c.outcome).where(
        api_calls.c.project_id == project_id,
        api_calls.c.utc_day == utc_day,
        api_calls.c.slot == slot,
    )
    with database.reading() as connection:
        outcome = connection.execute(statement).scalar()
    return CallOutcome(outcome) if outcome else None


def settle_left_behind(
    database: Database, *, project_ids: Collection[str], utc_days: Collection[date], now: datetime
) -> int:
    """Settle the slots whose process died before it could; returns how many those were.

    One whose reply has landed is what the reply was judged to be. One without a reply is abandoned
    once nobody can be making its call any more; it stays spent.
    """
    column = api_calls.c
    unsettled = select(api_calls).where(
        column.project_id.in_(set(project_ids)),
        column.utc_day.in_(set(utc_days)),
        column.outcome.is_(None),
    )
    with database.reading() as connection:
        calls = list(connection.execute(unsettled))
        replies = _replies_to(connection, calls)
    settled: list[dict[str, object]] = []
    for call in calls:
        reply = _reply_to(call, replies)
        outcome = outcome_left_behind(reserved_at=call.reserved_at, reply=reply, now=now)
        if outcome is not None:
            settled.append(
                {
                    "of_project": call.project_id,
                    "on_day": call.utc_day,
                    "in_slot": call.slot,
                    "became": outcome.value,
                    "at": now,
                }
            )
    if settled:
        with database.transaction() as connection:
            connection.execute(
                update(api_calls)
                .where(
                    column.project_id == bindparam("of_project"),
                    column.utc_day == bindparam("on_day"),
                    column.slot == bindparam("in_slot"),
                    column.outcome.is_(None),
                )
                .values(outcome=bindparam("became"), settled_at=bindparam("at")),
                settled,
            )
    return len(settled)


def quota_state(
    database: Database, *, project_id: str, now: datetime, overview_default: bool = False
) -> QuotaState:
    """How many calls are used, and how many are kept for the schedule, on the UTC day of `now`."""
    states = quota_states(
        database, project_ids=[project_id], now=now, overview_default=overview_default
    )
    return states[project_id]


def quota_states(
    database: Database,
    *,
    project_ids: Collection[str],
    now: datetime,
    overview_default: bool = False,
) -> dict[str, QuotaState]:
    """`quota_state` of many projects in as many queries as of one."""
    utc_day = utc_day_of(now)
    calls: dict[str, list[Row[Any]]] = {project_id: [] for project_id in project_ids}
    statement = (
        select(*_TAKEN_COLUMNS)
        .where(api_calls.c.project_id.in_(calls), api_calls.c.utc_day == utc_day)
        .order_by(api_calls.c.slot)
    )
    with database.reading() as connection:
        for call in connection.execute(statement):
            calls[call.project_id].append(call)
        owed = _owed(connection, calls, utc_day=utc_day, overview_default=overview_default, now=now)
    return {
        project_id: _state(project_id, utc_day, taken, owed=owed[project_id])
        for project_id, taken in calls.items()
    }


_TAKEN_COLUMNS: Final[list[Column[Any]]] = [
    column for column in api_calls.c if column.name not in {"settled_at", "token_fingerprint"}
]


def _state(
    project_id: str, utc_day: date, calls: Sequence[Row[Any]], *, owed: Collection[OwedCall]
) -> QuotaState:
    used = max((call.slot for call in calls), default=0)
    return QuotaState(
        project_id=project_id,
        utc_day=utc_day,
        used=used,
        kept=min(len(owed), DAILY_CALL_LIMIT - used),
        rate_limited=_is_rate_limited(calls),
    )


def quota_usage(
    database: Database, *, project_ids: Collection[str] | None = None, now: datetime
) -> dict[str, QuotaUsage]:
    """How many calls of the UTC day of `now` are used.

    By the projects that businesses are connected to, or those named; one without a call is left
    out.
    """
    column = api_calls.c
    limited = case((column.outcome == CallOutcome.RATE_LIMITED.value, 1))
    # Projects by name even where all are asked for: by the day alone every call would be read.
    asked = select(business_config.c.project_id) if project_ids is None else list(set(project_ids))
    statement = (
        select(column.project_id, func.max(column.slot), func.count(limited))
        .where(column.project_id.in_(asked), column.utc_day == utc_day_of(now))
        .group_by(column.project_id)
    )
    with database.reading() as connection:
        return {
            project_id: QuotaUsage(used=used, rate_limited=refusals > 0)
            for project_id, used, refusals in connection.execute(statement).all()
        }


def list_calls(database: Database, *, project_id: str, utc_day: date) -> list[CallRecord]:
    """The slots of a project's day, in the order they were taken."""
    with database.reading() as connection:
        calls = _calls(connection, project_id, utc_day)
    return [
        CallRecord(
            slot=call.slot,
            business_id=call.business_id,
            purpose=Purpose(call.purpose),
            dimension_set=call.dimension_set,
            num_of_days=call.num_of_days,
            token_fingerprint=call.token_fingerprint,
            reserved_at=call.reserved_at,
            settled_at=call.settled_at,
            outcome=CallOutcome(call.outcome) if call.outcome else None,
        )
        for call in calls
    ]


def _lock_project_day(connection: Connection, project_id: str, utc_day: date) -> None:
    """One reservation of a project and day at a time; SQLite has a single writer anyway."""
    if connection.dialect.name == "postgresql":
        digest = hashlib.blake2b(f"{project_id}/{utc_day}".encode(), digest_size=8).digest()
        key = int.from_bytes(digest, signed=True)
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


def _calls(connection: Connection, project_id: str, utc_day: date) -> list[Row[Any]]:
    statement = (
        select(api_calls)
        .where(api_calls.c.project_id == project_id, api_calls.c.utc_day == utc_day)
        .order_by(api_calls.c.slot)
    )
    return list(connection.execute(statement))


def _is_rate_limited(calls: Sequence[Row[Any]]) -> bool:
    return any(call.outcome == CallOutcome.RATE_LIMITED for call in calls)


_REPLY_COLUMNS: Final[list[Column[Any]]] = [
    column for column in raw_exports.c if column.name != "body_zstd"
]


def _landed(
    connection: Connection, wanted: _VeryCall, *, since: datetime | None
) -> list[AlreadyLanded]:
    column = raw_exports.c
    statement = select(*_REPLY_COLUMNS).where(
        column.date == wanted.day,
        column.business_id == wanted.business_id,
        column.dimension_set == wanted.dimension_set,
        column.num_of_days == wanted.num_of_days,
    )
    if since is not None:
        statement = statement.where(column.requested_at >= since)
    return [_already_landed(row) for row in connection.execute(statement)]


def _already_landed(row: Row[Any]) -> AlreadyLanded:
    verdict = Verdict(row.verdict) if row.verdict else None
    return AlreadyLanded(export_id=row.id, verdict=verdict, detail=row.verdict_detail)


def _in_flight(calls: list[Row[Any]], wanted: _VeryCall) -> list[InFlight]:
    """Unsettled slots of the very call. Its day follows from the UTC day that they are of."""
    return [
        InFlight(
            utc_day=call.utc_day,
            slot=call.slot,
            until=lease_ends_at(call.reserved_at),
            token_fingerprint=call.token_fingerprint,
        )
        for call in calls
        if call.outcome is None
        and call.business_id == wanted.business_id
        and call.dimension_set == wanted.dimension_set
        and call.num_of_days == wanted.num_of_days
    ]


_LONGEST_WINDOW: Final = timedelta(days=MAX_DAYS)


def _replies_to(connection: Connection, calls: list[Row[Any]]) -> list[Row[Any]]:
    """Every reply that may belong to one of these slots."""
    if not calls:
        return []
    column = raw_exports.c
    statement = select(*_REPLY_COLUMNS).where(
        column.business_id.in_({call.business_id for call in calls}),
        column.date >= min(call.utc_day for call in calls) - _LONGEST_WINDOW,
        column.date <= max(call.utc_day for call in calls),
    )
    rows: Sequence[Row[Any]] = connection.execute(statement).all()
    return list(rows)


def _reply_to(call: Row[Any], replies: list[Row[Any]]) -> AlreadyLanded | None:
    """The reply that came of a slot. The slot of another UTC day may have the same number."""
    for reply in replies:
        if (
            reply.project_id == call.project_id
            and reply.slot == call.slot
            and reply.business_id == call.business_id
            and reply.dimension_set == call.dimension_set
            and reply.num_of_days == call.num_of_days
            and call.reserved_at <= reply.requested_at <= lease_ends_at(call.reserved_at)
        ):
            return _already_landed(reply)
    return None


def _owed(
    connection: Connection,
    calls: Mapping[str, Sequence[Row[Any]]],
    *,
    utc_day: date,
    overview_default: bool,
    now: datetime,
) -> dict[str, set[OwedCall]]:
    """The calls of yesterday that the schedule has still to make and nobody has in flight.

    By project, for those that `calls`, the slots they have taken on this UTC day, name.
    """
    owed: dict[str, set[OwedCall]] = {project_id: set() for project_id in calls}
    yesterday = utc_day - timedelta(days=1)
    config, jobs, landed = business_config.c, sync_jobs.c, raw_exports.c
    settled_by_schedule = exists().where(
        jobs.business_id == config.business_id,
        # A range, though of one day: SQLite would else look by day and trigger, which all jobs of
        # the day share, and not by business and day.
        jobs.date.between(yesterday, yesterday),
        jobs.trigger == Trigger.SCHEDULE.value,
        jobs.finished_at.is_not(None),
    )
    enabled = connection.execute(
        select(config.project_id, config.business_id, config.overview).where(
            config.project_id.in_(calls), config.sync_enabled, ~settled_by_schedule
        )
    ).all()
    if not enabled:
        return owed
    arrived = connection.execute(
        select(landed.business_id, landed.dimension_set).where(
            landed.date == yesterday,
            landed.num_of_days == 1,
            landed.business_id.in_([row.business_id for row in enabled]),
        )
    )
    not_owed = {(row.business_id, row.dimension_set) for row in arrived}
    for project_id, business_id, overview in enabled:
        wanted = combos_of_a_day(overview=overview_default if overview is None else overview)
        owed[project_id] |= {(business_id, combo.dimension_set) for combo in wanted} - not_owed
    for project_id, taken in calls.items():
        owed[project_id] -= {
            (call.business_id, call.dimension_set)
            for call in taken
            if call.outcome is None
            and call.num_of_days == 1
            and now < lease_ends_at(call.reserved_at)
        }
    return owed


def _refused(
    reason: RefusalReason, *, project_id: str, utc_day: date, used: int, owed: set[OwedCall]
) -> QuotaRefused:
    message = refusal_message(
        reason, project_id=project_id, utc_day=utc_day, used=used, kept=len(owed)
    )
    return QuotaRefused(message, resets_at=resets_at(utc_day))
