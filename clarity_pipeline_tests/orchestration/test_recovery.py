"""A missed day recovered through the real job, against the sessions that the emulator made up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import date, timedelta

import dagster as dg
import pytest
from sqlalchemy import text

from clarity_pipeline.domain.dimensions import (
    COMBO_BY_DIMENSION_SET,
    DEFAULT_COMBOS,
    OVERVIEW,
    URL_DEVICE,
    URL_SOURCE,
    Dimension,
)
from clarity_pipeline.domain.metrics import CLICK_BLOCK_COLUMNS
from clarity_pipeline.domain.quota import Purpose
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.domain.urls import canonical_url
from clarity_pipeline.export_api.emulated_site import PageView, Session, SessionKind, SiteHistory
from clarity_pipeline.export_api.emulator import EmulatedProject, Fault
from clarity_pipeline.operations.rebuild_day import rebuild
from clarity_pipeline.operations.replay_day import ReplayStatus, replay_day
from clarity_pipeline.store import connections, daily_metrics, exports, quota_ledger
from clarity_pipeline.store.aggregates import get_business_behavioral_aggregates
from clarity_pipeline.store.daily_metrics import SliceState
from clarity_pipeline_tests.agency import DAY, ON_TIME, Agency, days_later

NEXT_DAY = DAY + timedelta(days=1)
Figures = dict[tuple[str | None, ...], Counter[str]]


@pytest.fixture(autouse=True)
def recovery_is_on(monkeypatch: pytest.MonkeyPatch, agency: Agency) -> None:
    monkeypatch.setenv("CLARITY_RECOVERY", "1")


def happened(project: EmulatedProject, state: SliceState) -> Figures:
    """Events and sessions of each tuple in the very window of a slice, out of what was generated.

    Tuples of unlabelled sessions alone, of which there is nothing to count, are left out.
    """
    combo = COMBO_BY_DIMENSION_SET[state.dimension_set]
    sessions: Counter[tuple[tuple[str | None, ...], SessionKind]] = Counter()
    figures: Figures = {}
    for session in SiteHistory().sessions(
        project.site, start=state.window_start, end=state.window_end
    ):
        # Two addresses of one page are two tuples of the reply, and their sessions are added up.
        seen = {
            (combo.dimensions and view.url, _values(combo.dimensions, session, view))
            for view in session.page_views
        }
        sessions.update((values, session.kind) for _, values in seen)
        for view in session.page_views:
            values = _values(combo.dimensions, session, view)
            for block, count in view.events.items():
                figures.setdefault(values, Counter())[CLICK_BLOCK_COLUMNS[block]] += count
    for (values, kind), count in sessions.items():
        if kind is SessionKind.HUMAN:
            figures.setdefault(values, Counter())["sessions"] += count
        elif kind is SessionKind.BOT:
            figures.setdefault(values, Counter())["bot_sessions"] += count
    return {values: +counts for values, counts in figures.items() if +counts}


def _values(
    dimensions: Collection[Dimension], session: Session, view: PageView
) -> tuple[str | None, ...]:
    texts = {
        Dimension.URL: None if view.url is None else canonical_url(view.url),
        Dimension.DEVICE: session.device,
        Dimension.COUNTRY: session.country,
        Dimension.SOURCE: view.source,
        Dimension.CAMPAIGN: view.campaign,
        Dimension.CHANNEL: view.channel,
    }
    return tuple(texts[dimension] for dimension in dimensions)


def stored(agency: Agency, state: SliceState) -> Figures:
    combo = COMBO_BY_DIMENSION_SET[state.dimension_set]
    frame = daily_metrics.read_metrics(
        agency.database,
        business_id=state.business_id,
        day=state.day,
        dimension_set=state.dimension_set,
    )
    names = ("sessions", "bot_sessions", *CLICK_BLOCK_COLUMNS.values())
    figures: Figures = {}
    for row in frame.astype(object).where(frame.notna(), None).to_dict("records"):
        values = tuple(row[dimension.column] for dimension in combo.dimensions)
        figures[values] = +Counter({name: row[name] or 0 for name in names})
    return {values: counts for values, counts in figures.items() if counts}


def slices(agency: Agency, day: date = DAY) -> dict[str, SliceState]:
    states = daily_metrics.list_slices(agency.database, start=day, end=day)
    return {state.dimension_set: state for state in states}


def asked(agency: Agency) -> Counter[int]:
    """The calls Clarity received, by the number of days they asked for."""
    return Counter(int(call.num_of_days or 1) for call in agency.calls())


def miss(agency: Agency, *, days_ago: int = 2, **project: object) -> EmulatedProject:
    """A business whose day nobody collected, so many days after it."""
    emulated = agency.connect("acme", **project)
    agency.move_to(days_later(days_ago - 1))
    return emulated


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


def test_the_day_before_is_recovered_from_72_hours_and_shares_the_48(agency: Agency) -> None:
    """Two days were missed. Six calls of ten are free after yesterday's four; two per combo."""
    project = miss(agency, days_ago=3, sessions_per_day=30, pages=8)
    assert agency.sync().succeeded
    assert agency.sync(DAY).succeeded
    assert agency.sync(NEXT_DAY).succeeded

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
    agency.sync()
    agency.move_to(days_later(1) + timedelta(hours=14))
    agency.emulator.control.clear_calls()
    agency.sync(DAY, trigger=Trigger.MANUAL)

    assert asked(agency) == {1: 3, 2: 3}
    for state in slices(agency).values():
        assert stored(agency, state) == happened(project, state)
        assert state.window_end == agency.now - timedelta(days=1)
    yesterday = slices(agency, NEXT_DAY)["Device,URL"]
    assert yesterday.window_end == days_later(1)


