"""All rules of the agency, and the switch that pauses them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from clarity_pipeline.operations.rules import set_all_paused, show_rules_to_client
from clarity_pipeline.panel.auditing import editor_of
from clarity_pipeline.panel.guard import Services
from clarity_pipeline.panel.rule_words import (
    LEVELS,
    RULE_STATUSES,
    scope_words,
)
from clarity_pipeline.panel.templating import page
from clarity_pipeline.panel.wording import Words
from clarity_pipeline.store.businesses import list_businesses
from clarity_pipeline.store.rule_actions import waiting_counts
from clarity_pipeline.store.rule_evaluations import latest_evaluations
from clarity_pipeline.store.rules import get_switch, list_broken_rules, list_rules

router = APIRouter(include_in_schema=False)

_DONE: Final[Mapping[str, Words]] = {
    "archived": Words("Archived.", "good", "What the rule decided stays on record."),
    "paused": Words("All rules are paused.", "warn", "They decide, and nothing is sent."),
    "shown": Words("Its people see the rules about their business now.", "good"),
    "hidden": Words("Its people see no rules any more.", "good"),
    "going": Words("Rules act again.", "good", "What waited and is still good is sent now."),
}
"""What a change says when it is done, by what it leaves in the address of the page."""

Done = Annotated[str, Query(max_length=20)]


@router.get("/agency/rules")
def show_rules(
    request: Request,
    services: Services,
    done: Done = "",
    archived: Annotated[bool, Query()] = False,  # noqa: FBT002 - read from the query by name
) -> Response:
    database = services.database
    rules = list_rules(database, with_archived=archived)
    return page(
        request,
        "rules.html",
        notice=_DONE.get(done),
        rules=rules,
        broken=list_broken_rules(database),
        latest=latest_evaluations(database, rule_ids=[each.id for each in rules]),
        waiting=waiting_counts(database),
        switch=get_switch(database),
        archived=archived,
        statuses=RULE_STATUSES,
        levels=LEVELS,
        scope_words=scope_words,
        businesses=list_businesses(database),
    )


@router.post("/agency/rules/switch")
def turn_switch(
    request: Request,
    services: Services,
    paused: Annotated[bool, Form()],
    note: Annotated[str, Form(max_length=200)] = "",
) -> Response:
    """Pause every rule, or let them act again."""
    set_all_paused(
        services.database,
        is_paused=paused,
        by=editor_of(request),
        now=services.clock(),
        note=note.strip() or None,
    )
    done = "paused" if paused else "going"
    return RedirectResponse(f"/agency/rules?done={done}", status_code=303)


@router.post("/agency/rules/visibility")
def change_visibility(
    request: Request,
    services: Services,
    business: Annotated[str, Form(max_length=64)],
    shown: Annotated[bool, Form()],
) -> Response:
    """Let a client's people see the rules about their business, or no longer."""
    show_rules_to_client(
        services.database,
        business_id=business,
        sees=shown,
        by=editor_of(request),
        now=services.clock(),
    )
    done = "shown" if shown else "hidden"
    return RedirectResponse(f"/agency/rules?done={done}", status_code=303)
