"""`clarity demo` without the display: make the directory anew, play the week, look at it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from clarity_pipeline.demo.clients import PROJECTS
from clarity_pipeline.demo.history import Timeline, Watch, play_week
from clarity_pipeline.demo.home import (
    claimed,
    demo_directory,
    environment,
    make_anew,
    mark_complete,
)
from clarity_pipeline.demo.outcome import DemoOutcome, look_at_outcome
from clarity_pipeline.export_api.emulator import EmulatorServer
from clarity_pipeline.settings import load_settings
from clarity_pipeline.store.database import Database


@dataclass(frozen=True, slots=True)
class PlayedDemo:
    """What came of it, and the directory in which it stays to be looked at."""

    directory: Path
    outcome: DemoOutcome


def play_demo(*, now: datetime, watch: Watch) -> PlayedDemo:
    """Play the demo in its own directory. Raises ConfigurationError when that is not possible."""
    directory = demo_directory(load_settings())
    with claimed(directory):
        return play_into(directory, now=now, watch=watch)


def play_into(directory: Path, *, now: datetime, watch: Watch) -> PlayedDemo:
    """Play the demo in a directory that is already claimed."""
    make_anew(directory)
    timeline = Timeline.ending_now(now)
    with (
        EmulatorServer(PROJECTS, separate_process=True) as server,
        environment(directory, api_url=server.base_url) as settings,
        Database.open(settings.database_url_or_default) as database,
    ):
        runs = play_week(settings, database, server, timeline, watch=watch)
        outcome = look_at_outcome(database, timeline, runs=runs, calls=server.control.calls())
    mark_complete(directory)
    return PlayedDemo(directory, outcome)
