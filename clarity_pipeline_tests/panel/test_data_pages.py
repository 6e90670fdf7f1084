"""The data page and its files: what they say, what they do not say, and of whom."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta

import pytest
from starlette.testclient import TestClient

from clarity_pipeline.domain.aggregates import NO_VISITS
from clarity_pipeline.domain.dimensions import DEFAULT_COMBOS, URL_CAMPAIGN_CHANNEL
from clarity_pipeline.domain.metrics import AGGREGATE_METRICS
from clarity_pipeline.operations.rebuild_day import rebuild_business_aggregates
from clarity_pipeline.store import businesses, connections, daily_metrics
from clarity_pipeline_tests.domain.replies import Visits
from clarity_pipeline_tests.factories import DAY, NOW, connect_business, make_slice
from clarity_pipeline_tests.panel.conftest import Panel
from clarity_pipeline_tests.panel.reading import Page
from clarity_pipeline_tests.stored_days import store_day, store_pages, sums

ACME = "/agency/businesses/acme/clarity/data"
SCRIPT = "https://shop.example/<script>alert(1)</script>"
ATTRIBUTE = 'https://shop.example/?q="onload="alert(1)'


@pytest.fixture
def acme(panel: Panel) -> TestClient:
    """The agency's browser, in a panel whose one business has been connected for a year."""
    connect_business(panel.agency.database, panel.agency.vault, now=NOW - timedelta(days=365))
    return panel.agency_person()


def look(browser: TestClient, address: str = ACME) -> Page:
    reply = browser.get(address)
    assert reply.status_code == 200, reply.text
    return Page(reply.text)


def rows_of(browser: TestClient, address: str) -> list[dict[str, str]]:
    reply = browser.get(address)
    assert reply.status_code == 200, reply.text
    assert reply.content.startswith("\ufeff".encode())
    return list(csv.DictReader(io.StringIO(reply.content.decode("utf-8-sig"), newline="")))


def drawing(found: Page) -> dict[str, list[object]]:
    (canvas,) = found.with_attribute("data-chart")
    return json.loads(canvas["data-chart"])


def complete_day(panel: Panel, *, back: int = 0) -> None:
    """A day of which everything is there."""
    slices = [
        make_slice(
            panel.agency.database,
            Visits(("https://a/", "x", "y")[: len(combo.dimensions)]),
            combo=combo,
            day=DAY - timedelta(days=back),
        )
        for combo in DEFAULT_COMBOS
    ]
    daily_metrics.replace_slices(panel.agency.database, slices, now=NOW)


def store_campaigns(panel: Panel, *visits: Visits) -> None:
    """The day by campaign and channel."""
    database = panel.agency.database
    of_day = make_slice(database, *visits, combo=URL_CAMPAIGN_CHANNEL)
    daily_metrics.replace_slices(database, [of_day], now=NOW)
    rebuild_business_aggregates(database, day=DAY, now=NOW)


# The ten values


def test_every_value_is_a_tile_with_its_unit_and_its_change(panel: Panel, acme: TestClient) -> None:
    database = panel.agency.database
    store_day(database, DAY - timedelta(days=7), sums(rage_clicks=4))
    store_day(database, DAY, sums())
    found = look(acme, f"{ACME}?days=7")
    assert [each["data-metric"] for each in found.with_attribute("data-metric")] != []
    assert {each["data-metric"] for each in found.with_attribute("data-metric")} == set(
        AGGREGATE_METRICS
    )
    assert found.text("tile-clarity_sessions") == "Page sessions 10 \N{RIGHTWARDS ARROW} as before"
    assert found.text("tile-clarity_rage_clicks") == (
        "Rage clicks 5 \N{UPWARDS ARROW} 25 % more, worse"
    )
    assert found.text("tile-clarity_rage_click_rate") == (
        "Rage click rate 50.0 per 100 sessions \N{UPWARDS ARROW} 25 % higher, worse"
    )
    assert found.text("tile-clarity_dead_clicks").startswith("Dead clicks \N{EN DASH} not known")
    assert found.text("tile-clarity_scroll_depth").startswith("Scroll depth 50.0 % of the page")
    assert found.text("tile-clarity_engagement_time_ms").startswith("Engagement 30 s per session")
    assert found.text("coverage") == "1 of 7 days have data"


