"""Settings, Data Sources, Clarity: how a business's connection stands, and what can be done."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from clarity_pipeline.operations.connection_status import connection_statuses
from clarity_pipeline.panel.guard import CurrentBusiness, Services
from clarity_pipeline.panel.templating import page

router = APIRouter(include_in_schema=False)


@router.get("")
def show_connection(request: Request, services: Services, business: CurrentBusiness) -> Response:
    """The connection of one business."""
    (status,) = connection_statuses(
        services.database,
        now=services.clock(),
        overview_default=services.settings.overview,
        business_ids=[business.id],
    )
    return page(request, "connection.html", business=business, status=status)
