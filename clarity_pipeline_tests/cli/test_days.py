"""Collecting days, replaying them, and reading what they add up to."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from clarity_pipeline.cli.days import sync_exit_code
from clarity_pipeline.domain.metrics import AGGREGATE_METRICS
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.export_api.emulator import emulator_token
from clarity_pipeline.store import daily_metrics, sync_jobs
from clarity_pipeline.store.aggregates import get_business_behavioral_aggregates
from clarity_pipeline.store.sync_jobs import SyncJob
from clarity_pipeline_tests.cli.conftest import Desk


def test_sync_collects_yesterday_for_everybody(desk: Desk) -> None:
    desk.connect("acme", "shopsmall2")
    desk.connect("bolt", "shopsmall33")
    document = desk.succeed("sync", "--json").document
    assert document["day"] == desk.day(0)
    assert [(job["business_id"], job["status"], job["calls_used"]) for job in document["jobs"]] == [
        ("acme", "succeeded", 4),
        ("bolt", "succeeded", 4),
    ]
    assert all(job["rows_written"] > 0 for job in document["jobs"])
    assert all(job["trigger"] == "manual" for job in document["jobs"])
    assert len(desk.emulator.control.calls()) == 8


def test_sync_again_costs_no_call(desk: Desk) -> None:
    desk.connect("acme")
    desk.succeed("sync")
    [job] = desk.succeed("sync", "--json").document["jobs"]
    assert (job["status"], job["calls_used"], job["rows_written"]) == ("succeeded", 0, 0)
    assert len(desk.emulator.control.calls()) == 4


def test_sync_of_one_business_leaves_the_others_alone(desk: Desk) -> None:
    desk.connect("acme", "shopsmall2")
    desk.connect("bolt", "shopsmall33")
    [job] = desk.succeed("sync", "--business", "bolt", "--json").document["jobs"]
    assert job["business_id"] == "bolt"


def test_sync_prints_only_its_table_and_nothing_of_dagster(desk: Desk) -> None:
    desk.connect("acme")
    ran = desk.succeed("sync")
    assert "succeeded" in ran.out
    assert "RUN_SUCCESS" not in ran.out + ran.err
    assert ran.err == ""


def test_sync_without_anybody_to_sync_says_so(desk: Desk) -> None:
    assert "No business is connected" in desk.succeed("sync").out
    assert desk.succeed("sync", "--json").document["jobs"] == []


def test_sync_with_a_refused_token_ends_with_4(desk: Desk) -> None:
    desk.connect("acme")
    desk.emulator.control.revoke_token("shopsmall2")
    ran = desk.run("sync")
    assert ran.code == 4
    assert "auth failed" in ran.out
    assert "refused the token" in ran.out
    assert "None of 1 businesses" not in ran.err
    assert "Switched off until connected with another token: acme." in ran.out


def test_what_several_businesses_have_in_common_is_said_once(desk: Desk) -> None:
    desk.connect("acme", "shopsmall2")
    desk.connect("bolt", "shopsmall33")
    desk.emulator.control.set_outage(on=True)
    ran = desk.run("sync")
    assert ran.out.count("Clarity failed on its side") == 1
    assert "2 businesses: Clarity failed on its side" in ran.out


def test_sync_without_quota_ends_with_3(desk: Desk) -> None:
    desk.connect("acme")
    desk.emulator.control.set_quota_used("shopsmall2", used=10)
    assert desk.run("sync").code == 3


def test_sync_with_different_failures_ends_with_1_and_keeps_the_rest(desk: Desk) -> None:
    desk.connect("acme", "shopsmall2")
    desk.connect("bolt", "shopsmall33")
    desk.connect("coop", "shopsmall444")
    desk.emulator.control.revoke_token("shopsmall2")
    desk.emulator.control.set_quota_used("shopsmall33", used=10)
    ran = desk.run("sync", "--json")
    assert ran.code == 1
    assert {job["business_id"]: job["status"] for job in ran.document["jobs"]} == {
        "acme": "auth_failed",
        "bolt": "rate_limited",
        "coop": "succeeded",
    }


def test_a_day_that_clarity_no_longer_answers_for_is_a_gap(desk: Desk) -> None:
    desk.connect("acme")
    _backdate_connections(desk)
    ran = desk.run("sync", "--day", desk.day(3), "--json")
    [job] = ran.document["jobs"]
    assert (ran.code, job["status"], job["error_code"]) == (1, "skipped", "gap")
    assert desk.emulator.control.calls() == []


def test_sync_of_a_missed_day_recovers_it_where_that_is_switched_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLARITY_RECOVERY", "1")
    desk.connect("acme")
    _backdate_connections(desk)
    desk.succeed("sync")
    words = " ".join(desk.succeed("sync", "--day", desk.day(1)).out.split())
    assert "The day had been missed. Recovered from longer replies and marked as derived" in words
    assert "URL + Device, URL + Source, URL + Country, URL + Campaign + Channel." in words
    assert len(desk.emulator.control.calls()) == 8


def _job(*combos: str, status: JobStatus = JobStatus.PARTIAL) -> SyncJob:
    return SyncJob(
        id=1,
        business_id="acme",
        day=date(2026, 3, 1),
        trigger=Trigger.MANUAL,
        status=status,
        dagster_run_id="run",
        worker=None,
        started_at=datetime(2026, 3, 2, tzinfo=UTC),
        finished_at=None,
        calls_used=0,
        rows_written=0,
        combos={str(number): {"status": combo} for number, combo in enumerate(combos)},
        error_code=None,
        error_message=None,
    )


@pytest.mark.parametrize(
    ("jobs", "run_succeeded", "code"),
    [
        ([], True, 0),
        ([_job("landed", "already_landed")], True, 0),
        ([_job("landed"), _job("rate_limited")], True, 3),
        ([_job("landed", "quota_refused")], True, 3),
        ([_job("rate_limited"), _job("quota_refused")], False, 3),
        ([_job("auth_failed", "auth_failed")], False, 4),
        ([_job("landed"), _job("auth_failed")], True, 4),
        ([_job("auth_failed"), _job("rate_limited")], False, 1),
        ([_job("gap")], True, 1),
        ([_job("unavailable")], False, 1),
        ([_job("landed")], False, 1),
        ([_job("landed"), _job("auth_failed")], False, 1),
        ([_job(status=JobStatus.RUNNING)], False, 1),
        ([], False, 1),
    ],
)
def test_the_exit_code_names_the_one_reason_there_is(
    jobs: list[SyncJob], run_succeeded: bool, code: int
) -> None:
    assert sync_exit_code(jobs, run_succeeded=run_succeeded) == code


def test_replay_rebuilds_what_is_gone_without_a_call(desk: Desk) -> None:
    desk.connect("acme")
    desk.succeed("sync")
    before = _rows(desk)
    _delete_metrics(desk)
    calls = len(desk.emulator.control.calls())
    [replayed] = desk.succeed(
        "replay", "--from", desk.day(0), "--to", desk.day(0), "--json"
    ).document["days"]
    assert (replayed["status"], replayed["slices"]) == ("rebuilt", 4)
    assert replayed["rows_written"] == before == _rows(desk)
    assert len(desk.emulator.control.calls()) == calls


def test_replay_leaves_a_job_to_show_for_it(desk: Desk) -> None:
    desk.connect("acme")
    desk.succeed("sync")
    desk.succeed("replay", "--from", desk.day(0), "--to", desk.day(0))
    with desk.open_database() as database:
        job = sync_jobs.latest_jobs(database, business_ids=["acme"])["acme"]
    assert (job.trigger, job.status, job.calls_used) == (Trigger.REPLAY, JobStatus.SUCCEEDED, 0)


def test_replay_calls_a_day_without_replies_a_gap(desk: Desk) -> None:
    desk.connect("acme")
    desk.succeed("sync")
    window = ("--from", desk.day(1), "--to", desk.day(0), "--business", "acme")
    days = desk.succeed("replay", *window, "--json").document["days"]
    assert [day["status"] for day in days] == ["gap", "rebuilt"]
    assert "gap: nothing landed" in desk.succeed("replay", *window).out


def test_replay_of_a_damaged_reply_fails_that_business_only(desk: Desk) -> None:
    desk.connect("acme", "shopsmall2")
    desk.connect("bolt", "shopsmall33")
    desk.succeed("sync")
    _damage_a_reply(desk, "acme")
    ran = desk.run("replay", "--from", desk.day(0), "--to", desk.day(0))
    assert ran.code == 1
    assert "acme" in ran.err
    assert "sha256" in ran.err
    assert "bolt" not in ran.err
    with desk.open_database() as database:
        jobs = sync_jobs.latest_jobs(database, business_ids=["acme", "bolt"])
    assert jobs["acme"].status is JobStatus.FAILED
    assert jobs["bolt"].status is JobStatus.SUCCEEDED


def test_aggregates_are_those_of_the_function_that_rules_call(desk: Desk) -> None:
    desk.connect("acme", sessions_per_day=80)
    desk.succeed("sync")
    window = ("--from", desk.day(6), "--to", desk.day(0))
    document = desk.succeed("aggregates", "acme", *window, "--json").document
    with desk.open_database() as database:
        values = get_business_behavioral_aggregates(
            "acme", date.fromisoformat(desk.day(6)), desk.yesterday, database=database
        )
    assert {name: document[name] for name in AGGREGATE_METRICS} == values.metrics()
    assert document["clarity_sessions"] > 0
    assert (document["days_in_window"], document["days_with_data"]) == (7, 1)
    assert document["last_date"] == desk.day(0)
    text = desk.succeed("aggregates", "acme", *window).out
    assert "1 of 7 days" in text
    assert all(name in text for name in AGGREGATE_METRICS)


def test_pages_come_with_the_most_trouble_first(desk: Desk) -> None:
    desk.connect("acme", sessions_per_day=300, pages=30)
    desk.succeed("sync")
    window = ("--from", desk.day(0), "--to", desk.day(0), "--by", "url")
    document = desk.succeed("aggregates", "acme", *window, "--json", "--limit", "5").document
    trouble = [
        (page["clarity_rage_clicks"], page["clarity_dead_clicks"]) for page in document["urls"]
    ]
    assert len(trouble) == 5 < document["pages"]
    assert trouble == sorted(trouble, reverse=True)
    assert trouble[0][0] > 0
    assert document["urls"][0]["url"] in desk.succeed("aggregates", "acme", *window).out


def test_aggregates_of_a_paused_business_say_why_there_are_none(desk: Desk) -> None:
    desk.connect("acme")
    desk.succeed("sync")
    desk.succeed("disable", "acme")
    window = ("--from", desk.day(0), "--to", desk.day(0))
    assert (
        desk.succeed("aggregates", "acme", *window, "--json").document["clarity_sessions"] is None
    )
    assert "clarity enable acme" in desk.succeed("aggregates", "acme", *window).out


def test_no_token_is_ever_printed_logged_or_kept_readable(desk: Desk) -> None:
    token = desk.connect("acme")
    revoked = emulator_token("shopsmall2", serial=2)
    window = ("--from", desk.day(0), "--to", desk.day(0))
    desk.succeed("--debug", "sync")
    for arguments in (
        ["--debug", "test", "acme"],
        ["status", "--json"],
        ["quota", "acme"],
        ["business", "list", "--json"],
        ["replay", *window],
        ["aggregates", "acme", *window],
        ["keys", "rotate"],
    ):
        desk.succeed(*arguments)
    desk.emulator.control.revoke_token("shopsmall2", serial=2)
    desk.succeed("connect", "acme", "--project-id", "shopsmall2", stdin=revoked)
    desk.run("--debug", "test", "acme")
    desk.run("--debug", "connect", "acme", "--project-id", "!", stdin=token)
    desk.run("--debug", "connect", "acme", "--project-id", "shopsmall2", stdin=f"x{token}.y")
    for secret in (token, revoked):
        signature = secret.split(".")[2]
        assert signature[:40] not in desk.printed
        for path in desk.directory.rglob("*"):
            if path.is_file():
                assert signature[:40].encode() not in path.read_bytes(), path


def _backdate_connections(desk: Desk) -> None:
    with desk.open_database() as database, database.transaction() as connection:
        connection.exec_driver_sql(
            "UPDATE clarity_business_config SET created_at = '2026-01-05 00:00:00.000000'"
        )


def _rows(desk: Desk) -> int:
    with desk.open_database() as database:
        slices = daily_metrics.list_slices(database, start=desk.yesterday, end=desk.yesterday)
        return sum(
            len(
                daily_metrics.read_metrics(
                    database,
                    business_id=state.business_id,
                    day=state.day,
                    dimension_set=state.dimension_set,
                )
            )
            for state in slices
        )


def _delete_metrics(desk: Desk) -> None:
    """The rows alone: what says that they were built stays, as after a careless DELETE."""
    with desk.open_database() as database, database.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM clarity_daily_metrics")


def _damage_a_reply(desk: Desk, business_id: str) -> None:
    with desk.open_database() as database, database.transaction() as connection:
        connection.exec_driver_sql(
            "UPDATE clarity_raw_exports SET sha256 = 'not what it was' WHERE business_id = ?",
            (business_id,),
        )
