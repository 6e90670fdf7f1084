"""Which missed days are recovered with which calls, and which landed replies make a pair."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clarity_pipeline.domain.collection import BusinessPlan, ComboOutcome
from clarity_pipeline.domain.dimensions import (
    DEFAULT_COMBOS,
    OVERVIEW,
    URL_COUNTRY,
    URL_DEVICE,
    URL_SOURCE,
    DimensionCombo,
)
from clarity_pipeline.domain.exports import Verdict
from clarity_pipeline.domain.failures import ComboStatus
from clarity_pipeline.domain.quota import Purpose
from clarity_pipeline.domain.recovery import (
    PAIR_WITHIN,
    SENT_WITHIN,
    DayRecovery,
    MissedCombo,
    RecoveryPlan,
    derivable_pairs,
    outcome_of_pair,
    plan_recovery,
    recover_gaps,
    recoverable_days,
    recovery_of,
    standing_of,
)

NOW = datetime(2026, 11, 3, 0, 16, tzinfo=UTC)
TWO_AGO, THREE_AGO = date(2026, 11, 1), date(2026, 10, 31)


@dataclass(frozen=True, slots=True)
class Reply:
    """A landed reply, stored under the oldest day it reaches back to."""

    num_of_days: int
    requested_at: datetime = NOW
    id: int = 1
    business_id: str = "acme"
    dimension_set: str = URL_DEVICE.dimension_set
    verdict: Verdict | None = Verdict.ACCEPTED
    truncated: bool | None = False
    detail: str | None = None

    @property
    def day(self) -> date:
        return self.requested_at.date() - timedelta(days=self.num_of_days)


def missed(
    day: date = TWO_AGO,
    combo: DimensionCombo = URL_DEVICE,
    business_id: str = "acme",
    project_id: str = "project",
) -> MissedCombo:
    return MissedCombo(business_id, project_id, day, combo)


def calls(plan: RecoveryPlan) -> list[tuple[str, date, int]]:
    return [
        (call.combo.slug, call.day, call.num_of_days)
        for combo in plan.recovered
        for call in combo.calls
    ]


# Pairs


def test_on_the_second_day_after_it_48_hours_less_24_are_the_missed_day() -> None:
    longer, shorter = Reply(2, id=1), Reply(1, id=2)
    pair = derivable_pairs(TWO_AGO, [longer, shorter])["acme", "Device,URL"]
    assert (pair.minuend, pair.subtrahend) == (longer, shorter)
    assert pair.window_end == NOW - timedelta(days=1)


def test_on_the_third_day_after_it_72_hours_less_48_are_the_missed_day() -> None:
    longer, shorter = Reply(3), Reply(2, id=2)
    pair = derivable_pairs(THREE_AGO, [longer, shorter])["acme", "Device,URL"]
    assert (pair.minuend, pair.subtrahend) == (longer, shorter)
    assert pair.window_end == NOW - timedelta(days=2)


@pytest.mark.parametrize(
    ("other", "is_pair"),
    [
        (Reply(1, requested_at=NOW + PAIR_WITHIN), True),
        (Reply(1, requested_at=NOW - PAIR_WITHIN), True),
        (Reply(1, requested_at=NOW + PAIR_WITHIN + timedelta(seconds=1)), False),
        (Reply(1, requested_at=NOW - PAIR_WITHIN - timedelta(seconds=1)), False),
        (Reply(1, verdict=Verdict.REQUEST_REJECTED), False),
        (Reply(1, verdict=None), False),
        (Reply(1, business_id="globex"), False),
        (Reply(1, dimension_set=URL_SOURCE.dimension_set), False),
        (Reply(2, id=2), False),
        (Reply(3), False),
    ],
)
def test_a_pair_is_of_one_instant_one_combo_and_one_day_apart(
    other: Reply, *, is_pair: bool
) -> None:
    assert bool(derivable_pairs(TWO_AGO, [Reply(2), other])) is is_pair


def test_a_longer_reply_that_was_refused_is_no_half_of_a_pair() -> None:
    longer = Reply(2, verdict=Verdict.DIMENSION_IGNORED)
    assert derivable_pairs(TWO_AGO, [longer, Reply(1)]) == {}


def test_a_reply_of_the_day_itself_always_wins() -> None:
    own = Reply(1, requested_at=NOW - timedelta(days=1), id=3)
    assert derivable_pairs(TWO_AGO, [Reply(2), Reply(1), own]) == {}


def test_of_several_pairs_the_one_closest_to_the_day_stands() -> None:
    late = NOW + timedelta(hours=9)
    replies = [Reply(2, late, id=1), Reply(1, late, id=2), Reply(2, id=3), Reply(1, id=4)]
    pair = derivable_pairs(TWO_AGO, replies)["acme", "Device,URL"]
    assert (pair.minuend.id, pair.subtrahend.id) == (3, 4)
    next_day = NOW + timedelta(days=1, minutes=1)
    replies = [Reply(3, next_day, id=1), Reply(2, next_day, id=2), *replies[2:]]
    pair = derivable_pairs(TWO_AGO, replies)["acme", "Device,URL"]
    assert (pair.minuend.id, pair.subtrahend.id) == (3, 4)


def test_a_pair_that_was_not_cut_goes_before_one_that_was() -> None:
    late = NOW + timedelta(hours=9)
    replies = [
        Reply(2, id=1, truncated=True),
        Reply(1, id=2),
        Reply(2, late, id=3),
        Reply(1, late, id=4),
    ]
    assert derivable_pairs(TWO_AGO, replies)["acme", "Device,URL"].minuend.id == 3


# Plans


def test_the_days_in_reach_are_the_two_before_yesterday() -> None:
    assert recoverable_days(NOW) == [THREE_AGO, TWO_AGO]


def test_yesterdays_reply_of_just_now_is_half_of_the_pair_for_free() -> None:
    plan = plan_recovery(missed=[missed()], replies=[Reply(1)], free_calls={"project": 1}, now=NOW)
    assert calls(plan) == [("url_device", TWO_AGO, 2)]
    assert plan.recovered[0].calls[0].purpose is Purpose.RECOVERY


@pytest.mark.parametrize(
    "reply",
    [
        Reply(1, requested_at=NOW - PAIR_WITHIN),
        Reply(1, requested_at=NOW - PAIR_WITHIN + SENT_WITHIN - timedelta(seconds=1)),
        Reply(1, verdict=Verdict.REPLY_UNREADABLE),
        Reply(1, dimension_set=URL_SOURCE.dimension_set),
        Reply(1, business_id="globex"),
    ],
)
def test_another_reply_of_yesterday_is_no_half_and_the_pair_costs_two_calls(reply: Reply) -> None:
    def plan(free: int) -> RecoveryPlan:
        return plan_recovery(
            missed=[missed()], replies=[reply], free_calls={"project": free}, now=NOW
        )

    assert calls(plan(2)) == [
        ("url_device", TWO_AGO, 2),
        ("url_device", TWO_AGO + timedelta(days=1), 1),
    ]
    assert calls(plan(1)) == []
    assert plan(1).unaffordable == (missed(),)


def test_a_half_that_landed_before_a_crash_is_not_asked_for_again() -> None:
    plan = plan_recovery(
        missed=[missed()], replies=[Reply(2), Reply(1)], free_calls={"project": 0}, now=NOW
    )
    assert [combo.calls for combo in plan.recovered] == [()]


def test_two_missed_days_share_the_48_hours_between_them() -> None:
    plan = plan_recovery(
        missed=[missed(TWO_AGO), missed(THREE_AGO)],
        replies=[Reply(1)],
        free_calls={"project": 2},
        now=NOW,
    )
    assert calls(plan) == [
        ("url_device", THREE_AGO, 3),
        ("url_device", TWO_AGO, 2),
        ("url_device", TWO_AGO, 2),
    ]
    assert plan.unaffordable == ()


def test_the_most_valuable_combo_of_every_business_goes_first() -> None:
    plan = plan_recovery(
        missed=[
            missed(combo=combo, business_id=business_id)
            for business_id in ("acme", "globex")
            for combo in (OVERVIEW, *reversed(DEFAULT_COMBOS))
        ],
        replies=[
            Reply(1, business_id=business_id, dimension_set=combo.dimension_set)
            for business_id in ("acme", "globex")
            for combo in (OVERVIEW, *DEFAULT_COMBOS)
        ],
        free_calls={"project": 5},
        now=NOW,
    )
    assert [(each.missed.combo, each.missed.business_id) for each in plan.recovered] == [
        (URL_DEVICE, "acme"),
        (URL_DEVICE, "globex"),
        (URL_SOURCE, "acme"),
        (URL_SOURCE, "globex"),
        (URL_COUNTRY, "acme"),
    ]


def test_what_is_too_dear_does_not_stand_in_the_way_of_what_is_not() -> None:
    """The older day would take two calls; one is left, and completes the other's pair."""
    plan = plan_recovery(
        missed=[missed(TWO_AGO), missed(THREE_AGO)],
        replies=[Reply(1)],
        free_calls={"project": 1},
        now=NOW,
    )
    assert calls(plan) == [("url_device", TWO_AGO, 2)]
    assert plan.unaffordable == (missed(THREE_AGO),)


