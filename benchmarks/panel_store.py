"""A store as an agency has it after a year: many businesses, every table that the panel reads.

The numbers are made up but not random from one run to the next. A few businesses are made in
Python; the database copies them to all others, day by day, so that the rows lie on the disk as
a year of schedules would have left them. One business is busy: 900 pages a day.

    python benchmarks/panel_store.py sqlite:////tmp/panel.db --businesses 1000 --days 365
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    func,
    insert,
    select,
    text,
)

from clarity_pipeline.domain.aggregates import AGGREGATES_VERSION, DAILY_SUM_COLUMNS
from clarity_pipeline.domain.days import week_of
from clarity_pipeline.domain.dimensions import (
    DEFAULT_COMBOS,
    URL_DEVICE,
    Dimension,
    DimensionCombo,
    dimension_hashes,
)
from clarity_pipeline.domain.metrics import METRIC_COLUMNS
from clarity_pipeline.store.aggregates import url_hash
from clarity_pipeline.store.bulk import Replacement, replace_rows
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.dimension_aggregates import SliceToRollUp, roll_up
from clarity_pipeline.store.partitions import ensure_partitions
from clarity_pipeline.store.schema import (
    api_calls,
    business_aggregates,
    business_config,
    businesses,
    daily_metrics,
    daily_slices,
    raw_exports,
    sync_jobs,
    url_aggregates,
)
from clarity_pipeline.store.url_weeks import sum_up_week

TEMPLATES: Final = 10
"""Businesses made in Python beside the busy one; all others are copies of them."""

BUSY: Final = "business-0000"
"""The business with many pages."""

_DAYS_WITH_BODY: Final = 7
"""Older replies have lost theirs to retention; a body fills what a small reply of Clarity does."""

_BODY: Final = bytes(range(256)) * 12

_VALUES: Final[Mapping[Dimension, Sequence[str | None]]] = {
    Dimension.DEVICE: ("Mobile", "PC", "Tablet", "Other"),
    Dimension.SOURCE: ("google", "", "facebook", "instagram", "bing", "newsletter", "chatgpt.com"),
    Dimension.COUNTRY: (
        *("Germany", "Austria", "Switzerland", "United States", "United Kingdom", "France"),
        *("Italy", "Spain", "Poland", "Czech Republic", "Korea, Republic of", "Netherlands"),
    ),
    Dimension.CAMPAIGN: (None, "", *(f"campaign {number}" for number in range(40))),
    Dimension.CHANNEL: ("PaidSearch", "Direct", "OrganicSearch", "Referral", "Other"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSize:
    """How large the store is to be.

    `page_days` and `metrics_days` are how many of the latest days have pages, and rows of
    `clarity_daily_metrics`; the busy business has pages on every day and `busy_metrics_days`.
    """

    businesses: int = 1000
    days: int = 365
    pages: int = 50
    busy_pages: int = 900
    page_days: int = 30
    metrics_days: int = 1
    busy_metrics_days: int = 90
    last_day: date = date(2026, 11, 1)

    def latest(self, days: int) -> list[date]:
        """The latest days of the store, at most so many, oldest first."""
        count = min(days, self.days)
        return [self.last_day - timedelta(days=count - 1 - index) for index in range(count)]


def business_id(number: int) -> str:
    return f"business-{number:04d}"


def fill(database: Database, size: StoreSize, *, seed: int = 7) -> None:
    """Fill an empty store. Business 0 is the busy one, 1 to 10 are those that are copied."""
    with database.transaction() as connection:
        _add_businesses(connection, size)
    templates = range(min(size.businesses, TEMPLATES + 1))
    for number in templates:
        _make_template(database, size, number, random.Random(seed * 1000 + number))
    if size.businesses > len(templates):
        _copy_templates(database, size, first=len(templates))
    for number in range(size.businesses):
        _roll_up(database, size, number)
    with database.transaction() as connection:
        if database.dialect_name == "postgresql":
            for table in (raw_exports, sync_jobs):
                newest = select(func.max(table.c.id)).scalar_subquery()
                sequence = func.pg_get_serial_sequence(table.name, "id")
                connection.execute(select(func.setval(sequence, newest)))
    if database.dialect_name == "postgresql":
        autocommit = database.engine.execution_options(isolation_level="AUTOCOMMIT")
        with autocommit.connect() as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")


def _instant(day: date, *, hours: float = 0.25) -> datetime:
    """So long after the end of a day: the schedule comes at 00:15 UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1, hours=hours)


