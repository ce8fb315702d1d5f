"""Writing record batches to topics: the contract of both backends, and what they share."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, Self

import pyarrow as pa
import pyarrow.compute as pc

from sabot_ray.codecs.codec import Codec, Rejected
from sabot_ray.codecs.json import JsonCodec
from sabot_ray.codecs.text import BytesCodec, StringCodec
from sabot_ray.errors import ConfigError, EncodeError, KafkaError, SinkError
from sabot_ray.kafka.cluster import connect_cluster
from sabot_ray.kafka.config import KafkaConfig, Value, check_setting_names
from sabot_ray.kafka.options import check_seconds, checked_topic
from sabot_ray.kafka.outgoing import Column, Outgoing, Partitioner, RecordLayout, is_text
from sabot_ray.schema import check_value_schema, writable_schema
from sabot_ray.types import FailedRecord, WrittenRecords

COMPRESSIONS: Final = ("none", "gzip", "snappy", "lz4", "zstd")
#: Names of librdkafka's partitioners.
PARTITIONERS: Final = (
    "murmur2_random",
    "murmur2",
    "consistent_random",
    "consistent",
    "fnv1a_random",
    "fnv1a",
    "random",
)
#: How often a partitioner that is a function may learn of new partitions, in seconds.
_COUNT_AGAIN_S: Final = 60.0
#: How long a sink that is closed waits to be told what became of its last records, in seconds.
CLOSE_TIMEOUT_S: Final = 1.0
#: Longest time in one call to the client, so that the sink sees to its connections, in seconds.
SLICE_S: Final = 1.0


@dataclass(frozen=True)
class SinkSpec:
    """Everything that decides what a sink writes; picklable as far as the layout is.

    Attributes:
        config: How to reach the brokers.
        layout: How rows become records.
        codec: The codec of the values, or the name of one that follows the batches' columns.
        compression: One of `COMPRESSIONS`.
        on_encode_error: ``"fail"``: nothing is written of a batch with a row that cannot be
            encoded; ``"skip"``: that row is left out.
    """

    config: KafkaConfig
    layout: RecordLayout
    codec: Codec | str = "json"
    compression: str = "lz4"
    on_encode_error: Literal["fail", "skip"] = "fail"

    def codec_for(self, schema: pa.Schema) -> Codec:
        """Return the codec of values with these columns.

        Raises:
            ConfigError: They cannot be encoded so.
        """
        if self.codec == "json":
            return JsonCodec(check_value_schema(writable_schema(schema)))
        codec = self.codec if isinstance(self.codec, Codec) else _TEXT_CODECS[self.codec]()
        if isinstance(codec, JsonCodec):
            if codec.columns.names != schema.names:
                raise ConfigError(
                    f"codec_type: the JsonCodec has the columns {codec.columns.names}, the batch "
                    f"{schema.names}; pass columns="
                )
            return codec
        if len(schema) != 1:
            raise ConfigError(
                f"codec_type='{codec.name}' writes one column; of {schema.names} name one: columns="
            )
        if not is_text(schema.types[0]):
            raise ConfigError(
                f"codec_type='{codec.name}' writes strings or bytes; column '{schema.names[0]}' is "
                f"{schema.types[0]}; write it as codec_type='json', or cast it before"
            )
        return codec


_TEXT_CODECS: Final[dict[str, type[BytesCodec | StringCodec]]] = {
    "bytes": BytesCodec,
    "string": StringCodec,
}


class Delivery(Protocol):
    """What becomes of the records of a batch."""

    @property
    def rejected(self) -> Sequence[Rejected]:
        """The rows that cannot be encoded, ascending; they are not written."""

    def is_settled(self) -> bool:
        """Tell whether the fate of every record is known."""

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is; tell whether that came in time."""

    def failures(self) -> list[FailedRecord]:
        """Return the records that were not written, as far as the client can tell; in no order."""

    def written(self) -> list[WrittenRecords]:
        """Return where records were written so far, by topic and partition."""


class PartitionSink(Protocol):
    """Writes record batches to topics. One thread only, but for `close`."""

    def send(self, batch: pa.RecordBatch) -> Delivery:
        """Encode a batch and hand its records to the client, which writes them by itself.

        Waits while the client has as much under way as it may. Nothing is under way of a batch that
        raises an error.

        Raises:
            ConfigError: The batch lacks a column, or has one that cannot serve.
            EncodeError: A row cannot be encoded, and the policy is ``"fail"``.
            KafkaError: The client can write nothing any more; make another sink.
        """

    def send_batch(self, batch: pa.RecordBatch) -> None:
        """Do the same, and leave it to the sink to look after the records.

        Raises:
            SinkError: Records of an earlier batch were not written.
        """

    def flush(self, timeout_s: float = 60.0) -> None:
        """Wait until every record of `send_batch` is written.

        Raises:
            SinkError: Records were not written, or not in time: those that are still under way
                may be written later.
        """

    def close(self) -> None:
        """Free the client; what is under way is given up: `flush` first. Idempotent."""

    def shutdown(self) -> None:
        """Do the same as `close`: the name it had in Sabot."""


