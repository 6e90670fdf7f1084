"""A function called in a second process: what it returns, and how that process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from clarity_pipeline.operations.second_process import called_beside

A_MOMENT = 10.0
PASSWORD = "a password of the database"


def greeting(name: str, *, of: str) -> tuple[str, int]:
    sys.stdout.write("what libraries print is not what is returned")
    return f"{name} of {of}", os.getpid()


def say_when_started(file: Path, seconds: float) -> None:
    file.write_text(str(os.getpid()))
    time.sleep(seconds)


def raise_an_error() -> None:
    raise ValueError(PASSWORD)


def return_something_that_cannot_be_sent() -> object:
    return lambda: None


def wait_for_the_process_in(file: Path) -> psutil.Process:
    until = time.monotonic() + A_MOMENT
    while time.monotonic() < until:
        if file.exists() and file.read_text():
            return psutil.Process(int(file.read_text()))
        time.sleep(0.02)
    raise TimeoutError


def test_what_the_function_returns_comes_back_from_another_process() -> None:
    with called_beside(greeting, "acme", of="globex") as returned:
        words, pid = returned()
    assert words == "acme of globex"
    assert pid != os.getpid()
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("function", [raise_an_error, return_something_that_cannot_be_sent])
def test_a_process_that_does_not_return_says_no_more_than_that(
    function: Callable[[], object], capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        called_beside(function) as returned,
        pytest.raises(ChildProcessError, match=r"^The second process ended with exit code 1\.$"),
    ):
        returned()
    assert capfd.readouterr() == ("", "")


def test_a_killed_process_does_not_return(tmp_path: Path) -> None:
    with called_beside(say_when_started, tmp_path / "pid", 60) as returned:
        wait_for_the_process_in(tmp_path / "pid").kill()
        with pytest.raises(ChildProcessError, match="exit code -9"):
            returned()


def test_leaving_the_block_early_leaves_no_process(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    with suppress(KeyboardInterrupt), called_beside(say_when_started, file, 60):
        wait_for_the_process_in(file)
        raise KeyboardInterrupt
    assert not psutil.pid_exists(int(file.read_text()))


def test_what_the_function_is_told_is_on_no_command_line(tmp_path: Path) -> None:
    secret = tmp_path / PASSWORD
    with called_beside(say_when_started, secret, 60):
        other = wait_for_the_process_in(secret)
        assert PASSWORD not in " ".join(other.cmdline())
        assert PASSWORD not in " ".join(other.environ().values())


def test_a_process_whose_caller_is_killed_ends_with_its_function(tmp_path: Path) -> None:
    caller = f"""
from pathlib import Path
from clarity_pipeline.operations.second_process import called_beside
from clarity_pipeline_tests.operations.test_second_process import say_when_started
with called_beside(say_when_started, Path({str(tmp_path / "pid")!r}), 1.0) as returned:
    returned()
"""
    with subprocess.Popen([sys.executable, "-c", caller]) as process:
        other = wait_for_the_process_in(tmp_path / "pid")
        process.send_signal(signal.SIGKILL)
    other.wait(A_MOMENT)
    assert not other.is_running()
