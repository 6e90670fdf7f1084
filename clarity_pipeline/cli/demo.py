"""`clarity demo` and `clarity dev`: the invented agency on a terminal."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from clarity_pipeline.cli.connections import STATE_TONES
from clarity_pipeline.cli.output import cell, complain, console, say, table
from clarity_pipeline.cli.progress import expected_calls, shown_progress
from clarity_pipeline.cli.session import utc_now
from clarity_pipeline.domain.metrics import AGGREGATE_METRICS

if TYPE_CHECKING:
    from rich.text import Text

    from clarity_pipeline.demo.history import PlayedDay
    from clarity_pipeline.demo.outcome import ClientOutcome, DemoOutcome
    from clarity_pipeline.store.database import Database

CLIENT_COLUMN_WIDTH: Final = 12
NAMES_COLUMN_WIDTH: Final = 32


def register(app: typer.Typer) -> None:
    app.command()(demo)
    app.command()(dev)


def demo() -> None:
    """Watch a week of an invented agency being collected, in well under a minute.

    Starts an emulator of Clarity, connects clients with different fates, runs the real Dagster
    job, and checks that each fate came true. Lives in a directory of its own, made anew each time.
    """
    from clarity_pipeline.demo.play import play_demo

    started = time.monotonic()
    say("Playing the last week of an invented agency against an emulated Clarity.")
    played = play_demo(now=utc_now(), watch=_watch_day)
    _print_clients(played.outcome)
    _print_values(played.outcome)
    _print_next_steps(played.outcome, played.directory)
    seconds = time.monotonic() - started
    promised, broken = len(played.outcome.promises), played.outcome.broken
    if broken:
        for sentence in broken:
            complain(f"Promised, but not so: {sentence}.")
        raise typer.Exit(1)
    say(f"All {promised} promises were kept, in {seconds:.1f} s.")


def dev(
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="Port of the UI; 3000 or the next free."),
    ] = None,
    *,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Make the demo's data anew first.")
    ] = False,
) -> None:
    """Serve the Dagster UI and the panel over the demo's data, with the emulator, until Ctrl-C."""
    from clarity_pipeline.demo.serve import Serving, serve_demo

    def announce(serving: Serving) -> None:
        newcomer, day = serving.newcomer, serving.yesterday
        say(
            f"\n  Dagster UI  {serving.ui_url}\n"
            f"  Panel       {serving.setup_link or serving.panel_url}\n"
            f"  Emulator    {serving.emulator_url}\n"
            f"  Local Meta  {serving.meta_url}/control\n"
            f"  Data        {serving.directory}\n\n"
            f"Try: Assets, clarity_raw_exports, Materialize, partition {day}. "
            f"{newcomer} has just been connected, so its four calls are made then; what has "
            "landed costs none. Or in the panel: make its first user, then Sync now.\n"
            "Ctrl-C ends everything."
        )

    say("Starting the Dagster UI and the panel over the demo's data; this takes a few seconds.")
    serve_demo(clock=utc_now, port=port, fresh=fresh, watch=_watch_day, on_ready=announce)
    say("Ended; nothing is left running.")


@contextmanager
def _watch_day(database: Database, played: PlayedDay) -> Generator[None]:
    """A progress bar while a day is collected, and a line about it afterwards."""
    from clarity_pipeline.store.connections import list_connections
    from clarity_pipeline.store.sync_jobs import list_jobs

    records = list_connections(database)
    expected = expected_calls(
        database, records, day=played.day, now=played.collected_at, overview_default=False
    )
    started = time.monotonic()
    with shown_progress(database, expected, label=f"{played.day}"):
        yield
    jobs = list_jobs(database, day=played.day, limit=None)
    failed = sum(job.status.value != "succeeded" for job in jobs)
    say(
        f"  {played.day}  {sum(job.calls_used for job in jobs):>3} calls  "
        f"{sum(job.rows_written for job in jobs):>6,} rows  "
        f"{len(jobs) - failed} of {len(jobs)} businesses complete  "
        f"{time.monotonic() - started:4.1f} s"
    )


def _print_clients(outcome: DemoOutcome) -> None:
    listing = table(
        f"How {outcome.days[-1]} was collected, just after midnight UTC",
        ("client", "what is the matter", "state", "replies", "calls today", "rows, 7 days"),
    )
    listing.columns[-1].justify = "right"
    for each in outcome.clients:
        state = each.status.state.value
        listing.add_row(
            cell(each.client.name),
            cell(each.client.story, "quiet"),
            cell(state.replace("_", " "), STATE_TONES[state]),
            cell(f"{each.status.landed} of {each.status.due}"),
            cell(f"{each.project_calls} of 10"),
            cell(each.rows_written),
        )
    console().print(listing)
    for each in outcome.clients:
        if each.job.error_message:
            say(f"  {each.client.name}: {each.job.error_message}")
    say("")


def _print_values(outcome: DemoOutcome) -> None:
    """One column per client, in as many tables as the terminal is too narrow for one."""
    screen = console()
    per_table = max(1, (screen.width - NAMES_COLUMN_WIDTH) // CLIENT_COLUMN_WIDTH)
    for start in range(0, len(outcome.clients), per_table):
        shown = outcome.clients[start : start + per_table]
        listing = table(
            f"What rules see: {outcome.days[0]} to {outcome.days[-1]}",
            ("", *(each.client.name for each in shown)),
            numbers_from=1,
        )
        listing.columns[0].no_wrap = True
        for name in AGGREGATE_METRICS:
            listing.add_row(cell(name), *(_value(name, each) for each in shown))
        listing.add_row(cell("days with data"), *(_coverage(each) for each in shown))
        listing.add_row(cell("truncated"), *(cell(each.values.truncated, "warn") for each in shown))
        screen.print(listing)


def _value(name: str, each: ClientOutcome) -> Text:
    value = each.values.metrics()[name]
    return cell(f"{value:.3f}" if name.endswith("_rate") and value is not None else value)


def _coverage(each: ClientOutcome) -> Text:
    values = each.values
    is_whole = values.days_with_data == values.days_in_window
    words = f"{values.days_with_data} of {values.days_in_window}"
    return cell(words, "" if is_whole else "warn")


def _print_next_steps(outcome: DemoOutcome, directory: Path) -> None:
    first, last = outcome.days[0], outcome.days[-1]
    client = outcome.clients[0].client.business_id
    command = _own_command()
    say(
        "Where to look next; none of it makes a call:\n"
        f"  {command} dev                    Dagster UI and panel over this data, until Ctrl-C\n"
        f"  export CLARITY_HOME={directory}\n"
        f"  {command} status                 how each connection stands, and why\n"
        f"  {command} quota luma-skin        today's calls, one by one\n"
        f"  {command} aggregates {client} --from {first} --to {last} --by url\n"
        f"The tables are in {directory / 'clarity.db'}."
    )


def _own_command() -> str:
    """How to run this program again: by its name where that finds it, else by its path."""
    own = Path(sys.argv[0])
    found = shutil.which("clarity")
    if found is not None and own.exists() and Path(found).samefile(own):
        return "clarity"
    with suppress(ValueError):
        return str(own.resolve().relative_to(Path.cwd()))
    return str(own)
