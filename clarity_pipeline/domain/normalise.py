"""One landed export -> the rows of `clarity_daily_metrics` it stands for. Pure pandas.

Blocks are joined by tuple of dimension values, never by position (FACTS section 7). Tuples that
become one after canonicalisation are merged with the weights that keep the project's own totals.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import chain, count, repeat
from operator import delitem, itemgetter
from typing import Any, Final, cast

import numpy as np
import orjson
import pandas as pd
from numpy.typing import NDArray

from clarity_pipeline.domain.dimensions import (
    DIMENSION_COLUMNS,
    Dimension,
    DimensionCombo,
    dimension_hashes,
)
from clarity_pipeline.domain.errors import ReplyUnreadable
from clarity_pipeline.domain.exports import Block, LandedExport, count_rows, parse_blocks, verify
from clarity_pipeline.domain.metrics import (
    BLOCK_FIELDS,
    BREAKDOWN_BLOCKS,
    CLICK_BLOCK_COLUMNS,
    METRIC_COLUMNS,
    TUPLE_BLOCKS,
    canonical_field_name,
)
from clarity_pipeline.domain.urls import canonical_url

NORMALISER_VERSION: Final = 2
"""Raise it when the same bytes give other rows: every stored slice is then rebuilt."""

FRAME_COLUMNS: Final[tuple[str, ...]] = (
    "dimension_hash",
    *DIMENSION_COLUMNS,
    *METRIC_COLUMNS,
    "raw_payload",
)

MAX_COUNT: Final = 10**15
"""Larger counts are unreadable. Far above any website, and low enough that a thousand of them
add up, and seconds become milliseconds, within 64 bits."""

MAX_RATIO: Final = 1e12
"""Larger ratios are unreadable; keeps every weighted mean finite."""

_MILLISECONDS_PER_SECOND: Final = 1000
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

_COUNT_TEXT = re.compile(r"\s*0*([0-9]{1,16})(?:\.0*)?\s*", re.ASCII)
_RATIO_TEXT = re.compile(r"\s*[0-9]{1,40}(?:\.[0-9]{0,40})?(?:[eE][-+]?[0-9]{1,3})?\s*", re.ASCII)
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")
_TEXT_TYPES: Final = frozenset({str, type(None)})

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]
_Bools = NDArray[np.bool_]
_Key = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class SliceReport:
    """What became of a reply's rows.

    `unknown_fields` are written `Block.field` as they came; fields of unknown blocks are not
    listed. `missing_blocks` are those that every reply of this kind has. `merged_tuples` counts
    the tuples that canonicalisation folded into another row. `unreadable_values` counts values
    that are neither number nor null where a stored number is due; they are stored as NULL.
    `negative_differences` counts the values of a derived slice that came out below zero.
    """

    raw_rows: int
    rows: int
    row_counts: Mapping[str, int]
    truncated: bool
    unknown_blocks: tuple[str, ...]
    unknown_fields: tuple[str, ...]
    missing_blocks: tuple[str, ...]
    merged_tuples: int
    unreadable_values: int
    negative_differences: int = 0


@dataclass(frozen=True, slots=True)
class NormalisedSlice:
    """All rows of one business, day and dimension set, ready to replace what is stored.

    `frame` has FRAME_COLUMNS: one row per `dimension_hash` and sorted by it, dimensions as text
    or None, counts as Int64, ratios as Float64, and `raw_payload` as JSON text. The window is in
    UTC.

    `raw_payload` is an array with an object for each raw tuple that went into the row: the
    dimension values as text or null under the reply's own keys, and under `blocks` all raw rows
    of the tuple, without those keys. Each of the nine tuple blocks has one row, as an object; any
    other block has an array of rows:

        [{"Url": "https://a.example/?gclid=1", "Device": "PC",
          "blocks": {"ScrollDepth": {"averageScrollDepth": 61.5}, "New": [{"x": 1}, {"x": 2}]}}]

    A dimension value that was not text (never seen) stays in its raw row too, as it came. The
    array is empty where the raw payload is no longer kept.

    `subtracted_export_id` is the reply that was taken away from that of `raw_export_id` where the
    slice was derived; `raw_payload` is then an object with the arrays of both (domain.derive).
    """

    business_id: str
    day: date
    dimension_set: str
    raw_export_id: int
    built_from: str
    window_start: datetime
    window_end: datetime
    frame: pd.DataFrame
    report: SliceReport
    subtracted_export_id: int | None = None


def built_from(sha256: str) -> str:
    """What a slice is a function of: the reply's bytes and this code."""
    return f"{sha256}:{NORMALISER_VERSION}"


