"""Many simulated days on which anything may happen, longer than a test can be.

python -m benchmarks.soak                          ten businesses, 90 days, a seed of its own
python -m benchmarks.soak --days 270 --seed 7 --database postgresql
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path
from random import Random, SystemRandom

import pytest
from rich.console import Console

from benchmarks.daily_sync import empty_database
from clarity_pipeline.export_api.emulator import EmulatorServer
from clarity_pipeline_tests.agency import open_agency
from clarity_pipeline_tests.faults.soak import FIRST_MORNING, Soak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--businesses", type=int, default=10)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(10**9))
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    chosen = parser.parse_args()
    logging.disable(logging.ERROR)
    console = Console()
    console.print(f"seed {chosen.seed}")
    with (
        EmulatorServer() as server,
        empty_database(chosen.database) as url,
        tempfile.TemporaryDirectory() as directory,
        pytest.MonkeyPatch.context() as environment,
        open_agency(
            database_url=url, emulator=server, home=Path(directory, "home"), environment=environment
        ) as agency,
    ):
        agency.move_to(FIRST_MORNING)
        for number in range(chosen.businesses):
            agency.connect(f"business-{number:02d}", sessions_per_day=6, pages=3)
        soak = Soak(agency, Random(chosen.seed))
        started = time.perf_counter()
        soak.live_through(chosen.days, with_dagster_every=10)
        unaccounted = soak.unaccounted()
        calls = len(agency.calls())
    console.print(
        f"{chosen.businesses} businesses, {chosen.days} days on {chosen.database}: "
        f"{time.perf_counter() - started:.0f} s, {calls} calls, {len(unaccounted)} days that "
        "nobody can account for"
    )
    console.print(dict(soak.happened))
    for line in unaccounted:
        console.print(line)
    sys.exit(1 if unaccounted else 0)


if __name__ == "__main__":
    main()
