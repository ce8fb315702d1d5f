"""Which Arrow types a stream's columns may have, and the metadata columns."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import pyarrow as pa

from sabot_ray.errors import ConfigError

#: The metadata column whose type a stream's ``key_codec`` decides.
KEY_COLUMN: Final = "_kafka_key"
OFFSET_COLUMN: Final = "_kafka_offset"

#: The string column of the values that ``unknown_fields="rescue"`` adds.
RESCUED_COLUMN: Final = "_rescued"

#: Marks a string column that holds the JSON text of whatever the field contains.
JSON_TEXT_METADATA = {b"sabot_ray:json": b"text"}

#: The columns that ``metadata=`` adds, by name, in this order; keys as they are.
METADATA_FIELDS: dict[str, pa.Field[Any]] = {
    field.name: field
    for field in (
        pa.field(KEY_COLUMN, pa.binary()),
        pa.field("_kafka_topic", pa.string()),
        pa.field("_kafka_partition", pa.int32()),
        pa.field(OFFSET_COLUMN, pa.int64()),
        pa.field("_kafka_timestamp", pa.timestamp("ms", "UTC")),
        pa.field("_kafka_timestamp_type", pa.int32()),
        pa.field(
            "_kafka_headers",
            pa.list_(pa.struct([pa.field("key", pa.string()), pa.field("value", pa.binary())])),
        ),
    )
}

#: Names that begin so belong to sabot_ray.
RESERVED_PREFIX: Final = "_kafka_"

_AVAILABLE: Final = (
    "bool, int8 to int64, uint8 to uint64, float32, float64, decimal128, decimal256, string, "
    "binary, timestamp, date32, date64, time32, time64, duration, dictionaries of these, struct, "
    "list, map<string, T>"
)
_ALIASES: Final = (
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    "float32",
    "float64",
    "string",
    "binary",
    "date32",
    "date64",
    "time32[s]",
    "time32[ms]",
    "time64[us]",
    "time64[ns]",
    *(f"{name}[{unit}]" for name in ("timestamp", "duration") for unit in ("s", "ms", "us", "ns")),
    "decimal128(10, 2)",
    "decimal256(40, 2)",
)
_ZONED_TIMESTAMP: Final = re.compile(r"timestamp\[(s|ms|us|ns), *(?:tz=)?([^\s\]]+)\]")
_DECIMAL: Final = re.compile(r"(decimal128|decimal256)\(([0-9]+), *(-?[0-9]+)\)")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: What Python, SQL and JSON call them -> the alias to use.
_OTHER_NAMES: Final = {
    **dict.fromkeys(("int", "integer", "long", "bigint"), "int64"),
    **dict.fromkeys(("float", "number", "real"), "float64"),
    **dict.fromkeys(("str", "text", "varchar"), "string"),
    **dict.fromkeys(("bytes", "blob"), "binary"),
    **dict.fromkeys(("datetime", "timestamp"), "timestamp[us, UTC]"),
    "bool": "bool",
}
_NESTED_HINT: Final = "pass a pyarrow type, for example pa.list_(pa.string())"


def metadata_fields(key_type: pa.DataType) -> dict[str, pa.Field[Any]]:
    """Return `METADATA_FIELDS` with keys of this type."""
    return METADATA_FIELDS | {KEY_COLUMN: pa.field(KEY_COLUMN, key_type)}


def is_json_text(field: pa.Field[Any]) -> bool:
    """Tell whether a column holds the JSON text of whatever the field contains."""
    return JSON_TEXT_METADATA.items() <= (field.metadata or {}).items()


def can_be_column(name: str) -> bool:
    """Tell whether a field of a value may be a column: `json_decoder.cc` says the same."""
    # The Arrow C Data Interface ends names at a NUL character.
    return not name.startswith(RESERVED_PREFIX) and "\0" not in name


def path_step(name: str) -> str:
    """Return what a field adds to the path of its parent: ``.price``, or ``["unit price"]``."""
    return f".{name}" if _NAME.fullmatch(name) else f"[{json.dumps(name, ensure_ascii=False)}]"


def check_value_schema(schema: pa.Schema | Mapping[str, pa.DataType | str]) -> pa.Schema:
    """Check the schema of a stream's value columns.

    Args:
        schema: A schema, or the type of each column by name: a pyarrow type or its name, for
            example ``"int64"`` or ``"timestamp[us, UTC]"``. As in pyarrow, ``"float"`` is float32.

    Returns:
        The schema; metadata of fields is kept, metadata of the schema as a whole is not.

    Raises:
        ConfigError: It has no column, or one that no value can become; the field's path is told.
    """
    if isinstance(schema, pa.Schema):
        fields = list(schema)
    elif isinstance(schema, Mapping):
        fields = [_declared_field(name, given) for name, given in schema.items()]
    else:
        raise ConfigError(
            "schema: expected a pyarrow.Schema or a mapping of names to types, "
            f"found {type(schema).__name__}"
        )
    if not fields:
        raise ConfigError("schema: it has no column; name at least one field of the values")
    for field in fields:
        if field.name.startswith(RESERVED_PREFIX):
            raise ConfigError(
                f"schema: field ${path_step(field.name)}: names beginning with '{RESERVED_PREFIX}' "
                "are reserved; pass metadata= for the metadata columns"
            )
    _check_fields("$", fields)
    return pa.schema(fields)


def writable_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema with types that can be read back, where there is one for the same values.

    Large and view types become the plain ones, half floats float32, dictionaries their values,
    columns of nulls strings, and every field may be null; others stay as they are.
    """
    return pa.schema([_writable_field(field) for field in schema])


