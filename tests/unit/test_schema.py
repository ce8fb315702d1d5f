"""The checks of value schemas and of column names."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest

from sabot_ray.errors import ConfigError
from sabot_ray.schema import (
    JSON_TEXT_METADATA,
    METADATA_FIELDS,
    batch_schema,
    check_columns,
    check_value_schema,
    differences,
    is_json_text,
    path_step,
    unknown_column,
)
from tests.contract.hostile_json import SCHEMA

AVAILABLE = (
    "available are bool, int8 to int64, uint8 to uint64, float32, float64, decimal128, "
    "decimal256, string, binary, timestamp, date32, date64, time32, time64, duration, "
    "dictionaries of these, struct, list, map<string, T>"
)


def test_check_value_schema_of_every_available_type_returns_it() -> None:
    assert check_value_schema(SCHEMA).equals(SCHEMA, check_metadata=True)


def test_check_value_schema_takes_the_names_that_pyarrow_takes() -> None:
    checked = check_value_schema({"a": "str", "b": "float", "c": "Int64"})

    assert checked == pa.schema([("a", pa.string()), ("b", pa.float32()), ("c", pa.int64())])


def test_check_value_schema_keeps_metadata_of_fields_only() -> None:
    field = pa.field("a", pa.string(), metadata={"unit": "m", **JSON_TEXT_METADATA})

    checked = check_value_schema(pa.schema([field], metadata={"pandas": "{}"}))

    assert checked.equals(pa.schema([field]), check_metadata=True)
    assert is_json_text(checked.field("a"))


def test_check_value_schema_of_a_mapping_takes_types_and_their_names() -> None:
    checked = check_value_schema(
        {
            "a": "int64",
            "b": pa.list_(pa.string()),
            "c": "double",
            "d": "timestamp[us, UTC]",
            "e": "timestamp[ms, tz=Europe/Berlin]",
            "f": "timestamp[ns]",
            "g": "string",
            "h": "date32",
            "i": "time64[ns]",
            "j": "duration[ms]",
            "k": "decimal128(10, 2)",
            "l": "decimal256(76,-3)",
        }
    )

    assert checked == pa.schema(
        [
            ("a", pa.int64()),
            ("b", pa.list_(pa.string())),
            ("c", pa.float64()),
            ("d", pa.timestamp("us", "UTC")),
            ("e", pa.timestamp("ms", "Europe/Berlin")),
            ("f", pa.timestamp("ns")),
            ("g", pa.string()),
            ("h", pa.date32()),
            ("i", pa.time64("ns")),
            ("j", pa.duration("ms")),
            ("k", pa.decimal128(10, 2)),
            ("l", pa.decimal256(76, -3)),
        ]
    )


def _map(key: pa.DataType = pa.string(), item: Any = pa.int64(), **options: Any) -> pa.DataType:  # noqa: B008
    return pa.map_(key, item, **options)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (
            [("a", pa.int64())],
            "schema: expected a pyarrow.Schema or a mapping of names to types, found list",
        ),
        (None, "schema: expected a pyarrow.Schema or a mapping of names to types, found NoneType"),
        ({}, "schema: it has no column; name at least one field of the values"),
        (pa.schema([]), "schema: it has no column; name at least one field of the values"),
        ({1: "int64"}, "schema: expected column names, found int"),
        ({"a": 5}, "schema: field $.a: expected a pyarrow type or its name, found int"),
        *(
            (
                {"a": given},
                "schema: field $.a: expected a pyarrow type or its name, found the class "
                f"{given.__name__}; {hint}",
            )
            for given, hint in (
                (int, "use 'int64'"),
                (float, "use 'float64'"),
                (str, "use 'string'"),
                (bool, "use 'bool'"),
                (datetime, "use 'timestamp[us, UTC]'"),
                (list, "pass a pyarrow type, for example pa.list_(pa.string())"),
            )
        ),
        *(
            ({"a": given}, f"schema: field $.a: '{given}' is not the name of a type; {hint}")
            for given, hint in (
                ("int", "use 'int64'"),
                ("Integer", "use 'int64'"),
                ("text", "use 'string'"),
                ("datetime", "use 'timestamp[us, UTC]'"),
                ("intt64", "did you mean 'int64'?"),
                ("list<string>", "pass a pyarrow type, for example pa.list_(pa.string())"),
            )
        ),
        (
            {"a b": "strng"},
            "schema: field $[\"a b\"]: 'strng' is not the name of a type; did you mean 'string'?",
        ),
        (
            {"a": "struct<x: int64>"},
            "schema: field $.a: 'struct<x: int64>' is not the name of a type; "
            "pass a pyarrow type, for example pa.list_(pa.string())",
        ),
        (
            {"_kafka_offset": "int64"},
            "schema: field $._kafka_offset: names beginning with '_kafka_' are reserved; "
            "pass metadata= for the metadata columns",
        ),
        (
            {"a\0b": "int64"},
            'schema: field $["a\\u0000b"]: a name cannot hold a NUL character',
        ),
        (
            pa.schema([("a", pa.int64()), ("b", pa.int64()), ("a", pa.string())]),
            "schema: field $.a is declared more than once",
        ),
        (
            {"a": pa.list_(pa.struct([("x", pa.int8()), ("x", pa.int8())]))},
            "schema: field $.a[].x is declared more than once",
        ),
        ({"a": pa.struct([])}, "schema: field $.a: a struct needs at least one field"),
        (
            pa.schema([pa.field("a", pa.int64(), nullable=False)]),
            "schema: field $.a is declared not nullable, but a record may lack any field; "
            "declare it nullable",
        ),
        (
            {"a": pa.list_(pa.field("item", pa.int64(), nullable=False))},
            "schema: field $.a[] is declared not nullable, but a record may lack any field; "
            "declare it nullable",
        ),
        (
            {"a": _map(item=pa.field("value", pa.int64(), nullable=False))},
            "schema: field $.a[] is declared not nullable, but a record may lack any field; "
            "declare it nullable",
        ),
        (
            {"a": _map(key=pa.int64())},
            "schema: field $.a: keys of type int64 cannot come from JSON; declare map<string, T>",
        ),
        (
            {"a": _map(keys_sorted=True)},
            "schema: field $.a: entries keep the order of the document; "
            "declare the map without keys_sorted",
        ),
        (
            {"a": "decimal128(39, 2)"},
            "schema: field $.a: 'decimal128(39, 2)' is not the name of a type; "
            "did you mean 'decimal128(10, 2)'?",
        ),
        (
            {"a": pa.decimal256(3, 5)},
            "schema: field $.a: the scale of decimal256(3, 5) is beyond its precision; "
            "declare more digits",
        ),
        (
            {"a": pa.list_(pa.dictionary(pa.int8(), pa.string()))},
            "schema: field $.a[]: a batch may hold more different values than int8 can count; "
            "declare the dictionary with int32 indices",
        ),
        (
            {"a": pa.dictionary(pa.int32(), pa.string(), ordered=True)},
            "schema: field $.a: the values of a dictionary come in the order of the records; "
            "declare it without ordered",
        ),
        (
            pa.schema([pa.field("a", pa.int64(), metadata=JSON_TEXT_METADATA)]),
            "schema: field $.a: the metadata sabot_ray:json takes the value 'text', "
            "and belongs to a string column",
        ),
        (
            pa.schema([pa.field("a", pa.string(), metadata={"sabot_ray:json": "yes"})]),
            "schema: field $.a: the metadata sabot_ray:json takes the value 'text', "
            "and belongs to a string column",
        ),
    ],
)
def test_check_value_schema_that_cannot_work_is_refused_with_the_path(
    schema: Any, message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        check_value_schema(schema)

    assert str(refused.value) == message


@pytest.mark.parametrize(
    "arrow_type",
    [
        pa.null(),
        pa.float16(),
        pa.decimal32(5, 2),
        pa.decimal64(10, 2),
        pa.large_string(),
        pa.large_binary(),
        pa.binary(16),
        pa.string_view(),
        pa.binary_view(),
        pa.large_list(pa.int64()),
        pa.list_(pa.int64(), 3),
        pa.list_view(pa.int64()),
        pa.month_day_nano_interval(),
        pa.dense_union([pa.field("x", pa.int64())]),
        pa.run_end_encoded(pa.int32(), pa.int64()),
        pa.uuid(),
    ],
    ids=str,
)
def test_check_value_schema_of_another_type_is_refused_with_what_is_available(
    arrow_type: pa.DataType,
) -> None:
    for schema, path in (
        (pa.schema([("a", arrow_type)]), "$.a"),
        ({"a": pa.list_(pa.struct([("x", pa.map_(pa.string(), arrow_type))]))}, "$.a[].x[]"),
    ):
        with pytest.raises(ConfigError) as refused:
            check_value_schema(schema)

        assert str(refused.value) == (
            f"schema: field {path}: type {arrow_type} is not available yet; {AVAILABLE}"
        )


def test_check_value_schema_of_a_dictionary_of_lists_is_refused() -> None:
    nested = pa.dictionary(pa.int32(), pa.list_(pa.int8()))

    with pytest.raises(ConfigError) as refused:
        check_value_schema({"a": nested})

    assert str(refused.value) == (
        f"schema: field $.a: type {nested.value_type} is not available yet; {AVAILABLE}"
    )


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("a", ".a"),
        ("_a1", "._a1"),
        ("1a", '["1a"]'),
        ("a-b", '["a-b"]'),
        ("a\n", '["a\\n"]'),
        ("", '[""]'),
        ("größe", '["größe"]'),
        ('"\\/', '["\\"\\\\/"]'),
        ("\b\f\r\t\x1f\x7f", '["\\b\\f\\r\\t\\u001f\x7f"]'),
    ],
)
def test_path_step_writes_odd_names_as_json_strings(name: str, step: str) -> None:
    assert path_step(name) == step


@pytest.mark.parametrize(
    ("name", "known", "message"),
    [
        ("amuont", ["id", "amount"], "there is no column 'amuont'; did you mean 'amount'?"),
        ("ab", ["abc", "abd"], "there is no column 'ab'; did you mean 'abd' or 'abc'?"),
        ("zz", ["id", "amount"], "there is no column 'zz'; the columns are 'id', 'amount'"),
        ("zz", [], "there is no column 'zz'; there are none"),
    ],
)
def test_unknown_column_tells_the_near_names(name: str, known: list[str], message: str) -> None:
    assert str(unknown_column(name, known, "select")) == f"select: {message}"


def test_check_columns_returns_the_names_in_their_order() -> None:
    schema = pa.schema([("a", pa.int64()), ("b", pa.string()), ("c", pa.string())])

    assert check_columns(["c", "a"], schema, "select") == ("c", "a")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "select: name at least one column"),
        (["a", "ammount"], "select: there is no column 'ammount'; did you mean 'amount'?"),
        (["a", "amount", "a"], "select: column 'a' is named more than once"),
        (["a", 1], "select: expected column names, found int"),
    ],
)
def test_check_columns_that_cannot_be_picked_are_refused(names: Any, message: str) -> None:
    schema = pa.schema([("a", pa.int64()), ("amount", pa.float64())])

    with pytest.raises(ConfigError) as refused:
        check_columns(names, schema, "select")

    assert str(refused.value) == message


def test_batch_schema_takes_value_and_metadata_columns_in_their_order() -> None:
    field = pa.field("a", pa.string(), metadata=JSON_TEXT_METADATA)
    value_schema = pa.schema([field, pa.field("b", pa.int64())])

    schema = batch_schema(value_schema, ("_kafka_offset", "a", "_kafka_headers"))

    expected = pa.schema(
        [METADATA_FIELDS["_kafka_offset"], field, METADATA_FIELDS["_kafka_headers"]]
    )
    assert schema.equals(expected, check_metadata=True)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["_kafka_ofset"], "columns: there is no column '_kafka_ofset'; did you mean "),
        (["a", "a"], "columns: column 'a' is named more than once"),
    ],
)
def test_batch_schema_of_unknown_or_repeated_columns_is_refused(
    columns: list[str], message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        batch_schema(pa.schema([("a", pa.int64())]), columns)

    assert str(refused.value).startswith(message)


def test_differences_name_each_field_that_is_not_the_same() -> None:
    one = pa.schema(
        [
            ("same", pa.int64()),
            ("kind", pa.int64()),
            ("gone", pa.string()),
            pa.field("text", pa.string(), metadata=JSON_TEXT_METADATA),
            ("inner", pa.struct([("a", pa.int8()), ("b c", pa.int8())])),
        ]
    )
    other = pa.schema(
        [
            pa.field("same", pa.int64(), metadata={"note": "says nothing of the values"}),
            ("kind", pa.string()),
            ("text", pa.string()),
            ("inner", pa.struct([("a", pa.int8()), ("b c", pa.bool_())])),
            ("new", pa.bool_()),
        ]
    )

    assert differences(one, other, ("declared", "kept")) == [
        "$.kind: int64 in the declared schema, string in the kept one",
        "$.gone: string in the declared schema, absent in the kept one",
        "$.text: JSON text (string) in the declared schema, string in the kept one",
        '$.inner["b c"]: int8 in the declared schema, bool in the kept one',
        "$.new: absent in the declared schema, bool in the kept one",
    ]
    assert differences(one, one, ("declared", "kept")) == []


def test_differences_of_order_are_told() -> None:
    fields = [pa.field("a", pa.int8()), pa.field("b", pa.int8())]

    assert differences(pa.schema(fields), pa.schema(fields[::-1]), ("first", "second")) == [
        "$: the order is a, b in the first schema, b, a in the second one"
    ]
