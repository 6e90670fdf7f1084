"""Businesses and their connections: what is remembered, who switches what off, and the token."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import func, select

from clarity_pipeline.domain.connections import DisabledBy, parse_token, token_fingerprint
from clarity_pipeline.domain.errors import (
    InvalidBusinessId,
    NotConnected,
    SecretKeyError,
    UnknownBusiness,
)
from clarity_pipeline.store import aggregates, businesses, connections, daily_metrics
from clarity_pipeline.store.connections import ConnectionRecord
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import business_config
from clarity_pipeline.store.vault import TokenVault
from clarity_pipeline_tests.domain.replies import Visits
from clarity_pipeline_tests.factories import (
    DAY,
    NOW,
    connect_business,
    make_slice,
    make_token,
)
from clarity_pipeline_tests.store.races import all_at_once

LATER = NOW + timedelta(hours=1)


@pytest.fixture
def connected(database: Database, vault: TokenVault) -> Database:
    connect_business(database, vault)
    return database


def acme(database: Database) -> ConnectionRecord:
    return connections.get_connection(database, "acme")


def disable(
    database: Database, by: DisabledBy | None = None, *, only_if: str | None = None
) -> bool:
    return connections.set_enabled(
        database,
        business_id="acme",
        enabled=False,
        now=LATER,
        disabled_by=by,
        reason="because",
        only_if_fingerprint=only_if,
    )


def test_a_business_is_added_and_found(database: Database) -> None:
    added = businesses.add_business(database, business_id="acme", name="Acme & Söhne", now=NOW)
    assert businesses.get_business(database, "acme") == added
    assert businesses.list_businesses(database) == [added]


@pytest.mark.parametrize("business_id", ["", "Acme", "a b", "a" * 65, "ä", "a;b"])
def test_a_malformed_id_is_refused(database: Database, business_id: str) -> None:
    with pytest.raises(InvalidBusinessId):
        businesses.add_business(database, business_id=business_id, name="x", now=NOW)
    assert businesses.list_businesses(database) == []


def test_an_id_is_given_out_once(database: Database) -> None:
    first = businesses.add_business(database, business_id="acme", name="Acme", now=NOW)
    with pytest.raises(InvalidBusinessId, match="already"):
        businesses.add_business(database, business_id="acme", name="Other", now=LATER)
    assert businesses.get_business(database, "acme") == first


def test_a_name_with_junk_characters_is_stored_readable(database: Database) -> None:
    businesses.add_business(database, business_id="acme", name="A\x00c\ud800me", now=NOW)
    assert businesses.get_business(database, "acme").name == "A\ufffdc\ufffdme"


def test_an_unknown_business_is_named_in_every_refusal(
    database: Database, vault: TokenVault
) -> None:
    token = parse_token(make_token(), now=NOW)
    attempts = (
        lambda: businesses.get_business(database, "nobody"),
        lambda: connections.get_connection(database, "nobody"),
        lambda: connections.list_connections(database, ["nobody"]),
        lambda: connections.read_token(database, vault, "nobody"),
        lambda: connections.set_enabled(database, business_id="nobody", enabled=True, now=NOW),
        lambda: connections.set_overview(database, business_id="nobody", overview=True, now=NOW),
        lambda: connections.disconnect(database, business_id="nobody", now=NOW),
        lambda: connections.record_test(database, business_id="nobody", result="ok", now=NOW),
        lambda: connections.record_synced(database, business_id="nobody", at=NOW),
        lambda: connections.save_connection(
            database, vault, business_id="nobody", project_id="abc123", token=token, now=NOW
        ),
    )
    for attempt in attempts:
        with pytest.raises(UnknownBusiness, match="nobody"):
            attempt()


def test_a_business_that_was_never_connected_is_listed_as_such(database: Database) -> None:
    businesses.add_business(database, business_id="acme", name="Acme", now=NOW)
    record = acme(database)
    assert not record.is_connected
    assert not record.is_enabled
    assert record.created_at == NOW


def test_what_needs_a_connection_says_so(database: Database, vault: TokenVault) -> None:
    businesses.add_business(database, business_id="acme", name="Acme", now=NOW)
    for attempt in (
        lambda: connections.read_token(database, vault, "acme"),
        lambda: disable(database),
        lambda: connections.record_test(database, business_id="acme", result="ok", now=NOW),
    ):
        with pytest.raises(NotConnected, match="clarity connect acme"):
            attempt()


def test_a_connection_remembers_everything_but_the_token(
    database: Database, vault: TokenVault
) -> None:
    expires_at = NOW + timedelta(days=30)
    token = make_token(expires_at=expires_at)
    connect_business(database, vault, token=token, project_id="proj123456")
    assert acme(database) == ConnectionRecord(
        business_id="acme",
        name="Acme",
        project_id="proj123456",
        token_fingerprint=token_fingerprint(token),
        token_last4=token[-4:],
        token_expires_at=expires_at,
        token_trusted_since=NOW,
        sync_enabled=True,
        disabled_by=None,
        disabled_reason=None,
        disabled_at=None,
        last_tested_at=None,
        last_test_result=None,
        last_synced_at=None,
        overview=None,
        created_at=NOW,
        updated_at=NOW,
    )
    assert token not in repr(acme(database))


def test_the_token_is_nowhere_in_the_database(connected: Database) -> None:
    with connected.reading() as connection:
        stored = connection.execute(select(business_config)).mappings().one()
    assert not any(make_token() in str(value) for value in stored.values())


def test_the_token_is_read_with_its_fingerprint(connected: Database, vault: TokenVault) -> None:
    secret, fingerprint = connections.read_token(connected, vault, "acme")
    assert secret.get_secret_value() == make_token()
    assert fingerprint == token_fingerprint(make_token())


def test_a_wrong_key_is_an_error_that_touches_nothing(connected: Database) -> None:
    other = TokenVault([SecretStr(Fernet.generate_key().decode())])
    before = acme(connected)
    with pytest.raises(SecretKeyError):
        connections.read_token(connected, other, "acme")
    assert acme(connected) == before


def test_connections_are_listed_by_id_and_can_be_narrowed(
    database: Database, vault: TokenVault
) -> None:
    for business_id in ("c", "a", "b"):
        connect_business(database, vault, business_id=business_id)
    listed = [record.business_id for record in connections.list_connections(database)]
    assert listed == ["a", "b", "c"]
    narrowed = connections.list_connections(database, ["c", "a", "c"])
    assert [record.business_id for record in narrowed] == ["a", "c"]
    assert connections.list_connections(database, []) == []


def test_two_businesses_may_share_a_project(database: Database, vault: TokenVault) -> None:
    for business_id in ("a", "b"):
        connect_business(database, vault, business_id=business_id, project_id="shared1234")
    assert {record.project_id for record in connections.list_connections(database)} == {
        "shared1234"
    }


def test_a_fresh_token_clears_what_an_authentication_failure_had_disabled(
    connected: Database, vault: TokenVault
) -> None:
    assert disable(connected, DisabledBy.AUTH_FAILURE)
    record = acme(connected)
    assert (record.is_enabled, record.disabled_reason, record.disabled_at) == (
        False,
        "because",
        LATER,
    )
    connect_business(connected, vault, token=make_token(sub="fresh"), now=LATER)
    record = acme(connected)
    assert record.is_enabled
    assert (record.disabled_by, record.disabled_reason, record.disabled_at) == (None, None, None)
    assert (record.created_at, record.updated_at) == (NOW, LATER)


def test_a_fresh_token_never_clears_a_users_pause(connected: Database, vault: TokenVault) -> None:
    disable(connected)
    connect_business(connected, vault, token=make_token(sub="fresh"))
    assert acme(connected).disabled_by is DisabledBy.USER
    assert not acme(connected).is_enabled


def test_an_authentication_failure_does_not_take_over_a_users_pause(connected: Database) -> None:
    assert disable(connected, DisabledBy.USER)
    assert not disable(connected, DisabledBy.AUTH_FAILURE)
    assert acme(connected).disabled_by is DisabledBy.USER


def test_a_user_may_pause_what_an_authentication_failure_disabled(connected: Database) -> None:
    disable(connected, DisabledBy.AUTH_FAILURE)
    assert disable(connected, DisabledBy.USER)
    assert acme(connected).disabled_by is DisabledBy.USER


def test_a_failure_of_a_token_that_was_replaced_disables_nothing(connected: Database) -> None:
    assert not disable(connected, DisabledBy.AUTH_FAILURE, only_if="another fingerprint")
    assert acme(connected).is_enabled
    assert disable(connected, DisabledBy.AUTH_FAILURE, only_if=token_fingerprint(make_token()))
    assert not acme(connected).is_enabled


def test_switching_to_what_already_is_changes_nothing(connected: Database) -> None:
    before = acme(connected)
    assert not connections.set_enabled(connected, business_id="acme", enabled=True, now=LATER)
    assert acme(connected) == before
    assert disable(connected)
    assert not disable(connected)
    assert connections.set_enabled(connected, business_id="acme", enabled=True, now=LATER)
    assert acme(connected).is_enabled


def test_disconnecting_forgets_project_and_token_and_keeps_what_was_fetched(
    connected: Database, vault: TokenVault
) -> None:
    daily_metrics.replace_slices(
        connected, [make_slice(connected, Visits(("https://a/", "PC")))], now=NOW
    )
    connections.record_synced(connected, business_id="acme", at=NOW)
    connections.disconnect(connected, business_id="acme", now=LATER)
    record = acme(connected)
    forgotten = ("project_id", "token_fingerprint", "token_last4", "token_expires_at")
    assert [asdict(record)[name] for name in forgotten] == [None] * 4
    assert record.last_synced_at == NOW
    assert len(daily_metrics.list_slices(connected, start=DAY, end=DAY)) == 1
    with pytest.raises(NotConnected):
        connections.read_token(connected, vault, "acme")
    with connected.reading() as connection:
        assert connection.scalar(select(func.count(business_config.c.token_ciphertext))) == 0


def test_data_that_were_stored_earlier_do_not_move_the_last_success_back(
    connected: Database,
) -> None:
    for at in (LATER, NOW):
        connections.record_synced(connected, business_id="acme", at=at)
        assert acme(connected).last_synced_at == LATER


def test_a_person_vouches_for_a_token_by_connecting_and_by_enabling(
    connected: Database, vault: TokenVault
) -> None:
    assert acme(connected).token_trusted_since == NOW
    connect_business(connected, vault, now=LATER)
    assert acme(connected).token_trusted_since == LATER
    disable(connected)
    again = LATER + timedelta(hours=1)
    assert acme(connected).token_trusted_since == LATER
    connections.set_enabled(connected, business_id="acme", enabled=True, now=again)
    assert acme(connected).token_trusted_since == again
    connections.disconnect(connected, business_id="acme", now=again)
    assert acme(connected).token_trusted_since is None


def test_a_refusal_is_remembered_from_the_instant_it_was_found(connected: Database) -> None:
    assert not acme(connected).was_refused_since(NOW)
    disable(connected, DisabledBy.AUTH_FAILURE)
    assert acme(connected).was_refused_since(LATER)
    assert not acme(connected).was_refused_since(LATER + timedelta(seconds=1))
    disable(connected, DisabledBy.USER)
    assert not acme(connected).was_refused_since(NOW)


def test_disconnecting_twice_is_no_error(connected: Database) -> None:
    connections.disconnect(connected, business_id="acme", now=NOW)
    before = acme(connected)
    connections.disconnect(connected, business_id="acme", now=LATER)
    assert acme(connected) == before


def test_reconnecting_finds_the_history_again(connected: Database, vault: TokenVault) -> None:
    connections.disconnect(connected, business_id="acme", now=LATER)
    connect_business(connected, vault, project_id="other12345", now=LATER)
    assert acme(connected).is_enabled
    assert acme(connected).created_at == NOW


def test_a_test_result_is_forgotten_with_the_token_it_was_about(
    connected: Database, vault: TokenVault
) -> None:
    connections.record_test(connected, business_id="acme", result="ok", now=LATER)
    assert (acme(connected).last_test_result, acme(connected).last_tested_at) == ("ok", LATER)
    connect_business(connected, vault)
    assert acme(connected).last_test_result == "ok"
    connect_business(connected, vault, token=make_token(sub="fresh"))
    assert (acme(connected).last_test_result, acme(connected).last_tested_at) == (None, None)


def test_the_overview_can_be_overridden_and_handed_back(connected: Database) -> None:
    for overview in (True, False, None):
        connections.set_overview(connected, business_id="acme", overview=overview, now=LATER)
        assert acme(connected).overview is overview


def test_many_who_connect_a_business_at_once_leave_one_whole_connection(
    database: Database, vault: TokenVault
) -> None:
    businesses.add_business(database, business_id="acme", name="Acme", now=NOW)
    all_at_once(
        lambda number: connect_business(database, vault, project_id=f"project{number}"),
        range(12),
    )
    record = acme(database)
    secret, _ = connections.read_token(database, vault, "acme")
    assert secret.get_secret_value() == make_token(project_id=record.project_id or "")


def test_disabling_hides_the_aggregates_and_enabling_shows_them(connected: Database) -> None:
    disable(connected)
    window = aggregates.get_business_behavioral_aggregates("acme", DAY, DAY, database=connected)
    assert window.days_with_data == 0
