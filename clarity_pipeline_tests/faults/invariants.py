"""What has to hold after any accident, whatever had been done by then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Text, cast, func, select

from clarity_pipeline.domain.exports import Verdict
from clarity_pipeline.domain.quota import DAILY_CALL_LIMIT, CallOutcome
from clarity_pipeline.export_api.emulator import ReceivedCall
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import (
    Json,
    api_calls,
    business_aggregates,
    daily_metrics,
    daily_slices,
    dimension_aggregates,
    raw_exports,
    url_aggregates,
    url_week_aggregates,
)
from clarity_pipeline_tests.agency import Agency

Rows = tuple[tuple[object, ...], ...]

TABLES = (
    *(daily_metrics, daily_slices, business_aggregates, dimension_aggregates),
    *(url_aggregates, url_week_aggregates),
)
"""All that is made of what was landed."""

WHEN_AND_WHENCE = frozenset({"updated_at", "window_start", "window_end", "raw_export_id"})
"""What may differ between two ways to the same data: instants, and the number of a reply."""


def content(database: Database) -> Mapping[str, Rows]:
    """All rows of the normalised tables in a fixed order, JSON as the bytes that are stored."""
    found: dict[str, Rows] = {}
    with database.reading() as connection:
        for table in TABLES:
            columns = [
                cast(column, Text) if isinstance(column.type, type(Json)) else column
                for column in table.c
                if column.name not in WHEN_AND_WHENCE
            ]
            rows = connection.execute(select(*columns).order_by(*table.primary_key))
            found[table.name] = tuple(tuple(row) for row in rows)
    return found


@dataclass(frozen=True, slots=True)
class Combo:
    """One kind of call of a project on a UTC day."""

    project_id: str
    utc_day: date
    dimension_set: str


def check_nothing_is_lost_or_counted_short(agency: Agency) -> None:
    """The ledger and the landed replies against what Clarity received."""
    check_ledger(agency.database, agency.calls())
    check_slices_are_whole(agency.database)


def check_ledger(database: Database, received: list[ReceivedCall]) -> None:
    """No call without a slot, no slot beyond the tenth, no reply landed twice for a slot."""
    with database.reading() as connection:
        slots = connection.execute(select(api_calls)).all()
        landed = connection.execute(
            select(
                raw_exports.c.project_id,
                raw_exports.c.requested_at,
                raw_exports.c.slot,
                raw_exports.c.dimension_set,
                raw_exports.c.verdict,
            )
        ).all()
    reserved = Counter(Combo(slot.project_id, slot.utc_day, slot.dimension_set) for slot in slots)
    sent = Counter(
        Combo(call.project_id, call.received_at.date(), call.dimension_set)
        for call in received
        if call.project_id is not None
    )
    assert not sent - reserved, "calls that no slot was reserved for"
    assert len(received) <= len(slots), "more calls than slots"
    per_day = Counter((slot.project_id, slot.utc_day) for slot in slots)
    assert all(count <= DAILY_CALL_LIMIT for count in per_day.values())
    by_slot = {(slot.project_id, slot.utc_day, slot.slot): slot for slot in slots}
    filled = [(reply.project_id, reply.requested_at.date(), reply.slot) for reply in landed]
    assert len(filled) == len(set(filled)), "two replies landed for one slot"
    for key, reply in zip(filled, landed, strict=True):
        assert by_slot[key].dimension_set == reply.dimension_set
    # Without a verdict a reply is judged by the next run, which costs no call.
    accepted = {
        key
        for key, reply in zip(filled, landed, strict=True)
        if reply.verdict in {Verdict.ACCEPTED.value, None}
    }
    said_to_have_landed = {
        key for key, slot in by_slot.items() if slot.outcome == CallOutcome.LANDED.value
    }
    assert said_to_have_landed <= accepted, "slots that say landed, and no reply to use"


def check_slices_are_whole(database: Database) -> None:
    """A slice has the rows that it says it has, all out of the reply that it says, or none."""
    keys = ("business_id", "date", "dimension_set")
    with database.reading() as connection:
        rows = connection.execute(
            select(
                *(daily_metrics.c[key] for key in keys),
                daily_metrics.c.raw_export_id,
                func.count().label("rows"),
            ).group_by(*(daily_metrics.c[key] for key in keys), daily_metrics.c.raw_export_id)
        ).all()
        slices = connection.execute(select(daily_slices)).all()
    stored = {tuple(row[:4]): row.rows for row in rows}
    said = {
        (item.business_id, item.date, item.dimension_set, item.raw_export_id): item.rows
        for item in slices
        if item.rows
    }
    assert stored == said


def check_nothing_was_asked_twice(agency: Agency, *, lost: int) -> None:
    """Every combo landed exactly once, and at most `lost` calls were made in vain."""
    with agency.database.reading() as connection:
        landed = connection.execute(
            select(raw_exports.c.business_id, raw_exports.c.dimension_set, raw_exports.c.verdict)
        ).all()
    assert len(landed) == len(set(landed)) == 4 * len(agency.projects)
    assert {reply.verdict for reply in landed} == {Verdict.ACCEPTED.value}
    assert len(agency.calls()) <= len(landed) + lost
