"""A missed day out of two replies made at the same instant: the longer one less the shorter.

A reply over 48 hours less one over 24 is the 24 hours before those. Events and sessions of a tuple
can be subtracted, users never. An average is recovered through its weight where what the API cuts
off and leaves out allows it, and is NULL where it does not. Pure pandas.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clarity_pipeline.domain.dimensions import DIMENSION_COLUMNS, OVERVIEW, Dimension
from clarity_pipeline.domain.metrics import (
    CLICK_BLOCK_COLUMNS,
    COUNT_COLUMNS,
    METRIC_COLUMNS,
    TUPLE_BLOCKS,
)
from clarity_pipeline.domain.normalise import (
    FRAME_COLUMNS,
    NORMALISER_VERSION,
    NormalisedSlice,
    SliceReport,
)

DERIVE_VERSION: Final = 1
"""Raise it when the same two replies give other rows: every derived slice is then rebuilt."""

MOST_ENGAGEMENT_ERROR_SECONDS: Final = 5.0
"""Engagement is recovered where it is certain within this. The API cuts an average off to whole
seconds (FACTS section 5). Of a tuple with n sessions in the longer reply and d on the day itself,
what is recovered is then less than n/d seconds away from what the day's own reply would say."""

MOST_SCROLL_ERROR_PERCENT: Final = 0.1
"""Scroll depth is recovered where rounding alone leaves it certain within this many percent of page
height: each reply is within 0.005 of the truth, which its page views multiply."""

_SCROLL_ROUNDING: Final = 0.005
_WHOLE_WITHIN: Final = 1e-6

_SESSION_BLOCKS: Final = (*CLICK_BLOCK_COLUMNS, "Traffic")
"""Each of them lists every tuple that has human sessions."""

_Numbers = NDArray[np.float64] | NDArray[np.int64]
_Floats = NDArray[np.float64]
_Bools = NDArray[np.bool_]


def derived_from(*, minuend_sha256: str, subtrahend_sha256: str) -> str:
    """What a derived slice is a function of: the bytes of both replies, and this code."""
    both = hashlib.sha256(f"{minuend_sha256}-{subtrahend_sha256}".encode()).hexdigest()
    return f"{both}:{NORMALISER_VERSION}:{DERIVE_VERSION}"


def derive_slice(
    *, day: date, minuend: NormalisedSlice, subtrahend: NormalisedSlice, built_from: str
) -> NormalisedSlice:
    """The slice of the hours that only the longer of two replies (`minuend`) covers.

    A tuple that only the minuend has is taken as it is, averages and users too. One that was there
    before and did not come again is left out. Values below zero, which only late data can cause,
    are NULL and counted. Of a truncated pair those tuples are kept of which both replies list the
    same addresses; a tuple that a truncated reply lacks is unknown, not zero. What is kept may be
    too low then, as in any truncated slice, and is never too high. The window runs from the start
    of the minuend's to the start of the subtrahend's.
    """
    keys = np.union1d(_hashes(minuend), _hashes(subtrahend))
    more, less = _Side.of(minuend, keys), _Side.of(subtrahend, keys)
    differences = _subtract(more, less)
    columns = differences.columns | _averages(more, less, differences)
    keep = _is_known(more, less) & ~_came_no_more(less, differences, minuend.dimension_set)
    negative = int(differences.negative[keep].sum())
    frame = _frame(keys, more, less, columns)[keep].reset_index(drop=True)
    return NormalisedSlice(
        business_id=minuend.business_id,
        day=day,
        dimension_set=minuend.dimension_set,
        raw_export_id=minuend.raw_export_id,
        subtracted_export_id=subtrahend.raw_export_id,
        built_from=built_from,
        window_start=minuend.window_start,
        window_end=subtrahend.window_start,
        frame=frame,
        report=_report(minuend.report, subtrahend.report, rows=len(frame), negative=negative),
    )


