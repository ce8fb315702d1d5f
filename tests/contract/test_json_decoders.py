"""Both JSON decoders, held against `docs/json.md`."""

from __future__ import annotations

import math
from collections import Counter
from typing import Literal

import pyarrow as pa
import pytest

from tests.contract.hostile_json import DOCUMENTS, SCHEMA, HostileDocument
from tests.contract.json_decoding import DECODERS, Decode

GOOD = b'{"i64":7,"s":"good","l":[1,2],"o":{"x":3}}'
GOOD_ROW = {"i64": 7, "s": "good", "l": [1, 2], "o": {"x": 3}}


@pytest.fixture(params=DECODERS)
def decode(request: pytest.FixtureRequest) -> Decode:
    """A decoder; the test runs once with each."""
    return DECODERS[request.param]


def batch_of(*rows: dict[str, object], schema: pa.Schema = SCHEMA) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), schema=schema)


def assert_batch(batch: pa.RecordBatch, expected: pa.RecordBatch) -> None:
    batch.validate(full=True)
    assert batch.schema.equals(expected.schema, check_metadata=True)
    assert batch.equals(expected), f"{batch.to_pylist()} != {expected.to_pylist()}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_decode_hostile_document_gives_its_verdict(
    decode: Decode, document: HostileDocument
) -> None:
    decoding = decode([document.value], SCHEMA)

    rows = [] if document.row is None else [document.row]
    errors = [(0, document.field, document.reason)] if document.row is None else []
    assert decoding.rejected == errors
    assert decoding.unknown_fields == Counter(document.unknown)
    assert_batch(decoding.batch, batch_of(*rows))


def test_decode_all_hostile_documents_together_leaves_their_neighbours_intact(
    decode: Decode,
) -> None:
    values = [value for document in DOCUMENTS for value in (document.value, GOOD, None)]

    decoding = decode(values, SCHEMA)

    rows = [
        row
        for document in DOCUMENTS
        for row in ([] if document.row is None else [document.row]) + [GOOD_ROW, {}]
    ]
    assert decoding.rejected == [
        (3 * index, document.field, document.reason)
        for index, document in enumerate(DOCUMENTS)
        if document.row is None
    ]
    assert decoding.unknown_fields == Counter(
        path for document in DOCUMENTS for path in document.unknown
    )
    assert_batch(decoding.batch, batch_of(*rows))


@pytest.mark.parametrize("good_rows", [0, 1, 3000])
def test_decode_failing_policy_stops_before_the_first_bad_value(
    decode: Decode, good_rows: int
) -> None:
    values = [GOOD] * good_rows + [b'{"zz":1,"u8":-1}', b'{"zz":1}', b"["]

    decoding = decode(values, SCHEMA, on_decode_error="fail")

    assert decoding.rejected == [(good_rows, "$.u8", "out of range for uint8")]
    assert decoding.unknown_fields == {}
    assert_batch(decoding.batch, batch_of(*[GOOD_ROW] * good_rows))


def test_decode_skipping_policy_drops_bad_values_of_a_long_list(decode: Decode) -> None:
    bad = {5, 6, 1023, 1024, 2500, 4999}
    values = [b'{"i64":1.5}' if i in bad else b'{"i64":%d}' % i for i in range(5000)]

    decoding = decode(values, SCHEMA, ["i64"])

    reason = "expected an integer, found a number with a fraction or an exponent"
    assert decoding.rejected == [(i, "$.i64", reason) for i in sorted(bad)]
    schema = pa.schema([("i64", pa.int64())])
    rows = [{"i64": i} for i in range(5000) if i not in bad]
    assert_batch(decoding.batch, batch_of(*rows, schema=schema))


def test_decode_nothing_gives_an_empty_batch(decode: Decode) -> None:
    decoding = decode([], SCHEMA)

    assert (decoding.rejected, decoding.unknown_fields) == ([], {})
    assert_batch(decoding.batch, batch_of())


def test_decode_tombstone_gives_a_row_of_nulls(decode: Decode) -> None:
    decoding = decode([None, GOOD, None], SCHEMA)

    assert decoding.rejected == []
    assert_batch(decoding.batch, batch_of({}, GOOD_ROW, {}))


