"""The outbox of actions: each is there once, and has one owner at a time."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest

from clarity_pipeline.domain.errors import ActionNotWaiting, UnknownAction
from clarity_pipeline.domain.rules.actions import ActionKind, ActionStatus
from clarity_pipeline.domain.rules.delivery import OutboxAction
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.rule_actions import (
    Settlement,
    approve,
    claim_next,
    expire_actions,
    failed_actions,
    get_action,
    has_open_actions,
    insert_actions,
    keep_detail,
    last_actions,
    list_actions,
    older_actions,
    recent_actions,
    reject,
    rest_account,
    settle,
)
from clarity_pipeline.store.rules import set_switch
from clarity_pipeline.store.vault import TokenVault
from clarity_pipeline_tests.factories import DAY, NOW
from clarity_pipeline_tests.rule_agency import RuleAgency, open_rule_agency
from clarity_pipeline_tests.store.races import all_at_once

MINUTE, HOUR, ONE_DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
PAUSE, ALERT = {"kind": "pause"}, {"kind": "alert"}
DONE = Settlement(status=ActionStatus.DONE)


@pytest.fixture
def agency(database: Database, vault: TokenVault) -> Generator[RuleAgency]:
    with open_rule_agency(database, vault) as opened:
        yield opened


def claim(agency: RuleAgency, *, now: datetime = NOW) -> OutboxAction:
    claimed = claim_next(agency.database, now=now)
    assert claimed is not None
    return claimed


def test_an_action_is_written_once_however_often_it_is_called_for(agency: RuleAgency) -> None:
    plan = agency.decide(agency.add_rule(PAUSE, ALERT), [1, 2])
    assert [each.idempotency_key for each in agency.actions] == [
        "rule:1:2026-11-01:pause:meta:1",
        "rule:1:2026-11-01:pause:meta:2",
        "rule:1:2026-11-01:alert:acme",
    ]
    more = replace(plan.actions[0], idempotency_key="another")
    with agency.database.transaction() as connection:
        again = insert_actions(
            connection, evaluation_id=1, actions=[*plan.actions, more], now=NOW + HOUR
        )
    assert again == 1
    assert [each.created_at for each in agency.actions] == [NOW, NOW, NOW, NOW + HOUR]


def test_an_evaluation_that_calls_for_nothing_writes_nothing(agency: RuleAgency) -> None:
    with agency.database.transaction() as connection:
        assert insert_actions(connection, evaluation_id=1, actions=[], now=NOW) == 0
    assert not has_open_actions(agency.database)


def test_an_action_is_read_as_it_was_planned(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(PAUSE, needs_approval=True), [2])
    [action] = agency.actions
    assert action == get_action(agency.database, action.id)
    assert (action.kind, action.status, action.day) == (
        ActionKind.PAUSE,
        ActionStatus.WAITING,
        DAY,
    )
    assert (action.entity_id, action.account_id, action.business_id) == (
        "meta:2",
        "meta:act_1",
        "acme",
    )
    assert (action.action, action.positions, action.attempts) == ({"kind": "pause"}, [1], 0)
    assert has_open_actions(agency.database)
    with pytest.raises(UnknownAction):
        get_action(agency.database, 99)


def test_longer_lists_go_on_where_they_ended(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(PAUSE), [1, 2, 3])
    first = list_actions(agency.database, limit=2)
    assert [each.id for each in first] == [3, 2]
    assert [each.id for each in list_actions(agency.database, before=first[-1].id)] == [1]


# Claims.


def test_each_is_claimed_once_and_the_oldest_first(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(PAUSE), [1, 2])
    assert [claim(agency).id, claim(agency).id] == [1, 2]
    assert claim_next(agency.database, now=NOW) is None
    claimed = get_action(agency.database, 1)
    assert (claimed.attempts, claimed.last_attempt_at) == (1, NOW)


def test_many_at_once_claim_different_ones(agency: RuleAgency, database_url: str) -> None:
    agency.decide(agency.add_rule(PAUSE), range(1, 7))
    openers = [Database.open(database_url) for _ in range(4)]
    try:
        claimed = all_at_once(
            lambda opened: [claim_next(opened, now=NOW) for _ in range(2)], openers
        )
    finally:
        for opened in openers:
            opened.close()
    ids = [each.id for some in claimed for each in some if each is not None]
    assert sorted(ids) == [1, 2, 3, 4, 5, 6]


def test_a_claim_that_nobody_settles_ends_after_ten_minutes(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(PAUSE), [1])
    claim(agency)
    assert claim_next(agency.database, now=NOW + 10 * MINUTE - timedelta(seconds=1)) is None
    assert claim(agency, now=NOW + 10 * MINUTE).attempts == 2


def test_whoever_lost_a_claim_keeps_and_settles_nothing(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(PAUSE), [1])
    lost = claim(agency)
    held = claim(agency, now=NOW + 10 * MINUTE)
    assert not keep_detail(agency.database, lost, {"entity_ids": []})
    assert not settle(agency.database, lost, DONE, now=NOW)
    assert keep_detail(agency.database, held, {**held.detail, "before": 1})
    assert settle(agency.database, held, DONE, now=NOW + 11 * MINUTE)
    assert not settle(agency.database, held, DONE, now=NOW + 12 * MINUTE)
    action = get_action(agency.database, 1)
    assert (action.status, action.done_at) == (ActionStatus.DONE, NOW + 11 * MINUTE)
    assert action.detail == {**held.detail, "before": 1}


def test_what_is_to_be_tried_later_is_claimed_later(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(PAUSE), [1])
    later = Settlement(status=ActionStatus.PENDING, error="No.", next_attempt_at=NOW + HOUR)
    assert settle(agency.database, claim(agency), later, now=NOW)
    assert claim_next(agency.database, now=NOW + 59 * MINUTE) is None
    again = claim(agency, now=NOW + HOUR)
    assert (again.attempts, again.last_error, again.done_at) == (2, "No.", None)


def test_nothing_is_claimed_while_the_switch_pauses_all(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(PAUSE), [1])
    set_switch(agency.database, is_paused=True, changed_by="ada", now=NOW)
    assert claim_next(agency.database, now=NOW) is None
    set_switch(agency.database, is_paused=False, changed_by="ada", now=NOW)
    assert claim(agency).id == 1


def test_an_account_rests_and_no_other_does(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(PAUSE, ALERT), [1, 5])
    rest_account(agency.database, "meta:act_1", until=NOW + HOUR)
    assert [claim(agency).entity_id, claim(agency).entity_id] == ["meta:5", None]
    assert claim_next(agency.database, now=NOW + 9 * MINUTE) is None
    # A shorter rest does not end a longer one.
    rest_account(agency.database, "meta:act_1", until=NOW + MINUTE)
    assert get_action(agency.database, 1).next_attempt_at == NOW + HOUR


# Expiry and judgement.


def test_what_is_too_old_expires_but_not_under_the_hands_of_a_sender(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(PAUSE), [1, 2])
    agency.decide(agency.add_rule(PAUSE, name="asks", needs_approval=True), [3])
    midnight = (NOW + ONE_DAY).replace(hour=0, minute=0)
    assert expire_actions(agency.database, now=midnight - MINUTE) == 0
    assert claim(agency, now=midnight - MINUTE).id == 1
    assert expire_actions(agency.database, now=midnight) == 2
    assert [each.status.value for each in agency.actions] == ["pending", "expired", "expired"]
    assert expire_actions(agency.database, now=midnight + 9 * MINUTE) == 1
    assert [each.reason for each in agency.actions] == [
        "Its day was over before it was known to have arrived.",
        "Its day was over before it was sent.",
        "Its day was over before it was sent.",
    ]


def test_of_two_people_at_the_same_moment_one_decides(
    agency: RuleAgency, database_url: str
) -> None:
    agency.decide(agency.add_rule(PAUSE, needs_approval=True), [1])

    def judge(which: int) -> str:
        with Database.open(database_url) as opened:
            try:
                (approve, reject)[which](opened, 1, judged_by=str(which), now=NOW)
            except ActionNotWaiting:
                return "late"
            return "judged"

    assert sorted(all_at_once(judge, [0, 1])) == ["judged", "late"]
    action = get_action(agency.database, 1)
    expected = (ActionStatus.PENDING, ActionStatus.REJECTED)[int(str(action.judged_by))]
    assert action.status is expected


# What later decisions go by.


def test_what_counts_is_found_by_rule_by_entity_and_by_day(agency: RuleAgency) -> None:
    stored = agency.add_rule(PAUSE, ALERT)
    agency.decide(stored, [1])
    other = agency.add_rule(PAUSE, name="other", needs_approval=True)
    agency.decide(other, [2, 3])
    reject(agency.database, 4, judged_by="ada", now=NOW)

    def recent(
        rules: set[int], entities: set[str], *, day: date = DAY, since: datetime = NOW
    ) -> list[int]:
        found = recent_actions(
            agency.database, rule_ids=rules, entity_ids=entities, day=day, since=since
        )
        return [each.id for each in found]

    assert recent({stored.id}, set()) == [1, 2]
    assert recent({other.id}, set()) == [3]
    assert recent({stored.id}, {"meta:2", "meta:3"}) == [1, 2, 3]
    much_later = NOW + timedelta(days=9)
    assert recent({stored.id}, {"meta:1"}, day=much_later.date(), since=much_later) == []
    # A longer cool-down reaches further back: to alerts of the rule, and to actions on entities.
    assert recent({stored.id}, {"meta:1"}, day=much_later.date()) == [1, 2]
    assert recent({stored.id}, set(), day=much_later.date()) == [2]


def test_the_last_thing_that_happened_to_an_entity(agency: RuleAgency) -> None:
    stored = agency.add_rule(PAUSE, ALERT)
    agency.decide(stored, [1])
    agency.deliver()
    agency.decide(agency.add_rule(PAUSE, name="other", needs_approval=True), [2])
    reject(agency.database, 3, judged_by="ada", now=NOW)
    found = last_actions(agency.database, ["meta:1", "meta:2", "meta:3"])
    assert list(found) == ["meta:1"]
    assert (found["meta:1"].id, found["meta:1"].rule_id) == (1, stored.id)
    assert (found["meta:1"].status, found["meta:1"].entity_ids) == (
        ActionStatus.DONE,
        ("meta:1",),
    )


def test_older_actions_are_counted_where_they_count(agency: RuleAgency) -> None:
    stored = agency.add_rule(PAUSE)
    agency.decide(stored, [1, 2, 5, 6])
    agency.decide(agency.add_rule(PAUSE, name="other"), [1], knows_outbox=False)
    older = [older_actions(agency.database, each) for each in agency.actions]
    assert [(each.in_rule, each.in_account) for each in older] == [
        (0, 0),
        (1, 1),
        (2, 0),
        (3, 1),
        (0, 0),
    ]
    assert [each.has_other_of_day for each in older] == [False, False, False, False, True]
    settle(agency.database, claim(agency), Settlement(status=ActionStatus.SKIPPED), now=NOW)
    assert not older_actions(agency.database, agency.actions[-1]).has_other_of_day


def test_failures_are_counted_by_version_and_day(agency: RuleAgency) -> None:
    stored = agency.add_rule(PAUSE)
    agency.decide(stored, [1, 2])
    for _ in range(2):
        settle(agency.database, claim(agency), Settlement(status=ActionStatus.FAILED), now=NOW)

    def failed(rule_id: int = stored.id, version: int = 1, day: date = DAY) -> int:
        return failed_actions(agency.database, rule_id=rule_id, version=version, day=day)

    assert failed() == 2
    assert failed(version=2) == failed(rule_id=9) == failed(day=DAY + ONE_DAY) == 0
