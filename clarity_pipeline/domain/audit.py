"""What the audit log keeps record of."""

from __future__ import annotations

from enum import StrEnum


class AuditAction(StrEnum):
    """What somebody did; the value is what the log stores, the sentence is for the page."""

    CONNECTED = "connected"
    TESTED = "tested"
    ENABLED = "enabled"
    DISABLED = "disabled"
    DISCONNECTED = "disconnected"
    PURGED = "purged"
    SYNC_REQUESTED = "sync_requested"
    BUSINESS_ADDED = "business_added"
    USER_ADDED = "user_added"
    USER_REVOKED = "user_revoked"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - the name of an action
    SIGNED_IN = "signed_in"
    SIGNED_OUT_EVERYWHERE = "signed_out_everywhere"
    KEY_ADDED = "key_added"
    KEY_REVOKED = "key_revoked"
    RULE_CHANGED = "rule_changed"
    RULES_PAUSED = "rules_paused"
    RULES_RESUMED = "rules_resumed"
    ACTION_APPROVED = "action_approved"
    ACTION_REJECTED = "action_rejected"
    RULES_SHOWN = "rules_shown"
    RULES_HIDDEN = "rules_hidden"
    ADS_IMPORTED = "ads_imported"
    AD_ACCOUNT_CONNECTED = "ad_account_connected"
    AD_ACCOUNT_DISCONNECTED = "ad_account_disconnected"

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS = {
    AuditAction.CONNECTED: "connected Clarity",
    AuditAction.TESTED: "tested the connection",
    AuditAction.ENABLED: "switched the sync on",
    AuditAction.DISABLED: "paused the sync",
    AuditAction.DISCONNECTED: "disconnected Clarity",
    AuditAction.PURGED: "deleted the history",
    AuditAction.SYNC_REQUESTED: "asked for a sync",
    AuditAction.BUSINESS_ADDED: "added the business",
    AuditAction.USER_ADDED: "added a user",
    AuditAction.USER_REVOKED: "ended a user's access",
    AuditAction.PASSWORD_CHANGED: "changed a password",
    AuditAction.SIGNED_IN: "signed in",
    AuditAction.SIGNED_OUT_EVERYWHERE: "signed out everywhere",
    AuditAction.KEY_ADDED: "made an API key",
    AuditAction.KEY_REVOKED: "revoked an API key",
    AuditAction.RULE_CHANGED: "changed a rule",
    AuditAction.RULES_PAUSED: "paused every rule",
    AuditAction.RULES_RESUMED: "let the rules go on",
    AuditAction.ACTION_APPROVED: "agreed to an action of a rule",
    AuditAction.ACTION_REJECTED: "refused an action of a rule",
    AuditAction.RULES_SHOWN: "let the client see its rules",
    AuditAction.RULES_HIDDEN: "hid the rules from the client",
    AuditAction.ADS_IMPORTED: "imported ads",
    AuditAction.AD_ACCOUNT_CONNECTED: "connected an ad account",
    AuditAction.AD_ACCOUNT_DISCONNECTED: "disconnected an ad account",
}
