"""From a stream's options to what a run executes: integer offsets and a fixed schema."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from sabot_ray.codecs.codec import Codec, UnknownFields
from sabot_ray.codecs.inference import infer_schema
from sabot_ray.codecs.json import JsonCodec
from sabot_ray.errors import ConfigError, UnknownTopicOrPartition
from sabot_ray.kafka.cluster import connect_cluster
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.metadata import (
    ClusterClient,
    End,
    OffsetRange,
    Start,
    resolve_ranges,
)
from sabot_ray.kafka.sampling import sample_records
from sabot_ray.kafka.source import Backend, SourceSpec
from sabot_ray.offsets import open_kafka_group
from sabot_ray.offsets.store import OffsetStore
from sabot_ray.runtime.operators import Operator, needed_columns, output_schema
from sabot_ray.runtime.reader import ReaderPlan
from sabot_ray.schema import RESCUED_COLUMN, metadata_fields
from sabot_ray.types import TopicPartition, Watermarks


@dataclass(frozen=True, eq=False)
class SourceOptions:
    """The options of ``Stream.from_kafka``, checked; they stand in its docstring."""

    config: KafkaConfig
    topics: tuple[str, ...]
    partitions: Mapping[str, Sequence[int]] | None
    group_id: str | None
    stream_id: str | None
    backend: Backend
    codec: Codec | None  # None: JSON whose schema is inferred, as the next one.
    key_codec: Codec | None
    start: Start
    end: End
    batch_size: int
    max_batch_bytes: int
    linger_s: float
    metadata: tuple[str, ...]
    tombstones: Literal["keep", "skip"]
    unknown_fields: UnknownFields
    error_handling_policy: Literal["fail", "skip"]
    readers: int | None
    decode_threads: int
    memory_per_reader: int
    metadata_refresh_s: float
    sample_records: int
    max_in_flight_bytes: int | None
    actor_options: Mapping[str, Any]

    @property
    def source_name(self) -> str:
        """The topics or the pattern, for errors and reprs."""
        return self.topics[0] if len(self.topics) == 1 else f"{self.topics[0]}, ..."


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


class Codecs(NamedTuple):
    """How a stream's records are decoded: their schemas are known."""

    values: Codec
    keys: Codec


def source_schema(options: SourceOptions, codecs: Codecs) -> pa.Schema:
    """Return the columns that a stream begins with: the value's, then the metadata columns."""
    metadata = metadata_fields(codecs.keys.key_type)
    return pa.schema([*codecs.values.columns, *(metadata[name] for name in options.metadata)])


def resolve_codecs(options: SourceOptions) -> Codecs:
    """Return the codecs; a schema that is not declared is inferred from the topics now."""
    declared = _declared(options)
    if declared is not None:
        return declared
    with connected(options.config) as client:
        partitions = read_partitions(options, existing_partitions(options, client))
        return _infer(options, client, _watermarks(client, partitions))


def existing_partitions(options: SourceOptions, client: ClusterClient) -> list[TopicPartition]:
    """Return all partitions of the topics that exist now.

    Raises:
        UnknownTopicOrPartition: A topic does not exist, or none matches the pattern.
    """
    topics: Sequence[str] = options.topics
    if topics[0].startswith("^"):
        pattern = re.compile(topics[0])
        # Kafka's own topics begin so.
        topics = sorted(
            name for name in client.leaders() if pattern.search(name) and not name.startswith("__")
        )
        if not topics:
            raise UnknownTopicOrPartition(
                f"no topic of {options.config.bootstrap_servers} matches the pattern "
                f"'{pattern.pattern}'; create one first, or check its spelling"
            )
    return [TopicPartition(topic, p) for topic in topics for p in client.partitions(topic)]


def read_partitions(options: SourceOptions, existing: list[TopicPartition]) -> list[TopicPartition]:
    """Return the partitions to read, of those that exist.

    Raises:
        ConfigError: A chosen partition does not exist.
    """
    if options.partitions is None:
        return existing
    chosen = {TopicPartition(t, p) for t, numbers in options.partitions.items() for p in numbers}
    for partition in sorted(chosen - set(existing)):
        count = sum(partition.topic == topic for topic, _ in existing)
        raise ConfigError(
            f"partitions: topic '{partition.topic}' has {count} partitions and no "
            f"{partition.partition}"
        )
    return sorted(chosen)


