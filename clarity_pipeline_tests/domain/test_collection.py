from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarity_pipeline.domain.collection import (
    TRIGGER_TAG,
    BusinessPlan,
    ComboOutcome,
    ComboStatus,
    LandedReply,
    PlannedCall,
    exports_of_record,
    is_aligned,
    job_status,
    plan_batches,
    plan_business_day,
    purpose_of,
    telling_outcome,
    trigger_of_run,
)
from clarity_pipeline.domain.dimensions import DEFAULT_COMBOS, OVERVIEW, URL_DEVICE, URL_SOURCE
from clarity_pipeline.domain.exports import Verdict
from clarity_pipeline.domain.quota import Purpose
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger

DAY = date(2026, 11, 22)
ON_TIME = datetime(2026, 11, 23, 0, 15, tzinfo=UTC)
TOO_LATE = datetime(2026, 11, 24, 0, 15, tzinfo=UTC)


def plan(*landed: LandedReply, now: datetime = ON_TIME, overview: bool = False) -> BusinessPlan:
    return plan_business_day(
        business_id="acme",
        project_id="abc123",
        day=DAY,
        now=now,
        purpose=Purpose.SCHEDULE,
        overview=overview,
        landed=landed,
    )


def reply(dimension_set: str, verdict: Verdict | None = Verdict.ACCEPTED) -> LandedReply:
    return LandedReply(dimension_set, verdict, "kept as it came")


def test_a_new_day_needs_the_four_combos_most_valuable_first() -> None:
    assert [planned.combo for planned in plan().to_fetch] == list(DEFAULT_COMBOS)
    assert plan().settled == ()


def test_the_overview_is_a_fifth_call_for_those_who_want_it() -> None:
    assert [planned.combo for planned in plan(overview=True).to_fetch] == [
        *DEFAULT_COMBOS,
        OVERVIEW,
    ]


def test_what_has_landed_is_not_fetched_again() -> None:
    planned = plan(reply("Device,URL"), reply("Source,URL"))
    assert [item.combo.dimension_set for item in planned.to_fetch] == [
        "Country,URL",
        "Campaign,Channel,URL",
    ]
    assert {outcome.status for outcome in planned.settled} == {ComboStatus.ALREADY_LANDED}


@pytest.mark.parametrize("verdict", [v for v in Verdict if v is not Verdict.ACCEPTED])
def test_a_permanent_refusal_stands_for_its_day(verdict: Verdict) -> None:
    planned = plan(reply("Device,URL", verdict))
    assert URL_DEVICE not in {item.combo for item in planned.to_fetch}
    (outcome,) = planned.settled
    assert (outcome.status, outcome.error_code) == (ComboStatus.REFUSED, verdict.value)


def test_an_accepted_reply_outweighs_a_refused_one() -> None:
    planned = plan(reply("Device,URL", Verdict.REPLY_UNREADABLE), reply("Device,URL"))
    assert [outcome.status for outcome in planned.settled] == [ComboStatus.ALREADY_LANDED]


def test_a_reply_that_could_not_be_judged_is_fetched_again() -> None:
    assert URL_DEVICE in {item.combo for item in plan(reply("Device,URL", None)).to_fetch}


def test_a_day_the_api_no_longer_answers_for_is_a_gap_and_never_fetched() -> None:
    planned = plan(reply("Device,URL"), now=TOO_LATE)
    assert planned.to_fetch == ()
    assert [outcome.status for outcome in planned.settled] == [
        ComboStatus.ALREADY_LANDED,
        ComboStatus.GAP,
        ComboStatus.GAP,
        ComboStatus.GAP,
    ]


@given(businesses=st.integers(0, 300), calls_each=st.integers(1, 5))
def test_batches_are_bounded_balanced_and_keep_a_business_together(
    businesses: int, calls_each: int
) -> None:
    calls = [
        PlannedCall(f"b{number}", "abc123", DAY, combo, Purpose.SCHEDULE)
        for combo in [*DEFAULT_COMBOS, OVERVIEW][:calls_each]
        for number in range(businesses)
    ]
    batches = plan_batches(calls)
    assert len(batches) == (businesses if businesses <= 16 else 4)
    assert sorted(map(repr, calls)) == sorted(repr(item) for batch in batches for item in batch)
    homes = [{item.business_id for item in batch} for batch in batches]
    assert sum(map(len, homes)) == businesses
    assert max(map(len, homes), default=0) - min(map(len, homes), default=0) <= 1


