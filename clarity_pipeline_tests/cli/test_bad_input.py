"""What cannot be done is refused in one sentence, with the exit code that scripts rely on."""

from __future__ import annotations

import base64
import json
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from clarity_pipeline.domain.connections import MAX_TOKEN_LENGTH
from clarity_pipeline.export_api.emulator import emulator_token
from clarity_pipeline.store.schema import VERSION_TABLE
from clarity_pipeline_tests.cli.conftest import Desk, Ran

PASSWORD = "correct-horse-battery"


def assert_refused(ran: Ran, *, exit_code: int, code: str, saying: str) -> None:
    """Refused by this class, in one JSON line on standard error, with nothing on the other."""
    assert ran.out == ""
    assert (ran.code, ran.error["code"]) == (exit_code, code)
    assert saying in ran.error["message"]
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("arguments", "code", "saying"),
    [
        (["business", "add", "Not Valid"], "invalid_business_id", "'Not Valid'"),
        (["business", "add", "acme"], "invalid_business_id", "already"),
        (["test", "nobody"], "unknown_business", "'nobody'"),
        (["enable", "nobody"], "unknown_business", "'nobody'"),
        (["disable", "nobody"], "unknown_business", "'nobody'"),
        (["disconnect", "nobody"], "unknown_business", "'nobody'"),
        (["status", "nobody"], "unknown_business", "'nobody'"),
        (["purge", "nobody"], "unknown_business", "'nobody'"),
        (["quota", "nobody"], "unknown_business", "'nobody'"),
        (["sync", "--business", "nobody"], "unknown_business", "'nobody'"),
        (
            ["replay", "--from", "2026-03-01", "--to", "2026-03-01", "--business", "nobody"],
            "unknown_business",
            "'nobody'",
        ),
        (
            ["aggregates", "nobody", "--from", "2026-03-01", "--to", "2026-03-01"],
            "unknown_business",
            "'nobody'",
        ),
        (["connect", "nobody", "--project-id", "shopsmall2"], "unknown_business", "'nobody'"),
        (["connect", "acme", "--project-id", "no!"], "invalid_project_id", "6 to 20"),
        (["test", "bare"], "not_connected", "clarity connect bare"),
        (["enable", "bare"], "not_connected", "clarity connect bare"),
        (["overview", "bare", "on"], "not_connected", "clarity connect bare"),
        (["overview", "nobody", "on"], "unknown_business", "'nobody'"),
        (["quota", "bare"], "not_connected", "clarity connect bare"),
        (["sync", "--business", "bare"], "not_connected", "clarity connect bare"),
        (["sync", "--business", "paused"], "sync_disabled", "clarity enable paused"),
        (["sync", "--day", "2999-01-01"], "invalid_day", "not over yet"),
        (["sync", "--day", "yesterday"], "invalid_day", "YYYY-MM-DD"),
        (["sync", "--day", "2026-13-01"], "invalid_day", "YYYY-MM-DD"),
        (
            ["sync", "--day", "2026-01-01", "--business", "acme"],
            "invalid_day",
            "the first day there can be data of",
        ),
        (["replay", "--from", "2026-03-02", "--to", "2026-03-01"], "invalid_day", "swap"),
        (["replay", "--from", "2026-03-02", "--to", "2999-01-01"], "invalid_day", "not over yet"),
        (["replay", "--from", "x", "--to", "2026-03-01"], "invalid_day", "YYYY-MM-DD"),
        (
            ["aggregates", "acme", "--from", "2026-03-02", "--to", "2026-03-01"],
            "invalid_day",
            "swap",
        ),
        (["nonsense"], "usage", "nonsense"),
        (["connect", "acme"], "usage", "--project-id"),
        (["sync", "--nonsense"], "usage", "--nonsense"),
        (
            ["aggregates", "acme", "--from", "2026-03-01", "--to", "2026-03-01", "--by", "moon"],
            "usage",
            "moon",
        ),
    ],
)
def test_wrong_input_ends_with_2(desk: Desk, arguments: list[str], code: str, saying: str) -> None:
    desk.connect("acme")
    desk.connect("paused")
    desk.succeed("disable", "paused")
    desk.succeed("business", "add", "bare")
    ran = desk.run(*arguments, "--json", stdin=emulator_token("shopsmall2"))
    assert_refused(ran, exit_code=2, code=code, saying=saying)
    assert desk.emulator.control.calls() == []


def _jwt(claims: object) -> str:
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"eyJh.{middle}.c2ln"


@pytest.mark.parametrize(
    ("token", "saying"),
    [
        ("", "not a Clarity API token"),
        ("hunter2", "not a Clarity API token"),
        ("a.b", "not a Clarity API token"),
        ("!!.??.##", "not a Clarity API token"),
        ("a.b.c", "cannot be read"),
        (_jwt("no claims"), "cannot be read"),
        (_jwt({"aud": "somebody.else"}), "another service"),
        (_jwt({"exp": 1_700_000_000}), "expired on 2023-11-14 22:13 UTC"),
        (f"{_jwt({})}{'x' * MAX_TOKEN_LENGTH}", "not a Clarity API token"),
    ],
)
def test_what_is_no_good_token_is_refused_and_changes_nothing(
    desk: Desk, token: str, saying: str
) -> None:
    desk.connect("acme")
    before = desk.succeed("status", "--json").document
    ran = desk.run("connect", "acme", "--project-id", "other99999", "--json", stdin=token)
    assert_refused(ran, exit_code=2, code="invalid_token", saying=saying)
    assert len(token) < 6 or token not in ran.err
    assert desk.succeed("status", "--json").document == before


