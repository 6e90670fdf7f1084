"""Every error this project raises on purpose; the class says what the caller does next.

ClarityError                      one sentence: what happened, what to do   exit code 1
├── InputError                    what was asked for is refused at the edge           2
│   ├── UnknownBusiness           no business of that id
│   ├── InvalidBusinessId         not 1-64 of a-z 0-9 _ -
│   ├── InvalidBusinessName       too long, or with control characters in it
│   ├── InvalidProjectId          not 6-20 letters and digits
│   ├── InvalidToken              not a token of that service, or one that has already expired
│   ├── InvalidConnectionList     rows that cannot be used; none of them was
│   ├── InvalidDay                no date, a future one, or one before the business was connected
│   ├── NoLongerCollectable       Clarity's answer would be about another day by now
│   ├── InvalidRequest            a call the Export API would not understand; nothing was sent
│   ├── NotConnected              the business has no project and token
│   ├── SyncDisabled              paused, or disabled after an authentication failure
│   ├── InvalidLogin              a login of the panel that is malformed or taken
│   ├── InvalidPassword           too short, too long, or easily guessed
│   ├── UnknownUser               nobody has that login
│   ├── UnknownSyncRequest        the business has no sync request of that number
│   ├── PurgeRefused              still connected, a job still running, or not confirmed
│   ├── InvalidKeyName            an API key's name that is empty, too long, or not printable
│   ├── UnknownApiKey             no API key of that id
│   ├── InvalidRule               says something impossible, or is no rule at all
│   ├── UnknownRule               no rule of that name or number, or no such version of it
│   ├── RuleChanged               somebody else changed or archived it meanwhile
│   ├── UnknownDecision           no decision has that address
│   ├── InvalidAdRows             a file of ads that cannot be read as a whole
│   ├── InvalidAdAccount          an ad account's platform or id that is malformed, or taken
│   ├── UnknownAdAccount          no ad account of that id is connected
│   ├── UnknownAction             no action of that number
│   ├── ActionNotWaiting          an action that no longer waits for anybody to agree
│   ├── InvalidSetupCode          the set-up link is over, used, replaced, or mistyped
│   └── AlreadySetUp              the agency has a user, so nobody else is made by a link
├── ConfigurationError            a setting cannot be used                            2
│   └── SecretKeyError            no key, or none that reads the stored token
├── QuotaRefused                  no slot for this purpose until the reset            3
├── ExportError                   one call brought no usable export                   1
│   ├── AuthenticationFailed      401, 403: the token must be replaced                4
│   ├── RateLimited               429: nothing more today
│   ├── PermanentRefusal          the same call will fail all day: do not repeat it
│   │   ├── RequestRejected       400 and every other status without a rule of its own
│   │   ├── ReplyUnreadable       200, but not an array of metric blocks, or over the size cap
│   │   └── DimensionIgnored      200, but rows lack a requested dimension
│   └── TransientFailure          worth one more try if a slot is free
│       ├── ServiceUnavailable    5xx
│       ├── ReplyTimedOut         read or total time ran out
│       │   └── ConnectTimedOut   no connection within the time for it; nothing was sent
│       └── ConnectionBroken      refused, reset, cut off before the end, DNS, TLS
├── PlatformError                 one call to an ad platform brought nothing            1
│   ├── PlatformUnavailable       later it may work; whether it arrived is not known
│   │   └── PlatformThrottled     too many calls: nothing arrived, and when to come back
│   ├── PlatformRefused           the same call will be refused for ever
│   └── PlatformTokenRefused      the account's token must be replaced                4
├── WebhookError                  one message to a rule's webhook was not accepted     1
│   ├── WebhookUnavailable        later it may work; whether it arrived is not known
│   └── WebhookRefused            the same message will be refused for ever
├── NetworkUnreachable            no connection for anybody: our own network          1
├── RebuildFailed                 no business of a day could be rebuilt               1
└── StoreError                    our database; never held against a token            1
    ├── DatabaseUnreachable       cannot connect, or the connection went away
    ├── DatabaseBusy              locked by somebody else for longer than we wait
    ├── DatabaseReadOnly
    ├── DatabaseFull
    ├── SchemaMismatch            the schema is newer than this program, or is not ours
    ├── ExportCorrupt             a landed body no longer matches its sha256
    ├── EvidenceCorrupt           what a rule decided on can no longer be read
    └── ExportRemoved             a landed body is older than bodies are kept; its slice stands
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from datetime import date, datetime, timedelta


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row of a list that cannot be used, by the line it begins on, and why."""

    line: int
    reason: str


