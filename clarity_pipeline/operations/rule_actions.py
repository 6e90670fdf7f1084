"""Doing what rules have decided: from the outbox to ad platforms, people and webhooks."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from clarity_pipeline.ad_platforms.interface import AdObject, AdPlatform, Platforms
from clarity_pipeline.domain.audit import AuditAction
from clarity_pipeline.domain.errors import (
    ClarityError,
    InvalidRule,
    PlatformError,
    PlatformRefused,
    PlatformThrottled,
    PlatformTokenRefused,
    PlatformUnavailable,
    RuleChanged,
    SecretKeyError,
    UnknownAdAccount,
    UnknownRule,
    WebhookRefused,
    WebhookUnavailable,
)
from clarity_pipeline.domain.notices import Notice, Severity, refused_by
from clarity_pipeline.domain.rules.actions import (
    ON_ADS,
    ActionKind,
    ActionStatus,
    too_many_failures,
)
from clarity_pipeline.domain.rules.delivery import (
    AlreadyDone,
    GiveUp,
    OutboxAction,
    PlatformState,
    Send,
    Skip,
    Standing,
    after_failure,
    next_step,
    reason_to_skip,
    webhook_headers,
)
from clarity_pipeline.domain.rules.explain import explain
from clarity_pipeline.domain.rules.model import EntityStatus, Level, Limits, Rule, RuleStatus
from clarity_pipeline.operations.notices import Sender
from clarity_pipeline.operations.rules import with_status
from clarity_pipeline.store import notices
from clarity_pipeline.store import rule_actions as outbox
from clarity_pipeline.store.ad_accounts import account_token, disable_account, get_account
from clarity_pipeline.store.ad_entities import find_entity, set_entity_state
from clarity_pipeline.store.audit_log import record_audit
from clarity_pipeline.store.rule_actions import Settlement
from clarity_pipeline.store.rule_evaluations import read_decision
from clarity_pipeline.store.rules import StoredRule, get_rule, save_rule

if TYPE_CHECKING:
    from pydantic import SecretStr

    from clarity_pipeline.notify.webhooks import Webhooks
    from clarity_pipeline.settings import Settings
    from clarity_pipeline.store.database import Database
    from clarity_pipeline.store.vault import TokenVault

logger = logging.getLogger(__name__)

CIRCUIT_BREAKER: Final = "circuit breaker"
"""Who has switched a rule off that went too far, as its versions name it."""

MOST_SECONDS_OF_SENDING: Final = 20.0
"""A sensor tick may take 60 s; what is left over is sent by the next one."""

MOST_TOLD_IN_ALERT: Final = 10
MOST_TOLD_IN_WEBHOOK: Final = 50

_PLURALS: Final = {
    Level.CAMPAIGN: "campaigns",
    Level.AD_SET: "ad sets",
    Level.AD: "ads",
    Level.BUSINESS: "businesses",
    Level.LANDING_PAGE: "landing pages",
}


@dataclass(frozen=True, slots=True)
class Senders:
    """Where alerts go, and what calls webhooks."""

    alerts: Sender
    webhooks: Webhooks


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What one round came to. `postponed` are to be tried again, `expired` were too old."""

    done: int = 0
    skipped: int = 0
    failed: int = 0
    postponed: int = 0
    expired: int = 0


@dataclass(frozen=True, slots=True)
class _Round:
    """What one round of sending works with."""

    database: Database
    open_vault: Callable[[], TokenVault]
    platforms: Platforms
    senders: Senders
    now: datetime
    jitter: Callable[[], float]


def deliver_due(
    database: Database,
    *,
    settings: Settings,
    open_vault: Callable[[], TokenVault],
    now: datetime,
) -> Delivered:
    """Deliver what is due with the ad platforms and addresses of the settings.

    Raises ConfigurationError for settings that cannot be used; nothing is lost by it.
    """
    if not outbox.has_open_actions(database):
        return Delivered()
    # Imported here because Apprise takes half a second, and mostly there is nothing to send.
    from clarity_pipeline.ad_platforms.meta import PLATFORM, MetaAds
    from clarity_pipeline.notify.addresses import parse_addresses
    from clarity_pipeline.notify.webhooks import make_webhooks

    senders = Senders(parse_addresses(settings.notice_urls), make_webhooks(settings))
    with MetaAds(base_url=settings.meta_api_url) as meta:
        return deliver_pending(
            database,
            open_vault=open_vault,
            platforms={PLATFORM: meta},
            senders=senders,
            now=now,
        )


