"""Building a rule: a form made from the JSON Schema of rules, with a preview beside it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Path, Request
from starlette.responses import RedirectResponse, Response

from clarity_pipeline.domain.audit import AuditAction
from clarity_pipeline.domain.errors import InputError, InvalidRule, RuleChanged
from clarity_pipeline.domain.rules.documents import (
    MAX_DOCUMENT_CHARACTERS,
    parse_rule,
    rule_json_schema,
)
from clarity_pipeline.domain.rules.model import Rule
from clarity_pipeline.panel.api_models import LARGEST_ID
from clarity_pipeline.panel.auditing import audit
from clarity_pipeline.panel.errors import problem_of
from clarity_pipeline.panel.guard import CurrentPrincipal, Services
from clarity_pipeline.panel.rule_words import conditions_said
from clarity_pipeline.panel.services import services_of
from clarity_pipeline.panel.templating import page
from clarity_pipeline.store.businesses import list_businesses
from clarity_pipeline.store.rules import StoredRule, get_rule, save_rule

router = APIRouter(include_in_schema=False)

RuleId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
Document = Annotated[str, Form(max_length=MAX_DOCUMENT_CHARACTERS)]
Note = Annotated[str, Form(max_length=200)]

_FIRST_RULE: Final[dict[str, Any]] = {
    "name": "",
    "scope": {"kind": "all"},
    "level": "campaign",
    "conditions": {
        "all": [
            {
                "metric": "clarity_rage_click_rate",
                "operator": ">",
                "window": {"kind": "last_days", "days": 7},
            }
        ]
    },
    "actions": [{"kind": "alert"}],
}
"""What the form begins with; what only a person can say is left open."""


@router.get("/agency/rules/new")
def begin_rule(request: Request) -> Response:
    return _builder(request, document=json.dumps(_FIRST_RULE, indent=2))


@router.post("/agency/rules")
def add_rule(
    request: Request,
    services: Services,
    principal: CurrentPrincipal,
    document: Document = "",
    note: Note = "",
) -> Response:
    try:
        saved = save_rule(
            services.database,
            parse_rule(document),
            made_by=principal.label,
            now=services.clock(),
            note=note.strip() or None,
            expected_version=0,
        )
    except (InvalidRule, RuleChanged) as error:
        return _builder(request, document=document, note=note, error=error)
    return _saved(request, saved)


@router.post("/agency/rules/preview")
def show_preview(request: Request, document: Document = "") -> Response:
    """What a rule would do now; a part of the form's page where a script asks."""
    return page(request, "rule_preview.html", **_preview(document))


@router.get("/agency/rules/{rule_id}/edit")
def edit_rule(request: Request, services: Services, rule_id: RuleId) -> Response:
    stored = get_rule(services.database, rule_id)
    return _builder(request, document=_text(stored.rule), stored=stored)


@router.post("/agency/rules/{rule_id}")
def change_rule(
    request: Request,
    services: Services,
    principal: CurrentPrincipal,
    rule_id: RuleId,
    expected_version: Annotated[int, Form(ge=1, le=LARGEST_ID)],
    document: Document = "",
    note: Note = "",
) -> Response:
    stored = get_rule(services.database, rule_id)
    try:
        saved = save_rule(
            services.database,
            parse_rule(document),
            made_by=principal.label,
            now=services.clock(),
            note=note.strip() or None,
            rule_id=rule_id,
            expected_version=expected_version,
        )
    except (InvalidRule, RuleChanged) as error:
        return _builder(request, document=document, note=note, stored=stored, error=error)
    return _saved(request, saved, before=stored)


def _saved(request: Request, saved: StoredRule, *, before: StoredRule | None = None) -> Response:
    if before is None or before.version != saved.version:
        audit(request, AuditAction.RULE_CHANGED, rule=saved.rule.name, version=saved.version)
    return RedirectResponse(f"/agency/rules/{saved.id}?done=saved", status_code=303)


def _builder(
    request: Request,
    *,
    document: str,
    note: str = "",
    stored: StoredRule | None = None,
    error: InputError | None = None,
) -> Response:
    problem = problem_of(error) if error else None
    return page(
        request,
        "rule_builder.html",
        status_code=problem.status if problem else 200,
        document=document,
        note=note,
        stored=stored,
        problem=problem,
        refusals=_refusals(error),
        # Not by Jinja, which would sort the fields.
        rule_schema=json.dumps(rule_json_schema()),
        businesses=list_businesses(services_of(request).database),
    )


def _preview(document: str) -> dict[str, Any]:
    try:
        rule = parse_rule(document)
    except InvalidRule as error:
        return {"rule": None, "problem": problem_of(error), "refusals": _refusals(error)}
    return {"rule": rule, "said": conditions_said(rule.conditions), "refusals": []}


def _refusals(error: InputError | None) -> list[dict[str, str]]:
    bad_fields = error.bad_fields if isinstance(error, InvalidRule) else ()
    return [asdict(each) for each in bad_fields]


def _text(rule: Rule) -> str:
    """As people read it: without what is left at its default."""
    document = rule.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return json.dumps(document, indent=2, ensure_ascii=False)