def test_decode_projection_builds_the_columns_in_their_order(decode: Decode) -> None:
    columns = ["o", "i64"]

    decoding = decode([GOOD, b'{"s":"x"}'], SCHEMA, columns)

    schema = pa.schema([SCHEMA.field("o"), SCHEMA.field("i64")])
    rows = {"o": {"x": 3}, "i64": 7}, {}
    assert decoding.unknown_fields == {}
    assert_batch(decoding.batch, batch_of(*rows, schema=schema))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_decode_projection_validates_the_whole_document_but_checks_no_other_column(
    decode: Decode, document: HostileDocument
) -> None:
    decoding = decode([document.value], SCHEMA, ["i16"])

    refused = document.field in ("$", "$.i16")
    errors = [(0, document.field, document.reason)] if refused else []
    assert decoding.rejected == errors
    if not refused:
        row = {"i16": (document.row or {}).get("i16")}
        schema = pa.schema([SCHEMA.field("i16")])
        assert_batch(decoding.batch, batch_of(row, schema=schema))
        top_level = Counter(path for path in document.unknown if "[]" not in path)
        assert decoding.unknown_fields == {
            path: count for path, count in top_level.items() if not path.startswith("$.o.")
        }


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (b'{"zz":1}', "$.zz"),
        (b'{"i64":1,"z z":{"y":"x"},"zz":2}', '$["z z"]'),
        (b'{"zz":1,"i64":"x","zz":2}', "$.zz"),
        (b'{"o":{"x":1,"q":null}}', "$.o.q"),
        (b'{"o":{"in":{"q":1}}}', "$.o.in.q"),
        (b'{"lo":[{"k":"a"},{"q":1}]}', "$.lo[1].q"),
        (b'{"mo":{"a b":{"x":1,"q":2}}}', '$.mo["a b"].q'),
        ('{"größer":1}'.encode(), '$["größer"]'),
    ],
)
def test_decode_unknown_field_with_fail_is_an_error_at_its_path(
    decode: Decode, value: bytes, field: str
) -> None:
    decoding = decode([GOOD, value, GOOD], SCHEMA, unknown_fields="fail")

    assert decoding.rejected == [(1, field, "unknown field")]
    assert decoding.unknown_fields == {}
    assert_batch(decoding.batch, batch_of(GOOD_ROW, GOOD_ROW))


@pytest.mark.parametrize(
    ("value", "field", "reason"),
    [
        (b'{"i64":"x","zz":1}', "$.i64", "expected an integer, found a string"),
        (b'{"zz":1,"s":tru}', "$", "malformed JSON"),
        (b'{"zz":' + b"[" * 200 + b"]" * 200 + b"}", "$", "nested deeper than 128 levels"),
    ],
)
def test_decode_unknown_field_with_fail_after_another_offence_names_that(
    decode: Decode, value: bytes, field: str, reason: str
) -> None:
    decoding = decode([value], SCHEMA, unknown_fields="fail")

    assert decoding.rejected == [(0, field, reason)]


@pytest.mark.parametrize(
    "value", [b'{"j":{"zz":1}}', b'{"o":{"q":1},"o":{"x":1}}', b'{"lj":[{"zz":1}]}', b"{}"]
)
def test_decode_with_fail_accepts_what_no_schema_speaks_of(decode: Decode, value: bytes) -> None:
    decoding = decode([value, None], SCHEMA, unknown_fields="fail")

    assert decoding.rejected == []
    assert decoding.batch.num_rows == 2


def test_decode_unknown_field_in_a_column_that_is_not_built_passes(decode: Decode) -> None:
    values = [b'{"o":{"q":1},"i64":1}', b'{"lo":[{"q":1}],"i64":2}']

    decoding = decode(values, SCHEMA, ["i64"], unknown_fields="fail")

    assert (decoding.rejected, decoding.unknown_fields) == ([], {})
    assert decoding.batch.column("i64").to_pylist() == [1, 2]


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (b'{"zz":1}', "$.zz"),
        (b'{"o":{"q":1},"z z":{"y":"x"},"zz":2}', '$["z z"]'),
        (b'{"_kafka_zz":1,"a\\u0000":1,"zz":1,"i64":"x"}', "$.zz"),
        (b'{"%s":1}' % (b"n" * 300), f"$.{'n' * 300}"),
    ],
)
@pytest.mark.parametrize("on_decode_error", ["fail", "skip"])
def test_decode_evolving_ends_before_a_field_that_can_be_a_column(
    decode: Decode, value: bytes, field: str, on_decode_error: Literal["fail", "skip"]
) -> None:
    decoding = decode(
        [GOOD, value, GOOD], SCHEMA, unknown_fields="evolve", on_decode_error=on_decode_error
    )

    assert decoding.rejected == [(1, field, "unknown field")]
    assert decoding.unknown_fields == {}
    assert_batch(decoding.batch, batch_of(GOOD_ROW))


