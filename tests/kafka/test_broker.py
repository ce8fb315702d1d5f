"""The test broker itself: what the other tests take for granted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import confluent_kafka
import pytest
from confluent_kafka import TopicPartition

from sabot_ray.errors import BrokerUnavailable
from sabot_ray.testing import Record
from sabot_ray.testing import produce as write
from tests.servers import KafkaBroker, KafkaCluster, free_ports, running_broker, wait_until


def read(
    broker: KafkaBroker | KafkaCluster, topic: str, count: int, **settings: object
) -> list[bytes | None]:
    """Return the first records' values of partition 0, as a plain consumer sees them."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": "test-broker",
            "enable.auto.commit": False,
            "log_level": 0,
            **settings,
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    values = []
    try:
        for _ in range(count):
            message = consumer.poll(20)
            assert message is not None, f"{len(values)} of {count} records came"
            assert message.error() is None
            values.append(message.value())
    finally:
        consumer.close()
    return values


def test_produce_records_returns_offsets_and_writes_them(broker, topic, produce):
    records = [b"a", None, Record(b"c", key=b"k", headers=(("h", None),))]
    assert produce(topic, records) == [0, 1, 2]
    assert read(broker, topic, 3) == [b"a", None, b"c"]


def test_create_topic_with_settings_keeps_them(broker, make_topic):
    topic = make_topic(partitions=3, retention_ms=60_000)
    assert len(broker.admin.list_topics(topic, timeout=10).topics[topic].partitions) == 3
    resource = confluent_kafka.admin.ConfigResource("topic", topic)
    settings = broker.admin.describe_configs([resource])[resource].result(10)
    assert settings["retention.ms"].value == "60000"


def test_delete_topic_removes_it(broker, make_topic):
    topic = make_topic()
    broker.delete_topic(topic)
    assert topic not in broker.admin.list_topics(timeout=10).topics


def test_produce_to_missing_topic_fails_and_creates_nothing(broker, produce):
    with pytest.raises(BrokerUnavailable):
        produce("no-such-topic", [b"a"], timeout_s=2.0)
    assert "no-such-topic" not in broker.admin.list_topics(timeout=10).topics


def test_transaction_committed_is_read_and_aborted_is_not(broker, topic, produce_in_transaction):
    produce_in_transaction(topic, [b"aborted"]).abort()
    produce_in_transaction(topic, [b"committed"]).commit()
    assert read(broker, topic, 1) == [b"committed"]
    assert read(broker, topic, 1, **{"isolation.level": "read_uncommitted"}) == [b"aborted"]


@pytest.fixture(scope="module")
def own_broker(broker):
    # Depends on the shared one for its skip where servers are missing.
    with running_broker() as own:
        yield own


@pytest.mark.parametrize("end", [KafkaBroker.stop, KafkaBroker.kill])
def test_broker_started_again_has_the_same_address_and_data(own_broker, end):
    topic = f"kept-{end.__name__}"
    own_broker.create_topic(topic)
    address = own_broker.bootstrap_servers
    write(own_broker.bootstrap_servers, topic, [b"before"])
    end(own_broker)
    assert not own_broker.running
    own_broker.start()
    assert own_broker.bootstrap_servers == address
    assert read(own_broker, topic, 1) == [b"before"]


def test_broker_frozen_answers_again_after_thaw(own_broker):
    own_broker.freeze()
    with pytest.raises(confluent_kafka.KafkaException):
        own_broker.admin.list_topics(timeout=0.5)
    assert own_broker.running
    own_broker.thaw()
    assert wait_until(lambda: own_broker.admin.list_topics(timeout=5).brokers)


def test_cluster_whose_leader_is_killed_elects_another_and_keeps_what_was_written(cluster):
    cluster.create_topic("kept")
    cluster.await_in_sync()
    write(cluster.bootstrap_servers, "kept", [b"before"], acks="all")
    first = cluster.leader("kept")
    first.kill()
    second = wait_until(lambda: (led := cluster.leader("kept")) is not first and led, 20.0)
    assert second.running
    write(cluster.bootstrap_servers, "kept", [b"meanwhile"], acks="all")
    first.start()
    cluster.await_in_sync()
    assert read(cluster, "kept", 2) == [b"before", b"meanwhile"]


def test_broker_whose_tests_are_killed_dies_with_them(broker, tmp_path):
    script = tmp_path / "tests_that_hang.py"
    script.write_text(
        "import signal\n"
        "from tests.servers import running_broker\n"
        "with running_broker() as broker:\n"
        "    print(broker.pid, flush=True)\n"
        "    signal.pause()\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(tmp_path)},
    ) as tests:
        java = Path("/proc") / tests.stdout.readline().decode().strip()
        assert (java / "cmdline").read_bytes().startswith(b"java\0")
        tests.send_signal(signal.SIGKILL)
    wait_until(lambda: not (java / "cmdline").exists() or not (java / "cmdline").read_bytes())


def test_free_ports_are_distinct_and_below_the_range_of_outgoing_connections():
    ports = free_ports(5)
    lowest_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert len(set(ports)) == 5
    assert max(ports) < lowest_outgoing
