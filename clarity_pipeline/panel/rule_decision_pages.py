"""The log of what rules decided, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from enum import StrEnum
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BeforeValidator, Field
from starlette.responses import Response

from clarity_pipeline.domain.rules.decisions import Truth
from clarity_pipeline.domain.rules.explain import explain
from clarity_pipeline.panel.api_models import LARGEST_ID
from clarity_pipeline.panel.guard import Services
from clarity_pipeline.panel.rule_words import (
    ACTION_STATUSES,
    ANSWER_WORDS,
    LEVELS,
    MODES,
    TRUTHS,
    action_document_words,
)
from clarity_pipeline.panel.templating import page
from clarity_pipeline.store.businesses import list_businesses
from clarity_pipeline.store.rule_actions import actions_of_decision
from clarity_pipeline.store.rule_evaluations import list_decisions, read_decision
from clarity_pipeline.store.rules import list_rules

router = APIRouter(include_in_schema=False)

ROWS_PER_PAGE: Final = 50


class Answer(StrEnum):
    """What a rule can answer, as addresses call it."""

    FIRED = "fired"
    NOT_FIRED = "not_fired"
    UNKNOWN = "unknown"


ANSWERS: Final[Mapping[Answer, Truth]] = {
    Answer.FIRED: Truth.TRUE,
    Answer.NOT_FIRED: Truth.FALSE,
    Answer.UNKNOWN: Truth.UNKNOWN,
}

Address = Annotated[str, Path(max_length=40)]

EmptyIsNone = BeforeValidator(lambda value: value or None)
"""A field of a form that was left empty is there, and says nothing."""

RuleWanted = Annotated[Annotated[int, Field(ge=1, le=LARGEST_ID)] | None, EmptyIsNone, Query()]
BusinessWanted = Annotated[Annotated[str, Field(max_length=64)] | None, EmptyIsNone, Query()]
EntityWanted = Annotated[Annotated[str, Field(max_length=200)] | None, EmptyIsNone, Query()]


@dataclass(frozen=True, slots=True)
class DecisionFilter:
    """Which decisions are looked at; None leaves all of them."""

    rule: int | None = None
    business: str | None = None
    entity: str | None = None
    answer: Answer | None = None
    since: date | None = None
    until: date | None = None

    @property
    def query(self) -> str:
        """As it stands in the address of the page."""
        return urlencode({name: value for name, value in asdict(self).items() if value is not None})


def chosen_decisions(
    rule: RuleWanted = None,
    business: BusinessWanted = None,
    entity: EntityWanted = None,
    answer: Annotated[Answer | None, EmptyIsNone, Query()] = None,
    since: Annotated[date | None, EmptyIsNone, Query()] = None,
    until: Annotated[date | None, EmptyIsNone, Query()] = None,
) -> DecisionFilter:
    """What the address of the page asks for."""
    return DecisionFilter(
        rule=rule, business=business, entity=entity, answer=answer, since=since, until=until
    )


@router.get("/agency/rules/decisions")
def show_decisions(
    request: Request,
    services: Services,
    wanted: Annotated[DecisionFilter, Depends(chosen_decisions)],
    before: Annotated[str | None, Query(max_length=40)] = None,
) -> Response:
    """Decisions that fired or changed, the latest first."""
    database = services.database
    found = list_decisions(
        database,
        rule_id=wanted.rule,
        business_id=wanted.business,
        entity_id=wanted.entity,
        truth=None if wanted.answer is None else ANSWERS[wanted.answer],
        since=wanted.since,
        until=wanted.until,
        before=before,
        # One more than is shown says whether there is another page.
        limit=ROWS_PER_PAGE + 1,
    )
    shown = found[:ROWS_PER_PAGE]
    return page(
        request,
        "rule_decisions.html",
        wanted=wanted,
        decisions=shown,
        next_before=shown[-1].address if len(found) > ROWS_PER_PAGE else None,
        is_latest=before is None,
        rules=list_rules(database, with_archived=True),
        businesses=list_businesses(database),
        answers={answer: TRUTHS[truth] for answer, truth in ANSWERS.items()},
        truths=TRUTHS,
        modes=MODES,
        levels=LEVELS,
    )


@router.get("/agency/rules/decisions/{address}")
def show_decision(request: Request, services: Services, address: Address) -> Response:
    """One decision: the sentence, its numbers, and what came of it."""
    found = read_decision(services.database, address)
    return page(
        request,
        "rule_decision.html",
        found=found,
        decision=found.decision,
        explanation=explain(found.decision),
        actions=actions_of_decision(
            services.database, evaluation_id=found.evaluation.id, position=found.position
        ),
        truths=TRUTHS,
        modes=MODES,
        levels=LEVELS,
        answer_words=ANSWER_WORDS,
        action_statuses=ACTION_STATUSES,
        action_words=action_document_words,
    )
