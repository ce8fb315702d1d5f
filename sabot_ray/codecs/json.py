"""JSON objects to Arrow columns: the codec's description, and its pure-Python decoder.

The decoder has two ways to the same result. A run of values is read by orjson and built column by
column, the kinds of all values of a column checked at once. What is irregular there (because it is
wrong, or because orjson forgets how a number or a string was written) is halved until few values
are left, and these are read token by token. Only the second way decides what is wrong with a value.
"""

from __future__ import annotations

import binascii
import gc
import itertools
import json
import re
import struct
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, ClassVar, Final, Literal

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from sabot_ray.codecs.codec import VALUE_ROOT, Codec, Decoded, Rejected, UnknownFields
from sabot_ray.codecs.dictionaries import encode_array, plain_schema
from sabot_ray.codecs.json_document import (
    SHALLOW,
    Document,
    Node,
    Unfit,
    is_integer,
    is_too_deep,
    kind,
    parse_document,
    text_of,
)
from sabot_ray.codecs.json_encoder import JsonEncoder
from sabot_ray.errors import ConfigError
from sabot_ray.schema import RESCUED_COLUMN, can_be_column, is_json_text, path_step


@dataclass(frozen=True)
class JsonCodec(Codec):
    """Reads and writes each value as one JSON object; `docs/json.md` is the mapping.

    Attributes:
        schema: The fields that become columns, in order; see
            `sabot_ray.schema.check_value_schema`.
        unknown_fields: What to do with a field that the schema does not know: ``"ignore"`` counts
            it, ``"rescue"`` keeps it in one more column, ``_rescued``, ``"evolve"`` (streams only)
            appends a column, ``"fail"`` makes it a decode error.

    Raises:
        ConfigError: The schema has a field of that name itself.
    """

    name: ClassVar[str] = "json"
    schema: pa.Schema
    unknown_fields: UnknownFields = "ignore"

    def __post_init__(self) -> None:
        if self.unknown_fields == "rescue" and RESCUED_COLUMN in self.schema.names:
            raise ConfigError(
                f"schema: field ${path_step(RESCUED_COLUMN)}: unknown_fields='rescue' adds a "
                "column of this name; leave it out, and the field is rescued, too"
            )

    @property
    def columns(self) -> pa.Schema:
        """See `Codec.columns`."""
        if self.unknown_fields != "rescue":
            return self.schema
        return pa.schema([*self.schema, pa.field(RESCUED_COLUMN, pa.string())])

    def decoder(
        self,
        columns: Sequence[str],
        on_error: Literal["fail", "skip"] = "fail",
        root: str = VALUE_ROOT,
    ) -> JsonDecoder:
        """See `Codec.decoder`."""
        return JsonDecoder(self, columns, on_error, root)

    def encoder(self) -> JsonEncoder:
        """See `Codec.encoder`."""
        return JsonEncoder(self.columns)


_UNKNOWN: Final = "unknown field"
#: Longer names of unknown fields pass uncounted, in bytes; see docs/json.md.
_LONGEST_UNKNOWN_NAME: Final = 256


class _NewField(Unfit):
    """There is a field that the schema is to learn."""

    def __init__(self) -> None:
        super().__init__(_UNKNOWN)


class _Irregular(Exception):
    """Some of these values cannot be built as columns."""


class _NeedsTokens(_Irregular):
    """Most of these values cannot be built as columns: halving them is of no use."""


# --- one reader per Arrow type -------------------------------------------------------------------


_NULL: Final = {type(None)}


