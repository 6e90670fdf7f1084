"""What the API says of rules, what they decided, and what they want done."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Literal

from pydantic import Field

from clarity_pipeline.domain.rules.actions import ActionKind, ActionStatus, Mode
from clarity_pipeline.domain.rules.decisions import Decision, Finding, Reason, Truth
from clarity_pipeline.domain.rules.explain import describe, explain
from clarity_pipeline.domain.rules.model import Level, Rule, RuleStatus
from clarity_pipeline.panel.api_models import LARGEST_ID, BusinessIdText, Day, Sent, Told

Answer = Literal["fired", "not_fired", "unknown"]

ANSWERS: Mapping[Truth, Answer] = {
    Truth.TRUE: "fired",
    Truth.FALSE: "not_fired",
    Truth.UNKNOWN: "unknown",
}


class RuleTold(Told):
    """A rule as it stands."""

    id: int = Field(examples=[7])
    version: int = Field(description="Counts changes, from 1.", examples=[3])
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None = Field(description="UTC; null for a rule in use.")
    rule: Rule = Field(description="To a key that may only read, hosts of webhooks are told.")


class LastEvaluationTold(Told):
    """How a rule came out as of the latest day that it was evaluated for."""

    day: date
    evaluated_at: datetime
    businesses: int
    entities: int
    fired: int
    not_fired: int
    unknown: int
    reasons: dict[Reason, int] = Field(description="Why entities are unknown, and how many.")
    recent_fires: int = Field(description="Decisions that fired, of that day and the 29 before.")


class RuleStandingTold(RuleTold):
    """A rule, how it last came out, and what waits for somebody to agree."""

    last_evaluation: LastEvaluationTold | None
    waiting_actions: int


class RulesTold(Told):
    rules: list[RuleStandingTold]


class DifferenceTold(Told):
    """A part that a version says differently; null where it is not there."""

    path: str = Field(examples=["conditions.all[0].value"])
    before: str | None = Field(examples=["0.05"])
    after: str | None = Field(examples=["0.08"])


class VersionTold(Told):
    version: int
    made_by: str = Field(examples=["ada@agency.example"])
    made_at: datetime
    note: str | None
    differences: list[DifferenceTold] = Field(description="To the version before.")
    rule: Rule


class VersionsTold(Told):
    versions: list[VersionTold] = Field(description="The latest first.")


class StatusWanted(Sent):
    """What is to become of a rule's decisions."""

    status: RuleStatus = Field(strict=False, examples=["shadow"])
    shadow_until: Day | None = Field(
        default=None, description="The last day of a shadow, and only of one."
    )
    expected_version: int | None = Field(
        default=None, ge=1, le=LARGEST_ID, description="Refused when it is another one by now."
    )
    note: str | None = Field(default=None, max_length=200)


class ArchivedTold(Told):
    changed: bool = Field(description="False where it was archived already.")


class SwitchTold(Told):
    """While `is_paused`, rules decide and nothing is sent."""

    is_paused: bool
    changed_by: str | None
    changed_at: datetime | None
    note: str | None


class SwitchWanted(Sent):
    is_paused: bool
    note: str | None = Field(default=None, max_length=200)


class VisibilityWanted(Sent):
    client_sees_rules: bool


class VisibilityTold(Told):
    business_id: BusinessIdText
    client_sees_rules: bool
    changed: bool


class FindingTold(Told):
    """One condition of a decision with its numbers; null is not known."""

    path: str = Field(examples=["conditions.all[0]"])
    condition: str = Field(description="What it asks, in words.")
    answer: Literal["true", "false", "unknown"]
    reason: Reason | None
    is_deciding: bool
    measured: float | None = Field(description="What was held against the threshold.")
    threshold: float
    value: float | None
    numerator: float | None
    denominator: float | None
    comparison_value: float | None
    spread: float | None
    sessions: int | None
    days_with_data: int
    days_in_window: int
    window_start: date | None
    window_end: date | None
    last_day: date | None
    is_held: bool
    consecutive_days: int


class ExplainedTold(Told):
    """What a rule says about one entity, and why."""

    rule_name: str
    entity_id: str = Field(examples=["meta:120210"])
    entity_name: str
    business_id: str | None
    level: Level
    as_of: date
    answer: Answer
    sentence: str
    findings: list[FindingTold]


