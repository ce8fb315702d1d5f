"""sabot_ray's native sink, in process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.job import COMPRESSION, WriteJob
from bench.writers.in_memory import read_all
from sabot_ray.kafka.backend import connect_sink
from sabot_ray.kafka.outgoing import RecordLayout
from sabot_ray.kafka.sink import SinkSpec
from sabot_ray.kafka.source import Backend


@contextmanager
def prepare(job: WriteJob, backend: Backend = "native") -> Iterator[Callable[[], None]]:
    """Write batches in memory through the `PartitionSink` of a backend."""
    batches = read_all(job)
    spec = SinkSpec(job.config, RecordLayout(job.target), compression=COMPRESSION)
    sink = connect_sink(backend, spec)

    def write() -> None:
        for batch in batches:
            sink.send_batch(batch)
        sink.flush()

    try:
        yield write
    finally:
        sink.close()
