"""The one partitioning: partition `D` is the UTC day the data are about.

A run may be about a range of days. It works through them one at a time, so that a year takes no
more memory than a day.
"""

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any, Final

import dagster as dg

from clarity_pipeline.operations import day_ranges
from clarity_pipeline.operations.day_report import DayReport

FIRST_DAY: Final = date(2026, 1, 1)
"""No business was collected before; an earlier day would only be an empty square in the UI."""

days = dg.DailyPartitionsDefinition(start_date=FIRST_DAY.isoformat(), timezone="UTC")

ONE_RUN_FOR_A_RANGE: Final = dg.BackfillPolicy.single_run()
"""Of every asset alike, or Dagster would not put them into one run: a year is one run, not 366."""

MOST_LINES_OF_PROGRESS: Final = 20
"""In the log of a run, however long its range; failed days have lines of their own."""


def day_of(partition_key: str) -> date:
    """The day of a partition key."""
    return date.fromisoformat(partition_key)


def days_of(partition_keys: Sequence[str]) -> list[date]:
    """The days of a run, oldest first; a run of one partition has one."""
    return [day_of(key) for key in partition_keys]


@contextmanager
def accepting_interfaces_that_may_move() -> Generator[None]:
    """Definitions made inside use parts of Dagster 1.13 that it calls beta or preview.

    Without a backfill policy a year is 366 runs; without partitioned checks a replay of an old
    day would turn today's light green. Both are worse than an interface that may still move.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Parameter `backfill_policy`")
        warnings.filterwarnings("ignore", message="Specifying a partitions_def on an AssetCheck")
        yield


def work_through_days(
    context: dg.AssetExecutionContext, work: Callable[[date], DayReport]
) -> Iterator[dg.AssetMaterialization | dg.Output[None]]:
    """Do the work for each day of the run, and materialise those it was done for.

    Raises dg.Failure at the end when a day failed; the others are materialised all the same.
    """
    wanted = days_of(context.partition_keys)
    # A line is a row of the event log, which costs more than a day that has not changed.
    every = -(-len(wanted) // MOST_LINES_OF_PROGRESS)
    worked: list[day_ranges.WorkedDay] = []
    for done in day_ranges.work_through(wanted, work):
        worked.append(done)
        if done.error is not None or len(worked) % every == 0:
            context.log.info("day %d of %d, %s", len(worked), len(wanted), done.sentence)
    complaint = day_ranges.complaint(worked, wanted)
    if complaint is None:
        for done in worked:
            context.add_asset_metadata(_metadata(done), partition_key=done.day.isoformat())
        yield dg.Output(None)
        return
    for done in worked:
        if done.is_done:
            yield dg.AssetMaterialization(
                asset_key=context.asset_key,
                partition=done.day.isoformat(),
                metadata=_metadata(done),
            )
    shown = _metadata(worked[0]) if len(wanted) == 1 else {}
    raise dg.Failure(complaint, metadata=shown, allow_retries=False)


def _metadata(done: day_ranges.WorkedDay) -> dict[str, Any]:
    return done.report.metadata(dg.MetadataValue.md) if done.report else {}
