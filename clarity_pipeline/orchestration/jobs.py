"""The jobs: the daily sync, and the look back at what it has left out."""

import dagster as dg

from clarity_pipeline.orchestration.checks import latest_day_has_arrived, no_day_is_missing

clarity_daily_sync = dg.define_asset_job(
    name="clarity_daily_sync",
    selection=dg.AssetSelection.groups("clarity"),
    description=(
        "Fetch a day for every enabled business, normalise it, roll it up and evaluate rules on it."
    ),
    tags={
        # A run retry would repeat calls without asking the ledger why the first try failed.
        "dagster/max_retries": "0",
        "dagster/retry_on_asset_or_op_failure": "false",
        # In seconds. A day is in long before; a backfill of years may take the instance's limit.
        "dagster/max_runtime": "7200",
    },
)

clarity_history_check = dg.define_asset_job(
    name="clarity_history_check",
    selection=dg.AssetSelection.checks(no_day_is_missing, latest_day_has_arrived),
    description="Has yesterday arrived, and is any of the last 30 days missing? Makes no call.",
)
