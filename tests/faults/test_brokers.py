"""A broker that is killed, frozen or long away: nothing is lost or doubled, and the run goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient

from sabot_ray import Stream
from sabot_ray.kafka.source import Backend
from sabot_ray.runtime.run import StreamRun
from tests import servers
from tests.conftest import skip_or_fail
from tests.faults.ledger import SCHEMA, Ledger, NumberedProducer
from tests.servers import KafkaBroker, wait_until

PARTITIONS = 2
TOPIC = "numbers"
# Kafka's default, and the shortest that a broker accepts by default.
LONG_SESSION_S, SHORT_SESSION_S = 45.0, 6.0


@pytest.fixture
def own_broker() -> Iterator[KafkaBroker]:
    """A broker that the test may kill, with an empty topic."""
    try:
        with servers.running_broker() as broker:
            broker.create_topic(TOPIC, PARTITIONS)
            yield broker
    except servers.ServerMissing as exc:
        skip_or_fail(str(exc))


class Traffic:
    """Records that are written all the time, and a run that reads them in a thread of its own."""

    def __init__(self, broker: KafkaBroker, run: StreamRun) -> None:
        self.run = run
        self.ledger = Ledger()
        self._producer = NumberedProducer(broker.bootstrap_servers, TOPIC, PARTITIONS)
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._threads = [threading.Thread(target=self._write), threading.Thread(target=self._read)]

    @property
    def counts(self) -> list[int]:
        """How many records were written."""
        return self._producer.counts

    @property
    def committed(self) -> list[int]:
        """What the run has committed."""
        return [part.committed_offset or 0 for part in self.run.status().partitions]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def await_progress(self, timeout_s: float) -> float:
        """Wait until a record that is written from now on was read; return how long that took."""
        began, written = time.monotonic(), sum(self.counts)
        wait_until(lambda: self._failed() or self.ledger.rows > written, timeout_s)
        return time.monotonic() - began

    def await_commits(self, timeout_s: float) -> None:
        """Wait until a record that is written from now on is committed in every partition."""
        written = self.counts
        wait_until(
            lambda: all(c > w for c, w in zip(self.committed, written, strict=True)), timeout_s
        )

    def finish(self) -> None:
        """Stop writing, and wait until everything was read and committed."""
        self._over.set()
        self._threads[0].join()
        self._producer.flush()
        wait_until(lambda: self._failed() or self.ledger.rows >= sum(self.counts), 30.0)
        wait_until(lambda: self.committed == self.counts, 30.0)

    def stop(self) -> None:
        self._over.set()
        self._stopping = True
        for thread in self._threads:
            thread.join(30)

    _stopping = False

    def _failed(self) -> bool:
        if self._failure is not None:
            raise self._failure
        return False

    def _write(self) -> None:
        while not self._over.wait(0.05):
            self._producer.write(100)

    def _read(self) -> None:
        try:
            batches = iter(self.run)
            while not self._stopping:
                batch = next(batches, None)
                if batch is None:
                    return
                self.ledger.note(batch)
        except BaseException as failure:  # noqa: BLE001 - the test's thread raises it
            self._failure = failure


@contextmanager
def traffic(broker: KafkaBroker, backend: Backend, session_s: float) -> Iterator[Traffic]:
    stream = Stream.from_kafka(
        broker.bootstrap_servers,
        TOPIC,
        "processor",
        backend=backend,
        schema=SCHEMA,
        auto_commit_interval_ms=100,
        session_timeout_ms=int(session_s * 1000),
        heartbeat_interval_ms=500,
    )
    with stream.start() as run:
        flow = Traffic(broker, run)
        flow.start()
        try:
            flow.await_progress(30.0)
            yield flow
        finally:
            flow.stop()


def committed(broker: KafkaBroker) -> list[int]:
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": "processor", "log_level": 0}
    )
    try:
        wanted = [confluent_kafka.TopicPartition(TOPIC, p) for p in range(PARTITIONS)]
        return [entry.offset for entry in consumer.committed(wanted, timeout=10)]
    finally:
        consumer.close()


def member_ids(broker: KafkaBroker) -> list[str]:
    # Not the broker's own admin client: its connections are from before the fault.
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
    described = admin.describe_consumer_groups(["processor"])["processor"].result(10)
    return [member.member_id for member in described.members]


@pytest.mark.timeout(200)
def test_killed_and_frozen_broker_delays_the_stream_and_nothing_else(
    own_broker: KafkaBroker, ray_session: None, backend: Backend
) -> None:
    with traffic(own_broker, backend, LONG_SESSION_S) as flow:
        flow.await_commits(10.0)
        joined = member_ids(own_broker)
        resumed = []

        own_broker.kill()
        own_broker.start()
        resumed.append(flow.await_progress(15.0))
        flow.await_commits(15.0)

        own_broker.freeze()
        thaw_at = time.monotonic() + 10.0
        wait_until(lambda: time.monotonic() >= thaw_at, 12.0)
        own_broker.thaw()
        resumed.append(flow.await_progress(15.0))
        flow.await_commits(15.0)

        flow.finish()
        still_joined = member_ids(own_broker)
        stored = committed(own_broker)

    print(f"{sum(flow.counts)} records, resumed {resumed[0]:.1f} s after the restart, ", end="")
    print(f"{resumed[1]:.1f} s after the thaw")
    flow.ledger.assert_whole(flow.counts)
    assert stored == flow.counts
    assert len(joined) == 1
    assert still_joined == joined


@pytest.mark.timeout(200)
def test_broker_away_for_longer_than_the_session_leaves_the_run_its_owner(
    own_broker: KafkaBroker, ray_session: None, backend: Backend
) -> None:
    with traffic(own_broker, backend, SHORT_SESSION_S) as flow:
        flow.await_commits(10.0)

        own_broker.kill()
        back_at = time.monotonic() + 4 * SHORT_SESSION_S
        wait_until(lambda: time.monotonic() >= back_at, 5 * SHORT_SESSION_S)
        own_broker.start()
        resumed = flow.await_progress(15.0)
        flow.await_commits(15.0)

        flow.finish()
        stored = committed(own_broker)

    print(f"{sum(flow.counts)} records, resumed {resumed:.1f} s after the broker came back")
    flow.ledger.assert_whole(flow.counts)
    assert stored == flow.counts