def test_no_project_pays_for_another() -> None:
    plan = plan_recovery(
        missed=[missed(project_id="spent"), missed(business_id="globex", project_id="rich")],
        replies=[],
        free_calls={"rich": 10},
        now=NOW,
    )
    assert {each.missed.project_id for each in plan.recovered} == {"rich"}


# A day with gaps, and what became of its calls

KEY = ("acme", URL_DEVICE.dimension_set)


def gap(dimension_set: str = URL_DEVICE.dimension_set) -> ComboOutcome:
    return ComboOutcome("acme", dimension_set, ComboStatus.GAP, error_code="gap", message="gone")


def recovery(
    *replies: Reply, free: int = 10, day: date = TWO_AGO, combo: DimensionCombo = URL_DEVICE
) -> DayRecovery:
    standing = standing_of(day, wanted=[missed(day, combo)], replies=replies, now=NOW)
    plan = plan_recovery(
        missed=standing.missed, replies=replies, free_calls={"project": free}, now=NOW
    )
    return recovery_of(day, standing=standing, plan=plan, now=NOW)


def test_a_gap_that_can_be_recovered_becomes_calls_and_other_outcomes_stay() -> None:
    landed = ComboOutcome("acme", "Source,URL", ComboStatus.ALREADY_LANDED)
    plan = BusinessPlan("acme", (), (landed, gap(), gap("Country,URL")))
    found = recover_gaps(plan, recovery(Reply(1)))
    assert [call.num_of_days for call in found.to_fetch] == [2]
    assert found.settled == (landed, gap("Country,URL"))


