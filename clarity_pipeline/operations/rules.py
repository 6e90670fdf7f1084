"""Changing rules: what is checked first, and what is kept on record of it.

Panel, API and command line change rules by these functions only, so that no change is without an
entry in the audit log, and none names a business that there is none of.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from typing import Final

from clarity_pipeline.domain.audit import AuditAction
from clarity_pipeline.domain.days import day_collected_at
from clarity_pipeline.domain.errors import (
    BadField,
    ClarityError,
    InputError,
    InvalidRule,
    UnknownRule,
)
from clarity_pipeline.domain.rules.differences import Difference, differences
from clarity_pipeline.domain.rules.documents import parse_rule
from clarity_pipeline.domain.rules.model import OneBusiness, Rule, RuleStatus, Webhook
from clarity_pipeline.domain.rules.yaml_documents import RuleDocument
from clarity_pipeline.store.audit_log import record_audit
from clarity_pipeline.store.businesses import missing_businesses, set_client_sees_rules
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.rules import (
    StoredRule,
    archive_rule,
    find_rule,
    get_rule,
    list_rules,
    save_rule,
    set_switch,
)

_MOST_TOLD: Final = 20
"""Differences in an entry of the audit log, where the versions themselves have them all."""

_OF_THE_STATUS: Final = frozenset({"status", "shadow_until"})

_STATUS_WORDS: Final = {
    RuleStatus.DRAFT: "a draft",
    RuleStatus.SHADOW: "in shadow until {}",
    RuleStatus.ARMED: "armed",
    RuleStatus.OFF: "switched off",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Editor:
    """Who changes rules, as the audit log names them.

    `can_sign_webhooks` is Settings.can_sign_webhooks.
    """

    name: str
    remote_address: str | None = None
    can_sign_webhooks: bool


class Outcome(StrEnum):
    """What became of a rule that was to be stored."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class RuleChange:
    """What became of a rule, or would become of it.

    `stored` is how it stands now: without a change as before, and None if there is none. The
    differences are those to the version before; of a new rule there are none.
    """

    outcome: Outcome
    stored: StoredRule | None
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class AppliedDocument:
    """What became of a document: a change, or the error it was refused with."""

    source: str
    name: str | None
    change: RuleChange | None
    error: ClarityError | None

    @property
    def outcome(self) -> Outcome:
        return Outcome.REFUSED if self.change is None else self.change.outcome


def change_rule(
    database: Database,
    rule: Rule,
    *,
    by: Editor,
    now: datetime,
    note: str | None = None,
    rule_id: int | None = None,
    expected_version: int | None = None,
    dry_run: bool = False,
) -> RuleChange:
    """Store a rule as `store.rules.save_rule` does, after checking it, and keep record of it.

    Raises InvalidRule for a business in it that there is none of, or for a webhook when nothing
    that is sent there could be signed, and all that `save_rule` raises. With `dry_run` nothing is
    written.
    """
    before, version = _as_stored(database, rule, rule_id=rule_id)
    seen = version if expected_version is None else expected_version
    if before is not None and before.rule == rule and before.version == seen:
        return RuleChange(Outcome.UNCHANGED, before, ())
    _check_businesses(database, rule)
    _check_webhooks(rule, by=by)
    change = RuleChange(
        Outcome.CREATED if version == 0 else Outcome.CHANGED,
        before,
        () if before is None else differences(before.rule, rule),
    )
    if dry_run:
        return change
    stored = save_rule(
        database,
        rule,
        made_by=by.name,
        now=now,
        note=note,
        rule_id=rule_id,
        # What is told to have changed is so only against the version that was looked at.
        expected_version=seen,
    )
    _record(database, stored, _in_words(change, rule=rule), by=by, now=now)
    return replace(change, stored=stored)


