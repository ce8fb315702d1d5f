"""Traces a function like ``lambda b: b["amount"] > 1000.0`` into a pyarrow expression.

What is traced runs inside Arrow, and the columns that it needs are known before anything is read.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sabot_ray.errors import ConfigError
from sabot_ray.schema import no_column

Traceable = Callable[[Any], Any]

_LOGIC_HINT = (
    "`and`, `or`, `not`, `in` and `bool()` do not work on columns; use &, |, ~ (with "
    "parentheses around each comparison) and .isin([...])"
)
_PARENTHESES_HINT = (
    "& and | bind more tightly than comparisons, and found a value where a comparison was "
    'meant; put parentheses around each: (b["x"] > 1) & (b["y"] < 3)'
)
_NULL_HINT = (
    'a comparison with null is never true, for no row; use b["x"].is_null() or b["x"].is_valid()'
)
#: As Arrow prints expressions.
_STRING_LITERAL = re.compile(r'"(?:\\.|[^"\\])*"')
_NULL_COMPARISON = re.compile(r" (?:==|!=|<|<=|>|>=) null\[|\(null\[\S*\] (?:==|!=|<|<=|>|>=) ")
_NESTED_FIELD = re.compile(r"FieldRef\.Nested\((?:FieldRef\.Name\([^)]*\) ?)+\)")


class _NotTraceable(Exception):
    """The function does more with the batch than an expression can say."""


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
    """A column, or what is computed from columns: what numpy and Python's logic can be kept off.

    Struct fields can be reached by ``[]``, which pyarrow's expressions lack. It also notes whether
    ``==`` or ``!=`` met it: on a real Arrow array these compare whole arrays.
    """

    #: numpy's functions refuse it; a numpy scalar leaves its operators to `_TracedColumn`.
    __array_ufunc__ = None

    def __init__(
        self, expression: pc.Expression, seen: list[str], path: tuple[str, ...] = ()
    ) -> None:
        self._expression = expression
        self._seen = seen
        # Empty for what is computed.
        self._path = path

    def __getitem__(self, name: str) -> _TracedColumn:
        if not isinstance(name, str) or not self._path:
            raise _NotTraceable
        path = (*self._path, name)
        return _TracedColumn(pc.field(*path), self._seen, path)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        method = getattr(self._expression, name)
        return lambda *args, **options: self._of(method(*args, **options))

    def _of(self, expression: pc.Expression) -> _TracedColumn:
        return _TracedColumn(expression, self._seen)

    def __eq__(self, other: object) -> Any:
        self._seen.append("==")
        return self._of(self._expression == _plain(other))

    def __ne__(self, other: object) -> Any:
        self._seen.append("!=")
        return self._of(self._expression != _plain(other))

    def __invert__(self) -> Any:
        return self._of(~self._expression)

    def __bool__(self) -> bool:
        raise ConfigError(_LOGIC_HINT)

    def __contains__(self, item: object) -> bool:
        raise ConfigError(_LOGIC_HINT)

    def __hash__(self) -> int:
        # What `in` asks for where the right side is a set or a dict.
        raise ConfigError(_LOGIC_HINT)

    def __iter__(self) -> Any:
        raise _NotTraceable

    def __array__(self, *_: Any, **__: Any) -> Any:
        # numpy would wrap it, and call bool() on what its comparisons give.
        raise _NotTraceable


def _plain(value: Any) -> Any:
    return value._expression if isinstance(value, _TracedColumn) else value


def _add_operators() -> None:
    for name in ("lt", "le", "gt", "ge", "add", "sub", "mul", "truediv", "and_", "or_"):
        function = getattr(operator, name)
        plain = name.rstrip("_")

        def forward(self: _TracedColumn, other: Any, function: Any = function) -> Any:
            return self._of(function(self._expression, _plain(other)))

        def reflected(self: _TracedColumn, other: Any, function: Any = function) -> Any:
            return self._of(function(pc.scalar(other), self._expression))

        setattr(_TracedColumn, f"__{plain}__", forward)
        if plain in ("add", "sub", "mul", "truediv"):
            setattr(_TracedColumn, f"__r{plain}__", reflected)


_add_operators()


def _refusal(error: Exception) -> ConfigError | None:
    """Return what to tell of an error that expressions gave by themselves; None of any other."""
    text = str(error)
    if isinstance(error, ValueError) and "cannot be evaluated to python" in text:
        return ConfigError(_LOGIC_HINT)
    if not isinstance(error, TypeError):
        return None
    if re.match(r"unsupported operand type\(s\) for [&|]: .*(Expression|_TracedColumn)'", text):
        return ConfigError(_PARENTHESES_HINT)
    # Not "object is not iterable", which a comprehension over a column gives.
    if text.startswith("argument of type") or re.match(r"unhashable type: .*\.Expression'", text):
        return ConfigError(_LOGIC_HINT)
    return None


def _attempt(function: Traceable, column: Callable[[str], Any]) -> pc.Expression | None:
    try:
        result = _plain(function(_TracedBatch(column)))
    except (ConfigError, _NotTraceable):
        raise
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything on a stand-in
        refusal = _refusal(error)
        if refusal is not None:
            raise refusal from None
        return None
    return result if isinstance(result, pc.Expression) else None


def _trace_both_ways(function: Traceable, seen: list[str]) -> pc.Expression | None:
    try:
        expression = _attempt(function, lambda name: _TracedColumn(pc.field(name), seen, (name,)))
        if expression is None:
            # pyarrow's functions take plain fields only.
            expression = _attempt(function, pc.field)
    except _NotTraceable:
        return None
    return expression


@contextmanager
def _told_of(method: str) -> Iterator[None]:
    """Begin the text of a ConfigError with the method that is to blame."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{method}: {error.message}") from None