def test_decode_evolving_counts_fields_that_can_be_no_column(decode: Decode) -> None:
    values = [b'{"i64":7,"o":{"x":3,"q":1},"_kafka_zz":1,"a\\u0000":{"b":1}}', b'{"i64":"x"}']

    decoding = decode(values, SCHEMA, unknown_fields="evolve")

    assert [index for index, *_ in decoding.rejected] == [1]
    assert decoding.unknown_fields == {"$.o.q": 1, "$._kafka_zz": 1, '$["a\\u0000"]': 1}
    assert_batch(decoding.batch, batch_of({"i64": 7, "o": {"x": 3}}))


def test_decode_evolving_and_skipping_drops_bad_values_before_the_new_field(
    decode: Decode,
) -> None:
    values = [GOOD] * 2000 + [b'{"i64":"x"}'] + [GOOD] * 2000 + [b'{"zz":1}', b"["]

    decoding = decode(values, SCHEMA, unknown_fields="evolve")

    assert [index for index, *_ in decoding.rejected] == [2000, 4001]
    assert_batch(decoding.batch, batch_of(*[GOOD_ROW] * 4000))


def test_decode_rejected_value_counts_no_unknown_fields(decode: Decode) -> None:
    values = [b'{"zz":1}', b'{"zz":1,"i64":"x"}', b'{"o":{"q":1,"x":1.5}}', b'{"zz":2}']

    decoding = decode(values, SCHEMA)

    assert decoding.unknown_fields == {"$.zz": 2}
    assert [index for index, _, _ in decoding.rejected] == [1, 2]


def test_decode_many_unknown_names_counts_each(decode: Decode) -> None:
    values = [b'{"zz":1,"n%d":{"q":1},"o":{"u%d":1}}' % (i, i % 10) for i in range(2000)]

    decoding = decode(values, SCHEMA)

    names = {f"$.n{i}": 1 for i in range(2000)} | {f"$.o.u{i}": 200 for i in range(10)}
    assert decoding.unknown_fields == {"$.zz": 2000, **names}
    assert decoding.rejected == []


@pytest.mark.parametrize(
    ("token", "sign"), [(b"-0", 1), (b"-0.0", -1), (b"-0e5", -1), (b"-1e-400", -1), (b"0", 1)]
)
@pytest.mark.parametrize("column", ["f32", "f64"])
def test_decode_zero_has_the_sign_of_its_token(
    decode: Decode, token: bytes, sign: int, column: str
) -> None:
    # A JSON text column makes the Python decoder read by tokens.
    for columns in ([column], [column, "j"]):
        batch = decode([b'{"j":1,"%s":%s}' % (column.encode(), token)], SCHEMA, columns).batch

        assert math.copysign(1, batch.column(column)[0].as_py()) == sign


def test_decode_float32_rounds_the_nearest_double(decode: Decode) -> None:
    # Directly to float32 it would be 1.0000001; the nearest double is half way, and rounds to even.
    batch = decode([b'{"f32":1.00000005960464477539063}'], SCHEMA, ["f32"]).batch

    assert batch.column("f32").to_pylist() == [1.0]


def test_decode_keeps_the_names_and_metadata_of_inner_fields(decode: Decode) -> None:
    mark = {b"sabot_ray:json": b"text"}
    item = pa.field("element", pa.string(), metadata={b"unit": b"m", **mark})
    entry = pa.field("v", pa.struct([pa.field("x", pa.int8(), metadata={b"a": b"b"})]))
    schema = pa.schema(
        [
            pa.field("l", pa.list_(item), metadata={b"c": b"d"}),
            pa.field("m", pa.map_(pa.field("k", pa.string(), nullable=False), entry)),
        ]
    )

    for value in (b'{"l":[1.0],"m":{"a":{"x":1}}}', b'{"l":[null],"m":{"a":{"x":1}}}'):
        batch = decode([value], schema).batch

        assert batch.schema.equals(schema, check_metadata=True)
        batch.validate(full=True)


