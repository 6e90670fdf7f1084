"""The first start: a link that makes the agency's first user, once."""

from __future__ import annotations

from datetime import timedelta

from clarity_pipeline.domain.access import SETUP_CODE_LIFETIME, Role, secret_hash
from clarity_pipeline.domain.audit import AuditAction
from clarity_pipeline.domain.errors import AlreadySetUp
from clarity_pipeline.operations.access import make_setup_code
from clarity_pipeline.store.audit_log import list_audit
from clarity_pipeline.store.panel_users import list_users, revoke_user
from clarity_pipeline.store.setup_codes import use_setup_code
from clarity_pipeline_tests.panel.conftest import PASSWORD, Panel
from clarity_pipeline_tests.store.races import all_at_once


def code_of(panel: Panel) -> str:
    code = make_setup_code(panel.agency.database, now=panel.agency.now)
    assert code is not None
    return code


def form(code: str, /, **changed: str) -> dict[str, str]:
    return {
        "code": code,
        "login": "Ada@agency.example",
        "password": PASSWORD,
        "repeated": PASSWORD,
    } | changed


def test_the_link_makes_the_first_user_of_the_agency_and_signs_them_in(panel: Panel) -> None:
    browser = panel.anybody()
    assert "Set-up code" in browser.get("/setup").text
    reply = browser.post("/setup", data=form(code_of(panel)))
    assert (reply.status_code, reply.headers["location"]) == (303, "/")
    assert browser.get("/agency/people").status_code == 200
    [user] = list_users(panel.agency.database)
    assert (user.login, user.role) == ("ada@agency.example", Role.AGENCY)
    signed_in, added = list_audit(panel.agency.database)
    assert (added.action, added.actor) == (AuditAction.USER_ADDED, "ada@agency.example")
    assert signed_in.action is AuditAction.SIGNED_IN


def test_once_the_agency_has_a_user_the_page_says_so_and_does_nothing(panel: Panel) -> None:
    code = code_of(panel)
    panel.agency_person()
    browser = panel.anybody()
    page = browser.get("/setup").text
    assert "set up already" in page
    assert "Set-up code" not in page
    reply = browser.post("/setup", data=form(code, login="eve@evil.example"))
    assert reply.status_code == 409
    assert "set up already" in reply.text
    assert len(list_users(panel.agency.database)) == 1
    assert make_setup_code(panel.agency.database, now=panel.agency.now) is None


def test_a_client_alone_does_not_close_the_set_up(panel: Panel) -> None:
    panel.agency.connect("acme")
    panel.client_of("acme")
    assert panel.anybody().post("/setup", data=form(code_of(panel))).status_code == 303


def test_when_the_last_of_the_agency_has_gone_a_new_link_is_made(panel: Panel) -> None:
    panel.agency_person()
    revoke_user(panel.agency.database, login="ada@agency.example", now=panel.agency.now)
    reply = panel.anybody().post("/setup", data=form(code_of(panel), login="bob@agency.example"))
    assert reply.status_code == 303


def test_a_code_is_over_after_a_day(panel: Panel) -> None:
    code = code_of(panel)
    panel.agency.now += SETUP_CODE_LIFETIME - timedelta(seconds=1)
    short = panel.anybody().post("/setup", data=form(code, password="short", repeated="short"))
    assert "at least 12" in short.text
    panel.agency.now += timedelta(seconds=1)
    reply = panel.anybody().post("/setup", data=form(code))
    assert reply.status_code == 422
    assert "start the panel again" in reply.text
    assert list_users(panel.agency.database) == []


def test_a_new_code_replaces_the_one_before(panel: Panel) -> None:
    earlier = code_of(panel)
    code = code_of(panel)
    assert panel.anybody().post("/setup", data=form(earlier)).status_code == 422
    assert panel.anybody().post("/setup", data=form(code)).status_code == 303


def test_what_is_wrong_is_said_and_the_code_is_not_used_up(panel: Panel) -> None:
    code, browser = code_of(panel), panel.anybody()
    for changed, saying in (
        ({"code": "guessed"}, "over, used or mistyped"),
        ({"login": "no login!"}, "A login has"),
        ({"password": "short", "repeated": "short"}, "at least 12"),
        ({"repeated": "another one"}, "not the same"),
    ):
        reply = browser.post("/setup", data=form(code, **changed))
        assert (reply.status_code, saying in reply.text) == (422, True), changed
        assert code not in reply.text
    assert browser.post("/setup", data=form(code)).status_code == 303


def test_a_login_that_is_taken_does_not_use_the_code_up(panel: Panel) -> None:
    panel.agency.connect("acme")
    panel.client_of("acme")
    code = code_of(panel)
    assert "already" in panel.anybody().post("/setup", data=form(code, login="client@acme")).text
    assert panel.anybody().post("/setup", data=form(code)).status_code == 303


def test_of_many_who_use_a_link_at_once_one_becomes_a_user(panel: Panel) -> None:
    code = code_of(panel)

    def use(number: int) -> bool:
        try:
            use_setup_code(
                panel.agency.database,
                code_hash=secret_hash(code),
                login=f"user{number}",
                password_hash="hash",
                now=panel.agency.now,
            )
        except AlreadySetUp:
            return False
        return True

    assert sum(all_at_once(use, range(8))) == 1
    assert len(list_users(panel.agency.database)) == 1


def test_codes_made_at_once_leave_one_that_works(panel: Panel) -> None:
    codes = all_at_once(lambda _: code_of(panel), range(6))
    made = [panel.anybody().post("/setup", data=form(code)).status_code for code in codes]
    assert made.count(303) == 1
    assert set(made[: made.index(303)]) <= {422}
