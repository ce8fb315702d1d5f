"""The actor that reads partitions and writes exactly once: records and offsets in transactions."""

from __future__ import annotations

import contextlib
import pickle
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import pyarrow as pa

from sabot_ray.errors import KafkaError
from sabot_ray.kafka.cluster import connect_cluster
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.sink import PartitionSink
from sabot_ray.kafka.transactional_sink import (
    TRANSACTION_TIMEOUT_S,
    TransactionalSink,
    TransactionLost,
)
from sabot_ray.runtime.reader import Assignment, BatchInfo, Failure, Reader, ReaderPlan
from sabot_ray.runtime.transactions import TransactionPlan, is_of_run, slot_of
from sabot_ray.runtime.writing_reader import (
    LOOK_S,
    Drained,
    UnderWay,
    WritingReader,
    may_pass,
    of_the_sink,
    refused,
    sink_spec,
)
from sabot_ray.types import FailedRecord, OffsetAndMetadata, TopicPartition

#: Most slots of a reader that start, or commit, at a time.
_MOST_AT_ONCE = 16


class Opened(NamedTuple):
    """What a reader tells that has found out where to begin.

    Attributes:
        starts: The first offset of each partition.
    """

    starts: dict[TopicPartition, int]


class TransactionalReader(WritingReader):
    """Reads and writes as `WritingReader` does, in transactions that take the offsets along.

    `next_batch` is a transaction of each slot: it returns what is committed, and none is open
    between two calls, so that a driver that asks for nothing holds up nobody. A transaction that
    is lost ends the reader's work with `TransactionLost`; `open` begins anew at what is committed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._transactions: TransactionPlan | None = None
        self._sinks: dict[int, TransactionalSink] = {}
        # How long the last batch took, beside waiting for it.
        self._took_s = 0.0

    def open(  # type: ignore[override]  # the driver knows which reader it has
        self,
        plan: ReaderPlan,
        assignments: Sequence[Assignment],
        transactions: TransactionPlan,
    ) -> Failure | Opened:
        """Fence former owners of the partitions, and read on at what is committed.

        Returns:
            Where that is, or what went wrong.
        """
        self._forget()
        self._closing.clear()
        self._transactions = transactions
        self._enter("write")
        try:
            self._open_sinks(plan, assignments)
            # Not before: a former owner may have committed until then.
            starts = self._patiently(lambda: self._starts(plan.spec.config, assignments))
        except Exception as error:  # noqa: BLE001 - whatever it is, the driver raises it
            self._failure = Failure.of(of_the_sink(error))
            self._enter("idle")
            return self._failure
        # A leader epoch belongs to its offset alone.
        assignments = [
            a
            if a.start_offset == starts[a.partition]
            else replace(a, start_offset=starts[a.partition], leader_epoch=-1)
            for a in assignments
        ]
        return Reader.open(self, plan, assignments) or Opened(starts)

    def _open_sinks(self, plan: ReaderPlan, assignments: Sequence[Assignment]) -> None:
        assert self._transactions is not None
        spec, transactions = sink_spec(plan), self._transactions

        def connect(slot: int) -> TransactionalSink:
            of_slot = replace(spec, transactional_id=transactions.transactional_id(slot))
            return self._patiently(lambda: TransactionalSink.of_spec(of_slot))

        slots = sorted({self._slot(assignment.partition) for assignment in assignments})
        with _pool(slots) as pool:
            opening = {slot: pool.submit(connect, slot) for slot in slots}
        # Those that could be opened are closed with the reader, also where others could not.
        self._sinks = {s: done.result() for s, done in opening.items() if not done.exception()}
        for done in opening.values():
            done.result()

    def _starts(
        self, config: KafkaConfig, assignments: Sequence[Assignment]
    ) -> dict[TopicPartition, int]:
        """Return the first offset of each partition."""
        transactions = self._transactions
        assert transactions is not None
        # What a transaction commits that is not over counts, too: the answer waits for its end.
        client = connect_cluster(config.with_settings(isolation_level="read_committed"))
        try:
            committed = client.committed(
                transactions.group_id, [assignment.partition for assignment in assignments]
            )
        finally:
            client.close()
        starts = {}
        for assignment in assignments:
            found = committed.get(assignment.partition)
            counts = found is not None and (
                assignment.from_committed or is_of_run(found.metadata, transactions.run_id)
            )
            starts[assignment.partition] = (
                found.offset if found is not None and counts else assignment.start_offset
            )
        return starts

    def _slot(self, partition: TopicPartition) -> int:
        assert self._transactions is not None
        return slot_of(partition, self._transactions.slots)

    def _sink_of(self, partition: TopicPartition) -> PartitionSink:
        return self._sinks[self._slot(partition)]

    def _all_sinks(self) -> Sequence[PartitionSink]:
        return list(self._sinks.values())

    def next_batch(self) -> tuple[pa.RecordBatch | bytes, bytes]:
        """Read for an interval, and commit.

        Returns:
            Empty bytes; and a pickled list of `BatchInfo` of what is committed, or the pickled
            `Failure`, as `Reader.next_batch` does.
        """
        infos: list[BatchInfo] = []
        if self._failure is None and not self._closing.is_set():
            try:
                self._read_for_an_interval()
            except Exception as error:  # noqa: BLE001 - the user's code may raise anything
                self._failure = Failure.of(error, self._reading)
            # What was read before goes out first.
            infos = self._commit()
        return b"", pickle.dumps(self._failure if self._failure and not infos else infos)

    def _read_for_an_interval(self) -> None:
        assert self._plan is not None
        assert self._plan.sink is not None
        assert self._client is not None
        self._next_batch()
        ends_at = time.monotonic() + self._plan.sink.interval_s
        # A batch that takes long must not outlive the transaction that waits for it.
        while (left_s := ends_at - self._took_s - time.monotonic()) > 0:
            if self._closing.is_set() or all(read.has_told_end for read in self._partitions):
                return
            self._tend()
            seen = self._client.news_count()
            read = self._take_turn()
            if read is None:
                self._enter("write")
                self._client.wait_for_news(seen, min(left_s, LOOK_S))
                continue
            began = time.monotonic()
            batch = self._poll(read, 0.0)
            if batch.num_rows or read.is_at_end:
                self._answer(read, batch)
            self._took_s = time.monotonic() - began

    def _tend(self) -> None:
        for sink in self._all_sinks():
            sink.tend()
        for entry in self._under_way:
            if entry.is_settled() and not entry.failures():
                # It keeps the values in memory.
                entry.delivery = None

    def _commit(self) -> list[BatchInfo]:
        """Commit what was read, slot by slot, and return what that is."""
        self._enter("write")
        entries, self._under_way = self._under_way, deque()
        by_slot: dict[int, list[UnderWay]] = {}
        for entry in entries:
            by_slot.setdefault(self._slot(entry.info.partition), []).append(entry)
        errors = {slot: self._settle(slot, by_slot[slot]) for slot in by_slot}
        for sink in self._all_sinks():
            # Interceptors hear of what is written before it is committed.
            sink.tend()
        # librdkafka may never return from here (its issue 5456): the driver looks at the time.
        self._enter("commit")
        with _pool(by_slot) as pool:
            ending = {
                slot: pool.submit(self._end_transaction, slot, by_slot[slot], errors[slot])
                for slot in by_slot
            }
        infos: list[BatchInfo] = []
        for slot, ended in ending.items():
            error = ended.result()
            if error is None:
                infos += map(self._told, by_slot[slot])
            else:
                partition = by_slot[slot][0].info.partition
                self._failure = Failure.of(of_the_sink(error), partition)
        self._enter("idle")
        return infos

    def _end_transaction(
        self, slot: int, entries: Iterable[UnderWay], error: Exception | None
    ) -> Exception | None:
        """Commit, or abort because of the error; return why nothing is committed."""
        assert self._transactions is not None
        sink = self._sinks[slot]
        offsets = {
            entry.info.partition: OffsetAndMetadata(
                entry.info.next_offset,
                self._transactions.metadata_of(entry.info.partition.topic),
                entry.info.leader_epoch,
            )
            for entry in entries
            if entry.info.next_offset != entry.info.start_offset
        }
        try:
            if error is not None:
                sink.abort()
            elif offsets:
                sink.commit(offsets, self._transactions.group_metadata)
        except Exception as met:  # noqa: BLE001 - whatever it is, the driver raises it
            if error is None:
                error = met
                with contextlib.suppress(KafkaError):
                    sink.abort()
        return error

    def _settle(self, slot: int, entries: Iterable[UnderWay]) -> Exception | None:
        """Wait until the fate of all records is known.

        Returns:
            `SinkError` if one can never be written, `TransactionLost` if one was not in time.
        """
        sink = self._sinks[slot]
        deadline = time.monotonic() + TRANSACTION_TIMEOUT_S
        for entry in entries:
            while not entry.wait():
                sink.tend()
                if time.monotonic() > deadline:
                    return TransactionLost("records were not written in time", passes=True)
            failures = [failed for failed in entry.failures() if not _is_consequence(failed)]
            passing = next(filter(may_pass, failures), None)
            if passing is not None:
                return TransactionLost(f"a record was not written: {passing.error}", passes=True)
            if failures:
                return refused(entry.info, failures)
        return None

    def drain(self, timeout_s: float) -> bytes:
        """See `WritingReader.drain`: nothing is under way between two calls."""
        return pickle.dumps(Drained([], True, self._failure))

    def _close_sink(self) -> None:
        sinks, self._sinks = self._sinks, {}
        with _pool(sinks) as pool:
            for sink in sinks.values():
                pool.submit(sink.close)


def _pool(work: Iterable[object]) -> ThreadPoolExecutor:
    count = min(max(len(list(work)), 1), _MOST_AT_ONCE)
    return ThreadPoolExecutor(count, "sabot_ray-slot")


def _is_consequence(failed: FailedRecord) -> bool:
    """Tell whether the record failed because the transaction did, which tells why."""
    return getattr(failed.error, "name", "") in ("_STATE", "_PURGE_QUEUE", "_PURGE_INFLIGHT")
