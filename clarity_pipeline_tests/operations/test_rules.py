"""Changing rules: what is refused, what is kept on record, and what a file does to stored rules."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from clarity_pipeline.domain.audit import AuditAction
from clarity_pipeline.domain.errors import InvalidRule, RuleChanged, UnknownBusiness, UnknownRule
from clarity_pipeline.domain.rules.model import Rule, RuleStatus
from clarity_pipeline.domain.rules.yaml_documents import read_rules, write_rules
from clarity_pipeline.operations.rules import (
    AppliedDocument,
    Editor,
    Outcome,
    RuleChange,
    apply_documents,
    archive,
    change_rule,
    rules_to_export,
    set_all_paused,
    set_status,
    show_rules_to_client,
)
from clarity_pipeline.store import schema
from clarity_pipeline.store.audit_log import AuditEntry, list_audit
from clarity_pipeline.store.businesses import add_business, client_sees_rules
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.rules import find_rule, get_switch, list_rules, rule_versions
from clarity_pipeline_tests.domain.rules.histories import condition, rule
from clarity_pipeline_tests.factories import NOW

SECRET = "https://hooks.example/secret"
HOOK = {"kind": "webhook", "url": SECRET}
ADA = Editor(name="ada", remote_address="192.0.2.1", can_sign_webhooks=True)
UNSIGNED = Editor(name="ada", can_sign_webhooks=False)
YESTERDAY = NOW.date() - timedelta(days=1)


@pytest.fixture
def database(database: Database) -> Database:
    """With one business, acme."""
    add_business(database, business_id="acme", name="Acme", now=NOW)
    return database


def change(database: Database, wanted: Rule, *, by: Editor = ADA, **more: Any) -> RuleChange:
    return change_rule(database, wanted, by=by, now=NOW, **more)


def apply(database: Database, text: str, *, by: Editor = ADA, **more: Any) -> list[AppliedDocument]:
    return apply_documents(database, read_rules(text, source="f"), by=by, now=NOW, **more)


def outcomes(applied: list[AppliedDocument]) -> list[str]:
    return [each.outcome.value for each in applied]


def refusal(applied: AppliedDocument) -> str:
    assert isinstance(applied.error, InvalidRule)
    return str(applied.error)


def entries(database: Database) -> list[AuditEntry]:
    """The oldest first."""
    return list_audit(database)[::-1]


def told(database: Database) -> list[object]:
    return [(each.detail or {}).get("change") for each in entries(database)]


# One rule


def test_a_rule_is_created_changed_and_then_left_alone(database: Database) -> None:
    created = change(database, rule(condition(value=0.05)), note="at last")
    assert (created.outcome, created.differences) == (Outcome.CREATED, ())
    assert created.stored == find_rule(database, "A rule")
    changed = change(database, rule(condition(value=0.08)))
    assert changed.outcome is Outcome.CHANGED
    assert [str(each) for each in changed.differences] == ["conditions.value: 0.05 -> 0.08"]
    assert changed.stored is not None
    unchanged = change(database, rule(condition(value=0.08)))
    assert unchanged == RuleChange(Outcome.UNCHANGED, changed.stored, ())
    first, second = rule_versions(database, changed.stored.id)
    assert (first.made_by, first.note, second.note) == ("ada", "at last", None)


def test_every_change_is_on_record_and_nothing_else_is(database: Database) -> None:
    made = change(database, rule(condition(value=0.05), scope={"kind": "one", "business": "acme"}))
    assert made.stored is not None
    change(database, made.stored.rule)
    for value in (0.08, 0.08):
        change(database, rule(condition(value=value), status="armed"), rule_id=made.stored.id)
    for _ in range(2):
        archive(database, made.stored.id, by=ADA, now=NOW)
    assert told(database) == [
        "created; a draft",
        'armed; scope.kind: "one" -> "all"; scope.business: "acme" -> nothing; '
        "conditions.value: 0.05 -> 0.08",
        "archived",
    ]
    first, second, third = entries(database)
    assert first.detail == {"rule": "A rule", "version": 1, "change": "created; a draft"}
    assert (first.actor, first.action) == ("ada", AuditAction.RULE_CHANGED)
    assert (first.business_id, first.remote_address) == ("acme", "192.0.2.1")
    assert (second.business_id, (second.detail or {})["version"]) == (None, 2)
    assert (third.detail or {})["version"] == 2


def test_no_address_of_a_webhook_comes_on_record(database: Database) -> None:
    change(database, rule(actions=[HOOK]))
    change(database, rule(actions=[HOOK | {"url": f"{SECRET}/2"}]))
    change(database, rule(actions=[{"kind": "alert"}]))
    change(database, rule(actions=[{"kind": "alert"}, HOOK]))
    assert len(entries(database)) == 4
    assert "hooks.example" not in repr(entries(database))


def test_a_change_of_very_much_is_told_in_short(database: Database) -> None:
    def overridden(value: float) -> Rule:
        return rule(
            condition(key="k"),
            overrides=[{"business": f"b{n}", "condition": "k", "value": value} for n in range(100)],
        )

    for number in range(100):
        add_business(database, business_id=f"b{number}", name="B", now=NOW)
    change(database, overridden(1))
    change(database, overridden(2))
    said = told(database)[-1]
    assert isinstance(said, str)
    assert said.startswith("overrides[b0, k].value: 1 -> 2; ")
    assert said.endswith("; 80 more")


def test_a_business_that_there_is_none_of_is_refused_by_name(database: Database) -> None:
    for more, path in (
        ({"scope": {"kind": "one", "business": "nobody"}}, "scope.business"),
        ({"scope": {"kind": "some", "businesses": ["acme", "nobody"]}}, "scope.businesses[1]"),
        (
            {"overrides": [{"business": "nobody", "condition": "k", "value": 1}]},
            "overrides[0].business",
        ),
    ):
        wanted = rule(condition(key="k"), **more)
        for dry_run in (True, False):
            with pytest.raises(InvalidRule, match="'nobody'") as refused:
                change(database, wanted, dry_run=dry_run)
            assert [each.path for each in refused.value.bad_fields] == [path]
    assert list_rules(database) == []
    assert entries(database) == []


def test_a_rule_that_calls_a_webhook_is_armed_only_where_that_can_be_signed(
    database: Database,
) -> None:
    for status in ("draft", "off"):
        change(database, rule(actions=[{"kind": "alert"}, HOOK], status=status), by=UNSIGNED)
    armed = rule(actions=[{"kind": "alert"}, HOOK], status="armed")
    with pytest.raises(InvalidRule, match="CLARITY_WEBHOOK_SECRET") as refused:
        change(database, armed, by=UNSIGNED)
    assert [each.path for each in refused.value.bad_fields] == ["actions[1]"]
    stored = find_rule(database, "A rule")
    assert stored.rule.status is RuleStatus.OFF
    with pytest.raises(InvalidRule, match="CLARITY_WEBHOOK_SECRET"):
        set_status(database, stored.id, RuleStatus.ARMED, by=UNSIGNED, now=NOW)
    assert change(database, armed).outcome is Outcome.CHANGED
    # What is armed already is not refused for being looked at again.
    assert change(database, armed, by=UNSIGNED).outcome is Outcome.UNCHANGED
    change(database, rule(name="No webhook", status="armed"), by=UNSIGNED)


def test_of_two_editors_the_second_is_told(database: Database) -> None:
    made = change(database, rule(priority=1))
    assert made.stored is not None
    change(database, rule(priority=2))
    for wanted in (rule(priority=3), rule(priority=2)):
        with pytest.raises(RuleChanged):
            change(database, wanted, rule_id=made.stored.id, expected_version=1)
    with pytest.raises(RuleChanged):
        change(database, rule(priority=2), expected_version=0)
    assert len(entries(database)) == 2


def test_an_archived_rule_is_not_changed(database: Database) -> None:
    made = change(database, rule())
    assert made.stored is not None
    archive(database, made.stored.id, by=ADA, now=NOW)
    with pytest.raises(RuleChanged, match="archived"):
        change(database, rule(), rule_id=made.stored.id)
    with pytest.raises(RuleChanged, match="archived"):
        set_status(database, made.stored.id, RuleStatus.ARMED, by=ADA, now=NOW)
    assert change(database, rule()).outcome is Outcome.CREATED


def test_a_rule_that_cannot_be_read_any_more_can_be_replaced(database: Database) -> None:
    change(database, rule())
    with database.transaction() as connection:
        connection.execute(update(schema.rules).values(document={"name": "A rule"}))
    replaced = change(database, rule(priority=7))
    assert replaced.outcome is Outcome.CHANGED
    assert replaced.stored == find_rule(database, "A rule")
    assert find_rule(database, "A rule").version == 2
    assert told(database)[-1] == "replaced"


# Its status


def test_a_rule_goes_through_every_status(database: Database) -> None:
    made = change(database, rule())
    assert made.stored is not None

    def go(status: RuleStatus, until: date | None = None) -> Outcome:
        stored = find_rule(database, "A rule")
        return set_status(database, stored.id, status, shadow_until=until, by=ADA, now=NOW).outcome

    assert go(RuleStatus.SHADOW, YESTERDAY) is Outcome.CHANGED
    assert go(RuleStatus.SHADOW, date(2026, 12, 1)) is Outcome.CHANGED
    assert go(RuleStatus.ARMED) is Outcome.CHANGED
    assert go(RuleStatus.ARMED) is Outcome.UNCHANGED
    assert go(RuleStatus.OFF) is Outcome.CHANGED
    assert go(RuleStatus.DRAFT) is Outcome.CHANGED
    assert told(database)[1:] == [
        "in shadow until 2026-11-01",
        "in shadow until 2026-12-01",
        "armed",
        "switched off",
        "a draft",
    ]
    assert find_rule(database, "A rule").rule == made.stored.rule


def test_a_shadow_needs_a_day_that_is_not_over(database: Database) -> None:
    made = change(database, rule())
    assert made.stored is not None
    for until in (None, YESTERDAY - timedelta(days=1)):
        with pytest.raises(InvalidRule, match="shadow"):
            set_status(
                database, made.stored.id, RuleStatus.SHADOW, shadow_until=until, by=ADA, now=NOW
            )
    with pytest.raises(InvalidRule, match="shadow"):
        set_status(
            database, made.stored.id, RuleStatus.ARMED, shadow_until=YESTERDAY, by=ADA, now=NOW
        )
    with pytest.raises(UnknownRule):
        set_status(database, 41, RuleStatus.ARMED, by=ADA, now=NOW)
    assert find_rule(database, "A rule").version == 1


# Files


def test_what_is_exported_is_unchanged_when_it_is_applied(database: Database) -> None:
    for each in (
        rule(name="b", priority=5, status="armed", actions=[HOOK]),
        # It was over long ago, and is no news.
        rule(name="a", status="shadow", shadow_until="2020-01-01"),
        rule(condition(max_age_days=None), name="c"),
    ):
        change(database, each)
    text = write_rules(each.rule for each in rules_to_export(database, []))
    assert outcomes(apply(database, text, by=UNSIGNED)) == ["unchanged"] * 3
    again = rules_to_export(database, ["c", "b", "a", "b"])
    assert [each.rule.name for each in again] == ["a", "b", "c"]
    assert write_rules(each.rule for each in again) == text
    assert len(entries(database)) == 3
    with pytest.raises(UnknownRule, match="'d'"):
        rules_to_export(database, ["a", "d"])


def test_one_bad_rule_stops_no_other_and_leaves_nothing_behind(database: Database) -> None:
    good = write_rules([rule(name="One")])
    text = "---\n".join(
        [
            good,
            good.replace("One", "Two").replace("level: ad", "level: moon"),
            "name: [Three\n",
            write_rules([rule(name="Four", scope={"kind": "one", "business": "nobody"})]),
            good,
            write_rules([rule(name="Five", actions=[HOOK], status="armed")]),
            write_rules([rule(name="Six")]),
        ]
    )
    applied = apply(database, text, by=UNSIGNED)
    assert outcomes(applied) == ["created", *["refused"] * 5, "created"]
    assert [each.name for each in applied] == ["One", "Two", None, "Four", "One", "Five", "Six"]
    assert "level: " in refusal(applied[1])
    assert "'nobody'" in refusal(applied[3])
    assert f"a rule 'One' at {applied[0].source} already" in refusal(applied[4])
    assert [each.rule.name for each in list_rules(database)] == ["One", "Six"]
    assert len(entries(database)) == 2


def test_a_dry_run_says_the_same_and_stores_nothing(database: Database) -> None:
    change(database, rule(name="One"))
    text = write_rules([rule(name="One", priority=3), rule(name="Two"), rule(name="One")])
    dry = apply(database, text, dry_run=True)
    assert [each.rule.name for each in list_rules(database)] == ["One"]
    assert find_rule(database, "One").version == 1
    assert len(entries(database)) == 1
    real = apply(database, text)
    assert outcomes(dry) == outcomes(real) == ["changed", "created", "refused"]
    assert [each.change and each.change.differences for each in dry] == [
        each.change and each.change.differences for each in real
    ]
    assert dry[1].change == RuleChange(Outcome.CREATED, None, ())


def test_a_file_that_says_no_status_leaves_it_to_the_rule(database: Database) -> None:
    def text(value: float) -> str:
        written = write_rules([rule(condition(value=value))])
        return written.replace("status: draft\n", "")

    (created,) = apply(database, text(1))
    assert created.outcome is Outcome.CREATED
    stored = find_rule(database, "A rule")
    assert stored.rule.status is RuleStatus.DRAFT
    set_status(database, stored.id, RuleStatus.ARMED, by=ADA, now=NOW)
    (unchanged,) = apply(database, text(1))
    assert unchanged.outcome is Outcome.UNCHANGED
    (changed,) = apply(database, text(2))
    assert changed.change is not None
    assert [str(each) for each in changed.change.differences] == ["conditions.value: 1 -> 2"]
    assert find_rule(database, "A rule").rule.status is RuleStatus.ARMED
    set_status(database, stored.id, RuleStatus.SHADOW, shadow_until=YESTERDAY, by=ADA, now=NOW)
    apply(database, text(3))
    assert find_rule(database, "A rule").rule.shadow_until == YESTERDAY
    apply(database, write_rules([rule()]))
    assert find_rule(database, "A rule").rule.status is RuleStatus.DRAFT


# All of them


def test_pausing_every_rule_is_on_record(database: Database) -> None:
    assert set_all_paused(database, is_paused=True, by=ADA, now=NOW, note="a feed is wrong")
    assert not set_all_paused(database, is_paused=True, by=ADA, now=NOW)
    assert get_switch(database).changed_by == "ada"
    assert set_all_paused(database, is_paused=False, by=ADA, now=NOW)
    paused, resumed = entries(database)
    assert (paused.action, paused.detail) == (
        AuditAction.RULES_PAUSED,
        {"note": "a feed is wrong"},
    )
    assert (resumed.action, resumed.detail) == (AuditAction.RULES_RESUMED, None)
    assert {paused.remote_address, resumed.remote_address} == {"192.0.2.1"}


def test_a_client_sees_its_rules_only_once_the_agency_says_so(database: Database) -> None:
    def show(sees: bool, business_id: str = "acme") -> bool:
        return show_rules_to_client(database, business_id=business_id, sees=sees, by=ADA, now=NOW)

    assert not client_sees_rules(database, "acme")
    assert [show(True), show(True)] == [True, False]
    assert client_sees_rules(database, "acme")
    add_business(database, business_id="bolt", name="Bolt", now=NOW)
    assert not client_sees_rules(database, "bolt")
    assert [show(False), show(False)] == [True, False]
    assert not client_sees_rules(database, "acme")
    for asking in (lambda: show(True, "nobody"), lambda: client_sees_rules(database, "nobody")):
        with pytest.raises(UnknownBusiness):
            asking()
    assert [(each.action, each.business_id) for each in entries(database)] == [
        (AuditAction.RULES_SHOWN, "acme"),
        (AuditAction.RULES_HIDDEN, "acme"),
    ]
