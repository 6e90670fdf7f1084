"""Playing the agency's last week: every day is collected at 00:15 UTC of the day after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from clarity_pipeline.definitions import build_defs
from clarity_pipeline.demo.clients import CLIENTS, Client, Fate
from clarity_pipeline.domain.quota import DAILY_CALL_LIMIT
from clarity_pipeline.domain.sync_jobs import Trigger
from clarity_pipeline.export_api.emulator import EmulatorServer
from clarity_pipeline.operations.connecting import connect
from clarity_pipeline.orchestration.launch import (
    FinishedRun,
    prepare_dagster_home,
    run_daily_sync,
)
from clarity_pipeline.orchestration.resources import ClockResource, ExportApiResource
from clarity_pipeline.settings import Settings
from clarity_pipeline.store.businesses import add_business
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.vault import TokenVault, create_key_file, open_vault

DAYS: Final = 7
AFTER_MIDNIGHT: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Timeline:
    """The days of the demo; all instants UTC. `midnight` is that of the day it is played on."""

    midnight: datetime

    @classmethod
    def ending_now(cls, now: datetime) -> Timeline:
        return cls(datetime.combine(now.astimezone(UTC).date(), time.min, tzinfo=UTC))

    @property
    def days(self) -> tuple[date, ...]:
        """The week that is collected, yesterday last."""
        today = self.midnight.date()
        return tuple(today - timedelta(days=back) for back in range(DAYS, 0, -1))

    def connected_at(self, client: Client) -> datetime:
        """When the client was connected: just before its first day was collected."""
        return self.midnight - timedelta(days=client.days_known - 1) + AFTER_MIDNIGHT / 3

    @property
    def last_collected_at(self) -> datetime:
        return self.collected_at(self.days[-1])

    def collected_at(self, day: date) -> datetime:
        return datetime.combine(day + timedelta(days=1), time.min, tzinfo=UTC) + AFTER_MIDNIGHT


@dataclass(frozen=True, slots=True)
class PlayedDay:
    """A day about to be collected, or that has been."""

    day: date
    number: int
    collected_at: datetime


Watch = Callable[[Database, PlayedDay], AbstractContextManager[None]]
"""What is put around the collection of each day, to show how it comes along."""


def set_up(settings: Settings) -> TokenVault:
    """The key file, and a Dagster home that the user interface can be opened on."""
    create_key_file(settings.secret_key_file)
    prepare_dagster_home(settings)
    return open_vault(settings)


def connect_client(
    database: Database, vault: TokenVault, client: Client, *, midnight: datetime, now: datetime
) -> None:
    """Add a client and connect it, as a person would with two commands."""
    add_business(database, business_id=client.business_id, name=client.name, now=now)
    connect(
        database,
        vault,
        business_id=client.business_id,
        project_id=client.project.project_id,
        token=client.token(midnight),
        now=now,
    )


def play_week(
    settings: Settings,
    database: Database,
    server: EmulatorServer,
    timeline: Timeline,
    *,
    watch: Watch,
) -> Sequence[FinishedRun]:
    """Connect the clients and run the Dagster job for each day, at its time."""
    vault = set_up(settings)
    for client in CLIENTS:
        connect_client(
            database,
            vault,
            client,
            midnight=timeline.midnight,
            now=timeline.connected_at(client),
        )
    spend_quotas(server, timeline.midnight.date())
    runs: list[FinishedRun] = []
    for number, day in enumerate(timeline.days, start=1):
        collected_at = timeline.collected_at(day)
        server.control.set_clock(collected_at)
        with watch(database, PlayedDay(day, number, collected_at)):
            runs.append(_collect(settings, day, collected_at))
    return runs


def spend_quotas(server: EmulatorServer, utc_day: date) -> None:
    """Have another tool use up the day's calls of those whose fate it is."""
    for client in CLIENTS:
        if client.fate is Fate.QUOTA_SPENT:
            server.control.set_quota_used(
                client.project.project_id, used=DAILY_CALL_LIMIT, day=utc_day
            )


def _collect(settings: Settings, day: date, collected_at: datetime) -> FinishedRun:
    return run_daily_sync(
        build_defs(
            clock=ClockResource(fixed_at=collected_at.isoformat()),
            export_api=ExportApiResource(retry_after_seconds=0.1),
        ),
        dagster_home=settings.dagster_home,
        day=day,
        business_ids=(),
        trigger=Trigger.SCHEDULE,
    )
