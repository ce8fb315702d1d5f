"""What a user reads when something is wrong: one clear error each, in bounded time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import confluent_kafka
import pytest

from sabot_ray import (
    BrokerUnavailable,
    ConfigError,
    SabotRayError,
    Stream,
    UnknownTopicOrPartition,
)
from tests.conftest import MakeTopic, Produce
from tests.ray.conftest import ReadTopic
from tests.servers import KafkaBroker, free_ports


@contextmanager
def raises(kind: type[SabotRayError], text: str, *, within_s: float = 2.0) -> Iterator[None]:
    """Expect an error whose text contains all of ``text``, soon."""
    began = time.monotonic()
    with pytest.raises(kind) as caught:
        yield
    assert text in str(caught.value)
    # Generous: the machine may be busy. The point is that it ends by itself.
    assert time.monotonic() - began < within_s + 30


def test_port_where_nobody_listens_asks_the_likely_questions(ray_session: None) -> None:
    port = free_ports(1)[0]
    stream = Stream.from_kafka(f"127.0.0.1:{port}", "orders", schema={"n": "int64"})

    with raises(BrokerUnavailable, f"no broker of 127.0.0.1:{port} answered within 10 s; the client"
                " says: ", within_s=10):  # fmt: skip
        stream.start()
    with raises(
        BrokerUnavailable, "is a broker running there, does the listener ask for TLS or SASL?"
    ):
        stream.take(1)


def test_address_without_a_port_is_refused_before_any_connection() -> None:
    with raises(ConfigError, "bootstrap_servers: 'localhost' is not 'host:port'"):
        Stream.from_kafka("localhost", "orders")


def test_missing_topic_says_so(read_topic: ReadTopic) -> None:
    with raises(UnknownTopicOrPartition, "topic 'no-such-topic' does not exist on 127.0.0.1:"):
        read_topic("no-such-topic").start()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"fetch_min_byte": 1}, "'fetch_min_byte'; did you mean 'fetch.min.bytes'?"),
        (
            {"batchsize": 1},
            "unknown option or Kafka setting 'batchsize'; did you mean 'batch_size'",
        ),
        ({"shema": {}}, "'shema'; did you mean 'schema'?"),
        ({"ends": "latest"}, "'ends'; did you mean 'end'?"),
        ({"metdata": True}, "'metdata'; did you mean 'metadata'?"),
        ({"groupid": "g"}, "'groupid'; did you mean 'group_id'?"),
        ({"auto_commit": False}, "'auto_commit'; did you mean 'enable.auto.commit'?"),
        (
            {"value_deserialiser": "json"},
            "did you mean 'value.deserializer'? It is managed by sabot_ray: pass codec_type",
        ),
        ({"fetch_min_bytes": "many"}, "setting 'fetch_min_bytes': expected int, found str"),
        ({"isolation_level": "serial"}, "'serial' is not one of 'read_committed'"),
        ({"group.id": "g"}, "setting 'group.id' is managed by sabot_ray: pass group_id"),
        ({"enable_partition_eof": True}, "is managed by sabot_ray: pass end="),
        ({"sasl_username": "me"}, "has no SASL; pass security_protocol='SASL_SSL'"),
        ({"key_codec": "string"}, "pass metadata=['_kafka_key'], too"),
        ({"codec_type": "avro"}, "codec_type='avro' is not available yet"),
        (
            {"unknown_fields": "evolve", "codec_type": "string"},
            "unknown_fields='evolve': values of codec_type='string' have no fields",
        ),
        ({"error_handling_policy": "dead_letter"}, "needs dead_letter_topic, a topic that exists"),
        (
            {"dead_letter_topic": "dead"},
            "error_handling_policy='fail' writes nothing there; give 'dead_letter', or 'retry'",
        ),
        (
            {"error_handling_policy": "dead_letter", "dead_letter_topic": "not one"},
            "dead_letter_topic: 'not one' is no legal name",
        ),
        (
            {"error_handling_policy": "retry", "max_retry_attempts": -1},
            "max_retry_attempts: -1 is below the minimum 0",
        ),
        (
            {"error_handling_policy": "retry", "retry_backoff_seconds": -1},
            "retry_backoff_seconds: expected seconds from 0 to 3600",
        ),
        (
            {"error_handling_policy": "ignore"},
            "'ignore' is not one of 'fail', 'skip', 'retry', 'dead_letter'",
        ),
        ({"start": "middle"}, "start: 'middle' is not one of"),
        ({"start": -3}, "start: an offset is not negative"),
        ({"start": "committed"}, "start='committed' needs a group_id"),
        ({"end": {"orders": 5}}, "end: expected {topic: {partition: bound}}"),
        ({"batch_size": 0}, "batch_size: 0 is below the minimum 1"),
        ({"batch_size": "10"}, "batch_size: expected int, found str"),
        ({"linger_s": -1}, "linger_s: expected seconds from 0 to 60"),
        ({"linger_s": True}, "linger_s: expected seconds from 0 to 60, found True"),
        ({"backend": "java"}, "backend: 'java' is not one of 'native', 'aiokafka', 'auto'"),
        ({"backend": "native", "use_cpp": False}, "contradicts use_cpp=False"),
        ({"metadata": ["_kafka_ofset"]}, "did you mean '_kafka_offset'"),
        ({"schema": {"price": "decimal(10, 2)"}}, "price"),
        ({"schema": {"price": "intt64"}}, "price"),
        ({"ray_remote_args": {"max_restarts": 3}}, "'max_restarts' is managed by sabot_ray"),
        ({"ray_remote_args": {"lifetime": "detached"}}, "'lifetime' is managed by sabot_ray"),
        ({"ray_remote_args": "x"}, "ray_remote_args: expected a mapping of Ray's options, found "),
        ({"ray_remote_args": {"num_cpu": 1}}, "ray_remote_args: Invalid option keyword num_cpu"),
    ],
)
def test_wrong_option_is_refused_before_any_connection(
    options: dict[str, object], text: str
) -> None:
    with raises(ConfigError, text):
        Stream.from_kafka("127.0.0.1:9", "orders", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"session_timeout_ms": 2**31 - 1}, 'property "session.timeout.ms" value 2147483647 is'),
        ({"debug": "nonsense"}, 'Invalid value "nonsense" for configuration property "debug"'),
    ],
)
def test_setting_that_librdkafka_refuses_is_an_error_of_ours(
    settings: dict[str, object], text: str
) -> None:
    stream = Stream.from_kafka("127.0.0.1:9", "orders", "g", schema={"n": "int64"}, **settings)

    with raises(ConfigError, text):
        stream.start()


@pytest.mark.parametrize("name", ["", "a b", "..", "x" * 250, "ünï"])
def test_illegal_topic_name_is_refused(name: str) -> None:
    with raises(ConfigError, "is no legal name"):
        Stream.from_kafka("127.0.0.1:9", name)


@pytest.mark.parametrize(
    "predicate",
    [
        lambda b: b["amount"] > 1 and b["id"] < 5,
        lambda b: b["amount"] > 1 or b["id"] < 5,
        lambda b: not b["amount"] > 1,
        lambda b: b["currency"] in ("EUR", "USD"),
        lambda b: "EUR" in b["currency"],
        lambda b: 1 < b["amount"] < 5,
    ],
)
def test_python_logic_on_a_column_is_refused_with_the_remedy(predicate: object) -> None:
    stream = Stream.from_kafka("127.0.0.1:9", "orders")

    with raises(ConfigError, "use &, |, ~ (with parentheses around each comparison) and .isin("):
        stream.filter(predicate)  # type: ignore[arg-type]


def test_predicate_of_the_wrong_type_names_the_types(
    read_topic: ReadTopic, topic: str, produce: Produce
) -> None:
    produce(topic, [{"id": 1, "name": "a"}])

    with raises(ConfigError, "filter: the predicate name > 5 does not fit the columns"):
        read_topic(topic, end="latest").filter(lambda b: b["name"] > 5).count()


def test_empty_topic_without_a_schema_asks_for_one(read_topic: ReadTopic, topic: str) -> None:
    with raises(ConfigError, f"topic '{topic}' has no record to infer a schema from; declare it"):
        read_topic(topic).start()


def test_another_consumer_in_the_group_is_an_error(
    read_topic: ReadTopic, make_topic: MakeTopic, broker: KafkaBroker
) -> None:
    topic = make_topic(partitions=4)
    other = confluent_kafka.Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": topic}
    )
    other.subscribe([topic])
    try:
        other.poll(1.0)
        stream = read_topic(topic, topic, schema={"n": "int64"})
        # The other one must take part in the rebalance, else the broker waits for it.
        with raises(ConfigError, "are assigned to another consumer of this group; stop it, or"):
            _poll_while(other, stream)
    finally:
        other.close()


def _poll_while(consumer: confluent_kafka.Consumer, stream: Stream) -> None:
    import threading

    done = threading.Event()

    def poll() -> None:
        while not done.is_set():
            consumer.poll(0.1)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        stream.start().close()
    finally:
        done.set()
        thread.join()
