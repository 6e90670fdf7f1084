"""How all connections stand: one moment of the store, in few questions to it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from clarity_pipeline.domain.connections import ConnectionState
from clarity_pipeline.domain.quota import CallOutcome, Purpose
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.export_api.emulator import Fault
from clarity_pipeline.operations.connection_status import ConnectionStatus, connection_statuses
from clarity_pipeline.operations.replay_day import replay_day
from clarity_pipeline.store import businesses, connections, quota_ledger, sync_jobs
from clarity_pipeline.store.quota_ledger import Reservation
from clarity_pipeline_tests.agency import DAY, Agency
from clarity_pipeline_tests.store.statements import counted_queries


def statuses(agency: Agency) -> dict[str, ConnectionStatus]:
    found = connection_statuses(agency.database, now=agency.now, overview_default=False)
    return {status.record.business_id: status for status in found}


def reserve(agency: Agency, business_id: str, dimension_set: str) -> Reservation:
    taken = quota_ledger.reserve(
        agency.database,
        project_id=agency.projects[business_id].project_id,
        business_id=business_id,
        purpose=Purpose.SCHEDULE,
        day=DAY,
        dimension_set=dimension_set,
        may_use_share=True,
        now=agency.now,
    )
    assert isinstance(taken, Reservation)
    return taken


def settle(agency: Agency, taken: Reservation, outcome: CallOutcome) -> None:
    quota_ledger.settle(agency.database, taken, outcome=outcome, now=agency.now)


def test_every_business_stands_as_it_would_if_it_were_the_only_one(agency: Agency) -> None:
    for business_id in ("acme", "bolt", "paused", "refused"):
        agency.connect(business_id)
    agency.connect("shares", project_id=agency.projects["acme"].project_id)
    businesses.add_business(agency.database, business_id="new", name="New", now=agency.now)
    connections.set_enabled(agency.database, business_id="paused", enabled=False, now=agency.now)
    bolts = agency.projects["bolt"].project_id
    agency.emulator.control.add_fault(
        Fault(project_id=bolts, dimension_set="Country,URL", status=400, times=None)
    )
    settle(agency, reserve(agency, "refused", "OS"), CallOutcome.RATE_LIMITED)
    agency.sync()
    agency.connect("waiting")
    reserve(agency, "waiting", "Device,URL")
    settle(agency, reserve(agency, "waiting", "Source,URL"), CallOutcome.SERVICE_UNAVAILABLE)

    together = statuses(agency)

    alone = {
        business_id: connection_statuses(
            agency.database, now=agency.now, overview_default=False, business_ids=[business_id]
        )
        for business_id in together
    }
    assert alone == {business_id: [status] for business_id, status in together.items()}
    assert {business_id: (s.landed, s.due) for business_id, s in together.items()} == {
        "acme": (4, 4),
        "bolt": (3, 4),
        "new": (0, 4),
        "paused": (0, 4),
        "refused": (0, 4),
        "shares": (4, 4),
        "waiting": (0, 4),
    }
    assert {
        business_id: (status.quota.used, status.quota.kept, status.quota.rate_limited)
        for business_id, status in together.items()
        if status.quota is not None
    } == {
        "acme": (8, 0, False),
        "bolt": (4, 0, False),
        "paused": (0, 0, False),
        "refused": (1, 0, True),
        "shares": (8, 0, False),
        # Three are owed still; the fourth is in flight.
        "waiting": (2, 3, False),
    }


def test_a_replay_does_not_hide_how_the_sync_of_yesterday_ended(agency: Agency) -> None:
    agency.connect("acme")
    agency.emulator.control.add_fault(Fault(dimension_set="Country,URL", status=400, times=None))
    agency.sync()
    replay_day(agency.database, day=DAY, business_ids=["acme"], clock=lambda: agency.now)
    assert statuses(agency)["acme"].state is ConnectionState.PARTIAL
    older = DAY - timedelta(days=1)
    sync_jobs.start_jobs(
        agency.database,
        business_ids=["acme"],
        day=older,
        trigger=Trigger.MANUAL,
        dagster_run_id="r",
        now=agency.now,
    )
    status = statuses(agency)["acme"]
    assert status.state is ConnectionState.PARTIAL
    assert status.last_job is not None
    assert (status.last_job.day, status.last_job.status) == (older, JobStatus.RUNNING)


def test_a_hundred_businesses_are_as_few_queries_as_one(agency: Agency) -> None:
    def queries(ask: Callable[[], object]) -> int:
        with counted_queries(agency.database) as statements:
            ask()
        return len(statements)

    agency.connect("acme")
    of_one = queries(lambda: statuses(agency))
    for number in range(100):
        agency.connect(f"b{number:03d}", project_id=f"several{number // 2:03d}")
    assert queries(lambda: statuses(agency)) == of_one <= 9
