"""Ctrl-C and SIGTERM: the first asks a run to drain, the second, or a time limit, ends it."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

#: A job's stop kills 3 s after it asked; what is not done by then is abandoned before.
DRAIN_LIMIT_S = 2.5


class StopSignals:
    """Turns SIGINT and SIGTERM into a request while it is entered, and restores the handlers after.

    Outside the main thread, where Python allows no handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._deadline = float("inf")
        self._former: dict[int, Any] = {}
        self._timer: threading.Timer | None = None

    @property
    def remaining_s(self) -> float:
        """Seconds that are left to drain; infinite while nothing was received."""
        return max(self._deadline - time.monotonic(), 0.0)

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former.clear()

    def raise_received(self) -> None:
        """Raise what the received signal stands for, if there was one."""
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        if self.received == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            self.raise_received()
        self.received = number
        self._deadline = time.monotonic() + DRAIN_LIMIT_S
        # The loop's body may take longer: the same signal again interrupts it then.
        main = threading.main_thread().ident
        assert main is not None
        self._timer = threading.Timer(DRAIN_LIMIT_S, signal.pthread_kill, (main, number))
        self._timer.daemon = True
        self._timer.start()
