"""`clarity panel`: the web application for the agency and its clients."""

from __future__ import annotations

from typing import Annotated

import typer

from clarity_pipeline.cli.output import say
from clarity_pipeline.cli.session import open_session, utc_now


def register(app: typer.Typer) -> None:
    app.command()(panel)


def panel(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            "--port", min=0, max=65535, help="Port; that of CLARITY_PANEL_URL, else 8300."
        ),
    ] = None,
    trusted_proxies: Annotated[
        list[str] | None,
        typer.Option(
            "--trusted-proxy",
            metavar="ADDRESS",
            help="Address or network of a proxy that is believed about where requests come from; "
            "this machine when CLARITY_PANEL_URL is https, else nobody.",
        ),
    ] = None,
) -> None:
    """Serve the panel until Ctrl-C; the first time with a link that makes the first user.

    Listens to other machines only when CLARITY_PANEL_URL is https: put a proxy with a
    certificate in front.
    """
    from clarity_pipeline.operations.access import make_setup_code
    from clarity_pipeline.panel.serve import open_panel

    with (
        open_session() as session,
        open_panel(
            session.settings,
            session.database,
            host=host,
            port=port,
            trusted_proxies=trusted_proxies,
            clock=utc_now,
        ) as serving,
    ):
        say(f"The panel is at {serving.url}; Ctrl-C ends it.")
        code = make_setup_code(session.database, now=utc_now())
        if code is not None:
            say(
                "Nobody of the agency can sign in yet. This link makes the first user, once, "
                f"within 24 hours:\n{serving.url}/setup#{code}"
            )
        serving.run()
    say("The panel has ended.")
