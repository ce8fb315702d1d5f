"""What the driver asks the brokers, on both clients."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future

import confluent_kafka
import confluent_kafka.admin
import pytest

from sabot_ray.errors import BrokerUnavailable, KafkaError, UnknownTopicOrPartition
from sabot_ray.kafka import aiokafka_metadata, confluent_metadata
from sabot_ray.kafka.aiokafka_metadata import AiokafkaClusterClient
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.confluent_metadata import ConfluentClusterClient
from sabot_ray.kafka.metadata import say_unchecked
from sabot_ray.testing import EmbeddedKafka, Record
from sabot_ray.types import OffsetAndMetadata, TopicPartition, Watermarks
from tests.kafka.reading import delete_records, number
from tests.servers import free_ports


@pytest.fixture(params=[ConfluentClusterClient, AiokafkaClusterClient])
def connect(request):
    clients = []

    def connect_one(servers: str, **settings):
        clients.append(request.param(KafkaConfig(servers, **settings)))
        return clients[-1]

    yield connect_one
    for client in clients:
        client.close()


def test_partitions_are_ascending(broker, make_topic, connect):
    client = connect(broker.bootstrap_servers)
    assert client.partitions(make_topic(partitions=3)) == [0, 1, 2]


def test_cluster_id_is_that_of_the_cluster(broker, connect):
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    expected = admin.list_topics(timeout=10).cluster_id

    assert connect(broker.bootstrap_servers).cluster_id() == expected


def test_missing_topic_is_an_error_that_says_what_to_do(broker, connect):
    client = connect(broker.bootstrap_servers)
    with pytest.raises(UnknownTopicOrPartition, match=r"'test-missing' does not exist .* create"):
        client.partitions("test-missing")


def test_nobody_there_is_an_error_with_the_likely_question(connect):
    client = connect(f"127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(BrokerUnavailable, match="are host and port right") as raised:
        client.partitions("test")
    assert raised.value.retriable


def test_watermarks_follow_the_log(broker, topic, connect, produce):
    client = connect(broker.bootstrap_servers)
    assert client.watermarks(topic, [0]) == {0: Watermarks(0, 0, 0)}
    produce(topic, map(number, range(5)))
    delete_records(broker, topic, 2)
    assert client.watermarks(topic, [0]) == {0: Watermarks(2, 5, 5)}


def test_watermarks_of_a_topic_that_was_just_made(broker, make_topic, connect):
    # Its leaders may not know yet that they are.
    client = connect(broker.bootstrap_servers)
    for _ in range(3):
        topic = make_topic(partitions=32)
        found = client.watermarks(topic, client.partitions(topic))
        assert found == dict.fromkeys(range(32), Watermarks(0, 0, 0))


def test_offsets_at_a_time_of_a_topic_that_was_just_made(broker, make_topic, connect):
    client = connect(broker.bootstrap_servers)
    for _ in range(3):
        topic = make_topic(partitions=32)
        found = client.offsets_at(topic, dict.fromkeys(client.partitions(topic), 0))
        assert found == dict.fromkeys(range(32))


@pytest.mark.parametrize("ask", ["watermarks", "offsets_at"])
def test_partition_that_the_brokers_do_not_know_yet_is_asked_for_again(broker, topic, connect, ask):
    # As after a restart: one broker has named the partition, and another one does not know it.
    client = connect(broker.bootstrap_servers)
    assert client.watermarks(topic, [0]) == {0: Watermarks(0, 0, 0)}
    growing = threading.Timer(1.0, broker.add_partitions, [topic, 2])
    growing.start()
    if ask == "watermarks":
        assert client.watermarks(topic, [0, 1]) == dict.fromkeys([0, 1], Watermarks(0, 0, 0))
    else:
        assert client.offsets_at(topic, {1: 0}) == {1: None}
    growing.join()


def test_partition_that_does_not_come_is_an_error_in_time(broker, topic, connect, monkeypatch):
    for module in (confluent_metadata, aiokafka_metadata):
        monkeypatch.setattr(module, "UNKNOWN_PATIENCE_S", 1.0)
    client = connect(broker.bootstrap_servers)
    began = time.monotonic()
    with pytest.raises(UnknownTopicOrPartition, match=f"'{topic}' partition 1"):
        client.watermarks(topic, [0, 1])
    assert 1.0 < time.monotonic() - began < 3.0


def test_last_stable_offset_stops_at_an_open_transaction(
    broker, topic, connect, produce, produce_in_transaction
):
    produce(topic, [number(0)])
    produce_in_transaction(topic, [number(1)])
    client = connect(broker.bootstrap_servers)
    assert client.watermarks(topic, [0])[0].last_stable == 1
    uncommitted = connect(broker.bootstrap_servers, isolation_level="read_uncommitted")
    assert uncommitted.watermarks(topic, [0])[0] == Watermarks(0, 2, 2)


def test_committed_leaves_out_what_was_never_committed(broker, make_topic, connect):
    topic = make_topic(partitions=3)
    group = f"{topic}-group"
    client = connect(broker.bootstrap_servers)
    partitions = [TopicPartition(topic, number) for number in range(3)]
    assert client.committed(group, partitions) == {}
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": group}
    )
    committed = [
        confluent_kafka.TopicPartition(topic, 1, 7),
        confluent_kafka.TopicPartition(topic, 2, 8, "by a tool"),
    ]
    consumer.commit(offsets=committed, asynchronous=False)
    consumer.close()
    assert client.committed(group, partitions) == {
        partitions[1]: OffsetAndMetadata(7),
        partitions[2]: OffsetAndMetadata(8, "by a tool"),
    }


def test_topic_ids_tell_a_topic_from_its_former_ones(broker, make_topic):
    one, other = make_topic(), make_topic()
    client = ConfluentClusterClient(KafkaConfig(broker.bootstrap_servers))
    before = client.topic_ids([one, other, "test-missing"])
    assert before.keys() == {one, other}
    broker.delete_topic(one)
    broker.create_topic(one)
    after = client.topic_ids([one, other])
    assert after[other] == before[other]
    assert len({before[one], after[one], after[other]}) == 3
    client.close()


def test_topic_ids_without_confluent_kafka_are_said_once_to_be_missing(broker, topic, caplog):
    say_unchecked.cache_clear()
    client = AiokafkaClusterClient(KafkaConfig(broker.bootstrap_servers))
    assert client.topic_ids([topic]) == client.topic_ids([topic]) == {}
    client.close()
    assert caplog.text.count("was deleted and created anew is not noticed") == 1
    assert "install confluent-kafka" in caplog.text


def test_topic_ids_of_the_mock_cluster_are_not_waited_for(caplog):
    with EmbeddedKafka() as kafka:
        kafka.create_topic("t")
        client = ConfluentClusterClient(KafkaConfig(kafka.bootstrap_servers))
        began = time.monotonic()
        assert client.topic_ids(["t"]) == {}
        assert time.monotonic() - began < 2
        client.close()
    assert caplog.text == ""


def test_nobody_there_is_an_error_of_topic_ids_in_the_time_that_is_given():
    client = ConfluentClusterClient(KafkaConfig(f"127.0.0.1:{free_ports(1)[0]}"))
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable) as raised:
        client.topic_ids(["t"], timeout_s=0.5)
    assert raised.value.retriable
    assert time.monotonic() - began < 5
    client.close()


def test_coordinator_that_does_not_know_yet_that_it_is_one_is_asked_again(
    broker, topic, monkeypatch
):
    # As at a cluster's first group, for as long as its topic of offsets is being made.
    refused = confluent_kafka.KafkaError(confluent_kafka.KafkaError.NOT_COORDINATOR)
    answers = [refused, refused, None]

    class Consumer:
        def committed(self, wanted, timeout):
            if (refusal := answers.pop(0)) is not None:
                raise confluent_kafka.KafkaException(refusal)
            return [confluent_kafka.TopicPartition(topic, 0, 7)]

        def close(self):
            pass

    client = ConfluentClusterClient(KafkaConfig(broker.bootstrap_servers))
    monkeypatch.setattr(client, "_new_consumer", lambda *_, **__: Consumer())
    assert client.committed("group", [TopicPartition(topic, 0)]).keys() == {
        TopicPartition(topic, 0)
    }
    assert not answers
    client.close()


def test_request_for_topic_ids_that_is_never_answered_is_given_up(broker, topic, monkeypatch):
    class LosesRequests:
        def describe_topics(self, topics, *, request_timeout):
            return {topic: Future()}

    monkeypatch.setattr(confluent_metadata, "_ANSWER_GRACE_S", 0.1)
    client = ConfluentClusterClient(KafkaConfig(broker.bootstrap_servers))
    client._describing = LosesRequests()
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable) as raised:
        client.topic_ids([topic], timeout_s=0.5)
    assert raised.value.retriable
    assert time.monotonic() - began < 5
    # By another client.
    assert client.topic_ids([topic]).keys() == {topic}
    client.close()


def test_committed_topics_has_every_topic_of_the_group(broker, make_topic, connect):
    topics = sorted(make_topic(partitions=2) for _ in range(2))
    group = f"{topics[0]}-group"
    client = connect(broker.bootstrap_servers)
    assert client.committed_topics(group) == {}
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": group}
    )
    offsets = [confluent_kafka.TopicPartition(topic, 1, 5) for topic in topics]
    consumer.commit(offsets=offsets, asynchronous=False)
    consumer.close()
    assert client.committed_topics(group) == {topic: {1: 5} for topic in topics}


def test_created_topic_has_leaders_and_is_not_created_again(broker, make_topic, connect):
    topic = make_topic()
    broker.delete_topic(topic)
    client = connect(broker.bootstrap_servers)
    for partitions in (2, 5):
        client.create_topic(topic, partitions)
        assert client.leaders()[topic] == {0: 1, 1: 1}


def test_topic_that_cannot_be_created_is_an_error_with_the_reason(broker, connect):
    client = connect(broker.bootstrap_servers)
    with pytest.raises(KafkaError, match="topic 'no/name': creating it") as raised:
        client.create_topic("no/name", 1)
    assert raised.value.code == 17


def test_sample_gives_records_by_partition_and_range(broker, make_topic, connect, produce):
    topic = make_topic(partitions=2)
    produce(topic, [Record(number(n), partition=0) for n in range(10)], linger_ms=100)
    produce(topic, [Record(None, b"k", partition=1), Record(number(1), partition=1)])
    client = connect(broker.bootstrap_servers)
    sampled = client.sample(topic, {1: [(0, 2)], 0: [(0, 3), (4, 4), (5, 10)]}, 4)
    expected = [(None, number(n)) for n in (0, 1, 2, 5, 6, 7, 8)]
    assert sampled == [*expected, (b"k", None), (None, number(1))]


def test_sample_of_aborted_range_is_empty(broker, topic, connect, produce_in_transaction):
    produce_in_transaction(topic, map(number, range(3))).abort()
    client = connect(broker.bootstrap_servers)
    assert client.sample(topic, {0: [(0, 4)]}, 10) == []
