"""The schema that a group keeps with its progress, on a real broker."""

from __future__ import annotations

import contextlib
from typing import Any

import confluent_kafka
import pyarrow as pa
import pytest

from sabot_ray import ConfigError, Fenced, JsonCodec
from sabot_ray.kafka.aiokafka_metadata import AiokafkaClusterClient
from sabot_ray.offsets.kafka_group_aiokafka import AiokafkaGroupStore
from sabot_ray.runtime import plan, schemas
from sabot_ray.testing import Record
from tests.conftest import MakeTopic, Produce
from tests.ray.conftest import ReadTopic
from tests.servers import KafkaBroker

NUMBERS = pa.schema([("n", pa.int64())])


@pytest.fixture(params=["confluent", "aiokafka"])
def group_client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The client that plans and commits; confluent-kafka's is taken wherever it imports."""
    if request.param == "aiokafka":
        monkeypatch.setattr(plan, "connect_cluster", AiokafkaClusterClient)
        monkeypatch.setattr(plan, "open_kafka_group", AiokafkaGroupStore)
    return str(request.param)


def forbid_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("a sample was taken")

    monkeypatch.setattr(schemas, "sample_records", fail)


def read(stream: Any) -> pa.Table:
    """Read a bounded stream and acknowledge all of it."""
    with stream.start() as run:
        batches = list(run)
        return pa.Table.from_batches(batches, run.schema)


