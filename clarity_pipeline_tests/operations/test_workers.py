"""Whether a process lives is told by its host, its id and its start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator

import pytest

from clarity_pipeline.domain.interrupted_jobs import WorkerState
from clarity_pipeline.operations.workers import this_worker, worker_state

SAY_WHO = """
import sys
from clarity_pipeline.operations.workers import this_worker
print(this_worker(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other() -> Generator[tuple[subprocess.Popen[str], str]]:
    """Another process on this machine, and the name it has for itself."""
    with subprocess.Popen(
        [sys.executable, "-c", SAY_WHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
        process.kill()


def test_a_process_lives_until_it_is_killed(other: tuple[subprocess.Popen[str], str]) -> None:
    process, worker = other
    assert worker != this_worker()
    assert worker_state(worker) is WorkerState.ALIVE
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert worker_state(worker) is WorkerState.GONE


def test_a_killed_child_that_nobody_has_waited_for_is_gone(
    other: tuple[subprocess.Popen[str], str],
) -> None:
    process, worker = other
    process.send_signal(signal.SIGKILL)
    # Waits for its end and leaves it in the table of processes, as a zombie.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert worker_state(worker) is WorkerState.GONE
    assert process.returncode is None


def test_another_process_with_the_same_id_is_not_mistaken() -> None:
    host, pid, start = this_worker().split(":")
    assert worker_state(this_worker()) is WorkerState.ALIVE
    assert worker_state(f"{host}:{pid}:{start}9") is WorkerState.GONE
    # A system without /proc has told no start.
    assert worker_state(f"{host}:{pid}:") is WorkerState.ALIVE


def test_an_id_that_belongs_to_nobody_is_gone() -> None:
    host = this_worker().split(":")[0]
    assert worker_state(f"{host}:4194304999:") is WorkerState.GONE
    assert worker_state(f"{host}:{10**30}:") is WorkerState.GONE


def test_nothing_is_known_of_other_machines_and_of_jobs_without_a_worker() -> None:
    _, pid, start = this_worker().split(":")
    for worker in (None, "", "elsewhere", f"elsewhere:{pid}:{start}", this_worker().split(":")[0]):
        assert worker_state(worker) is WorkerState.UNKNOWN


def test_a_worker_fits_the_column() -> None:
    assert len(this_worker()) <= 300
