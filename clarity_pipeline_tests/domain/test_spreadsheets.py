"""What a CSV text may do to the spreadsheet that opens it: nothing."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarity_pipeline.domain.insight import PageEvent
from clarity_pipeline.domain.spreadsheets import csv_text


class Wild(Enum):
    FORMULA = "=1+1"
    NUMBER = 1


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (date(2026, 11, 1), "2026-11-01"),
        (datetime(2026, 11, 1, 1, tzinfo=timezone(timedelta(hours=1))), "2026-11-01T00:00:00Z"),
        (datetime(2026, 11, 1, tzinfo=UTC), "2026-11-01T00:00:00Z"),
        (-3, "-3"),
        (0.125, "0.125"),
        (None, ""),
        (True, "true"),
        (False, "false"),
        (PageEvent.RAGE, "rage"),
        (Wild.NUMBER, "1"),
        (Wild.FORMULA, "'=1+1"),
        ('a "b", c', 'a "b", c'),
    ],
)
def test_every_kind_of_value_has_one_form(value: object, cell: str) -> None:
    assert read(csv_text(["before", "x"], [["a", value]])) == [["before", "x"], ["a", cell]]


def test_lines_end_as_the_rfc_has_it() -> None:
    assert csv_text(["a", "b"], [[1, "x"]]) == "a,b\r\n1,x\r\n"


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        '=HYPERLINK("x")',
        "\uff1d1",
        "\uff0b1",
        "\uff0d1",
        "\uff20x",
        " =1",
        "\t=1",
        "\r\n=1",
        "\u00a0=1",
        "\u3000\uff1d1",
        "\x00=1",
        "\x1b@x",
        "\x85-1",
        "\ttext",
        "\rtext",
        "\ntext",
    ],
)
def test_text_that_a_spreadsheet_may_run_is_put_behind_an_apostrophe(text: str) -> None:
    assert read(csv_text(["url"], [[text]])) == [["url"], [f"'{text}"]]


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_whatever_a_visitor_wrote_is_one_cell_and_no_formula(text: str) -> None:
    [_, [cell, after]] = read(csv_text(["url", "after"], [[text, 1]]))
    assert cell in {text, f"'{text}"}
    assert cell.lstrip("\x00 \t\r\n\u00a0")[:1] not in set("=+-@\uff1d\uff0b\uff0d\uff20")
    assert after == "1"
