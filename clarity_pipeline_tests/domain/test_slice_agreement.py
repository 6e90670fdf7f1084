"""Whether the slices of a day tell the same story, and what has no part in that."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from clarity_pipeline.domain.slice_agreement import SliceTotals, slices_agree

DAY = date(2026, 11, 1)
ENDS = datetime(2026, 11, 2, 0, 15, tzinfo=UTC)


def totals(
    *, dead: int | None = 100, rage: int | None = 7, later: float = 0, why_not: str | None = None
) -> SliceTotals:
    return SliceTotals(
        window_end=ENDS + timedelta(seconds=later),
        events={"dead_clicks": dead, "rage_clicks": rage},
        why_not=why_not,
    )


def judge(**slices: SliceTotals):  # noqa: ANN201 - what slices_agree says
    names = {"device": "Device,URL", "source": "Source,URL", "country": "Country,URL"}
    return slices_agree(DAY, {("acme", names[name]): item for name, item in slices.items()})


def test_equal_totals_agree() -> None:
    found = judge(device=totals(), source=totals(), country=totals())
    assert found.passed
    assert found.numbers["businesses_compared"] == 1
    assert found.numbers["largest_difference"] == 0


def test_totals_of_one_moment_must_be_equal() -> None:
    found = judge(device=totals(), source=totals(dead=101))
    assert not found.passed
    assert found.numbers["largest_difference"] == 1
    assert "| acme | dead_clicks | URL + Device 100, URL + Source 101 |" in found.markdown


@pytest.mark.parametrize(
    ("dead", "agrees"), [((100, 101), True), ((100, 102), False), ((1000, 1010), True)]
)
def test_totals_of_calls_seconds_apart_may_differ_by_what_came_in_between(
    dead: tuple[int, int], agrees: bool
) -> None:
    found = judge(device=totals(dead=dead[0]), source=totals(dead=dead[1], later=2))
    assert found.passed is agrees
    assert found.numbers["largest_difference"] == dead[1] - dead[0]


def test_what_a_slice_says_nothing_of_is_no_disagreement() -> None:
    found = judge(device=totals(rage=None), source=totals(), country=totals(rage=None))
    assert found.passed
    assert not judge(device=totals(rage=None), source=totals(), country=totals(rage=8)).passed


def test_a_slice_that_was_cut_is_left_out_and_the_others_are_compared() -> None:
    cut = totals(dead=3, why_not="cut at 1,000 rows")
    assert judge(device=cut, source=totals(), country=totals()).passed
    assert not judge(device=cut, source=totals(), country=totals(dead=5)).passed


def test_a_business_that_cannot_be_compared_is_named_and_does_not_fail() -> None:
    cut = totals(dead=3, why_not="cut at 1,000 rows")
    found = judge(device=cut, source=totals())
    assert found.passed
    assert "acme: cut at 1,000 rows" in found.sentence
    assert found.numbers["businesses_not_compared"] == 1
    apart = judge(device=totals(), source=totals(dead=1, later=301))
    assert apart.passed
    assert "windows end 0:05:01 apart" in apart.sentence
    assert "only one slice is there" in judge(device=totals()).sentence
