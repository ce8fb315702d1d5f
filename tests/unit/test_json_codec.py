"""The JSON codec's description, and what its Python decoder is told."""

from __future__ import annotations

import gc
import pickle

import pyarrow as pa
import pytest

from sabot_ray.codecs.codec import Decoded, Rejected
from sabot_ray.codecs.json import JsonCodec, JsonDecoder
from sabot_ray.errors import ConfigError
from sabot_ray.schema import JSON_TEXT_METADATA

SCHEMA = pa.schema(
    [pa.field("a", pa.int64()), pa.field("j", pa.string(), metadata=JSON_TEXT_METADATA)]
)


def test_json_codec_survives_pickling_with_its_schema() -> None:
    codec = pickle.loads(pickle.dumps(JsonCodec(SCHEMA, "fail")))

    assert codec == JsonCodec(SCHEMA, "fail")
    assert codec.schema.equals(SCHEMA, check_metadata=True)


def test_json_decoder_skipping_tells_which_values_became_rows() -> None:
    decoder = JsonDecoder(JsonCodec(SCHEMA), ["a"], "skip")

    decoded = decoder.decode([b'{"a":1}', b"[", None, b'{"a":"x"}', b'{"a":2,"b":3}'])

    assert decoded == Decoded(
        [pa.array([1, None, 2], pa.int64())],
        [0, 2, 4],
        [
            Rejected(1, "$", "malformed JSON"),
            Rejected(3, "$.a", "expected an integer, found a string"),
        ],
        {"$.b": 1},
    )


def test_json_decoder_failing_tells_the_rows_before_the_first_bad_value() -> None:
    decoder = JsonDecoder(JsonCodec(SCHEMA), ["a"])

    decoded = decoder.decode([b'{"a":1}', None, b"[", b'{"a":2}', b"]"])

    assert decoded == Decoded(
        [pa.array([1, None], pa.int64())], [0, 1], [Rejected(2, "$", "malformed JSON")], {}
    )


def test_json_decoder_counts_no_unknown_name_longer_than_256_bytes() -> None:
    longest, longer = "é" * 128, "é" * 128 + "k"
    values = [f'{{"{name}":1,"{name}":2}}'.encode() for name in (longest, longer)]

    for column in ("a", "j"):  # A run of documents, and one by tokens.
        decoded = JsonDecoder(JsonCodec(SCHEMA), [column]).decode([*values, b'{"a":1,"j":[1]}'])
        assert decoded.unknown_fields == {f'$["{longest}"]': 1}


def test_json_decoder_without_columns_still_validates() -> None:
    decoder = JsonDecoder(JsonCodec(SCHEMA), [], "skip")

    decoded = decoder.decode([b'{"a":"x"}', b"{", b'{"j":1}'])

    assert decoded == Decoded([], [0, 2], [Rejected(1, "$", "malformed JSON")], {})


def test_json_decoder_of_many_nested_objects_causes_no_garbage_collection() -> None:
    schema = pa.schema({"a": pa.struct({"b": pa.list_(pa.int64())})})
    decoder = JsonDecoder(JsonCodec(schema), schema.names)
    values = [b'{"a":{"b":[1]}}'] * 1000
    collected: list[str] = []

    def count(phase: str, info: dict[str, int]) -> None:
        collected.append(phase)

    # From here on every 700 objects are a reason, a run of these values has 3000.
    gc.collect()
    gc.callbacks.append(count)
    try:
        decoded = decoder.decode(values)
    finally:
        gc.callbacks.remove(count)
    assert len(decoded.rows) == 1000
    assert collected == []


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("value", [b'{"a":1}', b'{"a":'])
def test_json_decoder_leaves_the_garbage_collector_as_it_was(value: bytes, enabled: bool) -> None:
    schema = pa.schema({"a": pa.int64()})
    decoder = JsonDecoder(JsonCodec(schema), schema.names)
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        decoder.decode([value])
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()


def test_json_codec_rescuing_adds_a_column() -> None:
    codec = JsonCodec(SCHEMA, "rescue")

    assert codec.columns.equals(SCHEMA.append(pa.field("_rescued", pa.string())))
    assert pickle.loads(pickle.dumps(codec)) == codec


def test_json_codec_rescuing_into_a_field_of_the_schema_is_refused() -> None:
    schema = pa.schema([("_rescued", pa.string())])

    assert JsonCodec(schema).columns == schema
    with pytest.raises(ConfigError) as refused:
        JsonCodec(schema, "rescue")
    assert str(refused.value) == (
        "schema: field $._rescued: unknown_fields='rescue' adds a column of this name; leave it "
        "out, and the field is rescued, too"
    )
