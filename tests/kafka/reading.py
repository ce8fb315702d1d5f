"""What the tests of sources share: a small schema, specs, and reading a range to its end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import confluent_kafka
import pyarrow as pa
from confluent_kafka import TopicPartition

from sabot_ray.codecs.json import JsonCodec
from sabot_ray.kafka.cluster import connect_cluster
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.source import PartitionSource, SourceSpec
from sabot_ray.schema import METADATA_FIELDS
from tests.servers import KafkaBroker, wait_until

#: The values of these tests: ``{"n": 17}``.
NUMBERS = pa.schema([pa.field("n", pa.int64())])


def number(n: int) -> bytes:
    """Return the value of record ``n``."""
    return b'{"n": %d}' % n


def numbers_spec(
    broker: KafkaBroker,
    topic: str,
    columns: Iterable[str] = ("n", "_kafka_offset"),
    config: dict[str, Any] | None = None,
    **options: Any,
) -> SourceSpec:
    """Return a spec for a topic of numbers; ``config`` holds Kafka settings."""
    return SourceSpec(
        KafkaConfig(broker.bootstrap_servers, **(config or {})),
        topic,
        JsonCodec(NUMBERS, options.pop("unknown_fields", "ignore")),
        tuple(columns),
        **options,
    )


def numbered(rows: Iterable[tuple[int | None, int]]) -> pa.Table:
    """Return the table of number and offset that `numbers_spec` gives."""
    rows = list(rows)
    schema = pa.schema([*NUMBERS, METADATA_FIELDS["_kafka_offset"]])
    columns = [[n for n, _ in rows], [offset for _, offset in rows]]
    return pa.table(columns, schema=schema)


def read_to(
    source: PartitionSource, offset: int, *, max_rows: int = 1000, timeout_s: float = 5.0
) -> pa.Table:
    """Poll until the position has reached ``offset``, and return all rows.

    Raises:
        TimeoutError: It was not reached in time.
    """
    deadline = time.monotonic() + timeout_s
    batches = []
    while source.position() < offset:
        if time.monotonic() > deadline:
            raise TimeoutError(f"position {source.position()} instead of {offset} ({batches})")
        position = source.position()
        batch = source.poll(max_rows, timeout_s=0.2)
        assert batch.schema.equals(source.schema, check_metadata=True)
        assert batch.num_rows <= max_rows
        assert source.position() >= position + batch.num_rows
        batches.append(batch)
    return pa.Table.from_batches(batches, source.schema).combine_chunks()


def delete_records(broker: KafkaBroker, topic: str, before: int = -1) -> None:
    """Delete the records before an offset, -1 for all: the low watermark moves there."""
    for deleted in broker.admin.delete_records([TopicPartition(topic, 0, before)]).values():
        deleted.result(10)


class Found(NamedTuple):
    """A record as a plain client reads it."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    timestamp_ms: int


def read_all(broker: KafkaBroker, topic: str) -> list[Found]:
    """Return the committed records of a topic, in the order of their partitions and offsets."""
    return list(read_each(broker, topic))


def read_each(broker: KafkaBroker, topic: str) -> Iterator[Found]:
    """Yield what `read_all` returns, for topics that are too large to be kept."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": "plain",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    count = 0
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        for number in sorted(partitions):
            consumer.assign([TopicPartition(topic, number, 0)])
            is_at_end = False
            deadline = time.monotonic() + 20
            while not is_at_end:
                assert time.monotonic() < deadline, f"{topic}[{number}]: {count} records so far"
                for message in consumer.consume(1000, timeout=0.5):
                    if message.error() is not None:
                        assert message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF
                        is_at_end = True
                        continue
                    count += 1
                    yield Found(
                        number,
                        message.key(),
                        message.value(),
                        message.headers() or [],
                        message.timestamp()[1],
                    )
    finally:
        consumer.close()


def has_open_transaction(bootstrap_servers: str, topic: str) -> bool:
    """Return whether something holds up who reads what is committed in a topic."""
    client = connect_cluster(KafkaConfig(bootstrap_servers))
    try:
        marks = client.watermarks(topic, client.partitions(topic))
    finally:
        client.close()
    return any(mark.last_stable != mark.high for mark in marks.values())


def await_no_transaction(bootstrap_servers: str, topic: str) -> None:
    """Check that none is open: brokers write the last markers a little after the commit."""
    wait_until(lambda: not has_open_transaction(bootstrap_servers, topic), 5.0)
