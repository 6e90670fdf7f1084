"""`clarity ads`: importing campaigns, ad sets, ads and their numbers; accounts on ad platforms."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from clarity_pipeline.cli.options import AsJson, BusinessId
from clarity_pipeline.cli.output import cell, console, print_json, remark, say, table
from clarity_pipeline.cli.session import open_session, read_token, utc_now
from clarity_pipeline.domain.ad_kinds import AdRowKind

if TYPE_CHECKING:
    from clarity_pipeline.domain.ads import AdEntity
    from clarity_pipeline.operations.ads import ImportedAds
    from clarity_pipeline.store.ad_accounts import AdAccount
    from clarity_pipeline.store.bulk import WriteCounts

ads_app = typer.Typer(name="ads", help="Ads, what they cost and brought, and ad accounts.")

SOME_REFUSED: Final = 2
"""Exit code of an import that refused rows, and stored the others."""

_MOST_REASONS: Final = 50
"""Refusals that are shown to people; a file in the wrong form has as many as rows."""

_STATUS_TONES: Final = {"active": "good", "paused": "quiet", "deleted": "quiet"}

AccountId = Annotated[
    str, typer.Argument(metavar="ACCOUNT", help="As `accounts` shows it, such as meta:act_123.")
]


def register(app: typer.Typer) -> None:
    app.add_typer(ads_app, no_args_is_help=True)


@ads_app.command("import")
def import_ads(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV, JSON or JSON lines; - is standard input.")
    ],
    kind: Annotated[
        AdRowKind | None,
        typer.Option("--kind", help="What to take; when left out, what the columns say."),
    ] = None,
    business_id: Annotated[
        str | None,
        typer.Option("--business", metavar="ID", help="Of rows that do not name a business."),
    ] = None,
    platform: Annotated[
        str | None,
        typer.Option("--platform", metavar="NAME", help="Of rows that do not name a platform."),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option("--account", metavar="ACCOUNT", help="Of rows that do not name an account."),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Store the rows of a file; those that cannot be used are named, and end it with exit code 2.

    Columns: platform, level, id, parent_id, account_id, business_id, name, status, landing_url,
    daily_budget, currency, changed_on; date, spend, impressions, clicks, conversions, revenue, and
    further sums such as ad.leads. Instead of level, id, parent_id and name, a row can have
    campaign_id, ad_set_id and ad_id, each with its _name and _status. Reports of Meta's Ads Manager
    are read as they are. A second import of the same file changes nothing.
    """
    from clarity_pipeline.domain.ad_rows import RowDefaults
    from clarity_pipeline.domain.audit import AuditAction
    from clarity_pipeline.operations.ads import import_file

    content = _read(file)
    defaults = RowDefaults(kind=kind, platform=platform, business_id=business_id, account=account)
    with open_session() as session:
        imported = import_file(session.database, content, now=utc_now(), defaults=defaults)
        session.audit(AuditAction.ADS_IMPORTED, business_id=business_id, **imported.counts)
    if as_json:
        print_json(_import_document(imported))
    else:
        _print_import(imported)
    if imported.refused:
        raise typer.Exit(SOME_REFUSED)


