"""Streams that copy a topic while brokers, readers and drivers end at random."""

from __future__ import annotations

import os
import random
import signal
import time
import uuid
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
import ray

from tests.faults.conftest import Report
from tests.faults.copying import Copying, copying
from tests.faults.processes import Driver, Drivers, readers
from tests.kafka.reading import await_no_transaction
from tests.servers import KafkaBroker, KafkaCluster, wait_until

PARTITIONS = 3
KINDS = {"exactly_once": "TransactionalReader", "at_least_once": "WritingReader"}


@pytest.fixture
def topics(cluster: KafkaCluster) -> tuple[str, str]:
    """An empty topic and one for its copy; they go away with the cluster."""
    names = [f"test-{uuid.uuid4().hex[:12]}" for _ in range(2)]
    for name in names:
        cluster.create_topic(name, PARTITIONS)
    cluster.await_in_sync()
    return names[0], names[1]


@pytest.fixture
def copiers(
    cluster: KafkaCluster, topics: tuple[str, str], ray_session: None, tmp_path: Path
) -> Iterator[Drivers]:
    """Starts drivers that copy the one topic to the other."""
    address = ray.get_runtime_context().gcs_address
    with Drivers(
        tmp_path,
        address,
        bootstrap_servers=cluster.bootstrap_servers,
        topic=topics[0],
        group=topics[0],
        stream={"batch_size": 200, "readers": 2},
        target=topics[1],
    ) as drivers:
        yield drivers


class Storm:
    """Ends something at random, and sees to it that what is needed is there again."""

    def __init__(
        self, cluster: KafkaCluster, drivers: Drivers, delivery: str, topic: str, seed: int
    ) -> None:
        self._cluster = cluster
        self._drivers = drivers
        self._delivery = delivery
        self._topic = topic
        self._chance = random.Random(seed)
        self.counts = {"broker": 0, "reader": 0, "driver": 0}
        self.driver = self._start()

    def _start(self) -> Driver:
        return self._drivers.start(sink={"delivery": self._delivery, "interval_s": 0.5})

    def strike(self) -> None:
        """End a broker, the readers, or the driver."""
        kind = self._chance.choice(sorted(self.counts))
        self.counts[kind] += 1
        if kind == "broker":
            broker = self._cluster.leader(self._topic, self._chance.randrange(PARTITIONS))
            if self._chance.random() < 0.5:
                broker.kill()
                broker.start()
            else:
                broker.restart()
            self._cluster.await_in_sync()
        elif kind == "reader":
            for process in readers(kind=KINDS[self._delivery]):
                if self._chance.random() < 0.7:
                    kill(process)
        else:
            if self._chance.random() < 0.5:
                self.driver.kill()
            else:
                self.driver.send(signal.SIGTERM)
                self.driver.wait()
            self.driver = self._start()

    def pause(self, flow: Copying) -> None:
        """Let some rows come through, or none."""
        if self._chance.random() < 0.7:
            flow.await_rows(self._chance.randint(1, 3000), 90.0)
        else:
            time.sleep(self._chance.random())


def kill(process: psutil.Process) -> None:
    try:
        os.kill(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        # It ended by itself.
        return


@pytest.mark.timeout(900)
@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_copy_in_a_storm_is_whole(
    cluster: KafkaCluster,
    topics: tuple[str, str],
    copiers: Drivers,
    seed: int,
    report: Report,
    delivery: str,
) -> None:
    topic, copy = topics
    records = 100_000
    with copying(cluster.bootstrap_servers, topic, copy, PARTITIONS, records) as flow:
        storm = Storm(cluster, copiers, delivery, copy, seed)
        try:
            flow.await_rows(1, 60.0)
            while not flow.is_written:
                storm.strike()
                storm.pause(flow)
            flow.await_all(120.0)
        except TimeoutError:
            storm.driver.send(signal.SIGUSR1)
            time.sleep(1.0)
            print(f"lost {flow.ledger.lost(flow.counts)}", storm.driver.notes, storm.driver.output)
            raise
        storm.driver.send(signal.SIGTERM)
        storm.driver.wait()

    lost, doubled = flow.ledger.lost(flow.counts), flow.ledger.doubled(flow.counts)
    report(
        f"copy, {delivery}: {', '.join(f'{n} {k}s' for k, n in storm.counts.items())}",
        records,
        lost,
        doubled,
        flow.stopwatch.longest(1)[0],
        seed,
    )
    assert lost == 0
    if delivery == "exactly_once":
        flow.ledger.assert_whole(flow.counts)
        await_no_transaction(cluster.bootstrap_servers, copy)


@pytest.mark.timeout(300)
def test_hand_overs_double_nothing_exactly_once(
    broker: KafkaBroker, drivers: Drivers, make_topic, report: Report, seed: int
) -> None:
    copy, records = make_topic(partitions=2), 60_000
    sink = {"delivery": "exactly_once", "interval_s": 0.2}
    options = {"target": copy, "sink": sink, "stream": {"batch_size": 200}}
    with copying(broker.bootstrap_servers, drivers.topic, copy, 2, records) as flow:
        started = [drivers.start(**options)]
        flow.await_rows(1, 60.0)
        for _ in range(5):
            former = started[-1]
            started.append(drivers.start(**options))
            assert former.await_note("failed")["error"] == "Fenced"
            flow.await_rows(1000, 60.0)
        flow.await_all(60.0)
        started[-1].send(signal.SIGTERM)
        started[-1].wait()

    report(
        "5 hand-overs, exactly_once",
        records,
        flow.ledger.lost(flow.counts),
        flow.ledger.doubled(flow.counts),
        flow.stopwatch.longest(1)[0],
        seed,
    )
    flow.ledger.assert_whole(flow.counts)
    assert [len(driver.noted("failed")) for driver in started] == [1] * 5 + [0]
    for before, after in pairwise(started):
        assert before.exit_code == 0, after
    wait_until(lambda: not readers(kind="TransactionalReader"), 10.0)
