"""Signing in and out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from clarity_pipeline.domain.access import Role, secret_hash
from clarity_pipeline.panel.errors import WrongCredentials, problem_of
from clarity_pipeline.panel.guard import (
    CurrentPrincipal,
    Services,
    cookie_name,
    forget_cookie,
    sign_in,
)
from clarity_pipeline.panel.passwords import is_password
from clarity_pipeline.panel.templating import page
from clarity_pipeline.store.panel_users import end_session, read_password_hash

public = APIRouter(include_in_schema=False)
signed_in = APIRouter(include_in_schema=False)


@signed_in.get("/")
def start(principal: CurrentPrincipal) -> Response:
    """Where a person begins: the agency at its overview, a client at its own business."""
    address = "/agency" if principal.role is Role.AGENCY else "/client/clarity"
    return RedirectResponse(address, status_code=303)


@public.get("/login")
def show_login(request: Request) -> Response:
    return page(request, "login.html", login="", problem=None)


@public.post("/login")
def log_in(
    request: Request,
    services: Services,
    login: Annotated[str, Form(max_length=254)],
    password: Annotated[str, Form(max_length=256)],
) -> Response:
    """Begin a session, or say that login and password do not belong together."""
    known = read_password_hash(services.database, login.strip().lower())
    if not is_password(password, known[1] if known else None) or known is None:
        problem = problem_of(WrongCredentials())
        return page(request, "login.html", status_code=problem.status, login=login, problem=problem)
    response = RedirectResponse("/", status_code=303)
    sign_in(request, response, user_id=known[0].id)
    return response


@signed_in.post("/logout")
def log_out(request: Request, services: Services) -> Response:
    """End this session."""
    secret = request.cookies[cookie_name(services)]
    end_session(services.database, token_hash=secret_hash(secret))
    response = RedirectResponse("/login", status_code=303)
    forget_cookie(request, response)
    return response
