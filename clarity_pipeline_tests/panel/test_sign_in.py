"""Signing in: waits after failures, where one goes on to, and passwords that are changed."""

from __future__ import annotations

from datetime import timedelta

from argon2 import PasswordHasher
from sqlalchemy import select, update
from starlette.testclient import TestClient

from clarity_pipeline.domain.access import (
    FAILURES_PER_ADDRESS,
    FAILURES_PER_LOGIN,
    FIRST_SIGN_IN_WAIT,
    SESSION_IDLE_LIFETIME,
    SESSION_LIFETIME,
    SIGN_IN_WINDOW,
    secret_hash,
)
from clarity_pipeline.domain.audit import AuditAction
from clarity_pipeline.panel.passwords import is_password
from clarity_pipeline.store.audit_log import list_audit
from clarity_pipeline.store.panel_users import (
    begin_session,
    change_password,
    get_user,
    list_sessions,
    read_password_hash,
    rehash_password,
    revoke_user,
)
from clarity_pipeline.store.schema import panel_login_failures, panel_users
from clarity_pipeline.store.sign_in_failures import begin_sign_in
from clarity_pipeline_tests.panel.conftest import PASSWORD, PASSWORD_HASH, Panel
from clarity_pipeline_tests.store.races import all_at_once

LOGIN = "ada@agency.example"
NEW = "seven quiet rivers at dawn"


def try_to_sign_in(
    browser: TestClient, password: str = "wrong", login: str = LOGIN, **fields: str
) -> int:
    return browser.post("/login", data={"login": login, "password": password, **fields}).status_code


def fail_often(panel: Panel, count: int = FAILURES_PER_LOGIN, login: str = LOGIN) -> None:
    for _ in range(count):
        begin_sign_in(
            panel.agency.database, login=login, remote_address="testclient", now=panel.agency.now
        )


def test_after_some_failures_the_right_password_has_to_wait_too(panel: Panel) -> None:
    panel.agency_person()
    browser = panel.anybody()
    for _ in range(FAILURES_PER_LOGIN):
        assert try_to_sign_in(browser) == 401
    refused = browser.post("/login", data={"login": LOGIN, "password": PASSWORD})
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "30"
    assert "wait 30 s" in refused.text
    panel.agency.now += FIRST_SIGN_IN_WAIT
    assert try_to_sign_in(browser, PASSWORD) == 303


def test_the_wait_grows_with_each_failure_after_it(panel: Panel) -> None:
    panel.agency_person()
    fail_often(panel)
    panel.agency.now += FIRST_SIGN_IN_WAIT
    browser = panel.anybody()
    assert try_to_sign_in(browser) == 401
    panel.agency.now += FIRST_SIGN_IN_WAIT
    assert try_to_sign_in(browser, PASSWORD) == 429
    panel.agency.now += FIRST_SIGN_IN_WAIT
    assert try_to_sign_in(browser, PASSWORD) == 303


def test_a_login_that_does_not_exist_is_refused_like_one_that_does(panel: Panel) -> None:
    panel.agency_person()
    browser = panel.anybody()
    answers = {
        login: [
            browser.post("/login", data={"login": login, "password": "wrong"})
            for _ in range(FAILURES_PER_LOGIN + 1)
        ]
        for login in (LOGIN, "eve@agency.example")
    }
    known, unknown = (
        [(a.status_code, a.headers.get("retry-after")) for a in answers[login]] for login in answers
    )
    assert known == unknown
    texts = [answers[login][0].text.replace(login, "LOGIN") for login in answers]
    assert texts[0] == texts[1]


def test_one_address_cannot_try_many_logins(panel: Panel) -> None:
    panel.agency_person()
    for number in range(FAILURES_PER_ADDRESS):
        fail_often(panel, 1, login=f"somebody{number}")
    assert try_to_sign_in(panel.anybody(), PASSWORD) == 429


def test_guesses_at_the_same_moment_are_counted_like_guesses_one_after_the_other(
    panel: Panel,
) -> None:
    def guess(_: int) -> timedelta:
        return begin_sign_in(
            panel.agency.database, login=LOGIN, remote_address="192.0.2.1", now=panel.agency.now
        )

    judged = [wait for wait in all_at_once(guess, range(16)) if not wait]
    assert len(judged) == FAILURES_PER_LOGIN


def test_a_sign_in_that_succeeds_forgets_the_failures_of_its_login_alone(panel: Panel) -> None:
    panel.agency_person()
    panel.agency_person("bob@agency.example")
    fail_often(panel, FAILURES_PER_LOGIN - 1)
    fail_often(panel, FAILURES_PER_LOGIN, login="bob@agency.example")
    browser = panel.anybody()
    assert try_to_sign_in(browser, PASSWORD) == 303
    assert try_to_sign_in(panel.anybody()) == 401
    assert try_to_sign_in(panel.anybody(), PASSWORD, login="bob@agency.example") == 429


