"""How an error is told: a page to a browser, a problem (RFC 9457) to a program."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from math import ceil
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from clarity_pipeline.domain.errors import (
    ActionNotWaiting,
    AlreadySetUp,
    AuthenticationFailed,
    ClarityError,
    ConfigurationError,
    DatabaseBusy,
    DatabaseUnreachable,
    ExportError,
    InputError,
    InvalidConnectionList,
    InvalidRule,
    NotConnected,
    PurgeRefused,
    QuotaRefused,
    RuleChanged,
    SecretKeyError,
    StoreError,
    SyncDisabled,
    UnknownAction,
    UnknownAdAccount,
    UnknownApiKey,
    UnknownBusiness,
    UnknownDecision,
    UnknownRule,
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


class UnknownHost(ClarityError):
    code = "unknown_host"

    def __init__(self) -> None:
        super().__init__(
            "This panel does not answer under that name; open it at the address that you were "
            "given."
        )


class FormExpired(ClarityError):
    code = "form_expired"

    def __init__(self) -> None:
        super().__init__("That form is from another session or site; load the page again.")


class TooManySignIns(ClarityError):
    code = "too_many_sign_ins"

    def __init__(self, wait: timedelta) -> None:
        self.wait_seconds = ceil(wait.total_seconds())
        seconds, minutes = self.wait_seconds, ceil(self.wait_seconds / 60)
        words = f"{seconds} s" if seconds < 60 else f"{minutes} min"
        super().__init__(f"Too many sign-ins have failed; wait {words} and try again.")


class WrongCredentials(ClarityError):
    code = "wrong_credentials"

    def __init__(self) -> None:
        super().__init__("Login and password do not belong together.")


class LastCallUnconfirmed(ClarityError):
    code = "last_call_unconfirmed"

    def __init__(self) -> None:
        super().__init__(
            "This test would take the last call that is free today; confirm it with "
            "confirm_last_slot."
        )


class PurgeUnconfirmed(ClarityError):
    code = "purge_unconfirmed"

    def __init__(self) -> None:
        super().__init__(
            "The history is deleted for ever, so the id of the business must be repeated; what was "
            "sent is another one."
        )


class RulesNotShown(ClarityError):
    code = "rules_not_shown"

    def __init__(self) -> None:
        super().__init__("Your agency keeps its rules to itself; ask it to show them to you.")


_STATUS: Final[dict[type[ClarityError], HTTPStatus]] = {
    NotSignedIn: HTTPStatus.UNAUTHORIZED,
    WrongCredentials: HTTPStatus.UNAUTHORIZED,
    NotAllowed: HTTPStatus.FORBIDDEN,
    UnknownHost: HTTPStatus.BAD_REQUEST,
    FormExpired: HTTPStatus.FORBIDDEN,
    TooManySignIns: HTTPStatus.TOO_MANY_REQUESTS,
    UnknownBusiness: HTTPStatus.NOT_FOUND,
    UnknownSyncRequest: HTTPStatus.NOT_FOUND,
    UnknownUser: HTTPStatus.NOT_FOUND,
    UnknownApiKey: HTTPStatus.NOT_FOUND,
    UnknownRule: HTTPStatus.NOT_FOUND,
    UnknownDecision: HTTPStatus.NOT_FOUND,
    RulesNotShown: HTTPStatus.NOT_FOUND,
    UnknownAction: HTTPStatus.NOT_FOUND,
    ActionNotWaiting: HTTPStatus.CONFLICT,
    RuleChanged: HTTPStatus.CONFLICT,
    UnknownAdAccount: HTTPStatus.NOT_FOUND,
    AlreadySetUp: HTTPStatus.CONFLICT,
    NotConnected: HTTPStatus.CONFLICT,
    SyncDisabled: HTTPStatus.CONFLICT,
    PurgeRefused: HTTPStatus.CONFLICT,
    PurgeUnconfirmed: HTTPStatus.CONFLICT,
    LastCallUnconfirmed: HTTPStatus.CONFLICT,
    QuotaRefused: HTTPStatus.TOO_MANY_REQUESTS,
    InputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    AuthenticationFailed: HTTPStatus.BAD_GATEWAY,
    ExportError: HTTPStatus.BAD_GATEWAY,
    ConfigurationError: HTTPStatus.INTERNAL_SERVER_ERROR,
    StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
    ClarityError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""By the nearest class."""

