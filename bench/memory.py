"""What a reader holds at most, over an idle Ray worker, while the driver is slow.

``python -m bench.memory BACKEND`` reads a job on stdin and prints the figure.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import ray

from bench import own_process
from bench.cpu import ray_workers
from bench.job import PREFETCH_BYTES, Job
from bench.local_ray import local_ray
from bench.topic import Backlog
from sabot_ray.kafka.source import Backend
from sabot_ray.stream import Stream
from tests.servers import KafkaBroker

#: What a reader may hold beside what it prefetches and the batches that are under way, in bytes.
ALLOWANCE_BYTES = 80_000_000
#: ``max_in_flight_bytes``: the batches that are under way.
_IN_FLIGHT_BYTES = 64 << 20
#: How long the driver is busy with a batch, in seconds: all queues are full meanwhile.
_BODY_S = 0.1
_SAMPLE_INTERVAL_S = 0.02
#: How often new readers are looked for, in seconds.
_LOOK_INTERVAL_S = 0.25


@dataclass(frozen=True)
class Memory:
    """What one process holds.

    Attributes:
        own: Anonymous memory: heaps, stacks, buffers.
        shared: What it has touched of the object store.
        files: What it has touched of programs and libraries.
    """

    own: int = 0
    shared: int = 0
    files: int = 0

    @property
    def resident(self) -> int:
        """All of it."""
        return self.own + self.shared + self.files

    @classmethod
    def of(cls, pid: int) -> Memory:
        """Look at a process; one that is gone holds nothing."""
        try:
            text = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return cls()
        values = dict(line.split(":", 1) for line in text.splitlines())
        own, shared, files = (
            int(values.get(name, "0 kB").split()[0]) << 10
            for name in ("RssAnon", "RssShmem", "RssFile")
        )
        return cls(own, shared, files)


@contextmanager
def sampled_readers(kind: str = "Reader") -> Iterator[Mapping[int, Memory]]:
    """Note the most that each reader below this process holds, for the length of a block.

    Args:
        kind: The actors' class.
    """
    peaks: dict[int, Memory] = {}
    over = threading.Event()

    def sample() -> None:
        found: list[int] = []
        look_at = 0.0
        while not over.wait(_SAMPLE_INTERVAL_S):
            if time.monotonic() > look_at:
                found, look_at = ray_workers(kind), time.monotonic() + _LOOK_INTERVAL_S
            for pid in found:
                now = Memory.of(pid)
                if now.resident > peaks.get(pid, Memory()).resident:
                    peaks[pid] = now

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield peaks
    finally:
        over.set()
        sampler.join()


class _Idle:
    def ready(self) -> bool:
        return True


def idle_worker() -> Memory:
    """Return what an actor that does nothing holds; Ray runs."""
    actor = ray.remote(num_cpus=0)(_Idle).remote()
    ray.get(actor.ready.remote())
    [pid] = ray_workers("_Idle")
    idle = Memory.of(pid)
    ray.kill(actor)
    return idle


@dataclass(frozen=True)
class ReaderMemory:
    """The peak of one reader, in bytes.

    Attributes:
        backend: Which.
        shape: The records' shape.
        compression: Their compression.
        peak: The reader at its peak.
        idle: An idle Ray worker.
        prefetch: The limit of what it fetches ahead.
        in_flight: The limit of the batches under way.
    """

    backend: str
    shape: str
    compression: str
    peak: Memory
    idle: Memory
    prefetch: int
    in_flight: int

    @property
    def over_idle(self) -> int:
        """What the reader held beyond an idle worker."""
        return self.peak.resident - self.idle.resident

    @property
    def limit(self) -> int:
        """What it may hold beyond an idle worker."""
        return self.prefetch + self.in_flight + ALLOWANCE_BYTES


def measure(broker: KafkaBroker, backlog: Backlog, backend: str, seconds: float) -> ReaderMemory:
    """Measure in a process of its own.

    Raises:
        RuntimeError: It failed; the message holds what it printed.
    """
    job = Job(broker.bootstrap_servers, backlog.name, backlog.shape, backlog.rows, 50_000)
    command = own_process.module("bench.memory", backend, seconds)
    *_, found = own_process.run("memory:", command, job.to_json(), 120 + seconds)
    peak, idle = (Memory(**values) for values in json.loads(found))
    return ReaderMemory(
        backend, backlog.shape, backlog.compression, peak, idle, PREFETCH_BYTES, _IN_FLIGHT_BYTES
    )


def _measure(job: Job, backend: Backend, seconds: float) -> list[Memory]:
    idle = idle_worker()
    stream = Stream.from_kafka(
        job.bootstrap_servers,
        job.topic,
        backend=backend,
        schema=job.records.schema,
        start="earliest",
        end="latest",
        batch_size=job.batch_rows,
        memory_per_reader=2 * PREFETCH_BYTES,
        max_in_flight_bytes=_IN_FLIGHT_BYTES,
    )
    with sampled_readers() as peaks, stream.start() as run:
        ends: float | None = None
        for _ in run:
            ends = ends or time.monotonic() + seconds
            if time.monotonic() > ends:
                break
            time.sleep(_BODY_S)
    [peak] = peaks.values()
    return [peak, idle]


if __name__ == "__main__":
    given = Job.from_json(sys.stdin.read())
    with local_ray():
        found = _measure(given, cast(Backend, sys.argv[1]), float(sys.argv[2]))
    print(json.dumps([dataclasses.asdict(memory) for memory in found]))
