"""Sign-ins that failed, counted by login and by address, so that nobody can go on guessing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, text

from clarity_pipeline.domain.access import (
    SIGN_IN_WINDOW,
    SignInFailures,
    address_to_count_by,
    secret_hash,
    sign_in_wait,
)
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import panel_login_failures

_LOCK_KEY: Final = int.from_bytes(b"signins")


def begin_sign_in(
    database: Database, *, login: str, remote_address: str, now: datetime
) -> timedelta:
    """Count a sign-in as failed before it is judged; zero when it may be judged now.

    Otherwise nothing is counted and the answer is how long to wait. Counting first, one after
    the other, is what keeps a hundred guesses at the same moment from all being judged. The
    login is stored as a hash: people type passwords into that field.
    """
    login_hash, address = secret_hash(login), address_to_count_by(remote_address)[:64]
    with database.transaction() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        connection.execute(
            delete(panel_login_failures).where(
                panel_login_failures.c.failed_at <= now - SIGN_IN_WINDOW
            )
        )
        wait = sign_in_wait(
            by_login=_failures(connection, panel_login_failures.c.login == login_hash),
            by_address=_failures(connection, panel_login_failures.c.remote_address == address),
            now=now,
        )
        if not wait:
            connection.execute(
                insert(panel_login_failures).values(
                    login=login_hash, remote_address=address, failed_at=now
                )
            )
    return wait


def forget_failures(database: Database, *, login: str) -> None:
    """After a sign-in that succeeded, this one included; those of other logins still count."""
    with database.transaction() as connection:
        connection.execute(
            delete(panel_login_failures).where(panel_login_failures.c.login == secret_hash(login))
        )


def _failures(connection: Connection, which: ColumnElement[bool]) -> SignInFailures:
    failed_at = panel_login_failures.c.failed_at
    row = connection.execute(select(func.count(), func.max(failed_at)).where(which)).one()
    return SignInFailures(*row)
