"""How requests are put into runs, and what people are told about them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarity_pipeline.domain.sync_jobs import JobStatus
from clarity_pipeline.domain.sync_requests import (
    MOST_REQUESTS_PER_RUN,
    NOBODY_AFTER,
    RequestState,
    RunEnd,
    finished_sentence,
    parse_requests_tag,
    plan_runs,
    request_state,
    run_ended_sentence,
    running_sentence,
    waiting_sentence,
)

DAY = date(2026, 11, 1)
NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Request:
    id: int
    business_id: str = "acme"
    day: date = DAY


REQUESTS = st.lists(
    st.builds(
        Request,
        id=st.integers(1, 10**9),
        business_id=st.sampled_from(["acme", "globex", "initech"]),
        day=st.dates(DAY, DAY + timedelta(days=3)),
    ),
    unique_by=lambda request: request.id,
    max_size=200,
)


@given(REQUESTS)
def test_every_request_is_in_exactly_one_run_of_its_day(requests: list[Request]) -> None:
    wanted = plan_runs(requests)
    planned = [request_id for run in wanted for request_id in run.request_ids]
    assert sorted(planned) == sorted(request.id for request in requests)
    by_id = {request.id: request for request in requests}
    for run in wanted:
        of_run = [by_id[request_id] for request_id in run.request_ids]
        assert {request.day for request in of_run} == {run.day}
        assert set(run.business_ids) == {request.business_id for request in of_run}
        assert parse_requests_tag(run.requests_tag) == run.request_ids
    assert len({run.run_key for run in wanted}) == len(wanted)


def test_a_run_has_a_bounded_number_of_requests_the_oldest_first() -> None:
    requests = [Request(number) for number in range(MOST_REQUESTS_PER_RUN + 1, 0, -1)]
    first, second = plan_runs(requests)
    assert first.request_ids == tuple(range(1, MOST_REQUESTS_PER_RUN + 1))
    assert second.request_ids == (MOST_REQUESTS_PER_RUN + 1,)


@given(st.text())
def test_a_tag_that_somebody_else_wrote_is_no_error(value: str) -> None:
    assert all(request_id >= 0 for request_id in parse_requests_tag(value))


@pytest.mark.parametrize("status", [None, *JobStatus])
def test_a_request_is_as_far_as_its_job(status: JobStatus | None) -> None:
    expected = {None: RequestState.WAITING, JobStatus.RUNNING: RequestState.RUNNING}
    state = request_state(is_refused=False, job_status=status)
    assert state is expected.get(status, RequestState.FINISHED)
    assert request_state(is_refused=True, job_status=status) is RequestState.REFUSED


def test_a_request_that_nobody_picks_up_says_where_to_look() -> None:
    def said(waited: timedelta, *, picked_up: bool = False) -> str:
        return waiting_sentence(
            requested_at=NOW, picked_up_at=NOW if picked_up else None, now=NOW + waited
        )

    assert said(NOBODY_AFTER - timedelta(seconds=1)) == "Waiting for the worker."
    assert said(NOBODY_AFTER) == (
        "Nobody has picked this up since 2026-11-02 09:00 UTC: is the Dagster daemon running and "
        "clarity_sync_request_sensor switched on?"
    )
    assert said(NOBODY_AFTER, picked_up=True).startswith("Waiting for its turn")


def test_the_end_is_told_in_one_sentence() -> None:
    assert running_sentence(DAY, combos_in=3, combos=4) == (
        "Fetching 2026-11-01: 3 of 4 combinations are in."
    )

    def finished(status: JobStatus, calls_used: int, error_message: str | None = None) -> str:
        return finished_sentence(
            DAY, status=status, calls_used=calls_used, error_message=error_message
        )

    assert finished(JobStatus.SUCCEEDED, 4) == "2026-11-01 is in; this spent 4 calls."
    assert finished(JobStatus.SUCCEEDED, 1) == "2026-11-01 is in; this spent 1 call."
    assert finished(JobStatus.SUCCEEDED, 0) == "2026-11-01 is in; this spent no call."
    assert finished(JobStatus.RATE_LIMITED, 1, "Nothing more today.") == "Nothing more today."
    assert finished(JobStatus.AUTH_FAILED, 1) == "The sync of 2026-11-01 ended as auth failed."


def test_a_run_that_never_came_to_a_business_says_why() -> None:
    assert "was cancelled" in run_ended_sentence(RunEnd.CANCELLED, why="anything")
    assert run_ended_sentence(RunEnd.ENDED, why="The disk is full.").endswith(
        "came to this business: The disk is full."
    )
    assert run_ended_sentence(RunEnd.ENDED, why=None).endswith("this business; ask again.")
