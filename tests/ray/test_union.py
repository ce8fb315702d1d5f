"""Several streams read as one, on a real broker."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka.admin import AdminClient

from sabot_ray import ConfigError, DecodeError, Fenced, ReadIncomplete
from sabot_ray.runtime.run import StreamRun
from sabot_ray.testing import EmbeddedKafka, Record, produce
from tests.conftest import MakeTopic, Produce
from tests.ray.conftest import ReadTopic, committed
from tests.servers import KafkaBroker

NUMBERS = {"n": "int64"}


@pytest.fixture
def pair(make_topic: MakeTopic, produce: Produce) -> tuple[str, str]:
    """Two topics of two partitions: the numbers 0 to 99, and 100 to 199."""
    topics = make_topic(partitions=2), make_topic(partitions=2)
    for k, topic in enumerate(topics):
        values = range(100 * k, 100 * (k + 1))
        produce(topic, [Record(b'{"n": %d}' % n, partition=n % 2) for n in values])
    return topics


def numbers(batches: Any) -> list[int]:
    return sorted(n for batch in batches for n in batch["n"].to_pylist())


def test_union_gives_the_rows_of_all_with_every_terminal(
    read_topic: ReadTopic, pair: tuple[str, str]
) -> None:
    one, other = (read_topic(topic, schema=NUMBERS, end="latest") for topic in pair)
    both = one.union(other)
    everything = list(range(200))

    assert both.schema() == pa.schema([("n", pa.int64())])
    assert numbers(both) == everything
    assert sorted(both.collect()["n"].to_pylist()) == everything
    assert sorted(row["n"] for row in both.to_pylist()) == everything
    assert both.count() == 200
    assert len(both.take(150)) == 150
    assert numbers(ref.get() for ref in both.refs()) == everything
    seen: list[pa.RecordBatch] = []
    both.foreach(seen.append)
    assert numbers(seen) == everything

    async def all_of() -> list[pa.RecordBatch]:
        return [batch async for batch in both]

    assert numbers(asyncio.run(all_of())) == everything
    # A third one, and a branch of its own.
    assert both.union(one).count() == 300


def test_operators_behind_the_union_apply_to_all_and_those_before_to_one(
    read_topic: ReadTopic, pair: tuple[str, str]
) -> None:
    one, other = (
        read_topic(topic, schema=NUMBERS, end="latest", metadata=["_kafka_topic"]) for topic in pair
    )
    both = one.filter(lambda b: b["n"] >= 90).union(other.filter(lambda b: b["n"] < 110))

    assert numbers(both) == list(range(90, 110))
    last = both.with_columns(m=lambda b: b["n"] * 2).filter(lambda b: b["m"] > 215)
    assert sorted(last.select("m").collect()["m"].to_pylist()) == [216, 218]
    assert repr(last.select("m")).count(".select('m')") == 2
    mapped = both.map(lambda batch: batch.select(["n"]))
    assert mapped.schema() is None
    assert sorted(mapped.collect()["n"].to_pylist()) == list(range(90, 110))


def test_each_stream_keeps_its_own_progress(
    read_topic: ReadTopic, pair: tuple[str, str], broker: KafkaBroker
) -> None:
    one, other = (read_topic(t, t, schema=NUMBERS, end="latest", batch_size=10) for t in pair)
    both = one.union(other)

    with both.start() as run:
        taken = list(itertools.islice(run, 8))
        status = run.status()
        assert status.group_id == ", ".join(pair)
        assert {part.topic for part in status.partitions} == set(pair)
        assert status.rows == sum(batch.num_rows for batch in taken)
    acknowledged = len(numbers(taken[:-1]))
    assert committed(broker, pair[0]) + committed(broker, pair[1]) == acknowledged > 0
    rest = numbers(both)

    assert sorted(numbers(taken[:-1]) + rest) == list(range(200))
    assert (committed(broker, pair[0]), committed(broker, pair[1])) == (100, 100)
    # One of them goes on alone.
    assert list(one) == []


def test_commit_and_references_of_a_union_reach_every_group(
    read_topic: ReadTopic, pair: tuple[str, str], broker: KafkaBroker
) -> None:
    one, other = (read_topic(t, t, schema=NUMBERS, end="latest") for t in pair)
    with one.union(other).start() as run:
        for ref in run.refs():
            if ref.topic == pair[0]:
                ref.ack()
    assert (committed(broker, pair[0]), committed(broker, pair[1])) == (100, 0)
    with one.union(other).start() as run:
        assert numbers(ref.get() for ref in run.refs()) == list(range(100, 200))
        run.commit()
    assert (committed(broker, pair[0]), committed(broker, pair[1])) == (100, 100)


def test_no_branch_starves_another(
    read_topic: ReadTopic, make_topic: MakeTopic, produce: Produce
) -> None:
    busy, idle = make_topic(), make_topic()
    produce(busy, [{"n": n} for n in range(3000)])
    produce(idle, [{"n": -1}])
    streams = [read_topic(t, schema=NUMBERS, batch_size=1) for t in (busy, idle)]

    with streams[0].union(streams[1]).start() as run:
        batches = iter(run)
        found = next(batches)["n"].to_pylist()
        produce(idle, [{"n": -2}])
        # Far before the busy one is through.
        found += [n for batch in itertools.islice(batches, 1500) for n in batch["n"].to_pylist()]

    assert -1 in found
    assert -2 in found


class BusyBranch:
    """A branch that always has a range."""

    def next(self, timeout_s: float) -> object:
        return object()


def test_branches_that_always_have_something_take_turns() -> None:
    run = StreamRun.__new__(StreamRun)
    one, other = BusyBranch(), BusyBranch()
    run._branches, run._turns = [one, other], deque([one, other])  # type: ignore[list-item]
    found = [run._next() for _ in range(4)]
    assert [branch for branch, _ in filter(None, found)] == [one, other, one, other]


def test_readers_of_a_stream_that_has_ended_make_room(
    read_topic: ReadTopic, pair: tuple[str, str], produce: Produce
) -> None:
    history, live = (
        read_topic(pair[0], schema=NUMBERS, end="latest"),
        read_topic(pair[1], schema=NUMBERS),
    )
    with history.union(live).start() as run:
        batches = iter(run)
        rows = 0
        while rows < 200:
            rows += next(batches).num_rows
        produce(pair[1], [{"n": 200}])
        assert next(batches)["n"].to_pylist() == [200]
        ended, going_on = (branch.coordinator for branch in run._branches)
        assert ended.is_finished
        assert not any(reader.actor for reader in ended._readers)
        assert all(reader.actor for reader in going_on._readers)
        assert run.status().rows == 201


def test_streams_of_other_clusters_can_be_joined(
    read_topic: ReadTopic, pair: tuple[str, str]
) -> None:
    from sabot_ray import Stream

    with EmbeddedKafka() as kafka:
        produce(kafka.bootstrap_servers, "far", [{"n": 1000}])
        far = Stream.from_kafka(
            kafka.bootstrap_servers, "far", schema=NUMBERS, end="latest", use_cpp=False
        )
        both = read_topic(pair[0], schema=NUMBERS, end="latest").union(far)
        assert numbers(both) == [*range(100), 1000]
        assert "aiokafka" in both.backend


def test_streams_with_different_schemas_are_an_error_before_a_group_is_joined(
    read_topic: ReadTopic, pair: tuple[str, str], produce: Produce
) -> None:
    produce(pair[1], [{"m": "x"}])
    one, other = (read_topic(t, t, end="latest") for t in pair)
    both = one.union(other)

    with one.start() as owner:
        for run in (both.start, both.schema, both.collect):
            with pytest.raises(ConfigError) as caught:
                run()
            assert str(caught.value) == (
                f"union: '{pair[0]}' and '{pair[1]}' give different batches, but a stream has one "
                "schema:\n  $.m: absent in the first schema, string in the other one\nmake them "
                "alike: declare the same schema= for both, or select, with_columns or map before "
                "the union"
            )
        owner.commit()


def test_maps_that_give_different_batches_are_an_error(
    read_topic: ReadTopic, pair: tuple[str, str]
) -> None:
    one, other = (read_topic(t, schema=NUMBERS, end="latest") for t in pair)
    renamed = other.map(lambda batch: batch.rename_columns(["m"]))

    for both in (one.union(renamed), one.map(lambda batch: batch).union(renamed)):
        with pytest.raises(ConfigError, match=r"give different batches"):
            list(both)


def test_failure_of_one_branch_ends_the_run_with_it(
    read_topic: ReadTopic, pair: tuple[str, str], produce: Produce, broker: KafkaBroker
) -> None:
    produce(pair[1], [b"no JSON"])
    one, other = (read_topic(t, t, schema=NUMBERS, end="latest", batch_size=10) for t in pair)

    with pytest.raises(DecodeError, match=f"topic '{pair[1]}'"):
        list(one.union(other))
    # What was acknowledged is committed, and nobody is left in the groups.
    assert committed(broker, pair[1]) > 0
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    for group in admin.describe_consumer_groups([*pair]).values():
        assert not group.result().members


def test_branch_that_is_taken_over_fences_the_run(
    read_topic: ReadTopic, pair: tuple[str, str], broker: KafkaBroker
) -> None:
    one, other = (
        read_topic(
            t, t, schema=NUMBERS, batch_size=10, metadata=["_kafka_topic"], enable_auto_commit=False
        )
        for t in pair
    )
    with one.union(other).start() as run:
        seen = set()
        for batch in run:
            seen.update(batch["_kafka_topic"].to_pylist())
            if len(seen) == 2:
                break
        with one.start(), pytest.raises(Fenced, match=f"topic '{pair[0]}'"):
            run.commit()
        # The other branch has committed all the same.
        assert committed(broker, pair[1]) > 0


def test_bounded_union_that_fails_names_its_partition(
    read_topic: ReadTopic, pair: tuple[str, str]
) -> None:
    from sabot_ray import KafkaError

    def refuse(batch: pa.RecordBatch) -> pa.RecordBatch:
        raise KafkaError("of a function")

    one, other = (read_topic(t, schema=NUMBERS, end="latest") for t in pair)
    with pytest.raises(ReadIncomplete, match=f"topic '{pair[1]}' partition .* of a function"):
        list(one.union(other.map(refuse)))


def test_unions_that_cannot_work_are_refused_before_any_connection(read_topic: ReadTopic) -> None:
    a, b = (read_topic(name, "g", schema=NUMBERS) for name in ("a", "b"))
    grows = read_topic("c", schema=NUMBERS, unknown_fields="evolve")

    for other, text in (
        (b, "union: 'a' and 'b' both commit to group 'g', which has one owner; give each a"),
        (a, "union: 'a' and 'a' both commit to group 'g'"),
        (grows, "union: 'c' has unknown_fields='evolve', and its batches would not be like"),
        ("b", "union: expected streams, found str"),
    ):
        with pytest.raises(ConfigError, match=text):
            a.union(other)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="union: name at least one other stream"):
        a.union()
    with pytest.raises(ConfigError, match="count: the stream is continuous"):
        a.union(read_topic("b", end="latest")).count()
