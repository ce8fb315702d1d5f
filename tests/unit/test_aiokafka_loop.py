"""The event loop's thread: results, errors, time-outs, and its end."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from sabot_ray.errors import BrokerUnavailable
from sabot_ray.kafka.aiokafka_loop import EventLoopThread


@pytest.fixture
def loop():
    loop = EventLoopThread()
    yield loop
    loop.close()


def test_run_returns_the_result_from_another_thread(loop):
    async def name() -> str:
        return threading.current_thread().name

    assert loop.run(name()) == "sabot_ray-aiokafka"


def test_run_raises_what_the_coroutine_raises(loop):
    async def fail() -> None:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        loop.run(fail(), timeout_s=5)


def test_run_past_its_time_cancels_the_coroutine(loop):
    cancelled = threading.Event()

    async def hang() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    with pytest.raises(BrokerUnavailable, match=r"no answer within 0\.1 s"):
        loop.run(hang(), timeout_s=0.1)
    assert cancelled.wait(5)


def test_close_cancels_what_runs_and_ends_the_thread(loop):
    closer = threading.Timer(0.1, loop.close)
    closer.start()
    with pytest.raises(BrokerUnavailable, match="closed meanwhile"):
        loop.run(asyncio.sleep(60))
    closer.join()
    assert "sabot_ray-aiokafka" not in {thread.name for thread in threading.enumerate()}


def test_close_is_idempotent_and_quick(loop):
    began = time.monotonic()
    loop.close()
    loop.close()
    assert time.monotonic() - began < 2


def test_run_after_close_is_an_error(loop):
    loop.close()
    with pytest.raises(BrokerUnavailable, match="the client is closed"):
        loop.run(asyncio.sleep(0))
    loop.call_soon(pytest.fail)
