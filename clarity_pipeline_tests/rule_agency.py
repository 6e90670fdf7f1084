"""An agency whose campaigns stand at a local Meta, and whose rules decide on what they spent."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from pydantic import SecretStr

from clarity_pipeline.ad_platforms.interface import AdPlatform
from clarity_pipeline.ad_platforms.meta import MetaAds
from clarity_pipeline.ad_platforms.meta_stand_in import (
    MetaStandIn,
    MetaStandInServer,
    StandInAccount,
    StandInObject,
)
from clarity_pipeline.domain.ads import AdEntity
from clarity_pipeline.domain.notices import Severity
from clarity_pipeline.domain.rules.actions import Judged, Mode, Plan, Subject, plan_actions
from clarity_pipeline.domain.rules.decisions import Truth
from clarity_pipeline.domain.rules.delivery import OutboxAction
from clarity_pipeline.domain.rules.evaluate import evaluate
from clarity_pipeline.domain.rules.history import Entities, Entity, Source
from clarity_pipeline.domain.rules.model import EntityStatus, Level
from clarity_pipeline.domain.rules.records import pack
from clarity_pipeline.notify.webhooks import Webhooks
from clarity_pipeline.operations.rule_actions import Delivered, Senders, deliver_pending
from clarity_pipeline.store import ad_entities, businesses
from clarity_pipeline.store.ad_accounts import connect_account
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.rule_actions import last_actions, list_actions, recent_actions
from clarity_pipeline.store.rule_evaluations import (
    DecisionsToLog,
    PreparedEvaluation,
    write_evaluations,
)
from clarity_pipeline.store.rules import StoredRule, save_rule
from clarity_pipeline.store.vault import TokenVault
from clarity_pipeline_tests.domain.rules.histories import rule, series_of
from clarity_pipeline_tests.factories import NOW

TOKENS = {"1": SecretStr("EAAB-token-of-act-1"), "2": SecretStr("EAAB-token-of-act-2")}

FREE: Mapping[str, Any] = {
    "cool_down_hours": 0,
    "actions_per_day": 100,
    "actions_per_account_per_day": 100,
    "breaker_min_entities": 100,
}
"""Limits that are never reached here."""


@dataclass
class Inbox:
    """An address of alerts that keeps what it is sent; `refuses` is whether it accepts nothing."""

    arrived: list[tuple[str, str]] = field(default_factory=lambda: list[tuple[str, str]]())
    addresses: int = 1
    refuses: bool = False

    def __len__(self) -> int:
        return self.addresses

    def send(self, *, title: str, body: str, severity: Severity) -> frozenset[int]:
        if self.refuses:
            return frozenset(range(1, self.addresses + 1))
        self.arrived.append((title, body))
        return frozenset()


@dataclass
class RuleAgency:
    """Six campaigns of acme, of 100.00 EUR a day: 1 to 4 in act_1, 5 and 6 in act_2."""

    database: Database
    vault: TokenVault
    meta: MetaStandIn
    base_url: str
    adapter: MetaAds
    now: datetime = NOW
    alerts: Inbox = field(default_factory=Inbox)
    webhooks: Webhooks = field(default_factory=lambda: Webhooks([]))

    def add_rule(self, *actions: Any, **more: Any) -> StoredRule:
        """An armed rule on campaigns that spent more than 10."""
        document = {
            "level": "campaign",
            "actions": list(actions) or [{"kind": "pause"}],
            "status": "armed",
            "limits": FREE,
            **more,
        }
        return save_rule(self.database, rule(**document), made_by="ada", now=self.now)

    def decide(
        self,
        stored: StoredRule,
        true: Collection[int] = (),
        *,
        unknown: Collection[int] = (),
        day: date | None = None,
        mode: Mode = Mode.ACTING,
        knows_outbox: bool = True,
    ) -> Plan:
        """Evaluate the rule as of yesterday, and store what it decided with what that calls for.

        Without `knows_outbox` it is one of two that run side by side.
        """
        day = day or self.now.date() - timedelta(days=1)
        known = [
            each
            for each in ad_entities.list_entities(self.database, business_ids=["acme"])
            if each.status is not EntityStatus.DELETED
        ]
        entities = Entities.of(
            [
                Entity(
                    id=each.id,
                    level=each.level,
                    business_id=each.business_id,
                    name=each.name,
                    status=each.status,
                )
                for each in known
            ]
        )
        spent = [
            {}
            if int(each.platform_id) in unknown
            else {day: {"spend": 20.0 if int(each.platform_id) in true else 5.0}}
            for each in known
        ]
        evaluation = evaluate(
            stored.rule, entities=entities, series={Source.ADS: series_of(spent)}, as_of=day
        )
        subjects = [
            Subject(
                position=position,
                entity_id=each.id,
                truth=Truth(int(evaluation.truth[position])),
                status=each.status,
                account_id=each.account_id,
                daily_budget=each.daily_budget,
            )
            for position, each in enumerate(known[int(row)] for row in evaluation.rows)
        ]
        judged = Judged(
            rule_id=stored.id,
            version=stored.version,
            rule=stored.rule,
            business_id="acme",
            day=day,
            mode=mode,
            looked_at=len(subjects),
            subjects=subjects,
        )
        ids = [each.entity_id for each in subjects]
        plan = plan_actions(
            [judged],
            recent=recent_actions(
                self.database,
                rule_ids=[stored.id],
                entity_ids=ids,
                day=day,
                since=self.now - timedelta(hours=stored.rule.limits.cool_down_hours),
            )
            if knows_outbox
            else (),
            last=last_actions(self.database, ids) if knows_outbox else {},
            now=self.now,
        )
        [record] = pack(evaluation)
        prepared = PreparedEvaluation(
            rule_id=stored.id,
            version=stored.version,
            day=day,
            mode=mode,
            record=record,
            held={},
            log=DecisionsToLog(),
            actions=plan.actions,
        )
        write_evaluations(self.database, [prepared], run_id=None, now=self.now)
        return plan

    def deliver(self, adapter: AdPlatform | None = None) -> Delivered:
        """One round of sending, through another adapter if one is given."""
        return deliver_pending(
            self.database,
            open_vault=lambda: self.vault,
            platforms={"meta": adapter or self.adapter},
            senders=Senders(self.alerts, self.webhooks),
            now=self.now,
            jitter=lambda: 0.0,
        )

    def pass_time(self, step: timedelta) -> None:
        self.now += step

    @property
    def actions(self) -> Sequence[OutboxAction]:
        """All there are, the oldest first."""
        return list_actions(self.database, limit=1000)[::-1]

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        """Kind and status of each action, the oldest first."""
        return [(each.kind.value, each.status.value) for each in self.actions]

    @property
    def running(self) -> list[int]:
        """The campaigns that run at Meta."""
        return [int(each.id) for each in self.meta.objects.values() if each.status == "ACTIVE"]


@contextmanager
def open_rule_agency(database: Database, vault: TokenVault) -> Generator[RuleAgency]:
    """The agency, its accounts connected and its campaigns imported."""
    meta = MetaStandIn(
        [
            StandInAccount(id=id_, tokens={token.get_secret_value()})
            for id_, token in TOKENS.items()
        ],
        [
            StandInObject(id=str(number), account_id=account_of(number), daily_budget=10_000)
            for number in range(1, 7)
        ],
    )
    businesses.add_business(database, business_id="acme", name="Acme", now=NOW)
    for platform_id, token in TOKENS.items():
        connect_account(
            database,
            vault,
            platform="meta",
            platform_id=f"act_{platform_id}",
            business_id="acme",
            token=token,
            now=NOW,
        )
    ad_entities.upsert_entities(
        database,
        [
            AdEntity(
                id=f"meta:{number}",
                platform="meta",
                platform_id=str(number),
                level=Level.CAMPAIGN,
                account_id=f"meta:act_{account_of(number)}",
                business_id="acme",
                name=f"Campaign {number}",
                daily_budget=100.0,
                currency="EUR",
            )
            for number in range(1, 7)
        ],
        now=NOW,
    )
    with (
        MetaStandInServer(meta) as server,
        MetaAds(base_url=server.base_url) as adapter,
    ):
        agency = RuleAgency(database, vault, meta, server.base_url, adapter)
        meta.clock = lambda: agency.now
        yield agency


def account_of(number: int) -> str:
    return "1" if number <= 4 else "2"


def status_in_store(agency: RuleAgency, number: int) -> tuple[str, float | None]:
    """How our own tables have a campaign."""
    found = ad_entities.find_entity(agency.database, f"meta:{number}")
    assert found is not None
    return found.status.value, found.daily_budget
