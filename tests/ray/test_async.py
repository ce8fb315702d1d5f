"""`async for` over a stream."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import Produce
from tests.ray.conftest import ReadTopic
from tests.ray.test_progress import committed
from tests.servers import KafkaBroker, wait_until

NUMBERS = {"n": "int64"}


@pytest.fixture
def numbers(topic: str, produce: Produce) -> str:
    """A topic of one partition with the numbers 0 to 99."""
    produce(topic, [{"n": n} for n in range(100)])
    return topic


def test_async_iteration_gives_all_rows_and_commits_them(
    read_topic: ReadTopic, numbers: str, broker: KafkaBroker
) -> None:
    stream = read_topic(numbers, numbers, schema=NUMBERS, end="latest", batch_size=30)

    async def read() -> list[int]:
        return [n async for batch in stream for n in batch["n"].to_pylist()]

    assert asyncio.run(read()) == list(range(100))
    assert committed(broker, numbers, numbers) == 100


def test_async_iteration_leaves_the_event_loop_to_others(
    read_topic: ReadTopic, numbers: str
) -> None:
    async def read() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        async for _ in read_topic(numbers, schema=NUMBERS, end="latest"):
            pass
        ticking.cancel()
        return ticks

    # Starting a reader takes longer than this.
    assert asyncio.run(read()) > 5


def test_cancelled_task_ends_an_idle_stream_and_keeps_what_was_acknowledged(
    read_topic: ReadTopic, numbers: str, broker: KafkaBroker
) -> None:
    # Continuous: after the records it waits for ever.
    stream = read_topic(numbers, numbers, schema=NUMBERS, batch_size=60, auto_commit_interval_ms=50)

    async def read() -> int:
        rows = 0

        async def count() -> None:
            nonlocal rows
            async for batch in stream:
                rows += batch.num_rows

        counting = asyncio.create_task(count())
        # The last batch is acknowledged by a thread that asks for another one.
        await asyncio.to_thread(
            wait_until, lambda: committed(broker, numbers, numbers) == 100, timeout_s=30.0
        )
        counting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await counting
        return rows

    assert asyncio.run(read()) == 100
    assert committed(broker, numbers, numbers) == 100
