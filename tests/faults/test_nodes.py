"""A node that dies with its readers and with the batches that they left in its object store."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from tests.conftest import MakeTopic
from tests.faults.ledger import Ledger, fill
from tests.faults.processes import Drivers, readers
from tests.servers import KafkaBroker

PARTITIONS = 4
RECORDS = 1_000_000
# Beyond what Ray keeps in the owner's memory: these batches live in the store of their node.
BATCH_ROWS = 50_000


class Nodes:
    """A head without readers, and two nodes for them."""

    def __init__(self, cluster: Cluster) -> None:
        self.address: str = cluster.address
        store = 300 << 20
        self._cluster = cluster
        self._others = [
            cluster.add_node(num_cpus=1, resources={"reading": 4}, object_store_memory=store)
            for _ in range(2)
        ]
        cluster.wait_for_nodes()

    def kill_one_with_readers(self) -> int:
        """Kill a node's raylet and all its children, as a power cut would; return its readers."""
        for node in self._others:
            raylet = node.all_processes["raylet"][0].process
            lost = len(readers(raylet.pid))
            if lost:
                processes = [psutil.Process(raylet.pid), *psutil.Process(raylet.pid).children(True)]
                for process in processes:
                    process.kill()
                self._others.remove(node)
                return lost
        raise AssertionError("no node has a reader")


@pytest.fixture
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        environment.setenv("RAY_AUTH_MODE", "disabled")
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "include_dashboard": False,
                "object_store_memory": 300 << 20,
            },
        )
        try:
            yield Nodes(cluster)
        finally:
            cluster.shutdown()


@pytest.fixture
def drivers(
    broker: KafkaBroker, make_topic: MakeTopic, nodes: Nodes, tmp_path: Path
) -> Iterator[Drivers]:
    topic = make_topic(partitions=PARTITIONS)
    fill(broker.bootstrap_servers, topic, PARTITIONS, RECORDS)
    with Drivers(
        tmp_path,
        nodes.address,
        bootstrap_servers=broker.bootstrap_servers,
        topic=topic,
        group=topic,
        stream={
            "batch_size": BATCH_ROWS,
            # Only full batches.
            "linger_s": 2.0,
            "end": "latest",
            "ray_remote_args": {"resources": {"reading": 1}},
            "auto_commit_interval_ms": 100,
        },
    ) as drivers:
        yield drivers


@pytest.mark.timeout(240)
def test_lost_node_costs_the_iteration_nothing(nodes: Nodes, drivers: Drivers) -> None:
    driver = drivers.start(body_s=0.3)
    driver.await_note("batch", 3)
    lost_readers = nodes.kill_one_with_readers()
    driver.await_note("finished", timeout_s=150.0)

    pauses = [after["at"] - before["at"] for before, after in pairwise(driver.batches)]
    print(f"{lost_readers} readers went with their node, longest pause {max(pauses):.1f} s")
    ledger = Ledger()
    driver.add_to(ledger)
    ledger.assert_whole([RECORDS // PARTITIONS] * PARTITIONS)


@pytest.mark.timeout(240)
def test_lost_node_makes_references_raise_and_a_new_run_reads_them_again(
    nodes: Nodes, drivers: Drivers
) -> None:
    first = drivers.start(references=8)
    assert first.await_note("held")["bytes"] > 1 << 20
    nodes.kill_one_with_readers()
    first.go_on()
    first.await_note("ended", timeout_s=150.0)
    second = drivers.start()
    second.await_note("finished")

    lost = first.noted("lost")
    counts = [RECORDS // PARTITIONS] * PARTITIONS
    ledger = Ledger()
    first.add_to(ledger)
    second.add_to(ledger)
    held = first.noted("held")[0]["count"]
    print(f"{len(lost)} of {held} references lost, doubled {ledger.doubled(counts)}")
    assert first.noted("finished"), first.notes[-2:]
    assert first.noted("ended")[0]["handlers_restored"]
    assert lost
    assert all(
        "is gone from the object store; start the stream again" in n["message"] for n in lost
    )
    assert ledger.lost(counts) == 0
    # Read again is what is behind a lost batch of its partition, and nothing else.
    behind = sum(
        note["stop"] - note["start"]
        for note in first.batches
        if any(n["partition"] == note["partition"] and n["at"] < note["at"] for n in lost)
    )
    assert ledger.doubled(counts) == behind
