"""JSON objects to Arrow columns: the codec's description, and its pure-Python decoder.

The decoder has two ways to the same result. A run of records is read by orjson and built column by
column; the kinds of all values of a column are checked at once. orjson forgets what some rules of
`docs/json.md` ask for (how a number was written, what a string's source text was, duplicates that hide
something deep), so whatever looks irregular there is halved until few records are left, and these are
read token by token. Only the second way knows errors: it alone decides what is wrong with a record.
"""

from __future__ import annotations

import binascii
import itertools
import json
import math
import re
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Literal, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from sabot_ray.schema import is_json_text

#: Objects and arrays may be nested this deep.
MAX_DEPTH: Final = 128


@dataclass(frozen=True)
class JsonCodec:
    """Reads each value as one JSON object; `docs/json.md` is the mapping.

    Attributes:
        schema: The value columns, in order; see `sabot_ray.schema.check_value_schema`.
        unknown_fields: What to do with a field that the schema does not know: ``"ignore"`` counts it,
            ``"fail"`` makes it a decode error.
    """

    schema: pa.Schema
    unknown_fields: Literal["ignore", "fail"] = "ignore"


class Rejected(NamedTuple):
    """A value that does not decode.

    Attributes:
        index: Its index in the values that were given.
        field: Path of the offending field, ``"$"`` for the whole value.
        reason: What is wrong with it.
    """

    index: int
    field: str
    reason: str


class Decoded(NamedTuple):
    """What became of a list of values.

    Attributes:
        columns: One array per column of the decoder, in its order; a row per entry of ``rows``.
        rows: Indices of the values that became rows, ascending.
        rejected: The values that did not, ascending.
        unknown_fields: Path of a field that the schema does not know -> in how many objects it was met;
            rejected values do not count.
    """

    columns: list[pa.Array]
    rows: Sequence[int]
    rejected: list[Rejected]
    unknown_fields: dict[str, int]


class _Irregular(Exception):
    """These values cannot be built as columns; read them one by one."""


class _Unfit(Exception):
    """A value does not fit its column; every container on the way out prepends its step."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path


class _Node(NamedTuple):
    """A JSON value as a range of tokens; objects and arrays with their content."""

    start: int
    end: int
    content: dict[str, _Node] | list[_Node] | None


class _Document(NamedTuple):
    """The tokens of a valid JSON text, and the fields in it that the schema does not know."""

    tokens: list[str]
    unknown: Counter[str]


_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^ \t\n\r{}\[\],:"]+', re.DOTALL)
_STRING_BYTES: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_PARENTHESES: Final = bytes.maketrans(b"{[}]", b"(())")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"{[}]"))

_KINDS: Final = {
    "{": "an object",
    "[": "an array",
    '"': "a string",
    "t": "a boolean",
    "f": "a boolean",
    "n": "null",
}


def _step(key: str) -> str:
    if _NAME.fullmatch(key):
        return f".{key}"
    return f"[{json.dumps(key, ensure_ascii=False)}]"


def _kind(token: str) -> str:
    return _KINDS.get(token[0], "a number")


def _string(token: str) -> str:
    return orjson.loads(token) if "\\" in token else token[1:-1]


# --- documents, token by token -------------------------------------------------------------------


def _opens(value: bytes) -> int:
    return value.count(b"{") + value.count(b"[")


def _too_deep(value: bytes) -> bool:
    if _opens(value) <= MAX_DEPTH:
        return False
    brackets = _STRING_BYTES.sub(b"", value).translate(_PARENTHESES, _NO_BRACKETS)
    # Each pass removes the innermost level.
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"()", b"")
    return bool(brackets)


def _scalar_is_valid(token: str) -> bool:
    try:
        orjson.loads(token)
    except orjson.JSONDecodeError:
        return False
    return True


def _is_json(value: bytes) -> bool:
    """Check the syntax without a limit of depth, for what orjson gives up on."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return False
    if _TOKEN.sub("", text).strip(" \t\n\r"):
        return False
    enclosing: list[str] = []
    # What may come next: a "value", a first value or "]", a first key or "}", a "key", ":", "," or an end.
    expected = "value"
    for token in _TOKEN.findall(text):
        if token in ("]", "}"):
            if not enclosing or enclosing.pop() != token or expected not in (",", f"first{token}"):
                return False
            expected = ","
        elif token == ",":
            if expected != "," or not enclosing:
                return False
            expected = "key" if enclosing[-1] == "}" else "value"
        elif token == ":":
            if expected != ":":
                return False
            expected = "value"
        elif expected in ("key", "first}"):
            if token[0] != '"' or not _scalar_is_valid(token):
                return False
            expected = ":"
        elif expected not in ("value", "first]"):
            return False
        elif token in ("[", "{"):
            enclosing.append("]" if token == "[" else "}")
            expected = f"first{enclosing[-1]}"
        elif not _scalar_is_valid(token):
            return False
        else:
            expected = ","
    return expected == "," and not enclosing


