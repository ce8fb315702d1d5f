"""Logs that are not what was read any more: never a silent jump, on a real broker."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import confluent_kafka
import pyarrow as pa
import pytest

from sabot_ray import DataLoss, Stream, TopicRecreated
from sabot_ray.kafka.source import Backend
from sabot_ray.runtime import topic_watch
from tests.conftest import MakeTopic, Produce, ProduceInTransaction
from tests.kafka.reading import delete_records
from tests.ray.conftest import ReadTopic
from tests.servers import KafkaBroker, wait_until

NUMBERS = {"n": "int64"}
#: What a running stream has to notice a topic that was created anew, in seconds...
RECREATED_S = 30.0
#: ...and records that are gone.
LOST_S = 10.0


@pytest.fixture(autouse=True)
def watch_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_watch, "CHECK_INTERVAL_S", 1.0)


@pytest.fixture
def numbers(topic: str, produce: Produce) -> str:
    """A topic of one partition with the numbers 0 to 99."""
    produce(topic, [{"n": n} for n in range(100)])
    return topic


def recreate(broker: KafkaBroker, topic: str, produce: Produce, records: int) -> str:
    """Put another topic in the place of one, with numbers from 1000 on; return its id."""
    broker.delete_topic(topic)
    broker.create_topic(topic)
    produce(topic, [{"n": 1000 + n} for n in range(records)])
    return topic_id(broker, topic)


def topic_id(broker: KafkaBroker, topic: str) -> str:
    asked = broker.admin.describe_topics(confluent_kafka.TopicCollection([topic]))
    return str(asked[topic].result(10).topic_id)


def checkpoint(broker: KafkaBroker, topic: str) -> confluent_kafka.TopicPartition:
    """Return what the group of the topic's name has committed of partition 0."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": topic}
    )
    try:
        return consumer.committed([confluent_kafka.TopicPartition(topic, 0)], timeout=10)[0]
    finally:
        consumer.close()