class _Reader(ABC):
    """Builds one column.

    Args:
        arrow_type: The column's type.
    """

    #: What a column may hold apart from null; None where pyarrow refuses everything else by itself.
    takes: frozenset[type] | None = None
    expected: str

    def __init__(self, arrow_type: pa.DataType) -> None:
        # Any, because the stubs know a type's parameters only by its class.
        self.type: Any = arrow_type

    def array(self, values: list[Any], unknown: Counter[str]) -> pa.Array[Any]:
        """Build the column from orjson's values; None is null.

        Raises:
            _Irregular: A value needs a closer look.
        """
        # pyarrow would take 1.5 for an integer, and True for a float.
        if self.takes is not None and not self.takes.issuperset(set(map(type, values)) - _NULL):
            raise _Irregular
        try:
            return self._array(values, unknown)
        except (Unfit, pa.ArrowException, OverflowError):
            raise _Irregular from None

    def value(self, node: Node, tokens: list[str], unknown: Counter[str]) -> Any:
        """Return the Python value that stands for the node in `pyarrow.array`.

        Raises:
            Unfit: It does not fit the column.
        """
        token = tokens[node.start]
        return None if token == "null" else self._value(token, node, tokens, unknown)

    def _array(self, values: list[Any], unknown: Counter[str]) -> pa.Array[Any]:
        array: pa.Array[Any] = pa.array(values, self.type)
        return array

    @abstractmethod
    def _value(self, token: str, node: Node, tokens: list[str], unknown: Counter[str]) -> Any:
        pass

    def _wrong_kind(self, token: str) -> Unfit:
        return Unfit(f"expected {self.expected}, found {kind(token)}")


class _BoolReader(_Reader):
    expected = "a boolean"

    def _value(self, token: str, node: Node, tokens: list[str], unknown: Counter[str]) -> bool:
        if token not in ("true", "false"):
            raise self._wrong_kind(token)
        return token == "true"


class _IntReader(_Reader):
    takes = frozenset({int})
    expected = "an integer"

    def __init__(self, arrow_type: Any) -> None:
        super().__init__(arrow_type)
        # Durations are signed, too.
        signed = not pa.types.is_unsigned_integer(arrow_type)
        self._lowest = -(1 << arrow_type.bit_width - 1) if signed else 0
        self._highest = (1 << arrow_type.bit_width - signed) - 1

    def _value(self, token: str, node: Node, tokens: list[str], unknown: Counter[str]) -> int:
        if kind(token) != "a number":
            raise self._wrong_kind(token)
        if not is_integer(token):
            raise Unfit("expected an integer, found a number with a fraction or an exponent")
        number = int(token)
        if not self._lowest <= number <= self._highest:
            raise Unfit(f"out of range for {self.type}")
        return number


class _FloatReader(_Reader):
    takes = frozenset({float, int})
    expected = "a number"

    def _array(self, values: list[Any], unknown: Counter[str]) -> pa.Array[Any]:
        try:
            doubles = pa.array(values, pa.float64())
        except pa.ArrowInvalid:
            # pyarrow refuses integers beyond 2^53; float() rounds them to the nearest.
            rounded = [None if value is None else float(value) for value in values]
            doubles = pa.array(rounded, pa.float64())
        if self.type == pa.float64():
            return doubles
        floats = doubles.cast(pa.float32())
        if pc.any(pc.is_inf(floats)).as_py():
            raise _Irregular
        return floats

    def _value(self, token: str, node: Node, tokens: list[str], unknown: Counter[str]) -> float:
        if kind(token) != "a number":
            raise self._wrong_kind(token)
        number = 0.0 if token == "-0" else float(token)
        if self.type == pa.float32():
            try:
                struct.pack("<f", number)
            except OverflowError:
                raise Unfit("out of range for float32") from None
        return number


class _StringReader(_Reader):
    expected = "a string"

    def _value(self, token: str, node: Node, tokens: list[str], unknown: Counter[str]) -> Any:
        if token[0] != '"':
            raise self._wrong_kind(token)
        return self._parse(text_of(token))

    def _parse(self, text: str) -> Any:
        return text


class _ParsedReader(_StringReader):
    takes = frozenset({str})

    def _array(self, values: list[Any], unknown: Counter[str]) -> pa.Array[Any]:
        parsed = [None if text is None else self._parse(text) for text in values]
        return super()._array(parsed, unknown)


class _BinaryReader(_ParsedReader):
    def _parse(self, text: str) -> bytes:
        try:
            data = binascii.a2b_base64(text, strict_mode=True)
        except ValueError:
            raise Unfit("not canonical base64") from None
        # The strict mode lets unused bits pass.
        if binascii.b2a_base64(data, newline=False) != text.encode():
            raise Unfit("not canonical base64")
        return data


