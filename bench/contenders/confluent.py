"""confluent-kafka, orjson and pyarrow by hand: what one writes without a library."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import confluent_kafka
import orjson
import pyarrow as pa

from bench.job import Job

#: Messages per call of consume(), which waits until it has them all or its time is out.
_CONSUME = 10_000


@contextmanager
def contend(job: Job) -> Iterator[Iterator[pa.RecordBatch]]:
    """Read with `Consumer.consume`."""
    schema = job.records.schema

    def batches() -> Iterator[pa.RecordBatch]:
        consumer = confluent_kafka.Consumer(job.librdkafka_settings())
        consumer.assign([confluent_kafka.TopicPartition(job.topic, 0, 0)])
        missing = job.rows
        try:
            while missing:
                messages = consumer.consume(min(missing, _CONSUME), timeout=1.0)
                rows = [orjson.loads(m.value()) for m in messages if m.error() is None]
                missing -= len(rows)
                yield pa.RecordBatch.from_pylist(rows, schema=schema)
        finally:
            consumer.close()

    yield batches()
