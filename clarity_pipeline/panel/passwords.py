"""Hashing of passwords with argon2id."""

from __future__ import annotations

import threading
from functools import cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from clarity_pipeline.domain.access import check_new_password
from clarity_pipeline.domain.errors import InvalidPassword

_HASHER: Final = PasswordHasher()

_AT_ONCE: Final = threading.BoundedSemaphore(4)
"""A hash takes 64 MB while it is computed, and anybody may ask for one at /login."""


@cache
def _nobodys_hash() -> str:
    return _HASHER.hash("the password of nobody at all")


def hash_password(password: str) -> str:
    """As it is stored: parameters, salt and hash in one text."""
    with _AT_ONCE:
        return _HASHER.hash(password)


def hash_new_password(password: str, *, login: str) -> str:
    """The same, of a password somebody chose. Raises InvalidPassword."""
    return hash_password(check_new_password(password, login=login))


def check_repeated(password: str, repeated: str) -> str:
    """A password that was typed twice alike. Raises InvalidPassword."""
    if password != repeated:
        raise InvalidPassword("The two passwords are not the same; type it twice alike.")
    return password


def is_password(password: str, password_hash: str | None) -> bool:
    """Whether that is it.

    Without a hash, for a login that does not exist, the answer takes as long: otherwise its time
    would tell which logins there are.
    """
    compared = password_hash or _nobodys_hash()
    try:
        with _AT_ONCE:
            return _HASHER.verify(compared, password) and password_hash is not None
    except (VerificationError, InvalidHashError):
        return False


def needs_rehash(password_hash: str) -> bool:
    """Whether it was hashed with parameters that are no longer today's."""
    return _HASHER.check_needs_rehash(password_hash)
