"""Tables as CSV files, for spreadsheets that people open and for programs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from starlette.responses import Response

from clarity_pipeline.domain.spreadsheets import csv_text

_BYTE_ORDER_MARK: Final = "\ufeff"
"""Without it Excel takes UTF-8 for the code page of the country; programs know to skip it."""

_UNSAFE_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]+")


def csv_download(
    name: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    for_programs: bool = False,
) -> Response:
    """The table as a file to keep, with what is not safe in a name of a file left out of it."""
    safe = _UNSAFE_IN_NAMES.sub("-", name).strip("-.") or "table"
    return Response(
        ("" if for_programs else _BYTE_ORDER_MARK) + csv_text(columns, rows),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{safe}.csv"'},
    )