_UNITS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_EPOCH: Final = date(1970, 1, 1).toordinal()
_DATE: Final = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])(?:\.([0-9]+))?")
_TIMESTAMP: Final = re.compile(
    rf"(?P<date>{_DATE.pattern})[Tt ](?P<time>{_TIME.pattern})"
    r"(?:(?P<zulu>[Zz])|(?P<sign>[+-])(?P<hours>[01][0-9]|2[0-3]):(?P<minutes>[0-5][0-9]))?"
)
# What Arrow's own parser reads in the same way, whatever the unit: years within int64 nanoseconds.
_PLAIN_DATE: Final = r"^(?:1[7-9]|20|21)[0-9]{2}-[0-9]{2}-[0-9]{2}"
_PLAIN_TIMESTAMP: Final = (
    _PLAIN_DATE + r"[T ](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?"
)


def _days(text: str) -> int | None:
    """Return the days of a date since 1970-01-01; None if it is no date."""
    match = _DATE.fullmatch(text)
    try:
        return date(*map(int, match.groups())).toordinal() - _EPOCH if match else None
    except ValueError:
        return None


def _in_units(match: re.Match[str], arrow_type: Any) -> int:
    """Return the time of day that `_TIME` found in the type's unit.

    Raises:
        Unfit: It has digits that the unit cannot hold, or more than nine.
    """
    digits = _UNITS[arrow_type.unit]
    fraction = match[4] or ""
    if len(fraction) > 9 or fraction[digits:].strip("0"):
        # A timestamp's zone does not matter here.
        raise Unfit(f"finer than {str(arrow_type).split(',')[0].removesuffix(']')}]")
    seconds = int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3])
    number: int = seconds * 10**digits + int(f"{fraction[:digits]:0<{digits}}" or 0)
    return number


class _TimestampReader(_StringReader):
    def __init__(self, arrow_type: Any) -> None:
        super().__init__(arrow_type)
        self._second = 10 ** _UNITS[arrow_type.unit]
        self._has_zone = arrow_type.tz is not None
        self._plain = _PLAIN_TIMESTAMP + ("Z$" if self._has_zone else "$")

    def _array(self, values: list[Any], unknown: Counter[str]) -> pa.Array[Any]:
        texts = pa.array(values, pa.string())
        if pc.all(pc.match_substring_regex(texts, self._plain), min_count=0).as_py():
            try:
                utc = texts.cast(pa.timestamp(self.type.unit, "UTC" if self._has_zone else None))
                return utc.view(self.type)
            except pa.ArrowInvalid:
                pass  # Finer than the unit, which trailing zeros may be; or no such day.
        parsed = [None if text is None else self._parse(text) for text in values]
        return pa.array(parsed, pa.int64()).view(self.type)

    def _parse(self, text: str) -> int:
        match = _TIMESTAMP.fullmatch(text)
        if not match or self._has_zone != bool(match["zulu"] or match["sign"]):
            raise self._no_timestamp()
        days = _days(match["date"])
        time = _TIME.fullmatch(match["time"])
        if days is None or time is None:
            raise self._no_timestamp()
        seconds = days * 86400
        if match["sign"]:
            ahead = int(match["hours"]) * 3600 + int(match["minutes"]) * 60
            seconds += ahead if match["sign"] == "-" else -ahead
        number: int = seconds * self._second + _in_units(time, self.type)
        if not -(1 << 63) <= number < 1 << 63:
            raise Unfit(f"out of range for timestamp[{self.type.unit}]")
        return number

    def _no_timestamp(self) -> Unfit:
        if self._has_zone:
            return Unfit("not an RFC 3339 timestamp")
        return Unfit("not a timestamp without an offset")


class _DateReader(_StringReader):
    def _array(self, values: list[Any], unknown: Counter[str]) -> pa.Array[Any]:
        texts = pa.array(values, pa.string())
        if pc.all(pc.match_substring_regex(texts, _PLAIN_DATE + "$"), min_count=0).as_py():
            # No such day: it says so, and the tokens are read.
            return texts.cast(self.type)
        parsed = [None if text is None else self._parse(text) for text in values]
        return super()._array(parsed, unknown)

    def _parse(self, text: str) -> int:
        days = _days(text)
        if days is None:
            raise Unfit("not a date YYYY-MM-DD")
        return days if self.type == pa.date32() else days * 86_400_000


class _TimeReader(_ParsedReader):
    def _parse(self, text: str) -> int:
        match = _TIME.fullmatch(text)
        if not match:
            raise Unfit("not a time hh:mm:ss[.fraction]")
        return _in_units(match, self.type)


_DECIMAL: Final = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?)([0-9]+))?")
# Exponents with more digits are all alike, and Python converts no integer of any length.
_EXPONENT_DIGITS: Final = 12


