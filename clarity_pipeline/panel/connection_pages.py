"""Settings, Data Sources, Clarity: how a business's connection stands, and what can be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from clarity_pipeline.domain.audit import AuditAction
from clarity_pipeline.domain.connections import (
    MAX_TOKEN_LENGTH,
    PROJECT_ID_PATTERN,
    parse_project_id,
    parse_token,
)
from clarity_pipeline.domain.days import next_scheduled_at
from clarity_pipeline.domain.dimensions import COMBO_BY_DIMENSION_SET, combos_of_a_day
from clarity_pipeline.domain.errors import (
    ClarityError,
    InvalidProjectId,
    InvalidToken,
    NotConnected,
)
from clarity_pipeline.domain.failures import ComboStatus
from clarity_pipeline.domain.quota_slots import quota_slots
from clarity_pipeline.operations import connecting
from clarity_pipeline.operations.collect_day import wants_overview
from clarity_pipeline.operations.connection_status import ConnectionStatus, connection_statuses
from clarity_pipeline.operations.sync_requests import request_sync
from clarity_pipeline.operations.sync_watch import SyncWatch, watch_sync
from clarity_pipeline.panel.auditing import audit
from clarity_pipeline.panel.errors import problem_of
from clarity_pipeline.panel.guard import (
    CurrentBusiness,
    CurrentPrincipal,
    Services,
    current_principal,
)
from clarity_pipeline.panel.services import PanelServices, services_of
from clarity_pipeline.panel.templating import base_of, page
from clarity_pipeline.panel.wording import (
    CALL_OUTCOMES,
    SLOT_SIGNS,
    SLOTS,
    STATES,
    STATUSES,
    TRIGGERS,
    Words,
    advice_for,
    progress_sentence,
    words_of_test,
)
from clarity_pipeline.store import connections, quota_ledger
from clarity_pipeline.store.businesses import Business

router = APIRouter(include_in_schema=False)

_DONE: Final[Mapping[str, Words]] = {
    "saved": Words("Saved.", "good", "No call was spent.", "Test the connection when you like."),
    "enabled": Words("The daily sync is on.", "good"),
    "paused": Words("The daily sync is paused.", "warn", "", "Switch it on again when you like."),
    "requested": Words("Sync requested.", "good", "It is followed below."),
    "disconnected": Words(
        "Disconnected.", "good", "Project and token are gone; the history is retained."
    ),
    "purged": Words("The history was deleted.", "good"),
}
"""What an action says when it is done, by what it leaves in the address of the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionForm:
    """What was typed, but for the token, and the server's sentence about each field."""

    project_id: str
    project_id_error: str | None = None
    token_error: str | None = None