def test_fewer_dead_clicks_are_better_and_less_engagement_is_worse(
    panel: Panel, acme: TestClient
) -> None:
    database = panel.agency.database
    for day, dead, time in ((DAY - timedelta(days=7), 8, 1_300_000), (DAY, 2, 650_000)):
        of_day = sums(dead_clicks=dead, dead_click_sessions=10, engagement_time_ms_sum=time)
        store_day(database, day, of_day)
    found = look(acme, f"{ACME}?days=7")
    assert found.text("tile-clarity_dead_clicks").endswith("75 % fewer, better")
    assert found.text("tile-clarity_engagement_time_ms") == (
        "Engagement 1 min 5 s per session \N{DOWNWARDS ARROW} 50 % shorter, worse"
    )


def test_what_the_numbers_do_not_cover_is_said_in_sentences(panel: Panel, acme: TestClient) -> None:
    store_day(panel.agency.database, DAY, sums(), truncated=True)
    notes = look(acme).text("notes")
    assert "a visit to three pages counts three times" in notes
    assert "cut its answer at 1,000 rows" in notes
    assert "not counted as zero" in notes

    store_day(panel.agency.database, DAY, sums(), session_basis="sessions")
    notes = look(acme, f"{ACME}?days=1").text("notes")
    assert notes == "Sessions are whole visits, however many pages they saw."


# Day by day


def test_a_gap_is_a_gap_in_the_chart_and_says_why(panel: Panel, acme: TestClient) -> None:
    for back in (0, 2):
        complete_day(panel, back=back)
        store_day(panel.agency.database, DAY - timedelta(days=back), sums())
    found = look(acme, f"{ACME}?days=7&metric=clarity_rage_clicks")
    drawn = drawing(found)
    assert drawn["values"] == [None] * 4 + [5, None, 5]
    assert drawn["doubtful"] == [False] * 4 + [True, False, False]
    assert "Shifted. Its 24 hours are off by +48.2 h." in str(drawn["notes"][4])
    assert str(drawn["notes"][5]).startswith("Gap. No run was made")
    assert drawn["notes"][6] == ""
    (canvas,) = found.with_attribute("data-chart")
    assert canvas["role"] == "img"
    assert "No data on 5 of 7 days." in canvas["aria-label"]
    assert "Gap. No run was made" in found.text("chart-table")


def test_a_day_without_visits_is_a_zero_and_no_gap(panel: Panel, acme: TestClient) -> None:
    complete_day(panel)
    store_day(panel.agency.database, DAY, NO_VISITS)
    found = look(acme, f"{ACME}?days=7&metric=clarity_rage_clicks")
    assert drawing(found)["values"][-1] == 0
    assert "0 Complete" in found.text("chart-table")
    rate = look(acme, f"{ACME}?days=7&metric=clarity_rage_click_rate")
    assert drawing(rate)["values"][-1] is None
    assert "Clarity sent nothing to work it out from" in rate.text("chart-table")


def test_a_day_that_is_not_complete_is_marked(panel: Panel, acme: TestClient) -> None:
    one_slice = make_slice(panel.agency.database, Visits(("https://a/", "PC")))
    daily_metrics.replace_slices(panel.agency.database, [one_slice], now=NOW)
    store_day(panel.agency.database, DAY, sums())
    drawn = drawing(look(acme))
    assert drawn["doubtful"][-1] is True
    assert "Partial. Missing:" in str(drawn["notes"][-1])


@pytest.mark.parametrize("metric", AGGREGATE_METRICS)
def test_each_value_has_its_chart_and_table(panel: Panel, acme: TestClient, metric: str) -> None:
    store_day(panel.agency.database, DAY, sums(dead_clicks=3, dead_click_sessions=10))
    found = look(acme, f"{ACME}?metric={metric}")
    assert found.attributes(f"tile-{metric}")["aria-current"] == "true"
    assert drawing(found)["values"][-1] is not None


# Pages and groups


