"""Arrow columns to JSON objects, in Python.

Columns are turned into what orjson writes, one after the other, and rows are put together from
them. A value that has no JSON becomes an `Unfit` in its column, and travels up to its row.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute

from sabot_ray.codecs.codec import VALUE_ROOT, Encoded, Rejected
from sabot_ray.codecs.dictionaries import plain_schema
from sabot_ray.codecs.json_document import Unfit, parse_document
from sabot_ray.schema import is_json_text, path_step

# Any, because the stubs know only arrays of a type that is known.
pc: Final[Any] = pyarrow.compute

#: What orjson writes as it is, null, or why there is nothing to write.
_Value = Any

_DAY_S: Final = 86_400
_DAY_MS: Final = 1000 * _DAY_S
_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
#: The first second of year 1, and the last of year 9999.
_FIRST_S: Final = -62_135_596_800
_LAST_S: Final = 253_402_300_799
_NO_YEAR: Final = "a year beyond 0001 to 9999"


class JsonEncoder:
    """See `Encoder`.

    Args:
        schema: The columns, all of which are written; it has passed `check_value_schema`.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = plain_schema(schema)

    def encode(self, batch: pa.RecordBatch) -> Encoded:
        """See `Encoder.encode`."""
        columns = batch.cast(self._schema).columns
        rows = _objects(list(self._schema), columns, 1)
        rejected = [
            Rejected(index, VALUE_ROOT + row.path, row.reason)
            for index, row in enumerate(rows)
            if isinstance(row, Unfit)
        ]
        values = [None if isinstance(row, Unfit) else orjson.dumps(row) for row in rows]
        return Encoded(pa.array(values, pa.binary()), rejected)


def _objects(fields: Sequence[pa.Field[Any]], columns: Iterable[Any], depth: int) -> list[_Value]:
    names = [field.name for field in fields]
    values = [_values(column, field, depth) for column, field in zip(columns, fields, strict=True)]
    objects: list[_Value] = [
        dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)
    ]
    # The first field decides, as it does where rows are written one by one.
    for name, column in zip(reversed(names), reversed(values), strict=True):
        for row, value in enumerate(column):
            if isinstance(value, Unfit):
                objects[row] = Unfit(value.reason, path_step(name) + value.path)
    return objects


def _values(array: Any, field: pa.Field[Any], depth: int) -> list[_Value]:
    """Return a column's values.

    Args:
        array: The column.
        field: Its field.
        depth: How many containers enclose a value.
    """
    arrow_type: Any = field.type
    if pa.types.is_struct(arrow_type):
        fields = list(arrow_type)
        found = _objects(fields, array.flatten(), depth + 1)
        return _masked(found, array)
    if pa.types.is_map(arrow_type):
        return _masked(_maps(array, depth), array)
    if pa.types.is_list(arrow_type):
        return _masked(_lists(array, depth), array)
    if is_json_text(field):
        return _each(array, lambda text: _fragment(text, depth))
    return _leaves(array, arrow_type)


def _masked(values: list[_Value], array: Any) -> list[_Value]:
    """Put null where the array has it: whatever lies below is no value."""
    if not array.null_count:
        return values
    valid = array.is_valid().to_pylist()
    return [value if is_valid else None for value, is_valid in zip(values, valid, strict=True)]


def _each(array: Any, convert: Callable[[Any], _Value]) -> list[_Value]:
    """Convert one value after the other; `Unfit` takes the place of those that raise it."""
    values: list[_Value] = []
    for value in _pylist(array):
        try:
            values.append(value if value is None or isinstance(value, Unfit) else convert(value))
        except Unfit as unfit:
            values.append(unfit)
    return values


def _pylist(array: Any) -> list[_Value]:
    try:
        values: list[_Value] = array.to_pylist()
    except UnicodeDecodeError:
        return [_text(value) for value in array.cast(pa.binary()).to_pylist()]
    return values


def _text(data: bytes | None) -> str | Unfit | None:
    try:
        return None if data is None else data.decode()
    except UnicodeDecodeError:
        return Unfit("invalid UTF-8")


def _leaves(array: Any, arrow_type: Any) -> list[_Value]:
    types = pa.types
    if types.is_floating(arrow_type):
        return _floats(array)
    if types.is_timestamp(arrow_type):
        return _timestamps(array, arrow_type)
    if types.is_date(arrow_type):
        return _dates(array)
    if types.is_time(arrow_type):
        numbers = array.cast(pa.int32() if types.is_time32(arrow_type) else pa.int64())
        fits = _between(numbers, 0, _DAY_S * _PER_SECOND[arrow_type.unit] - 1)
        return _where(fits, array, "not a time of day", lambda times: times.cast(pa.string()))
    if types.is_duration(arrow_type):
        array = array.cast(pa.int64())
    elif types.is_binary(arrow_type):
        return _each(array, lambda data: base64.b64encode(data).decode())
    elif types.is_decimal(arrow_type):
        return _each(array, lambda number: orjson.Fragment(f"{number:f}"))
    return _pylist(array)


