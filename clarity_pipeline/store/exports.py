"""Landed replies: every byte Clarity sent, committed before anything parses it.

Rows are only ever added; judging one fills in what the reply turned out to be, and retention may
empty its body.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import zstandard
from sqlalchemy import Row, func, insert, select, update

from clarity_pipeline.domain.dimensions import Dimension, DimensionCombo
from clarity_pipeline.domain.errors import ExportCorrupt, ExportRemoved
from clarity_pipeline.domain.exports import (
    Export,
    ExportRequest,
    LandedExport,
    ReplySummary,
    Verdict,
)
from clarity_pipeline.domain.quota import Purpose
from clarity_pipeline.store.businesses import of_a_known_business
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import raw_exports

COMPRESSION_LEVEL: Final = 3
"""A 1,000-row reply shrinks about twentyfold in a millisecond; higher levels gain little."""


@dataclass(frozen=True, slots=True)
class JudgedExport:
    """A landed reply without its body. `verdict` and what follows from it are None until judged."""

    id: int
    business_id: str
    day: date
    dimension_set: str
    num_of_days: int
    verdict: Verdict | None
    detail: str | None
    window_start: datetime
    window_end: datetime
    sha256: str
    truncated: bool | None
    row_counts: Mapping[str, int] | None
    unknown_blocks: tuple[str, ...]
    body_bytes: int
    stored_bytes: int
    purpose: Purpose
    requested_at: datetime

    @property
    def has_body(self) -> bool:
        """Whether retention has left the body: no stored frame is empty."""
        return self.stored_bytes > 0


def land(
    database: Database,
    *,
    business_id: str,
    project_id: str,
    day: date,
    purpose: Purpose,
    slot: int,
    export: Export,
) -> int:
    """Keep a reply as it came; returns its id once it is committed. Raises UnknownBusiness."""
    body = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compress(export.body)
    combo = export.request.combo
    values = {
        "business_id": business_id,
        "project_id": project_id,
        "date": day,
        "dimension_set": combo.dimension_set,
        "dimensions": ",".join(dimension.value for dimension in combo.dimensions),
        "num_of_days": export.request.num_of_days,
        "purpose": purpose.value,
        "slot": slot,
        "http_status": export.http_status,
        "requested_at": export.requested_at,
        "received_at": export.received_at,
        "window_start": export.window_start,
        "window_end": export.window_end,
        "body_zstd": body,
        "body_bytes": len(export.body),
        "stored_bytes": len(body),
        "sha256": export.sha256,
    }
    with of_a_known_business(business_id), database.transaction() as connection:
        result = connection.execute(insert(raw_exports).values(values))
        assert result.inserted_primary_key is not None
        return result.inserted_primary_key[0]


def judge(
    database: Database,
    *,
    export_id: int,
    verdict: Verdict,
    summary: ReplySummary | None,
    detail: str | None,
) -> None:
    """Write down what a landed reply turned out to be; a later judgement replaces an earlier."""
    values = {
        "verdict": verdict.value,
        "verdict_detail": detail,
        "row_counts": dict(summary.row_counts) if summary else None,
        "truncated": summary.truncated if summary else None,
        "unknown_blocks": list(summary.unknown_blocks) if summary else None,
    }
    with database.transaction() as connection:
        connection.execute(update(raw_exports).where(raw_exports.c.id == export_id).values(values))


def list_exports(
    database: Database, *, day: date, business_ids: Collection[str] | None = None
) -> list[JudgedExport]:
    """The replies landed for a day, oldest first; no bodies are read."""
    columns = [column for column in raw_exports.c if column.name not in {"body_zstd"}]
    statement = select(*columns).where(raw_exports.c.date == day).order_by(raw_exports.c.id)
    if business_ids is not None:
        statement = statement.where(raw_exports.c.business_id.in_(set(business_ids)))
    with database.reading() as connection:
        return [_judged(row) for row in connection.execute(statement)]


def landed_combos(
    database: Database, *, day: date, business_ids: Collection[str] | None = None
) -> dict[str, int]:
    """How many combos of a day have a reply that stands for them (domain.collection), by business.

    Of all businesses, or those named; one without any is left out.
    """
    column = raw_exports.c
    statement = (
        select(column.business_id, func.count(column.dimension_set.distinct()))
        .where(
            column.date == day,
            column.verdict == Verdict.ACCEPTED.value,
            column.num_of_days == 1,
        )
        .group_by(column.business_id)
    )
    if business_ids is not None:
        statement = statement.where(column.business_id.in_(set(business_ids)))
    with database.reading() as connection:
        return {row[0]: row[1] for row in connection.execute(statement).all()}


def read_export(database: Database, export_id: int) -> LandedExport:
    """A reply with its body.

    Raises ExportRemoved when the body is no longer kept, and ExportCorrupt when it is no longer
    what was landed.
    """
    with database.reading() as connection:
        row = connection.execute(select(raw_exports).where(raw_exports.c.id == export_id)).first()
    if row is None:
        raise ExportCorrupt(f"There is no landed export {export_id} in the database.")
    if not row.stored_bytes:
        raise ExportRemoved(
            f"The body of landed export {row.id} of business {row.business_id!r} for {row.date} "
            f"({row.dimension_set or 'overview'}) was removed by retention, so it cannot be "
            "replayed; what was built from it stays as it is."
        )
    request = ExportRequest(
        combo=DimensionCombo(tuple(Dimension(name) for name in row.dimensions.split(",") if name)),
        num_of_days=row.num_of_days,
    )
    body = _unpacked(row)
    if body is None:
        raise _corrupt(row)
    export = Export(
        request=request,
        http_status=row.http_status,
        requested_at=row.requested_at,
        received_at=row.received_at,
        body=body,
    )
    if export.sha256 != row.sha256:
        raise _corrupt(row)
    return LandedExport(
        id=row.id,
        business_id=row.business_id,
        project_id=row.project_id,
        day=row.date,
        export=export,
    )


def _unpacked(row: Row[Any]) -> bytes | None:
    # A damaged header may promise any size, and memory would be set aside for all of it.
    with suppress(zstandard.ZstdError):
        if zstandard.frame_content_size(row.body_zstd) == row.body_bytes:
            return zstandard.ZstdDecompressor().decompress(row.body_zstd)
    return None


def _corrupt(row: Row[Any]) -> ExportCorrupt:
    return ExportCorrupt(
        f"Landed export {row.id} of business {row.business_id!r} for {row.date} "
        f"({row.dimension_set or 'overview'}) no longer matches its sha256; restore it from a "
        "backup of the database."
    )


def _judged(row: Row[Any]) -> JudgedExport:
    return JudgedExport(
        id=row.id,
        business_id=row.business_id,
        day=row.date,
        dimension_set=row.dimension_set,
        num_of_days=row.num_of_days,
        verdict=Verdict(row.verdict) if row.verdict else None,
        detail=row.verdict_detail,
        window_start=row.window_start,
        window_end=row.window_end,
        sha256=row.sha256,
        truncated=row.truncated,
        row_counts=row.row_counts,
        unknown_blocks=tuple(row.unknown_blocks or ()),
        body_bytes=row.body_bytes,
        stored_bytes=row.stored_bytes,
        purpose=Purpose(row.purpose),
        requested_at=row.requested_at,
    )
