"""Tables as CSV text that a spreadsheet opens without obeying it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Final

_BEGINS_A_FORMULA: Final = (
    "=",
    "+",
    "-",
    "@",
    "\N{FULLWIDTH EQUALS SIGN}",
    "\N{FULLWIDTH PLUS SIGN}",
    "\N{FULLWIDTH HYPHEN-MINUS}",
    "\N{FULLWIDTH COMMERCIAL AT}",
)


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """The rows under a line with the names of the columns; a row may know more than is shown.

    Unknown values are empty cells, days `YYYY-MM-DD`, instants ISO 8601 in UTC ending in Z. Text
    that a spreadsheet would take for a formula begins with an apostrophe: page addresses and
    campaign names are written by whoever visits a page.
    """
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(columns)
    writer.writerows([_cell(row[name]) for name in columns] for row in rows)
    return written.getvalue()


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case str():
            return _harmless(str(value))
        case _:
            return str(value)


def _harmless(text: str) -> str:
    # Spreadsheets pass over what is blank before a formula.
    return f"'{text}" if text.strip("\x00 \t\r\n\xa0").startswith(_BEGINS_A_FORMULA) else text
