"""The API of ads: what there is, what it cost and brought, and the accounts that rules act on."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Path, Query, Request

from clarity_pipeline.domain.ad_kinds import AdRowKind
from clarity_pipeline.domain.ad_rows import RowDefaults
from clarity_pipeline.domain.audit import AuditAction
from clarity_pipeline.domain.connections import parse_business_id
from clarity_pipeline.domain.errors import (
    InvalidAdAccount,
    InvalidBusinessId,
    InvalidToken,
    UnknownAdAccount,
    UnknownBusiness,
)
from clarity_pipeline.operations.ads import ImportedAds, connect_account, import_rows
from clarity_pipeline.panel.api_ad_models import (
    ENTITY_ROWS,
    MAX_ROWS,
    METRIC_ROWS,
    AdAccountChange,
    AdAccountGoneTold,
    AdAccountsTold,
    AdAccountTold,
    AdEntitiesTold,
    AdEntityTold,
    AdsImportedTold,
    RefusedRowTold,
    WrittenTold,
)
from clarity_pipeline.panel.api_document import problems
from clarity_pipeline.panel.auditing import audit
from clarity_pipeline.panel.guard import Services
from clarity_pipeline.panel.services import PanelServices, services_of
from clarity_pipeline.store import ad_accounts, ad_entities
from clarity_pipeline.store.businesses import get_business

router = APIRouter(tags=["Ads"])

_ENTITIES_EXAMPLE: Final[list[dict[str, Any]]] = [
    {"platform": "meta", "level": "campaign", "id": "1", "name": "Spring", "business_id": "acme"},
    {
        "platform": "meta",
        "level": "ad",
        "id": "3",
        "parent_id": "1",
        "status": "ACTIVE",
        "landing_url": "https://acme.example/spring",
    },
]
_METRICS_EXAMPLE: Final[list[dict[str, Any]]] = [
    {"platform": "meta", "id": "3", "date": "2026-11-01", "spend": 10.5, "ad.leads": 3}
]

# What a row may say is checked row by row, so that one bad row refuses itself alone.
EntityRows = Annotated[
    list[Any],
    Body(max_length=MAX_ROWS, description=ENTITY_ROWS, examples=[_ENTITIES_EXAMPLE]),
]
MetricRows = Annotated[
    list[Any],
    Body(max_length=MAX_ROWS, description=METRIC_ROWS, examples=[_METRICS_EXAMPLE]),
]
OfBusiness = Annotated[
    str | None, Query(max_length=64, description="Of rows that do not name a business.")
]
OfPlatform = Annotated[
    str | None, Query(max_length=60, description="Of rows that do not name a platform.")
]


@router.put(
    "/ads/entities",
    openapi_extra=problems(InvalidBusinessId, UnknownBusiness, InvalidAdAccount),
)
def import_ad_entities(
    request: Request,
    rows: EntityRows,
    business_id: OfBusiness = None,
    platform: OfPlatform = None,
) -> AdsImportedTold:
    """Store campaigns, ad sets and ads. What cannot be used is named row by row, in a 200.

    The same rows again change nothing. An entity that is not among them stays as it is.
    """
    return _import(
        request,
        rows,
        RowDefaults(kind=AdRowKind.ENTITIES, platform=platform, business_id=business_id),
    )


@router.put("/ads/metrics", openapi_extra=problems(InvalidAdAccount))
def import_ad_metrics(
    request: Request, rows: MetricRows, platform: OfPlatform = None
) -> AdsImportedTold:
    """Store what days cost and brought. What cannot be used is named row by row, in a 200.

    The same rows again change nothing; other numbers of the same day take the place of those that
    there are.
    """
    return _import(request, rows, RowDefaults(kind=AdRowKind.METRICS, platform=platform))


@router.get("/ads/entities", openapi_extra=problems(InvalidBusinessId, UnknownBusiness))
def list_ad_entities(
    services: Services,
    business_id: Annotated[
        str | None, Query(max_length=64, description="Only of this business.")
    ] = None,
    after: Annotated[
        str | None, Query(max_length=200, description="Only ids that come after this one.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> AdEntitiesTold:
    """Campaigns, ad sets and ads by id, a page at a time."""
    _check_business(services, business_id)
    found = ad_entities.page_of_entities(
        services.database,
        business_id=business_id,
        after=after,
        # One more than is told says whether there is another page.
        limit=limit + 1,
    )
    entities = [AdEntityTold.model_validate(entity) for entity in found[:limit]]
    return AdEntitiesTold(
        entities=entities, next_after=entities[-1].id if len(found) > limit else None
    )


@router.get("/ads/accounts")
def list_ad_accounts(services: Services) -> AdAccountsTold:
    """The ad accounts that are connected. Of a token only its last four characters."""
    found = ad_accounts.list_accounts(services.database)
    return AdAccountsTold(accounts=[AdAccountTold.model_validate(account) for account in found])


@router.put(
    "/ads/accounts",
    openapi_extra=problems(InvalidAdAccount, InvalidToken, InvalidBusinessId, UnknownBusiness),
)
def connect_ad_account(
    request: Request, services: Services, wanted: AdAccountChange
) -> AdAccountTold:
    """Connect an ad account, so that rules can act on its ads, or give it another token.

    Nothing is sent to the platform. An account that was disabled is used again.
    """
    connected = connect_account(
        services.database,
        services.vault,
        platform=wanted.platform,
        account=wanted.account,
        business_id=parse_business_id(wanted.business_id),
        token=wanted.token.get_secret_value(),
        now=services.clock(),
    )
    audit(
        request,
        AuditAction.AD_ACCOUNT_CONNECTED,
        business_id=connected.business_id,
        account=connected.id,
    )
    return AdAccountTold.model_validate(connected)


@router.delete("/ads/accounts/{account_id}", openapi_extra=problems(UnknownAdAccount))
def disconnect_ad_account(
    request: Request,
    services: Services,
    account_id: Annotated[
        str,
        Path(
            description="Platform and id on it.",
            examples=["meta:act_123456"],
            # Only said: an id that cannot be is answered like one that is not there.
            json_schema_extra={"pattern": "^[a-z0-9_]+:[A-Za-z0-9_.:\\-]+$"},
        ),
    ],
) -> AdAccountGoneTold:
    """Forget an ad account and its token; its ads and their numbers are retained."""
    gone = ad_accounts.disconnect_account(services.database, account_id)
    audit(
        request,
        AuditAction.AD_ACCOUNT_DISCONNECTED,
        business_id=gone.business_id,
        account=gone.id,
    )
    return AdAccountGoneTold(id=gone.id, business_id=gone.business_id)


def _check_business(services: PanelServices, business_id: str | None) -> None:
    """Raises InvalidBusinessId or UnknownBusiness."""
    if business_id is not None:
        get_business(services.database, parse_business_id(business_id))


def _import(request: Request, rows: list[Any], defaults: RowDefaults) -> AdsImportedTold:
    services = services_of(request)
    _check_business(services, defaults.business_id)
    imported = import_rows(services.database, rows, now=services.clock(), defaults=defaults)
    audit(
        request,
        AuditAction.ADS_IMPORTED,
        business_id=defaults.business_id,
        **imported.counts,
    )
    return _told(imported)


def _told(imported: ImportedAds) -> AdsImportedTold:
    return AdsImportedTold(
        rows=imported.rows,
        entities=WrittenTold.model_validate(imported.entities),
        days=WrittenTold.model_validate(imported.metrics),
        refused=[RefusedRowTold(row=bad.line, reason=bad.reason) for bad in imported.refused],
    )
