"""Budget arithmetic of ten calls per project and UTC day, and who may take the next one.

The limit is per project and day (FACTS section 9). Whether failed calls count is unknown there,
so every slot that was reserved counts, whatever became of it. The reset at 00:00 UTC is what
clients report; Microsoft does not document it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final

from clarity_pipeline.domain.exports import Verdict

DAILY_CALL_LIMIT: Final = 10

CALL_TIMEOUT_SECONDS: Final = 120
"""How long one call may take, from sending it to the last byte of the reply."""

CALL_LEASE: Final = timedelta(seconds=CALL_TIMEOUT_SECONDS + 60)
"""For so long after it was reserved, a slot without an outcome is a call that somebody is making;
after it, of a process that died. The margin is for landing and judging the reply, which may wait
half a minute each for a busy database."""

OwedCall = tuple[str, str]
"""(business id, dimension set): a combo of yesterday that the schedule still has to fetch."""


class Purpose(StrEnum):
    """What a slot is spent on."""

    SCHEDULE = "schedule"
    TEST = "test"
    MANUAL = "manual"
    RECOVERY = "recovery"


class CallOutcome(StrEnum):
    """What became of a reserved slot; a slot without one is in flight, or its process died."""

    LANDED = "landed"
    AUTH_FAILED = "auth_failed"
    RATE_LIMITED = "rate_limited"
    REQUEST_REJECTED = "request_rejected"
    REPLY_UNREADABLE = "reply_unreadable"
    DIMENSION_IGNORED = "dimension_ignored"
    SERVICE_UNAVAILABLE = "service_unavailable"
    TIMED_OUT = "timed_out"
    CONNECTION_BROKEN = "connection_broken"
    ABANDONED = "abandoned"


class RefusalReason(StrEnum):
    SPENT = "spent"
    RATE_LIMITED = "rate_limited"
    KEPT_FOR_SCHEDULE = "kept_for_schedule"


def utc_day_of(instant: datetime) -> date:
    """The UTC day that a call at this (aware) instant is counted on."""
    return instant.astimezone(UTC).date()


def resets_at(utc_day: date) -> datetime:
    """When the calls of this day come back."""
    return datetime.combine(utc_day + timedelta(days=1), time.min, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaUsage:
    """What a project has used on one UTC day, without what is kept for the schedule."""

    used: int
    rate_limited: bool

    @property
    def is_spent(self) -> bool:
        """Whether nobody can make a call any more today, by our count or by Clarity's word."""
        return self.rate_limited or self.used >= DAILY_CALL_LIMIT


@dataclass(frozen=True, slots=True)
class QuotaState:
    """A project's calls on one UTC day: `used`, `kept` for the schedule, and the rest free."""

    project_id: str
    utc_day: date
    used: int
    kept: int = 0
    rate_limited: bool = False
    limit: int = DAILY_CALL_LIMIT

    @property
    def usage(self) -> QuotaUsage:
        return QuotaUsage(used=self.used, rate_limited=self.rate_limited)

    @property
    def free(self) -> int:
        """Slots that a test or a manual sync may take."""
        return 0 if self.rate_limited else max(0, self.limit - self.used - self.kept)

    @property
    def is_down_to_one(self) -> bool:
        """Whether the next test or manual sync may leave none for another; worth asking first."""
        return self.free == 1

    @property
    def resets_at(self) -> datetime:
        return resets_at(self.utc_day)


def refuse_slot(
    *,
    used: int,
    rate_limited: bool,
    owed: Collection[OwedCall],
    wanted: OwedCall | None,
    may_use_share: bool,
) -> RefusalReason | None:
    """Decide whether the next slot may be taken for `wanted`, if that is a call that can be owed;
    None means yes.

    `owed` are the calls of yesterday that the schedule has still to make and nobody has in
    flight. Whoever makes one of them pays it off, so a manual sync of yesterday is not held
    back by the share that is kept for the very same calls. `may_use_share` is for the schedule's
    first attempts; its retries, like everything else, take only what is not owed.
    """
    if rate_limited:
        return RefusalReason.RATE_LIMITED
    if used >= DAILY_CALL_LIMIT:
        return RefusalReason.SPENT
    if may_use_share:
        return None
    still_owed = len(set(owed) - {wanted})
    if used + 1 + still_owed > DAILY_CALL_LIMIT:
        return RefusalReason.KEPT_FOR_SCHEDULE
    return None


