"""Kafka as a fast, trustworthy source of Ray: typed Arrow record batches, resumable streams."""

from importlib.metadata import version as _version

from sabot_ray.codecs.json import JsonCodec
from sabot_ray.errors import (
    AuthenticationFailed,
    AuthorizationFailed,
    BackendUnavailable,
    BatchLost,
    BrokerUnavailable,
    CommitFailed,
    ConfigError,
    DataLoss,
    DecodeError,
    Fenced,
    KafkaError,
    OffsetOutOfRange,
    ReaderFailed,
    ReadIncomplete,
    SabotRayError,
    UnknownTopicOrPartition,
)
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.runtime.run import BatchRef, StreamRun
from sabot_ray.runtime.status import PartitionStatus, RunStatus
from sabot_ray.stream import Stream

__version__ = _version("sabot-ray")

__all__ = [
    "AuthenticationFailed",
    "AuthorizationFailed",
    "BackendUnavailable",
    "BatchLost",
    "BatchRef",
    "BrokerUnavailable",
    "CommitFailed",
    "ConfigError",
    "DataLoss",
    "DecodeError",
    "Fenced",
    "JsonCodec",
    "KafkaConfig",
    "KafkaError",
    "OffsetOutOfRange",
    "PartitionStatus",
    "ReadIncomplete",
    "ReaderFailed",
    "RunStatus",
    "SabotRayError",
    "Stream",
    "StreamRun",
    "UnknownTopicOrPartition",
]