RESCUED = [
    (b'{"zz":1}', '{"$.zz":1}'),
    (b'{"i64":1}', None),
    (b"{}", None),
    (
        b'{"zz":null,"z z":[ 1.50 , "a \\u00e9" ,{ }]}',
        '{"$.zz":null,"$[\\"z z\\"]":[1.50,"a \\u00e9",{}]}',
    ),
    (b'{"zz":{"y":{"x":1}},"i64":1,"yy":-0}', '{"$.zz":{"y":{"x":1}},"$.yy":-0}'),
    (b'{"zz":1,"yy":2,"zz":{"a":1,"a":2}}', '{"$.zz":{"a":1,"a":2},"$.yy":2}'),
    (rb'{"\u007az":1}', '{"$.zz":1}'),
    (rb'{"a\n\u001F\"\\":1}', r'{"$[\"a\\n\\u001f\\\"\\\\\"]":1}'),
    ('{"größer":"ü","":true}'.encode(), '{"$[\\"größer\\"]":"ü"}'),
    (b'{"o":{"q":1,"in":{"y":true,"r":[]}},"p":0}', '{"$.o.q":1,"$.o.in.r":[],"$.p":0}'),
    (b'{"lo":[{"k":"a"},null,{"q":1,"v":2.5,"r":2}]}', '{"$.lo[2].q":1,"$.lo[2].r":2}'),
    (b'{"mo":{"a b":{"x":1,"q":2},"c":{"q":3}}}', '{"$.mo[\\"a b\\"].q":2,"$.mo.c.q":3}'),
    (b'{"mo":{"a":{"q":1},"b":{},"a":{"r":1}}}', '{"$.mo.a.r":1}'),
    (b'{"o":{"q":1},"o":{"x":1}}', None),
    (b'{"' + b"k" * 300 + b'":1}', '{"$.' + "k" * 300 + '":1}'),
    (b'{"j":{"zz":1},"lj":[{"zz":1}],"m":{"zz":1}}', None),
]


def rescued_batch(texts: list[str | None]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"_rescued": pa.array(texts, pa.string())})


@pytest.mark.parametrize(("value", "text"), RESCUED)
def test_decode_rescuing_keeps_unknown_fields_as_json_text(
    decode: Decode, value: bytes, text: str | None
) -> None:
    decoding = decode([value], SCHEMA, unknown_fields="rescue")

    assert (decoding.rejected, decoding.unknown_fields) == ([], {})
    assert decoding.batch.schema.equals(SCHEMA.append(pa.field("_rescued", pa.string())))
    assert decoding.batch.column("_rescued").to_pylist() == [text]
    without = decode([value], SCHEMA, SCHEMA.names, unknown_fields="rescue")
    assert decoding.batch.select(SCHEMA.names).equals(without.batch)


@pytest.mark.parametrize("columns", [["_rescued"], ["_rescued", "i64"], ["o", "_rescued", "m"]])
def test_decode_rescuing_gives_the_same_whatever_else_is_built(
    decode: Decode, columns: list[str]
) -> None:
    values = [value for value, _ in RESCUED] * 20 + [None]

    decoding = decode(values, SCHEMA, columns, unknown_fields="rescue")

    assert decoding.batch.schema.names == columns
    texts = [text for _, text in RESCUED] * 20 + [None]
    assert_batch(decoding.batch.select(["_rescued"]), rescued_batch(texts))


def test_decode_rescuing_looks_past_what_is_of_another_kind_and_not_built(decode: Decode) -> None:
    value = b'{"o":[{"q":1}],"lo":{"q":1},"mo":["q"],"i64":{"q":1},"zz":1}'

    decoding = decode([value], SCHEMA, ["_rescued"], unknown_fields="rescue")

    assert_batch(decoding.batch, rescued_batch(['{"$.zz":1}']))


def test_decode_rescuing_without_the_column_counts_unknown_fields(decode: Decode) -> None:
    decoding = decode([b'{"zz":1,"o":{"q":1}}'], SCHEMA, SCHEMA.names, unknown_fields="rescue")

    assert decoding.unknown_fields == {"$.zz": 1, "$.o.q": 1}


def test_decode_rescuing_leaves_out_what_does_not_decode(decode: Decode) -> None:
    values = [b'{"zz":1}', b'{"zz":1,"i64":"x"}', b'{"zz":', b'{"o":{"q":1}}', None, b"{}"] * 40

    decoding = decode(values, SCHEMA, ["i64", "_rescued"], unknown_fields="rescue")

    assert len(decoding.rejected) == 80
    texts = ['{"$.zz":1}', '{"$.o.q":1}', None, None] * 40
    assert_batch(decoding.batch.select(["_rescued"]), rescued_batch(texts))


def test_decode_rescuing_of_many_unknown_names_keeps_each(decode: Decode) -> None:
    values = [b'{"n%d":1}' % number for number in range(12_000)]

    decoding = decode(values, SCHEMA, ["_rescued"], unknown_fields="rescue")

    texts: list[str | None] = [f'{{"$.n{number}":1}}' for number in range(12_000)]
    assert_batch(decoding.batch, rescued_batch(texts))
