"""`RecordWriter` on confluent-kafka."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import confluent_kafka
from confluent_kafka import KafkaException

from sabot_ray.errors import ConfigError
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.confluent_metadata import client_logger, client_settings, kafka_error
from sabot_ray.kafka.record_writer import Deliveries

_DEFAULTS: Final = {
    "enable.idempotence": "true",
    "compression.type": "lz4",
    "linger.ms": "5",
    # Java's, so that keys land where other clients put them.
    "partitioner": "murmur2_random",
    # The default would take up to a gigabyte before a write waits.
    "queue.buffering.max.kbytes": "65536",
}
#: Settings of consumers, which a producer would warn about.
_CONSUMER_ONLY: Final = (
    "allow.auto.create", "auto.offset.", "check.crcs", "enable.auto.", "enable.partition.eof",
    "fetch.", "heartbeat.", "isolation.level", "max.partition.", "max.poll.", "queued.", "session.",
)  # fmt: skip


class ConfluentWriter:
    """See `RecordWriter`."""

    def __init__(self, config: KafkaConfig, topic: str, settings: Mapping[str, str]) -> None:
        self._topic = topic
        self._deliveries = Deliveries()
        wanted: dict[str, Any] = {
            name: value
            for name, value in client_settings(config).items()
            if not name.startswith(_CONSUMER_ONLY)
        }
        wanted |= {**_DEFAULTS, **settings}
        # Java's name for it.
        if "max.request.size" in wanted:
            wanted["message.max.bytes"] = wanted.pop("max.request.size")
        wanted["on_delivery"] = self._on_delivery
        try:
            self._producer = confluent_kafka.Producer(wanted, logger=client_logger())
        except KafkaException as error:
            raise ConfigError(f"librdkafka refuses the settings: {error.args[0].str()}") from None

    @property
    def deliveries(self) -> Deliveries:
        """See `RecordWriter.deliveries`."""
        return self._deliveries

    def _on_delivery(
        self, error: confluent_kafka.KafkaError | None, message: confluent_kafka.Message
    ) -> None:
        partition = message.partition()
        if error is not None:
            where = f"topic '{self._topic}' partition {partition}"
            self._deliveries.fail(f"{where}: {error.str()} ({error.name()})")
            return
        size = len(message.key() or b"") + len(message.value() or b"")
        self._deliveries.delivered(partition or 0, message.offset() or 0, size)

    def write(self, key: bytes | None, value: bytes | None) -> bool:
        """See `RecordWriter.write`."""
        try:
            self._producer.produce(self._topic, value, key)
        except BufferError:
            return False
        except KafkaException as error:
            raise kafka_error(error.args[0], f"topic '{self._topic}'") from None
        self._deliveries.written += 1
        return True

    def poll(self, timeout_s: float) -> None:
        """See `RecordWriter.poll`."""
        self._producer.poll(timeout_s)

    def flush(self, timeout_s: float) -> bool:
        """See `RecordWriter.flush`."""
        return not self._producer.flush(timeout_s)

    def close(self) -> None:
        """See `RecordWriter.close`."""
        self._producer.purge()
        self._producer.flush(0)
