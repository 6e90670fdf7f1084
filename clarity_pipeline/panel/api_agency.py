"""The API of the agency as a whole: its businesses, connecting many at once, the audit log."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request

from clarity_pipeline.domain.agency_overview import OverviewSort
from clarity_pipeline.domain.audit import AuditAction
from clarity_pipeline.domain.connection_list import decode_connection_list
from clarity_pipeline.domain.connections import (
    ConnectionState,
    parse_business_id,
    parse_business_name,
)
from clarity_pipeline.domain.errors import (
    InvalidBusinessId,
    InvalidBusinessName,
    InvalidConnectionList,
)
from clarity_pipeline.operations import agency_overview as overview
from clarity_pipeline.operations.agency_overview import USUAL_ROWS
from clarity_pipeline.operations.connecting import connect_many
from clarity_pipeline.panel.api_document import problems
from clarity_pipeline.panel.api_models import (
    LARGEST_ID,
    AuditEntryTold,
    AuditTold,
    BusinessesTold,
    BusinessTold,
    BusinessWanted,
    ConnectedTold,
    ManyConnectedTold,
    OverviewRowTold,
)
from clarity_pipeline.panel.auditing import audit
from clarity_pipeline.panel.guard import Services
from clarity_pipeline.store.audit_log import list_audit
from clarity_pipeline.store.businesses import add_business

router = APIRouter(tags=["Agency"])

_LIST_OF_CONNECTIONS: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "text/csv": {
                "schema": {"type": "string"},
                "example": "business_id,name,project_id,token\r\n"
                "acme,Acme Inc.,abc123xyz0,eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln\r\n",
            }
        },
    }
}


@router.get("/businesses")
def list_businesses(
    services: Services,
    search: Annotated[str, Query(max_length=200, description="Part of a name or id.")] = "",
    states: Annotated[
        list[ConnectionState] | None, Query(description="Only businesses in these states.")
    ] = None,
    sort: Annotated[
        OverviewSort, Query(description="By state, what needs somebody comes first.")
    ] = OverviewSort.STATE,
    descending: Annotated[bool, Query()] = False,  # noqa: FBT002 - read from the query by name
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = USUAL_ROWS,
) -> BusinessesTold:
    """All businesses with their state, freshness, quota and rage clicks."""
    found = overview.agency_overview(
        services.database,
        now=services.clock(),
        overview_default=services.settings.overview,
        search=search,
        states=states or (),
        sort=sort,
        descending=descending,
        offset=offset,
        limit=limit,
    )
    return BusinessesTold(
        businesses=[OverviewRowTold.model_validate(row) for row in found.rows],
        total=found.total,
        matching=found.matching,
        state_counts=found.state_counts,
    )


@router.post(
    "/businesses",
    status_code=201,
    openapi_extra=problems(InvalidBusinessId, InvalidBusinessName),
)
def add_a_business(request: Request, services: Services, wanted: BusinessWanted) -> BusinessTold:
    """Add a business; connecting it is the next step."""
    business = add_business(
        services.database,
        business_id=parse_business_id(wanted.business_id),
        name=parse_business_name(wanted.name, business_id=wanted.business_id),
        now=services.clock(),
    )
    audit(request, AuditAction.BUSINESS_ADDED, business_id=business.id)
    return BusinessTold(business_id=business.id, name=business.name, created_at=business.created_at)


async def _sent_bytes(request: Request) -> bytes:
    return await request.body()


SentBytes = Annotated[bytes, Depends(_sent_bytes)]
"""The body as it was sent."""


@router.post("/connections", openapi_extra=_LIST_OF_CONNECTIONS | problems(InvalidConnectionList))
def connect_businesses(
    request: Request, services: Services, content: SentBytes
) -> ManyConnectedTold:
    """Connect up to 1,000 businesses from CSV text, all of them or none. Spends no call.

    The first line names the columns business_id, name, project_id and token. Businesses that
    there are not yet are added. Every row that cannot be used is named by line and reason.
    """
    connected = connect_many(
        services.database,
        services.vault,
        text=decode_connection_list(content),
        now=services.clock(),
    )
    for each in connected:
        if each.is_new:
            audit(request, AuditAction.BUSINESS_ADDED, business_id=each.business_id)
        audit(
            request,
            AuditAction.CONNECTED,
            business_id=each.business_id,
            project_id=each.project_id,
            token="replaced",  # noqa: S106 - what became of it
        )
    return ManyConnectedTold(connected=[ConnectedTold.model_validate(c) for c in connected])


@router.get("/audit", openapi_extra=problems(InvalidBusinessId))
def read_audit_log(
    services: Services,
    business_id: Annotated[
        str | None, Query(max_length=64, description="Only of this business.")
    ] = None,
    before_id: Annotated[
        int | None, Query(ge=1, le=LARGEST_ID, description="Only older entries than this one.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> AuditTold:
    """Who connected, tested, paused, disconnected or purged what, when and from where."""
    found = list_audit(
        services.database,
        business_id=None if business_id is None else parse_business_id(business_id),
        before_id=before_id,
        # One more than is told says whether there is another page.
        limit=limit + 1,
    )
    entries = [AuditEntryTold.model_validate(entry) for entry in found[:limit]]
    return AuditTold(
        entries=entries,
        next_before_id=entries[-1].id if len(found) > limit else None,
    )
