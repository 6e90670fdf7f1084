"""The pages about rules as a browser without scripts gets them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from clarity_pipeline.domain.rules.documents import rule_json_schema
from clarity_pipeline.domain.rules.metrics import METRICS
from clarity_pipeline.domain.rules.model import Level, RuleStatus
from clarity_pipeline.store.businesses import get_business
from clarity_pipeline.store.rule_actions import list_actions
from clarity_pipeline.store.rules import get_rule, get_switch, list_rules
from clarity_pipeline_tests.agency import DAY
from clarity_pipeline_tests.domain.rules.histories import condition
from clarity_pipeline_tests.panel.conftest import Panel
from clarity_pipeline_tests.panel.reading import Page
from clarity_pipeline_tests.rule_worlds import arm, evaluate, put_ad
from clarity_pipeline_tests.stored_days import store_day, sums

RAGE = condition("clarity_rage_click_rate", ">", 0.3)
DOCUMENT: dict[str, Any] = {
    "name": "Rage",
    "scope": {"kind": "all"},
    "level": "campaign",
    "conditions": {"all": [RAGE]},
    "actions": [{"kind": "alert"}],
}
YAML = """\
name: Rage
scope: {kind: all}
level: campaign
conditions: {metric: clarity_rage_click_rate, operator: ">", value: 0.3, window: {kind: yesterday}}
actions: [{kind: alert}]
"""


@pytest.fixture
def person(panel: Panel) -> TestClient:
    panel.agency.connect("acme")
    store_day(panel.agency.database, DAY, sums())
    put_ad(panel.agency.database, "spring", level=Level.CAMPAIGN, name="Spring")
    return panel.agency_person()


def read(person: TestClient, path: str, *, status: int = 200) -> Page:
    reply = person.get(path)
    assert reply.status_code == status, path
    return Page(reply.text)


def post(person: TestClient, path: str, **data: Any) -> Page:
    reply = person.post(path, data=data, follow_redirects=True)
    page = Page(reply.text)
    assert reply.status_code < 500
    return page


@pytest.mark.parametrize("text", [json.dumps(DOCUMENT), YAML])
def test_a_rule_is_saved_out_of_text_without_a_script(
    panel: Panel, person: TestClient, text: str
) -> None:
    page = post(person, "/agency/rules", document=text, note="First")
    assert "Saved" in page.text("notice")
    assert page.text("rule-status") == "Draft"
    (stored,) = list_rules(panel.agency.database)
    assert (stored.rule.name, stored.rule.status) == ("Rage", RuleStatus.DRAFT)


def test_the_form_is_given_the_schema_and_with_it_every_metric(person: TestClient) -> None:
    page = read(person, "/agency/rules/new")
    schema = json.loads(page.attributes("rule-builder")["data-schema"])
    assert schema == rule_json_schema()
    # The order of the fields is that of the form.
    assert list(schema["properties"])[:2] == ["name", "scope"]
    metrics = schema["$defs"]["Condition"]["properties"]["metric"]["anyOf"]
    assert {each["const"] for each in metrics if "const" in each} == set(METRICS)


def test_a_refused_rule_keeps_what_was_written_and_says_where_it_is_wrong(
    panel: Panel, person: TestClient
) -> None:
    wrong = {**DOCUMENT, "level": "moon", "conditions": {**RAGE, "value": None}}
    reply = person.post("/agency/rules", data={"document": json.dumps(wrong), "note": "Why not"})
    assert reply.status_code == 422
    page = Page(reply.text)
    assert json.loads(page.text("rule-document")) == wrong
    assert page.attributes("note")["value"] == "Why not"
    told = json.loads(page.attributes("rule-builder")["data-refusals"])
    assert [each["path"] for each in told] == ["level", "conditions.value"]
    assert "level" in page.text("refused")
    assert list_rules(panel.agency.database) == []
    for text in ("", "[]", "---\n---\n", f"{YAML}---\n{YAML.replace('Rage', 'More')}", "a: *b"):
        assert person.post("/agency/rules", data={"document": text}).status_code == 422


def test_a_preview_is_beside_the_form_and_a_script_gets_it_alone(person: TestClient) -> None:
    sent = {"document": json.dumps(DOCUMENT)}
    whole = Page(person.post("/agency/rules/preview", data=sent).text)
    assert whole.text("would-fire").startswith("1 of 1 campaigns would fire")
    assert json.loads(whole.text("rule-document")) == DOCUMENT
    part = person.post("/agency/rules/preview", data=sent, headers={"HX-Request": "true"})
    assert "<html" not in part.text
    assert "fires for campaign 'Spring'" in Page(part.text).text("previewed").replace("&#39;", "'")
    refused = person.post(
        "/agency/rules/preview",
        data={"document": json.dumps({**DOCUMENT, "name": ""})},
        headers={"HX-Request": "true"},
    )
    assert json.loads(Page(refused.text).attributes("previewed")["data-refusals"]) == [
        {"path": "name", "reason": "it is empty"}
    ]


def test_of_two_editors_the_later_is_told_and_loses_nothing(
    panel: Panel, person: TestClient
) -> None:
    post(person, "/agency/rules", document=json.dumps(DOCUMENT))
    first = json.dumps({**DOCUMENT, "priority": 1})
    later = json.dumps({**DOCUMENT, "priority": 2})
    post(person, "/agency/rules/1", document=first, expected_version=1)
    reply = person.post("/agency/rules/1", data={"document": later, "expected_version": 1})
    assert reply.status_code == 409
    page = Page(reply.text)
    assert "Somebody else has changed" in page.text("refused")
    assert page.text("rule-document") == later
    assert get_rule(panel.agency.database, 1).rule.priority == 1
    taken = person.post("/agency/rules", data={"document": later})
    assert taken.status_code == 409


def test_a_rule_is_armed_put_in_shadow_switched_off_and_archived(
    panel: Panel, person: TestClient
) -> None:
    post(person, "/agency/rules", document=json.dumps(DOCUMENT))
    until = panel.agency.now.date() + timedelta(days=3)
    for version, (status, more, label) in enumerate(
        [
            ("armed", {"shadow_until": ""}, "Armed"),
            ("shadow", {"shadow_until": str(until)}, "Shadow"),
            ("off", {"shadow_until": str(until)}, "Off"),
        ],
        start=1,
    ):
        page = post(
            person, "/agency/rules/1/status", status=status, expected_version=version, **more
        )
        assert page.text("rule-status") == label
    over = {"status": "shadow", "expected_version": 4, "shadow_until": "2020-01-01"}
    reply = person.post("/agency/rules/1/status", data=over)
    assert reply.status_code == 422
    assert "is over already" in Page(reply.text).text("refused")
    page = read(person, "/agency/rules/1/versions")
    assert "armed" in page.text("version-2")
    assert "Archived" in post(person, "/agency/rules/1/archive").text("notice")
    assert "There is no rule yet" in read(person, "/agency/rules").text("content")
    assert "Rage" in read(person, "/agency/rules?archived=true").text("rules")


def test_the_switch_says_who_turned_it_and_stops_at_once(panel: Panel, person: TestClient) -> None:
    page = post(person, "/agency/rules/switch", paused="true", note="Sale")
    assert "All rules are paused" in page.text("switch")
    assert "Paused by ada@agency.example" in page.text("switch")
    assert "Sale" in page.text("switch")
    assert get_switch(panel.agency.database).is_paused
    assert "Rules may act" in post(person, "/agency/rules/switch", paused="false").text("switch")
    assert not get_switch(panel.agency.database).is_paused


def test_decisions_and_actions_are_listed_explained_and_judged(
    panel: Panel, person: TestClient
) -> None:
    database = panel.agency.database
    actions = [{"kind": "pause"}, {"kind": "webhook", "url": "https://hooks.example/secret"}]
    arm(database, RAGE, name="Rage", level="campaign", actions=actions, needs_approval=True)
    evaluate(database, DAY, now=panel.agency.now)
    listed = read(person, "/agency/rules/decisions?rule=1&answer=fired&since=&until=&business=")
    assert "Spring" in listed.text("decisions")
    none = read(person, f"/agency/rules/decisions?until={DAY - timedelta(days=1)}")
    assert "No decision is like that" in none.text("content")
    decision = read(person, "/agency/rules/decisions/1-0")
    assert decision.text("sentence").startswith("'Rage' fires for campaign 'Spring'")
    assert "above 0.3" in decision.text("conditions")
    read(person, "/agency/rules/decisions/1-7", status=404)
    page = read(person, "/agency/rules/actions?status=waiting")
    assert "Pause it" in page.text("actions")
    assert "Rage" in read(person, "/agency/rules").text("rules")
    done = post(person, "/agency/rules/actions/1/approve")
    assert "Approved" in done.text("notice")
    again = person.post("/agency/rules/actions/1/approve")
    assert again.status_code == 409
    every = person.get("/agency/rules/actions").text
    assert "Webhook to hooks.example" in every
    assert "secret" not in every
    assert list_actions(database)[-1].judged_by == "ada@agency.example"


def test_a_backtest_is_a_chart_a_table_and_two_files(person: TestClient) -> None:
    post(person, "/agency/rules", document=json.dumps(DOCUMENT))
    assert "At most 400 days" in read(person, "/agency/rules/1/backtest").text("content")
    asked = f"start={DAY - timedelta(days=2)}&end={DAY}"
    page = read(person, f"/agency/rules/1/backtest?{asked}")
    assert "on 1 of 3 days" in page.text("summary")
    (canvas,) = page.with_attribute("data-backtest")
    assert json.loads(canvas["data-backtest"])["fired"] == [0, 0, 1]
    assert "Spring" in page.text("fired")
    days = person.get(f"/agency/rules/1/backtest-days.csv?{asked}").text
    assert [line.split(",")[1] for line in days.splitlines()] == ["fired", "0", "0", "1"]
    entities = person.get(f"/agency/rules/1/backtest-entities.csv?{asked}").text
    assert "meta:spring,Spring,acme,1" in entities
    swapped = read(person, f"/agency/rules/1/backtest?start={DAY}&end=2026-10-01", status=422)
    assert swapped.text("refused")


def test_the_agency_decides_whether_a_client_sees_rules(panel: Panel, person: TestClient) -> None:
    shown = post(person, "/agency/rules/visibility", business="acme", shown="true")
    assert "acme" in shown.text("clients")
    assert get_business(panel.agency.database, "acme").client_sees_rules
    client = panel.client_of("acme")
    assert "No rule is about this business" in read(client, "/client/rules").text("content")
    post(person, "/agency/rules/visibility", business="acme", shown="false")
    read(client, "/client/rules", status=404)
    unknown = person.post("/agency/rules/visibility", data={"business": "nobody", "shown": "true"})
    assert unknown.status_code == 404
