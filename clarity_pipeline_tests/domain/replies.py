"""Builds replies of the Export API and landed exports for the tests of the domain."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from clarity_pipeline.domain.dimensions import (
    OVERVIEW,
    URL_DEVICE,
    Dimension,
    DimensionCombo,
)
from clarity_pipeline.domain.exports import Export, ExportRequest, LandedExport
from clarity_pipeline.domain.metrics import CLICK_BLOCK_COLUMNS

CAPTURED = Path(__file__).parent.parent / "captured_replies"

URL_ONLY = DimensionCombo((Dimension.URL,))
DEVICE_ONLY = DimensionCombo((Dimension.DEVICE,))
COUNTRY_ONLY = DimensionCombo((Dimension.COUNTRY,))

COMBO_OF_CAPTURED_REPLY: Mapping[str, DimensionCombo] = {
    "channel_source_TRAFFIC_ROWS.json": DimensionCombo((Dimension.CHANNEL, Dimension.SOURCE)),
    "country_3d_strings.json": COUNTRY_ONLY,
    "device_3d_mixed_types.json": DEVICE_ONLY,
    "device_3d_strings.json": DEVICE_ONLY,
    "no_dimension_3d_mixed_types.json": OVERVIEW,
    "no_dimension_3d_numbers.json": OVERVIEW,
    "no_dimension_3d_zero_traffic.json": OVERVIEW,
    "url_3d_strings.json": URL_ONLY,
    "url_device_PARTIAL_one_block.json": URL_DEVICE,
}

DAY = date(2026, 11, 1)
REQUESTED_AT = datetime(2026, 11, 2, 0, 15, tzinfo=UTC)

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Visits:
    """What a reply says about one tuple of dimension values."""

    values: tuple[Any, ...]
    sessions: Any = 1
    bots: Any = 0
    users: Any = 1
    pages_per_session: Any = 1
    depth: Any = None
    active_seconds: Any = None
    dead: Any = 0
    rage: Any = 0
    excessive: Any = 0
    quick_backs: Any = 0
    script_errors: Any = 0
    error_clicks: Any = 0
    only_bots: bool = False


def nine_blocks(
    visits: Sequence[Visits], *, combo: DimensionCombo = URL_DEVICE
) -> dict[str, list[dict[str, Any]]]:
    """The tuple blocks of a reply; tuples without human sessions are in Traffic alone."""
    keys = [dimension.row_key for dimension in combo.dimensions]
    human = [each for each in visits if not each.only_bots]

    def dimensions(each: Visits) -> dict[str, Any]:
        return dict(zip(keys, each.values, strict=True))

    events = dict(
        zip(
            CLICK_BLOCK_COLUMNS,
            ("dead", "excessive", "rage", "quick_backs", "script_errors", "error_clicks"),
            strict=True,
        )
    )
    blocks: dict[str, list[dict[str, Any]]] = {
        block: [
            {
                "sessionsCount": each.sessions,
                "sessionsWithMetricPercentage": 0,
                "sessionsWithoutMetricPercentage": 100,
                "pagesViews": 0,
                "subTotal": getattr(each, attribute),
            }
            | dimensions(each)
            for each in human
        ]
        for block, attribute in events.items()
    }
    blocks["ScrollDepth"] = [
        {"averageScrollDepth": each.depth} | dimensions(each) for each in human
    ]
    blocks["Traffic"] = [
        {
            "totalSessionCount": 0 if each.only_bots else each.sessions,
            "totalBotSessionCount": each.bots,
            "distinctUserCount": each.users,
            "pagesPerSessionPercentage": each.pages_per_session,
        }
        | dimensions(each)
        for each in visits
    ]
    blocks["EngagementTime"] = [
        {"totalTime": each.active_seconds, "activeTime": each.active_seconds} | dimensions(each)
        for each in human
    ]
    return blocks


def body(blocks: Mapping[str, Sequence[Row]]) -> bytes:
    """The reply with these blocks, in this order."""
    return json.dumps(
        [{"metricName": name, "information": list(rows)} for name, rows in blocks.items()]
    ).encode()


def reply(*visits: Visits, combo: DimensionCombo = URL_DEVICE) -> bytes:
    return body(nine_blocks(visits, combo=combo))


def export_of(reply_body: bytes, *, combo: DimensionCombo = URL_DEVICE) -> Export:
    return Export(
        request=ExportRequest(combo),
        http_status=200,
        requested_at=REQUESTED_AT,
        received_at=REQUESTED_AT,
        body=reply_body,
    )


def landed(reply_body: bytes, *, combo: DimensionCombo = URL_DEVICE) -> LandedExport:
    return LandedExport(
        id=7,
        business_id="acme",
        project_id="abc123",
        day=DAY,
        export=export_of(reply_body, combo=combo),
    )


def captured(name: str) -> LandedExport:
    return landed((CAPTURED / name).read_bytes(), combo=COMBO_OF_CAPTURED_REPLY[name])
