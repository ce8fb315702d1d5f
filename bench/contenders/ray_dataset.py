"""The whole pipeline of `ray.data.read_kafka`: read task, decoding tasks, batches on the driver."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import ray

from bench.contenders.ray_data import decode
from bench.job import Job
from bench.local_ray import local_ray

#: Ray Data reads and decodes ahead of what it delivers: the driver sees no steady state.
MEASURE_FROM_OPENING = True


def read(job: Job) -> ray.data.Dataset:
    """Read the job's records into typed columns."""
    return ray.data.read_kafka(
        job.topic,
        bootstrap_servers=job.bootstrap_servers,
        start_offset=0,
        end_offset=job.rows,
        consumer_config=job.librdkafka_settings(),
    ).map_batches(
        decode,
        fn_kwargs={"schema": job.records.schema},
        batch_format="pyarrow",
        batch_size=job.batch_rows,
    )


@contextmanager
def contend(job: Job) -> Iterator[Iterator[pa.Table]]:
    """Decode with `map_batches` and iterate on the driver."""
    with local_ray():
        yield iter(read(job).iter_batches(batch_size=None, batch_format="pyarrow"))
