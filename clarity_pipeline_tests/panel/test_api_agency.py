"""The agency's own operations, and how the API says that something is not possible."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from clarity_pipeline.domain.access import KeyScope
from clarity_pipeline.panel.browser_safety import MAX_BODY_BYTES
from clarity_pipeline.store import connections
from clarity_pipeline.store.businesses import list_businesses
from clarity_pipeline_tests.factories import make_token
from clarity_pipeline_tests.panel.conftest import Panel

HEAD = "business_id,name,project_id,token\n"
AS_CSV = {"content-type": "text/csv"}


@pytest.fixture
def program(panel: Panel) -> TestClient:
    """A program of the agency that may write."""
    return panel.key()


def assert_problem(reply: Response, status: int, code: str) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["code"] == code
    return reply.json()


def ids_of(panel: Panel) -> list[str]:
    return [business.id for business in list_businesses(panel.agency.database)]


def test_a_business_is_added_once(panel: Panel, program: TestClient) -> None:
    reply = program.post("/api/agency/businesses", json={"business_id": "acme", "name": " Söhne "})
    assert reply.status_code == 201
    assert reply.json() == {
        "business_id": "acme",
        "name": "Söhne",
        "created_at": "2026-11-02T00:15:00Z",
    }
    again = program.post("/api/agency/businesses", json={"business_id": "acme"})
    assert_problem(again, 422, "invalid_business_id")
    bad = program.post("/api/agency/businesses", json={"business_id": "Not An Id"})
    assert_problem(bad, 422, "invalid_business_id")
    bad = program.post("/api/agency/businesses", json={"business_id": "bolt", "name": "a\x00b"})
    assert_problem(bad, 422, "invalid_business_name")
    assert ids_of(panel) == ["acme"]
    [entry] = program.get("/api/agency/audit").json()["entries"]
    assert (entry["action"], entry["business_id"]) == ("business_added", "acme")


def test_businesses_are_listed_with_how_they_stand(panel: Panel, program: TestClient) -> None:
    panel.agency.connect("acme")
    program.post("/api/agency/businesses", json={"business_id": "bolt", "name": "Bolt"})
    told = program.get("/api/agency/businesses").json()
    assert [(b["business_id"], b["state"]) for b in told["businesses"]] == [
        ("acme", "never_tested"),
        ("bolt", "not_connected"),
    ]
    assert told["state_counts"] == {"never_tested": 1, "not_connected": 1}
    assert len(told["businesses"][0]["rage_click_rates"]) == 30
    some = program.get("/api/agency/businesses", params={"states": "not_connected"}).json()
    assert ([b["business_id"] for b in some["businesses"]], some["matching"], some["total"]) == (
        ["bolt"],
        1,
        2,
    )
    turned = program.get(
        "/api/agency/businesses", params={"sort": "name", "descending": "true", "limit": 1}
    ).json()
    assert [b["business_id"] for b in turned["businesses"]] == ["bolt"]
    found = program.get("/api/agency/businesses", params={"search": "olt\x00"}).json()
    assert found["businesses"] == []


def test_a_list_connects_all_its_businesses(panel: Panel, program: TestClient) -> None:
    panel.agency.connect("acme")
    token = make_token()
    text = f"{HEAD}acme,,another01,{token}\nbolt,Bolt & Söhne,another01,{token}\n"
    reply = program.post("/api/agency/connections", content=text.encode(), headers=AS_CSV)
    assert reply.status_code == 200
    assert [(c["business_id"], c["is_new"]) for c in reply.json()["connected"]] == [
        ("acme", False),
        ("bolt", True),
    ]
    assert connections.get_connection(panel.agency.database, "bolt").project_id == "another01"
    entries = program.get("/api/agency/audit").json()["entries"]
    assert sorted((e["action"], e["business_id"]) for e in entries) == [
        ("business_added", "bolt"),
        ("connected", "acme"),
        ("connected", "bolt"),
    ]
    assert token not in reply.text + program.get("/api/agency/audit").text
    assert panel.agency.calls() == []


def test_a_list_with_bad_rows_connects_nobody_and_names_every_one(
    panel: Panel, program: TestClient
) -> None:
    token = make_token()
    text = f"{HEAD}acme,,another01,{token}\n{token},,x,y\nbolt,,no!,{token}\n"
    reply = program.post("/api/agency/connections", content=text.encode(), headers=AS_CSV)
    problem = assert_problem(reply, 422, "invalid_connection_list")
    assert [error["line"] for error in problem["errors"]] == [3, 4]
    assert all(error["message"] for error in problem["errors"])
    assert token not in reply.text
    assert ids_of(panel) == []


def test_what_is_no_list_is_refused(program: TestClient) -> None:
    for content in (b"", b"\xff\xfe", HEAD.encode(), b"{}"):
        reply = program.post("/api/agency/connections", content=content, headers=AS_CSV)
        assert "errors" not in assert_problem(reply, 422, "invalid_connection_list")


def test_the_audit_log_is_read_page_by_page_and_by_business(
    panel: Panel, program: TestClient
) -> None:
    for number in range(3):
        panel.agency.move_to(panel.agency.now + timedelta(minutes=1))
        program.post("/api/agency/businesses", json={"business_id": f"b{number}"})
    first = program.get("/api/agency/audit", params={"limit": 2}).json()
    assert [entry["business_id"] for entry in first["entries"]] == ["b2", "b1"]
    assert first["entries"][0]["at"] == "2026-11-02T00:18:00Z"
    rest = program.get(
        "/api/agency/audit", params={"limit": 2, "before_id": first["next_before_id"]}
    ).json()
    assert ([e["business_id"] for e in rest["entries"]], rest["next_before_id"]) == (["b0"], None)
    only = program.get("/api/agency/audit", params={"business_id": "b1"}).json()["entries"]
    assert [entry["business_id"] for entry in only] == ["b1"]
    bad = program.get("/api/agency/audit", params={"business_id": "a\x00b"})
    assert_problem(bad, 422, "invalid_business_id")


def test_the_agency_alone_uses_these_and_a_read_key_changes_nothing(panel: Panel) -> None:
    panel.agency.connect("acme")
    text = f"{HEAD}bolt,,another01,{make_token()}\n"
    client, reader = panel.key(business_id="acme"), panel.key(scope=KeyScope.READ)
    for path in ("/api/agency/businesses", "/api/agency/audit"):
        assert_problem(client.get(path), 403, "not_allowed")
        assert reader.get(path).status_code == 200
    for key in (client, reader):
        sent = key.post("/api/agency/connections", content=text.encode(), headers=AS_CSV)
        assert_problem(sent, 403, "not_allowed")
        added = key.post("/api/agency/businesses", json={"business_id": "bolt"})
        assert_problem(added, 403, "not_allowed")
    assert_problem(reader.get("/api/client/clarity/config"), 403, "not_allowed")
    assert ids_of(panel) == ["acme"]


def test_a_business_that_is_not_there_is_not_found(program: TestClient) -> None:
    for business_id in ("nobody", "a%00b", "A B", "x" * 65, "%F0%9F%92%A9"):
        reply = program.get(f"/api/agency/businesses/{business_id}/clarity/config")
        assert_problem(reply, 404, "unknown_business")


def test_every_error_is_a_problem(panel: Panel, program: TestClient) -> None:
    for path in ("/api", "/api/", "/api/nothing", "/api/agency/businesses/acme/nothing"):
        assert_problem(program.get(path), 404, "not_found")
    wrong = program.delete("/api/agency/businesses")
    assert_problem(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET, POST"
    panel.agency.connect("acme")
    enabled = "/api/agency/businesses/acme/clarity/enabled"
    large = program.put(enabled, content=b" " * (MAX_BODY_BYTES + 1))
    assert_problem(large, 413, "too_large")
    for content in (b"{", b"\xff", b"[" * 100_000, b'{"enabled": NaN}', b"null", b""):
        sent = program.put(enabled, content=content, headers={"content-type": "application/json"})
        assert sent.status_code in {400, 422}
        assert sent.headers["content-type"] == "application/problem+json"
    as_text = program.put(enabled, content=b'{"enabled": false}', headers=AS_CSV)
    assert_problem(as_text, 422, "invalid_request")
    assert connections.get_connection(panel.agency.database, "acme").is_enabled
