"""A thread of its own for the event loop that aiokafka needs; its callers stay synchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from sabot_ray.errors import BrokerUnavailable

T = TypeVar("T")

#: Longest time that `EventLoopThread.close` waits for the loop's tasks, in seconds.
CLOSE_TIMEOUT_S = 1.0


class EventLoopThread:
    """Runs an asyncio event loop in a daemon thread; the methods are for all other threads."""

    def __init__(self) -> None:
        self._started = threading.Event()
        self._closed = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="sabot_ray-aiokafka", daemon=True)
        self._thread.start()
        self._started.wait()

    def run(self, coroutine: Coroutine[Any, Any, T], *, timeout_s: float | None = None) -> T:
        """Run a coroutine in the loop and return its result.

        Args:
            coroutine: What to run; it is cancelled if it does not finish in time.
            timeout_s: Longest time to wait, None for ever.

        Raises:
            BrokerUnavailable: It did not finish in time, or the loop is closed.
        """
        future = self.start(coroutine)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            # A time-out of the coroutine's own looks alike, and comes through.
            if not future.cancel():
                raise
            raise BrokerUnavailable(f"no answer within {timeout_s:g} s", retriable=True) from None
        except CancelledError:
            raise BrokerUnavailable("the client was closed meanwhile") from None

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine in the loop, and return at once.

        Raises:
            BrokerUnavailable: The loop is closed.
        """
        if self._closed.locked():
            coroutine.close()
            raise BrokerUnavailable("the client is closed")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call a function in the loop; nothing happens if the loop is closed."""
        if not self._closed.locked():
            self._loop.call_soon_threadsafe(callback)

    def close(self) -> None:
        """Cancel what still runs and end the thread. Idempotent, at most about a second."""
        if self._closed.acquire(blocking=False):
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        # The runner cancels and awaits whatever is left when the main coroutine returns.
        with asyncio.Runner() as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._started.set()
        await self._stop.wait()