def without_payload(normalised: NormalisedSlice) -> NormalisedSlice:
    """The slice of a day whose raw payload is no longer kept: an empty array in each row."""
    return replace(normalised, frame=normalised.frame.assign(raw_payload="[]"))


def normalise_export(landed: LandedExport) -> NormalisedSlice:
    """Turn one landed reply into rows.

    Raises ReplyUnreadable or DimensionIgnored as `exports.verify` does, and ReplyUnreadable for
    values nested too deeply to store. Rows are sorted by `dimension_hash`, so that the order of
    the reply, which is arbitrary, leaves no trace.
    """
    export = landed.export
    combo = export.request.combo
    blocks = parse_blocks(export.body)
    summary = count_rows(blocks)
    try:
        rows_of = _rows_by_block(blocks, [dimension.row_key for dimension in combo.dimensions])
    except KeyError:
        # To look at every row for this beforehand would take as long as merging does.
        verify(export)
        raise
    tuples = _index_tuples(combo, rows_of)
    readings = _Readings(tuples=tuples, rows_of=rows_of)
    metrics = _merge(_metrics_of_tuples(readings), tuples)
    unknown_fields = _unknown_fields(combo, rows_of)
    frame = _frame(tuples, metrics, _payloads(combo, tuples, rows_of))
    return NormalisedSlice(
        business_id=landed.business_id,
        day=landed.day,
        dimension_set=combo.dimension_set,
        raw_export_id=landed.id,
        built_from=built_from(export.sha256),
        window_start=export.window_start,
        window_end=export.window_end,
        frame=frame,
        report=SliceReport(
            raw_rows=sum(summary.row_counts.values()),
            rows=len(frame),
            row_counts=summary.row_counts,
            truncated=summary.truncated,
            unknown_blocks=summary.unknown_blocks,
            unknown_fields=unknown_fields,
            missing_blocks=tuple(name for name in _expected_blocks(combo) if name not in rows_of),
            merged_tuples=tuples.count - tuples.row_count,
            unreadable_values=readings.unreadable_values,
        ),
    )


def estimated_page_views(sessions: _Floats, pages_per_session: _Floats) -> _Floats:
    """Page views of each row, the weight of its scroll depth (FACTS section 5); unknown is 0.

    Sessions without a usable number of pages count as one page view each: they did scroll.
    """
    return sessions * np.where(pages_per_session > 0, pages_per_session, 1.0)


@dataclass(frozen=True, slots=True)
class _Tuples:
    """Which raw tuple each raw row belongs to, and which stored row each raw tuple goes into.

    A tuple is what the reply shows: one combination of dimension values. Should a block hold a
    tuple twice (never seen, FACTS section 7), the second ones of all blocks make up a tuple of
    their own, which is then merged like any other two tuples of one stored row.
    """

    of_block: Mapping[str, _Ints]
    row_of_tuple: _Ints
    keys: Sequence[_Key]
    """Raw dimension values of each tuple as text or None, in the order of the combo."""
    hashes: Sequence[str]
    """`dimension_hash` of each stored row, in order."""
    texts: Mapping[Dimension, Sequence[str | None]]
    """Stored value of each dimension, by stored row."""

    @property
    def count(self) -> int:
        return len(self.row_of_tuple)

    @property
    def row_count(self) -> int:
        return len(self.hashes)


