"""The API of one business's connection: project and token, test, pause, quota, syncs, purge."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Path, Query, Request
from starlette.responses import Response

from clarity_pipeline.domain.access import Principal, Role
from clarity_pipeline.domain.audit import AuditAction
from clarity_pipeline.domain.collection import ComboStatus
from clarity_pipeline.domain.days import next_scheduled_at
from clarity_pipeline.domain.dimensions import combos_of_a_day
from clarity_pipeline.domain.errors import (
    InvalidDay,
    InvalidProjectId,
    InvalidToken,
    NoLongerCollectable,
    NotConnected,
    PurgeRefused,
    SyncDisabled,
    UnknownSyncRequest,
)
from clarity_pipeline.domain.quota import QuotaState
from clarity_pipeline.domain.quota_slots import QuotaSlot, SlotKind, quota_slots
from clarity_pipeline.domain.sync_jobs import JobStatus
from clarity_pipeline.operations import connecting, purge
from clarity_pipeline.operations.collect_day import wants_overview
from clarity_pipeline.operations.connecting import ProbeResult
from clarity_pipeline.operations.connection_status import ConnectionStatus, connection_statuses
from clarity_pipeline.operations.insight import USUAL_SYNCS, past_syncs
from clarity_pipeline.operations.sync_requests import RequestProgress, progress_of, request_sync
from clarity_pipeline.panel.api_document import problems
from clarity_pipeline.panel.api_models import (
    LARGEST_ID,
    ComboTold,
    ConnectionChange,
    ConnectionTold,
    DisconnectedTold,
    EnabledTold,
    EnabledWanted,
    JobsTold,
    JobTold,
    PurgedTold,
    PurgePreviewTold,
    PurgeWanted,
    QuotaSlotsTold,
    SlotTold,
    SyncRequestTold,
    SyncWanted,
    TestTold,
    TestWanted,
)
from clarity_pipeline.panel.api_tables import CSV_TOO, WantsCsv, csv_response
from clarity_pipeline.panel.auditing import audit
from clarity_pipeline.panel.errors import LastCallUnconfirmed, PurgeUnconfirmed
from clarity_pipeline.panel.guard import CurrentBusiness, CurrentPrincipal, Services
from clarity_pipeline.panel.services import PanelServices
from clarity_pipeline.panel.wording import advice_for, progress_sentence
from clarity_pipeline.store import connections, quota_ledger
from clarity_pipeline.store.businesses import Business
from clarity_pipeline.store.sync_requests import SyncRequest, get_request

router = APIRouter(tags=["Connection"])
syncs = APIRouter(tags=["Syncs"])
purging = APIRouter(tags=["Agency"])

_QUOTA_SPENT: Final = frozenset({ComboStatus.RATE_LIMITED, ComboStatus.QUOTA_REFUSED})


@router.get("/config")
def read_config(services: Services, business: CurrentBusiness) -> ConnectionTold:
    """How the connection stands. Of the token only its last four characters and its expiry."""
    return _connection(services, _status(services, business))


@router.put("/config", openapi_extra=problems(InvalidProjectId, InvalidToken, NotConnected))
def change_config(
    request: Request, services: Services, business: CurrentBusiness, wanted: ConnectionChange
) -> ConnectionTold:
    """Connect, or change project, token or overview. Spends no call.

    A new token replaces the old one; without one the stored token is kept. A sync that was
    switched off for a refused token goes on; one that somebody paused stays paused.
    """
    connecting.update_connection(
        services.database,
        services.vault,
        business_id=business.id,
        project_id=wanted.project_id,
        token=None if wanted.token is None else wanted.token.get_secret_value(),
        overview=wanted.overview,
        now=services.clock(),
    )
    status = _status(services, business)
    audit(
        request,
        AuditAction.CONNECTED,
        business_id=business.id,
        project_id=status.record.project_id,
        token="kept" if wanted.token is None else "replaced",
        overview=wanted.overview,
    )
    return _connection(services, status)


@router.delete("/config")
def disconnect(request: Request, services: Services, business: CurrentBusiness) -> DisconnectedTold:
    """Forget project and token; everything that was collected is retained."""
    was_connected = connections.get_connection(services.database, business.id).is_connected
    connections.disconnect(services.database, business_id=business.id, now=services.clock())
    if was_connected:
        audit(request, AuditAction.DISCONNECTED, business_id=business.id)
    return DisconnectedTold(changed=was_connected)


@router.post("/test", openapi_extra=problems(NotConnected, LastCallUnconfirmed))
def test_connection(
    request: Request,
    services: Services,
    business: CurrentBusiness,
    wanted: Annotated[TestWanted, Body()],
) -> TestTold:
    """Ask Clarity whether it takes the token. Burns one of ten calls; the reply is kept.

    The answer is 200 whatever Clarity said: the verdict is in it.
    """
    quota = _quota(services, business)
    if quota.is_down_to_one and not wanted.confirm_last_slot:
        raise LastCallUnconfirmed
    # A key that does not read the token is our fault, and no result of a test.
    connections.read_token(services.database, services.vault, business.id)
    result = connecting.probe_connection(
        services.caller(),
        business_id=business.id,
        auth_failures_before_disable=services.settings.auth_failures_before_disable,
    )
    audit(
        request,
        AuditAction.TESTED,
        business_id=business.id,
        result=result.outcome.error_code or "ok",
        calls=result.outcome.calls,
    )
    return TestTold.model_validate(
        {
            "verdict": _verdict(result),
            "result": result.outcome.error_code or "ok",
            "message": _message(result),
            "calls_spent": result.outcome.calls,
            "sync_switched_off": result.switched_off,
            "quota": _quota_values(_quota(services, business)),
        }
    )


@router.put("/enabled", openapi_extra=problems(NotConnected))
def change_enabled(
    request: Request, services: Services, business: CurrentBusiness, wanted: EnabledWanted
) -> EnabledTold:
    """Pause the daily sync, or let it go on. To ask for what is so already changes nothing."""
    changed = connections.set_enabled(
        services.database,
        business_id=business.id,
        enabled=wanted.enabled,
        now=services.clock(),
    )
    if changed:
        action = AuditAction.ENABLED if wanted.enabled else AuditAction.DISABLED
        audit(request, action, business_id=business.id)
    return EnabledTold(sync_enabled=wanted.enabled, changed=changed)


@router.get("/quota", openapi_extra=problems(NotConnected))
def read_quota(
    services: Services, business: CurrentBusiness, principal: CurrentPrincipal
) -> QuotaSlotsTold:
    """Today's ten calls of the project: who used which, and how many are left for what."""
    quota = _quota(services, business)
    calls = quota_ledger.list_calls(
        services.database, project_id=quota.project_id, utc_day=quota.utc_day
    )
    slots = quota_slots(quota, calls, business_id=business.id)
    return QuotaSlotsTold.model_validate(
        _quota_values(quota) | {"slots": [_slot(slot, principal) for slot in slots]}
    )


