"""Tables as CSV text: read as spreadsheets write it, and written so that none obeys it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from enum import Enum
from typing import Final

_FORMULA: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
"""How a text begins that a spreadsheet may take for a formula; the last four are full-width.

Spreadsheets pass over blanks and control characters that stand before one.
"""


class BrokenCsv(ValueError):
    """The text is no CSV from the line `line` on."""

    def __init__(self, line: int) -> None:
        super().__init__(
            f"Line {line} is no CSV: a quotation mark is in the wrong place, or never closed."
        )
        self.line = line


def rows_of_csv(text: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, each with the line of the text that it begins on.

    Commas, semicolons or tabs separate the cells, whichever the first line has most of: half of
    Europe's spreadsheets write semicolons. A byte order mark is passed over. Raises BrokenCsv.
    """
    text = text.removeprefix("\ufeff")
    first_line = text.partition("\n")[0]
    delimiter = max(",;\t", key=first_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error:
        raise BrokenCsv(line) from None


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A line with the names of the columns and the rows, as RFC 4180 has it.

    Unknown values are empty cells, decimals have a point, days are `YYYY-MM-DD`, instants ISO 8601
    in UTC ending in Z. Text that a spreadsheet would take for a formula begins with an apostrophe:
    page addresses and campaign names are written by whoever visits a page.
    """
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return written.getvalue()


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case Enum():
            return _cell(value.value)
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case str():
            return f"'{value}" if _FORMULA.match(value) else value
        case _:
            return str(value)
