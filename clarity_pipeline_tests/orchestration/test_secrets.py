"""A token leaves the store for the Authorization header and for nowhere else."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from clarity_pipeline.export_api.emulator import Fault
from clarity_pipeline_tests.agency import Agency


def test_a_token_is_in_no_event_log_storage_file_or_captured_line(
    agency: Agency, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Successes, refusals and broken replies, with every logger at its most talkative."""
    agency.connect("acme")
    agency.connect("expired")
    agency.connect("broken")
    agency.emulator.control.revoke_token(agency.projects["expired"].project_id)
    agency.emulator.control.add_fault(
        Fault(project_id=agency.projects["broken"].project_id, body="<html>", times=1)
    )
    agency.emulator.control.add_fault(
        Fault(project_id=agency.projects["broken"].project_id, drop=True, times=1)
    )
    tokens = [agency.token(name) for name in agency.projects]
    with caplog.at_level(logging.DEBUG):
        run = agency.sync()

    home = agency.settings.dagster_home
    files = [path for path in home.rglob("*") if path.is_file()]
    stored = {path: path.read_bytes() for path in files}
    assert any(run.run_id.encode() in content for content in stored.values())
    with agency.instance() as instance:
        event_log = "".join(entry.to_json() for entry in instance.all_logs(run.run_id))
    printed = "".join(capfd.readouterr())
    assert "expired" in event_log
    for token in tokens:
        for secret in (token, token.rsplit(".", 1)[1]):
            assert secret not in event_log
            assert secret not in caplog.text
            assert secret not in printed
            assert [path for path, content in stored.items() if secret.encode() in content] == []


def test_the_database_holds_no_token_in_the_clear(agency: Agency, tmp_path: Path) -> None:
    agency.connect("acme")
    secret = agency.token("acme").encode()
    if agency.database.dialect_name == "sqlite":
        agency.database.close()
        assert [p for p in tmp_path.rglob("clarity.db*") if secret in p.read_bytes()] == []
    else:
        with agency.database.reading() as connection:
            rows = connection.exec_driver_sql("SELECT * FROM clarity_business_config").all()
        assert rows
        assert secret.decode() not in repr(rows)
