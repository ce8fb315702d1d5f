"""Inferring a schema from sampled JSON values."""

from __future__ import annotations

import pyarrow as pa
import pytest

from sabot_ray.codecs.inference import infer_new_fields, infer_schema
from sabot_ray.errors import ConfigError
from sabot_ray.schema import JSON_TEXT_METADATA


def text(name: str) -> pa.Field:
    return pa.field(name, pa.string(), metadata=JSON_TEXT_METADATA)


def column(name: str, arrow_type: pa.DataType) -> pa.Field:
    return pa.field(name, arrow_type)


STRINGS = pa.list_(pa.string())


@pytest.mark.parametrize(
    ("samples", "field"),
    [
        (["1", "-2", "0"], column("a", pa.int64())),
        (["9223372036854775807", "-9223372036854775808"], column("a", pa.int64())),
        (["1", "9223372036854775808"], column("a", pa.uint64())),
        (["18446744073709551615", "-0"], column("a", pa.uint64())),
        (["18446744073709551615", "-1"], column("a", pa.int64())),
        (["18446744073709551616"], column("a", pa.int64())),
        (["9223372036854775808", "18446744073709551616"], column("a", pa.int64())),
        (["-9223372036854775809"], column("a", pa.int64())),
        (["1.0"], column("a", pa.float64())),
        (["1e2"], column("a", pa.float64())),
        (["1", "1.5", "2"], column("a", pa.float64())),
        (["18446744073709551616", "0.5"], column("a", pa.float64())),
        (['"x"', '"2024-01-01T00:00:00Z"'], column("a", pa.string())),
        (["true", "false"], column("a", pa.bool_())),
        (["null"], column("a", pa.string())),
        (["null", "1", "null"], column("a", pa.int64())),
        (["1", '"x"'], text("a")),
        (["1", "null", "true"], text("a")),
        (["1.5", "[]"], text("a")),
        (["{}", "[]"], text("a")),
        (['{"b":1}', "1"], text("a")),
        (["{}"], text("a")),
        (["{}", "null", "{}"], text("a")),
        (['{"b":1}', "{}"], column("a", pa.struct([("b", pa.int64())]))),
        (['{"b":{}}'], column("a", pa.struct([text("b")]))),
        (
            ['{"b":null}', '{"b":{"c":null}}'],
            column("a", pa.struct([("b", pa.struct([("c", pa.string())]))])),
        ),
        (
            ['{"c":1}', '{"b":true,"c":2.5}'],
            column("a", pa.struct([("c", pa.float64()), ("b", pa.bool_())])),
        ),
        (["[]"], column("a", STRINGS)),
        (["[null]"], column("a", STRINGS)),
        (["[]", "[1]", "[2.5]"], column("a", pa.list_(pa.float64()))),
        (["[1,null]", "null"], column("a", pa.list_(pa.int64()))),
        (['[1,"x"]'], column("a", pa.list_(text("item")))),
        (["[1]", '["x"]'], column("a", pa.list_(text("item")))),
        (["[{}]"], column("a", pa.list_(text("item")))),
        (["[[]]"], column("a", pa.list_(STRINGS))),
        (
            ['[{"c":1},{"b":"x"}]'],
            column("a", pa.list_(pa.struct([("c", pa.int64()), ("b", pa.string())]))),
        ),
    ],
)
def test_infer_schema_of_values_of_a_field_gives_its_column(
    samples: list[str], field: pa.Field
) -> None:
    schema = infer_schema(f'{{"a":{sample}}}'.encode() for sample in samples)

    assert schema.equals(pa.schema([field]), check_metadata=True)


def test_infer_schema_orders_columns_by_first_appearance() -> None:
    samples = [b'{"c":1,"a":{"z":1}}', b'{"b":1,"a":{"y":1,"z":2},"c":2}', b'{"a":{"x":1}}']

    schema = infer_schema(samples)

    inner = pa.struct([("z", pa.int64()), ("y", pa.int64()), ("x", pa.int64())])
    assert schema == pa.schema([("c", pa.int64()), ("a", inner), ("b", pa.int64())])


def test_infer_schema_of_duplicates_looks_at_the_last_in_the_place_of_the_first() -> None:
    schema = infer_schema([b'{"a":"x","b":1,"a":2.5}'])

    assert schema == pa.schema([("a", pa.float64()), ("b", pa.int64())])


def test_infer_schema_of_escaped_keys_unescapes_them() -> None:
    schema = infer_schema([b'{"\\u0061":1}', '{"é\\n":1}'.encode()])

    assert schema.names == ["a", "é\n"]


def test_infer_schema_does_not_count_what_does_not_decode() -> None:
    deep = b'{"d":' + b"[" * 128 + b"]" * 128 + b"}"
    samples = [None, b'{"a":"x"', b"", b"[1]", deep, b'{"b":1}', b'{"c":1e400}', None]

    assert infer_schema(samples) == pa.schema([("b", pa.int64())])


def test_infer_schema_leaves_out_names_that_no_column_can_have() -> None:
    samples = [b'{"_kafka_offset":1,"a":{"_kafka_key":"k","\\u0000":1},"b\\u0000":1}']

    assert infer_schema(samples) == pa.schema([("a", pa.struct([("_kafka_key", pa.string())]))])


def test_infer_schema_leaves_out_the_names_that_it_is_told() -> None:
    samples = [b'{"_rescued":1,"a":{"_rescued":1}}']

    schema = infer_schema(samples, without={"_rescued"})

    assert schema == pa.schema([("a", pa.struct([("_rescued", pa.int64())]))])


@pytest.mark.parametrize(
    ("samples", "why"),
    [
        ([], "there is no record to sample"),
        ([None], "none of 1 sampled records is a JSON object"),
        ([None, b"", b"[]"], "none of 3 sampled records is a JSON object"),
        ([b"x", b"{}", b"{}"], "none of 2 sampled JSON objects has a field that can be a column"),
        ([b'{"_kafka_a":1}'], "none of 1 sampled JSON objects has a field that can be a column"),
    ],
)
def test_infer_schema_without_any_field_is_refused(samples: list[bytes | None], why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        infer_schema(samples)

    assert str(refused.value) == f"no schema can be inferred: {why}; declare schema="


def test_infer_new_fields_gives_those_that_the_schema_lacks_in_their_order() -> None:
    samples = [b'{"c":1,"a":"x","_kafka_x":1}', None, b"[", b'{"b":{"d":1},"c":1.5}', b'{"c":null}']

    found = infer_new_fields(samples, pa.schema([("a", pa.int64())]))

    assert found == [column("c", pa.float64()), column("b", pa.struct([("d", pa.int64())]))]
    assert infer_new_fields([b'{"a":1}'], pa.schema([("a", pa.int64())])) == []
