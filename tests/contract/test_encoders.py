"""The encoders against each other, and against the decoders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sabot_ray.codecs.codec import Codec
from sabot_ray.codecs.dictionaries import plain_schema
from sabot_ray.codecs.json import JsonCodec
from sabot_ray.codecs.text import BytesCodec, StringCodec
from sabot_ray.schema import check_value_schema
from tests.conftest import skip_or_fail
from tests.contract.json_decoding import decode_in_python, decode_natively
from tests.contract.json_documents import DocumentWriter
from tests.contract.random_documents import EXAMPLES, bounded, writers

_TEXT = {b"sabot_ray:json": b"text"}


Encode = Callable[..., tuple[list[bytes | None], list[tuple[int, str, str]]]]


def encode_in_python(
    batch: pa.RecordBatch, codec: Codec | None = None
) -> tuple[list[bytes | None], list[tuple[int, str, str]]]:
    encoded = (codec or JsonCodec(batch.schema)).encoder().encode(batch)
    rejected = [(row.index, row.field, row.reason) for row in encoded.rejected]
    return encoded.values.to_pylist(), rejected


def encode_natively(
    batch: pa.RecordBatch, codec: Codec | None = None
) -> tuple[list[bytes | None], list[tuple[int, str, str]]]:
    try:
        from sabot_ray import _native
    except ImportError as exc:
        skip_or_fail(f"the native encoder does not load: {exc}")
    values, rejected = _native.encode(batch, codec or JsonCodec(batch.schema))
    return values, rejected


ENCODERS: dict[str, Encode] = {"native": encode_natively, "aiokafka": encode_in_python}


def rows(writer: DocumentWriter) -> pa.RecordBatch:
    """Rows of any schema, which may begin in the middle of their buffers."""
    schema = check_value_schema(writer.schema())
    batch = decode_in_python(writer.values(schema), schema).batch
    start = writer.choice([0, 0, 1, 3])
    return batch.slice(start)


@bounded
@given(writers)
def test_encoders_given_the_same_rows_write_the_same_bytes(writer: DocumentWriter) -> None:
    batch = rows(writer)

    assert encode_natively(batch) == encode_in_python(batch)


@pytest.mark.parametrize("encoder", ENCODERS)
@bounded
@given(writers)
def test_written_rows_are_read_back_as_an_equal_batch(encoder: str, writer: DocumentWriter) -> None:
    batch = rows(writer)

    values, rejected = ENCODERS[encoder](batch)

    # The offset of a timestamp may have put it there.
    assert {reason for _, _, reason in rejected} <= {"a year beyond 0001 to 9999"}
    kept = pa.array([value is not None for value in values], pa.bool_())
    # A slice's dictionary may hold values that no row has.
    expected = batch.cast(plain_schema(batch.schema)).filter(kept)
    for decode in (decode_in_python, decode_natively):
        decoding = decode([value for value in values if value is not None], batch.schema)
        assert decoding.rejected == []
        assert decoding.batch.cast(expected.schema).equals(expected)


@pytest.mark.parametrize("encoder", ENCODERS)
@settings(bounded, max_examples=EXAMPLES or 100)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=200, max_size=200))
def test_floats_are_written_as_orjson_writes_them(encoder: str, numbers: list[float]) -> None:
    values, _ = ENCODERS[encoder](pa.record_batch({"a": pa.array(numbers, pa.float64())}))

    assert values == [orjson.dumps({"a": number}) for number in numbers]


@bounded
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=100))
def test_float32_are_written_alike_and_read_back(numbers: list[float]) -> None:
    batch = pa.record_batch({"a": pa.array(numbers, pa.float32())})

    values, _ = encode_natively(batch)

    assert values == encode_in_python(batch)[0]
    assert decode_natively(values, batch.schema).batch.equals(batch)


def a_map(*entries: tuple[str, Any]) -> pa.Array[Any]:
    return pa.array([list(entries)], pa.map_(pa.string(), pa.float64()))


def bytes_as_string(data: bytes) -> pa.Array[Any]:
    offsets = pa.array([0, len(data)], pa.int32()).buffers()[1]
    return pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(data)])


def counted(number: int, arrow_type: pa.DataType) -> pa.Array[Any]:
    return pa.array([number], pa.int64()).view(arrow_type)


REFUSED = {
    "nan": (pa.array([float("nan")]), "$.a", "not finite, for which JSON has no number"),
    "float32": (
        pa.array([float("-inf")], pa.float32()),
        "$.a",
        "not finite, for which JSON has no number",
    ),
    "year 0": (counted(-62_135_596_801, pa.timestamp("s")), "$.a", "a year beyond 0001 to 9999"),
    "year 10000": (
        counted(253_402_300_800_000, pa.timestamp("ms", "UTC")),
        "$.a",
        "a year beyond 0001 to 9999",
    ),
    "date": (
        pa.array([2_932_897], pa.int32()).view(pa.date32()),
        "$.a",
        "a year beyond 0001 to 9999",
    ),
    "date64": (counted(-(1 << 63), pa.date64()), "$.a", "not a whole day"),
    "date64 far": (
        counted(-(1 << 36) * 86_400_000, pa.date64()),
        "$.a",
        "a year beyond 0001 to 9999",
    ),
    "time": (counted(86_400_000_000, pa.time64("us")), "$.a", "not a time of day"),
    "time32": (
        pa.array([86_400], pa.int32()).view(pa.time32("s")),
        "$.a",
        "not a time of day",
    ),
    "negative time": (counted(-1, pa.time64("ns")), "$.a", "not a time of day"),
    "text": (bytes_as_string(b"ab\xff"), "$.a", "invalid UTF-8"),
    "key twice": (a_map(("x", 1.0), ("x", 2.0)), "$.a", "a key that comes twice"),
    "below a key": (
        a_map(("x", 1.0), ("y z", float("inf"))),
        '$.a["y z"]',
        "not finite, for which JSON has no number",
    ),
    "in a list": (
        pa.array([[{"x": 1.0}, {"x": float("nan")}]]),
        "$.a[1].x",
        "not finite, for which JSON has no number",
    ),
}


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("name", REFUSED)
def test_row_that_json_cannot_hold_is_rejected_and_its_neighbours_are_written(
    encoder: str, name: str
) -> None:
    column, field, reason = REFUSED[name]
    nothing = pa.nulls(1, column.type)
    batch = pa.record_batch({"a": pa.concat_arrays([nothing, column, nothing])})

    values, rejected = ENCODERS[encoder](batch)

    assert rejected == [(1, field, reason)]
    assert values == [b'{"a":null}', None, b'{"a":null}']


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *((text, "malformed JSON") for text in ("", "1,2", '1,"y":2', "1],[2", "NaN", "1e400")),
        ("[" * 127 + "]" * 127, ""),
        ("[" * 128 + "]" * 128, "nested deeper than 128 levels"),
        ("[" * 2000 + "]" * 2000, "nested deeper than 128 levels"),
        ("[" * 2000 + "]" * 1999, "malformed JSON"),
        (' {"a" : [1.50, null]} ', ""),
    ],
    ids=range(11),
)
def test_json_text_is_written_as_it_is_if_it_is_one_text(
    encoder: str, text: str, reason: str
) -> None:
    schema = pa.schema([pa.field("a", pa.string(), metadata=_TEXT)])
    batch = pa.record_batch([pa.array([text])], schema)

    values, rejected = ENCODERS[encoder](batch)

    if reason:
        assert rejected == [(0, "$.a", reason)]
    else:
        assert values == [f'{{"a":{text}}}'.encode()]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_first_column_that_does_not_fit_is_named(encoder: str) -> None:
    batch = pa.record_batch({"a": [1.0], "b": [float("nan")], "c": [float("nan")]})

    _, rejected = ENCODERS[encoder](batch)

    assert [field for _, field, _ in rejected] == ["$.b"]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_json_text_that_is_no_text_is_told_as_such(encoder: str) -> None:
    schema = pa.schema([pa.field("a", pa.string(), metadata=_TEXT)])
    batch = pa.record_batch([bytes_as_string(b'"\xff"')], schema)

    assert ENCODERS[encoder](batch) == ([None], [(0, "$.a", "invalid UTF-8")])


@pytest.mark.parametrize("encoder", ENCODERS)
def test_float32_whose_shortest_decimal_is_read_as_another_one_has_more_digits(
    encoder: str,
) -> None:
    number = pa.array([0x15AE43FD], pa.uint32()).view(pa.float32())
    batch = pa.record_batch({"a": number})

    values, _ = ENCODERS[encoder](batch)

    assert values == [b'{"a":7.038530691851209e-26}']
    assert decode_in_python(values, batch.schema).batch.equals(batch)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_entries_of_a_map_are_found_behind_their_offset(encoder: str) -> None:
    map_type = pa.map_(pa.string(), pa.int64())
    entries = pa.StructArray.from_arrays(
        [pa.array(["a", "b", "c"]), pa.array([1, 2, 3])],
        fields=[map_type.key_field, map_type.item_field],
    )
    offsets = pa.array([0, 2], pa.int32()).buffers()[1]
    from_buffers: Any = pa.Array.from_buffers
    maps = from_buffers(map_type, 1, [None, offsets], children=[entries.slice(1)])

    values, _ = ENCODERS[encoder](pa.record_batch({"a": maps}))

    assert values == [b'{"a":{"b":2,"c":3}}']


@pytest.mark.parametrize("encoder", ENCODERS)
def test_what_lies_below_a_null_is_no_value(encoder: str) -> None:
    below = pa.array([float("nan"), 1.0])
    struct = pa.StructArray.from_arrays([below], ["x"], mask=pa.array([True, False]))
    text = pa.StructArray.from_arrays(
        [pa.array(["secret", "b"])], ["value"], mask=pa.array([True, False])
    ).flatten()[0]

    values, rejected = ENCODERS[encoder](pa.record_batch({"a": struct}))

    assert (values, rejected) == ([b'{"a":null}', b'{"a":{"x":1.0}}'], [])
    assert ENCODERS[encoder](pa.record_batch({"value": text}), StringCodec()) == ([b"", b"b"], [])


@pytest.mark.parametrize("encoder", ENCODERS)
def test_dates_that_do_not_fit_for_different_reasons_are_told_apart(encoder: str) -> None:
    millis = pa.array([1, 86_400_000, -(1 << 36) * 86_400_000, None], pa.int64())
    batch = pa.record_batch({"a": millis.view(pa.date64())})

    values, rejected = ENCODERS[encoder](batch)

    assert values == [None, b'{"a":"1970-01-02"}', None, b'{"a":null}']
    assert [reason for _, _, reason in rejected] == [
        "not a whole day",
        "a year beyond 0001 to 9999",
    ]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_text_codecs_write_a_value_as_it_is(encoder: str) -> None:
    texts = pa.array(["a", "", None, "é"])
    batch = pa.record_batch({"value": texts}).slice(1)

    assert ENCODERS[encoder](batch, StringCodec()) == ([b"", b"", "é".encode()], [])
    data = pa.record_batch({"value": texts.cast(pa.binary())})
    assert ENCODERS[encoder](data, BytesCodec()) == ([b"a", b"", b"", "é".encode()], [])


@pytest.mark.parametrize("encoder", ENCODERS)
def test_string_codec_rejects_what_is_no_text(encoder: str) -> None:
    text = pa.concat_arrays([pa.array(["a"]), bytes_as_string(b"\xff")])

    encoded = ENCODERS[encoder](pa.record_batch({"value": text}), StringCodec())

    assert encoded == ([b"a", None], [(1, "$", "invalid UTF-8")])
