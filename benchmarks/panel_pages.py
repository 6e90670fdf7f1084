"""How long the panel's questions to the store take, in milliseconds, on a store of panel_store.

python benchmarks/panel_pages.py sqlite:////tmp/panel.db
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from datetime import timedelta

from panel_store import BUSY, StoreSize, business_id
from rich.console import Console
from rich.table import Table

from clarity_pipeline.domain.agency_overview import OverviewSort
from clarity_pipeline.domain.days import due_at
from clarity_pipeline.domain.insight import BreakdownBy, PageEvent, PageRanking, latest_window
from clarity_pipeline.operations.agency_overview import agency_overview
from clarity_pipeline.operations.insight import (
    breakdown,
    business_series,
    day_calendar,
    past_syncs,
    worst_pages,
)
from clarity_pipeline.store.database import Database

NOW = due_at(StoreSize().last_day) + timedelta(hours=2)


def questions(database: Database) -> dict[str, Callable[[], object]]:
    """Every question at its dearest: the longest window, the busy business, every sort."""
    quarter, month = latest_window(NOW, length=90), latest_window(NOW, length=30)
    year = latest_window(NOW, length=365)
    usual = business_id(500)
    found: dict[str, Callable[[], object]] = {
        "business_series, 90 days": lambda: business_series(
            database, usual, window=quarter, now=NOW, recovery=False
        ),
        "day_calendar, 90 days": lambda: day_calendar(
            database, usual, window=quarter, now=NOW, recovery=False
        ),
        "day_calendar, 365 days": lambda: day_calendar(
            database, usual, window=year, now=NOW, recovery=False
        ),
        "past_syncs": lambda: past_syncs(database, usual),
    }
    for label, business, window in (
        ("50 pages, 30 days", usual, month),
        ("900 pages, 30 days", BUSY, month),
        ("900 pages, 90 days", BUSY, quarter),
    ):
        for ranking in PageRanking:
            found[f"worst_pages by {ranking}, {label}"] = (
                lambda business=business, window=window, ranking=ranking: worst_pages(
                    database, business, window=window, by=PageEvent.RAGE, ranking=ranking, now=NOW
                )
            )
    for label, business, window in (
        ("60 rows, 90 days", business_id(5), quarter),
        ("1,000 rows, 30 days", BUSY, month),
        ("1,000 rows, 90 days", BUSY, quarter),
    ):
        for by in (BreakdownBy.DEVICE, BreakdownBy.CAMPAIGN):
            found[f"breakdown by {by}, {label}"] = lambda business=business, window=window, by=by: (
                breakdown(database, business, window=window, by=by, now=NOW)
            )
    for sort in OverviewSort:
        found[f"agency_overview by {sort}"] = lambda sort=sort: agency_overview(
            database, now=NOW, overview_default=False, sort=sort
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--calls", type=int, default=30)
    arguments = parser.parse_args()
    table = Table("question", "min ms", "median ms", "p95 ms")
    with Database.open(arguments.url) as database:
        for label, ask in questions(database).items():
            ask()
            times: list[float] = []
            for _ in range(arguments.calls):
                began = time.perf_counter()
                ask()
                times.append((time.perf_counter() - began) * 1000)
            p95 = statistics.quantiles(times, n=20)[-1]
            table.add_row(
                label, f"{min(times):.1f}", f"{statistics.median(times):.1f}", f"{p95:.1f}"
            )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