class _DecimalReader(_Reader):
    takes = frozenset({str, int, float})
    expected = "a number or a string"

    def _array(self, values: list[Any], unknown: Counter[str]) -> pa.Array[Any]:
        if float in set(map(type, values)):
            # A float has forgotten its digits.
            raise _NeedsTokens
        parsed = [None if value is None else self._parse(str(value)) for value in values]
        return super()._array(parsed, unknown)

    def _value(self, token: str, node: Node, tokens: list[str], unknown: Counter[str]) -> Decimal:
        if kind(token) not in ("a number", "a string"):
            raise self._wrong_kind(token)
        return self._parse(text_of(token) if token[0] == '"' else token)

    def _parse(self, text: str) -> Decimal:
        match = _DECIMAL.fullmatch(text)
        if not match:
            raise Unfit("not a decimal number")
        integer, fraction = match[2], match[3] or ""
        exponent = (match[5] or "").lstrip("0")
        shift = int(exponent or 0) if len(exponent) <= _EXPONENT_DIGITS else 10**_EXPONENT_DIGITS
        digits = (integer + fraction).lstrip("0")
        # How many of the digits belong to the unscaled integer; zeros follow if there are less.
        kept = len(digits) - len(fraction) + (-shift if match[4] == "-" else shift)
        kept += self.type.scale
        if digits[max(kept, 0) :].strip("0"):
            raise Unfit(f"finer than {self.type}")
        if not digits:
            return Decimal((0, (0,), -self.type.scale))
        if kept > self.type.precision:
            raise Unfit(f"out of range for {self.type}")
        unscaled = f"{digits[:kept]:0<{kept}}"
        return Decimal((match[1] == "-", tuple(map(int, unscaled)), -self.type.scale))


class _TextReader(_Reader):
    """Keeps the source text of whatever the field contains."""

    def array(self, values: list[Any], unknown: Counter[str]) -> pa.Array[Any]:
        if values.count(None) < len(values):
            raise _NeedsTokens
        return super().array(values, unknown)

    def _value(self, token: str, node: Node, tokens: list[str], unknown: Counter[str]) -> str:
        return "".join(tokens[node.start : node.end])


class _StructReader(_Reader):
    """Builds a struct; also the whole document.

    Args:
        arrow_type: The struct's type.
        path: Where it stands in the schema.
        unknown_fields: What to do with a field that the type does not know.
        built: The fields to build; the others are known, and not looked at.
    """

    takes = frozenset({dict})
    expected = "an object"

    def __init__(
        self,
        arrow_type: Any,
        path: str,
        unknown_fields: UnknownFields,
        built: Iterable[str] | None = None,
    ) -> None:
        super().__init__(arrow_type)
        self.path = path
        self.unknown_fields = unknown_fields
        # The schema learns fields of the document only.
        below: UnknownFields = "ignore" if unknown_fields == "evolve" else unknown_fields
        self.known = frozenset(inner.name for inner in arrow_type)
        self.fields = {
            name: _reader(arrow_type.field(name), path + path_step(name), below)
            for name in ([inner.name for inner in arrow_type] if built is None else built)
        }

    def columns(self, values: list[dict[str, Any]], unknown: Counter[str]) -> list[pa.Array[Any]]:
        """Build the fields' columns from the objects."""
        only_built = sum(map(len, values)) == len(values) * len(self.fields)
        try:
            columns = [[value[name] for value in values] for name in self.fields]
        except KeyError:
            only_built = False
            columns = [[value.get(name) for value in values] for name in self.fields]
        if not only_built:
            self._count_unknown(values, unknown)
        return [
            reader.array(column, unknown)
            for reader, column in zip(self.fields.values(), columns, strict=True)
        ]

    def _count_unknown(self, values: list[dict[str, Any]], unknown: Counter[str]) -> None:
        names = set().union(*values) - self.known
        if not names:
            return
        if self.unknown_fields == "evolve":
            if any(map(can_be_column, names)):
                raise _Irregular
        elif self.unknown_fields != "ignore":
            raise _Irregular
        # In the order in which they are met: a source counts only the first 10,000 paths.
        for name, count in Counter(itertools.chain.from_iterable(values)).items():
            if name in names and _is_counted(name):
                unknown[self.path + path_step(name)] += count

    def _array(self, values: list[Any], unknown: Counter[str]) -> pa.Array[Any]:
        columns = self.columns([value or {} for value in values], unknown)
        mask = pa.array([value is None for value in values], pa.bool_()) if None in values else None
        return pa.StructArray.from_arrays(columns, fields=list(self.type), mask=mask)

    def _value(
        self, token: str, node: Node, tokens: list[str], unknown: Counter[str]
    ) -> dict[str, Any]:
        if not isinstance(node.content, dict):
            raise self._wrong_kind(token)
        row: dict[str, Any] = dict.fromkeys(self.fields)
        for name, child in node.content.items():
            try:
                if name in self.fields:
                    row[name] = self.fields[name].value(child, tokens, unknown)
                elif name not in self.known:
                    if self.unknown_fields == "evolve" and can_be_column(name):
                        raise _NewField
                    if self.unknown_fields == "fail":
                        raise Unfit(_UNKNOWN)
                    if _is_counted(name):
                        unknown[self.path + path_step(name)] += 1
            except Unfit as unfit:
                unfit.path = path_step(name) + unfit.path
                raise
        return row


