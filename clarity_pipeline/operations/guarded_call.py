"""One call the way every call is made: reserve a slot, send, land, judge, settle."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import SecretStr

from clarity_pipeline.domain.collection import (
    MOST_ATTEMPTS,
    ComboOutcome,
    ComboStatus,
    PlannedCall,
    call_outcome_of,
    outcome_of_error,
    verdict_of,
)
from clarity_pipeline.domain.days import check_is_collectable
from clarity_pipeline.domain.errors import (
    AuthenticationFailed,
    ClarityError,
    ExportError,
    TransientFailure,
)
from clarity_pipeline.domain.exports import Export, ExportRequest, Verdict
from clarity_pipeline.domain.quota import CallOutcome, Purpose
from clarity_pipeline.export_api.client import ExportApiClient
from clarity_pipeline.store import connections, exports, quota_ledger
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.quota_ledger import Reservation
from clarity_pipeline.store.vault import TokenVault

logger = logging.getLogger(__name__)

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A business's token as it was read just before a call."""

    business_id: str
    fingerprint: str
    secret: SecretStr = field(compare=False)


@dataclass
class GuardedCaller:
    """Makes calls that can neither overdraw the quota nor lose a reply.

    The store is used from worker threads so that other calls go on meanwhile. A token that
    Clarity has just refused is not sent again by this caller: each repetition would cost the
    business another of its ten calls for the same answer.
    """

    database: Database
    vault: TokenVault
    client: ExportApiClient
    clock: Clock
    overview_default: bool
    retry_after_seconds: float

    _refused_tokens: set[StoredToken] = field(
        default_factory=lambda: set[StoredToken](), init=False, repr=False
    )

    async def make(self, call: PlannedCall) -> ComboOutcome:
        """Make a call and, after a transient failure, one more; every outcome is a value.

        Raises only on bugs: an error of the Export API, of the store or of the quota becomes the
        outcome of its combo, and no other business notices.
        """
        calls_spent = 0
        failure: ClarityError | None = None
        for attempt in range(1, MOST_ATTEMPTS[call.purpose] + 1):
            if attempt > 1:
                await asyncio.sleep(self.retry_after_seconds)
            try:
                check_is_collectable(call.day, now=self.clock())
                token = await self._token(call)
                reservation = await self._reserve(call, token, first_attempt=attempt == 1)
            except ClarityError as refusal:
                # A retry that finds no slot leaves the failure it was meant to mend.
                failure = failure or refusal
                break
            calls_spent += 1
            try:
                await self._send(call, reservation, token)
            except TransientFailure as error:
                failure = error
                continue
            except ClarityError as error:
                failure = error
                break
            return ComboOutcome(
                call.business_id, call.combo.dimension_set, ComboStatus.LANDED, calls=calls_spent
            )
        assert failure is not None
        outcome = outcome_of_error(call, failure, calls=calls_spent)
        logger.warning(
            "business %s day %s %s: %s (%s)",
            call.business_id,
            call.day,
            call.combo.slug,
            outcome.status.value,
            failure,
        )
        return outcome

    async def _token(self, call: PlannedCall) -> StoredToken:
        token, fingerprint = await asyncio.to_thread(
            connections.read_token, self.database, self.vault, call.business_id
        )
        stored = StoredToken(call.business_id, fingerprint, token)
        if stored in self._refused_tokens:
            raise AuthenticationFailed(
                "Clarity has just refused this token for another call; this one was not sent."
            )
        return stored

    async def _reserve(
        self, call: PlannedCall, token: StoredToken, *, first_attempt: bool
    ) -> Reservation:
        return await asyncio.to_thread(
            quota_ledger.reserve,
            self.database,
            project_id=call.project_id,
            business_id=call.business_id,
            purpose=call.purpose,
            dimension_set=call.combo.dimension_set,
            num_of_days=call.num_of_days,
            token_fingerprint=token.fingerprint,
            may_use_share=first_attempt and call.purpose is Purpose.SCHEDULE,
            overview_default=self.overview_default,
            now=self.clock(),
        )

    async def _send(self, call: PlannedCall, reservation: Reservation, token: StoredToken) -> None:
        landed_id: int | None = None

        async def land(export: Export) -> None:
            nonlocal landed_id
            landed_id = await asyncio.to_thread(
                exports.land,
                self.database,
                business_id=call.business_id,
                project_id=call.project_id,
                day=call.day,
                purpose=call.purpose,
                slot=reservation.slot,
                export=export,
            )

        try:
            _, summary = await self.client.fetch(
                ExportRequest(call.combo, call.num_of_days),
                token.secret,
                clock=self.clock,
                on_reply=land,
            )
        except ExportError as error:
            if isinstance(error, AuthenticationFailed):
                self._refused_tokens.add(token)
            verdict = verdict_of(error)
            if landed_id is not None and verdict is not None:
                await self._judge(landed_id, verdict, detail=str(error))
            await self._settle(reservation, call_outcome_of(error))
            raise
        assert landed_id is not None
        await asyncio.to_thread(
            exports.judge,
            self.database,
            export_id=landed_id,
            verdict=Verdict.ACCEPTED,
            summary=summary,
            detail=None,
        )
        await self._settle(reservation, CallOutcome.LANDED)

    async def _judge(self, export_id: int, verdict: Verdict, *, detail: str) -> None:
        await asyncio.to_thread(
            exports.judge,
            self.database,
            export_id=export_id,
            verdict=verdict,
            summary=None,
            detail=detail,
        )

    async def _settle(self, reservation: Reservation, outcome: CallOutcome) -> None:
        await asyncio.to_thread(
            quota_ledger.settle, self.database, reservation, outcome=outcome, now=self.clock()
        )
