"""Operators on batches: what an error of a user's function tells."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sabot_ray.errors import ConfigError
from sabot_ray.runtime.operators import (
    FilterExpression,
    FilterFunction,
    Map,
    Operator,
    OperatorFailed,
    RecordFailed,
    Select,
    WithColumns,
    apply_all,
    apply_around_failures,
    source_rows,
)
from sabot_ray.runtime.reader_messages import Failure
from sabot_ray.types import TopicPartition

BATCH = pa.record_batch({"id": [1, 2, 3], "amount": [1.5, 2.5, 3.5], "name": ["a", "b", "c"]})

ARRAYS = "columns are pyarrow arrays: use pyarrow.compute as pc, for example pc.greater("
SCALARS = "the values of a pyarrow array are scalars: .as_py() gives Python's value"


def apply(*operators: Operator) -> pa.RecordBatch:
    return apply_all(operators, BATCH, TopicPartition("orders", 3), 100, 200)


def note_of(*operators: Operator) -> str:
    """Return the note on the error that the driver raises."""
    with pytest.raises(OperatorFailed) as failed:
        apply(*operators)
    error = Failure.of(failed.value).to_error()
    assert type(error) is type(failed.value.error)
    assert str(error) == str(failed.value.error)
    (note,) = error.__notes__
    return note


def price_of(batch: pa.RecordBatch) -> pa.RecordBatch:
    return look_up(batch)


def look_up(batch: pa.RecordBatch) -> pa.RecordBatch:
    try:
        raise KeyError("EUR")
    except KeyError as error:
        raise LookupError("no such rate") from error


def test_operators_are_applied_in_order() -> None:
    kept = apply(
        FilterExpression(pc.field("id") > 1),
        FilterFunction(lambda b: pc.less(b["amount"], 3)),
        Map(lambda b: b.append_column("twice", pc.multiply(b["id"], 2))),
        Select(("twice",)),
    )

    assert kept.equals(pa.record_batch({"twice": [4]}))


def test_note_tells_operator_records_and_the_users_frames_only() -> None:
    note = note_of(Select(("id",)), Map(price_of))

    assert note.startswith(
        "In .map(price_of) on topic 'orders' partition 3, offsets 100 to 199\n"
        "Traceback (most recent call last):\n"
    )
    assert "KeyError: 'EUR'\n\nThe above exception was the direct cause" in note
    assert note.endswith("LookupError: no such rate\n")
    assert re.findall(r'File "(.*?)", line \d+, in (\w+)', note) == [
        (__file__, "look_up"),
        (__file__, "price_of"),
        (__file__, "look_up"),
    ]


def test_note_of_arrows_own_error_names_the_expression() -> None:
    note = note_of(FilterExpression(pc.field("name").cast("int64") > 3))

    assert re.fullmatch(
        r"In \.filter\(cast\(name, .*\.\.\.\) on topic 'orders' partition 3, offsets 100 to 199\n",
        note,
    )


@pytest.mark.parametrize(
    ("function", "remedy"),
    [
        (lambda b: b.amount > 1, "a column of a batch is b['amount'] or b.column('amount')"),
        (lambda b: b.price > 1, "a column of a batch is b['name'] or b.column('name')"),
        (lambda b: b["id"] % 2, ARRAYS),
        (lambda b: b["id"] > 2, ARRAYS),
        (lambda b: b["name"].startswith("a"), ARRAYS),
        (lambda b: int(b["id"]), ARRAYS),
        (lambda b: [value > 1 for value in b["id"]], SCALARS),
        (lambda b: [value.startswith("a") for value in b["name"]], SCALARS),
        (lambda b: sum(b["id"]), SCALARS),
        (lambda b: b["price"], "the columns of the batch are 'id', 'amount', 'name'"),
    ],
)
@pytest.mark.parametrize("operator", [Map, FilterFunction])
def test_note_ends_with_the_remedy(
    operator: Callable[[Any], Operator], function: object, remedy: str
) -> None:
    last_line = note_of(operator(function)).splitlines()[-1]

    assert last_line.startswith(remedy)


def test_error_that_cannot_be_pickled_keeps_its_text_and_note() -> None:
    class Stubborn(Exception):
        def __reduce__(self) -> Any:
            raise TypeError("no")

    def fail(batch: pa.RecordBatch) -> pa.RecordBatch:
        raise Stubborn("mine")

    with pytest.raises(OperatorFailed) as failed:
        apply(Map(fail))
    error = Failure.of(failed.value).to_error()

    assert "an error that cannot be pickled, in a reader: " in str(error)
    assert str(error).endswith("Stubborn: mine")
    assert error.__notes__[0].startswith("In .map(fail) on topic 'orders' partition 3, offsets 100")


def test_wrong_result_of_a_function_is_an_error_of_ours_without_a_note() -> None:
    with pytest.raises(ConfigError, match=r"^map: <lambda> returned a int; expected a ") as caught:
        apply(Map(lambda b: 5))  # type: ignore[arg-type, return-value]

    assert not hasattr(caught.value, "__notes__")


# around failures


def apply_around(*operators: Operator, rows: int = 16) -> tuple[list[int], list[tuple[int, str]]]:
    batch = pa.record_batch({"n": list(range(rows))})
    offsets = [100 + 2 * n for n in range(rows)]
    left, failures = apply_around_failures(operators, batch, TopicPartition("t", 0), offsets)
    return left["n"].to_pylist(), [(row, str(failed.error)) for row, failed in failures]


def failing_on(*bad: int) -> tuple[Callable[[pa.RecordBatch], pa.RecordBatch], list[int]]:
    sizes: list[int] = []

    def function(batch: pa.RecordBatch) -> pa.RecordBatch:
        sizes.append(batch.num_rows)
        for n in batch["n"].to_pylist():
            if n in bad:
                raise ValueError(f"bad {n}")
        return batch

    return function, sizes


def test_rows_on_which_a_function_fails_are_found_and_the_others_kept_in_order() -> None:
    function, sizes = failing_on(3, 4, 15)
    left, failures = apply_around(Map(function))
    assert left == [n for n in range(16) if n not in (3, 4, 15)]
    assert failures == [(3, "bad 3"), (4, "bad 4"), (15, "bad 15")]
    # Not row by row where there is no need.
    assert max(sizes) == 16
    assert sizes.count(1) <= 8


def test_function_that_never_fails_gets_the_batch_once() -> None:
    function, sizes = failing_on()
    assert apply_around(Map(function)) == (list(range(16)), [])
    assert sizes == [16]


def test_function_that_fails_on_every_row_leaves_none() -> None:
    function, _ = failing_on(*range(16))
    left, failures = apply_around(Map(function))
    assert left == []
    assert [row for row, _ in failures] == list(range(16))


def test_expression_that_fails_on_a_row_leaves_it_out() -> None:
    batch = pa.record_batch({"t": ["1", "x", "3"]})
    operator = WithColumns({"n": pc.field("t").cast(pa.int64())})
    left, failures = apply_around_failures([operator], batch, TopicPartition("t", 0), [0, 1, 2])
    assert left.to_pylist() == [{"t": "1", "n": 1}, {"t": "3", "n": 3}]
    assert [row for row, _ in failures] == [1]


@pytest.mark.parametrize(
    "function",
    [
        lambda b: b["m"],
        lambda b: b.n,
        lambda b: b["n"].plus(1),
        lambda b: undefined,  # type: ignore[name-defined]  # noqa: F821
        lambda b: __import__("no_such_module"),
        lambda b: pc.utf8_upper(b["n"]),
    ],
)
def test_errors_of_the_program_are_no_record_s(
    function: Callable[[pa.RecordBatch], pa.RecordBatch],
) -> None:
    with pytest.raises(OperatorFailed) as failed:
        apply_around(Map(function))
    assert not isinstance(failed.value, RecordFailed)


@pytest.mark.parametrize("function", [lambda b: None, lambda b: 3])
def test_functions_that_return_no_batch_fail_whatever_the_policy(function: Any) -> None:
    with pytest.raises(ConfigError, match=r"expected a pyarrow\.RecordBatch"):
        apply_around(Map(function))


def test_parts_with_different_schemas_are_an_error() -> None:
    def function(batch: pa.RecordBatch) -> pa.RecordBatch:
        if 3 in batch["n"].to_pylist():
            raise ValueError
        return batch.rename_columns(["m"]) if 0 in batch["n"].to_pylist() else batch

    with pytest.raises(ConfigError, match="batches of different schemas"):
        apply_around(Map(function))


# the rows that a row was made of


def drop_odd_and_double(batch: pa.RecordBatch) -> pa.RecordBatch:
    numbers = [n for n in batch["n"].to_pylist() if n % 2 == 0 for _ in range(2)]
    return pa.record_batch({"m": pa.array(numbers, pa.int64())})


def sources(operators: list[Operator], made: int, wanted: list[int]) -> list[int] | None:
    batch = pa.record_batch({"n": list(range(20))})
    return source_rows(operators, batch, TopicPartition("t", 0), range(20), made, wanted)


def test_rows_are_led_back_to_those_that_they_were_made_of() -> None:
    keep = FilterExpression(pc.field("n") >= 5)
    assert sources([], 20, [3, 19]) == [3, 19]
    assert sources([keep], 15, [0, 14]) == [5, 19]
    assert sources([keep, Map(drop_odd_and_double)], 14, [0, 1, 2, 13]) == [6, 6, 8, 18]


def test_rows_made_of_several_are_led_back_to_none() -> None:
    total = Map(lambda b: pa.record_batch({"sum": [pc.sum(b["n"]).as_py()]}))
    assert sources([total], 1, [0]) is None
