"""When refusals of a token are enough: answers are counted, of exactly the stored token."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarity_pipeline.domain.quota import CallOutcome
from clarity_pipeline.domain.token_refusals import (
    ACCEPTANCES,
    WRITTEN_WITHIN,
    TokenAnswer,
    cursor_after,
    looked_until,
    reason_for_switching_off,
    refusals_in_a_row,
)

NOW = datetime(2026, 11, 2, 0, 15, tzinfo=UTC)
REFUSED = CallOutcome.AUTH_FAILED
SILENT = sorted(set(CallOutcome) - ACCEPTANCES - {REFUSED})


def answers(*newest_first: CallOutcome, token: str | None = "stored") -> list[TokenAnswer]:
    return [
        TokenAnswer(token, NOW - timedelta(minutes=age), NOW - timedelta(minutes=age), outcome)
        for age, outcome in enumerate(newest_first)
    ]


def count(calls: list[TokenAnswer], *, trusted_since: datetime | None = None) -> int:
    return refusals_in_a_row(calls, fingerprint="stored", trusted_since=trusted_since).count


def test_every_refusal_of_one_run_counts() -> None:
    assert count(answers(REFUSED, REFUSED, REFUSED, REFUSED)) == 4


@pytest.mark.parametrize("outcome", sorted(ACCEPTANCES))
def test_an_answer_that_only_an_accepted_token_gets_ends_the_row(outcome: CallOutcome) -> None:
    assert count(answers(REFUSED, outcome, REFUSED)) == 1


@pytest.mark.parametrize("outcome", SILENT)
def test_what_says_nothing_of_the_token_neither_counts_nor_ends_the_row(
    outcome: CallOutcome,
) -> None:
    assert count(answers(outcome, REFUSED, outcome, REFUSED)) == 2
    assert count(answers(outcome, outcome)) == 0


@pytest.mark.parametrize("token", ["another", None])
def test_only_answers_to_exactly_the_stored_token_count(token: str | None) -> None:
    assert count(answers(REFUSED, token=token)) == 0
    accepted_another = answers(CallOutcome.LANDED, token=token)
    assert count([*accepted_another, *answers(REFUSED)]) == 1


def test_calls_sent_before_a_person_vouched_for_the_token_do_not_count() -> None:
    calls = answers(REFUSED, REFUSED, REFUSED)
    assert count(calls, trusted_since=NOW - timedelta(minutes=1)) == 2
    assert count(calls, trusted_since=NOW + timedelta(seconds=1)) == 0
    sent_before = TokenAnswer("stored", NOW - timedelta(hours=1), NOW, REFUSED)
    assert count([sent_before], trusted_since=NOW - timedelta(minutes=1)) == 0


def test_the_newest_refusal_is_the_one_that_is_dated() -> None:
    found = refusals_in_a_row(
        answers(CallOutcome.TIMED_OUT, REFUSED, REFUSED), fingerprint="stored", trusted_since=None
    )
    assert found.latest_at == NOW - timedelta(minutes=1)


@given(st.lists(st.sampled_from(sorted(CallOutcome)), max_size=30))
def test_the_count_is_that_of_the_refusals_before_the_first_acceptance(
    outcomes: list[CallOutcome],
) -> None:
    row = outcomes
    for position, outcome in enumerate(outcomes):
        if outcome in ACCEPTANCES:
            row = outcomes[:position]
            break
    assert count(answers(*outcomes)) == row.count(REFUSED)


def test_the_reason_says_when_what_and_what_to_do() -> None:
    said = reason_for_switching_off(NOW, answer="Clarity refused the token (HTTP 401, no text).")
    assert said == "On 2026-11-02: Clarity refused the token (HTTP 401, no text)."
    assert "generate a new one in Clarity, Settings, Data Export" in reason_for_switching_off(
        NOW, answer=None
    )


def test_a_cursor_stays_behind_what_may_still_be_written_and_is_read_back() -> None:
    assert looked_until(None) is None
    assert looked_until(cursor_after(NOW)) == NOW - WRITTEN_WITHIN
    assert timedelta(minutes=5) < WRITTEN_WITHIN
