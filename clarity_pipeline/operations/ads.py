"""Importing ads and what they cost and brought.

For the command, the API, and any Dagster asset that has such rows:

    @dg.asset
    def ads_of_my_platform(store: StoreResource, clock: ClockResource) -> dg.MaterializeResult:
        rows = [{"level": "ad", "id": "17", "date": "2026-11-01", "spend": 12.5, ...}, ...]
        defaults = RowDefaults(platform="my_platform", business_id="acme")
        imported = import_rows(store.database, rows, now=clock.now(), defaults=defaults)
        return dg.MaterializeResult(metadata=imported.counts)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from clarity_pipeline.domain.ad_changes import EntityChanges, change_entities
from clarity_pipeline.domain.ad_files import AdFile, read_ad_file, read_json_row
from clarity_pipeline.domain.ad_rows import (
    NOTHING_SAID,
    GatheredRows,
    RowDefaults,
    bad_rows,
    gather_rows,
)
from clarity_pipeline.domain.ads import (
    AdDay,
    AdEntity,
    account_platform_id,
    parse_account_id,
    parse_ad_token,
    parse_platform,
)
from clarity_pipeline.domain.errors import BadRow
from clarity_pipeline.store import ad_accounts, ad_entities
from clarity_pipeline.store.ad_accounts import AdAccount
from clarity_pipeline.store.bulk import WriteCounts
from clarity_pipeline.store.businesses import get_business, list_businesses
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.vault import TokenVault


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedAds:
    """What became of rows. `passed_over` are columns of a platform's report that are not used."""

    rows: int
    refused: tuple[BadRow, ...]
    entities: WriteCounts
    metrics: WriteCounts
    passed_over: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """All of it in numbers, by name."""
        return {
            "rows": self.rows,
            "rows_refused": len(self.refused),
            "entities_inserted": self.entities.inserted,
            "entities_updated": self.entities.updated,
            "entities_unchanged": self.entities.unchanged,
            "days_inserted": self.metrics.inserted,
            "days_updated": self.metrics.updated,
            "days_unchanged": self.metrics.unchanged,
        }


def import_rows(
    database: Database,
    rows: Iterable[object],
    *,
    now: datetime,
    defaults: RowDefaults = NOTHING_SAID,
) -> ImportedAds:
    """Store what rows say: mappings with the names of domain.ad_rows, or of Meta's Insights API.

    The same rows again change nothing.
    Each is taken, or refused by its place from 1. `defaults` hold for rows that do not say it.
    Raises UnknownBusiness or InvalidAdAccount for those.
    """
    named = enumerate(map(read_json_row, rows), start=1)
    return _import(database, AdFile(rows=iter(named)), now=now, defaults=defaults)


def import_file(
    database: Database, content: bytes, *, now: datetime, defaults: RowDefaults = NOTHING_SAID
) -> ImportedAds:
    """Store what the rows of a file say (domain.ad_files), as `import_rows` does.

    Raises InvalidAdRows, too, where the file as a whole cannot be read; nothing is stored then.
    """
    return _import(database, read_ad_file(content), now=now, defaults=defaults)


def connect_account(
    database: Database,
    vault: TokenVault,
    *,
    platform: str,
    account: str,
    business_id: str,
    token: str,
    now: datetime,
) -> AdAccount:
    """Connect an ad account to a business, or give it another token. Sends nothing.

    Raises InvalidAdAccount, InvalidToken or UnknownBusiness, and writes nothing then.
    """
    platform = parse_platform(platform)
    return ad_accounts.connect_account(
        database,
        vault,
        platform=platform,
        platform_id=account_platform_id(parse_account_id(account), platform=platform),
        business_id=business_id,
        token=parse_ad_token(token),
        now=now,
    )


def _import(
    database: Database, file: AdFile, *, now: datetime, defaults: RowDefaults
) -> ImportedAds:
    defaults = _checked(database, replace(defaults, platform=defaults.platform or file.platform))
    gathered = gather_rows(file.rows, defaults=defaults, today=now.astimezone(UTC).date())
    refused, entities = _store_entities(database, gathered, now=now)
    metrics = _store_metrics(database, gathered, refused, now=now)
    return ImportedAds(
        rows=gathered.count,
        refused=bad_rows(refused),
        entities=entities,
        metrics=metrics,
        passed_over=file.passed_over,
    )


def _checked(database: Database, defaults: RowDefaults) -> RowDefaults:
    """Once for all rows, where each would be refused for the same."""
    if defaults.business_id is not None:
        get_business(database, defaults.business_id)
    if defaults.platform is not None:
        defaults = replace(defaults, platform=parse_platform(defaults.platform))
    if defaults.account is not None:
        parse_account_id(defaults.account)
    return defaults


def _store_entities(
    database: Database, gathered: GatheredRows, *, now: datetime
) -> tuple[dict[int, str], WriteCounts]:
    """Store entities; returns the lines that are refused by now, and why."""
    if not gathered.facts:
        return dict(gathered.refused), WriteCounts()
    businesses = {business.id for business in list_businesses(database)}
    named = {
        each
        for facts in gathered.facts.values()
        for each in (facts.id, facts.said.get("parent_id"))
        if each is not None
    }
    decided: list[EntityChanges] = []

    def change(standing: Mapping[str, AdEntity]) -> tuple[AdEntity, ...]:
        changes = change_entities(
            gathered,
            standing=standing,
            businesses=businesses,
            today=now.astimezone(UTC).date(),
        )
        decided.append(changes)
        return changes.entities

    counts = ad_entities.change_entities(database, entity_ids=named, change=change, now=now)
    return dict(decided[-1].refused), counts


def _store_metrics(
    database: Database, gathered: GatheredRows, refused: dict[int, str], *, now: datetime
) -> WriteCounts:
    """Store days of entities that there are; adds the lines of all others to `refused`."""
    known = ad_entities.known_entity_ids(database, {day.entity_id for _, day in gathered.days})
    usable: list[AdDay] = []
    for line, day in gathered.days:
        if line in refused:
            continue
        if day.entity_id in known:
            usable.append(day)
        else:
            refused[line] = f"There is no entity {day.entity_id}; import it first."
    return ad_entities.upsert_metrics(database, usable, now=now)
