"""What the two sensors do for processes that have died, on a real instance and both databases."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from sqlalchemy import text

from clarity_pipeline.domain.connections import DisabledBy
from clarity_pipeline.domain.days import day_collected_at
from clarity_pipeline.domain.errors import StoreError
from clarity_pipeline.domain.quota import CALL_LEASE, CallOutcome
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.export_api.emulator import Fault
from clarity_pipeline.operations.collect_day import plan_day
from clarity_pipeline.operations.workers import this_worker
from clarity_pipeline.store import connections, quota_ledger, sync_jobs
from clarity_pipeline.store.quota_ledger import Reservation
from clarity_pipeline_tests.agency import DAY, ON_TIME, Agency

AUTH_FAILURES = "clarity_auth_failure_sensor"
WATCHDOG = "clarity_watchdog_sensor"

DIE_IN_THE_MIDDLE = """
import os, signal, sys
from datetime import date
from pathlib import Path
from clarity_pipeline.definitions import build_defs
from clarity_pipeline.domain.sync_jobs import Trigger
from clarity_pipeline.orchestration.launch import run_daily_sync
from clarity_pipeline.orchestration.resources import ClockResource, ExportApiResource
run_daily_sync(
    build_defs(
        clock=ClockResource(fixed_at=sys.argv[2]),
        export_api=ExportApiResource(retry_after_seconds=0),
    ),
    dagster_home=Path(sys.argv[1]),
    day=date.fromisoformat(sys.argv[3]),
    business_ids=[],
    trigger=Trigger.SCHEDULE,
)
"""


def tick(
    agency: Agency, sensor: str, *, cursor: str | None = None
) -> tuple[str | None, str | None]:
    """Evaluate a sensor as the daemon does; returns what it says and its new cursor."""
    definitions = agency.definitions()
    with (
        agency.instance() as instance,
        dg.build_sensor_context(
            instance=instance, cursor=cursor, resources=definitions.resources
        ) as context,
    ):
        data = definitions.resolve_sensor_def(sensor).evaluate_tick(context)
    return data.skip_message, data.cursor


def kill_a_sync_in_the_middle(agency: Agency, *, landed: int) -> str:
    """SIGKILL a sync while Clarity is slow to answer; returns the id of its run."""
    agency.emulator.control.add_fault(Fault(dimension_set="Country,URL", delay_seconds=30))
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            DIE_IN_THE_MIDDLE,
            str(agency.settings.dagster_home),
            agency.now.isoformat(),
            DAY.isoformat(),
        ],
        env=dict(os.environ),
    ) as process:
        while count_landed(agency) < landed or not slow_call_is_out(agency):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    (job,) = sync_jobs.running_jobs(agency.database)
    assert job.dagster_run_id is not None
    return job.dagster_run_id


def count_landed(agency: Agency) -> int:
    with agency.database.reading() as connection:
        return connection.scalar(text("SELECT count(*) FROM clarity_raw_exports")) or 0


def slow_call_is_out(agency: Agency) -> bool:
    calls = quota_ledger.list_calls(
        agency.database,
        project_id=agency.projects["acme"].project_id,
        utc_day=agency.now.date(),
    )
    return any(call.dimension_set == "Country,URL" for call in calls)


def test_a_refusal_that_a_dying_process_left_is_acted_on_once(agency: Agency) -> None:
    project = agency.connect("acme")
    reservation = quota_ledger.reserve(
        agency.database,
        project_id=project.project_id,
        business_id="acme",
        day=day_collected_at(agency.now),
        purpose=quota_ledger.Purpose.SCHEDULE,
        dimension_set="Device,URL",
        may_use_share=True,
        now=agency.now,
        token_fingerprint=connections.get_connection(agency.database, "acme").token_fingerprint,
    )
    assert isinstance(reservation, Reservation)
    quota_ledger.settle(
        agency.database, reservation, outcome=CallOutcome.AUTH_FAILED, now=agency.now
    )
    said, cursor = tick(agency, AUTH_FAILURES)
    assert said == "Switched off: acme."
    record = connections.get_connection(agency.database, "acme")
    assert record.disabled_by is DisabledBy.AUTH_FAILURE
    agency.move_to(ON_TIME + timedelta(minutes=1))
    connections.set_enabled(agency.database, business_id="acme", enabled=True, now=agency.now)
    # The daemon goes on from its cursor, or from nothing when its storage was lost.
    for known in (cursor, None):
        assert tick(agency, AUTH_FAILURES, cursor=known)[0] == ("No token was refused unnoticed.")
    assert connections.get_connection(agency.database, "acme").is_enabled
    assert agency.calls() == []


def test_a_tick_that_cannot_read_the_store_fails(agency: Agency) -> None:
    agency.connect("acme")
    with agency.database.transaction() as connection:
        connection.execute(text("ALTER TABLE clarity_api_calls RENAME TO clarity_hidden"))
    with pytest.raises(Exception, match="fault of the program") as raised:
        tick(agency, AUTH_FAILURES)
    assert isinstance(raised.value.__cause__ or raised.value, StoreError)


def test_the_job_itself_switches_off_a_refused_token_and_nobody_else(agency: Agency) -> None:
    agency.connect("acme")
    agency.connect("expired")
    agency.emulator.control.revoke_token(agency.projects["expired"].project_id)
    agency.sync()
    record = connections.get_connection(agency.database, "expired")
    assert (record.disabled_by, record.disabled_at) == (DisabledBy.AUTH_FAILURE, agency.now)
    assert record.disabled_reason is not None
    assert "HTTP 401" in record.disabled_reason
    assert connections.get_connection(agency.database, "acme").is_enabled


def test_errors_of_our_own_and_of_the_network_never_count_against_a_token(
    agency: Agency,
) -> None:
    agency.connect("acme")
    agency.emulator.control.set_outage(on=True)
    agency.sync()
    with agency.database.transaction() as connection:
        connection.execute(text("UPDATE clarity_business_config SET token_ciphertext = 'damaged'"))
    agency.sync()
    assert agency.latest_job("acme").status is JobStatus.FAILED
    assert connections.get_connection(agency.database, "acme").is_enabled


def test_a_run_for_a_switched_off_business_fails_in_one_sentence(agency: Agency) -> None:
    agency.connect("expired")
    agency.emulator.control.revoke_token(agency.projects["expired"].project_id)
    agency.sync()
    calls = len(agency.calls())
    run = agency.sync(business_ids=["expired"], trigger=Trigger.MANUAL)
    assert not run.succeeded
    assert run.error is not None
    assert "The sync of business 'expired' is switched off: On 2026-11-02: Clarity" in run.error
    assert len(agency.calls()) == calls


def test_the_watchdog_ends_a_killed_run_and_its_job_with_what_had_landed(agency: Agency) -> None:
    agency.connect("acme")
    run_id = kill_a_sync_in_the_middle(agency, landed=3)
    agency.move_to(ON_TIME + timedelta(minutes=1))
    with agency.instance() as instance:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        assert run.status is dg.DagsterRunStatus.STARTED

    said, _ = tick(agency, WATCHDOG)
    assert said == "Failed 1 dead runs, closed 1 jobs."
    with agency.instance() as instance:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        assert run.status is dg.DagsterRunStatus.FAILURE
    job = agency.latest_job("acme")
    assert (job.status, job.error_code, job.calls_used) == (JobStatus.PARTIAL, "interrupted", 4)
    assert job.finished_at == agency.now
    assert job.combos is not None
    assert {name: combo["status"] for name, combo in job.combos.items()} == {
        "Device,URL": "landed",
        "Source,URL": "landed",
        "Country,URL": "own_fault",
        "Campaign,Channel,URL": "landed",
    }
    assert job.error_message is not None
    assert "run the day again to fetch the rest" in job.error_message
    assert connections.get_connection(agency.database, "acme").last_synced_at == ON_TIME
    assert tick(agency, WATCHDOG)[0] == "Failed 0 dead runs, closed 0 jobs."


def test_the_next_sync_ends_a_killed_run_by_itself_and_fetches_only_the_rest(
    agency: Agency,
) -> None:
    agency.connect("acme")
    run_id = kill_a_sync_in_the_middle(agency, landed=3)
    # The call that was under way counts as one until its lease is over.
    agency.move_to(ON_TIME + CALL_LEASE)
    agency.emulator.control.clear_calls()
    assert agency.sync().succeeded
    assert [call.dimension_set for call in agency.calls()] == ["Country,URL"]
    statuses = [job.status for job in sync_jobs.list_jobs(agency.database)]
    assert statuses == [JobStatus.SUCCEEDED, JobStatus.PARTIAL]
    with agency.instance() as instance:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        assert run.status is dg.DagsterRunStatus.FAILURE


def test_work_of_a_living_process_is_left_alone(agency: Agency) -> None:
    agency.connect("acme")
    with agency.instance() as instance:
        run = agency.definitions().resolve_job_def("clarity_daily_sync")
        created = instance.create_run_for_job(
            run, tags={"clarity/worker": this_worker()}, status=dg.DagsterRunStatus.STARTED
        )
    plan_day(
        agency.database,
        day=DAY,
        business_ids=[],
        trigger=Trigger.SCHEDULE,
        overview_default=False,
        run_id=created.run_id,
        now=agency.now,
    )
    assert tick(agency, WATCHDOG)[0] == "Failed 0 dead runs, closed 0 jobs."
    assert agency.latest_job("acme").status is JobStatus.RUNNING


def test_a_job_whose_run_failed_before_it_could_settle_is_closed(agency: Agency) -> None:
    agency.connect("acme")
    with agency.instance() as instance:
        run = instance.create_run_for_job(
            agency.definitions().resolve_job_def("clarity_daily_sync"),
            status=dg.DagsterRunStatus.FAILURE,
        )
    plan_day(
        agency.database,
        day=DAY,
        business_ids=[],
        trigger=Trigger.SCHEDULE,
        overview_default=False,
        run_id=run.run_id,
        now=agency.now,
    )
    assert tick(agency, WATCHDOG)[0] == "Failed 0 dead runs, closed 1 jobs."
    job = agency.latest_job("acme")
    assert (job.status, job.error_code, job.calls_used) == (JobStatus.FAILED, "interrupted", 0)
    assert connections.get_connection(agency.database, "acme").last_synced_at is None


def start_jobs_of_a_dead_worker(agency: Agency, trigger: Trigger, run_id: str | None) -> None:
    host = this_worker().split(":")[0]
    sync_jobs.start_jobs(
        agency.database,
        business_ids=["acme"],
        day=DAY,
        trigger=trigger,
        dagster_run_id=run_id,
        worker=f"{host}:4194304999:",
        now=agency.now,
    )


@pytest.mark.parametrize("has_workers_per_step", [False, True])
def test_a_run_the_daemon_launched_is_known_by_the_worker_of_its_jobs_unless_steps_have_their_own(
    agency: Agency,
    has_workers_per_step: bool,
) -> None:
    agency.connect("acme")
    with agency.instance() as instance:
        run = instance.create_run_for_job(
            agency.definitions().resolve_job_def("clarity_daily_sync"),
            status=dg.DagsterRunStatus.STARTED,
        )
        if has_workers_per_step:
            instance.report_dagster_event(
                dg.DagsterEvent(
                    event_type_value=dg.DagsterEventType.STEP_WORKER_STARTED.value,
                    job_name=run.job_name,
                    event_specific_data=EngineEventData(),
                ),
                run_id=run.run_id,
            )
    start_jobs_of_a_dead_worker(agency, Trigger.SCHEDULE, run.run_id)
    ended = 0 if has_workers_per_step else 1
    assert tick(agency, WATCHDOG)[0] == f"Failed {ended} dead runs, closed {ended} jobs."


def test_a_replay_whose_process_died_is_to_be_replayed_again(agency: Agency) -> None:
    agency.connect("acme")
    agency.sync()
    start_jobs_of_a_dead_worker(agency, Trigger.REPLAY, None)
    assert tick(agency, WATCHDOG)[0] == "Failed 0 dead runs, closed 1 jobs."
    job = agency.latest_job("acme")
    assert (job.status, job.calls_used) == (JobStatus.FAILED, 0)
    assert job.error_message is not None
    assert "replay the day again" in job.error_message
