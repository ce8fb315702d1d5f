"""Documents that a JSON decoder gets wrong easily, each with its verdict under `SCHEMA`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

_TEXT = {b"sabot_ray:json": b"text"}

#: Every type that a column may have, also inside others.
SCHEMA = pa.schema(
    [
        pa.field("b", pa.bool_()),
        pa.field("i8", pa.int8()),
        pa.field("i16", pa.int16()),
        pa.field("i32", pa.int32()),
        pa.field("i64", pa.int64()),
        pa.field("u8", pa.uint8()),
        pa.field("u16", pa.uint16()),
        pa.field("u32", pa.uint32()),
        pa.field("u64", pa.uint64()),
        pa.field("f32", pa.float32()),
        pa.field("f64", pa.float64()),
        pa.field("s", pa.string()),
        pa.field("j", pa.string(), metadata=_TEXT),
        pa.field("bin", pa.binary()),
        pa.field("ts", pa.timestamp("us", "UTC")),
        pa.field("ts_s", pa.timestamp("s", "UTC")),
        pa.field("ts_ns", pa.timestamp("ns", "UTC")),
        pa.field("ts_berlin", pa.timestamp("ms", "Europe/Berlin")),
        pa.field("local", pa.timestamp("ms")),
        pa.field("d32", pa.date32()),
        pa.field("d64", pa.date64()),
        pa.field("t_s", pa.time32("s")),
        pa.field("t_ms", pa.time32("ms")),
        pa.field("t_us", pa.time64("us")),
        pa.field("t_ns", pa.time64("ns")),
        pa.field("dur", pa.duration("ms")),
        pa.field("dec", pa.decimal128(10, 2)),
        pa.field("dec38", pa.decimal128(38, 0)),
        pa.field("dec76", pa.decimal256(76, 38)),
        pa.field("tens", pa.decimal128(3, -1)),
        pa.field("tiny", pa.decimal256(3, 3)),
        pa.field("cat", pa.dictionary(pa.int32(), pa.string())),
        pa.field("cat_i", pa.dictionary(pa.int64(), pa.int16())),
        pa.field(
            "o",
            pa.struct(
                [
                    pa.field("x", pa.int64()),
                    pa.field("j", pa.string(), metadata=_TEXT),
                    pa.field("in", pa.struct([pa.field("y", pa.bool_())])),
                    pa.field("ts", pa.timestamp("us", "UTC")),
                    pa.field("cat", pa.dictionary(pa.int32(), pa.string())),
                ]
            ),
        ),
        pa.field("l", pa.list_(pa.int32())),
        pa.field("ll", pa.list_(pa.list_(pa.string()))),
        pa.field("lj", pa.list_(pa.field("item", pa.string(), metadata=_TEXT))),
        pa.field(
            "lo",
            pa.list_(pa.struct([pa.field("k", pa.string()), pa.field("v", pa.float64())])),
        ),
        pa.field("lcat", pa.list_(pa.dictionary(pa.uint32(), pa.binary()))),
        pa.field("m", pa.map_(pa.string(), pa.int64())),
        pa.field("mcat", pa.map_(pa.string(), pa.dictionary(pa.int32(), pa.string()))),
        pa.field("mo", pa.map_(pa.string(), pa.struct([pa.field("x", pa.float32())]))),
        pa.field("a b", pa.int64()),
        pa.field("größe", pa.int64()),
        pa.field("", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class HostileDocument:
    """One document and what must become of it.

    Attributes:
        name: What is special about it.
        value: The record's value.
        row: The columns that are not null, if it decodes.
        field: Path of the offending field, if it does not.
        reason: What is wrong with it.
        unknown: The unknown fields that are counted.
    """

    name: str
    value: bytes
    row: dict[str, Any] | None = None
    field: str = ""
    reason: str = ""
    unknown: tuple[str, ...] = ()


def _row(name: str, value: bytes | str, *unknown: str, **row: Any) -> HostileDocument:
    return HostileDocument(name, _bytes(value), row, unknown=unknown)


def _refused(name: str, value: bytes | str, field: str, reason: str) -> HostileDocument:
    return HostileDocument(name, _bytes(value), None, field, reason)


def _malformed(name: str, value: bytes | str) -> HostileDocument:
    return _refused(name, value, "$", "malformed JSON")


def _too_deep(name: str, value: bytes | str) -> HostileDocument:
    return _refused(name, value, "$", "nested deeper than 128 levels")


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def _utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


_FRACTION = "expected an integer, found a number with a fraction or an exponent"
_NO_TIMESTAMP = "not an RFC 3339 timestamp"
_NO_LOCAL = "not a timestamp without an offset"
_NO_DATE = "not a date YYYY-MM-DD"
_NO_TIME = "not a time hh:mm:ss[.fraction]"
#: pyarrow makes a date64 of a date, but not of a negative one.
_DAY_MS = 86_400_000

DOCUMENTS = [
    # --- no JSON text
    _malformed("empty", b""),
    _malformed("white space only", b" \t\r\n"),
    _malformed("byte order mark", b'\xef\xbb\xbf{"i64":1}'),
    _malformed("UTF-16", '{"i64":1}'.encode("utf-16-le")),
    _malformed("truncated object", b'{"i64":1'),
    _malformed("truncated string", b'{"s":"abc'),
    _malformed("truncated escape", b'{"s":"abc\\'),
    _malformed("truncated literal", b'{"b":tru'),
    _malformed("two documents", b'{"i64":1}{"i64":2}'),
    _malformed("two documents on two lines", b'{"i64":1}\n{"i64":2}'),
    _malformed("two documents with a comma", b'{"i64":1},{"i64":2}'),
    _malformed("trailing NUL", b'{"i64":1}\x00'),
    _malformed("trailing bracket", b'{"i64":1}]'),
    _malformed("trailing comma in an object", b'{"i64":1,}'),
    _malformed("trailing comma in an array", b'{"l":[1,]}'),
    _malformed("leading comma", b'{,"i64":1}'),
    _malformed("double comma", b'{"i64":1,,"b":true}'),
    _malformed("missing colon", b'{"i64" 1}'),
    _malformed("missing value", b'{"i64":}'),
    _malformed("key without quotes", b"{i64:1}"),
    _malformed("single quotes", b"{'i64':1}"),
    _malformed("number as key", b"{1:1}"),
    _malformed("wrong bracket", b'{"l":[1}'),
    _malformed("comment", b'{"i64":1/* one */}'),
    _malformed("NaN", b'{"f64":NaN}'),
    _malformed("Infinity", b'{"f64":Infinity}'),
    _malformed("-Infinity", b'{"f64":-Infinity}'),
    _malformed("True", b'{"b":True}'),
    _malformed("nul", b'{"b":nul}'),
    _malformed("nulls", b'{"b":nulls}'),
    _malformed("leading zero", b'{"i64":01}'),
    _malformed("negative leading zero", b'{"i64":-01}'),
    _malformed("plus sign", b'{"i64":+1}'),
    _malformed("minus only", b'{"i64":-}'),
    _malformed("dot at the end", b'{"f64":1.}'),
    _malformed("dot at the start", b'{"f64":.5}'),
    _malformed("exponent without digits", b'{"f64":1e}'),
    _malformed("exponent with sign only", b'{"f64":1e+}'),
    _malformed("hexadecimal", b'{"i64":0x10}'),
    _malformed("digit separators", b'{"i64":1_000}'),
    _malformed("infinite double", b'{"f64":1e400}'),
    _malformed("infinite negative double", b'{"f64":-1e400}'),
    _malformed("infinite double just so", b'{"f64":1.7976931348623159e308}'),
    _malformed("infinite integer", b'{"i64":' + b"9" * 400 + b"}"),
    _malformed("infinite double in an unknown field", b'{"zz":1e400}'),
    _malformed("infinite double in a JSON text", b'{"j":[1e999]}'),
    _malformed("infinite double in an overridden duplicate", b'{"f64":1e400,"f64":1}'),
    _malformed("raw newline in a string", b'{"s":"a\nb"}'),
    _malformed("raw NUL in a string", b'{"s":"a\x00b"}'),
    _malformed("raw unit separator in a key", b'{"a\x1fb":1}'),
    _malformed("unknown escape", b'{"s":"\\x41"}'),
    _malformed("escape with three digits", b'{"s":"\\u123"}'),
    _malformed("lone high surrogate", b'{"s":"\\ud83d"}'),
    _malformed("lone low surrogate", b'{"s":"\\ude00"}'),
    _malformed("swapped surrogates", b'{"s":"\\ude00\\ud83d"}'),
    _malformed("high surrogate before a letter", b'{"s":"\\ud83d\\u0041"}'),
    _malformed("lone surrogate in a key", b'{"\\ud83d":1}'),
    _malformed("lone surrogate in an unknown field", b'{"zz":{"y":"\\ud83d"}}'),
    _malformed("lone surrogate in a JSON text", b'{"j":"\\udc00"}'),
    _malformed("surrogate as UTF-8", b'{"s":"\xed\xa0\xbd"}'),
    _malformed("lone continuation byte", b'{"s":"\x80"}'),
    _malformed("overlong slash", b'{"s":"\xc0\xaf"}'),
    _malformed("beyond Unicode", b'{"s":"\xf4\x90\x80\x80"}'),
    _malformed("cut UTF-8 sequence", b'{"s":"\xe2\x82"}'),
    _malformed("Latin-1 in a key", b'{"gr\xf6\xdfe":1}'),
    _malformed("invalid UTF-8 in an unknown field", b'{"zz":"\xff"}'),
    _malformed("no-break space between tokens", '{"i64":\u00a01}'),
    _malformed("form feed between tokens", b'{"i64":\x0c1}'),
    _malformed("vertical tab after the end", b'{"i64":1}\x0b'),
    _malformed("wrong kind, then malformed", b'{"i64":"x","b":tru}'),
    _malformed("wrong top level and malformed", b"[1,2"),
    _malformed("deep and malformed", '{"zz":' + "[" * 300 + "]" * 299 + "}"),
    _malformed("very deep and unclosed", '{"zz":' + "[" * 5000),
    _malformed("very deep and closed too often", '{"zz":' + "[" * 5000 + "]" * 5001 + "}"),
    _malformed("very deep and wrongly closed", '{"zz":' + "[" * 5000 + "]" * 4999 + "}}"),
    _malformed("very deep, then malformed", '{"zz":' + _nested(5000) + ',"s":"\\ud800"}'),
    _malformed("very deep objects without values", '{"zz":' * 3000 + "}" * 3000),
    _malformed("very deep around a bad number", '{"zz":' + "[" * 3000 + "01" + "]" * 3000 + "}"),
    # --- too deep
    _row("128 levels", '{"zz":' + _nested(127) + "}", "$.zz"),
    _too_deep("129 levels", '{"zz":' + _nested(128) + "}"),
    _too_deep("129 levels of objects", '{"zz":' * 129 + "1" + "}" * 129),
    _too_deep("129 levels in a JSON text", '{"j":' + _nested(128) + "}"),
    _too_deep("129 levels in an overridden duplicate", '{"j":' + _nested(128) + ',"j":1}'),
    _too_deep("129 levels at the top", _nested(129)),
    _too_deep("129 levels after a wrong kind", '{"i64":"x","zz":' + _nested(128) + "}"),
    _too_deep("1025 levels", '{"zz":' + _nested(1024) + "}"),
    _too_deep("5000 levels", '{"zz":' + _nested(5000) + "}"),
    _too_deep("5000 levels of objects", '{"zz":' * 5000 + "1.5" + "}" * 5000),
    _row("brackets in a string", '{"s":"' + "[" * 300 + '"}', s="[" * 300),
    _row(
        "brackets after an escaped quote",
        '{"s":"\\"' + "{" * 300 + '\\\\"}',
        s='"' + "{" * 300 + "\\",
    ),
    _row("many arrays side by side", '{"ll":[' + ",".join(["[]"] * 300) + "]}", ll=[[]] * 300),
    # --- another top level
    _refused("array", b"[1]", "$", "expected an object, found an array"),
    _refused("string", b'"x"', "$", "expected an object, found a string"),
    _refused("number", b" 1.5 ", "$", "expected an object, found a number"),
    _refused("true", b"true", "$", "expected an object, found a boolean"),
    _refused("null", b"null", "$", "expected an object, found null"),
    # --- the wrong kind
    _refused("number for bool", b'{"b":1}', "$.b", "expected a boolean, found a number"),
    _refused("string for bool", b'{"b":"true"}', "$.b", "expected a boolean, found a string"),
    _refused("string for integer", b'{"i64":"1"}', "$.i64", "expected an integer, found a string"),
    _refused("bool for integer", b'{"i8":true}', "$.i8", "expected an integer, found a boolean"),
    _refused("object for integer", b'{"u8":{}}', "$.u8", "expected an integer, found an object"),
    _refused("string for float", b'{"f64":"1.5"}', "$.f64", "expected a number, found a string"),
    _refused("bool for float", b'{"f32":false}', "$.f32", "expected a number, found a boolean"),
    _refused("number for string", b'{"s":1}', "$.s", "expected a string, found a number"),
    _refused("array for string", b'{"s":["x"]}', "$.s", "expected a string, found an array"),
    _refused("number for binary", b'{"bin":1}', "$.bin", "expected a string, found a number"),
    _refused("number for timestamp", b'{"ts":0}', "$.ts", "expected a string, found a number"),
    _refused("array for struct", b'{"o":[]}', "$.o", "expected an object, found an array"),
    _refused("string for struct", b'{"o":"{}"}', "$.o", "expected an object, found a string"),
    _refused("object for list", b'{"l":{}}', "$.l", "expected an array, found an object"),
    _refused("array for map", b'{"m":[["k",1]]}', "$.m", "expected an object, found an array"),
    # --- numbers
    _row(
        "lowest integers",
        b'{"i8":-128,"i16":-32768,"i32":-2147483648,"i64":-9223372036854775808,"u64":0}',
        i8=-128,
        i16=-(2**15),
        i32=-(2**31),
        i64=-(2**63),
        u64=0,
    ),
    _row(
        "highest integers",
        b'{"i64":9223372036854775807,"u8":255,"u16":65535,"u32":4294967295,'
        b'"u64":18446744073709551615}',
        i64=2**63 - 1,
        u8=255,
        u16=65535,
        u32=2**32 - 1,
        u64=2**64 - 1,
    ),
    _row("negative zero as integer", b'{"i64":-0,"u8":-0}', i64=0, u8=0),
    _row("negative zero as float", b'{"f64":-0.0,"f32":-0}', f64=-0.0, f32=0.0),
    _refused("int8 + 1", b'{"i8":128}', "$.i8", "out of range for int8"),
    _refused("int16 - 1", b'{"i16":-32769}', "$.i16", "out of range for int16"),
    _refused("int32 + 1", b'{"i32":2147483648}', "$.i32", "out of range for int32"),
    _refused("int64 + 1", b'{"i64":9223372036854775808}', "$.i64", "out of range for int64"),
    _refused("int64 - 1", b'{"i64":-9223372036854775809}', "$.i64", "out of range for int64"),
    _refused("int64 far out", b'{"i64":1' + b"0" * 300 + b"}", "$.i64", "out of range for int64"),
    _refused("uint8 - 1", b'{"u8":-1}', "$.u8", "out of range for uint8"),
    _refused("uint32 + 1", b'{"u32":4294967296}', "$.u32", "out of range for uint32"),
    _refused("uint64 + 1", b'{"u64":18446744073709551616}', "$.u64", "out of range for uint64"),
    _refused("uint64 - 1", b'{"u64":-1}', "$.u64", "out of range for uint64"),
    _refused("fraction for integer", b'{"i64":1.0}', "$.i64", _FRACTION),
    _refused("exponent for integer", b'{"i64":1e2}', "$.i64", _FRACTION),
    _refused("negative zero with fraction", b'{"i64":-0.0}', "$.i64", _FRACTION),
    _refused("huge float for integer", b'{"i8":1e300}', "$.i8", _FRACTION),
    _row("integer for float", b'{"f64":9007199254740993}', f64=9007199254740992.0),
    _row("integer beyond 64 bits for float", b'{"f64":36893488147419103233}', f64=2.0**65),
    _row("negative integer beyond 64 bits", b'{"f64":-9223372036854775809}', f64=-(2.0**63)),
    _row("integer of 309 digits", b'{"f64":1' + b"0" * 308 + b"}", f64=1e308),
    _row("highest double", b'{"f64":1.7976931348623157e308}', f64=1.7976931348623157e308),
    _row("half way to infinity", b'{"f64":1.7976931348623158e308}', f64=1.7976931348623157e308),
    _row("lowest subnormal", b'{"f64":4.9406564584124654e-324}', f64=5e-324),
    _row("vanishing", b'{"f64":1e-400,"f32":-1e-400}', f64=0.0, f32=-0.0),
    _row("zero with a huge exponent", b'{"f64":0e99999999999999999999}', f64=0.0),
    _row("capital exponent", b'{"f64":1E+2}', f64=100.0),
    _row("many digits", b'{"f64":0.1' + b"0" * 400 + b"1}", f64=0.1),
    _row("highest float32", b'{"f32":3.4028235e38}', f32=3.4028234663852886e38),
    _row("rounds down to float32", b'{"f32":3.4028235677973362e38}', f32=3.4028234663852886e38),
    _row("float32 rounded twice", b'{"f32":1.00000005960464477539063}', f32=1.0),
    _refused(
        "infinite float32", b'{"f32":3.4028235677973366e38}', "$.f32", "out of range for float32"
    ),
    _refused(
        "infinite float32 from an integer",
        b'{"f32":-1' + b"0" * 39 + b"}",
        "$.f32",
        "out of range for float32",
    ),
    # --- strings and keys
    _row("every escape", rb'{"s":"\"\\\/\b\f\n\r\t\u0041"}', s='"\\/\b\f\n\r\tA'),
    _row("escaped NUL", rb'{"s":"a\u0000b"}', s="a\0b"),
    _row("surrogate pair", rb'{"s":"\ud83d\ude00\uD83D\uDE00"}', s="😀😀"),
    _row(
        "delete and noncharacters",
        '{"s":"\x7f\u2028\ufeff\ufffe\U0010ffff"}',
        s="\x7f\u2028\ufeff\ufffe\U0010ffff",
    ),
    _row("escaped key", rb'{"\u0069\u00364":1}', i64=1),
    _row("key with a space", b'{"a b":1}', **{"a b": 1}),
    _row("composed key", '{"größe":1}', größe=1),
    _row("decomposed key", '{"gro\u0308ße":1}', '$["gro\u0308ße"]'),
    _row("empty key", b'{"":true}', **{"": True}),
    _row("key in the wrong case", b'{"I64":1}', "$.I64"),
    _row("key with NUL", rb'{"i64\u0000":1}', '$["i64\\u0000"]'),
    _row("key with a newline", rb'{"a\n\u001F\"\\":1}', '$["a\\n\\u001f\\"\\\\"]'),
    _row("emoji key", rb'{"\ud83d\ude00":1}', '$["😀"]'),
    _row("key with digits first", b'{"1a":1}', '$["1a"]'),
    _row("longest key that is counted", '{"' + "k" * 256 + '":1}', "$." + "k" * 256),
    _row("long key", '{"' + "k" * 5000 + '":1}'),
    _refused(
        "key with a space, wrong kind",
        b'{"a b":"x"}',
        '$["a b"]',
        "expected an integer, found a string",
    ),
    _refused(
        "composed key, wrong kind",
        '{"größe":"x"}',
        '$["größe"]',
        "expected an integer, found a string",
    ),
    _refused("empty key, wrong kind", b'{"":1}', '$[""]', "expected a boolean, found a number"),
    # --- duplicates
    _row("duplicate", b'{"i64":1,"i64":2}', i64=2),
    _row("duplicate by escape", rb'{"i64":1,"\u006964":2}', i64=2),
    _row("duplicate of the wrong kind first", b'{"i64":"x","i64":2}', i64=2),
    _row("duplicate null last", b'{"i64":1,"i64":null}'),
    _row("duplicate struct", b'{"o":{"x":1},"o":{"in":{"y":true}}}', o={"in": {"y": True}}),
    _row("duplicate in a struct", b'{"o":{"x":1,"x":2}}', o={"x": 2}),
    _row("duplicate in a map", b'{"m":{"a":"x","b":2,"a":3}}', m=[("a", 3), ("b", 2)]),
    _row("unknown field in an overridden duplicate", b'{"o":{"q":1},"o":{"x":1}}', o={"x": 1}),
    _row("unknown field twice", b'{"zz":1,"zz":2}', "$.zz"),
    _refused(
        "duplicate of the wrong kind last",
        b'{"i64":1,"i64":"x"}',
        "$.i64",
        "expected an integer, found a string",
    ),
    _refused("two offenders", b'{"s":1,"i64":"x"}', "$.s", "expected a string, found a number"),
    _refused(
        "two offenders by place of the first duplicate",
        b'{"i64":1,"s":1,"i64":"x"}',
        "$.i64",
        "expected an integer, found a string",
    ),
    # --- JSON text
    _row("text of a string", rb'{"j":"a\u00e9\/ \"b"}', j=r'"a\u00e9\/ \"b"'),
    _row(
        "text of numbers",
        b'{"j":[-0, 1.50, 1E+2, 123456789012345678901234567890]}',
        j="[-0,1.50,1E+2,123456789012345678901234567890]",
    ),
    _row("text of a number", b'{"j": -0 }', j="-0"),
    _row(
        "text of literals",
        b'{"j":true,"lj":[false,null,"null"]}',
        j="true",
        lj=["false", None, '"null"'],
    ),
    _row(
        "text of an object",
        b'{"j": { "a" : 1 ,\n"a":\t[ ] , "b c":{ } } }',
        j='{"a":1,"a":[],"b c":{}}',
    ),
    _row("text with spaces in a string", b'{"j":[ " a , b " ]}', j='[" a , b "]'),
    _row("text in a struct", '{"o":{"j":{"é": null}}}', o={"j": '{"é":null}'}),
    _row("text is null", b'{"j":null}'),
    _row("unknown fields in a text", b'{"j":{"zz":1}}', j='{"zz":1}'),
    # --- base64
    _row("binary", b'{"bin":"AQID/+8="}', bin=b"\x01\x02\x03\xff\xef"),
    _row("empty binary", b'{"bin":""}', bin=b""),
    _row("escaped base64", rb'{"bin":"\u0041Q\/\/"}', bin=b"\x01\x0f\xff"),
    _refused("base64 without padding", b'{"bin":"AQ"}', "$.bin", "not canonical base64"),
    _refused("base64 with too much padding", b'{"bin":"AQI=="}', "$.bin", "not canonical base64"),
    _refused("padding only", b'{"bin":"===="}', "$.bin", "not canonical base64"),
    _refused("padding in the middle", b'{"bin":"AQ==AQ=="}', "$.bin", "not canonical base64"),
    _refused("unused bits", b'{"bin":"AR=="}', "$.bin", "not canonical base64"),
    _refused("URL alphabet", b'{"bin":"_-8="}', "$.bin", "not canonical base64"),
    _refused("newline in base64", rb'{"bin":"AQ==\n"}', "$.bin", "not canonical base64"),
    _refused("non-ASCII base64", '{"bin":"ÄQ=="}', "$.bin", "not canonical base64"),
    # --- timestamps
    _row(
        "RFC 3339",
        b'{"ts":"2024-02-29T12:34:56.123456Z"}',
        ts=_utc(2024, 2, 29, 12, 34, 56, 123456),
    ),
    _row("lower case", b'{"ts":"2024-02-29t12:34:56z"}', ts=_utc(2024, 2, 29, 12, 34, 56)),
    _row("space", b'{"ts":"2024-02-29 12:34:56Z"}', ts=_utc(2024, 2, 29, 12, 34, 56)),
    _row("offset", b'{"ts":"2024-03-01T00:30:00+01:30"}', ts=_utc(2024, 2, 29, 23, 0)),
    _row("unknown local offset", b'{"ts":"2024-03-01T00:30:00-00:00"}', ts=_utc(2024, 3, 1, 0, 30)),
    _row(
        "another zone",
        b'{"ts_berlin":"2024-07-01T00:00:00.120-23:59"}',
        ts_berlin=_utc(2024, 7, 1, 23, 59, 0, 120000),
    ),
    _row(
        "nine digits, the last ones zero",
        b'{"ts":"2024-01-01T00:00:00.100000000Z"}',
        ts=_utc(2024, 1, 1, 0, 0, 0, 100000),
    ),
    _row(
        "zero fraction of seconds",
        b'{"ts_s":"1969-12-31T23:59:59.000Z"}',
        ts_s=_utc(1969, 12, 31, 23, 59, 59),
    ),
    _row(
        "before the epoch",
        b'{"ts":"1969-12-31T23:59:59.5Z"}',
        ts=_utc(1969, 12, 31, 23, 59, 59, 500000),
    ),
    _row("year 1", b'{"ts":"0001-01-01T00:00:00Z"}', ts=_utc(1, 1, 1)),
    _row(
        "year 9999",
        b'{"ts":"9999-12-31T23:59:59.999999Z"}',
        ts=_utc(9999, 12, 31, 23, 59, 59, 999999),
    ),
    _row(
        "local time",
        b'{"local":"2024-02-29T12:34:56.789"}',
        local=datetime(2024, 2, 29, 12, 34, 56, 789000),
    ),
    _row(
        "escaped timestamp",
        rb'{"ts":"2024-02-29T12:34:56\u005a"}',
        ts=_utc(2024, 2, 29, 12, 34, 56),
    ),
    _row(
        "in a struct",
        b'{"o":{"ts":"2024-02-29T12:34:56Z"}}',
        o={"ts": _utc(2024, 2, 29, 12, 34, 56)},
    ),
    _refused("no such day", b'{"ts":"2023-02-29T00:00:00Z"}', "$.ts", _NO_TIMESTAMP),
    _refused("month 13", b'{"ts":"2024-13-01T00:00:00Z"}', "$.ts", _NO_TIMESTAMP),
    _refused("hour 24", b'{"ts":"2024-01-01T24:00:00Z"}', "$.ts", _NO_TIMESTAMP),
    _refused("leap second", b'{"ts":"2016-12-31T23:59:60Z"}', "$.ts", _NO_TIMESTAMP),
    _refused("year 0", b'{"ts":"0000-01-01T00:00:00Z"}', "$.ts", _NO_TIMESTAMP),
    _refused("offset hour 24", b'{"ts":"2024-01-01T00:00:00+24:00"}', "$.ts", _NO_TIMESTAMP),
    _refused("offset minute 60", b'{"ts":"2024-01-01T00:00:00+01:60"}', "$.ts", _NO_TIMESTAMP),
    _refused("offset without colon", b'{"ts":"2024-01-01T00:00:00+0100"}', "$.ts", _NO_TIMESTAMP),
    _refused("no offset", b'{"ts":"2024-01-01T00:00:00"}', "$.ts", _NO_TIMESTAMP),
    _refused("date only", b'{"ts":"2024-01-01"}', "$.ts", _NO_TIMESTAMP),
    _refused("no seconds", b'{"ts":"2024-01-01T00:00Z"}', "$.ts", _NO_TIMESTAMP),
    _refused("dot without digits", b'{"ts":"2024-01-01T00:00:00.Z"}', "$.ts", _NO_TIMESTAMP),
    _refused("comma for the dot", b'{"ts":"2024-01-01T00:00:00,5Z"}', "$.ts", _NO_TIMESTAMP),
    _refused("trailing newline", rb'{"ts":"2024-01-01T00:00:00Z\n"}', "$.ts", _NO_TIMESTAMP),
    _refused("leading space", b'{"ts":" 2024-01-01T00:00:00Z"}', "$.ts", _NO_TIMESTAMP),
    _refused("empty timestamp", b'{"ts":""}', "$.ts", _NO_TIMESTAMP),
    _refused("other digits", '{"ts":"٢024-01-01T00:00:00Z"}', "$.ts", _NO_TIMESTAMP),
    _refused("year 12024", b'{"ts":"12024-01-01T00:00:00Z"}', "$.ts", _NO_TIMESTAMP),
    _refused("negative year", b'{"ts":"-024-01-01T00:00:00Z"}', "$.ts", _NO_TIMESTAMP),
    _refused("zone for local time", b'{"local":"2024-01-01T00:00:00Z"}', "$.local", _NO_LOCAL),
    _refused(
        "offset for local time", b'{"local":"2024-01-01T00:00:00+00:00"}', "$.local", _NO_LOCAL
    ),
    _refused("no such local day", b'{"local":"2024-04-31T00:00:00"}', "$.local", _NO_LOCAL),
    _refused(
        "finer than microseconds",
        b'{"ts":"2024-01-01T00:00:00.1234567Z"}',
        "$.ts",
        "finer than timestamp[us]",
    ),
    _refused(
        "finer than seconds",
        b'{"ts_s":"2024-01-01T00:00:00.001Z"}',
        "$.ts_s",
        "finer than timestamp[s]",
    ),
    _refused(
        "ten digits",
        b'{"ts_ns":"2024-01-01T00:00:00.1000000000Z"}',
        "$.ts_ns",
        "finer than timestamp[ns]",
    ),
    _refused(
        "beyond nanoseconds",
        b'{"ts_ns":"2262-04-11T23:47:16.854775808Z"}',
        "$.ts_ns",
        "out of range for timestamp[ns]",
    ),
    _refused(
        "before nanoseconds",
        b'{"ts_ns":"1677-09-21T00:12:43.145224191Z"}',
        "$.ts_ns",
        "out of range for timestamp[ns]",
    ),
    _refused(
        "far beyond nanoseconds",
        b'{"ts_ns":"9999-12-31T23:59:59Z"}',
        "$.ts_ns",
        "out of range for timestamp[ns]",
    ),
    # --- dates, times, durations
    _row("date", b'{"d32":"2024-02-29","d64":"1969-12-31"}', d32=date(2024, 2, 29), d64=-_DAY_MS),
    _row("first date", b'{"d32":"0001-01-01"}', d32=date(1, 1, 1)),
    _row(
        "last date", b'{"d32":"9999-12-31","d64":"1970-01-02"}', d32=date(9999, 12, 31), d64=_DAY_MS
    ),
    _row("escaped date", rb'{"d32":"2024\u002d02-29"}', d32=date(2024, 2, 29)),
    _refused("no such date", b'{"d32":"2023-02-29"}', "$.d32", _NO_DATE),
    _refused("no such date in milliseconds", b'{"d64":"1900-02-29"}', "$.d64", _NO_DATE),
    _refused("date in year 0", b'{"d32":"0000-01-01"}', "$.d32", _NO_DATE),
    _refused("date with a time", b'{"d32":"2024-02-29T00:00:00Z"}', "$.d32", _NO_DATE),
    _refused("date without padding", b'{"d32":"2024-2-29"}', "$.d32", _NO_DATE),
    _refused("date without hyphens", b'{"d32":"20240229"}', "$.d32", _NO_DATE),
    _refused("date of a week", b'{"d32":"2024-W01-1"}', "$.d32", _NO_DATE),
    _refused("date with a newline", rb'{"d32":"2024-02-29\n"}', "$.d32", _NO_DATE),
    _refused("date in other digits", '{"d32":"٢024-02-29"}', "$.d32", _NO_DATE),
    _refused("empty date", b'{"d64":""}', "$.d64", _NO_DATE),
    _refused("days for date", b'{"d32":19000}', "$.d32", "expected a string, found a number"),
    _row(
        "time in every unit",
        b'{"t_s":"23:59:59","t_ms":"00:00:00.001","t_us":"12:34:56.1","t_ns":"00:00:00.000001000"}',
        t_s=time(23, 59, 59),
        t_ms=time(0, 0, 0, 1000),
        t_us=time(12, 34, 56, 100000),
        t_ns=time(0, 0, 0, 1),
    ),
    _row("time with zeros", b'{"t_s":"00:00:00.000000000"}', t_s=time()),
    _refused("time finer than seconds", b'{"t_s":"00:00:00.5"}', "$.t_s", "finer than time32[s]"),
    _refused(
        "time finer than milliseconds",
        b'{"t_ms":"00:00:00.0001"}',
        "$.t_ms",
        "finer than time32[ms]",
    ),
    _refused(
        "time finer than microseconds",
        b'{"t_us":"00:00:00.0000001"}',
        "$.t_us",
        "finer than time64[us]",
    ),
    _refused(
        "time of ten digits", b'{"t_ns":"00:00:00.1000000000"}', "$.t_ns", "finer than time64[ns]"
    ),
    _refused("time of hour 24", b'{"t_s":"24:00:00"}', "$.t_s", _NO_TIME),
    _refused("time of minute 60", b'{"t_s":"00:60:00"}', "$.t_s", _NO_TIME),
    _refused("time of second 60", b'{"t_us":"23:59:60"}', "$.t_us", _NO_TIME),
    _refused("time without seconds", b'{"t_s":"12:00"}', "$.t_s", _NO_TIME),
    _refused("time with a zone", b'{"t_s":"12:00:00Z"}', "$.t_s", _NO_TIME),
    _refused("time with a dot only", b'{"t_ms":"12:00:00."}', "$.t_ms", _NO_TIME),
    _refused("time with a date", b'{"t_ns":"2024-01-01T12:00:00"}', "$.t_ns", _NO_TIME),
    _refused("time without padding", b'{"t_s":"1:00:00"}', "$.t_s", _NO_TIME),
    _refused("seconds for time", b'{"t_s":1}', "$.t_s", "expected a string, found a number"),
    _row("duration", b'{"dur":-1500}', dur=timedelta(milliseconds=-1500)),
    _row("no duration at all", b'{"dur":-0}', dur=timedelta()),
    _refused("duration with a fraction", b'{"dur":1.0}', "$.dur", _FRACTION),
    _refused("duration as text", b'{"dur":"PT1S"}', "$.dur", "expected an integer, found a string"),
    _refused(
        "duration beyond int64",
        b'{"dur":9223372036854775808}',
        "$.dur",
        "out of range for duration[ms]",
    ),
    # --- decimals
    _row("decimal from a string", b'{"dec":"-12345678.90"}', dec=Decimal("-12345678.90")),
    _row("decimal from a number", b'{"dec":12345678.9}', dec=Decimal("12345678.90")),
    _row("decimal from an integer", b'{"dec":-7,"dec38":7}', dec=Decimal(-7), dec38=Decimal(7)),
    _row(
        "decimal that no double holds",
        b'{"dec":0.1,"dec38":' + b"9" * 38 + b"}",
        dec=Decimal("0.1"),
        dec38=Decimal("9" * 38),
    ),
    _row("lowest decimal128", b'{"dec38":"-' + b"9" * 38 + b'"}', dec38=Decimal("-" + "9" * 38)),
    _row(
        "highest decimal256",
        b'{"dec76":' + b"9" * 38 + b"." + b"9" * 38 + b"}",
        dec76=Decimal("9" * 38 + "." + "9" * 38),
    ),
    _row(
        "lowest decimal256",
        b'{"dec76":"-' + b"9" * 38 + b"." + b"9" * 38 + b'"}',
        dec76=Decimal("-" + "9" * 38 + "." + "9" * 38),
    ),
    _row("decimal with zeros behind", b'{"dec":1.2500000000000000000000000}', dec=Decimal("1.25")),
    _row(
        "decimal with an exponent",
        b'{"dec":12.5e-1,"tens":"1.2E+3"}',
        dec=Decimal("1.25"),
        tens=Decimal(1200),
    ),
    _row("decimal with a fraction and an exponent", b'{"dec38":"1.50e2"}', dec38=Decimal(150)),
    _row(
        "zero decimals",
        b'{"dec":-0,"dec38":"-0.000","tens":0e5,"tiny":"0e-99999999999999999999"}',
        dec=Decimal(0),
        dec38=Decimal(0),
        tens=Decimal(0),
        tiny=Decimal(0),
    ),
    _row("decimal with a negative scale", b'{"tens":9990}', tens=Decimal(9990)),
    _row("decimal that is all fraction", b'{"tiny":0.999}', tiny=Decimal("0.999")),
    _row("escaped decimal", rb'{"dec":"\u0031.5"}', dec=Decimal("1.5")),
    _refused("decimal too fine", b'{"dec":1.001}', "$.dec", "finer than decimal128(10, 2)"),
    _refused("decimal text too fine", b'{"dec":"1.001"}', "$.dec", "finer than decimal128(10, 2)"),
    _refused(
        "decimal too large", b'{"dec":100000000}', "$.dec", "out of range for decimal128(10, 2)"
    ),
    _refused(
        "decimal both too fine and too large",
        b'{"dec":100000000.001}',
        "$.dec",
        "finer than decimal128(10, 2)",
    ),
    _refused("ones for tens", b'{"tens":9991}', "$.tens", "finer than decimal128(3, -1)"),
    _refused("too many tens", b'{"tens":"10000"}', "$.tens", "out of range for decimal128(3, -1)"),
    _refused("decimal beyond tiny", b'{"tiny":1}', "$.tiny", "out of range for decimal256(3, 3)"),
    _refused(
        "decimal128 + 1",
        b'{"dec38":1' + b"0" * 38 + b"}",
        "$.dec38",
        "out of range for decimal128(38, 0)",
    ),
    _refused(
        "huge decimal",
        b'{"dec":"1e99999999999999999999"}',
        "$.dec",
        "out of range for decimal128(10, 2)",
    ),
    _refused("vanishing decimal", b'{"dec":1e-400}', "$.dec", "finer than decimal128(10, 2)"),
    _refused(
        "decimal of 5000 digits",
        b'{"dec":"' + b"1" * 5000 + b'"}',
        "$.dec",
        "out of range for decimal128(10, 2)",
    ),
    _malformed("infinite number for a decimal", b'{"dec":1e400}'),
    _malformed("decimal that is no number", b'{"dec":1.}'),
    _refused("empty decimal", b'{"dec":""}', "$.dec", "not a decimal number"),
    _refused("decimal with a plus sign", b'{"dec":"+1"}', "$.dec", "not a decimal number"),
    _refused("decimal with a leading zero", b'{"dec":"01"}', "$.dec", "not a decimal number"),
    _refused("decimal with a dot at the end", b'{"dec":"1."}', "$.dec", "not a decimal number"),
    _refused("decimal with a dot at the start", b'{"dec":".5"}', "$.dec", "not a decimal number"),
    _refused("decimal with a comma", b'{"dec":"1,5"}', "$.dec", "not a decimal number"),
    _refused("decimal with spaces", b'{"dec":" 1 "}', "$.dec", "not a decimal number"),
    _refused("decimal with a newline", rb'{"dec":"1\n"}', "$.dec", "not a decimal number"),
    _refused("decimal NaN", b'{"dec":"NaN"}', "$.dec", "not a decimal number"),
    _refused("decimal without an exponent", b'{"dec":"1e"}', "$.dec", "not a decimal number"),
    _refused("decimal in other digits", '{"dec":"٢"}', "$.dec", "not a decimal number"),
    _refused(
        "boolean for decimal",
        b'{"dec":true}',
        "$.dec",
        "expected a number or a string, found a boolean",
    ),
    _refused(
        "array for decimal",
        b'{"dec76":[]}',
        "$.dec76",
        "expected a number or a string, found an array",
    ),
    # --- dictionaries
    _row("dictionary", b'{"cat":"a","cat_i":-5}', cat="a", cat_i=-5),
    _row("null in a dictionary", b'{"cat":null}'),
    _row(
        "dictionaries in others",
        b'{"o":{"cat":"x"},"lcat":["QQ==",null,"Qg==","QQ=="],"mcat":{"k":"v","n":null}}',
        o={"cat": "x"},
        lcat=[b"A", None, b"B", b"A"],
        mcat=[("k", "v"), ("n", None)],
    ),
    _refused("number for dictionary", b'{"cat":1}', "$.cat", "expected a string, found a number"),
    _refused("dictionary out of range", b'{"cat_i":32768}', "$.cat_i", "out of range for int16"),
    _refused("no base64 in a dictionary", b'{"lcat":["x"]}', "$.lcat[0]", "not canonical base64"),
    _refused(
        "number in a map of dictionaries",
        b'{"mcat":{"k":1}}',
        "$.mcat.k",
        "expected a string, found a number",
    ),
    # --- nesting
    _row("empty object", b"{}"),
    _row("white space everywhere", b'\r\n{\t"i64" : 1 , "l" : [ 1 ,\n2 ] }\t', i64=1, l=[1, 2]),
    _row("explicit nulls", b'{"b":null,"s":null,"bin":null,"ts":null,"o":null,"l":null,"m":null}'),
    _row("empty containers", b'{"o":{},"l":[],"m":{},"lo":[{}]}', o={}, l=[], m=[], lo=[{}]),
    _row(
        "nulls in containers",
        b'{"o":{"in":null},"l":[null],"ll":[null,["x",null]],"m":{"k":null},"lo":[null]}',
        o={},
        l=[None],
        ll=[None, ["x", None]],
        m=[("k", None)],
        lo=[None],
    ),
    _row("map with an empty key", b'{"m":{"":1,"a b":2}}', m=[("", 1), ("a b", 2)]),
    _row(
        "map of structs",
        b'{"mo":{"a":{"x":1},"b":null,"c":{"q":1}}}',
        "$.mo[].q",
        mo=[("a", {"x": 1.0}), ("b", None), ("c", {})],
    ),
    _row(
        "unknown fields in items",
        b'{"lo":[{"q":1},{"q":{"r":1}},{"k":"x"}]}',
        "$.lo[].q",
        "$.lo[].q",
        lo=[{}, {}, {"k": "x"}],
    ),
    _row("unknown field in a struct", b'{"o":{"in":{"z z":1}}}', '$.o.in["z z"]', o={"in": {}}),
    _refused(
        "wrong kind in a struct",
        b'{"o":{"in":{"y":0}}}',
        "$.o.in.y",
        "expected a boolean, found a number",
    ),
    _refused(
        "wrong kind in a list",
        b'{"l":[1,null,"x"]}',
        "$.l[2]",
        "expected an integer, found a string",
    ),
    _refused("out of range in a list", b'{"l":[2147483648]}', "$.l[0]", "out of range for int32"),
    _refused(
        "wrong kind in a list of lists",
        b'{"ll":[[],["a","b",1]]}',
        "$.ll[1][2]",
        "expected a string, found a number",
    ),
    _refused(
        "wrong kind in a list of structs",
        b'{"lo":[{"k":"a"},{"k":"b","v":true}]}',
        "$.lo[1].v",
        "expected a number, found a boolean",
    ),
    _refused(
        "wrong kind in a map",
        b'{"m":{"a":1,"b c":"x"}}',
        '$.m["b c"]',
        "expected an integer, found a string",
    ),
    _refused(
        "wrong kind in a map of structs",
        b'{"mo":{"a":{},"b":{"x":[]}}}',
        "$.mo.b.x",
        "expected a number, found an array",
    ),
]
