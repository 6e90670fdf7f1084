"""What a business id, a project id and a token look like, and what state a connection is in."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, cast

from pydantic import SecretStr

from clarity_pipeline.domain.errors import (
    InvalidBusinessId,
    InvalidBusinessName,
    InvalidProjectId,
    InvalidToken,
)
from clarity_pipeline.domain.sync_jobs import JobStatus

BUSINESS_ID_PATTERN: Final = "[a-z0-9_\\-]{1,64}"
PROJECT_ID_PATTERN: Final = "[A-Za-z0-9]{6,20}"
"""Both are read by browsers too, as the `pattern` of a field: in the syntax that both share."""

_BUSINESS_ID = re.compile(BUSINESS_ID_PATTERN)
_PROJECT_ID = re.compile(PROJECT_ID_PATTERN)
_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")

TOKEN_AUDIENCE: Final = "clarity.data-exporter"  # noqa: S105 - the public audience claim, no secret
"""`aud` of a data export token (FACTS section 11, claimed)."""

_TESTS_WITHOUT_A_FAULT: Final = frozenset({None, "ok", "rate_limited"})
"""Results of a connection test that say nothing against the token."""

MAX_TOKEN_LENGTH: Final = 8192
"""Real tokens have about 700 characters; this bounds what anybody can paste."""


MAX_NAME_LENGTH: Final = 200


class DisabledBy(StrEnum):
    """Who turned a connection off; reconnecting clears only the second."""

    USER = "user"
    AUTH_FAILURE = "auth_failure"


class ConnectionState(StrEnum):
    """How a connection stands, in one word for people; see `connection_state`."""

    NOT_CONNECTED = "not_connected"
    PAUSED = "paused"
    DISABLED_AUTH = "disabled_auth"
    RATE_LIMITED_TODAY = "rate_limited_today"
    FAILING = "failing"
    PARTIAL = "partial"
    LATE = "late"
    NEVER_TESTED = "never_tested"
    CONNECTED = "connected"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFacts:
    """What decides how a connection stands; "yesterday" is the latest UTC day that is over.

    `last_test_result` is "ok", an error's code, or None for a token that was never tested;
    `yesterdays_job` and `yesterdays_job_at` are the latest sync of yesterday that made calls or
    could have, replays left out. `yesterdays_rebuild_failed` says whether the latest sync or replay
    of yesterday could not make all that had landed into rows and sums. `is_expected` says whether
    the schedule owed us yesterday: it was due by now, and the business was connected before.
    """

    is_connected: bool
    disabled_by: DisabledBy | None
    is_rate_limited_today: bool
    last_tested_at: datetime | None
    last_test_result: str | None
    last_synced_at: datetime | None
    yesterdays_job: JobStatus | None
    yesterdays_job_at: datetime | None
    yesterdays_rebuild_failed: bool
    yesterday_is_complete: bool
    is_expected: bool


_SWITCHED_OFF: Final = {
    DisabledBy.USER: ConnectionState.PAUSED,
    DisabledBy.AUTH_FAILURE: ConnectionState.DISABLED_AUTH,
}


def connection_state(facts: ConnectionFacts) -> ConnectionState:
    """The one thing most worth knowing about a connection.

    What somebody must act on goes before what mends itself. A test that is newer than the last
    sync speaks for the token, a spent quota for neither.
    """
    if not facts.is_connected:
        return ConnectionState.NOT_CONNECTED
    if facts.disabled_by is not None:
        return _SWITCHED_OFF[facts.disabled_by]
    if facts.yesterdays_rebuild_failed:
        return ConnectionState.FAILING
    if facts.yesterday_is_complete and _test_has_passed_or_is_old(facts):
        return ConnectionState.CONNECTED
    if facts.is_rate_limited_today:
        return ConnectionState.RATE_LIMITED_TODAY
    if _last_attempt_failed(facts):
        return ConnectionState.FAILING
    if facts.yesterdays_job is JobStatus.PARTIAL:
        return ConnectionState.PARTIAL
    if facts.last_test_result is None and facts.last_synced_at is None:
        return ConnectionState.NEVER_TESTED
    if facts.is_expected and facts.yesterdays_job is not JobStatus.RUNNING:
        return ConnectionState.LATE
    return ConnectionState.CONNECTED


def _test_is_newer(facts: ConnectionFacts) -> bool:
    if facts.last_tested_at is None:
        return False
    return facts.yesterdays_job_at is None or facts.last_tested_at > facts.yesterdays_job_at


def _test_has_passed_or_is_old(facts: ConnectionFacts) -> bool:
    return facts.last_test_result in _TESTS_WITHOUT_A_FAULT or not _test_is_newer(facts)


def _last_attempt_failed(facts: ConnectionFacts) -> bool:
    if _test_is_newer(facts) and facts.last_test_result != "rate_limited":
        return facts.last_test_result not in _TESTS_WITHOUT_A_FAULT
    return facts.yesterdays_job in {JobStatus.AUTH_FAILED, JobStatus.FAILED}


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What a token says about itself. The signature is not checked: only Clarity can."""

    token: SecretStr
    fingerprint: str
    last4: str
    expires_at: datetime | None
    audience: str | None
    subject: str | None


