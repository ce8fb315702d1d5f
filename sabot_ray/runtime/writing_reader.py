"""The actor that reads partitions and writes what the operators leave: only progress leaves it."""

from __future__ import annotations

import pickle
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from sabot_ray.errors import EncodeError, SinkError
from sabot_ray.kafka.backend import connect_sink
from sabot_ray.kafka.sink import Delivery, PartitionSink, sink_error
from sabot_ray.runtime.reader import Assignment, BatchInfo, Failure, Reader, ReaderPlan, _Partition

#: Records under way are looked after so often, in seconds.
_LOOK_S = 0.05
#: How many batches may be under way, beside what the client itself holds back.
_MOST_UNDER_WAY = 32


@dataclass
class _UnderWay:
    """A range that was read, and what becomes of its records; None where no row was left."""

    info: BatchInfo
    delivery: Delivery | None

    def is_settled(self) -> bool:
        return self.delivery is None or self.delivery.is_settled()


class WritingReader(Reader):
    """Reads, and hands each batch to a sink; runs as a Ray actor.

    `next_batch` returns no batches: it tells of ranges, each once all its records are written. So
    the driver acknowledges what it is told, and what was under way when a reader dies is read and
    written again.
    """

    def __init__(self) -> None:
        super().__init__()
        self._sink: PartitionSink | None = None
        # In the order in which they were read.
        self._under_way: deque[_UnderWay] = deque()

    def open(self, plan: ReaderPlan, assignments: Sequence[Assignment]) -> Failure | None:
        """See `Reader.open`."""
        self._close_sink()
        self._under_way.clear()
        failure = super().open(plan, assignments)
        if failure is not None:
            return failure
        assert plan.sink is not None
        try:
            self._sink = connect_sink(plan.sink.backend, plan.sink.spec)
        except Exception as error:  # noqa: BLE001 - whatever it is, the driver raises it
            self._failure = Failure.of(error)
        return self._failure

    def next_batch(self) -> tuple[pa.RecordBatch | bytes, bytes]:
        """Return the ranges whose records are written by now; wait a while where there are none.

        Returns:
            Empty bytes; and a pickled list of `BatchInfo`, or the pickled `Failure`, as
            `Reader.next_batch` does.
        """
        infos: list[BatchInfo] = []
        if self._failure is None:
            try:
                infos = self._write_on()
            except Exception as error:  # noqa: BLE001 - the user's code may raise anything
                self._failure = Failure.of(error, self._reading)
        if self._failure is not None and not infos:
            # What was read before goes out first.
            infos = self._await_written(float("inf"))
        return b"", pickle.dumps(infos or self._failure)

    def _write_on(self) -> list[BatchInfo]:
        if not self._under_way:
            self._next_batch()
        while True:
            self._read_on()
            written = self._take_written()
            if written:
                return written
            first = self._under_way[0].delivery
            assert first is not None
            # The brokers may be away for long, which is no reason to replace the reader.
            self._enter("write")
            first.wait(_LOOK_S)

    def _read_on(self) -> None:
        """Read what is at hand, without a wait, as far as there may be more under way."""
        for _ in range(_MOST_UNDER_WAY - len(self._under_way)):
            read = self._take_turn()
            if read is None or self._closing.is_set():
                return
            batch = self._poll(read, 0.0)
            if batch.num_rows or read.is_at_end:
                self._answer(read, batch)

    def _answer(
        self, read: _Partition, batch: pa.RecordBatch | None
    ) -> tuple[pa.RecordBatch | bytes, BatchInfo]:
        """Write the rows instead of returning them."""
        told = super()._answer(read, batch)
        self._enter("write")
        assert self._sink is not None
        rows = batch if batch is not None and batch.num_rows else None
        delivery = self._send(told[1], rows) if rows is not None else None
        self._under_way.append(_UnderWay(told[1], delivery))
        self._enter("idle")
        return told

    def _send(self, info: BatchInfo, rows: pa.RecordBatch) -> Delivery:
        assert self._sink is not None
        try:
            return self._sink.send(rows)
        except EncodeError as error:
            where = f"{info.partition}, offsets {info.start_offset} to {info.next_offset - 1}"
            message = f"read from {where}: {error.message}"
            raise EncodeError(message, error.row, error.field, error.reason) from error

    def _take_written(self) -> list[BatchInfo]:
        """Return the ranges at the beginning of which nothing is under way any more.

        Raises:
            SinkError: A record of the first one was not written.
        """
        written: list[BatchInfo] = []
        while self._under_way and self._under_way[0].is_settled():
            delivery = self._under_way[0].delivery
            failures = delivery.failures() if delivery is not None else []
            if failures:
                if written:
                    # These first; the error comes with the next call.
                    break
                # Nothing behind it may be acknowledged.
                self._under_way.clear()
                raise sink_error(sorted(failures, key=lambda failed: failed.row))
            written.append(self._under_way.popleft().info)
        return written

    def _await_written(self, deadline: float) -> list[BatchInfo]:
        """Wait until nothing is under way, or a record was not written; return what was."""
        self._enter("write")
        written: list[BatchInfo] = []
        while self._under_way and time.monotonic() < deadline:
            try:
                written += self._take_written()
            except SinkError as error:
                # Another one may have been met before.
                self._failure = self._failure or Failure.of(error, self._reading)
                break
            first = self._under_way[0].delivery if self._under_way else None
            if first is not None:
                first.wait(_LOOK_S)
        return written

    def drain(self, timeout_s: float) -> tuple[bytes, bytes]:
        """Read no more, and return the ranges whose records are written within the time.

        Returns:
            As `next_batch`, but the list may be empty.
        """
        return b"", pickle.dumps(self._await_written(time.monotonic() + timeout_s))

    def close(self) -> None:
        """See `Reader.close`."""
        super().close()
        self._close_sink()

    def _close_sink(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()
