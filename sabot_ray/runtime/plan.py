"""From a stream's options to what a run executes: integer offsets and a fixed schema."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from sabot_ray.codecs.inference import infer_schema
from sabot_ray.codecs.json import JsonCodec
from sabot_ray.errors import ConfigError
from sabot_ray.kafka.cluster import connect_cluster
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.metadata import (
    ClusterClient,
    End,
    OffsetRange,
    Start,
    resolve_ranges,
)
from sabot_ray.kafka.source import Backend, SourceSpec
from sabot_ray.offsets import open_kafka_group
from sabot_ray.offsets.store import OffsetStore
from sabot_ray.runtime.operators import Operator, needed_columns, output_schema
from sabot_ray.runtime.reader import ReaderPlan
from sabot_ray.schema import METADATA_FIELDS
from sabot_ray.types import TopicPartition, Watermarks


@dataclass(frozen=True, eq=False)
class SourceOptions:
    """The options of ``Stream.from_kafka``, checked; they stand in its docstring."""

    config: KafkaConfig
    topic: str
    group_id: str | None
    stream_id: str | None
    backend: Backend
    schema: pa.Schema | None
    start: Start
    end: End
    batch_size: int
    max_batch_bytes: int
    linger_s: float
    metadata: tuple[str, ...]
    tombstones: Literal["keep", "skip"]
    unknown_fields: Literal["ignore", "fail"]
    error_handling_policy: Literal["fail", "skip"]
    memory_per_reader: int
    sample_records: int
    max_in_flight_bytes: int | None
    actor_options: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class RunPlan:
    """What one run executes.

    Attributes:
        reader: What every reader executes.
        ranges: What to read, as integers.
        store: Where progress is kept, owned by this run; None if it keeps none.
        committed: The committed offsets at the start.
        schema: The schema of the batches; None behind a ``map``.
    """

    reader: ReaderPlan
    ranges: Mapping[TopicPartition, OffsetRange]
    store: OffsetStore | None
    committed: Mapping[TopicPartition, int]
    schema: pa.Schema | None


def source_schema(options: SourceOptions, value_schema: pa.Schema) -> pa.Schema:
    """Return the columns that a stream begins with: the value's, then the metadata columns."""
    return pa.schema([*value_schema, *(METADATA_FIELDS[name] for name in options.metadata)])


def resolve_schema(options: SourceOptions) -> pa.Schema:
    """Return the declared schema of the values, or infer it from the topic now."""
    if options.schema is not None:
        return options.schema
    with _connected(options.config) as client:
        partitions = client.partitions(options.topic)
        return _infer(options, client, client.watermarks(options.topic, partitions))


def prepare(
    options: SourceOptions,
    operators: Sequence[Operator],
    *,
    owns_group: bool,
    counts_only: bool = False,
) -> RunPlan:
    """Ask the brokers for everything that has to be known before a reader starts.

    Args:
        options: The source.
        operators: What is done with its batches.
        owns_group: Whether the run joins the group and may commit.
        counts_only: Whether only row numbers are wanted.

    Raises:
        ConfigError: The operators do not fit the schema, or there is nothing to infer one from.
        KafkaError: The brokers cannot be reached, or refuse.
        DataLoss: The start is not in the log any more.
    """
    store: OffsetStore | None = None
    with _connected(options.config) as client, contextlib.ExitStack() as undo:
        partitions = client.partitions(options.topic)
        # Before the group is joined, which ends its former owner for good: what is wrong with this
        # stream must not stop another one.
        value_schema = options.schema or _infer(
            options, client, client.watermarks(options.topic, partitions)
        )
        schema = source_schema(options, value_schema)
        columns = needed_columns(operators, schema)
        if counts_only and not operators:
            # Nothing looks at a column, and this one costs next to nothing.
            columns = ("_kafka_offset",)
        committed: Mapping[int, int] = {}
        if owns_group and options.group_id is not None:
            stream_id = options.stream_id or options.group_id
            store = open_kafka_group(
                options.config, options.group_id, stream_id, options.topic, partitions
            )
            undo.callback(store.close)
            committed = {p.partition: offset for p, offset in store.acquire().items()}
        elif options.start == "committed" and options.group_id is not None:
            committed = client.committed(options.group_id, options.topic, partitions)
        watermarks = client.watermarks(options.topic, partitions)
        ranges = resolve_ranges(
            options.topic,
            watermarks,
            start=options.start,
            end=options.end,
            committed=committed,
            auto_offset_reset=options.config.get("auto.offset.reset", "earliest"),
        )
        plan = RunPlan(
            ReaderPlan(
                options.backend,
                _spec(options, value_schema, columns),
                tuple(operators),
                options.batch_size,
                counts_only,
            ),
            {TopicPartition(options.topic, p): wanted for p, wanted in ranges.items()},
            store,
            {TopicPartition(options.topic, p): offset for p, offset in committed.items()},
            output_schema(operators, schema),
        )
        undo.pop_all()
        return plan


def _spec(options: SourceOptions, value_schema: pa.Schema, columns: tuple[str, ...]) -> SourceSpec:
    return SourceSpec(
        config=options.config,
        topic=options.topic,
        codec=JsonCodec(value_schema, options.unknown_fields),
        columns=columns,
        tombstones=options.tombstones,
        on_decode_error=options.error_handling_policy,
        max_batch_bytes=options.max_batch_bytes,
        linger_s=options.linger_s,
        # The other half is for the batches that are being built and handed over.
        prefetch_bytes=options.memory_per_reader // 2,
    )


def _infer(
    options: SourceOptions, client: ClusterClient, watermarks: Mapping[int, Watermarks]
) -> pa.Schema:
    # Two spots in each partition; at least a few records from every one.
    records = max(options.sample_records // (2 * len(watermarks)), 8)
    ranges = {}
    for partition, marks in watermarks.items():
        middle = min(marks.low + records, marks.last_stable)
        late = max(middle, marks.last_stable - records)
        ranges[partition] = [(marks.low, middle), (late, marks.last_stable)]
    values = client.sample(options.topic, ranges, records)
    if not values:
        raise ConfigError(
            f"topic '{options.topic}' has no record to infer a schema from; declare it with schema="
        )
    return infer_schema(values)


@contextlib.contextmanager
def _connected(config: KafkaConfig) -> Iterator[ClusterClient]:
    client = connect_cluster(config)
    try:
        yield client
    finally:
        client.close()
