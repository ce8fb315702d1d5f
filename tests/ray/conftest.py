"""What the tests of streams share."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import confluent_kafka
import orjson
import pyarrow as pa
import pytest

from sabot_ray import SabotRayError, Stream
from sabot_ray.kafka.source import Backend
from sabot_ray.runtime.output import OutputStream
from tests.faults.processes import readers
from tests.kafka.reading import read_all
from tests.servers import KafkaBroker, wait_until

ReadTopic = Callable[..., Stream]
Operation = Callable[[pa.RecordBatch], pa.RecordBatch]

NUMBERS = {"n": "int64"}


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
def read_numbers(broker: KafkaBroker, ray_session: None) -> Callable[..., Stream]:
    """`Stream.from_kafka` of a topic of numbers, in the group of its name."""

    def make(topic: str, group: str | None = "its name", **options: Any) -> Stream:
        return Stream.from_kafka(
            broker.bootstrap_servers,
            topic,
            topic if group == "its name" else group,
            **{"backend": "native", "schema": NUMBERS, "batch_size": 100, **options},
        )

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


def dead_letter_options(dead: str) -> dict[str, Any]:
    """Return the options of a stream whose failed records go to a topic."""
    return {"error_handling_policy": "dead_letter", "dead_letter_topic": dead}


def crash_at(*deadly: int) -> Operation:
    """Return a function that ends its process at a batch with one of these numbers."""

    def crash(batch: pa.RecordBatch) -> pa.RecordBatch:
        if not set(deadly).isdisjoint(batch["n"].to_pylist()):
            os.kill(os.getpid(), signal.SIGSEGV)
            # Ray prints where it was before the process ends, and this thread would go on.
            time.sleep(60)
        return batch

    return crash


def kill_readers_at(output: OutputStream, *rows: int) -> None:
    """Kill all readers of an exactly-once output each time it has written so many rows."""
    for count in rows:
        wait_until(lambda count=count: output.status().rows >= count, 30.0)
        for process in readers(kind="TransactionalReader"):
            os.kill(process.pid, signal.SIGKILL)
