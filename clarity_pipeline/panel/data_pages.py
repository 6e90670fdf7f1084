"""The data of a business: ten values and their charts, its worst pages, its kinds of visitors."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field
from starlette.responses import Response

from clarity_pipeline.domain.days import day_collected_at, next_scheduled_at
from clarity_pipeline.domain.insight import (
    WINDOW_LENGTHS,
    BreakdownBy,
    BusinessSeries,
    PageEvent,
    PageRanking,
    Window,
)
from clarity_pipeline.domain.metrics import AGGREGATE_METRICS
from clarity_pipeline.domain.rules.metrics import CLARITY_METRICS
from clarity_pipeline.operations.insight import breakdown, business_series, worst_pages
from clarity_pipeline.panel.csv import csv_download
from clarity_pipeline.panel.data_views import (
    BREAKDOWN_METRICS,
    USUAL_LENGTH,
    USUAL_METRIC,
    DataView,
    breakdown_table,
    chart_of,
    group_rows,
    notes,
    page_rows,
    pages_table,
    series_table,
    tiles,
)
from clarity_pipeline.panel.guard import CurrentBusiness, Services
from clarity_pipeline.panel.services import PanelServices
from clarity_pipeline.panel.templating import page
from clarity_pipeline.panel.wording import DAYS
from clarity_pipeline.store import connections, window_sums
from clarity_pipeline.store.businesses import Business

router = APIRouter(include_in_schema=False)

MOST_ROWS: Final = 10_000
"""Of pages or groups in a file, worst or largest first; few sites have as many."""

_FIRST_DAY: Final = date(2020, 1, 1)
"""Clarity is no older."""

EVENTS: Final[Mapping[PageEvent, str]] = {
    PageEvent.RAGE: "Rage clicks",
    PageEvent.DEAD: "Dead clicks",
    PageEvent.QUICK_BACKS: "Quick backs",
}

RANKINGS: Final[Mapping[PageRanking, str]] = {
    PageRanking.EVENTS: "Most often",
    PageRanking.RATE: "Highest rate",
}

SPLITS: Final[Mapping[BreakdownBy, str]] = {
    BreakdownBy.DEVICE: "Device",
    BreakdownBy.SOURCE: "Source",
    BreakdownBy.COUNTRY: "Country",
    BreakdownBy.CAMPAIGN: "Campaign",
    BreakdownBy.CHANNEL: "Channel",
}


def chosen_view(
    days: Annotated[int, Query(ge=1, le=max(WINDOW_LENGTHS))] = USUAL_LENGTH,
    until: Annotated[date | None, Query(), Field(ge=_FIRST_DAY)] = None,
    metric: Annotated[str, Query(pattern=f"^({'|'.join(AGGREGATE_METRICS)})$")] = USUAL_METRIC,
    by: PageEvent = PageEvent.RAGE,
    ranking: PageRanking = PageRanking.EVENTS,
    min_sessions: Annotated[int | None, Query(ge=0, le=1_000_000_000)] = None,
    split: BreakdownBy = BreakdownBy.DEVICE,
) -> DataView:
    """What the address of the page asks for."""
    return DataView(
        days=days,
        until=until,
        metric=metric,
        by=by,
        ranking=ranking,
        min_sessions=min_sessions,
        split=split,
    )


ChosenView = Annotated[DataView, Depends(chosen_view)]


@router.get("/data")
def show_data(
    request: Request, services: Services, business: CurrentBusiness, view: ChosenView
) -> Response:
    """The whole page, or why there is nothing to show yet."""
    database, now = services.database, services.clock()
    latest = day_collected_at(now)
    window = view.window(latest=latest)
    series = _series(services, business, window)
    if not series.values.days_with_data:
        return page(
            request,
            "data_empty.html",
            tab="data",
            view=view,
            window=window,
            lengths=WINDOW_LENGTHS,
            reasons=_reasons(series),
            newest=window_sums.latest_days(database, business_ids=[business.id]).get(business.id),
            is_connected=connections.get_connection(database, business.id).is_connected,
            next_run=next_scheduled_at(now),
        )
    worst = worst_pages(
        database,
        business.id,
        window=window,
        by=view.by,
        ranking=view.ranking,
        min_sessions=view.sessions_needed,
        now=now,
    )
    split = breakdown(database, business.id, window=window, by=view.split, now=now)
    return page(
        request,
        "data.html",
        tab="data",
        view=view,
        window=window,
        earlier=window.before().end,
        later=min(window.end + timedelta(days=window.length), latest),
        latest=latest,
        lengths=WINDOW_LENGTHS,
        values=series.values,
        tiles=tiles(series),
        notes=notes(series.values),
        chart=chart_of(view.metric, series),
        day_labels=DAYS,
        worst=worst,
        page_rows=page_rows(worst),
        events=EVENTS,
        rankings=RANKINGS,
        split=split,
        group_rows=group_rows(split),
        splits=SPLITS,
        split_metrics=[CLARITY_METRICS[name] for name in BREAKDOWN_METRICS],
    )


@router.get("/data/series.csv")
def download_series(services: Services, business: CurrentBusiness, view: ChosenView) -> Response:
    """Every day of the window with its ten values."""
    window = view.window(latest=day_collected_at(services.clock()))
    columns, rows = series_table(_series(services, business, window))
    return csv_download(_file_name(business, "days", window), columns, rows)


@router.get("/data/pages.csv")
def download_pages(services: Services, business: CurrentBusiness, view: ChosenView) -> Response:
    """All pages that have the chosen event, worst first."""
    now = services.clock()
    window = view.window(latest=day_collected_at(now))
    worst = worst_pages(
        services.database,
        business.id,
        window=window,
        by=view.by,
        ranking=view.ranking,
        min_sessions=view.sessions_needed,
        limit=MOST_ROWS,
        now=now,
    )
    columns, rows = pages_table(worst)
    return csv_download(_file_name(business, f"pages-{view.by}", window), columns, rows)


@router.get("/data/breakdown.csv")
def download_breakdown(services: Services, business: CurrentBusiness, view: ChosenView) -> Response:
    """Every value of the chosen dimension."""
    now = services.clock()
    window = view.window(latest=day_collected_at(now))
    found = breakdown(
        services.database, business.id, window=window, by=view.split, limit=MOST_ROWS, now=now
    )
    columns, rows = breakdown_table(found)
    return csv_download(_file_name(business, f"by-{view.split}", window), columns, rows)


def _series(services: PanelServices, business: Business, window: Window) -> BusinessSeries:
    return business_series(
        services.database,
        business.id,
        window=window,
        now=services.clock(),
        recovery=services.settings.recovery,
    )


def _reasons(series: BusinessSeries) -> list[str]:
    """Why the days of a window have no data, each reason once, the newest first."""
    return list(dict.fromkeys(day.reason for day in reversed(series.days) if day.reason))


def _file_name(business: Business, what: str, window: Window) -> str:
    return f"clarity-{business.id}-{what}-{window.start}-{window.end}"