@purging.get("/history")
def read_history_extent(services: Services, business: CurrentBusiness) -> PurgePreviewTold:
    """How much history there is: what a purge would delete."""
    preview = purge.purge_preview(services.database, business.id)
    return PurgePreviewTold.model_validate(preview)


@purging.post("/purge", openapi_extra=problems(PurgeRefused, PurgeUnconfirmed))
def purge_history(
    request: Request, services: Services, business: CurrentBusiness, wanted: PurgeWanted
) -> PurgedTold:
    """Delete the history of a disconnected business, for ever. The body repeats its id."""
    if wanted.business_id != business.id:
        raise PurgeUnconfirmed
    purged = purge.purge(services.database, business.id)
    audit(
        request,
        AuditAction.PURGED,
        business_id=business.id,
        rows=purged.total,
        days=purged.days,
    )
    return PurgedTold.model_validate(purged)


@syncs.post(
    "/sync-requests",
    status_code=202,
    openapi_extra=problems(NotConnected, SyncDisabled, InvalidDay, NoLongerCollectable),
)
def request_a_sync(
    request: Request,
    services: Services,
    business: CurrentBusiness,
    principal: CurrentPrincipal,
    wanted: SyncWanted,
) -> SyncRequestTold:
    """Ask for a day; a worker picks it up within seconds. An open request is not doubled."""
    asked = request_sync(
        services.database,
        business_id=business.id,
        requested_by=principal.label,
        now=services.clock(),
        day=wanted.day,
    )
    audit(request, AuditAction.SYNC_REQUESTED, business_id=business.id, day=asked.day.isoformat())
    return _request(_progress(services, asked), principal)


@syncs.get("/sync-requests/{request_id}", openapi_extra=problems(UnknownSyncRequest))
def read_sync_request(
    services: Services,
    business: CurrentBusiness,
    principal: CurrentPrincipal,
    request_id: Annotated[int, Path(ge=1, le=LARGEST_ID, examples=[17])],
) -> SyncRequestTold:
    """How far a sync is that somebody asked for."""
    asked = get_request(services.database, request_id=request_id, business_id=business.id)
    return _request(_progress(services, asked), principal)


