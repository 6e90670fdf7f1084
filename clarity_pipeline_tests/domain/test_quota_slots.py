from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

import pytest

from clarity_pipeline.domain.quota import CallOutcome, Purpose, QuotaState
from clarity_pipeline.domain.quota_slots import QuotaSlot, SlotKind, quota_slots

TODAY = date(2026, 11, 2)


@dataclass(frozen=True)
class Call:
    business_id: str
    purpose: Purpose
    reserved_at: datetime = datetime(2026, 11, 2, 0, 15, tzinfo=UTC)
    outcome: CallOutcome | None = None


def slots(
    *calls: Call, kept: int = 0, rate_limited: bool = False, used: int | None = None
) -> tuple[QuotaSlot, ...]:
    state = QuotaState(
        "project001",
        TODAY,
        used=len(calls) if used is None else used,
        kept=kept,
        rate_limited=rate_limited,
    )
    return quota_slots(state, calls, business_id="acme")


def test_calls_come_in_their_order_then_what_is_free_then_what_is_kept() -> None:
    drawn = slots(
        Call("acme", Purpose.TEST),
        Call("acme", Purpose.MANUAL),
        Call("acme", Purpose.RECOVERY),
        Call("acme", Purpose.SCHEDULE),
        kept=2,
    )
    assert [slot.number for slot in drawn] == list(range(1, 11))
    assert [slot.kind for slot in drawn] == [
        SlotKind.TEST,
        SlotKind.MANUAL,
        SlotKind.RECOVERY,
        SlotKind.SCHEDULE,
        *[SlotKind.FREE] * 4,
        *[SlotKind.KEPT] * 2,
    ]


def test_the_calls_of_another_business_of_the_project_are_told_apart() -> None:
    drawn = slots(Call("acme", Purpose.TEST), Call("globex", Purpose.TEST))
    assert [slot.is_own for slot in drawn[:3]] == [True, False, False]


@pytest.mark.parametrize("used", range(11))
@pytest.mark.parametrize("kept", [0, 3, 10])
def test_there_are_always_ten_and_as_many_free_as_the_quota_says(used: int, kept: int) -> None:
    drawn = slots(*[Call("acme", Purpose.TEST)] * used, kept=kept)
    free = sum(slot.kind is SlotKind.FREE for slot in drawn)
    assert len(drawn) == 10
    assert free == QuotaState("project001", TODAY, used=used, kept=kept).free


def test_what_clarity_has_closed_is_neither_free_nor_kept() -> None:
    drawn = slots(Call("acme", Purpose.SCHEDULE), kept=3, rate_limited=True)
    assert {slot.kind for slot in drawn[1:]} == {SlotKind.CLOSED}


def test_a_call_that_was_made_between_two_looks_is_drawn_and_no_slot_too_many() -> None:
    assert len(slots(*[Call("acme", Purpose.TEST)] * 9, used=7, kept=3)) == 10
