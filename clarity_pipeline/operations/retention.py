"""Removing what is older than the settings keep it, day by day, the oldest first.

Every batch is a short transaction of its own: SQLite has one writer, and PostgreSQL should not
hold locks for long. Whatever ends it in the middle, the next time goes on from there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from clarity_pipeline.domain.retention import (
    Kept,
    Removal,
    RetentionLimits,
    first_day_kept,
    removable_replies,
)
from clarity_pipeline.settings import Settings
from clarity_pipeline.store import exports, retention
from clarity_pipeline.store.database import Database

logger = logging.getLogger(__name__)

MOST_BODIES_PER_BATCH: Final = 100
"""Some ten megabytes of large replies."""


def limits_of(settings: Settings) -> RetentionLimits:
    """What the settings say."""
    return RetentionLimits(
        payload_days=settings.keep_payload_days,
        exports_days=settings.keep_exports_days,
        runs_days=settings.keep_runs_days,
    )


def remove_payloads(
    database: Database, limits: RetentionLimits, *, now: datetime, dry_run: bool = False
) -> Removal:
    """Empty `raw_payload` of rows that are too old; a batch is one business's day.

    What the rows count, and all that was built on them, stays. With `dry_run` nothing is written.
    """
    cutoff = first_day_kept(now=now, days=limits.payload_days)
    removal = Removal(Kept.PAYLOADS, cutoff)
    if cutoff is None:
        return removal
    work = retention.measure_payloads if dry_run else retention.empty_payloads
    for day in retention.days_with_slices(database, before=cutoff):
        for business_id, dimension_sets in retention.slices_with_payload(database, day).items():
            emptied = work(
                database, business_id=business_id, day=day, dimension_sets=dimension_sets
            )
            removal = removal.with_batch(
                day=day, rows=emptied.rows, stored_bytes=emptied.stored_bytes
            )
    logger.info("%s", removal.sentence(dry_run=dry_run))
    return removal


def remove_exports(
    database: Database, limits: RetentionLimits, *, now: datetime, dry_run: bool = False
) -> Removal:
    """Empty the bodies of landed replies that are too old and that nothing waits for.

    What they were asked, what they were judged to be and their sha256 stay; they can no longer be
    replayed. With `dry_run` nothing is written.
    """
    cutoff = first_day_kept(now=now, days=limits.exports_days)
    removal = Removal(Kept.EXPORTS, cutoff)
    if cutoff is None:
        return removal
    for day in retention.days_with_bodies(database, before=cutoff):
        replies = removable_replies(
            exports.list_exports(database, day=day),
            built_from_export=retention.exports_built_from(database, day),
        )
        for batch in _batches(replies):
            if not dry_run:
                retention.empty_bodies(database, [reply.id for reply in batch])
            removal = removal.with_batch(
                day=day,
                rows=len(batch),
                stored_bytes=sum(reply.stored_bytes for reply in batch),
            )
    logger.info("%s", removal.sentence(dry_run=dry_run))
    return removal


def _batches(replies: list[exports.JudgedExport]) -> Iterator[list[exports.JudgedExport]]:
    for start in range(0, len(replies), MOST_BODIES_PER_BATCH):
        yield replies[start : start + MOST_BODIES_PER_BATCH]
