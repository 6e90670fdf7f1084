"""People, API keys and the audit log, as the agency sees and changes them."""

from __future__ import annotations

import re

from clarity_pipeline.domain.access import KeyScope, Role, secret_hash
from clarity_pipeline.domain.audit import AuditAction
from clarity_pipeline.panel.audit_pages import PAGE_LENGTH
from clarity_pipeline.store.api_keys import list_keys, principal_of_key
from clarity_pipeline.store.audit_log import list_audit, record_audit
from clarity_pipeline.store.panel_users import get_user, list_users
from clarity_pipeline_tests.panel.conftest import PASSWORD, Panel


def secret_on(page: str) -> str:
    """What a page shows this once."""
    found = re.search(r'class="secret" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def test_a_client_is_added_with_a_password_that_is_shown_once(panel: Panel) -> None:
    panel.agency.connect("acme")
    agency = panel.agency_person()
    added = agency.post("/agency/people", data={"login": "Joe@Acme.example", "whose": "acme"})
    password = secret_on(added.text)
    assert password not in agency.get("/agency/people").text
    client = panel.anybody()
    form = {"login": "joe@acme.example", "password": password}
    assert client.post("/login", data=form).status_code == 303
    assert client.get("/client/clarity").status_code == 200
    [signed_in, entry] = list_audit(panel.agency.database)
    assert signed_in.actor == "joe@acme.example"
    assert (entry.action, entry.actor, entry.business_id, entry.remote_address) == (
        AuditAction.USER_ADDED,
        "ada@agency.example",
        "acme",
        "testclient",
    )
    assert password not in str(entry.detail)


def test_one_of_the_agency_is_added_only_when_that_was_chosen(panel: Panel) -> None:
    agency = panel.agency_person()
    assert agency.post("/agency/people", data={"login": "bob", "whose": ""}).status_code == 422
    assert agency.post("/agency/people", data={"login": "bob", "whose": "no"}).status_code == 404
    assert agency.post("/agency/people", data={"login": "bob", "whose": "*"}).status_code == 200
    assert get_user(panel.agency.database, "bob").role is Role.AGENCY


def test_a_login_that_cannot_be_is_refused_and_what_was_typed_stays(panel: Panel) -> None:
    agency = panel.agency_person()
    for login in ("<b>no</b>", "ada@agency.example"):
        reply = agency.post("/agency/people", data={"login": login, "whose": "*"})
        assert reply.status_code == 422
        assert "<b>no" not in reply.text
    assert 'value="ada@agency.example"' in reply.text
    assert len(list_users(panel.agency.database)) == 1


def test_ending_somebodys_access_ends_their_session_and_sign_in(panel: Panel) -> None:
    panel.agency.connect("acme")
    agency, client = panel.agency_person(), panel.client_of("acme")
    assert client.get("/client/clarity").status_code == 200
    agency.post("/agency/people/revoke", data={"login": "client@acme"})
    agency.post("/agency/people/revoke", data={"login": "client@acme"})
    assert client.get("/client/clarity").status_code == 303
    form = {"login": "client@acme", "password": PASSWORD}
    assert panel.anybody().post("/login", data=form).status_code == 401
    assert [entry.action for entry in list_audit(panel.agency.database)] == [
        AuditAction.USER_REVOKED
    ]


def test_a_forgotten_password_is_replaced_and_old_sessions_end(panel: Panel) -> None:
    panel.agency.connect("acme")
    agency, client = panel.agency_person(), panel.client_of("acme")
    page = agency.post("/agency/people/password", data={"login": "client@acme"}).text
    assert client.get("/client/clarity").status_code == 303
    form = {"login": "client@acme", "password": secret_on(page)}
    assert panel.anybody().post("/login", data=form).status_code == 303


def test_nobody_locks_themselves_out(panel: Panel) -> None:
    agency = panel.agency_person()
    for action in ("revoke", "password"):
        own = {"login": "ada@agency.example"}
        reply = agency.post(f"/agency/people/{action}", data=own)
        assert reply.status_code == 422
        assert "That is you" in reply.text
        other = {"login": "nobody"}
        assert agency.post(f"/agency/people/{action}", data=other).status_code == 404
    assert agency.get("/agency/people").status_code == 200


def test_a_key_is_shown_once_and_works_until_it_is_revoked(panel: Panel) -> None:
    panel.agency.connect("acme")
    agency = panel.agency_person()
    form = {"name": "nightly <export>", "scope": "read", "whose": "acme"}
    secret = secret_on(agency.post("/agency/keys", data=form).text)
    listing = agency.get("/agency/keys").text
    assert secret not in listing
    assert secret[-4:] in listing
    assert "nightly &lt;export&gt;" in listing
    database = panel.agency.database
    principal = principal_of_key(database, key_hash=secret_hash(secret), now=panel.agency.now)
    assert principal is not None
    assert (principal.business_id, principal.may_write) == ("acme", False)
    program = panel.anybody()
    program.headers["authorization"] = f"Bearer {secret}"
    assert program.get("/client/clarity").status_code == 200
    [key] = list_keys(database)
    agency.post("/agency/keys/revoke", data={"key_id": key.id})
    agency.post("/agency/keys/revoke", data={"key_id": key.id})
    assert program.get("/client/clarity").status_code == 303
    assert "revoked" in agency.get("/agency/keys").text
    entries = list_audit(database)
    assert [entry.action for entry in entries] == [AuditAction.KEY_REVOKED, AuditAction.KEY_ADDED]
    assert {entry.business_id for entry in entries} == {"acme"}
    assert secret not in str(entries)


def test_a_key_that_cannot_be_is_refused(panel: Panel) -> None:
    agency = panel.agency_person()
    for form, status in (
        ({"name": " ", "scope": "read", "whose": "*"}, 422),
        ({"name": "x", "scope": "all", "whose": "*"}, 422),
        ({"name": "x", "scope": "read", "whose": ""}, 422),
        ({"name": "x", "scope": "read", "whose": "nobody"}, 404),
    ):
        assert agency.post("/agency/keys", data=form).status_code == status, form
    for key_id, status in (("7", 404), (str(2**63), 422), ("x", 422)):
        reply = agency.post("/agency/keys/revoke", data={"key_id": key_id})
        assert reply.status_code == status, key_id
    assert list_keys(panel.agency.database) == []


def test_a_key_of_the_agency_cannot_make_keys_or_people(panel: Panel) -> None:
    program = panel.key(scope=KeyScope.WRITE)
    form = {"name": "x", "scope": "write", "whose": "*", "login": "eve"}
    for path in ("/agency/keys", "/agency/people"):
        assert program.post(path, data=form).status_code == 403
    assert (len(list_keys(panel.agency.database)), list_users(panel.agency.database)) == (1, [])


def test_the_audit_log_is_read_page_by_page_and_by_business(panel: Panel) -> None:
    for number in range(PAGE_LENGTH + 3):
        record_audit(
            panel.agency.database,
            actor=f"<actor {number}>",
            action=AuditAction.TESTED,
            now=panel.agency.now,
            business_id="acme" if number % 2 else "globex",
            detail={"token_ends_in": "<i>"},
            remote_address="192.0.2.1",
        )
    agency = panel.agency_person()
    page = agency.get("/agency/audit").text
    assert page.count("tested the connection") == PAGE_LENGTH
    assert "&lt;actor 52&gt;" in page
    assert "token ends in: &lt;i&gt;" in page
    assert "192.0.2.1" in page
    assert "data-instant" in page
    older = re.search(r'href="(/agency/audit\?before=\d+)"', page)
    assert older is not None
    rest = agency.get(older[1]).text
    assert [f"&lt;actor {number}&gt;" in rest for number in range(4)] == [True, True, True, False]
    assert "Older</a>" not in rest
    of_acme = agency.get("/agency/audit", params={"business": "acme"}).text
    assert of_acme.count("tested the connection") == (PAGE_LENGTH + 3) // 2
    assert "&lt;actor 0&gt;" not in of_acme
    for params in ({"before": 0}, {"before": 2**63}, {"business": "a\0b"}, {"business": "NO"}):
        assert agency.get("/agency/audit", params=params).status_code == 422, params
