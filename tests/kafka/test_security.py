"""TLS, SASL and ACLs, on both backends and on both of the driver's clients."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from confluent_kafka.admin import ResourceType

from sabot_ray.codecs.json import JsonCodec
from sabot_ray.errors import (
    AuthenticationFailed,
    AuthorizationFailed,
    BrokerUnavailable,
    ConfigError,
    KafkaError,
    SinkError,
)
from sabot_ray.kafka.aiokafka_metadata import AiokafkaClusterClient
from sabot_ray.kafka.aiokafka_sink import AiokafkaSink
from sabot_ray.kafka.backend import connect_source_client
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.confluent_metadata import ConfluentClusterClient
from sabot_ray.kafka.librdkafka_sink import LibrdkafkaSink
from sabot_ray.kafka.metadata import ClusterClient
from sabot_ray.kafka.sink import KafkaSink
from sabot_ray.kafka.source import Backend, PartitionSource, SourceSpec
from sabot_ray.offsets.kafka_group import KafkaGroupStore
from sabot_ray.offsets.kafka_group_aiokafka import AiokafkaGroupStore
from sabot_ray.testing import produce as write
from sabot_ray.types import OffsetAndMetadata, TopicPartition
from tests.kafka.command_line import start
from tests.kafka.reading import NUMBERS, number, numbered, read_all, read_to
from tests.secure_broker import SecureBroker, running_secure_broker, token
from tests.servers import wait_until

Settings = dict[str, Any]
NO_WRITE = "is there an ACL that lets this user WRITE to the topic"
#: What sinks write here.
BATCH = pa.record_batch({"n": [1]})
#: The longest time in which a refusal must be told, in seconds.
PATIENCE_S = 30


@pytest.fixture(params=[ConfluentClusterClient, AiokafkaClusterClient])
def connect(request: pytest.FixtureRequest) -> Callable[[KafkaConfig], ClusterClient]:
    """The driver's client; the test runs once with each."""
    return request.param


@pytest.fixture(params=[KafkaGroupStore, AiokafkaGroupStore])
def store_type(request: pytest.FixtureRequest) -> type[KafkaGroupStore | AiokafkaGroupStore]:
    """The driver's member of the group; the test runs once with each."""
    return request.param


