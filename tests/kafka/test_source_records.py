"""What of a record ends up in which column, and what happens to values that do not decode."""

from __future__ import annotations

import asyncio

import aiokafka
import pyarrow as pa
import pytest

from sabot_ray.codecs.codec import NewField
from sabot_ray.errors import DecodeError
from sabot_ray.schema import METADATA_FIELDS
from sabot_ray.testing import Record
from sabot_ray.types import SourceStats
from tests.kafka.reading import NUMBERS, number, numbered, numbers_spec, read_to


def metadata(name: str, values: list) -> pa.Table:
    return pa.table([values], schema=pa.schema([METADATA_FIELDS[name]]))


def test_metadata_columns_hold_what_the_record_carries(broker, make_topic, open_source, produce):
    topic = make_topic(partitions=2)
    headers = (
        *(("trace", b"1"), ("empty", b""), ("none", None), ("trace", b"2")),
        *(("", b"no name"), ("trace", None), ("trace", b"1"), ("a", b"behind")),
    )
    produce(
        topic,
        [
            Record(number(0), b"key", 1, 1_700_000_000_123, headers),
            Record(number(1), None, 1, 1_700_000_000_124),
            Record(number(2), b"", 1, 1_700_000_000_125, (("größe", b"\xff"),)),
        ],
    )
    spec = numbers_spec(broker, topic, ("_kafka_offset", "n", *METADATA_FIELDS)[1:])
    source = open_source(spec, partition=1, end_offset=3)
    expected = pa.table(
        {
            "n": [0, 1, 2],
            "_kafka_key": [b"key", None, b""],
            "_kafka_topic": [topic] * 3,
            "_kafka_partition": [1, 1, 1],
            "_kafka_offset": [0, 1, 2],
            "_kafka_timestamp": [1_700_000_000_123, 1_700_000_000_124, 1_700_000_000_125],
            "_kafka_timestamp_type": [0, 0, 0],
            "_kafka_headers": [
                [{"key": key, "value": value} for key, value in headers],
                [],
                [{"key": "größe", "value": b"\xff"}],
            ],
        },
        schema=pa.schema([*NUMBERS, *METADATA_FIELDS.values()]),
    )
    assert read_to(source, 3).equals(expected, check_metadata=True)


def test_timestamps_of_log_append_topic_have_type_1(broker, make_topic, open_source, produce):
    topic = make_topic(message_timestamp_type="LogAppendTime")
    produce(topic, [Record(number(0), timestamp_ms=1_000)])
    spec = numbers_spec(broker, topic, ("_kafka_timestamp", "_kafka_timestamp_type"))
    (row,) = read_to(open_source(spec, end_offset=1), 1).to_pylist()
    assert row["_kafka_timestamp_type"] == 1
    assert row["_kafka_timestamp"].year > 2000


def test_records_without_a_timestamp_have_null_and_the_type_of_the_topic(
    broker, topic, open_source
):
    async def produce_without_timestamps() -> None:
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers)
        await producer.start()
        try:
            for n, timestamp in enumerate([-1, 1_700_000_000_123, -1]):
                batch = producer.create_batch()
                batch.append(key=None, value=number(n), timestamp=timestamp)
                await (await producer.send_batch(batch, topic, partition=0))
        finally:
            await producer.stop()

    asyncio.run(produce_without_timestamps())
    spec = numbers_spec(broker, topic, ("n", "_kafka_timestamp", "_kafka_timestamp_type"))
    schema = pa.schema(
        [*NUMBERS, METADATA_FIELDS["_kafka_timestamp"], METADATA_FIELDS["_kafka_timestamp_type"]]
    )
    expected = pa.table([[0, 1, 2], [None, 1_700_000_000_123, None], [0, 0, 0]], schema=schema)
    assert read_to(open_source(spec, end_offset=3), 3).equals(expected)


def test_columns_come_in_the_order_of_the_spec(broker, topic, open_source, produce):
    produce(topic, [number(7)])
    source = open_source(numbers_spec(broker, topic, ("_kafka_partition", "n")), end_offset=1)
    schema = pa.schema([METADATA_FIELDS["_kafka_partition"], *NUMBERS])
    assert read_to(source, 1).equals(pa.table([[0], [7]], schema=schema))


def test_metadata_columns_alone_still_validate_values(broker, topic, open_source, produce):
    produce(topic, [number(0), b"{", number(2)])
    spec = numbers_spec(broker, topic, ("_kafka_offset",), on_decode_error="skip")
    source = open_source(spec, end_offset=3)
    assert read_to(source, 3).equals(metadata("_kafka_offset", [0, 2]))


