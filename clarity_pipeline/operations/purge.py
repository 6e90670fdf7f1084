"""Deleting the history of a business that was disconnected: a separate choice, and a final one.

Every batch is a short transaction of its own, and a day is one batch: nobody ever reads half a
day. Whatever ends it in the middle, the next time goes on from there.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from clarity_pipeline.store import purge as store
from clarity_pipeline.store.database import Database

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PurgePreview:
    """What a purge would delete: rows by table, and the first and last day they are of."""

    business_id: str
    rows: Mapping[str, int]
    first_day: date | None
    last_day: date | None

    @property
    def total(self) -> int:
        return sum(self.rows.values())


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge has deleted: rows by table, and how many days they were of."""

    business_id: str
    rows: Mapping[str, int]
    days: int

    @property
    def total(self) -> int:
        return sum(self.rows.values())


def purge_preview(database: Database, business_id: str) -> PurgePreview:
    """What there is of a business's history; writes nothing. Raises UnknownBusiness."""
    held = store.held_rows(database, business_id)
    return PurgePreview(
        business_id=business_id,
        rows={table: each.rows for table, each in held.items()},
        first_day=min((e.first_day for e in held.values() if e.first_day), default=None),
        last_day=max((e.last_day for e in held.values() if e.last_day), default=None),
    )


def check_can_purge(database: Database, business_id: str) -> None:
    """What `purge` checks too. Raises UnknownBusiness, or PurgeRefused."""
    store.check_can_purge(database, business_id)


def purge(database: Database, business_id: str) -> Purged:
    """Delete all that was collected of a business, oldest day first, then its requests and jobs.

    What rules decided on it goes with it, and so do the actions that they called for: one that has
    not been sent yet never is. What stays is the business, its settings, its ads, the quota ledger,
    which proves what was spent, and the audit log. It is refused before every batch, so that
    connecting the business ends it. Raises UnknownBusiness, or PurgeRefused.
    """
    store.check_can_purge(database, business_id)
    rows: Counter[str] = Counter()
    days = store.days_held(database, business_id)
    for day in days:
        rows.update(store.delete_day(database, business_id=business_id, day=day))
    for table in store.TABLES_OF_WORK:
        while deleted := store.delete_work(database, business_id=business_id, table=table):
            rows[table.name] += deleted
    logger.warning("business %s: purged, %d rows of %d days", business_id, rows.total(), len(days))
    return Purged(business_id=business_id, rows=dict(rows), days=len(days))
