"""The actor that reads partitions and writes what the operators leave: only progress leaves it."""

from __future__ import annotations

import pickle
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from sabot_ray.codecs.codec import Rejected
from sabot_ray.errors import EncodeError, KafkaError, SinkError, UnknownTopicOrPartition
from sabot_ray.kafka.backend import connect_sink
from sabot_ray.kafka.sink import Delivery, PartitionSink, SinkSpec, sink_error
from sabot_ray.runtime.operators import around_failures, source_rows
from sabot_ray.runtime.policy import DeadLetter, ErrorPolicy
from sabot_ray.runtime.reader import CUT_OFF_S, Origin, Reader, _Partition
from sabot_ray.runtime.reader_messages import (
    Assignment,
    BatchInfo,
    Drained,
    Failure,
    ReaderPlan,
    ReaderStatus,
)
from sabot_ray.types import FailedRecord, SourceStats, TopicPartition, WrittenRecords

#: Records under way are looked after so often, in seconds.
LOOK_S = 0.05
#: What is written is told so often at least, however much there is to be read, in seconds: each
#: `send` waits while the target is slow.
_TELL_S = 0.2
#: How many batches may be under way, beside what the client itself holds back.
_MOST_UNDER_WAY = 32
#: How many bytes of batches that are under way may be kept for the policy.
_MOST_KEPT_BYTES = 64 << 20
#: Kafka's codes of what is wrong with one record, however often it is sent.
_CODES_OF_RECORDS = frozenset(
    {
        10,  # MSG_SIZE_TOO_LARGE
        17,  # TOPIC_EXCEPTION
        32,  # INVALID_TIMESTAMP
        44,  # POLICY_VIOLATION
        87,  # INVALID_RECORD
    }
)


