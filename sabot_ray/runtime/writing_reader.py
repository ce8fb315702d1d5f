"""The actor that reads partitions and writes what the operators leave: only progress leaves it."""

from __future__ import annotations

import pickle
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import pyarrow as pa

from sabot_ray.errors import EncodeError, KafkaError, SinkError
from sabot_ray.kafka.backend import connect_sink
from sabot_ray.kafka.sink import Delivery, PartitionSink, sink_error
from sabot_ray.runtime.reader import (
    CUT_OFF_S,
    Assignment,
    BatchInfo,
    Failure,
    Reader,
    ReaderPlan,
    ReaderStatus,
    _Partition,
)
from sabot_ray.types import FailedRecord, TopicPartition

#: Records under way are looked after so often, in seconds.
LOOK_S = 0.05
#: How many batches may be under way, beside what the client itself holds back.
_MOST_UNDER_WAY = 32


class Drained(NamedTuple):
    """What a reader tells that reads no more.

    Attributes:
        infos: Ranges whose records are written.
        is_done: Whether nothing is under way any more.
        failure: Why something will never be written; None: nothing is known of that kind.
    """

    infos: list[BatchInfo]
    is_done: bool
    failure: Failure | None


@dataclass(eq=False)
class UnderWay:
    """A range that was read, and what becomes of its records; None where no row was left."""

    info: BatchInfo
    delivery: Delivery | None

    def is_settled(self) -> bool:
        """See `Delivery.is_settled`."""
        return self.delivery is None or self.delivery.is_settled()

    def wait(self) -> bool:
        """Wait a little until it is; tell whether it was."""
        return self.delivery is None or self.delivery.wait(LOOK_S)

    def failures(self) -> list[FailedRecord]:
        """See `Delivery.failures`."""
        return [] if self.delivery is None else self.delivery.failures()


