""" "Sync now": asking for a business's day, picking up what was asked for, and how it comes along.

Whoever asks never talks to the orchestrator: a row is written, and its sensor looks for rows.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from clarity_pipeline.domain.collection import purpose_of
from clarity_pipeline.domain.days import check_day_is_over, check_is_collectable, day_collected_at
from clarity_pipeline.domain.dimensions import combos_of_a_day
from clarity_pipeline.domain.errors import InputError
from clarity_pipeline.domain.exports import Verdict
from clarity_pipeline.domain.failures import ComboStatus
from clarity_pipeline.domain.interrupted_jobs import LONGEST_RUN
from clarity_pipeline.domain.sync_jobs import JobStatus
from clarity_pipeline.domain.sync_requests import (
    MOST_REQUESTS_PER_TICK,
    RUN_IS_UNKNOWN,
    ComboStage,
    LaunchedRun,
    RequestState,
    WantedRun,
    finished_sentence,
    is_overlooked,
    plan_runs,
    request_state,
    run_ended_sentence,
    running_sentence,
    waiting_sentence,
)
from clarity_pipeline.operations.collect_day import check_can_sync, wants_overview
from clarity_pipeline.store import call_history, connections, exports, sync_jobs, sync_requests
from clarity_pipeline.store.connections import ConnectionRecord
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.sync_jobs import SyncJob
from clarity_pipeline.store.sync_requests import SyncRequest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ComboProgress:
    """How far one combo is: a stage while nobody has settled it, then what became of it."""

    dimension_set: str
    status: ComboStage | ComboStatus
    message: str | None = None


@dataclass(frozen=True, slots=True)
class RequestProgress:
    """How far a request is; `job` is None, and there are no combos, until a run has come to it.

    A request is finished once its job has settled; the figures of the day follow within seconds.
    `is_overlooked` says that nobody has picked it up in time; `sentence` then is for whoever runs
    the worker.
    """

    request: SyncRequest
    state: RequestState
    job: SyncJob | None
    combos: tuple[ComboProgress, ...]
    sentence: str
    is_overlooked: bool

    @property
    def is_over(self) -> bool:
        return self.state in {RequestState.FINISHED, RequestState.REFUSED}


@dataclass(frozen=True, slots=True)
class PickedUp:
    """What a look at the requests came to: the runs to launch, and how many rows it changed."""

    wanted: tuple[WantedRun, ...]
    picked_up: int
    refused: int


class Runs(Protocol):
    """What the orchestrator's instance says of runs that were launched for requests."""

    def newest(self) -> Sequence[LaunchedRun]:
        """The newest of them, at least all that the last two ticks asked for."""
        ...

    def with_ids(self, run_ids: Collection[str]) -> Mapping[str, LaunchedRun]:
        """These runs; one that the instance does not know is left out."""
        ...

    def why_it_ended(self, run_id: str) -> str:
        """What went wrong in a run that is over, as a sentence without a secret."""
        ...


def request_sync(
    database: Database,
    *,
    business_id: str,
    requested_by: str,
    now: datetime,
    day: date | None = None,
) -> SyncRequest:
    """Ask for a day, by default the one that is collected now; spends nothing by itself.

    An open request for the same day is returned instead of a second one. Raises UnknownBusiness,
    NotConnected, SyncDisabled, InvalidDay or NoLongerCollectable.
    """
    day = day or day_collected_at(now)
    _check_can_be_done(connections.get_connection(database, business_id), day=day, now=now)
    return sync_requests.open_request(
        database, business_id=business_id, day=day, requested_by=requested_by, now=now
    )


def pick_up_requests(database: Database, runs: Runs, *, now: datetime) -> PickedUp:
    """Bring the requests up to what has become of their runs, and say which runs to launch.

    Asking for a run writes nothing. A request counts as picked up once there is a run that was
    launched and names it, which is seen at the next look; so whoever dies in between has lost and
    doubled nothing:

    - before the daemon has written down what it was asked to launch, there is no run: the request
      still waits and is asked for again;
    - after that the daemon itself comes back to it, and does so before it looks here again. Run
      ids are set aside by then and the run key has been taken, so the run is launched once;
    - a run that was made and could not be handed over for launching is no launched run: it is
      asked for again, under the same key, and Dagster launches the one there is;
    - after the launch the run is found by the requests it names, whoever is killed when.

    Where two instances pick up from one database both may launch a day; the ledger and the landed
    replies then keep the second run from making any call of the first again.
    """
    waiting = sync_requests.waiting_requests(database, limit=MOST_REQUESTS_PER_TICK)
    picked_up = _pick_up_launched(database, runs, now=now) if waiting else 0
    if picked_up:
        waiting = sync_requests.waiting_requests(database, limit=MOST_REQUESTS_PER_TICK)
    refusals = _refusals(database, waiting, now=now)
    ended = _refusals_of_ended_runs(database, runs, now=now)
    refused = [
        sync_requests.refuse(database, request_id=request_id, refusal=refusal, now=now)
        for request_id, refusal in (refusals | ended).items()
    ]
    wanted = plan_runs(request for request in waiting if request.id not in refusals)
    return PickedUp(wanted=tuple(wanted), picked_up=picked_up, refused=sum(refused))


