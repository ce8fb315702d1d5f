"""`with_columns` and `flat_map`: what they give, and which columns of the source they need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sabot_ray import ConfigError, Stream
from sabot_ray.runtime.operators import apply_all, needed_columns, output_schema
from sabot_ray.types import TopicPartition

SCHEMA = pa.schema([("id", pa.int64()), ("amount", pa.float64()), ("fee", pa.float32())])
BATCH = pa.record_batch([[1, 2, 3], [10.0, 20.0, None], [1.0, 2.0, 3.0]], schema=SCHEMA)


def orders() -> Stream:
    return Stream.from_kafka("127.0.0.1:9", "orders", schema=SCHEMA)


def apply(stream: Stream, batch: pa.RecordBatch = BATCH) -> pa.RecordBatch:
    return apply_all(
        stream._branches[0].operators, batch, TopicPartition("orders", 0), 0, batch.num_rows
    )


def needed(stream: Stream) -> tuple[str, ...]:
    return needed_columns(stream._branches[0].operators, SCHEMA)


def test_with_columns_adds_and_replaces_in_place() -> None:
    stream = orders().with_columns(
        amount=lambda b: b["amount"] * 2, net=lambda b: b["amount"] - b["fee"], one=pc.scalar(1)
    )
    expected = pa.record_batch(
        {
            "id": [1, 2, 3],
            "amount": [20.0, 40.0, None],
            "fee": pa.array([1.0, 2.0, 3.0], pa.float32()),
            "net": [9.0, 18.0, None],
            "one": [1, 1, 1],
        }
    )

    assert apply(stream).equals(expected)
    assert output_schema(stream._branches[0].operators, SCHEMA) == expected.schema
    assert repr(stream).endswith(
        ".with_columns(amount=multiply(amount, 2), net=subtract(amount, fee), one=1)"
    ) or ".with_columns(amount=" in repr(stream)


def test_with_columns_keeps_the_order_of_many_rows() -> None:
    batch = pa.record_batch([range(200_000), [1.0] * 200_000, [0.0] * 200_000], schema=SCHEMA)

    doubled = apply(orders().with_columns(twice=lambda b: b["id"] * 2), batch)

    assert doubled["twice"].to_pylist() == list(range(0, 400_000, 2))


def test_with_columns_needs_only_what_is_computed_or_kept() -> None:
    stream = orders().with_columns(net=lambda b: b["amount"] - b["fee"])

    assert needed(stream) == ("id", "amount", "fee")
    assert needed(stream.select("id")) == ("id", "amount", "fee")
    assert needed(orders().with_columns(x=lambda b: b["id"] + 1).select("x")) == ("id",)
    # The computed amount is none of the source's.
    assert needed(orders().with_columns(amount=lambda b: b["id"] * 1.5).select("amount")) == ("id",)
    assert needed(stream.filter(lambda b: b["net"] > 1).select("net")) == ("amount", "fee")


@pytest.mark.parametrize(
    ("expressions", "text"),
    [
        ({"x": lambda b: b["amonut"]}, "with_columns: there is no column 'amonut'; did you mean"),
        ({"x": lambda b: b["id"]["y"]}, "with_columns: 'id' is int64, not a struct"),
        ({"x": lambda b: pc.sum(b["id"])}, "with_columns: sum(id) looks at the whole column"),
        ({"x": lambda b: pc.utf8_upper(b["id"])}, "with_columns: utf8_upper(id) does not fit"),
    ],
)
def test_with_columns_that_do_not_fit_are_refused(expressions: Any, text: str) -> None:
    stream = orders().with_columns(**expressions)

    with pytest.raises(ConfigError) as caught:
        needed(stream)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("expressions", "text"),
    [
        ({}, "with_columns: name at least one column"),
        ({"x": 5}, "with_columns: x: expected a function of a batch, found int"),
        ({"x": lambda b: b.to_pandas()}, "what gives 'x' cannot be said as an expression"),
        ({"x": lambda b: b["a"] if b["b"] else 1}, "with_columns: `and`, `or`, `not`"),
    ],
)
def test_with_columns_of_anything_else_is_refused_at_once(expressions: Any, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        orders().with_columns(**expressions)
    assert text in str(caught.value)


def test_flat_map_joins_the_batches_of_a_generator() -> None:
    def twice(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        for _ in range(2):
            yield batch.select(["id"])

    stream = orders().flat_map(twice)

    assert apply(stream).equals(pa.record_batch({"id": [1, 2, 3, 1, 2, 3]}))
    assert apply(orders().flat_map(lambda b: [])).num_rows == 0
    assert needed(stream) == ("id", "amount", "fee")
    assert output_schema(stream._branches[0].operators, SCHEMA) is None


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda b: b, "returned a pyarrow.lib.RecordBatch; expected several"),
        (lambda b: None, "returned a NoneType; expected several pyarrow.RecordBatch"),
        (lambda b: [b, 1], "gave a int among its batches"),
        (lambda b: [b, b.select(["id"])], "gave batches of different schemas"),
    ],
)
def test_flat_map_of_anything_else_is_refused(function: Any, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        apply(orders().flat_map(function))
    assert text in str(caught.value)
