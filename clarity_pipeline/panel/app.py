"""The application: routes with their audiences, and how its errors are told."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final
from urllib.parse import quote, urlsplit

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import compile_path
from starlette.staticfiles import StaticFiles

from clarity_pipeline.domain.access import Audience
from clarity_pipeline.domain.errors import ClarityError
from clarity_pipeline.panel import (
    account_pages,
    api,
    audit_pages,
    client_rule_pages,
    connection_pages,
    data_pages,
    history_pages,
    key_pages,
    overview_pages,
    people_pages,
    purge_pages,
    rule_action_pages,
    rule_backtest_pages,
    rule_builder_pages,
    rule_decision_pages,
    rule_pages,
    rules_pages,
    sign_in_pages,
)
from clarity_pipeline.panel.browser_safety import BodyLimit, BrowserSafety, KnownHosts
from clarity_pipeline.panel.errors import NotSignedIn, problem_of
from clarity_pipeline.panel.guard import (
    AGENCY_BUSINESS,
    CLIENT_BUSINESS,
    SAFE_METHODS,
    allow,
    check_every_route_is_guarded,
)
from clarity_pipeline.panel.services import PanelServices
from clarity_pipeline.panel.templating import STATIC_DIRECTORY, page
from clarity_pipeline.panel.unexpected_errors import UnexpectedErrors

API_VERSION: Final = "1.0.0"

_NOTICE: Final = {"HX-Retarget": "#notice", "HX-Reswap": "innerHTML", "HX-Reselect": ".note"}


def create_app(services: PanelServices) -> FastAPI:
    """The panel over a store. Raises RuntimeError for a route that does not say whom it is for."""
    app = FastAPI(
        title="Clarity panel",
        version=API_VERSION,
        # FastAPI's own documentation pages load their scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.services = services
    app.include_router(sign_in_pages.public, dependencies=[allow(Audience.PUBLIC)])
    for pages in (sign_in_pages.signed_in, account_pages.router):
        app.include_router(pages, dependencies=[allow(Audience.SIGNED_IN)])
    for pages in (people_pages.router, key_pages.router, audit_pages.router):
        app.include_router(pages, dependencies=[allow(Audience.AGENCY_PEOPLE)])
    app.include_router(overview_pages.router, dependencies=[allow(Audience.AGENCY)])
    for pages in (
        rules_pages.router,
        rule_decision_pages.router,
        rule_action_pages.router,
        rule_builder_pages.router,
        rule_pages.router,
        rule_backtest_pages.router,
    ):
        app.include_router(pages, dependencies=[allow(Audience.AGENCY)])
    app.include_router(
        purge_pages.router,
        prefix="/agency/businesses/{business_id}/clarity",
        dependencies=AGENCY_BUSINESS,
    )
    for pages in (connection_pages.router, data_pages.router, history_pages.router):
        app.include_router(
            pages, prefix="/agency/businesses/{business_id}/clarity", dependencies=AGENCY_BUSINESS
        )
        app.include_router(pages, prefix="/client/clarity", dependencies=CLIENT_BUSINESS)
    app.include_router(client_rule_pages.router, prefix="/client", dependencies=CLIENT_BUSINESS)
    app.include_router(
        api.of_business,
        prefix="/api/agency/businesses/{business_id}/clarity",
        dependencies=AGENCY_BUSINESS,
    )
    app.include_router(api.of_business, prefix="/api/client/clarity", dependencies=CLIENT_BUSINESS)
    app.include_router(
        api.purging,
        prefix="/api/agency/businesses/{business_id}/clarity",
        dependencies=AGENCY_BUSINESS,
    )
    app.include_router(
        api.rule_visibility,
        prefix="/api/agency/businesses/{business_id}",
        dependencies=AGENCY_BUSINESS,
    )
    app.include_router(api.rules_of_client, prefix="/api/client", dependencies=CLIENT_BUSINESS)
    app.include_router(api.of_agency, prefix="/api/agency", dependencies=[allow(Audience.AGENCY)])
    app.include_router(api.public, prefix="/api", dependencies=[allow(Audience.PUBLIC)])
    app.mount("/static", StaticFiles(directory=STATIC_DIRECTORY), name="static")
    check_every_route_is_guarded(app)
    for expected in (ClarityError, RequestValidationError, HTTPException):
        app.add_exception_handler(expected, tell)
    # The last one sees a request first.
    app.add_middleware(BodyLimit, tell=tell)
    app.add_middleware(UnexpectedErrors, tell=tell)
    app.add_middleware(KnownHosts, hosts=_hosts(services), tell=tell)
    app.add_middleware(
        BrowserSafety,
        frame_ancestors=services.settings.panel_frame_ancestors,
        is_https=services.is_https,
    )
    return app


def tell(request: Request, error: Exception) -> Response:
    """An error as an answer: a problem below /api, a page elsewhere, a fragment to htmx."""
    problem = problem_of(error)
    if problem.status is HTTPStatus.METHOD_NOT_ALLOWED:
        # Starlette names the methods of the first route at an address, and there can be several.
        problem.headers["Allow"] = ", ".join(sorted(_methods_at(request)))
    # Not of the URL, which begins with whatever the request says of its host.
    path = request.scope["path"]
    if path == "/api" or path.startswith("/api/"):
        return JSONResponse(
            problem.document(),
            status_code=problem.status,
            headers=problem.headers,
            media_type="application/problem+json",
        )
    is_fragment = "hx-request" in request.headers
    if isinstance(error, NotSignedIn):
        # What a form would have done is not done later by going to its address.
        is_page = request.method in SAFE_METHODS
        address = f"/login?next={quote(request.url.path)}" if is_page else "/login"
        if is_fragment:
            return Response(headers={"HX-Redirect": address})
        return RedirectResponse(address, status_code=303)
    template = "error_fragment.html" if is_fragment else "error.html"
    response = page(request, template, status_code=problem.status, problem=problem)
    if is_fragment:
        # Whatever the request was to swap, and whichever part of a page it was to take.
        response.headers.update(_NOTICE)
    response.headers.update(problem.headers)
    return response


def _methods_at(request: Request) -> set[str]:
    """The methods that the address of a request takes."""
    return {
        method
        for route in iter_route_contexts(request.app.routes)
        if route.methods and compile_path(route.path or "")[0].match(request.url.path)
        for method in route.methods
    }


def _hosts(services: PanelServices) -> list[str]:
    """Names under which we answer; for others the browser may be fooled about whose page it is."""
    public = urlsplit(services.settings.panel_url).hostname
    return ["localhost", "127.0.0.1", "[::1]", *([public] if public else [])]
