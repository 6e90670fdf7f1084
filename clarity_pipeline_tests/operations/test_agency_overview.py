"""The list of all businesses: sorted, filtered and cut by the server, on both databases."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from clarity_pipeline.domain.agency_overview import AgencyOverview, OverviewSort
from clarity_pipeline.domain.aggregates import BusinessDay
from clarity_pipeline.domain.connections import ConnectionState
from clarity_pipeline.domain.errors import InvalidRequest
from clarity_pipeline.domain.quota import CallOutcome, Purpose
from clarity_pipeline.export_api.emulator import Fault
from clarity_pipeline.operations.agency_overview import agency_overview
from clarity_pipeline.operations.connection_status import connection_statuses
from clarity_pipeline.store import aggregates, businesses, connections, quota_ledger
from clarity_pipeline.store.quota_ledger import Reservation
from clarity_pipeline_tests.agency import DAY, Agency, days_later
from clarity_pipeline_tests.operations.test_insight import sums
from clarity_pipeline_tests.store.statements import counted_queries


def overview(agency: Agency, **options: Any) -> AgencyOverview:
    return agency_overview(agency.database, now=agency.now, overview_default=False, **options)


def ids(found: AgencyOverview) -> list[str]:
    return [row.business_id for row in found.rows]


def store_day(agency: Agency, business_id: str, *, back: int = 0, **of_day: Any) -> None:
    aggregates.replace_business_day(
        agency.database,
        business_day=BusinessDay(
            business_id=business_id,
            day=DAY - timedelta(days=back),
            session_basis="page_sessions",
            truncated=False,
            built_from="reply:1",
            sums=sums(**of_day),
        ),
        now=agency.now,
    )


def test_states_are_those_of_the_connections_one_by_one(agency: Agency) -> None:
    for business_id in ("acme", "bolt", "limited", "paused", "refused"):
        agency.connect(business_id)
    businesses.add_business(agency.database, business_id="new", name="New", now=agency.now)
    connections.set_enabled(agency.database, business_id="paused", enabled=False, now=agency.now)
    agency.emulator.control.add_fault(
        Fault(
            project_id=agency.projects["bolt"].project_id,
            dimension_set="Country,URL",
            status=400,
            times=None,
        )
    )
    agency.emulator.control.revoke_token(agency.projects["refused"].project_id)
    taken = quota_ledger.reserve(
        agency.database,
        project_id=agency.projects["limited"].project_id,
        business_id="limited",
        purpose=Purpose.TEST,
        day=DAY,
        dimension_set="OS",
        may_use_share=True,
        now=agency.now,
    )
    assert isinstance(taken, Reservation)
    quota_ledger.settle(agency.database, taken, outcome=CallOutcome.RATE_LIMITED, now=agency.now)
    agency.sync()
    agency.connect("waiting")

    for now in (agency.now, days_later(0) + timedelta(hours=3), days_later(1)):
        agency.move_to(now)
        statuses = connection_statuses(agency.database, now=agency.now, overview_default=False)
        found = overview(agency, sort=OverviewSort.NAME)
        assert {row.business_id: row.state for row in found.rows} == {
            status.record.business_id: status.state for status in statuses
        }
        for row, status in zip(
            sorted(found.rows, key=lambda row: row.business_id), statuses, strict=True
        ):
            quota = status.quota
            expected = quota and (quota.used, quota.kept, quota.free, quota.rate_limited)
            shown = (row.quota_used, row.quota_kept, row.quota_free, row.rate_limited)
            assert shown == (expected or (None, None, None, False))
    assert len(set(found.state_counts)) > 1
    assert sum(found.state_counts.values()) == found.total == 7


def test_a_row_has_its_rate_its_series_its_sessions_and_its_latest_day(agency: Agency) -> None:
    agency.connect("acme")
    store_day(agency, "acme", back=1, sessions=10, rage_clicks=1, rage_click_sessions=10)
    store_day(agency, "acme", back=3, sessions=30, rage_clicks=7, rage_click_sessions=30)
    store_day(agency, "acme", back=7, sessions=60, rage_clicks=0, rage_click_sessions=60)
    store_day(agency, "acme", back=30, sessions=900, rage_clicks=900)
    store_day(
        agency,
        "acme",
        **dict.fromkeys(
            ("sessions", "rage_clicks", "dead_clicks", "excessive_scroll", "quick_backs")
        ),
        scroll_depth_page_views=0.0,
        engagement_sessions=0,
        rage_click_sessions=0,
    )
    (row,) = overview(agency).rows
    assert row.rage_click_rate == 8 / 100
    assert row.rage_click_rates[-8:] == (0.0, None, None, None, 7 / 30, None, 0.1, None)
    assert len(row.rage_click_rates) == 30
    assert row.sessions == 40
    assert row.latest_day == DAY - timedelta(days=1)


def test_businesses_of_which_the_key_is_unknown_come_last_in_both_directions(
    agency: Agency,
) -> None:
    for business_id in ("acme", "bolt", "cove"):
        agency.connect(business_id)
    agency.sync()
    businesses.add_business(agency.database, business_id="aaa", name="Aaa", now=agency.now)
    store_day(agency, "acme", rage_clicks=1, rage_click_sessions=10, sessions=50)
    store_day(agency, "bolt", rage_clicks=3, rage_click_sessions=10, sessions=20)
    store_day(agency, "cove", rage_clicks=2, rage_click_sessions=10, sessions=90)

    def both_ways(sort: OverviewSort) -> tuple[list[str], list[str]]:
        return ids(overview(agency, sort=sort)), ids(overview(agency, sort=sort, descending=True))

    for sort in set(OverviewSort) - {OverviewSort.NAME, OverviewSort.STATE}:
        up, down = both_ways(sort)
        assert up[-1] == down[-1] == "aaa", sort
    assert both_ways(OverviewSort.RAGE_CLICK_RATE) == (
        ["acme", "cove", "bolt", "aaa"],
        ["bolt", "cove", "acme", "aaa"],
    )
    assert both_ways(OverviewSort.SESSIONS)[1] == ["cove", "acme", "bolt", "aaa"]
    assert both_ways(OverviewSort.NAME)[1] == ["cove", "bolt", "acme", "aaa"]
    assert both_ways(OverviewSort.STATE)[0] == ["aaa", "acme", "bolt", "cove"]


def test_a_search_a_state_and_a_page_leave_what_they_should(agency: Agency) -> None:
    for business_id in ("acme", "bolt", "bolero"):
        agency.connect(business_id)
    connections.set_enabled(agency.database, business_id="bolt", enabled=False, now=agency.now)

    found = overview(agency, search=" BOL", sort=OverviewSort.NAME)
    assert ids(found) == ["bolero", "bolt"]
    assert (found.total, found.matching) == (3, 2)
    paused = overview(agency, search="bol", states=[ConnectionState.PAUSED])
    assert ids(paused) == ["bolt"]
    assert (paused.matching, sum(paused.state_counts.values())) == (1, 2)
    assert ids(overview(agency, sort=OverviewSort.NAME, offset=1, limit=1)) == ["bolero"]
    assert ids(overview(agency, offset=9)) == []
    assert ids(overview(agency, search="nobody")) == []


def test_the_questions_to_the_store_are_as_many_for_one_as_for_ten(agency: Agency) -> None:
    agency.connect("acme")
    store_day(agency, "acme")
    with counted_queries(agency.database) as of_one:
        overview(agency, sort=OverviewSort.RAGE_CLICK_RATE)
    for number in range(9):
        agency.connect(f"more-{number}")
    with counted_queries(agency.database) as of_ten:
        overview(agency, sort=OverviewSort.RAGE_CLICK_RATE)
    assert len(of_ten) == len(of_one)


def test_a_page_of_nothing_is_refused(agency: Agency) -> None:
    with pytest.raises(InvalidRequest):
        overview(agency, limit=0)
    with pytest.raises(InvalidRequest):
        overview(agency, offset=-1)
