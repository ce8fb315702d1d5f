"""Writing record batches to topics: the contract of both backends, and what they share."""

from __future__ import annotations

import contextlib
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Protocol, Self

import pyarrow as pa
import pyarrow.compute as pc

from sabot_ray.codecs.codec import Codec, Rejected
from sabot_ray.codecs.json import JsonCodec
from sabot_ray.codecs.text import BytesCodec, StringCodec
from sabot_ray.errors import (
    BrokerUnavailable,
    ConfigError,
    EncodeError,
    KafkaError,
    SinkError,
)
from sabot_ray.kafka.cluster import connect_cluster
from sabot_ray.kafka.config import KafkaConfig, Value, check_setting_names
from sabot_ray.kafka.interceptor import Interceptor, Interceptors, checked_interceptors
from sabot_ray.kafka.options import check_choice, check_seconds, checked_topic
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
        interceptors: They see batches before they are encoded, and hear what became of them.
        transactional_id: Of a `TransactionalSink`.
    """

    config: KafkaConfig
    layout: RecordLayout
    codec: Codec | str = "json"
    compression: str = "lz4"
    on_encode_error: Literal["fail", "skip"] = "fail"
    interceptors: tuple[Interceptor, ...] = ()
    transactional_id: str | None = None

    def codec_for(self, schema: pa.Schema) -> Codec:
        """Return the codec of values with these columns.

        Raises:
            ConfigError: They cannot be encoded so.
        """
        if self.codec == "json":
            return JsonCodec(check_value_schema(writable_schema(schema)))
        codec = self.codec if isinstance(self.codec, Codec) else _TEXT_CODECS[self.codec]()
        if isinstance(codec, JsonCodec):
            # No cast that changes a value, or fails for one.
            if writable_schema(codec.columns) != writable_schema(schema):
                raise ConfigError(
                    f"codec_type: the JsonCodec has the columns\n{codec.columns}\nthe batch has\n"
                    f"{schema}\npass columns=, or cast them before"
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

    def check(self, schema: pa.Schema) -> None:
        """Check that batches with these columns can be written.

        Raises:
            ConfigError: A column does not exist, or has a type that cannot serve.
        """
        layout = self.layout
        if callable(layout.partitioner):
            # It expects rows, and the topic's number of partitions.
            layout = replace(layout, partitioner="murmur2_random")
        nothing = pa.RecordBatch.from_pylist([], schema=schema)
        self.codec_for(layout.outgoing(nothing, lambda: 1).values.schema)


_TEXT_CODECS: Final[dict[str, type[BytesCodec | StringCodec]]] = {
    "string": StringCodec,
    "bytes": BytesCodec,
}


class Delivery(Protocol):
    """What becomes of the records of a batch."""

    @property
    def rejected(self) -> Sequence[Rejected]:
        """The rows that cannot be encoded, ascending; they are not written."""

    def outstanding(self) -> int:
        """Return of how many records the fate is not known; until all are handed over, one more."""

    def is_settled(self) -> bool:
        """Tell whether the fate of every record is known."""

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is; tell whether that came in time."""

    def failures(self) -> list[FailedRecord]:
        """Return the records that were not written, as far as the client can tell; in no order."""

    def written(self) -> list[WrittenRecords]:
        """Return where records were written so far, by topic and partition."""


