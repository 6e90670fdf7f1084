"""Roll-ups of days and pages as the pipeline would have stored them, of the business "acme"."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from clarity_pipeline.domain.aggregates import BusinessDay, DailySums, UrlDay
from clarity_pipeline.store import aggregates
from clarity_pipeline.store.database import Database
from clarity_pipeline_tests.factories import NOW

SUMS: Mapping[str, Any] = {
    "sessions": 10,
    "rage_clicks": 5,
    "rage_click_sessions": 10,
    "dead_clicks": None,
    "dead_click_sessions": 0,
    "excessive_scroll": 0,
    "quick_backs": 2,
    "quick_back_sessions": 8,
    "scroll_depth_sum": 600.0,
    "scroll_depth_page_views": 12.0,
    "engagement_time_ms_sum": 300_000,
    "engagement_sessions": 10,
}


def sums(**changed: Any) -> DailySums:
    return DailySums(**{**SUMS, **changed})


def store_day(
    database: Database, day: date, of_day: DailySums, *, truncated: bool = False, **changed: Any
) -> None:
    values: dict[str, Any] = {
        "business_id": "acme",
        "day": day,
        "session_basis": "page_sessions",
        "truncated": truncated,
        "built_from": "reply:1",
        "sums": of_day,
    }
    aggregates.replace_business_day(
        database, business_day=BusinessDay(**{**values, **changed}), now=NOW
    )


def store_pages(database: Database, day: date, pages: Mapping[str, DailySums]) -> None:
    aggregates.replace_url_days(
        database,
        business_id="acme",
        day=day,
        url_days=[UrlDay(url=url, sums=of_page) for url, of_page in pages.items()],
        truncated=False,
        built_from="reply:1",
        now=NOW,
    )
