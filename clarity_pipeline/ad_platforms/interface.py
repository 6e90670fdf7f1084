"""What rules need of an ad platform; another one is a module with these four methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr

from clarity_pipeline.domain.rules.delivery import PlatformState
from clarity_pipeline.domain.rules.model import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class AdObject:
    """A campaign, an ad set or an ad, by its own id and its account's on the platform."""

    platform_id: str
    account_id: str
    level: Level


class AdPlatform(Protocol):
    """Each method makes one change, or reads; none of them tries twice.

    All raise PlatformUnavailable, and PlatformThrottled, when it may work later; PlatformRefused
    when it never will; PlatformTokenRefused when the account needs another token. After
    PlatformUnavailable the change may have arrived: `read_state` tells.
    """

    def read_state(self, entity: AdObject, token: SecretStr) -> PlatformState:
        """How the entity stands. Raises PlatformRefused where it is in another account."""
        ...

    def pause(self, entity: AdObject, token: SecretStr) -> None: ...

    def resume(self, entity: AdObject, token: SecretStr) -> None: ...

    def set_daily_budget(self, entity: AdObject, token: SecretStr, *, daily_budget: int) -> None:
        """`daily_budget` is in the smallest unit of the account's currency."""
        ...


Platforms = Mapping[str, AdPlatform]
"""By the name that ids of accounts and entities begin with."""
