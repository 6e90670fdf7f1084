"""The schema: migrations make exactly what schema.py says, once, and refuse what is not ours."""

from __future__ import annotations

import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, select, text

from clarity_pipeline.domain.aggregates import DAILY_SUM_COLUMNS
from clarity_pipeline.domain.dimensions import DEFAULT_COMBOS, DIMENSION_COLUMNS
from clarity_pipeline.domain.errors import SchemaMismatch
from clarity_pipeline.domain.metrics import METRIC_COLUMNS
from clarity_pipeline.operations.rebuild_day import rebuild, rebuild_business_aggregates
from clarity_pipeline.store import daily_metrics, quota_ledger, schema
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.migrations import alembic_config
from clarity_pipeline.store.vault import TokenVault
from clarity_pipeline_tests.domain.replies import Visits
from clarity_pipeline_tests.factories import DAY, NOW, connect_business, make_slice

# Opens the database given on the command line, as any process of ours does when it starts.
OPEN_IN_A_PROCESS = """
import sys
from clarity_pipeline.store.database import Database
Database.open(sys.argv[1]).close()
"""


def test_migrations_make_exactly_the_schema_that_the_code_uses(
    database: Database, vault: Any
) -> None:
    connect_business(database, vault)
    # With a partition there, which must not look like a table nobody knows.
    daily_metrics.replace_slices(
        database, [make_slice(database, Visits(("https://a/", "PC")))], now=NOW
    )

    def is_ours(name: str | None, kind: str, _parents: object) -> bool:
        return not (kind == "table" and name and name.startswith("clarity_daily_metrics_"))

    with database.reading() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_name": is_ours,
                "version_table": schema.VERSION_TABLE,
            },
        )
        assert compare_metadata(context, schema.metadata) == []


def test_checks_and_foreign_keys_of_the_schema_are_in_the_database(database: Database) -> None:
    """Alembic's comparison looks at neither."""
    with database.reading() as connection:
        inspector = inspect(connection)
        for table in schema.metadata.sorted_tables:
            checks = {check["name"] for check in inspector.get_check_constraints(table.name)}
            foreign_keys = {key["name"] for key in inspector.get_foreign_keys(table.name)}
            expected = {constraint.name for constraint in table.constraints}
            assert {name for name in expected if str(name).startswith("ck_")} == checks
            assert {name for name in expected if str(name).startswith("fk_")} == foreign_keys


def test_the_revision_the_code_expects_is_the_newest_migration() -> None:
    script = ScriptDirectory.from_config(alembic_config())
    assert script.get_current_head() == schema.SCHEMA_REVISION


def test_the_tables_have_the_columns_of_the_domain() -> None:
    metrics = [column.name for column in schema.daily_metrics.c]
    assert metrics[4:26] == [*DIMENSION_COLUMNS, *METRIC_COLUMNS, "raw_payload"]
    for table in (
        schema.business_aggregates,
        schema.dimension_aggregates,
        schema.url_aggregates,
    ):
        assert [c.name for c in table.c if c.name in DAILY_SUM_COLUMNS] == list(DAILY_SUM_COLUMNS)


def test_a_fresh_database_migrates_by_itself(empty_database_url: str) -> None:
    with Database.open(empty_database_url) as database, database.reading() as connection:
        assert set(schema.metadata.tables) <= set(inspect(connection).get_table_names())


def test_a_database_of_the_first_release_is_upgraded_with_all_it_holds(
    empty_database_url: str,
) -> None:
    url = empty_database_url.replace("postgresql://", "postgresql+psycopg://")
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir()
    engine = create_engine(url)
    with engine.begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(text(f"INSERT INTO businesses VALUES ('acme', 'Acme', '{NOW}')"))
        connection.execute(
            text(
                "INSERT INTO clarity_api_calls (project_id, utc_day, slot, business_id, purpose, "
                "dimension_set, reserved_at) VALUES ('abc123xyz0', '2026-11-02', 1, 'acme', "
                f"'schedule', 'Device,URL', '{NOW.isoformat(timespec='microseconds')}')"
            )
        )
    engine.dispose()
    with Database.open(empty_database_url) as database:
        (call,) = quota_ledger.list_calls(
            database, project_id="abc123xyz0", utc_day=date(2026, 11, 2)
        )
    assert (call.slot, call.business_id, call.reserved_at) == (1, "acme", NOW)


