"""The actor that reads a partition and runs the fused operators on its batches."""

from __future__ import annotations

import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import pyarrow as pa
import ray

from sabot_ray.codecs.codec import Codec
from sabot_ray.codecs.dictionaries import plain_schema
from sabot_ray.errors import BrokerUnavailable, ConfigError, KafkaError
from sabot_ray.kafka.backend import connect_sink, connect_source_client
from sabot_ray.kafka.source import PartitionSource, SourceClient
from sabot_ray.runtime.operators import RecordFailed, apply_all, apply_around_failures
from sabot_ray.runtime.policy import DeadLetter
from sabot_ray.runtime.reader_messages import (
    LONG_POLL_S,
    Assignment,
    BatchInfo,
    Failure,
    ReaderPlan,
    ReaderStatus,
)
from sabot_ray.schema import OFFSET_COLUMN
from sabot_ray.types import SourceStats, TopicPartition

if TYPE_CHECKING:
    from sabot_ray.kafka.sink import PartitionSink, SinkSpec
    from sabot_ray.runtime.dead_letters import DeadLetters, RawRecords

#: The same as `LONG_POLL_S` once its partitions have been idle for a while: every answer costs.
LONGEST_POLL_S = 10.0
#: A partition that has been out of reach for so long is told to the driver, in seconds...
CUT_OFF_S = 5.0
#: ...and so often a reader that waits for a row looks after that, in seconds.
_LOOK_INTERVAL_S = 1.0
#: A reader of several partitions hands over at most so many bytes of one before it looks at the
#: others...
QUANTUM_BYTES = 4 << 20
#: ...unless all are as far behind the log's end: then full batches cost least, and nobody waits for
#: a record that has just come.
BACKLOG_OFFSETS = 1000
#: How long it waits for more of a partition then, longer than a fetch that went out before may take
#: (`librdkafka.SHARED_FETCH_WAIT_MS`), in seconds...
BACKLOG_LINGER_S = 0.1
#: ...and how long a batch may take while more of it keeps coming, in seconds.
LONGEST_GATHERING_S = 0.5
#: Least that is fetched ahead of each partition.
MIN_PREFETCH_BYTES = 1 << 20
#: How long a reader waits for brokers that are away where it is to write, in seconds: as long as a
#: record would.
_CONNECT_PATIENCE_S = 120.0
#: How long other partitions wait for a record that is under suspicion, in seconds. The sooner it
#: is processed, the fewer of the deaths that have other reasons are put down to it.
_SUSPECT_WAIT_S = 2.0
#: Batches up to this size travel with their description. Ray inlines answers up to 100 KB.
INLINE_BYTES = 32 << 10

_T = TypeVar("_T")


class Origin(NamedTuple):
    """What the operators were given.

    Attributes:
        rows: The rows, without those on which an operator failed.
        offsets: The offset of each.
    """

    rows: pa.RecordBatch
    offsets: pa.Array[Any]


class _Partition:
    """A partition that a reader reads: its source, what was told of it, and its turn."""

    def __init__(self, assignment: Assignment, source: PartitionSource) -> None:
        self.assignment = assignment
        self.source = source
        self.told_offset = assignment.start_offset
        # How much lay ahead when nothing came: the broker is away, or a transaction is open. (What
        # has an end can be read up to there.)
        self.unreadable = 0
        # What it raised after rows that go out first.
        self.error: Exception | None = None
        # Since when there is progress without a row, which nobody was told of.
        self.untold_since: float | None = None
        self.has_told_end = False
        # Bytes consumed so far; and those that it may consume in its turn, negative after a batch
        # beyond its share.
        self.consumed = 0
        self.credit = 0
        # What the reader counted beside its source.
        self.counted = SourceStats()
        # What the operators were given last, where the sink may fail on what they made of it.
        self.origin: Origin | None = None
        # When its next batch may go out; None until something is at hand.
        self.due_at: float | None = None

    @property
    def step(self) -> int | None:
        """Most rows in a batch for now; None: as always."""
        caution = self.assignment.caution
        if caution is None or self.source.stats().records >= caution.records:
            return None
        return caution.step

    @property
    def is_at_end(self) -> bool:
        """Whether all was read."""
        end = self.assignment.end_offset
        return end is not None and self.source.position() >= end

    def is_far_behind(self, *, beyond: int = 0) -> bool:
        """Whether much lies ahead, for which nobody waits; so does all that has an end.

        Args:
            beyond: So many offsets of an endless log do not count.
        """
        if self.assignment.end_offset is not None:
            return not self.is_at_end
        return self.source.backlog() - beyond >= BACKLOG_OFFSETS


