"""Getting in, and out again."""

from __future__ import annotations

from playwright.sync_api import expect

from clarity_pipeline_tests.browser.conftest import PASSWORD, Site, serious_violations


def test_a_client_signs_in_with_the_keyboard_alone_and_lands_at_its_business(site: Site) -> None:
    site.agency.connect("acme")
    site.add_person("client@acme", "acme")
    page = site.open("/login")
    page.get_by_label("Login").focus()
    page.keyboard.type("client@acme")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="acme")).to_be_visible()


def test_a_wrong_password_is_said_and_the_login_is_kept(site: Site) -> None:
    site.add_person("ada@agency.example")
    page = site.open("/login")
    page.get_by_label("Login").fill("ada@agency.example")
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("do not belong together")
    expect(page.get_by_label("Login")).to_have_value("ada@agency.example")


def test_axe_has_nothing_serious_against_the_sign_in_page(site: Site) -> None:
    for dark in (False, True):
        assert serious_violations(site.open("/login", dark=dark)) == []
