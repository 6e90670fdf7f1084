"""What the quota ledger tells of calls afterwards: of a token, and of a business in a span."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import and_, select

from clarity_pipeline.domain.quota import CallOutcome, Purpose, utc_day_of
from clarity_pipeline.domain.token_refusals import TokenAnswer
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import api_calls, business_config

MOST_ANSWERS: Final = 1000
"""A hundred days of calls: more than any number of refusals in a row that can be asked for."""


@dataclass(frozen=True, slots=True)
class SpentCall:
    """A reserved slot and what became of it; None while nobody has said."""

    dimension_set: str
    reserved_at: datetime
    outcome: CallOutcome | None


def token_answers(
    database: Database, *, business_id: str, token_fingerprint: str
) -> list[TokenAnswer]:
    """The settled calls that a business made with a token, newest first."""
    calls = api_calls.c
    statement = (
        select(calls.token_fingerprint, calls.reserved_at, calls.settled_at, calls.outcome)
        .where(
            calls.business_id == business_id,
            calls.token_fingerprint == token_fingerprint,
            calls.outcome.is_not(None),
        )
        .order_by(calls.settled_at.desc(), calls.utc_day.desc(), calls.slot.desc())
        .limit(MOST_ANSWERS)
    )
    with database.reading() as connection:
        return [
            TokenAnswer(
                token_fingerprint=row.token_fingerprint,
                reserved_at=row.reserved_at,
                settled_at=row.settled_at,
                outcome=CallOutcome(row.outcome),
            )
            for row in connection.execute(statement)
        ]


def businesses_refused_since(database: Database, since: datetime | None) -> list[str]:
    """The enabled businesses whose stored token was refused at or after this instant, by id."""
    calls, config = api_calls.c, business_config.c
    refused = and_(
        calls.business_id == config.business_id,
        calls.token_fingerprint == config.token_fingerprint,
        calls.outcome == CallOutcome.AUTH_FAILED.value,
    )
    if since is not None:
        # A call may be settled on the day after the one it was booked on; the day has an index.
        refused = and_(
            refused,
            calls.utc_day >= utc_day_of(since) - timedelta(days=1),
            calls.settled_at >= since,
        )
    statement = (
        select(config.business_id)
        .join(api_calls, refused)
        .where(config.sync_enabled, config.project_id.is_not(None))
        .distinct()
        .order_by(config.business_id)
    )
    with database.reading() as connection:
        return list(connection.scalars(statement))


def calls_of_business(
    database: Database,
    *,
    business_id: str,
    purpose: Purpose,
    since: datetime,
    before: datetime | None,
) -> list[SpentCall]:
    """The slots a business took for 24 h replies in a span of time, oldest first."""
    calls = api_calls.c
    statement = (
        select(calls.dimension_set, calls.reserved_at, calls.outcome)
        .where(
            calls.business_id == business_id,
            calls.purpose == purpose.value,
            calls.num_of_days == 1,
            calls.utc_day >= utc_day_of(since),
            calls.reserved_at >= since,
        )
        .order_by(calls.reserved_at, calls.utc_day, calls.slot)
    )
    if before is not None:
        statement = statement.where(calls.reserved_at < before)
    with database.reading() as connection:
        return [
            SpentCall(
                dimension_set=row.dimension_set,
                reserved_at=row.reserved_at,
                outcome=CallOutcome(row.outcome) if row.outcome else None,
            )
            for row in connection.execute(statement)
        ]
