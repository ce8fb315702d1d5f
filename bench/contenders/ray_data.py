"""The read task of `ray.data.read_kafka`, called in process, then orjson and pyarrow.

Only the task: the whole pipeline of Ray Data (`ray_dataset`) is slower. Its blocks of 128 MB are
decoded one by one, so that nothing read before the first batch counts as read after it. It gets the
client settings of the others: with its own, it waits half the time for the fetch backoff.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import pyarrow as pa
from ray.data._internal.datasource.kafka_datasource import KafkaDatasource

from bench.job import Job


def decode(block: pa.Table, schema: pa.Schema) -> pa.Table:
    """Turn a block of raw records into typed columns."""
    rows = [orjson.loads(value) for value in block.column("value").to_pylist()]
    return pa.Table.from_pylist(rows, schema=schema)


@contextmanager
def contend(job: Job) -> Iterator[Iterator[pa.Table]]:
    """Run the one read task of the topic's one partition."""
    datasource = KafkaDatasource(
        job.topic,
        job.bootstrap_servers,
        start_offset=0,
        end_offset=job.rows,
        consumer_config=job.librdkafka_settings(),
    )
    [task] = datasource.get_read_tasks(1)
    schema = job.records.schema
    yield (decode(block, schema) for block in task())
