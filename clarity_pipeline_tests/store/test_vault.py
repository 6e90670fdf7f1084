"""Tokens at rest: which key encrypts, which decrypt, and what a missing key is called."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from clarity_pipeline.domain.errors import SecretKeyError
from clarity_pipeline.settings import Settings
from clarity_pipeline.store.vault import TokenVault, create_key_file, open_vault
from clarity_pipeline_tests.factories import make_token
from clarity_pipeline_tests.store.races import all_at_once


def new_key() -> SecretStr:
    return SecretStr(Fernet.generate_key().decode())


def settings_with(home: Path, *keys: SecretStr) -> Settings:
    joined = ", ".join(key.get_secret_value() for key in keys)
    return Settings(home=home, secret_keys=SecretStr(joined) if keys else None)


def test_a_token_is_encrypted_and_comes_back(vault: TokenVault) -> None:
    token = make_token()
    ciphertext = vault.encrypt(SecretStr(token))
    assert token not in ciphertext
    assert vault.decrypt(ciphertext).get_secret_value() == token


def test_the_newest_key_encrypts_and_every_key_decrypts() -> None:
    old, new = new_key(), new_key()
    written_before = TokenVault([old]).encrypt(SecretStr("t"))
    rotated = TokenVault([new, old])
    assert rotated.decrypt(written_before).get_secret_value() == "t"
    assert TokenVault([new]).decrypt(rotated.encrypt(SecretStr("t"))).get_secret_value() == "t"
    moved = rotated.reencrypt(written_before)
    assert TokenVault([new]).decrypt(moved).get_secret_value() == "t"


def test_a_token_of_another_key_is_a_clear_error_without_a_secret_in_it() -> None:
    key = new_key()
    ciphertext = TokenVault([new_key()]).encrypt(SecretStr("t"))
    for attempt in (TokenVault([key]).decrypt, TokenVault([key]).reencrypt):
        with pytest.raises(SecretKeyError, match="No secret key reads") as caught:
            attempt(ciphertext)
        assert key.get_secret_value() not in str(caught.value)
        assert caught.value.__suppress_context__


@pytest.mark.parametrize("ciphertext", ["", "junk", "ünïcode", "a" * 200])
def test_a_damaged_token_is_a_clear_error(vault: TokenVault, ciphertext: str) -> None:
    with pytest.raises(SecretKeyError):
        vault.decrypt(ciphertext)


@pytest.mark.parametrize("key", ["short", "x" * 44, "ü" * 44, "a" * 43 + "!"])
def test_a_malformed_key_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(SecretKeyError, match="malformed") as caught:
        TokenVault([SecretStr(key)])
    assert key not in str(caught.value)


def test_no_key_at_all_is_refused() -> None:
    with pytest.raises(SecretKeyError, match="clarity init"):
        TokenVault([])


def test_a_vault_shows_no_key() -> None:
    key = new_key()
    assert key.get_secret_value() not in repr(TokenVault([key]))


def test_a_key_file_is_only_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secret.key"
    assert create_key_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["secret.key"]


def test_an_existing_key_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    assert create_key_file(path)
    before = path.read_bytes()
    assert not create_key_file(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret.key"]


def test_of_many_who_make_the_key_file_at_once_one_does(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    made = all_at_once(lambda _: create_key_file(path), range(20))
    assert made.count(True) == 1
    open_vault(Settings(home=tmp_path))


def test_a_key_file_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SecretKeyError, match="cannot be made"):
        create_key_file(tmp_path / "file" / "secret.key")


def test_the_vault_opens_with_the_key_file(tmp_path: Path) -> None:
    create_key_file(tmp_path / "secret.key")
    ciphertext = open_vault(settings_with(tmp_path)).encrypt(SecretStr("t"))
    assert open_vault(settings_with(tmp_path)).decrypt(ciphertext).get_secret_value() == "t"


def test_configured_keys_win_over_the_key_file(tmp_path: Path) -> None:
    create_key_file(tmp_path / "secret.key")
    new, old = new_key(), new_key()
    ciphertext = open_vault(settings_with(tmp_path, new, old)).encrypt(SecretStr("t"))
    assert TokenVault([new]).decrypt(ciphertext).get_secret_value() == "t"
    with pytest.raises(SecretKeyError):
        open_vault(settings_with(tmp_path)).decrypt(ciphertext)


def test_a_missing_key_file_is_a_clear_error_and_is_not_made_on_the_way(tmp_path: Path) -> None:
    """A new key in place of a lost one would hide that the stored tokens cannot be read."""
    with pytest.raises(SecretKeyError, match="clarity init"):
        open_vault(settings_with(tmp_path))
    assert not (tmp_path / "secret.key").exists()


@pytest.mark.parametrize("content", [b"", b"\n", b"junk", b"\xff\xfe\x00"])
def test_a_damaged_key_file_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret.key").write_bytes(content)
    with pytest.raises(SecretKeyError):
        open_vault(settings_with(tmp_path))


def test_a_key_file_that_cannot_be_read_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "secret.key").mkdir()
    with pytest.raises(SecretKeyError, match="cannot be read"):
        open_vault(settings_with(tmp_path))
