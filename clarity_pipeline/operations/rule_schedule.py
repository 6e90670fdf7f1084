"""Which rules have to be evaluated now although no new data ask for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from clarity_pipeline.domain.days import day_collected_at, due_at
from clarity_pipeline.domain.rules.cron import latest_due
from clarity_pipeline.domain.rules.due import RuleTrigger, mode_of
from clarity_pipeline.domain.rules.model import Cron
from clarity_pipeline.store import rule_evaluations, rules
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.rules import StoredRule


@dataclass(frozen=True, slots=True)
class RulesDue:
    """Rules that are to be evaluated together, as of the day before `due_at` (UTC)."""

    trigger: RuleTrigger
    rule_ids: tuple[int, ...]
    due_at: datetime

    @property
    def day(self) -> date:
        return day_collected_at(self.due_at)

    @property
    def run_key(self) -> str:
        """The same for whoever finds them due again."""
        ids = ",".join(map(str, self.rule_ids))
        return f"rules {self.trigger} {self.due_at.isoformat()} {ids}"


@dataclass(frozen=True, slots=True)
class LookedForRules:
    """What a look found; the next one goes on from `cursor`."""

    due: tuple[RulesDue, ...]
    cursor: str


def look_for_due_rules(database: Database, *, cursor: str | None, now: datetime) -> LookedForRules:
    """The rules whose time came since the look that left this cursor; of a first look, none.

    Of a rule that has missed several of its times the latest counts. Once a day is so late that it
    should have been in, rules that follow the data and have said nothing of it are due as well:
    where every sync has failed, nothing else would ask for them, and some are not about Clarity.
    """
    looked = LookedForRules((), now.isoformat())
    after = _instant(cursor)
    if after is None:
        return looked
    in_force = rules.rules_in_force(database).rules
    by_time: dict[datetime, list[int]] = defaultdict(list)
    for stored in in_force:
        schedule = stored.rule.schedule
        if not isinstance(schedule, Cron):
            continue
        time = latest_due(schedule, after=after, now=now)
        if time is not None and mode_of(stored.rule, day=day_collected_at(time), now=now):
            by_time[time].append(stored.id)
    found = [RulesDue(RuleTrigger.CRON, tuple(ids), time) for time, ids in sorted(by_time.items())]
    late = due_at(day_collected_at(now))
    if after < late <= now:
        unsaid = _without_evaluation(database, in_force, now=now)
        if unsaid:
            found.append(RulesDue(RuleTrigger.ON_DATA, unsaid, late))
    return LookedForRules(tuple(found), looked.cursor)


def _without_evaluation(
    database: Database, in_force: Sequence[StoredRule], *, now: datetime
) -> tuple[int, ...]:
    day = day_collected_at(now)
    following = {
        stored.id
        for stored in in_force
        if not isinstance(stored.rule.schedule, Cron) and mode_of(stored.rule, day=day, now=now)
    }
    if not following:
        return ()
    return tuple(sorted(following - rule_evaluations.rules_evaluated(database, day=day)))


def _instant(cursor: str | None) -> datetime | None:
    try:
        instant = datetime.fromisoformat(cursor or "")
    except ValueError:
        return None
    return instant if instant.tzinfo is not None else None