@pytest.mark.usefixtures("group_client")
def test_restart_has_the_same_schema_without_a_sample(
    read_topic: ReadTopic,
    make_topic: MakeTopic,
    produce: Produce,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    topic = make_topic(partitions=2)
    produce(topic, [Record(b'{"n": 1}', b'{"k": "a"}', partition=0)])
    options = {"end": "latest", "key_codec": "json", "metadata": ["_kafka_key"]}
    first = read(read_topic(topic, topic, **options))
    # Only this one's partition is committed later.
    produce(topic, [Record(b'{"m": 1, "n": 2}', b'{"k": "b", "l": 1}', partition=1)])
    forbid_sampling(monkeypatch)

    second = read(read_topic(topic, topic, **options))

    assert first.schema == second.schema
    assert second.to_pylist() == [{"n": 2, "_kafka_key": {"k": "b"}}]
    # Looking is no restart, but it is the same stream.
    assert read_topic(topic, topic, **options).schema() == first.schema
    assert read_topic(topic, topic, **options, start="earliest").collect().num_rows == 2


@pytest.mark.usefixtures("group_client")
def test_infer_gives_a_new_schema_and_keeps_it(
    read_topic: ReadTopic, topic: str, produce: Produce, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce(topic, [{"n": 1}])
    read(read_topic(topic, topic, end="latest"))
    produce(topic, [{"n": 1.5, "m": "x"}])

    inferred = read(read_topic(topic, topic, end="latest", schema="infer"))
    produce(topic, [{"n": 2}])
    forbid_sampling(monkeypatch)
    again = read(read_topic(topic, topic, end="latest"))

    assert inferred.schema == pa.schema([("n", pa.float64()), ("m", pa.string())])
    assert inferred.to_pylist() == [{"n": 1.5, "m": "x"}]
    assert again.schema == inferred.schema
    assert again.to_pylist() == [{"n": 2.0, "m": None}]


@pytest.mark.usefixtures("group_client")
def test_declared_schema_that_is_not_the_kept_one_is_an_error(
    read_topic: ReadTopic, topic: str, produce: Produce
) -> None:
    produce(topic, [{"n": 1, "text": "x"}])
    read(read_topic(topic, topic, end="latest"))
    declared = pa.schema([("n", pa.float64()), ("more", pa.bool_())])
    stream = read_topic(topic, topic, end="latest", schema=declared)

    with read_topic(topic, topic).start() as owner:
        with pytest.raises(ConfigError) as caught:
            stream.start()
        # It was refused before it could take the stream over.
        owner.commit()
    with pytest.raises(ConfigError):
        stream.collect()

    assert str(caught.value) == (
        f"schema: group '{topic}' has kept another schema with its progress:\n"
        "  $.n: double in the declared schema, int64 in the kept one\n"
        "  $.more: bool in the declared schema, absent in the kept one\n"
        "  $.text: absent in the declared schema, string in the kept one\n"
        "declare the kept schema, or leave it out; schema='infer' infers a new one. For another "
        "one, pass a new group_id, or let the group forget its schema but not its offsets: "
        f"kafka-consumer-groups --group {topic} --topic {topic} --reset-offsets --to-current "
        "--execute"
    )


def test_declared_schema_that_is_the_kept_one_is_taken(
    read_topic: ReadTopic, topic: str, produce: Produce
) -> None:
    produce(topic, [{"n": 1}])
    read(read_topic(topic, topic, end="latest"))
    noted = pa.schema([pa.field("n", pa.int64(), metadata={"unit": "none"})])

    assert read(read_topic(topic, topic, JsonCodec(noted), end="latest")).num_rows == 0
    with pytest.raises(ConfigError, match="has kept another schema"):
        read_topic(topic, topic, JsonCodec(pa.schema([("m", pa.int64())]))).start()


def test_declared_keys_that_are_not_the_kept_ones_are_an_error(
    read_topic: ReadTopic, topic: str, produce: Produce
) -> None:
    produce(topic, [Record(b'{"n": 1}', b'{"k": 1}')])
    options = {"end": "latest", "schema": NUMBERS, "metadata": ["_kafka_key"]}
    read(read_topic(topic, topic, key_codec="json", **options))

    declared = JsonCodec(pa.schema([("k", pa.string())]))
    with pytest.raises(ConfigError, match=r"key_codec: group .* has kept another schema"):
        read_topic(topic, topic, key_codec=declared, **options).start()


@pytest.mark.usefixtures("group_client")
def test_offsets_reset_by_another_tool_forget_the_schema_only(
    read_topic: ReadTopic, topic: str, produce: Produce, broker: KafkaBroker
) -> None:
    produce(topic, [{"n": 1}])
    read(read_topic(topic, topic, end="latest"))
    # As kafka-consumer-groups --reset-offsets --to-current does it; here with a text of its own.
    reset = confluent_kafka.ConsumerGroupTopicPartitions(
        topic, [confluent_kafka.TopicPartition(topic, 0, 1, "by a tool")]
    )
    broker.admin.alter_consumer_group_offsets([reset])[topic].result(10)
    produce(topic, [{"n": 2}])

    table = read(read_topic(topic, topic, end="latest", schema={"n": "float64"}))

    assert table.to_pylist() == [{"n": 2.0}]


@pytest.mark.usefixtures("group_client")
def test_other_consumers_read_the_committed_offsets(
    read_topic: ReadTopic, topic: str, produce: Produce, broker: KafkaBroker
) -> None:
    produce(topic, [{"n": n} for n in range(5)])
    read(read_topic(topic, topic, end="latest"))
    produce(topic, [{"n": 5}])
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": topic}
    )
    try:
        consumer.subscribe([topic])
        record = consumer.poll(30)
        assert record is not None
        assert (record.offset(), record.value()) == (5, b'{"n":5}')
    finally:
        consumer.close()


@pytest.mark.usefixtures("group_client")
def test_driver_that_takes_over_has_the_schema_of_the_former_one(
    read_topic: ReadTopic, topic: str, produce: Produce, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce(topic, [{"n": 1}])
    # The former owner may hear of it before it is closed.
    with contextlib.suppress(Fenced), read_topic(topic, topic).start() as first:
        next(iter(first))
        first.commit()
        produce(topic, [{"n": 2.5, "m": 1}])
        # The former owner commits for the first time between the look at the group and the joining.
        monkeypatch.setattr(plan, "_committed", lambda *_, **__: {})
        with read_topic(topic, topic, error_handling_policy="skip").start() as second:
            assert second.schema == first.schema == NUMBERS


def test_schema_that_does_not_fit_asks_for_a_declared_one(
    read_topic: ReadTopic, topic: str, produce: Produce, caplog: pytest.LogCaptureFixture
) -> None:
    wide = {f"{n * 7919 % 10007}_{n}": n for n in range(500)}
    produce(topic, [wide])
    warning = "schema of 500 columns does not fit into the 4000 bytes"

    read(read_topic(topic, topic, end="latest"))
    assert caplog.text.count(warning) == 1
    assert "declare it with schema=" in caplog.text
    read(read_topic(topic, topic, end="latest", schema=dict.fromkeys(wide, "int64")))
    assert caplog.text.count(warning) == 1
    assert read(read_topic(topic, topic, end="latest")).num_rows == 0


@pytest.mark.parametrize("codec", ["string", "bytes"])
def test_codecs_without_fields_need_no_kept_schema(
    read_topic: ReadTopic, topic: str, produce: Produce, codec: str
) -> None:
    produce(topic, [{"n": 1}])
    read(read_topic(topic, topic, end="latest"))
    produce(topic, [{"n": 2}])
    assert read(read_topic(topic, topic, codec, end="latest")).num_rows == 1
    with pytest.raises(ConfigError, match="schema: codec_type="):
        read_topic(topic, topic, codec, schema="infer")
