"""`clarity aggregates`: the values that rules are written on, and what they stand on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from clarity_pipeline.cli.options import AsJson, BusinessId
from clarity_pipeline.cli.output import cell, console, print_json, say, table
from clarity_pipeline.cli.session import open_session
from clarity_pipeline.domain.rules.metrics import CLARITY_METRICS

if TYPE_CHECKING:
    from clarity_pipeline.domain.aggregates import BehavioralAggregates
    from clarity_pipeline.store.connections import ConnectionRecord


class By(StrEnum):
    URL = "url"


def register(app: typer.Typer) -> None:
    app.command()(aggregates)


def aggregates(
    business_id: BusinessId,
    start: Annotated[str, typer.Option("--from", metavar="YYYY-MM-DD", help="First UTC day.")],
    end: Annotated[str, typer.Option("--to", metavar="YYYY-MM-DD", help="Last UTC day.")],
    by: Annotated[By | None, typer.Option("--by", help="One row per landing page.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="Most pages to print with --by url.")
    ] = 20,
    *,
    as_json: AsJson = False,
) -> None:
    """The ten `clarity_*` values of a window of days, and how much of it they cover."""
    from clarity_pipeline.domain.days import days_between, parse_day
    from clarity_pipeline.store.aggregates import (
        get_business_behavioral_aggregates,
        get_url_behavioral_aggregates,
    )
    from clarity_pipeline.store.connections import get_connection

    first, last = parse_day(start), parse_day(end)
    days_between(first, last)
    with open_session() as session:
        record = get_connection(session.database, business_id)
        window = {"business_id": business_id, "start": first, "end": last}
        if by is By.URL:
            pages = get_url_behavioral_aggregates(
                business_id, first, last, database=session.database
            )
            worst = worst_pages_first(pages)[:limit]
            if as_json:
                rows = [{"url": url, **values_document(values)} for url, values in worst]
                print_json({**window, "pages": len(pages), "urls": rows})
            else:
                _print_pages(worst, first=first, last=last, pages=len(pages))
        else:
            values = get_business_behavioral_aggregates(
                business_id, first, last, database=session.database
            )
            if as_json:
                print_json({**window, **values_document(values)})
            else:
                _print_values(values, business_id, first=first, last=last)
    if not as_json and not record.is_enabled:
        say(_why_nothing(record))


def values_document(values: BehavioralAggregates) -> dict[str, object]:
    """The ten and their coverage as JSON."""
    return {
        **values.metrics(),
        "days_in_window": values.days_in_window,
        "days_with_data": values.days_with_data,
        "last_date": values.last_date,
        "truncated": values.truncated,
        "session_basis": values.session_basis,
    }


def worst_pages_first(
    pages: Mapping[str, BehavioralAggregates],
) -> list[tuple[str, BehavioralAggregates]]:
    """Most rage clicks first, then most dead clicks; pages of which neither is known come last."""

    def trouble(page: tuple[str, BehavioralAggregates]) -> tuple[int, int, str]:
        url, values = page
        rage, dead = values.clarity_rage_clicks, values.clarity_dead_clicks
        return -(-1 if rage is None else rage), -(-1 if dead is None else dead), url

    return sorted(pages.items(), key=trouble)


def coverage_words(values: BehavioralAggregates) -> str:
    """`6 of 7 days, last 2026-03-01, truncated`."""
    parts = [f"{values.days_with_data} of {values.days_in_window} days"]
    if values.last_date is not None:
        parts.append(f"last {values.last_date}")
    if values.session_basis is not None:
        parts.append(f"counted in {values.session_basis.replace('_', ' ')}")
    if values.truncated:
        parts.append("truncated: some replies were cut at 1,000 rows, sums are too low")
    return ", ".join(parts)


def _print_values(
    values: BehavioralAggregates, business_id: str, *, first: date, last: date
) -> None:
    listing = table(f"{business_id}, {first} to {last} (UTC)", ("value", "", "unit"))
    listing.columns[1].justify = "right"
    for name, value in values.metrics().items():
        shown = f"{value:.4f}" if name.endswith("_rate") and value is not None else value
        listing.add_row(cell(name), cell(shown), cell(CLARITY_METRICS[name].unit, "quiet"))
    console().print(listing)
    say(f"Coverage: {coverage_words(values)}.")


def _print_pages(
    worst: list[tuple[str, BehavioralAggregates]], *, first: date, last: date, pages: int
) -> None:
    if not worst:
        say(f"No page has data from {first} to {last}.")
        return
    listing = table(
        f"{len(worst)} of {pages} pages, {first} to {last} (UTC), most trouble first",
        ("page", "sessions", "rage", "dead", "quick backs", "depth %", "engaged ms", "days"),
        numbers_from=1,
    )
    for url, values in worst:
        listing.add_row(
            cell(url),
            cell(values.clarity_sessions),
            cell(values.clarity_rage_clicks),
            cell(values.clarity_dead_clicks),
            cell(values.clarity_quick_backs),
            cell(values.clarity_scroll_depth),
            cell(values.clarity_engagement_time_ms),
            cell(f"{values.days_with_data} of {values.days_in_window}"),
        )
    console().print(listing)
    if any(values.truncated for _, values in worst):
        say("Truncated: some replies were cut at 1,000 rows, so sums are too low.")


def _why_nothing(record: ConnectionRecord) -> str:
    if not record.is_connected:
        return f"{record.business_id} is not connected to Clarity, so rules see no values for it."
    return (
        f"The sync of {record.business_id} is switched off, so rules see no values for it; switch "
        f"it on with `clarity enable {record.business_id}`."
    )
