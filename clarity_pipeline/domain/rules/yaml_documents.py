"""Rules as YAML files that people keep: several documents in a file, read one by one.

Plain words mean what they mean in YAML 1.2: `off` is the word off, and not a truth value, and a day
is text until it comes to where a day belongs.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import yaml

from clarity_pipeline.domain.errors import InvalidRule
from clarity_pipeline.domain.rules.documents import (
    MAX_DOCUMENT_CHARACTERS,
    parse_rule,
    plain_document,
)
from clarity_pipeline.domain.rules.model import Rule

MAX_FILE_BYTES: Final = 20_000_000

_MAX_DEPTH: Final = 64
"""Conditions end at a third of it, and say so themselves where they are nested too deeply."""

_MAX_DIGITS: Final = 400
"""No float is longer written out; Python refuses to read integers of thousands of digits."""

_DOCUMENT_START: Final = re.compile(r"^---(?=\s|\Z)", re.MULTILINE)
_CONTENT: Final = re.compile(r"^(?!(?:---|\.\.\.)?[ \t]*(?:#|\r?$)|%)", re.MULTILINE)

_INTEGER: Final = re.compile(r"[-+]?[0-9]+", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_NOT_FINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", re.ASCII)
_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_TEXT_TAG: Final = "tag:yaml.org,2002:str"

# The one in C is several times faster, and not in every build of the library.
_READER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_yaml: Final[Any] = yaml
"""The library without its types, which know little of what it reads and writes."""


@dataclass(frozen=True, slots=True)
class RuleDocument:
    """A rule as it was written down, or why it is none.

    `source` says where, as "FILE:LINE". `name` is as far as it could be read. Where a document does
    not say a `status`, `says_status` is False, and the rule in it is a draft.
    """

    source: str
    name: str | None
    rule: Rule | None
    error: InvalidRule | None
    says_status: bool


def read_rules(text: str | bytes, *, source: str) -> list[RuleDocument]:
    """Every document of a file; what is wrong with one is no matter to the others."""
    try:
        chunks = list(_documents(_decoded(text)))
    except InvalidRule as error:
        return [RuleDocument(source, None, None, error, says_status=False)]
    if not chunks:
        return [unreadable(source, "has no rule in it")]
    return [_read(chunk, line=line, source=f"{source}:{line}") for line, chunk in chunks]


def write_rules(rules: Iterable[Rule]) -> str:
    """Rules as YAML, in their order; `read_rules` makes the same rules of it."""
    return "---\n".join(
        yaml.dump(
            plain_document(rule),
            Dumper=_Dumper,
            sort_keys=False,
            allow_unicode=True,
            default_flow_style=False,
            width=100,
        )
        for rule in rules
    )


def unreadable(source: str, why: str) -> RuleDocument:
    """What stands for a file that rules cannot be read from."""
    return RuleDocument(source, None, None, InvalidRule(f"{source} {why}."), says_status=False)


def file_names(names: Sequence[str]) -> list[str]:
    """A file name for each of these rules; a hash tells those apart that would have the same."""
    slugs = [_slug(name) for name in names]
    return [
        f"{slug}.yaml"
        if slug and slugs.count(slug) == 1
        else f"{slug or 'rule'}-{_short_hash(name)}.yaml"
        for slug, name in zip(slugs, names, strict=True)
    ]


def _slug(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def _short_hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]


class _Dumper(yaml.SafeDumper):
    """Quotes what another reader of YAML, old or new, would not take for text."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        # What is said twice is written twice: aliases are refused.
        return True


cast("Any", _Dumper).add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def _decoded(text: str | bytes) -> str:
    if len(text) > MAX_FILE_BYTES:
        raise InvalidRule(f"The file has more than {MAX_FILE_BYTES:,} bytes; divide it.")
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise InvalidRule("The file is not UTF-8; save it as that.") from None
    return text


def _documents(text: str) -> Iterator[tuple[int, str]]:
    """The documents that have something in them, each with the line it begins on.

    A line that begins with --- begins a document whatever the line before was about, so that the
    documents behind a broken one can be told apart.
    """
    starts = [0, *(found.start() for found in _DOCUMENT_START.finditer(text) if found.start())]
    for begin, end in zip(starts, [*starts[1:], len(text)], strict=True):
        chunk = text[begin:end]
        if _CONTENT.search(chunk):
            yield text.count("\n", 0, begin) + 1, chunk


