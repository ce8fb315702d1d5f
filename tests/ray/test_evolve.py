"""Streams whose schema grows with the fields that they meet, on a real broker."""

from __future__ import annotations

import threading
from collections import Counter
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
import ray

from sabot_ray import (
    BrokerUnavailable,
    ConfigError,
    DecodeError,
    JsonCodec,
    KafkaError,
    SabotRayError,
    Stream,
)
from sabot_ray.runtime import evolution, schemas
from sabot_ray.testing import Record
from tests.conftest import MakeTopic, Produce
from tests.ray.conftest import ReadTopic
from tests.servers import wait_until

EVOLVE = {"schema": {"n": "int64"}, "unknown_fields": "evolve"}
NUMBER = pa.field("n", pa.int64())


@pytest.fixture
def growing(topic: str, produce: Produce) -> str:
    """A topic in which records 3 and 6 have a field more each."""
    more = [{}] * 3 + [{"colour": "red"}] * 3 + [{"sizes": [1, 2.5], "colour": "blue"}] * 3
    produce(topic, [{"n": n, **fields} for n, fields in enumerate(more)])
    return topic


def columns(batches: list[pa.RecordBatch]) -> list[list[str]]:
    """Return the batches' columns, each different set once."""
    found: list[list[str]] = []
    for batch in batches:
        if not found or found[-1] != batch.schema.names:
            found.append(batch.schema.names)
    return found


def test_new_fields_are_appended_from_the_first_record_that_has_them(
    read_topic: ReadTopic, growing: str, caplog: pytest.LogCaptureFixture
) -> None:
    stream = read_topic(
        growing, **EVOLVE, end="latest", metadata=["_kafka_offset"], sample_records=1
    )
    with stream.start() as run:
        batches = list(run)
        schema = run.schema
        assert run.status().columns == ("n", "colour", "sizes", "_kafka_offset")
        assert run.status().restarts == 0

    assert columns(batches) == [
        ["n", "_kafka_offset"],
        ["n", "colour", "_kafka_offset"],
        ["n", "colour", "sizes", "_kafka_offset"],
    ]
    assert schema == batches[-1].schema
    assert schema == pa.schema(
        [
            NUMBER,
            ("colour", pa.string()),
            ("sizes", pa.list_(pa.float64())),
            ("_kafka_offset", pa.int64()),
        ]
    )
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert [row["n"] for row in rows] == [row["_kafka_offset"] for row in rows] == list(range(9))
    assert rows[3:] == [
        *({"n": n, "colour": "red", "_kafka_offset": n} for n in (3, 4, 5)),
        *({"n": n, "colour": "blue", "sizes": [1.0, 2.5], "_kafka_offset": n} for n in (6, 7, 8)),
    ]
    told = [r.getMessage() for r in caplog.records if "schema is extended" in r.getMessage()]
    where = f"topic '{growing}' partition 0 offset"
    end = "the batches have these columns from here on"
    assert told == [
        f"{where} 3: the schema is extended by colour: string; {end}",
        f"{where} 6: the schema is extended by sizes: list<item: double>; {end}",
    ]


def test_fields_of_the_whole_sample_are_appended_at_once(
    read_topic: ReadTopic, growing: str
) -> None:
    batches = list(read_topic(growing, **EVOLVE, end="latest"))

    assert columns(batches) == [["n"], ["n", "colour", "sizes"]]


def test_collected_rows_from_before_have_nulls(read_topic: ReadTopic, growing: str) -> None:
    stream = read_topic(
        growing, **EVOLVE, end="latest", metadata=["_kafka_partition"], sample_records=1
    )

    table = stream.collect()

    assert table.schema.names == ["n", "colour", "sizes", "_kafka_partition"]
    colours = [None] * 3 + ["red"] * 3 + ["blue"] * 3
    assert table["colour"].to_pylist() == colours
    assert [row["colour"] for row in stream.to_pylist()] == colours
    assert stream.take_batch(5)["colour"].to_pylist() == colours[:5]
    assert stream.take(2) == [{"n": 0, "_kafka_partition": 0}, {"n": 1, "_kafka_partition": 0}]
    assert stream.count() == 9


