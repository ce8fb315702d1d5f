"""What records are made of: which columns of a batch become values, keys, headers and so on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from sabot_ray.errors import ConfigError, EncodeError
from sabot_ray.expressions import describe, evaluate
from sabot_ray.schema import METADATA_FIELDS, RESERVED_PREFIX, check_columns, unknown_column

#: A column's name, or an expression over the columns.
Column = str | pc.Expression
#: Chooses the partition of each row: of a batch and the number of partitions, as an array of
#: integers.
Partitioner = Callable[[pa.RecordBatch, int], Any]

_HEADERS: Final = METADATA_FIELDS["_kafka_headers"].type
_TEXTS: Final = (
    pa.types.is_string,
    pa.types.is_binary,
    pa.types.is_large_string,
    pa.types.is_large_binary,
    pa.types.is_string_view,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)


@dataclass(frozen=True)
class Outgoing:
    """The records of a batch: arrays of a row each.

    Attributes:
        values: The columns that are encoded.
        keys: Binary; None: no record has a key.
        headers: Lists of names and values, as in the metadata column ``_kafka_headers``.
        timestamps: int64, milliseconds since the epoch; null is now.
        partitions: int32; null leaves it to the partitioner.
        topics: Strings, none of them null; None: the sink's topic.
    """

    values: pa.RecordBatch
    keys: pa.Array[Any] | None = None
    headers: pa.Array[Any] | None = None
    timestamps: pa.Array[Any] | None = None
    partitions: pa.Array[Any] | None = None
    topics: pa.Array[Any] | None = None

    def of_bytes(self) -> Outgoing:
        """Return the same with the one column of values as bytes: the encoder checks text."""
        values = pa.record_batch([_bytes(self.values.column(0), "columns")], names=["value"])
        return replace(self, values=values)

    def cast(self, columns: pa.Schema) -> Outgoing:
        """Return the same with values of these types, which hold the same values."""
        return replace(self, values=self.values.cast(columns))


@dataclass(frozen=True)
class RecordLayout:
    """Says how the rows of a batch become records; picklable as far as its functions are.

    Attributes:
        topic: The topic, or an expression that gives each row's.
        columns: The columns to encode, in order; None: all but those that a stream adds
            (``_kafka_...``).
        key: Column of strings or bytes; null is no key.
        key_extractor: Gives a key for a row as a dict: slow, in place of ``key``.
        headers: Column of lists of names and values, as ``_kafka_headers`` is, or of maps.
        timestamp: Column of timestamps (naive is UTC), or of integers: milliseconds since the
            epoch.
        partition: Column of partition numbers; null leaves it to the partitioner.
        partitioner: librdkafka's name of one, or a function.
    """

    topic: Column
    columns: tuple[str, ...] | None = None
    key: Column | None = None
    key_extractor: Callable[[dict[str, Any]], bytes | None] | None = None
    headers: Column | None = None
    timestamp: Column | None = None
    partition: Column | None = None
    partitioner: str | Partitioner = "murmur2_random"

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.key is not None and self.key_extractor is not None:
            raise ConfigError("key, key_extractor: both give the key; give one of them")
        if callable(self.partitioner) and self.partition is not None:
            raise ConfigError("partition, partitioner: both choose partitions; give one of them")
        if callable(self.partitioner) and not isinstance(self.topic, str):
            raise ConfigError(
                "partitioner: a function needs one topic, whose number of partitions it is told"
            )

    def outgoing(self, batch: pa.RecordBatch, partition_count: Callable[[], int]) -> Outgoing:
        """Return what the records of a batch are made of.

        Args:
            batch: The rows.
            partition_count: Tells how many partitions the topic has.

        Raises:
            ConfigError: A column does not exist, or has a type that cannot serve.
            EncodeError: A value in it cannot serve.
        """
        found = _Columns(batch)
        topic = self.topic if isinstance(self.topic, str) else ""
        return Outgoing(
            self._values(batch),
            self._keys(batch, found),
            _headers(found.array("headers", self.headers), topic),
            _timestamps(found.array("timestamp", self.timestamp), topic),
            self._partitions(batch, found, partition_count, topic),
            None if topic else _topics(found.array("topic", self.topic)),
        )

    def _values(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if self.columns is None:
            names = [n for n in batch.schema.names if not n.startswith(RESERVED_PREFIX)]
        else:
            names = list(check_columns(self.columns, batch.schema, "columns"))
        if not names:
            raise ConfigError("columns: the batch has none that could be written")
        return batch.select(names)

    def _keys(self, batch: pa.RecordBatch, found: _Columns) -> Any:
        if self.key_extractor is None:
            return _bytes(found.array("key", self.key), "key")
        keys = [self.key_extractor(row) for row in batch.to_pylist()]
        try:
            return pa.array(keys, pa.binary())
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ConfigError(f"key_extractor: expected bytes or None; {error}") from None

    def _partitions(
        self,
        batch: pa.RecordBatch,
        found: _Columns,
        partition_count: Callable[[], int],
        topic: str,
    ) -> Any:
        if not callable(self.partitioner):
            return _partition_numbers(found.array("partition", self.partition), "partition", topic)
        count = partition_count()
        given = self.partitioner(batch, count)
        array = given if isinstance(given, pa.Array) else pa.array(given)
        if len(array) != batch.num_rows:
            raise ConfigError(
                f"partitioner: it gave {len(array)} partitions for {batch.num_rows} rows"
            )
        numbers = _partition_numbers(array, "partitioner", topic)
        beyond = pc.greater_equal(numbers, pa.scalar(count)).index(True).as_py()
        if beyond >= 0:
            raise ConfigError(
                f"partitioner: it gave partition {numbers[beyond]} of a topic that has {count}"
            )
        return numbers


class _Columns:
    """Computes columns of a batch."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch = batch

    def array(self, what: str, column: Column | None) -> Any:
        """Return a column by name or expression; None where there is to be none."""
        if column is None:
            return None
        if isinstance(column, str):
            if column not in self._batch.schema.names:
                raise unknown_column(column, self._batch.schema.names, what)
            return self._batch.column(column)
        try:
            computed = evaluate({what: column}, self._batch).column(0)
        except (pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowNotImplementedError) as error:
            raise ConfigError(f"{what}: {describe(column)}: {error}") from None
        return pa.concat_arrays([pa.array([], computed.type), *computed.chunks])


