"""Who asks, and whether they may: every route is refused unless it says whom it is for.

A route, or the router it is included with, depends on `allow(...)`; `check_every_route_is_guarded`
refuses to start an application with a route that does not.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, Path, Request, params
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Mount

from clarity_pipeline.domain.access import (
    SESSION_LIFETIME,
    Admission,
    Audience,
    Principal,
    admission,
    is_form_token,
    secret_hash,
)
from clarity_pipeline.domain.connections import BUSINESS_ID_PATTERN, parse_business_id
from clarity_pipeline.domain.errors import InvalidBusinessId, UnknownBusiness
from clarity_pipeline.panel.errors import (
    FormExpired,
    NotAllowed,
    NotSignedIn,
    WrongCredentials,
)
from clarity_pipeline.panel.services import PanelServices, services_of
from clarity_pipeline.store.api_keys import principal_of_key
from clarity_pipeline.store.businesses import Business, get_business
from clarity_pipeline.store.panel_users import (
    PanelUser,
    begin_session,
    end_session,
    principal_of_session,
)

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
FORM_TOKEN_HEADER: Final = "x-form-token"  # noqa: S105 - the name of a header
FORM_TOKEN_FIELD: Final = "form_token"  # noqa: S105 - the name of a field


def allow(audience: Audience) -> Any:
    """A dependency that lets this audience in, and nobody else.

    Raises NotSignedIn, NotAllowed, or FormExpired for a form that was not made by this session.
    """

    async def guard(request: Request) -> None:
        changes = request.method not in SAFE_METHODS
        if changes and not _comes_from_our_pages(request):
            raise FormExpired
        principal = await run_in_threadpool(_find_principal, request)
        request.state.principal = principal
        match admission(audience, principal, changes=changes):
            case Admission.SIGN_IN_FIRST:
                raise NotSignedIn
            case Admission.FORBIDDEN:
                raise NotAllowed
            case Admission.ADMITTED:
                pass
        session_secret = request.cookies.get(cookie_name(services_of(request)))
        signed_in = principal is not None and principal.is_person
        if changes and signed_in and not await _carries_form_token(request, session_secret):
            raise FormExpired

    guard.audience = audience  # pyright: ignore[reportFunctionMemberAccess]
    return Depends(guard)


def check_every_route_is_guarded(app: FastAPI) -> None:
    """Raises RuntimeError naming a route that does not say whom it is for."""
    for route in iter_route_contexts(app.routes):
        if audience_of(route) is None:
            raise RuntimeError(f"{route.path} does not say whom it is for; see panel/guard.py.")


def audience_of(route: RouteContext) -> Audience | None:
    """Whom a route is for. Files of the application itself are public."""
    original = route.original_route
    if isinstance(original, Mount) and original.name == "static":
        return Audience.PUBLIC
    if not isinstance(original, APIRoute):
        return None
    audiences = [
        audience
        for dependency in route.dependencies
        if (audience := getattr(dependency.dependency, "audience", None)) is not None
    ]
    return audiences[0] if len(audiences) == 1 else None


def current_principal(request: Request) -> Principal:
    """Who was let in; for routes that are not public."""
    principal = request.state.principal
    assert isinstance(principal, Principal)
    return principal


async def business_in_path(
    request: Request,
    business_id: Annotated[
        str,
        Path(
            description="Id of a business.",
            examples=["acme"],
            # Only said: an id that cannot be is answered like one that is not there.
            json_schema_extra={"pattern": f"^{BUSINESS_ID_PATTERN}$"},
        ),
    ],
) -> None:
    """The business that an agency route names. Raises UnknownBusiness."""
    services = services_of(request)
    try:
        parse_business_id(business_id)
    except InvalidBusinessId:
        raise UnknownBusiness(business_id) from None
    request.state.business = await run_in_threadpool(get_business, services.database, business_id)


async def business_of_client(request: Request) -> None:
    """A client's own business: of the session or key, whatever the request says."""
    services = services_of(request)
    own = current_principal(request).business_id
    assert own is not None
    request.state.business = await run_in_threadpool(get_business, services.database, own)


