"""Refused tokens: who is switched off, by whom, and who never is. On both databases."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from clarity_pipeline.domain.connections import DisabledBy, parse_token
from clarity_pipeline.domain.days import day_collected_at
from clarity_pipeline.domain.errors import SyncDisabled
from clarity_pipeline.domain.quota import CallOutcome, Purpose
from clarity_pipeline.operations.collect_day import check_can_sync
from clarity_pipeline.operations.token_refusals import RefusalSweep, sweep_refusals
from clarity_pipeline.store import call_history, connections, quota_ledger
from clarity_pipeline.store.connections import ConnectionRecord
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.quota_ledger import Reservation
from clarity_pipeline.store.vault import TokenVault
from clarity_pipeline_tests.factories import DAY, NOW, connect_business, make_token

SOON = NOW + timedelta(minutes=1)
LATER = NOW + timedelta(hours=1)


def acme(database: Database) -> ConnectionRecord:
    return connections.get_connection(database, "acme")


def call(
    database: Database,
    *outcomes: CallOutcome,
    at: datetime = SOON,
    token: str | None = None,
    business_id: str = "acme",
) -> None:
    """Calls that were made with a token, the stored one unless told otherwise."""
    record = connections.get_connection(database, business_id)
    fingerprint = parse_token(token, now=NOW).fingerprint if token else record.token_fingerprint
    assert record.project_id is not None
    for outcome in outcomes:
        reservation = quota_ledger.reserve(
            database,
            project_id=record.project_id,
            business_id=business_id,
            day=day_collected_at(at),
            purpose=Purpose.SCHEDULE,
            dimension_set="Device,URL",
            may_use_share=True,
            now=at,
            token_fingerprint=fingerprint,
        )
        assert isinstance(reservation, Reservation)
        quota_ledger.settle(database, reservation, outcome=outcome, now=at)


def sweep(
    database: Database, *, cursor: str | None = None, after: int = 1, now: datetime = LATER
) -> RefusalSweep:
    return sweep_refusals(database, cursor=cursor, auth_failures_before_disable=after, now=now)


@pytest.fixture
def connected(database: Database, vault: TokenVault) -> Database:
    connect_business(database, vault)
    return database


def test_a_refused_token_is_switched_off_with_who_why_and_when(connected: Database) -> None:
    call(connected, CallOutcome.AUTH_FAILED)
    assert sweep(connected).switched_off == ("acme",)
    record = acme(connected)
    assert (record.disabled_by, record.disabled_at) == (DisabledBy.AUTH_FAILURE, LATER)
    assert record.disabled_reason is not None
    assert record.disabled_reason.startswith("On 2026-11-02: Clarity refused the token")
    with pytest.raises(SyncDisabled, match=r"generate a new one in Clarity.*clarity enable acme"):
        check_can_sync(record, day=DAY)


def test_as_many_refusals_in_a_row_are_needed_as_are_set(connected: Database) -> None:
    call(connected, CallOutcome.AUTH_FAILED, CallOutcome.TIMED_OUT, CallOutcome.AUTH_FAILED)
    assert sweep(connected, after=3).switched_off == ()
    call(connected, CallOutcome.AUTH_FAILED)
    assert sweep(connected, after=3).switched_off == ("acme",)


def test_an_acceptance_between_refusals_starts_the_count_anew(connected: Database) -> None:
    call(connected, CallOutcome.AUTH_FAILED)
    call(connected, CallOutcome.LANDED, at=SOON + timedelta(minutes=1))
    call(connected, CallOutcome.AUTH_FAILED, at=SOON + timedelta(minutes=2))
    assert sweep(connected, after=2).switched_off == ()


def test_a_token_that_was_accepted_since_its_refusal_is_not_switched_off(
    connected: Database,
) -> None:
    call(connected, CallOutcome.AUTH_FAILED)
    call(connected, CallOutcome.LANDED, at=SOON + timedelta(minutes=1))
    assert sweep(connected).switched_off == ()


def test_a_token_pasted_in_the_meantime_is_never_switched_off(
    connected: Database, vault: TokenVault
) -> None:
    call(connected, CallOutcome.AUTH_FAILED)
    connect_business(connected, vault, token=make_token(sub="fresh"), now=SOON)
    assert sweep(connected).switched_off == ()
    # The old token's call may even be answered after the new one was pasted.
    call(connected, CallOutcome.AUTH_FAILED, at=LATER, token=make_token())
    assert sweep(connected, now=LATER + timedelta(minutes=1)).switched_off == ()
    assert acme(connected).is_enabled


def test_a_users_pause_is_not_taken_over(connected: Database) -> None:
    call(connected, CallOutcome.AUTH_FAILED)
    connections.set_enabled(connected, business_id="acme", enabled=False, now=SOON)
    assert sweep(connected).switched_off == ()
    assert acme(connected).disabled_by is DisabledBy.USER


def test_refusals_before_somebody_enabled_or_connected_again_do_not_count(
    connected: Database, vault: TokenVault
) -> None:
    call(connected, CallOutcome.AUTH_FAILED)
    first = sweep(connected)
    connections.set_enabled(connected, business_id="acme", enabled=True, now=LATER)
    assert sweep(connected, cursor=None).switched_off == ()
    assert sweep(connected, cursor=first.cursor).switched_off == ()
    call(connected, CallOutcome.AUTH_FAILED, at=LATER)
    assert sweep(connected, now=LATER + timedelta(minutes=1)).switched_off == ("acme",)
    connect_business(connected, vault, now=LATER + timedelta(minutes=2))
    assert acme(connected).is_enabled
    assert sweep(connected, now=LATER + timedelta(minutes=3)).switched_off == ()


def test_a_sweep_acts_once_and_the_next_goes_on_where_it_ended(
    connected: Database, vault: TokenVault
) -> None:
    connect_business(connected, vault, business_id="bolt", project_id="bolt123456")
    call(connected, CallOutcome.AUTH_FAILED)
    first = sweep(connected)
    assert sweep(connected, cursor=first.cursor).switched_off == ()
    assert acme(connected).disabled_at == LATER
    call(connected, CallOutcome.AUTH_FAILED, at=LATER, business_id="bolt")
    assert sweep(connected, cursor=first.cursor, now=LATER).switched_off == ("bolt",)


def test_only_what_was_refused_since_is_looked_at(connected: Database) -> None:
    call(connected, CallOutcome.AUTH_FAILED)
    refused_since = call_history.businesses_refused_since
    assert refused_since(connected, None) == ["acme"]
    assert refused_since(connected, SOON) == ["acme"]
    assert refused_since(connected, SOON + timedelta(microseconds=1)) == []


def test_a_call_that_was_settled_after_midnight_is_found(connected: Database) -> None:
    before_midnight = NOW.replace(hour=23, minute=59)
    record = acme(connected)
    assert record.project_id is not None
    reservation = quota_ledger.reserve(
        connected,
        project_id=record.project_id,
        business_id="acme",
        day=day_collected_at(before_midnight),
        purpose=Purpose.SCHEDULE,
        dimension_set="Device,URL",
        may_use_share=True,
        now=before_midnight,
        token_fingerprint=record.token_fingerprint,
    )
    assert isinstance(reservation, Reservation)
    settled_at = before_midnight + timedelta(minutes=2)
    quota_ledger.settle(connected, reservation, outcome=CallOutcome.AUTH_FAILED, now=settled_at)
    assert call_history.businesses_refused_since(connected, settled_at) == ["acme"]


def test_calls_of_another_business_on_the_same_token_are_its_own(
    connected: Database, vault: TokenVault
) -> None:
    connect_business(connected, vault, business_id="bolt")
    call(connected, CallOutcome.AUTH_FAILED, business_id="bolt")
    assert sweep(connected).switched_off == ("bolt",)


def test_disconnected_businesses_are_left_alone(connected: Database) -> None:
    call(connected, CallOutcome.AUTH_FAILED)
    connections.disconnect(connected, business_id="acme", now=SOON)
    assert sweep(connected).switched_off == ()
