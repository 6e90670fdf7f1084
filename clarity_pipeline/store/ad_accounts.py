"""Accounts on ad platforms, and the tokens with which rules act on them.

Tokens leave this module decrypted through `account_token` alone.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import SecretStr
from sqlalchemy import Row, delete, insert, select, update

from clarity_pipeline.domain.ads import entity_id
from clarity_pipeline.domain.errors import InvalidAdAccount, UnknownAdAccount
from clarity_pipeline.store.businesses import lock_businesses
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import ad_accounts
from clarity_pipeline.store.vault import TokenVault

_ENABLED: Final[dict[str, Any]] = {"disabled_at": None, "disabled_reason": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class AdAccount:
    """A connected account, without its token; instants are UTC.

    A disabled one is not acted on until it is connected again.
    """

    id: str
    platform: str
    platform_id: str
    business_id: str
    token_last4: str
    created_at: datetime
    updated_at: datetime
    disabled_at: datetime | None
    disabled_reason: str | None


def connect_account(
    database: Database,
    vault: TokenVault,
    *,
    platform: str,
    platform_id: str,
    business_id: str,
    token: SecretStr,
    now: datetime,
) -> AdAccount:
    """Connect an account to a business, or give it another token; a disabled one is enabled.

    Raises UnknownBusiness, or InvalidAdAccount when another business has the account.
    """
    account_id = entity_id(platform=platform, platform_id=platform_id)
    values = {
        "business_id": business_id,
        "token_ciphertext": vault.encrypt(token),
        "token_last4": token.get_secret_value()[-4:],
        "updated_at": now,
        **_ENABLED,
    }
    with database.transaction() as connection:
        lock_businesses(connection, [business_id])
        row = connection.execute(
            select(ad_accounts).where(ad_accounts.c.id == account_id).with_for_update()
        ).first()
        if row is None:
            connection.execute(
                insert(ad_accounts).values(
                    id=account_id,
                    platform=platform,
                    platform_id=platform_id,
                    created_at=now,
                    **values,
                )
            )
        elif row.business_id != business_id:
            raise InvalidAdAccount(
                f"The ad account {account_id} belongs to business {row.business_id!r}; disconnect "
                "it there first."
            )
        else:
            connection.execute(
                update(ad_accounts).where(ad_accounts.c.id == account_id).values(**values)
            )
    return get_account(database, account_id)


def get_account(database: Database, account_id: str) -> AdAccount:
    """Raises UnknownAdAccount."""
    return _account(_row(database, account_id))


def list_accounts(
    database: Database, *, business_ids: Collection[str] | None = None
) -> list[AdAccount]:
    """All accounts, or those of these businesses, by id."""
    statement = select(ad_accounts).order_by(ad_accounts.c.id)
    if business_ids is not None:
        statement = statement.where(ad_accounts.c.business_id.in_(set(business_ids)))
    with database.reading() as connection:
        return [_account(row) for row in connection.execute(statement)]


def account_token(database: Database, vault: TokenVault, account_id: str) -> SecretStr:
    """The token, for the moment of a call, also of an account that is disabled.

    Raises UnknownAdAccount, or SecretKeyError when no key reads it.
    """
    return vault.decrypt(_row(database, account_id).token_ciphertext)


def disable_account(database: Database, account_id: str, *, reason: str, now: datetime) -> bool:
    """Have nothing more sent to an account; False if it is disabled, which keeps its reason.

    Raises UnknownAdAccount.
    """
    with database.transaction() as connection:
        changed = connection.execute(
            update(ad_accounts)
            .where(ad_accounts.c.id == account_id, ad_accounts.c.disabled_at.is_(None))
            .values(disabled_at=now, disabled_reason=reason, updated_at=now)
        ).rowcount
    if not changed:
        _row(database, account_id)
    return bool(changed)


def disconnect_account(database: Database, account_id: str) -> AdAccount:
    """Forget an account and its token, and return what it was; its entities and numbers stay.

    Raises UnknownAdAccount.
    """
    with database.transaction() as connection:
        row = connection.execute(
            delete(ad_accounts).where(ad_accounts.c.id == account_id).returning(*ad_accounts.c)
        ).first()
    if row is None:
        raise UnknownAdAccount(account_id)
    return _account(row)


def _row(database: Database, account_id: str) -> Row[Any]:
    with database.reading() as connection:
        row = connection.execute(select(ad_accounts).where(ad_accounts.c.id == account_id)).first()
    if row is None:
        raise UnknownAdAccount(account_id)
    return row


def _account(row: Row[Any]) -> AdAccount:
    return AdAccount(
        id=row.id,
        platform=row.platform,
        platform_id=row.platform_id,
        business_id=row.business_id,
        token_last4=row.token_last4,
        created_at=row.created_at,
        updated_at=row.updated_at,
        disabled_at=row.disabled_at,
        disabled_reason=row.disabled_reason,
    )
