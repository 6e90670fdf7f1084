"""Connecting businesses, testing and pausing them, and how they stand."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from clarity_pipeline.export_api.emulator import Fault, emulator_token
from clarity_pipeline.store.businesses import add_business
from clarity_pipeline.store.schema import business_config
from clarity_pipeline_tests.cli.conftest import Desk


def test_init_makes_database_key_and_dagster_home(desk: Desk) -> None:
    ran = desk.succeed("init")
    home = desk.directory / ".clarity"
    assert (home / "clarity.db").is_file()
    assert stat.S_IMODE((home / "secret.key").stat().st_mode) == 0o600
    assert "telemetry" in (home / "dagster" / "dagster.yaml").read_text()
    assert str(home / "secret.key") in ran.out


def test_init_again_keeps_the_key(desk: Desk) -> None:
    desk.succeed("init")
    key = (desk.directory / ".clarity" / "secret.key").read_bytes()
    assert desk.succeed("init", "--json").document["secret_key_made"] is False
    assert (desk.directory / ".clarity" / "secret.key").read_bytes() == key


def test_init_with_keys_of_the_environment_makes_no_key_file(desk: Desk) -> None:
    key = desk.succeed("keys", "generate").out.strip()
    desk.monkeypatch.setenv("CLARITY_SECRET_KEYS", key)
    assert desk.succeed("init", "--json").document["secret_key_file"] is None
    assert not (desk.directory / ".clarity" / "secret.key").exists()
    assert key not in desk.succeed("init").out


def test_the_dagster_home_of_the_environment_wins(desk: Desk) -> None:
    desk.monkeypatch.setenv("DAGSTER_HOME", str(desk.directory / "elsewhere"))
    desk.succeed("init")
    assert (desk.directory / "elsewhere" / "dagster.yaml").is_file()
    assert not (desk.directory / ".clarity" / "dagster").exists()


def test_businesses_are_listed_with_their_connection(desk: Desk) -> None:
    assert "no business yet" in desk.succeed("business", "list").out
    desk.connect("acme")
    desk.succeed("business", "add", "bolt", "--name", "Bolt & Söhne")
    listed = desk.succeed("business", "list", "--json").document["businesses"]
    assert [(each["business_id"], each["name"], each["project_id"]) for each in listed] == [
        ("acme", "acme", "shopsmall2"),
        ("bolt", "Bolt & Söhne", None),
    ]
    assert "Bolt & Söhne" in desk.succeed("business", "list").out


def test_connecting_says_when_the_token_expires_and_spends_no_call(desk: Desk) -> None:
    desk.succeed("init")
    desk.succeed("business", "add", "acme")
    expires_at = datetime(2031, 5, 6, 7, 8, tzinfo=UTC)
    token = emulator_token("shopsmall2", expires_at=expires_at)
    ran = desk.succeed("connect", "acme", "--project-id", "shopsmall2", stdin=token + "\n")
    assert "2031-05-06 07:08 UTC" in ran.out
    assert f"ending in {token[-4:]}," in ran.out
    assert "no call was spent" in ran.out
    assert desk.emulator.control.calls() == []


def test_connecting_warns_of_a_token_that_expires_within_a_week(desk: Desk) -> None:
    desk.succeed("init")
    desk.succeed("business", "add", "acme")
    token = emulator_token("shopsmall2", expires_at=datetime.now(UTC) + timedelta(days=3))
    assert (
        "renew it" in desk.succeed("connect", "acme", "--project-id", "shopsmall2", stdin=token).out
    )
    assert "The token expires" in desk.succeed("status", "acme").out
    assert "acme: the token expires" in desk.succeed("status").out


def test_a_token_that_is_over_expired_and_does_not_expire(desk: Desk) -> None:
    desk.connect("acme")
    with desk.open_database() as database, database.transaction() as connection:
        connection.execute(
            update(business_config).values(token_expires_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC))
        )
    said = desk.succeed("status", "acme").out
    assert "The token expired 2026-01-02 03:04 UTC; generate a new one" in said
    assert "expires" not in said
    assert desk.succeed("status", "acme", "--json").document["businesses"][0]["token_has_expired"]


def test_a_connection_as_json(desk: Desk) -> None:
    desk.succeed("init")
    desk.succeed("business", "add", "acme")
    token = emulator_token("shopsmall2", expires_at=datetime(2031, 5, 6, tzinfo=UTC))
    document = desk.succeed(
        "connect", "acme", "--project-id", "shopsmall2", "--json", stdin=token
    ).document
    assert document["token_expires_at"] == "2031-05-06T00:00:00Z"
    assert document["token_last4"] == token[-4:]


def test_a_test_spends_one_call_and_says_how_many_are_left(desk: Desk) -> None:
    desk.connect("acme")
    ran = desk.succeed("test", "acme")
    assert "Clarity accepts the token" in ran.out
    # Its reply stands for one of the four calls that are kept for the schedule.
    assert "spent 1 of 10 calls; 6 are left for today and 3 are kept" in ran.out
    assert len(desk.emulator.control.calls()) == 1


def test_a_test_of_a_revoked_token_ends_with_4(desk: Desk) -> None:
    desk.connect("acme")
    desk.emulator.control.revoke_token("shopsmall2")
    ran = desk.run("test", "acme", "--json")
    assert ran.code == 4
    assert ran.document["succeeded"] is False
    assert ran.document["result"] == "auth_failed"
    assert (ran.document["switched_off"], ran.document["sync_enabled"]) == (True, False)
    [status] = desk.succeed("status", "acme", "--json").document["businesses"]
    assert (status["state"], status["disabled_by"]) == ("disabled_auth", "auth_failure")


def test_a_refused_token_is_explained_wherever_its_business_is_asked_for(desk: Desk) -> None:
    desk.connect("acme")
    desk.emulator.control.revoke_token("shopsmall2")
    assert "clarity connect acme --project-id shopsmall2" in desk.run("test", "acme").out
    refused = desk.run("sync", "--business", "acme")
    assert refused.code == 2
    assert "is switched off: On 20" in refused.err
    assert "(HTTP 401" in refused.err
    assert "Switched off 20" in desk.succeed("status", "acme").out
    enabled = desk.succeed("enable", "acme").out
    assert "It had been switched off because of the token. On 20" in enabled
    assert "clarity test acme" in enabled
    [status] = desk.succeed("status", "acme", "--json").document["businesses"]
    assert (status["sync_enabled"], status["disabled_by"]) == (True, None)


def test_a_paused_business_is_told_how_to_resume_after_a_good_test(desk: Desk) -> None:
    desk.connect("acme")
    desk.succeed("disable", "acme")
    assert (
        "is switched off; get it back with: clarity enable acme" in desk.succeed("test", "acme").out
    )


def test_success_attempt_and_error_are_three_things(desk: Desk) -> None:
    desk.connect("acme")
    desk.emulator.control.add_fault(Fault(dimension_set="Country,URL", status=400))
    desk.succeed("test", "acme")
    [tested] = desk.succeed("status", "acme", "--json").document["businesses"]
    assert tested["last_success"] is not None
    assert (tested["last_attempt"], tested["last_error"]) == (None, None)
    desk.run("sync")
    [synced] = desk.succeed("status", "acme", "--json").document["businesses"]
    assert synced["last_success"] > tested["last_success"]
    assert synced["last_attempt"]["status"] == "partial"
    assert (synced["last_attempt"]["day"], synced["last_attempt"]["trigger"]) == (
        desk.day(0),
        "manual",
    )
    assert synced["last_error"]["code"] == "request_rejected"
    assert synced["last_error"]["at"] == synced["last_attempt"]["at"]
    desk.succeed("replay", "--from", desk.day(0), "--to", desk.day(0))
    [replayed] = desk.succeed("status", "acme", "--json").document["businesses"]
    for fact in ("last_success", "last_attempt", "last_error"):
        assert replayed[fact] == synced[fact]
    assert replayed["last_job"]["trigger"] == "replay"
    for text in (desk.succeed("status").out, desk.succeed("status", "acme").out):
        assert all(word in text for word in ("last success", "last attempt", "last error"))
        assert "manual: partial" in text
        assert "rejected the call's parameters" in text


def test_a_test_without_quota_ends_with_3_and_judges_nothing(desk: Desk) -> None:
    desk.connect("acme")
    desk.emulator.control.set_quota_used("shopsmall2", used=10)
    ran = desk.run("test", "acme")
    assert ran.code == 3
    assert "token could not be judged" in ran.out
    [status] = desk.succeed("status", "acme", "--json").document["businesses"]
    assert status["state"] == "rate_limited_today"
    assert status["sync_enabled"] is True


def test_a_test_is_refused_when_only_the_share_of_the_schedule_is_left(desk: Desk) -> None:
    desk.connect("acme")
    codes = [desk.run("test", "acme").code for _ in range(8)]
    # One call is owed to the schedule less after the first test; three stay for it.
    assert codes == [0, 0, 0, 0, 0, 0, 0, 3]
    assert "kept for the daily sync" in desk.run("test", "acme").out
    assert len(desk.emulator.control.calls()) == 7


def test_a_test_of_an_unreachable_clarity_ends_with_1(desk: Desk) -> None:
    desk.connect("acme")
    desk.emulator.control.set_outage(on=True)
    assert desk.run("test", "acme").code == 1


def test_pausing_and_resuming(desk: Desk) -> None:
    desk.connect("acme")
    assert "is off" in desk.succeed("disable", "acme").out
    assert "off already" in desk.succeed("disable", "acme").out
    assert desk.succeed("status", "--json").document["businesses"][0]["state"] == "paused"
    assert desk.succeed("enable", "acme", "--json").document == {
        "business_id": "acme",
        "sync_enabled": True,
        "changed": True,
    }


def test_a_business_can_have_the_fifth_call_while_the_others_have_not(desk: Desk) -> None:
    desk.connect("acme")
    assert desk.succeed("overview", "acme", "on", "--json").document == {
        "business_id": "acme",
        "overview": True,
    }
    desk.succeed("sync")
    assert len(desk.emulator.control.calls()) == 5
    assert "is default" in desk.succeed("overview", "acme", "default").out
    assert desk.succeed("status", "--json").document["businesses"][0]["overview"] is None


def test_disconnecting_forgets_the_token_and_keeps_the_history(desk: Desk) -> None:
    desk.connect("acme")
    desk.succeed("sync")
    desk.succeed("disconnect", "acme")
    assert "was not connected" in desk.succeed("disconnect", "acme").out
    [status] = desk.succeed("status", "--json").document["businesses"]
    assert (status["state"], status["token_last4"]) == ("not_connected", None)
    replayed = desk.succeed("replay", "--from", desk.day(0), "--to", desk.day(0), "--json")
    assert replayed.document["days"][0]["slices"] == 4


def test_a_fresh_connection_was_never_tested(desk: Desk) -> None:
    desk.connect("acme")
    [status] = desk.succeed("status", "acme", "--json").document["businesses"]
    assert status["state"] == "never_tested"
    assert status["yesterday"] == {"day": desk.day(0), "landed": 0, "due": 4}
    assert status["last_job"] is None
    assert status["quota"]["used"] == 0


def test_status_of_everybody_is_one_table(desk: Desk) -> None:
    desk.connect("acme")
    desk.succeed("business", "add", "bolt")
    desk.succeed("sync")
    ran = desk.succeed("status")
    assert "connected" in ran.out
    assert "not connected" in ran.out
    assert "4 of 10" in ran.out


def test_quota_lists_the_calls_of_the_day(desk: Desk) -> None:
    desk.connect("acme")
    desk.succeed("test", "acme")
    desk.succeed("sync")
    document = desk.succeed("quota", "acme", "--json").document
    assert (document["used"], document["kept_for_schedule"], document["free"]) == (4, 0, 6)
    assert [(call["slot"], call["purpose"], call["outcome"]) for call in document["calls"]] == [
        (1, "test", "landed"),
        (2, "manual", "landed"),
        (3, "manual", "landed"),
        (4, "manual", "landed"),
    ]
    midnight = desk.yesterday + timedelta(days=2)
    assert document["resets_at"] == f"{midnight}T00:00:00Z"
    text = desk.succeed("quota", "acme").out
    assert "4 of 10 calls used" in text
    assert "URL + Campaign + Channel" in text


def test_tokens_are_brought_under_the_newest_key(desk: Desk) -> None:
    desk.connect("acme")
    key_file = desk.directory / ".clarity" / "secret.key"
    new = desk.succeed("keys", "generate").out.strip()
    key_file.write_text(f"{new},{key_file.read_text().strip()}\n")
    assert desk.succeed("keys", "rotate", "--json").document == {"tokens_reencrypted": 1}
    key_file.write_text(f"{new}\n")
    desk.succeed("test", "acme")


@pytest.mark.parametrize("name", ["Evil \x1b[31mInc", "[red]Inc[/red]", "\x07Bell"])
def test_a_name_cannot_command_the_terminal(desk: Desk, name: str) -> None:
    desk.succeed("init")
    with desk.open_database() as database:
        add_business(database, business_id="evil", name=name, now=datetime.now(UTC))
    out = desk.succeed("business", "list").out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "Inc" in out or "Bell" in out
    assert ("[red]" in name) == ("[red]" in out)


def test_a_name_with_control_characters_is_refused(desk: Desk) -> None:
    desk.succeed("init")
    ran = desk.run("business", "add", "evil", "--name", "Evil\x1b[31m", "--json")
    assert (ran.code, ran.error["code"]) == (2, "invalid_business_name")
    assert desk.run("business", "add", "evil", "--name", "x" * 201).code == 2


def test_a_file_connects_many_businesses_at_once(desk: Desk) -> None:
    desk.succeed("init")
    token = emulator_token("shopsmall2")
    text = (
        f"business_id,name,project_id,token\nacme,Söhne,shopsmall2,{token}\n"
        f"bolt,,shopsmall2,{token}\n"
    )
    (desk.directory / "clients.csv").write_text(text, encoding="utf-8-sig")
    assert "2 connected" in desk.succeed("connect-many", "clients.csv").out
    again = desk.succeed("connect-many", "-", "--json", stdin=text).document["connected"]
    assert [(each["business_id"], each["is_new"]) for each in again] == [
        ("acme", False),
        ("bolt", False),
    ]
    listed = desk.succeed("business", "list", "--json").document["businesses"]
    assert [each["name"] for each in listed] == ["Söhne", "bolt"]
    assert token not in desk.printed
    assert desk.emulator.control.calls() == []


def test_a_file_with_bad_rows_connects_nobody_and_names_them_all(desk: Desk) -> None:
    desk.succeed("init")
    token = emulator_token("shopsmall2")
    text = (
        f"business_id,name,project_id,token\nacme,,shopsmall2,{token}\n"
        f"{token},,shopsmall2,acme\nbolt,,no!,{token}\n"
    )
    (desk.directory / "clients.csv").write_text(text)
    ran = desk.run("connect-many", "clients.csv", "--json")
    assert (ran.code, ran.out) == (2, "")
    assert ran.error["code"] == "invalid_connection_list"
    assert [row["line"] for row in ran.error["rows"]] == [3, 4]
    spoken = desk.run("connect-many", "clients.csv").err
    assert "Line 3: " in spoken
    assert "Line 4: " in spoken
    assert token not in desk.printed
    assert desk.succeed("business", "list", "--json").document["businesses"] == []


def test_a_file_that_is_no_text_is_refused(desk: Desk) -> None:
    desk.succeed("init")
    (desk.directory / "clients.xlsx").write_bytes(b"PK\x03\x04\xff\xfe")
    assert (
        desk.run("connect-many", "clients.xlsx", "--json").error["message"].startswith("The list")
    )
    assert desk.run("connect-many", "none.csv").code == 2
