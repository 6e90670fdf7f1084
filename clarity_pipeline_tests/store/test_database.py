"""Opening a database, and what its troubles are called."""

from __future__ import annotations

import gc
import sqlite3
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import insert, make_url, select, text
from sqlalchemy.exc import IntegrityError, StatementError

from clarity_pipeline.domain.errors import (
    ClarityError,
    ConfigurationError,
    DatabaseBusy,
    DatabaseFull,
    DatabaseReadOnly,
    DatabaseUnreachable,
    SchemaMismatch,
    StoreError,
)
from clarity_pipeline.store import businesses
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import businesses as businesses_table
from clarity_pipeline_tests.conftest import PostgresServer
from clarity_pipeline_tests.factories import NOW


def add(database: Database, business_id: str = "acme") -> None:
    businesses.add_business(database, business_id=business_id, name="Acme", now=NOW)


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense with hunter2",
        "mysql://me:hunter2@db/clarity",
        "postgresql+asyncpg://me:hunter2@db/clarity",
        "postgresql://me:hunter2@db:port/clarity",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite+aiosqlite:///clarity.db",
    ],
)
def test_an_address_that_cannot_be_used_is_a_setting_to_correct(url: str) -> None:
    with pytest.raises(ConfigurationError, match="CLARITY_DATABASE_URL") as caught:
        Database.open(SecretStr(url))
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_a_server_that_is_not_there_is_unreachable_and_its_password_stays_secret() -> None:
    with pytest.raises(DatabaseUnreachable) as caught:
        Database.open("postgresql://me:hunter2@127.0.0.1:1/clarity")
    assert "hunter2" not in f"{caught.value!r}{caught.value.__cause__!r}"
    assert caught.value.__suppress_context__


def test_a_database_name_that_the_server_does_not_know_is_unreachable(
    postgres_server: PostgresServer,
) -> None:
    with pytest.raises(DatabaseUnreachable):
        Database.open(postgres_server.url("nowhere"))


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_usual_spelling_of_a_postgresql_address_works(
    postgresql_url: str, scheme: str
) -> None:
    url = postgresql_url.replace("postgresql", scheme, 1)
    with Database.open(url) as database:
        assert database.dialect_name == "postgresql"


def test_the_directory_of_a_new_sqlite_file_is_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "clarity.db"
    Database.open(f"sqlite:///{path}").close()
    assert path.exists()


def test_a_directory_that_cannot_be_made_is_unreachable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseUnreachable, match="directory"):
        Database.open(f"sqlite:///{tmp_path / 'file' / 'clarity.db'}")


def test_a_directory_in_place_of_the_file_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnreachable):
        Database.open(f"sqlite:///{tmp_path}")


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are my notes, and no database at all. " * 50)
    before = path.read_bytes()
    with pytest.raises(SchemaMismatch, match="not a SQLite database"):
        Database.open(f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_a_locked_sqlite_file_is_busy_and_nothing_is_written(sqlite_url: str) -> None:
    other = sqlite3.connect(path_of(sqlite_url), isolation_level=None)
    with Database.open(sqlite_url, lock_timeout_seconds=0.1) as database:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusy):
            add(database)
        other.execute("ROLLBACK")
        assert businesses.list_businesses(database) == []
        add(database)
    other.close()


