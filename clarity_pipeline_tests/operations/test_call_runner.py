"""Calls overlap on one loop, whoever asks for them and in whatever order."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Coroutine, Generator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from typing import Any, cast

import pytest

from clarity_pipeline.domain.collection import ComboOutcome, ComboStatus, PlannedCall
from clarity_pipeline.domain.dimensions import DEFAULT_COMBOS
from clarity_pipeline.domain.quota import Purpose
from clarity_pipeline.operations.call_runner import CallRunner


class RecordingClient:
    """Stands where the HTTP client does; says whether it was opened and closed."""

    def __init__(self) -> None:
        self.opened = self.closed = False

    async def __aenter__(self) -> RecordingClient:
        self.opened = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed = True


@dataclass
class RecordingCaller:
    """Answers a call when `release` is set; records how many were under way at once."""

    client: RecordingClient = field(default_factory=RecordingClient)
    release: threading.Event = field(default_factory=threading.Event)
    made: list[PlannedCall] = field(default_factory=lambda: list[PlannedCall]())
    under_way: int = 0
    most_under_way: int = 0

    async def make(self, call: PlannedCall) -> ComboOutcome:
        self.made.append(call)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        while not self.release.is_set():
            await asyncio.sleep(0.001)
        self.under_way -= 1
        return ComboOutcome(call.business_id, call.combo.dimension_set, ComboStatus.LANDED)


@contextmanager
def running(caller: RecordingCaller) -> Generator[CallRunner]:
    runner = CallRunner(cast("Any", caller))
    try:
        yield runner
    finally:
        caller.release.set()
        runner.close()


CALLS = [
    PlannedCall(f"b{number}", "abc123", date(2026, 11, 1), combo, Purpose.SCHEDULE)
    for number in range(5)
    for combo in DEFAULT_COMBOS
]


def wait_until_made(caller: RecordingCaller, count: int) -> None:
    for _ in range(5000):
        if len(caller.made) >= count:
            return
        threading.Event().wait(0.001)
    pytest.fail(f"only {len(caller.made)} of {count} calls were made")


def ask_in_background(runner: CallRunner, calls: list[PlannedCall]) -> threading.Thread:
    thread = threading.Thread(target=runner.outcomes, args=(calls,))
    thread.start()
    return thread


def test_the_first_step_that_asks_starts_all_announced_calls() -> None:
    caller = RecordingCaller()
    with running(caller) as runner:
        runner.announce(CALLS)
        asking = ask_in_background(runner, CALLS[:1])
        wait_until_made(caller, len(CALLS))
        caller.release.set()
        asking.join()
        assert caller.most_under_way == len(CALLS)
        rest = runner.outcomes(CALLS[1:])
    assert [outcome.business_id for outcome in rest] == [call.business_id for call in CALLS[1:]]
    assert caller.made == CALLS


def test_announcing_alone_sends_nothing() -> None:
    caller = RecordingCaller()
    caller.release.set()
    with running(caller) as runner:
        runner.announce(CALLS)
    assert caller.made == []


def test_without_an_announcement_exactly_the_calls_asked_for_are_made() -> None:
    caller = RecordingCaller()
    caller.release.set()
    with running(caller) as runner:
        runner.outcomes(CALLS[:3])
    assert caller.made == CALLS[:3]


def test_closing_gives_up_what_is_under_way_and_closes_the_client() -> None:
    caller = RecordingCaller()
    runner = CallRunner(cast("Any", caller))
    runner.announce(CALLS)
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            runner.outcomes(CALLS[:1])
        except BaseException as error:  # noqa: BLE001 - the kind is what is tested
            failures.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until_made(caller, len(CALLS))
    runner.close()
    asking.join()
    assert caller.client.closed
    assert failures
    runner.close()
    with pytest.raises(CancelledError):
        runner.outcomes(CALLS[:1])


def connect_tcp() -> Coroutine[None, None, None]:
    """What anyio leaves behind where a connection is given up while it is being made."""

    async def try_connect() -> None: ...

    return try_connect()


class LeavingCaller(RecordingCaller):
    async def make(self, call: PlannedCall) -> ComboOutcome:
        left: list[object] = [connect_tcp()]
        left.append(left)
        return await super().make(call)


def test_nobody_is_warned_of_what_a_call_that_is_given_up_leaves_behind() -> None:
    caller = LeavingCaller()
    gc.disable()
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            runner = CallRunner(cast("Any", caller))
            asking = threading.Thread(target=lambda: suppressed(runner))
            asking.start()
            wait_until_made(caller, 1)
            runner.close()
            asking.join()
            gc.collect()
    finally:
        gc.enable()
    assert [str(each.message) for each in warned] == []


def suppressed(runner: CallRunner) -> None:
    with suppress(CancelledError):
        runner.outcomes(CALLS[:1])
