"""`clarity rules preview|backtest|explain`: trying a rule, and asking why it decided."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from clarity_pipeline.domain.rules.model import Rule, RuleStatus
from clarity_pipeline.domain.rules.yaml_documents import write_rules
from clarity_pipeline.operations.rule_evaluation import evaluate_day
from clarity_pipeline.store.rules import save_rule
from clarity_pipeline_tests.cli.conftest import Desk
from clarity_pipeline_tests.domain.rules.examples import DIRECTORY
from clarity_pipeline_tests.domain.rules.histories import condition, last_days, rule
from clarity_pipeline_tests.stored_days import store_day, sums

RAGE = condition("clarity_rage_click_rate", ">", 0.3, window=last_days(2), min_sessions=5)


def a_rule(**more: Any) -> Rule:
    return rule(more.pop("conditions", RAGE), **{"name": "Rage", "level": "business", **more})


def with_days(desk: Desk, rage_clicks: Sequence[int | None]) -> None:
    """A connected business that had so many rage clicks in ten sessions, up to yesterday."""
    desk.connect("acme")
    with desk.open_database() as database:
        for back, count in enumerate(reversed(rage_clicks)):
            if count is not None:
                day = desk.yesterday - timedelta(days=back)
                store_day(database, day, sums(rage_clicks=count))


def file_of(desk: Desk, *rules: Rule) -> str:
    (desk.directory / "rule.yaml").write_text(write_rules(rules), encoding="utf-8")
    return "rule.yaml"


def range_of(desk: Desk, days: int) -> tuple[str, ...]:
    return ("--from", desk.day(days - 1), "--to", desk.day(0))


# Preview


def test_a_preview_says_what_a_rule_would_decide_now_and_why(desk: Desk) -> None:
    with_days(desk, [6, 6])
    ran = desk.succeed("rules", "preview", file_of(desk, a_rule()))
    text = " ".join(ran.out.split())
    assert f"Rage, as of {desk.day(0)} (UTC): of 1 entities it fires for 1" in text
    assert "0.6 (12 / 20), above 0.3" in text
    document = desk.succeed("rules", "preview", "rule.yaml", "--json").document
    assert (document["entities"], document["fired"], document["unknown"]) == (1, 1, 0)
    (decision,) = document["decisions"]
    assert (decision["entity_id"], decision["answer"]) == ("acme", "true")
    assert decision["sentence"].startswith("'Rage' fires for business 'acme'")
    (finding,) = decision["findings"]
    assert (finding["value"], finding["numerator"], finding["denominator"]) == (0.6, 12, 20)


def test_a_preview_of_an_earlier_day_and_without_data(desk: Desk) -> None:
    with_days(desk, [6, 6, None, None, None])
    name = file_of(desk, a_rule())
    assert desk.succeed("rules", "preview", name, "--as-of", desk.day(3), "--json").document[
        "fired"
    ]
    ran = desk.succeed("rules", "preview", name)
    assert "Unknown: no data 1." in ran.out
    assert "so nothing is done" in " ".join(ran.out.split())
    assert desk.run("rules", "preview", name, "--as-of", "2999-01-01").code == 2
    assert desk.run("rules", "preview", name, "--business", "nobody").code == 2


def test_a_preview_of_a_stored_rule_stores_and_does_nothing(desk: Desk) -> None:
    with_days(desk, [6, 6])
    desk.succeed("rules", "apply", file_of(desk, a_rule()))
    assert desk.succeed("rules", "preview", "Rage", "--json").document["fired"] == 1
    with desk.open_database() as database, database.reading() as connection:
        for table in ("rule_evaluations", "rule_decisions", "rule_actions"):
            count = connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar()
            assert count == 0, table


def test_every_example_can_be_previewed(desk: Desk) -> None:
    with_days(desk, [6, 6])
    for path in sorted(DIRECTORY.glob("*.yaml")):
        desk.succeed("rules", "preview", str(path), "--json")


# Backtest


def test_a_backtest_says_how_often_a_rule_would_have_fired_and_on_what(desk: Desk) -> None:
    with_days(desk, [None, 6, 6, 1, 1, 6, 6])
    ran = desk.succeed("rules", "backtest", file_of(desk, a_rule()), *range_of(desk, 7))
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert f"Rage, as of {desk.day(6)} to {desk.day(0)} (UTC)" in lines
    assert "days on which it would have fired 5 of 7" in lines
    assert "times it would have acted on one, under its cool-down 5" in lines
    assert f"{desk.day(6)} x███.██ {desk.day(0)}" in lines
    assert f"acme acme 5 2 {desk.day(5)} {desk.day(0)} 2 1 5" in lines
    assert "█ 1, the most there were . nothing fired x no history" in lines
    assert "entities it came and went for within days 1" in lines
    assert any("as they are stored now" in line for line in lines)
    assert any(f"begin on {desk.day(5)}" in line for line in lines)


def test_a_backtest_for_programs_has_every_day_and_episode(desk: Desk) -> None:
    with_days(desk, [6, 6, 1, None, None])
    document = desk.succeed(
        "rules", "backtest", file_of(desk, a_rule()), *range_of(desk, 5), "--json"
    ).document
    assert (document["start"], document["end"]) == (desk.day(4), desk.day(0))
    days = [(day["fired"], day["not_fired"], day["unknown"]) for day in document["days"]]
    assert days == [(1, 0, 0), (1, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert document["days"][-1]["reasons"] == document["reasons"] == {"no_data": 1}
    (fired,) = document["fired"]
    assert fired["episodes"] == [
        {"first_day": desk.day(4), "last_day": desk.day(2), "days_fired": 3, "is_over": True}
    ]
    assert document["history_begins"] == {"business": desk.day(4)}


def test_the_episodes_of_a_backtest_are_written_as_csv(desk: Desk) -> None:
    with_days(desk, [6, 6, 1, 1])
    name = file_of(desk, a_rule())
    desk.succeed("rules", "backtest", name, *range_of(desk, 4), "--csv", "episodes.csv")
    assert (desk.directory / "episodes.csv").read_bytes().decode() == (
        "entity_id,entity_name,business_id,first_day,last_day,days_fired,is_over\r\n"
        f"acme,acme,acme,{desk.day(3)},{desk.day(1)},3,true\r\n"
    )
    ran = desk.run("rules", "backtest", name, *range_of(desk, 4), "--csv", "no/such/file.csv")
    assert (ran.code, "cannot be written" in ran.err) == (2, True)


def test_a_long_backtest_has_a_line_for_eight_weeks(desk: Desk) -> None:
    with_days(desk, [6])
    ran = desk.succeed("rules", "backtest", file_of(desk, a_rule()), *range_of(desk, 113))
    strips = [line.split()[1] for line in ran.out.splitlines() if line.strip().startswith("20")]
    assert strips == ["x" * 56, "x" * 56, "█"]


def test_where_bars_cannot_be_printed_there_are_digits(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_days(desk, [6])
    name = file_of(desk, a_rule())
    monkeypatch.setattr("clarity_pipeline.cli.rule_trials._BARS", "\udc80" * 8)
    assert " 8 " in desk.succeed("rules", "backtest", name, *range_of(desk, 1)).out


@pytest.mark.parametrize(
    ("back", "to", "said"),
    [
        (0, "2999-01-01", "not over"),
        (500, None, "at most 400"),
        (0, "soon", "not a day"),
    ],
)
def test_days_that_cannot_be_replayed_are_refused(
    desk: Desk, back: int, to: str | None, said: str
) -> None:
    with_days(desk, [6])
    name = file_of(desk, a_rule())
    ran = desk.run("rules", "backtest", name, "--from", desk.day(back), "--to", to or desk.day(0))
    assert (ran.code, said in ran.err) == (2, True), ran.err


def test_a_backtest_without_any_history_says_so(desk: Desk) -> None:
    desk.connect("acme")
    ran = desk.run("rules", "backtest", file_of(desk, a_rule()), *range_of(desk, 3), "--json")
    assert (ran.code, ran.error["code"]) == (2, "invalid_day")
    assert "no history" in ran.error["message"]


# Which rule


def test_a_rule_is_tried_from_a_file_from_standard_input_and_by_name(desk: Desk) -> None:
    with_days(desk, [6, 6])
    desk.succeed("rules", "apply", file_of(desk, a_rule(name="Stored")))
    for given, stdin in (("Stored", ""), ("rule.yaml", ""), ("-", write_rules([a_rule()]))):
        assert desk.succeed("rules", "preview", given, "--json", stdin=stdin).document["fired"]


@pytest.mark.parametrize(
    ("given", "text", "said"),
    [
        ("rule.yaml", None, "cannot be read"),
        ("No such rule", None, "No such rule"),
        ("rule.yaml", "name: [", "not YAML"),
        ("rule.yaml", "name: A rule", "cannot be used"),
        ("rule.yaml", write_rules([a_rule(), a_rule(name="Other")]), "2 rules"),
    ],
)
def test_what_is_no_single_rule_is_refused(
    desk: Desk, given: str, text: str | None, said: str
) -> None:
    desk.succeed("init")
    if text is not None:
        (desk.directory / "rule.yaml").write_text(text, encoding="utf-8")
    for command in (("preview", given), ("backtest", given, *range_of(desk, 2))):
        ran = desk.run("rules", *command)
        assert (ran.code, said in ran.err) == (2, True), ran.err


# A decision that was made


def decided(desk: Desk, rage_clicks: Sequence[int | None], **more: Any) -> None:
    """Evaluate the rule as of yesterday, as the pipeline does."""
    with_days(desk, rage_clicks)
    now = datetime.now(UTC)
    with desk.open_database() as database:
        armed = a_rule(**more).model_copy(update={"status": RuleStatus.ARMED})
        save_rule(database, armed, made_by="a test", now=now)
        evaluate_day(database, day=desk.yesterday, now=now, run_id=None)


def test_a_decision_is_explained_in_a_sentence_and_a_table(desk: Desk) -> None:
    spend = condition("spend", ">", 1)
    decided(desk, [6, 6], conditions={"any": [RAGE, spend]})
    text = " ".join(desk.succeed("rules", "explain", "1-0").out.split())
    assert text.startswith(f"'Rage' fires for business 'acme' as of {desk.day(0)}:")
    assert "1. Rage click rate in the last 2 days: above 0.3 (this one decides)" in text
    assert "1 * yes 0.6 12 20 - above 0.3 2 of 2 20 -" in text
    assert "2 unknown - - - - above 1 0 of 1 - there are no data" in text
    assert f"Decided by version 1 of the rule of business acme for {desk.day(0)} (acting)" in text


def test_a_decision_for_programs_has_its_evidence_and_version(desk: Desk) -> None:
    decided(desk, [6, 6])
    document = desk.succeed("rules", "explain", "1-0", "--json").document
    assert (document["decision"], document["version"], document["mode"]) == ("1-0", 1, "acting")
    assert (document["answer"], document["decided_by"]) == ("true", "conditions")
    (finding,) = document["findings"]
    assert finding["condition"] == "Rage click rate in the last 2 days: above 0.3"
    assert (finding["truth"], finding["threshold"], finding["sessions"]) == ("true", 0.3, 20)
    assert (finding["days_with_data"], finding["days_in_window"]) == (2, 2)
    assert finding["window_end"] == desk.day(0)


def test_a_decision_that_there_is_none_of_is_refused(desk: Desk) -> None:
    decided(desk, [6, 6])
    for address in ("1-1", "7-0", "seven", "1"):
        ran = desk.run("rules", "explain", address, "--json")
        assert (ran.code, ran.error["code"]) == (2, "unknown_decision"), address