class KafkaSink(ABC):
    """A `PartitionSink` that can be built without a stream and without Ray.

    A row of which all columns are null becomes a record without a value, a tombstone: as such a
    record is read.

    Args:
        bootstrap_servers: ``"host:port"``, several with commas between, or a `KafkaConfig`.
        topic: The topic, or an expression that gives each row's, for example ``pc.field("to")``.
        codec_type: How values are encoded: ``"json"``, ``"string"``, ``"bytes"``, or a `Codec`.
        compression_type: ``"none"``, ``"gzip"``, ``"snappy"``, ``"lz4"`` or ``"zstd"``.
        key_extractor: A function that gives the key of a row as a dict: slow, in place of ``key``.
        key: The column of the keys (strings or bytes), or an expression; None: records have none.
        headers: Column or expression of maps from strings to bytes, or of lists as in
            ``_kafka_headers``.
        timestamp: Column or expression of timestamps, or of integers in milliseconds; by default
            the time of writing.
        partition: Column or expression of partition numbers; null leaves it to the partitioner.
        partitioner: Chooses the partition by the key: ``"murmur2_random"``, as Java's client does,
            another one of librdkafka's, or a function of a batch and the number of partitions that
            gives an array of integers.
        columns: The columns to encode, in order; None: all but those that a stream adds.
        error_handling_policy: ``"fail"``, or ``"skip"``: rows that cannot be encoded are left out.
        kafka_settings: Settings of a Kafka producer, by name.

    Raises:
        BackendUnavailable: The backend cannot be loaded on this machine.
        ConfigError: An option or a setting cannot work.
        KafkaError: The brokers cannot be reached or refuse, or the topic does not exist.
    """

    def __init__(
        self,
        bootstrap_servers: str | KafkaConfig,
        topic: Column,
        codec_type: str | Codec = "json",
        compression_type: str = "lz4",
        key_extractor: Callable[[dict[str, Any]], bytes | None] | None = None,
        *,
        key: Column | None = None,
        headers: Column | None = None,
        timestamp: Column | None = None,
        partition: Column | None = None,
        partitioner: str | Partitioner = "murmur2_random",
        columns: Sequence[str] | None = None,
        error_handling_policy: Literal["fail", "skip"] = "fail",
        **kafka_settings: Value,
    ) -> None:
        check_setting_names(kafka_settings, "producer")
        config = (
            bootstrap_servers.with_settings(**kafka_settings)
            if isinstance(bootstrap_servers, KafkaConfig)
            else KafkaConfig(bootstrap_servers, **kafka_settings)
        )
        spec = checked_sink_spec(
            config,
            topic,
            codec_type,
            compression_type,
            error_handling_policy,
            key_extractor=key_extractor,
            key=key,
            headers=headers,
            timestamp=timestamp,
            partition=partition,
            partitioner=partitioner,
            columns=columns,
        )
        self._attach(spec)

    @classmethod
    def of_spec(cls, spec: SinkSpec) -> Self:
        """Open a sink that was described elsewhere."""
        sink = cls.__new__(cls)
        sink._attach(spec)
        return sink

    def _attach(self, spec: SinkSpec) -> None:
        self._spec = spec
        self._is_closed = False
        self._encoders: dict[pa.Schema, tuple[Codec, Any]] = {}
        self._pending: deque[Delivery] = deque()
        self._partition_count = (0, float("-inf"))
        self._connect()
        try:
            if self._topic_name:
                # So that what is wrong with the connection or the topic is told now.
                self._count_partitions()
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def _connect(self) -> None:
        """Make the client."""

    @abstractmethod
    def _make_encoder(self, codec: Codec) -> Any:
        """Return what `_send` takes for the codec."""

    @abstractmethod
    def _send(self, outgoing: Outgoing, encoder: Any) -> Delivery:
        """Encode, and hand over; see `send`."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Free the client."""

    @property
    def _topic_name(self) -> str:
        """The topic, where there is one."""
        return self._spec.layout.topic if isinstance(self._spec.layout.topic, str) else ""

    def send(self, batch: pa.RecordBatch) -> Delivery:
        """See `PartitionSink.send`."""
        if self._is_closed:
            raise KafkaError("the sink is closed")
        outgoing = self._spec.layout.outgoing(batch, self._count_partitions)
        schema = outgoing.values.schema
        if schema not in self._encoders:
            codec = self._spec.codec_for(schema)
            self._encoders[schema] = codec, self._make_encoder(codec)
        codec, encoder = self._encoders[schema]
        if codec.columns != schema:
            outgoing = outgoing.cast(codec.columns)
        return self._send(outgoing, encoder)

    def _count_partitions(self) -> int:
        """Return how many partitions the topic has; asked anew now and then, as it may grow."""
        count, asked_at = self._partition_count
        if time.monotonic() - asked_at > _COUNT_AGAIN_S:
            client = connect_cluster(self._spec.config)
            try:
                count = len(client.partitions(self._topic_name))
            finally:
                client.close()
            self._partition_count = count, time.monotonic()
        return count

    def _check_rejected(self, rejected: Sequence[Rejected]) -> None:
        if rejected and self._spec.on_encode_error == "fail":
            first = rejected[0]
            raise EncodeError.at(self._topic_name, first.index, first.field, first.reason)

    def send_batch(self, batch: pa.RecordBatch) -> None:
        """See `PartitionSink.send_batch`."""
        self._take_up_settled()
        self._pending.append(self.send(batch))

    def _take_up_settled(self) -> None:
        failures: list[FailedRecord] = []
        while self._pending and self._pending[0].is_settled():
            failures += self._pending.popleft().failures()
        if failures:
            raise sink_error(failures)

    def flush(self, timeout_s: float = 60.0) -> None:
        """See `PartitionSink.flush`."""
        check_seconds("timeout_s", timeout_s, 0, 86_400)
        if self._is_closed:
            if self._pending:
                raise SinkError("the sink was closed before its records were written: flush first")
            return
        is_done = self._flush(timeout_s)
        self._take_up_settled()
        if not is_done and self._pending:
            raise SinkError(
                f"topic '{self._topic_name}': not all records were written within {timeout_s:g} s"
                f"{self._last_words()}; they are still under way, and may be written later",
                self._topic_name,
            )

    @abstractmethod
    def _flush(self, timeout_s: float) -> bool:
        """Write what waits; tell whether the fate of all is known in time."""

    def _last_words(self) -> str:
        """Return what the connections said last, as the rest of a sentence."""
        return ""

    def close(self) -> None:
        """See `PartitionSink.close`."""
        if not self._is_closed:
            self._is_closed = True
            self._disconnect()

    def shutdown(self) -> None:
        """See `PartitionSink.shutdown`."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self.close()


def checked_sink_spec(
    config: KafkaConfig,
    topic: Column,
    codec_type: str | Codec,
    compression_type: str,
    error_handling_policy: str,
    *,
    columns: Sequence[str] | None,
    partitioner: str | Partitioner,
    **layout: Any,
) -> SinkSpec:
    """Check the options of a sink; see `KafkaSink`.

    Raises:
        ConfigError: One cannot work.
    """
    if isinstance(topic, str):
        topic = checked_topic(topic)
    elif not isinstance(topic, pc.Expression):
        raise ConfigError(
            f"topic: expected str, or an expression such as pc.field('to'), found "
            f"{type(topic).__name__}"
        )
    if not isinstance(codec_type, Codec) and codec_type not in ("json", *_TEXT_CODECS):
        raise ConfigError(f"codec_type: {codec_type!r} is not one of 'json', 'string', 'bytes'")
    if compression_type not in COMPRESSIONS:
        raise ConfigError(
            f"compression_type: {compression_type!r} is not one of {', '.join(COMPRESSIONS)}"
        )
    if error_handling_policy not in ("fail", "skip"):
        raise ConfigError(
            f"error_handling_policy: {error_handling_policy!r} is not one of 'fail', 'skip'"
        )
    if not callable(partitioner) and partitioner not in PARTITIONERS:
        raise ConfigError(
            f"partitioner: {partitioner!r} is not a function, nor one of {', '.join(PARTITIONERS)}"
        )
    for name in ("key", "headers", "timestamp", "partition"):
        given = layout.get(name)
        if not isinstance(given, str | pc.Expression | None):
            raise ConfigError(
                f"{name}: expected a column's name, or an expression such as pc.field('x'), found "
                f"{type(given).__name__}"
            )
    return SinkSpec(
        config,
        RecordLayout(
            topic,
            tuple(columns) if columns is not None else None,
            partitioner=partitioner,
            **layout,
        ),
        codec_type,
        compression_type,
        "fail" if error_handling_policy == "fail" else "skip",
    )


def sink_error(failures: Sequence[FailedRecord]) -> SinkError:
    """Return the error of records that were not written."""
    first = min(failures, key=lambda failed: failed.row)
    where = f"topic '{first.topic}'" + (
        f" partition {first.partition}" if first.partition >= 0 else ""
    )
    others = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    error = SinkError(
        f"{where}: row {first.row}{others} was not written: {first.error}",
        first.topic,
        first.partition,
        len(failures),
    )
    error.__cause__ = first.error
    return error
