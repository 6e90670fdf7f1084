"""Files about ads: which column means what, and what makes a file no use at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarity_pipeline.domain import ad_files
from clarity_pipeline.domain.ad_files import read_ad_file, read_json_row
from clarity_pipeline.domain.errors import InvalidAdRows

META_REPORT = (
    "Reporting starts,Reporting ends,Campaign name,Campaign ID,Ad name,Ad ID,Ad delivery,"
    "Attribution setting,Results,Reach,Impressions,Amount spent (USD),Clicks (all),Link clicks,"
    "Purchases conversion value\r\n"
    "2026-11-01,2026-11-01,Spring,120208000000000001,Blue,120208000000000003,active,"
    "7-day click,3,900,1000,12.34,40,38,99.5\r\n"
)


def rows_of(text: str | bytes) -> list[tuple[int, Any]]:
    content = text.encode() if isinstance(text, str) else text
    return list(read_ad_file(content).rows)


def test_cells_go_by_the_names_in_the_first_line_in_any_order_and_case() -> None:
    assert rows_of("Spend, ID ,date\n1.5,7,2026-11-01\n") == [
        (2, {"spend": "1.5", "id": "7", "date": "2026-11-01"})
    ]


@pytest.mark.parametrize(
    "content",
    [
        "id,level,name\r\n1,ad,Söhne\r\n",
        "\ufeffid,level,name\n1,ad,Söhne",
        "id;level;name\n1;ad;Söhne\n",
        "id\tlevel\tname\n1\tad\tSöhne\n",
        '"id","level","name"\n"1","ad","Söhne"\n',
        "\n\nid,level,name\n1,ad,Söhne\n\n",
    ],
    ids=["crlf", "byte order mark", "semicolons", "tabs", "quoted", "empty lines"],
)
def test_the_files_of_every_spreadsheet_say_the_same(content: str) -> None:
    assert [row for _, row in rows_of(content)] == [{"id": "1", "level": "ad", "name": "Söhne"}]


def test_a_row_has_the_line_on_which_it_begins() -> None:
    content = 'id,level,name\n1,ad,"two\nlines"\n\n2,ad,"a ""quoted"" word"\n3\n'
    assert rows_of(content) == [
        (2, {"id": "1", "level": "ad", "name": "two\nlines"}),
        (5, {"id": "2", "level": "ad", "name": 'a "quoted" word'}),
        (6, {"id": "3", "level": "", "name": ""}),
    ]


def test_a_report_of_meta_is_read_by_its_own_headings() -> None:
    file = read_ad_file(META_REPORT.encode())
    assert file.platform == "meta"
    assert file.passed_over == ("Attribution setting", "Reach")
    assert list(file.rows) == [
        (
            2,
            {
                "currency": "USD",
                "first_day": "2026-11-01",
                "last_day": "2026-11-01",
                "campaign_name": "Spring",
                "campaign_id": "120208000000000001",
                "ad_name": "Blue",
                "ad_id": "120208000000000003",
                "ad_status": "active",
                "conversions": "3",
                "impressions": "1000",
                "spend": "12.34",
                "clicks": "40",
                "ad.link_clicks": "38",
                "revenue": "99.5",
            },
        )
    ]


def test_further_sums_are_headed_as_a_rule_writes_them() -> None:
    assert rows_of("id,date,ad.leads\n1,2026-11-01,3\n")[0][1]["ad.leads"] == "3"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "empty"),
        ("  \n ", "empty"),
        ("id,spnd\n1,2\n", "not known here: 'spnd'"),
        ("id,ad.Add To Cart\n1,2\n", "not known here: 'ad.Add To Cart'"),
        ("id,Reach\n1,2\n", "not known here: 'Reach'"),
        ("id,ID\n1,2\n", "More than one column says the id"),
        ("reporting starts,Amount spent (EUR),spend,id\n", "More than one column says the spend"),
        ("Amount spent (EUR),currency,id\n", "More than one column says the currency"),
        (",\n", "names no column"),
        ('id,name\n1,"never closed\n', "Line 2 is no CSV"),
        ('"id,name\n', "Line 1 is no CSV"),
        (b"id,name\n1,S\xf6hne\n", "not UTF-8"),
        ("id,name\n1,a\n".encode("utf-16"), "not UTF-8"),
        ('[{"id": 1}', "JSON array"),
        ("[1, 2,]", "JSON array"),
        ("[" * 100_000, "JSON array"),
        ("[" + "9" * 5000 + "]", "JSON array"),
    ],
)
def test_a_file_that_cannot_be_read_as_a_whole_is_refused(
    content: str | bytes, reason: str
) -> None:
    with pytest.raises(InvalidAdRows, match=reason):
        rows_of(content)


def test_the_rows_of_an_array_have_places_and_those_of_json_lines_have_lines() -> None:
    assert rows_of('[{"id": 7},\n {"ID": "8"}, 5]') == [(1, {"id": 7}), (2, {"id": "8"}), (3, 5)]
    assert rows_of('{"id": 7}\n\n{"id"\n{"id": "a\u2028b"}\n') == [
        (1, {"id": 7}),
        (3, None),
        (4, {"id": "a\u2028b"}),
    ]


def test_rows_of_metas_insights_are_read_by_their_own_names() -> None:
    row = {"adset_id": "2", "date_start": "2026-11-01", "account_currency": "EUR", "spend": "1.5"}
    assert read_json_row(row) == {
        "ad_set_id": "2",
        "first_day": "2026-11-01",
        "currency": "EUR",
        "spend": "1.5",
    }
    assert read_json_row([1]) == [1]


def test_a_file_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ad_files, "MAX_FILE_ROWS", 2)
    assert len(rows_of("id\n1\n2\n")) == 2
    for content in ("id\n1\n2\n3\n", "[1, 2, 3]", '{"id": 1}\n{"id": 2}\n{"id": 3}'):
        with pytest.raises(InvalidAdRows, match="divide it"):
            rows_of(content)


@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_whatever_a_file_holds_it_is_read_or_refused(content: bytes) -> None:
    try:
        rows = rows_of(content)
    except InvalidAdRows:
        return
    assert all(line >= 1 for line, _ in rows)


@given(cells=st.lists(st.text(max_size=10), min_size=1, max_size=5))
def test_a_cell_is_read_as_it_was_written(cells: list[str]) -> None:
    quoted = [cell.replace('"', '""') for cell in cells]
    content = "id,name\n" + "".join(f'1,"{cell}"\n' for cell in quoted)
    names = [cast("Mapping[str, object]", row)["name"] for _, row in rows_of(content)]
    assert names == cells
