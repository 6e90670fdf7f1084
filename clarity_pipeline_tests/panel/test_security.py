"""What every answer forbids the browser, what is refused at the door, and where no secret is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping

import pytest
from fastapi import APIRouter
from sqlalchemy import select
from starlette.testclient import TestClient

from clarity_pipeline.domain.access import Audience, form_token
from clarity_pipeline.panel.browser_safety import MAX_BODY_BYTES
from clarity_pipeline.panel.guard import FORM_TOKEN_HEADER, allow
from clarity_pipeline.store.panel_users import list_users
from clarity_pipeline.store.schema import metadata
from clarity_pipeline_tests.panel.conftest import PASSWORD, Panel
from clarity_pipeline_tests.panel.test_agency_pages import secret_on

LOGIN = {"login": "ada@agency.example", "password": PASSWORD}
HTTPS = "https://clarity.agency.example"
PORTAL = "https://portal.client.example"


def at(panel: Panel, base_url: str) -> TestClient:
    return TestClient(panel.app, base_url=base_url, follow_redirects=False)


def policy(headers: Mapping[str, str]) -> dict[str, str]:
    parts = (part.partition(" ") for part in headers["content-security-policy"].split("; "))
    return {name: value for name, _, value in parts}


def test_every_answer_has_the_headers_of_safety(panel: Panel) -> None:
    panel.app.include_router(failing_routes())
    browser = panel.agency_person()
    for path in ("/login", "/account", "/nothing", "/agency/people", "/static/panel.css", "/fail"):
        headers = browser.get(path).headers
        rules = policy(headers)
        assert rules["default-src"] == "'none'", path
        assert rules["script-src"] == rules["style-src"] == "'self'"
        assert rules["frame-ancestors"] == "'none'"
        assert rules["form-action"] == "'self'"
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
        assert "strict-transport-security" not in headers
        if not path.startswith("/static/"):
            assert headers["cache-control"] == "no-store"


def test_pages_have_nothing_inline_that_the_policy_would_block(panel: Panel) -> None:
    panel.agency.connect("acme")
    browser = panel.agency_person()
    paths = ("/login", "/setup", "/account", "/agency/people", "/agency/keys", "/agency/audit")
    for path in (*paths, "/agency/businesses/acme/clarity"):
        page = browser.get(path).text
        for inline in (" style=", " onclick=", " onload=", "<style", "javascript:", "hx-on"):
            assert inline not in page, (path, inline)
        assert page.count("<script") == page.count('<script src="/static/')


def test_the_cookie_on_a_laptop(panel: Panel) -> None:
    panel.agency_person()
    cookie = panel.anybody().post("/login", data=LOGIN).headers["set-cookie"]
    assert cookie.startswith("clarity_session=")
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie


def test_with_https_the_cookie_is_secure_and_of_this_host_alone(
    make_panel: Callable[..., Panel],
) -> None:
    panel = make_panel(panel_url=HTTPS)
    panel.agency_person()
    reply = at(panel, HTTPS).post("/login", data=LOGIN)
    cookie = reply.headers["set-cookie"]
    assert cookie.startswith("__Host-clarity_session=")
    for part in ("Secure", "HttpOnly", "Path=/", "SameSite=lax"):
        assert part in cookie
    assert "Domain" not in cookie
    assert reply.headers["strict-transport-security"] == "max-age=31536000"


def test_a_portal_that_is_named_may_show_the_panel_in_a_frame(
    make_panel: Callable[..., Panel],
) -> None:
    panel = make_panel(panel_url=HTTPS, panel_frame_ancestors=PORTAL)
    panel.agency_person()
    browser = at(panel, HTTPS)
    reply = browser.post("/login", data=LOGIN)
    assert policy(reply.headers)["frame-ancestors"] == PORTAL
    assert "x-frame-options" not in reply.headers
    assert "SameSite=none" in reply.headers["set-cookie"]
    # The cookie now travels with requests of other sites; what they send is still refused.
    assert browser.post("/account/sign-out-everywhere").status_code == 403
    secret = browser.cookies["__Host-clarity_session"]
    evil = {FORM_TOKEN_HEADER: form_token(secret), "origin": "https://evil.example"}
    assert browser.post("/account/sign-out-everywhere", headers=evil).status_code == 403
    assert browser.get("/account").status_code == 200


def test_a_form_token_is_of_its_own_session_only(panel: Panel) -> None:
    panel.agency.connect("acme")
    agency, client = panel.agency_person(), panel.client_of("acme")
    stolen = client.headers[FORM_TOKEN_HEADER]
    assert agency.post("/logout", headers={FORM_TOKEN_HEADER: stolen}).status_code == 403
    assert agency.get("/account").status_code == 200


def test_a_sandboxed_page_is_not_ours(panel: Panel) -> None:
    panel.agency_person()
    reply = panel.anybody().post("/login", data=LOGIN, headers={"origin": "null"})
    assert reply.status_code == 403


def test_a_name_that_is_not_ours_is_refused(make_panel: Callable[..., Panel]) -> None:
    panel = make_panel(panel_url=HTTPS)
    for host in (
        "evil.example",
        "clarity.agency.example.evil.example",
        "",
        "x@127.0.0.1",
        "[",
        "a/api/",
    ):
        reply = panel.anybody().get("/login", headers={"host": host})
        assert reply.status_code == 400, host
        assert "does not answer under that name" in reply.text
        assert "frame-ancestors" in reply.headers["content-security-policy"]
        problem = panel.anybody().get("/api/openapi.json", headers={"host": host})
        assert (problem.status_code, problem.json()["code"]) == (400, "unknown_host"), host
    for host in ("clarity.agency.example", "127.0.0.1:8300", "localhost", "[::1]:8300"):
        assert panel.anybody().get("/login", headers={"host": host}).status_code == 200, host


def test_a_body_over_the_limit_is_refused(panel: Panel) -> None:
    browser = panel.agency_person()
    body = b"login=" + b"x" * MAX_BODY_BYTES

    def piecewise() -> Iterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    form = {"content-type": "application/x-www-form-urlencoded"}
    for content in (body, piecewise()):
        reply = browser.post("/agency/people", content=content, headers=form)
        assert reply.status_code == 413
        assert "larger than is taken" in reply.text
        assert "content-security-policy" in reply.headers
    problem = browser.post("/api/client/clarity", content=body)
    assert problem.headers["content-type"] == "application/problem+json"


def failing_routes() -> APIRouter:
    router = APIRouter()

    def fail() -> None:
        raise ValueError("the token is hunter2")

    router.add_api_route("/fail", fail, dependencies=[allow(Audience.PUBLIC)])
    router.add_api_route("/api/fail", fail, dependencies=[allow(Audience.PUBLIC)])
    return router


def test_an_error_that_nobody_expected_is_told_without_detail(
    panel: Panel, caplog: pytest.LogCaptureFixture
) -> None:
    panel.app.include_router(failing_routes())
    browser = panel.anybody()
    page, problem = browser.get("/fail"), browser.get("/api/fail")
    fragment = browser.get("/fail", headers={"hx-request": "true"})
    for reply in (page, problem, fragment):
        assert reply.status_code == 500
        assert "nobody expected" in reply.text
        for detail in ("hunter2", "ValueError", "Traceback", ".py"):
            assert detail not in reply.text
    assert problem.headers["content-type"] == "application/problem+json"
    assert problem.json()["code"] == "unexpected"
    assert "ValueError at GET /fail in" in caplog.text
    assert "test_security.py" in caplog.text
    assert "hunter2" not in caplog.text


def test_what_was_sent_is_not_repeated_by_a_refusal(panel: Panel) -> None:
    browser = panel.anybody()
    secret = "hunter2" * 60
    for path, form in (
        ("/login", {"login": "ada", "password": secret}),
        ("/login", {"login": secret, "password": "x"}),
        ("/setup", {"code": secret, "login": "a", "password": secret, "repeated": "x"}),
    ):
        reply = browser.post(path, data=form)
        assert reply.status_code == 422
        assert "hunter2" not in reply.text


def test_no_secret_of_a_whole_run_is_in_the_database_the_log_or_a_page(
    panel: Panel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    panel.agency.connect("acme")
    panel.agency.connect("globex")
    panel.agency_person()
    browser = panel.anybody()
    shown: list[str] = []

    def keep(text: str) -> str:
        shown.append(text)
        return text

    browser.post("/login", data={"login": PASSWORD, "password": "my wrong password"})
    browser.post("/login", data=LOGIN)
    session = browser.cookies["clarity_session"]
    browser.headers[FORM_TOKEN_HEADER] = form_token(session)
    made = browser.post("/agency/keys", data={"name": "k", "scope": "write", "whose": "acme"})
    key = secret_on(made.text)
    added = browser.post("/agency/people", data={"login": "joe", "whose": "acme"})
    initial = secret_on(added.text)
    token = panel.agency.token("globex")
    connect = "/agency/businesses/acme/clarity/connection"
    keep(browser.post(connect, data={"project_id": "project001", "token": token}).text)
    keep(browser.post(connect, data={"project_id": "no!", "token": token}).text)
    keep(browser.post("/agency/businesses/acme/clarity/test").text)
    new = "seven quiet rivers at dawn"
    keep(
        browser.post(
            "/account/password", data={"old": PASSWORD, "password": new, "repeated": new}
        ).text
    )
    for path in ("/account", "/agency/people", "/agency/keys", "/agency/audit"):
        keep(browser.get(path).text)
    for path in ("", "/history"):
        keep(browser.get(f"/agency/businesses/acme/clarity{path}").text)
    secrets = [PASSWORD, "my wrong password", new, session, key, initial, token]
    secrets.append(panel.agency.token("acme"))
    dump = "".join(_dump(panel))
    assert list_users(panel.agency.database)
    for place in (dump, caplog.text, *shown):
        for secret in secrets:
            assert secret not in place
    assert form_token(session) not in dump + caplog.text


def _dump(panel: Panel) -> Iterator[str]:
    """Every value of every table."""
    with panel.agency.database.reading() as connection:
        for table in metadata.sorted_tables:
            for row in connection.execute(select(table)):
                for value in row:
                    is_bytes = isinstance(value, bytes)
                    yield value.decode(errors="replace") if is_bytes else f"{value}\n"


def test_passwords_are_stored_with_argon2id(panel: Panel) -> None:
    panel.agency_person()
    browser = panel.anybody()
    browser.post("/login", data=LOGIN)
    dump = "".join(_dump(panel))
    assert dump.count("$argon2id$v=19$m=65536,t=3,p=4$") == 1
