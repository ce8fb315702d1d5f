"""The operators of a stream, as plain data that a reader executes on each batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sabot_ray.errors import ConfigError
from sabot_ray.expressions import columns_of
from sabot_ray.schema import check_columns


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


@dataclass(frozen=True, eq=False)
class FilterExpression:
    """Keeps the rows for which the expression is true; null counts as false."""

    expression: pc.Expression

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows to keep."""
        return batch.filter(self.expression)


@dataclass(frozen=True, eq=False)
class FilterFunction:
    """Keeps the rows for which a function of the batch gives true; null counts as false."""

    function: Callable[[pa.RecordBatch], Any]

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows to keep.

        Raises:
            ConfigError: The function gave no boolean array with one value for each row.
        """
        mask = self.function(batch)
        where = f"filter: {_name(self.function)}"
        if isinstance(mask, bool | pa.BooleanScalar):
            raise ConfigError(
                f"{where} returned the single value {mask}; expected a boolean array with one "
                "value for each row (pyarrow.compute compares column by column)"
            )
        try:
            array = mask if isinstance(mask, pa.Array | pa.ChunkedArray) else pa.array(mask)
        except (pa.ArrowException, TypeError, ValueError):
            raise ConfigError(
                f"{where} returned a {_type_name(mask)}; expected a boolean array"
            ) from None
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        if not pa.types.is_boolean(array.type):
            raise ConfigError(f"{where} returned an array of {array.type}; expected booleans")
        if len(array) != batch.num_rows:
            raise ConfigError(
                f"{where} returned {len(array)} values for a batch of {batch.num_rows} rows"
            )
        return batch.filter(array)


@dataclass(frozen=True, eq=False)
class Map:
    """Replaces the batch by what a function makes of it."""

    function: Callable[[pa.RecordBatch], pa.RecordBatch]

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the function's batch.

        Raises:
            ConfigError: The function returned no record batch.
        """
        mapped = self.function(batch)
        if not isinstance(mapped, pa.RecordBatch):
            raise ConfigError(
                f"map: {_name(self.function)} returned a {_type_name(mapped)}; expected a "
                "pyarrow.RecordBatch"
            )
        return mapped


@dataclass(frozen=True)
class Select:
    """Keeps the named columns, in the order of the names."""

    names: tuple[str, ...]

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the named columns."""
        return batch.select(list(check_columns(self.names, batch.schema, "select")))


Operator = FilterExpression | FilterFunction | Map | Select


def apply_all(operators: Iterable[Operator], batch: pa.RecordBatch) -> pa.RecordBatch:
    """Run a batch through the operators, in order; it stops early where no row is left."""
    for operator in operators:
        if batch.num_rows == 0:
            break
        batch = operator.apply(batch)
    return batch


def needed_columns(operators: Sequence[Operator], schema: pa.Schema) -> tuple[str, ...]:
    """Return the columns of the source that the operators and the result need, in schema order.

    Raises:
        ConfigError: An operator uses a column that does not exist, or a predicate does not fit the
            columns' types.
    """
    needed: set[str] = set()
    known = schema
    for operator in operators:
        match operator:
            case FilterExpression(expression):
                needed.update(columns_of(expression, known))
            case Select(names):
                check_columns(names, known, "select")
                known = pa.schema([known.field(name) for name in names])
            case FilterFunction() | Map():
                # What a function looks at is not known: it gets every column there is.
                needed.update(known.names)
                if isinstance(operator, Map):
                    return _in_order(needed, schema)
    return _in_order(needed | set(known.names), schema)


def _in_order(names: set[str], schema: pa.Schema) -> tuple[str, ...]:
    return tuple(name for name in schema.names if name in names)


def output_schema(operators: Sequence[Operator], schema: pa.Schema) -> pa.Schema | None:
    """Return the schema of the resulting batches; None behind a `Map`: its result is not known."""
    for operator in operators:
        if isinstance(operator, Map):
            return None
        if isinstance(operator, Select):
            schema = pa.schema([schema.field(name) for name in operator.names])
    return schema
