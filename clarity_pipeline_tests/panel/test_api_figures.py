"""What was collected of a business through the API, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from clarity_pipeline.domain.metrics import AGGREGATE_METRICS
from clarity_pipeline.panel.api_tables import MOST_DAYS
from clarity_pipeline.store import connections
from clarity_pipeline.store.aggregates import get_business_behavioral_aggregates
from clarity_pipeline_tests.agency import DAY
from clarity_pipeline_tests.panel.conftest import Panel

BASES = {"agency": "/api/agency/businesses/acme/clarity", "client": "/api/client/clarity"}
WINDOW = {"from": str(DAY - timedelta(days=2)), "to": str(DAY)}


class Figures:
    """The figures of a business whose latest day is in, as one audience reaches them."""

    def __init__(self, program: TestClient, base: str) -> None:
        self._program, self._base = program, base

    def get(self, path: str, **query: str | int) -> Response:
        return self._program.get(self._base + path, params={**WINDOW, **query})

    def get_accepting(self, accept: str, path: str, **query: str) -> Response:
        headers = {"accept": accept}
        return self._program.get(self._base + path, params={**WINDOW, **query}, headers=headers)

    def told(self, path: str, **query: str | int) -> Any:
        reply = self.get(path, **query)
        assert reply.status_code == 200, reply.text
        return json.loads(reply.text, parse_constant=pytest.fail)

    def table(self, path: str, **query: str | int) -> list[dict[str, str]]:
        reply = self.get(path, format="csv", **query)
        assert reply.headers["content-type"] == "text/csv; charset=utf-8"
        return list(csv.DictReader(io.StringIO(reply.text, newline="")))


@pytest.fixture(params=["agency", "client"])
def figures(panel: Panel, request: pytest.FixtureRequest) -> Figures:
    panel.agency.connect("acme", sessions_per_day=40)
    program = panel.key(business_id=None if request.param == "agency" else "acme")
    reply = program.post(f"{BASES[request.param]}/test", json={})
    assert reply.json()["verdict"] == "accepted"
    return Figures(program, BASES[request.param])


def test_aggregates_are_what_the_rules_are_given(figures: Figures, panel: Panel) -> None:
    told = figures.told("/aggregates")
    given = get_business_behavioral_aggregates(
        "acme", DAY - timedelta(days=2), DAY, database=panel.agency.database
    )
    [row] = told["aggregates"]
    assert {name: row[name] for name in AGGREGATE_METRICS} == given.metrics()
    assert (row["url"], row["days_in_window"], row["days_with_data"]) == (None, 3, 1)
    assert (row["last_date"], told["window"]) == (
        str(DAY),
        {"start": str(DAY - timedelta(days=2)), "end": str(DAY)},
    )
    pages = figures.told("/aggregates", by="url")["aggregates"]
    assert len(pages) > 1
    assert all(page["url"].startswith("http") for page in pages)
    assert [page["url"] for page in figures.table("/aggregates", by="url")] == [
        page["url"] for page in pages
    ]


def test_aggregates_are_unknown_while_the_sync_is_off_and_the_series_is_not(
    figures: Figures, panel: Panel
) -> None:
    connections.set_enabled(
        panel.agency.database, business_id="acme", enabled=False, now=panel.agency.now
    )
    [row] = figures.told("/aggregates")["aggregates"]
    assert all(row[name] is None for name in AGGREGATE_METRICS)
    assert figures.told("/aggregates", by="url")["aggregates"] == []
    assert figures.told("/series")["values"]["clarity_sessions"] > 0


def test_the_series_has_every_day_and_its_gaps_are_empty(figures: Figures) -> None:
    told = figures.told("/series")
    assert [day["has_data"] for day in told["days"]] == [False, False, True]
    assert told["days"][0]["clarity_sessions"] is None
    assert told["days"][2]["clarity_sessions"] == told["values"]["clarity_sessions"]
    assert set(told["changes"]) == set(AGGREGATE_METRICS)
    table = figures.table("/series")
    assert [row["day"] for row in table] == [day["day"] for day in told["days"]]
    assert [row["clarity_sessions"] for row in table][:2] == ["", ""]
    assert [row["has_data"] for row in table] == ["false", "false", "true"]


def test_the_worst_pages_come_first(figures: Figures) -> None:
    told = figures.told("/pages", by="dead", limit=3)
    counts = [page["clarity_dead_clicks"] for page in told["pages"]]
    assert counts == sorted(counts, reverse=True)
    assert 0 < len(counts) <= 3
    assert [row["url"] for row in figures.table("/pages", by="dead", limit=3)] == [
        page["url"] for page in told["pages"]
    ]


def test_a_breakdown_is_by_what_is_asked_for(figures: Figures) -> None:
    told = figures.told("/breakdown", by="device")
    assert {group["group"] for group in told["groups"]} <= {"Mobile", "PC", "Tablet", "Other"}
    assert told["days_with_data"] == 1
    assert [row["by"] for row in figures.table("/breakdown", by="device")] == ["device"] * len(
        told["groups"]
    )
    assert figures.told("/breakdown", by="country")["groups"] == []
    assert figures.get("/breakdown").status_code == 422


def test_the_calendar_has_a_word_for_every_day(figures: Figures) -> None:
    told = figures.told("/days")
    assert [day["word"] for day in told["days"]][:2] == ["not_expected"] * 2
    assert [row["word"] for row in figures.table("/days")] == [day["word"] for day in told["days"]]


def test_csv_is_a_file_and_can_be_asked_for_by_header(figures: Figures) -> None:
    reply = figures.get_accepting("text/csv;q=1.0, application/json", "/days")
    assert reply.headers["content-type"].startswith("text/csv")
    assert reply.headers["content-disposition"] == (
        f'attachment; filename="acme-days-{DAY - timedelta(days=2)}-{DAY}.csv"'
    )
    for accept in ("*/*", "application/json, text/csv", ""):
        assert figures.get_accepting(accept, "/days").json()["days"]
    assert figures.get_accepting("text/csv", "/days", format="json").json()["days"]


def test_without_a_window_it_is_the_latest_thirty_days(panel: Panel) -> None:
    panel.agency.connect("acme")
    program = panel.key(business_id="acme")
    days = program.get(f"{BASES['client']}/days").json()["days"]
    assert [days[0]["day"], days[-1]["day"]] == [str(DAY - timedelta(days=29)), str(DAY)]
    until = program.get(f"{BASES['client']}/days", params={"to": "2026-10-31"}).json()
    assert until["window"] == {"start": "2026-10-02", "end": "2026-10-31"}
    longest = {"from": str(DAY - timedelta(days=MOST_DAYS - 1))}
    assert len(program.get(f"{BASES['client']}/days", params=longest).json()["days"]) == MOST_DAYS


BAD_WINDOWS: tuple[tuple[dict[str, str], str], ...] = (
    ({"from": "2026-11-01", "to": "2026-10-31"}, "invalid_day"),
    ({"from": "2026-11-01", "to": "2026-11-02"}, "invalid_day"),
    ({"from": "0001-01-01", "to": "2026-11-01"}, "invalid_day"),
    ({"from": "0001-01-01", "to": "0001-01-01"}, "invalid_day"),
    ({"from": str(DAY - timedelta(days=MOST_DAYS)), "to": str(DAY)}, "invalid_day"),
    ({"from": "yesterday"}, "invalid_request"),
    ({"from": "2026-13-01"}, "invalid_request"),
    ({"to": "1700000000"}, "invalid_request"),
    ({"to": "2026-11-01T00:00:00"}, "invalid_request"),
)


def test_a_window_that_cannot_be_is_refused(panel: Panel) -> None:
    panel.agency.connect("acme")
    program = panel.key(business_id="acme")
    for window, code in BAD_WINDOWS:
        for path in ("/aggregates", "/series", "/pages", "/days", "/breakdown"):
            by = {"by": "device"} if path == "/breakdown" else {}
            reply = program.get(BASES["client"] + path, params=window | by)
            assert reply.status_code == 422, window
            assert reply.headers["content-type"] == "application/problem+json"
            assert reply.json()["code"] == code, window
