"""What a person wants to know of a day, computed from the store and never from a run's memory.

A run that repeats a single business must not rewrite the history of the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TypeVar

from clarity_pipeline.domain.collection import exports_of_record
from clarity_pipeline.domain.day_checks import DayCheck, DayFacts, markdown_table
from clarity_pipeline.domain.days import end_of, window_shift_hours
from clarity_pipeline.domain.dimensions import COMBO_BY_DIMENSION_SET, OVERVIEW, combos_of_a_day
from clarity_pipeline.domain.metrics import AGGREGATE_METRICS, CLICK_BLOCK_COLUMNS
from clarity_pipeline.domain.slice_agreement import SliceTotals, slices_agree
from clarity_pipeline.domain.sync_jobs import JobStatus
from clarity_pipeline.operations.collect_day import (
    SettledBusiness,
    first_day_of,
    should_have,
    wants_overview,
)
from clarity_pipeline.operations.rebuild_day import Rebuilt, rows_written, slice_sources
from clarity_pipeline.store import aggregates, connections, daily_metrics, exports, sync_jobs
from clarity_pipeline.store.connections import ConnectionRecord
from clarity_pipeline.store.daily_metrics import SliceState
from clarity_pipeline.store.database import Database

Number = int | float
Markdown = TypeVar("Markdown")


@dataclass(frozen=True, slots=True)
class DayReport:
    """Numbers that can be plotted over days, and a table for people.

    `failure` says in one sentence why the day has come to nothing, if it has.
    """

    numbers: Mapping[str, Number]
    table: str
    failure: str | None = None

    def metadata(self, markdown: Callable[[str], Markdown]) -> dict[str, Number | Markdown]:
        """As metadata of an orchestrator whose markdown type is given."""
        table = {"by_business": markdown(self.table)} if self.table else {}
        return {**self.numbers, **table}

    def without_table(self) -> DayReport:
        """The numbers alone: a year of tables would be more than anybody reads or can hold."""
        return replace(self, table="")


def gather_day_facts(database: Database, day: date, *, overview_default: bool) -> DayFacts:
    """What the checks of a day judge."""
    slices = {
        (state.business_id, state.dimension_set): state
        for state in daily_metrics.list_slices(database, start=day, end=day)
    }
    return DayFacts(
        day=day,
        expected=frozenset(
            (connection.business_id, combo.dimension_set)
            for connection in connections.list_connections(database)
            if should_have(connection, day) or _lost_its_token(connection, day)
            for combo in combos_of_a_day(overview=wants_overview(connection, overview_default))
        ),
        window_ends={
            key: source.window_end for key, source in slice_sources(database, day=day).items()
        },
        slices=len(slices),
        truncated={key: state.rows for key, state in slices.items() if state.truncated},
        unknown={
            key: (*state.unknown_blocks, *state.unknown_fields)
            for key, state in slices.items()
            if state.unknown_blocks or state.unknown_fields
        },
    )


def judge_slices(database: Database, day: date) -> DayCheck:
    """Whether the slices of each business agree on the day's events; see `slices_agree`."""
    states = [
        state
        for state in daily_metrics.list_slices(database, start=day, end=day)
        if state.dimension_set != OVERVIEW.dimension_set
    ]
    events = daily_metrics.sum_events(
        database, day=day, business_ids={state.business_id for state in states}
    )
    return slices_agree(
        day,
        {
            (state.business_id, state.dimension_set): SliceTotals(
                window_end=state.window_end,
                events=events.get((state.business_id, state.dimension_set), _no_events(state)),
                why_not=_why_not_comparable(state),
            )
            for state in states
        },
    )


def _no_events(state: SliceState) -> dict[str, int | None]:
    """A slice without rows: a block that came empty says there were none, one that is missing
    says nothing."""
    return {
        column: None if block in state.missing_blocks else 0
        for block, column in CLICK_BLOCK_COLUMNS.items()
    }


def _why_not_comparable(state: SliceState) -> str | None:
    if state.truncated:
        return "cut at 1,000 rows"
    if state.is_derived:
        return "derived"
    return "read in part" if state.unreadable_values else None


def report_collected_day(
    database: Database, day: date, *, settled: Sequence[SettledBusiness] = ()
) -> DayReport:
    """How the day's collection stands: outcomes, calls, replies, per business.

    It has failed when every single one of the businesses just settled has.
    """
    jobs = sync_jobs.list_jobs(database, day=day, limit=None)
    latest: dict[str, sync_jobs.SyncJob] = {}
    calls: Counter[str] = Counter()
    for job in jobs:
        latest.setdefault(job.business_id, job)
        calls[job.business_id] += job.calls_used
    record = exports_of_record(exports.list_exports(database, day=day))
    sources = slice_sources(database, day=day)
    landed: Counter[str] = Counter(business_id for business_id, _ in sources)
    statuses = Counter(job.status for job in latest.values())
    numbers: dict[str, Number] = {
        "businesses": len(latest),
        **{f"businesses_{status.value}": statuses[status] for status in JobStatus},
        "calls_used": sum(calls.values()),
        "exports_landed": len(record),
        "combos_recovered": sum(source.is_derived for source in sources.values()),
        "raw_rows": sum(
            sum(reply.row_counts.values()) for reply in record.values() if reply.row_counts
        ),
        "megabytes_landed": round(sum(r.body_bytes for r in record.values()) / 1e6, 3),
        "truncated_exports": sum(bool(reply.truncated) for reply in record.values()),
    }
    table = markdown_table(
        ("business", "status", "calls", "landed", "window off by", "message"),
        [
            (
                business_id,
                job.status.value,
                calls[business_id],
                landed[business_id],
                _shift(day, [s.window_end for (b, _), s in sources.items() if b == business_id]),
                job.error_message or "",
            )
            for business_id, job in sorted(latest.items())
        ],
    )
    return DayReport(numbers, table, failure=complaint_if_all_failed(settled))


