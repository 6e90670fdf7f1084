"""The vocabulary: blocks and fields of a reply, and the columns they are stored in.

FACTS sections 2 and 12 give the names. Those of Microsoft's page differ from real replies, so
names are compared without spaces and case, and the page's two Traffic spellings are aliases.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

TRUNCATION_ROWS: Final = 1000
"""A block with exactly this many rows was cut: 1,000 is the cap per block, there is no flag and
no paging (FACTS section 9)."""

CLICK_BLOCK_COLUMNS: Final[Mapping[str, str]] = {
    "DeadClickCount": "dead_clicks",
    "ExcessiveScroll": "excessive_scroll",
    "RageClickCount": "rage_clicks",
    "QuickbackClick": "quick_backs",
    "ScriptErrorCount": "script_errors",
    "ErrorClickCount": "error_clicks",
}
"""Block of the reply -> column that holds its number of events (`subTotal`)."""

TUPLE_BLOCKS: Final[tuple[str, ...]] = (
    *CLICK_BLOCK_COLUMNS,
    "ScrollDepth",
    "Traffic",
    "EngagementTime",
)
"""The nine blocks of every reply, in the API's order; the only ones when dimensions are sent."""

BREAKDOWN_BLOCKS: Final[tuple[str, ...]] = (
    "Browser",
    "Device",
    "OS",
    "Country",
    "PageTitle",
    "ReferrerUrl",
    "PopularPages",
)
"""Seven more blocks, top ten each, in replies without dimensions only."""

CLICK_FIELDS: Final[tuple[str, ...]] = (
    "sessionsCount",
    "sessionsWithMetricPercentage",
    "sessionsWithoutMetricPercentage",
    "pagesViews",
    "subTotal",
)

BLOCK_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(CLICK_BLOCK_COLUMNS, CLICK_FIELDS),
    "ScrollDepth": ("averageScrollDepth",),
    "Traffic": (
        "totalSessionCount",
        "totalBotSessionCount",
        "distinctUserCount",
        "pagesPerSessionPercentage",
    ),
    "EngagementTime": ("totalTime", "activeTime"),
    **dict.fromkeys(BREAKDOWN_BLOCKS[:-1], ("name", "sessionsCount")),
    "PopularPages": ("url", "visitsCount"),
}
"""Fields of a row per block, in the API's order; dimension keys follow them."""

COUNT_COLUMNS: Final[tuple[str, ...]] = (
    "sessions",
    "bot_sessions",
    "distinct_users",
    "engagement_time_ms",
    "dead_clicks",
    "rage_clicks",
    "excessive_scroll",
    "quick_backs",
    "script_errors",
    "error_clicks",
)
"""Stored as integers, never as floats; NULL where the reply said nothing."""

RATIO_COLUMNS: Final[tuple[str, ...]] = ("pages_per_session", "scroll_depth")
"""Stored as floats: page views per session, and percent of page height (0-100)."""

METRIC_COLUMNS: Final[tuple[str, ...]] = (
    "sessions",
    "bot_sessions",
    "distinct_users",
    "pages_per_session",
    "scroll_depth",
    "engagement_time_ms",
    "dead_clicks",
    "rage_clicks",
    "excessive_scroll",
    "quick_backs",
    "script_errors",
    "error_clicks",
)
"""All metric columns of `clarity_daily_metrics`, in table order."""

AGGREGATE_METRICS: Final[tuple[str, ...]] = (
    "clarity_sessions",
    "clarity_rage_clicks",
    "clarity_dead_clicks",
    "clarity_excessive_scroll",
    "clarity_quick_backs",
    "clarity_rage_click_rate",
    "clarity_dead_click_rate",
    "clarity_quick_back_rate",
    "clarity_scroll_depth",
    "clarity_engagement_time_ms",
)
"""The ten values rules are written on. Rates are events per session, depth is percent of page
height, engagement is milliseconds of active time per session."""

_CANONICAL_BLOCK: Final[Mapping[str, str]] = {
    name.lower(): name for name in (*TUPLE_BLOCKS, *BREAKDOWN_BLOCKS)
} | {"country/region": "Country"}

_FIELD_ALIASES: Final[Mapping[str, str]] = {
    "distantusercount": "distinctUserCount",
}

_CANONICAL_FIELD: Final[Mapping[str, str]] = {
    field.lower(): field for fields in BLOCK_FIELDS.values() for field in fields
} | dict(_FIELD_ALIASES)


def canonical_block_name(name: str) -> str | None:
    """The block by its real name for any documented spelling; None for a block we do not know."""
    return _CANONICAL_BLOCK.get("".join(name.split()).lower())


def canonical_field_name(name: str) -> str | None:
    """The field by its real name for any documented spelling; None for one we do not know."""
    return _CANONICAL_FIELD.get("".join(name.split()).lower())
