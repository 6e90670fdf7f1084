"""Ten calls per project and day, and a share of them that is the schedule's."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from clarity_pipeline.domain.exports import Verdict
from clarity_pipeline.domain.quota import (
    CALL_LEASE,
    CALL_TIMEOUT_SECONDS,
    DAILY_CALL_LIMIT,
    AlreadyLanded,
    CallOutcome,
    InFlight,
    OwedCall,
    Purpose,
    QuotaState,
    RefusalReason,
    SlotDecision,
    SlotGranted,
    SlotRefused,
    decide_slot,
    lease_ends_at,
    outcome_left_behind,
    refusal_message,
    refuse_slot,
    resets_at,
    utc_day_of,
)

DAY = date(2026, 11, 2)
SETS = ("Device,URL", "Source,URL", "Country,URL", "Campaign,Channel,URL", "")
OTHER: OwedCall = ("acme", "OS")
"""A call that nobody owes: another dimension set, or another day."""


def owed_by(*businesses: str) -> set[OwedCall]:
    return {(business, name) for business in businesses for name in SETS[:4]}


def refuse(
    used: int,
    *,
    owed: set[OwedCall] | None = None,
    wanted: OwedCall = OTHER,
    may_use_share: bool = False,
    rate_limited: bool = False,
) -> RefusalReason | None:
    return refuse_slot(
        used=used,
        rate_limited=rate_limited,
        owed=owed or set(),
        wanted=wanted,
        may_use_share=may_use_share,
    )


def test_without_a_schedule_all_ten_are_free() -> None:
    assert [refuse(used) for used in range(10)] == [None] * 10
    assert refuse(10) is RefusalReason.SPENT


def test_the_eleventh_call_is_refused_whoever_asks() -> None:
    for used in (10, 11, 99):
        assert refuse(used, may_use_share=True) is RefusalReason.SPENT
        assert refuse(used, owed=owed_by("acme")) is RefusalReason.SPENT


def test_a_429_ends_the_day_for_everybody() -> None:
    assert refuse(0, rate_limited=True) is RefusalReason.RATE_LIMITED
    assert refuse(0, rate_limited=True, may_use_share=True) is RefusalReason.RATE_LIMITED
    assert refuse(10, rate_limited=True) is RefusalReason.RATE_LIMITED


def test_tests_and_manual_syncs_use_what_is_not_owed() -> None:
    owed = owed_by("acme")
    assert [refuse(used, owed=owed) for used in range(6)] == [None] * 6
    assert refuse(6, owed=owed) is RefusalReason.KEPT_FOR_SCHEDULE


def test_the_schedule_may_use_its_share() -> None:
    owed = owed_by("acme")
    assert refuse(9, owed=owed, wanted=("acme", "Device,URL"), may_use_share=True) is None


def test_whoever_makes_an_owed_call_pays_it_off() -> None:
    owed = owed_by("acme")
    assert refuse(6, owed=owed, wanted=("acme", "Device,URL")) is None
    assert refuse(6, owed=owed, wanted=("other", "Device,URL")) is RefusalReason.KEPT_FOR_SCHEDULE


def test_businesses_that_share_a_project_share_its_ten_calls() -> None:
    owed = owed_by("acme", "acme-shop")
    assert refuse(1, owed=owed) is None
    assert refuse(2, owed=owed) is RefusalReason.KEPT_FOR_SCHEDULE


def test_a_call_that_is_owed_twice_is_kept_once() -> None:
    owed = [*owed_by("acme"), *owed_by("acme")]
    decision = refuse_slot(used=5, rate_limited=False, owed=owed, wanted=OTHER, may_use_share=False)
    assert decision is None


@given(
    used=st.integers(0, 20),
    rate_limited=st.booleans(),
    owed=st.sets(st.tuples(st.sampled_from("ab"), st.sampled_from(SETS))),
    wanted=st.tuples(st.sampled_from("ab"), st.sampled_from(SETS)),
    may_use_share=st.booleans(),
)
def test_nothing_is_granted_beyond_ten_or_after_a_429(
    *,
    used: int,
    rate_limited: bool,
    owed: set[OwedCall],
    wanted: OwedCall,
    may_use_share: bool,
) -> None:
    reason = refuse(
        used, owed=owed, wanted=wanted, may_use_share=may_use_share, rate_limited=rate_limited
    )
    if used >= DAILY_CALL_LIMIT or rate_limited:
        assert reason is not None
    if reason is None and not may_use_share:
        assert used + 1 + len(owed - {wanted}) <= DAILY_CALL_LIMIT


class OneDayOfAProject(RuleBasedStateMachine):
    """Whatever others are granted, the schedule can make every call that it owes."""

    def __init__(self) -> None:
        super().__init__()
        self.used = 0
        self.owed: set[OwedCall] = set()

    @initialize(businesses=st.integers(0, 2), overview=st.booleans())
    def plan(self, *, businesses: int, overview: bool) -> None:
        sets = SETS if overview else SETS[:4]
        self.owed = {(f"b{i}", name) for i in range(businesses) for name in sets}

    @rule(business=st.sampled_from(["b0", "b1", "b2"]), name=st.sampled_from([*SETS, "OS"]))
    def anybody_asks(self, business: str, name: str) -> None:
        self._ask((business, name), may_use_share=False)

    @precondition(lambda self: self.owed)
    @rule(data=st.data())
    def the_schedule_makes_an_owed_call(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(sorted(self.owed)))
        assert self._ask(call, may_use_share=True) is None

    @invariant()
    def never_more_than_ten(self) -> None:
        assert self.used <= DAILY_CALL_LIMIT

    @invariant()
    def every_owed_call_can_still_be_made(self) -> None:
        used = self.used
        for call in sorted(self.owed):
            assert refuse(used, owed=self.owed, wanted=call, may_use_share=True) is None
            used += 1

    def _ask(self, wanted: OwedCall, *, may_use_share: bool) -> RefusalReason | None:
        reason = refuse(self.used, owed=self.owed, wanted=wanted, may_use_share=may_use_share)
        if reason is None:
            self.used += 1
            self.owed.discard(wanted)
        return reason


TestOneDayOfAProject = OneDayOfAProject.TestCase


@pytest.mark.parametrize(
    ("used", "kept", "free"), [(0, 0, 10), (0, 4, 6), (3, 4, 3), (6, 4, 0), (8, 4, 0), (10, 0, 0)]
)
def test_free_is_what_is_neither_used_nor_kept(used: int, kept: int, free: int) -> None:
    assert QuotaState(project_id="abc123", utc_day=DAY, used=used, kept=kept).free == free


def test_nothing_is_free_after_a_429() -> None:
    assert QuotaState(project_id="abc123", utc_day=DAY, used=1, rate_limited=True).free == 0


def test_the_calls_come_back_at_midnight_utc() -> None:
    midnight = datetime(2026, 11, 3, tzinfo=UTC)
    assert resets_at(DAY) == midnight
    assert QuotaState(project_id="abc123", utc_day=DAY, used=0).resets_at == midnight
    assert utc_day_of(midnight - timedelta(microseconds=1)) == DAY
    assert utc_day_of(midnight) == DAY + timedelta(days=1)


def test_a_call_is_counted_on_the_utc_day_wherever_the_clock_hangs() -> None:
    tokyo = timezone(timedelta(hours=9))
    assert utc_day_of(datetime(2026, 11, 3, 8, 59, tzinfo=tokyo)) == DAY


@pytest.mark.parametrize("reason", list(RefusalReason))
def test_a_refusal_names_the_project_and_when_there_will_be_calls(reason: RefusalReason) -> None:
    message = refusal_message(reason, project_id="abc123", utc_day=DAY, used=6, kept=4)
    assert "abc123" in message
    assert "2026-11-03 00:00 UTC" in message
    assert message.endswith(".")


def test_a_429_before_our_ledger_reached_ten_is_somebody_elses_doing() -> None:
    def told(used: int) -> str:
        return refusal_message(
            RefusalReason.RATE_LIMITED, project_id="abc123", utc_day=DAY, used=used, kept=0
        )

    assert "although only 3 of its 10 calls were ours: another tool uses this project" in told(3)
    assert "only 9 of its 10 calls were ours" in told(9)
    assert "ours" not in told(10)


NOW = datetime(2026, 11, 2, 0, 15, tzinfo=UTC)
ACCEPTED = AlreadyLanded(7, Verdict.ACCEPTED, None)
UNJUDGED = AlreadyLanded(8, None, None)
REFUSED = AlreadyLanded(3, Verdict.REPLY_UNREADABLE, "cut off")


def claim(reserved_at: datetime) -> InFlight:
    return InFlight(utc_day=DAY, slot=1, until=lease_ends_at(reserved_at), token_fingerprint="f1")


def decide(
    *,
    landed: list[AlreadyLanded] | None = None,
    in_flight: list[InFlight] | None = None,
    purpose: Purpose = Purpose.SCHEDULE,
    used: int = 1,
) -> SlotDecision:
    return decide_slot(
        purpose=purpose,
        landed=landed or [],
        in_flight=in_flight or [],
        used=used,
        rate_limited=False,
        owed=(),
        pays_off=None,
        may_use_share=True,
        now=NOW,
    )


def test_a_lease_is_longer_than_any_call() -> None:
    assert timedelta(seconds=CALL_TIMEOUT_SECONDS) < CALL_LEASE < timedelta(minutes=5)


def test_the_best_reply_there_is_answers_a_call() -> None:
    assert decide(landed=[REFUSED, UNJUDGED, ACCEPTED]) == ACCEPTED
    assert decide(landed=[REFUSED, UNJUDGED]) == UNJUDGED
    assert decide(landed=[REFUSED]) == REFUSED
    assert decide() == SlotGranted()


def test_a_reply_that_landed_is_not_waited_for_and_needs_no_slot() -> None:
    assert decide(landed=[UNJUDGED], in_flight=[claim(NOW)], used=10) == UNJUDGED
    assert decide(in_flight=[claim(NOW)], used=10) == claim(NOW)
    assert decide(used=10) == SlotRefused(RefusalReason.SPENT)


def test_only_a_claim_whose_lease_is_not_over_is_waited_for() -> None:
    dead, alive = claim(NOW - CALL_LEASE), claim(NOW - timedelta(seconds=1))
    assert decide(in_flight=[dead]) == SlotGranted()
    assert decide(in_flight=[dead, alive]) == alive


def test_a_test_asks_anyway() -> None:
    for landed in ([ACCEPTED], [UNJUDGED], [REFUSED]):
        assert decide(landed=landed, in_flight=[claim(NOW)], purpose=Purpose.TEST) == SlotGranted()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (ACCEPTED, CallOutcome.LANDED),
        (UNJUDGED, CallOutcome.LANDED),
        (REFUSED, CallOutcome.REPLY_UNREADABLE),
        (None, None),
    ],
)
def test_a_slot_left_behind_is_settled_by_its_reply(
    reply: AlreadyLanded | None, expected: CallOutcome | None
) -> None:
    assert outcome_left_behind(reserved_at=NOW, reply=reply, now=NOW) is expected


def test_a_slot_left_behind_without_a_reply_is_abandoned_after_its_lease() -> None:
    later = NOW + CALL_LEASE
    assert outcome_left_behind(reserved_at=NOW, reply=None, now=later) is CallOutcome.ABANDONED
