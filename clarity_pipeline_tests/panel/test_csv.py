"""What a CSV file may do to the spreadsheet that opens it: nothing."""

from __future__ import annotations

import csv
import io
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarity_pipeline.domain.day_history import DayWord
from clarity_pipeline.panel.csv import csv_download, csv_text


def read(text: str) -> list[list[str]]:
    assert text.startswith("\ufeff")
    return list(csv.reader(io.StringIO(text[1:], newline="")))


def test_values_are_written_for_programs() -> None:
    row = [date(2026, 11, 1), None, True, -3, 0.125, DayWord.LOST, 'a "b", c']
    text = csv_text(["day", "x"], [row])
    assert text.endswith("\r\n")
    assert read(text) == [["day", "x"], ["2026-11-01", "", "true", "-3", "0.125", "lost", row[-1]]]


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        " =1",
        "\u00a0=1",
        "\uff1d1",
        "\uff20x",
    ],
)
def test_a_text_that_a_spreadsheet_may_run_is_put_behind_an_apostrophe(text: str) -> None:
    assert read(csv_text(["url"], [[text]])) == [["url"], [f"'{text}"]]


@given(st.lists(st.text(), min_size=2, max_size=2))
def test_whatever_is_written_is_read_again_and_never_begins_a_formula(cells: list[str]) -> None:
    (_, read_again) = read(csv_text(["a", "b"], [cells]))
    assert [text.removeprefix("'") for text in read_again] == [
        text.removeprefix("'") for text in cells
    ]
    assert not any(
        text.lstrip()[:1] in set("=+-@\uff1d\uff0b\uff0d\uff20") for text in read_again if text
    )


def test_a_name_of_a_file_cannot_leave_its_header_or_its_folder() -> None:
    reply = csv_download('../"x"\r\nSet-Cookie: a', ["a"], [])
    assert reply.headers["content-disposition"] == 'attachment; filename="x-Set-Cookie-a.csv"'
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