def _writable_field(field: pa.Field[Any]) -> pa.Field[Any]:
    return field.with_type(_writable_type(field.type)).with_nullable(True)


def _writable_type(given: Any) -> Any:
    for is_one, plain in _WRITTEN_AS:
        if is_one(given):
            return plain
    if pa.types.is_dictionary(given):
        return _writable_type(given.value_type)
    if pa.types.is_struct(given):
        return pa.struct([_writable_field(given.field(n)) for n in range(given.num_fields)])
    if pa.types.is_map(given):
        return pa.map_(_writable_type(given.key_type), _writable_type(given.item_type))
    if any(is_list(given) for is_list in _LISTS):
        return pa.list_(_writable_field(given.value_field))
    return given


_WRITTEN_AS: Final[tuple[tuple[Callable[[Any], bool], pa.DataType], ...]] = (
    (pa.types.is_large_string, pa.string()),
    (pa.types.is_string_view, pa.string()),
    (pa.types.is_large_binary, pa.binary()),
    (pa.types.is_binary_view, pa.binary()),
    (pa.types.is_fixed_size_binary, pa.binary()),
    (pa.types.is_float16, pa.float32()),
    (pa.types.is_null, pa.string()),
)
_LISTS: Final = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


def unknown_column(name: str, known: Iterable[str], where: str) -> ConfigError:
    """Return the error for a column that does not exist, with the near names.

    Args:
        name: The name that was asked for.
        known: The names that exist.
        where: What asked for it, for example ``"select"``.
    """
    return ConfigError(f"{where}: {no_column(name, known)}")


def no_column(name: str, known: Iterable[str]) -> str:
    """Say that a column does not exist, with the near names."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        hint = f"did you mean {' or '.join(map(repr, near))}?"
    else:
        hint = f"the columns are {', '.join(map(repr, known))}" if known else "there are none"
    return f"there is no column '{name}'; {hint}"


def check_columns(names: Iterable[str], schema: pa.Schema, where: str) -> tuple[str, ...]:
    """Check the names of columns that are to be picked from a schema.

    Args:
        names: The names, in order.
        schema: What they are picked from.
        where: What asked for them, for example ``"select"``.

    Returns:
        The names.

    Raises:
        ConfigError: None is given, one is not in the schema (the near names are told), or one is
            given twice.
    """
    names = tuple(names)
    for name in names:
        if not isinstance(name, str):
            raise ConfigError(f"{where}: expected column names, found {type(name).__name__}")
        if name not in schema.names:
            raise unknown_column(name, schema.names, where)
    if not names:
        raise ConfigError(f"{where}: name at least one column")
    _check_unique(names, where)
    return names


def batch_schema(
    value_schema: pa.Schema, columns: Iterable[str], key_type: pa.DataType | None = None
) -> pa.Schema:
    """Return the schema of batches with these columns, in their order.

    Args:
        value_schema: The value columns that exist, as `check_value_schema` returns it.
        columns: Names of value columns and of metadata columns.
        key_type: The type of the keys' column; None: binary.

    Raises:
        ConfigError: A name is neither (the near names are told), or is given twice.
    """
    known = {field.name: field for field in value_schema}
    known |= metadata_fields(key_type or pa.binary())
    names = tuple(columns)
    for name in names:
        if name not in known:
            raise unknown_column(name, known, "columns")
    _check_unique(names, "columns")
    return pa.schema([known[name] for name in names])


def empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch without rows; unlike `pyarrow.array`, for any type of a dictionary, too."""
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)


