"""What a topic holds, for the check of what was written to it."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from bench.data import Digest, Shape
from bench.job import PREFETCH_BYTES
from sabot_ray.codecs.json import JsonCodec
from sabot_ray.kafka.backend import connect_source_client
from sabot_ray.kafka.cluster import connect_cluster
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.source import SourceSpec

_BATCH_ROWS = 50_000


def digest_of(
    bootstrap_servers: str,
    topic: str,
    shape: Shape,
    *,
    keep: pc.Expression | None = None,
    is_sorted: bool = False,
) -> dict[str, int | str]:
    """Return the digest of what a topic holds, one partition after the other.

    Args:
        bootstrap_servers: The broker.
        topic: The topic.
        shape: What its records must be.
        keep: Which rows count; None: all.
        is_sorted: Whether to sort the rows by their ids before.
    """
    # Of the others it is known by now that they decode.
    columns = ["id", shape.text]
    batches = (
        (batch if keep is None else batch.filter(keep)).select(columns)
        for batch in _batches(bootstrap_servers, topic, shape.schema)
    )
    if is_sorted:
        schema = pa.schema([shape.schema.field(name) for name in columns])
        table = pa.Table.from_batches(batches, schema)
        batches = iter(table.sort_by("id").to_batches(_BATCH_ROWS))
    digest = Digest(shape)
    for batch in batches:
        digest.add(batch.column(0).to_pylist(), batch.column(1).to_pylist())
    return digest.result()


def _batches(bootstrap_servers: str, topic: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    config = KafkaConfig(bootstrap_servers)
    cluster = connect_cluster(config)
    partitions = cluster.partitions(topic)
    ends = {p: marks.last_stable for p, marks in cluster.watermarks(topic, partitions).items()}
    cluster.close()
    spec = SourceSpec(config, topic, JsonCodec(schema), tuple(schema.names))
    client = connect_source_client("native", config, PREFETCH_BYTES)
    try:
        for partition, end in sorted(ends.items()):
            source = client.open_source(spec, partition, 0, end)
            while source.position() < end:
                yield source.poll(_BATCH_ROWS, timeout_s=1.0)
            source.close()
    finally:
        client.close()
