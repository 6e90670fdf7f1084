"""Deciding what to fetch for a business-day, and what the outcomes of the calls amount to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, Protocol, TypeVar

from clarity_pipeline.domain.days import is_collectable, window_shift_hours
from clarity_pipeline.domain.dimensions import DimensionCombo, combos_of_a_day
from clarity_pipeline.domain.errors import ClarityError, NoLongerCollectable
from clarity_pipeline.domain.exports import Verdict
from clarity_pipeline.domain.failures import (
    JOB_STATUS_WITHOUT_DATA,
    ComboStatus,
    consequence_of,
)
from clarity_pipeline.domain.quota import Purpose
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger

MOST_SINGLE_BATCHES: Final = 16
"""Up to this many businesses each is a batch, and a branch of the run, of its own."""

BATCHES_OF_MANY: Final = 4
"""Beyond, batches grow instead: each costs four steps and about 30 event rows whatever its size."""

TRIGGER_TAG: Final = "clarity/trigger"
"""The run tag by which the command line and the panel say that they asked for a run."""

ALIGNED_WITHIN_HOURS: Final = 1.0
"""A window that ends within this of midnight UTC counts as the day itself."""


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One combo of one business-day that has to be fetched; carries no secret.

    `day` is the day the reply is stored under; the reply covers the last `num_of_days` x 24 hours.
    A reply that was asked for before `answered_since` does not answer it.
    """

    business_id: str
    project_id: str
    day: date
    combo: DimensionCombo
    purpose: Purpose
    num_of_days: int = 1
    answered_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class ComboOutcome:
    """What became of a combo: an ordinary value that travels between ops, without a secret in it.

    `calls` are the slots this run spent on it.
    """

    business_id: str
    dimension_set: str
    status: ComboStatus
    calls: int = 0
    error_code: str | None = None
    message: str | None = None

    def as_json(self) -> dict[str, object]:
        """The entry of this combo in a sync job's `combos` column."""
        entry: dict[str, object] = {"status": self.status.value, "calls": self.calls}
        if self.error_code is not None:
            entry |= {"error_code": self.error_code, "message": self.message}
        return entry


@dataclass(frozen=True, slots=True)
class LandedReply:
    """What the store holds of one earlier reply for this business, day and combo."""

    dimension_set: str
    verdict: Verdict | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class BusinessPlan:
    """A business-day split into what is still to be fetched and what is settled without a call."""

    business_id: str
    to_fetch: tuple[PlannedCall, ...]
    settled: tuple[ComboOutcome, ...]


def plan_business_day(
    *,
    business_id: str,
    project_id: str,
    day: date,
    now: datetime,
    purpose: Purpose,
    overview: bool,
    landed: Collection[LandedReply],
) -> BusinessPlan:
    """Decide which combos of a business-day need a call.

    What has landed is never fetched again; a permanent refusal stands for its day; a day that
    the API no longer answers for is a gap, never fetched as if it were another day.
    """
    accepted = {reply.dimension_set for reply in landed if reply.verdict is Verdict.ACCEPTED}
    refused = {
        reply.dimension_set: reply
        for reply in landed
        if reply.verdict not in {None, Verdict.ACCEPTED}
    }
    to_fetch: list[PlannedCall] = []
    settled: list[ComboOutcome] = []
    for combo in combos_of_a_day(overview=overview):
        name = combo.dimension_set
        call = PlannedCall(business_id, project_id, day, combo, purpose)
        if name in accepted:
            settled.append(outcome_of_landed(call, Verdict.ACCEPTED, None, calls=0))
        elif name in refused:
            reply = refused[name]
            settled.append(outcome_of_landed(call, reply.verdict, reply.detail, calls=0))
        elif not is_collectable(day, now=now):
            settled.append(outcome_of_error(call, NoLongerCollectable(day), calls=0))
        else:
            to_fetch.append(call)
    return BusinessPlan(business_id, tuple(to_fetch), tuple(settled))


