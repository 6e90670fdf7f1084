"""Keeping record of what somebody did through the panel or its API."""

from __future__ import annotations

from fastapi import Request

from clarity_pipeline.domain.audit import AuditAction
from clarity_pipeline.operations.rules import Editor
from clarity_pipeline.panel.guard import current_principal, remote_address
from clarity_pipeline.panel.services import services_of
from clarity_pipeline.store.audit_log import record_audit


def audit(
    request: Request,
    action: AuditAction,
    *,
    business_id: str | None = None,
    **detail: str | int | None,
) -> None:
    """Add what has just succeeded to the audit log; `detail` never holds a secret."""
    services = services_of(request)
    record_audit(
        services.database,
        actor=current_principal(request).label,
        action=action,
        now=services.clock(),
        business_id=business_id,
        detail=detail or None,
        remote_address=remote_address(request),
    )


def editor_of(request: Request) -> Editor:
    """Who changes a rule by this request; the change itself keeps record of it."""
    return Editor(
        name=current_principal(request).label,
        remote_address=remote_address(request),
        can_sign_webhooks=services_of(request).settings.can_sign_webhooks,
    )
