"""One call: what it spends, what it leaves behind, and that its errors stay values."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from clarity_pipeline.domain.collection import ComboOutcome, ComboStatus, PlannedCall
from clarity_pipeline.domain.dimensions import URL_DEVICE, URL_SOURCE, DimensionCombo
from clarity_pipeline.domain.quota import CallOutcome, Purpose
from clarity_pipeline.export_api.client import ExportApiClient, Timeouts
from clarity_pipeline.export_api.emulator import Fault
from clarity_pipeline.operations.guarded_call import GuardedCaller
from clarity_pipeline.store import exports, quota_ledger
from clarity_pipeline.store.quota_ledger import CallRecord
from clarity_pipeline.store.vault import TokenVault
from clarity_pipeline_tests.agency import DAY, Agency


def caller_of(agency: Agency, *, vault: TokenVault | None = None) -> GuardedCaller:
    return GuardedCaller(
        database=agency.database,
        vault=vault or agency.vault,
        client=ExportApiClient(
            base_url=agency.emulator.base_url, timeouts=Timeouts(read_seconds=0.5)
        ),
        clock=lambda: agency.now,
        overview_default=False,
        retry_after_seconds=0,
    )


def planned(
    agency: Agency,
    *,
    combo: DimensionCombo = URL_DEVICE,
    purpose: Purpose = Purpose.SCHEDULE,
) -> PlannedCall:
    return PlannedCall("acme", agency.projects["acme"].project_id, DAY, combo, purpose)


def make(caller: GuardedCaller, *calls: PlannedCall) -> list[ComboOutcome]:
    async def one_after_the_other() -> list[ComboOutcome]:
        async with caller.client:
            return [await caller.make(call) for call in calls]

    return asyncio.run(one_after_the_other())


def ledger(agency: Agency) -> list[CallRecord]:
    return quota_ledger.list_calls(
        agency.database,
        project_id=agency.projects["acme"].project_id,
        utc_day=agency.now.date(),
    )


def test_a_call_leaves_a_settled_slot_and_an_accepted_reply(agency: Agency) -> None:
    agency.connect("acme")
    (outcome,) = make(caller_of(agency), planned(agency))
    assert (outcome.status, outcome.calls) == (ComboStatus.LANDED, 1)
    (slot,) = ledger(agency)
    assert (slot.slot, slot.outcome, slot.purpose) == (1, CallOutcome.LANDED, Purpose.SCHEDULE)
    (reply,) = exports.list_exports(agency.database, day=DAY)
    assert reply.verdict == "accepted"
    assert reply.requested_at == agency.now


@pytest.mark.parametrize(
    ("fault", "status", "slots"),
    [
        (Fault(status=401), ComboStatus.AUTH_FAILED, [CallOutcome.AUTH_FAILED]),
        (Fault(status=403), ComboStatus.AUTH_FAILED, [CallOutcome.AUTH_FAILED]),
        (Fault(status=429), ComboStatus.RATE_LIMITED, [CallOutcome.RATE_LIMITED]),
        (Fault(status=400), ComboStatus.REFUSED, [CallOutcome.REQUEST_REJECTED]),
        (Fault(status=302), ComboStatus.REFUSED, [CallOutcome.REQUEST_REJECTED]),
        (Fault(body="<html>"), ComboStatus.REFUSED, [CallOutcome.REPLY_UNREADABLE]),
        (Fault(body=""), ComboStatus.REFUSED, [CallOutcome.REPLY_UNREADABLE]),
        (
            Fault(status=500, times=None),
            ComboStatus.UNAVAILABLE,
            [CallOutcome.SERVICE_UNAVAILABLE] * 2,
        ),
        (
            Fault(drop=True, times=None),
            ComboStatus.UNAVAILABLE,
            [CallOutcome.CONNECTION_BROKEN] * 2,
        ),
        (
            Fault(delay_seconds=2, times=None),
            ComboStatus.UNAVAILABLE,
            [CallOutcome.TIMED_OUT] * 2,
        ),
        (
            Fault(truncate_at_bytes=100, times=1),
            ComboStatus.LANDED,
            [CallOutcome.CONNECTION_BROKEN, CallOutcome.LANDED],
        ),
    ],
)
def test_each_way_to_fail_spends_what_it_must_and_says_so_in_the_ledger(
    agency: Agency, fault: Fault, status: ComboStatus, slots: list[CallOutcome]
) -> None:
    agency.connect("acme")
    agency.emulator.control.add_fault(fault)
    (outcome,) = make(caller_of(agency), planned(agency))
    assert (outcome.status, outcome.calls) == (status, len(slots))
    assert [slot.outcome for slot in ledger(agency)] == slots
    assert len(agency.calls("acme")) == len(slots)


def test_a_test_of_the_connection_is_never_repeated(agency: Agency) -> None:
    agency.connect("acme")
    agency.emulator.control.add_fault(Fault(status=500, times=1))
    (outcome,) = make(caller_of(agency), planned(agency, purpose=Purpose.TEST))
    assert (outcome.status, outcome.calls) == (ComboStatus.UNAVAILABLE, 1)


def test_a_retry_takes_no_slot_that_the_schedule_still_needs(agency: Agency) -> None:
    project = agency.connect("acme")
    for number in range(6):
        quota_ledger.reserve(
            agency.database,
            project_id=project.project_id,
            business_id="acme",
            purpose=Purpose.MANUAL,
            day=DAY,
            dimension_set=f"Browser{number}",
            may_use_share=False,
            now=agency.now,
        )
    agency.emulator.control.add_fault(Fault(dimension_set="Device,URL", status=500, times=None))
    (outcome,) = make(caller_of(agency), planned(agency))
    assert (outcome.status, outcome.calls) == (ComboStatus.UNAVAILABLE, 1)
    assert outcome.error_code == "service_unavailable"


def test_a_token_that_was_just_refused_is_not_sent_a_second_time(agency: Agency) -> None:
    agency.connect("acme")
    agency.emulator.control.revoke_token(agency.projects["acme"].project_id)
    first, second = make(caller_of(agency), planned(agency), planned(agency, combo=URL_SOURCE))
    assert (first.status, first.calls) == (ComboStatus.AUTH_FAILED, 1)
    assert (second.status, second.calls) == (ComboStatus.AUTH_FAILED, 0)
    assert len(agency.calls()) == 1


def test_a_wrong_key_is_our_own_fault_and_spends_nothing(agency: Agency) -> None:
    agency.connect("acme")
    stranger = TokenVault([SecretStr("A" * 43 + "=")])
    (outcome,) = make(caller_of(agency, vault=stranger), planned(agency))
    assert (outcome.status, outcome.error_code, outcome.calls) == (
        ComboStatus.OWN_FAULT,
        "secret_key",
        0,
    )
    assert ledger(agency) == []


def test_a_reply_that_cannot_be_landed_is_our_own_fault_and_its_slot_stays_spent(
    agency: Agency,
) -> None:
    agency.connect("acme")
    with agency.database.transaction() as connection:
        connection.execute(
            text("ALTER TABLE clarity_raw_exports RENAME COLUMN body_zstd TO hidden")
        )
    (outcome,) = make(caller_of(agency), planned(agency))
    assert outcome.status is ComboStatus.OWN_FAULT
    assert outcome.calls == 1
    assert [slot.outcome for slot in ledger(agency)] == [CallOutcome.ABANDONED]


def test_a_call_that_crosses_midnight_is_counted_on_the_day_it_was_reserved(
    agency: Agency,
) -> None:
    agency.connect("acme")
    agency.move_to(datetime(2026, 11, 2, 23, 59, 59, tzinfo=UTC))
    make(caller_of(agency), planned(agency))
    assert [slot.slot for slot in ledger(agency)] == [1]


def test_a_call_that_was_planned_before_midnight_is_not_made_after_it(agency: Agency) -> None:
    """Its answer would be about the next day, and would be stored under this one."""
    agency.connect("acme")
    agency.move_to(datetime(2026, 11, 3, 0, 0, 1, tzinfo=UTC))
    (outcome,) = make(caller_of(agency), planned(agency))
    assert (outcome.status, outcome.calls) == (ComboStatus.GAP, 0)
    assert agency.calls() == []
