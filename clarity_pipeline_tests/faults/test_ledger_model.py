"""The quota ledger against a model of it that fits on a page, through whatever may happen."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, cast

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from pydantic import SecretStr

from clarity_pipeline.domain.days import day_collected_at
from clarity_pipeline.domain.dimensions import DEFAULT_COMBOS, DimensionCombo
from clarity_pipeline.domain.errors import QuotaRefused
from clarity_pipeline.domain.quota import (
    CALL_LEASE,
    DAILY_CALL_LIMIT,
    AlreadyLanded,
    CallOutcome,
    InFlight,
    Purpose,
)
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.store import connections, quota_ledger, sync_jobs
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.quota_ledger import Reservation
from clarity_pipeline.store.vault import TokenVault, create_key_file
from clarity_pipeline_tests.factories import NOW, connect_business, land_export, make_export

PROJECT_OF: Final = {"alone": "projectaaa", "sister": "projectbbb", "brother": "projectbbb"}
"""Two of the businesses share a project, and with it ten calls a day."""

FAILURES: Final = sorted(
    set(CallOutcome) - {CallOutcome.LANDED, CallOutcome.ABANDONED, CallOutcome.RATE_LIMITED}
)

NOTHING: Final = cast("Any", multiple())
"""What a rule adds to its bundle that adds nothing to it."""

BUSINESSES = st.sampled_from(sorted(PROJECT_OF))
COMBOS = st.sampled_from(DEFAULT_COMBOS)


@dataclass
class Slot:
    """A slot as the model knows it."""

    business_id: str
    combo: DimensionCombo
    reserved_at: datetime
    outcome: CallOutcome | None = None
    has_reply: bool = False

    def is_claimed(self, now: datetime) -> bool:
        return self.outcome is None and now < self.reserved_at + CALL_LEASE


class LedgerMachine(RuleBasedStateMachine):
    """Reserves, settles, forgets and waits in any order; the model says what must come of it."""

    pending = Bundle("pending")

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        path = Path(self._directory.name)
        shutil.copyfile(self.template, path / "clarity.db")
        create_key_file(path / "secret.key")
        vault = TokenVault([SecretStr((path / "secret.key").read_text().strip())])
        self.database = Database.open(f"sqlite:///{path / 'clarity.db'}")
        self.now = NOW
        self.slots: dict[tuple[str, date], list[Slot]] = {}
        self.landed: set[tuple[str, date, str]] = set()
        self.enabled = set(PROJECT_OF)
        self.done_by_schedule: set[tuple[str, date]] = set()
        for business_id, project_id in PROJECT_OF.items():
            connect_business(
                self.database, vault, business_id=business_id, project_id=project_id, now=NOW
            )

    def teardown(self) -> None:
        self.database.close()
        self._directory.cleanup()

    @property
    def yesterday(self) -> date:
        return day_collected_at(self.now)

    def today(self, project_id: str) -> list[Slot]:
        return self.slots.setdefault((project_id, self.now.date()), [])

    def owed(self, project_id: str) -> set[tuple[str, str]]:
        """What the schedule has still to fetch of this project: nobody else may take its slots."""
        claimed = {
            (slot.business_id, slot.combo.dimension_set)
            for slot in self.today(project_id)
            if slot.is_claimed(self.now)
        }
        return {
            (business_id, combo.dimension_set)
            for business_id in self.enabled
            for combo in DEFAULT_COMBOS
            if PROJECT_OF[business_id] == project_id
            and (business_id, self.yesterday) not in self.done_by_schedule
            and (business_id, self.yesterday, combo.dimension_set) not in self.landed
        } - claimed

    def expected(
        self, business_id: str, combo: DimensionCombo, purpose: Purpose, *, may_use_share: bool
    ) -> str:
        project_id, name = PROJECT_OF[business_id], combo.dimension_set
        slots = self.today(project_id)
        if purpose is not Purpose.TEST:
            if (business_id, self.yesterday, name) in self.landed:
                return "landed"
            if any(
                slot.is_claimed(self.now) and (slot.business_id, slot.combo) == (business_id, combo)
                for slot in slots
            ):
                return "in flight"
        if any(slot.outcome is CallOutcome.RATE_LIMITED for slot in slots):
            return "refused"
        if len(slots) >= DAILY_CALL_LIMIT:
            return "refused"
        others = self.owed(project_id) - {(business_id, name)}
        if not may_use_share and len(slots) + 1 + len(others) > DAILY_CALL_LIMIT:
            return "refused"
        return "granted"

    @rule(
        target=pending,
        business_id=BUSINESSES,
        combo=COMBOS,
        purpose=st.sampled_from(Purpose),
        first=st.booleans(),
    )
    def reserve_for_somebody(
        self, business_id: str, combo: DimensionCombo, purpose: Purpose, first: bool
    ) -> Any:
        return self.reserve(business_id, combo, purpose, first=first)

    def reserve(
        self, business_id: str, combo: DimensionCombo, purpose: Purpose, *, first: bool
    ) -> Any:
        """What the ledger gave, if it did what the model says; nothing where it gave no slot."""
        may_use_share = first and purpose is Purpose.SCHEDULE
        expected = self.expected(business_id, combo, purpose, may_use_share=may_use_share)
        try:
            got = quota_ledger.reserve(
                self.database,
                project_id=PROJECT_OF[business_id],
                business_id=business_id,
                purpose=purpose,
                day=self.yesterday,
                dimension_set=combo.dimension_set,
                may_use_share=may_use_share,
                now=self.now,
            )
        except QuotaRefused:
            assert expected == "refused"
            return NOTHING
        if isinstance(got, AlreadyLanded):
            assert expected == "landed"
            return NOTHING
        if isinstance(got, InFlight):
            assert expected == "in flight"
            return NOTHING
        assert expected == "granted"
        slot = Slot(business_id, combo, self.now)
        self.today(PROJECT_OF[business_id]).append(slot)
        return got, slot

    @rule(business_id=BUSINESSES, combo=COMBOS, times=st.integers(1, 4))
    def test_in_vain(self, business_id: str, combo: DimensionCombo, times: int) -> None:
        """So that the last slots, where it matters who may have them, are soon reached."""
        for _ in range(times):
            taken = self.reserve(business_id, combo, Purpose.TEST, first=True)
            if taken is not NOTHING:
                self._settle(taken[0], taken[1], CallOutcome.SERVICE_UNAVAILABLE)

    @rule(taken=consumes(pending), outcome=st.sampled_from(FAILURES))
    def fail(self, taken: tuple[Reservation, Slot], outcome: CallOutcome) -> None:
        self._settle(*taken, outcome)

    @rule(taken=consumes(pending))
    def hear_that_the_day_is_spent(self, taken: tuple[Reservation, Slot]) -> None:
        self._settle(*taken, CallOutcome.RATE_LIMITED)

    @rule(taken=pending, settles=st.booleans())
    def get_a_reply(self, taken: tuple[Reservation, Slot], settles: bool) -> None:
        reservation, slot = taken
        if slot.outcome is None and not slot.has_reply and slot.is_claimed(self.now):
            land_export(
                self.database,
                make_export(combo=slot.combo, requested_at=slot.reserved_at),
                business_id=slot.business_id,
                project_id=reservation.project_id,
                day=day_collected_at(slot.reserved_at),
                slot=reservation.slot,
            )
            slot.has_reply = True
            self.landed.add(
                (slot.business_id, day_collected_at(slot.reserved_at), slot.combo.dimension_set)
            )
        if settles and slot.has_reply:
            self._settle(reservation, slot, CallOutcome.LANDED)

    @rule(taken=consumes(pending))
    def die(self, taken: tuple[Reservation, Slot]) -> None:
        """Nobody will ever settle this one."""

    @rule()
    def clear_up(self) -> None:
        quota_ledger.settle_left_behind(
            self.database,
            project_ids=set(PROJECT_OF.values()),
            utc_days={self.now.date()},
            now=self.now,
        )
        for project_id in set(PROJECT_OF.values()):
            for slot in self.today(project_id):
                if slot.outcome is None and slot.has_reply:
                    slot.outcome = CallOutcome.LANDED
                elif slot.outcome is None and not slot.is_claimed(self.now):
                    slot.outcome = CallOutcome.ABANDONED

    @rule(minutes=st.sampled_from([1, 2, 3, 5, 60]))
    def wait(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule()
    def sleep_until_tomorrow(self) -> None:
        self.now = datetime.combine(self.now.date() + timedelta(days=1), NOW.timetz())

    @rule(business_id=BUSINESSES)
    def pause_or_go_on(self, business_id: str) -> None:
        self.enabled ^= {business_id}
        connections.set_enabled(
            self.database,
            business_id=business_id,
            enabled=business_id in self.enabled,
            now=self.now,
        )

    @rule(business_id=BUSINESSES)
    def the_schedule_is_done_with(self, business_id: str) -> None:
        jobs = sync_jobs.start_jobs(
            self.database,
            business_ids=[business_id],
            day=self.yesterday,
            trigger=Trigger.SCHEDULE,
            dagster_run_id=None,
            now=self.now,
        )
        sync_jobs.settle_job(
            self.database,
            job_id=jobs[business_id],
            status=JobStatus.PARTIAL,
            calls_used=0,
            combos={},
            error_code=None,
            error_message=None,
            now=self.now,
        )
        self.done_by_schedule.add((business_id, self.yesterday))

    @invariant()
    def the_ledger_says_what_the_model_says(self) -> None:
        for project_id in sorted(set(PROJECT_OF.values())):
            model = self.today(project_id)
            calls = quota_ledger.list_calls(
                self.database, project_id=project_id, utc_day=self.now.date()
            )
            assert [call.slot for call in calls] == list(range(1, len(calls) + 1))
            assert len(calls) <= DAILY_CALL_LIMIT
            assert [
                (call.business_id, call.dimension_set, call.reserved_at, call.outcome)
                for call in calls
            ] == [
                (slot.business_id, slot.combo.dimension_set, slot.reserved_at, slot.outcome)
                for slot in model
            ]
            state = quota_ledger.quota_state(self.database, project_id=project_id, now=self.now)
            assert state.used == len(model)
            assert state.kept == min(len(self.owed(project_id)), DAILY_CALL_LIMIT - len(model))

    def _settle(self, reservation: Reservation, slot: Slot, outcome: CallOutcome) -> None:
        quota_ledger.settle(self.database, reservation, outcome=outcome, now=self.now)
        # The first outcome stands.
        slot.outcome = slot.outcome or outcome


def test_the_ledger_does_what_its_model_does(migrated_sqlite: Path) -> None:
    class OnAFileOfItsOwn(LedgerMachine):
        template = migrated_sqlite

    run_state_machine_as_test(
        OnAFileOfItsOwn,
        settings=settings(
            max_examples=20,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