@dataclass(frozen=True, slots=True)
class _Column:
    """Numbers by tuple, 0 where `known` is False."""

    values: _Numbers
    known: _Bools

    @property
    def is_zero(self) -> _Bools:
        return self.known & (self.values == 0)

    @property
    def is_positive(self) -> _Bools:
        return self.known & (self.values > 0)

    def where(self, condition: _Bools) -> _Column:
        known = self.known & condition
        return _Column(np.where(known, self.values, 0), known)

    def otherwise(self, other: _Column) -> _Column:
        """The other's value where this one has none."""
        return _Column(np.where(self.known, self.values, other.values), self.known | other.known)

    def nullable(self, *, whole: bool) -> pd.api.extensions.ExtensionArray:
        """As Int64 or Float64 of pandas."""
        if whole:
            return pd.arrays.IntegerArray(self.values.astype(np.int64), ~self.known)
        return pd.arrays.FloatingArray(self.values.astype(np.float64), ~self.known)


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two slices over the tuples of both. `present` says which of them it lists."""

    slice_: NormalisedSlice
    present: _Bools
    frame: pd.DataFrame
    sessions: _Column
    bot_sessions: _Column

    @classmethod
    def of(cls, slice_: NormalisedSlice, keys: NDArray[Any]) -> _Side:
        frame = slice_.frame.set_index("dimension_hash").reindex(keys)
        present = np.isin(keys, _hashes(slice_))
        # A tuple that a reply leaves out had no visits, or was cut off: see _is_known.
        has_none = ~present
        counts_sessions = not set(_SESSION_BLOCKS) <= set(slice_.report.missing_blocks)
        has_traffic = "Traffic" not in slice_.report.missing_blocks
        return cls(
            slice_=slice_,
            present=present,
            frame=frame,
            sessions=_counts(frame, "sessions").otherwise(_zero(has_none & counts_sessions)),
            bot_sessions=_counts(frame, "bot_sessions").otherwise(_zero(has_none & has_traffic)),
        )

    def events(self, column: str) -> _Column:
        """Without human sessions there were no events, whether or not the reply says so."""
        return _counts(self.frame, column).otherwise(_zero(self.sessions.is_zero))

    def listed_events(self, column: str) -> _Column:
        """As in the reply: a tuple that it lists with bots alone has NULL, as on any other day."""
        return _counts(self.frame, column).otherwise(_zero(self.sessions.is_zero & ~self.present))

    def ratios(self, column: str) -> _Column:
        values = self.frame[column].to_numpy(dtype=np.float64, na_value=np.nan)
        known = ~np.isnan(values)
        return _Column(np.where(known, values, 0.0), known)

    @property
    def sessions_are_of_click_blocks(self) -> _Bools:
        """Those counts differ a little from Traffic's (FACTS section 3)."""
        return np.logical_or.reduce(
            [self.frame[name].notna().to_numpy() for name in CLICK_BLOCK_COLUMNS.values()]
        )

    @property
    def page_views(self) -> _Column:
        """Human page views of each tuple, where pages per session tell them.

        They do not where the ratio may be one over bots as well (FACTS section 4). Sessions of
        the third kind cannot be seen; a product that is not whole gives them away.
        """
        ratio = self.ratios("pages_per_session")
        views = ratio.values * self.sessions.values
        is_whole = np.abs(views - np.rint(views)) <= _WHOLE_WITHIN
        known = ratio.known & self.sessions.known & self.bot_sessions.is_zero & is_whole
        return _Column(np.where(known, np.rint(views), 0.0), known)


@dataclass(frozen=True, slots=True)
class _Differences:
    """What could be subtracted; `negative` counts, by tuple, the values below zero."""

    columns: dict[str, _Column]
    negative: NDArray[np.int64]

    @property
    def sessions(self) -> _Column:
        return self.columns["sessions"]


def _hashes(slice_: NormalisedSlice) -> NDArray[Any]:
    return slice_.frame["dimension_hash"].to_numpy(dtype=object)


def _counts(frame: pd.DataFrame, name: str) -> _Column:
    return _Column(
        frame[name].fillna(0).to_numpy(dtype=np.int64), frame[name].notna().to_numpy(dtype=np.bool_)
    )


