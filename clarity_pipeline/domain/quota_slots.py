"""The ten calls of a project's UTC day one by one: who took each, and what the rest is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from clarity_pipeline.domain.quota import CallOutcome, Purpose, QuotaState


class SlotKind(StrEnum):
    """What a slot was taken for, or what becomes of one that nobody has taken.

    `closed` are those that Clarity will not answer any more today.
    """

    SCHEDULE = "schedule"
    TEST = "test"
    MANUAL = "manual"
    RECOVERY = "recovery"
    FREE = "free"
    KEPT = "kept"
    CLOSED = "closed"


class TakenSlot(Protocol):
    """What the ledger says of a slot."""

    @property
    def business_id(self) -> str: ...
    @property
    def purpose(self) -> Purpose: ...
    @property
    def reserved_at(self) -> datetime: ...
    @property
    def outcome(self) -> CallOutcome | None: ...


@dataclass(frozen=True, slots=True)
class QuotaSlot:
    """One of the ten. `call` is None for a slot that nobody has taken.

    `is_own` says whether the business that is looked at took it: businesses can share a project.
    """

    number: int
    kind: SlotKind
    call: TakenSlot | None
    is_own: bool


def quota_slots(
    state: QuotaState, calls: Sequence[TakenSlot], *, business_id: str
) -> tuple[QuotaSlot, ...]:
    """All slots of a day: those taken in their order, then the free ones, last those kept."""
    slots = [
        QuotaSlot(number, SlotKind(call.purpose.value), call, call.business_id == business_id)
        for number, call in enumerate(calls, start=1)
    ]
    left = max(0, state.limit - len(slots))
    if state.rate_limited:
        rest = [SlotKind.CLOSED] * left
    else:
        kept = min(state.kept, left)
        rest = [SlotKind.FREE] * (left - kept) + [SlotKind.KEPT] * kept
    slots += [
        QuotaSlot(number, kind, call=None, is_own=False)
        for number, kind in enumerate(rest, start=len(slots) + 1)
    ]
    return tuple(slots)
