"""What each class of error leads to: the one table that every decision about a failure reads.

It says how the ledger and the landed reply are marked, what the combo is called, how often a call
is tried, from whose slots, and when somebody tries again. README prints it for people, and a test
compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from clarity_pipeline.domain.errors import (
    AuthenticationFailed,
    ClarityError,
    ConnectionBroken,
    ConnectTimedOut,
    DimensionIgnored,
    ExportError,
    NetworkUnreachable,
    NoLongerCollectable,
    QuotaRefused,
    RateLimited,
    ReplyTimedOut,
    ReplyUnreadable,
    RequestRejected,
    ServiceUnavailable,
)
from clarity_pipeline.domain.exports import Verdict
from clarity_pipeline.domain.quota import CallOutcome, Purpose
from clarity_pipeline.domain.sync_jobs import JobStatus


class ComboStatus(StrEnum):
    """What became of one combo of a business-day in one run."""

    LANDED = "landed"
    ALREADY_LANDED = "already_landed"
    RECOVERED = "recovered"
    REFUSED = "refused"
    AUTH_FAILED = "auth_failed"
    RATE_LIMITED = "rate_limited"
    QUOTA_REFUSED = "quota_refused"
    UNAVAILABLE = "unavailable"
    OWN_FAULT = "own_fault"
    GAP = "gap"

    @property
    def has_data(self) -> bool:
        return self in {ComboStatus.LANDED, ComboStatus.ALREADY_LANDED, ComboStatus.RECOVERED}


JOB_STATUS_WITHOUT_DATA: Final[Mapping[ComboStatus, JobStatus]] = {
    ComboStatus.AUTH_FAILED: JobStatus.AUTH_FAILED,
    ComboStatus.RATE_LIMITED: JobStatus.RATE_LIMITED,
    ComboStatus.QUOTA_REFUSED: JobStatus.RATE_LIMITED,
    ComboStatus.OWN_FAULT: JobStatus.FAILED,
    ComboStatus.UNAVAILABLE: JobStatus.FAILED,
    ComboStatus.REFUSED: JobStatus.FAILED,
    ComboStatus.GAP: JobStatus.SKIPPED,
}
"""What a business-day without any data is called, the most telling reason first."""

Attempts = Mapping[Purpose, int]

_ONE_TRY: Final[Attempts] = dict.fromkeys(Purpose, 1)
_ONE_MORE_TRY: Final[Attempts] = dict.fromkeys(Purpose, 2) | {Purpose.TEST: 1}
"""A person who tests a connection is told at once, and decides about a second call."""


@dataclass(frozen=True, slots=True)
class Consequence:
    """A row of the table.

    `says`, `happens` and `tried_again` are for people. `ledger` is None where no call was made,
    `verdict` where a landed reply, if there is one, settles nothing. `attempts` counts the first.
    `retry_may_use_share` is about the slots that are kept for the schedule's first attempts.
    `token_still_on_trial`: nobody knows yet whether Clarity takes the token, so the project's
    other calls wait. A time-out is taken for "it does": waiting for three more one after the
    other would cost a run minutes. `may_be_our_network`: see domain.network.
    """

    says: str
    happens: str
    tried_again: str
    status: ComboStatus
    ledger: CallOutcome | None = None
    verdict: Verdict | None = None
    attempts: Attempts = field(default_factory=lambda: _ONE_TRY)
    retry_may_use_share: bool = False
    token_still_on_trial: bool = False
    may_be_our_network: bool = False


def _refusal(ledger: CallOutcome, verdict: Verdict) -> Consequence:
    return Consequence(
        says="400, other refusals, unreadable or wrong replies",
        happens="the reply is kept raw, the combo is `refused` for its day",
        tried_again="never for this day",
        status=ComboStatus.REFUSED,
        ledger=ledger,
        verdict=verdict,
    )


def _transient(
    ledger: CallOutcome, *, token_still_on_trial: bool, may_be_our_network: bool
) -> Consequence:
    return Consequence(
        says="5xx, time-out, broken connection",
        happens="one more try, from a slot that nobody else needs",
        tried_again="once, 15 seconds later; then with the next run of this day",
        status=ComboStatus.UNAVAILABLE,
        ledger=ledger,
        attempts=_ONE_MORE_TRY,
        token_still_on_trial=token_still_on_trial,
        may_be_our_network=may_be_our_network,
    )


CONSEQUENCES: Final[Mapping[type[ClarityError], Consequence]] = {
    AuthenticationFailed: Consequence(
        says="401, 403",
        happens="`auth_failed`; the token is not sent again, and its business is switched off",
        tried_again="when you connect with a new token",
        status=ComboStatus.AUTH_FAILED,
        ledger=CallOutcome.AUTH_FAILED,
        token_still_on_trial=True,
    ),
    RateLimited: Consequence(
        says="429",
        happens="`rate_limited`; the project's day is closed, the connection stays enabled",
        tried_again="tomorrow",
        status=ComboStatus.RATE_LIMITED,
        ledger=CallOutcome.RATE_LIMITED,
    ),
    RequestRejected: _refusal(CallOutcome.REQUEST_REJECTED, Verdict.REQUEST_REJECTED),
    ReplyUnreadable: _refusal(CallOutcome.REPLY_UNREADABLE, Verdict.REPLY_UNREADABLE),
    DimensionIgnored: _refusal(CallOutcome.DIMENSION_IGNORED, Verdict.DIMENSION_IGNORED),
    ServiceUnavailable: _transient(
        CallOutcome.SERVICE_UNAVAILABLE, token_still_on_trial=True, may_be_our_network=False
    ),
    ReplyTimedOut: _transient(
        CallOutcome.TIMED_OUT, token_still_on_trial=False, may_be_our_network=False
    ),
    ConnectTimedOut: _transient(
        CallOutcome.TIMED_OUT, token_still_on_trial=True, may_be_our_network=True
    ),
    ConnectionBroken: _transient(
        CallOutcome.CONNECTION_BROKEN, token_still_on_trial=True, may_be_our_network=True
    ),
    QuotaRefused: Consequence(
        says="nothing: we have no slot for the call",
        happens="`quota_refused`; nothing is sent",
        tried_again="with the next run that has a slot; the calls come back at 00:00 UTC",
        status=ComboStatus.QUOTA_REFUSED,
    ),
    NoLongerCollectable: Consequence(
        says="nothing: its answer would be about another day",
        happens="`gap`; nothing is sent",
        tried_again="never for this day",
        status=ComboStatus.GAP,
    ),
    NetworkUnreachable: Consequence(
        says="nothing, to several businesses in a row and to none before",
        happens="`own_fault`: our network; the run sends nothing more, held against no token",
        tried_again="with the next run",
        status=ComboStatus.OWN_FAULT,
    ),
    ClarityError: Consequence(
        says="our own database or key",
        happens="`own_fault`; never held against the token",
        tried_again="with the next run",
        status=ComboStatus.OWN_FAULT,
    ),
}
"""By class of error; a class without a row of its own has that of its nearest base."""


def consequence_of(error: ClarityError) -> Consequence:
    """The row of an error's class, or of the nearest base that has one."""
    return next(CONSEQUENCES[cls] for cls in type(error).__mro__ if cls in CONSEQUENCES)


def call_outcome_of(error: ExportError) -> CallOutcome:
    """How a failed call is written into the quota ledger."""
    outcome = consequence_of(error).ledger
    assert outcome is not None
    return outcome


def verdict_of(error: ExportError) -> Verdict | None:
    """How a landed reply is judged by the error it led to; None where it settles nothing."""
    return consequence_of(error).verdict


def may_use_share(purpose: Purpose, *, retry_of: ClarityError | None) -> bool:
    """Whether a call may take a slot that is kept for the schedule."""
    allowed = retry_of is None or consequence_of(retry_of).retry_may_use_share
    return allowed and purpose is Purpose.SCHEDULE


def rows_for_people() -> list[tuple[str, str, str]]:
    """What Clarity says, what happens, when it is tried again: README's table."""
    rows = ((row.says, row.happens, row.tried_again) for row in CONSEQUENCES.values())
    return list(dict.fromkeys(rows))
