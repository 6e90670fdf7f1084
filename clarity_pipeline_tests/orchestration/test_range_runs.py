"""A backfill as the user interface launches it: a range of partitions in one run."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context
from sqlalchemy import Table, delete, select, text

from clarity_pipeline.domain.days import days_between
from clarity_pipeline.domain.dimensions import URL_DEVICE
from clarity_pipeline.domain.sync_jobs import JobStatus
from clarity_pipeline.operations.rebuild_day import rebuild
from clarity_pipeline.store import daily_metrics, sync_jobs
from clarity_pipeline.store.schema import (
    business_aggregates,
    daily_slices,
    dimension_aggregates,
    url_aggregates,
)
from clarity_pipeline.store.schema import (
    daily_metrics as metrics_table,
)
from clarity_pipeline_tests.agency import DAY, ON_TIME, Agency, days_later
from clarity_pipeline_tests.landing import land_days

REBUILT = (
    "clarity_daily_metrics",
    "clarity_business_aggregates",
    "clarity_url_aggregates",
    "clarity_rule_evaluations",
)
TABLES: tuple[Table, ...] = (
    *(metrics_table, daily_slices, business_aggregates, dimension_aggregates),
    url_aggregates,
)


def backfill(
    agency: Agency,
    days: Sequence[date],
    assets: Sequence[str] = (),
    *,
    instance: dg.DagsterInstance | None = None,
) -> dg.ExecuteInProcessResult:
    """One run over the range, tagged as Dagster's backfill daemon does for a single-run policy."""
    with nullcontext(instance) if instance else agency.instance() as used:
        return (
            agency.definitions()
            .resolve_job_def("clarity_daily_sync")
            .execute_in_process(
                instance=used,
                asset_selection=[dg.AssetKey(name) for name in assets] or None,
                tags={
                    "dagster/backfill": "a-backfill",
                    "dagster/asset_partition_range_start": days[0].isoformat(),
                    "dagster/asset_partition_range_end": days[-1].isoformat(),
                },
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                raise_on_error=False,
            )
        )


@contextmanager
def the_partitions_of(now: datetime) -> Generator[None]:
    """Dagster's clock decides which days there are; the year of the test may not be over yet."""
    with partition_loading_context(effective_dt=now):
        yield


def materialized(result: dg.ExecuteInProcessResult) -> dict[str, list[str | None]]:
    found: dict[str, list[str | None]] = {}
    for event in result.all_events:
        if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
            assert event.asset_key is not None
            found.setdefault(event.asset_key.to_user_string(), []).append(event.partition)
    return found


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dict[str | None, bool]]:
    found: dict[str, dict[str | None, bool]] = {}
    for evaluation in result.get_asset_check_evaluations():
        found.setdefault(evaluation.check_name, {})[evaluation.partition] = evaluation.passed
    return found


Written = set[tuple[str, str, date, datetime]]


def written(agency: Agency) -> Written:
    """Which business-days each table has, and when they were written."""
    with agency.database.reading() as connection:
        return {
            (table.name, *row)
            for table in TABLES
            for row in connection.execute(
                select(table.c.business_id, table.c.date, table.c.updated_at)
            )
        }


@pytest.mark.long
@pytest.mark.parametrize(
    ("database_url", "last_day"),
    [
        # A year.
        ("sqlite", date(2026, 12, 31)),
        # No slower, but a second year would be: three partitions say what twelve would.
        ("postgresql", date(2026, 3, 31)),
    ],
    indirect=["database_url"],
)
def test_a_long_range_is_one_run_that_makes_no_call_and_writes_only_what_is_not_there(
    agency: Agency, last_day: date
) -> None:
    days = days_between(date(2026, 1, 1), last_day)
    agency.move_to(datetime(2026, 1, 2, tzinfo=UTC))
    for business_id in ("acme", "globex"):
        agency.connect(business_id)
    land_days(agency.database, business_ids=["acme", "globex"], days=days, combos=[URL_DEVICE])
    for day in days:
        rebuild(agency.database, day=day, now=agency.now)
    before = written(agency)
    # Around the turn of a month, where PostgreSQL has another partition.
    gone = days_between(date(2026, 2, 27), date(2026, 3, 2))
    with agency.database.transaction() as connection:
        for table in TABLES:
            connection.execute(delete(table).where(table.c.date.in_(gone)))

    agency.move_to(datetime(2027, 2, 1, tzinfo=UTC))
    # A year has thousands of events: kept in memory, they are a fraction of the test.
    with the_partitions_of(agency.now), dg.DagsterInstance.ephemeral() as instance:
        result = backfill(agency, days, REBUILT, instance=instance)

    assert result.success
    assert materialized(result) == {asset: [str(day) for day in days] for asset in REBUILT}
    after = written(agency)
    assert {row[:3] for row in after} == {row[:3] for row in before}
    assert {row[2] for row in after - before} == set(gone)
    assert len(after - before) == len(gone) * 2 * len(TABLES)
    assert agency.calls() == []


