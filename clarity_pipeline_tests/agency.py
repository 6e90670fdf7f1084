"""An agency for tests: real store, real Dagster instance, real HTTP client, emulated Clarity."""

from __future__ import annotations

import os
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from clarity_pipeline.definitions import build_defs
from clarity_pipeline.domain.days import day_collected_at
from clarity_pipeline.domain.sync_jobs import Trigger
from clarity_pipeline.export_api.emulator import (
    EmulatedProject,
    EmulatorServer,
    ReceivedCall,
    emulator_token,
)
from clarity_pipeline.operations import connecting
from clarity_pipeline.orchestration.launch import (
    FinishedRun,
    prepare_dagster_home,
    run_daily_sync,
)
from clarity_pipeline.orchestration.resources import ClockResource, ExportApiResource
from clarity_pipeline.settings import Settings, load_settings
from clarity_pipeline.store import businesses, sync_jobs
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.sync_jobs import SyncJob
from clarity_pipeline.store.vault import TokenVault, create_key_file, open_vault

ON_TIME = datetime(2026, 11, 2, 0, 15, tzinfo=UTC)
DAY = date(2026, 11, 1)


@dataclass
class Agency:
    """Businesses, their emulated projects, and the pipeline that syncs them."""

    database: Database
    vault: TokenVault
    emulator: EmulatorServer
    settings: Settings
    now: datetime = ON_TIME
    projects: dict[str, EmulatedProject] = field(
        default_factory=lambda: dict[str, EmulatedProject]()
    )

    def connect(self, business_id: str, **project: Any) -> EmulatedProject:
        """Add a business with an emulated project of its own, or one it shares by `project_id`."""
        number = len(self.projects) + 1
        defaults: dict[str, Any] = {"project_id": f"project{number:03d}", "seed": number}
        emulated = EmulatedProject(**(defaults | project))
        self.emulator.control.put_projects([emulated])
        self.projects[business_id] = emulated
        businesses.add_business(
            self.database, business_id=business_id, name=business_id, now=self.now
        )
        connecting.connect(
            self.database,
            self.vault,
            business_id=business_id,
            project_id=emulated.project_id,
            token=self.token(business_id),
            now=self.now,
        )
        return emulated

    def token(self, business_id: str) -> str:
        return emulator_token(self.projects[business_id].project_id)

    def move_to(self, now: datetime) -> None:
        """Set the clock of the pipeline and of Clarity."""
        self.now = now
        self.emulator.control.set_clock(now)

    def definitions(self) -> dg.Definitions:
        return build_defs(
            clock=ClockResource(fixed_at=self.now.isoformat()),
            export_api=ExportApiResource(retry_after_seconds=0),
        )

    def sync(
        self,
        day: date | None = None,
        *,
        business_ids: Collection[str] = (),
        trigger: Trigger = Trigger.SCHEDULE,
    ) -> FinishedRun:
        """Run the daily job, for yesterday unless told otherwise."""
        return run_daily_sync(
            self.definitions(),
            dagster_home=self.settings.dagster_home,
            day=day or day_collected_at(self.now),
            business_ids=business_ids,
            trigger=trigger,
        )

    def requested_runs(self) -> Sequence[dg.RunRequest]:
        """Evaluate the sensor of sync requests as the daemon does; the runs that it asks for."""
        definitions = self.definitions()
        with (
            self.instance() as instance,
            dg.build_sensor_context(
                instance=instance,
                repository_def=definitions.get_repository_def(),
                resources=definitions.resources,
            ) as context,
        ):
            sensor = definitions.resolve_sensor_def("clarity_sync_request_sensor")
            return sensor.evaluate_tick(context).run_requests or ()

    def execute(self, wanted: dg.RunRequest) -> str:
        """Launch a run that a sensor has asked for and wait for it; returns its id."""
        with self.instance() as instance:
            result = (
                self.definitions()
                .resolve_job_def("clarity_daily_sync")
                .execute_in_process(
                    instance=instance,
                    partition_key=wanted.partition_key,
                    run_config={
                        **wanted.run_config,
                        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                    },
                    tags=dict(wanted.tags),
                    raise_on_error=False,
                )
            )
        return result.run_id

    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(str(self.settings.dagster_home))

    def calls(self, business_id: str | None = None) -> list[ReceivedCall]:
        """The calls Clarity received, of one business's project or of all."""
        calls = self.emulator.control.calls()
        if business_id is None:
            return calls
        return [c for c in calls if c.project_id == self.projects[business_id].project_id]

    def latest_job(self, business_id: str) -> SyncJob:
        return sync_jobs.latest_jobs(self.database, business_ids=[business_id])[business_id]


@pytest.fixture(scope="session")
def emulator_server() -> Generator[EmulatorServer]:
    with EmulatorServer() as server:
        yield server


@contextmanager
def open_agency(
    *, database_url: str, emulator: EmulatorServer, home: Path, environment: pytest.MonkeyPatch
) -> Generator[Agency]:
    """An agency without businesses, at 00:15 UTC of the day after DAY.

    `environment` is given its settings, which the child processes of a test read too.
    """
    for name in [name for name in os.environ if name.startswith(("CLARITY_", "DAGSTER_"))]:
        environment.delenv(name)
    environment.setenv("CLARITY_HOME", str(home))
    environment.setenv("CLARITY_DATABASE_URL", database_url)
    environment.setenv("CLARITY_API_URL", emulator.base_url)
    emulator.control.reset()
    settings = load_settings()
    create_key_file(settings.secret_key_file)
    prepare_dagster_home(settings)
    with Database.open(settings.database_url_or_default) as database:
        built = Agency(database, open_vault(settings), emulator, settings)
        built.move_to(ON_TIME)
        yield built


@pytest.fixture
def agency(
    database_url: str,
    emulator_server: EmulatorServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Generator[Agency]:
    """An agency without businesses, at 00:15 UTC of the day after DAY, on either database."""
    with open_agency(
        database_url=database_url,
        emulator=emulator_server,
        home=tmp_path / "home",
        environment=monkeypatch,
    ) as opened:
        yield opened


def days_later(count: int) -> datetime:
    """00:15 UTC, that many days after ON_TIME."""
    return ON_TIME + timedelta(days=count)