def plan_batches(calls: Iterable[PlannedCall]) -> list[list[PlannedCall]]:
    """Group calls into batches of whole businesses, as equal as possible in size.

    A small agency sees each business as a branch of its own in the run; a large one gets larger
    batches, so that a run stays within some 200 event rows however many businesses there are.
    """
    by_business: dict[str, list[PlannedCall]] = {}
    for call in calls:
        by_business.setdefault(call.business_id, []).append(call)
    groups = list(by_business.values())
    count = len(groups) if len(groups) <= MOST_SINGLE_BATCHES else BATCHES_OF_MANY
    return [[call for group in groups[start::count] for call in group] for start in range(count)]


def outcome_of_error(call: PlannedCall, error: ClarityError, *, calls: int) -> ComboOutcome:
    """The outcome that an error leaves behind for its combo."""
    return ComboOutcome(
        call.business_id,
        call.combo.dimension_set,
        consequence_of(error).status,
        calls=calls,
        error_code=error.code,
        message=str(error),
    )


def outcome_of_landed(
    call: PlannedCall, verdict: Verdict | None, detail: str | None, *, calls: int
) -> ComboOutcome:
    """The outcome of a combo whose reply is there already, as it was judged."""
    name = call.combo.dimension_set
    if verdict is Verdict.ACCEPTED:
        return ComboOutcome(call.business_id, name, ComboStatus.ALREADY_LANDED, calls=calls)
    return ComboOutcome(
        call.business_id,
        name,
        ComboStatus.REFUSED,
        calls=calls,
        error_code=str(verdict),
        message=detail,
    )


def job_status(outcomes: Sequence[ComboOutcome]) -> JobStatus:
    """The status of a sync job from the outcomes of its combos."""
    statuses = {outcome.status for outcome in outcomes}
    if all(status.has_data for status in statuses):
        return JobStatus.SUCCEEDED
    if any(status.has_data for status in statuses):
        return JobStatus.PARTIAL
    return next(job for combo, job in JOB_STATUS_WITHOUT_DATA.items() if combo in statuses)


def telling_outcome(outcomes: Sequence[ComboOutcome]) -> ComboOutcome | None:
    """The outcome whose error explains the job best; None when every combo has data."""
    for status in JOB_STATUS_WITHOUT_DATA:
        for outcome in outcomes:
            if outcome.status is status:
                return outcome
    return None


def trigger_of_run(tags: Mapping[str, str], *, schedule_tag: str, backfill_tag: str) -> Trigger:
    """Who asked for a run, from its tags; a tag of our own wins over the orchestrator's."""
    named = tags.get(TRIGGER_TAG)
    if named in set(Trigger):
        return Trigger(named)
    if schedule_tag in tags:
        return Trigger.SCHEDULE
    if backfill_tag in tags:
        return Trigger.BACKFILL
    return Trigger.MANUAL


def purpose_of(trigger: Trigger) -> Purpose:
    """Only the schedule may use the share that is kept for it."""
    return Purpose.SCHEDULE if trigger is Trigger.SCHEDULE else Purpose.MANUAL


def is_aligned(day: date, *, window_end: datetime) -> bool:
    """Whether a 24 h window is the day it is stored under, but for the schedule's own delay."""
    return abs(window_shift_hours(day, window_end=window_end)) <= ALIGNED_WITHIN_HOURS


class JudgedReply(Protocol):
    """What choosing between landed replies needs to know of each."""

    @property
    def id(self) -> int: ...
    @property
    def business_id(self) -> str: ...
    @property
    def dimension_set(self) -> str: ...
    @property
    def num_of_days(self) -> int: ...
    @property
    def verdict(self) -> Verdict | None: ...
    @property
    def requested_at(self) -> datetime: ...


Reply = TypeVar("Reply", bound=JudgedReply)


def exports_of_record(replies: Iterable[Reply]) -> dict[tuple[str, str], Reply]:
    """Which landed reply stands for each (business, dimension set) of a day.

    The earliest accepted 24 h reply: its window lies closest to the day itself. Later ones
    (a connection test in the afternoon) are kept, but never replace it.
    """
    chosen: dict[tuple[str, str], Reply] = {}
    for reply in sorted(replies, key=lambda item: (item.requested_at, item.id)):
        if reply.verdict is Verdict.ACCEPTED and reply.num_of_days == 1:
            chosen.setdefault((reply.business_id, reply.dimension_set), reply)
    return chosen
