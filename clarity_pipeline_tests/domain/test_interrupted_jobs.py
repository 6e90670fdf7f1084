"""Which jobs are abandoned, and what one that was interrupted came to."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from clarity_pipeline.domain.collection import ComboOutcome, ComboStatus, LandedReply
from clarity_pipeline.domain.dimensions import URL_DEVICE
from clarity_pipeline.domain.exports import Verdict
from clarity_pipeline.domain.interrupted_jobs import (
    LONGEST_RUN,
    Interruption,
    RunState,
    WorkerState,
    interrupted_message,
    interrupted_outcome,
    interrupted_status,
    is_abandoned,
)
from clarity_pipeline.domain.quota import CallOutcome
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger

DAY = date(2026, 11, 1)
NOW = datetime(2026, 11, 2, 3, tzinfo=UTC)
YOUNG = timedelta(minutes=5)


@pytest.mark.parametrize(
    ("run", "worker", "abandoned"),
    [
        (RunState.IN_PROGRESS, WorkerState.ALIVE, False),
        (RunState.IN_PROGRESS, WorkerState.UNKNOWN, False),
        # A step in a process of its own ends before its run does.
        (RunState.IN_PROGRESS, WorkerState.GONE, False),
        (RunState.OVER, WorkerState.ALIVE, True),
        (RunState.OVER, WorkerState.UNKNOWN, True),
        (RunState.OVER, WorkerState.GONE, True),
        (RunState.UNKNOWN, WorkerState.ALIVE, False),
        (RunState.UNKNOWN, WorkerState.UNKNOWN, False),
        (RunState.UNKNOWN, WorkerState.GONE, True),
    ],
)
def test_a_young_job_is_abandoned_when_its_run_or_its_worker_says_so(
    run: RunState, worker: WorkerState, abandoned: bool
) -> None:
    assert is_abandoned(run=run, worker=worker, age=YOUNG) is abandoned
    assert is_abandoned(run=run, worker=worker, age=LONGEST_RUN) is abandoned


@pytest.mark.parametrize("run", RunState)
@pytest.mark.parametrize("worker", WorkerState)
def test_no_job_is_running_for_longer_than_a_run_may_take(
    run: RunState, worker: WorkerState
) -> None:
    assert is_abandoned(run=run, worker=worker, age=LONGEST_RUN + timedelta(seconds=1))
    assert timedelta(hours=2) < LONGEST_RUN


def outcome(
    *calls: CallOutcome | None, verdict: Verdict | None = None, landed: bool = False
) -> ComboOutcome:
    replies = [LandedReply("Device,URL", verdict, "detail")] if landed or verdict else []
    return interrupted_outcome(
        business_id="acme",
        combo=URL_DEVICE,
        landed=[LandedReply("Country,URL", Verdict.ACCEPTED, None), *replies],
        calls=calls,
        interruption=Interruption.DIED,
    )


@pytest.mark.parametrize(
    ("found", "status", "calls", "code"),
    [
        (outcome(CallOutcome.LANDED, verdict=Verdict.ACCEPTED), ComboStatus.LANDED, 1, None),
        # Landed by the job that died before it could settle the slot.
        (outcome(None, verdict=Verdict.ACCEPTED), ComboStatus.LANDED, 1, None),
        (outcome(verdict=Verdict.ACCEPTED), ComboStatus.ALREADY_LANDED, 0, None),
        (
            outcome(CallOutcome.DIMENSION_IGNORED, verdict=Verdict.DIMENSION_IGNORED),
            ComboStatus.REFUSED,
            1,
            "dimension_ignored",
        ),
        (outcome(CallOutcome.AUTH_FAILED), ComboStatus.AUTH_FAILED, 1, "auth_failed"),
        (outcome(CallOutcome.RATE_LIMITED), ComboStatus.RATE_LIMITED, 1, "rate_limited"),
        (outcome(CallOutcome.TIMED_OUT), ComboStatus.UNAVAILABLE, 1, "timed_out"),
        (outcome(CallOutcome.TIMED_OUT, None), ComboStatus.OWN_FAULT, 2, "interrupted"),
        (outcome(CallOutcome.LANDED, landed=True), ComboStatus.OWN_FAULT, 1, "interrupted"),
        (outcome(), ComboStatus.OWN_FAULT, 0, "interrupted"),
    ],
)
def test_a_combo_is_told_by_its_reply_and_else_by_its_last_call(
    found: ComboOutcome, status: ComboStatus, calls: int, code: str | None
) -> None:
    assert (found.status, found.calls, found.error_code) == (status, calls, code)
    assert (found.message is None) == status.has_data


def combo(status: ComboStatus) -> ComboOutcome:
    return ComboOutcome("acme", "Device,URL", status)


@pytest.mark.parametrize(
    ("trigger", "statuses", "expected"),
    [
        (Trigger.SCHEDULE, [ComboStatus.LANDED, ComboStatus.ALREADY_LANDED], JobStatus.SUCCEEDED),
        (Trigger.MANUAL, [ComboStatus.LANDED, ComboStatus.OWN_FAULT], JobStatus.PARTIAL),
        (Trigger.SCHEDULE, [ComboStatus.AUTH_FAILED, ComboStatus.OWN_FAULT], JobStatus.FAILED),
        (Trigger.REPLAY, [ComboStatus.ALREADY_LANDED], JobStatus.FAILED),
    ],
)
def test_an_interrupted_job_is_what_has_landed_makes_it(
    trigger: Trigger, statuses: list[ComboStatus], expected: JobStatus
) -> None:
    assert interrupted_status(trigger, [combo(status) for status in statuses]) is expected


@pytest.mark.parametrize(
    ("trigger", "status", "days_later", "advice"),
    [
        (Trigger.MANUAL, JobStatus.PARTIAL, 0, "run the day again to fetch the rest"),
        (Trigger.MANUAL, JobStatus.PARTIAL, 1, "no longer answers for the rest of 2026-11-01"),
        (Trigger.MANUAL, JobStatus.SUCCEEDED, 1, "build its figures, which costs no call"),
        (Trigger.REPLAY, JobStatus.FAILED, 0, "replay the day again, which costs no call"),
    ],
)
def test_the_message_says_what_can_still_be_done(
    trigger: Trigger, status: JobStatus, days_later: int, advice: str
) -> None:
    message = interrupted_message(
        Interruption.DIED,
        trigger=trigger,
        status=status,
        day=DAY,
        now=NOW + timedelta(days=days_later),
    )
    assert message.startswith("The process that worked on this died before it finished; ")
    assert advice in message
