"""The graph as data engineers find it: names, partitions, schedules, and how it loads."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from clarity_pipeline.definitions import build_defs

EMPTY_ENVIRONMENT_LOADER = """
import socket

def refuse(*arguments, **options):
    raise AssertionError("loading opened a connection")

socket.socket.connect = refuse
from clarity_pipeline.definitions import defs
repository = defs().get_repository_def()
names = {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()}
print(sorted(names))
"""


def test_the_definitions_load_in_a_fresh_interpreter_without_environment_or_network(
    tmp_path: Path,
) -> None:
    loaded = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", EMPTY_ENVIRONMENT_LOADER],
        cwd=tmp_path,
        env={"PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.strip() == str(
        [
            "clarity_business_aggregates",
            "clarity_daily_metrics",
            "clarity_raw_exports",
            "clarity_rule_evaluations",
            "clarity_url_aggregates",
        ]
    )
    assert list(tmp_path.iterdir()) == []


def test_the_names_users_rely_on_are_there() -> None:
    definitions = build_defs()
    repository = definitions.get_repository_def()
    assert repository.has_job("clarity_daily_sync")
    assert repository.has_job("clarity_rule_evaluation")
    assert repository.has_job("clarity_history_check")
    assert repository.has_job("clarity_retention")
    assert {schedule.name for schedule in repository.schedule_defs} == {
        "clarity_scheduler",
        "clarity_history_schedule",
        "clarity_retention_schedule",
    }
    assert {sensor.name for sensor in repository.sensor_defs} == {
        "clarity_automation_sensor",
        "clarity_auth_failure_sensor",
        "clarity_notice_sensor",
        "clarity_rule_action_sensor",
        "clarity_rule_schedule_sensor",
        "clarity_run_failure_sensor",
        "clarity_sync_request_sensor",
        "clarity_watchdog_sensor",
    }
    assert {key.name for key in repository.asset_graph.asset_check_keys} == {
        "every_enabled_business_landed",
        "window_alignment",
        "no_slice_truncated",
        "no_unknown_blocks",
        "slices_agree",
        "no_day_is_missing",
        "latest_day_has_arrived",
    }


LOOKS_AT_TODAY = {"no_day_is_missing", "latest_day_has_arrived"}
"""Checks of the history as a whole, which belong to no day."""


def test_every_asset_and_every_check_of_a_day_is_partitioned_by_utc_day() -> None:
    repository = build_defs().get_repository_def()
    for node in repository.asset_graph.asset_nodes:
        assert isinstance(node.partitions_def, dg.DailyPartitionsDefinition)
        assert node.partitions_def.timezone == "UTC"
    for key in repository.asset_graph.asset_check_keys:
        is_of_a_day = repository.asset_graph.get(key).partitions_def is not None
        assert is_of_a_day is (key.name not in LOOKS_AT_TODAY)


def test_any_range_of_days_is_one_run_of_the_whole_graph() -> None:
    repository = build_defs().get_repository_def()
    policies = {node.backfill_policy for node in repository.asset_graph.asset_nodes}
    assert policies == {dg.BackfillPolicy.single_run()}


def requested_days(definitions: dg.Definitions) -> list[str | None]:
    """The partitions that the schedule asks for at its tick after 2026-11-01, in order."""
    repository = definitions.get_repository_def()
    schedule = repository.get_schedule_def("clarity_scheduler")
    with dg.build_schedule_context(
        scheduled_execution_time=datetime(2026, 11, 2, 0, 15, tzinfo=UTC),
        repository_def=repository,
        resources={"store": definitions.resources["store"]} if definitions.resources else None,
    ) as context:
        tick = schedule.evaluate_tick(context)
    return [request.partition_key for request in tick.run_requests or ()]


def test_the_schedule_ships_stopped_and_asks_for_yesterday_at_a_quarter_past_midnight() -> None:
    repository = build_defs().get_repository_def()
    schedule = repository.get_schedule_def("clarity_scheduler")
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("15 0 * * *", "UTC")
    assert requested_days(build_defs()) == ["2026-11-01"]


def test_the_sensors_run_from_the_start_because_none_makes_a_call_that_nobody_asked_for() -> None:
    repository = build_defs().get_repository_def()
    running = dg.DefaultSensorStatus.RUNNING
    assert {sensor.name: sensor.default_status for sensor in repository.sensor_defs} == {
        "clarity_automation_sensor": running,
        "clarity_auth_failure_sensor": running,
        "clarity_notice_sensor": running,
        "clarity_rule_action_sensor": running,
        "clarity_rule_schedule_sensor": running,
        "clarity_run_failure_sensor": running,
        "clarity_sync_request_sensor": running,
        "clarity_watchdog_sensor": running,
    }


def test_the_look_back_runs_by_itself_because_a_stopped_scheduler_is_what_it_reports() -> None:
    repository = build_defs().get_repository_def()
    schedule = repository.get_schedule_def("clarity_history_schedule")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("5 1 * * *", "UTC")
    job = build_defs().resolve_job_def("clarity_history_check")
    assert {key.name for key in job.asset_layer.asset_graph.asset_check_keys} == LOOKS_AT_TODAY
    assert not job.asset_layer.executable_asset_keys


def test_everything_that_spends_quota_is_in_the_pool_and_nothing_else() -> None:
    job = build_defs().resolve_job_def("clarity_daily_sync")
    pools = {
        node.name: getattr(node, "pool", None)
        for node in job.all_node_defs
        if not isinstance(node, dg.GraphDefinition)
    }
    in_pool = {name for name, pool in pools.items() if pool == "clarity_api"}
    assert in_pool == {
        "plan_day",
        "fetch_url_device",
        "fetch_url_source",
        "fetch_url_country",
        "fetch_url_campaign_channel",
        "fetch_overview",
        "collect_outcomes",
    }


def test_nothing_that_spends_quota_is_automated_or_retried() -> None:
    repository = build_defs().get_repository_def()
    automated = {
        node.key.to_user_string()
        for node in repository.asset_graph.asset_nodes
        if node.automation_condition is not None  # pyright: ignore[reportUnknownMemberType]
    }
    assert automated == {
        "clarity_daily_metrics",
        "clarity_business_aggregates",
        "clarity_rule_evaluations",
        "clarity_url_aggregates",
    }
    job = build_defs().resolve_job_def("clarity_daily_sync")
    assert job.tags["dagster/max_retries"] == "0"
    assert job.tags["dagster/max_runtime"] == "7200"
    for node in job.all_node_defs:
        if isinstance(node, dg.OpDefinition):
            assert node.retry_policy is None
