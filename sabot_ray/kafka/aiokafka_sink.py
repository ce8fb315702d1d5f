"""The fallback sink: rows become records in Python, and aiokafka writes them."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError as AiokafkaError
from aiokafka.errors import KafkaTimeoutError

from sabot_ray.codecs.codec import Codec, Encoder, Rejected
from sabot_ray.errors import (
    BrokerUnavailable,
    ConfigError,
    KafkaError,
    UnknownTopicOrPartition,
)
from sabot_ray.kafka.aiokafka_brokers import security_arguments
from sabot_ray.kafka.aiokafka_errors import kafka_error
from sabot_ray.kafka.aiokafka_loop import EventLoopThread
from sabot_ray.kafka.metadata import METADATA_TIMEOUT_S
from sabot_ray.kafka.outgoing import Outgoing
from sabot_ray.kafka.partitioners import partitioner
from sabot_ray.kafka.sink import CLOSE_TIMEOUT_S, SLICE_S, Delivery, KafkaSink
from sabot_ray.types import FailedRecord, WrittenRecords

#: How long a record may wait to be written, where the config does not say. In milliseconds.
_DELIVERY_TIMEOUT_MS: Final = 120_000
#: How many records may be under way before the sender has to wait...
_MOST_OUTSTANDING: Final = 50_000
#: ...and how many go to the event loop together: it shall not be busy for long.
_HANDED_OVER: Final = 500


class AiokafkaSink(KafkaSink):
    """Writes through aiokafka; see `PartitionSink` and `KafkaSink`."""

    def _connect(self) -> None:
        config = self._spec.config
        config.check_aiokafka()
        # Before the thread starts: it may be refused.
        security = security_arguments(config)
        known = inspect.signature(AIOKafkaProducer).parameters
        settings: dict[str, Any] = {
            name: value
            for name, value in {**config.aiokafka_settings("producer"), **security}.items()
            if name in known
        }
        compression = self._spec.compression
        settings["compression_type"] = None if compression == "none" else compression
        name = self._spec.layout.partitioner
        settings["partitioner"] = partitioner(name if isinstance(name, str) else "murmur2_random")
        settings["value_serializer"] = _serialize
        self._delivery_timeout_s = config.get("delivery.timeout.ms", _DELIVERY_TIMEOUT_MS) / 1000
        self._outstanding = threading.Semaphore(_MOST_OUTSTANDING)
        # Belongs to the loop.
        self._under_way: set[asyncio.Future[Any]] = set()
        self._loop = EventLoopThread()
        self._producer: AIOKafkaProducer | None = None
        try:
            self._producer = self._loop.run(self._start(settings), timeout_s=METADATA_TIMEOUT_S)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"aiokafka refuses the settings: {error}") from None
        except AiokafkaError as error:
            raise kafka_error(error, f"brokers {config.bootstrap_servers}") from error
        finally:
            if self._producer is None:
                self._loop.close()

    async def _start(self, settings: dict[str, Any]) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(**settings)
        # Else a partition without a leader fails its records after request_timeout_ms.
        producer._message_accumulator._batch_ttl = self._delivery_timeout_s
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        return producer

    def _make_encoder(self, codec: Codec) -> Encoder:
        return codec.encoder()

    def _send(self, outgoing: Outgoing, encoder: Encoder) -> Delivery:
        encoded = encoder.encode(outgoing.values)
        self._check_rejected(encoded.rejected)
        delivery = _Delivery(encoded.rejected, self._outstanding)
        try:
            chunk = []
            for record in _records(outgoing, encoded.values, self._topic_name):
                while not self._outstanding.acquire(timeout=SLICE_S):
                    self._check_open()
                delivery.begin()
                chunk.append(record)
                if len(chunk) == _HANDED_OVER:
                    self._hand_over(chunk, delivery)
                    chunk = []
            self._hand_over(chunk, delivery)
        finally:
            delivery.settle()
        return delivery

    def _check_open(self) -> None:
        if self._is_closed:
            raise KafkaError("the sink was closed meanwhile")

    def _hand_over(self, records: list[_Record], delivery: _Delivery) -> None:
        self._check_open()
        self._loop.run(self._send_all(records, delivery))

    async def _send_all(self, records: list[_Record], delivery: _Delivery) -> None:
        assert self._producer is not None
        for row, topic, arguments in records:
            try:
                future = await self._send_one(topic, arguments)
            except Exception as error:  # noqa: BLE001 - whatever it is, the record is not written
                delivery.fail(row, topic, arguments["partition"], error)
            else:
                self._under_way.add(future)
                future.add_done_callback(self._under_way.discard)
                future.add_done_callback(functools.partial(delivery.take_up, row, topic))

    async def _send_one(self, topic: str, arguments: dict[str, Any]) -> asyncio.Future[Any]:
        assert self._producer is not None
        partition = arguments["partition"]
        if partition is not None:
            known = await self._producer.partitions_for(topic)
            if partition not in known:
                raise UnknownTopicOrPartition(f"topic '{topic}' has no partition {partition}")
        deadline = time.monotonic() + self._delivery_timeout_s
        while True:
            try:
                future: asyncio.Future[Any] = await self._producer.send(topic, **arguments)
                return future
            except KafkaTimeoutError:
                # There was no room in time.
                if time.monotonic() >= deadline:
                    raise

    def _flush(self, timeout_s: float) -> bool:
        assert self._producer is not None
        if not self._pending:
            return True
        try:
            self._loop.run(self._producer.flush(), timeout_s=timeout_s)
        except BrokerUnavailable:
            return False
        # The last ones may still be on their way to their deliveries.
        return all(delivery.wait(SLICE_S) for delivery in self._pending)

    def _disconnect(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            self._loop.run(self._stop(producer))
        self._loop.close()

    async def _stop(self, producer: AIOKafkaProducer) -> None:
        """Stop, giving up what is under way, which aiokafka's own way would wait for."""
        stopping = asyncio.ensure_future(producer.stop())
        done, _ = await asyncio.wait({stopping}, timeout=CLOSE_TIMEOUT_S)
        if not done:
            stopping.cancel()
            for future in tuple(self._under_way):
                future.cancel()
            # First the connections: the sender waits for the requests that it has sent.
            closing = asyncio.ensure_future(producer.client.close())
            await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_S)
            ending = asyncio.ensure_future(producer._sender.close())
            await asyncio.wait({ending}, timeout=CLOSE_TIMEOUT_S)


