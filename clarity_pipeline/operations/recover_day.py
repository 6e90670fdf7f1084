"""Planning the recovery of a missed day from what has landed and what the quota leaves free."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta

from clarity_pipeline.domain.recovery import (
    DayRecovery,
    MissedCombo,
    derivable_pairs,
    plan_recovery,
    recovery_of,
    standing_of,
)
from clarity_pipeline.operations.guarded_call import judge_landed
from clarity_pipeline.store import exports, quota_ledger
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.exports import JudgedExport


def plan_day_recovery(
    database: Database,
    *,
    day: date,
    wanted: Mapping[date, Collection[MissedCombo]],
    overview_default: bool,
    now: datetime,
) -> DayRecovery:
    """Decide what becomes of the gaps of a day.

    `wanted` are the combos of each day that shares in today's free calls, this one among them: a
    day that is to be recovered as well must not find them spent on something less valuable.
    """
    replies = _replies(database, wanted)
    standings = {
        each: standing_of(each, wanted=combos, replies=_about(each, replies), now=now)
        for each, combos in wanted.items()
    }
    missed = [combo for standing in standings.values() for combo in standing.missed]
    quotas = quota_ledger.quota_states(
        database,
        project_ids={combo.project_id for combo in missed},
        now=now,
        overview_default=overview_default,
    )
    free_calls = {project_id: quota.free for project_id, quota in quotas.items()}
    plan = plan_recovery(missed=missed, replies=replies, free_calls=free_calls, now=now)
    return recovery_of(day, standing=standings[day], plan=plan, now=now)


def has_missed_combos(
    database: Database, *, day: date, wanted: Collection[MissedCombo], now: datetime
) -> bool:
    """Whether a day lacks combos that no landed reply and no pair of replies gives."""
    replies = _replies(database, {day: wanted})
    return bool(standing_of(day, wanted=wanted, replies=replies, now=now).missed)


def recovered_sets(
    database: Database, *, day: date, business_ids: Collection[str]
) -> frozenset[tuple[str, str]]:
    """The (business, dimension set) of a day that a pair of landed replies gives back."""
    replies = [
        reply
        for each in (day, day + timedelta(days=1))
        for reply in exports.list_exports(database, day=each, business_ids=business_ids)
    ]
    return frozenset(derivable_pairs(day, replies))


def _replies(
    database: Database, wanted: Mapping[date, Collection[MissedCombo]]
) -> list[JudgedExport]:
    """All replies stored under these days and the days after them, each of them judged."""
    business_ids = {combo.business_id for combos in wanted.values() for combo in combos}
    days = {each + timedelta(days=offset) for each in wanted for offset in (0, 1)}
    return [
        _judged(database, reply)
        for each in sorted(days)
        for reply in exports.list_exports(database, day=each, business_ids=business_ids)
    ]


def _about(day: date, replies: Sequence[JudgedExport]) -> list[JudgedExport]:
    return [reply for reply in replies if reply.day in {day, day + timedelta(days=1)}]


def _judged(database: Database, reply: JudgedExport) -> JudgedExport:
    if reply.verdict is not None:
        return reply
    verdict, detail = judge_landed(database, reply.id)
    return replace(reply, verdict=verdict, detail=detail)
