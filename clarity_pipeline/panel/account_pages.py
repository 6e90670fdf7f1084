"""One's own account: the password, and where one is signed in."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from clarity_pipeline.domain.audit import AuditAction
from clarity_pipeline.domain.errors import ClarityError, InvalidPassword
from clarity_pipeline.panel.auditing import audit
from clarity_pipeline.panel.errors import Problem, TooManySignIns, WrongCredentials, problem_of
from clarity_pipeline.panel.guard import (
    CurrentPrincipal,
    Services,
    forget_cookie,
    session_hash,
)
from clarity_pipeline.panel.passwords import check_repeated, hash_new_password
from clarity_pipeline.panel.services import services_of
from clarity_pipeline.panel.sign_in_pages import Password, judge_password
from clarity_pipeline.panel.templating import page
from clarity_pipeline.store.panel_users import (
    change_password,
    end_all_sessions,
    get_user,
    list_sessions,
)

router = APIRouter(include_in_schema=False)


@router.get("/account")
def show_account(request: Request, principal: CurrentPrincipal, changed: bool = False) -> Response:  # noqa: FBT001, FBT002 - of the address
    return _account(request, principal.name, changed=changed)


@router.post("/account/password")
def set_own_password(
    request: Request,
    services: Services,
    principal: CurrentPrincipal,
    old: Password,
    password: Password,
    repeated: Password,
) -> Response:
    """Change the password; every other session of the person ends."""
    try:
        user, _ = judge_password(request, login=principal.name, password=old)
        password_hash = hash_new_password(check_repeated(password, repeated), login=user.login)
    except WrongCredentials:
        wrong = InvalidPassword("That is not your present password; nothing was changed.")
        return _account(request, principal.name, error=wrong)
    except (InvalidPassword, TooManySignIns) as error:
        return _account(request, principal.name, error=error)
    change_password(
        services.database,
        user_id=user.id,
        password_hash=password_hash,
        now=services.clock(),
        kept_token_hash=session_hash(request),
    )
    audit(
        request,
        AuditAction.PASSWORD_CHANGED,
        business_id=principal.business_id,
        user=principal.name,
    )
    return RedirectResponse("/account?changed=true", status_code=303)


@router.post("/account/sign-out-everywhere")
def sign_out_everywhere(
    request: Request, services: Services, principal: CurrentPrincipal
) -> Response:
    """End all sessions of the person, this one too."""
    assert principal.user_id is not None
    ended = end_all_sessions(services.database, user_id=principal.user_id)
    audit(
        request,
        AuditAction.SIGNED_OUT_EVERYWHERE,
        business_id=principal.business_id,
        sessions=ended,
    )
    response = RedirectResponse("/login", status_code=303)
    forget_cookie(request, response)
    return response


def _account(
    request: Request, login: str, *, changed: bool = False, error: ClarityError | None = None
) -> Response:
    services = services_of(request)
    user = get_user(services.database, login)
    problem: Problem | None = problem_of(error) if error else None
    response = page(
        request,
        "account.html",
        status_code=problem.status if problem else 200,
        user=user,
        sessions=list_sessions(services.database, user_id=user.id, now=services.clock()),
        own_session=session_hash(request),
        changed=changed,
        problem=problem,
    )
    if problem:
        response.headers.update(problem.headers)
    return response
