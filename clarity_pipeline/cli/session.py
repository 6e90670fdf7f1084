"""What a command works with: the settings, the database, the vault and the time."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from clarity_pipeline.domain.audit import AuditAction
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

    def audit(
        self, action: AuditAction, *, business_id: str | None = None, **detail: str | int | None
    ) -> None:
        """Add what has just succeeded to the audit log; `detail` never holds a secret."""
        from clarity_pipeline.store.audit_log import record_audit

        record_audit(
            self.database,
            actor=command_line_actor(),
            action=action,
            now=utc_now(),
            business_id=business_id,
            detail=detail or None,
        )


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


def command_line_actor() -> str:
    """Who runs the command, as the audit log names it.

    By the user id, which nobody can change: variables like USER are anybody's to set.
    """
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        # A container may run as a number that no file names.
        user = f"user {os.getuid()}"
    return f"command line: {user}"


def read_token(*, most_characters: int) -> str:
    """A token from standard input, or asked for without an echo on a terminal."""
    if sys.stdin.isatty():
        return typer.prompt("Token", hide_input=True, err=True)
    # A character more than the longest, so that a whole file is refused and not cut to fit.
    return sys.stdin.read(most_characters + 1)


def utc_now() -> datetime:
    """The one place where commands look at the clock."""
    return datetime.now(UTC)
