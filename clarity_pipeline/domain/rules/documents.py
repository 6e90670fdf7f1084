"""Rules as documents: JSON in and out, and what is wrong with one, in a sentence with its path."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from clarity_pipeline.domain.errors import BadField, InvalidRule
from clarity_pipeline.domain.rules.model import IMPOSSIBLE, Rule

MAX_DOCUMENT_CHARACTERS: Final = 2_000_000
"""Room for ten thousand overrides."""

_FLOATS_WITH_EVERY_INTEGER: Final = 2**53


_WHAT_IT_IS: Final = re.compile("^(Input|String) ")
"""How pydantic's sentences begin; ours begin with the path."""


def parse_rule(document: str | bytes | Mapping[str, Any]) -> Rule:
    """A rule out of JSON, or out of what JSON or YAML was read into. Raises InvalidRule."""
    if isinstance(document, str | bytes):
        document = _read_json(document)
    try:
        return Rule.model_validate(document)
    except ValidationError as error:
        bad_fields = _bad_fields(error.errors(), document)
    first, *others = bad_fields
    where = f"{first.path}: " if first.path else ""
    more = f" (and {len(others)} more)" if others else ""
    raise InvalidRule(
        f"The rule cannot be used: {where}{first.reason}{more}.", bad_fields=bad_fields
    )


def canonical_json(rule: Rule) -> str:
    """The one JSON text of a rule: keys sorted, and defaults written out, for they may change."""
    return json.dumps(
        rule.model_dump(mode="json", by_alias=True),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )


def plain_document(rule: Rule) -> dict[str, Any]:
    """A rule as a person would write it: in the order of its fields, and without a word about what
    there is none of. Days are dates."""
    return cast("dict[str, Any]", _plain(rule))


def rule_json_schema() -> dict[str, Any]:
    """The JSON Schema of a rule, with title, description and unit of every metric."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Rule.model_json_schema(by_alias=True),
    }


def _plain(value: object) -> object:
    match value:
        case BaseModel():
            return {
                field.alias or name: _plain(getattr(value, name))
                for name, field in type(value).model_fields.items()
                if getattr(value, name) is not None or field.default is not None
            }
        case tuple():
            return [_plain(each) for each in cast("tuple[object, ...]", value)]
        case StrEnum():
            return value.value
        case float() if value.is_integer() and abs(value) < _FLOATS_WITH_EVERY_INTEGER:
            return int(value)
        case _:
            return value


def _read_json(text: str | bytes) -> Mapping[str, Any]:
    if len(text) > MAX_DOCUMENT_CHARACTERS:
        raise InvalidRule(
            f"The rule is longer than {MAX_DOCUMENT_CHARACTERS:,} characters; no rule needs that."
        )
    try:
        document = json.loads(text, object_pairs_hook=_without_repeated_names)
    except RecursionError:
        raise InvalidRule("The rule is nested too deeply to be read.") from None
    except ValueError as error:
        reason = (
            f"line {error.lineno}, column {error.colno}: {error.msg}"
            if isinstance(error, json.JSONDecodeError)
            else "it is not UTF-8, or has a number of thousands of digits"
        )
        raise InvalidRule(f"The rule is not JSON ({reason}).") from None
    if not isinstance(document, dict):
        raise InvalidRule("The rule is JSON, but not an object with a name and conditions.")
    return cast("dict[str, Any]", document)


def _without_repeated_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRule(f"The rule has {twice[:60]!r} twice in one place; keep one of them.")
    return found


def _bad_fields(errors: Sequence[ErrorDetails], document: object) -> list[BadField]:
    found = [(error, _path(error, document)) for error in errors]
    paths = [path for _, path in found]
    return [
        BadField(path, _reason(error))
        for error, path in found
        # A list of which every item is wrong is called empty as well.
        if error["type"] != "too_short" or not any(each.startswith(f"{path}[") for each in paths)
    ]


def _path(error: ErrorDetails, document: object) -> str:
    """Where it went wrong, without the names of alternatives that pydantic puts in between."""
    path, here, parts = "", document, error["loc"]
    for position, part in enumerate(parts):
        is_missing = error["type"] == "missing" and position == len(parts) - 1
        if isinstance(part, int):
            path += f"[{part}]"
            here = cast("Sequence[object]", here)[part] if isinstance(here, Sequence) else None
        elif is_missing:
            path += f".{part}"
        elif isinstance(here, Mapping) and part in here:
            path += f".{part}"
            here = cast("Mapping[str, object]", here)[part]
    if at := error.get("ctx", {}).get("at"):
        path += f".{at}"
    return path.removeprefix(".")


def _reason(error: ErrorDetails) -> str:
    if error["type"] == IMPOSSIBLE:
        return error["msg"]
    match error["type"]:
        case "missing":
            return "it is missing"
        case "extra_forbidden":
            return "there is no such field"
        case "union_tag_not_found":
            return "its `kind` is missing"
        case "union_tag_invalid":
            return f"its `kind` is one of {error.get('ctx', {}).get('expected_tags')}"
        case "string_too_short" if not error["input"]:
            return "it is empty"
        case "too_short":
            return f"it needs at least {error.get('ctx', {}).get('min_length')}"
        case _:
            # Whoever knows the address of a webhook can call it.
            shown = "" if "url" in error["loc"] else _shown(error["input"])
            return f"{shown}{_WHAT_IT_IS.sub('', error['msg'])}"


def _shown(given: object) -> str:
    # Python refuses to print an integer of thousands of digits.
    is_short = not isinstance(given, int) or abs(given) < 10**18
    is_scalar = given is None or isinstance(given, str | int | float)
    return f"{given!r:.60} " if is_scalar and is_short else ""
