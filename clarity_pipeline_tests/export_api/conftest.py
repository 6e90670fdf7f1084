"""One emulator for all tests of this folder, as new for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from clarity_pipeline.export_api.emulator import EmulatedProject, EmulatorServer

NOW = datetime(2026, 11, 20, 0, 15, tzinfo=UTC)
PROJECT = EmulatedProject("shoptest1", seed=11, sessions_per_day=40, pages=12)


@pytest.fixture(scope="session")
def running_server() -> Iterator[EmulatorServer]:
    with EmulatorServer() as server:
        yield server


@pytest.fixture
def server(running_server: EmulatorServer) -> EmulatorServer:
    """Serves PROJECT, with the clock standing at NOW."""
    running_server.control.reset()
    running_server.control.put_projects([PROJECT])
    running_server.control.set_clock(NOW)
    return running_server