@dataclass(frozen=True, slots=True)
class SlotGranted:
    """The next slot may be taken."""


@dataclass(frozen=True, slots=True)
class SlotRefused:
    """There is no slot for this purpose now."""

    reason: RefusalReason


@dataclass(frozen=True, slots=True)
class AlreadyLanded:
    """The very call has been answered: its reply, and what that turned out to be.

    Without a verdict nobody has judged it yet; to do so costs no call.
    """

    export_id: int
    verdict: Verdict | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class InFlight:
    """The very call is being made by somebody; his claim ends when he settles, or at `until`."""

    utc_day: date
    slot: int
    until: datetime
    token_fingerprint: str | None


SlotDecision = SlotGranted | SlotRefused | AlreadyLanded | InFlight


def lease_ends_at(reserved_at: datetime) -> datetime:
    """When a slot without an outcome stops being a call that somebody is making."""
    return reserved_at + CALL_LEASE


def decide_slot(
    *,
    purpose: Purpose,
    landed: Collection[AlreadyLanded],
    in_flight: Collection[InFlight],
    used: int,
    rate_limited: bool,
    owed: Collection[OwedCall],
    pays_off: OwedCall | None,
    may_use_share: bool,
    now: datetime,
) -> SlotDecision:
    """Decide what becomes of the wish to make a call.

    `landed` and `in_flight` are about the very call that is wanted: business, day, dimension set
    and number of days. `pays_off` is the owed call that it is, if any (see refuse_slot). A test of
    a connection asks whether Clarity takes the token now, which no other call answers.
    """
    if purpose is not Purpose.TEST:
        found = min(landed, key=_rank, default=None) or next(
            (claim for claim in in_flight if now < claim.until), None
        )
        if found is not None:
            return found
    reason = refuse_slot(
        used=used,
        rate_limited=rate_limited,
        owed=owed,
        wanted=pays_off,
        may_use_share=may_use_share,
    )
    return SlotGranted() if reason is None else SlotRefused(reason)


def _rank(reply: AlreadyLanded) -> tuple[int, int]:
    """An accepted reply stands whatever else there is; one that may yet be accepted comes next."""
    weight = {Verdict.ACCEPTED: 0, None: 1}.get(reply.verdict, 2)
    return weight, reply.export_id


def outcome_left_behind(
    *, reserved_at: datetime, reply: AlreadyLanded | None, now: datetime
) -> CallOutcome | None:
    """What an unsettled slot is settled as by somebody else; None while it may be in flight."""
    if reply is not None:
        if reply.verdict is None or reply.verdict is Verdict.ACCEPTED:
            return CallOutcome.LANDED
        return CallOutcome(reply.verdict.value)
    return CallOutcome.ABANDONED if now >= lease_ends_at(reserved_at) else None


def refusal_message(
    reason: RefusalReason, *, project_id: str, utc_day: date, used: int, kept: int
) -> str:
    """One sentence for people: why there is no call, and when there will be one."""
    reset = f"{resets_at(utc_day):%Y-%m-%d %H:%M} UTC"
    match reason:
        case RefusalReason.SPENT:
            return (
                f"All {DAILY_CALL_LIMIT} Clarity calls of project {project_id} for {utc_day} are "
                f"used; they come back at {reset}."
            )
        case RefusalReason.RATE_LIMITED:
            foreign = (
                f", although only {used} of its {DAILY_CALL_LIMIT} calls were ours: another tool "
                "uses this project"
            )
            return (
                f"Clarity says (HTTP 429) that the calls of project {project_id} for {utc_day} are "
                f"used up{foreign if used < DAILY_CALL_LIMIT else ''}; they come back at {reset}."
            )
        case RefusalReason.KEPT_FOR_SCHEDULE:
            return (
                f"{used} of {DAILY_CALL_LIMIT} Clarity calls of project {project_id} are used and "
                f"the rest is kept for the daily sync ({kept}); try again after it, or at {reset}."
            )
