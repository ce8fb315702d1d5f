"""What becomes of a signal that came while a stream was iterated."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from sabot_ray.runtime.signals import StopSignals
from tests.servers import wait_until


@pytest.fixture
def former() -> Iterator[list[int]]:
    """What reaches the handler that was installed before."""
    received: list[int] = []
    handler = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    yield received
    signal.signal(signal.SIGTERM, handler)


def test_signal_that_was_raised_reaches_the_former_handler_no_more(former: list[int]) -> None:
    with pytest.raises(SystemExit, match="143"), StopSignals() as signals:
        signal.raise_signal(signal.SIGTERM)
        signals.raise_received()

    with StopSignals():
        pass
    assert former == []


def test_signal_behind_which_the_body_ended_by_itself_reaches_the_former_handler(
    former: list[int],
) -> None:
    with StopSignals() as signals:
        signal.raise_signal(signal.SIGTERM)

    assert signals.received == signal.SIGTERM
    wait_until(lambda: former == [signal.SIGTERM])


def test_second_signal_is_raised_at_once(former: list[int]) -> None:
    with pytest.raises(KeyboardInterrupt), StopSignals():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert former == []
