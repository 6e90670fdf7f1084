"""What one rule says differently from another, path by path."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from difflib import SequenceMatcher
from typing import Any, Final, cast

from clarity_pipeline.domain.rules.documents import plain_document
from clarity_pipeline.domain.rules.model import Rule

NOTHING: Final = "nothing"
"""Stands for a value on the side where there is none."""

_NOT_SHOWN: Final = "(an address)"
_ANOTHER: Final = "(another one)"
_IN_ANOTHER_ORDER: Final = "the same in another order"


@dataclass(frozen=True, slots=True)
class Difference:
    """A part that two rules say differently; `before` or `after` is None where it is not there.

    Values are JSON in one line. Whoever knows the address of a webhook can call it, so it is never
    among them.
    """

    path: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        """As `conditions.all[0].value: 0.05 -> 0.08`."""
        return f"{self.path}: {self.before or NOTHING} -> {self.after or NOTHING}"


def differences(before: Rule, after: Rule) -> tuple[Difference, ...]:
    """What `after` says differently, in the order of a rule's fields.

    Conditions and actions are told by their place in `after`, or in `before` if they are gone
    there; overrides by business and condition, since ten thousand have no place that says anything.
    """
    return tuple(_of_mappings(plain_document(before), plain_document(after), path=""))


def _of_values(before: Any, after: Any, *, path: str) -> Iterator[Difference]:
    if before == after:
        return
    if path == "overrides":
        yield from _of_overrides(_by_name(before), _by_name(after), path=path)
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _of_mappings(
            cast("Mapping[str, Any]", before), cast("Mapping[str, Any]", after), path=path
        )
    elif isinstance(before, list) and isinstance(after, list):
        yield from _of_lists(cast("list[Any]", before), cast("list[Any]", after), path=path)
    elif path.endswith(".url"):
        yield _of_addresses(before, after, path=path)
    else:
        yield Difference(path, _shown(before), _shown(after))


def _of_addresses(before: Any, after: Any, *, path: str) -> Difference:
    if before is None or after is None:
        return Difference(path, before and _NOT_SHOWN, after and _NOT_SHOWN)
    return Difference(path, _NOT_SHOWN, _ANOTHER)


def _of_mappings(
    before: Mapping[str, Any], after: Mapping[str, Any], *, path: str
) -> Iterator[Difference]:
    for name in dict.fromkeys((*before, *after)):
        inner = f"{path}{name}" if name.startswith("[") or not path else f"{path}.{name}"
        yield from _of_values(before.get(name), after.get(name), path=inner)


def _of_overrides(
    before: Mapping[str, Any], after: Mapping[str, Any], *, path: str
) -> Iterator[Difference]:
    if before == after:
        yield Difference(path, _json(list(before)), _IN_ANOTHER_ORDER)
    yield from _of_mappings(before, after, path=path)


def _by_name(overrides: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {f"[{each['business']}, {each['condition']}]": each for each in overrides}


def _of_lists(before: list[Any], after: list[Any], *, path: str) -> Iterator[Difference]:
    if not any(isinstance(each, Mapping) for each in (*before, *after)):
        yield from _of_texts(before, after, path=path)
        return
    # Alike items are found first, so that one that is put in front does not change all behind it.
    matcher = SequenceMatcher(
        None, [_json(each) for each in before], [_json(each) for each in after]
    )
    for word, begin, end, new_begin, new_end in matcher.get_opcodes():
        if word == "equal":
            continue
        both = min(end - begin, new_end - new_begin)
        for offset in range(both):
            place = new_begin + offset
            yield from _of_values(before[begin + offset], after[place], path=f"{path}[{place}]")
        for place in range(begin + both, end):
            yield Difference(f"{path}[{place}]", _shown(before[place]), None)
        for place in range(new_begin + both, new_end):
            yield Difference(f"{path}[{place}]", None, _shown(after[place]))


def _of_texts(before: list[Any], after: list[Any], *, path: str) -> Iterator[Difference]:
    known_before, known_after = set(before), set(after)
    gone = [each for each in before if each not in known_after]
    new = [each for each in after if each not in known_before]
    if not gone and not new:
        yield Difference(path, _json(before), _IN_ANOTHER_ORDER)
    yield from (Difference(path, _json(each), None) for each in gone)
    yield from (Difference(path, None, _json(each)) for each in new)


def _shown(value: Any) -> str | None:
    return None if value is None else _json(_without_addresses(value))


def _without_addresses(value: Any) -> Any:
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {
            name: _NOT_SHOWN if name == "url" else _without_addresses(inner)
            for name, inner in items
        }
    if isinstance(value, list):
        return [_without_addresses(each) for each in cast("list[Any]", value)]
    return value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=date.isoformat)
