"""The one partitioning: partition `D` is the UTC day the data are about."""

from datetime import date
from typing import Final

import dagster as dg

FIRST_DAY: Final = date(2026, 1, 1)
"""No business was collected before; an earlier day would only be an empty square in the UI."""

days = dg.DailyPartitionsDefinition(start_date=FIRST_DAY.isoformat(), timezone="UTC")


def day_of(partition_key: str) -> date:
    """The day of a partition key."""
    return date.fromisoformat(partition_key)
