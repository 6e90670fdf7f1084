"""Keys with which machines use the API; only a hash of each is stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, Select, insert, select, update

from clarity_pipeline.domain.access import KeyScope, Principal, Role
from clarity_pipeline.domain.errors import UnknownApiKey
from clarity_pipeline.store.businesses import check_businesses_exist
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import panel_api_keys

_USED_EVERY: Final = timedelta(minutes=1)
"""How exactly it is known when a key was last used."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret; `business_id` is None for a key of the agency."""

    id: int
    name: str
    key_last4: str
    scope: KeyScope
    business_id: str | None
    created_by: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


def add_key(
    database: Database,
    *,
    name: str,
    key_hash: str,
    key_last4: str,
    scope: KeyScope,
    business_id: str | None,
    created_by: str,
    now: datetime,
) -> int:
    """Returns the key's id. Raises UnknownBusiness."""
    with database.transaction() as connection:
        if business_id is not None:
            check_businesses_exist(connection, [business_id])
        return connection.execute(
            insert(panel_api_keys)
            .values(
                name=name,
                key_hash=key_hash,
                key_last4=key_last4,
                scope=scope.value,
                business_id=business_id,
                created_by=created_by,
                created_at=now,
            )
            .returning(panel_api_keys.c.id)
        ).scalar_one()


def list_keys(database: Database) -> list[ApiKey]:
    """All keys, newest first; those that were revoked too."""
    with database.reading() as connection:
        rows = connection.execute(_keys().order_by(panel_api_keys.c.id.desc()))
        return [_key(row) for row in rows]


def get_key(database: Database, key_id: int) -> ApiKey:
    """Raises UnknownApiKey."""
    with database.reading() as connection:
        row = connection.execute(_keys().where(panel_api_keys.c.id == key_id)).first()
    if row is None:
        raise UnknownApiKey(key_id)
    return _key(row)


def revoke_key(database: Database, *, key_id: int, now: datetime) -> bool:
    """From now on nobody gets in with it; True when that changed anything."""
    with database.transaction() as connection:
        return bool(
            connection.execute(
                update(panel_api_keys)
                .where(panel_api_keys.c.id == key_id, panel_api_keys.c.revoked_at.is_(None))
                .values(revoked_at=now)
            ).rowcount
        )


def principal_of_key(database: Database, *, key_hash: str, now: datetime) -> Principal | None:
    """Whose key that is; None for one that is unknown or revoked."""
    columns = panel_api_keys.c
    with database.reading() as connection:
        row = connection.execute(
            select(
                columns.id,
                columns.name,
                columns.scope,
                columns.business_id,
                columns.last_used_at,
            ).where(columns.key_hash == key_hash, columns.revoked_at.is_(None))
        ).first()
    if row is None:
        return None
    if row.last_used_at is None or row.last_used_at <= now - _USED_EVERY:
        with database.transaction() as connection:
            connection.execute(
                update(panel_api_keys).where(columns.id == row.id).values(last_used_at=now)
            )
    return Principal(
        role=Role.AGENCY if row.business_id is None else Role.CLIENT,
        name=row.name,
        business_id=row.business_id,
        user_id=None,
        may_write=row.scope == KeyScope.WRITE.value,
    )


def _keys() -> Select[*tuple[Any, ...]]:
    columns = panel_api_keys.c
    return select(
        columns.id,
        columns.name,
        columns.key_last4,
        columns.scope,
        columns.business_id,
        columns.created_by,
        columns.created_at,
        columns.last_used_at,
        columns.revoked_at,
    )


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        key_last4=row.key_last4,
        scope=KeyScope(row.scope),
        business_id=row.business_id,
        created_by=row.created_by,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
