"""`clarity retention`, and what `clarity init` says of Dagster's settings."""

from __future__ import annotations

from sqlalchemy import text

from clarity_pipeline_tests.cli.conftest import Desk


def test_retention_removes_what_the_settings_say_and_a_dry_run_foretells_it(desk: Desk) -> None:
    desk.connect("acme")
    desk.succeed("sync")
    with desk.open_database() as database, database.transaction() as connection:
        # The day could as well have been collected two months ago.
        for table in ("clarity_raw_exports", "clarity_daily_slices", "clarity_daily_metrics"):
            connection.execute(text(f"UPDATE {table} SET date = '{desk.day(60)}'"))
    assert "kept for ever" in desk.succeed("retention").out

    desk.monkeypatch.setenv("CLARITY_KEEP_PAYLOAD_DAYS", "30")
    desk.monkeypatch.setenv("CLARITY_KEEP_EXPORTS_DAYS", "30")
    foretold = desk.succeed("retention", "--dry-run", "--json").document
    assert foretold["dry_run"] is True
    assert foretold["removed"]["exports"]["rows_removed"] == 4
    assert foretold["removed"]["payloads"]["newest_day"] == desk.day(60)
    assert "would be removed" in desk.succeed("retention", "--dry-run").out

    done = desk.succeed("retention", "--json").document
    assert done["removed"] == foretold["removed"]
    again = desk.succeed("retention")
    assert again.out.count("none were removed") == 2
    assert "Dagster runs are kept for ever" in again.out
    replayed = desk.succeed("replay", "--from", desk.day(60), "--to", desk.day(60))
    assert "4 slices stay as they are" in replayed.out


def test_runs_are_removed_too(desk: Desk) -> None:
    desk.connect("acme")
    desk.succeed("sync")
    desk.monkeypatch.setenv("CLARITY_KEEP_RUNS_DAYS", "4")
    # The run of a moment ago is young; tests of the run history move the clock.
    assert desk.succeed("retention", "--json").document["removed"]["runs"]["rows_removed"] == 0


def test_a_limit_too_short_to_be_meant_is_refused(desk: Desk) -> None:
    desk.monkeypatch.setenv("CLARITY_KEEP_EXPORTS_DAYS", "1")
    ran = desk.run("retention", "--json")
    assert (ran.code, ran.error["code"]) == (2, "configuration")
    assert "CLARITY_KEEP_EXPORTS_DAYS" in ran.error["message"]


def test_init_says_which_settings_dagster_has(desk: Desk) -> None:
    assert "was made with the settings of dagster.yaml" in desk.succeed("init").out
    again = desk.succeed("init", "--json").document
    assert (again["dagster_storage"], again["dagster_settings"]) == ("sqlite", "up_to_date")


def test_init_never_replaces_settings_and_says_when_they_are_not_the_wanted_ones(
    desk: Desk,
) -> None:
    desk.succeed("init")
    before = (desk.directory / ".clarity" / "dagster" / "dagster.yaml").read_bytes()
    url = "postgresql+psycopg2://dagster:hunter2@db.example/dagster"
    desk.monkeypatch.setenv("DAGSTER_POSTGRES_URL", url)
    ran = desk.succeed("init")
    assert "keeps its own dagster.yaml" in ran.out
    assert "dagster.postgresql.yaml" in ran.out
    assert desk.succeed("init", "--json").document["dagster_settings"] == "differs"
    assert (desk.directory / ".clarity" / "dagster" / "dagster.yaml").read_bytes() == before
    assert "hunter2" not in desk.printed


def test_an_address_without_the_driver_dagster_needs_is_refused_unquoted(desk: Desk) -> None:
    desk.monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql://dagster:hunter2@db.example/d")
    ran = desk.run("init", "--json")
    assert (ran.code, ran.error["code"]) == (2, "configuration")
    assert "postgresql+psycopg2://" in ran.error["message"]
    assert "hunter2" not in desk.printed
