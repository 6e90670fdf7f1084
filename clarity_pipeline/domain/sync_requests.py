"""A person's "Sync now": which run works on it, how far it is, and how that is said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from itertools import groupby
from typing import Final, Protocol, TypeVar

from clarity_pipeline.domain.sync_jobs import JobStatus

REQUESTS_TAG: Final = "clarity/sync_requests"
"""The run tag that names the requests a run works on: their ids, joined by commas."""

MOST_REQUESTS_PER_RUN: Final = 50
"""One run fetches at a time, and whoever clicks next waits for the whole of the one before."""

MOST_REQUESTS_PER_TICK: Final = 500
"""A thousand businesses that are asked for at once are on their way after two ticks."""

NOBODY_AFTER: Final = timedelta(minutes=2)
"""A request is picked up within seconds; one that waits for longer waits for nobody."""


class RequestState(StrEnum):
    """How far a request is; the last two are final."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    REFUSED = "refused"


class ComboStage(StrEnum):
    """How far a combo is whose outcome the job does not know yet."""

    WAITING = "waiting"
    FETCHING = "fetching"


class RunEnd(StrEnum):
    """How a run ended that is over."""

    CANCELLED = "cancelled"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class LaunchedRun:
    """A run that was launched for requests; `end` is None while it is queued or under way."""

    run_id: str
    request_ids: tuple[int, ...]
    end: RunEnd | None


@dataclass(frozen=True, slots=True)
class WantedRun:
    """A run that is to be launched for requests about one day; one business has one of them."""

    day: date
    request_ids: tuple[int, ...]
    business_ids: tuple[str, ...]

    @property
    def run_key(self) -> str:
        """What no second run is launched with; the oldest request is enough to name it.

        A request is asked for again only while no run that was launched names it. So a run with
        this key is this one, or one that was made and never launched, which Dagster then launches.
        """
        return f"{self.day} request {self.request_ids[0]}"

    @property
    def requests_tag(self) -> str:
        return ",".join(str(request_id) for request_id in self.request_ids)


class WaitingRequest(Protocol):
    """What putting requests into runs needs to know of each."""

    @property
    def id(self) -> int: ...
    @property
    def business_id(self) -> str: ...
    @property
    def day(self) -> date: ...


Request = TypeVar("Request", bound=WaitingRequest)


def plan_runs(requests: Iterable[Request]) -> list[WantedRun]:
    """The runs for these requests: one day each, of bounded size, the oldest requests first."""
    in_order = sorted(requests, key=lambda request: (request.day, request.id))
    wanted: list[WantedRun] = []
    for day, group in groupby(in_order, key=lambda request: request.day):
        of_day = list(group)
        for start in range(0, len(of_day), MOST_REQUESTS_PER_RUN):
            batch = of_day[start : start + MOST_REQUESTS_PER_RUN]
            wanted.append(
                WantedRun(
                    day=day,
                    request_ids=tuple(request.id for request in batch),
                    business_ids=tuple(sorted({request.business_id for request in batch})),
                )
            )
    return wanted


def parse_requests_tag(value: str) -> tuple[int, ...]:
    """The request ids of a run's tag; what is no id is left out, for people can write tags too."""
    return tuple(int(part) for part in value.split(",") if part.isascii() and part.isdecimal())


def request_state(*, is_refused: bool, job_status: JobStatus | None) -> RequestState:
    """The state of a request from what its row says and from its job, if there is one."""
    if is_refused:
        return RequestState.REFUSED
    match job_status:
        case None:
            return RequestState.WAITING
        case JobStatus.RUNNING:
            return RequestState.RUNNING
        case _:
            return RequestState.FINISHED


def is_overlooked(*, requested_at: datetime, picked_up_at: datetime | None, now: datetime) -> bool:
    """Whether a request without a job should have been picked up by now; then nobody works."""
    return picked_up_at is None and now - requested_at >= NOBODY_AFTER


def waiting_sentence(
    *, requested_at: datetime, picked_up_at: datetime | None, now: datetime
) -> str:
    """What a request waits for that has no job yet."""
    if picked_up_at is not None:
        return "Waiting for its turn: one run fetches at a time."
    if not is_overlooked(requested_at=requested_at, picked_up_at=picked_up_at, now=now):
        return "Waiting for the worker."
    return (
        f"Nobody has picked this up since {requested_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC: is "
        "the Dagster daemon running and clarity_sync_request_sensor switched on?"
    )


def running_sentence(day: date, *, combos_in: int, combos: int) -> str:
    """How far a job is that is under way."""
    return f"Fetching {day}: {combos_in} of {combos} combinations are in."


def finished_sentence(
    day: date, *, status: JobStatus, calls_used: int, error_message: str | None
) -> str:
    """How a job ended."""
    if status is JobStatus.SUCCEEDED:
        spent = f"{calls_used} call" + ("" if calls_used == 1 else "s")
        return f"{day} is in; this spent {spent if calls_used else 'no call'}."
    word = status.value.replace("_", " ")
    return error_message or f"The sync of {day} ended as {word}."


def run_ended_sentence(end: RunEnd, *, why: str | None) -> str:
    """Why a request is refused whose run is over and never came to it."""
    if end is RunEnd.CANCELLED:
        return "The run was cancelled before it came to this business; ask again."
    reason = f": {why}" if why else "; ask again."
    return f"The run ended before it came to this business{reason}"


RUN_IS_UNKNOWN: Final = (
    "Dagster does not know the run that was to do this; ask again if the day is still missing."
)