class ClarityError(Exception):
    """Base of all; `str()` is one sentence fit for a person, never with a secret in it.

    `code` is the stable machine name kept in job rows and printed with `--json`.
    """

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "error"


class InputError(ClarityError):
    exit_code = 2
    code = "invalid_input"


class UnknownBusiness(InputError):
    code = "unknown_business"

    def __init__(self, business_id: str) -> None:
        super().__init__(
            f"There is no business {business_id!r}; `clarity business list` shows those there are."
        )
        self.business_id = business_id


class InvalidBusinessId(InputError):
    code = "invalid_business_id"


class InvalidBusinessName(InputError):
    code = "invalid_business_name"


class InvalidProjectId(InputError):
    code = "invalid_project_id"


class InvalidToken(InputError):
    code = "invalid_token"


class InvalidConnectionList(InputError):
    """`bad_rows` are all that cannot be used; empty where the list as a whole cannot be read."""

    code = "invalid_connection_list"

    def __init__(self, message: str, *, bad_rows: Sequence[BadRow] = ()) -> None:
        super().__init__(message)
        self.bad_rows = tuple(bad_rows)


class InvalidDay(InputError):
    code = "invalid_day"


class NoLongerCollectable(InputError):
    code = "gap"

    def __init__(self, day: date) -> None:
        super().__init__(
            f"{day} was not fetched on the day after it, and Clarity no longer answers for it."
        )
        self.day = day


class InvalidRequest(InputError):
    code = "invalid_request"


class NotConnected(InputError):
    code = "not_connected"

    def __init__(self, business_id: str) -> None:
        super().__init__(
            f"Business {business_id!r} is not connected to Clarity; connect it with "
            f"`clarity connect {business_id} --project-id ...`."
        )
        self.business_id = business_id


class SyncDisabled(InputError):
    code = "sync_disabled"

    def __init__(self, business_id: str, *, reason: str | None) -> None:
        why = f": {reason.rstrip('.')}" if reason else ""
        super().__init__(
            f"The sync of business {business_id!r} is switched off{why}; `clarity enable "
            f"{business_id}` switches it on."
        )
        self.business_id = business_id


class InvalidLogin(InputError):
    code = "invalid_login"


class InvalidPassword(InputError):
    code = "invalid_password"


class UnknownUser(InputError):
    code = "unknown_user"

    def __init__(self, login: str) -> None:
        super().__init__(f"There is no user {login!r}; `clarity user list` shows those there are.")


class UnknownSyncRequest(InputError):
    code = "unknown_sync_request"

    def __init__(self, business_id: str, *, request_id: int) -> None:
        super().__init__(
            f"Business {business_id!r} has no sync request {request_id}; ask for a sync first."
        )


class PurgeRefused(InputError):
    code = "purge_refused"


class InvalidKeyName(InputError):
    code = "invalid_key_name"


class UnknownApiKey(InputError):
    code = "unknown_api_key"

    def __init__(self, key_id: int) -> None:
        super().__init__(
            f"There is no API key {key_id}; `clarity api-key list` shows those there are."
        )


@dataclass(frozen=True, slots=True)
class BadField:
    """A part of a document that cannot be used, by its path, and why."""

    path: str
    reason: str


class InvalidRule(InputError):
    """`bad_fields` are all that cannot be used; empty where the rule cannot be read as a whole."""

    code = "invalid_rule"

    def __init__(self, message: str, *, bad_fields: Sequence[BadField] = ()) -> None:
        super().__init__(message)
        self.bad_fields = tuple(bad_fields)


class UnknownRule(InputError):
    code = "unknown_rule"

    def __init__(self, rule: str | int, *, version: int | None = None) -> None:
        of_it = "" if version is None else f" of version {version}"
        super().__init__(
            f"There is no rule {rule!r}{of_it}; `clarity rules list` shows those there are."
        )


class RuleChanged(InputError):
    code = "rule_changed"


class UnknownDecision(InputError):
    code = "unknown_decision"

    def __init__(self, address: str) -> None:
        super().__init__(
            f"There is no decision {address[:60]!r}; an address is the number of an evaluation and "
            "a place in it, such as 1234-17."
        )


class InvalidAdRows(InputError):
    code = "invalid_ad_rows"


class InvalidAdAccount(InputError):
    code = "invalid_ad_account"