def without_notes(schema: pa.Schema) -> pa.Schema:
    """Return the schema without the metadata that says nothing about how values are read."""
    return pa.schema([_without_notes(field) for field in schema])


def _without_notes(field: pa.Field[Any]) -> pa.Field[Any]:
    arrow_type: Any = field.type
    if pa.types.is_struct(arrow_type):
        arrow_type = pa.struct([_without_notes(inner) for inner in arrow_type])
    elif pa.types.is_list(arrow_type):
        arrow_type = pa.list_(_without_notes(arrow_type.value_field))
    elif pa.types.is_map(arrow_type):
        arrow_type = pa.map_(arrow_type.key_field, _without_notes(arrow_type.item_field))
    metadata = JSON_TEXT_METADATA if is_json_text(field) else None
    return pa.field(field.name, arrow_type, field.nullable, metadata)


def differences(one: pa.Schema, other: pa.Schema, names: tuple[str, str]) -> list[str]:
    """Say how two schemas differ, field by field.

    Args:
        one: A schema.
        other: Another one.
        names: What they are called.

    Returns:
        A line for each difference; none if there is none.
    """
    return _differences("$", list(without_notes(one)), list(without_notes(other)), names)


def _differences(
    path: str, one: list[pa.Field[Any]], other: list[pa.Field[Any]], names: tuple[str, str]
) -> list[str]:
    found = []
    ours, theirs = ({field.name: field for field in fields} for fields in (one, other))
    for name in {**ours, **theirs}:
        step = path + path_step(name)
        mine, its = ours.get(name), theirs.get(name)
        if mine is None or its is None:
            found.append(
                f"{step}: {_type_of(mine)} in the {names[0]} schema, {_type_of(its)} in the "
                f"{names[1]} one"
            )
        elif pa.types.is_struct(mine.type) and pa.types.is_struct(its.type):
            found += _differences(step, list(mine.type), list(its.type), names)
        elif not mine.equals(its, check_metadata=True):
            found.append(
                f"{step}: {_type_of(mine)} in the {names[0]} schema, {_type_of(its)} in the "
                f"{names[1]} one"
            )
    if not found and list(ours) != list(theirs):
        found.append(
            f"{path}: the order is {', '.join(ours)} in the {names[0]} schema, "
            f"{', '.join(theirs)} in the {names[1]} one"
        )
    return found


def _type_of(field: pa.Field[Any] | None) -> str:
    if field is None:
        return "absent"
    return f"JSON text ({field.type})" if is_json_text(field) else str(field.type)