def commit(broker: KafkaBroker, topic: str, offset: int, metadata: str = "") -> None:
    """Commit in the group of the topic's name, as another program would."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": topic}
    )
    try:
        wanted = confluent_kafka.TopicPartition(topic, 0, offset, metadata)
        consumer.commit(offsets=[wanted], asynchronous=False)
    finally:
        consumer.close()


def rows_of(batches: Iterator[pa.RecordBatch], count: int) -> list[int]:
    """Take so many rows, or some more."""
    rows: list[int] = []
    while len(rows) < count:
        rows += next(batches)["n"].to_pylist()
    return rows


def test_checkpoint_has_the_topic_id_and_the_leader_epoch(
    read_topic: ReadTopic, numbers: str, broker: KafkaBroker, backend: Backend
) -> None:
    assert (
        sum(b.num_rows for b in read_topic(numbers, numbers, end="latest", schema=NUMBERS)) == 100
    )

    kept = checkpoint(broker, numbers)
    envelope = json.loads(kept.metadata)
    assert kept.offset == 100
    assert envelope["sabot_ray"] == 1
    assert envelope["topic_id"] == topic_id(broker, numbers)
    assert "schema" in envelope
    # aiokafka's requests carry none.
    assert kept.leader_epoch == (0 if backend == "native" else None)


def test_checkpoint_of_a_transaction_has_both_too(
    numbers: str, broker: KafkaBroker, make_topic: MakeTopic, ray_session: None
) -> None:
    stream = Stream.from_kafka(
        broker.bootstrap_servers, numbers, numbers, schema=NUMBERS, end="latest"
    )
    stream.to_kafka(broker.bootstrap_servers, make_topic(), delivery="exactly_once")

    kept = checkpoint(broker, numbers)
    assert (kept.offset, kept.leader_epoch) == (100, 0)
    assert json.loads(kept.metadata)["topic_id"] == topic_id(broker, numbers)


def test_lost_records_end_a_copy_in_transactions(
    numbers: str,
    broker: KafkaBroker,
    make_topic: MakeTopic,
    produce_in_transaction: ProduceInTransaction,
    ray_session: None,
) -> None:
    stream = Stream.from_kafka(broker.bootstrap_servers, numbers, numbers, schema=NUMBERS)
    output = stream.to_kafka(
        broker.bootstrap_servers, make_topic(), delivery="exactly_once", wait=False
    )
    wait_until(lambda: checkpoint(broker, numbers).offset == 100, 30.0)
    produce_in_transaction(numbers, [b'{"n": %d}' % n for n in range(100, 150)])
    delete_records(broker, numbers, 120)
    with pytest.raises(DataLoss, match="20 offsets are lost to retention"):
        output.wait()


@pytest.mark.parametrize("records", [300, 20])
def test_topic_created_anew_while_it_is_read_is_an_error_and_nothing_of_it_is_committed(
    read_topic: ReadTopic,
    numbers: str,
    broker: KafkaBroker,
    produce: Produce,
    records: int,
) -> None:
    former = topic_id(broker, numbers)
    stream = read_topic(numbers, numbers, schema=NUMBERS, auto_commit_interval_ms=50)
    with stream.start() as run:
        batches = iter(run)
        assert rows_of(batches, 100) == list(range(100))

        latter = recreate(broker, numbers, produce, records)
        began = time.monotonic()
        with pytest.raises(TopicRecreated) as caught:
            rows_of(batches, 10**9)
        assert time.monotonic() - began < RECREATED_S

    assert (caught.value.former_id, caught.value.topic_id) == (former, latter)
    # The former one's went with it.
    assert checkpoint(broker, numbers).offset < 0


def test_topic_created_anew_is_noticed_before_the_last_commit(
    read_topic: ReadTopic,
    numbers: str,
    broker: KafkaBroker,
    produce: Produce,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topic_watch, "CHECK_INTERVAL_S", 3600.0)
    stream = read_topic(numbers, numbers, schema=NUMBERS, enable_auto_commit=False)
    with stream.start() as run:
        assert rows_of(iter(run), 100) == list(range(100))
        recreate(broker, numbers, produce, 300)
        with pytest.raises(TopicRecreated):
            run.commit()

    assert checkpoint(broker, numbers).offset < 0


@pytest.mark.parametrize("records", [300, 20])
def test_topic_created_anew_is_read_from_its_beginning_behind_a_warning(
    read_topic: ReadTopic,
    numbers: str,
    broker: KafkaBroker,
    produce: Produce,
    caplog: pytest.LogCaptureFixture,
    records: int,
) -> None:
    stream = read_topic(
        numbers, numbers, schema=NUMBERS, auto_commit_interval_ms=50, on_data_loss="warn"
    )
    with stream.start() as run:
        batches = iter(run)
        assert rows_of(batches, 100) == list(range(100))
        latter = recreate(broker, numbers, produce, records)
        wanted = list(range(1000, 1000 + records))
        rows: list[int] = []
        # What is read before it is noticed comes again.
        while rows[-records:] != wanted:
            rows += rows_of(batches, 1)

        assert "was deleted and created anew" in caplog.text
        assert f"reading goes on in {numbers}[0] at offset 0" in caplog.text
        run.commit()
    kept = checkpoint(broker, numbers)
    assert kept.offset == records
    assert json.loads(kept.metadata)["topic_id"] == latter


def test_topic_created_anew_between_runs_is_read_from_its_beginning(
    read_topic: ReadTopic,
    numbers: str,
    broker: KafkaBroker,
    produce: Produce,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream = read_topic(numbers, numbers, end="latest", schema=NUMBERS)
    assert sum(batch.num_rows for batch in stream) == 100

    recreate(broker, numbers, produce, 150)
    # Kafka has deleted the offsets with the topic.
    again = [n for batch in stream for n in batch["n"].to_pylist()]

    assert again == list(range(1000, 1150))
    assert "or went with a topic that was deleted and created anew" in caplog.text


def test_committed_offset_of_a_former_topic_is_an_error(
    read_topic: ReadTopic, numbers: str, broker: KafkaBroker, caplog: pytest.LogCaptureFixture
) -> None:
    former = "AVAuRbjsRNiFSYQ1mBCdkg"
    commit(broker, numbers, 40, json.dumps({"sabot_ray": 1, "topic_id": former}))
    options: dict[str, Any] = {"schema": NUMBERS, "end": "latest"}

    with pytest.raises(TopicRecreated) as caught:
        list(read_topic(numbers, numbers, **options))
    assert (caught.value.former_id, caught.value.topic_id) == (former, topic_id(broker, numbers))
    assert checkpoint(broker, numbers).offset == 40

    read = read_topic(numbers, numbers, on_data_loss="warn", **options)
    assert sum(batch.num_rows for batch in read) == 100
    assert "it is read from its beginning" in caplog.text
    assert checkpoint(broker, numbers).offset == 100
    assert sum(batch.num_rows for batch in read_topic(numbers, numbers, **options)) == 0


def test_retention_past_the_cursor_of_a_running_stream_is_data_loss(
    read_topic: ReadTopic,
    numbers: str,
    broker: KafkaBroker,
    produce_in_transaction: ProduceInTransaction,
) -> None:
    with read_topic(numbers, numbers, schema=NUMBERS).start() as run:
        batches = iter(run)
        assert rows_of(batches, 100) == list(range(100))
        # An open transaction holds the cursor up.
        produce_in_transaction(numbers, [b'{"n": %d}' % n for n in range(100, 150)])
        delete_records(broker, numbers, 120)
        began = time.monotonic()
        with pytest.raises(DataLoss, match="20 offsets are lost to retention") as caught:
            next(batches)
        assert time.monotonic() - began < LOST_S

    loss = caught.value
    assert (loss.wanted_offset, loss.available_offset, loss.lost_offsets) == (100, 120, 20)
    assert checkpoint(broker, numbers).offset == 100


def test_retention_past_the_cursor_is_passed_behind_a_warning(
    read_topic: ReadTopic,
    numbers: str,
    broker: KafkaBroker,
    produce_in_transaction: ProduceInTransaction,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with read_topic(numbers, numbers, schema=NUMBERS, on_data_loss="warn").start() as run:
        batches = iter(run)
        assert rows_of(batches, 100) == list(range(100))
        values = [b'{"n": %d}' % n for n in range(100, 150)]
        transaction = produce_in_transaction(numbers, values)
        delete_records(broker, numbers, 120)
        transaction.commit()
        assert rows_of(batches, 30) == list(range(120, 150))
        run.commit()

    assert "20 offsets are lost to retention" in caplog.text
    assert f"reading goes on in {numbers}[0] at offset 120" in caplog.text
    assert checkpoint(broker, numbers).offset >= 150


def test_retention_past_the_cursor_while_records_are_written_elsewhere(
    read_topic: ReadTopic,
    numbers: str,
    broker: KafkaBroker,
    backend: Backend,
    make_topic: MakeTopic,
    produce_in_transaction: ProduceInTransaction,
) -> None:
    copy = make_topic()
    stream = read_topic(numbers, numbers, schema=NUMBERS, auto_commit_interval_ms=50)
    output = stream.to_kafka(
        broker.bootstrap_servers, copy, use_cpp=backend == "native", wait=False
    )
    wait_until(lambda: checkpoint(broker, numbers).offset == 100, 30.0)
    produce_in_transaction(numbers, [b'{"n": %d}' % n for n in range(100, 150)])
    delete_records(broker, numbers, 120)
    with pytest.raises(DataLoss, match="20 offsets are lost to retention"):
        output.wait()


def test_retention_of_what_was_read_is_no_loss(
    read_topic: ReadTopic, numbers: str, broker: KafkaBroker, produce: Produce
) -> None:
    stream = read_topic(numbers, numbers, schema=NUMBERS)
    with stream.start() as run:
        batches = iter(run)
        assert rows_of(batches, 100) == list(range(100))
        delete_records(broker, numbers, 100)
        produce(numbers, [{"n": 100}])
        assert rows_of(batches, 1) == [100]
        run.commit()
    delete_records(broker, numbers, 101)
    produce(numbers, [{"n": 101}])
    assert rows_of(iter(stream.start()), 1) == [101]


def test_committed_offset_beyond_the_end_is_data_loss(
    read_topic: ReadTopic, numbers: str, broker: KafkaBroker
) -> None:
    commit(broker, numbers, 130)
    with pytest.raises(DataLoss, match="offset 130 is beyond the end of the log at 100") as caught:
        read_topic(numbers, numbers, schema=NUMBERS).start()

    loss = caught.value
    assert (loss.wanted_offset, loss.available_offset, loss.lost_offsets) == (130, 100, 30)


def test_committed_offset_beyond_the_end_begins_at_the_end_behind_a_warning(
    read_topic: ReadTopic,
    numbers: str,
    broker: KafkaBroker,
    produce: Produce,
    caplog: pytest.LogCaptureFixture,
) -> None:
    commit(broker, numbers, 130)
    with read_topic(numbers, numbers, schema=NUMBERS, on_data_loss="warn").start() as run:
        produce(numbers, [{"n": 100}])
        assert rows_of(iter(run), 1) == [100]
        run.commit()

    assert "30 offsets are gone" in caplog.text
    assert "reading goes on at offset 100" in caplog.text
    assert checkpoint(broker, numbers).offset == 101
