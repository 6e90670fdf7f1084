"""Addresses of notices: what is accepted, and that none is ever repeated."""

from __future__ import annotations

import logging

import pytest
from pydantic import SecretStr

from clarity_pipeline.domain.errors import ConfigurationError
from clarity_pipeline.domain.notices import Severity
from clarity_pipeline.notify.addresses import Addresses, parse_addresses
from clarity_pipeline_tests.notify.receiver import SECRET, webhook


def send(addresses: Addresses) -> frozenset[int]:
    return addresses.send(title="Title", body="Body\nof <two> lines", severity=Severity.ERROR)


def test_a_notice_arrives_at_every_address_as_it_was_written() -> None:
    with webhook() as first, webhook() as second:
        addresses = parse_addresses(SecretStr(f" {first.url}\n{second.url} "))
        assert len(addresses) == 2
        assert send(addresses) == frozenset()
    for receiver in (first, second):
        [message] = receiver.arrived
        assert (message["title"], message["message"], message["type"]) == (
            "Title",
            "Body\nof <two> lines",
            "failure",
        )


def test_an_address_that_refuses_is_told_by_its_position() -> None:
    with webhook() as first, webhook() as second:
        addresses = parse_addresses(SecretStr(f"{first.url} {second.url}"))
        second.status = 500
        assert send(addresses) == {2}
        assert first.titles == ["Title"]
    assert send(addresses) == {1, 2}


@pytest.mark.parametrize("urls", [None, SecretStr(""), SecretStr(" \n ")])
def test_without_addresses_there_is_nothing_to_send_to(urls: SecretStr | None) -> None:
    assert len(parse_addresses(urls)) == 0


@pytest.mark.parametrize("bad", [f"nonsense://{SECRET}", SECRET, f"slack://{SECRET}"])
def test_an_address_nobody_understands_is_refused_by_its_position_alone(
    bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(ConfigurationError) as caught:
        parse_addresses(SecretStr(f"json://127.0.0.1 {bad}"))
    assert "Address 2 of CLARITY_NOTICE_URLS" in str(caught.value)
    assert SECRET not in str(caught.value) + caplog.text


def test_an_address_is_in_no_log_line_and_no_repr(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("urllib3.connectionpool", "apprise"):
        caplog.set_level(logging.DEBUG, logger=name)
    with caplog.at_level(logging.DEBUG), webhook() as receiver:
        addresses = parse_addresses(SecretStr(receiver.url))
        send(addresses)
        receiver.status = 403
        assert send(addresses) == {1}
    send(addresses)
    assert repr(addresses) == "Addresses(1)"
    assert SECRET not in "".join((repr(addresses), caplog.text, *capfd.readouterr()))
    assert "POST" not in caplog.text
