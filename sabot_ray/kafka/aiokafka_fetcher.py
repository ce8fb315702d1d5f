"""Fetches one partition's log ahead of its reader, and takes the answers apart into records."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import UnsupportedCodecError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.memory_records import MemoryRecords

from sabot_ray.errors import (
    AuthenticationFailed,
    AuthorizationFailed,
    KafkaError,
    OffsetOutOfRange,
    SabotRayError,
    UnknownTopicOrPartition,
)
from sabot_ray.kafka.aiokafka_brokers import READ_COMMITTED, READ_UNCOMMITTED, Brokers
from sabot_ray.kafka.aiokafka_errors import from_code, kafka_error
from sabot_ray.kafka.aiokafka_loop import EventLoopThread
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.options import REFUSED_GRACE_S
from sabot_ray.types import TopicPartition

#: How much one fetch asks for, unless the user or the prefetch limit says otherwise. Smaller ones
#: cost more per record, larger ones leave the processor's cache.
_FETCH_BYTES: Final = 4 << 20
#: A topic that was just created, or a broker that just started, may be unknown for this long.
_UNKNOWN_GRACE_S: Final = 5.0
_MAX_BACKOFF_S: Final = 1.0
#: How many of aiokafka's records live at a time. Each is two objects to the garbage collector, for
#: its list of headers: a run stays below the threshold of 700. Those of a whole batch would outlive
#: so many collections that full ones, of every object in the process, cost half of all time.
_RUN: Final = 256

_CORRUPT_MESSAGE: Final = 2
_MESSAGE_TOO_LARGE: Final = 10
# Corrupt on the broker's disk, refused requests: another attempt gives the same answer.
_HOPELESS_CODES: Final = frozenset({_CORRUPT_MESSAGE, _MESSAGE_TOO_LARGE, 17, 35, 42, 76})


class Fetched(NamedTuple):
    """The answer to one fetch.

    Attributes:
        batches: aiokafka's record batches, neither checked nor decompressed.
        aborted: Producer id and first offset of each aborted transaction in them, by that offset.
        next_offset: The offset to fetch next; past ``batches`` and whatever was compacted away.
        size_bytes: The answer's length.
    """

    batches: list[Any]
    aborted: list[tuple[int, int]]
    next_offset: int
    size_bytes: int


class PartitionFetcher:
    """Fetches a partition from an offset on, in the event loop's thread.

    The other methods belong to the reader's thread, but for `close`, which any thread may call.

    Args:
        loop: Where to run.
        brokers: Connects to the cluster.
        config: The consumer's settings.
        partition: What to fetch.
        end_offset: Where to stop; None goes on for ever.
        prefetch_bytes: How much may be fetched and not yet taken apart.
        on_news: Called, in any thread, when `take` has something new to say.
    """

    def __init__(
        self,
        loop: EventLoopThread,
        brokers: Brokers,
        config: KafkaConfig,
        partition: TopicPartition,
        end_offset: int | None,
        prefetch_bytes: int,
        on_news: Callable[[], None] = lambda: None,
    ) -> None:
        settings = config.aiokafka_settings()
        self._loop = loop
        self._brokers = brokers
        self._topic, self._partition = partition
        self._where = partition.place
        self._end_offset = end_offset
        self._prefetch_bytes = prefetch_bytes
        self._on_news = on_news
        # Four fit into the limit: one being read, two waiting, one on its way.
        self._fetch_bytes: int = settings.get(
            "max_partition_fetch_bytes", max(1, min(_FETCH_BYTES, prefetch_bytes // 4))
        )
        self._fetch_max_bytes: int = settings.get("fetch_max_bytes", 50 << 20)
        self._fetch_min_bytes: int = settings.get("fetch_min_bytes", 1)
        self._fetch_max_wait_ms: int = settings.get("fetch_max_wait_ms", 500)
        self._retry_backoff_s: float = settings.get("retry_backoff_ms", 100) / 1000
        self.read_committed: bool = settings["isolation_level"] == "read_committed"
        self.check_crcs: bool = settings["check_crcs"]
        #: The end of the log that the latest answer told: the last stable offset, where only that
        #: is read.
        self.log_end = 0
        self._task: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        # Since when an answer is awaited, over all attempts to get one; None where none is.
        self._asking_since: float | None = None
        # Guards all that follows.
        self._changed = threading.Condition()
        self._fetched: deque[Fetched] = deque()
        self._taken_bytes = 0
        self._held_bytes = 0
        self._failure: SabotRayError | None = None
        self._closed = False

    def start(self, offset: int) -> None:
        """Fetch from ``offset`` on; what was fetched before is dropped."""
        self._loop.run(self._restart(offset))

    def take(self, timeout_s: float) -> Fetched | None:
        """Return the next answer; None if none arrived in time, or after `close`.

        Taking an answer frees the room of the one before.

        Raises:
            SabotRayError: Fetching cannot go on; raised again at every call.
        """
        with self._changed:
            if self._taken_bytes:
                self._held_bytes -= self._taken_bytes
                self._taken_bytes = 0
                self._loop.call_soon(self._room.set)
            self._changed.wait_for(
                lambda: self._fetched or self._failure or self._closed, max(timeout_s, 0.0)
            )
            if self._closed:
                return None
            if self._fetched:
                fetched = self._fetched.popleft()
                self._taken_bytes = fetched.size_bytes
                return fetched
            if self._failure is not None:
                raise self._failure
            return None

    def has_news(self) -> bool:
        """Tell whether `take` has something to say at once."""
        with self._changed:
            return bool(self._fetched or self._failure or self._closed)

    def cut_off_s(self) -> float:
        """Return for how long the leader has been out of reach, in seconds; 0 if it is not."""
        asking_since = self._asking_since
        if asking_since is None:
            return 0.0
        # A broker without new records takes its time by design.
        return max(time.monotonic() - asking_since - self._fetch_max_wait_ms / 1000, 0.0)

    def close(self) -> None:
        """Stop fetching; a blocked `take` returns. Idempotent."""
        with self._changed:
            self._closed = True
            self._fetched.clear()
            self._changed.notify_all()
        self._on_news()
        self._loop.call_soon(self._cancel)

    # The rest runs in the event loop.

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _restart(self, offset: int) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        with self._changed:
            self._fetched.clear()
            self._held_bytes = self._taken_bytes = 0
            self._failure = None
            if self._closed:
                return
        self._task = asyncio.create_task(self._run(offset))

    async def _run(self, offset: int) -> None:
        try:
            await self._fetch(offset)
        except SabotRayError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - a dead task must not look like an idle topic
            self._fail(KafkaError(f"{self._where}: fetching failed: {error!r}"))
        finally:
            self._asking_since = None

    def _fail(self, error: SabotRayError) -> None:
        with self._changed:
            self._failure = error
            self._changed.notify_all()
        self._on_news()

    async def _fetch(self, offset: int) -> None:
        unknown_since: float | None = None
        refused_since: float | None = None
        backoff_s = self._retry_backoff_s
        while not self._is_end(offset):
            self._asking_since = self._asking_since or time.monotonic()
            try:
                async with self._brokers.connected_to_leader(
                    self._topic, self._partition
                ) as connection:
                    while not self._is_end(offset):
                        await self._wait_for_room()
                        self._asking_since = self._asking_since or time.monotonic()
                        offset = await self._fetch_from(offset, connection)
                        self._asking_since = None
                        unknown_since = refused_since = None
                        backoff_s = self._retry_backoff_s
            except UnknownTopicOrPartition:
                unknown_since = unknown_since or time.monotonic()
                if time.monotonic() - unknown_since > _UNKNOWN_GRACE_S:
                    raise
            except AuthenticationFailed:
                refused_since = refused_since or time.monotonic()
                if time.monotonic() - refused_since > REFUSED_GRACE_S:
                    raise
            except KafkaError as error:
                if _is_hopeless(error):
                    raise
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)

    def _is_end(self, offset: int) -> bool:
        return self._end_offset is not None and offset >= self._end_offset

    async def _wait_for_room(self) -> None:
        while True:
            self._room.clear()
            with self._changed:
                room = self._prefetch_bytes - self._held_bytes
                # A batch larger than the limit is fetched when nothing else is held.
                if room >= self._fetch_bytes or not self._held_bytes:
                    return
            self._asking_since = None
            await self._room.wait()

    async def _fetch_from(self, offset: int, connection: AIOKafkaConnection) -> int:
        """Fetch once and return the offset to fetch next."""
        request = FetchRequest(
            self._fetch_max_wait_ms,
            self._fetch_min_bytes,
            self._fetch_max_bytes,
            READ_COMMITTED if self.read_committed else READ_UNCOMMITTED,
            [(self._topic, [(self._partition, offset, self._fetch_bytes)])],
        )
        answer = await connection.send(request)
        _, code, high_watermark, last_stable, *rest = answer.topics[0][1][0]
        if code:
            raise from_code(code, f"{self._where} offset {offset}")
        self.log_end = last_stable if self.read_committed else high_watermark
        # What lies between differs by version: log start, the preferred replica.
        aborted, data = rest[1 if answer.API_VERSION >= 5 else 0], rest[-1] or b""
        records = MemoryRecords(data)
        batches = []
        while records.has_next():
            batches.append(records.next_batch())
        if batches:
            next_offset: int = batches[-1].next_offset
        elif data:
            raise from_code(
                _MESSAGE_TOO_LARGE,
                f"{self._where} offset {offset}: a record batch is larger than the fetch size "
                f"{self._fetch_bytes}; raise max_partition_fetch_bytes",
            )
        else:
            # The broker read the log up to this bound and found nothing: it was compacted away. A
            # throttled answer is empty, too, but nobody looked.
            if answer.throttle_time_ms or self.log_end <= offset:
                return offset
            next_offset = self.log_end
        by_first_offset = sorted(aborted or [], key=lambda transaction: transaction[1])
        with self._changed:
            self._fetched.append(Fetched(batches, by_first_offset, next_offset, len(data)))
            self._held_bytes += len(data)
            self._changed.notify_all()
        self._on_news()
        return next_offset


def _is_hopeless(error: KafkaError) -> bool:
    if isinstance(error, AuthorizationFailed | OffsetOutOfRange):
        return True
    # Code 0: the client's own verdict, for example a broker that is too old.
    return error.code in _HOPELESS_CODES or (error.code == 0 and not error.retriable)


def unpack(
    fetched: Fetched, where: str, *, read_committed: bool, check_crcs: bool
) -> Iterator[tuple[list[Any], int]]:
    """Take an answer apart, in runs of a few records.

    Args:
        fetched: The answer.
        where: Topic and partition, for errors.
        read_committed: Leave out what belongs to aborted transactions.
        check_crcs: Verify checksums.

    Yields:
        Records that follow each other in a batch, and the offset after them. There are none in a
        control batch, and in one that was aborted.

    Raises:
        KafkaError: A batch is corrupt, or compressed in a way that cannot be read here.
    """
    aborted = deque(fetched.aborted)
    aborting: set[int] = set()
    for batch in fetched.batches:
        wanted = _wanted(batch, aborted, aborting, read_committed, check_crcs)
        rest = itertools.chain.from_iterable(wanted)
        position = batch.base_offset
        more = True
        while more:
            records: list[Any] = []
            failure: KafkaError | None = None
            try:
                # Unlike list(), this keeps the records before a broken one.
                records.extend(itertools.islice(rest, _RUN))
                more = len(records) == _RUN
                position = records[-1].offset + 1 if more else batch.next_offset
            except UnsupportedCodecError as error:
                failure = kafka_error(error, where)
            except Exception as error:  # noqa: BLE001 - what codecs raise for garbage has no base
                position = records[-1].offset + 1 if records else position
                failure = from_code(_CORRUPT_MESSAGE, f"{where} offset {position}: {error}")
            if failure is None or records:
                yield records, position
            if failure is not None:
                raise failure
    # Whatever lay behind the last batch was compacted away.
    yield [], fetched.next_offset


def _wanted(
    batch: Any,
    aborted: deque[tuple[int, int]],
    aborting: set[int],
    read_committed: bool,
    check_crcs: bool,
) -> Iterator[Any]:
    """Yield the batch if there is something to read in it."""
    if check_crcs and not batch.validate_crc():
        raise ValueError("the checksum is wrong")
    # Batches before format 2 know neither producers nor transactions.
    if read_committed and batch.producer_id is not None:
        while aborted and aborted[0][1] <= batch.base_offset:
            aborting.add(aborted.popleft()[0])
        if batch.is_control_batch:
            marker = next(iter(batch), None)
            if marker is not None and ControlRecord.parse(marker.key) == ABORT_MARKER:
                aborting.discard(batch.producer_id)
        elif batch.is_transactional and batch.producer_id in aborting:
            return
    if not batch.is_control_batch:
        yield batch
