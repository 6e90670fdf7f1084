"""What came of the demo, and whether that is what each client's fate promised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from http import HTTPStatus

from clarity_pipeline.demo.clients import CLIENTS, Client, Fate
from clarity_pipeline.demo.history import Timeline
from clarity_pipeline.domain.aggregates import BehavioralAggregates
from clarity_pipeline.domain.connections import ConnectionState
from clarity_pipeline.domain.dimensions import DEFAULT_COMBOS
from clarity_pipeline.domain.quota import DAILY_CALL_LIMIT, utc_day_of
from clarity_pipeline.domain.sync_jobs import JobStatus
from clarity_pipeline.export_api.emulator import ReceivedCall
from clarity_pipeline.operations.connection_status import ConnectionStatus, connection_statuses
from clarity_pipeline.orchestration.launch import FinishedRun
from clarity_pipeline.store import quota_ledger, sync_jobs
from clarity_pipeline.store.aggregates import get_business_behavioral_aggregates
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.sync_jobs import SyncJob


@dataclass(frozen=True, slots=True)
class ClientOutcome:
    """One client after the demo: how yesterday went, the week's values, rows of all days.

    `project_calls` are today's slots of its project, which it may share.
    """

    client: Client
    status: ConnectionStatus
    job: SyncJob
    rows_written: int
    values: BehavioralAggregates
    project_calls: int


@dataclass(frozen=True, slots=True)
class Promise:
    """Something the demo said would happen, and whether it did."""

    sentence: str
    kept: bool


@dataclass(frozen=True, slots=True)
class DemoOutcome:
    """Everything there is to show."""

    days: Sequence[date]
    clients: Sequence[ClientOutcome]
    promises: Sequence[Promise]

    @property
    def broken(self) -> list[str]:
        return [promise.sentence for promise in self.promises if not promise.kept]


def look_at_outcome(
    database: Database,
    timeline: Timeline,
    *,
    runs: Sequence[FinishedRun],
    calls: Sequence[ReceivedCall],
) -> DemoOutcome:
    """Read from the store what happened, and hold it against the calls that Clarity received."""
    clients = [_look_at(database, client, timeline) for client in CLIENTS]
    today = utc_day_of(timeline.midnight)
    promises = [
        Promise(f"all {len(runs)} Dagster runs succeed", all(run.succeeded for run in runs)),
        *(promise for outcome in clients for promise in _promises(outcome, calls, timeline)),
        Promise(
            f"no project gets more than {DAILY_CALL_LIMIT} calls a day",
            all(count <= DAILY_CALL_LIMIT for count in _calls_per_project_day(calls).values()),
        ),
        Promise(
            "the ledger has booked exactly the calls that Clarity received today",
            sum({o.client.project.project_id: o.project_calls for o in clients}.values())
            == sum(utc_day_of(call.received_at) == today for call in calls),
        ),
    ]
    return DemoOutcome(timeline.days, clients, promises)


def _look_at(database: Database, client: Client, timeline: Timeline) -> ClientOutcome:
    now = timeline.last_collected_at
    [status] = connection_statuses(
        database, now=now, overview_default=False, business_ids=[client.business_id]
    )
    jobs = sync_jobs.list_jobs(database, business_id=client.business_id, limit=None)
    return ClientOutcome(
        client=client,
        status=status,
        job=jobs[0],
        rows_written=sum(job.rows_written for job in jobs),
        values=get_business_behavioral_aggregates(
            client.business_id, timeline.days[0], timeline.days[-1], database=database
        ),
        project_calls=len(
            quota_ledger.list_calls(
                database, project_id=client.project.project_id, utc_day=utc_day_of(now)
            )
        ),
    )


def _promises(
    outcome: ClientOutcome, calls: Sequence[ReceivedCall], timeline: Timeline
) -> Iterator[Promise]:
    name, fate, values = outcome.client.name, outcome.client.fate, outcome.values
    answers = _answers_today(outcome.client, calls, timeline.last_collected_at)
    days = outcome.client.days_known
    match fate:
        case Fate.TOKEN_EXPIRED:
            yield Promise(
                f"{name}: authentication fails, and Clarity said 401",
                outcome.job.status is JobStatus.AUTH_FAILED
                and answers[HTTPStatus.UNAUTHORIZED] > 0,
            )
            yield Promise(
                f"{name}: switched off until it has a new token, and rules see no values for it",
                outcome.status.state is ConnectionState.DISABLED_AUTH
                and values.clarity_sessions is None,
            )
            yield _promised_days(outcome, 0)
            return
        case Fate.QUOTA_SPENT:
            yield Promise(
                f"{name}: rate limited, and Clarity said 429",
                outcome.job.status is JobStatus.RATE_LIMITED
                and answers[HTTPStatus.TOO_MANY_REQUESTS] > 0,
            )
            yield _promised_days(outcome, days - 1)
        case Fate.COLLECTED | Fate.NOBODY_CAME | Fate.CUT_OFF:
            combos = len(DEFAULT_COMBOS)
            yield Promise(
                f"{name}: succeeds with {combos} calls",
                outcome.job.status is JobStatus.SUCCEEDED
                and outcome.job.calls_used == combos
                and outcome.status.landed == combos
                and answers[HTTPStatus.OK] == combos * _sharers(outcome.client),
            )
            yield _promised_days(outcome, days)
    yield Promise(
        f"{name}: its sums {'are' if fate is Fate.CUT_OFF else 'are not'} marked as truncated",
        values.truncated == (fate is Fate.CUT_OFF),
    )
    yield Promise(
        f"{name}: sessions are {'zero' if fate is Fate.NOBODY_CAME else 'counted'}, not unknown",
        values.clarity_sessions is not None
        and (values.clarity_sessions == 0) == (fate is Fate.NOBODY_CAME),
    )


def _promised_days(outcome: ClientOutcome, days: int) -> Promise:
    return Promise(
        f"{outcome.client.name}: {days} of {outcome.values.days_in_window} days have data",
        outcome.values.days_with_data == days,
    )


def _answers_today(
    client: Client, calls: Sequence[ReceivedCall], now: datetime
) -> Counter[int | None]:
    """How Clarity answered this client's project; a refused token tells it no project."""
    project_id = None if client.fate is Fate.TOKEN_EXPIRED else client.project.project_id
    return Counter(
        call.status
        for call in calls
        if call.project_id == project_id and utc_day_of(call.received_at) == utc_day_of(now)
    )


def _sharers(client: Client) -> int:
    return sum(other.project.project_id == client.project.project_id for other in CLIENTS)


def _calls_per_project_day(calls: Sequence[ReceivedCall]) -> Counter[tuple[str | None, date]]:
    return Counter(
        (call.project_id, utc_day_of(call.received_at)) for call in calls if call.counted
    )
