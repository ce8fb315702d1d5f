"""Writing single records to a topic, each delivery checked: the contract of both clients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from sabot_ray.errors import ConfigError
from sabot_ray.kafka.config import KafkaConfig

#: Kafka's settings of a producer that may be given -> aiokafka's name; None: it has none.
PRODUCER_SETTINGS: Final[dict[str, str | None]] = {
    "compression.type": "compression_type",
    "linger.ms": "linger_ms",
    "batch.size": "max_batch_size",
    "max.request.size": "max_request_size",
    "delivery.timeout.ms": None,
}


@dataclass
class PartitionDeliveries:
    """What the brokers have acknowledged in one partition.

    Attributes:
        records: How many records.
        first_offset: The lowest offset; others may have written between it and the last.
        last_offset: The highest offset.
    """

    records: int = 0
    first_offset: int = -1
    last_offset: int = -1

    def add(self, offset: int) -> None:
        """Count an acknowledged record."""
        self.records += 1
        self.first_offset = offset if self.first_offset < 0 else min(self.first_offset, offset)
        self.last_offset = max(self.last_offset, offset)


@dataclass
class Deliveries:
    """What has become of the records of a `RecordWriter`.

    Attributes:
        written: Records handed to the writer.
        records: Those that the brokers have acknowledged.
        bytes: Bytes of their keys and values.
        failed: Those that were not written, as far as the client can tell.
        first_error: Why the first of these failed, and where; empty if none did.
        partitions: Where the acknowledged ones are.
    """

    written: int = 0
    records: int = 0
    bytes: int = 0
    failed: int = 0
    first_error: str = ""
    partitions: dict[int, PartitionDeliveries] = field(default_factory=dict)

    def delivered(self, partition: int, offset: int, size: int) -> None:
        """Count an acknowledged record."""
        self.records += 1
        self.bytes += size
        self.partitions.setdefault(partition, PartitionDeliveries()).add(offset)

    def fail(self, reason: str) -> None:
        """Count a record that was not written."""
        self.failed += 1
        self.first_error = self.first_error or reason


class RecordWriter(Protocol):
    """Writes records with every guarantee of the brokers: acks=all, idempotent. One thread only.

    Let no signal handler raise in its calls: confluent-kafka's may fail with a SystemError then.

    Keys choose partitions as Java's client does; records without a key are spread.
    """

    @property
    def deliveries(self) -> Deliveries:
        """What has become of the records; up to date after `poll` and `flush`."""

    def write(self, key: bytes | None, value: bytes | None) -> bool:
        """Hand a record to the client.

        Returns:
            Whether it was taken; False where the queue is full: `poll`, and write it again.

        Raises:
            KafkaError: The client refuses the record, for example because it is too large.
        """

    def poll(self, timeout_s: float) -> None:
        """Take up acknowledgements, waiting for the first one at most so long."""

    def flush(self, timeout_s: float) -> bool:
        """Wait until nothing is outstanding; tell whether that came in time."""

    def close(self) -> None:
        """Free the client; what is outstanding is given up. Idempotent."""


def connect_writer(config: KafkaConfig, topic: str, settings: Mapping[str, str]) -> RecordWriter:
    """Return a writer on confluent-kafka where that can be imported, else one on aiokafka.

    Args:
        config: How to reach the brokers.
        topic: Where to write.
        settings: Those of `PRODUCER_SETTINGS` that differ from the default, by Kafka's name.

    Raises:
        ConfigError: The client refuses a setting.
    """
    unknown = [name for name in settings if name not in PRODUCER_SETTINGS]
    if unknown:
        raise ConfigError(f"unknown setting of a producer '{unknown[0]}'")
    try:
        from sabot_ray.kafka.confluent_writer import ConfluentWriter
    except ImportError:
        from sabot_ray.kafka.aiokafka_writer import AiokafkaWriter

        return AiokafkaWriter(config, topic, settings)
    return ConfluentWriter(config, topic, settings)
