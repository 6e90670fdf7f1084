"""Old runs and their events go; what was materialised stays so, and nothing is set in motion.

On SQLite, where each run has an event database of its own, and on PostgreSQL.
"""

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from clarity_pipeline.domain.retention import Kept, RetentionLimits
from clarity_pipeline.orchestration.partitions import days
from clarity_pipeline.orchestration.run_history import remove_runs
from clarity_pipeline_tests.conftest import dagster_postgres_url

YEAR_AGO = ["2026-03-01", "2026-03-02", "2026-03-03"]
ASSETS = ["clarity_raw_exports", "clarity_daily_metrics"]
NINETY_DAYS = RetentionLimits(runs_days=90)


@dg.asset(partitions_def=days)
def clarity_raw_exports(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
    if "fails" in context.run.tags:
        raise ValueError("this run fails")
    return dg.MaterializeResult(metadata={"calls_used": 4})


@dg.asset(
    partitions_def=days,
    deps=[clarity_raw_exports],
    automation_condition=dg.AutomationCondition.any_deps_updated()
    | dg.AutomationCondition.missing(),
)
def clarity_daily_metrics() -> None: ...


@dg.op
def work() -> None: ...


@dg.job
def somebody_elses_job() -> None:
    work()


def build_defs() -> dg.Definitions:
    """Two assets of the project's names, with a condition that any update or loss would set off."""
    return dg.Definitions(
        assets=[clarity_raw_exports, clarity_daily_metrics],
        jobs=[dg.define_asset_job("clarity_daily_sync"), somebody_elses_job],
        executor=dg.in_process_executor,
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[dg.DagsterInstance]:
    # Logs in a place of their own: by default they lie among what ops hand to each other.
    overrides: dict[str, Any] = {
        "telemetry": {"enabled": False},
        "compute_logs": {
            "module": "dagster._core.storage.local_compute_log_manager",
            "class": "LocalComputeLogManager",
            "config": {"base_dir": str(tmp_path / "logs")},
        },
    }
    if request.param == "postgresql":
        url = dagster_postgres_url(request.getfixturevalue("empty_postgresql_url"))
        overrides["storage"] = {"postgres": {"postgres_url": url}}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides=overrides) as made:
        yield made


def sync(instance: dg.DagsterInstance, day: str, **tags: str) -> str:
    job = build_defs().resolve_job_def("clarity_daily_sync")
    result = job.execute_in_process(
        instance=instance, partition_key=day, tags=tags, raise_on_error=False
    )
    return result.run_id


def in_a_hundred_days() -> datetime:
    return datetime.now(UTC) + timedelta(days=100)


def events_of(instance: dg.DagsterInstance, run_id: str) -> int:
    """Rows of a run in the index of all runs; on PostgreSQL there is no other."""
    storage: Any = instance.event_log_storage
    with storage.index_connection() as connection:
        return connection.exec_driver_sql(
            f"SELECT COUNT(*) FROM event_logs WHERE run_id = '{run_id}'"
        ).scalar()


def materialized(instance: dg.DagsterInstance) -> dict[str, Any]:
    """What the UI shows of each asset: partitions, the newest event, and per partition the rest."""
    shown: dict[str, Any] = {}
    for asset in ASSETS:
        key = dg.AssetKey(asset)
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key), limit=1000
        ).records
        newest = {record.partition_key: record for record in reversed(records)}
        shown[asset] = (
            instance.get_materialized_partitions(key),
            {
                partition: (
                    record.storage_id,
                    record.timestamp,
                    record.asset_materialization and record.asset_materialization.metadata,
                )
                for partition, record in newest.items()
            },
            instance.get_status_by_partition(key, [*YEAR_AGO, "2026-03-09"], days),
            instance.get_asset_records([key])[0].asset_entry.last_materialization_storage_id,
        )
    return shown