def _is_counted(name: str) -> bool:
    """Tell whether an unknown field is counted by name: keys that are data may be of any length."""
    return len(name.encode()) <= _LONGEST_UNKNOWN_NAME


def _offsets(values: list[Any]) -> pa.Array[Any]:
    """Return the offsets of lists or objects; a null one's start is null, as pyarrow wants it."""
    ends = list(itertools.accumulate((len(value) if value else 0 for value in values), initial=0))
    starts = [None if value is None else start for value, start in zip(values, ends, strict=False)]
    return pa.array([*starts, ends[-1]], pa.int32())


class _ListReader(_Reader):
    takes = frozenset({list})
    expected = "an array"

    def __init__(self, arrow_type: Any, path: str, unknown_fields: UnknownFields) -> None:
        super().__init__(arrow_type)
        self._items = _reader(arrow_type.value_field, f"{path}[]", unknown_fields)

    def _array(self, values: list[Any], unknown: Counter[str]) -> pa.Array[Any]:
        items = list(itertools.chain.from_iterable(filter(None, values)))
        array = self._items.array(items, unknown)
        # The stubs want the type as an instance of its generic class.
        from_arrays: Any = pa.ListArray.from_arrays
        lists: pa.Array[Any] = from_arrays(_offsets(values), array, type=self.type)
        return lists

    def _value(self, token: str, node: Node, tokens: list[str], unknown: Counter[str]) -> list[Any]:
        if not isinstance(node.content, list):
            raise self._wrong_kind(token)
        row = []
        for index, child in enumerate(node.content):
            try:
                row.append(self._items.value(child, tokens, unknown))
            except Unfit as unfit:
                unfit.path = f"[{index}]{unfit.path}"
                raise
        return row


class _MapReader(_Reader):
    takes = frozenset({dict})
    expected = "an object"

    def __init__(self, arrow_type: Any, path: str, unknown_fields: UnknownFields) -> None:
        super().__init__(arrow_type)
        self._items = _reader(arrow_type.item_field, f"{path}[]", unknown_fields)

    def _array(self, values: list[Any], unknown: Counter[str]) -> pa.Array[Any]:
        keys = list(itertools.chain.from_iterable(filter(None, values)))
        items = [item for value in values if value for item in value.values()]
        arrays = pa.array(keys, pa.string()), self._items.array(items, unknown)
        from_arrays: Any = pa.MapArray.from_arrays
        maps: pa.Array[Any] = from_arrays(_offsets(values), *arrays, type=self.type)
        return maps

    def _value(
        self, token: str, node: Node, tokens: list[str], unknown: Counter[str]
    ) -> list[tuple[str, Any]]:
        if not isinstance(node.content, dict):
            raise self._wrong_kind(token)
        row = []
        for key, child in node.content.items():
            try:
                row.append((key, self._items.value(child, tokens, unknown)))
            except Unfit as unfit:
                unfit.path = path_step(key) + unfit.path
                raise
        return row


