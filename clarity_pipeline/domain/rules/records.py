"""What a rule decided about a business's entities, packed: every answer with its inputs.

The bytes are a function of what was decided and of nothing else, so that whoever decides again can
see whether anything has changed. Two million answers a day are some ten thousand records; a table
with a row for each would outgrow the history that they were decided on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import numpy as np
import orjson
import zstandard
from numpy.typing import NDArray

from clarity_pipeline.domain.rules.decisions import Decision, Reason, Truth
from clarity_pipeline.domain.rules.evaluate import (
    REASONS,
    Evaluation,
    Evidence,
    Truths,
    findings,
)
from clarity_pipeline.domain.rules.model import Condition, Rule, conditions_of

FORMAT: Final = 1
"""The first byte of what is packed. A new format gets a new number, and the old one stays read."""

_COMPRESSION_LEVEL: Final = 3

_REASON_NUMBERS: Final[Mapping[Reason, int]] = {
    Reason.NO_BUSINESS: 1,
    Reason.NOT_CONNECTED: 2,
    Reason.DISABLED: 3,
    Reason.NO_LANDING_PAGE: 4,
    Reason.WINDOW_NOT_OVER: 5,
    Reason.NO_CHANGE: 6,
    Reason.CHANGE_TOO_RECENT: 7,
    Reason.CHANGE_TOO_LONG_AGO: 8,
    Reason.NO_DATA: 9,
    Reason.STALE: 10,
    Reason.LOW_COVERAGE: 11,
    Reason.MIXED_BASIS: 12,
    Reason.TOO_FEW_SESSIONS: 13,
    Reason.DIVISION_BY_ZERO: 14,
    Reason.NO_BASELINE: 15,
    Reason.NO_VARIATION: 16,
    Reason.NOT_FINITE: 17,
    Reason.MIXED_CURRENCIES: 18,
}
"""In stored bytes for ever: a reason is given a number once, in whatever order they are listed."""

_TO_NUMBER: Final = np.array(
    [0 if reason is None else _REASON_NUMBERS[reason] for reason in REASONS], np.uint8
)
_FROM_NUMBER: Final = np.zeros(max(_REASON_NUMBERS.values()) + 1, np.uint8)
_FROM_NUMBER[_TO_NUMBER] = np.arange(len(REASONS))

_ANSWER: Final = np.dtype([("truth", "u1"), ("decided_by", "u1")])
_FINDING: Final = np.dtype(
    [
        ("truth", "u1"),
        ("reason", "u1"),
        ("is_held", "u1"),
        ("consecutive_days", "u1"),
        ("days_with_data", "<u2"),
        ("days_in_window", "<u2"),
        ("window_start", "<i4"),
        ("window_end", "<i4"),
        ("last_day", "<i4"),
        ("measured", "<f8"),
        ("value", "<f8"),
        ("numerator", "<f8"),
        ("denominator", "<f8"),
        ("sessions", "<f8"),
        ("threshold", "<f8"),
        ("comparison_value", "<f8"),
        ("spread", "<f8"),
    ]
)
"""The fields of Evidence, as they are packed in format 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A rule's answers about the entities of one business, packed, and what they come to.

    `start` and `end` are the places of its entities in the evaluation; a place in the record is
    counted from `start`. `reasons` counts entities that are unknown by why they are.
    """

    business_id: str | None
    start: int
    end: int
    payload: bytes
    fired: int
    not_fired: int
    unknown: int
    reasons: Mapping[Reason, int]

    @property
    def entities(self) -> int:
        return self.end - self.start

    def evidence(self, compressor: zstandard.ZstdCompressor) -> bytes:
        """The payload as it is stored. Another version of the library may make other bytes of it,
        so it is the payload that is compared."""
        return bytes([FORMAT]) + compressor.compress(self.payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedEvaluation:
    """A record that has been read again: what the rule said about each entity, by its place."""

    rule: Rule
    as_of: date
    business_id: str | None
    ids: Sequence[str]
    names: Sequence[str]
    truth: Truths
    decided_by: NDArray[np.uint8]
    evidence: tuple[Evidence, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def decision(self, position: int) -> Decision:
        """The decision as it was made. Raises IndexError where there is none."""
        if not 0 <= position < len(self):
            raise IndexError(position)
        return Decision(
            rule_name=self.rule.name,
            entity_id=self.ids[position],
            entity_name=self.names[position],
            business_id=self.business_id,
            level=self.rule.level,
            as_of=self.as_of,
            truth=Truth(int(self.truth[position])),
            decided_by=self.evidence[int(self.decided_by[position])].path,
            findings=findings(
                self.rule, self.evidence, position, business_id=self.business_id or ""
            ),
        )


def new_compressor() -> zstandard.ZstdCompressor:
    """What `Record.evidence` compresses with; one at a time may use it."""
    return zstandard.ZstdCompressor(level=_COMPRESSION_LEVEL)


def pack(evaluation: Evaluation) -> Iterator[Record]:
    """A record per business, in the order of the entities, of which those of a business are
    together. Raises ValueError where they are not."""
    count = len(evaluation.rows)
    if not count:
        return
    businesses = evaluation.entities.business_ids[evaluation.rows]
    starts = np.flatnonzero(np.concatenate([[True], businesses[1:] != businesses[:-1]]))
    ends = np.append(starts[1:], count)
    names = [str(name) for name in businesses[starts]]
    if len(set(names)) < len(names):
        raise ValueError("the entities of a business are not together")
    table = _table(evaluation)
    tallies = _tallies(evaluation, np.repeat(np.arange(len(starts)), ends - starts), len(starts))
    rows = evaluation.rows.tolist()
    entities = evaluation.entities
    for place, business_id in enumerate(names):
        start, end = int(starts[place]), int(ends[place])
        its_rows = rows[start:end]
        header = orjson.dumps(
            [
                business_id,
                [entities.ids[r] for r in its_rows],
                [entities.names[r] for r in its_rows],
            ]
        )
        truths, reasons = tallies[place, :3], tallies[place, 3:]
        yield Record(
            business_id=business_id or None,
            start=start,
            end=end,
            # Byte by byte of the fields, not entity by entity: that packs to a third.
            payload=b"".join(
                (len(header).to_bytes(4, "little"), header, table[start:end].T.tobytes())
            ),
            fired=int(truths[Truth.TRUE]),
            not_fired=int(truths[Truth.FALSE]),
            unknown=int(truths[Truth.UNKNOWN]),
            reasons={
                reason: int(reasons[code])
                for code, reason in enumerate(REASONS)
                if reason is not None and reasons[code]
            },
        )


def evidence_hash(payload: bytes, held: Mapping[str, Sequence[str]]) -> str:
    """What tells a record, and what it leaves to the next one, from any other: 32 hex digits."""
    digest = hashlib.blake2b(payload, digest_size=16)
    digest.update(json.dumps(held, sort_keys=True, separators=(",", ":")).encode())
    return digest.hexdigest()


def payload_of(evidence: bytes) -> bytes:
    """The payload of what is stored. Raises ValueError for bytes that are none of ours."""
    if not evidence or evidence[0] != FORMAT:
        raise ValueError("evidence of a format that this program does not know")
    try:
        return zstandard.ZstdDecompressor().decompress(evidence[1:])
    except zstandard.ZstdError:
        raise ValueError("evidence that cannot be unpacked") from None


def unpack(payload: bytes, rule: Rule, as_of: date) -> PackedEvaluation:
    """A record again; `rule` is the version that made it. Raises ValueError where it is not."""
    conditions = list(conditions_of(rule.conditions))
    business_id, ids, names, body = _header(payload)
    width = _width(len(conditions))
    if len(body) != width * len(ids):
        raise ValueError("evidence of another rule")
    table = np.ascontiguousarray(np.frombuffer(body, np.uint8).reshape(width, len(ids)).T)
    rows = table.view(_row_type(len(conditions))).reshape(len(ids))
    return PackedEvaluation(
        rule=rule,
        as_of=as_of,
        business_id=business_id or None,
        ids=ids,
        names=names,
        truth=rows["answer"]["truth"].astype(np.int8),
        decided_by=rows["answer"]["decided_by"],
        evidence=tuple(
            _evidence(rows[f"condition {number}"], path, condition)
            for number, (path, condition) in enumerate(conditions)
        ),
    )


def truths_before(record: Record, payload: bytes | None) -> NDArray[np.int8]:
    """What an earlier record of the rule said about the entities of this one; values of Truth, -1
    for an entity that it did not know. `payload` is the earlier record's, None without one."""
    if payload is None:
        return np.full(record.entities, -1, np.int8)
    length = 4 + int.from_bytes(record.payload[:4], "little")
    if payload[:length] == record.payload[:length]:
        # The same entities, as on most days.
        return np.frombuffer(payload, np.int8, record.entities, offset=length)
    _, ids, _, body = _header(payload)
    before = dict(zip(ids, body[: len(ids)], strict=True))
    return np.array([before.get(id_, -1) for id_ in _header(record.payload)[1]], np.int8)


