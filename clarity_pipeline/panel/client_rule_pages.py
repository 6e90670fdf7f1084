"""What a client sees of rules, where its agency shows them: what is about its own business."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from clarity_pipeline.domain.rules.explain import explain
from clarity_pipeline.operations import client_rules
from clarity_pipeline.panel.errors import RulesNotShown
from clarity_pipeline.panel.guard import CurrentBusiness, Services
from clarity_pipeline.panel.rule_decision_pages import ROWS_PER_PAGE, Address
from clarity_pipeline.panel.rule_words import (
    ANSWER_WORDS,
    LEVELS,
    MODES,
    RULE_STATUSES,
    TRUTHS,
    action_words_for_client,
    conditions_said,
)
from clarity_pipeline.panel.templating import page
from clarity_pipeline.store.rule_evaluations import list_decisions


def rules_are_shown(business: CurrentBusiness) -> None:
    """Raises RulesNotShown for a client whose agency keeps its rules to itself."""
    if not business.client_sees_rules:
        raise RulesNotShown


ARE_SHOWN = Depends(rules_are_shown)

router = APIRouter(include_in_schema=False, dependencies=[ARE_SHOWN])


@router.get("/rules")
def show_own_rules(
    request: Request,
    services: Services,
    business: CurrentBusiness,
    before: Annotated[str | None, Query(max_length=40)] = None,
) -> Response:
    """The rules that decide about the business, and what they decided, the latest first."""
    found = list_decisions(
        services.database, business_id=business.id, before=before, limit=ROWS_PER_PAGE + 1
    )
    shown = found[:ROWS_PER_PAGE]
    return page(
        request,
        "client_rules.html",
        tab="rules",
        rules=[
            (
                each,
                conditions_said(client_rules.conditions_for(each.rule, business.id)),
                [action_words_for_client(action) for action in each.rule.actions],
            )
            for each in client_rules.rules_about(services.database, business.id)
        ],
        decisions=shown,
        next_before=shown[-1].address if len(found) > ROWS_PER_PAGE else None,
        is_latest=before is None,
        statuses=RULE_STATUSES,
        truths=TRUTHS,
        modes=MODES,
        levels=LEVELS,
    )


@router.get("/rules/decisions/{address}")
def show_own_decision(
    request: Request, services: Services, business: CurrentBusiness, address: Address
) -> Response:
    """One decision about the business, and why."""
    found = client_rules.decision_about(services.database, address, business_id=business.id)
    return page(
        request,
        "client_decision.html",
        tab="rules",
        found=found,
        decision=found.decision,
        explanation=explain(found.decision),
        truths=TRUTHS,
        modes=MODES,
        answer_words=ANSWER_WORDS,
    )