def test_pages_are_ranked_as_chosen_and_choices_are_kept(panel: Panel, acme: TestClient) -> None:
    store_day(panel.agency.database, DAY, sums())
    store_pages(
        panel.agency.database,
        DAY,
        {
            "https://shop.example/often": sums(rage_clicks=30, rage_click_sessions=300),
            "https://shop.example/likely": sums(rage_clicks=12, rage_click_sessions=20),
            "https://shop.example/one-visitor": sums(rage_clicks=9, rage_click_sessions=1),
        },
    )

    def order(query: str) -> list[str]:
        return [
            each["title"].rpartition("/")[2]
            for each in look(acme, ACME + query).with_attribute("title")
        ]

    assert order("?days=7") == ["often", "likely", "one-visitor"]
    assert order("?days=7&ranking=rate") == ["likely", "often"]
    assert order("?days=7&ranking=rate&min_sessions=0") == ["one-visitor", "likely", "often"]
    assert order("?days=7&min_sessions=100") == ["often"]
    found = look(acme, f"{ACME}?days=7&min_sessions=1000&until={DAY}")
    assert "No page with rage clicks has 1,000 sessions" in found.text("pages-shown")
    link = found.attributes("ranking-rate")["href"]
    assert link == f"{ACME}?days=7&until={DAY}&ranking=rate&min_sessions=1000#pages"
    assert look(acme, link).attributes("ranking-rate")["aria-current"] == "true"


def test_groups_without_a_name_and_the_others_are_named_by_us(
    panel: Panel, acme: TestClient
) -> None:
    visits = [
        Visits(("https://a/", campaign, "Direct"), sessions=sessions)
        for campaign, sessions in (
            (None, 90),
            ("", 80),
            *((f"c{number}", number + 1) for number in range(12)),
        )
    ]
    store_campaigns(panel, *visits)
    store_day(panel.agency.database, DAY, sums())
    table = look(acme, f"{ACME}?split=campaign").text("breakdown-table")
    assert "(none) 90" in table
    assert "(unknown) 80" in table
    assert "4 others 10" in table
    rows = rows_of(acme, f"{ACME}/breakdown.csv?split=campaign")
    assert [row["campaign"] for row in rows][:3] == ["(none)", "(unknown)", "c11"]
    assert len(rows) == 14


# Files


def test_the_file_of_days_has_every_day_and_the_names_of_the_metrics(
    panel: Panel, acme: TestClient
) -> None:
    complete_day(panel)
    store_day(panel.agency.database, DAY, sums())
    rows = rows_of(acme, f"{ACME}/series.csv?days=7")
    assert list(rows[0])[: 1 + len(AGGREGATE_METRICS)] == ["day", *AGGREGATE_METRICS]
    assert [row["day"] for row in rows][-2:] == ["2026-10-31", "2026-11-01"]
    assert (rows[-2]["clarity_rage_clicks"], rows[-2]["word"]) == ("", "lost")
    assert (rows[-1]["clarity_rage_clicks"], rows[-1]["word"]) == ("5", "complete")
    assert rows[-1]["clarity_rage_click_rate"] == "0.5"
    assert rows[-1]["has_data"] == "true"
    disposition = acme.get(f"{ACME}/series.csv?days=7").headers["content-disposition"]
    assert disposition == 'attachment; filename="clarity-acme-days-2026-10-26-2026-11-01.csv"'


def test_the_file_of_pages_has_more_than_the_page_shows(panel: Panel, acme: TestClient) -> None:
    store_day(panel.agency.database, DAY, sums())
    pages = {f"https://a/{number}": sums(rage_clicks=number + 1) for number in range(25)}
    store_pages(panel.agency.database, DAY, pages | {"=cmd()": sums(rage_clicks=99)})
    assert look(acme).text("pages-shown").startswith("20 of 26 pages with rage clicks")
    rows = rows_of(acme, f"{ACME}/pages.csv")
    assert len(rows) == 26
    assert rows[0]["url"] == "'=cmd()"
    assert rows[1]["clarity_rage_clicks"] == "25"


# Nothing to show


def test_a_business_that_was_never_connected_is_told_to_connect(panel: Panel) -> None:
    businesses.add_business(panel.agency.database, business_id="acme", name="Acme", now=NOW)
    found = look(panel.agency_person())
    assert "Connect Clarity to see data" in found.text("nothing")
    assert found.attributes("connect-first")["href"] == "/agency/businesses/acme/clarity"