@syncs.get("/jobs", response_model=JobsTold, responses=CSV_TOO)
def list_jobs(
    services: Services,
    business: CurrentBusiness,
    wants_csv: WantsCsv,
    status: Annotated[JobStatus | None, Query(description="Only jobs that stand so.")] = None,
    before_id: Annotated[
        int | None, Query(ge=1, le=LARGEST_ID, description="Only older jobs than this one.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = USUAL_SYNCS,
) -> JobsTold | Response:
    """Sync jobs, newest first, a page at a time."""
    past = past_syncs(
        services.database, business.id, status=status, before_id=before_id, limit=limit
    )
    jobs = [JobTold.model_validate(job) for job in past.syncs]
    if wants_csv:
        return csv_response(JobTold, jobs, name=f"{business.id}-jobs")
    return JobsTold(jobs=jobs, next_before_id=past.next_before_id)


def _status(services: PanelServices, business: Business) -> ConnectionStatus:
    (status,) = connection_statuses(
        services.database,
        now=services.clock(),
        overview_default=services.settings.overview,
        business_ids=[business.id],
    )
    return status


def _connection(services: PanelServices, status: ConnectionStatus) -> ConnectionTold:
    record, now = status.record, services.clock()
    overview = wants_overview(record, services.settings.overview)
    error = status.last_error
    token = record.token_last4 and {
        "last4": record.token_last4,
        "expires_at": record.token_expires_at,
        "needs_renewal": status.token_needs_renewal,
        "has_expired": status.token_has_expired,
    }
    return ConnectionTold.model_validate(
        {
            "business_id": record.business_id,
            "name": record.name,
            "description": _description(calls=len(combos_of_a_day(overview=overview))),
            "state": status.state,
            "project_id": record.project_id,
            "token": token or None,
            "overview": record.overview,
            "overview_in_force": overview,
            "sync_enabled": record.is_enabled,
            "disabled_by": record.disabled_by,
            "disabled_reason": record.disabled_reason,
            "disabled_at": record.disabled_at,
            "last_tested_at": record.last_tested_at,
            "last_test_result": record.last_test_result,
            "last_success_at": status.last_success,
            "last_attempt": status.last_attempt,
            "last_error": error
            and {
                "at": error.at,
                "day": error.day,
                "code": error.code,
                "message": error.message,
                "advice": advice_for(error.code),
            },
            "next_run_at": next_scheduled_at(now) if record.is_enabled else None,
            "yesterday": {"day": status.yesterday, "landed": status.landed, "due": status.due},
        }
    )


def _description(*, calls: int) -> str:
    return (
        "Sync rage clicks, scroll depth and other behavioural metrics from Microsoft Clarity. The "
        f"Clarity API allows 10 calls per project per day; the daily scheduler uses {calls} of "
        "those."
    )


def _quota(services: PanelServices, business: Business) -> QuotaState:
    """Raises NotConnected."""
    project_id = connections.get_connection(services.database, business.id).project_id
    if project_id is None:
        raise NotConnected(business.id)
    return quota_ledger.quota_state(
        services.database,
        project_id=project_id,
        now=services.clock(),
        overview_default=services.settings.overview,
    )


def _quota_values(quota: QuotaState) -> dict[str, Any]:
    return {
        "project_id": quota.project_id,
        "utc_day": quota.utc_day,
        "limit": quota.limit,
        "used": quota.used,
        "kept_for_schedule": quota.kept,
        "free": quota.free,
        "rate_limited": quota.rate_limited,
        "resets_at": quota.resets_at,
    }


def _slot(slot: QuotaSlot, principal: Principal) -> SlotTold:
    call = slot.call
    if call is None:
        return _slot_told(slot.number, slot.kind)
    if principal.role is Role.CLIENT and not slot.is_own:
        # Who else shares the project is no business of a client.
        return _slot_told(slot.number, "other")
    return SlotTold(
        number=slot.number,
        kind=slot.kind,
        business_id=call.business_id,
        reserved_at=call.reserved_at,
        outcome=call.outcome,
    )


def _slot_told(number: int, kind: SlotKind | Any) -> SlotTold:
    return SlotTold(number=number, kind=kind, business_id=None, reserved_at=None, outcome=None)


def _verdict(result: ProbeResult) -> str:
    match result.outcome.status:
        case ComboStatus.LANDED:
            return "accepted"
        case ComboStatus.AUTH_FAILED:
            return "refused"
        case _:
            return "not_judged"


def _message(result: ProbeResult) -> str:
    if result.outcome.status in _QUOTA_SPENT:
        return f"Quota spent, token not judged: {result.outcome.message}"
    return result.sentence


def _progress(services: PanelServices, asked: SyncRequest) -> RequestProgress:
    return progress_of(
        services.database,
        asked,
        overview_default=services.settings.overview,
        now=services.clock(),
    )


def _request(progress: RequestProgress, principal: Principal) -> SyncRequestTold:
    return SyncRequestTold(
        id=progress.request.id,
        day=progress.request.day,
        requested_by=progress.request.requested_by,
        requested_at=progress.request.requested_at,
        state=progress.state,
        is_over=progress.is_over,
        message=progress_sentence(progress, principal),
        job_id=progress.job.id if progress.job else None,
        combos=[ComboTold.model_validate(combo) for combo in progress.combos],
    )