def deliver_pending(
    database: Database,
    *,
    open_vault: Callable[[], TokenVault],
    platforms: Platforms,
    senders: Senders,
    now: datetime,
    jitter: Callable[[], float] = random.random,
) -> Delivered:
    """Send what is due, oldest first, each by whoever claims it first.

    Before anything is done to an ad, how it stands on its platform is read: an attempt that died,
    or whose answer did not come, is not made twice. One action that fails stops no other. While
    the switch pauses all rules nothing is sent, and what is too old expires all the same.
    """
    expired = outbox.expire_actions(database, now=now)
    counts = dict.fromkeys(ActionStatus, 0)
    this = _Round(database, open_vault, platforms, senders, now, jitter)
    stop_at = monotonic() + MOST_SECONDS_OF_SENDING
    while monotonic() < stop_at:
        action = outbox.claim_next(database, now=now)
        if action is None:
            break
        settlement = _deliver(this, action)
        if settlement is None or not outbox.settle(database, action, settlement, now=now):
            logger.warning("action %d was taken over by somebody else", action.id)
            continue
        counts[settlement.status] += 1
        _log(action, settlement)
        if settlement.status is ActionStatus.FAILED:
            _break_circuit(database, action, now=now)
    return Delivered(
        done=counts[ActionStatus.DONE],
        skipped=counts[ActionStatus.SKIPPED],
        failed=counts[ActionStatus.FAILED],
        postponed=counts[ActionStatus.PENDING],
        expired=expired + counts[ActionStatus.EXPIRED],
    )


def approve_action(
    database: Database,
    action_id: int,
    *,
    judged_by: str,
    now: datetime,
    remote_address: str | None = None,
) -> OutboxAction:
    """Let a waiting action be sent. Raises UnknownAction, or ActionNotWaiting."""
    action = outbox.approve(database, action_id, judged_by=judged_by, now=now)
    _record(database, action, AuditAction.ACTION_APPROVED, now=now, remote_address=remote_address)
    return action


def reject_action(
    database: Database,
    action_id: int,
    *,
    judged_by: str,
    now: datetime,
    remote_address: str | None = None,
) -> OutboxAction:
    """End a waiting action for good. Raises UnknownAction, or ActionNotWaiting."""
    action = outbox.reject(database, action_id, judged_by=judged_by, now=now)
    _record(database, action, AuditAction.ACTION_REJECTED, now=now, remote_address=remote_address)
    return action


def disarm_rule(
    database: Database, rule_id: int, *, version: int, reason: str, now: datetime
) -> bool:
    """Have the circuit breaker switch a rule off, and tell people; False if that version is not
    the armed one any more: whoever has changed it since has had a look at it.

    Raises UnknownRule, or InvalidRule.
    """
    stored = get_rule(database, rule_id)
    if stored.rule.status is not RuleStatus.ARMED or stored.version != version:
        return False
    try:
        save_rule(
            database,
            with_status(stored.rule, RuleStatus.OFF),
            made_by=CIRCUIT_BREAKER,
            now=now,
            note=reason,
            rule_id=rule_id,
            expected_version=version,
        )
    except RuleChanged:
        return False
    record_audit(
        database,
        actor=CIRCUIT_BREAKER,
        action=AuditAction.RULE_CHANGED,
        now=now,
        detail={
            "rule": stored.rule.name,
            "version": version + 1,
            "change": f"switched off: {reason}",
        },
    )
    notice = Notice(
        subject=f"rule:{rule_id}",
        state=f"disarmed:{version}",
        severity=Severity.ERROR,
        title=f"Rule {stored.rule.name!r} was switched off",
        body=f"{reason} Nothing more is done by it; look at what it decided before arming it.",
    )
    notices.record(database, [notice], now=now)
    return True


