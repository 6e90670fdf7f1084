""" "Sync now" from the click to the job, on a real Dagster instance and both databases."""

from __future__ import annotations

import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest

from clarity_pipeline.domain.connections import DisabledBy
from clarity_pipeline.domain.dimensions import DEFAULT_COMBOS
from clarity_pipeline.domain.errors import (
    InvalidDay,
    NoLongerCollectable,
    NotConnected,
    SyncDisabled,
    UnknownBusiness,
)
from clarity_pipeline.domain.failures import ComboStatus
from clarity_pipeline.domain.interrupted_jobs import LONGEST_RUN
from clarity_pipeline.domain.quota import CallOutcome, Purpose
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.domain.sync_requests import (
    MOST_REQUESTS_PER_RUN,
    NOBODY_AFTER,
    ComboStage,
    RequestState,
)
from clarity_pipeline.export_api.emulator import EmulatorServer
from clarity_pipeline.operations.collect_day import plan_day
from clarity_pipeline.operations.sync_requests import (
    RequestProgress,
    progress_of,
    request_sync,
)
from clarity_pipeline.store import businesses, connections, quota_ledger, sync_requests
from clarity_pipeline.store.quota_ledger import Reservation
from clarity_pipeline.store.sync_requests import SyncRequest
from clarity_pipeline_tests.agency import DAY, ON_TIME, Agency, open_agency
from clarity_pipeline_tests.store.races import all_at_once


def ask(agency: Agency, business_id: str = "acme", day: date | None = None) -> SyncRequest:
    return request_sync(
        agency.database, business_id=business_id, requested_by="ann", now=agency.now, day=day
    )


def create(agency: Agency, wanted: dg.RunRequest, status: dg.DagsterRunStatus) -> str:
    """What the daemon does with what a tick asked for, as far as it came; returns the run's id."""
    with agency.instance() as instance:
        run = instance.create_run_for_job(
            agency.definitions().resolve_job_def("clarity_daily_sync"),
            run_config=wanted.run_config,
            tags={**wanted.tags, "dagster/run_key": wanted.run_key or ""},
            status=status,
        )
    return run.run_id


def progress(agency: Agency, business_id: str = "acme") -> RequestProgress:
    request = sync_requests.latest_request(agency.database, business_id)
    assert request is not None
    return progress_of(agency.database, request, overview_default=False, now=agency.now)


def pause(agency: Agency, business_id: str = "acme") -> None:
    connections.set_enabled(
        agency.database,
        business_id=business_id,
        enabled=False,
        disabled_by=DisabledBy.USER,
        reason="On holiday.",
        now=agency.now,
    )


def test_a_click_becomes_four_calls_and_a_finished_job(agency: Agency) -> None:
    agency.connect("acme")
    agency.connect("globex")
    assert ask(agency).day == DAY
    assert progress(agency).sentence == "Waiting for the worker."

    (wanted,) = agency.requested_runs()
    assert (wanted.partition_key, wanted.tags["clarity/trigger"]) == ("2026-11-01", "panel")
    run_id = agency.execute(wanted)
    assert agency.requested_runs() == ()

    now = progress(agency)
    assert now.state is RequestState.FINISHED
    assert now.is_over
    assert now.sentence == "2026-11-01 is in; this spent 4 calls."
    assert now.job is not None
    assert (now.job.dagster_run_id, now.job.trigger) == (run_id, Trigger.PANEL)
    assert {combo.status for combo in now.combos} == {ComboStatus.LANDED}
    assert sorted(call.dimension_set for call in agency.calls()) == sorted(
        combo.dimension_set for combo in DEFAULT_COMBOS
    )
    assert agency.calls("globex") == []
    slots = quota_ledger.list_calls(
        agency.database,
        project_id=agency.projects["acme"].project_id,
        utc_day=agency.now.date(),
    )
    assert {slot.purpose for slot in slots} == {Purpose.MANUAL}

    # A day that is there already is asked for without a call.
    ask(agency)
    agency.execute(*agency.requested_runs())
    agency.requested_runs()
    assert progress(agency).sentence == "2026-11-01 is in; this spent no call."
    assert len(agency.calls()) == 4


def test_requests_of_one_day_share_a_run_of_bounded_size(agency: Agency) -> None:
    names = [f"shop{number}" for number in range(MOST_REQUESTS_PER_RUN + 1)]
    for name in names:
        agency.connect(name)
        ask(agency, name)
    first, second = agency.requested_runs()
    config = [
        wanted.run_config["ops"]["clarity_raw_exports"]["config"]["business_ids"]
        for wanted in (first, second)
    ]
    assert (sorted(config[0]), config[1]) == (sorted(names[:-1]), names[-1:])
    assert first.run_key != second.run_key


def test_clicks_at_the_same_moment_are_one_request_and_one_run(agency: Agency) -> None:
    agency.connect("acme")
    requests = all_at_once(lambda _: ask(agency), range(4))
    assert len({request.id for request in requests}) == 1
    (wanted,) = agency.requested_runs()
    assert wanted.tags["clarity/sync_requests"] == str(requests[0].id)


