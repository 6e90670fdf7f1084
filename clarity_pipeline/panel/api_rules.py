"""The API of rules: for the agency to change and read, for clients to read what is about them."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import JSONResponse, Response

from clarity_pipeline.domain.access import Principal
from clarity_pipeline.domain.days import day_collected_at
from clarity_pipeline.domain.errors import (
    ActionNotWaiting,
    InvalidDay,
    InvalidRule,
    RuleChanged,
    UnknownAction,
    UnknownBusiness,
    UnknownDecision,
    UnknownRule,
)
from clarity_pipeline.domain.rules.actions import ActionStatus
from clarity_pipeline.domain.rules.delivery import OutboxAction
from clarity_pipeline.domain.rules.differences import differences
from clarity_pipeline.domain.rules.documents import parse_rule, rule_json_schema
from clarity_pipeline.operations import client_rules
from clarity_pipeline.operations import rules as changing
from clarity_pipeline.operations.rule_actions import approve_action, reject_action
from clarity_pipeline.operations.rule_backtest import backtest_rule
from clarity_pipeline.operations.rule_evaluation import preview
from clarity_pipeline.panel.api_agency import SentBytes
from clarity_pipeline.panel.api_document import problems
from clarity_pipeline.panel.api_models import LARGEST_ID, Day
from clarity_pipeline.panel.api_rule_models import (
    ANSWERS,
    ActionsTold,
    ActionTold,
    Answer,
    ArchivedTold,
    BacktestDayTold,
    BacktestTold,
    ClientRulesTold,
    ClientRuleTold,
    DecisionsTold,
    DecisionTold,
    DifferenceTold,
    LastEvaluationTold,
    LoggedDecisionTold,
    PreviewTold,
    RuleStandingTold,
    RulesTold,
    RuleTold,
    StatusWanted,
    SwitchTold,
    SwitchWanted,
    VersionsTold,
    VersionTold,
    VisibilityTold,
    VisibilityWanted,
    explained_told,
)
from clarity_pipeline.panel.api_tables import CSV_TOO, AskedWindow, WantsCsv, csv_response
from clarity_pipeline.panel.auditing import editor_of
from clarity_pipeline.panel.client_rule_pages import ARE_SHOWN
from clarity_pipeline.panel.errors import RulesNotShown
from clarity_pipeline.panel.guard import (
    CurrentBusiness,
    CurrentPrincipal,
    Services,
    remote_address,
)
from clarity_pipeline.panel.rule_words import (
    action_document_words,
    action_words_for_client,
    condition_sentences,
    rule_for,
)
from clarity_pipeline.panel.services import PanelServices
from clarity_pipeline.store.rule_actions import list_actions, waiting_counts
from clarity_pipeline.store.rule_evaluations import (
    LoggedDecision,
    StoredDecision,
    latest_evaluations,
    list_decisions,
    read_decision,
)
from clarity_pipeline.store.rules import StoredRule, get_rule, get_switch, list_rules, rule_versions

router = APIRouter(tags=["Rules"])
of_client = APIRouter(tags=["Rules"])
visibility = APIRouter(tags=["Rules"])

USUAL_ROWS: Final = 50
MOST_ROWS: Final = 500
MOST_PREVIEWED: Final = 200

_RULE_SENT: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/Rule"},
                "example": {
                    "name": "Rage clicks on a client's site",
                    "scope": {"kind": "all"},
                    "level": "business",
                    "conditions": {
                        "metric": "clarity_rage_click_rate",
                        "operator": ">",
                        "value": 0.05,
                        "window": {"kind": "last_days", "days": 7},
                        "min_sessions": 100,
                    },
                    "actions": [{"kind": "alert", "message": "Look at the checkout"}],
                },
            }
        },
    }
}

RuleNumber = Annotated[
    int, Path(ge=1, le=LARGEST_ID, description="Number of a rule.", examples=[7])
]
ActionNumber = Annotated[int, Path(ge=1, le=LARGEST_ID, description="Number of an action.")]
Address = Annotated[
    str, Path(max_length=40, description="EVALUATION-POSITION.", examples=["1234-17"])
]
Note = Annotated[str | None, Query(max_length=200, description="Why, for the rule's history.")]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS)]


@router.get("/rules")
def list_all_rules(
    services: Services,
    principal: CurrentPrincipal,
    archived: Annotated[bool, Query(description="Archived ones too.")] = False,  # noqa: FBT002
) -> RulesTold:
    """All rules, the highest priority first, with how each last came out."""
    rules = list_rules(services.database, with_archived=archived)
    latest = latest_evaluations(services.database, rule_ids=[each.id for each in rules])
    waiting = waiting_counts(services.database)
    return RulesTold(
        rules=[
            RuleStandingTold(
                **_of_rule(each, seen_by=principal),
                last_evaluation=LastEvaluationTold.model_validate(latest[each.id])
                if each.id in latest
                else None,
                waiting_actions=waiting.get(each.id, 0),
            )
            for each in rules
        ]
    )


@router.post(
    "/rules", status_code=201, openapi_extra=_RULE_SENT | problems(InvalidRule, RuleChanged)
)
def add_rule(
    request: Request,
    services: Services,
    principal: CurrentPrincipal,
    content: SentBytes,
    note: Note = None,
) -> RuleTold:
    """Store a new rule. Where its name is taken, nothing is stored."""
    change = changing.change_rule(
        services.database,
        parse_rule(content),
        by=editor_of(request),
        now=services.clock(),
        note=note,
        expected_version=0,
    )
    return _told(change, to=principal)


@router.get(
    "/rules/schema",
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}},
)
def read_rule_schema() -> JSONResponse:
    """The JSON Schema of a rule, with title, description and unit of every metric."""
    return JSONResponse(rule_json_schema())


@router.get("/rules/switch")
def read_switch(services: Services) -> SwitchTold:
    """Whether all rules are paused, by whom and since when."""
    return SwitchTold.model_validate(get_switch(services.database))


@router.put("/rules/switch")
def turn_switch(request: Request, services: Services, wanted: SwitchWanted) -> SwitchTold:
    """Pause all rules, or let them act again. While they are paused nothing is sent."""
    changing.set_all_paused(
        services.database,
        is_paused=wanted.is_paused,
        by=editor_of(request),
        now=services.clock(),
        note=wanted.note,
    )
    return SwitchTold.model_validate(get_switch(services.database))


@router.post("/rules/preview", openapi_extra=_RULE_SENT | problems(InvalidRule, UnknownBusiness))
def preview_rule(
    services: Services,
    content: SentBytes,
    limit: Annotated[int, Query(ge=1, le=MOST_PREVIEWED)] = USUAL_ROWS,
) -> PreviewTold:
    """What a rule would say now, stored or not. Nothing is stored, and nothing is done."""
    found = preview(
        services.database,
        parse_rule(content),
        as_of=day_collected_at(services.clock()),
        limit=limit,
    )
    return PreviewTold(
        as_of=found.as_of,
        entities=found.entities,
        fired=found.fired,
        not_fired=found.not_fired,
        unknown=found.unknown,
        reasons=dict(found.reasons),
        decisions=[explained_told(each) for each in found.decisions],
    )


@router.get("/rules/decisions", openapi_extra=problems(UnknownDecision))
def list_all_decisions(
    services: Services,
    rule_id: Annotated[int | None, Query(ge=1, le=LARGEST_ID)] = None,
    business_id: Annotated[str | None, Query(max_length=64)] = None,
    entity_id: Annotated[str | None, Query(max_length=200)] = None,
    answer: Annotated[Answer | None, Query()] = None,
    since: Annotated[Day | None, Query(description="First day decided about.")] = None,
    until: Annotated[Day | None, Query(description="Last day decided about.")] = None,
    before: Annotated[str | None, Query(max_length=40, description="Address; older ones.")] = None,
    limit: Limit = USUAL_ROWS,
) -> DecisionsTold:
    """Decisions that fired or changed, the latest first."""
    return _page_of_decisions(
        services,
        rule_id=rule_id,
        business_id=business_id,
        entity_id=entity_id,
        answer=answer,
        since=since,
        until=until,
        before=before,
        limit=limit,
    )


@router.get("/rules/decisions/{address}", openapi_extra=problems(UnknownDecision))
def read_one_decision(services: Services, address: Address) -> DecisionTold:
    """One decision with all its numbers, whether it is in the log or not."""
    return _decision_told(read_decision(services.database, address))


@router.get("/rules/actions")
def list_all_actions(
    services: Services,
    rule_id: Annotated[int | None, Query(ge=1, le=LARGEST_ID)] = None,
    business_id: Annotated[str | None, Query(max_length=64)] = None,
    entity_id: Annotated[str | None, Query(max_length=200)] = None,
    status: Annotated[ActionStatus | None, Query()] = None,
    before: Annotated[int | None, Query(ge=1, le=LARGEST_ID)] = None,
    limit: Limit = USUAL_ROWS,
) -> ActionsTold:
    """What rules want done and what became of it, the latest first."""
    found = list_actions(
        services.database,
        rule_id=rule_id,
        business_id=business_id,
        entity_id=entity_id,
        status=status,
        before=before,
        limit=limit + 1,
    )
    return ActionsTold(
        actions=[_action_told(each) for each in found[:limit]],
        next_before=found[limit - 1].id if len(found) > limit else None,
    )


@router.post(
    "/rules/actions/{action_id}/approve", openapi_extra=problems(UnknownAction, ActionNotWaiting)
)
def approve_an_action(
    request: Request, services: Services, principal: CurrentPrincipal, action_id: ActionNumber
) -> ActionTold:
    """Let an action be sent that waits for somebody to agree."""
    action = approve_action(
        services.database,
        action_id,
        judged_by=principal.label,
        now=services.clock(),
        remote_address=remote_address(request),
    )
    return _action_told(action)


@router.post(
    "/rules/actions/{action_id}/reject", openapi_extra=problems(UnknownAction, ActionNotWaiting)
)
def reject_an_action(
    request: Request, services: Services, principal: CurrentPrincipal, action_id: ActionNumber
) -> ActionTold:
    """End an action for good that waits for somebody to agree."""
    action = reject_action(
        services.database,
        action_id,
        judged_by=principal.label,
        now=services.clock(),
        remote_address=remote_address(request),
    )
    return _action_told(action)


@router.get("/rules/{rule_id:int}", openapi_extra=problems(UnknownRule))
def read_rule(services: Services, principal: CurrentPrincipal, rule_id: RuleNumber) -> RuleTold:
    """A rule as it stands, archived or not."""
    return RuleTold(**_of_rule(get_rule(services.database, rule_id), seen_by=principal))


@router.put(
    "/rules/{rule_id:int}",
    openapi_extra=_RULE_SENT | problems(InvalidRule, RuleChanged, UnknownRule),
)
def change_a_rule(
    request: Request,
    services: Services,
    principal: CurrentPrincipal,
    rule_id: RuleNumber,
    content: SentBytes,
    expected_version: Annotated[
        int,
        Query(ge=1, le=LARGEST_ID, description="The version that was read; refused if it is old."),
    ],
    note: Note = None,
) -> RuleTold:
    """Store the next version of a rule; one that says the same is none."""
    change = changing.change_rule(
        services.database,
        parse_rule(content),
        by=editor_of(request),
        now=services.clock(),
        note=note,
        rule_id=rule_id,
        expected_version=expected_version,
    )
    return _told(change, to=principal)


@router.put(
    "/rules/{rule_id:int}/status", openapi_extra=problems(InvalidRule, RuleChanged, UnknownRule)
)
def change_status(
    request: Request,
    services: Services,
    principal: CurrentPrincipal,
    rule_id: RuleNumber,
    wanted: StatusWanted,
) -> RuleTold:
    """Arm a rule, let it decide in shadow, switch it off, or make a draft of it."""
    change = changing.set_status(
        services.database,
        rule_id,
        wanted.status,
        by=editor_of(request),
        now=services.clock(),
        shadow_until=wanted.shadow_until,
        note=wanted.note,
        expected_version=wanted.expected_version,
    )
    return _told(change, to=principal)


@router.post("/rules/{rule_id:int}/archive", openapi_extra=problems(UnknownRule))
def archive_rule(request: Request, services: Services, rule_id: RuleNumber) -> ArchivedTold:
    """Put a rule away: it decides nothing any more, and its name is free again."""
    changed = changing.archive(
        services.database, rule_id, by=editor_of(request), now=services.clock()
    )
    return ArchivedTold(changed=changed)


@router.get("/rules/{rule_id:int}/versions", openapi_extra=problems(UnknownRule))
def list_versions(
    services: Services, principal: CurrentPrincipal, rule_id: RuleNumber
) -> VersionsTold:
    """Every version of a rule, with what it says differently from the one before."""
    versions = rule_versions(services.database, rule_id)
    rules = [rule_for(principal, each.rule) for each in versions]
    before = [(), *(differences(a, b) for a, b in pairwise(rules))]
    told = [
        VersionTold(
            version=each.version,
            made_by=each.made_by,
            made_at=each.made_at,
            note=each.note,
            differences=[DifferenceTold.model_validate(one) for one in changed],
            rule=rule,
        )
        for each, rule, changed in zip(versions, rules, before, strict=True)
    ]
    return VersionsTold(versions=told[::-1])


@router.get(
    "/rules/{rule_id:int}/backtest",
    response_model=BacktestTold,
    responses=CSV_TOO,
    openapi_extra=problems(UnknownRule, UnknownBusiness, InvalidDay),
)
def backtest(
    services: Services,
    rule_id: RuleNumber,
    window: AskedWindow,
    wants_csv: WantsCsv,
    business_id: Annotated[
        str | None, Query(max_length=64, description="Only this business.")
    ] = None,
) -> BacktestTold | Response:
    """What a rule would have done day by day, with the data as they were known then.

    Nothing is stored, and nothing is done. As CSV: a row per day.
    """
    stored = get_rule(services.database, rule_id)
    found = backtest_rule(
        services.database,
        stored.rule,
        start=window.start,
        end=window.end,
        now=services.clock(),
        business_ids=None if business_id is None else [business_id],
    )
    told = BacktestTold.model_validate(found)
    if wants_csv:
        name = f"rule-{rule_id}-backtest-{window.start}-{window.end}"
        return csv_response(BacktestDayTold, told.days, name=name)
    return told


@visibility.put("/rules/visibility")
def show_rules_to_client(
    request: Request, services: Services, business: CurrentBusiness, wanted: VisibilityWanted
) -> VisibilityTold:
    """Let a client's people see the rules about their business, or no longer."""
    changed = changing.show_rules_to_client(
        services.database,
        business_id=business.id,
        sees=wanted.client_sees_rules,
        by=editor_of(request),
        now=services.clock(),
    )
    return VisibilityTold(
        business_id=business.id, client_sees_rules=wanted.client_sees_rules, changed=changed
    )


