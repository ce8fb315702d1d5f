"""`ClusterClient` on confluent-kafka."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import confluent_kafka
from confluent_kafka import KafkaException

from sabot_ray.errors import (
    AuthenticationFailed,
    BrokerUnavailable,
    KafkaError,
    UnknownTopicOrPartition,
    from_librdkafka,
)
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.metadata import METADATA_TIMEOUT_S
from sabot_ray.types import Watermarks

_PARTITION_EOF = confluent_kafka.KafkaError._PARTITION_EOF


def client_logger() -> logging.Logger:
    """Return the logger for librdkafka's own lines, which would go to stderr otherwise."""
    return logging.getLogger("sabot_ray.librdkafka")


def kafka_error(error: confluent_kafka.KafkaError, what: str) -> KafkaError:
    """Translate an error of confluent-kafka; ``what`` says what was tried, and where."""
    return from_librdkafka(error.code(), error.name(), f"{what}: {error.str()} ({error.name()})")


class ConfluentClusterClient:
    """See `ClusterClient`."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._client_error: confluent_kafka.KafkaError | None = None
        self._consumer = self._new_consumer("sabot_ray")

    def _new_consumer(self, group_id: str) -> confluent_kafka.Consumer:
        settings: dict[str, Any] = {
            **self._config.librdkafka_settings(),
            # Any consumer needs one; committed() asks for this group's offsets.
            "group.id": group_id,
            "error_cb": self._on_client_error,
        }
        return confluent_kafka.Consumer(settings, logger=client_logger())

    def _on_client_error(self, error: confluent_kafka.KafkaError) -> None:
        # _ALL_BROKERS_DOWN only repeats what the errors before it told in detail.
        if self._client_error is None or error.code() != confluent_kafka.KafkaError._ALL_BROKERS_DOWN:
            self._client_error = error

    def _unavailable(self, what: str, error: confluent_kafka.KafkaError) -> KafkaError:
        """Say why the brokers did not answer: the reason comes through the error callback only."""
        self._consumer.poll(0)
        found = kafka_error(error, what)
        if not isinstance(found, BrokerUnavailable):
            return found
        servers = self._config.bootstrap_servers
        seen = self._client_error
        reason = f"; the client says: {seen.str()}" if seen else ""
        if seen and isinstance(kafka_error(seen, ""), AuthenticationFailed):
            return from_librdkafka(seen.code(), seen.name(), f"{what}: brokers {servers}{reason}")
        message = (
            f"{what}: no broker of {servers} answered within {METADATA_TIMEOUT_S:g} s{reason}; are host "
            "and port right, is a broker running there, does the listener ask for TLS or SASL?"
        )
        return BrokerUnavailable(message, found.code, found.name, retriable=True)

    def partitions(self, topic: str) -> list[int]:
        """See `ClusterClient.partitions`."""
        what = f"topic '{topic}'"
        try:
            metadata = self._consumer.list_topics(topic, timeout=METADATA_TIMEOUT_S)
        except KafkaException as error:
            raise self._unavailable(what, error.args[0]) from None
        found = metadata.topics[topic]
        if found.error is not None:
            translated = kafka_error(found.error, what)
            if isinstance(translated, UnknownTopicOrPartition):
                raise UnknownTopicOrPartition(
                    f"{what} does not exist on {self._config.bootstrap_servers}; create it first, or "
                    "check its spelling",
                    translated.code,
                    translated.name,
                )
            raise translated
        return sorted(found.partitions)

    def watermarks(self, topic: str, partitions: Sequence[int]) -> dict[int, Watermarks]:
        """See `ClusterClient.watermarks`."""
        deadline = time.monotonic() + METADATA_TIMEOUT_S
        found = {}
        for partition in partitions:
            what = f"topic '{topic}' partition {partition}: watermarks"
            try:
                # A read_committed consumer is told the last stable offset here.
                low, stable = self._consumer.get_watermark_offsets(
                    confluent_kafka.TopicPartition(topic, partition),
                    timeout=max(deadline - time.monotonic(), 0.1),
                )
            except KafkaException as error:
                raise self._unavailable(what, error.args[0]) from None
            found[partition] = Watermarks(low, stable, stable)
        return found

    def committed(self, group_id: str, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        """See `ClusterClient.committed`."""
        consumer = self._new_consumer(group_id)
        wanted = [confluent_kafka.TopicPartition(topic, partition) for partition in partitions]
        what = f"group '{group_id}' topic '{topic}': committed offsets"
        try:
            answer = consumer.committed(wanted, timeout=METADATA_TIMEOUT_S)
        except KafkaException as error:
            raise self._unavailable(what, error.args[0]) from None
        finally:
            consumer.close()
        return committed_offsets(answer, what)

    def sample(
        self, topic: str, ranges: Mapping[int, Sequence[tuple[int, int]]], records: int
    ) -> list[bytes | None]:
        """See `ClusterClient.sample`."""
        values: list[bytes | None] = []
        for partition, wanted in sorted(ranges.items()):
            for start, end in wanted:
                values += self._read(topic, partition, start, end, records)
        self._consumer.unassign()
        return values

    def _read(
        self, topic: str, partition: int, start: int, end: int, records: int
    ) -> list[bytes | None]:
        values: list[bytes | None] = []
        if start >= end:
            return values
        what = f"topic '{topic}' partition {partition}: sample from offset {start}"
        self._consumer.assign([confluent_kafka.TopicPartition(topic, partition, start)])
        deadline = time.monotonic() + METADATA_TIMEOUT_S
        while len(values) < records:
            batch = self._consumer.consume(records - len(values), timeout=0.05)
            for record in batch:
                error = record.error()
                if error is not None and error.code() == _PARTITION_EOF:
                    return values
                if error is not None:
                    raise kafka_error(error, what)
                if record.offset() >= end:
                    return values
                values.append(record.value())
            if batch:
                deadline = time.monotonic() + METADATA_TIMEOUT_S
            elif time.monotonic() > deadline:
                timed_out = confluent_kafka.KafkaError(confluent_kafka.KafkaError._TIMED_OUT)
                raise self._unavailable(what, timed_out)
        return values

    def close(self) -> None:
        """See `ClusterClient.close`."""
        self._consumer.close()


def committed_offsets(
    answer: Sequence[confluent_kafka.TopicPartition], what: str
) -> dict[int, int]:
    """Return partition -> committed offset from an answer of ``Consumer.committed``."""
    for entry in answer:
        if entry.error is not None:
            raise kafka_error(entry.error, what)
    return {entry.partition: entry.offset for entry in answer if entry.offset >= 0}
