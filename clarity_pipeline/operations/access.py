"""Secrets that are made here, shown once, and kept as hashes only."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Final

from clarity_pipeline.domain.access import KeyScope, parse_key_name, secret_hash
from clarity_pipeline.store.api_keys import ApiKey, add_key, get_key
from clarity_pipeline.store.database import Database
from clarity_pipeline.store.setup_codes import replace_setup_code

KEY_PREFIX: Final = "clarity_"
"""So that programs which look for leaked secrets find ours."""

_SECRET_BYTES: Final = 32
_INITIAL_PASSWORD_BYTES: Final = 15


def make_api_key(
    database: Database,
    *,
    name: str,
    scope: KeyScope,
    business_id: str | None,
    created_by: str,
    now: datetime,
) -> tuple[ApiKey, str]:
    """A new key and its secret, which cannot be read again.

    Raises InvalidKeyName or UnknownBusiness.
    """
    secret = KEY_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    key_id = add_key(
        database,
        name=parse_key_name(name),
        key_hash=secret_hash(secret),
        key_last4=secret[-4:],
        scope=scope,
        business_id=business_id,
        created_by=created_by,
        now=now,
    )
    return get_key(database, key_id), secret


def make_setup_code(database: Database, *, now: datetime) -> str | None:
    """The one code with which the agency's first user is made; None once there is one."""
    code = secrets.token_urlsafe(_SECRET_BYTES)
    return code if replace_setup_code(database, code_hash=secret_hash(code), now=now) else None


def make_initial_password() -> str:
    """A password that nobody chose, to be handed over and then changed: 120 random bits."""
    return secrets.token_urlsafe(_INITIAL_PASSWORD_BYTES)
