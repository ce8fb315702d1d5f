"""Connections that are reset or refused by what lies between the stream and its broker."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

import psutil
import pytest

from sabot_ray.kafka.source import Backend
from tests import servers
from tests.conftest import skip_or_fail
from tests.faults.processes import at, readers
from tests.faults.proxy import Proxy
from tests.faults.traffic import traffic
from tests.servers import free_ports, wait_until

PARTITIONS = 2
TOPIC = "numbers"
#: What a stream has to resume after a fault has ended, in seconds.
RESUME_S = 15.0


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy in front of a broker of its own, with an empty topic."""
    ports = free_ports(2)
    with Proxy(ports[0]) as proxy:
        settings = {"advertised.listeners": f"PLAINTEXT://127.0.0.1:{proxy.port}"}
        try:
            with servers.running_broker(settings, ports=(ports[0], ports[1])) as broker:
                broker.create_topic(TOPIC, PARTITIONS)
                yield proxy
        except servers.ServerMissing as exc:
            skip_or_fail(str(exc))


class Usage(NamedTuple):
    """What the driver and its readers hold.

    Attributes:
        descriptors: Open files and sockets.
        threads: Threads.
        rss_mib: Resident memory.
    """

    descriptors: int
    threads: int
    rss_mib: int

    @classmethod
    def now(cls) -> Usage:
        gc.collect()
        processes = [psutil.Process(os.getpid()), *readers()]
        return cls(
            sum(process.num_fds() for process in processes),
            sum(process.num_threads() for process in processes),
            sum(process.memory_info().rss for process in processes) >> 20,
        )


@pytest.mark.timeout(180)
def test_connections_reset_every_second_lose_nothing_and_double_nothing(
    proxy: Proxy, ray_session: None, backend: Backend
) -> None:
    address = f"127.0.0.1:{proxy.port}"
    resets = []
    with traffic(address, TOPIC, PARTITIONS, backend) as flow:
        before = flow.ledger.rows
        for _ in range(20):
            due = time.monotonic() + 1.0
            wait_until(lambda due=due: at(due))
            resets.append(proxy.reset())
        meanwhile = flow.ledger.rows - before
        resumed = flow.await_progress(RESUME_S)
        flow.await_commits(RESUME_S)
        flow.await_state("RUNNING", RESUME_S)
        flow.finish()

    print(
        f"{flow}, {meanwhile} of them during {len(resets)} times {min(resets)} to {max(resets)} "
        f"resets, resumed {resumed:.1f} s after the last"
    )
    flow.ledger.assert_whole(flow.counts)
    assert min(resets) > 0
    assert meanwhile > 0


@pytest.mark.timeout(300)
def test_broker_unreachable_ten_times_leaves_descriptors_threads_and_memory_flat(
    proxy: Proxy, ray_session: None, backend: Backend
) -> None:
    address = f"127.0.0.1:{proxy.port}"
    usages = []
    with traffic(address, TOPIC, PARTITIONS, backend) as flow:
        for _ in range(12):
            proxy.cut()
            back_at = time.monotonic() + 2.0
            wait_until(lambda due=back_at: at(due))
            proxy.accept()
            flow.await_progress(RESUME_S)
            flow.await_commits(RESUME_S)
            usages.append(Usage.now())
        # Clients reconnect in their own time, and try some connections in vain: what is still there
        # when they have come to rest is a leak.
        looks = [usages[-1]]
        for _ in range(5):
            due = time.monotonic() + 1.0
            wait_until(lambda due=due: at(due))
            looks.append(Usage.now())
        flow.finish()

    # The first two are for caches and pools to fill.
    before, after = usages[1], Usage(*map(min, zip(*looks, strict=True)))
    print(f"{flow}, {len(usages)} outages: ", *(f"{u[0]}/{u[1]}/{u[2]} MiB" for u in usages))
    flow.ledger.assert_whole(flow.counts)
    # A socket more or less is no leak, one per outage is.
    assert after.descriptors - before.descriptors < 5
    assert after.threads - before.threads < 5
    assert after.rss_mib - before.rss_mib < 30