def test_what_a_pair_gives_back_already_is_recovered_without_a_call() -> None:
    found = recover_gaps(BusinessPlan("acme", (), (gap(),)), recovery(Reply(2), Reply(1)))
    assert found.to_fetch == ()
    assert found.settled == (ComboOutcome(*KEY, ComboStatus.RECOVERED),)


@pytest.mark.parametrize(
    "refused",
    [
        Reply(2, verdict=Verdict.REQUEST_REJECTED, detail="no"),
        Reply(1, verdict=Verdict.REQUEST_REJECTED, detail="no"),
    ],
)
def test_half_a_pair_that_clarity_refused_today_is_not_asked_for_again(refused: Reply) -> None:
    (outcome,) = recover_gaps(BusinessPlan("acme", (), (gap(),)), recovery(refused)).settled
    assert (outcome.status, outcome.error_code, outcome.message) == (
        ComboStatus.REFUSED,
        "request_rejected",
        "no",
    )


def test_what_was_refused_of_another_day_does_not_stand_in_the_way() -> None:
    """Yesterday the reply over 24 hours was refused; today's pair has none of them in it."""
    before = Reply(1, requested_at=NOW - timedelta(days=1), verdict=Verdict.DIMENSION_IGNORED)
    assert before.day == THREE_AGO + timedelta(days=1)
    assert len(recovery(before, day=THREE_AGO).calls[KEY]) == 2