def _reader(column: pa.Field[Any], path: str, unknown_fields: UnknownFields) -> _Reader:
    arrow_type = column.type
    if pa.types.is_struct(arrow_type):
        return _StructReader(arrow_type, path, unknown_fields)
    if pa.types.is_map(arrow_type):
        return _MapReader(arrow_type, path, unknown_fields)
    if pa.types.is_list(arrow_type):
        return _ListReader(arrow_type, path, unknown_fields)
    if is_json_text(column):
        return _TextReader(arrow_type)
    if pa.types.is_timestamp(arrow_type):
        return _TimestampReader(arrow_type)
    if pa.types.is_date(arrow_type):
        return _DateReader(arrow_type)
    if pa.types.is_time(arrow_type):
        return _TimeReader(arrow_type)
    if pa.types.is_decimal(arrow_type):
        return _DecimalReader(arrow_type)
    if pa.types.is_binary(arrow_type):
        return _BinaryReader(arrow_type)
    if pa.types.is_string(arrow_type):
        return _StringReader(arrow_type)
    if pa.types.is_boolean(arrow_type):
        return _BoolReader(arrow_type)
    if pa.types.is_integer(arrow_type) or pa.types.is_duration(arrow_type):
        return _IntReader(arrow_type)
    return _FloatReader(arrow_type)


# --- the decoder ---------------------------------------------------------------------------------

# A run of values of about this size, as Python objects, stays in the processor's cache while its
# columns are built.
_RUN_BYTES: Final = 160 << 10
# Halving stops here.
_FEW: Final = 8


@dataclass
class _Result:
    """What has been decoded so far; a part has an array per column."""

    parts: list[list[pa.Array[Any]]]
    rejected: list[Rejected] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)


