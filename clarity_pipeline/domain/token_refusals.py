"""When Clarity's refusals of a token are enough to switch its business off.

Decided from the quota ledger alone, so that the job, a connection test and the sensor that looks
after a dead process come to the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from clarity_pipeline.domain.quota import CallOutcome

ACCEPTANCES: Final = frozenset(
    {
        CallOutcome.LANDED,
        CallOutcome.DIMENSION_IGNORED,
        CallOutcome.REQUEST_REJECTED,
        CallOutcome.REPLY_UNREADABLE,
    }
)
"""Answers that Clarity gives only to a token it takes. What is neither these nor a refusal (a
time-out, 5xx, 429, a broken connection) says nothing about the token."""

WRITTEN_WITHIN: Final = timedelta(minutes=10)
"""How long after its `settled_at` an answer may still appear in the ledger: a transaction that
waits for a lock, or a host whose clock is slow."""


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """A settled call: the token it was sent with and how it ended. Instants are UTC."""

    token_fingerprint: str | None
    reserved_at: datetime
    settled_at: datetime
    outcome: CallOutcome


@dataclass(frozen=True, slots=True)
class RefusalsInARow:
    """How often a token was refused since it was last accepted, and when most recently."""

    count: int
    latest_at: datetime | None


def refusals_in_a_row(
    newest_first: Iterable[TokenAnswer], *, fingerprint: str, trusted_since: datetime | None
) -> RefusalsInARow:
    """Count the refusals of exactly this token since it was last accepted.

    Calls that were sent before `trusted_since` do not count: a person has vouched for the token
    since, and may have mended on Clarity's side what made it refuse.
    """
    count = 0
    latest_at: datetime | None = None
    for answer in newest_first:
        if answer.token_fingerprint != fingerprint:
            continue
        if trusted_since is not None and answer.reserved_at < trusted_since:
            continue
        if answer.outcome in ACCEPTANCES:
            break
        if answer.outcome is CallOutcome.AUTH_FAILED:
            count += 1
            latest_at = latest_at or answer.settled_at
    return RefusalsInARow(count, latest_at)


def reason_for_switching_off(refused_at: datetime, *, answer: str | None) -> str:
    """What people read of it; `answer` is what the call said where anybody lived to hear it."""
    said = answer or (
        "Clarity refused the token (HTTP 401 or 403); generate a new one in Clarity, Settings, "
        "Data Export, and connect again."
    )
    return f"On {refused_at.astimezone(UTC):%Y-%m-%d}: {said}"


def looked_until(cursor: str | None) -> datetime | None:
    """Up to which instant the ledger was searched for refusals; None is never.

    Raises ValueError for a cursor that `cursor_after` did not make.
    """
    return None if cursor is None else datetime.fromisoformat(cursor)


def cursor_after(now: datetime) -> str:
    """The cursor of a search that was made at `now`.

    It stays behind, because answers do not appear in the order of their instants. Looking at one
    twice does nothing: whoever is switched off already, or was vouched for since, is left alone.
    """
    return (now - WRITTEN_WITHIN).isoformat()
