"""Bringing ads and connecting ad accounts at the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clarity_pipeline.settings import load_settings
from clarity_pipeline.store.ad_accounts import account_token, disable_account
from clarity_pipeline.store.vault import open_vault
from clarity_pipeline_tests.cli.conftest import Desk
from clarity_pipeline_tests.factories import NOW

ADS = """\
campaign_id,campaign_name,ad_id,ad_name,landing_url,date,spend,ad.leads
1,Spring,3,=Blue,https://acme.example/a?gclid=1,2026-11-01,10.5,3
1,Spring,4,Green,https://acme.example/b,2026-11-01,-1,0
"""
TOKEN = "EAAB-a-token-of-meta-1234"


@pytest.fixture
def acme(desk: Desk) -> Desk:
    desk.succeed("init")
    desk.succeed("business", "add", "acme")
    return desk


def written(desk: Desk, content: str, name: str = "ads.csv") -> str:
    path = Path(desk.directory, name)
    path.write_text(content, encoding="utf-8")
    return str(path)


def import_json(desk: Desk, *arguments: str, stdin: str = "") -> tuple[int, Any]:
    ran = desk.run(
        "ads",
        "import",
        *arguments,
        "--business",
        "acme",
        "--platform",
        "meta",
        "--json",
        stdin=stdin,
    )
    assert ran.err == ""
    return ran.code, ran.document


def test_an_import_says_what_was_stored_and_names_what_was_refused(acme: Desk) -> None:
    file = written(acme, ADS)
    ran = acme.run("ads", "import", file, "--business", "acme", "--platform", "meta")
    assert ran.code == 2
    assert "Stored 1 of 2 rows: entities 2 new, 0 changed, 0 as they were, days 1 new" in ran.out
    assert "Line 3: The spend is negative." in ran.err
    code, again = import_json(acme, file)
    assert (code, again) == (
        2,
        {
            "rows": 2,
            "entities": {"inserted": 0, "updated": 0, "unchanged": 2},
            "days": {"inserted": 0, "updated": 0, "unchanged": 1},
            "columns_passed_over": [],
            "refused": [{"line": 3, "reason": "The spend is negative."}],
        },
    )


def test_a_file_whose_rows_are_all_good_ends_with_0(acme: Desk) -> None:
    code, document = import_json(acme, written(acme, ADS.replace(",-1,", ",1,")))
    assert (code, document["refused"], document["days"]["inserted"]) == (0, [], 2)


def test_rows_come_from_standard_input_and_as_json_too(acme: Desk) -> None:
    assert import_json(acme, "-", stdin=ADS)[1]["entities"]["inserted"] == 2
    rows = [{"id": 3, "date": "2026-10-31", "spend": 5}, {"id": 9, "date": "2026-10-31"}]
    code, document = import_json(acme, written(acme, json.dumps(rows), "days.json"))
    assert (code, document["days"]["inserted"]) == (2, 1)
    assert document["refused"] == [{"line": 2, "reason": "It has no number."}]


def test_one_kind_can_be_taken_alone(acme: Desk) -> None:
    code, document = import_json(acme, written(acme, ADS), "--kind", "entities", "--account", "12")
    assert (code, document["entities"]["inserted"], document["days"]["inserted"]) == (0, 3, 0)
    entities = acme.succeed("ads", "list", "--json").document["entities"]
    assert {each["account_id"] for each in entities} == {"meta:act_12"}


def test_ads_are_listed_with_what_a_terminal_may_show(acme: Desk) -> None:
    assert "clarity ads import" in acme.succeed("ads", "list").out
    import_json(acme, written(acme, ADS.replace("=Blue", "\x1b[31mBlue")))
    shown = acme.succeed("ads", "list", "--business", "acme").out
    assert "meta:3" in shown
    assert "https://acme.example/a" in shown
    assert "\x1b[31mBlue" not in shown
    [campaign, ad] = acme.succeed("ads", "list", "--json").document["entities"]
    assert (campaign["level"], ad["parent_id"], ad["landing_page"]) == (
        "campaign",
        "meta:1",
        "https://acme.example/a",
    )


def test_many_refusals_are_counted_and_the_first_ones_shown(acme: Desk) -> None:
    file = written(acme, "id,level\n" + "x y,ad\n" * 60)
    ran = acme.run("ads", "import", file, "--platform", "meta")
    assert (ran.code, ran.err.count("Line ")) == (2, 50)
    assert "And 10 more" in ran.err
    assert "60 rows were refused" in ran.out


def test_columns_of_a_report_that_are_not_used_are_named(acme: Desk) -> None:
    report = "Reporting starts,Reporting ends,Ad ID,Ad name,Reach\n2026-11-01,2026-11-01,3,B,9\n"
    ran = acme.succeed("ads", "import", written(acme, report))
    assert "not used: Reach" in ran.err


@pytest.mark.parametrize(
    ("arguments", "code", "saying"),
    [
        (["import", "nowhere.csv"], "invalid_ad_rows", "nowhere.csv cannot be read"),
        (["import", "ads.csv", "--business", "nobody"], "unknown_business", "'nobody'"),
        (["import", "ads.csv", "--platform", "Meta Ads"], "invalid_ad_account", "ad platform"),
        (["import", "bad.csv"], "invalid_ad_rows", "'spnd'"),
        (["import", "ads.csv", "--kind", "moods"], "usage", "moods"),
        (["list", "--business", "nobody"], "unknown_business", "'nobody'"),
        (["connect", "nobody", "--platform", "meta", "--account", "1"], "unknown_business", "'no"),
        (["connect", "acme", "--platform", "5", "--account", "1"], "invalid_ad_account", "'5'"),
        (["connect", "acme", "--platform", "meta", "--account", "="], "invalid_ad_account", "'='"),
        (["connect", "acme", "--platform", "meta", "--account", "1"], "invalid_token", "token"),
        (["connect", "acme", "--platform", "meta"], "usage", "--account"),
        (["disconnect", "meta:act_9"], "unknown_ad_account", "clarity ads accounts"),
    ],
)
def test_what_cannot_be_done_ends_with_2_and_says_why(
    acme: Desk, arguments: list[str], code: str, saying: str
) -> None:
    written(acme, ADS)
    written(acme, "id,spnd\n1,2\n", "bad.csv")
    ran = acme.run("ads", *arguments, "--json", stdin="no token")
    assert (ran.code, ran.out, ran.error["code"]) == (2, "", code)
    assert saying in ran.error["message"]


def test_an_ad_account_is_connected_shown_and_forgotten_without_its_token(acme: Desk) -> None:
    connect = ("ads", "connect", "acme", "--platform", "meta", "--account", "123")
    assert "No ad account" in acme.succeed("ads", "accounts").out
    assert "ends in 1234" in acme.succeed(*connect, stdin=f"{TOKEN}\n").out
    with acme.open_database() as database:
        token = account_token(database, open_vault(load_settings()), "meta:act_123")
        assert token.get_secret_value() == TOKEN
        assert "in use" in acme.succeed("ads", "accounts").out
        disable_account(database, "meta:act_123", reason="The token was refused.", now=NOW)
    assert "off: The token was refused." in acme.succeed("ads", "accounts").out
    again = acme.succeed(*connect, "--json", stdin="EAAB-another-9876").document
    assert (again["id"], again["token_last4"], again["disabled_at"]) == (
        "meta:act_123",
        "9876",
        None,
    )
    [listed] = acme.succeed("ads", "accounts", "--json").document["accounts"]
    assert listed == again
    assert "Disconnected meta:act_123" in acme.succeed("ads", "disconnect", "meta:act_123").out
    assert acme.succeed("ads", "accounts", "--json").document == {"accounts": []}
    assert TOKEN not in acme.printed


def test_imports_and_accounts_are_on_record_without_a_secret(acme: Desk) -> None:
    import_json(acme, written(acme, ADS))
    connect = ("ads", "connect", "acme", "--platform", "meta", "--account", "123", "--json")
    acme.succeed(*connect, stdin=TOKEN)
    acme.succeed("ads", "disconnect", "meta:act_123", "--json")
    entries = acme.succeed("audit", "--business", "acme", "--json").document["entries"]
    assert [(each["action"], each["detail"]) for each in entries[:3]] == [
        ("ad_account_disconnected", {"account": "meta:act_123"}),
        ("ad_account_connected", {"account": "meta:act_123"}),
        (
            "ads_imported",
            {
                "rows": 2,
                "rows_refused": 1,
                "entities_inserted": 2,
                "entities_updated": 0,
                "entities_unchanged": 0,
                "days_inserted": 1,
                "days_updated": 0,
                "days_unchanged": 0,
            },
        ),
    ]