def test_a_range_has_its_checks_and_numbers_day_by_day(agency: Agency) -> None:
    agency.connect("acme")
    agency.sync()
    agency.move_to(days_later(1))
    agency.sync()
    agency.move_to(days_later(3))
    days = days_between(DAY, DAY + timedelta(days=2))
    calls = len(agency.calls())
    result = backfill(agency, days)

    assert result.success
    keys = [str(day) for day in days]
    assert materialized(result) == dict.fromkeys(("clarity_raw_exports", *REBUILT), keys)
    found = checks(result)
    assert found["every_enabled_business_landed"] == dict(
        zip(keys, (True, True, False), strict=True)
    )
    assert found["slices_agree"] == dict.fromkeys(keys, True)
    assert found["no_day_is_missing"] == {None: False}
    assert len(agency.calls()) == calls
    rows = [
        event.materialization.metadata["rows"].value
        for event in result.all_events
        if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION
        and event.asset_key == dg.AssetKey("clarity_daily_metrics")
    ]
    assert rows == [
        sum(s.rows for s in daily_metrics.list_slices(agency.database, start=day, end=day))
        for day in days
    ]
    assert [job.day for job in sync_jobs.list_jobs(agency.database)] == [days[1], days[0]]


def test_of_a_range_with_yesterday_in_it_yesterday_is_collected(agency: Agency) -> None:
    agency.connect("acme")
    agency.move_to(days_later(2))
    days = days_between(DAY, DAY + timedelta(days=2))
    assert backfill(agency, days).success
    assert len(agency.calls()) == 4
    (job,) = sync_jobs.list_jobs(agency.database)
    assert (job.day, job.status) == (days[-1], JobStatus.SUCCEEDED)
    assert job.rows_written > 0


def test_a_day_that_fails_names_itself_and_the_other_days_are_materialized(
    agency: Agency,
) -> None:
    agency.connect("acme")
    days = days_between(DAY - timedelta(days=2), DAY)
    land_days(agency.database, business_ids=["acme"], days=days)
    with agency.database.transaction() as connection:
        connection.execute(
            text("UPDATE clarity_raw_exports SET sha256 = 'wrong' WHERE date = :day"),
            {"day": days[1].isoformat() if agency.database.dialect_name == "sqlite" else days[1]},
        )
    result = backfill(agency, days, REBUILT[:1])
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    data = failure.step_failure_data.user_failure_data
    assert data is not None
    assert str(data.description).startswith(f"1 of 3 days failed: {days[1]} (None of 1 businesses")
    assert materialized(result) == {REBUILT[0]: [str(days[0]), str(days[2])]}


def test_the_look_back_reports_a_schedule_that_did_not_run(agency: Agency) -> None:
    agency.connect("acme")
    agency.sync()
    with agency.instance() as instance:

        def look_back() -> dict[str, dict[str | None, bool]]:
            job = agency.definitions().resolve_job_def("clarity_history_check")
            return checks(job.execute_in_process(instance=instance))

        agency.move_to(ON_TIME + timedelta(minutes=50))
        assert look_back() == {
            "no_day_is_missing": {None: True},
            "latest_day_has_arrived": {None: True},
        }
        agency.move_to(days_later(1) + timedelta(minutes=40))
        assert look_back()["latest_day_has_arrived"] == {None: True}
        agency.move_to(days_later(1) + timedelta(minutes=50))
        assert look_back() == {
            "no_day_is_missing": {None: True},
            "latest_day_has_arrived": {None: False},
        }
        # A replay of an old day is no sign of life.
        assert backfill(agency, [DAY, DAY], REBUILT).success
        assert look_back()["latest_day_has_arrived"] == {None: False}
        agency.move_to(days_later(2))
        assert look_back()["no_day_is_missing"] == {None: False}
