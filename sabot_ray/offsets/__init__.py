"""Keeps the progress of a stream."""

from __future__ import annotations

from collections.abc import Collection

from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.offsets.kafka_group_aiokafka import AiokafkaGroupStore
from sabot_ray.offsets.store import OffsetStore, TransactionalStore
from sabot_ray.types import TopicPartition


def open_kafka_group(
    config: KafkaConfig, group_id: str, stream_id: str, partitions: Collection[TopicPartition]
) -> OffsetStore:
    """Return the Kafka group's store: of confluent-kafka where it imports, else of aiokafka."""
    try:
        from sabot_ray.offsets.kafka_group import KafkaGroupStore
    except ImportError:
        return AiokafkaGroupStore(config, group_id, stream_id, partitions)
    return KafkaGroupStore(config, group_id, stream_id, partitions)


def open_transactional_group(
    config: KafkaConfig, group_id: str, stream_id: str, partitions: Collection[TopicPartition]
) -> TransactionalStore:
    """Return the same for offsets that are committed in transactions.

    Raises:
        ImportError: confluent-kafka cannot be imported.
    """
    from sabot_ray.offsets.kafka_group import KafkaGroupStore

    return KafkaGroupStore(config, group_id, stream_id, partitions, is_transactional=True)
