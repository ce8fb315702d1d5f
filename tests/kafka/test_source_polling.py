"""How `poll` cuts the log into batches, and what seek and close do to it."""

from __future__ import annotations

import asyncio
import threading
import time

import pyarrow as pa
import pytest

from sabot_ray.kafka.backend import connect_source_client
from sabot_ray.schema import METADATA_FIELDS
from sabot_ray.testing import Record
from sabot_ray.types import SourceStats
from tests.kafka.reading import NUMBERS, number, numbered, numbers_spec, read_to


def offsets(batch) -> list[int]:
    return batch.column("_kafka_offset").to_pylist()


def test_poll_idle_topic_gives_empty_batch_with_schema(broker, topic, open_source):
    source = open_source(numbers_spec(broker, topic))
    schema = pa.schema([*NUMBERS, METADATA_FIELDS["_kafka_offset"]])
    expected = pa.RecordBatch.from_pylist([], schema=schema)
    assert source.poll(10, timeout_s=0.3).equals(expected, check_metadata=True)
    assert source.schema.equals(schema, check_metadata=True)
    assert source.position() == 0


def test_poll_without_time_out_returns_at_once(broker, topic, open_source):
    source = open_source(numbers_spec(broker, topic))
    began = time.monotonic()
    assert source.poll(10, timeout_s=0).num_rows == 0
    assert time.monotonic() - began < 1


def test_poll_returns_first_record_before_the_time_out(broker, topic, open_source, produce):
    source = open_source(numbers_spec(broker, topic))
    writer = threading.Timer(0.3, produce, (topic, [number(0)]))
    writer.start()
    began = time.monotonic()
    assert offsets(source.poll(10, timeout_s=30)) == [0]
    assert time.monotonic() - began < 10
    writer.join()


def test_poll_with_max_rows_keeps_the_rest_for_the_next_poll(broker, topic, open_source, produce):
    produce(topic, map(number, range(10)), linger_ms=200)
    source = open_source(numbers_spec(broker, topic), end_offset=10)
    seen = []
    while source.position() < 10:
        batch = source.poll(4, timeout_s=5)
        seen.append(offsets(batch))
        assert source.position() == seen[-1][-1] + 1
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_backlog_is_what_lies_ahead_of_the_position(broker, topic, open_source, produce):
    produce(topic, map(number, range(10)), linger_ms=200)
    source = open_source(numbers_spec(broker, topic))
    source.poll(4, timeout_s=5)
    assert (source.position(), source.backlog()) == (4, 6)
    while source.position() < 10:
        source.poll(10, timeout_s=5)
    assert source.backlog() == 0


def test_poll_joins_small_record_batches_into_one(broker, topic, open_source, produce):
    for n in range(5):
        produce(topic, [number(n)])
    source = open_source(numbers_spec(broker, topic, linger_s=1.0), end_offset=5)
    assert offsets(source.poll(100, timeout_s=5)) == [0, 1, 2, 3, 4]


def test_poll_closes_batch_with_the_record_that_reaches_max_batch_bytes(
    broker, topic, open_source, produce
):
    # Each key and value is 10 bytes together.
    produce(topic, [Record(b'{"n": %d}' % n, b"kk") for n in range(7)], linger_ms=200)
    spec = numbers_spec(broker, topic, max_batch_bytes=25, linger_s=1.0)
    source = open_source(spec, end_offset=7)
    assert offsets(source.poll(100, timeout_s=5)) == [0, 1, 2]
    assert offsets(source.poll(100, timeout_s=5)) == [3, 4, 5]
    assert offsets(source.poll(100, timeout_s=5)) == [6]


def test_poll_with_max_batch_bytes_below_a_record_gives_one_row(
    broker, topic, open_source, produce
):
    produce(topic, [number(0), number(1)], linger_ms=200)
    source = open_source(numbers_spec(broker, topic, max_batch_bytes=1), end_offset=2)
    assert offsets(source.poll(100, timeout_s=5)) == [0]
    assert offsets(source.poll(100, timeout_s=5)) == [1]


def test_poll_with_linger_waits_for_more_records(broker, topic, open_source, produce):
    produce(topic, [number(0)])
    source = open_source(numbers_spec(broker, topic, linger_s=10.0), end_offset=2)
    writer = threading.Timer(0.5, produce, (topic, [number(1)]))
    writer.start()
    assert offsets(source.poll(100, timeout_s=30)) == [0, 1]
    writer.join()


def test_poll_with_linger_returns_when_the_batch_is_full(broker, topic, open_source, produce):
    produce(topic, map(number, range(3)))
    source = open_source(numbers_spec(broker, topic, linger_s=60.0))
    assert offsets(source.poll(3, timeout_s=30)) == [0, 1, 2]


def test_read_many_record_batches_gives_every_row_once(broker, topic, open_source, produce):
    produce(topic, map(number, range(20_000)), batch_size=4096)
    spec = numbers_spec(broker, topic, prefetch_bytes=100_000)
    source = open_source(spec, end_offset=20_000)
    rows = read_to(source, 20_000, max_rows=777, timeout_s=30)
    assert rows.equals(numbered((n, n) for n in range(20_000)))


def test_seek_back_gives_the_same_rows_again(broker, topic, open_source, produce):
    produce(topic, map(number, range(6)), linger_ms=200)
    source = open_source(numbers_spec(broker, topic), end_offset=6)
    first = read_to(source, 6)
    source.seek(2)
    assert source.position() == 2
    assert read_to(source, 6).equals(first.slice(2).combine_chunks())


