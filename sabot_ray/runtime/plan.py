"""From a stream's options to what a run executes: integer offsets and a fixed schema."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from sabot_ray.codecs.codec import Codec, UnknownFields
from sabot_ray.codecs.json import JsonCodec
from sabot_ray.errors import (
    BrokerUnavailable,
    ConfigError,
    TopicRecreated,
    UnknownTopicOrPartition,
)
from sabot_ray.kafka.cluster import connect_cluster
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.interceptor import Interceptor
from sabot_ray.kafka.metadata import (
    ClusterClient,
    End,
    OffsetRange,
    OnDataLoss,
    Start,
    resolve_ranges,
)
from sabot_ray.kafka.sink import ask_target
from sabot_ray.kafka.source import Backend, SourceSpec
from sabot_ray.offsets import open_kafka_group, open_transactional_group
from sabot_ray.offsets.envelope import topic_id_in
from sabot_ray.offsets.kept_schema import KeptSchema
from sabot_ray.offsets.store import Offsets, OffsetStore
from sabot_ray.runtime.operators import Operator, needed_columns, output_schema
from sabot_ray.runtime.policy import ErrorPolicy
from sabot_ray.runtime.reader_messages import ReaderPlan, SinkPlan
from sabot_ray.runtime.schemas import (
    Codecs,
    declared_codecs,
    resolve_codecs,
    watermarks_of,
)
from sabot_ray.runtime.transactions import Ownership, kept_slots
from sabot_ray.schema import OFFSET_COLUMN, differences
from sabot_ray.types import TopicPartition


@dataclass(frozen=True, eq=False)
class SourceOptions:
    """The options of ``Stream.from_kafka``, checked; they stand in its docstring."""

    config: KafkaConfig
    topics: tuple[str, ...]
    partitions: Mapping[str, Sequence[int]] | None
    group_id: str | None
    stream_id: str | None
    backend: Backend
    codec: Codec | None  # None: JSON whose schema is kept or inferred, as the next one.
    key_codec: Codec | None
    infers_anew: bool
    start: Start
    end: End
    batch_size: int
    max_batch_bytes: int
    linger_s: float
    metadata: tuple[str, ...]
    tombstones: Literal["keep", "skip"]
    unknown_fields: UnknownFields
    policy: ErrorPolicy
    on_data_loss: OnDataLoss
    readers: int | None
    decode_threads: int
    memory_per_reader: int
    metadata_refresh_s: float
    sample_records: int
    max_in_flight_bytes: int | None
    interceptors: tuple[Interceptor, ...]
    actor_options: Mapping[str, Any]

    @property
    def evolves(self) -> bool:
        """Whether the schema grows with the fields that are met."""
        codec = self.codec
        return "evolve" in (self.unknown_fields, codec.unknown_fields if codec else None)

    @property
    def source_name(self) -> str:
        """The topics or the pattern, for errors and reprs."""
        return self.topics[0] if len(self.topics) == 1 else f"{self.topics[0]}, ..."


class PlannedBranch(NamedTuple):
    """What a stream, or one of those that a union joins, reads, and does with the batches."""

    options: SourceOptions
    operators: tuple[Operator, ...] = ()

    def __str__(self) -> str:
        options = self.options
        topic = options.topics[0] if len(options.topics) == 1 else list(options.topics)
        source = f"Stream.from_kafka({options.config.bootstrap_servers!r}, {topic!r}"
        if options.group_id is not None:
            source += f", {options.group_id!r}"
        return f"{source})" + "".join(f".{operator}" for operator in self.operators)


@dataclass(frozen=True, eq=False)
class RunPlan:
    """What one run executes.

    Attributes:
        reader: What every reader executes.
        ranges: What to read, as integers.
        store: Where progress is kept, owned by this run; None if it keeps none.
        ownership: Of readers that commit by themselves, in transactions; None: the run commits.
        committed: The committed offsets at the start.
        topic_ids: The ids of the topics; none where none are to be had.
        codecs: How records are decoded.
        schema: The schema of the batches; None behind a ``map``.
    """

    reader: ReaderPlan
    ranges: Mapping[TopicPartition, OffsetRange]
    store: OffsetStore | None
    ownership: Ownership | None
    committed: Mapping[TopicPartition, int]
    topic_ids: Mapping[str, str]
    codecs: Codecs
    schema: pa.Schema | None


def stream_schema(branches: Sequence[PlannedBranch]) -> pa.Schema | None:
    """Return the schema of a stream's batches; what is not declared is looked up now.

    Returns:
        The schema; None behind a ``map`` in all branches.

    Raises:
        ConfigError: The operators do not fit the columns, or the branches' batches differ.
        KafkaError: The brokers cannot be reached, or refuse.
    """
    schemas = []
    for branch in branches:
        schema = _source_schema(branch.options)
        needed_columns(branch.operators, schema)
        schemas.append(output_schema(branch.operators, schema))
    _check_alike(branches, schemas)
    return next((schema for schema in schemas if schema is not None), None)


def _source_schema(options: SourceOptions) -> pa.Schema:
    declared = declared_codecs(options)
    if declared is not None and options.group_id is None:
        return declared.source_schema(options.metadata)
    with connected(options.config) as client:
        existing = existing_partitions(options, client)
        kept = _kept_schema(_committed(options, client, existing))
        codecs = resolve_codecs(options, client, read_partitions(options, existing), kept)
        return codecs.source_schema(options.metadata)


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


class _Look(NamedTuple):
    """What is known of a branch before its group is joined."""

    client: ClusterClient
    existing: list[TopicPartition]
    committed: Offsets
    kept: KeptSchema | None
    codecs: Codecs
    reader: ReaderPlan


def prepare(
    branches: Sequence[PlannedBranch],
    *,
    owns_group: bool,
    counts_only: bool = False,
    sink: SinkPlan | None = None,
) -> list[RunPlan]:
    """Ask the brokers for everything that has to be known before a reader starts.

    Args:
        branches: What is read, and what is done with the batches of each.
        owns_group: Whether the run joins the groups and may commit.
        counts_only: Whether only row numbers are wanted.
        sink: Where the readers write, if they do.

    Returns:
        A plan for each branch.

    Raises:
        ConfigError: The operators do not fit the schema, it is declared and differs from the kept
            one, there is nothing to infer one from, or the branches' batches differ.
        KafkaError: The brokers cannot be reached, or refuse.
        DataLoss: The start is not in the log any more.
        TopicRecreated: What is committed of a topic is of a former one.
    """
    with contextlib.ExitStack() as clients, contextlib.ExitStack() as undo:
        # Before a group is joined, which ends its former owner for good: what is wrong with this
        # stream must not stop another one.
        looks = []
        for branch in branches:
            client = clients.enter_context(connected(branch.options.config))
            looks.append(_look(branch, client, counts_only=counts_only, sink=sink))
        schemas = [_schema_of(s, look) for s, look in zip(branches, looks, strict=True)]
        _check_alike(branches, schemas)
        if sink is not None:
            # Behind a map nobody knows the columns yet.
            for schema in filter(None, schemas):
                sink.spec.check(schema)
            _check_target(sink, looks)
        plans = []
        for branch, look in zip(branches, looks, strict=True):
            plan = _plan(branch, look, owns_group=owns_group)
            if plan.store is not None:
                undo.callback(plan.store.close)
            plans.append(plan)
        # Once more: a former owner's last words may have been another schema.
        _check_alike(branches, [plan.schema for plan in plans])
        undo.pop_all()
        return plans


def _check_target(sink: SinkPlan, looks: Sequence[_Look]) -> None:
    """Check that the topic exists, and is where transactions need it.

    Raises:
        ConfigError: Exactly once, and it is on another cluster than a source.
        KafkaError: It does not exist, or the brokers do not answer.
    """
    ask_target(sink.spec)
    if not sink.is_exactly_once:
        return
    with connected(sink.spec.config) as target:
        cluster_id = target.cluster_id()
        if any(look.client.cluster_id() != cluster_id for look in looks):
            raise ConfigError(
                "delivery='exactly_once': a transaction covers one cluster, and the source is on "
                "another one than the target; write with delivery='at_least_once'"
            )


def _look(
    branch: PlannedBranch, client: ClusterClient, *, counts_only: bool, sink: SinkPlan | None
) -> _Look:
    options, operators = branch
    existing = existing_partitions(options, client)
    _check_dead_letter_topic(options, client, {topic for topic, _ in existing})
    is_exactly_once = sink is not None and sink.is_exactly_once
    # A transaction whose writer is gone would hold this up: the readers end it, and look again.
    committed = _committed(options, client, existing, awaits_transactions=not is_exactly_once)
    kept = _kept_schema(committed)
    codecs = resolve_codecs(options, client, read_partitions(options, existing), kept)
    reader = reader_plan(options, operators, codecs, counts_only=counts_only, sink=sink)
    return _Look(client, existing, committed, kept, codecs, reader)


def _check_dead_letter_topic(
    options: SourceOptions, client: ClusterClient, read_topics: set[str]
) -> None:
    topic = options.policy.dead_letter_topic
    if topic is None:
        return
    if topic in read_topics:
        raise ConfigError(
            f"dead_letter_topic: '{topic}' is read by this stream, and would never come to an end"
        )
    try:
        client.partitions(topic)
    except UnknownTopicOrPartition:
        raise ConfigError(
            f"dead_letter_topic: '{topic}' does not exist on {options.config.bootstrap_servers}; "
            "create it first"
        ) from None


def _schema_of(branch: PlannedBranch, look: _Look) -> pa.Schema | None:
    return output_schema(branch.operators, look.codecs.source_schema(branch.options.metadata))


def _check_alike(branches: Sequence[PlannedBranch], schemas: Sequence[pa.Schema | None]) -> None:
    for branch, schema in zip(branches, schemas, strict=True):
        check_alike(branches[0].options, schemas[0], branch.options, schema)


def check_alike(
    one: SourceOptions, schema: pa.Schema | None, other: SourceOptions, of_other: pa.Schema | None
) -> None:
    """Check that two branches of a union give the same batches, as far as that is known.

    Raises:
        ConfigError: They do not; it tells the difference.
    """
    if schema is None or of_other is None:
        return
    found = differences(schema, of_other, ("first", "other"))
    if not found:
        return
    names = [f"'{options.source_name}'" for options in (one, other)]
    servers = [options.config.bootstrap_servers for options in (one, other)]
    if servers[0] != servers[1]:
        names = [f"{name} of {server}" for name, server in zip(names, servers, strict=True)]
    raise ConfigError(
        f"union: {names[0]} and {names[1]} give different batches, but a stream has one schema:\n  "
        + "\n  ".join(found)
        + "\nmake them alike: declare the same schema= for both, or select, with_columns or map "
        "before the union"
    )


def _plan(branch: PlannedBranch, look: _Look, *, owns_group: bool) -> RunPlan:
    options, operators = branch
    client, existing, committed, kept, codecs, reader = look
    partitions = read_partitions(options, existing)
    with contextlib.ExitStack() as undo:
        store: OffsetStore | None = None
        ownership: Ownership | None = None
        if owns_group and options.group_id is not None:
            stream_id = options.stream_id or options.group_id
            group = options.config, options.group_id, stream_id, existing
            if reader.sink is not None and reader.sink.is_exactly_once:
                store = transactional = open_transactional_group(*group)
            else:
                store, transactional = open_kafka_group(*group), None
            undo.callback(store.close)
            committed = store.acquire()
            if transactional is not None:
                slots = kept_slots(committed, existing)
                ownership = Ownership(transactional, options.group_id, stream_id, slots)
            if _kept_schema(committed) != kept:
                # The former owner's last words.
                kept = _kept_schema(committed)
                codecs = resolve_codecs(options, client, partitions, kept)
                reader = reader_plan(
                    options, operators, codecs, counts_only=reader.counts_only, sink=reader.sink
                )
        # Before the logs' bounds: of a topic that is created anew in between the old id is known.
        topic_ids = client.topic_ids({partition.topic for partition in partitions})
        recreated = _recreated(committed, topic_ids)
        ranges = {}
        for topic, watermarks in watermarks_of(client, partitions).items():
            resolved = resolve_ranges(
                topic,
                watermarks,
                start=options.start,
                end=options.end,
                committed={p: found for (t, p), found in committed.items() if t == topic},
                auto_offset_reset=options.config.get("auto.offset.reset", "earliest"),
                offsets_at=client.offsets_at,
                recreated={p: error for (t, p), error in recreated.items() if t == topic},
                on_data_loss=options.on_data_loss,
            )
            ranges.update({TopicPartition(topic, p): wanted for p, wanted in resolved.items()})
        plan = RunPlan(
            reader,
            ranges,
            store,
            ownership,
            # An equal offset of another topic would not be committed anew.
            {p: found.offset for p, found in committed.items() if p not in recreated},
            topic_ids,
            codecs,
            output_schema(operators, codecs.source_schema(options.metadata)),
        )
        undo.pop_all()
        return plan


def _committed(
    options: SourceOptions,
    client: ClusterClient,
    partitions: Sequence[TopicPartition],
    *,
    awaits_transactions: bool = True,
) -> Offsets:
    if options.group_id is None:
        return {}
    ask = functools.partial(
        client.committed, options.group_id, partitions, awaits_transactions=awaits_transactions
    )
    try:
        return ask()
    except BrokerUnavailable:
        # At a cluster's first group Kafka makes its topic of offsets, which may take its time.
        return ask()


def _recreated(
    committed: Offsets, topic_ids: Mapping[str, str]
) -> dict[TopicPartition, TopicRecreated]:
    """Return the partitions whose committed offsets are those of another topic, and the errors."""
    kept_ids = {
        text: topic_id_in(text) for text in {found.metadata for found in committed.values()}
    }
    recreated = {}
    for partition, found in committed.items():
        kept, now = kept_ids[found.metadata], topic_ids.get(partition.topic)
        # Other programs keep none.
        if kept is not None and now is not None and kept != now:
            recreated[partition] = TopicRecreated.of(partition.topic, kept, now)
    return recreated


def _kept_schema(committed: Offsets) -> KeptSchema | None:
    return KeptSchema.newest(committed[partition].metadata for partition in sorted(committed))


def reader_plan(
    options: SourceOptions,
    operators: Sequence[Operator],
    codecs: Codecs,
    *,
    counts_only: bool = False,
    sink: SinkPlan | None = None,
) -> ReaderPlan:
    """Return what every reader executes.

    Raises:
        ConfigError: The operators do not fit the schema.
    """
    columns = needed_columns(operators, codecs.source_schema(options.metadata))
    if counts_only and sink is None and not operators:
        # Nothing looks at a column, and this one costs next to nothing.
        columns = (OFFSET_COLUMN,)
        if isinstance(codecs.values, JsonCodec) and codecs.values.unknown_fields == "evolve":
            # The rows are the same with further columns.
            codecs = codecs._replace(values=replace(codecs.values, unknown_fields="ignore"))
    # To tell which records fail.
    adds_offsets = (
        options.policy.passes_over
        and bool(operators or sink is not None)
        and OFFSET_COLUMN not in columns
    )
    return ReaderPlan(
        options.backend,
        _spec(options, codecs, (*columns, OFFSET_COLUMN) if adds_offsets else columns),
        tuple(operators),
        options.batch_size,
        counts_only or sink is not None,
        sink=sink,
        policy=options.policy,
        adds_offsets=adds_offsets,
    )


def _spec(options: SourceOptions, codecs: Codecs, columns: tuple[str, ...]) -> SourceSpec:
    on_decode_error: Literal["fail", "skip", "report"] = "fail"
    if options.policy.dead_letter_topic is not None:
        on_decode_error = "report"
    elif options.policy.passes_over:
        on_decode_error = "skip"
    return SourceSpec(
        config=options.config,
        # Each reader names its own.
        topic=options.topics[0],
        codec=codecs.values,
        columns=columns,
        tombstones=options.tombstones,
        on_decode_error=on_decode_error,
        max_batch_bytes=options.max_batch_bytes,
        linger_s=options.linger_s,
        # The other half is for the batches that are being built and handed over.
        prefetch_bytes=options.memory_per_reader // 2,
        key_codec=codecs.keys,
        decode_threads=options.decode_threads,
    )


@contextlib.contextmanager
def connected(config: KafkaConfig) -> Iterator[ClusterClient]:
    """Connect a client for the length of a ``with`` block."""
    client = connect_cluster(config)
    try:
        yield client
    finally:
        client.close()
