"""Fills a topic with the rows of a shape, and knows what a reader must find there."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import confluent_kafka

from bench.data import SHAPES, Digest, encode
from tests.servers import KafkaBroker

_SLICE = 10_000


@dataclass(frozen=True)
class Backlog:
    """A topic of one partition, full of records.

    Attributes:
        name: The topic.
        shape: The records' shape.
        compression: As the producer names it.
        rows: How many there are.
        value_bytes: Bytes of their values, uncompressed.
        digest: What reading them must give.
    """

    name: str
    shape: str
    compression: str
    rows: int
    value_bytes: int
    digest: dict[str, int | str]


def fill(broker: KafkaBroker, shape_name: str, compression: str, rows: int, seed: int) -> Backlog:
    """Create a topic and write its records; every delivery is checked.

    Raises:
        RuntimeError: A record was not written.
    """
    shape = SHAPES[shape_name]
    name = f"bench-{shape_name}-{compression}"
    broker.create_topic(name, retention_ms=-1)
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "compression.type": compression,
            "enable.idempotence": True,
            "linger.ms": 20,
            # A broker that has just started lets the producer wait for its id, and that is no news.
            "log_level": 3,
            "queue.buffering.max.messages": 4 * _SLICE,
        }
    )
    failed: list[str] = []

    def acknowledge(error: confluent_kafka.KafkaError | None, _: object) -> None:
        if error is not None:
            failed.append(error.str())

    digest, value_bytes = Digest(shape), 0
    source = shape.rows(rows, seed)
    while part := list(itertools.islice(source, _SLICE)):
        digest.add((row["id"] for row in part), (row[shape.text] for row in part))
        for value in map(encode, part):
            value_bytes += len(value)
            while True:
                try:
                    producer.produce(name, value, partition=0, on_delivery=acknowledge)
                    break
                except BufferError:
                    producer.poll(0.05)
        producer.poll(0)
    missing = producer.flush(60)
    if missing or failed:
        raise RuntimeError(f"topic '{name}': {missing} records unacknowledged, errors {failed[:3]}")
    return Backlog(name, shape_name, compression, rows, value_bytes, digest.result())
