"""How results reach people and programs: tables and sentences, or one JSON document.

What was asked for goes to standard output, everything about how it went to standard error, so
that `clarity ... --json | jq` always sees either one document or nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

PIPED_WIDTH: Final = 132
"""Columns of a table that goes to a file or a log, where rich would assume 80 and wrap."""

NOTHING: Final = "-"
"""Stands for a value there is none of; an empty cell would look like a fault of the table."""

TONES: Final = {"good": "green", "warn": "yellow", "bad": "red", "quiet": "dim", "": ""}


def console(*, stderr: bool = False) -> Console:
    """A console on today's standard output or error; colours only on a terminal."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False, emoji=False, markup=False)
    if not made.is_terminal:
        made.width = max(made.width, PIPED_WIDTH)
    return made


def say(sentence: str) -> None:
    """A sentence as the result."""
    console().print(shown(sentence), soft_wrap=True)


def remark(sentence: str) -> None:
    """A sentence beside the result."""
    console(stderr=True).print(shown(sentence), soft_wrap=True, style="dim")


def complain(sentence: str) -> None:
    """A sentence about what went wrong."""
    from rich.text import Text

    line = Text.assemble(("Error: ", "bold red"), shown(sentence))
    console(stderr=True).print(line, soft_wrap=True)


def complain_as_json(*, code: str, message: str, **more: object) -> None:
    """The same for programs, as one line of JSON on standard error."""
    document = {"error": {"code": code, "message": message, **more}}
    sys.stderr.write(json.dumps(document, ensure_ascii=False) + "\n")


def print_json(document: object) -> None:
    """One JSON document: days as `YYYY-MM-DD`, instants as ISO 8601 in UTC ending in Z."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, default=_jsonable)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def table(title: str, columns: Sequence[str], *, numbers_from: int | None = None) -> Table:
    """An empty table; columns from `numbers_from` on are aligned to the right."""
    from rich import box
    from rich.table import Table

    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for position, name in enumerate(columns):
        is_number = numbers_from is not None and position >= numbers_from
        made.add_column(name, justify="right" if is_number else "left", overflow="fold")
    return made


def cell(value: object, tone: str = "") -> Text:
    """A table cell that shows any value literally; tones are `good`, `warn`, `bad`, `quiet`."""
    from rich.text import Text

    if value is None or value == "":
        return Text(NOTHING, style=TONES["quiet"])
    return Text(shown(_in_words(value)), style=TONES[tone])


def shown(text: str) -> str:
    """Text with its control characters made visible: names and messages come from outside, and a
    terminal would obey them."""
    return "".join(
        char if char.isprintable() or char == "\n" else f"\\x{ord(char):02x}" for char in text
    )


def instant(value: datetime | None) -> str | None:
    """`2026-03-01 00:15 UTC`."""
    return None if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _in_words(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.2f}"
        case datetime():
            return instant(value) or NOTHING
        case _:
            return str(value)


def _jsonable(value: object) -> str:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON form here.")
