"""Sources that are built directly, without a stream and without Ray."""

from __future__ import annotations

import confluent_kafka
import pytest

from sabot_ray.errors import ConfigError, DataLoss
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.testing import Record
from tests.kafka.reading import NUMBERS, delete_records, number, numbered, read_to


@pytest.fixture
def source_class(backend):
    if backend == "native":
        from sabot_ray.kafka.librdkafka import LibrdkafkaSource

        return LibrdkafkaSource
    from sabot_ray.kafka.aiokafka_source import AiokafkaSource

    return AiokafkaSource


def test_standalone_source_reads_the_only_partition(broker, topic, source_class, produce):
    produce(topic, map(number, range(3)))
    columns = ["n", "_kafka_offset"]
    source = source_class(
        broker.bootstrap_servers, topic, schema=NUMBERS, columns=columns, end="latest"
    )
    assert read_to(source, 3).equals(numbered((n, n) for n in range(3)))
    source.shutdown()


def test_standalone_source_reads_the_named_partition(broker, make_topic, source_class, produce):
    topic = make_topic(partitions=3)
    produce(topic, [Record(number(p), partition=p) for p in range(3)])
    source = source_class(
        KafkaConfig(broker.bootstrap_servers), topic, None, 1, schema={"n": "int64"}
    )
    assert source.poll(10, timeout_s=5).to_pylist() == [{"n": 1}]
    source.shutdown()


def test_standalone_source_starts_where_the_group_committed(broker, topic, source_class, produce):
    produce(topic, map(number, range(5)))
    group = f"{topic}-group"
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": group}
    )
    consumer.commit(offsets=[confluent_kafka.TopicPartition(topic, 0, 3)], asynchronous=False)
    consumer.close()
    columns = ["n", "_kafka_offset"]
    source = source_class(
        broker.bootstrap_servers, topic, group, schema=NUMBERS, columns=columns, end="latest"
    )
    assert read_to(source, 5).equals(numbered([(3, 3), (4, 4)]))
    source.shutdown()


def test_standalone_source_of_several_partitions_asks_for_one(broker, make_topic, source_class):
    topic = make_topic(partitions=2)
    with pytest.raises(ConfigError, match="2 partitions; name the one to read"):
        source_class(broker.bootstrap_servers, topic, schema=NUMBERS)


def test_standalone_source_of_a_missing_partition_is_refused(broker, topic, source_class):
    with pytest.raises(ConfigError, match="1 partitions and no 3"):
        source_class(broker.bootstrap_servers, topic, None, 3, schema=NUMBERS)


def test_standalone_source_with_unknown_column_is_refused(broker, topic, source_class):
    with pytest.raises(ConfigError, match="there is no column 'm'"):
        source_class(broker.bootstrap_servers, topic, schema=NUMBERS, columns=["m"])


def test_standalone_source_from_a_lost_offset_is_data_loss(broker, topic, source_class, produce):
    produce(topic, map(number, range(5)))
    delete_records(broker, topic, 3)
    with pytest.raises(DataLoss):
        source_class(broker.bootstrap_servers, topic, schema=NUMBERS, start=1)
