"""What a command works with: the settings, the database, the vault and the time."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clarity_pipeline.settings import Settings
    from clarity_pipeline.store.database import Database
    from clarity_pipeline.store.vault import TokenVault


@dataclass
class Session:
    """One command's view of the world; the vault's keys are read when they are first needed."""

    settings: Settings
    database: Database

    @cached_property
    def vault(self) -> TokenVault:
        """Raises SecretKeyError."""
        from clarity_pipeline.store.vault import open_vault

        return open_vault(self.settings)


@contextmanager
def open_session() -> Generator[Session]:
    """Read the settings and open the database they name, brought up to date.

    Raises ConfigurationError and the StoreErrors of `Database.open`.
    """
    from clarity_pipeline.settings import load_settings
    from clarity_pipeline.store.database import Database

    settings = load_settings()
    with Database.open(settings.database_url_or_default) as database:
        yield Session(settings, database)


def utc_now() -> datetime:
    """The one place where commands look at the clock."""
    return datetime.now(UTC)
