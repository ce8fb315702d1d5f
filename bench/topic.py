"""Fills a topic with the rows of a shape, and knows what a reader must find there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType

import confluent_kafka

from bench.data import DEFAULT_SEED, SHAPES, Digest, encode
from tests.servers import KafkaBroker

_SLICE = 10_000


@dataclass(frozen=True)
class Backlog:
    """A topic full of records.

    Attributes:
        name: The topic.
        shape: The records' shape.
        compression: As the producer names it.
        rows: How many there are.
        value_bytes: Bytes of their values, uncompressed.
        digest: What reading them must give.
        partitions: How many partitions it has.
    """

    name: str
    shape: str
    compression: str
    rows: int
    value_bytes: int
    digest: dict[str, int | str]
    partitions: int = 1

    def __str__(self) -> str:
        """Say what it is, in a line."""
        parts = f", {self.partitions} partitions" if self.partitions > 1 else ""
        return f"{self.rows:,} {self.shape} records, {self.compression}{parts}"


class _Writer:
    """A producer whose every delivery is checked when the context is left.

    Raises:
        RuntimeError: A record was not written.
    """

    def __init__(self, broker: KafkaBroker, topic: str, compression: str) -> None:
        self._topic = topic
        failed: list[str] = []

        def note(error: confluent_kafka.KafkaError | None, _: object) -> None:
            if error is not None:
                failed.append(error.str())

        self._failed = failed
        self._producer = confluent_kafka.Producer(
            {
                "bootstrap.servers": broker.bootstrap_servers,
                "compression.type": compression,
                "enable.idempotence": True,
                "linger.ms": 20,
                # A broker that has just started lets the producer wait for its id: no news.
                "log_level": 3,
                "queue.buffering.max.messages": 4 * _SLICE,
                # A callback for each record that was written would be slow.
                "delivery.report.only.error": True,
                # No method: in a cycle with this object the client would outlive its broker.
                "on_delivery": note,
            }
        )

    def __enter__(self) -> _Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        missing = self._producer.flush(60 if kind is None else 0)
        if kind is None and (missing or self._failed):
            raise RuntimeError(
                f"topic '{self._topic}': {missing} records unacknowledged, "
                f"errors {self._failed[:3]}"
            )

    def write(self, values: Iterable[bytes], partition_of: Callable[[int], int]) -> None:
        """Write records to the partition that the function gives for each one's number."""
        for number, value in enumerate(values):
            while True:
                try:
                    self._producer.produce(self._topic, value, partition=partition_of(number))
                    break
                except BufferError:
                    self._producer.poll(0.05)
        self._producer.poll(0)


def fill(
    broker: KafkaBroker,
    shape_name: str,
    compression: str,
    rows: int,
    seed: int,
    partitions: int = 1,
) -> Backlog:
    """Create a topic and write its records; every delivery is checked.

    Each partition gets a run of consecutive ids, one partition after the other, so that the
    producer's batches are as large as they are with one partition.

    Raises:
        RuntimeError: A record was not written.
    """
    shape = SHAPES[shape_name]
    name = f"bench-{shape_name}-{compression}-{rows}-{partitions}"
    broker.create_topic(name, partitions)
    digest, value_bytes, done = Digest(shape), 0, 0
    source = shape.rows(rows, seed)
    with _Writer(broker, name, compression) as writer:
        while part := list(itertools.islice(source, _SLICE)):
            digest.add((row["id"] for row in part), (row[shape.text] for row in part))
            values = list(map(encode, part))
            value_bytes += sum(map(len, values))
            writer.write(values, lambda number, done=done: (done + number) * partitions // rows)
            done += len(part)
    return Backlog(name, shape_name, compression, rows, value_bytes, digest.result(), partitions)


def fill_bytes(
    broker: KafkaBroker, topic: str, shape_name: str, partitions: int, size_bytes: int
) -> int:
    """Write about so many bytes of records to a topic, fast: the same 10,000 again and again.

    Returns:
        How many records each partition got.
    """
    values = list(map(encode, SHAPES[shape_name].rows(_SLICE, DEFAULT_SEED)))
    slices = max(1, size_bytes // (partitions * sum(map(len, values))))
    with _Writer(broker, topic, "none") as writer:
        for _ in range(slices):
            for partition in range(partitions):
                writer.write(values, lambda _, partition=partition: partition)
    return slices * _SLICE
