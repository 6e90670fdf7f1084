"""Lands many days at once, as a year of schedules would have: the history that tests replay."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, time, timedelta

import zstandard
from sqlalchemy import insert

from clarity_pipeline.domain.dimensions import DEFAULT_COMBOS, DimensionCombo
from clarity_pipeline.domain.exports import verify
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import raw_exports
from clarity_pipeline_tests.domain.replies import Visits
from clarity_pipeline_tests.factories import make_export

_VALUES = ("https://shop.example/", "x", "y")


def fetched_at(day: date) -> datetime:
    """When the schedule fetches a day: 00:15 UTC of the day after."""
    return datetime.combine(day + timedelta(days=1), time(0, 15), tzinfo=UTC)


def land_days(
    database: Database,
    *,
    business_ids: Collection[str],
    days: Sequence[date],
    combos: Sequence[DimensionCombo] = DEFAULT_COMBOS,
    pages: int = 1,
) -> None:
    """An accepted reply of `pages` rows per business, day and combo, in one transaction."""
    rows: list[dict[str, object]] = []
    for combo in combos:
        width = len(combo.dimensions) - 1
        visits = [
            Visits((f"{_VALUES[0]}{page}", *_VALUES[1 : 1 + width]), sessions=page + 1, dead=page)
            for page in range(pages)
        ]
        template = make_export(*visits, combo=combo)
        summary = verify(template)
        shared: dict[str, object] = {
            "project_id": "project001",
            "dimension_set": combo.dimension_set,
            "dimensions": ",".join(dimension.value for dimension in combo.dimensions),
            "num_of_days": 1,
            "purpose": "schedule",
            "slot": 1,
            "http_status": 200,
            "body_zstd": zstandard.ZstdCompressor().compress(template.body),
            "body_bytes": len(template.body),
            "stored_bytes": 1,
            "sha256": template.sha256,
            "verdict": "accepted",
            "row_counts": dict(summary.row_counts),
            "truncated": summary.truncated,
            "unknown_blocks": [],
        }
        rows += [
            {
                **shared,
                "business_id": business_id,
                "date": day,
                "requested_at": fetched_at(day),
                "received_at": fetched_at(day),
                "window_start": fetched_at(day) - timedelta(days=1),
                "window_end": fetched_at(day),
            }
            for business_id in business_ids
            for day in days
        ]
    with database.transaction() as connection:
        connection.execute(insert(raw_exports), rows)
