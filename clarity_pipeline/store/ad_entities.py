"""Campaigns, ad sets and ads, and what they cost and brought, by day."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import date, datetime
from typing import Any, Final, cast

import pandas as pd
from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    String,
    or_,
    select,
    text,
    type_coerce,
    update,
)

from clarity_pipeline.domain.ads import AD_SUMS, AdDay, AdEntity
from clarity_pipeline.domain.rules.metrics import FURTHER_SUM_PREFIX, is_further_sum
from clarity_pipeline.domain.rules.model import EntityStatus, Level
from clarity_pipeline.store.bulk import Meeting, Rows, WriteCounts, among, upsert_rows
from clarity_pipeline.store.businesses import check_businesses_exist
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import ad_entities, ad_entity_metrics

_LOCK_KEY: Final = int.from_bytes(b"ads")

_ENTITY_FIELDS: Final = tuple(each.name for each in fields(AdEntity))


def upsert_entities(database: Database, rows: Sequence[AdEntity], *, now: datetime) -> WriteCounts:
    """Add entities, or put these in place of those of the same ids; all others stay.

    What is the same is not written. Ids must differ. Raises UnknownBusiness, and then nothing was
    written.
    """
    with _importing(database) as connection:
        return _upsert(connection, rows, now=now)


def change_entities(
    database: Database,
    *,
    entity_ids: Collection[str],
    change: Callable[[Mapping[str, AdEntity]], Sequence[AdEntity]],
    now: datetime,
) -> WriteCounts:
    """As `upsert_entities`, of what `change` makes of those of these ids that there are.

    It is also told what those hang from. Nobody else changes any of them meanwhile. What hangs
    below an entity goes to another business with it.
    """
    with _importing(database) as connection:
        before = _locked(connection, entity_ids)
        above = {each.parent_id for each in before.values() if each.parent_id is not None}
        before |= _locked(connection, above.difference(before))
        changed = change(before)
        counts = _upsert(connection, changed, now=now)
        moved = [
            each.id
            for each in changed
            if each.id in before and before[each.id].business_id != each.business_id
        ]
        return counts + _move_what_hangs_below(connection, moved, now=now)


def list_entities(database: Database, *, business_ids: Collection[str] | None) -> list[AdEntity]:
    """All entities, or those of these businesses, by id; deleted ones among them."""
    statement = _entities()
    with database.reading() as connection:
        if business_ids is not None:
            statement = statement.where(among(connection, ad_entities.c.business_id, business_ids))
        return [_entity(row) for row in connection.execute(statement).mappings()]


def page_of_entities(
    database: Database, *, business_id: str | None, after: str | None, limit: int
) -> list[AdEntity]:
    """At most `limit` entities by id, of a business or of all, with ids beyond `after`."""
    statement = _entities().limit(limit)
    if business_id is not None:
        statement = statement.where(ad_entities.c.business_id == business_id)
    if after is not None:
        statement = statement.where(ad_entities.c.id > after)
    with database.reading() as connection:
        return [_entity(row) for row in connection.execute(statement).mappings()]


def find_entity(database: Database, entity_id: str) -> AdEntity | None:
    """The entity of that id; None when there is none."""
    with database.reading() as connection:
        row = (
            connection.execute(_entities().where(ad_entities.c.id == entity_id)).mappings().first()
        )
    return None if row is None else _entity(row)


def known_entity_ids(database: Database, entity_ids: Collection[str]) -> set[str]:
    """Those of these ids that there is an entity of."""
    with database.reading() as connection:
        found = select(ad_entities.c.id).where(among(connection, ad_entities.c.id, entity_ids))
        return set(connection.scalars(found))


def set_entity_state(
    database: Database,
    *,
    entity_id: str,
    status: EntityStatus | None = None,
    daily_budget: float | None = None,
    now: datetime,
) -> None:
    """Keep what an action has made of an entity; None leaves that as it is.

    Without effect on an entity that is not there.
    """
    values: dict[str, Any] = {}
    if status is not None:
        values["status"] = status.value
    if daily_budget is not None:
        values["daily_budget"] = daily_budget
    if not values:
        return
    differs = or_(*(ad_entities.c[name].is_distinct_from(value) for name, value in values.items()))
    with database.transaction() as connection:
        connection.execute(
            update(ad_entities)
            .where(ad_entities.c.id == entity_id, differs)
            .values(**values, updated_at=now)
        )


def upsert_metrics(database: Database, rows: Sequence[AdDay], *, now: datetime) -> WriteCounts:
    """Add days of entities, or lay these over those that are there.

    What a day says nothing of stays as it is: spend may come from the ad platform, and revenue from
    the shop. What is the same is not written. Pairs of entity and day must differ, and the entities
    must be there.
    """
    ordered = sorted(rows, key=lambda row: (row.entity_id, row.day))
    columns: dict[str, list[Any]] = {
        "entity_id": [row.entity_id for row in ordered],
        "date": [row.day for row in ordered],
        **{name: [getattr(row, name) for row in ordered] for name in AD_SUMS},
        "further": [_json_or_none(row.further) for row in ordered],
    }
    with _importing(database) as connection:
        return upsert_rows(
            connection,
            ad_entity_metrics,
            Rows(constants={"updated_at": now}, columns=columns),
            meeting=Meeting.FILLED_IN,
        )


def read_metric_frame(
    database: Database,
    *,
    start: date,
    end: date,
    series: Collection[str],
    entity_ids: Collection[str] | None = None,
    business_ids: Collection[str] | None = None,
) -> pd.DataFrame:
    """The days from `start` to `end`, both included, of these entities, or of these businesses'.

    Columns are `entity_id`, `date` (datetime64[s]) and one of floats per series, NaN where it is
    not known; a further sum is written `ad.name`. Rows are by entity and day. All entities where
    neither is given.
    """
    names = list(dict.fromkeys(series))
    table = ad_entity_metrics.c
    statement = (
        select(
            table.entity_id,
            # As text on SQLite, where a day for each of millions of rows would take seconds.
            type_coerce(table.date, String) if database.dialect_name == "sqlite" else table.date,
            *(_series_column(name) for name in names),
        )
        .where(table.date.between(start, end))
        .order_by(table.entity_id, table.date)
    )
    with database.reading() as connection:
        if entity_ids is not None:
            statement = statement.where(among(connection, table.entity_id, entity_ids))
        if business_ids is not None:
            of_them = select(ad_entities.c.id).where(
                among(connection, ad_entities.c.business_id, business_ids)
            )
            statement = statement.where(table.entity_id.in_(of_them))
        rows = connection.execute(statement).all()
    entity_column, day_column, *values = (
        zip(*rows, strict=True) if rows else [()] * (2 + len(names))
    )
    days = {day: pd.Timestamp(cast("str | date", day)) for day in set(day_column)}
    return pd.DataFrame(
        {
            "entity_id": pd.Series(entity_column, dtype=object),
            "date": pd.Series([days[day] for day in day_column], dtype="datetime64[s]"),
            **{
                name: pd.Series(of_series, dtype=float)
                for name, of_series in zip(names, values, strict=True)
            },
        }
    )


@contextmanager
def _importing(database: Database) -> Generator[Connection]:
    """A transaction of the one import at a time: two of the same new rows would collide."""
    with database.transaction() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        yield connection


def _series_column(name: str) -> ColumnElement[Any]:
    """Raises ValueError for a series that ads do not have."""
    if name in AD_SUMS:
        return ad_entity_metrics.c[name]
    if not is_further_sum(name):
        raise ValueError(f"{name!r} is no daily sum of ads")
    return ad_entity_metrics.c.further[name.removeprefix(FURTHER_SUM_PREFIX)].as_float()


def _entities() -> Select[Any]:
    return select(*(ad_entities.c[name] for name in _ENTITY_FIELDS)).order_by(ad_entities.c.id)


def _locked(connection: Connection, entity_ids: Collection[str]) -> dict[str, AdEntity]:
    statement = _entities().where(among(connection, ad_entities.c.id, entity_ids))
    rows = connection.execute(statement.with_for_update()).mappings()
    return {row["id"]: _entity(row) for row in rows}


def _entity(row: RowMapping) -> AdEntity:
    values = dict(row)
    values["level"] = Level(values["level"])
    values["status"] = EntityStatus(values["status"])
    return AdEntity(**values)


def _upsert(connection: Connection, rows: Sequence[AdEntity], *, now: datetime) -> WriteCounts:
    check_businesses_exist(
        connection, {row.business_id for row in rows if row.business_id is not None}
    )
    ordered = sorted(rows, key=lambda row: row.id)
    columns = {name: [getattr(row, name) for row in ordered] for name in _ENTITY_FIELDS}
    for name in ("level", "status"):
        columns[name] = [value.value for value in columns[name]]
    return upsert_rows(
        connection,
        ad_entities,
        Rows(constants={"created_at": now, "updated_at": now}, columns=columns),
        meeting=Meeting.REPLACED,
    )


def _move_what_hangs_below(
    connection: Connection, moved: Iterable[str], *, now: datetime
) -> WriteCounts:
    """Descendants follow to the business of the entity that they hang from."""
    updated = 0
    above = set(moved)
    parent = ad_entities.alias("parent")
    of_parent = (
        select(parent.c.business_id).where(parent.c.id == ad_entities.c.parent_id).scalar_subquery()
    )
    while above:
        below = update(ad_entities).where(
            among(connection, ad_entities.c.parent_id, above),
            ad_entities.c.business_id.is_distinct_from(of_parent),
        )
        moving = below.values(business_id=of_parent, updated_at=now).returning(ad_entities.c.id)
        above = set(connection.scalars(moving))
        updated += len(above)
    return WriteCounts(updated=updated)


def _json_or_none(further: Mapping[str, float]) -> str | None:
    return json.dumps(further, separators=(",", ":")) if further else None
