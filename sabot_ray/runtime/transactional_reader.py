"""The actor that reads partitions and writes exactly once: records and offsets in transactions."""

from __future__ import annotations

import contextlib
import pickle
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NoReturn

import pyarrow as pa

from sabot_ray.errors import EncodeError, KafkaError, SabotRayError, SinkError
from sabot_ray.kafka.cluster import connect_cluster
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.sink import Delivery, PartitionSink
from sabot_ray.kafka.transactional_sink import (
    TRANSACTION_TIMEOUT_S,
    TransactionalSink,
    TransactionLost,
)
from sabot_ray.runtime.dead_letters import not_written
from sabot_ray.runtime.policy import DeadLetter
from sabot_ray.runtime.reader import Reader, _Partition
from sabot_ray.runtime.reader_messages import (
    Assignment,
    BatchInfo,
    Drained,
    Failure,
    Opened,
    ReaderPlan,
)
from sabot_ray.runtime.refusals import Refusals
from sabot_ray.runtime.transactions import TransactionPlan, is_of_run, slot_of
from sabot_ray.runtime.writing_reader import (
    LOOK_S,
    UnderWay,
    WritingReader,
    may_pass,
    of_the_sink,
    refused,
    sink_spec,
)
from sabot_ray.types import FailedRecord, OffsetAndMetadata, TopicPartition

