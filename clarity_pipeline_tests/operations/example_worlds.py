"""Stores what makes an example rule fire, as the pipeline and an import of ads would have."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import insert

from clarity_pipeline.domain.ads import AD_SUMS, AdDay, AdEntity
from clarity_pipeline.domain.aggregates import DAILY_SUM_COLUMNS
from clarity_pipeline.domain.rules.inputs import page_entity_id
from clarity_pipeline.domain.rules.model import EntityStatus, Level
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.store import ad_entities, sync_jobs
from clarity_pipeline.store.aggregates import url_hash
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import business_aggregates, url_aggregates
from clarity_pipeline_tests.domain.rules.examples import PAGE, Example
from clarity_pipeline_tests.factories import NOW

Days = Mapping[date, Mapping[str, float | None]]

ACCOUNT: Final = "meta:act_1"


def store_example(database: Database, example: Example, days: Days) -> str:
    """The days of a business "acme" with one page and one ad; the id of what the rule is about."""
    store_clarity_days(database, days)
    return store_ads(database, example, days)


def store_clarity_days(database: Database, days: Days) -> None:
    """Of the business and of its page alike; a day without sums of Clarity has none."""
    rows: list[dict[str, Any]] = [
        {
            "business_id": "acme",
            "date": day,
            **{name: _whole(sums[name]) for name in DAILY_SUM_COLUMNS},
            "truncated": False,
            "built_from": "reply:1",
            "updated_at": NOW,
        }
        for day, sums in days.items()
        if "sessions" in sums
    ]
    if not rows:
        return
    with database.transaction() as connection:
        connection.execute(
            insert(business_aggregates),
            [{**row, "session_basis": "page_sessions"} for row in rows],
        )
        connection.execute(
            insert(url_aggregates),
            [{**row, "url": PAGE, "url_hash": url_hash(PAGE)} for row in rows],
        )


def store_ads(database: Database, example: Example, days: Days) -> str:
    """One ad, or ad set, that leads to the page."""
    of = example.entity
    level = of.level if of.level in {Level.AD, Level.AD_SET} else Level.AD
    entity = AdEntity(
        id="meta:1",
        platform="meta",
        platform_id="1",
        level=level,
        parent_id=None,
        account_id=ACCOUNT,
        business_id="acme",
        name=of.name,
        status=EntityStatus.ACTIVE,
        landing_url=PAGE,
        landing_page=PAGE,
        daily_budget=100.0,
        currency="EUR",
        changed_on=of.changed_on,
    )
    ad_entities.upsert_entities(database, [entity], now=NOW)
    ad_entities.upsert_metrics(
        database,
        [
            AdDay(entity_id=entity.id, day=day, **_of_ads(sums))
            for day, sums in days.items()
            if "spend" in sums
        ],
        now=NOW,
    )
    if of.level is Level.BUSINESS:
        return "acme"
    if of.level is Level.LANDING_PAGE:
        return page_entity_id(business_id="acme", url_hash=url_hash(PAGE))
    return entity.id


def fail_sync(database: Database, day: date, *, now: datetime = NOW) -> None:
    """As the schedule leaves a day that Clarity did not answer for."""
    jobs = sync_jobs.start_jobs(
        database,
        business_ids=["acme"],
        day=day,
        trigger=Trigger.SCHEDULE,
        dagster_run_id="run",
        now=now,
    )
    sync_jobs.settle_job(
        database,
        job_id=jobs["acme"],
        status=JobStatus.FAILED,
        calls_used=1,
        combos={},
        error_code="service_unavailable",
        error_message="Clarity did not answer.",
        now=now,
    )


def _of_ads(sums: Mapping[str, float | None]) -> dict[str, Any]:
    return {name: sums[name] for name in AD_SUMS}


def _whole(number: float | None) -> float | None:
    return int(number) if number is not None and number == int(number) else number
