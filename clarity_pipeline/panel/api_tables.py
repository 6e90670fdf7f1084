"""Tables of the API as CSV, and the windows of days they are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, Header, Query
from starlette.responses import Response

from clarity_pipeline.domain.days import day_collected_at
from clarity_pipeline.domain.errors import InvalidDay
from clarity_pipeline.domain.insight import Window
from clarity_pipeline.panel.api_models import Day, Told
from clarity_pipeline.panel.csv import csv_download
from clarity_pipeline.panel.guard import Services

USUAL_DAYS: Final = 30
MOST_DAYS: Final = 400
"""A year and what it is compared with; nobody looks at more at once."""

FIRST_DAY: Final = date(2020, 1, 1)
"""Clarity was opened to the public later in that year."""

CSV_TOO: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "As JSON, or as CSV with `format=csv` or `Accept: text/csv`.",
        "content": {"text/csv": {"schema": {"type": "string"}}},
    }
}
"""`responses` of an operation whose rows are given as CSV too."""


def wants_csv(
    form: Annotated[
        Literal["json", "csv"] | None,
        Query(alias="format", description="Goes before the header `Accept`."),
    ] = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> bool:
    """Whether the rows are wanted as CSV."""
    if form is not None:
        return form == "csv"
    return accept.split(",")[0].partition(";")[0].strip().lower() == "text/csv"


def window_asked_for(
    services: Services,
    start: Annotated[
        Day | None, Query(alias="from", description="First day; 30 days when left out.")
    ] = None,
    end: Annotated[
        Day | None, Query(alias="to", description="Last day; the latest that is over if left out.")
    ] = None,
) -> Window:
    """The days from `from` to `to`, both included.

    Raises InvalidDay for a day that is not over, for swapped ends, and for too many days.
    """
    now = services.clock()
    end = end or day_collected_at(now)
    if end < FIRST_DAY or (start is not None and start < FIRST_DAY):
        raise InvalidDay(f"There is nothing before {FIRST_DAY}; begin later.")
    start = start or max(FIRST_DAY, end - timedelta(days=USUAL_DAYS - 1))
    if (end - start).days >= MOST_DAYS:
        raise InvalidDay(f"A window has at most {MOST_DAYS} days; ask for fewer at a time.")
    window = Window(start, end)
    window.check_is_over(now=now)
    return window


WantsCsv = Annotated[bool, Depends(wants_csv)]
AskedWindow = Annotated[Window, Depends(window_asked_for)]


def csv_response(
    model: type[Told],
    rows: Sequence[Told],
    *,
    name: str,
    constants: Mapping[str, object] | None = None,
) -> Response:
    """The rows as a file to keep; `constants` are columns that are the same in every row."""
    constants = constants or {}
    fields = list(model.model_fields)
    return csv_download(
        name,
        [*constants, *fields],
        ([*constants.values(), *(getattr(row, field) for field in fields)] for row in rows),
        for_programs=True,
    )


def file_name(business_id: str, what: str, window: Window) -> str:
    """As "acme-series-2026-10-01-2026-10-30"."""
    return f"{business_id}-{what}-{window.start}-{window.end}"
