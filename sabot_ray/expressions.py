"""Traces a predicate like ``lambda b: b["amount"] > 1000.0`` into a pyarrow expression.

A traced predicate runs inside Arrow, and the columns that it needs are known before anything is
read.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sabot_ray.errors import ConfigError
from sabot_ray.schema import unknown_column

Predicate = Callable[[Any], Any]

_LOGIC_HINT = (
    "filter: `and`, `or`, `not`, `in` and `bool()` do not work on columns; use &, |, ~ (with "
    "parentheses around each comparison) and .isin([...])"
)


class _NotTraceable(Exception):
    """The predicate does more with the batch than an expression can say."""


class _TracedBatch:
    """Stands for the record batch: ``b[name]`` is a column that does not exist yet."""

    def __init__(self, column: Callable[[str], Any]) -> None:
        self._column = column

    def __getitem__(self, name: str) -> Any:
        if not isinstance(name, str):
            raise _NotTraceable
        return self._column(name)

    def __getattr__(self, name: str) -> Any:
        raise _NotTraceable


class _TracedColumn:
    """A column whose struct fields can be reached by ``[]``, which pyarrow's expressions lack.

    It also notes whether ``==`` or ``!=`` met it: on a real Arrow array these compare whole arrays.
    """

    def __init__(self, path: tuple[str, ...], seen: list[str]) -> None:
        self._path = path
        self._seen = seen

    @property
    def _expression(self) -> pc.Expression:
        return pc.field(*self._path)

    def __getitem__(self, name: str) -> _TracedColumn:
        if not isinstance(name, str):
            raise _NotTraceable
        return _TracedColumn((*self._path, name), self._seen)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._expression, name)

    def __eq__(self, other: object) -> Any:
        self._seen.append("==")
        return self._expression == _plain(other)

    def __ne__(self, other: object) -> Any:
        self._seen.append("!=")
        return self._expression != _plain(other)

    __hash__ = None  # type: ignore[assignment]  # a column is no value

    def __bool__(self) -> bool:
        raise ConfigError(_LOGIC_HINT)

    def __contains__(self, item: object) -> bool:
        raise ConfigError(_LOGIC_HINT)

    def __invert__(self) -> Any:
        return ~self._expression


def _plain(value: Any) -> Any:
    return value._expression if isinstance(value, _TracedColumn) else value


def _add_operators() -> None:
    for name in ("lt", "le", "gt", "ge", "add", "sub", "mul", "truediv", "and_", "or_"):
        function = getattr(operator, name)
        plain = name.rstrip("_")

        def forward(self: _TracedColumn, other: Any, function: Any = function) -> Any:
            return function(self._expression, _plain(other))

        def reflected(self: _TracedColumn, other: Any, function: Any = function) -> Any:
            return function(_plain(other), self._expression)

        setattr(_TracedColumn, f"__{plain}__", forward)
        if plain not in ("lt", "le", "gt", "ge"):
            setattr(_TracedColumn, f"__r{plain}__", reflected)


_add_operators()


def _is_logic_error(error: Exception) -> bool:
    text = str(error)
    return (isinstance(error, ValueError) and "cannot be evaluated to python" in text) or (
        # Not "object is not iterable", which a comprehension over a column gives.
        isinstance(error, TypeError) and text.startswith("argument of type")
    )


def _attempt(predicate: Predicate, column: Callable[[str], Any]) -> pc.Expression | None:
    try:
        result = _plain(predicate(_TracedBatch(column)))
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything on a stand-in
        if _is_logic_error(error):
            raise ConfigError(_LOGIC_HINT) from None
        return None
    return result if isinstance(result, pc.Expression) else None


def trace(predicate: Predicate) -> pc.Expression | None:
    """Turn a predicate over a record batch into an expression, if it can be said as one.

    Traced are ``b[name]``, nested ``b[name][field]``, comparisons, arithmetic, ``&``, ``|``, ``~``,
    the methods of `pyarrow.compute.Expression` (``isin``, ``is_null``, ...) and `pyarrow.compute`
    functions. The predicate is called here and now: values that it captures are frozen.

    Args:
        predicate: A function of one record batch.

    Returns:
        The expression; None if the predicate must be called with real batches.

    Raises:
        ConfigError: The predicate uses ``and``, ``or``, ``not``, ``in`` or ``bool()`` on a column,
            or compares one with ``==`` or ``!=`` next to something that cannot be traced: on a real
            batch both would quietly mean something else.
    """
    # Plain fields first: pyarrow's functions take those only.
    expression = _attempt(predicate, pc.field)
    if expression is not None:
        return expression
    seen: list[str] = []
    expression = _attempt(predicate, lambda name: _TracedColumn((name,), seen))
    if expression is None and seen:
        raise ConfigError(
            f"filter: `{seen[0]}` on a column next to something that cannot be traced would "
            "compare the whole column; use pyarrow.compute.equal or not_equal there"
        )
    return expression


def columns_of(expression: pc.Expression, schema: pa.Schema) -> tuple[str, ...]:
    """Return the names of the schema's columns that a boolean expression needs, in schema order.

    Raises:
        ConfigError: The expression uses a column that the schema lacks, does not fit the columns'
            types, or is not boolean.
    """
    _check(expression, schema)
    return tuple(
        field.name
        for index, field in enumerate(schema)
        if not _evaluates(expression, schema.remove(index))
    )


def _empty_mask(expression: pc.Expression, schema: pa.Schema) -> None:
    # filter() binds the expression against the schema; with no row it costs nothing more.
    schema.empty_table().filter(expression)


def _evaluates(expression: pc.Expression, schema: pa.Schema) -> bool:
    try:
        _empty_mask(expression, schema)
    except pa.ArrowException:
        return False
    return True


def _missing(path: list[str], schema: pa.Schema) -> ConfigError:
    fields: Iterable[pa.Field[Any]] = schema
    for name in path:
        by_name = {field.name: field for field in fields}
        if name not in by_name:
            return unknown_column(name, by_name, "filter")
        type_ = by_name[name].type
        fields = type_.fields if pa.types.is_struct(type_) else ()
    return ConfigError(f"filter: there is no column {'.'.join(path)}")


def _check(expression: pc.Expression, schema: pa.Schema) -> None:
    try:
        _empty_mask(expression, schema)
    except pa.ArrowException as error:
        text = str(error).splitlines()[0]
        if "No match for FieldRef" in text:
            # "No match for FieldRef.Nested(FieldRef.Name(a) FieldRef.Name(b)) in a: ..."
            path = re.findall(r"FieldRef\.Name\((.*?)\)", text.split(" in ", 1)[0])
            raise _missing(path, schema) from None
        raise ConfigError(
            f"filter: the predicate {expression} does not fit the columns: {text}"
        ) from None
