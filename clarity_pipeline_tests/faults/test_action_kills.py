"""The worker that acts on ads is killed with SIGKILL; the next one does each action once."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from clarity_pipeline.ad_platforms.meta import MetaAds
from clarity_pipeline.ad_platforms.meta_stand_in import StandInFault
from clarity_pipeline.notify.webhooks import Webhooks
from clarity_pipeline.operations.rule_actions import Senders, deliver_pending
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.vault import TokenVault
from clarity_pipeline_tests.faults.interruptions import Moment, after, before, interrupted
from clarity_pipeline_tests.faults.worker import die, start_process, was_killed
from clarity_pipeline_tests.rule_agency import Inbox, RuleAgency, open_rule_agency

RAISE = {"kind": "adjust_budget", "percent": 20, "at_least": 10, "at_most": 1000}
OUTBOX = "clarity_pipeline.store.rule_actions"
META = "clarity_pipeline.ad_platforms.meta.MetaAds"
CLAIM = timedelta(minutes=10)
"""How long an action is left to the worker that has claimed it."""

MOMENTS = {
    "after an action is claimed": after(f"{OUTBOX}:claim_next", arrival=2),
    "before its ad is looked at": before(f"{META}:read_state", arrival=3),
    "before the change is sent": before(f"{META}:set_daily_budget", arrival=2),
    "after the change was made": after(f"{META}:set_daily_budget", arrival=2),
    "before the action is settled": before(f"{OUTBOX}:settle", arrival=2),
    "after the action is settled": after(f"{OUTBOX}:settle", arrival=2),
}


@dataclass(frozen=True, slots=True)
class Round:
    """One round of sending in a process of its own, and the moment at which that dies."""

    database_url: str
    key: SecretStr
    meta_url: str
    now: datetime
    killed_at: Moment | None = None


def deliver(errand: Round) -> None:
    """The worker's side."""
    with (
        interrupted(errand.killed_at, die) if errand.killed_at else nullcontext(),
        Database.open(errand.database_url) as database,
        MetaAds(base_url=errand.meta_url) as meta,
    ):
        deliver_pending(
            database,
            open_vault=lambda: TokenVault([errand.key]),
            platforms={"meta": meta},
            senders=Senders(Inbox(), Webhooks([])),
            now=errand.now,
        )


@pytest.fixture
def agency(database: Database, vault: TokenVault) -> Generator[RuleAgency]:
    with open_rule_agency(database, vault) as opened:
        opened.decide(opened.add_rule(RAISE), [1, 2, 3])
        yield opened


@pytest.fixture
def errand(agency: RuleAgency, database_url: str, tmp_path: Path) -> Round:
    key = SecretStr((tmp_path / "secret.key").read_text().strip())
    return Round(database_url, key, agency.base_url, agency.now)


def check_each_budget_is_raised_once(agency: RuleAgency) -> None:
    agency.pass_time(CLAIM)
    agency.deliver()
    assert agency.outcomes == [("adjust_budget", "done")] * 3
    changed = [object_id for object_id, _ in agency.meta.changes]
    assert sorted(changed) == ["1", "2", "3"]
    assert [agency.meta.objects[each].daily_budget for each in "123"] == [12_000] * 3


@pytest.mark.parametrize("name", MOMENTS)
def test_whenever_a_worker_is_killed_each_action_is_done_once(
    name: str, agency: RuleAgency, errand: Round
) -> None:
    dying = start_process(deliver, replace(errand, killed_at=MOMENTS[name]))
    assert was_killed(dying), "the moment never came"
    assert ("adjust_budget", "done") in agency.outcomes
    assert agency.outcomes != [("adjust_budget", "done")] * 3
    check_each_budget_is_raised_once(agency)


def test_a_worker_killed_while_meta_is_about_to_answer_has_acted(
    agency: RuleAgency, errand: Round
) -> None:
    late = StandInFault(method="POST", after_acting=True, delay_seconds=5)
    agency.meta.add_fault(late)
    worker = start_process(deliver, errand)
    until = time.monotonic() + 60
    while not agency.meta.changes:
        assert time.monotonic() < until, "no change was ever sent"
        time.sleep(0.02)
    worker.kill()
    assert was_killed(worker)
    assert ("adjust_budget", "done") not in agency.outcomes
    check_each_budget_is_raised_once(agency)
