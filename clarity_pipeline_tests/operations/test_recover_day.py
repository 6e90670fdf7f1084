"""Recovering missed days from what has landed and with what is free, without Dagster."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from sqlalchemy import text

from clarity_pipeline.domain.dimensions import URL_DEVICE, URL_SOURCE
from clarity_pipeline.domain.quota import Purpose
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.export_api.emulator import Fault
from clarity_pipeline.operations.day_ranges import plan_days
from clarity_pipeline.operations.day_report import gather_day_facts
from clarity_pipeline.operations.rebuild_day import rebuild
from clarity_pipeline.operations.replay_day import ReplayStatus, replay_day
from clarity_pipeline.store import exports, quota_ledger
from clarity_pipeline.store.aggregates import get_business_behavioral_aggregates
from clarity_pipeline_tests.agency import DAY, Agency, days_later
from clarity_pipeline_tests.missed_days import (
    NEXT_DAY,
    asked,
    collect,
    happened,
    miss,
    slices,
    stored,
)


def test_the_day_before_is_recovered_from_72_hours_and_shares_the_48(agency: Agency) -> None:
    """Two days were missed. Six calls of ten are free after yesterday's four; two per combo."""
    project = miss(agency, days_ago=3, sessions_per_day=30, pages=8)
    collect(agency)
    collect(agency, NEXT_DAY)
    collect(agency, DAY)

    assert asked(agency) == {1: 4, 2: 3, 3: 3}
    for day in (DAY, NEXT_DAY):
        found = slices(agency, day)
        assert len(found) == 3
        assert "Device,URL" in found
        for state in found.values():
            assert stored(agency, state) == happened(project, state)
    assert slices(agency)["Device,URL"].window_end == agency.now - timedelta(days=2)
    jobs = agency.latest_job("acme")
    assert (jobs.status, jobs.error_code) == (JobStatus.PARTIAL, "quota_refused")
    assert jobs.error_message is not None
    assert "come back at 2026-11-05 00:00 UTC" in jobs.error_message
    for day, days in ((DAY, {3}), (NEXT_DAY, {2}), (DAY + timedelta(days=2), {1})):
        landed = exports.list_exports(agency.database, day=day)
        assert {reply.num_of_days for reply in landed} == days


def test_without_yesterdays_reply_of_just_now_both_halves_are_asked_for(agency: Agency) -> None:
    """Yesterday was collected at its hour; in the afternoon a pair costs two calls."""
    project = miss(agency, sessions_per_day=20, pages=6)
    collect(agency)
    agency.move_to(days_later(1) + timedelta(hours=14))
    agency.emulator.control.clear_calls()
    collect(agency, DAY, trigger=Trigger.MANUAL)

    assert asked(agency) == {1: 3, 2: 3}
    job = agency.latest_job("acme")
    assert (job.status, job.calls_used) == (JobStatus.PARTIAL, 6)
    statuses = Counter(str(combo["status"]) for combo in (job.combos or {}).values())
    assert statuses == {"recovered": 3, "quota_refused": 1}
    for state in slices(agency).values():
        assert stored(agency, state) == happened(project, state)
        assert state.window_end == agency.now - timedelta(days=1)
    yesterday = slices(agency, NEXT_DAY)["Device,URL"]
    assert yesterday.window_end == days_later(1)


def test_recovery_leaves_the_schedules_share_of_every_business_alone(agency: Agency) -> None:
    """Of ten calls two businesses of one project are owed eight: one pair of one combo is left."""
    shared = miss(agency)
    agency.connect("globex", project_id=shared.project_id, seed=shared.seed)
    collect(agency, DAY, trigger=Trigger.MANUAL, business_ids=["acme"])

    state = quota_ledger.quota_state(agency.database, project_id=shared.project_id, now=agency.now)
    records = quota_ledger.list_calls(
        agency.database, project_id=shared.project_id, utc_day=agency.now.date()
    )
    assert {record.purpose for record in records} == {Purpose.RECOVERY}
    assert state.used + state.kept <= 10
    collect(agency)
    assert agency.latest_job("acme").status is JobStatus.SUCCEEDED
    assert agency.latest_job("globex").status is JobStatus.SUCCEEDED
    assert slices(agency).keys() <= {URL_DEVICE.dimension_set, URL_SOURCE.dimension_set}