class PreviewTold(Told):
    """What a rule would say now. Nothing was stored, and nothing is done."""

    as_of: date
    entities: int
    fired: int
    not_fired: int
    unknown: int
    reasons: dict[Reason, int]
    decisions: list[ExplainedTold] = Field(description="Some of them, those that fire first.")


class LoggedDecisionTold(Told):
    address: str = Field(description="Where its numbers are.", examples=["1234-17"])
    rule_id: int
    rule_name: str
    version: int
    business_id: str | None
    day: date
    mode: Mode
    entity_id: str
    entity_name: str
    level: Level
    answer: Answer
    answer_before: Answer | None
    reason: Reason | None
    evaluated_at: datetime


class DecisionsTold(Told):
    decisions: list[LoggedDecisionTold]
    next_before: str | None = Field(description="The `before` of the next page; null on the last.")


class DecisionTold(ExplainedTold):
    """A decision as it was made, with its numbers."""

    address: str = Field(examples=["1234-17"])
    rule_id: int
    version: int
    mode: Mode
    evaluated_at: datetime


class ActionTold(Told):
    """An action in the outbox. Of a webhook's address only the host is told."""

    id: int
    rule_id: int
    version: int
    business_id: str | None
    day: date
    kind: ActionKind
    what: str = Field(description="In words.", examples=["Pause it"])
    entity_id: str | None = Field(description="Null for what tells of several at once.")
    decisions: list[str] = Field(description="Addresses of what it is about.")
    status: ActionStatus
    reason: str | None
    created_at: datetime
    judged_by: str | None
    judged_at: datetime | None
    attempts: int
    done_at: datetime | None
    last_error: str | None


class ActionsTold(Told):
    actions: list[ActionTold]
    next_before: int | None = Field(description="The `before` of the next page; null on the last.")


class BacktestDayTold(Told):
    day: date
    fired: int
    not_fired: int
    unknown: int
    reasons: dict[Reason, int]
    actions: int
    trips_breaker: bool
    has_history: bool


class EpisodeTold(Told):
    first_day: date
    last_day: date
    days_fired: int
    is_over: bool


class BacktestEntityTold(Told):
    entity_id: str
    entity_name: str
    business_id: str | None
    days_fired: int
    days_unknown: int
    episodes: list[EpisodeTold]
    changes: int
    quick_changes: int
    flaps: bool
    actions: int


class BacktestTold(Told):
    """What a rule would have done on these days, with the data as they were known then."""

    rule_name: str
    level: Level
    start: date
    end: date
    entities: int
    days_fired: int
    actions: int
    flapping: int
    days: list[BacktestDayTold]
    fired: list[BacktestEntityTold]
    notes: list[str]


class ClientRuleTold(Told):
    """A rule about a client's business, as far as it is about that."""

    id: int
    name: str
    level: Level
    status: RuleStatus
    updated_at: datetime
    conditions: list[str] = Field(description="In words, with this business's thresholds.")
    actions: list[str] = Field(description="In words.", examples=[["Pause it"]])


class ClientRulesTold(Told):
    rules: list[ClientRuleTold]


def findings_told(decision: Decision) -> list[FindingTold]:
    """Every condition of a decision."""
    return [_finding(each, decision=decision) for each in decision.findings]


def explained_told(decision: Decision) -> ExplainedTold:
    return ExplainedTold(
        rule_name=decision.rule_name,
        entity_id=decision.entity_id,
        entity_name=decision.entity_name,
        business_id=decision.business_id,
        level=decision.level,
        as_of=decision.as_of,
        answer=ANSWERS[decision.truth],
        sentence=explain(decision).sentence,
        findings=findings_told(decision),
    )


def _finding(finding: Finding, *, decision: Decision) -> FindingTold:
    return FindingTold(
        condition=describe(finding.condition),
        answer=_TRUTHS[finding.truth],
        is_deciding=finding.path == decision.decided_by,
        **{name: getattr(finding, name) for name in _OF_FINDING},
    )


_TRUTHS: Mapping[Truth, Literal["true", "false", "unknown"]] = {
    Truth.TRUE: "true",
    Truth.FALSE: "false",
    Truth.UNKNOWN: "unknown",
}
_OF_FINDING = set(FindingTold.model_fields) - {"condition", "answer", "is_deciding"}
