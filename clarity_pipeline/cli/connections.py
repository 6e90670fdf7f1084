"""Connecting businesses to Clarity, testing and pausing connections, and how they stand."""

from __future__ import annotations

import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from clarity_pipeline.cli.options import AsJson, BusinessId
from clarity_pipeline.cli.output import cell, console, instant, print_json, say, table
from clarity_pipeline.cli.session import Session, open_session, read_token, utc_now

if TYPE_CHECKING:
    from rich.text import Text

    from clarity_pipeline.domain.quota import QuotaState
    from clarity_pipeline.operations.connecting import ProbeResult
    from clarity_pipeline.operations.connection_status import (
        ConnectionStatus,
        LastAttempt,
        LastError,
    )
    from clarity_pipeline.operations.guarded_call import GuardedCaller
    from clarity_pipeline.store.connections import ConnectionRecord
    from clarity_pipeline.store.quota_ledger import CallRecord
    from clarity_pipeline.store.sync_jobs import SyncJob

STATE_TONES: Final = {
    "connected": "good",
    "never_tested": "warn",
    "partial": "warn",
    "late": "warn",
    "rate_limited_today": "warn",
    "paused": "quiet",
    "not_connected": "quiet",
    "failing": "bad",
    "disabled_auth": "bad",
}


def register(app: typer.Typer) -> None:
    for command in (
        connect,
        connect_many,
        probe,
        enable,
        disable,
        overview,
        disconnect,
        status,
        quota,
    ):
        app.command("test" if command is probe else None)(command)


