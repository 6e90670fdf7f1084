"""Reading what rules are evaluated on: only the days and columns that they want, in bulk.

Days come as numbers and nothing else, each with the place of what it is about: a million of them
as rows of Python objects would take ten times as long as the evaluation.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final, cast

import numpy as np
import pandas as pd
import psycopg
from sqlalchemy import (
    ColumnElement,
    Connection,
    Date,
    Double,
    FromClause,
    Integer,
    Select,
    String,
    case,
    column,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
)
from sqlalchemy import cast as sql_cast

from clarity_pipeline.domain.ads import AD_SUMS
from clarity_pipeline.domain.days import days_between
from clarity_pipeline.domain.rules.evaluate import history_wanted
from clarity_pipeline.domain.rules.history import Floats, Source
from clarity_pipeline.domain.rules.inputs import (
    SESSION_BASES,
    DayFrame,
    Frames,
    RuleInputs,
    build_inputs,
    landing_pages,
)
from clarity_pipeline.domain.rules.metrics import FURTHER_SUM_PREFIX
from clarity_pipeline.domain.rules.model import EntityStatus, Level, Rule
from clarity_pipeline.store.aggregates import url_hash
from clarity_pipeline.store.bulk import among
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import (
    ad_entities,
    ad_entity_metrics,
    business_aggregates,
    business_config,
    businesses,
    url_aggregates,
)
from clarity_pipeline.store.storable import dump_json

PAGES_SEEN_WITHIN: Final = timedelta(days=30)
"""A landing page that nobody has seen for longer is none, unless an ad leads to it. How far a rule
looks back must not matter: it would change which pages another rule is about."""


@dataclass(frozen=True, slots=True)
class AdFacts:
    """What an action on an ad entity depends on; `daily_budget` is in its account's currency."""

    status: EntityStatus
    account_id: str | None
    daily_budget: float | None


def read_inputs(
    database: Database,
    *,
    rules: Sequence[Rule],
    business_ids: Sequence[str],
    as_of: date,
    first_day: date | None = None,
    with_nobodys: bool = False,
) -> RuleInputs:
    """What these rules are evaluated on as of a day, for these businesses.

    With `first_day` also as of every day from that one on. `with_nobodys` adds the ads that belong
    to no business.
    """
    levels = {rule.level for rule in rules}
    first_day = first_day or as_of
    wanted = history_wanted(rules, as_of=first_day)
    with database.reading() as connection:
        known = _businesses(connection, business_ids)
        ads = _ads(connection, business_ids, with_nobodys=with_nobodys)
        pages = _pages(
            connection,
            ads,
            seen=(first_day - PAGES_SEEN_WITHIN, as_of) if Level.LANDING_PAGE in levels else None,
            business_ids=business_ids,
        )
        things = {Source.BUSINESS: known, Source.LANDING_PAGE: pages, Source.ADS: ads}
        days = {
            source: _days(
                connection,
                source,
                things[source],
                first_day=want.first_day,
                last_day=as_of,
                series=sorted(want.series),
            )
            for source, want in wanted.items()
        }
    return build_inputs(Frames(businesses=known, ads=ads, pages=pages, days=days), levels=levels)


def count_entities(database: Database) -> dict[str | None, int]:
    """How many ad entities each business has, deleted ones among them; None for nobody's."""
    statement = select(ad_entities.c.business_id, func.count()).group_by(ad_entities.c.business_id)
    with database.reading() as connection:
        return {row[0]: row[1] for row in connection.execute(statement)}


def read_ad_facts(database: Database, entity_ids: Collection[str]) -> dict[str, AdFacts]:
    """By id, of those ad entities that there are."""
    table = ad_entities.c
    with database.reading() as connection:
        statement = select(table.id, table.status, table.account_id, table.daily_budget).where(
            among(connection, table.id, entity_ids)
        )
        return {
            row.id: AdFacts(EntityStatus(row.status), row.account_id, row.daily_budget)
            for row in connection.execute(statement)
        }


def _businesses(connection: Connection, business_ids: Sequence[str]) -> pd.DataFrame:
    config = business_config.c
    statement = (
        select(businesses.c.id, config.project_id, config.sync_enabled)
        .select_from(businesses.outerjoin(business_config))
        .where(businesses.c.id.in_(set(business_ids)))
        .order_by(businesses.c.id)
    )
    rows = connection.execute(statement).all()
    return pd.DataFrame(
        {
            "id": pd.Series([row.id for row in rows], dtype=object),
            "is_connected": np.array([row.project_id is not None for row in rows], np.bool_),
            "is_enabled": np.array([bool(row.sync_enabled) for row in rows], np.bool_),
        }
    )