def _header(payload: bytes) -> tuple[str, list[str], list[str], bytes]:
    end = 4 + int.from_bytes(payload[:4], "little")
    business_id, ids, names = orjson.loads(payload[4:end])
    return business_id, ids, names, payload[end:]


def _table(evaluation: Evaluation) -> NDArray[np.uint8]:
    """A row of bytes per entity."""
    count, conditions = len(evaluation.rows), len(evaluation.evidence)
    rows = np.zeros(count, _row_type(conditions))
    rows["answer"]["truth"] = evaluation.truth
    rows["answer"]["decided_by"] = evaluation.decided_by
    for number, each in enumerate(evaluation.evidence):
        fields = rows[f"condition {number}"]
        for name in _FINDING.names or ():
            fields[name] = _TO_NUMBER[each.reason] if name == "reason" else getattr(each, name)
    return rows.view(np.uint8).reshape(count, _width(conditions))


def _evidence(fields: NDArray[Any], path: str, condition: Condition) -> Evidence:
    columns: dict[str, Any] = {name: fields[name] for name in _FINDING.names or ()}
    columns["truth"] = fields["truth"].astype(np.int8)
    columns["reason"] = _FROM_NUMBER[fields["reason"]]
    columns["is_held"] = fields["is_held"].astype(np.bool_)
    return Evidence(path=path, condition=condition, **columns)


def _tallies(evaluation: Evaluation, business: NDArray[np.intp], count: int) -> NDArray[np.int64]:
    """Per business how many entities have each truth, and how many are unknown by reason."""
    width = 3 + len(REASONS)
    truths = np.bincount(business * width + evaluation.truth, minlength=count * width)
    is_unknown = evaluation.truth == Truth.UNKNOWN
    reasons = np.bincount(
        (business * width + 3 + evaluation.deciding_reasons)[is_unknown], minlength=count * width
    )
    return (truths + reasons).reshape(count, width)


def _row_type(conditions: int) -> np.dtype[Any]:
    fields = [(f"condition {number}", _FINDING) for number in range(conditions)]
    return np.dtype([("answer", _ANSWER), *fields])


def _width(conditions: int) -> int:
    return _ANSWER.itemsize + conditions * _FINDING.itemsize