@pytest.fixture
def topic(secure_broker: SecureBroker) -> Iterator[str]:
    """A topic with one record, which alice and the client with a certificate may read."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    secure_broker.create_topic(name)
    for user in ("alice", "CN=client"):
        secure_broker.allow(user, ResourceType.TOPIC, name, "READ", "DESCRIBE")
    write(secure_broker.bootstrap_servers, name, [number(0)])
    yield name
    secure_broker.delete_topic(name)


@pytest.fixture
def user(secure_broker: SecureBroker) -> str:
    """A user of SCRAM without any ACL; the password is the name."""
    name = f"user-{uuid.uuid4().hex[:12]}"
    secure_broker.add_scram_user(name, name)
    return name


def tls(broker: SecureBroker, **more: Any) -> Settings:
    return {
        "security_protocol": "SSL",
        "ssl_ca_location": broker.certificates["ca.pem"],
        **more,
    }


def sasl(broker: SecureBroker, mechanism: str, **more: Any) -> Settings:
    return tls(broker, security_protocol="SASL_SSL", sasl_mechanism=mechanism, **more)


def scram(broker: SecureBroker, user: str) -> KafkaConfig:
    settings = sasl(broker, "SCRAM-SHA-512", sasl_username=user, sasl_password=user)
    return KafkaConfig(broker.address("SCRAM"), **settings)


def certificate(broker: SecureBroker, name: str) -> Settings:
    files = broker.certificates
    return tls(
        broker, ssl_certificate_location=files[f"{name}.pem"], ssl_key_location=files[f"{name}.key"]
    )


def spec(config: KafkaConfig, topic: str) -> SourceSpec:
    return SourceSpec(config, topic, JsonCodec(NUMBERS), ("n", "_kafka_offset"))


def poll_until(error: type[Exception], source: PartitionSource) -> str:
    """Poll until the error comes, within the time that it may take."""
    deadline = time.monotonic() + PATIENCE_S
    with pytest.raises(error) as raised:
        while time.monotonic() < deadline:
            source.poll(10, timeout_s=0.5)
    return str(raised.value)


#: Ways in -> the listener, and the settings.
WAYS: dict[str, tuple[str, Callable[[SecureBroker], Settings]]] = {
    "tls": ("TLS", tls),
    "tls-pem": (
        "TLS",
        lambda b: {"security_protocol": "ssl", "ssl_ca_pem": b.certificates.text("ca.pem")},
    ),
    "tls-any-host": ("MISNAMED", lambda b: tls(b, ssl_endpoint_identification_algorithm="none")),
    "tls-any-certificate": (
        "EXPIRED",
        lambda b: {"security_protocol": "SSL", "enable_ssl_certificate_verification": False},
    ),
    "mtls": ("MTLS", lambda b: certificate(b, "client")),
    "mtls-pem": (
        "MTLS",
        lambda b: tls(
            b,
            ssl_certificate_pem=b.certificates.text("client.pem"),
            ssl_key_pem=b.certificates.text("client.key"),
        ),
    ),
    "mtls-locked-key": (
        "MTLS",
        lambda b: tls(
            b,
            ssl_certificate_pem="file:" + b.certificates["client.pem"],
            ssl_key_pem="file:" + b.certificates["locked.key"],
            ssl_key_password=lambda: "locked-pw",
        ),
    ),
    "plain": (
        "SASL",
        lambda b: sasl(b, "PLAIN", sasl_username="alice", sasl_password="alice-pw"),
    ),
    "plain-in-clear": (
        "CLEAR",
        lambda b: {
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "sasl_username": "alice",
            "sasl_password": "alice-pw",
            "allow_plaintext_sasl": True,
        },
    ),
    "scram-256": (
        "SASL",
        lambda b: sasl(b, "SCRAM-SHA-256", sasl_username="alice", sasl_password="alice-256"),
    ),
    "scram-512": (
        "SCRAM",
        lambda b: sasl(b, "SCRAM-SHA-512", sasl_username="alice", sasl_password="alice-512"),
    ),
    "token": ("SASL", lambda b: sasl(b, "OAUTHBEARER", sasl_oauthbearer_token=lambda: token())),
    "token-with-expiry": (
        "SASL",
        lambda b: sasl(
            b, "OAUTHBEARER", sasl_oauthbearer_token=lambda: (token(), time.time() + 60)
        ),
    ),
}


@pytest.fixture(params=WAYS)
def way_in(request: pytest.FixtureRequest, secure_broker: SecureBroker) -> KafkaConfig:
    """A configuration that the broker accepts; the test runs once with each."""
    for bits in (256, 512):
        secure_broker.add_scram_user("alice", f"alice-{bits}", bits=bits)
    listener, settings = WAYS[request.param]
    return KafkaConfig(secure_broker.address(listener), **settings(secure_broker))


def test_way_in_reads_the_record(way_in, topic, open_source):
    source = open_source(spec(way_in, topic), end_offset=1)

    assert read_to(source, 1).equals(numbered([(0, 0)]))
    assert source.watermarks().high == 1


def test_way_in_lets_the_driver_ask(way_in, topic, connect):
    with closing(connect(way_in)) as client:
        assert client.partitions(topic) == [0]
        (record,) = client.sample(topic, {0: [(0, 1)]}, 1)
        assert record.value == number(0)


#: Bad certificates -> the listener, the settings, and what the error must say.
BAD_CERTIFICATES: dict[str, tuple[str, Callable[[SecureBroker], Settings], str]] = {
    "another-authority": (
        "TLS",
        lambda b: tls(b, ssl_ca_location=b.certificates["other-ca.pem"]),
        "self-signed certificate in certificate chain",
    ),
    "another-host": ("MISNAMED", tls, "not valid for 'localhost'"),
    "expired": ("EXPIRED", tls, "certificate has expired"),
    "no-client-certificate": ("MTLS", tls, "alert bad certificate"),
    "another-authority-of-the-client": ("MTLS", lambda b: certificate(b, "other-client"), "alert"),
    "expired-client-certificate": (
        "MTLS",
        lambda b: certificate(b, "expired-client"),
        "alert certificate unknown",
    ),
}


@pytest.mark.parametrize("bad", BAD_CERTIFICATES)
def test_bad_certificate_is_refused_and_named(secure_broker, topic, connect, bad):
    listener, settings, reason = BAD_CERTIFICATES[bad]
    address = secure_broker.address(listener)
    started = time.monotonic()

    with (
        closing(connect(KafkaConfig(address, **settings(secure_broker)))) as client,
        pytest.raises(AuthenticationFailed, match=reason) as raised,
    ):
        client.partitions(topic)

    assert address in str(raised.value)
    assert "does ssl_ca_location name the authority" in str(raised.value)
    assert not raised.value.retriable
    assert time.monotonic() - started < PATIENCE_S


#: Bad credentials -> the listener, the settings, and what the error must say.
BAD_CREDENTIALS: dict[str, tuple[str, Callable[[SecureBroker], Settings], str]] = {
    "plain-password": (
        "SASL",
        lambda b: sasl(b, "PLAIN", sasl_username="alice", sasl_password="wrong-one"),
        "Invalid username or password",
    ),
    "scram-password": (
        "SCRAM",
        lambda b: sasl(b, "SCRAM-SHA-512", sasl_username="alice", sasl_password="wrong-one"),
        "invalid credentials with SASL mechanism SCRAM-SHA-512",
    ),
    "mechanism": (
        "SCRAM",
        lambda b: sasl(b, "PLAIN", sasl_username="alice", sasl_password="alice-pw"),
        "is (this|the) mechanism enabled on this listener",
    ),
    "token": (
        "SASL",
        lambda b: sasl(
            b, "OAUTHBEARER", sasl_oauthbearer_token=lambda: ("wrong.one.", time.time() + 60)
        ),
        "invalid_token",
    ),
}


@pytest.mark.parametrize("bad", BAD_CREDENTIALS)
def test_bad_credentials_are_refused_and_not_shown(secure_broker, topic, connect, bad):
    listener, settings, reason = BAD_CREDENTIALS[bad]
    started = time.monotonic()

    with (
        closing(
            connect(KafkaConfig(secure_broker.address(listener), **settings(secure_broker)))
        ) as client,
        pytest.raises(AuthenticationFailed, match=reason) as raised,
    ):
        client.partitions(topic)

    assert "wrong" not in str(raised.value)
    assert not raised.value.retriable
    assert time.monotonic() - started < PATIENCE_S


@pytest.mark.parametrize(("listener", "speaks_tls"), [("TLS", False), ("INTERNAL", True)])
def test_wrong_protocol_asks_for_it(secure_broker, topic, connect, listener, speaks_tls):
    settings = tls(secure_broker) if speaks_tls else {}

    with (
        closing(connect(KafkaConfig(secure_broker.address(listener), **settings))) as client,
        pytest.raises(BrokerUnavailable, match="does the listener ask for TLS or SASL"),
    ):
        client.partitions(topic)


def test_readers_that_are_refused_do_not_look_idle(secure_broker, topic, open_source):
    # The driver's clients may have other credentials: those of another node's environment. All at
    # once, because each reader gives the broker some seconds, and then asks it again.
    refused = {**BAD_CERTIFICATES, **BAD_CREDENTIALS}
    sources = []
    for listener, settings, _ in refused.values():
        config = KafkaConfig(secure_broker.address(listener), **settings(secure_broker))
        sources.append(open_source(spec(config, topic)))

    with ThreadPoolExecutor(len(sources)) as pool:
        messages = list(pool.map(partial(poll_until, AuthenticationFailed), sources))

    assert len(messages) == 10
    assert not [message for message in messages if "wrong" in message]


def test_client_of_several_partitions_that_is_refused_does_not_look_idle(
    secure_broker, topic, backend
):
    settings = tls(secure_broker, ssl_ca_location=secure_broker.certificates["other-ca.pem"])
    config = KafkaConfig(secure_broker.address("TLS"), **settings)
    client = connect_source_client(backend, config, 1 << 20)
    deadline = time.monotonic() + PATIENCE_S
    with closing(client):
        sources = [client.open_source(spec(config, topic), partition, 0) for partition in (0, 1)]
        with pytest.raises(AuthenticationFailed):
            # As a reader does it: a partition is polled only where it has news.
            while time.monotonic() < deadline:
                seen = client.news_count()
                for source in sources:
                    if source.has_news():
                        source.poll(10, timeout_s=0)
                client.wait_for_news(seen, 0.5)


def test_outage_of_a_secure_broker_is_no_refusal(backend, open_source):
    with running_secure_broker() as broker:
        broker.create_topic("test")
        broker.allow("alice", ResourceType.TOPIC, "test", "READ", "DESCRIBE")
        write(broker.bootstrap_servers, "test", [number(0)])
        settings = sasl(broker, "PLAIN", sasl_username="alice", sasl_password="alice-pw")
        source = open_source(spec(KafkaConfig(broker.address("SASL"), **settings), "test"))
        assert read_to(source, 1).equals(numbered([(0, 0)]))
        broker.restart()
        write(broker.bootstrap_servers, "test", [number(1)])
        assert read_to(source, 2, timeout_s=15).equals(numbered([(1, 1)]))


def test_topic_without_describe_is_an_authorization_error(secure_broker, topic, connect, user):
    with (
        closing(connect(scram(secure_broker, user))) as client,
        pytest.raises(AuthorizationFailed, match=rf"'{topic}'.*ACL that lets this user DESCRIBE"),
    ):
        client.partitions(topic)


def test_topic_without_read_is_an_authorization_error(secure_broker, topic, open_source, user):
    secure_broker.allow(user, ResourceType.TOPIC, topic, "DESCRIBE")
    source = open_source(spec(scram(secure_broker, user), topic))

    message = poll_until(AuthorizationFailed, source)

    assert f"topic '{topic}' partition 0 offset 0" in message
    assert "is there an ACL that lets this user DESCRIBE and READ the topic?" in message


def test_sample_without_read_is_an_authorization_error(secure_broker, topic, connect, user):
    secure_broker.allow(user, ResourceType.TOPIC, topic, "DESCRIBE")

    with closing(connect(scram(secure_broker, user))) as client:
        assert client.watermarks(topic, [0])[0].high == 1
        with pytest.raises(AuthorizationFailed, match="READ the topic"):
            client.sample(topic, {0: [(0, 1)]}, 1)


def test_group_without_read_is_an_authorization_error(secure_broker, topic, store_type, user):
    secure_broker.allow(user, ResourceType.TOPIC, topic, "READ", "DESCRIBE")
    config = scram(secure_broker, user)
    started = time.monotonic()

    with (
        closing(store_type(config, f"group-{user}", "stream", [TopicPartition(topic, 0)])) as store,
        pytest.raises(AuthorizationFailed, match=rf"'group-{user}'.*READ the group"),
    ):
        store.acquire()

    assert time.monotonic() - started < PATIENCE_S


def test_running_source_whose_read_is_taken_away_fails(secure_broker, topic, open_source, user):
    secure_broker.allow(user, ResourceType.TOPIC, topic, "READ", "DESCRIBE")
    source = open_source(spec(scram(secure_broker, user), topic))
    assert read_to(source, 1).equals(numbered([(0, 0)]))

    secure_broker.forbid(user, ResourceType.TOPIC, topic, "READ")

    assert "READ the topic" in poll_until(AuthorizationFailed, source)


def test_running_group_whose_read_is_taken_away_fails(secure_broker, topic, store_type, user):
    secure_broker.allow(user, ResourceType.TOPIC, topic, "READ", "DESCRIBE")
    secure_broker.allow(user, ResourceType.GROUP, f"group-{user}", "READ")
    partition = TopicPartition(topic, 0)
    store = store_type(scram(secure_broker, user), f"group-{user}", "stream", [partition])
    offsets = {partition: OffsetAndMetadata(1, "")}
    with closing(store):
        assert store.acquire() == {}
        store.commit(offsets, timeout_s=10)

        secure_broker.forbid(user, ResourceType.GROUP, f"group-{user}", "READ")

        deadline = time.monotonic() + PATIENCE_S
        with pytest.raises(AuthorizationFailed, match="READ the group"):
            while time.monotonic() < deadline:
                try:
                    store.commit(offsets, timeout_s=5)
                except KafkaError as error:
                    # The first refusal may come while the commit waits for the member's thread.
                    if not error.retriable:
                        raise


def test_token_is_renewed_before_it_expires(secure_broker, topic, open_source):
    asked: list[float] = []

    def short_lived() -> str:
        asked.append(time.monotonic())
        return token(lives_s=3)

    config = KafkaConfig(
        secure_broker.address("SASL"),
        **sasl(secure_broker, "OAUTHBEARER", sasl_oauthbearer_token=short_lived),
    )
    source = open_source(spec(config, topic))
    assert read_to(source, 1).equals(numbered([(0, 0)]))
    before = len(asked)
    if type(source).__name__ == "AiokafkaSource":
        # It asks for one at each connection, and only then.
        source.watermarks()
    else:
        deadline = time.monotonic() + 10
        while len(asked) == before and time.monotonic() < deadline:
            source.poll(10, timeout_s=0.2)
    assert len(asked) > before


def test_secret_that_is_missing_here_names_the_setting(secure_broker, topic, open_source):
    settings = sasl(secure_broker, "PLAIN", sasl_username="alice", sasl_password="env:NOT_SET")
    config = KafkaConfig(secure_broker.address("SASL"), **settings)

    with pytest.raises(ConfigError, match=r"'sasl\.password' on node .*'NOT_SET'"):
        source = open_source(spec(config, topic))
        poll_until(ConfigError, source)
        source.poll(1, timeout_s=1)


def test_file_that_is_no_certificate_is_a_config_error(secure_broker, topic, connect):
    settings = tls(secure_broker, ssl_ca_location=secure_broker.certificates["client.key"])

    with pytest.raises(ConfigError, match=r"ssl\.ca"):
        client = connect(KafkaConfig(secure_broker.address("TLS"), **settings))
        with closing(client):
            client.partitions(topic)


@pytest.mark.parametrize("password", ["planted-one", "wrong-one"])
def test_command_shows_no_secret(secure_broker, topic, user, backend, tmp_path, password):
    secure_broker.add_scram_user(user, "planted-one")
    secure_broker.allow(user, ResourceType.TOPIC, topic, "READ", "DESCRIBE")
    file = tmp_path / "password"
    file.write_text(password)
    settings = sasl(
        secure_broker, "SCRAM-SHA-512", sasl_username=user, sasl_password=f"file:{file}"
    )
    options = [f"-X{name}={value}" for name, value in {**settings, "debug": "all"}.items()]
    address = secure_broker.address("SCRAM")

    command = start(
        "tail", topic, "--start=earliest", "-n1", f"--backend={backend}", *options, servers=address
    )
    output, errors = command.communicate(timeout=60)

    is_right = password == "planted-one"
    assert command.returncode == (0 if is_right else 1), errors.decode()
    assert bool(output) == is_right
    assert password.encode() not in output + errors


# sinks


@pytest.fixture
def sink_type(backend: Backend) -> type[KafkaSink]:
    """The sink; the test runs once with each."""
    return {"native": LibrdkafkaSink, "aiokafka": AiokafkaSink}[backend]


def test_way_in_writes_a_record(secure_broker, way_in, topic, sink_type):
    for user in ("alice", "CN=client"):
        secure_broker.allow(user, ResourceType.TOPIC, topic, "WRITE")
    with sink_type(way_in, topic) as sink:
        sink.send_batch(BATCH)
        sink.flush(20)
    assert [record.value for record in read_all(secure_broker, topic)] == [number(0), b'{"n":1}']


@pytest.mark.parametrize("names_topic", [True, False], ids=["one-topic", "topic-of-each-row"])
@pytest.mark.parametrize("bad", ["another-authority", "expired", "scram-password", "token"])
def test_sink_that_is_refused_names_the_cause(secure_broker, topic, sink_type, bad, names_topic):
    listener, settings, reason = {**BAD_CERTIFICATES, **BAD_CREDENTIALS}[bad]
    config = KafkaConfig(secure_broker.address(listener), **settings(secure_broker))
    started = time.monotonic()

    with pytest.raises(AuthenticationFailed, match=reason) as raised:
        sink_type(config, topic if names_topic else pc.field("to"))

    assert "wrong" not in str(raised.value)
    assert time.monotonic() - started < PATIENCE_S


def test_sink_that_may_write_nowhere_is_told_which_acl_is_missing(
    secure_broker, topic, sink_type, user
):
    secure_broker.allow(user, ResourceType.TOPIC, topic, "DESCRIBE")
    started = time.monotonic()

    with (
        pytest.raises((AuthorizationFailed, SinkError), match=NO_WRITE),
        sink_type(scram(secure_broker, user), topic) as sink,
    ):
        sink.send_batch(BATCH)

    assert time.monotonic() - started < PATIENCE_S
    assert [record.value for record in read_all(secure_broker, topic)] == [number(0)]


def test_sink_that_may_write_elsewhere_only_is_told_which_acl_is_missing(
    secure_broker, topic, sink_type, user
):
    secure_broker.allow(user, ResourceType.TOPIC, topic, "DESCRIBE")
    secure_broker.allow(user, ResourceType.TOPIC, f"other-{topic}", "WRITE")
    started = time.monotonic()

    with sink_type(scram(secure_broker, user), topic) as sink:
        sink.send_batch(BATCH)
        with pytest.raises(SinkError, match=NO_WRITE) as raised:
            sink.flush()
        assert isinstance(raised.value.__cause__, AuthorizationFailed)
        assert time.monotonic() - started < PATIENCE_S
        # It goes on once it may.
        secure_broker.allow(user, ResourceType.TOPIC, topic, "WRITE")
        wait_until(lambda: is_written(sink), PATIENCE_S)

    assert [record.value for record in read_all(secure_broker, topic)] == [number(0), b'{"n":1}']


def is_written(sink: KafkaSink) -> bool:
    """Write the batch, and tell whether that was allowed."""
    sink.send_batch(BATCH)
    try:
        sink.flush()
    except SinkError:
        return False
    return True
