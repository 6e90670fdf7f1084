"""The run after an accident: it completes the day, and nothing shows that anything happened."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import dagster as dg

from clarity_pipeline.domain.sync_jobs import JobStatus
from clarity_pipeline.store import sync_jobs
from clarity_pipeline_tests.agency import Agency
from clarity_pipeline_tests.faults.invariants import (
    Rows,
    check_nothing_is_lost_or_counted_short,
    check_nothing_was_asked_twice,
    content,
)
from clarity_pipeline_tests.faults.worker import error_of, sync

UNTIL_THE_NEXT_RUN = timedelta(minutes=10)
"""By then a slot that was in flight at the accident has been given up."""

Undisturbed = Mapping[str, Mapping[str, Rows]]


def check_the_next_run_completes_the_day(
    agency: Agency,
    undisturbed: Undisturbed,
    *,
    lost_calls: int,
    keeps_records: bool = False,
    instance: dg.DagsterInstance | None = None,
) -> None:
    """On the agency's own Dagster instance if that kept records, else on one in memory."""
    # Clarity's clock stands still meanwhile: its window rolls, and other replies would come.
    agency.now += UNTIL_THE_NEXT_RUN
    if keeps_records:
        run = agency.sync()
        assert run.succeeded, run.error
    else:
        result = sync(agency, instance)
        assert result.success, error_of(result)

    assert content(agency.database) == undisturbed[agency.database.dialect_name]
    check_nothing_is_lost_or_counted_short(agency)
    check_nothing_was_asked_twice(agency, lost=lost_calls)
    assert not sync_jobs.running_jobs(agency.database), "jobs that nobody works on any more"
    latest = sync_jobs.latest_jobs(agency.database, business_ids=agency.projects)
    assert {job.status for job in latest.values()} == {JobStatus.SUCCEEDED}
