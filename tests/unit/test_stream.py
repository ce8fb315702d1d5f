"""`Stream` as a plan: what it prints, and what it refuses. Nothing connects here."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sabot_ray import ConfigError, Stream


def double(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


class Enrich:
    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch


@pytest.fixture
def stream() -> Stream:
    return Stream.from_kafka("h:1", "orders", "g", backend="aiokafka")


@pytest.mark.parametrize(
    ("build", "shown"),
    [
        (lambda s: s.filter(lambda b: b["amount"] > 1), ".filter(amount > 1)"),
        (lambda s: s.filter(pc.field("amount") > 1), ".filter(amount > 1)"),
        (
            lambda s: s.filter(lambda b: (b["place"]["zip"] < 5) & ~b["name"].is_null()),
            ".filter((place.zip < 5) and invert(is_null(name, {nan_is_null=false})))",
        ),
        (
            lambda s: s.filter(lambda b: b["name"].isin(["a"])),
            '.filter(is_in(name, {value_set=string:[ "a" ], null_matching_behavior=MATCH}))',
        ),
        (
            lambda s: s.filter(lambda b: b["name"].isin([f"name {n}" for n in range(100)])),
            '.filter(is_in(name, {value_set=string:[ "name 0", "name 1", "name 2", "name 3", '
            '"name...)',
        ),
        (lambda s: s.filter(lambda b: b.num_rows > 0), ".filter(<lambda>)"),
        (lambda s: s.map(double), ".map(double)"),
        (lambda s: s.map(functools.partial(double)), ".map(double)"),
        (lambda s: s.map(Enrich()), ".map(Enrich)"),
        (lambda s: s.map(Enrich().__call__), ".map(Enrich.__call__)"),
        (lambda s: s.select("id", "amount"), ".select('id', 'amount')"),
    ],
)
def test_repr_shows_the_operators_as_they_were_written(
    stream: Stream, build: Callable[[Stream], Stream], shown: str
) -> None:
    assert repr(build(stream)) == f"Stream.from_kafka('h:1', 'orders', 'g'){shown}"


@pytest.mark.parametrize("names", [["id", "amount"], ("id", "amount")])
def test_select_takes_a_list_as_well(stream: Stream, names: Any) -> None:
    assert repr(stream.select(names)) == repr(stream.select("id", "amount"))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda s: s.foreach(None), "foreach: expected a function of a batch, found NoneType"),
        (lambda s: s.foreach("x"), "foreach: expected a function of a batch, found str"),
        (lambda s: s.map("x"), "map: expected a function of a batch, found str"),
        (lambda s: s.filter("amount > 3"), "filter: expected a function of a batch, found str"),
        (lambda s: s.filter(pc.field("id") == pa.scalar(None)), "a comparison with null is never"),
        (lambda s: s.select(), "select: name at least one column"),
        (lambda s: s.select([]), "select: name at least one column"),
        (lambda s: s.select(5), "select: expected column names, found int"),
        (lambda s: s.select(["id"], "n"), "select: expected column names, found list"),
        (lambda s: s.select("id", "id"), "select: column 'id' is named more than once"),
    ],
)
def test_operator_that_cannot_work_is_refused_at_once(
    stream: Stream, call: Callable[[Stream], object], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        call(stream)


def test_stream_made_by_its_constructor_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match=r"Stream: use Stream\.from_kafka\(bootstrap_servers, "):
        Stream("localhost:9092")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"Stream: use Stream\.from_kafka\(bootstrap_servers, "):
        Stream("localhost:9092", "orders")  # type: ignore[arg-type]
