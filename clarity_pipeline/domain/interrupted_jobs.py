"""Whether a job that is called running still is, and what an interrupted one came to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final

from clarity_pipeline.domain.collection import (
    ComboOutcome,
    ComboStatus,
    LandedReply,
    job_status,
)
from clarity_pipeline.domain.days import is_collectable
from clarity_pipeline.domain.dimensions import DimensionCombo
from clarity_pipeline.domain.exports import Verdict
from clarity_pipeline.domain.quota import CallOutcome
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger

WORKER_TAG: Final = "clarity/worker"
"""The run tag that names the process a run is executed in."""

LONGEST_RUN: Final = timedelta(hours=2, minutes=15)
"""Dagster ends a daily sync after two hours (a tag of its job); some time for it."""

INTERRUPTED: Final = "interrupted"
"""The `error_code` of a job that was closed by somebody else than the process that worked on it."""


class Interruption(StrEnum):
    """Why a job did not come to its end, as a sentence begins."""

    DIED = "The process that worked on this died before it finished"
    STOPPED = "The sync was stopped before its end"


class RunState(StrEnum):
    """What the Dagster instance says of a job's run; unknown is also a job without a run."""

    IN_PROGRESS = "in_progress"
    OVER = "over"
    UNKNOWN = "unknown"


class WorkerState(StrEnum):
    """What this machine says of a process; unknown is one on another machine."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"


def is_abandoned(*, run: RunState, worker: WorkerState, age: timedelta) -> bool:
    """Whether nobody works any more on a job that is called running.

    A run in progress is believed: its steps may have processes of their own that end before it.
    A run this instance has never heard of may belong to another instance on the same database,
    so only a worker that is known to be gone, or its age, tells.
    """
    if age > LONGEST_RUN:
        return True
    match run:
        case RunState.IN_PROGRESS:
            return False
        case RunState.OVER:
            return True
        case RunState.UNKNOWN:
            return worker is WorkerState.GONE


_STATUS_OF_CALL: Final = {
    CallOutcome.AUTH_FAILED: ComboStatus.AUTH_FAILED,
    CallOutcome.RATE_LIMITED: ComboStatus.RATE_LIMITED,
    CallOutcome.SERVICE_UNAVAILABLE: ComboStatus.UNAVAILABLE,
    CallOutcome.TIMED_OUT: ComboStatus.UNAVAILABLE,
    CallOutcome.CONNECTION_BROKEN: ComboStatus.UNAVAILABLE,
    CallOutcome.REQUEST_REJECTED: ComboStatus.REFUSED,
    CallOutcome.REPLY_UNREADABLE: ComboStatus.REFUSED,
    CallOutcome.DIMENSION_IGNORED: ComboStatus.REFUSED,
}
"""Calls with another outcome, or none, were interrupted themselves."""


def interrupted_outcome(
    *,
    business_id: str,
    combo: DimensionCombo,
    landed: Collection[LandedReply],
    calls: Sequence[CallOutcome | None],
    interruption: Interruption,
) -> ComboOutcome:
    """What became of a combo of an interrupted job, from what it left behind.

    `landed` are the replies there are for the business-day, `calls` the outcomes of the slots
    that the job spent on this combo, oldest first.
    """
    name = combo.dimension_set
    replies = [reply for reply in landed if reply.dimension_set == name]
    if any(reply.verdict is Verdict.ACCEPTED for reply in replies):
        status = ComboStatus.LANDED if calls else ComboStatus.ALREADY_LANDED
        return ComboOutcome(business_id, name, status, calls=len(calls))
    for reply in replies:
        if reply.verdict is not None:
            return ComboOutcome(
                business_id,
                name,
                ComboStatus.REFUSED,
                calls=len(calls),
                error_code=str(reply.verdict),
                message=reply.detail,
            )
    outcome = calls[-1] if calls else None
    status = _STATUS_OF_CALL.get(outcome) if outcome is not None else None
    said = "it was not asked for any more" if not calls else "no reply was kept"
    return ComboOutcome(
        business_id,
        name,
        status or ComboStatus.OWN_FAULT,
        calls=len(calls),
        error_code=str(outcome) if status else INTERRUPTED,
        message=f"{interruption}; {said}.",
    )


def interrupted_status(trigger: Trigger, outcomes: Sequence[ComboOutcome]) -> JobStatus:
    """How an interrupted job is settled; a replay that did not end has done nothing for sure."""
    if trigger is Trigger.REPLAY or not any(outcome.status.has_data for outcome in outcomes):
        return JobStatus.FAILED
    return job_status(outcomes)


def interrupted_message(
    interruption: Interruption, *, trigger: Trigger, status: JobStatus, day: date, now: datetime
) -> str:
    """One sentence for people: what happened, and what they can do about it."""
    if trigger is Trigger.REPLAY:
        return f"{interruption}; replay the day again, which costs no call."
    if status is JobStatus.SUCCEEDED:
        return (
            f"{interruption}; everything had landed, so run the day again to build its figures, "
            "which costs no call."
        )
    if is_collectable(day, now=now):
        return f"{interruption}; what had landed is kept, run the day again to fetch the rest."
    return (
        f"{interruption}; what had landed is kept, but Clarity no longer answers for the rest of "
        f"{day}."
    )