def _deliver(this: _Round, action: OutboxAction) -> Settlement | None:
    """How an attempt ended; None when somebody else has the claim by now."""
    try:
        reason = reason_to_skip(action, _standing(this.database, action))
        # What an earlier attempt has done to an ad is to be known, whatever has happened since.
        if reason is not None and "before" not in action.detail:
            return _skipped(reason)
        if action.kind in ON_ADS:
            return _act(this, action, reason_not_to_send=reason)
        return _alert(this, action) if action.kind is ActionKind.ALERT else _call(this, action)
    except PlatformThrottled as error:
        return _throttled(this, action, error)
    except (PlatformUnavailable, WebhookUnavailable) as error:
        return _postponed(this, action, str(error), retry_after=error.retry_after)
    except PlatformTokenRefused as error:
        return _token_refused(this, action, error)
    except (PlatformRefused, WebhookRefused) as error:
        return Settlement(status=ActionStatus.FAILED, reason=str(error), error=str(error))
    except SecretKeyError as error:
        return _postponed(this, action, str(error), may_have_arrived=False)
    except ClarityError as error:
        return _postponed(this, action, str(error))
    except Exception as error:  # noqa: BLE001 - one that is broken must not stop the others
        # Its text may quote anything, a token included.
        return _postponed(
            this, action, f"It came upon a {type(error).__name__} that nobody expected."
        )


def _standing(database: Database, action: OutboxAction) -> Standing:
    older = outbox.older_actions(database, action)
    stored = _stored_rule(database, action)
    is_armed = (
        stored is not None and stored.archived_at is None and stored.rule.status is RuleStatus.ARMED
    )
    return Standing(
        is_armed=is_armed,
        limits=Limits() if stored is None else stored.rule.limits,
        before_in_rule=older.in_rule,
        before_in_account=older.in_account,
        has_other_of_day=older.has_other_of_day,
        has_later_than_pause=older.has_later_than_pause,
    )


def _stored_rule(database: Database, action: OutboxAction) -> StoredRule | None:
    try:
        return get_rule(database, action.rule_id)
    except (UnknownRule, InvalidRule):
        return None


def _rule_of(database: Database, action: OutboxAction) -> Rule | None:
    stored = _stored_rule(database, action)
    return None if stored is None else stored.rule


# Ads.


@dataclass(frozen=True, slots=True)
class _Ad:
    """An entity within reach."""

    platform: AdPlatform
    target: AdObject
    token: SecretStr

    def read(self) -> PlatformState:
        return self.platform.read_state(self.target, self.token)

    def change(self, kind: ActionKind, *, daily_budget: int | None) -> None:
        if kind is ActionKind.PAUSE:
            self.platform.pause(self.target, self.token)
        elif kind is ActionKind.RESUME:
            self.platform.resume(self.target, self.token)
        else:
            assert daily_budget is not None, "a budget has its target before it is sent"
            self.platform.set_daily_budget(self.target, self.token, daily_budget=daily_budget)


def _reach(this: _Round, action: OutboxAction) -> _Ad | Settlement:
    """The entity of an action, or how the attempt ends because it is out of reach."""
    assert action.entity_id is not None, "an action on an ad is about one"
    assert action.account_id is not None, "one without an account is skipped when it is planned"
    platform = this.platforms.get(action.account_id.partition(":")[0])
    if platform is None:
        return _skipped("Nothing here can act on that ad platform.")
    try:
        account = get_account(this.database, action.account_id)
    except UnknownAdAccount as error:
        return _skipped(str(error))
    if account.disabled_at is not None:
        return _postponed(
            this,
            action,
            f"The ad account is switched off: {account.disabled_reason}",
            may_have_arrived=False,
        )
    entity = find_entity(this.database, action.entity_id)
    if entity is None:
        return _skipped("It is no longer among the ads that were imported.")
    target = AdObject(
        platform_id=entity.platform_id, account_id=account.platform_id, level=entity.level
    )
    token = account_token(this.database, this.open_vault(), action.account_id)
    return _Ad(platform, target, token)


