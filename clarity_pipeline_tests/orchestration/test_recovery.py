"""A missed day recovered through the real job, against the sessions that the emulator made up."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
import pytest

from clarity_pipeline.domain.dimensions import DEFAULT_COMBOS, OVERVIEW
from clarity_pipeline.domain.sync_jobs import JobStatus
from clarity_pipeline.store import connections
from clarity_pipeline.store.aggregates import get_business_behavioral_aggregates
from clarity_pipeline_tests.agency import DAY, ON_TIME, Agency, days_later
from clarity_pipeline_tests.missed_days import asked, collect, happened, miss, slices, stored


@pytest.fixture(autouse=True)
def recovery_is_on(monkeypatch: pytest.MonkeyPatch, agency: Agency) -> None:
    monkeypatch.setenv("CLARITY_RECOVERY", "1")


def test_a_missed_day_is_exactly_what_happened_in_its_hours(agency: Agency) -> None:
    project = miss(agency, sessions_per_day=60, pages=12)
    connections.set_overview(agency.database, business_id="acme", overview=True, now=agency.now)
    assert agency.sync().succeeded
    run = agency.sync(DAY)

    assert run.succeeded, run.error
    assert asked(agency) == {1: 5, 2: 5}
    found = slices(agency)
    assert found.keys() == {combo.dimension_set for combo in (*DEFAULT_COMBOS, OVERVIEW)}
    for state in found.values():
        assert state.is_derived
        assert not state.truncated
        assert (state.window_start, state.window_end) == (
            agency.now - timedelta(days=2),
            agency.now - timedelta(days=1),
        )
        assert stored(agency, state) == happened(project, state)
        assert state.negative_differences == 0
    job = agency.latest_job("acme")
    assert (job.status, job.calls_used, job.error_code) == (JobStatus.SUCCEEDED, 5, None)
    assert {str(combo["status"]) for combo in (job.combos or {}).values()} == {"recovered"}
    values = get_business_behavioral_aggregates("acme", DAY, DAY, database=agency.database)
    (events,) = happened(project, found[OVERVIEW.dimension_set]).values()
    assert values.session_basis == "sessions"
    assert values.clarity_sessions == events["sessions"]
    assert values.clarity_rage_clicks == events["rage_clicks"]
    assert values.clarity_dead_clicks == events["dead_clicks"]


def test_with_recovery_off_a_gap_is_a_gap_and_nobody_asks_for_48_hours(
    agency: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CLARITY_RECOVERY")
    miss(agency)
    agency.sync()
    agency.sync(DAY)
    assert asked(agency) == {1: 4}
    assert agency.latest_job("acme").error_code == "gap"


# The schedule


def requested(agency: Agency) -> list[dg.RunRequest]:
    definitions = agency.definitions()
    repository = definitions.get_repository_def()
    schedule = repository.get_schedule_def("clarity_scheduler")
    assert definitions.resources is not None
    with dg.build_schedule_context(
        scheduled_execution_time=agency.now,
        repository_def=repository,
        resources={"store": definitions.resources["store"]},
    ) as context:
        return list(schedule.evaluate_tick(context).run_requests or ())


def test_the_schedule_asks_for_missed_days_after_yesterday(agency: Agency) -> None:
    miss(agency, days_ago=3)
    requests = requested(agency)
    assert [request.partition_key for request in requests] == [
        "2026-11-03",
        "2026-11-01",
        "2026-11-02",
    ]
    assert len({request.run_key for request in requests}) == 3
    priorities = [int(request.tags.get("dagster/priority", "0")) for request in requests]
    assert priorities[0] > max(priorities[1:])


def test_the_schedule_asks_for_no_day_that_is_there(agency: Agency) -> None:
    miss(agency)
    collect(agency)
    collect(agency, DAY)
    assert [request.partition_key for request in requested(agency)] == ["2026-11-02"]


def test_the_schedule_does_not_look_back_with_recovery_off(
    agency: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CLARITY_RECOVERY")
    miss(agency)
    assert [request.partition_key for request in requested(agency)] == ["2026-11-02"]


def test_the_schedule_asks_for_yesterday_when_the_store_cannot_be_read(
    agency: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    miss(agency)
    monkeypatch.setenv("CLARITY_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    assert [request.partition_key for request in requested(agency)] == ["2026-11-02"]


def test_the_schedule_asks_for_no_day_before_a_business_was_connected(agency: Agency) -> None:
    agency.connect("acme")
    collect(agency)
    assert [request.partition_key for request in requested(agency)] == ["2026-11-01"]
    assert days_later(0) == ON_TIME
