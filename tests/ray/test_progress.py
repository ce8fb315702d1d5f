"""Acknowledgement, commits and resuming, on a real broker's consumer group."""

from __future__ import annotations

import signal

import pyarrow as pa
import pytest

from sabot_ray import (
    ConfigError,
    DataLoss,
    Fenced,
    KafkaError,
    ReadIncomplete,
    SabotRayError,
)
from sabot_ray.offsets.committer import Committer
from sabot_ray.runtime import coordinator
from sabot_ray.testing import Record
from tests.conftest import MakeTopic, Produce
from tests.ray.conftest import ReadTopic
from tests.servers import KafkaBroker, wait_until

NUMBERS = {"n": "int64"}


@pytest.fixture
def numbers(topic: str, produce: Produce) -> str:
    """A topic of one partition with the numbers 0 to 99."""
    produce(topic, [{"n": n} for n in range(100)])
    return topic


def committed(broker: KafkaBroker, group: str, topic: str) -> int:
    """Return what the group has committed for partition 0; -1001 is nothing."""
    import confluent_kafka

    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": group}
    )
    try:
        partition = confluent_kafka.TopicPartition(topic, 0)
        return int(consumer.committed([partition], timeout=10)[0].offset)
    finally:
        consumer.close()


def test_exhausted_stream_resumes_after_its_last_row(
    read_topic: ReadTopic, numbers: str, produce: Produce
) -> None:
    stream = read_topic(numbers, numbers, end="latest", schema=NUMBERS, batch_size=30)

    first = [row["n"] for batch in stream for row in batch.to_pylist()]
    again = [row["n"] for batch in stream for row in batch.to_pylist()]
    produce(numbers, [{"n": 100}])
    later = [row["n"] for batch in stream for row in batch.to_pylist()]

    assert (first, again, later) == (list(range(100)), [], [100])


def test_break_leaves_the_current_batch_unacknowledged(
    read_topic: ReadTopic, numbers: str, broker: KafkaBroker
) -> None:
    stream = read_topic(numbers, numbers, schema=NUMBERS, batch_size=10)

    for batch in stream:
        if batch["n"][0].as_py() == 30:
            break

    assert committed(broker, numbers, numbers) == 30
    for batch in read_topic(numbers, numbers, schema=NUMBERS, batch_size=10):
        assert batch["n"][0].as_py() == 30
        break


@pytest.mark.timeout(25)  # Not after half a minute of commits that nobody answers.
def test_run_closed_by_its_body_ends_and_leaves_the_current_batch_unacknowledged(
    read_topic: ReadTopic, numbers: str, broker: KafkaBroker
) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    run = read_topic(numbers, numbers, schema=NUMBERS, batch_size=10).start()
    batches = iter(run)
    with pytest.raises(SabotRayError, match="closed while it was iterated"):
        for batch in batches:
            if batch["n"][0].as_py() == 30:
                run.close()
                # Although the iterator is not exhausted, and somebody has it.
                assert handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]

    assert committed(broker, numbers, numbers) == 30


def test_exception_in_the_body_leaves_the_current_batch_unacknowledged(
    read_topic: ReadTopic, numbers: str, broker: KafkaBroker
) -> None:
    with pytest.raises(ZeroDivisionError):
        for batch in read_topic(numbers, numbers, schema=NUMBERS, batch_size=10):
            1 / (batch["n"][0].as_py() - 20)

    assert committed(broker, numbers, numbers) == 20


def test_commit_acknowledges_all_that_was_delivered(
    read_topic: ReadTopic, numbers: str, broker: KafkaBroker
) -> None:
    stream = read_topic(numbers, numbers, schema=NUMBERS, batch_size=10, enable_auto_commit=False)
    with stream.start() as run:
        for batch in run:
            if batch["n"][0].as_py() == 30:
                run.commit()
            if batch["n"][0].as_py() == 60:
                break

    assert committed(broker, numbers, numbers) == 40


def test_acknowledged_references_are_committed_contiguously(
    read_topic: ReadTopic, numbers: str, broker: KafkaBroker
) -> None:
    with read_topic(numbers, numbers, schema=NUMBERS, batch_size=10, end="latest").start() as run:
        refs = list(run.refs())
        for ref in (*refs[:3], *refs[4:]):
            ref.ack()

    assert [ref.start_offset for ref in refs] == list(range(0, 100, 10))
    assert sum(ref.rows for ref in refs) == 100
    # The fourth was not acknowledged, so nothing after it is committed.
    assert committed(broker, numbers, numbers) == 30