@dataclass(frozen=True, slots=True)
class _RawRows:
    """The rows of a block without their dimension values, and what is read out of them.

    All of it is read while the rows are at hand: to come back to thousands of them for each value
    of each block took longer than what was then done with the values.
    """

    rows: Sequence[dict[str, Any]]
    keys: Sequence[tuple[Any, ...]]
    """The dimension values of each row, as they came."""
    columns: Mapping[str, Sequence[Any]]
    """The values of each row by name; empty where not all rows have the same names."""
    texts: Sequence[str] | None
    """Each row as JSON without its braces; None where it is not as plain as Clarity's rows are."""

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]], row_keys: Sequence[str]) -> _RawRows:
        """Takes the dimension values out of the rows. Raises KeyError where a row lacks one."""
        columns = _columns(rows)
        of_keys = [columns[key] if columns else _values(rows, key) for key in row_keys]
        for key, values in zip(row_keys, of_keys, strict=True):
            _take_out_texts(rows, key, values)
        keys = list(zip(*of_keys, strict=True)) if row_keys else [()] * len(rows)
        return cls(rows, keys, columns, _row_texts(rows))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def names(self) -> list[str]:
        return sorted(self.columns or set[str]().union(*self.rows))


_RowsByBlock = Mapping[str, _RawRows]


def _rows_by_block(blocks: Sequence[Block], row_keys: Sequence[str]) -> _RowsByBlock:
    """Blocks of one name are one block."""
    rows_of: dict[str, list[dict[str, Any]]] = {}
    for block in blocks:
        rows_of.setdefault(block.name, []).extend(block.rows)
    return {name: _RawRows.of(rows, row_keys) for name, rows in rows_of.items()}


def _columns(rows: Sequence[dict[str, Any]]) -> Mapping[str, Sequence[Any]]:
    names = list(rows[0]) if rows else []
    # Of one name an itemgetter gives the value itself.
    if len(names) < 2 or set(map(len, rows)) != {len(names)}:
        return {}
    with suppress(KeyError):
        return dict(zip(names, zip(*map(itemgetter(*names), rows), strict=True), strict=True))
    return {}


def _values(rows: Sequence[dict[str, Any]], name: str) -> list[Any]:
    return list(map(itemgetter(name), rows))


def _take_out_texts(rows: Sequence[dict[str, Any]], key: str, values: Sequence[Any]) -> None:
    """Take dimension values out of raw rows, except those that are neither text nor null."""
    if set(map(type, values)) <= _TEXT_TYPES:
        deque(map(delitem, rows, repeat(key)), maxlen=0)
        return
    for row, value in zip(rows, values, strict=True):
        if type(value) in _TEXT_TYPES:
            del row[key]


_BETWEEN_ROWS: Final = "},{"


def _row_texts(rows: Sequence[dict[str, Any]]) -> Sequence[str] | None:
    text = _plain_json(rows)
    if text is None or not rows:
        return None if rows else ()
    # Rows with rows inside come apart into too many pieces.
    texts = text[2:-2].split(_BETWEEN_ROWS)
    return texts if len(texts) == len(rows) else None


