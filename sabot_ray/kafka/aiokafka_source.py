"""The fallback `PartitionSource`: aiokafka's wire protocol, and decoding in Python."""

from __future__ import annotations

import itertools
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import add, attrgetter
from typing import Any, Final, Literal, Self

import pyarrow as pa

from sabot_ray.codecs.codec import KEY_ROOT, Decoded, NewField, Rejected
from sabot_ray.codecs.text import BytesCodec
from sabot_ray.errors import DecodeError, SabotRayError
from sabot_ray.kafka.aiokafka_brokers import Brokers
from sabot_ray.kafka.aiokafka_fetcher import PartitionFetcher, unpack
from sabot_ray.kafka.aiokafka_loop import EventLoopThread
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.source import SourceSpec
from sabot_ray.kafka.standalone import StandaloneSource
from sabot_ray.schema import KEY_COLUMN, METADATA_FIELDS
from sabot_ray.types import SourceStats, TopicPartition, Watermarks

#: The metadata columns that differ from record to record -> the attribute of aiokafka's records.
_ATTRIBUTES: Final = {
    "_kafka_key": "key",
    "_kafka_offset": "offset",
    "_kafka_timestamp": "timestamp",
    "_kafka_timestamp_type": "timestamp_type",
    "_kafka_headers": "headers",
}
#: How many paths of unknown fields a source counts, of values and of keys each, as in native.
#: See docs/json.md.
_MOST_UNKNOWN_FIELDS: Final = 10_000
#: Longest time that `AiokafkaSource.watermarks` waits, in seconds.
_WATERMARKS_TIMEOUT_S: Final = 10.0


class AiokafkaClient:
    """Opens sources that share one event loop's thread.

    Each has a connection of its own: a broker answers the requests of one connection in turn, so
    that an idle partition's long poll would hold up the others.

    Args:
        config: How to reach the brokers.
        prefetch_bytes: Limit of the memory for what each source fetches ahead. Half of it is for
            answers; the copies that are made while one arrives, and its records as objects, take as
            much again.
    """

    def __init__(self, config: KafkaConfig, *, prefetch_bytes: int = 64 << 20) -> None:
        self.config = config
        self.answers_bytes = prefetch_bytes // 2
        self.brokers = Brokers(config)
        self.loop = EventLoopThread()
        self._sources: set[AiokafkaSource] = set()
        self._news = threading.Condition()
        self._news_count = 0

    def open_source(
        self,
        spec: SourceSpec,
        partition: int,
        start_offset: int,
        end_offset: int | None = None,
        leader_epoch: int = -1,
    ) -> AiokafkaSource:
        """See `sabot_ray.kafka.source.SourceClient.open_source`.

        ``leader_epoch`` has no effect: aiokafka's requests carry none, so that a truncated log is
        noticed only where the position lies beyond its end.
        """
        source = AiokafkaSource.of_client(
            self, spec, partition, start_offset, end_offset, leader_epoch
        )
        self._sources.add(source)
        return source

    def news_count(self) -> int:
        """See `sabot_ray.kafka.source.SourceClient.news_count`."""
        return self._news_count

    def wait_for_news(self, seen: int, timeout_s: float) -> None:
        """See `sabot_ray.kafka.source.SourceClient.wait_for_news`."""
        with self._news:
            self._news.wait_for(lambda: self._news_count != seen, max(timeout_s, 0.0))

    def wake(self) -> None:
        """See `sabot_ray.kafka.source.SourceClient.wake`; sources call it when they have news."""
        with self._news:
            self._news_count += 1
            self._news.notify_all()

    def cut_off_s(self) -> float:
        """See `sabot_ray.kafka.source.SourceClient.cut_off_s`."""
        return max((source.cut_off_s() for source in tuple(self._sources)), default=0.0)

    def forget(self, source: AiokafkaSource) -> None:
        """Let go of a source that was closed."""
        self._sources.discard(source)

    def close(self) -> None:
        """Close the sources and the connections. Idempotent, at most about a second."""
        for source in tuple(self._sources):
            source.close()
        self.loop.close()


