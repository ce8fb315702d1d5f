"""What a source needs to know when it is built directly, without a stream and without Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import pyarrow as pa

from sabot_ray.codecs.json import JsonCodec
from sabot_ray.errors import ConfigError
from sabot_ray.kafka.cluster import connect_cluster
from sabot_ray.kafka.config import KafkaConfig, Value
from sabot_ray.kafka.metadata import End, Start, resolve_ranges
from sabot_ray.kafka.source import SourceSpec
from sabot_ray.schema import METADATA_FIELDS, check_columns, check_value_schema


class StandaloneRead(NamedTuple):
    """The arguments of `sabot_ray.kafka.source.SourceClient.open_source`."""

    spec: SourceSpec
    partition: int
    start_offset: int
    end_offset: int | None


def plan_read(
    bootstrap_servers: str | KafkaConfig,
    topic: str,
    group_id: str | None,
    partition_id: int,
    *,
    schema: pa.Schema | Mapping[str, pa.DataType | str],
    columns: Sequence[str] | None,
    start: Start | None,
    end: End,
    tombstones: Literal["keep", "skip"],
    unknown_fields: Literal["ignore", "fail"],
    error_handling_policy: Literal["fail", "skip"],
    max_batch_bytes: int,
    linger_s: float,
    prefetch_bytes: int,
    kafka_settings: Mapping[str, Value],
) -> StandaloneRead:
    """Turn the arguments of a source's constructor into those of ``open_source``; asks the brokers.

    Raises:
        ConfigError: The topic has several partitions and none was chosen, a setting or the schema
            cannot work.
        DataLoss: The start is not in the log.
        KafkaError: The brokers cannot be reached or refuse, or the topic does not exist.
    """
    config = (
        bootstrap_servers.with_settings(**kafka_settings)
        if isinstance(bootstrap_servers, KafkaConfig)
        else KafkaConfig(bootstrap_servers, **kafka_settings)
    )
    value_schema = check_value_schema(schema)
    if columns is None:
        columns = value_schema.names
    known = pa.schema([*value_schema, *METADATA_FIELDS.values()])
    spec = SourceSpec(
        config,
        topic,
        JsonCodec(value_schema, unknown_fields),
        check_columns(columns, known, "columns"),
        tombstones,
        error_handling_policy,
        max_batch_bytes,
        linger_s,
        prefetch_bytes,
    )
    client = connect_cluster(config)
    try:
        partition = _only_partition(topic, client.partitions(topic), partition_id)
        if start is None:
            start = "earliest" if group_id is None else "committed"
        wanted = resolve_ranges(
            topic,
            client.watermarks(topic, [partition]),
            start=start,
            end=end,
            committed=client.committed(group_id, topic, [partition]) if group_id else {},
            auto_offset_reset=config.get("auto.offset.reset", "earliest"),
        )[partition]
    finally:
        client.close()
    return StandaloneRead(spec, partition, wanted.start_offset, wanted.end_offset)


def _only_partition(topic: str, partitions: Sequence[int], partition_id: int) -> int:
    if partition_id in partitions:
        return partition_id
    if partition_id >= 0 or not partitions:
        raise ConfigError(
            f"partition_id: topic '{topic}' has {len(partitions)} partitions and no {partition_id}"
        )
    if len(partitions) > 1:
        raise ConfigError(
            f"partition_id: topic '{topic}' has {len(partitions)} partitions; name the one to read"
        )
    return partitions[0]
