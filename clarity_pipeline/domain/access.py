"""Who may do what in the panel and through its API."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from clarity_pipeline.domain.connections import parse_business_id
from clarity_pipeline.domain.errors import (
    InvalidBusinessId,
    InvalidKeyName,
    InvalidLogin,
    InvalidPassword,
)

SESSION_LIFETIME: Final = timedelta(days=7)
"""After this a person signs in again, however busy the session is."""

SESSION_IDLE_LIFETIME: Final = timedelta(hours=12)
"""A session that nobody used for so long has ended."""

MIN_PASSWORD_LENGTH: Final = 12
MAX_PASSWORD_LENGTH: Final = 256
"""Hashing costs by length; nobody types more."""

SETUP_CODE_LIFETIME: Final = timedelta(hours=24)
"""How long the link for the first user of the agency works."""

SIGN_IN_WINDOW: Final = timedelta(hours=1)
"""A sign-in that failed counts for so long."""

FAILURES_PER_LOGIN: Final = 5
FAILURES_PER_ADDRESS: Final = 20
"""So many fail within the window without a wait; a whole office may share one address."""

FIRST_SIGN_IN_WAIT: Final = timedelta(seconds=30)
LONGEST_SIGN_IN_WAIT: Final = timedelta(minutes=15)
"""The wait doubles with each further failure from the first to the longest."""

MAX_KEY_NAME_LENGTH: Final = 100

_LOGIN = re.compile(r"[a-z0-9][a-z0-9._%+@-]{1,253}")


class Role(StrEnum):
    """The agency sees every business, a client its own."""

    AGENCY = "agency"
    CLIENT = "client"


class KeyScope(StrEnum):
    """What an API key may do: look, or look and change."""

    READ = "read"
    WRITE = "write"


class Audience(StrEnum):
    """Whom a route is for; a route that does not say is for nobody."""

    PUBLIC = "public"
    SIGNED_IN = "signed_in"
    AGENCY = "agency"
    AGENCY_PEOPLE = "agency_people"
    CLIENT = "client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks: a signed-in person, or a machine with an API key.

    `name` is a login or the name of a key. `business_id` is the one business of a client, and
    None for the agency.
    """

    role: Role
    name: str
    business_id: str | None
    user_id: int | None
    may_write: bool = True

    @property
    def is_person(self) -> bool:
        return self.user_id is not None

    @property
    def label(self) -> str:
        """As the audit log names it."""
        return self.name if self.is_person else f"key: {self.name}"


class Admission(StrEnum):
    ADMITTED = "admitted"
    SIGN_IN_FIRST = "sign_in_first"
    FORBIDDEN = "forbidden"


def admission(audience: Audience, principal: Principal | None, *, changes: bool) -> Admission:
    """Whether somebody may use a route; `changes` says whether the request could change anything.

    Decided before anything is looked up, so that a refusal tells nothing of what there is.
    """
    if audience is Audience.PUBLIC:
        return Admission.ADMITTED
    if principal is None:
        return Admission.SIGN_IN_FIRST
    if changes and not principal.may_write:
        return Admission.FORBIDDEN
    fits = {
        Audience.SIGNED_IN: principal.is_person,
        Audience.AGENCY: principal.role is Role.AGENCY,
        Audience.AGENCY_PEOPLE: principal.role is Role.AGENCY and principal.is_person,
        Audience.CLIENT: principal.role is Role.CLIENT,
    }
    return Admission.ADMITTED if fits[audience] else Admission.FORBIDDEN


@dataclass(frozen=True, slots=True)
class SignInFailures:
    """How many sign-ins of one login, or from one address, failed within the window."""

    count: int
    last_at: datetime | None


def sign_in_wait(
    *, by_login: SignInFailures, by_address: SignInFailures, now: datetime
) -> timedelta:
    """How long until the next sign-in is judged; zero when it is now.

    Both count: one login is guessed from many addresses, many logins are guessed from one.
    """
    return max(
        _wait(by_login, free=FAILURES_PER_LOGIN, now=now),
        _wait(by_address, free=FAILURES_PER_ADDRESS, now=now),
    )


