"""Dead letters: records that a stream passes over, written to a topic as they were read.

Their bytes are not kept while they are processed: they are read once more, by their offsets
(docs/adr/0008). So no other record costs anything, whatever went wrong with these.
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


class DeadLetters:
    """Writes failed records to a topic. One thread only, but for `close`.

    Connects when there is something to write.

    Args:
        config: How to reach the brokers that the records come from.
        connect_client: Connects to these.
        connect_sink: Gives what writes the records: `dead_letter_sink`, in a transaction or not.
    """

    def __init__(
        self,
        config: KafkaConfig,
        connect_client: Callable[[], SourceClient],
        connect_sink: Callable[[], PartitionSink],
    ) -> None:
        self._config = config
        self._connect_client = connect_client
        self._connect_sink = connect_sink
        self._client: SourceClient | None = None
        self._sink: PartitionSink | None = None
        self._is_closed = False

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
                self._check_open()
                assert self._sink is not None
                self._sink.tend()
            for failed in delivery.failures():
                raise self._refused(partition, letters, str(failed.error)) from failed.error

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
        if self._sink is None:
            self._sink = self._connect_sink()
        told = {letter.offset: letter for letter in letters}
        deliveries = []
        for batch in self._read(partition, list(told)):
            try:
                deliveries.append(self._sink.send(_with_reasons(batch, partition, told)))
            except (EncodeError, KafkaError) as error:
                raise self._refused(partition, letters, error.message) from error
        return deliveries

    def _read(self, partition: TopicPartition, offsets: Sequence[int]) -> Iterator[pa.RecordBatch]:
        """Yield the records at these ascending offsets."""
        if self._client is None:
            self._client = self._connect_client()
        wanted = pa.array(offsets, pa.int64())
        end = offsets[-1] + 1
        missing = set(offsets)
        source = self._client.open_source(
            raw_spec(self._config, partition.topic), partition.partition, offsets[0], end
        )
        try:
            while source.position() < end:
                self._check_open()
                batch = source.poll(_MOST_ROWS, timeout_s=_SLICE_S)
                batch = batch.filter(pc.is_in(batch[OFFSET_COLUMN], value_set=wanted))
                missing.difference_update(batch[OFFSET_COLUMN].to_pylist())
                if batch.num_rows:
                    yield batch
        finally:
            source.close()
        if missing:
            raise DataLoss(
                f"topic '{partition.topic}' partition {partition.partition} offset {min(missing)}: "
                "a record that failed was deleted before it could be written to the dead-letter "
                "topic; start the stream again to go on behind it",
                *partition,
                min(missing),
            )

    def _refused(
        self, partition: TopicPartition, letters: Sequence[DeadLetter], reason: str
    ) -> SinkError:
        first, last = letters[0].offset, letters[-1].offset
        where = f"offset {first}" if first == last else f"offsets {first} to {last}"
        return SinkError(
            f"topic '{partition.topic}' partition {partition.partition}, {where}: not all failed "
            f"records could be written to the dead-letter topic, so reading ends here: {reason}"
        )

    def _check_open(self) -> None:
        if self._is_closed:
            raise SabotRayError("the reader is closed")

    def close(self) -> None:
        """Free the clients; what waits for them gives up. Idempotent."""
        self._is_closed = True
        client, sink = self._client, self._sink
        if client is not None:
            client.close()
        if sink is not None:
            sink.close()


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
