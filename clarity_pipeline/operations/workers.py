"""Which process works on something, and whether it still lives."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from clarity_pipeline.domain.interrupted_jobs import WorkerState

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE: Final = Path("/proc/self/ns/pid")
_MOST_HOST_CHARACTERS: Final = 200


def this_worker() -> str:
    """This process as `host:pid:start`, which no other process ever has.

    The start tells apart processes that were given the same id; it is empty on systems without
    /proc.
    """
    return f"{_host()}:{os.getpid()}:{_start_of(os.getpid()) or ''}"


def worker_state(worker: str | None) -> WorkerState:
    """Whether a process named by `this_worker` lives; unknown for one on another machine."""
    host, _, rest = (worker or "").partition(":")
    pid, _, start = rest.partition(":")
    # Windows would end the process instead of asking after it.
    if host != _host() or not pid.isdecimal() or os.name != "posix":
        return WorkerState.UNKNOWN
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return WorkerState.GONE
    except PermissionError:
        pass
    found = _start_of(int(pid))
    if found is None or (start and found and found != start):
        return WorkerState.GONE
    return WorkerState.ALIVE


def _host() -> str:
    """This machine, as far as process ids reach: containers may share a host name, not these."""
    namespace = ""
    with suppress(OSError):
        namespace = f"/{_PID_NAMESPACE.readlink()}".translate({ord(":"): None})
    name = socket.gethostname().replace(":", "-")
    return name[:_MOST_HOST_CHARACTERS] + namespace


def _start_of(pid: int) -> str | None:
    """When a process that exists was started; empty where /proc does not say, None when it has
    ended and its parent has merely not noticed yet."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        boot = _BOOT_ID.read_text().strip()
    except OSError:
        return ""
    # The command's name stands in parentheses and may contain anything, parentheses too.
    state, *fields = status.rpartition(")")[2].split()
    return None if state in {"Z", "X"} else f"{boot}/{fields[18]}"
