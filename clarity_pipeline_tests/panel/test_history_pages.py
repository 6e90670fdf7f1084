"""The history page: every day a word, every sync a row."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from clarity_pipeline.domain.day_history import DayWord
from clarity_pipeline.domain.insight import CalendarDay
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.operations.rebuild_day import rebuild
from clarity_pipeline.panel.history_pages import by_month, months_back, since_first_expected
from clarity_pipeline.panel.wording import DAY_SIGNS, DAYS, STATUSES
from clarity_pipeline.store import businesses, sync_jobs
from clarity_pipeline_tests.agency import DAY, Agency, days_later
from clarity_pipeline_tests.landing import land_days
from clarity_pipeline_tests.panel.conftest import Panel
from clarity_pipeline_tests.panel.reading import Page

HISTORY = "/agency/businesses/acme/clarity/history"


def words_by_day(page: Page) -> dict[str, str]:
    return {each["data-day"]: each["data-word"] for each in page.with_attribute("data-day")}


def read(panel: Panel, query: str = "", login: str = "ada@agency.example") -> Page:
    reply = panel.agency_person(login).get(HISTORY + query)
    assert reply.status_code == 200
    return Page(reply.text)


def add_jobs(agency: Agency, count: int, *, status: JobStatus = JobStatus.SUCCEEDED) -> None:
    for number in range(count):
        (job_id,) = sync_jobs.start_jobs(
            agency.database,
            business_ids=["acme"],
            day=DAY,
            trigger=Trigger.MANUAL,
            dagster_run_id=f"{status.value} {number}",
            now=agency.now,
        ).values()
        sync_jobs.settle_job(
            agency.database,
            job_id=job_id,
            status=status,
            calls_used=4,
            rows_written=1234,
            combos={},
            error_code="timed_out" if status is JobStatus.FAILED else None,
            error_message="Clarity took too long." if status is JobStatus.FAILED else None,
            now=agency.now + timedelta(seconds=4.2),
        )


def test_the_calendar_gives_every_day_its_word_and_every_doubt_its_reason(panel: Panel) -> None:
    agency = panel.agency
    agency.connect("acme")
    landed = [DAY, DAY + timedelta(days=2)]
    land_days(agency.database, business_ids=["acme"], days=landed)
    agency.move_to(days_later(3))
    for day in landed:
        rebuild(agency.database, day=day, now=agency.now)
    page = read(panel)
    words = words_by_day(page)
    assert words["2026-11-01"] == words["2026-11-03"] == "complete"
    assert words["2026-11-02"] == "lost"
    reasons = page.text("telling-days")
    assert "Mon 2 Nov 2026 Gap" in reasons
    assert "No run was made while Clarity still answered for it." in reasons
    assert "Complete" not in reasons


def test_every_word_has_a_label_and_a_meaning_and_all_but_the_empty_day_a_sign_of_its_own() -> None:
    assert set(DAYS) == set(DayWord)
    assert all(words.label and words.meaning for words in DAYS.values())
    signs = [DAY_SIGNS[word] for word in DayWord if word is not DayWord.NOT_EXPECTED]
    assert all(signs)
    assert len(set(signs)) == len(signs)


def test_a_business_without_a_day_says_when_the_first_one_arrives(panel: Panel) -> None:
    agency = panel.agency
    businesses.add_business(agency.database, business_id="acme", name="acme", now=agency.now)
    assert "the first arrives with the first daily sync" in read(panel).text("calendar")


def test_syncs_say_what_they_cost_what_they_wrote_how_long_they_took_and_what_failed(
    panel: Panel,
) -> None:
    panel.agency.connect("acme")
    add_jobs(panel.agency, 1)
    add_jobs(panel.agency, 1, status=JobStatus.FAILED)
    said = read(panel).text("syncs")
    assert "By hand" in said
    assert "1,234" in said
    assert "4.2 s" in said
    assert "Clarity took too long." in said


@pytest.mark.parametrize("status", list(JobStatus))
def test_syncs_can_be_filtered_by_each_status(panel: Panel, status: JobStatus) -> None:
    panel.agency.connect("acme")
    add_jobs(panel.agency, 1, status=JobStatus.FAILED)
    page = read(panel, f"?status={status.value}")
    shown = [each["data-status"] for each in page.with_attribute("data-status")]
    assert shown == (["failed"] if status is JobStatus.FAILED else [])
    assert STATUSES[status].label in page.text("status-filter")


def test_older_syncs_are_a_link_away_and_the_filter_goes_along(panel: Panel) -> None:
    panel.agency.connect("acme")
    add_jobs(panel.agency, 53)
    add_jobs(panel.agency, 1, status=JobStatus.FAILED)
    browser = panel.agency_person()
    address = f"{HISTORY}?status=succeeded"
    seen: list[int] = []
    while address:
        page = Page(browser.get(address).text)
        seen.append(len(page.with_attribute("data-status")))
        address = page.attributes("older")["href"] if "older" in page else ""
    assert seen == [50, 3]


def test_a_client_reads_its_own_history(panel: Panel) -> None:
    panel.agency.connect("acme")
    panel.agency.connect("globex")
    add_jobs(panel.agency, 1)
    mine = Page(panel.client_of("acme").get("/client/clarity/history").text)
    others = Page(panel.client_of("globex").get("/client/clarity/history").text)
    assert len(mine.with_attribute("data-status")) == 1
    assert others.with_attribute("data-status") == []


def test_nonsense_in_the_address_is_an_error_and_no_crash(panel: Panel) -> None:
    panel.agency.connect("acme")
    browser = panel.agency_person()
    for query in ("status=odd", "before=0", "before=99999999999999999999", "months=1000"):
        assert browser.get(f"{HISTORY}?{query}").status_code == 422


@pytest.mark.parametrize(
    ("day", "count", "first"),
    [
        (date(2026, 11, 23), 1, date(2026, 11, 1)),
        (date(2026, 11, 23), 6, date(2026, 6, 1)),
        (date(2026, 1, 1), 2, date(2025, 12, 1)),
        (date(2026, 12, 31), 24, date(2025, 1, 1)),
    ],
)
def test_the_calendar_begins_with_a_whole_month(day: date, count: int, first: date) -> None:
    assert months_back(day, count=count) == first


def test_months_come_newest_first_and_begin_under_their_weekday() -> None:
    days = [
        CalendarDay(date(2026, 10, 31) + timedelta(days=n), DayWord.COMPLETE, None)
        for n in range(3)
    ]
    november, october = by_month(days)
    # The first of November 2026 is a Sunday.
    assert (november.blanks, len(november.days)) == (6, 2)
    assert (october.first, len(october.days)) == (date(2026, 10, 31), 1)


def test_months_before_the_first_day_that_was_expected_are_left_out() -> None:
    quiet = [
        CalendarDay(date(2026, 9, 1) + timedelta(days=n), DayWord.NOT_EXPECTED, None)
        for n in range(45)
    ]
    lost = CalendarDay(date(2026, 10, 16), DayWord.LOST, "why")
    assert since_first_expected([*quiet, lost])[0].day == date(2026, 10, 1)
    assert since_first_expected(quiet) == []