@of_client.get("/rules", dependencies=[ARE_SHOWN], openapi_extra=problems(RulesNotShown))
def list_own_rules(services: Services, business: CurrentBusiness) -> ClientRulesTold:
    """The rules that decide about the business, where the agency shows them."""
    return ClientRulesTold(
        rules=[
            ClientRuleTold(
                id=each.id,
                name=each.rule.name,
                level=each.rule.level,
                status=each.rule.status,
                updated_at=each.updated_at,
                conditions=condition_sentences(client_rules.conditions_for(each.rule, business.id)),
                actions=[action_words_for_client(action) for action in each.rule.actions],
            )
            for each in client_rules.rules_about(services.database, business.id)
        ]
    )


@of_client.get(
    "/rules/decisions",
    dependencies=[ARE_SHOWN],
    openapi_extra=problems(RulesNotShown, UnknownDecision),
)
def list_own_decisions(
    services: Services,
    business: CurrentBusiness,
    answer: Annotated[Answer | None, Query()] = None,
    since: Annotated[Day | None, Query()] = None,
    until: Annotated[Day | None, Query()] = None,
    before: Annotated[str | None, Query(max_length=40)] = None,
    limit: Limit = USUAL_ROWS,
) -> DecisionsTold:
    """Decisions about the business that fired or changed, the latest first."""
    return _page_of_decisions(
        services,
        business_id=business.id,
        answer=answer,
        since=since,
        until=until,
        before=before,
        limit=limit,
    )


