"""`clarity business`: the client businesses there are."""

from __future__ import annotations

from typing import Annotated

import typer

from clarity_pipeline.cli.options import AsJson, BusinessId
from clarity_pipeline.cli.output import cell, console, print_json, say, table
from clarity_pipeline.cli.session import open_session, utc_now

business_app = typer.Typer(name="business", help="Add client businesses and list them.")


def register(app: typer.Typer) -> None:
    app.add_typer(business_app, no_args_is_help=True)


@business_app.command()
def add(
    business_id: BusinessId,
    name: Annotated[
        str | None, typer.Option("--name", help="Name for people; the id when left out.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Add a business; ID is 1 to 64 of a-z, 0-9, _ and -."""
    from clarity_pipeline.domain.connections import parse_business_name
    from clarity_pipeline.store.businesses import add_business

    with open_session() as session:
        business = add_business(
            session.database,
            business_id=business_id,
            name=parse_business_name(name or "", business_id=business_id),
            now=utc_now(),
        )
    if as_json:
        print_json(
            {
                "business_id": business.id,
                "name": business.name,
                "created_at": business.created_at,
            }
        )
        return
    say(f"Added {business.id} ({business.name}).")
    say(f"Next: clarity connect {business.id} --project-id PROJECT")


@business_app.command("list")
def list_all(*, as_json: AsJson = False) -> None:
    """List all businesses and what they are connected to."""
    from clarity_pipeline.store.connections import list_connections

    with open_session() as session:
        records = list_connections(session.database)
    if as_json:
        print_json(
            {
                "businesses": [
                    {
                        "business_id": record.business_id,
                        "name": record.name,
                        "project_id": record.project_id,
                        "sync_enabled": record.is_enabled,
                    }
                    for record in records
                ]
            }
        )
        return
    if not records:
        say("There is no business yet; add one with: clarity business add ID --name NAME")
        return
    listing = table(f"{len(records)} businesses", ("business", "name", "project", "sync"))
    for record in records:
        sync = "on" if record.is_enabled else "off" if record.is_connected else None
        listing.add_row(
            cell(record.business_id),
            cell(record.name),
            cell(record.project_id),
            cell(sync, "good" if record.is_enabled else "warn"),
        )
    console().print(listing)