def _ads(
    connection: Connection, business_ids: Sequence[str], *, with_nobodys: bool
) -> pd.DataFrame:
    table = ad_entities.c
    of_them = table.business_id.in_(set(business_ids))
    statement = (
        select(
            table.id,
            table.level,
            table.parent_id,
            table.business_id,
            table.name,
            table.status,
            table.landing_page,
            table.account_id,
            table.currency,
            table.changed_on,
        )
        .where(or_(of_them, table.business_id.is_(None)) if with_nobodys else of_them)
        .order_by(table.id)
    )
    rows = connection.execute(statement).all()
    names = (
        *("id", "level", "parent_id", "business_id", "name", "status", "landing_page"),
        *("account_id", "currency"),
    )
    *texts, changed_on = zip(*rows, strict=True) if rows else [()] * (len(names) + 1)
    return pd.DataFrame(
        {
            **{
                name: pd.Series(values, dtype=object)
                for name, values in zip(names, texts, strict=True)
            },
            "changed_on": np.array(
                [0 if day is None else day.toordinal() for day in changed_on], np.int64
            ),
        }
    )


def _pages(
    connection: Connection,
    ads: pd.DataFrame,
    *,
    seen: tuple[date, date] | None,
    business_ids: Sequence[str],
) -> pd.DataFrame:
    """The pages that ads lead to and, where rules are about pages, those that were seen."""
    found: dict[tuple[str, str], str] = {
        (business_id, page): url_hash(page)
        for business_id, page in zip(ads["business_id"].tolist(), landing_pages(ads), strict=True)
        if business_id is not None and page is not None
    }
    if seen is not None:
        table = url_aggregates.c
        statement = (
            select(table.business_id, table.url_hash, func.max(table.url).label("url"))
            .where(table.business_id.in_(set(business_ids)), table.date.between(*seen))
            .group_by(table.business_id, table.url_hash)
        )
        for row in connection.execute(statement):
            found[row.business_id, row.url] = row.url_hash
    ordered = sorted(found.items())
    return pd.DataFrame(
        {
            "business_id": pd.Series([key[0] for key, _ in ordered], dtype=object),
            "url_hash": pd.Series([hash_ for _, hash_ in ordered], dtype=object),
            "url": pd.Series([key[1] for key, _ in ordered], dtype=object),
            "is_entity": np.full(len(ordered), seen is not None),
        }
    )


def _days(
    connection: Connection,
    source: Source,
    things: pd.DataFrame,
    *,
    first_day: date,
    last_day: date,
    series: Sequence[str],
) -> DayFrame:
    statement = {
        Source.BUSINESS: _business_days,
        Source.LANDING_PAGE: _page_days,
        Source.ADS: _ad_days,
    }[source](connection, things, first_day, last_day, series)
    names = ["row", "day", *(["basis"] if source is Source.BUSINESS else []), *series]
    numbers = _numbers(connection, statement, width=len(names))
    return DayFrame(
        first_day=first_day,
        last_day=last_day,
        frame=pd.DataFrame(dict(zip(names, numbers, strict=True))),
    )


def _business_days(
    connection: Connection,
    things: pd.DataFrame,
    first_day: date,
    last_day: date,
    series: Sequence[str],
) -> Select[Any]:
    table = business_aggregates.c
    asked = _listed(connection, things, ["id"])
    basis = case(
        {name: int(value) for name, value in SESSION_BASES.items()},
        value=table.session_basis,
        else_=0,
    )
    return (
        select(
            asked.c.place,
            _day_number(connection, table.date, first_day),
            basis,
            *(table[name] for name in series),
        )
        .join(business_aggregates, table.business_id == asked.c.id)
        .where(table.date.between(first_day, last_day))
    )


def _page_days(
    connection: Connection,
    things: pd.DataFrame,
    first_day: date,
    last_day: date,
    series: Sequence[str],
) -> Select[Any]:
    table = url_aggregates.c
    asked = _listed(connection, things, ["business_id", "url_hash"])
    return (
        select(
            asked.c.place,
            _day_number(connection, table.date, first_day),
            *(table[name] for name in series),
        )
        .join(
            url_aggregates,
            (table.business_id == asked.c.business_id) & (table.url_hash == asked.c.url_hash),
        )
        # Every day by name, not a range: each page-day is then one look into the index, and a
        # business's other pages are not read.
        .where(table.date.in_(days_between(first_day, last_day)))
    )


