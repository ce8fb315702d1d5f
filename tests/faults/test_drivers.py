"""Drivers that are killed, started again, or replaced: losses, doubles, orphans, fencing."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

import confluent_kafka
import psutil
import pytest

from tests.faults.ledger import Ledger, fill
from tests.faults.processes import Driver, Drivers, at, frozen, is_alive, readers
from tests.servers import KafkaBroker, wait_until

PARTITIONS = 2


class CommittedOffsets(threading.Thread):
    """Asks all the time what a group has committed, and keeps each answer that differs."""

    def __init__(self, bootstrap_servers: str, group: str, topic: str) -> None:
        super().__init__(daemon=True)
        self._consumer = confluent_kafka.Consumer(
            {"bootstrap.servers": bootstrap_servers, "group.id": group, "log_level": 0}
        )
        self._wanted = [confluent_kafka.TopicPartition(topic, p) for p in range(PARTITIONS)]
        self._over = threading.Event()
        self.seen: list[list[int]] = []

    def run(self) -> None:
        while not self._over.wait(0.02):
            try:
                answer = self._consumer.committed(self._wanted, timeout=10)
            except confluent_kafka.KafkaException:
                # The coordinator is not there yet, or not any more.
                continue
            offsets = [max(partition.offset, 0) for partition in answer]
            if not self.seen or offsets != self.seen[-1]:
                self.seen.append(offsets)

    def stop(self) -> None:
        self._over.set()
        self.join()
        self._consumer.close()

    def assert_never_went_back(self) -> None:
        assert len(self.seen) > 2, "nothing was committed"
        for before, after in pairwise(self.seen):
            assert all(a >= b for a, b in zip(after, before, strict=True)), (before, after)


@contextmanager
def watched(broker: KafkaBroker, topic: str) -> Iterator[CommittedOffsets]:
    """Follow the committed offsets of the group that is named as the topic."""
    watcher = CommittedOffsets(broker.bootstrap_servers, topic, topic)
    watcher.start()
    try:
        yield watcher
    finally:
        watcher.stop()


def assert_resumed_at_what_was_committed(drivers: list[Driver]) -> None:
    """Check that nothing of which a driver knew that it is committed was delivered once more."""
    for before, after in pairwise(drivers):
        known = {note["partition"]: note["committed"] or 0 for note in before.batches}
        for note in after.batches:
            partition = note["partition"]
            assert note["start"] >= known.get(partition, 0), (known, note)


def assert_lost_and_doubled(drivers: list[Driver], records: int) -> tuple[int, int]:
    """Check that nothing is lost, and only un-acknowledged records doubled; return how many."""
    counts = [records // PARTITIONS] * PARTITIONS
    ledger = Ledger()
    for driver in drivers:
        driver.add_to(ledger)
    assert ledger.lost(counts) == 0
    assert_resumed_at_what_was_committed(drivers)
    return ledger.lost(counts), ledger.doubled(counts)


@pytest.mark.timeout(400)
def test_killed_driver_started_again_loses_nothing_and_leaves_no_reader(
    broker: KafkaBroker, drivers: Drivers, seed: int
) -> None:
    records = 100_000
    fill(broker.bootstrap_servers, drivers.topic, PARTITIONS, records)
    chance = random.Random(seed)
    settings = {"end": "latest", "batch_size": 200, "auto_commit_interval_ms": 50}
    started: list[Driver] = []
    longest_orphan_s = 0.0
    with watched(broker, drivers.topic) as committed:
        for _ in range(10):
            driver = drivers.start(stream=settings, body_s=0.01)
            started.append(driver)
            driver.await_note("batch", chance.randint(1, 40))
            orphans = readers()
            killed_at = time.monotonic()
            driver.kill()
            wait_until(partial(are_gone, orphans), 10.0)
            longest_orphan_s = max(longest_orphan_s, time.monotonic() - killed_at)
        last = drivers.start(stream=settings)
        last.await_note("finished")

    lost, doubled = assert_lost_and_doubled([*started, last], records)
    print(
        f"10 kills, lost {lost}, doubled {doubled} of {records}, "
        f"readers gone after {longest_orphan_s:.1f} s at most"
    )
    committed.assert_never_went_back()
    assert committed.seen[-1] == [records // PARTITIONS] * PARTITIONS


def are_gone(processes: list[psutil.Process]) -> bool:
    return not any(map(is_alive, processes))


@pytest.mark.timeout(300)
def test_driver_that_takes_over_ends_the_former_with_fenced(
    broker: KafkaBroker, drivers: Drivers
) -> None:
    records = 200_000
    fill(broker.bootstrap_servers, drivers.topic, PARTITIONS, records)
    settings = {"batch_size": 200, "auto_commit_interval_ms": 50}
    with watched(broker, drivers.topic) as committed:
        started = [drivers.start(stream=settings, body_s=0.05)]
        started[0].await_note("batch", 5)
        for left in reversed(range(5)):
            former = started[-1]
            if left:
                taking_over = drivers.start(stream=settings, body_s=0.05)
            else:
                taking_over = drivers.start(stream={**settings, "end": "latest"})
            started.append(taking_over)
            assert former.await_note("failed")["error"] == "Fenced"
            taking_over.await_note("batch", 5)
        started[-1].await_note("finished")

    lost, doubled = assert_lost_and_doubled(started, records)
    print(f"5 hand-overs, lost {lost}, doubled {doubled} of {records}")
    committed.assert_never_went_back()
    assert committed.seen[-1] == [records // PARTITIONS] * PARTITIONS
    assert [len(driver.noted("failed")) for driver in started] == [1] * 5 + [0]


# The shortest that a broker accepts by default.
SESSION_S = 6.0


@pytest.mark.timeout(200)
@pytest.mark.parametrize("second_has_left", [False, True], ids=["owner_runs", "owner_has_left"])
def test_driver_that_was_frozen_past_its_session_never_takes_the_stream_back(
    broker: KafkaBroker, drivers: Drivers, second_has_left: bool
) -> None:
    records = 20_000
    fill(broker.bootstrap_servers, drivers.topic, PARTITIONS, records)
    settings = {
        "batch_size": 200,
        "auto_commit_interval_ms": 50,
        "session_timeout_ms": int(SESSION_S * 1000),
        "heartbeat_interval_ms": 500,
    }
    with watched(broker, drivers.topic) as committed:
        first = drivers.start(stream=settings, body_s=0.05)
        first.await_note("batch", 10)
        with frozen(first.pid):
            frozen_at = time.monotonic()
            second = drivers.start(
                stream={**settings, "end": "latest"}, body_s=0.0 if second_has_left else 0.3
            )
            if second_has_left:
                second.await_note("finished")
                wait_until(lambda: members(broker, drivers.topic) == 0, 60.0)
            else:
                second.await_note("batch", 3)
            wait_until(partial(at, frozen_at + SESSION_S + 1), SESSION_S + 2)
        thawed_at = time.monotonic()
        failed = first.await_note("failed")
        if not second_has_left:
            second.send(signal.SIGTERM)
            second.await_note("interrupted")
        last = drivers.start(stream={**settings, "end": "latest"})
        last.await_note("finished")

    print(f"fenced {failed['at'] - thawed_at:.1f} s after the thaw: {failed['message']}")
    assert failed["error"] == "Fenced"
    assert second.noted("failed") == []
    assert_lost_and_doubled([first, second, last], records)
    committed.assert_never_went_back()


def members(broker: KafkaBroker, group: str) -> int:
    return len(broker.admin.describe_consumer_groups([group])[group].result(10).members)