def test_a_locked_postgresql_table_is_busy_and_nothing_is_written(postgresql_url: str) -> None:
    with (
        Database.open(postgresql_url, lock_timeout_seconds=0.1) as database,
        psycopg.connect(postgresql_url) as other,
    ):
        other.execute("LOCK TABLE businesses IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DatabaseBusy):
            add(database)
        other.rollback()
        add(database)


def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    add(database)
    with database.transaction() as connection:
        connection.execute(insert(businesses_table).values(id="b", name="B", created_at=NOW))
        assert [item.id for item in businesses.list_businesses(database)] == ["acme"]


def test_a_writing_thread_waits_for_its_turn(sqlite_url: str) -> None:
    with Database.open(sqlite_url, lock_timeout_seconds=0.1) as database:
        with database.transaction():
            outcome: list[type[BaseException]] = []

            def write() -> None:
                try:
                    add(database)
                except ClarityError as error:
                    outcome.append(type(error))

            thread = threading.Thread(target=write)
            thread.start()
            thread.join()
        assert outcome == [DatabaseBusy]
        add(database)


def test_a_read_only_sqlite_file_can_be_read_and_not_written(sqlite_url: str) -> None:
    with Database.open(sqlite_url) as database:
        add(database)
    url = f"sqlite:///file:{path_of(sqlite_url)}?mode=ro&uri=true"
    with Database.open(url) as database:
        assert [item.id for item in businesses.list_businesses(database)] == ["acme"]
        with pytest.raises(DatabaseReadOnly):
            add(database, "other")


def test_a_read_only_postgresql_can_be_read_and_not_written(postgresql_url: str) -> None:
    name = make_url(postgresql_url).database
    with psycopg.connect(postgresql_url, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
    with Database.open(postgresql_url) as database:
        assert businesses.list_businesses(database) == []
        with pytest.raises(DatabaseReadOnly):
            add(database)


def test_a_full_sqlite_disk_is_full_and_nothing_is_half_written(sqlite_url: str) -> None:
    def write_too_much(database: Database) -> None:
        with database.transaction() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            for number in range(1000):
                row = {"id": f"b{number}", "name": "x" * 1000, "created_at": NOW}
                connection.execute(insert(businesses_table).values(row))

    with Database.open(sqlite_url) as database:
        with pytest.raises(DatabaseFull):
            write_too_much(database)
        assert businesses.list_businesses(database) == []


def test_a_full_postgresql_disk_is_full(postgresql_url: str) -> None:
    with (
        Database.open(postgresql_url) as database,
        pytest.raises(DatabaseFull),
        database.transaction() as connection,
    ):
        connection.execute(
            text("DO $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END $$")
        )


def test_a_terminated_connection_is_unreachable_once_and_then_replaced(
    postgresql_url: str,
) -> None:
    def go_on_after_termination(database: Database) -> None:
        with database.transaction() as connection:
            backend = connection.scalar(text("SELECT pg_backend_pid()"))
            with psycopg.connect(postgresql_url, autocommit=True) as admin:
                admin.execute("SELECT pg_terminate_backend(%s)", [backend])
            connection.execute(select(businesses_table))

    with Database.open(postgresql_url) as database:
        with pytest.raises(DatabaseUnreachable):
            go_on_after_termination(database)
        add(database)


def test_connections_that_died_while_idle_are_not_noticed(postgresql_url: str) -> None:
    """After the server was restarted the first statement must not fail."""
    with Database.open(postgresql_url) as database:
        add(database)
        with psycopg.connect(postgresql_url, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        assert [item.id for item in businesses.list_businesses(database)] == ["acme"]


def test_a_server_that_has_been_stopped_is_unreachable() -> None:
    server = PostgresServer()
    with Database.open(server.url()) as database:
        add(database)
        server.stop()
        with pytest.raises(DatabaseUnreachable):
            businesses.list_businesses(database)
        with pytest.raises(DatabaseUnreachable):
            add(database, "other")


@pytest.mark.parametrize("fate", ["deleted", "replaced"])
def test_a_sqlite_file_that_is_gone_is_unreachable_and_not_made_anew(
    sqlite_url: str, fate: str
) -> None:
    """SQLite itself would go on with the deleted file, and everything written would be lost."""
    path = path_of(sqlite_url)
    with Database.open(sqlite_url) as database:
        add(database)
        path.rename(path.with_name("elsewhere.db"))
        if fate == "replaced":
            path.touch()
        with pytest.raises(DatabaseUnreachable, match="deleted, moved or replaced"):
            add(database, "other")
        with pytest.raises(DatabaseUnreachable):
            businesses.list_businesses(database)
        assert path.exists() == (fate == "replaced")


def test_a_statement_that_is_wrong_is_our_fault_and_says_nothing_of_its_values(
    database: Database,
) -> None:
    with (
        pytest.raises(StoreError, match="refused a statement") as caught,
        database.transaction() as connection,
    ):
        connection.execute(text("SELECT :secret FROM nowhere"), {"secret": "hunter2"})
    assert type(caught.value) is StoreError
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_an_error_inside_a_transaction_takes_everything_back(database: Database) -> None:
    def write_and_stumble() -> None:
        with database.transaction() as connection:
            connection.execute(insert(businesses_table).values(id="b", name="B", created_at=NOW))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_stumble()
    assert businesses.list_businesses(database) == []


def test_instants_come_back_in_utc_whatever_zone_they_were_given_in(database: Database) -> None:
    local = datetime(2026, 11, 2, 3, 0, 0, 123456, tzinfo=timezone(timedelta(hours=3)))
    businesses.add_business(database, business_id="acme", name="Acme", now=local)
    stored = businesses.get_business(database, "acme").created_at
    assert stored == local
    assert stored.tzinfo is UTC


def test_an_instant_without_a_zone_is_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="time zone"):
        businesses.add_business(
            database, business_id="acme", name="Acme", now=NOW.replace(tzinfo=None)
        )


def test_an_instant_on_sqlite_sorts_like_time(sqlite_url: str) -> None:
    with Database.open(sqlite_url) as database:
        businesses.add_business(database, business_id="b", name="B", now=NOW)
        for number, micro in enumerate((1, 0)):
            businesses.add_business(
                database,
                business_id=f"a{number}",
                name="A",
                now=NOW + timedelta(microseconds=micro, seconds=1),
            )
        with database.reading() as connection:
            ids = connection.scalars(
                select(businesses_table.c.id).order_by(businesses_table.c.created_at)
            ).all()
    assert ids == ["b", "a1", "a0"]


def test_foreign_keys_hold_on_every_connection(database: Database) -> None:
    for _ in range(3):
        with pytest.raises(IntegrityError), database.transaction() as connection:
            connection.execute(
                text(
                    "INSERT INTO clarity_sync_requests "
                    "(business_id, date, requested_by, requested_at) "
                    "VALUES ('nobody', '2026-11-01', 'me', '2026-11-01T00:00:00+00:00')"
                )
            )


def test_sqlite_survives_a_power_cut_and_lets_readers_in(sqlite_url: str) -> None:
    with Database.open(sqlite_url) as database, database.transaction() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


def test_closing_leaves_no_connection_behind(database_url: str) -> None:
    """Warnings are errors here: a connection that is collected unclosed would fail the test."""
    database = Database.open(database_url)
    threads = [
        threading.Thread(target=businesses.list_businesses, args=(database,)) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    database.close()
    del database
    gc.collect()


def test_a_database_does_not_show_its_address(postgresql_url: str) -> None:
    with Database.open(postgresql_url) as database:
        assert repr(database) == "Database(postgresql)"
