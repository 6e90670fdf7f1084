"""Rules as the agency sees them: all of them, one of them, its versions, and their switch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Annotated, Final

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from clarity_pipeline.domain.rules.differences import Difference, differences
from clarity_pipeline.domain.rules.model import RuleStatus
from clarity_pipeline.operations import rules as changing
from clarity_pipeline.operations.rule_overview import rule_standing, rule_standings
from clarity_pipeline.panel.api_models import LARGEST_ID
from clarity_pipeline.panel.errors import problem_of
from clarity_pipeline.panel.guard import CurrentPrincipal, Services, remote_address
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
from clarity_pipeline.panel.services import services_of
from clarity_pipeline.panel.templating import page
from clarity_pipeline.panel.wording import Words
from clarity_pipeline.store.rules import RuleVersion, get_rule, get_switch, rule_versions
