"""`clarity emulator`, `clarity demo` and `clarity dev`: trying everything without a token."""

from __future__ import annotations

from typing import Annotated

import typer

from clarity_pipeline.cli.output import cell, console, say, table


def register(app: typer.Typer) -> None:
    for command in (emulator, demo, dev):
        app.command()(command)


def emulator(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = 8765,
    host: Annotated[
        str, typer.Option("--host", help="Address of this machine to listen on.")
    ] = "127.0.0.1",
) -> None:
    """Serve a local Clarity with invented sites, until Ctrl-C."""
    from clarity_pipeline.export_api.emulator import run_emulator

    run_emulator(host=host, port=port, on_ready=_introduce_emulator)


def demo() -> None:
    """Watch a week of an invented agency being collected, in well under a minute.

    Starts an emulator, connects businesses with different fates, runs the real Dagster job, and
    checks that each fate came true. Lives in a directory of its own, made anew each time.
    """
    from clarity_pipeline.demo import run_demo

    raise typer.Exit(run_demo())


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
    """Serve the Dagster UI over the demo's data, with the emulator behind it, until Ctrl-C."""
    from clarity_pipeline.demo import run_dev

    raise typer.Exit(run_dev(port=port, fresh=fresh))


def _introduce_emulator(base_url: str) -> None:
    from clarity_pipeline.export_api.emulator import default_projects, emulator_token

    say(f"The emulator answers at {base_url}; Ctrl-C ends it. Its tokens are of no use elsewhere.")
    listing = table("Projects", ("project", "sessions a day", "pages", "token"))
    projects = default_projects()
    for project in projects:
        listing.add_row(
            cell(project.project_id),
            cell(project.sessions_per_day),
            cell(project.pages),
            cell(emulator_token(project.project_id)),
        )
    console().print(listing)
    first = projects[0].project_id
    say(
        "In another terminal:\n"
        f"  export CLARITY_API_URL={base_url}\n"
        "  clarity init\n"
        "  clarity business add try-out --name 'Try-out'\n"
        f"  clarity connect try-out --project-id {first}   # then paste the token of {first}\n"
        "  clarity test try-out\n"
        "  clarity sync"
    )