def _project(number: int) -> str:
    return f"project{number:05d}"


def _add_businesses(connection: Connection, size: StoreSize) -> None:
    created_at = _instant(size.latest(size.days)[0])
    numbers = range(size.businesses)
    connection.execute(
        insert(businesses),
        [
            {"id": business_id(number), "name": _name(number), "created_at": created_at}
            for number in numbers
        ],
    )
    synced_at = _instant(size.last_day)
    configs: list[dict[str, object]] = []
    for number in numbers:
        disabled_by = {21: "user", 42: "auth_failure"}.get(number % 50)
        configs.append(
            {
                "business_id": business_id(number),
                "project_id": None if number % 50 == 33 else _project(number),
                "token_ciphertext": None if number % 50 == 33 else "no token",
                "token_fingerprint": f"{number:032d}",
                "sync_enabled": disabled_by is None,
                "disabled_by": disabled_by,
                "disabled_reason": None if disabled_by is None else "For the benchmark.",
                "disabled_at": None if disabled_by is None else synced_at,
                "last_synced_at": synced_at + timedelta(seconds=number),
                "created_at": created_at,
                "updated_at": created_at,
            }
        )
    connection.execute(insert(business_config), configs)


def _name(number: int) -> str:
    trades = ("Bakery", "Travel", "Cycles", "Dental", "Garden", "Optics", "Shoes", "Tea")
    return f"{trades[number % len(trades)]} {number:04d}"


