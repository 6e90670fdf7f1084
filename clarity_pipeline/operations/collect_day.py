"""Collecting one day for many businesses: plan it, and settle what came of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from clarity_pipeline.domain.collection import (
    BusinessPlan,
    ComboOutcome,
    LandedReply,
    PlannedCall,
    job_status,
    plan_business_day,
    purpose_of,
    telling_outcome,
)
from clarity_pipeline.domain.days import check_day_is_over, day_collected_at
from clarity_pipeline.domain.dimensions import combos_of_a_day
from clarity_pipeline.domain.errors import InvalidDay, NotConnected, SyncDisabled
from clarity_pipeline.domain.quota import Purpose, utc_day_of
from clarity_pipeline.domain.recovery import (
    MissedCombo,
    outcome_of_pair,
    recover_gaps,
    recoverable_days,
)
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.operations.guarded_call import judge_landed
from clarity_pipeline.operations.recover_day import plan_day_recovery, recovered_sets
from clarity_pipeline.operations.token_refusals import switch_off_refused
from clarity_pipeline.operations.workers import this_worker
from clarity_pipeline.store import connections, exports, quota_ledger, sync_jobs
from clarity_pipeline.store.connections import ConnectionOutline, ConnectionRecord
from clarity_pipeline.store.database import Database

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DayPlan:
    """A planned day; carries no secret, so that it may travel between ops.

    `asked_for` are the businesses that the run was narrowed to; empty means all.
    """

    run_id: str
    day: date
    trigger: Trigger
    asked_for: tuple[str, ...]
    businesses: tuple[BusinessPlan, ...]
    job_ids: Mapping[str, int]

    @property
    def calls(self) -> tuple[PlannedCall, ...]:
        """All calls, the most valuable combo of every business first.

        When the quota or the time runs out it is the least valuable combos that are missing, and
        a token that is refused is found out before the rest of its calls are sent.
        """
        longest = max((len(plan.to_fetch) for plan in self.businesses), default=0)
        return tuple(
            plan.to_fetch[rank]
            for rank in range(longest)
            for plan in self.businesses
            if rank < len(plan.to_fetch)
        )


@dataclass(frozen=True, slots=True)
class StepOutcomes:
    """What the calls of one step came to, and the run that made them."""

    run_id: str
    outcomes: tuple[ComboOutcome, ...]


@dataclass(frozen=True, slots=True)
class SettledBusiness:
    """How one business's sync of a day ended."""

    business_id: str
    status: JobStatus
    calls_used: int
    message: str | None


def plan_day(
    database: Database,
    *,
    day: date,
    business_ids: Collection[str],
    trigger: Trigger,
    overview_default: bool,
    run_id: str,
    now: datetime,
    recovery: bool = False,
) -> DayPlan:
    """Open a sync job for every business concerned and decide which calls it needs.

    `business_ids` narrows the day to these businesses; empty means all that are enabled. With
    `recovery` a day that was missed, and that longer replies still reach, is no gap. Raises
    UnknownBusiness, NotConnected, SyncDisabled or InvalidDay, before anything is written, when a
    business that was asked for by name cannot be synced.
    """
    check_day_is_over(day, now=now)
    if business_ids:
        records = connections.list_connections(database, business_ids)
        for record in records:
            check_can_sync(record, day=day)
    else:
        records = [
            record for record in connections.list_connections(database) if should_have(record, day)
        ]
    landed = landed_replies(database, day=day, business_ids=[r.business_id for r in records])
    quota_ledger.settle_left_behind(
        database,
        project_ids={record.project_id for record in records if record.project_id},
        # The calls of a day are made on the next one, those that recover it now, tests on either.
        utc_days={day, day + timedelta(days=1), utc_day_of(now)},
        now=now,
    )
    plans: list[BusinessPlan] = []
    for record in records:
        assert record.project_id is not None
        plans.append(
            plan_business_day(
                business_id=record.business_id,
                project_id=record.project_id,
                day=day,
                now=now,
                purpose=purpose_of(trigger),
                overview=wants_overview(record, overview_default),
                landed=landed.get(record.business_id, ()),
            )
        )
    if recovery and day in recoverable_days(now):
        plans = _with_recovery(
            database,
            plans,
            day=day,
            records=records,
            trigger=trigger,
            overview_default=overview_default,
            now=now,
        )
    job_ids = sync_jobs.start_jobs(
        database,
        business_ids=[record.business_id for record in records],
        day=day,
        trigger=trigger,
        dagster_run_id=run_id,
        worker=this_worker(),
        now=now,
    )
    return DayPlan(
        run_id=run_id,
        day=day,
        trigger=trigger,
        asked_for=tuple(business_ids),
        businesses=tuple(plans),
        job_ids=job_ids,
    )