def _run_length(values: Sequence[bytes | None]) -> int:
    sizes = [len(value) for value in values[:64] if value]
    return max(64, min(1024, _RUN_BYTES * len(sizes) // (sum(sizes) or 1)))


class JsonDecoder:
    """See `Decoder`.

    Args:
        codec: The mapping; its schema has passed `sabot_ray.schema.check_value_schema`.
        columns: See `Codec.decoder`, as the others.
        on_error: ``"fail"`` or ``"skip"``.
        root: Where the paths of fields begin.
    """

    def __init__(
        self,
        codec: JsonCodec,
        columns: Sequence[str],
        on_error: Literal["fail", "skip"] = "fail",
        root: str = VALUE_ROOT,
    ) -> None:
        self._rescued_at = (
            list(columns).index(RESCUED_COLUMN)
            if codec.unknown_fields == "rescue" and RESCUED_COLUMN in columns
            else None
        )
        unknown_fields = codec.unknown_fields
        if unknown_fields == "rescue" and self._rescued_at is None:
            unknown_fields = "ignore"
        built = [name for at, name in enumerate(columns) if at != self._rescued_at]
        fields = pa.struct(list(plain_schema(codec.schema)))
        self._document = _StructReader(fields, root, unknown_fields, built)
        # Where columns that may hold unknown fields are not built, only the tokens show them.
        self._hides_unknown = any(
            field.name not in built and _may_hold_unknown(field.type) for field in fields
        )
        self._types = [codec.columns.field(name).type for name in columns]
        self._stop = on_error == "fail"

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """See `Decoder.decode`."""
        plain = [reader.type for reader in self._document.fields.values()]
        result = _Result([self._with_rescued([pa.array([], of) for of in plain], [])])
        length = _run_length(values)
        for start in range(0, len(values), length):
            self._run(values[start : start + length], start, result)
            if self._is_over(result):
                break
        end = result.rejected[-1].index if self._is_over(result) else len(values)
        bad = {value.index for value in result.rejected}
        columns = [pa.concat_arrays(arrays) for arrays in zip(*result.parts, strict=True)]
        return Decoded(
            [encode_array(*column) for column in zip(columns, self._types, strict=True)],
            [index for index in range(end) if index not in bad] if bad else range(end),
            result.rejected,
            dict(result.unknown),
        )

    def _is_over(self, result: _Result) -> bool:
        return bool(result.rejected) and (self._stop or result.rejected[-1].is_new_field)

    def _run(self, values: Sequence[bytes | None], start: int, result: _Result) -> None:
        try:
            columns, met = self._columns(values)
        except _Irregular as irregular:
            if len(values) <= _FEW or isinstance(irregular, _NeedsTokens):
                self._rows(values, start, result)
                return
            half = len(values) // 2
            self._run(values[:half], start, result)
            if not self._is_over(result):
                self._run(values[half:], start + half, result)
        else:
            result.parts.append(columns)
            result.unknown.update(met)

    def _columns(self, values: Sequence[bytes | None]) -> tuple[list[pa.Array[Any]], Counter[str]]:
        # Nested documents are so many objects that the garbage collector would look at them, and
        # then at the whole process, while they live; they hold no cycles and are gone on return.
        # Only who found it enabled may disable it: threads that overlap leave it as it was.
        enabled = gc.isenabled()
        try:
            if enabled:
                gc.disable()
            return self._build(values)
        finally:
            if enabled:
                gc.enable()

    def _build(self, values: Sequence[bytes | None]) -> tuple[list[pa.Array[Any]], Counter[str]]:
        try:
            documents = [{} if value is None else orjson.loads(value) for value in values]
        except orjson.JSONDecodeError:
            raise _Irregular from None
        if set(map(type, documents)) - {dict} or any(
            is_too_deep(value) for value in values if value is not None and len(value) > SHALLOW
        ):
            raise _Irregular
        if self._rescued_at is not None and self._hides_unknown:
            raise _NeedsTokens
        unknown: Counter[str] = Counter()
        columns = self._document.columns(documents, unknown)
        return self._with_rescued(columns, [None] * len(values)), unknown

    def _rows(self, values: Sequence[bytes | None], start: int, result: _Result) -> None:
        rows: list[dict[str, Any]] = []
        rescued: list[str | None] = []
        for index, value in enumerate(values, start):
            if value is None:
                rows.append({})
                rescued.append(None)
                continue
            met: Counter[str] = Counter()
            try:
                document = parse_document(value)
                rows.append(self._document.value(document.root, document.tokens, met))
            except Unfit as unfit:
                path = self._document.path + unfit.path
                is_new_field = isinstance(unfit, _NewField)
                result.rejected.append(Rejected(index, path, unfit.reason, is_new_field))
                if self._is_over(result):
                    break
                continue
            if self._rescued_at is None:
                result.unknown.update(met)
            else:
                rescued.append(self._rescued(document))
        columns = [
            pa.array([row.get(name) for row in rows], reader.type)
            for name, reader in self._document.fields.items()
        ]
        result.parts.append(self._with_rescued(columns, rescued))

    def _with_rescued(
        self, columns: list[pa.Array[Any]], rescued: list[str | None]
    ) -> list[pa.Array[Any]]:
        """Put the column of unknown fields among the others, if it is wanted."""
        if self._rescued_at is not None:
            columns.insert(self._rescued_at, pa.array(rescued, pa.string()))
        return columns

    def _rescued(self, document: Document) -> str | None:
        """Return the text of the document's unknown fields; None if it has none."""
        found: list[str] = []
        _find_unknown(
            self._document.type, document.root, document.tokens, self._document.path, found
        )
        return f"{{{','.join(found)}}}" if found else None


def _may_hold_unknown(arrow_type: Any) -> bool:
    if pa.types.is_map(arrow_type):
        return _may_hold_unknown(arrow_type.item_type)
    if pa.types.is_list(arrow_type):
        return _may_hold_unknown(arrow_type.value_type)
    return pa.types.is_struct(arrow_type)


def _find_unknown(
    arrow_type: Any, node: Node, tokens: list[str], path: str, found: list[str]
) -> None:
    """Collect what the type does not know of a value, as members of a JSON object."""
    # A value of another kind has been refused, or is not built and has no fields to look at.
    if pa.types.is_list(arrow_type) and isinstance(node.content, list):
        for index, child in enumerate(node.content):
            _find_unknown(arrow_type.value_type, child, tokens, f"{path}[{index}]", found)
    elif pa.types.is_map(arrow_type) and isinstance(node.content, dict):
        for key, child in node.content.items():
            _find_unknown(arrow_type.item_type, child, tokens, path + path_step(key), found)
    elif pa.types.is_struct(arrow_type) and isinstance(node.content, dict):
        for name, child in node.content.items():
            step = path + path_step(name)
            known = arrow_type.get_field_index(name)
            if known >= 0:
                _find_unknown(arrow_type.field(known).type, child, tokens, step, found)
            else:
                text = "".join(tokens[child.start : child.end])
                found.append(f"{json.dumps(step, ensure_ascii=False)}:{text}")
