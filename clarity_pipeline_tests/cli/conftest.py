"""A directory to work in, an emulated Clarity, and the `clarity` command as a person runs it."""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from clarity_pipeline.cli import main
from clarity_pipeline.domain.days import day_collected_at
from clarity_pipeline.export_api.emulator import EmulatedProject, EmulatorServer, emulator_token
from clarity_pipeline.settings import load_settings
from clarity_pipeline.store.database import Database
from clarity_pipeline_tests.agency import emulator_server

__all__ = ["emulator_server"]


@dataclass(frozen=True)
class Ran:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """The error as `--json` prints it."""
        [line] = self.err.splitlines()
        return json.loads(line)["error"]


@dataclass
class Desk:
    """Where somebody sits who runs `clarity`; `printed` is all they have seen so far."""

    directory: Path
    emulator: EmulatorServer
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    printed: str = ""

    def run(self, *arguments: str, stdin: str = "") -> Ran:
        self.monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        self.capsys.readouterr()
        code = main(arguments)
        seen = self.capsys.readouterr()
        self.printed += seen.out + seen.err
        return Ran(code, seen.out, seen.err)

    def succeed(self, *arguments: str, stdin: str = "") -> Ran:
        ran = self.run(*arguments, stdin=stdin)
        assert ran.code == 0, ran.err
        return ran

    def add_project(self, project_id: str, **settings: Any) -> EmulatedProject:
        """A small site, unless the settings say otherwise."""
        wanted: dict[str, Any] = {"seed": len(project_id), "sessions_per_day": 20} | settings
        project = EmulatedProject(project_id, **wanted)
        self.emulator.control.put_projects([project])
        return project

    def connect(self, business_id: str, project_id: str = "shopsmall2", **settings: Any) -> str:
        """Set everything up for a business, with the commands themselves; returns the token."""
        self.add_project(project_id, **settings)
        self.succeed("init")
        self.succeed("business", "add", business_id)
        token = emulator_token(project_id)
        self.succeed("connect", business_id, "--project-id", project_id, stdin=token)
        return token

    def open_database(self) -> Database:
        return Database.open(load_settings().database_url_or_default)

    @property
    def yesterday(self) -> date:
        return day_collected_at(datetime.now(UTC))

    def day(self, back: int) -> str:
        """So many days before yesterday."""
        return (self.yesterday - timedelta(days=back)).isoformat()


@pytest.fixture
def desk(
    emulator_server: EmulatorServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Desk:
    """An empty directory, an emulator in its first state, and no variable but its address."""
    for name in [name for name in os.environ if name.startswith(("CLARITY_", "DAGSTER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CLARITY_API_URL", emulator_server.base_url)
    monkeypatch.chdir(tmp_path)
    emulator_server.control.reset()
    return Desk(tmp_path, emulator_server, capsys, monkeypatch)
