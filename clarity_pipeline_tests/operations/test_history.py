"""The history of businesses as the store knows it, on both databases."""

from __future__ import annotations

from datetime import date, timedelta

from sqlalchemy import text

from clarity_pipeline.domain.day_history import DayHistory, DayWord
from clarity_pipeline.domain.days import days_between
from clarity_pipeline.domain.sync_jobs import Trigger
from clarity_pipeline.export_api.emulator import Fault
from clarity_pipeline.operations.history import (
    BUSINESSES_AT_ONCE,
    iter_histories,
    judge_latest_day,
    judge_recent_days,
)
from clarity_pipeline.operations.rebuild_day import rebuild
from clarity_pipeline.operations.replay_day import replay_day
from clarity_pipeline.store import businesses, connections
from clarity_pipeline_tests.agency import DAY, ON_TIME, Agency, days_later
from clarity_pipeline_tests.landing import land_days
from clarity_pipeline_tests.store.statements import counted_queries


def history(
    agency: Agency, business_id: str = "acme", *, recovery: bool = False
) -> list[DayHistory]:
    """From DAY to yesterday."""
    (found,) = iter_histories(
        agency.database,
        start=DAY,
        end=(agency.now - timedelta(days=1)).date(),
        now=agency.now,
        recovery=recovery,
        business_ids=[business_id],
    )
    return list(found.days)


def words(agency: Agency, business_id: str = "acme") -> list[str]:
    return [item.word.value for item in history(agency, business_id)]


def test_days_are_told_apart_by_what_happened_to_them(agency: Agency) -> None:
    project = agency.connect("acme")
    agency.sync()
    agency.move_to(days_later(1))
    agency.emulator.control.add_fault(Fault(dimension_set="Country,URL", drop=True, times=2))
    agency.sync()
    agency.move_to(days_later(2) + timedelta(hours=12))
    agency.sync()
    agency.move_to(days_later(3))
    agency.emulator.control.revoke_token(project.project_id)
    agency.sync()
    agency.move_to(days_later(5))

    complete, partial, shifted, lost, *_ = history(agency)
    assert complete.word is DayWord.COMPLETE
    assert partial.word is DayWord.PARTIAL
    assert partial.missing == ("Country,URL",)
    assert "Missing: URL + Country." in str(partial.reason)
    assert (shifted.word, shifted.reason) == (
        DayWord.SHIFTED,
        "Its 24 hours are off by +12.2 h.",
    )
    assert lost.word is DayWord.LOST
    assert "401" in str(lost.reason)


def test_a_day_without_a_run_is_pending_then_lost_and_recovery_keeps_it_in_reach(
    agency: Agency,
) -> None:
    agency.connect("acme")
    assert words(agency) == ["pending"]
    agency.move_to(days_later(1))
    assert words(agency) == ["lost", "pending"]
    assert [item.word.value for item in history(agency, recovery=True)] == ["pending", "pending"]


def test_a_run_that_came_too_late_does_not_hide_why_the_one_in_time_failed(
    agency: Agency,
) -> None:
    agency.connect("acme")
    agency.emulator.control.add_fault(Fault(status=503, times=None))
    agency.sync()
    agency.move_to(days_later(2))
    agency.sync(DAY, trigger=Trigger.MANUAL)
    replay_day(agency.database, day=DAY, business_ids=["acme"], clock=lambda: agency.now)
    assert history(agency)[0].word is DayWord.LOST
    assert "503" in str(history(agency)[0].reason)


def test_a_day_that_was_only_asked_for_too_late_says_so(agency: Agency) -> None:
    agency.connect("acme")
    agency.move_to(days_later(2))
    agency.sync(DAY, trigger=Trigger.MANUAL)
    assert history(agency)[0].reason == "It was asked for when Clarity no longer answered for it."


def test_a_paused_business_has_paused_days_even_after_it_is_switched_on_again(
    agency: Agency,
) -> None:
    agency.connect("acme")
    agency.connect("globex")
    agency.sync()
    agency.move_to(days_later(1) - timedelta(hours=1))
    connections.set_enabled(agency.database, business_id="acme", enabled=False, now=agency.now)
    agency.move_to(days_later(1))
    agency.sync()
    assert words(agency) == ["complete", "paused"]
    connections.set_enabled(agency.database, business_id="acme", enabled=True, now=agency.now)
    agency.move_to(days_later(2))
    agency.sync()
    assert words(agency) == ["complete", "paused", "complete"]
    assert words(agency, "globex") == ["complete"] * 3


def test_a_reply_that_landed_and_cannot_be_normalised_is_no_complete_day(agency: Agency) -> None:
    agency.connect("acme")
    land_days(agency.database, business_ids=["acme"], days=[DAY])
    assert words(agency) == ["partial"]
    rebuild(agency.database, day=DAY, now=agency.now)
    assert words(agency) == ["complete"]


def test_a_slice_made_of_two_longer_replies_is_derived(agency: Agency) -> None:
    agency.connect("acme")
    agency.sync()
    with agency.database.transaction() as connection:
        connection.execute(
            text(
                "UPDATE clarity_daily_slices SET subtracted_export_id = raw_export_id "
                "WHERE dimension_set = 'Country,URL'"
            )
        )
    (found,) = history(agency)
    assert (found.word, found.reason) == (
        DayWord.DERIVED,
        "Worked out from longer replies: URL + Country.",
    )


def test_the_signal_is_about_enabled_businesses_and_their_last_thirty_days(
    agency: Agency,
) -> None:
    agency.connect("acme")
    agency.connect("paused")
    connections.set_enabled(agency.database, business_id="paused", enabled=False, now=agency.now)
    lost = DAY + timedelta(days=1)
    days = [day for day in days_between(DAY, DAY + timedelta(days=31)) if day != lost]
    land_days(agency.database, business_ids=["acme"], days=days)
    for day in days:
        rebuild(agency.database, day=day, now=agency.now)

    def passes(later: int) -> bool:
        return judge_recent_days(agency.database, now=days_later(later), recovery=False).passed

    # The lost day could still be fetched until its day after was over, and is red for 30 days.
    assert [passes(later) for later in (0, 1, 2, 30, 31)] == [True, True, False, False, True]


def test_the_latest_day_is_due_at_one(agency: Agency) -> None:
    agency.connect("acme")
    one = ON_TIME.replace(hour=1, minute=0)
    early = judge_latest_day(agency.database, now=one - timedelta(seconds=1), recovery=False)
    assert early.passed
    late = judge_latest_day(agency.database, now=one, recovery=False)
    assert not late.passed
    assert "clarity sync --day 2026-11-01" in late.sentence
    agency.sync()
    assert judge_latest_day(agency.database, now=one, recovery=False).passed


def test_a_year_of_many_businesses_is_a_handful_of_queries(agency: Agency) -> None:
    ids = [f"business-{number:02d}" for number in range(BUSINESSES_AT_ONCE + 5)]
    for business_id in ids:
        businesses.add_business(
            agency.database, business_id=business_id, name="", now=ON_TIME - timedelta(days=400)
        )
    days = days_between(date(2026, 1, 1), date(2026, 12, 31))
    land_days(agency.database, business_ids=ids[:1], days=days)
    with counted_queries(agency.database) as queries:
        histories = list(
            iter_histories(
                agency.database, start=days[0], end=days[-1], now=days_later(70), recovery=False
            )
        )
    assert [len(item.days) for item in histories] == [365] * len(ids)
    assert {item.word for item in histories[0].days} == {DayWord.PARTIAL}
    assert len(queries) <= 10
