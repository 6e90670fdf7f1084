"""From the first start to numbers on a page, as an agency's person clicks it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta

from playwright.sync_api import Page, expect

from clarity_pipeline.domain.dimensions import DEFAULT_COMBOS
from clarity_pipeline.export_api.emulator import EmulatedProject, emulator_token
from clarity_pipeline.operations.access import make_setup_code
from clarity_pipeline.store.businesses import add_business
from clarity_pipeline_tests.browser.conftest import PASSWORD, Site

Elsewhere = Callable[[Callable[[], object]], Future[object]]

ACME = "/agency/businesses/acme/clarity"


def state(page: Page) -> str:
    return page.locator("#state").inner_text()


def work_on_requests(site: Site) -> int:
    """As the daemon does, tick by tick, until nothing is asked for; how many runs that made."""
    runs = 0
    while wanted := site.agency.requested_runs():
        for run in wanted:
            site.agency.execute(run)
        runs += len(wanted)
    return runs


def test_the_first_start_leads_from_the_printed_link_to_a_connected_business(site: Site) -> None:
    agency = site.agency
    code = make_setup_code(agency.database, now=agency.now)
    page = site.open(f"/setup#{code}")
    expect(page.get_by_label("Set-up code")).to_have_value(str(code))
    page.get_by_label("Login").fill("ada@agency.example")
    page.locator("input[type=password]").nth(0).fill(PASSWORD)
    page.locator("input[type=password]").nth(1).fill(PASSWORD)
    page.get_by_role("button", name="Make the user and sign in").click()
    expect(
        page.get_by_role("link", name="Sign out").or_(page.get_by_role("button", name="Sign out"))
    ).to_be_visible()

    add_business(agency.database, business_id="acme", name="Acme", now=agency.now)
    agency.emulator.control.put_projects([EmulatedProject("project001", 1)])
    page.goto(site.url + ACME)
    assert state(page) == "Not connected"

    project, token = page.get_by_role("textbox", name="Project ID"), page.locator("#api-token")
    project.fill("no!")
    token.focus()
    expect(page.locator("#project-id-error")).to_contain_text("6 to 20 letters and digits")

    project.fill("project001")
    token.fill("not-a-token")
    page.locator("#save").click()
    expect(page.locator("#api-token-error")).to_contain_text("not a Clarity API token")
    expect(project).to_have_value("project001")
    expect(token).to_have_value("")

    token.fill(emulator_token("project001"))
    page.locator("#save").click()
    expect(page.locator("#state")).to_have_text("Not tested yet")
    last4 = emulator_token("project001")[-4:]
    expect(page.locator("#token-last4")).to_contain_text(last4)
    assert emulator_token("project001") not in page.content()
    assert agency.emulator.control.calls() == []


def test_a_test_burns_one_call_and_the_last_free_one_only_when_that_is_confirmed(
    site: Site,
) -> None:
    site.agency.connect("acme")
    page = site.sign_in("ada@agency.example", ACME)
    page.locator("#test-connection").click()
    expect(page.locator("#state")).to_have_text("Connected")
    expect(page.locator("#quota-left")).to_contain_text("1 of 10 used")
    assert len(site.agency.calls()) == 1

    while "free" in page.locator("#quota-left").inner_text():
        if page.locator("#quota-left").inner_text().endswith(" 1 free"):
            break
        used = len(site.agency.calls())
        page.locator("#test-connection").click()
        expect(page.locator("#quota-left")).to_contain_text(f"{used + 1} of 10 used")
    used = len(site.agency.calls())
    page.locator("#test-connection").click()
    expect(page.locator("#use-last-call")).to_be_visible()
    assert len(site.agency.calls()) == used

    page.locator("#use-last-call").click()
    expect(page.locator("#quota-left")).to_contain_text(", 0 free")
    assert len(site.agency.calls()) == used + 1


def test_a_spent_quota_says_nothing_about_the_token(site: Site) -> None:
    project = site.agency.connect("acme")
    site.agency.emulator.control.set_quota_used(project.project_id, used=10)
    page = site.sign_in("ada@agency.example", ACME)
    page.locator("#test-connection").click()
    expect(page.locator("#notice")).to_contain_text("token")
    expect(page.locator("#notice")).to_contain_text("quota", ignore_case=True)
    expect(page.locator("#state")).to_have_text("Quota spent")
    assert "invalid" not in page.content().lower().replace("aria-invalid", "").replace(
        "data-says-invalid", ""
    )


def test_pausing_and_resuming_is_one_switch(site: Site) -> None:
    site.agency.connect("acme")
    page = site.sign_in("ada@agency.example", ACME)
    switch = page.get_by_role("switch", name="Sync enabled")
    expect(switch).to_have_attribute("aria-checked", "true")
    switch.click()
    expect(page.locator("#state")).to_have_text("Paused")
    expect(page.locator("#sync-now")).to_be_disabled()
    switch.click()
    expect(page.locator("#sync-enabled")).to_have_attribute("aria-checked", "true")


def press(page: Page, selector: str, key: str) -> None:
    """Go with Tab to an element from wherever the focus is, and press a key there."""
    target = page.locator(selector)
    for _ in range(60):
        if target.evaluate("(element) => element === document.activeElement"):
            page.keyboard.press(key)
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{selector} cannot be reached with the Tab key")


def test_connecting_testing_and_pausing_need_no_mouse(site: Site) -> None:
    agency = site.agency
    add_business(agency.database, business_id="acme", name="Acme", now=agency.now)
    agency.emulator.control.put_projects([EmulatedProject("project001", 1)])
    page = site.sign_in("ada@agency.example", ACME)
    press(page, "#project-id", "Home")
    page.keyboard.type("project001")
    press(page, "#api-token", "Home")
    page.keyboard.insert_text(emulator_token("project001"))
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_have_text("Not tested yet")
    press(page, "#test-connection", "Enter")
    expect(page.locator("#state")).to_have_text("Connected")
    press(page, "#sync-enabled", "Space")
    expect(page.locator("#state")).to_have_text("Paused")


def test_a_refused_token_switches_the_sync_off_and_a_new_one_switches_it_on(site: Site) -> None:
    project = site.agency.connect("acme")
    site.agency.emulator.control.revoke_token(project.project_id)
    page = site.sign_in("ada@agency.example", ACME)
    page.locator("#test-connection").click()
    expect(page.locator("#state")).to_have_text("Token refused")

    page.locator("#api-token").fill(emulator_token(project.project_id, serial=2))
    page.locator("#save").click()
    expect(page.locator("#state")).to_have_text("Not tested yet")
    expect(page.locator("#sync-enabled")).to_have_attribute("aria-checked", "true")


def test_sync_now_is_followed_until_the_rows_are_in(site: Site, elsewhere: Elsewhere) -> None:
    site.agency.connect("acme")
    page = site.sign_in("ada@agency.example", ACME)
    page.locator("#sync-now").click()
    expect(page.locator("#sync-progress")).to_contain_text("Waiting")

    runs = elsewhere(lambda: work_on_requests(site))
    expect(page.locator("#sync-result")).to_contain_text("rows written", timeout=60_000)
    assert runs.result() == 1
    expect(page.locator("#sync-progress")).to_contain_text("Succeeded")
    expect(page.locator("#state")).to_have_text("Connected")
    assert len(site.agency.calls("acme")) == len(DEFAULT_COMBOS)

    page.goto(f"{site.url}{ACME}/history")
    expect(page.locator("[data-day='2026-11-01']")).to_have_attribute("data-word", "complete")
    expect(page.locator("#syncs")).to_contain_text("Sync now")


def test_after_a_disconnect_the_history_is_still_there(site: Site, elsewhere: Elsewhere) -> None:
    site.agency.connect("acme")
    elsewhere(site.agency.sync).result()
    page = site.sign_in("ada@agency.example", ACME)
    page.locator("#disconnect").click()
    page.locator("#confirm-disconnect").click()
    expect(page.locator("#state")).to_have_text("Not connected")
    expect(page.locator("#api-token")).to_have_value("")
    page.locator("#tab-history").click()
    expect(page.locator("[data-day='2026-11-01']")).to_have_attribute("data-word", "complete")


def test_a_client_sees_its_own_business_without_any_way_to_another(
    site: Site, elsewhere: Elsewhere
) -> None:
    site.agency.connect("acme")
    site.agency.connect("globex")
    elsewhere(site.agency.sync).result()
    page = site.sign_in("client@acme", "/client/clarity", business_id="acme")
    expect(page.get_by_role("heading", name="acme", exact=True)).to_be_visible()
    assert "globex" not in page.content()
    for path in ("/agency", "/agency/people", "/agency/businesses/globex/clarity"):
        reply = page.goto(site.url + path)
        assert reply is not None
        assert reply.status == 403
        assert "globex" not in page.content()


def test_a_session_that_is_over_leads_to_the_sign_in_page_and_back(site: Site) -> None:
    site.agency.connect("acme")
    page = site.sign_in("ada@agency.example", ACME)
    site.pass_time(timedelta(days=8))
    page.locator("#refresh").click()
    page.wait_for_url("**/login**")
    page.get_by_label("Login").fill("ada@agency.example")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"**{ACME}")
