"""The projects an emulator serves, and the tokens that open them.

A project is its site, the style of its replies and what its token may do; tokens are made from the
project id alone, so that nobody has to hand them around.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from clarity_pipeline.domain.connections import TOKEN_AUDIENCE
from clarity_pipeline.domain.metrics import TRUNCATION_ROWS
from clarity_pipeline.domain.quota import DAILY_CALL_LIMIT
from clarity_pipeline.export_api.emulated_replies import (
    DenominatorStyle,
    NumberStyle,
    ReferrerStyle,
    ReplyStyle,
    TruncationStyle,
)
from clarity_pipeline.export_api.emulated_site import MAX_PAGES, Site

_SIGNATURE_BYTES: Final = 256
NEVER: Final = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class EmulatedProject:
    """One project. Projects that agree in seed and size have the same sessions, whatever their id.

    `sessions_per_day` is the average of human sessions; around 1,000 with 400 pages fill the cap of
    1,000 rows per block. Raises ValueError for sizes that cannot be generated.
    """

    project_id: str
    seed: int
    sessions_per_day: int = 60
    pages: int = 20
    bot_sessions_percent: int = 10
    unlabelled_sessions_percent: int = 2
    tagged_entries_percent: int = 60
    unsettled_sessions_per_thousand: int = 4
    unmeasured_scroll_per_thousand: int = 2
    number_style: NumberStyle = NumberStyle.NUMBERS
    denominator_style: DenominatorStyle = DenominatorStyle.ALL_SESSIONS
    referrer_style: ReferrerStyle = ReferrerStyle.HOST
    truncation_style: TruncationStyle = TruncationStyle.SHARED
    row_cap: int = TRUNCATION_ROWS
    export_enabled: bool = True
    """False: every token of the project gets 403."""
    accepts_country_region: bool = False
    """True: `Country/Region` means `Country`; False: it is ignored like any unknown name."""
    visibility_delay_seconds: float = 0
    """How long after its start a session is still missing from replies."""
    daily_call_limit: int = DAILY_CALL_LIMIT
    failed_calls_count: bool = True
    """Whether a call that ends in an error takes one of the daily calls (unknown, FACTS 9)."""

    def __post_init__(self) -> None:
        if not 1 <= self.pages <= MAX_PAGES:
            raise ValueError(f"A site has 1 to {MAX_PAGES} pages, not {self.pages}.")
        if not 0 <= self.sessions_per_day <= 1_000_000:
            raise ValueError("A site has 0 to 1,000,000 sessions a day.")

    @property
    def site(self) -> Site:
        return Site(
            seed=self.seed,
            sessions_per_day=self.sessions_per_day,
            pages=self.pages,
            bot_sessions_percent=self.bot_sessions_percent,
            unlabelled_sessions_percent=self.unlabelled_sessions_percent,
            tagged_entries_percent=self.tagged_entries_percent,
            unsettled_sessions_per_thousand=self.unsettled_sessions_per_thousand,
            unmeasured_scroll_per_thousand=self.unmeasured_scroll_per_thousand,
        )

    @property
    def style(self) -> ReplyStyle:
        return ReplyStyle(
            numbers=self.number_style,
            denominator=self.denominator_style,
            referrers=self.referrer_style,
            truncation=self.truncation_style,
            row_cap=self.row_cap,
        )

    @property
    def visibility_delay(self) -> timedelta:
        return timedelta(seconds=self.visibility_delay_seconds)


@dataclass(frozen=True, slots=True)
class EmulatorTokenClaims:
    """What a token says, once its signature was found to be the emulator's."""

    subject: str
    serial: int
    expires_at: datetime


def emulator_token(project_id: str, *, expires_at: datetime = NEVER, serial: int = 1) -> str:
    """A JWT with the claims of FACTS section 11 that the emulator takes for this project.

    The same arguments give the same token. `serial` tells apart tokens of one project, so that one
    can be revoked; real tokens differ by their name.
    """
    expiry = int(expires_at.timestamp())
    claims = {
        "jti": str(serial),
        "sub": subject_of(project_id),
        "scope": "Data.Export",
        "nbf": expiry - 365 * 86_400,
        "exp": expiry,
        "iat": expiry - 365 * 86_400,
        "iss": "clarity",
        "aud": TOKEN_AUDIENCE,
    }
    signed = f"{_part({'alg': 'RS256', 'kid': 'emulator', 'typ': 'JWT'})}.{_part(claims)}"
    return f"{signed}.{_base64url(_signature(signed))}"


def read_emulator_token(token: str) -> EmulatorTokenClaims | None:
    """The claims of a token made by `emulator_token`; None for any other text."""
    signed, _, signature = token.rpartition(".")
    if not signed.isascii() or signature != _base64url(_signature(signed)):
        return None
    _, _, payload = signed.partition(".")
    claims: dict[str, Any] = json.loads(
        base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    )
    return EmulatorTokenClaims(
        subject=claims["sub"],
        serial=int(claims["jti"]),
        expires_at=datetime.fromtimestamp(claims["exp"], tz=UTC),
    )


def subject_of(project_id: str) -> str:
    """The 16-digit internal id that stands in a project's tokens."""
    digest = hashlib.blake2b(project_id.encode(), digest_size=8).digest()
    return str(10**15 + int.from_bytes(digest, "big") % (9 * 10**15))


def default_projects() -> tuple[EmulatedProject, ...]:
    """What `clarity emulator` serves when nothing else is said: one project of each kind."""
    return (
        EmulatedProject("shopbusy01", seed=1, sessions_per_day=1_200, pages=400),
        EmulatedProject("shopsmall2", seed=2, sessions_per_day=45, pages=15),
        EmulatedProject(
            "shopstyle3", seed=3, sessions_per_day=150, pages=30, number_style=NumberStyle.MIXED
        ),
        EmulatedProject("shopempty4", seed=4, sessions_per_day=0, pages=1),
        EmulatedProject("shopclosed", seed=5, export_enabled=False),
    )


def _part(claims: Mapping[str, object]) -> str:
    return _base64url(json.dumps(claims, separators=(",", ":")).encode())


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _signature(signed: str) -> bytes:
    """As long as an RS256 signature; it proves only that this module made the token."""
    return hashlib.shake_256(b"clarity emulator:" + signed.encode()).digest(_SIGNATURE_BYTES)
