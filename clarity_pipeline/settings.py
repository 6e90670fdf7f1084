"""Every environment variable of the project, in one class; nothing else reads the environment."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from clarity_pipeline.domain.errors import ConfigurationError

CLARITY_API_URL: Final = "https://www.clarity.ms/export-data/api/v1"
META_API_URL: Final = "https://graph.facebook.com/v25.0"
DAGSTER_POSTGRES_SCHEME: Final = "postgresql+psycopg2://"


class Settings(BaseSettings):
    """Read with `load_settings`; every field has a default that works on a laptop."""

    model_config = SettingsConfigDict(env_prefix="CLARITY_", hide_input_in_errors=True)

    home: Path = Field(
        default=Path(".clarity"),
        description="Embedded database, secret key file and Dagster home.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="SQLAlchemy URL; a SQLite file in the home directory when unset.",
    )
    api_url: str = Field(
        default=CLARITY_API_URL, description="Base of the Export API; http only to loopback."
    )
    overview: bool = Field(
        default=False, description="Make the fifth call; a business can override it."
    )
    secret_keys: SecretStr | None = Field(
        default=None,
        description="Fernet keys, newest first, joined by commas; a key file in home when unset.",
    )

    auth_failures_before_disable: int = Field(
        default=1,
        ge=1,
        le=100,
        description="Refusals of a token in a row (401, 403) that switch its business off.",
    )
    recovery: bool = Field(
        default=False,
        description="Recover missed days from 48 and 72 hour replies, with calls that are free.",
    )
    notice_urls: SecretStr | None = Field(
        default=None, description="Apprise addresses that notices go to, joined by blanks."
    )
    meta_api_url: str = Field(
        default=META_API_URL,
        description="Meta's Graph API with its version; http only to loopback.",
    )
    webhook_secret: SecretStr | None = Field(
        default=None,
        description="Signs what rules send to webhooks; no rule with one can be armed without it. "
        "Two joined by a blank both sign, while receivers change to the first.",
    )
    webhook_private_hosts: str = Field(
        default="",
        description="Hosts of the own network that webhooks may go to, joined by blanks.",
    )
    keep_payload_days: int | None = Field(
        default=None, ge=4, description="Days that raw_payload is kept; for ever when unset."
    )
    keep_exports_days: int | None = Field(
        default=None, ge=4, description="Days that landed bodies are kept; for ever when unset."
    )
    keep_runs_days: int | None = Field(
        default=None, ge=4, description="Days that Dagster's runs and their events are kept."
    )
    panel_url: str = Field(
        default="http://127.0.0.1:8300",
        description="Address at which people open the panel; https makes its cookies secure.",
    )
    panel_frame_ancestors: str = Field(
        default="",
        description="Sites that may show the panel in a frame, joined by blanks; none when unset.",
    )

    dagster_home_override: str | None = Field(
        default=None,
        validation_alias="DAGSTER_HOME",
        description="Dagster's own variable; a directory in home when unset.",
    )
    dagster_postgres_url: SecretStr | None = Field(
        default=None,
        validation_alias="DAGSTER_POSTGRES_URL",
        description="Where Dagster keeps its runs and events; SQLite files in its home when unset.",
    )

    @property
    def database_url_or_default(self) -> SecretStr:
        """The configured URL, or the embedded SQLite file."""
        if self.database_url is not None and self.database_url.get_secret_value():
            return self.database_url
        return SecretStr(f"sqlite:///{self.home.resolve() / 'clarity.db'}")

    @property
    def can_sign_webhooks(self) -> bool:
        return bool(self.webhook_secret and self.webhook_secret.get_secret_value())

    @property
    def dagster_on_postgresql(self) -> bool:
        """Whether Dagster's own storage is to be PostgreSQL."""
        return bool(self.dagster_postgres_url and self.dagster_postgres_url.get_secret_value())

    @property
    def secret_key_file(self) -> Path:
        return self.home / "secret.key"

    @property
    def dagster_home(self) -> Path:
        """Where Dagster keeps its instance: the UI and the command line must agree on it."""
        if self.dagster_home_override:
            return Path(self.dagster_home_override).resolve()
        return self.home.resolve() / "dagster"


def load_settings() -> Settings:
    """Read the environment. Raises ConfigurationError naming the variable, never its value."""
    try:
        settings = Settings()
    except ValidationError as error:
        names = ", ".join(
            f"CLARITY_{'_'.join(str(part) for part in problem['loc']).upper()}"
            for problem in error.errors()
        )
        raise ConfigurationError(f"{names} cannot be read; see the README for its form.") from None
    check_api_url(settings.api_url)
    check_api_url(settings.meta_api_url, variable="CLARITY_META_API_URL")
    check_panel_addresses(settings)
    if settings.dagster_postgres_url is not None:
        check_dagster_postgres_url(settings.dagster_postgres_url)
    return settings


def check_api_url(url: str, *, variable: str = "CLARITY_API_URL") -> str:
    """Refuse an address that a token must not be sent to. Raises ConfigurationError."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        raise ConfigurationError(f"{variable} is not an address.") from None
    if parts.scheme not in {"http", "https"} or not host:
        raise ConfigurationError(f"{variable} must be an https address (or http on this machine).")
    if parts.username or parts.password:
        raise ConfigurationError(f"{variable} must not contain a user name or password.")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            f"{variable} uses plain http to {host}; a token is sent by https, or by http to this "
            "machine only."
        )
    return url


def check_panel_addresses(settings: Settings) -> None:
    """Refuse addresses that would make the panel's cookies or its frames unsafe.

    Raises ConfigurationError.
    """
    parts = _origin(settings.panel_url)
    if parts is None or parts.scheme not in {"http", "https"} or parts.hostname is None:
        raise ConfigurationError(
            "CLARITY_PANEL_URL must be an address like https://clarity.example.com, without a path."
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ConfigurationError(
            "CLARITY_PANEL_URL must be an https address (or http on this machine): passwords are "
            "typed there."
        )
    ancestors = settings.panel_frame_ancestors.split()
    if ancestors and parts.scheme != "https":
        raise ConfigurationError(
            "CLARITY_PANEL_FRAME_ANCESTORS needs an https CLARITY_PANEL_URL: browsers send no "
            "cookie to a frame without it."
        )
    for ancestor in ancestors:
        site = _origin(ancestor)
        # A browser takes `https://*` for every site there is.
        is_every = site is not None and site.hostname == "*"
        if site is None or site.scheme != "https" or is_every or {";", ","} & set(ancestor):
            raise ConfigurationError(
                "CLARITY_PANEL_FRAME_ANCESTORS must be https addresses without a path, joined by "
                "blanks."
            )


def _origin(url: str) -> SplitResult | None:
    """The parts of an address that names a site and nothing else; None for any other."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    if parts.path not in {"", "/"} or "?" in url or "#" in url or "@" in parts.netloc:
        return None
    return parts if parts.hostname else None


def check_dagster_postgres_url(url: SecretStr) -> None:
    """Refuse an address with which Dagster 1.13 fails at its first event.

    It needs psycopg2, while SQLAlchemy 2.1 takes psycopg 3 for an address that names no driver.
    Raises ConfigurationError, never quoting the address: it may hold a password.
    """
    text = url.get_secret_value()
    if text and not text.startswith(DAGSTER_POSTGRES_SCHEME):
        raise ConfigurationError(
            "DAGSTER_POSTGRES_URL must name the driver that Dagster works with; write it as "
            f"{DAGSTER_POSTGRES_SCHEME}user:password@host/database."
        )


def is_loopback(host: str) -> bool:
    """Whether a host name or address literal stays on this machine, decided without a look-up."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
