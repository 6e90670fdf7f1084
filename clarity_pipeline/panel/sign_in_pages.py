"""Signing in and out, and the set-up link with which the agency's first user is made."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from clarity_pipeline.domain.access import (
    MAX_PASSWORD_LENGTH,
    Role,
    own_path,
    parse_login,
    secret_hash,
)
from clarity_pipeline.domain.audit import AuditAction
from clarity_pipeline.domain.errors import AlreadySetUp, ClarityError, InputError, InvalidLogin
from clarity_pipeline.panel.auditing import audit
from clarity_pipeline.panel.errors import TooManySignIns, WrongCredentials, problem_of
from clarity_pipeline.panel.guard import (
    CurrentPrincipal,
    Services,
    forget_cookie,
    remote_address,
    session_hash,
    sign_in,
)
from clarity_pipeline.panel.passwords import (
    check_repeated,
    hash_new_password,
    hash_password,
    is_password,
    needs_rehash,
)
from clarity_pipeline.panel.services import PanelServices, services_of
from clarity_pipeline.panel.templating import page
from clarity_pipeline.store.panel_users import (
    PanelUser,
    end_session,
    has_agency_user,
    read_password_hash,
    rehash_password,
)
from clarity_pipeline.store.setup_codes import use_setup_code
from clarity_pipeline.store.sign_in_failures import begin_sign_in, forget_failures

public = APIRouter(include_in_schema=False)
signed_in = APIRouter(include_in_schema=False)

START: Final = "/"

Login = Annotated[str, Form(max_length=254)]
Password = Annotated[str, Form(max_length=MAX_PASSWORD_LENGTH)]


@signed_in.get(START)
def start(principal: CurrentPrincipal) -> Response:
    """Where a person begins: the agency at its overview, a client at its own business."""
    address = "/agency" if principal.role is Role.AGENCY else "/client/clarity"
    return RedirectResponse(address, status_code=303)


@public.get("/login")
def show_login(request: Request, next: str = "") -> Response:  # noqa: A002 - as addresses have it
    return page(request, "login.html", login="", next=own_path(next) or START, problem=None)


@public.post("/login")
def log_in(
    request: Request,
    login: Login,
    password: Password,
    next: Annotated[str, Form()] = "",  # noqa: A002 - as addresses have it
) -> Response:
    """Begin a session and go on to `next`, or say why not."""
    target = own_path(next) or START
    response = RedirectResponse(target, status_code=303)
    try:
        user, password_hash = judge_password(request, login=login, password=password)
        sign_in(request, response, user=user, password_hash=password_hash)
    except (TooManySignIns, WrongCredentials) as error:
        return _again(request, "login.html", error, login=login, next=target)
    audit(request, AuditAction.SIGNED_IN, business_id=user.business_id)
    return response


@public.get("/setup")
def show_setup(request: Request, services: Services) -> Response:
    """The form for the first user of the agency, or that there is one."""
    is_set_up = has_agency_user(services.database)
    return page(request, "setup.html", is_set_up=is_set_up, login="", problem=None)


@public.post("/setup")
def set_up(
    request: Request,
    services: Services,
    code: Annotated[str, Form(max_length=100)],
    login: Login,
    password: Password,
    repeated: Password,
) -> Response:
    """Make the first user of the agency, once, and sign them in."""
    try:
        name = parse_login(login)
        password_hash = hash_new_password(check_repeated(password, repeated), login=name)
        user = use_setup_code(
            services.database,
            code_hash=secret_hash(code.strip()),
            login=name,
            password_hash=password_hash,
            now=services.clock(),
        )
    except InputError as error:
        is_set_up = isinstance(error, AlreadySetUp)
        return _again(request, "setup.html", error, login=login, is_set_up=is_set_up)
    response = RedirectResponse(START, status_code=303)
    sign_in(request, response, user=user, password_hash=password_hash)
    audit(request, AuditAction.USER_ADDED, user=user.login, role=user.role, by="set-up link")
    audit(request, AuditAction.SIGNED_IN)
    return response


@signed_in.post("/logout")
def log_out(request: Request, services: Services) -> Response:
    """End this session."""
    if token_hash := session_hash(request):
        end_session(services.database, token_hash=token_hash)
    response = RedirectResponse("/login", status_code=303)
    forget_cookie(request, response)
    return response


def judge_password(request: Request, *, login: str, password: str) -> tuple[PanelUser, str]:
    """Whose password that is, and its hash. Raises WrongCredentials or TooManySignIns.

    While there is a wait the right password is refused too: otherwise guessing could go on.
    """
    services = services_of(request)
    name = login.strip().lower()
    wait = begin_sign_in(
        services.database,
        login=name,
        remote_address=remote_address(request),
        now=services.clock(),
    )
    if wait:
        raise TooManySignIns(wait)
    user, password_hash = _known(services, name)
    if not is_password(password, password_hash) or user is None or password_hash is None:
        raise WrongCredentials
    forget_failures(services.database, login=name)
    if needs_rehash(password_hash):
        rehashed = hash_password(password)
        rehash_password(
            services.database, user_id=user.id, password_hash=password_hash, rehashed=rehashed
        )
        password_hash = rehashed
    return user, password_hash


def _known(services: PanelServices, login: str) -> tuple[PanelUser, str] | tuple[None, None]:
    try:
        # What cannot be a login is not asked for: PostgreSQL refuses some of it as text.
        return read_password_hash(services.database, parse_login(login)) or (None, None)
    except InvalidLogin:
        return None, None


def _again(request: Request, template: str, error: ClarityError, **values: object) -> Response:
    """The form once more, saying what was wrong with it."""
    problem = problem_of(error)
    response = page(request, template, status_code=problem.status, problem=problem, **values)
    response.headers.update(problem.headers)
    return response
