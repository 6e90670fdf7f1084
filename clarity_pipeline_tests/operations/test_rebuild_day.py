"""Rebuilding a day: what is left alone, what is written, and whose fault is whose."""

from __future__ import annotations

import gc

import pytest
from sqlalchemy import text

from clarity_pipeline.domain.errors import RebuildFailed
from clarity_pipeline.domain.sync_jobs import JobStatus
from clarity_pipeline.operations.rebuild_day import (
    raise_if_nothing_worked,
    rebuild,
    record_in_jobs,
)
from clarity_pipeline_tests.agency import DAY, Agency


def synced(agency: Agency) -> Agency:
    agency.connect("acme")
    agency.connect("globex")
    agency.sync()
    return agency


def test_a_rebuilt_day_that_has_not_changed_writes_nothing_even_when_forced(
    agency: Agency,
) -> None:
    synced(agency)
    left_alone = rebuild(agency.database, day=DAY, now=agency.now)
    assert set(left_alone.unchanged) == {"acme", "globex"}
    forced = rebuild(agency.database, day=DAY, now=agency.now, force=True)
    assert set(forced.written) == {"acme", "globex"}
    assert forced.rows_written == 0
    assert gc.isenabled()


def test_a_corrupt_landed_body_fails_its_business_and_its_other_slices_are_written(
    agency: Agency,
) -> None:
    synced(agency)
    with agency.database.transaction() as connection:
        connection.execute(
            text(
                "UPDATE clarity_raw_exports SET sha256 = :wrong "
                "WHERE business_id = 'acme' AND dimension_set = 'Device,URL'"
            ),
            {"wrong": "0" * 64},
        )
        connection.execute(text("DELETE FROM clarity_daily_metrics"))
        connection.execute(text("DELETE FROM clarity_daily_slices"))
    rebuilt = rebuild(agency.database, day=DAY, now=agency.now)

    assert set(rebuilt.failures) == {"acme"}
    assert set(rebuilt.written) == {"globex"}
    with agency.database.reading() as connection:
        slices = connection.execute(
            text("SELECT business_id, dimension_set FROM clarity_daily_slices")
        ).all()
    assert {row.dimension_set for row in slices if row.business_id == "acme"} == {
        "Source,URL",
        "Country,URL",
        "Campaign,Channel,URL",
    }
    raise_if_nothing_worked(rebuilt)
    run_id = agency.latest_job("acme").dagster_run_id
    assert run_id is not None
    record_in_jobs(agency.database, rebuilt, day=DAY, run_id=run_id)
    failed = agency.latest_job("acme")
    assert (failed.status, failed.error_code) == (JobStatus.FAILED, "rebuild_failed")
    assert failed.error_message is not None
    assert "clarity replay" in failed.error_message
    assert agency.latest_job("globex").status is JobStatus.SUCCEEDED


def test_when_no_business_could_be_rebuilt_it_is_nobodys_own_fault(agency: Agency) -> None:
    synced(agency)
    with agency.database.transaction() as connection:
        connection.execute(text("UPDATE clarity_raw_exports SET sha256 = 'wrong'"))
    rebuilt = rebuild(agency.database, day=DAY, now=agency.now, force=True)
    with pytest.raises(RebuildFailed, match="None of 2 businesses could be rebuilt"):
        raise_if_nothing_worked(rebuilt)
