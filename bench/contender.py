"""One contender in a process of its own: ``python -m bench.contender NAME``, the job on stdin.

A contender is a module of `bench.contenders` with ``contend(job)``: a context manager around an
iterable of batches. What it does before it yields is start-up and not measured; the iterable opens
the client when the first batch is asked for, and ends after ``job.rows`` rows.
``MEASURE_FROM_OPENING = True`` in a module says that the driver sees no steady state.
"""

from __future__ import annotations

import importlib
import sys
import time

from bench.cpu import CpuTime
from bench.data import Digest
from bench.job import Job, Outcome


def measure(name: str, job: Job) -> Outcome:
    """Run a contender in this process.

    Raises:
        RuntimeError: It did not give the rows that were asked for.
    """
    module = importlib.import_module(f"bench.contenders.{name}")
    digest = Digest(job.records)
    rows = batches = first_batch_rows = 0
    with module.contend(job) as stream:
        opened, opened_cpu = time.perf_counter(), CpuTime.now()
        first = ended = opened
        first_cpu = ended_cpu = opened_cpu
        for batch in stream:
            if not batch.num_rows:
                continue
            if not batches:
                first = time.perf_counter()
                first_cpu = CpuTime.now()
                first_batch_rows = batch.num_rows
            rows += batch.num_rows
            batches += 1
            if rows == job.rows:
                ended = time.perf_counter()
                # Now, and not after the loop: a reader that is closed takes its CPU time with it.
                ended_cpu = CpuTime.now()
            if job.check:
                digest.add_batch(batch)
    if rows != job.rows:
        raise RuntimeError(f"contender '{name}' gave {rows} rows instead of {job.rows}")
    first_batch_s = first - opened
    if batches == 1 or getattr(module, "MEASURE_FROM_OPENING", False):
        first, first_cpu, first_batch_rows = opened, opened_cpu, 0
    steady = ended_cpu.since(first_cpu)
    return Outcome(
        rows,
        batches,
        rows - first_batch_rows,
        first_batch_s=first_batch_s,
        steady_s=ended - first,
        steady_cpu_s=steady.consuming,
        cpu_s=ended_cpu.since(opened_cpu).consuming,
        ray_cpu_s=steady.of_ray,
        driver_cpu_s=steady.driver if steady.workers else None,
        digest=digest.result() if job.check else {},
    )


if __name__ == "__main__":
    print(measure(sys.argv[1], Job.from_json(sys.stdin.read())).to_json())
