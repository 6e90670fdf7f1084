"""`clarity rules`: rules out of files and into files, and their status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from clarity_pipeline.cli.session import command_line_actor
from clarity_pipeline.domain.rules.documents import rule_json_schema
from clarity_pipeline.domain.rules.model import Rule
from clarity_pipeline.domain.rules.yaml_documents import write_rules
from clarity_pipeline.store import schema
from clarity_pipeline.store.rules import list_rules
from clarity_pipeline_tests.cli.conftest import Desk
from clarity_pipeline_tests.domain.rules.histories import condition, rule

SECRET = "https://hooks.example/secret"
HOOK = {"kind": "webhook", "url": SECRET}
FUTURE = "2999-12-31"


def write(desk: Desk, *rules: Rule, name: str = "rules.yaml") -> Path:
    path = desk.directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(write_rules(rules), encoding="utf-8")
    return path


def applied(desk: Desk, *rules: Rule) -> None:
    desk.succeed("rules", "apply", str(write(desk, *rules)))


def stored(desk: Desk) -> dict[str, tuple[int, str]]:
    """Version and status by name."""
    with desk.open_database() as database:
        return {
            each.rule.name: (each.version, each.rule.status.value) for each in list_rules(database)
        }


def audited(desk: Desk) -> list[Any]:
    entries = desk.succeed("audit", "--json").document["entries"]
    return [
        (each["actor"], each["action"], each["detail"] and each["detail"].get("change"))
        for each in entries[::-1]
    ]


def test_rules_are_applied_from_files_directories_and_standard_input(desk: Desk) -> None:
    write(desk, rule(name="One"), rule(name="Two"), name="rules/a.yaml")
    write(desk, rule(name="Three"), name="rules/more/b.yml")
    (desk.directory / "rules" / "notes.txt").write_text("no rule", encoding="utf-8")
    four = write(desk, rule(name="Four"), name="four.txt")
    ran = desk.succeed("rules", "apply", "rules", str(four), "-", stdin=write_rules([rule()]))
    assert "5 created." in ran.out
    assert "Two: created, version 1 (rules/a.yaml:" in ran.out
    assert stored(desk) == dict.fromkeys(["A rule", "Four", "One", "Three", "Two"], (1, "draft"))
    assert audited(desk)[0] == (command_line_actor(), "rule_changed", "created; a draft")


def test_a_change_is_shown_before_and_while_it_is_made(desk: Desk) -> None:
    applied(desk, rule(condition(value=0.05)), rule(name="Alike"))
    path = str(write(desk, rule(condition(value=0.08)), rule(name="Alike"), rule(name="New")))
    line = "conditions.value: 0.05 -> 0.08"
    for command in (["diff"], ["apply", "--dry-run"]):
        ran = desk.succeed("rules", *command, path)
        assert f"A rule: changed, version 1 ({path}:1)\n  {line}\n" in ran.out
        assert "New: created (" in ran.out
    assert "Alike: unchanged" in desk.succeed("rules", "diff", path).out
    assert stored(desk) == {"A rule": (1, "draft"), "Alike": (1, "draft")}
    document = desk.succeed("rules", "diff", path, "--json").document
    assert [each["outcome"] for each in document["rules"]] == ["changed", "unchanged", "created"]
    assert document["rules"][0]["differences"] == [
        {"path": "conditions.value", "before": "0.05", "after": "0.08"}
    ]
    assert line in desk.succeed("rules", "apply", path).out
    document = desk.succeed("rules", "apply", path, "--json").document
    assert document["dry_run"] is False
    assert [each["outcome"] for each in document["rules"]] == ["unchanged"] * 3
    assert [each["version"] for each in document["rules"]] == [2, 1, 1]


def test_a_bad_rule_ends_with_2_and_the_others_are_stored(desk: Desk) -> None:
    bad = write_rules([rule(name="Bad")]).replace("level: ad", "level: moon\ncolour: red")
    path = desk.directory / "rules.yaml"
    path.write_text("---\n".join([write_rules([rule(name="Good")]), bad]), encoding="utf-8")
    ran = desk.run("rules", "apply", str(path), str(desk.directory / "absent.yaml"))
    assert ran.code == 2
    assert "1 created, 2 refused." in ran.out
    assert f"Refused 'Bad' ({path}:" in ran.err
    assert "  level: " in ran.err
    assert "  colour: there is no such field" in ran.err
    assert "absent.yaml cannot be read (No such file or directory)." in ran.err
    assert stored(desk) == {"Good": (1, "draft")}
    ran = desk.run("rules", "apply", str(path), "--json")
    assert (ran.code, ran.err) == (2, "")
    good, refused = ran.document["rules"]
    assert (good["outcome"], good["error"]) == ("unchanged", None)
    assert (refused["outcome"], refused["name"], refused["version"]) == ("refused", "Bad", None)
    assert refused["error"]["code"] == "invalid_rule"
    assert {field["path"] for field in refused["error"]["fields"]} == {"level", "colour"}
    assert desk.run("rules", "diff", str(path)).code == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "has no file that ends in .yaml or .yml"),
        (b"", "has no rule in it"),
        (b"\xff", "is not UTF-8"),
        (b"name: [", "is not YAML"),
        (write_rules([rule(scope={"kind": "one", "business": "nobody"})]).encode(), "'nobody'"),
        (write_rules([rule(status="armed", actions=[HOOK])]).encode(), "CLARITY_WEBHOOK_SECRET"),
    ],
)
def test_a_file_that_holds_no_rule_that_can_be_used_ends_with_2(
    desk: Desk, content: bytes | None, words: str
) -> None:
    (desk.directory / "rules").mkdir()
    if content is not None:
        (desk.directory / "rules" / "one.yaml").write_bytes(content)
    for command in (["apply"], ["apply", "--dry-run"], ["diff"]):
        ran = desk.run("rules", *command, "rules")
        assert ran.code == 2
        assert words in ran.err
    assert stored(desk) == {}


def test_what_is_exported_is_unchanged_when_it_is_applied(desk: Desk) -> None:
    desk.monkeypatch.setenv("CLARITY_WEBHOOK_SECRET", "s3cret")
    applied(desk, rule(name="B/b", actions=[HOOK], status="armed"), rule(name="A"), rule(name="C"))
    written = desk.succeed("rules", "export", "--to", "out/rules").out
    assert "Wrote 3 rules to out/rules." in written
    files = {path.name: path.read_bytes() for path in (desk.directory / "out" / "rules").iterdir()}
    assert sorted(files) == ["a.yaml", "b-b.yaml", "c.yaml"]
    assert "3 unchanged." in desk.succeed("rules", "apply", "out").out
    ran = desk.succeed("rules", "export", "--to", "out/rules", "--json", "--name", "A")
    assert ran.document == {"files": ["out/rules/a.yaml"], "others": []}
    text = desk.succeed("rules", "export").out
    assert text.encode() == b"---\n".join(files[name] for name in sorted(files))
    assert "3 unchanged." in desk.succeed("rules", "apply", "-", stdin=text).out
    some = desk.succeed("rules", "export", "--name", "C", "--name", "A").out
    assert some.encode() == files["a.yaml"] + b"---\n" + files["c.yaml"]
    document = desk.succeed("rules", "export", "--json").document
    assert [each["document"]["name"] for each in document["rules"]] == ["A", "B/b", "C"]
    assert desk.run("rules", "export", "--name", "No such", "--json").error["code"] == (
        "unknown_rule"
    )
    (desk.directory / "taken").write_text("a file", encoding="utf-8")
    ran = desk.run("rules", "export", "--to", "taken", "--json")
    assert (ran.code, ran.error["code"]) == (2, "invalid_input")


def test_an_export_names_the_files_from_which_apply_would_bring_rules_back(desk: Desk) -> None:
    applied(desk, rule(name="A"), rule(name="Gone"), rule(name="Renamed"))
    assert "other files" not in desk.succeed("rules", "export", "--to", "out").err
    desk.succeed("rules", "archive", "Gone")
    (desk.directory / "out" / "team").mkdir()
    (desk.directory / "out" / "renamed.yaml").rename(desk.directory / "out" / "team" / "mine.yml")
    (desk.directory / "out" / "team" / "torn.yaml").write_text("name: [", encoding="utf-8")
    ran = desk.succeed("rules", "export", "--to", "out")
    assert "2 other files there are of no rule in use: gone.yaml, team/torn.yaml." in ran.err
    others = desk.succeed("rules", "export", "--to", "out", "--json").document["others"]
    assert others == ["out/gone.yaml", "out/team/torn.yaml"]
    assert (desk.directory / "out" / "gone.yaml").exists()


def test_a_rule_is_shown_as_it_would_be_written(desk: Desk) -> None:
    applied(desk, rule())
    assert desk.succeed("rules", "show", "A rule").out == write_rules([rule()])
    document = desk.succeed("rules", "show", "A rule", "--json").document
    assert document["document"] == rule().model_dump(mode="json", by_alias=True)
    assert (document["name"], document["version"]) == ("A rule", 1)


def test_rules_are_listed_with_their_status(desk: Desk) -> None:
    assert "There is no rule yet" in desk.succeed("rules", "list").out
    desk.succeed("business", "add", "acme")
    applied(
        desk,
        rule(name="Low", priority=1, scope={"kind": "one", "business": "acme"}),
        rule(name="High", priority=9, status="shadow", shadow_until=FUTURE),
    )
    out = desk.succeed("rules", "list").out
    assert out.index("High") < out.index("Low")
    assert f"in shadow until {FUTURE}" in out
    assert "every business" in out
    desk.succeed("rules", "archive", "High")
    listed = desk.succeed("rules", "list", "--json").document["rules"]
    assert [(each["name"], each["businesses"]) for each in listed] == [("Low", ["acme"])]
    listed = desk.succeed("rules", "list", "--archived", "--json").document["rules"]
    assert [each["name"] for each in listed if each["archived_at"]] == ["High"]
    assert "archived" in desk.succeed("rules", "list", "--archived").out


def test_a_rule_that_cannot_be_used_any_more_is_listed_as_that(desk: Desk) -> None:
    applied(desk, rule(), rule(name="Sound"))
    with desk.open_database() as database, database.transaction() as connection:
        connection.execute(
            update(schema.rules)
            .where(schema.rules.c.name == "A rule")
            .values(document={"name": "A rule"})
        )
    ran = desk.succeed("rules", "list")
    assert "Sound" in ran.out
    assert "A rule decides nothing; apply it again in a form that is right." in ran.err
    document = desk.succeed("rules", "list", "--json").document
    assert [each["name"] for each in document["rules"]] == ["Sound"]
    assert [each["name"] for each in document["broken"]] == ["A rule"]
    assert desk.run("rules", "show", "A rule").code == 2
    applied(desk, rule())
    assert stored(desk) == {"A rule": (2, "draft"), "Sound": (1, "draft")}


def test_a_rule_goes_through_every_status_and_all_is_on_record(desk: Desk) -> None:
    applied(desk, rule())
    assert "A rule is armed (version 2)." in desk.succeed("rules", "arm", "A rule").out
    assert "A rule is armed already (version 2)." in desk.succeed("rules", "arm", "A rule").out
    desk.succeed("rules", "shadow", "A rule", "--until", FUTURE, "--note", "too many")
    desk.succeed("rules", "off", "A rule")
    document = desk.succeed("rules", "draft", "A rule", "--json").document
    assert (document["version"], document["status"], document["changed"]) == (5, "draft", True)
    assert "Archived A rule." in desk.succeed("rules", "archive", "A rule").out
    assert [change for _, _, change in audited(desk)] == [
        "created; a draft",
        "armed",
        f"in shadow until {FUTURE}",
        "switched off",
        "a draft",
        "archived",
    ]
    assert {actor for actor, _, _ in audited(desk)} == {command_line_actor()}


def test_the_versions_of_a_rule_say_who_and_what(desk: Desk) -> None:
    applied(desk, rule(condition(value=1), actions=[{"kind": "alert"}, HOOK]))
    applied(desk, rule(condition(value=2), actions=[{"kind": "alert"}]))
    desk.succeed("rules", "off", "A rule", "--note", "too many")
    found = desk.succeed("rules", "versions", "A rule", "--json").document["versions"]
    assert [(each["version"], each["status"], each["note"]) for each in found] == [
        (1, "draft", None),
        (2, "draft", None),
        (3, "off", "too many"),
    ]
    assert [len(each["differences"]) for each in found] == [0, 2, 1]
    out = desk.succeed("rules", "versions", "A rule").out
    assert "conditions.value: 1 -> 2" in out
    assert 'status: "draft" -> "off"' in out
    assert "too many" in out
    assert "hooks.example" not in desk.printed


def test_a_rule_with_a_webhook_is_armed_only_with_a_secret_to_sign_with(desk: Desk) -> None:
    applied(desk, rule(actions=[HOOK]))
    ran = desk.run("rules", "arm", "A rule", "--json")
    assert (ran.code, ran.error["code"]) == (2, "invalid_rule")
    assert "CLARITY_WEBHOOK_SECRET" in ran.error["message"]
    assert stored(desk) == {"A rule": (1, "draft")}
    desk.monkeypatch.setenv("CLARITY_WEBHOOK_SECRET", "s3cret")
    desk.succeed("rules", "arm", "A rule")
    assert stored(desk) == {"A rule": (2, "armed")}
    assert "s3cret" not in desk.printed


@pytest.mark.parametrize(
    ("arguments", "code", "saying"),
    [
        (["show", "nothing"], "unknown_rule", "'nothing'"),
        (["versions", "nothing"], "unknown_rule", "'nothing'"),
        (["arm", "nothing"], "unknown_rule", "'nothing'"),
        (["off", "nothing"], "unknown_rule", "'nothing'"),
        (["draft", "nothing"], "unknown_rule", "'nothing'"),
        (["archive", "nothing"], "unknown_rule", "'nothing'"),
        (["shadow", "nothing", "--until", FUTURE], "unknown_rule", "'nothing'"),
        (["shadow", "A rule"], "usage", "--until"),
        (["shadow", "A rule", "--until", "soon"], "invalid_day", "YYYY-MM-DD"),
        (["shadow", "A rule", "--until", "2020-01-01"], "invalid_rule", "over already"),
        (["apply"], "usage", "FILE"),
        (["visible", "nobody", "--to-client"], "unknown_business", "'nobody'"),
        (["visible", "acme"], "usage", "--to-client"),
    ],
)
def test_wrong_input_ends_with_2(desk: Desk, arguments: list[str], code: str, saying: str) -> None:
    desk.succeed("business", "add", "acme")
    applied(desk, rule())
    ran = desk.run("rules", *arguments, "--json")
    assert (ran.code, ran.error["code"], ran.out) == (2, code, "")
    assert saying in ran.error["message"]
    assert stored(desk) == {"A rule": (1, "draft")}


def test_the_schema_is_printed(desk: Desk) -> None:
    assert json.loads(desk.succeed("rules", "schema").out) == rule_json_schema()


def test_a_client_is_let_see_its_rules(desk: Desk) -> None:
    desk.succeed("business", "add", "acme")
    ran = desk.succeed("rules", "visible", "acme", "--to-client")
    assert "The client sees the rules about acme." in ran.out
    assert "as before" in desk.succeed("rules", "visible", "acme", "--to-client").out
    document = desk.succeed("rules", "visible", "acme", "--not-to-client", "--json").document
    assert document == {"business_id": "acme", "client_sees_rules": False, "changed": True}
    actions = [action for _, action, _ in audited(desk)]
    assert actions == ["business_added", "rules_shown", "rules_hidden"]