def _act(
    this: _Round, action: OutboxAction, *, reason_not_to_send: str | None
) -> Settlement | None:
    ad = _reach(this, action)
    if isinstance(ad, Settlement):
        return ad
    state = ad.read()
    step = next_step(action, state, pause=_pause_of(this.database, action), now=this.now)
    match step:
        case Skip(reason=reason):
            return _skipped(reason)
        case AlreadyDone(is_certain=is_certain):
            after = state if is_certain else replace(state, changed_at=None)
        case Send() if reason_not_to_send is not None:
            return _skipped(reason_not_to_send)
        case Send():
            if not outbox.keep_detail(this.database, action, step.detail):
                return None
            action = replace(action, detail=step.detail)
            ad.change(action.kind, daily_budget=step.daily_budget)
            after = _state_after(ad, state)
    _keep_state(this, action)
    return Settlement(status=ActionStatus.DONE, detail={**action.detail, "after": after.document()})


def _state_after(ad: _Ad, before: PlatformState) -> PlatformState:
    """How an entity stands after a change that was made; the same, of unknown age, when that
    cannot be read."""
    try:
        return ad.read()
    except PlatformError:
        return replace(before, changed_at=None)


def _pause_of(database: Database, action: OutboxAction) -> OutboxAction | None:
    pause_id = action.detail.get("of_action")
    return None if pause_id is None else outbox.get_action(database, pause_id)


def _keep_state(this: _Round, action: OutboxAction) -> None:
    """What our own tables say until the next import."""
    assert action.entity_id is not None
    status: EntityStatus | None = None
    daily_budget: float | None = None
    if action.kind is ActionKind.ADJUST_BUDGET:
        daily_budget = int(action.detail["target"]) / int(action.detail["before"]["units"])
    else:
        is_pause = action.kind is ActionKind.PAUSE
        status = EntityStatus.PAUSED if is_pause else EntityStatus.ACTIVE
    set_entity_state(
        this.database,
        entity_id=action.entity_id,
        status=status,
        daily_budget=daily_budget,
        now=this.now,
    )


def _throttled(this: _Round, action: OutboxAction, error: PlatformThrottled) -> Settlement:
    settlement = _postponed(
        this, action, str(error), retry_after=error.retry_after, may_have_arrived=False
    )
    if action.account_id is not None and settlement.next_attempt_at is not None:
        outbox.rest_account(this.database, action.account_id, until=settlement.next_attempt_at)
    return settlement


def _token_refused(this: _Round, action: OutboxAction, error: PlatformTokenRefused) -> Settlement:
    assert action.account_id is not None
    disable_account(this.database, action.account_id, reason=str(error), now=this.now)
    notice = Notice(
        subject=f"ad_account:{action.account_id}",
        state="token_refused",
        severity=Severity.ERROR,
        title=f"Rules cannot act on the ad account {action.account_id}",
        body=f"{error} Until then nothing is sent to it.",
        since=this.now,
    )
    notices.record(this.database, [notice], now=this.now)
    return _postponed(this, action, str(error), may_have_arrived=False)


def _break_circuit(database: Database, action: OutboxAction, *, now: datetime) -> None:
    rule = _rule_of(database, action)
    if rule is None:
        return
    failed = outbox.failed_actions(
        database, rule_id=action.rule_id, version=action.version, day=action.day
    )
    reason = too_many_failures(rule.limits, failed=failed)
    if reason is not None:
        disarm_rule(database, action.rule_id, version=action.version, reason=reason, now=now)


# Alerts and webhooks.


def _alert(this: _Round, action: OutboxAction) -> Settlement:
    alerts = this.senders.alerts
    if not len(alerts):
        return _skipped("There is no address to tell: CLARITY_NOTICE_URLS names none.")
    told = _told(this.database, action, most=MOST_TOLD_IN_ALERT)
    lines = [action.action["message"]] if action.action.get("message") else []
    lines += [each.sentence for each in told]
    if len(action.positions) > len(told):
        lines.append(f"And {len(action.positions) - len(told):,} more.")
    refused = alerts.send(
        title=_title(_rule_of(this.database, action), action, told),
        body="\n".join(lines),
        severity=Severity.WARNING,
    )
    if len(refused) < len(alerts):
        error = refused_by(refused, addresses=len(alerts))
        return Settlement(status=ActionStatus.DONE, error=error)
    return _postponed(this, action, "No address accepted it.")


