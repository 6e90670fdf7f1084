"""Many simulated days of an agency on which anything may happen, drawn from a seed.

Faults of Clarity, tests of connections, manual syncs, two syncs at the same moment, pauses, new
tokens and killed workers; the clock stands still within a sync and is moved on in between. Most
syncs are the operations of the job without Dagster, which leave the same data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from random import Random
from typing import Final

from clarity_pipeline.domain.days import day_collected_at
from clarity_pipeline.domain.dimensions import DEFAULT_COMBOS
from clarity_pipeline.domain.errors import InputError
from clarity_pipeline.domain.exports import Verdict
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.export_api.client import ExportApiClient
from clarity_pipeline.export_api.emulator import Fault, emulator_token
from clarity_pipeline.operations import (
    abandoned_jobs,
    collect_day,
    connecting,
    rebuild_day,
)
from clarity_pipeline.operations.call_runner import CallRunner
from clarity_pipeline.operations.guarded_call import GuardedCaller
from clarity_pipeline.store import connections, daily_metrics, exports, sync_jobs
from clarity_pipeline_tests.agency import Agency, days_later
from clarity_pipeline_tests.faults.interruptions import MOMENTS, rows_being_written
from clarity_pipeline_tests.faults.invariants import check_nothing_is_lost_or_counted_short
from clarity_pipeline_tests.faults.worker import start_worker, sync, was_killed

FIRST_MORNING: Final = days_later(-270)
"""Dagster knows no partition of a day that is still to come."""

UNTIL_CLAIMS_ARE_OVER: Final = timedelta(minutes=10)

FAULTS: Final = (
    Fault(status=401),
    Fault(status=403),
    Fault(status=429),
    Fault(status=500),
    Fault(status=503, body="<html>", headers={"Content-Type": "text/html"}),
    Fault(drop=True),
    Fault(truncate_at_bytes=100),
    Fault(body="[{"),
    Fault(status=400),
    Fault(status=302, headers={"Location": "https://example.org/"}),
)
"""Only what is over at once; who makes a call wait has a test of his own."""


@dataclass
class Soak:
    """The days so far; `happened` counts what was drawn."""

    agency: Agency
    random: Random
    kills: bool = True
    happened: Counter[str] = field(default_factory=lambda: Counter[str]())
    _expected: set[tuple[str, date]] = field(default_factory=lambda: set[tuple[str, date]]())
    _serials: dict[str, int] = field(default_factory=lambda: dict[str, int]())
    _runs: int = 0

    def live_through(self, days: int, *, with_dagster_every: int) -> None:
        """Live through these days, and check after each that nothing was lost."""
        start = self.agency.now
        for number in range(days):
            self.agency.move_to(start + timedelta(days=number))
            self._change_connections()
            self._break_clarity()
            if self._happens(0.1):
                self._test_somebody()
            enabled = self._enabled()
            self._expected |= {(each, self._yesterday) for each in enabled}
            self._collect(with_dagster=number % with_dagster_every == 0)
            self._spend_the_day()
            check_nothing_is_lost_or_counted_short(self.agency)
            self.agency.emulator.control.clear_faults()
            self.happened["days"] += 1

    def unaccounted(self) -> list[str]:
        """The business-days of which nobody could say what became of them, one line each."""
        database = self.agency.database
        found: list[str] = []
        for business_id, day in sorted(self._expected):
            jobs = sync_jobs.list_jobs(database, business_id=business_id, day=day)
            if not jobs:
                found.append(f"{business_id} {day}: no job")
                continue
            accepted = {
                reply.dimension_set
                for reply in exports.list_exports(database, day=day, business_ids=[business_id])
                if reply.verdict is Verdict.ACCEPTED
            }
            slices = {
                state.dimension_set
                for state in daily_metrics.list_slices(
                    database, start=day, end=day, business_ids=[business_id]
                )
            }
            if any(job.status is JobStatus.RUNNING for job in jobs):
                found.append(f"{business_id} {day}: still running")
            if accepted != slices:
                found.append(f"{business_id} {day}: landed {accepted}, normalised {slices}")
            is_whole = accepted == {combo.dimension_set for combo in DEFAULT_COMBOS}
            if jobs[0].status is JobStatus.SUCCEEDED and not is_whole:
                found.append(f"{business_id} {day}: succeeded with {len(accepted)} combos")
            if not is_whole and not jobs[0].error_message:
                found.append(f"{business_id} {day}: {jobs[0].status} without a reason")
            self.happened["whole days" if is_whole else "days with a reason"] += 1
        return found

    @property
    def _yesterday(self) -> date:
        return day_collected_at(self.agency.now)

    def _happens(self, probability: float) -> bool:
        return self.random.random() < probability

    def _somebody(self) -> str:
        return self.random.choice(sorted(self.agency.projects))

    def _enabled(self) -> set[str]:
        records = connections.list_connections(self.agency.database)
        return {record.business_id for record in records if record.is_enabled}

    def _change_connections(self) -> None:
        for record in connections.list_connections(self.agency.database):
            if not record.is_enabled and self._happens(0.6):
                self._give_new_token(record.business_id)
        if self._happens(0.2):
            self._give_new_token(self._somebody())
        if self._happens(0.15):
            self.happened["pauses"] += 1
            connections.set_enabled(
                self.agency.database,
                business_id=self._somebody(),
                enabled=False,
                now=self.agency.now,
            )

    def _give_new_token(self, business_id: str) -> None:
        """Revoke the token and connect the business with the next one."""
        self.happened["new tokens"] += 1
        agency, project_id = self.agency, self.agency.projects[business_id].project_id
        old = self._serials.get(business_id, 1)
        self._serials[business_id] = old + 1
        agency.emulator.control.revoke_token(project_id, serial=old)
        connecting.connect(
            agency.database,
            agency.vault,
            business_id=business_id,
            project_id=project_id,
            token=emulator_token(project_id, serial=old + 1),
            now=agency.now,
        )
        connections.set_enabled(
            agency.database, business_id=business_id, enabled=True, now=agency.now
        )

    def _break_clarity(self) -> None:
        for project in self.agency.projects.values():
            if self._happens(0.4):
                self.happened["faults"] += 1
                combo = self.random.choice([None, *DEFAULT_COMBOS])
                self.agency.emulator.control.add_fault(
                    replace(
                        self.random.choice(FAULTS),
                        project_id=project.project_id,
                        dimension_set=combo.dimension_set if combo else None,
                        skip=self.random.randrange(3),
                        times=self.random.choice([1, 1, 2, 5]),
                    )
                )

    def _collect(self, *, with_dagster: bool) -> None:
        """The schedule's run: once, twice at the same moment, or killed and then again."""
        if self.kills and self._happens(0.1):
            upsert = rows_being_written(self.agency.database.dialect_name)
            moment = self.random.choice([*MOMENTS.values(), upsert])
            self.happened["kills"] += was_killed(start_worker(self.agency, killed_at=moment))
            self._move_on(UNTIL_CLAIMS_ARE_OVER)
        if self._happens(0.15):
            self.happened["double runs"] += 1
            with ThreadPoolExecutor(2) as threads:
                for racing in [threads.submit(self._sync, Trigger.SCHEDULE) for _ in range(2)]:
                    racing.result()
        elif with_dagster:
            self.happened["runs with Dagster"] += 1
            sync(self.agency)
        else:
            self._sync(Trigger.SCHEDULE)

    def _spend_the_day(self) -> None:
        self._move_on(timedelta(hours=self.random.randrange(1, 10)))
        if self._happens(0.3):
            self._test_somebody()
        if self._happens(0.4):
            self.happened["manual syncs"] += 1
            self._sync(Trigger.MANUAL, [self._somebody()])
        if self._happens(0.2):
            self.happened["manual syncs"] += 1
            self._sync(Trigger.MANUAL)

    def _move_on(self, step: timedelta) -> None:
        self.agency.move_to(self.agency.now + step)

    def _caller(self) -> GuardedCaller:
        return GuardedCaller(
            database=self.agency.database,
            vault=self.agency.vault,
            client=ExportApiClient(base_url=self.agency.settings.api_url),
            clock=lambda: self.agency.now,
            overview_default=False,
            retry_after_seconds=0,
        )

    def _test_somebody(self) -> None:
        self.happened["tests"] += 1
        connecting.probe_connection(
            self._caller(), business_id=self._somebody(), auth_failures_before_disable=1
        )

    def _sync(self, trigger: Trigger, business_ids: Collection[str] = ()) -> None:
        """What the job does, in the same order."""
        self._runs += 1
        database, day, now = self.agency.database, self._yesterday, self.agency.now
        abandoned_jobs.settle_abandoned(
            database, run_states=lambda _: {}, overview_default=False, now=now, day=day
        )
        try:
            plan = collect_day.plan_day(
                database,
                day=day,
                business_ids=business_ids,
                trigger=trigger,
                overview_default=False,
                run_id=f"soak-{self._runs}-{self.random.random()}",
                now=now,
            )
        except InputError:
            # Paused, switched off, or not connected on that day.
            self.happened["refused syncs"] += 1
            return
        runner = CallRunner(self._caller())
        try:
            outcomes = runner.outcomes(plan.calls)
        finally:
            runner.close()
        collect_day.settle_day(
            database, plan, outcomes, auth_failures_before_disable=1, now=self.agency.now
        )
        rebuild_day.rebuild(database, day=day, now=now)
