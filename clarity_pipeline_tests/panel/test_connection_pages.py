"""The connection page: what it says in each state, and what its forms do, without JavaScript."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from starlette.testclient import TestClient

from clarity_pipeline.domain.audit import AuditAction
from clarity_pipeline.domain.connections import ConnectionState
from clarity_pipeline.domain.dimensions import DEFAULT_COMBOS, URL_DEVICE, DimensionCombo
from clarity_pipeline.domain.quota import Purpose
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.domain.sync_requests import NOBODY_AFTER
from clarity_pipeline.panel.wording import STATES
from clarity_pipeline.store import businesses, connections, quota_ledger, sync_jobs, sync_requests
from clarity_pipeline.store.audit_log import AuditEntry, list_audit
from clarity_pipeline_tests.agency import DAY, Agency, days_later
from clarity_pipeline_tests.factories import make_token
from clarity_pipeline_tests.panel.conftest import Panel
from clarity_pipeline_tests.panel.reading import Page

ACME = "/agency/businesses/acme/clarity"


def look(browser: TestClient, address: str = ACME, *, status: int = 200) -> Page:
    reply = browser.get(address)
    assert reply.status_code == status, reply.text
    return Page(reply.text)


def send(
    browser: TestClient, action: str, *, base: str = ACME, status: int = 303, **fields: str
) -> Page:
    """Send a form as a browser without JavaScript does, and read the page that comes of it."""
    reply = browser.post(f"{base}/{action}", data=fields)
    assert reply.status_code == status, reply.text
    return look(browser, reply.headers["location"]) if status == 303 else Page(reply.text)


def audited(agency: Agency) -> list[AuditEntry]:
    return list_audit(agency.database, business_id="acme")


def spend(agency: Agency, count: int, *, business_id: str = "acme") -> None:
    """Take slots for tests that never end."""
    for _ in range(count):
        _take_slot(agency, business_id, Purpose.TEST, URL_DEVICE, num_of_days=1)


def spend_all(agency: Agency) -> None:
    """Take all ten, each for another call: the schedule makes none twice."""
    for number in range(10):
        combo = DEFAULT_COMBOS[number % 4]
        _take_slot(agency, "acme", Purpose.SCHEDULE, combo, num_of_days=1 + number // 4)


def _take_slot(
    agency: Agency, business_id: str, purpose: Purpose, combo: DimensionCombo, *, num_of_days: int
) -> None:
    quota_ledger.reserve(
        agency.database,
        project_id=agency.projects[business_id].project_id,
        business_id=business_id,
        purpose=purpose,
        day=DAY,
        dimension_set=combo.dimension_set,
        num_of_days=num_of_days,
        may_use_share=purpose is Purpose.SCHEDULE,
        now=agency.now,
    )


def _never_connected(agency: Agency, browser: TestClient) -> None:
    businesses.add_business(agency.database, business_id="acme", name="acme", now=agency.now)


def _just_connected(agency: Agency, browser: TestClient) -> None:
    agency.connect("acme")


def _tested(agency: Agency, browser: TestClient) -> None:
    agency.connect("acme")
    send(browser, "test")


def _paused(agency: Agency, browser: TestClient) -> None:
    agency.connect("acme")
    send(browser, "enabled", value="off")


def _refused(agency: Agency, browser: TestClient) -> None:
    agency.emulator.control.revoke_token(agency.connect("acme").project_id)
    send(browser, "test")


def _spent(agency: Agency, browser: TestClient) -> None:
    project = agency.connect("acme")
    agency.emulator.control.set_quota_used(project.project_id, used=10)
    send(browser, "test")


def _in_an_outage(agency: Agency, browser: TestClient) -> None:
    agency.connect("acme")
    agency.emulator.control.set_outage(on=True)
    send(browser, "test")


def _partly_synced(agency: Agency, browser: TestClient) -> None:
    agency.connect("acme")
    run_job(agency, JobStatus.PARTIAL)


def _late(agency: Agency, browser: TestClient) -> None:
    _tested(agency, browser)
    agency.move_to(days_later(1) + timedelta(hours=2))


def run_job(
    agency: Agency, status: JobStatus, *, code: str | None = None, message: str | None = None
) -> None:
    (job_id,) = sync_jobs.start_jobs(
        agency.database,
        business_ids=["acme"],
        day=DAY,
        trigger=Trigger.SCHEDULE,
        dagster_run_id="run",
        now=agency.now,
    ).values()
    if status is not JobStatus.RUNNING:
        sync_jobs.settle_job(
            agency.database,
            job_id=job_id,
            status=status,
            calls_used=4,
            rows_written=77,
            combos={"Device,URL": {"status": "landed"}, "Source,URL": {"status": "unavailable"}},
            error_code=code,
            error_message=message,
            now=agency.now,
        )


@pytest.mark.parametrize(
    ("state", "bring_about"),
    [
        (ConnectionState.NOT_CONNECTED, _never_connected),
        (ConnectionState.NEVER_TESTED, _just_connected),
        (ConnectionState.CONNECTED, _tested),
        (ConnectionState.PAUSED, _paused),
        (ConnectionState.DISABLED_AUTH, _refused),
        (ConnectionState.RATE_LIMITED_TODAY, _spent),
        (ConnectionState.FAILING, _in_an_outage),
        (ConnectionState.PARTIAL, _partly_synced),
        (ConnectionState.LATE, _late),
    ],
)
def test_the_badge_says_how_the_connection_stands_what_it_means_and_what_to_do(
    panel: Panel, state: ConnectionState, bring_about: Callable[[Agency, TestClient], None]
) -> None:
    bring_about(panel.agency, panel.agency_person())
    # Some of it takes longer than a session lasts that nobody uses.
    page = look(panel.agency_person("grace@agency.example"))
    assert page.attributes("status")["data-state"] == state.value
    assert page.text("state") == STATES[state].label
    assert STATES[state].meaning in page.text("status")
    assert STATES[state].advice in page.text("status")


def test_every_state_but_the_good_one_says_what_to_do() -> None:
    without = {state for state in ConnectionState if not STATES[state].advice}
    assert without == {ConnectionState.CONNECTED}


def test_the_page_says_how_many_calls_there_are_and_when_the_next_run_is(panel: Panel) -> None:
    panel.agency.connect("acme")
    page = look(panel.agency_person())
    assert (
        "The Clarity API allows 10 calls per project per day; the daily scheduler uses 4 of those."
        in page.text("content")
    )
    # 00:15 UTC is now, so the next run is tomorrow's.
    assert page.text("next-run").startswith("2026-11-03 00:15 UTC")


def test_where_the_overview_is_on_the_page_says_that_the_scheduler_uses_five(
    make_panel: Callable[..., Panel],
) -> None:
    panel = make_panel(overview=True)
    panel.agency.connect("acme")
    assert "uses 5 of those" in look(panel.agency_person()).text("content")


def test_a_paused_or_unconnected_business_has_no_next_run(panel: Panel) -> None:
    panel.agency.connect("acme")
    browser = panel.agency_person()
    assert "none while the sync is off" in send(browser, "enabled", value="off").text("next-run")
    assert "none while nothing is connected" in send(browser, "disconnect").text("next-run")


def test_the_last_error_says_what_to_do_about_it_and_whether_it_is_mended(panel: Panel) -> None:
    agency = panel.agency
    agency.connect("acme")
    browser = panel.agency_person()
    assert "last-error" not in look(browser)
    run_job(agency, JobStatus.FAILED, code="timed_out", message="Clarity took too long.")
    said = look(browser).text("last-error")
    assert "Clarity took too long." in said
    assert "You can also press Sync now" in said
    assert "Mended" not in said
    connections.record_synced(
        agency.database, business_id="acme", at=agency.now + timedelta(hours=1)
    )
    assert "Mended since" in look(browser).text("last-error")


# Quota


def slot_kinds(page: Page) -> list[str]:
    return [each["data-kind"] for each in page.with_attribute("data-kind")]


def test_ten_slots_say_who_used_which_what_is_kept_and_what_is_free(panel: Panel) -> None:
    agency = panel.agency
    agency.connect("acme")
    browser = panel.agency_person()
    page = send(browser, "test")
    # The test has fetched one of yesterday's four, so that three are left to keep.
    assert slot_kinds(page) == ["test"] + ["free"] * 6 + ["kept"] * 3
    assert page.text("quota-left") == "1 of 10 used, 6 free"
    assert "Call 1: Test, answered." in page.text("quota-slots")
    assert "Call 10: Kept for the daily sync." in page.text("quota-slots")
    assert page.text("quota-resets").startswith("They come back at 2026-11-03 00:00 UTC")


def test_a_day_that_clarity_has_closed_has_no_free_slot(panel: Panel) -> None:
    project = panel.agency.connect("acme")
    panel.agency.emulator.control.set_quota_used(project.project_id, used=10)
    page = send(panel.agency_person(), "test")
    assert slot_kinds(page) == ["test"] + ["closed"] * 9
    assert "something else uses this project too" in page.text("quota")


def test_only_the_agency_learns_which_other_business_uses_the_same_project(panel: Panel) -> None:
    agency = panel.agency
    agency.connect("acme")
    agency.connect("globex", project_id=agency.projects["acme"].project_id)
    spend(agency, 1, business_id="globex")
    assert "of globex" in look(panel.agency_person()).text("quota-calls")
    reply = panel.client_of("acme").get("/client/clarity")
    assert slot_kinds(Page(reply.text))[0] == "test"
    assert "globex" not in reply.text


# Fields


def test_saving_connects_and_is_audited_and_spends_no_call(panel: Panel) -> None:
    agency = panel.agency
    businesses.add_business(agency.database, business_id="acme", name="acme", now=agency.now)
    browser = panel.agency_person()
    page = send(browser, "connection", project_id=" abc123xyz0 ", api_token=make_token() + "\n")
    assert page.text("notice").startswith("Saved. No call was spent.")
    record = connections.get_connection(agency.database, "acme")
    assert record.project_id == "abc123xyz0"
    assert agency.calls() == []
    (entry,) = audited(agency)
    assert (entry.action, entry.actor) == (AuditAction.CONNECTED, "ada@agency.example")
    assert entry.detail == {"project_id": "abc123xyz0"}
    assert entry.remote_address is not None


def test_what_is_wrong_is_said_next_to_each_field_and_nothing_is_stored(panel: Panel) -> None:
    agency = panel.agency
    businesses.add_business(agency.database, business_id="acme", name="acme", now=agency.now)
    page = send(
        panel.agency_person(), "connection", status=422, project_id="a-b!", api_token="sesame"
    )
    assert "'a-b!' is not a Clarity project id" in page.text("project-id-error")
    assert "That is not a Clarity API token" in page.text("api-token-error")
    assert page.attributes("project-id")["value"] == "a-b!"
    assert page.attributes("project-id")["aria-invalid"] == "true"
    assert not connections.get_connection(agency.database, "acme").is_connected
    assert audited(agency) == []


def test_a_token_never_comes_back_to_the_page_it_was_typed_into(panel: Panel) -> None:
    panel.agency.connect("acme")
    browser = panel.agency_person()
    token = make_token(project_id="secretive1")
    refused = browser.post(f"{ACME}/connection", data={"project_id": "?", "api_token": token})
    assert refused.status_code == 422
    assert token not in refused.text
    stored = panel.agency.token("acme")
    page = browser.get(ACME)
    assert stored not in page.text
    assert stored[:20] not in page.text
    assert Page(page.text).text("token-last4") == f"••••{stored[-4:]}"
    assert "value" not in Page(page.text).attributes("api-token")


def test_the_stored_token_cannot_be_saved_again_by_leaving_its_field_empty(panel: Panel) -> None:
    panel.agency.connect("acme")
    page = send(panel.agency_person(), "connection", status=422, project_id="other12345")
    assert "one that is stored cannot be shown or reused" in page.text("api-token-error")
    assert page.text("project-id-error") == ""


@pytest.mark.parametrize(
    ("days", "warning"), [(8, None), (7, "token-expires-soon"), (0, "token-expired")]
)
def test_a_token_that_ends_within_a_week_or_has_ended_is_warned_of(
    panel: Panel, days: int, warning: str | None
) -> None:
    agency = panel.agency
    businesses.add_business(agency.database, business_id="acme", name="acme", now=agency.now)
    expires_at = agency.now + timedelta(days=days)
    if not days:
        agency.move_to(agency.now - timedelta(minutes=1))
    browser = panel.agency_person()
    send(
        browser, "connection", project_id="abc123xyz0", api_token=make_token(expires_at=expires_at)
    )
    agency.move_to(max(agency.now, expires_at - timedelta(days=days)))
    page = look(browser)
    assert {name for name in ("token-expires-soon", "token-expired") if name in page} == (
        {warning} if warning else set()
    )


# Test


def test_a_test_says_that_it_burns_a_call_and_what_came_of_it(panel: Panel) -> None:
    panel.agency.connect("acme")
    browser = panel.agency_person()
    assert "Burns 1 of today's 10 calls; 6 are free" in look(browser).text("test")
    page = send(browser, "test")
    assert page.text("last-test").startswith("Accepted")
    assert "its answer was kept" in page.text("notice")
    assert len(panel.agency.calls("acme")) == 1
    assert audited(panel.agency)[0].detail == {"result": "ok", "calls": 1}


def test_loading_the_page_again_after_a_test_spends_no_second_call(panel: Panel) -> None:
    panel.agency.connect("acme")
    browser = panel.agency_person()
    reply = browser.post(f"{ACME}/test")
    for _ in range(3):
        look(browser, reply.headers["location"])
    assert len(panel.agency.calls("acme")) == 1


def test_a_test_that_meets_429_says_that_the_token_was_not_judged(panel: Panel) -> None:
    project = panel.agency.connect("acme")
    panel.agency.emulator.control.set_quota_used(project.project_id, used=10)
    page = send(panel.agency_person(), "test")
    assert page.text("last-test").startswith("Quota spent, token not judged")
    assert "could not be judged" in page.text("notice")
    assert "Refused" not in page.text("connection")


def test_a_refused_token_is_said_to_be_refused_and_the_sync_is_off(panel: Panel) -> None:
    panel.agency.emulator.control.revoke_token(panel.agency.connect("acme").project_id)
    page = send(panel.agency_person(), "test")
    assert page.text("last-test").startswith("Refused")
    assert page.attributes("sync-enabled")["aria-checked"] == "false"


def test_the_last_free_call_is_spent_only_after_it_was_asked_for_twice(panel: Panel) -> None:
    agency = panel.agency
    agency.connect("acme")
    browser = panel.agency_person()
    spend(agency, 6)
    assert look(browser).text("quota-left") == "6 of 10 used, 1 free"
    page = send(browser, "test", status=200)
    assert "This would use the last free call of today" in page.text("test")
    assert agency.calls() == []
    assert audited(agency) == []
    page = send(browser, "test", confirmed="yes")
    assert page.text("last-test").startswith("Accepted")
    assert len(agency.calls("acme")) == 1


def test_a_test_without_a_slot_says_so_and_is_no_test(panel: Panel) -> None:
    agency = panel.agency
    agency.connect("acme")
    spend_all(agency)
    page = send(panel.agency_person(), "test", status=429)
    assert "Not tested, and no call spent" in page.text("notice")
    assert "come back at 2026-11-03 00:00 UTC" in page.text("notice")
    assert agency.calls() == []
    assert "Nobody has tested this token yet" in page.text("last-test")


# Switches


def test_the_switch_pauses_and_resumes_and_each_change_is_audited_once(panel: Panel) -> None:
    panel.agency.connect("acme")
    browser = panel.agency_person()
    for value in ("off", "off", "on", "on"):
        page = send(browser, "enabled", value=value)
        checked = page.attributes("sync-enabled")["aria-checked"]
        assert checked == ("true" if value == "on" else "false")
    actions = [entry.action for entry in audited(panel.agency)]
    assert actions == [AuditAction.ENABLED, AuditAction.DISABLED]


@pytest.mark.parametrize(
    ("action", "fields"), [("enabled", {"value": "on"}), ("test", {}), ("sync", {})]
)
def test_what_needs_a_connection_says_so_without_one(
    panel: Panel, action: str, fields: dict[str, str]
) -> None:
    agency = panel.agency
    businesses.add_business(agency.database, business_id="acme", name="acme", now=agency.now)
    page = send(panel.agency_person(), action, status=409, **fields)
    assert "not connected to Clarity" in page.text("notice")
    assert audited(agency) == []


def test_disconnecting_asks_first_and_keeps_the_history(panel: Panel) -> None:
    agency = panel.agency
    agency.connect("acme")
    browser = panel.agency_person()
    send(browser, "test")
    reply = browser.get(f"{ACME}/disconnect")
    assert "Historical metrics are retained" in reply.text
    assert connections.get_connection(agency.database, "acme").is_connected
    page = send(browser, "disconnect")
    assert "history is retained" in page.text("notice")
    assert page.text("state") == "Not connected"
    record = connections.get_connection(agency.database, "acme")
    assert (record.project_id, record.token_last4) == (None, None)
    send(browser, "disconnect")
    actions = [entry.action for entry in audited(agency)]
    assert actions == [AuditAction.DISCONNECTED, AuditAction.TESTED]


# Sync now


def test_sync_now_writes_a_request_which_the_page_then_follows(panel: Panel) -> None:
    agency = panel.agency
    agency.connect("acme")
    browser = panel.agency_person()
    assert look(browser).attributes("sync-progress")["hx-trigger"] == "panel-visible from:body"
    page = send(browser, "sync")
    (asked,) = sync_requests.open_requests(agency.database, now=agency.now)
    assert (asked.day, asked.requested_by) == (DAY, "ada@agency.example")
    progress = page.attributes("sync-progress")
    assert progress["hx-trigger"] == "every 2s"
    assert progress["data-state"] == "waiting"
    assert progress["data-announce"] == "Waiting for the worker."
    send(browser, "sync")
    assert len(sync_requests.open_requests(agency.database, now=agency.now)) == 1
    assert audited(agency)[0].action is AuditAction.SYNC_REQUESTED


def test_a_request_that_nobody_picks_up_names_the_worker_to_the_agency_alone(panel: Panel) -> None:
    panel.agency.connect("acme")
    person, client = panel.agency_person(), panel.client_of("acme")
    send(client, "sync", base="/client/clarity")
    panel.agency.move_to(panel.agency.now + NOBODY_AFTER)
    for part in ("", "/progress"):
        of_agency = look(person, ACME + part).attributes("sync-progress")["data-announce"]
        assert "is the Dagster daemon running" in of_agency
        of_client = look(client, f"/client/clarity{part}")
        assert of_client.attributes("sync-progress")["data-announce"] == (
            "The worker has not picked this up yet; your agency has to look at it."
        )
        assert "Dagster" not in of_client.text("sync-progress")


def test_the_page_follows_a_request_from_waiting_to_its_rows_and_then_stops(panel: Panel) -> None:
    agency = panel.agency
    agency.connect("acme")
    browser = panel.agency_person()
    address = send(browser, "sync").attributes("sync-progress")["hx-get"]
    (asked,) = sync_requests.open_requests(agency.database, now=agency.now)
    sync_requests.pick_up(
        agency.database, request_ids=[asked.id], dagster_run_id="run", now=agency.now
    )
    run_job(agency, JobStatus.RUNNING)
    running = look(browser, address)
    assert running.attributes("sync-progress")["data-state"] == "running"
    assert "0 of 4 combinations are in" in running.text("sync-progress")
    run_job(agency, JobStatus.PARTIAL)
    reply = browser.get(address)
    assert reply.headers["hx-trigger"] == "connection-changed"
    over = Page(reply.text)
    assert over.attributes("sync-progress")["hx-trigger"] == "panel-visible from:body"
    assert over.text("sync-result") == "77 rows written, 4 calls spent."


def test_the_page_picks_up_a_run_that_the_schedule_began(panel: Panel) -> None:
    agency = panel.agency
    agency.connect("acme")
    run_job(agency, JobStatus.RUNNING)
    page = look(panel.client_of("acme"), "/client/clarity")
    assert page.attributes("sync-progress")["hx-trigger"] == "every 2s"
    assert (
        page.attributes("sync-progress")["hx-get"] == "/client/clarity/progress?following=job%201"
    )
    assert "Started by: Daily schedule" in page.text("sync-progress")


def test_a_client_is_not_told_who_of_the_agency_asked(panel: Panel) -> None:
    panel.agency.connect("acme")
    page = send(panel.agency_person(), "sync")
    assert "ada@agency.example" in page.text("sync-progress")
    assert "ada@agency.example" not in panel.client_of("acme").get("/client/clarity").text


def test_a_request_of_another_business_cannot_be_followed(panel: Panel) -> None:
    agency = panel.agency
    agency.connect("acme")
    agency.connect("globex")
    send(panel.agency_person(), "sync", base="/agency/businesses/globex/clarity")
    page = look(panel.client_of("acme"), "/client/clarity/progress?following=request 1")
    assert page.attributes("sync-progress")["data-state"] == "idle"


def test_a_paused_business_is_not_synced_until_it_is_switched_on(panel: Panel) -> None:
    panel.agency.connect("acme")
    browser = panel.agency_person()
    page = send(browser, "enabled", value="off")
    assert "disabled" in page.attributes("sync-now")
    refused = send(browser, "sync", status=409)
    assert "switched off; switch it on first" in refused.text("notice")


# Two audiences


def test_a_client_does_everything_at_addresses_without_an_id(panel: Panel) -> None:
    agency = panel.agency
    agency.connect("acme")
    client = panel.client_of("acme")
    base = "/client/clarity"
    page = look(client, base)
    assert page.attributes("tab-history")["href"] == "/client/clarity/history"
    assert page.attributes("tab-data")["href"] == "/client/clarity/data"
    actions = {e["action"] for e in page.with_attribute("action") if e["action"] != "/logout"}
    assert actions == {f"{base}/{name}" for name in ("connection", "test", "enabled", "sync")}
    send(client, "test", base=base)
    send(client, "enabled", base=base, value="off")
    send(client, "disconnect", base=base)
    assert {entry.actor for entry in audited(agency)} == {"client@acme"}


def test_a_client_is_shown_no_way_to_what_is_the_agencys(panel: Panel) -> None:
    panel.agency.connect("acme")
    client = panel.client_of("acme")
    # There is a history to delete, which the agency would be shown the way to.
    send(client, "test", base="/client/clarity")
    for _ in range(2):
        page = look(client, "/client/clarity")
        links = {each["href"] for each in page.with_attribute("href")}
        assert not [link for link in links if link.startswith("/agency") or "purge" in link]
        send(client, "disconnect", base="/client/clarity")


def test_to_htmx_an_unexpected_refusal_becomes_a_notice_on_the_page(panel: Panel) -> None:
    panel.agency.connect("acme")
    reply = panel.agency_person().post(f"{ACME}/enabled", headers={"hx-request": "true"})
    assert reply.status_code == 422
    assert reply.headers["hx-retarget"] == "#notice"
    assert 'role="alert"' in reply.text
