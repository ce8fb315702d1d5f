"""What one would write with `ray.data` in place of `to_kafka`: read, decode and write, on Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.contenders import ray_dataset as source
from bench.job import WriteJob
from bench.local_ray import local_ray
from bench.writers.ray_dataset import write_kafka


@contextmanager
def prepare(job: WriteJob) -> Iterator[Callable[[], None]]:
    """Copy with `read_kafka`, `map_batches` and `write_kafka`."""
    with local_ray():
        yield lambda: write_kafka(source.read(job), job)
