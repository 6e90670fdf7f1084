"""A day on which every kind of misbehaviour happens to somebody, and nobody else notices."""

from __future__ import annotations

import pytest

from clarity_pipeline.definitions import build_defs
from clarity_pipeline.orchestration.resources import ClockResource, ExportApiResource
from clarity_pipeline.store import sync_jobs
from clarity_pipeline_tests.agency import DAY, Agency
from clarity_pipeline_tests.faults.invariants import check_nothing_is_lost_or_counted_short
from clarity_pipeline_tests.faults.misbehaviour import (
    MISBEHAVIOURS,
    TAKES_A_WHILE,
    complaints,
    fault_of,
)
from clarity_pipeline_tests.faults.worker import error_of, run_off_the_record

HEALTHY = 13
HAPPENING = sorted(MISBEHAVIOURS.keys() - TAKES_A_WHILE)


@pytest.mark.long
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_who_misbehaves_is_told_so_and_everybody_else_gets_the_day(agency: Agency) -> None:
    for number in range(HEALTHY):
        agency.connect(f"all-is-well-{number:02d}", seed=1, sessions_per_day=5, pages=2)
    for name in HAPPENING:
        project = agency.connect(name, seed=1, sessions_per_day=5, pages=2)
        agency.emulator.control.add_fault(fault_of(name, project_id=project.project_id))
    definitions = build_defs(
        clock=ClockResource(fixed_at=agency.now.isoformat()),
        # Long enough for a healthy reply on a busy machine; who is slow has it twice.
        export_api=ExportApiResource(
            retry_after_seconds=0, silence_timeout_seconds=6, call_timeout_seconds=10
        ),
    )
    result = run_off_the_record(definitions, day=DAY)

    assert result.success, error_of(result)
    assert not complaints(
        jobs=sync_jobs.latest_jobs(agency.database, business_ids=agency.projects),
        project_ids={name: project.project_id for name, project in agency.projects.items()},
        misbehaving={name: name for name in HAPPENING},
        calls=agency.calls(),
    )
    check_nothing_is_lost_or_counted_short(agency)
