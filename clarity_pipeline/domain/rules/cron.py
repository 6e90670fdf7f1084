"""The times at which a rule of its own schedule is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from clarity_pipeline.domain.rules.model import Cron

FURTHEST_BACK: Final = timedelta(days=2)
"""Nothing may be done about a day that is longer over, so a time that was missed before is past."""


def latest_due(cron: Cron, *, after: datetime, now: datetime) -> datetime | None:
    """The latest time of a schedule that is after one instant and not after another (UTC)."""
    # Loaded by the first rule that has a schedule of its own; few agencies have any.
    from cronsim import CronSim, CronSimError

    earliest = max(after, now - FURTHEST_BACK)
    # It looks back from where it is, and not at it.
    start = now.astimezone(UTC) + timedelta(seconds=1)
    try:
        latest = next(CronSim(cron.cron, start, reverse=True), None)
    except CronSimError:
        # The 30th of February.
        return None
    return latest if latest is not None and latest > earliest else None
