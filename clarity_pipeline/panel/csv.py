"""Tables as CSV files: for spreadsheets that people open, and for programs that read them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from datetime import date
from enum import Enum
from typing import Final

from starlette.responses import Response

_BYTE_ORDER_MARK: Final = "\ufeff"
"""Without it Excel takes UTF-8 for the code page of the country; programs know to skip it."""

_FORMULA: Final = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
"""How a text begins that a spreadsheet may take for a formula; the last four are full-width."""

_UNSAFE_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]+")


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A head line and the rows, as RFC 4180 has it, beginning with a byte order mark.

    Unknown is an empty cell, days are ISO 8601, decimals have a point. A text that a spreadsheet
    might run as a formula is put behind an apostrophe: pages and campaigns are named by strangers.
    """
    out = io.StringIO()
    out.write(_BYTE_ORDER_MARK)
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def csv_download(name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Response:
    """The table as a file to keep, with what is not safe in a name of a file left out of it."""
    safe = _UNSAFE_IN_NAMES.sub("-", name).strip("-.") or "table"
    return Response(
        csv_text(columns, rows),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{safe}.csv"'},
    )


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, date):
        return value.isoformat()
    text = value.value if isinstance(value, Enum) else value
    if isinstance(text, str) and _FORMULA.match(text):
        return f"'{text}"
    return text
