"""Replacing many rows at once, and writing only those that are new or have changed.

PostgreSQL takes rows by COPY: straight into the table when there was nothing to replace, else
through a temporary table and INSERT ... ON CONFLICT. SQLite takes one statement of many rows per
chunk.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import chain, islice, repeat
from typing import Any, Final, cast

import psycopg
from psycopg.copy import QueuedLibpqWriter
from psycopg.sql import SQL, Identifier
from sqlalchemy import (
    JSON,
    Column,
    Connection,
    MetaData,
    String,
    Table,
    Text,
    delete,
    or_,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import insert as postgresql_insert

from clarity_pipeline.store.schema import PlainText, utc_text
from clarity_pipeline.store.storable import storable_json, storable_text


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
class Replacement:
    """Rows that take the place of all rows with the values of `scope`.

    `columns` holds a list of plain values per column, all of one length, JSON as text; among
    them is `key`, unique within the scope. `constants` are columns with one value for all rows.
    """

    scope: Mapping[str, object]
    key: str
    constants: Mapping[str, object]
    columns: Mapping[str, Sequence[Any]]

    @property
    def row_count(self) -> int:
        return len(self.columns[self.key])


UNCOMPARED: Final = frozenset({"updated_at"})
"""A row that differs in nothing else is not written."""


def replace_rows(
    connection: Connection, target: Table, replacements: Sequence[Replacement]
) -> WriteCounts:
    """Replace the rows of each scope. Scopes must differ and be locked against other writers."""
    fresh: list[Replacement] = []
    standing: list[Replacement] = []
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
            (standing if old else fresh).append(replacement)
    insert = _insert_postgresql if connection.dialect.name == "postgresql" else _insert_sqlite
    insert(connection, target, fresh, merge=False)
    written = insert(connection, target, standing, merge=True)
    total = sum(replacement.row_count for replacement in replacements)
    newly_standing = inserted - sum(replacement.row_count for replacement in fresh)
    updated = written - newly_standing
    return WriteCounts(
        inserted=inserted, updated=updated, deleted=deleted, unchanged=total - inserted - updated
    )


def _standing_keys(connection: Connection, target: Table, replacement: Replacement) -> set[str]:
    statement = select(target.c[replacement.key]).where(*_in_scope(target, replacement))
    return set(connection.scalars(statement))


def _delete(
    connection: Connection, target: Table, replacement: Replacement, keys: set[str]
) -> None:
    # One parameter whatever the number of keys: drivers allow only so many.
    doomed = (
        text("SELECT value FROM json_each(:keys)")
        if connection.dialect.name == "sqlite"
        else text("SELECT jsonb_array_elements_text(CAST(:keys AS jsonb))")
    )
    connection.execute(
        delete(target).where(
            *_in_scope(target, replacement),
            target.c[replacement.key].in_(doomed.bindparams(keys=json.dumps(sorted(keys)))),
        )
    )


def _in_scope(target: Table, replacement: Replacement) -> list[Any]:
    return [target.c[name] == value for name, value in replacement.scope.items()]


def _insert_postgresql(
    connection: Connection, target: Table, replacements: Sequence[Replacement], *, merge: bool
) -> int:
    if not replacements:
        return 0
    destination = f"staged_{target.name}" if merge else target.name
    if merge:
        connection.exec_driver_sql(
            f"CREATE TEMPORARY TABLE {destination} (LIKE {target.name}) ON COMMIT DROP"
        )
    names = _column_names(replacements[0])
    raw = cast("psycopg.Connection", connection.connection.driver_connection)
    copy_in = SQL("COPY {} ({}) FROM STDIN").format(
        Identifier(destination), SQL(", ").join(map(Identifier, names))
    )
    # The writer has a thread of its own, so that rows are put into words while others are sent.
    with (
        raw.cursor() as cursor,
        cursor.copy(copy_in, writer=QueuedLibpqWriter(cursor)) as copy,
    ):
        for replacement in replacements:
            copy.write(copy_text(target, replacement))
    if not merge:
        return sum(replacement.row_count for replacement in replacements)
    staged = target.to_metadata(MetaData(), name=destination)
    selected = select(*(staged.c[name] for name in names))
    insert = postgresql_insert(target).from_select(names, selected)
    compared = _compared(target, names)
    # SQLAlchemy forgets how many rows an INSERT wrote unless it is told to keep it.
    return connection.execute(
        insert.on_conflict_do_update(
            index_elements=list(target.primary_key),
            set_={name: insert.excluded[name] for name in (*compared, *UNCOMPARED)},
            where=or_(
                *(target.c[name].is_distinct_from(insert.excluded[name]) for name in compared)
            ),
        ),
        execution_options={"preserve_rowcount": True},
    ).rowcount


def _insert_sqlite(
    connection: Connection, target: Table, replacements: Sequence[Replacement], *, merge: bool
) -> int:
    written = 0
    for replacement in replacements:
        names = _column_names(replacement)
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        most_rows = raw.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // len(names)
        on_conflict = _sqlite_on_conflict(target, names) if merge else ""
        rows = _sqlite_rows(target, replacement)
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


def _sqlite_on_conflict(target: Table, names: Sequence[str]) -> str:
    compared = _compared(target, names)
    assignments = ", ".join(f"{name} = excluded.{name}" for name in (*compared, *UNCOMPARED))
    changes = " OR ".join(f"{target.name}.{name} IS NOT excluded.{name}" for name in compared)
    key = ", ".join(key_column.name for key_column in target.primary_key)
    return f"ON CONFLICT ({key}) DO UPDATE SET {assignments} WHERE {changes}"


def _sqlite_rows(target: Table, replacement: Replacement) -> Iterator[tuple[Any, ...]]:
    count = replacement.row_count
    constants = (repeat(_sqlite_value(value), count) for value in _constants(replacement).values())
    columns = (_storable(target.c[name], values) for name, values in replacement.columns.items())
    return zip(*constants, *columns, strict=True)


def _sqlite_value(value: object) -> object:
    if isinstance(value, datetime):
        return utc_text(value)
    return value.isoformat() if isinstance(value, date) else value


def copy_text(target: Table, replacement: Replacement) -> bytes:
    """The rows in the text format of COPY, constants first."""
    if not replacement.row_count:
        return b""
    prefix = b"".join(_copy_value(value) + b"\t" for value in _constants(replacement).values())
    columns = [_copy_column(target.c[name], values) for name, values in replacement.columns.items()]
    lines = map(b"\t".join, zip(*columns, strict=True))
    return prefix + (b"\n" + prefix).join(lines) + b"\n"


_NULL: Final = b"\\N"
_COPY_SPECIAL: Final = (b"\\", b"\t", b"\n", b"\r")


def _copy_column(of: Column[Any], values: Sequence[Any]) -> Sequence[bytes]:
    if not _holds_text(of):
        # Few distinct numbers in many rows: half the time of putting each into words.
        words = {value: repr(value).encode() for value in set(values)} | {None: _NULL}
        return [words[value] for value in values]
    texts = [value for value in values if value is not None]
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
    if isinstance(value, datetime | date):
        return value.isoformat().encode()
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
        return [storable_json(value) for value in cast("Sequence[str]", values)]
    return values


def _column_names(replacement: Replacement) -> list[str]:
    return [*_constants(replacement), *replacement.columns]


def _constants(replacement: Replacement) -> dict[str, object]:
    return {**replacement.scope, **replacement.constants}


def _compared(target: Table, names: Sequence[str]) -> list[str]:
    key = {key_column.name for key_column in target.primary_key}
    return [name for name in names if name not in key and name not in UNCOMPARED]
