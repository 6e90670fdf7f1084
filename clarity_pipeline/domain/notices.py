"""Notices: what people are told when something that has a state goes wrong, and when it is well.

A subject is whatever has a state: `connection:acme`, `token:acme`, `run:clarity_daily_sync`,
`check:window_alignment`, `clarity:reachable`, `evaluation:A rule`. Each change of its state is one
notice. Everything here is derived from stored facts, so that it does not matter which process
notices first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol, TypeVar

from clarity_pipeline.domain.connections import (
    ConnectionState,
    token_has_expired,
    token_needs_renewal,
)
from clarity_pipeline.domain.days import day_collected_at
from clarity_pipeline.domain.sync_jobs import JobStatus

OK: Final = "ok"
"""The state of a subject with which nothing is wrong."""

STALE_AFTER: Final = timedelta(hours=24)
"""A notice this old that was never tried is no longer news: it is kept, not sent."""

GIVE_UP_AFTER: Final = timedelta(days=3)
"""Until then an address that does not accept a notice is tried again."""

FIRST_RETRY_AFTER: Final = timedelta(minutes=5)
"""Longer than any sending takes: a claim this old belongs to a process that has died."""

LONGEST_RETRY_AFTER: Final = timedelta(hours=6)

MOST_TITLE_CHARACTERS: Final = 150
MOST_SENTENCE_CHARACTERS: Final = 400

FEWEST_FOR_ONE_REASON: Final = 2
"""This many businesses that fail alike, and no other, fail for a reason that is not theirs."""


class Severity(StrEnum):
    """How loud a notice is; `silent` ends a trouble without a message."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    RECOVERY = "recovery"
    SILENT = "silent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """How a subject stands, and how to say so: a title of one line, a body of a few sentences.

    `since` is the instant from which the facts speak, where they say one. A trouble that began
    after the last notice of the same state is a new trouble; that all is well is believed only
    when the proof of it is younger than the trouble.
    """

    subject: str
    state: str
    severity: Severity
    title: str
    body: str
    since: datetime | None = None


class TellsState(Protocol):
    """The newest notice of a subject, as far as the next one depends on it."""

    @property
    def state(self) -> str: ...
    @property
    def severity(self) -> Severity: ...
    @property
    def created_at(self) -> datetime: ...


def is_news(notice: Notice, latest: TellsState | None) -> bool:
    """Whether a notice is worth writing after the newest one of its subject.

    A subject that starts out well, or comes back from a pause, is no news. A person's hand ends a
    trouble in silence; being well again ends it with a recovery notice.
    """
    was_well = latest is None or _is_well(latest)
    is_well = notice.state == OK or notice.severity is Severity.SILENT
    began_later = latest is None or notice.since is None or notice.since > latest.created_at
    if is_well:
        return not was_well and began_later
    if latest is None or latest.state != notice.state:
        return True
    return notice.since is not None and began_later


def _is_well(latest: TellsState) -> bool:
    return latest.state == OK or latest.severity is Severity.SILENT


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionStanding:
    """What notices about one business are made of; `day` is the latest UTC day that is over.

    `is_expected` says whether the schedule owed us the day by now. `job` and `job_day` are its
    latest sync, `attempted_at` when that began. `worked_at` is the last instant at which Clarity
    demonstrably answered: data stored, or a test passed.
    """

    business_id: str
    name: str
    project_id: str | None
    state: ConnectionState
    is_enabled: bool
    is_expected: bool
    disabled_at: datetime | None
    day: date
    landed: int
    due: int
    job: JobStatus | None
    job_day: date | None
    error_code: str | None
    reason: str | None
    attempted_at: datetime | None
    worked_at: datetime | None
    test_failed_at: datetime | None
    token_expires_at: datetime | None
    calls_come_back_at: datetime | None

    @property
    def is_late(self) -> bool:
        """Whether the day is missing past its hour; a business nobody has ever tried is, too."""
        return self.state is ConnectionState.LATE or (
            self.state is ConnectionState.NEVER_TESTED and self.is_expected
        )

    @property
    def was_attempted(self) -> bool:
        """Whether the day has been tried and that try is over."""
        return (
            self.is_enabled
            and self.job_day == self.day
            and self.job not in {None, JobStatus.RUNNING, JobStatus.SKIPPED}
        )


class _CommonReason(StrEnum):
    """Why every business fails at once."""

    NETWORK = "unreachable"
    DATABASE = "database"
    ANSWERS = "refused"
    REBUILD = "not_rebuilt"


_COMMON_REASONS: Final = {
    "transient": _CommonReason.NETWORK,
    "service_unavailable": _CommonReason.NETWORK,
    "network": _CommonReason.NETWORK,
    "timed_out": _CommonReason.NETWORK,
    "connection_broken": _CommonReason.NETWORK,
    "store": _CommonReason.DATABASE,
    "database_unreachable": _CommonReason.DATABASE,
    "database_busy": _CommonReason.DATABASE,
    "database_read_only": _CommonReason.DATABASE,
    "database_full": _CommonReason.DATABASE,
    "request_rejected": _CommonReason.ANSWERS,
    "reply_unreadable": _CommonReason.ANSWERS,
    "dimension_ignored": _CommonReason.ANSWERS,
    "rebuild_failed": _CommonReason.REBUILD,
    "replay_failed": _CommonReason.REBUILD,
}
"""Codes of errors that can strike everybody together; a refused token is each business's own."""

