"""Readers that are killed, frozen, or cannot live: what reaches the driver, and after how long."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from sabot_ray import ReaderFailed, Stream
from sabot_ray.kafka.source import Backend
from sabot_ray.runtime import coordinator
from sabot_ray.runtime.reader import Reader
from sabot_ray.runtime.reader_messages import Assignment, Failure, ReaderPlan
from tests.conftest import MakeTopic
from tests.faults.ledger import SCHEMA, Ledger, Stopwatch, fill
from tests.faults.processes import frozen, is_alive, readers
from tests.servers import KafkaBroker, wait_until

PARTITIONS = 4


class Killer(threading.Thread):
    """Kills a random reader each time that the ledger has passed one of the given row counts."""

    def __init__(self, ledger: Ledger, moments: list[int], chance: random.Random) -> None:
        super().__init__(daemon=True)
        self._ledger = ledger
        self._moments = moments
        self._chance = chance
        self._over = threading.Event()
        self.killed: list[int] = []

    def run(self) -> None:
        for moment in self._moments:
            # Somewhere between two batches, or in the middle of one.
            while self._ledger.rows < moment and not self._over.wait(0.001):
                pass
            while not self._over.wait(self._chance.uniform(0.0, 0.02)):
                victims = [reader for reader in readers() if reader.pid not in self.killed]
                if victims:
                    victim = self._chance.choice(victims)
                    victim.kill()
                    self.killed.append(victim.pid)
                    break

    def stop(self) -> None:
        self._over.set()
        self.join()


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("backend", "kills", "records"),
    [("native", 30, 1_000_000), ("aiokafka", 5, 100_000)],
    indirect=["backend"],
)
def test_killed_readers_lose_nothing_and_double_nothing(
    broker: KafkaBroker,
    make_topic: MakeTopic,
    ray_session: None,
    backend: Backend,
    seed: int,
    kills: int,
    records: int,
) -> None:
    topic = make_topic(partitions=PARTITIONS)
    fill(broker.bootstrap_servers, topic, PARTITIONS, records)
    chance = random.Random(seed)
    moments = sorted(chance.randrange(records * 95 // 100) for _ in range(kills))
    ledger, stopwatch = Ledger(), Stopwatch(time.monotonic)
    stream = Stream.from_kafka(
        broker.bootstrap_servers,
        topic,
        backend=backend,
        schema=SCHEMA,
        end="latest",
        batch_size=records // 1000,
    )
    killer = Killer(ledger, moments, chance)
    killer.start()
    try:
        with stream.start() as run:
            for batch in run:
                ledger.note(batch)
                stopwatch.note(batch["partition"][0].as_py())
            restarts = run.status().restarts
    finally:
        killer.stop()

    counts = [records // PARTITIONS] * PARTITIONS
    stalls = stopwatch.longest(kills)
    p95 = stalls[kills - 1 - int(0.95 * (kills - 1))]
    print(
        f"{len(killer.killed)} kills, {restarts} replaced, lost {ledger.lost(counts)}, "
        f"doubled {ledger.doubled(counts)}, stalls: longest {stalls[0]:.2f} s, p95 {p95:.2f} s"
    )
    ledger.assert_whole(counts)
    assert len(killer.killed) == kills
    # Of a handful, the longest but one says more about the machine.
    assert kills < 20 or p95 <= 5.0


@pytest.mark.timeout(120)
def test_frozen_reader_is_replaced_and_harmless_when_it_thaws(
    broker: KafkaBroker, make_topic: MakeTopic, ray_session: None, backend: Backend
) -> None:
    topic = make_topic(partitions=2)
    fill(broker.bootstrap_servers, topic, 2, 200_000)
    ledger, stopwatch = Ledger(), Stopwatch(time.monotonic)
    stream = Stream.from_kafka(
        broker.bootstrap_servers,
        topic,
        topic,
        backend=backend,
        schema=SCHEMA,
        end="latest",
        batch_size=500,
    )
    with stream.start() as run:
        batches = iter(run)
        running: set[int] = set()
        # One that freezes before it has said that it runs counts as not started.
        while len(running) < 2:
            batch = next(batches)
            ledger.note(batch)
            running.add(batch["partition"][0].as_py())
            stopwatch.note(batch["partition"][0].as_py())
            # Or the first to run would be through before the other one has begun.
            time.sleep(0.05)
        zombie = readers()[0]
        with frozen(zombie.pid):
            while run.status().restarts == 0:
                batch = next(batches)
                ledger.note(batch)
                stopwatch.note(batch["partition"][0].as_py())
        # The zombie goes on beside its replacement.
        for batch in batches:
            ledger.note(batch)
            stopwatch.note(batch["partition"][0].as_py())
        status = run.status()
        wait_until(lambda: not is_alive(zombie), 10.0)

    print(f"stall {stopwatch.longest(1)[0]:.1f} s")
    ledger.assert_whole([100_000, 100_000])
    assert status.restarts == 1
    assert [part.committed_offset for part in status.partitions] == [100_000, 100_000]


@pytest.mark.timeout(120)
def test_reader_frozen_while_it_opens_is_replaced(
    broker: KafkaBroker,
    topic: str,
    ray_session: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frozen_once = tmp_path / "frozen"

    class FreezingReader(Reader):
        def open(self, plan: ReaderPlan, assignment: Assignment) -> Failure | None:
            if not frozen_once.exists():
                frozen_once.touch()
                # By then it has said that it runs.
                time.sleep(0.5)
                os.kill(os.getpid(), signal.SIGSTOP)
            return super().open(plan, assignment)

    monkeypatch.setattr(coordinator, "Reader", FreezingReader)
    fill(broker.bootstrap_servers, topic, 1, 10)
    ledger = Ledger()

    stream = Stream.from_kafka(broker.bootstrap_servers, topic, schema=SCHEMA, end="latest")
    with stream.start() as run:
        for batch in run:
            ledger.note(batch)
        assert run.status().restarts == 1

    ledger.assert_whole([10])
    assert frozen_once.exists()


@pytest.mark.timeout(120)
def test_reader_that_needs_what_no_node_has_fails_with_its_needs(
    broker: KafkaBroker, topic: str, ray_session: None
) -> None:
    fill(broker.bootstrap_servers, topic, 1, 10)
    stream = Stream.from_kafka(
        broker.bootstrap_servers,
        topic,
        schema=SCHEMA,
        ray_remote_args={"resources": {"unobtainium": 1}},
    )

    began = time.monotonic()
    with pytest.raises(ReaderFailed, match=r"was not started within 30 s: it needs .*unobtainium"):
        next(iter(stream))

    assert time.monotonic() - began < 36
    assert readers() == []


def die(_: pa.RecordBatch) -> pa.RecordBatch:
    os._exit(1)


@pytest.mark.timeout(120)
def test_record_at_which_every_reader_dies_is_named(
    broker: KafkaBroker, topic: str, ray_session: None
) -> None:
    fill(broker.bootstrap_servers, topic, 1, 10)
    stream = Stream.from_kafka(broker.bootstrap_servers, topic, schema=SCHEMA).map(die)

    with pytest.raises(ReaderFailed, match="offset 0: the record there ended the process that"):
        next(iter(stream))


class DyingReader(Reader):
    def open(self, plan: ReaderPlan, assignments: Sequence[Assignment]) -> Failure | None:
        os._exit(1)


@pytest.mark.timeout(120)
def test_reader_that_always_dies_without_a_record_is_given_up(
    broker: KafkaBroker, topic: str, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "Reader", DyingReader)
    fill(broker.bootstrap_servers, topic, 1, 10)
    stream = Stream.from_kafka(broker.bootstrap_servers, topic, schema=SCHEMA)

    began = time.monotonic()
    with pytest.raises(ReaderFailed, match="offset 0: the reader ended 5 times without getting"):
        next(iter(stream))

    print(f"given up after {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < 60


@pytest.mark.timeout(120)
def test_reader_of_an_idle_partition_may_die_now_and_then(
    broker: KafkaBroker, topic: str, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "_LONG_LIFE_S", 0.0)
    deaths = coordinator.MAX_DEATHS_WITHOUT_PROGRESS + 1
    stream = Stream.from_kafka(broker.bootstrap_servers, topic, schema=SCHEMA)

    killed: set[int] = set()

    def kill_in_turn() -> None:
        def kill_a_new_one() -> bool:
            alive = [reader for reader in readers() if reader.pid not in killed]
            for reader in alive:
                reader.kill()
                killed.add(reader.pid)
            return bool(alive)

        for _ in range(deaths):
            wait_until(kill_a_new_one, 30.0)
        fill(broker.bootstrap_servers, topic, 1, 10)

    with stream.start() as run:
        killer = threading.Thread(target=kill_in_turn, daemon=True)
        killer.start()
        batch = next(iter(run))
        killer.join()

    assert batch.num_rows > 0
    assert run.status().restarts == deaths


def test_reader_killed_by_a_signal_in_native_code_is_replaced(
    broker: KafkaBroker, topic: str, ray_session: None
) -> None:
    fill(broker.bootstrap_servers, topic, 1, 1000)
    ledger = Ledger()
    stream = Stream.from_kafka(
        broker.bootstrap_servers, topic, schema=SCHEMA, end="latest", batch_size=10
    )

    with stream.start() as run:
        for number, batch in enumerate(run):
            ledger.note(batch)
            if number == 0:
                readers()[0].send_signal(signal.SIGSEGV)
        assert run.status().restarts == 1

    ledger.assert_whole([1000])