@pytest.mark.parametrize(
    ("day", "until_when"),
    [(TWO_AGO, "tried for the last time"), (THREE_AGO, "it will be too late")],
)
def test_a_pair_without_free_calls_says_until_when_it_can_be_had(
    day: date, until_when: str
) -> None:
    (outcome,) = recover_gaps(BusinessPlan("acme", (), (gap(),)), recovery(day=day, free=1)).settled
    assert outcome.status is ComboStatus.QUOTA_REFUSED
    assert outcome.message is not None
    assert "come back at 2026-11-04 00:00 UTC" in outcome.message
    assert until_when in outcome.message


def test_the_calls_of_a_pair_have_one_outcome() -> None:
    landed = ComboOutcome(*KEY, ComboStatus.LANDED, calls=1)
    failed = ComboOutcome(*KEY, ComboStatus.UNAVAILABLE, calls=2, error_code="timed_out")
    assert outcome_of_pair(KEY, [landed, landed], stands=True) == ComboOutcome(
        *KEY, ComboStatus.RECOVERED, calls=2
    )
    assert outcome_of_pair(KEY, [landed, failed], stands=False) == replace(failed, calls=3)
    too_far_apart = outcome_of_pair(KEY, [landed, landed], stands=False)
    assert (too_far_apart.status, too_far_apart.calls) == (ComboStatus.GAP, 2)
    assert "within 10 minutes" in str(too_far_apart.message)


# Any plan

_COMBOS = (*DEFAULT_COMBOS, OVERVIEW)
_MISSED = st.builds(
    missed,
    day=st.sampled_from([TWO_AGO, THREE_AGO]),
    combo=st.sampled_from(_COMBOS),
    business_id=st.sampled_from(["acme", "globex"]),
)
_REPLIES = st.builds(
    Reply,
    num_of_days=st.integers(1, 3),
    requested_at=st.integers(0, 30).map(lambda minutes: NOW - timedelta(minutes=minutes)),
    business_id=st.sampled_from(["acme", "globex"]),
    dimension_set=st.sampled_from([combo.dimension_set for combo in _COMBOS]),
    verdict=st.sampled_from([Verdict.ACCEPTED, Verdict.REQUEST_REJECTED, None]),
)


@settings(deadline=None)
@given(
    wanted=st.sets(_MISSED),
    replies=st.lists(_REPLIES.filter(lambda reply: reply.requested_at.date() == NOW.date())),
    free=st.integers(0, 10),
    seconds=st.integers(0, int(SENT_WITHIN.total_seconds())),
)
def test_a_plan_stays_within_the_free_calls_and_each_of_them_completes_a_pair(
    wanted: set[MissedCombo], replies: list[Reply], free: int, seconds: int
) -> None:
    plan = plan_recovery(missed=wanted, replies=replies, free_calls={"project": free}, now=NOW)

    spent = {call for combo in plan.recovered for call in combo.calls}
    assert len(spent) <= free
    assert all(call.purpose is Purpose.RECOVERY for call in spent)
    assert Counter([*(each.missed for each in plan.recovered), *plan.unaffordable]) == Counter(
        wanted
    )

    sent_at = NOW + timedelta(seconds=seconds)
    answers = [
        Reply(
            call.num_of_days,
            requested_at=sent_at,
            id=10 + number,
            business_id=call.business_id,
            dimension_set=call.combo.dimension_set,
        )
        for number, call in enumerate(sorted(spent, key=str))
    ]
    assert [answer.day for answer in answers] == [call.day for call in sorted(spent, key=str)]
    for each in plan.recovered:
        key = (each.missed.business_id, each.missed.combo.dimension_set)
        others = [
            reply for reply in replies if reply.num_of_days > 1 or reply.day != each.missed.day
        ]
        assert key in derivable_pairs(each.missed.day, [*others, *answers])
    fresh = {
        (reply.business_id, reply.dimension_set, reply.num_of_days)
        for reply in replies
        if reply.verdict is Verdict.ACCEPTED
        and NOW - reply.requested_at <= PAIR_WITHIN - SENT_WITHIN
    }
    assert not fresh & {
        (call.business_id, call.combo.dimension_set, call.num_of_days) for call in spent
    }
