"""Switching off the sync of businesses whose token Clarity refuses."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from clarity_pipeline.domain.collection import ComboOutcome, ComboStatus
from clarity_pipeline.domain.connections import DisabledBy
from clarity_pipeline.domain.token_refusals import (
    cursor_after,
    looked_until,
    reason_for_switching_off,
    refusals_in_a_row,
)
from clarity_pipeline.store import call_history, connections
from clarity_pipeline.store.database import Database

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RefusalSweep:
    """Which businesses a sweep has switched off, and where the next one goes on."""

    switched_off: tuple[str, ...]
    cursor: str


def switch_off_refused(
    database: Database,
    outcomes: Iterable[ComboOutcome],
    *,
    auth_failures_before_disable: int,
    now: datetime,
) -> list[str]:
    """Switch off the businesses among these outcomes whose token has been refused too often.

    Returns the ids of those that this has switched off.
    """
    answers = {
        outcome.business_id: outcome.message
        for outcome in outcomes
        # Without a call it is the echo of a refusal that another outcome tells in full.
        if outcome.status is ComboStatus.AUTH_FAILED and outcome.calls
    }
    return _switch_off(
        database, answers, auth_failures_before_disable=auth_failures_before_disable, now=now
    )


def sweep_refusals(
    database: Database, *, cursor: str | None, auth_failures_before_disable: int, now: datetime
) -> RefusalSweep:
    """Switch off whoever was refused since the cursor and is still enabled with that token.

    For refusals whose process died before it could act on them; from the beginning of the ledger
    where there is no cursor yet.
    """
    refused = call_history.businesses_refused_since(database, looked_until(cursor))
    switched_off = _switch_off(
        database,
        dict.fromkeys(refused),
        auth_failures_before_disable=auth_failures_before_disable,
        now=now,
    )
    return RefusalSweep(tuple(switched_off), cursor_after(now))


def _switch_off(
    database: Database,
    answers: Mapping[str, str | None],
    *,
    auth_failures_before_disable: int,
    now: datetime,
) -> list[str]:
    switched_off: list[str] = []
    for record in connections.list_connections(database, answers.keys()):
        fingerprint = record.token_fingerprint
        if fingerprint is None or not record.is_enabled:
            continue
        refusals = refusals_in_a_row(
            call_history.token_answers(
                database, business_id=record.business_id, token_fingerprint=fingerprint
            ),
            fingerprint=fingerprint,
            trusted_since=record.token_trusted_since,
        )
        if refusals.latest_at is None or refusals.count < auth_failures_before_disable:
            continue
        # A token that was pasted since it was read above is not the one that was refused.
        if connections.set_enabled(
            database,
            business_id=record.business_id,
            enabled=False,
            now=now,
            disabled_by=DisabledBy.AUTH_FAILURE,
            reason=reason_for_switching_off(refusals.latest_at, answer=answers[record.business_id]),
            only_if_fingerprint=fingerprint,
        ):
            logger.warning(
                "business %s: switched off after %d refusals of its token in a row",
                record.business_id,
                refusals.count,
            )
            switched_off.append(record.business_id)
    return switched_off
