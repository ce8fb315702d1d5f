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
    Select,
    apply_all,
)
from sabot_ray.runtime.reader import Failure
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
