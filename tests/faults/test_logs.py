"""Logs with holes that are no loss: aborted transactions, and markers of several leader epochs."""

from __future__ import annotations

import uuid

import confluent_kafka
import pytest

from sabot_ray import Stream
from sabot_ray.kafka.source import Backend
from tests.servers import KafkaCluster, wait_until

NUMBERS = {"n": "int64"}
#: Records of the topic with holes.
RECORDS = 1_000_000


def unique_topic() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


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
