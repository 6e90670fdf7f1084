"""Backtests over a store: what is read, what was known when, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import pytest

from clarity_pipeline.domain.ads import AdDay, AdEntity
from clarity_pipeline.domain.errors import InvalidDay, UnknownBusiness
from clarity_pipeline.domain.rules.backtest import Backtest
from clarity_pipeline.domain.rules.decisions import Reason
from clarity_pipeline.domain.rules.documents import parse_rule
from clarity_pipeline.domain.rules.history import Source
from clarity_pipeline.domain.rules.model import EntityStatus, Level, Rule, RuleStatus
from clarity_pipeline.operations import rule_evaluation
from clarity_pipeline.operations.rebuild_day import rebuild
from clarity_pipeline.operations.rule_backtest import MAX_BACKTEST_DAYS, backtest_rule
from clarity_pipeline.operations.rule_evaluation import evaluate_day
from clarity_pipeline.store import ad_entities, businesses
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.rules import save_rule
from clarity_pipeline.store.vault import TokenVault
from clarity_pipeline_tests.agency import Agency
from clarity_pipeline_tests.domain.replies import Visits
from clarity_pipeline_tests.factories import DAY, NOW, connect_business, land_export, make_export
from clarity_pipeline_tests.landing import fetched_at
from clarity_pipeline_tests.missed_days import NEXT_DAY, collect, miss
from clarity_pipeline_tests.operations.example_worlds import fail_sync
from clarity_pipeline_tests.stored_days import store_day, sums


def a_rule(metric: str = "clarity_sessions", value: float = 5, **more: Any) -> Rule:
    document: dict[str, Any] = {
        "name": "A rule",
        "scope": {"kind": "all"},
        "level": "business",
        "conditions": {
            "metric": metric,
            "operator": ">",
            "value": value,
            "window": {"kind": "yesterday"},
            **more.pop("condition", {}),
        },
        "actions": [{"kind": "alert"}],
    }
    return parse_rule({**document, **more})


def before(days: int) -> date:
    return DAY - timedelta(days=days)


def counts(found: Backtest) -> list[tuple[int, int, int]]:
    return [(each.fired, each.not_fired, each.unknown) for each in found.days]


def land(database: Database, day: date, *, late_by: int = 0, sessions: int = 10) -> None:
    """Land a day as the schedule does, or so many days later, and roll it up."""
    export = make_export(
        Visits(("https://acme.example/", "PC"), sessions=sessions),
        requested_at=fetched_at(day) + timedelta(days=late_by),
    )
    land_export(database, export, day=day)
    rebuild(database, day=day, now=NOW)


@pytest.fixture
def acme(database: Database, vault: TokenVault) -> Database:
    connect_business(database, vault, now=NOW - timedelta(days=60))
    return database


def test_a_backtest_reads_the_stored_days_and_what_they_look_back_on(acme: Database) -> None:
    for back, sessions in ((4, 100), (3, 1), (2, 10), (1, 10), (0, 1)):
        store_day(acme, before(back), sums(sessions=sessions))
    found = backtest_rule(acme, a_rule(), start=before(2), end=DAY, now=NOW)
    assert counts(found) == [(1, 0, 0), (1, 0, 0), (0, 1, 0)]
    assert [(each.entity_id, each.days_fired) for each in found.fired] == [("acme", 2)]
    three_days = {"window": {"kind": "last_days", "days": 3}, "value": 50}
    found = backtest_rule(acme, a_rule(condition=three_days), start=before(2), end=DAY, now=NOW)
    assert counts(found) == [(1, 0, 0), (0, 1, 0), (0, 1, 0)]


def test_a_day_that_landed_late_is_unknown_until_it_had_landed(acme: Database) -> None:
    land(acme, before(2), late_by=1)
    land(acme, before(1))
    both = {"window": {"kind": "last_days", "days": 2}, "min_coverage": 1.0, "value": 15}
    found = backtest_rule(acme, a_rule(), start=before(2), end=before(1), now=NOW)
    assert counts(found) == [(0, 0, 1), (1, 0, 0)]
    found = backtest_rule(acme, a_rule(condition=both), start=before(1), end=before(1), now=NOW)
    assert counts(found) == [(1, 0, 0)]


def test_a_day_before_the_first_one_can_be_late_too(acme: Database) -> None:
    land(acme, before(2), late_by=2)
    land(acme, before(1))
    land(acme, DAY)
    both = {"window": {"kind": "last_days", "days": 2}, "min_coverage": 1.0, "value": 15}
    found = backtest_rule(acme, a_rule(condition=both), start=before(1), end=DAY, now=NOW)
    assert counts(found) == [(0, 0, 1), (1, 0, 0)]


def test_a_page_is_as_late_as_its_slice(acme: Database) -> None:
    land(acme, before(2), late_by=1)
    land(acme, before(1))
    found = backtest_rule(
        acme, a_rule(level="landing_page"), start=before(2), end=before(1), now=NOW
    )
    assert counts(found) == [(0, 0, 1), (1, 0, 0)]


def test_a_day_that_was_recovered_was_not_known_before(agency: Agency) -> None:
    """Of a pair of replies, the one that landed last says when."""
    miss(agency, sessions_per_day=20, pages=4)
    collect(agency)
    collect(agency, DAY)
    found = backtest_rule(agency.database, a_rule(value=0), start=DAY, end=NEXT_DAY, now=agency.now)
    assert counts(found) == [(0, 0, 1), (1, 0, 0)]
    assert found.days[0].reasons == {Reason.NO_DATA: 1}


def test_a_backtest_answers_as_the_rule_did_when_it_was_in_force(acme: Database) -> None:
    """Day by day, with what is held from one to the next, and one day that came too late."""
    held = {"value": 10, "leave": 5, "window": {"kind": "last_days", "days": 2}, "max_age_days": 0}
    of = a_rule(condition=held)
    save_rule(acme, of.model_copy(update={"status": RuleStatus.ARMED}), made_by="a test", now=NOW)
    then: list[tuple[int, int, int]] = []
    for back, sessions in enumerate((2, 5, 4, 3, 12, 1, 1)[::-1]):
        day, now = before(6 - back), fetched_at(before(6 - back)) + timedelta(minutes=5)
        if back == 3:
            # Nobody could fetch it on its day.
            fail_sync(acme, day, now=now)
        else:
            land(acme, day, sessions=sessions)
        evaluated = evaluate_day(acme, day=day, now=now, run_id=None)
        then.append((evaluated.fired, evaluated.not_fired, evaluated.unknown))
        if back == 3:
            land(acme, day, sessions=sessions, late_by=1)
    found = backtest_rule(acme, of, start=before(6), end=DAY, now=NOW)
    assert counts(found) == then
    assert then == [
        (0, 1, 0),
        (0, 1, 0),
        (1, 0, 0),
        (0, 0, 1),
        (1, 0, 0),
        (1, 0, 0),
        (1, 0, 0),
    ]


def test_numbers_of_ads_count_as_they_are_stored_now(acme: Database) -> None:
    an_ad(acme, "meta:1", spent=[5, 20, 20])
    found = backtest_rule(acme, a_rule("spend", 10, level="ad"), start=before(2), end=DAY, now=NOW)
    assert counts(found) == [(0, 1, 0), (1, 0, 0), (1, 0, 0)]
    assert found.fired[0].entity_name == "Ad meta:1"
    assert any("as they are stored now" in note for note in found.notes)


def test_an_ad_that_belongs_to_nobody_is_unknown(acme: Database) -> None:
    an_ad(acme, "meta:1", spent=[20])
    an_ad(acme, "meta:2", spent=[20], business_id=None)
    of = a_rule("spend", 10, level="ad")
    found = backtest_rule(acme, of, start=DAY, end=DAY, now=NOW)
    assert (counts(found), found.reasons) == ([(1, 0, 1)], {Reason.NO_BUSINESS: 1})
    named = backtest_rule(acme, of, start=DAY, end=DAY, now=NOW, business_ids=["acme"])
    assert counts(named) == [(1, 0, 0)]


def an_ad(
    database: Database,
    entity_id: str,
    *,
    spent: Sequence[float],
    business_id: str | None = "acme",
) -> None:
    """An ad that spent this on the days up to DAY."""
    platform, platform_id = entity_id.split(":")
    ad_entities.upsert_entities(
        database,
        [
            AdEntity(
                id=entity_id,
                platform=platform,
                platform_id=platform_id,
                level=Level.AD,
                parent_id=None,
                account_id=None,
                business_id=business_id,
                name=f"Ad {entity_id}",
                status=EntityStatus.ACTIVE,
                landing_url=None,
                landing_page=None,
                daily_budget=None,
                currency=None,
                changed_on=None,
            )
        ],
        now=NOW,
    )
    ad_entities.upsert_metrics(
        database,
        [
            AdDay(entity_id=entity_id, day=before(len(spent) - 1 - index), spend=spend)
            for index, spend in enumerate(spent)
        ],
        now=NOW,
    )


def test_businesses_are_replayed_some_at_a_time_and_add_up(
    database: Database, vault: TokenVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule_evaluation, "MOST_BUSINESSES", 2)
    for number, sessions in enumerate((10, 1, 10)):
        business_id = f"business-{number}"
        connect_business(database, vault, business_id=business_id, project_id=f"project00{number}")
        store_day(database, DAY, sums(sessions=sessions), business_id=business_id)
    found = backtest_rule(database, a_rule(), start=DAY, end=DAY, now=NOW)
    assert counts(found) == [(2, 1, 0)]
    assert [each.entity_id for each in found.fired] == ["business-0", "business-2"]
    named = backtest_rule(
        database, a_rule(), start=DAY, end=DAY, now=NOW, business_ids=["business-1"]
    )
    assert counts(named) == [(0, 1, 0)]
    scoped = a_rule(scope={"kind": "some", "businesses": ["business-0", "business-1"]})
    assert counts(backtest_rule(database, scoped, start=DAY, end=DAY, now=NOW)) == [(1, 1, 0)]
    nobody = backtest_rule(
        database, scoped, start=DAY, end=DAY, now=NOW, business_ids=["business-2"]
    )
    assert (nobody.entities, counts(nobody)) == (0, [(0, 0, 0)])


def test_a_business_that_there_is_none_of_is_refused(acme: Database) -> None:
    for asked in (
        {"rule": a_rule(), "business_ids": ["acme", "bolt"]},
        {"rule": a_rule(scope={"kind": "one", "business": "bolt"}), "business_ids": None},
    ):
        with pytest.raises(UnknownBusiness, match="'bolt'"):
            backtest_rule(acme, start=DAY, end=DAY, now=NOW, **asked)  # type: ignore[arg-type]


def test_days_that_cannot_be_replayed_are_refused(acme: Database) -> None:
    store_day(acme, DAY, sums())
    longest = DAY - timedelta(days=MAX_BACKTEST_DAYS - 1)
    for start, end, said in (
        (DAY, before(1), "swap"),
        (DAY, DAY + timedelta(days=1), "not over"),
        (longest - timedelta(days=1), DAY, "at most 400"),
    ):
        with pytest.raises(InvalidDay, match=said):
            backtest_rule(acme, a_rule(), start=start, end=end, now=NOW)
    assert len(backtest_rule(acme, a_rule(), start=longest, end=DAY, now=NOW).days) == 400


def test_days_before_all_history_are_refused_and_some_of_them_named(acme: Database) -> None:
    with pytest.raises(InvalidDay, match="no history"):
        backtest_rule(acme, a_rule(), start=before(9), end=DAY, now=NOW)
    store_day(acme, before(1), sums())
    with pytest.raises(InvalidDay, match="no history"):
        backtest_rule(acme, a_rule(), start=before(9), end=before(2), now=NOW)
    found = backtest_rule(acme, a_rule(), start=before(3), end=DAY, now=NOW)
    assert [each.has_history for each in found.days] == [False, False, True, True]
    assert found.history_begins == {Source.BUSINESS: before(1)}
    assert any(f"of {before(3)} to {before(2)} there is no history" in n for n in found.notes)


def test_a_rule_about_nothing_is_no_error(database: Database) -> None:
    businesses.add_business(database, business_id="acme", name="Acme", now=NOW)
    found = backtest_rule(database, a_rule("spend", 1, level="ad"), start=DAY, end=DAY, now=NOW)
    assert (found.entities, found.fired) == (0, ())
