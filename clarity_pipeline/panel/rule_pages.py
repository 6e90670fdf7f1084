"""One rule as the agency sees it: what it says, and what becomes of its decisions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from itertools import pairwise
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from clarity_pipeline.domain.errors import InvalidRule, RuleChanged
from clarity_pipeline.domain.rules.differences import differences
from clarity_pipeline.domain.rules.explain import REASONS
from clarity_pipeline.domain.rules.model import RuleStatus
from clarity_pipeline.operations.rules import archive, set_status
from clarity_pipeline.panel.api_models import LARGEST_ID
from clarity_pipeline.panel.auditing import editor_of
from clarity_pipeline.panel.errors import problem_of
from clarity_pipeline.panel.guard import Services
from clarity_pipeline.panel.rule_builder_pages import RuleId
from clarity_pipeline.panel.rule_words import (
    LEVELS,
    RULE_STATUSES,
    action_words,
    conditions_said,
    filter_words,
    schedule_words,
    scope_words,
)
from clarity_pipeline.panel.rules_pages import Done
from clarity_pipeline.panel.services import services_of
from clarity_pipeline.panel.templating import page
from clarity_pipeline.panel.wording import Words
from clarity_pipeline.store.rule_actions import waiting_counts
from clarity_pipeline.store.rule_evaluations import latest_evaluations
from clarity_pipeline.store.rules import get_rule, rule_versions

router = APIRouter(include_in_schema=False)

_DONE: Final[Mapping[str, Words]] = {
    "saved": Words("Saved.", "good"),
    "draft": Words("It is a draft again", "good", "and decides nothing."),
    "shadow": Words("It is in shadow.", "good", "It decides from its next evaluation on."),
    "armed": Words("It is armed.", "good", "It acts from its next evaluation on."),
    "off": Words("It is off.", "good", "It decides nothing until it is switched on again."),
}
"""What a change says when it is done, by what it leaves in the address of the page."""

_USUAL_SHADOW: Final = timedelta(days=14)


@router.get("/agency/rules/{rule_id:int}")
def show_rule(request: Request, rule_id: RuleId, done: Done = "") -> Response:
    return _rule(request, rule_id, notice=_DONE.get(done))


@router.get("/agency/rules/{rule_id:int}/versions")
def show_versions(request: Request, services: Services, rule_id: RuleId) -> Response:
    """Every version, the latest first, with what it says differently from the one before."""
    versions = rule_versions(services.database, rule_id)
    changes = [
        ((), versions[0]),
        *((differences(before.rule, after.rule), after) for before, after in pairwise(versions)),
    ]
    return page(
        request,
        "rule_versions.html",
        tab="versions",
        stored=get_rule(services.database, rule_id),
        statuses=RULE_STATUSES,
        changes=changes[::-1],
    )


@router.post("/agency/rules/{rule_id:int}/status")
def change_status(
    request: Request,
    services: Services,
    rule_id: RuleId,
    status: Annotated[RuleStatus, Form()],
    expected_version: Annotated[int, Form(ge=1, le=LARGEST_ID)],
    shadow_until: Annotated[date | None, Form()] = None,
) -> Response:
    """Arm a rule, let it decide in shadow, or switch it off."""
    try:
        set_status(
            services.database,
            rule_id,
            status,
            by=editor_of(request),
            now=services.clock(),
            shadow_until=shadow_until if status is RuleStatus.SHADOW else None,
            expected_version=expected_version,
        )
    except (InvalidRule, RuleChanged) as error:
        return _rule(request, rule_id, problem=problem_of(error))
    return RedirectResponse(f"/agency/rules/{rule_id}?done={status.value}", status_code=303)


@router.post("/agency/rules/{rule_id:int}/archive")
def put_away(request: Request, services: Services, rule_id: RuleId) -> Response:
    archive(services.database, rule_id, by=editor_of(request), now=services.clock())
    return RedirectResponse("/agency/rules?done=archived", status_code=303)


def _rule(request: Request, rule_id: int, **told: Any) -> Response:
    database = services_of(request).database
    stored = get_rule(database, rule_id)
    rule = stored.rule
    problem = told.get("problem")
    return page(
        request,
        "rule.html",
        status_code=problem.status if problem else 200,
        tab="rule",
        stored=stored,
        rule=rule,
        statuses=RULE_STATUSES,
        level=LEVELS[rule.level],
        scope=scope_words(rule),
        filters=filter_words(rule),
        said=conditions_said(rule.conditions),
        actions=[action_words(action) for action in rule.actions],
        schedule=schedule_words(rule),
        waiting=waiting_counts(database).get(rule_id, 0),
        last=latest_evaluations(database, rule_ids=[rule_id]).get(rule_id),
        reasons=REASONS,
        shadow_proposed=services_of(request).clock().date() + _USUAL_SHADOW,
        **{"notice": None, "problem": None} | told,
    )
