"""Replacing or adding many rows at once, and writing only those that are new or have changed.

PostgreSQL takes rows by COPY: straight into the table when there was nothing to replace, else
through a temporary table and INSERT ... ON CONFLICT. SQLite takes one statement of many rows per
chunk.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from functools import cache
from itertools import chain, islice, repeat
from typing import Any, Final, cast

import psycopg
from psycopg.copy import QueuedLibpqWriter
from psycopg.sql import SQL, Identifier
from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Connection,
    Date,
    MetaData,
    String,
    Table,
    Text,
    delete,
    literal_column,
    or_,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite

from clarity_pipeline.store.schema import PlainText, utc_text
from clarity_pipeline.store.storable import dump_json, storable_json, storable_text


@dataclass(frozen=True, slots=True)
class WriteCounts:
    """What a write did to the rows of a table."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0

    def __add__(self, other: WriteCounts) -> WriteCounts:
        return WriteCounts(
            inserted=self.inserted + other.inserted,
            updated=self.updated + other.updated,
            deleted=self.deleted + other.deleted,
            unchanged=self.unchanged + other.unchanged,
        )


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a table, a list of plain values per column, all of one length, JSON as text.

    `constants` are columns with one value for all rows.
    """

    constants: Mapping[str, object]
    columns: Mapping[str, Sequence[Any]]

    @property
    def names(self) -> list[str]:
        return [*self.constants, *self.columns]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


@dataclass(frozen=True, slots=True)
class Replacement:
    """Rows that take the place of all rows with the values of `scope`.

    Among the columns is `key`, unique within the scope; otherwise as in Rows.
    """

    scope: Mapping[str, object]
    key: str
    constants: Mapping[str, object]
    columns: Mapping[str, Sequence[Any]]

    @property
    def rows(self) -> Rows:
        return Rows(constants={**self.scope, **self.constants}, columns=self.columns)


UNCOMPARED: Final = frozenset({"updated_at"})
"""A row that differs in nothing else is not written."""

KEPT: Final = frozenset({"created_at"})
"""What a row keeps from when it was new."""


UpdatingInsert = sqlite.Insert | postgresql.Insert
"""An INSERT that can say what becomes of a row that is there already."""


class Meeting(Enum):
    """What becomes of a row that stands already when another one of its key comes."""

    REPLACED = "replaced"
    FILLED_IN = "filled in"
    """What the new one has no value for stays as it is; JSON objects are laid over each other."""


def replace_rows(
    connection: Connection, target: Table, replacements: Sequence[Replacement]
) -> WriteCounts:
    """Replace the rows of each scope. Scopes must differ and be locked against other writers."""
    fresh: list[Rows] = []
    standing: list[Rows] = []
    inserted = deleted = 0
    for replacement in replacements:
        old = _standing_keys(connection, target, replacement)
        new = replacement.columns[replacement.key]
        inserted += len(new) - len(old.intersection(new))
        gone = old.difference(new)
        if gone:
            deleted += len(gone)
            _delete(connection, target, replacement, gone)
        if new:
            (standing if old else fresh).append(replacement.rows)
    _insert(connection, target, fresh, meeting=None)
    written = _insert(connection, target, standing, meeting=Meeting.REPLACED)
    total = sum(len(replacement.rows) for replacement in replacements)
    newly_standing = inserted - sum(len(rows) for rows in fresh)
    updated = written - newly_standing
    return WriteCounts(
        inserted=inserted, updated=updated, deleted=deleted, unchanged=total - inserted - updated
    )


def upsert_rows(
    connection: Connection, target: Table, rows: Rows, *, meeting: Meeting
) -> WriteCounts:
    """Add rows, or bring those of the same primary key up to date; all others stay.

    The keys must differ, and the table must be locked against other such writers.
    """
    if not len(rows):
        return WriteCounts()
    stood = _count_standing(connection, target, rows)
    written = _insert(connection, target, [rows], meeting=meeting if stood else None)
    inserted = len(rows) - stood
    updated = written - inserted
    return WriteCounts(inserted=inserted, updated=updated, unchanged=stood - updated)


@cache
def upsert_into(target: Table, dialect_name: str) -> UpdatingInsert:
    """An INSERT of a row of all columns that updates the one of its key where a value differs.

    To be executed with the values as parameters: with them in it, it would be compiled each time.
    """
    insert = sqlite.insert if dialect_name == "sqlite" else postgresql.insert
    return updating_where_different(insert(target), target)


def updating_where_different(insert: UpdatingInsert, target: Table) -> UpdatingInsert:
    """An INSERT of rows of all columns that updates those of the same keys where a value differs.

    Build it once: putting it together takes longer than the database does.
    """
    key = list(target.primary_key)
    values = [column for column in target.c if column not in set(key)]
    return insert.on_conflict_do_update(
        index_elements=key,
        set_={column.name: insert.excluded[column.name] for column in values},
        where=or_(
            *(
                column.is_distinct_from(insert.excluded[column.name])
                for column in values
                if column.name not in UNCOMPARED
            )
        ),
    )


def insert_rows(connection: Connection, target: Table, rows: Rows) -> int:
    """Add rows of keys that are not there yet; returns how many."""
    return _insert(connection, target, [rows], meeting=None) if len(rows) else 0


def new_ids(connection: Connection, target: Table, count: int) -> list[int]:
    """Ids of a table that numbers its rows, which nobody else is given any more."""
    if connection.dialect.name == "postgresql":
        drawn = text(
            "SELECT nextval(pg_get_serial_sequence(:name, 'id')) FROM generate_series(1, :count)"
        )
        return list(connection.scalars(drawn, {"name": target.name, "count": count}))
    # Only one transaction writes at a time, and rows with ids of their own are counted as well.
    last = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
    first = (connection.scalar(last, {"name": target.name}) or 0) + 1
    return list(range(first, first + count))


def among(connection: Connection, column: ColumnElement[str], values: Iterable[str]) -> Any:
    """Whether a column of text has one of these values, however many they are.

    As one parameter: drivers allow only so many.
    """
    listed = (
        text("SELECT value FROM json_each(:listed)")
        if connection.dialect.name == "sqlite"
        else text("SELECT jsonb_array_elements_text(CAST(:listed AS jsonb))")
    )
    return column.in_(listed.bindparams(listed=dump_json(sorted(values))))


def _count_standing(connection: Connection, target: Table, rows: Rows) -> int:
    key = list(target.primary_key)
    words = [_plain_column(of, rows.columns[of.name]) for of in key]
    given = json.dumps(list(zip(*words, strict=True)))
    is_sqlite = connection.dialect.name == "sqlite"
    cell = "json_extract(value, '$[{}]')" if is_sqlite else "CAST(value ->> {} AS {})"
    each = "json_each(:given)" if is_sqlite else "jsonb_array_elements(CAST(:given AS jsonb))"
    cells = ", ".join(
        cell.format(place, of.type.compile(connection.dialect)) for place, of in enumerate(key)
    )
    names = ", ".join(of.name for of in key)
    counted = (
        f"SELECT count(*) FROM {target.name} "  # noqa: S608 - names of ours
        f"WHERE ({names}) IN (SELECT {cells} FROM {each})"
    )
    return connection.scalar(text(counted).bindparams(given=given)) or 0


def _standing_keys(connection: Connection, target: Table, replacement: Replacement) -> set[str]:
    statement = select(target.c[replacement.key]).where(*_in_scope(target, replacement))
    return set(connection.scalars(statement))


def _delete(
    connection: Connection, target: Table, replacement: Replacement, keys: set[str]
) -> None:
    connection.execute(
        delete(target).where(
            *_in_scope(target, replacement), among(connection, target.c[replacement.key], keys)
        )
    )


def _in_scope(target: Table, replacement: Replacement) -> list[Any]:
    return [target.c[name] == value for name, value in replacement.scope.items()]


def _insert(
    connection: Connection, target: Table, batches: Sequence[Rows], *, meeting: Meeting | None
) -> int:
    """How many rows were written; without a `meeting` there is no row of those keys yet."""
    if not batches:
        return 0
    insert = _insert_postgresql if connection.dialect.name == "postgresql" else _insert_sqlite
    return insert(connection, target, batches, meeting=meeting)


def _insert_postgresql(
    connection: Connection, target: Table, batches: Sequence[Rows], *, meeting: Meeting | None
) -> int:
    destination = target.name if meeting is None else _staging_name(target)
    if meeting is not None:
        connection.exec_driver_sql(
            f"CREATE TEMPORARY TABLE {destination} (LIKE {target.name}) ON COMMIT DROP"
        )
    names = batches[0].names
    raw = cast("psycopg.Connection", connection.connection.driver_connection)
    copy_in = SQL("COPY {} ({}) FROM STDIN").format(
        Identifier(destination), SQL(", ").join(map(Identifier, names))
    )
    # The writer has a thread of its own, so that rows are put into words while others are sent.
    with (
        raw.cursor() as cursor,
        cursor.copy(copy_in, writer=QueuedLibpqWriter(cursor)) as copy,
    ):
        for rows in batches:
            copy.write(copy_text(target, rows))
    if meeting is None:
        return sum(len(rows) for rows in batches)
    # SQLAlchemy forgets how many rows an INSERT wrote unless it is told to keep it.
    return connection.execute(
        _merge_of_staged(target, tuple(names), meeting),
        execution_options={"preserve_rowcount": True},
    ).rowcount


def _staging_name(target: Table) -> str:
    return f"staged_{target.name}"


@cache
def _merge_of_staged(target: Table, names: tuple[str, ...], meeting: Meeting) -> UpdatingInsert:
    # Made once: SQLAlchemy would compile each anew, and keep hundreds of a quarter of a MiB each.
    staged = target.to_metadata(MetaData(), name=_staging_name(target))
    selected = select(*(staged.c[name] for name in names))
    insert = postgresql.insert(target).from_select(names, selected)
    merged: dict[str, ColumnElement[Any]] = {
        name: literal_column(words)
        for name, words in _merged(target, names, meeting=meeting, overlay="{} || {}").items()
    }
    return insert.on_conflict_do_update(
        index_elements=list(target.primary_key),
        set_=merged | {name: insert.excluded[name] for name in UNCOMPARED},
        where=or_(*(target.c[name].is_distinct_from(value) for name, value in merged.items())),
    )


def _insert_sqlite(
    connection: Connection, target: Table, batches: Sequence[Rows], *, meeting: Meeting | None
) -> int:
    written = 0
    for batch in batches:
        names = batch.names
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        most_rows = raw.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // len(names)
        on_conflict = "" if meeting is None else _sqlite_on_conflict(target, names, meeting=meeting)
        rows = _sqlite_rows(target, batch)
        while chunk := list(islice(rows, min(most_rows, _MOST_ROWS_PER_STATEMENT))):
            placeholders = ",".join([f"({','.join('?' * len(names))})"] * len(chunk))
            statement = (
                f"INSERT INTO {target.name} ({', '.join(names)}) "  # noqa: S608 - names of ours
                f"VALUES {placeholders} {on_conflict}"
            )
            written += raw.execute(statement, list(chain.from_iterable(chunk))).rowcount
    return written


_MOST_ROWS_PER_STATEMENT: Final = 100
"""The driver keeps its last 128 statements together with the values bound to them: at 1,000 rows,
of which each slice has another number, those came to hundreds of megabytes."""


def _sqlite_on_conflict(target: Table, names: Sequence[str], *, meeting: Meeting) -> str:
    merged = _merged(target, names, meeting=meeting, overlay="json_patch({}, {})")
    always = {name: f"excluded.{name}" for name in UNCOMPARED}
    assignments = ", ".join(f"{name} = {words}" for name, words in (merged | always).items())
    changes = " OR ".join(f"{target.name}.{name} IS NOT {words}" for name, words in merged.items())
    key = ", ".join(key_column.name for key_column in target.primary_key)
    return f"ON CONFLICT ({key}) DO UPDATE SET {assignments} WHERE {changes}"


def _sqlite_rows(target: Table, rows: Rows) -> Iterator[tuple[Any, ...]]:
    constants = (repeat(_plain_value(value), len(rows)) for value in rows.constants.values())
    columns = (_plain_column(target.c[name], values) for name, values in rows.columns.items())
    return zip(*constants, *columns, strict=True)


def _plain_column(of: Column[Any], values: Sequence[Any]) -> Sequence[Any]:
    if isinstance(of.type, Date):
        return [_plain_value(value) for value in values]
    return _storable(of, values)


def _plain_value(value: object) -> object:
    if isinstance(value, datetime):
        return utc_text(value)
    return value.isoformat() if isinstance(value, date) else value


def copy_text(target: Table, rows: Rows) -> bytes:
    """The rows in the text format of COPY, constants first."""
    if not len(rows):
        return b""
    prefix = b"".join(_copy_value(value) + b"\t" for value in rows.constants.values())
    columns = [_copy_column(target.c[name], values) for name, values in rows.columns.items()]
    lines = map(b"\t".join, zip(*columns, strict=True))
    return prefix + (b"\n" + prefix).join(lines) + b"\n"


_NULL: Final = b"\\N"
_COPY_SPECIAL: Final = (b"\\", b"\t", b"\n", b"\r")


def _copy_column(of: Column[Any], values: Sequence[Any]) -> Sequence[bytes]:
    if not _holds_text(of):
        # Few distinct values in many rows: half the time of putting each into words.
        words = {value: _copy_value(value) for value in set(values)}
        return list(map(words.__getitem__, values))
    texts = [value for value in values if value is not None]
    if not texts:
        return [_NULL] * len(values)
    encoded = [text.encode() for text in _storable(of, texts)]
    # Searched as one: four times as fast as value by value. NUL cannot occur in any of them.
    joined = b"\0".join(encoded)
    if any(special in joined for special in _COPY_SPECIAL):
        encoded = _copy_escaped(joined).split(b"\0")
    if len(encoded) == len(values):
        return encoded
    known = iter(encoded)
    return [_NULL if value is None else next(known) for value in values]


def _copy_value(value: object) -> bytes:
    if value is None:
        return _NULL
    if isinstance(value, int | float):
        return str(value).encode()
    if isinstance(value, datetime | date):
        return value.isoformat().encode()
    if isinstance(value, bytes):
        return b"\\\\x" + value.hex().encode()
    return _copy_escaped(storable_text(str(value)).encode())


def _copy_escaped(value: bytes) -> bytes:
    value = value.replace(b"\\", b"\\\\").replace(b"\t", b"\\t")
    return value.replace(b"\n", b"\\n").replace(b"\r", b"\\r")


def _holds_text(column: Column[Any]) -> bool:
    return isinstance(column.type, Text | String | PlainText | JSON)


def _storable(of: Column[Any], values: Sequence[Any]) -> Sequence[Any]:
    if isinstance(of.type, PlainText):
        return [None if value is None else storable_text(value) for value in values]
    if isinstance(of.type, JSON):
        return [None if value is None else storable_json(value) for value in values]
    return values


def _merged(
    target: Table, names: Sequence[str], *, meeting: Meeting, overlay: str
) -> dict[str, str]:
    """What becomes of each column of a row that stands, as SQL; `excluded` is the new row."""
    key = {key_column.name for key_column in target.primary_key}
    merged: dict[str, str] = {}
    for name in names:
        if name in key | UNCOMPARED | KEPT:
            continue
        old, new = f"{target.name}.{name}", f"excluded.{name}"
        if meeting is Meeting.FILLED_IN and isinstance(target.c[name].type, JSON):
            merged[name] = f"coalesce({overlay.format(old, new)}, {new}, {old})"
        elif meeting is Meeting.FILLED_IN:
            merged[name] = f"coalesce({new}, {old})"
        else:
            merged[name] = new
    return merged
