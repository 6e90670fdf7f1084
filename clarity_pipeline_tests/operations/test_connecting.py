"""Connecting and testing: what is checked for free, and what a test costs and keeps."""

from __future__ import annotations

from datetime import timedelta

import pytest

from clarity_pipeline.domain.collection import ComboStatus
from clarity_pipeline.domain.errors import (
    InvalidConnectionList,
    InvalidProjectId,
    InvalidToken,
    UnknownBusiness,
)
from clarity_pipeline.operations.connecting import (
    ProbeResult,
    connect,
    connect_many,
    probe_connection,
)
from clarity_pipeline.store import businesses, connections, daily_metrics
from clarity_pipeline.store.aggregates import get_business_behavioral_aggregates
from clarity_pipeline_tests.agency import DAY, Agency
from clarity_pipeline_tests.factories import make_token
from clarity_pipeline_tests.operations.test_guarded_call import caller_of


def probe(agency: Agency, *, auth_failures_before_disable: int = 1) -> ProbeResult:
    return probe_connection(
        caller_of(agency),
        business_id="acme",
        auth_failures_before_disable=auth_failures_before_disable,
    )


def test_connecting_spends_no_call_and_shows_only_the_end_of_the_token(agency: Agency) -> None:
    agency.connect("acme")
    record = connections.get_connection(agency.database, "acme")
    assert record.token_last4 == agency.token("acme")[-4:]
    assert record.is_enabled
    assert agency.token("acme") not in repr(record)
    assert agency.calls() == []


@pytest.mark.parametrize(
    ("project_id", "token", "error"),
    [
        ("short", make_token(), InvalidProjectId),
        ("has-a-dash", make_token(), InvalidProjectId),
        ("abc123xyz0", "no token", InvalidToken),
        ("abc123xyz0", make_token(aud="somebody.else"), InvalidToken),
        ("abc123xyz0", make_token(exp=1_600_000_000), InvalidToken),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(
    agency: Agency, project_id: str, token: str, error: type[Exception]
) -> None:
    businesses.add_business(agency.database, business_id="acme", name="Acme", now=agency.now)
    with pytest.raises(error) as raised:
        connect(
            agency.database,
            agency.vault,
            business_id="acme",
            project_id=project_id,
            token=token,
            now=agency.now,
        )
    assert token not in str(raised.value)
    assert not connections.get_connection(agency.database, "acme").is_connected


def test_an_unknown_business_cannot_be_connected(agency: Agency) -> None:
    with pytest.raises(UnknownBusiness, match="nobody"):
        connect(
            agency.database,
            agency.vault,
            business_id="nobody",
            project_id="abc123xyz0",
            token=make_token(),
            now=agency.now,
        )


def test_a_test_keeps_its_reply_so_that_the_day_needs_one_call_less(agency: Agency) -> None:
    agency.connect("acme")
    found = probe(agency)
    assert found.succeeded
    record = connections.get_connection(agency.database, "acme")
    assert (record.last_test_result, record.last_synced_at) == ("ok", agency.now)
    (standing,) = daily_metrics.list_slices(agency.database, start=DAY, end=DAY)
    assert (standing.dimension_set, standing.rows > 0) == ("Device,URL", True)
    values = get_business_behavioral_aggregates("acme", DAY, DAY, database=agency.database)
    assert values.days_with_data == 1
    agency.sync()
    assert len(agency.calls("acme")) == 4
    assert agency.latest_job("acme").calls_used == 3


def test_a_refused_token_is_recorded_as_the_result_of_the_test(agency: Agency) -> None:
    agency.connect("acme")
    agency.emulator.control.revoke_token(agency.projects["acme"].project_id)
    found = probe(agency)
    assert found.outcome.status is ComboStatus.AUTH_FAILED
    assert found.switched_off
    assert "401" in found.sentence
    assert connections.get_connection(agency.database, "acme").last_synced_at is None
    assert connections.get_connection(agency.database, "acme").last_test_result == "auth_failed"


def test_a_spent_quota_does_not_judge_the_token(agency: Agency) -> None:
    project = agency.connect("acme")
    agency.emulator.control.set_quota_used(project.project_id, used=10)
    found = probe(agency)
    assert found.outcome.status is ComboStatus.RATE_LIMITED
    assert "token could not be judged" in found.sentence
    again = probe(agency)
    assert again.outcome.status is ComboStatus.QUOTA_REFUSED
    assert len(agency.calls("acme")) == 1


def test_a_paused_business_can_be_tested(agency: Agency) -> None:
    agency.connect("acme")
    connections.set_enabled(agency.database, business_id="acme", enabled=False, now=agency.now)
    agency.move_to(agency.now + timedelta(hours=1))
    assert probe(agency).succeeded


def test_a_test_switches_off_only_after_as_many_refusals_as_are_set(agency: Agency) -> None:
    agency.connect("acme")
    agency.emulator.control.revoke_token(agency.projects["acme"].project_id)
    assert [probe(agency, auth_failures_before_disable=2).switched_off for _ in range(3)] == [
        False,
        True,
        False,
    ]
    assert not connections.get_connection(agency.database, "acme").is_enabled


LIST_HEAD = "business_id,name,project_id,token\n"


def test_a_list_connects_all_its_businesses_and_adds_those_there_are_not(agency: Agency) -> None:
    agency.connect("acme", project_id="project001")
    agency.connect("paused", project_id="project002")
    connections.set_enabled(agency.database, business_id="paused", enabled=False, now=agency.now)
    new_token = make_token(project_id="another", jti="new")
    agency.move_to(agency.now + timedelta(hours=1))
    connected = connect_many(
        agency.database,
        agency.vault,
        text=f"{LIST_HEAD}acme,Acme Inc.,project009,{new_token}\n"
        f"paused,,project002,{new_token}\nbolt,Bolt & Söhne,project002,{new_token}\n",
        now=agency.now,
    )
    assert [(each.business_id, each.is_new) for each in connected] == [
        ("acme", False),
        ("paused", False),
        ("bolt", True),
    ]
    assert new_token not in repr(connected)
    records = {each.business_id: each for each in connections.list_connections(agency.database)}
    assert {name: record.project_id for name, record in records.items()} == {
        "acme": "project009",
        "paused": "project002",
        "bolt": "project002",
    }
    assert [records[name].name for name in ("acme", "bolt")] == ["acme", "Bolt & Söhne"]
    assert [name for name, record in records.items() if not record.is_enabled] == ["paused"]
    assert records["bolt"].created_at == agency.now
    token, _ = connections.read_token(agency.database, agency.vault, "bolt")
    assert token.get_secret_value() == new_token
    assert agency.calls() == []


def test_one_bad_row_leaves_everything_as_it_was(agency: Agency) -> None:
    agency.connect("acme")
    before = connections.list_connections(agency.database)
    good = f"acme,,project777,{make_token()}\nbolt,,project777,{make_token()}\n"
    with pytest.raises(InvalidConnectionList) as raised:
        connect_many(
            agency.database,
            agency.vault,
            text=f"{LIST_HEAD}{good}cogs,,project777,nonsense\n",
            now=agency.now + timedelta(hours=1),
        )
    assert [row.line for row in raised.value.bad_rows] == [4]
    assert connections.list_connections(agency.database) == before
