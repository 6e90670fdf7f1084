"""Lets many threads do something at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def all_at_once(
    action: Callable[[Argument], Result], arguments: Sequence[Argument]
) -> list[Result]:
    """Call `action` with each argument, in as many threads, which start together.

    Raises what the first of them raised.
    """
    together = threading.Barrier(len(arguments))

    def start(argument: Argument) -> Result:
        together.wait()
        return action(argument)

    with ThreadPoolExecutor(len(arguments)) as threads:
        return list(threads.map(start, arguments))
