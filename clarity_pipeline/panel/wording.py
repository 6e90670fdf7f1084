"""How the panel says what the domain decides: labels, tones, and what somebody can do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from clarity_pipeline.domain.access import Principal, Role
from clarity_pipeline.domain.connections import ConnectionState
from clarity_pipeline.domain.day_history import DayWord
from clarity_pipeline.domain.quota import CallOutcome
from clarity_pipeline.domain.quota_slots import SlotKind
from clarity_pipeline.domain.sync_jobs import JobStatus, Trigger
from clarity_pipeline.operations.sync_requests import RequestProgress
from clarity_pipeline.operations.sync_watch import SyncWatch


@dataclass(frozen=True, slots=True)
class Words:
    """A label with its tone (good, warn, bad or quiet), what it means, and what to do, if anything.

    The tone only colours what the label says already.
    """

    label: str
    tone: str
    meaning: str = ""
    advice: str = ""


STATES: Final[Mapping[ConnectionState, Words]] = {
    ConnectionState.CONNECTED: Words(
        "Connected",
        "good",
        "The connection works and nothing is missing that should be there by now.",
    ),
    ConnectionState.NEVER_TESTED: Words(
        "Not tested yet",
        "warn",
        "Project and token are stored, and Clarity has not been asked yet whether it takes them.",
        "Test the connection, or wait for the next daily sync.",
    ),
    ConnectionState.PARTIAL: Words(
        "Partly synced",
        "warn",
        "Yesterday's sync brought some of its data, and some is missing.",
        "Press Sync now: it fetches only what is missing.",
    ),
    ConnectionState.LATE: Words(
        "Late",
        "warn",
        "Yesterday's data were due by 01:00 UTC and have not arrived.",
        "Press Sync now: until the next midnight UTC, Clarity still answers for that day.",
    ),
    ConnectionState.RATE_LIMITED_TODAY: Words(
        "Quota spent",
        "warn",
        "All calls of this project for today are used up, so nothing more can be fetched.",
        "There is nothing to do: the calls come back at 00:00 UTC, and the sync goes on by itself.",
    ),
    ConnectionState.FAILING: Words(
        "Failing",
        "bad",
        "The latest attempt to reach Clarity failed.",
        "Read the last error, then test the connection.",
    ),
    ConnectionState.DISABLED_AUTH: Words(
        "Token refused",
        "bad",
        "Clarity refused the API token, so the sync was switched off to save your calls.",
        "Generate a new API token in Clarity and save it here; the sync then goes on by itself.",
    ),
    ConnectionState.PAUSED: Words(
        "Paused",
        "quiet",
        "The daily sync was switched off by hand. Days that pass meanwhile cannot be fetched "
        "later.",
        "Switch the sync on again when you are ready.",
    ),
    ConnectionState.NOT_CONNECTED: Words(
        "Not connected",
        "quiet",
        "No project and token are stored, so nothing is fetched. Metrics that were collected "
        "before are kept.",
        "Enter the project ID and an API token to begin.",
    ),
}

STATUSES: Final[Mapping[JobStatus, Words]] = {
    JobStatus.RUNNING: Words("Running", "busy"),
    JobStatus.SUCCEEDED: Words("Succeeded", "good"),
    JobStatus.PARTIAL: Words("Partial", "warn"),
    JobStatus.RATE_LIMITED: Words("Quota spent", "warn"),
    JobStatus.AUTH_FAILED: Words("Token refused", "bad"),
    JobStatus.FAILED: Words("Failed", "bad"),
    JobStatus.SKIPPED: Words("Skipped", "quiet"),
}

TRIGGERS: Final[Mapping[Trigger, str]] = {
    Trigger.SCHEDULE: "Daily schedule",
    Trigger.MANUAL: "By hand",
    Trigger.PANEL: "Sync now",
    Trigger.BACKFILL: "Backfill",
    Trigger.REPLAY: "Replay",
}

SLOTS: Final[Mapping[SlotKind, Words]] = {
    SlotKind.SCHEDULE: Words("Daily sync", "schedule"),
    SlotKind.TEST: Words("Test", "test"),
    SlotKind.MANUAL: Words("Manual sync", "manual"),
    SlotKind.RECOVERY: Words("Recovery of a missed day", "recovery"),
    SlotKind.KEPT: Words("Kept for the daily sync", "kept"),
    SlotKind.FREE: Words("Free", "free"),
    SlotKind.CLOSED: Words("Not available today", "closed"),
}
"""The tone names the look of the slot; its sign is in the template."""

SLOT_SIGNS: Final[Mapping[SlotKind, str]] = {
    SlotKind.SCHEDULE: "D",
    SlotKind.TEST: "T",
    SlotKind.MANUAL: "M",
    SlotKind.RECOVERY: "R",
    SlotKind.KEPT: "\N{MIDDLE DOT}",
    SlotKind.FREE: "",
    SlotKind.CLOSED: "\N{MULTIPLICATION SIGN}",
}

CALL_OUTCOMES: Final[Mapping[CallOutcome | None, str]] = {
    CallOutcome.LANDED: "answered",
    CallOutcome.AUTH_FAILED: "token refused",
    CallOutcome.RATE_LIMITED: "quota spent, says Clarity",
    CallOutcome.REQUEST_REJECTED: "request rejected",
    CallOutcome.REPLY_UNREADABLE: "answer unreadable",
    CallOutcome.DIMENSION_IGNORED: "answer incomplete",
    CallOutcome.SERVICE_UNAVAILABLE: "Clarity was unavailable",
    CallOutcome.TIMED_OUT: "timed out",
    CallOutcome.CONNECTION_BROKEN: "connection broke",
    CallOutcome.ABANDONED: "never finished",
    None: "under way",
}

DAYS: Final[Mapping[DayWord, Words]] = {
    DayWord.COMPLETE: Words("Complete", "complete", "Everything of the day is there."),
    DayWord.PARTIAL: Words("Partial", "partial", "Some of the day's data are missing."),
    DayWord.SHIFTED: Words(
        "Shifted", "shifted", "Complete, but its 24 hours do not begin and end at midnight UTC."
    ),
    DayWord.TRUNCATED: Words(
        "Truncated", "truncated", "Clarity cut the answer at 1,000 rows; small pages are missing."
    ),
    DayWord.DERIVED: Words(
        "Derived", "derived", "Worked out afterwards from answers about two or three days."
    ),
    DayWord.PENDING: Words("Pending", "pending", "Not there yet, and can still be fetched."),
    DayWord.LOST: Words("Gap", "lost", "Was not fetched in time; Clarity no longer answers."),
    DayWord.PAUSED: Words("Paused", "paused", "The sync was switched off on that day."),
    DayWord.NOT_EXPECTED: Words(
        "Not expected", "not-expected", "The business was not connected on that day."
    ),
}

DAY_SIGNS: Final[Mapping[DayWord, str]] = {
    DayWord.COMPLETE: "\N{CHECK MARK}",
    DayWord.PARTIAL: "\N{VULGAR FRACTION ONE HALF}",
    DayWord.SHIFTED: "\N{RIGHTWARDS ARROW}",
    DayWord.TRUNCATED: "\N{HORIZONTAL ELLIPSIS}",
    DayWord.DERIVED: "\N{ALMOST EQUAL TO}",
    DayWord.PENDING: "?",
    DayWord.LOST: "\N{MULTIPLICATION SIGN}",
    DayWord.PAUSED: "\N{DOUBLE VERTICAL LINE}",
    DayWord.NOT_EXPECTED: "",
}

_OUR_FAULT: Final = (
    "This is a fault on our side and says nothing about the token; whoever runs this installation "
    "must look at it."
)
_TRY_AGAIN: Final = (
    "Nothing to do at first: the next sync tries again. You can also press Sync now."
)
_KEPT_RAW: Final = (
    "Clarity answered with something that cannot be used. It is kept for a closer look, and that "
    "day is not asked for again."
)

_ADVICE: Final[Mapping[str, str]] = {
    "auth_failed": "Generate a new API token in Clarity and save it here.",
    "rate_limited": "Nothing to do: the calls come back at 00:00 UTC. If this happens often, find "
    "out what else uses this project's calls.",
    "quota_refused": "Nothing to do: the calls come back at 00:00 UTC.",
    "request_rejected": _KEPT_RAW,
    "reply_unreadable": _KEPT_RAW,
    "dimension_ignored": _KEPT_RAW,
    "service_unavailable": _TRY_AGAIN,
    "timed_out": _TRY_AGAIN,
    "connection_broken": _TRY_AGAIN,
    "network": _OUR_FAULT,
    "gap": "That day cannot be fetched any more; the following days are not affected.",
    "interrupted": "The sync was cut short. Press Sync now to fetch what is missing.",
}


def advice_for(error_code: str | None) -> str:
    """What to do about an error of a sync; ours are those that have no sentence of their own."""
    return _ADVICE.get(error_code or "", _OUR_FAULT)


def progress_sentence(progress: RequestProgress | SyncWatch, principal: Principal) -> str:
    """How far a sync is; whoever cannot see to the worker is told who can."""
    if progress.is_overlooked and principal.role is Role.CLIENT:
        return "The worker has not picked this up yet; your agency has to look at it."
    return progress.sentence


def words_of_test(result: str) -> Words:
    """The stored result of a test of the token, for people."""
    match result:
        case "ok":
            return Words(
                "Accepted", "good", "Clarity accepts the token; its answer was kept, not wasted."
            )
        case "auth_failed":
            return Words("Refused", "bad", "Clarity refused the token.", advice_for(result))
        case "rate_limited":
            return Words(
                "Quota spent, token not judged",
                "warn",
                "Clarity says that today's calls are used up, so the token could not be judged.",
                "Test again after 00:00 UTC.",
            )
        case _:
            return Words(
                "Not judged",
                "warn",
                "The call failed for another reason, so the token could not be judged.",
                advice_for(result),
            )
