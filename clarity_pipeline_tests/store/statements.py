"""Counts what is asked of a database: a question per business is one too many."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from clarity_pipeline.store.database import Database


@contextmanager
def counted_queries(database: Database) -> Generator[list[str]]:
    """The SELECT statements that are run meanwhile."""
    statements: list[str] = []

    def count(*arguments: Any) -> None:
        if arguments[2].startswith("SELECT"):
            statements.append(arguments[2])

    event.listen(database.engine, "before_cursor_execute", count)
    try:
        yield statements
    finally:
        event.remove(database.engine, "before_cursor_execute", count)