def current_business(request: Request) -> Business:
    """The business that the request is about; for routes below a business."""
    business = request.state.business
    assert isinstance(business, Business)
    return business


Services = Annotated[PanelServices, Depends(services_of)]
CurrentPrincipal = Annotated[Principal, Depends(current_principal)]
CurrentBusiness = Annotated[Business, Depends(current_business)]

AGENCY_BUSINESS: Final[list[params.Depends]] = [
    allow(Audience.AGENCY),
    Depends(business_in_path),
]
"""Dependencies of a router that is included for the agency, below `{business_id}`."""

CLIENT_BUSINESS: Final[list[params.Depends]] = [
    allow(Audience.CLIENT),
    Depends(business_of_client),
]
"""Dependencies of the same router included for clients, without an id in its path."""


def cookie_name(services: PanelServices) -> str:
    """`__Host-` binds a secure cookie to this very host; browsers refuse it without https."""
    return "__Host-clarity_session" if services.is_https else "clarity_session"


def sign_in(request: Request, response: Response, *, user: PanelUser, password_hash: str) -> None:
    """Begin a session and hand its secret to the browser, the only place where it is kept.

    A session that the browser had before, perhaps somebody else's, is ended. Raises
    WrongCredentials when the user's password is no longer the one that was judged.
    """
    services = services_of(request)
    secret = secrets.token_urlsafe(32)
    begun = begin_session(
        services.database,
        user_id=user.id,
        password_hash=password_hash,
        token_hash=secret_hash(secret),
        now=services.clock(),
        remote_address=remote_address(request),
        user_agent=request.headers.get("user-agent"),
    )
    if not begun:
        raise WrongCredentials
    if earlier := session_hash(request):
        end_session(services.database, token_hash=earlier)
    request.state.principal = user.principal
    framed = bool(services.settings.panel_frame_ancestors)
    response.set_cookie(
        cookie_name(services),
        secret,
        max_age=int(SESSION_LIFETIME.total_seconds()),
        path="/",
        secure=services.is_https,
        httponly=True,
        # In a client portal's frame we are a third party, and form tokens alone protect us.
        samesite="none" if framed else "lax",
    )


def session_hash(request: Request) -> str | None:
    """How the session of the request's cookie is stored, whether or not there is one."""
    secret = request.cookies.get(cookie_name(services_of(request)))
    return secret_hash(secret) if secret else None


def forget_cookie(request: Request, response: Response) -> None:
    """Take the cookie of a session that has ended away from the browser."""
    services = services_of(request)
    response.delete_cookie(cookie_name(services), path="/", secure=services.is_https, httponly=True)


def remote_address(request: Request) -> str:
    """Where a request comes from, as uvicorn tells it (behind a proxy: what the proxy says)."""
    return (request.client.host if request.client else "unknown")[:64]


def _find_principal(request: Request) -> Principal | None:
    services = services_of(request)
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return principal_of_key(
            services.database, key_hash=secret_hash(key.strip()), now=services.clock()
        )
    token_hash = session_hash(request)
    if token_hash is None:
        return None
    return principal_of_session(services.database, token_hash=token_hash, now=services.clock())


def _comes_from_our_pages(request: Request) -> bool:
    """Whether a browser says that another site sent this. Programs say nothing and may."""
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return False
    origin = request.headers.get("origin")
    if origin is None:
        return True
    return urlsplit(origin).netloc in {
        request.headers.get("host"),
        urlsplit(services_of(request).settings.panel_url).netloc,
    }


async def _carries_form_token(request: Request, session_secret: str | None) -> bool:
    given: object = request.headers.get(FORM_TOKEN_HEADER)
    content_type = request.headers.get("content-type", "")
    if given is None and content_type.startswith(
        ("application/x-www-form-urlencoded", "multipart/form-data")
    ):
        given = (await request.form()).get(FORM_TOKEN_FIELD)
    return (
        isinstance(given, str)
        and session_secret is not None
        and is_form_token(given, session_secret)
    )
