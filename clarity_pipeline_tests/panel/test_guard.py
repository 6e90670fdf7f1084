"""Who is let in, and what a form must carry."""

from __future__ import annotations

import pytest
from fastapi import APIRouter

from clarity_pipeline.domain.access import Audience
from clarity_pipeline.panel.guard import FORM_TOKEN_HEADER, allow, check_every_route_is_guarded
from clarity_pipeline_tests.panel.conftest import PASSWORD, Panel


def test_a_route_that_does_not_say_whom_it_is_for_keeps_the_application_from_starting(
    panel: Panel,
) -> None:
    @panel.app.get("/forgotten")
    def forgotten() -> None: ...

    with pytest.raises(RuntimeError, match="/forgotten"):
        check_every_route_is_guarded(panel.app)


def test_a_route_with_two_audiences_keeps_the_application_from_starting(panel: Panel) -> None:
    router = APIRouter()
    router.add_api_route("/both", lambda: None, dependencies=[allow(Audience.PUBLIC)])
    panel.app.include_router(router, dependencies=[allow(Audience.AGENCY)])
    with pytest.raises(RuntimeError, match="/both"):
        check_every_route_is_guarded(panel.app)


def test_a_stranger_is_asked_to_sign_in(panel: Panel) -> None:
    reply = panel.anybody().get("/client/clarity")
    assert reply.status_code == 303
    assert reply.headers["location"] == "/login?next=/client/clarity"


def test_a_client_sees_its_own_business_and_learns_nothing_of_another(panel: Panel) -> None:
    panel.agency.connect("acme")
    panel.agency.connect("globex")
    client = panel.client_of("acme")
    assert "acme" in client.get("/client/clarity").text
    there = client.get("/agency/businesses/globex/clarity")
    nowhere = client.get("/agency/businesses/there-is-none/clarity")
    assert there.status_code == nowhere.status_code == 403
    assert there.text == nowhere.text


def test_signing_in_begins_a_session_and_signing_out_ends_it(panel: Panel) -> None:
    panel.agency.connect("acme")
    panel.client_of("acme")
    browser = panel.anybody()
    reply = browser.post("/login", data={"login": "client@acme", "password": PASSWORD})
    assert reply.status_code == 303
    page = browser.get("/client/clarity")
    assert page.status_code == 200
    token = page.text.split('name="form_token" value="')[1].split('"')[0]
    assert browser.post("/logout", data={"form_token": token}).status_code == 303
    assert browser.get("/client/clarity").status_code == 303


def test_a_form_without_the_token_of_its_session_does_nothing(panel: Panel) -> None:
    browser = panel.agency_person()
    del browser.headers[FORM_TOKEN_HEADER]
    assert browser.post("/logout").status_code == 403
    assert browser.post("/logout", data={"form_token": "0" * 64}).status_code == 403
    assert browser.get("/").status_code == 303


def test_a_form_of_another_site_does_nothing(panel: Panel) -> None:
    browser = panel.agency_person()
    assert browser.post("/logout", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert browser.post("/logout", headers={"origin": "https://evil.example"}).status_code == 403
    assert browser.post("/logout").status_code == 303
