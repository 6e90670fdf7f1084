"""From a decision to a campaign that stands still, once, whoever dies in between."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Generator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from clarity_pipeline.ad_platforms.meta import MetaAds
from clarity_pipeline.ad_platforms.meta_stand_in import StandInFault
from clarity_pipeline.domain.errors import ActionNotWaiting, UnknownAction
from clarity_pipeline.domain.rules.actions import ActionStatus, Mode
from clarity_pipeline.domain.rules.model import RuleStatus
from clarity_pipeline.notify.webhooks import Webhooks
from clarity_pipeline.operations.rule_actions import (
    Delivered,
    approve_action,
    disarm_rule,
    reject_action,
)
from clarity_pipeline.operations.rules import with_status
from clarity_pipeline.store import notices
from clarity_pipeline.store.ad_accounts import connect_account, disconnect_account, get_account
from clarity_pipeline.store.audit_log import list_audit
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.rule_actions import claim_next, get_action
from clarity_pipeline.store.rules import (
    archive_rule,
    get_rule,
    rule_versions,
    save_rule,
    set_switch,
)
from clarity_pipeline.store.vault import TokenVault
from clarity_pipeline_tests.factories import DAY
from clarity_pipeline_tests.notify.secure_receiver import SecureReceiver, secure_webhook
from clarity_pipeline_tests.rule_agency import (
    FREE,
    TOKENS,
    RuleAgency,
    open_rule_agency,
    status_in_store,
)
from clarity_pipeline_tests.store.races import all_at_once

MINUTE, HOUR, ONE_DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
PAUSE, RESUME, ALERT = {"kind": "pause"}, {"kind": "resume"}, {"kind": "alert"}
RAISE = {"kind": "adjust_budget", "percent": 20, "at_least": 10, "at_most": 1000}
LOST_ANSWER = StandInFault(method="POST", after_acting=True, code=2)


@pytest.fixture
def agency(database: Database, vault: TokenVault) -> Generator[RuleAgency]:
    with open_rule_agency(database, vault) as opened:
        yield opened


def test_what_fired_is_paused_at_meta_and_in_our_own_tables(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(PAUSE), [1, 5])
    assert agency.deliver() == Delivered(done=2)
    assert agency.running == [2, 3, 4, 6]
    assert status_in_store(agency, 1) == ("paused", 100.0)
    assert status_in_store(agency, 2) == ("active", 100.0)
    first = agency.actions[0]
    assert (first.status, first.done_at, first.attempts) == (ActionStatus.DONE, agency.now, 1)
    assert first.detail["before"]["status"] == "active"
    assert first.detail["after"]["status"] == "paused"
    assert agency.deliver() == Delivered()
    assert len(agency.meta.changes) == 2


def test_a_decision_made_again_acts_no_further(agency: RuleAgency) -> None:
    stored = agency.add_rule(PAUSE)
    for knows_outbox in (True, True, False):
        agency.decide(stored, [1], knows_outbox=knows_outbox)
    # With other data the evaluation is another one, and its action the same.
    agency.decide(stored, [1, 2], knows_outbox=False)
    agency.deliver()
    assert agency.outcomes == [("pause", "done"), ("pause", "done")]
    assert [change[0] for change in agency.meta.changes] == ["1", "2"]


@pytest.mark.parametrize("mode", [Mode.SHADOW, Mode.LATE])
def test_a_shadow_and_a_backfill_write_nothing_into_the_outbox(
    agency: RuleAgency, mode: Mode
) -> None:
    agency.decide(agency.add_rule(PAUSE, ALERT), [1, 2], mode=mode)
    assert agency.actions == []


def test_unknown_does_nothing_in_either_direction(agency: RuleAgency) -> None:
    stored = agency.add_rule(PAUSE, RESUME)
    agency.decide(stored, [1], unknown=[2])
    agency.deliver()
    agency.pass_time(ONE_DAY)
    agency.decide(stored, unknown=[1, 2])
    agency.deliver()
    assert agency.outcomes == [("pause", "done")]


# At least once, and never twice.


def test_a_pause_whose_answer_was_lost_is_not_made_again(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(PAUSE), [1])
    agency.meta.add_fault(LOST_ANSWER)
    assert agency.deliver() == Delivered(postponed=1)
    assert agency.actions[0].last_error == "Meta has trouble of its own (code 2)."
    assert agency.deliver() == Delivered()
    agency.pass_time(MINUTE)
    assert agency.deliver() == Delivered(done=1)
    assert agency.meta.changes == [("1", {"status": "PAUSED"})]
    assert status_in_store(agency, 1)[0] == "paused"


def test_an_adapter_that_times_out_after_acting_does_not_raise_a_budget_twice(
    agency: RuleAgency,
) -> None:
    agency.decide(agency.add_rule(RAISE), [1])
    agency.meta.add_fault(StandInFault(method="POST", after_acting=True, delay_seconds=1))
    with MetaAds(base_url=agency.base_url, read_seconds=0.3) as impatient:
        assert agency.deliver(impatient) == Delivered(postponed=1)
    agency.pass_time(MINUTE)
    assert agency.deliver() == Delivered(done=1)
    assert agency.meta.objects["1"].daily_budget == 12_000
    assert agency.meta.changes == [("1", {"daily_budget": "12000"})]
    assert status_in_store(agency, 1) == ("active", 120.0)


def test_a_budget_that_did_not_arrive_is_sent_again_to_the_same_target(
    agency: RuleAgency,
) -> None:
    agency.decide(agency.add_rule(RAISE), [1])
    agency.meta.add_fault(StandInFault(method="POST", code=1))
    agency.deliver()
    agency.pass_time(MINUTE)
    assert agency.deliver() == Delivered(done=1)
    assert agency.meta.objects["1"].daily_budget == 12_000


def test_what_somebody_changed_between_two_attempts_is_theirs(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(RAISE), [1])
    agency.meta.add_fault(StandInFault(method="POST", code=1))
    agency.deliver()
    agency.meta.touch("1", daily_budget=50_000)
    agency.pass_time(MINUTE)
    assert agency.deliver() == Delivered(skipped=1)
    assert agency.actions[0].reason == "Somebody has changed it meanwhile."
    assert agency.meta.objects["1"].daily_budget == 50_000


def test_a_worker_killed_between_claim_and_sending_leaves_it_to_the_next(
    agency: RuleAgency,
) -> None:
    agency.decide(agency.add_rule(PAUSE), [1])
    assert claim_next(agency.database, now=agency.now) is not None
    assert agency.deliver() == Delivered()
    agency.pass_time(9 * MINUTE)
    assert agency.deliver() == Delivered()
    agency.pass_time(MINUTE)
    assert agency.deliver() == Delivered(done=1)
    assert agency.meta.changes == [("1", {"status": "PAUSED"})]


class Killed(BaseException):
    """What stops a process in the middle of a line."""


@pytest.mark.parametrize("is_before", [True, False])
def test_a_worker_killed_around_the_call_does_not_make_it_twice(
    agency: RuleAgency, is_before: bool
) -> None:
    agency.decide(agency.add_rule(RAISE), [1])

    class Dying(MetaAds):
        def set_daily_budget(self, *args: Any, **more: Any) -> None:
            if not is_before:
                super().set_daily_budget(*args, **more)
            raise Killed

    with Dying(base_url=agency.base_url) as dying, pytest.raises(Killed):
        agency.deliver(dying)
    agency.pass_time(10 * MINUTE)
    assert agency.deliver() == Delivered(done=1)
    assert agency.meta.objects["1"].daily_budget == 12_000
    assert len(agency.meta.changes) == 1


def test_a_worker_that_has_lost_its_claim_sends_nothing_and_settles_nothing(
    agency: RuleAgency,
) -> None:
    agency.decide(agency.add_rule(PAUSE), [1])

    class Slow(MetaAds):
        """It reads, and falls asleep until another worker has done everything."""

        def read_state(self, *args: Any, **more: Any) -> Any:
            state = super().read_state(*args, **more)
            agency.pass_time(10 * MINUTE)
            assert agency.deliver() == Delivered(done=1)
            return state

    with Slow(base_url=agency.base_url) as slow:
        assert agency.deliver(slow) == Delivered()
    assert agency.meta.changes == [("1", {"status": "PAUSED"})]
    assert agency.outcomes == [("pause", "done")]


def test_two_workers_share_the_work(agency: RuleAgency, database_url: str) -> None:
    agency.decide(agency.add_rule(PAUSE), range(1, 7))
    openers = [Database.open(database_url) for _ in range(3)]
    try:
        rounds = all_at_once(lambda opened: replace(agency, database=opened).deliver(), openers)
    finally:
        for opened in openers:
            opened.close()
    assert sum(each.done for each in rounds) == 6
    assert sorted(change[0] for change in agency.meta.changes) == ["1", "2", "3", "4", "5", "6"]
    assert agency.running == []


# Resume.


def paused_yesterday(agency: RuleAgency, **more: Any) -> Any:
    stored = agency.add_rule(PAUSE, RESUME, **more)
    agency.decide(stored, [1])
    agency.deliver()
    agency.pass_time(ONE_DAY)
    return stored


def test_a_rule_takes_back_its_own_pause_once_it_no_longer_holds(agency: RuleAgency) -> None:
    stored = paused_yesterday(agency)
    agency.decide(stored)
    assert agency.deliver() == Delivered(done=1)
    assert agency.running == [1, 2, 3, 4, 5, 6]
    assert status_in_store(agency, 1)[0] == "active"


def test_a_pause_whose_answer_was_lost_is_still_its_own(agency: RuleAgency) -> None:
    stored = agency.add_rule(PAUSE, RESUME)
    agency.decide(stored, [1])
    agency.meta.add_fault(LOST_ANSWER)
    agency.deliver()
    agency.pass_time(MINUTE)
    agency.deliver()
    agency.pass_time(ONE_DAY)
    agency.decide(stored)
    assert agency.deliver() == Delivered(done=1)
    assert 1 in agency.running


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": "ACTIVE"}, "It is running already."),
        ({"status": "PAUSED"}, "Somebody has changed it since this rule paused it."),
        ({"daily_budget": 7_000}, "Somebody has changed it since this rule paused it."),
        ({"status": "DELETED"}, "It has been deleted on the platform."),
    ],
)
def test_what_somebody_touched_is_not_resumed(
    agency: RuleAgency, changes: dict[str, Any], reason: str
) -> None:
    stored = paused_yesterday(agency)
    agency.meta.touch("1", **changes)
    agency.decide(stored)
    assert agency.deliver() == Delivered(skipped=1)
    assert agency.actions[-1].reason == reason
    assert len(agency.meta.changes) == 1


def test_what_somebody_paused_first_is_theirs(agency: RuleAgency) -> None:
    stored = agency.add_rule(PAUSE, RESUME)
    agency.decide(stored, [1])
    agency.meta.touch("1", status="PAUSED")
    assert agency.deliver() == Delivered(skipped=1)
    assert agency.actions[0].reason == "It is paused already."
    agency.pass_time(ONE_DAY)
    agency.decide(stored)
    assert agency.outcomes == [("pause", "skipped")]


def test_a_pause_that_may_have_been_somebodys_is_not_taken_back(agency: RuleAgency) -> None:
    stored = agency.add_rule(PAUSE, RESUME)
    agency.decide(stored, [1])
    agency.meta.add_fault(StandInFault(method="POST", code=2))
    assert agency.deliver() == Delivered(postponed=1)
    agency.pass_time(HOUR)
    agency.meta.touch("1", status="PAUSED")
    assert agency.deliver() == Delivered(done=1)
    agency.pass_time(ONE_DAY)
    agency.decide(stored)
    assert agency.deliver() == Delivered(skipped=1)
    assert agency.actions[-1].reason == "It is not certain that this rule has paused it."


# Approval, expiry and the switch.


def test_what_waits_for_a_person_is_sent_when_they_agree(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(PAUSE, ALERT, needs_approval=True), [1, 2])
    first, second, _ = agency.actions
    assert agency.deliver() == Delivered(done=1)
    approve_action(agency.database, first.id, judged_by="ada", now=agency.now)
    reject_action(
        agency.database, second.id, judged_by="bob", now=agency.now, remote_address="192.0.2.1"
    )
    assert agency.deliver() == Delivered(done=1)
    assert agency.outcomes == [("pause", "done"), ("pause", "rejected"), ("alert", "done")]
    judged = get_action(agency.database, second.id)
    assert (judged.judged_by, judged.judged_at) == ("bob", agency.now)
    entries = list_audit(agency.database, business_id="acme")
    assert [(each.actor, each.action.value, each.remote_address) for each in entries] == [
        ("bob", "action_rejected", "192.0.2.1"),
        ("ada", "action_approved", None),
    ]
    assert entries[0].detail == {
        "action": second.id,
        "kind": "pause",
        "entity": "meta:2",
        "rule": "A rule",
    }


def test_nobody_judges_twice_nor_what_is_not_there(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(PAUSE, needs_approval=True), [1])
    [waiting] = agency.actions
    approve_action(agency.database, waiting.id, judged_by="ada", now=agency.now)
    for judge in (approve_action, reject_action):
        with pytest.raises(ActionNotWaiting, match="it is pending"):
            judge(agency.database, waiting.id, judged_by="bob", now=agency.now)
        with pytest.raises(UnknownAction):
            judge(agency.database, 999, judged_by="bob", now=agency.now)


def test_what_a_person_agreed_to_is_done_or_nothing(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(RAISE, needs_approval=True), [1])
    agency.meta.touch("1", daily_budget=20_000)
    approve_action(agency.database, agency.actions[0].id, judged_by="ada", now=agency.now)
    assert agency.deliver() == Delivered(skipped=1)
    assert agency.actions[0].reason == "Its daily budget is 200 by now, and 100 was agreed to."


def test_an_action_is_good_to_the_end_of_the_day_after_the_one_it_is_about(
    agency: RuleAgency,
) -> None:
    agency.decide(agency.add_rule(PAUSE, needs_approval=True), [1, 2])
    first, second = agency.actions
    agency.now = agency.now.replace(hour=23, minute=59)
    approve_action(agency.database, first.id, judged_by="ada", now=agency.now)
    assert agency.deliver() == Delivered(done=1)
    agency.pass_time(MINUTE)
    with pytest.raises(ActionNotWaiting, match="expired"):
        approve_action(agency.database, second.id, judged_by="ada", now=agency.now)
    assert agency.deliver() == Delivered(expired=1)
    assert agency.outcomes == [("pause", "done"), ("pause", "expired")]


def test_while_the_switch_pauses_all_rules_nothing_is_sent_and_all_is_kept(
    agency: RuleAgency,
) -> None:
    set_switch(agency.database, is_paused=True, changed_by="ada", now=agency.now)
    agency.decide(agency.add_rule(PAUSE, ALERT), [1])
    assert agency.deliver() == Delivered()
    assert (agency.alerts.arrived, agency.meta.calls) == ([], [])
    set_switch(agency.database, is_paused=False, changed_by="ada", now=agency.now)
    assert agency.deliver() == Delivered(done=2)


def test_what_waited_behind_the_switch_for_too_long_expires(agency: RuleAgency) -> None:
    set_switch(agency.database, is_paused=True, changed_by="ada", now=agency.now)
    agency.decide(agency.add_rule(PAUSE), [1])
    agency.pass_time(ONE_DAY)
    assert agency.deliver() == Delivered(expired=1)


@pytest.mark.parametrize("how", ["off", "archived"])
def test_of_a_rule_that_is_no_longer_armed_nothing_is_sent(agency: RuleAgency, how: str) -> None:
    stored = agency.add_rule(PAUSE, ALERT)
    agency.decide(stored, [1])
    if how == "off":
        off = with_status(stored.rule, RuleStatus.OFF)
        save_rule(agency.database, off, made_by="ada", now=agency.now)
    else:
        archive_rule(agency.database, stored.id, now=agency.now)
    assert agency.deliver() == Delivered(skipped=2)
    assert {each.reason for each in agency.actions} == {"The rule is no longer armed."}


@pytest.mark.parametrize("arrived", [True, False])
def test_what_an_attempt_did_before_its_rule_was_switched_off_is_known(
    agency: RuleAgency, arrived: bool
) -> None:
    stored = agency.add_rule(PAUSE)
    agency.decide(stored, [1])
    agency.meta.add_fault(StandInFault(method="POST", after_acting=arrived, code=2))
    assert agency.deliver() == Delivered(postponed=1)
    archive_rule(agency.database, stored.id, now=agency.now)
    agency.pass_time(MINUTE)
    assert agency.deliver() == (Delivered(done=1) if arrived else Delivered(skipped=1))
    assert len([call for call in agency.meta.calls if call.method == "POST"]) == 1
    assert status_in_store(agency, 1)[0] == ("paused" if arrived else "active")


# Limits, once more before sending.


def test_two_evaluations_side_by_side_do_not_exceed_a_cap(agency: RuleAgency) -> None:
    stored = agency.add_rule(PAUSE, limits={**FREE, "actions_per_day": 2})
    agency.decide(stored, [1, 2])
    agency.decide(stored, [3, 4], knows_outbox=False)
    assert agency.deliver() == Delivered(done=2, skipped=2)
    assert agency.running == [3, 4, 5, 6]
    assert agency.actions[-1].reason == "The rule may do pause 2 times a day."


def test_two_rules_side_by_side_do_not_both_act_on_one_campaign(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(PAUSE, name="one"), [1])
    agency.decide(agency.add_rule(RAISE, name="two"), [1], knows_outbox=False)
    assert agency.deliver() == Delivered(done=1, skipped=1)
    assert agency.actions[-1].reason == f"Another rule has acted on it for {DAY}."


# What goes wrong at the platform.


def test_a_throttled_account_rests_and_others_go_on(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(PAUSE), [1, 2, 3, 5])
    agency.meta.accounts["1"].calls_left = 0
    assert agency.deliver() == Delivered(done=1, postponed=1)
    assert sum(call.token == TOKENS["1"].get_secret_value() for call in agency.meta.calls) == 1
    agency.meta.accounts["1"].calls_left = None
    agency.pass_time(4 * MINUTE)
    assert agency.deliver() == Delivered()
    agency.pass_time(MINUTE)
    assert agency.deliver() == Delivered(done=3)


def test_a_refused_token_switches_its_account_off_and_nobody_elses(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(PAUSE), [1, 2, 5])
    agency.meta.accounts["1"].tokens.clear()
    assert agency.deliver() == Delivered(done=1, postponed=2)
    assert len([call for call in agency.meta.calls if call.path.endswith("/2")]) == 0
    account = get_account(agency.database, "meta:act_1")
    assert account.disabled_at == agency.now
    assert "refused the token" in str(account.disabled_reason)
    assert get_account(agency.database, "meta:act_2").disabled_at is None
    [notice] = notices.list_notices(agency.database)
    assert notice.title == "Rules cannot act on the ad account meta:act_1"
    # Connected again in time, what was decided is done.
    agency.meta.accounts["1"].tokens.add("EAAB-new-token")
    agency.pass_time(HOUR)
    connect_account(
        agency.database,
        agency.vault,
        platform="meta",
        platform_id="act_1",
        business_id="acme",
        token=SecretStr("EAAB-new-token"),
        now=agency.now,
    )
    assert agency.deliver() == Delivered(done=2)


def test_an_account_that_is_not_connected_is_told_of(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(PAUSE), [1])
    disconnect_account(agency.database, "meta:act_1")
    assert agency.deliver() == Delivered(skipped=1)
    assert "No ad account 'meta:act_1' is connected" in str(agency.actions[0].reason)


def test_what_meta_refuses_for_good_fails_and_stops_no_other(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(PAUSE), [1, 2])
    agency.meta.add_fault(StandInFault(method="POST", object_id="1", code=100))
    assert agency.deliver() == Delivered(done=1, failed=1)
    assert agency.actions[0].reason == "Meta refused the change (code 100)."


def test_it_gives_up_after_ten_attempts(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(PAUSE), [1])
    agency.meta.add_fault(StandInFault(method="POST", code=2, times=None))
    for _ in range(10):
        assert agency.actions[0].status is ActionStatus.PENDING
        agency.deliver()
        agency.pass_time(HOUR)
    assert agency.outcomes == [("pause", "failed")]
    assert agency.actions[0].reason == "It has failed 10 times."


def test_a_bug_in_one_action_does_not_stop_the_others(
    agency: RuleAgency, caplog: pytest.LogCaptureFixture
) -> None:
    agency.decide(agency.add_rule(PAUSE), [1, 2])

    class Broken(MetaAds):
        def read_state(self, entity: Any, token: SecretStr) -> Any:
            if entity.platform_id == "1":
                raise ValueError(token.get_secret_value())
            return super().read_state(entity, token)

    with caplog.at_level(logging.DEBUG), Broken(base_url=agency.base_url) as broken:
        assert agency.deliver(broken) == Delivered(done=1, postponed=1)
    assert agency.actions[0].last_error == "It came upon a ValueError that nobody expected."
    assert TOKENS["1"].get_secret_value() not in caplog.text


# The circuit breaker.


def test_a_rule_whose_actions_fail_too_often_is_switched_off(agency: RuleAgency) -> None:
    stored = agency.add_rule(PAUSE, limits={**FREE, "breaker_errors": 2})
    agency.decide(stored, [1, 2, 3])
    agency.meta.add_fault(StandInFault(method="POST", code=100, times=2))
    assert agency.deliver() == Delivered(failed=2, skipped=1)
    assert agency.running == [1, 2, 3, 4, 5, 6]
    assert get_rule(agency.database, stored.id).rule.status is RuleStatus.OFF
    version = rule_versions(agency.database, stored.id)[-1]
    assert (version.version, version.made_by, version.note) == (
        2,
        "circuit breaker",
        "2 of its actions failed in a day, where 2 are enough.",
    )
    [notice] = notices.list_notices(agency.database)
    assert notice.title == "Rule 'A rule' was switched off"
    [entry] = list_audit(agency.database)
    assert entry.actor == "circuit breaker"


def test_a_rule_that_somebody_has_changed_since_is_left_to_them(agency: RuleAgency) -> None:
    stored = agency.add_rule(PAUSE)
    changed = agency.add_rule(PAUSE, priority=7)
    assert changed.version == 2
    assert not disarm_rule(agency.database, stored.id, version=1, reason="Because.", now=agency.now)
    assert disarm_rule(agency.database, stored.id, version=2, reason="Because.", now=agency.now)
    assert not disarm_rule(agency.database, stored.id, version=2, reason="Because.", now=agency.now)
    assert len(notices.list_notices(agency.database)) == 1


# Alerts and webhooks.


def test_an_alert_tells_of_the_first_ten_and_how_many_more(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule({**ALERT, "message": "Look at these."}, name="Spend"), [1, 2])
    agency.deliver()
    [(title, body)] = agency.alerts.arrived
    assert title == "Spend: 2 campaigns of acme"
    first, second, third = body.split("\n")
    assert first == "Look at these."
    assert second.startswith("'Spend' fires for campaign 'Campaign 1' as of 2026-11-01: spend on")
    assert "Campaign 2" in third


def test_an_alert_about_one_names_it_and_one_about_many_says_how_many(
    agency: RuleAgency, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clarity_pipeline.operations.rule_actions.MOST_TOLD_IN_ALERT", 2)
    agency.decide(agency.add_rule(ALERT, name="Spend"), [4])
    agency.decide(agency.add_rule(ALERT, name="More"), range(1, 7))
    agency.deliver()
    (one, _), (_, many) = agency.alerts.arrived
    assert one == "Spend: Campaign 4"
    assert many.split("\n")[-1] == "And 4 more."


def test_an_alert_that_nobody_accepts_is_tried_again(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(ALERT), [1])
    agency.alerts.refuses = True
    assert agency.deliver() == Delivered(postponed=1)
    agency.alerts.refuses = False
    agency.pass_time(MINUTE)
    assert agency.deliver() == Delivered(done=1)


def test_without_an_address_the_log_says_so(agency: RuleAgency) -> None:
    agency.decide(agency.add_rule(ALERT), [1])
    agency.alerts.addresses = 0
    assert agency.deliver() == Delivered(skipped=1)
    assert "CLARITY_NOTICE_URLS" in str(agency.actions[0].reason)


@pytest.fixture
def receiver(tmp_path: Path) -> Generator[SecureReceiver]:
    with secure_webhook(tmp_path) as listening:
        yield listening


def test_a_webhook_is_signed_and_bears_the_same_key_at_every_attempt(
    agency: RuleAgency, receiver: SecureReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    agency.webhooks = Webhooks(
        [SecretStr("webhook-secret")], frozenset({"localhost"}), tls=receiver.tls
    )
    agency.decide(agency.add_rule({"kind": "webhook", "url": receiver.url}), [1, 2])
    receiver.status = 503
    with caplog.at_level(logging.DEBUG):
        assert agency.deliver() == Delivered(postponed=1)
        receiver.status = 200
        agency.pass_time(MINUTE)
        assert agency.deliver() == Delivered(done=1)
    (first, _), (headers, body) = receiver.arrived
    assert first["Idempotency-Key"] == headers["Idempotency-Key"]
    timestamp = headers["Clarity-Timestamp"]
    assert int(timestamp) == int(agency.now.timestamp())
    expected = hmac.new(b"webhook-secret", f"{timestamp}.".encode() + body, hashlib.sha256)
    assert headers["Clarity-Signature"] == f"v1={expected.hexdigest()}"
    document = json.loads(body)
    assert document["rule"] == {"id": 1, "name": "A rule", "version": 1}
    assert (document["business_id"], document["date"]) == ("acme", "2026-11-01")
    assert [each["id"] for each in document["entities"]] == ["meta:1", "meta:2"]
    assert document["entities"][0]["decision"] == "1-0"
    assert document["entities"][0]["sentence"].startswith("'A rule' fires for campaign")
    assert receiver.url not in caplog.text


def test_a_webhook_that_cannot_be_signed_is_not_sent(
    agency: RuleAgency, receiver: SecureReceiver
) -> None:
    agency.webhooks = Webhooks([], frozenset({"localhost"}), tls=receiver.tls)
    agency.decide(agency.add_rule({"kind": "webhook", "url": receiver.url}), [1])
    assert agency.deliver() == Delivered(skipped=1)
    assert receiver.arrived == []


def test_a_webhook_that_refuses_fails(agency: RuleAgency, receiver: SecureReceiver) -> None:
    agency.webhooks = Webhooks([SecretStr("s")], frozenset({"localhost"}), tls=receiver.tls)
    receiver.status = 410
    hook = {"kind": "webhook", "url": receiver.url}
    stored = agency.add_rule(hook, limits={**FREE, "breaker_errors": 1})
    agency.decide(stored, [1])
    assert agency.deliver() == Delivered(failed=1)
    # No reason to stop what it does to ads.
    assert get_rule(agency.database, stored.id).rule.status is RuleStatus.ARMED
    assert agency.actions[0].reason == "The webhook refused the message (HTTP 410)."