def test_failures_are_swept_when_they_no_longer_count(panel: Panel) -> None:
    fail_often(panel)
    panel.agency.now += SIGN_IN_WINDOW
    fail_often(panel, 1, login="somebody else")
    with panel.agency.database.reading() as connection:
        assert len(connection.execute(select(panel_login_failures)).all()) == 1


def test_a_password_typed_where_the_login_belongs_is_not_kept(panel: Panel) -> None:
    try_to_sign_in(panel.anybody(), "", login=PASSWORD)
    try_to_sign_in(panel.anybody(), "x", login=PASSWORD)
    with panel.agency.database.reading() as connection:
        rows = connection.execute(select(panel_login_failures)).all()
    assert rows
    assert PASSWORD not in str(rows)


def test_whatever_is_typed_as_a_login_is_just_not_one(panel: Panel) -> None:
    for login in ("a\0b", "\ud7ff", "x" * 254, "' OR 1=1 --", " "):
        assert try_to_sign_in(panel.anybody(), login=login) == 401, login


def test_one_goes_on_to_a_page_of_the_panel_only(panel: Panel) -> None:
    panel.agency_person()
    for wanted, location in (
        ("/agency/audit?before=3", "/agency/audit?before=3"),
        ("//evil.example", "/"),
    ):
        browser = panel.anybody()
        form = browser.get("/login", params={"next": wanted}).text
        assert f'name="next" value="{location}"' in form
        reply = browser.post("/login", data={"login": LOGIN, "password": PASSWORD, "next": wanted})
        assert (reply.status_code, reply.headers["location"]) == (303, location)


def test_a_form_whose_session_is_over_is_not_gone_on_to(panel: Panel) -> None:
    reply = panel.anybody().post("/account/password")
    assert reply.headers["location"] == "/login"


def test_each_sign_in_has_a_secret_of_its_own_and_ends_the_session_before_it(
    panel: Panel,
) -> None:
    panel.agency_person()
    browser = panel.anybody()
    try_to_sign_in(browser, PASSWORD)
    first = browser.cookies["clarity_session"]
    token = browser.get("/account").text.split('name="form_token" value="')[1].split('"')[0]
    assert try_to_sign_in(browser, PASSWORD, form_token=token) == 303
    assert browser.cookies["clarity_session"] != first
    stolen = panel.anybody()
    stolen.cookies.set("clarity_session", first)
    assert stolen.get("/account").status_code == 303


def test_a_session_that_somebody_else_planted_is_not_taken_over(panel: Panel) -> None:
    panel.agency_person()
    browser = panel.anybody()
    browser.cookies.set("clarity_session", "planted")
    try_to_sign_in(browser, PASSWORD)
    planted = panel.anybody()
    planted.cookies.set("clarity_session", "planted")
    assert planted.get("/account").status_code == 303


def test_a_session_ends_when_it_is_idle_for_long(panel: Panel) -> None:
    browser = panel.agency_person()
    panel.agency.now += SESSION_IDLE_LIFETIME - timedelta(seconds=1)
    assert browser.get("/account").status_code == 200
    panel.agency.now += SESSION_IDLE_LIFETIME - timedelta(seconds=1)
    assert browser.get("/account").status_code == 200
    panel.agency.now += SESSION_IDLE_LIFETIME
    assert browser.get("/account").status_code == 303


def test_a_session_ends_however_busy_it_is(panel: Panel) -> None:
    browser = panel.agency_person()
    ends_at = panel.agency.now + SESSION_LIFETIME
    while panel.agency.now + timedelta(hours=11) < ends_at:
        panel.agency.now += timedelta(hours=11)
        assert browser.get("/account").status_code == 200
    panel.agency.now = ends_at
    assert browser.get("/account").status_code == 303


def test_a_revoked_user_is_out_at_once_and_does_not_get_in_again(panel: Panel) -> None:
    browser = panel.agency_person()
    revoke_user(panel.agency.database, login=LOGIN, now=panel.agency.now)
    assert browser.get("/account").headers["location"].startswith("/login")
    assert try_to_sign_in(panel.anybody(), PASSWORD) == 401