def test_seek_drops_what_was_left_over(broker, topic, open_source, produce):
    produce(topic, map(number, range(10)), linger_ms=200)
    source = open_source(numbers_spec(broker, topic), end_offset=10)
    assert offsets(source.poll(2, timeout_s=5)) == [0, 1]
    source.seek(7)
    assert read_to(source, 10).equals(numbered((n, n) for n in (7, 8, 9)))


def test_seek_to_the_end_finishes(broker, topic, open_source, produce):
    produce(topic, map(number, range(3)))
    source = open_source(numbers_spec(broker, topic), end_offset=3)
    source.seek(3)
    assert source.poll(10, timeout_s=30).num_rows == 0
    assert source.position() == 3


def test_close_wakes_a_blocked_poll(broker, topic, open_source):
    source = open_source(numbers_spec(broker, topic))
    closer = threading.Timer(0.3, source.close)
    closer.start()
    began = time.monotonic()
    assert source.poll(10, timeout_s=60).num_rows == 0
    assert time.monotonic() - began < 5
    closer.join()


def test_close_ends_quickly_and_again_does_nothing(broker, topic, open_source, produce):
    produce(topic, map(number, range(3)))
    source = open_source(numbers_spec(broker, topic))
    assert source.poll(1, timeout_s=5).num_rows == 1
    began = time.monotonic()
    source.close()
    source.shutdown()
    assert time.monotonic() - began < 2
    assert source.poll(10, timeout_s=60).num_rows == 0


def test_close_of_one_source_leaves_the_other_reading(backend, broker, topic, make_topic, produce):
    produce(topic, [number(0)])
    other = make_topic()
    spec = numbers_spec(broker, topic)
    client = connect_source_client(backend, spec.config, spec.prefetch_bytes)
    try:
        closed = client.open_source(numbers_spec(broker, other), 0, 0)
        source = client.open_source(spec, 0, 0, 1)
        closed.close()
        assert read_to(source, 1).equals(numbered([(0, 0)]))
    finally:
        client.close()
    assert source.poll(10, timeout_s=60).num_rows == 0


def test_stats_count_what_was_consumed(broker, topic, open_source, produce):
    produce(topic, [Record(number(0), b"key"), Record(None, b"key"), number(2)])
    source = open_source(numbers_spec(broker, topic), end_offset=3)
    assert source.stats() == SourceStats()
    read_to(source, 3)
    assert source.stats() == SourceStats(records=3, bytes=22, tombstones=1)


def test_get_next_batch_waits_for_rows(broker, topic, open_source, produce):
    source = open_source(numbers_spec(broker, topic))

    async def read():
        waiting = asyncio.ensure_future(source.get_next_batch())
        await asyncio.to_thread(produce, topic, [number(0)])
        return await asyncio.wait_for(waiting, 10)

    assert offsets(asyncio.run(read())) == [0]


def test_get_next_batch_at_the_end_is_empty(broker, topic, open_source, produce):
    produce(topic, [number(0)])
    source = open_source(numbers_spec(broker, topic), end_offset=1)

    async def read():
        return [offsets(await source.get_next_batch()) for _ in range(2)]

    assert asyncio.run(asyncio.wait_for(read(), 20)) == [[0], []]


def test_get_next_batch_cancelled_when_rows_are_there_loses_no_row(
    broker, topic, open_source, produce, wait_until
):
    produce(topic, [number(0)])
    source = open_source(numbers_spec(broker, topic))

    async def read():
        reading = asyncio.ensure_future(source.get_next_batch())
        await asyncio.sleep(0)
        # The loop stands still, so the rows arrive without anybody taking note of them.
        wait_until(source._async_poll.done)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        return await asyncio.wait_for(source.get_next_batch(), 10)

    assert offsets(asyncio.run(read())) == [0]


def test_get_next_batch_cancelled_loses_no_row(broker, topic, open_source, produce):
    source = open_source(numbers_spec(broker, topic))

    async def read():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(source.get_next_batch(), 0.2)
        await asyncio.to_thread(produce, topic, [number(0)])
        return await asyncio.wait_for(source.get_next_batch(), 10)

    assert offsets(asyncio.run(read())) == [0]


def test_get_next_batch_of_a_closed_source_is_empty(broker, topic, open_source, produce):
    produce(topic, [number(0)])
    source = open_source(numbers_spec(broker, topic))

    async def read():
        first = await source.get_next_batch()
        source.close()
        return [offsets(first), offsets(await source.get_next_batch())]

    assert asyncio.run(asyncio.wait_for(read(), 20)) == [[0], []]


def test_get_next_batch_for_several_tasks_gives_each_row_to_one(
    broker, topic, open_source, produce
):
    source = open_source(numbers_spec(broker, topic), end_offset=20)

    async def read():
        rows = []
        while seen := offsets(await source.get_next_batch(1)):
            rows += seen
        return rows

    async def read_in_tasks():
        tasks = [asyncio.create_task(read()) for _ in range(3)]
        # All of them wait when the rows come.
        await asyncio.sleep(0)
        await asyncio.to_thread(produce, topic, map(number, range(20)))
        return await asyncio.wait_for(asyncio.gather(*tasks), 20)

    read_by_task = asyncio.run(read_in_tasks())
    assert sorted(offset for rows in read_by_task for offset in rows) == list(range(20))
