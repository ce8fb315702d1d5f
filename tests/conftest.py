"""Fixtures for every test: real servers, topics, and the two backends."""

from __future__ import annotations

import signal
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, Protocol, TypeVar

import confluent_kafka
import pytest

from sabot_ray import testing
from sabot_ray.errors import BackendUnavailable
from sabot_ray.kafka.backend import choose_backend, connect_source_client
from sabot_ray.kafka.source import Backend, PartitionSource, SourceClient, SourceSpec
from sabot_ray.testing import Record
from tests import servers
from tests.secure_broker import SecureBroker, running_secure_broker
from tests.servers import KafkaBroker, KafkaCluster

_T = TypeVar("_T")


def pytest_configure() -> None:
    """Let Ctrl-C reach the programs that tests start: those of a background job ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the test for want of something; in CI, where all must be there, fail it."""
    if servers.IN_CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def broker() -> Iterator[KafkaBroker]:
    """A one-node Kafka shared by all tests; leave it as it was.

    A test that stops, kills or freezes a broker runs one of its own: `servers.running_broker`.
    """
    try:
        with servers.running_broker() as broker:
            yield broker
    except servers.ServerMissing as exc:
        skip_or_fail(str(exc))


@pytest.fixture(scope="session")
def secure_broker() -> Iterator[SecureBroker]:
    """A one-node Kafka with TLS, SASL and ACLs, shared by all tests; leave it as it was."""
    try:
        with running_secure_broker() as broker:
            yield broker
    except servers.ServerMissing as exc:
        skip_or_fail(str(exc))


@pytest.fixture(scope="module")
def module_cluster() -> Iterator[KafkaCluster]:
    """A Kafka of three nodes for a module's tests; see `cluster`."""
    try:
        with servers.running_cluster() as cluster:
            yield cluster
    except servers.ServerMissing as exc:
        skip_or_fail(str(exc))


@pytest.fixture
def cluster(module_cluster: KafkaCluster) -> KafkaCluster:
    """Three nodes, all running and in step, which the test may kill and freeze."""
    for broker in module_cluster.brokers.values():
        broker.thaw()
    module_cluster.start()
    module_cluster.await_in_sync()
    return module_cluster


class MakeTopic(Protocol):
    """Makes a topic of this test, with any topic settings (underscores for dots)."""

    def __call__(self, partitions: int = 1, **config: object) -> str: ...


@pytest.fixture
def make_topic(broker: KafkaBroker) -> Iterator[MakeTopic]:
    """A function that creates topics with unique names, which are deleted after the test."""
    names: list[str] = []

    def make(partitions: int = 1, **config: object) -> str:
        name = f"test-{uuid.uuid4().hex[:12]}"
        broker.create_topic(name, partitions, **config)
        names.append(name)
        return name

    yield make
    for name in names:
        if name in broker.admin.list_topics(timeout=10).topics:
            broker.delete_topic(name)


@pytest.fixture
def topic(make_topic: MakeTopic) -> str:
    """A topic of one partition, deleted after the test."""
    return make_topic()


class Produce(Protocol):
    """Writes records, waits for their acknowledgement, and returns their offsets."""

    def __call__(
        self, topic: str, records: Iterable[Record | bytes | None], **settings: Any
    ) -> list[int]: ...


@pytest.fixture
def produce(broker: KafkaBroker) -> Produce:
    """`sabot_ray.testing.produce` to the shared broker; settings are the producer's."""

    def write(topic: str, records: Iterable[Record | bytes | None], **settings: Any) -> list[int]:
        # In order also where a leader of a topic that was just made has to be asked again.
        settings = {"enable_idempotence": True, **settings}
        return testing.produce(broker.bootstrap_servers, topic, records, **settings)

    return write


