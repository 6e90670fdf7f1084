"""Deleting the history of a business that was disconnected: the agency's choice, made twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from clarity_pipeline.domain.audit import AuditAction
from clarity_pipeline.domain.errors import PurgeRefused
from clarity_pipeline.operations.purge import check_can_purge, purge, purge_preview
from clarity_pipeline.panel.auditing import audit
from clarity_pipeline.panel.errors import problem_of
from clarity_pipeline.panel.guard import CurrentBusiness, Services
from clarity_pipeline.panel.services import services_of
from clarity_pipeline.panel.templating import base_of, page
from clarity_pipeline.store.businesses import Business

router = APIRouter(include_in_schema=False)

_TABLES: Final[Mapping[str, str]] = {
    "rule_decisions": "Decisions of rules that fired or changed",
    "rule_actions": "Actions that rules called for, those not sent yet among them",
    "rule_evaluations": "What rules decided, and on what numbers",
    "clarity_daily_metrics": "Daily metrics by page, device, source, country and campaign",
    "clarity_url_aggregates": "Daily values by page",
    "clarity_url_week_aggregates": "Weekly values by page",
    "clarity_dimension_aggregates": "Daily values by kind of visitor",
    "clarity_business_aggregates": "Daily values of the business",
    "clarity_daily_slices": "Slices that the days consist of",
    "clarity_raw_exports": "Answers of Clarity, as they came",
    "clarity_sync_requests": "Requests for a sync",
    "clarity_sync_jobs": "Syncs",
}


@router.get("/purge")
def ask_before_purge(request: Request, business: CurrentBusiness) -> Response:
    """What would be deleted, and the field that asks for the business's id."""
    return _ask(request, business)


@router.post("/purge")
def purge_history(
    request: Request,
    services: Services,
    business: CurrentBusiness,
    typed_id: Annotated[str, Form(max_length=200)] = "",
) -> Response:
    """Delete the history once the id was typed again."""
    if typed_id.strip() != business.id:
        return _ask(
            request, business, typed_error=f"Type the id {business.id} to say that you mean it."
        )
    try:
        purged = purge(services.database, business.id)
    except PurgeRefused as error:
        return _ask(request, business, refusal=error)
    audit(
        request,
        AuditAction.PURGED,
        business_id=business.id,
        rows=purged.total,
        days=purged.days,
    )
    return RedirectResponse(f"{base_of(request)}?done=purged", status_code=303)


def _ask(
    request: Request,
    business: Business,
    *,
    typed_error: str = "",
    refusal: PurgeRefused | None = None,
) -> Response:
    database = services_of(request).database
    if refusal is None:
        try:
            check_can_purge(database, business.id)
        except PurgeRefused as error:
            refusal = error
    problem = problem_of(refusal) if refusal else None
    asked_wrongly = request.method == "POST"
    return page(
        request,
        "purge.html",
        status_code=(problem.status if problem else 422) if asked_wrongly else 200,
        tab="connection",
        preview=purge_preview(database, business.id),
        tables=_TABLES,
        problem=problem,
        typed_error=typed_error,
    )
