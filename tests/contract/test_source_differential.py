"""Both backends give the same batches, positions, counters and errors for the same topic."""

from __future__ import annotations

from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sabot_ray.codecs.codec import Codec
from sabot_ray.codecs.json import JsonCodec
from sabot_ray.codecs.text import BytesCodec, StringCodec
from sabot_ray.errors import DecodeError
from sabot_ray.kafka.backend import connect_source_client, native_load_error
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.source import SourceSpec
from sabot_ray.schema import METADATA_FIELDS
from sabot_ray.testing import Record
from sabot_ray.types import SourceStats
from tests.conftest import skip_or_fail

SCHEMA = pa.schema([("n", pa.int64()), ("text", pa.string()), ("items", pa.list_(pa.float64()))])
COLUMNS = [*SCHEMA.names, *METADATA_FIELDS]
KEYS = pa.schema([("id", pa.int64()), ("word", pa.dictionary(pa.int32(), pa.string()))])
CODECS: list[Codec] = [
    JsonCodec(SCHEMA),
    JsonCodec(SCHEMA, "rescue"),
    JsonCodec(SCHEMA, "fail"),
    StringCodec(),
    BytesCodec(),
]
KEY_CODECS: list[Codec] = [BytesCodec(), StringCodec(), JsonCodec(KEYS), JsonCodec(KEYS, "fail")]

VALUES = st.one_of(
    st.none(),
    st.sampled_from([b"", b"null", b"{}", b'{"n": "x"}', b'{"n": 1, "new": 2}', b"\xff"]),
    st.builds(
        lambda n, text: b'{"n": %d, "text": "%s", "items": [1, null, 2.5]}' % (n, text.encode()),
        st.integers(-(1 << 70), 1 << 70),
        st.text(st.characters(codec="utf-8", exclude_characters='"\\', min_codepoint=32)),
    ),
)
JSON_KEYS = st.sampled_from(
    [
        b'{"id": 1}',
        b'{"id": 2, "word": "a"}',
        b'{"word": "b"}',
        b'{"id": "x"}',
        b'{"new": 1}',
        b"{}",
    ]
)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4)
RECORDS = st.builds(
    Record,
    VALUES,
    st.none() | st.binary(max_size=6) | JSON_KEYS,
    partition=st.just(-1),
    timestamp_ms=st.integers(0, 4_000_000_000_000),
    headers=st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=4)), max_size=3).map(tuple),
)


class Outcome(NamedTuple):
    """What a source gave for a range."""

    table: pa.Table
    position: int
    stats: SourceStats
    error: tuple[Any, ...] | None


#: Records among those of the test that are worth a thread: several of them are in every poll.
LONG = [Record(b'{"n": 1, "text": "%s", "new": 1}' % (b"x" * 8000), b'{"id": 1}')] * 3


def read(backend: str, spec: SourceSpec, start: int, end: int) -> Outcome:
    client = connect_source_client(backend, spec.config, spec.prefetch_bytes)
    try:
        source = client.open_source(spec, 0, start, end)
        batches, error = [], None
        try:
            while source.position() < end:
                batches.append(source.poll(7, timeout_s=5))
        except DecodeError as exc:
            error = (exc.message, exc.offset, exc.field, exc.reason)
        table = pa.Table.from_batches(batches, source.schema).combine_chunks()
        return Outcome(table, source.position(), source.stats(), error)
    finally:
        client.close()


def assert_equal(native: Outcome, fallback: Outcome) -> None:
    assert native.table.schema.equals(fallback.table.schema, check_metadata=True)
    assert native.table.equals(fallback.table)
    assert native[1:] == fallback[1:]


@pytest.fixture(scope="module")
def both_backends():
    reason = native_load_error()
    if reason is not None:
        skip_or_fail(reason)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    records=st.lists(RECORDS, min_size=1, max_size=12),
    compression=st.sampled_from(["none", "gzip", "snappy", "lz4", "zstd"]),
    codec=st.sampled_from(CODECS),
    key_codec=st.sampled_from(KEY_CODECS),
    data=st.data(),
    tombstones=st.sampled_from(["keep", "skip"]),
    policy=st.sampled_from(["fail", "skip"]),
    skipped=st.integers(0, 3),
    decode_threads=st.sampled_from([1, 3]),
)
def test_any_records_give_equal_outcomes(
    both_backends,
    broker,
    endless_topic,
    produce,
    records,
    compression,
    codec,
    key_codec,
    data,
    tombstones,
    policy,
    skipped,
    decode_threads,
):
    if decode_threads > 1:
        records = [one for record in records for one in [*LONG, record, *LONG]]
    offsets = produce(endless_topic, records, compression_type=compression, linger_ms=20)
    start, end = offsets[0] + min(skipped, len(offsets) - 1), offsets[-1] + 1
    names = [*codec.columns.names, *METADATA_FIELDS]
    columns = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    spec = SourceSpec(
        KafkaConfig(broker.bootstrap_servers),
        endless_topic,
        codec,
        tuple(columns),
        tombstones,
        policy,
        key_codec=key_codec,
        decode_threads=decode_threads,
    )
    assert_equal(read("native", spec, start, end), read("aiokafka", spec, start, end))


@pytest.fixture
def endless_topic(make_topic):
    return make_topic(message_timestamp_after_max_ms=(1 << 63) - 1)


def test_transactions_and_gaps_give_equal_outcomes(
    both_backends, broker, topic, produce, produce_in_transaction
):
    for n in range(3):
        value = b'{"n": %d}' % n
        produce(topic, [value])
        produce_in_transaction(topic, [value, None]).commit()
        produce_in_transaction(topic, [value, value]).abort()
    spec = SourceSpec(
        KafkaConfig(broker.bootstrap_servers), topic, JsonCodec(SCHEMA), tuple(COLUMNS)
    )
    native = read("native", spec, 0, 21)
    assert native.table.num_rows == 9
    assert_equal(native, read("aiokafka", spec, 0, 21))


def test_unknown_fields_beyond_the_limit_pass_uncounted_in_both(
    both_backends, broker, topic, produce
):
    values = [
        b"{%s}" % b",".join(b'"u%d":1' % n for n in range(first, first + 2000))
        for first in range(0, 10_000, 2000)
    ]
    # No poll takes both a path that fits and the late one, wherever fetches end.
    values += [b'{"u0":1}'] * 7 + [b'{"u1":1,"late":1}']
    produce(topic, values)
    spec = SourceSpec(KafkaConfig(broker.bootstrap_servers), topic, JsonCodec(SCHEMA), ("n",))
    native = read("native", spec, 0, len(values))
    once = {f"$.u{n}": 1 for n in range(10_000)}
    assert native.stats.unknown_fields == {**once, "$.u0": 8, "$.u1": 2}
    assert_equal(native, read("aiokafka", spec, 0, len(values)))


def test_record_of_a_name_that_is_no_utf8_is_refused_by_both(both_backends, broker, topic, produce):
    # After the rows before it the record is decoded a second time.
    produce(topic, [b'{"n":0}', b'{"n":1,"\xff":5}', b'{"n":2}'])
    spec = SourceSpec(KafkaConfig(broker.bootstrap_servers), topic, JsonCodec(SCHEMA), ("n",))
    native = read("native", spec, 0, 3)
    assert native.error is not None
    assert native.error[1:] == (1, "$", "malformed JSON")
    assert native.table.column("n").to_pylist() == [0]
    assert_equal(native, read("aiokafka", spec, 0, 3))
