"""The write task of `ray.data`'s `write_kafka`, called in process: Ray at its fastest.

It gets the client settings of the others. Its values are longer by the spaces of `json.dumps`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa
from ray.data._internal.datasource.kafka_datasink import KafkaDatasink
from ray.data._internal.execution.interfaces import TaskContext

from bench.job import WriteJob
from bench.writers.in_memory import read_all


@contextmanager
def prepare(job: WriteJob) -> Iterator[Callable[[], None]]:
    """Write blocks in memory with one task."""
    blocks = [pa.Table.from_batches([batch]) for batch in read_all(job)]
    sink = KafkaDatasink(job.target, job.bootstrap_servers, producer_config=job.producer_settings())
    context = TaskContext(task_idx=0, op_name="write")

    def write() -> None:
        sink.write(blocks, context)

    yield write
