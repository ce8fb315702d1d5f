"""A stream that copies a topic: what is written, and who reads the copy meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import confluent_kafka
import orjson

from tests.faults.ledger import PRODUCER, Ledger, NumberedProducer, Run, Stopwatch, checksum
from tests.servers import wait_until


class Copying:
    """Numbered records that are written to a topic, and a reader of what is committed of its copy.

    Both run in threads of their own. The copy has the partitions of the topic.
    """

    def __init__(
        self, bootstrap_servers: str, topic: str, copy: str, partitions: int, records: int
    ) -> None:
        self.ledger = Ledger()
        self.stopwatch = Stopwatch(time.monotonic)
        self._records = records
        self._producer = NumberedProducer(bootstrap_servers, topic, partitions)
        self._consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": f"{copy}-reader",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "reconnect.backoff.max.ms": 500,
                "socket.timeout.ms": 10_000,
                "log_level": 0,
            }
        )
        self._consumer.assign(
            [confluent_kafka.TopicPartition(copy, p, 0) for p in range(partitions)]
        )
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._guarded, args=[work], daemon=True)
            for work in (self._write, self._read)
        ]

    @property
    def counts(self) -> list[int]:
        """How many records were written to each partition."""
        return self._producer.counts

    @property
    def is_written(self) -> bool:
        """Whether all records were handed over."""
        return sum(self.counts) >= self._records

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def await_rows(self, rows: int, timeout_s: float) -> None:
        """Wait until this many more rows of the copy were seen, or all."""
        wanted = min(self.ledger.rows + rows, self._records)
        wait_until(lambda: self._check() and self.ledger.rows >= wanted, timeout_s)

    def await_all(self, timeout_s: float) -> None:
        """Wait until every record was seen."""
        wait_until(
            lambda: self._check() and self.is_written and not self.ledger.lost(self.counts),
            timeout_s,
        )

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._consumer.close()

    def _check(self) -> bool:
        if self._failure is not None:
            raise self._failure
        return True

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as failure:  # noqa: BLE001 - the test raises it
            self._failure = failure

    def _write(self) -> None:
        while not self._over.is_set() and not self.is_written:
            self._producer.write(min(150, self._records - sum(self.counts)))
            time.sleep(0.1)
        self._producer.flush(120.0)

    def _read(self) -> None:
        while not self._over.is_set():
            for message in self._consumer.consume(1000, timeout=0.1):
                if message.error() is not None:
                    # An outage, which the client sits out.
                    continue
                record = orjson.loads(message.value())
                partition, sequence = record["partition"], record["sequence"]
                assert record["producer"] == PRODUCER
                assert record["checksum"] == checksum(partition, sequence)
                assert message.partition() == partition
                self.ledger.note_run(Run(partition, sequence, sequence + 1))
                self.stopwatch.note(partition)


@contextmanager
def copying(
    bootstrap_servers: str, topic: str, copy: str, partitions: int, records: int
) -> Iterator[Copying]:
    """Write records to a topic and read its copy while the context is entered."""
    flow = Copying(bootstrap_servers, topic, copy, partitions, records)
    flow.start()
    try:
        yield flow
    finally:
        flow.stop()
