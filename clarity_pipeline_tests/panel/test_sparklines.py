from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clarity_pipeline.panel.sparklines import sparkline


def test_a_gap_breaks_the_line_and_is_marked() -> None:
    drawn = sparkline([1.0, 2.0, None, 4.0, 2.0], width=106, height=26)
    assert drawn is not None
    assert drawn.paths == ("3.0,18.0 28.0,13.0", "78.0,3.0 103.0,13.0")
    assert drawn.gaps == ((40.5, 25.0),)


def test_a_day_alone_is_a_dot() -> None:
    drawn = sparkline([None, 3.0, None])
    assert drawn is not None
    assert drawn.paths == ()
    assert len(drawn.dots) == 1


def test_nothing_known_is_no_picture() -> None:
    assert sparkline([None, None]) is None
    assert sparkline([]) is None


def test_zeroes_lie_on_the_ground() -> None:
    drawn = sparkline([0.0, 0.0], width=106, height=26)
    assert drawn is not None
    assert drawn.paths == ("3.0,23.0 103.0,23.0",)


@given(st.lists(st.none() | st.floats(min_value=0, max_value=1e6), max_size=40))
def test_whatever_the_values_everything_stays_in_the_picture(values: list[float | None]) -> None:
    drawn = sparkline(values, width=104, height=28)
    if drawn is None:
        assert all(value is None for value in values)
        return
    points = [p for path in drawn.paths for p in path.split()]
    assert len(points) + len(drawn.dots) == sum(value is not None for value in values)
    for x, y in [tuple(map(float, p.split(","))) for p in points] + list(drawn.dots):
        assert 0 <= x <= 104
        assert 0 <= y <= 28
    assert all(left >= 0 and left + width <= 104.1 for left, width in drawn.gaps)
