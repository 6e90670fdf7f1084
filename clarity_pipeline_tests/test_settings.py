"""The environment: defaults for a laptop, and errors that never repeat a secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from clarity_pipeline.domain.errors import ConfigurationError
from clarity_pipeline.settings import (
    CLARITY_API_URL,
    Settings,
    check_api_url,
    is_loopback,
    load_settings,
)


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"CLARITY_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)


def test_everything_has_a_default_that_works_on_a_laptop(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.api_url == CLARITY_API_URL
    assert settings.overview is False
    assert settings.database_url_or_default.get_secret_value() == (
        f"sqlite:///{tmp_path.resolve()}/.clarity/clarity.db"
    )
    assert settings.secret_key_file == Path(".clarity/secret.key")
    assert settings.dagster_home == tmp_path.resolve() / ".clarity" / "dagster"


def test_every_variable_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLARITY_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("CLARITY_DATABASE_URL", "postgresql://db.example/clarity")
    monkeypatch.setenv("CLARITY_API_URL", "http://127.0.0.1:8800/export-data/api/v1")
    monkeypatch.setenv("CLARITY_OVERVIEW", "true")
    monkeypatch.setenv("CLARITY_SECRET_KEYS", "newest,older")
    settings = load_settings()
    assert settings.home == tmp_path / "elsewhere"
    assert settings.database_url_or_default == SecretStr("postgresql://db.example/clarity")
    assert settings.api_url == "http://127.0.0.1:8800/export-data/api/v1"
    assert settings.overview is True
    assert settings.secret_keys == SecretStr("newest,older")


def test_an_empty_database_url_means_the_embedded_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLARITY_DATABASE_URL", "")
    assert load_settings().database_url_or_default.get_secret_value().startswith("sqlite:///")


def test_webhooks_are_signed_with_a_secret_that_is_not_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not load_settings().can_sign_webhooks
    monkeypatch.setenv("CLARITY_WEBHOOK_SECRET", "")
    assert not load_settings().can_sign_webhooks
    monkeypatch.setenv("CLARITY_WEBHOOK_SECRET", "hunter2")
    assert load_settings().can_sign_webhooks


def test_secrets_are_not_in_the_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLARITY_DATABASE_URL", "postgresql://clarity:hunter2@db.example/clarity")
    monkeypatch.setenv("CLARITY_SECRET_KEYS", "hunter2")
    monkeypatch.setenv("CLARITY_WEBHOOK_SECRET", "hunter2")
    assert "hunter2" not in repr(load_settings())
    assert "hunter2" not in str(load_settings())


def test_a_setting_that_cannot_be_read_is_named_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLARITY_OVERVIEW", "hunter2")
    with pytest.raises(ConfigurationError, match="CLARITY_OVERVIEW cannot be read") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "url",
    [
        CLARITY_API_URL,
        "https://proxy.example:8443/clarity",
        "http://localhost:8800",
        "http://LOCALHOST:8800",
        "http://127.0.0.1:8800/export-data/api/v1",
        "http://127.8.8.8",
        "http://[::1]:8800",
    ],
)
def test_a_token_may_be_sent_by_https_or_to_this_machine(url: str) -> None:
    assert check_api_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "www.clarity.ms",
        "ftp://www.clarity.ms",
        "file:///etc/passwd",
        "https://",
        "https:///path",
        "http://www.clarity.ms",
        "http://10.0.0.1:8800",
        "http://0.0.0.0:8800",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "http://127.1",
        "http://[2001:db8::1]",
        "http://[::ffff:10.0.0.1]",
        "http://[::1",
        "https://www.clarity.ms:port",
        "https://www.clarity.ms:99999",
        "https://user:hunter2@www.clarity.ms",
        "https://hunter2@www.clarity.ms",
        "http://hunter2@www.clarity.ms",
    ],
)
def test_any_other_address_is_refused_without_repeating_secrets(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="CLARITY_API_URL") as caught:
        check_api_url(url)
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("CLARITY_API_URL", url)
    with pytest.raises(ConfigurationError, match="CLARITY_API_URL"):
        load_settings()


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("", False),
        ("0.0.0.0", False),
        ("example.com", False),
        ("127.0.0.1.example.com", False),
    ],
)
def test_loopback_is_decided_without_a_lookup(*, host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("url", "frames"),
    [
        ("http://127.0.0.1:8300", ""),
        ("http://localhost:9000/", ""),
        ("https://clarity.agency.example", ""),
        ("https://clarity.agency.example:8443/", "https://portal.client.example"),
        ("https://clarity.agency.example", "https://a.example  https://b.example:8443"),
        ("https://clarity.agency.example", "https://*.client.example"),
    ],
)
def test_the_panel_is_opened_by_https_or_on_this_machine(
    url: str, frames: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLARITY_PANEL_URL", url)
    monkeypatch.setenv("CLARITY_PANEL_FRAME_ANCESTORS", frames)
    settings = load_settings()
    assert (settings.panel_url, settings.panel_frame_ancestors) == (url, frames)


@pytest.mark.parametrize(
    ("url", "frames", "variable"),
    [
        ("", "", "CLARITY_PANEL_URL"),
        ("clarity.agency.example", "", "CLARITY_PANEL_URL"),
        ("ftp://clarity.agency.example", "", "CLARITY_PANEL_URL"),
        ("https://", "", "CLARITY_PANEL_URL"),
        ("https://clarity.agency.example/panel", "", "CLARITY_PANEL_URL"),
        ("https://clarity.agency.example?x=1", "", "CLARITY_PANEL_URL"),
        ("https://clarity.agency.example/#x", "", "CLARITY_PANEL_URL"),
        ("https://user:hunter2@clarity.agency.example", "", "CLARITY_PANEL_URL"),
        ("https://clarity.agency.example:port", "", "CLARITY_PANEL_URL"),
        ("https://[::1", "", "CLARITY_PANEL_URL"),
        ("http://clarity.agency.example", "", "CLARITY_PANEL_URL"),
        ("http://10.0.0.1:8300", "", "CLARITY_PANEL_URL"),
        ("http://127.0.0.1:8300", "https://portal.example", "CLARITY_PANEL_FRAME_ANCESTORS"),
        ("https://c.example", "http://portal.example", "CLARITY_PANEL_FRAME_ANCESTORS"),
        ("https://c.example", "portal.example", "CLARITY_PANEL_FRAME_ANCESTORS"),
        ("https://c.example", "*", "CLARITY_PANEL_FRAME_ANCESTORS"),
        ("https://c.example", "https://*", "CLARITY_PANEL_FRAME_ANCESTORS"),
        ("https://c.example", "https:", "CLARITY_PANEL_FRAME_ANCESTORS"),
        ("https://c.example", "https://a.example/path", "CLARITY_PANEL_FRAME_ANCESTORS"),
        ("https://c.example", "https://a.example?x", "CLARITY_PANEL_FRAME_ANCESTORS"),
        ("https://c.example", "https://a.example;script-src", "CLARITY_PANEL_FRAME_ANCESTORS"),
        ("https://c.example", "https://a.example,https://b", "CLARITY_PANEL_FRAME_ANCESTORS"),
        ("https://c.example", "https://[::1", "CLARITY_PANEL_FRAME_ANCESTORS"),
    ],
)
def test_an_address_that_makes_the_panel_unsafe_is_refused(
    url: str, frames: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLARITY_PANEL_URL", url)
    monkeypatch.setenv("CLARITY_PANEL_FRAME_ANCESTORS", frames)
    with pytest.raises(ConfigurationError, match=variable) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)
