"""Ad accounts: to whom they belong, and that their tokens stay where they are."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import select

from clarity_pipeline.domain.errors import InvalidAdAccount, UnknownAdAccount, UnknownBusiness
from clarity_pipeline.store import ad_accounts, businesses
from clarity_pipeline.store.ad_accounts import AdAccount
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import ad_accounts as table
from clarity_pipeline.store.vault import TokenVault
from clarity_pipeline_tests.factories import NOW

TOKEN = "EAAB-a-token-of-meta-1234"
LATER = NOW + timedelta(hours=1)


@pytest.fixture(autouse=True)
def two_businesses(database: Database) -> None:
    for business_id in ("acme", "bolt"):
        businesses.add_business(database, business_id=business_id, name="B", now=NOW)


def connect(
    database: Database,
    vault: TokenVault,
    *,
    business_id: str = "acme",
    platform_id: str = "act_1",
    token: str = TOKEN,
    now: datetime = NOW,
) -> AdAccount:
    return ad_accounts.connect_account(
        database,
        vault,
        platform="meta",
        platform_id=platform_id,
        business_id=business_id,
        token=SecretStr(token),
        now=now,
    )


def test_of_a_connected_account_the_last_four_characters_of_the_token_are_shown(
    database: Database, vault: TokenVault
) -> None:
    account = connect(database, vault)
    assert account == AdAccount(
        id="meta:act_1",
        platform="meta",
        platform_id="act_1",
        business_id="acme",
        token_last4="1234",
        created_at=NOW,
        updated_at=NOW,
        disabled_at=None,
        disabled_reason=None,
    )
    assert ad_accounts.get_account(database, "meta:act_1") == account


def test_the_token_is_stored_encrypted_and_read_back(database: Database, vault: TokenVault) -> None:
    connect(database, vault)
    with database.reading() as connection:
        stored = connection.execute(select(table)).one()
    assert not any(TOKEN in str(value) for value in stored)
    token = ad_accounts.account_token(database, vault, "meta:act_1")
    assert token.get_secret_value() == TOKEN


def test_another_token_takes_the_place_of_the_first_and_enables_the_account(
    database: Database, vault: TokenVault
) -> None:
    connect(database, vault)
    ad_accounts.disable_account(database, "meta:act_1", reason="refused", now=NOW)
    account = connect(database, vault, token="EAAB-another-9876", now=LATER)
    assert (account.token_last4, account.disabled_at, account.disabled_reason) == (
        "9876",
        None,
        None,
    )
    assert (account.created_at, account.updated_at) == (NOW, LATER)
    token = ad_accounts.account_token(database, vault, "meta:act_1")
    assert token.get_secret_value() == "EAAB-another-9876"


def test_an_account_of_another_business_is_not_taken_over(
    database: Database, vault: TokenVault
) -> None:
    before = connect(database, vault)
    with pytest.raises(InvalidAdAccount, match="'acme'"):
        connect(database, vault, business_id="bolt", token="EAAB-another-9876")
    assert ad_accounts.get_account(database, "meta:act_1") == before
    ad_accounts.disconnect_account(database, "meta:act_1")
    assert connect(database, vault, business_id="bolt").business_id == "bolt"


def test_an_account_of_no_business_is_refused(database: Database, vault: TokenVault) -> None:
    with pytest.raises(UnknownBusiness):
        connect(database, vault, business_id="nobody")


def test_a_disabled_account_keeps_the_first_reason(database: Database, vault: TokenVault) -> None:
    connect(database, vault)
    assert ad_accounts.disable_account(database, "meta:act_1", reason="first", now=NOW)
    assert not ad_accounts.disable_account(database, "meta:act_1", reason="second", now=LATER)
    account = ad_accounts.get_account(database, "meta:act_1")
    assert (account.disabled_at, account.disabled_reason) == (NOW, "first")


def test_a_disconnected_account_is_gone_with_its_token(
    database: Database, vault: TokenVault
) -> None:
    account = connect(database, vault)
    assert ad_accounts.disconnect_account(database, "meta:act_1") == account
    with database.reading() as connection:
        assert connection.execute(select(table)).all() == []


def test_an_account_that_is_not_there_is_named(database: Database, vault: TokenVault) -> None:
    for attempt in (
        lambda: ad_accounts.get_account(database, "meta:act_9"),
        lambda: ad_accounts.account_token(database, vault, "meta:act_9"),
        lambda: ad_accounts.disconnect_account(database, "meta:act_9"),
        lambda: ad_accounts.disable_account(database, "meta:act_9", reason="x", now=NOW),
    ):
        with pytest.raises(UnknownAdAccount, match="meta:act_9"):
            attempt()


def test_accounts_are_listed_by_id_and_can_be_narrowed(
    database: Database, vault: TokenVault
) -> None:
    for business_id, platform_id in (("bolt", "act_3"), ("acme", "act_2"), ("acme", "act_1")):
        connect(database, vault, business_id=business_id, platform_id=platform_id)
    listed = [each.id for each in ad_accounts.list_accounts(database)]
    assert listed == ["meta:act_1", "meta:act_2", "meta:act_3"]
    of_acme = ad_accounts.list_accounts(database, business_ids=["acme"])
    assert [each.id for each in of_acme] == ["meta:act_1", "meta:act_2"]