_CANNOT_REACH: Final = "The panel cannot reach its database just now; try again in a minute."

_PANEL_SENTENCES: Final[dict[type[ClarityError], str]] = {
    DatabaseUnreachable: _CANNOT_REACH,
    DatabaseBusy: _CANNOT_REACH,
    StoreError: (
        "The panel cannot use its database just now; try again in a minute. If this stays so, "
        "whoever runs this panel has to look at it."
    ),
    UnknownBusiness: "There is no such business.",
    UnknownUser: "There is no such user.",
    UnknownApiKey: "There is no such API key.",
    UnknownAction: "There is no such action.",
    ActionNotWaiting: (
        "This action does not wait for anybody to agree any more; load the page again."
    ),
    UnknownRule: "There is no such rule, or no such version of it.",
    UnknownAdAccount: "No such ad account is connected.",
    NotConnected: "This business is not connected to Clarity; give its project id and API token.",
    SecretKeyError: (
        "The key with which tokens are stored cannot be used, so nothing was asked or stored; "
        "whoever runs this panel must put it back."
    ),
    UnknownSyncRequest: "This business has no such sync request.",
    PurgeRefused: (
        "Disconnect this business first, and wait until no sync of it runs; then its history can "
        "be deleted."
    ),
    SyncDisabled: "The sync of this business is switched off; switch it on first.",
}
"""Where the sentence of the class speaks of commands and settings, which people here do not have.

By the nearest class.
"""

_TRY_AGAIN_SECONDS: Final = 60
"""As the sentences about the database have it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as both audiences are told: `code` is stable, `detail` is one sentence."""

    status: HTTPStatus
    code: str
    detail: str
    headers: dict[str, str]
    invalid: tuple[dict[str, str | int], ...] = ()

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
            code_of_status(status),
            _HTTP_SENTENCES.get(status, status.description or status.phrase),
            dict(error.headers or {}),
        )
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "unexpected",
        "Something went wrong here that nobody expected; it has been logged. Try again.",
        {},
    )


def status_of(error: type[ClarityError]) -> HTTPStatus:
    """The status that errors of a class are answered with."""
    return next(_STATUS[base] for base in error.__mro__ if base in _STATUS)


def code_of_status(status: HTTPStatus) -> str:
    """The code of a refusal that is not ours but the protocol's."""
    # Python 3.13 gave it another name, and a code is stable.
    if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return "too_large"
    return status.name.lower()


_HTTP_SENTENCES: Final = {
    HTTPStatus.NOT_FOUND: "There is nothing at this address.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This address does not take that method.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "That is larger than is taken here.",
}


def _clarity_problem(error: ClarityError) -> Problem:
    headers: dict[str, str] = {}
    if isinstance(error, NotSignedIn):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooManySignIns):
        headers["Retry-After"] = str(error.wait_seconds)
    status = status_of(type(error))
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(_TRY_AGAIN_SECONDS)
    sentences = (_PANEL_SENTENCES.get(base) for base in type(error).__mro__)
    return Problem(
        status,
        error.code,
        next((sentence for sentence in sentences if sentence), str(error)),
        headers,
        tuple(_parts(error)),
    )


def _parts(error: ClarityError) -> Iterator[dict[str, str | int]]:
    """The parts of a request that cannot be used, where the error knows them."""
    if isinstance(error, InvalidConnectionList):
        yield from ({"line": row.line, "message": row.reason} for row in error.bad_rows)
    if isinstance(error, InvalidRule):
        for field in error.bad_fields:
            names = [name for name in re.split(r"[.\[\]]+", field.path) if name]
            yield {"pointer": "/".join(["body", *names]), "message": field.reason}


def _invalid_request(error: RequestValidationError) -> Problem:
    """Names and messages only: what was sent may be a token."""
    invalid: tuple[dict[str, str | int], ...] = tuple(
        {
            "pointer": "/".join(str(part) for part in problem["loc"]),
            "message": str(problem["msg"]),
        }
        for problem in error.errors()
    )
    names = ", ".join(sorted({str(each["pointer"]) for each in invalid}))
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid_request",
        f"The request does not have the form that is expected here; see {names}.",
        {},
        invalid,
    )