def collect_in_run(
    database: Database,
    plan: DayPlan,
    steps: Iterable[StepOutcomes],
    *,
    run_id: str,
    make_calls: Callable[[Sequence[PlannedCall]], Sequence[ComboOutcome]],
    overview_default: bool,
    recovery: bool,
    now: datetime,
) -> tuple[DayPlan, list[ComboOutcome]]:
    """The plan and the outcomes that a run is to settle.

    A run that is executed again in parts is handed the plan and the outcomes of the run before it,
    and they are history: the day is planned anew for this run, which makes the calls that are
    missing now. The outcomes of steps that this run has executed itself stand.
    """
    own = [outcome for step in steps if step.run_id == run_id for outcome in step.outcomes]
    if plan.run_id == run_id or not plan.businesses:
        return plan, own
    anew = plan_day(
        database,
        day=plan.day,
        business_ids=plan.asked_for,
        trigger=plan.trigger,
        overview_default=overview_default,
        recovery=recovery,
        run_id=run_id,
        now=now,
    )
    planned = {business.business_id for business in anew.businesses}
    own = [outcome for outcome in own if outcome.business_id in planned]
    made = {(outcome.business_id, outcome.dimension_set) for outcome in own}
    missing = [
        call for call in anew.calls if (call.business_id, call.combo.dimension_set) not in made
    ]
    return anew, [*own, *make_calls(missing)]


def settle_day(
    database: Database,
    plan: DayPlan,
    outcomes: Sequence[ComboOutcome],
    *,
    auth_failures_before_disable: int,
    now: datetime,
) -> list[SettledBusiness]:
    """Close every sync job of the plan with the outcomes of its combos.

    What a call came to says more than what the plan had found without one. Businesses whose token
    has been refused so many times in a row are switched off.
    """
    by_business: dict[str, dict[str, ComboOutcome]] = {
        business.business_id: {outcome.dimension_set: outcome for outcome in business.settled}
        for business in plan.businesses
    }
    for outcome in _with_pairs_joined(database, plan, outcomes):
        by_business[outcome.business_id][outcome.dimension_set] = outcome
    settled: list[SettledBusiness] = []
    for business_id, by_combo in by_business.items():
        combos = list(by_combo.values())
        status = job_status(combos)
        calls_used = sum(outcome.calls for outcome in combos)
        telling = telling_outcome(combos)
        sync_jobs.settle_job(
            database,
            job_id=plan.job_ids[business_id],
            status=status,
            calls_used=calls_used,
            combos={outcome.dimension_set: outcome.as_json() for outcome in combos},
            error_code=telling.error_code if telling else None,
            error_message=telling.message if telling else None,
            now=now,
        )
        if any(outcome.status.has_data and outcome.calls for outcome in combos):
            connections.record_synced(database, business_id=business_id, at=now)
        logger.info(
            "business %s day %s: %s, %d calls", business_id, plan.day, status.value, calls_used
        )
        settled.append(
            SettledBusiness(business_id, status, calls_used, telling.message if telling else None)
        )
    switch_off_refused(
        database, outcomes, auth_failures_before_disable=auth_failures_before_disable, now=now
    )
    return settled