def test_a_hash_with_yesterdays_parameters_is_renewed_at_sign_in(panel: Panel) -> None:
    panel.agency_person()
    database = panel.agency.database
    weak = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    with database.transaction() as connection:
        connection.execute(update(panel_users).values(password_hash=weak))
    assert try_to_sign_in(panel.anybody(), PASSWORD) == 303
    known = read_password_hash(database, LOGIN)
    assert known is not None
    assert known[1] != weak
    assert is_password(PASSWORD, known[1])
    assert try_to_sign_in(panel.anybody(), PASSWORD) == 303


def test_renewing_a_hash_does_not_bring_an_old_password_back(panel: Panel) -> None:
    panel.agency_person()
    database, user = panel.agency.database, get_user(panel.agency.database, LOGIN)
    change_password(database, user_id=user.id, password_hash="new", now=panel.agency.now)
    rehash_password(database, user_id=user.id, password_hash=PASSWORD_HASH, rehashed="old")
    assert read_password_hash(database, LOGIN) == (user, "new")


def test_no_session_begins_with_a_password_that_was_changed_while_it_was_judged(
    panel: Panel,
) -> None:
    panel.agency_person()
    database, user = panel.agency.database, get_user(panel.agency.database, LOGIN)
    change_password(database, user_id=user.id, password_hash="new", now=panel.agency.now)
    assert not begin_session(
        database,
        user_id=user.id,
        password_hash=PASSWORD_HASH,
        token_hash=secret_hash("late"),
        now=panel.agency.now,
        remote_address=None,
        user_agent=None,
    )
    assert list_sessions(database, user_id=user.id, now=panel.agency.now) == []


def test_changing_the_password_ends_all_other_sessions_and_keeps_this_one(panel: Panel) -> None:
    browser = panel.agency_person()
    other = panel.anybody()
    try_to_sign_in(other, PASSWORD)
    reply = browser.post(
        "/account/password", data={"old": PASSWORD, "password": NEW, "repeated": NEW}
    )
    assert reply.headers["location"] == "/account?changed=true"
    assert "The password was changed" in browser.get(reply.headers["location"]).text
    assert other.get("/account").status_code == 303
    assert try_to_sign_in(panel.anybody(), PASSWORD) == 401
    assert try_to_sign_in(panel.anybody(), NEW) == 303


def test_a_password_that_is_not_changed_says_why(panel: Panel) -> None:
    browser = panel.agency_person()
    for old, password, repeated, saying in (
        ("wrong", NEW, NEW, "not your present password"),
        (PASSWORD, NEW, f"{NEW}!", "not the same"),
        (PASSWORD, "short", "short", "at least 12"),
        (PASSWORD, LOGIN, LOGIN, "easily guessed"),
    ):
        fields = {"old": old, "password": password, "repeated": repeated}
        reply = browser.post("/account/password", data=fields)
        assert (reply.status_code, saying in reply.text) == (422, True), saying
    known = read_password_hash(panel.agency.database, LOGIN)
    assert known == (get_user(panel.agency.database, LOGIN), PASSWORD_HASH)


def test_a_stolen_session_cannot_guess_the_password_either(panel: Panel) -> None:
    browser = panel.agency_person()
    fields = {"old": "wrong", "password": NEW, "repeated": NEW}
    answers = [
        browser.post("/account/password", data=fields).status_code
        for _ in range(FAILURES_PER_LOGIN + 1)
    ]
    assert answers == [422] * FAILURES_PER_LOGIN + [429]


def test_signing_out_everywhere_ends_every_session(panel: Panel) -> None:
    browser = panel.agency_person()
    other = panel.anybody()
    try_to_sign_in(other, PASSWORD)
    assert browser.get("/account").text.count("<tr>") == 1 + 2
    assert "this one" in browser.get("/account").text
    assert browser.post("/account/sign-out-everywhere").headers["location"] == "/login"
    assert other.get("/account").status_code == 303
    assert browser.get("/account").status_code == 303


def test_what_people_do_with_their_accounts_is_in_the_audit_log(panel: Panel) -> None:
    panel.agency.connect("acme")
    browser = panel.client_of("acme")
    try_to_sign_in(panel.anybody(), PASSWORD, login="client@acme")
    browser.post("/account/password", data={"old": PASSWORD, "password": NEW, "repeated": NEW})
    browser.post("/account/sign-out-everywhere")
    entries = list_audit(panel.agency.database)
    assert [(each.action, each.actor, each.business_id) for each in entries] == [
        (AuditAction.SIGNED_OUT_EVERYWHERE, "client@acme", "acme"),
        (AuditAction.PASSWORD_CHANGED, "client@acme", "acme"),
        (AuditAction.SIGNED_IN, "client@acme", "acme"),
    ]
    assert {each.remote_address for each in entries} == {"testclient"}
