"""Rules evaluated by real runs, on a real instance."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import dagster as dg
from sqlalchemy import select

from clarity_pipeline.domain.rules.decisions import Truth
from clarity_pipeline.operations.rule_schedule import look_for_due_rules
from clarity_pipeline.store.rule_evaluations import list_decisions
from clarity_pipeline.store.schema import rule_evaluations
from clarity_pipeline_tests.agency import DAY, ON_TIME, Agency
from clarity_pipeline_tests.domain.rules.histories import condition
from clarity_pipeline_tests.rule_worlds import arm, put_ad, put_days

SESSIONS = condition("clarity_sessions", value=1)


def evaluations(agency: Agency) -> list[tuple[Any, ...]]:
    with agency.database.reading() as connection:
        return [tuple(row) for row in connection.execute(select(rule_evaluations))]


def metadata(instance: dg.DagsterInstance) -> dict[str, Any]:
    event = instance.get_latest_materialization_event(dg.AssetKey("clarity_rule_evaluations"))
    assert event is not None
    assert event.asset_materialization is not None
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def test_a_sync_ends_with_what_the_rules_say_and_a_replay_changes_nothing(agency: Agency) -> None:
    agency.connect("acme")
    put_ad(agency.database, "one")
    arm(agency.database, SESSIONS)
    run = agency.sync()
    assert run.succeeded
    (log,) = list_decisions(agency.database)
    assert (log.entity_id, log.truth, log.day) == ("meta:one", Truth.TRUE, DAY)
    with agency.instance() as instance:
        found = metadata(instance)
    assert (found["rules"], found["fired"], found["evaluations_written"]) == (1, 1, 1)
    assert "| A rule |" in found["by_business"]
    before = evaluations(agency)
    agency.sync()
    agency.move_to(ON_TIME + timedelta(days=5))
    agency.sync(DAY)
    assert evaluations(agency) == before


def sensor_tick(agency: Agency, cursor: str | None) -> Any:
    definitions = agency.definitions()
    with (
        agency.instance() as instance,
        dg.build_sensor_context(
            instance=instance,
            cursor=cursor,
            repository_def=definitions.get_repository_def(),
            resources=definitions.resources,
        ) as context,
    ):
        sensor = definitions.resolve_sensor_def("clarity_rule_schedule_sensor")
        return sensor.evaluate_tick(context)


def test_a_rule_with_times_of_its_own_is_evaluated_when_they_come(agency: Agency) -> None:
    agency.connect("acme")
    put_ad(agency.database, "one")
    put_days(agency.database, "one", {DAY: {"spend": 20.0}})
    stored = arm(agency.database, schedule={"kind": "cron", "cron": "30 6 * * *"})
    agency.sync()
    assert list_decisions(agency.database) == []
    first = sensor_tick(agency, None)
    assert not first.run_requests
    agency.move_to(ON_TIME.replace(hour=6, minute=31))
    (request,) = sensor_tick(agency, first.cursor).run_requests
    assert request.partition_key == str(DAY)
    # Another look that finds the same is the same run.
    (again,) = sensor_tick(agency, first.cursor).run_requests
    assert again.run_key == request.run_key
    definitions = agency.definitions()
    with agency.instance() as instance:
        done = definitions.resolve_job_def("clarity_rule_evaluation").execute_in_process(
            instance=instance, partition_key=request.partition_key, run_config=request.run_config
        )
    assert done.success
    (log,) = list_decisions(agency.database)
    assert (log.rule_id, log.entity_id) == (stored.id, "meta:one")
    after = sensor_tick(agency, sensor_tick(agency, first.cursor).cursor)
    assert not after.run_requests


def test_where_no_sync_has_come_through_rules_on_other_metrics_are_evaluated_by_the_clock(
    agency: Agency,
) -> None:
    stored = arm(agency.database)
    cursor = look_for_due_rules(agency.database, cursor=None, now=ON_TIME).cursor
    too_early = ON_TIME.replace(minute=59)
    assert look_for_due_rules(agency.database, cursor=cursor, now=too_early).due == ()
    late = ON_TIME.replace(hour=1, minute=0)
    (due,) = look_for_due_rules(agency.database, cursor=cursor, now=late).due
    assert (due.trigger, due.rule_ids, due.day) == ("on_data", (stored.id,), DAY)
    agency.connect("acme")
    put_ad(agency.database, "one")
    agency.sync()
    assert look_for_due_rules(agency.database, cursor=cursor, now=late).due == ()
