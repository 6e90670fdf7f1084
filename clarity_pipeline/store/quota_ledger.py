"""The ten calls a project has per UTC day, given out one slot at a time.

A slot is reserved in a committed transaction of its own before the request leaves, and is never
given back. The primary key and a CHECK make an eleventh call impossible whatever runs beside it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, insert, select, text, update

from clarity_pipeline.domain.dimensions import combos_of_a_day
from clarity_pipeline.domain.errors import QuotaRefused
from clarity_pipeline.domain.quota import (
    DAILY_CALL_LIMIT,
    CallOutcome,
    OwedCall,
    Purpose,
    QuotaState,
    RefusalReason,
    refusal_message,
    refuse_slot,
    resets_at,
    utc_day_of,
)
from clarity_pipeline.domain.sync_jobs import Trigger
from clarity_pipeline.store.businesses import check_businesses_exist
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
    dimension_set: str,
    may_use_share: bool,
    now: datetime,
    overview_default: bool = False,
    num_of_days: int = 1,
    token_fingerprint: str | None = None,
) -> Reservation:
    """Take the next slot of the project's UTC day, committed when this returns.

    `may_use_share` is for the schedule's first attempts (domain.quota.refuse_slot);
    `overview_default` is the setting that businesses without an override follow. Raises
    QuotaRefused, or UnknownBusiness.
    """
    utc_day = utc_day_of(now)
    with database.transaction() as connection:
        _lock_project_day(connection, project_id, utc_day)
        calls = _calls(connection, project_id, utc_day)
        used = max((call.slot for call in calls), default=0)
        rate_limited = _is_rate_limited(calls)
        owed: set[OwedCall] = set()
        if not may_use_share and used < DAILY_CALL_LIMIT and not rate_limited:
            owed = _owed(connection, project_id, utc_day, calls, overview_default=overview_default)
        reason = refuse_slot(
            used=used,
            rate_limited=rate_limited,
            owed=owed,
            wanted=(business_id, dimension_set),
            may_use_share=may_use_share,
        )
        if reason is not None:
            raise _refused(reason, project_id=project_id, utc_day=utc_day, used=used, owed=owed)
        check_businesses_exist(connection, [business_id])
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


def quota_state(
    database: Database, *, project_id: str, now: datetime, overview_default: bool = False
) -> QuotaState:
    """How many calls are used, and how many are kept for the schedule, on the UTC day of `now`."""
    utc_day = utc_day_of(now)
    with database.reading() as connection:
        calls = _calls(connection, project_id, utc_day)
        owed = _owed(connection, project_id, utc_day, calls, overview_default=overview_default)
    used = max((call.slot for call in calls), default=0)
    return QuotaState(
        project_id=project_id,
        utc_day=utc_day,
        used=used,
        kept=min(len(owed), DAILY_CALL_LIMIT - used),
        rate_limited=_is_rate_limited(calls),
    )


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


def _is_rate_limited(calls: list[Row[Any]]) -> bool:
    return any(call.outcome == CallOutcome.RATE_LIMITED for call in calls)


def _owed(
    connection: Connection,
    project_id: str,
    utc_day: date,
    calls: list[Row[Any]],
    *,
    overview_default: bool,
) -> set[OwedCall]:
    """The calls of yesterday that the schedule has still to make and nobody has in flight."""
    yesterday = utc_day - timedelta(days=1)
    config, jobs, landed = business_config.c, sync_jobs.c, raw_exports.c
    settled_by_schedule = select(jobs.business_id).where(
        jobs.date == yesterday,
        jobs.trigger == Trigger.SCHEDULE.value,
        jobs.finished_at.is_not(None),
    )
    enabled = connection.execute(
        select(config.business_id, config.overview).where(
            config.project_id == project_id,
            config.sync_enabled,
            config.business_id.not_in(settled_by_schedule),
        )
    ).all()
    if not enabled:
        return set()
    owed = {
        (business_id, combo.dimension_set)
        for business_id, overview in enabled
        for combo in combos_of_a_day(overview=overview_default if overview is None else overview)
    }
    arrived = connection.execute(
        select(landed.business_id, landed.dimension_set).where(
            landed.date == yesterday,
            landed.num_of_days == 1,
            landed.business_id.in_([business_id for business_id, _ in enabled]),
        )
    )
    in_flight = {(call.business_id, call.dimension_set) for call in calls if call.outcome is None}
    return owed.difference(((row.business_id, row.dimension_set) for row in arrived), in_flight)


def _refused(
    reason: RefusalReason, *, project_id: str, utc_day: date, used: int, owed: set[OwedCall]
) -> QuotaRefused:
    message = refusal_message(
        reason, project_id=project_id, utc_day=utc_day, used=used, kept=len(owed)
    )
    return QuotaRefused(message, resets_at=resets_at(utc_day))
