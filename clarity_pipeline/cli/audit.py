"""`clarity audit`: who changed what, when and from where."""

from __future__ import annotations

from typing import Annotated

import typer

from clarity_pipeline.cli.options import AsJson
from clarity_pipeline.cli.output import cell, console, print_json, say, table
from clarity_pipeline.cli.session import open_session


def register(app: typer.Typer) -> None:
    app.command()(audit)


def audit(
    business_id: Annotated[
        str | None,
        typer.Option("--business", metavar="ID", help="Of one business; of all when left out."),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=100_000, help="So many, latest first.")
    ] = 50,
    *,
    as_json: AsJson = False,
) -> None:
    """Show the latest entries of the audit log: the panel's and those of this command."""
    from clarity_pipeline.domain.connections import parse_business_id
    from clarity_pipeline.store.audit_log import list_audit

    # A business that is gone keeps its entries, so it is not looked up.
    business = None if business_id is None else parse_business_id(business_id)
    with open_session() as session:
        entries = list_audit(session.database, business_id=business, limit=limit)
    if as_json:
        print_json(
            {
                "entries": [
                    {
                        "at": entry.at,
                        "actor": entry.actor,
                        "action": entry.action.value,
                        "business_id": entry.business_id,
                        "detail": entry.detail,
                        "remote_address": entry.remote_address,
                    }
                    for entry in entries
                ]
            }
        )
        return
    if not entries:
        say("There is no entry yet.")
        return
    listing = table("Audit log, latest first", ("at", "who", "did what", "business", "from"))
    for entry in entries:
        detail = "; ".join(f"{name}: {value}" for name, value in (entry.detail or {}).items())
        listing.add_row(
            cell(entry.at),
            cell(entry.actor),
            cell(f"{entry.action.words} ({detail})" if detail else entry.action.words),
            cell(entry.business_id),
            cell(entry.remote_address),
        )
    console().print(listing)
