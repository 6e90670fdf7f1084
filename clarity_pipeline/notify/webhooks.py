"""Webhooks of rules: signed, by https, and never into the agency's own network.

Whoever writes a rule names the address; the machine that calls it stands behind the firewall. So
the name is looked up here, and the call goes to the very address that was looked at: a name that
answers differently the second time leads nowhere else. Proxies of the environment are not used,
because they would look the name up themselves. The address is often the secret of a chat, and is
in no message and no log.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from time import monotonic
from typing import Final

import httpx
from pydantic import SecretStr

from clarity_pipeline.domain.errors import WebhookRefused, WebhookUnavailable
from clarity_pipeline.settings import Settings

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 10.0
TOTAL_SECONDS: Final = 20.0

MOST_BODY_BYTES: Final = 256 * 1024
MOST_REPLY_BYTES: Final = 64 * 1024
"""What is read of an answer, of which only the status counts."""

LONGEST_PATIENCE: Final = timedelta(days=1)

_MAY_WORK_LATER: Final = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.CONFLICT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Sends to any public https address, and to `private_hosts` wherever they are.

    `secrets` sign; the newest first, and more than one while they are being changed. `tls` is what
    certificates are checked with.
    """

    secrets: Sequence[SecretStr]
    private_hosts: Collection[str] = frozenset()
    tls: ssl.SSLContext = field(default_factory=httpx.create_ssl_context, repr=False)
    read_seconds: float = READ_SECONDS
    total_seconds: float = TOTAL_SECONDS

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send JSON. Returns when the receiver has accepted it with a status of 2xx.

        Raises WebhookUnavailable when it may work later, and WebhookRefused when it never will;
        neither quotes the address.
        """
        if len(body) > MOST_BODY_BYTES:
            raise WebhookRefused(f"The message is larger than {MOST_BODY_BYTES:,} bytes.")
        outcome = self._exchange(url, body, headers)
        if isinstance(outcome, Exception):
            raise outcome

    def _exchange(
        self, url: str, body: bytes, headers: Mapping[str, str]
    ) -> WebhookUnavailable | WebhookRefused | None:
        """Failures are returned: raised inside an `except` they would carry the request, and with
        it the address, as their context."""
        address = _parse(url)
        if address is None:
            return WebhookRefused("A webhook has an https address.")
        found = self._look_up(address.host, address.port or 443)
        if not isinstance(found, str):
            return found
        request = httpx.Request(
            "POST",
            address.copy_with(host=found),
            content=body,
            headers={
                "Content-Type": "application/json",
                "User-Agent": "clarity-pipeline",
                **headers,
                "Host": address.netloc.decode("ascii"),
            },
            extensions={
                # The certificate has to be that of the name, whatever address it has.
                "sni_hostname": address.host,
                "timeout": {
                    "connect": CONNECT_SECONDS,
                    "read": self.read_seconds,
                    "write": READ_SECONDS,
                    "pool": CONNECT_SECONDS,
                },
            },
        )
        deadline = monotonic() + self.total_seconds
        try:
            # A transport alone follows no redirect, asks no proxy and logs no address.
            with httpx.HTTPTransport(verify=self.tls) as transport:
                response = transport.handle_request(request)
                _read(response, deadline=deadline)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            return _no_answer(error)
        return _judged(response)

    def _look_up(self, host: str, port: int) -> str | WebhookUnavailable | WebhookRefused:
        """The address to call. All of a name's have to be public: which one is used is chance."""
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return WebhookUnavailable("The webhook's host has no address; check its spelling.")
        addresses = [str(row[4][0]) for row in rows]
        if host not in self.private_hosts and not all(map(is_public, addresses)):
            return WebhookRefused(
                "The webhook's host is in a private network, where rules do not reach; if it may "
                "be called, name it in CLARITY_WEBHOOK_PRIVATE_HOSTS."
            )
        return addresses[0]


def make_webhooks(settings: Settings) -> Webhooks:
    """Webhooks with the secrets and the hosts of the settings; several are joined by blanks."""
    secret = settings.webhook_secret
    secrets = secret.get_secret_value().split() if secret is not None else []
    return Webhooks(
        [SecretStr(each) for each in secrets],
        frozenset(settings.webhook_private_hosts.lower().split()),
    )


def _parse(url: str) -> httpx.URL | None:
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL:
        return None
    return address if address.scheme == "https" and address.host else None


def is_public(address: str) -> bool:
    """Whether an address literal is one of the public internet, also inside another protocol's."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if inner is not None:
            return is_public(str(inner))
        if found in _NAT64 or found.teredo is not None:
            return False
    return found.is_global and not found.is_multicast and not found.is_reserved


_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def _read(response: httpx.Response, *, deadline: float) -> None:
    try:
        size = 0
        for piece in response.iter_raw():
            size += len(piece)
            if size > MOST_REPLY_BYTES or monotonic() > deadline:
                return
    finally:
        response.close()


def _no_answer(error: Exception) -> WebhookUnavailable | WebhookRefused:
    if isinstance(error, httpx.ConnectError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return WebhookRefused("The webhook's host has no certificate that can be trusted.")
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return WebhookUnavailable("The webhook's host could not be reached.")
    return WebhookUnavailable("The webhook did not answer; it may have arrived.")


def _judged(response: httpx.Response) -> WebhookUnavailable | WebhookRefused | None:
    status = response.status_code
    if 200 <= status < 300:
        return None
    if status in _MAY_WORK_LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return WebhookUnavailable(
            f"The webhook answered HTTP {status}.", retry_after=_patience(response)
        )
    if 300 <= status < 400:
        return WebhookRefused(
            f"The webhook answered with a redirect (HTTP {status}), which is never followed; write "
            "the address that it leads to into the rule."
        )
    return WebhookRefused(f"The webhook refused the message (HTTP {status}).")


def _patience(response: httpx.Response) -> timedelta | None:
    text = response.headers.get("retry-after", "")
    if not text.isdecimal():
        return None
    return min(timedelta(seconds=int(text[:9])), LONGEST_PATIENCE)
