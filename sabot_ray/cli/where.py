"""The expressions of ``--where``, read as Python but never evaluated by it."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from sabot_ray.errors import ConfigError
from sabot_ray.expressions import columns_of

_COMPARISONS: Final[dict[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
#: name.METHOD("text")
_METHODS: Final[dict[str, Callable[[Any, str], Any]]] = {
    "startswith": pc.starts_with,
    "endswith": pc.ends_with,
    "contains": pc.match_substring,
}
#: As JSON and SQL write them.
_WORDS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}
#: Arrow recurses into an expression, and crashes where it is nested too deeply.
_MOST_PARTS: Final = 1000
_ALLOWED: Final = (
    "columns (also user.country, column('unit price')), numbers, 'texts', true, false, null, "
    "== != < <= > >= in is, and or not, + - * /, .startswith() .endswith() .contains()"
)


class Where:
    """Keeps the rows for which an expression is true; null counts as false.

    Args:
        text: The expression, for example ``amount > 1000 and currency == 'EUR'``.
        schema: The columns that there are.

    Raises:
        ConfigError: It is no such expression, uses an unknown column, or does not fit its types.
    """

    def __init__(self, text: str, schema: pa.Schema) -> None:
        self._text = text
        try:
            tree = ast.parse(text.strip(), mode="eval")
            if sum(1 for _ in ast.walk(tree)) > _MOST_PARTS:
                raise ConfigError(f"--where: the expression has more than {_MOST_PARTS} parts")
            self._expression = _Reader(text.strip(), schema).predicate(tree.body)
            self.columns = columns_of(self._expression, schema, "--where")
        except SyntaxError as error:
            hint = "; == compares" if "=" in text and "==" not in text else ""
            raise ConfigError(f"--where {text!r}: {error.msg}{hint}") from None
        except (RecursionError, MemoryError):
            raise ConfigError("--where: the expression is nested too deeply") from None
        except (pa.ArrowException, OverflowError, TypeError) as error:
            raise ConfigError(f"--where {text!r}: {error}") from None

    def keep(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows for which the expression is true.

        Raises:
            ConfigError: It cannot be computed, for example because it divides by zero.
        """
        try:
            return batch.filter(self._expression)
        except pa.ArrowException as error:
            raise ConfigError(f"--where {self._text!r}: {error}") from None


class _Reader:
    """Turns the nodes that are allowed into pyarrow's expressions, and refuses all others."""

    def __init__(self, text: str, schema: pa.Schema) -> None:
        self._text = text
        self._schema = schema

    def predicate(self, node: ast.expr) -> pc.Expression:
        match node:
            case ast.BoolOp(values=values):
                joined, *others = map(self.predicate, values)
                for other in others:
                    joined = joined & other if isinstance(node.op, ast.And) else joined | other
                return joined
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~self.predicate(operand)
            case ast.Compare(left=left, ops=ops, comparators=rights):
                joined, *others = map(self._comparison, [left, *rights], ops, rights)
                for other in others:
                    joined = joined & other
                return joined
            case ast.Call(
                func=ast.Attribute(value=value, attr=name),
                args=[ast.Constant(str(text))],
                keywords=[],
            ) if name in _METHODS:
                found: pc.Expression = _METHODS[name](self._value(value), text)
                return found
            case ast.Call() if self._path(node) is None:
                raise self._refused(node)
        return self._expression(node)

    def _comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> pc.Expression:
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.List | ast.Tuple | ast.Set):
                raise ConfigError(f"--where {self._text!r}: 'in' takes a list, as in [1, 2]")
            type_ = self._type(left)
            listed = [_fitting(self._constant(item), type_) for item in right.elts]
            among = self._expression(left).isin(pa.array(listed, type_) if type_ else listed)
            return ~among if isinstance(op, ast.NotIn) else among
        if isinstance(op, ast.Is | ast.IsNot | ast.Eq | ast.NotEq) and self._is_null(right):
            null = self._expression(left).is_null()
            return ~null if isinstance(op, ast.IsNot | ast.NotEq) else null
        if type(op) not in _COMPARISONS:
            raise ConfigError(f"--where {self._text!r}: 'is' compares with null only; use ==")
        # A text beside a timestamp is one, too.
        sides = (
            _fitting(self._value(left), self._type(right)),
            _fitting(self._value(right), self._type(left)),
        )
        if not any(isinstance(side, pc.Expression) for side in sides):
            raise ConfigError(f"--where {self._text!r}: compare with a column")
        compared: pc.Expression = _COMPARISONS[type(op)](*sides)
        return compared

    def _expression(self, node: ast.expr) -> pc.Expression:
        value = self._value(node)
        return value if isinstance(value, pc.Expression) else pc.scalar(value)

    def _value(self, node: ast.expr) -> Any:
        """Return an expression, or the value of a constant."""
        path = self._path(node)
        if path is not None:
            return pc.field(*path)
        match node:
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return _ARITHMETIC[type(op)](self._expression(left), self._expression(right))
            case ast.BoolOp() | ast.Compare() | ast.Call() | ast.UnaryOp(op=ast.Not()):
                return self.predicate(node)
        return self._constant(node)

    def _constant(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(str() | int() | float() | None as value):
                return value
            case ast.Name(name) if name in _WORDS:
                return _WORDS[name]
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(int() | float() as number)):
                return -number
        raise self._refused(node)

    def _is_null(self, node: ast.expr) -> bool:
        named = isinstance(node, ast.Name) and node.id == "null" and self._path(node) is None
        return named or (isinstance(node, ast.Constant) and node.value is None)

    def _path(self, node: ast.expr) -> tuple[str, ...] | None:
        """Return the path of a column, None if the node is none."""
        match node:
            case ast.Name(name) if name not in _WORDS or name in self._schema.names:
                return (name,)
            case ast.Call(func=ast.Name("column"), args=[ast.Constant(str(name))], keywords=[]):
                return (name,)
            case (
                ast.Attribute(value=value, attr=name)
                | ast.Subscript(value=value, slice=ast.Constant(str(name)))
            ):
                parent = self._path(value)
                return None if parent is None else (*parent, name)
        return None

    def _type(self, node: ast.expr) -> pa.DataType | None:
        """Return the type of a column that exists; whatever else is left to Arrow."""
        path = self._path(node)
        if path is None or path[0] not in self._schema.names:
            return None
        type_: Any = self._schema.field(path[0]).type
        for name in path[1:]:
            if not pa.types.is_struct(type_) or type_.get_field_index(name) < 0:
                return None
            type_ = type_.field(name).type
        found: pa.DataType = type_
        return found

    def _refused(self, node: ast.expr) -> ConfigError:
        part = ast.get_source_segment(self._text, node) or self._text
        return ConfigError(f"--where: {part!r} is not allowed; allowed are {_ALLOWED}")


def _fitting(value: Any, type_: pa.DataType | None) -> Any:
    """Turn a text into what a column holds that JSON can only say as one."""
    if not isinstance(value, str) or type_ is None:
        return value
    if pa.types.is_binary(type_):
        return value.encode()
    if not pa.types.is_timestamp(type_):
        return value
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        raise ConfigError(
            f"--where: {value!r} is no time; write it as '2026-01-31' or '2026-01-31T12:00:00Z'"
        ) from None
    if type_.tz is None:
        return pa.scalar(when.astimezone(UTC).replace(tzinfo=None) if when.tzinfo else when)
    return pa.scalar(when if when.tzinfo else when.replace(tzinfo=UTC), pa.timestamp("us", "UTC"))
