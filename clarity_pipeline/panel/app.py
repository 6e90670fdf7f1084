"""The application: routes with their audiences, and how its errors are told."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlsplit

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from clarity_pipeline.domain.access import Audience
from clarity_pipeline.domain.errors import ClarityError
from clarity_pipeline.panel import (
    account_pages,
    api,
    audit_pages,
    connection_pages,
    history_pages,
    key_pages,
    overview_pages,
    people_pages,
    purge_pages,
    sign_in_pages,
)
from clarity_pipeline.panel.browser_safety import BodyLimit, BrowserSafety
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
    for router in (sign_in_pages.signed_in, account_pages.router):
        app.include_router(router, dependencies=[allow(Audience.SIGNED_IN)])
    for router in (people_pages.router, key_pages.router, audit_pages.router):
        app.include_router(router, dependencies=[allow(Audience.AGENCY_PEOPLE)])
    app.include_router(overview_pages.router, dependencies=[allow(Audience.AGENCY)])
    app.include_router(
        purge_pages.router,
        prefix="/agency/businesses/{business_id}/clarity",
        dependencies=AGENCY_BUSINESS,
    )
    for pages in (connection_pages.router, history_pages.router):
        app.include_router(
            pages, prefix="/agency/businesses/{business_id}/clarity", dependencies=AGENCY_BUSINESS
        )
        app.include_router(pages, prefix="/client/clarity", dependencies=CLIENT_BUSINESS)
    app.include_router(
        api.of_business,
        prefix="/api/agency/businesses/{business_id}/clarity",
        dependencies=AGENCY_BUSINESS,
    )
    app.include_router(api.of_business, prefix="/api/client/clarity", dependencies=CLIENT_BUSINESS)
    app.include_router(api.of_agency, prefix="/api/agency", dependencies=[allow(Audience.AGENCY)])
    app.include_router(api.public, prefix="/api", dependencies=[allow(Audience.PUBLIC)])
    app.mount("/static", StaticFiles(directory=STATIC_DIRECTORY), name="static")
    check_every_route_is_guarded(app)
    for expected in (ClarityError, RequestValidationError, HTTPException):
        app.add_exception_handler(expected, tell)
    # The last one sees a request first.
    app.add_middleware(BodyLimit, tell=tell)
    app.add_middleware(UnexpectedErrors, tell=tell)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=_hosts(services))
    app.add_middleware(
        BrowserSafety,
        frame_ancestors=services.settings.panel_frame_ancestors,
        is_https=services.is_https,
    )
    return app


def tell(request: Request, error: Exception) -> Response:
    """An error as an answer: a problem below /api, a page elsewhere, a fragment to htmx."""
    problem = problem_of(error)
    if request.url.path == "/api" or request.url.path.startswith("/api/"):
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


def _hosts(services: PanelServices) -> list[str]:
    """Names under which we answer; for others the browser may be fooled about whose page it is."""
    public = urlsplit(services.settings.panel_url).hostname
    return ["localhost", "127.0.0.1", "[::1]", *([public] if public else [])]
