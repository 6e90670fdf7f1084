"""`clarity api-key`: keys with which programs reach the panel's API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from clarity_pipeline.cli.options import AsJson
from clarity_pipeline.cli.output import cell, console, print_json, say, table
from clarity_pipeline.cli.session import command_line_actor, open_session, utc_now
from clarity_pipeline.domain.access import KeyScope

if TYPE_CHECKING:
    from clarity_pipeline.store.api_keys import ApiKey

key_app = typer.Typer(name="api-key", help="Keys of programs that use the panel's API.")

_LARGEST_ID: Final = 2**63 - 1


def register(app: typer.Typer) -> None:
    app.add_typer(key_app, no_args_is_help=True)


@key_app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the key is for.")],
    scope: Annotated[
        KeyScope, typer.Option("--scope", help="What it may do: look, or change things too.")
    ] = KeyScope.READ,
    business_id: Annotated[
        str | None,
        typer.Option("--business", metavar="ID", help="The only business; all when left out."),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once."""
    from clarity_pipeline.domain.audit import AuditAction
    from clarity_pipeline.operations.access import make_api_key

    with open_session() as session:
        key, secret = make_api_key(
            session.database,
            name=name,
            scope=scope,
            business_id=business_id,
            created_by=command_line_actor(),
            now=utc_now(),
        )
        session.audit(
            AuditAction.KEY_ADDED,
            business_id=key.business_id,
            key=key.name,
            scope=key.scope.value,
            ends_in=key.key_last4,
        )
    if as_json:
        print_json(_document(key) | {"key": secret})
        return
    say(f"Key {key.id}, which may {_may(key)}. It is shown this once:")
    say(secret)


@key_app.command("list")
def list_all(*, as_json: AsJson = False) -> None:
    """List all keys, revoked ones too, without their secrets."""
    from clarity_pipeline.store.api_keys import list_keys

    with open_session() as session:
        keys = list_keys(session.database)
    if as_json:
        print_json({"api_keys": [_document(key) for key in keys]})
        return
    if not keys:
        say("There is no key yet; make one with: clarity api-key add NAME")
        return
    listing = table(f"{len(keys)} keys", ("id", "name", "ends in", "may", "last used", "access"))
    for key in keys:
        listing.add_row(
            cell(key.id),
            cell(key.name),
            cell(key.key_last4),
            cell(_may(key)),
            cell(key.last_used_at),
            cell("revoked", "quiet") if key.revoked_at else cell("active", "good"),
        )
    console().print(listing)


@key_app.command()
def revoke(
    key_id: Annotated[
        int, typer.Argument(metavar="ID", min=1, max=_LARGEST_ID, help="As `list` shows it.")
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """From now on nobody gets in with a key."""
    from clarity_pipeline.domain.audit import AuditAction
    from clarity_pipeline.store.api_keys import get_key, revoke_key

    with open_session() as session:
        key = get_key(session.database, key_id)
        changed = revoke_key(session.database, key_id=key_id, now=utc_now())
        if changed:
            session.audit(
                AuditAction.KEY_REVOKED,
                business_id=key.business_id,
                key=key.name,
                ends_in=key.key_last4,
            )
    if as_json:
        print_json({"id": key.id, "name": key.name, "changed": changed})
    else:
        say(f"Revoked {key.name}." if changed else f"{key.name} had been revoked already.")


def _may(key: ApiKey) -> str:
    what = "read and change" if key.scope is KeyScope.WRITE else "read"
    return f"{what} {key.business_id or 'every business'}"


def _document(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "ends_in": key.key_last4,
        "scope": key.scope.value,
        "business_id": key.business_id,
        "created_by": key.created_by,
        "created_at": key.created_at,
        "last_used_at": key.last_used_at,
        "revoked_at": key.revoked_at,
    }