def test_a_business_that_has_just_been_connected_is_told_when_the_first_day_comes(
    panel: Panel, acme: TestClient
) -> None:
    assert "the next run is at 2026-11-03 00:15 UTC" in look(acme).text("nothing")


def test_a_window_without_data_leads_to_the_newest_that_has_some(
    panel: Panel, acme: TestClient
) -> None:
    store_day(panel.agency.database, DAY - timedelta(days=60), sums())
    connections.disconnect(panel.agency.database, business_id="acme", now=NOW)
    found = look(acme, f"{ACME}?days=7")
    assert "The latest day with data is Wed 2 Sep 2026" in found.text("nothing")
    there = look(acme, found.attributes("show-newest")["href"])
    assert there.text("coverage") == "1 of 7 days have data"


def test_a_window_before_the_first_day_says_so(panel: Panel, acme: TestClient) -> None:
    store_day(panel.agency.database, DAY, sums())
    found = look(acme, f"{ACME}?until=2025-01-01")
    assert "It was before the business was connected." in found.text("nothing")


@pytest.mark.parametrize(
    "query",
    [
        "until=2026-11-02",
        "until=9999-12-31",
        "until=0001-01-01",
        "days=0",
        "days=9999",
        "by=x",
        "metric=sessions",
        "min_sessions=-1",
    ],
)
def test_what_cannot_be_shown_is_refused(acme: TestClient, query: str) -> None:
    for address in ("", "/series.csv", "/pages.csv", "/breakdown.csv"):
        assert acme.get(f"{ACME}{address}?{query}").status_code == 422


def test_windows_lead_to_those_before_and_after(panel: Panel, acme: TestClient) -> None:
    for back in range(20):
        store_day(panel.agency.database, DAY - timedelta(days=back), sums())
    found = look(acme, f"{ACME}?days=7")
    assert "later" not in found
    earlier = look(acme, found.attributes("earlier")["href"])
    assert earlier.text("period").startswith("Mon 19 Oct 2026 \N{EN DASH} Sun 25 Oct 2026")
    assert earlier.attributes("later")["href"] == f"{ACME}?days=7"


# Strangers


def test_names_that_strangers_made_up_do_nothing(panel: Panel, acme: TestClient) -> None:
    database = panel.agency.database
    store_day(database, DAY, sums())
    pages = {url: sums() for url in (SCRIPT, ATTRIBUTE, "javascript:alert(1)", "https://[bad/")}
    store_pages(database, DAY, pages)
    campaigns = [
        Visits(("https://a/", name, "Direct"))
        for name in ("<script>alert(2)</script>", '"onload="x')
    ]
    store_campaigns(panel, *campaigns)
    reply = acme.get(f"{ACME}?split=campaign")
    found = Page(reply.text)
    assert "<script>alert" not in reply.text
    assert found.with_attribute("onload") == []
    assert "alert(1)" in found.text("pages-table")
    assert "<script>alert(2)</script>" in found.text("breakdown-table")
    addresses = [each["href"] for each in found.with_attribute("href")]
    assert not any(address.startswith("javascript:") for address in addresses)
    assert SCRIPT in addresses


def test_a_client_sees_its_own_data_whatever_it_asks_for(panel: Panel, acme: TestClient) -> None:
    database = panel.agency.database
    connect_business(database, panel.agency.vault, business_id="globex", project_id="globex0001")
    store_day(database, DAY, sums(rage_clicks=123))
    store_day(database, DAY, sums(rage_clicks=987), business_id="globex")
    client = panel.client_of("globex")
    own = client.get("/client/clarity/data?metric=clarity_rage_clicks&business_id=acme")
    assert "987" in own.text
    assert "123" not in Page(own.text).text("tile-clarity_rage_clicks")
    assert "/agency" not in own.text
    (*_, last) = rows_of(client, "/client/clarity/data/series.csv?business_id=acme")
    assert last["clarity_rage_clicks"] == "987"
    for address in ("", "/series.csv", "/pages.csv", "/breakdown.csv"):
        there = client.get(f"{ACME}{address}")
        nowhere = client.get(f"/agency/businesses/none/clarity/data{address}")
        assert there.status_code == nowhere.status_code == 403
        assert there.text == nowhere.text
        assert panel.anybody().get(f"{ACME}{address}").status_code == 303