class PartitionSink(Protocol):
    """Writes record batches to topics. One thread only, but for `close` and `stalled_s`."""

    def send(self, batch: pa.RecordBatch) -> Delivery:
        """Encode a batch and hand its records to the client, which writes them by itself.

        Waits while the client has as much under way as it may.

        Raises:
            ConfigError: The batch lacks a column, or has one that cannot serve; nothing of it is
                written.
            EncodeError: A row cannot be encoded, and the policy is ``"fail"``; likewise.
            KafkaError: The sink was closed, or the client can write nothing any more; some records
                of the batch may have been written.
        """

    def tend(self) -> None:
        """Do what the client cannot by itself: to be called while records are under way."""

    def stalled_s(self) -> float:
        """Return for how long nothing was heard of the oldest batch under way.

        Returns:
            Seconds, as far as `tend` is called, or `send` waits; 0 where nothing is under way.
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
        interceptors: Their `Interceptor.on_produce` is called before a batch is encoded, their
            `Interceptor.on_acknowledgement` once it is known what became of its records.
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
        interceptors: Sequence[Interceptor] = (),
        **kafka_settings: Value,
    ) -> None:
        check_setting_names(kafka_settings, "producer")
        config = KafkaConfig.of(bootstrap_servers, **kafka_settings)
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
            interceptors=interceptors,
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
        self._is_free = False
        # Held by whoever uses the client, so that `close` frees it behind them.
        # One of a signal's handler finds it held by its own thread.
        self._in_use = threading.RLock()
        self._user: int | None = None
        # By the serialised schema: two that differ in metadata only are equal.
        self._encoders: dict[bytes, tuple[Codec, Any]] = {}
        self._pending: deque[Delivery] = deque()
        self._partition_count = (0, float("-inf"))
        self._watch = _Watch()
        self._interceptors = Interceptors(spec.interceptors)
        # Batches that they are still to hear of.
        self._untold: list[Delivery] = []
        self._load()
        self._check_target()
        self._connect()

    def _check_target(self) -> None:
        """Tell now what is wrong with the connection or the topic, by a client that knows it."""
        self._partition_count = ask_target(self._spec), time.monotonic()

    @abstractmethod
    def _load(self) -> None:
        """Make sure that the client can be had here, before anything connects."""

    @abstractmethod
    def _connect(self) -> None:
        """Make the client."""

    @abstractmethod
    def _make_encoder(self, codec: Codec) -> Any:
        """Return what `_encode` takes for the codec."""

    @abstractmethod
    def _encode(self, outgoing: Outgoing, encoder: Any) -> Delivery:
        """Encode a batch; nothing is handed over yet."""

    @abstractmethod
    def _hand_over(self, delivery: Delivery) -> None:
        """Give what `_encode` returned to the client, waiting for room as long as it takes."""

    def _tend(self) -> None:
        """See `tend`; also to be called while the sender waits for room."""
        self._watch.look()
        self._tell_settled()

    def stalled_s(self) -> float:
        """See `PartitionSink.stalled_s`."""
        return self._watch.look()

    @abstractmethod
    def _disconnect(self) -> None:
        """Free the client."""

    @property
    def _topic_name(self) -> str:
        """The topic, where there is one."""
        return self._spec.layout.topic if isinstance(self._spec.layout.topic, str) else ""

    def send(self, batch: pa.RecordBatch) -> Delivery:
        """See `PartitionSink.send`."""
        with self._using():
            delivery = self._encoded(batch)
            self._send(delivery)
            return delivery

    def send_batch(self, batch: pa.RecordBatch) -> None:
        """See `PartitionSink.send_batch`."""
        self._take_up_settled()
        with self._using():
            delivery = self._encoded(batch)
            # First, so that `flush` tells of it also where this is interrupted.
            self._pending.append(delivery)
            self._send(delivery)

    def _send(self, delivery: Delivery) -> None:
        try:
            with self._watch.handing_over(delivery):
                self._hand_over(delivery)
        finally:
            if self._interceptors:
                self._untold.append(delivery)

    def tend(self) -> None:
        """See `PartitionSink.tend`."""
        with self._using():
            if not self._is_closed:
                self._tend()

    def _encoded(self, batch: pa.RecordBatch) -> Delivery:
        self._check_open()
        if batch.num_rows:
            batch = self._interceptors.on_produce(batch)
        outgoing = self._spec.layout.outgoing(batch, self._count_partitions)
        schema = outgoing.values.schema
        key = schema.serialize().to_pybytes()
        if key not in self._encoders:
            codec = self._spec.codec_for(schema)
            self._encoders[key] = codec, self._make_encoder(codec)
        codec, encoder = self._encoders[key]
        if not isinstance(codec, JsonCodec):
            outgoing = outgoing.of_bytes()
        elif codec.columns != schema:
            outgoing = outgoing.cast(codec.columns)
        delivery = self._encode(outgoing, encoder)
        if delivery.rejected and self._spec.on_encode_error == "fail":
            first = delivery.rejected[0]
            raise EncodeError.at(self._topic_name, first.index, first.field, first.reason)
        return delivery

    def _check_open(self) -> None:
        if self._is_closed:
            raise KafkaError("the sink is closed")

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        """Use the client for the length of a ``with`` block; who closes it meanwhile waits."""
        with self._in_use:
            self._user = threading.get_ident()
            try:
                yield
            finally:
                self._user = None
                if self._is_closed:
                    self._free()

    def _free(self) -> None:
        was_free, self._is_free = self._is_free, True
        if not was_free:
            self._disconnect()
            self._tell_settled()

    def _count_partitions(self) -> int:
        """Return how many partitions the topic has; asked anew now and then, as it may grow."""
        count, asked_at = self._partition_count
        if time.monotonic() - asked_at > _COUNT_AGAIN_S:
            try:
                count = ask_target(self._spec)
            except BrokerUnavailable:
                # It was so many before, and the client bears an outage.
                if not count:
                    raise
            self._partition_count = count, time.monotonic()
        return count

    def _tell_settled(self) -> None:
        settled = [delivery for delivery in self._untold if delivery.is_settled()]
        for delivery in settled:
            self._untold.remove(delivery)
            written, failed = delivery.written(), delivery.failures()
            if written or failed:
                self._interceptors.on_acknowledgement(written, failed)

    def _take_up_settled(self) -> None:
        failures: list[FailedRecord] = []
        while self._pending and self._pending[0].is_settled():
            failures += sorted(self._pending.popleft().failures(), key=lambda failed: failed.row)
        if failures:
            raise sink_error(failures)

    def flush(self, timeout_s: float = 60.0) -> None:
        """See `PartitionSink.flush`."""
        check_seconds("timeout_s", timeout_s, 0, 86_400)
        deadline = time.monotonic() + timeout_s
        is_done = False
        while not is_done and not self._is_closed:
            with self._using():
                left_s = deadline - time.monotonic()
                if not self._is_closed:
                    self._tend()
                    is_done = self._flush(min(SLICE_S, max(left_s, 0.0)))
                    self._tell_settled()
            if time.monotonic() >= deadline:
                break
        self._take_up_settled()
        if self._pending:
            reason = "the sink was closed" if self._is_closed else self._last_words()
            raise SinkError(
                f"topic '{self._topic_name}': not all records were written within {timeout_s:g} s"
                f"{f' ({reason})' if reason else ''}; they may be written later",
                self._topic_name,
            )

    @abstractmethod
    def _flush(self, timeout_s: float) -> bool:
        """Write what waits; tell whether the fate of all is known in time."""

    def _last_words(self) -> str:
        """Return what the connections said last."""
        return ""

    def close(self) -> None:
        """See `PartitionSink.close`."""
        # First, so that whoever waits for room gives up.
        self._is_closed = True
        # A signal's handler interrupts a call of this thread, which frees the client at its end.
        if self._user != threading.get_ident():
            with self._in_use:
                self._free()

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


class _Watch:
    """Notices that the oldest batch under way gets no further. Thread safe.

    Others may go on: each partition has a leader of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: deque[Delivery] = deque()
        # Whether the newest of them is not under way as a whole yet.
        self._is_handing_over = False
        # How many of the oldest batch's records were outstanding, and since when they are so many.
        self._outstanding = 0
        self._since = 0.0

    @contextlib.contextmanager
    def handing_over(self, delivery: Delivery) -> Iterator[None]:
        """Watch a batch, which is handed over in a ``with`` block, until it is settled."""
        with self._lock:
            self._is_handing_over = True
            self._under_way.append(delivery)
            if len(self._under_way) == 1:
                self._note(0)
        try:
            yield
        finally:
            self._is_handing_over = False

    def look(self) -> float:
        """Return for how long nothing changed, as far as was looked; 0 if nothing is under way."""
        with self._lock:
            while len(self._under_way) > self._is_handing_over and self._under_way[0].is_settled():
                self._under_way.popleft()
                self._note(0)
            if not self._under_way:
                return 0.0
            outstanding = self._under_way[0].outstanding()
            if outstanding != self._outstanding:
                self._note(outstanding)
            return time.monotonic() - self._since

    def _note(self, outstanding: int) -> None:
        self._outstanding, self._since = outstanding, time.monotonic()