_COMMON_TITLES: Final = {
    _CommonReason.NETWORK: "Clarity cannot be reached",
    _CommonReason.DATABASE: "Our database fails",
    _CommonReason.ANSWERS: "Clarity answers no business as expected",
    _CommonReason.REBUILD: "What has landed cannot be made into numbers",
}
_COMMON_ADVICE: Final = {
    _CommonReason.NETWORK: "Check the network of this machine and Clarity's service status",
    _CommonReason.DATABASE: "Check the database and its disk",
    _CommonReason.ANSWERS: "Clarity may have changed its API; the replies are kept as landed",
    _CommonReason.REBUILD: "Every reply is kept: mend that",
}


_ATTEMPTED: Final = "clarity:attempted"
_REACHABLE: Final = "clarity:reachable"
_ABOUT_EVERYBODY: Final = (_ATTEMPTED, _REACHABLE)


def connection_notices(standings: Sequence[ConnectionStanding], *, now: datetime) -> list[Notice]:
    """How all businesses stand; one notice for all where they fail for a reason not their own."""
    common = _common_trouble(standings)
    notices = [*_common_notices(standings, common)]
    for standing in standings:
        notices.append(_token_notice(standing, now=now))
        if standing.business_id in common.business_ids:
            continue
        notice = _connection_notice(standing)
        if notice is not None:
            notices.append(notice)
    return notices


@dataclass(frozen=True, slots=True, kw_only=True)
class _CommonTrouble:
    """What is told once for these businesses: a reason they share, or that nobody was tried."""

    reason: _CommonReason | None = None
    is_missed: bool = False
    business_ids: frozenset[str] = frozenset()


def _common_trouble(standings: Sequence[ConnectionStanding]) -> _CommonTrouble:
    attempted = [standing for standing in standings if standing.was_attempted]
    late = [standing for standing in standings if standing.is_late]
    if not attempted and len(late) >= FEWEST_FOR_ONE_REASON:
        return _CommonTrouble(
            is_missed=True, business_ids=frozenset(each.business_id for each in late)
        )
    reasons = {
        _COMMON_REASONS.get(each.error_code or "") if each.job is JobStatus.FAILED else None
        for each in attempted
    }
    if len(attempted) >= FEWEST_FOR_ONE_REASON and len(reasons) == 1:
        [reason] = reasons
        if reason is not None:
            return _CommonTrouble(
                reason=reason, business_ids=frozenset(each.business_id for each in attempted)
            )
    return _CommonTrouble()


def _common_notices(
    standings: Sequence[ConnectionStanding], common: _CommonTrouble
) -> list[Notice]:
    attempted = [standing for standing in standings if standing.was_attempted]
    notices: list[Notice] = []
    if common.is_missed:
        day = standings[0].day
        notices.append(
            Notice(
                subject=_ATTEMPTED,
                state="not_attempted",
                severity=Severity.ERROR,
                title=f"The sync of {day} did not run for any business",
                body=(
                    f"None of {len(common.business_ids)} businesses was tried, and Clarity answers "
                    f"for {day} until midnight UTC only. See that dagster-daemon is running and "
                    "clarity_scheduler is on, then run `clarity sync`."
                ),
            )
        )
    elif attempted:
        notices.append(_well(_ATTEMPTED, "The sync runs again", f"{attempted[0].day} was tried."))
    if common.reason is not None:
        first = next(each for each in attempted if each.business_id in common.business_ids)
        notices.append(
            Notice(
                subject=_REACHABLE,
                state=common.reason.value,
                severity=Severity.ERROR,
                title=f"{_COMMON_TITLES[common.reason]}: no business got {first.day}",
                body=(
                    f"All {len(attempted)} businesses that were tried failed alike. "
                    f"{_sentence(first.reason)} {_COMMON_ADVICE[common.reason]}, then run "
                    "`clarity sync`."
                ),
            )
        )
    elif any(each.job in {JobStatus.SUCCEEDED, JobStatus.PARTIAL} for each in attempted):
        notices.append(
            _well(_REACHABLE, "Clarity answers again", f"{attempted[0].day} is coming in.")
        )
    return notices