def _index_tuples(combo: DimensionCombo, rows_of: _RowsByBlock) -> _Tuples:
    code_of_raw_row, raw_keys = _number_raw_keys(list(rows_of.values()))
    if not combo.dimensions and rows_of and not raw_keys:
        raw_keys = [()]  # The overview is about the project even where its blocks are empty.
    row_of_code, stored_keys = _number([_stored_keys(combo, raw_keys)])
    hashes = dimension_hashes(combo.dimension_set, combo.dimensions, stored_keys)
    by_hash = sorted(range(len(hashes)), key=hashes.__getitem__)
    rank = np.empty(len(hashes), dtype=np.int64)
    rank[by_hash] = np.arange(len(hashes))
    row_of_code = rank[row_of_code]
    tuple_of_raw_row, code_of_tuple = _number_tuples(rows_of, code_of_raw_row, len(raw_keys))
    ends = np.cumsum([len(rows) for rows in rows_of.values()])
    codes: list[int] = code_of_tuple.tolist()
    columns = zip(*map(stored_keys.__getitem__, by_hash), strict=True)
    return _Tuples(
        of_block=dict(zip(rows_of, np.split(tuple_of_raw_row, ends[:-1]), strict=True))
        if rows_of
        else {},
        row_of_tuple=row_of_code[code_of_tuple],
        keys=[raw_keys[code] for code in codes],
        hashes=[hashes[i] for i in by_hash],
        texts=dict(zip(combo.dimensions, columns, strict=True)) if hashes else {},
    )


def _number_tuples(
    rows_of: _RowsByBlock, code_of_raw_row: _Ints, code_count: int
) -> tuple[_Ints, _Ints]:
    """The tuple of each raw row, and the code of each tuple.

    They differ only where one of the nine tuple blocks repeats a code. Breakdown and unknown
    blocks may repeat one at will: nothing is read from them.
    """
    block_id = np.repeat(np.arange(len(rows_of)), [len(rows) for rows in rows_of.values()])
    place = block_id * code_count + code_of_raw_row
    if pd.Index(place).is_unique:
        return code_of_raw_row, np.arange(code_count)
    repetition = pd.Series(0, index=place).groupby(level=0).cumcount().to_numpy(copy=True)
    is_tuple_block = np.array([name in TUPLE_BLOCKS for name in rows_of])
    repetition[~is_tuple_block[block_id]] = 0
    tuple_of_raw_row, tuples = pd.factorize(repetition * code_count + code_of_raw_row)
    return tuple_of_raw_row, tuples % code_count


def _number_raw_keys(blocks: Sequence[_RawRows]) -> tuple[_Ints, list[_Key]]:
    """The code of each raw row's dimension values, and the distinct ones as text or None."""
    keys_of_blocks = [raw.keys for raw in blocks]
    with suppress(TypeError):  # a list or an object cannot be looked up
        codes, distinct = _number(keys_of_blocks)
        # Nothing but text equals text: what holds for the distinct ones holds for all.
        if set(map(type, chain.from_iterable(distinct))) <= _TEXT_TYPES:
            return codes, distinct
    return _number([[tuple(map(_text, key)) for key in keys] for keys in keys_of_blocks])


def _stored_keys(combo: DimensionCombo, raw_keys: Sequence[_Key]) -> Sequence[_Key]:
    if not combo.dimensions or not raw_keys:
        return raw_keys
    columns: list[Iterable[str | None]] = []
    for dimension, texts in zip(combo.dimensions, zip(*raw_keys, strict=True), strict=True):
        stored = {text: _stored(dimension, text) for text in set(texts)}
        columns.append(map(stored.__getitem__, texts))
    return list(zip(*columns, strict=True))


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else _json_text(value)


def _number(keys_of_blocks: Sequence[Sequence[_Key]]) -> tuple[_Ints, list[_Key]]:
    """Number keys by first appearance: the number of each, and the distinct ones."""
    number_of = defaultdict[_Key, int](count().__next__)
    numbers: list[_Ints] = [np.empty(0, dtype=np.int64)]
    before: Sequence[_Key] = ()
    for keys in keys_of_blocks:
        # Most blocks have their tuples in the same order (FACTS section 7), and comparing keys is
        # much cheaper than looking them up.
        if keys != before:
            numbers.append(np.fromiter(map(number_of.__getitem__, keys), np.int64, len(keys)))
        else:
            numbers.append(numbers[-1])
        before = keys
    return np.concatenate(numbers), list(number_of)


