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
        self._raised = False
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
        """Do what leaving the context does, earlier. Idempotent.

        A signal that nobody has raised yet, because the loop's body ended the loop by itself, is
        sent once more: now whoever handled it before hears of it.
        """
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
            if self.received is not None and not self._raised:
                self._raised = True
                # Not here and now: this may be a generator's end, where exceptions are dropped.
                _send_later(self.received, 0.0)

    def raise_received(self) -> None:
        """Raise what the received signal stands for, if there was one."""
        if self.received is not None:
            self._raise()

    def request(self, number: int) -> None:
        """Note a signal, and send it again when the time to drain is over."""
        self.received = number
        self._deadline = time.monotonic() + DRAIN_LIMIT_S
        # The loop's body may take longer: the same signal again interrupts it then.
        self._timer = _send_later(number, DRAIN_LIMIT_S)

    def _raise(self) -> NoReturn:
        assert self.received is not None
        for entered in (self, *self._entered):
            # One exception is enough for all that were asked.
            entered._raised = entered.received is not None
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + self.received)


def _send_later(number: int, delay_s: float) -> threading.Timer:
    """Send a signal to the main thread."""
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(delay_s, signal.pthread_kill, (main, number))
    timer.daemon = True
    timer.start()
    return timer


def _handle(number: int, _frame: FrameType | None) -> None:
    for entered in StopSignals._entered:
        if entered.received is not None:
            entered.received = number
            entered._raise()
    for entered in tuple(StopSignals._entered):
        entered.request(number)
