"""Connecting a business to its Clarity project, and testing the connection."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime

from clarity_pipeline.domain.collection import ComboOutcome, ComboStatus, PlannedCall
from clarity_pipeline.domain.connection_list import parse_connection_list
from clarity_pipeline.domain.connections import parse_project_id, parse_token
from clarity_pipeline.domain.days import day_collected_at
from clarity_pipeline.domain.dimensions import URL_DEVICE
from clarity_pipeline.domain.errors import NotConnected
from clarity_pipeline.domain.quota import Purpose
from clarity_pipeline.operations.guarded_call import GuardedCaller
from clarity_pipeline.operations.rebuild_day import rebuild
from clarity_pipeline.operations.token_refusals import switch_off_refused
from clarity_pipeline.store import connections
from clarity_pipeline.store.connections import ConnectionRecord
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.vault import TokenVault


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a test of a connection found, and the sentence that tells people.

    `switched_off` says whether the business's sync was switched off because of it.
    """

    outcome: ComboOutcome
    sentence: str
    switched_off: bool

    @property
    def succeeded(self) -> bool:
        return self.outcome.status is ComboStatus.LANDED


def connect(
    database: Database,
    vault: TokenVault,
    *,
    business_id: str,
    project_id: str,
    token: str,
    now: datetime,
) -> ConnectionRecord:
    """Store a business's project and token, replacing an earlier pair; spends no call.

    Raises UnknownBusiness, InvalidProjectId or InvalidToken, and writes nothing then.
    """
    connections.save_connection(
        database,
        vault,
        business_id=business_id,
        project_id=parse_project_id(project_id),
        token=parse_token(token, now=now),
        now=now,
    )
    return connections.get_connection(database, business_id)


def update_connection(
    database: Database,
    vault: TokenVault,
    *,
    business_id: str,
    project_id: str,
    token: str | None,
    overview: bool | None,
    now: datetime,
) -> None:
    """Bring a connection to what is wanted; without a `token` the stored one is kept.

    `overview` is the business's own choice, None to follow the setting. Raises UnknownBusiness,
    InvalidProjectId, InvalidToken, NotConnected where there is no token to keep, or SecretKeyError.
    """
    project_id = parse_project_id(project_id)
    if token is None and connections.get_connection(database, business_id).project_id != project_id:
        token = connections.read_token(database, vault, business_id)[0].get_secret_value()
    if token is not None:
        connect(
            database,
            vault,
            business_id=business_id,
            project_id=project_id,
            token=token,
            now=now,
        )
    connections.set_overview(database, business_id=business_id, overview=overview, now=now)


@dataclass(frozen=True, slots=True)
class ConnectedBusiness:
    """A business that a list has connected; `is_new` says whether the list added it."""

    business_id: str
    is_new: bool
    project_id: str
    token_last4: str
    token_expires_at: datetime | None


def connect_many(
    database: Database, vault: TokenVault, *, text: str, now: datetime
) -> list[ConnectedBusiness]:
    """Connect every business of a CSV list, adding those there are not yet; spends no call.

    All of them or none: raises InvalidConnectionList with every row that cannot be used, and
    writes nothing then. What somebody paused stays paused.
    """
    rows = parse_connection_list(text, now=now)
    added = connections.save_connections(database, vault, rows=rows, now=now)
    return [
        ConnectedBusiness(
            business_id=row.business_id,
            is_new=row.business_id in added,
            project_id=row.project_id,
            token_last4=row.token.last4,
            token_expires_at=row.token.expires_at,
        )
        for row in rows
    ]


def probe_connection(
    caller: GuardedCaller, *, business_id: str, auth_failures_before_disable: int
) -> ProbeResult:
    """Spend one call on asking Clarity whether it takes the token, and keep the reply.

    The call is yesterday's most valuable combo: where the day has not been collected yet the
    reply stands for it, rows and roll-ups included. Works for a paused business too. A token
    that has now been refused so many times in a row switches the sync off.
    Raises UnknownBusiness or NotConnected.
    """
    record = connections.get_connection(caller.database, business_id)
    if record.project_id is None:
        raise NotConnected(business_id)
    call = PlannedCall(
        business_id=business_id,
        project_id=record.project_id,
        day=day_collected_at(caller.clock()),
        combo=URL_DEVICE,
        purpose=Purpose.TEST,
    )
    outcome = asyncio.run(_make_once(caller, call))
    if outcome.status is not ComboStatus.QUOTA_REFUSED:
        connections.record_test(
            caller.database,
            business_id=business_id,
            result=outcome.error_code or "ok",
            now=caller.clock(),
        )
    if outcome.status is ComboStatus.LANDED:
        connections.record_synced(caller.database, business_id=business_id, at=caller.clock())
        rebuild(caller.database, day=call.day, now=caller.clock(), business_ids=[business_id])
    switched_off = switch_off_refused(
        caller.database,
        [outcome],
        auth_failures_before_disable=auth_failures_before_disable,
        now=caller.clock(),
    )
    return ProbeResult(outcome, _sentence(outcome), switched_off=bool(switched_off))


async def _make_once(caller: GuardedCaller, call: PlannedCall) -> ComboOutcome:
    async with caller.client:
        return await caller.make(call)


def _sentence(outcome: ComboOutcome) -> str:
    match outcome.status:
        case ComboStatus.LANDED:
            return "Clarity accepts the token; the reply was kept."
        case ComboStatus.RATE_LIMITED:
            return f"The quota is spent, so the token could not be judged: {outcome.message}"
        case _:
            return outcome.message or outcome.status.value
