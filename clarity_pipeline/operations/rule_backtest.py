"""Replaying a rule over what is stored, some businesses at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Final

from clarity_pipeline.domain.days import check_day_is_over, days_between
from clarity_pipeline.domain.dimensions import OVERVIEW, URL_DEVICE
from clarity_pipeline.domain.errors import InvalidDay, UnknownBusiness
from clarity_pipeline.domain.rules.backtest import (
    Backtest,
    LateDay,
    Replay,
    history_to_read,
    joined,
    known_as_of,
    replay,
    summarise,
)
from clarity_pipeline.domain.rules.history import Source
from clarity_pipeline.domain.rules.model import Rule
from clarity_pipeline.operations.rule_evaluation import Batch, batches, read_batch
from clarity_pipeline.store import businesses, day_history
from clarity_pipeline.store.database import Database

MAX_BACKTEST_DAYS: Final = 400
"""A year and a month; more is read than any rule that is in use looks back on."""

_MADE_OF: Final = {
    Source.BUSINESS: frozenset({URL_DEVICE.dimension_set, OVERVIEW.dimension_set}),
    Source.LANDING_PAGE: frozenset({URL_DEVICE.dimension_set}),
}
"""The slices that a day of a source is rolled up from (operations.rebuild_day)."""


def backtest_rule(
    database: Database,
    rule: Rule,
    *,
    start: date,
    end: date,
    now: datetime,
    business_ids: Collection[str] | None = None,
) -> Backtest:
    """What a rule would have done from `start` to `end`, of its businesses or those named.

    Nothing is stored and nothing is done. Raises UnknownBusiness, and InvalidDay for days that are
    not over, are too many, or of which there is no history at all.
    """
    days = len(days_between(start, end))
    check_day_is_over(end, now=now)
    if days > MAX_BACKTEST_DAYS:
        raise InvalidDay(
            f"{start} to {end} are {days} days, and a backtest has at most {MAX_BACKTEST_DAYS}; "
            "choose a later start."
        )
    ids = _businesses(database, rule, business_ids)
    all_batches = batches(
        database,
        [rule],
        ids,
        as_of=end,
        first_day=start,
        with_nobodys=business_ids is None,
    )
    # A rule that is about nothing has days all the same.
    replays = [
        _replay(database, rule, batch, start=start, end=end)
        for batch in [*all_batches] or [Batch(())]
    ]
    backtest = summarise(joined(replays))
    if backtest.entities and not any(day.has_history for day in backtest.days):
        raise InvalidDay(
            f"Nothing that rule {rule.name!r} measures is stored of {end} or before, so there is "
            "no history to test it on; choose later days."
        )
    return backtest


def _businesses(
    database: Database, rule: Rule, business_ids: Collection[str] | None
) -> Sequence[str]:
    asked = {*(rule.businesses or ()), *(business_ids or ())}
    for missing in businesses.missing_businesses(database, asked):
        raise UnknownBusiness(missing)
    return [
        business_id
        for business_id in (business.id for business in businesses.list_businesses(database))
        if (rule.businesses is None or business_id in rule.businesses)
        and (business_ids is None or business_id in business_ids)
    ]


def _replay(database: Database, rule: Rule, batch: Batch, *, start: date, end: date) -> Replay:
    inputs = read_batch(database, [rule], batch, as_of=end, first_day=start)
    first_day = history_to_read(rule, start=start)
    return replay(
        rule,
        entities=inputs.entities,
        series=inputs.series,
        start=start,
        end=end,
        late_days=_late_days(database, start=first_day, end=end, business_ids=batch.business_ids),
    )


def _late_days(
    database: Database, *, start: date, end: date, business_ids: Sequence[str]
) -> Mapping[Source, Sequence[LateDay]]:
    late = day_history.late_slices(
        database,
        start=start,
        end=end,
        business_ids=business_ids,
        dimension_sets=_MADE_OF[Source.BUSINESS],
    )
    return {
        source: [
            LateDay(
                business_id=each.business_id,
                day=each.day,
                known_as_of=known_as_of(each.landed_at),
            )
            for each in late
            if each.dimension_set in dimension_sets
        ]
        for source, dimension_sets in _MADE_OF.items()
    }
