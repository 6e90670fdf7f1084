"""What an ad platform has: campaigns, ad sets and ads, what they cost and brought, and accounts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from pydantic import SecretStr

from clarity_pipeline.domain.errors import InvalidAdAccount, InvalidToken
from clarity_pipeline.domain.rules.model import EntityStatus, Level

MAX_PLATFORM_ID_LENGTH: Final = 150
MAX_TOKEN_LENGTH: Final = 8192

_PLATFORM: Final = re.compile(r"[a-z][a-z0-9_]{0,19}", re.ASCII)
_PLATFORM_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,149}", re.ASCII)
_TOKEN: Final = re.compile(r"[!-~]{8,}", re.ASCII)

AD_SUMS: Final = ("spend", "impressions", "clicks", "conversions", "revenue")
"""The daily sums that every ad platform has a word for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdEntity:
    """A campaign, an ad set or an ad, as it stands.

    `id`, `parent_id` and `account_id` are `platform:id on the platform`. `landing_page` is the
    canonical form of `landing_url`. `daily_budget` is in `currency`. `changed_on` is the UTC day
    on which it, or its landing page, was last changed; None where nobody knows.
    """

    id: str
    platform: str
    platform_id: str
    level: Level
    parent_id: str | None = None
    account_id: str | None = None
    business_id: str | None = None
    name: str = ""
    status: EntityStatus = EntityStatus.ACTIVE
    landing_url: str | None = None
    landing_page: str | None = None
    daily_budget: float | None = None
    currency: str | None = None
    changed_on: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdDay:
    """The sums of an entity's day, as its ad account counts days; None is not known.

    `further` has any other sums by name, without the `ad.` that a rule writes before it.
    """

    entity_id: str
    day: date
    spend: float | None = None
    impressions: float | None = None
    clicks: float | None = None
    conversions: float | None = None
    revenue: float | None = None
    further: Mapping[str, float] = field(default_factory=dict[str, float])


def entity_id(*, platform: str, platform_id: str) -> str:
    """The id of an entity or an account among all platforms'."""
    return f"{platform}:{platform_id}"


def is_platform(text: str) -> bool:
    """Whether it can be the name of an ad platform, such as `meta`."""
    return _PLATFORM.fullmatch(text) is not None


def is_platform_id(text: str) -> bool:
    """Whether it can be what a platform calls an entity or an account.

    Not what a spreadsheet makes of a long number, such as 1.2E+17, which is no id any more.
    """
    return _PLATFORM_ID.fullmatch(text) is not None and not _is_rounded_number(text)


def _is_rounded_number(text: str) -> bool:
    return re.fullmatch(r"\d+\.\d*|\d+(\.\d+)?[eE]\d+", text, re.ASCII) is not None


def account_platform_id(text: str, *, platform: str) -> str:
    """An account's id as its platform's API wants it: Meta's numbers begin with `act_`."""
    return f"act_{text}" if platform == "meta" and text.isdecimal() else text


def parse_platform(text: str) -> str:
    """The name of an ad platform. Raises InvalidAdAccount."""
    platform = text.strip().lower()
    if not is_platform(platform):
        raise InvalidAdAccount(
            f"{platform[:40]!r} is not the name of an ad platform: use up to 20 of the characters "
            "a-z, 0-9 and _, beginning with a letter, such as meta."
        )
    return platform


def parse_account_id(text: str) -> str:
    """What a platform calls an ad account. Raises InvalidAdAccount."""
    account = text.strip()
    if not is_platform_id(account):
        raise InvalidAdAccount(
            f"{account[:40]!r} is not the id of an ad account: copy it from the ad platform, such "
            "as act_123456."
        )
    return account


def parse_ad_token(text: str) -> SecretStr:
    """A pasted access token of an ad platform. Raises InvalidToken, never quoting the text."""
    token = text.strip()
    if len(token) > MAX_TOKEN_LENGTH or not _TOKEN.fullmatch(token):
        raise InvalidToken(
            "That is not an access token of an ad platform: it should be one line of at least 8 "
            "characters without spaces; copy it again in full."
        )
    return SecretStr(token)
