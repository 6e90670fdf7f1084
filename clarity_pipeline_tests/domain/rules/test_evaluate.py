"""What rules decide, case by case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest

from clarity_pipeline.domain.rules.decisions import Reason, Truth
from clarity_pipeline.domain.rules.evaluate import HistoryWanted, evaluate, history_wanted, select
from clarity_pipeline.domain.rules.history import Basis, DailySeries, Entities, Entity, Source
from clarity_pipeline.domain.rules.model import EntityStatus, Level, conditions_of
from clarity_pipeline_tests.domain.rules.histories import (
    AN_AD,
    AS_OF,
    Days,
    back,
    condition,
    daily,
    decide,
    find,
    last_days,
    leave_of_a_business,
    ratio_days,
    rule,
    series_of,
)

TRUE, FALSE, UNKNOWN = Truth.TRUE, Truth.FALSE, Truth.UNKNOWN
NAN, INF = float("nan"), float("inf")
RATE = "clarity_rage_click_rate"


def rage_days(*pairs: tuple[float, float]) -> Days:
    return ratio_days("rage_clicks", "rage_click_sessions", *pairs)


# Operators


@pytest.mark.parametrize(
    ("operator", "to", "answers"),
    [
        (">", None, {9.99: FALSE, 10: FALSE, 10.01: TRUE}),
        (">=", None, {9.99: FALSE, 10: TRUE, 10.01: TRUE}),
        ("<", None, {9.99: TRUE, 10: FALSE, 10.01: FALSE}),
        ("<=", None, {9.99: TRUE, 10: TRUE, 10.01: FALSE}),
        ("=", None, {9.99: FALSE, 10: TRUE, 10.01: FALSE}),
        ("!=", None, {9.99: TRUE, 10: FALSE, 10.01: TRUE}),
        ("between", 20, {9.99: FALSE, 10: TRUE, 15: TRUE, 20: TRUE, 20.01: FALSE}),
        ("not_between", 20, {9.99: TRUE, 10: FALSE, 15: FALSE, 20: FALSE, 20.01: TRUE}),
    ],
)
def test_every_operator_at_its_threshold(
    operator: str, to: float | None, answers: Mapping[float, Truth]
) -> None:
    asked = condition(operator=operator, value=10, to=to)
    for spent, answer in answers.items():
        assert decide(asked, daily("spend", spent)).truth == answer


# Windows


@pytest.mark.parametrize(
    ("window", "total", "days"),
    [
        ({"kind": "yesterday"}, 1, 1),
        (last_days(1), 1, 1),
        (last_days(3), 111, 3),
        (last_days(5), 11111, 5),
        (last_days(400), 11111, 400),
        ({"kind": "fixed", "start": "2026-10-29", "end": "2026-10-30"}, 1100, 2),
        ({"kind": "fixed", "start": "2026-11-01", "end": "2026-11-01"}, 1, 1),
    ],
)
def test_a_window_has_its_days_and_no_other(window: dict[str, Any], total: int, days: int) -> None:
    finding = find(
        condition(window=window, max_age_days=None), daily("spend", 10000, 1000, 100, 10, 1)
    )
    assert (finding.value, finding.days_in_window) == (total, days)


def test_no_day_after_the_day_of_evaluation_is_looked_at() -> None:
    days = {back(1): {"spend": 5.0}, back(0): {"spend": 100.0}, back(-1): {"spend": 1000.0}}
    assert find(condition(window=last_days(7)), days, as_of=back(1)).value == 5
    fixed = {"kind": "fixed", "start": str(back(1)), "end": str(back(0))}
    finding = find(condition(window=fixed), days, as_of=back(1))
    assert (finding.truth, finding.reason) == (UNKNOWN, Reason.WINDOW_NOT_OVER)
    assert finding.value == 5


@pytest.mark.parametrize(
    ("as_of", "start"),
    [
        (date(2026, 3, 1), date(2026, 2, 27)),
        (date(2028, 3, 1), date(2028, 2, 28)),
        (date(2028, 2, 29), date(2028, 2, 27)),
        (date(2027, 1, 1), date(2026, 12, 30)),
        (date(2026, 10, 31), date(2026, 10, 29)),
    ],
)
def test_three_days_are_three_days_at_the_end_of_every_month(as_of: date, start: date) -> None:
    days = {date.fromordinal(as_of.toordinal() - n): {"spend": 10.0**n} for n in range(5)}
    finding = find(condition(window=last_days(3)), days, as_of=as_of)
    assert (finding.window_start, finding.window_end) == (start, as_of)
    assert (finding.value, finding.days_with_data) == (111, 3)


def test_a_year_with_a_leap_day_has_a_day_more() -> None:
    year = {"kind": "fixed", "start": "2028-01-01", "end": "2028-12-31"}
    days = {date(2028, 2, 28): {"spend": 1.0}, date(2028, 2, 29): {"spend": 10.0}}
    finding = find(condition(window=year, max_age_days=None), days, as_of=date(2029, 1, 1))
    assert (finding.value, finding.days_in_window) == (11, 366)


@pytest.mark.parametrize(
    ("changed_on", "value", "reason"),
    [
        (None, None, Reason.NO_CHANGE),
        (back(-1), None, Reason.CHANGE_TOO_RECENT),
        (back(0), None, Reason.CHANGE_TOO_RECENT),
        (back(1), 1, None),
        (back(3), 111, None),
        (back(4), None, Reason.CHANGE_TOO_LONG_AGO),
    ],
)
def test_days_since_a_change_leave_out_the_day_of_the_change(
    changed_on: date | None, value: float | None, reason: Reason | None
) -> None:
    asked = condition(window={"kind": "since_change", "within_days": 3})
    finding = find(
        asked,
        daily("spend", 10000, 1000, 100, 10, 1),
        entity=replace(AN_AD, changed_on=changed_on),
    )
    assert finding.reason == reason
    if reason is None:
        assert finding.value == value
    else:
        assert (finding.truth, finding.window_start) == (UNKNOWN, None)


# Sums, means and what cannot be divided


def test_a_rate_is_divided_once_and_is_no_average_of_days() -> None:
    finding = find(condition(RATE, window=last_days(2)), rage_days((1, 1), (0, 99)))
    assert finding.value == 0.01
    assert (finding.numerator, finding.denominator) == (1, 100)


@pytest.mark.parametrize("metric", ["ctr", RATE])
def test_nothing_to_divide_by_is_unknown_and_not_zero(metric: str) -> None:
    names = ("clicks", "impressions") if metric == "ctr" else ("rage_clicks", "rage_click_sessions")
    finding = find(condition(metric, "<", 0.5), ratio_days(*names, (0, 0)))
    assert (finding.truth, finding.reason) == (UNKNOWN, Reason.DIVISION_BY_ZERO)
    assert (finding.value, finding.days_with_data) == (None, 1)


def test_engagement_is_in_whole_milliseconds_as_everywhere_else() -> None:
    days = ratio_days("engagement_time_ms_sum", "engagement_sessions", (2000, 3))
    assert find(condition("clarity_engagement_time_ms"), days).value == 667


@pytest.mark.parametrize("bad", [None, NAN, INF, -INF])
def test_a_number_that_is_none_is_a_day_without_data(bad: float | None) -> None:
    days: Days = {back(1): {"spend": 5.0}, back(0): {"spend": bad}}
    assert find(condition(), days).reason == Reason.NO_DATA
    finding = find(condition(window=last_days(2)), days)
    assert (finding.value, finding.days_with_data, finding.last_day) == (5, 1, back(1))


def test_a_day_on_which_one_of_two_sums_is_unknown_counts_for_neither() -> None:
    days: Days = {
        back(1): {"spend": 10.0, "clicks": 5.0},
        back(0): {"spend": 90.0, "clicks": None},
    }
    finding = find(condition("cpc", window=last_days(2)), days)
    assert (finding.value, finding.numerator, finding.denominator) == (2, 10, 5)


def test_a_sum_beyond_all_bounds_is_unknown() -> None:
    finding = find(condition(window=last_days(2)), daily("spend", 1.7e308, 1.7e308))
    assert (finding.truth, finding.reason, finding.value) == (UNKNOWN, Reason.NOT_FINITE, None)


def test_a_series_that_nobody_reports_is_unknown() -> None:
    assert find(condition("ad.carts"), daily("spend", 20)).reason == Reason.NO_DATA


def test_without_any_history_every_condition_is_unknown() -> None:
    evaluation = evaluate(rule(), entities=Entities.of([AN_AD]), series={}, as_of=AS_OF)
    assert evaluation.decision(0).reasons == (Reason.NO_DATA,)
    assert not evaluation.fires.any()


def test_without_any_entity_there_is_no_answer() -> None:
    evaluation = evaluate(
        rule({"all": [condition(), condition(consecutive_days=3)]}),
        entities=Entities.of([]),
        series={},
        as_of=AS_OF,
    )
    assert list(evaluation.decisions()) == []


# What makes a condition unknown


@pytest.mark.parametrize(
    ("change", "reason", "of_ads"),
    [
        ({"business_id": None}, Reason.NO_BUSINESS, Reason.NO_BUSINESS),
        ({"is_connected": False}, Reason.NOT_CONNECTED, None),
        ({"is_connected": False, "is_enabled": False}, Reason.NOT_CONNECTED, None),
        ({"is_enabled": False}, Reason.DISABLED, None),
        ({"landing_page": None}, Reason.NO_LANDING_PAGE, None),
    ],
)
def test_what_stands_against_clarity_does_not_stand_against_ads(
    change: dict[str, Any], reason: Reason, of_ads: Reason | None
) -> None:
    entity = replace(AN_AD, **{"landing_page": "https://acme.example/", **change})
    days: Days = {back(0): {"sessions": 50.0, "spend": 50.0}}
    asked = condition("clarity_sessions", measured_on="landing_page")
    assert find(asked, days, entity=entity).reason == reason
    assert find(condition(), days, entity=entity).reason == of_ads
    # A rule on either still fires on the other.
    either = decide({"any": [asked, condition()]}, days, entity=entity)
    assert either.fires == (of_ads is None)


@pytest.mark.parametrize(
    ("values", "max_age_days", "reason"),
    [
        ((50, None), 0, Reason.STALE),
        ((50, None), 1, None),
        ((50, None, None), 1, Reason.STALE),
        ((50, None, None), 2, None),
        ((50, None, None, None), None, None),
    ],
)
def test_data_are_stale_when_the_latest_are_too_far_from_the_end_of_the_window(
    values: tuple[float | None, ...], max_age_days: int | None, reason: Reason | None
) -> None:
    asked = condition(window=last_days(7), max_age_days=max_age_days)
    assert find(asked, daily("spend", *values)).reason == reason


def test_two_days_without_data_are_put_up_with_unless_the_rule_says_otherwise() -> None:
    asked = condition(window=last_days(7))
    assert find(asked, daily("spend", 50, None, None)).reason is None
    assert find(asked, daily("spend", 50, None, None, None)).reason == Reason.STALE


def test_an_old_fixed_range_is_not_stale() -> None:
    fixed = {"kind": "fixed", "start": str(back(30)), "end": str(back(29))}
    days: Days = {back(30): {"spend": 50.0}, back(29): {"spend": 50.0}}
    assert find(condition(window=fixed), days).value == 100


@pytest.mark.parametrize(("share", "reason"), [(0.7, None), (0.71, Reason.LOW_COVERAGE)])
def test_coverage_is_the_share_of_days_with_data(share: float, reason: Reason | None) -> None:
    days = daily("spend", 5, None, None, 5, 5, None, 5, 5, 5, 5)
    finding = find(condition(window=last_days(10), min_coverage=share), days)
    assert (finding.reason, finding.days_with_data) == (reason, 7)


@pytest.mark.parametrize(("sessions", "reason"), [(30, None), (31, Reason.TOO_FEW_SESSIONS)])
def test_the_sample_is_the_sessions_of_the_window(sessions: int, reason: Reason | None) -> None:
    days = rage_days((5, 10), (5, 20))
    asked = condition(RATE, value=0.1, window=last_days(2), min_sessions=sessions)
    finding = find(asked, days)
    assert (finding.reason, finding.sessions) == (reason, 30)
    assert finding.truth == (UNKNOWN if reason else TRUE)


# Comparisons


def comparison(measure: str, days: int | None = None) -> dict[str, Any]:
    if days is None:
        return {"against": "previous_window", "measure": measure}
    return {"against": "baseline", "measure": measure, "days": days}


@pytest.mark.parametrize(
    ("compared", "measured", "with_what"),
    [
        (comparison("absolute"), 30, 40),
        (comparison("percent"), 75, 40),
        (comparison("absolute", 1), 40, 30),
        (comparison("absolute", 4), 50, 20),
        (comparison("percent", 4), 250, 20),
    ],
)
def test_counts_are_compared_as_if_both_windows_had_the_same_days(
    compared: dict[str, Any], measured: float, with_what: float
) -> None:
    days = daily("spend", 0, 0, 25, 15, 30, 40)
    asked = condition(value=1, window=last_days(2), comparison=compared)
    finding = find(asked, days)
    assert (finding.value, finding.measured, finding.comparison_value) == (70, measured, with_what)


def test_days_that_are_lacking_before_do_not_make_a_spike() -> None:
    days = daily("spend", 10, None, None, 10, 10, 10)
    asked = condition(value=50, window=last_days(3), comparison=comparison("percent"))
    finding = find(asked, days)
    assert (finding.truth, finding.measured, finding.comparison_value) == (FALSE, 0, 30)


def test_rates_are_compared_as_rates() -> None:
    days = rage_days((1, 10), (0, 10), (3, 10), (1, 10))
    asked = condition(RATE, value=50, window=last_days(2), comparison=comparison("percent"))
    finding = find(asked, days)
    assert finding.value == 0.2
    assert finding.comparison_value == 0.05
    assert finding.measured == pytest.approx(300)


def test_the_z_score_is_that_of_a_textbook() -> None:
    """2, 4, 4, 4, 5, 5, 7, 9: mean 5, sample standard deviation sqrt(32 / 7)."""
    days = daily("spend", 2, 4, 4, 4, 5, 5, 7, 9, 12)
    finding = find(condition(value=3, comparison=comparison("z_score", 8)), days)
    assert finding.comparison_value == 5
    assert finding.spread == pytest.approx((32 / 7) ** 0.5)
    assert finding.measured == pytest.approx(7 / (32 / 7) ** 0.5)
    assert finding.truth == TRUE


def test_the_z_score_of_a_count_is_about_its_daily_average() -> None:
    days = daily("spend", 1, 2, 3, 4, 6)
    asked = condition(value=1, window=last_days(2), comparison=comparison("z_score", 3))
    assert find(asked, days).measured == 3


@pytest.mark.parametrize(
    ("compared", "values", "reason"),
    [
        (comparison("absolute"), (None, 5), Reason.NO_BASELINE),
        (comparison("percent"), (0, 5), Reason.DIVISION_BY_ZERO),
        (comparison("absolute"), (0, 5), None),
        (comparison("z_score", 4), (None, 1, None, 2, 5), Reason.NO_BASELINE),
        (comparison("z_score", 4), (None, 1, 3, 2, 5), None),
        (comparison("z_score", 3), (0.1, 0.1, 0.1, 5), Reason.NO_VARIATION),
        (comparison("z_score", 9), (*[0.1] * 9, 0.1), Reason.NO_VARIATION),
        # So little apart that the squares are nothing.
        (comparison("z_score", 3), (1e-200, 2e-200, 3e-200, 5), Reason.NO_VARIATION),
    ],
)
def test_what_cannot_be_compared_is_unknown(
    compared: dict[str, Any], values: tuple[float | None, ...], reason: Reason | None
) -> None:
    finding = find(condition(value=1, comparison=compared), daily("spend", *values))
    assert finding.reason == reason
    numbers = (finding.measured, finding.comparison_value)
    assert numbers == (None, None) if reason else None not in numbers
    assert (finding.truth == UNKNOWN) == (reason is not None)


def sessions_by_basis(*bases: Basis | None) -> Days:
    """Ten sessions a day, the last of them on the day of evaluation; None: no data."""
    return {
        back(len(bases) - 1 - index): {"sessions": 10, "basis": basis}
        for index, basis in enumerate(bases)
        if basis is not None
    }


PAGE, REAL = Basis.PAGE_SESSIONS, Basis.SESSIONS


@pytest.mark.parametrize(
    ("asked", "bases", "is_mixed"),
    [
        ({"window": last_days(3)}, (PAGE, PAGE, REAL), True),
        ({"window": last_days(3)}, (PAGE, REAL, REAL, REAL), False),
        ({"window": last_days(3)}, (PAGE, PAGE, PAGE), False),
        ({"window": last_days(3)}, (None, REAL, REAL), False),
        ({"comparison": comparison("absolute")}, (PAGE, REAL), True),
        ({"comparison": comparison("z_score", 4)}, (PAGE, REAL, PAGE, REAL, REAL), True),
        ({"comparison": comparison("percent", 2)}, (PAGE, REAL, REAL, REAL), False),
        ({"consecutive_days": 2}, (PAGE, REAL), False),
    ],
)
def test_days_that_count_sessions_differently_do_not_add_up_and_do_not_compare(
    asked: dict[str, Any], bases: tuple[Basis | None, ...], is_mixed: bool
) -> None:
    finding = find(condition("clarity_sessions", value=1, **asked), sessions_by_basis(*bases))
    assert (finding.reason == Reason.MIXED_BASIS) is is_mixed
    assert (finding.truth == UNKNOWN) is is_mixed


EURO, DOLLAR = 1, 4


@pytest.mark.parametrize("metric", ["spend", "revenue", "cpc", "cpa", "roas", "clicks", "ctr"])
@pytest.mark.parametrize(
    ("asked", "currencies", "is_mixed"),
    [
        ({"window": last_days(2)}, (EURO, DOLLAR), True),
        ({"window": last_days(2)}, (EURO | DOLLAR, EURO | DOLLAR), True),
        ({"window": last_days(2)}, (EURO, 0), False),
        ({"window": last_days(2)}, (EURO, DOLLAR, DOLLAR), False),
        ({"comparison": comparison("percent")}, (EURO, DOLLAR), True),
        ({"comparison": comparison("percent")}, (EURO, EURO), False),
    ],
)
def test_amounts_of_several_currencies_do_not_add_up_and_do_not_compare(
    metric: str, asked: dict[str, Any], currencies: tuple[int, ...], is_mixed: bool
) -> None:
    sums = dict.fromkeys(("spend", "revenue", "clicks", "conversions", "impressions"), 10.0)
    days: Days = {
        back(len(currencies) - 1 - index): {**sums, "basis": currency}
        for index, currency in enumerate(currencies)
    }
    finding = find(condition(metric, operator="between", value=-1, to=100, **asked), days)
    is_money = metric not in {"clicks", "ctr"}
    assert (finding.reason == Reason.MIXED_CURRENCIES) is (is_mixed and is_money)
    assert (finding.truth == UNKNOWN) is (is_mixed and is_money)


@pytest.mark.parametrize("guard", [{"min_coverage": 1.0}, {"min_sessions": 12}])
def test_what_is_asked_of_the_window_is_asked_of_the_days_before(guard: dict[str, Any]) -> None:
    days = daily("sessions", None, 5, 20, 20)
    asked = condition(
        "clarity_sessions", value=1, window=last_days(2), comparison=comparison("absolute"), **guard
    )
    assert find(asked, days).reason == Reason.NO_BASELINE


def test_a_spike_after_a_change_is_one_against_the_days_before_the_change() -> None:
    days = daily("dead_clicks", 4, 6, 999, 9, 11)
    for day in days.values():
        day["sessions"] = 100.0
    finding = find(
        condition(
            "clarity_dead_clicks",
            value=50,
            window={"kind": "since_change"},
            comparison=comparison("percent"),
        ),
        days,
        entity=replace(AN_AD, changed_on=back(2)),
    )
    assert (finding.value, finding.comparison_value, finding.measured) == (20, 10, 100)
    assert (finding.window_start, finding.window_end) == (back(1), back(0))


# Confidence


@pytest.mark.parametrize(
    ("events", "sessions", "confidence", "lower", "upper"),
    [
        # Newcombe 1998, table I, method 3 (score without continuity correction).
        (81, 263, 0.95, 0.2553, 0.3662),
        (15, 148, 0.95, 0.0624, 0.1605),
        (0, 20, 0.95, 0.0000, 0.1611),
        (1, 29, 0.95, 0.0061, 0.1718),
        # The lower end of n of n is n / (n + z^2).
        (20, 20, 0.95, 0.8389, 1.0),
        (10, 10, 0.99, 10 / (10 + 2.5758293**2), 1.0),
        # More events than sessions are taken for as many.
        (30, 20, 0.95, 0.8389, 1.0),
    ],
)
def test_the_confidence_bound_is_that_of_wilson(
    events: int, sessions: int, confidence: float, lower: float, upper: float
) -> None:
    days = rage_days((events, sessions))
    above = condition(RATE, ">", 0.5, confidence=confidence)
    below = condition(RATE, "<", 0.5, confidence=confidence)
    assert find(above, days).measured == pytest.approx(lower, abs=5.1e-5)
    assert find(below, days).measured == pytest.approx(upper, abs=5.1e-5)


def test_a_high_rate_of_few_sessions_is_not_yet_above_the_threshold() -> None:
    asked = condition(RATE, ">", 0.25, confidence=0.95)
    assert decide(asked, rage_days((3, 6))).truth == FALSE
    assert decide(asked, rage_days((30, 60))).truth == TRUE


# Days in a row and hysteresis


@pytest.mark.parametrize(
    ("values", "truth", "reason", "run"),
    [
        ((11, 11, 11), TRUE, None, 3),
        ((9, 11, 11), FALSE, None, 2),
        ((11, 9, 11), FALSE, None, 1),
        ((11, 11, 9), FALSE, None, 0),
        ((None, 11, 11), UNKNOWN, Reason.NO_DATA, 2),
        ((11, None, 11), UNKNOWN, Reason.NO_DATA, 1),
        ((11, 11, None), UNKNOWN, Reason.NO_DATA, 0),
        # What is false already stays so, whatever the unknown day was.
        ((9, None, 11), FALSE, None, 1),
        ((None, 9, 11), FALSE, None, 1),
        ((9, 11, None), FALSE, None, 0),
    ],
)
def test_days_in_a_row_have_no_gap(
    values: tuple[float | None, ...], truth: Truth, reason: Reason | None, run: int
) -> None:
    finding = find(condition(value=10, consecutive_days=3), daily("spend", *values))
    assert (finding.truth, finding.reason, finding.consecutive_days) == (truth, reason, run)


def test_of_longer_windows_each_day_in_a_row_ends_one() -> None:
    asked = condition(value=10, consecutive_days=2, window=last_days(2))
    assert decide(asked, daily("spend", 6, 5, 6)).truth == TRUE
    assert decide(asked, daily("spend", 5, 5, 6)).truth == FALSE


@pytest.mark.parametrize(
    ("operator", "leave", "spent", "was_true", "truth"),
    [
        (">", 5, 11, False, TRUE),
        (">", 5, 7, False, FALSE),
        (">", 5, 7, True, TRUE),
        (">", 5, 5, True, FALSE),
        (">=", 5, 5, True, TRUE),
        ("<", 15, 12, False, FALSE),
        ("<", 15, 12, True, TRUE),
        ("<", 15, 15, True, FALSE),
        ("<=", 15, 15, True, TRUE),
        (">", None, 7, True, FALSE),
    ],
)
def test_what_has_begun_ends_at_another_threshold(
    operator: str, leave: float | None, spent: float, was_true: bool, truth: Truth
) -> None:
    asked = condition(operator=operator, value=10, leave=leave)
    finding = find(asked, daily("spend", spent), was_true=was_true)
    assert finding.truth == truth
    assert finding.is_held == (was_true and leave is not None)
    assert finding.threshold == (leave if finding.is_held else 10)


def test_what_ends_at_another_threshold_for_one_business_ends_at_the_usual_for_others() -> None:
    entities = Entities.of([AN_AD, replace(AN_AD, id="other", business_id="globex")])
    evaluation = evaluate(
        rule(**leave_of_a_business(5, value=10)),
        entities=entities,
        series={Source.ADS: series_of([daily("spend", 7), daily("spend", 7)])},
        as_of=AS_OF,
        was_true={"conditions": np.array([True, True])},
    )
    assert [each.truth for each in evaluation.decisions()] == [TRUE, FALSE]
    assert [each.findings[0].threshold for each in evaluation.decisions()] == [5, 10]


def test_what_one_condition_leaves_late_for_a_business_says_nothing_of_the_others() -> None:
    late = leave_of_a_business(5, value=10)
    others = [condition(value=10), condition(value=10, key="another")]
    both = rule({"all": [late["conditions"], *others]}, overrides=late["overrides"])
    found = [both.has_leave(each) for _, each in conditions_of(both.conditions)]
    assert found == [True, False, False]


def test_a_run_of_days_through_hysteresis() -> None:
    entities = Entities.of([replace(AN_AD, id="other", level=Level.CAMPAIGN), AN_AD])
    asked, seen = rule(condition(value=10, leave=5)), list[Truth]()
    was_true = {"conditions": np.array([True, False])}
    for spent in (8, 11, 8, 6, 5, 8, None, 11, None, 7):
        history = series_of([{}, daily("spend", spent)])
        evaluation = evaluate(
            asked,
            entities=entities,
            series={Source.ADS: history},
            as_of=AS_OF,
            was_true=was_true,
        )
        before, was_true = was_true, evaluation.true_when_last_known(was_true)
        assert before["conditions"][0]
        seen.append(evaluation.decision(0).truth)
    assert seen == [FALSE, TRUE, TRUE, TRUE, FALSE, FALSE, UNKNOWN, TRUE, UNKNOWN, TRUE]
    assert was_true["conditions"].tolist() == [True, True]


def test_what_was_never_known_was_not_true() -> None:
    evaluation = evaluate(rule(), entities=Entities.of([AN_AD]), series={}, as_of=AS_OF)
    assert evaluation.true_when_last_known()["conditions"].tolist() == [False]


def test_what_takes_days_to_begin_takes_none_to_go_on() -> None:
    asked = condition(value=10, leave=5, consecutive_days=3)
    assert decide(asked, daily("spend", 1, 1, 7), was_true=True).truth == TRUE
    assert decide(asked, daily("spend", 1, 1, 11), was_true=False).truth == FALSE
    assert decide(asked, daily("spend", 11, 11, 4), was_true=True).truth == FALSE


# Trees


YES, NO = condition(value=10), condition(value=100)
WHO_KNOWS = condition("ad.carts", value=1)


@pytest.mark.parametrize(
    ("tree", "truth", "decided_by"),
    [
        ({"all": [YES, YES]}, TRUE, "conditions.all[0]"),
        ({"all": [YES, NO]}, FALSE, "conditions.all[1]"),
        ({"all": [WHO_KNOWS, NO]}, FALSE, "conditions.all[1]"),
        ({"all": [YES, WHO_KNOWS]}, UNKNOWN, "conditions.all[1]"),
        ({"any": [NO, YES]}, TRUE, "conditions.any[1]"),
        ({"any": [WHO_KNOWS, YES]}, TRUE, "conditions.any[1]"),
        ({"any": [NO, WHO_KNOWS]}, UNKNOWN, "conditions.any[1]"),
        ({"any": [NO, NO]}, FALSE, "conditions.any[0]"),
        ({"not": YES}, FALSE, "conditions.not"),
        ({"not": NO}, TRUE, "conditions.not"),
        ({"not": WHO_KNOWS}, UNKNOWN, "conditions.not"),
        ({"not": {"all": [YES, {"any": [NO, NO]}]}}, TRUE, "conditions.not.all[1].any[0]"),
        ({"all": [{"not": WHO_KNOWS}, {"not": YES}]}, FALSE, "conditions.all[1].not"),
    ],
)
def test_trees_are_combined_as_kleene_did(tree: Any, truth: Truth, decided_by: str) -> None:
    decision = decide(tree, daily("spend", 50))
    assert (decision.truth, decision.decided_by) == (truth, decided_by)
    assert decision.deciding.path == decided_by
    assert decision.fires == (truth == TRUE)


# Which entities, whose days, which thresholds


def ad(id_: str, **more: Any) -> Entity:
    return replace(AN_AD, id=id_, **more)


ENTITIES = [
    ad("1", name="Spring SALE", landing_page="https://acme.example/Shoes"),
    ad("2", name="Summer", status=EntityStatus.PAUSED),
    ad("3", business_id="bolt"),
    ad("4", status=EntityStatus.DELETED),
    ad("5", level=Level.CAMPAIGN),
    ad("6", business_id=None),
]


@pytest.mark.parametrize(
    ("more", "ids"),
    [
        ({}, "1236"),
        ({"level": "campaign"}, "5"),
        ({"level": "landing_page"}, ""),
        ({"scope": {"kind": "one", "business": "bolt"}}, "3"),
        ({"scope": {"kind": "some", "businesses": ["acme", "bolt"]}}, "123"),
        ({"scope": {"kind": "one", "business": "nobody"}}, ""),
        ({"filters": {"statuses": ["active"]}}, "136"),
        ({"filters": {"statuses": ["paused"]}}, "2"),
        ({"filters": {"ids": ["3", "4", "9"]}}, "3"),
        ({"filters": {"name_contains": "s"}}, "1236"),
        ({"filters": {"name_contains": "spring sale"}}, "136"),
        ({"filters": {"name_lacks": "SPRING"}}, "2"),
        ({"filters": {"landing_page_contains": "/shoes"}}, "1"),
        ({"filters": {"name_contains": "spring", "ids": ["1", "2"]}}, "1"),
    ],
)
def test_a_rule_is_about_the_entities_it_names(more: dict[str, Any], ids: str) -> None:
    entities = Entities.of(ENTITIES)
    assert [entities.ids[row] for row in select(rule(**more), entities)] == list(ids)


def test_a_business_can_have_thresholds_of_its_own() -> None:
    asked = rule(
        {"any": [condition(value=10, key="spend"), condition(value=99)]},
        overrides=[{"business": "bolt", "condition": "spend", "value": 30}],
    )
    entities = Entities.of([ad("1"), ad("2", business_id="bolt"), ad("3", business_id=None)])
    history = series_of([daily("spend", 20)] * 3)
    evaluation = evaluate(asked, entities=entities, series={Source.ADS: history}, as_of=AS_OF)
    assert evaluation.truth.tolist() == [TRUE, FALSE, UNKNOWN]
    thresholds = [[each.threshold for each in d.findings] for d in evaluation.decisions()]
    assert thresholds == [[10, 99], [30, 99], [10, 99]]
    assert evaluation.decision(1).findings[0].condition.value == 30


def test_ads_read_the_row_of_their_business_or_of_their_page() -> None:
    pages = {
        level: rule(condition("clarity_sessions", value=15), level=level)
        for level in ("ad", "landing_page")
    }
    series = {
        Source.BUSINESS: replace(
            series_of([daily("sessions", 10), daily("sessions", 20)]),
            row_of_entity=np.array([1, 0, 1, -1, 0]),
        ),
        Source.LANDING_PAGE: replace(
            series_of([daily("sessions", 30)]), row_of_entity=np.array([-1, -1, -1, -1, 0])
        ),
    }
    page = {"level": Level.LANDING_PAGE, "landing_page": "https://acme.example/"}
    entities = Entities.of([ad("1"), ad("2"), ad("3"), ad("4"), ad("5", **page)])
    of_ads = evaluate(pages["ad"], entities=entities, series=series, as_of=AS_OF)
    assert of_ads.evidence[0].value.tolist()[:3] == [20, 10, 20]
    assert of_ads.truth.tolist() == [TRUE, FALSE, TRUE, UNKNOWN]
    of_pages = evaluate(pages["landing_page"], entities=entities, series=series, as_of=AS_OF)
    assert of_pages.evidence[0].value.tolist() == [30]


def test_arrays_that_do_not_fit_each_other_are_a_bug() -> None:
    fine = series_of([daily("spend", 1, 2)])
    with pytest.raises(ValueError, match="rows and days"):
        replace(fine, values={"spend": np.zeros((1, 3))})
    with pytest.raises(ValueError, match="a row that is not there"):
        replace(fine, row_of_entity=np.array([1]))


# What has to be read


@pytest.mark.parametrize(
    ("asked", "days_back"),
    [
        (condition(), 0),
        (condition(window=last_days(7)), 6),
        (condition(window=last_days(7), consecutive_days=3), 8),
        (condition(window=last_days(7), comparison=comparison("absolute")), 13),
        (condition(window=last_days(7), comparison=comparison("absolute", 30)), 36),
        (condition(window={"kind": "since_change", "within_days": 5}), 5),
        (
            condition(
                window={"kind": "since_change", "within_days": 5},
                comparison=comparison("absolute", 10),
            ),
            15,
        ),
        (condition(window={"kind": "fixed", "start": "2026-10-01", "end": "2026-10-02"}), 31),
        (condition(window={"kind": "fixed", "start": "2027-10-01", "end": "2027-10-02"}), 0),
    ],
)
def test_as_much_history_is_wanted_as_is_read(asked: Any, days_back: int) -> None:
    wanted = history_wanted([rule(asked)], as_of=AS_OF)
    assert wanted == {Source.ADS: HistoryWanted(back(days_back), frozenset({"spend"}))}


def test_what_several_rules_read_is_read_once() -> None:
    rules = [
        rule({"all": [condition("ctr"), condition(window=last_days(3))]}),
        rule(condition(RATE), level="landing_page"),
        rule(condition("clarity_sessions")),
    ]
    assert history_wanted(rules, as_of=AS_OF) == {
        Source.ADS: HistoryWanted(back(2), frozenset({"clicks", "impressions", "spend"})),
        Source.LANDING_PAGE: HistoryWanted(
            back(0), frozenset({"rage_clicks", "rage_click_sessions"})
        ),
        Source.BUSINESS: HistoryWanted(back(0), frozenset({"sessions"})),
    }


def test_history_before_the_wanted_changes_nothing() -> None:
    asked = condition(
        value=1,
        window={"kind": "since_change", "within_days": 4},
        consecutive_days=2,
        comparison=comparison("z_score", 5),
    )
    entity = replace(AN_AD, changed_on=back(4))
    days = daily("spend", *[float(n * n % 17) for n in range(40)])
    (wanted,) = history_wanted([rule(asked)], as_of=AS_OF).values()
    cut = {day: sums for day, sums in days.items() if day >= wanted.first_day}
    assert find(asked, cut, entity=entity) == find(asked, days, entity=entity)
    assert find(asked, cut, entity=entity).reason is None


def test_a_series_knows_its_days() -> None:
    history = DailySeries(
        first_day=back(2),
        has_data=np.ones((1, 3), np.bool_),
        values={},
        row_of_entity=np.array([0]),
    )
    assert date.fromordinal(history.last_ordinal) == AS_OF
