"""`clarity emulator`: a local Clarity for everyone who has no token."""

from __future__ import annotations

from typing import Annotated

import typer

from clarity_pipeline.cli.output import say


def register(app: typer.Typer) -> None:
    app.command()(emulator)


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


def _introduce_emulator(base_url: str) -> None:
    from clarity_pipeline.export_api.emulator import default_projects, emulator_token

    say(f"The emulator answers at {base_url}; Ctrl-C ends it. Its tokens are of no use elsewhere.")
    projects = default_projects()
    for project in projects:
        # One line each, however long: a token that is wrapped cannot be copied.
        say(
            f"\n{project.project_id}: {project.sessions_per_day:,} sessions a day on "
            f"{project.pages} pages; its token:\n{emulator_token(project.project_id)}"
        )
    first = projects[0].project_id
    say(
        "\nIn another terminal:\n"
        f"  export CLARITY_API_URL={base_url}\n"
        "  clarity init\n"
        "  clarity business add try-out --name 'Try-out'\n"
        f"  clarity connect try-out --project-id {first}   # then paste its token\n"
        "  clarity test try-out\n"
        "  clarity sync"
    )