def apply_documents(
    database: Database,
    documents: Sequence[RuleDocument],
    *,
    by: Editor,
    now: datetime,
    dry_run: bool = False,
) -> list[AppliedDocument]:
    """Store the rule of every document, by its name; one that is refused does not stop the others.

    A document that does not say a status leaves it to the rule as it is: a threshold that is
    changed in a file must not disarm a rule that was armed elsewhere.
    """
    applied: list[AppliedDocument] = []
    places: dict[str, str] = {}
    for document in documents:
        if document.rule is None:
            applied.append(AppliedDocument(document.source, document.name, None, document.error))
            continue
        name = document.rule.name
        try:
            if name in places:
                raise _comes_twice(name, place=places[name])
            places[name] = document.source
            rule = document.rule if document.says_status else _as_it_is(database, document.rule)
            change = change_rule(database, rule, by=by, now=now, dry_run=dry_run)
        except InputError as error:
            applied.append(AppliedDocument(document.source, name, None, error))
        else:
            applied.append(AppliedDocument(document.source, name, change, None))
    return applied


def rules_to_export(database: Database, names: Collection[str]) -> list[StoredRule]:
    """The rules of these names, by name; all in use where there are none. Raises UnknownRule."""
    found = [find_rule(database, name) for name in dict.fromkeys(names)] or list_rules(database)
    return sorted(found, key=lambda each: each.rule.name)


def set_status(
    database: Database,
    rule_id: int,
    status: RuleStatus,
    *,
    by: Editor,
    now: datetime,
    shadow_until: date | None = None,
    note: str | None = None,
    expected_version: int | None = None,
) -> RuleChange:
    """Arm a rule, let it run in shadow, switch it off, or make a draft of it.

    Raises InvalidRule for a shadow without a day or with one that is over, and all that
    `change_rule` raises.
    """
    if shadow_until is not None and shadow_until < day_collected_at(now):
        raise InvalidRule(
            f"A shadow that ends on {shadow_until} is over already; choose a later day.",
            bad_fields=[BadField("shadow_until", "it is over already")],
        )
    stored = get_rule(database, rule_id)
    return change_rule(
        database,
        with_status(stored.rule, status, shadow_until=shadow_until),
        by=by,
        now=now,
        note=note,
        rule_id=rule_id,
        expected_version=stored.version if expected_version is None else expected_version,
    )


def with_status(rule: Rule, status: RuleStatus, *, shadow_until: date | None = None) -> Rule:
    """The same rule with another status. Raises InvalidRule if the day does not fit the status."""
    document = rule.model_dump(mode="json", by_alias=True)
    return parse_rule(document | {"status": status.value, "shadow_until": shadow_until})


def archive(database: Database, rule_id: int, *, by: Editor, now: datetime) -> bool:
    """Put a rule away; True when it was in use. Raises UnknownRule."""
    stored = get_rule(database, rule_id)
    changed = archive_rule(database, rule_id, now=now)
    if changed:
        _record(database, stored, "archived", by=by, now=now)
    return changed


def set_all_paused(
    database: Database, *, is_paused: bool, by: Editor, now: datetime, note: str | None = None
) -> bool:
    """Let no rule send anything, or let them go on; False when it was so already."""
    changed = set_switch(database, is_paused=is_paused, changed_by=by.name, now=now, note=note)
    if changed:
        record_audit(
            database,
            actor=by.name,
            action=AuditAction.RULES_PAUSED if is_paused else AuditAction.RULES_RESUMED,
            now=now,
            detail=None if note is None else {"note": note},
            remote_address=by.remote_address,
        )
    return changed


def show_rules_to_client(
    database: Database, *, business_id: str, sees: bool, by: Editor, now: datetime
) -> bool:
    """Let a client's people see the rules about their business, or no longer; False when it was so
    already. Raises UnknownBusiness."""
    changed = set_client_sees_rules(database, business_id=business_id, sees=sees)
    if changed:
        record_audit(
            database,
            actor=by.name,
            action=AuditAction.RULES_SHOWN if sees else AuditAction.RULES_HIDDEN,
            now=now,
            business_id=business_id,
            remote_address=by.remote_address,
        )
    return changed