class Reader:
    """Reads the partitions that it is given; runs as a Ray actor.

    `open`, `assign` and `next_batch` are called one at a time (concurrency group ``data``);
    `status`, `hold` and `close` at any time (group ``control``). The constructor does nothing that
    can fail: an actor whose constructor raises is dead without a useful error.

    A batch comes from one partition. Those that have something at hand take turns, a batch each;
    one that went beyond its share of bytes is passed over until it has made up for it (deficit
    round robin). Small batches of several partitions share an answer: it is answers that cost.
    """

    _longest_poll_s = LONGEST_POLL_S

    def __init__(self) -> None:
        self._label = "Reader"
        self._plan: ReaderPlan | None = None
        self._client: SourceClient | None = None
        # In the order of their turns.
        self._partitions: deque[_Partition] = deque()
        self._held: frozenset[TopicPartition] = frozenset()
        # Whose next record the driver knows to be the next one.
        self._announced: _Partition | None = None
        # Whose next record is under suspicion, and until when the others wait for it.
        self._under_suspicion: _Partition | None = None
        self._suspicion_ends = 0.0
        self._linger_s = 0.0
        # Of a batch that is gathered; 0 where none is.
        self._gathered_bytes = 0
        self._long_poll_s = LONG_POLL_S
        # What the driver knows.
        self._told_cut_off = False
        self._closing = threading.Event()
        # Where the policy passes over failed records; connected when there is one.
        self._records: RawRecords | None = None
        self._dead_letters: DeadLetters | None = None
        self._dead_letter_sink: PartitionSink | None = None
        # What is being read, for errors.
        self._reading: TopicPartition | None = None
        self._failure: Failure | None = None
        self._activity = ("idle", time.monotonic())

    def __repr__(self) -> str:
        """Name the partitions: Ray puts this before the actor's log lines."""
        return self._label

    def open(self, plan: ReaderPlan, assignments: Sequence[Assignment]) -> Failure | None:
        """Connect and start reading; called before anything else, and again once it is closed.

        Returns:
            What went wrong, for example `BackendUnavailable` on this node; None if nothing did.
        """
        self._enter("open")
        # Closed before it was there.
        self._close_clients()
        self._closing.clear()
        self._partitions.clear()
        self._announced = self._under_suspicion = None
        self._held = frozenset()
        self._long_poll_s = LONG_POLL_S
        self._told_cut_off = False
        self._failure = None
        spec = plan.spec
        if plan.shares_readers:
            # The clients prefetch for each partition; the reader itself waits for more records,
            # for no partition shall keep another one waiting.
            self._linger_s = spec.linger_s
            # Dictionaries are made for each poll: those of several are not alike.
            if not any(map(_has_dictionary, (spec.codec, spec.key_codec))):
                self._gathered_bytes = spec.max_batch_bytes
            spec = replace(
                spec,
                prefetch_bytes=max(spec.prefetch_bytes // len(assignments), MIN_PREFETCH_BYTES),
                max_batch_bytes=min(spec.max_batch_bytes, QUANTUM_BYTES),
                linger_s=0.0,
                await_backlog=False,
            )
        self._plan = replace(plan, spec=spec)
        self._prepare_for_failures(self._plan)
        try:
            self._client = connect_source_client(
                plan.backend, spec.config, spec.prefetch_bytes, is_shared=plan.shares_readers
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the driver raises it
            self._failure = Failure.of(error)
            return self._failure
        return self.assign(assignments)

    def _to_be_quarantined(self, assignment: Assignment) -> int | None:
        """Return the offset of the record that is to be passed over; None if none is."""
        if not assignment.passes_over_first or self._records is None:
            return None
        # The brokers may be away for long, which is no reason to replace the reader.
        self._enter("write")
        return self._records.first_from(
            assignment.partition, assignment.start_offset, assignment.end_offset
        )

    def _quarantine(self, read: _Partition, offset: int) -> None:
        letter = DeadLetter.of_death(read.assignment.partition, offset)
        counted = self._pass_over(read, [letter])
        read.counted = replace(counted, failures=0, last_failure="", quarantined=1)
        # There is news for the driver.
        read.untold_since = time.monotonic()

    def _prepare_for_failures(self, plan: ReaderPlan) -> None:
        self._records = self._dead_letters = self._dead_letter_sink = None
        if not plan.policy.passes_over:
            return
        # Here, because other readers need none of it.
        from sabot_ray.runtime.dead_letters import (
            PREFETCH_BYTES,
            DeadLetters,
            RawRecords,
        )

        config = plan.spec.config
        self._records = RawRecords(
            config, lambda: connect_source_client(plan.backend, config, PREFETCH_BYTES)
        )
        if plan.policy.dead_letter_topic is not None:
            self._dead_letters = DeadLetters(self._records, self._sink_of_dead_letters)

    def _dead_letter_spec(self) -> SinkSpec:
        from sabot_ray.runtime.dead_letters import dead_letter_sink

        assert self._plan is not None
        assert self._plan.policy.dead_letter_topic is not None
        return dead_letter_sink(self._plan.spec.config, self._plan.policy.dead_letter_topic)

    def _sink_of_dead_letters(self, partition: TopicPartition) -> PartitionSink:
        """Return what writes the dead letters of a partition."""
        if self._dead_letter_sink is None:
            assert self._plan is not None
            backend, spec = self._plan.backend, self._dead_letter_spec()
            self._dead_letter_sink = self._patiently(lambda: connect_sink(backend, spec))
        return self._dead_letter_sink

    def _patiently(self, ask: Callable[[], _T]) -> _T:
        """Ask brokers that may be away for a while: a reader that runs would bear it, too."""
        deadline = time.monotonic() + _CONNECT_PATIENCE_S
        while True:
            try:
                return ask()
            except KafkaError as error:
                passes = error.retriable or isinstance(error, BrokerUnavailable)
                if not passes or time.monotonic() >= deadline or self._closing.wait(1.0):
                    raise

    def assign(self, assignments: Sequence[Assignment]) -> Failure | None:
        """Take on partitions.

        Returns:
            What went wrong; None if nothing did.
        """
        if self._failure is not None:
            return self._failure
        self._enter("open")
        assert self._plan is not None
        assert self._client is not None
        try:
            for assignment in assignments:
                self._reading = assignment.partition
                quarantined = self._to_be_quarantined(assignment)
                start = assignment.start_offset if quarantined is None else quarantined + 1
                source = self._client.open_source(
                    replace(self._plan.spec, topic=assignment.partition.topic),
                    assignment.partition.partition,
                    start,
                    assignment.end_offset,
                    assignment.leader_epoch,
                )
                read = _Partition(assignment, source)
                if quarantined is not None:
                    self._quarantine(read, quarantined)
                self._partitions.append(read)
                if assignment.is_suspect:
                    self._under_suspicion = read
                    self._suspicion_ends = time.monotonic() + _SUSPECT_WAIT_S
        except Exception as error:  # noqa: BLE001 - whatever it is, the driver raises it
            self._failure = Failure.of(error, self._reading)
        names = [str(read.assignment.partition) for read in self._partitions]
        more = f", {len(names) - 3} more" if len(names) > 3 else ""
        self._label = f"Reader({', '.join(names[:3])}{more})"
        self._enter("idle")
        return self._failure

    def next_batch(self) -> tuple[pa.RecordBatch | bytes, bytes]:
        """Return what is at hand and what it covers; wait a while for a row if there is nothing.

        No arguments, and a description that is pickled here: Ray passes bytes on as they are, and
        takes a third of the whole call for anything else.

        Returns:
            The batch, empty bytes where it has no row or is inline; and a pickled list of
            `BatchInfo`. At most the last one's batch is not inline. A range without rows is one,
            too: its offsets count as read. Or empty bytes and the pickled `Failure`, the same at
            each further call.
        """
        if self._failure is None:
            answers: list[tuple[pa.RecordBatch | bytes, BatchInfo]] = []
            # Nothing else may follow in the call of a record that was announced.
            others = 0 if self._goes_singly() else len(self._partitions) - 1
            try:
                answers.append(self._next_batch())
                # Each of the others has one turn at most.
                for _ in range(others):
                    read = self._take_turn() if self._takes_more(answers) else None
                    if read is None:
                        break
                    batch = self._poll(read, 0.0)
                    if batch.num_rows or read.is_at_end:
                        answers.append(self._answer(read, batch))
            except Exception as error:  # noqa: BLE001 - the user's code may raise anything
                # What came before goes out first.
                self._failure = Failure.of(error, self._reading)
            if answers:
                return answers[-1][0], pickle.dumps([info for _, info in answers])
        return b"", pickle.dumps(self._failure)

    def _takes_more(self, answers: Sequence[tuple[object, BatchInfo]]) -> bool:
        """Tell whether the answer is small, so that another partition's batch may join it."""
        infos = [info for _, info in answers]
        is_backlog = infos[-1].next_offset - infos[-1].start_offset >= BACKLOG_OFFSETS
        # What is not inline is larger.
        is_small = sum(len(info.inline or b"") or info.bytes for info in infos) <= INLINE_BYTES
        return is_small and not is_backlog and not self._closing.is_set()

    def _next_batch(self) -> tuple[pa.RecordBatch | bytes, BatchInfo]:
        assert self._client is not None
        is_alone = len(self._partitions) == 1 and not self._linger_s and not self._goes_singly()
        long_poll_ends = time.monotonic() + self._long_poll_s
        while True:
            seen = self._client.news_count()
            read = self._partitions[0] if is_alone else self._take_turn()
            deadline = self._answer_by(long_poll_ends)
            if read is not None and read.step == 1 and self._announced is not read:
                # What lies before the record is told first.
                is_told = read.source.position() == read.told_offset
                return self._announce(read) if is_told else self._answer(read, None)
            if read is not None:
                wait_s = 0.0
                if is_alone:
                    wait_s = min(max(deadline - time.monotonic(), 0.0), _LOOK_INTERVAL_S)
                batch = self._poll(read, wait_s)
                if batch.num_rows or read.is_at_end:
                    return self._answer(read, batch)
                deadline = self._answer_by(long_poll_ends)
            now = time.monotonic()
            has_changed = self._is_cut_off() != self._told_cut_off
            if now >= deadline or has_changed or self._closing.is_set():
                return self._answer(min(self._partitions, key=_untold_since), None)
            if read is None:
                self._enter("poll")
                due = min(deadline, self._next_due(now), now + _LOOK_INTERVAL_S)
                self._client.wait_for_news(seen, due - now)

    def _goes_singly(self) -> bool:
        """Tell whether records are processed one by one, each announced before."""
        return any(read.step == 1 for read in self._partitions)

    def _announce(self, read: _Partition) -> tuple[bytes, BatchInfo]:
        """Say whose record is the next one."""
        self._announced = read
        self._enter("idle")
        return b"", BatchInfo(
            read.assignment.partition,
            read.told_offset,
            read.told_offset,
            0,
            False,
            None,
            0,
            read.source.stats().joined(read.counted),
            self._long_poll_s,
            self._told_cut_off,
            is_announcement=True,
        )

    def _take_turn(self) -> _Partition | None:
        """Return the partition whose turn it is; None if nothing is at hand."""
        if self._announced is not None:
            return self._announced
        now = time.monotonic()
        ready = {id(read) for read in self._partitions if self._is_ready(read, now)}
        if (suspect := self._under_suspicion) is not None:
            if id(suspect) in ready:
                return suspect
            if now < self._suspicion_ends:
                return None
        while ready:
            read = self._partitions[0]
            self._partitions.rotate(-1)
            if id(read) in ready:
                read.credit = min(read.credit + QUANTUM_BYTES, QUANTUM_BYTES)
                if read.credit > 0:
                    return read
        return None

    def _is_ready(self, read: _Partition, now: float) -> bool:
        if read.has_told_end or read.assignment.partition in self._held:
            return False
        # An error that was met behind the last rows is no news any more.
        if read.error is None and not read.source.has_news():
            return False
        if read.due_at is None:
            read.due_at = now + self._linger_s
        return read.due_at <= now

    def _next_due(self, now: float) -> float:
        """Return when a partition that waits for more records may hand over those at hand."""
        return min(
            (
                read.due_at
                for read in self._partitions
                if read.due_at is not None
                and read.due_at > now
                and read.assignment.partition not in self._held
            ),
            default=float("inf"),
        )

    def _answer_by(self, long_poll_ends: float) -> float:
        """Return when to answer without a row: progress does not wait as long as nothing does."""
        untold = min(map(_untold_since, self._partitions))
        return min(long_poll_ends, untold + LONG_POLL_S)

    def _poll(self, read: _Partition, timeout_s: float) -> pa.RecordBatch:
        """Return the rows of a partition's next batch that the operators leave."""
        plan = self._plan
        assert plan is not None
        self._reading = read.assignment.partition
        if read.error is not None:
            raise read.error
        start_offset = read.source.position()
        self._enter("poll")
        step = read.step
        self._announced = self._under_suspicion = None
        batch = read.source.poll(step or plan.batch_size, timeout_s=timeout_s)
        if read.source.position() - start_offset >= BACKLOG_OFFSETS:
            read.unreadable = 0
        if batch.num_rows and self._gathered_bytes and step is None:
            batch = self._gather(read, batch)
        next_offset = read.source.position()
        is_full = batch.num_rows >= (step or plan.batch_size)
        # Behind a full batch there is more, which waits for nothing.
        read.due_at = time.monotonic() if is_full else None
        self._enter("operators")
        if plan.policy.name == "fail":
            batch = apply_all(plan.operators, batch, self._reading, start_offset, next_offset)
        else:
            batch = self._apply_policy(read, batch, start_offset)
        if read.untold_since is None and next_offset != read.told_offset:
            read.untold_since = time.monotonic()
        return batch

    def _apply_policy(
        self, read: _Partition, batch: pa.RecordBatch, start_offset: int
    ) -> pa.RecordBatch:
        """Return what the operators leave, and see to the records that fail, as the policy says."""
        plan = self._plan
        assert plan is not None
        partition, next_offset = read.assignment.partition, read.source.position()

        def apply() -> pa.RecordBatch:
            return apply_all(plan.operators, rows, partition, start_offset, next_offset)

        failed: list[DeadLetter] = []
        offsets: pa.Array[Any] | None = None
        if plan.policy.passes_over and (plan.operators or plan.sink is not None):
            offsets = batch[OFFSET_COLUMN]
        rows = batch.remove_column(batch.num_columns - 1) if plan.adds_offsets else batch
        try:
            left = plan.policy.with_retries(apply, _may_pass, self._closing.wait)
        except RecordFailed:
            if not plan.policy.passes_over:
                raise
            assert offsets is not None
            numbers: list[Any] = offsets.to_pylist()
            left, failures = apply_around_failures(plan.operators, rows, partition, numbers)
            failed = [DeadLetter.of_operator(partition, numbers[r], why) for r, why in failures]
            bad = {row for row, _ in failures}
            kept = pa.array([r for r in range(rows.num_rows) if r not in bad], pa.int64())
            rows, offsets = rows.take(kept), offsets.take(kept)
        if plan.sink is not None and offsets is not None:
            read.origin = Origin(rows, offsets)
        read.counted = read.counted.joined(self._pass_over(read, failed))
        return left

    def _pass_over(self, read: _Partition, failed: Sequence[DeadLetter]) -> SourceStats:
        """Count failed records, and write them and what the source has dropped where they belong.

        Nobody was told yet that they were read.

        Args:
            read: The partition.
            failed: Those on which an operator or the sink failed, by ascending offset.

        Returns:
            What there is to be counted.
        """
        plan = self._plan
        assert plan is not None
        written = 0
        if self._dead_letters is not None:
            dropped = read.source.take_rejected()
            letters = [DeadLetter.of_decode_error(error, plan.spec) for error in dropped]
            letters = sorted([*letters, *failed])
            written = len(letters)
            if letters:
                self._write_dead_letters(read.assignment.partition, letters)
        last = failed[-1].message if failed else ""
        return SourceStats(failures=len(failed), last_failure=last, dead_letters=written)

    def _write_dead_letters(self, partition: TopicPartition, letters: Sequence[DeadLetter]) -> None:
        """Write them before anybody is told that their records were read."""
        assert self._dead_letters is not None
        # The brokers may be away for long, which is no reason to replace the reader.
        self._enter("write")
        self._dead_letters.write(partition, letters)

    def _gather(self, read: _Partition, first: pa.RecordBatch) -> pa.RecordBatch:
        """Make the batch larger where all partitions are far behind: what is fetched is small."""
        assert self._plan is not None
        others = (other for other in self._partitions if other is not read)
        if not all(other.is_far_behind() or other.has_told_end for other in others):
            return first
        # The reader's first batch goes out at once: somebody waits for it.
        if not any(other.consumed for other in self._partitions):
            return first
        pieces, rows = [first], first.num_rows
        began = gained_at = time.monotonic()
        while (
            read.is_far_behind(beyond=read.unreadable)
            and rows < self._plan.batch_size
            # A poll gives no more than a quantum.
            and read.source.stats().bytes - read.consumed + QUANTUM_BYTES <= self._gathered_bytes
            and not self._closing.is_set()
            and (left_s := _gathering_time_left(began, gained_at)) > 0
        ):
            offset = read.source.position()
            try:
                pieces.append(read.source.poll(self._plan.batch_size - rows, timeout_s=left_s))
            except Exception as error:  # noqa: BLE001 - it is raised again behind these rows
                read.error = error
                break
            rows += pieces[-1].num_rows
            if read.source.position() != offset:
                gained_at = time.monotonic()
            else:
                read.unreadable = read.source.backlog()
        return first if len(pieces) == 1 else pa.concat_batches(pieces)  # type: ignore[attr-defined]  # no stub

    def _answer(
        self, read: _Partition, batch: pa.RecordBatch | None
    ) -> tuple[pa.RecordBatch | bytes, BatchInfo]:
        """Describe the range from what was told last; its rows, if any, are all in the batch."""
        assert self._plan is not None
        start_offset, next_offset = read.told_offset, read.source.position()
        stats = read.source.stats().joined(read.counted)
        read.told_offset, read.untold_since = next_offset, None
        read.has_told_end = read.is_at_end
        # Where there are no turns there is nothing to make up for, also not once others come.
        if len(self._partitions) > 1:
            read.credit -= stats.bytes - read.consumed
        read.consumed = stats.bytes
        rows = batch.num_rows if batch is not None else 0
        if rows or next_offset != start_offset:
            self._long_poll_s = LONG_POLL_S
        else:
            self._long_poll_s = min(2 * self._long_poll_s, self._longest_poll_s)
        kept = None if self._plan.counts_only or not rows else batch
        size_bytes = kept.nbytes if kept is not None else 0
        inline = _ipc_stream(kept) if kept is not None and size_bytes <= INLINE_BYTES else None
        self._told_cut_off = self._is_cut_off()
        self._enter("idle")
        info = BatchInfo(
            read.assignment.partition,
            start_offset,
            next_offset,
            rows,
            kept is not None,
            inline,
            size_bytes,
            stats,
            self._long_poll_s,
            self._told_cut_off,
            leader_epoch=read.source.leader_epoch(),
        )
        return b"" if kept is None or inline is not None else kept, info

    def _is_cut_off(self) -> bool:
        assert self._client is not None
        return self._client.cut_off_s() > CUT_OFF_S

    def hold(self, partitions: frozenset[TopicPartition]) -> None:
        """Leave these partitions alone until further notice, and read all others."""
        self._held = partitions
        if self._client is not None:
            self._client.wake()

    def stop_reading(self) -> None:
        """End a waiting `next_batch`, and read no more."""
        self._closing.set()
        if self._client is not None:
            self._client.wake()

    def status(self) -> ReaderStatus:
        """Say what the reader is doing; answers also while it reads."""
        activity, since = self._activity
        return ReaderStatus(activity, time.monotonic() - since, self._told_cut_off)

    def close(self) -> None:
        """End a waiting `next_batch`, and free the clients. Idempotent."""
        self._closing.set()
        self._close_clients()

    def _close_clients(self) -> None:
        if self._client is not None:
            self._client.close()
        if self._records is not None:
            self._records.close()
        if self._dead_letter_sink is not None:
            self._dead_letter_sink.close()

    def _enter(self, activity: str) -> None:
        self._activity = (activity, time.monotonic())


def _may_pass(error: Exception) -> bool:
    return isinstance(error, RecordFailed) and error.may_pass


def _untold_since(read: _Partition) -> float:
    return float("inf") if read.untold_since is None else read.untold_since


def _gathering_time_left(began: float, gained_at: float) -> float:
    ends_at = min(began + LONGEST_GATHERING_S, gained_at + BACKLOG_LINGER_S)
    return ends_at - time.monotonic()


def _has_dictionary(codec: Codec) -> bool:
    columns = codec.columns
    return plain_schema(columns) is not columns


def _ipc_stream(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def read_inline(stream: bytes) -> pa.RecordBatch:
    """Return the batch that a reader has put into its description."""
    with pa.ipc.open_stream(stream) as reader:
        return reader.read_next_batch()


#: Ray's options of every reader. Ray restarts nothing: a dead reader is replaced (docs/adr/0001).
ACTOR_OPTIONS: dict[str, Any] = {
    "num_cpus": 0,
    "max_restarts": 0,
    "max_task_retries": 0,
    "scheduling_strategy": "SPREAD",
    "concurrency_groups": {"data": 1, "control": 1},
}

#: A run depends on these: a reader answers calls in order, belongs to its run, and dies with it.
_MANAGED_OPTIONS = frozenset(
    {
        "allow_out_of_order_execution",
        "concurrency_groups",
        "get_if_exists",
        "lifetime",
        "max_concurrency",
        "max_pending_calls",
        "max_restarts",
        "max_task_retries",
        "name",
        "namespace",
    }
)


def reader_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return Ray's options of a reader actor: `ACTOR_OPTIONS`, and over them what a user gave.

    Raises:
        ConfigError: One is managed by sabot_ray, or Ray refuses it.
    """
    for name in given:
        if name in _MANAGED_OPTIONS:
            raise ConfigError(f"ray_remote_args: '{name}' is managed by sabot_ray")
    options = {**ACTOR_OPTIONS, **given}
    try:
        ray.remote(**options)(Reader)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"ray_remote_args: {error}") from None
    return options
