"""The JSON decoders against each other, on schemas and documents that are made up."""

from __future__ import annotations

from random import Random
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import assume, given

from sabot_ray.codecs import json as json_codec
from sabot_ray.codecs.inference import infer_schema
from sabot_ray.codecs.json import JsonCodec
from sabot_ray.errors import ConfigError
from sabot_ray.schema import check_value_schema
from tests.contract.json_decoding import (
    DECODERS,
    Decode,
    Decoding,
    decode_in_python,
    decode_natively,
)
from tests.contract.json_documents import DocumentWriter
from tests.contract.random_documents import bounded, writers


def same(one: Decoding, other: Decoding) -> bool:
    one.batch.validate(full=True)
    other.batch.validate(full=True)
    return (
        one.rejected == other.rejected
        and one.unknown_fields == other.unknown_fields
        and one.batch.schema.equals(other.batch.schema, check_metadata=True)
        and one.batch.equals(other.batch)
    )


def assert_same_decoding(one: Decode, other: Decode, writer: DocumentWriter) -> None:
    schema = check_value_schema(writer.schema())
    values = writer.values(schema)
    unknown_fields: Any = writer.choice(["ignore", "rescue", "evolve", "fail"])
    arguments: dict[str, Any] = {
        "schema": schema,
        "columns": writer.subset(JsonCodec(schema, unknown_fields).columns.names),
        "unknown_fields": unknown_fields,
        "on_decode_error": writer.subset(["skip", "fail"])[0],
    }
    if not same(one(values, **arguments), other(values, **arguments)):
        # Alone, the offender is easier to understand.
        for value in values:
            alone = one([value], **arguments), other([value], **arguments)
            assert same(*alone), f"{value!r} under {arguments}: {alone}"
        pytest.fail(f"differs in a list only: {values} under {arguments}")


@bounded
@given(writers)
def test_decoders_given_the_same_values_give_the_same_rows_and_errors(
    writer: DocumentWriter,
) -> None:
    assert_same_decoding(decode_in_python, decode_natively, writer)


@bounded
@given(writers)
def test_python_decoder_by_columns_and_by_tokens_gives_the_same(writer: DocumentWriter) -> None:
    def by_tokens(*args: Any, **kwargs: Any) -> Decoding:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_codec._Reader, "array", refuse)
            return decode_in_python(*args, **kwargs)

    def refuse(*_: object) -> None:
        raise json_codec._Irregular

    assert_same_decoding(decode_in_python, by_tokens, writer)


@pytest.mark.parametrize("decoder", DECODERS)
@bounded
@given(writers)
def test_decoder_at_any_depth_tells_malformed_from_deep(
    decoder: str, writer: DocumentWriter
) -> None:
    value = writer.mutated(writer.any_json(depth=1).encode())
    # orjson reads 1024 levels, which is what the shallow one is checked by.
    assume(value.count(b"[") < 200)
    shallow, deep = (
        b'{"a":' + b"[" * levels + value + b"]" * levels + b"}" for levels in (800, 1100)
    )
    try:
        orjson.loads(shallow)
        reason = "nested deeper than 128 levels"
    except orjson.JSONDecodeError:
        reason = "malformed JSON"

    decoding = DECODERS[decoder]([shallow, deep], pa.schema([("b", pa.int64())]))

    assert decoding.rejected == [(0, "$", reason), (1, "$", reason)]


@bounded
@given(writers)
def test_inferred_schema_lets_every_valid_value_of_the_sample_decode(
    writer: DocumentWriter,
) -> None:
    values = writer.values(writer.schema())
    try:
        schema = infer_schema(values)
    except ConfigError:
        return
    assert check_value_schema(schema) == schema

    decoding = decode_in_python(values, schema)

    # Of what decodes at all, only integers that no type can hold together are refused.
    reasons = {reason for _, field, reason in decoding.rejected if field != "$"}
    assert reasons <= {"out of range for int64", "out of range for uint64"}
    # No column can have such a name.
    assert all("\\u0000" in path for path in decoding.unknown_fields)


def test_document_writer_makes_rows_and_every_kind_of_error() -> None:
    writer = DocumentWriter(Random(1))
    rows = 0
    reasons = set()
    for _ in range(400):
        schema = writer.schema()
        values = writer.values(schema)
        decoding = decode_in_python(values, schema)
        rows += decoding.batch.num_rows
        reasons |= {reason.split(" for ")[0] for _, _, reason in decoding.rejected}

    assert rows > 2000
    assert reasons >= {
        "malformed JSON",
        "nested deeper than 128 levels",
        "expected an object, found an array",
        "expected a string, found a number",
        "expected an integer, found a number with a fraction or an exponent",
        "out of range",
        "not canonical base64",
        "not an RFC 3339 timestamp",
        "not a timestamp without an offset",
        "finer than timestamp[s]",
        "finer than time32[ms]",
        "finer than decimal128(10, 2)",
        "expected a number or a string, found a boolean",
        "not a date YYYY-MM-DD",
        "not a time hh:mm:ss[.fraction]",
        "not a decimal number",
    }
