"""Who may commit a stream's offsets: the store in a Kafka group, on both clients."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import aiokafka
import confluent_kafka
import pytest
from aiokafka.errors import UnknownMemberIdError
from confluent_kafka import KafkaException

from sabot_ray.errors import BrokerUnavailable, CommitFailed, ConfigError, Fenced, KafkaError
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.confluent_metadata import ConfluentClusterClient
from sabot_ray.offsets.kafka_group import KafkaGroupStore
from sabot_ray.offsets.kafka_group_aiokafka import AiokafkaGroupStore
from sabot_ray.types import OffsetAndMetadata, TopicPartition
from tests import servers

BOTH = [KafkaGroupStore, AiokafkaGroupStore]


@pytest.fixture
def open_store(broker):
    """A function that opens a store of a class; all of one test share the group."""
    stores = []

    def open_one(store_class, topic, partitions=(0,), stream_id="stream", servers=None, **config):
        kafka = KafkaConfig(servers or broker.bootstrap_servers, **config)
        owned = [TopicPartition(topic, partition) for partition in partitions]
        stores.append(store_class(kafka, f"{topic}-group", stream_id, owned))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture
def connected(broker):
    """A client of confluent-kafka."""
    client = ConfluentClusterClient(KafkaConfig(broker.bootstrap_servers))
    yield client
    client.close()


@pytest.fixture(params=BOTH)
def store_class(request):
    return request.param


def at(
    topic: str, *offsets: int | None, metadata: str = ""
) -> dict[TopicPartition, OffsetAndMetadata]:
    return {
        TopicPartition(topic, p): OffsetAndMetadata(offset, metadata)
        for p, offset in enumerate(offsets)
        if offset is not None
    }


def wait_until_no_members(broker, group: str) -> None:
    """Wait until the sessions of all members have expired; asking keeps none of them alive."""

    def empty() -> bool:
        return not broker.admin.describe_consumer_groups([group])[group].result(10).members

    servers.wait_until(empty, 30.0)


def test_acquire_new_group_has_no_offsets(topic, open_store, store_class):
    assert open_store(store_class, topic).acquire() == {}


@pytest.mark.parametrize("first", BOTH)
@pytest.mark.parametrize("second", BOTH)
def test_acquire_again_gives_what_was_committed(make_topic, open_store, first, second):
    topic = make_topic(partitions=3)
    store = open_store(first, topic, (0, 1, 2))
    store.acquire()
    store.commit(at(topic, 5, None, 7, metadata="ü" * 2000), timeout_s=10)
    store.commit(at(topic, 6), timeout_s=10)
    store.close()
    store = open_store(second, topic, (0, 1, 2))
    assert store.acquire() == at(topic, 6) | at(topic, None, None, 7, metadata="ü" * 2000)


@pytest.mark.parametrize("first", BOTH)
def test_metadata_of_every_length_is_read_to_its_end_and_no_further(
    make_topic, open_store, connected, first
):
    # confluent-kafka reads it as a text of C, which ends at a NUL character wherever that is.
    topic = make_topic(partitions=1)
    store = open_store(first, topic)
    store.acquire()
    for length in range(1, 60):
        wanted = at(topic, length, metadata="ü" * length)
        store.commit(wanted, timeout_s=10)
        assert connected.committed(f"{topic}-group", wanted) == wanted


def test_metadata_of_programs_that_end_no_text_does_no_harm(topic, connected, broker):
    group = f"{topic}-group"
    partition = aiokafka.TopicPartition(topic, 0)

    async def commit() -> None:
        consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=broker.bootstrap_servers, group_id=group, enable_auto_commit=False
        )
        await consumer.start()
        consumer.assign([partition])
        for length in range(1, 60):
            offset = aiokafka.structs.OffsetAndMetadata(length, "ü" * length)
            await consumer.commit({partition: offset})
            found = await asyncio.to_thread(connected.committed, group, [TopicPartition(topic, 0)])
            assert [committed.offset for committed in found.values()] == [length]
        await consumer.stop()

    asyncio.run(commit())


def test_commit_with_metadata_beyond_the_limit_is_refused(topic, open_store, store_class):
    store = open_store(store_class, topic)
    store.acquire()
    with pytest.raises(CommitFailed) as caught:
        store.commit(at(topic, 5, metadata="x" * 4097), timeout_s=10)
    assert (caught.value.code, caught.value.retriable) == (12, False)
    # confluent-kafka adds a NUL character.
    store.commit(at(topic, 5, metadata="x" * 4095), timeout_s=10)


@pytest.mark.parametrize("first", BOTH)
@pytest.mark.parametrize("second", BOTH)
def test_close_leaves_the_group_to_a_stream_of_another_name(topic, open_store, first, second):
    older = open_store(first, topic, stream_id="one")
    older.acquire()
    older.commit(at(topic, 3), timeout_s=10)
    older.close()
    newer = open_store(second, topic, stream_id="two")
    # Else it would have to wait until the session of 45 s expires, longer than it may.
    assert newer.acquire() == at(topic, 3)


@pytest.mark.parametrize("first", BOTH)
@pytest.mark.parametrize("second", BOTH)
def test_second_owner_fences_the_first(topic, open_store, first, second):
    older = open_store(first, topic)
    older.acquire()
    older.commit(at(topic, 3), timeout_s=10)
    newer = open_store(second, topic)
    assert newer.acquire() == at(topic, 3)
    for _ in range(2):
        with pytest.raises(Fenced, match="another driver took over stream 'stream'"):
            older.commit(at(topic, 4), timeout_s=10)
    with pytest.raises(Fenced):
        older.check()
    newer.commit(at(topic, 5), timeout_s=10)
    newer.check()


def test_second_owner_fences_an_idle_first_by_itself(topic, open_store, store_class, wait_until):
    config = {"heartbeat_interval_ms": 200, "session_timeout_ms": 6000}
    older = open_store(store_class, topic, **config)
    older.acquire()
    newer = open_store(store_class, topic)
    newer.acquire()

    def fenced() -> bool:
        with contextlib.suppress(Fenced):
            older.check()
            return False
        return True

    wait_until(fenced, 20.0)
    newer.commit(at(topic, 1), timeout_s=10)


@pytest.mark.parametrize(
    "store_class",
    [
        KafkaGroupStore,
        AiokafkaGroupStore,
    ],
)
def test_acquire_with_more_partitions_than_before_owns_all(
    broker, make_topic, open_store, store_class
):
    topic = make_topic(partitions=2)
    store = open_store(store_class, topic, (0, 1))
    store.acquire()
    store.commit(at(topic, 1, 2), timeout_s=10)
    store.close()
    broker.add_partitions(topic, 4)
    store = open_store(store_class, topic, (0, 1, 2, 3))
    assert store.acquire() == at(topic, 1, 2)
    store.commit(at(topic, 1, 2, 3, 4), timeout_s=10)


@contextlib.contextmanager
def other_consumer(broker, topic):
    """A consumer that has joined the group of `open_store`; it answers only while it polls."""
    other = confluent_kafka.Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": f"{topic}-group",
            "heartbeat.interval.ms": 200,
        }
    )
    try:
        other.subscribe([topic])
        deadline = time.monotonic() + 20
        while not other.assignment():
            other.poll(0.1)
            assert time.monotonic() < deadline
        yield other
    finally:
        other.close()


def test_acquire_group_with_other_consumers_is_refused(broker, make_topic, open_store, store_class):
    topic = make_topic(partitions=2)
    store = open_store(store_class, topic, (0, 1))
    stop = threading.Event()

    def poll(consumer) -> None:
        while not stop.is_set():
            consumer.poll(0.1)

    with other_consumer(broker, topic) as other:
        polling = threading.Thread(target=poll, args=(other,))
        polling.start()
        try:
            with pytest.raises(ConfigError, match="group_id of its own"):
                store.acquire()
        finally:
            stop.set()
            polling.join()


def test_acquire_beside_a_consumer_that_does_not_poll_asks_for_it(
    broker, topic, open_store, monkeypatch, store_class
):
    monkeypatch.setattr(f"{store_class.__module__}.JOIN_TIMEOUT_S", 1.0)
    store = open_store(store_class, topic)
    with (
        other_consumer(broker, topic),
        pytest.raises(BrokerUnavailable, match="does another consumer take part in it") as raised,
    ):
        store.acquire()
    assert raised.value.retriable


def test_commit_nothing_asks_nobody(topic, open_store, store_class):
    store = open_store(store_class, topic)
    store.acquire()
    store.commit({}, timeout_s=0)


def test_commit_during_outage_fails_and_passes_later(open_store, store_class):
    with servers.running_broker() as broker:
        broker.create_topic("test")
        store = open_store(store_class, "test", servers=broker.bootstrap_servers)
        store.acquire()
        store.commit(at("test", 1), timeout_s=20)
        broker.kill()
        with pytest.raises(CommitFailed) as raised:
            store.commit(at("test", 2), timeout_s=2)
        assert raised.value.retriable
        store.check()
        broker.start()

        def stored() -> bool:
            with contextlib.suppress(CommitFailed):
                store.commit(at("test", 3), timeout_s=5)
                return True
            return False

        servers.wait_until(stored, 30.0)
        store.close()
        store = open_store(store_class, "test", servers=broker.bootstrap_servers)
        assert store.acquire() == at("test", 3)
        store.close()


def test_leader_epoch_is_kept_where_the_client_knows_it(topic, open_store, store_class):
    partition = TopicPartition(topic, 0)
    committed = {partition: OffsetAndMetadata(7, "text", 3)}
    store = open_store(store_class, topic)
    store.acquire()
    store.commit(committed, timeout_s=10)
    store.close()
    # aiokafka's requests are older than this field.
    kept = 3 if store_class is KafkaGroupStore else -1
    assert open_store(store_class, topic).acquire() == {
        partition: OffsetAndMetadata(7, "text", kept)
    }


def test_is_member_is_false_while_the_broker_is_frozen(open_store, store_class):
    with servers.running_broker() as broker:
        broker.create_topic("test")
        store = open_store(
            store_class,
            "test",
            servers=broker.bootstrap_servers,
            session_timeout_ms=6000,
            heartbeat_interval_ms=200,
        )
        assert not store.is_member
        store.acquire()
        assert store.is_member
        broker.freeze()
        servers.wait_until(lambda: not store.is_member, 20.0)
        store.check()
        broker.thaw()
        servers.wait_until(lambda: store.is_member, 30.0)
        store.close()
        assert not store.is_member


def test_is_member_is_false_after_another_owner(topic, open_store, store_class):
    older = open_store(store_class, topic)
    older.acquire()
    newer = open_store(store_class, topic)
    newer.acquire()
    with pytest.raises(Fenced):
        older.commit(at(topic, 1), timeout_s=10)
    assert (older.is_member, newer.is_member) == (False, True)


def test_commit_after_an_expired_session_joins_again(broker, topic, open_store):
    # The heartbeats are rarer than the session allows.
    config = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 60_000}
    store = open_store(AiokafkaGroupStore, topic, **config)
    store.acquire()
    store.commit(at(topic, 1), timeout_s=10)
    wait_until_no_members(broker, f"{topic}-group")
    with pytest.raises(CommitFailed) as raised:
        store.commit(at(topic, 2), timeout_s=10)
    assert raised.value.retriable
    store.commit(at(topic, 3), timeout_s=10)
    store.check()


def test_commit_after_an_expired_session_and_another_owner_is_fenced(broker, topic, open_store):
    config = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 60_000}
    older = open_store(AiokafkaGroupStore, topic, **config)
    older.acquire()
    older.commit(at(topic, 1), timeout_s=10)
    newer = open_store(AiokafkaGroupStore, topic, **config)
    newer.acquire()
    newer.commit(at(topic, 2), timeout_s=10)
    newer.close()
    wait_until_no_members(broker, f"{topic}-group")
    with pytest.raises(Fenced, match="the committed offsets moved while it was away"):
        older.commit(at(topic, 3), timeout_s=10)


def fail_once(monkeypatch, store, method: str, code: int) -> None:
    """Let the next call of a store's method raise confluent-kafka's error of this code."""
    original = getattr(store, method)
    codes = [code]

    def call(*args):
        if codes:
            raise KafkaException(confluent_kafka.KafkaError(codes.pop()))
        return original(*args)

    monkeypatch.setattr(store, method, call)


@pytest.mark.parametrize(
    "code",
    [
        confluent_kafka.KafkaError._TIMED_OUT,
        confluent_kafka.KafkaError.UNKNOWN_MEMBER_ID,
        confluent_kafka.KafkaError.REBALANCE_IN_PROGRESS,
    ],
)
def test_passing_error_of_the_client_is_outlived(topic, open_store, monkeypatch, code):
    # A partition more than the topic has: the member looks whether it has company.
    store = open_store(KafkaGroupStore, topic, (0, 1))
    fail_once(monkeypatch, store, "_has_company", code)
    assert store.acquire() == {}
    # From here on each joining anew begins with a look whether somebody took over.
    for method in ("_commit_requested", "_has_company"):
        fail_once(monkeypatch, store, method, code)
    with contextlib.suppress(CommitFailed):
        store.commit(at(topic, 1), timeout_s=10)
    store.commit(at(topic, 2), timeout_s=10)
    store.check()


@pytest.mark.parametrize("method", ["_has_company", "_commit_requested"])
@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        (confluent_kafka.KafkaError._INVALID_ARG, KafkaError, "_INVALID_ARG"),
        (confluent_kafka.KafkaError.FENCED_INSTANCE_ID, Fenced, "another driver took over"),
    ],
)
def test_final_error_of_the_client_is_raised(
    topic, open_store, monkeypatch, method, code, error, text
):
    store = open_store(KafkaGroupStore, topic, (0, 1))
    fail_once(monkeypatch, store, method, code)
    with pytest.raises(error, match=text):
        store.acquire()
        store.commit(at(topic, 1), timeout_s=10)
    with pytest.raises(error, match=text):
        store.check()


def test_acquire_without_broker_is_an_error_in_time(open_store, monkeypatch, store_class):
    monkeypatch.setattr(f"{store_class.__module__}.JOIN_TIMEOUT_S", 1.0)
    store = open_store(store_class, "test", servers=f"127.0.0.1:{servers.free_ports(1)[0]}")
    with pytest.raises(BrokerUnavailable, match="no group coordinator let us join within 1 s"):
        store.acquire()


def test_outage_that_loses_an_answer_and_a_commit_is_no_takeover(topic, open_store, monkeypatch):
    store = open_store(AiokafkaGroupStore, topic)
    store.acquire()
    ask = store._ask_to_commit
    answers = iter(["answer lost", "commit lost", "session expired"])

    async def ask_in_trouble(coordinator, offsets):
        match next(answers, None):
            case "answer lost":
                await ask(coordinator, offsets)
                store._committed.clear()
                store._unanswered = {TopicPartition(topic, 0): {10}}
                raise ConnectionResetError
            case "commit lost":
                raise ConnectionResetError
            case "session expired":
                return UnknownMemberIdError.errno
            case _:
                return await ask(coordinator, offsets)

    monkeypatch.setattr(store, "_ask_to_commit", ask_in_trouble)
    for offset in (10, 20, 30):
        with pytest.raises(CommitFailed) as caught:
            store.commit(at(topic, offset), timeout_s=10)
        assert caught.value.retriable
    store.commit(at(topic, 40), timeout_s=10)
    store.check()
