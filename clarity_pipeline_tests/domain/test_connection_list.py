"""A list of connections is read in full or not at all, and no row of it is ever quoted."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarity_pipeline.domain.connection_list import (
    COLUMNS,
    MAX_ROWS,
    decode_connection_list,
    parse_connection_list,
)
from clarity_pipeline.domain.errors import InvalidConnectionList
from clarity_pipeline_tests.factories import NOW, make_token

TOKEN = make_token()


def listed(*rows: Sequence[str], columns: Sequence[str] = COLUMNS, delimiter: str = ",") -> str:
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter).writerows([columns, *rows])
    return written.getvalue()


def refused(text: str) -> InvalidConnectionList:
    with pytest.raises(InvalidConnectionList) as caught:
        parse_connection_list(text, now=NOW)
    return caught.value


def bad_lines(text: str) -> dict[int, str]:
    return {row.line: row.reason for row in refused(text).bad_rows}


def test_every_row_is_a_business_with_its_project_and_token() -> None:
    rows = parse_connection_list(
        listed(("acme", "Acme, Inc.", "shopsmall2", TOKEN), ("bolt", " ", " project2 ", TOKEN)),
        now=NOW,
    )
    assert [(row.business_id, row.name, row.project_id) for row in rows] == [
        ("acme", "Acme, Inc.", "shopsmall2"),
        ("bolt", "bolt", "project2"),
    ]
    assert rows[0].token.token.get_secret_value() == TOKEN
    assert TOKEN not in repr(rows)


def test_columns_may_come_in_any_order_and_as_a_spreadsheet_writes_them() -> None:
    written = listed(
        (TOKEN, "acme", "shopsmall2", "Acme"),
        columns=("Token", " BUSINESS_ID ", "project_id", "name"),
        delimiter=";",
    )
    [row] = parse_connection_list("\ufeff" + written, now=NOW)
    assert (row.business_id, row.name, row.project_id) == ("acme", "Acme", "shopsmall2")


def test_empty_lines_are_passed_over_and_counted() -> None:
    text = listed(("acme", "", "shopsmall2", TOKEN)) + "\r\n ,,,\r\nbolt,,no,x\r\n"
    assert set(bad_lines(text)) == {5}


def test_every_bad_row_is_named_with_its_line_and_what_is_wrong() -> None:
    text = listed(
        ("acme", "two\nlines", "shopsmall2", TOKEN),
        ("Not An Id", "", "shopsmall2", TOKEN),
        ("bolt", "", "no!", TOKEN),
        ("cogs", "", "shopsmall2", "abc"),
        ("dent", "", "shopsmall2", TOKEN, "more"),
        ("good", "", "shopsmall2", TOKEN),
        ("good", "again", "shopsmall2", TOKEN),
        ("echo", ""),
    )
    reasons = bad_lines(text)
    assert set(reasons) == {2, 4, 5, 6, 7, 9, 10}
    assert "printable" in reasons[2]
    assert "business_id" in reasons[4]
    assert "project_id" in reasons[5]
    assert "three dot-separated parts" in reasons[6]
    assert "more cells" in reasons[7]
    assert "on line 8 already" in reasons[9]
    assert "project_id" in reasons[10]
    assert "7 of 8 rows" in str(refused(text))


def test_an_expired_token_is_a_bad_row() -> None:
    expired = make_token(expires_at=NOW)
    assert "expired" in bad_lines(listed(("acme", "", "shopsmall2", expired)))[2]


def test_a_token_in_the_wrong_column_is_not_quoted() -> None:
    error = refused(listed((TOKEN, "", TOKEN, "acme"), ("bolt", TOKEN, TOKEN, TOKEN, TOKEN)))
    assert TOKEN[:12] not in f"{error} {error.bad_rows}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no rows"),
        (listed(), "no rows"),
        ("acme,Acme,shopsmall2\n", "must name the columns"),
        ("business_id,project_id,token\nacme,shopsmall2,x\n", "must name the columns"),
        (listed() + 'acme,"Acme,shopsmall2,x\n', "Line 2 is no CSV"),
        (listed() + 'acme,"A"cme,shopsmall2,x\n', "Line 2 is no CSV"),
    ],
)
def test_what_is_no_list_is_refused_as_a_whole(text: str, reason: str) -> None:
    error = refused(text)
    assert reason in str(error)
    assert error.bad_rows == ()


def test_a_list_has_a_thousand_rows_at_most() -> None:
    rows = [(f"b{number}", "", "shopsmall2", TOKEN) for number in range(MAX_ROWS)]
    assert len(parse_connection_list(listed(*rows), now=NOW)) == MAX_ROWS
    assert "1,000" in str(refused(listed(*rows, ("one-more", "", "shopsmall2", TOKEN))))


def test_a_file_that_is_not_utf8_is_refused() -> None:
    assert decode_connection_list("\ufeffä".encode()) == "ä"
    with pytest.raises(InvalidConnectionList, match="UTF-8"):
        decode_connection_list("Söhne".encode("cp1252"))


@given(text=st.text() | st.lists(st.lists(st.text(), max_size=6)).map(lambda rows: listed(*rows)))
def test_whatever_is_sent_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidConnectionList):
        rows = parse_connection_list(text, now=NOW)
        assert len({row.business_id for row in rows}) == len(rows)