def test_tombstone_is_a_row_of_nulls(broker, topic, open_source, produce):
    produce(topic, [number(0), None, number(2)])
    source = open_source(numbers_spec(broker, topic), end_offset=3)
    assert read_to(source, 3).equals(numbered([(0, 0), (None, 1), (2, 2)]))
    assert source.stats().tombstones == 1


def test_tombstones_skipped_leave_no_row(broker, topic, open_source, produce):
    produce(topic, [None, number(1), None, None])
    spec = numbers_spec(broker, topic, ("n", "_kafka_offset"), tombstones="skip")
    source = open_source(spec, end_offset=4)
    assert read_to(source, 4).equals(numbered([(1, 1)]))
    assert source.stats() == SourceStats(records=4, bytes=8, tombstones=3)


def test_decode_error_comes_after_the_rows_before_it(broker, topic, open_source, produce):
    produce(topic, [number(0), number(1), b'{"n": "one"}', number(3)], linger_ms=200)
    source = open_source(numbers_spec(broker, topic), end_offset=4)
    rows = read_to(source, 2)
    assert rows.equals(numbered([(0, 0), (1, 1)]))
    expected = (
        f"topic '{topic}' partition 0 offset 2: field $.n: expected an integer, found a string"
    )
    for _ in range(2):
        with pytest.raises(DecodeError) as raised:
            source.poll(10, timeout_s=5)
        error = raised.value
        assert error.message == expected
        assert (error.topic, error.partition, error.offset) == (topic, 0, 2)
        assert (error.field, error.reason) == ("$.n", "expected an integer, found a string")
        assert source.position() == 2
    assert source.stats().records == 2


def test_decode_error_of_the_first_record_is_raised_at_once(broker, topic, open_source, produce):
    produce(topic, [b"", number(1)])
    source = open_source(numbers_spec(broker, topic), end_offset=2)
    with pytest.raises(DecodeError, match=r"offset 0: field \$: malformed JSON"):
        source.poll(10, timeout_s=5)
    assert source.position() == 0


def test_seek_past_a_decode_error_goes_on(broker, topic, open_source, produce):
    produce(topic, [number(0), b"bad", number(2)])
    source = open_source(numbers_spec(broker, topic), end_offset=3)
    assert read_to(source, 1).equals(numbered([(0, 0)]))
    with pytest.raises(DecodeError):
        source.poll(10, timeout_s=5)
    source.seek(2)
    assert read_to(source, 3).equals(numbered([(2, 2)]))


def test_decode_errors_skipped_are_counted(broker, topic, open_source, produce):
    produce(topic, [b"bad", number(1), b'{"n": 1.5}', None, number(4)])
    source = open_source(numbers_spec(broker, topic, on_decode_error="skip"), end_offset=5)
    assert read_to(source, 5).equals(numbered([(1, 1), (None, 3), (4, 4)]))
    stats = source.stats()
    assert (stats.records, stats.decode_errors, stats.tombstones) == (5, 2, 1)
    assert stats.last_decode_error == (
        f"topic '{topic}' partition 0 offset 2: field $.n: expected an integer, found a number "
        "with a fraction or an exponent"
    )


def test_decode_errors_reported_are_told_once_in_order(broker, topic, open_source, produce):
    records = [number(n) if n % 7 else b'{"n": "%d"}' % n for n in range(3000)]
    produce(topic, records)
    source = open_source(numbers_spec(broker, topic, on_decode_error="report"), end_offset=3000)
    rejected = []
    while source.position() < 3000:
        source.poll(1000, timeout_s=5)
        rejected += source.take_rejected()
    assert [error.offset for error in rejected] == list(range(0, 3000, 7))
    assert str(rejected[1]) == (
        f"topic '{topic}' partition 0 offset 7: field $.n: expected an integer, found a string"
    )
    assert source.take_rejected() == []
    assert source.stats().decode_errors == len(rejected)


def test_decode_errors_reported_are_forgotten_by_a_seek(broker, topic, open_source, produce):
    produce(topic, [b"bad", number(1)])
    source = open_source(numbers_spec(broker, topic, on_decode_error="report"), end_offset=2)
    read_to(source, 2)
    source.seek(1)
    assert read_to(source, 2).equals(numbered([(1, 1)]))
    assert source.take_rejected() == []


