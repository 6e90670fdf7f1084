"""The ads of `clarity dev`: on pages that are visited, and at a Meta that knows them."""

from __future__ import annotations

from datetime import UTC, datetime

from clarity_pipeline.ad_platforms.interface import AdObject
from clarity_pipeline.ad_platforms.meta import MetaAds
from clarity_pipeline.ad_platforms.meta_stand_in import MetaStandInServer
from clarity_pipeline.demo.ads import ADVERTISER, import_ads, make_meta
from clarity_pipeline.demo.clients import PROJECTS
from clarity_pipeline.export_api.emulator import Emulator
from clarity_pipeline.store.ad_accounts import account_token, list_accounts
from clarity_pipeline.store.ad_entities import list_entities
from clarity_pipeline.store.businesses import add_business
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.vault import TokenVault


def test_the_ads_of_the_demo_lead_to_pages_that_its_visitors_see(
    database: Database, vault: TokenVault
) -> None:
    now = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
    emulator, meta = Emulator(PROJECTS), make_meta()
    add_business(database, business_id=ADVERTISER.business_id, name=ADVERTISER.name, now=now)
    for _ in range(2):
        import_ads(database, vault, emulator, meta, now=now)
    entities = list_entities(database, business_ids=None)
    assert {each.platform_id for each in entities} == set(meta.objects)
    assert len({each.landing_page for each in entities if each.landing_page}) == 3
    [account] = list_accounts(database)
    token = account_token(database, vault, account.id)
    with MetaStandInServer(meta) as server, MetaAds(base_url=server.base_url) as platform:
        for each in entities:
            found = platform.read_state(
                AdObject(
                    platform_id=each.platform_id,
                    account_id=account.platform_id,
                    level=each.level,
                ),
                token,
            )
            known = None if each.daily_budget is None else each.daily_budget * found.units
            assert found.daily_budget == known