class _Records:
    """Records, as one list per attribute.

    Thousands of record objects that live until their batch is built would cost more time in the
    garbage collector than everything else; bytes and integers are nothing to it.

    Args:
        lists: The values of each attribute, key and value among them.
    """

    def __init__(self, lists: dict[str, list[Any]]) -> None:
        self.lists = lists
        self.bytes = sum(self.sizes())

    @classmethod
    def of(cls, attributes: Iterable[str], records: Sequence[Any] = ()) -> Self:
        """Take the attributes from aiokafka's records."""
        return cls({name: [*map(attrgetter(name), records)] for name in attributes})

    def __len__(self) -> int:
        return len(self.lists["value"])

    def sizes(self) -> Iterator[int]:
        """Return the length of each record's key and value together."""
        return map(add, _lengths(self.lists["key"]), _lengths(self.lists["value"]))

    def part(self, start: int, stop: int) -> _Records:
        """Return the records from index ``start`` to ``stop``, or to the last one."""
        if not start and stop >= len(self):
            return self
        return _Records({name: values[start:stop] for name, values in self.lists.items()})

    def extend(self, records: _Records) -> None:
        """Add records."""
        for name, values in self.lists.items():
            values += records.lists[name]
        self.bytes += records.bytes


def _lengths(values: Sequence[bytes | None]) -> list[int]:
    # Nearly always there is no null, and then nobody looks for one.
    try:
        return [*map(len, values)]  # type: ignore[arg-type]
    except TypeError:
        return [len(value or b"") for value in values]


