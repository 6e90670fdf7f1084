"""The job as a whole, on both databases: what lands, what is spent, who is affected by whom."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import dagster as dg
import pytest
from sqlalchemy import text

from clarity_pipeline.domain.dimensions import DEFAULT_COMBOS, OVERVIEW, URL_DEVICE
from clarity_pipeline.domain.errors import NotConnected, QuotaRefused
from clarity_pipeline.domain.quota import CALL_LEASE, CallOutcome, Purpose
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.export_api.emulated_site import SessionKind, SiteHistory
from clarity_pipeline.export_api.emulator import Fault
from clarity_pipeline.store import connections, daily_metrics, exports, quota_ledger
from clarity_pipeline.store.aggregates import (
    get_business_behavioral_aggregates,
    get_url_behavioral_aggregates,
)
from clarity_pipeline_tests.agency import DAY, ON_TIME, Agency, days_later


def check_results(agency: Agency, run_id: str) -> dict[str, bool]:
    with agency.instance() as instance:
        events = [
            entry.dagster_event.asset_check_evaluation_data
            for entry in instance.all_logs(
                run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
            )
            if entry.dagster_event is not None
        ]
    return {event.check_name: event.passed for event in events}


def test_a_day_lands_and_its_events_are_those_that_happened(agency: Agency) -> None:
    project = agency.connect("acme", sessions_per_day=300, pages=30)
    run = agency.sync()

    assert run.succeeded, run.error
    assert Counter(call.dimension_set for call in agency.calls()) == Counter(
        combo.dimension_set for combo in DEFAULT_COMBOS
    )
    happened = [
        session
        for session in SiteHistory().sessions(
            project.site, start=ON_TIME - timedelta(days=1), end=ON_TIME
        )
        if session.kind is SessionKind.HUMAN
    ]
    events: Counter[str] = Counter()
    for session in happened:
        for view in session.page_views:
            events.update(view.events)
    found = get_business_behavioral_aggregates("acme", DAY, DAY, database=agency.database)
    assert found.clarity_rage_clicks == events["RageClickCount"]
    assert found.clarity_dead_clicks == events["DeadClickCount"]
    assert found.clarity_quick_backs == events["QuickbackClick"]
    assert found.clarity_excessive_scroll == events["ExcessiveScroll"]
    assert found.session_basis == "page_sessions"
    assert (found.days_with_data, found.last_date, found.truncated) == (1, DAY, False)
    assert all(check_results(agency, run.run_id).values())
    job = agency.latest_job("acme")
    assert (job.status, job.calls_used, job.trigger) == (
        JobStatus.SUCCEEDED,
        4,
        Trigger.SCHEDULE,
    )
    assert job.rows_written == sum(
        state.rows for state in daily_metrics.list_slices(agency.database, start=DAY, end=DAY)
    )
    assert agency.latest_job("acme").rows_written > 0


def test_pages_are_rolled_up_too_and_add_up_to_the_business(agency: Agency) -> None:
    agency.connect("acme")
    agency.sync()
    business = get_business_behavioral_aggregates("acme", DAY, DAY, database=agency.database)
    pages = get_url_behavioral_aggregates("acme", DAY, DAY, database=agency.database)
    assert len(pages) > 1
    assert sum(page.clarity_sessions or 0 for page in pages.values()) == business.clarity_sessions
    assert sum(page.clarity_dead_clicks or 0 for page in pages.values()) == (
        business.clarity_dead_clicks
    )


def test_a_day_that_has_landed_costs_no_call_and_no_write_when_it_runs_again(
    agency: Agency,
) -> None:
    agency.connect("acme")
    agency.sync()
    with agency.database.reading() as connection:
        before = connection.execute(
            text("SELECT dimension_hash, updated_at FROM clarity_daily_metrics ORDER BY 1")
        ).all()
    agency.move_to(ON_TIME + timedelta(hours=3))
    again = agency.sync()

    assert again.succeeded
    assert len(agency.calls()) == 4
    with agency.database.reading() as connection:
        after = connection.execute(
            text("SELECT dimension_hash, updated_at FROM clarity_daily_metrics ORDER BY 1")
        ).all()
    assert after == before
    assert (agency.latest_job("acme").status, agency.latest_job("acme").calls_used) == (
        JobStatus.SUCCEEDED,
        0,
    )


def test_one_business_failing_stops_no_other_and_the_check_goes_red(agency: Agency) -> None:
    agency.connect("acme")
    agency.connect("expired")
    agency.emulator.control.revoke_token(agency.projects["expired"].project_id)
    run = agency.sync()

    assert run.succeeded
    assert agency.latest_job("acme").status is JobStatus.SUCCEEDED
    failed = agency.latest_job("expired")
    assert (failed.status, failed.error_code) == (JobStatus.AUTH_FAILED, "auth_failed")
    assert failed.error_message is not None
    assert "401" in failed.error_message
    assert check_results(agency, run.run_id)["every_enabled_business_landed"] is False
    assert connections.get_connection(agency.database, "expired").last_synced_at is None
    assert connections.get_connection(agency.database, "acme").last_synced_at == ON_TIME


def test_when_every_business_fails_the_run_fails_and_says_why(agency: Agency) -> None:
    agency.connect("expired")
    agency.emulator.control.revoke_token(agency.projects["expired"].project_id)
    run = agency.sync()

    assert not run.succeeded
    assert run.error is not None
    assert "expired: auth_failed" in run.error
    assert "re-execute this run from failure" in run.error


def test_a_429_pins_the_day_leaves_the_config_enabled_and_is_not_retried(agency: Agency) -> None:
    project = agency.connect("spent")
    agency.connect("acme")
    agency.emulator.control.set_quota_used(project.project_id, used=10)
    agency.sync()
    first = len(agency.calls("spent"))

    assert agency.latest_job("spent").status is JobStatus.RATE_LIMITED
    assert connections.get_connection(agency.database, "spent").is_enabled
    state = quota_ledger.quota_state(agency.database, project_id=project.project_id, now=agency.now)
    assert (state.rate_limited, state.free) == (True, 0)
    agency.sync()
    assert len(agency.calls("spent")) == first <= 4

    agency.move_to(days_later(1))
    agency.sync()
    assert agency.latest_job("spent").status is JobStatus.SUCCEEDED


def test_a_transient_failure_gets_one_more_try_and_no_more(agency: Agency) -> None:
    agency.connect("flaky")
    agency.connect("down")
    agency.connect("acme")
    for business_id, times in (("flaky", 1), ("down", None)):
        agency.emulator.control.add_fault(
            Fault(
                project_id=agency.projects[business_id].project_id,
                dimension_set=URL_DEVICE.dimension_set,
                status=503,
                times=times,
            )
        )
    agency.sync()

    assert agency.latest_job("flaky").status is JobStatus.SUCCEEDED
    assert agency.latest_job("flaky").calls_used == len(agency.calls("flaky")) == 5
    assert agency.latest_job("down").status is JobStatus.PARTIAL
    assert agency.latest_job("down").calls_used == len(agency.calls("down")) == 5
    assert agency.latest_job("down").error_code == "service_unavailable"


def test_a_partial_day_keeps_what_it_has_and_fetches_only_the_rest(agency: Agency) -> None:
    agency.connect("acme")
    agency.emulator.control.add_fault(Fault(dimension_set="Country,URL", drop=True, times=2))
    agency.sync()
    assert agency.latest_job("acme").status is JobStatus.PARTIAL
    assert len(daily_metrics.list_slices(agency.database, start=DAY, end=DAY)) == 3

    agency.emulator.control.clear_calls()
    agency.sync()
    assert [call.dimension_set for call in agency.calls()] == ["Country,URL"]
    assert agency.latest_job("acme").status is JobStatus.SUCCEEDED
    assert len(daily_metrics.list_slices(agency.database, start=DAY, end=DAY)) == 4


def test_two_businesses_on_one_project_stay_within_its_ten_calls(agency: Agency) -> None:
    shared = agency.connect("first")
    for business_id in ("second", "third"):
        agency.connect(business_id, project_id=shared.project_id, seed=shared.seed)
    run = agency.sync()

    assert run.succeeded
    assert len(agency.calls()) == 10
    assert {call.status for call in agency.calls()} == {200}
    statuses = [agency.latest_job(name).status for name in ("first", "second", "third")]
    assert JobStatus.RATE_LIMITED not in statuses
    assert statuses.count(JobStatus.PARTIAL) >= 1
    spent = [agency.latest_job(name).calls_used for name in ("first", "second", "third")]
    assert sum(spent) == 10


def test_an_ignored_dimension_is_kept_raw_but_never_counted_nor_asked_for_again(
    agency: Agency,
) -> None:
    agency.connect("acme")
    agency.emulator.control.add_fault(
        Fault(
            dimension_set="Country,URL",
            status=200,
            body='[{"metricName":"Traffic","information":[{"totalSessionCount":1}]}]',
        )
    )
    agency.sync()

    replies = {
        reply.dimension_set: reply for reply in exports.list_exports(agency.database, day=DAY)
    }
    assert replies["Country,URL"].verdict == "dimension_ignored"
    assert agency.latest_job("acme").status is JobStatus.PARTIAL
    assert "Country,URL" not in {
        state.dimension_set
        for state in daily_metrics.list_slices(agency.database, start=DAY, end=DAY)
    }
    agency.sync()
    assert len(agency.calls()) == 4


def test_a_day_that_was_missed_is_a_gap_and_costs_no_call(agency: Agency) -> None:
    agency.connect("acme")
    agency.move_to(days_later(2))
    run = agency.sync(DAY)

    assert run.succeeded
    assert agency.calls() == []
    job = agency.latest_job("acme")
    assert (job.status, job.error_code) == (JobStatus.SKIPPED, "gap")
    assert check_results(agency, run.run_id)["every_enabled_business_landed"] is False


def test_a_past_day_that_landed_is_replayed_without_a_call(agency: Agency) -> None:
    agency.connect("acme")
    agency.sync()
    before = get_business_behavioral_aggregates("acme", DAY, DAY, database=agency.database)
    with agency.database.transaction() as connection:
        for table in ("clarity_daily_metrics", "clarity_daily_slices"):
            connection.execute(text(f"DELETE FROM {table}"))
        for table in ("clarity_business_aggregates", "clarity_url_aggregates"):
            connection.execute(text(f"DELETE FROM {table}"))
    agency.move_to(days_later(5))
    run = agency.sync(DAY, trigger=Trigger.BACKFILL)

    assert run.succeeded
    assert len(agency.calls()) == 4
    assert get_business_behavioral_aggregates("acme", DAY, DAY, database=agency.database) == before


def test_a_late_run_is_stored_under_its_day_and_the_check_says_how_late(agency: Agency) -> None:
    agency.connect("acme")
    agency.move_to(ON_TIME + timedelta(hours=12))
    run = agency.sync()

    results = check_results(agency, run.run_id)
    assert results["window_alignment"] is False
    assert results["every_enabled_business_landed"] is True
    (state, *_) = daily_metrics.list_slices(agency.database, start=DAY, end=DAY)
    assert state.window_end == agency.now


def test_a_reply_at_the_cap_is_marked_truncated_up_to_the_aggregates(agency: Agency) -> None:
    agency.connect("huge", sessions_per_day=2500, pages=900)
    run = agency.sync()

    assert check_results(agency, run.run_id)["no_slice_truncated"] is False
    found = get_business_behavioral_aggregates("huge", DAY, DAY, database=agency.database)
    assert found.truncated


def test_something_new_in_a_reply_is_reported_and_kept(agency: Agency) -> None:
    agency.connect("acme")
    agency.emulator.control.add_fault(
        Fault(
            dimension_set="Device,URL",
            status=200,
            body='[{"metricName":"HoverCount","information":[{"hovers":3,"Url":"https://a.example/",'
            '"Device":"PC"}]}]',
        )
    )
    run = agency.sync()
    assert check_results(agency, run.run_id)["no_unknown_blocks"] is False


def test_run_config_narrows_a_run_to_some_businesses(agency: Agency) -> None:
    agency.connect("acme")
    agency.connect("globex")
    agency.sync(business_ids=["globex"], trigger=Trigger.MANUAL)
    assert len(agency.calls("globex")) == 4
    assert agency.calls("acme") == []


def test_a_business_asked_for_by_name_that_is_not_connected_fails_before_anything_is_spent(
    agency: Agency,
) -> None:
    agency.connect("acme")
    connections.disconnect(agency.database, business_id="acme", now=agency.now)
    run = agency.sync(business_ids=["acme"])
    assert not run.succeeded
    assert run.error is not None
    assert NotConnected.__name__ in run.error
    assert agency.calls() == []


def test_the_overview_is_a_fifth_call_whose_totals_replace_the_slice(agency: Agency) -> None:
    project = agency.connect("acme", sessions_per_day=200)
    connections.set_overview(agency.database, business_id="acme", overview=True, now=agency.now)
    agency.sync()

    assert OVERVIEW.dimension_set in {call.dimension_set for call in agency.calls()}
    assert len(agency.calls()) == 5
    found = get_business_behavioral_aggregates("acme", DAY, DAY, database=agency.database)
    humans = [
        session
        for session in SiteHistory().sessions(
            project.site, start=ON_TIME - timedelta(days=1), end=ON_TIME
        )
        if session.kind is SessionKind.HUMAN
    ]
    assert found.session_basis == "sessions"
    assert found.clarity_sessions is not None
    assert abs(found.clarity_sessions - len(humans)) <= 3


def test_a_reply_whose_process_died_before_judging_it_is_judged_without_a_call(
    agency: Agency,
) -> None:
    agency.connect("acme")
    agency.sync()
    with agency.database.transaction() as connection:
        connection.execute(
            text("UPDATE clarity_raw_exports SET verdict = NULL WHERE dimension_set = 'Device,URL'")
        )
    agency.sync()
    assert len(agency.calls()) == 4
    assert agency.latest_job("acme").status is JobStatus.SUCCEEDED


def ledger(agency: Agency, business_id: str) -> list[CallOutcome | None]:
    calls = quota_ledger.list_calls(
        agency.database,
        project_id=agency.projects[business_id].project_id,
        utc_day=agency.now.date(),
    )
    return [call.outcome for call in calls]


def test_a_process_that_died_after_landing_leaves_an_honest_ledger_to_the_next_run(
    agency: Agency,
) -> None:
    agency.connect("acme")
    agency.sync()
    with agency.database.transaction() as connection:
        connection.execute(text("UPDATE clarity_raw_exports SET verdict = NULL"))
        connection.execute(text("UPDATE clarity_api_calls SET outcome = NULL, settled_at = NULL"))
    agency.sync()
    assert len(agency.calls()) == 4
    assert ledger(agency, "acme") == [CallOutcome.LANDED] * 4
    assert agency.latest_job("acme").status is JobStatus.SUCCEEDED


def test_a_process_that_died_during_a_call_left_its_slot_spent_and_the_call_to_be_made(
    agency: Agency,
) -> None:
    project = agency.connect("acme")
    quota_ledger.reserve(
        agency.database,
        project_id=project.project_id,
        business_id="acme",
        purpose=Purpose.SCHEDULE,
        day=DAY,
        dimension_set=URL_DEVICE.dimension_set,
        may_use_share=True,
        now=agency.now,
    )
    agency.move_to(agency.now + CALL_LEASE)
    agency.sync()
    assert len(agency.calls()) == 4
    assert ledger(agency, "acme") == [CallOutcome.ABANDONED, *[CallOutcome.LANDED] * 4]


def test_the_share_of_the_schedule_survives_a_spree_of_tests(agency: Agency) -> None:
    project = agency.connect("acme")

    def take_a_slot() -> None:
        quota_ledger.reserve(
            agency.database,
            project_id=project.project_id,
            business_id="acme",
            purpose=Purpose.TEST,
            day=DAY,
            dimension_set="Browser",
            may_use_share=False,
            now=agency.now,
        )

    for _ in range(6):
        take_a_slot()
    with pytest.raises(QuotaRefused, match="kept for the daily sync"):
        take_a_slot()
    agency.sync()
    assert agency.latest_job("acme").status is JobStatus.SUCCEEDED


def test_a_run_of_many_businesses_writes_a_bounded_number_of_events(agency: Agency) -> None:
    for number in range(20):
        agency.connect(f"business-{number:02d}", sessions_per_day=5, pages=3)
    run = agency.sync()
    assert run.succeeded
    assert len(agency.calls()) == 80
    with agency.instance() as instance:
        steps = {stats.step_key for stats in instance.get_run_step_stats(run.run_id)}
        rows = [log for log in instance.all_logs(run.run_id) if log.is_dagster_event]
        assert len(rows) < 220
    assert sum("fetch_url_device" in step for step in steps) == 4


def test_no_enabled_business_is_a_day_with_nothing_to_do(agency: Agency) -> None:
    agency.connect("paused")
    connections.set_enabled(agency.database, business_id="paused", enabled=False, now=agency.now)
    run = agency.sync()
    assert run.succeeded
    assert agency.calls() == []
