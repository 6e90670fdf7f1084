"""`clarity notices`: what was told, and whether it arrives."""

from __future__ import annotations

from datetime import UTC, datetime

from clarity_pipeline.domain.notices import Notice, Severity
from clarity_pipeline.store import notices
from clarity_pipeline_tests.cli.conftest import Desk
from clarity_pipeline_tests.notify.receiver import SECRET, webhook


def record(desk: Desk, *, severity: Severity = Severity.ERROR, state: str = "failing") -> None:
    notice = Notice(
        subject="connection:acme", state=state, severity=severity, title="Acme: it broke", body="b"
    )
    with desk.open_database() as database:
        notices.record(database, [notice], now=datetime.now(UTC))


def test_notices_are_listed_with_what_became_of_them(desk: Desk) -> None:
    desk.succeed("init")
    assert "no notice" in desk.succeed("notices").out
    record(desk)
    record(desk, severity=Severity.SILENT, state="paused")
    ran = desk.succeed("notices")
    assert "Acme: it broke" in ran.out
    assert "not sent yet" in ran.out
    assert "CLARITY_NOTICE_URLS names no address" in ran.err
    document = desk.succeed("notices", "--json").document
    assert document["addresses"] == 0
    assert [(n["state"], n["delivery"]) for n in document["notices"]] == [
        ("failing", "not_sent_yet")
    ]
    document = desk.succeed("notices", "--all", "--json").document
    assert [n["state"] for n in document["notices"]] == ["paused", "failing"]


def test_what_waits_can_be_sent_without_dagster(desk: Desk) -> None:
    desk.succeed("init")
    record(desk)
    with webhook() as receiver:
        desk.monkeypatch.setenv("CLARITY_NOTICE_URLS", receiver.url)
        assert desk.succeed("notices", "send", "--json").document["sent"] == 1
        assert desk.succeed("notices", "send", "--json").document["sent"] == 0
    assert receiver.titles == ["Acme: it broke"]
    assert desk.succeed("notices", "--json").document["notices"][0]["delivery"] == "sent"
    assert SECRET not in desk.printed


def test_a_test_says_which_address_failed(desk: Desk) -> None:
    with webhook() as first, webhook() as second:
        desk.monkeypatch.setenv("CLARITY_NOTICE_URLS", f"{first.url}\n{second.url}")
        assert "Address 2 of 2 accepted it." in desk.succeed("notices", "test").out
        second.status = 500
        ran = desk.run("notices", "test")
        assert ran.code == 1
        assert "Address 1 of 2 accepted it." in ran.out
        assert "Address 2 of 2 did not accept it." in ran.out
        failed = desk.run("notices", "test", "--json")
        assert (failed.code, failed.document) == (1, {"addresses": 2, "refused": [2]})
    assert SECRET not in desk.printed


def test_addresses_that_are_missing_or_wrong_are_a_usage_error_without_their_text(
    desk: Desk,
) -> None:
    assert desk.run("notices", "test").code == 2
    desk.monkeypatch.setenv("CLARITY_NOTICE_URLS", f"json://127.0.0.1 {SECRET}")
    ran = desk.run("notices", "test", "--json")
    assert (ran.code, ran.error["code"]) == (2, "configuration")
    assert "Address 2" in ran.error["message"]
    assert SECRET not in desk.printed
