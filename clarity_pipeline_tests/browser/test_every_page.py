"""Every page in both themes, on a desk and on a phone: for everybody, and no wider than it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from clarity_pipeline.domain.access import KeyScope, secret_hash
from clarity_pipeline.domain.rules.model import Level
from clarity_pipeline.domain.sync_jobs import Trigger
from clarity_pipeline.operations.access import make_setup_code
from clarity_pipeline.store import connections
from clarity_pipeline.store.api_keys import add_key
from clarity_pipeline.store.businesses import add_business, set_client_sees_rules
from clarity_pipeline.store.connections import record_synced, set_enabled
from clarity_pipeline.store.rules import save_rule, set_switch
from clarity_pipeline.store.sync_jobs import start_jobs
from clarity_pipeline_tests.agency import DAY, Agency, EmulatorServer, open_agency
from clarity_pipeline_tests.browser.conftest import Site, serious_violations, served
from clarity_pipeline_tests.domain.rules.histories import condition
from clarity_pipeline_tests.rule_worlds import arm, evaluate, put_ad
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
    "rules": "/agency/rules",
    "new rule": "/agency/rules/new",
    "rule": "/agency/rules/1",
    "change a rule": "/agency/rules/1/edit",
    "versions of a rule": "/agency/rules/1/versions",
    "backtest": f"/agency/rules/1/backtest?start={DAY - timedelta(days=4)}&end={DAY}",
    "decisions": "/agency/rules/decisions",
    "decision": "/agency/rules/decisions/1-0",
    "actions": "/agency/rules/actions",
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
        put_rule(agency)
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


def put_rule(agency: Agency) -> None:
    """A rule with all that a page can show of one, and an evaluation that wants something."""
    database = agency.database
    put_ad(database, "campaign", level=Level.CAMPAIGN, name="A campaign of " + "w" * 80)
    conditions = {
        "all": [
            condition("clarity_rage_click_rate", ">", 0.1, key="rage", leave=0.05),
            {"not": {"any": [condition("ad.carts", "between", 1, to=5)]}},
            condition("clarity_dead_click_rate", "<", 0.1, confidence=0.95),
        ]
    }
    actions = [{"kind": "pause"}, {"kind": "alert", "message": "Look at " + "a" * 200}]
    stored = arm(
        database,
        {"any": [conditions, condition("clarity_rage_click_rate", ">", 0.1)]},
        name="A rule whose name is as long as names can be, " + "x" * 34,
        level="campaign",
        actions=actions,
        needs_approval=True,
        overrides=[{"business": "acme", "condition": "rage", "value": 0.2}],
    )
    evaluate(database, DAY, now=agency.now)
    calmer = stored.rule.model_copy(update={"priority": 7})
    save_rule(database, calmer, rule_id=stored.id, made_by=LOGIN, now=agency.now, note="Calmer")


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


def test_what_a_client_sees_of_rules_is_for_everybody(furnished: Furnished) -> None:
    site = furnished.site
    set_client_sees_rules(site.agency.database, business_id="acme", sees=True)
    page = site.sign_in("second.client@acme", "/client/rules", business_id="acme")
    expect(page.locator("#tab-rules")).to_have_text("Rules")
    assert faults(page) == []
    page.locator("#decisions").get_by_role("link").first.click()
    expect(page.locator("#sentence")).to_be_visible()
    assert faults(page) == []


def test_a_rule_can_be_read_while_its_preview_is_on_the_way(furnished: Furnished) -> None:
    page = furnished.signed_in
    page.route("**/preview", lambda _: None)
    page.goto(furnished.site.url + OF_THE_AGENCY["change a rule"])
    expect(page.locator('#preview[aria-busy="true"]')).to_be_visible()
    assert faults(page) == []
    page.unroute_all()


def test_the_list_of_rules_is_for_everybody_while_all_are_paused(furnished: Furnished) -> None:
    database, page = furnished.site.agency.database, furnished.signed_in
    now = furnished.site.agency.now
    set_switch(database, is_paused=True, changed_by=LOGIN, note="Checkout is down", now=now)
    page.goto(furnished.site.url + OF_THE_AGENCY["rules"])
    expect(page.locator(".switch.paused")).to_contain_text("Checkout is down")
    assert faults(page) == []
    set_switch(database, is_paused=False, changed_by=LOGIN, now=now)


def is_synced_just_now(agency: Agency) -> None:
    start_jobs(
        agency.database,
        business_ids=["acme"],
        day=DAY,
        trigger=Trigger.SCHEDULE,
        dagster_run_id="run",
        now=agency.now,
    )


def is_paused(agency: Agency) -> None:
    set_enabled(agency.database, business_id="acme", enabled=False, now=agency.now)


def is_late(agency: Agency) -> None:
    record_synced(agency.database, business_id="acme", at=agency.now)
    agency.move_to(agency.now + timedelta(days=1, hours=2))


@pytest.mark.parametrize(
    ("bring_about", "words"),
    [
        (is_synced_just_now, "0 of 4 combinations are in"),
        (is_paused, "Paused"),
        (is_late, "Late"),
    ],
)
def test_a_connection_is_for_everybody_however_it_stands(
    site: Site, bring_about: Callable[[Agency], None], words: str
) -> None:
    site.agency.connect("acme")
    bring_about(site.agency)
    page = site.sign_in(LOGIN, "/agency/businesses/acme/clarity")
    expect(page.locator("main")).to_contain_text(words)
    assert faults(page) == []