def _parse(tokens: list[str], start: int) -> _Node:
    token = tokens[start]
    at = start + 1
    if token == "{":
        fields: dict[str, _Node] = {}
        while tokens[at] != "}":
            at += tokens[at] == ","
            node = _parse(tokens, at + 2)
            # A dict keeps a duplicate's first place and last value.
            fields[_string(tokens[at])] = node
            at = node.end
        return _Node(start, at + 1, fields)
    if token == "[":
        items: list[_Node] = []
        while tokens[at] != "]":
            at += tokens[at] == ","
            node = _parse(tokens, at)
            items.append(node)
            at = node.end
        return _Node(start, at + 1, items)
    return _Node(start, at, None)


def parse_document(value: bytes) -> tuple[list[str], _Node]:
    """Validate one value and split it into tokens.

    Raises:
        _Unfit: It is malformed, nested too deep, or no object.
    """
    try:
        top = orjson.loads(value)
    except orjson.JSONDecodeError:
        # orjson stops at 1024 levels, before it has seen whether the rest is well formed.
        if _opens(value) > 1024 and _is_json(value):
            raise _Unfit(f"nested deeper than {MAX_DEPTH} levels") from None
        raise _Unfit("malformed JSON") from None
    if _too_deep(value):
        raise _Unfit(f"nested deeper than {MAX_DEPTH} levels")
    tokens = _TOKEN.findall(value.decode())
    if type(top) is not dict:
        raise _Unfit(f"expected an object, found {_kind(tokens[0])}")
    return tokens, _parse(tokens, 0)


# --- one reader per Arrow type -------------------------------------------------------------------


class _Reader:
    """Builds one column.

    Args:
        arrow_type: The column's type.
    """

    #: What `values` may hold apart from null.
    takes: frozenset[type]
    expected: str

    def __init__(self, arrow_type: pa.DataType) -> None:
        self.type = arrow_type

    def array(self, values: list[Any], unknown: Counter[str]) -> pa.Array:
        """Build the column from orjson's values; None is null.

        Raises:
            _Irregular: A value needs a closer look.
        """
        kinds = set(map(type, values))
        kinds.discard(type(None))
        if not kinds <= self.takes:
            raise _Irregular
        try:
            return self._array(values, unknown)
        except (_Unfit, pa.ArrowInvalid, OverflowError):
            raise _Irregular from None

    def value(self, node: _Node, document: _Document) -> Any:
        """Return the Python value that stands for the node in `pyarrow.array`.

        Raises:
            _Unfit: It does not fit the column.
        """
        token = document.tokens[node.start]
        return None if token == "null" else self._value(token, node, document)

    def _array(self, values: list[Any], unknown: Counter[str]) -> pa.Array:
        return pa.array(values, self.type)

    def _value(self, token: str, node: _Node, document: _Document) -> Any:
        raise NotImplementedError

    def _wrong_kind(self, token: str) -> _Unfit:
        return _Unfit(f"expected {self.expected}, found {_kind(token)}")


class _BoolReader(_Reader):
    takes = frozenset({bool})
    expected = "a boolean"

    def _value(self, token: str, node: _Node, document: _Document) -> bool:
        if token not in ("true", "false"):
            raise self._wrong_kind(token)
        return token == "true"


class _IntReader(_Reader):
    takes = frozenset({int})
    expected = "an integer"

    def __init__(self, arrow_type: pa.DataType) -> None:
        super().__init__(arrow_type)
        signed = pa.types.is_signed_integer(arrow_type)
        self._lowest = -(1 << arrow_type.bit_width - 1) if signed else 0
        self._highest = (1 << arrow_type.bit_width - signed) - 1

    def _value(self, token: str, node: _Node, document: _Document) -> int:
        if _kind(token) != "a number":
            raise self._wrong_kind(token)
        if not token.removeprefix("-").isdigit():
            raise _Unfit("expected an integer, found a number with a fraction or an exponent")
        number = int(token)
        if not self._lowest <= number <= self._highest:
            raise _Unfit(f"out of range for {self.type}")
        return number