def _wait(failures: SignInFailures, *, free: int, now: datetime) -> timedelta:
    if failures.last_at is None or failures.count < free:
        return timedelta(0)
    # Ten doublings are past the longest wait already; more would overflow.
    doublings = min(failures.count - free, 10)
    wait = min(FIRST_SIGN_IN_WAIT * 2**doublings, LONGEST_SIGN_IN_WAIT)
    return max(failures.last_at + wait - now, timedelta(0))


def address_to_count_by(remote_address: str) -> str:
    """The part of an address that one person has: of IPv6 that is a network of 64 bits."""
    try:
        address = ipaddress.ip_address(remote_address)
    except ValueError:
        return remote_address
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    # Without the zone, which is a name of this machine's own and may be long.
    return str(ipaddress.IPv6Network((int(address), 64), strict=False))


def own_path(text: str) -> str | None:
    """A path of the panel itself to go on to after a sign-in; None for anything else.

    Browsers read `//host`, `/\\host` and paths with tabs or line breaks in them as addresses
    of other sites.
    """
    if not text.startswith("/") or text.startswith("//") or "\\" in text or len(text) > 500:
        return None
    if not text.isascii() or not text.isprintable():
        return None
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    return None if parts.scheme or parts.netloc else text


def business_of(role: Role, business_id: str | None) -> str | None:
    """Raises InvalidBusinessId unless a client has one business, and the agency none."""
    if role is Role.AGENCY and business_id is not None:
        raise InvalidBusinessId("The agency's people see every business; name none for them.")
    if role is Role.CLIENT:
        if business_id is None:
            raise InvalidBusinessId("A client belongs to one business; name it.")
        return parse_business_id(business_id)
    return None


def parse_key_name(text: str) -> str:
    """The name of an API key as people read it. Raises InvalidKeyName."""
    name = text.strip()
    if not 1 <= len(name) <= MAX_KEY_NAME_LENGTH or not name.isprintable():
        raise InvalidKeyName(
            f"The name of a key has 1 to {MAX_KEY_NAME_LENGTH} characters, all of them printable; "
            "say what the key is for."
        )
    return name


def parse_login(text: str) -> str:
    """A login in the one form in which it is stored. Raises InvalidLogin."""
    login = text.strip().lower()
    if not _LOGIN.fullmatch(login):
        raise InvalidLogin(
            "A login has 2 to 254 of the characters a-z, 0-9 and . _ % + - @; a mail address is "
            "a good one."
        )
    return login


def check_new_password(password: str, *, login: str) -> str:
    """Raises InvalidPassword for one that is too short, too long, or easily guessed."""
    if len(password) < MIN_PASSWORD_LENGTH:
        raise InvalidPassword(f"A password has at least {MIN_PASSWORD_LENGTH} characters.")
    if len(password) > MAX_PASSWORD_LENGTH:
        raise InvalidPassword(f"A password has at most {MAX_PASSWORD_LENGTH} characters.")
    if len(set(password)) < 5 or password.lower() in {login, login.split("@")[0]}:
        raise InvalidPassword(
            "That password is too easily guessed; take several words that do not belong together."
        )
    return password


def secret_hash(secret: str) -> str:
    """How a session's, a key's or a set-up link's secret is stored: 64 hex digits of SHA-256.

    Enough without a salt or a slow hash, since these secrets are random and long.
    """
    return hashlib.sha256(secret.encode()).hexdigest()


def form_token(session_secret: str) -> str:
    """What a form of this session must carry, so that no other site can send it.

    Derived from the cookie's secret, which no other site can read; tells nothing about it.
    """
    return hmac.new(session_secret.encode(), b"form", hashlib.sha256).hexdigest()


def is_form_token(given: str, session_secret: str) -> bool:
    return hmac.compare_digest(given.encode(), form_token(session_secret).encode())
