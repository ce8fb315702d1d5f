"""sabot_ray's native source, in process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from bench.job import PREFETCH_BYTES, Job
from sabot_ray.codecs.json import JsonCodec
from sabot_ray.kafka.backend import connect_source_client
from sabot_ray.kafka.source import Backend, SourceSpec


@contextmanager
def contend(
    job: Job, backend: Backend = "native", decode_threads: int = 1
) -> Iterator[Iterator[pa.RecordBatch]]:
    """Read through the `PartitionSource` of a backend."""
    schema = job.records.schema
    spec = SourceSpec(
        job.config,
        job.topic,
        JsonCodec(schema),
        tuple(schema.names),
        decode_threads=decode_threads,
    )
    client = connect_source_client(backend, job.config, PREFETCH_BYTES)

    def batches() -> Iterator[pa.RecordBatch]:
        source = client.open_source(spec, 0, 0, job.rows)
        while job.rows is None or source.position() < job.rows:
            yield source.poll(job.batch_rows, timeout_s=1.0)

    try:
        yield batches()
    finally:
        client.close()