def _watermarks(
    client: ClusterClient, partitions: Iterable[TopicPartition]
) -> dict[str, dict[int, Watermarks]]:
    """Return the bounds of the logs, by topic."""
    wanted: dict[str, list[int]] = {}
    for topic, number in partitions:
        wanted.setdefault(topic, []).append(number)
    return {topic: client.watermarks(topic, numbers) for topic, numbers in wanted.items()}


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
    with connected(options.config) as client, contextlib.ExitStack() as undo:
        existing = existing_partitions(options, client)
        partitions = read_partitions(options, existing)
        # Before the group is joined, which ends its former owner for good: what is wrong with this
        # stream must not stop another one.
        codecs = _declared(options) or _infer(options, client, _watermarks(client, partitions))
        schema = source_schema(options, codecs)
        columns = needed_columns(operators, schema)
        if counts_only and not operators:
            # Nothing looks at a column, and this one costs next to nothing.
            columns = ("_kafka_offset",)
        committed: Mapping[TopicPartition, int] = {}
        if owns_group and options.group_id is not None:
            stream_id = options.stream_id or options.group_id
            store = open_kafka_group(options.config, options.group_id, stream_id, existing)
            undo.callback(store.close)
            committed = store.acquire()
        elif options.start == "committed" and options.group_id is not None:
            committed = _committed(client, options.group_id, partitions)
        ranges = {}
        for topic, watermarks in _watermarks(client, partitions).items():
            resolved = resolve_ranges(
                topic,
                watermarks,
                start=options.start,
                end=options.end,
                committed={p: offset for (t, p), offset in committed.items() if t == topic},
                auto_offset_reset=options.config.get("auto.offset.reset", "earliest"),
                offsets_at=client.offsets_at,
            )
            ranges.update({TopicPartition(topic, p): wanted for p, wanted in resolved.items()})
        plan = RunPlan(
            ReaderPlan(
                options.backend,
                _spec(options, codecs, columns),
                tuple(operators),
                options.batch_size,
                counts_only,
            ),
            ranges,
            store,
            committed,
            output_schema(operators, schema),
        )
        undo.pop_all()
        return plan


def _committed(
    client: ClusterClient, group_id: str, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    found = {}
    for topic in dict.fromkeys(topic for topic, _ in partitions):
        numbers = [number for name, number in partitions if name == topic]
        offsets = client.committed(group_id, topic, numbers)
        found.update({TopicPartition(topic, p): offset for p, offset in offsets.items()})
    return found


def _spec(options: SourceOptions, codecs: Codecs, columns: tuple[str, ...]) -> SourceSpec:
    return SourceSpec(
        config=options.config,
        # Each reader names its own.
        topic=options.topics[0],
        codec=codecs.values,
        columns=columns,
        tombstones=options.tombstones,
        on_decode_error=options.error_handling_policy,
        max_batch_bytes=options.max_batch_bytes,
        linger_s=options.linger_s,
        # The other half is for the batches that are being built and handed over.
        prefetch_bytes=options.memory_per_reader // 2,
        key_codec=codecs.keys,
        decode_threads=options.decode_threads,
    )


def _declared(options: SourceOptions) -> Codecs | None:
    """Return the codecs, if none of their schemas has to be inferred."""
    if options.codec is None or options.key_codec is None:
        return None
    return Codecs(options.codec, options.key_codec)


def _infer(
    options: SourceOptions,
    client: ClusterClient,
    watermarks: Mapping[str, Mapping[int, Watermarks]],
) -> Codecs:
    """Return the codecs; a sample of the topics gives the schemas that are not declared."""
    sampled = sample_records(
        client,
        options.source_name,
        watermarks,
        options.sample_records,
        remedy="schema" if options.codec is None else "key_codec",
    )
    values = (record.value for record in sampled)
    # Beside the column of unknown fields there is none of the same name.
    without = {RESCUED_COLUMN} if options.unknown_fields == "rescue" else ()
    return Codecs(
        options.codec or JsonCodec(infer_schema(values, without=without), options.unknown_fields),
        options.key_codec
        or JsonCodec(infer_schema((record.key for record in sampled), "key_codec")),
    )


@contextlib.contextmanager
def connected(config: KafkaConfig) -> Iterator[ClusterClient]:
    """Connect a client for the length of a ``with`` block."""
    client = connect_cluster(config)
    try:
        yield client
    finally:
        client.close()
