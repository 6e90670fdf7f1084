"""`clarity user`: who can sign in to the panel."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from clarity_pipeline.cli.options import AsJson
from clarity_pipeline.cli.output import cell, console, print_json, say, table
from clarity_pipeline.cli.session import open_session, utc_now
from clarity_pipeline.domain.access import MAX_PASSWORD_LENGTH, Role

if TYPE_CHECKING:
    from clarity_pipeline.store.panel_users import PanelUser

user_app = typer.Typer(name="user", help="People who sign in to the panel.")

Login = Annotated[str, typer.Argument(metavar="LOGIN", help="As they type it at the panel.")]


def register(app: typer.Typer) -> None:
    app.add_typer(user_app, no_args_is_help=True)


@user_app.command()
def add(
    login: Login,
    role: Annotated[
        Role, typer.Option("--role", help="The agency sees every business, a client its own.")
    ],
    business_id: Annotated[
        str | None, typer.Option("--business", metavar="ID", help="The client's business.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Add a user of the panel.

    The password is read from standard input when that is not a terminal, and asked for twice
    without being shown when it is.
    """
    from clarity_pipeline.domain.access import business_of, parse_login
    from clarity_pipeline.domain.audit import AuditAction
    from clarity_pipeline.panel.passwords import hash_new_password
    from clarity_pipeline.store.businesses import get_business
    from clarity_pipeline.store.panel_users import add_user

    with open_session() as session:
        # Everything that can be refused without the password is, before anybody types it.
        name, business = parse_login(login), business_of(role, business_id)
        if business is not None:
            get_business(session.database, business)
        user = add_user(
            session.database,
            login=name,
            password_hash=hash_new_password(_read_password(), login=name),
            role=role,
            business_id=business,
            now=utc_now(),
        )
        session.audit(
            AuditAction.USER_ADDED,
            business_id=user.business_id,
            user=user.login,
            role=user.role.value,
        )
    if as_json:
        print_json(_document(user))
    else:
        say(f"Added {user.login}, who sees {_sees(user)}.")


@user_app.command("list")
def list_all(*, as_json: AsJson = False) -> None:
    """List all users, those whose access has ended too."""
    from clarity_pipeline.store.panel_users import list_users

    with open_session() as session:
        users = list_users(session.database)
    if as_json:
        print_json({"users": [_document(user) for user in users]})
        return
    if not users:
        say("There is no user yet; `clarity panel` prints a link that makes the first one.")
        return
    listing = table(f"{len(users)} users", ("login", "sees", "last signed in", "access"))
    for user in users:
        listing.add_row(
            cell(user.login),
            cell(_sees(user)),
            cell(user.last_login_at),
            cell("ended", "quiet") if user.revoked_at else cell("active", "good"),
        )
    console().print(listing)


@user_app.command()
def revoke(login: Login, *, as_json: AsJson = False) -> None:
    """End a user's access and sessions at once."""
    from clarity_pipeline.domain.access import parse_login
    from clarity_pipeline.domain.audit import AuditAction
    from clarity_pipeline.store.panel_users import get_user, has_agency_user, revoke_user

    with open_session() as session:
        user = get_user(session.database, parse_login(login))
        changed = revoke_user(session.database, login=user.login, now=utc_now())
        if changed:
            session.audit(AuditAction.USER_REVOKED, business_id=user.business_id, user=user.login)
        somebody_is_left = has_agency_user(session.database)
    if as_json:
        print_json({"login": user.login, "changed": changed})
        return
    say(
        f"{user.login} cannot sign in any more."
        if changed
        else f"The access of {user.login} had ended already."
    )
    if not somebody_is_left:
        say("The agency has no user now; `clarity panel` prints a link that makes one.")


@user_app.command()
def password(login: Login, *, as_json: AsJson = False) -> None:
    """Give a user a new password and end their sessions; it is read as `user add` reads it."""
    from clarity_pipeline.domain.access import parse_login
    from clarity_pipeline.domain.audit import AuditAction
    from clarity_pipeline.panel.passwords import hash_new_password
    from clarity_pipeline.store.panel_users import change_password, get_user

    with open_session() as session:
        user = get_user(session.database, parse_login(login))
        change_password(
            session.database,
            user_id=user.id,
            password_hash=hash_new_password(_read_password(), login=user.login),
            now=utc_now(),
        )
        session.audit(AuditAction.PASSWORD_CHANGED, business_id=user.business_id, user=user.login)
    if as_json:
        print_json({"login": user.login, "changed": True})
    else:
        say(f"{user.login} signs in with the new password; earlier sessions have ended.")


def _read_password() -> str:
    """A password from standard input, or asked for twice without an echo."""
    if sys.stdin.isatty():
        return typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    # A character more than the longest and its line end, so that none is cut to fit.
    return sys.stdin.read(MAX_PASSWORD_LENGTH + 2).rstrip("\r\n")


def _sees(user: PanelUser) -> str:
    return user.business_id or "every business"


def _document(user: PanelUser) -> dict[str, object]:
    return {
        "login": user.login,
        "role": user.role.value,
        "business_id": user.business_id,
        "created_at": user.created_at,
        "password_changed_at": user.password_changed_at,
        "last_login_at": user.last_login_at,
        "revoked_at": user.revoked_at,
    }
