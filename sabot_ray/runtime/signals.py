"""Ctrl-C and SIGTERM: the first asks the runs to drain, the second, or a time limit, ends them."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any, ClassVar, NoReturn

#: A job's stop kills 3 s after it asked; what is not done by then is abandoned before.
DRAIN_LIMIT_S = 2.5


class StopSignals:
    """Turns SIGINT and SIGTERM into a request while it is entered.

    Several may be entered at a time, in any order: the first installs the handlers, the last
    restores the former ones. Outside the main thread, where Python allows no handlers, it does
    nothing.
    """

    _entered: ClassVar[set[StopSignals]] = set()
    _former: ClassVar[dict[int, Any]] = {}

    def __init__(self) -> None:
        self.received: int | None = None
        self._deadline = float("inf")
        self._timer: threading.Timer | None = None

    @property
    def remaining_s(self) -> float:
        """Seconds that are left to drain; infinite while nothing was received."""
        return max(self._deadline - time.monotonic(), 0.0)

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            if not self._entered:
                for number in (signal.SIGINT, signal.SIGTERM):
                    self._former[number] = signal.signal(number, _handle)
            self._entered.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def restore(self) -> None:
        """Do what leaving the context does, earlier. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        if threading.current_thread() is not threading.main_thread():
            # Python refuses it here; the main thread does it when it leaves the context.
            return
        self._entered.discard(self)
        if not self._entered:
            for number, handler in self._former.items():
                signal.signal(number, handler)
            self._former.clear()

    def raise_received(self) -> None:
        """Raise what the received signal stands for, if there was one."""
        if self.received is not None:
            _raise(self.received)

    def request(self, number: int) -> None:
        """Note a signal, and send it again when the time to drain is over."""
        self.received = number
        self._deadline = time.monotonic() + DRAIN_LIMIT_S
        main = threading.main_thread().ident
        assert main is not None
        # The loop's body may take longer: the same signal again interrupts it then.
        self._timer = threading.Timer(DRAIN_LIMIT_S, signal.pthread_kill, (main, number))
        self._timer.daemon = True
        self._timer.start()


def _handle(number: int, _frame: FrameType | None) -> None:
    if any(entered.received is not None for entered in StopSignals._entered):
        _raise(number)
    for entered in tuple(StopSignals._entered):
        entered.request(number)


def _raise(number: int) -> NoReturn:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