class WritingReader(Reader):
    """Reads, and hands each batch to a sink; runs as a Ray actor.

    `next_batch` returns no batches: it tells of ranges, each once all its records are written, and
    those of a partition in order. So the driver acknowledges what it is told, and what was under
    way when a reader dies is read and written again.
    """

    # The driver asks after a reader whose answer is late, and so hears of a target that does not
    # answer: soon enough also of one that was idle before.
    _longest_poll_s = 5.0

    def __init__(self) -> None:
        super().__init__()
        self._sink: PartitionSink | None = None
        # In the order in which they were read.
        self._under_way: deque[UnderWay] = deque()

    def open(self, plan: ReaderPlan, assignments: Sequence[Assignment]) -> Failure | None:
        """See `Reader.open`."""
        self._close_sink()
        self._under_way.clear()
        failure = super().open(plan, assignments)
        if failure is not None:
            return failure
        assert plan.sink is not None
        sink = plan.sink
        self._enter("write")
        try:
            self._sink = self._patiently(lambda: connect_sink(sink.backend, sink.spec))
        except Exception as error:  # noqa: BLE001 - whatever it is, the driver raises it
            self._failure = Failure.of(of_the_sink(error))
        self._enter("idle")
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
        if self._failure is not None and not infos:
            return b"", pickle.dumps(self._failure)
        # It may have changed since these were read.
        is_cut_off = self._told_cut_off = self._is_cut_off()
        return b"", pickle.dumps([replace(info, is_cut_off=is_cut_off) for info in infos])

    def _write_on(self) -> list[BatchInfo]:
        if not self._under_way and not self._closing.is_set():
            self._next_batch()
        while True:
            self._read_on()
            written = self._take_written()
            if written or not self._under_way:
                return written
            self._raise_refused()
            self._wait_for_writes()

    def _wait_for_writes(self) -> None:
        # The brokers may be away for long, which is no reason to replace the reader.
        self._enter("write")
        if self._sink is not None:
            self._sink.tend()
        waiting = (entry for entry in self._under_way if not entry.is_settled())
        first = next(waiting, None)
        if first is not None:
            first.wait()

    def _read_on(self) -> None:
        """Read what is at hand, without a wait, as far as there may be more under way."""
        for _ in range(_MOST_UNDER_WAY - len(self._under_way)):
            read = None if self._closing.is_set() else self._take_turn()
            if read is None:
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
        rows = batch if batch is not None and batch.num_rows else None
        delivery = self._send(told[1], rows) if rows is not None else None
        self._under_way.append(UnderWay(told[1], delivery))
        self._enter("idle")
        return told

    def _sink_of(self, partition: TopicPartition) -> PartitionSink:
        """Return where what was read of the partition is written."""
        assert self._sink is not None
        return self._sink

    def _send(self, info: BatchInfo, rows: pa.RecordBatch) -> Delivery:
        try:
            return self._sink_of(info.partition).send(rows)
        except EncodeError as error:
            message = f"{_read_from(info)}: {error.message}"
            raise EncodeError(message, error.row, error.field, error.reason) from error
        except KafkaError as error:
            raise of_the_sink(error) from error

    def _take_written(self) -> list[BatchInfo]:
        """Return the ranges before which nothing of their partition is under way any more."""
        settled = [entry for entry in self._under_way if entry.is_settled()]
        if settled and self._sink is not None:
            # Interceptors hear of these before the driver does.
            self._sink.tend()
        written: list[BatchInfo] = []
        left: deque[UnderWay] = deque()
        # Nothing may be told of what lies behind it in the same partition.
        held: set[TopicPartition] = set()
        for entry in self._under_way:
            partition = entry.info.partition
            if partition in held or entry not in settled or entry.failures():
                held.add(partition)
                left.append(entry)
            else:
                written.append(entry.info)
        self._under_way = left
        return written

    def _raise_refused(self) -> None:
        """Raise the error of a record that was not written, if there is one.

        Raises:
            SinkError: There is one.
        """
        for entry in self._under_way:
            if entry.is_settled() and (failures := entry.failures()):
                self._reading = entry.info.partition
                raise refused(entry.info, failures)

    def _await_written(self, deadline: float) -> list[BatchInfo]:
        """Return the ranges that are written, waiting for those that still may be."""
        while True:
            written = self._take_written()
            may_come = any(not entry.is_settled() for entry in self._under_way)
            if written or not may_come or time.monotonic() >= deadline:
                return written
            self._wait_for_writes()

    def _is_cut_off(self) -> bool:
        return super()._is_cut_off() or self._is_stalled()

    def _is_stalled(self) -> bool:
        return any(sink.stalled_s() > CUT_OFF_S for sink in self._all_sinks())

    def _all_sinks(self) -> Sequence[PartitionSink]:
        sink = self._sink
        return [] if sink is None else [sink]

    def status(self) -> ReaderStatus:
        """See `Reader.status`."""
        status = super().status()
        return replace(status, is_cut_off=status.is_cut_off or self._is_stalled())

    def drain(self, timeout_s: float) -> bytes:
        """Read no more, and return what is written, as soon as something is.

        Args:
            timeout_s: Longest time to wait for it.

        Returns:
            A pickled `Drained`: it is to be called until ``is_done``.
        """
        infos = self._await_written(time.monotonic() + timeout_s)
        if not infos and self._failure is None:
            try:
                self._raise_refused()
            except SinkError as error:
                self._failure = Failure.of(error, self._reading)
        is_done = self._failure is not None or not self._under_way
        return pickle.dumps(Drained(infos, is_done and not infos, self._failure))

    def close(self) -> None:
        """See `Reader.close`."""
        super().close()
        self._close_sink()

    def _close_sink(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()


def refused(info: BatchInfo, failures: Sequence[FailedRecord]) -> SinkError:
    """Return the error of records that were not written, and were read in this range."""
    error = sink_error(sorted(failures, key=lambda failed: failed.row))
    message = f"{_read_from(info)}: {error.message}"
    found = SinkError(message, error.topic, error.partition, error.records)
    found.__cause__ = error.__cause__
    return found


def _read_from(info: BatchInfo) -> str:
    return f"read from {info.partition}, offsets {info.start_offset} to {info.next_offset - 1}"


def of_the_sink(error: Exception) -> Exception:
    """Return the error so that nobody takes it for one of the source."""
    if not isinstance(error, KafkaError):
        return error
    found = SinkError(f"the sink: {error.message}")
    found.__cause__ = error
    return found
