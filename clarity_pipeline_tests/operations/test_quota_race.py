"""Everybody asks for the same project's calls at once: Clarity sees ten and never an eleventh."""

from __future__ import annotations

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from pydantic import SecretStr

from clarity_pipeline.domain.collection import ComboStatus, PlannedCall
from clarity_pipeline.domain.dimensions import Dimension, DimensionCombo
from clarity_pipeline.domain.quota import Purpose
from clarity_pipeline.export_api.client import ExportApiClient
from clarity_pipeline.operations.guarded_call import GuardedCaller
from clarity_pipeline.store import connections
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.vault import TokenVault
from clarity_pipeline_tests.agency import DAY, Agency

PROCESSES = 3
THREADS_EACH = 20
COMBO = DimensionCombo((Dimension.BROWSER,))


def call_from_many_threads(
    url: str, key: str, base_url: str, project_id: str, now: datetime
) -> list[str]:
    """What one process does: THREADS_EACH callers that share nothing but the database."""
    call = PlannedCall("acme", project_id, DAY, COMBO, Purpose.TEST)

    def call_once(_: int) -> str:
        async def make() -> str:
            async with ExportApiClient(base_url=base_url) as client:
                caller = GuardedCaller(
                    database=database,
                    vault=TokenVault([SecretStr(key)]),
                    client=client,
                    clock=lambda: now,
                    overview_default=False,
                    retry_after_seconds=0,
                )
                return (await caller.make(call)).status.value

        return asyncio.run(make())

    with Database.open(url) as database, ThreadPoolExecutor(THREADS_EACH) as threads:
        return list(threads.map(call_once, range(THREADS_EACH)))


def test_sixty_callers_in_three_processes_make_ten_calls(agency: Agency, database_url: str) -> None:
    project = agency.connect("acme")
    # Paused, so that nothing is kept for the schedule and all ten are there to be fought over.
    connections.set_enabled(agency.database, business_id="acme", enabled=False, now=agency.now)
    key = Path(agency.settings.secret_key_file).read_text().strip()
    with ProcessPoolExecutor(
        PROCESSES, mp_context=multiprocessing.get_context("spawn")
    ) as processes:
        racing = [
            processes.submit(
                call_from_many_threads,
                database_url,
                key,
                agency.emulator.base_url,
                project.project_id,
                agency.now,
            )
            for _ in range(PROCESSES)
        ]
        outcomes = [outcome for future in racing for outcome in future.result()]

    calls = agency.calls("acme")
    assert [call.status for call in calls] == [200] * 10
    assert outcomes.count(ComboStatus.LANDED) == 10
    assert outcomes.count(ComboStatus.QUOTA_REFUSED) == PROCESSES * THREADS_EACH - 10
