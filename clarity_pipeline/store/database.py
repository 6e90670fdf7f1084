"""Opening the database, transactions on it, and what its driver's errors mean.

Everything else in store/ goes through `Database.transaction` and `Database.reading`; both turn
the driver's errors into one sentence of a StoreError class, without the driver's text, which can
quote parameters and the address with its password.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, Final, Literal, Self, cast

import psycopg
from pydantic import SecretStr
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from clarity_pipeline.domain.errors import (
    ConfigurationError,
    DatabaseBusy,
    DatabaseFull,
    DatabaseReadOnly,
    DatabaseUnreachable,
    SchemaMismatch,
    StoreError,
)
from clarity_pipeline.store.storable import dump_json, load_json

LOCK_TIMEOUT_SECONDS: Final = 30.0
"""How long a writer waits for another one before it gives up with DatabaseBusy."""

CONNECT_TIMEOUT_SECONDS: Final = 10

DialectName = Literal["sqlite", "postgresql"]


class Database:
    """One database, safe to share between threads. Make it with `open`, end it with `close`."""

    def __init__(self, engine: Engine, *, lock_timeout_seconds: float) -> None:
        self.engine: Final = engine
        self.dialect_name: Final = cast("DialectName", engine.dialect.name)
        self.months_with_partition: Final[set[date]] = set()
        self._lock_timeout_seconds: Final = lock_timeout_seconds
        self._file_identity: tuple[int, int] | None = None
        # SQLite has one writer at a time and lets the others poll; threads queue here instead.
        self._writer: Final = threading.Lock()

    @classmethod
    def open(
        cls,
        url: SecretStr | str,
        *,
        migrate: bool = True,
        lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS,
    ) -> Self:
        """Connect and bring the schema up to date.

        Raises ConfigurationError for an address that cannot be used, SchemaMismatch for a schema
        that is newer than this program or not ours (or, with `migrate=False`, not up to date),
        and the other StoreErrors when the database cannot be reached, read or written.
        """
        address = parse_database_url(url)
        if address.get_backend_name() == "sqlite":
            _create_parent_directory(address)
            engine = _sqlite_engine(address, lock_timeout_seconds=lock_timeout_seconds)
        else:
            engine = _postgresql_engine(address, lock_timeout_seconds=lock_timeout_seconds)
        database = cls(engine, lock_timeout_seconds=lock_timeout_seconds)
        # Imported here because the migrations need this module.
        from clarity_pipeline.store.migrations import ensure_schema

        try:
            ensure_schema(database, migrate=migrate)
            database._file_identity = database._current_file_identity()
        except BaseException:
            database.close()
            raise
        return database

    @contextmanager
    def transaction(self) -> Generator[Connection]:
        """A connection in a transaction that may write; committed at the end, or rolled back.

        On SQLite the write lock is taken at once, so that what is read inside still holds when
        it is written.
        """
        self._check_file_is_still_there()
        with translated_errors(), self._turn_to_write(), self.engine.connect() as connection:
            if self.dialect_name == "sqlite":
                connection = connection.execution_options(**{_WRITES: True})
            with connection.begin():
                yield connection

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """A connection that sees one moment of the database throughout and writes nothing."""
        self._check_file_is_still_there()
        with translated_errors(), self.engine.connect() as connection:
            if self.dialect_name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @property
    def url(self) -> SecretStr:
        """What `open` takes, for a process of its own; it may hold a password."""
        return SecretStr(self.engine.url.render_as_string(hide_password=False))

    def close(self) -> None:
        """Close every pooled connection; the object is of no use afterwards."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Database({self.dialect_name})"

    def _check_file_is_still_there(self) -> None:
        """SQLite goes on writing into a deleted file, and all of it would be lost."""
        if self._file_identity not in {None, self._current_file_identity()}:
            raise DatabaseUnreachable(
                "The database file has been deleted, moved or replaced while it was in use; put it "
                "back, or start again."
            )

    def _current_file_identity(self) -> tuple[int, int] | None:
        path = _sqlite_path(self.engine.url) if self.dialect_name == "sqlite" else None
        if path is None:
            return None
        try:
            status = path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    @contextmanager
    def _turn_to_write(self) -> Generator[None]:
        if self.dialect_name != "sqlite":
            yield
            return
        if not self._writer.acquire(timeout=self._lock_timeout_seconds):
            raise _busy()
        try:
            yield
        finally:
            self._writer.release()


_WRITES: Final = "clarity_writes"


def parse_database_url(url: SecretStr | str) -> URL:
    """The address with its driver filled in.

    Raises ConfigurationError, never quoting the address: it may hold a password.
    """
    text = url.get_secret_value() if isinstance(url, SecretStr) else url
    if text.startswith("postgres://"):
        text = "postgresql://" + text.removeprefix("postgres://")
    try:
        address = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "CLARITY_DATABASE_URL is not a database address; write it as "
            "postgresql://user:password@host/database or sqlite:///path/to/file."
        ) from None
    match address.drivername:
        case "postgresql" | "postgresql+psycopg":
            return address.set(drivername="postgresql+psycopg")
        case "sqlite" | "sqlite+pysqlite":
            if _sqlite_path(address) is None:
                raise ConfigurationError(
                    "CLARITY_DATABASE_URL names no file; write it as sqlite:///path/to/file."
                )
            return address.set(drivername="sqlite+pysqlite")
        case _:
            raise ConfigurationError(
                "CLARITY_DATABASE_URL asks for a database or driver that is not supported; start "
                "it with postgresql:// or sqlite:///."
            )


