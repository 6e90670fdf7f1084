"""Rules as YAML: what goes out comes back, and a broken one is no matter to the others."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from clarity_pipeline.domain.errors import InvalidRule
from clarity_pipeline.domain.rules.documents import MAX_DOCUMENT_CHARACTERS, parse_rule
from clarity_pipeline.domain.rules.model import Rule
from clarity_pipeline.domain.rules.yaml_documents import (
    MAX_FILE_BYTES,
    RuleDocument,
    file_names,
    read_rules,
    write_rules,
)
from clarity_pipeline_tests.domain.rules.histories import condition, document, rule
from clarity_pipeline_tests.domain.rules.test_documents import FULL
from clarity_pipeline_tests.domain.rules.worlds import World

BY_HAND = """\
# What a media buyer writes.
name: Costly clicks
scope: {kind: all}
level: ad
conditions:
  all:
    - {metric: cpc, operator: ">", value: 1e-1, window: {kind: last_days, days: 7}}
    - metric: spend
      operator: ">="
      value: 50
      window: {kind: fixed, start: 2026-11-01, end: 2026-11-05}
actions:
  - kind: alert
status: off
"""


def only(text: str | bytes) -> RuleDocument:
    (found,) = read_rules(text, source="rules.yaml")
    return found


def refusal(text: str | bytes) -> str:
    found = only(text)
    assert found.rule is None
    assert isinstance(found.error, InvalidRule)
    said = str(found.error)
    assert "\n" not in said
    assert said.endswith(".")
    return said


def test_a_rule_is_read_as_a_person_writes_it() -> None:
    found = only(BY_HAND)
    assert (found.source, found.error, found.says_status) == ("rules.yaml:1", None, True)
    assert found.rule == parse_rule(
        document(
            {
                "all": [
                    condition("cpc", ">", 0.1, window={"kind": "last_days", "days": 7}),
                    condition(
                        "spend",
                        ">=",
                        50,
                        window={"kind": "fixed", "start": "2026-11-01", "end": "2026-11-05"},
                    ),
                ]
            },
            name="Costly clicks",
            status="off",
        )
    )


def test_json_and_a_byte_order_mark_are_read_too() -> None:
    text = '{"name": "A rule", "scope": {"kind": "all"}, "level": "ad", "conditions": '
    text += '{"metric": "spend", "operator": ">", "value": 10, "window": {"kind": "yesterday"}}, '
    text += '"actions": [{"kind": "alert"}]}'
    assert only(b"\xef\xbb\xbf" + text.encode()).rule == rule()


def test_a_document_that_says_no_status_is_told_from_a_draft() -> None:
    assert not only(BY_HAND.replace("status: off\n", "")).says_status
    assert only(BY_HAND.replace("status: off\n", "status: draft\n")).says_status


def test_a_shadow_ends_on_a_day_that_is_written_plain_or_quoted() -> None:
    for day in ("2026-12-01", "'2026-12-01'"):
        found = only(BY_HAND.replace("status: off", f"status: shadow\nshadow_until: {day}"))
        assert found.rule is not None
        assert str(found.rule.shadow_until) == "2026-12-01"
    text = BY_HAND.replace("status: off", "status: shadow\nshadow_until: 2026-02-30")
    assert "shadow_until: " in refusal(text)


# Out and in again


def assert_comes_back(*rules: Rule) -> None:
    text = write_rules(rules)
    found = read_rules(text, source="x")
    assert [each.rule for each in found] == list(rules), text
    assert write_rules([each.rule for each in found if each.rule is not None]) == text


def test_a_rule_with_everything_in_it_comes_back() -> None:
    full = parse_rule(FULL)
    assert_comes_back(full, rule(condition(max_age_days=None)), full)
    assert only(write_rules([full])).says_status


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_every_rule_comes_back(seed: int) -> None:
    assert_comes_back(*World(seed).rules)


LOOKALIKES = (
    *("off", "No", "~", "null", "true", "1e3", "1e-3", ".5", "5.", "+1", "0o7", "0x1f", ".inf"),
    *("1_000", "1:30", "2026-11-01", "---", "--- x", "- x", "a: b", "a #b", "=", "<<", "..."),
)

NAMES = st.one_of(
    st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "), min_size=1, max_size=80),
    st.from_regex(r"[-+.:~0-9exonNaftTrue#&*!|>'%@`?,{}\[\] ]{1,20}", fullmatch=True),
    st.sampled_from(
        [
            "off",
            "No",
            "~",
            "null",
            "1e3",
            "1e-3",
            ".5",
            "0o7",
            "0x1f",
            "1_000",
            "1:30",
            ".inf",
            "2026-11-01",
            "---",
            "--- x",
            "- x",
            "a: b",
            "a #b",
            "=",
            "<<",
            "true",
            "...",
            "5.",
            "+1",
        ]
    ),
)


@settings(max_examples=300)
@given(name=NAMES, message=st.text(st.sampled_from("ab '\"\\:#-\u00e9\U0001f600"), max_size=300))
def test_any_text_comes_back_as_text(name: str, message: str) -> None:
    try:
        made = rule(name=name, actions=[{"kind": "alert", "message": message}])
    except InvalidRule:
        return
    assert_comes_back(made)


@given(value=st.floats(allow_nan=False, allow_infinity=False, max_value=1e300, min_value=1e-300))
def test_any_threshold_comes_back_to_the_last_bit(value: float) -> None:
    assert_comes_back(rule(condition("spend", ">", value)))


def test_other_readers_of_yaml_read_the_same_rule() -> None:
    full = parse_rule(FULL | {"name": "off", "status": "off", "shadow_until": None})
    assert parse_rule(yaml.safe_load(write_rules([full]))) == full


# What cannot be used


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no rule in it"),
        ("# nothing\n---\n...\n", "has no rule in it"),
        ("--- # nothing\n---\n", "has no rule in it"),
        ("- 1", "is no rule"),
        ("just text", "is no rule"),
        ("name: [1", "is not YAML (line "),
        ("name: x\n\tlevel: ad", "is not YAML (line "),
        ("a: \x07", "cannot be printed"),
        (b"name: \xff", "is not UTF-8"),
        ("a: 1\n...\nb: 2", "line 3, column 1"),
        ("name: a\nlevel: ad\nname: b", "line 3, column 1): 'name' comes twice"),
        ("scope: {kind: all, kind: one}", "line 1, column 20): 'kind' comes twice"),
        ("? [a]\n: 1", "the name of a field is text"),
        ("1: 2", "the name of a field is text"),
        ("conditions: &all\n  not: *all", "line 2, column 8): an alias (*)"),
        ("a: &x {b: 1}\nc: {<<: *x}", "an alias (*)"),
        ("a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]", "an alias (*)"),
        ("conditions: " + "{not: " * 100_000, "nested more than 64 deep"),
        ("conditions: " + "[" * 100_000, "nested more than 64 deep"),
        ("a: !!python/object/apply:os.system ['true']", "has no meaning here"),
        ("a: !!python/name:os.system", "has no meaning here"),
        ("a: !!float 1", "has no meaning here"),
        ("value: .nan", "no number that a rule can go by"),
        ("value: -.inf", "no number that a rule can go by"),
        ("value: " + "9" * 5000, "more than 400 digits"),
        ("x" * (MAX_DOCUMENT_CHARACTERS + 1), "is longer than 2,000,000 characters"),
        (b"x" * (MAX_FILE_BYTES + 1), "has more than 20,000,000 bytes"),
        (BY_HAND.replace("value: 50", "value: 1e400"), "conditions.all[1].value"),
        (BY_HAND.replace("value: 50", "value: '50'"), "conditions.all[1].value"),
        (BY_HAND.replace("value: 50", "value: yes"), "conditions.all[1].value"),
        (BY_HAND.replace("status: off", "status: no"), "status"),
        (BY_HAND.replace("Costly clicks", "2026"), "name: 2026 "),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(text: str | bytes, words: str) -> None:
    assert words in refusal(text)


def test_an_explicit_text_is_text() -> None:
    found = only(BY_HAND.replace("Costly clicks", "!!str 2026"))
    assert found.name == "2026"


def test_a_conditions_tree_that_is_nested_too_deeply_is_refused_by_the_rule_itself() -> None:
    deep: Any = condition()
    for _ in range(9):
        deep = {"not": deep}
    assert "nested more than 8 deep" in refusal(yaml.safe_dump(document(deep)))


def test_a_broken_document_does_not_stop_those_around_it() -> None:
    good = write_rules([rule()])
    # Each of these would take what is behind it with it, if the file were read as one.
    broken = ("name: [x", "name: 'x", "a: {", "name: |\n  x\n y", "name: A name\nlevel: moon")
    for text in broken:
        first, bad, last = read_rules(f"{good}---\n{text}\n---\n{good}", source="f")
        assert first.rule == last.rule == rule(), text
        assert bad.error is not None
        assert bad.source == f"f:{good.count(chr(10)) + 1}"
    named = read_rules("name: A name\nlevel: moon", source="f")[0]
    assert named.name == "A name"


def test_a_line_is_told_as_it_is_in_the_file() -> None:
    good = write_rules([rule()])
    lines = good.count("\n")
    _, bad = read_rules(f"{good}---\nname: x\nname: y\n", source="f")
    assert f"line {lines + 3}, column 1" in str(bad.error)


@settings(max_examples=200)
@given(text=st.text(max_size=60) | st.binary(max_size=60))
def test_no_file_is_anything_but_rules_or_refusals(text: str | bytes) -> None:
    for found in read_rules(text, source="f"):
        assert (found.rule is None) != (found.error is None)


# Names of files


def test_every_rule_has_a_file_of_its_own() -> None:
    names = ["Rage clicks!", "rage/clicks", "\u00dcber 5 %", "\u6025", "../../etc", "x" * 80]
    found = file_names(names)
    assert found[2:] == ["uber-5.yaml", file_names(["\u6025"])[0], "etc.yaml", f"{'x' * 80}.yaml"]
    assert len(set(found)) == len(names)
    assert all(each.startswith("rage-clicks-") for each in found[:2])
    assert all("/" not in each and not each.startswith(".") for each in found)
