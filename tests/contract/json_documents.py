"""Random schemas, and JSON documents that mostly fit them, as source text.

Written against `random.Random`, not as strategies of hypothesis: a document takes hundreds of
choices, and these are a hundred times cheaper.
"""

from __future__ import annotations

import base64
import json
from random import Random
from typing import Any

import pyarrow as pa

_TEXT = {b"sabot_ray:json": b"text"}
_NAMES = ["a", "b", "key", "c d", "é", "😀", "", 'q"\\', "1", "a\n"]

_LEAVES = [
    *(pa.field("", make()) for make in (pa.bool_, pa.float32, pa.float64, pa.string, pa.binary)),
    *(pa.field("", make()) for make in (pa.int8, pa.int16, pa.int32, pa.int64)),
    *(pa.field("", make()) for make in (pa.uint8, pa.uint16, pa.uint32, pa.uint64)),
    *(pa.field("", pa.timestamp(unit, "UTC")) for unit in ("s", "ms", "us", "ns")),
    *(pa.field("", pa.timestamp(unit)) for unit in ("s", "us", "ns")),
    pa.field("", pa.timestamp("ms", "+01:30")),
    *(pa.field("", make()) for make in (pa.date32, pa.date64)),
    *(pa.field("", pa.time32(unit)) for unit in ("s", "ms")),
    *(pa.field("", pa.time64(unit)) for unit in ("us", "ns")),
    *(pa.field("", pa.duration(unit)) for unit in ("s", "ns")),
    *(pa.field("", pa.decimal128(*digits)) for digits in ((1, 0), (10, 2), (5, -3), (38, 20))),
    *(pa.field("", pa.decimal256(*digits)) for digits in ((3, 3), (76, 30))),
    pa.field("", pa.dictionary(pa.int32(), pa.string())),
    pa.field("", pa.dictionary(pa.int64(), pa.decimal128(10, 2))),
    pa.field("", pa.dictionary(pa.uint32(), pa.date32())),
    pa.field("", pa.string(), metadata=_TEXT),
]

_CHARACTERS = "abc \"\\/\b\f\n\r\t\x00\x1f\x7f{}[],:'\x80éߡࠀ\u2028\ufeff\uffff😀\U0010ffff"

_NUMBERS = """
    0 -0 1 -1 7 127 128 -128 -129 255 256 32767 32768 -32769 65535 65536 2147483647 2147483648
    -2147483649 4294967295 4294967296 9007199254740993 9223372036854775807 9223372036854775808
    -9223372036854775808 -9223372036854775809 18446744073709551615 18446744073709551616
    340282356779733661637539395458142568447 340282356779733661637539395458142568448 3.4e38 1e39
    0.0 -0.0 1.0 1.5 -2.50 1e2 1E+2 1e-2 -0e1 0e999999999999 1e-400 3.4028235677973366e38
    1.7976931348623157e308 1.7976931348623158e308 2.2250738585072011e-308 5e-324 2e-324 0.1
    123456789.123456789 1.00000005960464477539063 8.7e-46 7e-46
""".split()  # noqa: SIM905

_STAMPS = """
    2024-02-29T12:34:56Z 2023-02-29T12:34:56Z 1969-12-31T23:59:59.5Z 2024-02-29t12:34:56z
    2024-01-01T00:00:00.000000001Z 2024-01-01T00:00:00.123000Z 2024-01-01T00:00:00.1234567890Z
    2024-01-01T00:00:60Z 2024-01-01T24:00:00Z 0000-01-01T00:00:00Z 0001-01-01T00:00:00+23:59
    9999-12-31T23:59:59-23:59 1677-09-21T00:12:43.145224192Z 1677-09-21T00:12:43.145224191Z
    2262-04-11T23:47:16.854775807Z 2262-04-11T23:47:16.854775808Z 2024-01-01T00:00:00+01:60
    2024-02-29T12:34:56 2024-01-01T00:00:00. 2024-01-01 2024-00-01T00:00:00Z 2024-1-1T00:00:00Z
""".split()  # noqa: SIM905

_MALFORMED = [
    *["1e400", "-1e400", "1.7976931348623159e308", "01", "1.", ".5", "+1", "-", "1e", "0x1"],
    *["NaN", "-Infinity", "tru", "nulls", "'a'", "", "[1,]", "{]", "[1}", '{"a"}', '{"a":}'],
    *['{"a":1,}', "{1:1}", "1,2", "1:2", '"a', '"a\nb"', r'"\ud800"', r'"\udc00"', r'"\x"'],
]

_BYTES = b'{}[],:"\\0-9.eEtfnu \n\x00\x1f\x7f\x80\xbf\xc0\xc2\xe0\xed\xef\xf0\xf4\xff'