@dataclass(eq=False)
class UnderWay:
    """A range that was read, and what becomes of its records.

    Attributes:
        info: The range.
        delivery: What becomes of its records; None where there are none.
        rows: The rows, where the policy may have to look at them again.
        origin: What the operators made them of, likewise.
        counted: What the policy counted of them.
    """

    info: BatchInfo
    delivery: Delivery | None
    rows: pa.RecordBatch | None = None
    origin: Origin | None = None
    counted: SourceStats = field(default_factory=SourceStats)

    @property
    def kept_bytes(self) -> int:
        """Bytes of what is kept for the policy."""
        kept = [self.rows, self.origin.rows if self.origin is not None else None]
        return sum(rows.nbytes for rows in kept if rows is not None)

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
        # What the policy counted of the ranges that were told.
        self._counted: dict[TopicPartition, SourceStats] = {}

    def open(self, plan: ReaderPlan, assignments: Sequence[Assignment]) -> Failure | None:
        """See `Reader.open`."""
        self._forget()
        failure = super().open(plan, assignments)
        if failure is not None:
            return failure
        assert plan.sink is not None
        backend, spec = plan.sink.backend, sink_spec(plan)
        self._enter("write")
        try:
            self._sink = self._patiently(lambda: connect_sink(backend, spec))
        except Exception as error:  # noqa: BLE001 - whatever it is, the driver raises it
            self._failure = Failure.of(of_the_sink(error))
        self._enter("idle")
        return self._failure

    def _forget(self) -> None:
        """Give up what was under way, for whoever opens it next."""
        self._close_sink()
        self._under_way.clear()
        self._counted.clear()

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
            _, told = self._next_batch()
            if told.is_announcement:
                return [told]
            if self._goes_singly():
                # The record that was announced has done no harm, and may be under way for long:
                # what ends the process meanwhile is something else.
                return self._take_written()
        while True:
            self._read_on()
            written = self._take_written()
            if written or not self._under_way:
                return written
            self._see_to_refused()
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
        # Where a record may end the process, what lies before it is told first.
        most = 1 if self._goes_singly() else _MOST_UNDER_WAY
        told_by = time.monotonic() + _TELL_S
        for _ in range(most - len(self._under_way)):
            if time.monotonic() >= told_by and any(e.is_settled() for e in self._under_way):
                return
            keeps_enough = sum(entry.kept_bytes for entry in self._under_way) >= _MOST_KEPT_BYTES
            stops = keeps_enough or self._closing.is_set()
            read = None if stops else self._take_turn()
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
        entry = UnderWay(told[1], None)
        if rows is not None and self._policy.name == "fail":
            entry.delivery = self._send(told[1], rows)
        elif rows is not None:
            entry.rows, entry.origin = rows, read.origin
            self._send_by_policy(entry, read, rows)
        self._under_way.append(entry)
        self._enter("idle")
        return told

    @property
    def _policy(self) -> ErrorPolicy:
        assert self._plan is not None
        return self._plan.policy

    def _send_by_policy(self, entry: UnderWay, read: _Partition, rows: pa.RecordBatch) -> None:
        """Write the rows; those that cannot be encoded are passed over, if the policy says so."""
        if not self._policy.passes_over:
            entry.delivery = self._send(entry.info, rows)
            return

        sent, refused = self._send_rows(entry, 0, rows.num_rows)
        entry.delivery = Deliveries(sent)
        refused += [
            (start + found.index, self._encode_error(entry.info, start, found))
            for start, delivery in sent
            for found in delivery.rejected
        ]
        if refused:
            errors = dict(sorted(refused))
            offsets = self._offsets_of(entry, list(errors), next(iter(errors.values())))
            letters = {
                offset: DeadLetter.of_encode_error(
                    entry.info.partition, offset, self._sink_of(entry.info.partition), error
                )
                for offset, error in zip(offsets, errors.values(), strict=True)
            }
            entry.counted = self._pass_over(read, list(letters.values()))

    def _send_rows(
        self, entry: UnderWay, start: int, stop: int
    ) -> tuple[list[tuple[int, Delivery]], list[tuple[int, EncodeError]]]:
        """Write some rows of a range; those that cannot be encoded are left out.

        Returns:
            The first row of each part that was sent, and what becomes of it; and the rows that are
            left out because of what is not the codec's business, such as a key or a timestamp.
        """
        assert entry.rows is not None
        rows = entry.rows.slice(start, stop - start)

        def send(begin: int, end: int) -> Delivery:
            return self._send(entry.info, rows.slice(begin, end - begin))

        # Nothing is written of a batch with such a row.
        sent, refused = around_failures(rows.num_rows, send, EncodeError)
        return (
            [(start + begin, delivery) for begin, delivery in sent],
            [(start + row, error) for row, error in refused],
        )

    def _encode_error(self, info: BatchInfo, start: int, found: Rejected) -> EncodeError:
        assert self._plan is not None
        assert self._plan.sink is not None
        topic = self._plan.sink.spec.layout.topic
        name = topic if isinstance(topic, str) else ""
        error = EncodeError.at(name, start + found.index, found.field, found.reason)
        return EncodeError(
            f"{_read_from(info)}: {error.message}", error.row, error.field, error.reason
        )

    def _offsets_of(self, entry: UnderWay, rows: Sequence[int], error: Exception) -> list[int]:
        """Return the offset of the record that each of these rows was made of.

        Raises:
            Exception: The error, where nobody can tell.
        """
        assert self._plan is not None
        assert entry.rows is not None
        assert entry.origin is not None
        offsets: list[Any] = entry.origin.offsets.to_pylist()
        found = source_rows(
            self._plan.operators,
            entry.origin.rows,
            entry.info.partition,
            offsets,
            entry.rows.num_rows,
            rows,
        )
        if found is None:
            error.add_note(
                "The records that it was made of cannot be told, because the operators make rows "
                "of several records together: the policy cannot pass over them."
            )
            raise error
        return [offsets[row] for row in found]

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
                written.append(self._told(entry))
        self._under_way = left
        return written

    def _told(self, entry: UnderWay) -> BatchInfo:
        """Return what is told of a range that is written, with what the policy counted."""
        partition = entry.info.partition
        counted = self._counted.get(partition, SourceStats()).joined(entry.counted)
        self._counted[partition] = counted
        return replace(entry.info, stats=entry.info.stats.joined(counted))

    def _see_to_refused(self) -> None:
        """Do what the policy says with records that were not written, if there are some.

        Raises:
            SinkError: It says that this is the end.
        """
        for entry in self._under_way:
            if entry.is_settled() and (failures := entry.failures()):
                self._reading = entry.info.partition
                self._see_to(entry, sorted(failures, key=lambda failed: failed.row))

    def _see_to(self, entry: UnderWay, failures: list[FailedRecord]) -> None:
        policy = self._policy
        if policy.name == "fail":
            raise refused(entry.info, failures)
        for delay_s in policy.delays_s():
            if not any(may_pass(failed) for failed in failures):
                break
            self._closing.wait(delay_s)
            failures = self._write_again(entry, failures)
        if all(self._is_of_its_record(failed) for failed in failures):
            # Brokers refuse all that came together with one.
            failures = self._write_again(entry, failures)
        for failed in failures:
            is_given_up = policy.name == "retry" and may_pass(failed)
            if not policy.passes_over or not (is_given_up or self._is_of_its_record(failed)):
                raise refused(entry.info, failures)
        if failures:
            self._pass_over_refused(entry, failures)
        entry.delivery = None

    def _pass_over_refused(self, entry: UnderWay, failures: Sequence[FailedRecord]) -> None:
        """Count the records of which these were made, and write them where they belong.

        Raises:
            SinkError: Nobody can tell which they are.
        """
        partition = entry.info.partition
        rows = {failed.row: failed.error for failed in failures}
        offsets = self._offsets_of(entry, list(rows), refused(entry.info, failures))
        letters = {
            offset: DeadLetter.of_refusal(partition, offset, self._sink_of(partition), reason)
            for offset, reason in zip(offsets, rows.values(), strict=True)
        }
        read = next(read for read in self._partitions if read.assignment.partition == partition)
        entry.counted = entry.counted.joined(self._pass_over(read, list(letters.values())))

    def _write_again(self, entry: UnderWay, failures: Sequence[FailedRecord]) -> list[FailedRecord]:
        """Write refused records once more, each by itself, and return those that are refused."""
        sink = self._sink_of(entry.info.partition)
        assert entry.rows is not None
        refused = []
        for failed in failures:
            delivery = self._send(entry.info, entry.rows.slice(failed.row, 1))
            while not delivery.wait(LOOK_S):
                self._enter("write")
                sink.tend()
            refused += [again._replace(row=failed.row) for again in delivery.failures()]
        return refused

    def _is_of_its_record(self, failed: FailedRecord) -> bool:
        """Tell whether it is the record that the brokers, or the client, do not take."""
        error = failed.error
        if isinstance(error, UnknownTopicOrPartition):
            assert self._plan is not None
            assert self._plan.sink is not None
            layout = self._plan.sink.spec.layout
            # The record says where it is to go.
            return not isinstance(layout.topic, str) or layout.partition is not None
        return isinstance(error, KafkaError) and (
            error.code in _CODES_OF_RECORDS or error.name == "RecordTooLargeError"
        )

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
                self._see_to_refused()
            except Exception as error:  # noqa: BLE001 - whatever it is, the driver raises it
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


