"""`clarity demo` and `clarity dev` as a newcomer runs them, in an empty directory."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import pytest

from clarity_pipeline.demo.clients import CLIENTS, NEWCOMER, PROJECTS, Fate
from clarity_pipeline.demo.history import DAYS, Timeline
from clarity_pipeline.demo.home import MARKER, claimed, demo_directory, environment, make_anew
from clarity_pipeline.demo.outcome import look_at_outcome
from clarity_pipeline.domain.errors import ConfigurationError
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.settings import load_settings
from clarity_pipeline.store import sync_jobs
from clarity_pipeline.store.database import Database

CLARITY: Final = str(Path(sys.executable).with_name("clarity"))
READY_WITHIN_SECONDS: Final = 120


def clean_environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CLARITY_", "DAGSTER_"))
    }


class Descendants:
    """Every process that another one starts, noted while it runs."""

    def __init__(self, pid: int) -> None:
        self.seen: set[psutil.Process] = set()
        self._root = psutil.Process(pid)
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def left_behind(self) -> list[str]:
        """Those that still run, a moment after their ancestor has ended."""
        self._has_ended.set()
        self._thread.join()
        _, alive = psutil.wait_procs(self.seen, timeout=5)
        return [" ".join(process.cmdline()) for process in alive]

    def _watch(self) -> None:
        while not self._has_ended.wait(0.1):
            try:
                self.seen |= set(self._root.children(recursive=True))
            except psutil.NoSuchProcess:
                return


@dataclass(frozen=True)
class Played:
    """A demo that has run, in a directory where somebody already keeps data of their own."""

    directory: Path
    returncode: int
    out: str
    err: str
    left_behind: list[str]
    started_at: datetime
    own_database: bytes

    @property
    def home(self) -> Path:
        return self.directory / ".clarity" / "demo"

    @property
    def database(self) -> Database:
        return Database.open(f"sqlite:///{self.home / 'clarity.db'}")


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    directory = tmp_path_factory.mktemp("newcomer")
    own = directory / ".clarity" / "clarity.db"
    Database.open(f"sqlite:///{own}").close()
    before = own.read_bytes()
    started_at = datetime.now(UTC)
    process = subprocess.Popen(
        [CLARITY, "demo"],
        cwd=directory,
        # A configured database is nobody's business, least of all the demo's.
        env={**clean_environment(), "CLARITY_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    descendants = Descendants(process.pid)
    out, err = process.communicate(timeout=240)
    assert descendants.seen, "the emulator has a process of its own"
    return Played(
        directory=directory,
        returncode=process.returncode,
        out=out,
        err=err,
        left_behind=descendants.left_behind(),
        started_at=started_at,
        own_database=before,
    )


def test_the_demo_keeps_its_promises(played: Played) -> None:
    assert (played.returncode, played.err) == (0, "")
    assert re.search(r"All \d+ promises were kept", played.out)


def test_the_demo_leaves_no_process_behind(played: Played) -> None:
    assert played.left_behind == []


def test_the_demo_leaves_other_data_alone(played: Played) -> None:
    assert (played.directory / ".clarity" / "clarity.db").read_bytes() == played.own_database
    made = {path.name for path in (played.directory / ".clarity").iterdir()}
    assert made == {"clarity.db", "demo", "demo.lock"}


def test_the_demo_shows_each_client_and_its_fate(played: Played) -> None:
    for client in CLIENTS:
        [line] = [line for line in played.out.splitlines() if line.startswith(f"  {client.name}  ")]
        shown = {
            Fate.TOKEN_EXPIRED: "disabled auth",
            Fate.QUOTA_SPENT: "rate limited today",
        }.get(client.fate, "connected")
        assert shown in line
    assert played.out.count("8 of 10") == 2
    assert "6 of 7" in played.out
    assert "clarity_engagement_time_ms" in played.out
    assert str(played.home) in played.out


def test_the_demo_collected_every_day_of_the_week(played: Played) -> None:
    timeline = Timeline.ending_now(played.started_at)
    with played.database as database:
        for client in CLIENTS:
            jobs = sync_jobs.list_jobs(database, business_id=client.business_id)
            assert [job.day for job in reversed(jobs)] == list(timeline.days[-client.days_known :])
            good = {job.status for job in jobs[1:]}
            assert good == {JobStatus.SUCCEEDED}


def test_no_token_is_left_readable_by_the_demo(played: Played) -> None:
    midnight = Timeline.ending_now(played.started_at).midnight
    signatures = [client.token(midnight).split(".")[2][:40].encode() for client in CLIENTS]
    for path in played.home.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(signature in content for signature in signatures), path


def test_a_fate_that_did_not_come_true_is_named(played: Played) -> None:
    timeline = Timeline.ending_now(played.started_at)
    with played.database as database:
        outcome = look_at_outcome(database, timeline, runs=[], calls=[])
    broken = "\n".join(outcome.broken)
    assert "Casa Verde Living: authentication fails, and Clarity said 401" in broken
    assert "Pixelpress Prints: rate limited, and Clarity said 429" in broken
    assert "the ledger has booked exactly the calls" in broken
    # What the store alone shows still holds.
    assert f"{CLIENTS[0].name}: {DAYS} of {DAYS} days have data" not in broken


def test_the_demo_does_not_delete_what_it_has_not_made(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    directory.mkdir()
    (directory / "thesis.txt").write_text("three years of work")
    with pytest.raises(ConfigurationError, match="has not made"):
        make_anew(directory)
    assert (directory / "thesis.txt").read_text() == "three years of work"
    (directory / MARKER).write_text("")
    make_anew(directory)
    assert [path.name for path in directory.iterdir()] == [MARKER]


def test_a_demo_within_a_demo_is_the_same_demo(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CLARITY_HOME", str(tmp_path))
    directory = demo_directory(load_settings())
    make_anew(directory)
    assert directory == tmp_path / "demo"
    monkeypatch.setenv("CLARITY_HOME", str(directory))
    assert demo_directory(load_settings()) == directory


def test_two_demos_do_not_share_a_directory(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    with (
        claimed(directory),
        pytest.raises(ConfigurationError, match="end it first"),
        claimed(directory),
    ):
        raise AssertionError("it is claimed already")
    with claimed(directory):
        """Free again."""


def test_the_environment_is_put_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLARITY_SECRET_KEYS", "somebody's")
    before = dict(os.environ)
    with environment(tmp_path, api_url="http://127.0.0.1:1/v1") as settings:
        assert settings.secret_keys is None
        assert settings.dagster_home == tmp_path / "dagster"
    assert dict(os.environ) == before


def test_projects_of_the_demo_are_all_served() -> None:
    served = {project.project_id for project in PROJECTS}
    assert {client.project.project_id for client in (*CLIENTS, NEWCOMER)} == served


LAUNCH: Final = """
mutation($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}"""

STATUS: Final = "query($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"

REPOSITORIES: Final = """{
  repositoriesOrError {
    ... on RepositoryConnection {
      nodes { name location { name } schedules { name scheduleState { status } } }
    }
  }
}"""


@dataclass(frozen=True)
class ServedUi:
    ui_url: str
    setup_link: str
    emulator_url: str
    process: subprocess.Popen[str]
    descendants: Descendants

    def query(self, query: str, **variables: object) -> Mapping[str, Any]:
        request = urllib.request.Request(
            f"{self.ui_url}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer
        return answer["data"]

    def calls_of(self, project_id: str) -> int:
        with urllib.request.urlopen(f"{self.emulator_url}/control/calls", timeout=30) as response:
            return sum(call["project_id"] == project_id for call in json.load(response))


@contextmanager
def serving(directory: Path) -> Generator[ServedUi]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [CLARITY, "dev", "--port", str(port)],
        cwd=directory,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    descendants = Descendants(process.pid)
    try:
        assert process.stdout is not None
        printed = ""
        while "Ctrl-C ends" not in printed:
            line = process.stdout.readline()
            assert line, printed
            printed += line
        urls = re.findall(r"http://\S+", printed)
        assert len(urls) == 4
        yield ServedUi(urls[0], urls[1], urls[2], process, descendants)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)


def test_dev_serves_a_day_to_materialise_and_ends_without_a_trace(played: Played) -> None:
    with serving(played.directory) as ui:
        [repository] = ui.query(REPOSITORIES)["repositoriesOrError"]["nodes"]
        assert {
            each["name"]: each["scheduleState"]["status"] for each in repository["schedules"]
        } == {
            "clarity_history_schedule": "RUNNING",
            "clarity_retention_schedule": "RUNNING",
            "clarity_scheduler": "RUNNING",
        }
        config = {
            "ops": {
                "clarity_raw_exports": {"config": {"business_ids": [NEWCOMER.business_id]}},
            }
        }
        launched = ui.query(
            LAUNCH,
            params={
                "selector": {
                    "repositoryName": repository["name"],
                    "repositoryLocationName": repository["location"]["name"],
                    "pipelineName": "clarity_daily_sync",
                },
                "runConfigData": json.dumps(config),
                "mode": "default",
                "executionMetadata": {
                    "tags": [
                        {
                            "key": "dagster/partition",
                            "value": Timeline.ending_now(datetime.now(UTC)).days[-1].isoformat(),
                        }
                    ]
                },
            },
        )["launchPipelineExecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        status = ""
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while status not in {"SUCCESS", "FAILURE"} and time.monotonic() < deadline:
            time.sleep(0.5)
            status = ui.query(STATUS, run=launched["run"]["runId"])["runOrError"]["status"]
        assert status == "SUCCESS"
        assert ui.calls_of(NEWCOMER.project.project_id) == 4
    assert ui.process.returncode == 0
    assert len(ui.descendants.seen) >= 3, "webserver, daemon and code server"
    assert ui.descendants.left_behind() == []
    with played.database as database:
        [job] = sync_jobs.list_jobs(database, business_id=NEWCOMER.business_id)
    assert job.status is JobStatus.SUCCEEDED


def test_a_click_on_sync_now_in_the_panel_is_worked_on_by_the_daemon(played: Played) -> None:
    with serving(played.directory) as ui:
        address, code = ui.setup_link.split("/setup#")
        with httpx.Client(base_url=address, follow_redirects=True, timeout=60) as browser:
            password = "correct horse battery staple"
            form = {"code": code, "login": "ada", "password": password, "repeated": password}
            assert browser.post("/setup", data=form).url.path == "/agency"
            page = f"/agency/businesses/{NEWCOMER.business_id}/clarity"
            [token] = set(re.findall(r'name="form_token" value="(\w+)"', browser.get(page).text))
            assert "Sync requested" in browser.post(f"{page}/sync", data={"form_token": token}).text
            progress = ""
            deadline = time.monotonic() + READY_WITHIN_SECONDS
            while 'data-state="finished"' not in progress and time.monotonic() < deadline:
                time.sleep(0.5)
                progress = browser.get(f"{page}/progress", params={"following": "request 1"}).text
            assert 'data-state="finished"' in progress, progress
    with played.database as database:
        latest, *_ = sync_jobs.list_jobs(database, business_id=NEWCOMER.business_id)
    assert (latest.trigger, latest.status) == (Trigger.PANEL, JobStatus.SUCCEEDED)


def test_dev_ends_everything_when_dagster_dies(played: Played) -> None:
    with serving(played.directory) as ui:
        [dagster] = [
            child
            for child in psutil.Process(ui.process.pid).children()
            if "dagster_dg_cli" in " ".join(child.cmdline())
        ]
        dagster.kill()
        said, _ = ui.process.communicate(timeout=60)
    assert ui.process.returncode == 1
    assert "Error: Dagster ended by itself" in said
    assert ui.descendants.left_behind() == []
