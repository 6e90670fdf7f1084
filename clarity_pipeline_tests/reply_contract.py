"""What every reply of the Export API looks like, as one validator for captured and emulated ones.

Each function returns sentences about what is wrong, and nothing when all is well. The rules are
those of FACTS sections 2 to 6 and 14; `CAPTURED_REPLIES` says what the captured files are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clarity_pipeline.domain.dimensions import Dimension
from clarity_pipeline.domain.metrics import (
    BLOCK_FIELDS,
    BREAKDOWN_BLOCKS,
    CLICK_BLOCK_COLUMNS,
    TRUNCATION_ROWS,
    TUPLE_BLOCKS,
)

Row = Mapping[str, Any]
Blocks = Sequence[Mapping[str, Any]]
Tuple = tuple[str | None, ...]

BREAKDOWN_ROWS: Final = 10
RATIO_FIELDS: Final = frozenset(
    {
        "sessionsWithMetricPercentage",
        "sessionsWithoutMetricPercentage",
        "averageScrollDepth",
        "pagesPerSessionPercentage",
    }
)
LABEL_FIELDS: Final = frozenset({"name", "url"})
NULLABLE_FIELDS: Final = frozenset(
    {"averageScrollDepth", "pagesPerSessionPercentage", "totalTime", "activeTime"}
)
SESSIONS_ADD_UP_OVER: Final = frozenset(
    {Dimension.DEVICE, Dimension.BROWSER, Dimension.OS, Dimension.COUNTRY}
)
"""A session has one of each of these, but may have several URLs and sources (FACTS section 3)."""


@dataclass(frozen=True)
class CapturedReply:
    """A file beside this module and the request it answers; `complete` means all its blocks."""

    file_name: str
    dimensions: tuple[Dimension, ...]
    complete: bool = True

    def body(self) -> bytes:
        return (Path(__file__).parent / "captured_replies" / self.file_name).read_bytes()

    def blocks(self) -> list[dict[str, Any]]:
        return json.loads(self.body())


CAPTURED_REPLIES: Final = {
    reply.file_name.removesuffix(".json"): reply
    for reply in (
        CapturedReply("url_3d_strings.json", (Dimension.URL,)),
        CapturedReply("device_3d_strings.json", (Dimension.DEVICE,)),
        CapturedReply("country_3d_strings.json", (Dimension.COUNTRY,)),
        CapturedReply("device_3d_mixed_types.json", (Dimension.DEVICE,)),
        CapturedReply("no_dimension_3d_numbers.json", ()),
        CapturedReply("no_dimension_3d_mixed_types.json", ()),
        CapturedReply("no_dimension_3d_zero_traffic.json", ()),
        CapturedReply(
            "url_device_PARTIAL_one_block.json", (Dimension.URL, Dimension.DEVICE), complete=False
        ),
        CapturedReply(
            "channel_source_TRAFFIC_ROWS.json",
            (Dimension.CHANNEL, Dimension.SOURCE),
            complete=False,
        ),
    )
}


def check_reply(
    blocks: Blocks, dimensions: Sequence[Dimension], *, complete: bool = True
) -> list[str]:
    """Every way in which this reply is not like a real one.

    With `complete=False` blocks may be missing. Tuple sets are not compared when a block is at the
    cap of 1,000 rows: which rows survive there is unknown (FACTS section 9).
    """
    shape = [*_block_names(blocks, dimensions, complete=complete)]
    for block in blocks:
        shape += _row_shapes(block, dimensions)
    if shape:
        return shape
    by_name = {block["metricName"]: block["information"] for block in blocks}
    violations: list[str] = []
    for name, rows in by_name.items():
        violations += _block_types(name, rows)
        if name in BREAKDOWN_BLOCKS:
            violations += _breakdown(name, rows)
        else:
            violations += _tuples(name, rows, dimensions)
    if violations:
        return violations
    for name, rows in by_name.items():
        if name in CLICK_BLOCK_COLUMNS:
            violations += _click_arithmetic(name, rows, dimensions)
    violations += _scroll(by_name.get("ScrollDepth", ()))
    violations += _traffic(by_name.get("Traffic", ()))
    violations += _engagement(by_name.get("EngagementTime", ()))
    violations += _tuple_sets(by_name, dimensions)
    violations += _one_denominator(by_name, dimensions)
    return violations


def check_additivity(*, whole: Blocks, split: Blocks, split_by: Sequence[Dimension]) -> list[str]:
    """Every way in which `split` does not add up to `whole`, a reply about the same window.

    `whole` is split by nothing, or by dimensions over which sessions add up. Replies cut at the
    cap do not add up and are not for this function.
    """
    violations: list[str] = []
    whole_rows, split_rows = _by_name(whole), _by_name(split)
    sessions_add_up = set(split_by) <= SESSIONS_ADD_UP_OVER
    for name in CLICK_BLOCK_COLUMNS:
        events = [_total(rows[name], "subTotal") for rows in (whole_rows, split_rows)]
        if events[0] != events[1]:
            violations.append(f"{name}: {events[1]} events over the split, {events[0]} in all")
        violations += _sessions_add_up(
            name, "sessionsCount", whole_rows, split_rows, exactly=sessions_add_up
        )
    for field in ("totalSessionCount", "totalBotSessionCount"):
        violations += _sessions_add_up(
            "Traffic", field, whole_rows, split_rows, exactly=sessions_add_up
        )
    for field in ("totalTime", "activeTime"):
        violations += _seconds_add_up(field, whole, split)
    return violations


def _by_name(blocks: Blocks) -> dict[str, Sequence[Row]]:
    return {block["metricName"]: block["information"] for block in blocks}


def _total(rows: Sequence[Row], field: str) -> int:
    return sum(int(row[field]) for row in rows)


def _sessions_add_up(
    name: str,
    field: str,
    whole: Mapping[str, Sequence[Row]],
    split: Mapping[str, Sequence[Row]],
    *,
    exactly: bool,
) -> Iterator[str]:
    expected, found = _total(whole[name], field), _total(split[name], field)
    if found < expected or (exactly and found != expected):
        yield f"{name}: {field} is {found} over the split, {expected} in all"


def _seconds_add_up(field: str, whole: Blocks, split: Blocks) -> Iterator[str]:
    """Every average is cut to a whole second, so each session may be off by up to one."""
    expected, expected_sessions = _seconds(whole, field)
    found, found_sessions = _seconds(split, field)
    if abs(expected - found) > expected_sessions + found_sessions:
        yield f"EngagementTime: {field} is {found} s over the split, {expected} s in all"


def _seconds(blocks: Blocks, field: str) -> tuple[int, int]:
    rows = _by_name(blocks)
    labels = [key for key in rows["EngagementTime"][0] if key not in BLOCK_FIELDS["EngagementTime"]]
    sessions = {
        tuple(row[label] for label in labels): int(row["sessionsCount"])
        for row in rows["RageClickCount"]
    }
    seconds = sum(
        sessions[tuple(row[label] for label in labels)] * int(row[field] or 0)
        for row in rows["EngagementTime"]
    )
    return seconds, sum(sessions.values())


def _block_names(
    blocks: Blocks, dimensions: Sequence[Dimension], *, complete: bool
) -> Iterator[str]:
    expected = [*TUPLE_BLOCKS] if dimensions else [*TUPLE_BLOCKS, *BREAKDOWN_BLOCKS]
    for block in blocks:
        if list(block) != ["metricName", "information"]:
            yield f"a block has the keys {list(block)}"
            return
    names = [block["metricName"] for block in blocks]
    if not complete:
        expected = [name for name in expected if name in names]
    if names != expected:
        yield f"the blocks are {names}, not {expected}"


def _row_shapes(block: Mapping[str, Any], dimensions: Sequence[Dimension]) -> Iterator[str]:
    name = block["metricName"]
    expected = [*BLOCK_FIELDS.get(name, ())]
    if name not in BREAKDOWN_BLOCKS:
        expected += [dimension.row_key for dimension in dimensions]
    for row in block["information"]:
        if list(row) != expected:
            yield f"{name}: a row has the keys {list(row)}, not {expected}"
            return


def _block_types(name: str, rows: Sequence[Row]) -> Iterator[str]:
    count_types: set[str] = set()
    for row in rows:
        for field in BLOCK_FIELDS[name]:
            value = row[field]
            if field in LABEL_FIELDS or (value is None and field in NULLABLE_FIELDS):
                continue
            if field in RATIO_FIELDS:
                if not _is_plain_number(value):
                    yield f"{name}: {field} is {value!r}"
            elif _is_count(value):
                count_types.add("string" if isinstance(value, str) else "number")
            else:
                yield f"{name}: {field} is {value!r}"
    if len(count_types) > 1:
        yield f"{name}: strings and numbers in one block"


def _is_count(value: object) -> bool:
    if isinstance(value, str):
        return value.isascii() and value.isdigit() and value == str(int(value))
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_plain_number(value: object) -> bool:
    """A number that has a fraction, or is written without one."""
    if isinstance(value, float):
        return not value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool)


def _breakdown(name: str, rows: Sequence[Row]) -> Iterator[str]:
    label, count = BLOCK_FIELDS[name]
    counts = [int(row[count]) for row in rows]
    labels = [row[label] for row in rows]
    if counts != sorted(counts, reverse=True):
        yield f"{name}: not sorted by count"
    if len(rows) > BREAKDOWN_ROWS:
        yield f"{name}: {len(rows)} rows"
    if len(set(labels)) != len(labels):
        yield f"{name}: a label occurs twice"
    if any(number < 1 for number in counts):
        yield f"{name}: a row without sessions"
    for text in labels:
        if not isinstance(text, str) and not (text is None and name == "ReferrerUrl"):
            yield f"{name}: the label {text!r}"


def _tuple_of(row: Row, dimensions: Sequence[Dimension]) -> Tuple:
    return tuple(row[dimension.row_key] for dimension in dimensions)


def _tuples(name: str, rows: Sequence[Row], dimensions: Sequence[Dimension]) -> Iterator[str]:
    tuples = [_tuple_of(row, dimensions) for row in rows]
    if len(set(tuples)) != len(tuples):
        yield f"{name}: a tuple occurs twice"
    if len(rows) > TRUNCATION_ROWS:
        yield f"{name}: {len(rows)} rows, over the cap"
    if not dimensions and len(rows) != 1:
        yield f"{name}: {len(rows)} rows without dimensions"
    for dimension in dimensions:
        for value in {row[dimension.row_key] for row in rows}:
            may_be_null = name == "Traffic" and dimension is Dimension.URL
            if not isinstance(value, str) and not (value is None and may_be_null):
                yield f"{name}: {dimension.row_key} is {value!r}"


def _click_arithmetic(
    name: str, rows: Sequence[Row], dimensions: Sequence[Dimension]
) -> Iterator[str]:
    for row in rows:
        sessions, views, events = (
            int(row[field]) for field in ("sessionsCount", "pagesViews", "subTotal")
        )
        percent = row["sessionsWithMetricPercentage"]
        affected = _affected_sessions(sessions, percent)
        where = f"{name} {_tuple_of(row, dimensions)}"
        if dimensions and sessions < 1:
            yield f"{where}: no human session"
        if affected is None:
            yield f"{where}: {percent} % of {sessions} sessions is no whole number of them"
        elif not affected <= views <= events:
            yield f"{where}: {affected} sessions, {views} page views, {events} events"
        if (views == 0) != (events == 0) or (percent == 0 and events and sessions < 10_000):
            yield f"{where}: {percent} % with {views} page views and {events} events"
        if row["sessionsWithoutMetricPercentage"] != 100 - percent:
            yield f"{where}: the percentages are not each other's rest"
        if name in {"QuickbackClick", "ExcessiveScroll"} and views != events:
            yield f"{where}: {views} page views, {events} events"


def _affected_sessions(sessions: int, percent: float) -> int | None:
    """The fewest sessions that give this percentage, None when no whole number does."""
    if sessions == 0:
        return 0 if percent == 0 else None
    near = int(sessions * percent / 100)
    for affected in range(max(0, near - 1 - sessions // 20_000), min(sessions, near + 2) + 1):
        if round(100 * affected / sessions, 2) == percent:
            return affected
    return None


def _scroll(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        depth = row["averageScrollDepth"]
        if depth is not None and not (0 <= depth <= 100 and round(depth, 2) == depth):
            yield f"ScrollDepth: {depth}"


def _traffic(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        ratio = row["pagesPerSessionPercentage"]
        if ratio is not None and ratio < 1:
            yield f"Traffic: {ratio} pages per session"
        if ratio is None and int(row["totalSessionCount"]) > 0:
            yield "Traffic: sessions without a ratio"


def _engagement(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        total, active = row["totalTime"], row["activeTime"]
        if (total is None) != (active is None):
            yield "EngagementTime: one of the times is null"
        elif total is not None and int(active) > int(total):
            yield f"EngagementTime: {active} s active of {total} s"


def _tuple_sets(
    by_name: Mapping[str, Sequence[Row]], dimensions: Sequence[Dimension]
) -> Iterator[str]:
    if any(len(rows) == TRUNCATION_ROWS for rows in by_name.values()):
        return
    sets = {
        name: {_tuple_of(row, dimensions) for row in rows}
        for name, rows in by_name.items()
        if name in TUPLE_BLOCKS
    }
    traffic = sets.pop("Traffic", None)
    human = next(iter(sets.values()), set[Tuple]())
    for name, tuples in sets.items():
        if tuples != human:
            yield f"{name}: its tuples differ from those of the first block"
        if traffic is not None and not tuples <= traffic:
            yield f"{name}: it has tuples that Traffic lacks"


def _one_denominator(
    by_name: Mapping[str, Sequence[Row]], dimensions: Sequence[Dimension]
) -> Iterator[str]:
    seen: dict[Tuple, int] = {}
    for name in CLICK_BLOCK_COLUMNS:
        for row in by_name.get(name, ()):
            sessions = int(row["sessionsCount"])
            if seen.setdefault(_tuple_of(row, dimensions), sessions) != sessions:
                yield f"{name} {_tuple_of(row, dimensions)}: another sessionsCount than elsewhere"
    for row in by_name.get("EngagementTime", ()):
        sessions = seen.get(_tuple_of(row, dimensions), 0)
        if seen and (row["totalTime"] is None) != (sessions == 0):
            yield f"EngagementTime {_tuple_of(row, dimensions)}: {sessions} sessions, and no time"
