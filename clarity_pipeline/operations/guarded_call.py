"""One call the way every call is made: reserve a slot, send, land, judge, settle."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydantic import SecretStr

from clarity_pipeline.domain.collection import (
    ComboOutcome,
    PlannedCall,
    outcome_of_error,
    outcome_of_landed,
)
from clarity_pipeline.domain.days import check_is_collectable
from clarity_pipeline.domain.errors import (
    AuthenticationFailed,
    ClarityError,
    ExportCorrupt,
    ExportError,
    NetworkUnreachable,
    RateLimited,
)
from clarity_pipeline.domain.exports import Export, ExportRequest, Verdict, verify_reply
from clarity_pipeline.domain.failures import (
    ComboStatus,
    call_outcome_of,
    consequence_of,
    may_use_share,
    verdict_of,
)
from clarity_pipeline.domain.network import NetworkWatch
from clarity_pipeline.domain.quota import (
    CALL_LEASE,
    AlreadyLanded,
    CallOutcome,
    InFlight,
    RefusalReason,
    refusal_message,
)
from clarity_pipeline.export_api.client import ExportApiClient
from clarity_pipeline.store import connections, exports, quota_ledger
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.quota_ledger import Reservation
from clarity_pipeline.store.vault import TokenVault

logger = logging.getLogger(__name__)

Clock = Callable[[], datetime]

FIRST_LOOK_SECONDS: Final = 0.25
LONGEST_BETWEEN_LOOKS_SECONDS: Final = 2.0
"""How often to look whether somebody else's call has been settled: soon at first, then seldom."""


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A business's token as it was read just before a call."""

    business_id: str
    fingerprint: str
    secret: SecretStr = field(compare=False)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a call: whether it took a slot, and why it brought no reply of its own.

    Neither `failure` nor `found` is set where a reply of its own has landed and was accepted.
    """

    spent: bool
    failure: ClarityError | None = None
    found: AlreadyLanded | None = None


@dataclass
class GuardedCaller:
    """Makes calls that can neither overdraw the quota, nor lose a reply, nor repeat a call.

    The store is used from worker threads so that other calls go on meanwhile. A call that has
    been answered is not made, and one that another process is making is waited for. Until Clarity
    has accepted a business's token once, its project has one call out at a time, and a token that
    it has just refused is not sent again by this caller: each repetition would cost the business
    another of its ten calls for the same answer. When nobody gets a connection, sending stops.

    At most `most_at_once` calls are out at the same time; who waits for a turn, for somebody
    else's call or before a second try holds none of these places.
    """

    database: Database
    vault: TokenVault
    client: ExportApiClient
    clock: Clock
    overview_default: bool
    retry_after_seconds: float
    most_at_once: int = 16

    _places: asyncio.Semaphore = field(init=False, repr=False)
    _turns: defaultdict[str, asyncio.Lock] = field(
        default_factory=lambda: defaultdict[str, asyncio.Lock](asyncio.Lock), init=False, repr=False
    )
    _accepted: set[tuple[str, str]] = field(
        default_factory=lambda: set[tuple[str, str]](), init=False, repr=False
    )
    _refused_tokens: set[StoredToken] = field(
        default_factory=lambda: set[StoredToken](), init=False, repr=False
    )
    _network: NetworkWatch = field(default_factory=NetworkWatch, init=False, repr=False)

    def __post_init__(self) -> None:
        self._places = asyncio.Semaphore(self.most_at_once)

    async def make(self, call: PlannedCall) -> ComboOutcome:
        """Make a call and, after a transient failure, one more; every outcome is a value.

        Raises only on bugs: an error of the Export API, of the store or of the quota becomes the
        outcome of its combo, and no other business notices.
        """
        slots = 0
        failure: ClarityError | None = None
        while True:
            attempt = await self._attempt(call, retry_of=failure)
            slots += attempt.spent
            if attempt.found is not None:
                found = attempt.found
                return outcome_of_landed(call, found.verdict, found.detail, calls=slots)
            if attempt.failure is None:
                name = call.combo.dimension_set
                return ComboOutcome(call.business_id, name, ComboStatus.LANDED, calls=slots)
            if attempt.spent or failure is None:
                # Else a retry found no slot, and leaves the failure it was meant to mend.
                failure = attempt.failure
            attempts = consequence_of(failure).attempts[call.purpose]
            if not attempt.spent or slots >= attempts or self._network.is_down:
                break
            await asyncio.sleep(self.retry_after_seconds)
        if self._network.is_down and consequence_of(failure).may_be_our_network:
            failure = NetworkUnreachable()
        outcome = outcome_of_error(call, failure, calls=slots)
        logger.warning(
            "business %s day %s %s: %s (%s)",
            call.business_id,
            call.day,
            call.combo.slug,
            outcome.status.value,
            failure,
        )
        return outcome

    async def _attempt(self, call: PlannedCall, *, retry_of: ClarityError | None) -> Attempt:
        not_before: datetime | None = None
        unreadable: set[int] = set()
        try:
            async with self._turn(call):
                while True:
                    async with self._places:
                        # A lease that was waited for is over, also where the clock stands still.
                        now = max(self.clock(), not_before or self.clock())
                        token = await self._token(call, now=now)
                        taken = await self._reserve(
                            call, token, retry_of=retry_of, unreadable=unreadable, now=now
                        )
                        if isinstance(taken, Reservation):
                            return Attempt(spent=True, failure=await self._send(call, taken, token))
                    if isinstance(taken, InFlight):
                        if not await self._is_settled(call, taken, token, now=now):
                            not_before = taken.until
                        continue
                    found = await self._judged(taken)
                    if found is not None:
                        return Attempt(spent=False, found=found)
                    unreadable.add(taken.export_id)
        except ClarityError as refusal:
            return Attempt(spent=False, failure=refusal)

    @asynccontextmanager
    async def _turn(self, call: PlannedCall) -> AsyncGenerator[None]:
        """Alone among the calls of the project, until the business's token has been accepted."""
        key = (call.project_id, call.business_id)
        async with AsyncExitStack() as turn:
            if key not in self._accepted:
                await turn.enter_async_context(self._turns[call.project_id])
                if key in self._accepted:
                    await turn.aclose()
            yield

    async def _token(self, call: PlannedCall, *, now: datetime) -> StoredToken:
        """What is needed to send the call. Raises where it must not be sent."""
        check_is_collectable(call.day, now=now, num_of_days=call.num_of_days)
        if self._network.is_down:
            raise NetworkUnreachable
        token, fingerprint = await asyncio.to_thread(
            connections.read_token, self.database, self.vault, call.business_id
        )
        stored = StoredToken(call.business_id, fingerprint, token)
        if stored in self._refused_tokens:
            raise _refused_for_another_call()
        return stored

    async def _reserve(
        self,
        call: PlannedCall,
        token: StoredToken,
        *,
        retry_of: ClarityError | None,
        unreadable: set[int],
        now: datetime,
    ) -> Reservation | AlreadyLanded | InFlight:
        return await asyncio.to_thread(
            quota_ledger.reserve,
            self.database,
            project_id=call.project_id,
            business_id=call.business_id,
            purpose=call.purpose,
            day=call.day,
            dimension_set=call.combo.dimension_set,
            num_of_days=call.num_of_days,
            token_fingerprint=token.fingerprint,
            may_use_share=may_use_share(call.purpose, retry_of=retry_of),
            overview_default=self.overview_default,
            unreadable=unreadable,
            answered_since=call.answered_since,
            now=now,
        )

    async def _is_settled(
        self, call: PlannedCall, claim: InFlight, token: StoredToken, *, now: datetime
    ) -> bool:
        """Wait until somebody else's call is settled; False once its lease is over, by any clock.

        Raises AuthenticationFailed when it was refused for the very token that we would send.
        """
        loop = asyncio.get_running_loop()
        lease_left = min(claim.until - now, CALL_LEASE)
        ends_at = loop.time() + lease_left.total_seconds()
        pause = FIRST_LOOK_SECONDS
        while self.clock() < claim.until and loop.time() < ends_at:
            await asyncio.sleep(min(pause, ends_at - loop.time()))
            pause = min(1.5 * pause, LONGEST_BETWEEN_LOOKS_SECONDS)
            outcome = await asyncio.to_thread(
                quota_ledger.outcome_of_slot,
                self.database,
                project_id=call.project_id,
                utc_day=claim.utc_day,
                slot=claim.slot,
            )
            if outcome is CallOutcome.AUTH_FAILED and claim.token_fingerprint == token.fingerprint:
                self._refused_tokens.add(token)
                raise _refused_for_another_call()
            if outcome is not None:
                return True
        return False

    async def _judged(self, landed: AlreadyLanded) -> AlreadyLanded | None:
        """A reply with its verdict; None when its stored body is damaged."""
        if landed.verdict is not None:
            return landed
        verdict, detail = await asyncio.to_thread(judge_landed, self.database, landed.export_id)
        return None if verdict is None else AlreadyLanded(landed.export_id, verdict, detail)

    async def _send(
        self, call: PlannedCall, reservation: Reservation, token: StoredToken
    ) -> ClarityError | None:
        """Make the call a slot was taken for; its failure, or None for an accepted reply."""
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

        failure: ExportError | None = None
        summary = None
        outcome = CallOutcome.ABANDONED
        try:
            try:
                _, summary = await self.client.fetch(
                    ExportRequest(call.combo, call.num_of_days),
                    token.secret,
                    clock=self.clock,
                    on_reply=land,
                )
            except ExportError as error:
                failure = _told_with_our_share(error, reservation)
            outcome = CallOutcome.LANDED if failure is None else call_outcome_of(failure)
            self._learn(call, token, failure)
            verdict = Verdict.ACCEPTED if failure is None else verdict_of(failure)
            if landed_id is not None and verdict is not None:
                await asyncio.to_thread(
                    exports.judge,
                    self.database,
                    export_id=landed_id,
                    verdict=verdict,
                    summary=summary,
                    detail=None if failure is None else str(failure),
                )
            await self._settle(reservation, outcome)
        except (ClarityError, asyncio.CancelledError) as interruption:
            # Whoever wants this call next would else wait until its lease is over; and what Clarity
            # has said, a 429 above all, is true whatever our database could not write down first.
            with suppress(ClarityError):
                await self._settle(reservation, outcome)
            if isinstance(interruption, asyncio.CancelledError):
                raise
            return interruption
        return failure

    def _learn(self, call: PlannedCall, token: StoredToken, failure: ExportError | None) -> None:
        """What the end of one call says about the next ones."""
        self._network.note(call.business_id, failure)
        if isinstance(failure, AuthenticationFailed):
            self._refused_tokens.add(token)
        if failure is None or not consequence_of(failure).token_still_on_trial:
            self._accepted.add((call.project_id, call.business_id))

    async def _settle(self, reservation: Reservation, outcome: CallOutcome) -> None:
        await asyncio.to_thread(
            quota_ledger.settle, self.database, reservation, outcome=outcome, now=self.clock()
        )


