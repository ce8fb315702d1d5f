"""Logs that are truncated under a stream, and logs with holes that are none of its business."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import confluent_kafka
import pytest
from confluent_kafka.admin import NewTopic

from sabot_ray import DataLoss, Stream
from sabot_ray.kafka.source import Backend
from sabot_ray.testing import Record, produce
from tests.conftest import MakeTopic
from tests.servers import KafkaBroker, KafkaCluster, wait_until

NUMBERS = {"n": "int64"}
#: Records of the topic with holes.
RECORDS = 1_000_000


def unique_topic() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


class Truncation:
    """A topic with a leader and a follower, whose log loses what the follower never had.

    It holds the numbers 0 to 99 on both, 100 to 149 on the leader alone; then the leader dies and
    the follower takes over, with the numbers 1100 and more from offset 100 on.
    """

    def __init__(self, cluster: KafkaCluster) -> None:
        self.cluster = cluster
        self.topic = unique_topic()
        # The third node keeps the quorum, and the group's offsets.
        self.leader, self.follower = cluster.brokers[1], cluster.brokers[2]
        new = NewTopic(
            self.topic,
            1,
            replica_assignment=[[1, 2]],
            config={"unclean.leader.election.enable": "true", "min.insync.replicas": "1"},
        )
        cluster.admin.create_topics([new], operation_timeout=20)[self.topic].result(20)
        self.write(range(100))
        wait_until(lambda: self._in_sync() == {1, 2}, 20.0)
        self.follower.kill()
        wait_until(lambda: self._in_sync() == {1}, 30.0)
        self.write(range(100, 150))

    def happen(self, records: int) -> None:
        """Let the follower lead, and write to it."""
        self.leader.kill()
        self.follower.start(wait=False)
        wait_until(lambda: self._leader() == 2, 60.0)
        self.write(range(1100, 1100 + records))

    def write(self, numbers: range) -> None:
        values = ({"n": n} for n in numbers)
        produce(self.cluster.bootstrap_servers, self.topic, values, timeout_s=60.0)

    def _partition(self) -> confluent_kafka.admin.PartitionMetadata:
        try:
            found = self.cluster.admin.list_topics(self.topic, timeout=5)
            return found.topics[self.topic].partitions[0]
        except (confluent_kafka.KafkaException, KeyError) as error:
            raise AssertionError(str(error)) from None

    def _in_sync(self) -> set[int]:
        return set(self._partition().isrs)

    def _leader(self) -> int:
        return self._partition().leader


@pytest.fixture
def truncation(cluster: KafkaCluster) -> Iterator[Truncation]:
    """A truncation that is about to happen."""
    truncation = Truncation(cluster)
    yield truncation
    # With two replicas the cluster would not count as being in step.
    cluster.start()
    cluster.delete_topic(truncation.topic)


def rows_of(batches: Iterator[object], count: int) -> list[int]:
    rows: list[int] = []
    while len(rows) < count:
        rows += next(batches)["n"].to_pylist()  # type: ignore[index]
    return rows


@pytest.mark.timeout(300)
def test_log_truncated_between_runs_is_noticed_although_it_has_grown_beyond_the_cursor(
    cluster: KafkaCluster, truncation: Truncation, ray_session: None
) -> None:
    topic = truncation.topic
    stream = Stream.from_kafka(
        cluster.bootstrap_servers, topic, topic, backend="native", schema=NUMBERS
    )
    with stream.start() as run:
        assert rows_of(iter(run), 150) == list(range(150))
        run.commit()
    truncation.happen(records=200)
    with (
        stream.start() as run,
        pytest.raises(DataLoss, match="the log was truncated to 100") as caught,
    ):
        next(iter(run))
    loss = caught.value
    assert (loss.wanted_offset, loss.available_offset, loss.lost_offsets) == (150, 100, 50)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("client", "records", "available"),
    # Without leader epochs nobody can tell where the logs part, only where this one ends.
    [("native", 200, {100}), ("native", 20, {100}), ("aiokafka", 20, {*range(100, 121)})],
)
def test_log_truncated_while_it_is_read_is_data_loss(
    cluster: KafkaCluster,
    truncation: Truncation,
    ray_session: None,
    client: Backend,
    records: int,
    available: set[int],
) -> None:
    topic = truncation.topic
    stream = Stream.from_kafka(
        cluster.bootstrap_servers, topic, topic, backend=client, schema=NUMBERS
    )
    with stream.start() as run:
        batches = iter(run)
        assert rows_of(batches, 150) == list(range(150))
        truncation.happen(records)
        with pytest.raises(DataLoss) as caught:
            next(batches)
    loss = caught.value
    assert (loss.topic, loss.partition, loss.wanted_offset) == (topic, 0, 150)
    assert loss.available_offset in available
    assert loss.lost_offsets == 150 - loss.available_offset


@pytest.mark.timeout(300)
@pytest.mark.parametrize("records", [200, 20])
def test_log_truncated_while_it_is_read_is_read_on_behind_a_warning(
    cluster: KafkaCluster,
    truncation: Truncation,
    ray_session: None,
    records: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    topic = truncation.topic
    stream = Stream.from_kafka(
        cluster.bootstrap_servers,
        topic,
        topic,
        backend="native",
        schema=NUMBERS,
        on_data_loss="warn",
    )
    with stream.start() as run:
        batches = iter(run)
        assert rows_of(batches, 150) == list(range(150))
        truncation.happen(records)
        assert rows_of(batches, records) == list(range(1100, 1100 + records))
    assert "the log was truncated to 100" in caplog.text


def assert_no_alarm(caplog: pytest.LogCaptureFixture) -> None:
    alarms = ("lost to retention", "beyond the end", "truncated", "created anew (")
    assert not [r for r in caplog.records if any(a in r.getMessage() for a in alarms)]


@pytest.mark.timeout(300)
def test_aborted_transactions_and_markers_of_many_epochs_are_no_loss(
    cluster: KafkaCluster, ray_session: None, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    topic = unique_topic()
    cluster.create_topic(topic)
    cluster.await_in_sync()
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": cluster.bootstrap_servers,
            "transactional.id": topic,
            "linger.ms": 20,
            "log_level": 0,
        }
    )
    producer.init_transactions(60)
    stream = Stream.from_kafka(
        cluster.bootstrap_servers, topic, topic, backend=backend, schema=NUMBERS, end="latest"
    )
    transactions, size = 50, RECORDS // 50
    wanted: list[int] = []
    rows: list[int] = []
    for number in range(transactions):
        producer.begin_transaction()
        for n in range(number * size, (number + 1) * size):
            while True:
                try:
                    producer.produce(topic, b'{"n":%d}' % n)
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        producer.flush(60)
        if number % 5 == 4:
            producer.abort_transaction(60)
        else:
            producer.commit_transaction(60)
            wanted += range(number * size, (number + 1) * size)
        if number in (12, 30):
            # Another leader, and another epoch: the log's is that of each record.
            cluster.leader(topic).restart()
            cluster.await_in_sync()
        if number % 10 == 7:
            # Each of these resumes at a checkpoint, mostly behind a marker.
            rows += [n for batch in stream for n in batch["n"].to_pylist()]

    def read_all() -> bool:
        # The last marker is written a little later.
        rows.extend(n for batch in stream for n in batch["n"].to_pylist())
        return len(rows) >= len(wanted)

    wait_until(read_all, 60.0)
    assert rows == wanted
    assert_no_alarm(caplog)


@pytest.mark.timeout(300)
def test_holes_that_compaction_leaves_are_no_loss(
    broker: KafkaBroker,
    make_topic: MakeTopic,
    ray_session: None,
    backend: Backend,
    caplog: pytest.LogCaptureFixture,
) -> None:
    topic = make_topic(
        cleanup_policy="compact", segment_bytes=1 << 20, min_cleanable_dirty_ratio=0.01
    )
    stream = Stream.from_kafka(
        broker.bootstrap_servers, topic, topic, backend=backend, schema=NUMBERS, end="latest"
    )
    rounds, keys = 5, 1000
    rows: list[int] = []
    for number in range(rounds):
        begin, end = number * RECORDS // rounds, (number + 1) * RECORDS // rounds
        produce(
            broker.bootstrap_servers,
            topic,
            (Record(b'{"n":%d}' % n, b"%d" % (n % keys)) for n in range(begin, end)),
            timeout_s=120.0,
        )
        # What is read next has holes, and what was read last is gone.
        wait_until(lambda begin=begin: first_offset(broker, topic, begin) > begin, 60.0)
        found = [n for batch in stream for n in batch["n"].to_pylist()]
        assert len(found) < end - begin
        rows += found
    assert rows == sorted(set(rows))
    assert {n % keys: n for n in rows} == {n % keys: n for n in range(RECORDS - keys, RECORDS)}
    assert_no_alarm(caplog)


def first_offset(broker: KafkaBroker, topic: str, start: int) -> int:
    """Return the offset of the first record from an offset on."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": "first"}
    )
    try:
        consumer.assign([confluent_kafka.TopicPartition(topic, 0, start)])
        message = consumer.poll(10)
        assert message is not None
        assert message.error() is None
        return message.offset()
    finally:
        consumer.close()
