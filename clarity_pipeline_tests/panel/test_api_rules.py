"""Rules through the API: the agency changes them, a client reads what is about its business."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from clarity_pipeline.domain.access import KeyScope
from clarity_pipeline.domain.rules.documents import parse_rule, rule_json_schema
from clarity_pipeline.domain.rules.model import Level
from clarity_pipeline.store.audit_log import list_audit
from clarity_pipeline.store.businesses import set_client_sees_rules
from clarity_pipeline_tests.agency import DAY
from clarity_pipeline_tests.domain.rules.histories import condition
from clarity_pipeline_tests.panel.conftest import Panel
from clarity_pipeline_tests.rule_worlds import arm, evaluate, put_ad
from clarity_pipeline_tests.stored_days import store_day, sums

RULES = "/api/agency/rules"
RAGE = condition("clarity_rage_click_rate", ">", 0.3, key="rage")
DOCUMENT: dict[str, Any] = {
    "name": "Rage",
    "scope": {"kind": "all"},
    "level": "business",
    "conditions": RAGE,
    "actions": [{"kind": "alert"}],
}
SECRET = "https://hooks.example/only-we-know-this"


def two_clients(panel: Panel) -> None:
    """Both with visitors who rage in half of their sessions, and an ad each."""
    for business_id in ("acme", "globex"):
        panel.agency.connect(business_id)
        for back in range(7):
            day = DAY - timedelta(days=back)
            store_day(panel.agency.database, day, sums(), business_id=business_id)
        put_ad(
            panel.agency.database,
            f"ad-{business_id}",
            business_id=business_id,
            name=f"Ad of {business_id}",
        )


def arm_for_both(panel: Panel) -> None:
    arm(
        panel.agency.database,
        RAGE,
        name="Pause on rage",
        scope={"kind": "some", "businesses": ["acme", "globex"]},
        overrides=[{"business": "globex", "condition": "rage", "value": 0.4321}],
        filters={"ids": ["meta:ad-acme", "meta:ad-globex"]},
        level="ad",
        actions=[{"kind": "pause"}, {"kind": "webhook", "url": SECRET}],
        needs_approval=True,
        limits={"breaker_share": 1.0},
    )
    evaluate(panel.agency.database, DAY, now=panel.agency.now)


def problem(reply: Any, status: int) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    return reply.json()


def test_a_rule_is_added_changed_armed_and_archived_and_every_step_is_on_record(
    panel: Panel,
) -> None:
    program = panel.key()
    added = program.post(RULES, json=DOCUMENT, params={"note": "Try it"})
    assert added.status_code == 201
    assert (added.json()["version"], added.json()["rule"]["status"]) == (1, "draft")
    address = f"{RULES}/{added.json()['id']}"

    changed = {**DOCUMENT, "conditions": {**RAGE, "value": 0.5}}
    reply = program.put(address, json=changed, params={"expected_version": 1})
    assert reply.json()["version"] == 2
    assert program.put(address, json=changed, params={"expected_version": 2}).json()["version"] == 2
    late = program.put(address, json=DOCUMENT, params={"expected_version": 1})
    assert problem(late, 409)["code"] == "rule_changed"

    until = str(panel.agency.now.date() + timedelta(days=3))
    shadow = {"status": "shadow", "shadow_until": until, "expected_version": 2}
    assert program.put(f"{address}/status", json=shadow).json()["rule"]["shadow_until"] == until
    refused = program.put(f"{address}/status", json={"status": "shadow"})
    assert problem(refused, 422)["errors"][0]["pointer"] == "body/shadow_until"
    assert program.put(f"{address}/status", json={"status": "armed"}).json()["version"] == 4

    versions = program.get(f"{address}/versions").json()["versions"]
    assert [each["version"] for each in versions] == [4, 3, 2, 1]
    assert versions[2]["differences"] == [
        {"path": "conditions.value", "before": "0.3", "after": "0.5"}
    ]
    assert versions[3]["note"] == "Try it"
    assert program.post(f"{address}/archive").json() == {"changed": True}
    assert program.post(f"{address}/archive").json() == {"changed": False}
    assert program.get(RULES).json() == {"rules": []}
    (archived,) = program.get(RULES, params={"archived": True}).json()["rules"]
    assert archived["archived_at"] is not None
    words = [(each.detail or {})["change"] for each in list_audit(panel.agency.database)]
    assert [each.split(";")[0].split(":")[0] for each in reversed(words)] == [
        "created",
        "conditions.value",
        f"in shadow until {until}",
        "armed",
        "archived",
    ]


def test_what_cannot_be_a_rule_is_refused_with_every_place(panel: Panel) -> None:
    program = panel.key()
    wrong = {**DOCUMENT, "level": "moon", "conditions": {"all": [{**RAGE, "value": "much"}]}}
    told = problem(program.post(RULES, json=wrong), 422)
    assert told["code"] == "invalid_rule"
    assert [each["pointer"] for each in told["errors"]] == [
        "body/level",
        "body/conditions/all/0/value",
    ]
    for body in (b"", b"[]", b"\xff", b"{", b'{"name": NaN}'):
        assert problem(program.post(RULES, content=body), 422)["code"] == "invalid_rule"
    nobody = {**DOCUMENT, "scope": {"kind": "one", "business": "nobody"}}
    assert problem(program.post(RULES, json=nobody), 422)["errors"][0]["pointer"] == (
        "body/scope/business"
    )
    assert problem(program.get(f"{RULES}/7"), 404)["code"] == "unknown_rule"
    assert problem(program.get(f"{RULES}/seven"), 404)["code"] == "not_found"
    assert program.get(RULES).json() == {"rules": []}


def test_a_key_that_may_only_read_changes_nothing(panel: Panel) -> None:
    reader = panel.key(scope=KeyScope.READ)
    assert problem(reader.post(RULES, json=DOCUMENT), 403)["code"] == "not_allowed"
    assert reader.get(RULES).status_code == 200
    assert reader.get(f"{RULES}/schema").json() == rule_json_schema()


def test_a_preview_says_what_would_fire_and_stores_nothing(panel: Panel) -> None:
    two_clients(panel)
    program = panel.key()
    found = program.post(f"{RULES}/preview", json=DOCUMENT).json()
    assert (found["entities"], found["fired"], found["as_of"]) == (2, 2, str(DAY))
    first = found["decisions"][0]
    assert first["sentence"].startswith("'Rage' fires for business 'acme'")
    assert (first["findings"][0]["numerator"], first["findings"][0]["denominator"]) == (5, 10)
    assert program.get(RULES).json() == {"rules": []}
    assert program.get(f"{RULES}/decisions").json()["decisions"] == []


def test_decisions_are_found_filtered_paged_and_explained(panel: Panel) -> None:
    two_clients(panel)
    arm_for_both(panel)
    program = panel.key()
    found = program.get(f"{RULES}/decisions", params={"answer": "fired", "limit": 1}).json()
    assert len(found["decisions"]) == 1
    older = program.get(f"{RULES}/decisions", params={"before": found["next_before"]}).json()
    both = [*found["decisions"], *older["decisions"]]
    assert sorted(each["business_id"] for each in both) == ["acme", "globex"]
    assert older["next_before"] is None
    own = program.get(f"{RULES}/decisions", params={"business_id": "acme"}).json()["decisions"]
    assert [each["entity_name"] for each in own] == ["Ad of acme"]
    told = program.get(f"{RULES}/decisions/{own[0]['address']}").json()
    assert (told["answer"], told["mode"], told["level"]) == ("fired", "acting", "ad")
    assert told["findings"][0]["threshold"] == 0.3
    for address in ("1-99", "nonsense"):
        reply = program.get(f"{RULES}/decisions/{address}")
        assert problem(reply, 404)["code"] == "unknown_decision"
    (listed,) = program.get(RULES).json()["rules"]
    assert (listed["last_evaluation"]["fired"], listed["waiting_actions"]) == (2, 2)


def test_an_action_is_judged_once_and_a_webhooks_address_is_not_told(panel: Panel) -> None:
    two_clients(panel)
    arm_for_both(panel)
    program = panel.key()
    listed = program.get(f"{RULES}/actions")
    assert SECRET not in listed.text
    assert {each["what"] for each in listed.json()["actions"]} == {
        "Pause it",
        "Webhook to hooks.example",
    }
    waiting = program.get(f"{RULES}/actions", params={"status": "waiting"}).json()["actions"]
    first, second = (f"{RULES}/actions/{each['id']}" for each in waiting)
    assert program.post(f"{first}/approve").json()["status"] == "pending"
    assert program.post(f"{second}/reject").json()["judged_by"].startswith("key")
    assert problem(program.post(f"{first}/reject"), 409)["code"] == "action_not_waiting"
    assert problem(program.post(f"{RULES}/actions/99/approve"), 404)["code"] == "unknown_action"


def test_whoever_may_only_read_is_told_no_more_of_a_webhook_than_its_host(panel: Panel) -> None:
    def document(key: int) -> dict[str, Any]:
        webhook = {"kind": "webhook", "url": f"{SECRET}?key={key}"}
        return {**DOCUMENT, "priority": key, "actions": [{"kind": "alert"}, webhook]}

    writer, reader = panel.key(), panel.key(scope=KeyScope.READ, name="reader")
    rule_id = writer.post(RULES, json=document(1)).json()["id"]
    writer.put(f"{RULES}/{rule_id}", json=document(2), params={"expected_version": 1})
    for address in (RULES, f"{RULES}/{rule_id}", f"{RULES}/{rule_id}/versions"):
        assert f"{SECRET}?key=2" in writer.get(address).text
        told = reader.get(address)
        assert told.status_code == 200
        assert "only-we-know" not in told.text
        assert "key=" not in told.text
        assert "https://hooks.example/" in told.text
    (latest, _) = reader.get(f"{RULES}/{rule_id}/versions").json()["versions"]
    assert [each["path"] for each in latest["differences"]] == ["priority"]


def test_the_switch_pauses_all_rules_and_says_who_did(panel: Panel) -> None:
    program = panel.key()
    assert program.get(f"{RULES}/switch").json()["is_paused"] is False
    sent = {"is_paused": True, "note": "Black Friday"}
    switch = program.put(f"{RULES}/switch", json=sent).json()
    assert (switch["is_paused"], switch["note"]) == (True, "Black Friday")
    assert switch["changed_by"].startswith("key")
    assert program.put(f"{RULES}/switch", json={"is_paused": False}).json()["is_paused"] is False


def test_a_backtest_is_a_table_too(panel: Panel) -> None:
    two_clients(panel)
    program = panel.key()
    rule_id = program.post(RULES, json=DOCUMENT).json()["id"]
    asked = {"from": str(DAY - timedelta(days=2)), "to": str(DAY), "business_id": "acme"}
    found = program.get(f"{RULES}/{rule_id}/backtest", params=asked).json()
    assert (found["days_fired"], [each["entity_id"] for each in found["fired"]]) == (3, ["acme"])
    table = program.get(f"{RULES}/{rule_id}/backtest", params={**asked, "format": "csv"})
    assert table.headers["content-type"].startswith("text/csv")
    assert len(table.text.splitlines()) == 4
    tomorrow = {"to": str(panel.agency.now.date())}
    reply = program.get(f"{RULES}/{rule_id}/backtest", params=tomorrow)
    assert problem(reply, 422)["code"] == "invalid_day"


# Clients


@pytest.fixture
def shown(panel: Panel) -> Panel:
    """A panel whose client "acme" sees rules, and "globex" does not."""
    two_clients(panel)
    arm_for_both(panel)
    set_client_sees_rules(panel.agency.database, business_id="acme", sees=True)
    return panel


def paths_of_client(program: TestClient, address: str) -> list[str]:
    """What a client can read of rules, as pages and through the API."""
    return [
        "/client/rules",
        f"/client/rules/decisions/{address}",
        "/api/client/rules",
        "/api/client/rules/decisions",
        f"/api/client/rules/decisions/{address}",
    ]


def address_of(panel: Panel, business_id: str) -> str:
    query = {"business_id": business_id}
    program = panel.key(name=f"looks for {business_id}")
    return program.get(f"{RULES}/decisions", params=query).json()["decisions"][0]["address"]


def test_a_client_reads_what_is_about_its_business_and_nothing_of_any_other(shown: Panel) -> None:
    own, foreign = address_of(shown, "acme"), address_of(shown, "globex")
    person = shown.client_of("acme")
    for path in paths_of_client(person, own):
        reply = person.get(path)
        assert reply.status_code == 200, path
        for secret in ("globex", "0.4321", "hooks.example", SECRET):
            assert secret not in reply.text, (path, secret)
    (rule,) = person.get("/api/client/rules").json()["rules"]
    assert rule["conditions"] == ["Rage click rate yesterday: above 0.3"]
    assert rule["actions"] == ["Pause it", "Webhook of the agency"]
    for path in paths_of_client(person, foreign):
        if foreign in path:
            there, nowhere = person.get(path), person.get(path.replace(foreign, "999-0"))
            assert there.status_code == nowhere.status_code == 404
            assert there.text.replace(foreign, "999-0") == nowhere.text


def test_a_client_whose_agency_keeps_its_rules_to_itself_reads_none(shown: Panel) -> None:
    person, own = shown.client_of("globex"), address_of(shown, "globex")
    for path in paths_of_client(person, own):
        assert person.get(path).status_code == 404, path
    assert problem(person.get("/api/client/rules"), 404)["code"] == "rules_not_shown"
    assert "/client/rules" not in person.get("/client/clarity").text
    sent = {"client_sees_rules": True}
    program = shown.key()
    told = program.put("/api/agency/businesses/globex/rules/visibility", json=sent).json()
    assert told == {"business_id": "globex", "client_sees_rules": True, "changed": True}
    for path in paths_of_client(person, own):
        assert person.get(path).status_code == 200, path
    assert "/client/rules" in person.get("/client/clarity").text


def test_a_client_sees_its_own_threshold_and_no_draft(shown: Panel) -> None:
    set_client_sees_rules(shown.agency.database, business_id="globex", sees=True)
    draft = parse_rule({**DOCUMENT, "name": "Not yet"})
    shown.key().post(RULES, content=draft.model_dump_json(by_alias=True))
    (rule,) = shown.client_of("globex").get("/api/client/rules").json()["rules"]
    assert rule["conditions"] == ["Rage click rate yesterday: above 0.4321"]
    assert Level(rule["level"]) is Level.AD
