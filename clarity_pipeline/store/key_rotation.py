"""Bringing everything that is encrypted under the newest key."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, select, update

from clarity_pipeline.store.database import Database
from clarity_pipeline.store.schema import ad_accounts, business_config
from clarity_pipeline.store.vault import TokenVault

_ENCRYPTED: Final[tuple[Column[str], ...]] = (
    business_config.c.token_ciphertext,
    ad_accounts.c.token_ciphertext,
)


def reencrypt_tokens(database: Database, vault: TokenVault) -> int:
    """Bring all tokens, of Clarity and of ad platforms, under the newest key, or none.

    Returns how many there are. Raises SecretKeyError, leaving every token as it was, when one
    cannot be read.
    """
    count = 0
    with database.transaction() as connection:
        for encrypted in _ENCRYPTED:
            table = encrypted.table
            (key,) = table.primary_key
            tokens = select(key, encrypted).where(encrypted.is_not(None)).with_for_update()
            for identity, ciphertext in connection.execute(tokens).all():
                connection.execute(
                    update(table)
                    .where(key == identity)
                    .values({encrypted.name: vault.reencrypt(ciphertext)})
                )
                count += 1
    return count