def report_metrics_day(database: Database, day: date, rebuilt: Rebuilt) -> DayReport:
    """How the day's normalised slices stand, and what this rebuild changed."""
    slices = daily_metrics.list_slices(database, start=day, end=day)
    numbers: dict[str, Number] = {
        **write_numbers(rebuilt),
        "rows": sum(state.rows for state in slices),
        "slices": len(slices),
        "truncated_slices": sum(state.truncated for state in slices),
        "derived_slices": sum(state.is_derived for state in slices),
        "negative_differences": sum(state.negative_differences for state in slices),
        "merged_tuples": sum(state.merged_tuples for state in slices),
        "unreadable_values": sum(state.unreadable_values for state in slices),
        "unknown_blocks": len({name for state in slices for name in state.unknown_blocks}),
        "unknown_fields": len({name for state in slices for name in state.unknown_fields}),
    }
    table = markdown_table(
        ("business", "slice", "rows", "raw rows", "merged", "truncated", "unknown"),
        [
            (
                state.business_id,
                COMBO_BY_DIMENSION_SET[state.dimension_set].label,
                state.rows,
                state.raw_rows,
                state.merged_tuples,
                "yes" if state.truncated else "",
                ", ".join((*state.unknown_blocks, *state.unknown_fields)),
            )
            for state in slices
        ],
    )
    return DayReport(numbers, table)


def report_aggregates_day(database: Database, day: date, rebuilt: Rebuilt) -> DayReport:
    """The ten values of the day per business that has any."""
    rows: list[tuple[object, ...]] = []
    sessions = 0
    for business_id in (*rebuilt.written, *rebuilt.unchanged):
        values = aggregates.get_business_behavioral_aggregates(
            business_id, day, day, database=database
        )
        sessions += values.clarity_sessions or 0
        rows.append((business_id, *(_shown(value) for value in values.metrics().values())))
    header = ("business", *(name.removeprefix("clarity_") for name in AGGREGATE_METRICS))
    return DayReport(
        {**write_numbers(rebuilt), "sessions": sessions},
        markdown_table(header, sorted(rows, key=lambda row: str(row[0]))),
    )


def report_written(rebuilt: Rebuilt) -> DayReport:
    """What a rebuild wrote, and nothing else."""
    return DayReport(write_numbers(rebuilt), table="")


def write_numbers(rebuilt: Rebuilt) -> dict[str, Number]:
    """What a rebuild wrote, in numbers."""
    return {
        "rows_written": sum(rows_written(counts) for counts in rebuilt.written.values()),
        "rows_inserted": sum(counts.inserted for counts in rebuilt.written.values()),
        "rows_updated": sum(counts.updated for counts in rebuilt.written.values()),
        "rows_deleted": sum(counts.deleted for counts in rebuilt.written.values()),
        "businesses_rebuilt": len(rebuilt.written),
        "businesses_unchanged": len(rebuilt.unchanged),
        "businesses_left_alone_after_an_error": len(rebuilt.failures),
        "slices_left_alone_without_a_body": sum(rebuilt.bodies_removed.values()),
    }


def complaint_if_all_failed(settled: Sequence[SettledBusiness]) -> str | None:
    """One sentence when every business failed, None when any has data or is merely skipped."""
    fine = {JobStatus.SUCCEEDED, JobStatus.PARTIAL, JobStatus.SKIPPED}
    if not settled or any(business.status in fine for business in settled):
        return None
    first = settled[0]
    return (
        f"None of {len(settled)} businesses could be collected; the first, {first.business_id}: "
        f"{first.status.value} ({first.message}). Once mended, run the partition again "
        "or re-execute this run from failure: either asks Clarity for what is missing, no more."
    )


def _lost_its_token(record: ConnectionRecord, day: date) -> bool:
    """Whether a business was to have this day and its token was refused: switching it off does
    not make the day complete."""
    return day >= first_day_of(record) and record.was_refused_since(end_of(day))


def _shown(value: int | float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _shift(day: date, window_ends: Sequence[datetime]) -> str:
    shifts = [window_shift_hours(day, window_end=end) for end in window_ends]
    return f"{max(shifts, key=abs):+.1f} h" if shifts else ""
