"""Bringing the schema up to date, and refusing one that this program does not know.

Alembic runs inside one transaction under one lock, so processes that start together migrate
once. A database that is up to date costs one query, and Alembic is not even imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, inspect, text

from clarity_pipeline.domain.errors import SchemaMismatch
from clarity_pipeline.store import schema
from clarity_pipeline.store.database import Database, translated_errors

if TYPE_CHECKING:
    from alembic.config import Config

_MIGRATION_LOCK: Final = 0x636C617269747931
"""Any number that nobody else locks on: "clarity1" in ASCII."""


def ensure_schema(database: Database, *, migrate: bool) -> None:
    """Migrate to the newest revision.

    Raises SchemaMismatch for tables that are newer than this program, or not ours, or (with
    `migrate=False`) not up to date.
    """
    with database.reading() as connection:
        revision = _read_revision(connection)
    if revision == schema.SCHEMA_REVISION:
        return
    if not migrate:
        raise SchemaMismatch(
            "The database's tables are not those of this version; run `clarity init` to bring "
            "them up to date."
        )
    if database.dialect_name == "sqlite":
        _use_write_ahead_log(database)
    with database.transaction() as connection:
        if database.dialect_name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        _migrate(connection)


def alembic_config() -> Config:
    """Alembic's configuration without an ini file: the scripts are in this package."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def _migrate(connection: Connection) -> None:
    revision = _read_revision(connection)
    if revision == schema.SCHEMA_REVISION:
        return  # Somebody else has migrated while we waited for the lock.
    from alembic import command
    from alembic.script import ScriptDirectory

    config = alembic_config()
    if revision is None:
        _refuse_foreign_tables(connection)
    elif revision not in {
        script.revision for script in ScriptDirectory.from_config(config).walk_revisions()
    }:
        raise SchemaMismatch(
            f"The database has schema revision {revision}, which is newer than this program "
            f"({schema.SCHEMA_REVISION}); update clarity-pipeline."
        )
    config.attributes["connection"] = connection
    command.upgrade(config, schema.SCHEMA_REVISION)


def _read_revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(schema.VERSION_TABLE):
        return None
    statement = text(f"SELECT version_num FROM {schema.VERSION_TABLE}")  # noqa: S608 - constant
    return connection.execute(statement).scalar()


def _refuse_foreign_tables(connection: Connection) -> None:
    ours = set(schema.metadata.tables)
    taken = sorted(ours.intersection(inspect(connection).get_table_names()))
    if taken:
        raise SchemaMismatch(
            f"The database already has a table {taken[0]!r} that clarity-pipeline did not make; "
            "give it a database of its own."
        )


def _use_write_ahead_log(database: Database) -> None:
    """Readers then never wait for the writer. The mode is kept in the file."""
    with translated_errors(), database.engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.execute("PRAGMA journal_mode = WAL")
