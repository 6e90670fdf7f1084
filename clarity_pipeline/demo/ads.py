"""One client's ads for `clarity dev`: campaigns at a local Meta, and what they cost and brought.

Rules can be written on them and armed: what they do is done there, and to nobody's money.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from pydantic import SecretStr

from clarity_pipeline.ad_platforms.meta_stand_in import (
    MetaStandIn,
    StandInAccount,
    StandInObject,
)
from clarity_pipeline.demo.clients import CLIENTS
from clarity_pipeline.domain.ads import AdDay, AdEntity, entity_id
from clarity_pipeline.domain.days import day_collected_at
from clarity_pipeline.domain.rules.model import Level
from clarity_pipeline.domain.urls import canonical_url
from clarity_pipeline.export_api.emulator import Emulator
from clarity_pipeline.store import ad_entities
from clarity_pipeline.store.ad_accounts import connect_account, list_accounts
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.vault import TokenVault

ADVERTISER: Final = CLIENTS[0]

_PLATFORM: Final = "meta"
_ACCOUNT: Final = "4711"
_TOKEN: Final = "EAAB-of-the-demo"  # noqa: S105 - opens the stand-in and nothing else
_DAYS: Final = 28

_CAMPAIGNS: Final = ("Spring sale", "Brand", "Retargeting")
_BUDGET_CENTS: Final = 6_000


def make_meta() -> MetaStandIn:
    """The local Meta with the advertiser's account: per campaign an ad set and two ads."""
    objects: list[StandInObject] = []
    for number in range(1, len(_CAMPAIGNS) + 1):
        campaign, ad_set = str(number * 100), str(number * 100 + 1)
        objects += [
            StandInObject(id=campaign, account_id=_ACCOUNT, daily_budget=_BUDGET_CENTS * number),
            StandInObject(id=ad_set, account_id=_ACCOUNT, level=Level.AD_SET, parent_id=campaign),
            *(
                StandInObject(
                    id=str(number * 100 + 1 + which),
                    account_id=_ACCOUNT,
                    level=Level.AD,
                    parent_id=ad_set,
                )
                for which in (1, 2)
            ),
        ]
    return MetaStandIn([StandInAccount(id=_ACCOUNT, tokens={_TOKEN})], objects)


def import_ads(
    database: Database, vault: TokenVault, emulator: Emulator, meta: MetaStandIn, *, now: datetime
) -> None:
    """Connect the advertiser's account and import its ads, unless that has been done."""
    if list_accounts(database):
        return
    connect_account(
        database,
        vault,
        platform=_PLATFORM,
        platform_id=_ACCOUNT,
        business_id=ADVERTISER.business_id,
        token=SecretStr(_TOKEN),
        now=now,
    )
    yesterday = day_collected_at(now)
    pages = _busiest_pages(emulator, yesterday, count=len(_CAMPAIGNS))
    objects = list(meta.objects.values())
    entities = [
        _entity(each, meta, landing_page=pages[int(each.id) // 100 - 1]) for each in objects
    ]
    days = [
        _day(each.id, number, yesterday - timedelta(days=back))
        for number, each in enumerate(entities)
        if each.level is Level.AD
        for back in range(_DAYS)
    ]
    ad_entities.upsert_entities(database, entities, now=now)
    ad_entities.upsert_metrics(database, days, now=now)


def _busiest_pages(emulator: Emulator, day: date, *, count: int) -> Sequence[str]:
    start = datetime.combine(day, time.min, tzinfo=UTC)
    sessions = emulator.sessions(
        ADVERTISER.project.project_id, start=start, end=start + timedelta(days=1)
    )
    seen = Counter(
        canonical_url(view.url) for each in sessions for view in each.page_views if view.url
    )
    return [page for page, _ in seen.most_common(count)]


def _entity(found: StandInObject, meta: MetaStandIn, *, landing_page: str) -> AdEntity:
    campaign = _CAMPAIGNS[int(found.id) // 100 - 1]
    is_ad = found.level is Level.AD
    return AdEntity(
        id=entity_id(platform=_PLATFORM, platform_id=found.id),
        platform=_PLATFORM,
        platform_id=found.id,
        level=found.level,
        parent_id=found.parent_id and entity_id(platform=_PLATFORM, platform_id=found.parent_id),
        account_id=entity_id(platform=_PLATFORM, platform_id=_ACCOUNT),
        business_id=ADVERTISER.business_id,
        name=f"{campaign} {found.level.value.replace('_', ' ')} {found.id}",
        landing_url=landing_page if is_ad else None,
        landing_page=landing_page if is_ad else None,
        daily_budget=None if found.daily_budget is None else found.daily_budget / 100,
        currency=meta.accounts[_ACCOUNT].currency,
    )


def _day(id_: str, number: int, day: date) -> AdDay:
    """Invented, and the same whenever it is invented again."""
    swing = (day.toordinal() * 7 + number * 13) % 11
    clicks = 60 + 9 * number + 4 * swing
    return AdDay(
        entity_id=id_,
        day=day,
        spend=round(0.42 * clicks, 2),
        impressions=float(clicks * 55),
        clicks=float(clicks),
        conversions=float(clicks // 25),
        revenue=round(31.5 * (clicks // 25), 2),
    )