def _stored(dimension: Dimension, text: str | None) -> str | None:
    """Addresses in their one spelling, everything else as it came, "" and NULL included.

    NUL and lone surrogates become U+FFFD: no text column of PostgreSQL takes them.
    """
    if text is None:
        return None
    if dimension is Dimension.URL:
        text = canonical_url(text)
    return _storable(text)


def _storable(text: str) -> str:
    return text if text.isascii() and "\0" not in text else _NOT_STORABLE.sub(_REPLACEMENT, text)


@dataclass(frozen=True, slots=True)
class _Column:
    """Numbers, 0 where `known` is False. Lighter than a Series of pandas, which aligns indexes
    at every step: with those, merging and framing took a third of a normalisation."""

    values: NDArray[Any]
    known: _Bools

    def at(self, positions: _Ints) -> _Column:
        return _Column(self.values[positions], self.known[positions])

    def nullable(self) -> pd.api.extensions.ExtensionArray:
        """As Int64 or Float64 of pandas."""
        if self.values.dtype == np.int64:
            return pd.arrays.IntegerArray(self.values, ~self.known)
        return pd.arrays.FloatingArray(self.values, ~self.known)


@dataclass(slots=True)
class _Readings:
    """Numbers by tuple, out of the fields of the tuple blocks; counts what cannot be read."""

    tuples: _Tuples
    rows_of: _RowsByBlock
    unreadable_values: int = 0

    def counts(self, block: str, field: str, *, unit: int = 1) -> _Column:
        """Integers by tuple, times `unit`; NULL where block, tuple, field or value is missing."""
        values, known = self._by_tuple(block, field, np.int64, _read_counts, _read_count)
        return _Column(values * unit, known)

    def ratios(self, block: str, field: str) -> _Column:
        """Floats by tuple; NULL as for counts."""
        return _Column(*self._by_tuple(block, field, np.float64, _read_ratios, _read_ratio))

    def _by_tuple(
        self,
        block: str,
        field: str,
        dtype: type[np.int64 | np.float64],
        read_all: Callable[[Sequence[Any]], NDArray[Any] | None],
        read_one: Callable[[object], float | None],
    ) -> tuple[NDArray[Any], _Bools]:
        by_tuple = np.zeros(self.tuples.count, dtype=dtype)
        known_by_tuple = np.zeros(self.tuples.count, dtype=np.bool_)
        if not self.rows_of.get(block):
            return by_tuple, known_by_tuple
        raw = _field_values(self.rows_of[block], field)
        tuple_id = self.tuples.of_block[block]
        values = read_all(raw)
        if values is not None:
            by_tuple[tuple_id] = values
            known_by_tuple[tuple_id] = True
            return by_tuple, known_by_tuple
        numbers = [read_one(value) for value in raw]
        known = np.array([number is not None for number in numbers], dtype=np.bool_)
        self.unreadable_values += sum(value is not None for value in raw) - int(known.sum())
        by_tuple[tuple_id[known]] = [number for number in numbers if number is not None]
        known_by_tuple[tuple_id[known]] = True
        return by_tuple, known_by_tuple


def _field_values(raw: _RawRows, field: str) -> Sequence[Any]:
    """The field's value in every row under whatever spelling it has; None where it is absent."""
    if field in raw.columns:
        return raw.columns[field]
    spellings = _spellings(raw, field)
    if not raw.columns and all(field in row for row in raw.rows):
        spellings = [field]
    of_rows = ([row.get(name) for name in spellings] for row in raw.rows)
    return [next((value for value in values if value is not None), None) for values in of_rows]


def _spellings(raw: _RawRows, field: str) -> list[str]:
    """What the field is called in these rows, its real name first."""
    spellings = [name for name in raw.names if canonical_field_name(name) == field]
    return sorted(spellings, key=lambda name: name != field)


