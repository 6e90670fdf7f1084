"""Encryption of tokens at rest: Fernet keys, the newest first; any of them decrypts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from clarity_pipeline.domain.errors import SecretKeyError

if TYPE_CHECKING:
    from clarity_pipeline.settings import Settings


class TokenVault:
    """Encrypts with the first key, decrypts with any. Raises SecretKeyError for malformed keys."""

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        if not keys:
            raise SecretKeyError(
                "There is no secret key; run `clarity init` to make a key file, or set "
                "CLARITY_SECRET_KEYS."
            )
        try:
            self._fernet = MultiFernet([Fernet(key.get_secret_value().encode()) for key in keys])
        except ValueError:
            raise SecretKeyError(
                "A secret key is malformed: each has to be 44 characters of URL-safe base64, as "
                "`clarity init` makes them."
            ) from None

    def __repr__(self) -> str:
        return "TokenVault(**********)"

    def encrypt(self, token: SecretStr) -> str:
        """The token as text that only this vault's keys can read."""
        return self._fernet.encrypt(token.get_secret_value().encode()).decode()

    def decrypt(self, ciphertext: str) -> SecretStr:
        """The token. Raises SecretKeyError when no key reads it."""
        try:
            return SecretStr(self._fernet.decrypt(ciphertext.encode()).decode())
        except (InvalidToken, ValueError):
            raise _unreadable() from None

    def reencrypt(self, ciphertext: str) -> str:
        """The same token under the newest key. Raises SecretKeyError when no key reads it."""
        try:
            return self._fernet.rotate(ciphertext.encode()).decode()
        except (InvalidToken, ValueError):
            raise _unreadable() from None


def open_vault(settings: Settings) -> TokenVault:
    """A vault with the keys of CLARITY_SECRET_KEYS, or else of the key file.

    Raises SecretKeyError when there is no key or one cannot be used.
    """
    configured = settings.secret_keys.get_secret_value() if settings.secret_keys else ""
    if configured.strip():
        return TokenVault(_split_keys(configured))
    path = settings.secret_key_file
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        raise SecretKeyError(
            f"There is no secret key: {path} does not exist; run `clarity init` to make it, or "
            "set CLARITY_SECRET_KEYS."
        ) from None
    except UnicodeDecodeError:
        text = "malformed"
    except OSError as error:
        raise SecretKeyError(
            f"The secret key file {path} cannot be read ({error.strerror}); give this user read "
            "permission on it."
        ) from None
    return TokenVault(_split_keys(text))


def create_key_file(path: Path) -> bool:
    """Make a key file only its owner can read; False when there is one, which is left alone.

    Safe when several processes do it at once: a key appears complete or not at all, and never
    replaces another. Raises SecretKeyError when it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(Fernet.generate_key() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            return _link_unless_taken(draft, path)
        finally:
            draft.unlink()
    except OSError as error:
        raise SecretKeyError(
            f"The secret key file {path} cannot be made ({error.strerror}); check the path and "
            "its permissions."
        ) from None


def _link_unless_taken(draft: Path, path: Path) -> bool:
    """Give the finished draft its name; a rename would replace somebody else's key."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    return True


def _split_keys(text: str) -> list[SecretStr]:
    separated = text.replace("\n", ",").split(",")
    return [SecretStr(key.strip()) for key in separated if key.strip()]


def _unreadable() -> SecretKeyError:
    return SecretKeyError(
        "No secret key reads the stored token; put the key it was stored with into "
        "CLARITY_SECRET_KEYS or the key file, or connect the business again."
    )
