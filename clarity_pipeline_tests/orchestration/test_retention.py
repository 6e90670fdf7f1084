"""The retention job and its schedule: what a setting asks for, and nothing without one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from clarity_pipeline.definitions import build_defs
from clarity_pipeline.orchestration.resources import ClockResource, StoreResource
from clarity_pipeline.orchestration.retention import retention_schedule
from clarity_pipeline.store import exports
from clarity_pipeline_tests.agency import DAY, Agency

OPS = ("remove_old_payloads", "remove_old_exports", "remove_old_runs")


def run_retention(agency: Agency, now: datetime) -> dict[str, dict[str, Any]]:
    """The metadata that each op reports."""
    definitions = build_defs(clock=ClockResource(fixed_at=now.isoformat()))
    with agency.instance() as instance:
        result = definitions.resolve_job_def("clarity_retention").execute_in_process(
            instance=instance
        )
        assert result.success
        reported = {
            event.step_key: event.step_output_data.metadata
            for event in result.all_node_events
            if event.event_type is dg.DagsterEventType.STEP_OUTPUT
        }
    return {
        op: {name: value.value for name, value in reported[op].items()}  # pyright: ignore[reportArgumentType]
        for op in OPS
    }


def test_the_job_removes_what_is_too_old_of_each_kind_and_says_so(
    agency: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    agency.connect("acme")
    old = agency.sync()
    for kind in ("PAYLOAD", "EXPORTS", "RUNS"):
        monkeypatch.setenv(f"CLARITY_KEEP_{kind}_DAYS", "30")
    # Runs age by the machine's clock, days by the pipeline's; 2100 is late for both.
    reported = run_retention(agency, datetime(2100, 1, 1, 4, 0, tzinfo=UTC))

    assert reported["remove_old_payloads"]["rows_removed"] > 0
    assert reported["remove_old_payloads"]["newest_day"] == DAY.isoformat()
    assert reported["remove_old_exports"]["rows_removed"] == 4
    assert reported["remove_old_runs"]["rows_removed"] == 1
    assert {entry["first_day_kept"] for entry in reported.values()} == {"2099-12-02"}
    assert not any(reply.has_body for reply in exports.list_exports(agency.database, day=DAY))
    with agency.instance() as instance:
        assert not instance.has_run(old.run_id)
        # Its own run is at work and stays.
        assert instance.get_runs_count() == 1


def test_without_settings_the_job_removes_nothing(agency: Agency) -> None:
    agency.connect("acme")
    old = agency.sync()
    reported = run_retention(agency, datetime(2100, 1, 1, 4, 0, tzinfo=UTC))
    assert all(entry == {"rows_removed": 0, "bytes_removed": 0} for entry in reported.values())
    with agency.instance() as instance:
        assert instance.has_run(old.run_id)


def test_a_sync_of_an_old_day_does_not_bring_its_payload_back(
    agency: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    agency.connect("acme")
    agency.sync()
    monkeypatch.setenv("CLARITY_KEEP_PAYLOAD_DAYS", "30")
    late = agency.now + timedelta(days=100)
    run_retention(agency, late)
    with agency.database.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM clarity_daily_metrics")
        connection.exec_driver_sql("DELETE FROM clarity_daily_slices")
    agency.move_to(late)
    assert agency.sync(DAY).succeeded
    with agency.database.reading() as connection:
        payloads = connection.exec_driver_sql(
            "SELECT DISTINCT CAST(raw_payload AS TEXT) FROM clarity_daily_metrics"
        ).scalars()
        assert list(payloads) == ["[]"]


def test_the_schedule_asks_for_a_run_only_when_a_setting_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def tick() -> Any:
        with dg.build_schedule_context(
            scheduled_execution_time=datetime(2026, 11, 2, 4, 0, tzinfo=UTC),
            resources={"store": StoreResource()},
            repository_def=build_defs().get_repository_def(),
        ) as context:
            return retention_schedule.evaluate_tick(context)

    for kind in ("PAYLOAD", "EXPORTS", "RUNS"):
        monkeypatch.delenv(f"CLARITY_KEEP_{kind}_DAYS", raising=False)
    assert not tick().run_requests
    assert "kept for ever" in tick().skip_message
    monkeypatch.setenv("CLARITY_KEEP_RUNS_DAYS", "90")
    assert len(tick().run_requests) == 1


def test_the_schedule_runs_from_the_start_at_four_in_the_morning() -> None:
    assert retention_schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert (retention_schedule.cron_schedule, retention_schedule.execution_timezone) == (
        "0 4 * * *",
        "UTC",
    )
