"""Who can sign in: the agency's people and its clients."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from clarity_pipeline.domain.access import Role, parse_login
from clarity_pipeline.domain.audit import AuditAction
from clarity_pipeline.domain.connections import parse_business_id
from clarity_pipeline.domain.errors import InputError, InvalidLogin
from clarity_pipeline.operations.access import make_initial_password
from clarity_pipeline.panel.auditing import audit
from clarity_pipeline.panel.errors import problem_of
from clarity_pipeline.panel.guard import CurrentPrincipal, Services
from clarity_pipeline.panel.passwords import hash_password
from clarity_pipeline.panel.services import services_of
from clarity_pipeline.panel.sign_in_pages import Login
from clarity_pipeline.panel.templating import page
from clarity_pipeline.store.businesses import list_businesses
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.panel_users import (
    PanelUser,
    add_user,
    change_password,
    get_user,
    list_users,
    revoke_user,
)

router = APIRouter(include_in_schema=False)

THE_AGENCY: Final = "*"
"""Stands in a form for the agency itself; no business can have that id."""

Whose = Annotated[str, Form(max_length=64)]
"""A business, or THE_AGENCY."""


@router.get("/agency/people")
def show_people(request: Request) -> Response:
    return _people(request)


@router.post("/agency/people")
def add_person(
    request: Request,
    services: Services,
    login: Login,
    whose: Whose,
) -> Response:
    """Add a user with a password made here, which the answer shows this once.

    Nobody has to think of one, it is as strong as a key, and it works without a mail server; a
    link for the purpose would have to be handed over just the same.
    """
    password = make_initial_password()
    try:
        business_id = business_in_form(whose)
        user = add_user(
            services.database,
            login=parse_login(login),
            password_hash=hash_password(password),
            role=Role.AGENCY if business_id is None else Role.CLIENT,
            business_id=business_id,
            now=services.clock(),
        )
    except InputError as error:
        return _people(request, error=error, login=login, whose=whose)
    audit(
        request,
        AuditAction.USER_ADDED,
        business_id=user.business_id,
        user=user.login,
        role=user.role.value,
    )
    return page(request, "new_password.html", user=user, password=password)


@router.post("/agency/people/password")
def replace_password(
    request: Request, services: Services, principal: CurrentPrincipal, login: Login
) -> Response:
    """Give somebody a new password, made here and shown this once; their sessions end."""
    user = _somebody_else(services.database, login, than=principal.name)
    password = make_initial_password()
    change_password(
        services.database,
        user_id=user.id,
        password_hash=hash_password(password),
        now=services.clock(),
    )
    audit(request, AuditAction.PASSWORD_CHANGED, business_id=user.business_id, user=user.login)
    return page(request, "new_password.html", user=user, password=password)


@router.post("/agency/people/revoke")
def end_access(
    request: Request, services: Services, principal: CurrentPrincipal, login: Login
) -> Response:
    """End somebody's access and sessions at once."""
    user = _somebody_else(services.database, login, than=principal.name)
    if revoke_user(services.database, login=user.login, now=services.clock()):
        audit(request, AuditAction.USER_REVOKED, business_id=user.business_id, user=user.login)
    return RedirectResponse("/agency/people", status_code=303)


def business_in_form(whose: str) -> str | None:
    """None for the agency. Raises InvalidBusinessId."""
    return None if whose == THE_AGENCY else parse_business_id(whose)


def _somebody_else(database: Database, login: str, *, than: str) -> PanelUser:
    """Nobody locks themselves out: so the agency always keeps a user. Raises UnknownUser."""
    user = get_user(database, parse_login(login))
    if user.login == than:
        raise InvalidLogin(
            "That is you: your password is changed under Account, and your access is ended by "
            "somebody else of the agency."
        )
    return user


def _people(
    request: Request,
    *,
    error: InputError | None = None,
    login: str = "",
    whose: str = "",
) -> Response:
    database = services_of(request).database
    problem = problem_of(error) if error else None
    return page(
        request,
        "people.html",
        status_code=problem.status if problem else 200,
        users=list_users(database),
        businesses=list_businesses(database),
        problem=problem,
        login=login,
        whose=whose,
    )