def test_old_runs_go_and_partitions_stay_materialised(instance: dg.DagsterInstance) -> None:
    runs = [sync(instance, day) for day in YEAR_AGO]
    before = materialized(instance)
    assert before[ASSETS[0]][0] == set(YEAR_AGO)
    removal = remove_runs(instance, NINETY_DAYS, now=in_a_hundred_days())

    today = datetime.now(UTC).date()
    assert (removal.kind, removal.rows) == (Kept.RUNS, 3)
    assert {removal.oldest_day, removal.newest_day} <= {today, today - timedelta(days=1)}
    assert materialized(instance) == before
    for run_id in runs:
        assert not instance.has_run(run_id)
        assert events_of(instance, run_id) == 0
    assert instance.get_run_records() == []


def test_the_cache_of_partition_states_can_be_thrown_away_afterwards(
    instance: dg.DagsterInstance,
) -> None:
    for day in YEAR_AGO:
        sync(instance, day)
    before = materialized(instance)
    remove_runs(instance, NINETY_DAYS, now=in_a_hundred_days())
    instance.wipe_asset_cached_status([dg.AssetKey(asset) for asset in ASSETS])
    assert materialized(instance) == before


def test_automation_asks_for_nothing_because_of_it(instance: dg.DagsterInstance) -> None:
    def evaluate(cursor: Any = None) -> dg.EvaluateAutomationConditionsResult:
        return dg.evaluate_automation_conditions(
            build_defs(),
            instance,
            asset_selection=dg.AssetSelection.assets(*ASSETS),
            cursor=cursor,
        )

    for day in YEAR_AGO:
        sync(instance, day)
    first = evaluate()
    remove_runs(instance, NINETY_DAYS, now=in_a_hundred_days())
    second = evaluate(first.cursor)

    def requested(result: dg.EvaluateAutomationConditionsResult) -> set[str]:
        key = dg.AssetKey("clarity_daily_metrics")
        return {str(partition) for partition in result.get_requested_partitions(key)}

    assert requested(second) == requested(first) - set(YEAR_AGO)
    assert not requested(second) & set(YEAR_AGO)
    instance.report_runless_asset_event(
        dg.AssetMaterialization("clarity_raw_exports", partition=YEAR_AGO[0])
    )
    assert YEAR_AGO[0] in requested(evaluate(second.cursor))


def test_the_newest_materialisation_is_kept_and_the_older_ones_go(
    instance: dg.DagsterInstance,
) -> None:
    for _ in range(3):
        sync(instance, YEAR_AGO[0])
    remove_runs(instance, NINETY_DAYS, now=in_a_hundred_days())
    for asset in ASSETS:
        (record,) = instance.fetch_materializations(dg.AssetKey(asset), limit=10).records
        assert record.partition_key == YEAR_AGO[0]
        assert record.run_id == ""


def test_a_materialisation_that_a_younger_run_has_repeated_goes_with_its_run(
    instance: dg.DagsterInstance,
) -> None:
    old = sync(instance, YEAR_AGO[0])
    young = sync(instance, YEAR_AGO[0])
    _protect(instance, young)
    removal = remove_runs(instance, NINETY_DAYS, now=in_a_hundred_days())
    assert (removal.rows, instance.has_run(old), instance.has_run(young)) == (1, False, True)
    for asset in ASSETS:
        (record,) = instance.fetch_materializations(dg.AssetKey(asset), limit=10).records
        assert record.run_id == young


def _protect(instance: dg.DagsterInstance, run_id: str) -> None:
    """Let an unfinished run re-execute it."""
    instance.create_run_for_job(
        build_defs().resolve_job_def("somebody_elses_job"),
        parent_run_id=run_id,
        root_run_id=run_id,
        tags={"dagster/parent_run_id": run_id, "dagster/root_run_id": run_id},
    )


def test_a_failed_run_goes_too_and_leaves_its_partition_missing(
    instance: dg.DagsterInstance,
) -> None:
    run_id = sync(instance, YEAR_AGO[0], fails="yes")
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert remove_runs(instance, NINETY_DAYS, now=in_a_hundred_days()).rows == 1
    assert instance.get_materialized_partitions(dg.AssetKey(ASSETS[0])) == set()


