"""`clarity purge`: deleting the history of a business that was disconnected."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from clarity_pipeline.cli.options import AsJson, BusinessId
from clarity_pipeline.cli.output import print_json, remark, say
from clarity_pipeline.cli.session import open_session

if TYPE_CHECKING:
    from clarity_pipeline.operations.purge import PurgePreview


_LONGEST_ANSWER: Final = 100
"""Longer than any id, so that a whole file is refused and not cut to fit."""


def register(app: typer.Typer) -> None:
    app.command()(purge)


def purge(
    business_id: BusinessId,
    *,
    confirmed: Annotated[
        str | None,
        typer.Option("--yes-delete", metavar="ID", help="The same id again; asked for if absent."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Delete everything that was collected of a disconnected business; there is no way back.

    Metrics, aggregates, landed replies, sync jobs and requests go, and what rules decided on them
    and called for. The business, its ads, its calls in the quota ledger and the audit log stay.
    """
    from clarity_pipeline.domain.audit import AuditAction
    from clarity_pipeline.domain.errors import PurgeRefused
    from clarity_pipeline.operations.purge import check_can_purge, purge_preview
    from clarity_pipeline.operations.purge import purge as delete_history

    with open_session() as session:
        check_can_purge(session.database, business_id)
        preview = purge_preview(session.database, business_id)
        is_asked = confirmed is None and sys.stdin.isatty()
        # A program that gets an error wants nothing else on standard error.
        if is_asked or not as_json:
            remark(_in_words(preview))
        if confirmed is None:
            confirmed = _ask()
        if confirmed != business_id:
            raise PurgeRefused(
                f"That is not {business_id!r}, so nothing was deleted; confirm with `clarity purge "
                f"{business_id} --yes-delete {business_id}`."
            )
        purged = delete_history(session.database, business_id)
        session.audit(AuditAction.PURGED, business_id=business_id, rows=purged.total)
    if as_json:
        print_json(
            {
                "business_id": business_id,
                "rows_deleted": purged.total,
                "by_table": dict(purged.rows),
                "days": purged.days,
                "first_day": preview.first_day,
                "last_day": preview.last_day,
            }
        )
        return
    say(f"Deleted {purged.total:,} rows of {purged.days:,} days of {business_id}.")


def _in_words(preview: PurgePreview) -> str:
    if not preview.total:
        return f"There is no history of {preview.business_id}."
    tables = ", ".join(f"{rows:,} of {table}" for table, rows in preview.rows.items() if rows)
    return (
        f"This deletes the history of {preview.business_id} from {preview.first_day} to "
        f"{preview.last_day}, for ever: {tables}."
    )


def _ask() -> str:
    if sys.stdin.isatty():
        return typer.prompt("Type the id of the business to delete its history", err=True)
    return sys.stdin.readline(_LONGEST_ANSWER).strip()
