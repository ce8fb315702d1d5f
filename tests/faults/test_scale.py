"""Many partitions, one hot partition, and a backlog that fits into no memory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import pyarrow as pa
import pytest
import ray

from bench.data import SHAPES
from bench.memory import ALLOWANCE_BYTES, idle_worker, sampled_readers
from bench.topic import fill_bytes
from sabot_ray import Stream
from sabot_ray.kafka.source import Backend
from sabot_ray.testing import produce
from tests import servers
from tests.conftest import MakeTopic, skip_or_fail
from tests.faults.ledger import SCHEMA, Ledger, fill
from tests.faults.processes import readers
from tests.servers import KafkaBroker, wait_until

_MB = 1_000_000
#: The partitions that get many records and few.
HOT, OTHERS = range(1), range(1, 16)
#: Records per second to one partition, and to 15 others together.
HOT_RATE, COLD_RATE = 20_000, 300
#: For how long they are written, in seconds.
TRICKLE_S = 12
#: How much of the backlog the consumer takes, so that it lasts for five minutes and longer.
SLOW_BYTES_PER_S = 25 * _MB


class Footprint(threading.Thread):
    """Watches the memory of this process and its readers; shared pages count once.

    Attributes:
        peak: The most that all held together, in bytes.
        count: How many readers there were.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.count = 0
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.5):
            found = readers()
            self.count = max(self.count, len(found))
            self.peak = max(self.peak, sum(map(_pss, [psutil.Process(), *found])))

    def __enter__(self) -> Footprint:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


def _pss(process: psutil.Process) -> int:
    """Return a process's memory, each page divided by the number of its users."""
    try:
        return int(process.memory_full_info().pss)
    except psutil.NoSuchProcess:
        return 0


