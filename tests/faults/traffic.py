"""A stream in use: records that are written all the time, and a run that reads them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sabot_ray import Stream
from sabot_ray.kafka.source import Backend
from sabot_ray.runtime.run import StreamRun
from tests.faults.ledger import SCHEMA, Ledger, NumberedProducer, Stopwatch
from tests.servers import wait_until


class Traffic:
    """Records that are written all the time, and a run that reads them in a thread of its own."""

    def __init__(self, bootstrap_servers: str, topic: str, partitions: int, run: StreamRun) -> None:
        self.run = run
        self.ledger = Ledger()
        self.stopwatch = Stopwatch(time.monotonic)
        self._producer = NumberedProducer(bootstrap_servers, topic, partitions)
        self._over = threading.Event()
        self._stopping = False
        self._failure: BaseException | None = None
        self._threads = [threading.Thread(target=self._write), threading.Thread(target=self._read)]

    @property
    def counts(self) -> list[int]:
        """How many records were written to each partition."""
        return self._producer.counts

    @property
    def committed(self) -> list[int]:
        """What the run has committed, by partition."""
        return [part.committed_offset or 0 for part in self.run.status().partitions]

    def __str__(self) -> str:
        """Say how many records came, and how."""
        counts = self.counts
        return (
            f"{sum(counts)} records, lost {self.ledger.lost(counts)}, "
            f"doubled {self.ledger.doubled(counts)}, "
            f"longest stall {self.stopwatch.longest(1)[0]:.1f} s"
        )

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def await_progress(self, timeout_s: float) -> float:
        """Wait until every partition's next record was read; return how long that took."""
        began, written = time.monotonic(), self.counts
        wait_until(
            lambda: self._check() and all(self._has_read(p, n) for p, n in enumerate(written)),
            timeout_s,
        )
        return time.monotonic() - began

    def await_state(self, state: str, timeout_s: float) -> float:
        """Wait until the run's state is this one; return how long that took."""
        began = time.monotonic()
        wait_until(lambda: self._check() and self.run.status().state == state, timeout_s)
        return time.monotonic() - began

    def await_commits(self, timeout_s: float) -> None:
        """Wait until every partition's next record is committed."""
        written = self.counts
        wait_until(
            lambda: (
                self._check() and all(c > w for c, w in zip(self.committed, written, strict=True))
            ),
            timeout_s,
        )

    def finish(self) -> None:
        """Stop writing, and wait until everything was read and committed."""
        self._over.set()
        self._threads[0].join()
        self._producer.flush()
        wait_until(lambda: self._check() and self.ledger.rows >= sum(self.counts), 30.0)
        wait_until(lambda: self.committed == self.counts, 30.0)

    def stop(self) -> None:
        self._over.set()
        self._stopping = True
        for thread in self._threads:
            thread.join(30)

    def _has_read(self, partition: int, sequence: int) -> bool:
        return self.ledger.last_seen(partition) >= sequence

    def _check(self) -> bool:
        """Raise what ended the reading, if something did."""
        if self._failure is not None:
            raise self._failure
        return True

    def _write(self) -> None:
        while not self._over.wait(0.05):
            self._producer.write(100)

    def _read(self) -> None:
        try:
            batches = iter(self.run)
            while not self._stopping:
                batch = next(batches, None)
                if batch is None:
                    return
                self.ledger.note(batch)
                self.stopwatch.note(batch["partition"][0].as_py())
        except BaseException as failure:  # noqa: BLE001 - the test's thread raises it
            self._failure = failure


@contextmanager
def traffic(
    bootstrap_servers: str, topic: str, partitions: int, backend: Backend, session_s: float = 45.0
) -> Iterator[Traffic]:
    """Write to a topic and read it, in a group of its name, for the length of a ``with`` block."""
    stream = Stream.from_kafka(
        bootstrap_servers,
        topic,
        topic,
        backend=backend,
        schema=SCHEMA,
        auto_commit_interval_ms=100,
        session_timeout_ms=int(session_s * 1000),
        heartbeat_interval_ms=500,
    )
    with stream.start() as run:
        flow = Traffic(bootstrap_servers, topic, partitions, run)
        flow.start()
        try:
            flow.await_progress(30.0)
            yield flow
        finally:
            flow.stop()