class Transaction:
    """An open transaction; what is left of it when the test ends is aborted."""

    def __init__(self, producer: confluent_kafka.Producer) -> None:
        self._producer = producer

    def commit(self) -> None:
        self._producer.commit_transaction(30)

    def abort(self) -> None:
        self._producer.abort_transaction(30)


class ProduceInTransaction(Protocol):
    """Writes records in a new transaction, and returns it while it is still open."""

    def __call__(self, topic: str, records: Iterable[Record | bytes | None]) -> Transaction: ...


@pytest.fixture
def produce_in_transaction(broker: KafkaBroker) -> Iterator[ProduceInTransaction]:
    """A function that writes records, flushed, in a transaction which the test then ends."""
    producers: list[confluent_kafka.Producer] = []

    def write(topic: str, records: Iterable[Record | bytes | None]) -> Transaction:
        producer = confluent_kafka.Producer(
            {
                "bootstrap.servers": broker.bootstrap_servers,
                "transactional.id": f"test-{uuid.uuid4().hex[:12]}",
                "log_level": 0,
            }
        )
        producers.append(producer)
        producer.init_transactions(30)
        producer.begin_transaction()
        for given in records:
            record = given if isinstance(given, Record) else Record(given)
            producer.produce(
                topic,
                value=record.value,
                key=record.key,
                partition=record.partition,
                timestamp=record.timestamp_ms,
                headers=list(record.headers) or None,
            )
        if producer.flush(30):
            raise TimeoutError(f"topic '{topic}': the transaction's records are not acknowledged")
        return Transaction(producer)

    yield write
    for producer in producers:
        try:
            producer.abort_transaction(30)
        except confluent_kafka.KafkaException as exc:
            # The usual case: the test has ended it.
            if exc.args[0].code() != confluent_kafka.KafkaError._STATE:
                raise


class WaitUntil(Protocol):
    def __call__(self, condition: Callable[[], _T], timeout_s: float = 10.0) -> _T: ...


@pytest.fixture
def wait_until() -> WaitUntil:
    """`tests.servers.wait_until`: waits for a condition, instead of sleeping."""
    return servers.wait_until


@pytest.fixture(params=["native", "aiokafka"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """The name of a backend; the test runs once with each."""
    try:
        return choose_backend(backend=request.param)
    except BackendUnavailable as exc:
        skip_or_fail(str(exc))


class OpenSource(Protocol):
    """Opens a source of the test's backend; it is closed after the test."""

    def __call__(
        self,
        spec: SourceSpec,
        partition: int = 0,
        start_offset: int = 0,
        end_offset: int | None = None,
        leader_epoch: int = -1,
    ) -> PartitionSource: ...


@pytest.fixture
def open_source(backend: Backend) -> Iterator[OpenSource]:
    """A function that opens sources, and asserts that it is the named backend that reads."""
    expected = {"native": "LibrdkafkaSource", "aiokafka": "AiokafkaSource"}[backend]
    clients: list[SourceClient] = []

    def open_one(
        spec: SourceSpec,
        partition: int = 0,
        start_offset: int = 0,
        end_offset: int | None = None,
        leader_epoch: int = -1,
    ) -> PartitionSource:
        client = connect_source_client(backend, spec.config, spec.prefetch_bytes)
        clients.append(client)
        source = client.open_source(spec, partition, start_offset, end_offset, leader_epoch)
        assert type(source).__name__ == expected
        return source

    yield open_one
    for client in clients:
        client.close()


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A local Ray with 4 CPUs, shared by all tests that ask for it.

    It writes nothing into the home directory, and its own files go away with it.
    """
    import ray

    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as directory,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("HOME", directory)
        environment.setenv("RAY_AUTH_MODE", "disabled")
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            # Never joins a cluster that happens to run on this machine.
            address="local",
            num_cpus=4,
            include_dashboard=False,
            object_store_memory=512 << 20,
            log_to_driver=False,
            _temp_dir=directory,
        )
        try:
            yield
        finally:
            ray.shutdown()