def test_a_daemon_that_dies_before_it_made_the_run_asks_for_it_again(agency: Agency) -> None:
    agency.connect("acme")
    ask(agency)
    (lost,) = agency.requested_runs()
    assert progress(agency).state is RequestState.WAITING
    (wanted,) = agency.requested_runs()
    assert (wanted.run_key, wanted.run_config) == (lost.run_key, lost.run_config)
    # Somebody else clicks in between: one run for both.
    agency.connect("globex")
    ask(agency, "globex")
    (both,) = agency.requested_runs()
    assert both.tags["clarity/sync_requests"] == "1,2"


def test_a_run_that_was_made_and_not_launched_is_asked_for_under_its_own_key(
    agency: Agency,
) -> None:
    agency.connect("acme")
    ask(agency)
    (wanted,) = agency.requested_runs()
    create(agency, wanted, dg.DagsterRunStatus.NOT_STARTED)
    (again,) = agency.requested_runs()
    assert again.run_key == wanted.run_key
    assert progress(agency).request.picked_up_at is None


def test_a_launched_run_is_found_by_whoever_looks_next_and_not_launched_again(
    agency: Agency,
) -> None:
    agency.connect("acme")
    ask(agency)
    (wanted,) = agency.requested_runs()
    run_id = create(agency, wanted, dg.DagsterRunStatus.STARTED)
    assert agency.requested_runs() == ()
    now = progress(agency)
    assert now.request.dagster_run_id == run_id
    assert (now.state, now.request.picked_up_at) == (RequestState.WAITING, agency.now)
    assert "one run fetches at a time" in now.sentence
    # It is in nobody's way: neither asked for nor refused while it is queued.
    assert agency.requested_runs() == ()
    assert ask(agency).id == now.request.id


def test_a_run_that_was_over_before_anybody_looked_is_found_too(agency: Agency) -> None:
    agency.connect("acme")
    ask(agency)
    agency.execute(*agency.requested_runs())
    # The daemon comes back when the day can no longer be collected.
    agency.move_to(ON_TIME + timedelta(days=1))
    assert agency.requested_runs() == ()
    assert progress(agency).state is RequestState.FINISHED
    assert len(agency.calls()) == 4


def test_a_request_that_nobody_picks_up_says_so(agency: Agency) -> None:
    agency.connect("acme")
    ask(agency)
    agency.move_to(ON_TIME + NOBODY_AFTER)
    assert "is the Dagster daemon running" in progress(agency).sentence


def test_a_running_job_shows_how_far_it_is(agency: Agency) -> None:
    agency.connect("acme")
    request = ask(agency)
    (wanted,) = agency.requested_runs()
    run_id = create(agency, wanted, dg.DagsterRunStatus.STARTED)
    agency.requested_runs()
    plan = plan_day(
        agency.database,
        day=DAY,
        business_ids=["acme"],
        trigger=Trigger.PANEL,
        overview_default=False,
        run_id=run_id,
        now=agency.now,
    )
    quota_ledger.reserve(
        agency.database,
        project_id=agency.projects["acme"].project_id,
        business_id="acme",
        purpose=Purpose.MANUAL,
        day=DAY,
        dimension_set=plan.calls[0].combo.dimension_set,
        may_use_share=False,
        now=agency.now,
    )
    now = progress(agency)
    assert (now.state, now.request.id) == (RequestState.RUNNING, request.id)
    assert now.sentence == "Fetching 2026-11-01: 0 of 4 combinations are in."
    waiting = ComboStage.WAITING
    assert [combo.status for combo in now.combos] == [ComboStage.FETCHING, *[waiting] * 3]


def test_what_cannot_work_is_refused_at_the_click(agency: Agency) -> None:
    agency.connect("acme")
    businesses.add_business(agency.database, business_id="new", name="New", now=agency.now)
    with pytest.raises(UnknownBusiness):
        ask(agency, "nobody")
    with pytest.raises(NotConnected):
        ask(agency, "new")
    agency.move_to(ON_TIME + timedelta(days=2))
    with pytest.raises(NoLongerCollectable):
        ask(agency, day=DAY)
    with pytest.raises(InvalidDay, match="not over yet"):
        ask(agency, day=agency.now.date())
    with pytest.raises(InvalidDay, match="was connected on"):
        ask(agency, day=DAY - timedelta(days=1))
    pause(agency)
    with pytest.raises(SyncDisabled, match="On holiday"):
        ask(agency)
    assert sync_requests.open_requests(agency.database, now=agency.now) == []