def parse_business_id(text: str) -> str:
    """Raises InvalidBusinessId unless 1-64 of `a-z 0-9 _ -`."""
    if not _BUSINESS_ID.fullmatch(text):
        raise InvalidBusinessId(
            f"{text!r} is not a business id: use 1 to 64 of the characters a-z, 0-9, _ and -."
        )
    return text


def parse_business_name(text: str, *, business_id: str) -> str:
    """The name that people read; the id where there is none. Raises InvalidBusinessName."""
    name = text.strip()
    if len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise InvalidBusinessName(
            f"A business's name has at most {MAX_NAME_LENGTH} characters, all of them printable."
        )
    return name or business_id


def parse_project_id(text: str) -> str:
    """Raises InvalidProjectId unless 6-20 letters and digits; surrounding space is dropped."""
    stripped = text.strip()
    if not _PROJECT_ID.fullmatch(stripped):
        raise InvalidProjectId(
            f"{stripped[:40]!r} is not a Clarity project id: it has 6 to 20 letters and digits, as "
            "in the address clarity.microsoft.com/projects/view/<project id>."
        )
    return stripped


def parse_token(text: str, *, now: datetime) -> TokenFacts:
    """Read a pasted token without spending a call.

    Raises InvalidToken, never quoting the text, for anything that is no JWT, is made for another
    audience, or says that it has expired. A token that says nothing about expiry is accepted.
    """
    token = text.strip()
    if len(token) > MAX_TOKEN_LENGTH or not _JWT.fullmatch(token):
        raise InvalidToken(
            "That is not a Clarity API token: it should be three dot-separated parts as generated "
            "in Clarity under Settings, Data Export."
        )
    claims = _claims(token)
    audience = _text_claim(claims, "aud")
    if audience is not None and audience != TOKEN_AUDIENCE:
        raise InvalidToken(
            "That token is made for another service; generate one in Clarity under Settings, "
            "Data Export."
        )
    expires_at = _expiry(claims)
    if expires_at is not None and expires_at <= now:
        raise InvalidToken(
            f"That token expired on {expires_at:%Y-%m-%d %H:%M} UTC; generate a new one in Clarity "
            "under Settings, Data Export."
        )
    return TokenFacts(
        token=SecretStr(token),
        fingerprint=token_fingerprint(token),
        last4=token[-4:],
        expires_at=expires_at,
        audience=audience,
        subject=_text_claim(claims, "sub"),
    )


def token_fingerprint(token: str) -> str:
    """Identity of a token that does not reveal it: 32 hex digits of its SHA-256."""
    return hashlib.sha256(token.encode()).hexdigest()[:32]


def token_needs_renewal(expires_at: datetime | None, *, now: datetime) -> bool:
    """Whether the token expires within a week; lifetimes are not published (FACTS section 11)."""
    return expires_at is not None and expires_at <= now + timedelta(days=7)


def token_has_expired(expires_at: datetime | None, *, now: datetime) -> bool:
    """Whether the token is over by what it says itself; such a one needs renewal, too."""
    return expires_at is not None and expires_at <= now


def _claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    try:
        decoded = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        claims = json.loads(decoded)
    except (binascii.Error, ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise InvalidToken(
            "That token cannot be read: its middle part is not the JSON that a Clarity token "
            "carries; copy it again in full."
        )
    return cast("dict[str, Any]", claims)


def _text_claim(claims: dict[str, Any], name: str) -> str | None:
    value = claims.get(name)
    if isinstance(value, list):
        items = cast("list[object]", value)
        value = items[0] if len(items) == 1 else None
    return value if isinstance(value, str) else None


def _expiry(claims: dict[str, Any]) -> datetime | None:
    seconds = claims.get("exp")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    try:
        return datetime.fromtimestamp(seconds, tz=UTC)
    except (OverflowError, OSError, ValueError):
        return None
