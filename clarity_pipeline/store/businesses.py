"""The businesses whose pages are watched."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from clarity_pipeline.domain.connections import parse_business_id
from clarity_pipeline.domain.errors import InvalidBusinessId, UnknownBusiness
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import businesses


@dataclass(frozen=True, slots=True)
class Business:
    """A client business; `created_at` is UTC.

    `client_sees_rules` says whether its people see the rules about it.
    """

    id: str
    name: str
    created_at: datetime
    client_sees_rules: bool = False


def add_business(database: Database, *, business_id: str, name: str, now: datetime) -> Business:
    """Add a business. Raises InvalidBusinessId for an id that is malformed or taken."""
    parse_business_id(business_id)
    business = Business(id=business_id, name=name, created_at=now)
    try:
        with database.transaction() as connection:
            connection.execute(insert(businesses).values(id=business_id, name=name, created_at=now))
    except IntegrityError:
        raise InvalidBusinessId(
            f"There is already a business {business_id!r}; choose another id."
        ) from None
    return business


def list_businesses(database: Database) -> list[Business]:
    """All businesses, by id."""
    with database.reading() as connection:
        rows = connection.execute(select(businesses).order_by(businesses.c.id))
        return [_business(row) for row in rows]


def get_business(database: Database, business_id: str) -> Business:
    """Raises UnknownBusiness."""
    with database.reading() as connection:
        row = connection.execute(select(businesses).where(businesses.c.id == business_id)).first()
    if row is None:
        raise UnknownBusiness(business_id)
    return _business(row)


def missing_businesses(database: Database, business_ids: Collection[str]) -> list[str]:
    """Those of the ids that there is no business of, in order."""
    wanted = set(business_ids)
    with database.reading() as connection:
        return sorted(wanted.difference(connection.scalars(select(businesses.c.id))))


def client_sees_rules(database: Database, business_id: str) -> bool:
    """Whether the client's people see the rules about their business. Raises UnknownBusiness."""
    with database.reading() as connection:
        sees = connection.scalar(
            select(businesses.c.client_sees_rules).where(businesses.c.id == business_id)
        )
    if sees is None:
        raise UnknownBusiness(business_id)
    return sees


def set_client_sees_rules(database: Database, *, business_id: str, sees: bool) -> bool:
    """Show the rules about a business to its people, or hide them; False when it was so already.

    Raises UnknownBusiness.
    """
    with database.transaction() as connection:
        lock_businesses(connection, [business_id])
        changed = connection.execute(
            update(businesses)
            .where(businesses.c.id == business_id, businesses.c.client_sees_rules != sees)
            .values(client_sees_rules=sees)
        )
        return changed.rowcount > 0


def check_businesses_exist(connection: Connection, business_ids: Collection[str]) -> None:
    """Raises UnknownBusiness for the first id, by name, that there is none of."""
    wanted = set(business_ids)
    known = connection.scalars(select(businesses.c.id).where(businesses.c.id.in_(wanted)))
    for missing in sorted(wanted.difference(known)):
        raise UnknownBusiness(missing)


@contextmanager
def of_a_known_business(business_id: str) -> Generator[None]:
    """Around statements of a call that add a row about a business.

    Raises UnknownBusiness when the foreign key refuses it: to ask first would be one more statement
    in every call.
    """
    try:
        yield
    except IntegrityError as error:
        if not _is_of_foreign_key(error.orig):
            raise
        raise UnknownBusiness(business_id) from None


def _is_of_foreign_key(error: BaseException | None) -> bool:
    return isinstance(error, psycopg.errors.ForeignKeyViolation) or (
        isinstance(error, sqlite3.IntegrityError)
        and error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY
    )


def lock_businesses(connection: Connection, business_ids: Collection[str]) -> None:
    """Keep other writers of these businesses out until the transaction ends.

    Ids are locked in order, so that two writers cannot wait for each other. Rows that merely
    refer to a business, like a reserved slot, can still be added by others. Raises
    UnknownBusiness.
    """
    wanted = set(business_ids)
    known = connection.scalars(
        select(businesses.c.id)
        .where(businesses.c.id.in_(wanted))
        .order_by(businesses.c.id)
        .with_for_update(key_share=True)
    )
    for missing in sorted(wanted.difference(known)):
        raise UnknownBusiness(missing)


def _business(row: Row[Any]) -> Business:
    return Business(
        id=row.id,
        name=row.name,
        created_at=row.created_at,
        client_sees_rules=row.client_sees_rules,
    )