def test_with_recovery_off_a_gap_is_a_gap_and_nobody_asks_for_48_hours(
    agency: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CLARITY_RECOVERY")
    miss(agency)
    agency.sync()
    agency.sync(DAY)
    assert asked(agency) == {1: 4}
    assert agency.latest_job("acme").error_code == "gap"


def test_recovery_leaves_the_schedules_share_of_every_business_alone(agency: Agency) -> None:
    """Of ten calls two businesses of one project are owed eight: one pair of one combo is left."""
    shared = miss(agency)
    agency.connect("globex", project_id=shared.project_id, seed=shared.seed)
    agency.sync(DAY, trigger=Trigger.MANUAL, business_ids=["acme"])

    state = quota_ledger.quota_state(agency.database, project_id=shared.project_id, now=agency.now)
    records = quota_ledger.list_calls(
        agency.database, project_id=shared.project_id, utc_day=agency.now.date()
    )
    assert {record.purpose for record in records} == {Purpose.RECOVERY}
    assert state.used + state.kept <= 10
    agency.sync()
    assert agency.latest_job("acme").status is JobStatus.SUCCEEDED
    assert agency.latest_job("globex").status is JobStatus.SUCCEEDED
    assert slices(agency).keys() <= {URL_DEVICE.dimension_set, URL_SOURCE.dimension_set}


def test_half_a_pair_that_landed_before_a_crash_is_used(agency: Agency) -> None:
    project = miss(agency)
    agency.sync()
    agency.emulator.control.add_fault(
        Fault(dimension_set=URL_DEVICE.dimension_set, drop=True, times=2)
    )
    agency.sync(DAY)
    assert agency.latest_job("acme").status is JobStatus.PARTIAL
    agency.emulator.control.clear_calls()
    agency.sync(DAY)
    assert [(c.dimension_set, c.num_of_days) for c in agency.calls()] == [("Device,URL", "2")]
    assert stored(agency, slices(agency)["Device,URL"]) == happened(
        project, slices(agency)["Device,URL"]
    )


def test_a_recovered_day_is_never_asked_for_again_and_rebuilt_without_a_call(
    agency: Agency,
) -> None:
    project = miss(agency, sessions_per_day=20, pages=6)
    agency.sync()
    agency.sync(DAY)
    before = slices(agency)
    agency.emulator.control.clear_calls()
    agency.sync(DAY)
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
    agency.sync()
    agency.sync(DAY)
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
    agency.sync()
    agency.move_to(days_later(1))
    agency.sync()
    agency.emulator.control.clear_calls()
    agency.sync(DAY)
    assert [(c.dimension_set, c.num_of_days) for c in agency.calls()] == [("Country,URL", "2")]
    assert {name for name, state in slices(agency).items() if state.is_derived} == {"Country,URL"}
    assert agency.latest_job("acme").status is JobStatus.SUCCEEDED


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
    agency.sync()
    agency.sync(DAY)
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
    agency.sync()
    assert [request.partition_key for request in requested(agency)] == ["2026-11-01"]
    assert days_later(0) == ON_TIME
