"""The sensors behind notices: one looks at connections and sends, one looks at runs.

Both run from the start: they cost no call, and without addresses they only write down. Both look
at how things stand now, not at events after a cursor: Dagster's own run failure sensor moves its
cursor past a run even when reacting to it failed, and a separate one for successes could see a
failure and its repair in the wrong order.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from functools import partial
from typing import Final

import dagster as dg

from clarity_pipeline.domain.notices import FinishedRun
from clarity_pipeline.operations import notices
from clarity_pipeline.orchestration.partitions import day_of
from clarity_pipeline.orchestration.resources import ClockResource, StoreResource
from clarity_pipeline.orchestration.run_errors import presentable_error

SECONDS_BETWEEN_TICKS: Final = 60

LATEST_RUNS: Final = 50
"""Finished runs per job that are looked at; older ones have been told about."""

_PARTITION_TAG: Final = "dagster/partition"
_RANGE_TAG: Final = "dagster/asset_partition_range_start"


@dg.sensor(
    name="clarity_notice_sensor",
    minimum_interval_seconds=SECONDS_BETWEEN_TICKS,
    description="Notices what has changed about connections, and sends the notices there are.",
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def clarity_notice_sensor(store: StoreResource, clock: ClockResource) -> dg.SkipReason:
    # Written before anything is sent: addresses that cannot be used lose nothing.
    news = notices.record_connection_notices(
        store.database, overview_default=store.settings.overview, now=clock.now()
    )
    # Imported here because Apprise takes half a second, which loading the graph need not.
    from clarity_pipeline.notify.addresses import parse_addresses

    delivered = notices.deliver_pending(
        store.database, parse_addresses(store.settings.notice_urls), now=clock.now()
    )
    return dg.SkipReason(
        f"{len(news)} new, {delivered.sent} sent, {delivered.failed} not accepted."
    )


@dg.sensor(
    name="clarity_run_failure_sensor",
    minimum_interval_seconds=SECONDS_BETWEEN_TICKS,
    description="Notices jobs that have begun to fail, or that work again.",
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def clarity_run_failure_sensor(
    context: dg.SensorEvaluationContext, store: StoreResource, clock: ClockResource
) -> dg.SkipReason:
    assert context.repository_def is not None
    news = [
        notice
        for job in context.repository_def.job_names
        for notice in notices.record_run_notices(
            store.database,
            job=job,
            runs=list(_finished_runs(context.instance, job)),
            explain=partial(_explain, context.instance),
            now=clock.now(),
        )
    ]
    return dg.SkipReason(f"{len(news)} new.")


def _finished_runs(instance: dg.DagsterInstance, job: str) -> Iterator[FinishedRun]:
    """The latest runs of a job; one that a person cancelled has neither failed nor succeeded."""
    finished = dg.RunsFilter(
        job_name=job, statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
    )
    for record in instance.get_run_records(finished, limit=LATEST_RUNS):
        run = record.dagster_run
        yield FinishedRun(
            run_id=run.run_id,
            partition=_partition(run),
            spans_days=_RANGE_TAG in run.tags,
            created_at=record.create_timestamp.astimezone(UTC),
            ended_at=datetime.fromtimestamp(record.end_time or 0, tz=UTC),
            succeeded=run.status is dg.DagsterRunStatus.SUCCESS,
        )


def _partition(run: dg.DagsterRun) -> date | None:
    key = run.tags.get(_PARTITION_TAG)
    return None if key is None else day_of(key)


def _explain(instance: dg.DagsterInstance, run_id: str) -> str:
    entries = instance.all_logs(run_id, of_type={dg.DagsterEventType.STEP_FAILURE})
    return presentable_error(entry.dagster_event for entry in entries if entry.dagster_event)