def _read(chunk: str, *, line: int, source: str) -> RuleDocument:
    content: dict[str, Any] = {}
    try:
        content = _content(chunk, line=line)
        rule = parse_rule(content)
    except InvalidRule as error:
        name = content.get("name")
        return RuleDocument(
            source, name if isinstance(name, str) else None, None, error, says_status=False
        )
    return RuleDocument(source, rule.name, rule, None, says_status="status" in content)


def _content(chunk: str, *, line: int) -> dict[str, Any]:
    """What is written there, as plain values. Raises InvalidRule.

    Made of the reader's events and not by its own constructor, which follows aliases round in a
    circle, nests without an end, keeps the last of two equal keys and makes `off` of False.
    """
    if len(chunk) > MAX_DOCUMENT_CHARACTERS:
        raise InvalidRule(
            f"The rule is longer than {MAX_DOCUMENT_CHARACTERS:,} characters; no rule needs that."
        )
    builder = _Builder(first_line=line)
    try:
        for event in _yaml.parse(chunk, Loader=_READER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        raise InvalidRule(
            f"The rule is not YAML ({builder.place(error.problem_mark)}: {error.problem})."
        ) from None
    except yaml.YAMLError:
        raise InvalidRule(
            "The rule is not YAML: it has a character that cannot be printed."
        ) from None
    result: object = builder.result
    if not isinstance(result, dict):
        raise InvalidRule("The document is no rule: it has no name and conditions.")
    return cast("dict[str, Any]", result)


class _Builder:
    """Puts the events of one document together."""

    def __init__(self, *, first_line: int) -> None:
        self.result: Any = None
        self._first_line = first_line
        self._open: list[Callable[[Any, Any], None]] = []
        self._has_result = False

    def place(self, mark: Any) -> str:
        if mark is None:
            return "somewhere"
        return f"line {self._first_line + mark.line}, column {mark.column + 1}"

    def take(self, event: Any) -> None:
        match event:
            case yaml.AliasEvent():
                raise self._refusal(event, "an alias (*) stands for a part elsewhere; write it out")
            case yaml.ScalarEvent():
                self._add(self._scalar(event), event)
            case yaml.MappingStartEvent():
                made: dict[str, Any] = {}
                self._begin(made, self._filler_of(made), event)
            case yaml.SequenceStartEvent():
                items: list[Any] = []
                self._begin(items, lambda value, _event: items.append(value), event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._open.pop()
            case _:
                pass

    def _begin(self, made: Any, fill: Callable[[Any, Any], None], event: Any) -> None:
        if event.tag is not None:
            raise self._refusal(event, f"the tag {event.tag!r:.60} has no meaning here")
        if len(self._open) == _MAX_DEPTH:
            raise self._refusal(event, f"it is nested more than {_MAX_DEPTH} deep")
        self._add(made, event)
        self._open.append(fill)

    def _add(self, value: Any, event: Any) -> None:
        if self._open:
            self._open[-1](value, event)
            return
        if self._has_result:
            raise self._refusal(event, "another document begins; put a line of --- before it")
        self.result, self._has_result = value, True

    def _filler_of(self, made: dict[str, Any]) -> Callable[[Any, Any], None]:
        """Takes keys and values in turn."""
        keys: list[str] = []

        def fill(value: Any, event: Any) -> None:
            if keys:
                made[keys.pop()] = value
            elif not isinstance(value, str):
                raise self._refusal(event, "the name of a field is text")
            elif value in made:
                raise self._refusal(event, f"{value[:60]!r} comes twice; keep one of them")
            else:
                keys.append(value)

        return fill

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if event.tag not in {None, _TEXT_TAG}:
            raise self._refusal(event, f"the tag {event.tag!r:.60} has no meaning here")
        if event.tag is not None or not event.implicit[0]:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _NOT_FINITE.fullmatch(text):
            raise self._refusal(event, f"{text} is no number that a rule can go by")
        if not _FLOAT.fullmatch(text):
            return text
        if len(text) > _MAX_DIGITS:
            raise self._refusal(event, f"a number has more than {_MAX_DIGITS} digits")
        return int(text) if _INTEGER.fullmatch(text) else float(text)

    def _refusal(self, event: Any, reason: str) -> InvalidRule:
        return InvalidRule(f"The rule cannot be used ({self.place(event.start_mark)}): {reason}.")