def test_operators_see_the_further_columns(read_topic: ReadTopic, growing: str) -> None:
    def colours(batch: pa.RecordBatch) -> pa.RecordBatch:
        known = batch["colour"] if "colour" in batch.schema.names else [None] * batch.num_rows
        return pa.record_batch({"n": batch["n"], "seen": pa.array(known, pa.string())})

    def widened(batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.append_column("columns", pa.array([batch.num_columns] * batch.num_rows))

    stream = read_topic(growing, **EVOLVE, end="latest", sample_records=1)

    filtered = stream.filter(odd)
    assert columns(list(filtered))[-1] == ["n", "colour", "sizes"]
    assert filtered.collect()["n"].to_pylist() == [1, 3, 5, 7]
    assert columns(list(stream.select("n"))) == [["n"]]
    assert stream.select("n").collect()["n"].to_pylist() == list(range(9))
    assert columns(list(stream.with_columns(m=lambda b: b["n"] + 1)))[-1] == [
        *("n", "colour", "sizes", "m")
    ]
    assert (
        stream.map(colours).collect()["seen"].to_pylist() == [None] * 3 + ["red"] * 3 + ["blue"] * 3
    )
    assert stream.map(widened).collect()["columns"].to_pylist() == [1] * 3 + [2] * 3 + [3] * 3
    assert stream.filter(odd).count() == 4
    with pytest.raises(ConfigError, match="there is no column 'colour'"):
        stream.select("colour").start()


def odd(batch: pa.RecordBatch) -> Any:
    return pa.array([n % 2 == 1 for n in batch["n"].to_pylist()])


def test_references_and_async_iteration_go_on_over_an_evolution(
    read_topic: ReadTopic, growing: str
) -> None:
    import asyncio

    stream = read_topic(growing, **EVOLVE, end="latest", sample_records=1)

    refs = list(stream.refs())
    batches = [ref.get() for ref in refs]

    assert columns(batches)[-1] == ["n", "colour", "sizes"]
    assert [n for batch in batches for n in batch["n"].to_pylist()] == list(range(9))
    assert [one.next_offset == other.start_offset for one, other in pairwise(refs)] == [True] * (
        len(refs) - 1
    )

    async def all_of() -> list[pa.RecordBatch]:
        return [batch async for batch in stream]

    assert columns(asyncio.run(all_of())) == columns(batches)


@pytest.mark.parametrize("readers", [1, 4])
def test_evolution_of_many_partitions_loses_and_doubles_nothing(
    read_topic: ReadTopic, make_topic: MakeTopic, produce: Produce, readers: int
) -> None:
    topic = make_topic(partitions=4)

    def value(n: int) -> bytes:
        # Each partition meets each field at another place.
        fields = "".join(f',"f{k}":{n}' for k in range(3) if n >= 200 * (k + 1 + n % 4))
        return f'{{"n":{n}{fields}}}'.encode()

    produce(topic, [Record(value(n), partition=n % 4) for n in range(4000)])
    stream = read_topic(
        topic,
        **EVOLVE,
        end="latest",
        metadata=["_kafka_partition", "_kafka_offset"],
        batch_size=50,
        sample_records=1,
        readers=readers,
    )

    batches = list(stream)

    names = columns(batches)
    # From the first batch with a column on, all have it.
    assert [len(set(one) - set(other)) for one, other in pairwise(names)] == [0] * (len(names) - 1)
    assert set(names[-1]) == {"n", "f0", "f1", "f2", "_kafka_partition", "_kafka_offset"}
    seen: dict[int, list[int]] = {}
    for batch in batches:
        for row in batch.to_pylist():
            seen.setdefault(row["_kafka_partition"], []).append(row["_kafka_offset"])
            for k in range(3):
                wanted = row["n"] if row["n"] >= 200 * (k + 1 + row["n"] % 4) else None
                assert row.get(f"f{k}") == wanted
    assert seen == {partition: list(range(1000)) for partition in range(4)}


def test_evolved_schema_is_kept_with_the_progress(
    read_topic: ReadTopic, topic: str, produce: Produce, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce(topic, [{"n": 0}])
    stream = read_topic(topic, topic, unknown_fields="evolve")
    with stream.start() as run:
        batches = iter(run)
        assert next(batches).schema == pa.schema([NUMBER])
        produce(topic, [{"colour": "red", "n": 1}])
        assert next(batches).to_pylist() == [{"n": 1, "colour": "red"}]
        run.commit()

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("a sample was taken")

    monkeypatch.setattr(schemas, "sample_records", fail)
    expected = pa.schema([NUMBER, ("colour", pa.string())])
    assert stream.schema() == expected
    # What was declared is what was there before the columns were appended.
    for options in (EVOLVE, {"schema": {"n": "int64"}}, {"schema": expected}):
        assert read_topic(topic, topic, **options).schema() == expected
    with pytest.raises(ConfigError, match=r"\$\.colour: int64 in the declared schema, string in"):
        read_topic(topic, topic, schema={"n": "int64", "colour": "int64"}).start()
    with pytest.raises(ConfigError, match=r"\$\.m: string in the declared schema, absent in"):
        read_topic(topic, topic, schema={"m": "string", "n": "int64"}).start()
    produce(topic, [{"n": 2}])
    with stream.start() as run:
        assert next(iter(run)).to_pylist() == [{"n": 2, "colour": None}]


def test_evolution_that_was_not_acknowledged_comes_again(
    read_topic: ReadTopic, growing: str
) -> None:
    stream = read_topic(growing, growing, **EVOLVE, end="latest", sample_records=1)
    for batch in stream:
        if "sizes" in batch.schema.names:
            break
    # The batches before were acknowledged, this one was not: nothing is committed beyond them.
    assert stream.schema().names == ["n", "colour", "sizes"]

    again = list(stream)

    assert columns(again) == [["n", "colour", "sizes"]]
    assert [n for batch in again for n in batch["n"].to_pylist()] == [6, 7, 8]
    assert list(stream) == []


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_later_value_that_does_not_fit_is_a_decode_error(
    read_topic: ReadTopic, topic: str, produce: Produce, policy: str
) -> None:
    produce(topic, [{"n": 0, "x": 1}, {"n": 1, "x": "y"}, {"n": 2, "x": 3}])
    stream = read_topic(
        topic, **EVOLVE, end="latest", sample_records=1, error_handling_policy=policy
    )

    if policy == "skip":
        assert stream.collect().to_pylist() == [{"n": 0, "x": 1}, {"n": 2, "x": 3}]
    else:
        with pytest.raises(DecodeError, match=r"offset 1: field \$\.x: expected an integer"):
            stream.collect()


def test_fields_below_the_top_level_are_ignored(
    read_topic: ReadTopic, topic: str, produce: Produce, caplog: pytest.LogCaptureFixture
) -> None:
    produce(topic, [{"o": {"x": 1, "y": 2}, "_kafka_x": 1}])
    schema = {"o": pa.struct([("x", pa.int64())])}
    stream = read_topic(topic, schema=schema, unknown_fields="evolve", end="latest")

    assert stream.collect().to_pylist() == [{"o": {"x": 1}}]
    assert "field $.o.y is not in the schema and is ignored" in caplog.text
    assert "schema is extended" not in caplog.text


def test_names_that_are_data_are_an_error(
    read_topic: ReadTopic, topic: str, produce: Produce, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evolution, "MAX_EVOLVED_COLUMNS", 20)
    produce(topic, [{"n": n, f"user{n}": 1} for n in range(21)])
    stream = read_topic(topic, **EVOLVE, end="latest")

    with pytest.raises(ConfigError, match="would append 21 columns, more than 20; where names are"):
        stream.collect()


def test_codec_object_may_evolve(read_topic: ReadTopic, growing: str) -> None:
    codec = JsonCodec(pa.schema([NUMBER]), "evolve")

    assert read_topic(growing, codec_type=codec, end="latest").collect().num_columns == 3


@pytest.fixture
def held_sample(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, Counter[str], list[Any]]:
    """Samples wait for the event, after raising the errors of the list; they are counted."""
    may_go, asked, errors = threading.Event(), Counter[str](), list[Any]()
    sample = evolution.SchemaEvolution._sample

    def wait(self: Any, schema: pa.Schema) -> Any:
        asked["samples"] += 1
        assert may_go.wait(30)
        if errors:
            raise errors.pop(0)
        return sample(self, schema)

    monkeypatch.setattr(evolution.SchemaEvolution, "_sample", wait)
    return may_go, asked, errors


def test_outage_while_fields_are_looked_for_is_waited_for(
    read_topic: ReadTopic, growing: str, held_sample: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go, asked, errors = held_sample
    monkeypatch.setattr(evolution, "_TRY_AGAIN_S", 0.01)
    may_go.set()
    errors += [BrokerUnavailable("away", retriable=True)] * 3

    assert read_topic(growing, **EVOLVE, end="latest").collect().num_rows == 9
    assert asked["samples"] == 4
    errors.append(KafkaError("refused"))
    with pytest.raises(KafkaError, match="refused"):
        list(read_topic(growing, **EVOLVE))


def test_reader_killed_while_fields_are_looked_for_is_replaced(
    read_topic: ReadTopic, growing: str, held_sample: Any
) -> None:
    may_go, asked, _ = held_sample
    with read_topic(growing, **EVOLVE, end="latest").start() as run:
        rows: list[int] = []

        def read() -> None:
            rows.extend(n for batch in run for n in batch["n"].to_pylist())

        reading = threading.Thread(target=read)
        reading.start()
        wait_until(lambda: asked["samples"] == 1)
        ray.kill(run._branches[0].coordinator._readers[0].actor)
        may_go.set()
        reading.join(60)

    assert rows == list(range(9))


def test_run_closed_while_fields_are_looked_for_ends(
    read_topic: ReadTopic, growing: str, held_sample: Any
) -> None:
    may_go, *_ = held_sample
    run = read_topic(growing, growing, **EVOLVE).start()
    batches = iter(run)
    assert next(batches)["n"].to_pylist() == [0, 1, 2]
    coordinator = run._branches[0].coordinator
    wait_until(lambda: coordinator.next(0.1) is None and coordinator.new_field)
    run.close()
    may_go.set()
    with pytest.raises(SabotRayError, match="the run was closed while it was iterated"):
        next(batches)


def test_new_partition_is_read_with_the_evolved_schema(
    read_topic: ReadTopic, growing: str, produce: Produce, broker: Any
) -> None:
    stream: Stream = read_topic(growing, **EVOLVE, metadata_refresh_s=0.2, readers=1)
    with stream.start() as run:
        batches = iter(run)
        while "sizes" not in next(batches).schema.names:
            pass
        broker.add_partitions(growing, 2)
        produce(growing, [Record(b'{"n": 100}', partition=1)])
        while (batch := next(batches))["n"][0].as_py() != 100:
            pass
        assert batch.to_pylist() == [{"n": 100, "colour": None, "sizes": None}]
