"""Numbered records, and the account of which of them were seen: lost, doubled, out of order.

A record carries its producer, its partition, its sequence number in there, and a checksum of the
three, so that a record which was mixed up or garbled is told from one that was lost.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import confluent_kafka
import numpy as np
import numpy.typing as npt
import pyarrow as pa

SCHEMA = pa.schema(
    [
        ("producer", pa.int64()),
        ("partition", pa.int64()),
        ("sequence", pa.int64()),
        ("checksum", pa.int64()),
    ]
)
PRODUCER = 7


def checksum(partition: int | npt.NDArray[np.int64], sequence: int | npt.NDArray[np.int64]) -> Any:
    """Return the checksum of a record, or of many."""
    return (PRODUCER * 1_000_003 + partition * 8_191 + sequence * 2_654_435_761) % 4_294_967_291


class NumberedProducer:
    """Writes numbered records, each partition's from 0 on, and waits out every outage.

    Each record's sequence number is its offset, as long as nothing else writes to the topic.
    """

    def __init__(self, bootstrap_servers: str, topic: str, partitions: int) -> None:
        self._topic = topic
        self._next = [0] * partitions
        self._acknowledged = 0
        self._refused: list[str] = []
        self._producer = confluent_kafka.Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                # A repeated request is neither doubled nor reordered.
                "enable.idempotence": True,
                "linger.ms": 5,
                "message.timeout.ms": 300_000,
                # A frozen broker is noticed as soon as the stream notices it.
                "socket.timeout.ms": 10_000,
                "request.timeout.ms": 10_000,
                "queue.buffering.max.messages": 2_000_000,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )

    @property
    def counts(self) -> list[int]:
        """How many records were written to each partition."""
        return list(self._next)

    def write(self, records: int) -> None:
        """Hand over records, in turn to every partition."""
        for _ in range(records):
            partition = min(range(len(self._next)), key=self._next.__getitem__)
            sequence = self._next[partition]
            self._next[partition] += 1
            value = b'{"producer":%d,"partition":%d,"sequence":%d,"checksum":%d}' % (
                PRODUCER,
                partition,
                sequence,
                checksum(partition, sequence),
            )
            self._producer.produce(
                self._topic, value, partition=partition, on_delivery=self._on_delivery
            )
            if sequence % 1000 == 0:
                self._producer.poll(0)
        self._producer.poll(0)

    def flush(self, timeout_s: float = 60.0) -> None:
        """Wait until every record is acknowledged."""
        missing = self._producer.flush(timeout_s)
        assert not missing, f"{missing} records are not acknowledged"
        assert not self._refused, f"records were refused: {self._refused[:3]}"
        assert self._acknowledged == sum(self._next)

    def _on_delivery(self, error: confluent_kafka.KafkaError | None, _record: object) -> None:
        if error is None:
            self._acknowledged += 1
        else:
            self._refused.append(error.str())


def fill(bootstrap_servers: str, topic: str, partitions: int, records: int) -> None:
    """Write numbered records to an empty topic, the same number to every partition."""
    assert records % partitions == 0
    producer = NumberedProducer(bootstrap_servers, topic, partitions)
    producer.write(records)
    producer.flush()


@dataclass(frozen=True)
class Run:
    """Records of one partition with consecutive sequence numbers, ``[start, stop)``."""

    partition: int
    start: int
    stop: int


def runs_of(batch: pa.RecordBatch) -> Iterator[Run]:
    """Yield the consecutive records of a batch, after checking what every record carries."""
    assert batch.schema.equals(SCHEMA), batch.schema
    columns = {name: batch.column(name).to_numpy() for name in SCHEMA.names}
    partition, sequence = columns["partition"], columns["sequence"]
    assert (columns["producer"] == PRODUCER).all(), "a record of another producer"
    assert (columns["checksum"] == checksum(partition, sequence)).all(), "a garbled record"
    assert (partition == partition[0]).all(), "a batch with records of two partitions"
    breaks = np.flatnonzero(np.diff(sequence) != 1) + 1
    for part in np.split(sequence, breaks):
        yield Run(int(partition[0]), int(part[0]), int(part[-1]) + 1)


class Ledger:
    """Notes every record that was seen, in the order in which it was."""

    def __init__(self) -> None:
        self._runs: dict[int, list[Run]] = {}
        self.rows = 0

    def note(self, batch: pa.RecordBatch) -> None:
        """Note a batch's records."""
        for run in runs_of(batch):
            self.note_run(run)

    def note_run(self, run: Run) -> None:
        """Note consecutive records."""
        self._runs.setdefault(run.partition, []).append(run)
        self.rows += run.stop - run.start

    def last_seen(self, partition: int) -> int:
        """Return the sequence number that came last; -1 if none did."""
        runs = self._runs.get(partition)
        return runs[-1].stop - 1 if runs else -1

    def lost(self, counts: list[int]) -> int:
        """Return how many records of 0 to the partition's count were never seen."""
        return sum(
            int((self._times_seen(partition, count) == 0).sum())
            for partition, count in enumerate(counts)
        )

    def doubled(self, counts: list[int]) -> int:
        """Return by how many the records that were seen exceed the different ones."""
        return sum(
            int(np.maximum(self._times_seen(partition, count) - 1, 0).sum())
            for partition, count in enumerate(counts)
        )

    def assert_in_order(self) -> None:
        """Check that within every partition each record came after the one before it."""
        for runs in self._runs.values():
            for before, after in itertools.pairwise(runs):
                assert after.start >= before.stop, f"{after} came after {before}"

    def assert_whole(self, counts: list[int]) -> None:
        """Check that every record was seen exactly once, in order within its partition."""
        assert (self.lost(counts), self.doubled(counts)) == (0, 0)
        self.assert_in_order()

    def _times_seen(self, partition: int, count: int) -> npt.NDArray[np.int64]:
        seen = np.zeros(count, np.int64)
        for run in self._runs.get(partition, ()):
            assert 0 <= run.start < run.stop <= count, f"{run} was never written"
            seen[run.start : run.stop] += 1
        return seen


class Stopwatch:
    """Measures the pauses between what comes from each partition."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: dict[int, float] = {}
        self._pauses: list[float] = []

    def note(self, partition: int) -> None:
        """Note that something came from the partition."""
        now = self._clock()
        if partition in self._last:
            self._pauses.append(now - self._last[partition])
        self._last[partition] = now

    def longest(self, n: int) -> list[float]:
        """Return the n longest pauses, the longest first."""
        return sorted(self._pauses, reverse=True)[:n]