def _connection_subject(business_id: str) -> str:
    return f"connection:{business_id}"


def _connection_notice(standing: ConnectionStanding) -> Notice | None:
    """How one business stands; None where nothing can be said yet."""
    subject = _connection_subject(standing.business_id)
    match standing.state:
        case ConnectionState.NOT_CONNECTED | ConnectionState.PAUSED:
            return _silent(subject, standing.state.value)
        case ConnectionState.NEVER_TESTED if not standing.is_late:
            return None
        case ConnectionState.CONNECTED:
            is_whole = standing.landed >= standing.due
            # Just after midnight nothing is late yet: that alone is no recovery.
            if not is_whole and standing.worked_at is None:
                return None
            return _well(
                subject,
                f"{_line(standing.name)}: Clarity data are coming in again",
                f"{_parts(standing)} Nothing has to be done.",
                since=None if is_whole else standing.worked_at,
            )
        case _:
            severity, title, body = _trouble(standing)
            since = (
                standing.disabled_at if standing.state is ConnectionState.DISABLED_AUTH else None
            )
            return Notice(
                subject=subject,
                state=(ConnectionState.LATE if standing.is_late else standing.state).value,
                severity=severity,
                title=f"{_line(standing.name)}: {title}",
                body=_one_blank(body),
                since=since,
            )


def _trouble(standing: ConnectionStanding) -> tuple[Severity, str, str]:
    """Severity, title and body of what is wrong with a connection."""
    reason, day, business_id = _sentence(standing.reason), standing.day, standing.business_id
    match standing.state:
        case ConnectionState.DISABLED_AUTH:
            return (
                Severity.ERROR,
                "Clarity refused the token",
                f"{reason} The sync of this business is off until somebody generates a new token "
                f"in Clarity (Settings, Data Export) and connects it: {_connect(standing)}.",
            )
        case ConnectionState.FAILING:
            what = f"the sync of {day}" if standing.test_failed_at is None else "a connection test"
            return (
                Severity.ERROR,
                f"{what} failed",
                f"{reason} `clarity status {business_id}` shows how it stands.",
            )
        case ConnectionState.PARTIAL:
            return (
                Severity.WARNING,
                f"{day} is only partly there",
                f"{_parts(standing)} {reason} `clarity sync --business {business_id}` fetches only "
                "what is missing, until midnight UTC.",
            )
        case ConnectionState.RATE_LIMITED_TODAY:
            return (
                Severity.INFO,
                "no Clarity calls are left today",
                f"{_parts(standing)} {reason} Calls come back at "
                f"{_instant(standing.calls_come_back_at)}; the next sync runs as usual.",
            )
        case _:
            tried = (
                f"It was last tried at {_instant(standing.attempted_at)}."
                if standing.attempted_at
                else "No sync has ever tried it."
            )
            return (
                Severity.WARNING,
                f"{day} is missing",
                f"{tried} Clarity answers for {day} until midnight UTC: run "
                f"`clarity sync --business {business_id}`, and see that clarity_scheduler is on.",
            )


def _parts(standing: ConnectionStanding) -> str:
    return f"{standing.landed} of {standing.due} parts of {standing.day} have landed."


def _connect(standing: ConnectionStanding) -> str:
    return f"`clarity connect {standing.business_id} --project-id {standing.project_id}`"


