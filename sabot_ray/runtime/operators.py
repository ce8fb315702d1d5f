"""The operators of a stream, as plain data that a reader executes on each batch."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from sabot_ray.errors import ConfigError, SabotRayError
from sabot_ray.expressions import columns_of, columns_of_value, describe, evaluate
from sabot_ray.kafka.interceptor import Interceptor, Interceptors
from sabot_ray.schema import check_columns
from sabot_ray.types import TopicPartition

_ARRAY_REMEDY = (
    "columns are pyarrow arrays: use pyarrow.compute as pc, for example pc.greater(b['x'], 1) or "
    "pc.starts_with(b['x'], 'a'), or convert them with .to_numpy() or .to_pandas()"
)
_SCALAR_REMEDY = "the values of a pyarrow array are scalars: .as_py() gives Python's value"


_Done = TypeVar("_Done")
_Failed = TypeVar("_Failed", bound=Exception)


def _name(function: Callable[..., Any]) -> str:
    if isinstance(function, functools.partial):
        function = function.func
    # An object that can be called has no name of its own.
    name: str = getattr(function, "__qualname__", type(function).__qualname__)
    return name.rpartition("<locals>.")[2]


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


@dataclass(frozen=True, eq=False)
class FilterExpression:
    """Keeps the rows for which the expression is true; null counts as false."""

    expression: pc.Expression

    def __str__(self) -> str:
        return f"filter({_shortened(describe(self.expression))})"

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows to keep."""
        # `batch.filter(expression)` copies them once more, on threads that give their memory back
        # to the system between batches.
        keeps = evaluate({"keeps": self.expression}, batch).column(0)
        return batch.filter(keeps.combine_chunks())


@dataclass(frozen=True, eq=False)
class FilterFunction:
    """Keeps the rows for which a function of the batch gives true; null counts as false."""

    function: Callable[[pa.RecordBatch], Any]

    def __str__(self) -> str:
        return f"filter({_name(self.function)})"

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

    def __str__(self) -> str:
        return f"map({_name(self.function)})"

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


@dataclass(frozen=True, eq=False)
class FlatMap:
    """Replaces the batch by the batches that a function makes of it, one behind the other."""

    function: Callable[[pa.RecordBatch], Iterable[pa.RecordBatch]]

    def __str__(self) -> str:
        return f"flat_map({_name(self.function)})"

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows of the function's batches.

        Raises:
            ConfigError: The function returned something else than record batches of one schema.
        """
        made = self.function(batch)
        where = f"flat_map: {_name(self.function)}"
        if isinstance(made, pa.RecordBatch) or not isinstance(made, Iterable):
            raise ConfigError(
                f"{where} returned a {_type_name(made)}; expected several pyarrow.RecordBatch, as "
                "a list or a generator gives them"
            )
        batches = list(made)
        for one in batches:
            if not isinstance(one, pa.RecordBatch):
                raise ConfigError(
                    f"{where} gave a {_type_name(one)} among its batches; expected "
                    "pyarrow.RecordBatch"
                )
            if one.schema != batches[0].schema:
                raise ConfigError(
                    f"{where} gave batches of different schemas:\n{batches[0].schema}\nand\n"
                    f"{one.schema}"
                )
        if not any(one.num_rows for one in batches):
            return batch.slice(0, 0)
        [joined] = pa.Table.from_batches(batches).combine_chunks().to_batches()
        return joined


@dataclass(frozen=True, eq=False)
class WithColumns:
    """Adds columns that expressions compute; one of a name that is there takes its place."""

    expressions: Mapping[str, pc.Expression]

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={describe(e)}" for name, e in self.expressions.items())
        return f"with_columns({_shortened(shown)})"

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the batch with the columns."""
        computed = evaluate(self.expressions, batch)
        schema = self.schema(batch.schema)
        return pa.RecordBatch.from_arrays(
            [
                computed[name].combine_chunks() if name in self.expressions else batch[name]
                for name in schema.names
            ],
            schema=schema,
        )

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """Return the schema of what `apply` makes of batches of a schema."""
        computed = evaluate(self.expressions, schema.empty_table()).schema
        kept = [computed.field(f.name) if f.name in computed.names else f for f in schema]
        return pa.schema([*kept, *(f for f in computed if f.name not in schema.names)])


@dataclass(frozen=True)
class Select:
    """Keeps the named columns, in the order of the names."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"select({', '.join(map(repr, self.names))})"

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the named columns."""
        return batch.select(list(check_columns(self.names, batch.schema, "select")))


