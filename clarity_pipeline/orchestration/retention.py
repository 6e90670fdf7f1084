"""`clarity_retention`: a job of one op per kind of thing that is kept for a limited time.

The ops do not depend on each other: a failure of one does not keep the others from their work.
"""

import dagster as dg

from clarity_pipeline.domain.retention import Removal
from clarity_pipeline.operations import retention
from clarity_pipeline.orchestration.resources import ClockResource, StoreResource
from clarity_pipeline.orchestration.run_history import remove_runs


@dg.op(description="Empty raw_payload of rows older than CLARITY_KEEP_PAYLOAD_DAYS.")
def remove_old_payloads(
    context: dg.OpExecutionContext, store: StoreResource, clock: ClockResource
) -> None:
    limits = retention.limits_of(store.settings)
    _report(context, retention.remove_payloads(store.database, limits, now=clock.now()))


@dg.op(description="Empty landed bodies older than CLARITY_KEEP_EXPORTS_DAYS, once built.")
def remove_old_exports(
    context: dg.OpExecutionContext, store: StoreResource, clock: ClockResource
) -> None:
    limits = retention.limits_of(store.settings)
    _report(context, retention.remove_exports(store.database, limits, now=clock.now()))


@dg.op(description="Delete finished runs and their events older than CLARITY_KEEP_RUNS_DAYS.")
def remove_old_runs(
    context: dg.OpExecutionContext, store: StoreResource, clock: ClockResource
) -> None:
    limits = retention.limits_of(store.settings)
    _report(context, remove_runs(context.instance, limits, now=clock.now()))


@dg.job(
    description="Remove what is older than the settings keep it; without settings, nothing.",
    tags={"dagster/max_retries": "0"},
)
def clarity_retention() -> None:
    remove_old_payloads()
    remove_old_exports()
    remove_old_runs()


@dg.schedule(
    job=clarity_retention,
    name="clarity_retention_schedule",
    cron_schedule="0 4 * * *",
    execution_timezone="UTC",
    description="Removes what is too old at 04:00 UTC, when a setting asks for it.",
    # Unlike the sync it spends nothing; whoever sets a limit has asked for it to be kept to.
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def retention_schedule(store: StoreResource) -> dg.RunRequest | dg.SkipReason:
    if retention.limits_of(store.settings).any_is_set:
        return dg.RunRequest()
    return dg.SkipReason("No CLARITY_KEEP_... variable is set: everything is kept for ever.")


def _report(context: dg.OpExecutionContext, removal: Removal) -> None:
    context.log.info(removal.sentence())
    context.add_output_metadata(removal.numbers())