class _FloatReader(_Reader):
    takes = frozenset({float, int})
    expected = "a number"

    def _array(self, values: list[Any], unknown: Counter[str]) -> pa.Array:
        # pyarrow refuses integers beyond 2^53 here, float() rounds them to the nearest.
        doubles = [float(value) if type(value) is int else value for value in values]
        array = pa.array(doubles, pa.float64())
        if self.type == pa.float32():
            array = array.cast(pa.float32(), safe=False)
            if pc.any(pc.is_inf(array)).as_py():
                raise _Irregular
        return array

    def _value(self, token: str, node: _Node, document: _Document) -> float:
        if _kind(token) != "a number":
            raise self._wrong_kind(token)
        number = 0.0 if token == "-0" else float(token)
        if self.type == pa.float32():
            try:
                struct.pack("<f", number)
            except OverflowError:
                raise _Unfit("out of range for float32") from None
        return number


class _StringReader(_Reader):
    takes = frozenset({str})
    expected = "a string"

    def _array(self, values: list[Any], unknown: Counter[str]) -> pa.Array:
        return pa.array(self._parse_all(values), self.type)

    def _value(self, token: str, node: _Node, document: _Document) -> Any:
        if token[0] != '"':
            raise self._wrong_kind(token)
        return self._parse(_string(token))

    def _parse_all(self, values: list[Any]) -> list[Any]:
        return values

    def _parse(self, text: str) -> Any:
        return text


class _BinaryReader(_StringReader):
    def _parse_all(self, values: list[Any]) -> list[Any]:
        return [None if text is None else self._parse(text) for text in values]

    def _parse(self, text: str) -> bytes:
        try:
            data = binascii.a2b_base64(text, strict_mode=True)
        except ValueError:
            raise _Unfit("not canonical base64") from None
        # The strict mode lets unused bits pass.
        if binascii.b2a_base64(data, newline=False) != text.encode():
            raise _Unfit("not canonical base64")
        return data


_UNITS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_EPOCH: Final = date(1970, 1, 1).toordinal()
_TIMESTAMP: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])"
    r"(?:\.([0-9]+))?(?:([Zz])|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))?"
)
# What Arrow's own parser reads in the same way, whatever the unit: years within int64 nanoseconds.
_PLAIN_TIMESTAMP: Final = (
    r"^(?:1[7-9]|20|21)[0-9]{2}-[0-9]{2}-[0-9]{2}[T ](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    r"(?:\.[0-9]{1,9})?"
)


class _TimestampReader(_StringReader):
    def __init__(self, arrow_type: pa.DataType) -> None:
        super().__init__(arrow_type)
        self._digits = _UNITS[arrow_type.unit]
        self._has_zone = arrow_type.tz is not None
        self._plain = _PLAIN_TIMESTAMP + ("Z$" if self._has_zone else "$")

    def _array(self, values: list[Any], unknown: Counter[str]) -> pa.Array:
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
        if not match or self._has_zone != bool(match[8] or match[9]):
            raise self._no_timestamp()
        try:
            days = date(int(match[1]), int(match[2]), int(match[3])).toordinal() - _EPOCH
        except ValueError:
            raise self._no_timestamp() from None
        seconds = days * 86400 + int(match[4]) * 3600 + int(match[5]) * 60 + int(match[6])
        if match[9]:
            ahead = int(match[10]) * 3600 + int(match[11]) * 60
            seconds += ahead if match[9] == "-" else -ahead
        fraction = match[7] or ""
        if len(fraction) > 9 or fraction[self._digits :].strip("0"):
            raise _Unfit(f"finer than timestamp[{self.type.unit}]")
        units = int(f"{fraction[: self._digits]:0<{self._digits}}" or 0)
        number: int = seconds * 10**self._digits + units
        if not -(1 << 63) <= number < 1 << 63:
            raise _Unfit(f"out of range for timestamp[{self.type.unit}]")
        return number

    def _no_timestamp(self) -> _Unfit:
        if self._has_zone:
            return _Unfit("not an RFC 3339 timestamp")
        return _Unfit("not a timestamp without an offset")


class _TextReader(_Reader):
    """Keeps the source text of whatever the field contains."""

    takes = frozenset()

    def _value(self, token: str, node: _Node, document: _Document) -> str:
        return "".join(document.tokens[node.start : node.end])