#: Stands for no value: aiokafka takes None only where there is a key.
_NO_VALUE: Final = object()


def _serialize(value: Any) -> bytes | None:
    return None if value is _NO_VALUE else value


#: A row, its topic, and aiokafka's arguments of a record.
_Record = tuple[int, str, dict[str, Any]]


def _records(outgoing: Outgoing, values: pa.Array[Any], topic: str) -> Iterator[_Record]:
    """Yield the records of the rows that could be encoded."""
    count = len(values)
    none = [None] * count

    def listed(array: pa.Array[Any] | None) -> Sequence[Any]:
        return none if array is None else array.to_pylist()

    tombstones = _rows_without_values(outgoing.values)
    topics = [topic] * count if outgoing.topics is None else outgoing.topics.to_pylist()
    rows = zip(
        topics,
        values.to_pylist(),
        tombstones,
        listed(outgoing.keys),
        listed(outgoing.headers),
        listed(outgoing.timestamps),
        listed(outgoing.partitions),
        strict=True,
    )
    for row, (to, value, is_tombstone, key, headers, timestamp, partition) in enumerate(rows):
        if value is None and not is_tombstone:
            continue
        arguments = {
            "value": _NO_VALUE if is_tombstone else value,
            "key": key,
            "partition": partition,
            "timestamp_ms": timestamp,
            "headers": [(header["key"], header["value"]) for header in headers or ()],
        }
        yield row, to, arguments


def _rows_without_values(values: pa.RecordBatch) -> Sequence[bool]:
    """Tell of each row whether all columns are null."""
    if not all(column.null_count for column in values.columns):
        return [False] * values.num_rows
    missing = [pc.is_null(column) for column in values.columns]
    all_missing = missing[0]
    for column in missing[1:]:
        all_missing = pc.and_(all_missing, column)
    return [bool(is_missing) for is_missing in all_missing.to_pylist()]


class _Delivery:
    """See `Delivery`. The sending thread begins records, the event loop's settles them.

    Args:
        rejected: The rows that could not be encoded.
        outstanding: Released for each record whose fate is known.
    """

    def __init__(self, rejected: Sequence[Rejected], outstanding: threading.Semaphore) -> None:
        self.rejected = rejected
        self._room = outstanding
        self._lock = threading.Lock()
        # The batch itself counts until all of it is handed over.
        self._outstanding = 1
        self._settled = threading.Event()
        self._failures: list[FailedRecord] = []
        self._written: dict[tuple[str, int], WrittenRecords] = {}

    def begin(self) -> None:
        """Count a record."""
        with self._lock:
            self._outstanding += 1

    def settle(self) -> None:
        """Take one off, a record or the batch."""
        with self._lock:
            self._outstanding -= 1
            is_last = not self._outstanding
        if is_last:
            self._settled.set()

    def take_up(self, row: int, topic: str, done: asyncio.Future[Any]) -> None:
        """Note what has become of a record."""
        if done.cancelled():
            self.fail(row, topic, None, KafkaError("given up: the sink was closed"))
            return
        error = done.exception()
        if error is not None:
            self.fail(row, topic, None, error)
            return
        found = done.result()
        place = topic, found.partition
        before = self._written.get(place, WrittenRecords(*place, 0, found.offset, found.offset))
        self._written[place] = WrittenRecords(
            *place,
            before.records + 1,
            min(before.first_offset, found.offset),
            max(before.last_offset, found.offset),
        )
        self._room.release()
        self.settle()

    def fail(self, row: int, topic: str, partition: int | None, error: BaseException) -> None:
        """Note a record that was not written."""
        where = f"topic '{topic}'"
        if isinstance(error, AiokafkaError):
            error = kafka_error(error, where)
        elif not isinstance(error, KafkaError):
            error = KafkaError(f"{where}: {type(error).__name__}: {error}")
        number = -1 if partition is None else partition
        self._failures.append(FailedRecord(row, topic, number, error))
        self._room.release()
        self.settle()

    def is_settled(self) -> bool:
        """See `Delivery.is_settled`."""
        return self._settled.is_set()

    def wait(self, timeout_s: float) -> bool:
        """See `Delivery.wait`."""
        return self._settled.wait(timeout_s)

    def failures(self) -> list[FailedRecord]:
        """See `Delivery.failures`."""
        return list(self._failures)

    def written(self) -> list[WrittenRecords]:
        """See `Delivery.written`."""
        return list(self._written.values())