def _check_unique(names: Iterable[str], where: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ConfigError(f"{where}: column '{twice[0]}' is named more than once")


def _declared_field(name: Any, given: Any) -> pa.Field[Any]:
    if not isinstance(name, str):
        raise ConfigError(f"schema: expected column names, found {type(name).__name__}")
    if isinstance(given, str):
        given = _type_for_alias(name, given)
    if isinstance(given, type):
        raise ConfigError(
            f"schema: field ${path_step(name)}: expected a pyarrow type or its name, found the "
            f"class {given.__name__}; {_type_hint(given.__name__)}"
        )
    if not isinstance(given, pa.DataType):
        raise ConfigError(
            f"schema: field ${path_step(name)}: expected a pyarrow type or its name, "
            f"found {type(given).__name__}"
        )
    return pa.field(name, given)


def _type_for_alias(name: str, alias: str) -> pa.DataType:
    # Any, because the stubs take only literal units and aliases.
    of_zone: Any = pa.timestamp
    of_alias: Any = pa.type_for_alias
    zoned = _ZONED_TIMESTAMP.fullmatch(alias)
    decimal = _DECIMAL.fullmatch(alias)
    arrow_type: pa.DataType
    try:
        if decimal:
            arrow_type = getattr(pa, decimal[1])(int(decimal[2]), int(decimal[3]))
        else:
            arrow_type = of_zone(*zoned.groups()) if zoned else of_alias(alias)
    except ValueError:
        raise ConfigError(
            f"schema: field ${path_step(name)}: '{alias}' is not the name of a type; "
            f"{_type_hint(alias)}"
        ) from None
    return arrow_type


def _type_hint(name: str) -> str:
    other = _OTHER_NAMES.get(name.lower())
    if other is not None:
        return f"use '{other}'"
    # "list<string>" looks like "string".
    near = [] if "<" in name else difflib.get_close_matches(name, _ALIASES, n=1)
    return f"did you mean '{near[0]}'?" if near else _NESTED_HINT


def _check_fields(path: str, fields: list[pa.Field[Any]]) -> None:
    names = Counter(field.name for field in fields)
    for field in fields:
        if "\0" in field.name:
            # The Arrow C Data Interface ends names there.
            raise ConfigError(
                f"schema: field {path}{path_step(field.name)}: a name cannot hold a NUL character"
            )
        if names[field.name] > 1:
            raise ConfigError(
                f"schema: field {path}{path_step(field.name)} is declared more than once"
            )
        _check_field(path + path_step(field.name), field)


def _check_field(path: str, field: pa.Field[Any]) -> None:
    arrow_type: Any = field.type
    if not field.nullable:
        raise ConfigError(
            f"schema: field {path} is declared not nullable, but a record may lack any field; "
            "declare it nullable"
        )
    mark = (field.metadata or {}).get(b"sabot_ray:json")
    if mark is not None and not (mark == b"text" and pa.types.is_string(arrow_type)):
        raise ConfigError(
            f"schema: field {path}: the metadata sabot_ray:json takes the value 'text', "
            "and belongs to a string column"
        )
    if pa.types.is_struct(arrow_type):
        if not arrow_type.num_fields:
            raise ConfigError(f"schema: field {path}: a struct needs at least one field")
        _check_fields(path, list(arrow_type))
    elif pa.types.is_list(arrow_type):
        _check_field(f"{path}[]", arrow_type.value_field)
    elif pa.types.is_map(arrow_type):
        if not pa.types.is_string(arrow_type.key_type):
            raise ConfigError(
                f"schema: field {path}: keys of type {arrow_type.key_type} cannot come from JSON; "
                "declare map<string, T>"
            )
        if arrow_type.keys_sorted:
            raise ConfigError(
                f"schema: field {path}: entries keep the order of the document; "
                "declare the map without keys_sorted"
            )
        _check_field(f"{path}[]", arrow_type.item_field)
    elif pa.types.is_dictionary(arrow_type):
        _check_dictionary(path, arrow_type)
    else:
        _check_flat_type(path, arrow_type)


def _check_dictionary(path: str, arrow_type: Any) -> None:
    _check_flat_type(path, arrow_type.value_type)
    if arrow_type.index_type.bit_width < 32:
        raise ConfigError(
            f"schema: field {path}: a batch may hold more different values than "
            f"{arrow_type.index_type} can count; declare the dictionary with int32 indices"
        )
    if arrow_type.ordered:
        raise ConfigError(
            f"schema: field {path}: the values of a dictionary come in the order of the records; "
            "declare it without ordered"
        )


def _check_flat_type(path: str, arrow_type: Any) -> None:
    if pa.types.is_decimal(arrow_type) and arrow_type.scale > arrow_type.precision:
        # pyarrow itself makes no such array of Python's decimals.
        raise ConfigError(
            f"schema: field {path}: the scale of {arrow_type} is beyond its precision; declare "
            "more digits"
        )
    if not (
        pa.types.is_boolean(arrow_type)
        or pa.types.is_integer(arrow_type)
        or arrow_type in (pa.float32(), pa.float64(), pa.string(), pa.binary())
        or pa.types.is_decimal128(arrow_type)
        or pa.types.is_decimal256(arrow_type)
        or pa.types.is_date(arrow_type)
        or pa.types.is_time(arrow_type)
        or pa.types.is_duration(arrow_type)
        or pa.types.is_timestamp(arrow_type)
    ):
        raise ConfigError(
            f"schema: field {path}: type {arrow_type} is not available yet; "
            f"available are {_AVAILABLE}"
        )
