"""From facts of the store to messages that arrive, each change once."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from pydantic import SecretStr

from clarity_pipeline.domain.connections import DisabledBy
from clarity_pipeline.domain.notices import Notice, Severity
from clarity_pipeline.export_api.emulator import Fault
from clarity_pipeline.notify.addresses import parse_addresses
from clarity_pipeline.operations.notices import deliver_pending, record_connection_notices
from clarity_pipeline.store import connections, notices
from clarity_pipeline.store.database import Database
from clarity_pipeline_tests.agency import Agency, days_later
from clarity_pipeline_tests.factories import NOW
from clarity_pipeline_tests.notify.receiver import webhook
from clarity_pipeline_tests.store.races import all_at_once

HOUR = timedelta(hours=1)


def look(agency: Agency) -> list[tuple[str, str]]:
    news = record_connection_notices(agency.database, overview_default=False, now=agency.now)
    return [(notice.subject, notice.state) for notice in news]


def test_a_refused_token_a_pause_and_a_repair_are_each_told_once(agency: Agency) -> None:
    agency.connect("acme")
    agency.connect("bolt")
    agency.emulator.control.revoke_token(agency.projects["acme"].project_id)
    agency.sync()
    connections.set_enabled(
        agency.database,
        business_id="acme",
        enabled=False,
        disabled_by=DisabledBy.AUTH_FAILURE,
        reason="Clarity refused the token (401).",
        now=agency.now,
    )
    assert look(agency) == [("connection:acme", "disabled_auth")]
    assert look(agency) == []
    connections.set_enabled(agency.database, business_id="acme", enabled=True, now=agency.now)
    agency.move_to(agency.now + HOUR)
    connections.set_enabled(
        agency.database,
        business_id="acme",
        enabled=False,
        disabled_by=DisabledBy.AUTH_FAILURE,
        reason="Clarity refused the token (401).",
        now=agency.now,
    )
    assert look(agency) == [("connection:acme", "disabled_auth")]
    assert look(agency) == []


def test_a_day_that_failed_and_was_repaired_is_a_trouble_and_a_recovery(agency: Agency) -> None:
    agency.connect("acme")
    project_id = agency.projects["acme"].project_id
    agency.emulator.control.add_fault(Fault(project_id=project_id, body="<html>", times=100))
    agency.sync()
    assert look(agency) == [("connection:acme", "failing")]
    agency.emulator.control.clear_faults()
    agency.move_to(days_later(1) - timedelta(minutes=10))
    assert look(agency) == []
    agency.move_to(days_later(1))
    assert look(agency) == []
    agency.sync()
    assert look(agency) == [("connection:acme", "ok")]
    assert look(agency) == []


def test_a_schedule_that_does_not_run_is_told_once_for_all(agency: Agency) -> None:
    agency.connect("acme")
    agency.connect("bolt")
    agency.move_to(days_later(1) + HOUR)
    assert look(agency) == [("clarity:attempted", "not_attempted")]
    assert look(agency) == []
    agency.sync()
    assert look(agency) == [("clarity:attempted", "ok")]


def test_a_network_that_fails_everybody_is_told_once(agency: Agency) -> None:
    for name in ("acme", "bolt", "coop"):
        agency.connect(name)
        agency.emulator.control.add_fault(
            Fault(project_id=agency.projects[name].project_id, drop=True, times=100)
        )
    agency.sync()
    assert look(agency) == [("clarity:reachable", "unreachable")]
    agency.emulator.control.clear_faults()
    agency.move_to(days_later(1))
    agency.sync()
    assert look(agency) == [("clarity:reachable", "ok")]


def trouble(number: int) -> Notice:
    return Notice(
        subject=f"run:{number}",
        state="failed",
        severity=Severity.ERROR,
        title=str(number),
        body="b",
    )


def test_notices_arrive_oldest_first_and_once(database: Database) -> None:
    notices.record(database, [trouble(number) for number in range(3)], now=NOW)
    with webhook() as receiver:
        addresses = parse_addresses(SecretStr(receiver.url))
        assert deliver_pending(database, addresses, now=NOW).sent == 3
        assert deliver_pending(database, addresses, now=NOW).sent == 0
    assert receiver.titles == ["0", "1", "2"]
    assert all(notice.sent_at == NOW for notice in notices.list_notices(database))


def test_two_daemons_do_not_both_send(database_url: str, database: Database) -> None:
    notices.record(database, [trouble(number) for number in range(6)], now=NOW)
    openers = [Database.open(database_url) for _ in range(4)]
    with webhook() as receiver:
        addresses = parse_addresses(SecretStr(receiver.url))
        try:
            all_at_once(lambda opened: deliver_pending(opened, addresses, now=NOW), openers)
        finally:
            for opened in openers:
                opened.close()
    assert sorted(receiver.titles) == [str(number) for number in range(6)]


def test_a_webhook_that_is_down_gets_it_later_and_the_database_says_why(
    database: Database,
) -> None:
    notices.record(database, [trouble(1), trouble(2)], now=NOW)
    with webhook() as receiver:
        receiver.status = 503
        addresses = parse_addresses(SecretStr(receiver.url))
        assert deliver_pending(database, addresses, now=NOW).failed == 1
        newer, older = notices.list_notices(database)
        assert (older.sent_at, older.attempts) == (None, 1)
        assert older.last_error == "It was not accepted by 1 of 1 addresses (number 1)."
        assert newer.attempts == 0
        receiver.status = 200
        assert deliver_pending(database, addresses, now=NOW + 6 * timedelta(minutes=1)).sent == 2
    assert receiver.titles == ["1", "2"]
    assert notices.list_notices(database)[1].last_error is None


def test_one_address_that_accepts_is_enough_and_the_other_is_kept_in_mind(
    database: Database,
) -> None:
    notices.record(database, [trouble(1)], now=NOW)
    with webhook() as first, webhook() as second:
        second.status = 500
        addresses = parse_addresses(SecretStr(f"{first.url} {second.url}"))
        assert deliver_pending(database, addresses, now=NOW).sent == 1
        assert deliver_pending(database, addresses, now=NOW + HOUR).sent == 0
    [notice] = notices.list_notices(database)
    assert notice.last_error == "It was not accepted by 1 of 2 addresses (number 2)."
    assert first.titles == ["1"]


def test_addresses_that_come_later_get_the_news_of_a_day_and_no_older_ones(
    database: Database,
) -> None:
    notices.record(database, [trouble(1)], now=NOW)
    notices.record(database, [trouble(2)], now=NOW + 20 * HOUR)
    assert deliver_pending(database, parse_addresses(None), now=NOW).sent == 0
    assert [notice.attempts for notice in notices.list_notices(database)] == [0, 0]
    with webhook() as receiver:
        deliver_pending(database, parse_addresses(SecretStr(receiver.url)), now=NOW + 25 * HOUR)
    assert receiver.titles == ["2"]


@dataclass
class Dying:
    """A process that is killed in the middle of sending."""

    sent: list[str] = field(default_factory=lambda: list[str]())

    def __len__(self) -> int:
        return 1

    def send(self, *, title: str, body: str, severity: Severity) -> frozenset[int]:
        self.sent.append(title)
        raise KeyboardInterrupt


def test_a_process_that_dies_over_a_notice_does_not_lose_it(database: Database) -> None:
    notices.record(database, [trouble(1)], now=NOW)
    dying = Dying()
    with pytest.raises(KeyboardInterrupt):
        deliver_pending(database, dying, now=NOW)
    with webhook() as receiver:
        addresses = parse_addresses(SecretStr(receiver.url))
        assert deliver_pending(database, addresses, now=NOW).sent == 0
        assert deliver_pending(database, addresses, now=NOW + HOUR).sent == 1
    assert (dying.sent, receiver.titles) == (["1"], ["1"])
