"""Every page in both themes, on a desk and on a phone: for everybody, and no wider than it is."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from clarity_pipeline.domain.access import KeyScope, secret_hash
from clarity_pipeline.operations.access import make_setup_code
from clarity_pipeline.store import connections
from clarity_pipeline.store.api_keys import add_key
from clarity_pipeline.store.businesses import add_business
from clarity_pipeline_tests.agency import DAY, EmulatorServer, open_agency
from clarity_pipeline_tests.browser.conftest import Site, serious_violations, served
from clarity_pipeline_tests.stored_days import store_day, store_pages, sums

LONG: Final = "https://shop.example/" + "word" * 60 + "?" + "a" * 200
SETTLED_MS: Final = 5_000
LOGIN: Final = "ada.of.a.rather.long.name@the-agency-of-all-agencies.example"

OF_THE_AGENCY: Final = {
    "overview": "/agency",
    "overview without a match": "/agency?q=nobody",
    "add a business": "/agency/businesses/add",
    "connect many": "/agency/connect-many",
    "people": "/agency/people",
    "API keys": "/agency/keys",
    "audit log": "/agency/audit",
    "account": "/account",
    "connected": "/agency/businesses/acme/clarity",
    "token refused": "/agency/businesses/globex/clarity",
    "not connected": "/agency/businesses/umbrella/clarity",
    "data": "/agency/businesses/acme/clarity/data?days=7",
    "no data": "/agency/businesses/globex/clarity/data?days=7",
    "history": "/agency/businesses/acme/clarity/history",
    "disconnect": "/agency/businesses/acme/clarity/disconnect",
    "purge": "/agency/businesses/umbrella/clarity/purge",
    "error": "/agency/nothing/here",
}


@dataclass
class Furnished:
    """A panel with something on every page, somebody who is signed in, and a stranger."""

    site: Site
    signed_in: Page
    stranger: Page


@pytest.fixture(scope="module")
def furnished(
    browser: Browser,
    migrated_sqlite: Path,
    emulator_server: EmulatorServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[Furnished]:
    home = tmp_path_factory.mktemp("every_page")
    shutil.copyfile(migrated_sqlite, home / "clarity.db")
    with (
        pytest.MonkeyPatch.context() as environment,
        open_agency(
            database_url=f"sqlite:///{home / 'clarity.db'}",
            emulator=emulator_server,
            home=home / "home",
            environment=environment,
        ) as agency,
        served(agency) as url,
    ):
        site = Site(url, agency, browser)
        database = agency.database
        agency.connect("acme", sessions_per_day=20)
        refused = agency.connect("globex")
        agency.emulator.control.revoke_token(refused.project_id)
        add_business(database, business_id="umbrella", name="Umbrella", now=agency.now)
        for business_id in ("acme", "umbrella"):
            for back in (0, 2, 3, 4):
                store_day(database, DAY - timedelta(days=back), sums(), business_id=business_id)
        store_pages(database, DAY, {LONG: sums(), "https://shop.example/": sums()})
        site.add_person("client@acme", "acme")
        add_key(
            database,
            name="Reports of the night",
            key_hash=secret_hash("a key"),
            key_last4="akey",
            scope=KeyScope.READ,
            business_id="acme",
            created_by=LOGIN,
            now=agency.now,
        )
        page = site.sign_in(LOGIN)
        for business_id in ("acme", "globex"):
            page.goto(f"{url}/agency/businesses/{business_id}/clarity")
            page.locator("#test-connection").click()
            expect(page.locator("#last-test .badge")).to_be_visible()
        expect(page.locator("#state")).to_have_text("Token refused")
        assert not connections.get_connection(database, "globex").is_enabled
        yield Furnished(site, page, site.open("/login"))
        for opened in site.pages:
            opened.context.close()


def faults(page: Page) -> list[str]:
    """What is wrong with a page in any theme and width, and where."""
    found: list[str] = []
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme, reduced_motion="reduce")
            try:
                # A chart follows the window a moment later.
                page.wait_for_function(
                    "(width) => document.documentElement.scrollWidth <= width",
                    arg=width,
                    timeout=SETTLED_MS,
                )
            except PlaywrightTimeout:
                wide = page.evaluate("() => document.documentElement.scrollWidth")
                found.append(f"{width} px, {theme}: {wide} px wide")
            found += [f"{width} px, {theme}: {each}" for each in serious_violations(page)]
    return found


@pytest.mark.parametrize("name", OF_THE_AGENCY)
def test_a_page_is_for_everybody(furnished: Furnished, name: str) -> None:
    page = furnished.signed_in
    reply = page.goto(furnished.site.url + OF_THE_AGENCY[name])
    assert reply is not None
    assert reply.status == (404 if name == "error" else 200)
    assert page.url.endswith(OF_THE_AGENCY[name])
    assert faults(page) == []


@pytest.mark.parametrize("path", ["/login", "/setup"])
def test_a_page_before_signing_in_is_for_everybody(furnished: Furnished, path: str) -> None:
    page = furnished.stranger
    page.goto(furnished.site.url + path)
    assert faults(page) == []


def test_the_first_page_of_all_is_for_everybody(site: Site) -> None:
    code = make_setup_code(site.agency.database, now=site.agency.now)
    page = site.open(f"/setup#{code}")
    expect(page.get_by_label("Set-up code")).to_be_visible()
    assert faults(page) == []
