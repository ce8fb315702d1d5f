"""The way to a `ClusterClient`."""

from __future__ import annotations

from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.metadata import ClusterClient


def connect_cluster(config: KafkaConfig) -> ClusterClient:
    """Return a client of confluent-kafka where that can be imported, else one of aiokafka."""
    try:
        from sabot_ray.kafka.confluent_metadata import ConfluentClusterClient
    except ImportError:
        from sabot_ray.kafka.aiokafka_metadata import AiokafkaClusterClient

        return AiokafkaClusterClient(config)
    return ConfluentClusterClient(config)