def _where(fits: Any, array: Any, reason: str, write: Callable[[Any], Any]) -> list[_Value]:
    """Return what ``write`` makes of the values that fit, and `Unfit` in place of the others."""
    if pc.all(fits, min_count=0).as_py():
        values: list[_Value] = write(array).to_pylist()
        return values
    values = write(pc.if_else(fits, array, pa.scalar(None, array.type))).to_pylist()
    # Null where the value is null.
    return [
        Unfit(reason) if fit is False else value
        for value, fit in zip(values, fits.to_pylist(), strict=True)
    ]


def _floats(array: Any) -> list[_Value]:
    if array.type != pa.float64():
        # The shortest decimal of the float, where who reads it by way of a double gets it back.
        shortest = array.cast(pa.string()).cast(pa.float64())
        array = pc.if_else(
            pc.equal(shortest.cast(pa.float32()), array), shortest, array.cast(pa.float64())
        )
    reason = "not finite, for which JSON has no number"
    return _where(pc.is_finite(array), array, reason, lambda numbers: numbers)


def _between(numbers: Any, first: int, last: int) -> Any:
    return pc.and_(pc.greater_equal(numbers, first), pc.less_equal(numbers, last))


def _timestamps(array: Any, arrow_type: Any) -> list[_Value]:
    per_second = _PER_SECOND[arrow_type.unit]
    first = max(_FIRST_S * per_second, -(1 << 63))
    last = min((_LAST_S + 1) * per_second - 1, (1 << 63) - 1)

    def write(stamps: Any) -> Any:
        # As text without a zone: that of the type does not matter, stamps are UTC.
        texts = stamps.cast(pa.int64()).cast(pa.timestamp(arrow_type.unit)).cast(pa.string())
        texts = pc.utf8_replace_slice(texts, 10, 11, "T")
        return texts if arrow_type.tz is None else pc.binary_join_element_wise(texts, "Z", "")

    return _where(_between(array.cast(pa.int64()), first, last), array, _NO_YEAR, write)


def _dates(array: Any) -> list[_Value]:
    if array.type == pa.date32():
        return _days(array.cast(pa.int32()).cast(pa.int64()))
    millis = array.cast(pa.int64())
    days = pc.divide(millis, _DAY_MS)
    whole = pc.equal(pc.multiply(days, _DAY_MS), millis).to_pylist()
    return [
        Unfit("not a whole day") if is_whole is False else value
        for value, is_whole in zip(_days(days), whole, strict=True)
    ]


def _days(days: Any) -> list[_Value]:
    fits = _between(days, _FIRST_S // _DAY_S, _LAST_S // _DAY_S)
    # Through 32 bits only what fits.
    return _where(
        fits, days, _NO_YEAR, lambda kept: kept.cast(pa.int32()).cast(pa.date32()).cast(pa.string())
    )


def _fragment(text: str, depth: int) -> Any:
    """Return a JSON text that is written as it is.

    Raises:
        Unfit: It is none, or one that is nested too deep where it stands.
    """
    parse_document(b'{"":' * depth + text.encode() + b"}" * depth)
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        # The rest of an object, which it was there.
        raise Unfit("malformed JSON") from None
    return orjson.Fragment(text)


def _lists(array: Any, depth: int) -> list[_Value]:
    offsets = array.offsets.to_pylist()
    first = offsets[0]
    items = _values(
        array.values.slice(first, offsets[-1] - first), array.type.value_field, depth + 1
    )
    lists: list[_Value] = []
    for begin, end in itertools.pairwise(offsets):
        row = items[begin - first : end - first]
        bad = next((at for at, item in enumerate(row) if isinstance(item, Unfit)), None)
        lists.append(row if bad is None else Unfit(row[bad].reason, f"[{bad}]{row[bad].path}"))
    return lists


def _maps(array: Any, depth: int) -> list[_Value]:
    offsets = array.offsets.to_pylist()
    first, count = offsets[0], offsets[-1] - offsets[0]
    # Not MapArray.keys and .items, which forget where the entries begin.
    all_keys, all_items = array.values.flatten()
    keys = all_keys.slice(first, count).cast(pa.binary()).to_pylist()
    items = _values(all_items.slice(first, count), array.type.item_field, depth + 1)
    return [
        _map(keys[begin - first : end - first], items[begin - first : end - first])
        for begin, end in itertools.pairwise(offsets)
    ]


def _map(keys: list[bytes], items: list[_Value]) -> _Value:
    if len(set(keys)) < len(keys):
        return Unfit("a key that comes twice")
    row = {}
    for data, item in zip(keys, items, strict=True):
        key = _text(data)
        if not isinstance(key, str):
            return key
        if isinstance(item, Unfit):
            return Unfit(item.reason, path_step(key) + item.path)
        row[key] = item
    return row
