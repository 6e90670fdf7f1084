"""Sums of whole weeks of pages are a short cut: with them a window says what its days say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from clarity_pipeline.domain.aggregates import UrlDay
from clarity_pipeline.domain.days import week_of
from clarity_pipeline.domain.insight import EventSums, PageEvent, Window
from clarity_pipeline.store import aggregates, businesses, purge, window_sums
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import url_aggregates, url_week_aggregates
from clarity_pipeline_tests.factories import DAY, NOW
from clarity_pipeline_tests.stored_days import sums

LAST_MONDAY = week_of(DAY)
"""DAY is the Sunday that ends it."""

SPAN = Window(DAY - timedelta(days=24), DAY + timedelta(days=3))


@pytest.fixture
def acme(database: Database) -> Database:
    for business_id in ("acme", "globex"):
        businesses.add_business(database, business_id=business_id, name=business_id, now=NOW)
    return database


def morning_after(day: date) -> datetime:
    return datetime.combine(day + timedelta(days=1), time(0, 15), tzinfo=UTC)


def store_pages(
    database: Database,
    day: date,
    rage_clicks: Sequence[int | None],
    *,
    business_id: str = "acme",
    now: datetime | None = None,
) -> None:
    """Page after page; one whose events are unknown has no sessions that know them."""
    aggregates.replace_url_days(
        database,
        business_id=business_id,
        day=day,
        url_days=[
            UrlDay(
                url=f"https://a/{number}",
                sums=sums(rage_clicks=count, rage_click_sessions=0 if count is None else 10),
            )
            for number, count in enumerate(rage_clicks)
        ],
        truncated=False,
        built_from="reply",
        now=now or morning_after(day),
    )


def summed(database: Database) -> set[date]:
    with database.reading() as connection:
        return set(connection.scalars(select(url_week_aggregates.c.week)))


def of_window(database: Database, window: Window) -> dict[str, EventSums]:
    return window_sums.sum_page_events(
        database, business_id="acme", window=window, by=PageEvent.RAGE
    )


def of_days(database: Database, window: Window) -> dict[str, EventSums]:
    """The same from the days alone, one by one."""
    events: Counter[str] = Counter()
    sessions: Counter[str] = Counter()
    with database.reading() as connection:
        for row in connection.execute(
            select(url_aggregates).where(
                url_aggregates.c.business_id == "acme",
                url_aggregates.c.date.between(window.start, window.end),
            )
        ):
            events[row.url_hash] += row.rage_clicks or 0
            sessions[row.url_hash] += row.rage_click_sessions
    return {page: EventSums(count, sessions[page]) for page, count in events.items() if count > 0}


def test_a_week_is_summed_up_with_its_last_day_and_not_before(acme: Database) -> None:
    for back in range(6, 0, -1):
        store_pages(acme, DAY - timedelta(days=back), [1])
    assert summed(acme) == set()
    store_pages(acme, DAY, [1, 5])
    assert summed(acme) == {LAST_MONDAY}
    (one, other) = of_window(acme, Window(LAST_MONDAY, DAY)).values()
    assert {one, other} == {EventSums(7, 70), EventSums(5, 10)}


def test_a_day_that_comes_late_is_in_the_sums_of_its_week(acme: Database) -> None:
    store_pages(acme, DAY, [1])
    store_pages(acme, DAY - timedelta(days=3), [2], now=NOW)
    (page,) = of_window(acme, Window(LAST_MONDAY, DAY)).values()
    assert page == EventSums(3, 20)


def test_a_clock_that_was_set_back_leaves_no_sums_of_other_days(acme: Database) -> None:
    store_pages(acme, DAY, [1])
    store_pages(acme, DAY - timedelta(days=3), [2], now=NOW - timedelta(days=2))
    (page,) = of_window(acme, Window(LAST_MONDAY, DAY)).values()
    assert page == EventSums(3, 20)


def test_a_day_that_was_deleted_is_not_in_the_sums_of_its_week(acme: Database) -> None:
    store_pages(acme, DAY - timedelta(days=3), [2])
    store_pages(acme, DAY, [1])
    deleted = purge.delete_day(acme, business_id="acme", day=DAY - timedelta(days=3))
    assert deleted["clarity_url_week_aggregates"] == 1
    (page,) = of_window(acme, Window(LAST_MONDAY, DAY)).values()
    assert page == EventSums(1, 10)


@dataclass(frozen=True)
class Write:
    """Pages of a day, or None to delete the day."""

    day: date
    rage_clicks: list[int | None] | None
    late_by: timedelta


writes = st.builds(
    Write,
    day=st.sampled_from(SPAN.days()),
    rage_clicks=st.none() | st.lists(st.none() | st.integers(0, 3), min_size=1, max_size=3),
    late_by=st.integers(0, 9).map(lambda days: timedelta(days=days)),
)
windows = st.tuples(st.sampled_from(SPAN.days()), st.sampled_from(SPAN.days())).map(
    lambda ends: Window(min(ends), max(ends))
)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(writes, max_size=12), st.lists(windows, min_size=1, max_size=4))
def test_windows_say_what_their_days_say_whatever_was_written_replaced_or_deleted(
    acme: Database, history: list[Write], looked_at: list[Window]
) -> None:
    """Each example goes on from what the one before has left."""
    for write in history:
        if write.rage_clicks is None:
            purge.delete_day(acme, business_id="acme", day=write.day)
        else:
            store_pages(
                acme,
                write.day,
                write.rage_clicks,
                now=morning_after(write.day) + write.late_by,
            )
    store_pages(acme, DAY, [9, 9], business_id="globex")
    for window in (SPAN, *looked_at):
        assert of_window(acme, window) == of_days(acme, window)
