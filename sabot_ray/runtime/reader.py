"""The actor that reads a partition and runs the fused operators on its batches."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sabot_ray.kafka.source import (
    Backend,
    PartitionSource,
    SourceClient,
    SourceSpec,
    connect_source_client,
)
from sabot_ray.runtime.operators import Operator, apply_all
from sabot_ray.types import SourceStats, TopicPartition


@dataclass(frozen=True)
class ReaderPlan:
    """What every reader of a run executes; picklable, sent once through the object store.

    Attributes:
        backend: Which source to use.
        spec: What the source gives.
        operators: Applied to each of its batches.
        batch_size: Upper limit of rows in a batch.
        counts_only: Whether only row numbers are wanted, no batches.
    """

    backend: Backend
    spec: SourceSpec
    operators: tuple[Operator, ...]
    batch_size: int
    counts_only: bool = False


@dataclass(frozen=True)
class Assignment:
    """A partition that a reader takes on.

    Attributes:
        partition: The topic partition.
        start_offset: The first offset to read.
        end_offset: The end of the range; None is continuous.
    """

    partition: TopicPartition
    start_offset: int
    end_offset: int | None


@dataclass(frozen=True)
class BatchInfo:
    """What the driver must know of a batch to route it without fetching it.

    Attributes:
        partition: Where it comes from.
        start_offset: Start of the fetch range that it covers, holes included.
        next_offset: End of that range: the next offset to fetch.
        rows: Rows that the operators left.
        has_batch: Whether a batch comes with it.
        bytes: Size of the batch in memory.
        ended: Whether the assignment's end is reached.
        stats: The source's counters up to here.
    """

    partition: TopicPartition
    start_offset: int
    next_offset: int
    rows: int
    has_batch: bool
    bytes: int
    ended: bool
    stats: SourceStats


@dataclass(frozen=True)
class ReaderStatus:
    """What a reader is doing.

    Attributes:
        activity: ``"idle"``, ``"poll"`` (in the source) or ``"operators"`` (in user code).
        seconds: For how long.
    """

    activity: str
    seconds: float


class Reader:
    """Reads the partitions that it is given; runs as a Ray actor, but needs no Ray itself.

    `open` and `next_batch` are called one at a time (concurrency group ``data``); `status` and
    `close` at any time (group ``control``). The constructor does nothing that can fail: an actor whose
    constructor raises is dead without a useful error.
    """

    def __init__(self) -> None:
        self._label = "Reader"
        self._plan: ReaderPlan | None = None
        self._client: SourceClient | None = None
        self._source: PartitionSource | None = None
        self._assignment: Assignment | None = None
        self._closing = threading.Event()
        self._failed = False
        self._activity = ("idle", time.monotonic())

    def __repr__(self) -> str:
        """Name the partition: Ray puts this before the actor's log lines."""
        return self._label

    def open(self, plan: ReaderPlan, assignment: Assignment) -> None:
        """Start reading; called once, before any `next_batch`.

        Raises:
            BackendUnavailable: The plan's backend cannot be loaded on this node.
            KafkaError: The client refuses its settings.
        """
        self._label = f"Reader({assignment.partition})"
        self._plan = plan
        self._assignment = assignment
        spec = plan.spec
        self._client = connect_source_client(plan.backend, spec.config, spec.prefetch_bytes)
        self._source = self._client.open_source(
            spec, assignment.partition.partition, assignment.start_offset, assignment.end_offset
        )

    def next_batch(self, wait_s: float) -> tuple[pa.RecordBatch | None, BatchInfo | None]:
        """Return the next batch and what it covers.

        Args:
            wait_s: Longest time to wait for a row.

        Returns:
            The batch, None where it has no row, and its description. A range without rows is one, too:
            its offsets count as read. Two times None after an error, which is raised once: Ray prints
            every error that nobody fetches.

        Raises:
            DecodeError: See `PartitionSource.poll`.
            KafkaError: See `PartitionSource.poll`.
            Exception: Whatever the user's functions raise.
        """
        if self._failed:
            return None, None
        try:
            return self._next_batch(wait_s)
        except BaseException:
            self._failed = True
            raise

    def _next_batch(self, wait_s: float) -> tuple[pa.RecordBatch | None, BatchInfo]:
        plan, source, assignment = self._plan, self._source, self._assignment
        assert plan is not None
        assert source is not None
        assert assignment is not None
        start_offset = source.position()
        deadline = time.monotonic() + wait_s
        while True:
            self._enter("poll")
            batch = source.poll(
                plan.batch_size, timeout_s=max(deadline - time.monotonic(), 0.0)
            )
            self._enter("operators")
            batch = apply_all(plan.operators, batch)
            next_offset = source.position()
            ended = assignment.end_offset is not None and next_offset >= assignment.end_offset
            # Batches that the filter emptied are merged into one range.
            if batch.num_rows or ended or self._closing.is_set() or time.monotonic() >= deadline:
                break
        self._enter("idle")
        has_batch = batch.num_rows > 0 and not plan.counts_only
        info = BatchInfo(
            assignment.partition,
            start_offset,
            next_offset,
            batch.num_rows,
            has_batch,
            batch.nbytes if has_batch else 0,
            ended,
            source.stats(),
        )
        return batch if has_batch else None, info

    def status(self) -> ReaderStatus:
        """Say what the reader is doing; answers also while it reads."""
        activity, since = self._activity
        return ReaderStatus(activity, time.monotonic() - since)

    def close(self) -> None:
        """End a waiting `next_batch`, and free the clients. Idempotent."""
        self._closing.set()
        if self._source is not None:
            self._source.close()
        if self._client is not None:
            self._client.close()

    def _enter(self, activity: str) -> None:
        self._activity = (activity, time.monotonic())


#: Ray's options of every reader. Ray restarts nothing: a dead reader is replaced (docs/adr/0001).
ACTOR_OPTIONS: dict[str, Any] = {
    "num_cpus": 0,
    "max_restarts": 0,
    "max_task_retries": 0,
    "scheduling_strategy": "SPREAD",
    "concurrency_groups": {"data": 1, "control": 1},
}
