"""People who sign in to the panel, and their sessions; every secret is stored as a hash."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from clarity_pipeline.domain.access import (
    SESSION_IDLE_LIFETIME,
    SESSION_LIFETIME,
    Principal,
    Role,
)
from clarity_pipeline.domain.errors import InvalidLogin, UnknownUser
from clarity_pipeline.store.businesses import check_businesses_exist
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import panel_sessions, panel_users

_SEEN_EVERY: Final = timedelta(minutes=1)
"""How exactly it is known when a session was last used: not every click is worth a write."""


@dataclass(frozen=True, slots=True)
class PanelUser:
    """A person with an account; instants are UTC. `business_id` is None for the agency's people."""

    id: int
    login: str
    role: Role
    business_id: str | None
    created_at: datetime
    password_changed_at: datetime
    last_login_at: datetime | None
    revoked_at: datetime | None

    @property
    def principal(self) -> Principal:
        """Who this is to the rest of the program once they have signed in."""
        return Principal(
            role=self.role, name=self.login, business_id=self.business_id, user_id=self.id
        )


@dataclass(frozen=True, slots=True)
class PanelSession:
    """Where somebody is signed in."""

    token_hash: str
    created_at: datetime
    last_seen_at: datetime
    remote_address: str | None
    user_agent: str | None


def add_user(
    database: Database,
    *,
    login: str,
    password_hash: str,
    role: Role,
    business_id: str | None,
    now: datetime,
) -> PanelUser:
    """Raises InvalidLogin for a login that is taken, or UnknownBusiness."""
    with database.transaction() as connection:
        if business_id is not None:
            check_businesses_exist(connection, [business_id])
        insert_user(
            connection,
            login=login,
            password_hash=password_hash,
            role=role,
            business_id=business_id,
            now=now,
        )
    return get_user(database, login)


def insert_user(
    connection: Connection,
    *,
    login: str,
    password_hash: str,
    role: Role,
    business_id: str | None,
    now: datetime,
) -> None:
    """Raises InvalidLogin for a login that is taken, also by somebody without access any more."""
    values: dict[str, Any] = {
        "login": login,
        "role": role.value,
        "business_id": business_id,
        "created_at": now,
        "password_changed_at": now,
    }
    try:
        connection.execute(insert(panel_users).values(password_hash=password_hash, **values))
    except IntegrityError:
        raise InvalidLogin(f"There is already a user {login!r}; choose another login.") from None


def list_users(database: Database) -> list[PanelUser]:
    """All users, by login; those whose access was revoked too."""
    with database.reading() as connection:
        return [_user(row) for row in connection.execute(_users().order_by(panel_users.c.login))]


def get_user(database: Database, login: str) -> PanelUser:
    """Raises UnknownUser."""
    with database.reading() as connection:
        row = connection.execute(_users().where(panel_users.c.login == login)).first()
    if row is None:
        raise UnknownUser(login)
    return _user(row)


def has_agency_user(database: Database) -> bool:
    """Whether somebody can sign in who may make others' accounts."""
    with database.reading() as connection:
        return agency_has_user(connection)


def agency_has_user(connection: Connection) -> bool:
    """The same, as part of a transaction."""
    statement = (
        select(panel_users.c.id)
        .where(panel_users.c.role == Role.AGENCY.value, panel_users.c.revoked_at.is_(None))
        .limit(1)
    )
    return connection.execute(statement).first() is not None


def read_password_hash(database: Database, login: str) -> tuple[PanelUser, str] | None:
    """A user that may sign in, with the hash to compare; None for everybody else."""
    statement = _users().add_columns(panel_users.c.password_hash)
    with database.reading() as connection:
        row = connection.execute(
            statement.where(panel_users.c.login == login, panel_users.c.revoked_at.is_(None))
        ).first()
    return None if row is None else (_user(row), row.password_hash)


def change_password(
    database: Database,
    *,
    user_id: int,
    password_hash: str,
    now: datetime,
    kept_token_hash: str | None = None,
) -> None:
    """Replace a password and end every session that was begun with the old one.

    The session `kept_token_hash` goes on: that of the person who changes their own.
    """
    ended = panel_sessions.c.user_id == user_id
    if kept_token_hash is not None:
        ended &= panel_sessions.c.token_hash != kept_token_hash
    with database.transaction() as connection:
        connection.execute(
            update(panel_users)
            .where(panel_users.c.id == user_id)
            .values(password_hash=password_hash, password_changed_at=now)
        )
        connection.execute(delete(panel_sessions).where(ended))


def rehash_password(database: Database, *, user_id: int, password_hash: str, rehashed: str) -> None:
    """Store the same password hashed with today's parameters; sessions go on.

    Without effect on a password that was changed since `password_hash` was read.
    """
    with database.transaction() as connection:
        connection.execute(
            update(panel_users)
            .where(panel_users.c.id == user_id, panel_users.c.password_hash == password_hash)
            .values(password_hash=rehashed)
        )


