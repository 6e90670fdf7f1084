"""Rules, ads and days of Clarity in a database, each with as little said as possible."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from clarity_pipeline.domain.ads import AdDay, AdEntity
from clarity_pipeline.domain.rules.decisions import Truth
from clarity_pipeline.domain.rules.model import EntityStatus, Level
from clarity_pipeline.operations.rule_evaluation import EvaluatedDay, evaluate_day
from clarity_pipeline.store import ad_entities, rules
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.rule_evaluations import LoggedDecision, list_decisions
from clarity_pipeline.store.rules import StoredRule
from clarity_pipeline_tests.domain.rules.histories import rule
from clarity_pipeline_tests.factories import DAY, NOW

SHOP = "https://shop.example/"


def arm(database: Database, conditions: Any = None, **more: Any) -> StoredRule:
    """A rule in force: by default an alert about every ad that cost more than 10 yesterday."""
    document = {"name": "A rule", "status": "armed", **more}
    return rules.save_rule(database, rule(conditions, **document), made_by="ann", now=NOW)


def put_ad(
    database: Database,
    id_: str,
    *,
    level: Level = Level.AD,
    business_id: str | None = "acme",
    **more: Any,
) -> str:
    """An ad entity of the platform "meta"; its id, `meta:` before what was given."""
    if parent := more.pop("parent", None):
        more["parent_id"] = f"meta:{parent}"
    if page := more.pop("page", None):
        more |= {"landing_url": page, "landing_page": page}
    entity = AdEntity(
        id=f"meta:{id_}",
        platform="meta",
        platform_id=id_,
        level=level,
        business_id=business_id,
        name=more.pop("name", id_.title()),
        status=more.pop("status", EntityStatus.ACTIVE),
        account_id=more.pop("account_id", "meta:account"),
        **more,
    )
    ad_entities.upsert_entities(database, [entity], now=NOW)
    return entity.id


def put_days(database: Database, id_: str, days: Mapping[date, Mapping[str, Any]]) -> None:
    rows = [AdDay(entity_id=f"meta:{id_}", day=day, **sums) for day, sums in days.items()]
    ad_entities.upsert_metrics(database, rows, now=NOW)


def evaluate(
    database: Database, day: date = DAY, *, now: datetime = NOW, **more: Any
) -> EvaluatedDay:
    return evaluate_day(database, day=day, now=now, run_id="a-run", **more)


def fired(database: Database, **more: Any) -> list[str]:
    """The entities for which decisions in the log fired."""
    return sorted(each.entity_id for each in list_decisions(database, truth=Truth.TRUE, **more))


def logged(database: Database, **more: Any) -> list[LoggedDecision]:
    return list_decisions(database, **more)
