"""`to_kafka(delivery="exactly_once")` on a real broker: records and offsets in one transaction."""

from __future__ import annotations

import json
import time
from typing import Any

import confluent_kafka
import confluent_kafka.admin
import orjson
import pyarrow as pa
import pytest

from sabot_ray import ConfigError, EncodeError, Fenced, SinkError
from sabot_ray.testing import EmbeddedKafka, Record
from tests.conftest import MakeTopic, Produce
from tests.faults.processes import readers
from tests.kafka.reading import await_no_transaction, has_open_transaction, read_all
from tests.ray.conftest import kill_readers_at, written
from tests.servers import KafkaBroker, wait_until


@pytest.fixture
def numbers(make_topic: MakeTopic, produce: Produce) -> str:
    """A topic of three partitions with the numbers 0 to 2999."""
    topic = make_topic(partitions=3)
    produce(topic, records(range(3000)))
    return topic


def records(numbers: range) -> list[Record]:
    return [Record(b'{"n":%d}' % n, b"k%d" % (n % 3), partition=n % 3) for n in numbers]


def committed(broker: KafkaBroker, topic: str) -> dict[int, confluent_kafka.TopicPartition]:
    """Return what the group of the topic's name has committed."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": topic}
    )
    try:
        wanted = [confluent_kafka.TopicPartition(topic, number) for number in range(3)]
        answer = consumer.committed(wanted, timeout=10)
    finally:
        consumer.close()
    return {entry.partition: entry for entry in answer if entry.offset >= 0}


def test_copy_is_whole_and_its_offsets_are_committed_with_it(
    read_numbers, copy, broker: KafkaBroker, numbers: str, make_topic: MakeTopic
) -> None:
    target = make_topic(partitions=3)
    stream = read_numbers(numbers, end="latest", metadata=["_kafka_key"])

    output = copy(stream, target, key="_kafka_key")

    assert written(broker, target) == list(range(3000))
    assert output.status().rows == 3000
    assert {p: entry.offset for p, entry in committed(broker, numbers).items()} == {
        0: 1000,
        1: 1000,
        2: 1000,
    }
    await_no_transaction(broker.bootstrap_servers, target)
    # In order within a key.
    for partition in range(3):
        rows = [r for r in read_all(broker, target) if r.key == b"k%d" % partition]
        found = [orjson.loads(row.value)["n"] for row in rows]
        assert found == sorted(found)


def test_second_run_writes_what_is_new(
    read_numbers, copy, broker: KafkaBroker, numbers: str, topic: str, produce: Produce
) -> None:
    stream = read_numbers(numbers, end="latest")
    copy(stream, topic)
    produce(numbers, records(range(3000, 3030)))
    copy(stream, topic)

    assert written(broker, topic) == list(range(3030))


def test_rows_that_a_filter_drops_are_committed_too(
    read_numbers, copy, broker: KafkaBroker, numbers: str, topic: str
) -> None:
    copy(read_numbers(numbers, end="latest").filter(lambda b: b["n"] < 0), topic)

    assert written(broker, topic) == []
    assert sum(entry.offset for entry in committed(broker, numbers).values()) == 3000


def test_nothing_is_visible_before_its_transaction_and_nothing_is_open_when_idle(
    read_numbers, copy, broker: KafkaBroker, numbers: str, topic: str
) -> None:
    output = copy(read_numbers(numbers), topic, interval_s=3.0, wait=False)
    wait_until(lambda: has_open_transaction(broker.bootstrap_servers, topic), 30.0)
    assert written(broker, topic) == []
    wait_until(lambda: output.status().rows == 3000, 30.0)

    await_no_transaction(broker.bootstrap_servers, topic)
    assert written(broker, topic) == list(range(3000))


def test_stop_commits_at_once(
    read_numbers, copy, broker: KafkaBroker, numbers: str, topic: str
) -> None:
    output = copy(read_numbers(numbers), topic, interval_s=10.0, wait=False)
    wait_until(lambda: has_open_transaction(broker.bootstrap_servers, topic), 30.0)
    began = time.monotonic()
    output.stop()

    assert time.monotonic() - began < 8
    await_no_transaction(broker.bootstrap_servers, topic)
    found = written(broker, topic)
    assert len(found) == sum(entry.offset for entry in committed(broker, numbers).values())


@pytest.mark.parametrize("start", ["committed", "earliest"])
def test_killed_readers_lose_and_double_nothing(
    read_numbers, copy, broker: KafkaBroker, make_topic: MakeTopic, produce: Produce, topic: str,
    start: str,
) -> None:  # fmt: skip
    source = make_topic(partitions=3)
    produce(source, records(range(30_000)))
    stream = read_numbers(source, start=start, readers=2)
    output = copy(stream, topic, interval_s=0.1, wait=False)
    kill_readers_at(output, 1, 3000, 9000)
    wait_until(lambda: sum(e.offset for e in committed(broker, source).values()) == 30_000, 60.0)
    output.stop()

    assert written(broker, topic) == list(range(30_000))
    assert output.status().restarts >= 1
    await_no_transaction(broker.bootstrap_servers, topic)


def test_reader_that_was_replaced_writes_nothing_once_it_thaws(
    read_numbers, copy, broker: KafkaBroker, numbers: str, topic: str, produce: Produce
) -> None:
    output = copy(read_numbers(numbers, readers=1), topic, wait=False)
    wait_until(lambda: output.status().rows == 3000, 30.0)
    (zombie,) = readers(kind="TransactionalReader")
    zombie.suspend()
    try:
        produce(numbers, records(range(3000, 3300)))
        wait_until(lambda: output.status().rows == 3300, 60.0)
    finally:
        zombie.resume()
    wait_until(lambda: not zombie.is_running() or zombie.status() == "zombie", 10.0)
    output.stop()

    assert written(broker, topic) == list(range(3300))


def test_second_driver_takes_over_and_the_first_is_fenced(
    read_numbers, copy, broker: KafkaBroker, numbers: str, topic: str, produce: Produce
) -> None:
    stream = read_numbers(numbers)
    first = copy(stream, topic, wait=False)
    wait_until(lambda: first.status().rows > 0, 30.0)
    second = copy(stream, topic, wait=False)
    with pytest.raises(Fenced, match="another driver took over"):
        first.wait(30.0)
    produce(numbers, records(range(3000, 3300)))
    wait_until(lambda: len(written(broker, topic)) >= 3300, 30.0)
    second.stop()

    assert written(broker, topic) == list(range(3300))


def test_topic_that_grows_keeps_its_slots(
    read_numbers, copy, broker: KafkaBroker, numbers: str, topic: str, produce: Produce
) -> None:
    output = copy(read_numbers(numbers, metadata_refresh_s=1), topic, wait=False)
    wait_until(lambda: output.status().rows == 3000, 30.0)
    broker.add_partitions(numbers, 5)
    more = [Record(b'{"n":%d}' % n, partition=3 + n % 2) for n in range(3000, 3100)]
    produce(numbers, more)
    wait_until(lambda: len(written(broker, topic)) >= 3100, 60.0)
    output.stop()

    assert written(broker, topic) == list(range(3100))
    kept = {json.loads(entry.metadata)["slots"] for entry in committed(broker, numbers).values()}
    assert kept == {3}


def test_schema_that_grows_is_written_without_doubles(
    read_numbers, copy, broker: KafkaBroker, make_topic: MakeTopic, produce: Produce, topic: str
) -> None:
    source = make_topic(partitions=3)
    produce(
        source,
        [
            Record(b'{"n":%d,"m":1}' % n if n >= 500 else b'{"n":%d}' % n, partition=n % 3)
            for n in range(1000)
        ],
    )
    copy(read_numbers(source, unknown_fields="evolve", end="latest"), topic)

    assert written(broker, topic) == list(range(1000))
    rows = [orjson.loads(record.value) for record in read_all(broker, topic)]
    assert sum(row.get("m") == 1 for row in rows) == 500


def test_slow_function_does_not_outlive_its_transaction(
    read_numbers, copy, broker: KafkaBroker, make_topic: MakeTopic, produce: Produce, topic: str
) -> None:
    source = make_topic()
    produce(source, [Record(b'{"n":%d}' % n) for n in range(4)])

    def slow(batch: pa.RecordBatch) -> pa.RecordBatch:
        time.sleep(2.0)
        return batch

    opened = []
    output = copy(
        read_numbers(source, end="latest", batch_size=1).map(slow), topic, interval_s=1, wait=False
    )
    while not output.wait(0.05):
        opened.append(has_open_transaction(broker.bootstrap_servers, topic))

    assert written(broker, topic) == list(range(4))
    # One of the first batch may wait for the second; the later ones do not.
    assert sum(opened) < len(opened) / 2


# errors


def test_row_that_cannot_be_encoded_leaves_what_came_before(
    read_numbers, copy, broker: KafkaBroker, make_topic: MakeTopic, produce: Produce, topic: str
) -> None:
    source = make_topic()
    produce(source, [Record(b'{"n":%d}' % n) for n in range(300)])

    def broken(batch: pa.RecordBatch) -> pa.RecordBatch:
        infinite = [float("inf") if n == 250 else 0.0 for n in batch["n"].to_pylist()]
        return batch.append_column("x", pa.array(infinite))

    with pytest.raises(EncodeError, match=r"offsets 200 to 299: .* field \$\.x"):
        copy(read_numbers(source, end="latest").map(broken), topic)

    assert written(broker, topic) == list(range(200))
    assert committed(broker, source)[0].offset == 200
    await_no_transaction(broker.bootstrap_servers, topic)


def test_record_that_is_refused_commits_nothing_of_its_transaction(
    read_numbers, copy, broker: KafkaBroker, make_topic: MakeTopic, produce: Produce
) -> None:
    source, small = make_topic(), make_topic(max_message_bytes=1000)
    produce(source, [Record(b'{"t":"%s"}' % (b"x" * n)) for n in (1, 2, 5000, 3)])
    stream = read_numbers(source, schema={"t": "string"}, end="latest", batch_size=1)

    with pytest.raises(SinkError, match=rf"topic '{small}'.* was not written: (?i:.*large)"):
        copy(stream, small, compression_type="none")

    assert len(read_all(broker, small)) == sum(e.offset for e in committed(broker, source).values())
    await_no_transaction(broker.bootstrap_servers, small)


@pytest.mark.parametrize(
    ("source", "sink", "message"),
    [
        ({"group": None}, {}, "pass a group_id to from_kafka"),
        ({"backend": "aiokafka"}, {}, "needs the native backend on both sides"),
        ({}, {"use_cpp": False}, "needs the native backend on both sides"),
        ({}, {"interval_s": 11.0}, "interval_s: .* at most 10 s"),
        ({"enable_auto_commit": False}, {}, "enable_auto_commit=False"),
        ({"on_data_loss": "warn"}, {}, "leave out on_data_loss='warn'"),
    ],
)
def test_what_exactly_once_cannot_cover_is_refused(
    read_numbers, copy, numbers: str, topic: str, source: dict[str, Any], sink: dict[str, Any],
    message: str,
) -> None:  # fmt: skip
    with pytest.raises(ConfigError, match=message):
        copy(read_numbers(numbers, **source), topic, **sink)


def test_streams_of_a_union_need_ids_of_their_own(
    read_numbers, copy, numbers: str, topic: str
) -> None:
    streams = [read_numbers(numbers, group, stream_id="one") for group in ("a", "b")]
    with pytest.raises(ConfigError, match="two streams of the union have the stream_id 'one'"):
        copy(streams[0].union(streams[1]), topic)


def test_target_on_another_cluster_is_refused(read_numbers, numbers: str) -> None:
    with EmbeddedKafka() as other:
        other.create_topic("target", 1)
        with pytest.raises(ConfigError, match="the source is on another one than the target"):
            read_numbers(numbers, end="latest").to_kafka(
                other.bootstrap_servers, "target", delivery="exactly_once"
            )