@router.get("")
def show_connection(
    request: Request,
    services: Services,
    business: CurrentBusiness,
    done: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """The connection of one business."""
    notice = _DONE.get(done)
    if done == "tested":
        record = connections.get_connection(services.database, business.id)
        notice = words_of_test(record.last_test_result) if record.last_test_result else None
    return _show(request, business, notice=notice)


@router.post("/connection")
def save_connection(
    request: Request,
    services: Services,
    business: CurrentBusiness,
    project_id: Annotated[str, Form(max_length=200)] = "",
    api_token: Annotated[str, Form(max_length=MAX_TOKEN_LENGTH + 1)] = "",
) -> Response:
    """Connect, or replace project and token; both fields are judged before anything is stored."""
    now = services.clock()
    form = ConnectionForm(
        project_id=project_id,
        project_id_error=_sentence_about_project(project_id),
        token_error=_sentence_about_token(services, api_token),
    )
    if form.project_id_error or form.token_error:
        notice = Words("Nothing was saved.", "bad", "See the fields that are marked.")
        return _show(request, business, notice=notice, form=form, status_code=422)
    record = connecting.connect(
        services.database,
        services.vault,
        business_id=business.id,
        project_id=project_id,
        token=api_token,
        now=now,
    )
    audit(request, AuditAction.CONNECTED, business_id=business.id, project_id=record.project_id)
    return _done(request, "saved")


@router.post("/test")
def probe_connection(
    request: Request,
    services: Services,
    business: CurrentBusiness,
    confirmed: Annotated[str, Form(max_length=10)] = "",
) -> Response:
    """Spend one call on a test, after asking when it may be the last that is free."""
    (status,) = _statuses(services, business)
    if status.quota is None:
        return _refused(request, business, NotConnected(business.id))
    if status.quota.is_down_to_one and confirmed != "yes":
        return _show(request, business, asks_for_last_call=True)
    try:
        # A key that does not read the token is our fault, and no result of a test.
        connections.read_token(services.database, services.vault, business.id)
        result = connecting.probe_connection(
            services.caller(),
            business_id=business.id,
            auth_failures_before_disable=services.settings.auth_failures_before_disable,
        )
    except ClarityError as error:
        return _refused(request, business, error)
    audit(
        request,
        AuditAction.TESTED,
        business_id=business.id,
        result=result.outcome.error_code or "ok",
        calls=result.outcome.calls,
    )
    if result.outcome.status is ComboStatus.QUOTA_REFUSED:
        notice = Words("Not tested, and no call spent.", "warn", result.sentence)
        return _show(request, business, notice=notice, status_code=429)
    return _done(request, "tested")


@router.post("/enabled")
def set_enabled(
    request: Request,
    services: Services,
    business: CurrentBusiness,
    value: Annotated[str, Form(pattern="^(on|off)$")],
) -> Response:
    """Pause the daily sync, or let it go on."""
    enabled = value == "on"
    try:
        changed = connections.set_enabled(
            services.database, business_id=business.id, enabled=enabled, now=services.clock()
        )
    except NotConnected as error:
        return _refused(request, business, error)
    if changed:
        action = AuditAction.ENABLED if enabled else AuditAction.DISABLED
        audit(request, action, business_id=business.id)
    return _done(request, "enabled" if enabled else "paused")


@router.post("/sync")
def ask_for_sync(
    request: Request,
    services: Services,
    business: CurrentBusiness,
    principal: CurrentPrincipal,
) -> Response:
    """Ask for yesterday; the worker picks the request up, and the page follows it."""
    try:
        asked = request_sync(
            services.database,
            business_id=business.id,
            requested_by=principal.label,
            now=services.clock(),
        )
    except ClarityError as error:
        return _refused(request, business, error)
    audit(request, AuditAction.SYNC_REQUESTED, business_id=business.id, day=asked.day.isoformat())
    return _done(request, "requested")


@router.get("/progress")
def show_progress(
    request: Request,
    services: Services,
    business: CurrentBusiness,
    principal: CurrentPrincipal,
    following: Annotated[str, Query(max_length=40)] = "",
) -> Response:
    """The part of the page that follows a sync. The last of them makes the page look again."""
    watch = _watch(services, business, followed=following)
    response = page(
        request,
        "sync_progress.html",
        watch=watch,
        sentence=progress_sentence(watch, principal) if watch else "",
        statuses=STATUSES,
        triggers=TRIGGERS,
        combo_labels=_combo_labels(),
    )
    if watch is None or watch.is_over:
        response.headers["HX-Trigger"] = "connection-changed"
    return response


@router.get("/disconnect")
def ask_before_disconnect(
    request: Request, services: Services, business: CurrentBusiness
) -> Response:
    """What disconnecting takes away and what it leaves."""
    record = connections.get_connection(services.database, business.id)
    return page(request, "disconnect.html", record=record, tab="connection")


@router.post("/disconnect")
def disconnect(request: Request, services: Services, business: CurrentBusiness) -> Response:
    """Forget project and token; everything that was collected stays."""
    was_connected = connections.get_connection(services.database, business.id).is_connected
    connections.disconnect(services.database, business_id=business.id, now=services.clock())
    if was_connected:
        audit(request, AuditAction.DISCONNECTED, business_id=business.id)
    return _done(request, "disconnected")


def _show(
    request: Request,
    business: Business,
    *,
    notice: Words | None = None,
    form: ConnectionForm | None = None,
    asks_for_last_call: bool = False,
    status_code: int = 200,
) -> Response:
    services = services_of(request)
    now = services.clock()
    (status,) = _statuses(services, business)
    record, quota = status.record, status.quota
    calls = (
        quota_ledger.list_calls(
            services.database, project_id=quota.project_id, utc_day=quota.utc_day
        )
        if quota
        else []
    )
    watch = _watch(services, business, followed=None)
    return page(
        request,
        "connection.html",
        status_code=status_code,
        tab="connection",
        status=status,
        record=record,
        state=STATES[status.state],
        quota=quota,
        slots=quota_slots(quota, calls, business_id=business.id) if quota else (),
        slot_words=SLOTS,
        slot_signs=SLOT_SIGNS,
        call_outcomes=CALL_OUTCOMES,
        calls_per_day=len(
            combos_of_a_day(overview=wants_overview(record, services.settings.overview))
        ),
        next_run=next_scheduled_at(now) if record.is_enabled else None,
        statuses=STATUSES,
        triggers=TRIGGERS,
        error_advice=advice_for(status.last_error.code) if status.last_error else "",
        token_has_expired=record.token_expires_at is not None and record.token_expires_at <= now,
        last_test=words_of_test(record.last_test_result) if record.last_test_result else None,
        project_id_pattern=PROJECT_ID_PATTERN,
        max_token_length=MAX_TOKEN_LENGTH,
        form=form or ConnectionForm(project_id=record.project_id or ""),
        notice=notice,
        asks_for_last_call=asks_for_last_call,
        watch=watch,
        sentence=progress_sentence(watch, current_principal(request)) if watch else "",
        combo_labels=_combo_labels(),
    )


def _refused(request: Request, business: Business, error: ClarityError) -> Response:
    """The page again, with the sentence of an error on top."""
    problem = problem_of(error)
    notice = Words("That was not possible.", "bad", problem.detail)
    return _show(request, business, notice=notice, status_code=problem.status)


def _done(request: Request, done: str) -> Response:
    """Back to the page: a reload must not do it again, least of all spend another call."""
    return RedirectResponse(f"{base_of(request)}?done={done}", status_code=303)


def _statuses(services: PanelServices, business: Business) -> list[ConnectionStatus]:
    return connection_statuses(
        services.database,
        now=services.clock(),
        overview_default=services.settings.overview,
        business_ids=[business.id],
    )


def _watch(
    services: PanelServices, business: Business, *, followed: str | None
) -> SyncWatch | None:
    return watch_sync(
        services.database,
        business.id,
        followed=followed,
        overview_default=services.settings.overview,
        now=services.clock(),
    )


def _combo_labels() -> dict[str, str]:
    return {name: combo.label for name, combo in COMBO_BY_DIMENSION_SET.items()}


def _sentence_about_project(text: str) -> str | None:
    try:
        parse_project_id(text)
    except InvalidProjectId as error:
        return str(error)
    return None


def _sentence_about_token(services: PanelServices, text: str) -> str | None:
    if not text.strip():
        return "Paste the API token: one that is stored cannot be shown or reused."
    try:
        parse_token(text, now=services.clock())
    except InvalidToken as error:
        return str(error)
    return None
