"""Rules, entities and histories for tests, each with as little said as possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final

import numpy as np

from clarity_pipeline.domain.rules.decisions import Decision, Finding
from clarity_pipeline.domain.rules.documents import parse_rule
from clarity_pipeline.domain.rules.evaluate import evaluate
from clarity_pipeline.domain.rules.history import DailySeries, Entities, Entity, Source
from clarity_pipeline.domain.rules.model import Level, Rule

AS_OF: Final = date(2026, 11, 1)

Days = Mapping[date, Mapping[str, float | None]]
"""What is known of each day; a day that is absent has no data, a sum that is None is unknown.
"basis" is no sum, but a Basis."""

AN_AD: Final = Entity(id="ad-1", name="Spring sale", level=Level.AD, business_id="acme")


def condition(metric: str = "spend", operator: str = ">", value: Any = 10, **more: Any) -> Any:
    """A condition's document; about yesterday unless it says otherwise."""
    return {
        "metric": metric,
        "operator": operator,
        "value": value,
        "window": {"kind": "yesterday"},
        **more,
    }


def leave_of_a_business(leave: float, *, business: str = "acme", **more: Any) -> dict[str, Any]:
    """What a rule needs for a condition that only one business leaves late."""
    override = {"business": business, "condition": "late", "leave": leave}
    return {"conditions": condition(key="late", **more), "overrides": [override]}


def last_days(days: int) -> dict[str, Any]:
    return {"kind": "last_days", "days": days}


def document(conditions: Any = None, **more: Any) -> dict[str, Any]:
    """A rule's document: an alert about every ad of everybody."""
    return {
        "name": "A rule",
        "scope": {"kind": "all"},
        "level": "ad",
        "conditions": condition() if conditions is None else conditions,
        "actions": [{"kind": "alert"}],
        **more,
    }


def rule(conditions: Any = None, **more: Any) -> Rule:
    return parse_rule(document(conditions, **more))


def back(days: int) -> date:
    """So many days before the day of evaluation."""
    return AS_OF - timedelta(days=days)


def daily(series: str, *values: float | None) -> dict[date, dict[str, float | None]]:
    """One series with these values, the last of them on the day of evaluation; None: no data."""
    return {
        back(len(values) - 1 - index): {series: value}
        for index, value in enumerate(values)
        if value is not None
    }


def ratio_days(
    numerator: str, denominator: str, *pairs: tuple[float, float]
) -> dict[date, dict[str, float | None]]:
    """Two series with these values, the last of them on the day of evaluation."""
    return {
        back(len(pairs) - 1 - index): {numerator: over, denominator: under}
        for index, (over, under) in enumerate(pairs)
    }


def series_of(histories: Sequence[Days], *, order: Any = "F") -> DailySeries:
    """A row per history; no day before the first that any of them has."""
    known = [day for history in histories for day in history]
    first, last = min(known, default=AS_OF), max(known, default=AS_OF)
    shape = (len(histories), (last - first).days + 1)
    has_data = np.zeros(shape, np.bool_, order)
    names = sorted({name for history in histories for sums in history.values() for name in sums})
    has_basis = "basis" in names
    names = [name for name in names if name != "basis"]
    basis = np.zeros(shape, np.uint8, order) if has_basis else None
    values = {name: np.full(shape, np.nan, order=order) for name in names}
    for row, history in enumerate(histories):
        for day, sums in history.items():
            has_data[row, (day - first).days] = True
            for name, value in sums.items():
                if name == "basis":
                    assert basis is not None
                    assert value is not None
                    basis[row, (day - first).days] = value
                else:
                    values[name][row, (day - first).days] = np.nan if value is None else value
    return DailySeries(
        first_day=first,
        has_data=has_data,
        values=values,
        row_of_entity=np.arange(len(histories)),
        basis=basis,
    )


def decide(
    what: Any,
    days: Days,
    *,
    entity: Entity = AN_AD,
    as_of: date = AS_OF,
    was_true: bool = False,
    **more: Any,
) -> Decision:
    """The decision about one entity; `days` are those of every source."""
    of = what if isinstance(what, Rule) else rule(what, **more)
    history = series_of([days])
    evaluation = evaluate(
        of,
        entities=Entities.of([entity]),
        series=dict.fromkeys(Source, history),
        as_of=as_of,
        was_true={"conditions": np.array([was_true])},
    )
    assert len(evaluation.rows) == 1
    return evaluation.decision(0)


def find(what: Any, days: Days, **more: Any) -> Finding:
    """The finding of a rule's only condition."""
    (finding,) = decide(what, days, **more).findings
    return finding