def _zero(known: _Bools) -> _Column:
    return _Column(np.zeros(len(known), dtype=np.int64), known)


def _subtract(more: _Side, less: _Side) -> _Differences:
    of_one_kind = (
        (more.sessions_are_of_click_blocks == less.sessions_are_of_click_blocks)
        | less.sessions.is_zero
        | ~more.present
    )
    pairs = {
        "sessions": (more.sessions.where(of_one_kind), less.sessions),
        "bot_sessions": (more.bot_sessions, less.bot_sessions),
    } | {
        name: (more.listed_events(name), less.events(name)) for name in CLICK_BLOCK_COLUMNS.values()
    }
    columns: dict[str, _Column] = {}
    negative = np.zeros(len(more.present), dtype=np.int64)
    for name, (longer, shorter) in pairs.items():
        known = longer.known & shorter.known
        difference = np.where(known, longer.values - shorter.values, 0)
        is_negative = difference < 0
        negative += is_negative
        columns[name] = _Column(np.where(is_negative, 0, difference), known & ~is_negative)
    return _Differences(columns, negative)


def _averages(more: _Side, less: _Side, differences: _Differences) -> dict[str, _Column]:
    """The columns that are means, and users, which are known of new tuples only."""
    is_new = ~less.present & less.bot_sessions.known & more.present
    has_sessions = differences.sessions.is_positive
    all_sessions_are_new = has_sessions & less.sessions.is_zero
    longer, shorter = more.sessions, less.sessions
    times = more.ratios("engagement_time_ms"), less.ratios("engagement_time_ms")
    time = _mean_of_the_rest(times, (longer, shorter))
    milliseconds = _Column(np.rint(np.maximum(time.values, 0.0)), time.known)
    time_error = _multiple(longer.values, differences.sessions.values)

    views = more.page_views, less.page_views
    new_views = _Column(views[0].values - views[1].values, views[0].known & views[1].known)
    depths = more.ratios("scroll_depth"), less.ratios("scroll_depth")
    depth = _mean_of_the_rest(depths, views)
    depth_error = _SCROLL_ROUNDING * _multiple(views[0].values + views[1].values, new_views.values)
    pages = more.ratios("pages_per_session")
    new_pages = _Column(
        _multiple(new_views.values, differences.sessions.values, otherwise=0.0), new_views.known
    )
    return {
        "distinct_users": _counts(more.frame, "distinct_users").where(is_new),
        "engagement_time_ms": times[0]
        .where(all_sessions_are_new)
        .otherwise(
            milliseconds.where(has_sessions & (time_error <= MOST_ENGAGEMENT_ERROR_SECONDS))
        ),
        "scroll_depth": depths[0]
        .where(all_sessions_are_new)
        .otherwise(
            depth.where(
                has_sessions
                & (depth.values >= 0)
                & (depth.values <= 100)
                & (depth_error <= MOST_SCROLL_ERROR_PERCENT)
            )
        ),
        "pages_per_session": pages.where(is_new).otherwise(
            new_pages.where(has_sessions & new_views.is_positive)
        ),
    }


def _mean_of_the_rest(means: tuple[_Column, _Column], weights: tuple[_Column, _Column]) -> _Column:
    """The mean of what the first has more than the second, out of both means and weights."""
    weight = weights[0].values.astype(np.float64) - weights[1].values
    total = means[0].values * weights[0].values - means[1].values * weights[1].values
    known = weight > 0
    for column in (*means, *weights):
        known = known & column.known
    return _Column(_multiple(total, weight, otherwise=0.0) * known, known)


def _multiple(numerator: _Numbers, denominator: _Numbers, *, otherwise: float = np.inf) -> _Floats:
    """The quotient where the denominator is positive."""
    positive = denominator > 0
    return np.where(positive, numerator / np.where(positive, denominator, 1), otherwise)


def _came_no_more(less: _Side, differences: _Differences, dimension_set: str) -> _Bools:
    """Tuples that the shorter reply accounts for; the overview is one row whatever happened."""
    if dimension_set == OVERVIEW.dimension_set:
        return np.zeros(len(less.present), dtype=np.bool_)
    something = differences.negative > 0
    for column in differences.columns.values():
        something = something | column.is_positive
    return less.present & differences.sessions.is_zero & ~something