def _as_stored(
    database: Database, rule: Rule, *, rule_id: int | None
) -> tuple[StoredRule | None, int | None]:
    """The rule that is to be changed, and its version; 0 if there is none.

    A stored document that cannot be used any more has no version to compare with, and may be
    replaced.
    """
    try:
        stored = find_rule(database, rule.name) if rule_id is None else get_rule(database, rule_id)
    except InvalidRule:
        return None, None
    except UnknownRule:
        if rule_id is not None:
            raise
        return None, 0
    # Of one that was archived `save_rule` says so.
    return (stored, stored.version) if stored.archived_at is None else (None, None)


def _as_it_is(database: Database, rule: Rule) -> Rule:
    """The rule with the status that it has; as it was given where there is none."""
    stored, _ = _as_stored(database, rule, rule_id=None)
    if stored is None:
        return rule
    return with_status(rule, stored.rule.status, shadow_until=stored.rule.shadow_until)


def _check_businesses(database: Database, rule: Rule) -> None:
    named = _places_of_businesses(rule)
    missing = missing_businesses(database, named) if named else []
    if missing:
        ids = ", ".join(repr(each) for each in missing[:_MOST_TOLD])
        more = f" and {len(missing) - _MOST_TOLD} more" if len(missing) > _MOST_TOLD else ""
        raise InvalidRule(
            f"The rule names a business that there is not: {ids}{more}; add it first, or take it "
            "out.",
            bad_fields=[
                BadField(named[each], f"there is no business {each!r}") for each in missing
            ],
        )


def _places_of_businesses(rule: Rule) -> dict[str, str]:
    """Where each business is named in a rule."""
    in_overrides = {
        each.business: f"overrides[{index}].business" for index, each in enumerate(rule.overrides)
    }
    if isinstance(rule.scope, OneBusiness):
        return in_overrides | {rule.scope.business: "scope.business"}
    return in_overrides | {
        each: f"scope.businesses[{index}]" for index, each in enumerate(rule.businesses or ())
    }


def _check_webhooks(rule: Rule, *, by: Editor) -> None:
    if rule.status is not RuleStatus.ARMED or by.can_sign_webhooks:
        return
    bad_fields = [
        BadField(f"actions[{index}]", "nothing signs what is sent there")
        for index, action in enumerate(rule.actions)
        if isinstance(action, Webhook)
    ]
    if bad_fields:
        raise InvalidRule(
            f"Rule {rule.name!r} cannot be armed: it calls a webhook, and CLARITY_WEBHOOK_SECRET, "
            "with which that is signed, is not set.",
            bad_fields=bad_fields,
        )


def _comes_twice(name: str, *, place: str) -> InvalidRule:
    return InvalidRule(
        f"There is a rule {name!r} at {place} already; keep one of them.",
        bad_fields=[BadField("name", "another rule has that name")],
    )


def _in_words(change: RuleChange, *, rule: Rule) -> str:
    """What was done, as the audit log has it."""
    is_new = change.outcome is Outcome.CREATED
    says = [str(each) for each in change.differences if each.path not in _OF_THE_STATUS]
    has_new_status = len(says) < len(change.differences)
    told = [
        *(["created"] if is_new else []),
        # First what matters most: whether it does anything.
        *(
            [_STATUS_WORDS[rule.status].format(rule.shadow_until)]
            if is_new or has_new_status
            else []
        ),
        *says,
    ]
    more = [f"{len(told) - _MOST_TOLD} more"] if len(told) > _MOST_TOLD else []
    return "; ".join(told[:_MOST_TOLD] + more) or "replaced"


def _record(
    database: Database, stored: StoredRule, change: str, *, by: Editor, now: datetime
) -> None:
    scope = stored.rule.scope
    record_audit(
        database,
        actor=by.name,
        action=AuditAction.RULE_CHANGED,
        now=now,
        business_id=scope.business if isinstance(scope, OneBusiness) else None,
        detail={"rule": stored.rule.name, "version": stored.version, "change": change},
        remote_address=by.remote_address,
    )
