"""`ray.data`'s `write_kafka` on a dataset in the object store, with as many tasks as Ray likes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa
import ray

from bench.job import WriteJob
from bench.local_ray import local_ray
from bench.writers.in_memory import read_all


@contextmanager
def prepare(job: WriteJob) -> Iterator[Callable[[], None]]:
    """Write a dataset with a block for each batch."""
    with local_ray():
        tables = [pa.Table.from_batches([batch]) for batch in read_all(job)]
        dataset = ray.data.from_arrow(tables)
        yield lambda: write_kafka(dataset, job)


def write_kafka(dataset: ray.data.Dataset, job: WriteJob) -> None:
    """Write a dataset to the job's target."""
    dataset.write_kafka(
        job.target,
        bootstrap_servers=job.bootstrap_servers,
        producer_config=job.producer_settings(),
    )
