"""Rules as far as they are about one client's business, which sees nothing of any other."""

from __future__ import annotations

from collections.abc import Iterable

from clarity_pipeline.domain.errors import UnknownDecision
from clarity_pipeline.domain.rules.model import (
    AllOf,
    AnyOf,
    Condition,
    Node,
    NotOf,
    Rule,
    RuleStatus,
)
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.rule_evaluations import StoredDecision, read_decision
from clarity_pipeline.store.rules import StoredRule, list_rules

_IN_FORCE = frozenset({RuleStatus.ARMED, RuleStatus.SHADOW})


def rules_about(database: Database, business_id: str) -> list[StoredRule]:
    """The rules in use that decide about a business, armed or in shadow."""
    return [
        stored
        for stored in list_rules(database)
        if stored.rule.status in _IN_FORCE
        and (stored.rule.businesses is None or business_id in stored.rule.businesses)
    ]


def conditions_for(rule: Rule, business_id: str) -> Node:
    """The conditions with a business's own thresholds, and without the keys that overrides use."""
    return _for(rule.conditions, rule, business_id)


def decision_about(database: Database, address: str, *, business_id: str) -> StoredDecision:
    """A decision about a business. Raises UnknownDecision for one about any other, too."""
    found = read_decision(database, address)
    if found.evaluation.business_id != business_id:
        raise UnknownDecision(address)
    return found


def _for(node: Node, rule: Rule, business_id: str) -> Node:
    match node:
        case AllOf(nodes=nodes) | AnyOf(nodes=nodes):
            return node.model_copy(update={"nodes": _each(nodes, rule, business_id)})
        case NotOf(node=inner):
            return node.model_copy(update={"node": _for(inner, rule, business_id)})
        case Condition():
            override = rule.override_of(node, business_id=business_id)
            own = node if override is None else node.with_values(override)
            return own.model_copy(update={"key": None})


def _each(nodes: Iterable[Node], rule: Rule, business_id: str) -> tuple[Node, ...]:
    return tuple(_for(each, rule, business_id) for each in nodes)
