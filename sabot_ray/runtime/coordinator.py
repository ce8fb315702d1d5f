"""Starts the readers of a run, routes their batches, follows the cursors and replaces dead readers.

Runs in the driver's thread: every call of `Coordinator.next` does a little of all of it. Data stays
in the object store; what passes here is a small description of each batch.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pyarrow as pa
import ray
from ray.exceptions import ActorDiedError, RayError, RayTaskError

from sabot_ray.codecs.codec import NewField
from sabot_ray.errors import OffsetOutOfRange, ReaderFailed, SabotRayError
from sabot_ray.kafka.metadata import OffsetRange
from sabot_ray.kafka.transactional_sink import TransactionLost
from sabot_ray.runtime.notices import Notices
from sabot_ray.runtime.quarantine import Quarantine
from sabot_ray.runtime.reader import Reader, read_inline
from sabot_ray.runtime.reader_handle import Call, ControlGroup, PartitionProgress, ReaderHandle
from sabot_ray.runtime.reader_messages import (
    LONG_POLL_S,
    Assignment,
    BatchInfo,
    Drained,
    Failure,
    Opened,
    ReaderPlan,
)
from sabot_ray.runtime.transactional_reader import TransactionalReader
from sabot_ray.runtime.transactions import Ownership, TransactionPlan, slot_of
from sabot_ray.runtime.writing_reader import WritingReader
from sabot_ray.types import SourceStats, TopicPartition

logger = logging.getLogger("sabot_ray.runtime")

#: A reader that is later than this is asked whether it is alive, in seconds.
OVERDUE_S = 8.0
#: A reader that does not answer that question in this time is replaced, in seconds.
PING_TIMEOUT_S = 4.0
#: One that answers, but has been in its source for so long beside ``linger_s``, hangs there, in
#: seconds. The fallback decodes a large batch of slow documents for a quarter of it.
POLL_TIMEOUT_S = 60.0
#: The same of one that ends transactions. Brokers that do not answer for so long, or a client that
#: does not return, are as well left to the reader that takes over.
COMMIT_TIMEOUT_S = 12.0
#: Longest time from asking Ray for a reader, or from the last one that it started, until the next
#: one runs, in seconds: Ray starts a few processes at a time.
START_TIMEOUT_S = 30.0
#: A reader that dies this often without progress is given up...
MAX_DEATHS_WITHOUT_PROGRESS = 5
#: ...unless it lived this long, in seconds: then it was no record that killed it.
_LONG_LIFE_S = 300.0
#: Most calls that a reader has outstanding.
MAX_OUTSTANDING = 4
#: A reader whose last range is shorter has caught up with the log: one call at a time then gathers
#: what comes meanwhile, where more of them would each fetch a record. In offsets.
_SHORT_RANGE = 1000
#: Longest time that `Coordinator.next` blocks in one go, so that the watchdog runs, in seconds.
_SLICE_S = 0.2
_MIN_BATCH_BYTES = 64 << 10
#: Largest batch of a reader that writes, which has it several times: as columns, as records, and
#: some of it once more in its buffers; small enough that it stays in the cache on its way through.
_WRITTEN_BATCH_BYTES = 2 << 20
#: How long a reader that is drained waits until it says that nothing is written yet, in seconds.
_DRAIN_SLICE_S = 0.2
#: Longest time that readers have to close their clients, in seconds.
_CLOSE_TIMEOUT_S = 1.0


class Unacknowledged(Protocol):
    """Tells how much was delivered and is not acknowledged."""

    def __call__(self, partition: TopicPartition | None = None) -> int:
        """Return the bytes, of one partition or of all."""


@dataclass(frozen=True)
class RoutedBatch:
    """A fetch range that a reader has delivered, with its batch in the object store.

    Attributes:
        info: What the range covers.
        ref: The batch; None where no row is left, or it is inline in ``info``.
        epoch: The reader's incarnation.
        stats: The partition's counters up to the range's end, over all incarnations.
        generation: How many plans there were before the one that it was read with.
    """

    info: BatchInfo
    ref: ray.ObjectRef[Any] | None
    epoch: int
    stats: SourceStats
    generation: int


class Coordinator:
    """Reads the ranges of a run through reader actors.

    Args:
        plan: What every reader executes.
        ranges: What to read.
        readers: How many readers there are at most; partitions are dealt out to them in turn.
        actor_options: Ray's options of the reader actors: `reader_options`.
        max_in_flight_bytes: Limit of the bytes that are asked for, routed, or delivered and not
            acknowledged. Each reader may go beyond it by a batch of partitions that hold nothing.
        unacknowledged: Tells how many bytes were delivered and are not acknowledged.
        ownership: Of readers that commit by themselves, in transactions.
    """

    def __init__(
        self,
        plan: ReaderPlan,
        ranges: Mapping[TopicPartition, OffsetRange],
        *,
        readers: int,
        actor_options: Mapping[str, Any],
        max_in_flight_bytes: int,
        unacknowledged: Unacknowledged,
        ownership: Ownership | None = None,
    ) -> None:
        self._ownership = ownership
        self.progress: dict[TopicPartition, PartitionProgress] = {}
        self._most_readers = readers
        self._budget = max_in_flight_bytes
        self._quarantine = Quarantine(plan.policy, plan.batch_size)
        self._notices = Notices()
        self._unacknowledged = unacknowledged
        unread = sum(not wanted.is_empty for wanted in ranges.values())
        count = min(max(unread, 1), readers)
        most = plan.spec.max_batch_bytes
        if plan.sink is not None:
            most = min(most, _WRITTEN_BATCH_BYTES)
        # So that a call to every reader fits into half the budget: else some could starve.
        self._batch_bytes = min(most, max(max_in_flight_bytes // (2 * count), _MIN_BATCH_BYTES))
        self._shares_readers = unread > readers
        self._patience = {
            "open": START_TIMEOUT_S,
            "poll": POLL_TIMEOUT_S + plan.spec.linger_s,
            "commit": COMMIT_TIMEOUT_S,
        }
        self._actor_options = actor_options
        self._actor_class = ray.remote(**actor_options)(_kind_of_reader(plan))
        self._plan_ref = self._put(plan)
        # How many plans there were before this one.
        self._generation = 0
        self._readers: list[ReaderHandle] = []
        self._reader_of: dict[TopicPartition, ReaderHandle] = {}
        self._routed: deque[RoutedBatch] = deque()
        self._routed_bytes = 0
        calls = max_in_flight_bytes // (count * self._batch_bytes)
        self._outstanding = min(max(calls, 1), MAX_OUTSTANDING)
        self._warned_held = False
        self._last_start = 0.0
        self._is_draining = False
        self._out_of_range: list[tuple[TopicPartition, OffsetOutOfRange]] = []
        # Whose reader ended the run, if one did.
        self.failed: TopicPartition | None = None
        for reader in self._deal(ranges):
            self._start(reader)

    def add(self, ranges: Mapping[TopicPartition, OffsetRange]) -> None:
        """Read further partitions, by new readers as far as there may be more of them."""
        for reader, added in self._deal(ranges).items():
            if reader.actor is None:
                self._start(reader)
            elif self._ownership is not None:
                # What it has under way is committed before, or given up.
                reader.calls.clear()
                self._open(reader)
            else:
                answer = reader.actor.assign.options(concurrency_group="data").remote(
                    [self._assignment(partition) for partition in added]
                )
                self._note_call(reader, Call(answer))

    def _put(self, plan: ReaderPlan) -> ray.ObjectRef[Any]:
        spec = replace(plan.spec, max_batch_bytes=self._batch_bytes)
        return ray.put(replace(plan, spec=spec, shares_readers=self._shares_readers))

    def change_plan(self, plan: ReaderPlan) -> None:
        """Read on with another plan, from the first offsets that were not routed.

        What is routed by now was read with the former one, and is returned before the rest.
        """
        self._plan_ref = self._put(plan)
        self._generation += 1
        self._reopen(self._readers)

    def stop(self, partitions: Iterable[TopicPartition]) -> None:
        """Read no more of these, and of what their readers have beside, until `resume`."""
        for reader in {self._reader_of[p] for p in partitions if p in self._reader_of}:
            reader.is_stopped = True
            reader.calls.clear()

    def resume(self, starts: Mapping[TopicPartition, int | None]) -> None:
        """Read on elsewhere in stopped partitions, whose batches were all returned by now.

        Args:
            starts: The next offset to read; None where there is no more to read at all.
        """
        self._out_of_range = [found for found in self._out_of_range if found[0] not in starts]
        readers = {}
        for partition, start in starts.items():
            progress = self.progress[partition]
            end = progress.range.end_offset
            if start is None:
                progress.range = replace(progress.range, end_offset=progress.routed_offset)
            else:
                offset = start if end is None else min(start, end)
                progress.routed_offset = progress.delivered_offset = offset
                progress.leader_epoch = progress.delivered_leader_epoch = -1
            if partition in self._reader_of:
                readers[self._reader_of[partition]] = partition
        self._reopen(readers)

    def _reopen(self, readers: Iterable[ReaderHandle]) -> None:
        """Let readers begin anew, from the first offsets that were not routed."""
        closing = {}
        for reader in readers:
            reader.calls.clear()
            reader.ping = reader.new_field = None
            reader.is_replacement = reader.is_stopped = False
            if reader.is_ended:
                # Should it be given another partition, it is started anew.
                self._kill(reader)
            elif reader.control is None:
                # It was drained.
                self._start(reader)
            else:
                closing[reader.control.close.remote()] = reader
        if closing:
            ray.wait(list(closing), num_returns=len(closing), timeout=_CLOSE_TIMEOUT_S)
        for answer, reader in closing.items():
            try:
                ray.get(answer, timeout=0)
            except RayError:
                # It is dead, was not even started, or does not answer: another one takes over.
                self._kill(reader)
                self._start(reader)
            else:
                self._open(reader)

    def _deal(
        self, ranges: Mapping[TopicPartition, OffsetRange]
    ) -> dict[ReaderHandle, list[TopicPartition]]:
        """Give each range to the reader with the fewest, and return what each one got."""
        dealt: dict[ReaderHandle, list[TopicPartition]] = {}
        for partition, wanted in ranges.items():
            self.progress[partition] = progress = PartitionProgress(
                wanted,
                wanted.start_offset,
                wanted.start_offset,
                leader_epoch=wanted.leader_epoch,
                delivered_leader_epoch=wanted.leader_epoch,
            )
            if wanted.is_empty:
                continue
            reader = self._owner_of_slot(partition)
            if reader is None and len(self._readers) < self._most_readers:
                reader = ReaderHandle()
                self._readers.append(reader)
            elif reader is None:
                reader = min(self._readers, key=lambda reader: len(reader.partitions))
            reader.partitions[partition] = progress
            self._reader_of[partition] = reader
            dealt.setdefault(reader, []).append(partition)
        return dealt

    def _owner_of_slot(self, partition: TopicPartition) -> ReaderHandle | None:
        """Return the reader that has partitions of the same slot, and so has to have this one."""
        if self._ownership is None:
            return None
        slots = self._ownership.slots
        slot = slot_of(partition, slots)
        return next((r for p, r in self._reader_of.items() if slot_of(p, slots) == slot), None)

    @property
    def has_routed(self) -> bool:
        """Whether `next` has something to return at once."""
        return bool(self._routed)

    @property
    def is_finished(self) -> bool:
        """Whether every range was delivered to its end."""
        return all(progress.is_done for progress in self.progress.values())

    @property
    def is_degraded(self) -> bool:
        """Whether a reader is being replaced, does not answer, or is cut off from its brokers."""
        return any(
            (reader.is_cut_off and not reader.is_ended)
            or (reader.opens_since is not None and reader.epoch > 1)
            or (
                (call := next(iter(reader.calls), None)) is not None
                and ((call.is_open and reader.is_replacement) or reader.ping is not None)
            )
            for reader in self._readers
        )

    def take_out_of_range(self) -> tuple[TopicPartition, OffsetOutOfRange] | None:
        """Return where a reader was stopped because its offset is not to be had; each stop once.

        Everything that it read of the partition before was returned: its progress tells the offset.
        """
        for found in self._out_of_range:
            if not self.has_routed_of([found[0]]):
                self._out_of_range.remove(found)
                return found
        return None

    def has_routed_of(self, partitions: Iterable[TopicPartition]) -> bool:
        """Whether a batch of one of these is still to be returned."""
        wanted = set(partitions)
        return any(routed.info.partition in wanted for routed in self._routed)

    @property
    def new_field(self) -> NewField | None:
        """A field that a reader cannot go on without: it waits for `change_plan`."""
        return next((r.new_field for r in self._readers if r.new_field is not None), None)

    def next(self, timeout_s: float) -> RoutedBatch | None:
        """Return the next range that a reader has delivered, in offset order within its partition.

        Args:
            timeout_s: Longest time to wait.

        Returns:
            A range, possibly without rows; None if none came in time, or all are finished.

        Raises:
            SabotRayError: A reader failed for good.
            Exception: What a user's function raised.
        """
        deadline = time.monotonic() + timeout_s
        self._top_up()
        while not self._routed:
            if self.is_finished:
                return None
            self._collect(min(max(deadline - time.monotonic(), 0.0), _SLICE_S))
            self._watch()
            # Now, so that readers go on while the caller is busy with what they gave.
            self._top_up()
            if not self._routed and time.monotonic() >= deadline:
                return None
        routed = self._routed.popleft()
        self._forget_routed(routed)
        if not routed.info.has_batch:
            self.deliver(routed)
        return routed

    def fetch(self, routed: RoutedBatch) -> pa.RecordBatch | None:
        """Fetch the batch of a range that `next` returned, which then counts as delivered.

        Returns:
            The batch; None if it is gone with its node: it is read again and comes with a later
            `next`.
        """
        if routed.info.inline is not None:
            self.deliver(routed)
            return read_inline(routed.info.inline)
        assert routed.ref is not None
        try:
            batch: pa.RecordBatch = ray.get(routed.ref)
        except RayError as error:
            self._reread(
                routed.info.partition,
                f"its batch at offset {routed.info.start_offset} is lost ({error})",
            )
            return None
        self.deliver(routed)
        return batch

    def deliver(self, routed: RoutedBatch) -> None:
        """Count a range as delivered: its batch was fetched, or its reference handed out."""
        info = routed.info
        progress = self.progress[info.partition]
        if info.next_offset > progress.delivered_offset:
            self._reader_of[info.partition].deaths_without_progress = 0
        progress.delivered_offset = info.next_offset
        progress.delivered_leader_epoch = info.leader_epoch
        progress.delivered_stats = routed.stats
        progress.rows += info.rows
        progress.bytes += info.bytes

    def drain(self, timeout_s: float) -> None:
        """End the readers, which write, once they have written what is under way, or in time.

        What they told is to be had by `next`, at once.

        Args:
            timeout_s: Longest time to wait.

        Raises:
            SabotRayError: A record was not written.
        """
        deadline = time.monotonic() + timeout_s
        draining = {}
        self._is_draining = True
        try:
            for reader in self._readers:
                if reader.control is None or any(call.is_open for call in reader.calls):
                    continue
                reader.control.stop_reading.remote()
                draining[_drain(reader)] = reader
            while draining and (left_s := deadline - time.monotonic()) > 0:
                for answer in ray.wait(list(draining), timeout=left_s)[0]:
                    reader = draining.pop(answer)
                    if not self._take_drained(reader, answer):
                        draining[_drain(reader)] = reader
        finally:
            self._is_draining = False
            for reader in self._readers:
                reader.calls.clear()
                self._kill(reader)

    def _take_drained(self, reader: ReaderHandle, answer: ray.ObjectRef[Any]) -> bool:
        """Take what a reader told; tell whether that was all."""
        # They were asked before, so they have been answered.
        while reader.calls:
            self._take(reader)
        try:
            told: Drained = pickle.loads(ray.get(answer))
        except RayError:
            # It is dead: what it had under way is read again, some time.
            return True
        for info in told.infos:
            self._route(reader, info, None)
        if told.failure is not None and told.is_done:
            failure = told.failure.to_error()
            # These are met again by whoever goes on.
            if not isinstance(failure, NewField | OffsetOutOfRange):
                raise failure
        return told.is_done

    def close(self) -> None:
        """Stop the readers; batches that were not returned are dropped. Idempotent."""
        self._routed.clear()
        if not ray.is_initialized():
            # An iterator that is collected after ray.shutdown(): the readers ended with it.
            return
        closing = []
        for reader in self._readers:
            reader.calls.clear()
            if reader.control is not None:
                closing.append(reader.control.close.remote())
        if closing:
            # A graceful end frees sockets; a reader that cannot is killed all the same.
            ray.wait(closing, num_returns=len(closing), timeout=_CLOSE_TIMEOUT_S)
        for reader in self._readers:
            self._kill(reader)

    def _forget_routed(self, routed: RoutedBatch) -> None:
        self._routed_bytes -= routed.info.bytes
        self.progress[routed.info.partition].held_bytes -= routed.info.bytes

    def _assignment(self, partition: TopicPartition) -> Assignment:
        progress = self.progress[partition]
        reader = self._reader_of[partition]
        return Assignment(
            partition,
            progress.routed_offset,
            progress.range.end_offset,
            progress.range.from_committed,
            reader.cautions.get(partition),
            reader.quarantined.get(partition) == progress.routed_offset,
            progress.leader_epoch,
            reader.struck.get(partition) == progress.routed_offset,
        )

    def _start(self, reader: ReaderHandle) -> None:
        reader.runs = False
        reader.actor = self._actor_class.remote()
        reader.control = ControlGroup(reader.actor)
        reader.ask = reader.actor.next_batch.options(num_returns=2, concurrency_group="data")
        # First: a process that freezes while it opens has started, and is replaced.
        reader.started = reader.control.status.remote()
        self._open(reader)
        reader.started_at = time.monotonic()

    def _open(self, reader: ReaderHandle) -> None:
        reader.epoch += 1
        reader.stats_before = {p: progress.stats for p, progress in reader.partitions.items()}
        reader.held = frozenset()
        reader.long_poll_s = LONG_POLL_S
        reader.is_cut_off = False
        if self._ownership is None:
            self._note_call(reader, Call(self._opening(reader), is_open=True))
            return
        reader.opens_since = 0.0
        if reader.epoch > 1:
            # Somebody else may have its partitions by now.
            reader.opens_since = time.monotonic()
            self._ownership.confirm()
        self._open_confirmed(self._ownership)

    def _open_confirmed(self, ownership: Ownership) -> None:
        """Let the readers begin whose partitions are known to be ours."""
        for reader in self._readers:
            if reader.opens_since is None:
                continue
            transactions = ownership.plan(reader.opens_since)
            if transactions is not None:
                reader.opens_since = None
                self._note_call(reader, Call(self._opening(reader, transactions), is_open=True))

    def _opening(self, reader: ReaderHandle, *more: TransactionPlan) -> ray.ObjectRef[Any]:
        unread = (p for p, progress in reader.partitions.items() if not progress.is_routed)
        answer: ray.ObjectRef[Any] = reader.actor.open.options(concurrency_group="data").remote(
            self._plan_ref, [self._assignment(partition) for partition in unread], *more
        )
        return answer

    def _note_call(self, reader: ReaderHandle, call: Call) -> None:
        if not reader.calls:
            reader.waiting_since = time.monotonic()
        reader.calls.append(call)

    def _replace(self, reader: ReaderHandle, reason: str, *, by_its_process: bool = False) -> None:
        """Go on with a new actor, from the first offsets that were not routed.

        Args:
            reader: Whose actor is gone or of no use.
            reason: Why.
            by_its_process: Whether its process ended, which a record may have brought about.
        """
        self._kill(reader)
        reader.calls.clear()
        reader.ping = None
        if self._is_draining:
            return
        for progress in reader.partitions.values():
            progress.restarts += 1
        self._count_death(reader, reason)
        if by_its_process:
            try:
                self._quarantine.look(reader, reason)
            except ReaderFailed:
                self.failed = reader.announced
                raise
        logger.warning("%s: the reader is replaced: %s", reader, reason)
        reader.announced = None
        reader.is_replacement = True
        reader.new_field = None
        reader.is_stopped = False
        self._start(reader)

    def _count_death(self, reader: ReaderHandle, reason: str) -> None:
        if time.monotonic() - reader.started_at > _LONG_LIFE_S:
            reader.deaths_without_progress = 0
        reader.deaths_without_progress += 1
        if reader.deaths_without_progress >= MAX_DEATHS_WITHOUT_PROGRESS:
            self.failed = reader.first_unread
            raise ReaderFailed(
                f"{reader}: the reader ended {MAX_DEATHS_WITHOUT_PROGRESS} times without getting "
                f"further; the last time: {reason}"
            )

    def _transaction_lost(self, reader: ReaderHandle, error: TransactionLost) -> None:
        """Let the reader do it again, from what is committed by then."""
        reader.calls.clear()
        if self._is_draining:
            return
        if not error.passes:
            self._count_death(reader, error.message)
        logger.warning("%s: a transaction is done again: %s", reader, error)
        self._open(reader)

    def _reread(self, partition: TopicPartition, reason: str) -> None:
        """Go on with a new actor, from the partition's first offset that was not delivered."""
        for routed in self._routed:
            if routed.info.partition == partition:
                self._forget_routed(routed)
        self._routed = deque(r for r in self._routed if r.info.partition != partition)
        progress = self.progress[partition]
        progress.routed_offset = progress.delivered_offset
        progress.leader_epoch = progress.delivered_leader_epoch
        progress.stats = progress.delivered_stats
        self._replace(self._reader_of[partition], reason)

    def _kill(self, reader: ReaderHandle) -> None:
        reader.opens_since = None
        if reader.actor is not None:
            ray.kill(reader.actor)
            reader.actor = reader.control = None

    def _top_up(self) -> None:
        """Ask for batches, as far as the budget goes."""
        asked = sum(len(reader.calls) for reader in self._readers) * self._batch_bytes
        held_bytes = self._routed_bytes + self._unacknowledged()
        for reader in self._readers:
            if reader.actor is None or reader.is_ended or reader.waits:
                continue
            held = self._held_of(reader)
            if held != reader.held and len(reader.partitions) > 1:
                assert reader.control is not None
                reader.control.hold.remote(held)
                reader.held = held
            if len(held) == len(reader.partitions):
                continue
            # Whatever others hold, and however small the budget is: a call for who holds nothing.
            is_starved = all(
                self._held_bytes(partition) == 0 for partition in reader.partitions.keys() - held
            )
            while True:
                batches = sum(call.batch is not None for call in reader.calls)
                room = asked + held_bytes + self._batch_bytes <= self._budget
                most = 1 if reader.has_caught_up or reader.goes_singly else self._outstanding
                if batches >= most or not (room or (batches == 0 and is_starved)):
                    break
                batch, answer = reader.ask.remote()
                self._note_call(reader, Call(answer, batch))
                asked += self._batch_bytes
        self._warn_if_held()

    def _held_of(self, reader: ReaderHandle) -> frozenset[TopicPartition]:
        """Return the partitions that have used up their part of the budget, or are done."""
        if len(self.progress) == 1:
            # The budget is all its own.
            return frozenset()
        credit = max(self._budget // len(self.progress), self._batch_bytes)
        return frozenset(
            partition
            for partition, progress in reader.partitions.items()
            if progress.is_routed or self._held_bytes(partition) >= credit
        )

    def _held_bytes(self, partition: TopicPartition) -> int:
        return self.progress[partition].held_bytes + self._unacknowledged(partition)

    def _warn_if_held(self) -> None:
        held = self._unacknowledged()
        if self._warned_held or self._routed or not held:
            return
        unfinished = [r for r in self._readers if not r.is_ended and not r.waits]
        if not unfinished or any(reader.calls for reader in unfinished):
            return
        self._warned_held = True
        logger.warning(
            "batches of %.0f MiB were handed out and not acknowledged: reading waits until ack() "
            "is called (max_in_flight_bytes is %.0f MiB)",
            held / 2**20,
            self._budget / 2**20,
        )

    def _collect(self, wait_s: float) -> None:
        """Take the answers that have come; wait for one where none has."""
        # Rotated, so that no partition comes always first.
        self._readers.append(self._readers.pop(0))
        waiting = {reader.calls[0].answer: reader for reader in self.waiting_readers()}
        if not waiting:
            # Everything is handed out and nothing acknowledged yet.
            time.sleep(min(wait_s, 0.01))
            return
        ready, others = ray.wait(list(waiting), num_returns=1, timeout=wait_s)
        if ready and others:
            ready += ray.wait(others, num_returns=len(others), timeout=0)[0]
        for answer in ready:
            self._take(waiting[answer])

    def waiting_readers(self) -> list[ReaderHandle]:
        """Return the readers that have calls to answer."""
        return [reader for reader in self._readers if reader.calls]

    def _take(self, reader: ReaderHandle) -> None:
        call = reader.calls.popleft()
        reader.waiting_since = time.monotonic()
        reader.ping = None
        try:
            answer: Any = ray.get(call.answer)
        except RayTaskError:
            raise
        except RayError as error:
            self._replace(reader, _first_line(error), by_its_process=_is_end_of_process(error))
            return
        if call.batch is not None:
            answer = pickle.loads(answer)
        if isinstance(answer, Failure):
            failure = answer.to_error()
            if isinstance(failure, TransactionLost):
                self._transaction_lost(reader, failure)
                return
            partition = answer.partition or reader.first_unread
            if isinstance(failure, NewField):
                reader.new_field = failure
            elif isinstance(failure, OffsetOutOfRange):
                reader.is_stopped = True
                self._out_of_range.append((partition, failure))
            else:
                self.failed = partition
                raise failure
            # They would only say the same.
            reader.calls.clear()
            return
        if isinstance(answer, Opened):
            self._begin_at(answer.starts)
        if call.batch is None:
            return
        infos: list[BatchInfo] = answer
        announced = (info.partition for info in infos if info.is_announcement)
        reader.announced = next(announced, None)
        for info in infos:
            self._route(reader, info, call.batch)
        covered = [info.next_offset - info.start_offset for info in infos]
        if any(covered):
            reader.has_caught_up = max(covered) < _SHORT_RANGE

    def _begin_at(self, starts: Mapping[TopicPartition, int]) -> None:
        """Take over where a reader begins, which knows what is committed."""
        for partition, start in starts.items():
            progress = self.progress[partition]
            routed, progress.routed_offset = progress.routed_offset, start
            if start != routed:
                progress.leader_epoch = -1
            if start < routed:
                progress.delivered_offset = min(progress.delivered_offset, start)
            elif start > routed:
                # Its last words were not heard, or a former run's.
                info = BatchInfo.without_rows(partition, routed, start, progress.stats)
                self._routed.append(RoutedBatch(info, None, 0, progress.stats, self._generation))

    def _route(
        self, reader: ReaderHandle, info: BatchInfo, batch: ray.ObjectRef[Any] | None
    ) -> None:
        progress = self.progress[info.partition]
        if info.start_offset != progress.routed_offset:
            raise SabotRayError(
                f"{info.partition}: the reader gave offset {info.start_offset}, expected "
                f"{progress.routed_offset}; please report this"
            )
        before = reader.stats_before.get(info.partition, SourceStats())
        progress.stats = before.joined(info.stats)
        self._notices.look(info.partition, self.progress)
        reader.long_poll_s = info.long_poll_s
        reader.is_cut_off = info.is_cut_off
        if info.next_offset == info.start_offset:
            return
        progress.routed_offset = info.next_offset
        caution = reader.cautions.get(info.partition)
        if caution is not None and (info.stats.records >= caution.records or progress.is_routed):
            del reader.cautions[info.partition]
        progress.leader_epoch = info.leader_epoch
        if reader.is_ended:
            # What else was asked for would only say the same.
            reader.calls.clear()
        ref = batch if info.has_batch and info.inline is None else None
        self._routed.append(RoutedBatch(info, ref, reader.epoch, progress.stats, self._generation))
        self._routed_bytes += info.bytes
        progress.held_bytes += info.bytes

    def _watch(self) -> None:
        """Replace readers that neither answer nor die: a frozen process shows no error."""
        if self._ownership is not None:
            self._open_confirmed(self._ownership)
        now = time.monotonic()
        for reader in self._readers:
            if not reader.calls:
                continue
            waited = now - reader.waiting_since
            if not reader.runs:
                if ray.wait([reader.started], timeout=0)[0]:
                    reader.runs = True
                    self._last_start = now
                # One that takes another's place waits for room: nodes come back.
                elif (
                    not reader.is_replacement
                    and now - max(reader.waiting_since, self._last_start) > START_TIMEOUT_S
                ):
                    raise self._not_scheduled(reader)
            elif reader.ping is not None:
                self._check_ping(reader, now)
            elif waited > reader.long_poll_s + OVERDUE_S:
                assert reader.control is not None
                reader.ping = (reader.control.status.remote(), now)

    def _check_ping(self, reader: ReaderHandle, now: float) -> None:
        assert reader.ping is not None
        answer, asked_at = reader.ping
        ready, _ = ray.wait([answer], timeout=0)
        if not ready:
            if now - asked_at > PING_TIMEOUT_S:
                self._replace(
                    reader, f"it gave no sign of life for {now - reader.waiting_since:.0f} s"
                )
            return
        reader.ping = None
        try:
            status = ray.get(answer)
        except RayError as error:
            self._replace(reader, _first_line(error))
            return
        patience = self._patience.get(status.activity)
        if patience is not None and status.seconds > patience:
            self._replace(reader, f"it hangs in '{status.activity}' since {status.seconds:.0f} s")
            return
        reader.is_cut_off = status.is_cut_off
        # User code may take its time.
        reader.waiting_since = now

    def _not_scheduled(self, reader: ReaderHandle) -> ReaderFailed:
        self.failed = reader.first_unread
        needs = {
            name: value
            for name, value in self._actor_options.items()
            if name in ("num_cpus", "num_gpus", "memory", "resources", "label_selector") and value
        }
        free = ray.available_resources()  # type: ignore[no-untyped-call]
        total = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return ReaderFailed(
            f"{reader}: the reader was not started within {START_TIMEOUT_S:g} s: it needs "
            f"{needs or 'no resources'}, and {free} are free of {total}; lower "
            "memory_per_reader, change ray_remote_args, or add nodes"
        )


def wait_for_any(coordinators: Iterable[Coordinator], timeout_s: float) -> None:
    """Wait until one of them may have something to say."""
    waiting = {c: c.waiting_readers() for c in coordinators if not c.is_finished}
    if not all(waiting.values()):
        # Everything of one is handed out and nothing acknowledged yet.
        timeout_s = min(timeout_s, 0.01)
    answers = [reader.calls[0].answer for readers in waiting.values() for reader in readers]
    if answers:
        ray.wait(answers, num_returns=1, timeout=timeout_s)
    else:
        time.sleep(timeout_s)


def _kind_of_reader(plan: ReaderPlan) -> type[Reader]:
    if plan.sink is None:
        return Reader
    return TransactionalReader if plan.sink.is_exactly_once else WritingReader


def _drain(reader: ReaderHandle) -> ray.ObjectRef[Any]:
    answer: ray.ObjectRef[Any] = reader.actor.drain.options(concurrency_group="data").remote(
        _DRAIN_SLICE_S
    )
    return answer


def _is_end_of_process(error: RayError) -> bool:
    """Tell whether the actor's process ended, and not its node, or because Ray was asked to."""
    return (
        isinstance(error, ActorDiedError)
        and not error.preempted
        and "worker process has died" in str(error)
    )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