class _StructReader(_Reader):
    """Builds a struct; also the whole document.

    Args:
        arrow_type: The struct's type.
        path: Where it stands in the schema.
        refuse_unknown: Whether a field that the type does not know is an error.
        built: The fields to build; the others are known, and not looked at.
    """

    takes = frozenset({dict})
    expected = "an object"

    def __init__(
        self,
        arrow_type: pa.StructType,
        path: str,
        refuse_unknown: bool,
        built: Iterable[str] | None = None,
    ) -> None:
        super().__init__(arrow_type)
        self.path = path
        self.refuse_unknown = refuse_unknown
        self.known = frozenset(field.name for field in arrow_type)
        self.fields = {
            name: _reader(arrow_type.field(name), path + _step(name), refuse_unknown)
            for name in ((field.name for field in arrow_type) if built is None else built)
        }

    def columns(self, values: list[dict[str, Any]], unknown: Counter[str]) -> list[pa.Array]:
        """Build the fields' columns from the objects."""
        names = set().union(*values) - self.known
        if names and self.refuse_unknown:
            raise _Irregular
        for name in names:
            unknown[self.path + _step(name)] += sum(name in value for value in values)
        return [
            reader.array([value.get(name) for value in values], unknown)
            for name, reader in self.fields.items()
        ]

    def _array(self, values: list[Any], unknown: Counter[str]) -> pa.Array:
        columns = self.columns([value or {} for value in values], unknown)
        mask = pa.array([value is None for value in values], pa.bool_()) if None in values else None
        return pa.StructArray.from_arrays(columns, fields=list(self.type), mask=mask)

    def _value(self, token: str, node: _Node, document: _Document) -> dict[str, Any]:
        if not isinstance(node.content, dict):
            raise self._wrong_kind(token)
        row: dict[str, Any] = dict.fromkeys(self.fields)
        for name, child in node.content.items():
            try:
                if name in self.fields:
                    row[name] = self.fields[name].value(child, document)
                elif name not in self.known:
                    if self.refuse_unknown:
                        raise _Unfit("unknown field")
                    document.unknown[self.path + _step(name)] += 1
            except _Unfit as unfit:
                unfit.path = _step(name) + unfit.path
                raise
        return row


def _offsets(values: list[Any]) -> pa.Array:
    """Return the offsets of lists or objects; a null one's start is null, as pyarrow wants it."""
    ends = list(itertools.accumulate((len(value) if value else 0 for value in values), initial=0))
    starts = [None if value is None else start for value, start in zip(values, ends, strict=False)]
    return pa.array([*starts, ends[-1]], pa.int32())


class _ListReader(_Reader):
    takes = frozenset({list})
    expected = "an array"

    def __init__(self, arrow_type: pa.ListType, path: str, refuse_unknown: bool) -> None:
        super().__init__(arrow_type)
        self._items = _reader(arrow_type.value_field, f"{path}[]", refuse_unknown)

    def _array(self, values: list[Any], unknown: Counter[str]) -> pa.Array:
        items = list(itertools.chain.from_iterable(filter(None, values)))
        array = self._items.array(items, unknown)
        return pa.ListArray.from_arrays(_offsets(values), array, type=self.type)

    def _value(self, token: str, node: _Node, document: _Document) -> list[Any]:
        if not isinstance(node.content, list):
            raise self._wrong_kind(token)
        row = []
        for index, child in enumerate(node.content):
            try:
                row.append(self._items.value(child, document))
            except _Unfit as unfit:
                unfit.path = f"[{index}]{unfit.path}"
                raise
        return row


class _MapReader(_Reader):
    takes = frozenset({dict})
    expected = "an object"

    def __init__(self, arrow_type: pa.MapType, path: str, refuse_unknown: bool) -> None:
        super().__init__(arrow_type)
        self._items = _reader(arrow_type.item_field, f"{path}[]", refuse_unknown)

    def _array(self, values: list[Any], unknown: Counter[str]) -> pa.Array:
        keys = list(itertools.chain.from_iterable(filter(None, values)))
        items = [item for value in values if value for item in value.values()]
        arrays = pa.array(keys, pa.string()), self._items.array(items, unknown)
        return pa.MapArray.from_arrays(_offsets(values), *arrays, type=self.type)

    def _value(self, token: str, node: _Node, document: _Document) -> list[tuple[str, Any]]:
        if not isinstance(node.content, dict):
            raise self._wrong_kind(token)
        row = []
        for key, child in node.content.items():
            try:
                row.append((key, self._items.value(child, document)))
            except _Unfit as unfit:
                unfit.path = _step(key) + unfit.path
                raise
        return row


