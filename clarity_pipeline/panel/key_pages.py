"""API keys: with what machines reach the JSON API."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from clarity_pipeline.domain.access import MAX_KEY_NAME_LENGTH, KeyScope
from clarity_pipeline.domain.audit import AuditAction
from clarity_pipeline.domain.errors import InputError
from clarity_pipeline.operations.access import make_api_key
from clarity_pipeline.panel.auditing import audit
from clarity_pipeline.panel.errors import problem_of
from clarity_pipeline.panel.guard import CurrentPrincipal, Services
from clarity_pipeline.panel.people_pages import Whose, business_in_form
from clarity_pipeline.panel.services import services_of
from clarity_pipeline.panel.templating import page
from clarity_pipeline.store.api_keys import get_key, list_keys, revoke_key
from clarity_pipeline.store.businesses import list_businesses

router = APIRouter(include_in_schema=False)

_LARGEST_ID = 2**63 - 1


@router.get("/agency/keys")
def show_keys(request: Request) -> Response:
    return _keys(request)


@router.post("/agency/keys")
def add_api_key(
    request: Request,
    services: Services,
    principal: CurrentPrincipal,
    name: Annotated[str, Form(max_length=MAX_KEY_NAME_LENGTH)],
    scope: Annotated[KeyScope, Form()],
    whose: Whose,
) -> Response:
    """Make a key; the answer shows its secret this once."""
    try:
        key, secret = make_api_key(
            services.database,
            name=name,
            scope=scope,
            business_id=business_in_form(whose),
            created_by=principal.label,
            now=services.clock(),
        )
    except InputError as error:
        return _keys(request, error=error, name=name, scope=scope, whose=whose)
    audit(
        request,
        AuditAction.KEY_ADDED,
        business_id=key.business_id,
        key=key.name,
        scope=key.scope.value,
        ends_in=key.key_last4,
    )
    return page(request, "new_key.html", key=key, secret=secret)


@router.post("/agency/keys/revoke")
def end_api_key(
    request: Request, services: Services, key_id: Annotated[int, Form(ge=1, le=_LARGEST_ID)]
) -> Response:
    """From now on nobody gets in with the key."""
    key = get_key(services.database, key_id)
    if revoke_key(services.database, key_id=key_id, now=services.clock()):
        audit(
            request,
            AuditAction.KEY_REVOKED,
            business_id=key.business_id,
            key=key.name,
            ends_in=key.key_last4,
        )
    return RedirectResponse("/agency/keys", status_code=303)


def _keys(
    request: Request,
    *,
    error: InputError | None = None,
    name: str = "",
    scope: KeyScope = KeyScope.READ,
    whose: str = "",
) -> Response:
    database = services_of(request).database
    problem = problem_of(error) if error else None
    return page(
        request,
        "keys.html",
        status_code=problem.status if problem else 200,
        keys=list_keys(database),
        businesses=list_businesses(database),
        problem=problem,
        name=name,
        scope=scope,
        whose=whose,
    )