def test_reference_copied_to_a_task_cannot_acknowledge(read_topic: ReadTopic, numbers: str) -> None:
    import ray

    with read_topic(numbers, schema=NUMBERS).start() as run:
        ref = next(run.refs())
        copy = ray.get(ray.put(ref))
        assert copy.get().equals(ref.get())
        with pytest.raises(ConfigError, match="call it in the driver"):
            copy.ack()


def test_looking_neither_commits_nor_joins(
    read_topic: ReadTopic, numbers: str, broker: KafkaBroker
) -> None:
    stream = read_topic(numbers, numbers, schema=NUMBERS, end="latest")
    with stream.start() as run:
        next(iter(run))
        assert stream.count() == 100
        assert stream.collect().num_rows == 100
        run.commit()

    assert committed(broker, numbers, numbers) == 100
    assert stream.count() == 0


def test_second_driver_takes_over_and_the_first_is_fenced(
    read_topic: ReadTopic, numbers: str, broker: KafkaBroker
) -> None:
    stream = read_topic(
        numbers, numbers, schema=NUMBERS, batch_size=10, auto_commit_interval_ms=60_000
    )
    with stream.start() as first:
        taken = iter(first)
        next(taken)
        next(taken)
        # The first batch is acknowledged, but not committed.
        with stream.start() as second:
            assert next(iter(second))["n"][0].as_py() == 0
            with pytest.raises(Fenced, match=f"another driver took over stream '{numbers}'"):
                first.commit()
            with pytest.raises(Fenced):
                next(taken)
            with pytest.raises(SabotRayError, match="the run is closed"):
                next(iter(first))
            second.commit()

    assert committed(broker, numbers, numbers) == 10


def test_fenced_driver_learns_of_it_without_committing(read_topic: ReadTopic, numbers: str) -> None:
    stream = read_topic(numbers, numbers, schema=NUMBERS, batch_size=10)
    with stream.start() as first, stream.start() as second:
        wait_until(lambda: _is_fenced(first), timeout_s=15)
        assert next(iter(second)).num_rows == 10


def _is_fenced(run: object) -> bool:
    try:
        next(iter(run))  # type: ignore[call-overload]
    except Fenced:
        return True
    return False


def test_control_records_at_the_end_are_committed_past(
    read_topic: ReadTopic, topic: str, produce_in_transaction: object, broker: KafkaBroker
) -> None:
    produce_in_transaction(topic, [b'{"n": 0}', b'{"n": 1}']).commit()  # type: ignore[operator]
    # The marker is written a little later.
    wait_until(lambda: read_topic(topic, end="latest", schema=NUMBERS).count() == 2)

    rows = [row for batch in read_topic(topic, topic, end="latest") for row in batch.to_pylist()]

    assert rows == [{"n": 0}, {"n": 1}]
    # Two records and the marker: the lag is 0.
    assert committed(broker, topic, topic) == 3


def test_committed_offset_that_retention_deleted_is_data_loss(
    read_topic: ReadTopic, numbers: str, broker: KafkaBroker
) -> None:
    import confluent_kafka

    stream = read_topic(numbers, numbers, schema=NUMBERS, batch_size=10)
    for batch in stream:
        if batch["n"][0].as_py() == 20:
            break
    partition = confluent_kafka.TopicPartition(numbers, 0, 50)
    for future in broker.admin.delete_records([partition]).values():
        future.result()

    with pytest.raises(DataLoss, match="30 offsets are lost to retention") as caught:
        stream.start()

    assert (caught.value.wanted_offset, caught.value.available_offset) == (20, 50)


def test_auto_offset_reset_none_asks_for_a_start(read_topic: ReadTopic, numbers: str) -> None:
    stream = read_topic(numbers, numbers, schema=NUMBERS, auto_offset_reset="none")

    with pytest.raises(ConfigError, match="nothing is committed and auto_offset_reset is 'none'"):
        stream.start()


def test_auto_offset_reset_latest_begins_at_the_end(
    read_topic: ReadTopic, numbers: str, produce: Produce
) -> None:
    stream = read_topic(numbers, numbers, schema=NUMBERS, auto_offset_reset="latest")
    with stream.start() as run:
        produce(numbers, [{"n": 100}])
        assert next(iter(run)).to_pylist() == [{"n": 100}]


