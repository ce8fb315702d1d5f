"""Several partitions per reader, several topics, and partitions that come while a stream runs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from sabot_ray import ConfigError, UnknownTopicOrPartition
from sabot_ray.kafka.source import Backend
from sabot_ray.testing import Record
from tests.conftest import MakeTopic, Produce
from tests.ray.conftest import ReadTopic
from tests.servers import KafkaBroker

NUMBERS = {"n": "int64"}
WHERE = ["_kafka_topic", "_kafka_partition", "_kafka_offset"]


def numbered(partitions: int, each: int) -> list[Record]:
    """Records of which ``n`` is the partition's number times a million, plus the offset."""
    return [
        Record(b'{"n": %d}' % (p * 1_000_000 + n), partition=p)
        for n in range(each)
        for p in range(partitions)
    ]


def assert_whole(table: pa.Table, partitions: int, each: int) -> None:
    """Assert that each partition came once, in order."""
    for number in range(partitions):
        rows = table.filter(pa.compute.equal(table["_kafka_partition"], number))
        assert rows["_kafka_offset"].to_pylist() == list(range(each))
        assert rows["n"].to_pylist() == [number * 1_000_000 + n for n in range(each)]


@pytest.mark.parametrize("readers", [1, 3, None])
def test_readers_of_several_partitions_give_every_row_once_and_in_order(
    read_topic: ReadTopic, make_topic: MakeTopic, produce: Produce, readers: int | None
) -> None:
    topic = make_topic(partitions=10)
    produce(topic, numbered(10, 500))
    stream = read_topic(
        topic, schema=NUMBERS, end="latest", readers=readers, metadata=WHERE, batch_size=70
    )

    with stream.start() as run:
        table = pa.Table.from_batches(list(run))
        # Twice the four CPUs of the tests' Ray.
        assert len(run._branches[0].coordinator._readers) == (readers or 8)

    assert_whole(table, 10, 500)


def _with_decoding_threads(batch: pa.RecordBatch) -> pa.RecordBatch:
    names = (path.read_text() for path in Path("/proc/self/task").glob("*/comm"))
    threads = sum(name == "sabot-decode\n" for name in names)
    return batch.append_column("threads", pa.array([threads] * batch.num_rows, pa.int32()))


def test_partitions_of_a_reader_share_its_decoding_threads(
    read_topic: ReadTopic, make_topic: MakeTopic, produce: Produce, backend: Backend
) -> None:
    topic = make_topic(partitions=3)
    rows = [{"id": n, "text": f"{n} " * 500} for n in range(300)]
    produce(topic, rows)
    stream = read_topic(topic, end="latest", readers=1, decode_threads=3)

    table = stream.map(_with_decoding_threads).collect().sort_by("id")

    threads = 2 if backend == "native" else 0
    assert table.to_pylist() == [{**row, "threads": threads} for row in rows]


def test_reader_of_several_partitions_resumes_where_it_was_acknowledged(
    read_topic: ReadTopic, make_topic: MakeTopic, produce: Produce
) -> None:
    topic = make_topic(partitions=5)
    produce(topic, numbered(5, 200))
    stream = read_topic(
        topic, topic, schema=NUMBERS, end="latest", readers=2, metadata=WHERE, batch_size=30
    )
    first = []
    with stream.start() as run:
        for batch in run:
            first.append(batch)
            if len(first) == 9:
                run.commit()
                break

    assert_whole(pa.Table.from_batches([*first, *stream]), 5, 200)


def test_filter_that_drops_all_rows_of_several_partitions_reaches_their_ends(
    read_topic: ReadTopic, make_topic: MakeTopic, produce: Produce
) -> None:
    topic = make_topic(partitions=4)
    produce(topic, numbered(4, 50))
    stream = read_topic(topic, topic, schema=NUMBERS, end="latest", readers=1)

    with stream.filter(lambda b: b["n"] < 0).start() as run:
        assert list(run) == []
        run.commit()
        assert [part.committed_offset for part in run.status().partitions] == [50] * 4


def test_error_in_one_of_several_partitions_names_it(
    read_topic: ReadTopic, make_topic: MakeTopic, produce: Produce
) -> None:
    from sabot_ray import DecodeError

    topic = make_topic(partitions=3)
    produce(topic, [*numbered(3, 5), Record(b"{broken", partition=2)])

    with pytest.raises(DecodeError) as caught:
        list(read_topic(topic, schema=NUMBERS, end="latest", readers=1))
    assert (caught.value.partition, caught.value.offset) == (2, 5)


def test_partition_that_is_not_acknowledged_does_not_stop_the_others(
    read_topic: ReadTopic, make_topic: MakeTopic, produce: Produce
) -> None:
    topic = make_topic(partitions=2)
    filler = "x" * 1000
    produce(topic, [Record(b'{"s": "%s"}' % filler.encode(), partition=n % 2) for n in range(6000)])
    stream = read_topic(
        topic,
        schema={"s": "string"},
        end="latest",
        readers=1,
        batch_size=100,
        max_in_flight_bytes=1 << 20,
    )

    seen = [0, 0]
    with stream.start() as run:
        for ref in run.refs():
            seen[ref.partition] += ref.rows
            # Never those of partition 0, which is 3 MB: three times the whole budget.
            if ref.partition == 1:
                ref.ack()
            if seen[1] == 3000:
                break
    assert seen[1] == 3000
    assert 0 < seen[0] < 3000


