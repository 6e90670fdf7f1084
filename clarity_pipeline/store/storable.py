"""What text and JSON columns can hold: PostgreSQL stores neither NUL nor half a surrogate pair.

Both occur in junk page addresses. They become U+FFFD on both databases, so that the two hold the
same; the landed body keeps the original bytes.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, cast

import orjson

_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
_REPLACEMENT: Final = "\ufffd"


def storable_text(text: str) -> str:
    """The text, with U+FFFD for what cannot be stored."""
    # Latin text is by far the most common, and has no surrogates to look for.
    if text.isascii() and "\x00" not in text:
        return text
    return _UNSTORABLE.sub(_REPLACEMENT, text)


def is_storable_json(text: str) -> bool:
    """Whether valid JSON text can be stored as it is. May say no to some that could."""
    # Looking for one character is ten times faster than for two, and nearly always settles it.
    has_escapes = "\\" in text and "\\u" in text
    return not has_escapes and "\x00" not in text and (text.isascii() or _encodes(text))


def _encodes(text: str) -> bool:
    # Half a surrogate pair is all that UTF-8 refuses; encoding is 20 times faster than a search.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def storable_json(text: str) -> str:
    """Valid JSON text made storable: U+FFFD for junk characters."""
    if is_storable_json(text):
        return text
    return dump_json(json.loads(text))


def dump_json(value: object) -> str:
    """A value as JSON text that can be stored."""
    return orjson.dumps(_storable_value(value), option=orjson.OPT_PASSTHROUGH_SUBCLASS).decode()


def load_json(text: str | bytes) -> Any:
    """A stored JSON text as a value."""
    return orjson.loads(text)


def _storable_value(value: object) -> object:
    match value:
        case str():
            return storable_text(value)
        case dict():
            items = cast("dict[object, object]", value).items()
            return {storable_text(str(key)): _storable_value(item) for key, item in items}
        case list() | tuple():
            return [_storable_value(item) for item in cast("list[object]", value)]
        case bool():
            return value
        case int() if not -(2**63) <= value < 2**64:
            # orjson refuses integers over 64 bits; no count is that large.
            return float(value) if abs(value) < 10**300 else None
        case _:
            return value
