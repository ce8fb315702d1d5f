"""What a batch costs the driver, beside what a bare actor call with the same batch costs it.

``python -m bench.driver_cost ROUNDS`` reads a job on stdin and prints the figures.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import ray

from bench import own_process
from bench.contenders import sabot_ray
from bench.job import Job
from bench.local_ray import local_ray
from bench.topic import Backlog
from sabot_ray.runtime.coordinator import MAX_OUTSTANDING
from tests.servers import KafkaBroker

#: Rows in a small batch, which travels inside the call's answer; and in one of 0.8 MB, which goes
#: through the object store. And how many of them are read.
SIZES = ((100, 3000), (7000, 500))


@dataclass(frozen=True)
class DriverCost:
    """CPU time of the driver for each batch, in seconds.

    Attributes:
        batch_rows: Rows in a batch.
        batch_bytes: Bytes of a batch in memory.
        number: The round, from 1.
        batches: How many were delivered.
        cpu_s: With a `Stream`.
        bare_cpu_s: With an actor that only returns a batch, asked in the same way.
    """

    batch_rows: int
    batch_bytes: int
    number: int
    batches: int
    cpu_s: float
    bare_cpu_s: float


def measure(broker: KafkaBroker, backlog: Backlog, rounds: int) -> list[DriverCost]:
    """Measure in a process of its own.

    Raises:
        RuntimeError: It failed; the message holds what it printed.
    """
    job = Job(broker.bootstrap_servers, backlog.name, backlog.shape, backlog.rows, 0)
    command = own_process.module("bench.driver_cost", rounds)
    lines = own_process.run("driver cost:", command, job.to_json(), 900)
    return [DriverCost(**json.loads(line)) for line in lines]


class _Bare:
    """Returns the same batch whenever it is asked."""

    def keep(self, batch: pa.RecordBatch) -> None:
        self._batch = batch

    def give(self) -> pa.RecordBatch:
        return self._batch


def _bare_batches(batch: pa.RecordBatch, count: int) -> Iterator[pa.RecordBatch]:
    actor = ray.remote(num_cpus=0)(_Bare).remote()
    ray.get(actor.keep.remote(batch))
    asked: deque[Any] = deque()
    try:
        while count or asked:
            while count and len(asked) < MAX_OUTSTANDING:
                asked.append(actor.give.remote())
                count -= 1
            yield ray.get(asked.popleft())
    finally:
        ray.kill(actor)


def _cost(batches: Iterator[pa.RecordBatch]) -> tuple[float, int, pa.RecordBatch]:
    """Return the driver's CPU seconds for each batch after the first, their number, and one."""
    last = next(batches)
    began = ended = time.process_time()
    count = 0
    for batch in batches:
        # Each time: what follows the last one is the end of the run.
        ended = time.process_time()
        count += 1
        last = batch if batch.num_rows >= last.num_rows else last
    return (ended - began) / count, count, last


def _costs(job: Job, rounds: int) -> Iterator[DriverCost]:
    # The first round warms up.
    for number in range(rounds + 1):
        for batch_rows, count in SIZES:
            rows = min(job.rows or 0, batch_rows * count)
            wanted = replace(job, batch_rows=batch_rows, rows=rows)
            cpu_s, batches, sample = _cost(iter(sabot_ray.stream(wanted)))
            bare_cpu_s, _, _ = _cost(_bare_batches(sample, batches))
            if number:
                yield DriverCost(batch_rows, sample.nbytes, number, batches, cpu_s, bare_cpu_s)


if __name__ == "__main__":
    given = Job.from_json(sys.stdin.read())
    with local_ray():
        for cost in _costs(given, int(sys.argv[1])):
            print(json.dumps(dataclasses.asdict(cost)), flush=True)