OLD_INDEXES = (
    "ix_clarity_raw_exports_date_business_id ON clarity_raw_exports (date, business_id)",
    *(
        f"ix_clarity_url_aggregates_with_{event} ON clarity_url_aggregates (date)"
        for event in ("rage_clicks", "dead_clicks", "quick_backs")
    ),
)


def test_roll_ups_of_old_days_are_made_as_those_of_today_are(
    database_url: str, vault: TokenVault
) -> None:
    """A database that has days, put back to the revision before windows had roll-ups."""
    made_by_migration = (schema.dimension_aggregates, schema.url_week_aggregates)

    def rows(database: Database) -> list[list[tuple[object, ...]]]:
        with database.reading() as connection:
            return [
                [
                    tuple(row)
                    for row in connection.execute(
                        select(*(c for c in table.c if c.name != "updated_at")).order_by(
                            *table.primary_key
                        )
                    )
                ]
                for table in made_by_migration
            ]

    with Database.open(database_url) as database:
        connect_business(database, vault)
        for day in (DAY - timedelta(days=7), DAY, DAY + timedelta(days=1)):
            slices = [
                make_slice(
                    database,
                    *(
                        Visits(values[: len(combo.dimensions)], sessions=3, rage=2, depth=depth)
                        for values, depth in (
                            (("https://a/", "ä", "y"), 40),
                            (("https://b/", "", "y"), None),
                            (("https://c/", "x" * 4000, "z"), 70),
                        )
                    ),
                    combo=combo,
                    day=day,
                )
                for combo in DEFAULT_COMBOS
            ]
            daily_metrics.replace_slices(database, slices, now=NOW)
            rebuild(database, day=day, now=NOW + (day - DAY))
        expected = rows(database)
        with database.transaction() as connection:
            for table in made_by_migration:
                table.drop(connection)
            for index in (
                "business_aggregates_of_a_business",
                "raw_exports_of_a_day",
                "sync_jobs_business_id_id",
            ):
                connection.execute(text(f"DROP INDEX ix_clarity_{index}"))
            for index in OLD_INDEXES:
                connection.execute(text(f"CREATE INDEX {index}"))
            connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '0004'"))
    assert all(expected)
    with Database.open(database_url) as database:
        assert rows(database) == expected
        rolled_up = rebuild_business_aggregates(database, day=DAY, now=NOW)
        assert rolled_up.unchanged == ("acme",)


def test_opening_without_migrating_refuses_a_database_without_tables(
    empty_database_url: str,
) -> None:
    with pytest.raises(SchemaMismatch, match="clarity init"):
        Database.open(empty_database_url, migrate=False)


def test_a_database_that_is_up_to_date_opens_without_alembic(sqlite_url: str) -> None:
    """Importing Alembic takes longer than everything else that opening does."""
    probe = OPEN_IN_A_PROCESS + "assert 'alembic' not in sys.modules\n"
    subprocess.run([sys.executable, "-W", "error", "-c", probe, sqlite_url], check=True)


def test_processes_that_start_together_migrate_once(empty_database_url: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN_IN_A_PROCESS, empty_database_url], stderr=subprocess.PIPE
        )
        for _ in range(6)
    ]
    complaints = [process.communicate()[1].decode() for process in processes]
    assert complaints == [""] * 6
    with Database.open(empty_database_url) as database, database.reading() as connection:
        rows = connection.execute(text(f"SELECT version_num FROM {schema.VERSION_TABLE}")).all()
        assert [row.version_num for row in rows] == [schema.SCHEMA_REVISION]


def test_a_newer_schema_is_refused_and_left_as_it_is(database_url: str) -> None:
    with Database.open(database_url) as database, database.transaction() as connection:
        connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(SchemaMismatch, match=r"9999.*update clarity-pipeline"):
        Database.open(database_url)


def test_tables_of_our_names_that_we_did_not_make_are_refused(database_url: str) -> None:
    with Database.open(database_url) as database, database.transaction() as connection:
        connection.execute(text(f"DROP TABLE {schema.VERSION_TABLE}"))
    with pytest.raises(SchemaMismatch, match=r"'ad_accounts'.*database of its own"):
        Database.open(database_url)


def test_foreign_tables_of_other_names_are_no_obstacle(empty_database_url: str) -> None:
    """Dagster may keep its tables, its own `alembic_version` among them, in the same database."""
    url = empty_database_url.replace("postgresql://", "postgresql+psycopg://")
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('dagster')"))
    engine.dispose()
    with Database.open(empty_database_url) as database, database.reading() as connection:
        version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        assert version == "dagster"
