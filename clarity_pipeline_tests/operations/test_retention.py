"""What retention takes away and what it leaves, on both databases, and that replays respect it."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from clarity_pipeline.domain.dimensions import URL_DEVICE, URL_SOURCE, DimensionCombo
from clarity_pipeline.domain.errors import ExportRemoved, StoreError
from clarity_pipeline.domain.quota import Purpose
from clarity_pipeline.domain.retention import Kept, Removal, RetentionLimits
from clarity_pipeline.operations import retention
from clarity_pipeline.operations.rebuild_day import raise_if_nothing_worked, rebuild
from clarity_pipeline.operations.replay_day import ReplayStatus, replay_day
from clarity_pipeline.operations.retention import remove_exports, remove_payloads
from clarity_pipeline.store import businesses, exports
from clarity_pipeline.store import retention as stored
from clarity_pipeline.store.database import Database
from clarity_pipeline_tests.domain.replies import Visits
from clarity_pipeline_tests.factories import DAY, NOW, land_export, make_export

A_WEEK = RetentionLimits(payload_days=7, exports_days=7)
LATER = NOW + timedelta(days=10)
"""The first day kept is then DAY + 4: DAY to DAY + 3 are too old."""

FOUR_OLD_DAYS = 4


def land_day(
    database: Database, day: date, *, business_id: str = "acme", combo: DimensionCombo = URL_DEVICE
) -> int:
    pages = [
        Visits((f"https://shop.example/{day.day}/{page}", "PC"), sessions=3, dead=page, depth=50.0)
        for page in range(3)
    ]
    requested_at = NOW + (day - DAY)
    export = make_export(*pages, combo=combo, requested_at=requested_at)
    return land_export(database, export, business_id=business_id, day=day)


def days(count: int) -> list[date]:
    return [DAY + timedelta(days=number) for number in range(count)]


@pytest.fixture
def history(database: Database) -> Database:
    """Two businesses with six days of two slices each, landed and built."""
    for business_id in ("acme", "globex"):
        businesses.add_business(database, business_id=business_id, name=business_id, now=NOW)
        for day in days(6):
            for combo in (URL_DEVICE, URL_SOURCE):
                land_day(database, day, business_id=business_id, combo=combo)
    for day in days(6):
        rebuild(database, day=day, now=NOW)
    return database


def rows_of(database: Database, columns: str, *, table: str = "clarity_daily_metrics") -> list[Any]:
    with database.reading() as connection:
        statement = f"SELECT {columns} FROM {table} ORDER BY business_id, date, dimension_set"
        return list(connection.execute(text(statement)))


def with_payload(database: Database) -> dict[str, int]:
    """Rows with a payload by day."""
    found: dict[str, int] = {}
    for day, payload in rows_of(database, "date, CAST(raw_payload AS TEXT)"):
        found[str(day)] = found.get(str(day), 0) + (payload != "[]")
    return found


def rows_of_aggregates(database: Database) -> list[Any]:
    with database.reading() as connection:
        statement = "SELECT * FROM clarity_business_aggregates ORDER BY business_id, date"
        return list(connection.execute(text(statement)))


EVERYTHING_BUT_PAYLOAD = (
    "business_id, date, dimension_set, dimension_hash, url, device, source, sessions, dead_clicks, "
    "scroll_depth, window_start, window_end, raw_export_id, updated_at"
)


def test_payloads_of_old_days_go_and_everything_else_stays(history: Database) -> None:
    before = sorted(map(repr, rows_of(history, EVERYTHING_BUT_PAYLOAD)))
    size = sum(len(payload) for (payload,) in rows_of(history, "CAST(raw_payload AS TEXT)"))
    removal = remove_payloads(history, A_WEEK, now=LATER)

    old_rows = 2 * 2 * 3 * FOUR_OLD_DAYS
    assert (removal.kind, removal.cutoff) == (Kept.PAYLOADS, DAY + timedelta(days=4))
    assert removal.rows == old_rows
    assert 0 < removal.stored_bytes < size
    assert (removal.oldest_day, removal.newest_day) == (DAY, DAY + timedelta(days=3))
    assert list(with_payload(history).values()) == [0, 0, 0, 0, 12, 12]
    assert sorted(map(repr, rows_of(history, EVERYTHING_BUT_PAYLOAD))) == before


def test_bodies_of_old_days_go_and_what_they_were_stays(history: Database) -> None:
    columns = (
        "business_id, date, dimension_set, sha256, body_bytes, http_status, verdict, "
        "window_start, window_end, requested_at, received_at, truncated, slot"
    )
    before = rows_of(history, columns, table="clarity_raw_exports")
    sizes = rows_of(history, "date, stored_bytes", table="clarity_raw_exports")
    cutoff = DAY + timedelta(days=4)
    removal = remove_exports(history, A_WEEK, now=LATER)

    assert removal == Removal(
        Kept.EXPORTS,
        cutoff,
        rows=2 * 2 * FOUR_OLD_DAYS,
        stored_bytes=sum(size for day, size in sizes if str(day) < str(cutoff)),
        oldest_day=DAY,
        newest_day=DAY + timedelta(days=3),
    )
    assert rows_of(history, columns, table="clarity_raw_exports") == before
    for day in days(6):
        for reply in exports.list_exports(history, day=day):
            assert reply.has_body is (day >= cutoff)
            if day >= cutoff:
                assert exports.read_export(history, reply.id).export.sha256 == reply.sha256
            else:
                with pytest.raises(ExportRemoved, match="removed by retention"):
                    exports.read_export(history, reply.id)


@pytest.mark.parametrize("remove", [remove_payloads, remove_exports])
def test_a_second_time_there_is_nothing_left_to_remove(history: Database, remove: Any) -> None:
    first = remove(history, A_WEEK, now=LATER)
    assert first.rows > 0
    assert remove(history, A_WEEK, now=LATER) == Removal(first.kind, first.cutoff)


@pytest.mark.parametrize("remove", [remove_payloads, remove_exports])
def test_a_dry_run_says_what_would_go_and_writes_nothing(history: Database, remove: Any) -> None:
    table = "clarity_raw_exports" if remove is remove_exports else "clarity_daily_metrics"
    before = sorted(map(repr, rows_of(history, "*", table=table)))
    foretold = remove(history, A_WEEK, now=LATER, dry_run=True)
    assert sorted(map(repr, rows_of(history, "*", table=table))) == before
    assert remove(history, A_WEEK, now=LATER) == foretold
    assert foretold.rows > 0


@pytest.mark.parametrize("remove", [remove_payloads, remove_exports])
def test_without_a_setting_nothing_goes(history: Database, remove: Any) -> None:
    removal = remove(history, RetentionLimits(), now=LATER)
    assert (removal.cutoff, removal.rows) == (None, 0)
    assert set(with_payload(history).values()) == {12}


THIRD_DAY = DAY + timedelta(days=2)


def refuse_updates_of_the_third_day(database: Database, table: str) -> None:
    """The database itself ends the work in the middle, at the last slice of a day."""
    condition = (
        f"NEW.date = '{THIRD_DAY}' AND NEW.business_id = 'globex' "
        "AND NEW.dimension_set = 'Source,URL'"
    )
    if database.dialect_name == "sqlite":
        statements = [
            f"CREATE TRIGGER refuse BEFORE UPDATE ON {table} WHEN {condition} "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END"
        ]
    else:
        statements = [
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'refused'; END $$",
            f"CREATE TRIGGER refuse BEFORE UPDATE ON {table} FOR EACH ROW "
            f"WHEN ({condition}) EXECUTE FUNCTION refuse()",
        ]
    with database.transaction() as connection:
        for statement in statements:
            connection.execute(text(statement))


def allow_updates_again(database: Database, table: str) -> None:
    on_table = "" if database.dialect_name == "sqlite" else f" ON {table}"
    with database.transaction() as connection:
        connection.execute(text(f"DROP TRIGGER refuse{on_table}"))


def test_payloads_whose_removal_was_stopped_go_the_next_time(history: Database) -> None:
    refuse_updates_of_the_third_day(history, "clarity_daily_metrics")
    with pytest.raises((StoreError, IntegrityError)):
        remove_payloads(history, A_WEEK, now=LATER)
    assert list(with_payload(history).values()) == [0, 0, 6, 12, 12, 12]

    allow_updates_again(history, "clarity_daily_metrics")
    rest = remove_payloads(history, A_WEEK, now=LATER)
    assert (rest.rows, rest.oldest_day) == (6 + 12, THIRD_DAY)


def test_bodies_go_in_bounded_batches_and_the_rest_the_next_time(
    history: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MOST_BODIES_PER_BATCH", 3)
    refuse_updates_of_the_third_day(history, "clarity_raw_exports")
    with pytest.raises((StoreError, IntegrityError)):
        remove_exports(history, A_WEEK, now=LATER)
    bodies = [sum(r.has_body for r in exports.list_exports(history, day=day)) for day in days(6)]
    assert bodies == [0, 0, 1, 4, 4, 4]

    allow_updates_again(history, "clarity_raw_exports")
    rest = remove_exports(history, A_WEEK, now=LATER)
    assert (rest.rows, rest.oldest_day) == (1 + 4, THIRD_DAY)


def test_a_reply_that_was_not_judged_or_not_built_keeps_its_body(history: Database) -> None:
    with history.transaction() as connection:
        connection.execute(
            text(
                "UPDATE clarity_raw_exports SET verdict = NULL "
                "WHERE business_id = 'acme' AND dimension_set = 'Device,URL'"
            )
        )
        connection.execute(
            text(
                "DELETE FROM clarity_daily_slices "
                "WHERE business_id = 'globex' AND dimension_set = 'Source,URL'"
            )
        )
    remove_exports(history, A_WEEK, now=LATER)
    left = {
        (reply.business_id, reply.dimension_set)
        for reply in exports.list_exports(history, day=DAY)
        if reply.has_body
    }
    assert left == {("acme", "Device,URL"), ("globex", "Source,URL")}


def test_replaying_what_retention_went_over_writes_nothing_and_brings_nothing_back(
    history: Database,
) -> None:
    remove_payloads(history, A_WEEK, now=LATER)
    before = sorted(map(repr, rows_of(history, "*")))
    for day in days(6):
        again = rebuild(history, day=day, now=LATER, force=True, keep_payload_days=7)
        assert (again.rows_written, again.failures) == (0, {})
    assert sorted(map(repr, rows_of(history, "*"))) == before


def test_an_old_day_that_is_built_for_the_first_time_is_built_without_payload(
    history: Database,
) -> None:
    with history.transaction() as connection:
        connection.execute(text("DELETE FROM clarity_daily_metrics"))
        connection.execute(text("DELETE FROM clarity_daily_slices"))
    for day in days(6):
        rebuild(history, day=day, now=LATER, keep_payload_days=7)
    assert list(with_payload(history).values()) == [0, 0, 0, 0, 12, 12]


def test_when_more_is_kept_again_a_replay_brings_back_what_the_bodies_still_say(
    history: Database,
) -> None:
    remove_payloads(history, A_WEEK, now=LATER)
    for day in days(6):
        rebuild(history, day=day, now=LATER, force=True, keep_payload_days=None)
    assert set(with_payload(history).values()) == {12}
    assert remove_payloads(history, A_WEEK, now=LATER).rows == 2 * 2 * 3 * FOUR_OLD_DAYS


def test_a_slice_without_a_body_stays_as_it_is_and_is_counted_not_failed(
    history: Database,
) -> None:
    remove_exports(history, A_WEEK, now=LATER)
    before = sorted(map(repr, rows_of(history, "*")))
    aggregates = rows_of_aggregates(history)
    rebuilt = rebuild(history, day=DAY, now=LATER, force=True)

    assert rebuilt.bodies_removed == {"acme": 2, "globex": 2}
    assert (rebuilt.failures, rebuilt.rows_written) == ({}, 0)
    raise_if_nothing_worked(rebuilt)
    assert sorted(map(repr, rows_of(history, "*"))) == before
    assert rows_of_aggregates(history) == aggregates


def test_a_body_removed_beside_others_leaves_those_to_be_replayed(history: Database) -> None:
    reply = next(
        reply
        for reply in exports.list_exports(history, day=DAY, business_ids=["acme"])
        if reply.dimension_set == URL_DEVICE.dimension_set
    )
    stored.empty_bodies(history, [reply.id])
    with history.transaction() as connection:
        connection.execute(text("UPDATE clarity_daily_metrics SET sessions = 0"))

    def clock() -> datetime:
        return LATER

    (acme, globex) = replay_day(history, day=DAY, business_ids=["acme", "globex"], clock=clock)
    assert (acme.status, acme.slices, acme.bodies_removed) == (ReplayStatus.REBUILT, 2, 1)
    assert (acme.rows_written, acme.error_message) == (3, None)
    assert (globex.bodies_removed, globex.rows_written) == (0, 6)


def test_a_connection_test_of_the_afternoon_goes_with_the_reply_of_record(
    history: Database,
) -> None:
    export = make_export(Visits(("https://shop.example/", "PC")), requested_at=NOW)
    exports.land(
        history,
        business_id="acme",
        project_id="abc123xyz0",
        day=DAY,
        purpose=Purpose.TEST,
        slot=9,
        export=make_export(body=export.body, requested_at=NOW + timedelta(hours=9)),
    )
    (late,) = [r for r in exports.list_exports(history, day=DAY) if r.verdict is None]
    remove_exports(history, A_WEEK, now=LATER)
    assert exports.read_export(history, late.id).export.body == export.body
