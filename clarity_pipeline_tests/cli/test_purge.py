"""`clarity purge`: it deletes only what was disconnected, and only after the id was typed again."""

from __future__ import annotations

from clarity_pipeline_tests.cli.conftest import Desk


def test_the_history_of_a_disconnected_business_goes_once_its_id_was_typed_again(
    desk: Desk,
) -> None:
    desk.connect("acme")
    desk.succeed("sync")
    connected = desk.run("purge", "acme", "--yes-delete", "acme", "--json")
    assert (connected.code, connected.error["code"]) == (2, "purge_refused")
    assert "clarity disconnect acme" in connected.error["message"]

    desk.succeed("disconnect", "acme")
    for arguments, answer in (((), ""), ((), "acme2\n"), (("--yes-delete", "ACME"), "acme\n")):
        ran = desk.run("purge", "acme", "--json", *arguments, stdin=answer)
        assert (ran.code, ran.error["code"], ran.out) == (2, "purge_refused", "")
        assert "nothing was deleted" in ran.error["message"]

    asked = desk.run("purge", "acme", stdin="something else\n")
    assert f"the history of acme from {desk.day(0)} to {desk.day(0)}, for ever" in asked.err
    assert "4 of clarity_raw_exports" in asked.err

    done = desk.succeed("purge", "acme", "--json", stdin="acme\n").document
    assert done["by_table"]["clarity_raw_exports"] == 4
    assert (done["days"], done["first_day"], done["last_day"]) == (1, desk.day(0), desk.day(0))
    again = desk.succeed("purge", "acme", "--yes-delete", "acme")
    assert "There is no history of acme." in again.err
    assert again.out == "Deleted 0 rows of 0 days of acme.\n"