@dataclass(frozen=True, eq=False)
class Intercept:
    """Lets interceptors see the batch, and change its values."""

    interceptors: tuple[Interceptor, ...]

    def __str__(self) -> str:
        return f"on_consume({', '.join(type(one).__qualname__ for one in self.interceptors)})"

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return what the interceptors made of it."""
        return Interceptors(self.interceptors).on_consume(batch)


Operator = FilterExpression | FilterFunction | Map | FlatMap | WithColumns | Select | Intercept


class OperatorFailed(Exception):
    """What an operator raised, with a note for whoever wrote its function.

    Args:
        error: The exception.
        note: Which operator it was and on which records, its traceback, and the likely remedy.
    """

    def __init__(self, error: Exception, note: str) -> None:
        super().__init__(error, note)
        self.error = error
        self.note = note


class RecordFailed(OperatorFailed):
    """The same, where a record may be the reason, and not the program.

    Args:
        error: The exception.
        note: See `OperatorFailed`.
        operator: The operator.
    """

    def __init__(self, error: Exception, note: str, operator: Operator) -> None:
        super().__init__(error, note)
        self.operator = operator

    @property
    def may_pass(self) -> bool:
        """Whether the same may succeed later: a file, a connection or a time-out failed."""
        return isinstance(self.error, OSError)


#: What no record can bring about: a wrong name, a module that is missing, a function of Arrow that
#: takes no column of this type.
_ERRORS_OF_PROGRAMS = (NameError, ImportError, pa.ArrowNotImplementedError)


def _failure(
    operator: Operator, error: Exception, batch: pa.RecordBatch, where: str
) -> OperatorFailed:
    parts = [f"In .{operator} on {where}\n"]
    frames = _users_frames(error.__traceback__)
    if frames is not None:
        parts += traceback.format_exception(type(error), error, frames)
    remedy = _remedy(error, batch)
    note = "".join(parts) + remedy
    if remedy or isinstance(error, _ERRORS_OF_PROGRAMS):
        return OperatorFailed(error, note)
    return RecordFailed(error, note, operator)


def _users_frames(frames: TracebackType | None) -> TracebackType | None:
    """Return what comes after our own frames; None where no Python code does."""
    ours = (__file__, evaluate.__code__.co_filename)
    while frames is not None and frames.tb_frame.f_code.co_filename in ours:
        frames = frames.tb_next
    # pyarrow's own steps help nobody where it was called from here.
    is_arrow = frames is not None and frames.tb_frame.f_code.co_filename.startswith("pyarrow/")
    return None if is_arrow else frames


def _remedy(error: Exception, batch: pa.RecordBatch) -> str:
    if isinstance(error, AttributeError):
        if isinstance(error.obj, pa.RecordBatch):
            name = error.name if error.name in batch.schema.names else "name"
            return f"a column of a batch is b[{name!r}] or b.column({name!r})"
        if isinstance(error.obj, pa.Scalar):
            return _SCALAR_REMEDY
        if isinstance(error.obj, pa.Array):
            return _ARRAY_REMEDY
    if isinstance(error, TypeError) and "pyarrow.lib." in str(error):
        return _SCALAR_REMEDY if "Scalar'" in str(error) else _ARRAY_REMEDY
    if isinstance(error, KeyError) and "does not exist in schema" in str(error):
        return f"the columns of the batch are {', '.join(map(repr, batch.schema.names))}"
    return ""


def apply_all(
    operators: Iterable[Operator],
    batch: pa.RecordBatch,
    partition: TopicPartition,
    start_offset: int,
    next_offset: int,
) -> pa.RecordBatch:
    """Run a batch through the operators, in order; it stops early where no row is left.

    Args:
        operators: The operators.
        batch: The batch.
        partition: Where it comes from, for errors.
        start_offset: First offset that it covers.
        next_offset: The offset after the last that it covers.

    Raises:
        OperatorFailed: A user's function, or Arrow, raised an error.
        ConfigError: A function returned what the operator has no use for.
    """
    for operator in operators:
        if batch.num_rows == 0:
            break
        try:
            batch = operator.apply(batch)
        except SabotRayError:
            raise
        except Exception as error:
            where = f"{partition.place}, offsets {start_offset} to {next_offset - 1}"
            raise _failure(operator, error, batch, where) from error
    return batch


def apply_around_failures(
    operators: Sequence[Operator],
    batch: pa.RecordBatch,
    partition: TopicPartition,
    offsets: Sequence[int],
) -> tuple[pa.RecordBatch, list[tuple[int, RecordFailed]]]:
    """Run a batch through the operators, leaving out the rows on which one of them fails.

    Args:
        operators: The operators.
        batch: The batch, with a row at least.
        partition: Where it comes from.
        offsets: The offset of each row.

    Returns:
        What the operators leave of the other rows, in order; and the row and the reason of each
        failure.

    Raises:
        OperatorFailed: The program is wrong, whatever the rows.
        ConfigError: A function returned what the operator has no use for, or batches of several
            schemas.
    """

    def apply(start: int, stop: int) -> pa.RecordBatch:
        return _apply_to(operators, batch, partition, offsets, start, stop)

    done, failures = around_failures(batch.num_rows, apply, RecordFailed)
    pieces = [piece for _, piece in done if piece.num_rows]
    if not pieces:
        return batch.slice(0, 0), failures
    for piece in pieces:
        if piece.schema != pieces[0].schema:
            raise ConfigError(
                f"the operators gave batches of different schemas:\n{pieces[0].schema}\nand\n"
                f"{piece.schema}"
            )
    if len(pieces) == 1:
        return pieces[0], failures
    [joined] = pa.Table.from_batches(pieces).combine_chunks().to_batches()
    return joined, failures


def _apply_to(
    operators: Sequence[Operator],
    batch: pa.RecordBatch,
    partition: TopicPartition,
    offsets: Sequence[int],
    start: int,
    stop: int,
) -> pa.RecordBatch:
    """Apply operators to some rows of a batch."""
    rows = batch.slice(start, stop - start)
    return apply_all(operators, rows, partition, offsets[start], offsets[stop - 1] + 1)


def source_rows(
    operators: Sequence[Operator],
    batch: pa.RecordBatch,
    partition: TopicPartition,
    offsets: Sequence[int],
    made: int,
    wanted: Sequence[int],
) -> list[int] | None:
    """Find the rows of a batch from which the operators made certain rows, by halving it.

    Args:
        operators: The operators; each runs a few times more.
        batch: What they were given.
        partition: Where it comes from.
        offsets: The offset of each of its rows.
        made: How many rows they made of it.
        wanted: Some of these, ascending.

    Returns:
        The row behind each of these, so ascending; None where nobody can tell, because the
        operators make something else of parts of the batch than of the whole.
    """
    if not operators:
        return list(wanted)
    found: list[int] = []
    left = [(0, batch.num_rows, made, list(wanted))]
    while left:
        start, stop, made, rows = left.pop()
        if not rows:
            continue
        if stop - start == 1:
            found += [start] * len(rows)
            continue
        middle = (start + stop) // 2
        first, second = (
            _apply_to(operators, batch, partition, offsets, *part).num_rows
            for part in ((start, middle), (middle, stop))
        )
        if first + second != made:
            return None
        left.append((middle, stop, second, [row - first for row in rows if row >= first]))
        left.append((start, middle, first, [row for row in rows if row < first]))
    return found


def around_failures(
    rows: int, process: Callable[[int, int], _Done], failed: type[_Failed]
) -> tuple[list[tuple[int, _Done]], list[tuple[int, _Failed]]]:
    """Process rows together, but for those that fail, which are found by halving.

    Args:
        rows: How many there are.
        process: Processes those from a first to before a last one.
        failed: What it raises where one of them may be the reason.

    Returns:
        The first row and the result of each part that was processed; and the row and the reason of
        each failure. Both in order.
    """
    done: list[tuple[int, _Done]] = []
    failures: list[tuple[int, _Failed]] = []
    left = [(0, rows)]
    while left:
        start, stop = left.pop()
        try:
            done.append((start, process(start, stop)))
        except failed as error:
            if stop - start == 1:
                failures.append((start, error))
            else:
                middle = (start + stop) // 2
                left += [(middle, stop), (start, middle)]
    return done, failures


def needed_columns(operators: Sequence[Operator], schema: pa.Schema) -> tuple[str, ...]:
    """Return the columns of the source that the operators and the result need, in schema order.

    Raises:
        ConfigError: An operator uses a column that does not exist, or a predicate does not fit the
            columns' types.
    """
    needed: set[str] = set()
    # Columns that were computed on the way: not the source's, whatever their names.
    computed: set[str] = set()
    known = schema
    for operator in operators:
        match operator:
            case FilterExpression(expression):
                needed.update(set(columns_of(expression, known)) - computed)
            case WithColumns(expressions):
                for expression in expressions.values():
                    needed.update(set(columns_of_value(expression, known)) - computed)
                computed |= expressions.keys()
                known = operator.schema(known)
            case Select(names):
                check_columns(names, known, "select")
                known = pa.schema([known.field(name) for name in names])
            case FilterFunction() | Map() | FlatMap() | Intercept():
                # What a function looks at is not known: it gets every column there is.
                needed.update(set(known.names) - computed)
                if isinstance(operator, Map | FlatMap):
                    return _in_order(needed, schema)
    return _in_order(needed | (set(known.names) - computed), schema)


def _in_order(names: set[str], schema: pa.Schema) -> tuple[str, ...]:
    return tuple(name for name in schema.names if name in names)


def output_schema(operators: Sequence[Operator], schema: pa.Schema) -> pa.Schema | None:
    """Return the schema of the resulting batches; None behind a user's map: it is not known."""
    for operator in operators:
        match operator:
            case Map() | FlatMap():
                return None
            case WithColumns():
                schema = operator.schema(schema)
            case Select(names):
                schema = pa.schema([schema.field(name) for name in names])
    return schema
