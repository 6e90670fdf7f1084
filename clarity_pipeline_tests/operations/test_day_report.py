"""What a day's slices say together, computed from the store on both databases."""

from __future__ import annotations

from sqlalchemy import text

from clarity_pipeline.operations.day_report import judge_slices
from clarity_pipeline_tests.agency import DAY, Agency


def change(agency: Agency, statement: str) -> None:
    with agency.database.transaction() as connection:
        connection.execute(text(statement))


def test_the_slices_of_a_synced_day_agree_until_one_of_them_loses_events(agency: Agency) -> None:
    agency.connect("acme")
    agency.sync()
    whole = judge_slices(agency.database, DAY)
    assert whole.passed
    assert whole.numbers["businesses_compared"] == 1
    assert whole.numbers["largest_difference"] == 0

    change(
        agency,
        "UPDATE clarity_daily_metrics SET dead_clicks = dead_clicks + 1 "
        "WHERE dimension_set = 'Country,URL' AND dead_clicks IS NOT NULL",
    )
    found = judge_slices(agency.database, DAY)
    assert not found.passed
    assert "| acme | dead_clicks |" in found.markdown

    for reason in ("truncated = true", "subtracted_export_id = 1, truncated = false"):
        change(
            agency,
            f"UPDATE clarity_daily_slices SET {reason} WHERE dimension_set = 'Country,URL'",
        )
        assert judge_slices(agency.database, DAY).passed


def test_a_day_without_slices_has_nothing_that_could_disagree(agency: Agency) -> None:
    agency.connect("acme")
    assert judge_slices(agency.database, DAY).passed