@of_client.get(
    "/rules/decisions/{address}",
    dependencies=[ARE_SHOWN],
    openapi_extra=problems(RulesNotShown, UnknownDecision),
)
def read_own_decision(
    services: Services, business: CurrentBusiness, address: Address
) -> DecisionTold:
    """One decision about the business, with all its numbers."""
    return _decision_told(
        client_rules.decision_about(services.database, address, business_id=business.id)
    )


def _of_rule(stored: StoredRule, *, seen_by: Principal) -> dict[str, Any]:
    told = {name: getattr(stored, name) for name in RuleTold.model_fields}
    return told | {"rule": rule_for(seen_by, stored.rule)}


def _told(change: changing.RuleChange, *, to: Principal) -> RuleTold:
    assert change.stored is not None, "it was stored"
    return RuleTold(**_of_rule(change.stored, seen_by=to))


def _page_of_decisions(
    services: PanelServices, *, answer: Answer | None, limit: int, **wanted: Any
) -> DecisionsTold:
    truths = {word: truth for truth, word in ANSWERS.items()}
    found = list_decisions(
        services.database,
        truth=None if answer is None else truths[answer],
        limit=limit + 1,
        **wanted,
    )
    return DecisionsTold(
        decisions=[_logged_told(each) for each in found[:limit]],
        next_before=found[limit - 1].address if len(found) > limit else None,
    )


def _logged_told(logged: LoggedDecision) -> LoggedDecisionTold:
    before = logged.previous_truth
    own = {"answer", "answer_before"}
    return LoggedDecisionTold(
        answer=ANSWERS[logged.truth],
        answer_before=None if before is None else ANSWERS[before],
        **{name: getattr(logged, name) for name in set(LoggedDecisionTold.model_fields) - own},
    )


def _decision_told(found: StoredDecision) -> DecisionTold:
    return DecisionTold(
        **dict(explained_told(found.decision)),
        address=found.address,
        rule_id=found.evaluation.rule_id,
        version=found.evaluation.version,
        mode=found.evaluation.mode,
        evaluated_at=found.evaluation.evaluated_at,
    )


def _action_told(action: OutboxAction) -> ActionTold:
    own = {"what", "decisions"}
    return ActionTold(
        what=action_document_words(action.action),
        decisions=[f"{action.evaluation_id}-{position}" for position in action.positions],
        **{name: getattr(action, name) for name in set(ActionTold.model_fields) - own},
    )
