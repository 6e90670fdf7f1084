"""The sensors of notices on a real instance: what a failed run and a failed check lead to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from clarity_pipeline.domain.errors import ConfigurationError
from clarity_pipeline.export_api.emulator import Fault
from clarity_pipeline.orchestration.run_errors import presentable_error
from clarity_pipeline.store import connections, notices
from clarity_pipeline_tests.agency import Agency, days_later
from clarity_pipeline_tests.notify.receiver import SECRET, webhook


def tick(agency: Agency, name: str) -> str:
    """One evaluation of a sensor, as the daemon makes it; returns what it says."""
    repository = agency.definitions().get_repository_def()
    sensor = repository.get_sensor_def(name)
    with (
        agency.instance() as instance,
        dg.build_sensor_context(
            instance=instance,
            repository_def=repository,
            resources=dict(repository.get_top_level_resources()),
        ) as context,
    ):
        return str(sensor.evaluate_tick(context).skip_message)


def states(agency: Agency) -> dict[str, str]:
    """The latest state per subject."""
    found = notices.list_notices(agency.database, limit=None)
    return {notice.subject: notice.state for notice in reversed(found)}


def test_a_run_that_fails_and_the_next_that_works_are_a_notice_each(agency: Agency) -> None:
    # Dagster stamps runs with the machine's clock, by which the day must not be long over.
    agency.move_to(datetime.now(UTC))
    agency.connect("acme")
    agency.emulator.control.add_fault(
        Fault(project_id=agency.projects["acme"].project_id, drop=True, times=100)
    )
    agency.sync()
    assert tick(agency, "clarity_run_failure_sensor") == "1 new."
    assert tick(agency, "clarity_run_failure_sensor") == "0 new."
    assert states(agency)["run:clarity_daily_sync"] == "failed"
    [notice] = [n for n in notices.list_notices(agency.database) if n.subject.startswith("run:")]
    assert notice.body.startswith("None of 1 businesses could be collected")
    connections.set_enabled(agency.database, business_id="acme", enabled=False, now=agency.now)
    agency.sync()
    tick(agency, "clarity_run_failure_sensor")
    assert states(agency)["run:clarity_daily_sync"] == "ok"


def test_a_failed_check_of_yesterday_is_a_notice_and_its_repair_another(agency: Agency) -> None:
    agency.connect("acme")
    agency.connect("bolt")
    agency.emulator.control.add_fault(
        Fault(project_id=agency.projects["acme"].project_id, body="<html>", times=100)
    )
    agency.sync()
    assert states(agency) == {"check:every_enabled_business_landed": "failed"}
    agency.emulator.control.clear_faults()
    agency.move_to(days_later(1))
    agency.sync()
    # The day before can no longer be fetched, which is another thing to know.
    repaired = {"check:every_enabled_business_landed": "ok", "check:no_day_is_missing": "failed"}
    assert states(agency) == repaired
    agency.move_to(days_later(1) + timedelta(hours=1))
    agency.sync(agency.now.date() - timedelta(days=2))
    assert states(agency) == repaired


def look_back(agency: Agency) -> None:
    with agency.instance() as instance:
        job = agency.definitions().resolve_job_def("clarity_history_check")
        assert job.execute_in_process(instance=instance).success


def test_a_lost_day_is_a_notice_of_its_check_once_and_its_late_day_one_of_its_connection(
    agency: Agency,
) -> None:
    agency.connect("acme")
    agency.sync()
    agency.move_to(days_later(0) + timedelta(minutes=50))
    look_back(agency)
    assert states(agency) == {}
    agency.move_to(days_later(1) + timedelta(minutes=50))
    for _ in range(2):
        look_back(agency)
        assert states(agency) == {"connection:acme": "late"}
    agency.move_to(days_later(2))
    for _ in range(2):
        look_back(agency)
        assert states(agency) == {
            "connection:acme": "late",
            "check:no_day_is_missing": "failed",
        }
    connections.set_enabled(agency.database, business_id="acme", enabled=False, now=agency.now)
    for _ in range(2):
        look_back(agency)
    assert [
        (notice.subject, notice.state)
        for notice in notices.list_notices(agency.database)
        if notice.subject.startswith("check:")
    ] == [("check:no_day_is_missing", "ok"), ("check:no_day_is_missing", "failed")]


def test_the_notice_sensor_writes_down_and_sends(
    agency: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    agency.connect("acme")
    agency.move_to(days_later(1) + timedelta(hours=1))
    with webhook() as receiver:
        monkeypatch.setenv("CLARITY_NOTICE_URLS", receiver.url)
        assert tick(agency, "clarity_notice_sensor") == "1 new, 1 sent, 0 not accepted."
        assert tick(agency, "clarity_notice_sensor") == "0 new, 0 sent, 0 not accepted."
    assert receiver.titles == ["acme: 2026-11-02 is missing"]


def test_addresses_that_cannot_be_used_do_not_keep_anything_from_being_written(
    agency: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    agency.connect("acme")
    agency.move_to(days_later(1) + timedelta(hours=1))
    monkeypatch.setenv("CLARITY_NOTICE_URLS", f"nonsense://{SECRET}")
    with pytest.raises(ConfigurationError) as caught:
        tick(agency, "clarity_notice_sensor")
    assert SECRET not in str(caught.value)
    assert states(agency) == {"connection:acme": "late"}


def test_an_error_nobody_expected_is_told_without_its_text() -> None:
    @dg.op
    def breaks() -> None:
        raise ValueError(SECRET)

    @dg.op
    def refuses() -> None:
        raise ConfigurationError("A setting is wrong; mend it.")

    @dg.job
    def job() -> None:
        breaks()

    @dg.job
    def another() -> None:
        refuses()

    with dg.DagsterInstance.ephemeral() as instance:
        unexpected = job.execute_in_process(instance=instance, raise_on_error=False)
        expected = another.execute_in_process(instance=instance, raise_on_error=False)
    told = presentable_error(unexpected.all_events)
    assert told == "It came upon a ValueError that nobody expected."
    assert presentable_error(expected.all_events) == "A setting is wrong; mend it."
    assert "process died" in presentable_error([])
