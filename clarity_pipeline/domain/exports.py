"""An export: one verbatim reply of the Export API, with the envelope that says to what.

Parsing happens here, after landing, and never changes the bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import cache, cached_property
from types import GenericAlias
from typing import Any, Final, cast

import msgspec
import orjson

from clarity_pipeline.domain.cycles import no_cyclic_garbage_collection
from clarity_pipeline.domain.dimensions import DimensionCombo
from clarity_pipeline.domain.errors import (
    DimensionIgnored,
    InvalidRequest,
    ReplyUnreadable,
    RequestRejected,
)
from clarity_pipeline.domain.metrics import TRUNCATION_ROWS, canonical_block_name

MAX_DAYS: Final = 3
HTTP_OK: Final = 200


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """One call: a combo over the last `num_of_days` x 24 hours. Raises InvalidRequest at once."""

    combo: DimensionCombo
    num_of_days: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.num_of_days <= MAX_DAYS:
            raise InvalidRequest(
                f"The Export API knows the last 1 to {MAX_DAYS} days, not {self.num_of_days}."
            )

    def query(self) -> dict[str, str]:
        """The query parameters, in the order that the dimension keys of the reply will have."""
        query = {"numOfDays": str(self.num_of_days)}
        for position, dimension in enumerate(self.combo.dimensions, start=1):
            query[f"dimension{position}"] = dimension.value
        return query


@dataclass(frozen=True)
class Export:
    """What came back, byte for byte. `requested_at` and `received_at` are UTC."""

    request: ExportRequest
    http_status: int
    requested_at: datetime
    received_at: datetime
    body: bytes = field(repr=False)

    @property
    def window_start(self) -> datetime:
        """The reply covers the 24, 48 or 72 hours before the call (FACTS section 8)."""
        return self.requested_at - timedelta(days=self.request.num_of_days)

    @property
    def window_end(self) -> datetime:
        return self.requested_at

    @cached_property  # a millisecond per reply, and asked for twice on either side of landing
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


class Verdict(StrEnum):
    """What a landed reply turned out to be when it was parsed."""

    ACCEPTED = "accepted"
    REQUEST_REJECTED = "request_rejected"
    REPLY_UNREADABLE = "reply_unreadable"
    DIMENSION_IGNORED = "dimension_ignored"


@dataclass(frozen=True, slots=True)
class LandedExport:
    """An export as the store keeps it: `day` is the partition it was fetched for."""

    id: int
    business_id: str
    project_id: str
    day: date
    export: Export


@dataclass(frozen=True, slots=True)
class Block:
    """One metric block. `name` is the canonical name, or the reply's own where none is known."""

    name: str
    rows: Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ReplySummary:
    """What can be said of a reply without normalising it."""

    row_counts: Mapping[str, int]
    unknown_blocks: tuple[str, ...]

    @property
    def truncated(self) -> bool:
        return any(count == TRUNCATION_ROWS for count in self.row_counts.values())


_WHAT_NEXT: Final = (
    "it was kept as it came, the rest of the day is not affected; if tomorrow's is like it, report "
    "it to whoever runs this."
)


def parse_blocks(body: bytes) -> list[Block]:
    """The blocks of a reply body, in its order.

    Raises ReplyUnreadable for anything but a JSON array of objects with a text `metricName` and
    an array `information` of objects. Unknown, missing and reordered blocks are accepted.
    """
    document = _load_json(body)
    if not isinstance(document, list):
        raise ReplyUnreadable(
            f"Clarity's reply is a JSON {_json_type(document)}, not an array of metric blocks; "
            f"{_WHAT_NEXT}"
        )
    return [_parse_block(item) for item in cast("list[Any]", document)]


def count_rows(blocks: Sequence[Block]) -> ReplySummary:
    """What can be said of blocks whatever their rows hold."""
    return _summary((block.name, len(block.rows)) for block in blocks)


def _summary(rows_of_blocks: Iterable[tuple[str, int]]) -> ReplySummary:
    counts: dict[str, int] = {}
    for name, rows in rows_of_blocks:
        counts[name] = counts.get(name, 0) + rows
    unknown = sorted(name for name in counts if canonical_block_name(name) is None)
    return ReplySummary(row_counts=counts, unknown_blocks=tuple(unknown))


