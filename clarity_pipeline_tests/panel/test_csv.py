"""Tables as files that people keep."""

from __future__ import annotations

from clarity_pipeline.panel.csv import csv_download


def test_excel_is_told_that_it_is_utf_8() -> None:
    reply = csv_download("pages", ["url"], [["größe"]])
    assert reply.body == b"\xef\xbb\xbf" + "url\r\ngröße\r\n".encode()
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"


def test_a_name_of_a_file_cannot_leave_its_header_or_its_folder() -> None:
    reply = csv_download('../"x"\r\nSet-Cookie: a', ["a"], [])
    assert reply.headers["content-disposition"] == 'attachment; filename="x-Set-Cookie-a.csv"'
