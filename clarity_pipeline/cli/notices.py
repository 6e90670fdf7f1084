"""`clarity notices`: what people have been told, what waits to be sent, and whether it arrives."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from clarity_pipeline.cli.options import AsJson
from clarity_pipeline.cli.output import cell, console, instant, print_json, remark, say, table
from clarity_pipeline.cli.session import open_session, utc_now

if TYPE_CHECKING:
    from clarity_pipeline.store.notices import StoredNotice

notices_app = typer.Typer(name="notices", help="Notices about connections, runs and checks.")

SHOWN: Final = 20

_TONES: Final = {"error": "bad", "warning": "warn", "recovery": "good"}


def register(app: typer.Typer) -> None:
    app.add_typer(notices_app, invoke_without_command=True)


@notices_app.callback()
def list_notices(
    context: typer.Context,
    *,
    all_of_them: Annotated[
        bool, typer.Option("--all", help="All there are, silent ones included.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the newest notices and whether they have been sent."""
    if context.invoked_subcommand is not None:
        return
    from clarity_pipeline.notify.addresses import parse_addresses
    from clarity_pipeline.store import notices

    now = utc_now()
    with open_session() as session:
        found = notices.list_notices(
            session.database, with_silent=all_of_them, limit=None if all_of_them else SHOWN
        )
        addresses = len(parse_addresses(session.settings.notice_urls))
    if as_json:
        documents = [_document(notice, now=now) for notice in found]
        print_json({"addresses": addresses, "notices": documents})
        return
    if not found:
        say("There is no notice: nothing has gone wrong yet.")
    else:
        _print(found, now=now)
    if not addresses:
        remark("Nothing is sent: CLARITY_NOTICE_URLS names no address.")


@notices_app.command("test")
def send_test(*, as_json: AsJson = False) -> None:
    """Send a test notice to every address of CLARITY_NOTICE_URLS, and say which refused it."""
    from clarity_pipeline.domain.errors import ConfigurationError
    from clarity_pipeline.domain.notices import Severity, refused_by
    from clarity_pipeline.notify.addresses import parse_addresses
    from clarity_pipeline.settings import load_settings

    addresses = parse_addresses(load_settings().notice_urls)
    if not len(addresses):
        raise ConfigurationError(
            "CLARITY_NOTICE_URLS names no address; write Apprise addresses into it, with blanks "
            "between them."
        )
    refused = addresses.send(
        title="Test of clarity_pipeline",
        body="Notices about Clarity data will arrive here.",
        severity=Severity.INFO,
    )
    if as_json:
        print_json({"addresses": len(addresses), "refused": sorted(refused)})
    else:
        for position in range(1, len(addresses) + 1):
            verdict = "did not accept it" if position in refused else "accepted it"
            say(f"Address {position} of {len(addresses)} {verdict}.")
    if refused:
        error = refused_by(refused, addresses=len(addresses))
        if not as_json and error is not None:
            remark(f"{error} Check its spelling and password, and that it can be reached.")
        raise typer.Exit(1)


@notices_app.command()
def send(*, as_json: AsJson = False) -> None:
    """Notice what has changed about connections and send what is due, as the sensor does.

    From a cron job of another machine this still speaks when Dagster's daemon is not running.
    """
    from clarity_pipeline.notify.addresses import parse_addresses
    from clarity_pipeline.operations import notices

    with open_session() as session:
        news = notices.record_connection_notices(
            session.database, overview_default=session.settings.overview, now=utc_now()
        )
        delivered = notices.deliver_pending(
            session.database, parse_addresses(session.settings.notice_urls), now=utc_now()
        )
    if as_json:
        print_json(
            {"recorded": len(news), "sent": delivered.sent, "not_accepted": delivered.failed}
        )
    else:
        say(f"{len(news)} new notices, {delivered.sent} sent.")
        if delivered.failed:
            remark("No address accepted the last one; it will be tried again.")
    if delivered.failed:
        raise typer.Exit(1)


def _print(found: list[StoredNotice], *, now: datetime) -> None:
    from clarity_pipeline.domain.notices import delivery_state

    listing = table("Notices, newest first", ("at", "severity", "notice", "sent"))
    for notice in found:
        state = delivery_state(notice, now=now).value.replace("_", " ")
        sent = instant(notice.sent_at) or (
            f"{state}: {notice.last_error}" if notice.last_error else state
        )
        listing.add_row(
            cell(notice.created_at),
            cell(notice.severity.value, _TONES.get(notice.severity.value, "")),
            cell(notice.title or f"{notice.subject}: {notice.state.replace('_', ' ')}"),
            cell(sent, "" if notice.sent_at else "quiet"),
        )
    console().print(listing)


def _document(notice: StoredNotice, *, now: datetime) -> dict[str, object]:
    from clarity_pipeline.domain.notices import delivery_state

    return {
        "id": notice.id,
        "subject": notice.subject,
        "state": notice.state,
        "severity": notice.severity.value,
        "title": notice.title,
        "body": notice.body,
        "created_at": notice.created_at,
        "delivery": delivery_state(notice, now=now).value,
        "sent_at": notice.sent_at,
        "attempts": notice.attempts,
        "last_error": notice.last_error,
    }
