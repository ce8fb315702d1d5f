"""sabot_ray as users run it: a reader actor on Ray, batches on the driver."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pyarrow as pa

from bench.job import Job
from bench.local_ray import local_ray
from sabot_ray.stream import Stream


def stream(job: Job) -> Stream:
    """Return a `Stream` of the native backend over the job's records."""
    return Stream.from_kafka(
        job.bootstrap_servers,
        job.topic,
        backend="native",
        schema=job.records.schema,
        start="earliest",
        end=job.rows,
        batch_size=job.batch_rows,
    )


@contextmanager
def contend(job: Job) -> Iterator[Iterator[pa.RecordBatch]]:
    """Iterate a `Stream` of the native backend."""
    # A stream that is left before its end must be closed while Ray is there.
    with local_ray(), closing(iter(stream(job))) as batches:
        yield batches
