"""Finds the schema of topics from a sample of their records."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from sabot_ray.codecs.inference import infer_schema
from sabot_ray.errors import ConfigError
from sabot_ray.kafka.metadata import ClusterClient, SampledRecord
from sabot_ray.types import Watermarks


def sample_records(
    client: ClusterClient,
    name: str,
    watermarks: Mapping[str, Mapping[int, Watermarks]],
    count: int,
    *,
    remedy: str = "schema",
) -> list[SampledRecord]:
    """Read records at two spots in each partition: at its start and near its end.

    Args:
        client: Who reads the sample.
        name: What the topics are called in an error.
        watermarks: The bounds of each partition's log, by topic.
        count: About how many records to read; at least a few from every partition.
        remedy: The option that makes a sample unnecessary, for the error.

    Raises:
        ConfigError: There is no record.
        KafkaError: The brokers cannot be reached, or refuse.
    """
    records = max(count // (2 * sum(map(len, watermarks.values()))), 8)
    sampled: list[SampledRecord] = []
    for topic, of_topic in watermarks.items():
        ranges = {}
        for partition, marks in of_topic.items():
            middle = min(marks.low + records, marks.last_stable)
            late = max(middle, marks.last_stable - records)
            ranges[partition] = [(marks.low, middle), (late, marks.last_stable)]
        sampled += client.sample(topic, ranges, records)
    if not sampled:
        raise ConfigError(
            f"topic '{name}' has no record to infer a schema from; declare it with {remedy}="
        )
    return sampled


def sample_schema(
    client: ClusterClient,
    name: str,
    watermarks: Mapping[str, Mapping[int, Watermarks]],
    count: int,
) -> pa.Schema:
    """Infer the schema of the values from a sample; see `sample_records`.

    Raises:
        ConfigError: There is no record, or none has a field that could be a column.
        KafkaError: The brokers cannot be reached, or refuse.
    """
    sampled = sample_records(client, name, watermarks, count)
    return infer_schema(record.value for record in sampled)
