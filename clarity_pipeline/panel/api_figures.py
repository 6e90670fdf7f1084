"""The API of what was collected of a business, as JSON and as CSV."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from clarity_pipeline.domain.errors import InvalidDay
from clarity_pipeline.domain.insight import BreakdownBy, PageEvent, PageRanking
from clarity_pipeline.operations import insight
from clarity_pipeline.operations.insight import USUAL_GROUPS, USUAL_PAGES
from clarity_pipeline.panel.api_document import problems
from clarity_pipeline.panel.api_models import (
    AggregatesTold,
    AggregateTold,
    BreakdownTold,
    CalendarDayTold,
    CalendarTold,
    GroupTold,
    PagesTold,
    PageTold,
    SeriesDayTold,
    SeriesTold,
    WindowAggregatesTold,
    WindowTold,
)
from clarity_pipeline.panel.api_tables import (
    CSV_TOO,
    AskedWindow,
    WantsCsv,
    csv_response,
    file_name,
)
from clarity_pipeline.panel.guard import CurrentBusiness, Services
from clarity_pipeline.store.aggregates import (
    get_business_behavioral_aggregates,
    get_url_behavioral_aggregates,
)

router = APIRouter(tags=["Figures"], responses=CSV_TOO)

_WINDOW = problems(InvalidDay)


@router.get("/aggregates", response_model=WindowAggregatesTold, openapi_extra=_WINDOW)
def read_aggregates(
    services: Services,
    business: CurrentBusiness,
    window: AskedWindow,
    wants_csv: WantsCsv,
    by: Annotated[
        Literal["business", "url"], Query(description="The business as a whole, or its pages.")
    ] = "business",
) -> WindowAggregatesTold | Response:
    """The ten values that rules are evaluated on, with how much of the window they cover.

    All unknown while Clarity is disconnected or its sync is off: rules then stay silent.
    """
    start, end, database = window.start, window.end, services.database
    if by == "url":
        found = get_url_behavioral_aggregates(business.id, start, end, database=database)
        rows = [
            AggregateTold(url=url, **dict(AggregatesTold.model_validate(values)))
            for url, values in found.items()
        ]
    else:
        values = get_business_behavioral_aggregates(business.id, start, end, database=database)
        rows = [AggregateTold(url=None, **dict(AggregatesTold.model_validate(values)))]
    if wants_csv:
        return csv_response(
            AggregateTold, rows, name=file_name(business.id, f"aggregates-by-{by}", window)
        )
    return WindowAggregatesTold(window=WindowTold.model_validate(window), by=by, aggregates=rows)


@router.get("/series", response_model=SeriesTold, openapi_extra=_WINDOW)
def read_series(
    services: Services, business: CurrentBusiness, window: AskedWindow, wants_csv: WantsCsv
) -> SeriesTold | Response:
    """The ten values day by day, gaps included; the history stays after a disconnect."""
    series = SeriesTold.model_validate(
        insight.business_series(
            services.database,
            business.id,
            window=window,
            now=services.clock(),
            recovery=services.settings.recovery,
        )
    )
    if wants_csv:
        return csv_response(
            SeriesDayTold, series.days, name=file_name(business.id, "series", window)
        )
    return series


@router.get("/pages", response_model=PagesTold, openapi_extra=_WINDOW)
def list_worst_pages(
    services: Services,
    business: CurrentBusiness,
    window: AskedWindow,
    wants_csv: WantsCsv,
    by: Annotated[PageEvent, Query(description="What makes a page a bad one.")] = PageEvent.RAGE,
    ranking: Annotated[
        PageRanking, Query(description="By number of events, or by events per session.")
    ] = PageRanking.EVENTS,
    min_sessions: Annotated[
        int, Query(ge=0, le=1_000_000_000, description="Pages with fewer sessions are left out.")
    ] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = USUAL_PAGES,
) -> PagesTold | Response:
    """The pages that most of an event happened on, worst first."""
    worst = PagesTold.model_validate(
        insight.worst_pages(
            services.database,
            business.id,
            window=window,
            by=by,
            ranking=ranking,
            min_sessions=min_sessions,
            limit=limit,
            now=services.clock(),
        )
    )
    if wants_csv:
        return csv_response(
            PageTold, worst.pages, name=file_name(business.id, f"pages-by-{by}", window)
        )
    return worst


@router.get("/breakdown", response_model=BreakdownTold, openapi_extra=_WINDOW)
def read_breakdown(
    services: Services,
    business: CurrentBusiness,
    window: AskedWindow,
    wants_csv: WantsCsv,
    by: Annotated[BreakdownBy, Query(description="What visitors are told apart by.")],
    limit: Annotated[
        int, Query(ge=1, le=1000, description="Groups that are listed; the rest is summed up.")
    ] = USUAL_GROUPS,
) -> BreakdownTold | Response:
    """The values by device, source, country, campaign or channel. CSV has the listed groups."""
    split = BreakdownTold.model_validate(
        insight.breakdown(
            services.database,
            business.id,
            window=window,
            by=by,
            limit=limit,
            now=services.clock(),
        )
    )
    if wants_csv:
        return csv_response(
            GroupTold,
            split.groups,
            name=file_name(business.id, f"by-{by}", window),
            constants={"by": by},
        )
    return split


@router.get("/days", response_model=CalendarTold, openapi_extra=_WINDOW)
def list_days(
    services: Services, business: CurrentBusiness, window: AskedWindow, wants_csv: WantsCsv
) -> CalendarTold | Response:
    """How every day of a window stands: complete, partial, shifted, cut, derived, or a gap."""
    calendar = insight.day_calendar(
        services.database,
        business.id,
        window=window,
        now=services.clock(),
        recovery=services.settings.recovery,
    )
    days = [CalendarDayTold.model_validate(day) for day in calendar]
    if wants_csv:
        return csv_response(CalendarDayTold, days, name=file_name(business.id, "days", window))
    return CalendarTold(window=WindowTold.model_validate(window), days=days)
