"""The worker is killed with SIGKILL at one moment of a sync; the next run finishes the day.

After each kill the ledger has counted every call that Clarity received, every reply has landed or
its slot is spent, and no half of a slice is visible. The next run leaves exactly what a sync that
nobody disturbed leaves.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from clarity_pipeline.export_api.emulator import Fault
from clarity_pipeline.store import exports
from clarity_pipeline_tests.agency import DAY, Agency
from clarity_pipeline_tests.faults.interruptions import MOMENTS, Moment, rows_being_written
from clarity_pipeline_tests.faults.invariants import check_nothing_is_lost_or_counted_short
from clarity_pipeline_tests.faults.next_run import (
    UNTIL_THE_NEXT_RUN,
    Undisturbed,
    check_the_next_run_completes_the_day,
)
from clarity_pipeline_tests.faults.worker import start_worker, was_killed

WITH_A_TRANSACTION_OPEN = (
    "while a reply is landed",
    "between landing and judging",
    "before the upsert commits",
    "while pages are rolled up",
)
"""A server of its own ends these by itself; the others are the same on either database."""

IN_THE_UPSERT = "in the middle of the upsert"


def moment_of(name: str, agency: Agency) -> Moment:
    if name == IN_THE_UPSERT:
        return rows_being_written(agency.database.dialect_name)
    return MOMENTS[name]


@pytest.mark.parametrize(
    ("database_url", "name"),
    [
        *(("sqlite", name) for name in (*MOMENTS, IN_THE_UPSERT)),
        *(("postgresql", name) for name in (*WITH_A_TRANSACTION_OPEN, IN_THE_UPSERT)),
    ],
    indirect=["database_url"],
)
def test_after_a_kill_the_next_run_completes_the_day(
    name: str, small_agency: Agency, undisturbed: Undisturbed
) -> None:
    agency = small_agency
    worker = start_worker(agency, killed_at=moment_of(name, agency))

    assert was_killed(worker), "the moment never came"
    check_nothing_is_lost_or_counted_short(agency)
    # All eight calls of the agency may be under way at once, and with the process all are lost.
    check_the_next_run_completes_the_day(agency, undisturbed, lost_calls=8)


def test_a_kill_while_clarity_is_answering_costs_the_slots_under_way_and_nothing_else(
    small_agency: Agency, undisturbed: Undisturbed
) -> None:
    agency = small_agency
    stalled = agency.projects["acme"].project_id
    agency.emulator.control.add_fault(Fault(project_id=stalled, delay_seconds=60, skip=1, times=3))
    worker = start_worker(agency, keeps_records=True)
    try:
        _wait_until(lambda: len(agency.calls()) == 8 and _landed(agency) == 5)
    finally:
        worker.kill()

    assert was_killed(worker)
    check_nothing_is_lost_or_counted_short(agency)
    assert len(agency.calls("acme")) == 4
    check_the_next_run_completes_the_day(agency, undisturbed, lost_calls=3, keeps_records=True)
    assert len(agency.calls("acme")) == 7
    assert len(agency.calls("bistro")) == 4


@pytest.mark.long
def test_a_sync_that_is_killed_again_and_again_still_comes_to_its_end(
    small_agency: Agency, undisturbed: Undisturbed
) -> None:
    agency = small_agency
    for name in (
        "after a slot is reserved",
        "between landing and judging",
        IN_THE_UPSERT,
        "between metrics and aggregates",
    ):
        moment = moment_of(name, agency).at(1)
        assert was_killed(start_worker(agency, killed_at=moment, keeps_records=True)), name
        check_nothing_is_lost_or_counted_short(agency)
        agency.now += UNTIL_THE_NEXT_RUN

    check_the_next_run_completes_the_day(agency, undisturbed, lost_calls=8, keeps_records=True)


def _landed(agency: Agency) -> int:
    return len(exports.list_exports(agency.database, day=DAY))


def _wait_until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what the test waits for never came"
        time.sleep(0.02)
