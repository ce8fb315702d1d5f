"""Reading one partition as Arrow record batches: the contract of both backends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

import pyarrow as pa

from sabot_ray.codecs.codec import Codec
from sabot_ray.codecs.text import BytesCodec
from sabot_ray.errors import DecodeError
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.schema import batch_schema
from sabot_ray.types import SourceStats, Watermarks

Backend = Literal["native", "aiokafka"]


@dataclass(frozen=True)
class SourceSpec:
    """Everything that decides what a source gives, but for the partition and its range; picklable.

    Attributes:
        config: How to reach the brokers.
        topic: The topic to read.
        codec: How values become columns.
        columns: Names of the columns to build, in order: the codec's and metadata columns
            (`sabot_ray.schema.metadata_fields`). Every value, and every key, is validated whole all
            the same.
        tombstones: ``"keep"``: a null value is a row of nulls; ``"skip"``: it is dropped.
        on_decode_error: ``"fail"``; ``"skip"``: the record is dropped and counted; or ``"report"``:
            `PartitionSource.take_rejected` tells of it, too.
        max_batch_bytes: A batch is closed once the keys and values in it reach this many bytes.
        linger_s: How long to wait for more records before a batch that is not full is handed over.
            Far behind the log's end the native backend waits up to 50 ms in any case.
        prefetch_bytes: Limit of what the client fetches ahead.
        await_backlog: Whether the native backend waits those 50 ms; not where one thread reads
            several partitions.
        key_codec: How keys become the column ``_kafka_key``.
        decode_threads: How many threads of the native backend decode a partition.
    """

    config: KafkaConfig
    topic: str
    codec: Codec
    columns: tuple[str, ...]
    tombstones: Literal["keep", "skip"] = "keep"
    on_decode_error: Literal["fail", "skip", "report"] = "fail"
    max_batch_bytes: int = 16 << 20
    linger_s: float = 0.0
    prefetch_bytes: int = 64 << 20
    await_backlog: bool = True
    key_codec: Codec = field(default_factory=BytesCodec)
    decode_threads: int = 1

    @property
    def schema(self) -> pa.Schema:
        """The schema of the batches."""
        return batch_schema(self.codec.columns, self.columns, self.key_codec.key_type)


class PartitionSource(Protocol):
    """Reads the half-open range ``[start_offset, end_offset)`` of one partition, in offset order.

    Not thread safe, but for `close`, which may be called from any thread and wakes a blocked
    `poll`.
    """

    @property
    def schema(self) -> pa.Schema:
        """The schema of every batch."""

    def poll(self, max_rows: int, *, timeout_s: float) -> pa.RecordBatch:
        """Return the next records, in offset order.

        The batch is handed over as soon as no further record is at hand, or a limit is reached.
        Each record in the fetched range is exactly one row, unless the spec says that it is
        dropped.

        Args:
            max_rows: Upper limit of rows in the batch.
            timeout_s: Longest time to wait for the first record.

        Returns:
            A batch with the source's schema; zero rows if nothing arrived in time, or if all that
            was fetched was dropped or not a record. Never "the end": that is ``position() >=
            end_offset``.

        Raises:
            DecodeError: A value does not fit the schema and the spec says "fail"; the rows before
                it were returned first, and `position` is the record's offset. Raised again on each
                call.
            NewField: A value has a field that the schema is to learn, likewise, whatever the
                policy.
            OffsetOutOfRange: The position is not in the log (any more), or the log was truncated
                before it.
            KafkaError: The client reported an error that it does not retry. Outages are none: they
                look like an idle topic here, and the client goes on by itself.
        """

    def take_rejected(self) -> list[DecodeError]:
        """Return the records that polls have dropped since the last call, in offset order.

        Only where the spec says ``"report"``; a batch's worth of them at most for each poll.
        """

    def position(self) -> int:
        """Return the next offset to fetch: after the last returned row, and past what is no record.

        It moves over control records, aborted transactions and compacted gaps also when no row
        comes with them, and stops at ``end_offset``. ``[position() before a poll, position() after
        it)`` is the range which that poll's batch covers.
        """

    def leader_epoch(self) -> int:
        """Return the leader epoch of the record before the position; -1 where it is not known.

        So it is at the start, unless it was given, and behind what is no record; and always in the
        fallback. A source that begins at a position with its epoch learns whether the log was
        truncated before it meanwhile.
        """

    def has_news(self) -> bool:
        """Tell, asking nobody, whether a `poll` may have something to say at once.

        Never false when it has: a row, a position that moved, or an error.
        """

    def backlog(self) -> int:
        """Return how many offsets lie ahead, as far as fetches have told; 0 where none has yet.

        Asks nobody. The native backend counts up to the high watermark, the fallback up to the last
        stable offset: with a transaction open, not all of them may be readable.
        """

    def watermarks(self) -> Watermarks:
        """Ask the broker for the bounds of the log.

        Raises:
            BrokerUnavailable: No answer in time.
        """

    def seek(self, offset: int) -> None:
        """Fetch from ``offset`` next; batches from before the call are never returned after it."""

    def stats(self) -> SourceStats:
        """Return the counters since the source was opened; callable from any thread."""

    def close(self) -> None:
        """Free the client; a blocked `poll` returns the rows it has, mostly an empty batch.

        Idempotent; takes about a second at most.
        """

    def shutdown(self) -> None:
        """Do the same as `close`: the name it had in Sabot."""

    async def get_next_batch(self, max_rows: int = 1000) -> pa.RecordBatch:
        """Wait for the next records without blocking the event loop: `poll` in a thread.

        Several tasks may wait: each batch goes to one of them.

        Returns:
            A batch with at least one row, or an empty one if the end of the range is reached or the
            source is closed.
        """


class SourceClient(Protocol):
    """A connection to the brokers that opens sources, one for each partition."""

    def open_source(
        self,
        spec: SourceSpec,
        partition: int,
        start_offset: int,
        end_offset: int | None = None,
        leader_epoch: int = -1,
    ) -> PartitionSource:
        """Start fetching a partition; connects in the background, so outages are not seen here.

        Args:
            spec: What the source gives.
            partition: The partition.
            start_offset: The first offset to read.
            end_offset: The end of the range, never returned; None reads on for ever.
            leader_epoch: Leader epoch of ``start_offset`` if known, so that a truncated log is
                noticed.
        """

    def news_count(self) -> int:
        """Return how often a source has had news so far; to be asked before they are looked at."""

    def wait_for_news(self, seen: int, timeout_s: float) -> None:
        """Wait until a source has news, or is closed.

        Args:
            seen: What `news_count` was before the sources were looked at: news that came since ends
                the wait at once.
            timeout_s: Longest time to wait.

        Raises:
            AuthenticationFailed: The brokers refuse the credentials, for several seconds now.
        """

    def wake(self) -> None:
        """End a `wait_for_news`; callable from any thread."""

    def cut_off_s(self) -> float:
        """Return for how long a partition that is being read has been out of reach, in seconds.

        Its broker does not answer, or it has no leader: the sources look idle meanwhile. 0 if there
        is none, and up to two seconds late. Asks nobody.
        """

    def close(self) -> None:
        """Close the sources and the connection. Idempotent."""
