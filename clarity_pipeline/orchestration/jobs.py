"""The daily sync: everything from the calls to the roll-ups, for one day."""

import dagster as dg

clarity_daily_sync = dg.define_asset_job(
    name="clarity_daily_sync",
    selection=dg.AssetSelection.groups("clarity"),
    description="Fetch a day for every enabled business, normalise it and roll it up.",
    # A run retry would repeat calls without asking the ledger why the first try failed.
    tags={"dagster/max_retries": "0", "dagster/retry_on_asset_or_op_failure": "false"},
)