def trace(function: Traceable, method: str = "filter") -> pc.Expression | None:
    """Turn a function of a record batch into an expression, if it can be said as one.

    Traced are ``b[name]``, nested ``b[name][field]``, comparisons, arithmetic, ``&``, ``|``, ``~``,
    the methods of `pyarrow.compute.Expression` (``isin``, ``is_null``, ...) and `pyarrow.compute`
    functions. The function is called here and now: values that it captures are frozen.

    Args:
        function: A function of one record batch.
        method: Who asks, for errors.

    Returns:
        The expression; None if the function must be called with real batches.

    Raises:
        ConfigError: The function uses ``and``, ``or``, ``not``, ``in`` or ``bool()`` on a column,
            compares one with null, which is never true, or with ``==`` or ``!=`` next to something
            that cannot be traced: on a real batch this would quietly mean something else.
    """
    seen: list[str] = []
    with _told_of(method):
        expression = _trace_both_ways(function, seen)
        if expression is None and seen:
            raise ConfigError(
                f"`{seen[0]}` on a column next to something that cannot be traced would compare "
                "the whole column; use pyarrow.compute.equal or not_equal there"
            )
    return None if expression is None else checked(expression, method)


def checked(expression: pc.Expression, method: str = "filter") -> pc.Expression:
    """Return the expression, unless it compares with null.

    Raises:
        ConfigError: It does.
    """
    if _NULL_COMPARISON.search(_STRING_LITERAL.sub("", str(expression))):
        raise ConfigError(f"{method}: {_NULL_HINT}")
    return expression


def describe(expression: pc.Expression) -> str:
    """Return an expression as users write it, in one line: ``amount > 1000``, ``place.zip < 5``."""
    text = _NESTED_FIELD.sub(lambda nested: ".".join(_field_names(nested[0])), str(expression))
    text = " ".join(text.split())
    # Arrow prints each comparison in parentheses, a call without.
    return text[1:-1] if text.startswith("(") else text


def _field_names(reference: str) -> list[str]:
    return re.findall(r"FieldRef\.Name\((.*?)\)", reference)


def evaluate(expressions: Mapping[str, pc.Expression], rows: pa.RecordBatch | pa.Table) -> pa.Table:
    """Compute a column of each expression, row by row."""
    # It loads pandas: most of a reader's start, and of its memory, if every reader did.
    from pyarrow import acero

    table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
    plan = acero.Declaration.from_sequence(
        [
            acero.Declaration("table_source", acero.TableSourceNodeOptions(table)),
            acero.Declaration(
                "project",
                acero.ProjectNodeOptions(list(expressions.values()), list(expressions)),
            ),
        ]
    )
    # One thread keeps the order of the rows.
    return plan.to_table(use_threads=False)


def columns_of(
    expression: pc.Expression, schema: pa.Schema, method: str = "filter"
) -> tuple[str, ...]:
    """Return the names of the schema's columns that a predicate needs, in schema order.

    Args:
        expression: The predicate.
        schema: The columns that there are.
        method: What asked for it, for the error.

    Raises:
        ConfigError: The expression uses a column that the schema lacks, does not fit the columns'
            types, or is not boolean.
    """
    # filter() binds the expression against the schema; with no row it costs nothing more.
    return _needed(
        expression,
        schema,
        f"{method}: the predicate {describe(expression)}",
        lambda table: table.filter(expression),
    )


def columns_of_value(expression: pc.Expression, schema: pa.Schema) -> tuple[str, ...]:
    """Return the names of the schema's columns that a computed column needs, in schema order.

    Raises:
        ConfigError: The expression uses a column that the schema lacks, or does not fit the
            columns' types.
    """
    return _needed(
        expression,
        schema,
        f"with_columns: {describe(expression)}",
        lambda table: evaluate({"x": expression}, table),
    )


def _needed(
    expression: pc.Expression, schema: pa.Schema, what: str, run: Callable[[pa.Table], object]
) -> tuple[str, ...]:
    def runs_without(index: int) -> bool:
        try:
            run(schema.remove(index).empty_table())
        except pa.ArrowException:
            return False
        return True

    _check(schema, what, run)
    return tuple(field.name for index, field in enumerate(schema) if not runs_without(index))


def _missing(path: list[str], schema: pa.Schema) -> str:
    parent: pa.DataType = pa.struct(list(schema))
    for depth, name in enumerate(path):
        if not pa.types.is_struct(parent):
            return f"'{'.'.join(path[:depth])}' is {parent}, not a struct"
        types = {field.name: field.type for field in parent.fields}
        if name not in types:
            return no_column(name, types)
        parent = types[name]
    return f"there is no column {'.'.join(path)}"


def _one_row_of_nulls(schema: pa.Schema) -> pa.Table:
    return pa.Table.from_arrays([pa.nulls(1, field.type) for field in schema], schema=schema)


def _check(schema: pa.Schema, what: str, run: Callable[[pa.Table], object]) -> None:
    try:
        run(schema.empty_table())
        # Only with a row is it seen that an expression looks at more than the row itself.
        run(_one_row_of_nulls(schema))
    except pa.ArrowException as error:
        text = str(error).splitlines()[0]
        if "No match for FieldRef" in text:
            # "No match for FieldRef.Nested(FieldRef.Name(a) FieldRef.Name(b)) in a: ..."
            path = _field_names(text.split(" in ", 1)[0])
            raise ConfigError(f"{what.partition(':')[0]}: {_missing(path, schema)}") from None
        if "non-scalar expression" in text:
            raise ConfigError(
                f"{what} looks at the whole column, as an aggregate does, but batches are "
                "arbitrary pieces of it; say what holds for each row by itself"
            ) from None
        raise ConfigError(f"{what} does not fit the columns: {text}") from None