def connect(
    business_id: BusinessId,
    project_id: Annotated[
        str,
        typer.Option(
            "--project-id",
            metavar="PROJECT",
            help="As in clarity.microsoft.com/projects/view/PROJECT: 6 to 20 letters and digits.",
        ),
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Connect a business to its Clarity project, or give it a new token. Spends no call.

    The token is read from standard input when that is not a terminal, and asked for without
    being shown when it is.
    """
    from clarity_pipeline.domain.audit import AuditAction
    from clarity_pipeline.domain.connections import (
        MAX_TOKEN_LENGTH,
        parse_project_id,
        token_needs_renewal,
    )
    from clarity_pipeline.operations.connecting import connect as store_connection
    from clarity_pipeline.store.businesses import get_business

    with open_session() as session:
        # Everything that can be refused without the token is, before anybody pastes it.
        get_business(session.database, business_id)
        parse_project_id(project_id)
        vault = session.vault
        now = utc_now()
        record = store_connection(
            session.database,
            vault,
            business_id=business_id,
            project_id=project_id,
            token=read_token(most_characters=MAX_TOKEN_LENGTH),
            now=now,
        )
        session.audit(
            AuditAction.CONNECTED,
            business_id=business_id,
            project_id=record.project_id,
        )
    if as_json:
        print_json(_connection_document(record))
        return
    say(f"Connected {business_id} to project {record.project_id}; no call was spent.")
    expiry = instant(record.token_expires_at) or "not said by the token"
    soon = (
        " (within a week: renew it)"
        if token_needs_renewal(record.token_expires_at, now=now)
        else ""
    )
    say(f"Token ending in {record.token_last4}, expires {expiry}{soon}.")
    if not record.is_enabled:
        say(f"Its sync is paused; switch it on with: clarity enable {business_id}")
    say(f"Next: clarity test {business_id}  (spends 1 of 10 calls)")


def connect_many(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="CSV with the columns business_id, name, project_id, token; - for standard input.",
        ),
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Connect all businesses of a CSV file, or none of them. Spends no call.

    Businesses that there are not yet are added. Every row that cannot be used is named; nothing
    is written then.
    """
    from clarity_pipeline.operations.connecting import connect_many as store_connections

    text = _read_list(file)
    with open_session() as session:
        connected = store_connections(session.database, session.vault, text=text, now=utc_now())
    if as_json:
        print_json({"connected": [asdict(each) for each in connected]})
        return
    listing = table(f"{len(connected)} connected", ("business", "project", "token", "expires"))
    for each in connected:
        listing.add_row(
            cell(each.business_id + (" (new)" if each.is_new else "")),
            cell(each.project_id),
            cell(f"...{each.token_last4}"),
            cell(each.token_expires_at),
        )
    console().print(listing)
    say("No call was spent. Next: clarity test ID  (spends 1 of 10 calls of its project)")


def probe(business_id: BusinessId, *, as_json: AsJson = False) -> None:
    """Ask Clarity whether it takes the stored token. Spends one of the project's ten calls."""
    from clarity_pipeline.domain.audit import AuditAction
    from clarity_pipeline.operations.connecting import probe_connection
    from clarity_pipeline.store.connections import get_connection, read_token
    from clarity_pipeline.store.quota_ledger import quota_state

    with open_session() as session:
        # A key that does not read the token is our fault, and no result of a test.
        read_token(session.database, session.vault, business_id)
        result = probe_connection(
            _caller(session),
            business_id=business_id,
            auth_failures_before_disable=session.settings.auth_failures_before_disable,
        )
        session.audit(
            AuditAction.TESTED,
            business_id=business_id,
            result=result.outcome.error_code or "ok",
            calls=result.outcome.calls,
        )
        record = get_connection(session.database, business_id)
        assert record.project_id is not None
        state = quota_state(
            session.database,
            project_id=record.project_id,
            now=utc_now(),
            overview_default=session.settings.overview,
        )
    if as_json:
        print_json(
            {
                "business_id": business_id,
                "succeeded": result.succeeded,
                "result": result.outcome.error_code or "ok",
                "message": result.sentence,
                "calls_spent": result.outcome.calls,
                "sync_enabled": record.is_enabled,
                "switched_off": result.switched_off,
                "quota": quota_document(state),
            }
        )
    else:
        say(result.sentence)
        say(_spent_and_left(result, state))
        if not record.is_enabled:
            say(_how_to_get_it_back(result, record))
    raise typer.Exit(_exit_code(result))


def enable(business_id: BusinessId, *, as_json: AsJson = False) -> None:
    """Switch a business's daily sync on."""
    _switch(business_id, enabled=True, as_json=as_json)


def disable(business_id: BusinessId, *, as_json: AsJson = False) -> None:
    """Pause a business's daily sync; rules then see no values for it."""
    _switch(business_id, enabled=False, as_json=as_json)


class OverviewChoice(StrEnum):
    """A business's own choice about the fifth call; `default` follows CLARITY_OVERVIEW."""

    ON = "on"
    OFF = "off"
    DEFAULT = "default"


def overview(
    business_id: BusinessId,
    choice: Annotated[OverviewChoice, typer.Argument(help="`default` follows CLARITY_OVERVIEW.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Make the fifth call for a business, or not: true totals of its project each day."""
    from clarity_pipeline.store.connections import set_overview

    wanted = {OverviewChoice.ON: True, OverviewChoice.OFF: False}.get(choice)
    with open_session() as session:
        set_overview(session.database, business_id=business_id, overview=wanted, now=utc_now())
    if as_json:
        print_json({"business_id": business_id, "overview": wanted})
    else:
        say(f"The overview of {business_id} is {choice.value}; it takes one of 10 calls a day.")


def disconnect(business_id: BusinessId, *, as_json: AsJson = False) -> None:
    """Forget a business's project and token; everything that was collected stays."""
    from clarity_pipeline.domain.audit import AuditAction
    from clarity_pipeline.store.connections import disconnect as forget_connection
    from clarity_pipeline.store.connections import get_connection

    with open_session() as session:
        was_connected = get_connection(session.database, business_id).is_connected
        forget_connection(session.database, business_id=business_id, now=utc_now())
        if was_connected:
            session.audit(AuditAction.DISCONNECTED, business_id=business_id)
    if as_json:
        print_json({"business_id": business_id, "changed": was_connected})
    elif was_connected:
        say(f"Disconnected {business_id}: its token is gone, its history stays.")
    else:
        say(f"{business_id} was not connected.")


def status(
    business_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="One business; all when left out.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """How connections stand: state, last success, attempt and error, yesterday's data, calls."""
    from clarity_pipeline.operations.connection_status import connection_statuses

    with open_session() as session:
        statuses = connection_statuses(
            session.database,
            now=utc_now(),
            overview_default=session.settings.overview,
            business_ids=None if business_id is None else [business_id],
        )
    if as_json:
        print_json({"businesses": [_status_document(each) for each in statuses]})
    elif not statuses:
        say("There is no business yet; add one with: clarity business add ID --name NAME")
    elif business_id is not None:
        _print_details(statuses[0])
    else:
        _print_statuses(statuses)


def quota(business_id: BusinessId, *, as_json: AsJson = False) -> None:
    """Today's calls of a business's project: used, kept for the schedule, free."""
    from clarity_pipeline.domain.errors import NotConnected
    from clarity_pipeline.store.connections import get_connection
    from clarity_pipeline.store.quota_ledger import list_calls, quota_state

    with open_session() as session:
        project_id = get_connection(session.database, business_id).project_id
        if project_id is None:
            raise NotConnected(business_id)
        state = quota_state(
            session.database,
            project_id=project_id,
            now=utc_now(),
            overview_default=session.settings.overview,
        )
        calls = list_calls(session.database, project_id=project_id, utc_day=state.utc_day)
    if as_json:
        print_json(quota_document(state) | {"calls": [_call_document(call) for call in calls]})
    else:
        _print_quota(state, calls)


def quota_document(state: QuotaState) -> dict[str, object]:
    """A project's quota as JSON."""
    return {
        "project_id": state.project_id,
        "utc_day": state.utc_day,
        "limit": state.limit,
        "used": state.used,
        "kept_for_schedule": state.kept,
        "free": state.free,
        "rate_limited": state.rate_limited,
        "resets_at": state.resets_at,
    }


def job_document(job: SyncJob) -> dict[str, object]:
    """A sync job as JSON."""
    return {
        "business_id": job.business_id,
        "day": job.day,
        "trigger": job.trigger.value,
        "status": job.status.value,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "calls_used": job.calls_used,
        "rows_written": job.rows_written,
        "combos": job.combos,
        "error_code": job.error_code,
        "error_message": job.error_message,
        "dagster_run_id": job.dagster_run_id,
    }


def _read_list(file: Path) -> str:
    from clarity_pipeline.domain.connection_list import decode_connection_list
    from clarity_pipeline.domain.errors import InvalidConnectionList

    if str(file) == "-":
        return sys.stdin.read()
    try:
        return decode_connection_list(file.read_bytes())
    except OSError as error:
        raise InvalidConnectionList(f"{file} cannot be read ({error.strerror}).") from None


def _caller(session: Session) -> GuardedCaller:
    from clarity_pipeline.export_api.client import ExportApiClient
    from clarity_pipeline.operations.guarded_call import GuardedCaller

    return GuardedCaller(
        database=session.database,
        vault=session.vault,
        client=ExportApiClient(base_url=session.settings.api_url),
        clock=utc_now,
        overview_default=session.settings.overview,
        retry_after_seconds=0,
    )


def _spent_and_left(result: ProbeResult, state: QuotaState) -> str:
    spent = f"This spent {result.outcome.calls} of {state.limit} calls"
    if not result.outcome.calls:
        spent = "No call was spent"
    kept = f" and {state.kept} are kept for the daily sync" if state.kept else ""
    return f"{spent}; {state.free} are left for today{kept} (reset {instant(state.resets_at)})."


def _how_to_get_it_back(result: ProbeResult, record: ConnectionRecord) -> str:
    """What to do about a sync that is switched off, after a test."""
    state = "is now" if result.switched_off else "is"
    if result.succeeded or record.disabled_by == "user":
        how = f"clarity enable {record.business_id}"
    else:
        how = f"clarity connect {record.business_id} --project-id {record.project_id}"
    return f"The daily sync of {record.business_id} {state} switched off; get it back with: {how}"


def _exit_code(result: ProbeResult) -> int:
    from clarity_pipeline.domain.collection import ComboStatus

    match result.outcome.status:
        case ComboStatus.LANDED:
            return 0
        case ComboStatus.RATE_LIMITED | ComboStatus.QUOTA_REFUSED:
            return 3
        case ComboStatus.AUTH_FAILED:
            return 4
        case _:
            return 1


def _switch(business_id: str, *, enabled: bool, as_json: bool) -> None:
    from clarity_pipeline.domain.audit import AuditAction
    from clarity_pipeline.domain.connections import DisabledBy
    from clarity_pipeline.store.connections import get_connection, set_enabled

    with open_session() as session:
        before = get_connection(session.database, business_id)
        changed = set_enabled(
            session.database, business_id=business_id, enabled=enabled, now=utc_now()
        )
        if changed:
            action = AuditAction.ENABLED if enabled else AuditAction.DISABLED
            session.audit(action, business_id=business_id)
    refused_before = enabled and changed and before.disabled_by is DisabledBy.AUTH_FAILURE
    if as_json:
        document: dict[str, object] = {
            "business_id": business_id,
            "sync_enabled": enabled,
            "changed": changed,
        }
        if refused_before:
            document["refused_before"] = before.disabled_reason
        print_json(document)
        return
    word = "on" if enabled else "off"
    say(f"Sync of {business_id} is {word}." if changed else f"It was {word} already.")
    if refused_before:
        say(f"It had been switched off because of the token. {before.disabled_reason}")
        say(
            "If the token is refused again the sync is switched off again; try it with: "
            f"clarity test {business_id}"
        )


def _connection_document(record: ConnectionRecord) -> dict[str, object]:
    return {
        "business_id": record.business_id,
        "name": record.name,
        "project_id": record.project_id,
        "token_last4": record.token_last4,
        "token_expires_at": record.token_expires_at,
        "sync_enabled": record.is_enabled,
        "disabled_by": record.disabled_by.value if record.disabled_by else None,
        "disabled_reason": record.disabled_reason,
        "disabled_at": record.disabled_at,
        "last_tested_at": record.last_tested_at,
        "last_test_result": record.last_test_result,
        "last_synced_at": record.last_synced_at,
        "overview": record.overview,
    }


def _status_document(each: ConnectionStatus) -> dict[str, object]:
    return {
        **_connection_document(each.record),
        "state": each.state.value,
        "token_needs_renewal": each.token_needs_renewal,
        "token_has_expired": each.token_has_expired,
        "yesterday": {"day": each.yesterday, "landed": each.landed, "due": each.due},
        "last_success": each.last_success,
        "last_attempt": _attempt_document(each.last_attempt) if each.last_attempt else None,
        "last_error": _error_document(each.last_error) if each.last_error else None,
        "last_job": job_document(each.last_job) if each.last_job else None,
        "quota": quota_document(each.quota) if each.quota else None,
    }


def _attempt_document(attempt: LastAttempt) -> dict[str, object]:
    return {
        "at": attempt.at,
        "day": attempt.day,
        "trigger": attempt.trigger.value,
        "status": attempt.status.value,
    }


def _error_document(error: LastError) -> dict[str, object]:
    return {"at": error.at, "day": error.day, "code": error.code, "message": error.message}


def _call_document(call: CallRecord) -> dict[str, object]:
    return {
        "slot": call.slot,
        "business_id": call.business_id,
        "purpose": call.purpose.value,
        "dimension_set": call.dimension_set,
        "reserved_at": call.reserved_at,
        "settled_at": call.settled_at,
        "outcome": call.outcome.value if call.outcome else None,
    }


def _print_statuses(statuses: list[ConnectionStatus]) -> None:
    listing = table(
        f"Connections; yesterday is {statuses[0].yesterday} (UTC)",
        ("business", "state", "last success", "last attempt", "last error", "yesterday", "calls"),
    )
    for each in statuses:
        listing.add_row(
            cell(each.record.business_id),
            _state_cell(each),
            cell(instant(each.last_success)),
            cell(_attempt_in_words(each.last_attempt)),
            cell(instant(each.last_error.at) if each.last_error else None),
            cell(_landed_of_due(each), "good" if each.landed >= each.due else ""),
            cell(f"{each.quota.used} of {each.quota.limit}" if each.quota else None),
        )
    console().print(listing)
    for each in statuses:
        for sentence in _remarks(each):
            say(f"{each.record.business_id}: {sentence}")


def _print_details(each: ConnectionStatus) -> None:
    """Everything about one connection, a line each."""
    record, error = each.record, each.last_error
    tested = instant(record.last_tested_at)
    lines = {
        "state": _state_cell(each),
        "project": cell(record.project_id),
        "token": cell(f"…{record.token_last4}" if record.token_last4 else None),
        f"token {_expires(each)}": cell(
            instant(record.token_expires_at), "bad" if each.token_needs_renewal else ""
        ),
        "last success": cell(instant(each.last_success)),
        "last attempt": cell(_attempt_in_words(each.last_attempt)),
        "last error": cell(instant(error.at) if error else None),
        "last test": cell(f"{tested}, {record.last_test_result}" if tested else None),
        f"yesterday ({each.yesterday})": cell(_landed_of_due(each)),
        "calls today": cell(_calls_in_words(each.quota)),
    }
    listing = table(f"{record.business_id} ({record.name})", ("", ""))
    listing.show_header = False
    for name, value in lines.items():
        listing.add_row(cell(name, "quiet"), value)
    console().print(listing)
    for sentence in _remarks(each):
        say(sentence[0].upper() + sentence[1:])


def _state_cell(each: ConnectionStatus) -> Text:
    return cell(each.state.value.replace("_", " "), STATE_TONES[each.state.value])


def _attempt_in_words(attempt: LastAttempt | None) -> str | None:
    if attempt is None:
        return None
    status = attempt.status.value.replace("_", " ")
    return f"{instant(attempt.at)}, {attempt.trigger.value}: {status}"


def _expires(each: ConnectionStatus) -> str:
    return "expired" if each.token_has_expired else "expires"


def _landed_of_due(each: ConnectionStatus) -> str | None:
    return f"{each.landed} of {each.due}" if each.record.is_connected else None


def _calls_in_words(state: QuotaState | None) -> str | None:
    if state is None:
        return None
    return f"{state.used} of {state.limit} used, {state.kept} kept for the daily sync"


def _remarks(each: ConnectionStatus) -> list[str]:
    """What somebody should know or do; an error that data were stored after is left out."""
    from clarity_pipeline.domain.connections import ConnectionState

    record, error = each.record, each.last_error
    remarks: list[str] = []
    if each.token_needs_renewal and record.token_expires_at is not None:
        remarks.append(
            f"the token {_expires(each)} {instant(record.token_expires_at)}; generate a new one "
            f"in Clarity and run `clarity connect {record.business_id} "
            f"--project-id {record.project_id}`."
        )
    if record.disabled_reason:
        remarks.append(f"switched off {instant(record.disabled_at)}: {record.disabled_reason}")
    is_mended = (
        each.landed >= each.due
        and each.state is not ConnectionState.FAILING
        and record.last_test_result in {None, "ok"}
    )
    if error is not None and not is_mended:
        remarks.append(f"last error, about {error.day}: {error.message}")
    return remarks


def _print_quota(state: QuotaState, calls: list[CallRecord]) -> None:
    from clarity_pipeline.domain.dimensions import COMBO_BY_DIMENSION_SET

    head = f"Project {state.project_id} on {state.utc_day} (UTC)"
    say(
        f"{head}: {state.used} of {state.limit} calls used, {state.kept} kept for the daily sync, "
        f"{state.free} free; reset {instant(state.resets_at)}."
    )
    if state.rate_limited:
        say("Clarity has refused a call today: nothing more is sent until the reset.")
    if not calls:
        return
    listing = table("Calls", ("slot", "at (UTC)", "business", "purpose", "asked for", "outcome"))
    for call in calls:
        outcome = call.outcome.value if call.outcome else "in flight or abandoned"
        listing.add_row(
            cell(call.slot),
            cell(f"{call.reserved_at:%H:%M:%S}"),
            cell(call.business_id),
            cell(call.purpose.value),
            cell(COMBO_BY_DIMENSION_SET[call.dimension_set].label),
            cell(outcome, "good" if outcome == "landed" else "warn"),
        )
    console().print(listing)
