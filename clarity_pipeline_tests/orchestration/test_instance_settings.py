"""The two dagster.yaml: what Dagster makes of them, and that they differ in storage alone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
import yaml
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage
from dagster_postgres.event_log import PostgresEventLogStorage

from clarity_pipeline.domain.retention import RetentionLimits
from clarity_pipeline.orchestration.launch import (
    POSTGRESQL_INSTANCE,
    SQLITE_INSTANCE,
    HomeState,
    open_instance,
    prepare_dagster_home,
)
from clarity_pipeline.orchestration.raw_exports import CLARITY_API_POOL
from clarity_pipeline.orchestration.run_history import remove_runs
from clarity_pipeline.settings import Settings, load_settings
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import SCHEMA_REVISION
from clarity_pipeline_tests.agency import DAY, Agency
from clarity_pipeline_tests.conftest import dagster_postgres_url


@pytest.fixture
def on_sqlite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    for name in ("DAGSTER_HOME", "DAGSTER_POSTGRES_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLARITY_HOME", str(tmp_path / "home"))
    return load_settings()


@pytest.fixture
def on_postgresql(
    on_sqlite: Settings, empty_postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", dagster_postgres_url(empty_postgresql_url))
    return load_settings()


@pytest.fixture(params=["on_sqlite", "on_postgresql"])
def settings(request: pytest.FixtureRequest) -> Settings:
    return request.getfixturevalue(request.param)


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def test_the_variants_differ_in_storage_alone() -> None:
    sqlite, postgresql = read(SQLITE_INSTANCE), read(POSTGRESQL_INSTANCE)
    assert "storage" not in sqlite
    assert postgresql.pop("storage") == {
        "postgres": {"postgres_url": {"env": "DAGSTER_POSTGRES_URL"}}
    }
    assert postgresql == sqlite


def test_the_variable_chooses_the_variant(settings: Settings) -> None:
    home = prepare_dagster_home(settings)
    assert home.state is HomeState.MADE
    wanted = POSTGRESQL_INSTANCE if settings.dagster_on_postgresql else SQLITE_INSTANCE
    assert (home.directory / "dagster.yaml").read_bytes() == wanted.read_bytes()
    assert prepare_dagster_home(settings).state is HomeState.UP_TO_DATE


def test_settings_that_are_there_are_kept_and_it_is_said(
    on_sqlite: Settings, on_postgresql: Settings
) -> None:
    prepare_dagster_home(on_sqlite)
    home = prepare_dagster_home(on_postgresql)
    assert (home.state, home.wanted) == (HomeState.DIFFERS, POSTGRESQL_INSTANCE)
    assert (home.directory / "dagster.yaml").read_bytes() == SQLITE_INSTANCE.read_bytes()


def test_dagster_understands_every_setting(settings: Settings) -> None:
    with open_instance(settings) as instance:
        storage = (
            PostgresEventLogStorage if settings.dagster_on_postgresql else SqliteEventLogStorage
        )
        assert isinstance(instance.event_log_storage, storage)
        kept = {
            kind: {
                status.value: kept_days
                for status, kept_days in instance.get_tick_retention_settings(kind).items()
            }
            for kind in InstigatorType
        }
        often = {"SKIPPED": 7, "FAILURE": 30, "SUCCESS": 90, "STARTED": -1}
        assert kept == {
            InstigatorType.SCHEDULE: dict.fromkeys(often, 90),
            InstigatorType.SENSOR: often,
            InstigatorType.AUTO_MATERIALIZE: often,
        }
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        assert not instance.run_retries_enabled
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_max_resume_run_attempts == 0
        queue = instance.get_concurrency_config().run_queue_config
        pools = instance.get_concurrency_config().pool_config
        assert queue is not None
        assert queue.max_concurrent_runs == 4
        assert queue.tag_concurrency_limits == [
            {
                "key": "dagster/partition",
                "value": {"applyLimitPerUniqueValue": True},
                "limit": 1,
            }
        ]
        assert pools.default_pool_limit == 1
        assert str(pools.pool_granularity) == "PoolGranularity.RUN"


def test_a_day_is_synced_with_everything_in_one_postgresql_database(
    agency: Agency, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster's tables and ours live side by side; the versions of both stay apart."""
    monkeypatch.setenv("CLARITY_DATABASE_URL", postgresql_url)
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", dagster_postgres_url(postgresql_url))
    settings = load_settings()
    home = settings.dagster_home / "dagster.yaml"
    home.unlink()
    prepare_dagster_home(settings)
    with Database.open(postgresql_url) as database:
        agency.database = database
        agency.settings = settings
        agency.connect("acme")
        run = agency.sync()
        assert run.succeeded, run.error
        assert agency.latest_job("acme").calls_used == 4
        with agency.instance() as instance:
            run_of_day = instance.get_run_by_id(run.run_id)
            assert run_of_day is not None
            # The queue goes by this to let one run at a time spend quota.
            assert run_of_day.run_op_concurrency is not None
            assert CLARITY_API_POOL in (run_of_day.run_op_concurrency.all_pools or ())
            key = dg.AssetKey("clarity_daily_metrics")
            assert instance.get_materialized_partitions(key) == {DAY.isoformat()}
            removal = remove_runs(
                instance, RetentionLimits(runs_days=90), now=datetime.now(UTC).replace(year=2100)
            )
            assert removal.rows == 1
            assert instance.get_materialized_partitions(key) == {DAY.isoformat()}
    with psycopg.connect(postgresql_url) as connection:
        versions = {
            table: connection.execute(f"SELECT version_num FROM {table}").fetchall()
            for table in ("alembic_version", "clarity_schema_version")
        }
    assert versions["alembic_version"]
    assert versions["clarity_schema_version"] == [(SCHEMA_REVISION,)]
    Database.open(postgresql_url).close()
    with open_instance(settings) as instance:
        assert instance.get_runs_count() == 0
