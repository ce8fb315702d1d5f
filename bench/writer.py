"""One contender that writes, in a process of its own: ``python -m bench.writer NAME``.

The job comes on stdin. A contender is a module of `bench.writers` with ``prepare(job)``: a context
manager around a function without arguments that writes the job's records, and returns when all are
acknowledged. What happens before it is called is start-up, and not measured.
"""

from __future__ import annotations

import importlib
import sys
import time

from bench.cpu import CpuTime
from bench.job import WriteJob, WriteOutcome


def measure(name: str, job: WriteJob) -> WriteOutcome:
    """Run a contender in this process."""
    module = importlib.import_module(f"bench.writers.{name}")
    with module.prepare(job) as write:
        before, began = CpuTime.now(), time.perf_counter()
        write()
        ended, used = time.perf_counter(), CpuTime.now().since(before)
    assert job.rows is not None
    return WriteOutcome(
        job.rows,
        wall_s=ended - began,
        cpu_s=used.consuming,
        driver_cpu_s=used.driver if used.workers else None,
        ray_cpu_s=used.of_ray,
    )


if __name__ == "__main__":
    print(measure(sys.argv[1], WriteJob.from_json(sys.stdin.read())).to_json())
