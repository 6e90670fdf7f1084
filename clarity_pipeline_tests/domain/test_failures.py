"""The table of failures: every class has its row, and people read the same table."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from clarity_pipeline.domain.collection import PlannedCall, outcome_of_error
from clarity_pipeline.domain.dimensions import URL_DEVICE
from clarity_pipeline.domain.errors import (
    AuthenticationFailed,
    ClarityError,
    ConnectionBroken,
    ConnectTimedOut,
    DatabaseBusy,
    DimensionIgnored,
    ExportError,
    NetworkUnreachable,
    NoLongerCollectable,
    PermanentRefusal,
    QuotaRefused,
    RateLimited,
    ReplyTimedOut,
    ReplyUnreadable,
    RequestRejected,
    SecretKeyError,
    ServiceUnavailable,
    TransientFailure,
)
from clarity_pipeline.domain.exports import Verdict
from clarity_pipeline.domain.failures import (
    CONSEQUENCES,
    JOB_STATUS_WITHOUT_DATA,
    ComboStatus,
    call_outcome_of,
    consequence_of,
    may_use_share,
    rows_for_people,
    verdict_of,
)
from clarity_pipeline.domain.quota import CallOutcome, Purpose

DAY = date(2026, 11, 22)
CALL = PlannedCall("acme", "abc123", DAY, URL_DEVICE, Purpose.MANUAL)
MIDNIGHT = datetime(2026, 11, 23, tzinfo=UTC)
README = Path(__file__).parents[2] / "README.md"


def subclasses_of(cls: type[ClarityError]) -> Iterator[type[ClarityError]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from subclasses_of(subclass)


def test_every_class_of_failed_call_has_a_row_of_its_own() -> None:
    """The three that are only there to be caught are never raised."""
    without = {cls for cls in subclasses_of(ExportError) if cls not in CONSEQUENCES}
    assert without == {PermanentRefusal, TransientFailure}


ERRORS: list[tuple[ExportError, CallOutcome, Verdict | None, ComboStatus]] = [
    (AuthenticationFailed("x"), CallOutcome.AUTH_FAILED, None, ComboStatus.AUTH_FAILED),
    (RateLimited("x"), CallOutcome.RATE_LIMITED, None, ComboStatus.RATE_LIMITED),
    (
        RequestRejected("x"),
        CallOutcome.REQUEST_REJECTED,
        Verdict.REQUEST_REJECTED,
        ComboStatus.REFUSED,
    ),
    (
        ReplyUnreadable("x"),
        CallOutcome.REPLY_UNREADABLE,
        Verdict.REPLY_UNREADABLE,
        ComboStatus.REFUSED,
    ),
    (
        DimensionIgnored("x"),
        CallOutcome.DIMENSION_IGNORED,
        Verdict.DIMENSION_IGNORED,
        ComboStatus.REFUSED,
    ),
    (ServiceUnavailable("x"), CallOutcome.SERVICE_UNAVAILABLE, None, ComboStatus.UNAVAILABLE),
    (ConnectTimedOut("x"), CallOutcome.TIMED_OUT, None, ComboStatus.UNAVAILABLE),
    (ReplyTimedOut("x"), CallOutcome.TIMED_OUT, None, ComboStatus.UNAVAILABLE),
    (ConnectionBroken("x"), CallOutcome.CONNECTION_BROKEN, None, ComboStatus.UNAVAILABLE),
]


@pytest.mark.parametrize(("error", "ledger", "verdict", "status"), ERRORS)
def test_each_class_of_error_has_one_consequence(
    error: ExportError, ledger: CallOutcome, verdict: Verdict | None, status: ComboStatus
) -> None:
    assert call_outcome_of(error) is ledger
    assert verdict_of(error) is verdict
    assert outcome_of_error(CALL, error, calls=1).status is status


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (
            QuotaRefused("x", resets_at=MIDNIGHT),
            ComboStatus.QUOTA_REFUSED,
        ),
        (NetworkUnreachable(), ComboStatus.OWN_FAULT),
        (SecretKeyError("x"), ComboStatus.OWN_FAULT),
        (DatabaseBusy("x"), ComboStatus.OWN_FAULT),
        (NoLongerCollectable(DAY), ComboStatus.GAP),
    ],
)
def test_what_never_reached_clarity_is_told_apart(error: ClarityError, status: ComboStatus) -> None:
    outcome = outcome_of_error(CALL, error, calls=0)
    assert (outcome.status, outcome.calls, outcome.message) == (status, 0, str(error))


@pytest.mark.parametrize("error", [cls for cls in CONSEQUENCES if issubclass(cls, ExportError)])
def test_only_a_transient_failure_is_tried_again_once_and_never_for_a_test(
    error: type[ExportError],
) -> None:
    expected = dict.fromkeys(Purpose, 2 if issubclass(error, TransientFailure) else 1)
    assert consequence_of(error("x")).attempts == expected | {Purpose.TEST: 1}


def test_the_share_of_the_schedule_is_for_its_first_attempts() -> None:
    assert may_use_share(Purpose.SCHEDULE, retry_of=None)
    assert not may_use_share(Purpose.MANUAL, retry_of=None)
    for cls in subclasses_of(TransientFailure):
        assert not may_use_share(Purpose.SCHEDULE, retry_of=cls("x"))


def test_a_failure_of_another_class_than_expected_is_our_own_fault_and_tried_once() -> None:
    found = consequence_of(ClarityError("x"))
    assert (found.status, found.attempts[Purpose.SCHEDULE]) == (ComboStatus.OWN_FAULT, 1)


def test_every_status_without_data_has_a_job_status() -> None:
    without_data = {status for status in ComboStatus if not status.has_data}
    assert set(JOB_STATUS_WITHOUT_DATA) == without_data
    assert {row.status for row in CONSEQUENCES.values()} == without_data


def test_what_the_readme_says_of_failures_is_what_the_table_says() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    start = lines.index("| Clarity says | what happens | tried again |") + 2
    printed = lines[start : lines.index("", start)]
    table = [f"| {' | '.join(row)} |" for row in rows_for_people()]
    assert printed == table


def test_a_class_without_a_row_has_that_of_its_nearest_base() -> None:
    class RefusedForSomethingNew(AuthenticationFailed):
        code = "refused_for_something_new"

    error = RefusedForSomethingNew("Clarity refused the token.")
    assert consequence_of(error) is CONSEQUENCES[AuthenticationFailed]
