"""From produce to the batch on the driver, at a steady rate.

A contender and a bare confluent-kafka consumer read the same records at the same time, each in a
process of its own; the producer is a third one. ``python -m bench.latency read NAME`` and
``python -m bench.latency write`` are these processes.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import confluent_kafka
import numpy as np
import orjson

from bench.data import DEFAULT_SEED, SHAPES, encode
from bench.job import Job
from bench.throughput import CONTENDERS
from sabot_ray.testing import produce
from tests.servers import KafkaBroker

#: The reader that the others are held against.
BARE = "bare"
#: Records that come first and do not count, in seconds of the stream.
WARM_UP_S = 2.0
#: The id of a record that only asks whether the reader is there.
_PROBE = -1


@dataclass(frozen=True)
class Latency:
    """What one reader saw, in milliseconds.

    Attributes:
        reader: A contender, or `BARE`.
        rate: Records per second.
        number: The round, from 1.
        records: How many were timed.
        batches: In how many batches they came.
        p50: Median.
        p99: 99th percentile.
        worst: Longest.
    """

    reader: str
    rate: int
    number: int
    records: int
    batches: int
    p50: float
    p99: float
    worst: float


def _arrivals(reader: str, job: Job) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Yield ids, times of sending, and time of arrival of each batch."""
    if reader == BARE:
        consumer = confluent_kafka.Consumer(job.librdkafka_settings())
        consumer.assign([confluent_kafka.TopicPartition(job.topic, 0, 0)])
        while True:
            message = consumer.poll(1.0)
            now = time.monotonic_ns()
            if message is not None and message.error() is None:
                row = orjson.loads(message.value())
                yield np.array([row["id"]]), np.array([row["sent_ns"]]), now
    with importlib.import_module(f"bench.contenders.{CONTENDERS[reader]}").contend(job) as batches:
        for batch in batches:
            now = time.monotonic_ns()
            yield batch.column("id").to_numpy(), batch.column("sent_ns").to_numpy(), now


def _read(reader: str, job: Job, rate: int, seconds: float) -> None:
    """Print a line when the first probe has come, and the result after the last record."""
    last, warm = int(rate * (WARM_UP_S + seconds)) - 1, int(rate * WARM_UP_S)
    times: list[np.ndarray] = []
    ready = False
    for ids, sent, now in _arrivals(reader, job):
        if not ready and len(ids):
            ready = True
            print("ready", flush=True)
        timed = ids >= warm
        if timed.any():
            times.append((now - sent[timed]) / 1e6)
        if len(ids) and ids[-1] == last:
            break
    all_times = np.concatenate(times)
    result = {
        "records": len(all_times),
        "batches": len(times),
        "p50": float(np.percentile(all_times, 50)),
        "p99": float(np.percentile(all_times, 99)),
        "worst": float(all_times.max()),
    }
    print(orjson.dumps(result).decode(), flush=True)


def _write(job: Job, rate: int, seconds: float) -> None:
    """Write records at a steady rate, each at its time."""
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": job.bootstrap_servers,
            "linger.ms": 0,
            # As the Java producer. Without a limit each record is a request of its own however far
            # behind the broker is, and a queue that has grown there once is timed for good.
            "max.in.flight": 5,
        }
    )
    start = time.monotonic()
    for number, row in enumerate(job.records.rows(int(rate * (WARM_UP_S + seconds)), DEFAULT_SEED)):
        wait = start + number / rate - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        row["sent_ns"] = time.monotonic_ns()
        producer.produce(job.topic, encode(row), partition=0)
        producer.poll(0)
    if producer.flush(30):
        raise RuntimeError("not all records were written")


@contextmanager
def _process(*arguments: str, job: Job) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.latency", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(job.to_json())
        process.stdin.close()
        yield process
    finally:
        process.kill()
        process.wait()


def compare(
    broker: KafkaBroker, contenders: Sequence[str], rate: int, seconds: float, rounds: int
) -> Iterator[Latency]:
    """Time each contender beside a bare consumer, in turn, round after round.

    A round before the first one warms up the broker's code and is not counted.

    Raises:
        RuntimeError: A process failed, or a reader did not get every record.
    """
    for number in range(rounds + 1):
        for contender in contenders:
            topic = f"bench-latency-{rate}-{contender}-{number}"
            broker.create_topic(topic)
            job = Job(broker.bootstrap_servers, topic, "timed", None, 50_000)
            figures = list(_one_round((BARE, contender), job, rate, seconds, number))
            if number > 0:
                yield from figures


def _one_round(
    readers: Sequence[str], job: Job, rate: int, seconds: float, number: int
) -> Iterator[Latency]:
    span = (str(rate), str(seconds))
    first, second = readers
    with (
        _process("read", first, *span, job=job) as bare,
        _process("read", second, *span, job=job) as contender,
    ):
        probe = {**next(SHAPES["timed"].rows(1, DEFAULT_SEED)), "id": _PROBE}
        produce(job.bootstrap_servers, job.topic, [encode(probe)])
        processes = (bare, contender)
        for reader, process in zip(readers, processes, strict=True):
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"latency: reader '{reader}' did not start")
        with _process("write", *span, job=job) as producer:
            if producer.wait(60 + 2 * seconds):
                raise RuntimeError("latency: the producer failed")
        for reader, process in zip(readers, processes, strict=True):
            assert process.stdout is not None
            result = orjson.loads(process.stdout.readline() or "{}")
            if result.get("records") != int(rate * (WARM_UP_S + seconds)) - int(rate * WARM_UP_S):
                raise RuntimeError(
                    f"latency: reader '{reader}' got {result.get('records')} records"
                )
            yield Latency(reader, rate, number, **result)


if __name__ == "__main__":
    role, *names, given_rate, given_seconds = sys.argv[1:]
    given = Job.from_json(sys.stdin.read())
    if role == "read":
        _read(names[0], given, int(given_rate), float(given_seconds))
    else:
        _write(given, int(given_rate), float(given_seconds))
