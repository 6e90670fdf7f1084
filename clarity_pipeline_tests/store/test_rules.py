"""Rules in the database: every change is a version, and of two editors one is told."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from clarity_pipeline.domain.errors import InvalidRule, RuleChanged, UnknownRule
from clarity_pipeline.domain.rules.documents import parse_rule
from clarity_pipeline.domain.rules.model import Rule
from clarity_pipeline.store import schema
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.rules import (
    StoredRule,
    Switch,
    archive_rule,
    find_rule,
    get_rule,
    get_switch,
    list_broken_rules,
    list_rules,
    rule_version,
    rule_versions,
    save_rule,
    set_switch,
)
from clarity_pipeline_tests.domain.rules.histories import condition, rule
from clarity_pipeline_tests.domain.rules.test_documents import FULL
from clarity_pipeline_tests.domain.rules.worlds import World
from clarity_pipeline_tests.factories import NOW
from clarity_pipeline_tests.store.races import all_at_once

LATER = NOW + timedelta(hours=1)


def save(
    database: Database, wanted: Rule, *, made_by: str = "ada", now: datetime = NOW, **more: Any
) -> StoredRule:
    return save_rule(database, wanted, made_by=made_by, now=now, **more)


def names(database: Database, **more: Any) -> list[str]:
    return [each.rule.name for each in list_rules(database, **more)]


def test_a_new_rule_is_read_back_as_it_was_stored(database: Database) -> None:
    full = parse_rule(FULL)
    stored = save(database, full, note="as agreed")
    assert (stored.version, stored.rule, stored.archived_at) == (1, full, None)
    assert (stored.created_at, stored.updated_at) == (NOW, NOW)
    assert get_rule(database, stored.id) == find_rule(database, full.name) == stored
    assert list_rules(database) == [stored]
    (version,) = rule_versions(database, stored.id)
    assert (version.rule, version.made_by, version.made_at) == (full, "ada", NOW)
    assert (version.rule_id, version.version, version.note) == (stored.id, 1, "as agreed")


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), threshold=st.floats(1e-300, 1e300))
def test_every_rule_survives_both_databases_to_the_last_bit(
    database: Database, seed: int, threshold: float
) -> None:
    wild = rule(condition("spend", ">", threshold), name="Wild")
    for each in (*World(seed).rules, wild):
        assert save(database, each).rule == each
        assert find_rule(database, each.name).rule == each


def test_a_changed_rule_is_the_next_version_and_the_earlier_one_stays(database: Database) -> None:
    first = save(database, rule(priority=1))
    second = save(database, rule(priority=2), made_by="bob", now=LATER, note="more")
    assert (second.id, second.version) == (first.id, 2)
    assert (second.created_at, second.updated_at) == (NOW, LATER)
    assert find_rule(database, "A rule") == second
    assert [
        (each.version, each.rule.priority, each.made_by, each.note)
        for each in rule_versions(database, first.id)
    ] == [(1, 1, "ada", None), (2, 2, "bob", "more")]
    assert rule_version(database, rule_id=first.id, version=1).rule.priority == 1


def test_a_rule_that_says_what_it_said_before_gets_no_new_version(database: Database) -> None:
    first = save(database, rule(condition(value=10)))
    again = save(database, rule(condition(value=10.0)), made_by="bob", now=LATER)
    assert again == first
    assert len(rule_versions(database, first.id)) == 1


def test_a_field_that_was_added_since_makes_no_new_version(database: Database) -> None:
    first = save(database, rule())
    document = first.rule.model_dump(mode="json", by_alias=True)
    del document["limits"]
    with database.transaction() as connection:
        connection.execute(update(schema.rules).values(document=document))
    assert save(database, rule()).version == 1


def test_a_rule_gets_another_name_by_its_number(database: Database) -> None:
    first = save(database, rule())
    renamed = save(database, rule(name="Better"), rule_id=first.id, now=LATER)
    assert (renamed.id, renamed.version) == (first.id, 2)
    assert names(database) == ["Better"]
    with pytest.raises(UnknownRule, match="'A rule'"):
        find_rule(database, "A rule")


def test_two_rules_in_use_have_two_names(database: Database) -> None:
    save(database, rule(name="One"))
    two = save(database, rule(name="Two"))
    with pytest.raises(InvalidRule, match="a rule 'One' already") as refused:
        save(database, rule(name="One", priority=7), rule_id=two.id)
    assert [field.path for field in refused.value.bad_fields] == ["name"]
    assert names(database) == ["One", "Two"]


def test_an_archived_rule_is_kept_and_its_name_is_free_again(database: Database) -> None:
    old = save(database, rule())
    assert archive_rule(database, old.id, now=LATER)
    assert not archive_rule(database, old.id, now=LATER + timedelta(hours=1))
    assert names(database) == []
    assert get_rule(database, old.id).archived_at == LATER
    new = save(database, rule(), now=LATER)
    assert new.id != old.id
    assert new.version == 1
    assert names(database, with_archived=True) == ["A rule", "A rule"]
    with pytest.raises(RuleChanged, match="archived"):
        save(database, rule(priority=9), rule_id=old.id)
    assert len(rule_versions(database, old.id)) == 1


def test_an_editor_who_has_not_seen_the_latest_version_is_told(database: Database) -> None:
    first = save(database, rule(priority=1))
    second = save(database, rule(priority=2), rule_id=first.id, expected_version=1)
    with pytest.raises(RuleChanged, match=r"was version 1 and is 2"):
        save(database, rule(priority=3), rule_id=first.id, expected_version=1)
    assert get_rule(database, first.id) == second
    assert save(database, rule(priority=3), rule_id=first.id, expected_version=2).version == 3


def test_a_new_rule_can_be_asked_not_to_replace_another(database: Database) -> None:
    save(database, rule(priority=1), expected_version=0)
    with pytest.raises(RuleChanged, match="already"):
        save(database, rule(priority=2), expected_version=0)
    assert find_rule(database, "A rule").rule.priority == 1
    with pytest.raises(RuleChanged, match="gone"):
        save(database, rule(name="Gone"), expected_version=4)


def test_of_many_editors_at_once_one_has_changed_the_version_they_all_saw(
    database_url: str, database: Database
) -> None:
    first = save(database, rule())
    openers = [Database.open(database_url) for _ in range(6)]

    def change(number: int) -> bool:
        try:
            save(openers[number], rule(priority=number), rule_id=first.id, expected_version=1)
        except RuleChanged:
            return False
        return True

    try:
        changed = all_at_once(change, range(6))
    finally:
        for opened in openers:
            opened.close()
    assert changed.count(True) == 1
    assert get_rule(database, first.id).rule.priority == changed.index(True)
    assert [each.version for each in rule_versions(database, first.id)] == [1, 2]


def test_many_who_store_one_new_name_at_once_store_one_rule(
    database_url: str, database: Database
) -> None:
    openers = [Database.open(database_url) for _ in range(6)]
    try:
        stored = all_at_once(
            lambda number: save(openers[number], rule(priority=number)), list(range(6))
        )
    finally:
        for opened in openers:
            opened.close()
    assert len({each.id for each in stored}) == 1
    assert sorted(each.version for each in stored) == [1, 2, 3, 4, 5, 6]
    assert names(database) == ["A rule"]


def test_rules_are_listed_by_priority_and_then_by_name(database: Database) -> None:
    for name, priority in (("b", 5), ("c", 9), ("a", 5)):
        save(database, rule(name=name, priority=priority))
    assert names(database) == ["c", "a", "b"]


def test_a_rule_that_is_not_there_is_named(database: Database) -> None:
    for asking, words in (
        (lambda: get_rule(database, 41), "no rule 41"),
        (lambda: find_rule(database, "No such"), "no rule 'No such'"),
        (lambda: rule_versions(database, 41), "no rule 41"),
        (lambda: rule_version(database, rule_id=41, version=2), "no rule 41 of version 2"),
        (lambda: save(database, rule(), rule_id=41), "no rule 41"),
        (lambda: archive_rule(database, 41, now=NOW), "no rule 41"),
    ):
        with pytest.raises(UnknownRule, match=words):
            asking()


def test_a_rule_that_cannot_be_used_any_more_does_not_stop_the_others(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    broken, _ = save(database, rule(name="Broken")), save(database, rule(name="Sound"))
    with database.transaction() as connection:
        connection.execute(
            update(schema.rules)
            .where(schema.rules.c.id == broken.id)
            .values(document={"name": "Broken"})
        )
    with caplog.at_level(logging.ERROR):
        assert names(database) == ["Sound"]
    assert f"rule {broken.id} version 1 is left out" in caplog.text
    (left_out,) = list_broken_rules(database)
    assert (left_out.id, left_out.version, left_out.name) == (broken.id, 1, "Broken")
    with pytest.raises(InvalidRule):
        get_rule(database, broken.id)
    assert save(database, rule(name="Broken")).version == 2
    assert names(database) == ["Broken", "Sound"]
    assert list_broken_rules(database) == []


def test_the_switch_is_off_until_somebody_pauses_every_rule(database: Database) -> None:
    assert get_switch(database) == Switch(is_paused=False)
    assert not set_switch(database, is_paused=False, changed_by="ada", now=NOW)
    assert set_switch(database, is_paused=True, changed_by="ada", now=NOW, note="a feed is wrong")
    assert not set_switch(database, is_paused=True, changed_by="bob", now=LATER)
    assert get_switch(database) == Switch(
        is_paused=True, changed_by="ada", changed_at=NOW, note="a feed is wrong"
    )
    assert set_switch(database, is_paused=False, changed_by="bob", now=LATER)
    assert get_switch(database) == Switch(is_paused=False, changed_by="bob", changed_at=LATER)
