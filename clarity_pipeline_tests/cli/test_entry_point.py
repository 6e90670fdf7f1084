"""The console script as the operating system runs it: start-up, pipes, signals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from clarity_pipeline.domain.sync_jobs import JobStatus
from clarity_pipeline.store import sync_jobs
from clarity_pipeline_tests.cli.conftest import Desk

CLARITY = (str(Path(sys.executable).with_name("clarity")),)

COMMANDS: tuple[list[str], ...] = (
    [],
    ["init"],
    ["business"],
    ["business", "add"],
    ["business", "list"],
    ["connect"],
    ["connect-many"],
    ["test"],
    ["enable"],
    ["disable"],
    ["overview"],
    ["disconnect"],
    ["status"],
    ["quota"],
    ["sync"],
    ["replay"],
    ["aggregates"],
    ["keys"],
    ["notices"],
    ["notices", "test"],
    ["notices", "send"],
    ["keys", "generate"],
    ["keys", "rotate"],
    ["panel"],
    ["user"],
    ["user", "add"],
    ["user", "list"],
    ["user", "revoke"],
    ["user", "password"],
    ["api-key"],
    ["api-key", "add"],
    ["api-key", "list"],
    ["api-key", "revoke"],
    ["audit"],
    ["rules"],
    *(
        ["rules", command]
        for command in ("apply", "diff", "export", "list", "show", "versions", "visible", "schema")
    ),
    *(["rules", command] for command in ("arm", "shadow", "off", "draft", "archive")),
    *(
        ["rules", command]
        for command in ("actions", "approve", "reject", "send", "pause-all", "unpause-all")
    ),
    ["purge"],
    ["emulator"],
    ["demo"],
    ["dev"],
)


def run(*arguments: str, directory: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLARITY, *arguments],
        cwd=directory,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def start(arguments: Sequence[str], directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*CLARITY, *arguments],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_help_loads_nothing_heavy() -> None:
    heavy = (
        "{'dagster', 'pandas', 'numpy', 'sqlalchemy', 'httpx', 'pydantic', 'uvicorn', 'apprise'}"
    )
    program = (
        "import sys; from clarity_pipeline.cli import main; code = main(['--help']);"
        f"sys.exit(code or sorted({heavy} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "connect" in done.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(desk: Desk, command: list[str]) -> None:
    ran = desk.succeed(*command, "--help")
    assert "Usage: clarity" in ran.out
    assert ran.err == ""


def test_no_option_takes_a_token(desk: Desk) -> None:
    out = desk.succeed("connect", "--help").out
    assert not re.search(r"--\S*token", out)


def test_no_option_takes_a_password(desk: Desk) -> None:
    for command in ("add", "password"):
        assert not re.search(r"--\S*password", desk.succeed("user", command, "--help").out)


def test_clarity_alone_explains_itself(desk: Desk) -> None:
    ran = desk.run()
    assert "Usage: clarity" in ran.out + ran.err


def test_a_reader_that_goes_away_is_no_error(desk: Desk) -> None:
    desk.connect("acme")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*CLARITY, "status", "--json"],
        cwd=desk.directory,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writing)
    assert done.stderr == ""


def test_it_works_from_any_directory_with_a_home_of_its_own(desk: Desk, tmp_path: Path) -> None:
    desk.monkeypatch.setenv("CLARITY_HOME", str(tmp_path / "home"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert run("init", directory=elsewhere).returncode == 0
    assert (tmp_path / "home" / "clarity.db").is_file()
    assert list(elsewhere.iterdir()) == []


def test_ctrl_c_stops_a_sync_and_settles_its_jobs(desk: Desk) -> None:
    desk.connect("acme")
    desk.emulator.control.set_latency(seconds=20)
    process = start(["sync"], desk.directory)
    with desk.open_database() as database:
        deadline = time.monotonic() + 60
        while not sync_jobs.list_jobs(database) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        [job] = sync_jobs.list_jobs(database)
    assert (process.returncode, out, err.strip()) == (130, "", "Stopped.")
    assert (job.status, job.error_code) == (JobStatus.FAILED, "interrupted")


def test_what_the_emulator_prints_is_all_one_needs(desk: Desk) -> None:
    process = start(["emulator", "--port", "0"], desk.directory)
    try:
        assert process.stdout is not None
        printed = ""
        while "clarity sync" not in printed:
            line = process.stdout.readline()
            assert line, process.communicate()
            printed += line
        url = re.search(r"CLARITY_API_URL=(\S+)", printed)
        assert url is not None
        desk.monkeypatch.setenv("CLARITY_API_URL", url[1])
        project = re.search(r"--project-id (\S+)", printed)
        assert project is not None
        token = printed.split(f"{project[1]}: ")[1].splitlines()[1]
        desk.succeed("init")
        desk.succeed("business", "add", "try-out")
        desk.succeed("connect", "try-out", "--project-id", project[1], stdin=token)
        desk.succeed("test", "try-out")
        [job] = desk.succeed("sync", "--json").document["jobs"]
        assert (job["status"], job["calls_used"]) == ("succeeded", 3)
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")


def test_the_emulator_serves_this_machine_only(desk: Desk) -> None:
    ran = desk.run("emulator", "--host", "0.0.0.0")
    assert ran.code == 2
    assert "this machine only" in ran.err
