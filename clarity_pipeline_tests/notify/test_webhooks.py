"""Webhooks over real https: what is sent, what is not, and that no address is repeated."""

from __future__ import annotations

import logging
import socket
import traceback
from collections.abc import Generator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from clarity_pipeline.domain.errors import WebhookError, WebhookRefused, WebhookUnavailable
from clarity_pipeline.notify.webhooks import MOST_BODY_BYTES, Webhooks, is_public
from clarity_pipeline_tests.notify.receiver import SECRET
from clarity_pipeline_tests.notify.secure_receiver import SecureReceiver, secure_webhook


@pytest.fixture
def receiver(tmp_path: Path) -> Generator[SecureReceiver]:
    with secure_webhook(tmp_path) as listening:
        yield listening


def webhooks(receiver: SecureReceiver, **more: Any) -> Webhooks:
    return replace(Webhooks([], frozenset({"localhost"}), tls=receiver.tls), **more)


def post(sender: Webhooks, url: str, body: bytes = b"{}") -> None:
    sender.post(url, body, {"Idempotency-Key": "key"})


def test_a_message_arrives_as_it_was_written(receiver: SecureReceiver) -> None:
    post(webhooks(receiver), receiver.url, b'{"a": 1}')
    [(headers, body)] = receiver.arrived
    assert body == b'{"a": 1}'
    assert headers["Host"] == f"localhost:{receiver.port}"
    assert headers["Idempotency-Key"] == "key"
    assert headers["Content-Type"] == "application/json"


def test_no_proxy_of_the_environment_is_asked(
    receiver: SecureReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    post(webhooks(receiver), receiver.url)
    assert len(receiver.arrived) == 1


@pytest.mark.parametrize("status", [200, 202, 204])
def test_any_2xx_is_an_acceptance(receiver: SecureReceiver, status: int) -> None:
    receiver.status = status
    post(webhooks(receiver), receiver.url)


@pytest.mark.parametrize("status", [500, 503, 429, 408, 409, 425])
def test_what_may_work_later(receiver: SecureReceiver, status: int) -> None:
    receiver.status, receiver.headers = status, {"Retry-After": "120"}
    with pytest.raises(WebhookUnavailable) as caught:
        post(webhooks(receiver), receiver.url)
    assert caught.value.retry_after == timedelta(minutes=2)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_what_never_will(receiver: SecureReceiver, status: int) -> None:
    receiver.status = status
    with pytest.raises(WebhookRefused, match=f"HTTP {status}"):
        post(webhooks(receiver), receiver.url)


def test_a_redirect_is_not_followed(receiver: SecureReceiver) -> None:
    receiver.status, receiver.headers = 307, {"Location": receiver.url}
    with pytest.raises(WebhookRefused, match="redirect"):
        post(webhooks(receiver), receiver.url)
    assert len(receiver.arrived) == 1


def test_a_receiver_that_does_not_answer_may_have_got_it(receiver: SecureReceiver) -> None:
    receiver.delay_seconds = 1
    with pytest.raises(WebhookUnavailable, match="may have arrived"):
        post(webhooks(receiver, read_seconds=0.1), receiver.url)
    assert len(receiver.arrived) == 1


def test_an_answer_without_end_is_not_read_to_its_end(receiver: SecureReceiver) -> None:
    receiver.body = b"x" * 10_000_000
    post(webhooks(receiver), receiver.url)


def test_a_message_that_is_too_large_is_not_sent(receiver: SecureReceiver) -> None:
    with pytest.raises(WebhookRefused, match="larger than"):
        post(webhooks(receiver), receiver.url, b"x" * (MOST_BODY_BYTES + 1))
    assert receiver.arrived == []


# The agency's own network.


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_rule_does_not_reach_into_the_own_network(receiver: SecureReceiver, host: str) -> None:
    url = receiver.url.replace("localhost", host)
    with pytest.raises(WebhookRefused, match="CLARITY_WEBHOOK_PRIVATE_HOSTS"):
        post(webhooks(receiver, private_hosts=()), url)
    with pytest.raises(WebhookRefused, match="CLARITY_WEBHOOK_PRIVATE_HOSTS"):
        post(webhooks(receiver, private_hosts={"intranet"}), url)
    assert receiver.arrived == []


def test_the_call_goes_to_the_address_that_was_looked_at(
    receiver: SecureReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server of an attacker gives a public address to whoever asks first."""
    real, answers = socket.getaddrinfo, [("127.0.0.1", receiver.port), ("192.0.2.1", 1)]

    def look_up(host: Any, port: Any, *args: Any, **more: Any) -> Any:
        if host == "localhost":
            address, number = answers.pop(0)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, number))]
        return real(host, port, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    post(webhooks(receiver), receiver.url)
    assert (len(receiver.arrived), len(answers)) == (1, 1)


def test_of_a_name_with_several_addresses_all_have_to_be_public(
    receiver: SecureReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(_host: Any, port: Any, *_: Any, **__: Any) -> Any:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("93.184.215.14", "10.0.0.1")
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(WebhookRefused, match="private network"):
        post(webhooks(receiver), "https://hooks.example.com/")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
        "2001:0:53aa:64c:0:0:f5ff:fffe",
        "nonsense",
    ],
)
def test_addresses_that_are_not_of_the_public_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07::1", "::ffff:8.8.8.8"])
def test_addresses_that_are(address: str) -> None:
    assert is_public(address)


# TLS and secrets.


def test_a_certificate_that_nobody_vouches_for_is_refused(receiver: SecureReceiver) -> None:
    with pytest.raises(WebhookRefused, match="certificate"):
        post(Webhooks([], private_hosts={"localhost"}), receiver.url)
    assert receiver.arrived == []


def test_a_certificate_of_another_name_is_refused(
    receiver: SecureReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(_host: Any, port: Any, *_: Any, **__: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(WebhookRefused, match="certificate"):
        post(
            webhooks(receiver, private_hosts={"hooks.example.com"}),
            f"https://hooks.example.com:{receiver.port}/",
        )
    assert receiver.arrived == []


def test_plain_http_is_refused(receiver: SecureReceiver) -> None:
    with pytest.raises(WebhookRefused, match="https"):
        post(webhooks(receiver), receiver.url.replace("https", "http"))


def test_the_address_is_in_no_log_and_no_exception(
    receiver: SecureReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    told = ""
    with caplog.at_level(logging.DEBUG):
        post(webhooks(receiver), receiver.url)
        for status in (500, 404, 302):
            receiver.status = status
            with pytest.raises(WebhookError) as caught:
                post(webhooks(receiver), receiver.url)
            assert caught.value.__context__ is None
            told += "".join(traceback.format_exception(caught.value))
    assert SECRET not in told + caplog.text