def test_what_can_no_longer_be_done_is_refused_with_the_reason_and_the_rest_is_launched(
    agency: Agency,
) -> None:
    for name in ("acme", "globex", "initech"):
        agency.connect(name)
        ask(agency, name)
    pause(agency)
    connections.disconnect(agency.database, business_id="globex", now=agency.now)
    (wanted,) = agency.requested_runs()
    assert wanted.tags["clarity/sync_requests"] == "3"
    assert progress(agency).state is RequestState.REFUSED
    assert "On holiday" in progress(agency).sentence
    assert "is not connected" in progress(agency, "globex").sentence

    agency.move_to(ON_TIME + timedelta(days=1))
    assert agency.requested_runs() == ()
    assert "no longer answers for it" in progress(agency, "initech").sentence
    assert agency.calls() == []


def test_a_request_whose_run_was_cancelled_in_the_queue_does_not_wait_for_ever(
    agency: Agency,
) -> None:
    agency.connect("acme")
    ask(agency)
    (wanted,) = agency.requested_runs()
    create(agency, wanted, dg.DagsterRunStatus.CANCELED)
    assert agency.requested_runs() == ()
    assert progress(agency).state is RequestState.REFUSED
    assert "was cancelled" in progress(agency).sentence
    assert ask(agency).id == 2


def test_a_run_that_failed_of_one_business_tells_no_other_about_it(agency: Agency) -> None:
    for name in ("acme", "globex"):
        agency.connect(name)
        ask(agency, name)
    (wanted,) = agency.requested_runs()
    pause(agency)
    agency.execute(wanted)
    agency.requested_runs()
    assert "On holiday" in progress(agency, "acme").sentence
    assert progress(agency, "globex").sentence == (
        "The run ended before it came to this business; ask again."
    )
    assert agency.calls() == []
    # It can be asked for again, and no longer waits for the business that was paused.
    ask(agency, "globex")
    (again,) = agency.requested_runs()
    assert (again.run_key, again.tags["clarity/sync_requests"]) != (wanted.run_key, "1,2")


def test_a_run_for_one_business_says_what_it_failed_of(agency: Agency) -> None:
    agency.connect("acme")
    ask(agency)
    (wanted,) = agency.requested_runs()
    pause(agency)
    agency.execute(wanted)
    connections.set_enabled(agency.database, business_id="acme", enabled=True, now=agency.now)
    agency.requested_runs()
    assert "came to this business: The sync of business 'acme' is switched off" in (
        progress(agency).sentence
    )


def test_a_run_that_the_instance_does_not_know_is_waited_for_only_so_long(agency: Agency) -> None:
    agency.connect("acme")
    request = ask(agency)
    sync_requests.pick_up(
        agency.database, request_ids=[request.id], dagster_run_id="elsewhere", now=agency.now
    )
    agency.requested_runs()
    assert progress(agency).state is RequestState.WAITING
    agency.move_to(ON_TIME + LONGEST_RUN + timedelta(seconds=1))
    agency.requested_runs()
    assert "does not know the run" in progress(agency).sentence


def test_while_the_quota_refuses_the_job_says_so_and_no_call_is_made(agency: Agency) -> None:
    project = agency.connect("acme")
    taken = quota_ledger.reserve(
        agency.database,
        project_id=project.project_id,
        business_id="acme",
        purpose=Purpose.TEST,
        day=DAY - timedelta(days=1),
        dimension_set="Device,URL",
        may_use_share=False,
        now=agency.now,
    )
    assert isinstance(taken, Reservation)
    quota_ledger.settle(agency.database, taken, outcome=CallOutcome.RATE_LIMITED, now=agency.now)
    ask(agency)
    agency.execute(*agency.requested_runs())
    agency.requested_runs()
    now = progress(agency)
    assert now.job is not None
    assert (now.state, now.job.status) == (RequestState.FINISHED, JobStatus.RATE_LIMITED)
    assert now.sentence == now.job.error_message
    assert {combo.status for combo in now.combos} == {ComboStatus.QUOTA_REFUSED}
    assert agency.calls() == []


def test_a_daemon_that_is_killed_anywhere_in_a_tick_launches_one_run(
    sqlite_url: str,
    emulator_server: EmulatorServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deaths = ("TICK_HELD", "RUN_IDS_RESERVED", "RUN_CREATED", "RUN_LAUNCHED")
    with open_agency(
        database_url=sqlite_url,
        emulator=emulator_server,
        home=tmp_path / "home",
        environment=monkeypatch,
    ) as agency:
        agency.connect("acme")
        ask(agency)
        ran = subprocess.run(
            [
                sys.executable,
                "-m",
                "clarity_pipeline_tests.orchestration.dying_daemon",
                str(agency.settings.dagster_home),
                agency.now.isoformat(),
                *deaths,
                "nowhere",
                "nowhere",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout.split() == [
            *(word for point in deaths for word in (point, "-9")),
            *("nowhere", "0", "nowhere", "0"),
        ], ran.stderr
        with agency.instance() as instance:
            (run,) = instance.get_runs()
        assert run.status is dg.DagsterRunStatus.QUEUED
        assert progress(agency).request.dagster_run_id == run.run_id