def test_a_token_that_expired_since_is_refused_by_clarity_alone(desk: Desk) -> None:
    desk.add_project("shopsmall2")
    desk.succeed("init")
    desk.succeed("business", "add", "acme")
    soon = datetime.now(UTC) + timedelta(seconds=60)
    token = emulator_token("shopsmall2", expires_at=soon)
    desk.succeed("connect", "acme", "--project-id", "shopsmall2", stdin=token)
    desk.emulator.control.set_clock(soon + timedelta(seconds=1))
    assert desk.run("test", "acme").code == 4


@pytest.mark.parametrize(
    ("variable", "value", "exit_code", "code", "saying"),
    [
        ("CLARITY_API_URL", "ftp://clarity.example", 2, "configuration", "https"),
        ("CLARITY_API_URL", "nonsense", 2, "configuration", "https"),
        ("CLARITY_API_URL", "http://clarity.example/v1", 2, "configuration", "plain http"),
        ("CLARITY_API_URL", "https://me:pw@clarity.example", 2, "configuration", "password"),
        ("CLARITY_OVERVIEW", "perhaps", 2, "configuration", "CLARITY_OVERVIEW"),
        ("CLARITY_DATABASE_URL", "nonsense", 2, "configuration", "not a database address"),
        ("CLARITY_DATABASE_URL", "mysql://root@localhost/x", 2, "configuration", "not supported"),
        ("CLARITY_DATABASE_URL", "sqlite://", 2, "configuration", "names no file"),
        (
            "CLARITY_DATABASE_URL",
            f"postgresql://someone:{PASSWORD}@127.0.0.1:1/nothing",
            1,
            "database_unreachable",
            "cannot be reached",
        ),
        ("CLARITY_DATABASE_URL", "sqlite:////proc/no/file.db", 1, "database_unreachable", ""),
        ("CLARITY_SECRET_KEYS", "too-short", 2, "secret_key", "malformed"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    desk: Desk, variable: str, value: str, exit_code: int, code: str, saying: str
) -> None:
    desk.connect("acme")
    desk.monkeypatch.setenv(variable, value)
    ran = desk.run("sync", "--json")
    assert_refused(ran, exit_code=exit_code, code=code, saying=saying)
    assert PASSWORD not in ran.err
    assert "pw@" not in ran.err
    assert desk.emulator.control.calls() == []


def test_a_missing_key_file_stops_a_sync_before_it_starts(desk: Desk) -> None:
    desk.connect("acme")
    (desk.directory / ".clarity" / "secret.key").unlink()
    for arguments in (["sync"], ["test", "acme"], ["keys", "rotate"]):
        ran = desk.run(*arguments, "--json")
        assert_refused(ran, exit_code=2, code="secret_key", saying="clarity init")
    assert desk.succeed("status", "--json").document["businesses"][0]["last_job"] is None
    assert desk.emulator.control.calls() == []


def test_a_wrong_key_touches_nothing(desk: Desk) -> None:
    desk.connect("acme")
    desk.monkeypatch.setenv("CLARITY_SECRET_KEYS", desk.succeed("keys", "generate").out.strip())
    for arguments in (["keys", "rotate"], ["test", "acme"]):
        ran = desk.run(*arguments, "--json")
        assert_refused(ran, exit_code=2, code="secret_key", saying="No secret key reads")
    assert desk.run("sync").code == 1
    assert desk.emulator.control.calls() == []
    desk.monkeypatch.delenv("CLARITY_SECRET_KEYS")
    [status] = desk.succeed("status", "--json").document["businesses"]
    assert (status["sync_enabled"], status["last_test_result"]) == (True, None)
    desk.succeed("test", "acme")


def test_a_database_that_cannot_be_written_says_so(desk: Desk) -> None:
    desk.connect("acme")
    path = desk.directory / ".clarity" / "clarity.db"
    desk.monkeypatch.setenv("CLARITY_DATABASE_URL", f"sqlite:///file:{path}?mode=ro&uri=true")
    desk.succeed("status")
    ran = desk.run("business", "add", "bolt", "--json")
    assert_refused(ran, exit_code=1, code="database_read_only", saying="write permission")


def test_a_database_of_something_else_is_left_alone(desk: Desk) -> None:
    path = desk.directory / "notes.db"
    path.write_text("These are notes, not a database. " * 40)
    desk.monkeypatch.setenv("CLARITY_DATABASE_URL", f"sqlite:///{path}")
    ran = desk.run("status", "--json")
    assert_refused(ran, exit_code=1, code="schema_mismatch", saying="not a SQLite database")
    assert path.read_text().startswith("These are notes")


def test_a_database_of_a_later_program_is_refused(desk: Desk) -> None:
    desk.connect("acme")
    with sqlite3.connect(desk.directory / ".clarity" / "clarity.db") as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    connection.close()
    ran = desk.run("status", "--json")
    assert_refused(ran, exit_code=1, code="schema_mismatch", saying="newer")


def test_an_unexpected_error_is_one_sentence_and_how_to_see_more(desk: Desk) -> None:
    desk.connect("acme")
    # Nobody foresees a directory in the place of Dagster's settings.
    settings = desk.directory / ".clarity" / "dagster" / "dagster.yaml"
    settings.unlink()
    settings.mkdir()
    ran = desk.run("sync")
    assert ran.code == 1
    assert "IsADirectoryError" in ran.err
    assert "clarity --debug" in ran.err
    assert "Traceback" not in ran.err
    assert "Traceback" in desk.run("--debug", "sync").err


def test_an_error_for_people_is_one_line(desk: Desk) -> None:
    ran = desk.run("status", "nobody")
    assert ran.err.startswith("Error: There is no business 'nobody'")
    assert len(ran.err.splitlines()) == 1
