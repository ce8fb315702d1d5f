"""The native `PartitionSource`: librdkafka and the C++ decoder, by way of `sabot_ray._native`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Literal

import pyarrow as pa

from sabot_ray.errors import BackendUnavailable, KafkaError
from sabot_ray.kafka.config import KafkaConfig, Value
from sabot_ray.kafka.metadata import End, Start
from sabot_ray.kafka.source import SourceSpec
from sabot_ray.kafka.standalone import plan_read
from sabot_ray.schema import batch_schema
from sabot_ray.types import SourceStats, Watermarks

if TYPE_CHECKING:
    from types import ModuleType

#: librdkafka's own log lines.
client_log = logging.getLogger("sabot_ray.librdkafka")

#: How long one call lasts at most in the thread that `LibrdkafkaSource.get_next_batch` waits for.
_ASYNC_POLL_S: Final = 0.5
#: Longest time that `LibrdkafkaSource.watermarks` waits, in seconds.
_WATERMARKS_TIMEOUT_S: Final = 10.0
#: librdkafka wants a group even where nobody joins one. It is never committed to.
_NO_GROUP: Final = "sabot_ray"
#: syslog's levels, 0 to 7.
_LOG_LEVELS: Final = (
    logging.CRITICAL,
    logging.CRITICAL,
    logging.CRITICAL,
    logging.ERROR,
    logging.WARNING,
    logging.INFO,
    logging.INFO,
    logging.DEBUG,
)


def _load_native() -> ModuleType:
    try:
        import confluent_kafka.cimpl

        from sabot_ray import _native
    except ImportError as error:
        remedy = (
            "install a sabot-ray that was built with a C++ compiler"
            if "_native" in str(error)
            else "install confluent-kafka >= 2.13.2, which brings librdkafka"
        )
        raise BackendUnavailable(f"{error}; {remedy}") from error
    _native.load_librdkafka(confluent_kafka.cimpl.__file__)
    return _native


def load_error() -> str | None:
    """Say why the native backend cannot be loaded here; None if it can."""
    try:
        _load_native()
    except BackendUnavailable as error:
        return error.message
    return None


class LibrdkafkaClient:
    """Opens sources that share one librdkafka handle: its connections and its threads.

    Args:
        config: How to reach the brokers.
        group_id: The group by which brokers account for the client; nothing joins or commits here.
        prefetch_bytes: Limit of what each source fetches ahead, where the config gives none.

    Raises:
        BackendUnavailable: The native module or librdkafka cannot be loaded on this machine.
        ConfigError: librdkafka refuses a setting.
    """

    def __init__(
        self,
        config: KafkaConfig,
        group_id: str | None = None,
        *,
        prefetch_bytes: int = 64 << 20,
    ) -> None:
        self._native = _load_native()
        settings = {
            # Only bytes limit the queue: the least number of records is never what stops it.
            "queued.min.messages": "1000000",
            "queued.max.messages.kbytes": str(max(1, prefetch_bytes >> 10)),
            # How long a topic that the brokers do not know counts as just created.
            "topic.metadata.propagation.max.ms": "5000",
            **config.librdkafka_settings(),
            "group.id": group_id or _NO_GROUP,
        }
        self._consumer = self._native.Consumer(settings)
        self._sources: set[LibrdkafkaSource] = set()

    def open_source(
        self,
        spec: SourceSpec,
        partition: int,
        start_offset: int,
        end_offset: int | None = None,
        leader_epoch: int = -1,
    ) -> LibrdkafkaSource:
        """See `sabot_ray.kafka.source.SourceClient.open_source`."""
        source = LibrdkafkaSource.__new__(LibrdkafkaSource)
        source._open(self, spec, partition, start_offset, end_offset, leader_epoch)
        return source

    def client_errors(self) -> list[KafkaError]:
        """Return the newest errors of the connections, oldest first.

        librdkafka goes on after them by itself, also after refused credentials and failed TLS
        handshakes, so no poll raises them; they tell why nothing comes.
        """
        errors: list[KafkaError] = self._consumer.client_errors()
        return errors

    def forward_log(self) -> None:
        """Hand librdkafka's log lines since the last call to ``sabot_ray.librdkafka``'s logger."""
        for level, text in self._consumer.take_log():
            client_log.log(_LOG_LEVELS[level], "%s", text)

    def close(self) -> None:
        """Close the sources and the connections. Idempotent, at most about a second."""
        for source in tuple(self._sources):
            source.close()
        self._consumer.close()


class LibrdkafkaSource:
    """Reads one partition through librdkafka; see `sabot_ray.kafka.source.PartitionSource`.

    Args:
        bootstrap_servers: ``"host:port"``, several with commas between, or a `KafkaConfig`.
        topic: The topic.
        group_id: The group whose committed offset is the start; nothing is committed here.
        partition_id: The partition; -1 asks for a topic that has only one.
        schema: The value columns: a schema, or names and types.
        columns: The columns to build, in order, also metadata columns; None: all of ``schema``.
        start: ``"committed"`` (the default with a group), ``"earliest"`` (the default without),
            ``"latest"``, or an offset.
        end: ``"latest"``, or the offset to stop before; None reads on for ever.
        tombstones: ``"keep"``: a null value is a row of nulls; ``"skip"``: it is dropped.
        unknown_fields: ``"ignore"``, or ``"fail"``: a field not in ``schema`` is a decode error.
        error_handling_policy: ``"fail"``, or ``"skip"``: values that do not decode are dropped.
        max_batch_bytes: A batch is closed once its keys and values reach this many bytes.
        linger_s: How long to wait for more records before a batch that is not full is handed over.
        prefetch_bytes: Limit of what is fetched ahead.
        kafka_settings: Settings of a Kafka consumer, by name.

    Raises:
        BackendUnavailable: The native module or librdkafka cannot be loaded on this machine.
        ConfigError: An option or a setting cannot work, or a partition has to be named.
        DataLoss: The start is not in the log.
        KafkaError: The brokers cannot be reached or refuse, or the topic does not exist.
    """

    _own_client: LibrdkafkaClient | None

    def __init__(
        self,
        bootstrap_servers: str | KafkaConfig,
        topic: str,
        group_id: str | None = None,
        partition_id: int = -1,
        *,
        schema: pa.Schema | Mapping[str, pa.DataType | str],
        columns: Sequence[str] | None = None,
        start: Start | None = None,
        end: End = None,
        tombstones: Literal["keep", "skip"] = "keep",
        unknown_fields: Literal["ignore", "fail"] = "ignore",
        error_handling_policy: Literal["fail", "skip"] = "fail",
        max_batch_bytes: int = 16 << 20,
        linger_s: float = 0.0,
        prefetch_bytes: int = 64 << 20,
        **kafka_settings: Value,
    ) -> None:
        spec, partition, start_offset, end_offset = plan_read(
            bootstrap_servers,
            topic,
            group_id,
            partition_id,
            schema=schema,
            columns=columns,
            start=start,
            end=end,
            tombstones=tombstones,
            unknown_fields=unknown_fields,
            error_handling_policy=error_handling_policy,
            max_batch_bytes=max_batch_bytes,
            linger_s=linger_s,
            prefetch_bytes=prefetch_bytes,
            kafka_settings=kafka_settings,
        )
        client = LibrdkafkaClient(spec.config, group_id, prefetch_bytes=prefetch_bytes)
        self._open(client, spec, partition, start_offset, end_offset, -1)
        self._own_client = client

    def _open(
        self,
        client: LibrdkafkaClient,
        spec: SourceSpec,
        partition: int,
        start_offset: int,
        end_offset: int | None,
        leader_epoch: int,
    ) -> None:
        self._own_client = None
        self._client = client
        self._spec = spec
        self._partition = partition
        self._executor: ThreadPoolExecutor | None = None
        self._async_poll: Future[pa.RecordBatch] | None = None
        self._schema = batch_schema(spec.codec.schema, spec.columns)
        self._pipeline = client._native.PartitionPipeline(
            client._consumer,
            spec.topic,
            partition,
            start_offset,
            end_offset,
            leader_epoch,
            spec.codec.schema,
            spec.columns,
            self._schema,
            refuse_unknown_fields=spec.codec.unknown_fields == "fail",
            skip_tombstones=spec.tombstones == "skip",
            skip_decode_errors=spec.on_decode_error == "skip",
            max_batch_bytes=spec.max_batch_bytes,
            linger_s=spec.linger_s,
        )
        client._sources.add(self)

    @property
    def schema(self) -> pa.Schema:
        """See `PartitionSource.schema`."""
        return self._schema

    def poll(self, max_rows: int, *, timeout_s: float) -> pa.RecordBatch:
        """See `PartitionSource.poll`."""
        try:
            batch: pa.RecordBatch = self._pipeline.poll(max_rows, timeout_s)
        finally:
            self._client.forward_log()
        return batch

    def position(self) -> int:
        """See `PartitionSource.position`."""
        offset: int = self._pipeline.position()
        return offset

    def watermarks(self) -> Watermarks:
        """See `PartitionSource.watermarks`."""
        bounds: Watermarks = self._client._consumer.watermarks(
            self._spec.topic, self._partition, _WATERMARKS_TIMEOUT_S
        )
        return bounds

    def seek(self, offset: int) -> None:
        """See `PartitionSource.seek`."""
        self._pipeline.seek(offset)

    def stats(self) -> SourceStats:
        """See `PartitionSource.stats`."""
        stats: SourceStats = self._pipeline.stats()
        return stats

    def close(self) -> None:
        """See `PartitionSource.close`."""
        self._pipeline.close()
        if self._executor is not None:
            self._executor.shutdown(wait=False)
        self._client._sources.discard(self)
        if self._own_client is not None:
            self._own_client.close()

    def shutdown(self) -> None:
        """See `PartitionSource.shutdown`."""
        self.close()

    async def get_next_batch(self, max_rows: int = 1000) -> pa.RecordBatch:
        """See `PartitionSource.get_next_batch`."""
        while True:
            # A poll outlives the call that was cancelled; its rows belong to the next one.
            if self._async_poll is None:
                if self._executor is None:
                    self._executor = ThreadPoolExecutor(1, "sabot_ray-poll")
                self._async_poll = self._executor.submit(
                    self.poll, max_rows, timeout_s=_ASYNC_POLL_S
                )
            batch = await asyncio.shield(asyncio.wrap_future(self._async_poll))
            self._async_poll = None
            if batch.num_rows or self._pipeline.done():
                return batch
