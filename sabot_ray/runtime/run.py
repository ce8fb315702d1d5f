"""One execution of a stream: iteration, acknowledgement, commits, signals, progress."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pyarrow as pa
import ray
from ray.exceptions import RayError

from sabot_ray.errors import (
    AuthenticationFailed,
    AuthorizationFailed,
    BatchLost,
    CommitFailed,
    ConfigError,
    Fenced,
    KafkaError,
    ReaderFailed,
    ReadIncomplete,
    SabotRayError,
)
from sabot_ray.offsets.committer import Committer
from sabot_ray.offsets.tracker import AckTracker
from sabot_ray.runtime.coordinator import Coordinator, RoutedBatch
from sabot_ray.runtime.discovery import PartitionDiscovery
from sabot_ray.runtime.evolution import SchemaEvolution
from sabot_ray.runtime.operators import output_schema
from sabot_ray.runtime.plan import RunPlan, SourceOptions, reader_plan
from sabot_ray.runtime.progress import RunProgress
from sabot_ray.runtime.reader import read_inline
from sabot_ray.runtime.schemas import commit_metadata
from sabot_ray.runtime.signals import StopSignals
from sabot_ray.runtime.status import PartitionStatus, RunStatus
from sabot_ray.types import TopicPartition

logger = logging.getLogger("sabot_ray.runtime")

#: Longest time that the last commit of a run may take, in seconds.
FINAL_COMMIT_TIMEOUT_S = 30.0


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


class StreamRun:
    """One execution of a `Stream`: an iterable of record batches, and a context manager.

    Made by ``Stream.start()``. Iteration acknowledges a batch when the next one is asked for, so
    exhaustion acknowledges the last; ``break``, an exception and `close` leave the current batch
    un-acknowledged. Acknowledged offsets are committed to the group in the background. One thread
    at a time may use a run.
    """

    def __init__(self, options: SourceOptions, plan: RunPlan) -> None:
        self._options = options
        self._plan = plan
        self._tracker = AckTracker()
        self._store = plan.store
        self._evolution = SchemaEvolution(options)
        # What came of each evolution; the batches of the next ones may be under way.
        self._generations = [_Generation(plan.schema, self._commit_metadata())]
        self._generation = 0
        self._schema = plan.schema
        self._auto_commit = bool(options.config.get("enable.auto.commit", True))
        self._state = "RUNNING"
        # Asked for by a task that is cancelled, of the thread that iterates.
        self._cancelled = False
        self._signals = StopSignals()
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        budget = options.max_in_flight_bytes or int(resources.get("object_store_memory", 2**30) / 4)
        self._coordinator = Coordinator(
            plan.reader,
            plan.ranges,
            readers=options.readers or max(1, int(2 * resources.get("CPU", 1))),
            actor_options=options.actor_options,
            max_in_flight_bytes=budget,
            unacknowledged=self._tracker.pending_bytes,
        )
        # Last: threads run at once, and only `close` ends them.
        self._discovery: PartitionDiscovery | None = None
        if options.end is None and options.partitions is None:
            self._discovery = PartitionDiscovery(options, plan.ranges)
        self._committer: Committer | None = None
        if plan.store is not None:
            interval_s = options.config.get("auto.commit.interval.ms", 5000) / 1000
            self._committer = Committer(
                plan.store,
                interval_s if self._auto_commit else None,
                stored=plan.committed,
                metadata=self._generations[0].metadata,
            )

    def __repr__(self) -> str:
        return f"StreamRun({self._options.source_name!r}, {self._state})"

    @property
    def schema(self) -> pa.Schema | None:
        """The schema of every batch; None behind a ``map`` until its first batch has come.

        With ``unknown_fields="evolve"`` it is that of the latest batch.
        """
        return self._schema

    def __enter__(self) -> StreamRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Generator[pa.RecordBatch]:
        """Yield the batches, in offset order within a partition.

        Raises:
            SabotRayError: The run cannot go on; what was acknowledged is committed.
            KeyboardInterrupt: Ctrl-C came; the batches whose body was finished are committed.
        """
        return self._deliveries(self._coordinator.fetch, lambda _routed, batch: batch, True)

    async def __aiter__(self) -> AsyncIterator[pa.RecordBatch]:
        """Yield the batches as ``for`` does, without blocking the event loop.

        A task that is cancelled, as Ctrl-C does under `asyncio.run`, leaves its current batch
        un-acknowledged. SIGTERM is left to the program.
        """
        loop = asyncio.get_running_loop()
        batches = iter(self)
        executor = ThreadPoolExecutor(1, "sabot_ray-iteration")
        try:
            while True:
                batch = await loop.run_in_executor(executor, next, batches, None)
                if batch is None:
                    return
                yield batch
        finally:
            self._cancelled = True
            executor.submit(batches.close)
            await loop.run_in_executor(None, executor.shutdown)

    def refs(self) -> Iterator[BatchRef]:
        """Yield references instead of batches: large ones do not pass the driver.

        Nothing is acknowledged but by `BatchRef.ack` or `commit`. Acknowledge a batch once it is
        processed, and before the run is closed.
        """

        def note(routed: RoutedBatch) -> RoutedBatch:
            self._coordinator.deliver(routed)
            return routed

        return self._deliveries(note, lambda routed, _: self._batch_ref(routed), False)

    def commit(self) -> None:
        """Acknowledge everything that was delivered, and commit it now.

        Raises:
            ConfigError: The stream has no ``group_id``.
            SabotRayError: The run is closed.
            Fenced: Another driver took the stream over.
            CommitFailed: The group did not take the offsets.
        """
        if self._committer is None:
            raise ConfigError(
                "commit: the stream has no group_id, so there is nowhere to commit to"
            )
        self._check_open()
        self._tracker.acknowledge_all()
        self._stage()
        self._committer.flush(FINAL_COMMIT_TIMEOUT_S)

    def status(self) -> RunStatus:
        """Return how far the run is, partition by partition."""
        stored = self._committer.stored if self._committer else {}
        state = self._state
        if state == "RUNNING" and (
            self._coordinator.is_degraded or (self._store is not None and not self._store.is_member)
        ):
            state = "DEGRADED"
        return RunStatus(
            state,
            self._options.backend,
            self._options.group_id,
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
                    restarts=progress.restarts,
                )
                for partition, progress in self._coordinator.progress.items()
            ),
        )

    def close(self) -> None:
        """Commit what is acknowledged, stop the readers and leave the group. Idempotent.

        With ``enable_auto_commit=False`` nothing is committed here.
        """
        if self._state == "CLOSED":
            return
        try:
            self._close(FINAL_COMMIT_TIMEOUT_S)
        finally:
            # An iterator that is still referenced would keep them.
            self._signals.restore()

    def _close(self, timeout_s: float) -> None:
        self._state = "CLOSED"
        with contextlib.ExitStack() as closing:
            if self._store is not None:
                closing.callback(self._store.close)
            if self._committer is not None:
                closing.callback(self._committer.close)
            closing.callback(self._coordinator.close)
            closing.callback(self._evolution.close)
            if self._discovery is not None:
                closing.callback(self._discovery.close)
            self._flush(timeout_s)

    def _flush(self, timeout_s: float) -> None:
        """Commit what is acknowledged, where the run is to commit by itself."""
        if self._committer is None or not self._auto_commit:
            return
        try:
            self._stage()
            self._committer.flush(timeout_s)
        except Exception:
            # Whoever closes the run next need not wait for it again.
            self._auto_commit = False
            raise

    def _check_open(self) -> None:
        if self._state == "CLOSED":
            raise SabotRayError("the run is closed; start the stream again")

    def _deliveries(
        self,
        take: Callable[[RoutedBatch], Any],
        present: Callable[[RoutedBatch, Any], Any],
        acknowledge: bool,
    ) -> Generator[Any]:
        self._check_open()
        with self._signals as signals, RunProgress(self._coordinator.progress) as shown:
            try:
                for routed in self._routed(signals, shown):
                    taken = take(routed)
                    if taken is None:
                        continue
                    info = routed.info
                    self._tracker.deliver(
                        info.partition, info.start_offset, info.next_offset, info.bytes
                    )
                    presented = present(routed, taken)
                    self._check_schema(presented)
                    yield presented
                    # The body may have closed the run: nobody would commit it any more.
                    if acknowledge and self._state != "CLOSED":
                        self._acknowledge(info.partition, info.start_offset)
            except Exception as error:
                self._end_after(error)
                incomplete = self._incomplete(error)
                if incomplete is None:
                    raise
                raise incomplete from error
            if signals.received is not None:
                with contextlib.suppress(CommitFailed):
                    self._close(signals.remaining_s)
                signals.raise_received()
        self._flush(FINAL_COMMIT_TIMEOUT_S)

    def _routed(self, signals: StopSignals, shown: RunProgress) -> Iterator[RoutedBatch]:
        """Yield what has rows, and count what has none as done, until the end or a signal."""
        while signals.received is None and self._state != "CLOSED":
            if self._cancelled:
                return
            if self._committer is not None:
                self._committer.check()
            if self._discovery is not None and (added := self._discovery.take()):
                self._coordinator.add(added)
            self._evolve()
            # Short, so that a signal is seen soon.
            routed = self._coordinator.next(0.2)
            if routed is None:
                if self._coordinator.is_finished:
                    return
                continue
            shown.update()
            if routed.generation != self._generation:
                self._generation = routed.generation
                self._schema, metadata = self._generations[self._generation]
                if self._committer is not None:
                    self._committer.keep(metadata)
            if routed.info.has_batch:
                yield routed
            else:
                info = routed.info
                self._tracker.skip(info.partition, info.start_offset, info.next_offset)
                self._stage()
        if signals.received is None:
            raise SabotRayError("the run was closed while it was iterated")

    def _evolve(self) -> None:
        """Extend the schema by the fields that a reader cannot go on without, once they are known.

        The batches that were read before keep theirs, and come first.
        """
        met = self._coordinator.new_field
        codecs = self._evolution.evolve(self._plan.codecs, met) if met is not None else None
        if codecs is None:
            return
        operators, counts_only = self._plan.reader.operators, self._plan.reader.counts_only
        reader = reader_plan(self._options, operators, codecs, counts_only=counts_only)
        schema = output_schema(operators, codecs.source_schema(self._options.metadata))
        self._plan = replace(self._plan, reader=reader, codecs=codecs, schema=schema)
        self._generations.append(_Generation(schema, self._commit_metadata()))
        self._coordinator.change_plan(reader)

    def _commit_metadata(self) -> str:
        if self._store is None:
            return ""
        return commit_metadata(self._options, self._plan.codecs.kept)

    def _acknowledge(self, partition: TopicPartition, start_offset: int) -> None:
        self._tracker.acknowledge(partition, start_offset)
        self._stage()

    def _stage(self) -> None:
        if self._committer is not None:
            self._committer.stage(self._tracker.committable())

    def _batch_ref(self, routed: RoutedBatch) -> BatchRef:
        info = routed.info
        partition = info.partition
        ref = routed.ref
        if info.inline is not None:
            ref = ray.put(read_inline(info.inline))
        assert ref is not None

        def acknowledge() -> None:
            # Nobody would commit it any more.
            self._check_open()
            self._acknowledge(partition, info.start_offset)

        return BatchRef(
            ref,
            partition.topic,
            partition.partition,
            info.start_offset,
            info.next_offset,
            info.rows,
            info.bytes,
            routed.epoch,
            acknowledge,
        )

    def _check_schema(self, presented: Any) -> None:
        if not isinstance(presented, pa.RecordBatch):
            return
        if self._schema is None:
            self._schema = presented.schema
        elif presented.schema != self._schema:
            raise ConfigError(
                "map: the function must give the same schema for every batch; it gave\n"
                f"{presented.schema}\nafter\n{self._schema}"
            )

    def _end_after(self, error: Exception) -> None:
        """Keep the progress of what was acknowledged, without hiding the error."""
        if self._state == "CLOSED":
            return
        try:
            self._close(0.0 if isinstance(error, Fenced) else FINAL_COMMIT_TIMEOUT_S)
        except Exception as second:  # noqa: BLE001 - the first error is the one to raise
            if not isinstance(error, Fenced):
                logger.warning(
                    "after an error, what was acknowledged could not be committed: %s", second
                )

    def _incomplete(self, error: Exception) -> ReadIncomplete | None:
        """Say of a bounded read that fails on the way that it is not whole; None of any other."""
        partition = self._coordinator.failed
        if partition is None or not isinstance(error, KafkaError | ReaderFailed):
            return None
        if isinstance(error, AuthenticationFailed | AuthorizationFailed):
            # Whoever must not read is told so, and not that a read has failed.
            return None
        progress = self._coordinator.progress[partition]
        end = progress.range.end_offset
        if end is None:
            return None
        return ReadIncomplete(
            f"topic '{partition.topic}' partition {partition.partition}: the read stopped at "
            f"offset {progress.delivered_offset} before its end {end}: {error}",
            partition.topic,
            partition.partition,
            progress.delivered_offset,
            end,
        )