def _call(this: _Round, action: OutboxAction) -> Settlement:
    webhooks = this.senders.webhooks
    secrets = [secret.get_secret_value().encode() for secret in webhooks.secrets]
    if not secrets:
        return _skipped("It cannot be signed: CLARITY_WEBHOOK_SECRET is not set.")
    told = _told(this.database, action, most=MOST_TOLD_IN_WEBHOOK)
    document: Mapping[str, Any] = {
        "action": action.id,
        "rule": {
            "id": action.rule_id,
            "name": _name(_rule_of(this.database, action), action),
            "version": action.version,
        },
        "business_id": action.business_id,
        "date": action.day.isoformat(),
        "entity_count": len(action.positions),
        "entities": [
            {
                "id": each.entity_id,
                "name": each.name,
                "decision": each.address,
                "sentence": each.sentence,
            }
            for each in told
        ],
    }
    body = json.dumps(document, ensure_ascii=False).encode()
    headers = webhook_headers(
        body, secrets=secrets, idempotency_key=action.idempotency_key, now=this.now
    )
    webhooks.post(action.action["url"], body, headers)
    return Settlement(status=ActionStatus.DONE)


@dataclass(frozen=True, slots=True)
class _Told:
    entity_id: str
    name: str
    address: str
    sentence: str


def _told(database: Database, action: OutboxAction, *, most: int) -> list[_Told]:
    """The first entities that an action tells of, with the sentence that explains each.

    One whose evidence can no longer be read is told of all the same.
    """
    found: list[_Told] = []
    for position, entity_id in zip(
        action.positions[:most], action.detail["entity_ids"], strict=False
    ):
        address = f"{action.evaluation_id}-{position}"
        try:
            decision = read_decision(database, address).decision
        except ClarityError as error:
            found.append(_Told(entity_id, entity_id, address, f"{entity_id}: {error}"))
            continue
        found.append(
            _Told(
                decision.entity_id,
                decision.entity_name or decision.entity_id,
                address,
                explain(decision).sentence,
            )
        )
    return found


def _title(rule: Rule | None, action: OutboxAction, told: Sequence[_Told]) -> str:
    count = len(action.positions)
    name = _name(rule, action)
    if count == 1:
        return f"{name}: {told[0].name}"
    what = "entities" if rule is None else _PLURALS[rule.level]
    of = f" of {action.business_id}" if action.business_id else ""
    return f"{name}: {count:,} {what}{of}"


def _name(rule: Rule | None, action: OutboxAction) -> str:
    return f"Rule {action.rule_id}" if rule is None else rule.name


# How attempts end.


def _skipped(reason: str) -> Settlement:
    return Settlement(status=ActionStatus.SKIPPED, reason=reason)


def _postponed(
    this: _Round,
    action: OutboxAction,
    error: str,
    *,
    retry_after: timedelta | None = None,
    may_have_arrived: bool = True,
) -> Settlement:
    found = after_failure(
        action,
        now=this.now,
        jitter=this.jitter(),
        retry_after=retry_after,
        may_have_arrived=may_have_arrived,
    )
    if isinstance(found, GiveUp):
        return Settlement(status=found.status, reason=found.reason, error=error)
    return Settlement(status=ActionStatus.PENDING, error=error, next_attempt_at=found.at)


def _log(action: OutboxAction, settlement: Settlement) -> None:
    logger.info(
        "action %d, %s by rule %d: %s%s",
        action.id,
        action.kind.value,
        action.rule_id,
        settlement.status.value,
        f", {settlement.reason or settlement.error}"
        if settlement.reason or settlement.error
        else "",
    )


def _record(
    database: Database,
    action: OutboxAction,
    what: AuditAction,
    *,
    now: datetime,
    remote_address: str | None,
) -> None:
    assert action.judged_by is not None
    record_audit(
        database,
        actor=action.judged_by,
        action=what,
        now=now,
        business_id=action.business_id,
        detail={
            "action": action.id,
            "kind": action.kind.value,
            "entity": action.entity_id,
            "rule": _name(_rule_of(database, action), action),
        },
        remote_address=remote_address,
    )