def _token_notice(standing: ConnectionStanding, *, now: datetime) -> Notice:
    subject, who = f"token:{standing.business_id}", _line(standing.name)
    expires_at = standing.token_expires_at
    if not standing.is_enabled:
        return _silent(subject, "not_in_use")
    if expires_at is None or not token_needs_renewal(expires_at, now=now):
        until = f"It is valid until {_instant(expires_at)}." if expires_at else "It has no end."
        return _well(subject, f"{who}: the Clarity token has been renewed", until)
    is_over = token_has_expired(expires_at, now=now)
    return Notice(
        subject=subject,
        state="expired" if is_over else "expires_soon",
        severity=Severity.ERROR if is_over else Severity.WARNING,
        title=f"{who}: the Clarity token {'has expired' if is_over else 'expires within a week'}",
        body=(
            f"It {'ended' if is_over else 'ends'} at {_instant(expires_at)}. Generate a new one in "
            f"Clarity (Settings, Data Export) and connect it: {_connect(standing)}."
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRun:
    """A run that has succeeded or failed; `partition` is None for one without, or over several."""

    run_id: str
    partition: date | None
    spans_days: bool
    created_at: datetime
    ended_at: datetime
    succeeded: bool

    @property
    def is_about_the_past(self) -> bool:
        """Whether it replays a day that was over long before; its fate says nothing of today."""
        if self.spans_days:
            return True
        return self.partition is not None and self.partition < day_collected_at(self.created_at)


def run_notices(
    job: str, runs: Collection[FinishedRun], *, explain: Callable[[str], str]
) -> list[Notice]:
    """How a job stands by its latest runs.

    `explain` gives, for the id of a run that failed, a sentence of ours about what went wrong,
    never text that could quote a secret; it is asked about the newest failure only.

    The newest daily run alone decides about the job; a replay of a past day neither mends nor
    breaks today. Past days have a subject of their own, which is well when the latest run of each
    of them is: otherwise a backfill of many days would send a notice for every other run.
    """
    daily = [run for run in runs if not run.is_about_the_past]
    past = [run for run in runs if run.is_about_the_past]
    notices: list[Notice] = []
    if daily:
        newest = max(daily, key=lambda run: (run.partition or date.min, run.ended_at))
        notices.append(_run_notice(f"run:{job}", _job_name(job), [newest], explain))
    if past:
        latest = {run.partition: run for run in sorted(past, key=lambda run: run.ended_at)}
        notices.append(
            _run_notice(
                f"run:{job}:past_days",
                f"{_job_name(job)} over past days",
                [*latest.values()],
                explain,
            )
        )
    return notices


def _run_notice(
    subject: str, what: str, latest: Sequence[FinishedRun], explain: Callable[[str], str]
) -> Notice:
    failed = [run for run in latest if not run.succeeded]
    if not failed:
        return _well(subject, f"{what} works again", "Its latest run succeeded.")
    newest = max(failed, key=lambda run: run.ended_at)
    of_day = f" for {newest.partition}" if newest.partition else ""
    others = f" So did {len(failed) - 1} more." if len(failed) > 1 else ""
    return Notice(
        subject=subject,
        state="failed",
        severity=Severity.ERROR,
        title=f"{what} failed{of_day}"[:MOST_TITLE_CHARACTERS],
        body=_one_blank(
            f"{_sentence(explain(newest.run_id))}{others} Dagster has the details under run "
            f"{newest.run_id[:8]}."
        ),
    )


def check_notice(
    name: str, *, passed: bool, is_error: bool, sentence: str, day: date, now: datetime
) -> Notice | None:
    """What a check's verdict says about today; None for a past day, which says nothing."""
    if day != day_collected_at(now):
        return None
    subject, words = f"check:{name}", name.replace("_", " ")
    if passed:
        return _well(subject, f"Check passes again: {words}", _sentence(sentence))
    return Notice(
        subject=subject,
        state="failed",
        severity=Severity.ERROR if is_error else Severity.WARNING,
        title=f"Check failed for {day}: {words}"[:MOST_TITLE_CHARACTERS],
        body=f"{_sentence(sentence)} Dagster lists the businesses under this check.",
    )


def history_check_notice(
    name: str, *, passed: bool, sentence: str, has_been_told: bool = False
) -> Notice:
    """What the verdict of a check of the history says; nothing where that has been told."""
    subject, words = f"check:{name}", name.replace("_", " ")
    if passed:
        return _well(subject, f"Check passes again: {words}", _sentence(sentence))
    if has_been_told:
        return _silent(subject, "told_by_connections")
    return Notice(
        subject=subject,
        state="failed",
        severity=Severity.ERROR,
        title=f"Check failed: {words}"[:MOST_TITLE_CHARACTERS],
        body=f"{_sentence(sentence)} Dagster lists the businesses under this check.",
    )


def rule_notice(name: str, trouble: str | None) -> Notice:
    """Whether a rule in force can be evaluated; `trouble` says why not."""
    subject = f"evaluation:{name}"
    if trouble is None:
        return _well(
            subject,
            f"Rule {_line(name)!r} decides again",
            "It can be evaluated again; the days it has missed are not acted upon.",
        )
    return Notice(
        subject=subject,
        state="broken",
        severity=Severity.ERROR,
        title=f"Rule {_line(name)!r} cannot be evaluated"[:MOST_TITLE_CHARACTERS],
        body=(
            f"{_sentence(trouble)} It decides nothing until it is changed; all other rules go on. "
            "The list of rules in the panel shows it."
        ),
    )


def connections_have_told(business_ids: Collection[str], latest: Mapping[str, TellsState]) -> bool:
    """Whether each of these businesses is in trouble by the newest notice of its connection, or
    all are by one about everybody; `latest` are the newest notices by subject."""

    def is_in_trouble(subject: str) -> bool:
        return subject in latest and not _is_well(latest[subject])

    return any(map(is_in_trouble, _ABOUT_EVERYBODY)) or all(
        is_in_trouble(_connection_subject(business_id)) for business_id in business_ids
    )


class DeliveryState(StrEnum):
    """What has become of a notice."""

    SENT = "sent"
    NOT_SENT_YET = "not_sent_yet"
    GIVEN_UP = "given_up"
    SILENT = "silent"


class Deliverable(Protocol):
    """A stored notice, as far as sending it is concerned."""

    @property
    def subject(self) -> str: ...
    @property
    def severity(self) -> Severity: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def sent_at(self) -> datetime | None: ...
    @property
    def attempts(self) -> int: ...
    @property
    def last_attempt_at(self) -> datetime | None: ...


Stored = TypeVar("Stored", bound=Deliverable)


def delivery_state(notice: Deliverable, *, now: datetime) -> DeliveryState:
    """Whether a notice has gone out, still may, or will not."""
    if notice.sent_at is not None:
        return DeliveryState.SENT
    if notice.severity is Severity.SILENT:
        return DeliveryState.SILENT
    last = GIVE_UP_AFTER if notice.attempts else STALE_AFTER
    return DeliveryState.GIVEN_UP if now - notice.created_at > last else DeliveryState.NOT_SENT_YET


def due_notices(pending: Sequence[Stored], *, now: datetime) -> list[Stored]:
    """Which of the pending notices, oldest first, may be sent now.

    A notice waits for an older one of its subject: a recovery before its trouble would be read
    the wrong way round.
    """
    due: list[Stored] = []
    waiting: set[str] = set()
    for notice in pending:
        if delivery_state(notice, now=now) is not DeliveryState.NOT_SENT_YET:
            continue
        if notice.subject in waiting:
            continue
        waiting.add(notice.subject)
        if notice.last_attempt_at is None or now >= notice.last_attempt_at + retry_after(
            notice.attempts
        ):
            due.append(notice)
    return due


def retry_after(attempts: int) -> timedelta:
    """How long after the so-manieth attempt the next one is made: 5 min, doubled, at most 6 h."""
    return min(FIRST_RETRY_AFTER * 2 ** min(attempts - 1, 10), LONGEST_RETRY_AFTER)


def refused_by(refused: Collection[int], *, addresses: int) -> str | None:
    """What is kept of addresses, by position from 1, that did not accept a notice."""
    if not refused:
        return None
    which = ", ".join(str(position) for position in sorted(refused))
    return f"It was not accepted by {len(refused)} of {addresses} addresses (number {which})."


def first_sentence(text: str) -> str:
    """The first sentence of a message, on one line and not too long."""
    sentence = re.split(r"(?<=[.!?])\s+(?=[A-Z])", _one_blank(text), maxsplit=1)[0]
    return sentence[:MOST_SENTENCE_CHARACTERS]


def _sentence(text: str | None) -> str:
    if not text:
        return ""
    first = first_sentence(text)
    return first if first.endswith((".", "!", "?")) else f"{first}."


def _well(subject: str, title: str, body: str, *, since: datetime | None = None) -> Notice:
    return Notice(
        subject=subject,
        state=OK,
        severity=Severity.RECOVERY,
        title=title[:MOST_TITLE_CHARACTERS],
        body=body,
        since=since,
    )


def _silent(subject: str, state: str) -> Notice:
    return Notice(subject=subject, state=state, severity=Severity.SILENT, title="", body="")


def _job_name(job: str) -> str:
    return "Rebuilding assets" if job.startswith("__") else f"The run of {job}"


def _instant(value: datetime | None) -> str:
    return "an unknown time" if value is None else f"{value:%Y-%m-%d %H:%M} UTC"


def _line(text: str) -> str:
    """Names come from outside: on one line, without control characters."""
    return _one_blank("".join(char if char.isprintable() else " " for char in text))[:80]


def _one_blank(text: str) -> str:
    return " ".join(text.split())