def _is_known(more: _Side, less: _Side) -> _Bools:
    """Tuples of which neither reply lists anything that the other one may have cut.

    Several raw tuples may have become one row, and any of them may have been cut, in any block.
    """
    more_is_cut, less_is_cut = more.slice_.report.truncated, less.slice_.report.truncated
    if not more_is_cut and not less_is_cut:
        return np.ones(len(more.present), dtype=np.bool_)
    return np.array(
        [
            (longer <= shorter or not less_is_cut) and (shorter <= longer or not more_is_cut)
            for longer, shorter in zip(_raw_tuples(more), _raw_tuples(less), strict=True)
        ],
        dtype=np.bool_,
    )


def _raw_tuples(side: _Side) -> list[set[tuple[str, ...]]]:
    """By row: (block, dimension values as JSON) of every raw row that went into it."""
    keys = [dimension.row_key for dimension in Dimension]
    listed: list[set[tuple[str, ...]]] = []
    for payload in _payloads(side):
        tuples = cast("list[dict[str, Any]]", json.loads(payload) if payload else [])
        listed.append(
            {
                (block, *(json.dumps(each.get(key)) for key in keys))
                for each in tuples
                for block in each["blocks"]
                if block in TUPLE_BLOCKS
            }
        )
    return listed


def _payloads(side: _Side) -> list[str | None]:
    payloads = side.frame["raw_payload"].tolist()
    return [
        payload if is_there else None
        for payload, is_there in zip(payloads, side.present.tolist(), strict=True)
    ]


def _frame(
    keys: NDArray[Any], more: _Side, less: _Side, columns: Mapping[str, _Column]
) -> pd.DataFrame:
    frame: dict[str, object] = {"dimension_hash": _objects(keys.tolist())}
    for name in DIMENSION_COLUMNS:
        both = zip(more.frame[name], less.frame[name], more.present.tolist(), strict=True)
        frame[name] = _objects([ours if is_ours else theirs for ours, theirs, is_ours in both])
    for name in METRIC_COLUMNS:
        frame[name] = columns[name].nullable(whole=name in COUNT_COLUMNS)
    frame["raw_payload"] = _objects(
        [
            f'{{"minuend":{longer or "null"},"subtrahend":{shorter or "null"}}}'
            for longer, shorter in zip(_payloads(more), _payloads(less), strict=True)
        ]
    )
    assert tuple(frame) == FRAME_COLUMNS
    return pd.DataFrame(frame, index=pd.RangeIndex(len(keys)))


def _objects(values: Sequence[object]) -> pd.Index[Any]:
    """An Index, because pandas would make its own text type, without None, of a list."""
    return pd.Index(list(values), dtype=object)


def _report(
    minuend: SliceReport, subtrahend: SliceReport, *, rows: int, negative: int
) -> SliceReport:
    """Of both replies together: what either lacks is missing, what either has is there."""
    blocks = {*minuend.row_counts, *subtrahend.row_counts}
    return SliceReport(
        raw_rows=minuend.raw_rows + subtrahend.raw_rows,
        rows=rows,
        row_counts={
            block: minuend.row_counts.get(block, 0) + subtrahend.row_counts.get(block, 0)
            for block in sorted(blocks)
        },
        truncated=minuend.truncated or subtrahend.truncated,
        unknown_blocks=_either(minuend.unknown_blocks, subtrahend.unknown_blocks),
        unknown_fields=_either(minuend.unknown_fields, subtrahend.unknown_fields),
        missing_blocks=_either(minuend.missing_blocks, subtrahend.missing_blocks),
        merged_tuples=minuend.merged_tuples + subtrahend.merged_tuples,
        unreadable_values=minuend.unreadable_values + subtrahend.unreadable_values,
        negative_differences=negative,
    )


def _either(ours: Sequence[str], theirs: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({*ours, *theirs}))
