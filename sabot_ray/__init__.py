"""Kafka as a fast, trustworthy source of Ray: typed Arrow record batches, resumable streams."""

from importlib import import_module as _import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING as _TYPE_CHECKING

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
    EncodeError,
    Fenced,
    KafkaError,
    OffsetOutOfRange,
    ReaderFailed,
    ReadIncomplete,
    SabotRayError,
    SinkError,
    TopicRecreated,
    UnknownTopicOrPartition,
)
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.interceptor import Interceptor

if _TYPE_CHECKING:
    from sabot_ray.runtime.branch import BatchRef
    from sabot_ray.runtime.output import OutputStream
    from sabot_ray.runtime.run import StreamRun
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
    "EncodeError",
    "Fenced",
    "Interceptor",
    "JsonCodec",
    "KafkaConfig",
    "KafkaError",
    "OffsetOutOfRange",
    "OutputStream",
    "PartitionStatus",
    "ReadIncomplete",
    "ReaderFailed",
    "RunStatus",
    "SabotRayError",
    "SinkError",
    "Stream",
    "StreamRun",
    "TopicRecreated",
    "UnknownTopicOrPartition",
]

#: What needs Ray, which takes seconds to import: loaded when first asked for, so that the command
#: line and the sources start without it.
_WITH_RAY = {
    "BatchRef": "sabot_ray.runtime.branch",
    "OutputStream": "sabot_ray.runtime.output",
    "PartitionStatus": "sabot_ray.runtime.status",
    "RunStatus": "sabot_ray.runtime.status",
    "Stream": "sabot_ray.stream",
    "StreamRun": "sabot_ray.runtime.run",
}


def __getattr__(name: str) -> object:
    if name not in _WITH_RAY:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(_import_module(_WITH_RAY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_WITH_RAY})
