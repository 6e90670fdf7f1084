"""A new secret key: every token comes under it, or none does."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from clarity_pipeline.domain.errors import SecretKeyError
from clarity_pipeline.store import ad_accounts, businesses, connections
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.key_rotation import reencrypt_tokens
from clarity_pipeline.store.vault import TokenVault
from clarity_pipeline_tests.factories import NOW, connect_business, make_token


def new_key() -> SecretStr:
    return SecretStr(Fernet.generate_key().decode())


def connect_ad_account(database: Database, vault: TokenVault, *, business_id: str) -> None:
    ad_accounts.connect_account(
        database,
        vault,
        platform="meta",
        platform_id="act_1",
        business_id=business_id,
        token=SecretStr("EAAB-a-token-of-meta"),
        now=NOW,
    )


def test_rotation_brings_every_token_under_the_newest_key(database: Database) -> None:
    old, new = new_key(), new_key()
    for business_id in ("a", "b"):
        connect_business(database, TokenVault([old]), business_id=business_id)
    businesses.add_business(database, business_id="c", name="C", now=NOW)
    connect_ad_account(database, TokenVault([old]), business_id="c")
    assert reencrypt_tokens(database, TokenVault([new, old])) == 3
    for business_id in ("a", "b"):
        secret, _ = connections.read_token(database, TokenVault([new]), business_id)
        assert secret.get_secret_value() == make_token()
    token = ad_accounts.account_token(database, TokenVault([new]), "meta:act_1")
    assert token.get_secret_value() == "EAAB-a-token-of-meta"


def test_a_token_that_cannot_be_read_leaves_every_token_as_it_was(database: Database) -> None:
    old, new, foreign = new_key(), new_key(), new_key()
    connect_business(database, TokenVault([old]), business_id="a")
    connect_ad_account(database, TokenVault([foreign]), business_id="a")
    with pytest.raises(SecretKeyError):
        reencrypt_tokens(database, TokenVault([new, old]))
    secret, _ = connections.read_token(database, TokenVault([old]), "a")
    assert secret.get_secret_value() == make_token()
