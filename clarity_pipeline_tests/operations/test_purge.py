"""What a purge takes away and what it leaves, on both databases."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from clarity_pipeline.domain.days import end_of
from clarity_pipeline.domain.dimensions import URL_DEVICE, URL_SOURCE
from clarity_pipeline.domain.errors import PurgeRefused, StoreError, UnknownBusiness
from clarity_pipeline.domain.quota import Purpose
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.operations.purge import purge, purge_preview
from clarity_pipeline.operations.rebuild_day import rebuild
from clarity_pipeline.operations.rule_evaluation import evaluate_day
from clarity_pipeline.operations.sync_requests import request_sync
from clarity_pipeline.store import connections, quota_ledger, rules, sync_jobs
from clarity_pipeline.store import purge as store
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.vault import TokenVault
from clarity_pipeline_tests.domain.replies import Visits
from clarity_pipeline_tests.domain.rules.histories import condition, rule
from clarity_pipeline_tests.factories import (
    DAY,
    NOW,
    connect_business,
    land_export,
    make_export,
)

HISTORY = (
    "rule_decisions",
    "rule_actions",
    "rule_evaluations",
    "clarity_daily_metrics",
    "clarity_url_aggregates",
    "clarity_url_week_aggregates",
    "clarity_dimension_aggregates",
    "clarity_business_aggregates",
    "clarity_daily_slices",
    "clarity_raw_exports",
    "clarity_sync_requests",
    "clarity_sync_jobs",
)
KEPT = ("clarity_api_calls", "clarity_business_config")

# October and November: on PostgreSQL two partitions.
DAYS = [DAY - timedelta(days=1), DAY, DAY + timedelta(days=1)]


def work_on(database: Database, business_id: str, day: date, status: JobStatus) -> None:
    """A job of a run of its own, running or settled."""
    ids = sync_jobs.start_jobs(
        database,
        business_ids=[business_id],
        day=day,
        trigger=Trigger.SCHEDULE,
        dagster_run_id=f"{business_id} {day}",
        now=NOW,
    )
    if status is not JobStatus.RUNNING:
        sync_jobs.settle_job(
            database,
            job_id=ids[business_id],
            status=status,
            calls_used=2,
            combos={},
            error_code=None,
            error_message=None,
            now=NOW,
        )


@pytest.fixture
def history(database: Database, vault: TokenVault) -> Database:
    """Two businesses with three days each, of which acme has been disconnected."""
    for number, business_id in enumerate(("acme", "globex")):
        project_id = f"project{number:03d}"
        connect_business(database, vault, business_id=business_id, project_id=project_id)
        for day in DAYS:
            for combo in (URL_DEVICE, URL_SOURCE):
                visits = Visits(("https://shop.example/", "PC"), sessions=3, dead=1)
                export = make_export(visits, combo=combo, requested_at=NOW + (day - DAY))
                land_export(database, export, business_id=business_id, day=day)
            work_on(database, business_id, day, JobStatus.SUCCEEDED)
        quota_ledger.reserve(
            database,
            project_id=project_id,
            business_id=business_id,
            purpose=Purpose.TEST,
            day=DAY,
            dimension_set="Country,URL",
            may_use_share=False,
            now=NOW,
        )
        request_sync(database, business_id=business_id, requested_by="ann", now=NOW)
    for day in DAYS:
        rebuild(database, day=day, now=NOW)
    rules.save_rule(
        database,
        rule(condition("clarity_sessions", value=1), level="business", status="armed"),
        made_by="ann",
        now=NOW,
    )
    # The last of the days is not over at NOW.
    for day in DAYS:
        evaluate_day(database, day=day, now=end_of(day), run_id=None)
    connections.disconnect(database, business_id="acme", now=NOW)
    return database


def rows_of(database: Database, business_id: str) -> dict[str, list[Any]]:
    """Everything there is of a business, by table, in any fixed order."""
    with database.reading() as connection:
        return {
            table: sorted(
                repr(tuple(row))
                for row in connection.execute(
                    text(f"SELECT * FROM {table} WHERE business_id = :id"), {"id": business_id}
                )
            )
            for table in (*HISTORY, *KEPT)
        }


def days_of_metrics(database: Database, business_id: str) -> list[str]:
    with database.reading() as connection:
        days = connection.scalars(
            text("SELECT DISTINCT date FROM clarity_daily_metrics WHERE business_id = :id"),
            {"id": business_id},
        )
        return sorted(str(day) for day in days)


def test_all_that_was_collected_goes_and_nothing_else_does(history: Database) -> None:
    own, others = rows_of(history, "acme"), rows_of(history, "globex")
    assert all(own[table] and others[table] for table in (*HISTORY, *KEPT))
    preview = purge_preview(history, "acme")
    assert preview.rows == {table: len(own[table]) for table in HISTORY}
    assert (preview.first_day, preview.last_day) == (DAYS[0], DAYS[-1])
    assert rows_of(history, "acme") == own

    purged = purge(history, "acme")
    assert (purged.rows, purged.days) == (preview.rows, len(DAYS))
    left = rows_of(history, "acme")
    assert left == {table: [] if table in HISTORY else own[table] for table in left}
    assert rows_of(history, "globex") == others
    assert connections.get_connection(history, "acme").name == "Acme"


def test_a_second_time_there_is_nothing_left(history: Database) -> None:
    purge(history, "acme")
    assert purge(history, "acme").total == 0
    preview = purge_preview(history, "acme")
    assert (preview.total, preview.first_day, preview.last_day) == (0, None, None)


def test_a_connected_business_and_an_unknown_one_are_refused(history: Database) -> None:
    before = rows_of(history, "globex")
    with pytest.raises(PurgeRefused, match="clarity disconnect globex"):
        purge(history, "globex")
    assert rows_of(history, "globex") == before
    for refused in (purge, purge_preview):
        with pytest.raises(UnknownBusiness):
            refused(history, "nobody")


def test_a_business_with_a_running_job_is_refused(history: Database) -> None:
    before = rows_of(history, "acme")
    work_on(history, "acme", DAY, JobStatus.RUNNING)
    with pytest.raises(PurgeRefused, match=f"about {DAY} is still running"):
        purge(history, "acme")
    assert rows_of(history, "acme")["clarity_raw_exports"] == before["clarity_raw_exports"]


def test_a_business_that_is_connected_meanwhile_keeps_the_rest(
    history: Database, vault: TokenVault
) -> None:
    store.delete_day(history, business_id="acme", day=DAYS[0])
    connect_business(history, vault, business_id="acme", project_id="project000")
    with pytest.raises(PurgeRefused):
        store.delete_day(history, business_id="acme", day=DAYS[1])
    with pytest.raises(PurgeRefused):
        store.delete_work(history, business_id="acme", table=store.TABLES_OF_WORK[0])
    assert days_of_metrics(history, "acme") == [str(day) for day in DAYS[1:]]
    assert rows_of(history, "acme")["clarity_sync_requests"]


def refuse_to_delete_exports_of(database: Database, day: date) -> None:
    """The database itself ends the work in the middle of a day, after its metrics."""
    condition = f"OLD.date = '{day}'"
    if database.dialect_name == "sqlite":
        statements = [
            f"CREATE TRIGGER refuse BEFORE DELETE ON clarity_raw_exports WHEN {condition} "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END"
        ]
    else:
        statements = [
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'refused'; END $$",
            "CREATE TRIGGER refuse BEFORE DELETE ON clarity_raw_exports FOR EACH ROW "
            f"WHEN ({condition}) EXECUTE FUNCTION refuse()",
        ]
    with database.transaction() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_a_purge_that_was_stopped_leaves_whole_days_and_goes_on_the_next_time(
    history: Database,
) -> None:
    others = rows_of(history, "globex")
    refuse_to_delete_exports_of(history, DAYS[1])
    with pytest.raises((StoreError, IntegrityError)):
        purge(history, "acme")
    assert days_of_metrics(history, "acme") == [str(day) for day in DAYS[1:]]
    assert len(rows_of(history, "acme")["clarity_raw_exports"]) == 4

    on_table = "" if history.dialect_name == "sqlite" else " ON clarity_raw_exports"
    with history.transaction() as connection:
        connection.execute(text(f"DROP TRIGGER refuse{on_table}"))
    assert purge(history, "acme").days == 2
    assert not any(rows_of(history, "acme")[table] for table in HISTORY)
    assert rows_of(history, "globex") == others


def test_jobs_go_in_bounded_batches(history: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST_ROWS_PER_BATCH", 2)
    _, jobs = store.TABLES_OF_WORK
    sizes = [store.delete_work(history, business_id="acme", table=jobs) for _ in range(3)]
    assert sizes == [2, 1, 0]
