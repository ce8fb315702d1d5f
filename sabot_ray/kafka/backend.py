"""The choice of the backend, and the way to its sources and sinks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sabot_ray.errors import BackendUnavailable, ConfigError
from sabot_ray.kafka import librdkafka
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.source import Backend, SourceClient

if TYPE_CHECKING:
    from sabot_ray.kafka.sink import PartitionSink, SinkSpec

logger = logging.getLogger("sabot_ray.kafka")


def choose_backend(*, use_cpp: bool = True, backend: str | None = None) -> Backend:
    """Decide which backend runs, on this machine.

    Args:
        use_cpp: Whether to use the native one where it loads; else, or with False, aiokafka.
        backend: The same choice by name: ``"native"``, ``"aiokafka"`` or ``"auto"``. A named
            backend is never replaced.

    Raises:
        ConfigError: The name is none of these, or contradicts ``use_cpp``.
        BackendUnavailable: ``"native"`` was named and cannot be loaded; the reason is told.
    """
    if backend not in (None, "auto", "native", "aiokafka"):
        raise ConfigError(f"backend: '{backend}' is not one of 'native', 'aiokafka', 'auto'")
    if not isinstance(use_cpp, bool):
        raise ConfigError(f"use_cpp: expected bool, found {type(use_cpp).__name__}")
    if backend == "native" and not use_cpp:
        raise ConfigError("backend='native' contradicts use_cpp=False; give one of them")
    if backend == "aiokafka" or (backend in (None, "auto") and not use_cpp):
        return "aiokafka"
    reason = native_load_error()
    if reason is None:
        return "native"
    if backend == "native":
        raise BackendUnavailable(f"the native backend cannot be loaded: {reason}")
    logger.warning("the native backend cannot be loaded, aiokafka is used instead: %s", reason)
    return "aiokafka"


def report_backend(backend: Backend, config: KafkaConfig, decode_threads: int = 1) -> None:
    """Log which backend runs, and the settings and options that it ignores.

    Raises:
        ConfigError: It would ignore a setting of TLS or SASL.
    """
    if backend == "aiokafka":
        config.check_aiokafka()
    logger.info("backend: %s", backend)
    ignored = config.librdkafka_only() + ["decode_threads"] * (decode_threads > 1)
    if backend == "aiokafka" and ignored:
        logger.warning("aiokafka has nothing like %s: ignored", ", ".join(ignored))


def native_load_error() -> str | None:
    """Say why the native backend cannot be loaded here; None if it can."""
    return librdkafka.load_error()


def connect_source_client(
    backend: Backend, config: KafkaConfig, prefetch_bytes: int, *, is_shared: bool = False
) -> SourceClient:
    """Return a client of the backend.

    Args:
        backend: Which one.
        config: How to reach the brokers.
        prefetch_bytes: Limit of the memory for what is fetched ahead of each partition.
        is_shared: Whether several partitions are read with it.

    Raises:
        BackendUnavailable: It cannot be loaded on this machine.
    """
    if backend == "native":
        return librdkafka.LibrdkafkaClient(
            config, prefetch_bytes=prefetch_bytes, is_shared=is_shared
        )
    # Here, because importing aiokafka takes a native reader 0.15 s, in which it could be reading.
    from sabot_ray.kafka.aiokafka_source import AiokafkaClient

    return AiokafkaClient(config, prefetch_bytes=prefetch_bytes)


def connect_sink(backend: Backend, spec: SinkSpec) -> PartitionSink:
    """Return a sink of the backend.

    Raises:
        BackendUnavailable: It cannot be loaded on this machine.
        ConfigError: The client refuses a setting.
        KafkaError: The brokers cannot be reached or refuse, or the topic does not exist.
    """
    # Here, because a reader that writes nothing needs neither.
    if backend == "native":
        from sabot_ray.kafka.librdkafka_sink import LibrdkafkaSink

        return LibrdkafkaSink.of_spec(spec)
    from sabot_ray.kafka.aiokafka_sink import AiokafkaSink

    return AiokafkaSink.of_spec(spec)