def test_young_unfinished_foreign_and_needed_runs_stay(instance: dg.DagsterInstance) -> None:
    jobs = build_defs()
    foreign = jobs.resolve_job_def("somebody_elses_job").execute_in_process(instance=instance)
    at_work = instance.create_run_for_job(
        jobs.resolve_job_def("clarity_daily_sync"), status=dg.DagsterRunStatus.STARTED
    )
    re_executed = sync(instance, YEAR_AGO[0])
    _protect(instance, re_executed)
    of_backfill = sync(instance, YEAR_AGO[1], **{"dagster/backfill": "b1"})
    instance.add_backfill(_backfill("b1", BulkActionStatus.REQUESTED))
    of_finished = sync(instance, YEAR_AGO[2], **{"dagster/backfill": "b2"})
    instance.add_backfill(_backfill("b2", BulkActionStatus.COMPLETED_SUCCESS))

    soon = datetime.now(UTC) + timedelta(days=80)
    assert remove_runs(instance, NINETY_DAYS, now=soon).rows == 0
    assert remove_runs(instance, NINETY_DAYS, now=in_a_hundred_days()).rows == 1
    assert not instance.has_run(of_finished)
    for run_id in (foreign.run_id, at_work.run_id, re_executed, of_backfill):
        assert instance.has_run(run_id)
        assert run_id == at_work.run_id or len(instance.all_logs(run_id)) > 0


def _backfill(backfill_id: str, status: BulkActionStatus) -> PartitionBackfill:
    return PartitionBackfill(
        backfill_id=backfill_id,
        status=status,
        from_failure=False,
        tags={},
        backfill_timestamp=datetime.now(UTC).timestamp(),
        partition_set_origin=None,
        partition_names=[],
    )


def test_a_dry_run_says_how_many_and_deletes_none(instance: dg.DagsterInstance) -> None:
    run_id = sync(instance, YEAR_AGO[0])
    foretold = remove_runs(instance, NINETY_DAYS, now=in_a_hundred_days(), dry_run=True)
    assert foretold.rows == 1
    assert instance.has_run(run_id)
    assert len(instance.all_logs(run_id)) > 0
    assert remove_runs(instance, NINETY_DAYS, now=in_a_hundred_days()).rows == 1


def test_without_a_setting_every_run_is_kept(instance: dg.DagsterInstance) -> None:
    run_id = sync(instance, YEAR_AGO[0])
    removal = remove_runs(instance, RetentionLimits(), now=in_a_hundred_days())
    assert (removal.cutoff, removal.rows) == (None, 0)
    assert instance.has_run(run_id)


def test_the_files_of_a_run_go_with_it(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    run_id = sync(instance, YEAR_AGO[0])
    left_by_an_op = Path(instance.storage_directory()) / run_id / "plan_day" / "batches"
    left_by_an_op.mkdir(parents=True)
    (left_by_an_op / "batch_00").write_bytes(b"pickled")
    assert list((tmp_path / "logs" / run_id).rglob("*"))
    remove_runs(instance, NINETY_DAYS, now=in_a_hundred_days())
    assert [path for path in tmp_path.rglob("*") if run_id in str(path)] == []


def test_check_results_are_kept(instance: dg.DagsterInstance) -> None:
    @dg.asset_check(asset="clarity_raw_exports")
    def window_alignment() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    job = dg.Definitions(
        assets=[clarity_raw_exports],
        asset_checks=[window_alignment],
        jobs=[dg.define_asset_job("clarity_daily_sync")],
        executor=dg.in_process_executor,
    ).resolve_job_def("clarity_daily_sync")
    job.execute_in_process(instance=instance, partition_key=YEAR_AGO[0])
    key = dg.AssetCheckKey(dg.AssetKey("clarity_raw_exports"), "window_alignment")

    def history() -> list[Any]:
        return list(instance.event_log_storage.get_asset_check_execution_history(key, limit=10))

    before = history()
    assert any(record.status.value == "SUCCEEDED" and record.event for record in before)
    assert remove_runs(instance, NINETY_DAYS, now=in_a_hundred_days()).rows == 1
    assert history() == before
