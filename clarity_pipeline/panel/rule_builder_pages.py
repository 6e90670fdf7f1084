"""Building a rule: a form made from the JSON Schema of rules, with a preview beside it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Path, Request
from starlette.responses import RedirectResponse, Response

from clarity_pipeline.domain.days import day_collected_at
from clarity_pipeline.domain.errors import InputError, InvalidRule, RuleChanged
from clarity_pipeline.domain.rules.documents import (
    MAX_DOCUMENT_CHARACTERS,
    parse_rule,
    rule_json_schema,
)
from clarity_pipeline.domain.rules.explain import REASONS, explain
from clarity_pipeline.domain.rules.model import Rule
from clarity_pipeline.domain.rules.yaml_documents import read_rules
from clarity_pipeline.operations.rule_evaluation import preview
from clarity_pipeline.operations.rules import RuleChange, change_rule
from clarity_pipeline.panel.api_models import LARGEST_ID
from clarity_pipeline.panel.auditing import editor_of
from clarity_pipeline.panel.errors import problem_of
from clarity_pipeline.panel.guard import Services
from clarity_pipeline.panel.rule_words import LEVELS, TRUTHS, conditions_said
from clarity_pipeline.panel.services import services_of
from clarity_pipeline.panel.templating import page
from clarity_pipeline.store.businesses import list_businesses
from clarity_pipeline.store.rules import StoredRule, get_rule

router = APIRouter(include_in_schema=False)

RuleId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
Document = Annotated[str, Form(max_length=MAX_DOCUMENT_CHARACTERS)]
Note = Annotated[str, Form(max_length=200)]
RuleInForm = Annotated[int | None, Form(ge=1, le=LARGEST_ID)]

DECISIONS_PREVIEWED: Final = 12

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
    request: Request, services: Services, document: Document = "", note: Note = ""
) -> Response:
    try:
        change = change_rule(
            services.database,
            rule_of_text(document),
            by=editor_of(request),
            now=services.clock(),
            note=note.strip() or None,
            expected_version=0,
        )
    except (InvalidRule, RuleChanged) as error:
        return _builder(request, document=document, note=note, error=error)
    return _saved(change)


@router.post("/agency/rules/preview")
def show_preview(
    request: Request, document: Document = "", note: Note = "", rule_id: RuleInForm = None
) -> Response:
    """What a rule would say now: beside the form where a script asks, else with the form again."""
    found = _preview(request, document)
    if "hx-request" in request.headers:
        return page(request, "rule_preview.html", **found)
    stored = None if rule_id is None else get_rule(services_of(request).database, rule_id)
    return _builder(request, document=document, note=note, stored=stored, previewed=found)


@router.get("/agency/rules/{rule_id:int}/edit")
def edit_rule(request: Request, services: Services, rule_id: RuleId) -> Response:
    stored = get_rule(services.database, rule_id)
    return _builder(request, document=_text(stored.rule), stored=stored)


@router.post("/agency/rules/{rule_id:int}")
def save_version(
    request: Request,
    services: Services,
    rule_id: RuleId,
    expected_version: Annotated[int, Form(ge=1, le=LARGEST_ID)],
    document: Document = "",
    note: Note = "",
) -> Response:
    """Store the next version, unless somebody else has stored one meanwhile."""
    stored = get_rule(services.database, rule_id)
    try:
        change = change_rule(
            services.database,
            rule_of_text(document),
            by=editor_of(request),
            now=services.clock(),
            note=note.strip() or None,
            rule_id=rule_id,
            expected_version=expected_version,
        )
    except (InvalidRule, RuleChanged) as error:
        return _builder(request, document=document, note=note, stored=stored, error=error)
    return _saved(change)


def rule_of_text(text: str) -> Rule:
    """A rule out of JSON or YAML. Raises InvalidRule."""
    if text.lstrip().startswith("{"):
        return parse_rule(text)
    first, *others = read_rules(text, source="line")
    if first.error is not None:
        raise first.error
    if others or first.rule is None:
        raise InvalidRule("There are several rules in the text; they are saved one by one.")
    return first.rule


def _saved(change: RuleChange) -> Response:
    assert change.stored is not None
    return RedirectResponse(f"/agency/rules/{change.stored.id}?done=saved", status_code=303)


def _builder(
    request: Request,
    *,
    document: str,
    note: str = "",
    stored: StoredRule | None = None,
    error: InputError | None = None,
    previewed: dict[str, Any] | None = None,
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
        previewed=previewed,
        # Not by Jinja, which would sort the fields.
        rule_schema=json.dumps(rule_json_schema()),
        businesses=list_businesses(services_of(request).database),
    )


def _preview(request: Request, document: str) -> dict[str, Any]:
    services = services_of(request)
    now = services.clock()
    try:
        rule = rule_of_text(document)
        # What would be refused when it is saved is refused now.
        change_rule(services.database, rule, by=editor_of(request), now=now, dry_run=True)
    except (InvalidRule, RuleChanged) as error:
        return {"rule": None, "problem": problem_of(error), "refusals": _refusals(error)}
    found = preview(services.database, rule, as_of=day_collected_at(now), limit=DECISIONS_PREVIEWED)
    return {
        "rule": rule,
        "refusals": [],
        "said": conditions_said(rule.conditions),
        "found": found,
        "level": LEVELS[rule.level],
        "decisions": [(each, explain(each).sentence) for each in found.decisions],
        "truths": TRUTHS,
        "reasons": REASONS,
    }


def _refusals(error: InputError | None) -> list[dict[str, str]]:
    bad_fields = error.bad_fields if isinstance(error, InvalidRule) else ()
    return [asdict(each) for each in bad_fields]


def _text(rule: Rule) -> str:
    """As people read it: without what is left at its default."""
    document = rule.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return json.dumps(document, indent=2, ensure_ascii=False)
