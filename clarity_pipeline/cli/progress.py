"""Showing how a day's collection comes along, fed from the store and not from the run itself.

The store is what stands after a crash, and the same display serves every way to start a run.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Final

from clarity_pipeline.cli.output import console
from clarity_pipeline.domain.errors import StoreError

if TYPE_CHECKING:
    from clarity_pipeline.store.connections import ConnectionRecord
    from clarity_pipeline.store.database import Database

LOOK_EVERY_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class ExpectedCalls:
    """The (business, dimension set) pairs that a run has to fetch, and where they are booked."""

    pairs: frozenset[tuple[str, str]]
    project_ids: frozenset[str]
    utc_day: date
    since: datetime

    def settled(self, database: Database) -> int:
        """How many of them have been answered, one way or the other."""
        from clarity_pipeline.store.quota_ledger import list_calls

        answered = {
            (call.business_id, call.dimension_set)
            for project_id in self.project_ids
            for call in list_calls(database, project_id=project_id, utc_day=self.utc_day)
            if call.outcome is not None and call.reserved_at >= self.since
        }
        return len(answered & self.pairs)


def expected_calls(
    database: Database,
    records: Collection[ConnectionRecord],
    *,
    day: date,
    now: datetime,
    overview_default: bool,
) -> ExpectedCalls:
    """What a run of this day started now would fetch; nothing when Clarity no longer answers."""
    from clarity_pipeline.domain.days import is_collectable
    from clarity_pipeline.domain.dimensions import combos_of_a_day
    from clarity_pipeline.domain.quota import utc_day_of
    from clarity_pipeline.operations.collect_day import should_have, wants_overview
    from clarity_pipeline.store.exports import list_exports

    pairs: set[tuple[str, str]] = set()
    if is_collectable(day, now=now):
        wanted = {
            (record.business_id, combo.dimension_set)
            for record in records
            if should_have(record, day)
            for combo in combos_of_a_day(overview=wants_overview(record, overview_default))
        }
        ids = [record.business_id for record in records]
        landed = list_exports(database, day=day, business_ids=ids)
        pairs = wanted - {
            (reply.business_id, reply.dimension_set) for reply in landed if reply.num_of_days == 1
        }
    return ExpectedCalls(
        pairs=frozenset(pairs),
        project_ids=frozenset(record.project_id for record in records if record.project_id),
        utc_day=utc_day_of(now),
        since=now,
    )


@contextmanager
def shown_progress(database: Database, expected: ExpectedCalls, *, label: str) -> Generator[None]:
    """A progress bar on standard error while the block runs; nothing unless that is a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    screen = console(stderr=True)
    if not screen.is_terminal:
        yield
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=screen, transient=True) as bar:
        total = len(expected.pairs)
        task = bar.add_task(f"{label}: calls", total=total)
        has_ended = threading.Event()

        def watch() -> None:
            while not has_ended.wait(LOOK_EVERY_SECONDS):
                with suppress(StoreError):
                    settled = expected.settled(database)
                    doing = "calls" if settled < total else "normalising and rolling up"
                    bar.update(task, completed=settled, description=f"{label}: {doing}")

        watcher = threading.Thread(target=watch, name="clarity-progress", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            has_ended.set()
            watcher.join()