@pytest.mark.timeout(25)  # Not after half a minute of a commit that nobody carries out.
def test_commit_and_ack_of_a_closed_run_say_that_it_is_too_late(
    read_topic: ReadTopic, numbers: str, broker: KafkaBroker
) -> None:
    with read_topic(numbers, numbers, schema=NUMBERS, batch_size=10).start() as run:
        reference = next(iter(run.refs()))

    with pytest.raises(SabotRayError, match="the run is closed"):
        reference.ack()
    with pytest.raises(SabotRayError, match="the run is closed"):
        run.commit()
    assert committed(broker, numbers, numbers) < 0


def test_error_of_the_stream_is_not_hidden_by_one_of_the_commits(
    read_topic: ReadTopic, numbers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("of the commits")

    def refuse(batch: pa.RecordBatch) -> pa.RecordBatch:
        raise LookupError("of the stream")

    monkeypatch.setattr(Committer, "flush", fail)
    stream = read_topic(numbers, numbers, schema=NUMBERS).map(refuse)

    with pytest.raises(LookupError, match="of the stream"):
        next(iter(stream.start()))


def test_run_without_its_membership_shows_degraded(
    read_topic: ReadTopic, numbers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with read_topic(numbers, numbers, schema=NUMBERS).start() as run:
        next(iter(run))
        assert run.status().state == "RUNNING"
        monkeypatch.setattr(type(run._branches[0]._store), "is_member", False)
        assert run.status().state == "DEGRADED"


def test_driver_that_cannot_start_leaves_the_owner_its_stream(
    read_topic: ReadTopic, numbers: str, broker: KafkaBroker
) -> None:
    stream = read_topic(numbers, numbers, schema=NUMBERS)
    with stream.start() as run:
        next(iter(run))
        with pytest.raises(ConfigError, match="there is no column 'm'"):
            stream.filter(lambda b: b["m"] > 1).start()
        run.commit()
    assert committed(broker, numbers, numbers) == 100


def test_bounded_read_that_fails_names_the_partition_and_the_cause(
    read_topic: ReadTopic, make_topic: MakeTopic, produce: Produce
) -> None:
    def refuse(batch: pa.RecordBatch) -> pa.RecordBatch:
        if batch["_kafka_partition"][0].as_py() == 1:
            raise KafkaError("of partition 1")
        return batch

    topic = make_topic(partitions=2)
    produce(topic, [Record(b'{"n": 1}', partition=n % 2) for n in range(400)])
    stream = read_topic(topic, schema=NUMBERS, end="latest", batch_size=1, metadata=True)

    with pytest.raises(ReadIncomplete, match="partition 1: the read stopped at offset 0") as caught:
        list(stream.map(refuse))
    assert (caught.value.partition, caught.value.offset, caught.value.end_offset) == (1, 0, 200)
    assert isinstance(caught.value.__cause__, KafkaError)


def test_batches_larger_than_the_budget_are_not_taken_for_held_ones(
    read_topic: ReadTopic, numbers: str, caplog: pytest.LogCaptureFixture
) -> None:
    def inflate(batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.record_batch({"n": batch["n"], "text": ["x" * 100_000] * batch.num_rows})

    stream = read_topic(
        numbers, schema=NUMBERS, end="latest", batch_size=10, max_in_flight_bytes=1 << 20
    ).map(inflate)

    assert sum(batch.num_rows for batch in stream) == 100
    assert "waits until ack()" not in caplog.text


def test_reader_that_lingers_is_not_taken_for_a_hanging_one(
    read_topic: ReadTopic, numbers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "LONG_POLL_S", 0.1)
    monkeypatch.setattr(coordinator, "OVERDUE_S", 0.1)

    with read_topic(numbers, schema=NUMBERS, linger_s=4).start() as run:
        assert next(iter(run)).num_rows == 100
        assert run.status().restarts == 0


def test_commit_without_a_group_is_an_error(read_topic: ReadTopic, numbers: str) -> None:
    with (
        read_topic(numbers, schema=NUMBERS).start() as run,
        pytest.raises(ConfigError, match="no group_id"),
    ):
        run.commit()


def test_acknowledged_offsets_are_committed_in_the_background(
    read_topic: ReadTopic, numbers: str, broker: KafkaBroker
) -> None:
    stream = read_topic(
        numbers, numbers, schema=NUMBERS, batch_size=10, auto_commit_interval_ms=100
    )
    with stream.start() as run:
        batches = iter(run)
        for _ in range(4):
            next(batches)
        wait_until(lambda: committed(broker, numbers, numbers) == 30, timeout_s=10)