def outcomes(*statuses: ComboStatus) -> list[ComboOutcome]:
    return [ComboOutcome("acme", str(index), status) for index, status in enumerate(statuses)]


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([ComboStatus.LANDED] * 4, JobStatus.SUCCEEDED),
        ([ComboStatus.ALREADY_LANDED] * 4, JobStatus.SUCCEEDED),
        ([ComboStatus.LANDED] * 3 + [ComboStatus.UNAVAILABLE], JobStatus.PARTIAL),
        ([ComboStatus.ALREADY_LANDED, ComboStatus.GAP], JobStatus.PARTIAL),
        ([ComboStatus.AUTH_FAILED] * 4, JobStatus.AUTH_FAILED),
        ([ComboStatus.UNAVAILABLE, ComboStatus.AUTH_FAILED], JobStatus.AUTH_FAILED),
        ([ComboStatus.RATE_LIMITED] * 4, JobStatus.RATE_LIMITED),
        ([ComboStatus.QUOTA_REFUSED] * 4, JobStatus.RATE_LIMITED),
        ([ComboStatus.UNAVAILABLE] * 4, JobStatus.FAILED),
        ([ComboStatus.OWN_FAULT] * 4, JobStatus.FAILED),
        ([ComboStatus.REFUSED] * 4, JobStatus.FAILED),
        ([ComboStatus.GAP] * 4, JobStatus.SKIPPED),
    ],
)
def test_the_status_of_a_job_follows_from_its_combos(
    statuses: list[ComboStatus], expected: JobStatus
) -> None:
    assert job_status(outcomes(*statuses)) is expected


def test_every_way_to_be_without_data_leads_to_a_status() -> None:
    for status in ComboStatus:
        job_status(outcomes(status))


def test_the_message_of_a_job_is_that_of_the_most_telling_outcome() -> None:
    found = telling_outcome(outcomes(ComboStatus.UNAVAILABLE, ComboStatus.AUTH_FAILED))
    assert found is not None
    assert found.status is ComboStatus.AUTH_FAILED
    assert telling_outcome(outcomes(ComboStatus.LANDED)) is None


@pytest.mark.parametrize(
    ("tags", "trigger"),
    [
        ({}, Trigger.MANUAL),
        ({"schedule": "clarity_scheduler"}, Trigger.SCHEDULE),
        ({"backfill": "abc"}, Trigger.BACKFILL),
        ({TRIGGER_TAG: "panel", "schedule": "x"}, Trigger.PANEL),
        ({TRIGGER_TAG: "nonsense"}, Trigger.MANUAL),
    ],
)
def test_who_asked_for_a_run_is_read_from_its_tags(tags: dict[str, str], trigger: Trigger) -> None:
    assert trigger_of_run(tags, schedule_tag="schedule", backfill_tag="backfill") is trigger


def test_only_the_schedule_spends_its_share() -> None:
    assert {trigger for trigger in Trigger if purpose_of(trigger) is Purpose.SCHEDULE} == {
        Trigger.SCHEDULE
    }


@dataclass(frozen=True)
class Kept:
    id: int
    requested_at: datetime
    verdict: Verdict | None = Verdict.ACCEPTED
    num_of_days: int = 1
    business_id: str = "acme"
    dimension_set: str = URL_SOURCE.dimension_set


def test_the_earliest_accepted_reply_of_24_hours_stands_for_the_day() -> None:
    refused = Kept(1, ON_TIME, verdict=Verdict.DIMENSION_IGNORED)
    of_two_days = Kept(2, ON_TIME, num_of_days=2)
    scheduled = Kept(3, ON_TIME + timedelta(minutes=1))
    tested = Kept(4, ON_TIME + timedelta(hours=14))
    chosen = exports_of_record([tested, of_two_days, scheduled, refused])
    assert chosen == {("acme", "Source,URL"): scheduled}


def test_a_window_is_the_day_itself_within_an_hour() -> None:
    assert is_aligned(DAY, window_end=ON_TIME)
    assert not is_aligned(DAY, window_end=ON_TIME + timedelta(hours=1))