def check_can_sync(record: ConnectionRecord, *, day: date) -> None:
    """Raises NotConnected, SyncDisabled or InvalidDay, saying what to do about it."""
    if not record.is_connected:
        raise NotConnected(record.business_id)
    if not record.is_enabled:
        raise SyncDisabled(record.business_id, reason=record.disabled_reason)
    if day < first_day_of(record):
        raise InvalidDay(
            f"Business {record.business_id!r} was connected on {record.created_at:%Y-%m-%d}; "
            f"the first day there can be data of is {first_day_of(record)}, not {day}."
        )


def first_day_of(record: ConnectionRecord) -> date:
    """The first day there can be data of: the day before the business was connected."""
    return day_collected_at(record.created_at)


def should_have(record: ConnectionRecord, day: date) -> bool:
    """Whether a business that is not asked for by name is collected on this day."""
    return record.is_enabled and day >= first_day_of(record)


def wants_overview(record: ConnectionOutline, overview_default: bool) -> bool:  # noqa: FBT001
    """Whether a business's day includes the fifth call: its own setting, else the default."""
    return overview_default if record.overview is None else record.overview


def wanted_combos(
    records: Iterable[ConnectionRecord], *, day: date, overview_default: bool
) -> list[MissedCombo]:
    """The combos that these businesses should have of a day."""
    return [
        MissedCombo(record.business_id, record.project_id, day, combo)
        for record in records
        if record.project_id is not None and should_have(record, day)
        for combo in combos_of_a_day(overview=wants_overview(record, overview_default))
    ]


def _with_recovery(
    database: Database,
    plans: Sequence[BusinessPlan],
    *,
    day: date,
    records: Sequence[ConnectionRecord],
    trigger: Trigger,
    overview_default: bool,
    now: datetime,
) -> list[BusinessPlan]:
    """The plans, in which what can be recovered of the day is a gap no more.

    The schedule asks for all missed days that are within reach, so it shares the free calls out
    between them. Who asks for one day gets what there is for it.
    """
    wanted = {day: wanted_combos(records, day=day, overview_default=overview_default)}
    if trigger is Trigger.SCHEDULE:
        everybody = connections.list_connections(database)
        for other in set(recoverable_days(now)) - {day}:
            wanted[other] = wanted_combos(everybody, day=other, overview_default=overview_default)
    recovery = plan_day_recovery(
        database, day=day, wanted=wanted, overview_default=overview_default, now=now
    )
    return [recover_gaps(plan, recovery) for plan in plans]


def _with_pairs_joined(
    database: Database, plan: DayPlan, outcomes: Sequence[ComboOutcome]
) -> list[ComboOutcome]:
    """The outcomes, those of the calls for one recovered combo made one."""
    recovering = {
        (call.business_id, call.combo.dimension_set)
        for call in plan.calls
        if call.purpose is Purpose.RECOVERY
    }
    if not recovering:
        return list(outcomes)
    stands = recovered_sets(
        database, day=plan.day, business_ids={business_id for business_id, _ in recovering}
    )
    joined: list[ComboOutcome] = []
    of_calls: dict[tuple[str, str], list[ComboOutcome]] = {}
    for outcome in outcomes:
        key = (outcome.business_id, outcome.dimension_set)
        if key in recovering:
            of_calls.setdefault(key, []).append(outcome)
        else:
            joined.append(outcome)
    return joined + [
        outcome_of_pair(key, halves, stands=key in stands) for key, halves in of_calls.items()
    ]


def landed_replies(
    database: Database, *, day: date, business_ids: Sequence[str]
) -> dict[str, list[LandedReply]]:
    """The 24 h replies there are of a day by business; those nobody has judged yet are judged."""
    landed: dict[str, list[LandedReply]] = {}
    for reply in exports.list_exports(database, day=day, business_ids=business_ids):
        if reply.num_of_days != 1:
            continue
        verdict, detail = reply.verdict, reply.detail
        if verdict is None:
            verdict, detail = judge_landed(database, reply.id)
        landed.setdefault(reply.business_id, []).append(
            LandedReply(reply.dimension_set, verdict, detail)
        )
    return landed
