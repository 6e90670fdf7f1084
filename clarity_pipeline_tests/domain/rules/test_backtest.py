"""A rule over stored history: what it would have answered, and nothing it could not have known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clarity_pipeline.domain.errors import InvalidDay
from clarity_pipeline.domain.rules.backtest import (
    Backtest,
    Episode,
    LateDay,
    history_to_read,
    joined,
    known_as_of,
    replay,
    summarise,
)
from clarity_pipeline.domain.rules.decisions import Reason, Truth
from clarity_pipeline.domain.rules.evaluate import evaluate
from clarity_pipeline.domain.rules.history import DailySeries, Entities, Entity, Source
from clarity_pipeline.domain.rules.model import EntityStatus, Level, Rule
from clarity_pipeline_tests.domain.rules.histories import (
    AN_AD,
    AS_OF,
    Days,
    back,
    condition,
    daily,
    last_days,
    leave_of_a_business,
    rule,
    series_of,
)
from clarity_pipeline_tests.domain.rules.worlds import World

RAGE = condition("clarity_rage_clicks", ">", 10)


def backtest(
    of: Rule,
    *histories: Days,
    entities: Sequence[Entity] | None = None,
    days: int | None = None,
    late: Sequence[LateDay] = (),
) -> Backtest:
    """Of so many days up to AS_OF, a history per ad; by default the days that the first one has."""
    chosen = entities or [replace(AN_AD, id=f"ad-{number}") for number in range(len(histories))]
    start = back(days - 1) if days is not None else min(histories[0])
    return summarise(
        replay(
            of,
            entities=Entities.of(chosen),
            series=dict.fromkeys(Source, series_of(histories)),
            start=start,
            end=AS_OF,
            late_days={Source.BUSINESS: late, Source.LANDING_PAGE: late},
        )
    )


def late_by(days: int, *, of: date) -> LateDay:
    return LateDay(business_id="acme", day=of, known_as_of=of + timedelta(days=days))


def answers(found: Backtest) -> list[tuple[int, int, int]]:
    return [(each.fired, each.not_fired, each.unknown) for each in found.days]


# What is counted


def test_every_day_has_its_counts_and_the_reasons_for_what_is_unknown() -> None:
    found = backtest(
        rule(condition(value=10)), daily("spend", 5, 20, 20), daily("spend", 20, 5, None)
    )
    assert [each.day for each in found.days] == [back(2), back(1), back(0)]
    assert answers(found) == [(1, 1, 0), (1, 1, 0), (1, 0, 1)]
    assert [dict(each.reasons) for each in found.days] == [{}, {}, {Reason.NO_DATA: 1}]
    assert found.reasons == {Reason.NO_DATA: 1}
    assert (found.entities, found.days_fired) == (2, 3)
    assert found.chart() == {
        "days": [back(2), back(1), back(0)],
        "fired": [1, 1, 1],
        "not_fired": [1, 1, 0],
        "unknown": [0, 0, 1],
        "actions": [1, 1, 1],
    }


def test_entities_that_fired_most_come_first_with_their_episodes() -> None:
    found = backtest(
        rule(condition(value=10)),
        daily("spend", 5, 20, 5, 5, 5, 5),
        daily("spend", 20, 20, 5, 5, 5, 20),
        daily("spend", 5, 5, 5, 5, 5, 5),
    )
    first, second = found.fired
    assert (first.entity_id, first.days_fired) == ("ad-1", 3)
    assert first.episodes == (
        Episode(first_day=back(5), last_day=back(4), days_fired=2, is_over=True),
        Episode(first_day=back(0), last_day=back(0), days_fired=1, is_over=False),
    )
    assert (second.entity_id, second.entity_name, second.business_id) == (
        "ad-0",
        "Spring sale",
        "acme",
    )
    assert second.episodes == (
        Episode(first_day=back(4), last_day=back(4), days_fired=1, is_over=True),
    )


def test_an_unknown_day_neither_ends_an_episode_nor_counts_in_it() -> None:
    (fired,) = backtest(rule(condition(value=10)), daily("spend", 20, None, 20, 5)).fired
    assert fired.episodes == (
        Episode(first_day=back(3), last_day=back(1), days_fired=2, is_over=True),
    )
    assert (fired.days_fired, fired.days_unknown, fired.changes) == (2, 1, 1)


def test_an_answer_that_turns_again_within_three_days_flaps() -> None:
    within, later, calm = backtest(
        rule(condition(value=10)),
        daily("spend", 5, 20, 20, 20, 5, 5, 5, 5, 5),
        daily("spend", 5, 20, 20, 20, 20, 5, 5, 5, 5),
        daily("spend", 5, 20, 20, 20, 20, 20, 20, 20, 20),
    ).fired[::-1]
    assert (within.changes, within.quick_changes, within.flaps) == (2, 1, True)
    assert (later.changes, later.quick_changes, later.flaps) == (2, 0, False)
    assert (calm.changes, calm.quick_changes) == (1, 0)


def test_an_unknown_day_is_no_change_of_the_answer() -> None:
    (fired,) = backtest(rule(condition(value=10)), daily("spend", 20, None, 20, None, 20)).fired
    assert (fired.changes, fired.quick_changes, len(fired.episodes)) == (0, 0, 1)


@pytest.mark.parametrize(
    ("hours", "acted_on"),
    [
        (0, [1, 1, 1, 1, 1]),
        (24, [1, 1, 1, 1, 1]),
        (25, [1, 1, 1, 1, 1]),
        (26, [1, 0, 1, 0, 1]),
        (72, [1, 0, 0, 1, 0]),
    ],
)
def test_an_entity_is_left_alone_for_its_cool_down(hours: int, acted_on: list[int]) -> None:
    """Which ends an hour early, because two evaluations are not a day apart to the minute."""
    found = backtest(
        rule(condition(value=10), limits={"cool_down_hours": hours}),
        daily("spend", 20, 20, 20, 20, 20),
    )
    assert [each.actions for each in found.days] == acted_on
    assert (found.actions, found.fired[0].actions) == (sum(acted_on), sum(acted_on))


@pytest.mark.parametrize(
    ("hours", "acted_on"),
    [(0, [1, 0, 0, 0, 1, 0, 0]), (96, [1, 0, 0, 0, 1, 0, 0]), (144, [1, 0, 0, 0, 0, 0, 1])],
)
def test_what_is_paused_is_not_paused_again_before_it_was_known_to_be_fine(
    hours: int, acted_on: list[int]
) -> None:
    found = backtest(
        rule(
            condition(value=10),
            actions=[{"kind": "pause"}, {"kind": "alert"}],
            limits={"cool_down_hours": hours},
        ),
        daily("spend", 20, 20, None, 5, 20, 20, 20),
    )
    assert [each.actions for each in found.days] == acted_on


@pytest.mark.parametrize(
    ("actions", "businesses", "trips"),
    [
        (["pause"], ["acme"] * 4, [True, False, False, False]),
        # Too few of each business, and too many of all together.
        (["pause"], ["acme", "bolt", "cove", "dusk"], [True, False, False, False]),
        # On the last day half of four, but both of one business.
        (["pause", "alert"], ["acme", "bolt", "acme", "bolt"], [True, False, False, True]),
        # An alert about most of a client's pages is what alerts are for.
        (["alert"], ["acme"] * 4, [False, False, False, False]),
    ],
)
def test_a_day_on_which_the_rule_would_have_been_switched_off_is_told(
    actions: list[str], businesses: list[str], trips: list[bool]
) -> None:
    limits = {"breaker_share": 0.5, "breaker_min_entities": 2, "cool_down_hours": 0}
    spent = [daily("spend", 20, 5, 5, 5), daily("spend", 20, 20, 5, 20)]
    spent += [daily("spend", 20, 5, 20, 5), daily("spend", 5, 5, 5, 20)]
    found = backtest(
        rule(condition(value=10), limits=limits, actions=[{"kind": kind} for kind in actions]),
        *spent,
        entities=[
            replace(AN_AD, id=f"ad-{number}", business_id=business)
            for number, business in enumerate(businesses)
        ],
    )
    assert [each.trips_breaker for each in found.days] == trips


def test_a_rule_that_is_about_nothing_has_days_and_no_entities() -> None:
    found = backtest(
        rule(condition(value=10), filters={"name_contains": "winter"}), daily("spend", 20, 20)
    )
    assert (found.entities, found.fired, answers(found)) == (0, (), [(0, 0, 0)] * 2)
    assert not any(each.trips_breaker for each in found.days)


def test_days_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(InvalidDay):
        replay(
            rule(),
            entities=Entities.of([AN_AD]),
            series={},
            start=back(0),
            end=back(1),
            late_days={},
        )


# What was known then


@pytest.mark.parametrize(
    ("landed_at", "as_of"),
    [
        (datetime(2026, 11, 2, 0, 15, tzinfo=UTC), date(2026, 11, 1)),
        (datetime(2026, 11, 2, 23, 59, 59, tzinfo=UTC), date(2026, 11, 1)),
        (datetime(2026, 11, 3, 0, 0, tzinfo=UTC), date(2026, 11, 2)),
    ],
)
def test_a_reply_counts_as_of_the_day_before_it_landed(landed_at: datetime, as_of: date) -> None:
    assert known_as_of(landed_at) == as_of


def test_a_day_that_landed_late_is_unknown_until_then() -> None:
    days = daily("rage_clicks", 20, 20, 20, 20)
    of = rule({**RAGE, "window": last_days(2), "value": 15, "min_coverage": 1.0})
    found = backtest(of, days, days=3, late=[late_by(2, of=back(2))])
    assert answers(found) == [(0, 0, 1), (0, 0, 1), (1, 0, 0)]
    assert found.days[0].reasons == {Reason.LOW_COVERAGE: 1}


def test_a_day_that_landed_after_the_backtest_is_never_known() -> None:
    found = backtest(rule(RAGE), daily("rage_clicks", 20, 20), late=[late_by(5, of=back(0))])
    assert answers(found) == [(1, 0, 0), (0, 0, 1)]


def test_of_several_replies_that_a_day_is_made_of_the_last_to_land_counts() -> None:
    late = [late_by(2, of=back(2)), late_by(1, of=back(2))]
    of = rule({**RAGE, "window": last_days(3), "value": 15})
    days = {back(2): {"rage_clicks": 20.0}, back(1): {"rage_clicks": 1.0}}
    found = backtest(of, days, days=3, late=late)
    assert answers(found) == [(0, 0, 1), (0, 1, 0), (1, 0, 0)]


def test_a_late_day_of_one_business_is_known_of_all_others() -> None:
    bolt = replace(AN_AD, id="ad-2", business_id="bolt")
    found = backtest(
        rule(RAGE),
        daily("rage_clicks", 20, 20),
        daily("rage_clicks", 20, 20),
        entities=[AN_AD, bolt],
        late=[late_by(1, of=back(1)), replace(late_by(1, of=back(1)), business_id="cove")],
    )
    assert answers(found) == [(1, 0, 1), (2, 0, 0)]


def test_a_late_day_of_what_has_no_days_is_nobody_elses() -> None:
    entities = [AN_AD, replace(AN_AD, id="ad-2", business_id="bolt")]
    series = replace(series_of([daily("rage_clicks", 20)]), row_of_entity=np.array([-1, 0]))
    found = replay(
        rule(RAGE),
        entities=Entities.of(entities),
        series={Source.BUSINESS: series},
        start=AS_OF,
        end=AS_OF,
        late_days={Source.BUSINESS: [late_by(5, of=AS_OF)]},
    )
    assert found.truth.tolist() == [[Truth.UNKNOWN, Truth.TRUE]]


def test_a_late_day_without_data_does_not_get_any() -> None:
    found = backtest(rule(RAGE), daily("rage_clicks", 20, None, 20), late=[late_by(1, of=back(1))])
    assert answers(found) == [(1, 0, 0), (0, 0, 1), (1, 0, 0)]


def test_numbers_of_ads_are_never_late() -> None:
    found = backtest(rule(condition()), daily("spend", 20, 20), late=[late_by(5, of=back(1))])
    assert answers(found) == [(1, 0, 0), (1, 0, 0)]


def test_a_change_is_not_known_before_its_day() -> None:
    window = {"kind": "since_change", "within_days": 2}
    changed = replace(AN_AD, changed_on=back(3))
    found = backtest(rule(condition(window=window)), daily("spend", *[20] * 6), entities=[changed])
    assert [list(each.reasons) for each in found.days] == [
        [Reason.NO_CHANGE],
        [Reason.NO_CHANGE],
        [Reason.CHANGE_TOO_RECENT],
        [],
        [],
        [Reason.CHANGE_TOO_LONG_AGO],
    ]
    assert found.days_fired == 2


@pytest.mark.parametrize(
    "held", [rule(condition(value=10, leave=5)), rule(**leave_of_a_business(5, value=10))]
)
def test_what_holds_is_carried_from_day_to_day_and_over_days_that_are_unknown(held: Rule) -> None:
    found = backtest(held, daily("spend", 8, 20, 8, None, 8, 4, 8))
    assert answers(found) == [
        (0, 1, 0),
        (1, 0, 0),
        (1, 0, 0),
        (0, 0, 1),
        (1, 0, 0),
        (0, 1, 0),
        (0, 1, 0),
    ]
    assert any("nothing was held" in note for note in found.notes)


def test_the_history_that_is_given_is_left_as_it_was() -> None:
    series = series_of([daily("rage_clicks", 20, 20)])
    before = series.has_data.copy()
    replay(
        rule(RAGE),
        entities=Entities.of([AN_AD]),
        series={Source.BUSINESS: series},
        start=back(1),
        end=AS_OF,
        late_days={Source.BUSINESS: [late_by(5, of=back(0))]},
    )
    assert (series.has_data == before).all()


# Where history ends


def test_days_before_all_history_are_named() -> None:
    found = backtest(rule({**RAGE, "window": last_days(3)}), daily("rage_clicks", 20, 20), days=5)
    assert [each.has_history for each in found.days] == [False, False, False, True, True]
    assert found.history_begins == {Source.BUSINESS: back(1)}
    said = " ".join(found.notes)
    assert f"begin on {back(1)}; of {back(4)} to {back(2)} there is no history" in said
    assert f"As of {back(1)} to {back(0)} the rule looks back further" in said


def test_a_window_that_history_fills_needs_no_remark() -> None:
    found = backtest(rule({**RAGE, "window": last_days(2)}), daily("rage_clicks", 20, 20), days=1)
    assert len(found.notes) == 1


def test_a_source_of_which_nothing_is_stored_is_named() -> None:
    found = backtest(rule({"any": [RAGE, condition()]}), daily("spend", 20, 20))
    assert all(each.has_history for each in found.days)
    assert answers(found) == [(1, 0, 0)] * 2
    nothing = backtest(rule(RAGE), {}, days=2)
    assert any("nothing is stored" in note for note in nothing.notes)
    assert not any(each.has_history for each in nothing.days)


def test_what_has_to_be_read_is_what_the_first_day_looks_back_on() -> None:
    asked = condition(
        window=last_days(7), comparison={"against": "baseline", "days": 14, "measure": "percent"}
    )
    assert history_to_read(rule(asked), start=back(9)) == back(9 + 6 + 14)
    fixed = {"kind": "fixed", "start": str(back(100)), "end": str(back(90))}
    assert history_to_read(rule(condition(window=fixed)), start=back(9)) == back(100)


# The same as evaluating each day by itself


def cut(days: Days, *, as_of: date, unknown: frozenset[date]) -> Days:
    return {day: sums for day, sums in days.items() if day <= as_of and day not in unknown}


@settings(max_examples=12)
@given(seed=st.integers(min_value=0, max_value=2**32), length=st.integers(1, 8))
def test_a_backtest_answers_of_a_day_what_evaluating_it_then_would_have(
    seed: int, length: int
) -> None:
    world = World(seed)
    late = [
        LateDay(
            business_id=world.random.choice(["acme", "bolt", "cove"]),
            day=back(world.random.randint(0, 25)),
            known_as_of=back(world.random.randint(-1, 12)),
        )
        for _ in range(world.random.choice([0, 3, 12]))
    ]
    start = back(length - 1)
    for of in world.rules:
        found = replay(
            of,
            entities=Entities.of(world.entities),
            series=world.series,
            start=start,
            end=AS_OF,
            late_days={Source.BUSINESS: late, Source.LANDING_PAGE: late},
        )
        was_true: Mapping[str, Any] = {}
        for number in range(length):
            as_of = start + timedelta(days=number)
            evaluation = evaluate(
                of,
                entities=Entities.of([as_known(entity, as_of) for entity in world.entities]),
                series=known_history(world, late, as_of),
                as_of=as_of,
                was_true=was_true,
            )
            was_true = evaluation.true_when_last_known(was_true)
            assert found.truth[number].tolist() == evaluation.truth.tolist()
            assert found.reasons[number] == reasons_one_by_one(evaluation.decisions())


def as_known(entity: Entity, as_of: date) -> Entity:
    changed_on = entity.changed_on
    is_known = changed_on is not None and changed_on <= as_of
    return replace(entity, changed_on=changed_on if is_known else None)


def known_history(world: World, late: Sequence[LateDay], as_of: date) -> dict[Source, DailySeries]:
    return {
        source: series_of(
            [
                cut(
                    world.history[entity.id, source],
                    as_of=as_of,
                    unknown=frozenset(
                        each.day
                        for each in late
                        if source is not Source.ADS
                        and each.business_id == entity.business_id
                        and each.known_as_of > as_of
                    ),
                )
                for entity in world.entities
            ]
        )
        for source in Source
    }


def reasons_one_by_one(decisions: Any) -> dict[Reason, int]:
    counts: dict[Reason, int] = {}
    for decision in decisions:
        if decision.truth is Truth.UNKNOWN:
            reason = decision.deciding.reason
            counts[reason] = counts.get(reason, 0) + 1
    return counts


@settings(max_examples=10)
@given(seed=st.integers(min_value=0, max_value=2**32))
def test_entities_that_are_replayed_apart_add_up_to_those_replayed_together(seed: int) -> None:
    world = World(seed)

    def replayed(of: Rule, order: list[int]) -> Any:
        return replay(
            of,
            entities=Entities.of([world.entities[number] for number in order]),
            series=world.series_in(order),
            start=back(5),
            end=AS_OF,
            late_days={},
        )

    for of in world.rules:
        together = summarise(replayed(of, [0, 1, 2, 3]))
        apart = summarise(joined([replayed(of, [0, 1]), replayed(of, [2, 3])]))
        assert apart == together


def test_paused_and_deleted_entities_are_as_they_are_now() -> None:
    of = rule(condition(value=10), filters={"statuses": ["active"]})
    entities = [
        replace(AN_AD, id=status.value, status=status, level=Level.AD) for status in EntityStatus
    ]
    found = backtest(of, *[daily("spend", 20)] * 3, entities=entities)
    assert [each.entity_id for each in found.fired] == ["active"]
    assert any("as they are stored now" in note for note in found.notes)


def test_a_replay_of_no_entities_joins_with_others() -> None:
    def replayed(histories: list[Days], entities: list[Entity]) -> Any:
        return replay(
            rule(condition(value=10)),
            entities=Entities.of(entities),
            series={Source.ADS: series_of(histories)} if histories else {},
            start=back(1),
            end=AS_OF,
            late_days={},
        )

    both = [replayed([], []), replayed([daily("spend", 20, 5)], [AN_AD])]
    found = summarise(joined(both))
    assert answers(found) == [(1, 0, 0), (0, 1, 0)]
    assert found.history_begins == {Source.ADS: back(1)}
    assert np.array_equal(joined(both[::-1]).truth, joined(both).truth)
