"""`clarity retention`: removing what is older than the settings keep it."""

from __future__ import annotations

from typing import Annotated

import typer

from clarity_pipeline.cli.options import AsJson
from clarity_pipeline.cli.output import print_json, say
from clarity_pipeline.cli.session import open_session, utc_now


def register(app: typer.Typer) -> None:
    app.command()(retention)


def retention(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what is older than CLARITY_KEEP_PAYLOAD_DAYS, _EXPORTS_DAYS and _RUNS_DAYS say.

    Does what the Dagster job `clarity_retention` does. Metrics and aggregates are kept for ever.
    """
    from clarity_pipeline.operations.retention import limits_of, remove_exports, remove_payloads
    from clarity_pipeline.orchestration.launch import open_instance
    from clarity_pipeline.orchestration.run_history import remove_runs

    now = utc_now()
    with open_session() as session:
        limits = limits_of(session.settings)
        removals = [
            remove(session.database, limits, now=now, dry_run=dry_run)
            for remove in (remove_payloads, remove_exports)
        ]
        with open_instance(session.settings) as instance:
            removals.append(remove_runs(instance, limits, now=now, dry_run=dry_run))
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "removed": {removal.kind.value: removal.numbers() for removal in removals},
            }
        )
        return
    for removal in removals:
        say(removal.sentence(dry_run=dry_run))