class UnknownAdAccount(InputError):
    code = "unknown_ad_account"

    def __init__(self, account_id: str) -> None:
        super().__init__(
            f"No ad account {account_id!r} is connected; `clarity ads accounts` shows those that "
            "are."
        )
        self.account_id = account_id


class UnknownAction(InputError):
    code = "unknown_action"

    def __init__(self, action_id: int) -> None:
        super().__init__(
            f"There is no action {action_id}; `clarity rules actions` shows those there are."
        )


class ActionNotWaiting(InputError):
    code = "action_not_waiting"

    def __init__(self, action_id: int, *, status: str) -> None:
        super().__init__(
            f"Action {action_id} does not wait for anybody to agree: it is {status}; `clarity "
            "rules actions --status waiting` shows those that do."
        )


class InvalidSetupCode(InputError):
    code = "invalid_setup_code"

    def __init__(self) -> None:
        super().__init__(
            "That set-up code is over, used or mistyped; start the panel again for a new one."
        )


class AlreadySetUp(InputError):
    code = "already_set_up"

    def __init__(self) -> None:
        super().__init__("The agency has a user already, so a set-up link makes no other.")


class ConfigurationError(ClarityError):
    exit_code = 2
    code = "configuration"


class SecretKeyError(ConfigurationError):
    code = "secret_key"


class QuotaRefused(ClarityError):
    """No slot for this purpose now; `resets_at` (UTC) is when there will be one."""

    exit_code = 3
    code = "quota_refused"

    def __init__(self, message: str, *, resets_at: datetime) -> None:
        super().__init__(message)
        self.resets_at = resets_at


class ExportError(ClarityError):
    """One call brought no usable export; `http_status` is None where no reply came."""

    code = "export_failed"

    def __init__(self, message: str, *, http_status: int | None = None) -> None:
        super().__init__(message)
        self.http_status = http_status


class AuthenticationFailed(ExportError):
    exit_code = 4
    code = "auth_failed"


class RateLimited(ExportError):
    code = "rate_limited"


class PermanentRefusal(ExportError):
    code = "refused"


class RequestRejected(PermanentRefusal):
    code = "request_rejected"


class ReplyUnreadable(PermanentRefusal):
    code = "reply_unreadable"


class DimensionIgnored(PermanentRefusal):
    code = "dimension_ignored"


class TransientFailure(ExportError):
    code = "transient"


class ServiceUnavailable(TransientFailure):
    code = "service_unavailable"


class ReplyTimedOut(TransientFailure):
    code = "timed_out"


class ConnectTimedOut(ReplyTimedOut):
    """No connection came about in time; `code` is that of every time-out."""


class ConnectionBroken(TransientFailure):
    code = "connection_broken"


class PlatformError(ClarityError):
    """One call to an ad platform; the message never quotes what it answered with a token in it."""

    code = "platform_failed"


class PlatformUnavailable(PlatformError):
    """`retry_after` is what the platform asked for, None where it did not."""

    code = "platform_unavailable"

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PlatformThrottled(PlatformUnavailable):
    code = "platform_throttled"


class PlatformRefused(PlatformError):
    code = "platform_refused"


class PlatformTokenRefused(PlatformError):
    exit_code = 4
    code = "platform_token_refused"


class WebhookError(ClarityError):
    """One message to a webhook; the address is never quoted, for it is often a secret."""

    code = "webhook_failed"


class WebhookUnavailable(WebhookError):
    """`retry_after` is what the receiver asked for, None where it did not."""

    code = "webhook_unavailable"

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class WebhookRefused(WebhookError):
    code = "webhook_refused"


class NetworkUnreachable(ClarityError):
    code = "network"

    def __init__(self) -> None:
        super().__init__(
            "No business got a connection to Clarity, so the rest of the calls was not sent; check "
            "this machine's network, its proxy and CLARITY_API_URL, and run the day again."
        )


class RebuildFailed(ClarityError):
    code = "rebuild_failed"


class StoreError(ClarityError):
    code = "store"


class DatabaseUnreachable(StoreError):
    code = "database_unreachable"


class DatabaseBusy(StoreError):
    code = "database_busy"


class DatabaseReadOnly(StoreError):
    code = "database_read_only"


class DatabaseFull(StoreError):
    code = "database_full"


class SchemaMismatch(StoreError):
    code = "schema_mismatch"


class ExportCorrupt(StoreError):
    code = "export_corrupt"


class EvidenceCorrupt(StoreError):
    code = "evidence_corrupt"


class ExportRemoved(StoreError):
    code = "export_removed"
