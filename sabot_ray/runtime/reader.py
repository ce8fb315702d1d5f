"""The actor that reads a partition and runs the fused operators on its batches."""

from __future__ import annotations

import pickle
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
from ray import cloudpickle

from sabot_ray.errors import ConfigError, ReaderFailed, SabotRayError
from sabot_ray.kafka.backend import connect_source_client
from sabot_ray.kafka.source import Backend, PartitionSource, SourceClient, SourceSpec
from sabot_ray.runtime.operators import Operator, apply_all
from sabot_ray.types import SourceStats, TopicPartition

#: How long a reader waits for a row before it answers with none, in seconds.
LONG_POLL_S = 1.0
#: Batches up to this size travel with their description. Ray inlines answers up to 100 KB.
INLINE_BYTES = 32 << 10


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
        inline: A small batch itself, as an Arrow IPC stream: cheaper than an object of its own.
        bytes: Size of the batch in memory.
        ended: Whether the assignment's end is reached.
        stats: The source's counters up to here.
    """

    partition: TopicPartition
    start_offset: int
    next_offset: int
    rows: int
    has_batch: bool
    inline: bytes | None
    bytes: int
    ended: bool
    stats: SourceStats


@dataclass(frozen=True)
class Failure:
    """An error of a reader as a value: Ray prints every raised one that nobody fetches.

    Attributes:
        pickled: The exception; empty if it cannot be pickled.
        summary: Its type and text.
        traceback: Where it was raised.
    """

    pickled: bytes
    summary: str
    traceback: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Describe an exception."""
        try:
            pickled = cloudpickle.dumps(error)  # type: ignore[no-untyped-call]
        except Exception:  # noqa: BLE001 - a user's exception may hold anything
            pickled = b""
        lines = traceback.format_exception(error)
        return cls(pickled, f"{type(error).__qualname__}: {error}", "".join(lines))

    def to_error(self) -> Exception:
        """Return the exception; one that is not ours has the reader's traceback as a note."""
        try:
            error = cloudpickle.loads(self.pickled) if self.pickled else None
        except Exception:  # noqa: BLE001 - a user's exception may fail to be built
            error = None
        if isinstance(error, SabotRayError):
            return error
        if not isinstance(error, Exception):
            error = ReaderFailed(f"an error that cannot be pickled, in a reader: {self.summary}")
        error.add_note(f"In the reader:\n{self.traceback}")
        return error


@dataclass(frozen=True)
class ReaderStatus:
    """What a reader is doing.

    Attributes:
        activity: ``"idle"``, ``"open"``, ``"poll"`` (in the source) or ``"operators"`` (in user
            code).
        seconds: For how long.
    """

    activity: str
    seconds: float


class Reader:
    """Reads the partition that it is given; runs as a Ray actor.

    `open` and `next_batch` are called one at a time (concurrency group ``data``); `status` and
    `close` at any time (group ``control``). The constructor does nothing that can fail: an actor
    whose constructor raises is dead without a useful error.
    """

    def __init__(self) -> None:
        self._label = "Reader"
        self._plan: ReaderPlan | None = None
        self._client: SourceClient | None = None
        self._source: PartitionSource | None = None
        self._assignment: Assignment | None = None
        self._closing = threading.Event()
        self._failure: Failure | None = None
        self._activity = ("idle", time.monotonic())

    def __repr__(self) -> str:
        """Name the partition: Ray puts this before the actor's log lines."""
        return self._label

    def open(self, plan: ReaderPlan, assignment: Assignment) -> Failure | None:
        """Start reading; called once, before any `next_batch`.

        Returns:
            What went wrong, for example `BackendUnavailable` on this node; None if nothing did.
        """
        self._enter("open")
        self._label = f"Reader({assignment.partition})"
        self._plan = plan
        self._assignment = assignment
        spec = plan.spec
        try:
            self._client = connect_source_client(plan.backend, spec.config, spec.prefetch_bytes)
            self._source = self._client.open_source(
                spec, assignment.partition.partition, assignment.start_offset, assignment.end_offset
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the driver raises it
            self._failure = Failure.of(error)
        self._enter("idle")
        return self._failure

    def next_batch(self) -> tuple[pa.RecordBatch | bytes, bytes]:
        """Return the next batch and what it covers; wait for a row for `LONG_POLL_S` at most.

        No arguments, and a description that is pickled here: Ray passes bytes on as they are, and
        takes a third of the whole call for anything else.

        Returns:
            The batch, empty bytes where it has no row or is inline; and the pickled `BatchInfo`. A
            range without rows is one, too: its offsets count as read. Or empty bytes and the
            pickled `Failure`, the same at each further call.
        """
        if self._failure is None:
            try:
                batch, info = self._next_batch()
                return batch, pickle.dumps(info)
            except Exception as error:  # noqa: BLE001 - the user's code may raise anything
                self._failure = Failure.of(error)
        return b"", pickle.dumps(self._failure)

    def _next_batch(self) -> tuple[pa.RecordBatch | bytes, BatchInfo]:
        plan, source, assignment = self._plan, self._source, self._assignment
        assert plan is not None
        assert source is not None
        assert assignment is not None
        start_offset = source.position()
        deadline = time.monotonic() + LONG_POLL_S
        while True:
            self._enter("poll")
            batch = source.poll(plan.batch_size, timeout_s=max(deadline - time.monotonic(), 0.0))
            self._enter("operators")
            batch = apply_all(plan.operators, batch)
            next_offset = source.position()
            ended = assignment.end_offset is not None and next_offset >= assignment.end_offset
            # Batches that the filter emptied are merged into one range.
            if batch.num_rows or ended or self._closing.is_set() or time.monotonic() >= deadline:
                break
        self._enter("idle")
        has_batch = batch.num_rows > 0 and not plan.counts_only
        size_bytes = batch.nbytes if has_batch else 0
        inline = _ipc_stream(batch) if has_batch and size_bytes <= INLINE_BYTES else None
        info = BatchInfo(
            assignment.partition,
            start_offset,
            next_offset,
            batch.num_rows,
            has_batch,
            inline,
            size_bytes,
            ended,
            source.stats(),
        )
        return batch if has_batch and inline is None else b"", info

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