def judge_landed(database: Database, export_id: int) -> tuple[Verdict | None, str | None]:
    """Judge a reply whose process ended between landing and judging it; that costs no call.

    The verdict is None, and stays open, when the stored body is damaged.
    """
    try:
        summary = verify_reply(exports.read_export(database, export_id).export)
    except ExportError as error:
        verdict = verdict_of(error)
        assert verdict is not None
        exports.judge(
            database, export_id=export_id, verdict=verdict, summary=None, detail=str(error)
        )
        return verdict, str(error)
    except ExportCorrupt:
        logger.exception("landed export %d cannot be read back", export_id)
        return None, None
    exports.judge(
        database, export_id=export_id, verdict=Verdict.ACCEPTED, summary=summary, detail=None
    )
    return Verdict.ACCEPTED, None


def _refused_for_another_call() -> AuthenticationFailed:
    return AuthenticationFailed(
        "Clarity has just refused this token for another call; this one was not sent."
    )


def _told_with_our_share(error: ExportError, reservation: Reservation) -> ExportError:
    """A 429 that says how many of the calls were ours, which only the ledger knows."""
    if not isinstance(error, RateLimited):
        return error
    message = refusal_message(
        RefusalReason.RATE_LIMITED,
        project_id=reservation.project_id,
        utc_day=reservation.utc_day,
        used=reservation.slot,
        kept=0,
    )
    return RateLimited(message, http_status=error.http_status)
