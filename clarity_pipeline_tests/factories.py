"""Makes tokens, exports, slices and connected businesses for tests of every layer."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from clarity_pipeline.domain.connections import TOKEN_AUDIENCE, parse_token
from clarity_pipeline.domain.dimensions import URL_DEVICE, DimensionCombo
from clarity_pipeline.domain.exports import Export, ExportRequest, Verdict, verify
from clarity_pipeline.domain.normalise import NormalisedSlice, normalise_export
from clarity_pipeline.domain.quota import Purpose
from clarity_pipeline.store import businesses, connections, exports
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.vault import TokenVault
from clarity_pipeline_tests.domain.replies import Visits, reply

NOW = datetime(2026, 11, 2, 0, 15, tzinfo=UTC)
"""The instant of most tests: just after midnight, so that yesterday is DAY."""

DAY = date(2026, 11, 1)


def make_token(
    *, project_id: str = "abc123xyz0", expires_at: datetime | None = None, **claims: Any
) -> str:
    """An unsigned JWT in the form of a Clarity token; another project gives another token."""

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    payload: dict[str, Any] = {
        "iss": "clarity",
        "aud": TOKEN_AUDIENCE,
        "sub": str(int.from_bytes(project_id.encode()) % 10**16),
        "scope": "Data.Export",
    }
    if expires_at is not None:
        payload["exp"] = int(expires_at.timestamp())
    header = {"alg": "RS256", "typ": "JWT"}
    return ".".join((part(header), part(payload | claims), part(f"signature of {project_id}")))


def connect_business(
    database: Database,
    vault: TokenVault,
    *,
    business_id: str = "acme",
    project_id: str = "abc123xyz0",
    token: str | None = None,
    now: datetime = NOW,
) -> None:
    """Add a business, unless it is there, and connect it."""
    known = {business.id for business in businesses.list_businesses(database)}
    if business_id not in known:
        businesses.add_business(
            database, business_id=business_id, name=business_id.title(), now=now
        )
    connections.save_connection(
        database,
        vault,
        business_id=business_id,
        project_id=project_id,
        token=parse_token(token or make_token(project_id=project_id), now=now),
        now=now,
    )


def make_export(
    *visits: Visits,
    combo: DimensionCombo = URL_DEVICE,
    num_of_days: int = 1,
    requested_at: datetime = NOW,
    http_status: int = 200,
    body: bytes | None = None,
) -> Export:
    """A reply that says this of these tuples, or one with this body."""
    return Export(
        request=ExportRequest(combo, num_of_days),
        http_status=http_status,
        requested_at=requested_at,
        received_at=requested_at + timedelta(seconds=1),
        body=reply(*visits, combo=combo) if body is None else body,
    )


def land_export(
    database: Database,
    export: Export,
    *,
    business_id: str = "acme",
    project_id: str = "abc123xyz0",
    day: date = DAY,
    slot: int = 1,
    judged: bool = True,
) -> int:
    """Land an export as the schedule does and, unless told otherwise, accept it."""
    export_id = exports.land(
        database,
        business_id=business_id,
        project_id=project_id,
        day=day,
        purpose=Purpose.SCHEDULE,
        slot=slot,
        export=export,
    )
    if judged:
        exports.judge(
            database,
            export_id=export_id,
            verdict=Verdict.ACCEPTED,
            summary=verify(export),
            detail=None,
        )
    return export_id


def make_slice(
    database: Database,
    *visits: Visits,
    combo: DimensionCombo = URL_DEVICE,
    business_id: str = "acme",
    day: date = DAY,
) -> NormalisedSlice:
    """A normalised slice whose reply has been landed for a business that is there."""
    export_id = land_export(
        database, make_export(*visits, combo=combo), business_id=business_id, day=day
    )
    normalised = normalise_export(exports.read_export(database, export_id))
    return replace(normalised, raw_export_id=export_id)