class DocumentWriter:
    """Makes up schemas and documents.

    Args:
        random: Where all choices come from.
    """

    def __init__(self, random: Random) -> None:
        self._random = random

    def schema(self) -> pa.Schema:
        """Return one to four columns of any type, nested up to four deep."""
        return pa.schema(self._fields(1, 4, 0))

    def values(self, schema: pa.Schema) -> list[bytes | None]:
        """Return up to 40 values: most of them decode, some are tombstones, or broken."""
        return [self._value(schema) for _ in range(self._random.choice([0, 1, 3, 10, 40]))]

    def choice(self, names: list[str]) -> str:
        """Return one of the names."""
        return self._random.choice(names)

    def subset(self, names: list[str]) -> list[str]:
        """Return some of the names in any order, mostly all of them."""
        if self._chance(0.6):
            return names
        return self._random.sample(names, self._random.randint(1, len(names)))

    def any_json(self, depth: int = 0) -> str:
        """Return a JSON text of any kind; in rare cases one that is malformed or too deep."""
        kind = self._random.random()
        if kind < 0.002:
            return self._random.choice(_MALFORMED)
        if kind < 0.01:
            levels = self._random.choice([100, 126, 127, 128, 140, 1100])
            return "[" * levels + "]" * levels
        if kind < 0.2 and depth < 3:
            return self._array(self.any_json(depth + 1) for _ in range(self._random.randint(0, 3)))
        if kind < 0.38 and depth < 3:
            return self._object(
                (self._word(), self.any_json(depth + 1)) for _ in range(self._random.randint(0, 3))
            )
        if kind < 0.6:
            return self._number()
        if kind < 0.8:
            return self._quoted(self._word())
        return self._random.choice(["null", "true", "false", "{}", "[]"])

    def mutated(self, value: bytes) -> bytes:
        """Return the value with a byte inserted, replaced or removed."""
        at = self._random.randint(0, len(value))
        byte = bytes([self._random.choice(_BYTES)])
        return self._random.choice(
            [
                value[:at] + byte + value[at:],
                value[:at] + byte + value[at + 1 :],
                value[:at] + value[at + 1 :],
            ]
        )

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _fields(self, least: int, most: int, depth: int) -> list[pa.Field[Any]]:
        names = self._random.sample(_NAMES, self._random.randint(least, most))
        return [self._field(depth).with_name(name) for name in names]

    def _field(self, depth: int) -> pa.Field[Any]:
        kind = self._random.random()
        if depth > 3 or kind < 0.6:
            return self._random.choice(_LEAVES)
        if kind < 0.75:
            return pa.field("", pa.list_(self._field(depth + 1).with_name("item")))
        if kind < 0.87:
            return pa.field("", pa.map_(pa.string(), self._field(depth + 1).with_name("value")))
        return pa.field("", pa.struct(self._fields(1, 3, depth + 1)))

    def _value(self, schema: pa.Schema) -> bytes | None:
        kind = self._random.random()
        if kind < 0.04:
            return None
        if kind < 0.05:
            return self._random.choice([b"", b" ", b"[]", b"null", b"1", b'"x"', b"\xff"])
        value = f"{self._space()}{self._record(list(schema))}{self._space()}".encode()
        return self.mutated(value) if kind < 0.1 else value

    def _space(self) -> str:
        return self._random.choice(["", "", "", "", " ", "\n", "\t ", "\r\n"])

    def _array(self, items: Any) -> str:
        return "[" + ",".join(f"{self._space()}{item}" for item in items) + self._space() + "]"

    def _object(self, entries: Any) -> str:
        texts = (
            f"{self._space()}{self._quoted(key)}{self._space()}:{self._space()}{value}"
            for key, value in entries
        )
        return "{" + ",".join(texts) + self._space() + "}"

    def _record(self, fields: list[pa.Field[Any]]) -> str:
        """An object with some of the fields in any order, unknown ones, and duplicates."""
        chosen = self._random.sample(fields, self._random.randint(0, len(fields)))
        if fields and self._chance(0.15):
            chosen += self._random.choices(fields, k=2)
        entries = [(field.name, self._fitting(field)) for field in chosen]
        if self._chance(0.15):
            entries.append((self._word(), self.any_json()))
            self._random.shuffle(entries)
        return self._object(entries)

    def _fitting(self, field: pa.Field[Any]) -> str:
        """A value that in most cases fits the column."""
        kind = self._random.random()
        arrow_type: Any = field.type
        if pa.types.is_dictionary(arrow_type):
            return self._fitting(field.with_type(arrow_type.value_type))
        if kind < 0.08:
            return "null"
        if kind < 0.1 or field.metadata:
            return self.any_json()
        if pa.types.is_struct(arrow_type):
            return self._record(list(arrow_type))
        if pa.types.is_list(arrow_type):
            count = self._random.randint(0, 4)
            return self._array(self._fitting(arrow_type.value_field) for _ in range(count))
        if pa.types.is_map(arrow_type):
            return self._record([arrow_type.item_field.with_name(name) for name in _NAMES[:4]])
        if pa.types.is_boolean(arrow_type):
            return self._random.choice(["true", "false"])
        if pa.types.is_timestamp(arrow_type):
            return self._quoted(self._stamp(arrow_type.tz is not None))
        if pa.types.is_date(arrow_type):
            return self._quoted(self._stamp(zoned=False)[: 10 if self._chance(0.95) else 19])
        if pa.types.is_time(arrow_type):
            return self._quoted(self._stamp(zoned=self._chance(0.05))[11:])
        if pa.types.is_decimal(arrow_type):
            return self._decimal(arrow_type)
        if pa.types.is_binary(arrow_type):
            return self._quoted(self._base64())
        if pa.types.is_string(arrow_type):
            return self._quoted(self._word())
        is_integer = pa.types.is_integer(arrow_type) or pa.types.is_duration(arrow_type)
        if is_integer and self._chance(0.95):
            lowest = -(1 << arrow_type.bit_width - 1) if str(arrow_type)[0] in "id" else 0
            highest = lowest + (1 << arrow_type.bit_width) - 1
            return str(
                self._random.choice([self._random.randint(lowest, highest), lowest, highest])
            )
        return self._number()

    def _word(self) -> str:
        if self._chance(0.5):
            return self._random.choice(_NAMES)
        return "".join(self._random.choices(_CHARACTERS, k=self._random.randint(0, 20)))

    def _quoted(self, word: str) -> str:
        """A string token; its characters are escaped or not, as it comes."""
        style = self._random.random()
        if style < 0.6:
            return json.dumps(word, ensure_ascii=False)
        if style < 0.8:
            return json.dumps(word).replace("/", "\\/")
        return '"' + "".join(self._escaped(character) for character in word) + '"'

    def _escaped(self, character: str) -> str:
        if self._chance(0.5):
            return json.dumps(character, ensure_ascii=False)[1:-1]
        units = character.encode("utf-16-be").hex()
        units = units.upper() if self._chance(0.3) else units
        return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))

    def _digits(self, most: int) -> str:
        return "".join(self._random.choices("0123456789", k=self._random.randint(1, most)))

    def _number(self) -> str:
        kind = self._random.random()
        if kind < 0.3:
            return str(self._random.randint(-130, 300))
        if kind < 0.5:
            return self._random.choice(_NUMBERS)
        if kind < 0.6:
            border = 1 << self._random.randint(0, 70)
            return str(self._random.choice([1, -1]) * border + self._random.randint(-2, 2))
        if kind < 0.65:
            return repr(self._random.uniform(1, 2) * 10.0 ** self._random.randint(-320, 306))
        text = self._random.choice(["", "-"])
        text += self._digits(self._random.choice([3, 20, 40])).lstrip("0") or "0"
        if self._chance(0.7):
            text += "." + self._digits(self._random.choice([3, 20, 400]))
        if self._chance(0.5):
            sign = self._random.choice(["", "+", "-"])
            exponent = self._random.randint(0, self._random.choice([5, 40, 260]))
            text += f"{self._random.choice('eE')}{sign}{exponent}"
        return text

    def _decimal(self, arrow_type: Any) -> str:
        """A number or a string, of about as many digits as the type has."""
        if self._chance(0.1):
            text = self._number()
        else:
            digits = self._digits(max(1, arrow_type.precision - max(arrow_type.scale, 0)))
            text = self._random.choice(["", "-"]) + (digits.lstrip("0") or "0")
            if arrow_type.scale > 0 and self._chance(0.7):
                text += "." + self._digits(arrow_type.scale) + "0" * self._random.randint(0, 3)
            if arrow_type.scale < 0 or self._chance(0.2):
                text += f"e{self._random.randint(-arrow_type.scale - 2, 3 - arrow_type.scale)}"
        if self._chance(0.03):
            text = self._random.choice(["", "+1", "1.", ".5", "01", "1e", "0x1", "1_0", "inf"])
            return f'"{text}"'
        return f'"{text}"' if self._chance(0.5) else text

    def _stamp(self, zoned: bool) -> str:
        if self._chance(0.1):
            return self._random.choice(_STAMPS)
        odd = self._chance(0.05)
        year = self._random.choice([self._random.randint(1 - odd, 9999), 1677, 1970, 2262])
        month = self._random.randint(1 - odd, 12 + odd)
        day = self._random.randint(1 - odd, 28 + 4 * odd)
        hour = self._random.randint(0, 23 + odd)
        minute = self._random.randint(0, 59 + odd)
        text = f"{year:04}-{month:02}-{day:02}{self._random.choice('TTt ')}{hour:02}:{minute:02}"
        text += f":{self._random.randint(0, 59 + odd):02}"
        if self._chance(0.3):
            text += "." + self._digits(4) + "0" * self._random.randint(0, 6)
        if zoned != odd:
            zones = ["Z", "Z", "z", "+00:00", "-00:00", "+05:45", "-23:59", "+24:00", "+0100"]
            text += self._random.choice(zones[:-2] if not odd else zones)
        return text

    def _base64(self) -> str:
        text = base64.b64encode(self._random.randbytes(self._random.randint(0, 7))).decode()
        kind = self._random.random()
        if kind < 0.9:
            return text
        if kind < 0.93:
            return text.rstrip("=")
        if kind < 0.96:
            return "".join(self._random.choices("AQIDRw+/=-_", k=self._random.randint(0, 8)))
        at = self._random.randint(0, len(text))
        return text[:at] + self._random.choice("=A\n é-") + text[at + self._random.randint(0, 1) :]
