"""Hashing of passwords with argon2id."""

from __future__ import annotations

from functools import cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_HASHER: Final = PasswordHasher()


@cache
def _nobodys_hash() -> str:
    return _HASHER.hash("the password of nobody at all")


def hash_password(password: str) -> str:
    """As it is stored: parameters, salt and hash in one text."""
    return _HASHER.hash(password)


def is_password(password: str, password_hash: str | None) -> bool:
    """Whether that is it.

    Without a hash, for a login that does not exist, the answer takes as long: otherwise its time
    would tell which logins there are.
    """
    try:
        return (
            _HASHER.verify(password_hash or _nobodys_hash(), password) and password_hash is not None
        )
    except (VerificationError, InvalidHashError):
        return False


def needs_rehash(password_hash: str) -> bool:
    """Whether it was hashed with parameters that are no longer today's."""
    return _HASHER.check_needs_rehash(password_hash)
