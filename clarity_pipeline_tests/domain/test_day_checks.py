from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from clarity_pipeline.domain.day_checks import (
    DayFacts,
    every_enabled_business_landed,
    markdown_table,
    no_slice_truncated,
    no_unknown_blocks,
    window_alignment,
)

MIDNIGHT = datetime(2026, 11, 23, tzinfo=UTC)
KEY = ("acme", "Device,URL")
FINE = DayFacts(
    day=date(2026, 11, 22),
    expected=frozenset({KEY}),
    window_ends={KEY: MIDNIGHT + timedelta(minutes=15)},
    slices=1,
    truncated={},
    unknown={},
)


def test_a_day_without_fault_passes_every_check() -> None:
    for check in (
        every_enabled_business_landed,
        window_alignment,
        no_slice_truncated,
        no_unknown_blocks,
    ):
        assert check(FINE).passed
        assert check(FINE).markdown == "none"


def test_a_business_that_lacks_a_combo_is_named() -> None:
    found = every_enabled_business_landed(
        replace(FINE, expected=FINE.expected | {("globex", "Source,URL")})
    )
    assert not found.passed
    assert "1 of 2 enabled businesses" in found.sentence
    assert "| globex | URL + Source |" in found.markdown


def test_a_late_window_says_by_how_many_hours_it_is_off() -> None:
    found = window_alignment(
        replace(FINE, window_ends={KEY: MIDNIGHT + timedelta(hours=12, minutes=30)})
    )
    assert not found.passed
    assert found.numbers["hours_off_at_most"] == 12.5
    assert "+12.5 h" in found.markdown


def test_a_slice_that_was_cut_is_named() -> None:
    found = no_slice_truncated(replace(FINE, truncated={KEY: 1000}))
    assert not found.passed
    assert "| acme | URL + Device | 1000 |" in found.markdown


def test_something_new_from_clarity_is_named() -> None:
    found = no_unknown_blocks(replace(FINE, unknown={KEY: ("HoverCount",)}))
    assert not found.passed
    assert "HoverCount" in found.sentence


def test_a_pipe_or_a_line_break_does_not_break_a_table() -> None:
    assert markdown_table(["a"], [["x|y\nz"]]).splitlines()[-1] == "| x\\|y z |"
