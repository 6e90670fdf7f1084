"""What the panel calls the parts of a rule, its states and its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import TypeAdapter

from clarity_pipeline.domain.access import Principal
from clarity_pipeline.domain.rules.actions import ActionStatus, Mode
from clarity_pipeline.domain.rules.decisions import Truth
from clarity_pipeline.domain.rules.explain import describe
from clarity_pipeline.domain.rules.model import (
    Action,
    AdjustBudget,
    Alert,
    AllOf,
    Condition,
    Cron,
    Level,
    Node,
    NotOf,
    Pause,
    Resume,
    Rule,
    RuleStatus,
    Webhook,
    conditions_of,
)
from clarity_pipeline.panel.wording import Words

RULE_STATUSES: Final[Mapping[RuleStatus, Words]] = {
    RuleStatus.DRAFT: Words(
        "Draft", "quiet", "It decides nothing; only its preview and backtest look at it."
    ),
    RuleStatus.SHADOW: Words(
        "Shadow", "warn", "It decides every day and what it decides is kept, and nothing is done."
    ),
    RuleStatus.ARMED: Words("Armed", "good", "It decides every day, and acts."),
    RuleStatus.OFF: Words("Off", "quiet", "It decides nothing until it is switched on again."),
}

TRUTHS: Final[Mapping[Truth, Words]] = {
    Truth.TRUE: Words("Fires", "warn"),
    Truth.FALSE: Words("Does not fire", "quiet"),
    Truth.UNKNOWN: Words("Unknown", "quiet"),
}

ANSWER_WORDS: Final[Mapping[str, Words]] = {
    "yes": Words("Yes", "warn"),
    "no": Words("No", "quiet"),
    "unknown": Words("Unknown", "quiet"),
}
"""Of the conditions of an explanation."""

MODES: Final[Mapping[Mode, Words]] = {
    Mode.ACTING: Words("Acting", "good", "What it called for was done, as far as its limits let."),
    Mode.SHADOW: Words("Shadow", "warn", "Nothing was done: the rule only looked on."),
    Mode.LATE: Words("Late", "quiet", "Nothing was done: the day was too long over."),
}

ACTION_STATUSES: Final[Mapping[ActionStatus, Words]] = {
    ActionStatus.WAITING: Words("Waits for approval", "warn"),
    ActionStatus.PENDING: Words("To be sent", "busy"),
    ActionStatus.DONE: Words("Done", "good"),
    ActionStatus.SKIPPED: Words("Not sent", "quiet"),
    ActionStatus.FAILED: Words("Failed", "bad"),
    ActionStatus.REJECTED: Words("Rejected", "quiet"),
    ActionStatus.EXPIRED: Words("Expired", "quiet"),
}

LEVELS: Final[Mapping[Level, str]] = {
    Level.CAMPAIGN: "campaigns",
    Level.AD_SET: "ad sets",
    Level.AD: "ads",
    Level.BUSINESS: "businesses",
    Level.LANDING_PAGE: "landing pages",
}

_NAMED: Final = 3

_ACTION: Final[TypeAdapter[Action]] = TypeAdapter(Action)


@dataclass(frozen=True, slots=True)
class Said:
    """A node of the conditions in words, and those below it."""

    words: str
    key: str = ""
    below: tuple[Said, ...] = ()


def scope_words(rule: Rule) -> str:
    """Which businesses a rule is about, by their ids."""
    ids = rule.businesses
    if ids is None:
        return "All businesses"
    named = ", ".join(ids[:_NAMED])
    more = len(ids) - _NAMED
    return f"{named} and {more} more" if more > 0 else named


def conditions_said(node: Node) -> Said:
    """The tree of conditions in words."""
    if isinstance(node, Condition):
        return Said(describe(node), key=node.key or "")
    if isinstance(node, NotOf):
        return Said("Not:", below=(conditions_said(node.node),))
    words = "All of these:" if isinstance(node, AllOf) else "Any of these:"
    return Said(words, below=tuple(conditions_said(child) for child in node.nodes))


def action_words(action: Action) -> str:
    """What an action does. Of a webhook only its host: who knows its address can call it."""
    match action:
        case Pause():
            return "Pause it"
        case Resume():
            return "Resume what it paused itself, once it no longer holds"
        case AdjustBudget(percent=percent, at_least=at_least, at_most=at_most):
            direction = "Raise" if percent > 0 else "Lower"
            return (
                f"{direction} the daily budget by {abs(percent):g}%, within {at_least:,g} and "
                f"{at_most:,g}"
            )
        case Alert(message=message):
            return f"Alert: {message}" if message else "Alert"
        case _:
            return f"Webhook to {webhook_host(action.url)}"


def action_words_for_client(action: Action) -> str:
    """As `action_words`, without what the agency tells itself, and where."""
    match action:
        case Alert():
            return "Alert to the agency"
        case Webhook():
            return "Webhook of the agency"
        case _:
            return action_words(action)


def condition_sentences(node: Node) -> list[str]:
    """Every condition of a tree in words, in order."""
    return [describe(condition) for _, condition in conditions_of(node)]


def action_document_words(document: Mapping[str, Any]) -> str:
    """What an action does, as it stands in the outbox."""
    return action_words(_ACTION.validate_python(document))


def webhook_host(url: str) -> str:
    """What may be shown of the address of a webhook."""
    return urlsplit(url).hostname or ""


def rule_for(principal: Principal, rule: Rule) -> Rule:
    """A rule as somebody may see it: whoever may change none is told the hosts of its webhooks.

    Whoever knows the whole address of one can call it.
    """
    if principal.may_write:
        return rule
    actions = tuple(
        Webhook(kind="webhook", url=f"https://{urlsplit(action.url).netloc}/")
        if isinstance(action, Webhook)
        else action
        for action in rule.actions
    )
    return rule.model_copy(update={"actions": actions})


def schedule_words(rule: Rule) -> str:
    """When a rule is evaluated."""
    if isinstance(rule.schedule, Cron):
        return f"At {rule.schedule.cron} (UTC)"
    return "As soon as a business's day is there"


def filter_words(rule: Rule) -> Sequence[str]:
    """Which entities of the level a rule is about, where it does not take all."""
    filters, found = rule.filters, list[str]()
    if len(filters.statuses) == 1:
        found.append(f"only {filters.statuses[0]} ones")
    if filters.ids is not None:
        count = len(filters.ids)
        named = ", ".join(filters.ids[:_NAMED])
        found.append(f"only {named}" + (f" and {count - _NAMED} more" if count > _NAMED else ""))
    for text, words in (
        (filters.name_contains, "name contains"),
        (filters.name_lacks, "name lacks"),
        (filters.landing_page_contains, "landing page contains"),
    ):
        if text is not None:
            found.append(f"{words} “{text}”")
    return found
