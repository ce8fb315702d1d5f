"""The fallback sink: rows become records in Python, and aiokafka writes them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import itertools
import threading
import time
from collections import deque
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError as AiokafkaError
from aiokafka.errors import KafkaTimeoutError

from sabot_ray.codecs.codec import Codec, Encoder, Rejected
from sabot_ray.errors import ConfigError, KafkaError, UnknownTopicOrPartition
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
#: How long a topic that does not exist counts as such, in seconds.
_UNKNOWN_TOPIC_S: Final = 5.0
#: How many records may be under way before the sender has to wait...
_MOST_OUTSTANDING: Final = 50_000
#: ...and how many go to the event loop together: it shall not be busy for long.
_HANDED_OVER: Final = 500


class AiokafkaSink(KafkaSink):
    """Writes through aiokafka; see `PartitionSink` and `KafkaSink`.

    aiokafka goes on trying while a partition has a leader, however long: ``delivery_timeout_ms``
    limits how long it may have none.
    """

    def _load(self) -> None:
        self._spec.config.check_aiokafka()

    def _connect(self) -> None:
        config = self._spec.config
        self._delivery_timeout_s = config.get("delivery.timeout.ms", _DELIVERY_TIMEOUT_MS) / 1000
        self._outstanding = threading.Semaphore(_MOST_OUTSTANDING)
        # These three belong to the loop.
        self._under_way: set[asyncio.Future[Any]] = set()
        self._unknown_topics: dict[str, tuple[float, Exception]] = {}
        self._producer: AIOKafkaProducer | None = None
        # Set where a broker has refused a record: see `_restart`.
        self._must_restart = False
        # Before the thread starts: it may be refused.
        security = security_arguments(config)
        self._loop = EventLoopThread()
        try:
            self._loop.run(self._start(security), timeout_s=METADATA_TIMEOUT_S)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"aiokafka refuses the settings: {error}") from None
        finally:
            if self._producer is None:
                self._loop.close()

    async def _start(self, security: dict[str, Any]) -> None:
        known = inspect.signature(AIOKafkaProducer).parameters
        given = {**self._spec.config.aiokafka_settings("producer"), **security}
        name = self._spec.layout.partitioner
        compression = self._spec.compression
        producer = AIOKafkaProducer(
            **{key: value for key, value in given.items() if key in known},
            compression_type=None if compression == "none" else compression,
            partitioner=partitioner(name if isinstance(name, str) else "murmur2_random"),
            value_serializer=_serialize,
        )
        # Else a partition without a leader fails its records after request_timeout_ms.
        producer._message_accumulator._batch_ttl = self._delivery_timeout_s
        try:
            await producer.start()
        except BaseException as error:
            await producer.stop()
            if isinstance(error, AiokafkaError):
                servers = self._spec.config.bootstrap_servers
                raise kafka_error(error, f"brokers {servers}", writes=True) from error
            raise
        self._producer = producer

    async def _restart(self, security: dict[str, Any]) -> None:
        """Go on with a new producer: the old one's sequence numbers have a gap.

        aiokafka counts a refused batch among those that were written, and the broker takes no later
        one of the partition.
        """
        assert self._producer is not None
        if self._under_way:
            await asyncio.wait(tuple(self._under_way))
        # Again is no harm, should the brokers be away now.
        await self._producer.stop()
        await self._start(security)
        self._must_restart = False

    def _make_encoder(self, codec: Codec) -> Encoder:
        return codec.encoder()

    def _encode(self, outgoing: Outgoing, encoder: Encoder) -> Delivery:
        encoded = encoder.encode(outgoing.values)
        records = _records(outgoing, encoded.values, self._topic_name)
        return _Delivery(encoded.rejected, records, self._outstanding)

    def _hand_over(self, delivery: Delivery) -> None:
        assert isinstance(delivery, _Delivery)
        delivery.begin()
        try:
            while chunk := list(itertools.islice(delivery.records, _HANDED_OVER)):
                self._hand_over_chunk(chunk, delivery)
        finally:
            delivery.settle()

    def _hand_over_chunk(self, chunk: list[_Record], delivery: _Delivery) -> None:
        taken = 0
        try:
            for _ in chunk:
                while not self._outstanding.acquire(timeout=SLICE_S):
                    self._check_open()
                    self._tend()
                delivery.begin()
                taken += 1
            if self._must_restart:
                self._run(self._restart(security_arguments(self._spec.config)))
            sending = self._send_all(chunk, delivery)
        except BaseException as error:
            for row, topic, arguments in chunk[:taken]:
                delivery.fail(row, topic, arguments["partition"], error)
            raise
        # It accounts for every record, however it ends.
        self._run(sending)

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run it in the loop, until it is done or the sink closed."""
        running = self._loop.start(coroutine)
        while not concurrent.futures.wait([running], timeout=SLICE_S).done:
            if self._is_closed:
                running.cancel()
                self._check_open()
            self._tend()
        running.result()

    async def _send_all(self, records: list[_Record], delivery: _Delivery) -> None:
        left = deque(records)
        try:
            while left:
                row, topic, arguments = left[0]
                partition = arguments["partition"]
                try:
                    future = await self._send_one(topic, arguments)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is not written
                    delivery.fail(row, topic, partition, error)
                else:
                    size = len(arguments["key"] or b"") + len(_serialize(arguments["value"]) or b"")
                    self._under_way.add(future)
                    future.add_done_callback(self._under_way.discard)
                    future.add_done_callback(self._note_refusal)
                    future.add_done_callback(
                        functools.partial(delivery.take_up, row, topic, partition, size)
                    )
                left.popleft()
        finally:
            for row, topic, arguments in left:
                delivery.fail(row, topic, arguments["partition"], KafkaError("given up"))

    def _note_refusal(self, done: asyncio.Future[Any]) -> None:
        if not done.cancelled() and done.exception() is not None:
            self._must_restart = True

    async def _send_one(self, topic: str, arguments: dict[str, Any]) -> asyncio.Future[Any]:
        assert self._producer is not None
        unknown_until, error = self._unknown_topics.get(topic, (0.0, None))
        if error is not None and time.monotonic() < unknown_until:
            raise error
        try:
            known = await self._producer.partitions_for(topic)
        except AiokafkaError as reason:
            # aiokafka would take its whole time-out for each record.
            self._unknown_topics[topic] = time.monotonic() + _UNKNOWN_TOPIC_S, reason
            raise
        partition = arguments["partition"]
        if partition is not None and partition not in known:
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
        deadline = time.monotonic() + timeout_s
        return all(d.wait(max(deadline - time.monotonic(), 0.0)) for d in tuple(self._pending))

    def _disconnect(self) -> None:
        if self._producer is not None:
            self._loop.run(self._stop(self._producer))
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
        records: The others.
        room: Released for each record whose fate is known.
    """

    def __init__(
        self, rejected: Sequence[Rejected], records: Iterator[_Record], room: threading.Semaphore
    ) -> None:
        self.rejected = rejected
        self.records = records
        self._room = room
        self._lock = threading.Lock()
        self._outstanding = 0
        self._settled = threading.Event()
        self._failures: list[FailedRecord] = []
        self._written: dict[tuple[str, int], WrittenRecords] = {}

    def begin(self) -> None:
        """Count a record, or the batch, which counts until all of it is handed over."""
        with self._lock:
            self._outstanding += 1

    def settle(self) -> None:
        """Take one off, a record or the batch."""
        with self._lock:
            self._outstanding -= 1
            is_last = not self._outstanding
        if is_last:
            self._settled.set()

    def take_up(
        self, row: int, topic: str, partition: int | None, size: int, done: asyncio.Future[Any]
    ) -> None:
        """Note what has become of a record of so many bytes."""
        if done.cancelled():
            self.fail(row, topic, partition, KafkaError("given up: the sink was closed"))
            return
        error = done.exception()
        if error is not None:
            self.fail(row, topic, partition, error)
            return
        found = done.result()
        place = topic, found.partition
        written = WrittenRecords(*place, 1, size, found.offset, found.offset)
        before = self._written.get(place)
        self._written[place] = written if before is None else before.joined(written)
        self._room.release()
        self.settle()

    def fail(self, row: int, topic: str, partition: int | None, error: BaseException) -> None:
        """Note a record that was not written."""
        if isinstance(error, AiokafkaError):
            error = kafka_error(error, "aiokafka", writes=True)
        elif not isinstance(error, KafkaError):
            error = KafkaError(f"{type(error).__name__}: {error}")
        number = -1 if partition is None else partition
        self._failures.append(FailedRecord(row, topic, number, error))
        self._room.release()
        self.settle()

    def outstanding(self) -> int:
        """See `Delivery.outstanding`."""
        return self._outstanding

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
