"""A business's connection through the API, the same for the agency and for the client itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from clarity_pipeline.domain.access import KeyScope
from clarity_pipeline.domain.audit import AuditAction
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.domain.sync_requests import NOBODY_AFTER
from clarity_pipeline.panel.guard import FORM_TOKEN_HEADER
from clarity_pipeline.store import businesses, connections, sync_jobs
from clarity_pipeline.store.audit_log import AuditEntry, list_audit
from clarity_pipeline_tests.agency import DAY
from clarity_pipeline_tests.factories import make_token
from clarity_pipeline_tests.panel.conftest import Panel


@dataclass
class Door:
    """The operations of one business as one audience reaches them."""

    panel: Panel
    program: TestClient
    base: str

    def get(self, path: str, **options: Any) -> Response:
        return self.program.get(self.base + path, **options)

    def put(self, path: str, body: object) -> Response:
        return self.program.put(self.base + path, json=body)

    def post(self, path: str, body: object) -> Response:
        return self.program.post(self.base + path, json=body)

    def delete(self, path: str) -> Response:
        return self.program.delete(self.base + path)

    def audit(self) -> list[AuditEntry]:
        return list_audit(self.panel.agency.database, business_id="acme")


OpenDoor = Callable[..., Door]


@pytest.fixture(params=["agency", "client"])
def open_door(panel: Panel, request: pytest.FixtureRequest) -> OpenDoor:
    """Opens the door of either audience, with a key that may write unless told otherwise."""

    def open_it(scope: KeyScope = KeyScope.WRITE) -> Door:
        if request.param == "agency":
            key = panel.key(scope=scope)
            return Door(panel, key, "/api/agency/businesses/acme/clarity")
        return Door(panel, panel.key(scope=scope, business_id="acme"), "/api/client/clarity")

    return open_it


@pytest.fixture
def door(open_door: OpenDoor, panel: Panel) -> Door:
    """The door of a connected business."""
    panel.agency.connect("acme", sessions_per_day=20)
    return open_door()


def assert_problem(reply: Response, status: int, code: str) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["type"].endswith(code)
    assert "`clarity" not in problem["detail"]
    return problem


def test_a_business_is_connected_and_its_token_is_never_shown(
    panel: Panel, open_door: OpenDoor
) -> None:
    businesses.add_business(
        panel.agency.database, business_id="acme", name="Acme Inc.", now=panel.agency.now
    )
    door = open_door()
    before = door.get("/config").json()
    assert (before["state"], before["token"], before["next_run_at"]) == (
        "not_connected",
        None,
        None,
    )
    token = make_token(expires_at=panel.agency.now + timedelta(days=3))
    reply = door.put("/config", {"project_id": "abc123xyz0", "token": token})
    assert reply.status_code == 200
    assert reply.json() == door.get("/config").json()
    told = reply.json()
    assert (told["name"], told["project_id"], told["state"]) == (
        "Acme Inc.",
        "abc123xyz0",
        "never_tested",
    )
    assert told["token"] == {
        "last4": token[-4:],
        "expires_at": "2026-11-05T00:15:00Z",
        "needs_renewal": True,
        "has_expired": False,
    }
    assert told["next_run_at"] == "2026-11-03T00:15:00Z"
    assert "10 calls per project per day; the daily scheduler uses 4" in told["description"]
    [entry] = door.audit()
    assert (entry.action, entry.remote_address) == (AuditAction.CONNECTED, "testclient")
    assert entry.actor.startswith("key: ")
    assert entry.detail == {"project_id": "abc123xyz0", "token": "replaced", "overview": None}
    assert token not in reply.text + str(door.audit())
    assert panel.agency.calls() == []


def test_without_a_token_the_stored_one_is_kept(door: Door, panel: Panel) -> None:
    before = connections.read_token(panel.agency.database, panel.agency.vault, "acme")
    told = door.put("/config", {"project_id": "another01", "overview": True}).json()
    assert (told["project_id"], told["overview"], told["overview_in_force"]) == (
        "another01",
        True,
        True,
    )
    assert told["yesterday"]["due"] == 5
    assert connections.read_token(panel.agency.database, panel.agency.vault, "acme") == before
    assert door.put("/config", {"project_id": "another01"}).json()["overview"] is None


def test_a_choice_can_be_changed_after_the_token_has_expired(
    panel: Panel, open_door: OpenDoor
) -> None:
    panel.agency.connect("acme")
    token = make_token(expires_at=panel.agency.now + timedelta(days=1))
    door = open_door()
    door.put("/config", {"project_id": "abc123xyz0", "token": token})
    panel.agency.move_to(panel.agency.now + timedelta(days=2))
    told = door.put("/config", {"project_id": "abc123xyz0", "overview": True}).json()
    assert (told["overview"], told["token"]["has_expired"]) == (True, True)


BAD_CONNECTIONS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"project_id": "no!"}, "invalid_project_id"),
    ({"project_id": "abc123xyz0", "token": "hunter2-secret"}, "invalid_token"),
    ({"project_id": "abc123xyz0", "token": make_token(exp=1_600_000_000)}, "invalid_token"),
    ({"project_id": "abc123xyz0", "token": ["hunter2-secret"]}, "invalid_request"),
    ({"project_id": "abc123xyz0", "token": "hunter2-secret" * 1000}, "invalid_request"),
    ({"project_id": "abc123xyz0", "overview": "hunter2-secret"}, "invalid_request"),
    ({"project_id": "abc123xyz0", "business_id": "globex"}, "invalid_request"),
    ({}, "invalid_request"),
)


def test_a_bad_connection_is_refused_unquoted_and_changes_nothing(door: Door, panel: Panel) -> None:
    before = connections.get_connection(panel.agency.database, "acme")
    for body, code in BAD_CONNECTIONS:
        reply = door.put("/config", body)
        assert_problem(reply, 422, code)
        assert "hunter2" not in reply.text
    assert connections.get_connection(panel.agency.database, "acme") == before
    assert door.audit() == []


def test_disconnecting_forgets_the_token_keeps_the_history_and_can_be_repeated(
    door: Door, panel: Panel
) -> None:
    door.post("/test", {})
    assert door.delete("/config").json() == {"changed": True}
    assert door.delete("/config").json() == {"changed": False}
    told = door.get("/config").json()
    assert (told["state"], told["project_id"], told["token"]) == ("not_connected", None, None)
    [day] = door.get("/series", params={"from": str(DAY), "to": str(DAY)}).json()["days"]
    assert day["clarity_sessions"] > 0
    assert [e.action for e in door.audit()] == [AuditAction.DISCONNECTED, AuditAction.TESTED]
    assert_problem(door.post("/test", {}), 409, "not_connected")
    assert_problem(door.put("/enabled", {"enabled": True}), 409, "not_connected")
    assert_problem(door.post("/sync-requests", {}), 409, "not_connected")
    assert_problem(door.get("/quota"), 409, "not_connected")
    assert_problem(door.put("/config", {"project_id": "abc123xyz0"}), 409, "not_connected")


def test_a_test_burns_one_call_and_keeps_the_reply(door: Door, panel: Panel) -> None:
    told = door.post("/test", {}).json()
    assert (told["verdict"], told["result"], told["calls_spent"]) == ("accepted", "ok", 1)
    assert told["quota"]["used"] == len(panel.agency.calls()) == 1
    assert door.get("/config").json()["last_test_result"] == "ok"
    aggregates = door.get("/aggregates").json()["aggregates"]
    assert aggregates[0]["clarity_sessions"] > 0
    [entry] = door.audit()
    assert (entry.action, entry.detail) == (AuditAction.TESTED, {"result": "ok", "calls": 1})


def test_a_refused_token_is_said_to_be_refused_and_switches_the_sync_off(
    door: Door, panel: Panel
) -> None:
    panel.agency.emulator.control.revoke_token(panel.agency.projects["acme"].project_id)
    reply = door.post("/test", {})
    assert reply.status_code == 200
    told = reply.json()
    assert (told["verdict"], told["result"]) == ("refused", "auth_failed")
    assert told["sync_switched_off"]
    config = door.get("/config").json()
    assert (config["state"], config["disabled_by"]) == ("disabled_auth", "auth_failure")


def test_a_429_says_that_the_quota_is_spent_and_never_that_the_token_is_bad(
    door: Door, panel: Panel
) -> None:
    panel.agency.emulator.control.set_quota_used(panel.agency.projects["acme"].project_id, used=10)
    told = door.post("/test", {}).json()
    assert (told["verdict"], told["result"]) == ("not_judged", "rate_limited")
    assert told["message"].startswith("Quota spent, token not judged")
    assert "invalid" not in told["message"]
    assert told["quota"]["rate_limited"]
    assert {slot["kind"] for slot in door.get("/quota").json()["slots"]} == {"test", "closed"}


def test_the_last_free_call_is_taken_only_when_that_is_confirmed(door: Door, panel: Panel) -> None:
    while door.get("/quota").json()["free"] > 1:
        assert door.post("/test", {}).json()["calls_spent"] == 1
    spent = len(panel.agency.calls())
    assert_problem(door.post("/test", {}), 409, "last_call_unconfirmed")
    assert len(panel.agency.calls()) == spent
    told = door.post("/test", {"confirm_last_slot": True}).json()
    assert (told["verdict"], told["quota"]["free"]) == ("accepted", 0)
    told = door.post("/test", {"confirm_last_slot": True}).json()
    assert (told["verdict"], told["calls_spent"]) == ("not_judged", 0)
    assert told["message"].startswith("Quota spent, token not judged")
    assert len(panel.agency.calls()) == spent + 1


def test_pausing_twice_changes_and_records_it_once(door: Door) -> None:
    replies = [door.put("/enabled", {"enabled": on}).json() for on in (False, False, True, True)]
    assert [reply["changed"] for reply in replies] == [True, False, True, False]
    assert [reply["sync_enabled"] for reply in replies] == [False, False, True, True]
    assert [e.action for e in door.audit()] == [AuditAction.ENABLED, AuditAction.DISABLED]
    assert_problem(door.put("/enabled", {"enabled": "yes"}), 422, "invalid_request")


def test_a_sync_is_asked_for_once_and_followed(door: Door) -> None:
    reply = door.post("/sync-requests", {})
    assert reply.status_code == 202
    asked = reply.json()
    assert (asked["day"], asked["state"], asked["is_over"]) == (str(DAY), "waiting", False)
    assert asked["requested_by"].startswith("key: ")
    assert door.post("/sync-requests", {"day": str(DAY)}).json()["id"] == asked["id"]
    assert door.get(f"/sync-requests/{asked['id']}").json() == asked
    assert {e.action for e in door.audit()} == {AuditAction.SYNC_REQUESTED}


def test_a_request_that_nobody_picks_up_is_told_in_detail_to_those_who_can_look(
    door: Door, panel: Panel
) -> None:
    asked = door.post("/sync-requests", {}).json()
    assert asked["message"] == "Waiting for the worker."
    panel.agency.move_to(panel.agency.now + NOBODY_AFTER)
    for reply in (door.get(f"/sync-requests/{asked['id']}"), door.post("/sync-requests", {})):
        message = reply.json()["message"]
        if "client" in door.base:
            assert message == (
                "The worker has not picked this up yet; your agency has to look at it."
            )
        else:
            assert "is the Dagster daemon running" in message


def test_a_sync_that_cannot_be_done_is_refused(door: Door) -> None:
    assert_problem(door.post("/sync-requests", {"day": "2026-11-02"}), 422, "invalid_day")
    assert_problem(door.post("/sync-requests", {"day": "0"}), 422, "invalid_request")
    door.put("/enabled", {"enabled": False})
    assert_problem(door.post("/sync-requests", {}), 409, "sync_disabled")
    assert_problem(door.get("/sync-requests/1"), 404, "unknown_sync_request")
    assert_problem(door.get(f"/sync-requests/{2**63}"), 422, "invalid_request")


def test_a_sync_request_of_another_business_is_not_there(door: Door, panel: Panel) -> None:
    panel.agency.connect("globex")
    others = panel.agency_person().post(
        "/api/agency/businesses/globex/clarity/sync-requests", json={}
    )
    assert others.status_code == 202
    assert_problem(door.get(f"/sync-requests/{others.json()['id']}"), 404, "unknown_sync_request")


def settle_jobs(panel: Panel, *statuses: JobStatus) -> list[int]:
    """Jobs that ended so, a day each; returns their ids."""
    ids: list[int] = []
    for number, status in enumerate(statuses):
        job_id = sync_jobs.start_jobs(
            panel.agency.database,
            business_ids=["acme"],
            day=DAY - timedelta(days=number),
            trigger=Trigger.SCHEDULE,
            dagster_run_id=f"run-{number}",
            now=panel.agency.now,
        )["acme"]
        sync_jobs.settle_job(
            panel.agency.database,
            job_id=job_id,
            status=status,
            calls_used=4,
            combos={},
            error_code=None,
            error_message=None,
            rows_written=7,
            now=panel.agency.now + timedelta(seconds=90),
        )
        ids.append(job_id)
    return ids


def test_jobs_are_read_page_by_page_and_by_status(door: Door, panel: Panel) -> None:
    failed, *succeeded = settle_jobs(
        panel, JobStatus.FAILED, JobStatus.SUCCEEDED, JobStatus.SUCCEEDED
    )
    first = door.get("/jobs", params={"limit": 2}).json()
    assert [job["id"] for job in first["jobs"]] == [succeeded[1], succeeded[0]]
    assert first["jobs"][0] == {
        "id": succeeded[1],
        "day": "2026-10-30",
        "trigger": "schedule",
        "status": "succeeded",
        "started_at": "2026-11-02T00:15:00Z",
        "finished_at": "2026-11-02T00:16:30Z",
        "duration_seconds": 90.0,
        "calls_used": 4,
        "rows_written": 7,
        "error_code": None,
        "error_message": None,
    }
    rest = door.get("/jobs", params={"limit": 2, "before_id": first["next_before_id"]}).json()
    assert ([job["id"] for job in rest["jobs"]], rest["next_before_id"]) == ([failed], None)
    only = door.get("/jobs", params={"status": "failed"}).json()["jobs"]
    assert [job["id"] for job in only] == [failed]
    assert_problem(door.get("/jobs", params={"status": "odd"}), 422, "invalid_request")
    lines = door.get("/jobs", params={"format": "csv"}).text.splitlines()
    assert lines[0].startswith("id,day,trigger,status,started_at")
    assert len(lines) == 4


def test_a_job_that_runs_has_no_end_yet(door: Door, panel: Panel) -> None:
    sync_jobs.start_jobs(
        panel.agency.database,
        business_ids=["acme"],
        day=DAY,
        trigger=Trigger.SCHEDULE,
        dagster_run_id="run",
        now=panel.agency.now,
    )
    (job,) = door.get("/jobs", params={"status": "running"}).json()["jobs"]
    assert (job["status"], job["started_at"]) == ("running", "2026-11-02T00:15:00Z")
    assert (job["finished_at"], job["duration_seconds"]) == (None, None)
    head, line = door.get("/jobs", params={"format": "csv"}).text.splitlines()
    cells = dict(zip(head.split(","), line.split(","), strict=True))
    assert (cells["status"], cells["finished_at"]) == ("running", "")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/config", {"project_id": "project001"}),
        ("POST", "/test", {}),
        ("PUT", "/enabled", {"enabled": False}),
        ("POST", "/sync-requests", {}),
    ],
)
def test_a_body_with_a_name_that_is_not_known_changes_nothing(
    door: Door, method: str, path: str, body: dict[str, Any]
) -> None:
    sent = body | {"business_id": "globex"}
    reply = door.program.request(method, door.base + path, json=sent)
    problem = assert_problem(reply, 422, "invalid_request")
    assert [error["pointer"] for error in problem["errors"]] == ["body/business_id"]
    assert door.audit() == []
    assert door.panel.agency.calls() == []


def test_of_a_shared_project_a_client_learns_only_that_calls_are_used(
    door: Door, panel: Panel
) -> None:
    project_id = panel.agency.projects["acme"].project_id
    panel.agency.connect("globex", project_id=project_id)
    door.post("/test", {})
    agency = panel.agency_person()
    agency.post("/api/agency/businesses/globex/clarity/test", json={})
    reply = door.get("/quota")
    quota = reply.json()
    assert (quota["used"], quota["limit"], len(quota["slots"])) == (2, 10, 10)
    assert quota["resets_at"] == "2026-11-03T00:00:00Z"
    assert quota["free"] == [slot["kind"] for slot in quota["slots"]].count("free")
    assert quota["kept_for_schedule"] == [slot["kind"] for slot in quota["slots"]].count("kept")
    assert (quota["slots"][0]["kind"], quota["slots"][0]["business_id"]) == ("test", "acme")
    if "client" in door.base:
        assert (quota["slots"][1]["kind"], quota["slots"][1]["business_id"]) == ("other", None)
        assert "globex" not in reply.text
    else:
        assert (quota["slots"][1]["kind"], quota["slots"][1]["business_id"]) == ("test", "globex")


def test_history_is_deleted_only_by_the_agency_and_when_the_id_is_repeated(panel: Panel) -> None:
    panel.agency.connect("acme", sessions_per_day=20)
    door = Door(panel, panel.key(), "/api/agency/businesses/acme/clarity")
    door.post("/test", {})
    held = door.get("/history").json()
    assert held["rows"]["clarity_daily_metrics"] > 0
    assert held["first_day"] == str(DAY)
    assert_problem(door.post("/purge", {"business_id": "acme"}), 409, "purge_refused")
    door.delete("/config")
    client = Door(panel, panel.key(business_id="acme"), "/api/client/clarity")
    assert_problem(client.post("/purge", {"business_id": "acme"}), 404, "not_found")
    assert_problem(door.post("/purge", {"business_id": "globex"}), 409, "purge_unconfirmed")
    assert_problem(door.post("/purge", {}), 422, "invalid_request")
    assert door.get("/history").json() == held
    purged = door.post("/purge", {"business_id": "acme"}).json()
    assert purged["rows"]["clarity_daily_metrics"] == held["rows"]["clarity_daily_metrics"]
    assert sum(door.get("/history").json()["rows"].values()) == 0
    assert door.audit()[0].action is AuditAction.PURGED


def test_a_key_that_may_only_read_reads_and_changes_nothing(
    panel: Panel, open_door: OpenDoor
) -> None:
    panel.agency.connect("acme")
    door = open_door(KeyScope.READ)
    for path in ("/config", "/quota", "/jobs", "/aggregates", "/series", "/pages"):
        assert door.get(path).status_code == 200, path
    before = connections.get_connection(panel.agency.database, "acme")
    for refused in (
        door.put("/config", {"project_id": "another01"}),
        door.delete("/config"),
        door.post("/test", {}),
        door.put("/enabled", {"enabled": False}),
        door.post("/sync-requests", {}),
        door.put("/config", {"no": "body of ours"}),
    ):
        assert_problem(refused, 403, "not_allowed")
    assert connections.get_connection(panel.agency.database, "acme") == before
    assert panel.agency.calls() == []
    assert door.audit() == []


def test_what_a_client_sends_about_another_business_has_no_effect(panel: Panel) -> None:
    panel.agency.connect("acme")
    panel.agency.connect("globex")
    before = connections.get_connection(panel.agency.database, "globex")
    door = Door(panel, panel.client_of("acme"), "/api/client/clarity")
    assert_problem(
        door.put("/enabled", {"enabled": False, "business_id": "globex"}), 422, "invalid_request"
    )
    told = door.program.put(
        "/api/client/clarity/enabled?business_id=globex", json={"enabled": False}
    )
    assert told.json()["changed"]
    assert door.get("/config", params={"business_id": "globex"}).json()["business_id"] == "acme"
    assert connections.get_connection(panel.agency.database, "globex") == before
    for path in ("globex", "there-is-none", "a%00b", "A B"):
        refused = door.program.get(f"/api/agency/businesses/{path}/clarity/config")
        assert_problem(refused, 403, "not_allowed")


def test_somebody_who_has_signed_in_changes_things_with_a_form_token_only(panel: Panel) -> None:
    panel.agency.connect("acme")
    person = panel.client_of("acme")
    assert person.put("/api/client/clarity/enabled", json={"enabled": False}).status_code == 200
    del person.headers[FORM_TOKEN_HEADER]
    assert person.get("/api/client/clarity/config").status_code == 200
    refused = person.put("/api/client/clarity/enabled", json={"enabled": True})
    assert_problem(refused, 403, "form_expired")
    assert_problem(panel.anybody().get("/api/client/clarity/config"), 401, "not_signed_in")


def test_a_key_file_that_is_gone_is_our_fault_and_costs_no_call(door: Door, panel: Panel) -> None:
    panel.agency.settings.secret_key_file.unlink()
    assert_problem(door.post("/test", {}), 500, "secret_key")
    assert panel.agency.calls() == []
    assert door.get("/config").status_code == 200