def checked_sink_spec(
    config: KafkaConfig,
    topic: Column,
    codec_type: str | Codec,
    compression_type: str,
    error_handling_policy: str,
    *,
    columns: Sequence[str] | None,
    partitioner: str | Partitioner,
    interceptors: Sequence[Interceptor] = (),
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
    if not isinstance(codec_type, Codec):
        check_choice("codec_type", codec_type, ("json", *_TEXT_CODECS))
    if compression_type not in COMPRESSIONS:
        raise ConfigError(
            f"compression_type: {compression_type!r} is not one of {', '.join(COMPRESSIONS)}"
        )
    check_choice("error_handling_policy", error_handling_policy, ("fail", "skip"))
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
        checked_interceptors(interceptors),
    )


def ask_target(spec: SinkSpec) -> int:
    """Ask the brokers for the topic, and return how many partitions it has.

    Returns:
        The number; 0 where each row has a topic of its own.

    Raises:
        KafkaError: They cannot be reached or refuse, or the topic does not exist.
    """
    client = connect_cluster(spec.config)
    try:
        if isinstance(spec.layout.topic, str):
            return len(client.partitions(spec.layout.topic))
        client.leaders()
        return 0
    finally:
        client.close()


def sink_error(failures: Sequence[FailedRecord]) -> SinkError:
    """Return the error of records that were not written, the first of them first."""
    first = failures[0]
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
