"""One source of a run: its readers, its progress, and what it commits."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pyarrow as pa
import ray
from ray.exceptions import RayError

from sabot_ray.errors import (
    AuthenticationFailed,
    AuthorizationFailed,
    BatchLost,
    ConfigError,
    DataLoss,
    KafkaError,
    ReaderFailed,
    ReadIncomplete,
    TopicRecreated,
)
from sabot_ray.kafka.interceptor import Interceptors
from sabot_ray.offsets.committer import Committer
from sabot_ray.offsets.tracker import AckTracker
from sabot_ray.runtime.coordinator import Coordinator, RoutedBatch
from sabot_ray.runtime.discovery import PartitionDiscovery
from sabot_ray.runtime.evolution import SchemaEvolution
from sabot_ray.runtime.operators import output_schema
from sabot_ray.runtime.plan import RunPlan, SourceOptions, reader_plan
from sabot_ray.runtime.reader import read_inline
from sabot_ray.runtime.schemas import commit_metadata
from sabot_ray.runtime.status import PartitionStatus, RunStatus
from sabot_ray.runtime.topic_watch import LogChange, TopicWatch
from sabot_ray.types import TopicPartition

logger = logging.getLogger("sabot_ray.runtime")

#: Longest time that readers have to write what is under way, before a run ends or its schema grows,
#: in seconds.
DRAIN_TIMEOUT_S = 10.0
#: Stands for the incarnation of a reader, of what none has read.
_NO_READER = -1
#: Said of an offset that is there again; without leader epochs nobody knows what became of the log.
_OUT_FOR_A_MOMENT = "an offset to be read was not in the log for a moment, and is there again"


@dataclass(frozen=True)
class BatchRef:
    """A record batch in Ray's object store, and what it covers.

    Pass ``ref`` to Ray tasks; `ack` belongs to the driver that runs the stream.

    Attributes:
        ref: Object reference of the ``pyarrow.RecordBatch``.
        topic: The topic.
        partition: The partition.
        start_offset: First offset that the batch covers.
        next_offset: The offset after the last that it covers, holes included.
        rows: Number of rows.
        bytes: Size in memory.
        epoch: Incarnation of the reader that made it.
    """

    ref: ray.ObjectRef[Any]
    topic: str
    partition: int
    start_offset: int
    next_offset: int
    rows: int
    bytes: int
    epoch: int
    _acknowledge: Callable[[], None] | None = field(default=None, repr=False, compare=False)

    def get(self) -> pa.RecordBatch:
        """Fetch the batch.

        Raises:
            BatchLost: The node that held it is gone. It is not acknowledged, so a new run reads it
                again.
        """
        try:
            batch: pa.RecordBatch = ray.get(self.ref)
        except RayError as error:
            raise BatchLost(
                f"topic '{self.topic}' partition {self.partition} offset {self.start_offset}: the "
                "batch is gone from the object store; start the stream again, it resumes at what "
                "was acknowledged"
            ) from error
        return batch

    def ack(self) -> None:
        """Acknowledge the batch: its offsets may be committed, once those before it are, too.

        Raises:
            ConfigError: Called on a copy outside the driver.
            SabotRayError: The run is closed: it is too late, the batch comes again.
        """
        if self._acknowledge is None:
            raise ConfigError(
                "BatchRef.ack: call it in the driver that runs the stream, not on a copy"
            )
        self._acknowledge()

    def __reduce__(self) -> tuple[Any, ...]:
        values = (self.ref, self.topic, self.partition, self.start_offset, self.next_offset)
        return BatchRef, (*values, self.rows, self.bytes, self.epoch)


class _Generation(NamedTuple):
    """What the batches of a plan have in common.

    Attributes:
        schema: Their schema; None behind a ``map``.
        metadata: What is committed beside their offsets.
    """

    schema: pa.Schema | None
    metadata: str


class Branch:
    """Reads one source of a run, follows what was delivered of it, and commits that.

    One thread at a time, but for `acknowledge`.

    Args:
        options: The source.
        plan: What is executed.
        readers: How many readers there are at most, unless the options say so.
        max_in_flight_bytes: Limit of its batches under way, likewise.
    """

    def __init__(
        self, options: SourceOptions, plan: RunPlan, *, readers: int, max_in_flight_bytes: int
    ) -> None:
        self.options = options
        #: The schema of its latest batch; None behind a ``map`` until its first one has come.
        self.schema = plan.schema
        self._plan = plan
        self._tracker = AckTracker()
        self._store = plan.store
        self._ownership = plan.ownership
        self._interceptors = Interceptors(options.interceptors)
        self._evolution = SchemaEvolution(options)
        # What came of each evolution; the batches of the next ones may be under way.
        self._generations = [_Generation(plan.schema, self._commit_metadata())]
        self._generation = 0
        if self._ownership is not None:
            self._ownership.keep(self._generations[0].metadata, plan.topic_ids)
        self._auto_commit = bool(options.config.get("enable.auto.commit", True))
        self.coordinator = Coordinator(
            plan.reader,
            plan.ranges,
            readers=options.readers or readers,
            actor_options=options.actor_options,
            max_in_flight_bytes=options.max_in_flight_bytes or max_in_flight_bytes,
            unacknowledged=self._tracker.pending_bytes,
            ownership=plan.ownership,
        )
        # Changes of logs that are to be followed once what was read before is returned.
        self._changes: list[LogChange] = []
        # Held while offsets are staged or taken back, so that none slips through in between.
        self._staging = threading.Lock()
        # Last: threads run at once, and only `close` ends them.
        self._topics = TopicWatch(options.config, plan.ranges, plan.topic_ids)
        self._discovery: PartitionDiscovery | None = None
        if options.end is None and options.partitions is None:
            self._discovery = PartitionDiscovery(options, plan.ranges)
        self._committer: Committer | None = None
        if plan.store is not None and plan.ownership is None:
            interval_s = options.config.get("auto.commit.interval.ms", 5000) / 1000
            self._committer = Committer(
                plan.store,
                interval_s if self._auto_commit else None,
                stored=plan.committed,
                metadata=self._generations[0].metadata,
                on_commit=self._interceptors.on_commit,
                topics=self._topics,
            )

    @property
    def commits(self) -> bool:
        """Whether there is a group to commit to."""
        return self._committer is not None

    def tend(self) -> None:
        """Do what is due beside reading.

        Raises:
            Fenced: Another driver took the stream over.
            DataLoss: Records that were to be read are gone.
            TopicRecreated: A topic is not the one any more that was read.
            SabotRayError: The commits, or the evolution of the schema, failed for good.
        """
        if self._committer is not None:
            self._committer.check()
        elif self._store is not None:
            self._store.check()
        if self._discovery is not None and (added := self._discovery.take()):
            self.coordinator.add(added)
            self._topics.add(added)
        self._follow_logs()
        self._evolve()
        if self.coordinator.is_finished:
            # The other branches may go on for long.
            self.coordinator.close()

    def next(self, timeout_s: float) -> RoutedBatch | None:
        """Return the next range with rows, and count those without any as done.

        Args:
            timeout_s: Longest time to wait.
        """
        deadline = time.monotonic() + timeout_s
        left_s = timeout_s
        # A filter may leave nothing for a long time.
        while left_s >= 0:
            routed = self.coordinator.next(left_s)
            if routed is None:
                return None
            if routed.generation != self._generation:
                self._generation = routed.generation
                self.schema, metadata = self._generations[self._generation]
                if self._committer is not None:
                    self._committer.keep(metadata)
            if routed.info.has_batch:
                return routed
            info = routed.info
            self._tracker.skip(
                info.partition,
                info.start_offset,
                info.next_offset,
                reader_epoch=routed.epoch,
                leader_epoch=info.leader_epoch,
            )
            self._stage()
            if self._ownership is not None:
                # Readers tell of what they have committed.
                self._interceptors.on_commit({info.partition: info.next_offset})
            left_s = deadline - time.monotonic()
        return None

    def delivered(self, routed: RoutedBatch) -> None:
        """Note that a range was handed to the user; it waits for its acknowledgement."""
        info = routed.info
        self._tracker.deliver(
            info.partition,
            info.start_offset,
            info.next_offset,
            info.bytes,
            reader_epoch=routed.epoch,
            leader_epoch=info.leader_epoch,
        )

    def acknowledge(self, routed: RoutedBatch) -> None:
        """Let the range be committed, once those before it are acknowledged. From any thread."""
        self._tracker.acknowledge(
            routed.info.partition, routed.info.start_offset, reader_epoch=routed.epoch
        )
        self._stage()

    def acknowledge_all(self) -> None:
        """Acknowledge everything that was delivered."""
        self._tracker.acknowledge_all()
        self._stage()

    def commit(self, timeout_s: float) -> None:
        """Commit what is acknowledged, if there is a group.

        Raises:
            Fenced: Another driver took the stream over.
            CommitFailed: The group did not take the offsets.
            TopicRecreated: A topic is not the one any more that was read, whose offsets mean
                nothing now; those of others are committed.
        """
        if self._committer is None:
            return
        self._committer.flush(timeout_s)
        if (recreated := self._topics.uncommitted) is not None:
            if self.options.on_data_loss == "fail":
                raise recreated
            logger.warning("%s; what was read of the former one is not committed", recreated)

    def flush(self, timeout_s: float) -> None:
        """Commit what is acknowledged, where the run is to commit by itself; see `commit`."""
        if not self._auto_commit:
            return
        try:
            self._stage()
            self.commit(timeout_s)
        except Exception:
            # Whoever closes the run next need not wait for it again.
            self._auto_commit = False
            raise

    def drain(self, timeout_s: float) -> None:
        """Let readers that write finish what they have under way, and note what they wrote."""
        if self._plan.reader.sink is None:
            return
        try:
            self.coordinator.drain(timeout_s)
        finally:
            while self.coordinator.has_routed:
                self.next(0.0)

    def close(self) -> None:
        """Stop the readers and leave the group. Idempotent."""
        with contextlib.ExitStack() as closing:
            closing.callback(self._topics.close)
            if self._store is not None:
                closing.callback(self._store.close)
            if self._committer is not None:
                closing.callback(self._committer.close)
            closing.callback(self.coordinator.close)
            closing.callback(self._evolution.close)
            if self._discovery is not None:
                closing.callback(self._discovery.close)

    def reference(self, routed: RoutedBatch, acknowledge: Callable[[], None]) -> BatchRef:
        """Return the reference that stands for a range's batch."""
        info = routed.info
        ref = routed.ref
        if info.inline is not None:
            ref = ray.put(read_inline(info.inline))
        assert ref is not None
        return BatchRef(
            ref,
            info.partition.topic,
            info.partition.partition,
            info.start_offset,
            info.next_offset,
            info.rows,
            info.bytes,
            routed.epoch,
            acknowledge,
        )

    def status(self) -> RunStatus:
        """Return how far it is: ``"RUNNING"`` or ``"DEGRADED"``."""
        stored = self._committed()
        is_degraded = self.coordinator.is_degraded or (
            self._store is not None and not self._store.is_member
        )
        return RunStatus(
            "DEGRADED" if is_degraded else "RUNNING",
            self.options.backend,
            self.options.group_id,
            self._plan.reader.spec.columns,
            tuple(
                PartitionStatus(
                    topic=partition.topic,
                    partition=partition.partition,
                    position=progress.delivered_offset,
                    committed_offset=stored.get(partition),
                    end_offset=progress.range.end_offset,
                    rows=progress.rows,
                    bytes=progress.bytes,
                    decode_errors=progress.stats.decode_errors,
                    skipped=progress.stats.skipped,
                    quarantined=progress.stats.quarantined,
                    dead_letters=progress.stats.dead_letters,
                    restarts=progress.restarts,
                )
                # Another thread may add some meanwhile.
                for partition, progress in list(self.coordinator.progress.items())
            ),
        )

    def incomplete(self, error: Exception) -> ReadIncomplete | None:
        """Say of a bounded read that fails on the way that it is not whole; None of any other."""
        partition = self.coordinator.failed
        if partition is None or not isinstance(error, KafkaError | ReaderFailed):
            return None
        if isinstance(error, AuthenticationFailed | AuthorizationFailed):
            # Whoever must not read is told so, and not that a read has failed.
            return None
        progress = self.coordinator.progress[partition]
        end = progress.range.end_offset
        if end is None:
            return None
        return ReadIncomplete(
            f"{partition.place}: the read stopped at "
            f"offset {progress.delivered_offset} before its end {end}: {error}",
            partition.topic,
            partition.partition,
            progress.delivered_offset,
            end,
        )

    def _evolve(self) -> None:
        """Extend the schema by the fields that a reader cannot go on without, once they are known.

        The batches that were read before keep theirs, and come first.
        """
        met = self.coordinator.new_field
        codecs = self._evolution.evolve(self._plan.codecs, met) if met is not None else None
        if codecs is None:
            return
        former = self._plan.reader
        operators = former.operators
        reader = reader_plan(
            self.options, operators, codecs, counts_only=former.counts_only, sink=former.sink
        )
        schema = output_schema(operators, codecs.source_schema(self.options.metadata))
        if former.sink is not None:
            # What is under way was read with the former plan, and would be written again.
            self.coordinator.drain(DRAIN_TIMEOUT_S)
        self._plan = replace(self._plan, reader=reader, codecs=codecs, schema=schema)
        self._generations.append(_Generation(schema, self._commit_metadata()))
        if self._ownership is not None:
            self._ownership.keep(self._generations[-1].metadata, self._plan.topic_ids)
        self.coordinator.change_plan(reader)

    def _follow_logs(self) -> None:
        """Deal with logs that are not what was read any more: raise, or go on where it is told."""
        while (stopped := self.coordinator.take_out_of_range()) is not None:
            partition, error = stopped
            offset = self.coordinator.progress[partition].delivered_offset
            self._topics.examine(partition, offset, error)
        self._changes += self._topics.take()
        self._changes = [change for change in self._changes if not self._has_followed(change)]

    def _has_followed(self, change: LogChange) -> bool:
        """Follow a change, unless batches from before it are still to be returned."""
        error, starts = change
        if self._is_outdated(change):
            return True
        if error is not None and not self._may_go_on(error):
            raise error
        self.coordinator.stop(starts)
        if self.coordinator.has_routed_of(starts):
            return False
        logger.warning("%s; reading goes on %s", error or _OUT_FOR_A_MOMENT, _places(starts))
        with self._staging:
            for partition, start in starts.items():
                read_to = self.coordinator.progress[partition].delivered_offset
                if isinstance(error, TopicRecreated) or start is None:
                    self._rewind(partition, -1)
                elif start < read_to:
                    self._rewind(partition, start)
                elif start > read_to:
                    self._tracker.skip(partition, read_to, start, reader_epoch=_NO_READER)
        if isinstance(error, TopicRecreated):
            self._topics.accept(error)
        self.coordinator.resume(starts)
        return True

    def _rewind(self, partition: TopicPartition, offset: int) -> None:
        self._tracker.rewind(partition, offset)
        if self._committer is not None:
            self._committer.rewind(partition, offset)

    def _is_outdated(self, change: LogChange) -> bool:
        """Whether reading is elsewhere by now: a reader that was reopened meets a loss twice."""
        error, starts = change
        if error is not None and not isinstance(error, DataLoss):
            return False
        ((partition, start),) = starts.items()
        met_at = start if error is None else error.wanted_offset
        return self.coordinator.progress[partition].delivered_offset != met_at

    def _may_go_on(self, error: Exception) -> bool:
        if self.options.on_data_loss == "fail":
            return False
        if isinstance(error, DataLoss) and error.available_offset > error.wanted_offset:
            return True
        # The end of a bounded read was decided on a log that is not there any more.
        return isinstance(error, DataLoss | TopicRecreated) and self.options.end is None

    def _committed(self) -> Mapping[TopicPartition, int]:
        if self._committer is not None:
            return self._committer.stored
        if self._ownership is None:
            return {}
        # The readers tell of what is committed only.
        told = list(self.coordinator.progress.items())
        return {**self._plan.committed, **{p: progress.delivered_offset for p, progress in told}}

    def _commit_metadata(self) -> str:
        if self._store is None:
            return ""
        others = {} if self._ownership is None else self._ownership.entries
        return commit_metadata(self.options, self._plan.codecs.kept, **others)

    def _stage(self) -> None:
        if self._committer is not None:
            with self._staging:
                self._committer.stage(self._tracker.committable())


def _places(starts: Mapping[TopicPartition, int | None]) -> str:
    found = ", ".join(f"{p} at offset {start}" for p, start in starts.items() if start is not None)
    return f"in {found}" if found else "without its partitions"
