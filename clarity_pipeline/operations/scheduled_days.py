"""Which days the schedule asks for: yesterday, and those before it that can still be recovered."""

from __future__ import annotations

from datetime import date, datetime

from clarity_pipeline.domain.recovery import recoverable_days
from clarity_pipeline.operations.collect_day import wanted_combos
from clarity_pipeline.operations.recover_day import has_missed_combos
from clarity_pipeline.store import connections
from clarity_pipeline.store.database import Database


def days_to_recover(database: Database, *, overview_default: bool, now: datetime) -> list[date]:
    """The days before yesterday of which an enabled business lacks something, oldest first."""
    records = connections.list_connections(database)
    return [
        day
        for day in recoverable_days(now)
        if has_missed_combos(
            database,
            day=day,
            wanted=wanted_combos(records, day=day, overview_default=overview_default),
            now=now,
        )
    ]