def _make_template(database: Database, size: StoreSize, number: int, chance: random.Random) -> None:
    identity = business_id(number)
    days = size.latest(size.days)
    rows: dict[Table, list[dict[str, Any]]] = {
        table: []
        for table in (raw_exports, api_calls, sync_jobs, daily_slices, business_aggregates)
    }
    first_export = number * size.days * len(DEFAULT_COMBOS) + 1
    level = 20 * chance.randint(2, 30) * (10 if identity == BUSY else 1)
    standing: list[date] = []
    for index, day in enumerate(days):
        fate = chance.random()
        combos = DEFAULT_COMBOS if fate > 0.05 else DEFAULT_COMBOS[:3] if fate > 0.03 else ()
        late_by = 6.0 if fate > 0.98 else 0.25
        rows[sync_jobs].append(
            _job(number * size.days + index + 1, identity, day, combos=combos, late_by=late_by)
        )
        for slot, combo in enumerate(combos, start=1):
            export_id = first_export + index * len(DEFAULT_COMBOS) + slot - 1
            is_cut = identity == BUSY and combo is URL_DEVICE and fate > 0.9
            has_body = (size.last_day - day).days < _DAYS_WITH_BODY
            reply = _reply(export_id, number, day, combo, slot, late_by=late_by)
            reply |= {"truncated": is_cut, "body_zstd": _BODY if has_body else b""}
            rows[raw_exports].append(reply)
            rows[api_calls].append(_call(number, day, combo, slot, late_by=late_by))
            rows[daily_slices].append(_slice(reply, is_cut=is_cut, is_derived=0.05 < fate < 0.06))
        if combos:
            standing.append(day)
            rows[business_aggregates].append(
                {
                    "business_id": identity,
                    "date": day,
                    **_sums(chance, sessions=chance.randint(level // 2, level)),
                    "session_basis": "page_sessions",
                    "truncated": identity == BUSY and fate > 0.9,
                    "built_from": "panel_store",
                    "updated_at": _instant(day),
                }
            )
    pages, page_days, metrics_days = size.pages, size.page_days, size.metrics_days
    if identity == BUSY:
        pages, page_days, metrics_days = size.busy_pages, size.days, size.busy_metrics_days
    with_pages = [day for day in standing if day in set(size.latest(page_days))]
    with_metrics = [day for day in standing if day in set(size.latest(metrics_days))]
    ensure_partitions(database, daily_metrics, days=set(with_metrics))
    with database.transaction() as connection:
        for table, of_table in rows.items():
            if of_table:
                connection.execute(insert(table), of_table)
        for day in with_pages:
            replace_rows(
                connection, url_aggregates, [_page_rows(chance, identity, day, pages=pages)]
            )
        for day in with_metrics:
            replace_rows(
                connection, daily_metrics, [_metric_rows(chance, identity, day, pages=pages)]
            )


def _job(
    job_id: int, identity: str, day: date, *, combos: Sequence[DimensionCombo], late_by: float
) -> dict[str, Any]:
    done = len(combos) == len(DEFAULT_COMBOS)
    return {
        "id": job_id,
        "business_id": identity,
        "date": day,
        "trigger": "schedule",
        "status": "succeeded" if done else "partial" if combos else "failed",
        "started_at": _instant(day, hours=late_by),
        "finished_at": _instant(day, hours=late_by + 0.01),
        "calls_used": len(combos),
        "rows_written": 60 * len(combos),
        "combos": {
            combo.dimension_set: {
                "status": "fetched" if combo in combos else "failed",
                "calls": 1 if combo in combos else 0,
            }
            for combo in DEFAULT_COMBOS
        },
        "error_code": None if done else "service_unavailable",
        "error_message": None if done else "Clarity answered 503; it will be asked again.",
    }


def _reply(
    export_id: int, number: int, day: date, combo: DimensionCombo, slot: int, *, late_by: float
) -> dict[str, Any]:
    asked_at = _instant(day, hours=late_by)
    return {
        "id": export_id,
        "business_id": business_id(number),
        "project_id": _project(number),
        "date": day,
        "dimension_set": combo.dimension_set,
        "dimensions": combo.dimension_set,
        "num_of_days": 1,
        "purpose": "schedule",
        "slot": slot,
        "http_status": 200,
        "requested_at": asked_at,
        "received_at": asked_at,
        "window_start": asked_at - timedelta(days=1),
        "window_end": asked_at,
        "body_bytes": len(_BODY),
        "stored_bytes": len(_BODY),
        "sha256": hashlib.sha256(_BODY).hexdigest(),
        "verdict": "accepted",
        "row_counts": {"Traffic": 60},
        "unknown_blocks": [],
    }


def _call(
    number: int, day: date, combo: DimensionCombo, slot: int, *, late_by: float
) -> dict[str, Any]:
    return {
        "project_id": _project(number),
        "utc_day": day + timedelta(days=1),
        "slot": slot,
        "business_id": business_id(number),
        "purpose": "schedule",
        "dimension_set": combo.dimension_set,
        "reserved_at": _instant(day, hours=late_by),
        "settled_at": _instant(day, hours=late_by),
        "outcome": "landed",
    }


def _slice(reply: Mapping[str, Any], *, is_cut: bool, is_derived: bool) -> dict[str, Any]:
    return {
        **{
            name: reply[name]
            for name in ("business_id", "date", "dimension_set", "window_start", "window_end")
        },
        "raw_export_id": reply["id"],
        "subtracted_export_id": reply["id"] if is_derived else None,
        "built_from": "panel_store",
        "rows": 60,
        "raw_rows": 60,
        "truncated": is_cut,
        "row_counts": {"Traffic": 60},
        "unknown_blocks": [],
        "unknown_fields": [],
        "missing_blocks": [],
        "merged_tuples": 0,
        "unreadable_values": 0,
        "updated_at": reply["requested_at"],
    }


def _sums(chance: random.Random, *, sessions: int) -> dict[str, Any]:
    page_views = sessions * 1.5
    return {
        "sessions": sessions,
        "rage_clicks": round(sessions * chance.random() * 0.08),
        "rage_click_sessions": sessions,
        "dead_clicks": round(sessions * chance.random() * 0.2),
        "dead_click_sessions": sessions,
        "excessive_scroll": round(sessions * chance.random() * 0.03),
        "quick_backs": round(sessions * chance.random() * 0.1),
        "quick_back_sessions": sessions,
        "scroll_depth_sum": page_views * chance.randint(30, 80),
        "scroll_depth_page_views": page_views,
        "engagement_time_ms_sum": sessions * 1000 * chance.randint(10, 90),
        "engagement_sessions": sessions,
    }


def _url(page: int) -> str:
    return f"https://shop.example/category-{page % 17}/product-{page:04d}?variant={page % 5}"


def _page_rows(chance: random.Random, identity: str, day: date, *, pages: int) -> Replacement:
    urls = [_url(page) for page in range(pages)]
    sums = [_sums(chance, sessions=int(40 * chance.paretovariate(1.2))) for _ in urls]
    return Replacement(
        scope={"business_id": identity, "date": day},
        key="url_hash",
        constants={
            "truncated": False,
            "built_from": "panel_store",
            "updated_at": _instant(day),
        },
        columns={
            "url_hash": [url_hash(url) for url in urls],
            "url": urls,
            **{name: [each[name] for each in sums] for name in DAILY_SUM_COLUMNS},
        },
    )


def _tuples(combo: DimensionCombo, *, pages: int) -> Iterator[tuple[str | None, ...]]:
    """The dimension values of the rows of a slice, at most the 1,000 that Clarity gives."""
    others = combo.dimensions[1:]
    for number in range(min(1000, pages * 2 if combo is URL_DEVICE else pages * 3)):
        page, variant = number % pages, number // pages
        yield (
            _url(page),
            *(
                _VALUES[other][(page * 7 + variant * 3 + place) % len(_VALUES[other])]
                for place, other in enumerate(others)
            ),
        )


def _metric_rows(chance: random.Random, identity: str, day: date, *, pages: int) -> Replacement:
    columns: dict[str, list[Any]] = {
        name: []
        for name in (
            *("dimension_hash", "dimension_set", "raw_payload"),
            *(dimension.column for dimension in Dimension),
            *METRIC_COLUMNS,
        )
    }
    for combo in DEFAULT_COMBOS:
        rows = list(dict.fromkeys(_tuples(combo, pages=pages)))
        columns["dimension_hash"] += dimension_hashes(combo.dimension_set, combo.dimensions, rows)
        columns["dimension_set"] += [combo.dimension_set] * len(rows)
        for dimension in Dimension:
            place = combo.dimensions.index(dimension) if dimension in combo.dimensions else None
            columns[dimension.column] += [None if place is None else row[place] for row in rows]
        for _ in rows:
            sessions = int(5 * chance.paretovariate(1.2))
            values: dict[str, Any] = {
                "sessions": sessions,
                "bot_sessions": chance.randint(0, 3),
                "distinct_users": sessions,
                "pages_per_session": 1 + chance.random(),
                "scroll_depth": 100 * chance.random(),
                "engagement_time_ms": 1000 * chance.randint(0, 120),
                **{name: chance.randint(0, max(1, sessions // 10)) for name in METRIC_COLUMNS[6:]},
            }
            for name, value in values.items():
                columns[name].append(value)
            columns["raw_payload"].append(_PAYLOAD)
    return Replacement(
        scope={"business_id": identity, "date": day},
        key="dimension_hash",
        constants={
            "window_start": _instant(day, hours=-23.75),
            "window_end": _instant(day),
            "raw_export_id": 1,
            "updated_at": _instant(day),
        },
        columns=columns,
    )


_PAYLOAD: Final = json.dumps(
    [{"blocks": {name: {"subTotal": 3, "sessionsCount": 12} for name in METRIC_COLUMNS[:9]}}]
)

_copies: Final = Table(
    "panel_store_copies",
    MetaData(),
    Column("template", String(64), nullable=False),
    Column("copy", String(64), nullable=False),
    Column("project_id", String(20), nullable=False),
    Column("round", Integer, nullable=False),
    prefixes=["TEMPORARY"],
)


def _copy_templates(database: Database, size: StoreSize, *, first: int) -> None:
    """Give every further business what one of the templates has, with other ids."""
    exports_apart = (TEMPLATES + 1) * size.days * len(DEFAULT_COMBOS)
    jobs_apart = (TEMPLATES + 1) * size.days
    round_ = _copies.c.round
    changes: dict[Table, dict[str, ColumnElement[Any]]] = {
        raw_exports: {
            "id": raw_exports.c.id + round_ * exports_apart,
            "project_id": _copies.c.project_id,
        },
        api_calls: {"project_id": _copies.c.project_id},
        sync_jobs: {"id": sync_jobs.c.id + round_ * jobs_apart},
        daily_slices: {"raw_export_id": daily_slices.c.raw_export_id + round_ * exports_apart},
        business_aggregates: {"rage_clicks": business_aggregates.c.rage_clicks + round_ % 7},
        url_aggregates: {"rage_clicks": url_aggregates.c.rage_clicks + round_ % 7},
        daily_metrics: {},
    }
    days_of: dict[Table, int] = {url_aggregates: size.page_days, daily_metrics: size.metrics_days}
    with database.transaction() as connection:
        _copies.create(connection)
        connection.execute(
            insert(_copies),
            [
                {
                    "template": business_id(1 + (number - 1) % TEMPLATES),
                    "copy": business_id(number),
                    "project_id": _project(number),
                    "round": (number - 1) // TEMPLATES,
                }
                for number in range(first, size.businesses)
            ],
        )
        for table, changed in changes.items():
            day_column = table.c.utc_day if table is api_calls else table.c.date
            offset = timedelta(days=1 if table is api_calls else 0)
            for day in size.latest(days_of.get(table, size.days)):
                _copy_day(connection, table, changed, day_column == day + offset)
        connection.execute(text(f"DROP TABLE {_copies.name}"))


def _copy_day(
    connection: Connection,
    table: Table,
    changed: Mapping[str, ColumnElement[Any]],
    on_the_day: ColumnElement[bool],
) -> None:
    taken = {"business_id": _copies.c.copy, **changed}
    names = [column.name for column in table.c]
    rows = (
        select(*(taken.get(name, table.c[name]).label(name) for name in names))
        .join_from(table, _copies, _copies.c.template == table.c.business_id)
        .where(on_the_day)
        .order_by(_copies.c.copy)
    )
    connection.execute(insert(table).from_select(names, rows))


def _roll_up(database: Database, size: StoreSize, number: int) -> None:
    """What the pipeline makes of a business's rows: sums by dimension value, weeks of pages."""
    identity, now = business_id(number), _instant(size.last_day)
    is_busy = identity == BUSY
    with database.transaction() as connection:
        for day in size.latest(size.busy_metrics_days if is_busy else size.metrics_days):
            slices = [
                SliceToRollUp(
                    business_id=identity,
                    day=day,
                    dimension_set=combo.dimension_set,
                    built_from=f"panel_store:{AGGREGATES_VERSION}",
                )
                for combo in DEFAULT_COMBOS
            ]
            roll_up(connection, slices, now=now)
        for day in {week_of(day) for day in size.latest(size.days if is_busy else size.page_days)}:
            sum_up_week(connection, business_id=identity, day=day, now=now)


def main() -> None:
    usual = StoreSize()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--businesses", type=int, default=usual.businesses)
    parser.add_argument("--days", type=int, default=usual.days)
    arguments = parser.parse_args()
    began = time.perf_counter()
    with Database.open(arguments.url) as database:
        fill(database, StoreSize(businesses=arguments.businesses, days=arguments.days))
    print(f"Filled in {time.perf_counter() - began:.0f} s.")


if __name__ == "__main__":
    main()
