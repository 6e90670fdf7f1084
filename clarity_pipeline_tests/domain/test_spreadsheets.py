"""CSV text that a spreadsheet shows as it is."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarity_pipeline.domain.insight import PageEvent
from clarity_pipeline.domain.spreadsheets import csv_text


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def test_every_kind_of_value_has_one_form() -> None:
    row = {
        "day": date(2026, 11, 1),
        "at": datetime(2026, 11, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        "utc": datetime(2026, 11, 1, tzinfo=UTC),
        "count": -3,
        "rate": 0.125,
        "unknown": None,
        "flag": True,
        "by": PageEvent.RAGE,
        "not shown": "x",
    }
    columns = [name for name in row if name != "not shown"]
    assert read(csv_text(columns, [row])) == [
        columns,
        [
            "2026-11-01",
            "2026-11-01T00:00:00Z",
            "2026-11-01T00:00:00Z",
            "-3",
            "0.125",
            "",
            "true",
            "rage",
        ],
    ]


@pytest.mark.parametrize(
    "formula",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\r\n=1", "\uff1d1+1", '=HYPERLINK("x")'],
)
def test_text_that_would_be_a_formula_is_told_to_be_text(formula: str) -> None:
    [_, [cell]] = read(csv_text(["url"], [{"url": formula}]))
    assert cell == f"'{formula}"


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_whatever_a_visitor_wrote_is_one_cell_and_no_formula(text: str) -> None:
    [_, [cell, after]] = read(csv_text(["url", "after"], [{"url": text, "after": 1}]))
    assert cell in {text, f"'{text}"}
    assert not cell.strip().startswith(("=", "+", "-", "@"))
    assert after == "1"