class Deliveries:
    """What becomes of the records of a batch that was handed over in parts.

    Args:
        parts: The first row of each part, and what becomes of its records.
    """

    def __init__(self, parts: Sequence[tuple[int, Delivery]]) -> None:
        self._parts = parts
        self.rejected: Sequence[Rejected] = [
            replace(found, index=start + found.index)
            for start, delivery in parts
            for found in delivery.rejected
        ]

    def outstanding(self) -> int:
        """See `Delivery.outstanding`."""
        return sum(delivery.outstanding() for _, delivery in self._parts)

    def is_settled(self) -> bool:
        """See `Delivery.is_settled`."""
        return all(delivery.is_settled() for _, delivery in self._parts)

    def wait(self, timeout_s: float) -> bool:
        """See `Delivery.wait`."""
        deadline = time.monotonic() + timeout_s
        return all(
            delivery.wait(max(deadline - time.monotonic(), 0.0)) for _, delivery in self._parts
        )

    def failures(self) -> list[FailedRecord]:
        """See `Delivery.failures`."""
        return [
            failed._replace(row=start + failed.row)
            for start, delivery in self._parts
            for failed in delivery.failures()
        ]

    def written(self) -> list[WrittenRecords]:
        """See `Delivery.written`; each part tells for itself."""
        return [found for _, delivery in self._parts for found in delivery.written()]


def sink_spec(plan: ReaderPlan) -> SinkSpec:
    """Return what the sinks of a reader that writes are to do."""
    assert plan.sink is not None
    spec = plan.sink.spec
    return replace(spec, on_encode_error="skip") if plan.policy.passes_over else spec


def may_pass(failed: FailedRecord) -> bool:
    """Tell whether the same record may be written later."""
    return isinstance(failed.error, KafkaError) and failed.error.retriable


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