def progress_of(
    database: Database, request: SyncRequest, *, overview_default: bool, now: datetime
) -> RequestProgress:
    """How far a request is, read from its row, its job, the ledger and what has landed."""
    job = None
    if request.dagster_run_id is not None:
        job = sync_jobs.find_job(
            database,
            dagster_run_id=request.dagster_run_id,
            business_id=request.business_id,
            day=request.day,
        )
    state = request_state(
        is_refused=request.refused_at is not None, job_status=job.status if job else None
    )
    combos: tuple[ComboProgress, ...] = ()
    if job is not None:
        combos = combos_of(database, job, overview_default=overview_default)
    return RequestProgress(
        request,
        state,
        job,
        combos,
        _sentence(request, job, combos, now=now),
        is_overlooked=state is RequestState.WAITING
        and is_overlooked(
            requested_at=request.requested_at, picked_up_at=request.picked_up_at, now=now
        ),
    )


def combos_of(
    database: Database, job: SyncJob, *, overview_default: bool
) -> tuple[ComboProgress, ...]:
    """How far each combo of a job is, whoever asked for it."""
    if job.status is JobStatus.RUNNING:
        return _combos_so_far(database, job, overview_default=overview_default)
    return _combos_of_settled(job)


def combos_in(combos: Sequence[ComboProgress]) -> int:
    """How many of them have their data."""
    return sum(isinstance(c.status, ComboStatus) and c.status.has_data for c in combos)


def _check_can_be_done(record: ConnectionRecord, *, day: date, now: datetime) -> None:
    check_can_sync(record, day=day)
    check_day_is_over(day, now=now)
    check_is_collectable(day, now=now)


def _pick_up_launched(database: Database, runs: Runs, *, now: datetime) -> int:
    return sum(
        sync_requests.pick_up(
            database, request_ids=run.request_ids, dagster_run_id=run.run_id, now=now
        )
        for run in runs.newest()
    )


def _refusals(
    database: Database, requests: Sequence[SyncRequest], *, now: datetime
) -> dict[int, str]:
    """Why each of these, by its id, can no longer be done; those that can be are left out."""
    if not requests:
        return {}
    business_ids = {request.business_id for request in requests}
    records = {
        record.business_id: record
        for record in connections.list_connections(database, business_ids)
    }
    refusals: dict[int, str] = {}
    for request in requests:
        try:
            _check_can_be_done(records[request.business_id], day=request.day, now=now)
        except InputError as error:
            logger.info("business %s day %s: %s", request.business_id, request.day, error)
            refusals[request.id] = str(error)
    return refusals


def _refusals_of_ended_runs(database: Database, runs: Runs, *, now: datetime) -> dict[int, str]:
    """Why each request, by its id, is refused whose run is over and has no job for it."""
    requests = sync_requests.requests_without_job(database, now=now)
    # Asked after the requests were read, and a request that got its job meanwhile is not refused.
    known = runs.with_ids({r.dagster_run_id for r in requests if r.dagster_run_id})
    ended: list[tuple[SyncRequest, LaunchedRun]] = []
    refusals: dict[int, str] = {}
    for request in requests:
        run = known.get(request.dagster_run_id or "")
        if run is None:
            # It may be a run of another instance on this database, which ends some time.
            if request.picked_up_at is None or now - request.picked_up_at > LONGEST_RUN:
                refusals[request.id] = RUN_IS_UNKNOWN
        elif run.end is not None:
            ended.append((request, run))
    # Usually it was switched off after the run had been launched.
    own_reasons = _refusals(database, [request for request, _ in ended], now=now)
    for request, run in ended:
        refusals[request.id] = own_reasons.get(request.id) or _end_in_words(run, runs)
    return refusals


def _end_in_words(run: LaunchedRun, runs: Runs) -> str:
    assert run.end is not None
    # What a shared run failed of may name another business, which is nobody else's to know.
    why = runs.why_it_ended(run.run_id) if len(run.request_ids) == 1 else None
    return run_ended_sentence(run.end, why=why)


def _combos_so_far(
    database: Database, job: SyncJob, *, overview_default: bool
) -> tuple[ComboProgress, ...]:
    record = connections.get_connection(database, job.business_id)
    landed = {
        reply.dimension_set: reply
        for reply in exports.list_exports(database, day=job.day, business_ids=[job.business_id])
        if reply.num_of_days == 1 and reply.verdict is not None
    }
    asked = {
        call.dimension_set
        for call in call_history.calls_of_business(
            database,
            business_id=job.business_id,
            purpose=purpose_of(job.trigger),
            since=job.started_at,
            before=None,
        )
    }
    progress: list[ComboProgress] = []
    for combo in combos_of_a_day(overview=wants_overview(record, overview_default)):
        name = combo.dimension_set
        reply = landed.get(name)
        if reply is None:
            stage = ComboStage.FETCHING if name in asked else ComboStage.WAITING
            progress.append(ComboProgress(name, stage))
        elif reply.verdict is not Verdict.ACCEPTED:
            progress.append(ComboProgress(name, ComboStatus.REFUSED, reply.detail))
        else:
            status = ComboStatus.LANDED if name in asked else ComboStatus.ALREADY_LANDED
            progress.append(ComboProgress(name, status))
    return tuple(progress)


def _combos_of_settled(job: SyncJob) -> tuple[ComboProgress, ...]:
    return tuple(
        ComboProgress(name, ComboStatus(str(combo["status"])), _text(combo.get("message")))
        for name, combo in (job.combos or {}).items()
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _sentence(
    request: SyncRequest, job: SyncJob | None, combos: Sequence[ComboProgress], *, now: datetime
) -> str:
    if request.refusal is not None:
        return request.refusal
    if job is None:
        return waiting_sentence(
            requested_at=request.requested_at, picked_up_at=request.picked_up_at, now=now
        )
    if job.status is JobStatus.RUNNING:
        return running_sentence(job.day, combos_in=combos_in(combos), combos=len(combos))
    return finished_sentence(
        job.day,
        status=job.status,
        calls_used=job.calls_used,
        error_message=job.error_message,
    )
