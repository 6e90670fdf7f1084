"""What rules want done: what waits for somebody to agree, and what became of the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import RedirectResponse, Response

from clarity_pipeline.domain.rules.actions import ActionStatus
from clarity_pipeline.operations import rule_actions as actions
from clarity_pipeline.panel.api_models import LARGEST_ID
from clarity_pipeline.panel.guard import CurrentPrincipal, Services, remote_address
from clarity_pipeline.panel.rule_decision_pages import BusinessWanted, EmptyIsNone, RuleWanted
from clarity_pipeline.panel.rule_words import ACTION_STATUSES, action_document_words
from clarity_pipeline.panel.templating import page
from clarity_pipeline.panel.wording import Words
from clarity_pipeline.store.businesses import list_businesses
from clarity_pipeline.store.rule_actions import list_actions
from clarity_pipeline.store.rule_evaluations import names_in_log
from clarity_pipeline.store.rules import get_switch, list_rules

router = APIRouter(include_in_schema=False)

ROWS_PER_PAGE: Final = 50

ActionId = Annotated[int, Path(ge=1, le=LARGEST_ID)]

_DONE: Final[Mapping[str, Words]] = {
    "approved": Words("Approved.", "good", "It is sent within the next minute."),
    "rejected": Words("Rejected.", "good", "It will not be sent."),
}


@router.get("/agency/rules/actions")
def show_actions(
    request: Request,
    services: Services,
    rule: RuleWanted = None,
    business: BusinessWanted = None,
    status: Annotated[ActionStatus | None, EmptyIsNone, Query()] = None,
    before: Annotated[int | None, Query(ge=1, le=LARGEST_ID)] = None,
    done: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """Actions of all rules, the latest first."""
    database = services.database
    found = list_actions(
        database,
        rule_id=rule,
        business_id=business,
        status=status,
        before=before,
        limit=ROWS_PER_PAGE + 1,
    )
    shown = found[:ROWS_PER_PAGE]
    chosen = {"rule": rule, "business": business, "status": status and status.value}
    rules = list_rules(database, with_archived=True)
    return page(
        request,
        "rule_actions.html",
        notice=_DONE.get(done),
        actions=shown,
        names=names_in_log(
            database,
            [(each.evaluation_id, position) for each in shown for position in each.positions[:1]],
        ),
        next_before=shown[-1].id if len(found) > ROWS_PER_PAGE else None,
        is_latest=before is None,
        query=urlencode({name: value for name, value in chosen.items() if value}),
        chosen=chosen,
        rules=rules,
        rule_names={each.id: each.rule.name for each in rules},
        businesses=list_businesses(database),
        statuses=ACTION_STATUSES,
        switch=get_switch(database),
        action_words=action_document_words,
    )


@router.post("/agency/rules/actions/{action_id}/approve")
def approve_action(
    request: Request, services: Services, principal: CurrentPrincipal, action_id: ActionId
) -> Response:
    actions.approve_action(
        services.database,
        action_id,
        judged_by=principal.label,
        now=services.clock(),
        remote_address=remote_address(request),
    )
    return RedirectResponse("/agency/rules/actions?status=waiting&done=approved", status_code=303)


@router.post("/agency/rules/actions/{action_id}/reject")
def reject_action(
    request: Request, services: Services, principal: CurrentPrincipal, action_id: ActionId
) -> Response:
    actions.reject_action(
        services.database,
        action_id,
        judged_by=principal.label,
        now=services.clock(),
        remote_address=remote_address(request),
    )
    return RedirectResponse("/agency/rules/actions?status=waiting&done=rejected", status_code=303)
