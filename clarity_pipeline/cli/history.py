"""`clarity gaps`: which days are there, which are not, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from clarity_pipeline.cli.options import AsJson
from clarity_pipeline.cli.output import TONES, cell, console, print_json, say, shown, table
from clarity_pipeline.cli.session import open_session, utc_now

if TYPE_CHECKING:
    from rich.text import Text

    from clarity_pipeline.domain.day_history import DayHistory
    from clarity_pipeline.operations.history import BusinessHistory

SYMBOLS: Final[Mapping[str, tuple[str, str]]] = {
    "complete": ("#", "good"),
    "shifted": ("S", "warn"),
    "truncated": ("T", "warn"),
    "derived": ("D", "warn"),
    "partial": ("P", "bad"),
    "pending": ("?", "warn"),
    "lost": ("X", "bad"),
    "paused": ("-", "quiet"),
    "not_expected": (".", "quiet"),
}
"""A character per day, readable without colours and in any encoding, and its tone."""

USUAL_DAYS: Final = 30
DAYS_ON_A_LINE: Final = 31


def register(app: typer.Typer) -> None:
    app.command()(gaps)


def gaps(
    business_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="Only this business.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="YYYY-MM-DD", help="First UTC day.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="YYYY-MM-DD", help="Last UTC day; yesterday.")
    ] = None,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="From each business's first day, not the last 30 days.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Every day of every business in a word, and why those that are not complete are not."""
    from clarity_pipeline.domain.days import check_day_is_over, day_collected_at, parse_day
    from clarity_pipeline.operations.history import iter_histories

    now = utc_now()
    last = day_collected_at(now) if end is None else parse_day(end)
    check_day_is_over(last, now=now)
    if start is not None:
        if everything:
            raise typer.BadParameter("Give either --all or --from, not both.")
        first = parse_day(start)
    else:
        first = None if everything else last - timedelta(days=USUAL_DAYS - 1)
    with open_session() as session:
        histories = list(
            iter_histories(
                session.database,
                start=first,
                end=last,
                now=now,
                recovery=session.settings.recovery,
                business_ids=None if business_id is None else [business_id],
            )
        )
    if as_json:
        print_json(
            {"start": first, "end": last, "businesses": [_document(item) for item in histories]}
        )
    else:
        _print(histories, last=last)


def _document(history: BusinessHistory) -> dict[str, object]:
    from clarity_pipeline.domain.day_history import count_words

    return {
        "business_id": history.business_id,
        "sync_enabled": history.is_enabled,
        "counts": {word.value: count for word, count in count_words(history.days).items()},
        "days": [
            {
                "day": item.day,
                "status": item.word.value,
                "flags": sorted(flag.value for flag in item.flags),
                "missing": list(item.missing),
                "reason": item.reason,
            }
            for item in history.days
        ],
    }


def _print(histories: Sequence[BusinessHistory], *, last: date) -> None:
    known = [history for history in histories if history.days]
    if not known:
        say("No business is old enough to have a day; add one with: clarity business add ID")
        return
    _print_strips(known, last=last)
    console().print(_legend(known))
    _print_reasons(known)


def _print_strips(histories: Sequence[BusinessHistory], *, last: date) -> None:
    listing = table(f"Days up to {last} (UTC)", ("business", "from", "days", "complete"))
    for history in histories:
        complete = sum(item.reason is None for item in history.days)
        for number, days in enumerate(_lines(history.days)):
            listing.add_row(
                cell(history.business_id) if number == 0 else "",
                cell(days[0].day),
                _strip(days),
                cell(f"{complete} of {len(history.days)}") if number == 0 else "",
            )
    console().print(listing)


def _lines(days: Sequence[DayHistory]) -> Iterator[Sequence[DayHistory]]:
    """Lines that end alike, so that the same day of all businesses is in the same column."""
    first = len(days) % DAYS_ON_A_LINE
    if first:
        yield days[:first]
    for start in range(first, len(days), DAYS_ON_A_LINE):
        yield days[start : start + DAYS_ON_A_LINE]


def _strip(days: Sequence[DayHistory]) -> Text:
    from rich.text import Text

    strip = Text(" " * (DAYS_ON_A_LINE - len(days)))
    for item in days:
        symbol, tone = SYMBOLS[item.word.value]
        strip.append(symbol, style=TONES[tone])
    return strip


def _legend(histories: Sequence[BusinessHistory]) -> Text:
    from rich.text import Text

    seen = {item.word.value for history in histories for item in history.days}
    legend = Text()
    for word, (symbol, tone) in SYMBOLS.items():
        if word in seen:
            legend.append(f"  {symbol} ", style=TONES[tone])
            legend.append(word.replace("_", " "))
    return legend


def _print_reasons(histories: Sequence[BusinessHistory]) -> None:
    from clarity_pipeline.domain.day_history import DayWord, spans

    listing = table("Not complete", ("business", "from", "to", "", "why"))
    for history in histories:
        for span in spans(history.days):
            if span.word is DayWord.COMPLETE:
                continue
            listing.add_row(
                cell(history.business_id),
                cell(span.start),
                cell(span.end if span.end != span.start else None),
                cell(span.word.value.replace("_", " "), SYMBOLS[span.word.value][1]),
                cell(shown(span.reason or "")),
            )
    if listing.row_count:
        console().print(listing)
