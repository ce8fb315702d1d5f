"""A cluster whose nodes are killed, frozen, bounced or all away: the stream waits and goes on."""

from __future__ import annotations

import contextlib
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from sabot_ray.errors import BrokerUnavailable
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.confluent_metadata import ConfluentClusterClient
from sabot_ray.kafka.source import Backend
from tests.faults.processes import at
from tests.faults.traffic import Traffic, traffic
from tests.servers import KafkaCluster, wait_until

PARTITIONS = 3
#: What a stream has to resume after a fault has ended, in seconds...
RESUME_S = 15.0
#: ...and its status to show one that lasts.
DEGRADED_S = 15.0


@pytest.fixture
def topic(cluster: KafkaCluster) -> str:
    """An empty topic; it goes away with the cluster."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    cluster.create_topic(name, PARTITIONS)
    cluster.await_in_sync()
    return name


def assert_goes_on(flow: Traffic) -> float:
    """Check that a stream resumes once a fault has ended; return how long that took."""
    resumed = flow.await_progress(RESUME_S)
    flow.await_commits(RESUME_S)
    flow.await_state("RUNNING", RESUME_S)
    return resumed


@pytest.mark.timeout(240)
def test_killed_frozen_and_bounced_leader_delays_the_stream_and_nothing_else(
    cluster: KafkaCluster, topic: str, ray_session: None, backend: Backend
) -> None:
    resumed = {}
    with traffic(cluster.bootstrap_servers, topic, PARTITIONS, backend) as flow:
        leader = cluster.leader(topic)
        leader.kill()
        # Others take over: that it is back does not matter.
        resumed["killed"] = assert_goes_on(flow)
        leader.start()
        cluster.await_in_sync()

        leader = cluster.leader(topic)
        leader.freeze()
        resumed["frozen"] = flow.await_progress(45.0)
        leader.thaw()
        resumed["thawed"] = assert_goes_on(flow)
        cluster.await_in_sync()

        leader = cluster.leader(topic)
        leader.restart()
        resumed["bounced"] = assert_goes_on(flow)
        flow.finish()

    print(f"{flow}, resumed after: {', '.join(f'{k} {s:.1f} s' for k, s in resumed.items())}")
    flow.ledger.assert_whole(flow.counts)


@pytest.mark.timeout(120)
def test_ids_of_topics_are_to_be_had_whichever_broker_is_away(
    cluster: KafkaCluster, topic: str
) -> None:
    # librdkafka asks the controller, which is any broker where there is no ZooKeeper: of so many
    # clients some ask the one that dies.
    clients = [ConfluentClusterClient(KafkaConfig(cluster.bootstrap_servers)) for _ in range(8)]
    with contextlib.ExitStack() as stack:
        for client in clients:
            stack.callback(client.close)
            assert client.topic_ids([topic])
        cluster.leader(topic).kill()

        def asked(client: ConfluentClusterClient) -> float:
            began = time.monotonic()
            while time.monotonic() - began < RESUME_S:
                with contextlib.suppress(BrokerUnavailable):
                    # As the committer does.
                    assert client.topic_ids([topic], timeout_s=5.0)
                    break
            return time.monotonic() - began

        with ThreadPoolExecutor(len(clients)) as pool:
            waited = sorted(pool.map(asked, clients))
    print(f"answered after {', '.join(f'{s:.1f}' for s in waited)} s")
    assert waited[-1] < RESUME_S


@pytest.mark.timeout(240)
@pytest.mark.parametrize("outage_s", [5.0, 30.0])
def test_all_brokers_away_is_shown_and_then_made_up_for(
    cluster: KafkaCluster, topic: str, ray_session: None, backend: Backend, outage_s: float
) -> None:
    shown = 0.0
    with traffic(cluster.bootstrap_servers, topic, PARTITIONS, backend) as flow:
        flow.await_commits(RESUME_S)
        flow.await_state("RUNNING", RESUME_S)

        cluster.kill()
        back_at = time.monotonic() + outage_s
        if outage_s > DEGRADED_S:
            shown = flow.await_state("DEGRADED", DEGRADED_S)
        wait_until(lambda: at(back_at), outage_s + 1.0)
        cluster.start()
        resumed = assert_goes_on(flow)
        flow.finish()

    print(f"{flow}, resumed {resumed:.1f} s after {outage_s:g} s", end="")
    print(f", shown after {shown:.1f} s" if shown else "")
    flow.ledger.assert_whole(flow.counts)
