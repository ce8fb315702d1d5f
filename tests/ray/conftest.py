"""What the tests of streams share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import confluent_kafka
import orjson
import pytest

from sabot_ray import SabotRayError, Stream
from sabot_ray.kafka.source import Backend
from sabot_ray.runtime.output import OutputStream
from tests.kafka.reading import read_all
from tests.servers import KafkaBroker

ReadTopic = Callable[..., Stream]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """For a process with a Ray of its own, which leaves the home directory alone."""
    return {
        **os.environ,
        "HOME": str(tmp_path),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "COLUMNS": "100",
    }


@pytest.fixture
def read_topic(broker: KafkaBroker, backend: Backend, ray_session: None) -> ReadTopic:
    """`Stream.from_kafka` on the shared broker, with the test's backend."""

    def make(topic: str, *args: Any, **options: Any) -> Stream:
        stream = Stream.from_kafka(
            broker.bootstrap_servers, topic, *args, **{"backend": backend, **options}
        )
        assert stream.backend == backend
        return stream

    return make


@pytest.fixture
def copy(broker: KafkaBroker) -> Iterator[Callable[..., OutputStream]]:
    """`to_kafka` exactly once, at a short interval; what still runs is stopped."""
    outputs = []

    def make(stream: Stream, target: str, **options: Any) -> OutputStream:
        output = stream.to_kafka(
            broker.bootstrap_servers,
            target,
            delivery="exactly_once",
            **{"interval_s": 0.2, **options},
        )
        outputs.append(output)
        return output

    yield make
    for output in outputs:
        with contextlib.suppress(SabotRayError):
            output.stop()


def committed(broker: KafkaBroker, topic: str) -> int:
    """Return the sum of what the group of the topic's name has committed in it."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": topic}
    )
    try:
        wanted = [confluent_kafka.TopicPartition(topic, number) for number in range(2)]
        return sum(max(entry.offset, 0) for entry in consumer.committed(wanted, timeout=10))
    finally:
        consumer.close()


def written(broker: KafkaBroker, topic: str) -> list[int]:
    """Return the numbers that were written to a topic, ascending."""
    return sorted(orjson.loads(record.value or b"")["n"] for record in read_all(broker, topic))
