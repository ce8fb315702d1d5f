"""How values and keys become columns, beside JSON values: `test_source_records` has those."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from sabot_ray.codecs.codec import Codec
from sabot_ray.codecs.json import JsonCodec
from sabot_ray.codecs.text import BytesCodec, StringCodec
from sabot_ray.errors import DecodeError
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.source import SourceSpec
from sabot_ray.testing import Record
from tests.kafka.reading import NUMBERS, number, read_to

KEYS = pa.schema([("id", pa.int64()), ("at", pa.struct([("day", pa.date32())]))])


def spec_of(
    broker: Any,
    topic: str,
    codec: Codec,
    *columns: str,
    key_codec: Codec | None = None,
    **more: Any,
) -> SourceSpec:
    return SourceSpec(
        KafkaConfig(broker.bootstrap_servers),
        topic,
        codec,
        columns,
        key_codec=key_codec or BytesCodec(),
        **more,
    )


def keyed_spec(broker: Any, topic: str, key_codec: Codec, **more: Any) -> SourceSpec:
    return spec_of(
        broker, topic, JsonCodec(NUMBERS), "n", "_kafka_key", key_codec=key_codec, **more
    )


def keyed(rows: list[tuple[int, Any]], key_type: pa.DataType) -> pa.Table:
    schema = pa.schema([*NUMBERS, pa.field("_kafka_key", key_type)])
    return pa.table([[n for n, _ in rows], pa.array([k for _, k in rows], key_type)], schema=schema)


@pytest.mark.parametrize(
    ("codec", "arrow_type", "values"),
    [
        (StringCodec(), pa.string(), ["plain", None, "", "größer \0 😀", " x\n"]),
        (BytesCodec(), pa.binary(), [b"plain", None, b"", b"\xff\x00", b" x\n"]),
    ],
    ids=["string", "bytes"],
)
def test_text_codec_takes_values_as_they_are(
    broker, topic, open_source, produce, codec, arrow_type, values
):
    produce(topic, [value.encode() if isinstance(value, str) else value for value in values])
    source = open_source(spec_of(broker, topic, codec, "value"), end_offset=5)
    expected = pa.table([pa.array(values, arrow_type)], schema=pa.schema([("value", arrow_type)]))
    assert read_to(source, 5).equals(expected, check_metadata=True)
    assert source.stats().tombstones == 1


@pytest.mark.parametrize("value", [b"ok\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"])
def test_string_codec_refuses_what_is_no_utf8(broker, topic, open_source, produce, value):
    produce(topic, [b"first", value], linger_ms=200)
    source = open_source(spec_of(broker, topic, StringCodec(), "value"), end_offset=2)
    assert read_to(source, 1).to_pylist() == [{"value": "first"}]
    with pytest.raises(DecodeError) as raised:
        source.poll(10, timeout_s=5)
    assert raised.value.message == (f"topic '{topic}' partition 0 offset 1: field $: invalid UTF-8")


def test_string_codec_skipping_drops_what_is_no_utf8(broker, topic, open_source, produce):
    produce(topic, [b"\xff", b"a", None, b"b\xff", b"c"])
    spec = spec_of(broker, topic, StringCodec(), "_kafka_offset", "value", on_decode_error="skip")
    source = open_source(spec, end_offset=5)
    assert read_to(source, 5).to_pydict() == {
        "_kafka_offset": [1, 2, 4],
        "value": ["a", None, "c"],
    }
    assert source.stats().decode_errors == 2


def test_string_codec_validates_values_that_are_not_built(broker, topic, open_source, produce):
    produce(topic, [b"a", b"\xff", b"b"])
    spec = spec_of(broker, topic, StringCodec(), "_kafka_offset", on_decode_error="skip")
    assert read_to(open_source(spec, end_offset=3), 3).to_pydict() == {"_kafka_offset": [0, 2]}


def test_string_keys_are_text(broker, topic, open_source, produce):
    produce(topic, [Record(number(0), "é".encode()), Record(number(1)), Record(number(2), b"")])
    source = open_source(keyed_spec(broker, topic, StringCodec()), end_offset=3)
    expected = keyed([(0, "é"), (1, None), (2, "")], pa.string())
    assert read_to(source, 3).equals(expected, check_metadata=True)


def test_json_keys_are_a_struct_of_their_fields(broker, topic, open_source, produce):
    keys = [b'{"id": 7, "at": {"day": "2024-02-29"}}', None, b"{}", b'{"id": null, "at": {}}']
    produce(topic, [Record(number(n), key) for n, key in enumerate(keys)])
    source = open_source(keyed_spec(broker, topic, JsonCodec(KEYS)), end_offset=4)
    rows = read_to(source, 4)
    assert rows.column("_kafka_key").type == pa.struct(list(KEYS))
    assert str(rows.column("_kafka_key").to_pylist()) == (
        "[{'id': 7, 'at': {'day': datetime.date(2024, 2, 29)}}, None, "
        "{'id': None, 'at': None}, {'id': None, 'at': {'day': None}}]"
    )


def test_json_keys_with_dictionaries_are_encoded(broker, topic, open_source, produce):
    words = pa.dictionary(pa.int32(), pa.string())
    keys = [b'{"w": "a"}', None, b'{"w": "b"}', b'{"w": "a"}']
    produce(topic, [Record(number(n), key) for n, key in enumerate(keys)])
    codec = JsonCodec(pa.schema([("w", words)]))
    rows = read_to(open_source(keyed_spec(broker, topic, codec), end_offset=4), 4)
    assert rows.column("_kafka_key").type == pa.struct([("w", words)])
    assert rows.column("_kafka_key").to_pylist() == [{"w": "a"}, None, {"w": "b"}, {"w": "a"}]


@pytest.mark.parametrize(
    ("key_codec", "key", "field", "reason"),
    [
        (StringCodec(), b"\xff", "key", "invalid UTF-8"),
        (JsonCodec(KEYS), b"", "key", "malformed JSON"),
        (JsonCodec(KEYS), b"[1]", "key", "expected an object, found an array"),
        (JsonCodec(KEYS), b'{"id": "x"}', "key.id", "expected an integer, found a string"),
        (JsonCodec(KEYS), b'{"at": {"day": ""}}', "key.at.day", "not a date YYYY-MM-DD"),
        (JsonCodec(KEYS, "fail"), b'{"a b": 1}', 'key["a b"]', "unknown field"),
    ],
)
def test_key_that_does_not_decode_is_an_error_at_its_path(
    broker, topic, open_source, produce, key_codec, key, field, reason
):
    good = b"{}" if isinstance(key_codec, JsonCodec) else b"k"
    produce(topic, [Record(number(0), good), Record(number(1), key)], linger_ms=200)
    source = open_source(keyed_spec(broker, topic, key_codec), end_offset=2)
    assert read_to(source, 1).column("n").to_pylist() == [0]
    for _ in range(2):
        with pytest.raises(DecodeError) as raised:
            source.poll(10, timeout_s=5)
        error = raised.value
        assert (error.offset, error.field, error.reason) == (1, field, reason)
        assert source.position() == 1


def test_keys_that_do_not_decode_are_skipped_and_leave_no_count(
    broker, topic, open_source, produce
):
    produce(
        topic,
        [
            Record(b'{"n": 0, "u": 1}', b'{"id": 1, "v": 1}'),
            Record(b'{"n": 1, "u": 1}', b'{"id": "x", "v": 1}'),
            Record(b'{"n": "x", "u": 1}', b'{"id": 1, "v": 1}'),
            Record(None, b"{"),
            Record(b'{"n": 4, "u": 1}', b'{"v": {"w": 1}}'),
        ],
    )
    spec = keyed_spec(broker, topic, JsonCodec(KEYS), on_decode_error="skip")
    source = open_source(spec, end_offset=5)
    rows = read_to(source, 5)
    assert rows.column("n").to_pylist() == [0, 4]
    assert [key["id"] for key in rows.column("_kafka_key").to_pylist()] == [1, None]
    stats = source.stats()
    assert (stats.records, stats.decode_errors, stats.tombstones) == (5, 3, 1)
    assert stats.unknown_fields == {"$.u": 2, "key.v": 2}
    assert stats.last_decode_error == (
        f"topic '{topic}' partition 0 offset 3: field key: malformed JSON"
    )


def test_value_and_key_that_do_not_decode_name_the_value(broker, topic, open_source, produce):
    produce(topic, [Record(b'{"n": "x"}', b"{")])
    source = open_source(keyed_spec(broker, topic, JsonCodec(KEYS)), end_offset=1)
    with pytest.raises(DecodeError, match=r"offset 0: field \$\.n: expected an integer"):
        source.poll(10, timeout_s=5)


def test_keys_that_are_not_built_are_validated_but_not_type_checked(
    broker, topic, open_source, produce
):
    produce(topic, [Record(number(n), key) for n, key in enumerate([b'{"id": "x"}', b"{", None])])
    spec = spec_of(
        broker, topic, JsonCodec(NUMBERS), "n", key_codec=JsonCodec(KEYS), on_decode_error="skip"
    )
    source = open_source(spec, end_offset=3)
    assert read_to(source, 3).column("n").to_pylist() == [0, 2]
    assert source.stats().decode_errors == 1


def test_rescued_fields_are_text_and_not_counted(broker, topic, open_source, produce):
    produce(topic, [b'{"n": 1, "a": [ 1 ]}', None, b'{"n": 2}', b'{"n": "x", "a": 1}'])
    spec = spec_of(
        broker,
        topic,
        JsonCodec(NUMBERS, "rescue"),
        "_rescued",
        "n",
        on_decode_error="skip",
    )
    source = open_source(spec, end_offset=4)
    expected = pa.table(
        [['{"$.a":[1]}', None, None], [1, None, 2]],
        schema=pa.schema([("_rescued", pa.string()), *NUMBERS]),
    )
    assert read_to(source, 4).equals(expected)
    assert source.stats().unknown_fields == {}
