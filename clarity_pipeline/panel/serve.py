"""Serving the panel with uvicorn: where it listens, whom it believes, what it logs."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

import uvicorn

from clarity_pipeline.domain.errors import ConfigurationError
from clarity_pipeline.panel.app import create_app
from clarity_pipeline.panel.services import PanelServices
from clarity_pipeline.settings import Settings, is_loopback
from clarity_pipeline.store.database import Database

DEFAULT_PORT: Final = 8300
LOOPBACK: Final = ("127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class ServingPanel:
    """A panel whose port is open; `url` is where people find it."""

    url: str
    server: uvicorn.Server
    listener: socket.socket

    def run(self) -> None:
        """Answer until interrupted."""
        try:
            with imports_set_aside():
                asyncio.run(self.server.serve(sockets=[self.listener]))
        except KeyboardInterrupt:
            return


@contextmanager
def imports_set_aside() -> Generator[None]:
    """Garbage is not looked for among what is there already, the modules and the application.

    They stay as long as the panel does, and to look through them takes 200 ms of some request.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def open_panel(
    settings: Settings,
    database: Database,
    *,
    host: str,
    port: int | None,
    trusted_proxies: Sequence[str] | None,
    clock: Callable[[], datetime],
) -> Generator[ServingPanel]:
    """The panel on an open port; port 0 takes a free one, None that of CLARITY_PANEL_URL.

    Raises ConfigurationError for an address that is unsafe, taken, or not that of
    CLARITY_PANEL_URL, and for a proxy that is no address.
    """
    check_host(settings, host)
    proxies = proxies_to_trust(settings, trusted_proxies)
    listener = _listen(host, port_to_listen_on(settings, port))
    with listener:
        settings = settings.model_copy(update={"panel_url": _url(settings, listener)})
        app = create_app(PanelServices(settings=settings, database=database, clock=clock))
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=LOGGING,
            server_header=False,
            proxy_headers=bool(proxies),
            forwarded_allow_ips=proxies,
            timeout_graceful_shutdown=3,
        )
        yield ServingPanel(settings.panel_url.rstrip("/"), uvicorn.Server(config), listener)


def check_host(settings: Settings, host: str) -> None:
    """Raises ConfigurationError for plain http to other machines."""
    if not is_loopback(host) and urlsplit(settings.panel_url).scheme != "https":
        raise ConfigurationError(
            f"The panel listens on {host} only behind https, since passwords would cross the "
            "network readable: put a proxy with a certificate in front, and set CLARITY_PANEL_URL "
            "to its https address."
        )


def port_to_listen_on(settings: Settings, port: int | None) -> int:
    """Behind a proxy any port will do; else it must be the one that people are told.

    Raises ConfigurationError when it is not.
    """
    parts = urlsplit(settings.panel_url)
    if parts.scheme == "https" or "panel_url" not in settings.model_fields_set:
        return DEFAULT_PORT if port is None else port
    told = parts.port or 80
    if port is not None and port != told:
        raise ConfigurationError(
            f"CLARITY_PANEL_URL sends people to port {told}, but --port says {port}; leave one of "
            "the two out."
        )
    return told


def proxies_to_trust(settings: Settings, proxies: Sequence[str] | None) -> list[str]:
    """Whom uvicorn believes about where a request comes from.

    Everybody who is believed can pretend to be anybody, and so escape the waits after failed
    sign-ins. Raises ConfigurationError for what is neither an address nor a network.
    """
    if proxies is None:
        return list(LOOPBACK) if urlsplit(settings.panel_url).scheme == "https" else []
    for proxy in proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError:
            raise ConfigurationError(
                f"--trusted-proxy {proxy!r} is no address or network; write it like 10.0.0.7 or "
                "10.0.0.0/24."
            ) from None
    return list(proxies)


class WithoutQuery(logging.Filter):
    """Takes the query out of uvicorn's line about a request: an address's path says enough."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple) and len(record.args) == 5:
            client, method, path, version, status = record.args
            record.args = (client, method, str(path).partition("?")[0], version, status)
        return True


LOGGING: Final[dict[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"without_query": {"()": WithoutQuery}},
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "filters": ["without_query"],
        }
    },
    "loggers": {
        "uvicorn.access": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "uvicorn.error": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
        "clarity_pipeline.panel": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
    },
}
"""To standard error: a line for each request, and what goes wrong."""


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named; 40 ms per reply with it.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(512)
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigurationError(
            f"The panel cannot listen on {host} port {port}: {error}; choose another with --port."
        ) from None
    return listener


def _url(settings: Settings, listener: socket.socket) -> str:
    """CLARITY_PANEL_URL where somebody set it; else where the panel listens."""
    if "panel_url" in settings.model_fields_set:
        return settings.panel_url
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
