"""What is an error of a source, and what is not."""

from __future__ import annotations

import pytest

from sabot_ray.errors import BrokerUnavailable, OffsetOutOfRange, UnknownTopicOrPartition
from sabot_ray.kafka.source import PartitionSource
from sabot_ray.testing import produce as write
from tests import servers
from tests.kafka.reading import delete_records, number, numbered, numbers_spec, read_to


def poll_until_error(source: PartitionSource, error: type[Exception]) -> Exception:
    """Poll until the error comes, and make sure that it comes again."""
    for _ in range(2):
        with pytest.raises(error) as raised:
            for _ in range(15):
                assert source.poll(10, timeout_s=1).num_rows == 0
    return raised.value


def test_missing_topic_is_an_error_that_names_it(broker, open_source):
    source = open_source(numbers_spec(broker, "test-no-such-topic"))
    error = poll_until_error(source, UnknownTopicOrPartition)
    assert "'test-no-such-topic'" in str(error)


def test_missing_topic_is_not_created(open_source):
    with servers.running_broker({"auto.create.topics.enable": "true"}) as broker:
        source = open_source(numbers_spec(broker, "test-no-such-topic"))
        poll_until_error(source, UnknownTopicOrPartition)
        source.close()
        assert "test-no-such-topic" not in broker.admin.list_topics(timeout=10).topics


def test_missing_partition_is_an_error_that_names_it(broker, topic, open_source):
    source = open_source(numbers_spec(broker, topic), partition=7)
    error = poll_until_error(source, UnknownTopicOrPartition)
    assert f"topic '{topic}' partition 7" in str(error)


def test_deleted_topic_becomes_an_error(broker, make_topic, open_source, produce):
    topic = make_topic()
    produce(topic, [number(0)])
    source = open_source(numbers_spec(broker, topic))
    assert read_to(source, 1).equals(numbered([(0, 0)]))
    broker.delete_topic(topic)
    poll_until_error(source, UnknownTopicOrPartition)


def test_offset_below_the_low_watermark_is_out_of_range(broker, topic, open_source, produce):
    produce(topic, map(number, range(5)))
    delete_records(broker, topic, 3)
    source = open_source(numbers_spec(broker, topic), start_offset=1)
    error = poll_until_error(source, OffsetOutOfRange)
    assert f"topic '{topic}' partition 0" in str(error)
    assert source.position() == 1
    source.seek(3)
    assert read_to(source, 5).equals(numbered([(3, 3), (4, 4)]))


def test_offset_beyond_the_end_is_out_of_range(broker, topic, open_source, produce):
    produce(topic, map(number, range(5)))
    source = open_source(numbers_spec(broker, topic), start_offset=6)
    poll_until_error(source, OffsetOutOfRange)


def test_records_deleted_under_an_idle_source_are_no_error(broker, topic, open_source, produce):
    produce(topic, map(number, range(5)))
    source = open_source(numbers_spec(broker, topic))
    assert read_to(source, 5).num_rows == 5
    delete_records(broker, topic)
    assert source.poll(10, timeout_s=1).num_rows == 0
    produce(topic, [number(5)])
    assert read_to(source, 6).equals(numbered([(5, 5)]))


def test_outage_looks_like_an_idle_topic_and_passes(open_source):
    with servers.running_broker() as broker:
        broker.create_topic("test")
        write(broker.bootstrap_servers, "test", [number(0)])
        source = open_source(numbers_spec(broker, "test"))
        assert read_to(source, 1).equals(numbered([(0, 0)]))
        broker.kill()
        assert source.poll(10, timeout_s=3).num_rows == 0
        with pytest.raises(BrokerUnavailable):
            source.watermarks()
        broker.start()
        write(broker.bootstrap_servers, "test", [number(1)])
        assert read_to(source, 2, timeout_s=15).equals(numbered([(1, 1)]))


def test_source_opened_during_an_outage_reads_after_it(open_source):
    with servers.running_broker() as broker:
        broker.create_topic("test")
        write(broker.bootstrap_servers, "test", [number(0)])
        broker.kill()
        source = open_source(numbers_spec(broker, "test"), end_offset=1)
        assert source.poll(10, timeout_s=2).num_rows == 0
        broker.start()
        assert read_to(source, 1, timeout_s=15).equals(numbered([(0, 0)]))
