"""The one word that says how a connection stands."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from clarity_pipeline.domain.connections import (
    ConnectionFacts,
    ConnectionState,
    DisabledBy,
    connection_state,
)
from clarity_pipeline.domain.sync_jobs import JobStatus

SYNCED_AT = datetime(2026, 3, 2, 0, 15, tzinfo=UTC)
LATER = SYNCED_AT + timedelta(hours=9)
EARLIER = SYNCED_AT - timedelta(days=2)

COLLECTED = ConnectionFacts(
    is_connected=True,
    disabled_by=None,
    is_rate_limited_today=False,
    last_tested_at=None,
    last_test_result=None,
    last_synced_at=SYNCED_AT,
    yesterdays_job=JobStatus.SUCCEEDED,
    yesterdays_job_at=SYNCED_AT,
    yesterdays_rebuild_failed=False,
    yesterday_is_complete=True,
    is_expected=True,
)

UNTRIED = replace(
    COLLECTED,
    last_synced_at=None,
    yesterdays_job=None,
    yesterdays_job_at=None,
    yesterday_is_complete=False,
    is_expected=False,
)

INCOMPLETE = replace(COLLECTED, yesterday_is_complete=False)


TABLE: list[tuple[ConnectionFacts, str]] = [
    (replace(UNTRIED, is_connected=False), "not_connected"),
    (replace(COLLECTED, disabled_by=DisabledBy.USER), "paused"),
    (replace(COLLECTED, disabled_by=DisabledBy.AUTH_FAILURE), "disabled_auth"),
    (UNTRIED, "never_tested"),
    (COLLECTED, "connected"),
    # The calls are used up, but everything came in: nobody has to do anything.
    (replace(COLLECTED, is_rate_limited_today=True), "connected"),
    (replace(INCOMPLETE, is_rate_limited_today=True), "rate_limited_today"),
    (replace(INCOMPLETE, yesterdays_job=JobStatus.AUTH_FAILED), "failing"),
    (replace(INCOMPLETE, yesterdays_job=JobStatus.FAILED), "failing"),
    (replace(INCOMPLETE, yesterdays_job=JobStatus.PARTIAL), "partial"),
    (replace(INCOMPLETE, yesterdays_job=JobStatus.RUNNING), "connected"),
    (replace(INCOMPLETE, yesterdays_job=None, yesterdays_job_at=None), "late"),
    (
        replace(INCOMPLETE, yesterdays_job=None, yesterdays_job_at=None, is_expected=False),
        "connected",
    ),
    # A good test after a failed sync: the token has been mended, the day is still missing.
    (
        replace(
            INCOMPLETE,
            yesterdays_job=JobStatus.AUTH_FAILED,
            last_tested_at=LATER,
            last_test_result="ok",
        ),
        "late",
    ),
    (
        replace(
            INCOMPLETE,
            yesterdays_job=JobStatus.FAILED,
            last_tested_at=EARLIER,
            last_test_result="ok",
        ),
        "failing",
    ),
    # Everything has landed, and its numbers are not there all the same.
    (replace(COLLECTED, yesterdays_rebuild_failed=True), "failing"),
    (replace(COLLECTED, yesterdays_rebuild_failed=True, is_rate_limited_today=True), "failing"),
    (
        replace(COLLECTED, yesterdays_rebuild_failed=True, disabled_by=DisabledBy.USER),
        "paused",
    ),
    # A bad test after a good sync: tomorrow's will fail.
    (replace(COLLECTED, last_tested_at=LATER, last_test_result="auth_failed"), "failing"),
    (replace(COLLECTED, last_tested_at=EARLIER, last_test_result="auth_failed"), "connected"),
    (replace(COLLECTED, last_tested_at=LATER, last_test_result="rate_limited"), "connected"),
    (replace(UNTRIED, last_tested_at=LATER, last_test_result="ok"), "connected"),
    (replace(UNTRIED, last_tested_at=LATER, last_test_result="auth_failed"), "failing"),
]


@pytest.mark.parametrize(("facts", "state"), TABLE)
def test_a_connection_is_called_by_what_is_most_worth_knowing(
    facts: ConnectionFacts, state: str
) -> None:
    assert connection_state(facts) is ConnectionState(state)


def test_every_state_can_be_reached() -> None:
    assert {state for _, state in TABLE} == {state.value for state in ConnectionState}
