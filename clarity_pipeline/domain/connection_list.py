"""Reading a list of connections: many businesses, their projects and tokens, in one CSV file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from clarity_pipeline.domain.connections import (
    TokenFacts,
    parse_business_id,
    parse_business_name,
    parse_project_id,
    parse_token,
)
from clarity_pipeline.domain.errors import (
    BadRow,
    InputError,
    InvalidBusinessId,
    InvalidConnectionList,
    InvalidProjectId,
)
from clarity_pipeline.domain.spreadsheets import BrokenCsv, rows_of_csv

COLUMNS: Final = ("business_id", "name", "project_id", "token")
"""What the first line names, in any order."""

MAX_ROWS: Final = 1000

_BEYOND: Final = "beyond the columns"

_UNQUOTED: Final[dict[type[InputError], str]] = {
    InvalidBusinessId: "The business_id is not 1 to 64 of the characters a-z, 0-9, _ and -.",
    InvalidProjectId: "The project_id is not 6 to 20 letters and digits.",
}
"""Reasons without the text that they are about: where columns were swapped, it is a token."""


@dataclass(frozen=True, slots=True)
class ConnectionRow:
    """A business, its project and its token; the name is for a business that is added."""

    business_id: str
    name: str
    project_id: str
    token: TokenFacts


def decode_connection_list(content: bytes) -> str:
    """The text of a file. Raises InvalidConnectionList unless it is UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidConnectionList("The list is not UTF-8 text; save it as CSV UTF-8.") from None


def parse_connection_list(text: str, *, now: datetime) -> list[ConnectionRow]:
    """Read a list, every row of it or none.

    The first line names the columns; commas separate them, or semicolons, as spreadsheets of half
    of Europe write. Lines that are empty are passed over. Raises InvalidConnectionList, which
    names every row that cannot be used and never quotes one.
    """
    rows: list[ConnectionRow] = []
    bad_rows: list[BadRow] = []
    line_of: dict[str, int] = {}
    for line, cells in _rows_by_line(text):
        if len(rows) + len(bad_rows) == MAX_ROWS:
            raise InvalidConnectionList(
                f"A list has at most {MAX_ROWS:,} rows; divide it, nothing of it was connected."
            )
        try:
            row = _row(cells, now=now)
            if (earlier := line_of.setdefault(row.business_id, line)) != line:
                raise InvalidBusinessId(f"This business is on line {earlier} already.")
        except InputError as error:
            bad_rows.append(BadRow(line, str(error)))
        else:
            rows.append(row)
    count = len(rows) + len(bad_rows)
    if bad_rows:
        raise InvalidConnectionList(
            f"{len(bad_rows)} of {count} rows cannot be used, so none was connected; mend them and "
            "send the whole list again.",
            bad_rows=bad_rows,
        )
    if not rows:
        raise InvalidConnectionList("The list has no rows below its first line.")
    return rows


def _rows_by_line(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """The cells of each row by column, and the line it begins on."""
    columns: list[str] | None = None
    try:
        for line, cells in rows_of_csv(text):
            if columns is None:
                columns = _columns(cells)
                continue
            # One cell too few is as good as an empty one.
            padded = cells + [""] * len(columns)
            row = dict(zip(columns, padded, strict=False))
            yield line, row | {_BEYOND: "".join(cells[len(columns) :])}
    except BrokenCsv as error:
        raise InvalidConnectionList(str(error)) from None


def _columns(cells: list[str]) -> list[str]:
    columns = [cell.strip().lower() for cell in cells]
    if sorted(columns) != sorted(COLUMNS):
        raise InvalidConnectionList(
            f"The first line must name the columns {', '.join(COLUMNS)}, and no others."
        )
    return columns


def _row(cells: dict[str, str], *, now: datetime) -> ConnectionRow:
    """Raises InputError with what is wrong first, as a reason that may be shown."""
    if cells[_BEYOND].strip():
        raise InvalidConnectionList("The row has more cells than the first line has columns.")
    try:
        business_id = parse_business_id(cells["business_id"].strip())
        return ConnectionRow(
            business_id=business_id,
            name=parse_business_name(cells["name"], business_id=business_id),
            project_id=parse_project_id(cells["project_id"]),
            token=parse_token(cells["token"], now=now),
        )
    except (InvalidBusinessId, InvalidProjectId) as error:
        raise InputError(_UNQUOTED[type(error)]) from None
