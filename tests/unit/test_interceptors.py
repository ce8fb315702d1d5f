"""What interceptors may do, in which order they are called, and what their errors mean."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sabot_ray import ConfigError, Interceptor, Stream
from sabot_ray.kafka.interceptor import Interceptors, checked_interceptors
from sabot_ray.schema import JSON_TEXT_METADATA
from sabot_ray.types import FailedRecord, TopicPartition, WrittenRecords

BATCH = pa.record_batch({"n": [1, 2], "t": ["a", "b"]})
P0 = TopicPartition("t", 0)


class Adding(Interceptor):
    """Adds to the numbers, and to a list what it is told."""

    def __init__(self, amount: int, told: list[Any] | None = None) -> None:
        self.amount = amount
        self.told = [] if told is None else told

    def on_consume(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.set_column(0, "n", pc.add(batch["n"], self.amount))

    on_produce = on_consume

    def on_commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.told.append((self.amount, offsets))

    def on_acknowledgement(
        self, written: Sequence[WrittenRecords], failed: Sequence[FailedRecord]
    ) -> None:
        self.told.append((self.amount, written, failed))


class Doubling(Interceptor):
    def on_consume(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.set_column(0, "n", pc.multiply(batch["n"], 2))

    on_produce = on_consume


class Returning(Interceptor):
    """Returns whatever it was made with."""

    def __init__(self, given: Any) -> None:
        self.given = given

    def on_consume(self, batch: pa.RecordBatch) -> Any:
        return self.given

    on_produce = on_consume


class Raising(Interceptor):
    def on_commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        raise ValueError("mine")

    def on_acknowledgement(
        self, written: Sequence[WrittenRecords], failed: Sequence[FailedRecord]
    ) -> None:
        raise ValueError("mine")


@pytest.mark.parametrize("method", ["on_consume", "on_produce"])
def test_each_gets_what_the_one_before_returned(method: str) -> None:
    intercept = getattr(Interceptors((Adding(1), Interceptor(), Doubling(), Adding(3))), method)
    assert intercept(BATCH).equals(pa.record_batch({"n": [7, 9], "t": ["a", "b"]}))


@pytest.mark.parametrize("method", ["on_consume", "on_produce"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, r"Returning\.{} returned a NoneType; return the batch, or another"),
        (pa.Table.from_batches([BATCH]), r"Returning\.{} returned a Table"),
        (BATCH.select(["n"]), r"(?s)Returning\.{} returned a batch with the columns.*instead of"),
        (BATCH.select(["t", "n"]), r"(?s)Returning\.{} returned a batch with the columns"),
        (BATCH.slice(1), r"Returning\.{} returned 1 rows for 2"),
    ],
)
def test_what_is_no_such_batch_is_refused(method: str, given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message.format(method)):
        getattr(Interceptors((Returning(given),)), method)(BATCH)


def test_metadata_of_columns_is_kept() -> None:
    schema = pa.schema([pa.field("n", pa.string(), metadata=JSON_TEXT_METADATA)])
    batch = pa.record_batch([pa.array(["[1]"])], schema=schema)
    replaced = Interceptors((Returning(pa.record_batch({"n": ["[2]"]})),)).on_produce(batch)
    assert replaced.schema.equals(schema, check_metadata=True)
    assert replaced.to_pylist() == [{"n": "[2]"}]


def test_all_are_told_in_order_also_behind_one_that_raises(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[Any] = []
    interceptors = Interceptors((Adding(1, told), Raising(), Adding(2, told)))
    with caplog.at_level(logging.ERROR, "sabot_ray.interceptors"):
        for offset in (5, 6):
            interceptors.on_commit({P0: offset})
        interceptors.on_acknowledgement([], [])
    assert told == [(n, {P0: offset}) for offset in (5, 6) for n in (1, 2)] + [
        (1, [], []),
        (2, [], []),
    ]
    # One line for each method, however often it raises.
    assert [record.args[0] for record in caplog.records if record.args] == [
        "Raising.on_commit",
        "Raising.on_acknowledgement",
    ]
    assert all("mine" in (record.exc_text or "") for record in caplog.records)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Interceptor(), "expected a list of them, found Interceptor"),
        (7, "expected a list of them, found int"),
        ([Adding], "expected instances of sabot_ray.Interceptor, found the class Adding"),
        ([Adding(1), print], "found builtin_function_or_method"),
    ],
)
def test_what_are_no_interceptors_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked_interceptors(given)
    with pytest.raises(ConfigError, match=message):
        Stream.from_kafka("localhost:9092", "t", interceptors=given)


def test_stream_names_those_that_see_its_batches() -> None:
    stream = Stream.from_kafka("localhost:9092", "t", interceptors=[Raising(), Doubling()])
    assert repr(stream.select("n")) == (
        "Stream.from_kafka('localhost:9092', 't').on_consume(Doubling).select('n')"
    )