def _reader(field: pa.Field, path: str, refuse_unknown: bool) -> _Reader:
    arrow_type = field.type
    if pa.types.is_struct(arrow_type):
        return _StructReader(arrow_type, path, refuse_unknown)
    if pa.types.is_map(arrow_type):
        return _MapReader(arrow_type, path, refuse_unknown)
    if pa.types.is_list(arrow_type):
        return _ListReader(arrow_type, path, refuse_unknown)
    if is_json_text(field):
        return _TextReader(arrow_type)
    if pa.types.is_timestamp(arrow_type):
        return _TimestampReader(arrow_type)
    if pa.types.is_binary(arrow_type):
        return _BinaryReader(arrow_type)
    if pa.types.is_string(arrow_type):
        return _StringReader(arrow_type)
    if pa.types.is_boolean(arrow_type):
        return _BoolReader(arrow_type)
    if pa.types.is_integer(arrow_type):
        return _IntReader(arrow_type)
    return _FloatReader(arrow_type)


# --- the decoder ---------------------------------------------------------------------------------

# A run of records this long stays in the processor's cache while its columns are built.
_RUN: Final = 1024
# Halving stops here.
_FEW: Final = 8
# A document of this many bytes can be deeper than the limit.
_DEEP_BYTES: Final = 2 * (MAX_DEPTH + 1)


class JsonDecoder:
    """Decodes record values in Python, with exactly the native decoder's results.

    Args:
        codec: The mapping; its schema has passed `sabot_ray.schema.check_value_schema`.
        columns: Names of the value columns to build, in order.
        on_error: ``"fail"``: decoding stops at the first value that does not decode; ``"skip"``: such
            values are left out.
    """

    def __init__(
        self,
        codec: JsonCodec,
        columns: Sequence[str],
        on_error: Literal["fail", "skip"] = "fail",
    ) -> None:
        refuse_unknown = codec.unknown_fields == "fail"
        self._document = _StructReader(pa.struct(list(codec.schema)), "$", refuse_unknown, columns)
        self._types = [reader.type for reader in self._document.fields.values()]
        self._stop = on_error == "fail"

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode values; None, a tombstone, is a row of nulls.

        With ``on_error="fail"`` the result ends before the first value that does not decode, which is
        then the only one in ``rejected``.
        """
        parts: list[list[pa.Array]] = []
        rejected: list[Rejected] = []
        unknown: Counter[str] = Counter()
        end = len(values)
        for start in range(0, len(values), _RUN):
            self._run(values[start : start + _RUN], start, parts, rejected, unknown)
            if rejected and self._stop:
                end = rejected[0].index
                break
        columns = [
            pa.concat_arrays(arrays) if arrays else pa.array([], arrow_type)
            for arrow_type, arrays in zip(
                self._types, zip(*parts, strict=True) if parts else itertools.repeat([]), strict=False
            )
        ]
        bad = {value.index for value in rejected}
        rows = [index for index in range(end) if index not in bad] if bad else range(end)
        return Decoded(columns, rows, rejected, dict(unknown))

    def _run(
        self,
        values: Sequence[bytes | None],
        start: int,
        parts: list[list[pa.Array]],
        rejected: list[Rejected],
        unknown: Counter[str],
    ) -> None:
        try:
            columns, met = self._columns(values)
        except _Irregular:
            if len(values) <= _FEW:
                self._rows(values, start, parts, rejected, unknown)
                return
            half = len(values) // 2
            self._run(values[:half], start, parts, rejected, unknown)
            if not (rejected and self._stop):
                self._run(values[half:], start + half, parts, rejected, unknown)
        else:
            parts.append(columns)
            unknown.update(met)

    def _columns(self, values: Sequence[bytes | None]) -> tuple[list[pa.Array], Counter[str]]:
        try:
            documents = [{} if value is None else orjson.loads(value) for value in values]
        except orjson.JSONDecodeError:
            raise _Irregular from None
        if set(map(type, documents)) - {dict} or any(
            len(value) >= _DEEP_BYTES and _too_deep(value) for value in values if value
        ):
            raise _Irregular
        unknown: Counter[str] = Counter()
        return self._document.columns(documents, unknown), unknown

    def _rows(
        self,
        values: Sequence[bytes | None],
        start: int,
        parts: list[list[pa.Array]],
        rejected: list[Rejected],
        unknown: Counter[str],
    ) -> None:
        rows: list[dict[str, Any]] = []
        for index, value in enumerate(values, start):
            if value is None:
                rows.append({})
                continue
            met: Counter[str] = Counter()
            try:
                tokens, node = parse_document(value)
                rows.append(self._document.value(node, _Document(tokens, met)))
            except _Unfit as unfit:
                rejected.append(Rejected(index, f"${unfit.path}", unfit.reason))
                if self._stop:
                    break
            else:
                unknown.update(met)
        parts.append(
            [
                pa.array([row.get(name) for row in rows], reader.type)
                for name, reader in self._document.fields.items()
            ]
        )