def _sqlite_path(address: URL) -> Path | None:
    name = (address.database or "").removeprefix("file:")
    return None if name in {"", ":memory:"} else Path(name)


def _create_parent_directory(address: URL) -> None:
    path = _sqlite_path(address)
    assert path is not None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseUnreachable(
            f"The directory {path.parent} for the database cannot be made "
            f"({error.strerror}); check the path and its permissions."
        ) from None


def _sqlite_engine(address: URL, *, lock_timeout_seconds: float) -> Engine:
    engine = create_engine(
        address,
        poolclass=QueuePool,
        pool_size=8,
        max_overflow=-1,
        hide_parameters=True,
        connect_args={"timeout": lock_timeout_seconds, "check_same_thread": False},
        **_JSON_CODEC,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:  # pyright: ignore[reportUnusedFunction]
        # Python's own transaction handling would begin deferred, and too late for DDL.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")
        # FULL, not NORMAL: with NORMAL a power cut takes back the last commits, among them
        # reserved slots and landed replies, which nobody can ask for again.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql_engine(address: URL, *, lock_timeout_seconds: float) -> Engine:
    engine = create_engine(
        address,
        pool_size=8,
        max_overflow=8,
        pool_timeout=lock_timeout_seconds,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "application_name": "clarity_pipeline",
            "client_encoding": "utf8",
        },
        **_JSON_CODEC,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: psycopg.Connection, _record: object) -> None:  # pyright: ignore[reportUnusedFunction]
        milliseconds = str(int(lock_timeout_seconds * 1000))
        connection.execute(
            "SELECT set_config('lock_timeout', %s, false), set_config('timezone', 'UTC', false)",
            [milliseconds],
        )
        connection.commit()

    return engine


_JSON_CODEC: Final[dict[str, Any]] = {
    "json_serializer": dump_json,
    "json_deserializer": load_json,
}


@contextmanager
def translated_errors() -> Generator[None]:
    """Turn the driver's errors into ours. Broken constraints pass: they are bugs, or expected."""
    try:
        yield
    except PoolTimeoutError:
        raise _busy() from None
    except DBAPIError as error:
        translated = _translate(error.orig, lost=error.connection_invalidated)
        if translated is None:
            raise
        raise translated from None
    except (sqlite3.Error, psycopg.Error) as error:
        translated = _translate(error, lost=False)
        if translated is None:
            raise
        raise translated from None


def _translate(error: BaseException | None, *, lost: bool) -> StoreError | None:
    if isinstance(error, sqlite3.Error):
        return _translate_sqlite(error)
    if isinstance(error, psycopg.Error):
        return _translate_postgresql(error, lost=lost)
    return None


def _translate_sqlite(error: sqlite3.Error) -> StoreError | None:
    if isinstance(error, sqlite3.IntegrityError):
        return None
    # The low byte is the primary result code; the rest of it says how it came about.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    match code:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return _busy()
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return _read_only()
        case sqlite3.SQLITE_FULL:
            return _full()
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_IOERR | sqlite3.SQLITE_AUTH:
            return _unreachable()
        case sqlite3.SQLITE_NOTADB:
            return SchemaMismatch(
                "The database file is not a SQLite database; point CLARITY_DATABASE_URL at another "
                "file."
            )
        case sqlite3.SQLITE_CORRUPT:
            return DatabaseUnreachable(
                "The database file is damaged; restore it from a backup before going on."
            )
        case _:
            return StoreError(
                f"The database refused a statement ({_error_name(error)}); this is a fault of the "
                "program or of a schema changed by hand."
            )


def _translate_postgresql(error: psycopg.Error, *, lost: bool) -> StoreError | None:
    state = error.sqlstate or ""
    if isinstance(error, psycopg.IntegrityError):
        return None
    if state.startswith("53"):
        # 53100 disk full, 53200 out of memory, 53300 too many connections.
        return _full() if state == "53100" else _busy()
    if state in {"55P03", "40P01", "40001", "57014"}:
        return _busy()
    if state in {"25006", "42501"}:
        return _read_only()
    if state in {"3D000", "28000", "28P01"}:
        return DatabaseUnreachable(
            "The database server refuses the user, password or database name of "
            "CLARITY_DATABASE_URL; check them."
        )
    if lost or state[:2] in {"08", "57", "58"} or _is_connection_failure(error):
        return _unreachable()
    return StoreError(
        f"The database refused a statement ({state or type(error).__name__}); this is a fault of "
        "the program or of a schema changed by hand."
    )


def _is_connection_failure(error: psycopg.Error) -> bool:
    """Whether the server was not there to answer: then psycopg has no SQLSTATE to report."""
    return isinstance(error, psycopg.OperationalError) and error.sqlstate is None


def _error_name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", type(error).__name__)


def _busy() -> DatabaseBusy:
    return DatabaseBusy(
        "The database is locked by somebody else for longer than we wait; try again when the "
        "other process is done."
    )


def _read_only() -> DatabaseReadOnly:
    return DatabaseReadOnly(
        "The database cannot be written; give this user write permission on it."
    )


def _full() -> DatabaseFull:
    return DatabaseFull("The disk of the database is full; make room and run it again.")


def _unreachable() -> DatabaseUnreachable:
    return DatabaseUnreachable(
        "The database cannot be reached, or the connection broke off; check that it is running "
        "and that CLARITY_DATABASE_URL is right."
    )
