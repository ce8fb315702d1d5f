"""`to_kafka` whose target is away for a while: the output waits, says so, and goes on."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bench.memory import idle_worker, sampled_readers
from sabot_ray import OutputStream, Stream
from sabot_ray.kafka.source import Backend
from sabot_ray.testing import Record, produce
from tests.faults.ledger import SCHEMA, Ledger, NumberedProducer
from tests.faults.processes import at
from tests.kafka.reading import read_all, read_each
from tests.servers import KafkaBroker, KafkaCluster, running_broker, wait_until

PARTITIONS = 3
#: What a reader that writes may hold over an idle Ray worker: 64 MiB fetched ahead, as much under
#: way in the client, batches between the two, and what the heap keeps, in bytes.
MOST_MEMORY = 500_000_000
#: Records of the output whose brokers are slow: more than are written meanwhile.
BACKLOG = {"native": 1_500_000, "aiokafka": 400_000}
#: How long each of them is away then, in seconds.
AWAY_S = 30.0
OUTAGE_S = 60.0
#: What its readers have to start, on a machine that is busy with the cluster, in seconds.
START_S = 60.0
#: What an output has to resume after a fault has ended, in seconds...
RESUME_S = 15.0
#: ...and its status to show one that lasts.
DEGRADED_S = 15.0


@pytest.fixture
def topics(cluster: KafkaCluster) -> Iterator[tuple[str, str]]:
    """A topic with a replica on each node, and one of which each node has its partition alone."""
    source = f"test-{uuid.uuid4().hex[:12]}"
    target = f"{source}-target"
    cluster.create_topic(source, PARTITIONS)
    cluster.create_topic(target, PARTITIONS, replicas=1, min_insync_replicas=1)
    cluster.await_in_sync()
    yield source, target
    cluster.start()
    cluster.delete_topic(target)


class Writer:
    """Writes numbered records to a topic in a thread of its own, until it is told to finish."""

    def __init__(self, cluster: KafkaCluster, topic: str) -> None:
        self._producer = NumberedProducer(cluster.bootstrap_servers, topic, PARTITIONS)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    @property
    def records(self) -> int:
        """How many there are so far."""
        return sum(self._producer.counts)

    def finish(self) -> list[int]:
        """Write no more, and return how many records each partition has."""
        self._over.set()
        self._thread.join()
        self._producer.flush()
        return self._producer.counts

    def _write(self) -> None:
        while not self._over.wait(0.05):
            self._producer.write(50)


@pytest.fixture
def writer(cluster: KafkaCluster, topics: tuple[str, str]) -> Iterator[Writer]:
    """Writes to the source."""
    writer = Writer(cluster, topics[0])
    yield writer
    writer.finish()


def await_state(output: OutputStream, state: str, timeout_s: float) -> float:
    """Wait until the output's state is this one; return how long that took."""
    began = time.monotonic()
    wait_until(lambda: not output.wait(0.0) and output.status().state == state, timeout_s)
    return time.monotonic() - began


@pytest.mark.timeout(300)
def test_leader_of_the_target_away_for_a_minute_delays_the_output_and_nothing_else(
    cluster: KafkaCluster,
    topics: tuple[str, str],
    writer: Writer,
    ray_session: None,
    backend: Backend,
) -> None:
    source, target = topics
    stream = Stream.from_kafka(
        cluster.bootstrap_servers, source, source, backend=backend, schema=SCHEMA
    )
    output = stream.to_kafka(
        cluster.bootstrap_servers,
        target,
        use_cpp=backend == "native",
        partition="partition",
        interval_s=0.2,
        wait=False,
    )
    with output:
        wait_until(lambda: not output.wait(0.0) and output.status().rows > 1000, START_S)
        await_state(output, "RUNNING", RESUME_S)
        leader = cluster.leader(target)
        leader.kill()
        back_at = time.monotonic() + OUTAGE_S
        shown = await_state(output, "DEGRADED", DEGRADED_S)
        wait_until(lambda: at(back_at), OUTAGE_S + 1.0)
        # By now the other nodes have taken over all but the target's partition.
        assert output.status().state == "DEGRADED"

        leader.start()
        began, so_far = time.monotonic(), writer.records
        wait_until(lambda: output.status().rows > so_far, RESUME_S)
        resumed = time.monotonic() - began
        await_state(output, "RUNNING", RESUME_S)
        counts = writer.finish()
        wait_until(lambda: output.status().rows == sum(counts), 30.0)
        wait_until(
            lambda: [part.committed_offset for part in output.status().partitions] == counts, 30.0
        )

    ledger = Ledger()
    for partition in range(PARTITIONS):
        rows = [
            orjson.loads(r.value) for r in read_all(cluster, target) if r.partition == partition
        ]
        ledger.note(pa.RecordBatch.from_pylist(rows, SCHEMA))
    print(f"{sum(counts)} records, lost {ledger.lost(counts)}, doubled {ledger.doubled(counts)}, ")
    print(f"shown after {shown:.1f} s, resumed after {resumed:.1f} s")
    ledger.assert_whole(counts)


def slow(broker: KafkaBroker, seconds: float) -> None:
    """Let a broker answer only a fifth of the time."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        broker.freeze()
        time.sleep(0.4)
        broker.thaw()
        time.sleep(0.1)


@pytest.mark.timeout(400)
def test_slow_and_absent_brokers_leave_the_memory_of_an_output_flat_and_lose_nothing(
    ray_session: None, backend: Backend
) -> None:
    topic, size_bytes, partitions, records = "numbers", 1000, 2, BACKLOG[backend]
    with running_broker() as source, running_broker() as target:
        for broker in (source, target):
            broker.create_topic(topic, partitions)
        text = "x" * size_bytes
        values = (b'{"n":%d,"text":"%s"}' % (n, text.encode()) for n in range(records))
        given = (Record(value, partition=n % partitions) for n, value in enumerate(values))
        produce(source.bootstrap_servers, topic, given, timeout_s=120.0)
        idle = idle_worker()
        held: list[int] = []
        with sampled_readers("WritingReader") as peaks:
            output = Stream.from_kafka(
                source.bootstrap_servers,
                topic,
                topic,
                backend=backend,
                schema={"n": "int64", "text": "string"},
                end="latest",
            ).to_kafka(
                target.bootstrap_servers,
                topic,
                use_cpp=backend == "native",
                partition=pc.bit_wise_and(pc.field("n"), 1),
                wait=False,
            )
            with output:
                for broker in (target, source):
                    reach = output.status().rows + 1
                    wait_until(
                        lambda reach=reach: not output.wait(0.0) and output.status().rows >= reach,
                        START_S,
                    )
                    slow(broker, 10.0)
                    broker.freeze()
                    time.sleep(AWAY_S)
                    broker.thaw()
                    held.append(max(peak.resident for peak in peaks.values()))
                assert output.status().rows < records
                output.wait()
                assert output.status().rows == records
        copies = np.bincount(
            [orjson.loads(found.value)["n"] for found in read_each(target, topic)],
            minlength=records,
        )

    worst = max(peaks.values(), key=lambda peak: peak.resident)
    over = worst.resident - idle.resident
    lost, doubled = np.count_nonzero(copies == 0), np.count_nonzero(copies > 1)
    print(
        f"{records:,} records, lost {lost}, doubled {doubled}; the largest reader "
        f"{worst.resident / 1e6:.0f} MB, {over / 1e6:.0f} over an idle worker"
    )
    assert (lost, doubled) == (0, 0)
    # Bounded, of a backlog of 1.5 GB, and nothing grows with time.
    assert over <= MOST_MEMORY
    assert worst.resident <= 1.15 * held[0]
