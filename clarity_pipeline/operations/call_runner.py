"""One asyncio loop per process on which all calls of a run overlap, however they are asked for."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Coroutine, Iterable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import AsyncExitStack
from typing import TypeVar

from clarity_pipeline.domain.collection import ComboOutcome, PlannedCall
from clarity_pipeline.operations.guarded_call import GuardedCaller

Result = TypeVar("Result")


class CallRunner:
    """Runs calls on a loop of its own thread; its caller says how many are out at once.

    An executor that runs one step after the other would make the network time of every step add
    up. So whoever plans a day may `announce` its calls: the first `outcomes` asked for then
    starts all of them, and later steps find theirs under way or done. Announcing sends nothing,
    and an announcement is known to this process only: where each step has a process of its own,
    every step makes exactly the calls it asks for.
    """

    def __init__(self, caller: GuardedCaller) -> None:
        self._caller = caller
        self._starting = threading.Lock()
        self._closed = False
        self._announced: list[PlannedCall] = []
        self._under_way: dict[PlannedCall, Future[ComboOutcome]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="clarity-calls", daemon=True
        )
        self._thread.start()
        self._client = AsyncExitStack()
        try:
            self._on_loop(self._client.enter_async_context(caller.client))
        except BaseException:
            self.close()
            raise

    def announce(self, calls: Iterable[PlannedCall]) -> None:
        """Say which calls will be asked for, in the order in which they should start."""
        self._announced.extend(calls)

    def outcomes(self, calls: Sequence[PlannedCall]) -> list[ComboOutcome]:
        """Make these calls, or wait for those under way; one outcome per call, in order.

        Raises CancelledError when the runner is closed meanwhile.
        """
        self._start((*self._announced, *calls))
        return [self._under_way.pop(call).result() for call in calls]

    def close(self) -> None:
        """Give up what is still under way and end the thread. Slots taken stay taken."""
        with self._starting:
            if self._closed:
                return
            self._closed = True
        self._on_loop(self._shut_down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _start(self, calls: Sequence[PlannedCall]) -> None:
        # Whoever closes waits for this: a call handed to a loop that has ended is never answered.
        with self._starting:
            if self._closed:
                raise CancelledError
            self._announced.clear()
            for call in calls:
                if call not in self._under_way:
                    self._under_way[call] = asyncio.run_coroutine_threadsafe(
                        self._caller.make(call), self._loop
                    )

    def _on_loop(self, work: Coroutine[object, object, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _shut_down(self) -> None:
        unfinished = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if unfinished:
            # A connection that is given up while it is being made leaves this coroutine behind, and
            # whoever stops a sync would be warned of it, whenever that is collected.
            warnings.filterwarnings(
                "ignore",
                r"coroutine 'connect_tcp\.<locals>\.try_connect' was never awaited",
                RuntimeWarning,
            )
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        await self._client.aclose()
        await asyncio.get_running_loop().shutdown_default_executor()
