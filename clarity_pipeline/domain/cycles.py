"""Work that makes many containers and no cycle, spared the search for cycles."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def no_cyclic_garbage_collection() -> Generator[None]:
    """Parsing makes tens of thousands of containers per reply; looking for cycles in all of them,
    and in everything else that the process holds, takes 13% of it.

    Of several threads that are in here at once, the one that found it on switches it on again.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
