"""From stored history to stored decisions, on both databases."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text, update

from clarity_pipeline.domain.days import end_of
from clarity_pipeline.domain.errors import (
    EvidenceCorrupt,
    InvalidDay,
    UnknownBusiness,
    UnknownDecision,
)
from clarity_pipeline.domain.rules.actions import Mode
from clarity_pipeline.domain.rules.decisions import Decision, Reason, Truth
from clarity_pipeline.domain.rules.model import EntityStatus, Level
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.operations import rule_evaluation
from clarity_pipeline.operations.rule_evaluation import preview, report
from clarity_pipeline.store import businesses, connections, rule_actions, rules, sync_jobs
from clarity_pipeline.store.aggregates import url_hash
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.notices import list_notices
from clarity_pipeline.store.rule_evaluations import (
    StoredDecision,
    latest_evaluations,
    list_decisions,
    read_decision,
)
from clarity_pipeline.store.schema import rule_evaluations
from clarity_pipeline.store.schema import rules as rules_table
from clarity_pipeline.store.vault import TokenVault
from clarity_pipeline_tests.domain.rules.histories import (
    condition,
    last_days,
    leave_of_a_business,
    rule,
)
from clarity_pipeline_tests.factories import DAY, NOW, connect_business
from clarity_pipeline_tests.rule_worlds import (
    SHOP,
    arm,
    evaluate,
    fired,
    logged,
    put_ad,
    put_days,
)
from clarity_pipeline_tests.store.statements import counted_queries
from clarity_pipeline_tests.stored_days import store_day, store_pages, sums

RAGE = condition("clarity_rage_click_rate", value=0.3)
THE_DAY_BEFORE = DAY - timedelta(days=1)


@pytest.fixture
def acme(database: Database, vault: TokenVault) -> Database:
    """A connected business whose day is there, with an ad that cost 20."""
    connect_business(database, vault)
    store_day(database, DAY, sums(rage_clicks=50, rage_click_sessions=100))
    store_day(database, THE_DAY_BEFORE, sums())
    put_ad(database, "one", page=SHOP)
    put_days(database, "one", {DAY: {"spend": 20.0}})
    return database


def rows(database: Database) -> list[tuple[Any, ...]]:
    with database.reading() as connection:
        return [tuple(row) for row in connection.execute(select(rule_evaluations))]


def all_decisions(database: Database) -> dict[str, Decision]:
    """Every decision that is stored, logged or not, by entity; the newest counts."""
    return {
        stored.decision.entity_id: stored.decision
        for row in rows(database)
        for position in range(row[6])
        if (stored := read_decision(database, f"{row[0]}-{position}"))
    }


def test_a_rule_that_holds_fires_and_its_decision_is_kept_with_its_numbers(acme: Database) -> None:
    stored = arm(acme, {"all": [RAGE, condition(value=10)]})
    evaluated = evaluate(acme)
    assert (evaluated.rules, evaluated.businesses, evaluated.fired) == (1, 1, 1)
    (log,) = logged(acme)
    assert (log.rule_id, log.rule_name, log.version) == (stored.id, "A rule", 1)
    assert (log.entity_id, log.entity_name, log.level) == ("meta:one", "One", Level.AD)
    assert (log.truth, log.previous_truth, log.reason) == (Truth.TRUE, None, None)
    assert (log.day, log.mode, log.business_id) == (DAY, Mode.ACTING, "acme")
    found = read_decision(acme, log.address)
    assert found.address == log.address
    assert found.evaluation.dagster_run_id == "a-run"
    rage, spend = found.decision.findings
    assert (rage.numerator, rage.denominator, rage.value) == (50, 100, 0.5)
    assert (spend.value, spend.threshold, found.decision.decided_by) == (
        20,
        10,
        "conditions.all[0]",
    )
    (action,) = rule_actions.list_actions(acme)
    assert (action.evaluation_id, action.kind.value) == (log.evaluation_id, "alert")


def test_deciding_again_on_the_same_data_writes_nothing(acme: Database) -> None:
    arm(acme)
    evaluate(acme)
    before = rows(acme)
    again = evaluate(acme, now=NOW + timedelta(hours=2))
    assert (again.written.evaluations, again.written.unchanged) == (0, 1)
    much_later = evaluate(acme, now=NOW + timedelta(days=9))
    assert (much_later.written.evaluations, much_later.fired) == (0, 1)
    assert rows(acme) == before
    assert len(logged(acme)) == len(rule_actions.list_actions(acme)) == 1


def test_with_other_data_there_is_a_further_evaluation_and_the_newest_counts(
    acme: Database,
) -> None:
    stored = arm(acme)
    evaluate(acme)
    put_days(acme, "one", {DAY: {"spend": 5.0}})
    assert evaluate(acme).written.evaluations == 1
    summary = latest_evaluations(acme, rule_ids=[stored.id])[stored.id]
    assert (summary.day, summary.fired, summary.not_fired) == (DAY, 0, 1)
    assert (summary.recent_fires, summary.businesses) == (0, 1)
    first, second = rows(acme)
    assert first[:6] == (1, stored.id, 1, "acme", DAY, "acting")
    assert second[:6] == (2, *first[1:6])


def test_another_version_decides_anew(acme: Database) -> None:
    arm(acme)
    evaluate(acme)
    changed = arm(acme, condition(value=30))
    assert evaluate(acme).written.evaluations == 1
    assert [row[2] for row in rows(acme)] == [1, changed.version]


def test_what_changed_since_the_last_evaluation_is_logged_and_what_did_not_is_not(
    acme: Database,
) -> None:
    for name in ("always", "never", "starts", "ends", "lost"):
        put_ad(acme, name)
    spends = {"always": (20, 20), "never": (5, 5), "starts": (5, 20), "ends": (20, 5)}
    for name, (before, after) in spends.items():
        put_days(
            acme, name, {THE_DAY_BEFORE: {"spend": float(before)}, DAY: {"spend": float(after)}}
        )
    put_days(acme, "lost", {THE_DAY_BEFORE: {"spend": 20.0}})
    put_days(acme, "one", {THE_DAY_BEFORE: {"spend": 5.0}, DAY: {"spend": 5.0}})
    arm(acme, condition(max_age_days=0))
    evaluate(acme, THE_DAY_BEFORE, now=NOW - timedelta(days=1))
    evaluate(acme)
    found = {
        each.entity_id: (each.previous_truth, each.truth, each.reason)
        for each in logged(acme, since=DAY)
    }
    assert found == {
        "meta:always": (Truth.TRUE, Truth.TRUE, None),
        "meta:starts": (Truth.FALSE, Truth.TRUE, None),
        "meta:ends": (Truth.TRUE, Truth.FALSE, None),
        "meta:lost": (Truth.TRUE, Truth.UNKNOWN, Reason.NO_DATA),
    }


def test_the_log_is_read_page_by_page_and_by_filters(acme: Database) -> None:
    for number in range(5):
        put_ad(acme, f"ad{number}")
        put_days(acme, f"ad{number}", {DAY: {"spend": 20.0}})
    first = arm(acme)
    arm(acme, name="Another")
    evaluate(acme)
    whole = logged(acme)
    assert len(whole) == 12
    pages: list[Any] = []
    while part := logged(acme, limit=5, before=pages[-1].address if pages else None):
        pages += part
    assert pages == whole
    assert {each.rule_id for each in logged(acme, rule_id=first.id)} == {first.id}
    assert {each.entity_id for each in logged(acme, entity_id="meta:ad3")} == {"meta:ad3"}
    assert logged(acme, business_id="globex") == logged(acme, until=THE_DAY_BEFORE) == []
    assert logged(acme, truth=Truth.FALSE) == []
    assert len(logged(acme, since=DAY, until=DAY, business_id="acme")) == 12


@pytest.mark.parametrize("address", ["", "1", "1-", "x-1", "1-1-1", "99-0", "1-1", "1-999", "¹-0"])
def test_an_address_that_nothing_is_at_is_said_to_be_none(acme: Database, address: str) -> None:
    arm(acme)
    evaluate(acme)
    assert isinstance(read_decision(acme, "1-0"), StoredDecision)
    with pytest.raises(UnknownDecision):
        read_decision(acme, address)


def test_evidence_that_was_tampered_with_is_found_out(acme: Database) -> None:
    arm(acme)
    evaluate(acme)
    with acme.transaction() as connection:
        connection.execute(update(rule_evaluations).values(held={"conditions": ["meta:one"]}))
    with pytest.raises(EvidenceCorrupt, match="evaluation 1 "):
        read_decision(acme, "1-0")
    with acme.transaction() as connection:
        connection.execute(update(rule_evaluations).values(evidence=b"\x01nonsense"))
    with pytest.raises(EvidenceCorrupt):
        read_decision(acme, "1-0")


def test_without_a_rule_a_day_costs_one_query(acme: Database) -> None:
    with counted_queries(acme) as asked:
        shown = report(acme, evaluate(acme))
    assert len(asked) == 1
    assert (shown.numbers["rules"], shown.table) == (0, "")


# Who is evaluated when


def connect_another(database: Database, vault: TokenVault, business_id: str = "globex") -> None:
    connect_business(database, vault, business_id=business_id, project_id="globex1234")
    put_ad(database, business_id, business_id=business_id)
    put_days(database, business_id, {DAY: {"spend": 20.0}})


def run_sync(database: Database, status: JobStatus, *, business_id: str = "globex") -> None:
    ids = sync_jobs.start_jobs(
        database,
        business_ids=[business_id],
        day=DAY,
        trigger=Trigger.SCHEDULE,
        dagster_run_id=f"{status}",
        now=NOW,
    )
    if status is not JobStatus.RUNNING:
        sync_jobs.settle_job(
            database,
            job_id=ids[business_id],
            status=status,
            calls_used=4,
            combos={},
            error_code=None,
            error_message=None,
            now=NOW,
        )


def test_a_business_is_evaluated_without_waiting_for_one_whose_day_is_to_come(
    acme: Database, vault: TokenVault
) -> None:
    connect_another(acme, vault)
    arm(acme)
    evaluated = evaluate(acme)
    assert (evaluated.businesses, evaluated.waiting, fired(acme)) == (1, 1, ["meta:one"])
    store_day(acme, DAY, sums(), business_id="globex")
    evaluated = evaluate(acme)
    assert (evaluated.businesses, evaluated.waiting) == (2, 0)
    assert (evaluated.written.evaluations, evaluated.written.unchanged) == (1, 1)
    assert fired(acme) == ["meta:globex", "meta:one"]


@pytest.mark.parametrize(
    ("status", "is_evaluated"),
    [
        (JobStatus.RUNNING, False),
        (JobStatus.FAILED, True),
        (JobStatus.RATE_LIMITED, True),
        (JobStatus.AUTH_FAILED, True),
        (JobStatus.PARTIAL, True),
    ],
)
def test_where_the_sync_has_ended_without_the_day_rules_on_other_metrics_run(
    acme: Database, vault: TokenVault, status: JobStatus, is_evaluated: bool
) -> None:
    connect_another(acme, vault)
    run_sync(acme, status)
    arm(acme, {"any": [RAGE, condition(value=10)]}, scope={"kind": "one", "business": "globex"})
    assert evaluate(acme).businesses == is_evaluated
    if is_evaluated:
        (log,) = logged(acme)
        assert (log.truth, log.mode) == (Truth.TRUE, Mode.ACTING)
        findings = read_decision(acme, log.address).decision.findings
        assert [finding.reason for finding in findings] == [Reason.NO_DATA, None]


def test_a_day_that_can_no_longer_be_had_is_evaluated_without_it(
    acme: Database, vault: TokenVault
) -> None:
    connect_another(acme, vault)
    arm(acme)
    the_day_after = NOW + timedelta(days=1)
    assert evaluate(acme, now=the_day_after, recovery=True).waiting == 1
    assert evaluate(acme, now=the_day_after, recovery=False).waiting == 0
    assert evaluate(acme, now=NOW + timedelta(days=3), recovery=True).waiting == 0


@pytest.mark.parametrize("how", ["never connected", "disconnected", "switched off"])
def test_without_clarity_rules_on_other_metrics_run_and_others_say_why_not(
    database: Database, vault: TokenVault, how: str
) -> None:
    if how == "never connected":
        businesses.add_business(database, business_id="acme", name="Acme", now=NOW)
    else:
        connect_business(database, vault)
    if how == "disconnected":
        connections.disconnect(database, business_id="acme", now=NOW)
    if how == "switched off":
        connections.set_enabled(database, business_id="acme", enabled=False, now=NOW)
    put_ad(database, "one")
    put_days(database, "one", {DAY: {"spend": 20.0}})
    arm(database, {"any": [RAGE, condition(value=10)]})
    evaluate(database)
    (log,) = logged(database)
    assert log.truth is Truth.TRUE
    rage, _ = read_decision(database, log.address).decision.findings
    expected = Reason.DISABLED if how == "switched off" else Reason.NOT_CONNECTED
    assert (rage.truth, rage.reason) == (Truth.UNKNOWN, expected)


@pytest.mark.parametrize(
    ("document", "mode"),
    [
        ({"status": "draft"}, None),
        ({"status": "off"}, None),
        ({"status": "shadow", "shadow_until": str(DAY)}, Mode.SHADOW),
        ({"status": "shadow", "shadow_until": str(THE_DAY_BEFORE)}, None),
        ({"status": "armed"}, Mode.ACTING),
    ],
)
def test_only_rules_in_force_are_evaluated_and_only_armed_ones_act(
    acme: Database, document: dict[str, Any], mode: Mode | None
) -> None:
    arm(acme, **document)
    evaluated = evaluate(acme)
    assert [each.mode for each in logged(acme)] == ([] if mode is None else [mode])
    assert evaluated.written.actions == (mode is Mode.ACTING)


def test_an_archived_rule_decides_nothing(acme: Database) -> None:
    rules.archive_rule(acme, arm(acme).id, now=NOW)
    assert evaluate(acme).rules == 0


def test_a_day_long_over_is_decided_on_and_not_acted_upon(acme: Database) -> None:
    arm(acme)
    evaluated = evaluate(acme, now=NOW + timedelta(days=1))
    assert (evaluated.fired, evaluated.written.actions) == (1, 0)
    (log,) = logged(acme)
    assert log.mode is Mode.LATE


def test_a_day_that_is_not_over_and_a_business_that_there_is_none_of_are_refused(
    acme: Database,
) -> None:
    arm(acme)
    with pytest.raises(InvalidDay):
        evaluate(acme, DAY + timedelta(days=1))
    with pytest.raises(UnknownBusiness):
        evaluate(acme, business_ids=["nobody"])


def test_rules_with_times_of_their_own_wait_for_these_and_not_for_data(
    acme: Database, vault: TokenVault
) -> None:
    connect_another(acme, vault)
    arm(acme, schedule={"kind": "cron", "cron": "30 6 * * *"})
    assert evaluate(acme).rules == 0
    assert evaluate(acme, trigger="cron").businesses == 2
    assert fired(acme) == ["meta:globex", "meta:one"]


def test_only_what_is_asked_for_is_evaluated(acme: Database, vault: TokenVault) -> None:
    connect_another(acme, vault)
    store_day(acme, DAY, sums(), business_id="globex")
    first = arm(acme)
    arm(acme, name="Another")
    evaluate(acme, rule_ids=[first.id], business_ids=["globex"])
    assert [(each.rule_id, each.entity_id) for each in logged(acme)] == [(first.id, "meta:globex")]


# Entities


def test_campaigns_and_ad_sets_take_the_landing_page_and_the_sums_of_what_hangs_below(
    acme: Database,
) -> None:
    put_ad(acme, "camp", level=Level.CAMPAIGN)
    put_ad(acme, "set", level=Level.AD_SET, parent="camp")
    put_ad(acme, "a", parent="set", page=SHOP)
    put_ad(acme, "b", parent="set", page=SHOP)
    put_ad(acme, "gone", parent="set", page="https://gone.example/", status=EntityStatus.DELETED)
    for name, spend in (("a", 7.0), ("b", 5.0), ("gone", 0.5)):
        put_days(acme, name, {DAY: {"spend": spend}})
    store_pages(acme, DAY, {SHOP: sums(rage_clicks=40, rage_click_sessions=100)})
    both = {"all": [{**RAGE, "measured_on": "landing_page"}, condition(value=12)]}
    for level in ("campaign", "ad_set"):
        arm(acme, both, name=level, level=level)
    evaluate(acme)
    assert fired(acme) == ["meta:camp", "meta:set"]
    rage, spend = read_decision(acme, logged(acme)[0].address).decision.findings
    assert (rage.value, spend.value) == (0.4, 12.5)


def test_without_one_landing_page_below_it_a_campaign_has_none(acme: Database) -> None:
    put_ad(acme, "camp", level=Level.CAMPAIGN)
    put_ad(acme, "a", parent="camp", page=SHOP)
    put_ad(acme, "b", parent="camp", page="https://other.example/")
    store_pages(acme, DAY, {SHOP: sums(rage_clicks=40, rage_click_sessions=100)})
    arm(acme, {**RAGE, "measured_on": "landing_page"}, level="campaign")
    evaluate(acme)
    assert all_decisions(acme)["meta:camp"].reasons == (Reason.NO_LANDING_PAGE,)


def test_a_campaign_with_days_of_its_own_is_not_counted_twice(acme: Database) -> None:
    put_ad(acme, "camp", level=Level.CAMPAIGN)
    put_ad(acme, "a", parent="camp")
    put_days(acme, "camp", {DAY: {"spend": 11.0}})
    put_days(acme, "a", {DAY: {"spend": 7.0}, THE_DAY_BEFORE: {"spend": 3.0}})
    arm(acme, condition(window=last_days(2)), level="campaign")
    arm(acme, condition(window=last_days(2)), level="business", name="Whole")
    evaluate(acme)
    found = all_decisions(acme)
    # The day before, only the ad has a day.
    assert found["meta:camp"].findings[0].value == 14
    # The fixture's ad hangs from no campaign.
    assert found["acme"].findings[0].value == 34


def test_a_sum_of_which_a_part_is_unknown_is_unknown(acme: Database) -> None:
    put_ad(acme, "camp", level=Level.CAMPAIGN)
    for name in ("a", "b"):
        put_ad(acme, name, parent="camp")
    put_days(acme, "a", {DAY: {"spend": 20.0, "revenue": 5.0}})
    put_days(acme, "b", {DAY: {"spend": 20.0}})
    arm(acme, condition("roas", "<", 1), level="campaign")
    evaluate(acme)
    assert all_decisions(acme)["meta:camp"].reasons == (Reason.NO_DATA,)


def test_a_landing_page_is_an_entity_with_the_sums_of_the_ads_that_lead_to_it(
    acme: Database,
) -> None:
    put_ad(acme, "two", page=SHOP)
    put_days(acme, "two", {DAY: {"spend": 22.0}})
    store_pages(acme, DAY, {SHOP: sums(dead_clicks=9), "https://shop.example/old": sums()})
    arm(
        acme,
        {"all": [condition("clarity_dead_clicks", value=8), condition(value=41)]},
        level="landing_page",
    )
    evaluate(acme)
    (log,) = logged(acme)
    assert log.entity_id == f"page:acme:{url_hash(SHOP)}"
    assert (log.entity_name, log.level) == (SHOP, Level.LANDING_PAGE)
    assert len(all_decisions(acme)) == 2


def test_which_pages_there_are_does_not_depend_on_other_rules(acme: Database) -> None:
    """Else deciding again beside another rule would not be the same."""
    asked = condition("clarity_sessions", value=1)
    arm(acme, asked, level="landing_page")
    seen = {DAY - timedelta(days=days): f"https://shop.example/{days}" for days in (0, 29, 31, 80)}
    for day, url in seen.items():
        store_pages(acme, day, {url: sums()})
    evaluate(acme)
    before = {decision.entity_name for decision in all_decisions(acme).values()}
    assert before == {SHOP, "https://shop.example/0", "https://shop.example/29"}
    arm(acme, {**asked, "window": last_days(100)}, level="landing_page", name="Far back")
    assert evaluate(acme).written.unchanged == 1


def test_a_deleted_entity_is_not_evaluated_and_one_of_nobody_is_unknown(acme: Database) -> None:
    put_ad(acme, "one", status=EntityStatus.DELETED)
    put_ad(acme, "stray", business_id=None)
    put_days(acme, "stray", {DAY: {"spend": 20.0}})
    arm(acme)
    evaluate(acme)
    (decision,) = all_decisions(acme).values()
    assert (decision.entity_id, decision.business_id) == ("meta:stray", None)
    assert decision.reasons == (Reason.NO_BUSINESS,)


def test_a_rule_about_some_businesses_leaves_what_belongs_to_nobody_alone(acme: Database) -> None:
    put_ad(acme, "stray", business_id=None)
    arm(acme, scope={"kind": "some", "businesses": ["acme", "not-there"]})
    evaluate(acme)
    assert list(all_decisions(acme)) == ["meta:one"]


def test_days_of_both_bases_in_a_window_are_unknown(acme: Database) -> None:
    store_day(acme, THE_DAY_BEFORE, sums(), session_basis="sessions")
    arm(acme, condition("clarity_sessions", value=1, window=last_days(2)))
    evaluate(acme)
    assert all_decisions(acme)["meta:one"].reasons == (Reason.MIXED_BASIS,)


def test_amounts_of_accounts_of_several_currencies_are_unknown(acme: Database) -> None:
    put_ad(acme, "one", page=SHOP, currency="EUR")
    put_ad(acme, "yen", currency=None, account_id="meta:japan")
    put_ad(acme, "other yen", currency="EUR", account_id="meta:japan", status=EntityStatus.DELETED)
    put_days(acme, "one", {DAY: {"spend": 20.0, "clicks": 2.0}})
    put_days(acme, "yen", {DAY: {"spend": 3000.0, "clicks": 7.0}})
    arm(acme, {"any": [condition(value=100), condition("clicks", value=5)]}, level="business")
    evaluate(acme)
    assert all_decisions(acme)["acme"].findings[0].value == 3020.0
    put_ad(acme, "other yen", currency="JPY", account_id="meta:japan", status=EntityStatus.DELETED)
    evaluate(acme, now=NOW + timedelta(hours=2))
    spend, clicks = all_decisions(acme)["acme"].findings
    assert (spend.truth, spend.reason) == (Truth.UNKNOWN, Reason.MIXED_CURRENCIES)
    assert clicks.truth is Truth.TRUE


def test_further_sums_are_read_by_name(acme: Database) -> None:
    put_days(acme, "one", {DAY: {"further": {"carts": 3.5}}})
    arm(acme, condition("ad.carts", value=3))
    evaluate(acme)
    assert fired(acme) == ["meta:one"]


# What was true before


@pytest.mark.parametrize(
    "asked", [{"conditions": condition(value=10, leave=8)}, leave_of_a_business(8, value=10)]
)
def test_what_was_true_ends_at_its_own_threshold(acme: Database, asked: dict[str, Any]) -> None:
    spends = [20.0, 9.0, 7.0, 9.0]
    days = [DAY - timedelta(days=3 - place) for place in range(4)]
    put_days(acme, "one", {day: {"spend": s} for day, s in zip(days, spends, strict=True)})
    arm(acme, **asked)
    for day in days:
        store_day(acme, day, sums())
        evaluate(acme, day, now=end_of(day) + timedelta(minutes=15))
    found = {row[4]: read_decision(acme, f"{row[0]}-0").decision.findings[0] for row in rows(acme)}
    assert [found[day].truth for day in days] == [True, True, False, False]
    assert [found[day].is_held for day in days] == [False, True, True, False]


@pytest.mark.parametrize(("leave", "is_held"), [(8, True), (7, False)])
def test_what_was_true_of_another_condition_is_not_held(
    acme: Database, leave: float, is_held: bool
) -> None:
    put_days(acme, "one", {THE_DAY_BEFORE: {"spend": 20.0}, DAY: {"spend": 9.0}})
    arm(acme, condition(value=10, leave=8))
    evaluate(acme, THE_DAY_BEFORE)
    arm(acme, condition(value=10, leave=leave), priority=7)
    evaluate(acme)
    (finding,) = all_decisions(acme)["meta:one"].findings
    assert finding.is_held is is_held


# What goes wrong


def test_a_rule_that_cannot_be_read_stops_no_other_and_is_named(acme: Database) -> None:
    arm(acme)
    broken = arm(acme, name="From the future")
    with acme.transaction() as connection:
        connection.execute(
            update(rules_table)
            .where(rules_table.c.id == broken.id)
            .values(document={"name": "From the future", "metric": "love"})
        )
    evaluated = evaluate(acme)
    assert list(evaluated.broken) == ["From the future"]
    assert fired(acme) == ["meta:one"]
    shown = report(acme, evaluated)
    assert (shown.numbers["rules"], shown.numbers["rules_broken"], shown.failure) == (1, 1, None)
    assert "| From the future |" in shown.table


@pytest.mark.parametrize("is_alone", [True, False])
def test_a_broken_rule_is_told_once_and_again_when_it_decides(
    acme: Database, is_alone: bool
) -> None:
    stored = arm(acme, name="From the future")
    if not is_alone:
        arm(acme)
    evaluate(acme)
    assert list_notices(acme) == []
    of_it = rules_table.c.id == stored.id
    with acme.transaction() as connection:
        whole = connection.scalar(select(rules_table.c.document).where(of_it))
        connection.execute(update(rules_table).where(of_it).values(document={"a": "b"}))
    for day in (THE_DAY_BEFORE, DAY):
        evaluate(acme, day)
    (told,) = list_notices(acme)
    assert told.title == "Rule 'From the future' cannot be evaluated"
    assert told.body.endswith(
        "It decides nothing until it is changed; all other rules go on. The list of rules in the "
        "panel shows it."
    )
    with acme.transaction() as connection:
        connection.execute(update(rules_table).where(of_it).values(document=whole))
    evaluate(acme, THE_DAY_BEFORE)
    assert list_notices(acme) == [told]
    evaluate(acme)
    evaluate(acme)
    assert [each.title for each in list_notices(acme)] == [
        "Rule 'From the future' decides again",
        "Rule 'From the future' cannot be evaluated",
    ]


def test_a_rule_that_breaks_while_it_is_evaluated_stops_no_other(
    acme: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm(acme)
    arm(acme, name="Broken")
    real = rule_evaluation.evaluate

    def breaks(of: Any, **inputs: Any) -> Any:
        if of.name == "Broken":
            raise ZeroDivisionError
        return real(of, **inputs)

    monkeypatch.setattr(rule_evaluation, "evaluate", breaks)
    evaluated = evaluate(acme)
    assert evaluated.broken == {"Broken": "ZeroDivisionError while it was evaluated"}
    assert fired(acme) == ["meta:one"]


def test_the_circuit_breaker_switches_a_rule_off_and_nothing_is_done(acme: Database) -> None:
    for number in range(9):
        put_ad(acme, f"ad{number}")
        put_days(acme, f"ad{number}", {DAY: {"spend": 20.0}})
    stored = arm(acme, actions=[{"kind": "pause"}])
    evaluated = evaluate(acme)
    assert list(evaluated.disarmed) == ["A rule"]
    assert {action.status.value for action in rule_actions.list_actions(acme)} == {"skipped"}
    after = rules.rule_versions(acme, stored.id)[-1]
    assert (after.version, after.rule.status, after.made_by) == (2, "off", "circuit breaker")
    assert "10 of the 10" in (after.note or "")
    assert evaluate(acme).rules == 0


@pytest.mark.parametrize(
    ("day", "window", "value"),
    [
        (date(2028, 2, 29), last_days(29), 29),
        (date(2028, 3, 1), last_days(2), 2),
        (date(2026, 12, 31), last_days(31), 31),
        (date(2027, 1, 1), {"kind": "fixed", "start": "2026-12-30", "end": "2027-01-01"}, 3),
    ],
)
def test_months_and_leap_days_are_days_like_others(
    database: Database, vault: TokenVault, day: date, window: dict[str, Any], value: float
) -> None:
    connect_business(database, vault)
    put_ad(database, "one")
    put_days(database, "one", {day - timedelta(days=n): {"spend": 1.0} for n in range(60)})
    store_day(database, day, sums())
    arm(database, condition(value=0.5, window=window))
    evaluate(database, day, now=end_of(day) + timedelta(minutes=15))
    (finding,) = all_decisions(database)["meta:one"].findings
    assert (finding.value, finding.last_day) == (value, day)


def test_a_business_that_was_purged_leaves_no_decision(acme: Database) -> None:
    from clarity_pipeline.operations.purge import purge

    arm(acme)
    evaluate(acme)
    connections.disconnect(acme, business_id="acme", now=NOW)
    assert purge(acme, "acme").rows["rule_evaluations"] == 1
    assert (rows(acme), list_decisions(acme), rule_actions.list_actions(acme)) == ([], [], [])


# A look at what a rule would say


def test_a_preview_counts_and_shows_and_stores_nothing(acme: Database) -> None:
    put_ad(acme, "cheap")
    put_days(acme, "cheap", {DAY: {"spend": 1.0}})
    put_ad(acme, "unknown")
    seen = preview(acme, rule(condition(value=10)), as_of=DAY)
    assert (seen.entities, seen.fired, seen.not_fired, seen.unknown) == (3, 1, 1, 1)
    assert seen.reasons == {Reason.NO_DATA: 1}
    assert [each.entity_id for each in seen.decisions] == ["meta:one", "meta:unknown", "meta:cheap"]
    assert [each.entity_id for each in preview(acme, rule(), as_of=DAY, limit=1).decisions] == [
        "meta:one"
    ]
    assert rows(acme) == []


def test_a_preview_says_what_the_evaluation_will(acme: Database) -> None:
    stored = arm(acme, {"all": [RAGE, condition(value=10)]})
    (seen,) = preview(acme, stored.rule, as_of=DAY).decisions
    evaluate(acme)
    assert all_decisions(acme) == {"meta:one": seen}


# In bulk


def test_batches_make_no_difference(
    acme: Database, vault: TokenVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        business_id = f"b{number}"
        connect_business(acme, vault, business_id=business_id, project_id=f"project{number:04d}")
        store_day(acme, DAY, sums(), business_id=business_id)
        put_ad(acme, business_id, business_id=business_id)
        put_days(acme, business_id, {DAY: {"spend": 10.0 + number}})
    arm(acme)
    arm(acme, RAGE, name="Another")
    monkeypatch.setattr(rule_evaluation, "MOST_CELLS", 1)
    assert evaluate(acme).written.evaluations == 16
    monkeypatch.undo()
    evaluated = evaluate(acme)
    assert (evaluated.written.evaluations, evaluated.written.unchanged) == (0, 16)


def test_a_cap_holds_across_batches(
    acme: Database, vault: TokenVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one batch called for is written before the next one is decided on."""
    for number in range(6):
        business_id = f"b{number}"
        connect_business(acme, vault, business_id=business_id, project_id=f"project{number:04d}")
        store_day(acme, DAY, sums(), business_id=business_id)
        put_ad(acme, business_id, business_id=business_id)
        put_days(acme, business_id, {DAY: {"spend": 20.0}})
    arm(acme, actions=[{"kind": "pause"}], limits={"actions_per_day": 2})
    monkeypatch.setattr(rule_evaluation, "MOST_BUSINESSES", 1)
    evaluate(acme)
    statuses = Counter(action.status.value for action in rule_actions.list_actions(acme))
    assert statuses == {"pending": 2, "skipped": 5}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_cannot_be_written_fails_the_day(acme: Database) -> None:
    arm(acme)
    with acme.transaction() as connection:
        connection.execute(
            text(
                "CREATE TRIGGER refuse BEFORE INSERT ON rule_evaluations "
                "BEGIN SELECT RAISE(ABORT, 'refused'); END"
            )
        )
    with pytest.raises(Exception, match="refused"):
        evaluate(acme)
    assert rows(acme) == []