def test_half_a_pair_that_landed_before_a_crash_is_used(agency: Agency) -> None:
    project = miss(agency)
    collect(agency)
    agency.emulator.control.add_fault(
        Fault(dimension_set=URL_DEVICE.dimension_set, drop=True, times=2)
    )
    collect(agency, DAY)
    assert agency.latest_job("acme").status is JobStatus.PARTIAL
    agency.emulator.control.clear_calls()
    collect(agency, DAY)
    assert [(c.dimension_set, c.num_of_days) for c in agency.calls()] == [("Device,URL", "2")]
    assert stored(agency, slices(agency)["Device,URL"]) == happened(
        project, slices(agency)["Device,URL"]
    )


def test_a_recovered_day_is_never_asked_for_again_and_rebuilt_without_a_call(
    agency: Agency,
) -> None:
    project = miss(agency, sessions_per_day=20, pages=6)
    collect(agency)
    collect(agency, DAY)
    before = slices(agency)
    agency.emulator.control.clear_calls()
    collect(agency, DAY)
    job = agency.latest_job("acme")
    assert (job.status, job.calls_used, job.rows_written) == (JobStatus.SUCCEEDED, 0, 0)

    agency.move_to(days_later(30))
    unchanged = rebuild(agency.database, day=DAY, now=agency.now)
    assert (unchanged.unchanged, unchanged.rows_written) == (("acme",), 0)
    assert rebuild(agency.database, day=DAY, now=agency.now, force=True).rows_written == 0
    assert slices(agency) == before
    with agency.database.transaction() as connection:
        connection.execute(text("DELETE FROM clarity_daily_metrics"))
        connection.execute(text("DELETE FROM clarity_daily_slices"))
    (replayed,) = replay_day(
        agency.database, day=DAY, business_ids=["acme"], clock=lambda: agency.now
    )
    assert (replayed.status, replayed.slices) == (ReplayStatus.REBUILT, 4)
    for state in slices(agency).values():
        assert stored(agency, state) == happened(project, state)
    assert agency.calls() == []


def test_a_truncated_pair_is_marked_and_never_says_too_much(agency: Agency) -> None:
    project = miss(agency, sessions_per_day=2000, pages=900)
    collect(agency)
    collect(agency, DAY)
    state = slices(agency)["Device,URL"]
    assert (state.is_derived, state.truncated) == (True, True)
    truth = happened(project, state)
    found = stored(agency, state)
    assert found
    for values, figures in found.items():
        assert all(count <= truth[values][name] for name, count in figures.items())
    values = get_business_behavioral_aggregates("acme", DAY, DAY, database=agency.database)
    assert values.truncated


def test_a_combo_that_is_missing_of_a_partial_day_is_recovered_too(agency: Agency) -> None:
    agency.connect("acme")
    agency.emulator.control.add_fault(Fault(dimension_set="Country,URL", drop=True, times=2))
    collect(agency)
    agency.move_to(days_later(1))
    collect(agency)
    agency.emulator.control.clear_calls()
    collect(agency, DAY)
    assert [(c.dimension_set, c.num_of_days) for c in agency.calls()] == [("Country,URL", "2")]
    assert {name for name, state in slices(agency).items() if state.is_derived} == {"Country,URL"}
    assert agency.latest_job("acme").status is JobStatus.SUCCEEDED


def test_who_recovers_one_day_by_hand_is_not_held_back_for_the_other(agency: Agency) -> None:
    miss(agency, days_ago=3, sessions_per_day=20, pages=6)
    collect(agency)
    collect(agency, NEXT_DAY, trigger=Trigger.MANUAL)
    assert asked(agency) == {1: 4, 2: 4}
    assert len(slices(agency, NEXT_DAY)) == 4


def test_a_range_without_yesterday_recovers_the_oldest_missed_day(agency: Agency) -> None:
    miss(agency, days_ago=3)
    days = [DAY - timedelta(days=1), DAY, NEXT_DAY]

    def planned(*, recovery: bool) -> list[int]:
        plan = plan_days(
            agency.database,
            days=days,
            business_ids=[],
            trigger=Trigger.BACKFILL,
            overview_default=False,
            recovery=recovery,
            run_id=f"range {recovery}",
            now=agency.now,
        )
        return [call.num_of_days for call in plan.calls if plan.day == DAY]

    assert planned(recovery=False) == []
    assert sorted(set(planned(recovery=True))) == [2, 3]


def test_a_recovered_day_counts_as_landed_and_says_how_far_it_is_off(agency: Agency) -> None:
    miss(agency, sessions_per_day=20, pages=6)
    agency.move_to(agency.now + timedelta(hours=5))
    collect(agency)
    collect(agency, DAY)
    facts = gather_day_facts(agency.database, DAY, overview_default=False)
    assert facts.expected <= facts.window_ends.keys()
    assert set(facts.window_ends.values()) == {agency.now - timedelta(days=1)}
