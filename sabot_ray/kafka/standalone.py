"""What the sources of both backends share: use without a stream, and the asynchronous poll."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Generic, Literal, Self, TypeVar

import pyarrow as pa

from sabot_ray.codecs.codec import Codec, UnknownFields
from sabot_ray.errors import ConfigError
from sabot_ray.kafka.cluster import connect_cluster
from sabot_ray.kafka.config import KafkaConfig, Value
from sabot_ray.kafka.metadata import End, OffsetRange, Start, resolve_ranges
from sabot_ray.kafka.options import (
    check_choice,
    check_number,
    check_source_options,
    checked_codec,
    checked_key_codec,
    checked_start,
    checked_text,
    checked_topic,
)
from sabot_ray.kafka.source import SourceClient, SourceSpec
from sabot_ray.schema import check_columns, empty_batch, metadata_fields
from sabot_ray.types import TopicPartition

#: How long one call lasts at most in the thread that `StandaloneSource.get_next_batch` waits for.
_ASYNC_POLL_S: Final = 0.5

_Client = TypeVar("_Client", bound=SourceClient)


class StandaloneSource(ABC, Generic[_Client]):
    """A `PartitionSource` that can be built without a stream and without Ray.

    Args:
        bootstrap_servers: ``"host:port"``, several with commas between, or a `KafkaConfig`.
        topic: The topic.
        group_id: The group whose committed offset is the start; nothing is committed here.
        partition_id: The partition; -1 asks for a topic that has only one.
        codec_type: How values are encoded: ``"json"``, ``"string"``, ``"bytes"``, or a `Codec`.
        schema: The value columns of ``"json"``: a schema, or names and types.
        columns: The columns to build, in order, also metadata columns; None: all of the values.
        start: ``"committed"`` (the default with a group), ``"earliest"`` (the default without),
            ``"latest"``, an offset, or a `datetime` (naive is UTC).
        end: ``"latest"``, or the offset or the time to stop before; None reads on for ever.
        tombstones: ``"keep"``: a null value is a row of nulls; ``"skip"``: it is dropped.
        unknown_fields: What to do with a field not in ``schema``: ``"ignore"`` counts it,
            ``"rescue"`` keeps it in the column ``_rescued``, ``"fail"`` makes it a decode error.
        error_handling_policy: ``"fail"``, or ``"skip"``: records that do not decode are dropped.
        key_codec: How keys are encoded: None or ``"bytes"`` leaves them as they are; ``"string"``;
            or a `Codec`.
        max_batch_bytes: A batch is closed once its keys and values reach this many bytes.
        linger_s: How long to wait for more records before a batch that is not full is handed over.
            Far behind the log's end the native backend waits up to 50 ms in any case.
        prefetch_bytes: Limit of what is fetched ahead.
        decode_threads: How many threads decode, in order; no effect on aiokafka. Worth it for JSON,
            where there are idle cores.
        kafka_settings: Settings of a Kafka consumer, by name.

    Raises:
        BackendUnavailable: The backend cannot be loaded on this machine.
        ConfigError: An option or a setting cannot work, or a partition has to be named.
        DataLoss: The start is not in the log.
        KafkaError: The brokers cannot be reached or refuse, or the topic does not exist.
    """

    _client: _Client

    def __init__(
        self,
        bootstrap_servers: str | KafkaConfig,
        topic: str,
        group_id: str | None = None,
        partition_id: int = -1,
        *,
        codec_type: str | Codec = "json",
        schema: pa.Schema | Mapping[str, pa.DataType | str] | None = None,
        columns: Sequence[str] | None = None,
        start: Start | None = None,
        end: End = None,
        tombstones: Literal["keep", "skip"] = "keep",
        unknown_fields: UnknownFields = "ignore",
        error_handling_policy: Literal["fail", "skip"] = "fail",
        key_codec: str | Codec | None = None,
        max_batch_bytes: int = 16 << 20,
        linger_s: float = 0.0,
        prefetch_bytes: int = 64 << 20,
        decode_threads: int = 1,
        **kafka_settings: Value,
    ) -> None:
        config = KafkaConfig.of(bootstrap_servers, **kafka_settings)
        topic, group_id = checked_topic(topic), checked_text("group_id", group_id)
        check_number("partition_id", partition_id, -1)
        start = checked_start(start, group_id)
        check_source_options(
            end=end,
            tombstones=tombstones,
            unknown_fields=unknown_fields,
            max_batch_bytes=max_batch_bytes,
            linger_s=linger_s,
            decode_threads=decode_threads,
        )
        check_choice("error_handling_policy", error_handling_policy, ("fail", "skip"))
        check_number("prefetch_bytes", prefetch_bytes, 1024)
        codec = checked_codec(codec_type, schema, unknown_fields)
        keys = checked_key_codec(key_codec)
        if codec is not None and codec.unknown_fields == "evolve":
            raise ConfigError(
                "unknown_fields='evolve': a source has one schema for all its life; read with "
                "Stream.from_kafka, or give 'ignore', 'rescue' or 'fail'"
            )
        # Nothing is sampled here.
        if codec is None:
            raise ConfigError("schema: declare the value columns")
        if keys is None:
            raise ConfigError("key_codec='json': pass a JsonCodec, which declares the keys' fields")
        known = pa.schema([*codec.columns, *metadata_fields(keys.key_type).values()])
        spec = SourceSpec(
            config,
            topic,
            codec,
            check_columns(codec.columns.names if columns is None else columns, known, "columns"),
            tombstones,
            error_handling_policy,
            max_batch_bytes,
            linger_s,
            prefetch_bytes,
            key_codec=keys,
            decode_threads=decode_threads,
        )
        partition, wanted = _resolve(config, topic, group_id, partition_id, start, end)
        client = self._connect(config, group_id, prefetch_bytes)
        self._attach(client, spec, partition, wanted.start_offset, wanted.end_offset, -1)
        self._owns_client = True

    @classmethod
    def of_client(
        cls,
        client: _Client,
        spec: SourceSpec,
        partition: int,
        start_offset: int,
        end_offset: int | None,
        leader_epoch: int,
    ) -> Self:
        """Open a source on a client that others share; see `SourceClient.open_source`."""
        source = cls.__new__(cls)
        source._attach(client, spec, partition, start_offset, end_offset, leader_epoch)
        return source

    def _attach(
        self,
        client: _Client,
        spec: SourceSpec,
        partition: int,
        start_offset: int,
        end_offset: int | None,
        leader_epoch: int,
    ) -> None:
        self._client = client
        self._owns_client = False
        self._spec = spec
        self._partition = partition
        self._schema = spec.schema
        self._executor: ThreadPoolExecutor | None = None
        self._executor_lock = threading.Lock()
        self._async_poll: Future[pa.RecordBatch] | None = None
        self._open(start_offset, end_offset, leader_epoch)

    @classmethod
    @abstractmethod
    def _connect(cls, config: KafkaConfig, group_id: str | None, prefetch_bytes: int) -> _Client:
        """Return a client of the backend."""

    @abstractmethod
    def _open(self, start_offset: int, end_offset: int | None, leader_epoch: int) -> None:
        """Start fetching; the client, the spec, the partition and the schema are set."""

    @abstractmethod
    def _stop(self) -> None:
        """Stop fetching, and wake a blocked poll. Idempotent."""

    @abstractmethod
    def _is_done(self) -> bool:
        """Tell whether nothing more comes: the end is reached, or the source is closed."""

    @abstractmethod
    def poll(self, max_rows: int, *, timeout_s: float) -> pa.RecordBatch:
        """See `PartitionSource.poll`."""

    @property
    def schema(self) -> pa.Schema:
        """See `PartitionSource.schema`."""
        return self._schema

    def close(self) -> None:
        """See `PartitionSource.close`."""
        self._stop()
        # From here on the source is done, so that no poll is started behind the shutdown.
        with self._executor_lock:
            if self._executor is not None:
                self._executor.shutdown(wait=False)
        if self._owns_client:
            self._client.close()

    def shutdown(self) -> None:
        """See `PartitionSource.shutdown`."""
        self.close()

    async def get_next_batch(self, max_rows: int = 1000) -> pa.RecordBatch:
        """See `PartitionSource.get_next_batch`."""
        while True:
            if self._async_poll is None:
                self._async_poll = self._start_poll(max_rows)
            poll = self._async_poll
            if poll is None:
                return empty_batch(self._schema)
            try:
                batch = await asyncio.shield(asyncio.wrap_future(poll))
            except Exception:
                # Not the CancelledError of this call, which is no Exception: a poll outlives the
                # call that was cancelled, and its rows belong to the next one.
                if self._async_poll is poll:
                    self._async_poll = None
                raise
            if self._async_poll is not poll:
                # Another task waited for the same poll, and its rows are taken.
                continue
            self._async_poll = None
            if batch.num_rows or self._is_done():
                return batch

    def _start_poll(self, max_rows: int) -> Future[pa.RecordBatch] | None:
        """Poll in the thread; None if nothing more comes."""
        with self._executor_lock:
            if self._is_done():
                return None
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, "sabot_ray-poll")
            return self._executor.submit(self.poll, max_rows, timeout_s=_ASYNC_POLL_S)


def _resolve(
    config: KafkaConfig,
    topic: str,
    group_id: str | None,
    partition_id: int,
    start: Start,
    end: End,
) -> tuple[int, OffsetRange]:
    """Ask the brokers for the partition to read, and turn its bounds into offsets."""
    client = connect_cluster(config)
    try:
        partition = _only_partition(topic, client.partitions(topic), partition_id)
        wanted = [TopicPartition(topic, partition)]
        committed = client.committed(group_id, wanted) if group_id else {}
        ranges = resolve_ranges(
            topic,
            client.watermarks(topic, [partition]),
            start=start,
            end=end,
            committed={number: found for (_, number), found in committed.items()},
            auto_offset_reset=config.get("auto.offset.reset", "earliest"),
            offsets_at=client.offsets_at,
        )
    finally:
        client.close()
    return partition, ranges[partition]


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