class AiokafkaSource(StandaloneSource[AiokafkaClient]):
    """Reads one partition through aiokafka; see `PartitionSource` and `StandaloneSource`."""

    @classmethod
    def _connect(
        cls, config: KafkaConfig, group_id: str | None, prefetch_bytes: int
    ) -> AiokafkaClient:
        return AiokafkaClient(config, prefetch_bytes=prefetch_bytes)

    def _open(self, start_offset: int, end_offset: int | None, leader_epoch: int) -> None:
        spec = self._spec
        self._where = f"topic '{spec.topic}' partition {self._partition}"
        self._end_offset = end_offset
        value_columns = [name for name in spec.columns if name not in METADATA_FIELDS]
        self._value_index = {name: index for index, name in enumerate(value_columns)}
        on_error: Literal["fail", "skip"] = "fail" if spec.on_decode_error == "fail" else "skip"
        self._decoder = spec.codec.decoder(value_columns, on_error)
        # Bytes are what a key is anyway.
        self._key_decoder = (
            None
            if isinstance(spec.key_codec, BytesCodec)
            else spec.key_codec.decoder(
                spec.key_codec.columns.names if KEY_COLUMN in spec.columns else (),
                on_error,
                KEY_ROOT,
            )
        )
        self._attributes = {"offset", "key", "value"} | {
            _ATTRIBUTES[name] for name in spec.columns if name in _ATTRIBUTES
        }
        self._stats = SourceStats()
        # Of values, and of keys.
        self._unknown_fields: tuple[Counter[str], Counter[str]] = Counter(), Counter()
        self._closed = False
        self._fetcher = PartitionFetcher(
            self._client.loop,
            self._client.brokers,
            self._client.config,
            TopicPartition(spec.topic, self._partition),
            end_offset,
            self._client.answers_bytes,
            self._client.wake,
        )
        self._begin(start_offset)

    def _begin(self, offset: int) -> None:
        self._position = offset
        # Raised at every poll from now on.
        self._error: SabotRayError | None = None
        # What was dropped, and is to be told.
        self._rejected: list[DecodeError] = []
        # What is at hand: the rest of a record batch, the offset after it, and later batches.
        self._at_hand = _Records.of(self._attributes)
        self._taken = 0
        self._at_hand_end = offset
        self._batches: Iterator[tuple[list[Any], int]] = iter(())
        self._is_unpacking = False
        self._fetcher.start(offset)

    def take_rejected(self) -> list[DecodeError]:
        """See `PartitionSource.take_rejected`."""
        rejected, self._rejected = self._rejected, []
        return rejected

    def position(self) -> int:
        """See `PartitionSource.position`."""
        return self._position

    def leader_epoch(self) -> int:
        """See `PartitionSource.leader_epoch`."""
        return -1

    def has_news(self) -> bool:
        """See `PartitionSource.has_news`."""
        if self._error is not None or self._taken < len(self._at_hand):
            return True
        # The rest of an answer is cheap to look for, once.
        return self._is_unpacking or self._fetcher.has_news()

    def backlog(self) -> int:
        """See `PartitionSource.backlog`."""
        return max(self._fetcher.log_end - self._position, 0)

    def cut_off_s(self) -> float:
        """Return for how long the partition has been out of reach, in seconds; 0 if it is not."""
        return self._fetcher.cut_off_s()

    def stats(self) -> SourceStats:
        """See `PartitionSource.stats`."""
        return self._stats

    def watermarks(self) -> Watermarks:
        """See `PartitionSource.watermarks`."""
        asked = self._client.brokers.watermarks(self._spec.topic, [self._partition])
        return self._client.loop.run(asked, timeout_s=_WATERMARKS_TIMEOUT_S)[self._partition]

    def seek(self, offset: int) -> None:
        """See `PartitionSource.seek`."""
        self._begin(offset)

    def _stop(self) -> None:
        self._closed = True
        self._fetcher.close()
        self._client.forget(self)

    def _is_done(self) -> bool:
        return self._closed or self._is_at_end()

    def poll(self, max_rows: int, *, timeout_s: float) -> pa.RecordBatch:
        """See `PartitionSource.poll`."""
        begin = self._position
        deadline = time.monotonic() + timeout_s
        taken = _Records.of(self._attributes)
        while (
            not (self._closed or self._error or self._is_at_end())
            and len(taken) < max_rows
            and taken.bytes < self._spec.max_batch_bytes
        ):
            if self._taken < len(self._at_hand):
                if not taken:
                    deadline = time.monotonic() + self._spec.linger_s
                self._take(taken, max_rows)
                continue
            # A position that moved is news, though there is no row to show for it.
            waits = bool(taken) or self._position == begin
            if not self._advance(deadline - time.monotonic() if waits else 0.0):
                break
        batch = self._batch(taken)
        if self._error and not batch.num_rows and not self._closed:
            raise self._error
        return batch

    def _is_at_end(self) -> bool:
        return self._end_offset is not None and self._position >= self._end_offset

    def _move_to(self, offset: int) -> None:
        self._position = offset if self._end_offset is None else min(offset, self._end_offset)

    def _advance(self, timeout_s: float) -> bool:
        """Bring the next record batch to hand; False if there is none in time, or an error."""
        try:
            batch = next(self._batches, None)
            if batch is None:
                self._is_unpacking = False
                fetched = self._fetcher.take(timeout_s)
                if fetched is None:
                    return False
                self._batches = unpack(
                    fetched,
                    self._where,
                    read_committed=self._fetcher.read_committed,
                    check_crcs=self._fetcher.check_crcs,
                )
                self._is_unpacking = True
                return True
        except SabotRayError as error:
            self._error = error
            return False
        records, self._at_hand_end = batch
        # Brokers hand out whole batches: the range may begin or end within one.
        end = self._end_offset
        if records and (
            records[0].offset < self._position or (end is not None and records[-1].offset >= end)
        ):
            records = [
                record
                for record in records
                if record.offset >= self._position and (end is None or record.offset < end)
            ]
        self._at_hand = _Records.of(self._attributes, records)
        self._taken = 0
        if not records:
            self._move_to(max(self._position, self._at_hand_end))
        return True

    def _take(self, taken: _Records, max_rows: int) -> None:
        part = self._at_hand.part(self._taken, self._taken + max_rows - len(taken))
        if taken.bytes + part.bytes > self._spec.max_batch_bytes:
            # The record that reaches the limit is the last one.
            reached = list(itertools.accumulate(part.sizes(), initial=taken.bytes))
            part = part.part(0, bisect_left(reached, self._spec.max_batch_bytes))
        taken.extend(part)
        self._taken += len(part)
        if self._taken == len(self._at_hand):
            self._move_to(self._at_hand_end)
        else:
            self._move_to(part.lists["offset"][-1] + 1)

    def _batch(self, taken: _Records) -> pa.RecordBatch:
        """Decode what was taken; a bad record is where the source stands still from then on."""
        kept: Sequence[int] = range(len(taken))
        values = taken.lists["value"]
        keys = taken.lists["key"]
        if self._spec.tombstones == "skip" and None in values:
            kept = [row for row in kept if values[row] is not None]
            values = [values[row] for row in kept]
            keys = [keys[row] for row in kept]
        decoded, decoded_keys = self._decode(values, keys)
        errors = [
            (NewField if rejected.is_new_field else DecodeError).at(
                self._spec.topic,
                self._partition,
                taken.lists["offset"][kept[rejected.index]],
                rejected.field,
                rejected.reason,
            )
            for rejected in decoded.rejected
        ]
        consumed = len(taken)
        if errors and (self._spec.on_decode_error == "fail" or decoded.rejected[-1].is_new_field):
            consumed = kept[decoded.rejected[-1].index]
            failed = errors.pop()
            self._error, self._position = failed, failed.offset
        if self._spec.on_decode_error == "report":
            self._rejected += errors
        unknown_keys = decoded_keys.unknown_fields if decoded_keys else {}
        self._count(taken, consumed, errors, (decoded.unknown_fields, unknown_keys))
        rows = [kept[row] for row in decoded.rows]
        columns = []
        for name in self._spec.columns:
            if name in self._value_index:
                columns.append(decoded.columns[self._value_index[name]])
            elif name == KEY_COLUMN and decoded_keys:
                of_rows = [keys[row] for row in decoded.rows]
                columns.append(self._spec.key_codec.key_array(decoded_keys.columns, of_rows))
            else:
                columns.append(self._metadata_column(name, taken, rows))
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def _decode(
        self, values: Sequence[bytes | None], keys: Sequence[bytes | None]
    ) -> tuple[Decoded, Decoded | None]:
        """Decode values, and the keys of those that decode; the rows are those of both."""
        decoded = self._decoder.decode(values)
        if self._key_decoder is None:
            return decoded, None
        decoded_keys = self._key_decoder.decode([keys[row] for row in decoded.rows])
        if decoded_keys.rejected:
            rejected = [
                Rejected(decoded.rows[key.index], key.field, key.reason)
                for key in decoded_keys.rejected
            ]
            if self._spec.on_decode_error != "fail":
                rejected = sorted(decoded.rejected + rejected, key=attrgetter("index"))
            rows = [decoded.rows[row] for row in decoded_keys.rows]
            # Once more without them: the values of such records must not be counted, either.
            again = self._decoder.decode([values[row] for row in rows])
            decoded = Decoded(again.columns, rows, rejected, again.unknown_fields)
        return decoded, decoded_keys

    def _count(
        self,
        taken: _Records,
        consumed: int,
        errors: Sequence[DecodeError],
        unknown_fields: tuple[Mapping[str, int], Mapping[str, int]],
    ) -> None:
        if not consumed:
            return
        for counted_before, fields in zip(self._unknown_fields, unknown_fields, strict=True):
            for path, met in fields.items():
                if path in counted_before or len(counted_before) < _MOST_UNKNOWN_FIELDS:
                    counted_before[path] += met
        counted = taken.part(0, consumed)
        before = self._stats
        # One assignment, so that another thread never sees half of it.
        self._stats = SourceStats(
            records=before.records + consumed,
            bytes=before.bytes + counted.bytes,
            decode_errors=before.decode_errors + len(errors),
            last_decode_error=errors[-1].message if errors else before.last_decode_error,
            unknown_fields={**self._unknown_fields[0], **self._unknown_fields[1]}
            if any(unknown_fields)
            else before.unknown_fields,
            tombstones=before.tombstones + counted.lists["value"].count(None),
        )

    def _metadata_column(self, name: str, taken: _Records, rows: Sequence[int]) -> pa.Array[Any]:
        arrow_type = METADATA_FIELDS[name].type
        column: pa.Array[Any]
        if name in ("_kafka_topic", "_kafka_partition"):
            value = self._spec.topic if name == "_kafka_topic" else self._partition
            column = pa.repeat(pa.scalar(value, arrow_type), len(rows))
            return column
        values = taken.lists[_ATTRIBUTES[name]]
        if len(rows) < len(values):
            values = [values[row] for row in rows]
        if name == "_kafka_headers":
            return _headers_array(values)
        if name == "_kafka_timestamp":
            # -1 says that there is none; batches before format 2 may say None.
            values = [None if ms is None or ms < 0 else ms for ms in values]
        column = pa.array(values, arrow_type)
        return column


def _headers_array(headers: Sequence[Sequence[tuple[str, bytes | None]]]) -> pa.Array[Any]:
    arrow_type = METADATA_FIELDS["_kafka_headers"].type
    flat = list(itertools.chain.from_iterable(headers))
    entries = pa.StructArray.from_arrays(
        [
            pa.array([key for key, _ in flat], pa.string()),
            pa.array([value for _, value in flat], pa.binary()),
        ],
        fields=list(arrow_type.value_type),
    )
    ends = pa.array(itertools.accumulate(map(len, headers), initial=0), pa.int32())
    return pa.ListArray.from_arrays(ends, entries, type=arrow_type)
