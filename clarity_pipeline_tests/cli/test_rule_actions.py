"""`clarity rules actions|approve|reject|send|pause-all`, against a local Meta."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime
from typing import Any

import pytest

from clarity_pipeline.ad_platforms.meta_stand_in import StandInFault
from clarity_pipeline.cli.session import command_line_actor
from clarity_pipeline.settings import load_settings
from clarity_pipeline.store.vault import open_vault
from clarity_pipeline_tests.cli.conftest import Desk
from clarity_pipeline_tests.rule_agency import RuleAgency, open_rule_agency

PAUSE, ALERT = {"kind": "pause"}, {"kind": "alert"}
RAISE = {"kind": "adjust_budget", "percent": 20, "at_least": 10, "at_most": 1000}


@pytest.fixture
def agency(desk: Desk) -> Generator[RuleAgency]:
    """One whose clock is the command's, since an action is good for a day."""
    desk.succeed("init")
    with (
        desk.open_database() as database,
        open_rule_agency(database, open_vault(load_settings())) as opened,
    ):
        opened.now = datetime.now(UTC)
        desk.monkeypatch.setenv("CLARITY_META_API_URL", opened.base_url)
        yield opened


def shown(desk: Desk, *arguments: str) -> list[Any]:
    return desk.succeed("rules", "actions", *arguments, "--json").document["actions"]


def test_waiting_actions_are_shown_judged_and_sent(desk: Desk, agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(RAISE, name="More", needs_approval=True), [1, 2])
    waiting = shown(desk, "--status", "waiting")
    assert [(each["id"], each["entity_id"]) for each in waiting] == [(2, "meta:2"), (1, "meta:1")]
    assert (waiting[1]["budget_before"], waiting[1]["budget_after"]) == (100.0, 120.0)
    assert waiting[1]["decisions"] == ["1-0"]
    listed = desk.succeed("rules", "actions").out
    assert "adjust budget from 100 to 120" in listed
    assert "Action 1 is approved." in desk.succeed("rules", "approve", "1").out
    assert "Action 2 is rejected." in desk.succeed("rules", "reject", "2").out
    assert desk.succeed("rules", "send").out.startswith("1 done, 0 skipped, 0 failed")
    assert agency.meta.objects["1"].daily_budget == 12_000
    assert [each["status"] for each in shown(desk)] == ["rejected", "done"]
    entries = desk.succeed("audit", "--json").document["entries"]
    assert [(each["actor"], each["action"]) for each in entries] == [
        (command_line_actor(), "action_rejected"),
        (command_line_actor(), "action_approved"),
    ]


def test_one_that_is_judged_already_does_not_keep_others_waiting(
    desk: Desk, agency: RuleAgency
) -> None:
    agency.decide(agency.add_rule(PAUSE, needs_approval=True), [1, 2])
    desk.succeed("rules", "approve", "1")
    ran = desk.run("rules", "approve", "1", "2", "9", "--json")
    assert ran.code == 2
    assert ran.document["approved"] == [2]
    assert [(each["id"], each["code"]) for each in ran.document["refused"]] == [
        (1, "action_not_waiting"),
        (9, "unknown_action"),
    ]


def test_actions_are_found_by_rule_business_entity_and_status(
    desk: Desk, agency: RuleAgency
) -> None:
    agency.decide(agency.add_rule(PAUSE, name="One"), [1, 2])
    agency.decide(agency.add_rule(ALERT, name="Two"), [1])
    assert len(shown(desk)) == 3
    assert [each["kind"] for each in shown(desk, "--rule", "Two")] == ["alert"]
    assert len(shown(desk, "--business", "acme")) == 3
    assert len(shown(desk, "--business", "bolt")) == 0
    assert [each["entity_id"] for each in shown(desk, "--entity", "meta:2")] == ["meta:2"]
    assert len(shown(desk, "--limit", "1")) == 1
    assert "no such action" in desk.succeed("rules", "actions", "--status", "done").out
    assert desk.run("rules", "actions", "--status", "lost").code == 2
    assert desk.run("rules", "actions", "--rule", "Nine").code == 2


def test_the_switch_stops_everything_and_says_so(desk: Desk, agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(PAUSE), [1])
    said = desk.succeed("rules", "pause-all", "--note", "Black Friday").out
    assert said == "No rule sends anything.\n"
    assert "as before" in desk.succeed("rules", "pause-all").out
    assert desk.succeed("rules", "send").out.startswith("0 done")
    assert "All rules are paused by command line" in desk.succeed("rules", "actions").err
    assert desk.succeed("rules", "actions", "--json").document["is_paused"] is True
    desk.succeed("rules", "unpause-all")
    assert desk.succeed("rules", "send").out.startswith("1 done")
    actions = [each["action"] for each in desk.succeed("audit", "--json").document["entries"]]
    assert actions == ["rules_resumed", "rules_paused"]


def test_what_fails_is_told_by_the_exit_code(desk: Desk, agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(PAUSE), [1])
    agency.meta.add_fault(StandInFault(method="POST", code=100))
    ran = desk.run("rules", "send", "--json")
    assert (ran.code, ran.document["failed"]) == (1, 1)
    assert shown(desk)[0]["reason"] == "Meta refused the change (code 100)."


def test_the_address_of_a_webhook_is_not_shown(desk: Desk, agency: RuleAgency) -> None:
    url = "https://hooks.example.com/very-secret"
    agency.decide(agency.add_rule({"kind": "webhook", "url": url}), [1])
    shown(desk)
    desk.succeed("rules", "actions")
    assert "very-secret" not in desk.printed