def _ad_days(
    connection: Connection,
    things: pd.DataFrame,
    first_day: date,
    last_day: date,
    series: Sequence[str],
) -> Select[Any]:
    table = ad_entity_metrics.c
    asked = _listed(connection, things, ["id"])
    return (
        select(
            asked.c.place,
            _day_number(connection, table.date, first_day),
            *(
                table[name]
                if name in AD_SUMS
                else table.further[name.removeprefix(FURTHER_SUM_PREFIX)].as_float()
                for name in series
            ),
        )
        .join(ad_entity_metrics, table.entity_id == asked.c.id)
        .where(table.date.between(first_day, last_day))
    )


def _listed(connection: Connection, things: pd.DataFrame, names: Sequence[str]) -> FromClause:
    """A table of these columns, and the place of each row. As one parameter: drivers allow only so
    many."""
    rows = list(zip(*(things[name].tolist() for name in names), strict=True))
    listed = dump_json(rows)
    if connection.dialect.name == "sqlite":
        cells = ", ".join(
            f"json_extract(value, '$[{place}]') AS {name}" for place, name in enumerate(names)
        )
        words = f"SELECT key AS place, {cells} FROM json_each(:listed)"  # noqa: S608 - names of ours
    else:
        cells = ", ".join(f"value ->> {place} AS {name}" for place, name in enumerate(names))
        words = (
            f"SELECT place - 1 AS place, {cells} FROM "  # noqa: S608 - names of ours
            "jsonb_array_elements(CAST(:listed AS jsonb)) WITH ORDINALITY AS rows (value, place)"
        )
    columns = [column("place", Integer), *(column(name, String) for name in names)]
    return text(words).bindparams(listed=listed).columns(*columns).subquery("asked")


def _day_number(
    connection: Connection, day: ColumnElement[date], first_day: date
) -> ColumnElement[Any]:
    """How many days after the first one it is."""
    first = literal(first_day, Date)
    if connection.dialect.name == "sqlite":
        return func.julianday(day) - func.julianday(first)
    return day - first


_BINARY_HEADER: Final = b"PGCOPY\n\xff\r\n\x00"
_BINARY_HEADER_BYTES: Final = 19
_ARRAY_HEADER: Final = struct.Struct(">iiiiii")
"""Length of the field; dimensions, whether there are NULLs, type, length, first index."""
_ELEMENT: Final = np.dtype([("length", ">i4"), ("number", ">f8")])


def _numbers(connection: Connection, statement: Select[Any], *, width: int) -> list[Floats]:
    """The columns of a statement of numbers, NaN for NULL."""
    if connection.dialect.name == "sqlite":
        # Tuples: numpy asks any other row whether it is an array, which takes nine times as long.
        rows = [tuple(row) for row in connection.execute(statement)]
        return list(np.array(rows, np.float64).reshape(len(rows), width).T)
    # One row with an array per column: a message per row would cost more than all the rest.
    columns = [
        func.array_agg(func.coalesce(sql_cast(each, Double), literal_column("'NaN'::float8")))
        for each in statement.selected_columns
    ]
    compiled = statement.with_only_columns(*columns, maintain_column_froms=True).compile(
        dialect=connection.dialect, compile_kwargs={"render_postcompile": True}
    )
    raw = cast("psycopg.Connection", connection.connection.driver_connection)
    copy_out = f"COPY ({compiled.string}) TO STDOUT (FORMAT BINARY)"
    with raw.cursor() as cursor, cursor.copy(copy_out.encode(), compiled.params) as copy:
        received = b"".join(bytes(part) for part in copy)
    assert received.startswith(_BINARY_HEADER)
    # Without a NULL all elements are of one length, and none has to be looked at by itself.
    offset, found = _BINARY_HEADER_BYTES + 2, list[Floats]()
    for _ in range(width):
        (is_there,) = struct.unpack_from(">i", received, offset)
        if is_there < 0:
            return [np.zeros(0) for _ in range(width)]
        *_, count, _ = _ARRAY_HEADER.unpack_from(received, offset)
        elements = np.frombuffer(received, _ELEMENT, count, offset + _ARRAY_HEADER.size)
        found.append(elements["number"].astype(np.float64))
        offset += _ARRAY_HEADER.size + count * _ELEMENT.itemsize
    return found
