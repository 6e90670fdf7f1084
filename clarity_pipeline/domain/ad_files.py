"""Files about ads: CSV with the names of COLUMNS in its first line, a JSON array, or JSON lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from clarity_pipeline.domain.ad_rows import FIELDS
from clarity_pipeline.domain.errors import InvalidAdRows
from clarity_pipeline.domain.rules.metrics import is_further_sum
from clarity_pipeline.domain.spreadsheets import BrokenCsv, rows_of_csv

MAX_FILE_ROWS: Final = 1_000_000

META_REPORT_COLUMN: Final = "reporting starts"
"""Meta's Ads Manager puts it into every report, and nobody else does."""

COLUMNS: Final[Mapping[str, str]] = {
    **{name: name for name in sorted(FIELDS)},
    # As Meta's Ads Manager heads the columns of its reports.
    "account id": "account_id",
    "campaign id": "campaign_id",
    "campaign name": "campaign_name",
    "campaign delivery": "campaign_status",
    "ad set id": "ad_set_id",
    "ad set name": "ad_set_name",
    "ad set delivery": "ad_set_status",
    "ad id": "ad_id",
    "ad name": "ad_name",
    "ad delivery": "ad_status",
    "day": "date",
    META_REPORT_COLUMN: "first_day",
    "reporting ends": "last_day",
    "website url": "landing_url",
    "link (ad settings)": "landing_url",
    "clicks (all)": "clicks",
    "results": "conversions",
    "purchases conversion value": "revenue",
    "link clicks": "ad.link_clicks",
    "landing page views": "ad.landing_page_views",
    "leads": "ad.leads",
    "purchases": "ad.purchases",
    # As Meta's Insights API calls them.
    "adset_id": "ad_set_id",
    "adset_name": "ad_set_name",
    "date_start": "first_day",
    "date_stop": "last_day",
    "account_currency": "currency",
}
"""What a column or a JSON name means, compared without case. `Amount spent (EUR)` is spend, and
says the currency. A further sum is headed as a rule writes it, such as `ad.leads`."""

_AMOUNT_SPENT: Final = re.compile(r"amount spent \(([a-z]{3})\)", re.ASCII)


@dataclass(frozen=True, slots=True)
class AdFile:
    """The rows of a file with their lines, or with their places from 1 in an array.

    `passed_over` are columns of a report that are not used. The platform is that whose report it
    is, None for a file that anybody can have made.
    """

    rows: Iterator[tuple[int, object]]
    passed_over: tuple[str, ...] = ()
    platform: str | None = None


def read_ad_file(content: bytes) -> AdFile:
    """Read a file, whichever of the three it is.

    Raises InvalidAdRows where it cannot be read as a whole; while the rows are taken, too, for a
    CSV file that ends in the middle of a cell.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidAdRows("The file is not UTF-8 text; save it as CSV UTF-8.") from None
    match text.lstrip()[:1]:
        case "":
            raise InvalidAdRows("The file is empty.")
        case "[":
            return AdFile(rows=_rows_of_array(text))
        case "{":
            return AdFile(rows=_limited(_rows_of_lines(text)))
        case _:
            return _csv_file(text)


def read_json_row(row: object) -> object:
    """A row with the names that are used here; anything but an object as it is."""
    if not isinstance(row, Mapping):
        return row
    named = cast("Mapping[object, object]", row)
    return {
        COLUMNS.get(name.lower(), name) if isinstance(name, str) else name: value
        for name, value in named.items()
    }


def _rows_of_array(text: str) -> Iterator[tuple[int, object]]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise InvalidAdRows(f"The file begins like a JSON array and is none{where}.") from None
    return _limited((place, read_json_row(row)) for place, row in enumerate(rows, start=1))


def _rows_of_lines(text: str) -> Iterator[tuple[int, object]]:
    # Not splitlines: that one also ends lines at characters that JSON allows within text.
    for line, each in enumerate(text.split("\n"), start=1):
        if each.strip():
            yield line, _read_line(each)


def _read_line(line: str) -> object:
    try:
        return read_json_row(json.loads(line))
    except (ValueError, RecursionError):
        return None


def _csv_file(text: str) -> AdFile:
    rows = rows_of_csv(text)
    try:
        _, header = next(rows, (1, [""]))
    except BrokenCsv as error:
        raise InvalidAdRows(str(error)) from None
    columns, constants, passed_over = _read_header(header)
    is_of_meta = META_REPORT_COLUMN in _plain(header)
    return AdFile(
        rows=_limited(_csv_rows(rows, columns, constants)),
        passed_over=passed_over,
        platform="meta" if is_of_meta else None,
    )


def _csv_rows(
    rows: Iterator[tuple[int, list[str]]],
    columns: list[tuple[int, str]],
    constants: Mapping[str, str],
) -> Iterator[tuple[int, object]]:
    width = max(place for place, _ in columns) + 1
    try:
        for line, cells in rows:
            # One cell too few is as good as an empty one.
            padded = cells if len(cells) >= width else cells + [""] * width
            yield line, {**constants, **{name: padded[place] for place, name in columns}}
    except BrokenCsv as error:
        raise InvalidAdRows(str(error)) from None


def _plain(header: list[str]) -> list[str]:
    return [" ".join(cell.split()).lower() for cell in header]


def _read_header(
    header: list[str],
) -> tuple[list[tuple[int, str]], dict[str, str], tuple[str, ...]]:
    """Places and names of columns, values that hold for all rows, and what is passed over."""
    names = _plain(header)
    columns: list[tuple[int, str]] = []
    constants: dict[str, str] = {}
    unknown: list[str] = []
    for place, (name, cell) in enumerate(zip(names, header, strict=True)):
        spent = _AMOUNT_SPENT.fullmatch(name)
        if spent is not None:
            columns.append((place, "spend"))
            constants["currency"] = spent[1].upper()
        elif name in COLUMNS:
            columns.append((place, COLUMNS[name]))
        elif is_further_sum(cell.strip()):
            columns.append((place, cell.strip()))
        elif name:
            unknown.append(cell.strip())
    if unknown and META_REPORT_COLUMN not in names:
        raise InvalidAdRows(
            f"The first line names a column that is not known here: {_listed(unknown)}; name or "
            "leave out every one of them."
        )
    _check_once([*constants, *(name for _, name in columns)])
    if not columns:
        raise InvalidAdRows("The first line names no column that is known here.")
    return columns, constants, tuple(unknown)


def _check_once(names: list[str]) -> None:
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InvalidAdRows(f"More than one column says the {doubled[0]}; leave one of them out.")


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name[:40]) for name in names[:5])


def _limited(rows: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    for count, row in enumerate(rows):
        if count == MAX_FILE_ROWS:
            raise InvalidAdRows(
                f"A file has at most {MAX_FILE_ROWS:,} rows; divide it, nothing of it was stored."
            )
        yield row