def test_topics_of_a_list_are_read_as_one_stream(
    read_topic: ReadTopic, make_topic: MakeTopic, produce: Produce
) -> None:
    topics = [make_topic(partitions=2), make_topic()]
    for number, topic in enumerate(topics):
        produce(topic, [{"n": 10 * number + n} for n in range(6)])
    stream = read_topic(topics, topics[0], end="latest", metadata=["_kafka_topic"])

    rows = [row for batch in stream for row in batch.to_pylist()]

    assert sorted((row["_kafka_topic"], row["n"]) for row in rows) == sorted(
        (topic, 10 * number + n) for number, topic in enumerate(topics) for n in range(6)
    )
    assert list(stream) == []  # Both are committed.


def test_topics_that_match_a_pattern_are_read(
    read_topic: ReadTopic, make_topic: MakeTopic, produce: Produce
) -> None:
    topic = make_topic()
    make_topic()
    produce(topic, [{"n": 1}])

    assert read_topic(f"^{topic[:-2]}..$", end="latest").to_pylist() == [{"n": 1}]
    with pytest.raises(UnknownTopicOrPartition, match=r"matches the pattern '\^no-such-'"):
        read_topic("^no-such-", end="latest").count()


@pytest.mark.parametrize("readers", [1, 4])
def test_partitions_added_on_the_way_are_read_from_their_beginning(
    broker: KafkaBroker,
    read_topic: ReadTopic,
    make_topic: MakeTopic,
    produce: Produce,
    readers: int,
) -> None:
    topic = make_topic(partitions=1)
    produce(topic, numbered(1, 3))
    stream = read_topic(
        topic, topic, schema=NUMBERS, readers=readers, metadata_refresh_s=0.5, metadata=WHERE
    )
    with stream.start() as run:
        batches = iter(run)
        found = [next(batches)]
        broker.add_partitions(topic, 3)
        produce(topic, [Record(b'{"n": %d}' % p, partition=p) for p in (1, 2)])
        while sum(batch.num_rows for batch in found) < 5:
            found.append(next(batches))
        run.commit()
        committed = {p.partition: p.committed_offset for p in run.status().partitions}

    rows = pa.Table.from_batches(found).select(["_kafka_partition", "n"]).to_pylist()
    assert rows[3:] in (
        [{"_kafka_partition": p, "n": p} for p in order] for order in ((1, 2), (2, 1))
    )
    assert committed == {0: 3, 1: 1, 2: 1}
    # A later run knows them from its start.
    produce(topic, [Record(b'{"n": 9}', partition=2)])
    with stream.start() as run:
        assert next(iter(run))["n"].to_pylist() == [9]


def test_chosen_partitions_are_read_and_no_others(
    read_topic: ReadTopic, make_topic: MakeTopic, produce: Produce
) -> None:
    topic = make_topic(partitions=4)
    produce(topic, numbered(4, 2))

    def partitions(**options: object) -> set[int]:
        table = read_topic(topic, end="latest", metadata=WHERE, **options).collect()
        return set(table["_kafka_partition"].to_pylist())

    assert partitions(partitions=[1, 3]) == {1, 3}
    assert partitions(partitions={topic: [2]}) == {2}
    assert partitions(partition_id=0) == {0}
    with pytest.raises(ConfigError, match=f"topic '{topic}' has 4 partitions and no 7"):
        partitions(partitions=[1, 7])


def test_bounds_by_time_and_by_partition_select_the_rows(
    read_topic: ReadTopic, make_topic: MakeTopic, produce: Produce
) -> None:
    topic = make_topic(partitions=2)
    produce(
        topic,
        [
            Record(b'{"n": %d}' % (10 * p + n), partition=p, timestamp_ms=1_000_000 + n * 1000)
            for p in range(2)
            for n in range(5)
        ],
    )

    def rows(**bounds: object) -> list[int]:
        table = read_topic(topic, schema=NUMBERS, **{"end": "latest", **bounds}).collect()
        return sorted(table["n"].to_pylist())

    second = datetime.fromtimestamp(1001, UTC)
    assert rows(start=second) == [1, 2, 3, 4, 11, 12, 13, 14]
    assert rows(end=second) == [0, 10]
    # A naive time is UTC, and between two records it is the later one's.
    assert rows(start=second.replace(tzinfo=None, microsecond=1)) == [2, 3, 4, 12, 13, 14]
    assert rows(start=datetime.now(UTC)) == []
    assert rows(start={topic: {1: 3}}) == [0, 1, 2, 3, 4, 13, 14]
    assert rows(end={topic: {0: 1, 1: second}}) == [0, 10]
    with pytest.raises(ConfigError, match=r"partitions \[1\] have none; a read is bounded"):
        rows(end={topic: {0: 1}})
    with pytest.raises(ConfigError, match=r"start: topic '.*' partitions \[5\] are not read"):
        rows(start={topic: {5: 1}})
