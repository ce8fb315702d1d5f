"""Dead letters: records that a stream passes over, written to a topic as they were read.

Their bytes are not kept while they are processed: they are read once more, by their offsets
(docs/adr/0009). So no other record costs anything, whatever went wrong with these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from sabot_ray.codecs.text import BytesCodec
from sabot_ray.errors import DataLoss, EncodeError, KafkaError, SabotRayError, SinkError
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.outgoing import RecordLayout
from sabot_ray.kafka.sink import Delivery, PartitionSink, SinkSpec
from sabot_ray.kafka.source import SourceClient, SourceSpec
from sabot_ray.runtime.policy import DeadLetter
from sabot_ray.schema import OFFSET_COLUMN
from sabot_ray.types import TopicPartition

#: Kafka Connect's names of the headers begin so.
HEADER_PREFIX: Final = "__connect.errors."
#: What is fetched ahead, and how large the pieces are in which records are read and written.
PREFETCH_BYTES: Final = 4 << 20
#: A record may be as large as the brokers take; they are asked, not the client.
_LARGEST_RECORD: Final = 1_000_000_000
_COLUMNS: Final = (
    "value",
    "_kafka_key",
    "_kafka_headers",
    "_kafka_timestamp",
    OFFSET_COLUMN,
)
_MOST_ROWS: Final = 10_000
#: How long one wait lasts at most, so that `DeadLetters.close` is heard, in seconds.
_SLICE_S: Final = 0.5


def dead_letter_sink(config: KafkaConfig, topic: str) -> SinkSpec:
    """Return what a sink of dead letters writes: batches of `raw_spec`'s columns.

    Args:
        config: How to reach the brokers.
        topic: The dead-letter topic.
    """
    layout = RecordLayout(
        topic,
        ("value",),
        key="_kafka_key",
        headers="_kafka_headers",
        timestamp="_kafka_timestamp",
    )
    config = config.with_settings(max_request_size=_LARGEST_RECORD)
    return SinkSpec(config, layout, "bytes")


def raw_spec(config: KafkaConfig, topic: str) -> SourceSpec:
    """Return what a source gives of records as they are."""
    return SourceSpec(
        config,
        topic,
        BytesCodec(),
        _COLUMNS,
        max_batch_bytes=PREFETCH_BYTES,
        prefetch_bytes=PREFETCH_BYTES,
        await_backlog=False,
    )


class RawRecords:
    """Reads records of a partition again, as they are. One thread only, but for `close`.

    Connects when there is something to read.

    Args:
        config: How to reach the brokers.
        connect_client: Connects to these.
    """

    def __init__(self, config: KafkaConfig, connect_client: Callable[[], SourceClient]) -> None:
        self._config = config
        self._connect_client = connect_client
        self._client: SourceClient | None = None
        self._is_closed = False

    def at(self, partition: TopicPartition, offsets: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """Yield the records at these ascending offsets, with the columns of `raw_spec`.

        Raises:
            DataLoss: One is not in its log any more.
            KafkaError: The client reported an error that it does not retry.
        """
        wanted = pa.array(offsets, pa.int64())
        missing = set(offsets)
        for batch in self._poll(partition, offsets[0], offsets[-1] + 1, _MOST_ROWS):
            found = batch.filter(pc.is_in(batch[OFFSET_COLUMN], value_set=wanted))
            missing.difference_update(found[OFFSET_COLUMN].to_pylist())
            if found.num_rows:
                yield found
        if missing:
            raise DataLoss(
                f"{partition.at(min(missing))}: "
                "a record that failed was deleted before it could be written to the dead-letter "
                "topic; start the stream again to go on behind it",
                *partition,
                min(missing),
            )

    def first_from(
        self, partition: TopicPartition, offset: int, end_offset: int | None
    ) -> int | None:
        """Return the offset of the first record from an offset on; None if there is none.

        Args:
            partition: Where to look.
            offset: The offset.
            end_offset: Where to stop; None waits for a record.

        Raises:
            KafkaError: The client reported an error that it does not retry.
        """
        for batch in self._poll(partition, offset, end_offset, 1):
            if batch.num_rows:
                found: int = batch[OFFSET_COLUMN][0].as_py()
                return found
        return None

    def _poll(
        self, partition: TopicPartition, start: int, end: int | None, max_rows: int
    ) -> Iterator[pa.RecordBatch]:
        if self._client is None:
            self._client = self._connect_client()
        spec = raw_spec(self._config, partition.topic)
        source = self._client.open_source(spec, partition.partition, start, end)
        try:
            while end is None or source.position() < end:
                self.check_open()
                yield source.poll(max_rows, timeout_s=_SLICE_S)
        finally:
            source.close()

    def check_open(self) -> None:
        """Raise an error once it is closed."""
        if self._is_closed:
            raise SabotRayError("the reader is closed")

    def close(self) -> None:
        """Free the client; what waits for it gives up. Idempotent."""
        self._is_closed = True
        if self._client is not None:
            self._client.close()


class DeadLetters:
    """Writes failed records to a topic. One thread only.

    Args:
        records: Reads the records again.
        sink_of: Gives what writes those of a partition, by `dead_letter_sink`: in a transaction or
            not. It is asked when there is something to write.
    """

    def __init__(
        self, records: RawRecords, sink_of: Callable[[TopicPartition], PartitionSink]
    ) -> None:
        self._records = records
        self._sink_of = sink_of

    def write(self, partition: TopicPartition, letters: Sequence[DeadLetter]) -> None:
        """Write records, and return once the brokers have all of them.

        Args:
            partition: Where they were read.
            letters: The records, by ascending offset.

        Raises:
            SinkError: One was not written.
            DataLoss: One is not in its log any more.
            KafkaError: It cannot be read again.
        """
        for delivery in self.send(partition, letters):
            while not delivery.wait(_SLICE_S):
                self._records.check_open()
                self._sink_of(partition).tend()
            for failed in delivery.failures():
                raise not_written(partition, letters, str(failed.error)) from failed.error

    def send(self, partition: TopicPartition, letters: Sequence[DeadLetter]) -> list[Delivery]:
        """Hand records to the sink, and return what tells when they are written.

        Args:
            partition: Where they were read.
            letters: The records, by ascending offset.

        Raises:
            SinkError: The sink cannot write one.
            DataLoss: One is not in its log any more.
            KafkaError: It cannot be read again.
        """
        told = {letter.offset: letter for letter in letters}
        deliveries = []
        for batch in self._records.at(partition, list(told)):
            try:
                sink = self._sink_of(partition)
                deliveries.append(sink.send(_with_reasons(batch, partition, told)))
            except (EncodeError, KafkaError) as error:
                raise not_written(partition, letters, error.message) from error
        return deliveries


def not_written(partition: TopicPartition, letters: Sequence[DeadLetter], reason: str) -> SinkError:
    """Return the error of dead letters that the target does not take."""
    first, last = letters[0].offset, letters[-1].offset
    where = f"offset {first}" if first == last else f"offsets {first} to {last}"
    return SinkError(
        f"{partition.place}, {where}: not all failed "
        f"records could be written to the dead-letter topic, so reading ends here: {reason}"
    )


def _with_reasons(
    batch: pa.RecordBatch, partition: TopicPartition, letters: dict[int, DeadLetter]
) -> pa.RecordBatch:
    """Return the records as they are to be written: with headers that tell why."""
    offsets: list[Any] = batch[OFFSET_COLUMN].to_pylist()
    given: list[Any] = batch["_kafka_headers"].to_pylist()
    headers = [
        [(header["key"], header["value"]) for header in of_record]
        + _reasons(letters[offset], partition)
        for of_record, offset in zip(given, offsets, strict=True)
    ]
    timestamps = batch["_kafka_timestamp"].cast(pa.int64())
    # Clients take 0 for now, and brokers refuse what is below.
    usable = pc.if_else(pc.greater(timestamps, pa.scalar(0)), timestamps, None)
    return pa.record_batch(
        {
            "value": batch["value"],
            "_kafka_key": batch["_kafka_key"],
            "_kafka_headers": pa.array(headers, batch["_kafka_headers"].type),
            "_kafka_timestamp": usable,
        }
    )


def _reasons(letter: DeadLetter, partition: TopicPartition) -> list[tuple[str, bytes]]:
    """Return the headers that tell of it, by Kafka Connect's names.

    Not Connect's stack trace: it may hold values of the record.
    """
    told = {
        "topic": partition.topic,
        "partition": partition.partition,
        "offset": letter.offset,
        "stage": letter.stage,
        "class.name": letter.class_name,
        "exception.class.name": letter.exception_name,
        "exception.message": letter.message,
    }
    return [(HEADER_PREFIX + name, str(value).encode()) for name, value in told.items()]
