"""The same records over ever more partitions, read through Ray: what each partition costs.

The readers first wait for each other, with everything imported, so that the start of a Python
process does not count as reading; connecting does. ``python -m bench.partitions ROUNDS`` reads the
backlogs on stdin and prints the runs, all on one Ray.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench import own_process
from bench.cpu import CpuTime
from bench.data import SHAPES
from bench.gate import gated_readers
from bench.local_ray import local_ray
from bench.topic import Backlog
from sabot_ray.stream import Stream
from tests.servers import KafkaBroker

#: Longest time for one run, in seconds.
_TIMEOUT_S = 120


@dataclass(frozen=True)
class PartitionsRun:
    """One read of a backlog.

    Attributes:
        partitions: Over how many partitions its records lie.
        readers: How many readers shared them.
        number: The round, from 1.
        rows: How many records there were.
        started_s: From ``Stream.start`` until the last reader could have read.
        wall_s: From then until the last row was on the driver.
        cpu_s: CPU seconds of the driver and the readers, over the same.
        driver_cpu_s: The driver's part of it.
        ray_cpu_s: Of Ray's own processes; not in the others.
        batches: How many batches there were.
    """

    partitions: int
    readers: int
    number: int
    rows: int
    started_s: float
    wall_s: float
    cpu_s: float
    driver_cpu_s: float
    ray_cpu_s: float
    batches: int


def measure(broker: KafkaBroker, backlogs: Sequence[Backlog], rounds: int) -> list[PartitionsRun]:
    """Read the backlogs in turn, round after round, in a process of its own.

    Raises:
        RuntimeError: It failed; the message holds what it printed.
    """
    command = own_process.module("bench.partitions", broker.bootstrap_servers, rounds)
    given = json.dumps([dataclasses.asdict(backlog) for backlog in backlogs])
    timeout_s = 60 + _TIMEOUT_S * len(backlogs) * (rounds + 1)
    lines = own_process.run("partitions:", command, given, timeout_s)
    return [PartitionsRun(**json.loads(line)) for line in lines]


def _run(bootstrap_servers: str, backlog: Backlog, number: int, *, check: bool) -> PartitionsRun:
    stream = Stream.from_kafka(
        bootstrap_servers,
        backlog.name,
        backend="native",
        schema=SHAPES[backlog.shape].schema,
        start="earliest",
        end="latest",
    )
    began = time.perf_counter()
    with gated_readers() as gate, stream.start() as run:
        readers = len(run._branches[0].coordinator._readers)
        gate.wait_for(readers)
        before, opened = CpuTime.now(), time.perf_counter()
        gate.open()
        rows = batches = 0
        ids = [] if check else None
        for batch in run:
            rows += batch.num_rows
            batches += 1
            if rows == backlog.rows:
                used, ended = CpuTime.now().since(before), time.perf_counter()
            if ids is not None:
                ids.append(batch.column("id").to_numpy())
    if rows != backlog.rows:
        raise RuntimeError(f"{backlog}: {rows} rows came")
    if ids is not None:
        _check(backlog, ids)
    return PartitionsRun(
        backlog.partitions,
        readers,
        number,
        rows,
        started_s=opened - began,
        wall_s=ended - opened,
        cpu_s=used.consuming,
        driver_cpu_s=used.driver,
        ray_cpu_s=used.of_ray,
        batches=batches,
    )


def _check(backlog: Backlog, batches: list[Any]) -> None:
    """Check that every id came once, and those of a partition in order.

    Raises:
        RuntimeError: Not so.
    """
    due = [-(-backlog.rows * p // backlog.partitions) for p in range(backlog.partitions + 1)]
    ends = due[1:]
    for ids in batches:
        partition = int(ids[0]) * backlog.partitions // backlog.rows
        first = due[partition]
        if not np.array_equal(ids, np.arange(first, first + len(ids))):
            raise RuntimeError(f"{backlog}: after id {first - 1} came {ids[0]} to {ids[-1]}")
        due[partition] += len(ids)
    if due[:-1] != ends:
        raise RuntimeError(f"{backlog}: partitions ended at {due[:-1]} instead of {ends}")


def _runs(bootstrap_servers: str, backlogs: list[Backlog], rounds: int) -> Iterator[PartitionsRun]:
    # The first round checks, and warms up.
    for backlog in backlogs:
        _run(bootstrap_servers, backlog, 0, check=True)
    for number in range(1, rounds + 1):
        for backlog in backlogs:
            yield _run(bootstrap_servers, backlog, number, check=False)


if __name__ == "__main__":
    given = [Backlog(**values) for values in json.loads(sys.stdin.read())]
    with local_ray():
        for done in _runs(sys.argv[1], given, int(sys.argv[2])):
            print(json.dumps(dataclasses.asdict(done)), flush=True)