#: As much as the client may have under way by default, in bytes.
_LARGEST_DEAD_LETTER = 64 << 20
#: Most slots of a reader that start, or commit, at a time.
_MOST_AT_ONCE = 16


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
        # Beside these, in the same transactions.
        self._dead_letter_sinks: dict[int, PartitionSink] = {}
        # Dead letters that go with the range that has their records.
        self._unwritten: dict[TopicPartition, list[DeadLetter]] = {}
        self._refusals = Refusals()
        # Whose transaction has rows of a range that is not under way as a whole yet.
        self._begun_slot: int | None = None
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
            else replace(
                a,
                start_offset=starts[a.partition],
                leader_epoch=-1,
                # That record was passed over.
                passes_over_first=False,
            )
            for a in assignments
        ]
        return Reader.open(self, plan, assignments) or Opened(starts)

    def _open_sinks(self, plan: ReaderPlan, assignments: Sequence[Assignment]) -> None:
        assert self._transactions is not None
        spec, transactions = sink_spec(plan), self._transactions
        if plan.policy.dead_letter_topic is not None:
            # Else a record that is too large for the client would be so as a dead letter, too.
            config = spec.config.with_settings(max_request_size=_LARGEST_DEAD_LETTER)
            spec = replace(spec, config=config)

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

    def _sink_of_dead_letters(self, partition: TopicPartition) -> PartitionSink:
        slot = self._slot(partition)
        if slot not in self._dead_letter_sinks:
            self._dead_letter_sinks[slot] = self._sinks[slot].beside(self._dead_letter_spec())
        return self._dead_letter_sinks[slot]

    def _write_dead_letters(self, partition: TopicPartition, letters: Sequence[DeadLetter]) -> None:
        """Keep them for the transaction that commits their offsets."""
        self._unwritten.setdefault(partition, []).extend(letters)

    def _answer(
        self, read: _Partition, batch: pa.RecordBatch | None
    ) -> tuple[pa.RecordBatch | bytes, BatchInfo]:
        told = super()._answer(read, batch)
        self._begun_slot = None
        return told

    def _send(self, info: BatchInfo, rows: pa.RecordBatch) -> Delivery:
        before, self._begun_slot = self._begun_slot, self._slot(info.partition)
        try:
            return super()._send(info, rows)
        except EncodeError:
            # Of these rows nothing was sent.
            self._begun_slot = before
            raise

    def _send_by_policy(self, entry: UnderWay, read: _Partition, rows: pa.RecordBatch) -> None:
        super()._send_by_policy(entry, read, rows)
        letters = self._refusals.refused(entry.info.partition, entry.info.offsets)
        if letters:
            entry.counted = entry.counted.joined(self._pass_over(read, letters))

    def _send_rows(
        self, entry: UnderWay, start: int, stop: int
    ) -> tuple[list[tuple[int, Delivery]], list[tuple[int, EncodeError]]]:
        """See `WritingReader._send_rows`; what may have cost a transaction is sent with care."""
        partition = entry.info.partition
        if not self._refusals.knows_of(partition, entry.info.offsets):
            return super()._send_rows(entry, start, stop)
        offsets = self._offsets_of(
            entry, range(stop), SinkError(f"{partition}: a record was refused")
        )
        sent: list[tuple[int, Delivery]] = []
        unencodable: list[tuple[int, EncodeError]] = []
        for begin, end, is_suspect in self._refusals.segments(partition, offsets[start:]):
            begin, end = start + begin, start + end
            if self._refusals.is_refused(partition, offsets[begin]):
                continue
            if is_suspect:
                # Nothing else may be on its way together with it.
                self._await(partition, [delivery for _, delivery in sent])
                self._await(partition, [other.delivery for other in self._under_way])
            parts, rows = super()._send_rows(entry, begin, end)
            unencodable += rows
            error = self._refusal_in(partition, parts) if is_suspect else None
            if error is None:
                sent += parts
            elif len(set(offsets[begin:end])) == 1:
                sink = self._sink_of(partition)
                letter = DeadLetter.of_refusal(partition, offsets[begin], sink, error)
                self._refusals.note(partition, letter)
            else:
                self._refusals.suspect(partition, offsets[begin:end])
                raise TransactionLost(f"{partition}: records were refused: {error}", passes=True)
        return sent, unencodable

    def _refusal_in(
        self, partition: TopicPartition, parts: Sequence[tuple[int, Delivery]]
    ) -> Exception | None:
        """Return why the brokers refuse what was sent apart from everything else."""
        self._await(partition, [delivery for _, delivery in parts])
        failures = [failed for _, delivery in parts for failed in delivery.failures()]
        found = [f for f in failures if f.was_sent and not _is_consequence(f)]
        if found and all(map(self._is_of_its_record, found)):
            return found[0].error
        return None

    def _await(self, partition: TopicPartition, deliveries: Iterable[Delivery | None]) -> None:
        deadline = time.monotonic() + TRANSACTION_TIMEOUT_S
        for delivery in deliveries:
            self._failures(self._slot(partition), delivery, deadline)

    def next_batch(self) -> tuple[pa.RecordBatch | bytes, bytes]:
        """Read for an interval, and commit.

        Returns:
            Empty bytes; and a pickled list of `BatchInfo` of what is committed, or the pickled
            `Failure`, as `Reader.next_batch` does.
        """
        infos: list[BatchInfo] = []
        self._refusals.has_news = False
        if self._failure is None and not self._closing.is_set():
            announced: BatchInfo | None = None
            try:
                announced = self._read_for_an_interval()
            except TransactionLost as error:
                self._failure = Failure.of(self._excused(error), self._reading)
            except Exception as error:  # noqa: BLE001 - the user's code may raise anything
                self._failure = Failure.of(error, self._reading)
            # What was read before goes out first; before an announcement nothing is.
            infos = [announced] if announced is not None else self._commit()
        return b"", pickle.dumps(self._failure if self._failure and not infos else infos)

    def _read_for_an_interval(self) -> BatchInfo | None:
        """Read what one transaction takes; or return what announces the next record."""
        assert self._plan is not None
        assert self._plan.sink is not None
        assert self._client is not None
        is_careful = any(read.step is not None for read in self._partitions)
        _, told = self._next_batch()
        if told.is_announcement:
            return told
        if is_careful:
            # So that what lies before the record that ends the process is committed.
            return None
        ends_at = time.monotonic() + self._plan.sink.interval_s
        # A batch that takes long must not outlive the transaction that waits for it.
        while (left_s := ends_at - self._took_s - time.monotonic()) > 0:
            if self._closing.is_set() or all(read.has_told_end for read in self._partitions):
                return None
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
        return None

    def _tend(self) -> None:
        for sink in self._all_sinks():
            sink.tend()
        for entry in self._under_way:
            if entry.is_settled() and not entry.failures():
                # They keep the values in memory.
                entry.delivery = entry.rows = entry.origin = None

    def _commit(self) -> list[BatchInfo]:
        """Commit what was read, slot by slot, and return what that is."""
        self._enter("write")
        entries, self._under_way = self._under_way, deque()
        by_slot: dict[int, list[UnderWay]] = {}
        for entry in entries:
            by_slot.setdefault(self._slot(entry.info.partition), []).append(entry)
        if self._begun_slot is not None:
            # An error came in between, and who reads on reads that range once more.
            by_slot.pop(self._begun_slot, None)
            with contextlib.suppress(KafkaError):
                self._sinks[self._begun_slot].abort()
            self._begun_slot = None
        errors = {slot: self._settle(slot, of_slot) for slot, of_slot in by_slot.items()}
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
                self._failure = Failure.of(of_the_sink(self._excused(error)), partition)
        for info in infos:
            self._refusals.forget(info.partition, info.next_offset)
        self._enter("idle")
        return infos

    def _excused(self, error: Exception) -> Exception:
        """Return the error; where a record that is known now was the reason, it passes."""
        if isinstance(error, TransactionLost) and self._refusals.has_news:
            error.passes = True
        return error

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

    def _settle(self, slot: int, entries: Sequence[UnderWay]) -> Exception | None:
        """Wait until everything of these ranges is written; return why not all of it is."""
        try:
            self._settle_rows(slot, entries)
            self._settle_dead_letters(slot, entries)
        except SabotRayError as error:
            return error
        return None

    def _settle_rows(self, slot: int, entries: Iterable[UnderWay]) -> None:
        """Wait until the fate of all rows is known; see to those that the client refused.

        Raises:
            SinkError: One can never be written.
            TransactionLost: One was not in time, or cost the transaction and is known now.
        """
        deadline = time.monotonic() + TRANSACTION_TIMEOUT_S
        for entry in entries:
            failures = self._failures(slot, entry.delivery, deadline)
            if not failures:
                continue
            if not self._policy.passes_over or not all(map(self._is_of_its_record, failures)):
                raise refused(entry.info, failures)
            if any(failed.was_sent for failed in failures):
                self._suspect(entry, failures)
            # Those that the client refused did not cost the transaction.
            self._pass_over_refused(entry, failures)

    def _suspect(self, entry: UnderWay, failures: Sequence[FailedRecord]) -> NoReturn:
        """Let the transaction be done again, with care for what was refused."""
        error = refused(entry.info, failures)
        offsets = self._offsets_of(entry, [failed.row for failed in failures], error)
        self._refusals.suspect(entry.info.partition, offsets)
        raise TransactionLost(f"{entry.info.partition}: records were refused: {error}", passes=True)

    def _settle_dead_letters(self, slot: int, entries: Iterable[UnderWay]) -> None:
        """Write those of these ranges, and wait until all are known to be written.

        Raises:
            SinkError: One can never be written.
            TransactionLost: One was not in time.
            SabotRayError: They cannot be read again.
        """
        if not self._unwritten:
            return
        deadline = time.monotonic() + TRANSACTION_TIMEOUT_S
        for partition, letters, delivery in self._send_dead_letters(entries):
            for failed in self._failures(slot, delivery, deadline):
                raise not_written(partition, letters, str(failed.error))

    def _send_dead_letters(
        self, entries: Iterable[UnderWay]
    ) -> list[tuple[TopicPartition, list[DeadLetter], Delivery]]:
        """Hand over those of these ranges; others wait until theirs is told.

        Returns:
            Where their records were read, the letters, and what becomes of them.
        """
        assert self._dead_letters is not None
        under_way = []
        for partition, end in {e.info.partition: e.info.next_offset for e in entries}.items():
            letters = sorted(self._unwritten.pop(partition, ()))
            due = [letter for letter in letters if letter.offset < end]
            if len(due) < len(letters):
                self._unwritten[partition] = letters[len(due) :]
            if due:
                for delivery in self._dead_letters.send(partition, due):
                    under_way.append((partition, due, delivery))
        return under_way

    def _failures(
        self, slot: int, delivery: Delivery | None, deadline: float
    ) -> list[FailedRecord]:
        """Wait for a delivery, and return what can never be written of it.

        Raises:
            TransactionLost: Something was not written in time, or may be another time.
        """
        if delivery is None:
            return []
        while not delivery.wait(LOOK_S):
            self._sinks[slot].tend()
            if time.monotonic() > deadline:
                raise TransactionLost("records were not written in time", passes=True)
        failures = [failed for failed in delivery.failures() if not _is_consequence(failed)]
        passing = next(filter(may_pass, failures), None)
        if passing is not None:
            raise TransactionLost(f"a record was not written: {passing.error}", passes=True)
        return failures

    def drain(self, timeout_s: float) -> bytes:
        """See `WritingReader.drain`: nothing is under way between two calls."""
        return pickle.dumps(Drained([], True, self._failure))

    def _forget(self) -> None:
        super()._forget()
        self._begun_slot = None
        self._unwritten.clear()
        self._dead_letter_sinks.clear()

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
