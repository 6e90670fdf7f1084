"""Who changed what, when and from where. Rows are added, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select

from clarity_pipeline.domain.audit import AuditAction
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import audit_log


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Something that somebody did; `actor` is a login, "key: NAME", or "command line: USER"."""

    id: int
    at: datetime
    actor: str
    action: AuditAction
    business_id: str | None
    detail: Mapping[str, Any] | None
    remote_address: str | None


def record_audit(
    database: Database,
    *,
    actor: str,
    action: AuditAction,
    now: datetime,
    business_id: str | None = None,
    detail: Mapping[str, Any] | None = None,
    remote_address: str | None = None,
) -> None:
    """Add an entry; `detail` holds plain values, never a secret."""
    with database.transaction() as connection:
        connection.execute(
            insert(audit_log).values(
                at=now,
                actor=actor,
                action=action.value,
                business_id=business_id,
                detail=None if detail is None else dict(detail),
                remote_address=remote_address,
            )
        )


def list_audit(
    database: Database,
    *,
    business_id: str | None = None,
    before_id: int | None = None,
    limit: int = 100,
) -> list[AuditEntry]:
    """The latest entries first, of one business or of all; `before_id` goes on from a page."""
    statement = select(audit_log).order_by(audit_log.c.id.desc()).limit(limit)
    if business_id is not None:
        statement = statement.where(audit_log.c.business_id == business_id)
    if before_id is not None:
        statement = statement.where(audit_log.c.id < before_id)
    with database.reading() as connection:
        return [
            AuditEntry(
                id=row.id,
                at=row.at,
                actor=row.actor,
                action=AuditAction(row.action),
                business_id=row.business_id,
                detail=row.detail,
                remote_address=row.remote_address,
            )
            for row in connection.execute(statement)
        ]
