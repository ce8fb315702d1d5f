"""A broker that is killed, frozen or long away: nothing is lost or doubled, and the run goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient

from sabot_ray.kafka.source import Backend
from tests import servers
from tests.conftest import skip_or_fail
from tests.faults.traffic import traffic
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


def committed(broker: KafkaBroker) -> list[int]:
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": TOPIC, "log_level": 0}
    )
    try:
        wanted = [confluent_kafka.TopicPartition(TOPIC, p) for p in range(PARTITIONS)]
        return [entry.offset for entry in consumer.committed(wanted, timeout=10)]
    finally:
        consumer.close()


def member_ids(broker: KafkaBroker) -> list[str]:
    # Not the broker's own admin client: its connections are from before the fault.
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
    described = admin.describe_consumer_groups([TOPIC])[TOPIC].result(10)
    return [member.member_id for member in described.members]


@pytest.mark.timeout(200)
def test_killed_and_frozen_broker_delays_the_stream_and_nothing_else(
    own_broker: KafkaBroker, ray_session: None, backend: Backend
) -> None:
    with traffic(own_broker.bootstrap_servers, TOPIC, PARTITIONS, backend, LONG_SESSION_S) as flow:
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
    with traffic(own_broker.bootstrap_servers, TOPIC, PARTITIONS, backend, SHORT_SESSION_S) as flow:
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
