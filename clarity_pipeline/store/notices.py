"""The outbox of notices: written when a state changes, claimed and sent afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, select, text, update

from clarity_pipeline.domain.notices import (
    GIVE_UP_AFTER,
    Notice,
    Severity,
    due_notices,
    is_news,
)
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import notices

_LOCK_KEY: Final = int.from_bytes(b"notices")
"""Writers of notices take turns by this key; notices are rare, so one key for all will do."""


@dataclass(frozen=True, slots=True)
class StoredNotice:
    """A notice as it stands in the outbox; instants are UTC.

    `attempts` counts claims: one whose process died is counted as well.
    """

    id: int
    subject: str
    state: str
    severity: Severity
    title: str
    body: str
    created_at: datetime
    sent_at: datetime | None
    attempts: int
    last_attempt_at: datetime | None
    last_error: str | None


def record(database: Database, wanted: Sequence[Notice], *, now: datetime) -> list[Notice]:
    """Write those notices that are news, and return them.

    Two processes that record the same change at once write it once. When nothing has changed,
    which is nearly always, nothing is locked either.
    """
    with database.reading() as connection:
        changed = _news(connection, wanted)
    if not changed:
        return []
    with database.transaction() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        changed = _news(connection, changed)
        if changed:
            connection.execute(
                insert(notices),
                [
                    {
                        "subject": notice.subject,
                        "state": notice.state,
                        "severity": notice.severity.value,
                        "title": notice.title,
                        "body": notice.body,
                        # Clocks of two machines differ: a trouble that began "later" than its own
                        # notice would be told again.
                        "created_at": max(now, notice.since or now),
                    }
                    for notice in changed
                ],
            )
    return changed


def list_notices(
    database: Database, *, with_silent: bool = False, limit: int | None = 20
) -> list[StoredNotice]:
    """Notices, newest first; silent ones only when asked for, `limit` None is no limit."""
    statement = select(notices).order_by(notices.c.id.desc()).limit(limit)
    if not with_silent:
        statement = statement.where(notices.c.severity != Severity.SILENT.value)
    with database.reading() as connection:
        return [_stored(row) for row in connection.execute(statement)]


def latest_notices(database: Database) -> dict[str, StoredNotice]:
    """The newest notice of every subject there is one of, silent ones as well."""
    with database.reading() as connection:
        return _latest(connection)


def claim_next(database: Database, *, now: datetime) -> StoredNotice | None:
    """The oldest notice that is due, which is now this caller's to send; None when there is none.

    The attempt is counted and committed before anything is sent, so that nobody else sends it
    meanwhile, and whoever dies over it leaves it to be tried again.
    """
    pending = (
        select(notices)
        .where(notices.c.sent_at.is_(None), notices.c.severity != Severity.SILENT.value)
        .where(notices.c.created_at >= now - GIVE_UP_AFTER)
        .order_by(notices.c.id)
    )
    with database.reading() as connection:
        found = [_stored(row) for row in connection.execute(pending)]
    for notice in due_notices(found, now=now):
        with database.transaction() as connection:
            claimed = connection.execute(
                update(notices)
                .where(
                    notices.c.id == notice.id,
                    notices.c.attempts == notice.attempts,
                    notices.c.sent_at.is_(None),
                )
                .values(attempts=notice.attempts + 1, last_attempt_at=now)
            )
        if claimed.rowcount:
            return notice
    return None


def settle(
    database: Database, notice_id: int, *, sent_at: datetime | None, error: str | None
) -> None:
    """Write down how a claimed notice was received; `sent_at` None leaves it to be tried again."""
    with database.transaction() as connection:
        connection.execute(
            update(notices)
            .where(notices.c.id == notice_id)
            .values(sent_at=sent_at, last_error=error)
        )


def _news(connection: Connection, wanted: Sequence[Notice]) -> list[Notice]:
    latest = _latest(connection)
    return [notice for notice in wanted if is_news(notice, latest.get(notice.subject))]


def _latest(connection: Connection) -> dict[str, StoredNotice]:
    """The newest notice of every subject there is one of."""
    newest = select(func.max(notices.c.id)).group_by(notices.c.subject)
    rows = connection.execute(select(notices).where(notices.c.id.in_(newest)))
    return {row.subject: _stored(row) for row in rows}


def _stored(row: Row[Any]) -> StoredNotice:
    return StoredNotice(
        id=row.id,
        subject=row.subject,
        state=row.state,
        severity=Severity(row.severity),
        title=row.title,
        body=row.body,
        created_at=row.created_at,
        sent_at=row.sent_at,
        attempts=row.attempts,
        last_attempt_at=row.last_attempt_at,
        last_error=row.last_error,
    )
