"""When the calls of a run say that the network is gone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarity_pipeline.domain.errors import (
    AuthenticationFailed,
    ConnectionBroken,
    ConnectTimedOut,
    ExportError,
    ReplyTimedOut,
    ServiceUnavailable,
)
from clarity_pipeline.domain.network import DOWN_AFTER_BUSINESSES, NetworkWatch

BROKEN = ConnectionBroken("x")
ANSWERS = [
    None,
    ServiceUnavailable("x", http_status=503),
    AuthenticationFailed("x", http_status=401),
]


def watch(*calls: tuple[str, ExportError | None]) -> NetworkWatch:
    watching = NetworkWatch()
    for business_id, failure in calls:
        watching.note(business_id, failure)
    return watching


@pytest.mark.parametrize("failure", [BROKEN, ConnectTimedOut("x")])
def test_several_businesses_without_a_connection_are_our_own_network(failure: ExportError) -> None:
    calls = [(f"b{number}", failure) for number in range(DOWN_AFTER_BUSINESSES)]
    assert not watch(*calls[:-1]).is_down
    assert watch(*calls).is_down


def test_a_single_business_is_its_own_trouble_however_often_it_fails() -> None:
    assert not watch(*[("acme", BROKEN)] * 50).is_down


@pytest.mark.parametrize("answer", ANSWERS)
@given(position=st.integers(0, 10))
def test_whoever_got_an_answer_before_or_after_proves_the_network(
    *, answer: ExportError | None, position: int
) -> None:
    calls: list[tuple[str, ExportError | None]] = [(f"b{n}", BROKEN) for n in range(10)]
    calls.insert(position, ("other", answer))
    assert not watch(*calls).is_down


@pytest.mark.parametrize("failure", [ReplyTimedOut("x"), AuthenticationFailed("not even sent")])
def test_a_reply_that_does_not_come_says_nothing_of_the_network(failure: ExportError) -> None:
    assert not watch(*[(f"b{n}", failure) for n in range(10)]).is_down
    assert watch(("x", failure), ("a", BROKEN), ("b", BROKEN), ("c", BROKEN)).is_down
