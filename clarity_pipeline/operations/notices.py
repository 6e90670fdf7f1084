"""Noticing what has changed, and sending it: facts of the store in, an outbox row per change.

Whoever runs this, and how often, makes no difference: a change is written once, and sent by one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from time import monotonic
from typing import Final, Protocol

from clarity_pipeline.domain import notices as rules
from clarity_pipeline.domain.connections import ConnectionState
from clarity_pipeline.domain.day_checks import DayCheck
from clarity_pipeline.domain.days import day_collected_at, due_at
from clarity_pipeline.domain.notices import (
    ConnectionStanding,
    FinishedRun,
    Notice,
    Severity,
)
from clarity_pipeline.operations.connection_status import (
    ConnectionStatus,
    connection_statuses,
)
from clarity_pipeline.store import notices as outbox
from clarity_pipeline.store.database import Database

logger = logging.getLogger(__name__)

MOST_SECONDS_OF_SENDING: Final = 20.0
"""A sensor tick may take 60 s; what is left over is sent by the next one."""


class Sender(Protocol):
    """Addresses, counted from 1, that a message is sent to."""

    def __len__(self) -> int: ...

    def send(self, *, title: str, body: str, severity: Severity) -> frozenset[int]:
        """The positions that did not accept it."""
        ...


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one round of sending came to; `failed` are to be tried again."""

    sent: int
    failed: int


def record_connection_notices(
    database: Database, *, overview_default: bool, now: datetime
) -> list[Notice]:
    """Write down what has changed about connections; returns what was news."""
    statuses = connection_statuses(database, now=now, overview_default=overview_default)
    standings = [_standing(status) for status in statuses]
    return _record(database, rules.connection_notices(standings, now=now), now=now)


def record_run_notices(
    database: Database,
    *,
    job: str,
    runs: Collection[FinishedRun],
    explain: Callable[[str], str],
    now: datetime,
) -> list[Notice]:
    """Write down whether a job's latest runs have begun to fail, or to work again.

    `explain` says what went wrong in a run, by its id, without quoting a secret.
    """
    return _record(database, rules.run_notices(job, runs, explain=explain), now=now)


def record_check_notice(
    database: Database, *, name: str, found: DayCheck, is_error: bool, day: date, now: datetime
) -> list[Notice]:
    """Write down that a check of yesterday has begun to fail, or passes again."""
    notice = rules.check_notice(
        name, passed=found.passed, is_error=is_error, sentence=found.sentence, day=day, now=now
    )
    return _record(database, [notice] if notice else [], now=now)


def record_missing_days_notice(
    database: Database, *, name: str, found: DayCheck, now: datetime
) -> list[Notice]:
    """Write down that days have begun to be missing from the history, or no longer are.

    That a day is late and that it is lost are two things to know: this is told whatever notices
    about connections have said before.
    """
    notice = rules.history_check_notice(name, passed=found.passed, sentence=found.sentence)
    return _record(database, [notice], now=now)


def record_latest_day_notice(
    database: Database, *, name: str, found: DayCheck, overview_default: bool, now: datetime
) -> list[Notice]:
    """Write down that the latest day has not arrived, or has, unless connections have said so.

    They are asked first, so that it makes no difference who looks first. Before yesterday is due
    the check is about the day before, of which all has been said.
    """
    if now < due_at(day_collected_at(now)):
        return []
    told: list[Notice] = []
    if not found.passed:
        told = record_connection_notices(database, overview_default=overview_default, now=now)
    notice = rules.history_check_notice(
        name,
        passed=found.passed,
        sentence=found.sentence,
        has_been_told=rules.connections_have_told(
            found.business_ids, outbox.latest_notices(database)
        ),
    )
    return [*told, *_record(database, [notice], now=now)]


def deliver_pending(database: Database, sender: Sender, *, now: datetime) -> Delivered:
    """Send what is due, oldest first, to every address.

    A notice is claimed before it is sent: two processes never send the same one, none is lost,
    and a crash between sending and writing that down sends at most that one again. It counts as
    sent once any address has accepted it, because sending it again would repeat it there; which
    did not is kept. When none accepts it, the round ends: the next would fare no better.
    Without addresses everything stays where it is.
    """
    sent = failed = 0
    stop_at = monotonic() + MOST_SECONDS_OF_SENDING
    while len(sender) and not failed and monotonic() < stop_at:
        notice = outbox.claim_next(database, now=now)
        if notice is None:
            break
        refused = sender.send(title=notice.title, body=notice.body, severity=notice.severity)
        was_accepted = len(refused) < len(sender)
        error = rules.refused_by(refused, addresses=len(sender))
        outbox.settle(database, notice.id, sent_at=now if was_accepted else None, error=error)
        if error is not None:
            logger.warning("notice %d about %s: %s", notice.id, notice.subject, error)
        sent += was_accepted
        failed += not was_accepted
    return Delivered(sent, failed)


def _record(database: Database, wanted: Sequence[Notice], *, now: datetime) -> list[Notice]:
    news = outbox.record(database, wanted, now=now)
    for notice in news:
        logger.info("notice: %s is now %s", notice.subject, notice.state)
    return news


def _standing(status: ConnectionStatus) -> ConnectionStanding:
    record, job = status.record, status.last_job
    test_passed_at = record.last_tested_at if record.last_test_result == "ok" else None
    test_failed_at = _failed_test_at(status)
    reason = job.error_message if job else None
    if record.disabled_reason:
        reason = record.disabled_reason
    elif test_failed_at is not None:
        reason = (
            f"The test of {test_failed_at:%Y-%m-%d %H:%M} UTC found: {record.last_test_result}."
        )
    return ConnectionStanding(
        business_id=record.business_id,
        name=record.name,
        project_id=record.project_id,
        state=status.state,
        is_enabled=record.is_enabled,
        is_expected=status.is_expected,
        disabled_at=record.disabled_at,
        day=status.yesterday,
        landed=status.landed,
        due=status.due,
        job=job.status if job else None,
        job_day=job.day if job else None,
        error_code=job.error_code if job else None,
        reason=reason,
        attempted_at=job.started_at if job else None,
        worked_at=max(filter(None, (record.last_synced_at, test_passed_at)), default=None),
        test_failed_at=test_failed_at,
        token_expires_at=record.token_expires_at,
        calls_come_back_at=status.quota.resets_at if status.quota else None,
    )


def _failed_test_at(status: ConnectionStatus) -> datetime | None:
    """When a test failed that is newer than the latest sync, and so is what people must know."""
    record, job = status.record, status.last_job
    if status.state is not ConnectionState.FAILING or record.last_tested_at is None:
        return None
    if record.last_test_result in {None, "ok", "rate_limited"}:
        return None
    if job is not None and record.last_tested_at <= (job.finished_at or job.started_at):
        return None
    return record.last_tested_at
