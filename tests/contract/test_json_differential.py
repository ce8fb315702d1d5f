"""The JSON decoders against each other, on schemas and documents that hypothesis makes up.

Runs are the same every time, unless ``SABOT_RAY_EXAMPLES`` asks for that many random examples per
test.
"""

from __future__ import annotations

import json
import os
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from sabot_ray.codecs import json as json_codec
from sabot_ray.codecs.inference import infer_schema
from sabot_ray.errors import ConfigError
from sabot_ray.schema import check_value_schema
from tests.contract.json_decoding import (
    DECODERS,
    Decoding,
    decode_in_python,
    decode_natively,
)

_EXAMPLES = int(os.environ.get("SABOT_RAY_EXAMPLES", "0"))

bounded = settings(
    max_examples=_EXAMPLES or 100,
    derandomize=not _EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# --- schemas -------------------------------------------------------------------------------------

_TEXT = {b"sabot_ray:json": b"text"}
_NAMES = ["a", "b", "key", "c d", "é", "😀", "", 'q"\\', "1", "a\n"]
_names = st.sampled_from(_NAMES)

_LEAVES = [
    *(pa.field("", arrow_type()) for arrow_type in (pa.bool_, pa.float32, pa.float64)),
    *(pa.field("", arrow_type()) for arrow_type in (pa.int8, pa.int16, pa.int32, pa.int64)),
    *(pa.field("", arrow_type()) for arrow_type in (pa.uint8, pa.uint16, pa.uint32, pa.uint64)),
    pa.field("", pa.string()),
    pa.field("", pa.string(), metadata=_TEXT),
    pa.field("", pa.binary()),
    *(pa.field("", pa.timestamp(unit, "UTC")) for unit in ("s", "ms", "us", "ns")),
    *(pa.field("", pa.timestamp(unit)) for unit in ("s", "us", "ns")),
    pa.field("", pa.timestamp("ms", "+01:30")),
]


def _struct_type(fields: dict[str, pa.Field[Any]]) -> pa.Field[Any]:
    return pa.field("", pa.struct([field.with_name(name) for name, field in fields.items()]))


_fields = st.recursive(
    st.sampled_from(_LEAVES),
    lambda inner: st.one_of(
        inner.map(lambda field: pa.field("", pa.list_(field.with_name("item")))),
        inner.map(lambda field: pa.field("", pa.map_(pa.string(), field.with_name("value")))),
        st.dictionaries(_names, inner, min_size=1, max_size=3).map(_struct_type),
    ),
    max_leaves=4,
)
schemas = st.dictionaries(_names, _fields, min_size=1, max_size=4).map(
    lambda fields: check_value_schema(pa.schema(list(_struct_type(fields).type)))
)

# --- documents as source text --------------------------------------------------------------------

_spaces = st.sampled_from(["", "", "", "", " ", "\n", "\t ", "\r\n"])
_words = st.one_of(_names, st.text(max_size=5))

_NUMBERS = """
    0 -0 1 -1 7 127 128 -128 -129 255 256 32767 32768 -32769 65535 65536 2147483647 2147483648
    -2147483649 4294967295 4294967296 9007199254740993 9223372036854775807 9223372036854775808
    -9223372036854775808 -9223372036854775809 18446744073709551615 18446744073709551616
    340282356779733661637539395458142568447 340282356779733661637539395458142568448 3.4e38 1e39
    0.0 -0.0 1.0 1.5 -2.50 1e2 1E+2 1e-2 -0e1 0e999999999999 1e-400 3.4028235677973366e38
    1.7976931348623157e308 1.7976931348623158e308 2.2250738585072011e-308 5e-324 2e-324 0.1
    123456789.123456789 1.00000005960464477539063
""".split()  # noqa: SIM905
_numbers = st.one_of(
    st.sampled_from(_NUMBERS),
    st.integers(-(1 << 66), 1 << 66).map(str),
    st.integers(-300, 300).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.builds(
        "{}.{}e{}".format,
        st.integers(-(10**20), 10**20),
        st.integers(0, 10**20),
        st.integers(-350, 280),
    ),
    st.integers(290, 309).map(lambda digits: "1" * digits),
)
_MALFORMED = [
    *["1e400", "-1e400", "1.7976931348623159e308", "01", "1.", ".5", "+1", "-", "1e", "0x1"],
    *["NaN", "-Infinity", "tru", "nulls", "'a'", "", "[1,]", "{]", "[1}", '{"a"}', '{"a":}'],
    *['{"a":1,}', "{1:1}", "1,2", "1:2", '"a', '"a\nb"', r'"\ud800"', r'"\udc00"', r'"\x"'],
]
_STAMPS = """
    2024-02-29T12:34:56Z 2023-02-29T12:34:56Z 1969-12-31T23:59:59.5Z 2024-02-29t12:34:56z
    2024-01-01T00:00:00.000000001Z 2024-01-01T00:00:00.123000Z 2024-01-01T00:00:00.1234567890Z
    2024-01-01T00:00:60Z 2024-01-01T24:00:00Z 0000-01-01T00:00:00Z 0001-01-01T00:00:00+23:59
    9999-12-31T23:59:59-23:59 1677-09-21T00:12:43.145224192Z 1677-09-21T00:12:43.145224191Z
    2262-04-11T23:47:16.854775807Z 2262-04-11T23:47:16.854775808Z 2024-01-01T00:00:00+01:60
    2024-02-29T12:34:56 2024-01-01T00:00:00. 2024-01-01 2024-00-01T00:00:00Z 2024-1-1T00:00:00Z
""".split()  # noqa: SIM905
_stamps = st.one_of(
    st.sampled_from(_STAMPS),
    st.builds(
        "{:%Y-%m-%d}{}{:%H:%M:%S}{}{}".format,
        st.dates(),
        st.sampled_from(["T", " ", "t"]),
        st.times(),
        st.sampled_from(["", ".0", ".5", ".123456", ".120000000", ".000000001"]),
        st.sampled_from(["", "Z", "Z", "z", "+00:00", "-00:00", "+05:45", "-12:00"]),
    ),
)
_base64 = st.one_of(
    st.text("AQID+/=", max_size=8),
    st.sampled_from(["AQ==", "AR==", "AQI=", "AQJ=", "AQID", "A===", "====", "AQ==AQ=="]),
)


@st.composite
def _quoted(draw: st.DrawFn, words: st.SearchStrategy[str] = _words) -> str:
    """A string token; characters are escaped or not, as it comes."""
    word = draw(words)
    style = draw(st.sampled_from(["short", "short", "ascii", "hex"]))
    if style == "short":
        return json.dumps(word, ensure_ascii=False)
    if style == "ascii":
        return json.dumps(word).replace("/", "\\/")
    units = word.encode("utf-16-be")
    codes = (units[i : i + 2].hex() for i in range(0, len(units), 2))
    return '"' + "".join(f"\\u{code}" for code in codes) + '"'


@st.composite
def _array(draw: st.DrawFn, items: st.SearchStrategy[str]) -> str:
    space = draw(_spaces)
    return "[" + ",".join(space + item for item in draw(st.lists(items, max_size=3))) + "]"


@st.composite
def _object(
    draw: st.DrawFn, known: dict[str, st.SearchStrategy[str]], others: st.SearchStrategy[str]
) -> str:
    """An object with known and unknown fields in any order, and duplicates."""
    keys = draw(st.lists(st.sampled_from(list(known)), min_size=1, max_size=5)) if known else []
    entries = [(draw(_quoted(st.just(key))), draw(known[key])) for key in keys]
    if not known or draw(st.integers(0, 3)) == 0:
        entries += draw(st.lists(st.tuples(_quoted(), others), max_size=2))
    space = draw(_spaces)
    return "{" + ",".join(f"{space}{key}{space}:{value}" for key, value in entries) + space + "}"


_deep = st.sampled_from([100, 120, 126, 127, 128, 140, 1100]).map(
    lambda levels: "[" * levels + "]" * levels
)
_scalars = st.one_of(_numbers, _quoted(), st.sampled_from(["null", "true", "false", "{}", "[]"]))
_valid_values = st.recursive(
    _scalars, lambda inner: st.one_of(_array(inner), _object({}, inner)), max_leaves=4
)


def _one_of(**choices: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Choose by weight."""
    names = [name for name, (weight, _) in choices.items() for _ in range(weight)]
    return st.sampled_from(names).flatmap(lambda name: choices[name][1])


# One malformed token spoils a whole document, so they must be rare.
_any_value = _one_of(
    valid=(50, _valid_values), deep=(2, _deep), malformed=(1, st.sampled_from(_MALFORMED))
)


def _mostly(fitting: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return _one_of(fitting=(16, fitting), null=(2, st.just("null")), other=(1, _any_value))


def _leaf_value(field: pa.Field[Any]) -> st.SearchStrategy[str]:
    arrow_type = field.type
    if field.metadata:
        return _any_value
    if pa.types.is_boolean(arrow_type):
        return st.sampled_from(["true", "false"])
    if pa.types.is_timestamp(arrow_type):
        return _quoted(_stamps)
    if pa.types.is_binary(arrow_type):
        return _quoted(_base64)
    if pa.types.is_string(arrow_type):
        return _quoted()
    return st.one_of(st.integers(-129, 300).map(str), _numbers)


# Made once, because making strategies takes most of the time.
_LEAF_VALUES = {
    str(leaf.type) + ("" if leaf.metadata is None else " text"): _mostly(_leaf_value(leaf))
    for leaf in _LEAVES
}


def _value_of(field: pa.Field[Any]) -> st.SearchStrategy[str]:
    """Values that mostly fit the column."""
    arrow_type: Any = field.type
    if pa.types.is_struct(arrow_type):
        fitting = _object({inner.name: _value_of(inner) for inner in arrow_type}, _any_value)
    elif pa.types.is_list(arrow_type):
        fitting = _array(_value_of(arrow_type.value_field))
    elif pa.types.is_map(arrow_type):
        fitting = _object({key: _value_of(arrow_type.item_field) for key in _NAMES[:4]}, _any_value)
    else:
        return _LEAF_VALUES[str(arrow_type) + ("" if field.metadata is None else " text")]
    return _mostly(fitting)


@st.composite
def _mutated(draw: st.DrawFn, value: bytes) -> bytes:
    """The value with one byte changed, or cut off."""
    at = draw(st.integers(0, len(value)))
    byte = bytes([draw(st.sampled_from(b'{}[],:"\\0-9.eEtfnu \n\x00\x1f\x7f\x80\xc0\xed\xef\xf4'))])
    return draw(
        st.sampled_from(
            [value[:at], value[:at] + byte + value[at:], value[:at] + byte + value[at + 1 :]]
        )
    )


def _values_of(schema: pa.Schema) -> st.SearchStrategy[list[bytes | None]]:
    known = {field.name: _value_of(field) for field in schema}
    document = _object(known, _any_value).map(str.encode)
    value = _one_of(
        document=(12, document),
        mutated=(1, document.flatmap(_mutated)),
        tombstone=(1, st.none()),
        odd=(1, st.one_of(st.sampled_from([b"", b"[]", b"null"]), st.binary(max_size=4))),
    )
    return st.lists(value, max_size=6)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """The arguments of one call of a decoder."""
    schema = draw(schemas)
    columns = draw(st.lists(st.sampled_from(schema.names), unique=True)) or schema.names
    return {
        "values": draw(_values_of(schema)),
        "schema": schema,
        "columns": columns,
        "unknown_fields": draw(st.sampled_from(["ignore", "ignore", "fail"])),
        "on_decode_error": draw(st.sampled_from(["skip", "skip", "fail"])),
    }


# --- tests ---------------------------------------------------------------------------------------


def assert_same(one: Decoding, other: Decoding) -> None:
    assert one.rejected == other.rejected
    assert one.unknown_fields == other.unknown_fields
    one.batch.validate(full=True)
    other.batch.validate(full=True)
    assert one.batch.schema.equals(other.batch.schema, check_metadata=True)
    # The text tells -0.0 from 0.0, which `equals` does not.
    assert one.batch.equals(other.batch)
    assert repr(one.batch.to_pydict()) == repr(other.batch.to_pydict())


@bounded
@given(cases())
def test_decoders_given_the_same_values_give_the_same_rows_and_errors(case: dict[str, Any]) -> None:
    python = decode_in_python(**case)
    event("rows" if python.batch.num_rows else "no rows")
    for _, _, reason in python.rejected:
        event(reason)

    assert_same(python, decode_natively(**case))


@bounded
@given(cases())
def test_python_decoder_by_columns_and_by_tokens_gives_the_same(case: dict[str, Any]) -> None:
    by_columns = decode_in_python(**case)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_codec._Reader, "array", _refuse)
        by_tokens = decode_in_python(**case)

    assert_same(by_columns, by_tokens)


def _refuse(*_: object) -> None:
    raise json_codec._Irregular


@pytest.mark.parametrize("decoder", DECODERS)
@bounded
@given(_valid_values.map(str.encode).flatmap(_mutated))
def test_decoder_beyond_every_depth_still_tells_malformed_from_deep(
    decoder: str, value: bytes
) -> None:
    # orjson reads 1024 levels.
    shallow, deep = (
        b'{"a":' + b"[" * levels + value + b"]" * levels + b"}" for levels in (900, 1100)
    )
    try:
        orjson.loads(shallow)
        reason = "nested deeper than 128 levels"
    except orjson.JSONDecodeError:
        reason = "malformed JSON"
    schema = pa.schema([("b", pa.int64())])

    decoding = DECODERS[decoder]([shallow, deep], schema)

    assert decoding.rejected == [(0, "$", reason), (1, "$", reason)]


@bounded
@given(schemas.flatmap(_values_of))
def test_inferred_schema_lets_every_valid_value_of_the_sample_decode(
    values: list[bytes | None],
) -> None:
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
