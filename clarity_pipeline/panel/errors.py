"""How an error is told: a page to a browser, a problem (RFC 9457) to a program."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from clarity_pipeline.domain.errors import (
    AuthenticationFailed,
    ClarityError,
    ConfigurationError,
    ExportError,
    InputError,
    NotConnected,
    PurgeRefused,
    QuotaRefused,
    StoreError,
    SyncDisabled,
    UnknownBusiness,
    UnknownSyncRequest,
    UnknownUser,
)


class NotSignedIn(ClarityError):
    code = "not_signed_in"

    def __init__(self) -> None:
        super().__init__("Sign in first, or send a valid API key.")


class NotAllowed(ClarityError):
    code = "not_allowed"

    def __init__(self) -> None:
        super().__init__("Your account may not do that.")


class FormExpired(ClarityError):
    code = "form_expired"

    def __init__(self) -> None:
        super().__init__("That form is from another session or site; load the page again.")


class TooManySignIns(ClarityError):
    code = "too_many_sign_ins"

    def __init__(self, *, wait_seconds: int) -> None:
        super().__init__(
            f"Too many sign-ins have failed; wait {max(1, round(wait_seconds / 60))} min and try "
            "again."
        )
        self.wait_seconds = wait_seconds


class WrongCredentials(ClarityError):
    code = "wrong_credentials"

    def __init__(self) -> None:
        super().__init__("Login and password do not belong together.")


_STATUS: Final[dict[type[ClarityError], HTTPStatus]] = {
    NotSignedIn: HTTPStatus.UNAUTHORIZED,
    WrongCredentials: HTTPStatus.UNAUTHORIZED,
    NotAllowed: HTTPStatus.FORBIDDEN,
    FormExpired: HTTPStatus.FORBIDDEN,
    TooManySignIns: HTTPStatus.TOO_MANY_REQUESTS,
    UnknownBusiness: HTTPStatus.NOT_FOUND,
    UnknownSyncRequest: HTTPStatus.NOT_FOUND,
    UnknownUser: HTTPStatus.NOT_FOUND,
    NotConnected: HTTPStatus.CONFLICT,
    SyncDisabled: HTTPStatus.CONFLICT,
    PurgeRefused: HTTPStatus.CONFLICT,
    QuotaRefused: HTTPStatus.TOO_MANY_REQUESTS,
    InputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    AuthenticationFailed: HTTPStatus.BAD_GATEWAY,
    ExportError: HTTPStatus.BAD_GATEWAY,
    ConfigurationError: HTTPStatus.INTERNAL_SERVER_ERROR,
    StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
    ClarityError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""By the nearest class."""

_PANEL_SENTENCES: Final[dict[type[ClarityError], str]] = {
    UnknownBusiness: "There is no such business.",
    UnknownUser: "There is no such user.",
    NotConnected: "This business is not connected to Clarity; give its project id and API token.",
    PurgeRefused: (
        "Disconnect this business first, and wait until no sync of it runs; then its history can "
        "be deleted."
    ),
    SyncDisabled: "The sync of this business is switched off; switch it on first.",
}
"""Where the sentence of the class speaks of commands, which people here do not type."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as both audiences are told: `code` is stable, `detail` is one sentence."""

    status: HTTPStatus
    code: str
    detail: str
    headers: dict[str, str]
    invalid: tuple[dict[str, str], ...] = ()

    @property
    def title(self) -> str:
        return self.status.phrase

    def document(self) -> dict[str, Any]:
        """As RFC 9457 has it, with `code` and, for input, `errors` beside its own members."""
        document: dict[str, Any] = {
            "type": f"urn:clarity-pipeline:problem:{self.code}",
            "title": self.title,
            "status": self.status.value,
            "detail": self.detail,
            "code": self.code,
        }
        if self.invalid:
            document["errors"] = list(self.invalid)
        return document


def problem_of(error: Exception) -> Problem:
    """What to tell about an error; nothing about one that nobody expected."""
    if isinstance(error, ClarityError):
        return _clarity_problem(error)
    if isinstance(error, RequestValidationError):
        return _invalid_request(error)
    if isinstance(error, HTTPException):
        status = HTTPStatus(error.status_code)
        return Problem(
            status,
            status.name.lower(),
            _HTTP_SENTENCES.get(status, status.description or status.phrase),
            dict(error.headers or {}),
        )
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "unexpected",
        "Something went wrong here that nobody expected; it has been logged. Try again.",
        {},
    )


_HTTP_SENTENCES: Final = {
    HTTPStatus.NOT_FOUND: "There is nothing at this address.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This address does not take that method.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "That is larger than is taken here.",
}


def _clarity_problem(error: ClarityError) -> Problem:
    status = next(_STATUS[base] for base in type(error).__mro__ if base in _STATUS)
    headers: dict[str, str] = {}
    if isinstance(error, NotSignedIn):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooManySignIns):
        headers["Retry-After"] = str(error.wait_seconds)
    return Problem(status, error.code, _PANEL_SENTENCES.get(type(error)) or str(error), headers)


def _invalid_request(error: RequestValidationError) -> Problem:
    """Names and messages only: what was sent may be a token."""
    invalid = tuple(
        {
            "pointer": "/".join(str(part) for part in problem["loc"]),
            "message": str(problem["msg"]),
        }
        for problem in error.errors()
    )
    names = ", ".join(sorted({each["pointer"] for each in invalid}))
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid_request",
        f"The request does not have the form that is expected here; see {names}.",
        {},
        invalid,
    )