@ads_app.command("list")
def list_ads(
    business_id: Annotated[
        str | None,
        typer.Option("--business", metavar="ID", help="Of one business; of all when left out."),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List campaigns, ad sets and ads."""
    from clarity_pipeline.store.ad_entities import list_entities
    from clarity_pipeline.store.businesses import get_business

    with open_session() as session:
        if business_id is not None:
            get_business(session.database, business_id)
        entities = list_entities(
            session.database, business_ids=None if business_id is None else [business_id]
        )
    if as_json:
        print_json({"entities": [asdict(entity) for entity in entities]})
    elif entities:
        _print_entities(entities)
    else:
        say("There are no ads yet; bring some with: clarity ads import FILE")


@ads_app.command()
def connect(
    business_id: BusinessId,
    platform: Annotated[
        str, typer.Option("--platform", metavar="NAME", help="The ad platform, such as meta.")
    ],
    account: Annotated[
        str,
        typer.Option("--account", metavar="ACCOUNT", help="Its id there, such as act_123456."),
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Connect an ad account, so that rules can act on its ads, or give it a new token.

    The token is read from standard input when that is not a terminal, and asked for without
    being shown when it is. Nothing is sent to the platform.
    """
    from clarity_pipeline.domain.ads import MAX_TOKEN_LENGTH, parse_account_id, parse_platform
    from clarity_pipeline.domain.audit import AuditAction
    from clarity_pipeline.operations.ads import connect_account
    from clarity_pipeline.store.businesses import get_business

    with open_session() as session:
        # Everything that can be refused without the token is, before anybody pastes it.
        get_business(session.database, business_id)
        parse_platform(platform)
        parse_account_id(account)
        connected = connect_account(
            session.database,
            session.vault,
            platform=platform,
            account=account,
            business_id=business_id,
            token=read_token(most_characters=MAX_TOKEN_LENGTH),
            now=utc_now(),
        )
        session.audit(
            AuditAction.AD_ACCOUNT_CONNECTED, business_id=business_id, account=connected.id
        )
    if as_json:
        print_json(asdict(connected))
    else:
        say(
            f"Connected {connected.id} to {business_id}; its token ends in {connected.token_last4}."
        )


@ads_app.command()
def accounts(*, as_json: AsJson = False) -> None:
    """List the ad accounts that are connected, without their tokens."""
    from clarity_pipeline.store.ad_accounts import list_accounts

    with open_session() as session:
        connected = list_accounts(session.database)
    if as_json:
        print_json({"accounts": [asdict(account) for account in connected]})
    elif connected:
        _print_accounts(connected)
    else:
        say(
            "No ad account is connected; connect one with: clarity ads connect ID --platform meta "
            "--account act_123"
        )


@ads_app.command()
def disconnect(account_id: AccountId, *, as_json: AsJson = False) -> None:
    """Forget an ad account and its token; its ads and their numbers stay."""
    from clarity_pipeline.domain.audit import AuditAction
    from clarity_pipeline.store.ad_accounts import disconnect_account

    with open_session() as session:
        gone = disconnect_account(session.database, account_id)
        session.audit(
            AuditAction.AD_ACCOUNT_DISCONNECTED, business_id=gone.business_id, account=gone.id
        )
    if as_json:
        print_json({"id": gone.id, "business_id": gone.business_id})
    else:
        say(f"Disconnected {gone.id}: its token is gone, its ads and their numbers stay.")


def _read(file: Path) -> bytes:
    from clarity_pipeline.domain.errors import InvalidAdRows

    if str(file) == "-":
        # What the terminal's encoding could not decode comes back as the bytes that it was.
        return sys.stdin.read().encode(errors="surrogateescape")
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidAdRows(f"{file} cannot be read ({error.strerror}).") from None


def _import_document(imported: ImportedAds) -> dict[str, object]:
    return {
        "rows": imported.rows,
        "entities": _counts(imported.entities),
        "days": _counts(imported.metrics),
        "columns_passed_over": list(imported.passed_over),
        "refused": [asdict(row) for row in imported.refused],
    }


def _counts(counts: WriteCounts) -> dict[str, int]:
    return {
        "inserted": counts.inserted,
        "updated": counts.updated,
        "unchanged": counts.unchanged,
    }


def _print_import(imported: ImportedAds) -> None:
    for row in imported.refused[:_MOST_REASONS]:
        remark(f"Line {row.line}: {row.reason}")
    if len(imported.refused) > _MOST_REASONS:
        remark(f"And {len(imported.refused) - _MOST_REASONS:,} more; --json names them all.")
    if imported.passed_over:
        remark(f"These columns are not used: {', '.join(imported.passed_over)}.")
    say(
        f"Stored {imported.rows - len(imported.refused):,} of {imported.rows:,} rows: "
        f"{_in_words('entities', imported.entities)}, {_in_words('days', imported.metrics)}."
    )
    if imported.refused:
        say(f"{len(imported.refused):,} rows were refused; mend them and import the file again.")


def _in_words(what: str, counts: WriteCounts) -> str:
    return (
        f"{what} {counts.inserted:,} new, {counts.updated:,} changed, {counts.unchanged:,} as "
        "they were"
    )


def _print_entities(entities: list[AdEntity]) -> None:
    listing = table(
        f"{len(entities):,} campaigns, ad sets and ads",
        ("id", "level", "name", "status", "business", "landing page", "daily budget"),
    )
    for each in entities:
        budget = each.daily_budget
        listing.add_row(
            cell(each.id),
            cell(each.level.value.replace("_", " ")),
            cell(each.name),
            cell(each.status.value, _STATUS_TONES[each.status.value]),
            cell(each.business_id),
            cell(each.landing_page),
            cell(None if budget is None else f"{budget:,.2f} {each.currency or ''}".strip()),
        )
    console().print(listing)


def _print_accounts(connected: list[AdAccount]) -> None:
    listing = table(
        f"{len(connected)} ad accounts", ("id", "business", "token", "connected", "state")
    )
    for each in connected:
        is_used = each.disabled_at is None
        state, tone = ("in use", "good") if is_used else (f"off: {each.disabled_reason}", "bad")
        listing.add_row(
            cell(each.id),
            cell(each.business_id),
            cell(f"…{each.token_last4}"),
            cell(each.created_at),
            cell(state, tone),
        )
    console().print(listing)