def test_decode_errors_skipped_move_the_position_without_a_row(broker, topic, open_source, produce):
    produce(topic, [b"bad", b"worse"])
    source = open_source(numbers_spec(broker, topic, on_decode_error="skip"), end_offset=2)
    assert read_to(source, 2).equals(numbered([]))


def test_tombstones_skipped_before_a_decode_error_are_consumed(broker, topic, open_source, produce):
    produce(topic, [number(0), None, b"bad"], linger_ms=200)
    source = open_source(numbers_spec(broker, topic, tombstones="skip"), end_offset=3)
    assert read_to(source, 2).equals(numbered([(0, 0)]))
    with pytest.raises(DecodeError, match="offset 2"):
        source.poll(10, timeout_s=5)
    assert source.position() == 2


def test_unknown_fields_are_counted_by_path(broker, topic, open_source, produce):
    produce(topic, [b'{"n": 1, "a": 2}', b'{"a": 1, "b c": {"d": 1}}', number(3)])
    source = open_source(numbers_spec(broker, topic), end_offset=3)
    assert read_to(source, 3).equals(numbered([(1, 0), (None, 1), (3, 2)]))
    assert source.stats().unknown_fields == {"$.a": 2, '$["b c"]': 1}


def test_unknown_field_refused_is_a_decode_error(broker, topic, open_source, produce):
    produce(topic, [b'{"n": 1, "a": 2}'])
    source = open_source(numbers_spec(broker, topic, unknown_fields="fail"), end_offset=1)
    with pytest.raises(DecodeError, match=r"field \$\.a: unknown field"):
        source.poll(10, timeout_s=5)


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_field_that_the_schema_is_to_learn_stops_the_source_there(
    broker, topic, open_source, produce, policy
):
    bad = [] if policy == "fail" else [b"no JSON"]
    produce(topic, [number(0), *bad, b'{"n": 1, "_kafka_x": 1}', b'{"n": 2, "a": 2}', number(3)])
    spec = numbers_spec(broker, topic, ("n",), unknown_fields="evolve", on_decode_error=policy)
    source = open_source(spec, end_offset=4 + len(bad))
    met = 2 + len(bad)
    assert read_to(source, met).to_pydict() == {"n": [0, 1]}
    for _ in range(2):
        with pytest.raises(NewField, match=rf"offset {met}: field \$\.a: unknown field"):
            source.poll(10, timeout_s=5)
    assert source.position() == met
    stats = source.stats()
    assert (stats.records, stats.decode_errors) == (met, len(bad))
    assert stats.unknown_fields == {"$._kafka_x": 1}


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_compressed_topic_gives_the_same_rows(broker, topic, open_source, produce, compression):
    produce(topic, map(number, range(500)), compression_type=compression, linger_ms=50)
    source = open_source(numbers_spec(broker, topic), start_offset=10, end_offset=500)
    assert read_to(source, 500).equals(numbered((n, n) for n in range(10, 500)))


def test_partition_of_every_compression_gives_what_the_records_carry(
    broker, topic, open_source, produce
):
    records = [
        Record(number(n), b"k%d" % n, 0, 1_700_000_000_000 + n, (("h", b"%d" % n), ("h", None)))
        for n in range(300)
    ]
    for start, compression in enumerate(["gzip", "none", "snappy", "lz4", "zstd", "gzip"]):
        part = records[50 * start : 50 * start + 50]
        produce(topic, part, compression_type=compression, linger_ms=50)
    columns = ("n", "_kafka_key", "_kafka_timestamp", "_kafka_headers")
    schema = pa.schema([*NUMBERS, *(METADATA_FIELDS[name] for name in columns[1:])])
    expected = pa.table(
        [
            list(range(300)),
            [record.key for record in records],
            [record.timestamp_ms for record in records],
            [[{"key": k, "value": v} for k, v in record.headers] for record in records],
        ],
        schema=schema,
    )
    source = open_source(numbers_spec(broker, topic, columns), end_offset=300)
    assert read_to(source, 300).equals(expected)


def test_record_larger_than_the_fetch_size_is_read(broker, topic, open_source, produce):
    large = b'{"n": 1, "pad": "' + b"x" * 300_000 + b'"}'
    produce(topic, [number(0), large, number(2)])
    config = {"max_partition_fetch_bytes": 10_000}
    spec = numbers_spec(broker, topic, config=config, prefetch_bytes=50_000)
    source = open_source(spec, end_offset=3)
    assert read_to(source, 3).equals(numbered((n, n) for n in range(3)))
