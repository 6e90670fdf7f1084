"""The moments of a daily sync at which something terrible may happen.

A moment is named by a function of the pipeline: just before it is called, or just after it has
returned. Nothing of the pipeline is replaced: the function does what it always does, and the
terrible thing happens beside it.
"""

from __future__ import annotations

import pkgutil
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

STORE: Final = "clarity_pipeline.store"
REBUILD: Final = "clarity_pipeline.operations.rebuild_day"


@dataclass(frozen=True, slots=True)
class Moment:
    """Before or after the `arrival`th call of a function, `module:name`."""

    side: Literal["before", "after"]
    function: str
    arrival: int = 1

    def at(self, arrival: int) -> Moment:
        return replace(self, arrival=arrival)


def before(function: str, *, arrival: int = 1) -> Moment:
    return Moment("before", function, arrival)


def after(function: str, *, arrival: int = 1) -> Moment:
    return Moment("after", function, arrival)


MOMENTS: Final[dict[str, Moment]] = {
    "after the jobs are opened": after(f"{STORE}.sync_jobs:start_jobs"),
    "before a slot is reserved": before(f"{STORE}.quota_ledger:reserve", arrival=3),
    "after a slot is reserved": after(f"{STORE}.quota_ledger:reserve", arrival=3),
    "between reply and landing": before(f"{STORE}.exports:land", arrival=3),
    "while a reply is landed": after(f"{STORE}.exports:insert", arrival=3),
    "between landing and judging": after(f"{STORE}.exports:land", arrival=3),
    "between judging and settling the slot": after(f"{STORE}.exports:judge", arrival=3),
    "after a slot is settled": after(f"{STORE}.quota_ledger:settle", arrival=3),
    "before the jobs are settled": before(f"{STORE}.sync_jobs:settle_job"),
    "between the settling of two jobs": after(f"{STORE}.sync_jobs:settle_job"),
    "before the upsert commits": after(f"{STORE}.daily_metrics:replace_rows", arrival=2),
    "between the metrics of two businesses": after(f"{STORE}.daily_metrics:replace_slices"),
    "between metrics and aggregates": before(f"{REBUILD}:rebuild_business_aggregates"),
    "between the two aggregates": before(f"{REBUILD}:rebuild_url_aggregates"),
    "while pages are rolled up": after(f"{STORE}.aggregates:replace_rows", arrival=2),
}
"""What both databases have in common; see `rows_being_written` for the middle of the upsert."""


def rows_being_written(dialect: str) -> Moment:
    """In the middle of the upsert: two slices of a business are with the database, two are not."""
    writer = "_sqlite_rows" if dialect == "sqlite" else "copy_text"
    return before(f"{STORE}.bulk:{writer}", arrival=3)


@contextmanager
def interrupted(moment: Moment, interruption: Callable[[], object]) -> Generator[list[int]]:
    """While the block runs, let `interruption` happen once, at that moment.

    The list that the block gets has an entry as soon as the moment has come; a test whose moment
    never came has tested nothing.
    """
    module_name, _, name = moment.function.partition(":")
    module = pkgutil.resolve_name(module_name)
    original: Callable[..., Any] = getattr(module, name)
    arrivals = 0
    counting = threading.Lock()
    came: list[int] = []

    def arrive() -> None:
        nonlocal arrivals
        with counting:
            arrivals += 1
            is_the_moment = arrivals == moment.arrival
        if is_the_moment:
            came.append(arrivals)
            interruption()

    def before_it(*args: Any, **kwargs: Any) -> Any:
        arrive()
        return original(*args, **kwargs)

    def after_it(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        arrive()
        return result

    setattr(module, name, before_it if moment.side == "before" else after_it)
    try:
        yield came
    finally:
        setattr(module, name, original)
