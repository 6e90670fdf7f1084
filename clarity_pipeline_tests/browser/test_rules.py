"""Rules built, armed and followed up by hand, as a media buyer clicks and types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

from playwright.sync_api import Page, expect

from clarity_pipeline.domain.rules.actions import ActionStatus
from clarity_pipeline.domain.rules.model import Level, RuleStatus
from clarity_pipeline.store.rule_actions import list_actions
from clarity_pipeline.store.rules import list_rules
from clarity_pipeline_tests.agency import DAY
from clarity_pipeline_tests.browser.conftest import Site
from clarity_pipeline_tests.domain.rules.histories import condition
from clarity_pipeline_tests.rule_worlds import arm, evaluate, put_ad
from clarity_pipeline_tests.stored_days import store_day, sums

Elsewhere = Callable[[Callable[[], object]], Future[object]]

RAGE = condition("clarity_rage_click_rate", ">", 0.3)


def a_week_of_rage(site: Site, *, until: int = 0) -> None:
    """A business with two campaigns, whose visitors rage in nine of ten sessions."""
    site.agency.connect("acme", sessions_per_day=20)
    for back in range(until, 7):
        store_day(site.agency.database, DAY - timedelta(days=back), sums(rage_clicks=9))
    for name in ("Spring", "Autumn"):
        put_ad(site.agency.database, name.lower(), level=Level.CAMPAIGN, name=name)


def document(page: Page) -> dict[str, Any]:
    return json.loads(page.locator("#rule-document").input_value())


def at(page: Page, path: str) -> Any:
    return page.locator(f'[id="field-{path}"]')


def test_the_first_example_is_built_seen_armed_and_its_decision_found_after_a_sync(
    site: Site, elsewhere: Elsewhere
) -> None:
    a_week_of_rage(site, until=1)
    page = site.sign_in("ada@agency.example", "/agency/rules")
    page.get_by_role("link", name="New rule").click()

    page.get_by_label("Name", exact=True).fill("Pause spend on rage clicks")
    page.get_by_label("Metric").select_option(label="Rage click rate")
    page.get_by_label("Operator").select_option(">")
    page.get_by_label("Value").fill("0.2")
    page.get_by_label("Window").select_option(label="Last days")
    page.get_by_label("Days", exact=True).fill("7")
    page.locator('[id="field-conditions.all[0]-more"]').click()
    page.get_by_label("Min sessions").fill("20")
    page.get_by_label("Action 1", exact=True).select_option(label="Pause")
    page.get_by_label("Needs approval").check()
    expect(page.locator("#would-fire")).to_contain_text("2 of 2 campaigns would fire")
    expect(page.locator("#previewed")).to_contain_text("fires for campaign 'Autumn'")
    assert list_rules(site.agency.database) == []

    page.get_by_role("button", name="Save as draft").click()
    expect(page.locator("#notice")).to_contain_text("Saved")
    expect(page.locator("#rule-status")).to_have_text("Draft")
    expect(page.locator("#conditions")).to_contain_text("Rage click rate in the last 7 days")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Arm").click()
    expect(page.locator("#rule-status")).to_have_text("Armed")

    elsewhere(site.agency.sync).result()
    page.get_by_role("link", name="Rules", exact=True).first.click()
    row = page.locator('tr[data-rule="Pause spend on rage clicks"]')
    expect(row).to_contain_text("2 of 2 fired")
    row.get_by_role("link", name="2").first.click()
    expect(page.locator("#decisions tbody tr")).to_have_count(2)
    page.locator("#decisions tbody tr").first.get_by_role("link", name="why").click()
    expect(page.locator("#sentence")).to_contain_text("'Pause spend on rage clicks' fires for")
    expect(page.locator("tr.deciding")).to_contain_text("7 of 7")


def test_an_action_waits_until_somebody_has_approved_it(site: Site) -> None:
    a_week_of_rage(site)
    database = site.agency.database
    arm(database, RAGE, actions=[{"kind": "pause"}], level="campaign", needs_approval=True)
    evaluate(database, DAY, now=site.agency.now)
    page = site.sign_in("ada@agency.example", "/agency/rules")
    page.locator("#rules").get_by_role("link", name="2").last.click()
    expect(page.locator("#actions tbody tr")).to_have_count(2)
    page.get_by_role("button", name="Approve: Pause it, Autumn").click()
    expect(page.locator("#notice")).to_contain_text("Approved")
    page.get_by_role("button", name="Reject: Pause it, Spring").click()
    expect(page.locator("#notice")).to_contain_text("Rejected")
    found = {each.entity_id: (each.status, each.judged_by) for each in list_actions(database)}
    assert found == {
        "meta:autumn": (ActionStatus.PENDING, "ada@agency.example"),
        "meta:spring": (ActionStatus.REJECTED, "ada@agency.example"),
    }


def test_what_is_wrong_is_said_where_it_is_and_nothing_is_stored(site: Site) -> None:
    page = site.sign_in("ada@agency.example", "/agency/rules/new")
    page.get_by_label("Value").fill("much")
    page.get_by_label("Days", exact=True).fill("500")
    page.get_by_label("Scope").select_option(label="One business")
    page.get_by_label("Business").fill("nobody")
    page.get_by_role("button", name="Save as draft").click()
    expect(page.locator("#refused")).to_be_visible()
    for path, words in {
        "name": "it is empty",
        "conditions.all[0].value": "'much' should be a valid number",
        "conditions.all[0].window.days": "500 should be less than or equal to 400",
    }.items():
        expect(page.locator(f'[id="field-{path}-error"]')).to_have_text(words)
        assert at(page, path).get_attribute("aria-invalid") == "true"
    expect(page.get_by_label("Value")).to_have_value("much")

    page.get_by_label("Name", exact=True).fill("A rule")
    page.get_by_label("Value").fill("0.2")
    page.get_by_label("Days", exact=True).fill("7")
    expect(page.locator('[id="field-scope.business-error"]')).to_contain_text(
        "no business 'nobody'"
    )
    expect(page.locator('[id="field-name-error"]')).to_be_empty()
    assert list_rules(site.agency.database) == []


def test_groups_are_nested_turned_and_taken_apart(site: Site) -> None:
    page = site.sign_in("ada@agency.example", "/agency/rules/new")
    page.get_by_label("Value").fill("1")
    page.get_by_role("button", name="Add a group").click()
    page.get_by_role("button", name="Add a condition").nth(0).click()
    at(page, "conditions.all[1].any[1].metric").select_option(label="Further sum …")
    page.get_by_label("Further sum: its name").fill("ad.carts")
    at(page, "conditions.all[1].any[1].operator").select_option("between")
    at(page, "conditions.all[1].any[1].value").fill("1")
    at(page, "conditions.all[1].any[1].to").fill("5")
    at(page, "conditions.all[1].any[0]").select_option("not")
    made = document(page)["conditions"]["all"]
    assert list(made[1]) == ["any"]
    assert list(made[1]["any"][0]) == ["not"]
    assert made[1]["any"][1]["metric"] == "ad.carts"
    assert (made[1]["any"][1]["value"], made[1]["any"][1]["to"]) == (1, 5)

    # An upper end makes no sense beside another operator, and goes with its field.
    at(page, "conditions.all[1].any[1].operator").select_option("<")
    assert "to" not in document(page)["conditions"]["all"][1]["any"][1]
    at(page, "conditions").select_option("any")
    page.get_by_role("button", name="Remove conditions.any[0]", exact=True).click()
    assert list(document(page)["conditions"]) == ["any"]
    assert len(document(page)["conditions"]["any"]) == 1


def test_a_rule_is_built_with_the_keyboard_alone(site: Site) -> None:
    a_week_of_rage(site)
    page = site.sign_in("ada@agency.example", "/agency/rules/new")
    page.get_by_label("Name", exact=True).focus()
    page.keyboard.type("Typed")
    tab_to(page, "field-conditions.all[0].operator")
    # What is chosen redraws the form, and the focus stays where it was.
    page.keyboard.press("ArrowDown")
    tab_to(page, "field-conditions.all[0].value")
    page.keyboard.type("0.2")
    tab_to(page, "save-rule")
    page.keyboard.press("Enter")
    page.wait_for_url("**/agency/rules/1*")
    (stored,) = list_rules(site.agency.database)
    assert (stored.rule.name, stored.rule.status) == ("Typed", RuleStatus.DRAFT)


def test_text_and_form_are_one_rule_and_yaml_is_taken_too(site: Site) -> None:
    page = site.sign_in("ada@agency.example", "/agency/rules/new")
    page.locator("#as-text summary").click()
    changed = document(page) | {"name": "Out of text", "level": "business"}
    page.locator("#rule-document").fill(json.dumps(changed))
    page.get_by_label("Why").focus()
    expect(page.get_by_label("Name", exact=True)).to_have_value("Out of text")
    page.locator("#rule-document").fill(
        "name: Out of YAML\nscope: {kind: all}\nlevel: business\n"
        "conditions: {metric: clarity_sessions, operator: <, value: 5, window: {kind: yesterday}}\n"
        "actions: [{kind: alert}]\n"
    )
    page.get_by_label("Why").focus()
    expect(page.locator("#text-note")).to_contain_text("This is not JSON")
    page.get_by_role("button", name="Save as draft").click()
    expect(page.locator("#rule-status")).to_have_text("Draft")
    assert [each.rule.name for each in list_rules(site.agency.database)] == ["Out of YAML"]


def tab_to(page: Page, identity: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == identity:
            return
    raise AssertionError(f"{identity} is not reached by the keyboard")
