"""Calling a function of ours in a second process: one interpreter uses no more than one core.

Not with a pool of `concurrent.futures`: its processes import the main module of this one, which
may be all of Dagster, and they stay behind when this one is killed.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, ParamSpec, TypeVar

from clarity_pipeline.domain.cycles import no_cyclic_garbage_collection

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@contextmanager
def called_beside(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Generator[Callable[[], Result]]:
    """Call a function of a module in a new process; what is yielded waits for what it returns.

    Function, arguments and result go through pipes as pickles: a secret among them is on no
    command line. Waiting raises ChildProcessError where that process ended without returning,
    whatever the function raised. A process that still works at the end of the block is killed;
    where this process is killed, the other one ends with its function.
    """
    with subprocess.Popen(  # noqa: S603 - this interpreter and a module of ours
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # A Ctrl-C is for this process, which then ends the other one.
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        with suppress(BrokenPipeError), process.stdin as told:
            told.write(pickle.dumps((function, args, kwargs)))
        try:
            yield lambda: _result(process)
        finally:
            process.kill()


def _result(process: subprocess.Popen[bytes]) -> Any:
    assert process.stdout is not None
    returned = process.stdout.read()
    if process.wait() != 0:
        raise ChildProcessError(f"The second process ended with exit code {process.returncode}.")
    return pickle.loads(returned)  # noqa: S301 - from a process of ours


def _call() -> None:
    """What the second process does. Nothing but the result may get into its standard output."""
    # It ends with its one call, before cycles could add up.
    with no_cyclic_garbage_collection():
        function, args, kwargs = pickle.load(sys.stdin.buffer)  # noqa: S301 - from a process of ours
        with redirect_stdout(sys.stderr):
            result = function(*args, **kwargs)
        sys.stdout.buffer.write(pickle.dumps(result))
        sys.stdout.buffer.flush()
        # Whoever called would wait until all modules were taken down, a fifth of a second.
        os._exit(0)


if __name__ == "__main__":
    _call()
