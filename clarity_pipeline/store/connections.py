"""Which Clarity project a business is connected to, with which token, and whether it is synced.

Tokens leave this module decrypted through `read_token` alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

from pydantic import SecretStr
from sqlalchemy import Connection, Row, RowMapping, Select, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from clarity_pipeline.domain.connection_list import ConnectionRow
from clarity_pipeline.domain.connections import DisabledBy, TokenFacts
from clarity_pipeline.domain.errors import NotConnected, UnknownBusiness
from clarity_pipeline.store.businesses import check_businesses_exist, lock_businesses
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import business_config, businesses
from clarity_pipeline.store.vault import TokenVault

_ENABLED: Final[dict[str, Any]] = {
    "sync_enabled": True,
    "disabled_by": None,
    "disabled_reason": None,
    "disabled_at": None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOutline:
    """What decides how a business's connection stands, for lists of all; instants are UTC.

    `overview` is None where the business follows the setting. `created_at` is when it was first
    connected; for a business that never was, it is when the business was added.
    """

    business_id: str
    name: str
    project_id: str | None
    disabled_by: DisabledBy | None
    last_tested_at: datetime | None
    last_test_result: str | None
    last_synced_at: datetime | None
    overview: bool | None
    created_at: datetime

    @property
    def is_connected(self) -> bool:
        return self.project_id is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRecord(ConnectionOutline):
    """All that is known of a business's connection, without the token; instants are UTC.

    `token_trusted_since` is when a person last vouched for the token, by connecting or enabling.
    """

    token_fingerprint: str | None
    token_last4: str | None
    token_expires_at: datetime | None
    token_trusted_since: datetime | None
    sync_enabled: bool
    disabled_reason: str | None
    disabled_at: datetime | None
    updated_at: datetime

    @property
    def is_enabled(self) -> bool:
        """Connected and neither paused nor disabled: the schedule syncs it."""
        return self.is_connected and self.sync_enabled

    def was_refused_since(self, instant: datetime) -> bool:
        """Whether it was enabled at this instant and an authentication failure ended that."""
        return (
            self.is_connected
            and self.disabled_by is DisabledBy.AUTH_FAILURE
            and self.disabled_at is not None
            and self.disabled_at >= instant
        )


_RECORD_FIELDS: Final = tuple(field.name for field in fields(ConnectionRecord))


def get_connection(database: Database, business_id: str) -> ConnectionRecord:
    """Raises UnknownBusiness."""
    with database.reading() as connection:
        statement = _records().where(businesses.c.id == business_id)
        row = connection.execute(statement).mappings().first()
    if row is None:
        raise UnknownBusiness(business_id)
    return _record(row)


def list_connections(
    database: Database, business_ids: Collection[str] | None = None
) -> list[ConnectionRecord]:
    """Every business, or those named, connected or not, by id. Raises UnknownBusiness."""
    statement = _records().order_by(businesses.c.id)
    if business_ids is not None:
        statement = statement.where(businesses.c.id.in_(set(business_ids)))
    with database.reading() as connection:
        if business_ids is not None:
            check_businesses_exist(connection, business_ids)
        return [_record(row) for row in connection.execute(statement).mappings()]


def list_outlines(database: Database) -> list[ConnectionOutline]:
    """Every business, connected or not, by id: a third of `list_connections`, and of its time."""
    config = business_config.c
    statement = (
        select(
            businesses.c.id,
            businesses.c.name,
            config.project_id,
            config.disabled_by,
            config.last_tested_at,
            config.last_test_result,
            config.last_synced_at,
            config.overview,
            func.coalesce(config.created_at, businesses.c.created_at),
        )
        .select_from(businesses.outerjoin(business_config))
        .order_by(businesses.c.id)
    )
    with database.reading() as connection:
        return [
            ConnectionOutline(
                business_id=business_id,
                name=name,
                project_id=project_id,
                disabled_by=disabled_by and DisabledBy(disabled_by),
                last_tested_at=last_tested_at,
                last_test_result=last_test_result,
                last_synced_at=last_synced_at,
                overview=overview,
                created_at=created_at,
            )
            for (
                business_id,
                name,
                project_id,
                disabled_by,
                last_tested_at,
                last_test_result,
                last_synced_at,
                overview,
                created_at,
            ) in connection.execute(statement).all()
        ]


def save_connection(
    database: Database,
    vault: TokenVault,
    *,
    business_id: str,
    project_id: str,
    token: TokenFacts,
    now: datetime,
) -> None:
    """Connect a business, or give it another project or token. Raises UnknownBusiness.

    Clears what an authentication failure had disabled, never what a user has paused. What the
    last test said is forgotten when the token or the project is another one.
    """
    row = ConnectionRow(business_id=business_id, name="", project_id=project_id, token=token)
    ciphertexts = [vault.encrypt(token.token)]
    with database.transaction() as connection:
        _connect(connection, [row], ciphertexts, now=now)


def save_connections(
    database: Database, vault: TokenVault, *, rows: Sequence[ConnectionRow], now: datetime
) -> set[str]:
    """Connect businesses as `save_connection` does, all of these or none.

    Those that there are not yet are added; the others keep their names. Returns the ids of those
    that were added.
    """
    ciphertexts = [vault.encrypt(row.token.token) for row in rows]
    # In the order in which everybody locks them, so that two lists cannot wait for each other.
    new = [
        {"id": row.business_id, "name": row.name, "created_at": now}
        for row in sorted(rows, key=lambda row: row.business_id)
    ]
    upsert = sqlite.insert if database.dialect_name == "sqlite" else postgresql.insert
    missing = upsert(businesses).on_conflict_do_nothing().returning(businesses.c.id)
    if not rows:
        return set()
    with database.transaction() as connection:
        added = set(connection.scalars(missing, new))
        _connect(connection, rows, ciphertexts, now=now)
    return added


def read_token(database: Database, vault: TokenVault, business_id: str) -> tuple[SecretStr, str]:
    """The token and its fingerprint, for the moment of a call.

    Raises UnknownBusiness, NotConnected, or SecretKeyError when no key reads it.
    """
    with database.reading() as connection:
        row = _config_row(connection, business_id)
        if row is None:
            check_businesses_exist(connection, [business_id])
    if row is None or row.token_ciphertext is None:
        raise NotConnected(business_id)
    return vault.decrypt(row.token_ciphertext), row.token_fingerprint


def set_enabled(
    database: Database,
    *,
    business_id: str,
    enabled: bool,
    now: datetime,
    disabled_by: DisabledBy | None = None,
    reason: str | None = None,
    only_if_fingerprint: str | None = None,
) -> bool:
    """Switch the sync on or off; True when that changed anything.

    Switching on vouches for the token: refusals before it no longer count against it. Switched
    off by nobody in particular means by the user. An authentication failure never takes
    over a user's pause, and with `only_if_fingerprint` leaves a connection alone whose token has
    been replaced meanwhile. Raises UnknownBusiness, or NotConnected.
    """
    with database.transaction() as connection:
        lock_businesses(connection, [business_id])
        row = _config_row(connection, business_id)
        if row is None or row.project_id is None:
            raise NotConnected(business_id)
        if only_if_fingerprint is not None and row.token_fingerprint != only_if_fingerprint:
            return False
        if enabled:
            if row.sync_enabled:
                return False
            values = _ENABLED | {"token_trusted_since": now, "updated_at": now}
            _update(connection, business_id, values)
            return True
        by = disabled_by or DisabledBy.USER
        if row.disabled_by in {by, DisabledBy.USER}:
            return False
        values = {
            "sync_enabled": False,
            "disabled_by": by.value,
            "disabled_reason": reason,
            "disabled_at": now,
            "updated_at": now,
        }
        _update(connection, business_id, values)
        return True


def set_overview(
    database: Database, *, business_id: str, overview: bool | None, now: datetime
) -> None:
    """Override the overview setting for a business; None follows it again.

    Raises UnknownBusiness, or NotConnected for a business that never was connected.
    """
    _change(database, business_id, {"overview": overview, "updated_at": now})


def disconnect(database: Database, *, business_id: str, now: datetime) -> None:
    """Forget project and token, keep everything that was fetched. Raises UnknownBusiness.

    Without effect on a business that is not connected.
    """
    values = dict.fromkeys(
        (
            "project_id",
            "token_ciphertext",
            "token_fingerprint",
            "token_last4",
            "token_expires_at",
            "token_trusted_since",
            "last_tested_at",
            "last_test_result",
        )
    )
    with database.transaction() as connection:
        lock_businesses(connection, [business_id])
        row = _config_row(connection, business_id)
        if row is not None and row.project_id is not None:
            _update(connection, business_id, values | {"updated_at": now})


def record_test(database: Database, *, business_id: str, result: str, now: datetime) -> None:
    """Keep what a test of the token found. Raises UnknownBusiness, or NotConnected."""
    _change(database, business_id, {"last_tested_at": now, "last_test_result": result})


def record_synced(database: Database, *, business_id: str, at: datetime) -> None:
    """Keep when data were last stored, unless later ones have been.

    Raises UnknownBusiness, or NotConnected.
    """
    with database.transaction() as connection:
        lock_businesses(connection, [business_id])
        row = _config_row(connection, business_id)
        if row is None:
            raise NotConnected(business_id)
        if row.last_synced_at is None or row.last_synced_at < at:
            _update(connection, business_id, {"last_synced_at": at})


def _connect(
    connection: Connection,
    rows: Sequence[ConnectionRow],
    ciphertexts: Sequence[str],
    *,
    now: datetime,
) -> None:
    lock_businesses(connection, [row.business_id for row in rows])
    before = _config_rows(connection, [row.business_id for row in rows])
    first: list[dict[str, Any]] = []
    for row, ciphertext in zip(rows, ciphertexts, strict=True):
        values: dict[str, Any] = {
            "project_id": row.project_id,
            "token_ciphertext": ciphertext,
            "token_fingerprint": row.token.fingerprint,
            "token_last4": row.token.last4,
            "token_expires_at": row.token.expires_at,
            "token_trusted_since": now,
            "updated_at": now,
        }
        stood = before.get(row.business_id)
        if stood is None:
            first.append({"business_id": row.business_id, "created_at": now, **values, **_ENABLED})
            continue
        if stood.disabled_by != DisabledBy.USER:
            values |= _ENABLED
        if (stood.project_id, stood.token_fingerprint) != (row.project_id, row.token.fingerprint):
            values |= {"last_tested_at": None, "last_test_result": None}
        _update(connection, row.business_id, values)
    if first:
        connection.execute(insert(business_config), first)


def _records() -> Select[Any]:
    config = business_config.c
    return select(
        businesses.c.id,
        businesses.c.name,
        businesses.c.created_at.label("business_created_at"),
        *(column for column in config if column.name not in {"business_id", "token_ciphertext"}),
    ).select_from(businesses.outerjoin(business_config))


def _record(row: RowMapping) -> ConnectionRecord:
    values: dict[str, Any] = {str(name): value for name, value in row.items()}
    business_created_at = values.pop("business_created_at")
    values["business_id"] = values.pop("id")
    if values["created_at"] is None:
        values |= {
            "sync_enabled": False,
            "created_at": business_created_at,
            "updated_at": business_created_at,
        }
    if values["disabled_by"] is not None:
        values["disabled_by"] = DisabledBy(values["disabled_by"])
    return ConnectionRecord(**{name: values[name] for name in _RECORD_FIELDS})


def _config_row(connection: Connection, business_id: str) -> Row[Any] | None:
    return _config_rows(connection, [business_id]).get(business_id)


def _config_rows(connection: Connection, business_ids: Collection[str]) -> dict[str, Row[Any]]:
    config = business_config.c
    statement = select(business_config).where(config.business_id.in_(set(business_ids)))
    return {row.business_id: row for row in connection.execute(statement)}


def _change(database: Database, business_id: str, values: dict[str, Any]) -> None:
    with database.transaction() as connection:
        lock_businesses(connection, [business_id])
        if _config_row(connection, business_id) is None:
            raise NotConnected(business_id)
        _update(connection, business_id, values)


def _update(connection: Connection, business_id: str, values: dict[str, Any]) -> None:
    connection.execute(
        update(business_config).where(business_config.c.business_id == business_id).values(values)
    )
