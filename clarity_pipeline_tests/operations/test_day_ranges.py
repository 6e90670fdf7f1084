"""A range of days in one run: one at a time, errors where they belong, memory that stays flat."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from datetime import date, timedelta

import pytest

from clarity_pipeline.domain.days import days_between
from clarity_pipeline.domain.dimensions import URL_DEVICE
from clarity_pipeline.domain.errors import ClarityError, DatabaseUnreachable, RebuildFailed
from clarity_pipeline.domain.sync_jobs import Trigger
from clarity_pipeline.operations.day_ranges import complaint, plan_days, work_through
from clarity_pipeline.operations.day_report import DayReport, report_metrics_day
from clarity_pipeline.operations.rebuild_day import rebuild
from clarity_pipeline.operations.replay_day import replay_day
from clarity_pipeline.store import businesses, sync_jobs
from clarity_pipeline.store.database import Database
from clarity_pipeline_tests.agency import DAY, ON_TIME, Agency, days_later
from clarity_pipeline_tests.factories import NOW
from clarity_pipeline_tests.landing import land_days

WEEK = days_between(DAY - timedelta(days=6), DAY)
FINE = DayReport({"rows_written": 1}, table="| a table |")


def failing_on(bad: dict[date, ClarityError]) -> Callable[[date], DayReport]:
    def work(day: date) -> DayReport:
        if day in bad:
            raise bad[day]
        return FINE

    return work


def test_a_failed_day_names_itself_and_the_others_are_done() -> None:
    worked = list(work_through(WEEK, failing_on({WEEK[2]: RebuildFailed("bad reply")})))
    assert [done.day for done in worked] == WEEK
    assert [done.day for done in worked if not done.is_done] == [WEEK[2]]
    assert complaint(worked, WEEK) == f"1 of 7 days failed: {WEEK[2]} (bad reply)."


def test_a_database_that_is_gone_ends_the_range() -> None:
    worked = list(work_through(WEEK, failing_on({WEEK[1]: DatabaseUnreachable("gone")})))
    assert [done.day for done in worked] == WEEK[:2]
    found = complaint(worked, WEEK)
    assert found == f"1 of 7 days failed: {WEEK[1]} (gone); the last 5 days were not tried."


def test_many_failed_days_are_counted_and_the_first_are_named() -> None:
    days = days_between(date(2026, 1, 1), date(2026, 3, 1))
    worked = list(work_through(days, failing_on({day: RebuildFailed("x") for day in days})))
    found = str(complaint(worked, days))
    assert found.startswith("60 of 60 days failed: 2026-01-01 (x), 2026-01-02 (x)")
    assert found.endswith("2026-01-10 (x) and 50 more.")


def test_a_single_day_keeps_its_table_and_its_own_words() -> None:
    (done,) = work_through([DAY], failing_on({}))
    assert done.report == FINE
    assert complaint([done], [DAY]) is None
    (failed,) = work_through([DAY], failing_on({DAY: RebuildFailed("bad reply")}))
    assert complaint([failed], [DAY]) == "bad reply"
    for kept in work_through(WEEK, failing_on({})):
        assert kept.report == DayReport(FINE.numbers, table="")


def test_a_day_whose_report_says_it_failed_has_failed() -> None:
    report = DayReport({}, table="", failure="None of 2 businesses could be collected.")
    (done,) = work_through([DAY], lambda _: report)
    assert not done.is_done
    assert "None of 2 businesses" in done.sentence


def plan(agency: Agency, days: list[date]):  # noqa: ANN201 - what plan_days returns
    return plan_days(
        agency.database,
        days=days,
        business_ids=[],
        trigger=Trigger.BACKFILL,
        overview_default=False,
        run_id="run",
        now=agency.now,
    )


def test_of_a_range_only_the_day_that_clarity_answers_for_is_planned(agency: Agency) -> None:
    agency.connect("acme")
    agency.move_to(days_later(5))
    days = days_between(DAY, DAY + timedelta(days=5))
    planned = plan(agency, days)
    assert (planned.day, len(planned.calls)) == (days[-1], 4)
    assert [job.day for job in sync_jobs.list_jobs(agency.database)] == [days[-1]]


def test_a_range_of_the_past_plans_nothing_and_leaves_no_jobs_but_a_single_gap_does(
    agency: Agency,
) -> None:
    agency.connect("acme")
    agency.move_to(days_later(9))
    planned = plan(agency, days_between(DAY, DAY + timedelta(days=5)))
    assert planned.calls == ()
    assert sync_jobs.list_jobs(agency.database) == []
    plan(agency, [DAY])
    assert [job.day for job in sync_jobs.list_jobs(agency.database)] == [DAY]


def peak_bytes(work: Callable[[], None]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("by", ["backfill", "replay"])
def test_more_days_take_no_more_memory(sqlite_url: str, by: str) -> None:
    days = days_between(DAY - timedelta(days=9), DAY)
    with Database.open(sqlite_url) as database:
        businesses.add_business(database, business_id="acme", name="Acme", now=NOW)
        land_days(database, business_ids=["acme"], days=days, combos=[URL_DEVICE], pages=200)

        def work(day: date) -> DayReport:
            rebuilt = rebuild(database, day=day, now=ON_TIME, force=True)
            return report_metrics_day(database, day, rebuilt)

        def go_through(some: list[date]) -> None:
            if by == "backfill":
                for _ in work_through(some, work):
                    pass
            else:
                for day in some:
                    replay_day(database, day=day, business_ids=None, clock=lambda: ON_TIME)

        go_through(days[:1])
        few = peak_bytes(lambda: go_through(days[:2]))
        many = peak_bytes(lambda: go_through(days))
    # What one day needs is a good deal; that of eight more would show.
    assert few > 500_000
    assert many < few * 1.5