def revoke_user(database: Database, *, login: str, now: datetime) -> bool:
    """End a user's access and sessions; True when there was any. Raises UnknownUser."""
    with database.transaction() as connection:
        row = connection.execute(
            select(panel_users.c.id, panel_users.c.revoked_at)
            .where(panel_users.c.login == login)
            .with_for_update()
        ).first()
        if row is None:
            raise UnknownUser(login)
        connection.execute(delete(panel_sessions).where(panel_sessions.c.user_id == row.id))
        if row.revoked_at is not None:
            return False
        connection.execute(
            update(panel_users).where(panel_users.c.id == row.id).values(revoked_at=now)
        )
        return True


def begin_session(
    database: Database,
    *,
    user_id: int,
    password_hash: str,
    token_hash: str,
    now: datetime,
    remote_address: str | None,
    user_agent: str | None,
) -> bool:
    """Sign a user in; sessions that are over are removed by the way.

    False, and no session, when `password_hash` is no longer the user's or their access was
    revoked: judging a password takes long enough for that to happen meanwhile.
    """
    with database.transaction() as connection:
        is_current = connection.execute(
            update(panel_users)
            .where(
                panel_users.c.id == user_id,
                panel_users.c.password_hash == password_hash,
                panel_users.c.revoked_at.is_(None),
            )
            .values(last_login_at=now)
        ).rowcount
        if not is_current:
            return False
        connection.execute(delete(panel_sessions).where(~_is_alive(now)))
        connection.execute(
            insert(panel_sessions).values(
                token_hash=token_hash,
                user_id=user_id,
                created_at=now,
                last_seen_at=now,
                expires_at=now + SESSION_LIFETIME,
                remote_address=remote_address,
                user_agent=None if user_agent is None else user_agent[:300],
            )
        )
        return True


def principal_of_session(database: Database, *, token_hash: str, now: datetime) -> Principal | None:
    """Whose session that is; None for one that is over, or whose user's access was revoked."""
    with database.reading() as connection:
        row = connection.execute(
            select(
                panel_users.c.id,
                panel_users.c.login,
                panel_users.c.role,
                panel_users.c.business_id,
                panel_sessions.c.last_seen_at,
            )
            .join_from(panel_sessions, panel_users)
            .where(
                panel_sessions.c.token_hash == token_hash,
                panel_users.c.revoked_at.is_(None),
                _is_alive(now),
            )
        ).first()
    if row is None:
        return None
    if row.last_seen_at <= now - _SEEN_EVERY:
        with database.transaction() as connection:
            connection.execute(
                update(panel_sessions)
                .where(panel_sessions.c.token_hash == token_hash)
                .values(last_seen_at=now)
            )
    return Principal(
        role=Role(row.role), name=row.login, business_id=row.business_id, user_id=row.id
    )


def list_sessions(database: Database, *, user_id: int, now: datetime) -> list[PanelSession]:
    """Where a user is signed in, latest first."""
    columns = panel_sessions.c
    statement = (
        select(
            columns.token_hash,
            columns.created_at,
            columns.last_seen_at,
            columns.remote_address,
            columns.user_agent,
        )
        .where(columns.user_id == user_id, _is_alive(now))
        .order_by(columns.last_seen_at.desc())
    )
    with database.reading() as connection:
        return [PanelSession(*row) for row in connection.execute(statement)]


def end_session(database: Database, *, token_hash: str) -> None:
    """Sign out here. Without effect on a session that is over."""
    with database.transaction() as connection:
        connection.execute(delete(panel_sessions).where(panel_sessions.c.token_hash == token_hash))


def end_all_sessions(database: Database, *, user_id: int) -> int:
    """Sign a user out everywhere; returns how many sessions that ended."""
    with database.transaction() as connection:
        return connection.execute(
            delete(panel_sessions).where(panel_sessions.c.user_id == user_id)
        ).rowcount


def _is_alive(now: datetime) -> ColumnElement[bool]:
    return (panel_sessions.c.expires_at > now) & (
        panel_sessions.c.last_seen_at > now - SESSION_IDLE_LIFETIME
    )


def _users() -> Select[*tuple[Any, ...]]:
    columns = panel_users.c
    return select(
        columns.id,
        columns.login,
        columns.role,
        columns.business_id,
        columns.created_at,
        columns.password_changed_at,
        columns.last_login_at,
        columns.revoked_at,
    )


def _user(row: Row[Any]) -> PanelUser:
    return PanelUser(
        id=row.id,
        login=row.login,
        role=Role(row.role),
        business_id=row.business_id,
        created_at=row.created_at,
        password_changed_at=row.password_changed_at,
        last_login_at=row.last_login_at,
        revoked_at=row.revoked_at,
    )
