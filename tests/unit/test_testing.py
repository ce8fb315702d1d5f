"""The embedded Kafka and `produce`, seen by a plain Kafka client."""

from __future__ import annotations

import gc
import socket

import confluent_kafka
import pytest
from confluent_kafka import TopicPartition

from sabot_ray.errors import BrokerUnavailable, ConfigError, KafkaError
from sabot_ray.testing import EmbeddedKafka, Record, produce


@pytest.fixture
def kafka():
    with EmbeddedKafka() as kafka:
        yield kafka


def read(servers: str, topic: str, partition: int, count: int) -> list[confluent_kafka.Message]:
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": servers, "group.id": "test-testing", "log_level": 0}
    )
    consumer.assign([TopicPartition(topic, partition, 0)])
    try:
        messages = [consumer.poll(10) for _ in range(count)]
    finally:
        consumer.close()
    assert all(message is not None and message.error() is None for message in messages)
    return messages


def partitions_of(servers: str, topic: str) -> int:
    client = confluent_kafka.Producer({"bootstrap.servers": servers, "log_level": 0})
    return len(client.list_topics(topic, timeout=10).topics[topic].partitions)


def test_produce_values_arrive_in_order(kafka):
    assert kafka.produce("orders", [{"id": 1}, b"raw", None, b""]) == [0, 1, 2, 3]
    values = [message.value() for message in read(kafka.bootstrap_servers, "orders", 0, 4)]
    assert values == [b'{"id":1}', b"raw", None, b""]


def test_produce_record_keeps_every_part(kafka):
    kafka.create_topic("orders", 2)
    headers = (("trace", b"1"), ("trace", None))
    record = Record(b"v", b"k", partition=1, timestamp_ms=1_700_000_000_123, headers=headers)
    assert kafka.produce("orders", [record]) == [0]
    [message] = read(kafka.bootstrap_servers, "orders", 1, 1)
    assert (message.key(), message.value()) == (b"k", b"v")
    assert message.timestamp() == (confluent_kafka.TIMESTAMP_CREATE_TIME, 1_700_000_000_123)
    assert message.headers() == list(headers)


def test_produce_more_than_the_client_queues_writes_all_in_order(kafka):
    offsets = kafka.produce("orders", (b"%d" % i for i in range(500)))
    assert offsets == list(range(500))
    more = produce(
        kafka.bootstrap_servers,
        "orders",
        (b"%d" % i for i in range(500)),
        queue_buffering_max_messages=50,
    )
    assert more == list(range(500, 1000))
    values = [int(message.value()) for message in read(kafka.bootstrap_servers, "orders", 0, 1000)]
    assert values == [*range(500), *range(500)]


def test_produce_nothing_returns_nothing(kafka):
    assert kafka.produce("orders", []) == []


def test_produce_to_missing_partition_raises_with_its_code(kafka):
    with pytest.raises(KafkaError, match=r"topic 'orders': 1 of 2 records were refused") as error:
        kafka.produce("orders", [b"ok", Record(b"lost", partition=9)])
    assert error.value.name == "_UNKNOWN_PARTITION"
    assert error.value.code == confluent_kafka.KafkaError._UNKNOWN_PARTITION


def test_produce_without_a_broker_raises_after_the_time_out():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        servers = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(BrokerUnavailable, match=servers) as error:
            produce(servers, "orders", [b"lost"], timeout_s=0.2)
    assert error.value.retriable


@pytest.mark.parametrize(("given", "expected"), [(None, 3), (5, 5)])
def test_create_topic_has_the_given_or_the_default_partitions(given, expected):
    with EmbeddedKafka(partitions=3) as kafka:
        kafka.create_topic("orders", given)
        assert partitions_of(kafka.bootstrap_servers, "orders") == expected


def test_produce_to_new_topic_creates_it_with_the_default_partitions():
    with EmbeddedKafka(partitions=3) as kafka:
        kafka.produce("orders", [b"v"])
        assert partitions_of(kafka.bootstrap_servers, "orders") == 3


def test_create_topic_twice_raises(kafka):
    kafka.create_topic("orders")
    with pytest.raises(KafkaError, match=r"topic 'orders': .*already exists") as error:
        kafka.create_topic("orders")
    assert error.value.name == "TOPIC_ALREADY_EXISTS"


@pytest.mark.parametrize("numbers", [{"partitions": 0}, {"brokers": 0}, {"partitions": -1}])
def test_embedded_kafka_with_impossible_numbers_is_refused(numbers):
    with pytest.raises(ConfigError, match="at least 1 of each"):
        EmbeddedKafka(**numbers)


def test_create_topic_without_partitions_is_refused(kafka):
    with pytest.raises(ConfigError, match="topic 'orders': 0 partitions"):
        kafka.create_topic("orders", 0)


def test_brokers_three_gives_three_addresses():
    with EmbeddedKafka(brokers=3) as kafka:
        addresses = kafka.bootstrap_servers.split(",")
        assert len(set(addresses)) == 3
        assert kafka.produce("orders", [b"v"]) == [0]


def accepts_connections(address: str) -> bool:
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_close_stops_the_broker_and_may_be_repeated():
    kafka = EmbeddedKafka()
    kafka.produce("orders", [b"v"])
    assert accepts_connections(kafka.bootstrap_servers)
    kafka.close()
    kafka.close()
    assert not accepts_connections(kafka.bootstrap_servers)
    with pytest.raises(ConfigError, match="closed"):
        kafka.produce("orders", [b"v"])


def test_embedded_kafka_forgotten_is_stopped():
    kafka = EmbeddedKafka()
    address = kafka.bootstrap_servers
    del kafka
    gc.collect()
    assert not accepts_connections(address)
