"""The audit log as the agency reads it."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from clarity_pipeline.domain.connections import parse_business_id
from clarity_pipeline.panel.guard import Services
from clarity_pipeline.panel.templating import page
from clarity_pipeline.store.audit_log import list_audit
from clarity_pipeline.store.businesses import list_businesses

router = APIRouter(include_in_schema=False)

PAGE_LENGTH: Final = 50
_LARGEST_ID: Final = 2**63 - 1


@router.get("/agency/audit")
def show_audit_log(
    request: Request,
    services: Services,
    business: Annotated[str, Query(max_length=64)] = "",
    before: Annotated[int | None, Query(ge=1, le=_LARGEST_ID)] = None,
) -> Response:
    """The latest entries, of one business or of all; `before` is the id at which a page ends."""
    found = list_audit(
        services.database,
        business_id=parse_business_id(business) if business else None,
        before_id=before,
        # One more than is shown says whether there is another page.
        limit=PAGE_LENGTH + 1,
    )
    entries = found[:PAGE_LENGTH]
    older = None
    if len(found) > PAGE_LENGTH:
        older = urlencode(({"business": business} if business else {}) | {"before": entries[-1].id})
    return page(
        request,
        "audit.html",
        entries=entries,
        older=older,
        is_latest=before is None,
        business=business,
        businesses=list_businesses(services.database),
    )
