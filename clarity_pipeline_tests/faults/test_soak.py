"""Thirty days in which something goes wrong all the time; each ends with an account of itself."""

from __future__ import annotations

from random import Random

import pytest

from clarity_pipeline_tests.agency import Agency
from clarity_pipeline_tests.faults.soak import FIRST_MORNING, Soak

SEED = 20261101


@pytest.mark.long
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_after_thirty_bad_days_every_day_is_accounted_for(agency: Agency) -> None:
    agency.move_to(FIRST_MORNING)
    for number in range(3):
        agency.connect(f"business-{number}", sessions_per_day=3, pages=2)
    soak = Soak(agency, Random(SEED))
    try:
        soak.live_through(30, with_dagster_every=10)
        unaccounted = soak.unaccounted()
    except BaseException as error:
        error.add_note(f"seed {SEED}, after {dict(soak.happened)}")
        raise

    assert unaccounted == [], f"seed {SEED}"
    assert soak.happened["whole days"] > 40
    assert soak.happened["days with a reason"] > 3