def verify(export: Export) -> ReplySummary:
    """Judge a 200 reply as a whole: is it one, and does it answer the request?

    Raises ReplyUnreadable, or DimensionIgnored when a row lacks a requested row key: the live API
    drops a dimension it does not know and answers 200 as if none had been asked for (FACTS
    section 1).
    """
    combo = export.request.combo
    row_keys = tuple(dimension.row_key for dimension in combo.dimensions)
    with no_cyclic_garbage_collection():
        summary = _skim(export.body, row_keys)
        if summary is not None:
            return summary
        blocks = parse_blocks(export.body)
        missing = _missing_key(blocks, row_keys)
        if missing is not None:
            raise DimensionIgnored(
                f"Clarity answered without the dimension {missing} that was asked for "
                f"({combo.label}), so the reply was not counted; {_WHAT_NEXT}"
            )
        return count_rows(blocks)


def verify_reply(export: Export) -> ReplySummary:
    """Like `verify`, for a landed reply of any status. Raises RequestRejected too."""
    if export.http_status != HTTP_OK:
        raise RequestRejected(
            f"Clarity refused the call (HTTP {export.http_status}); {_WHAT_NEXT}",
            http_status=export.http_status,
        )
    return verify(export)


def _missing_key(blocks: Sequence[Block], keys: Sequence[str]) -> str | None:
    """The first of these keys that some row lacks."""
    return next(
        (key for key in keys if not all(key in row for block in blocks for row in block.rows)), None
    )


def _skim(body: bytes, row_keys: tuple[str, ...]) -> ReplySummary | None:
    """What can be said of a reply in which nothing is wrong; None for any other.

    Nothing is made of the thousands of values in a reply, which takes a third of the time of
    parsing it. Any other is parsed to tell what is wrong with it, if anything is: NaN, a lone
    surrogate and a byte order mark are not taken here, either.
    """
    with suppress(UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        # The decoder takes whatever bytes stand in a text that it passes over.
        body.decode()
        return _summary(
            (canonical_block_name(block.metricName) or block.metricName, len(block.information))
            for block in _skimmer(row_keys).decode(body)
        )
    return None


@cache
def _skimmer(row_keys: tuple[str, ...]) -> msgspec.json.Decoder[list[Any]]:
    """Reads blocks of rows that have these keys, whatever their values."""
    fields = {f"key_{position}": key for position, key in enumerate(row_keys)}
    row: Any = msgspec.defstruct(
        "Row", [(name, msgspec.Raw) for name in fields], rename=fields, gc=False
    )
    block: Any = msgspec.defstruct(
        "Block", [("metricName", str), ("information", GenericAlias(list, row))]
    )
    return msgspec.json.Decoder(GenericAlias(list, block))


def _load_json(body: bytes) -> Any:
    text = body.removeprefix(b"\xef\xbb\xbf")
    if not text.strip():
        raise ReplyUnreadable(f"Clarity answered 200 with an empty body; {_WHAT_NEXT}")
    # Raised outside the handlers: a JSONDecodeError in its context would hold the whole body.
    with suppress(orjson.JSONDecodeError):
        return orjson.loads(text)
    # orjson refuses NaN, lone surrogates and integers over 64 bits; the standard library does not.
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    raise ReplyUnreadable(f"Clarity's reply is not JSON, or was cut off; {_WHAT_NEXT}")


def _parse_block(item: Any) -> Block:
    if not isinstance(item, dict):
        raise ReplyUnreadable(f"Clarity's reply has a block that is no object; {_WHAT_NEXT}")
    block = cast("dict[str, Any]", item)
    name, rows = block.get("metricName"), block.get("information")
    if not isinstance(name, str) or not isinstance(rows, list):
        raise ReplyUnreadable(
            f"Clarity's reply has a block without metricName and information; {_WHAT_NEXT}"
        )
    if not {dict}.issuperset(map(type, cast("list[Any]", rows))):
        raise ReplyUnreadable(
            f"Block {name!r} of Clarity's reply has rows that are no objects; {_WHAT_NEXT}"
        )
    return Block(name=canonical_block_name(name) or name, rows=cast("list[dict[str, Any]]", rows))


def _json_type(value: object) -> str:
    names: dict[type, str] = {dict: "object", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
