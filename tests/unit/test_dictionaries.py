"""Dictionary columns: from the types that decoders build, and back."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa

from sabot_ray.codecs.dictionaries import encode_batch, plain_schema
from sabot_ray.schema import empty_batch

WORDS = pa.dictionary(pa.int32(), pa.string())
MARKED = pa.field("w", WORDS, metadata={"unit": "m"})
NESTED = pa.schema(
    [
        pa.field("n", pa.int64()),
        pa.field("s", pa.struct([MARKED, pa.field("n", pa.int8())])),
        pa.field("l", pa.list_(MARKED)),
        pa.field("m", pa.map_(pa.field("k", pa.string(), nullable=False), MARKED)),
    ],
)


def test_plain_schema_without_dictionaries_is_the_given_one() -> None:
    schema = pa.schema([("a", pa.list_(pa.struct([("x", pa.int8())])))])

    assert plain_schema(schema) is schema


def test_plain_schema_has_value_types_at_any_depth_and_keeps_names_and_metadata() -> None:
    inner = MARKED.with_type(pa.string())

    expected = pa.schema(
        [
            pa.field("n", pa.int64()),
            pa.field("s", pa.struct([inner, pa.field("n", pa.int8())])),
            pa.field("l", pa.list_(inner)),
            pa.field("m", pa.map_(pa.field("k", pa.string(), nullable=False), inner)),
        ]
    )
    assert plain_schema(NESTED).equals(expected, check_metadata=True)


def test_encode_batch_of_nested_dictionaries_keeps_values_and_nulls() -> None:
    rows = [
        {"n": 1, "s": {"w": "a", "n": 2}, "l": ["x", None, "x"], "m": [("k", "v"), ("l", None)]},
        {},
        {"n": 2, "s": {"w": None, "n": None}, "l": [], "m": []},
        {"n": 3, "s": {"w": "a", "n": 3}, "l": ["y"], "m": [("k", "v")]},
    ]

    batch = encode_batch(pa.RecordBatch.from_pylist(rows, plain_schema(NESTED)), NESTED)

    batch.validate(full=True)
    assert batch.schema.equals(NESTED, check_metadata=True)
    assert batch.equals(pa.RecordBatch.from_pylist(rows, NESTED))
    assert batch.column("l").values.dictionary.to_pylist() == ["x", "y"]


def test_encode_batch_gives_the_declared_indices() -> None:
    schema = pa.schema([("d", pa.dictionary(pa.uint64(), pa.decimal128(5, 2)))])
    values = [Decimal("1.50"), None, Decimal("1.50"), Decimal("2.00")]
    plain = pa.RecordBatch.from_arrays([pa.array(values, pa.decimal128(5, 2))], names=["d"])

    batch = encode_batch(plain, schema)

    assert batch.schema == schema
    assert batch.column("d").indices == pa.array([0, None, 0, 1], pa.uint64())
    assert batch.to_pydict() == {"d": values}


def test_empty_batch_of_any_dictionary_has_the_schema() -> None:
    schema = pa.schema([("d", pa.dictionary(pa.int32(), pa.date32())), *NESTED])

    batch = empty_batch(schema)

    batch.validate(full=True)
    assert (batch.num_rows, batch.schema) == (0, schema)
