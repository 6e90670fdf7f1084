"""A rule over stored history: what it would have done, as a chart, as tables and as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from clarity_pipeline.domain.days import day_collected_at
from clarity_pipeline.domain.errors import InvalidDay
from clarity_pipeline.domain.rules.backtest import Backtest
from clarity_pipeline.domain.rules.explain import REASONS
from clarity_pipeline.operations.rule_backtest import MAX_BACKTEST_DAYS, backtest_rule
from clarity_pipeline.panel.csv import csv_download
from clarity_pipeline.panel.errors import problem_of
from clarity_pipeline.panel.guard import Services
from clarity_pipeline.panel.rule_builder_pages import RuleId
from clarity_pipeline.panel.rule_decision_pages import BusinessWanted, EmptyIsNone
from clarity_pipeline.panel.rule_words import LEVELS, RULE_STATUSES
from clarity_pipeline.panel.services import PanelServices
from clarity_pipeline.panel.templating import day_words, page
from clarity_pipeline.store.businesses import list_businesses
from clarity_pipeline.store.rules import StoredRule, get_rule

router = APIRouter(include_in_schema=False)

USUAL_DAYS: Final = 30
MOST_ENTITIES: Final = 100
"""On the page, those that it fired for most; the file has all of them."""

DAY_COLUMNS: Final = ("day", "fired", "not_fired", "unknown", "actions", "trips_breaker")
ENTITY_COLUMNS: Final = (
    "entity_id",
    "entity_name",
    "business_id",
    "days_fired",
    "days_unknown",
    "episodes",
    "changes",
    "flaps",
    "actions",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which days a backtest is about, and which business; None for all of the rule's."""

    start: date | None
    end: date | None
    business: str | None

    @property
    def query(self) -> str:
        """As it stands in the address of the page."""
        chosen = {"start": self.start, "end": self.end, "business": self.business}
        return urlencode({name: value for name, value in chosen.items() if value is not None})


def asked_for(
    start: Annotated[date | None, EmptyIsNone, Query()] = None,
    end: Annotated[date | None, EmptyIsNone, Query()] = None,
    business: BusinessWanted = None,
) -> Asked:
    """What the address of the page asks for."""
    return Asked(start, end, business)


AskedFor = Annotated[Asked, Depends(asked_for)]


@router.get("/agency/rules/{rule_id:int}/backtest")
def show_backtest(
    request: Request, services: Services, rule_id: RuleId, asked: AskedFor
) -> Response:
    """The form, and below it the backtest that it has asked for."""
    stored = get_rule(services.database, rule_id)
    latest = day_collected_at(services.clock())
    told: dict[str, Any] = {"problem": None, "backtest": None}
    if asked.start is not None and asked.end is not None:
        try:
            backtest = _backtest(services, stored, asked)
        except InvalidDay as error:
            told["problem"] = problem_of(error)
        else:
            told |= {"backtest": backtest, "chart": drawing(backtest)}
    problem = told["problem"]
    return page(
        request,
        "rule_backtest.html",
        status_code=problem.status if problem else 200,
        tab="backtest",
        stored=stored,
        statuses=RULE_STATUSES,
        level=LEVELS[stored.rule.level],
        asked=asked,
        start=asked.start or latest - timedelta(days=USUAL_DAYS - 1),
        end=asked.end or latest,
        latest=latest,
        longest=MAX_BACKTEST_DAYS,
        businesses=list_businesses(services.database),
        reasons=REASONS,
        most_entities=MOST_ENTITIES,
        **told,
    )


@router.get("/agency/rules/{rule_id:int}/backtest-days.csv")
def download_days(services: Services, rule_id: RuleId, asked: AskedFor) -> Response:
    stored = get_rule(services.database, rule_id)
    backtest = _backtest(services, stored, asked)
    return csv_download(_file_name(stored, "days", backtest), DAY_COLUMNS, day_rows(backtest))


@router.get("/agency/rules/{rule_id:int}/backtest-entities.csv")
def download_entities(services: Services, rule_id: RuleId, asked: AskedFor) -> Response:
    stored = get_rule(services.database, rule_id)
    backtest = _backtest(services, stored, asked)
    return csv_download(
        _file_name(stored, "entities", backtest), ENTITY_COLUMNS, entity_rows(backtest)
    )


def day_rows(backtest: Backtest) -> list[Sequence[object]]:
    """A row per day, as DAY_COLUMNS."""
    return [
        (each.day, each.fired, each.not_fired, each.unknown, each.actions, each.trips_breaker)
        for each in backtest.days
    ]


def entity_rows(backtest: Backtest) -> list[Sequence[object]]:
    """A row per entity that it would have fired for, as ENTITY_COLUMNS."""
    return [
        (
            each.entity_id,
            each.entity_name,
            each.business_id,
            each.days_fired,
            each.days_unknown,
            len(each.episodes),
            each.changes,
            each.flaps,
            each.actions,
        )
        for each in backtest.fired
    ]


def drawing(backtest: Backtest) -> Mapping[str, Any]:
    """What the chart is drawn of."""
    return {
        "days": [f"{each.day.day} {each.day:%b}" for each in backtest.days],
        "titles": [day_words(each.day) for each in backtest.days],
        "fired": [each.fired for each in backtest.days],
        "unknown": [each.unknown for each in backtest.days],
        "actions": [each.actions for each in backtest.days],
    }


def _backtest(services: PanelServices, stored: StoredRule, asked: Asked) -> Backtest:
    latest = day_collected_at(services.clock())
    end = asked.end or latest
    return backtest_rule(
        services.database,
        stored.rule,
        start=asked.start or end - timedelta(days=USUAL_DAYS - 1),
        end=end,
        now=services.clock(),
        business_ids=None if asked.business is None else [asked.business],
    )


def _file_name(stored: StoredRule, what: str, backtest: Backtest) -> str:
    return f"rule-{stored.id}-backtest-{what}-{backtest.start}-{backtest.end}"