@pytest.mark.timeout(180)
def test_64_partitions_give_every_row_start_within_20_s_and_stay_below_3_gb(
    broker: KafkaBroker, make_topic: MakeTopic, ray_session: None, backend: Backend
) -> None:
    partitions, records = 64, 640_000
    topic = make_topic(partitions=partitions)
    fill(broker.bootstrap_servers, topic, partitions, records)
    ledger = Ledger()
    stream = Stream.from_kafka(
        broker.bootstrap_servers, topic, backend=backend, schema=SCHEMA, end="latest"
    )
    with Footprint() as footprint:
        began = time.monotonic()
        first: dict[int, float] = {}
        for batch in stream:
            ledger.note(batch)
            first.setdefault(batch["partition"][0].as_py(), time.monotonic() - began)
        took = time.monotonic() - began

    print(
        f"{footprint.count} readers, the last partition's first row after "
        f"{max(first.values()):.1f} s, all {ledger.rows} rows after {took:.1f} s, "
        f"at most {footprint.peak / _MB:.0f} MB in the driver and the readers"
    )
    ledger.assert_whole([records // partitions] * partitions)
    assert max(first.values()) < 20.0
    assert footprint.peak < 3000 * _MB


class Latencies:
    """Reads a topic in a thread, and notes how long each record took from its producer."""

    def __init__(self, broker: KafkaBroker, topic: str, stream: Stream) -> None:
        self._broker = broker
        self._topic = topic
        self._stream = stream
        self._notes: list[tuple[int, npt.NDArray[np.float64]]] = []
        self._over = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Latencies:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        # Something for it to return from.
        produce(self._broker.bootstrap_servers, self._topic, [{"sent_ns": 0}])
        self._thread.join()

    def count(self, partitions: range) -> int:
        """Return how many records of these partitions have come since the last `take`."""
        if self._failure is not None:
            raise self._failure
        return sum(len(times) for partition, times in list(self._notes) if partition in partitions)

    def take(self, partitions: range) -> npt.NDArray[np.float64]:
        """Return the times of the records of these partitions, in ms, and forget all."""
        notes, self._notes = self._notes, []
        return np.concatenate([times for partition, times in notes if partition in partitions])

    def _read(self) -> None:
        try:
            for batch in self._stream:
                now = time.monotonic_ns()
                times = (now - batch["sent_ns"].to_numpy()) / 1e6
                self._notes.append((batch["_kafka_partition"][0].as_py(), times))
                if self._over:
                    return
        except BaseException as failure:  # noqa: BLE001 - the test's thread raises it
            self._failure = failure


def _trickle(broker: KafkaBroker, topic: str, rate: int, to: range) -> subprocess.Popen[bytes]:
    arguments = (broker.bootstrap_servers, topic, rate, TRICKLE_S, *to)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.trickle", *map(str, arguments)],
        cwd=Path(__file__).parents[2],
    )


def _trickle_to_all(
    broker: KafkaBroker, topic: str, latencies: Latencies, hot_rate: int
) -> npt.NDArray[np.float64]:
    """Write to all partitions, and return how long it took until the other records came, in ms."""
    writers = [_trickle(broker, topic, COLD_RATE, OTHERS), _trickle(broker, topic, hot_rate, HOT)]
    try:
        assert [writer.wait(60) for writer in writers] == [0, 0]
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    wait_until(lambda: latencies.count(OTHERS) == COLD_RATE * TRICKLE_S, 30.0)
    wait_until(lambda: latencies.count(HOT) == hot_rate * TRICKLE_S, 30.0)
    return latencies.take(OTHERS)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("readers", [None, 2])
def test_hot_partition_of_16_at_most_doubles_the_latency_of_the_others(
    ray_session: None, readers: int | None
) -> None:
    p99 = []
    with servers.running_broker(java_options=servers.COMPILE_FULLY) as broker:
        broker.create_topic("hot", len(HOT) + len(OTHERS))
        stream = Stream.from_kafka(
            broker.bootstrap_servers,
            "hot",
            backend="native",
            schema=pa.schema({"sent_ns": pa.int64(), "filling": pa.string()}),
            readers=readers,
            metadata=["_kafka_partition"],
        )
        with Latencies(broker, "hot", stream) as latencies:
            # The first two are for everything to start, and for the broker to be compiled.
            for hot_rate in (0, HOT_RATE, 0, HOT_RATE):
                times = _trickle_to_all(broker, "hot", latencies, hot_rate)
                p50, last_p99 = np.percentile(times, [50, 99])
                p99.append(last_p99)
                print(
                    f"{readers or 'default'} readers, hot partition {hot_rate} records/s: "
                    f"p50 {p50:.1f}, p99 {last_p99:.1f}, worst {times.max():.1f} ms"
                )
    *_, idle, busy = p99
    assert busy <= 2 * idle


def _spill_folders() -> dict[Path, int]:
    """Return where Ray spills, and when that changed: it is made with the first object."""
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    return {folder: folder.stat().st_mtime_ns for folder in session.glob("ray_spilled_objects_*")}


@pytest.mark.skipif(
    "SABOT_RAY_LONG_TESTS" not in os.environ,
    reason="takes 7 minutes and 10 GB of disk: set SABOT_RAY_LONG_TESTS=1",
)
@pytest.mark.timeout(1200)
def test_10_gb_backlog_and_a_slow_consumer_keep_memory_within_the_bar_and_spill_nothing(
    ray_session: None, backend: Backend
) -> None:
    partitions, seconds, size_bytes = 16, 300.0, 10_000 * _MB
    in_flight, memory_per_reader = 128 << 20, 128 << 20
    try:
        # Of its own: what is deleted from a broker that goes on leaves the disk later.
        with servers.running_broker() as broker:
            broker.create_topic("backlog", partitions)
            began = time.monotonic()
            count = fill_bytes(broker, "backlog", "wide", partitions, size_bytes)
            print(f"{partitions * count:,} records written in {time.monotonic() - began:.0f} s")
            idle, spilled_before = idle_worker(), _spill_folders()
            stream = Stream.from_kafka(
                broker.bootstrap_servers,
                "backlog",
                backend=backend,
                schema=SHAPES["wide"].schema,
                end="latest",
                memory_per_reader=memory_per_reader,
                max_in_flight_bytes=in_flight,
            )
            read = dict.fromkeys(range(partitions), 0)
            with sampled_readers() as peaks, stream.start() as run:
                ends = time.monotonic() + seconds
                for reference in run.refs():
                    batch = reference.get()
                    assert batch.num_rows == reference.next_offset - reference.start_offset
                    assert reference.start_offset == read[reference.partition]
                    read[reference.partition] = reference.next_offset
                    time.sleep(batch.nbytes / SLOW_BYTES_PER_S)
                    reference.ack()
                    if time.monotonic() > ends:
                        break
    except servers.ServerMissing as exc:
        skip_or_fail(str(exc))

    limit = memory_per_reader // 2 + in_flight + ALLOWANCE_BYTES
    worst = max(peaks.values(), key=lambda peak: peak.resident)
    over = worst.resident - idle.resident
    print(
        f"{len(peaks)} readers, {sum(read.values()):,} records, {min(read.values()):,} to "
        f"{max(read.values()):,} of a partition; the largest reader {worst.resident / _MB:.0f} MB, "
        f"{worst.own / _MB:.0f} of its own, {over / _MB:.0f} over an idle worker "
        f"(limit {limit / _MB:.0f})"
    )
    assert min(read.values()) > 0
    assert over <= limit
    assert _spill_folders() == spilled_before