def is_text(given: Any) -> bool:
    """Tell whether a column of the type holds strings or bytes."""
    if pa.types.is_dictionary(given):
        return is_text(given.value_type)
    return any(is_one(given) for is_one in _TEXTS)


def _bytes(array: Any, what: str) -> Any:
    if array is None:
        return None
    array = _plain(array)
    if pa.types.is_null(array.type):
        return array.cast(pa.binary())
    if not is_text(array.type):
        raise ConfigError(
            f"{what}: expected strings or bytes, found {array.type}; "
            f"pc.field('name').cast('string') gives text"
        )
    return array.cast(pa.binary())


def _plain(array: Any) -> Any:
    return array.dictionary_decode() if isinstance(array, pa.DictionaryArray) else array


def _headers(array: Any, topic: str) -> Any:
    if array is None:
        return None
    if isinstance(array, pa.MapArray):
        if array.offset:
            # The next step takes no slice.
            array = array.take(pa.array(range(len(array)), pa.int64()))
        # The same buffers, read as lists of structs.
        entries = pa.StructArray.from_arrays([array.keys, array.items], names=["key", "value"])
        array = pa.ListArray.from_arrays(array.offsets, entries, mask=array.is_null())
    try:
        array = array.cast(_HEADERS)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        raise ConfigError(
            f"headers: expected {_HEADERS} or map<string, binary>, found {array.type}"
        ) from None
    # Both flattens leave out what slices and nulls hide; a header that is null has a null name.
    names = array.flatten().flatten()[0]
    if names.null_count or pc.any(pc.match_substring(names, "\0")).as_py():
        rows = enumerate(array.to_pylist())
        row = next(row for row, given in rows if any(map(_has_no_name, given or ())))
        raise EncodeError.at(topic, row, "headers", "a name that is null or has a NUL in it")
    return array


def _has_no_name(header: Any) -> bool:
    return header is None or header["key"] is None or "\0" in header["key"]


def _timestamps(array: Any, topic: str) -> Any:
    if array is None:
        return None
    is_timestamp = pa.types.is_timestamp(array.type)
    if not (is_timestamp or pa.types.is_integer(array.type) or pa.types.is_null(array.type)):
        raise ConfigError(
            f"timestamp: expected timestamps, or integers (milliseconds), found {array.type}"
        )
    try:
        if is_timestamp:
            # Finer ones lose what is below a millisecond.
            is_finer = array.type.unit in ("us", "ns")
            array = array.cast(pa.timestamp("ms", array.type.tz), safe=not is_finer)
        array = array.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise ConfigError(f"timestamp: {error}") from None
    # Clients take 0 for now, and brokers refuse what is below.
    early = pc.less_equal(array, pa.scalar(0)).index(True).as_py()
    if early >= 0:
        raise EncodeError.at(topic, early, "timestamp", "not after 1970-01-01T00:00:00Z")
    return array


def _partition_numbers(array: Any, what: str, topic: str) -> Any:
    if array is None:
        return None
    if not pa.types.is_integer(array.type) and not pa.types.is_null(array.type):
        raise ConfigError(f"{what}: expected integers, found {array.type}")
    negative = pc.less(array, pa.scalar(0)).index(True).as_py()
    if negative >= 0:
        raise EncodeError.at(topic, negative, what, f"{array[negative]} is no partition")
    try:
        return array.cast(pa.int32())
    except pa.ArrowInvalid as error:
        raise ConfigError(f"{what}: {error}") from None


def _topics(array: Any) -> Any:
    assert array is not None
    topics = _bytes(array, "topic")
    assert topics is not None
    is_legal = pc.match_substring_regex(topics, r"^[a-zA-Z0-9._-]{1,249}$").fill_null(False)
    illegal = is_legal.index(False).as_py()
    if illegal >= 0:
        raise EncodeError.at("", illegal, "topic", "no legal name of a topic")
    return topics.cast(pa.string())
