"""One-time codes with which the agency's first user is made; only a hash of each is stored."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import Connection, delete, insert, text, update

from clarity_pipeline.domain.access import SETUP_CODE_LIFETIME, Role
from clarity_pipeline.domain.errors import AlreadySetUp, InvalidSetupCode
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.panel_users import PanelUser, agency_has_user, get_user, insert_user
from clarity_pipeline.store.schema import panel_setup_codes

_LOCK_KEY: Final = int.from_bytes(b"set-up")


def replace_setup_code(database: Database, *, code_hash: str, now: datetime) -> bool:
    """From now on this code works and no earlier one; False once the agency has a user."""
    with database.transaction() as connection:
        _one_at_a_time(connection)
        connection.execute(delete(panel_setup_codes).where(panel_setup_codes.c.used_at.is_(None)))
        if agency_has_user(connection):
            return False
        connection.execute(
            insert(panel_setup_codes).values(code_hash=code_hash, created_at=now, used_at=None)
        )
        return True


def use_setup_code(
    database: Database, *, code_hash: str, login: str, password_hash: str, now: datetime
) -> PanelUser:
    """Make the agency's first user; of many who try at once one succeeds.

    Raises AlreadySetUp, InvalidSetupCode, or InvalidLogin for a login that is taken; the code is
    not used up then.
    """
    with database.transaction() as connection:
        _one_at_a_time(connection)
        if agency_has_user(connection):
            raise AlreadySetUp
        used = connection.execute(
            update(panel_setup_codes)
            .where(
                panel_setup_codes.c.code_hash == code_hash,
                panel_setup_codes.c.used_at.is_(None),
                panel_setup_codes.c.created_at > now - SETUP_CODE_LIFETIME,
            )
            .values(used_at=now)
        ).rowcount
        if not used:
            raise InvalidSetupCode
        insert_user(
            connection,
            login=login,
            password_hash=password_hash,
            role=Role.AGENCY,
            business_id=None,
            now=now,
        )
    return get_user(database, login)


def _one_at_a_time(connection: Connection) -> None:
    """SQLite has a single writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
