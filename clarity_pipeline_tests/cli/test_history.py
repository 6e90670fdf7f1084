"""`clarity gaps`: a word for every day, and why."""

from __future__ import annotations

from clarity_pipeline.domain.day_history import DayWord
from clarity_pipeline_tests.cli.conftest import Desk


def backdate(desk: Desk, *, days: int) -> None:
    """As if the businesses had been connected so many days ago."""
    at = f"{desk.day(days)}T12:00:00.000000+00:00"
    with desk.open_database() as database, database.transaction() as connection:
        connection.exec_driver_sql("UPDATE clarity_business_config SET created_at = ?", (at,))


def test_every_day_of_the_last_thirty_has_a_word_and_a_reason(desk: Desk) -> None:
    desk.connect("acme")
    backdate(desk, days=40)
    desk.succeed("sync")
    document = desk.succeed("gaps", "--json").document
    (acme,) = document["businesses"]
    assert (document["start"], document["end"]) == (desk.day(29), desk.day(0))
    assert [day["day"] for day in acme["days"]] == [desk.day(back) for back in range(29, -1, -1)]
    assert acme["counts"]["lost"] == 29
    assert sum(acme["counts"].values()) == 30
    for day in acme["days"]:
        assert DayWord(day["status"])
        assert (day["status"] == "complete") is (day["reason"] is None)


def test_a_strip_shows_a_character_per_day_and_a_list_says_why(desk: Desk) -> None:
    desk.connect("acme")
    backdate(desk, days=9)
    window = ("--from", desk.day(4), "--to", desk.day(1))
    text = desk.succeed("gaps", "acme", *window).out
    assert " XXXX " in text
    assert "X lost" in text
    why = "No run was made while Clarity still answered for it."
    assert f"acme {desk.day(4)} {desk.day(1)} lost {why}" in " ".join(text.split())
    assert "0 of 4" in text


def test_all_begins_with_the_first_day_of_each_business(desk: Desk) -> None:
    desk.connect("acme")
    backdate(desk, days=70)
    (acme,) = desk.succeed("gaps", "--all", "--json").document["businesses"]
    assert acme["days"][0]["day"] == desk.day(71)
    assert len(acme["days"]) == 72
    strips = [line for line in desk.succeed("gaps", "--all").out.splitlines() if "XXX" in line]
    assert len(strips) == 3


def test_a_window_that_cannot_be_is_refused(desk: Desk) -> None:
    desk.connect("acme")
    for arguments in (
        ["--all", "--from", desk.day(3)],
        ["--from", desk.day(0), "--to", desk.day(3)],
        ["--to", "2999-01-01"],
        ["--from", "soon"],
        ["nobody"],
    ):
        assert desk.run("gaps", *arguments).code == 2


def test_an_agency_without_businesses_has_no_days(desk: Desk) -> None:
    desk.succeed("init")
    assert "No business is old enough" in desk.succeed("gaps").out
    assert desk.succeed("gaps", "--json").document["businesses"] == []