def _read_counts(raw: Sequence[Any]) -> _Ints | None:
    """All values at once where they are of one style (FACTS section 2); None otherwise."""
    kinds = set(map(type, raw))
    if kinds == {str}:
        digits = "".join(raw)
        if not (digits.isascii() and digits.isdecimal()):
            return None
        try:
            raw = list(map(int, raw))
        except ValueError:  # an empty string, or thousands of digits
            return None
    elif kinds != {int}:
        return None
    if min(raw) < 0 or max(raw) > MAX_COUNT:
        return None
    return np.array(raw, dtype=np.int64)


def _read_count(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        match = _COUNT_TEXT.fullmatch(value)
        value = int(match[1]) if match else None
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and 0 <= value <= MAX_COUNT else None


def _read_ratios(raw: Sequence[Any]) -> _Floats | None:
    if not set(map(type, raw)) <= {int, float} or not 0 <= min(raw) <= max(raw) <= MAX_RATIO:
        return None
    values = np.array(raw, dtype=np.float64)
    return None if np.isnan(values).any() else values


def _read_ratio(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and _RATIO_TEXT.fullmatch(value):
        value = float(value)
    if isinstance(value, int | float) and 0 <= value <= MAX_RATIO:
        return float(value)
    return None


def _metrics_of_tuples(readings: _Readings) -> dict[str, _Column]:
    """METRIC_COLUMNS by raw tuple."""
    in_traffic = readings.counts("Traffic", "totalSessionCount")
    in_click_blocks = [readings.counts(block, "sessionsCount") for block in CLICK_BLOCK_COLUMNS]
    in_any = np.logical_or.reduce([column.known for column in in_click_blocks])
    most = np.maximum.reduce([column.values for column in in_click_blocks])
    return {
        # The six click blocks repeat it; Traffic's differs a little (FACTS section 3).
        "sessions": _Column(np.where(in_any, most, in_traffic.values), in_any | in_traffic.known),
        "bot_sessions": readings.counts("Traffic", "totalBotSessionCount"),
        "distinct_users": readings.counts("Traffic", "distinctUserCount"),
        "pages_per_session": readings.ratios("Traffic", "pagesPerSessionPercentage"),
        "scroll_depth": readings.ratios("ScrollDepth", "averageScrollDepth"),
        "engagement_time_ms": readings.counts(
            "EngagementTime", "activeTime", unit=_MILLISECONDS_PER_SECOND
        ),
    } | {
        column: readings.counts(block, "subTotal") for block, column in CLICK_BLOCK_COLUMNS.items()
    }


def _merge(of_tuples: Mapping[str, _Column], tuples: _Tuples) -> dict[str, _Column]:
    """METRIC_COLUMNS by stored row; a row of one tuple keeps that tuple's exact values."""
    by_row = np.argsort(tuples.row_of_tuple, kind="stable")
    sorted_columns = {name: column.at(by_row) for name, column in of_tuples.items()}
    if tuples.count == tuples.row_count:
        return sorted_columns
    row = tuples.row_of_tuple[by_row]
    first = np.searchsorted(row, np.arange(tuples.row_count))
    sessions = sorted_columns["sessions"].values.astype(np.float64)
    page_views = estimated_page_views(sessions, sorted_columns["pages_per_session"].values)
    weights = {
        "pages_per_session": sessions,
        "scroll_depth": page_views,
        "engagement_time_ms": sessions,
    }
    merged: dict[str, _Column] = {}
    for name, column in sorted_columns.items():
        if name in weights:
            merged[name] = _weighted_mean(column, weights[name], row, tuples.row_count)
            continue
        # Users cannot be added: the largest number is a lower bound.
        combine = np.maximum if name == "distinct_users" else np.add
        merged[name] = _Column(
            combine.reduceat(column.values, first), np.logical_or.reduceat(column.known, first)
        )
    return merged


def _weighted_mean(column: _Column, weights: _Floats, row: _Ints, row_count: int) -> _Column:
    """Mean by row over the tuples that have a value; whole numbers are rounded half to even, once.

    Values that are all equal are the mean whatever they weigh. Different values of which none
    has a weight give NULL: a plain mean would count an empty page like a busy one.
    """
    value = column.values[column.known].astype(np.float64)
    weight, row_of_value = weights[column.known], row[column.known]
    # Sorted, so that the sum of floats does not depend on the order of the reply.
    order = np.lexsort((weight, value, row_of_value))
    value, weight, row_of_value = value[order], weight[order], row_of_value[order]
    rows, first, size = np.unique(row_of_value, return_index=True, return_counts=True)
    lowest, highest = value[first], value[first + size - 1]
    position = np.repeat(np.arange(len(rows)), size)
    total = np.bincount(position, weight, minlength=len(rows))
    share = weight / np.where(total > 0, total, 1.0)[position]
    mean = np.bincount(position, value * share, minlength=len(rows))
    if column.values.dtype == np.int64:
        mean = np.rint(mean)
    mean = np.clip(mean, lowest, highest)
    has_mean = (total > 0) | (lowest == highest)
    values = np.zeros(row_count, dtype=column.values.dtype)
    known = np.zeros(row_count, dtype=np.bool_)
    values[rows[has_mean]] = mean[has_mean]
    known[rows[has_mean]] = True
    return _Column(values, known)


def _frame(
    tuples: _Tuples, metrics: Mapping[str, _Column], payloads: Sequence[str]
) -> pd.DataFrame:
    no_value = _objects([None] * tuples.row_count)
    columns: dict[str, object] = {"dimension_hash": _objects(tuples.hashes)}
    for dimension in Dimension:
        texts = tuples.texts.get(dimension)
        columns[dimension.column] = no_value if texts is None else _objects(texts)
    columns |= {name: metrics[name].nullable() for name in METRIC_COLUMNS}
    columns["raw_payload"] = _objects(payloads)
    return pd.DataFrame(columns, index=pd.RangeIndex(tuples.row_count))


def _objects(texts: Sequence[str | None]) -> pd.Index[Any]:
    """An Index, because pandas would make its own text type, without None, of an array."""
    return pd.Index(list(texts), dtype=object)


def _payloads(combo: DimensionCombo, tuples: _Tuples, rows_of: _RowsByBlock) -> list[str]:
    """`raw_payload` by stored row.

    Dimension values are said once per tuple and not in each of nine blocks, which keeps most rows
    under the 2 KB from which on PostgreSQL compresses: storing a day took half as much CPU again.
    """
    row_keys = [dimension.row_key for dimension in combo.dimensions]
    texts = _payload_texts(row_keys, tuples, rows_of)
    if texts is None:
        texts = map(_json_text, _payload_objects(row_keys, tuples, rows_of))
    return list(texts)


def _payload_texts(
    row_keys: Sequence[str], tuples: _Tuples, rows_of: _RowsByBlock
) -> Iterable[str] | None:
    """The payloads, put together from the text of each block as a whole.

    That takes a third of the time of making thousands of objects. None where some text is not as
    plain as Clarity's are: then those objects have to be made.
    """
    keys = _key_texts(row_keys, tuples.keys)
    if keys is None:
        return None
    of_blocks = np.full((len(rows_of), tuples.count), "", dtype=object)
    for of_block, (block, raw) in zip(of_blocks, rows_of.items(), strict=True):
        name = _plain_json(block)
        if name is None or raw.texts is None:
            return None
        tuple_ids = tuples.of_block[block]
        if block in TUPLE_BLOCKS:
            of_block[tuple_ids] = [f"{name}:{{{row}}}" for row in raw.texts]
            continue
        of_tuples = defaultdict[int, list[str]](list)
        for tuple_id, row in zip(tuple_ids.tolist(), raw.texts, strict=True):
            of_tuples[tuple_id].append(row)
        for tuple_id, several in of_tuples.items():
            of_block[tuple_id] = f"{name}:[{{{_BETWEEN_ROWS.join(several)}}}]"
    payloads: list[list[str]] = [[] for _ in range(tuples.row_count)]
    row_ids: list[int] = tuples.row_of_tuple.tolist()
    for row_id, key, blocks in zip(row_ids, keys, of_blocks.T.tolist(), strict=True):
        payloads[row_id].append(f'{{{key}"blocks":{{{",".join(filter(None, blocks))}}}}}')
    return (f"[{','.join(payload)}]" for payload in payloads)


def _key_texts(row_keys: Sequence[str], keys: Sequence[_Key]) -> Iterable[str] | None:
    """The dimension values of each tuple as JSON, each followed by a comma; None as above."""
    columns: list[Iterable[str]] = []
    for row_key, values in zip(row_keys, zip(*keys, strict=True), strict=bool(keys)):
        text_of: dict[str | None, str] = {None: f'"{row_key}":null,'}
        known = [value for value in set(values) if value is not None]
        together = _plain_json(known)
        if together is None:
            return None
        # A quote inside a text has a backslash before it.
        texts = together[2:-2].split('","') if known else []
        text_of |= {
            value: f'"{row_key}":"{text}",' for value, text in zip(known, texts, strict=True)
        }
        columns.append(map(text_of.__getitem__, values))
    return map("".join, zip(*columns, strict=True)) if columns else [""] * len(keys)


def _payload_objects(
    row_keys: Sequence[str], tuples: _Tuples, rows_of: _RowsByBlock
) -> list[list[dict[str, Any]]]:
    blocks_of: list[dict[str, Any]] = [{} for _ in range(tuples.count)]
    for block, raw in rows_of.items():
        tuple_ids: list[int] = tuples.of_block[block].tolist()
        of_rows = zip(tuple_ids, raw.rows, strict=True)
        if block in TUPLE_BLOCKS:
            for tuple_id, row in of_rows:
                blocks_of[tuple_id][block] = row
        else:
            for tuple_id, row in of_rows:
                blocks_of[tuple_id].setdefault(block, []).append(row)
    payloads: list[list[dict[str, Any]]] = [[] for _ in range(tuples.row_count)]
    row_ids: list[int] = tuples.row_of_tuple.tolist()
    for row_id, key, blocks in zip(row_ids, tuples.keys, blocks_of, strict=True):
        payloads[row_id].append({**dict(zip(row_keys, key, strict=True)), "blocks": blocks})
    return payloads


def _json_text(value: object) -> str:
    """JSON that `jsonb` takes. Raises ReplyUnreadable where it nests deeper than anything does."""
    plain = _plain_json(value)
    if plain is not None:
        return plain
    try:
        return json.dumps(_jsonb_safe(value), ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        raise ReplyUnreadable(
            "Clarity's reply has values nested too deeply to store; it was kept as it came."
        ) from None


def _plain_json(value: object) -> str | None:
    """JSON without another thought; None where `jsonb` does not take that, or orjson the value."""
    try:
        text = orjson.dumps(value)
    except orjson.JSONEncodeError:
        return None
    # The second search is slow and the first, which nearly always settles it, is not.
    return None if b"\\" in text and rb"\u0000" in text else text.decode()


def _jsonb_safe(value: object) -> object:
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [_jsonb_safe(item) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        items = cast("dict[str, object]", value).items()
        return {_storable(key): _jsonb_safe(item) for key, item in items}
    return value


def _expected_blocks(combo: DimensionCombo) -> tuple[str, ...]:
    return TUPLE_BLOCKS if combo.dimensions else (*TUPLE_BLOCKS, *BREAKDOWN_BLOCKS)


def _unknown_fields(combo: DimensionCombo, rows_of: _RowsByBlock) -> tuple[str, ...]:
    dimension_keys = {dimension.row_key for dimension in combo.dimensions}
    return tuple(
        sorted(
            f"{block}.{name}"
            for block, raw in rows_of.items()
            if block in BLOCK_FIELDS
            for name in raw.names
            if name not in dimension_keys and canonical_field_name(name) not in BLOCK_FIELDS[block]
        )
    )
