"""An agency small enough to be killed many times, and what it looks like if nobody disturbs it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clarity_pipeline.export_api.emulator import EmulatorServer
from clarity_pipeline.orchestration.launch import open_instance
from clarity_pipeline.settings import Settings
from clarity_pipeline_tests.agency import Agency, agency, emulator_server, open_agency
from clarity_pipeline_tests.faults.invariants import Rows, content

if TYPE_CHECKING:
    from clarity_pipeline_tests.conftest import PostgresServer

__all__ = ["agency", "emulator_server"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Kills are about our processes: on SQLite every change is tried, on PostgreSQL with the rest
    that takes long."""
    for item in items:
        if item.path.name == "test_kills.py" and "postgresql" in item.name:
            item.add_marker(pytest.mark.long)


@pytest.fixture(scope="session")
def used_dagster_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Dagster home whose tables are there; making them takes longer than a small sync."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("DAGSTER_HOME", raising=False)
        settings = Settings(home=tmp_path_factory.mktemp("used"))
        with open_instance(settings) as instance:
            instance.get_runs(limit=1)
            instance.get_asset_keys()
        return settings.dagster_home


@pytest.fixture
def small_agency(agency: Agency, used_dagster_home: Path) -> Agency:
    """Two businesses with small sites, on either database, whose Dagster has run before."""
    return furnish(agency, used_dagster_home)


@pytest.fixture(scope="session")
def undisturbed(
    emulator_server: EmulatorServer,
    postgres_server: PostgresServer,
    migrated_postgresql: str,
    migrated_sqlite: Path,
    used_dagster_home: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Mapping[str, Mapping[str, Rows]]:
    """What a sync of the small agency leaves behind if nothing happens to it, by database."""
    directory = tmp_path_factory.mktemp("undisturbed")
    shutil.copyfile(migrated_sqlite, directory / "clarity.db")
    urls = {
        "sqlite": f"sqlite:///{directory / 'clarity.db'}",
        "postgresql": postgres_server.url(postgres_server.create(template=migrated_postgresql)),
    }
    return {
        dialect: _content_of_a_quiet_day(
            url, emulator_server, directory / dialect, used_dagster_home
        )
        for dialect, url in urls.items()
    }


def furnish(agency: Agency, used_dagster_home: Path) -> Agency:
    """Connect the businesses of a small agency."""
    shutil.copytree(used_dagster_home, agency.settings.dagster_home, dirs_exist_ok=True)
    agency.connect("acme", sessions_per_day=25, pages=8)
    agency.connect("bistro", sessions_per_day=12, pages=4)
    return agency


def _content_of_a_quiet_day(
    url: str, emulator: EmulatorServer, home: Path, used_dagster_home: Path
) -> Mapping[str, Rows]:
    with (
        pytest.MonkeyPatch.context() as environment,
        open_agency(
            database_url=url, emulator=emulator, home=home, environment=environment
        ) as opened,
    ):
        quiet = furnish(opened, used_dagster_home)
        run = quiet.sync()
        assert run.succeeded, run.error
        return content(quiet.database)
